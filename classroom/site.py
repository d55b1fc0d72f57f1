"""The static site of the series: every notebook with its outputs, navigation and search, without a server."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory

import nbformat
from nbformat import NotebookNode

from classroom.rendering import PROJECT, render, replacing, write_source
from notebooks.build import notebook_paths

SETTINGS = {
    "html_theme": "furo",
    "html_title": PROJECT,
    "html_css_files": ["site.css"],
    "html_js_files": ["site.js"],
    "html_show_sourcelink": False,
    "html_use_index": False,
    "html_show_search_summary": False,  # it would read whole pages, which needs a server
}
CELL_LINK = re.compile(r"\(([\w.-]+)\.ipynb#cell-id=([\w-]+)\)")  # as `helpers.sections` writes it
FIRST_HEADING = re.compile(r"^(?=#+ )", re.MULTILINE)


def build_site(root: Path, target: Path) -> None:
    """Build the site of the project in `root`; it replaces `target` once it is complete."""
    with TemporaryDirectory() as folder, replacing(target) as part:
        sources, paths = Path(folder), notebook_paths(root / "notebooks")
        for path in paths:
            write_source(sources / path.name, with_labels(nbformat.read(path, as_version=4), path.stem))
        readme = (root / "README.md").read_text(encoding="utf-8")
        (sources / "index.md").write_text(front_page(readme, [p.stem for p in paths]), encoding="utf-8")
        render(sources, part, "html", SETTINGS)


def with_labels(notebook: NotebookNode, name: str) -> NotebookNode:
    """Label the first heading of each cell, and turn links to a cell, in outputs, into links to its label."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            cell.source = FIRST_HEADING.sub(f"({name}-{cell.id})=\n", cell.source, count=1)
        for output in cell.get("outputs", []):
            if text := output.get("data", {}).get("text/markdown"):
                output.data["text/markdown"] = CELL_LINK.sub(r"(#\1-\2)", text)
    return notebook


def front_page(readme: str, names: list[str]) -> str:
    """Return the first page: the title and first paragraph of README.md, and the list of notebooks."""
    title, paragraph = readme.split("\n\n")[:2]
    entries = "\n".join(names)
    return f"{title}\n\n{paragraph}\n\n```{{toctree}}\n:maxdepth: 2\n\n{entries}\n```\n"
