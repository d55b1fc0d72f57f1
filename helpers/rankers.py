"""Rankers of impressions: three estimators, calibrated heads for several outcomes, and error analysis.

Everything here is a scikit-learn estimator or uses one, so cloning, pipelines and saving apply. A table of
features says what is a category by its dtype: see `as_categories`. Train on the past, calibrate on a later
slice, judge on a later one still.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Self

import lightgbm
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, PoissonRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PowerTransformer
from sklearn.utils.validation import check_consistent_length, check_is_fitted, validate_data
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from helpers.metrics import paired_bootstrap_interval, reliability_table
from helpers.shifts import choice, whole

KINDS = ("logistic", "boosting", "lambdarank")
HIGHEST_GRADE = 30  # LightGBM's gain is 2^grade - 1
LONGEST_LIST = 10_000  # rows of one request that LightGBM takes
MOST_VALUES = 20  # of a column of numbers whose every value is a slice
FOLDS = 5  # into which scikit-learn divides the rows of a calibration


# ---------------------------------------------------------------- three rankers


def as_categories(X: pd.DataFrame, names: Sequence[str] = ("video_topic",)) -> pd.DataFrame:
    """Return the table with its text columns, and those of these names, as categories.

    A topic is a number without an order: left a number, a model reads one into it.
    Raises ValueError for a name that the table lacks.
    """
    if lacking := set(names) - set(X.columns):
        raise ValueError(f"X has no column {', '.join(sorted(lacking))}: name the categories that it has.")
    text = X.columns[[pd.api.types.is_string_dtype(X[name]) for name in X]]
    return X.astype(dict.fromkeys([*text, *names], "category"))


class WeightedPipeline(Pipeline):
    """A pipeline whose last step is fitted with the weights."""

    def fit(self, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit all steps, the last one with `sample_weight`, shape (n,)."""
        return super().fit(X, y, **{f"{self.steps[-1][0]}__sample_weight": sample_weight})


