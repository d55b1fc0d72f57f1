"""The decision lab: feel precision against recall, then use your own choice in the next cell.

Python computes one table per data set; the browser draws from it, so that a slider answers at once.
`operating_point` gives the same numbers without a widget, for experiments over many thresholds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import anywidget
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.metrics import fbeta_score
from statsmodels.stats.proportion import proportion_confint
from traitlets import Bool, Dict, Float, Int, Unicode, observe, validate

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
            f"{now.precision:.3f} and recall {now.recall:.3f}. Run this cell to move the sliders."
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
