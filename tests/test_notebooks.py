"""Every notebook keeps the rules of notebook_style.py, and each rule catches what it is there for."""

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_style import RULES, states_a_finding, typed_results, violations

from notebooks import build

ROOT = Path(__file__).parents[1]
NOTEBOOKS = build.notebook_paths(ROOT / "notebooks")
FINDING = "Recall falls from 0.9 to 0.6 while precision rises, so no threshold is best for both."


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_keeps_every_rule(path):
    assert violations(nbformat.read(path, as_version=4)) == []


def test_the_table_in_the_readme_is_the_one_that_build_writes():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme == build.with_table(readme, build.table(ROOT / "notebooks"))


# ---------------------------------------------------------------- the rules themselves


def picture(alt):
    return new_output("display_data", {"image/png": "AAAA"}, metadata={"image/png": {"alt": alt}})


def stream(name, text):
    return new_output("stream", name=name, text=text)


def good_notebook():
    """A small notebook that keeps every rule: 8 code cells, each with 60 words before it."""
    cells = []
    for number in range(1, 9):
        heading = "# The title\n\n" if number == 1 else f"## Part {number}\n\n"
        cells.append(new_markdown_cell(heading + "word " * 58))
        cells.append(new_code_cell(f"import math\nassert math.sqrt({number}) > 0", execution_count=number))
    cells[0].metadata["tags"] = ["path-45"]
    cells[1].outputs = [picture(FINDING), stream("stdout", "2 of 3 frauds found")]
    return new_notebook(cells=cells, metadata=build.METADATA)


def code(notebook, number=1):
    return build.code_cells(notebook)[number - 1]


def source(text):
    def break_it(notebook):
        code(notebook).source = text

    return break_it


def output(new, tags=()):
    def break_it(notebook):
        code(notebook).outputs = [new]
        code(notebook).metadata["tags"] = list(tags)

    return break_it


def prose(text, cell=2):
    def break_it(notebook):
        notebook.cells[cell].source = text + " word" * 58

    return break_it


def every_source(text):
    def break_it(notebook):
        for cell in build.code_cells(notebook):
            cell.source = text

    return break_it


def longer(times):
    def break_it(notebook):
        body = notebook.cells[2:] * times
        notebook.cells = notebook.cells[:2] + [nbformat.from_dict(dict(cell)) for cell in body]
        for number, cell in enumerate(build.code_cells(notebook), start=1):
            cell.execution_count = number

    return break_it


def forget_prose(notebook):
    notebook.cells[6].source += notebook.cells[2].source[10:] + notebook.cells[4].source[10:]
    notebook.cells[2].source = notebook.cells[4].source = ""


def long_introduction(notebook):
    notebook.cells[0].source += "word " * 80


def wordy(notebook):
    longer(9)(notebook)
    for cell in notebook.cells[2::2]:
        cell.source += "word " * 13


def untag(notebook):
    notebook.cells[0].metadata["tags"] = []


def path_without_its_import(notebook):
    code(notebook).source = "assert mean([1]) == 1"
    code(notebook).metadata["tags"] = ["path-45"]


def two_titles(notebook):
    notebook.cells[2].source = "# Another title" + " word" * 58


def run_out_of_order(notebook):
    code(notebook, 2).execution_count = 7


def other_metadata(notebook):
    notebook.metadata.kernelspec.display_name = "my-kernel"


def little_prose(notebook):
    for cell in notebook.cells[2::2]:
        cell.source = "word " * 40