def ranker(kind: str, seed: int = 0) -> BaseEstimator:
    """Return an unfitted ranker: "logistic", "boosting" or "lambdarank". `scores` reads any of them.

    logistic
        Logistic regression: categories one-hot; numbers made nearly normal (Yeo and Johnson 2000), for
        counts and durations have long tails; a missing number is the mean, and a flag says so.
    boosting
        Gradient-boosted trees of scikit-learn, pointwise: they predict P(y) of each row.
    lambdarank
        `LambdaRanker`, listwise: it orders the rows of a request, and its scores are no probabilities.

    All take `sample_weight` in `fit`; "lambdarank" also needs `group`. Raises ValueError for another kind.
    """
    match choice("kind", kind, KINDS):
        case "logistic":
            numbers = make_pipeline(
                PowerTransformer(), SimpleImputer(strategy="constant", add_indicator=True)
            )
            table = make_column_transformer(
                (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
                (numbers, make_column_selector(dtype_exclude="category")),
            )
            model = LogisticRegression(max_iter=1000, random_state=seed)
            return WeightedPipeline([("table", table), ("model", model)])
        case "boosting":
            return HistGradientBoostingClassifier(**_trees(100, 8, seed))
    return LambdaRanker(seed=seed)


def _trees(trees: int, leaves: int, seed: int) -> dict[str, Any]:
    """Settings of boosting. Early stopping would judge on random rows, no later than the others."""
    return {
        "categorical_features": "from_dtype",
        "max_iter": trees,
        "max_leaf_nodes": leaves,
        "early_stopping": False,
        "random_state": seed,
    }


class LambdaRanker(BaseEstimator):
    """LightGBM's LambdaRank: trees that learn the order of the rows of each request (Burges 2010).

    trees, leaves (of a tree), learning_rate, min_rows (of a leaf), seed. It uses one thread, and learns the
    same trees each time.
    """

    def __init__(
        self,
        trees: int = 100,
        leaves: int = 8,
        learning_rate: float = 0.1,
        min_rows: int = 200,
        seed: int = 0,
    ) -> None:
        """Keep the settings."""
        self.trees, self.leaves, self.learning_rate = trees, leaves, learning_rate
        self.min_rows, self.seed = min_rows, seed

    def fit(
        self, X: pd.DataFrame, y: ArrayLike, group: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn from rows in any order; the rows of one `group`, a request id, compete with each other.

        y: grades, whole numbers from 0 (not relevant) to 30; a click is 1. All of shape (n,).
        Raises ValueError for other grades, a missing group, or when no request has two different grades.
        """
        validate_data(self, _table(X), skip_check_array=True)
        grades = _column("y", y, len(X))
        if (grades < 0).any() or (grades > HIGHEST_GRADE).any() or (grades % 1).any():
            raise ValueError(f"y must hold whole grades from 0 to {HIGHEST_GRADE}: cut seconds into grades.")
        request = pd.factorize(np.asarray(group), sort=True)[0]
        check_consistent_length(X, request)
        if (request < 0).any():
            raise ValueError("group has missing values: name the request of each row, or drop those rows.")
        if np.bincount(request).max() > LONGEST_LIST:
            raise ValueError(f"A group has over {LONGEST_LIST:,} rows: pass the request id, not the user's.")
        if not (pd.Series(grades).groupby(request).transform("max") != grades).any():
            raise ValueError("No request has rows of different grades, so there is no order to learn from.")
        order = np.argsort(request, kind="stable")
        weights = None if sample_weight is None else _column("sample_weight", sample_weight, len(X))[order]
        data = lightgbm.Dataset(X.iloc[order], grades[order], weight=weights, group=np.bincount(request))
        self.booster_ = lightgbm.train(self._parameters(), data, whole("trees", self.trees, 1))
        return self

    def _parameters(self) -> dict[str, Any]:
        return {
            "objective": "lambdarank",
            "num_leaves": self.leaves,
            "learning_rate": self.learning_rate,
            "min_data_in_leaf": self.min_rows,
            "seed": self.seed,
            "deterministic": True,
            "force_row_wise": True,
            "num_threads": 1,
            "verbose": -1,
        }

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return scores, shape (n,); only their order within a request means something."""
        check_is_fitted(self)
        validate_data(self, _table(X), reset=False, skip_check_array=True)
        return self.booster_.predict(X, num_threads=1)


def _table(X: pd.DataFrame) -> pd.DataFrame:
    if not isinstance(X, pd.DataFrame):
        raise ValueError(f"X must be a DataFrame with named columns, not {type(X).__name__}: convert it.")
    if not len(X):
        raise ValueError("X has no rows: check the selection.")
    return X


def _column(name: str, values: ArrayLike, rows: int) -> np.ndarray:
    """Finite numbers, one a row."""
    array = np.asarray(values, dtype=float)
    if array.shape != (rows,) or not np.isfinite(array).all():
        raise ValueError(
            f"{name} must hold one finite number for each of {rows:,} rows; its shape is {array.shape}: "
            f"align it with X, and drop rows with NaN."
        )
    return array


def _labels(name: str, values: ArrayLike, rows: int) -> np.ndarray:
    """0 or 1 for each row, as whole numbers."""
    array = _column(name, values, rows)
    if not np.isin(array, (0, 1)).all():
        raise ValueError(f"{name} must hold only 0 and 1 (1 = it happened): map the labels to them.")
    return array.astype(int)


def scores(model: BaseEstimator, X: pd.DataFrame) -> np.ndarray:
    """Return a score of each row, shape (n,): P(y = 1) if the model knows it, else what it predicts."""
    return model.predict_proba(X)[:, 1] if hasattr(model, "predict_proba") else model.predict(X)


# ---------------------------------------------------------------- calibration


def platt(
    model: ClassifierMixin, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> CalibratedClassifierCV:
    """Return the fitted model with its log-odds stretched and shifted to fit rows that it has not seen.

    X, y: a slice later than its training; on the training rows it would be taught to trust its overfit.
    Two numbers are learned, so some hundred positives will do. A factor on the odds is undone (Platt 1999).

    Raises ValueError for a model without decision_function: a sigmoid of a probability has another shape;
    and for fewer than 5 positives or negatives.
    """
    if not hasattr(model, "decision_function"):
        raise ValueError(
            f"{type(model).__name__} has no decision_function, whose log-odds Platt's method stretches: use "
            f"isotonic, which needs only the order."
        )
    return _calibrated(model, "sigmoid", X, y, sample_weight)


def isotonic(
    model: ClassifierMixin, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None = None
) -> CalibratedClassifierCV:
    """Return the fitted model with its scores mapped by the best rising step function; see `platt`.

    It bends to any shape, and any rising distortion is undone. It needs thousands of positives, makes ties,
    and may answer 0 or 1 exactly, which log-loss punishes without limit (Zadrozny and Elkan 2002).
    """
    return _calibrated(model, "isotonic", X, y, sample_weight)


def _calibrated(
    model: ClassifierMixin, method: str, X: pd.DataFrame, y: ArrayLike, sample_weight: ArrayLike | None
) -> CalibratedClassifierCV:
    labels = _labels("y", y, len(X))
    if np.bincount(labels, minlength=2).min() < FOLDS:
        raise ValueError(f"y holds fewer than {FOLDS} positives or negatives: take a longer slice.")
    with warnings.catch_warnings():  # the weights are for the calibration only: just so, the model is fitted
        warnings.filterwarnings("ignore", "Since FrozenEstimator does not appear to accept sample_weight")
        return CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(X, labels, sample_weight)


class CalibratedRegressor(RegressorMixin, BaseEstimator):
    """A fitted regressor f of something positive, made to fit later rows: E[y] = exp(a + b log f(x)).

    What Platt's method is for probabilities: a and b by Poisson regression, which keeps the total right. A
    factor on f is undone.
    """

    def __init__(self, model: RegressorMixin) -> None:
        """Keep the fitted model."""
        self.model = model

    def fit(self, X: pd.DataFrame, y: ArrayLike) -> Self:
        """Learn a and b; y >= 0, shape (n,). Raises ValueError where the model predicts 0 or less."""
        self.scale_ = PoissonRegressor(alpha=0, max_iter=1000).fit(self._logs(X), _column("y", y, len(X)))
        return self

    def predict(self, X: pd.DataFrame) -> np.ndarray:
        """Return E[y], shape (n,)."""
        check_is_fitted(self)
        return self.scale_.predict(self._logs(X))

    def _logs(self, X: pd.DataFrame) -> np.ndarray:
        values = self.model.predict(X)
        if values.min() <= 0:
            raise ValueError('The model predicts 0 or less, which has no logarithm: use loss="poisson".')
        return np.log(values)[:, None]


def calibration_by_slice(y_true: ArrayLike, y_prob: ArrayLike, by: ArrayLike) -> pd.DataFrame:
    """Predicted against observed rate in each slice, as `reliability_table` has them in each bin.

    y_true, y_prob, by: shape (n,); `by` names the slice, and a missing name is a slice too. The columns of
    that table, and `ratio`, which is `calibration_ratio`: predicted / observed, above 1 where the model
    predicts too many, infinite without a positive. ratio_low and ratio_high come from the Wilson interval of
    the observed rate, which takes the rows as independent.
    """
    check_consistent_length(y_true, y_prob, by)
    rows = pd.DataFrame({"y": np.asarray(y_true), "p": np.asarray(y_prob), "slice": np.asarray(by)})
    groups = rows.groupby("slice", dropna=False)
    parts = {name: reliability_table(part["y"], part["p"], bins=1).loc[0] for name, part in groups}
    table = pd.DataFrame([*parts.values()], index=pd.Index(parts, name="slice")).astype({"n": int})
    rates = {"ratio": "observed", "ratio_low": "high", "ratio_high": "low"}
    with np.errstate(divide="ignore"):
        return table.assign(**{name: table["mean_predicted"] / table[rate] for name, rate in rates.items()})


# ---------------------------------------------------------------- several outcomes

OUTCOMES = {"click": "clicked", "watch": "watch_seconds", "like": "liked", "dismiss": "dismissed"}
AFTER_CLICK = ("watch", "like", "dismiss")


class MultiObjective(BaseEstimator):
    """One calibrated head for each outcome of an impression, whose weighted sum is the score.

    The heads: P(click), and given a click E[seconds watched], P(like) and P(dismiss). The heads after a click
    see few rows, so their trees are fewer and smaller. A head that predicts twice too much is worth twice its
    weight: a change of policy that nobody decided. Calibration on a later slice takes it back.

    `models_` holds the heads as trained, `heads_` as calibrated, by the names click, watch, like, dismiss.
    """

    def __init__(self, seed: int = 0) -> None:
        """Keep the seed."""
        self.seed = seed

    def fit(
        self,
        X: pd.DataFrame,
        outcomes: pd.DataFrame,
        later: ArrayLike,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Train the heads on the rows that are not `later`, and calibrate them on those that are.

        X: features, n rows. outcomes: the columns clicked, watch_seconds, liked, dismissed of their log.
        later: shape (n,), True for the newer rows. sample_weight: shape (n,), of the click head only, as for
        the position of an impression, which does not matter after the click.

        Raises ValueError for a missing column, another length, or a like, dismissal or seconds without click.
        """
        events, weights = _events(X, outcomes), _weights(sample_weight, len(X))
        later = np.asarray(later)
        if later.shape != (len(X),) or later.dtype != bool or later.all() or not later.any():
            raise ValueError("later must hold True for the newer rows of X and False for the others.")
        after = {"seed": self.seed, "trees": 50, "leaves": 4}
        self.models_ = {
            "click": HistGradientBoostingClassifier(**_trees(100, 8, self.seed)),
            "watch": HistGradientBoostingRegressor(loss="poisson", **_trees(**after)),
            "like": HistGradientBoostingClassifier(**_trees(**after)),
            "dismiss": HistGradientBoostingClassifier(**_trees(**after)),
        }
        clicked = events["click"].to_numpy() == 1
        self.models_["click"].fit(X[~later], events["click"][~later], sample_weight=weights[~later])
        for head in AFTER_CLICK:
            self.models_[head].fit(X[~later & clicked], events[head][~later & clicked])
        return self.calibrate(X[later], outcomes[later], weights[later])

    def calibrate(
        self, X: pd.DataFrame, outcomes: pd.DataFrame, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Calibrate the trained heads anew, on rows later than their training; arguments as for `fit`."""
        check_is_fitted(self, "models_")
        events, weights = _events(X, outcomes), _weights(sample_weight, len(X))
        clicked = events["click"] == 1
        after, values = X[clicked], events[clicked]
        self.heads_ = {
            "click": platt(self.models_["click"], X, events["click"], weights),
            "watch": CalibratedRegressor(self.models_["watch"]).fit(after, values["watch"]),
            "like": platt(self.models_["like"], after, values["like"]),
            "dismiss": platt(self.models_["dismiss"], after, values["dismiss"]),
        }
        return self

    def predict(self, X: pd.DataFrame) -> pd.DataFrame:
        """Return P(click), E[seconds watched], P(like) and P(dismiss) of each impression, not given a click.

        Columns click, watch, like, dismiss; the index of X.
        """
        check_is_fitted(self, "heads_")
        found = {head: scores(model, X) for head, model in self.heads_.items()}
        given_click = {head: found["click"] * found[head] for head in AFTER_CLICK}
        return pd.DataFrame(found | given_click, index=X.index)

    def value(self, X: pd.DataFrame, weights: Mapping[str, float]) -> np.ndarray:
        """Return the score of each impression, shape (n,): the sum of weight x head, such as {"like": 5}.

        Raises ValueError for no weight, one of an unknown head, or one that is not finite.
        """
        if not weights or not set(weights) <= set(OUTCOMES) or not np.isfinite([*weights.values()]).all():
            raise ValueError(f"weights must give some of {', '.join(OUTCOMES)} a finite number each.")
        return self.predict(X)[[*weights]].to_numpy() @ np.array([*weights.values()], dtype=float)


def _events(X: pd.DataFrame, outcomes: pd.DataFrame) -> pd.DataFrame:
    """The outcomes by head, with the index of X."""
    if lacking := set(OUTCOMES.values()) - set(outcomes):
        raise ValueError(f"outcomes has no column {', '.join(sorted(lacking))}: pass the impression log.")
    rows = len(_table(X))
    events = {
        head: (_column if head == "watch" else _labels)(column, outcomes[column], rows)
        for head, column in OUTCOMES.items()
    }
    if (events["watch"] < 0).any() or any(events[head][events["click"] == 0].any() for head in AFTER_CLICK):
        raise ValueError(
            "A row has seconds below 0, or seconds, a like or a dismissal without a click: repair the log."
        )
    return pd.DataFrame(events, index=X.index)


def _weights(sample_weight: ArrayLike | None, rows: int) -> np.ndarray:
    return np.ones(rows) if sample_weight is None else _column("sample_weight", sample_weight, rows)


def weighted_watch_time(
    model: ClassifierMixin, X: pd.DataFrame, clicked: ArrayLike, watch_seconds: ArrayLike, X_new: pd.DataFrame
) -> np.ndarray:
    """Return the expected watch seconds of the rows of X_new, from one classifier of clicks; shape (n_new,).

    The classifier is fitted with weights: a click counts as the seconds watched, another impression as 1. So
    its odds are sum(T) / (N - k) for k clicks among N impressions, which is E[T] / (1 - P(click)): the answer
    is too high by the factor 1 / (1 - P), 5 % where one impression in twenty is clicked, twice at P = 1/2.
    Source: Covington et al. 2016, "Deep neural networks for YouTube recommendations", section 4.2.

    model: unfitted, with decision_function, such as `ranker("logistic")`. clicked, watch_seconds: shape (n,).
    Raises ValueError for labels of one class, negative seconds or NaN.
    """
    labels = _labels("clicked", clicked, len(X))
    seconds = _column("watch_seconds", watch_seconds, len(X))
    if (seconds < 0).any() or len(set(labels)) < 2:
        raise ValueError("There must be clicks and impressions without one, and no negative seconds.")
    model.fit(X, labels, sample_weight=np.where(labels == 1, seconds, 1.0))
    return np.exp(model.decision_function(X_new))


# ---------------------------------------------------------------- error analysis


def log_losses(y_true: ArrayLike, y_prob: ArrayLike) -> np.ndarray:
    """Return the log-loss of each row, shape (n,); probabilities are kept 1e-15 from 0 and 1."""
    p = _column("y_prob", y_prob, len(y_true))
    labels = _labels("y_true", y_true, len(p))
    if p.min() < 0 or p.max() > 1:
        raise ValueError("y_prob must hold probabilities from 0 to 1: pass predict_proba, not scores.")
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return -np.log(np.where(labels == 1, p, 1 - p))


def slices(
    table: pd.DataFrame,
    loss_old: ArrayLike,
    loss_new: ArrayLike,
    columns: Sequence[str],
    unit: ArrayLike,
    *,
    bins: int = 4,
    min_units: int = 50,
    method: str = "holm",
) -> pd.DataFrame:
    """Find the slices where a new model does worse or better than the old one: surest harm first.

    table, loss_old, loss_new, unit: n rows; the loss of each row under both models, and whose row it is.
    Each value of each column is a slice; numbers with more than 20 values are cut at their quantiles into
    `bins`; slices of fewer than `min_units` units are left out. Columns of the result: column, value, rows,
    units, difference (mean of new - old, above 0 is harm), low, high (95 %), p_value, p_adjusted.

    Interval and p-value take the rows of a unit as one cluster. Among many slices some differ by chance:
    `p_adjusted` is for all of them, by "holm" (no false find at all, at that level) or "fdr_bh" (few of the
    finds false; Benjamini and Hochberg 1995). An interval is for one slice, looked at alone.

    Raises ValueError for a missing column, unequal lengths, NaN, or when no slice is large enough.
    """
    harm = _column("loss_new", loss_new, len(table)) - _column("loss_old", loss_old, len(table))
    unit = pd.factorize(np.asarray(unit))[0]
    check_consistent_length(table, unit)
    if (unit < 0).any():
        raise ValueError("unit has missing values: name whose each row is, or drop those rows.")
    if lacking := set(columns) - set(table):
        raise ValueError(f"table has no column {', '.join(sorted(lacking))}: name columns that it has.")
    whole("min_units", min_units, 2)
    choice("method", method, ("holm", "fdr_bh"))
    found = [
        {"column": name, "value": value, **_mean_by_unit(harm[rows], unit[rows])}
        for name in columns
        for value, rows in _values(table[name], whole("bins", bins, 2)).items()
        if len(set(unit[rows])) >= min_units
    ]
    if not found:
        raise ValueError(f"No slice has {min_units} units: lower min_units, or use more rows.")
    result = pd.DataFrame(found)
    result["p_adjusted"] = multipletests(result["p_value"], method=method)[1]
    return result.sort_values("low", ascending=False, ignore_index=True, kind="stable")


def _values(column: pd.Series, bins: int) -> dict[str, np.ndarray]:
    """The rows of each value, or of each bin of numbers, by its name."""
    if pd.api.types.is_numeric_dtype(column) and column.nunique() > MOST_VALUES:
        edges = np.unique(np.nanquantile(column.astype(float), np.linspace(0, 1, bins + 1)))
        pairs = [*pairwise(edges)]
        labels = [f"{low:.3g} to {high:.3g}" for low, high in pairs]
        if len(set(labels)) < len(labels):
            labels = [f"{low} to {high}" for low, high in pairs]
        column = pd.cut(column.astype(float), edges, labels=labels, include_lowest=True)
    elif pd.api.types.is_float_dtype(column):
        column = column.map("{:g}".format, na_action="ignore")
    names = column.astype("str").where(column.notna(), "missing").reset_index(drop=True)
    return {str(name): rows.to_numpy() for name, rows in names.groupby(names).groups.items()}


def _mean_by_unit(values: np.ndarray, unit: np.ndarray) -> dict[str, float]:
    """The mean of the rows, with a 95 % interval and the p-value of 0 that take units as independent."""
    facts = {"rows": len(values), "units": len(set(unit)), "difference": values.mean()}
    if not np.ptp(values):  # no spread at all: the models agree, or differ by a constant
        return facts | {"low": values[0], "high": values[0], "p_value": float(values[0] == 0)}
    groups = {"groups": pd.factorize(unit)[0]}
    fit = OLS(values, np.ones(len(values))).fit(cov_type="cluster", cov_kwds=groups, use_t=True)
    low, high = fit.conf_int()[0]
    return facts | {"low": low, "high": high, "p_value": float(fit.pvalues[0])}


def ablation(
    make: Callable[[], BaseEstimator],
    X_train: pd.DataFrame,
    y_train: ArrayLike,
    X_test: pd.DataFrame,
    y_test: ArrayLike,
    groups: Mapping[str, Sequence[str]],
    metric: Callable[..., float],
    unit: ArrayLike,
    n_resamples: int = 200,
    **fit: Any,
) -> pd.DataFrame:
    """Train without one group of features at a time; return what each loses, largest loss first.

    make: returns an unfitted ranker. groups: name -> columns to drop. metric, unit and n_resamples are those
    of `paired_bootstrap_interval`, on the test rows. fit: more arguments of `fit`, such as group=request_id.
    Index: the group; columns: without (the metric), difference (with all features, minus without), low, high.

    What remains may stand in for what was dropped: a small difference means replaceable, not useless.
    Raises ValueError for a group that names a missing column, or all columns.
    """
    for name, columns in groups.items():
        if not set(columns) < set(X_train.columns) or not columns:
            raise ValueError(f"Group {name!r} must name some columns of X_train, and not all: correct it.")
    full = scores(make().fit(X_train, y_train, **fit), X_test)
    rows = {}
    for name, columns in groups.items():
        model = make().fit(X_train.drop(columns=[*columns]), y_train, **fit)
        rest = scores(model, X_test.drop(columns=[*columns]))
        loss = paired_bootstrap_interval(metric, y_test, full, rest, unit=unit, n_resamples=n_resamples)
        rows[name] = (metric(y_test, rest), loss.estimate, loss.low, loss.high)
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["without", "difference", "low", "high"])
    return table.rename_axis("group").sort_values("difference", ascending=False, kind="stable")
