"""What the classroom builds from notebooks: pages, slides, the handbook, the folder of a class."""

import importlib
import re
import shutil
import subprocess
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

pytest.importorskip("sphinx_revealjs", reason="These tests need: python start.py test --with classroom")

from classroom import classes, handbook, rendering, site, slides
from classroom.__main__ import main
from classroom.sections import ClassroomError, Note, Section, read_notes
from helpers.exercises import model
from notebooks.build import METADATA, notebook_paths

# sphinx-revealjs uses what Sphinx 11 will remove; pyproject.toml stays below it.
pytestmark = pytest.mark.filterwarnings("ignore:.*Check CHANGES for Sphinx API modifications")
ROOT = Path(__file__).parents[1]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
FINDING = "Recall falls from most to half while precision rises."
GUESS = (
    "You made no guess. Measured: the share is **0.5**.",
    "**Not attempted yet: choose the rung.** Replace it.",
)
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def figure(alt=FINDING):
    return new_output("display_data", {"image/png": PIXEL}, metadata={"image/png": {"alt": alt}})


def says(sentence):
    return new_output("display_data", {"text/markdown": sentence, "text/plain": "<Markdown object>"})


def notebook(*extra):
    tagged = {"tags": ["path-45"]}
    return new_notebook(
        cells=[
            new_markdown_cell("# 4 · The model\n\nWhich?"),
            new_markdown_cell("## 4.1 ◆ Ladder\n\nA formula: $\\sqrt{2C}$.", metadata=tagged),
            new_code_cell("reveal(guess, 0.5)", metadata=tagged, outputs=[says(GUESS[0]), figure()]),
            new_markdown_cell("### Exercise 1: choose the rung\n\nChoose."),
            new_code_cell("exercises.ladder_choice.check(my_rungs)", outputs=[says(GUESS[1])]),
            *extra,
        ],
        metadata=METADATA,
    )


NOTES = "notebook,section,path,minutes,note\n04_model,4.1 ◆ Ladder,45,45,Ask who wins.\n"
NOTES += "04_model,Exercise 1: choose the rung,90,45,Ask why.\n"


@pytest.fixture
def project(tmp_path):
    """A clone of a small project, with one notebook and its notes."""
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    nbformat.write(notebook(), root / "notebooks" / "04_model.ipynb")
    (root / "notebooks" / "teaching.csv").write_text(NOTES, encoding="utf-8")
    (root / "README.md").write_text("# A project\n\nWhat it is.\n\n## More\n", encoding="utf-8")
    (root / "start.py").touch()
    for folder in ("tests", ".ci"):
        (root / folder).mkdir()
    (root / "tests" / "test_classroom.py").touch()
    (root / ".ci" / "run").touch()
    (root / ".gitignore").write_text("build/\n")
    return root


def commit(root):
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "All"]):
        subprocess.run([*git, *command], cwd=root, check=True)


# ---------------------------------------------------------------- the site


def test_the_site_keeps_alt_text_and_draws_formulas_without_a_script(project):
    target = project / "build" / "site"
    assert main(["site"], project) == 0
    page = (target / "04_model.html").read_text(encoding="utf-8")
    assert f'alt="{FINDING}"' in page
    assert "<msqrt>" in page
    assert "MathJax" not in page
    front = (target / "index.html").read_text(encoding="utf-8")
    assert "What it is." in front
    assert "More" not in front
    assert "4.1 ◆ Ladder" in front


def test_a_fault_of_a_page_is_an_error_and_the_old_site_stays(project, capsys):
    old = project / "build" / "site"
    old.mkdir(parents=True)
    (old / "index.html").write_text("old")
    broken = notebook(new_markdown_cell("[gone](nowhere.md)"))
    nbformat.write(broken, project / "notebooks" / "04_model.ipynb")
    assert main(["site"], project) == 1
    assert "cross-reference target not found: 'nowhere.md'" in capsys.readouterr().err
    assert (old / "index.html").read_text() == "old"
    assert list(old.parent.iterdir()) == [old]


def test_two_figures_in_one_cell_are_refused_since_alt_text_belongs_to_a_cell(tmp_path):
    cell = new_code_cell("show_both()", outputs=[figure(), figure("Another finding.")])
    with pytest.raises(ClassroomError, match=r"shows 2 figures.*'show_both\(\)'"):
        rendering.write_source(tmp_path / "a.ipynb", new_notebook(cells=[cell]))


# ---------------------------------------------------------------- slides


def test_slides_hold_the_path_with_its_notes_and_no_hint_that_nobody_answered(project):
    for path, with_exercise in (("45", False), ("90", True)):
        assert main(["slides", "--path", path], project) == 0
        page = (project / "build" / f"slides-{path}" / f"04_model-{path}.html").read_text(encoding="utf-8")
        assert "<h2>4.1 Ladder" in page
        assert "From minute 0, 45 minutes. Ask who wins." in page
        assert f"minute {path}: the end" in page
        assert ("<h2>Exercise 1: choose the rung" in page) == with_exercise
        assert f'alt="{FINDING}"' in page
        assert "Measured: the share is" in page
        assert "You made no guess" not in page
        assert "Not attempted" not in page
        assert "Markdown object" not in page
        assert 'class="highlight"' in page, "code is colored while building"


