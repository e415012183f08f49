// Builds what the pages of the console load into the server's package: of each file directly in `src`, one of the same
// name; what several share is in `src/shared`. `--check` writes nothing, and fails where what is there is not what the
// sources give. `licences.txt` has the licence of each package that is built in.
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
const PACKAGE = join(HERE, "..", "src", "kixo", "console", "static");
const entries = readdirSync(join(HERE, "src")).filter((name) => /\.(ts|css|svg)$/.test(name));

const { outputFiles, metafile } = await build({
  absWorkingDir: HERE,
  entryPoints: entries.map((name) => join("src", name)),
  outdir: "dist",
  bundle: true,
  minify: true,
  charset: "utf8",
  format: "iife",
  target: "es2021",
  loader: { ".svg": "copy" },
  legalComments: "eof",
  metafile: true,
  write: false,
});
const files = Object.fromEntries(outputFiles.map((file) => [basename(file.path), file.text]));
files["licences.txt"] = licences(Object.keys(metafile.inputs));

const check = process.argv.includes("--check");
mkdirSync(PACKAGE, { recursive: true });
for (const name of readdirSync(PACKAGE).filter((found) => !(found in files))) {
  if (check) {
    console.error(`${name} is there, and web has no source of it. Run \`make web\` and commit the result.`);
    process.exitCode = 1;
  } else {
    rmSync(join(PACKAGE, name));
  }
}
for (const [name, text] of Object.entries(files).sort()) {
  const path = join(PACKAGE, name);
  if (!check) {
    writeFileSync(path, text);
  } else if (readFileSync(path, "utf8") !== text) {
    console.error(`${name} is not what web gives. Run \`make web\` and commit the result.`);
    process.exitCode = 1;
  }
  console.log(`${name}: ${Buffer.byteLength(text)} bytes, ${gzipSync(text, { level: 9 }).length} gzipped`);
}

// The licence texts of the packages that the inputs belong to.
function licences(inputs) {
  const names = inputs.map((path) => /(?:^|\/)node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1]).filter(Boolean);
  return [...new Set(names)].sort().map(licence).join("\n");
}

function licence(name) {
  const folder = join(HERE, "node_modules", name);
  const file = readdirSync(folder).find((found) => /^licen[cs]e/i.test(found));
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  return `${name} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n`;
}
