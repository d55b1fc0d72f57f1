"""The sections of a notebook, the paths through them, and what teachers note about each."""

import csv
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from classroom.sections import (
    COLUMNS,
    PATHS,
    ClassroomError,
    Note,
    is_tagged,
    on_path,
    read_lesson,
    read_notes,
    sections,
    taught,
)
from notebooks.build import notebook_paths

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
TAUGHT = ("01", "02", "03", "04", "05")


def text(source, tagged=False):
    return new_markdown_cell(source, metadata={"tags": ["path-45"]} if tagged else {})


def code(source, tagged=False):
    return new_code_cell(source, metadata={"tags": ["path-45"]} if tagged else {})


def lesson():
    """A notebook with every turn that the real ones take."""
    return new_notebook(
        cells=[
            text("# The title\n\nThe question."),
            code("before = 1"),
            text("## 1.1 ◆ First\n\nOn the path.", tagged=True),
            code("a = 1", tagged=True),
            code("aside = 1"),
            text("An end.\n\n### Exercise 1: count\n\nHow many?", tagged=True),
            code("exercises.count.check(...)"),
            text("> Say it.", tagged=True),
            text("### Exercise 2: again\n\nHow many now?"),
            text("### More\n\n```\n## no heading\n```"),
            text("## 1.2 Second\n\nNot on the path."),
            text("### Lent\n\nTo the path.", tagged=True),
            code("b = 2", tagged=True),
            text(""),
            text("## Follow-ups\n\nOne.\n\n## Whiteboard so far\n\nTwo."),
        ]
    )


NOTES = [
    Note("1.1 ◆ First", "45", 30, "Ask."),
    Note("Exercise 1: count", "90", 20, "Ask."),
    Note("Exercise 2: again", "self", 5, "Ask."),
    Note("1.2 Second", "90", 25, "Ask."),
    Note("Follow-ups", "self", 5, "Ask."),
    Note("Whiteboard so far", "self", 5, "Ask."),
]


def sources(section):
    return [cell.source for cell in section.cells]


def test_a_notebook_is_cut_at_its_sections_and_exercises():
    found = sections(lesson())
    assert [section.title for section in found] == ["The title", *(note.section for note in NOTES)]
    assert [section.is_exercise for section in found] == [False, False, True, True, False, False, False]
    assert sources(found[0]) == ["# The title\n\nThe question.", "before = 1"]
    assert sources(found[2]) == ["### Exercise 1: count\n\nHow many?", "exercises.count.check(...)"]
    assert sources(found[5]) == ["## Follow-ups\n\nOne."]


def test_after_an_exercise_its_section_goes_on():
    assert sources(sections(lesson())[1]) == [
        "## 1.1 ◆ First\n\nOn the path.",
        "a = 1",
        "aside = 1",
        "An end.",
        "> Say it.",
        "### More\n\n```\n## no heading\n```",
    ]


def test_what_a_cell_announces_at_its_end_is_on_the_path_only_with_the_next_cell():
    found = {section.title: section for section in sections(lesson())}
    assert not is_tagged(found["Exercise 1: count"].cells[0])
    after = lesson()
    after.cells[6].metadata["tags"] = ["path-45"]
    assert is_tagged(sections(after)[2].cells[0])


def test_the_short_path_takes_tagged_cells_and_notes_only_its_own_sections():
    chosen = on_path(sections(lesson()), NOTES, "45")
    assert [(section.title, note) for section, note in chosen] == [
        ("The title", None),
        ("1.1 ◆ First", NOTES[0]),
        ("1.2 Second", None),
    ]
    assert [sources(section) for section, _ in chosen] == [
        ["# The title\n\nThe question."],
        ["## 1.1 ◆ First\n\nOn the path.", "a = 1", "An end.", "> Say it."],
        ["## 1.2 Second", "### Lent\n\nTo the path.", "b = 2"],
    ]


