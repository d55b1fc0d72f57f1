"""The explorers: move a slider, see what follows, then use your own choice in the next cell.

The decision lab shows what one threshold does. Python computes one table per data set; the browser draws
from it, so that a slider answers at once. `operating_point` gives the same numbers without a widget, for
experiments over many thresholds.

The capacity explorer shows what a load makes of a design. Python computes each answer.
"""

import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import anywidget
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import fbeta_score
from statsmodels.stats.proportion import proportion_confint
from traitlets import Bool, Dict, Float, Int, Unicode, observe, validate

from helpers.architecture import WHOLE, Design
from helpers.figures import BLUE, GRAY, ORANGE
from helpers.metrics import decision_at, decision_table, precision_at_prevalence

# ------------------------------------------------------------ without a widget

POINT = [
    *("threshold", "prevalence", "tp", "fp", "fn", "tn"),
    *("precision", "precision_low", "precision_high", "recall", "recall_low", "recall_high"),
    *("f_beta", "cost"),
]


def operating_point(
    y_true: ArrayLike,
    y_score: ArrayLike,
    threshold: float,
    *,
    prevalence: float | None = None,
    cost_fp: float = 0.0,
    cost_fn: float = 0.0,
    amount: ArrayLike | None = None,
    beta: float = 1.0,
    level: float = 0.95,
) -> pd.Series:
    """What happens when you act on every score of at least `threshold`, with intervals.

    Parameters
    ----------
    y_true, y_score
        Labels 0/1 and scores, shape (n,). Both classes must occur.
    threshold
        The lowest score that is acted on.
    prevalence
        Share of positives in the world you decide for, between 0 and 1. Default: as in the data.
        At another prevalence the counts are the expected ones among n cases.
    cost_fp, cost_fn, amount, beta
        As in `helpers.metrics.decision_table`.
    level
        Coverage of the intervals, between 0 and 1.

    Returns
    -------
    Series
        threshold, prevalence, tp, fp, fn, tn, precision, precision_low, precision_high, recall,
        recall_low, recall_high, f_beta, cost. Precision is NaN where nothing is flagged.

    Raises
    ------
    ValueError
        If an input is out of its range, holds NaN, or differs in length.

    Notes
    -----
    The interval of recall is Wilson's, and so is that of precision at the data's own prevalence.
    At another prevalence it is `precision_interval`.
    """
    _check_share("level", level)
    row = decision_at(y_true, y_score, threshold, cost_fp=cost_fp, cost_fn=cost_fn, amount=amount, beta=beta)
    seen = row[["tp", "fp", "fn", "tn"]]
    weight = _weights(seen, prevalence)
    expected = seen * weight
    actual_prevalence = (expected.tp + expected.fn) / expected.sum()
    missed_cost = weight.fn * (row.cost - cost_fp * row.fp)
    numbers = {
        "threshold": threshold,
        "prevalence": actual_prevalence,
        **expected,
        "precision": precision_at_prevalence(row.recall, row.fpr, actual_prevalence),
        "recall": row.recall,
        "f_beta": _f_beta(expected, beta),
        "cost": cost_fp * expected.fp + missed_cost,
    }
    return pd.Series(numbers | _intervals(seen, prevalence, level))[POINT]


def precision_interval(
    tp: float, fp: float, fn: float, tn: float, prevalence: float, level: float = 0.95
) -> tuple[float, float]:
    """Interval of the precision at a given `prevalence`, from the counts of a labeled sample.

    By Bayes' rule logit(precision) = logit(prevalence) + log(TPR / FPR). The two rates come from different
    rows, so the variances of their logs add. By the delta method these are (1 - rate) / count, in full

        var = (1 - TPR) / (positives * TPR) + (1 - FPR) / (negatives * FPR).

    The normal interval on this scale, mapped back, is the logit interval of Mercaldo, Lau and Zhou (2007),
    "Confidence intervals for predictive values with an emphasis to case-control studies", Statistics in
    Medicine 26. If a count is 0, half a case is added to each of the four (Haldane and Anscombe) and the
    interval is widened to include the precision itself. NaN when nothing is flagged.
    """
    if tp + fp == 0:
        return np.nan, np.nan
    point = float(precision_at_prevalence(tp / (tp + fn), fp / (fp + tn), prevalence))
    tp, fp, fn, tn = np.array([tp, fp, fn, tn]) + (0.5 if min(tp, fp, fn, tn) == 0 else 0.0)
    tpr, fpr = tp / (tp + fn), fp / (fp + tn)
    center = logit(prevalence) + np.log(tpr / fpr)
    half = norm.isf((1 - level) / 2) * np.sqrt((1 - tpr) / tp + (1 - fpr) / fp)
    return min(point, float(expit(center - half))), max(point, float(expit(center + half)))


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}: write 1% as 0.01.")


