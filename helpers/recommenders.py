"""The baseline ladder of recommending: rungs under one contract, ways to split a log, blends and cold start.

Each rung learns from a log that holds nothing but what it may know (`LikeLog.only`), and scores all items for
requests of a log that may hold more: what a user did is known up to the request.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

from helpers.ranking import LikeLog, interleave, liked_together, rank_of, taste_vectors, top_k
from helpers.shifts import whole
from helpers.towers import TwoTower, checked_vectors

EVERYTHING = 10_000  # more likes than anybody has


class Recommender(Protocol):
    """A rung of the ladder."""

    def fit(self, log: LikeLog) -> Self:
        """Learn from all rows of the log."""

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Return scores of shape (rows, items), higher is better, for requests of a log with the same items.

        0 or less: nothing speaks for the item, so it is not shown.

        Raises NotFittedError before `fit`, and ValueError for a log with other items.
        """


def _fitted(model: Recommender, name: str) -> Any:
    """What `fit` noted under this name."""
    if not hasattr(model, name):
        raise NotFittedError(f"This {type(model).__name__} knows nothing yet: call fit(log) first.")
    return getattr(model, name)


def _for_items_of(log: LikeLog, learned: Any) -> Any:
    """What was learned, of a row an item; ValueError when the log has other items."""
    if learned.shape[0] != log.n_items:
        raise ValueError(
            f"The model knows {learned.shape[0]} items, the log has {log.n_items}: take the training rows "
            f"out of this log with log.only(rows), so that the items keep their numbers."
        )
    return learned


# ------------------------------------------------------------------- rungs


@dataclass(eq=False)
class Constant:
    """The same random order of all items for everybody: the least that a rung must beat."""

    seed: int = 0

    def fit(self, log: LikeLog) -> Self:
        """Shuffle the items of the log."""
        self._order = 1 + np.random.default_rng(self.seed).permutation(log.n_items)
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Give everybody the same scores; see `Recommender`."""
        return np.tile(_for_items_of(log, _fitted(self, "_order")), (len(rows), 1))


@dataclass(eq=False)
class Popular:
    """What most users of the training log liked."""

    def fit(self, log: LikeLog) -> Self:
        """Count the users who liked each item."""
        self._likes = log.likes(len(log)).sum(axis=0).A1
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Give everybody the same counts; see `Recommender`."""
        return np.tile(_for_items_of(log, _fitted(self, "_likes")), (len(rows), 1))


@dataclass(eq=False)
class PopularRecent:
    """What everybody liked in the `window` before the request: a count that stays fresh without training."""

    window: str = "365D"

    def fit(self, log: LikeLog) -> Self:
        """Learn nothing: the counts are those of each request."""
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Count the likes of the window; see `Recommender`."""
        return log.likes_within(rows, self.window)


@dataclass(eq=False)
class ItemKNN:
    """Items that the same users liked as the user's `last` likes, by the cosine, added up.

    The cosine of two items that only n users liked both is shrunk by n / (n + shrink), for it may be chance
    (Koren 2008, "Factorization meets the neighborhood").
    """

    shrink: float = 20.0
    last: int = 20

    def __post_init__(self) -> None:
        """Raise ValueError for settings that make no sense."""
        whole("last", self.last, low=1)
        if not 0 <= self.shrink < np.inf:
            raise ValueError(f"shrink must be at least 0 and finite, not {self.shrink!r}.")

    def fit(self, log: LikeLog) -> Self:
        """Compute the similarity of every two items."""
        likes = log.likes(len(log))
        both = likes.T @ likes
        both.data /= both.data + self.shrink
        self._similarity = both.multiply(liked_together(likes)).tocsr()
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Add up the similarities to what the user liked; see `Recommender`."""
        similarity = _for_items_of(log, _fitted(self, "_similarity"))
        return (log.history(rows, self.last) @ similarity).toarray()


