"""The systems of the notebooks as designs: their stages, seams and numbers, for any load."""

import math
from collections.abc import Mapping
from typing import Any

from helpers.architecture import Design, Latency, Seam, Stage

SECONDS_A_DAY = 86_400
CORES_A_MACHINE = 32
BESIDE = {"retrieve": ("retrieve",), "features": ("features", "rank")}  # state -> stages on its machines
PROFILE_READ = Latency.assumed(2, 10, "a read in the same data center")

OFFLINE = (
    Stage("impression log", path="offline", state="90 days of rows", state_bytes=7e14),
    Stage("feature pipeline", path="offline", after="impression log", state="features as of each row"),
    Stage("training", path="offline", after="feature pipeline", state="trees and towers"),
    Stage("index build", path="offline", after="training", state="index"),
)
SEAMS = (
    Seam("label", "choose", "impression log", "position, propensity, versions"),
    Seam("feature", "feature pipeline", "features", "one definition, as of one moment"),
    Seam("model", "training", "rank", "schema and version"),
    Seam("model", "index build", "retrieve", "paired with its query tower"),
)


def video_recommendation(
    measured: Mapping[str, Latency],
    *,
    dau: float = 2e8,
    requests_a_day: float = 10,
    videos: float = 1e9,
    k: float = 500,
    peak_factor: float = 2.5,
    index_bytes: float = 20,
    feature_bytes: float = 96,
    **whole: Any,
) -> Design:
    """Return the design of a two-stage video recommender for a load.

    measured: latencies of "retrieve", "features", "score" and "choose", with 500 candidates where K matters.
    dau: users a day. requests_a_day: of each user. k: candidates. peak_factor: peak over mean rate.
    index_bytes, feature_bytes: of one video; each machine of 32 cores that works on them holds them all.
    whole: other settings of the `Design`, such as budget_ms.

    Raises ValueError when a latency is missing, or the design contradicts itself, as `Design` does.
    """
    if missing := {"retrieve", "features", "score", "choose"} - set(measured):
        raise ValueError(f"No latency for {', '.join(sorted(missing))}: measure it, or assume one.")
    peak = dau * requests_a_day / SECONDS_A_DAY * peak_factor
    holds = {"index": index_bytes * videos, "features": feature_bytes * videos}
    load = {"peak_qps": peak, "peak_factor": peak_factor}
    alone = Design("video recommendation", _request_path(measured, videos, k, holds), **load)
    copies = {name: _machines(alone, *names) for name, names in BESIDE.items()}
    path = (*_request_path(measured, videos, k, holds, copies), *OFFLINE)
    return Design("video recommendation", path, SEAMS, **load, **whole)


def _machines(design: Design, *stages: str) -> int:
    """Return how many machines some stages need at the peak, at least two: each one holds a copy."""
    needs = design.needs()
    return max(2, math.ceil(sum(needs[stage]["cores"].magnitude for stage in stages) / CORES_A_MACHINE))


def _request_path(
    measured: Mapping[str, Latency],
    videos: float,
    k: float,
    holds: Mapping[str, float],
    copies: Mapping[str, int] | None = None,
) -> tuple[Stage, ...]:
    """The online stages. A step that was measured in one thread keeps a core busy for its median.

    holds: bytes of one copy of the index and of the features. copies: how many of each; default: two.
    """
    copies = copies or dict.fromkeys(BESIDE, 2)

    def step(name: str) -> dict[str, Any]:
        return {"latency": measured[name], "core_ms": measured[name].p50}

    return (
        Stage(
            "user state",
            latency=PROFILE_READ,
            core_ms=0.1,
            bytes_per_request=2_000,
            state="profiles",
            state_bytes=1e12,
            owner="data platform",
            failure="late",
            fallback="last night's profile",
        ),
        Stage(
            "retrieve",
            after="user state",
            items_in=videos,
            items_out=k,
            state="index",
            state_bytes=holds["index"],
            replicas=copies["retrieve"],
            owner="retrieval",
            failure="down",
            fallback="popular videos",
            **step("retrieve"),
        ),
        Stage(
            "features",
            after="retrieve",
            at_items=500,
            state="features",
            state_bytes=holds["features"],
            replicas=copies["features"],
            owner="data platform",
            failure="down",
            fallback="features that do not change",
            **step("features"),
        ),
        Stage(
            "rank",
            after="features",
            at_items=500,
            state="trees",
            state_bytes=1e6,
            owner="ranking",
            failure="late",
            fallback="order of the index",
            **step("score"),
        ),
        Stage(
            "choose",
            after="rank",
            items_out=10,
            owner="product",
            failure="wrong rule",
            fallback="last good rules",
            **step("choose"),
        ),
    )