def _weights(seen: pd.Series, prevalence: float | None) -> pd.Series:
    """How many cases of the world one case of each of the four kinds stands for."""
    positives, negatives = seen.tp + seen.fn, seen.fp + seen.tn
    if prevalence is None:
        return pd.Series(1.0, index=seen.index)
    _check_share("prevalence", prevalence)
    n = positives + negatives
    positive, negative = prevalence * n / positives, (1 - prevalence) * n / negatives
    return pd.Series({"tp": positive, "fp": negative, "fn": positive, "tn": negative})


def _f_beta(counts: pd.Series, beta: float) -> float:
    """F-beta of a confusion matrix with fractional counts: scikit-learn's own on four weighted rows."""
    weights = counts[["tp", "fp", "fn", "tn"]]
    return float(fbeta_score([1, 0, 1, 0], [1, 1, 0, 0], beta=beta, sample_weight=weights, zero_division=0))


def _intervals(seen: pd.Series, prevalence: float | None, level: float) -> dict[str, float]:
    if prevalence is None:
        precision = _wilson(seen.tp, seen.tp + seen.fp, level)
    else:
        precision = precision_interval(*seen, prevalence, level)
    recall = _wilson(seen.tp, seen.tp + seen.fn, level)
    return dict(
        zip(["precision_low", "precision_high", "recall_low", "recall_high"], precision + recall, strict=True)
    )


def _wilson(count: float, n: float, level: float) -> tuple[float, float]:
    """Wilson's interval of a proportion, NaN of nothing."""
    return proportion_confint(count, n, alpha=1 - level, method="wilson") if n else (np.nan, np.nan)


# ------------------------------------------------------------------ the widget

TOP = 500  # so many of the highest scores, and of the highest-scored positives, have a row of their own
SPACED = 500  # rows over all the scores, evenly spaced in the logarithm of what is flagged

WORDS = {
    "tp": "caught",
    "fp": "false alarms",
    "fn": "missed",
    "tn": "left alone",
    "cases": "cases",
    "positives": "positives",
    "negatives": "negatives",
}