@dataclass(eq=False)
class MatrixFactorization:
    """Vectors of items by a truncated SVD of who liked what; a user is the sum of those of the last likes.

    This is PureSVD (Cremonesi, Koren and Turrin 2010, "Performance of recommender algorithms on top-N
    recommendation tasks"): it folds in users whom it never saw. dims: length of a vector.
    """

    dims: int = 32
    last: int = EVERYTHING
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for settings that make no sense."""
        whole("dims", self.dims, low=1)
        whole("last", self.last, low=1)

    def fit(self, log: LikeLog) -> Self:
        """Compute the vectors of the items."""
        self._vectors = taste_vectors(log.likes(len(log)), self.dims, self.seed)
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Multiply the vectors of users and items; see `Recommender`."""
        vectors = _for_items_of(log, self.item_vectors())
        return self.user_vectors(log.history(rows, self.last)) @ vectors.T

    def item_vectors(self) -> np.ndarray:
        """Return the vectors that an index holds, shape (items, dims). Raises NotFittedError before `fit`."""
        return _fitted(self, "_vectors")

    def user_vectors(self, history: csr_matrix) -> np.ndarray:
        """Return the vectors of users, shape (users, dims), from ones at what they liked: (users, items)."""
        return history @ self.item_vectors()

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned: an array of shape (items, dims). Raises NotFittedError before `fit`."""
        return {"vectors": self.item_vectors()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **settings: Any) -> Self:
        """Make the fitted model again, from `arrays` and the settings that it had.

        Raises ValueError when the arrays are not those, or do not fit the settings.
        """
        model = cls(**settings)
        (model._vectors,) = checked_vectors(arrays, ["vectors"], model.dims)
        return model


@dataclass(eq=False)
class TwoTowerRecommender:
    """A `TwoTower` whose examples are the likes of the training log, each with the `last` likes before it.

    Scores are probabilities, the softmax over all items: with the logQ correction they follow popularity too.
    On MovieLens the number of steps matters more than the size of a batch: with many the model learns the
    examples by heart. Vectors of length one with a temperature were worse at every temperature tried.
    """

    tower: TwoTower = field(default_factory=lambda: TwoTower(batch=1024))
    last: int = 20

    def fit(self, log: LikeLog) -> Self:
        """Train a copy of the tower; `fitted` is the result.

        Raises ValueError when nobody liked one item after another.
        """
        rows = np.flatnonzero(log.liked)
        history = log.history(rows, self.last)
        example = np.flatnonzero(history.getnnz(axis=1))
        if not len(example):
            raise ValueError("Nobody liked an item after another one: take a longer log.")
        self.fitted = replace(self.tower).fit(history[example], log.items[rows[example]])
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Estimate what the user likes next, 0 for a user without likes; see `Recommender`."""
        tower, history = _fitted(self, "fitted"), log.history(rows, self.last)
        vectors = _for_items_of(log, tower.item_vectors())
        scores = softmax(tower.user_vectors(history) @ vectors.T, axis=1)
        return np.where(history.getnnz(axis=1)[:, None] > 0, scores, 0)


# ------------------------------------------------------------------- cold start


@dataclass(eq=False)
class WithFallback:
    """A rung, and another for users who liked fewer than `min_likes` items so far, as a popular list."""

    rung: Recommender
    fallback: Recommender
    min_likes: int = 1

    def __post_init__(self) -> None:
        """Raise ValueError when there would be nobody to fall back for."""
        whole("min_likes", self.min_likes, low=1)

    def fit(self, log: LikeLog) -> Self:
        """Fit both."""
        self.rung.fit(log)
        self.fallback.fit(log)
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Take the scores of one or the other for each request; see `Recommender`."""
        known = log.history(rows, self.min_likes).getnnz(axis=1) >= self.min_likes
        return np.where(known[:, None], self.rung.score(log, rows), self.fallback.score(log, rows))


@dataclass(eq=False)
class NewItems:
    """Items that nobody liked in the training log, by vectors predicted from their content; no others.

    content: shape (items, features), such as tags and decades as zeros and ones. Prediction learns from the
    items that at least `min_likes` users liked: the vectors of rarer ones are short and noisy.
    """

    content: np.ndarray
    factors: MatrixFactorization = field(default_factory=MatrixFactorization)
    min_likes: int = 5

    def fit(self, log: LikeLog) -> Self:
        """Factorize who liked what, and predict the vectors of the new items."""
        likes = log.likes(len(log)).sum(axis=0).A1
        self.fitted = replace(self.factors).fit(log)
        predicted = predicted_vectors(self.fitted.item_vectors(), self.content, likes >= self.min_likes)
        self._new = predicted * (likes == 0)[:, None]
        return self

    def score(self, log: LikeLog, rows: ArrayLike) -> np.ndarray:
        """Multiply the users' vectors and the predicted ones; see `Recommender`."""
        new = _for_items_of(log, _fitted(self, "_new"))
        return self.fitted.user_vectors(log.history(rows, self.fitted.last)) @ new.T


