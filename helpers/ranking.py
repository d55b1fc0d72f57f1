"""Recommending what somebody likes next: requests out of a log, candidate sources, hits, and features."""

import copy
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix, diags
from sklearn.decomposition import TruncatedSVD
from threadpoolctl import threadpool_limits

NOT_FOUND = np.iinfo(np.int64).max  # the rank of an item that a list does not hold


class LikeLog:
    """A log of likes and dislikes, and requests out of it: each asks for the next item that a user liked.

    Rows are sorted by time. A request is the number of a row that holds a like; what a request may know of
    its user are the rows of the same user that are strictly older. `likes_before`: for each row, how many
    rows further up hold a like of its user.
    """

    def __init__(self, users: ArrayLike, items: ArrayLike, liked: ArrayLike, time: ArrayLike) -> None:
        """Take four columns of one length, in any order. `items`: any ids; they become 0 to n_items - 1.

        liked: True and False, or 1 and 0. time: dates with times, as from `pandas.to_datetime`.

        Raises ValueError when the columns differ in length, nothing was liked, a value is missing, or liked
        or time hold something else.
        """
        columns = {"user": users, "item": items, "liked": liked, "time": time}
        if len({len(column) for column in columns.values()}) > 1 or not np.any(liked):
            raise ValueError(
                "The log needs users, items, liked and time of one length, and at least one like."
            )
        table = _checked_log(
            pd.DataFrame({name: pd.Series(column).array for name, column in columns.items()})
        )
        table = table.sort_values("time", kind="stable", ignore_index=True)
        self.users, self.liked, self.time = (table[name].to_numpy() for name in ("user", "liked", "time"))
        self.items, self.item_ids = pd.factorize(table["item"], sort=True)
        self.n_items = len(self.item_ids)
        self._find_users()

    def _find_users(self) -> None:
        """Note the rows of each user, and the likes before each row."""
        table = pd.DataFrame({"user": self.users, "liked": self.liked})
        self._rows_of = table.groupby("user").indices
        self.likes_before = table.groupby("user")["liked"].cumsum().to_numpy() - self.liked

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.items)

    def only(self, rows: ArrayLike) -> Self:
        """Return the log of these rows alone, each once; items keep their numbers, also those without a row.

        A model that is fitted on it cannot know the other rows.

        Raises ValueError for a row that does not exist, or when no like is among them.
        """
        return self._taken(np.unique(self._numbers(rows)), self.time)

    def postponed(self, rows: ArrayLike) -> Self:
        """Return the log in which these rows came last, all at one moment, a second after all others.

        They are its last rows then. Everything else, also what in truth came later, is their past.

        Raises ValueError for a row that does not exist.
        """
        late = np.isin(np.arange(len(self)), self._numbers(rows))
        time = self.time.copy()
        time[late] = self.time[-1] + pd.Timedelta("1s")
        return self._taken(np.argsort(late, kind="stable"), time)

    def _numbers(self, rows: ArrayLike) -> np.ndarray:
        """The rows as an array of numbers; ValueError when the log has no such rows."""
        rows = np.asarray(rows)
        whole = rows.size == 0 or rows.dtype.kind in "iu"  # not a mask of True and False
        if rows.ndim != 1 or not whole or not np.isin(rows, np.arange(len(self))).all():
            raise ValueError(
                f"rows must be a flat list of row numbers, from 0 to {len(self) - 1}: turn a mask into "
                f"numbers with numpy.flatnonzero."
            )
        return rows.astype(int)

    def _taken(self, rows: np.ndarray, time: np.ndarray) -> Self:
        """The log of these rows, in this order, with other times."""
        if not self.liked[rows].any():
            raise ValueError("These rows hold no like: choose more rows.")
        log = copy.copy(self)
        log.users, log.items, log.liked, log.time = (
            column[rows] for column in (self.users, self.items, self.liked, time)
        )
        log._find_users()
        return log

    def requests(self, start: int, end: int, size: int, min_likes: int = 5, seed: int = 0) -> np.ndarray:
        """Draw `size` rows, from start up to end, that hold a like of a user who had `min_likes` before.

        Raises ValueError when there are fewer such rows, or the log has no such start and end.
        """
        if not 0 <= start <= end <= len(self) or size < 0:
            raise ValueError(
                f"Rows {start} to {end}, or a size of {size}, do not fit a log of {len(self)} rows."
            )
        rows = np.arange(start, end)
        rows = rows[self.liked[rows] & (self.likes_before[rows] >= min_likes)]
        if len(rows) < size:
            raise ValueError(
                f"Only {len(rows)} rows hold a request; ask for no more, or take more of the log."
            )
        return np.sort(np.random.default_rng(seed).choice(rows, size, replace=False))

    def past(self, row: int, delay: str = "0s") -> np.ndarray:
        """Return the rows of the same user that are older than `row` by more than `delay`, oldest first.

        Raises ValueError when the delay is below 0: that would show the future.
        """
        rows = self._rows_of[self.users[row]]
        return rows[self.time[rows] < self.time[row] - _span(delay)]

    def history(self, rows: Sequence[int], last: int = 20, delay: str = "0s") -> csr_matrix:
        """Return for each request ones at the newest `last` items that its user liked: (rows, items).

        Raises ValueError when `last` is below 1, or as `past` does.
        """
        if last < 1:
            raise ValueError(f"A history holds the last 1 item or more, not {last}: raise `last`.")
        pasts = (self.past(row, delay) for row in rows)
        return self._rows_of_ones([self.items[past[self.liked[past]][-last:]] for past in pasts])

    def seen(self, rows: Sequence[int]) -> csr_matrix:
        """Return, for each request, ones at the items that its user had rated before: (rows, items)."""
        return self._rows_of_ones([self.items[self.past(row)] for row in rows])

    def likes(self, end: int) -> csr_matrix:
        """Return who liked what before row `end`: ones, shape (users, items).

        Raises ValueError when nothing was liked before that row.
        """
        old = np.flatnonzero(self.liked[: max(end, 0)])
        if not len(old):
            raise ValueError(f"Nothing was liked before row {end}: choose a later end.")
        users = pd.factorize(self.users[old])[0]
        return _ones(users, self.items[old], (users.max() + 1, self.n_items))

    def likes_within(self, rows: ArrayLike, window: str) -> np.ndarray:
        """Count for each request everybody's likes of each item in the `window` before: (rows, items)."""
        until = np.searchsorted(self.time, self.time[rows])
        since = np.searchsorted(self.time, self.time[rows] - _span(window))
        counts = np.zeros((len(until), self.n_items), np.float32)
        for row, low, high in zip(counts, since, until, strict=True):
            np.add.at(row, self.items[low:high][self.liked[low:high]], 1)
        return counts

    def _rows_of_ones(self, lists: Sequence[np.ndarray]) -> csr_matrix:
        """Return a matrix with a row a list, and a one at each of its items."""
        row = np.repeat(np.arange(len(lists)), [len(items) for items in lists])
        items = np.concatenate([np.zeros(0, int), *lists])  # no list at all is a matrix without rows
        return _ones(row, items, (len(lists), self.n_items))


