"""Slides from the notebooks: the sections of a path, each a stack of slides, with notes for the speaker.

static/slides.js spreads a section over as many slides as it needs, in the browser, where heights are known.
"""

import re
from collections.abc import Sequence
from copy import deepcopy
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory

from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook

from classroom.rendering import PROJECT, STATIC, render, replacing, write_source
from classroom.sections import Note, Section, heading, on_path, read_lesson
from helpers.exercises import Verdict
from notebooks.build import METADATA

WIDTH, HEIGHT = 1280, 720
UNANSWERED = re.compile(rf"\AYou made no guess\. |\A\*\*{Verdict.NOT_ATTEMPTED.value}.*", re.DOTALL)
GUESS = "guess"  # slides.js lets the answer wait for a key
SETTINGS = {
    "extensions": ["sphinx_revealjs"],
    "revealjs_static_path": [str(STATIC)],
    "revealjs_style_theme": "white",
    "revealjs_css_files": ["pygments.css", "slides.css"],
    "revealjs_script_files": ["slides.js"],
    "revealjs_script_plugins": [
        {"name": "RevealNotes", "src": "revealjs/plugin/notes/notes.js"},
        {"name": "RevealSearch", "src": "revealjs/plugin/search/search.js"},
    ],
    "revealjs_script_conf": {
        "width": WIDTH,
        "height": HEIGHT,
        "margin": 0,
        "center": False,
        "hash": True,
        "slideNumber": "c/t",
        "navigationMode": "linear",  # the arrows to the right go through every slide
        "transition": "none",
        "controlsTutorial": False,
        "pdfSeparateFragments": False,
    },
    "pygments_style": "a11y-high-contrast-light",
}


def build_slides(
    target: Path, notebooks: Sequence[Path], paths: Sequence[str], notes: dict[str, list[Note]]
) -> None:
    """Build the slides of each notebook for each path, and a list of them; replaces `target` when done."""
    with TemporaryDirectory() as folder, replacing(target) as part:
        links = []
        for notebook in notebooks:
            lesson = read_lesson(notebook, notes)
            for path in paths:
                name = f"{notebook.stem}-{path}"
                write_source(Path(folder, f"{name}.ipynb"), slide_notebook(on_path(*lesson, path)))
                links.append(f"- [{lesson[0][0].title}: {path} minutes]({name}.ipynb)")
        Path(folder, "index.md").write_text("\n".join([f"# {PROJECT}", "", *links, ""]), encoding="utf-8")
        render(Path(folder), part, "revealjs", SETTINGS)


def slide_notebook(chosen: Sequence[tuple[Section, Note | None]]) -> NotebookNode:
    """Return the notebook that Sphinx turns into slides: a heading of level 2 begins a new stack."""
    cells, begins, noted = [], 0, [note for _, note in chosen if note]
    for number, (section, note) in enumerate(chosen):
        first, *rest = section.cells
        if "\n" not in first.source.strip():  # a heading whose text is on another path
            if not rest:
                continue
            if heading(rest[0])[0] == 3:
                first, *rest = rest
        cells.append(new_markdown_cell(on_top(first.source)))
        if said := spoken(note, begins) if note else "" if number else plan(noted):
            cells.append(new_markdown_cell(f"```{{revealjs-notes}}\n{said}\n```"))
        begins += note.minutes if note else 0
        cells.extend(map(for_class, rest))
    return new_notebook(cells=cells, metadata=METADATA)


def on_top(source: str) -> str:
    """Return a text that begins with the heading of a section, raised to level 2, without the mark."""
    head, newline, body = source.partition("\n")
    marks, title = head.split(" ", 1)
    level = "##" if len(marks) > 1 else marks
    return f"{level} {title.replace('◆ ', '')}{newline}{body}"


def for_class(cell: NotebookNode) -> NotebookNode:
    """Return a copy of a cell without what the committed outputs say to a learner who has not answered yet.

    A cell that compares a guess with what was measured is tagged, so that its answer waits for a key.
    """
    cell = deepcopy(cell)
    if "reveal(" in cell.source:
        cell.metadata["tags"] = [GUESS]
    for output in list(cell.get("outputs", [])):
        if text := output.get("data", {}).get("text/markdown"):
            output.data["text/markdown"] = UNANSWERED.sub("", text)
            if not output.data["text/markdown"]:
                cell.outputs.remove(output)
    return cell


def spoken(note: Note, begins: int) -> str:
    """Return what the speaker's window shows for a section that begins at a minute."""
    return f"From minute {begins}, {note.minutes} minute{'s' * (note.minutes > 1)}. {note.note}"


def plan(notes: Sequence[Note]) -> str:
    """Return the plan of the minutes, for the speaker's window of the first slide."""
    titles = [*(note.section for note in notes), "the end"]
    begins = accumulate((note.minutes for note in notes), initial=0)
    return "\n".join(f"- minute {at}: {title}" for at, title in zip(begins, titles, strict=True))
