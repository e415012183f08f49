import { tell } from "./messages";

const SHOWN_MS = 1500;

/** Lets every button with `data-copy`, now or later, copy the text of the element of that id. */
export function listenForCopying(): void {
  show(document);
  document.addEventListener("htmx:load", (event) => show(event.target as Element));
  document.addEventListener("click", (event) => {
    const button = (event.target as Element).closest<HTMLElement>("[data-copy]");
    if (button) void copy(button);
  });
}

/** The buttons are hidden where nothing could come of them. */
function show(root: ParentNode): void {
  for (const button of root.querySelectorAll<HTMLElement>("[data-copy]")) button.hidden = false;
}

async function copy(button: HTMLElement): Promise<void> {
  const source = document.getElementById(button.dataset.copy ?? "");
  if (!source) return;
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
  } catch {
    // Browsers lend the clipboard to https and to this machine only.
    getSelection()?.selectAllChildren(source);
    tell("Selected. Press Ctrl+C to copy.");
    return;
  }
  tell("Copied.");
  button.classList.add("done");
  setTimeout(() => button.classList.remove("done"), SHOWN_MS);
}
