"""Run the notebooks again, save their outputs, and renew the table of them in README.md.

  python start.py notebooks            all of them
  python start.py notebooks 01 05      those whose names start so
  python start.py notebooks --table    none: only the table, from what is saved

A notebook is saved only when every cell ran without an error and without a word on stderr. Two runs of the
same notebook save the same bytes, but for the times that it measures itself: nothing of the machine, the
moment or the Python version is kept.
"""

import argparse
import csv
import io
import os
import platform
import re
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
CELL_SECONDS = 120  # the same limit as in the tests
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
KEPT_CELL_METADATA = ("jupyter", "slideshow", "tags")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"  # refers to a kernel that is gone; its text stays
BEGIN, END = "<!-- notebooks:begin -->", "<!-- notebooks:end -->"
NOT_PROSE = [
    re.compile(pattern, re.DOTALL)
    for pattern in (r"```.*?```", r"<(?:svg|style|script).*?</\w+>", r"!\[[^\]]*\]\([^)]*\)", r"<[^>]+>")
]
LINK_TARGET = re.compile(r"(?<=\])\([^)]*\)")
FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL)
WORD = re.compile(r"[A-Za-z][A-Za-z'’-]*|\d[\d.,]*")


class BuildError(Exception):
    """A notebook cannot be saved; the message says which one and why."""


# ---------------------------------------------------------------- running and saving


def execute(path: Path) -> tuple[NotebookNode, float]:
    """Run a notebook in its own folder in a fresh kernel; return it with its outputs, and the seconds."""
    notebook = nbformat.read(path, as_version=4)
    began = time.perf_counter()
    with tqdm(total=len(code_cells(notebook)), desc=path.stem, unit="cell") as bar:
        client = NotebookClient(
            notebook,
            timeout=CELL_SECONDS,
            kernel_name="python3",
            extra_arguments=["--log-level=ERROR"],  # kernel and client are on one machine: no advice on that
            resources={"metadata": {"path": str(path.parent)}},
            coalesce_streams=True,
            record_timing=False,
            store_widget_state=False,
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute()
        except (CellExecutionError, DeadKernelError, TimeoutError) as error:
            raise BuildError(f"{path.name} is not saved: {error}") from None
    return notebook, time.perf_counter() - began


def refuse_stderr(notebook: NotebookNode, name: str) -> None:
    """Raise BuildError if a cell wrote to stderr: a reader would take a warning for an error."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        text = "".join(output.text for output in cell.outputs if output.get("name") == "stderr")
        if text:
            raise BuildError(f"{name} is not saved: code cell {number} wrote to stderr:\n{text}")


def normalize(notebook: NotebookNode) -> None:
    """Drop everything from a notebook that differs between machines, moments and Python versions."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in KEPT_CELL_METADATA if key in cell.metadata}
        cell.metadata = nbformat.from_dict(kept)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET_VIEW, None)


