"""Monitoring: what moved, whether it hurts, who is called for it, and when to train again.

A window is a table with one row a prediction: its features, and, where a function needs them, the columns
`score` (a predicted probability) and `label` (0 or 1). The reference is the window that is taken as normal.
PSI, calibration ratio and intervals are those of `metrics`; shifts and faults those of `shifts`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import NamedTuple

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import ArrayLike
from scipy import stats
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, StratifiedKFold
from sklearn.utils.validation import check_consistent_length
from statsmodels.stats.rates import confint_poisson

from helpers.metrics import (
    Interval,
    bootstrap_interval,
    change_prior,
    population_stability_index,
    proportion_interval,
)
from helpers.rankers import calibration_by_slice
from helpers.shifts import share, whole

SCORE, LABEL = "score", "label"
FEWEST, MOST_LEVELS = 5, 50  # expected rows below which a level is lumped (Cochran 1954), and levels kept
DAYS_A_WEEK = 7
TREES = {  # of the classifier that tells windows apart; one thread, so that it learns the same each time
    "n_estimators": 25,
    "num_leaves": 15,
    "n_jobs": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}

# ---------------------------------------------------------------- input checks


def _above(name: str, value: float, low: float = 0.0) -> float:
    """One finite number above `low`."""
    if not (isinstance(value, Real) and np.isfinite(value) and value > low):
        raise ValueError(f"{name} must be a finite number above {low:g}, not {value!r}: change it.")
    return float(value)


def _inside(name: str, value: float) -> float:
    """One number strictly between 0 and 1."""
    if not 0 < share(name, value) < 1:
        raise ValueError(f"{name} must be greater than 0 and less than 1, not {value}: change it.")
    return float(value)


def _flat(low: float = 0.0, high: float = np.inf, **arrays: ArrayLike) -> list[np.ndarray]:
    """The arrays as floats in [low, high]: one dimension, equal lengths, not empty, nothing missing."""
    try:
        found = {name: np.asarray(values, dtype=float) for name, values in arrays.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{', '.join(arrays)} must hold numbers only: convert or drop the others.") from None
    shapes = {values.shape for values in found.values()}
    if len(shapes) > 1 or any(len(shape) != 1 or not shape[0] for shape in shapes):
        described = ", ".join(f"{name} {values.shape}" for name, values in found.items())
        raise ValueError(f"One flat shape with at least one row is needed, not {described}: align the rows.")
    for name, values in found.items():
        if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
            raise ValueError(f"{name} must hold finite numbers from {low:g} to {high:g}: repair the others.")
    return list(found.values())


# ---------------------------------------------------------------- two windows, side by side


class _Pair:
    """A reference and a current window as one table: the features, whose row it is, which window it is in."""

    def __init__(self, reference: pd.DataFrame, current: pd.DataFrame, units: Sequence[str]) -> None:
        """Check that both windows have rows, the same columns, and in each row the units that are named."""
        for name, window in {"reference": reference, "current": current}.items():
            if not isinstance(window, pd.DataFrame) or window.empty or not window.columns.is_unique:
                raise ValueError(f"{name} must be a table with rows, and with each column once: mend it.")
        if set(reference) != set(current):
            odd = sorted(map(str, set(reference) ^ set(current)))
            raise ValueError(f"Only one of the windows has {', '.join(odd)}: compare the same columns.")
        if missing := [name for name in units if name not in reference]:
            raise ValueError(f"The windows have no column {missing[0]}: name one that says whose row it is.")
        self.sizes = len(reference), len(current)
        self.is_current = np.repeat([False, True], self.sizes)
        features = [name for name in reference if name not in units]
        if not features:
            raise ValueError("The windows hold no feature: pass at least one column.")
        both = {name: _joined(name, reference[name], current[name]) for name in features}
        self.features = pd.DataFrame(both)
        self.units = [_owners(pd.concat([reference[name], current[name]])) for name in units]

    @property
    def weight(self) -> np.ndarray:
        """What makes a sum over all rows the mean of the current rows minus that of the reference."""
        n, m = self.sizes
        return np.where(self.is_current, 1 / m, -1 / n)

    def clustered_variance(self, values: np.ndarray, unit: np.ndarray) -> float:
        """Variance of the difference of the two means of `values`, when units are drawn, not rows."""
        means = np.where(self.is_current, values[self.is_current].mean(), values[~self.is_current].mean())
        return float(np.sum(np.bincount(unit, self.weight * (values - means)) ** 2))

    def null(self, bins: np.ndarray) -> "_Null":
        """What chance does to the shares of the bins; of several units, that which lets it do most."""
        independent = _Null(sum(1 / size for size in self.sizes), float(bins.max()), 1.0, 1.0)
        found = [self._null_of(unit, bins, independent.scale) for unit in self.units if bins.any()]
        return max([independent, *found], key=lambda null: null.design_effect)

    def _null_of(self, unit: np.ndarray, bins: np.ndarray, spread: float) -> "_Null":
        """The null when these units are drawn; spread: 1/n + 1/m."""
        n_bins, weight = bins.max() + 1, self.weight
        sums = np.bincount(unit * n_bins + bins, weight, (unit.max() + 1) * n_bins).reshape(-1, n_bins)
        for side in (self.is_current, ~self.is_current):
            rows = np.bincount(unit[side], weight[side], len(sums))
            sums -= np.outer(rows, np.bincount(bins[side], minlength=n_bins) / side.sum())
        covariance, shares = sums.T @ sums, np.bincount(bins) / len(bins)
        effects = covariance / shares[:, None] / spread
        total, squares = np.trace(effects), np.sum(effects * effects.T)
        if not total:  # each window holds one bin only: nothing varies within them
            return _Null(spread, n_bins - 1.0, 0.0, 1.0)
        below = np.cumsum(shares)[:-1]
        variances = np.diag(np.cumsum(np.cumsum(covariance, axis=0), axis=1))[:-1]
        of_ranks = max(1.0, variances.sum() / (spread * below @ (1 - below)))
        return _Null(spread * squares / total, total**2 / squares, total / (n_bins - 1), of_ranks)


class _Null(NamedTuple):
    """PSI without drift is about `scale` times chi-square of `df` degrees, and so is X^2 / rows.

    For rows that come in units, scale and df are the second-order correction of Rao and Scott 1981.
    """

    scale: float
    df: float
    design_effect: float  # rows worth one independent row, on average over the bins
    design_effect_of_ranks: float  # the same for the shares below each edge of the bins


def _joined(name: str, reference: pd.Series, current: pd.Series) -> pd.Series:
    """The values of both windows: floats, or names of levels (as objects, missing ones as None)."""
    numbers = [
        pd.api.types.is_numeric_dtype(x) and not pd.api.types.is_bool_dtype(x) for x in (reference, current)
    ]
    if len(set(numbers)) > 1 or any(_is_time(x) for x in (reference, current)):
        raise ValueError(
            f"Column {name} is {reference.dtype} in the reference and {current.dtype} now: make it a number "
            "or a category in both (of a time, its hour or its age)."
        )
    if not numbers[0]:
        both = pd.concat([reference.astype(object), current.astype(object)], ignore_index=True)
        return both.where(both.notna(), None)
    both = pd.concat([reference.astype(float), current.astype(float)], ignore_index=True)
    if np.isinf(both).any():
        raise ValueError(f"Column {name} holds infinity: find what divides by zero, or make it missing.")
    return both


def _is_time(values: pd.Series) -> bool:
    """Whether it holds points in time or durations, each of which would be a level of its own."""
    return pd.api.types.is_datetime64_any_dtype(values) or pd.api.types.is_timedelta64_dtype(values)


def _owners(units: pd.Series) -> np.ndarray:
    """The number of the unit of each row, from 0 on."""
    codes, names = pd.factorize(units)
    if (codes < 0).any() or len(names) < 2:
        raise ValueError(f"Column {units.name} must name two units or more, and one in each row: mend it.")
    return codes


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_float_dtype(values)


def _bins(values: pd.Series, reference_rows: int) -> np.ndarray:
    """The bin of each row, from 0 on: a decile of the reference, or a level; missing ones have the last."""
    missing = values.isna().to_numpy()
    if _is_number(values):
        known = values[:reference_rows].dropna()
        codes = np.searchsorted(_edges(known) if len(known) else [], values, side="right")
    else:
        codes = _levels(values, reference_rows)
    return np.where(missing, codes[~missing].max(initial=-1) + 1, codes)


def _edges(reference: pd.Series) -> np.ndarray:
    """The deciles; a value that is several of them, as 0 often is, has a bin of its own."""
    deciles, times = np.unique(np.quantile(reference, np.linspace(0.1, 0.9, 9)), return_counts=True)
    return np.union1d(deciles, np.nextafter(deciles[times > 1], np.inf))


def _levels(values: pd.Series, reference_rows: int) -> np.ndarray:
    """The number of the level of each row, the most frequent first; rare levels share the last number."""
    counts = values.value_counts()
    smaller = min(reference_rows, len(values) - reference_rows) / len(values)
    kept = min(int((counts * smaller >= FEWEST).sum()), MOST_LEVELS)
    return (
        values.map(dict(zip(counts.index, np.minimum(np.arange(len(counts)), kept), strict=True)))
        .fillna(-1)
        .to_numpy(int)
    )


# ---------------------------------------------------------------- drift of single features


def psi_expectation(n: int, m: int, bins: int = 10) -> float:
    """Return the mean PSI of n and m independent rows of one distribution: (bins - 1) (1/n + 1/m).

    Source: Yurdakul 2018. Raises ValueError for fewer than 1 row or 2 bins.
    """
    return (whole("bins", bins, 2) - 1) * (1 / whole("n", n, 1) + 1 / whole("m", m, 1))


def psi_limit(n: int, m: int, bins: int = 10, alpha: float = 0.01) -> float:
    """Return the PSI that n and m independent rows of one distribution exceed with probability `alpha`.

    (1/n + 1/m) times the quantile of chi-square with bins - 1 degrees of freedom (Yurdakul 2018): right when
    each bin has some ten rows in both windows. Raises ValueError as `psi_expectation` does.
    """
    quantile = stats.chi2.ppf(1 - _inside("alpha", alpha), whole("bins", bins, 2) - 1)
    return float(psi_expectation(n, m, 2) * quantile)


def drift_report(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    unit: str | Sequence[str] | None = None,
    alpha: float = 0.01,
) -> pd.DataFrame:
    """Compare each feature of two windows; return one row a feature, the largest PSI first.

    reference, current: tables with the same columns. Numbers are compared by Kolmogorov-Smirnov, in which a
    missing number ranks below all others; other columns by the chi-square of their levels, where missing is
    a level and levels too rare to test are one.

    unit: columns that name whose row it is, such as "user_id", or ["user_id", "video_id"] where rows of one
    user are alike and rows of one video are too. Such rows count as fewer; each feature follows the unit that
    makes them fewest. Right for a hundred units or more, none of which has a large share of the rows.

    Index `feature`; columns:

    | column | meaning |
    |---|---|
    | missing_reference, missing_current | shares |
    | design_effect | how many rows are worth one independent row; 1 without `unit` |
    | psi, psi_expected, psi_limit | its value, its mean without drift, what it exceeds with `alpha` then |
    | test, statistic, p_value | "KS" and D, or "chi-square" and its sum (both of the rows as they are) |
    | p_adjusted, alarm | over all features (Holm 1979), and whether it is at most `alpha` |
    | wasserstein | distance in standard deviations of the reference; NaN for categories |

    The p-value shrinks with the number of rows, however small the change is: read a size, PSI or
    Wasserstein, beside it. Raises ValueError for windows that cannot be compared.
    """
    _inside("alpha", alpha)
    units = [unit] if isinstance(unit, str) else [*(unit or ())]
    pair = _Pair(reference, current, units)
    report = pd.DataFrame({name: _feature_drift(x, pair, alpha) for name, x in pair.features.items()}).T
    report = report.infer_objects().rename_axis("feature")
    adjusted = _holm(report["p_value"].to_numpy(float))
    report = report.assign(p_adjusted=adjusted, alarm=adjusted <= alpha)
    return report.sort_values("psi", ascending=False, kind="stable")


def _holm(p_values: np.ndarray) -> np.ndarray:
    """P-values for all at once (Holm 1979). That of statsmodels collects all garbage in each call."""
    order = np.argsort(p_values)
    adjusted = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    return np.minimum(adjusted, 1)[np.argsort(order)]


def largest_psi(reference: pd.DataFrame, current: pd.DataFrame) -> float:
    """Return the largest PSI of a feature, as `drift_report` has it, without the tests."""
    pair = _Pair(reference, current, [])
    n = pair.sizes[0]
    return max(_psi(np.unique(_bins(x, n), return_inverse=True)[1], n) for _, x in pair.features.items())


def _feature_drift(values: pd.Series, pair: _Pair, alpha: float) -> dict[str, float | str]:
    """The row of one feature."""
    n = pair.sizes[0]
    bins = np.unique(_bins(values, n), return_inverse=True)[1]  # those that hold a row
    null, missing = pair.null(bins), values.isna()
    row = {
        "missing_reference": missing[:n].mean(),
        "missing_current": missing[n:].mean(),
        "design_effect": null.design_effect,
        "psi": _psi(bins, n),
        "psi_expected": null.scale * null.df,
        "psi_limit": null.scale * stats.chi2.ppf(1 - alpha, null.df) if null.df else 0.0,
    }
    if _is_number(values):
        return row | _kolmogorov_smirnov(values, pair, null) | {"wasserstein": _wasserstein(values, n)}
    return row | _chi_square(bins, pair, null) | {"wasserstein": np.nan}


def _psi(bins: np.ndarray, n: int) -> float:
    """PSI of the bins. One goes in as NaN, for which PSI keeps a bin: left empty, it would add to it."""
    if not bins.any():
        return 0.0
    rarest = np.bincount(bins[:n], minlength=bins.max() + 1).argmin()  # never all of the reference
    codes = np.where(bins == rarest, np.nan, bins - (bins > rarest))
    edges = np.arange(bins.max() + 1) - 0.5
    return population_stability_index(codes[:n], codes[n:], edges)


def _kolmogorov_smirnov(values: pd.Series, pair: _Pair, null: _Null) -> dict[str, float | str]:
    """D and its p-value, with the rows counted down by the design effect."""
    n, m = pair.sizes
    ranked = values.fillna(-np.inf)
    distance = stats.ks_2samp(ranked[:n], ranked[n:], method="asymp").statistic
    rows = max(1, round(n * m / (n + m) / null.design_effect_of_ranks))
    return {"test": "KS", "statistic": distance, "p_value": stats.kstwo.sf(distance, rows)}


def _chi_square(bins: np.ndarray, pair: _Pair, null: _Null) -> dict[str, float | str]:
    """The sum and its p-value; 0 and 1 when there is one level only."""
    n, m = pair.sizes
    table = [np.bincount(side, minlength=bins.max() + 1) for side in (bins[:n], bins[n:])]
    total = stats.chi2_contingency(table, correction=False).statistic
    p_value = stats.chi2.sf(total * (1 / n + 1 / m) / null.scale, null.df) if null.df else 1.0
    return {"test": "chi-square", "statistic": total, "p_value": p_value}


def _wasserstein(values: pd.Series, n: int) -> float:
    """The distance in standard deviations of the reference; NaN when a window holds no number."""
    reference, current = values[:n].dropna(), values[n:].dropna()
    if reference.empty or current.empty:
        return np.nan
    distance, spread = stats.wasserstein_distance(reference, current), reference.std(ddof=0)
    return distance / spread if spread else (np.inf if distance else 0.0)


# ---------------------------------------------------------------- drift of all features together


class TwoSample(NamedTuple):
    """How well a classifier tells two windows apart: 0.5 is chance."""

    auc: float
    null_sd: float  # of the AUC when the windows are alike
    p_value: float  # one-sided


def classifier_two_sample(
    reference: pd.DataFrame, current: pd.DataFrame, unit: str | None = None, folds: int = 3, seed: int = 0
) -> TwoSample:
    """Return the ROC-AUC of a classifier that tells the two windows apart, in cross-validation (C2ST).

    It sees what no single feature shows. Gradient boosting on shuffled folds: in the order of time, a fold
    could hold one window only. unit: a column that names whose row it is; the rows of one user then stay in
    one fold, or the classifier would know people again.

    null_sd: sqrt(2) times sqrt((n + m + 1) / (12 n m)), which is the deviation of an AUC on one held-out set.
    The root of 2 comes from cross-validation: what two folds share by chance is found twice, once from each
    side, so their AUCs move together. With `unit` the second factor comes from sums over units, when that is
    larger (Obuchowski 1997). Source of the test: Lopez-Paz and Oquab 2017.

    Raises ValueError for windows that cannot be compared, or with fewer rows or units than folds.
    """
    pair = _Pair(reference, current, [] if unit is None else [unit])
    owners = None if unit is None else pair.units[0]
    folds = whole("folds", folds, 2, min(pair.sizes) if owners is None else owners.max() + 1)
    table = _as_numbers(pair)
    model = LGBMClassifier(**TREES, random_state=whole("seed", seed))
    splitter = (StratifiedKFold if unit is None else GroupKFold)(folds, shuffle=True, random_state=seed)
    aucs, placement = [], np.empty(len(table))
    for train, test in splitter.split(table, pair.is_current, owners):
        if len(np.unique(pair.is_current[test])) < 2 or len(np.unique(pair.is_current[train])) < 2:
            raise ValueError("A fold holds rows of one window only: use fewer folds, or more units.")
        model.fit(table[train], pair.is_current[train])
        score = model.predict(table[test], raw_score=True)
        aucs.append(roc_auc_score(pair.is_current[test], score))
        placement[test] = stats.rankdata(score) / len(test)
    n, m = pair.sizes
    variance = (n + m + 1) / (12 * n * m)
    if owners is not None:
        variance = max(variance, pair.clustered_variance(placement, owners))
    auc, null_sd = float(np.mean(aucs)), float(np.sqrt(2 * variance))
    return TwoSample(auc, null_sd, float(stats.norm.sf((auc - 0.5) / null_sd)))


def _as_numbers(pair: _Pair) -> np.ndarray:
    """The features, shape (rows, features); a level is its rank by frequency, which trees cut as well."""
    columns = [x.to_numpy() if _is_number(x) else _bins(x, pair.sizes[0]) for _, x in pair.features.items()]
    return np.column_stack(columns).astype(float)


# ---------------------------------------------------------------- does it hurt? with labels


def calibration_by_segment(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    segment: ArrayLike,
    unit: ArrayLike | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Return `calibration_by_slice` as an alarm: its intervals hold for all segments together.

    y_true, y_prob, segment, unit: shape (n,). Index `segment`; columns n, mean_predicted, observed (a rate),
    ratio (predicted / observed), ratio_low, ratio_high, and alarm, which says that 1 lies outside.
    Each interval has the level 1 - (1 - level) / segments (Bonferroni): Wilson's of the observed rate or,
    with `unit`, whose row it is, a bootstrap of units. A segment of one unit alone has no interval: NaN, and
    no alarm.

    Assumes labels that are complete: positives that have not arrived yet look like a model that predicts too
    many. Raises ValueError for labels other than 0 and 1, missing values, or a segment that expects nothing.
    """
    check_consistent_length(y_true, y_prob, segment, unit)
    table = calibration_by_slice(y_true, y_prob, segment).rename_axis("segment")
    rows = pd.DataFrame({"segment": segment, "y": np.asarray(y_true), "p": np.asarray(y_prob)})
    rows["unit"] = np.arange(len(rows)) if unit is None else np.asarray(unit)
    if rows.isna().any(axis=None):
        raise ValueError("segment or unit has missing values: name them, or drop those rows.")
    if not table["mean_predicted"].all():
        raise ValueError("A segment expects no positive at all: join it to another.")
    level = 1 - (1 - _inside("level", level)) / len(table)
    interval_of = _wilson_factor if unit is None else _bootstrap_factor
    found = {name: interval_of(part, level) for name, part in rows.groupby("segment")}
    low, high = np.array([found[name] for name in table.index]).T
    with np.errstate(divide="ignore"):
        table = table.assign(ratio_low=1 / high, ratio_high=1 / low)
    return table.drop(columns=["low", "high"]).assign(alarm=(low > 1) | (high < 1))


