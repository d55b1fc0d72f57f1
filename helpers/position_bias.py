"""Position bias: how much a place in the list adds to a click; estimated, and taken out of training.

The position-based model (Craswell et al. 2008): P(click | item, position k) = theta_k P(click | examined),
where theta_k is the probability that position k is examined. Only ratios can be seen, so theta_1 = 1 here.

Four ways to estimate theta share one estimator. They differ in the *context*: rows of one context have the
same mean relevance at each of its positions, so a difference in their clicks is one of examination.

- `from_click_rates`: all rows are one context. Wrong wherever a ranker works: it puts the relevant first.
- `from_random_sliver`: all rows are one context again, and chance makes it true. It costs clicks.
- `from_swaps`: the place where the ranker wanted the video, which a swap changed by chance. Costs fewer.
- `from_interventions`: what rankers that disagree have in common. Costs nothing; what is assumed is yours.

All read an impression log as `simulator.IMPRESSION_LOG` describes it, and return a table with the index
`position` and the columns `theta`, `low`, `high`: the 95 % percentile bootstrap interval over users.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator, ClassifierMixin, clone

from helpers.shifts import share, whole
from helpers.simulator import Platform, Policy, uniform

SWAPS, PARTNERS, RANKERS = 10, 11, 12  # keys of coins that no policy of the simulator tosses
TAIL = 0.025

# ---------------------------------------------------------------- estimates of theta


def from_click_rates(log: pd.DataFrame, n_resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return the click rate at each position over that at position 1, for comparison: the naive estimate.

    It takes the relevance of what the ranker puts first for an effect of the position.
    Raises ValueError as `from_interventions` does.
    """
    _check_log(log)
    return _estimate(log, np.zeros(len(log), int), 1.0, n_resamples, seed)


