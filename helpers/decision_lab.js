// The decision lab: what one threshold does to people and money.
//
// Python sends one table per data set (threshold, tp, fp, missed amount) and the settings. Everything else
// happens here, without the kernel, so that a key press shows at once. The choice goes back to Python.
// `helpers/widgets.py` computes the same numbers; a browser test compares the two.

const Z = 1.959963984540054; // 95% of a normal distribution lies within Z standard deviations

// The settings that Python and the browser share, by the names of the Python traits.
const SETTINGS = [
  "dataset",
  "threshold",
  "prevalence",
  "cost_fp",
  "cost_fn",
  "use_amounts",
  "budget",
  "beta",
];
const SYNC_MS = 100; // at most ten messages a second, however fast a slider is dragged

// ---------------------------------------------------------------------------------------------- numbers

/** Wilson interval of a proportion: k of n. */
function wilson(k, n) {
  if (n === 0) return [NaN, NaN];
  const p = k / n;
  const center = (p + (Z * Z) / (2 * n)) / (1 + (Z * Z) / n);
  const half = (Z / (1 + (Z * Z) / n)) * Math.sqrt((p * (1 - p)) / n + (Z * Z) / (4 * n * n));
  return [Math.max(0, center - half), Math.min(1, center + half)];
}

const logit = (p) => Math.log(p / (1 - p));
const expit = (x) => 1 / (1 + Math.exp(-x));

/** Interval of the precision at another prevalence: the delta method on the log odds (see widgets.py). */
function precisionInterval(data, i, prevalence) {
  let [tp, fp, fn, tn] = [data.tp[i], data.fp[i], data.n_pos - data.tp[i], data.n_neg - data.fp[i]];
  if (tp + fp === 0) return [NaN, NaN];
  const point = decide(data, i, { prevalence }).precision;
  if (Math.min(tp, fp, fn, tn) === 0) [tp, fp, fn, tn] = [tp + 0.5, fp + 0.5, fn + 0.5, tn + 0.5];
  const [tpr, fpr] = [tp / (tp + fn), fp / (fp + tn)];
  const center = logit(prevalence) + Math.log(tpr / fpr);
  const half = Z * Math.sqrt((1 - tpr) / tp + (1 - fpr) / fp);
  return [Math.min(point, expit(center - half)), Math.max(point, expit(center + half))];
}

/** How many cases of the world one positive and one negative of the data stand for. */
function weights(data, prevalence) {
  if (prevalence === null) return [1, 1];
  const n = data.n_pos + data.n_neg;
  return [(prevalence * n) / data.n_pos, ((1 - prevalence) * n) / data.n_neg];
}

/** All numbers at row i of the table. Counts at another prevalence are expected counts in as many cases. */
function decide(data, i, { prevalence, cost_fp = 0, cost_fn = 0, use_amounts = false, beta = 1 }) {
  const [positive, negative] = weights(data, prevalence);
  const tp = positive * data.tp[i];
  const fp = negative * data.fp[i];
  const fn = positive * (data.n_pos - data.tp[i]);
  const tn = negative * (data.n_neg - data.fp[i]);
  const hurt = cost_fp * fp;
  const lost = cost_fn * fn + (use_amounts ? positive * data.missed[i] : 0);
  return {
    threshold: data.threshold[i],
    tp,
    fp,
    fn,
    tn,
    flagged: tp + fp,
    precision: tp / (tp + fp),
    recall: data.tp[i] / data.n_pos,
    fpr: data.fp[i] / data.n_neg,
    f_beta: ((1 + beta * beta) * tp) / ((1 + beta * beta) * tp + beta * beta * fn + fp),
    hurt,
    lost,
    cost: hurt + lost,
  };
}

function withIntervals(data, i, row, prevalence) {
  const [recall_low, recall_high] = wilson(data.tp[i], data.n_pos);
  const [precision_low, precision_high] =
    prevalence === null
      ? wilson(data.tp[i], data.tp[i] + data.fp[i])
      : precisionInterval(data, i, prevalence);
  return { ...row, recall_low, recall_high, precision_low, precision_high };
}

/** First row whose threshold is at least t: the same cases are flagged, or fewer. Python snaps alike. */
function rowOf(data, t) {
  const i = data.threshold.findIndex((x) => x >= t);
  return i < 0 ? data.threshold.length - 1 : i;
}

/** Of equal values the last: the strictest threshold, as in `helpers.metrics.best_threshold`. */
const indexOfMin = (values) => values.reduce((best, v, i) => (v <= values[best] ? i : best), 0);

const rowsOf = (data, world) => data.threshold.map((_, i) => decide(data, i, world));

/** The rows that answer the three usual wishes. Rows are ordered from "flag everything" to "flag nothing". */
function wishes(rows, budget) {
  const within = rows.findIndex((r) => r.flagged <= budget * (1 + 1e-12));
  return {
    budget: within < 0 ? rows.length - 1 : within,
    cheapest: indexOfMin(rows.map((r) => r.cost)),
    best_f: indexOfMin(rows.map((r) => -r.f_beta)),
  };
}