def _wilson_factor(rows: pd.DataFrame, level: float) -> tuple[float, float]:
    """The interval of observed / expected positives, when rows are independent."""
    rate, expected = proportion_interval(int(rows["y"].sum()), len(rows), level), rows["p"].mean()
    return rate.low / expected, rate.high / expected


def _bootstrap_factor(rows: pd.DataFrame, level: float) -> tuple[float, float]:
    """The same when units are drawn; NaN for one unit."""
    sums = rows.groupby("unit")[["y", "p"]].sum()
    if len(sums) < 2:
        return np.nan, np.nan
    interval = bootstrap_interval(_ratio_of_sums, sums["y"], sums["p"], level=level)
    return interval.low, interval.high


def _ratio_of_sums(observed: np.ndarray, expected: np.ndarray, sample_weight: np.ndarray) -> float:
    return float(observed @ sample_weight / (expected @ sample_weight))


# ---------------------------------------------------------------- does it hurt? without labels


def expected_performance(y_prob: ArrayLike, metric: Callable[..., float] = roc_auc_score) -> float:
    """Return what a metric will be, on average, once the labels of these predictions have come.

    Each row counts p as a positive and 1 - p as a negative: no label is read. y_prob: shape (n,).
    metric: called as ``metric(y_true, y_prob, sample_weight=...)``; for an accuracy at a threshold
    ``lambda y, p, sample_weight: accuracy_score(y, p >= 0.3, sample_weight=sample_weight)``.

    Assumes that the predictions are calibrated on these very rows. A covariate shift keeps that true for a
    model that was calibrated everywhere; a concept shift breaks it, and this number does not notice.
    The idea is the CBPE of the monitoring library NannyML.

    Raises ValueError for values outside [0, 1], or if all of them are 0 or all are 1.
    """
    p = _flat(0, 1, y_prob=y_prob)[0]
    if p.sum() in (0, len(p)):
        raise ValueError("y_prob expects one class only, so nothing can be judged: use other rows.")
    classes = np.repeat([1, 0], len(p))
    return float(metric(classes, np.tile(p, 2), sample_weight=np.r_[p, 1 - p]))


