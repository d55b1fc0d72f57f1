"""Every concept has a link, and the link leads to the cell that holds its heading."""

import re

import nbformat
import pytest

from helpers.sections import NOTEBOOKS, concepts, section_link


@pytest.mark.parametrize("concept_id", list(concepts().index))
def test_a_link_leads_to_the_cell_with_the_heading(concept_id):
    text, name, cell_id = re.fullmatch(r"\[(.+)\]\((.+)#cell-id=(.+)\)", section_link(concept_id)).groups()
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    (cell,) = [cell for cell in cells if cell.id == cell_id]
    assert text == concepts().loc[concept_id].section
    assert re.search(rf"^#+ {re.escape(text)}$", cell.source, re.MULTILINE)


def test_a_link_has_no_character_that_would_end_it():
    targets = [section_link(name).partition("](")[2][:-1] for name in concepts().index]
    assert [target for target in targets if not re.fullmatch(r"[\w.#=-]+", target, re.ASCII)] == []


def test_an_unknown_concept_is_refused():
    with pytest.raises(ValueError, match=r"no concept '9\.9'"):
        section_link("9.9")
