/** The token that proves to the console that a request comes from its own page: send it as `X-CSRF-Token`. */
export function csrfToken(): string {
  return document.querySelector<HTMLMetaElement>('meta[name="csrf-token"]')?.content ?? "";
}

/** `fetch` to the console itself, with the token. */
export function send(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  headers.set("X-CSRF-Token", csrfToken());
  return fetch(path, { ...init, headers });
}