def prior_by_em(y_prob: ArrayLike, prior: float, tolerance: float = 1e-7, most_steps: int = 5_000) -> float:
    """Return the base rate among these predictions, without labels, by expectation maximization.

    prior: the base rate where the model was trained, and calibrated. Steps: correct the predictions with
    `change_prior`, take their mean as the next base rate, until it moves less than `tolerance`. It is the
    maximum of the likelihood (Saerens, Latinne and Decaestecker 2002).

    Assumes a label shift: P(x | y) as in training. Under any other shift it answers as confidently, and
    wrongly. Raises ValueError for values outside [0, 1], or when it does not settle.
    """
    p = _flat(0, 1, y_prob=y_prob)[0]
    old = new = _inside("prior", prior)
    for _ in range(whole("most_steps", most_steps, 1)):
        old, new = new, float(np.clip(change_prior(p, prior, new).mean(), 1e-12, 1 - 1e-12))
        if abs(new - old) < tolerance:
            return new
    raise ValueError(f"The base rate has not settled after {most_steps:,} steps: raise most_steps.")


# ---------------------------------------------------------------- which alarm fires, on which day

Windows = Callable[[int], pd.DataFrame]  # of a day
Reference = Callable[[Windows], Windows]
Statistic = Callable[[pd.DataFrame, pd.DataFrame], float]


