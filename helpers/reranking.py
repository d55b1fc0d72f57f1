"""Re-ranking: what the whole list needs and no single score knows: variety, and a chance for what is new.

A cap on the videos of one creator is `two_stage.best`. In the functions below the leading dimensions may be
any, such as one for requests: relevance has the shape (..., k), similarity (..., k, k), a list (..., n).
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.metrics import bootstrap_interval, mean_interval
from helpers.position_bias import certain_ranking
from helpers.shifts import share, whole
from helpers.simulator import Policy, uniform

EXPLORES, PICKS = 13, 14  # keys of coins that no other policy tosses


def mmr(relevance: ArrayLike, similarity: ArrayLike, n: int, trade_off: float) -> np.ndarray:
    """Return the places of n candidates by maximal marginal relevance, first to last, shape (..., n).

    The first is the most relevant; each next one has the greatest
    ``trade_off relevance - (1 - trade_off) max similarity to those before`` (Carbonell and Goldstein 1998).
    At 1 that is the order of the relevance. Both should have the same scale: the trade-off adds them up.
    Ties go to the candidate that comes first.

    Raises ValueError for shapes that do not fit, numbers that are not finite, an n that is not from 1 to k,
    or a trade-off outside [0, 1].
    """
    relevance, similarity = _candidates(relevance, similarity)
    whole("n", n, 1, relevance.shape[-1])
    weight = share("trade_off", trade_off)
    value, chosen = relevance.copy(), []
    closest = np.full(relevance.shape, -np.inf)
    for _ in range(n):
        chosen.append(value.argmax(axis=-1)[..., None])
        to_last = np.take_along_axis(similarity, chosen[-1][..., None], axis=-2)[..., 0, :]
        closest = np.maximum(closest, to_last)
        value = weight * relevance - (1 - weight) * closest
        np.put_along_axis(value, np.concatenate(chosen, axis=-1), -np.inf, axis=-1)
    return np.concatenate(chosen, axis=-1)


def _candidates(relevance: ArrayLike, similarity: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as floats; ValueError unless they are finite and describe the same candidates."""
    relevance, similarity = np.asarray(relevance, float), np.asarray(similarity, float)
    if (
        relevance.ndim < 1
        or not relevance.size
        or similarity.shape != (*relevance.shape, *relevance.shape[-1:])
    ):
        raise ValueError(
            f"similarity must compare each candidate with each: for relevance of shape {relevance.shape} it "
            f"needs (..., k, k), not {similarity.shape}."
        )
    if not (np.isfinite(relevance).all() and np.isfinite(similarity).all()):
        raise ValueError("relevance or similarity contains NaN or infinity: drop those candidates first.")
    return relevance, similarity


def intra_list_diversity(similarity: ArrayLike, shown: ArrayLike) -> np.ndarray:
    """Return the mean of 1 - similarity over the pairs of each list, shape (...): Smyth and McClave 2001.

    shown: the places of the candidates in each list, shape (..., n), as from `mmr`.
    Raises ValueError for lists of fewer than two, or that do not fit the similarity.
    """
    similarity, shown = np.asarray(similarity, float), np.asarray(shown)
    square = similarity.ndim > 1 and similarity.shape[-1] == similarity.shape[-2]
    fits = square and shown.ndim and similarity.shape[:-2] == shown.shape[:-1] and shown.shape[-1] > 1
    if not fits or not np.isin(shown, np.arange(similarity.shape[-1])).all():
        raise ValueError(
            f"A list needs two places or more, each from 0 to k - 1 of a similarity of shape (..., k, k): "
            f"the shapes are {shown.shape} and {similarity.shape}."
        )
    rows = np.take_along_axis(similarity, shown[..., :, None], axis=-2)
    pairs = np.take_along_axis(rows, shown[..., None, :], axis=-1)
    one, other = np.triu_indices(shown.shape[-1], 1)
    return (1 - pairs[..., one, other]).mean(axis=-1)


def coverage(shown: ArrayLike, n_items: int) -> float:
    """Return the share of the n_items items of a catalog that any list shows (Ge et al. 2010).

    shown: ids from 0 to n_items - 1, any shape. Raises ValueError for other ids.
    """
    shown = np.asarray(shown)
    whole("n_items", n_items, 1)
    if not np.isin(shown, np.arange(n_items)).all():
        raise ValueError(
            f"shown must hold ids from 0 to {n_items - 1}: pass ids, and all items of the catalog."
        )
    return len(np.unique(shown)) / n_items


