"""Where the notebooks teach a concept: links into their sections, from notebooks/concepts.csv."""

import json
import re
from functools import cache
from pathlib import Path

import pandas as pd

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


@cache
def concepts() -> pd.DataFrame:
    """Return the concepts: index concept_id; columns step, priority, concept, notebook, section, exercise."""
    path = NOTEBOOKS / "concepts.csv"
    return pd.read_csv(path, dtype=str, keep_default_na=False).set_index("concept_id")


def section_link(concept_id: str) -> str:
    """Return a Markdown link, from one notebook to another, to the section that teaches a concept.

    It points at the cell that holds the heading: JupyterLab draws cells as they come into view, so it finds a
    cell by its id where it would not find a heading, and nbconvert writes the same ids into a page.
    Raises ValueError for an unknown concept.
    """
    if concept_id not in concepts().index:
        raise ValueError(f"There is no concept {concept_id!r}: look it up in notebooks/concepts.csv.")
    row = concepts().loc[concept_id]
    cell = _cells_of_headings(row.notebook)[row.section]
    return f"[{row.section}]({row.notebook}.ipynb#cell-id={cell})"


@cache
def _cells_of_headings(notebook: str) -> dict[str, str]:
    """The headings of a notebook, each with the id of its cell."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_bytes())["cells"]
    return {
        heading: cell["id"]
        for cell in cells
        if cell["cell_type"] == "markdown"
        for heading in re.findall(r"^#+ (.+)$", "".join(cell["source"]), re.MULTILINE)
    }
