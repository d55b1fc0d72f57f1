"""The full feature table of 1, 3 and 10 million impressions, by DuckDB and pandas; reads of the online store.

Each run is a process of its own that reads the same log from a parquet file; its peak memory is that of the
whole process, with Python, the libraries and the log. pandas is vectorized: cumulative sums, and `rolling`
with `closed="left"`. Where it would take too long, its time is extrapolated and marked with ~.

    python benchmarks/features.py            # 10 to 15 minutes on two cores, most of it pandas
    python benchmarks/features.py 0.1 0.3    # other sizes, in millions
"""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from helpers.feature_store import OnlineStore
from helpers.features import FEATURES, offline_features
from helpers.simulator import Platform, random_policy

MILLIONS = [1, 3, 10]
PANDAS_MILLIONS = 3  # at most; beyond, its time is extrapolated in proportion to the rows
WATCH_SHARE = "watch_seconds / duration_seconds"
READS, VIDEOS, BATCH = 5_000, 20, 500


def write_tables(folder: Path, rows: int) -> None:
    """Simulate a platform for as many days as give so many impressions."""
    platform = Platform(n_users=200_000, n_videos=20_000, n_creators=2_000, days=14)
    log = pd.DataFrame()
    for day in range(14):
        if len(log) < rows:
            log = pd.concat([log, platform.simulate(random_policy(), days=range(day, day + 1))])
    log.head(rows).reset_index(drop=True).to_parquet(folder / "log.parquet")
    platform.users.to_parquet(folder / "users.parquet")
    platform.videos.to_parquet(folder / "videos.parquet")


def read_tables(folder: Path, rows: int) -> list[pd.DataFrame]:
    """The first rows of the log, the users and the videos."""
    log = pd.read_parquet(folder / "log.parquet").head(rows)
    return [log, *(pd.read_parquet(folder / f"{name}.parquet") for name in ("users", "videos"))]


# ---------------------------------------------------------------- pandas


def pandas_features(log: pd.DataFrame, users: pd.DataFrame, videos: pd.DataFrame) -> pd.DataFrame:
    """The same features, as a pandas user would write them for many rows; the log is in order of time."""
    events = log.merge(users, on="user_id").merge(videos, on="video_id", suffixes=("_user", "_video"))
    events = events.assign(clicks=events["clicked"].astype(float), n=1.0)
    events["watched"] = events["watch_seconds"].astype(float) / events["duration_seconds"].astype(float)
    table = {
        "user_age_band": events["age_band"],
        "user_country": events["country"],
        "user_device": events["device"],
        "user_language": events["language_user"],
        "video_topic": events["topic"],
        "video_duration_seconds": events["duration_seconds"],
        "video_language": events["language_video"],
        "video_age_seconds": (events["timestamp"] - events["uploaded_at"]).dt.total_seconds(),
    }
    table |= pandas_totals(events) | pandas_windows(events)
    seen = events.drop_duplicates(["user_id", "timestamp"])
    events["last"] = seen.groupby("user_id")["timestamp"].shift()
    events["last"] = events.groupby(["user_id", "timestamp"])["last"].transform("first")
    table["seconds_since_impression"] = (events["timestamp"] - events["last"]).dt.total_seconds()
    return pd.DataFrame(table)[[f.name for f in FEATURES]]


def before(events: pd.DataFrame, key: str) -> pd.DataFrame:
    """Sums over the earlier events of the key; the events of one timestamp do not see each other."""
    columns = ["n", "clicks", "watched"]
    at_once = events.groupby([key, "timestamp"], sort=True)[columns].sum()
    earlier = at_once.groupby(level=0).cumsum() - at_once
    return events[[key, "timestamp"]].merge(earlier, left_on=[key, "timestamp"], right_index=True)[columns]


def pandas_totals(events: pd.DataFrame) -> dict[str, pd.Series]:
    """The features over all earlier events."""
    table = {}
    for name in ("user", "video", "creator"):
        sums = before(events, f"{name}_id")
        table[f"{name}_impressions"] = sums["n"]
        table[f"{name}_ctr"] = (sums["clicks"] + 2) / (sums["n"] + 20)
        table[f"{name}_watch_share"] = sums["watched"] / sums["n"].where(sums["n"] > 0)
    return table


def pandas_windows(events: pd.DataFrame) -> dict[str, pd.Series]:
    """The features over the last 5 minutes; topics as indicators, for rolling has no distinct count."""
    topics = pd.get_dummies(events["topic"], dtype=float)
    wide = pd.concat([events[["user_id", "timestamp", "n", "clicks", "watched"]], topics], axis=1)
    wide = wide.sort_values(["user_id", "timestamp"], kind="stable")
    rolling = wide.groupby("user_id", sort=True).rolling("5min", on="timestamp", closed="left")
    sums = rolling[["n", "clicks", "watched", *topics]].sum().fillna(0).set_axis(wide.index).loc[events.index]
    own = sums[topics.columns].to_numpy()[np.arange(len(events)), topics.columns.get_indexer(events["topic"])]
    some = sums["n"].where(sums["n"] > 0)
    return {
        "impressions_5min": sums["n"],
        "clicks_5min": sums["clicks"],
        "watch_share_5min": sums["watched"] / some,
        "topics_5min": (sums[topics.columns] > 0.5).sum(axis=1).astype(float),
        "topic_share_5min": own / some,
    }


