"""The interview: questions that change the design, the requirements ledger, metric tree, whiteboard."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch

from helpers.capacity import units
from helpers.figures import BLUE, GRAY, GREEN, ORANGE, PURPLE

SCORING_TIME = 10 * units.microsecond  # one item through one ranking model: the order of magnitude
NETWORK_MS = 0.5  # there and back within one data center: the order of magnitude
SENIORITIES = ("Senior", "Staff")


@dataclass(frozen=True)
class DataField:
    """One line of the data inventory: what is kept, what for, and for how long."""

    name: str
    purpose: str = ""
    retention_days: float | None = None
    personal: bool = True


@dataclass(frozen=True)
class DesignSpec:
    """The requirements ledger. None, or an empty text, means that nobody has asked yet."""

    system: str
    goal: str = ""
    anti_goals: tuple[str, ...] = ()
    users: str = ""
    daily_users: float | None = None
    requests_per_user: float | None = None
    peak_factor: float | None = None
    items: float | None = None
    page_size: float | None = None
    candidates: float | None = None
    p99_ms: float | None = None
    freshness_minutes: float | None = None
    label: str = ""
    label_delay_days: float | None = None
    consent_needed: bool | None = None
    cost_fp: float | None = None
    cost_fn: float | None = None
    data: tuple[DataField, ...] = field(default=())
    privacy: tuple[str, ...] = ()
    seniority: str = ""


# ------------------------------------------------------------------ reviewing a ledger


@dataclass(frozen=True)
class Rule:
    """A thing that a reviewer would say of a ledger, and the test for it."""

    kind: str
    field: str
    finding: str
    broken_by: Callable[[DesignSpec], bool]


def _missing(spec: DesignSpec, *names: str) -> bool:
    values = [getattr(spec, name) for name in names]
    return any(value is None or (isinstance(value, str | tuple) and not value) for value in values)


def _kept_too_briefly(spec: DesignSpec) -> bool:
    """Tell whether data are deleted before the label that belongs to them arrives."""
    delay = spec.label_delay_days or 0
    return any(f.retention_days is not None and f.retention_days < delay for f in spec.data)


COUNTS = (
    "daily_users",
    "requests_per_user",
    "items",
    "page_size",
    "candidates",
    "p99_ms",
    "freshness_minutes",
)
PRECOMPUTED_MINUTES = 60  # lists that are computed ahead for everybody are seldom younger


def _no_number(spec: DesignSpec) -> bool:
    """Tell whether a count is zero, negative or not finite."""
    values = [getattr(spec, name) for name in COUNTS]
    return any(value is not None and not 0 < value < math.inf for value in values)


def _more(spec: DesignSpec, name: str, limit: str) -> bool:
    """Tell whether both numbers are known and the first exceeds the second."""
    return not _missing(spec, name, limit) and getattr(spec, name) > getattr(spec, limit)


def _fresher_than_computed(spec: DesignSpec) -> bool:
    """Tell whether the candidates must be scored ahead of the request, yet be fresher than such lists are."""
    if _missing(spec, "candidates", "p99_ms", "freshness_minutes"):
        return False
    scoring_ms = (spec.candidates * SCORING_TIME).to("millisecond").magnitude
    return scoring_ms > spec.p99_ms and spec.freshness_minutes < PRECOMPUTED_MINUTES


RULES = (
    Rule(
        "missing",
        "goal",
        "No business goal: nobody can say whether the system worked.",
        lambda s: _missing(s, "goal"),
    ),
    Rule(
        "missing",
        "anti_goals",
        "No anti-goals: what must not happen is unprotected.",
        lambda s: _missing(s, "anti_goals"),
    ),
    Rule(
        "missing",
        "label",
        "No label: there is nothing to train on or to measure.",
        lambda s: _missing(s, "label"),
    ),
    Rule(
        "missing",
        "label_delay_days",
        "No label delay: the first honest evaluation has no date.",
        lambda s: _missing(s, "label_delay_days"),
    ),
    Rule(
        "missing",
        "cost_fp, cost_fn",
        "No price for the two errors: the threshold cannot be set.",
        lambda s: _missing(s, "cost_fp", "cost_fn"),
    ),
    Rule(
        "unquantified",
        "p99_ms",
        "A p99 without a request rate: capacity cannot be computed.",
        lambda s: not _missing(s, "p99_ms") and _missing(s, "daily_users", "requests_per_user"),
    ),
    Rule(
        "unquantified",
        "goal",
        "'Real time' is not a number: say how many milliseconds.",
        lambda s: "real time" in s.goal.lower() and _missing(s, "p99_ms"),
    ),
    Rule(
        "unquantified",
        "goal",
        "'Accuracy' on rare events is met by doing nothing: ask what each error costs.",
        lambda s: "accuracy" in s.goal.lower(),
    ),
    Rule(
        "contradictory",
        "data",
        "A field is deleted before its label arrives: no training row can be joined.",
        _kept_too_briefly,
    ),
    Rule(
        "privacy",
        "data",
        "A personal field has no purpose: do not collect it.",
        lambda s: any(f.personal and not f.purpose for f in s.data),
    ),
    Rule(
        "privacy",
        "data",
        "A personal field has no retention: say when it is deleted.",
        lambda s: any(f.personal and f.retention_days is None for f in s.data),
    ),
    Rule(
        "unquantified",
        "cost_fp, cost_fn",
        "Both errors have the same price: ask again, they seldom have.",
        lambda s: not _missing(s, "cost_fp", "cost_fn") and s.cost_fp == s.cost_fn,
    ),
    Rule(
        "contradictory",
        ", ".join(COUNTS),
        "A count or a time is not a number above 0: nothing can be computed from it.",
        _no_number,
    ),
    Rule(
        "contradictory",
        "peak_factor",
        "The peak is below the mean: the factor is at least 1.",
        lambda s: s.peak_factor is not None and not 1 <= s.peak_factor < math.inf,
    ),
    Rule(
        "contradictory",
        "candidates, items",
        "More candidates than there are in the catalog: lower K.",
        lambda s: _more(s, "candidates", "items"),
    ),
    Rule(
        "contradictory",
        "page_size, candidates",
        "The page shows more than there are candidates: nothing is left to choose.",
        lambda s: _more(s, "page_size", "candidates"),
    ),
    Rule(
        "contradictory",
        "page_size, items",
        "The page shows more than there is in the catalog.",
        lambda s: _more(s, "page_size", "items"),
    ),
    Rule(
        "contradictory",
        "p99_ms",
        f"The p99 is shorter than one way through the network and back, about {NETWORK_MS} ms.",
        lambda s: s.p99_ms is not None and 0 < s.p99_ms < NETWORK_MS,
    ),
    Rule(
        "contradictory",
        "candidates, p99_ms, freshness_minutes",
        "The candidates take longer than the p99, so they are scored ahead: then they are not that fresh.",
        _fresher_than_computed,
    ),
    Rule(
        "contradictory",
        "seniority",
        f"An unknown level: choose from {', '.join(SENIORITIES)}.",
        lambda s: s.seniority not in ("", *SENIORITIES),
    ),
)

# What a design that is to be drawn needs beyond the rules for every ledger.
REQUIRED = {
    "users": "No word on who uses it: the segments that must not lose are unknown.",
    "daily_users": "No daily users: every estimate hangs on them.",
    "requests_per_user": "No requests a user: the rate cannot be computed.",
    "peak_factor": "No peak factor: machines are bought for the mean.",
    "items": "No size of the catalog: nobody can say whether one stage is enough.",
    "page_size": "No page size: the volume of the log is unknown.",
    "candidates": "No number of candidates: ranking cannot be priced.",
    "p99_ms": "No p99: every model is fast enough.",
    "freshness_minutes": "No freshness: nightly and streaming are both right.",
    "consent_needed": "Nobody asked whether it must work without a profile.",
    "data": "No data inventory: nobody knows what to erase.",
    "privacy": "No privacy constraints: ask before the features are built.",
    "seniority": "No level: the depth that is expected is unknown.",
}
DESIGN_RULES = (
    *RULES,
    *(
        Rule("missing", name, finding, lambda s, name=name: _missing(s, name))
        for name, finding in REQUIRED.items()
    ),
)


def review(spec: DesignSpec, rules: Sequence[Rule] = RULES) -> pd.DataFrame:
    """Return the reviewer's findings on a ledger: columns kind, field, finding; empty when it is sound.

    rules: `RULES` for a ledger that has just been begun, `DESIGN_RULES` for one that a design is drawn from.
    """
    found = [(rule.kind, rule.field, rule.finding) for rule in rules if rule.broken_by(spec)]
    return pd.DataFrame(found, columns=["kind", "field", "finding"])


# ------------------------------------------------------------------ what a ledger makes you build


def peak_rate(spec: DesignSpec) -> float:
    """Return the requests a second at the busiest time of the day."""
    daily = spec.daily_users * units.user * spec.requests_per_user * units.request / units.user / units.day
    return spec.peak_factor * daily.to("QPS").magnitude


def consequences(spec: DesignSpec) -> dict[str, float | str]:
    """Return what a complete ledger makes you build: numbers, and choices in words."""
    score_all_ms = (spec.items * SCORING_TIME).to("millisecond").magnitude
    return {
        "peak requests a second": peak_rate(spec),
        "log rows a request": spec.page_size,
        "ms to score every item": score_all_ms,
        "stages": "one" if score_all_ms <= spec.p99_ms else "two",
        "serving": "inside the request" if spec.p99_ms < 60_000 else "precomputed",
        "index update": "nightly" if spec.freshness_minutes >= 24 * 60 else "streaming",
        "label": spec.label,
        "days to an honest score": spec.label_delay_days,
        "fallback without a profile": "yes" if spec.consent_needed else "no",
        "filters before ranking": ", ".join(spec.anti_goals),
    }


def design_change(before: DesignSpec, after: DesignSpec) -> float:
    """Return how far two ledgers lead apart: one for each choice that differs, one for each factor of ten."""
    old, new = consequences(before), consequences(after)
    return sum(_distance(old[name], new[name]) for name in old)


def _distance(old: float | str, new: float | str) -> float:
    return float(old != new) if isinstance(old, str) else abs(math.log10(new / old))


# ------------------------------------------------------------------ the interviewer


class Question(NamedTuple):
    """A question, and the field of the ledger that its answer fills: None when it fills none."""

    text: str
    field: str | None = None
    answer: object = "It makes no difference to what you will build."


ASSUMED = DesignSpec(
    system="video platform",
    goal="95% accuracy",
    daily_users=1e6,
    requests_per_user=3,
    peak_factor=1,
    items=1e5,
    page_size=10,
    p99_ms=1_500,
    freshness_minutes=24 * 60,
    label="click",
    label_delay_days=0.1,
    consent_needed=False,
)

QUESTIONS = {
    "users": Question("How many people open the home page on a day?", "daily_users", 200e6),
    "loads": Question("How often does each of them load it on a day?", "requests_per_user", 10),
    "peak": Question("How much higher than the average is the busiest hour?", "peak_factor", 2.5),
    "items": Question("From how many videos can one request choose?", "items", 1e9),
    "latency": Question("How many milliseconds may the slowest one percent of requests take?", "p99_ms", 100),
    "page": Question("How many videos does one page show?", "page_size", 20),
    "freshness": Question(
        "How many minutes after its upload must a video be findable?", "freshness_minutes", 15
    ),
    "success": Question(
        "What tells us that a person was satisfied, beyond the click?", "label", "watched half or more"
    ),
    "delay": Question("How many days until we know that?", "label_delay_days", 1),
    "consent": Question("Must the page work for people who refuse profiling?", "consent_needed", True),
    "harm": Question("What must never be recommended?", "anti_goals", ("unsafe for minors", "click-bait")),
    "average": Question("How many requests a second do you see on average?"),
    "framework": Question("Which deep-learning framework does the team use?"),
    "hardware": Question("Do we get GPUs?"),
    "layers": Question("How many layers should the network have?"),
    "language": Question("Is the service written in Python or in Java?"),
    "team": Question("How large is the team?"),
    "cloud": Question("Which cloud do we run on?"),
    "market": Question("What is the company's market share?"),
    "accuracy": Question("Is 95% accuracy on the test set enough, or do you want more?"),
}


class Interviewer:
    """Answers a limited number of questions; each answer updates the ledger."""

    def __init__(self, budget: int = 6) -> None:
        """Start from the assumed ledger with `budget` questions to spend."""
        self.budget, self.spec, self.log = budget, ASSUMED, []

    def ask(self, key: str) -> object:
        """Return the answer to one question, and write it into the ledger.

        Raises ValueError for an unknown question, or when the budget is spent.
        """
        if key not in QUESTIONS:
            raise ValueError(f"There is no question {key!r}. Choose from: {', '.join(QUESTIONS)}.")
        if len(self.log) >= self.budget:
            raise ValueError(f"All {self.budget} questions are spent. Start again with Interviewer().")
        question, before = QUESTIONS[key], self.spec
        if question.field:
            self.spec = replace(self.spec, **{question.field: question.answer})
        self.log.append((key, question.answer, design_change(before, self.spec)))
        return question.answer

    @property
    def transcript(self) -> pd.DataFrame:
        """The questions asked so far: columns question, answer (as text), design_change."""
        spoken = [(key, _spoken(answer), change) for key, answer, change in self.log]
        return pd.DataFrame(spoken, columns=["question", "answer", "design_change"])


def _spoken(answer: object) -> str:
    """Return an answer as text, a large number with its thousands apart."""
    return f"{answer:,.10g}" if isinstance(answer, float | int) else str(answer)


def complete_spec() -> DesignSpec:
    """Return the ledger after all questions."""
    answers = {q.field: q.answer for q in QUESTIONS.values() if q.field}
    return replace(ASSUMED, **answers)


def questions_score(keys: Sequence[str]) -> float:
    """Return the share of all possible design change that these questions bring, between 0 and 1."""
    interviewer = Interviewer(budget=len(keys))
    for key in keys:
        interviewer.ask(key)
    return design_change(ASSUMED, interviewer.spec) / design_change(ASSUMED, complete_spec())


# ------------------------------------------------------------------ the metric tree

LEVELS = ("business", "online", "offline", "loss")
LEVEL_COLORS = dict(zip((*LEVELS, "guardrail"), (GREEN, BLUE, ORANGE, GRAY, PURPLE), strict=True))


@dataclass(frozen=True)
class Metric:
    """A metric of the tree: its level, and the metric one level up that it is meant to move."""

    name: str
    level: str
    moves: str | None = None


def check_tree(metrics: Sequence[Metric]) -> None:
    """Raise ValueError unless there are metrics, and each stands directly below the metric that it moves."""
    if not metrics:
        raise ValueError("There are no metrics to draw: give at least one Metric.")
    level = {m.name: m.level for m in metrics}
    for metric in metrics:
        if metric.level not in LEVEL_COLORS:
            raise ValueError(
                f"{metric.name!r} has level {metric.level!r}. Choose from: {', '.join(LEVEL_COLORS)}."
            )
        if metric.level in LEVELS[1:]:
            above = LEVELS[LEVELS.index(metric.level) - 1]
            if level.get(metric.moves) != above:
                raise ValueError(
                    f"{metric.name!r} is {metric.level}, so it must move a metric of the {above} level."
                )
        elif metric.moves and metric.moves not in level:
            raise ValueError(
                f"{metric.name!r} moves {metric.moves!r}, but there is no metric {metric.moves!r}."
            )


def metric_tree(metrics: Sequence[Metric]) -> Axes:
    """Draw the metric tree: one column a level, an arrow from each metric to the one it moves.

    Raises ValueError when `check_tree` does.
    """
    check_tree(metrics)
    ax = plt.subplots(figsize=(11, 4.6))[1]
    columns = [[m for m in metrics if m.level == level] for level in LEVEL_COLORS]
    places = {
        m.name: (x, -(y + 0.5) / len(column))
        for x, column in enumerate(columns)
        for y, m in enumerate(column)
    }
    boxes = {m.name: _box(ax, m, places[m.name]) for m in metrics}
    for metric in metrics:
        if metric.moves:
            ends = {
                "patchA": boxes[metric.name],
                "patchB": boxes[metric.moves],
                "arrowstyle": "->",
                "color": GRAY,
            }
            ax.annotate("", places[metric.moves], places[metric.name], arrowprops=ends)
    for x, level in enumerate(LEVEL_COLORS):
        ax.text(x, 0.06, level, ha="center", fontweight="bold", color=LEVEL_COLORS[level])
    ax.set(xlim=(-0.5, len(columns) - 0.5), ylim=(-1.02, 0.14))
    ax.axis("off")
    return ax


def _box(ax: Axes, metric: Metric, place: tuple[float, float]) -> Patch:
    """Draw the name of a metric in a box of its level's color, dashed for a guardrail; return the box."""
    dash = "--" if metric.level == "guardrail" else "-"
    frame = {
        "boxstyle": "round,pad=0.5",
        "fc": "white",
        "ec": LEVEL_COLORS[metric.level],
        "lw": 2,
        "ls": dash,
    }
    text = textwrap.fill(metric.name, 17)
    return ax.text(*place, text, ha="center", va="center", fontsize=11, bbox=frame).get_bbox_patch()


