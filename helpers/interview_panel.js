// The panel of the mock interview. Python keeps the interview; the browser lets its clock tick and sends clicks.

const TICK_MS = 500;

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const clockText = (seconds) => {
  const whole = Math.floor(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
};

function table(rows) {
  if (rows.length === 0) return "";
  const head = h("tr", {}, ...["what changes", "before", "after"].map((text) => h("th", { scope: "col" }, text)));
  const body = rows.map((row) => h("tr", {}, ...row.map((text) => h("td", {}, text))));
  return h("table", {}, h("thead", {}, head), h("tbody", {}, ...body));
}

function render({ model, el }) {
  let seen = performance.now();
  let number = 0;

  const clock = h("span", { class: "ip-clock", role: "timer" });
  const progress = h("progress", { "aria-label": "minutes gone" });
  const phase = h("p", { class: "ip-phase", "aria-live": "polite" });
  const board = h("p", { class: "ip-soft" });
  const said = h("div", { class: "ip-said", "aria-live": "polite" });
  // JupyterLab takes keys for its commands, unless the focused element asks.
  const keys = { "data-lm-suppress-shortcuts": "true" };
  const select = h("select", { "aria-label": "question to ask", ...keys });
  const wish = (what, key = "") => {
    model.set("wish", { do: what, key, number: `${Date.now()}-${(number += 1)}` });
    model.save_changes();
  };
  const button = (text, act) => h("button", { type: "button", onclick: act, ...keys }, text);
  const run = button("Start", () => wish({ ready: "start", running: "pause", paused: "resume" }[model.get("view").state]));
  const ask = button("Ask", () => wish("ask", select.value));
  const surprise = button("Surprise", () => wish("surprise"));
  const followUp = button("Follow-up", () => wish("follow up"));
  const title = h("h3");

  const tick = () => {
    const view = model.get("view");
    const gone = view.state === "running" ? (performance.now() - seen) / 1000 : 0;
    const minutes = (view.seconds + gone) / 60;
    clock.textContent = `${clockText(view.seconds + gone)} of ${view.length}:00`;
    progress.max = view.length;
    progress.value = Math.min(minutes, view.length);
    const now = view.phases.find((one) => minutes < one.ends) ?? view.phases.at(-1);
    const text = minutes < view.length ? `${now.name}, until minute ${now.ends}` : "time is up: call .report()";
    if (phase.textContent !== text) phase.textContent = text; // spoken only when it changes
    board.textContent = `On the board: ${now.board}. Common failure: ${now.failure}.`;
    surprise.classList.toggle("ip-due", minutes >= view.surprise_at);
  };
  const show = () => {
    const view = model.get("view");
    seen = performance.now();
    title.textContent = `Design: ${view.title}`;
    const chosen = select.value;
    select.replaceChildren(
      ...view.questions.map(([key, text, asked]) => h("option", { value: key }, asked ? `✓ ${text}` : text)),
    );
    if (chosen) select.value = chosen;
    run.textContent = { ready: "Start", running: "Pause", paused: "Resume" }[view.state];
    for (const one of [ask, surprise, followUp]) one.disabled = view.state !== "running";
    ask.textContent = `Ask (${view.left} left)`;
    said.replaceChildren(...view.said.map((line) => h("p", {}, line)), table(view.changed));
    tick();
  };

  el.replaceChildren(
    h(
      "div",
      { class: "design-panel interview-panel" },
      h("div", { class: "design-row" }, title, clock, run),
      progress,
      phase,
      board,
      h("div", { class: "design-row" }, select, ask, surprise, followUp),
      said,
    ),
  );
  model.on("change:view", show);
  const ticking = setInterval(tick, TICK_MS);
  show();
  return () => {
    clearInterval(ticking);
    model.off("change:view", show);
  };
}

export default { render };
