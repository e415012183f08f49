import type { KixoClient } from "./api";
import { makeClient } from "./client";

export type * from "./api";

export const Kixo: KixoClient = makeClient(location.origin);
