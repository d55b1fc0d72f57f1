"""Metrics that scikit-learn lacks: money at a threshold, ranking per query, calibration, intervals.

One decision rule everywhere: act when ``score >= threshold``. A positive is labeled 1.
For average precision, ROC-AUC, Brier score and log-loss use `sklearn.metrics` directly.
Bad input raises a `ValueError` that names the argument and the repair.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.metrics import average_precision_score, log_loss, roc_auc_score
from statsmodels.stats.power import normal_sample_size_one_tail
from statsmodels.stats.proportion import proportion_confint

# ---------------------------------------------------------------- input checks


def _array(
    name: str,
    values: ArrayLike,
    ndim: int | None = None,
    low: float = -np.inf,
    high: float = np.inf,
    infinite: bool = False,
) -> np.ndarray:
    """`values` as floats in [low, high]: not empty, no NaN, `ndim` dimensions, finite unless `infinite`."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{name} must hold numbers only, in rows of equal length: pad short ones.") from None
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} must have {ndim} dimension(s), but its shape is {array.shape}: reshape it.")
    if array.size == 0:
        raise ValueError(f"{name} is empty: pass at least one value.")
    if np.isnan(array).any() or not (infinite or np.isfinite(array).all()):
        raise ValueError(f"{name} contains NaN or infinity: drop or fill those values first.")
    if array.min() < low or array.max() > high:
        span = f"[{array.min():g}, {array.max():g}]"
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}], not in {span}: check its sign and unit.")
    return array


def _fractions(name: str, values: ArrayLike, ndim: int | None = None) -> np.ndarray:
    """`values` as floats in [0, 1]."""
    return _array(name, values, ndim, low=0, high=1)


def _positive(name: str, value: float, below: float = np.inf) -> float:
    """One number strictly between 0 and `below`."""
    number = float(_array(name, value, ndim=0))
    if not 0 < number < below:
        raise ValueError(f"{name} must be greater than 0 and less than {below:g}, not {number:g}: change it.")
    return number


def _cost(name: str, value: float) -> float:
    """One amount of money, 0 or more."""
    return float(_array(name, value, ndim=0, low=0))


def _integer(name: str, value: int, high: float = np.inf) -> int:
    """One integer from 1 to `high`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not 1 <= value <= high:
        raise ValueError(f"{name} must be an integer from 1 to {high}, not {value!r}: change it.")
    return int(value)


def _choice(name: str, value: str, options: tuple[str, ...]) -> None:
    """`value` is one of `options`."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, not {value!r}.")


def _flags(name: str, values: ArrayLike) -> np.ndarray:
    """One dimension of 0 and 1 (or False and True), as booleans."""
    array = _array(name, values, ndim=1)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(
            f"{name} must hold only 0 and 1 (1 = positive): map your labels or decisions to them."
        )
    return array.astype(bool)


def _equal_lengths(**arrays: ArrayLike) -> None:
    """All arrays describe the same rows."""
    lengths = {name: len(array) for name, array in arrays.items()}
    if len(set(lengths.values())) > 1:
        found = ", ".join(f"{name} has {length}" for name, length in lengths.items())
        raise ValueError(f"Unequal lengths: {found}. Select the same rows for all of them.")


def _require(*classes: int, labels: np.ndarray) -> None:
    """Each of `classes` (1 = positive, 0 = negative) occurs among the labels."""
    for wanted in classes:
        if not (labels == wanted).any():
            missing = "positive (1)" if wanted else "negative (0)"
            raise ValueError(f"y_true holds no {missing}, so this metric is undefined: use more rows.")