class DecisionLab(anywidget.AnyWidget):
    """Explorer of one decision rule, "act when score >= threshold", for JupyterLab.

    Move the sliders in the browser, then read `choice` in the next cell. The traits `dataset`,
    `threshold`, `prevalence` (None: as in the data), `cost_fp`, `cost_fn`, `use_amounts`, `budget` and
    `beta` follow the sliders, and the sliders follow them. `choice` holds the numbers on the screen.

    `threshold` moves up to the next row of the table when it lies between two. Among the top 500 scores
    that flags the same cases; below them, at most about 3% fewer. Every positive has a row (up to 500),
    so that "lowest cost" and "best F" are exact.

    Parameters
    ----------
    y_true, y_score
        Labels 0/1 and scores, shape (n,). Both classes must occur.
    amount
        Money in each case, shape (n,). A missed positive then costs ``cost_fn + amount``.
    name
        What the data set is called in the menu; `add` puts others beside it.
    threshold
        Where to start. Default: the budget's.
    prevalence, cost_fp, cost_fn, budget, beta
        The world to start in. A miss costs its amount, or 1 where there are no amounts, unless you say
        otherwise. `budget` is the number of cases of this data set that can be reviewed,
        by default 100 or all of them.
    currency
        Written before sums of money.
    words
        Your own words for any of the keys of `WORDS`, in the plural: ``{"tp": "frauds stopped"}``.

    Raises
    ------
    ValueError
        If an input is out of its range, holds NaN, or differs in length.
    """

    _esm = Path(__file__).with_name("decision_lab.js")
    _css = Path(__file__).with_name("decision_lab.css")

    tables = Dict().tag(sync=True)
    words = Dict().tag(sync=True)
    currency = Unicode().tag(sync=True)
    dataset = Unicode().tag(sync=True)
    threshold = Float().tag(sync=True)
    prevalence = Float(None, allow_none=True).tag(sync=True)
    cost_fp = Float().tag(sync=True)
    cost_fn = Float().tag(sync=True)
    use_amounts = Bool().tag(sync=True)
    budget = Int(1).tag(sync=True)
    beta = Float(1.0).tag(sync=True)

    def __init__(
        self,
        y_true: ArrayLike,
        y_score: ArrayLike,
        *,
        amount: ArrayLike | None = None,
        name: str = "your data",
        threshold: float | None = None,
        prevalence: float | None = None,
        cost_fp: float = 1.0,
        cost_fn: float | None = None,
        budget: int | None = None,
        beta: float = 1.0,
        currency: str = "€",
        words: Mapping[str, str] | None = None,
    ) -> None:
        """Compute the table of the first data set and start there; the parameters are those of the class."""
        self._scored = {name: {"y_true": y_true, "y_score": y_score, "amount": amount}}
        table = _table(y_true, y_score, amount)
        if cost_fn is None:
            cost_fn = 0.0 if amount is not None else 1.0
        budget = min(100, len(np.asarray(y_true))) if budget is None else budget
        super().__init__(
            tables={name: table},
            words=_own_words(words or {}),
            currency=currency,
            dataset=name,
            threshold=_at_budget(table, budget) if threshold is None else threshold,
            prevalence=prevalence,
            cost_fp=cost_fp,
            cost_fn=cost_fn,
            use_amounts=amount is not None,
            budget=budget,
            beta=beta,
        )

    def add(
        self, name: str, y_true: ArrayLike, y_score: ArrayLike, *, amount: ArrayLike | None = None
    ) -> Self:
        """Put another data set into the menu, or replace the one of that name; returns the lab itself."""
        self.tables = self.tables | {name: _table(y_true, y_score, amount)}
        self._scored[name] = {"y_true": y_true, "y_score": y_score, "amount": amount}
        return self

    @property
    def choice(self) -> pd.Series:
        """The numbers on the screen: `operating_point` at the current threshold in the current world."""
        scored = self._scored[self.dataset]
        return operating_point(
            scored["y_true"],
            scored["y_score"],
            self.threshold,
            prevalence=self.prevalence,
            cost_fp=self.cost_fp,
            cost_fn=self.cost_fn,
            amount=scored["amount"] if self.use_amounts else None,
            beta=self.beta,
        ).rename(self.dataset)

    def __repr__(self) -> str:
        """What stands in a page that shows no widgets."""
        now = self.choice
        return (
            f"DecisionLab of {self.dataset!r}: at threshold {now.threshold:.3g} precision is "
            f"{now.precision:.3f} and recall {now.recall:.3f}. "
            "In JupyterLab, run this cell to move the sliders."
        )

    @observe("dataset", "tables")
    def _snap_again(self, _: Any) -> None:
        self.threshold = self.threshold

    @validate("threshold")
    def _snap(self, proposal: Any) -> float:
        rows = self.tables[self.dataset]["threshold"]
        if np.isnan(proposal.value):
            raise ValueError("threshold is NaN: set it to a score.")
        return rows[min(np.searchsorted(rows, proposal.value), len(rows) - 1)]

    @validate("dataset")
    def _known(self, proposal: Any) -> str:
        if proposal.value not in self.tables:
            raise ValueError(f"There is no data set {proposal.value!r}: choose one of {list(self.tables)}.")
        return proposal.value

    @validate("prevalence")
    def _between_0_and_1(self, proposal: Any) -> float | None:
        if proposal.value is not None:
            _check_share("prevalence", proposal.value)
        return proposal.value

    @validate("cost_fp", "cost_fn")
    def _not_negative(self, proposal: Any) -> float:
        if not 0 <= proposal.value < np.inf:
            raise ValueError(
                f"{proposal.trait.name} must be 0 or more, not {proposal.value}: costs are losses."
            )
        return proposal.value

    @validate("budget", "beta")
    def _positive(self, proposal: Any) -> float:
        if not 0 < proposal.value < np.inf:
            raise ValueError(f"{proposal.trait.name} must be greater than 0, not {proposal.value}.")
        return proposal.value


def _own_words(words: Mapping[str, str]) -> dict[str, str]:
    unknown = set(words) - set(WORDS)
    if unknown:
        raise ValueError(f"words has unknown keys {sorted(unknown)}: choose among {list(WORDS)}.")
    return WORDS | dict(words)


def _table(y_true: ArrayLike, y_score: ArrayLike, amount: ArrayLike | None) -> dict[str, Any]:
    """What the browser needs: about 1,000 thresholds, lowest first, and what happens at each."""
    full = decision_table(y_true, y_score, amount=amount)
    rows = full.iloc[_chosen_rows(full)][::-1]
    thresholds = rows.index.to_numpy(copy=True)
    # JSON has no infinity; the next number above every score flags nothing as well.
    thresholds[-1] = np.nextafter(thresholds[-2], np.inf)
    return {
        "threshold": thresholds.tolist(),
        "tp": rows.tp.astype(int).tolist(),
        "fp": rows.fp.astype(int).tolist(),
        "missed": rows.cost.tolist(),
        "n_pos": int(rows.tp.iloc[0]),
        "n_neg": int(rows.fp.iloc[0]),
        "has_amount": amount is not None,
    }


