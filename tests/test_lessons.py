"""The map of the series is read from the notebooks as they are, and progress from what their cells say."""

import csv

import nbformat
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from helpers import lessons
from helpers.exercises import Verdict, clarification_and_metrics

NAME = "01_one"


def verdict(sentence):
    return [new_output("display_data", {"text/markdown": sentence})]


@pytest.fixture
def folder(tmp_path):
    """A folder with one notebook of two exercises, one right and one open."""
    cells = [
        new_markdown_cell("# 1 · One\n\n" + "word " * 300),
        new_code_cell("1"),
        new_markdown_cell("## 1.1 Deep\n\n### Exercise 1: a\n\ntext"),
        new_code_cell("exercises.first.check(...)", outputs=verdict("**Right: a.** Well.")),
        new_markdown_cell("### Exercise 2: b"),
        new_code_cell("exercises.second.check(...)", outputs=verdict("**Not attempted yet: b.** Do.")),
    ]
    nbformat.write(new_notebook(cells=cells), tmp_path / f"{NAME}.ipynb")
    with (tmp_path / "run_times.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["notebook", "seconds"], [f"{NAME}.ipynb", 12]])
    rows = [["1.1", "M", "first"], ["1.2", "M", "second"], ["1.3", "M", ""], ["1.4", "B", ""]]
    table = pd.DataFrame(rows, columns=["concept_id", "priority", "exercise"]).assign(notebook=NAME, step="1")
    table.to_csv(tmp_path / "concepts.csv", index=False)
    return tmp_path


def test_a_section_takes_the_minutes_of_its_words_cells_and_exercises(folder):
    top, deep = lessons.sections(NAME, folder)
    assert (top.heading, top.exercises) == ("1 · One", 0)
    assert top.minutes == pytest.approx(304 / lessons.WORDS_A_MINUTE + lessons.MINUTES_A_CELL)
    words = 12  # of the marks and the text of the section
    spent = words / lessons.WORDS_A_MINUTE + 2 * lessons.MINUTES_A_CELL + 2 * lessons.MINUTES_AN_EXERCISE
    assert (deep.heading, deep.exercises) == ("1.1 Deep", 2)
    assert deep.minutes == pytest.approx(spent)


def test_a_lesson_has_its_title_hours_exercises_and_run_time(folder):
    row = lessons.lessons(folder).loc[NAME]
    assert row.to_list() == ["1 · One", 0.5, 2, 12.0]


def test_the_short_path_counts_the_cells_that_are_tagged(folder):
    notebook = nbformat.read(folder / f"{NAME}.ipynb", as_version=4)
    for cell in notebook.cells[:4]:
        cell.metadata["tags"] = [lessons.SHORT_PATH]
    nbformat.write(notebook, folder / f"{NAME}.ipynb")
    words = 304 + 9  # of both texts, with their marks
    minutes = round(words / lessons.WORDS_A_MINUTE + 2 * lessons.MINUTES_A_CELL_SHOWN)
    row = lessons.short_paths(folder).loc[NAME]
    assert row.to_dict() == {"sections": 1, "code cells": 2, "minutes": minutes}


def test_the_short_path_of_every_step_is_short():
    paths = lessons.short_paths()
    assert list(paths.index.str[:2]) == ["01", "02", "03", "04", "05"]
    assert paths[paths.minutes > 45].index.to_list() == []
    assert (paths.minutes > 20).all()


def test_a_step_takes_the_three_hours_that_its_notebook_promises():
    assert set(lessons.lessons().loc["01":"06"].hours) == {3.0}


def test_progress_is_what_the_cells_say(folder):
    assert lessons.exercise_states(NAME, folder) == {"first": "right", "second": "open"}
    assert lessons.progress(folder).state.to_list() == ["right", "open", *[lessons.NO_EXERCISE] * 2]
    assert lessons.progress_by_step(folder).loc[1].to_dict() == {"right": 1, "tried": 0, "open": 1}


def test_what_must_be_mastered_is_asked_by_an_exercise_or_read(folder):
    told = lessons.must_master(folder)
    assert told.loc[1].to_dict() == {"must": 3, "with an exercise": 2, "right": 1, "to read": 1}


def test_every_step_of_the_series_has_concepts_to_master():
    told = lessons.must_master()
    assert list(told.index) == [1, 2, 3, 4, 5]
    assert (told["must"] == told["with an exercise"] + told["to read"]).all()
    assert (told["must"] > 0).all()


@pytest.mark.parametrize(
    ("said", "state"),
    [
        (["**Not yet: a.** No.", "**Right: a.** Yes."], "right"),
        (["**Right: a.** Yes.", "**Not yet: a.** No."], "tried"),
        (["**Not yet: a.** No."], "tried"),
        (["Right: a"], "open"),
        ([], "open"),
    ],
)
def test_the_last_verdict_of_a_cell_counts(folder, said, state):
    notebook = nbformat.read(folder / f"{NAME}.ipynb", as_version=4)
    notebook.cells[3].outputs = [output for sentence in said for output in verdict(sentence)]
    nbformat.write(notebook, folder / f"{NAME}.ipynb")
    assert lessons.exercise_states(NAME, folder)["first"] == state


def test_a_real_verdict_is_read(monkeypatch, folder):
    exercise, said = clarification_and_metrics.ALL[0], []
    monkeypatch.setattr("helpers.exercises.say", said.append)
    exercise.check(exercise.solved())
    assert said[0].startswith(f"**{Verdict.RIGHT.value}:")
    test_the_last_verdict_of_a_cell_counts(folder, said, "right")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": 1'])
def test_a_damaged_notebook_is_named(folder, text):
    (folder / f"{NAME}.ipynb").write_text(text)
    with pytest.raises(ValueError, match=r"01_one.ipynb cannot be read as a notebook"):
        lessons.progress(folder)


@pytest.mark.parametrize("days", [7, 10, 14, 30])
def test_a_plan_holds_every_exercise_once_and_every_day_something(days):
    plan, all_there_is = lessons.plan(days), lessons.lessons()
    assert list(plan.index) == list(range(1, days + 1))
    assert plan.exercises.sum() == all_there_is.exercises.sum()
    study = plan.head(days - lessons.PRACTICE_DAYS)
    assert (study.minutes > 0).all()
    assert study.iloc[0]["from"].startswith("1 ·")
    assert study.notebooks.is_monotonic_increasing


def test_a_plan_of_less_than_a_week_is_refused():
    with pytest.raises(ValueError, match="days must be"):
        lessons.plan(6)


def test_the_bars_hold_all_exercises():
    by_step = pd.DataFrame({"right": [2, 0], "tried": [1, 0], "open": [3, 4]}, index=[1, 2])
    ax = lessons.progress_bars(by_step)
    widths = [[bar.get_width() for bar in container] for container in ax.containers]
    assert widths == [[2, 0], [1, 0], [3, 4]]
    assert [bar.get_x() for bar in ax.containers[2]] == [3, 0]
    plt.close(ax.figure)
