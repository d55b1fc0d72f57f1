"""The hooks of the root conftest.py, tried on small notebooks: each fault must be seen, and nothing else."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

ROOT = Path(__file__).parents[1]
DIE_ONCE = """
import os, pathlib
mark = pathlib.Path(os.environ["IPYTHONDIR"], "died")
if not mark.exists():
    mark.touch()
    os._exit(1)
"""
LATE_OUTPUT = """
import sys, time
sys.stdout.flush_timeout = sys.stderr.flush_timeout = 0
get_ipython().kernel.iopub_thread.schedule(lambda: time.sleep(5.5))
print("late")
"""


def checked(source, stored):
    """A cell whose stored output is compared."""
    cell = new_code_cell(source, execution_count=1, metadata={"tags": ["nbval-check-output"]})
    cell.outputs = [new_output("stream", name="stdout", text=stored)]
    return cell


def raising(source):
    return new_code_cell(source, metadata={"tags": ["raises-exception"]})


NOTEBOOKS = {
    "good": [
        checked("print(1)", "1\n"),
        raising("1 / 0"),
        new_code_cell("2 + 2"),
        new_code_cell(LATE_OUTPUT),
    ],
    "stale": [checked("print(2)", "1\n"), new_code_cell("1"), new_code_cell("1")],
    "calm": [raising("1")],
    "magic": [new_code_cell("%nosuchmagic")],
    "dead": [new_code_cell("import os; os._exit(1)")],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run pytest over NOTEBOOKS once; give the outcome of each cell, and all that was printed."""
    folder = tmp_path_factory.mktemp("nbval")
    for name, cells in NOTEBOOKS.items():
        nbformat.write(new_notebook(cells=cells), folder / f"{name}.ipynb")
    startup = folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00-die-once.py").write_text(DIE_ONCE)
    for name in ("conftest.py", "pyproject.toml"):
        (folder / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-v",
            "-n",
            "0",
            "--color=no",
            "-p",
            "no:cacheprovider",
            *sorted(folder.glob("*.ipynb")),
        ],
        cwd=folder,
        env={**os.environ, "IPYTHONDIR": str(folder / "ipython")},
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = re.findall(r"(\w+)::ipynb::Cell (\d+) (PASSED|FAILED|SKIPPED|ERROR)", done.stdout)
    return {(name, int(cell)): word for name, cell, word in outcomes}, done.stdout


def test_each_fault_fails_and_nothing_else_does(run):
    outcomes, printed = run
    assert outcomes == {
        ("good", 0): "PASSED",
        ("good", 1): "PASSED",
        ("good", 2): "PASSED",
        ("good", 3): "PASSED",
        ("stale", 0): "FAILED",
        ("stale", 1): "SKIPPED",
        ("stale", 2): "SKIPPED",
        ("calm", 0): "FAILED",
        ("magic", 0): "FAILED",
        ("dead", 0): "FAILED",
    }, printed


@pytest.mark.parametrize(
    "sentence",
    [
        "Cell outputs differ",
        "UsageError: Line magic function `%nosuchmagic` not found.",
        "The cell wrote to stderr",
        "The cell is tagged raises-exception, but raised nothing",
        "The kernel died while it ran this cell.",
    ],
)
def test_a_failure_says_what_happened(run, sentence):
    assert sentence in run[1]


def test_a_name_with_an_address_is_refused(tmp_path):
    code = "import pytest\n@pytest.mark.parametrize('f', [lambda: 1], ids=str)\ndef test_it(f): pass\n"
    (tmp_path / "test_names.py").write_text(code)
    (tmp_path / "conftest.py").write_text(
        (ROOT / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "test_names.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "name its cases with `ids=`" in done.stdout + done.stderr
