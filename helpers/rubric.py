"""How an interview is graded: rows with weights and levels, red flags, and bands.

The rows sum up what interviewers publish on their grading. Weights and bands are a calibration of the authors
of this project, not a truth: no graded interviews stand behind them.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import pandas as pd

from helpers.shifts import choice, whole

HIGHEST = 4  # points a row
RED_FLAG_CAP = 55
BANDS = (
    "Below 45 no hire, below 60 mid; from 60 Senior, if no row is below 2 and data has 3; from 78 Staff, if "
    "four rows have 4 and none is below 3. Without these rows the next lower band holds."
)
CALIBRATION = "Weights and bands are a calibration of the authors of this project, not a truth."


class Row(NamedTuple):
    """A row of the rubric: its weight, what 1 to 4 points look like, and the concept to practice for it."""

    weight: int
    levels: tuple[str, str, str, str]  # weak, mid, Senior, Staff
    concept_id: str


RUBRIC = {
    "framing and metrics": Row(
        20,
        (
            "starts with a model; 'accuracy'",
            "names the task and a metric",
            "goal, online metric, offline metric, loss; costs of errors, guardrails, baseline, n of the A/B",
            "challenges the goal, validates the proxy; anti-goals, long term, stakeholders",
        ),
        "1.24",
    ),
    "estimation": Row(
        10,
        (
            "none",
            "numbers that change nothing",
            "QPS, storage, cores and labels within a factor of 3, used to reject a design",
            "sensitivity, cost of a thousand requests, which number dominates",
        ),
        "1.32",
    ),
    "architecture": Row(
        15,
        (
            "boxes",
            "two stages, named",
            "two paths, a funnel with counts and ms, fallback, logging contract",
            "failure domains, versions, migration, build or buy, roadmap",
        ),
        "2.1",
    ),
    "data and features": Row(
        20,
        (
            "a list of features",
            "sources and labels",
            "label with its delay, split, leakage, static and dynamic features, parity, privacy",
            "selective labels, feedback loops, knowledge time, lineage of erasure, ownership",
        ),
        "3.10",
    ),
    "model": Row(
        15,
        (
            "one fashionable model",
            "a baseline and one model",
            "a ladder with a rule to climb; loss, calibration, bias, error analysis",
            "stages that agree, governance of several goals, cost against quality",
        ),
        "4.1",
    ),
    "evaluation, release, monitoring": Row(
        15,
        (
            "'A/B, and we monitor drift'",
            "canary and metrics",
            "power, sample ratio, rollout plan, alarms by speed, retraining, rollback",
            "interference, limits of off-policy estimates, incident drill, cost of staleness, owner",
        ),
        "5.5",
    ),
    "communication": Row(
        5,
        (
            "a monologue",
            "answers",
            "drives, signposts, commits, keeps the time",
            "teaches, sets priorities, hands over choices with their consequences",
        ),
        "2.34",
    ),
}

RED_FLAGS = {
    "split": "leakage, or a random split of temporal data, unnoticed",
    "accuracy": "accuracy on rare positives",
    "unavailable": "a feature that is not there at decision time",
    "fallback": "no fallback for a system inside the request",
    "label": "no plan for labels",
    "propensity": "inverse propensity weights from a log without chance",
    "errors": "both errors treated alike",
    "privacy": "personal data without purpose or retention",
    "rollback": "cannot say what would make them roll back",
}


def rubric_table() -> pd.DataFrame:
    """Return the rubric to score yourself by: index row; columns weight, and what each level looks like."""
    rows = {name: [row.weight, *row.levels] for name, row in RUBRIC.items()}
    return pd.DataFrame.from_dict(
        rows, orient="index", columns=["weight", "1 weak", "2 mid", "3 Senior", "4 Staff"]
    ).rename_axis("row")


def check_scores(scores: Mapping[str, int]) -> dict[str, int]:
    """Return the points by row, as given. Raises ValueError for an unknown row, or points outside 0 to 4."""
    return {
        choice("row", row, tuple(RUBRIC)): whole(f"the points of {row}", points, high=HIGHEST)
        for row, points in scores.items()
    }


def total(points: Mapping[str, int], red_flags: Collection[str] = ()) -> float:
    """Return the sum of weight x points / 4 over all rows, 0 to 100; at most 55 with a red flag.

    Raises ValueError for a row without points, an unknown row or flag, or points outside 0 to 4.
    """
    given = check_scores(points)
    if missing := [row for row in RUBRIC if row not in given]:
        raise ValueError(f"These rows have no points yet: {', '.join(missing)}.")
    for flag in red_flags:
        choice("red flag", flag, tuple(RED_FLAGS))
    weighted = sum(row.weight * given[name] / HIGHEST for name, row in RUBRIC.items())
    return min(weighted, RED_FLAG_CAP) if red_flags else weighted


def band(points: Mapping[str, int], red_flags: Collection[str] = ()) -> str:
    """Return the band of the points: "no hire" below 45, "mid" below 60, else "Senior" or "Staff".

    Senior needs no row below 2 and 3 for data; Staff needs 78, four rows of 4 and none below 3. Who has the
    total but not the rows falls to the highest band whose rows fit. Raises ValueError as `total`.
    """
    reached, values = total(points, red_flags), list(points.values())
    if reached >= 78 and values.count(HIGHEST) >= 4 and min(values) >= 3:
        return "Staff"
    if reached >= 60 and min(values) >= 2 and points["data and features"] >= 3:
        return "Senior"
    return "mid" if reached >= 45 else "no hire"