def _scored(y_true: ArrayLike, y_score: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels as booleans and their scores."""
    labels, scores = _flags("y_true", y_true), _array("y_score", y_score, ndim=1)
    _equal_lengths(y_true=labels, y_score=scores)
    return labels, scores


def _predicted(y_true: ArrayLike, y_prob: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Labels as booleans and their predicted probabilities."""
    labels, probabilities = _flags("y_true", y_true), _fractions("y_prob", y_prob, ndim=1)
    _equal_lengths(y_true=labels, y_prob=probabilities)
    return labels, probabilities


def _ratio(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Numerator / denominator, NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(*map(np.asarray, (numerator, denominator)))
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator != 0)


# ------------------------------------------------------ decisions at a threshold


def decision_table(
    y_true: ArrayLike,
    y_score: ArrayLike,
    thresholds: ArrayLike | None = None,
    *,
    cost_fp: float = 0.0,
    cost_fn: float = 0.0,
    amount: ArrayLike | None = None,
    beta: float = 1.0,
) -> pd.DataFrame:
    """What happens at each threshold: counts, rates and money, one row per threshold, highest first.

    Parameters
    ----------
    y_true, y_score
        Labels 0/1 and scores, shape (n,). Both classes must occur.
    thresholds
        Shape (t,), any order. Default: every distinct score, and +inf, which is "never act".
    cost_fp, cost_fn
        Money per false alarm and per missed positive.
    amount
        Money in each row, shape (n,). A missed positive then costs ``cost_fn + amount``.
    beta
        Weight of recall in ``f_beta = (1 + beta^2) P R / (beta^2 P + R)``.

    Returns
    -------
    DataFrame
        Index `threshold`; columns tp, fp, fn, tn, precision, recall, fpr, specificity, f_beta, accuracy,
        cost. Where nothing is flagged, precision is NaN and f_beta is 0.
    """
    labels, scores = _scored(y_true, y_score)
    _require(0, 1, labels=labels)
    if thresholds is None:
        thresholds = np.append(np.unique(scores), np.inf)
    thresholds = np.sort(_array("thresholds", thresholds, ndim=1, infinite=True))[::-1]
    order = np.argsort(scores)
    below = np.searchsorted(scores[order], thresholds)
    fn = _cumulative(labels[order])[below]
    cost = _cost("cost_fn", cost_fn) * fn
    if amount is not None:
        cost = cost + _cumulative((_amounts(amount, labels) * labels)[order])[below]
    counts = {"tp": labels.sum() - fn, "fp": (~labels).sum() - (below - fn), "fn": fn, "tn": below - fn}
    table = pd.DataFrame(counts, index=pd.Index(thresholds, name="threshold"))
    table = table.assign(**_rates(**counts, beta=_positive("beta", beta)))
    return table.assign(cost=cost + _cost("cost_fp", cost_fp) * table["fp"])


def _amounts(amount: ArrayLike, labels: np.ndarray) -> np.ndarray:
    """The amount of each row, 0 or more."""
    amounts = _array("amount", amount, ndim=1, low=0)
    _equal_lengths(y_true=labels, amount=amounts)
    return amounts


def _cumulative(values: np.ndarray) -> np.ndarray:
    """Sums of the first 0, 1, ..., n values."""
    return np.concatenate([[0], np.cumsum(values)])


def _rates(
    tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray, beta: float
) -> dict[str, np.ndarray]:
    """The rates of a confusion matrix that holds both classes."""
    return {
        "precision": _ratio(tp, tp + fp),
        "recall": tp / (tp + fn),
        "fpr": fp / (fp + tn),
        "specificity": tn / (fp + tn),
        "f_beta": (1 + beta**2) * tp / ((1 + beta**2) * tp + beta**2 * fn + fp),
        "accuracy": (tp + tn) / (tp + fp + fn + tn),
    }


def decision_at(y_true: ArrayLike, y_score: ArrayLike, threshold: float, **keywords: Any) -> pd.Series:
    """The row of `decision_table` for one threshold; it takes the same keywords."""
    return decision_table(y_true, y_score, [threshold], **keywords).iloc[0]


def precision_at_prevalence(recall: ArrayLike, fpr: ArrayLike, prevalence: ArrayLike) -> np.ndarray | float:
    """Precision of the same operating point where `prevalence` of the rows are positive.

    Bayes' rule: ``pi TPR / (pi TPR + (1 - pi) FPR)``; NaN when nothing is flagged. Arguments broadcast.
    """
    flagged_positives = _fractions("prevalence", prevalence) * _fractions("recall", recall)
    flagged_negatives = (1 - np.asarray(prevalence)) * _fractions("fpr", fpr)
    return _ratio(flagged_positives, flagged_positives + flagged_negatives)[()]


def at_budget(y_true: ArrayLike, y_score: ArrayLike, budget: int) -> pd.Series:
    """Precision and recall when the `budget` highest-scored rows are reviewed, and the most attainable.

    Rows tied at the cut are reviewed in random order; the values are expectations over it.
    Index: budget (rows), precision, recall, max_precision ``min(1, positives / budget)`` and
    max_recall ``min(1, budget / positives)``. `budget` runs from 1 to the number of rows.
    """
    labels, scores = _scored(y_true, y_score)
    _require(1, labels=labels)
    budget = _integer("budget", budget, high=len(scores))
    cut = np.partition(scores, -budget)[-budget]
    above, tied = scores > cut, scores == cut
    hits = labels[above].sum() + (budget - above.sum()) * labels[tied].mean()
    positives = labels.sum()
    return pd.Series(
        {
            "budget": budget,
            "precision": hits / budget,
            "recall": hits / positives,
            "max_precision": min(1.0, positives / budget),
            "max_recall": min(1.0, budget / positives),
        }
    )


def cost_threshold(cost_fp: float, cost_fn: float) -> float:
    """The probability from which acting is cheaper: C_FP / (C_FP + C_FN) (Elkan 2001).

    Holds for calibrated probabilities, with correct decisions free of cost.
    """
    cost_fp, cost_fn = _cost("cost_fp", cost_fp), _cost("cost_fn", cost_fn)
    return cost_fp / _positive("cost_fp + cost_fn", cost_fp + cost_fn)


def amount_threshold(amount: ArrayLike, cost_fp: float) -> np.ndarray:
    """`cost_threshold` of each transaction, when a missed one costs its amount: shape of `amount`."""
    cost_fp = _positive("cost_fp", cost_fp)
    return cost_fp / (cost_fp + _array("amount", amount, low=0))


def decision_cost(
    y_true: ArrayLike,
    flagged: ArrayLike,
    *,
    cost_fp: float,
    amount: ArrayLike | None = None,
    cost_fn: float = 0.0,
) -> float:
    """Money lost by any decisions, `flagged` 0/1 of shape (n,); costs as in `decision_table`."""
    labels, flags = _flags("y_true", y_true), _flags("flagged", flagged)
    _equal_lengths(y_true=labels, flagged=flags)
    missed = labels & ~flags
    cost = _cost("cost_fp", cost_fp) * (flags & ~labels).sum() + _cost("cost_fn", cost_fn) * missed.sum()
    return float(cost if amount is None else cost + _amounts(amount, labels)[missed].sum())


def best_threshold(
    y_true: ArrayLike,
    y_score: ArrayLike,
    *,
    cost_fp: float,
    cost_fn: float = 0.0,
    amount: ArrayLike | None = None,
) -> float:
    """The cheapest threshold of `decision_table`; of equally cheap ones the highest (fewest actions).

    Choose it on validation rows: on the rows that also judge it, the cost looks better than it is.
    """
    table = decision_table(y_true, y_score, cost_fp=cost_fp, cost_fn=cost_fn, amount=amount)
    return float(table["cost"].idxmin())


# ------------------------------------------------------------- ranking per query
# `relevance` has shape (queries, items): the grades (0 = not relevant) of each list, best-ranked first.
# Pad shorter lists with 0. Results have one value per query: average them, or pass them to a bootstrap.


def _grades(relevance: ArrayLike) -> np.ndarray:
    """Grades of shape (queries, items), 0 or more."""
    return _array("relevance", relevance, ndim=2, low=0)


def ranked(relevance: ArrayLike, scores: ArrayLike, ties: str = "worst", seed: int = 0) -> np.ndarray:
    """`relevance` with each row in descending order of `scores`; both of shape (queries, items).

    Tied items: `ties` = "worst" puts the less relevant first, "best" the more relevant, "random" shuffles
    with `seed`. If worst and best differ much, ties decide your metric.
    """
    grades, scores = _grades(relevance), _array("scores", scores, ndim=2)
    if grades.shape != scores.shape:
        raise ValueError(f"relevance has shape {grades.shape}, scores {scores.shape}: they must be equal.")
    _choice("ties", ties, ("worst", "best", "random"))
    if ties == "random":
        tiebreak = np.random.default_rng(seed).random(grades.shape)
    else:
        tiebreak = grades if ties == "worst" else -grades
    return np.take_along_axis(grades, np.lexsort((tiebreak, -scores), axis=1), axis=1)


def precision_at_k(relevance: ArrayLike, k: int) -> np.ndarray:
    """Share of relevant items among the first k; a list shorter than k is still divided by k."""
    return (_grades(relevance)[:, : _integer("k", k)] > 0).sum(axis=1) / k


def _relevant(hits: np.ndarray, n_relevant: ArrayLike | None) -> np.ndarray:
    """Relevant items per query: those in the list, or `n_relevant` when some are not in it."""
    if n_relevant is None:
        return hits.sum(axis=1)
    counts = _array("n_relevant", n_relevant, ndim=1)
    _equal_lengths(relevance=hits, n_relevant=counts)
    if (counts < hits.sum(axis=1)).any():
        raise ValueError("n_relevant is below the relevant items in the list: count all relevant items.")
    return counts


def recall_at_k(relevance: ArrayLike, k: int, n_relevant: ArrayLike | None = None) -> np.ndarray:
    """Share of a query's relevant items that are among the first k; NaN when it has none.

    `n_relevant`, shape (queries,): all relevant items of each query, also those not in the list.
    """
    hits = _grades(relevance) > 0
    return _ratio(hits[:, : _integer("k", k)].sum(axis=1), _relevant(hits, n_relevant))


def reciprocal_rank(relevance: ArrayLike, k: int | None = None) -> np.ndarray:
    """1 / rank of the first relevant item; 0 when there is none among the first k (default: in the list).

    Its mean over queries is MRR.
    """
    grades = _grades(relevance)
    hits = grades[:, : grades.shape[1] if k is None else _integer("k", k)] > 0
    return hits.any(axis=1) / (1 + hits.argmax(axis=1))


def average_precision_at_k(relevance: ArrayLike, k: int, n_relevant: ArrayLike | None = None) -> np.ndarray:
    """Sum of P@i over the relevant ranks i <= k, divided by min(m, k), with m relevant items; NaN when m = 0.

    `n_relevant` as in `recall_at_k`. The mean over queries is MAP@k. Other tools divide by m, or by
    the hits among the first k, and print other numbers.
    """
    hits = _grades(relevance) > 0
    top = hits[:, : _integer("k", k)]
    precision = np.cumsum(top, axis=1) / np.arange(1, top.shape[1] + 1)
    return _ratio((precision * top).sum(axis=1), np.minimum(_relevant(hits, n_relevant), k))


def _dcg(grades: np.ndarray, k: int, gain: str) -> np.ndarray:
    """Sum over ranks i <= k of gain / log2(i + 1)."""
    top = grades[:, :k]
    gains = top if gain == "linear" else np.exp2(top) - 1
    return gains @ (1 / np.log2(np.arange(2, top.shape[1] + 2)))


def ndcg_at_k(
    relevance: ArrayLike, k: int, gain: str = "linear", ideal: ArrayLike | None = None
) -> np.ndarray:
    """Discounted gain of the first k items over that of the best possible order (Järvelin & Kekäläinen 2002).

    `gain` is "linear" (the grade, as in scikit-learn) or "exponential" (``2^grade - 1``, as in LightGBM).
    `ideal`, shape (queries, judged): grades of all judged items, when some are not in the list.
    NaN for a query without a relevant item (scikit-learn gives 0): averages skip it with `np.nanmean`.
    Exponential gain takes grades up to 50; larger ones are no grades (seconds?) and would overflow.
    """
    _choice("gain", gain, ("linear", "exponential"))
    k, highest = _integer("k", k), np.inf if gain == "linear" else 50
    grades = _array("relevance", relevance, ndim=2, low=0, high=highest)
    judged = grades if ideal is None else _array("ideal", ideal, ndim=2, low=0, high=highest)
    _equal_lengths(relevance=grades, ideal=judged)
    found, best = _dcg(grades, k, gain), _dcg(-np.sort(-judged, axis=1), k, gain)
    if (found > best * (1 + 1e-9)).any():
        raise ValueError("ideal is worse than the list: include the grades of the listed items in it.")
    return _ratio(found, best)


def query_auc(y_true: ArrayLike, y_score: ArrayLike, query: ArrayLike) -> pd.DataFrame:
    """ROC-AUC within each query; a tie counts 1/2. Queries with one class only are left out.

    All arguments have shape (n,). Index `query`; columns auc, n (rows) and positives.
    Weighted by rows it is GAUC: ``np.average(table.auc, weights=table.n)``.
    """
    labels, scores = _scored(y_true, y_score)
    _equal_lengths(y_true=labels, query=query)
    if pd.isna(query).any():
        raise ValueError("query contains missing values: drop those rows first.")
    rows = pd.DataFrame({"query": np.asarray(query), "positive": labels, "score": scores})
    rows["rank"] = rows.groupby("query")["score"].rank() * labels
    table = rows.groupby("query").agg(
        n=("rank", "size"), positives=("positive", "sum"), ranks=("rank", "sum")
    )
    table = table.query("0 < positives < n")
    if table.empty:
        raise ValueError("No query has both a positive and a negative: check that query groups the rows.")
    wins = table["ranks"] - table["positives"] * (table["positives"] + 1) / 2
    auc = wins / (table["positives"] * (table["n"] - table["positives"]))
    return table.assign(auc=auc)[["auc", "n", "positives"]]


# ------------------------------------------------------------------- calibration


def _bin_index(y_prob: np.ndarray, bins: int, strategy: str) -> np.ndarray:
    """The bin of each probability, as in scikit-learn's `calibration_curve`; equal ones share a bin."""
    _choice("strategy", strategy, ("quantile", "uniform"))
    edges = np.linspace(0, 1, _integer("bins", bins) + 1)
    edges = np.percentile(y_prob, 100 * edges) if strategy == "quantile" else edges
    return np.searchsorted(edges[1:-1], y_prob)


def _wilson(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
    """Wilson interval of successes / n; exactly 0 or 1 at the ends, where rounding misses the estimate."""
    low, high = proportion_confint(successes, n, alpha=1 - level, method="wilson")
    return np.where(successes == 0, 0.0, low), np.where(successes == n, 1.0, high)


def reliability_table(
    y_true: ArrayLike, y_prob: ArrayLike, bins: int = 10, strategy: str = "quantile"
) -> pd.DataFrame:
    """Predicted against observed rate in each bin, with the 95 % Wilson interval of the observed rate.

    `strategy` "quantile" gives bins of equal count, "uniform" of equal width; empty bins are left out.
    Columns: n, mean_predicted, observed, low, high.
    """
    labels, probabilities = _predicted(y_true, y_prob)
    rows = pd.DataFrame({"bin": _bin_index(probabilities, bins, strategy), "p": probabilities, "y": labels})
    groups = rows.groupby("bin")
    table = groups.agg(n=("p", "size"), mean_predicted=("p", "mean"), observed=("y", "mean"))
    low, high = _wilson(groups["y"].sum(), table["n"])
    return table.assign(low=low, high=high)


def expected_calibration_error(
    y_true: ArrayLike, y_prob: ArrayLike, bins: int = 10, strategy: str = "quantile"
) -> float:
    """Mean gap between observed and predicted rate over the bins of `reliability_table`, weighted by rows.

    Noise alone makes it positive: compare it with `ece_null_expectation`.
    """
    table = reliability_table(y_true, y_prob, bins, strategy)
    return float(np.average((table["observed"] - table["mean_predicted"]).abs(), weights=table["n"]))


def ece_null_expectation(y_prob: ArrayLike, bins: int = 10) -> float:
    """The ECE that a perfectly calibrated model scores on average, in equal-count bins.

    ``sqrt(2/pi) E[sqrt(p (1 - p))] sqrt(bins / n)``: the mean of the half-normal sampling error of each bin.
    """
    probabilities = _fractions("y_prob", y_prob, ndim=1)
    spread = np.sqrt(probabilities * (1 - probabilities)).mean()
    return float(np.sqrt(2 / np.pi) * spread * np.sqrt(_integer("bins", bins) / len(probabilities)))


def calibration_ratio(y_true: ArrayLike, y_prob: ArrayLike) -> float:
    """Expected positives / observed positives: above 1 the model predicts too many."""
    labels, probabilities = _predicted(y_true, y_prob)
    _require(1, labels=labels)
    return float(probabilities.sum() / labels.sum())


def normalized_entropy(y_true: ArrayLike, y_prob: ArrayLike) -> float:
    """Log-loss / log-loss of always predicting the base rate (He et al. 2014); below 1 the model helps.

    Compare it only between models judged on the same rows.
    """
    labels, probabilities = _predicted(y_true, y_prob)
    _require(0, 1, labels=labels)
    return float(log_loss(labels, probabilities) / log_loss(labels, np.full(len(labels), labels.mean())))


def undo_downsampling(y_prob: ArrayLike, keep_rate: float) -> np.ndarray:
    """Probabilities of a model trained on `keep_rate` of the negatives, put back: p / (p + (1 - p) / w).

    Right only if the model was calibrated on its own sample: check `calibration_ratio` afterwards.
    """
    probabilities = _fractions("y_prob", y_prob)
    keep_rate = float(_fractions("keep_rate", _positive("keep_rate", keep_rate)))
    return probabilities / (probabilities + (1 - probabilities) / keep_rate)


def change_prior(y_prob: ArrayLike, prior_from: float, prior_to: float) -> np.ndarray:
    """Probabilities after the base rate moved: odds times the ratio of the prior odds (label shift).

    Assumes that P(x | y) did not move.
    """
    probabilities = _fractions("y_prob", y_prob)
    prior_from, prior_to = _positive("prior_from", prior_from, 1), _positive("prior_to", prior_to, 1)
    positive = probabilities * prior_to / prior_from
    return positive / (positive + (1 - probabilities) * (1 - prior_to) / (1 - prior_from))


# ------------------------------------------------------- distributions: drift and exposure


def population_stability_index(
    expected: ArrayLike, actual: ArrayLike, edges: ArrayLike | None = None
) -> float:
    """PSI of two samples: sum over the bins of (a - e) ln(a / e), with a and e the shares of each bin.

    NaN fills a bin of its own. Half a row is added to each bin, so that an empty one stays finite.
    edges: ascending bin edges; default: the deciles of `expected`, open at both ends. It is the Jeffreys
    divergence; without drift it is about (bins - 1) (1/n + 1/m) for n and m rows (Yurdakul 2018).
    Raises ValueError for an empty or infinite sample, or fewer than two edges.
    """
    samples = [_with_gaps(name, x) for name, x in (("expected", expected), ("actual", actual))]
    if np.isnan(samples[0]).all():
        raise ValueError("expected holds no number: compare with a sample that has some.")
    inner = np.unique(np.nanquantile(samples[0], np.linspace(0.1, 0.9, 9)))
    edges = np.r_[-np.inf, inner, np.inf] if edges is None else np.sort(np.asarray(edges, float))
    if len(edges) < 2:
        raise ValueError("edges must hold at least two values: they are the ends of the bins.")
    counts = [np.append(np.histogram(x[~np.isnan(x)], edges)[0], np.isnan(x).sum()) + 0.5 for x in samples]
    e, a = (count / count.sum() for count in counts)
    return float(np.sum((a - e) * np.log(a / e)))


def _with_gaps(name: str, values: ArrayLike) -> np.ndarray:
    """Values as floats; NaN is allowed, infinity is not."""
    array = np.asarray(values, dtype=float).ravel()
    if not array.size or np.isinf(array).any():
        raise ValueError(f"{name} is empty, or holds infinity: check the column.")
    return array


def gini(counts: ArrayLike) -> float:
    """Gini index of counts such as exposures: 0 when all are equal, near 1 when one has nearly everything.

    Raises ValueError for negative counts, or when all are zero.
    """
    ordered = np.sort(_array("counts", counts, ndim=1, low=0))
    if not ordered.sum():
        raise ValueError("counts are all zero: there is nothing to share.")
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * ordered.sum()))