@dataclass(frozen=True)
class Detector:
    """One number a day: `statistic(reference, window of the day)`, larger where it is worse.

    delay: days until what it reads has come. The number of day 3 with a delay of 30 is known on day 33.
    Raises ValueError for an empty name or a delay below 0.
    """

    name: str
    statistic: Statistic
    delay: int = 0

    def __post_init__(self) -> None:
        """Check the fields."""
        if not isinstance(self.name, str) or not self.name.strip() or not callable(self.statistic):
            raise ValueError(f"A detector needs a name and a function, not {self.name!r}: give it both.")
        whole("delay", self.delay)


def standard_detectors(
    features: Sequence[str],
    label_delay: int,
    unit: str | None = None,
    review_delay: int = 2,
    reviewed: int = 100,
) -> list[Detector]:
    """Return the detectors of the drift matrix for windows with these features, a `score` and a `label`.

    | name | statistic | known after |
    |---|---|---|
    | PSI | the largest over the features | at once |
    | C2ST | the AUC of `classifier_two_sample` | at once |
    | score PSI | of the scores | at once |
    | mean score | absolute log of its ratio to the reference | at once |
    | review | share without label among the `reviewed` highest scores | `review_delay`, if people look |
    | AUC | 1 - ROC-AUC | `label_delay` |
    | calibration | absolute log of observed / expected | `label_delay` |

    unit: a column of the windows, as in `classifier_two_sample`. Raises ValueError as `Detector`
    does, and for `reviewed` below 1.
    """
    names, owned = [*features], [*features] + [unit] * (unit is not None)
    whole("reviewed", reviewed, 1)
    return [
        Detector("PSI", lambda r, w: largest_psi(r[names], w[names])),
        Detector("C2ST", lambda r, w: classifier_two_sample(r[owned], w[owned], unit).auc),
        Detector("score PSI", lambda r, w: population_stability_index(r[SCORE], w[SCORE])),
        Detector("mean score", lambda r, w: _log_ratio(w[SCORE].mean(), r[SCORE].mean())),
        Detector("review", lambda _, w: 1 - w.nlargest(reviewed, SCORE)[LABEL].mean(), review_delay),
        Detector("AUC", lambda _, w: 1 - roc_auc_score(w[LABEL], w[SCORE]), label_delay),
        Detector("calibration", lambda _, w: _log_ratio(w[LABEL].sum(), w[SCORE].sum()), label_delay),
    ]