def frontier(
    relevance: ArrayLike,
    similarity: ArrayLike,
    n: int,
    trade_offs: ArrayLike,
    gain: ArrayLike | None = None,
    unit: ArrayLike | None = None,
) -> pd.DataFrame:
    """Return what each trade-off of `mmr` keeps of the relevance, and the diversity that it buys.

    relevance, similarity: of the candidates of several requests, (requests, k) and (requests, k, k).
    gain: what a shown candidate is worth, if that is not the relevance that `mmr` sees but its truth.
    unit: whose request it is, shape (requests,): intervals are over units.

    A row a trade-off, the index. `kept`: the gain of the lists over that of the lists at trade-off 1.
    `diversity`: the mean of `intra_list_diversity`. Each with the 95 % bootstrap interval `_low`, `_high`.
    Raises ValueError as those functions do, and when the gain has another shape or no sum above 0.
    """
    relevance, similarity = _candidates(relevance, similarity)
    gain = relevance if gain is None else np.asarray(gain, float)
    if relevance.ndim != 2 or gain.shape != relevance.shape:
        raise ValueError(
            f"relevance and gain must have one shape (requests, k), not {relevance.shape} and {gain.shape}."
        )

    def sums(shown: np.ndarray) -> np.ndarray:
        return np.take_along_axis(gain, shown, axis=1).sum(axis=1)

    plain = sums(mmr(relevance, similarity, n, 1.0))
    if not plain.sum() > 0:
        raise ValueError("The lists at trade-off 1 gain nothing in sum, so no share of it can be kept.")
    rows = {}
    for trade_off in np.ravel(trade_offs):
        shown = mmr(relevance, similarity, n, float(trade_off))
        kept = bootstrap_interval(_ratio, sums(shown), plain, unit=unit)
        diversity = mean_interval(intra_list_diversity(similarity, shown), unit)
        rows[float(trade_off)] = {
            f"{name}{end}": getattr(interval, field)
            for name, interval in (("kept", kept), ("diversity", diversity))
            for end, field in (("", "estimate"), ("_low", "low"), ("_high", "high"))
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("trade_off")


def _ratio(gained: np.ndarray, plain: np.ndarray, sample_weight: np.ndarray) -> float:
    return float(gained @ sample_weight / (plain @ sample_weight))


def boost_new(
    policy: Policy,
    is_new: Callable[[pd.DataFrame, np.ndarray], np.ndarray],
    slot: int,
    rate: float,
    seed: int = 0,
) -> Policy:
    """Return the policy with position `slot` given to a new candidate in a share `rate` of its requests.

    is_new: (requests, candidates) -> True for each candidate that is new, shaped like candidates. One of the
    new candidates from `slot` on is drawn, each equally likely, and moved up to it; those between move down
    by one. So a video that no model knows yet is seen, and its clicks can be weighed by its propensity.

    Propensities are exact: rate / new candidates for the drawn one, unless it stood there anyway; and for the
    others the probability of being moved down, or of staying.

    Raises ValueError for a slot below 1 or beyond the candidates, a rate outside [0, 1), an `is_new` of
    another shape or kind, or a policy that leaves anything to chance itself.
    """
    whole("slot", slot, 1)
    if share("rate", rate) == 1:
        raise ValueError("rate must be less than 1, so that some requests keep the ranking: lower it.")

    def rank(requests: pd.DataFrame, candidates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        whole("slot", slot, 1, candidates.shape[1])
        ranked, ids = certain_ranking(policy, requests, candidates), requests["request_id"].to_numpy()
        new = np.asarray(is_new(requests, ranked))
        if new.shape != ranked.shape or new.dtype != bool:
            raise ValueError(f"is_new must answer True or False for each of {ranked.shape}, not {new.shape}.")
        new = new & (np.arange(ranked.shape[1]) >= slot - 1)
        n_new = new.sum(axis=1)
        explores = (uniform(seed, EXPLORES, ids) < rate) & (n_new > 0)
        drawn = (uniform(seed, PICKS, ids) * n_new).astype(int)  # the how-manieth of the new ones
        place = (new & (np.cumsum(new, axis=1) == drawn[:, None] + 1)).argmax(axis=1)
        source = _moved_up(np.where(explores, place, slot - 1), slot - 1, ranked.shape[1])
        return np.take_along_axis(ranked, source, axis=1), _propensities(new, source, slot - 1, rate)

    return rank


def _moved_up(place: np.ndarray, slot: int, n: int) -> np.ndarray:
    """For each position of each list, where what stands there was before one went from `place` to `slot`."""
    position = np.arange(n)
    moved_down = (position > slot) & (position <= place[:, None])
    return np.where(position == slot, place[:, None], position - moved_down)


def _propensities(new: np.ndarray, source: np.ndarray, slot: int, rate: float) -> np.ndarray:
    """The probability of what stands at each position, given where it was before."""
    n_new, position = new.sum(axis=1, keepdims=True), np.arange(new.shape[1])
    each = rate * (n_new > 0) / np.maximum(n_new, 1)
    here_or_later = each * np.cumsum(new[:, ::-1], axis=1)[:, ::-1]
    stays = source == position
    at_slot = each * np.take_along_axis(new, source, axis=1) + stays * (1 - each * n_new)
    below = np.where(stays, 1 - here_or_later, here_or_later)
    return np.where(position == slot, at_slot, np.where(position > slot, below, 1.0))