def test_only_the_cell_that_answers_a_guess_waits_for_a_key():
    answers, other = slides.for_class(new_code_cell("reveal(a, b)")), slides.for_class(new_code_cell("a = b"))
    assert answers.metadata.tags == [slides.GUESS]
    assert other.metadata == {}


@pytest.mark.parametrize(
    ("source", "raised"),
    [
        ("## 4.1 ◆ Ladder\n\nText.", "## 4.1 Ladder\n\nText."),
        ("### Exercise 1: choose", "## Exercise 1: choose"),
        ("# 4 · The model", "# 4 · The model"),
    ],
)
def test_the_heading_of_a_section_begins_a_stack_of_slides(source, raised):
    assert slides.on_top(source) == raised


def test_one_minute_is_singular():
    assert slides.spoken(Note("A", "45", 1, "Ask."), 7) == "From minute 7, 1 minute. Ask."


def test_a_heading_whose_text_is_on_another_path_makes_no_slide():
    chosen = [
        (Section("T", [new_markdown_cell("# T\n\nText.")]), None),
        (Section("A", [new_markdown_cell("## A")]), None),
        (Section("B", [new_markdown_cell("## B"), new_code_cell("1")]), Note("B", "45", 5, "Ask.")),
    ]
    sources = [cell.source for cell in slides.slide_notebook(chosen).cells]
    assert [text for text in sources if text.startswith("#")] == ["# T\n\nText.", "## B"]
    assert "- minute 0: B\n- minute 5: the end" in sources[1]


def test_a_part_of_a_section_whose_own_text_is_on_another_path_leads_the_slide():
    part = new_markdown_cell("### Part\n\nText.")
    lent = Section("A", [new_markdown_cell("## A"), part, new_code_cell("1")])
    sources = [cell.source for cell in slides.slide_notebook([(lent, None)]).cells]
    assert "## A" not in sources
    assert "## Part\n\nText." in sources


def test_a_notebook_that_is_not_taught_is_left_out_unless_it_is_named(project, capsys):
    nbformat.write(new_notebook(cells=[new_markdown_cell("# X\n\n## Y")]), project / "notebooks/09_x.ipynb")
    assert main(["slides"], project) == 0
    assert [p.name for p in (project / "build" / "slides-45").glob("0*.html")] == ["04_model-45.html"]
    assert main(["slides", "09"], project) == 1
    assert "section 1 of the notebook is 'Y', in the file it is missing" in capsys.readouterr().err
    assert main(["slides", "07"], project) == 1
    assert "No notebook starts with 07. There are: 04_model, 09_x." in capsys.readouterr().err