def _checked_log(table: pd.DataFrame) -> pd.DataFrame:
    """Return the log with `liked` as booleans; raise ValueError for what `LikeLog` cannot read."""
    if table.isna().any(axis=None):
        raise ValueError("A user, item, like or time is missing: drop those rows first.")
    if not np.isin(table["liked"], (0, 1)).all():
        raise ValueError("liked must hold True and False, or 1 and 0: compare ratings, as in rating >= 4.")
    if not pd.api.types.is_datetime64_any_dtype(table["time"]):
        raise ValueError("time must hold dates with times: convert it with pandas.to_datetime.")
    return table.astype({"liked": bool})


@cache
def _span(text: str) -> pd.Timedelta:
    """The duration that a text such as "10min" names; ValueError when it is below 0."""
    span = pd.Timedelta(text)
    if not span >= pd.Timedelta(0):
        raise ValueError(f"A delay or window must be at least 0, not {text!r}: turn its sign.")
    return span


def _ones(row: np.ndarray, column: np.ndarray, shape: tuple[int, int]) -> csr_matrix:
    """A matrix with ones at some cells; a cell that is named twice holds a one as well."""
    matrix = csr_matrix((np.ones(len(row), np.float32), (row, column)), shape)
    matrix.data[:] = 1  # duplicates were added up
    return matrix


