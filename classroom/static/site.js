// Whoever comes from the search sees the first place that was found; Sphinx marks it a moment after loading.
addEventListener("load", () => setTimeout(() => {
  if (!location.hash) document.querySelector("article .highlighted")?.scrollIntoView({ block: "center" });
}, 200));

// What scrolls sideways must be reached by keyboard too.
addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll("pre, .output.text_html, .table-wrapper")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});
