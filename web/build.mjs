// Builds the page into the Python package: names carry a hash of their content, and build.json the hash of the sources,
// so that a test can tell whether the committed build belongs to the committed sources.
import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { build } from "esbuild";

const here = import.meta.dirname;
const target = process.argv[2] ?? join(here, "..", "local_fusion", "server", "static");
const SOURCES = ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"];

async function sourceHash() {
  const inside = await readdir(join(here, "src"), { recursive: true, withFileTypes: true });
  const found = inside.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const names = [...SOURCES, ...found.map((path) => path.slice(here.length + 1).replaceAll("\\", "/"))].sort();
  const hash = createHash("sha256");
  for (const name of names) {
    hash.update(name + "\0").update(await readFile(join(here, name))).update("\0");
  }
  return hash.digest("hex");
}

async function write(name, content) {
  const dot = name.lastIndexOf(".");
  const digest = createHash("sha256").update(content).digest("hex").slice(0, 12);
  const full = `${name.slice(0, dot)}-${digest}${name.slice(dot)}`;
  await writeFile(join(target, full), content);
  return full;
}

const { outputFiles } = await build({
  entryPoints: [join(here, "src", "main.tsx"), join(here, "src", "style.css")],
  outdir: "out",
  write: false,
  bundle: true,
  minify: true,
  format: "esm",
  target: ["chrome123", "firefox120", "safari17.5"],
  legalComments: "none",
  charset: "utf8",
  banner: { js: "/* local-fusion; with preact, @preact/signals, marked and eventsource-parser, all MIT: see licences.txt */" },
});
const SHIPPED = ["@picocss/pico", "@preact/signals", "eventsource-parser", "marked", "preact"];

async function licences() {
  const texts = SHIPPED.map(async (name) => {
    const folder = join(here, "node_modules", name);
    const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
    return `${name}\n\n${await readFile(join(folder, file), "utf8")}`;
  });
  return (await Promise.all(texts)).join(`\n${"-".repeat(80)}\n\n`);
}

const part = (suffix) => outputFiles.find((file) => file.path.endsWith(suffix)).contents;

await rm(target, { recursive: true, force: true });
await mkdir(target, { recursive: true });
const script = await write("page.js", part(".js"));
const style = await write("page.css", part(".css"));
const icon = await write("icon.svg", await readFile(join(here, "src", "icon.svg")));
const shell = await readFile(join(here, "src", "page.html"), "utf8");
const page = shell.replace("SCRIPT", script).replace("STYLE", style).replace("ICON", icon);
await writeFile(join(target, "page.html"), page);
await writeFile(join(target, "licences.txt"), await licences());
await writeFile(join(target, "build.json"), JSON.stringify({ sources: await sourceHash() }) + "\n");
