const UTM = ["utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content"];
const TEXT_LENGTH_MAX = 80;
const INTERACTIVE = "a,button,summary,[role=button],[role=link],[role=tab],[role=menuitem]";
/** Where people type or choose, and what the page asks us not to see. */
const PRIVATE = "input,textarea,select,option,[contenteditable],[data-kixo-ignore]";

/** A URL without what may be a secret: of its query only the named parameters stay, of its fragment only a route. */
export function cleanUrl(url: string, parameters: readonly string[] = UTM): string {
  try {
    const { origin, pathname, searchParams, hash, protocol } = new URL(url, location.href);
    if (!protocol.startsWith("http")) {
      return protocol;
    }
    const kept = new URLSearchParams([...searchParams].filter(([name]) => parameters.includes(name))).toString();
    return origin + pathname + (kept && `?${kept}`) + route(hash);
  } catch {
    return "";
  }
}

/** The fragment where it names a page, as in `#/cart`; others may hold a token. */
export function route(hash: string): string {
  return /^#!?\//.test(hash) ? hash.split("?")[0] : "";
}

/** A text of the page's scripts, without the queries and fragments of the URLs in it. */
export function withoutQueries(text: string): string {
  return text.replace(/[?#][^\s:)]+/g, "");
}

/** The element that was clicked; nothing where the page asks not to look at it. */
export function clickedElement(event: Event): Element | undefined {
  const path = event.composedPath().filter((part): part is Element => part instanceof Element);
  return path.some((element) => element.hasAttribute("data-kixo-ignore")) ? undefined : path[0];
}

export interface Description {
  tag: string;
  selector: string;
  text?: string;
  href?: string;
}

/** What may be said of an element: never what somebody has typed or chosen in it. */
export function describe(clicked: Element, parameters?: readonly string[]): Description {
  const element = clicked.closest(INTERACTIVE) || clicked;
  const found: Description = { tag: element.localName, selector: selector(element) };
  if (element.matches(INTERACTIVE) && !element.closest(PRIVATE) && !element.querySelector(PRIVATE)) {
    found.text = (element.textContent || "").replace(/\s+/g, " ").trim().slice(0, TEXT_LENGTH_MAX);
  }
  const href = element.getAttribute("href");
  if (href) {
    found.href = cleanUrl(href, parameters);
  }
  return found;
}

/** Tag, id and first class of the element and up to two of its ancestors. */
function selector(element: Element): string {
  const names: string[] = [];
  for (let at: Element | null = element; at && names.length < 3; at = at.parentElement) {
    const [first] = at.classList;
    names.unshift(at.localName + (at.id && `#${at.id}`) + (first ? `.${first}` : ""));
  }
  return names.join(" > ");
}