def _log_ratio(now: float, then: float) -> float:
    """How far a ratio is from 1, in either direction; infinite when one of the two is 0."""
    return float(abs(np.log(now / then))) if now > 0 and then > 0 else np.inf


def moving_reference(windows: Windows, days: int = 7, rows: int = 5_000, seed: int = 0) -> Windows:
    """Return a reference that moves along: up to `rows` rows, at random, of the `days` days before a day.

    It forgives what drifts slowly, as a catalog that ages, and so it never sees it; and a week after a shift
    the shift is normal. A fixed reference is the opposite in both. Raises ValueError for fewer than 1.
    """
    whole("days", days, 1), whole("rows", rows, 1), whole("seed", seed)

    def reference(day: int) -> pd.DataFrame:
        past = pd.concat([windows(day - back) for back in range(days, 0, -1)], ignore_index=True)
        return past.sample(min(rows, len(past)), random_state=seed)

    return reference


def daily_statistics(
    windows: Windows,
    days: Iterable[int],
    reference: pd.DataFrame | Reference,
    detectors: Sequence[Detector],
) -> pd.DataFrame:
    """Return what each detector knows on each day: one row a day, one column a detector.

    windows: called with a day, returns its window; the world behind it may be a `Platform` or anything else.
    days: consecutive. reference: a table, or a rule that makes one a day out of the windows, such as
    `moving_reference`. A detector with a delay knows nothing (NaN) on the first days, and on a later day the
    number of `delay` days before.

    Raises ValueError for no day, days that are not consecutive, or detectors that share a name.
    """
    days = [whole("a day", day) for day in days]
    if not days or days != list(range(days[0], days[0] + len(days))):
        raise ValueError(f"days must be consecutive and at least one, not {days}: pass a range.")
    if len({detector.name for detector in detectors}) < len(detectors) or not detectors:
        raise ValueError("Pass at least one detector, and give each its own name.")
    reference_of = reference(windows) if callable(reference) else lambda day: reference
    found = []
    for day in days:
        normal, window = reference_of(day), windows(day)
        found.append([detector.statistic(normal, window) for detector in detectors])
    table = pd.DataFrame(found, pd.Index(days, name="day"), [detector.name for detector in detectors], float)
    return pd.DataFrame({detector.name: table[detector.name].shift(detector.delay) for detector in detectors})