def predicted_vectors(
    vectors: np.ndarray, content: ArrayLike, warm: ArrayLike, alpha: float = 10.0
) -> np.ndarray:
    """Return vectors of items, shape (items, dims): their own where warm, elsewhere predicted from content.

    A ridge regression learns from the warm items. content: shape (items, features), numbers on like scales.
    warm: flags, shape (items,), of items whose vectors can be trusted. alpha: of the ridge, at least 0.

    Raises ValueError when the shapes do not fit, content is not finite, or no item is warm.
    """
    content, warm = np.asarray(content, float), np.asarray(warm)
    if warm.dtype != bool or not warm.any():
        raise ValueError("warm must hold True and False, and True at least once: ask for fewer likes.")
    if content.ndim != 2 or not len(vectors) == len(content) == len(warm):
        raise ValueError(
            f"Each item needs a vector, a row of content and a flag, not shapes {np.shape(vectors)}, "
            f"{content.shape} and {warm.shape}: use log.item_ids to order the content."
        )
    if not np.isfinite(content).all():
        raise ValueError("content must be finite: fill what is missing, as with a column that says so.")
    ridge = Ridge(alpha=alpha).fit(content[warm], vectors[warm])
    return np.where(warm[:, None], vectors, ridge.predict(content))


def named_tags(log: LikeLog, rows: ArrayLike, tags: ArrayLike) -> np.ndarray:
    """Return, for each request, the number of the tag that its user would name when asked for a favorite.

    It stands for the answer of somebody who signs up: the tag that is most above its usual share in all that
    they ever like, the request itself left out; -1 where that is nothing. tags: zeros and ones, shape
    (items, tags).

    Raises ValueError when tags have another number of items than the log.
    """
    tags = np.asarray(tags, float)
    if len(tags) != log.n_items:
        raise ValueError(f"tags need a row for each of the {log.n_items} items: use log.item_ids.")
    users = pd.Series(log.users[log.liked])
    tags_of = tags[log.items[log.liked]]
    total = pd.DataFrame(tags_of).groupby(users).sum().loc[log.users[rows]].to_numpy()
    others = users.value_counts().loc[log.users[rows]].to_numpy() - 1
    share = (total - tags[log.items[rows]]) / np.maximum(others, 1)[:, None]
    return np.where(others > 0, (share - tags_of.mean(axis=0)).argmax(axis=1), -1)


def of_named_tag(scores: ArrayLike, tags: ArrayLike, named: ArrayLike) -> np.ndarray:
    """Return the scores of the items with the tag that the user named, 0 elsewhere; all where named is -1.

    scores: shape (rows, items). tags: zeros and ones, shape (items, tags). named: tag numbers, shape (rows,).

    Raises ValueError when the shapes do not fit or a tag does not exist.
    """
    scores, tags, named = np.asarray(scores), np.asarray(tags), np.asarray(named)
    if tags.ndim != 2 or scores.shape != (len(named), len(tags)):
        raise ValueError(
            f"scores need a row a name and a column an item, not the shapes {scores.shape}, {tags.shape} of "
            f"tags and {named.shape} of names."
        )
    if not np.isin(named, np.arange(-1, tags.shape[1])).all():
        raise ValueError(f"named must hold numbers from 0 to {tags.shape[1] - 1}, or -1 for no answer.")
    return np.where((named < 0)[:, None] | (tags[:, named].T > 0), scores, 0)


# ------------------------------------------------------------------- a blend with quotas


def quotas(lists: Mapping[str, ArrayLike], quota: Mapping[str, int], k: int) -> np.ndarray:
    """Blend the lists of several sources into one of k distinct items a row; -1 where all have fewer.

    lists: of each source, shape (rows, any length), best first, padded with -1. quota: places of each source;
    what an earlier one has taken does not count as its own. The sources take turns. Places that are left,
    because a source has too few or the quotas sum to less than k, go to whatever is next, again in turns.

    Raises ValueError when sources and quotas differ, a quota is below 0, they sum to more than k, or as
    `ranking.interleave` does.
    """
    if not lists or set(lists) != set(quota):
        raise ValueError(f"Each source needs a list and a quota, not {[*lists]} and {[*quota]}.")
    places = sum(whole(f"quota of {name}", places) for name, places in quota.items())
    if places > k:
        raise ValueError(f"The quotas sum to {places}, more than the {k} places: lower them, or raise k.")
    arrays = {name: np.asarray(lists[name]) for name in quota}
    everything = interleave([*arrays.values()], sum(array.shape[1] for array in arrays.values()))
    own = []
    for name, array in arrays.items():
        taken = np.hstack([array[:, :0], *own])
        fresh = [np.where(np.isin(row, had), -1, row) for row, had in zip(array, taken, strict=True)]
        own.append(interleave([fresh], quota[name]) if quota[name] else array[:, :0])
    return interleave([np.hstack([interleave(own, k), everything])], k)