# ------------------------------------------------------------------- candidate sources


def taste_vectors(likes: csr_matrix, dims: int = 32, seed: int = 0) -> np.ndarray:
    """Return a vector for each item, shape (items, dims), by a truncated SVD of who liked what.

    With fewer than `dims` users or items there are as many dimensions as those.
    """
    with threadpool_limits(1):  # more would add up in another order
        return TruncatedSVD(min(dims, *likes.shape), random_state=seed).fit(likes).components_.T


def liked_together(likes: csr_matrix) -> csr_matrix:
    """Return the cosine of every two items over the users who liked them: shape (items, items)."""
    scale = diags(1 / np.sqrt(np.maximum(likes.sum(axis=0).A1, 1)))
    return scale @ (likes.T @ likes) @ scale


def source_scores(log: LikeLog, rows: ArrayLike, end: int) -> dict[str, np.ndarray]:
    """Score all items for each request in three ways: arrays of shape (rows, items), higher is better.

    taste: items near to the sum of the vectors of what the user liked. together: items that the same users
    liked. this year: what everybody liked in the year before the request. The first two know the log up to
    row `end` alone; what a user did is known up to the request.
    """
    likes, history = log.likes(end), log.history(rows)
    vectors = taste_vectors(likes)
    return {
        "taste": history @ vectors @ vectors.T,
        "together": (history @ liked_together(likes)).toarray(),
        "this year": log.likes_within(rows, "365D"),
    }


def top_k(scores: ArrayLike, k: int, allowed: ArrayLike | None = None) -> np.ndarray:
    """Return each row's k items with the highest scores above zero, best first; -1 where it has fewer.

    scores: shape (rows, items). allowed: which items may be shown, same shape. Ties go to the lower item.

    Raises ValueError when k is below 1, the shapes do not fit, or an allowed item has the score NaN.
    """
    scores = np.asarray(scores, float)
    if k < 1 or scores.ndim != 2 or (allowed is not None and np.shape(allowed) != scores.shape):
        raise ValueError(
            f"A list needs a k of at least 1 and scores and allowed of one shape (rows, items), "
            f"not k = {k} and shapes {scores.shape} and {np.shape(allowed)}."
        )
    scores = scores if allowed is None else np.where(allowed, scores, 0.0)
    if np.isnan(scores).any():
        raise ValueError("Some scores are NaN: fill them, with 0 for items that are not to be shown.")
    return np.array([_best_of_row(row, k) for row in scores]).reshape(-1, k)


def _best_of_row(scores: np.ndarray, k: int) -> np.ndarray:
    """The k best items of a row, padded with -1. Only what reaches the k-th score is sorted, for speed."""
    least = np.partition(scores, -k)[-k] if k < len(scores) else 0
    items = np.flatnonzero((scores >= least) & (scores > 0))
    best = items[np.argsort(-scores[items], kind="stable")][:k]
    return np.pad(best, (0, k - len(best)), constant_values=-1)


