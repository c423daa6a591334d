// Reads and evaluates GitHub's files with GitHub's own packages: a line of JSON in, a line of JSON out.
// Started by expressions.py with the folder of the packages as its argument.

import crypto from "node:crypto";
import fs from "node:fs";
import { registerHooks } from "node:module";
import path from "node:path";
import readline from "node:readline";
import { pathToFileURL } from "node:url";

const packages = process.argv[2];

// workflow-parser is written for bundlers: it imports JSON without saying so.
registerHooks({
  load: (url, context, next) =>
    next(url, url.endsWith(".json") ? { ...context, importAttributes: { type: "json" } } : context),
});

const load = (file) => import(pathToFileURL(path.join(packages, "@actions", file)).href);

const { Evaluator, Lexer, Parser, data } = await load("expressions/dist/index.js");
const { truthy } = await load("expressions/dist/result.js");
const { NoOperationTraceWriter, convertWorkflowTemplate, parseWorkflow } = await load("workflow-parser/dist/index.js");
const { parseAction } = await load("workflow-parser/dist/actions/action-parser.js");
const { convertActionTemplate } = await load("workflow-parser/dist/actions/action-template.js");
const guards = await load("workflow-parser/dist/templates/tokens/type-guards.js");

const STATUS = ["always", "cancelled", "failure", "success"];
const CONTEXTS = ["env", "github", "inputs", "job", "jobs", "matrix", "needs", "runner", "secrets", "steps", "strategy", "vars"];

/** A tree of tokens as JSON; what is to be evaluated is {"$": expression}. */
function plain(token) {
  if (guards.isBasicExpression(token)) return { $: token.expression };
  if (guards.isSequence(token)) return Array.from(token, plain);
  if (guards.isMapping(token)) return Object.fromEntries(Array.from(token, (pair) => [pair.key.toString(), plain(pair.value)]));
  return token.value ?? null;
}

/** Adds what GitHub's own conversion decides: the id of each step, and its condition with success() where none is named. */
function settle(steps, converted) {
  return steps.map((step, index) => ({ ...step, id: converted[index].id, if: { $: converted[index].if.expression } }));
}

function errorsOf(context) {
  return context.errors.getErrors().map((error) => {
    const start = error.range?.start;
    return start ? `line ${start.line}: ${error.rawMessage}` : error.rawMessage;
  });
}

function action({ name, content }) {
  const { context, value } = parseAction({ name, content }, new NoOperationTraceWriter());
  const converted = value && convertActionTemplate(context, value);
  const errors = errorsOf(context);
  if (errors.length) return { errors };
  const tree = plain(value);
  if (tree.runs?.steps) tree.runs.steps = settle(tree.runs.steps, converted.runs.steps);
  return { errors, tree };
}

async function workflow({ name, content, root }) {
  const { context, value } = parseWorkflow({ name, content }, new NoOperationTraceWriter());
  const provider = {
    getFileContent: async (reference) => ({ name: reference.path, content: fs.readFileSync(path.join(root, reference.path), "utf8") }),
  };
  const options = { fetchReusableWorkflowDepth: 2 };
  const converted = value && (await convertWorkflowTemplate(context, value, provider, options));
  const errors = [...errorsOf(context), ...(converted?.errors ?? []).map((error) => error.Message)];
  if (errors.length) return { errors };
  const tree = plain(value);
  for (const job of converted.jobs) {
    const held = tree.jobs[job.id.value];
    held.if = { $: job.if.expression };
    if (job.steps) held.steps = settle(held.steps, job.steps);
  }
  return { errors, tree };
}

/** The runner's own: files outside the workspace do not count; nothing found is an empty string. */
function hashFiles(workspace, patterns) {
  const result = crypto.createHash("sha256");
  const inside = (file) => file.startsWith(workspace + path.sep) && fs.statSync(file).isFile();
  const found = fs.globSync(patterns.map((pattern) => path.resolve(workspace, pattern))).filter(inside).sort();
  for (const file of found) result.update(crypto.createHash("sha256").update(fs.readFileSync(file)).digest());
  return found.length ? result.digest("hex") : "";
}

function evaluate({ expression, contexts, status }) {
  const functions = STATUS.map((name) => ({
    name,
    minArgs: 0,
    maxArgs: 0,
    call: () => new data.BooleanData(name === "always" || Boolean(status[name])),
  }));
  functions.push({
    name: "hashfiles",
    minArgs: 1,
    maxArgs: 255,
    call: (...patterns) => new data.StringData(hashFiles(contexts.github.workspace, patterns.map((one) => one.coerceString()))),
  });
  const all = Object.fromEntries(CONTEXTS.map((name) => [name, contexts[name] ?? {}]));
  const tree = new Parser(new Lexer(expression).lex().tokens, CONTEXTS, functions).parse();
  const context = JSON.parse(JSON.stringify(all), data.reviver);
  const value = new Evaluator(tree, context, new Map(functions.map((one) => [one.name, one]))).evaluate();
  return { primitive: value.primitive, text: value.coerceString(), true: truthy(value), json: JSON.stringify(value, data.replacer) };
}

const TASKS = { action, evaluate, workflow };

for await (const line of readline.createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = await TASKS[request.task](request);
  } catch (error) {
    answer = { failed: error.message };
  }
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