def write_whole(path: Path, text: str) -> None:
    """Replace a file by the new text in one step, so that nobody ever reads half of it."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(text.encode("utf-8"))
    os.replace(part, path)


def rebuild(path: Path) -> float:
    """Run a notebook and save it; return the seconds that it ran."""
    notebook, seconds = execute(path)
    refuse_stderr(notebook, path.name)
    normalize(notebook)
    write_whole(path, nbformat.writes(notebook) + "\n")
    return seconds


# ---------------------------------------------------------------- run times


def machine() -> str:
    """Describe the machine as far as it matters to a run time."""
    cores, version = os.cpu_count(), ".".join(platform.python_version_tuple()[:2])
    return f"{cores} cores, {platform.system()} {platform.machine().replace('_', '-')}, Python {version}"


def read_run_times(folder: Path) -> dict[str, dict[str, str]]:
    """Return the rows of run_times.csv by notebook; none if there is no file yet."""
    path = folder / "run_times.csv"
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["notebook"]: row for row in csv.DictReader(file)}


def record_run_time(folder: Path, name: str, seconds: float) -> None:
    """Put the run time of a notebook into run_times.csv, and forget the notebooks that are gone."""
    new = dict(notebook=name, seconds=f"{seconds:.0f}", date=date.today().isoformat(), machine=machine())
    rows = read_run_times(folder) | {name: new}
    text = io.StringIO()
    writer = csv.DictWriter(text, new, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows[key] for key in sorted(rows) if (folder / key).exists())
    write_whole(folder / "run_times.csv", text.getvalue())


# ---------------------------------------------------------------- the table in README.md


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return the code cells that hold code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def markdown(notebook: NotebookNode) -> str:
    """Return all the Markdown of a notebook."""
    return "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def count_words(text: str) -> int:
    """Count the words of prose in Markdown; code, pictures and tags are not prose, a formula is one word."""
    for pattern in (*NOT_PROSE, LINK_TARGET):
        text = pattern.sub(" ", text)
    return len(WORD.findall(FORMULA.sub(" formula ", text)))


def count_exercises(text: str) -> int:
    """Count the headings that announce an exercise."""
    return len(re.findall(r"^#+ .*\bexercise\b", text, re.IGNORECASE | re.MULTILINE))


def title(text: str) -> str:
    """Return the first heading, as the text of a link in a table."""
    return re.sub(r"([\[\]|])", r"\\\1", re.search(r"^# (.+)$", text, re.MULTILINE)[1].strip())


def framework_step(name: str) -> str:
    """Return the step of the framework that a notebook teaches: 01 to 05 one each, 06 to 08 all of them."""
    number = int(name[:2])
    return str(number) if 1 <= number <= 5 else "1 to 5" if 6 <= number <= 8 else ""


def table_rows(folder: Path) -> Iterator[tuple[object, ...]]:
    """Yield the cells of the table, one row a notebook in reading order."""
    run_times = read_run_times(folder)
    for path in notebook_paths(folder):
        notebook = nbformat.read(path, as_version=4)
        text = markdown(notebook)
        if path.name not in run_times:
            raise BuildError(
                f"The run time of {path.name} is not known. Run: python start.py notebooks {path.stem}"
            )
        yield (
            f"[{title(text)}]({folder.name}/{path.name})",
            framework_step(path.name),
            len(code_cells(notebook)),
            f"{count_words(text):,}",
            count_exercises(text),
            run_times[path.name]["seconds"],
        )


def table(folder: Path) -> str:
    """Return the Markdown table of all notebooks, and a sentence on where the run times come from."""
    head = ("Notebook", "Step", "Code cells", "Words", "Exercises", "Run time (s)"), ("---", *["---:"] * 5)
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (*head, *table_rows(folder))]
    machines = sorted({row["machine"] for row in read_run_times(folder).values()})
    return "\n".join([*lines, "", f"Run times were measured on: {'; '.join(machines)}."])


def notebook_paths(folder: Path) -> list[Path]:
    """Return the notebooks in reading order."""
    return sorted(folder.glob("[0-9][0-9]_*.ipynb"))


def with_table(readme: str, new_table: str) -> str:
    """Return the text of README.md with the table between its markers replaced."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise BuildError(f"README.md needs the lines {BEGIN} and {END}: the table goes between them.")
    return f"{before}{BEGIN}\n{new_table}\n{END}{after}"


def renew_table(root: Path) -> None:
    """Write the current table into README.md."""
    readme = root / "README.md"
    write_whole(readme, with_table(readme.read_text(encoding="utf-8"), table(root / "notebooks")))


# ---------------------------------------------------------------- command


def chosen(folder: Path, names: list[str]) -> list[Path]:
    """Return the notebooks whose names start with one of these; all of them if there are no names."""
    starts = [Path(name).stem for name in names]
    paths = notebook_paths(folder)
    unknown = [start for start in starts if not any(path.name.startswith(start) for path in paths)]
    if unknown:
        there = ", ".join(path.stem for path in paths)
        raise BuildError(f"No notebook starts with {', '.join(unknown)}. There are: {there}.")
    return [path for path in paths if not starts or path.name.startswith(tuple(starts))]


def main(arguments: list[str], root: Path = ROOT) -> int:
    """Rebuild the chosen notebooks, then the table; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="how the names of the notebooks start")
    parser.add_argument("--table", action="store_true", help="run nothing, only renew the table")
    options = parser.parse_args(arguments)
    # The kernels inherit both: as in the tests, so that the outputs are the same as there.
    os.environ.update(OMP_WAIT_POLICY="PASSIVE", PYTHONHASHSEED="0")
    try:
        for path in [] if options.table else chosen(root / "notebooks", options.names):
            record_run_time(path.parent, path.name, rebuild(path))
        renew_table(root)
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