BROKEN = [
    (
        "short_code_cells",
        source("a = 1\n" * 21),
        "the longest of the lines in a code cell is 21, more than 20",
    ),
    (
        "short_code_cells",
        every_source("assert 1\n" * 7),
        "the median of the lines in a code cell is 7.0, more than 6",
    ),
    ("enough_prose", little_prose, "words of prose for each code cell, not 50 to 90"),
    ("few_bare_cells", forget_prose, "25% of the code cells have no prose before them"),
    ("early_code", long_introduction, "140 words before the first code"),
    ("one_sitting", longer(10), "71 code cells, more than 70"),
    ("one_sitting", wordy, "more than 4,500"),
    ("short_path", untag, "no cell is tagged path-45"),
    ("path_runs_alone", path_without_its_import, "code cell 1 is on the path and uses mean"),
    ("path_is_marked", prose("## 2 ◆ Part\n\n"), "the heading '2 ◆ Part' is not on the path"),
    ("orderly_headings", two_titles, "the only heading of level 1"),
    ("orderly_headings", prose("#### Deep\n\n"), "the heading 'Deep' skips a level"),
    ("asserts_something", every_source("a = 1"), "there is no assert"),
    ("no_typed_results", prose("The model finds 83% of frauds.\n\n"), "typed results 83%"),
    ("figures_in_words", output(picture("")), "the alt text '' in code cell 1 states no finding"),
    ("figures_in_words", output(picture("A line chart of precision versus recall")), "states no finding"),
    ("run_in_order", run_out_of_order, "not run once each from top to bottom"),
    ("saved_by_build", other_metadata, "the metadata is not what"),
    ("no_failures", output(stream("stderr", "careful")), "code cell 1 wrote to stderr"),
    (
        "no_failures",
        output(new_output("error", ename="KeyError", evalue="", traceback=[])),
        "raised KeyError",
    ),
    ("nothing_of_the_machine", output(stream("stdout", "saved in /" + "home/ann/x.csv")), "'/home/'"),
    ("nothing_of_the_machine", output(stream("stdout", "<Model at 0x7f12ab34cd56>")), "'0x7f12ab34cd56'"),
    ("nothing_of_the_machine", output(new_output("execute_result", {"text/plain": str(ROOT)})), str(ROOT)),
    ("nothing_of_the_machine", prose("See py" + "pi.org for more.\n\n"), "belongs to one machine"),
    ("plain_python", source("assert 1\n%matplotlib inline"), "code cell 1 is not plain Python"),
    ("plain_python", source("!pip install numpy"), "code cell 1 is not plain Python"),
    ("plain_python", source("%%bash\nls"), "code cell 1 is not plain Python"),
    ("plain_python", source("a = 1;"), "code cell 1 has a semicolon"),
    ("known_imports", source("import torch"), "torch is not among the dependencies"),
    ("known_imports", source("from jedi import api"), "jedi is not among the dependencies"),
    ("explained_functions", source("def f(a: int) -> int:\n    return a"), "f has no docstring"),
    ("explained_functions", source('def f(a) -> int:\n    """Do."""'), "f lacks type hints"),
    ("explained_functions", source('def f(a: int):\n    """Do."""'), "f lacks type hints"),
    ("explained_functions", source("class A:\n    pass"), "A has no docstring"),
]


def test_a_good_notebook_breaks_no_rule():
    assert violations(good_notebook()) == []


@pytest.mark.parametrize(("name", "break_it", "sentence"), BROKEN)
def test_a_broken_notebook_breaks_that_rule_and_no_other(name, break_it, sentence):
    notebook = good_notebook()
    break_it(notebook)
    (found,) = violations(notebook)
    assert found.startswith(name)
    assert sentence in found


def test_every_rule_is_tried():
    assert {name for name, _, _ in BROKEN} == {rule.__name__ for rule in RULES}


def test_an_exception_that_its_cell_promises_is_no_failure():
    notebook = good_notebook()
    output(new_output("error", ename="KeyError", evalue="", traceback=[]), ["raises-exception"])(notebook)
    assert violations(notebook) == []


@pytest.mark.parametrize(
    "import_line", ["import numpy", "from sklearn.metrics import auc", "import helpers.metrics"]
)
def test_a_direct_dependency_may_be_imported(import_line):
    notebook = good_notebook()
    source(import_line)(notebook)
    assert violations(notebook) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("an accuracy of 0.778 and 77 % recall", ["0.778", "77 %"]),
        ("# Why 99.9% is not enough\n\nIt costs 2.5 days.", ["2.5"]),
        ("`0.5`, $p = 0.5$, [a link](https://a.b/1.5), Python 3.11 and 20 queries", []),
    ],
)
def test_typed_results_are_the_decimals_and_percentages_in_prose(text, found):
    assert typed_results(text) == found


def test_a_finding_needs_words_beyond_the_kind_of_chart():
    assert states_a_finding(FINDING)
    assert not states_a_finding("Bar chart with three bars and two lines, showing curves")
    assert not states_a_finding("Recall falls.")
