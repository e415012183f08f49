// Builds the SDK into the server's package, which serves it: kixo.js for a script tag, kixo.mjs with kixo.d.ts for
// bundlers. `--check` writes nothing, and fails where what is there is not what the sources give.
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { minify } from "terser";

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGE = join(HERE, "..", "..", "src", "kixo", "http", "sdk");
const { version } = JSON.parse(readFileSync(join(HERE, "package.json"), "utf8"));
const BANNER = `/*! Kixo ${version}, with web-vitals by Google LLC; both under Apache-2.0 */`;

async function bundle(entry, format) {
  const { outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: [entry],
    format,
    bundle: true,
    target: "es2019",
    legalComments: "none",
    write: false,
  });
  // terser makes it some 250 bytes smaller than esbuild does by itself.
  const compress = { ecma: 2019, passes: 3, unsafe_arrows: true };
  const { code } = await minify(outputFiles[0].text, {
    ecma: 2019,
    module: format === "esm",
    compress,
    format: { preamble: BANNER },
  });
  return `${code}\n`;
}

/** The public types in one file: those of api.ts, and the one value. */
function declarations() {
  const folder = join(HERE, "dist");
  rmSync(folder, { recursive: true, force: true });
  const compiler = join(HERE, "node_modules", ".bin", "tsc");
  execFileSync(compiler, ["--emitDeclarationOnly", "--outDir", folder], { cwd: HERE, stdio: "inherit" });
  const types = readFileSync(join(folder, "api.d.ts"), "utf8");
  return `${types}export declare const Kixo: KixoClient;\n`;
}

const files = {
  "kixo.js": await bundle("src/global.ts", "iife"),
  "kixo.mjs": await bundle("src/index.ts", "esm"),
  "kixo.d.ts": declarations(),
};
const check = process.argv.includes("--check");
mkdirSync(PACKAGE, { recursive: true });
for (const [name, text] of Object.entries(files)) {
  const path = join(PACKAGE, name);
  if (!check) {
    writeFileSync(path, text);
  } else if (readFileSync(path, "utf8") !== text) {
    console.error(`${name} is not what sdk/web gives. Run \`make web\` and commit the result.`);
    process.exitCode = 1;
  }
  console.log(`${name}: ${text.length} bytes, ${gzipSync(text, { level: 9 }).length} gzipped`);
}
