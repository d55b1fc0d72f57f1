"""Experiments: plan an online test, read it, watch it; compare rankings on fewer users, policies on none.

Users are randomized, so a user is what is counted: every test of two arms is read from a table with one row
a user. Intervals are `metrics.Interval`; the size of a test is `metrics.sample_size_per_arm`.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.optimize import brentq
from sklearn.base import BaseEstimator, clone, is_classifier
from sklearn.model_selection import GroupKFold
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

from helpers.metrics import Interval, bootstrap_interval, proportion_interval
from helpers.shifts import choice, share, whole
from helpers.simulator import Policy, coins

SRM_ALARM = 0.0005  # p-value below which the split of the users is wrong: fixed before any test
DRAFT = 4  # the stream of coins of the team draft; policies and platform toss streams 0 to 3


# ---------------------------------------------------------------- input checks


def _numbers(low: float = -np.inf, high: float = np.inf, **arrays: ArrayLike) -> list[np.ndarray]:
    """The arrays as floats in [low, high]: one dimension, equal lengths, not empty, nothing missing."""
    try:
        found = {name: np.asarray(values, dtype=float) for name, values in arrays.items()}
    except (TypeError, ValueError):
        raise ValueError(f"{', '.join(arrays)} must hold numbers only: convert or drop the others.") from None
    shapes = {values.shape for values in found.values()}
    if len(shapes) > 1 or any(len(shape) != 1 or shape[0] == 0 for shape in shapes):
        described = ", ".join(f"{name} {values.shape}" for name, values in found.items())
        raise ValueError(f"One flat shape of at least one row is needed, not {described}: align the rows.")
    for name, values in found.items():
        if not (np.isfinite(values) & (values >= low) & (values <= high)).all():
            raise ValueError(
                f"{name} must hold finite numbers from {low:g} to {high:g}: drop or repair the others."
            )
    return list(found.values())


def _inside(name: str, value: float) -> float:
    """One number strictly between 0 and 1."""
    if not 0 < share(name, value) < 1:
        raise ValueError(f"{name} must be greater than 0 and less than 1, not {value}: change it.")
    return float(value)


def _above_zero(**values: ArrayLike) -> None:
    """Every number is finite and above 0."""
    for name, value in values.items():
        if not (np.isfinite(value) & (np.asarray(value) > 0)).all():
            raise ValueError(
                f"{name} must be finite and greater than 0, not {value}: check its sign and unit."
            )


def _columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """The table has rows, and all of these columns without a gap."""
    if missing := [name for name in names if name not in table]:
        raise ValueError(
            f"The table has no column {', '.join(missing)}: it has {', '.join(map(str, table))}."
        )
    if table.empty or table[list(names)].isna().any(axis=None):
        raise ValueError(f"The table is empty, or {', '.join(names)} have gaps: drop or fill those rows.")


# ---------------------------------------------------------------- before: power and duration


def power_of_test(
    sd: ArrayLike,
    difference: ArrayLike,
    n_control: ArrayLike,
    n_treatment: ArrayLike | None = None,
    alpha: float = 0.05,
) -> np.ndarray | float:
    """Return the probability that a two-sided z-test of two means finds a true difference.

    sd: of one user, in the unit of `difference`. n_treatment: users, by default as many as in control.
    Arguments broadcast. Raises ValueError unless sd and the numbers of users are above 0.
    """
    n_treatment = n_control if n_treatment is None else n_treatment
    _above_zero(sd=sd, n_control=n_control, n_treatment=n_treatment)
    effect = np.divide(difference, sd)
    worth = 1 / (1 / np.asarray(n_control, dtype=float) + 1 / np.asarray(n_treatment, dtype=float))
    # A ratio of 0 means one group of so many: as precise as the two arms, and of any shape.
    return NormalIndPower().power(effect, worth, _inside("alpha", alpha), ratio=0)


def minimum_detectable_effect(
    sd: ArrayLike,
    n_control: ArrayLike,
    n_treatment: ArrayLike | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> np.ndarray | float:
    """Return the difference of means that a test of this size finds with `power`, in the unit of `sd`.

    ``(z_{1-alpha/2} + z_{power}) sd sqrt(1/n_control + 1/n_treatment)``: `metrics.sample_size_per_arm`,
    solved for the difference. Arguments as in `power_of_test`; raises ValueError as it does.
    """
    n_treatment = n_control if n_treatment is None else n_treatment
    _above_zero(sd=sd, n_control=n_control, n_treatment=n_treatment)
    z = stats.norm.isf(_inside("alpha", alpha) / 2) + stats.norm.ppf(_inside("power", power))
    return z * np.asarray(sd) * np.sqrt(np.divide(1, n_control) + np.divide(1, n_treatment))


def duration_table(
    log: pd.DataFrame, column: str = "clicked", alpha: float = 0.05, power: float = 0.8
) -> pd.DataFrame:
    """Return what a test could find after each day of traffic, measured on a log without a test.

    log: one row an event, with `timestamp`, `user_id` and the column that is summed by user.
    Index `days`: 1, 2, ... since the first event. Columns: `new` and `returning` visitors of that day;
    `users`, distinct so far; `mean` and `sd` of their sums so far; `detectable`, the relative lift of the
    mean that a test with half of the users in each arm finds with `power` (NaN while nobody has any).

    Raises ValueError when the log is empty, or a column is missing or has gaps.
    """
    _columns(log, ["timestamp", "user_id", column])
    day = log["timestamp"].dt.floor("D")
    days = (day - day.min()) // pd.Timedelta("1D") + 1
    rows = pd.DataFrame({"user": log["user_id"], "days": days, "sum": log[column].astype(float)})
    calendar = range(1, int(days.max()) + 1)
    sums = rows.pivot_table("sum", "user", "days", aggfunc="sum").reindex(columns=calendar)
    came = sums.notna().to_numpy()
    seen = np.maximum.accumulate(came, axis=1)
    so_far = sums.fillna(0).cumsum(axis=1).where(seen)  # a user counts from the first visit on
    users, visitors = seen.sum(axis=0), came.sum(axis=0)
    table = pd.DataFrame({"new": np.diff(users, prepend=0)}, index=pd.Index(calendar, name="days"))
    table = table.assign(returning=visitors - table["new"], users=users, mean=so_far.mean(), sd=so_far.std())
    usable = table[(table["sd"] > 0) & (table["mean"] > 0)]
    found = minimum_detectable_effect(usable["sd"], usable["users"] / 2, alpha=alpha, power=power)
    return table.assign(detectable=found / usable["mean"])


def days_needed(table: pd.DataFrame, users: int, whole_weeks: bool = True) -> int:
    """Return the days until that many distinct users have come, from the `users` of a `duration_table`.

    whole_weeks: round up to a multiple of 7, so that every weekday weighs the same.
    Raises ValueError when the measured days do not bring so many.
    """
    enough = table.index[table["users"] >= whole("users", users, 1)]
    if enough.empty:
        raise ValueError(
            f"{len(table)} days brought {table['users'].max():,} users, not {users:,}: look for a larger "
            f"effect, reduce the variance, or measure more days. Visitors return: no line extrapolates them."
        )
    return int(-(-enough[0] // 7) * 7 if whole_weeks else enough[0])


# ---------------------------------------------------------------- after: one row a user


class SampleRatioMismatch(ValueError):
    """The arms do not hold the users they should; until it is explained, no effect may be read."""


def user_totals(panel: pd.DataFrame) -> pd.DataFrame:
    """Return one row a user: the `arm` and the sum of every other column of numbers but `day`.

    panel: `user_id`, `arm` and numbers, several rows a user, such as `Platform.run_experiment` returns.
    Raises ValueError when a user is in two arms, or a column is missing or has gaps.
    """
    _columns(panel, ["user_id", "arm"])
    groups = panel[["user_id", "arm"]].drop_duplicates().set_index("user_id").sort_index()
    both = groups.index[groups.index.duplicated()]
    if len(both):
        raise ValueError(f"{len(both):,} users are in two arms, such as {both[0]}: find out why first.")
    numbers = panel.select_dtypes(["number", "bool"]).drop(columns=["user_id", "day"], errors="ignore")
    _columns(numbers, list(numbers))
    return groups.join(numbers.astype(float).groupby(panel["user_id"]).sum())


def sample_ratio_p_value(counts: Mapping[str, int], shares: Mapping[str, float] | None = None) -> float:
    """Return the chi-square p-value of the users in each arm against the shares they should have.

    counts: users of each arm. shares: by default equal. A p-value below `SRM_ALARM` is an alarm; the level is
    fixed before any test. Fabijan et al. 2019 describe the practice and the causes.

    Raises ValueError for fewer than two arms, arms without a share, or shares that do not sum to 1.
    """
    arms = list(counts)
    shares = dict.fromkeys(arms, 1 / max(len(arms), 1)) if shares is None else dict(shares)
    if len(arms) < 2 or set(shares) != set(arms) or min(shares.values()) <= 0:
        raise ValueError(f"Two or more arms, each with a share above 0, are needed, not {arms} and {shares}.")
    total = sum(shares.values())
    if not np.isclose(total, 1):
        raise ValueError(f"The shares of the arms must sum to 1, not to {total:g}: correct them.")
    observed = np.array([whole(f"the users of {arm}", counts[arm]) for arm in arms])
    if not observed.sum():
        raise ValueError("No arm holds a user: pass the counts of a test that ran.")
    expected = observed.sum() * np.array([shares[arm] / total for arm in arms])
    return float(stats.chisquare(observed, expected).pvalue)


class Difference(NamedTuple):
    """Two means, treatment minus control with its error, the same relative to control, and the p-value."""

    control: float
    treatment: float
    difference: Interval
    standard_error: float
    lift: Interval
    p_value: float


def difference_of_means(control: ArrayLike, treatment: ArrayLike, level: float = 0.95) -> Difference:
    """Return Welch's comparison of two arms, given one value of each user.

    The interval of the `lift`, treatment / control - 1, is that of the delta method (Deng et al. 2018); NaN
    when the control mean is 0. Rows that are not independent make every interval too short.

    Raises ValueError for fewer than two values in an arm, missing ones, or two arms that do not vary.
    """
    (c,), (t,) = _numbers(control=control), _numbers(treatment=treatment)
    _inside("level", level)
    if min(len(c), len(t)) < 2 or not (np.ptp(c) or np.ptp(t)):
        raise ValueError("Each arm needs two or more values, and they must vary in one: use more users.")
    c_mean, t_mean, gap = c.mean(), t.mean(), _compare(c, t)
    _, p_value, df = gap.ttest_ind(usevar="unequal")
    low, high = gap.tconfint_diff(1 - level, usevar="unequal")
    ratio = t_mean / c_mean if c_mean else np.nan
    half = stats.t.ppf((1 + level) / 2, df) * _compare(ratio * c, t).std_meandiff_separatevar
    lift = ratio - 1 + np.array([0, -1, 1]) * half / (abs(c_mean) or np.nan)
    return Difference(
        control=float(c_mean),
        treatment=float(t_mean),
        difference=Interval(float(t_mean - c_mean), float(low), float(high), level),
        standard_error=float(gap.std_meandiff_separatevar),
        lift=Interval(*map(float, lift), level),
        p_value=float(p_value),
    )


def _compare(c: np.ndarray, t: np.ndarray) -> CompareMeans:
    """Treatment minus control, for statsmodels."""
    return CompareMeans(DescrStatsW(t), DescrStatsW(c))


def linearized(numerator: ArrayLike, denominator: ArrayLike) -> np.ndarray:
    """Return a value for each user whose mean is sum(numerator) / sum(denominator), shape (users,).

    ``R + (y - R x) / mean(x)`` with R the ratio. The variance of their mean is that of the ratio by the delta
    method, clustered on users, where a plain variance over rows would be too small (Deng et al. 2018).

    Raises ValueError when the sum of the denominator is not above 0.
    """
    y, x = _numbers(numerator=numerator, denominator=denominator)
    if x.sum() <= 0:
        raise ValueError("The denominator sums to nothing, so there is no ratio: check the column.")
    ratio = y.sum() / x.sum()
    return ratio + (y - ratio * x) / x.mean()


class Cuped(NamedTuple):
    """Values without what the covariate explains, theta, and the share of the variance that is gone."""

    values: np.ndarray
    theta: float
    variance_reduction: float


def cuped(values: ArrayLike, covariate: ArrayLike) -> Cuped:
    """Return ``values - theta (covariate - its mean)`` with theta = cov / var (Deng et al. 2013).

    values, covariate: one number a user, of all arms together, shape (users,). The covariate must be from
    before the test: then the treatment cannot move it, and the difference of the arms keeps its mean.

    Raises ValueError for a covariate that does not vary.
    """
    y, x = _numbers(values=values, covariate=covariate)
    if not np.ptp(x):
        raise ValueError("The covariate is the same for all users, so it explains nothing: choose another.")
    theta = np.cov(y, x)[0, 1] / x.var(ddof=1)
    adjusted = y - theta * (x - x.mean())
    reduction = 1 - adjusted.var() / y.var() if np.ptp(y) else 0.0
    return Cuped(adjusted, float(theta), float(reduction))


class Effect(NamedTuple):
    """What a test found on one metric: the users and the fields of `Difference`, and what was checked.

    split_p_value: of `sample_ratio_p_value`. variance_reduction: by the covariate, 0 without one.
    """

    metric: str
    users_control: int
    users_treatment: int
    split_p_value: float
    variance_reduction: float
    control: float
    treatment: float
    difference: Interval
    standard_error: float
    lift: Interval
    p_value: float


def treatment_effect(
    users: pd.DataFrame,
    metric: str,
    control: str,
    treatment: str,
    *,
    per: str | None = None,
    covariate: str | None = None,
    shares: Mapping[str, float] | None = None,
    level: float = 0.95,
    despite_mismatch: bool = False,
) -> Effect:
    """Return the effect of a treatment on a metric, from one row a user with `arm` (`user_totals`).

    metric
        A column: its mean per user is compared; with `per`, another column, the ratio of the two sums, such
        as clicks per request (`linearized` in each arm).
    covariate
        A column from before the test, for `cuped`; it works on a mean and on a ratio.
    shares
        Of all arms in the column `arm`, for `sample_ratio_p_value`; by default equal.

    Raises SampleRatioMismatch when the split of the users is wrong, unless `despite_mismatch`; ValueError for
    unknown arms or columns, and as the functions above do.
    """
    _columns(users, ["arm", metric, *filter(None, (per, covariate))])
    if users.index.has_duplicates:
        raise ValueError("A user has several rows: sum them with user_totals first.")
    for arm in (control, treatment):
        choice("An arm", arm, tuple(users["arm"].unique()))
    if control == treatment:
        raise ValueError(f"Control and treatment are both {control}: name two arms.")
    split_p_value = _check_split(users["arm"], shares, despite_mismatch)
    users = users[users["arm"].isin([control, treatment])]
    treated = (users["arm"] == treatment).to_numpy()
    values, reduction = users[metric].to_numpy(dtype=float, copy=True), 0.0
    if per is not None:
        for arm in (treated, ~treated):
            values[arm] = linearized(values[arm], users[per][arm])
    if covariate is not None:
        values, _, reduction = cuped(values, users[covariate])
    found = difference_of_means(values[~treated], values[treated], level)
    name, n = f"{metric} per {per or 'user'}", int(treated.sum())
    return Effect(name, len(users) - n, n, split_p_value, reduction, *found)


def _check_split(arms: pd.Series, shares: Mapping[str, float] | None, despite_mismatch: bool) -> float:
    """The p-value of the split; below the alarm level it is an error."""
    counts = arms.value_counts().to_dict()  # a category that nobody is in counts 0, and is found
    p_value = sample_ratio_p_value(counts, shares)
    if p_value < SRM_ALARM and not despite_mismatch:
        raise SampleRatioMismatch(
            f"The arms hold {counts} users; a split that uneven has p = {p_value:.1g}, below {SRM_ALARM}. "
            f"Users were lost or counted twice, and not at random: find the cause, do not read the effect."
        )
    return p_value


def effects_table(
    users: pd.DataFrame,
    metrics: Sequence[str | tuple[str, str]],
    control: str,
    treatment: str,
    **keywords: Any,
) -> pd.DataFrame:
    """Return the `treatment_effect` on many metrics, with p-values adjusted for their number.

    metrics: columns, or pairs (column, per). keywords: those of `treatment_effect`. Index `metric`, such as
    "clicks per user". Columns: control, treatment, difference, low, high, lift, p_value; `holm`: below alpha
    it keeps the chance of any false positive below alpha (Holm 1979); `bh`: it keeps the expected share of
    false ones among all positives below alpha (Benjamini and Hochberg 1995).

    Raises ValueError for no metric, and as `treatment_effect` does.
    """
    if not metrics:
        raise ValueError("metrics is empty: name at least one.")
    pairs = [(metric, None) if isinstance(metric, str) else metric for metric in metrics]
    found = [treatment_effect(users, y, control, treatment, per=x, **keywords) for y, x in pairs]
    rows = [
        {
            "metric": effect.metric,
            "control": effect.control,
            "treatment": effect.treatment,
            "difference": effect.difference.estimate,
            "low": effect.difference.low,
            "high": effect.difference.high,
            "lift": effect.lift.estimate,
            "p_value": effect.p_value,
        }
        for effect in found
    ]
    table = pd.DataFrame(rows).set_index("metric")
    adjusted = {name: multipletests(table["p_value"], method=name)[1] for name in ("holm", "fdr_bh")}
    return table.assign(holm=adjusted["holm"], bh=adjusted["fdr_bh"])


class Curse(NamedTuple):
    """Of a test: its power, how much a significant estimate exaggerates, and how often its sign is wrong."""

    power: float
    exaggeration: float
    wrong_sign: float


def winners_curse(difference: float, standard_error: float, alpha: float = 0.05) -> Curse:
    """Return what selecting on significance does to the estimate of a true difference.

    exaggeration: mean size of a significant estimate / true size. wrong_sign: share of the significant
    estimates whose sign is wrong. The type M and type S errors of Gelman and Carlin 2014, in closed form for
    a normal estimate: the mean of a truncated normal.

    Raises ValueError when the difference is 0 or the standard error is not above 0.
    """
    _above_zero(standard_error=standard_error, size=abs(difference))
    z, cut = abs(difference) / standard_error, stats.norm.isf(_inside("alpha", alpha) / 2)
    right, wrong = stats.norm.sf(cut - z), stats.norm.sf(cut + z)
    size = z * (right - wrong) + stats.norm.pdf(cut - z) + stats.norm.pdf(cut + z)
    power = right + wrong
    return Curse(float(power), float(size / power / z), float(wrong / power))


# ---------------------------------------------------------------- during: looking before the end
# A look is significant when |estimate / standard error| reaches the boundary of that look. All boundaries
# suppose that an estimate keeps its past: cov(early, late) = var(late), as a mean of independent users does.


def spending_boundary(information: ArrayLike, alpha: float = 0.05) -> np.ndarray:
    """Return the z-value that each look must reach, shape (looks,), when alpha is spent bit by bit.

    information: the share of the planned information, 1 / standard error^2, at each look; rising, at most 1,
    steps of 0.001 or more. By t, ``4 (1 - Phi(z_{1-alpha/4} / sqrt(t)))`` of alpha is spent: hardly any
    early, as O'Brien and Fleming do (Lan and DeMets 1983). Infinite where a look has nothing to spend.
    The recursion over looks is that of Armitage, McPherson and Rowe 1969.

    Raises ValueError for other shares.
    """
    (t,) = _numbers(0.001, 1, information=information)
    steps = np.diff(t, prepend=0)
    if steps.min() < 0.001 - 1e-12:
        raise ValueError("information must rise by 0.001 or more from look to look: sort it, thin it out.")
    z = stats.norm.isf(_inside("alpha", alpha) / 4)
    spend = np.diff(4 * stats.norm.sf(z / np.sqrt(t)), prepend=0)
    boundary = np.empty(len(t))
    points, weights = np.zeros(1), np.ones(1)  # where the test may be before a look, and how likely
    for look, (now, step) in enumerate(zip(t, np.sqrt(steps), strict=True)):
        boundary[look] = _boundary(points, weights, step, np.sqrt(now), spend[look])
        edge = min(boundary[look], WIDEST) * np.sqrt(now)
        nodes, widths = _quadrature()
        moves = stats.norm.pdf((edge * nodes[:, None] - points) / step) / step
        points, weights = edge * nodes, edge * widths * (moves @ weights)
    return boundary


WIDEST = 8.0  # standard deviations: what lies beyond is less than 1e-14


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of Gauss and Legendre on [-1, 1]."""
    return np.polynomial.legendre.leggauss(400)