# ------------------------------------------------------------------ the whiteboard


def whiteboard(title: str, blocks: Mapping[str, Sequence[str]]) -> Axes:
    """Draw a whiteboard: one column a block, its heading above its lines.

    Raises ValueError when there are more blocks than columns.
    """
    if len(blocks) > len(LEVEL_COLORS):
        raise ValueError(f"A whiteboard has five columns; {len(blocks)} blocks do not fit. Merge some.")
    bodies = ["\n\n".join(textwrap.fill(line, 25) for line in lines) for lines in blocks.values()]
    height = 0.8 + 0.22 * max(body.count("\n") + 1 for body in bodies)  # inches: the headings, then each line
    ax = plt.subplots(figsize=(12, height + 0.5))[1]
    for x, (heading, body, color) in enumerate(zip(blocks, bodies, LEVEL_COLORS.values(), strict=False)):
        ax.text(x, 0, heading, fontsize=14, fontweight="bold", color=color, va="top")
        ax.text(x, -0.45, body, fontsize=11.5, va="top", linespacing=1.25)
        ax.axvline(x - 0.06, color=color, linewidth=2)
    ax.set_title(title, pad=14)
    ax.set(xlim=(-0.1, len(blocks)), ylim=(-height, 0.05))
    ax.axis("off")
    return ax
