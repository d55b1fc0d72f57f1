"""Declared features as of one moment, for every user and video: what a nightly job hands to the ranker.

A snapshot is small, since a value depends on few keys: on a user, on a video, on a user and a topic. It looks
up the features of any pair at once. It ages: what happens after its moment it does not know.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.features import CTR, FEATURES, Feature, needed_columns, offline_features

LARGEST = 20_000_000  # combinations of one set of keys

TOPIC_CTR = Feature("user_topic_ctr", ("user_id", "topic"), **CTR, purpose="rank by the topics of a user")
LIVE = "age", "seconds_since"  # known at the request alone; a video may be newer than the snapshot
NIGHTLY = (*(f for f in FEATURES if f.window is None and f.aggregation not in LIVE), TOPIC_CTR)


class _Part(NamedTuple):
    """The features of one set of keys: the row of a pair is the user's group plus the video's group."""

    user_group: np.ndarray  # shape (users,), already times the number of video groups
    video_group: np.ndarray  # shape (videos,)
    values: pd.DataFrame


class Snapshot:
    """The values of features at one moment; `rows` looks them up for pairs of users and videos."""

    def __init__(
        self,
        log: pd.DataFrame,
        users: pd.DataFrame,
        videos: pd.DataFrame,
        at: pd.Timestamp | str,
        features: Sequence[Feature] = NIGHTLY,
    ) -> None:
        """Compute the features from the events of the log before `at`.

        Raises ValueError for keys that are columns of neither table, for too many combinations of keys, and
        as `offline_features` does.
        """
        self.features, self.at = tuple(features), pd.Timestamp(at).as_unit("us")
        self._tables = {"user_id": users.reset_index(drop=True), "video_id": videos.reset_index(drop=True)}
        self._ids = {key: pd.Index(table[key]) for key, table in self._tables.items()}
        past = log[log["timestamp"] < self.at]
        by_keys: dict[tuple[str, ...], list[Feature]] = {}
        for feature in self.features:
            by_keys.setdefault(_depends_on(feature), []).append(feature)
        self._parts = [self._part(past, keys, those) for keys, those in by_keys.items()]

    def _part(self, past: pd.DataFrame, keys: tuple[str, ...], features: Sequence[Feature]) -> _Part:
        """The features that depend on these keys, at all their combinations."""
        (user_group, a_user), (video_group, a_video) = (self._groups(key, keys) for key in self._tables)
        if len(a_user) * len(a_video) > LARGEST:
            raise ValueError(
                f"{features[0].name} would need {len(a_user) * len(a_video):,} values, more than "
                f"{LARGEST:,}: choose coarser keys, or look it up online."
            )
        asked = {
            "user_id": np.repeat(self._ids["user_id"].to_numpy()[a_user], len(a_video)),
            "video_id": np.tile(self._ids["video_id"].to_numpy()[a_video], len(a_user)),
        }
        values = self._ask(past, pd.DataFrame(asked), features)
        return _Part(user_group * len(a_video), video_group, values)

    def _groups(self, entity: str, keys: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The group of each row of a table, equal if its keys are equal, and the first row of each group."""
        own = [key for key in keys if self._owner(key) == entity]
        if not own:
            return np.zeros(len(self._ids[entity]), int), np.zeros(1, int)
        group = self._tables[entity].groupby(own, sort=False, observed=True, dropna=False).ngroup()
        return group.to_numpy(), np.unique(group, return_index=True)[1]

    def _owner(self, key: str) -> str:
        """The id of the table that holds a key; `videos` first, as everywhere in `features`."""
        for entity in ("video_id", "user_id"):
            if key in self._tables[entity]:
                return entity
        raise ValueError(f"{key} is a column of neither users nor videos: a snapshot cannot hold it.")

    def _ask(self, past: pd.DataFrame, asked: pd.DataFrame, features: Sequence[Feature]) -> pd.DataFrame:
        """The features of pairs at the moment. Events of one time never see each other, so nor do pairs."""
        columns = sorted({"timestamp", *self._ids} | (needed_columns(features) & set(past)))
        blank = {name: np.zeros(len(asked), past[name].dtype) for name in columns if name not in asked}
        asked = asked.assign(**blank | {"timestamp": self.at})
        both = pd.concat([past[columns], asked[columns]], ignore_index=True)
        return offline_features(both, *self._tables.values(), features).iloc[len(past) :]

    def rows(self, user_ids: ArrayLike, video_ids: ArrayLike) -> pd.DataFrame:
        """Return the features of pairs, a row a pair, in the order of `features`; ids of one shape (n,).

        Raises ValueError for an id that the tables lack, or shapes that differ.
        """
        users, videos = np.asarray(user_ids), np.asarray(video_ids)
        if users.shape != videos.shape or users.ndim != 1:
            raise ValueError(
                f"Give a user for each video, in flat arrays, not shapes {users.shape} and {videos.shape}."
            )
        at = {"user_id": self._position("user_id", users), "video_id": self._position("video_id", videos)}
        table = {}
        for user_group, video_group, values in self._parts:
            row = user_group[at["user_id"]] + video_group[at["video_id"]]
            table |= {name: values[name].array.take(row) for name in values}
        return pd.DataFrame(table, columns=[f.name for f in self.features], copy=False)

    def _position(self, entity: str, ids: np.ndarray) -> np.ndarray:
        position = self._ids[entity].get_indexer(ids)
        if (position < 0).any():
            raise ValueError(
                f"The snapshot of {self.at} has no {entity} {ids[position < 0][0]}: take a newer one."
            )
        return position


def _depends_on(feature: Feature) -> tuple[str, ...]:
    """The columns that fix its value at one moment: its keys, and what a share is a share of."""
    return (*feature.keys, feature.column) if feature.aggregation == "share" else feature.keys
