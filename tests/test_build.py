"""notebooks/build.py, tried on small notebooks."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from notebooks import build

README = f"# Before\n\n{build.BEGIN}\nold\n{build.END}\n\nAfter\n"
WIDGET = """
import anywidget

class Empty(anywidget.AnyWidget):
    _esm = ""

    def __repr__(self) -> str:
        return "what the widget shows"

Empty()
"""


def project(folder, *sources):
    """A project with one notebook, as an author left it."""
    cells = [
        new_markdown_cell("# The first [1]\n\nTwo words.\n\n## Exercise 1: count"),
        *map(new_code_cell, sources),
    ]
    cells[1].metadata.update(
        tags=["path-45"], collapsed=True, execution={"iopub.execute_input": "2024-01-01"}
    )
    (folder / "notebooks").mkdir()
    path = folder / "notebooks" / "01_first.ipynb"
    nbformat.write(
        new_notebook(cells=cells, metadata={"kernelspec": {"name": "mine", "display_name": "Mine"}}), path
    )
    (folder / "README.md").write_text(README, encoding="utf-8")
    return path


def test_a_second_run_saves_the_same_bytes(tmp_path):
    path = project(tmp_path, "print(1)\nprint({'b', 'a'})", WIDGET)
    assert build.main([], tmp_path) == 0
    first = path.read_bytes()
    assert build.main(["01"], tmp_path) == 0
    assert path.read_bytes() == first
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata == build.METADATA
    assert notebook.cells[1].metadata == {"tags": ["path-45"]}
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2]
    assert notebook.cells[1].outputs[0].text.startswith("1\n{")
    assert notebook.cells[2].outputs[0].data == {"text/plain": "what the widget shows"}
    assert sorted(child.name for child in path.parent.iterdir()) == ["01_first.ipynb", "run_times.csv"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import sys\nprint('careful', file=sys.stderr)", "code cell 1 wrote to stderr:\ncareful"),
    ],
)
def test_a_notebook_that_fails_is_not_saved(tmp_path, capsys, source, sentence):
    path = project(tmp_path, source)
    before = path.read_bytes()
    assert build.main([], tmp_path) == 1
    assert path.read_bytes() == before
    printed = capsys.readouterr().err
    assert "01_first.ipynb is not saved: " in printed
    assert sentence in printed


def test_the_table_has_what_the_notebooks_and_the_run_times_say(tmp_path):
    path = project(tmp_path, "1", "2", "")
    build.record_run_time(path.parent, "00_gone.ipynb", 5)
    build.record_run_time(path.parent, "01_first.ipynb", 12.4)
    assert build.main(["--table"], tmp_path) == 0
    readme = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert readme.startswith(f"# Before\n\n{build.BEGIN}\n| Notebook |")
    assert readme.endswith(f".\n{build.END}\n\nAfter\n")
    assert "| [The first \\[1\\]](notebooks/01_first.ipynb) | 1 | 2 | 8 | 1 | 12 |" in readme
    assert build.machine() in readme
    assert list(build.read_run_times(path.parent)) == ["01_first.ipynb"]


@pytest.mark.parametrize(
    ("name", "step"), [("00_a", ""), ("01_a", "1"), ("05_a", "5"), ("07_a", "1 to 5"), ("09_a", "")]
)
def test_the_number_of_a_notebook_gives_its_step(name, step):
    assert build.framework_step(name) == step


def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path, capsys):
    project(tmp_path, "1")
    assert build.main(["--table"], tmp_path) == 1
    assert "run time of 01_first.ipynb is not known" in capsys.readouterr().err
    assert build.main(["02"], tmp_path) == 1
    assert "No notebook starts with 02." in capsys.readouterr().err
    with pytest.raises(build.BuildError, match=r"README\.md needs the lines"):
        build.with_table("no markers", "table")
