// Makes the pages handier; all of them can be read without. Texts are put in as text, never as markup.
"use strict";
(() => {
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // How long ago a moment was.
  for (const time of document.querySelectorAll("time[datetime]")) {
    const days = Math.floor((Date.now() - Date.parse(time.dateTime)) / 86400000);
    if (days >= 0) time.after(" ", make("small", { textContent: days === 0 ? "today" : days === 1 ? "yesterday" : `${days} days ago` }));
  }

  // Commands to copy.
  const said = make("p", { className: "unseen" });
  said.setAttribute("role", "status");
  document.body.append(said);
  const copy = async (pre) => {
    try {
      await navigator.clipboard.writeText(pre.textContent);
      return true;
    } catch {
      const range = document.createRange();
      range.selectNodeContents(pre);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      return document.execCommand("copy");
    }
  };
  for (const pre of document.querySelectorAll(".command pre")) {
    const button = make("button", { type: "button", textContent: "Copy" });
    button.setAttribute("aria-label", `Copy: ${pre.getAttribute("aria-label")}`);
    button.addEventListener("click", async () => {
      said.textContent = button.textContent = (await copy(pre)) ? "Copied" : "Select it";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    pre.after(button);
  }

  // Tables to filter and to sort, and versions to choose.
  const byValue = (column, direction) => (one, other) => {
    const [a, b] = [one, other].map((row) => row.cells[column].dataset.by ?? row.cells[column].textContent.trim());
    const [x, y] = [Number(a), Number(b)];
    return direction * (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y) ? x - y : a.localeCompare(b));
  };
  for (const table of document.querySelectorAll("table[data-filter]")) {
    const body = table.tBodies[0];
    const tools = make("div", { className: "tools" });
    const filter = make("input", { type: "search", placeholder: table.dataset.filter });
    filter.setAttribute("aria-label", table.dataset.filter);
    const count = make("span");
    count.setAttribute("role", "status");
    const texts = new Map([...body.rows].map((row) => [row, row.textContent.toLowerCase()]));
    const ill = new Set([...body.querySelectorAll(".no, .bad")].map((mark) => mark.closest("tr")));
    const only = make("button", { type: "button", textContent: `Only problems: ${ill.size}` });
    only.setAttribute("aria-pressed", "false");
    const pressed = () => only.getAttribute("aria-pressed") === "true";
    const refresh = () => {
      const words = filter.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const [row, text] of texts) {
        row.hidden = (pressed() && !ill.has(row)) || !words.every((word) => text.includes(word));
        shown += row.hidden ? 0 : 1;
      }
      count.textContent = filter.value || pressed() ? `${shown} of ${texts.size}` : "";
    };
    filter.addEventListener("input", refresh);
    only.addEventListener("click", () => {
      only.setAttribute("aria-pressed", String(!pressed()));
      refresh();
    });
    tools.append(filter, ...(ill.size ? [only] : []), count);
    for (const [column, head] of [...table.tHead.rows[0].cells].entries()) {
      const button = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...[...body.rows].sort(byValue(column, down ? -1 : 1)));
      });
    }
    if (table.dataset.compare) {
      const compare = make("button", { type: "button", textContent: "Choose two to compare", disabled: true });
      const chosen = [];
      for (const row of body.querySelectorAll("tr[data-version]")) {
        const box = make("input", { type: "checkbox" });
        box.setAttribute("aria-label", `Compare v${row.dataset.version}`);
        box.addEventListener("change", () => {
          if (box.checked) chosen.push(box);
          else chosen.splice(chosen.indexOf(box), 1);
          if (chosen.length > 2) chosen.shift().checked = false;
          const numbers = chosen.map((one) => Number(one.closest("tr").dataset.version)).sort((a, b) => a - b);
          compare.disabled = numbers.length < 2;
          compare.textContent = compare.disabled ? "Choose two to compare" : `Compare v${numbers[0]} with v${numbers[1]}`;
          compare.dataset.address = `${table.dataset.compare}&a=${numbers[0]}&b=${numbers[1]}`;
        });
        row.cells[0].firstElementChild.prepend(box);
      }
      compare.addEventListener("click", () => { location.href = compare.dataset.address; });
      tools.append(compare);
    }
    table.closest(".scroll").before(tools);
  }

  // Two versions beside each other.
  const place = document.getElementById("compare");
  if (!place) return;
  const CHUNK = 25;
  const TITLES = { origin: "Origin", recipe: "Recipe", toolchain: "Toolchain", figures: "Sizes and metrics", files: "Files" };
  const asked = new URLSearchParams(location.search);
  const model = asked.get("model") ?? "";
  const [before, after] = ["before", "after"].map((id) => document.getElementById(id));
  const note = document.getElementById("said");
  const tables = document.getElementById("tables");
  let received = [];
  globalThis.modeldropVersions = (data) => { received = data.versions; };
  const load = (chunk) => new Promise((resolve) => {
    const script = make("script", { src: `m/${model}/data-${chunk}.js` });
    script.onload = () => { script.remove(); resolve(received); };
    script.onerror = () => { script.remove(); resolve([]); };
    document.head.append(script);
  });
  const find = async (number) => (await load(Math.floor((number - 1) / CHUNK) + 1)).find((one) => one.number === number);
  // As modeldrop.format.diff does it: of a variant that only one side has, its size alone.
  const figures = (facts, other) => Object.assign({}, ...Object.entries(facts.variants).map(([name, own]) =>
    Object.hasOwn(other.variants, name) ? own : Object.fromEntries(Object.entries(own).slice(0, 1))));
  const show = async () => {
    const numbers = [before, after].map((input) => Number(input.value.replace(/^v/, "")));
    tables.replaceChildren();
    if (!/^[a-z0-9][a-z0-9._-]{0,63}$/.test(model) || !numbers.every((one) => Number.isInteger(one) && one > 0)) {
      note.textContent = "Choose two versions on a model's page, or write two numbers here.";
      return;
    }
    const found = [];
    for (const number of numbers) found.push(await find(number));
    const missing = numbers.filter((_, index) => !found[index]?.facts);
    document.getElementById("compared").textContent = `${model}: v${numbers[0]} and v${numbers[1]}`;
    if (missing.length) {
      note.textContent = missing.map((one) => `v${one} cannot be compared: it is not there, or ${found[numbers.indexOf(one)]?.state ?? "not on these pages"}.`).join(" ");
      return;
    }
    const [old, fresh] = found.map((one) => one.facts);
    const sides = { figures: [figures(old, fresh), figures(fresh, old)] };
    for (const name of ["origin", "recipe", "toolchain", "files"]) sides[name] = [old[name], fresh[name]];
    let differences = 0;
    for (const [name, title] of Object.entries(TITLES)) {
      const [left, right] = sides[name];
      const names = Object.keys({ ...left, ...right }).filter((key) => left[key] !== right[key]);
      if (!names.length) continue;
      differences += names.length;
      const heads = ["What", `v${numbers[0]}`, `v${numbers[1]}`];
      const rows = names.map((key) => make("tr", {}, ...[key, left[key] ?? "–", right[key] ?? "–"].map((text, index) => {
        const cell = make("td", { className: index ? "any" : "name" }, make("div", { textContent: text || "–" }));
        cell.dataset.label = heads[index];
        return cell;
      })));
      const head = make("thead", {}, make("tr", {}, ...heads.map((text) => make("th", { scope: "col", textContent: text }))));
      tables.append(make("section", {}, make("h2", { textContent: title }),
        make("div", { className: "card scroll whole" }, make("table", {}, head, make("tbody", {}, ...rows)))));
    }
    note.textContent = differences ? `${differences} differences.` : "They do not differ.";
  };
  place.hidden = false;
  document.getElementById("plain").hidden = true;
  before.value = asked.get("a") ?? "";
  after.value = asked.get("b") ?? "";
  if (/^[a-z0-9][a-z0-9._-]{0,63}$/.test(model)) {
    document.getElementById("crumb").append(make("a", { href: `m/${model}/index.html`, textContent: model }), " / ");
  }
  document.getElementById("show").addEventListener("click", show);
  for (const input of [before, after]) input.addEventListener("keydown", (event) => { if (event.key === "Enter") show(); });
  if (before.value && after.value) show();
})();
