// Whoever comes from the search sees the first place that was found.
addEventListener("load", () => {
  if (!location.hash) document.querySelector("article .highlighted")?.scrollIntoView({ block: "center" });
});

// What scrolls sideways must be reached by keyboard too.
addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll("pre, .output.text_html, .table-wrapper")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});
