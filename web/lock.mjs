// Takes the addresses of funding pages out of the lock file: it names no host at all.
import { readFileSync, writeFileSync } from "node:fs";

const path = new URL("package-lock.json", import.meta.url);
const lock = JSON.parse(readFileSync(path, "utf8"));
for (const found of Object.values(lock.packages)) {
  delete found.funding;
}
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`);