def first_alarms(statistics: pd.DataFrame, thresholds: Mapping[str, float] | pd.Series) -> pd.Series:
    """Return the first day on which each statistic lies above its threshold; <NA> is never.

    statistics: from `daily_statistics`. A day before the shift is a false alarm.
    Raises ValueError for a statistic without threshold.
    """
    above = pages(statistics, thresholds)
    return above.idxmax().where(above.any()).astype("Int64")


def drift_matrix(
    worlds: Mapping[str, Windows],
    days: Iterable[int],
    reference: pd.DataFrame | Reference,
    detectors: Sequence[Detector],
    thresholds: Mapping[str, float] | pd.Series,
) -> pd.DataFrame:
    """Return the first day of each alarm in each world: one row a world, one column a detector, <NA> never.

    worlds: such as ``{"concept": windows}``; the other arguments are those of `daily_statistics` and
    `first_alarms`. Put an unchanged world beside the shifted ones: it shows what fires without a reason.
    """
    days = list(days)
    found = {
        name: first_alarms(daily_statistics(windows, days, reference, detectors), thresholds)
        for name, windows in worlds.items()
    }
    if not found:
        raise ValueError("worlds is empty: pass at least one.")
    return pd.DataFrame(found).T.rename_axis("world")


# ---------------------------------------------------------------- alarms


