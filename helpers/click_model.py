"""A click model for the simulated platform, as it runs in production: a store, features, scores, a ranking.

Each morning the store takes a snapshot out of the log of the days before; a day is served with it. So a
feature never sees its own day. The log may be damaged, and the world may shift: monitoring should find it.
"""

from collections.abc import Callable, Iterable
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from helpers.shifts import whole
from helpers.simulator import REQUESTS_A_DAY, Platform, Policy, score_policy

MEMORY_DAYS = 7  # of log in a snapshot
STRENGTH = 20  # examined impressions that the mean counts for, where there are few
CATEGORIES = ("age_band", "country", "device", "topic")
CONTEXT = (*CATEGORIES, "same_language", "duration_seconds", "position", "hour")  # known without a store
STORED = ("video_ctr", "video_watch_seconds", "user_ctr", "affinity")
FEATURES = (*CONTEXT, "video_age_days", *STORED)
SKEWED = ("duration_seconds", "position", "video_age_days", *STORED)  # read as logarithms


class Snapshot(NamedTuple):
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


def snapshot(platform: Platform, log: pd.DataFrame) -> Snapshot:
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
    return Snapshot(
        _relative_rate(*by_video[:2], mean),
        (by_video[2] + STRENGTH * mean * watch) / (by_video[0] + STRENGTH * mean),
        _relative_rate(*(x.sum(axis=1) for x in by_cell), mean),
        _relative_rate(*by_cell, mean),
    )


def _relative_rate(clicks: np.ndarray, examined: np.ndarray, mean: float) -> np.ndarray:
    return (clicks / mean + STRENGTH) / (examined + STRENGTH)


def impression_features(
    platform: Platform, stored: Snapshot, impressions: pd.DataFrame, index: ArrayLike | None = None
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


def logistic_click_model() -> Pipeline:
    """Return logistic regression on the `FEATURES`: categories as 0 and 1, skewed numbers as logarithms.

    It goes on where a tree stops: a video older than any in training still loses clicks.
    """
    columns = make_column_transformer(
        (OneHotEncoder(), [*CATEGORIES]),
        (make_pipeline(FunctionTransformer(np.log1p), StandardScaler()), [*SKEWED]),
        (StandardScaler(), ["same_language", "hour"]),
    )
    return make_pipeline(columns, LogisticRegression(max_iter=1000))


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
        """Train on these days of the log, each with the snapshot of the `memory` days before it.

        estimator: of scikit-learn, with `predict_proba`; it gets a table of the `FEATURES`. By default
        `logistic_click_model`. Raises ValueError as `last_days` and `snapshot` do, or for days without a row.
        """
        self.platform, self.memory = platform, memory
        tables = [window for window in map(self._features_of(log), days) if len(window)]
        if not tables:
            raise ValueError("The log has no row on the days to train on: choose other days.")
        table = pd.concat(tables)
        self._model = clone(logistic_click_model() if estimator is None else estimator)
        self._model.fit(table, log.loc[table.index, "clicked"])

    def _features_of(self, log: pd.DataFrame) -> Callable[[int], pd.DataFrame]:
        """A function of the day: the features of its rows, with that morning's snapshot."""

        def features(day: int) -> pd.DataFrame:
            stored = snapshot(self.platform, last_days(log, day, self.memory))
            return impression_features(self.platform, stored, log[day_of(log) == day])

        return features

    def score(self, features: pd.DataFrame) -> np.ndarray:
        """Return P(click) of each row of `FEATURES`."""
        return self._model.predict_proba(features[[*FEATURES]])[:, 1]

    def windows(self, log: pd.DataFrame, rows: int | None = None) -> Callable[[int], pd.DataFrame]:
        """Return a function of the day: `user_id`, the features, `score` and `label` of its impressions.

        log: with the days before it too, from which the store takes its snapshots. A day is computed once.
        rows: of a day keep no more than these, at random; the store still sees all.
        """
        features_of = self._features_of(log)

        @cache
        def window(day: int) -> pd.DataFrame:
            features = features_of(day)
            if rows is not None and len(features) > rows:
                features = features.sample(rows, random_state=day)
            impressions = log.loc[features.index]
            outcome = {"score": self.score(features), "label": impressions["clicked"].astype(int)}
            return features.assign(user_id=impressions["user_id"], **outcome)

        return window

    def policy(
        self, stored: Snapshot, epsilon: float = 0.0, seed: int = 0, index: ArrayLike | None = None
    ) -> Policy:
        """Return the policy that ranks by the score at position 1; `index` as in `impression_features`."""

        def scores(requests: pd.DataFrame, candidates: np.ndarray) -> np.ndarray:
            rows = requests.loc[requests.index.repeat(candidates.shape[1]), ["timestamp", "user_id"]]
            rows = rows.assign(video_id=candidates.ravel(), position=1)
            return self.score(impression_features(self.platform, stored, rows, index)).reshape(
                candidates.shape
            )

        return score_policy(scores, epsilon, seed)
