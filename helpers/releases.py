"""Releases: what the service answers with, as one immutable version; published and rolled back in one step.

A release holds a ranker, an index with the query vectors that belong to it, and the tables of one night. Its
folder is written once. One pointer names the version that is served: to publish is to write a folder, then to
move the pointer; to roll back is to move the pointer. Whoever dies in between leaves the old version served.
Beside it lies the kill switch, for what no other version mends: see `popular_only`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from numpy.typing import ArrayLike
from scipy.special import expit

from helpers.feature_store import OnlineStore
from helpers.features import FEATURES, USER, offline_features
from helpers.files import Shelf
from helpers.retrieval import (
    ExactIndex,
    FaissIndex,
    SavedIndexError,
    default_index,
    load_index,
    save_index,
)
from helpers.saved_models import SavedModelError, load_model, save_model
from helpers.shifts import share, whole
from helpers.simulator import Platform
from helpers.snapshots import TOPIC_CTR, Snapshot
from helpers.world import HIDDEN, START

LIVE = (*(f for f in FEATURES if f.keys == USER), TOPIC_CTR)  # read from the online store at each request
NIGHTLY = tuple(f for f in FEATURES if f.keys != USER and f.aggregation != "age")  # tables of a release
AGE = next(f for f in FEATURES if f.aggregation == "age")  # known at the request alone
COLUMNS = (*(f.name for f in (*LIVE, *NIGHTLY, AGE)), "similarity", "position")  # of the ranker, in order
POSITION = 1  # the position that the ranker is asked about: the same for all candidates
SIMILARITY = COLUMNS.index("similarity")
SCHEMA = dict.fromkeys(COLUMNS, "float32")
STRENGTH = 20.0  # impressions at the mean rate that every smoothed rate begins with
STORE = "store.sqlite"
SWITCH = "popular-only"  # a file without a meaning inside: the switch is on as long as it exists
SETTINGS = ("version", "categories", "candidates", "epsilon")
VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ARRAYS = ("user_vectors", "video_vectors", "profiles", "items", "uploaded", "creators", "popular")
DAY = pd.Timedelta(days=1)


class ReleaseError(RuntimeError):
    """There is no such release, or it is damaged or incomplete; the message names the repair."""


RELEASE = Shelf("release", format=1, error=ReleaseError)
CURRENT = Shelf("current", format=1, error=ReleaseError)

# ---------------------------------------------------------------- a release


@dataclass(frozen=True, eq=False)
class Release:
    """What the service answers with. Users and videos are row numbers, as in `World`.

    Only videos that were there at `as_of` are in it. user_vectors, video_vectors: (n, dims), for this index
    alone. profiles: the `LIVE` features of each user as of that night, (users, topics, features); the service
    reads newer ones from the store. items: the `NIGHTLY` features, (videos, features). uploaded: in
    microseconds. popular: videos, best first. categories: of each feature that is a text, its levels; the
    ranker reads their numbers.
    """

    version: str
    as_of: pd.Timestamp
    ranker: LGBMClassifier
    index: ExactIndex | FaissIndex
    user_vectors: np.ndarray
    video_vectors: np.ndarray
    profiles: np.ndarray
    items: np.ndarray
    uploaded: np.ndarray
    creators: np.ndarray
    popular: np.ndarray
    categories: dict[str, list[str]]
    candidates: int = 200
    epsilon: float = 0.05

    def __post_init__(self) -> None:
        """Raise ValueError for a version that is no name of a folder, or settings that make no sense."""
        if not isinstance(self.version, str) or not VERSION.fullmatch(self.version):
            raise ValueError(
                f"version must be a short text of letters, digits, '.', '_' and '-', such as '2025-01-20', "
                f"not {self.version!r}: rename it."
            )
        whole("candidates", self.candidates, 1, len(self.items))
        share("epsilon", self.epsilon)

    @cached_property
    def topics(self) -> tuple[np.ndarray, np.ndarray]:
        """The first video of each topic, and the number of each video's topic among those."""
        topic = self.items[:, [f.name for f in NIGHTLY].index("video_topic")]
        _, first, number = np.unique(topic, return_index=True, return_inverse=True)
        return first, number

    def search(self, user_id: int) -> np.ndarray:
        """Return the candidates for a user, best first."""
        ids, _ = self.index.search(self.user_vectors[user_id], self.candidates)
        return ids[ids >= 0]

    def read(self, store: OnlineStore, user_id: int, at: pd.Timestamp) -> np.ndarray:
        """Return the live features of a user, a row a topic: what changes by the video is its topic alone."""
        found = store.read(user_id, self.topics[0].tolist(), at)
        return np.column_stack([self._numbers(name, values) for name, values in found.items()])

    def _numbers(self, name: str, values: Sequence[Any]) -> np.ndarray:
        """The values of one feature; a text is the number of its level."""
        if name in self.categories:
            levels = self.categories[name]
            values = [levels.index(value) if value in levels else None for value in values]
        return np.array(values, dtype="float32")

    def table(self, user_id: int, profile: np.ndarray, ids: np.ndarray, at: pd.Timestamp) -> np.ndarray:
        """Return what the ranker reads of some videos, float32, shape (len(ids), len(COLUMNS))."""
        table = np.empty((len(ids), len(COLUMNS)), dtype="float32")
        table[:, : len(LIVE)] = profile[self.topics[1][ids]]
        table[:, len(LIVE) : -3] = self.items[ids]
        table[:, -3] = (at.asm8.astype("datetime64[us]").astype("int64") - self.uploaded[ids]) / 1e6
        table[:, -2] = self.video_vectors[ids] @ self.user_vectors[user_id]
        table[:, -1] = POSITION
        return table

    def warm_up(self) -> None:
        """Search and score once: a first call takes longer."""
        self.score(self.table(0, self.profiles[0], self.search(0), self.as_of))

    def score(self, table: np.ndarray) -> np.ndarray:
        """Return P(click) of each row of a table, shape (rows,), in one thread."""
        corrections = self.ranker.booster_.predict(table, raw_score=True, num_threads=1)
        return expit(table[:, SIMILARITY] + corrections)


