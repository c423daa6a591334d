// Embeds texts with transformers.js in a browser: node browser.mjs PLAYWRIGHT CHROMIUM PACKAGES FOLDER NAME DTYPE TEXT...
// PLAYWRIGHT and PACKAGES are folders node_modules; the model is FOLDER/NAME, served on 127.0.0.1, and nothing else is
// asked. Prints the vectors and the model's files that were asked for, as JSON.
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import { extname } from "node:path";

const [playwright, executablePath, packages, folder, name, dtype, ...texts] = process.argv.slice(2);
const { chromium } = createRequire(`${playwright}/`)("playwright-core");
const TYPES = { ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm" };
const FOLDERS = {
  library: `${packages}/@huggingface/transformers/dist`,
  runtime: `${packages}/onnxruntime-web/dist`,
  models: folder,
};

const asked = new Set();
const server = createServer((request, answer) => {
  const path = decodeURIComponent(request.url.split("?")[0]);
  if (path === "/") {
    answer.setHeader("Content-Type", "text/html");
    answer.end("<!doctype html><title>a page</title>");
    return;
  }
  const [, place, ...rest] = path.split("/");
  const file = `${FOLDERS[place]}/${rest.join("/")}`;
  const status = statSync(file, { throwIfNoEntry: false });
  if (!(place in FOLDERS) || rest.includes("..") || !status?.isFile()) {
    answer.statusCode = 404;
    answer.end();
    return;
  }
  if (place === "models") asked.add(rest.slice(1).join("/"));
  answer.setHeader("Content-Type", TYPES[extname(file)] ?? "application/octet-stream");
  answer.setHeader("Content-Length", status.size);
  createReadStream(file).pipe(answer);
});
await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
const base = `http://127.0.0.1:${server.address().port}`;

const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const page = await browser.newPage();
const elsewhere = [];
page.on("request", (request) => {
  if (!request.url().startsWith(base) && !/^(?:blob|data):/.test(request.url())) elsewhere.push(request.url());
});
await page.goto(base);
const vectors = await page.evaluate(async ({ base, name, dtype, texts }) => {
  const { env, pipeline } = await import(`${base}/library/transformers.js`);
  env.allowRemoteModels = false;
  env.allowLocalModels = true;
  env.localModelPath = "/models/";
  env.useBrowserCache = false;
  env.backends.onnx.wasm.wasmPaths = `${base}/runtime/`;
  env.backends.onnx.wasm.numThreads = 1; // more want headers of the page
  const embed = await pipeline("feature-extraction", name, {
    dtype,
    device: "wasm",
    // config.json does not say it of the name that every variant has when it is fetched for this program
    use_external_data_format: dtype === "fp32" ? true : null,
  });
  return (await embed(texts, { pooling: "mean", normalize: true })).tolist();
}, { base, name, dtype, texts });
await browser.close();
server.close();
if (elsewhere.length) throw new Error(`asked elsewhere: ${elsewhere}`);
process.stdout.write(JSON.stringify({ vectors, asked: [...asked] }), () => process.exit(0));