# ------------------------------------------------------------------- ways to split a log


@dataclass(frozen=True, eq=False)
class Split:
    """What models may learn from, and requests to judge them.

    train: the log to fit on. log: the log to look up what users had done before a request. rows: the
    requests, numbers of rows of `log`.
    """

    train: LikeLog
    log: LikeLog
    rows: np.ndarray

    def requests(self) -> pd.DataFrame:
        """Return a row a request, in the order of `rows`: what its recall may depend on.

        Columns: `request`, the row of the log; `user`; `item`, the one to find; `likes_before`, how many
        items the user had liked; `new_user` and `new_item`, whether the training log has no row of the user,
        or no like of the item.
        """
        users, items = self.log.users[self.rows], self.log.items[self.rows]
        return pd.DataFrame(
            {
                "request": self.rows,
                "user": users,
                "item": items,
                "likes_before": self.log.history(self.rows, EVERYTHING).getnnz(axis=1),
                "new_user": ~np.isin(users, self.train.users),
                "new_item": ~np.isin(items, self.train.items[self.train.liked]),
            }
        )


def random_split(log: LikeLog, size: int, min_likes: int = 5, seed: int = 0) -> Split:
    """Hold out random likes, of users who had `min_likes` before, as if they came after everything else.

    This is what a random split pretends: models and requests know what in truth came later, of the user too.

    Raises ValueError when there are fewer than `size` such likes.
    """
    postponed = log.postponed(log.requests(0, len(log), size, min_likes, seed))
    start = len(log) - size
    return Split(postponed.only(np.arange(start)), postponed, np.arange(start, len(log)))


def leave_last_out(log: LikeLog, size: int, min_likes: int = 5, seed: int = 0) -> Split:
    """Hold out the last like of `size` random users, of those with `min_likes` before, and what came after.

    The request knows nothing of its user's future, but the models know that of all others.

    Raises ValueError when there are fewer than `size` such users.
    """
    rows = np.flatnonzero(log.liked & (log.likes_before >= min_likes))
    last = pd.Series(rows, index=log.users[rows]).groupby(level=0).max()
    if not 1 <= size <= len(last):
        raise ValueError(
            f"{len(last)} users have a like with {min_likes} likes before; you asked for {size} users."
        )
    held_out = last.sample(size, random_state=seed)
    begins = pd.Series(log.users).map(held_out).fillna(len(log))
    train = log.only(np.flatnonzero(np.arange(len(log)) < begins))
    return Split(train, log, np.sort(held_out.to_numpy()))


def global_time_split(
    log: LikeLog, at: str | pd.Timestamp, size: int, min_likes: int = 0, seed: int = 0
) -> Split:
    """Learn from all rows before a moment, and draw likes from then on, of users with `min_likes` before.

    Nothing knows the future. With `min_likes` 0 the requests include users of whom nothing is known.

    Raises ValueError when nothing was liked before, or fewer than `size` such likes came after.
    """
    start = int(np.count_nonzero(log.time < pd.Timestamp(at)))
    return Split(log.only(np.arange(start)), log, log.requests(start, len(log), size, min_likes, seed))


def ladder(split: Split, recommenders: Mapping[str, Recommender], k: int) -> pd.DataFrame:
    """Fit each rung, and see whether the k items that it shows for each request hold the one liked next.

    What the user had rated before is not shown. Returns a row for each request and rung: the columns of
    `Split.requests`, and `rung`; `rank` of the item in the list, from 0, or `ranking.NOT_FOUND`; `hit`, 1.0
    or 0.0, which is also the recall at k, for one item is to be found.

    For an interval over people pass `hit`, and `user` as the unit, to `metrics.mean_interval`; for that of a
    difference, `hit` of one rung minus that of another, in the same order.

    Raises ValueError when there is no rung, or a rung returns scores that are no ranking.
    """
    if not recommenders:
        raise ValueError("A ladder needs a rung: name at least one recommender.")
    allowed = split.log.seen(split.rows).toarray() == 0
    target, requests = split.log.items[split.rows], split.requests()
    tables = []
    for name, recommender in recommenders.items():
        scores = recommender.fit(split.train).score(split.log, split.rows)
        rank = rank_of(top_k(scores, k, allowed), target)
        tables.append(requests.assign(rung=name, rank=rank, hit=(rank < k).astype(float)))
    return pd.concat(tables, ignore_index=True)