def interleave(lists: Sequence[ArrayLike], k: int) -> np.ndarray:
    """Blend lists into one of k distinct items a row, taking turns; -1 where all lists together have fewer.

    lists: arrays of shape (rows, any length), best first, padded with -1. A duplicate gives its place to the
    next item, so more lists never mean fewer candidates.

    Raises ValueError when k is below 1, there is no list, or the lists differ in their rows.
    """
    shapes = [np.shape(one) for one in lists]
    if k < 1 or {len(shape) for shape in shapes} != {2} or len({rows for rows, _ in shapes}) > 1:
        raise ValueError(
            f"A blend needs a k of at least 1 and lists with the same rows, not k = {k} and shapes {shapes}."
        )
    turns = max(np.shape(one)[1] for one in lists)
    padded = [np.pad(one, ((0, 0), (0, turns - np.shape(one)[1])), constant_values=-1) for one in lists]
    in_turn = np.stack(padded, axis=2).reshape(len(padded[0]), -1)
    return np.array([_first_distinct(row, k) for row in in_turn])


def _first_distinct(row: np.ndarray, k: int) -> np.ndarray:
    """The first k distinct items of a row, in their order; padded with -1."""
    _, first = np.unique(row, return_index=True)
    items = row[np.sort(first)]
    items = items[items >= 0][:k]
    return np.pad(items, (0, k - len(items)), constant_values=-1)


def rank_of(lists: ArrayLike, target: ArrayLike) -> np.ndarray:
    """Return the position of each row's target in its list, from 0; `NOT_FOUND` where the list lacks it.

    lists: shape (rows, k), padded with -1. target: shape (rows,); -1 is no item, and never found.

    Raises ValueError when the shapes do not fit.
    """
    lists, target = np.asarray(lists), np.asarray(target)
    if lists.ndim != 2 or target.shape != lists.shape[:1]:
        raise ValueError(
            f"Pass one target for each row of the lists, not shapes {target.shape} and {lists.shape}."
        )
    found = (lists == target[:, None]) & (lists != -1)
    return np.where(found.any(axis=1), found.argmax(axis=1), NOT_FOUND)


# ------------------------------------------------------------------- features of candidates


def candidate_table(
    log: LikeLog,
    rows: ArrayLike,
    end: int,
    scores: Mapping[str, np.ndarray],
    lists: Mapping[str, np.ndarray],
    tags: np.ndarray,
    year: np.ndarray,
) -> pd.DataFrame:
    """Return a row for each request and candidate, with features, and whether the candidate was wanted.

    scores, lists: of each source, from `source_scores` and `top_k`; a candidate is in one list or more.
    tags: shape (items, tags), zeros and ones. year: shape (items,).

    Columns: for each source the logarithm of the candidate's rank among those of the request; the same for
    being liked together with the user's last three likes; `tags`, how much of what the user liked has the
    tags of the candidate, added up; `years apart` from the user's mean year; `year`; `request`, a position
    in `rows`; `item`; `wanted`. `tags` and `years apart` are NaN where the user had liked nothing.

    Raises ValueError when lists or scores are not those of `rows`, or tags or year not those of the items.
    """
    tags, year = np.asarray(tags), np.asarray(year)
    if {len(values) for values in (*scores.values(), *lists.values())} != {len(rows)}:
        raise ValueError("Each source needs scores and a list for each of the rows: compute them for these.")
    if not len(tags) == len(year) == log.n_items:
        raise ValueError(f"tags and year need a row for each of the {log.n_items} items: use log.item_ids.")
    pools = [np.setdiff1d(np.concatenate(row), [-1]) for row in zip(*lists.values(), strict=True)]
    request, item = np.repeat(np.arange(len(pools)), [len(pool) for pool in pools]), np.concatenate(pools)
    recent = (log.history(rows, last=3) @ liked_together(log.likes(end))).toarray()
    score = {name: values[request, item] for name, values in {**scores, "recent likes": recent}.items()}
    table = np.log1p(pd.DataFrame(score).groupby(request).rank(ascending=False))
    history = log.history(rows)
    liked = history.sum(axis=1).A1[request]
    share = 1 / np.where(liked > 0, liked, np.nan)
    table["tags"] = ((history @ tags)[request] * tags[item]).sum(axis=1) * share
    table["years apart"] = year[item] - (history @ year)[request] * share
    wanted = item == log.items[np.asarray(rows)][request]
    return table.assign(year=year[item], request=request, item=item, wanted=wanted)