def _chosen_rows(full: pd.DataFrame) -> np.ndarray:
    """Positions in a full decision table, highest threshold first, that show both of its ends.

    A cheapest threshold and a best F lie where a positive is gained, so these rows come first of all.
    """
    flagged = (full.tp + full.fp).to_numpy()
    top = np.arange(min(TOP + 1, len(full)))
    spaced = np.searchsorted(flagged, np.geomspace(1, flagged[-1], SPACED))
    gains = np.flatnonzero(np.diff(full.tp) > 0)[:TOP] + 1
    return np.unique(np.concatenate([top, spaced.clip(max=len(full) - 1), gains]))


def _at_budget(table: Mapping[str, Any], budget: int) -> float:
    """The lowest threshold of a table that flags no more than `budget` cases."""
    flagged = np.add(table["tp"], table["fp"])
    return table["threshold"][int(np.argmax(flagged <= budget))]


# -------------------------------------------------------- the capacity explorer


def _steps(low: float, high: float) -> list[float]:
    """Six round numbers a decade, from a power of ten to another."""
    decades = 10.0 ** np.arange(np.log10(low), np.log10(high))
    return [*np.outer(decades, [1, 1.5, 2, 3, 5, 7]).ravel().tolist(), float(high)]


LOAD = {  # the arguments of the function that makes the design: what the slider is called, and its values
    "dau": ("Users a day", _steps(1e4, 1e10)),
    "requests_a_day": ("Requests of each", _steps(1, 1e3)),
    "videos": ("Videos", _steps(1e3, 1e11)),
    "k": ("Candidates K", _steps(10, 1e5)),
    "peak_factor": ("Peak over mean", np.arange(1, 10.25, 0.25).tolist()),
}


class CapacityExplorer(anywidget.AnyWidget):
    """Explorer of what a load makes of a design: latency of each stage, machines, cost.

    The traits `dau`, `requests_a_day`, `videos`, `k` and `peak_factor` follow the sliders, and the sliders
    follow them. `design` is the design on the screen. A load that contradicts the design shows the design's
    own error, until a slider is moved to where it holds again. `figure` says the same without a browser.

    Parameters
    ----------
    design_for
        Called with the five traits by name; returns a `Design`, or raises ValueError.
    dau, requests_a_day, videos, k, peak_factor
        The load to start with.

    Raises
    ------
    ValueError
        If a number of the load is not above 0.
    """

    _esm = Path(__file__).with_name("capacity_explorer.js")
    _css = Path(__file__).with_name("capacity_explorer.css")

    sliders = Dict().tag(sync=True)
    view = Dict().tag(sync=True)
    dau = Float().tag(sync=True)
    requests_a_day = Float().tag(sync=True)
    videos = Float().tag(sync=True)
    k = Float().tag(sync=True)
    peak_factor = Float().tag(sync=True)

    def __init__(
        self,
        design_for: Callable[..., Design],
        *,
        dau: float = 2e8,
        requests_a_day: float = 10,
        videos: float = 1e9,
        k: float = 500,
        peak_factor: float = 2.5,
    ) -> None:
        """Start with a load; the parameters are those of the class."""
        self._design_for = design_for
        load = {"dau": dau, "requests_a_day": requests_a_day, "videos": videos, "k": k}
        sliders = {name: {"label": label, "values": values} for name, (label, values) in LOAD.items()}
        super().__init__(sliders=sliders, peak_factor=peak_factor, **load)
        self.observe(lambda _: self._look(), [*LOAD])
        self._look()

    @property
    def load(self) -> dict[str, float]:
        """The numbers that the sliders stand at."""
        return {name: getattr(self, name) for name in LOAD}

    @property
    def design(self) -> Design:
        """The design for the current load. Raises ValueError when the load contradicts it."""
        return self._design_for(**self.load)

    def _look(self) -> None:
        """Show the design for the load, or its error."""
        try:
            view = _view(self.design)
        except ValueError as error:
            view = {"error": str(error), "sentence": "", "rows": [], "columns": []}
        # With the load, a view is new after each move: the browser waits for its answer.
        self.view = view | {"load": self.load}

    @validate(*LOAD)
    def _above_0(self, proposal: Any) -> float:
        if not 0 < proposal.value < np.inf:
            raise ValueError(f"{proposal.trait.name} must be above 0, not {proposal.value}.")
        return proposal.value

    def figure(self) -> Axes:
        """Draw what is on the screen: p50 and p99 of each stage on the left, its cost a month on the right.

        A load that contradicts the design is drawn as the design's error. Returns the left of the axes.
        """
        return _refusal(self) if self.view["error"] else _panels(self)

    def __repr__(self) -> str:
        """What stands in a page that shows no widgets."""
        said = self.view["sentence"] or self.view["error"]
        return f"CapacityExplorer: {said} In JupyterLab, run this cell to move the sliders."