def _boundary(points: np.ndarray, weights: np.ndarray, step: float, scale: float, spend: float) -> float:
    """The z-value that is first reached at this look with probability `spend`; infinity if that is tiny."""

    def excess(z: float) -> float:
        tails = stats.norm.sf((z * scale - points) / step) + stats.norm.sf((z * scale + points) / step)
        return float(weights @ tails) - spend

    return brentq(excess, 0, WIDEST) if excess(WIDEST) < 0 else np.inf


def always_valid_boundary(standard_errors: ArrayLike, tau: float, alpha: float = 0.05) -> np.ndarray:
    """Return the z-value that each look must reach, shape (looks,), when one may look at any time, for ever.

    The mixture sequential probability ratio test of Johari et al. 2017, "Peeking at A/B Tests": without an
    effect, the likelihood ratio, averaged over effects of N(0, tau^2), reaches 1 / alpha at some time with
    probability alpha at most. tau: the size of the effects expected, in the unit of the estimate, chosen
    before the test; any choice is valid, a good one is sharp. Standard errors are estimates, so the first
    look needs many users.

    Raises ValueError unless all numbers are above 0.
    """
    (errors,) = _numbers(standard_errors=standard_errors)
    _above_zero(standard_errors=errors, tau=tau)
    gain = (tau / errors) ** 2
    return np.sqrt((1 + 1 / gain) * (np.log1p(gain) - 2 * np.log(_inside("alpha", alpha))))