# ------------------------------------------------------------------- uncertainty


@dataclass(frozen=True)
class Interval:
    """An estimate with its confidence interval; ``f"{interval:.1%}"`` formats all three numbers."""

    estimate: float
    low: float
    high: float
    level: float = 0.95

    def covers(self, value: float) -> bool:
        """Whether `value` lies in the interval."""
        return self.low <= value <= self.high

    def __format__(self, spec: str) -> str:
        """The three numbers, each in format `spec` (default .3f)."""
        estimate, low, high = (format(x, spec or ".3f") for x in (self.estimate, self.low, self.high))
        return f"{estimate} [{low}, {high}]"

    def __str__(self) -> str:
        """The three numbers to three decimals."""
        return format(self)


def _per_rank(labels: np.ndarray, ranks: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many positives and negatives hold each rank."""
    return np.bincount(ranks, weights=counts * labels), np.bincount(ranks, weights=counts * ~labels)


def _average_precision(labels: np.ndarray, ranks: np.ndarray, sample_weight: np.ndarray) -> float:
    """Average precision of scores given as ranks (0 = highest); NaN without a positive."""
    positives, negatives = _per_rank(labels, ranks, sample_weight)
    tp, fp = np.cumsum(positives), np.cumsum(negatives)
    return (positives * (tp / np.maximum(tp + fp, 1))).sum() / tp[-1]


def _roc_auc(labels: np.ndarray, ranks: np.ndarray, sample_weight: np.ndarray) -> float:
    """ROC-AUC of scores given as ranks (0 = highest); NaN without a positive or a negative."""
    positives, negatives = _per_rank(labels, ranks, sample_weight)
    fp = np.cumsum(negatives)
    return (positives * (fp[-1] - fp + negatives / 2)).sum() / (positives.sum() * fp[-1])


# scikit-learn's functions spend a millisecond a call on checks. A bootstrap calls them a thousand times on a
# few hundred cells, so it uses these equals; a test holds them to the originals. Neither calls `@`: on short
# vectors the threads of a BLAS library wait for each other longer than they work.
_BY_ORDER = {average_precision_score: _average_precision, roc_auc_score: _roc_auc}


def _ranks(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """The rank of each row, 0 = highest; equal for ties, and for a run of negatives between two positives.

    The order of the negatives within such a run changes neither average precision nor ROC-AUC.
    """
    _, group = np.unique(-scores, return_inverse=True)
    has_positive = np.bincount(group, weights=labels) > 0
    differs_from_last = has_positive[1:] | has_positive[:-1]
    return _cumulative(differs_from_last)[group]


def _cheapest(metric: Callable[..., float], columns: list[np.ndarray]) -> tuple[Callable, list[np.ndarray]]:
    """A metric and columns that give the same value on every resample, at the least work."""
    if metric not in _BY_ORDER:
        return metric, columns
    labels = _flags("y_true", columns[0])
    _require(0, 1, labels=labels)
    return _BY_ORDER[metric], [labels, *(_ranks(labels, scores) for scores in columns[1:])]


def _columns(columns: dict[str, ArrayLike]) -> list[np.ndarray]:
    """Columns of equal length, as floats."""
    arrays = {name: _array(name, column, ndim=1) for name, column in columns.items()}
    _equal_lengths(**arrays)
    return list(arrays.values())


def _cells(columns: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    """The distinct rows, as columns, and the cell that each row falls into."""
    rows = pd.DataFrame(dict(enumerate(columns)))
    groups = rows.groupby([*rows.columns])
    cells = groups.size().reset_index(name="size")
    return [cells[i].to_numpy() for i in rows.columns], groups.ngroup().to_numpy()


def _units(unit: ArrayLike | None, rows: int) -> np.ndarray | None:
    """The number of the unit of each row, from 0 on; None when each row is a unit of its own."""
    if unit is None:
        return None
    if np.any(pd.isna(np.asarray(unit))):
        raise ValueError("unit has missing values, which would count as one unit: fill or drop those rows.")
    names, unit_of_row = np.unique(np.asarray(unit), return_inverse=True)
    if unit_of_row.shape != (rows,):
        raise ValueError(f"unit must name one unit a row: {rows} rows, but its shape is {np.shape(unit)}.")
    if len(names) < 2:
        raise ValueError("unit names a single unit, and one cannot be resampled: use rows of more units.")
    return unit_of_row


def _resample(
    rng: np.random.Generator, cell_of_row: np.ndarray, unit_of_row: np.ndarray | None = None
) -> np.ndarray:
    """How often each cell is drawn when as many rows, or units, as there are get drawn with replacement.

    Rows are drawn, not cells: scores that differ in the last digit, as between two platforms, make other
    cells but meet the same draws. A unit brings all of its rows.
    """
    if unit_of_row is not None:
        n = unit_of_row.max() + 1
        times_drawn = np.bincount(rng.integers(n, size=n), minlength=n)
        return np.bincount(cell_of_row, weights=times_drawn[unit_of_row])
    drawn = cell_of_row[rng.integers(len(cell_of_row), size=len(cell_of_row))]
    return np.bincount(drawn, minlength=cell_of_row.max() + 1)


def _percentile_interval(
    metric: Callable[..., float],
    columns: list[np.ndarray],
    estimate: float,
    *,
    unit: ArrayLike | None,
    n_resamples: int,
    level: float,
    seed: int,
) -> Interval:
    """`estimate` with the central `level` of the metric's values on resampled rows or units."""
    tail = (1 - _positive("level", level, below=1)) / 2
    unit_of_row = _units(unit, len(columns[0]))
    cells, cell_of_row = _cells(columns)
    rng = np.random.default_rng(seed)
    with np.errstate(invalid="ignore"):
        draws = (
            _resample(rng, cell_of_row, unit_of_row) for _ in range(_integer("n_resamples", n_resamples))
        )
        values = np.array([metric(*cells, sample_weight=counts) for counts in draws])
    values = values[~np.isnan(values)]
    if np.isnan(estimate) or len(values) < n_resamples / 2:
        raise ValueError("The metric is undefined (NaN) on most resamples: use more rows, or more positives.")
    return Interval(float(estimate), *map(float, np.quantile(values, (tail, 1 - tail))), level=level)


def _difference(metric: Callable[..., float]) -> Callable[..., float]:
    """The metric of score a minus that of score b."""
    return lambda y, a, b, sample_weight: (
        metric(y, a, sample_weight=sample_weight) - metric(y, b, sample_weight=sample_weight)
    )


def bootstrap_interval(
    metric: Callable[..., float],
    *columns: ArrayLike,
    unit: ArrayLike | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over rows (Efron 1979): resample the rows, recompute the metric, take quantiles.

    Parameters
    ----------
    metric
        Called as ``metric(*columns, sample_weight=counts)``, where `counts` says how often each row was
        drawn. It must not depend on the order of the rows. For a mean of per-row or per-query values:
        ``lambda values, sample_weight: np.average(values, weights=sample_weight)``.
    columns
        Numbers, each of shape (n,), without NaN.
    unit
        The owner of each row, shape (n,), where rows belong together, as those of one user do. Whole units
        are drawn then, each with all of its rows: the cluster bootstrap (Davison and Hinkley 1997, 3.8).

    Equal rows are counted together. For scikit-learn's `average_precision_score` and `roc_auc_score`, which
    see only the order of the scores, so are all negatives between two positives. Both are exact.
    A resample where the metric is NaN (it has no positive, or no negative) is skipped; when more than
    half are, a `ValueError` says so. The same seed gives the same interval.
    """
    arrays = _columns({f"columns[{i}]": column for i, column in enumerate(columns)})
    fast_metric, cells = _cheapest(metric, arrays)
    estimate = metric(*arrays, sample_weight=np.ones(len(arrays[0])))
    return _percentile_interval(
        fast_metric, cells, estimate, unit=unit, n_resamples=n_resamples, level=level, seed=seed
    )


def paired_bootstrap_interval(
    metric: Callable[..., float],
    y_true: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    *,
    unit: ArrayLike | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of metric(a) - metric(b), both computed on the same resampled rows or units.

    The arguments are those of `bootstrap_interval`.

    Two models err on the same hard rows, so their difference is known better than either value.
    If the interval covers 0, these rows do not tell the models apart.
    """
    y, a, b = _columns({"y_true": y_true, "score_a": score_a, "score_b": score_b})
    fast_metric, cells = _cheapest(metric, [y, a, b])
    estimate = _difference(metric)(y, a, b, sample_weight=np.ones(len(y)))
    return _percentile_interval(
        _difference(fast_metric), cells, estimate, unit=unit, n_resamples=n_resamples, level=level, seed=seed
    )


def mean_interval(values: ArrayLike, unit: ArrayLike | None = None, **keywords: Any) -> Interval:
    """Bootstrap interval of the mean of values; see `bootstrap_interval`.

    values, unit: shape (n,). When rows belong together, as those of one user do, name the owner of each row
    in `unit`: whole units are drawn then, and the mean stays that of the rows.

    Raises ValueError for a single value: its resamples are all the same, which would look like certainty.
    """
    values = _array("values", values, ndim=1)
    if len(values) < 2:
        raise ValueError("values holds a single number, which has no interval: pass more rows.")
    owners = np.arange(len(values)) if unit is None else _units(unit, len(values))
    table = pd.Series(values).groupby(owners).agg(["sum", "size"])
    return bootstrap_interval(_ratio_of_sums, table["sum"], table["size"], **keywords)


def _ratio_of_sums(total: np.ndarray, rows: np.ndarray, sample_weight: np.ndarray) -> float:
    return float(total @ sample_weight / (rows @ sample_weight))


def proportion_interval(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson interval of a proportion: honest also near 0 and 1, and for few trials."""
    n = _integer("n", n)
    successes = float(_array("successes", successes, ndim=0, low=0))
    if successes > n:
        raise ValueError(f"successes is {successes:g}, more than n = {n}: swap or recount them.")
    low, high = _wilson(successes, n, _positive("level", level, below=1))
    return Interval(successes / n, float(low), float(high), level)


def sample_size_per_arm(sd: float, difference: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Units per arm for a two-sided z-test to find `difference` between two means with `power`.

    ``2 (z_{1-alpha/2} + z_{power})^2 sd^2 / difference^2``, about ``16 sd^2 / difference^2`` at the defaults.
    `sd` is that of one unit, in the unit of `difference`.
    """
    difference, sd = _positive("difference", difference), _positive("sd", sd)
    alpha, power = _positive("alpha", alpha, below=1), _positive("power", power, below=1)
    # The one tail that can win, at alpha / 2: the other adds nothing at any power worth planning for.
    n = normal_sample_size_one_tail(difference, power, alpha / 2, std_null=np.sqrt(2) * sd)
    return max(1, int(np.ceil(n)))


def sample_size_for_rate(rate: float, relative_lift: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """`sample_size_per_arm` for a rate such as CTR: sd^2 = p (1 - p), difference = p * relative_lift."""
    rate = _positive("rate", rate, below=1)
    difference = rate * _positive("relative_lift", relative_lift, below=(1 - rate) / rate)
    return sample_size_per_arm(np.sqrt(rate * (1 - rate)), difference, alpha, power)
