"""The series as a learner walks through it: what each notebook takes, a plan by days, and what is mastered.

Everything is read from the notebooks as they are saved. An exercise counts as right when its cell says so, so
progress needs no account and no file of its own: save the notebook, and run the map again.
"""

import csv
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from helpers.exercises import Verdict
from helpers.figures import BLUE, GRAY, GREEN
from helpers.sections import NOTEBOOKS
from helpers.shifts import whole

WORDS_A_MINUTE = 150  # of a text that one stops to think about
MINUTES_A_CELL, MINUTES_AN_EXERCISE = 1.0, 7.0
MINUTES_A_CELL_SHOWN = 0.5  # on the short path: run, and read the result
SHORT_PATH = "path-45"  # the tag of its cells
PRACTICE_DAYS = 2  # at the end of a plan: mock interviews instead of new sections
STATES = ("right", "tried", "open")
NO_EXERCISE = "no exercise"
SAYS = {Verdict.RIGHT.value: "right", Verdict.NOT_YET.value: "tried", Verdict.NOT_ATTEMPTED.value: "open"}
CHECKED = re.compile(r"exercises\.(\w+)\.check\(")


@dataclass
class Section:
    """A `##` section of a notebook: its heading, and the minutes to read it and to do its exercises."""

    notebook: str
    heading: str
    minutes: float = 0.0
    exercises: int = 0


def notebook_names(folder: Path = NOTEBOOKS) -> list[str]:
    """Return the names of the notebooks in reading order, without their ending."""
    return sorted(path.stem for path in folder.glob("[0-9][0-9]_*.ipynb"))


def _cells(notebook: str, folder: Path) -> list[dict[str, Any]]:
    """The cells of a notebook; ValueError if it is missing or no notebook."""
    path = folder / f"{notebook}.ipynb"
    try:
        return json.loads(path.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path.name} cannot be read as a notebook ({type(error).__name__}): put the original back."
        ) from error


def sections(notebook: str, folder: Path = NOTEBOOKS) -> list[Section]:
    """Return the `##` sections of a notebook, what stands above the first one as the first.

    Minutes are an estimate: words at `WORDS_A_MINUTE`, and so many for each code cell and each exercise.
    Raises ValueError for a notebook that cannot be read.
    """
    found: list[Section] = []
    for cell in _cells(notebook, folder):
        text = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found[-1].minutes += MINUTES_A_CELL
            continue
        for part in re.split(r"^(?=##? )", text, flags=re.MULTILINE):
            if heading := re.match(r"##? (.+)", part):
                found.append(Section(notebook, heading[1].strip()))
            if not found:
                continue
            exercises = len(re.findall(r"^### Exercise", part, re.MULTILINE))
            found[-1].exercises += exercises
            found[-1].minutes += len(part.split()) / WORDS_A_MINUTE + exercises * MINUTES_AN_EXERCISE
    return found