@dataclass(frozen=True)
class Alarm:
    """A page to a person: it fires when a statistic lies above its threshold.

    statistic: its name in the table of `daily_statistics`. runbook: what the owner does first.
    Raises ValueError for an empty text or a threshold that is no finite number: an alarm that nobody owns,
    or that nobody can act on, is noise.
    """

    name: str
    owner: str
    statistic: str
    threshold: float
    runbook: str

    def __post_init__(self) -> None:
        """Refuse an alarm that calls nobody, or calls for nothing."""
        for field in ("name", "owner", "statistic", "runbook"):
            text = getattr(self, field)
            if not isinstance(text, str) or not text.strip():
                raise ValueError(f"An alarm without {field} ({text!r}): write it, or drop the alarm.")
        _above("threshold", self.threshold, -np.inf)


def pages(statistics: pd.DataFrame, thresholds: Mapping[str, float] | pd.Series) -> pd.DataFrame:
    """Return which statistic lies above its threshold on which day, as booleans; an unknown one never does.

    Raises ValueError for a statistic without threshold.
    """
    if without := [str(name) for name in statistics if name not in thresholds]:
        raise ValueError(f"No threshold for {', '.join(without)}: set one, or leave the column out.")
    return statistics > pd.Series(dict(thresholds), dtype=float)[[*statistics]]


def pages_sent(alarms: Sequence[Alarm], statistics: pd.DataFrame) -> pd.DataFrame:
    """Return what the alarms send: one row a page, by day; columns day, alarm, owner, runbook.

    statistics: from `daily_statistics`. Raises ValueError for an alarm whose statistic is not there.
    """
    if missing := [alarm.name for alarm in alarms if alarm.statistic not in statistics]:
        raise ValueError(f"Nothing measures what {', '.join(missing)} watches: add its detector.")
    sent = [
        {"day": day, "alarm": alarm.name, "owner": alarm.owner, "runbook": alarm.runbook}
        for alarm in alarms
        for day in statistics.index[statistics[alarm.statistic] > alarm.threshold]
    ]
    table = pd.DataFrame(sent, columns=["day", "alarm", "owner", "runbook"])
    return table.sort_values("day", kind="stable", ignore_index=True)


def threshold_for(quiet: pd.DataFrame, pages_per_week: float = 1.0) -> pd.Series:
    """Return the threshold of each statistic, so that all alarms together send few false pages.

    quiet: statistics of days on which nothing was wrong, one row a day, one column an alarm. With n days and
    k alarms, each threshold is the r-th largest quiet value, r = floor(pages_per_week (n + 1) / (7 k)): a
    new quiet day lies above it with probability at most r / (n + 1), so k alarms send at most
    `pages_per_week` pages a week on average. That is the rank argument of split conformal prediction
    (Vovk et al. 2005); alarms may depend on each other as they like.

    Assumes that quiet days are exchangeable: a trend, a model that ages or a weekly rhythm break that, and
    `false_pages` on held-out quiet days shows by how much. Raises ValueError for gaps, or if there are too
    few days to promise so few pages.
    """
    if quiet.empty or not np.isfinite(quiet.to_numpy(float)).all():
        raise ValueError(
            "quiet must hold a finite number for each day and alarm: drop days before labels came."
        )
    days, alarms = quiet.shape
    rate = _above("pages_per_week", pages_per_week) / (DAYS_A_WEEK * alarms)
    rank = int(rate * (days + 1) + 1e-9)
    if rank < 1:
        raise ValueError(
            f"{days} quiet days cannot promise {pages_per_week:g} pages a week over {alarms} alarms: "
            f"collect {int(np.ceil(1 / rate - 1e-9)) - 1} days, drop alarms, or allow more pages."
        )
    return pd.Series(np.sort(quiet, axis=0)[-min(rank, days)], quiet.columns, dtype=float)


def false_pages(
    quiet: pd.DataFrame, thresholds: Mapping[str, float] | pd.Series, level: float = 0.95
) -> Interval:
    """Return the pages a week over all alarms on quiet days that set no threshold, with an interval.

    Each alarm that fires on a day is a page. Alarms that fire together come from one cause, so the interval
    is the exact one of a Poisson count (Garwood 1936) for the days with a page, times the pages of such a
    day; days that resemble the day before make it too narrow. Raises ValueError for no day or a missing
    threshold.
    """
    if quiet.empty:
        raise ValueError("quiet holds no day or no alarm: pass statistics of quiet days.")
    sent, weeks = pages(quiet, thresholds).sum(axis=1), len(quiet) / DAYS_A_WEEK
    count, paged = int(sent.sum()), int((sent > 0).sum())
    low, high = confint_poisson(paged, weeks, method="exact-c", alpha=1 - _inside("level", level))
    each = count / paged if paged else 1.0
    return Interval(count / weeks, each * float(np.nan_to_num(low)), each * float(high), level)


BURN_WINDOWS = ((60, 5, 14.4), (360, 30, 6.0))  # minutes, minutes, burn rate


