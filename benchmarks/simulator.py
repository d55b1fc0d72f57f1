"""How many impressions a second the platform simulates on one core, beside a Python loop of the same model.

Both do the same work: offer candidates, rank, react, write the log. The loop does a part of the requests; its
time is extrapolated to all of them and marked ~. Memory is measured in a run of its own.
"""

import math
import os
import random
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pandas as pd

from helpers import world
from helpers.simulator import Platform, Policy, random_policy

DAYS = 7
REPEATS = 7
LOOP_REQUESTS = 2_000


def one_core() -> None:
    """Keep this process on one core, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def seconds(function: Callable[[], object]) -> np.ndarray:
    """Wall time of each call."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return np.array(times)


def peak_bytes(function: Callable[[], object]) -> int:
    """The most memory that Python and numpy held during the call."""
    tracemalloc.start()
    function()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


# ---------------------------------------------------------------- the same model in plain Python


def sigmoid(x: float) -> float:
    """The logistic function."""
    return 1 / (1 + math.exp(-x))


class Loop:
    """The platform, one impression after the other, on lists and floats."""

    def __init__(self, platform: Platform) -> None:
        """Turn the columns of the world into lists."""
        self.n_candidates, self.n_slots = platform.n_candidates, platform.n_slots
        self.day, self.available = DAYS - 1, int(platform.n_available(DAYS - 1))
        everyone, topics = np.arange(platform.n_users)[:, None], np.arange(platform.n_topics)
        self.taste = platform.taste(everyone, topics, self.day).tolist()
        self.speaks = platform.users["language"].tolist()
        self.videos = platform.videos.drop(columns="uploaded_at").to_dict("records")
        uploaded = (platform.videos["uploaded_at"] - world.START) / pd.Timedelta(days=1)
        for video, day in zip(self.videos, uploaded, strict=True):
            video["upload_day"] = day

    def affinity(self, user: int, video: dict, mood: int) -> float:
        """How well a video fits."""
        fit = self.taste[user][video["topic"]] + world.MOOD * (video["topic"] == mood)
        return fit - world.FOREIGN * (self.speaks[user] != video["language"])

    def click(self, affinity: float, video: dict) -> float:
        """P(click | examined)."""
        faded = world.FADE * math.log1p(self.day - video["upload_day"])
        return sigmoid(world.CLICK + affinity + world.CLICKBAIT * video["clickbait"] - faded)

    def satisfied(self, affinity: float, video: dict) -> float:
        """P(satisfied | click)."""
        worth = world.QUALITY * (video["quality"] - 0.5) - world.DISAPPOINTMENT * video["clickbait"]
        return sigmoid(world.SATISFIED + affinity + worth)

    def react(self, user: int, video: dict, position: int, mood: int) -> tuple[bool, float, bool, bool]:
        """Clicked, seconds watched, liked, dismissed."""
        affinity = self.affinity(user, video, mood)
        if random.random() >= position**-world.EXAMINATION * self.click(affinity, video):
            return False, 0.0, False, False
        satisfied = random.random() < self.satisfied(affinity, video)
        haste = video["duration_seconds"] / world.PATIENCE_SECONDS + world.HURRY * (not satisfied)
        watched = video["duration_seconds"] * random.random() ** haste
        liked = satisfied and random.random() < world.LIKE
        return True, watched, liked, not satisfied and random.random() < world.DISMISS

    def shuffled(self, user: int, mood: int, candidates: list[int]) -> tuple[list[int], list[float]]:
        """The ranking of the random policy and its propensities."""
        return random.sample(candidates, len(candidates)), [1 / len(candidates)] * len(candidates)

    def by_click(self, user: int, mood: int, candidates: list[int]) -> tuple[list[int], list[float]]:
        """The ranking of the oracle for clicks and its propensities."""
        score = {v: self.click(self.affinity(user, self.videos[v], mood), self.videos[v]) for v in candidates}
        return sorted(candidates, key=score.get, reverse=True), [1.0] * len(candidates)

    def log(self, requests: list[tuple], rank: Callable) -> list[tuple]:
        """The impression log of (request_id, timestamp, user_id, mood)."""
        rows = []
        for request_id, timestamp, user, mood in requests:
            candidates = random.sample(range(self.available), self.n_candidates)
            ranked, propensities = rank(user, mood, candidates)
            for k in range(self.n_slots):
                outcome = self.react(user, self.videos[ranked[k]], k + 1, mood)
                shown = (timestamp, request_id, user, ranked[k], k + 1, propensities[k])
                rows.append((*shown, *outcome, "policy", "1"))
        return rows


# ---------------------------------------------------------------- the table


def rows(platform: Platform, name: str, policy: Policy, rank: Callable, loop: Loop) -> list[dict]:
    """Two lines of the table: the platform and the loop under one policy."""
    log = platform.simulate(policy, DAYS)
    fast = seconds(lambda: platform.simulate(policy, DAYS)) / len(log)
    requests = list(platform.requests(DAYS - 1)[:LOOP_REQUESTS].itertuples(index=False, name=None))
    slow = seconds(lambda: loop.log(requests, rank)) / (len(requests) * platform.n_slots)
    ratio = np.quantile(slow[:, None] / fast, [0, 0.5, 1])
    last = log[log["request_id"].isin([request[0] for request in requests])]
    clicked = [row[6] for row in loop.log(requests, rank)]
    peak = peak_bytes(lambda: platform.simulate(policy, DAYS))
    return [
        line(f"{name}, platform", fast, len(log), "", last["clicked"].mean())
        | {
            "bytes a row": f"{log.memory_usage().sum() / len(log):.0f}",
            "peak, bytes a row": f"{peak / len(log):.0f}",
        },
        line(f"{name}, Python loop", slow, len(log), "~", np.mean(clicked))
        | {"times slower: min / median / max": " / ".join(f"{value:.0f}" for value in ratio)},
    ]


def line(name: str, each: np.ndarray, n: int, mark: str, clicked: float) -> dict:
    """Speed over the repeats, from the seconds that each impression took."""
    low, middle, high = np.quantile(1 / each, [0, 0.5, 1])
    return {
        "policy, how": name,
        "impressions": f"{n:,}",
        "s, median": f"{mark}{np.median(each) * n:.2f}",
        "impressions/s: min / median / max": f"{low:,.0f} / {middle:,.0f} / {high:,.0f}",
        "clicked": f"{clicked:.4f}",
    }


def main() -> None:
    """Print the table, and how long an experiment of eight weeks takes."""
    one_core()
    platform = Platform()
    loop = Loop(platform)
    table = [
        *rows(platform, "random", random_policy(), loop.shuffled, loop),
        *rows(platform, "oracle for clicks", platform.oracle_policy("click"), loop.by_click, loop),
    ]
    print(
        f"{platform.n_users:,} users, {DAYS} days, {platform.n_slots} of {platform.n_candidates} candidates"
    )
    print(f"one core, {REPEATS} repeats; ~ extrapolated from {LOOP_REQUESTS:,} requests\n")
    print(pd.DataFrame(table).fillna("").to_string(index=False))
    arms = {name: platform.oracle_policy(name) for name in ("click", "satisfaction")}
    start = time.perf_counter()
    panel = platform.run_experiment(arms, platform.days)
    took = time.perf_counter() - start
    impressions = f"{panel['requests'].sum() * platform.n_slots:,.0f} impressions"
    print(f"\nrun_experiment, 2 arms, {platform.days} days, {impressions}: {took:.1f} s")


if __name__ == "__main__":
    main()