def test_the_long_path_takes_its_sections_whole():
    chosen = on_path(sections(lesson()), NOTES, "90")
    assert [note for _, note in chosen] == [None, NOTES[0], NOTES[1], NOTES[3]]
    assert "aside = 1" in sources(chosen[1][0])
    assert "before = 1" in sources(chosen[0][0])


# ---------------------------------------------------------------- the file of notes


def write(folder, *rows, head=COLUMNS):
    with (folder / "teaching.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *rows])
    return folder


def test_notes_are_read_by_notebook_in_their_order(tmp_path):
    notes = read_notes(write(tmp_path, ["01_a", "B", "45", "7", "Ask."], ["01_a", "A", "self", "2", "Tell."]))
    assert notes == {"01_a": [Note("B", "45", 7, "Ask."), Note("A", "self", 2, "Tell.")]}
    assert taught([Path("00_b.ipynb"), Path("01_a.ipynb")], notes) == [Path("01_a.ipynb")]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (["01_a", "A", "60", "7", "Ask."], "line 2: the path is '60'; write one of 45, 90, self."),
        (["01_a", "A", "45", "0", "Ask."], "the minutes are '0'; write a whole number from 1."),
        (["01_a", "A", "45", "1.5", "Ask."], "the minutes are '1.5'"),
        (["01_a", "A", "45", "7", ""], "the note is empty; write what to ask the class."),
    ],
)
def test_a_bad_row_is_refused_with_its_line(tmp_path, row, sentence):
    with pytest.raises(ClassroomError, match=sentence):
        read_notes(write(tmp_path, row))


def test_a_missing_file_and_a_wrong_head_are_refused(tmp_path):
    with pytest.raises(ClassroomError, match="this is a learner's copy"):
        read_notes(tmp_path)
    with pytest.raises(ClassroomError, match="must be notebook,section,path,minutes,note"):
        read_notes(write(tmp_path, head=["notebook", "section"]))


@pytest.mark.parametrize(
    ("titles", "sentence"),
    [
        (["A", "X"], "section 2 of the notebook is 'B', in the file it is 'X'"),
        (["A"], "section 2 of the notebook is 'B', in the file it is missing"),
        (["A", "B", "C"], "section 3 of the notebook is missing, in the file it is 'C'"),
        ([], "section 1 of the notebook is 'A', in the file it is missing"),
    ],
)
def test_the_first_difference_between_notes_and_notebook_is_named(tmp_path, titles, sentence):
    path = tmp_path / "01_a.ipynb"
    nbformat.write(new_notebook(cells=[text("# T"), text("## A"), text("## B")]), path)
    notes = {"01_a": [Note(title, "45", 1, "Ask.") for title in titles]}
    with pytest.raises(ClassroomError, match=sentence):
        read_lesson(path, notes)
    notes = {"01_a": [Note(title, "45", 1, "Ask.") for title in "AB"]}
    assert [section.title for section in read_lesson(path, notes)[0]] == ["T", "A", "B"]


# ---------------------------------------------------------------- the notes of this project


@pytest.mark.parametrize(
    "path", [p for p in notebook_paths(NOTEBOOKS) if p.name[:2] in TAUGHT], ids=lambda path: path.stem
)
def test_each_section_has_a_note_and_the_minutes_of_a_path_fill_its_lesson(path):
    found, notes = read_lesson(path, read_notes(NOTEBOOKS))
    assert [note.section for note in notes if note.path == "45"] == [
        section.title for section in found[1:] if is_tagged(section.cells[0])
    ]
    for name, marks in PATHS.items():
        assert sum(note.minutes for note in notes if note.path in marks) == int(name)


def test_every_note_is_short_and_belongs_to_one_section():
    notes = [note.note for lesson in read_notes(NOTEBOOKS).values() for note in lesson]
    assert len(set(notes)) == len(notes)
    assert [note for note in notes if not 12 <= len(note.split()) <= 60] == []
    assert [note for note in notes if not note.endswith((".", "?"))] == []
