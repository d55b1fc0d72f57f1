"""The teacher's handbook on paper: the minutes of each path, the notes, and the answers to all exercises."""

import html
import importlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from docutils.core import publish_string
from docutils.writers.html5_polyglot import Writer
from myst_parser.docutils_ import Parser

from classroom.rendering import STATIC
from classroom.sections import MARKS, PATHS, Note, Section, read_lesson
from helpers.exercises import Exercise

SETTINGS = {
    "halt_level": 2,  # a warning is an error
    "report_level": 2,
    "embed_stylesheet": True,
    "stylesheet_path": str(STATIC / "handbook.css"),
    "myst_enable_extensions": ["dollarmath"],
    "math_output": "MathML",
    "syntax_highlight": "none",
    "output_encoding": "unicode",
    "language_code": "en",
}
WHEN = dict(zip(MARKS, ("45 and 90 minutes", "90 minutes", "alone"), strict=True))


def build_handbook(notebooks: Sequence[Path], notes: dict[str, list[Note]]) -> str:
    """Return the handbook of these notebooks as one page of HTML that needs no other file."""
    lessons = {path.stem: read_lesson(path, notes) for path in notebooks}
    contents = "\n".join(f"- [{found[0].title}](#{name})" for name, (found, _) in lessons.items())
    chapters = [chapter(name, *lesson) for name, lesson in lessons.items()]
    text = "\n\n".join(["# Handbook for teachers", INTRODUCTION, contents, *chapters])
    return publish_string(text, parser=Parser(), writer=Writer(), settings_overrides=SETTINGS)


INTRODUCTION = """\
Each notebook has a path of 45 minutes (in the notebook: sections marked ◆) and one of 90, which adds what the
tables give only there. Sections without a time are for reading alone. Below each table stand the notes: what
to ask the class, the usual wrong answer, and how to catch it; with every exercise, its answer."""


def chapter(name: str, found: Sequence[Section], notes: Sequence[Note]) -> str:
    """Return the chapter of a notebook in Markdown."""
    title, *rest = found
    parts = [f"({name})=\n## {title.title}", timetable(name, notes)]
    for number, (section, note) in enumerate(zip(rest, notes, strict=True), 1):
        parts += [
            f"({name}-{number})=\n### {section.title}",
            f"*{WHEN[note.path]}: {note.minutes} min.* {note.note}",
        ]
        if section.is_exercise:
            parts += answer_key(exercise_of(name, section))
    return "\n\n".join(parts)


def timetable(name: str, notes: Sequence[Note]) -> str:
    """Return a table of the sections: at which minute each begins on each path, and how long it takes.

    Each is a link to its note; name: of the notebook.
    """
    head = ["Section", *(f"in {path}: from" for path in PATHS), "minutes"]
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    begins = dict.fromkeys(PATHS, 0)
    for number, note in enumerate(notes, 1):
        title = note.section.replace("|", r"\|")
        row = [f"[{title}](#{name}-{number})"]
        for path, marks in PATHS.items():
            row.append(str(begins[path]) if note.path in marks else "")
            begins[path] += note.minutes * (note.path in marks)
        rows.append([*row, str(note.minutes)])
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def exercise_of(notebook: str, section: Section) -> Exercise:
    """Return the exercise that a section checks; the module of exercises has the notebook's name."""
    module = importlib.import_module(f"helpers.exercises.{notebook.partition('_')[2]}")
    code = "\n".join(cell.source for cell in section.cells if cell.cell_type == "code")
    return getattr(module, re.search(r"exercises\.(\w+)\.check\(", code)[1])


def answer_key(exercise: Exercise) -> Iterator[str]:
    """Yield one solution, the reason behind it, and the mistakes that the checker names."""
    yield f"```python\n{exercise.solution_code.strip()}\n```"
    yield exercise.reason
    if exercise.mistakes:
        yield "\n".join(f"- *{html.escape(m.name)}*: {m.message}" for m in exercise.mistakes)