# ---------------------------------------------------------------- measuring


def run(engine: str, folder: Path, rows: int, connection: multiprocessing.connection.Connection) -> None:
    """Compute the table once; send wall and CPU seconds, peak GB, and the sum of each feature."""
    tables = read_tables(folder, rows)
    start, cpu_start = time.perf_counter(), time.process_time()
    table = {"DuckDB": offline_features, "pandas": pandas_features}[engine](*tables)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    unit = 1 if sys.platform == "darwin" else 1024  # bytes
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9
    connection.send((seconds, cpu_seconds, gigabytes, table.select_dtypes("number").sum().to_dict()))


def in_process(target: Callable[..., None], *arguments: object) -> tuple:
    """What the function sends from a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sender))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def measure(folder: Path, rows: int) -> dict[str, object]:
    """The row of one size."""
    seconds, cpu, gigabytes, sums = in_process(run, "DuckDB", folder, rows)
    line = {
        "impressions": f"{rows:,}",
        "DuckDB s": f"{seconds:.1f}",
        "CPU s": f"{cpu:.1f}",
        "GB": f"{gigabytes:.1f}",
    }
    if rows > PANDAS_MILLIONS * 1e6:
        return line
    other, _, other_gigabytes, other_sums = in_process(run, "pandas", folder, rows)
    for name, value in sums.items():
        if not np.isclose(value, other_sums[name], rtol=1e-6):
            raise AssertionError(f"{name}: DuckDB sums to {value}, pandas to {other_sums[name]}.")
    return line | {
        "pandas s": f"{other:.1f}",
        "pandas GB": f"{other_gigabytes:.1f}",
        "ratio": f"{other / seconds:.1f}",
    }


def extrapolate(lines: list[dict], millions: list[float]) -> None:
    """Fill in, marked with ~, what pandas would need for the sizes that it was spared."""
    measured = [i for i, line in enumerate(lines) if "pandas s" in line]
    for i, line in enumerate(lines):
        if measured and i not in measured:
            factor = millions[i] / millions[measured[-1]]
            seconds, gigabytes = (
                factor * float(lines[measured[-1]][name]) for name in ("pandas s", "pandas GB")
            )
            line |= {"pandas s": f"~{seconds:.0f}", "pandas GB": f"~{gigabytes:.0f}"}
            line |= {"ratio": f"~{seconds / float(line['DuckDB s']):.1f}"}


# ---------------------------------------------------------------- online


def write_forever(path: Path, log: pd.DataFrame, started: Event, stop: Event) -> None:
    """Apply batch after batch until told to stop; print the rate."""
    applied, start = 0, time.perf_counter()
    with OnlineStore(path) as store:
        for first in range(0, len(log), BATCH):
            if stop.is_set():
                break
            applied += store.update(log.iloc[first : first + BATCH]).applied
            started.set()
    print(f"writer: {applied / (time.perf_counter() - start):,.0f} events a second in batches of {BATCH}")


def read_times(store: OnlineStore, users: np.ndarray, n_videos: int, at: pd.Timestamp) -> str:
    """Median and 99th percentile of the time to read a user with some videos, in ms."""
    rng, times = np.random.default_rng(0), []
    for user in rng.choice(users, READS).tolist():
        videos = rng.choice(20_000, n_videos, replace=False).tolist()
        start = time.perf_counter()
        store.read(user, videos, at)
        times.append(1_000 * (time.perf_counter() - start))
    p50, p99 = np.percentile(times, [50, 99])
    return f"p50 {p50:.2f} ms, p99 {p99:.2f} ms"


def online(folder: Path) -> None:
    """Read while nobody writes, and while another process writes as fast as it can."""
    log, users, videos = read_tables(folder, 600_000)
    first = len(log) // 3
    context, path = multiprocessing.get_context("spawn"), folder / "store.db"
    with OnlineStore(path) as store:
        store.put(users, videos)
        store.update(log.head(first))
        ask = partial(read_times, store, log["user_id"].unique())
        for n in (1, VIDEOS):
            print(f"read of {n} videos, nobody writes: {ask(n, log['timestamp'].iloc[first])}")
        started, stop = context.Event(), context.Event()
        writer = context.Process(target=write_forever, args=(path, log.iloc[first:], started, stop))
        writer.start()
        started.wait()
        for n in (1, VIDEOS):
            print(f"read of {n} videos, another process writes: {ask(n, log['timestamp'].iloc[-1])}")
        stop.set()
        writer.join()
    print(f"file: {path.stat().st_size / 1e6:.0f} MB")


def main() -> None:
    """Print both tables."""
    millions = [*map(float, sys.argv[1:])] or MILLIONS
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, int(max(millions) * 1e6))
        lines = [measure(folder, int(size * 1e6)) for size in millions]
        extrapolate(lines, millions)
        print(f"{len(FEATURES)} features; GB: peak memory of the process; CPU s: of all its threads\n")
        print(pd.DataFrame(lines).to_string(index=False), "\n")
        online(folder)


if __name__ == "__main__":
    main()
