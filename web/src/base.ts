// On every page: htmx with the session's token in what it sends, buttons that copy, and what to say when a request fails.
import htmx from "htmx.org";
import { listenForCopying } from "./shared/copy";
import { tell } from "./shared/messages";
import { csrfToken } from "./shared/session";

declare global {
  interface Window {
    htmx: typeof htmx;
  }
}

window.htmx = htmx;

document.addEventListener("htmx:configRequest", (event) => {
  (event as CustomEvent).detail.headers["X-CSRF-Token"] = csrfToken();
});
document.addEventListener("htmx:responseError", (event) => {
  const { status } = (event as CustomEvent).detail.xhr as XMLHttpRequest;
  tell(
    status === 401
      ? "The session has ended. Load the page again to log in."
      : `The console answered ${status}. Load the page again.`,
  );
});
document.addEventListener("htmx:sendError", () => tell("The console cannot be reached. Is the server running?"));
// What somebody has opened to read must not be taken from under their eyes.
document.addEventListener("htmx:beforeRequest", (event) => {
  const place = event.target as Element;
  if (place.matches("[data-wait-while-open]") && place.querySelector("details[open]")) event.preventDefault();
});
listenForCopying();