def burn_rate(bad: ArrayLike, total: ArrayLike, slo: float, minutes: int) -> np.ndarray:
    """Return how fast the error budget burns over the last `minutes`, at each minute: 1 just uses it up.

    bad, total: events of each minute, shape (n,). slo: the share of good events promised, such as 0.999.
    The rate is (bad / total) / (1 - slo), and 0 without traffic. Raises ValueError if bad exceeds total.
    """
    bad_events, events = _flat(bad=bad, total=total)
    if (bad_events > events).any():
        raise ValueError("bad exceeds total in some minute: count bad events among all of them.")
    table = pd.DataFrame({"bad": bad_events, "total": events})
    sums = table.rolling(whole("minutes", minutes, 1), min_periods=1).sum()
    return (sums["bad"] / sums["total"].where(sums["total"] > 0)).fillna(0).to_numpy() / (
        1 - _inside("slo", slo)
    )


def burn_rate_alarm(
    bad: ArrayLike,
    total: ArrayLike,
    slo: float,
    windows: Sequence[tuple[int, int, float]] = BURN_WINDOWS,
) -> np.ndarray:
    """Return at which minutes the multi-window alarm of an SLO fires, as booleans.

    It fires when, for one of the `windows` (long minutes, short minutes, rate), the budget burns above that
    rate over both: the long one proves that it matters, the short one that it still goes on.
    Source: the Site Reliability Workbook, chapter 5. Arguments and errors as for `burn_rate`.
    """
    fires = np.zeros(len(np.atleast_1d(bad)), dtype=bool)
    for long, short, rate in windows:
        fires |= (burn_rate(bad, total, slo, long) > rate) & (burn_rate(bad, total, slo, short) > rate)
    return fires


# ---------------------------------------------------------------- when to train again


def retraining_cost(period: ArrayLike, retrain_cost: float, value: float, decay: float) -> np.ndarray | float:
    """Return the cost of a day, if the model is trained every `period` days: C / T + v d T / 2.

    retrain_cost: C, money a training. value: v, money a day for one unit of the metric. decay: d, units of
    the metric that a model loses each day. The loss is a saw-tooth with the mean d T / 2.
    Raises ValueError unless all are above 0.
    """
    periods = np.asarray(period, dtype=float)
    for name, number in {"retrain_cost": retrain_cost, "value": value, "decay": decay}.items():
        _above(name, number)
    if not (np.isfinite(periods) & (periods > 0)).all():
        raise ValueError(f"period must be above 0 days, not {period}: change it.")
    return (retrain_cost / periods + value * decay * periods / 2)[()]


def best_period(retrain_cost: float, value: float, decay: float) -> float:
    """Return the period with the least `retraining_cost`: sqrt(2 C / (v d)) days. Arguments as there.

    At this period training costs as much as staleness, and around it the cost is flat: twice or half the
    period costs a quarter more.
    """
    retraining_cost(1.0, retrain_cost, value, decay)
    return float(np.sqrt(2 * retrain_cost / (value * decay)))


Retrains = Callable[[int, float], bool]  # (days since the last training, loss as measured) -> train now?


def every(period: int) -> Retrains:
    """Return the policy that trains every `period` days."""
    whole("period", period, 1)
    return lambda days, loss: days >= period


def when_loss_exceeds(limit: float) -> Retrains:
    """Return the policy that trains when the measured loss exceeds `limit`."""
    _above("limit", limit)
    return lambda days, loss: loss > limit


class RetrainingRun(NamedTuple):
    """What a policy cost: money a day, trainings, and the mean loss of metric."""

    cost_per_day: float
    trainings: int
    mean_loss: float


def run_retraining(
    decay: ArrayLike,
    policy: Retrains,
    retrain_cost: float,
    value: float,
    label_delay: int = 0,
    noise_sd: float = 0.0,
    seed: int = 0,
) -> RetrainingRun:
    """Run a policy through days on each of which the world moves; return what it cost.

    decay: shape (days,), how much of the metric a model that stands still loses on each day; jumps allowed.
    Labels come `label_delay` days late, so a model trained today knows the world of that day only, and the
    loss that a trigger reads is that of `label_delay` days ago, of the present model, plus noise.
    Costs as for `retraining_cost`. Raises ValueError for a negative decay, delay or noise.
    """
    world = np.cumsum(_flat(decay=decay)[0])
    _above("retrain_cost", retrain_cost), _above("value", value)
    whole("label_delay", label_delay)
    (spread,) = _flat(noise_sd=[noise_sd])
    noise = np.random.default_rng(whole("seed", seed)).normal(0, spread, len(world))
    loss, learned, last, trainings = np.zeros(len(world)), 0.0, 0, 0
    for day, state in enumerate(world):
        loss[day] = state - learned
        seen = day - label_delay
        measured = loss[seen] + noise[seen] if seen >= last else -np.inf
        if policy(day + 1 - last, measured):
            learned, last, trainings = world[max(seen, 0)], day + 1, trainings + 1
    cost = (trainings * retrain_cost + value * loss.sum()) / len(world)
    return RetrainingRun(float(cost), trainings, float(loss.mean()))