def lessons(folder: Path = NOTEBOOKS) -> pd.DataFrame:
    """Return a row for each notebook: title, hours alone (to the half), exercises, seconds that it runs.

    Seconds are those measured when its outputs were saved. Raises ValueError for a notebook that cannot be
    read.
    """
    with (folder / "run_times.csv").open(newline="", encoding="utf-8") as file:
        seconds = {Path(row["notebook"]).stem: float(row["seconds"]) for row in csv.DictReader(file)}
    rows = {}
    for name in notebook_names(folder):
        parts = sections(name, folder)
        rows[name] = {
            "title": parts[0].heading,
            "hours": math.ceil(2 * sum(part.minutes for part in parts) / 60) / 2,
            "exercises": sum(part.exercises for part in parts),
            "runs for (s)": seconds.get(name, np.nan),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("notebook")


def short_paths(folder: Path = NOTEBOOKS) -> pd.DataFrame:
    """Return how long the short path of each step is; index notebook; columns sections, code cells, minutes.

    Minutes are an estimate, without exercises: words at `WORDS_A_MINUTE`, and `MINUTES_A_CELL_SHOWN` for each
    code cell. Raises ValueError for a notebook that cannot be read.
    """
    rows = {}
    for name in _steps(folder):
        path = [c for c in _cells(name, folder) if SHORT_PATH in c["metadata"].get("tags", [])]
        code = sum(cell["cell_type"] == "code" for cell in path)
        texts = ["".join(cell["source"]) for cell in path if cell["cell_type"] == "markdown"]
        minutes = sum(len(text.split()) for text in texts) / WORDS_A_MINUTE + code * MINUTES_A_CELL_SHOWN
        marked = sum(len(re.findall(r"^## ", text, re.MULTILINE)) for text in texts)
        rows[name] = {"sections": marked, "code cells": code, "minutes": round(minutes)}
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("notebook")


def _steps(folder: Path) -> list[str]:
    """The names of the notebooks that teach a step."""
    return [name for name in notebook_names(folder) if "01" <= name[:2] <= "05"]


def plan(days: int = 14, folder: Path = NOTEBOOKS) -> pd.DataFrame:
    """Return a plan to study alone: a row a day, with columns notebooks, from, to, exercises and minutes.

    The sections of the five steps stay in their order and are dealt out evenly by minutes; the last
    `PRACTICE_DAYS` days are for mock interviews and the drill.
    Raises ValueError for fewer than 7 days: more than a step a day is too much.
    """
    whole("days", days, 7)
    parts = [part for name in _steps(folder) for part in sections(name, folder)]
    study = days - PRACTICE_DAYS
    ends = np.cumsum([part.minutes for part in parts])
    day_of = np.minimum((ends - [part.minutes / 2 for part in parts]) / ends[-1] * study, study - 1)
    rows = []
    for day in range(study):
        mine = [part for part, its in zip(parts, day_of.astype(int), strict=True) if its == day]
        rows.append(_day(mine))
    practice = {
        "notebooks": "09",
        "from": "a mock interview",
        "to": "the drill",
        "exercises": 0,
        "minutes": 60,
    }
    rows += [practice] * (days - study)
    return pd.DataFrame(rows, pd.RangeIndex(1, days + 1, name="day"))


def _day(parts: list[Section]) -> dict[str, Any]:
    """What one day of study holds."""
    return {
        "notebooks": ", ".join(sorted({part.notebook[:2] for part in parts})),
        "from": parts[0].heading,
        "to": parts[-1].heading,
        "exercises": sum(part.exercises for part in parts),
        "minutes": round(sum(part.minutes for part in parts)),
    }


# ---------------------------------------------------------------- progress


def exercise_states(notebook: str, folder: Path = NOTEBOOKS) -> dict[str, str]:
    """Return for each exercise of a saved notebook whether its cell says right, tried, or is open.

    Raises ValueError for a notebook that cannot be read.
    """
    return {
        name: _state(cell)
        for cell in _cells(notebook, folder)
        if cell["cell_type"] == "code"
        for name in CHECKED.findall("".join(cell["source"]))
    }


def _state(cell: dict[str, Any]) -> str:
    """What the last verdict among the outputs of a cell says; open without one."""
    said = [SAYS[verdict] for text in _texts(cell) for verdict in SAYS if text.startswith(f"**{verdict}:")]
    return said[-1] if said else "open"


def _texts(cell: dict[str, Any]) -> Iterator[str]:
    """The Markdown that a cell shows."""
    for output in cell.get("outputs", []):
        yield "".join(output.get("data", {}).get("text/markdown", ""))


def progress(folder: Path = NOTEBOOKS) -> pd.DataFrame:
    """Return the concepts of concepts.csv with a column `state`: one of `STATES`, or `NO_EXERCISE`.

    Raises ValueError for a notebook that cannot be read.
    """
    table = pd.read_csv(folder / "concepts.csv", dtype=str, keep_default_na=False).set_index("concept_id")
    states = {name: exercise_states(name, folder) for name in table["notebook"].unique()}
    asked = zip(table["notebook"], table["exercise"], strict=True)
    return table.assign(
        state=[states[name].get(exercise, "open") if exercise else NO_EXERCISE for name, exercise in asked]
    )


def must_master(folder: Path = NOTEBOOKS) -> pd.DataFrame:
    """Return how many concepts of each step must be mastered (priority M); index: the step, from 1.

    Columns: must; with an exercise; right, of those; to read, which is the rest: no exercise asks for them.
    Raises ValueError for a notebook that cannot be read.
    """
    table = progress(folder)
    must = table[table["priority"] == "M"]
    asked = must["state"] != NO_EXERCISE
    counted = {"must": 1, "with an exercise": asked, "right": must["state"] == "right", "to read": ~asked}
    return pd.DataFrame(counted, must.index).astype(int).groupby(must["step"].astype(int)).sum()


def progress_by_step(folder: Path = NOTEBOOKS) -> pd.DataFrame:
    """Return how many exercises of each step are right, tried and open; index: the step, from 1.

    Raises ValueError for a notebook that cannot be read.
    """
    states = {int(name[:2]): exercise_states(name, folder).values() for name in _steps(folder)}
    counted = {step: [list(found).count(state) for state in STATES] for step, found in states.items()}
    return pd.DataFrame.from_dict(counted, orient="index", columns=STATES).rename_axis("step")


def progress_bars(by_step: pd.DataFrame) -> Axes:
    """Draw `progress_by_step`: a bar a step; what is right is filled, tried is hatched, open is empty."""
    ax = plt.subplots(figsize=(8.5, 2.8))[1]
    looks = {
        "right": {"color": GREEN},
        "tried": {"facecolor": "white", "edgecolor": BLUE, "hatch": "///"},
        "open": {"facecolor": "white", "edgecolor": GRAY},
    }
    left = np.zeros(len(by_step))
    for state, look in looks.items():
        ax.barh([f"step {step}" for step in by_step.index], by_step[state], left=left, label=state, **look)
        left += by_step[state].to_numpy()
    ax.invert_yaxis()
    ax.set(xlabel="exercises")
    ax.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return ax
