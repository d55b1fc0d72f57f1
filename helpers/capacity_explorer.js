// The capacity explorer: what a load makes of a design.
//
// Python sends the sliders and, after each move, a view: one row for each stage and the whole, or an error.
// The browser only draws it. `helpers/widgets.py` makes the figure from the same view.

const SYNC_MS = 100; // at most ten messages a second, however fast a slider is dragged

// --------------------------------------------------------------------------------------------- wording

/** A number of the load: short from a million on. */
function amount(x) {
  const options = x < 1e6 ? {} : { notation: "compact", maximumSignificantDigits: 3 };
  return x.toLocaleString("en-US", options);
}

const digits = (x) => String(Number(x.toPrecision(3)));
const MARKS = { measured: "●", assumed: "○" };

// ------------------------------------------------------------------------------------------------- DOM

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

let lastId = 0;
const newId = () => `capacity-explorer-${(lastId += 1)}`;

/** The position of the value nearest to x, on the scale of ratios. */
function nearest(values, x) {
  const distances = values.map((value) => Math.abs(Math.log(value / x)));
  return distances.indexOf(Math.min(...distances));
}

/** A labeled native range input over a list of values, so that all its keys work as everywhere. */
function slider({ label, values }, onPick) {
  const id = newId();
  const input = h("input", {
    type: "range",
    id,
    min: 0,
    max: values.length - 1,
    step: 1,
    // JupyterLab takes arrows and letters for its commands, unless the focused element asks.
    "data-lm-suppress-shortcuts": "true",
    oninput: () => onPick(values[input.value]),
  });
  const shown = h("output", { for: id });
  const node = h("div", { class: "ce-control" }, h("label", { for: id }, label), shown, input);
  const set = (value) => {
    input.value = nearest(values, value);
    input.setAttribute("aria-valuetext", amount(value));
    shown.textContent = amount(value);
  };
  return { node, set };
}

// --------------------------------------------------------------------------------------------- the table

/** A bar of parts, each from 0 to its share of the width; only an aid, since its number stands beside it. */
function bar(parts, mark) {
  const pieces = parts.map(([kind, share]) =>
    h("i", { class: kind, style: `width:${Math.min(100, 100 * share)}%` }),
  );
  const marks = mark === undefined ? [] : [h("u", { style: `left:${100 * mark}%` })];
  return h("div", { class: "ce-bar", "aria-hidden": "true" }, ...pieces, ...marks);
}

function latencyCell({ ms, kind }, { budget_ms, rows }) {
  if (ms.length === 0) return h("td", {}, "–");
  const longest = Math.max(budget_ms ?? 0, ...rows.map((row) => row.ms[1] ?? 0));
  const mark = budget_ms === null ? undefined : budget_ms / longest;
  const text = `${digits(ms[0])} / ${digits(ms[1])} ms${kind ? ` ${MARKS[kind]} ${kind}` : ""}`;
  const parts = [
    ["ce-p99", ms[1] / longest],
    ["ce-p50", ms[0] / longest],
  ];
  return h("td", {}, text, bar(parts, mark));
}

function costCell(text, { cost }, { rows }) {
  const whole = rows.at(-1).cost || 1;
  return h("td", {}, text, bar([["ce-cost", cost / whole]]));
}

function tableRow(row, view) {
  const cells = row.cells.map((text, i) =>
    view.columns[i] === "cost a month" ? costCell(text, row, view) : h("td", {}, text),
  );
  return h("tr", {}, h("th", { scope: "row" }, row.name), latencyCell(row, view), ...cells);
}

function fill(table, view) {
  const names = ["stage", "p50 / p99", ...view.columns];
  const head = h("tr", {}, ...names.map((name) => h("th", { scope: "col" }, name)));
  table.replaceChildren(
    h("caption", {}, "What each stage takes and needs at the peak"),
    h("thead", {}, head),
    h("tbody", {}, ...view.rows.map((row) => tableRow(row, view))),
  );
}

// -------------------------------------------------------------------------------------------- the explorer

function keyOf(view) {
  const budget = view.budget_ms === null ? "" : ` Dashed: the budget of ${view.budget_ms} ms.`;
  return `Time: p50 filled, p99 framed.${budget} Cost: share of the whole.`;
}

class Explorer {
  constructor(model, el) {
    this.model = model;
    this.load = {};
    const specs = Object.entries(model.get("sliders"));
    this.sliders = Object.fromEntries(
      specs.map(([name, spec]) => [name, slider(spec, (value) => this.change(name, value))]),
    );
    this.error = h("p", { class: "ce-error", role: "alert" });
    this.sentence = h("p", { class: "ce-sentence", role: "status" });
    this.table = h("table");
    this.key = h("p", { class: "ce-key" });
    const controls = Object.values(this.sliders).map(({ node }) => node);
    this.root = h(
      "div",
      { class: "capacity-explorer" },
      h("h3", {}, "Capacity explorer"),
      h("section", { class: "ce-controls", "aria-label": "Load" }, ...controls),
      this.error,
      this.sentence,
      this.table,
      this.key,
    );
    el.append(this.root);
    for (const name of Object.keys(this.sliders)) this.receive(name);
    this.paint();
  }

  /** A change made by the learner: show the number now, ask Python soon. */
  change(name, value) {
    this.load[name] = value;
    this.sliders[name].set(value);
    this.root.setAttribute("aria-busy", "true");
    this.sending ??= setTimeout(() => this.flush(), SYNC_MS);
  }

  flush() {
    clearTimeout(this.sending);
    this.sending = undefined;
    for (const [name, value] of Object.entries(this.load)) this.model.set(name, value);
    this.model.save_changes();
  }

  /** A change made in Python, or in another view of the same explorer. */
  receive(name) {
    this.load[name] = this.model.get(name);
    this.sliders[name].set(this.load[name]);
  }

  paint() {
    const view = this.model.get("view");
    this.error.hidden = !view.error;
    this.error.textContent = view.error ? `✕ Refused. ${view.error}` : "";
    this.sentence.textContent = view.sentence;
    for (const part of [this.sentence, this.table, this.key]) part.hidden = Boolean(view.error);
    if (!view.error) {
      fill(this.table, view);
      this.key.textContent = keyOf(view);
    }
    this.root.dataset.view = JSON.stringify(view); // the exact numbers, for whoever reads the page by program
    this.root.removeAttribute("aria-busy");
  }
}

function render({ model, el }) {
  const explorer = new Explorer(model, el);
  const listeners = [
    ...Object.keys(explorer.sliders).map((name) => [`change:${name}`, () => explorer.receive(name)]),
    ["change:view", () => explorer.paint()],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);
  return () => {
    if (explorer.sending !== undefined) explorer.flush();
    for (const [event, listener] of listeners) model.off(event, listener);
  };
}

export default { render };
