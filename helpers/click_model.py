"""A click model for the simulated platform, as it runs in production: a store, features, scores, a ranking.

Each morning the store counts click rates in the log of the days before; the day is served with them. So a
feature never sees its own day. The log may be damaged, and the world may shift: monitoring should find it.

`snapshots.Snapshot` holds any declared feature. These four rates are counted here, since a morning must take
milliseconds when months are served, and since they are corrected for the position of what was shown.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone

from helpers.rankers import ranker
from helpers.shifts import whole
from helpers.simulator import REQUESTS_A_DAY, Platform, Policy, score_policy

MEMORY_DAYS = 7  # of log in the rates
STRENGTH = 20  # examined impressions that the mean counts for, where there are few
CATEGORIES = ("age_band", "country", "device", "topic")
CONTEXT = (*CATEGORIES, "same_language", "duration_seconds", "position", "hour")  # known without a store
STORED = ("video_ctr", "video_watch_seconds", "user_ctr", "affinity")
FEATURES = (*CONTEXT, "video_age_days", *STORED)


class Rates(NamedTuple):
    """What the store holds; a CTR is per examined impression and relative to that of all, so 1 is usual."""

    video_ctr: np.ndarray  # shape (videos,)
    video_watch_seconds: np.ndarray  # of a click, shape (videos,)
    user_ctr: np.ndarray  # shape (users,)
    affinity: np.ndarray  # CTR of a user with a topic, shape (users, topics)


def day_of(log: pd.DataFrame) -> pd.Series:
    """Return the day of each row of a log, counted from the start of the calendar."""
    return log["request_id"] // REQUESTS_A_DAY


def last_days(log: pd.DataFrame, day: int, memory: int = MEMORY_DAYS) -> pd.DataFrame:
    """Return the rows of the `memory` days before `day`; raises ValueError if there are none."""
    rows = log[day_of(log).between(day - whole("memory", memory, 1), day - 1)]
    if rows.empty:
        raise ValueError(f"The log has no row in the {memory} days before day {day}: pass those days too.")
    return rows


def count_rates(platform: Platform, log: pd.DataFrame) -> Rates:
    """Return what a store computes from a log; raises ValueError for a log without a click."""
    if not log["clicked"].any():
        raise ValueError("The log has no click, so there is no rate to compute: pass more days.")
    topic = platform.videos["topic"].to_numpy()[log["video_id"]]
    cell = log["user_id"].to_numpy() * platform.n_topics + topic
    examined = platform.examination_curve[log["position"] - 1]
    clicked = log["clicked"].to_numpy()
    mean, watch = clicked.sum() / examined.sum(), log["watch_seconds"].sum() / clicked.sum()
    by_video = [
        np.bincount(log["video_id"], x, platform.n_videos) for x in (clicked, examined, log["watch_seconds"])
    ]
    shape = platform.n_users, platform.n_topics
    by_cell = [np.bincount(cell, x, np.prod(shape)).reshape(shape) for x in (clicked, examined)]
    return Rates(
        _relative_rate(*by_video[:2], mean),
        (by_video[2] + STRENGTH * mean * watch) / (by_video[0] + STRENGTH * mean),
        _relative_rate(*(x.sum(axis=1) for x in by_cell), mean),
        _relative_rate(*by_cell, mean),
    )


def _relative_rate(clicks: np.ndarray, examined: np.ndarray, mean: float) -> np.ndarray:
    return (clicks / mean + STRENGTH) / (examined + STRENGTH)


def impression_features(
    platform: Platform, stored: Rates, impressions: pd.DataFrame, index: ArrayLike | None = None
) -> pd.DataFrame:
    """Return the `FEATURES` of impressions, with their index.

    impressions: with `timestamp`, `user_id`, `video_id` and `position`, such as a log. index: at place t, the
    topic whose affinity the index of topic t really holds; None is every topic at its own place.
    """
    user, video = impressions["user_id"].to_numpy(), impressions["video_id"].to_numpy()
    users, videos = platform.users, platform.videos
    topic = videos["topic"].to_numpy()[video]
    places = np.arange(platform.n_topics) if index is None else np.asarray(index)
    age = impressions["timestamp"].to_numpy() - videos["uploaded_at"].to_numpy()[video]
    speaks, spoken = (frame["language"].cat.codes.to_numpy() for frame in (users, videos))
    columns = {name: users[name].array.take(user) for name in CATEGORIES[:-1]}
    columns |= {
        "topic": pd.Categorical.from_codes(topic, categories=range(platform.n_topics)),
        "same_language": (speaks[user] == spoken[video]).astype(float),
        "duration_seconds": videos["duration_seconds"].to_numpy(float)[video],
        "position": impressions["position"].to_numpy(float),
        "hour": impressions["timestamp"].dt.hour.to_numpy(float),
        "video_age_days": age / np.timedelta64(1, "D"),
        "video_ctr": stored.video_ctr[video],
        "video_watch_seconds": stored.video_watch_seconds[video],
        "user_ctr": stored.user_ctr[user],
        "affinity": stored.affinity[user, places[topic]],
    }
    return pd.DataFrame(columns, impressions.index)


class ClickModel:
    """P(click) of an impression at its position, and the policy that ranks by it."""

    def __init__(
        self,
        platform: Platform,
        log: pd.DataFrame,
        days: Iterable[int],
        estimator: BaseEstimator | None = None,
        memory: int = MEMORY_DAYS,
    ) -> None:
        """Train on these days of the log, each with the rates of the `memory` days before it.

        estimator: of scikit-learn, with `predict_proba`; it gets a table of the `FEATURES`. By default
        `ranker("logistic")`: it goes on where a tree stops, at a video older than any in training.
        Raises ValueError without a day, for a day without a row, and as `last_days` and `count_rates` do.
        """
        self.platform, self.memory = platform, memory
        parts = [self._served_on(day, log) for day in days]
        if not parts:
            raise ValueError("days is empty: name at least one day to train on.")
        shown, features = (pd.concat(tables, ignore_index=True) for tables in zip(*parts, strict=True))
        self._model = clone(ranker("logistic") if estimator is None else estimator)
        self._model.fit(features, shown["clicked"])

    def _served_on(
        self, day: int, log: pd.DataFrame, rows: int | None = None, frozen_on: int | None = None
    ) -> tuple[pd.DataFrame, pd.DataFrame]:
        """The impressions of a day, all or as many as `rows` at random, and their features."""
        shown = log[day_of(log) == day]
        if shown.empty:
            raise ValueError(f"The log has no row on day {day}: choose another day, or pass a longer log.")
        if rows is not None and len(shown) > rows:
            shown = shown.sample(rows, random_state=day)
        morning = day if frozen_on is None else min(day, frozen_on)
        stored = count_rates(self.platform, last_days(log, morning, self.memory))
        return shown, impression_features(self.platform, stored, shown)

    def score(self, features: pd.DataFrame) -> np.ndarray:
        """Return P(click) of each row of `FEATURES`, shape (n,)."""
        return self._model.predict_proba(features[[*FEATURES]])[:, 1]

    def windows(
        self, log: pd.DataFrame, rows: int | None = None, frozen_on: int | None = None
    ) -> Callable[[int], pd.DataFrame]:
        """Return a function of the day: the features of its impressions, `user_id`, `score` and `label`.

        log: with the days before it too, in which the store counts its rates. A day is computed once.
        rows: of a day keep no more than these, at random; the store still sees all. frozen_on: the day on
        whose morning the store counted for the last time; None is never.
        The function raises ValueError for a day without a row, and as `last_days` and `count_rates` do.
        """
        whole("rows", 1 if rows is None else rows, 1)

        @cache
        def window(day: int) -> pd.DataFrame:
            shown, features = self._served_on(day, log, rows, frozen_on)
            outcome = {"score": self.score(features), "label": shown["clicked"].to_numpy(int)}
            return features.assign(user_id=shown["user_id"].to_numpy(), **outcome)

        return window

    def policy(
        self, stored: Rates, epsilon: float = 0.0, seed: int = 0, index: ArrayLike | None = None
    ) -> Policy:
        """Return the policy that ranks by the score at position 1; `index` as in `impression_features`."""

        def scores(requests: pd.DataFrame, candidates: np.ndarray) -> np.ndarray:
            rows = requests.loc[requests.index.repeat(candidates.shape[1]), ["timestamp", "user_id"]]
            rows = rows.assign(video_id=candidates.ravel(), position=1)
            return self.score(impression_features(self.platform, stored, rows, index)).reshape(
                candidates.shape
            )

        return score_policy(scores, epsilon, seed)
