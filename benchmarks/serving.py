"""The service over a hundred thousand videos: what its stages alone allow, closed and open loops, a release.

The service and the load share this machine, so with two cores each has one. Each loop is repeated, and the
table shows the median of the repetitions beside the lowest and the highest: other programs on the machine
show up there, and in the load average. A release is published and rolled back while the last loop runs.

    python benchmarks/serving.py              # about 4 minutes, 2 GiB
    python benchmarks/serving.py --quick      # a small catalog, short loops
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from helpers.load import closed_loop, open_loop, percentiles
from helpers.releases import Release, build_release, fill_store, load_release, publish, rollback
from helpers.request_path import RequestPath
from helpers.serving import Service
from helpers.simulator import Platform, random_policy

DAYS = 5  # of the log that the release learns from


@dataclass(frozen=True)
class Plan:
    """How much to measure."""

    videos: int = 100_000
    users: int = 5_000
    rate: int = 200  # requests a second of the open loop
    seconds: float = 15.0
    repetitions: int = 5
    stage_requests: int = 1_000


QUICK = Plan(videos=2_000, users=1_000, rate=100, seconds=3.0, repetitions=2, stage_requests=200)


def prepare(plan: Plan, directory: Path) -> Release:
    """Build what the service serves: a release with at least so many videos, and its store."""
    platform = Platform(n_users=plan.users, n_videos=2 * plan.videos)  # half of them are there on day 0
    log = platform.simulate(random_policy(), DAYS)
    start = time.perf_counter()
    fill_store(platform, log, directory)
    filled = time.perf_counter()
    release = build_release(platform, log)
    publish(release, directory)
    built = time.perf_counter() - filled
    took = f"store {filled - start:.0f} s, release {built:.0f} s"
    print(f"{len(release.items):,} videos, {len(log):,} impressions: {took}", flush=True)
    return release


def stages_alone(plan: Plan, directory: Path) -> pd.DataFrame:
    """Milliseconds of the stages of a request, in this process, without HTTP; a row a request."""
    release, path = load_release(directory), RequestPath(directory)
    path.warm_up(release)
    users = np.random.default_rng(0).integers(plan.users, size=plan.stage_requests).tolist()
    with threadpool_limits(1):
        rows = [
            path.recommend(release, i, user, 10, release.as_of).milliseconds for i, user in enumerate(users)
        ]
    path.close()
    return pd.DataFrame(rows).assign(whole=lambda table: table.sum(axis=1))


def loops(
    plan: Plan, service: Service, release: Release
) -> Iterator[tuple[str, Callable[[int], pd.DataFrame]]]:
    """The loads, by name; each takes the number of the repetition."""
    users, numbers = range(plan.users), count(2)

    def publishing(seed: int) -> pd.DataFrame:
        newer = replace(release, version=str(next(numbers)))
        during = {
            plan.seconds / 3: lambda: publish(newer, service.directory),
            2 * plan.seconds / 3: lambda: rollback(service.directory),
        }
        return open_loop(service.url, plan.rate, plan.seconds, users, seed=seed, during=during)

    for clients in (1, 8):
        yield (
            f"closed, {clients} client{'s' * (clients > 1)}",
            lambda seed, clients=clients: closed_loop(service.url, clients, plan.seconds, users, seed=seed),
        )
    for rate in (plan.rate // 2, plan.rate):
        yield (
            f"open, {rate} a second",
            lambda seed, rate=rate: open_loop(service.url, rate, plan.seconds, users, seed=seed),
        )
    yield f"open, {plan.rate} a second, publish and roll back", publishing


def measured(plan: Plan, name: str, loop: Callable[[int], pd.DataFrame]) -> pd.DataFrame:
    """Repeat a load; a row a repetition."""
    rows = []
    for seed in range(plan.repetitions):
        table = loop(seed)
        degraded = (table["policy"] != "two-stage") | (table["profile"] != "live")
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else np.nan
        rows.append(percentiles(table).to_dict() | {"degraded": int(degraded.sum()), "load_average": load})
        print(f"  {name}: p99 {rows[-1]['p99_ms']:.1f} ms, failed {rows[-1]['failed']:.0f}", flush=True)
    return pd.DataFrame(rows).assign(load_on_it=name)


def spread(values: pd.Series) -> str:
    """The median of the repetitions, and the lowest and highest."""
    return f"{values.median():.1f} ({values.min():.1f} to {values.max():.1f})"


def report(rows: pd.DataFrame, stages: pd.DataFrame) -> None:
    """Print the tables."""
    print("\nStages alone, in one process, one request after the other, ms:")
    print(stages.quantile([0.5, 0.99]).round(2).to_string())
    columns = ["requests", "failed", "degraded", "a_second", "p50_ms", "p99_ms", "max_ms", "load_average"]
    print("\nThe service over HTTP: median (lowest to highest) of the repetitions")
    for name, runs in rows.groupby("load_on_it", sort=False):
        print(f"\n{name}")
        print(runs[columns].agg(spread).to_string())
    alone = 1_000 / stages["whole"].mean()
    closed = rows[rows["load_on_it"].str.startswith("closed, 8")]["a_second"]
    print(f"\nThe stages alone allow {alone:.0f} requests a second; over HTTP it was {spread(closed)}.")
    print(f"So HTTP, types, metrics and the log cost a factor of {spread(alone / closed)}.")


def main() -> None:
    """Build, serve, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a small catalog, short loops")
    plan = QUICK if parser.parse_args().quick else Plan()
    with TemporaryDirectory() as scratch:
        directory = Path(scratch)
        release = prepare(plan, directory)
        stages = stages_alone(plan, directory)
        with Service(directory) as service:
            rows = [measured(plan, name, loop) for name, loop in loops(plan, service, release)]
        stages = pd.concat([stages, stages_alone(plan, directory)])  # before and after: the machine changes
    report(pd.concat(rows), stages)


if __name__ == "__main__":
    main()