// --------------------------------------------------------------------------------------------- wording

const number = (x, digits) => x.toLocaleString("en-US", { maximumFractionDigits: digits });
const count = (x) => (Number.isInteger(x) || x >= 10 ? number(x, 0) : number(x, 1));

function percent(x) {
  if (Number.isNaN(x)) return "–";
  const p = 100 * x;
  if (p < 1e-9 || p > 100 - 1e-9) return `${Math.round(p)}%`;
  if (p < 0.1) return `${Number(p.toPrecision(2))}%`;
  const digits = p < 1 || p > 99.9 ? 2 : 1;
  // A share that is not whole must not be rounded to a whole one.
  return `${Math.min(p, 99.99).toFixed(digits)}%`;
}

function score(t) {
  if (t > 0.99 && t < 1) return t.toFixed(Math.min(9, 2 + Math.ceil(-Math.log10(1 - t))));
  return String(Number(t.toPrecision(3)));
}

function money(x, unit) {
  const digits = Math.abs(x) < 100 && !Number.isInteger(x) ? 2 : 0;
  return unit + x.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

const shortMoney = (x, unit) =>
  unit + x.toLocaleString("en-US", { notation: "compact", maximumSignificantDigits: 3 });
const interval = (low, high) =>
  Number.isNaN(low) ? "nothing is flagged" : `95% interval ${percent(low)} to ${percent(high)}`;

// ---------------------------------------------------------------------------------------- DOM and SVG

function put(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const h = (tag, attributes = {}, ...children) => put(document.createElement(tag), attributes, children);
const s = (tag, attributes = {}, ...children) =>
  put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** A native control. JupyterLab takes arrows and letters for its commands, unless the focused element asks. */
const control = (tag, attributes, ...children) =>
  h(tag, { "data-lm-suppress-shortcuts": "true", ...attributes }, ...children);

/** Write text only where it changed: untouched nodes cost no layout. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

let lastId = 0;
const newId = () => `decision-lab-${(lastId += 1)}`;

/** One shape for each kind of point, so that none is told by its color alone. */
const SHAPES = {
  you: (x, y) => s("circle", { class: "dl-you", cx: x, cy: y, r: 7 }),
  budget: (x, y) => s("rect", { class: "dl-mark", x: x - 5.5, y: y - 5.5, width: 11, height: 11 }),
  cheapest: (x, y) => s("path", { class: "dl-mark", d: `M${x} ${y - 7.5}l7.5 7.5l-7.5 7.5l-7.5-7.5z` }),
  best_f: (x, y) => s("path", { class: "dl-mark", d: `M${x} ${y - 7}l7.5 13h-15z` }),
};
const icon = (kind) => s("svg", { width: 16, height: 16, "aria-hidden": "true" }, SHAPES[kind](8, 8));

// -------------------------------------------------------------------------------------------- sliders

/** Round numbers between low and high: ten a decade, so that each step of a slider feels alike. */
function roundNumbers(low, high) {
  const steps = [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8];
  const decades = Array.from({ length: 12 }, (_, k) => 10 ** (k - 4));
  return decades
    .flatMap((d) => steps.map((x) => Number((x * d).toPrecision(2))))
    .filter((x) => x >= low && x <= high);
}

const PREVALENCES = roundNumbers(0.0001, 0.5);
const COSTS = [0, ...roundNumbers(0.1, 10000)];
const BETAS = [0.1, 0.2, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 5, 10];
const budgets = (n) => [...roundNumbers(1, n - 1).filter(Number.isInteger), n];

const nearest = (values, value) => indexOfMin(values.map((v) => Math.abs(v - value)));

/** A labeled native range input over a list of values, so that all its keys work as everywhere. */
function slider(label, values, onPick, extra = []) {
  const id = newId();
  const input = control("input", {
    type: "range",
    id,
    min: 0,
    step: 1,
    oninput: () => onPick(input.values[input.value]),
  });
  const shown = h("output", { for: id });
  const node = h(
    "div",
    { class: "dl-control" },
    h("label", { for: id }, label),
    shown,
    input,
    h("div", { class: "dl-hint" }, ...extra),
  );
  input.values = values;
  input.max = values.length - 1;
  const set = (value, text) => {
    input.value = nearest(input.values, value);
    input.setAttribute("aria-valuetext", text);
    say(shown, text);
  };
  return { node, input, set };
}

// --------------------------------------------------------------------------------------------- charts

const HEIGHT = 222;
const EDGE = { left: 48, right: 14, top: 28, bottom: 44 };

/** A small chart: a frame and curves, redrawn when the world changes, and points, redrawn at each move. */
class Chart {
  /** Labels stand on the left of points that lie further right than `turn`. */
  constructor(title, xName, yName, turn) {
    Object.assign(this, { title, xName, yName, turn, width: 0 });
    this.layers = { frame: s("g"), curves: s("g"), notes: s("g"), points: s("g") };
    this.clipId = newId();
    this.clip = s("rect", { x: EDGE.left, y: EDGE.top - 1 });
    this.layers.curves.setAttribute("clip-path", `url(#${this.clipId})`);
    this.svg = s(
      "svg",
      { role: "img", height: HEIGHT },
      s("clipPath", { id: this.clipId }, this.clip),
      ...Object.values(this.layers),
    );
    this.node = h("figure", {}, h("figcaption", {}, title), this.svg);
  }

  /** Axes from 0 to 1 in both directions; callers bring their values to that range. */
  x(u) {
    return EDGE.left + Math.min(1, Math.max(0, u)) * (this.width - EDGE.left - EDGE.right);
  }
  y(v) {
    return HEIGHT - EDGE.bottom - v * (HEIGHT - EDGE.bottom - EDGE.top);
  }

  frame(xTicks, yTicks) {
    this.svg.setAttribute("width", this.width);
    this.clip.setAttribute("width", Math.max(0, this.width - EDGE.left - EDGE.right));
    this.clip.setAttribute("height", HEIGHT - EDGE.bottom - EDGE.top + 2);
    const [right, bottom] = [this.width - EDGE.right, this.y(0)];
    this.layers.frame.replaceChildren(
      ...yTicks.map(([v]) =>
        s("line", { class: "dl-grid", x1: EDGE.left, x2: right, y1: this.y(v), y2: this.y(v) }),
      ),
      ...yTicks.map(([v, text]) =>
        s("text", { x: EDGE.left - 7, y: this.y(v) + 5, "text-anchor": "end" }, text),
      ),
      ...xTicks.map(([u, text]) =>
        s("text", { x: this.x(u), y: bottom + 18, "text-anchor": "middle" }, text),
      ),
      s("text", { x: (EDGE.left + right) / 2, y: HEIGHT - 8, "text-anchor": "middle" }, this.xName),
      s("text", { x: 0, y: 14 }, this.yName),
    );
  }

  draw(lines, notes) {
    this.layers.curves.replaceChildren(...lines);
    this.layers.notes.replaceChildren(...notes);
  }

  line(points, cls) {
    const d = points
      .map(([u, v], k) => `${k ? "L" : "M"}${this.x(u).toFixed(1)} ${this.y(v).toFixed(1)}`)
      .join("");
    return s("path", { class: cls, d });
  }

  /** A horizontal line at v. */
  level(v, cls) {
    return s("path", { class: cls, d: `M${this.x(0)} ${this.y(v)}H${this.x(1)}` });
  }

  /** A label inside the plot; a halo in the background color keeps it legible over lines. */
  note(u, v, text, anchor = "start", dy = -6) {
    return s("text", { class: "dl-note", x: this.x(u), y: this.y(v) + dy, "text-anchor": anchor }, text);
  }

  /** Whiskers and points; "you" is last, so it lies on top. */
  mark(points, whiskers = []) {
    const bars = whiskers
      .filter((w) => w.flat().every(Number.isFinite))
      .map((w) => this.line(w, "dl-whisker"));
    const shapes = points.map((p) => SHAPES[p.kind](this.x(p.u), this.y(p.v)));
    const labels = this.apart(points).map((p) => this.label(p));
    this.layers.points.replaceChildren(...bars, ...shapes, ...labels);
  }

  /** Labels that do not collide: points close together share one, and "you" needs no second name. */
  apart(points) {
    const near = (p, q) =>
      Math.abs(this.y(p.v) - this.y(q.v)) < 36 && Math.abs(this.x(p.u) - this.x(q.u)) < 90;
    const labeled = [points.at(-1)];
    for (const p of points.slice(0, -1)) {
      const neighbor = labeled.findIndex((q) => near(p, q));
      if (neighbor < 0) labeled.push(p);
      else if (neighbor > 0)
        labeled[neighbor] = { ...labeled[neighbor], text: `${labeled[neighbor].text}, ${p.text}` };
    }
    return labeled;
  }

  /** A label beside its point, on the side where the curve leaves room: below it, unless at the bottom. */
  label({ u, v, kind, text }) {
    const left = u > this.turn;
    const y = this.y(v) + (v > 0.25 ? 20 : -10);
    const cls = kind === "you" ? "dl-note dl-strong" : "dl-note";
    return s(
      "text",
      { class: cls, x: this.x(u) + (left ? -11 : 11), y, "text-anchor": left ? "end" : "start" },
      text,
    );
  }
}

const SHARES = [
  [0, "0"],
  [0.5, "50%"],
  [1, "100%"],
];
const NAMES = { you: "you", budget: "budget", cheapest: "lowest cost", best_f: "best F" };

// What each chart is: where a row lies (u, v in 0..1), which points it shows, whiskers, and its curves.
const CHARTS = {
  pr: {
    make: () => new Chart("Precision against recall", "recall", "precision", 0.4),
    kinds: ["budget", "cheapest", "best_f", "you"],
    // Where nothing is flagged there is no precision; the point waits where the curve begins.
    place: (lab, r) => ({ u: r.recall, v: (r.flagged > 0 ? r : lab.rows.at(-2)).precision }),
    said: (lab, r) => `recall ${percent(r.recall)}, precision ${percent(r.precision)}`,
    whiskers: (r) => [
      [
        [r.recall, r.precision_low],
        [r.recall, r.precision_high],
      ],
      [
        [r.recall_low, r.precision],
        [r.recall_high, r.precision],
      ],
    ],
    curves(chart, { data, rows, state }) {
      const n = data.n_pos + data.n_neg;
      const base = state.prevalence ?? data.n_pos / n;
      const curve = (list, cls) =>
        chart.line(
          list.slice(0, -1).map((r) => [r.recall, r.precision]),
          cls,
        );
      // In another world, the curve of the data stays in sight.
      const ghosts = state.prevalence === null ? [] : [rowsOf(data, { prevalence: null })];
      chart.frame(SHARES, SHARES);
      chart.draw(
        [
          chart.level(base, "dl-reference"),
          ...ghosts.map((list) => curve(list, "dl-ghost")),
          curve(rows, "dl-curve"),
        ],
        [
          chart.note(0, base, "flag at random", "start", base > 0.9 ? 16 : -6),
          ...ghosts.map((list) => ghostNote(chart, list, base > data.n_pos / n)),
        ],
      );
    },
  },
  roc: {
    make: () => new Chart("ROC curve", "false-positive rate", "recall", 0.6),
    kinds: ["budget", "cheapest", "best_f", "you"],
    place: (lab, r) => ({ u: r.fpr, v: r.recall }),
    said: (lab, r) => `false-positive rate ${percent(r.fpr)}, recall ${percent(r.recall)}`,
    whiskers: (r) => [
      [
        [r.fpr, r.recall_low],
        [r.fpr, r.recall_high],
      ],
    ],
    curves(chart, { rows }) {
      chart.frame(SHARES, SHARES);
      chart.draw(
        [
          chart.line(
            [
              [0, 0],
              [1, 1],
            ],
            "dl-reference",
          ),
          chart.line(
            rows.map((r) => [r.fpr, r.recall]),
            "dl-curve",
          ),
        ],
        [chart.note(1, 0.4, "flag at random", "end")],
      );
    },
  },
  cost: {
    make: () => new Chart("Cost by threshold", "cases flagged (log scale)", "cost", 0.6),
    kinds: ["budget", "cheapest", "you"],
    // A cost above the picture is drawn at its edge: the number beside it still tells how much.
    place: (lab, r) => ({ u: strictness(lab.data, r.flagged), v: Math.min(1, r.cost / lab.costTop) }),
    said: (lab, r) => `${money(r.cost, lab.unit)} at ${count(r.flagged)} flagged`,
    whiskers: () => [],
    curves(chart, { data, rows, unit, costTop: top }) {
      const idle = rows.at(-1).cost / top;
      chart.frame(flaggedTicks(data, chart.width), moneyTicks(top, unit));
      chart.draw(
        [
          chart.level(idle, "dl-reference"),
          chart.line(
            rows.map((r) => [strictness(data, r.flagged), r.cost / top]),
            "dl-curve",
          ),
        ],
        [chart.note(1, idle, "flag nothing", "end")],
      );
    },
  },
};

/** Name the curve of the data's own prevalence on its outer side: it lies below that of a higher one. */
function ghostNote(chart, rows, below) {
  const r = rows.findLast((x) => x.precision < 0.3) ?? rows[0];
  return chart.note(
    r.recall + (below ? -0.06 : 0.06),
    r.precision,
    "in the data",
    below ? "end" : "start",
    5,
  );
}

function paintPoints(chart, spec, lab) {
  const row = (kind) => (kind === "you" ? lab.now : lab.rows[lab.wishes[kind]]);
  chart.mark(
    spec.kinds.map((kind) => ({ kind, text: NAMES[kind], ...spec.place(lab, row(kind)) })),
    spec.whiskers(lab.now),
  );
  chart.svg.setAttribute("aria-label", `${chart.title}: ${spec.said(lab, lab.now)}`);
}

/** Drag on a curve: the threshold goes to the row nearest to the pointer. A shortcut for the slider. */
function dragPoints(chart, spec, lab) {
  const drag = (event) => {
    if (event.buttons !== 1) return;
    const box = chart.svg.getBoundingClientRect();
    const distance = (p) =>
      Math.hypot(chart.x(p.u) - event.clientX + box.left, chart.y(p.v) - event.clientY + box.top);
    const i = indexOfMin(lab.rows.map((r) => distance(spec.place(lab, r))));
    lab.change({ threshold: lab.data.threshold[i] });
  };
  chart.svg.addEventListener("pointerdown", drag);
  chart.svg.addEventListener("pointermove", drag);
}

/** The picture ends at twice the cost of doing nothing: flagging nearly all would flatten the rest. */
function costTop(rows) {
  const nothing = rows.at(-1).cost;
  const highest = Math.max(...rows.map((r) => r.cost));
  return nothing > 0 ? Math.min(highest, 2 * nothing) : highest || 1;
}

function moneyTicks(top, unit) {
  const steps = roundNumbers(top / 4, Infinity).filter((x) => /^[125]e/.test(x.toExponential()));
  const step = steps[0] ?? top;
  const ticks = Array.from({ length: Math.floor(top / step) + 1 }, (_, k) => k * step);
  return ticks.map((x) => [x / top, shortMoney(x, unit)]);
}

/** Position on a logarithmic axis of what is flagged, strict to the right like the threshold slider. */
function strictness(data, flagged) {
  return 1 - Math.log(2 * Math.max(0.5, flagged)) / Math.log(2 * (data.n_pos + data.n_neg));
}

function flaggedTicks(data, width) {
  const n = data.n_pos + data.n_neg;
  const decades = Array.from({ length: 10 }, (_, k) => 10 ** k).filter((x) => x <= n);
  const every = width / decades.length < 46 ? 2 : 1;
  const text = (x) => x.toLocaleString("en-US", { notation: "compact" });
  return decades.filter((_, k) => k % every === 0).map((x) => [strictness(data, x), text(x)]);
}

// --------------------------------------------------------------------------------- confusion and rates

function block(kind) {
  const [value, words, share, fill] = [h("strong"), h("span"), h("em"), h("i", { "aria-hidden": "true" })];
  return {
    node: h("div", { class: `dl-block dl-${kind}` }, fill, value, words, share),
    value,
    words,
    share,
    fill,
  };
}

function matrix() {
  const blocks = { tp: block("tp"), fn: block("fn"), fp: block("fp"), tn: block("tn") };
  const [positives, negatives] = [h("h4"), h("h4")];
  const node = h(
    "section",
    { class: "dl-matrix", "aria-label": "Confusion matrix" },
    positives,
    blocks.tp.node,
    blocks.fn.node,
    negatives,
    blocks.fp.node,
    blocks.tn.node,
  );
  return { node, blocks, positives, negatives };
}

function paintMatrix({ matrix: view, now, words }) {
  say(view.positives, `Of ${count(now.tp + now.fn)} ${words.positives}`);
  say(view.negatives, `Of ${count(now.fp + now.tn)} ${words.negatives}`);
  const shares = { tp: now.recall, fn: 1 - now.recall, fp: now.fpr, tn: 1 - now.fpr };
  for (const [kind, parts] of Object.entries(view.blocks)) {
    say(parts.value, count(now[kind]));
    say(parts.words, words[kind]);
    say(parts.share, percent(shares[kind]));
    parts.fill.hidden = shares[kind] === 0;
    parts.fill.style.width = `${100 * shares[kind]}%`;
  }
}

/** A number, a bar with its interval and the best that is attainable (dotted), and a sentence. */
function meter(name) {
  const parts = {
    name: h("span", {}, name),
    value: h("strong"),
    note: h("p"),
    lost: h("s"),
    fill: h("i"),
    whisker: h("b"),
    ceiling: h("u"),
  };
  const bar = h(
    "div",
    { class: "dl-bar", "aria-hidden": "true" },
    parts.lost,
    parts.fill,
    parts.whisker,
    parts.ceiling,
  );
  return { ...parts, node: h("div", { class: "dl-meter" }, parts.name, parts.value, bar, parts.note) };
}

function paintMeter(view, { value, fill, low = NaN, high = NaN, ceiling = NaN, note }) {
  say(view.value, value);
  say(view.note, note);
  view.fill.style.width = `${100 * (fill || 0)}%`;
  view.whisker.hidden = Number.isNaN(low);
  view.whisker.style.left = `${100 * low}%`;
  view.whisker.style.width = `${100 * (high - low)}%`;
  view.ceiling.hidden = Number.isNaN(ceiling);
  view.ceiling.style.left = `${100 * ceiling}%`;
}

function meters() {
  const views = {
    precision: meter("Precision"),
    recall: meter("Recall"),
    f: meter("F"),
    cost: meter("Cost"),
  };
  views.cost.node.classList.add("dl-money");
  return {
    node: h(
      "section",
      { class: "dl-meters", "aria-label": "Measures" },
      ...Object.values(views).map((v) => v.node),
    ),
    views,
  };
}

/** The most that any model could reach if it had to fill the budget, and no more. */
function ceilings({ now, state }) {
  const positives = now.tp + now.fn;
  return { precision: Math.min(1, positives / state.budget), recall: Math.min(1, state.budget / positives) };
}

function paintMeters(lab) {
  const { now, state, words, unit } = lab;
  const { precision, recall, f, cost } = lab.meters.views;
  const best = ceilings(lab);
  const note = (low, high, most) => `${interval(low, high)}; budget allows ${percent(most)}`;
  paintMeter(precision, {
    value: percent(now.precision),
    fill: now.precision,
    low: now.precision_low,
    high: now.precision_high,
    ceiling: best.precision,
    note: note(now.precision_low, now.precision_high, best.precision),
  });
  paintMeter(recall, {
    value: percent(now.recall),
    fill: now.recall,
    low: now.recall_low,
    high: now.recall_high,
    ceiling: best.recall,
    note: note(now.recall_low, now.recall_high, best.recall),
  });
  say(f.name, `F${state.beta}`);
  const bestF = lab.rows[lab.wishes.best_f];
  paintMeter(f, {
    value: now.f_beta.toFixed(3),
    fill: now.f_beta,
    ceiling: bestF.f_beta,
    note: `best ${bestF.f_beta.toFixed(3)} at threshold ${score(bestF.threshold)}`,
  });
  const full = Math.max(now.cost, lab.rows.at(-1).cost) || 1;
  cost.lost.style.width = `${(100 * now.cost) / full}%`;
  paintMeter(cost, {
    value: money(now.cost, unit),
    fill: now.hurt / full,
    ceiling: lab.rows[lab.wishes.cheapest].cost / full,
    note: `${money(now.hurt, unit)} ${words.fp} + ${money(now.lost, unit)} ${words.fn}`,
  });
}

// --------------------------------------------------------------------------------------- the threshold

const THUMB = 22; // px; the ticks above the slider line up with the middle of its thumb

function thresholdPart(lab) {
  const id = newId();
  const input = control("input", {
    type: "range",
    id,
    min: 0,
    step: 1,
    class: "dl-threshold",
    oninput: () => lab.change({ threshold: lab.data.threshold[Number(input.value)] }),
  });
  const rug = s("svg", { class: "dl-rug", height: 30, "aria-hidden": "true" });
  const marks = s("svg", { class: "dl-marks", height: 20, "aria-hidden": "true" });
  const [title, legend] = [h("output", { for: id }), h("span")];
  const [world, caught, missed, rest] = [h("span"), h("span"), h("span"), h("span")];
  const sentence = h(
    "p",
    { class: "dl-sentence" },
    world,
    tick("dl-caught", 0),
    caught,
    tick("dl-missed", 8),
    missed,
    rest,
  );
  const goals = Object.fromEntries(
    ["budget", "cheapest", "best_f"].map((kind) => [kind, goalButton(lab, kind)]),
  );
  const node = h(
    "section",
    { class: "dl-hero", "aria-label": "Threshold" },
    h(
      "div",
      { class: "dl-row" },
      h("label", { for: id, class: "dl-question" }, "Flag when the score is at least ", title),
      h(
        "div",
        { class: "dl-goals", role: "group", "aria-label": "Keep the threshold at" },
        "Keep at",
        ...Object.values(goals).map((g) => g.node),
      ),
    ),
    rug,
    input,
    marks,
    h("div", { class: "dl-row dl-ends" }, h("span", {}, "← flag more"), legend, h("span", {}, "flag less →")),
    sentence,
  );
  return { node, input, rug, marks, title, sentence, legend, goals, world, caught, missed, rest };
}

/** The sentence names the ticks above the slider by carrying one of each. */
const tick = (cls, top) =>
  s(
    "svg",
    { class: "dl-tick", width: 8, height: 18, "aria-hidden": "true" },
    s("path", { class: cls, d: `M3 ${top}V18`, "stroke-width": 3 }),
  );

/** A button that keeps the threshold at a goal while the world changes, until the slider is moved. */
function goalButton(lab, kind) {
  const text = h("span");
  const node = control(
    "button",
    { type: "button", onclick: () => lab.follow(lab.goal === kind ? null : kind) },
    icon(kind),
    text,
  );
  return { node, text };
}

function paintThreshold(lab) {
  const { hero, now, state, words, data, rows, unit } = lab;
  hero.input.max = rows.length - 1;
  hero.input.value = lab.index;
  const n = data.n_pos + data.n_neg;
  const flags =
    `flags ${count(now.flagged)} of ${count(n)} ${words.cases} (${percent(now.flagged / n)})` +
    (lab.wishes.budget > lab.index ? ", over the budget" : "");
  hero.input.setAttribute("aria-valuetext", `${score(now.threshold)}, ${flags}`);
  say(hero.title, score(now.threshold));
  say(hero.legend, flags);
  say(hero.goals.budget.text, `Review budget: ${count(state.budget)}`);
  say(hero.goals.cheapest.text, "Lowest cost");
  say(hero.goals.best_f.text, `Best F${state.beta}`);
  for (const [kind, goal] of Object.entries(hero.goals))
    goal.node.setAttribute("aria-pressed", String(lab.goal === kind));
  hero.world.hidden = state.prevalence === null;
  say(hero.world, `If ${percent(state.prevalence)} were ${words.positives}: `);
  say(hero.caught, `${count(now.tp)} ${words.tp}, `);
  say(hero.missed, `${count(now.fn)} ${words.fn}, `);
  say(hero.rest, `${count(now.fp)} ${words.fp}. ${verdict(now.cost, rows[lab.wishes.cheapest].cost, unit)}`);
}

function verdict(cost, least, unit) {
  const extra =
    cost > least
      ? `${money(cost - least, unit)} more than at the cheapest threshold`
      : "no threshold is cheaper";
  return `It costs ${money(cost, unit)}: ${extra}.`;
}

/** One tick for each row that adds positives: caught ones tall and blue, missed ones short and orange. */
function paintRug({ hero, data, index, width }) {
  const x = (i) => (THUMB / 2 + (i / (data.threshold.length - 1)) * (width - THUMB)).toFixed(1);
  let [caught, missed] = ["", ""];
  data.tp.forEach((tp, i) => {
    if (tp === (data.tp[i + 1] ?? 0)) return;
    if (i >= index) caught += `M${x(i)} 4V30`;
    else missed += `M${x(i)} 18V30`;
  });
  hero.rug.setAttribute("width", width);
  hero.rug.replaceChildren(
    s("path", { class: "dl-caught", d: caught }),
    s("path", { class: "dl-missed", d: missed }),
  );
}

function paintMarks({ hero, data, wishes: goals, width }) {
  const x = (i) => THUMB / 2 + (i / (data.threshold.length - 1)) * (width - THUMB);
  hero.marks.setAttribute("width", width);
  hero.marks.replaceChildren(...Object.entries(goals).map(([kind, i]) => SHAPES[kind](x(i), 10)));
}

// -------------------------------------------------------------------------------------------- controls

function controlsPart(lab) {
  const pick = (key) => (value) => lab.change({ [key]: value });
  const amounts = control("input", {
    type: "checkbox",
    onchange: () => lab.change({ use_amounts: amounts.checked }),
  });
  const reset = control(
    "button",
    { type: "button", onclick: () => lab.change({ prevalence: null }) },
    "as in the data",
  );
  const hints = { cost_fp: h("span"), cost_fn: h("span"), budget: h("span") };
  const amountsLabel = h("label", { class: "dl-check" }, amounts, " plus the amount");
  const sliders = {
    prevalence: slider("Prevalence", PREVALENCES, pick("prevalence"), [reset]),
    cost_fp: slider("Cost of a false alarm", COSTS, pick("cost_fp"), [hints.cost_fp]),
    cost_fn: slider("Cost of a miss", COSTS, pick("cost_fn"), [hints.cost_fn, amountsLabel]),
    budget: slider("Review budget", [1], pick("budget"), [hints.budget]),
    beta: slider("β of the F-score", BETAS, pick("beta"), ["above 1 favors recall"]),
  };
  const node = h(
    "section",
    { class: "dl-controls", "aria-label": "What if" },
    ...Object.values(sliders).map((c) => c.node),
  );
  return { node, sliders, amounts, amountsLabel, reset, hints };
}

function paintControls({ controls, state, data, words, unit }) {
  const { sliders, hints } = controls;
  const n = data.n_pos + data.n_neg;
  const real = data.n_pos / n;
  sliders.prevalence.set(state.prevalence ?? real, percent(state.prevalence ?? real));
  controls.reset.setAttribute("aria-pressed", String(state.prevalence === null));
  sliders.cost_fp.set(state.cost_fp, money(state.cost_fp, unit));
  sliders.cost_fn.set(state.cost_fn, money(state.cost_fn, unit));
  sliders.budget.set(state.budget, count(state.budget));
  sliders.beta.set(state.beta, String(state.beta));
  controls.amounts.checked = state.use_amounts;
  controls.amountsLabel.hidden = !data.has_amount;
  hints.cost_fn.hidden = data.has_amount;
  say(hints.cost_fp, words.fp);
  say(hints.cost_fn, words.fn);
  say(hints.budget, `${percent(state.budget / n)} of all ${words.cases}`);
}

// -------------------------------------------------------------------------------------------- the lab

/** The state of one view and its parts; `now` holds the numbers at the current threshold. */
class Lab {
  constructor(model, el) {
    this.model = model;
    this.state = Object.fromEntries(SETTINGS.map((key) => [key, model.get(key)]));
    this.words = model.get("words");
    this.unit = model.get("currency");
    this.goal = null;
    this.hero = thresholdPart(this);
    this.controls = controlsPart(this);
    this.matrix = matrix();
    this.meters = meters();
    this.charts = Object.fromEntries(Object.entries(CHARTS).map(([name, spec]) => [name, spec.make()]));
    for (const [name, spec] of Object.entries(CHARTS)) dragPoints(this.charts[name], spec, this);
    this.root = this.assemble();
    el.append(this.root);
  }

  assemble() {
    const id = newId();
    this.select = control("select", { id, onchange: () => this.pickDataset(this.select.value) });
    this.facts = h("span", { class: "dl-facts" });
    this.status = h("div", { class: "dl-hidden", role: "status", "aria-live": "polite" });
    return h(
      "div",
      { class: "decision-lab" },
      h(
        "div",
        { class: "dl-row dl-head" },
        h("h3", {}, "Decision lab"),
        this.facts,
        h("span", { class: "dl-data" }, h("label", { for: id }, "Data"), this.select),
      ),
      this.hero.node,
      h("div", { class: "dl-pair" }, this.matrix.node, this.meters.node),
      h("div", { class: "dl-charts" }, ...Object.values(this.charts).map((c) => c.node)),
      h("h4", { class: "dl-what-if" }, "What if the world were different?"),
      this.controls.node,
      this.status,
    );
  }

  get data() {
    return this.model.get("tables")[this.state.dataset];
  }

  /** A change made by the learner: show it now, tell Python soon. */
  change(patch) {
    Object.assign(this.state, patch);
    if ("threshold" in patch) this.goal = null;
    this.paint();
    this.send();
  }

  follow(goal) {
    this.goal = goal;
    this.change({});
  }

  /** Two models are compared at the same workload: as many cases flagged, not the same score. */
  pickDataset(dataset) {
    const rows = rowsOf(this.model.get("tables")[dataset], this.state);
    const { threshold } = rows[wishes(rows, this.now.flagged).budget];
    Object.assign(this.state, { dataset, threshold });
    this.paint();
    this.send();
  }

  /** What depends on the world but not on the threshold; kept until the world changes. */
  changeWorld() {
    const { threshold, ...world } = this.state;
    const key = JSON.stringify([world, this.width]);
    if (key === this.world) return false;
    this.world = key;
    this.rows = rowsOf(this.data, this.state);
    this.wishes = wishes(this.rows, this.state.budget);
    this.costTop = costTop(this.rows);
    return true;
  }

  paint() {
    if (this.width === undefined) return; // not laid out yet, for example in a folded cell
    const changed = this.changeWorld();
    if (this.goal !== null) this.state.threshold = this.data.threshold[this.wishes[this.goal]];
    this.index = rowOf(this.data, this.state.threshold);
    this.now = withIntervals(this.data, this.index, this.rows[this.index], this.state.prevalence);
    if (changed) this.paintWorld();
    paintThreshold(this);
    paintRug(this);
    paintMatrix(this);
    paintMeters(this);
    for (const [name, spec] of Object.entries(CHARTS)) paintPoints(this.charts[name], spec, this);
    this.publish();
  }

  paintWorld() {
    const { data, words } = this;
    say(
      this.facts,
      `${count(data.n_pos + data.n_neg)} ${words.cases}, ${count(data.n_pos)} ${words.positives}`,
    );
    this.paintDatasets();
    this.controls.sliders.budget.input.values = budgets(data.n_pos + data.n_neg);
    this.controls.sliders.budget.input.max = this.controls.sliders.budget.input.values.length - 1;
    paintControls(this);
    paintMarks(this);
    for (const [name, spec] of Object.entries(CHARTS)) spec.curves(this.charts[name], this);
  }

  paintDatasets() {
    const names = Object.keys(this.model.get("tables"));
    this.select.replaceChildren(...names.map((name) => h("option", { value: name }, name)));
    this.select.value = this.state.dataset;
  }

  /** The exact numbers, for whoever reads the page by program; the spoken summary waits until the slider rests. */
  publish() {
    const names = [
      "threshold",
      "tp",
      "fp",
      "fn",
      "tn",
      "precision",
      "precision_low",
      "precision_high",
      "recall",
      "recall_low",
      "recall_high",
      "f_beta",
      "cost",
    ];
    for (const name of names) this.root.dataset[name] = this.now[name];
    this.root.dataset.dataset = this.state.dataset;
    clearTimeout(this.speaking);
    this.speaking = setTimeout(() => say(this.status, this.hero.sentence.textContent), 600);
  }

  send() {
    this.sending ??= setTimeout(() => this.flush(), SYNC_MS);
  }

  flush() {
    clearTimeout(this.sending);
    this.sending = undefined;
    for (const key of SETTINGS) this.model.set(key, this.state[key]);
    this.model.save_changes();
  }

  /** A change made in Python, or in another view of the same lab. */
  receive(key) {
    const value = this.model.get(key);
    if (value === this.state[key]) return;
    this.state[key] = value;
    if (key === "threshold") this.goal = null;
    this.paint();
    if (this.goal !== null) this.send();
  }

  newTables() {
    this.world = null;
    this.paint();
  }

  resize() {
    const width = this.hero.input.clientWidth;
    if (width === 0 || width === this.width) return; // hidden, or only higher or lower than before
    this.width = width;
    for (const chart of Object.values(this.charts)) chart.width = chart.node.clientWidth;
    this.paint();
  }
}

function render({ model, el }) {
  const lab = new Lab(model, el);
  const listeners = [
    ...SETTINGS.map((key) => [`change:${key}`, () => lab.receive(key)]),
    ["change:tables", () => lab.newTables()],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);
  const observer = new ResizeObserver(() => lab.resize());
  observer.observe(lab.root);
  return () => {
    if (lab.sending !== undefined) lab.flush();
    clearTimeout(lab.speaking);
    observer.disconnect();
    for (const [event, listener] of listeners) model.off(event, listener);
  };
}

export default { render };
