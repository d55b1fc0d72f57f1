"""The list of concepts points at sections and exercises that exist."""

import importlib
import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
CONCEPTS = pd.read_csv(NOTEBOOKS / "concepts.csv", dtype=str, keep_default_na=False)


def headings(notebook):
    """The headings of a notebook, without their marks."""
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    return re.findall(r"^#+ (.+)$", text, re.MULTILINE)


def exercises(notebook):
    """The exercises module of a notebook, which has its name without the number."""
    return importlib.import_module(f"helpers.exercises.{notebook.partition('_')[2]}")


@pytest.mark.parametrize("concept", list(CONCEPTS.itertuples()), ids=lambda c: c.concept_id)
def test_a_concept_points_at_a_section_and_an_exercise_that_exist(concept):
    assert concept.section in headings(concept.notebook)
    assert not concept.exercise or getattr(exercises(concept.notebook), concept.exercise).hints


def test_each_concept_stands_once_with_a_known_priority():
    assert CONCEPTS.concept_id.is_unique
    assert set(CONCEPTS.priority) <= {"M", "S", "B"}
    assert (CONCEPTS.concept_id.str.partition(".")[0] == CONCEPTS.step).all()


@pytest.mark.parametrize("notebook", sorted(set(CONCEPTS.notebook)))
def test_every_exercise_is_asked_in_its_notebook_and_numbered_in_order(notebook):
    cells = nbformat.read(NOTEBOOKS / f"{notebook}.ipynb", as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    asked = re.findall(r"exercises\.(\w+)\.check\(", code)
    module = exercises(notebook)
    assert [getattr(module, name) for name in asked] == list(module.ALL)
    numbers = [int(n) for heading in headings(notebook) for n in re.findall(r"^Exercise (\d+):", heading)]
    assert numbers == list(range(1, len(module.ALL) + 1))