# ---------------------------------------------------------------- build


def build_release(
    platform: Platform,
    log: pd.DataFrame,
    version: str = "1",
    *,
    days: int = 4,
    trees: int = 100,
    candidates: int = 200,
    epsilon: float = 0.05,
    seed: int = 0,
) -> Release:
    """Train and assemble a release as of the midnight after the log; the ranker learns from its last `days`.

    The ranker reads the position that a video had; the service asks about the first position for all, so
    what a place added to the clicks is not taken for relevance. Returns a release of the videos that are
    there at that midnight. epsilon: share of the requests whose order is left to chance.

    Raises ValueError for a log of fewer days, or more candidates than videos.
    """
    table = last_days(platform, log, days)
    numbers, clicked = encode(table, categories(platform)), log.loc[table.index, "clicked"]
    ranker = train_ranker(numbers, clicked, trees, seed)
    return assemble(platform, log, version, ranker, candidates=candidates, epsilon=epsilon, seed=seed)


def midnight_after(log: pd.DataFrame) -> pd.Timestamp:
    """Return the first midnight after the last event. Raises ValueError for a log without any."""
    if log.empty:
        raise ValueError("The log has no rows, so there is nothing to learn from: simulate some days.")
    return log["timestamp"].max().floor("D") + DAY


def assemble(
    platform: Platform,
    log: pd.DataFrame,
    version: str,
    ranker: LGBMClassifier,
    *,
    candidates: int = 200,
    epsilon: float = 0.05,
    seed: int = 0,
) -> Release:
    """Return a release of a trained ranker: with the tables, the vectors and the index of that midnight."""
    as_of, levels = midnight_after(log), categories(platform)
    there = int(platform.n_available((as_of - START) // DAY))
    users, items = vectors(platform, log, there)
    return Release(
        version=version,
        as_of=as_of,
        ranker=ranker,
        index=default_index(there, items.shape[1], seed).fit(items),
        user_vectors=users,
        video_vectors=items,
        **_nightly(platform, log, as_of, there, levels),
        uploaded=platform.videos["uploaded_at"].to_numpy("datetime64[us]")[:there].astype("int64"),
        creators=platform.videos["creator_id"].to_numpy()[:there],
        popular=np.argsort(-items[:, -1], kind="stable")[:candidates],
        categories=levels,
        candidates=candidates,
        epsilon=epsilon,
    )


def visible(platform: Platform) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the users and the videos without what no model may read."""
    users, videos = (t.drop(columns=[*HIDDEN], errors="ignore") for t in (platform.users, platform.videos))
    return users, videos


def categories(platform: Platform) -> dict[str, list[str]]:
    """Return the levels of each feature that is a text."""
    tables = dict(zip(("user_id", "video_id"), visible(platform), strict=True))
    found = {f.name: tables[f.keys[0]][f.column] for f in (*LIVE, *NIGHTLY) if f.aggregation == "attribute"}
    return {name: [*column.cat.categories] for name, column in found.items() if column.dtype == "category"}


def last_days(platform: Platform, log: pd.DataFrame, days: int) -> pd.DataFrame:
    """Return the training table of the last `days` of a log. Raises ValueError for a log of fewer days."""
    midnight = midnight_after(log)
    logged = (midnight - log["timestamp"].min().floor("D")).days
    whole(f"days, of a log of {logged},", days, 1, logged)
    return training_table(platform, log, midnight - days * DAY)


def training_table(platform: Platform, log: pd.DataFrame, since: pd.Timestamp) -> pd.DataFrame:
    """Return what the service would have read at each impression from `since` on; the index of the log.

    The live features are those of that moment; the nightly ones those of the midnight before, as in serving.
    """
    live = offline_features(log, *visible(platform), [*LIVE, AGE])[log["timestamp"] >= since]
    days = log.loc[live.index].groupby(log["timestamp"].dt.floor("D"))
    nightly = [_of_the_night(platform, log[log["timestamp"] < night], night, rows) for night, rows in days]
    return live.join(pd.concat(nightly)).join(log["position"])[[*COLUMNS]]


def _of_the_night(
    platform: Platform, past: pd.DataFrame, night: pd.Timestamp, rows: pd.DataFrame
) -> pd.DataFrame:
    """The nightly features of rows of a log, and the inner product of that night's vectors."""
    user, video = rows["user_id"].to_numpy(), rows["video_id"].to_numpy()
    users, videos = vectors(platform, past, platform.n_videos)
    found = Snapshot(past, *visible(platform), night, NIGHTLY).rows(user, video)
    return found.assign(similarity=(users[user] * videos[video]).sum(axis=1)).set_axis(rows.index)


def encode(table: pd.DataFrame, levels: Mapping[str, Sequence[str]]) -> np.ndarray:
    """Return a table of features as float32, shape (rows, features); a text is the number of its level."""
    columns = {name: table[name] for name in table}
    for name in levels.keys() & columns.keys():
        columns[name] = _level_numbers(table[name], levels[name])
    return np.column_stack([np.asarray(column, dtype="float32") for column in columns.values()])


def _level_numbers(values: pd.Series, levels: Sequence[str]) -> np.ndarray:
    """The number of each value among the levels; missing for one that is none of them."""
    found = values.astype("category").cat
    numbers = np.append(pd.Index(levels).get_indexer(found.categories), -1)[found.codes]
    return np.where(numbers < 0, np.nan, numbers)


def train_ranker(table: np.ndarray, clicked: ArrayLike, trees: int = 100, seed: int = 0) -> LGBMClassifier:
    """Fit boosted trees to the clicks on the rows of an encoded table, in one thread.

    They begin with the inner product as the log-odds and learn to correct it: with few clicks, trees that
    had to learn it anew ordered the candidates no better than the retrieval.
    """
    settings = {"num_leaves": 8, "min_child_samples": 500, "learning_rate": 0.05, "verbose": -1}
    model = LGBMClassifier(n_estimators=whole("trees", trees, 1), n_jobs=1, random_state=seed, **settings)
    return model.fit(table, clicked, init_score=table[:, SIMILARITY])


def vectors(platform: Platform, log: pd.DataFrame, there: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of the users and of the first `there` videos, float32, shape (n, dims).

    Their inner product is log P(click), if the mean click rate were multiplied by three independent lifts: of
    the topic for the user, of the video's language for the user's, of the video. A lift is a smoothed rate
    over the mean. The last number of a video's vector is the log of its own rate. With a few clicks a user,
    this found better candidates than a two-tower model that was trained on them.
    """
    n_topics, n_languages = platform.n_topics, len(platform.users["language"].cat.categories)
    spoken, speaks = (t["language"].cat.codes.to_numpy(int) for t in (platform.videos, platform.users))
    topic, user, video = platform.videos["topic"].to_numpy(int), *log[["user_id", "video_id"]].to_numpy(int).T
    clicked = log["clicked"].to_numpy()
    rate = (clicked.sum() + 1) / (len(clicked) + 1)  # of an empty log: 1
    by_topic, by_language, by_video = (
        _log_lifts(group, n, clicked / rate)
        for group, n in (
            (user * n_topics + topic[video], platform.n_users * n_topics),
            (speaks[user] * n_languages + spoken[video], n_languages**2),
            (video, platform.n_videos),
        )
    )
    ones = np.ones((platform.n_users, 1))
    users = np.hstack([by_topic.reshape(-1, n_topics), by_language.reshape(n_languages, -1)[speaks], ones])
    parts = np.eye(n_topics)[topic], np.eye(n_languages)[spoken], by_video[:, None] + np.log(rate)
    return users.astype("float32"), np.hstack(parts)[:there].astype("float32")


def _log_lifts(group: np.ndarray, n: int, clicked: np.ndarray) -> np.ndarray:
    """The log of each group's mean, smoothed towards 1; 0 for a group that was never shown."""
    shown, clicks = np.bincount(group, minlength=n), np.bincount(group, clicked, n)
    return np.log((clicks + STRENGTH) / (shown + STRENGTH))


def _nightly(
    platform: Platform,
    log: pd.DataFrame,
    as_of: pd.Timestamp,
    there: int,
    levels: Mapping[str, Sequence[str]],
) -> dict[str, np.ndarray]:
    """The tables of the night: the profile of each user for each topic, and the features of each video."""
    users, videos = visible(platform)
    _, first = np.unique(platform.videos["topic"][:there], return_index=True)
    pairs = np.repeat(users["user_id"], len(first)), np.tile(first, len(users))
    profiles = encode(Snapshot(log, users, videos, as_of, LIVE).rows(*pairs), levels)
    of_video = Snapshot(log, users, videos, as_of, NIGHTLY).rows(np.zeros(there, int), np.arange(there))
    return {"profiles": profiles.reshape(len(users), len(first), -1), "items": encode(of_video, levels)}


def fill_store(platform: Platform, log: pd.DataFrame, directory: str | Path) -> None:
    """Create the online store of a service and apply the log; `open_store` opens it for what comes later.

    Raises ValueError if there is one already: events that it knows would stay in it.
    """
    path = Path(directory) / STORE
    if path.exists():
        raise ValueError(f"{path.name} exists: open it with open_store and update it, or remove it first.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with OnlineStore(path, LIVE) as store:
        store.put(*visible(platform))
        store.update(log)


def open_store(directory: str | Path) -> OnlineStore:
    """Open the online store of a service; one process writes, any number read. Use it in a `with`.

    Raises FileNotFoundError if there is none: an empty one would answer, and know nobody.
    """
    path = Path(directory) / STORE
    if not path.exists():
        raise FileNotFoundError(f"There is no {STORE} in {path.parent.name}: fill_store(...) makes it.")
    return OnlineStore(path, LIVE)


# ---------------------------------------------------------------- publish and roll back


def publish(release: Release, directory: str | Path) -> None:
    """Write a release into a folder of its own, then serve it; readers see the old one or the new one, whole.

    One process publishes, any number read. A writer that dies leaves the old version served; what it left
    behind is removed when the same version is published again.

    Raises ValueError if the version exists: what was served under a name must stay what it was.
    """
    folder = _folder(directory, release.version)
    if _exists(folder):
        raise ValueError(
            f"Release {release.version!r} exists, and a release does not change: take a new version, or "
            f"activate({release.version!r}, ...) it."
        )
    save_index(release.index, folder / "index", release.version)
    save_model(release.ranker, folder / "ranker", SCHEMA, release.version)
    arrays = {name: getattr(release, name) for name in ARRAYS}
    facts = {name: getattr(release, name) for name in SETTINGS} | {"as_of": release.as_of.isoformat()}
    RELEASE.publish(folder, lambda file: np.savez(file, allow_pickle=False, **arrays), facts)
    activate(release.version, directory)


def activate(version: str, directory: str | Path) -> None:
    """Serve a version that was published before. Raises ReleaseError if there is none, or it is damaged."""
    RELEASE.manifest(_folder(directory, version))
    past = history(directory)
    if past[-1:] != [version]:
        _point(directory, [*past, version])


def rollback(directory: str | Path) -> str:
    """Serve what was served before, in one step; return its version. The newer one stays in its folder.

    Raises ReleaseError if nothing was served before.
    """
    past = history(directory)
    if len(past) < 2:
        raise ReleaseError("There is nothing to go back to: fewer than two versions were ever served.")
    _point(directory, past[:-1])
    return past[-2]


def history(directory: str | Path) -> list[str]:
    """Return the versions that a rollback would go through, the current one last; empty before the first."""
    if not (Path(directory) / "manifest.json").exists():
        return []
    return CURRENT.manifest(Path(directory))["history"]


def current(directory: str | Path) -> str:
    """Return the version that is served. Raises ReleaseError if there is none, or the pointer is damaged."""
    past = history(directory)
    if not past:
        raise ReleaseError(f"{Path(directory).name} holds no release: publish(build_release(...)) first.")
    return past[-1]


def load_release(directory: str | Path, version: str | None = None) -> Release:
    """Load a version, by default the current one; its parts must all be of that version.

    Raises ReleaseError if it is missing, incomplete or damaged, or holds parts of another version.
    """
    version = current(directory) if version is None else version
    folder = _folder(directory, version)
    try:
        with RELEASE.open(folder, lambda facts: None) as (file, facts), np.load(file) as found:
            arrays = dict(found)
        settings = {name: facts[name] for name in SETTINGS}
        return Release(
            as_of=pd.Timestamp(facts["as_of"]),
            **settings,
            **arrays,
            index=load_index(folder / "index", version),
            ranker=load_model(folder / "ranker", SCHEMA, version),
        )
    except (SavedIndexError, SavedModelError) as error:
        raise ReleaseError(f"Release {version!r} cannot be served: {error}") from error


def popular_only(on: bool, directory: str | Path) -> None:
    """Throw the kill switch: on, every request is answered from the popular videos of the release; or off.

    The service follows within a second, without a restart, and stays so until the switch is off, through
    restarts and releases. That the file exists is all that is read, so it is never half written nor damaged;
    in an emergency, `touch popular-only` in the directory does the same.

    Raises ReleaseError if nothing was ever published there, so that no wrong directory looks switched.
    """
    if not isinstance(on, bool):
        raise ValueError(f"on must be True or False, not {on!r}.")
    directory = Path(directory)
    if not (directory / "releases").is_dir():
        raise ReleaseError(f"{directory.name} holds no release: check the path.")
    if on:
        (directory / SWITCH).touch()
    else:
        (directory / SWITCH).unlink(missing_ok=True)


def is_popular_only(directory: str | Path) -> bool:
    """Return whether the kill switch is on. Raises OSError if that cannot be read."""
    try:
        (Path(directory) / SWITCH).lstat()
    except FileNotFoundError:
        return False
    return True


def _folder(directory: str | Path, version: str) -> Path:
    return Path(directory) / "releases" / version


def _exists(folder: Path) -> bool:
    """Whether a release was written to its end."""
    try:
        RELEASE.manifest(folder)
    except ReleaseError:
        return False
    return True


def _point(directory: str | Path, past: list[str]) -> None:
    """Name the versions served so far, the current one last, in one step."""
    CURRENT.publish(Path(directory), lambda file: file.write(past[-1].encode()), {"history": past})
