"""The sections of a notebook, what a teacher notes about each, and which of them a path goes through.

A section is a heading of level 2, or an exercise, with all that follows up to the next of them. A path is
"45" or "90", in minutes of a lesson; the second contains the first.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell

PATHS = {"45": {"45"}, "90": {"45", "90"}}  # a path, and how the sections are marked that it goes through
MARKS = ("45", "90", "self")  # self: for reading alone
TAG = "path-45"
NOTES = "teaching.csv"
COLUMNS = ["notebook", "section", "path", "minutes", "note"]
HEADING = re.compile(r"^(#{1,6}) (.+)$")
EXERCISE = re.compile(r"Exercise \d+: ")


class ClassroomError(Exception):
    """Something cannot be made; the message names the reason and the repair."""


@dataclass
class Section:
    """A heading without its marks, and the cells below it; the first begins with the heading itself."""

    title: str
    cells: list[NotebookNode] = field(default_factory=list)

    @property
    def is_exercise(self) -> bool:
        """Whether the section asks for an answer that is checked."""
        return bool(EXERCISE.match(self.title))


@dataclass(frozen=True)
class Note:
    """What a teacher needs for one section; `path` is one of MARKS."""

    section: str
    path: str
    minutes: int
    note: str


# ---------------------------------------------------------------- sections


def sections(notebook: NotebookNode) -> list[Section]:
    """Return the sections of a notebook in order; the first is its title, with what precedes the others.

    A heading inside a cell cuts the cell. An exercise interrupts its section: a heading of level 3 goes back
    to that section, and so does a cell of the path of 45 minutes when the exercise is not on it.
    """
    found: list[Section] = []
    parent = current = Section("")
    following = [*map(is_tagged, notebook.cells[1:]), False]
    for cell, next_tagged in zip(notebook.cells, following, strict=True):
        for piece in pieces(cell, next_tagged):
            level, title = heading(piece)
            if level in (1, 2):
                parent = current = Section(title)
                found.append(current)
            elif level == 3 and EXERCISE.match(title):
                current = Section(title)
                found.append(current)
            elif level == 3 or (is_tagged(piece) and not is_tagged(current.cells[0])):
                current = parent
            current.cells.append(piece)
    return found


def pieces(cell: NotebookNode, next_tagged: bool) -> list[NotebookNode]:
    """Return a cell cut before each of its headings; a code cell stays whole.

    What a heading inside the cell announces is on the path of 45 minutes only if the next cell is, too.
    """
    if cell.cell_type != "markdown":
        return [cell]
    blocks: list[list[str]] = [[]]
    fenced = False
    for line in cell.source.split("\n"):
        fenced ^= line.startswith("```")
        if HEADING.match(line) and not fenced:
            blocks.append([])
        blocks[-1].append(line)
    texts = [text for block in blocks if (text := "\n".join(block).strip())]
    tags = [cell.metadata, *[cell.metadata if next_tagged else {}] * len(texts)]
    return [new_markdown_cell(text, metadata=tag) for text, tag in zip(texts, tags, strict=False)]


def heading(piece: NotebookNode) -> tuple[int, str]:
    """Return the level and the text of the heading that a piece begins with; 0 and "" without one."""
    found = HEADING.match(piece.source.partition("\n")[0]) if piece.cell_type == "markdown" else None
    return (len(found[1]), found[2].strip()) if found else (0, "")


def is_tagged(cell: NotebookNode) -> bool:
    """Tell whether a cell is on the path of 45 minutes."""
    return TAG in cell.metadata.get("tags", [])


def on_path(found: Sequence[Section], notes: Sequence[Note], path: str) -> list[tuple[Section, Note | None]]:
    """Return the sections of a path, each with its note; the first is the title of the notebook, without one.

    The path of 90 minutes takes its sections whole. Otherwise the tagged cells count, below their heading;
    a section that only lends cells to the path has no note.
    """
    chosen = []
    for section, note in zip(found, [None, *notes], strict=True):
        is_chosen = note is None or note.path in PATHS[path]
        head, *rest = section.cells
        if is_chosen and path == "90":
            chosen.append((section, note))
        elif is_chosen or any(map(is_tagged, rest)):
            if not is_chosen:
                head = new_markdown_cell(head.source.partition("\n")[0])
            cells = [head, *filter(is_tagged, rest)]
            chosen.append((Section(section.title, cells), note if is_chosen else None))
    return chosen


# ---------------------------------------------------------------- notes


def read_notes(folder: Path) -> dict[str, list[Note]]:
    """Return the notes of each notebook, by its name without ending, in the order of the file.

    Raises ClassroomError when the file is missing or a row is not what it should be.
    """
    path = folder / NOTES
    if not path.exists():
        raise ClassroomError(
            f"{folder.name}/{NOTES} is missing: this is a learner's copy. Teachers use the full project."
        )
    notes: dict[str, list[Note]] = {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != COLUMNS:
            raise ClassroomError(f"The first line of {NOTES} must be {','.join(COLUMNS)}.")
        for row in reader:
            notes.setdefault(row["notebook"], []).append(_note(row, reader.line_num))
    return notes


def _note(row: dict[str, str], line: int) -> Note:
    where = f"{NOTES}, line {line}: "
    if row["path"] not in MARKS:
        raise ClassroomError(f"{where}the path is {row['path']!r}; write one of {', '.join(MARKS)}.")
    if not row["minutes"].isdecimal() or int(row["minutes"]) == 0:
        raise ClassroomError(f"{where}the minutes are {row['minutes']!r}; write a whole number from 1.")
    if not row["note"]:
        raise ClassroomError(f"{where}the note is empty; write what to ask the class.")
    return Note(row["section"], row["path"], int(row["minutes"]), row["note"])


def taught(notebooks: Sequence[Path], notes: dict[str, list[Note]]) -> list[Path]:
    """Return the notebooks that have notes; the others are for learning alone."""
    return [path for path in notebooks if path.stem in notes]


def read_lesson(path: Path, notes: dict[str, list[Note]]) -> tuple[list[Section], list[Note]]:
    """Return the sections of a notebook, and a note for each but the title, in the same order.

    Raises ClassroomError that names the first heading where the two disagree.
    """
    found, noted = sections(nbformat.read(path, as_version=4)), notes.get(path.stem, [])
    titles, rows = [section.title for section in found[1:]], [note.section for note in noted]
    if titles != rows:
        number = next((i for i, pair in enumerate(zip(titles, rows, strict=False)) if pair[0] != pair[1]), -1)
        number = min(len(titles), len(rows)) if number < 0 else number
        raise ClassroomError(
            f"{NOTES} and {path.name} differ: section {number + 1} of the notebook is "
            f"{_at(titles, number)}, in the file it is {_at(rows, number)}. One row a section, in its order."
        )
    return found, noted


def _at(titles: list[str], number: int) -> str:
    return repr(titles[number]) if number < len(titles) else "missing"
