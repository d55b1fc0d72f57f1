"""The path of a request: store, index, ranker, policy; each stage with its deadline and its fallback.

The ladder, from the top: the ranker is late, and the candidates stay in the order of the retrieval; the store
is down, and the profile is that of last night; the index is down, and the candidates are the popular videos.
An answer says which rungs it stands on, and so does the log: an experiment must know what was shown, and why.
Below the ladder lies the kill switch: `popular_answer` asks no stage at all.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from helpers.feature_store import OnlineStore
from helpers.releases import COLUMNS, SIMILARITY, Release, open_store
from helpers.simulator import score_policy
from helpers.two_stage import Guard, best

STAGES = ("store", "index", "ranker")
TIMEOUT_MS = {"store": 50.0, "index": 50.0, "ranker": 50.0}
WARM_UP_MS = 30_000.0  # the first call of a stage opens files
POOL, CREATOR_CAP = 50, 2  # videos that the policy orders, and of one creator among them
POLICIES = {  # of the candidates and of their order
    ("index", "ranker"): "two-stage",
    ("index", "retrieval"): "retrieval order",
    ("popular", "ranker"): "ranked popular",
    ("popular", "retrieval"): "popular",
}


class Answer(NamedTuple):
    """What a request is answered with.

    ids, propensities: shape (n,), best first. table: what the ranker read of them; missing if it was not
    asked. profile: "live", "batch", or "none" if none was read. milliseconds: of each stage that was asked,
    and of the policy.
    """

    ids: np.ndarray
    propensities: np.ndarray
    table: np.ndarray
    policy: str
    profile: str
    version: str
    milliseconds: dict[str, float]

    def features(self) -> dict[str, list[float | None]]:
        """Return what the ranker read of each video, by name; None is missing."""
        columns = zip(COLUMNS, self.table.T.tolist(), strict=True)
        return {
            name: [None if x != x else x for x in values] for name, values in columns if name != "position"
        }


@dataclass
class Faults:
    """What is broken on purpose: milliseconds by which stages are slowed down, and stages that are down."""

    slow_ms: Mapping[str, float] = field(default_factory=dict)
    down: tuple[str, ...] = ()

    def strike(self, stage: str) -> None:
        """Be slow, or raise ConnectionError, as this stage shall."""
        if stage in self.slow_ms:
            time.sleep(self.slow_ms[stage] / 1000)
        if stage in self.down:
            raise ConnectionError(f"The {stage} is down, on purpose.")


class RequestPath:
    """The stages of a request, guarded. One request at a time; the release comes with each request.

    So a new release takes over between two requests, and one in flight ends with the release it began with.
    """

    def __init__(self, directory: str | Path, timeout_ms: Mapping[str, float] = TIMEOUT_MS) -> None:
        """Guard the stages; nothing is opened before the first request."""
        self.directory, self.timeout_ms, self.faults = Path(directory), dict(timeout_ms), Faults()
        self._store: OnlineStore | None = None
        steps = {
            "store": (self._live_profile, self._batch_profile),
            "index": (self._near_videos, self._popular_videos),
            "ranker": (self._ranked, self._as_retrieved),
        }
        self.guards = {name: Guard(*steps[name], self.timeout_ms[name]) for name in STAGES}

    def recommend(self, release: Release, request_id: int, user_id: int, k: int, at: pd.Timestamp) -> Answer:
        """Answer one request; at most k videos, of one creator no more than two."""
        clock = [time.perf_counter()]
        profile, profile_from = self.guards["store"](release, user_id, at)
        clock.append(time.perf_counter())
        ids, ids_from = self.guards["index"](release, user_id)
        clock.append(time.perf_counter())
        table = release.table(user_id, profile, ids, at)
        scores, scores_from = self.guards["ranker"](release, table)
        clock.append(time.perf_counter())
        shown, propensities = choose(release, request_id, ids, scores, k)
        clock.append(time.perf_counter())
        return Answer(
            ids=ids[shown],
            propensities=propensities,
            table=table[shown],
            policy=POLICIES[ids_from, scores_from],
            profile=profile_from,
            version=release.version,
            milliseconds=dict(zip((*STAGES, "policy"), 1000 * np.diff(clock), strict=True)),
        )

    def warm_up(self, release: Release) -> None:
        """Make a first call of each stage without its deadline: it opens files."""
        for guard in self.guards.values():
            guard.timeout_ms = WARM_UP_MS
        self.recommend(release, 0, 0, 1, release.as_of)
        for name, guard in self.guards.items():
            guard.timeout_ms = self.timeout_ms[name]

    def close(self) -> None:
        """Let the threads of the stages end."""
        for guard in self.guards.values():
            guard.close()

    # ------------------------------------------------------------ the stages and their fallbacks

    def _live_profile(self, release: Release, user_id: int, at: pd.Timestamp) -> tuple[np.ndarray, str]:
        self.faults.strike("store")
        if self._store is None:  # opened here, because a connection belongs to the thread that opens it
            self._store = open_store(self.directory)
        return release.read(self._store, user_id, at), "live"

    def _batch_profile(self, release: Release, user_id: int, at: pd.Timestamp) -> tuple[np.ndarray, str]:
        return release.profiles[user_id], "batch"

    def _near_videos(self, release: Release, user_id: int) -> tuple[np.ndarray, str]:
        self.faults.strike("index")
        return release.search(user_id), "index"

    def _popular_videos(self, release: Release, user_id: int) -> tuple[np.ndarray, str]:
        return release.popular, "popular"

    def _ranked(self, release: Release, table: np.ndarray) -> tuple[np.ndarray, str]:
        self.faults.strike("ranker")
        return release.score(table), "ranker"

    def _as_retrieved(self, release: Release, table: np.ndarray) -> tuple[np.ndarray, str]:
        return table[:, SIMILARITY], "retrieval"


def popular_answer(release: Release, k: int) -> Answer:
    """Answer from the popular videos in their order, without store, index, ranker or chance.

    At most k videos, of one creator no more than two: the rules of the list hold for it as well.
    """
    start = time.perf_counter()
    popular = release.popular
    ids = best(popular, -np.arange(len(popular)), k, release.creators[popular], CREATOR_CAP)
    return Answer(
        ids=ids,
        propensities=np.ones(len(ids)),
        table=np.full((len(ids), len(COLUMNS)), np.nan, dtype="float32"),
        policy="popular",
        profile="none",
        version=release.version,
        milliseconds={"policy": 1000 * (time.perf_counter() - start)},
    )


def choose(
    release: Release, request_id: int, ids: np.ndarray, scores: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the candidates to show, best first, and the propensity of each at its place.

    The best `POOL` candidates, at most `CREATOR_CAP` of a creator, are ordered by `score_policy`, which
    leaves the order to chance in the share `epsilon` of the requests. So the propensities are exact, and any
    order keeps the cap.
    """
    pool = best(np.arange(len(ids)), scores, POOL, release.creators[ids], CREATOR_CAP)
    policy = score_policy(lambda requests, rows: scores[rows], release.epsilon)
    requests = {"request_id": pd.RangeIndex(request_id, request_id + 1)}  # to make a table takes far longer
    ranked, propensities = policy(requests, pool[None])
    return ranked[0, :k], propensities[0, :k]