def from_random_sliver(log: pd.DataFrame, n_resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return theta from requests whose order was left to chance: pass the rows of that policy alone.

    A row weighs 1 / propensity. So the log of a ranker that shuffles a share epsilon of its requests will do
    as well, although nothing in it tells which ones: each row stands for all that might have been here.
    Every candidate must have had a chance at every position; with few such requests intervals are wide.

    Raises ValueError as `from_interventions` does, and for a propensity of 1: nothing was left to chance.
    """
    _check_log(log)
    propensity = log["propensity"].to_numpy(float)
    if not ((propensity > 0) & (propensity < 1)).all():
        raise ValueError(
            "Some propensities are not between 0 and 1: at 1 nothing was left to chance there. Take the rows "
            "of a policy that shuffles."
        )
    return _estimate(log, np.zeros(len(log), int), 1 / propensity, n_resamples, seed)


def from_swaps(log: pd.DataFrame, n_resamples: int = 200, seed: int = 0) -> pd.DataFrame:
    """Return theta from the log of a `swapped` policy: two positions hold the same videos, by a coin.

    The context is the position that the ranker chose: there in most requests, at the other end of the swap
    in a few. Swaps with position 1 are those of Joachims, Swaminathan and Schnabel 2017.

    Raises ValueError as `from_interventions` does, and for the log of another policy.
    """
    _check_log(log)
    position, moved = log["position"].to_numpy(int), log["propensity"].to_numpy() < 0.5
    pairs = log.loc[moved, ["request_id", "position"]].groupby("request_id")["position"]
    if not (moved.any() and (pairs.transform("size") == 2).all() and (pairs.transform("min") == 1).all()):
        raise ValueError(
            "This is no log of swaps: a request has two propensities below 1/2, one at position 1, or none. "
            "Simulate with swapped(policy, ...), and keep all rows of a request."
        )
    chosen = position.copy()
    chosen[moved] = pairs.transform("sum") - position[moved]
    return _estimate(log, chosen, 1.0, n_resamples, seed)


def from_interventions(
    log: pd.DataFrame, context: ArrayLike, n_resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Return theta from videos that stood at different positions without anybody's intervention.

    context: of each row, shape (rows,) or (rows, parts): whatever fixes the mean relevance, wherever the
    video stands. It is the assumption. For rankers that share the requests by chance, as in an A/B test or
    `mixed`, it is what *all* of them would have done: `positions_under` each, a part a ranker (Agarwal et al.
    2019, "Estimating Position Bias without Intrusive Interventions"). For a ranker that knows nothing about
    the user, and candidates that do not depend on who asks, it is the video. For a personal ranker the video
    is not enough: it stands high for those who like it.

    Clicks of a context fall on its positions in proportion to impressions times theta: theta maximizes this
    multinomial likelihood over all contexts, so each pair of positions that shares one counts. Agarwal et al.
    fit the relevance of each pair instead.

    Raises ValueError for a log without its columns, rows or a second position, for less than one context a
    row, a single user, or positions that no context with clicks connects.
    """
    _check_log(log)
    parts = np.asarray(context)
    if parts.ndim not in (1, 2) or len(parts) != len(log) or pd.isna(parts).any():
        raise ValueError(f"context must name one context for each of the {len(log)} rows, none missing.")
    parts = pd.DataFrame(parts)
    return _estimate(log, parts.groupby([*parts]).ngroup().to_numpy(), 1.0, n_resamples, seed)


def _check_log(log: pd.DataFrame) -> None:
    """Raise ValueError unless the log has what is read here."""
    needed = ["request_id", "user_id", "position", "propensity", "clicked"]
    if missing := sorted(set(needed) - set(log.columns)):
        raise ValueError(f"The log lacks {', '.join(missing)}: pass an impression log.")
    if log[needed].isna().any(axis=None) or not np.isin(log["clicked"], (0, 1)).all():
        raise ValueError("The log has missing values, or clicks other than 0 and 1: drop or map those rows.")
    position = log["position"].to_numpy()
    if not len(log) or (position < 1).any() or (position % 1 != 0).any() or position.max() < 2:
        raise ValueError("position must count 1, 2, ... and reach 2: select rows of whole lists.")
    if log["user_id"].nunique() < 2:
        raise ValueError("The log is of a single user, who cannot be resampled: use rows of more users.")


def _estimate(
    log: pd.DataFrame, context: np.ndarray, weight: float | np.ndarray, n_resamples: int, seed: int
) -> pd.DataFrame:
    """The table of theta, given the number of each row's context and its weight."""
    rng, position = np.random.default_rng(seed), log["position"].to_numpy(int)
    user = pd.factorize(log["user_id"])[0]
    shape = context.max() + 1, position.max()
    cell = np.ravel_multi_index((context, position - 1), shape)
    weights = np.broadcast_to(weight, len(log))
    size = np.prod(shape), user.max() + 1
    clicks, shown = (
        csr_matrix((weights * counted, (cell, user)), size) for counted in (log["clicked"].to_numpy(), 1.0)
    )

    def theta(times: np.ndarray) -> np.ndarray:
        return _theta((clicks @ times).reshape(shape), (shown @ times).reshape(shape))

    estimate = theta(np.ones(size[1]))
    if np.isnan(estimate).any():
        raise ValueError(
            "No context with clicks connects some position with the others: use more requests, fewer "
            "positions or wider contexts."
        )
    users = (rng.integers(size[1], size=size[1]) for _ in range(whole("n_resamples", n_resamples, 1)))
    draws = np.array([theta(np.bincount(drawn, minlength=size[1])) for drawn in users])
    draws = draws[~np.isnan(draws).any(axis=1)]
    if len(draws) < n_resamples / 2:
        raise ValueError("Most resamples leave a position without clicks: use more requests.")
    low, high = np.quantile(draws, (TAIL, 1 - TAIL), axis=0)
    index = pd.RangeIndex(1, shape[1] + 1, name="position")
    return pd.DataFrame({"theta": estimate, "low": low, "high": high}, index=index)


def _theta(clicks: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Theta of greatest likelihood, with theta_1 = 1, from sums of shape (contexts, positions); NaN if none.

    There is one if clicks lead from each position to each other one through contexts that are at both (Ford
    1957). The likelihood is concave in log theta.
    """
    of_context, of_position = clicks.sum(axis=1), clicks.sum(axis=0)
    if connected_components((shown > 0).T.astype(float) @ clicks, connection="strong")[0] > 1:
        return np.full(len(of_position), np.nan)
    clicked = of_context > 0
    of_context, shown, n = of_context[clicked], shown[clicked], of_context.sum()

    def expected(log_theta: np.ndarray) -> np.ndarray:
        return shown * np.exp(np.append(0, log_theta))

    def loss(log_theta: np.ndarray) -> tuple[float, np.ndarray]:
        parts = expected(log_theta)
        totals = parts.sum(axis=1)
        slope = (of_context / totals) @ parts - of_position
        return (of_context @ np.log(totals) - of_position[1:] @ log_theta) / n, slope[1:] / n

    def curvature(log_theta: np.ndarray) -> np.ndarray:
        parts = expected(log_theta)
        parts /= parts.sum(axis=1, keepdims=True)
        weighted = of_context[:, None] * parts
        return (np.diag(weighted.sum(axis=0)) - parts.T @ weighted)[1:, 1:] / n

    start = np.zeros(len(of_position) - 1)
    best = minimize(loss, start, jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-9})
    return np.exp(np.append(0, best.x))


# ---------------------------------------------------------------- policies that intervene


def swapped(policy: Policy, rate: float, n_slots: int, seed: int = 0) -> Policy:
    """Return the policy with a swap of positions 1 and k in a share `rate` of requests; k is 2 to n_slots.

    Each k is equally likely. Propensities: rate / (n_slots - 1) for a video that was moved, otherwise
    1 - rate at position 1, 1 - rate / (n_slots - 1) at each k, and 1 below.

    Raises ValueError for a rate outside (0, 1/2) (from 1/2 on a propensity does not tell what was moved), for
    fewer than 2 slots, more slots than candidates, or a policy that leaves anything to chance itself.
    """
    whole("n_slots", n_slots, 2)
    if not 0 < share("rate", rate) < 0.5:
        raise ValueError(f"rate must be greater than 0 and less than 0.5, not {rate}: change it.")
    each = rate / (n_slots - 1)

    def rank(requests: pd.DataFrame, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole("n_slots", n_slots, 2, candidates.shape[1])
        ranked, ids = certain_ranking(policy, requests, candidates).copy(), requests["request_id"].to_numpy()
        swaps = np.flatnonzero(uniform(seed, SWAPS, ids) < rate)
        k = 1 + (uniform(seed, PARTNERS, ids[swaps]) * (n_slots - 1)).astype(int)
        ranked[swaps, 0], ranked[swaps, k] = ranked[swaps, k], ranked[swaps, 0]
        propensities = np.ones(ranked.shape)
        propensities[:, 0], propensities[:, 1:n_slots] = 1 - rate, 1 - each
        propensities[swaps, 0] = propensities[swaps, k] = each
        return ranked, propensities

    return rank


def mixed(policies: Sequence[Policy], seed: int = 0) -> Policy:
    """Return a policy that lets one of several rankers answer each request, all equally likely.

    The propensity is the share of the rankers that put this video at this position.
    Raises ValueError for fewer than two policies, or one that leaves anything to chance itself.
    """
    n = whole("the number of policies", len(policies), 2)

    def rank(requests: pd.DataFrame, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rankings = np.stack([certain_ranking(policy, requests, candidates) for policy in policies])
        which = (uniform(seed, RANKERS, requests["request_id"].to_numpy()) * n).astype(int)
        ranked = rankings[which, np.arange(len(requests))]
        return ranked, (rankings == ranked).mean(axis=0)

    return rank


def certain_ranking(policy: Policy, requests: pd.DataFrame, candidates: np.ndarray) -> np.ndarray:
    """Return the ranking of a policy that leaves nothing to chance, shape (requests, candidates).

    Raises ValueError for propensities other than 1: how likely its other rankings were, nobody could tell.
    """
    ranked, propensities = map(np.asarray, policy(requests, candidates))
    if not (propensities == 1).all():
        raise ValueError("The policy inside leaves something to chance: take one without, as with epsilon=0.")
    return ranked


def positions_under(policy: Policy, platform: Platform, log: pd.DataFrame) -> np.ndarray:
    """Return the position that a policy would have given to the video of each row, shape (rows,), from 1.

    The requests and their candidates are those of the log, without the hidden mood.
    Raises ValueError for a policy that leaves anything to chance, or a log of another platform.
    """
    requests = log.drop_duplicates("request_id")[["request_id", "timestamp", "user_id"]]
    ranked = certain_ranking(policy, requests, platform.candidates(requests))
    video, request = log["video_id"].to_numpy(), pd.factorize(log["request_id"])[0]
    found = ranked[request] == video[:, None]
    if not found.any(axis=1).all():
        raise ValueError("The log shows videos that were no candidates: pass the platform that wrote it.")
    return 1 + found.argmax(axis=1)


# ---------------------------------------------------------------- training without the bias


def inverse_propensity_weights(positions: ArrayLike, theta: ArrayLike, clip: float = np.inf) -> np.ndarray:
    """Return 1 / theta of each position, at most `clip`, shaped as positions.

    theta: of the positions 1, 2, ..., such as the column `theta` of an estimate. A clip below 1 / theta
    brings bias back, for less variance.
    Raises ValueError for a position without theta, a theta that is not above 0, or a clip below 1.
    """
    positions, theta = np.asarray(positions), np.asarray(theta, float)
    if theta.ndim != 1 or not ((theta > 0) & (theta < np.inf)).all():
        raise ValueError(
            "theta must be a flat row of finite numbers above 0: one for each position from 1 on."
        )
    if not np.isin(positions, np.arange(1, len(theta) + 1)).all():
        raise ValueError(f"positions must be whole numbers from 1 to {len(theta)}, the length of theta.")
    if not clip >= 1:
        raise ValueError(f"clip must be at least 1, the weight of position 1, not {clip}: raise it.")
    return np.minimum(1 / theta[positions.astype(int) - 1], clip)


def effective_sample_size(weights: ArrayLike) -> float:
    """Return (sum w)^2 / sum w^2: as many rows of equal weight would know a mean as well (Kish 1965).

    Raises ValueError for weights that are negative, not finite, or all zero.
    """
    weights = np.asarray(weights, float)
    if not ((weights >= 0) & (weights < np.inf)).all() or not weights.any():
        raise ValueError("weights must be finite numbers from 0 on, one of them greater: check them.")
    return float(weights.sum() ** 2 / (weights**2).sum())


class DebiasedRows(NamedTuple):
    """Rows to train on: `row` numbers of the log, their `label` and `weight`; P = `scale` x relevance."""

    row: np.ndarray
    label: np.ndarray
    weight: np.ndarray
    scale: float


def debiased_rows(clicked: ArrayLike, weights: ArrayLike) -> DebiasedRows:
    """Return rows from which any classifier with `sample_weight` learns P(click | examined), up to a scale.

    With w = 1 / theta, ``w clicked`` is on average the relevance, so for any loss l the mean of
    ``w clicked l(1) + (1 - w clicked) l(0)`` is the one on the relevance itself. But the second weight is
    negative for a click. With w divided by its maximum no weight is: a click becomes a row with label 1 and
    one with label 0, and the model learns ``scale * relevance``, with scale = 1 / max w: how often one would
    click if all stood at the last position. The order is that of the relevance; ``predict_proba / scale`` is
    the relevance, as far as the classifier can follow: to a logistic regression so small probabilities are
    exponentials.

    To weigh the clicks alone is the well-known short cut, and biased for such a loss: the rows without a
    click keep the bias. No weight of a position brings back what was never shown.

    Raises ValueError for clicks other than 0 and 1, weights not above 0, or shapes that differ.
    """
    clicked, weights = np.asarray(clicked), np.asarray(weights, float)
    if clicked.ndim != 1 or clicked.shape != weights.shape or not len(clicked):
        raise ValueError(f"clicked and weights need one flat shape, not {clicked.shape} and {weights.shape}.")
    if not np.isin(clicked, (0, 1)).all() or not ((weights > 0) & (weights < np.inf)).all():
        raise ValueError("clicked must hold 0 and 1, and weights finite numbers above 0: check the columns.")
    positive = weights * clicked / weights.max()
    row = np.concatenate([np.flatnonzero(part > 0) for part in (positive, 1 - positive)])
    label = np.arange(len(row)) < (positive > 0).sum()
    weight = np.where(label, positive[row], 1 - positive[row])
    return DebiasedRows(row, label.astype(int), weight, float(1 / weights.max()))


class PositionFeature(ClassifierMixin, BaseEstimator):
    """A classifier that knows the position when it learns, and answers as if all stood at position 1.

    estimator: a scikit-learn classifier. column: which one holds the positions, a number, or a name if the
    features are a table. When it predicts, that column is not read: at serving no position is known yet.

    The position takes its share of the clicks, so that the other features need not. Two things can fail. An
    estimator may not be able to multiply a relevance by theta, as a logistic regression is not; this spoils
    the probabilities more than the order. And where the ranker knew more than the features say, the position
    tells it, and takes too large a share: the order can become worse than that of a naive model.
    """

    def __init__(self, estimator: Any, column: int | str) -> None:
        """Keep both; see the class."""
        self.estimator = estimator
        self.column = column

    def fit(self, X: ArrayLike, y: ArrayLike, **keywords: Any) -> Self:
        """Learn from features with positions, shape (rows, features), and clicks; keywords go to `fit`.

        Raises ValueError when the column holds no positions, or position 1 never.
        """
        position = np.asarray(
            X[self.column] if isinstance(X, pd.DataFrame) else np.asarray(X)[:, self.column]
        )
        if not ((position >= 1) & (position % 1 == 0)).all() or not (position == 1).any():
            raise ValueError(
                f"Column {self.column} must hold positions 1, 2, ..., with a 1 among them: name another."
            )
        self.estimator_ = clone(self.estimator).fit(X, y, **keywords)
        self.classes_ = self.estimator_.classes_
        return self

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Return the probability of each class at position 1, shape (rows, classes)."""
        return self.estimator_.predict_proba(self._at_the_top(X))

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Return the more likely class at position 1, shape (rows,)."""
        return self.estimator_.predict(self._at_the_top(X))

    def _at_the_top(self, X: ArrayLike) -> ArrayLike:
        """The features with position 1 in every row."""
        if isinstance(X, pd.DataFrame):
            return X.assign(**{self.column: 1})
        X = np.array(X)
        X[:, self.column] = 1
        return X
