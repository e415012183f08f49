import { makeClient } from "./client";

// The snippet's stand-in keeps calls that are made before this file is there: method, arguments, time.
type Call = ["start" | "track" | "flush" | "optOut" | "optIn", unknown[], number];

const page = window as unknown as { Kixo?: { calls?: Call[] } };
// A page that includes the file twice keeps the first.
if (!page.Kixo || page.Kixo.calls) {
  const script = document.currentScript as HTMLScriptElement | null;
  const client = makeClient(script?.src ? new URL(script.src).origin : location.origin);
  const calls = page.Kixo?.calls || [];
  page.Kixo = client as object;
  for (const [method, given, atMs] of calls) {
    const argumentsOf = method === "track" ? [given[0], given[1], atMs] : given;
    (client[method] as (...given: unknown[]) => unknown)(...argumentsOf);
  }
}