def _view(design: Design) -> dict[str, Any]:
    """What the browser and the figure show: one row for each stage, and the whole."""
    budget, table, needs = design.budget(), design.capacity(), design.needs()
    budget = budget.rename(index={"p99 of the sum": WHOLE}).reindex(table.index)
    rows = [
        {
            "name": name,
            "ms": [] if np.isnan(budget.p99[name]) else [float(budget.p50[name]), float(budget.p99[name])],
            "kind": "" if name == WHOLE or np.isnan(budget.p99[name]) else budget.kind[name],
            "cost": float(needs[name]["cost a month"].magnitude),
            "cells": list(cells),
        }
        for name, cells in zip(table.index, table.itertuples(index=False), strict=True)
    ]
    return {
        "error": "",
        "sentence": _sentence(design, rows),
        "rows": rows,
        "columns": list(table.columns),
        "budget_ms": design.budget_ms,
    }


def _sentence(design: Design, rows: list[dict[str, Any]]) -> str:
    dearest = max(rows[:-1], key=lambda row: row["cost"])
    whole, peak = design.capacity().loc[WHOLE], design.peak_factor * design.mean_rate.to("QPS").magnitude
    budget = "" if design.budget_ms is None else f", budget {design.budget_ms:g} ms"
    return (
        f"{peak:,.0f} requests a second at the peak: p99 {design.p99_ms:.3g} ms{budget}; "
        f"{whole['cores']}, {whole['memory']} of memory, {whole['cost a month']}. The dearest stage is "
        f"{dearest['name']} with {dearest['cost'] / rows[-1]['cost']:.0%} of the cost."
    )


def _load_line(load: Mapping[str, float]) -> str:
    return textwrap.fill("   ".join(f"{LOAD[name][0]}: {value:,.10g}" for name, value in load.items()), 118)


def _panels(explorer: CapacityExplorer) -> Axes:
    """The two panels of the figure, over the load."""
    rows, budget_ms = explorer.view["rows"], explorer.view["budget_ms"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 1.8 + 0.42 * len(rows)), sharey=True)
    for y, row in enumerate(rows):
        if row["ms"]:
            hatch = "///" if row["kind"] == "assumed" else ""
            left.barh(y, row["ms"][1], height=0.66, color="white", ec=BLUE, hatch=hatch)
            left.barh(y, row["ms"][0], height=0.66, color=BLUE)
            _at_bar(left, row["ms"][1], y, f"{row['ms'][0]:.3g} / {row['ms'][1]:.3g} {row['kind']}")
        right.barh(y, row["cost"], height=0.66, color=GRAY)
        cells = dict(zip(explorer.view["columns"], row["cells"], strict=True))
        _at_bar(right, row["cost"], y, f"{cells['cores']}, {cells['cost a month'].split()[0]}")
    if budget_ms is not None:
        left.axvline(budget_ms, color=ORANGE, linestyle="--", zorder=0)
    budget = "" if budget_ms is None else f"; dashed: budget {budget_ms:g}"
    left.set(xlabel=f"ms: p50 filled, p99 framed{budget}", yticks=range(len(rows)))
    right.set(xlabel="cores, and dollars a month", xticks=[])
    left.set(yticklabels=[row["name"] for row in rows], ylim=(len(rows) - 0.4, -0.6))
    for ax in (left, right):
        ax.set_xlim(0, 1.75 * ax.get_xlim()[1])
        ax.grid(visible=False)
    figure.suptitle(_load_line(explorer.load), fontsize=13, x=0.01, ha="left")
    return left


def _at_bar(ax: Axes, x: float, y: float, text: str) -> None:
    """Write behind the end of a bar; white behind it, where it crosses the budget."""
    frame = {"fc": "white", "ec": "none", "pad": 1}
    ax.annotate(text, (x, y), (5, 0), textcoords="offset points", va="center", bbox=frame)


def _refusal(explorer: CapacityExplorer) -> Axes:
    """The error of the design, under the load."""
    ax = plt.subplots(figsize=(12, 1.8))[1]
    ax.text(0, 0.95, textwrap.fill("Refused: " + explorer.view["error"], 100), va="top", color=ORANGE)
    ax.set_title(_load_line(explorer.load), fontsize=13, weight="normal")
    ax.axis("off")
    return ax