def test_a_stop_by_key_is_one_line_and_leaves_nothing_half_made(project, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(site, "render", stop)
    assert main(["site"], project) == 130
    assert capsys.readouterr().err == "Stopped. What was there before is as it was.\n"
    assert list((project / "build").iterdir()) == []


@needs_git
def test_what_is_shown_but_not_committed_is_named(project, capsys):
    commit(project)
    nbformat.write(notebook(new_code_cell("mine = 1")), project / "notebooks" / "04_model.ipynb")
    assert classes.uncommitted(project) == ["04_model.ipynb"]
    assert main(["slides"], project) == 0
    assert "Not as committed" in capsys.readouterr().out


# ---------------------------------------------------------------- the handbook


def test_the_timetable_tells_when_each_section_begins_on_each_path():
    notes = [
        Note("A", "45", 20, "x"),
        Note("B | C", "90", 45, "x"),
        Note("D", "self", 9, "x"),
        Note("E", "45", 25, "x"),
    ]
    assert handbook.timetable("01_x", notes).split("\n")[2:] == [
        "| [A](#01_x-1) | 0 | 0 | 20 |",
        r"| [B \| C](#01_x-2) |  | 20 | 45 |",
        "| [D](#01_x-3) |  |  | 9 |",
        "| [E](#01_x-4) | 20 | 65 | 25 |",
    ]


def test_the_answer_key_is_that_of_the_exercise_which_the_section_checks():
    section = Section("Exercise 1: choose the rung", notebook().cells[3:])
    exercise = handbook.exercise_of("04_model", section)
    assert exercise is model.ladder_choice
    code, reason, mistakes = handbook.answer_key(exercise)
    assert exercise.solution_code.strip() in code
    assert reason == exercise.reason
    assert mistakes.count("\n- ") == len(exercise.mistakes) - 1


def test_the_handbook_of_this_project_answers_every_exercise():
    notes = read_notes(ROOT / "notebooks")
    paths = [path for path in notebook_paths(ROOT / "notebooks") if path.stem in notes]
    page = handbook.build_handbook(paths, notes)
    assert page.count("<h2>") == len(paths)
    assert not re.search(r"<script|<img|stylesheet|url\(", page), "it needs no other file"
    solved = 0
    for path in paths:
        for exercise in importlib.import_module(f"helpers.exercises.{path.stem[3:]}").ALL:
            solved += 1
            assert f"<em>{exercise.mistakes[0].name}</em>" in page
    assert page.count('<pre class="code') >= solved


# ---------------------------------------------------------------- the folder of a class


@needs_git
def test_a_class_gets_what_is_committed_and_the_teacher_the_rest(project, capsys):
    commit(project)
    cells = nbformat.read(project / "notebooks" / "04_model.ipynb", as_version=4).cells
    before = [cell.source for cell in cells]
    assert any(cell.get("outputs") for cell in cells)
    nbformat.write(notebook(new_code_cell("mine = 1")), project / "notebooks" / "04_model.ipynb")
    (project / "mine.txt").touch()
    assert main(["class", "autumn-1"], project) == 0
    folder = project / "build" / "classes" / "autumn-1"
    assert capsys.readouterr().out == f"Made: {folder}\n"
    learners = folder / "learners"
    assert sorted(str(p.relative_to(learners)) for p in learners.rglob("*") if p.is_file()) == [
        ".gitignore",
        "README.md",
        str(Path("notebooks", "04_model.ipynb")),
        "start.py",
    ]
    cells = nbformat.read(learners / "notebooks" / "04_model.ipynb", as_version=4).cells
    assert [cell.source for cell in cells] == before
    assert not any(cell.get("outputs") for cell in cells), "no answer is to be read before the guess"
    assert "Run All Above Selected Cell" in (learners / "README.md").read_text(encoding="utf-8")
    teacher = folder / "teacher"
    assert "Ask why." in (teacher / "handbook.html").read_text(encoding="utf-8")
    pages = sorted(path.name for path in (teacher / "slides").glob("*.html"))
    assert pages == ["04_model-45.html", "04_model-90.html", "index.html"]


@needs_git
def test_a_class_that_is_there_is_left_alone(project, capsys):
    commit(project)
    folder = project / "build" / "classes" / "a"
    (folder / "learners").mkdir(parents=True)
    assert main(["class", "a"], project) == 1
    assert "is there already, and not empty: choose another name" in capsys.readouterr().err
    assert [p.name for p in folder.iterdir()] == ["learners"]
    (folder / "learners").rmdir()
    assert main(["class", "a"], project) == 0, "an empty folder may be filled"


@needs_git
def test_a_class_that_fails_leaves_nothing_behind(project, monkeypatch, capsys):
    commit(project)

    def fail(*arguments):
        raise ClassroomError("The pages have faults.")

    monkeypatch.setattr(classes, "build_slides", fail)
    assert main(["class", "a"], project) == 1
    assert list((project / "build" / "classes").iterdir()) == []


def test_a_project_that_is_no_clone_says_so(project, capsys):
    assert main(["class", "a"], project) == 1
    error = capsys.readouterr().err
    assert "A class gets what is committed" in error
    assert list((project / "build" / "classes").iterdir()) == []


def test_a_copy_for_learners_has_no_notes_to_teach_from(project, capsys):
    (project / "notebooks" / "teaching.csv").unlink()
    assert main(["class", "a"], project) == 1
    assert "this is a learner's copy" in capsys.readouterr().err
    assert main(["site"], project) == 0


@pytest.mark.parametrize("name", ["", "..", "a/b", "-x", "a b"])
def test_a_name_that_would_leave_the_folder_is_refused(name):
    with pytest.raises(ClassroomError, match="cannot name a class"):
        classes.class_folder(ROOT, name)


def test_a_link_to_a_cell_becomes_a_link_to_the_label_of_its_heading():
    said = new_output(
        "display_data", {"text/markdown": "[1.1](01_one.ipynb#cell-id=a-b1), [x](01_one.ipynb)"}
    )
    cells = [
        new_markdown_cell("Text.\n\n## 1.1 Deep\n\n### More", id="a-b1"),
        new_code_cell("", outputs=[said]),
    ]
    labeled = site.with_labels(new_notebook(cells=cells), "01_one").cells
    assert labeled[0].source == "Text.\n\n(01_one-a-b1)=\n## 1.1 Deep\n\n### More"
    assert labeled[1].outputs[0].data["text/markdown"] == "[1.1](#01_one-a-b1), [x](01_one.ipynb)"


def test_the_first_page_is_the_first_paragraph_of_the_readme():
    page = site.front_page("# T\n\nOne\ntwo.\n\n![x](y)\n", ["01_a", "02_b"])
    assert page.startswith("# T\n\nOne\ntwo.\n\n```{toctree}")
    assert "01_a\n02_b\n" in page
    assert "![" not in page