def confidence_sequence(
    estimates: ArrayLike, standard_errors: ArrayLike, tau: float, level: float = 0.95
) -> pd.DataFrame:
    """Return an interval at each look; all of them together cover the truth with probability `level`.

    estimates, standard_errors: shape (looks,), in order of time. Columns: estimate, low, high, and `p_value`,
    which never rises: 1 - level or less as soon as an interval has left out 0. As `always_valid_boundary`.
    """
    theta, errors = _numbers(estimates=estimates, standard_errors=standard_errors)
    half = errors * always_valid_boundary(errors, tau, 1 - _inside("level", level))
    gain = (tau / errors) ** 2
    log_ratio = ((theta / errors) ** 2 * gain / (1 + gain) - np.log1p(gain)) / 2
    p_value = np.exp(-np.maximum.accumulate(np.maximum(log_ratio, 0)))
    return pd.DataFrame({"estimate": theta, "low": theta - half, "high": theta + half, "p_value": p_value})


def stopping_rate(
    boundary: ArrayLike,
    information: ArrayLike | None = None,
    drift: float = 0.0,
    n_runs: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Return the share of simulated tests that reach the boundary at any look, with its Wilson interval.

    boundary, information: one value a look; information by default in equal steps up to 1. drift: the mean of
    z at information 1; 0 gives the false positive rate, 2.8 the power of a test planned for 80%.

    Raises ValueError for information that does not rise from above 0, or a boundary below 0.
    """
    z = np.asarray(boundary, dtype=float)
    t = np.arange(1, z.size + 1) / max(z.size, 1) if information is None else information
    (t,) = _numbers(0, information=t)
    steps = np.diff(t, prepend=0)
    if z.shape != t.shape or not (z >= 0).all() or steps.min() <= 0:
        raise ValueError(
            "Each look needs a boundary of at least 0, and more information than the one before."
        )
    moves = np.random.default_rng(seed).normal(size=(whole("n_runs", n_runs, 1), len(t)))
    path = np.cumsum(moves * np.sqrt(steps), axis=1) + drift * t
    return proportion_interval(int((np.abs(path) >= z * np.sqrt(t)).any(axis=1).sum()), n_runs)


def peeking_false_positives(looks: int, alpha: float = 0.05, n_runs: int = 10_000, seed: int = 0) -> Interval:
    """Return how often a test without an effect is significant at one or more of equally spaced looks."""
    z = stats.norm.isf(_inside("alpha", alpha) / 2)
    return stopping_rate(np.full(whole("looks", looks, 1), z), n_runs=n_runs, seed=seed)


def daily_effects(
    panel: pd.DataFrame, metric: str, control: str, treatment: str, **keywords: Any
) -> pd.DataFrame:
    """Return what a test would report after each day: the effect on a metric so far.

    panel: as for `user_totals`, with `day`; keywords: those of `treatment_effect`; a covariate is repeated in
    every row of its user. The mean is per user and day: a sum would grow with the days, and an estimate that
    grows does not keep its past. Index `day`; columns `estimate`, `standard_error`, `low` and `high` of this
    look alone, and `information`, 1 / standard_error^2.

    Raises ValueError as the functions that it calls.
    """
    names = [metric, *filter(None, (keywords.get("per"), keywords.get("covariate")))]
    _columns(panel, ["day", "user_id", "arm", *names])
    panel, rows = panel[["day", "user_id", "arm", *dict.fromkeys(names)]], {}
    for n, day in enumerate(np.unique(panel["day"]), start=1):
        users = user_totals(panel[panel["day"] <= day])
        if keywords.get("per") is None:
            users[metric] /= n
        found = treatment_effect(users, metric, control, treatment, **keywords)
        gap, error = found.difference, found.standard_error
        rows[day] = {"estimate": gap.estimate, "standard_error": error, "low": gap.low, "high": gap.high}
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("day")
    return table.assign(information=table["standard_error"] ** -2)


# ---------------------------------------------------------------- interleaving


def b_picks(request_id: ArrayLike, position: ArrayLike, seed: int = 0) -> np.ndarray:
    """Return whether team B picks for this position of this request; the arguments broadcast.

    Positions count from 1. In each round of two positions a coin says who picks first. It depends on the
    request and the seed only, so a log of requests and positions is enough to credit a click to its team.
    """
    turn = np.asarray(position) - 1
    b_is_first = coins(seed, DRAFT, request_id, turn // 2) % 2 == 1
    return b_is_first == (turn % 2 == 0)


def team_draft(ranking_a: ArrayLike, ranking_b: ArrayLike, picks: ArrayLike) -> np.ndarray:
    """Return one list a request, in which two teams take turns to pick their best item that is left.

    ranking_a, ranking_b: ids, best first, shape (requests, n), n at least the slots. picks: `b_picks`, shape
    (requests, slots). The team draft of Radlinski, Kurup and Joachims 2008.

    Raises ValueError when the shapes do not fit, or an id stands twice in a ranking.
    """
    picks = np.asarray(picks, dtype=bool)
    rankings = [np.asarray(ranking) for ranking in (ranking_a, ranking_b)]
    if picks.ndim != 2 or any(
        r.ndim != 2 or len(r) != len(picks) or r.shape[1] < picks.shape[1] for r in rankings
    ):
        raise ValueError(
            f"Both rankings need a row a request and an item or more a slot, but their shapes are "
            f"{rankings[0].shape} and {rankings[1].shape} for picks of {picks.shape}: rank more items."
        )
    a, b = (ranking[:, : picks.shape[1]] for ranking in rankings)  # more can never be picked
    if any((np.diff(np.sort(ranking, axis=1)) == 0).any() for ranking in (a, b)):
        raise ValueError("An id stands twice in a ranking: rank each item once.")
    rows, drafted = np.arange(len(picks)), np.empty(picks.shape, dtype=np.result_type(a, b))
    gone_a, gone_b = np.zeros(picks.shape, dtype=bool), np.zeros(picks.shape, dtype=bool)
    for slot in range(picks.shape[1]):
        best_a, best_b = a[rows, gone_a.argmin(axis=1)], b[rows, gone_b.argmin(axis=1)]
        drafted[:, slot] = np.where(picks[:, slot], best_b, best_a)
        gone_a |= a == drafted[:, [slot]]
        gone_b |= b == drafted[:, [slot]]
    return drafted


def interleaving_policy(policy_a: Policy, policy_b: Policy, n_slots: int, seed: int = 0) -> Policy:
    """Return a policy that shows the team draft of two others, n_slots videos a request.

    Its propensities are exact: of all orders of picking, the share that puts the video at this position.
    Raises ValueError for more than 16 slots (256 orders) and, when asked, for policies that explore: the
    draft of a shuffled ranking has no known propensity.
    """
    position = np.arange(1, whole("n_slots", n_slots, 1, 16) + 1)
    firsts = np.array(list(product([False, True], repeat=-(-n_slots // 2))))  # whether B begins each round
    orders = firsts[:, (position - 1) // 2] == (position % 2 == 1)

    def show(requests: pd.DataFrame, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a, b = (_certain(policy, requests, candidates)[:, :n_slots] for policy in (policy_a, policy_b))
        shown = team_draft(a, b, b_picks(requests["request_id"].to_numpy()[:, None], position, seed))
        drafts = (team_draft(a, b, np.broadcast_to(order, shown.shape)) for order in orders)
        return shown, sum(draft == shown for draft in drafts) / len(orders)

    return show


def _certain(policy: Policy, requests: pd.DataFrame, candidates: np.ndarray) -> np.ndarray:
    """The ranking of a policy that leaves nothing to chance."""
    ranked, propensities = map(np.asarray, policy(requests, candidates))
    if (propensities != 1).any():
        raise ValueError("This policy explores (a propensity is below 1): pass it with an epsilon of 0.")
    return ranked


class Preference(NamedTuple):
    """The users who clicked, the clicks of each team, B's share of them, and the p-value of one half."""

    users: int
    clicks_a: int
    clicks_b: int
    share_b: Interval
    p_value: float


def interleaving_preference(log: pd.DataFrame, seed: int = 0, level: float = 0.95) -> Preference:
    """Return which ranking the users prefer, from the log of an `interleaving_policy` with the same seed.

    log: `request_id`, `position`, `user_id`, `clicked`. The clicks of a user belong together: B's share is a
    ratio of sums, `linearized` over users, and tested against one half. A position is as often A's as B's, so
    position bias cancels. It says who wins, not by how much a metric would move.

    Raises ValueError when fewer than two users clicked, or all split their clicks alike.
    """
    _columns(log, ["request_id", "position", "user_id", "clicked"])
    clicks = log[log["clicked"].astype(bool)]
    of_b = b_picks(clicks["request_id"].to_numpy(), clicks["position"].to_numpy(), seed)
    users = pd.Series(of_b).groupby(clicks["user_id"].to_numpy()).agg(["sum", "size"])
    total, b = int(users["size"].sum()), int(users["sum"].sum())
    if len(users) < 2 or (users["sum"] * total == users["size"] * b).all():
        raise ValueError(
            f"{len(users)} users clicked {total - b} times on A and {b} on B, all in one proportion: that "
            f"has no interval, use a longer log."
        )
    shares = DescrStatsW(linearized(users["sum"], users["size"]))
    low, high = shares.tconfint_mean(1 - _inside("level", level))
    share_b = Interval(b / total, float(low), float(high), level)
    return Preference(len(users), total - b, b, share_b, float(shares.ttest_mean(0.5)[1]))


# ---------------------------------------------------------------- off-policy evaluation
# The value of a target policy from the log of another. One row is one shown item; its weight is the
# probability that the target shows it there, over the logged propensity. Slots are judged one by one: a click
# may depend on the item and its position, not on its neighbors (the item-position model of Li et al. 2018).


class Replay(NamedTuple):
    """Of each row of a log: the probability that a target shows its video there; the video it would show."""

    probability: np.ndarray
    video_id: np.ndarray


def replay(
    policy: Policy, log: pd.DataFrame, candidates: Callable[[pd.DataFrame], np.ndarray], epsilon: float = 0.0
) -> Replay:
    """Return what a policy would have shown in each row of an impression log, both of shape (rows,).

    policy: leaves nothing to chance and reads no more of a request than the log holds. candidates: as
    `Platform.candidates`. epsilon: the target shuffles all candidates with that probability instead.

    Raises ValueError for a policy that explores by itself, or a ranking shorter than the positions.
    """
    _columns(log, ["request_id", "timestamp", "user_id", "position", "video_id"])
    requests = log.drop_duplicates("request_id")[["request_id", "timestamp", "user_id"]].reset_index(
        drop=True
    )
    offered = candidates(requests)
    ranked = _certain(policy, requests, offered)
    position = log["position"].to_numpy() - 1
    if position.min() < 0 or position.max() >= ranked.shape[1]:
        raise ValueError(f"Positions must be from 1 to the {ranked.shape[1]} videos that the policy ranks.")
    shown = ranked[pd.Index(requests["request_id"]).get_indexer(log["request_id"]), position]
    explores = share("epsilon", epsilon)
    return Replay(explores / offered.shape[1] + (1 - explores) * (shown == log["video_id"].to_numpy()), shown)


def shown_shares(item: ArrayLike, position: ArrayLike, n_items: int) -> np.ndarray:
    """Return how often a log shows each item at each position, shape (positions, n_items); rows sum to 1.

    Items count from 0, positions from 1. It stands for a policy of which only a log is known.
    Raises ValueError for an item outside [0, n_items), or a position between 1 and the last without a row.
    """
    last = whole("n_items", n_items, 1) - 1
    (item,), (position,) = _numbers(0, last, item=item), _numbers(1, position=position)
    counts = pd.crosstab(position, item, normalize="index").reindex(columns=range(n_items), fill_value=0.0)
    if not np.array_equal(counts.index, np.arange(1, len(counts) + 1)):
        raise ValueError(
            f"Positions must be 1, 2, ... without a gap, not {list(counts.index)}: renumber them."
        )
    return counts.to_numpy()


def out_of_fold(
    model: BaseEstimator,
    logged: pd.DataFrame,
    reward: ArrayLike,
    tables: Sequence[pd.DataFrame],
    unit: ArrayLike | None = None,
    folds: int = 5,
) -> np.ndarray:
    """Return the reward that a model predicts for each row of each table, shape (tables, rows).

    model: an unfitted classifier of rewards 0 and 1, or a regressor, of scikit-learn. Row i of every table is
    row i of the log, with the item that was shown or with another. The model is fitted on `logged`, never on
    the row that it predicts, for the doubly robust estimate would believe its errors. unit: rows of one unit,
    such as a user, stay together.

    Raises ValueError when lengths differ, or a classifier has one kind of reward to learn from.
    """
    (reward,) = _numbers(reward=reward)
    if not tables or any(len(table) != len(reward) for table in (logged, *tables)):
        raise ValueError(
            f"logged and one table or more need {len(reward)} rows each, one a reward: align them."
        )
    groups = np.arange(len(reward)) if unit is None else _unit_codes(unit, len(reward))
    predicted = np.empty((len(tables), len(reward)))
    splits = GroupKFold(whole("folds", folds, 2), shuffle=True, random_state=0)
    for train, test in splits.split(logged, groups=groups):
        if is_classifier(model) and len(np.unique(reward[train])) < 2:
            raise ValueError(
                "All rewards of a fold are equal, so a classifier learns nothing: use more rows."
            )
        fitted = clone(model).fit(logged.iloc[train], reward[train])
        for row, table in zip(predicted, tables, strict=True):
            unseen = table.iloc[test]
            row[test] = fitted.predict_proba(unseen)[:, 1] if is_classifier(model) else fitted.predict(unseen)
    return predicted


def _unit_codes(unit: ArrayLike, rows: int) -> np.ndarray:
    """The number of the unit of each row, from 0 on."""
    codes, names = pd.factorize(np.asarray(unit))
    if codes.shape != (rows,) or (codes < 0).any() or len(names) < 2:
        raise ValueError(f"unit must name the owner of each of {rows} rows, two or more, without gaps.")
    return codes


def off_policy_table(
    reward: ArrayLike,
    propensity: ArrayLike,
    target: ArrayLike,
    *,
    predicted: ArrayLike | None = None,
    expected: ArrayLike | None = None,
    unit: ArrayLike | None = None,
    clip: float = np.inf,
    interval: str = "normal",
    level: float = 0.95,
) -> pd.DataFrame:
    """Return the mean reward a row under a target policy, from the log of another: read the weights first.

    Parameters, each of shape (rows,)
    ---------------------------------
    reward, propensity, target
        What happened, the logged probability of what was shown, and the target's probability of the same.
    predicted, expected
        A model's reward of what was shown, and its mean over what the target would show (`out_of_fold`).
    unit
        The owner of each row, such as a user, where rows belong together.
    clip, interval, level
        Weights above `clip` are cut to it. "normal" (linearized, clustered) or "bootstrap" intervals.

    Returns
    -------
    DataFrame
        `ess`, the effective sample size (sum w)^2 / sum w^2 (Kong 1992), `max_weight` and `mean_weight`
        (1 is expected) of w = min(target / propensity, clip), then `estimate`, `low`, `high`. Index:

        IPS    mean(w r)                         unbiased when propensities are right and never 0
        SNIPS  sum(w r) / sum(w)                 a little bias, less variance (Swaminathan and Joachims 2015)
        DM     mean(expected)                    the direct method: as biased as the model
        DR     mean(expected + w (r - predicted))  unbiased if either is right (Dudík, Langford and Li 2011)

    An interval knows only the weights that were drawn. When ess is small, the rows with the largest weights
    are missing from the log: both kinds of interval tend to lie below the truth, for the bootstrap repeats
    the gap. A mean weight far from 1 shows it. A normal interval may reach below 0, a bootstrap one of IPS or
    SNIPS does not if no reward does. Clipping and a wrong model are biases that no interval shows.

    Raises ValueError for a propensity of 0, for a log without a rewarded row that the target could show, or
    for one of `predicted` and `expected` without the other.
    """
    r, mu, pi = _numbers(reward=reward, propensity=propensity, target=target)
    if not ((mu > 0) & (mu <= 1) & (pi >= 0) & (pi <= 1)).all() or not clip > 0:
        raise ValueError(
            "Propensities must be above 0 and at most 1, targets from 0 to 1, clip above 0: correct them."
        )
    if not (pi * r).any():
        raise ValueError("No rewarded row could come from the target: nothing is learned, use a longer log.")
    if (predicted is None) != (expected is None):
        raise ValueError("A model needs both: predicted for what was shown, expected for the target.")
    choice("interval", interval, ("normal", "bootstrap"))
    w, one = np.minimum(pi / mu, clip), np.ones(len(r))
    sums = {"IPS": (w * r, one), "SNIPS": (w * r, w)}
    if expected is not None:
        _, q, v = _numbers(reward=r, predicted=predicted, expected=expected)
        sums |= {"DM": (v, one), "DR": (v + w * (r - q), one)}
    owner = np.arange(len(r)) if unit is None else _unit_codes(unit, len(r))
    estimate = _bootstrapped if interval == "bootstrap" else _normal
    weights, level = (w.sum() ** 2 / (w @ w), w.max(), w.mean()), _inside("level", level)
    found = {name: estimate(y, x, owner, level) for name, (y, x) in sums.items()}
    rows = {name: (*weights, value.estimate, value.low, value.high) for name, value in found.items()}
    columns = ["ess", "max_weight", "mean_weight", "estimate", "low", "high"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("estimator")


def _bootstrapped(y: np.ndarray, x: np.ndarray, owner: np.ndarray, level: float) -> Interval:
    """The ratio of two sums, with its bootstrap interval over owners."""
    return bootstrap_interval(_ratio_of_sums, y, x, unit=owner, level=level)


def _ratio_of_sums(y: np.ndarray, x: np.ndarray, sample_weight: np.ndarray) -> float:
    return float(y @ sample_weight / (x @ sample_weight))


def _normal(y: np.ndarray, x: np.ndarray, owner: np.ndarray, level: float) -> Interval:
    """The ratio of two sums, with its normal interval over owners."""
    values = linearized(np.bincount(owner, y), np.bincount(owner, x))
    mean, half = values.mean(), stats.norm.isf((1 - level) / 2) * stats.sem(values)
    return Interval(float(mean), float(mean - half), float(mean + half), level)
