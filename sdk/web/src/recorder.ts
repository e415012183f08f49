import type { AutomaticKind, Properties } from "./api";

/** What the collecting modules are given. */
export interface Recorder {
  /** Takes an automatic event of this moment. */
  record(kind: AutomaticKind, name: string, properties: Properties): void;
  /** Whether the visitor has opted out: what happens meanwhile must not be told later either. */
  isOut(): boolean;
  /** The page's own URL, cleaned. */
  pageUrl(): string;
  /** The page's name in events: its path, and its route where that is in the fragment. */
  pageName(): string;
  /** The query parameters that stay in URLs. */
  queryParameters: readonly string[] | undefined;
}
