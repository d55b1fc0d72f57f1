// The panel of the outlines. Python computes the page; the browser shows it, copies it and saves it.

const LABELS = { system: "System", scale: "Scale", p99_ms: "p99, ms", seniority: "Level" };

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function save(name, bytes) {
  const url = URL.createObjectURL(new Blob([bytes], { type: "application/pdf" }));
  h("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}

function render({ model, el }) {
  // JupyterLab takes keys for its commands, unless the focused element asks.
  const keys = { "data-lm-suppress-shortcuts": "true" };
  const status = h("p", { class: "op-status", "aria-live": "polite" });
  const picture = h("img");
  const large = h("a", { target: "_blank", title: "open in full size", ...keys }, picture);
  const text = h("textarea", { readonly: "", rows: "16", "aria-label": "the page as Markdown", ...keys });
  const asText = h("details", {}, h("summary", {}, "The page as Markdown"), text);

  const menu = (name) => {
    const options = model.get("menus")[name].map((value, at) => h("option", { value: String(at) }, String(value)));
    const choose = () => {
      status.textContent = "Computing the page …";
      model.set(name, model.get("menus")[name][Number(select.value)]);
      model.save_changes();
    };
    const select = h("select", { onchange: choose, ...keys }, ...options);
    const follow = () => (select.value = String(model.get("menus")[name].indexOf(model.get(name))));
    follow();
    return { name, follow, node: h("label", {}, LABELS[name], select) };
  };
  const menus = Object.keys(LABELS).map(menu);

  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text.value);
      status.textContent = "Copied.";
    } catch {
      asText.open = true;
      text.select();
      status.textContent = "The browser does not let a page copy here: the text is selected, press Ctrl-C.";
    }
  };
  const toSave = () => {
    status.textContent = "Drawing the page …";
    model.send("page");
  };
  const buttons = [
    h("button", { type: "button", onclick: copy, ...keys }, "Copy as Markdown"),
    h("button", { type: "button", onclick: toSave, ...keys }, "Save as PDF, to print"),
  ];

  const show = () => {
    const { picture: svg, alt, markdown, error } = model.get("view");
    status.textContent = error ?? "";
    for (const node of [large, asText]) node.hidden = Boolean(error);
    for (const button of buttons) button.disabled = Boolean(error);
    if (error) return;
    URL.revokeObjectURL(large.href);
    large.href = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    picture.src = large.href;
    picture.alt = alt;
    text.value = markdown;
  };
  const receive = ({ name }, [page]) => {
    save(name, page);
    status.textContent = `Saved as ${name}.`;
  };

  el.replaceChildren(
    h(
      "div",
      { class: "design-panel outline-panel" },
      h("div", { class: "design-row" }, ...menus.map((one) => one.node), ...buttons),
      status,
      large,
      asText,
    ),
  );
  const listeners = [
    ...menus.map((one) => [`change:${one.name}`, one.follow]),
    ["change:view", show],
    ["msg:custom", receive],
  ];
  for (const [event, listener] of listeners) model.on(event, listener);
  show();
  return () => {
    listeners.forEach(([event, listener]) => model.off(event, listener));
    URL.revokeObjectURL(large.href);
  };
}

export default { render };
