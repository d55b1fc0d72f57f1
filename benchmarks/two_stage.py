"""A whole request in two stages, from ten thousand to a billion videos, beside brute force and one model.

A request: user vector -> 500 candidates -> 30 features each -> 200 boosted trees -> top 10, at most 2 of one
creator; one thread. Each size is measured in a process of its own and added to
benchmarks/results/two_stage.csv; what is there already, of the same machine, is not measured again. Beside
it: brute force with NumPy, and the same trees over the whole catalog, measured up to a size and extrapolated
in proportion beyond: the CSV says which. At one size, the same request written in other ways
(two_stage_variants.csv), and vectors without structure, for which an index helps little.

The videos are synthetic; `helpers.catalog` says what that means for recall. From 100 million on they exceed
memory: their features and vectors are computed from the seed when a request asks, which stands for reading
them from a store; and the list of a video is known without a search, which a real build pays for (column
`assignments_a_second`, for one core).

    python benchmarks/two_stage.py                       # 10k to 10M: about 8 minutes, 8 GiB
    python benchmarks/two_stage.py --sizes 1e8           # 4 minutes, 3 GiB
    python benchmarks/two_stage.py --billion             # 15 minutes, 20 GiB
    python benchmarks/two_stage.py --quick               # 10k and 100k, few requests, nothing saved
"""

import argparse
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import faiss
import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from helpers.catalog import Catalog
from helpers.large_index import LargeIndex, assignment_rate, exact_search
from helpers.retrieval import ExactIndex, FaissIndex, recall
from helpers.two_stage import TwoStage, best

RESULTS = Path(__file__).parent / "results"
CANDIDATES, SHOWN, CREATOR_CAP = 500, 10, 2
TREES, LEAVES, USER_COLUMNS = 200, 31, 5
SIZES = [10**4, 10**5, 10**6, 10**7]
IN_MEMORY = 10**7  # videos; beyond, vectors and features are computed when asked for
RANK_ALL_MEASURED = 10**6  # videos; beyond, to rank everything is extrapolated
VARIANTS_AT = 10**6
CHUNK = 2**17
GIB = 2**30
VERSIONS = ["numpy", "faiss-cpu", "lightgbm"]
MACHINE = ["cpu", "cores"]
KNOWN = ["videos", "spread", *MACHINE, *VERSIONS]  # what makes a measurement the same


class Job(NamedTuple):
    """A catalog to measure."""

    videos: int
    spread: str = "mixture"


@dataclass(frozen=True)
class Plan:
    """How many requests to time, and how many queries to take the recall from."""

    requests: int = 1_000
    slow: int = 50  # of the variants
    queries: int = 200
    users: int = 400  # whose clicks train the ranker


UNIFORM = Job(10**6, "uniform")
QUICK = Plan(requests=100, slow=10, queries=20, users=100)

# ---------------------------------------------------------------- memory and machine


def lines_of(path: str) -> dict[str, str]:
    """A file of lines "name: value", if this system has it."""
    if not Path(path).exists():
        return {}
    pairs = (line.split(":", 1) for line in Path(path).read_text().splitlines() if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def total_bytes() -> int:
    """Memory of the machine; 0 where the system does not tell."""
    known = hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 0


def free_bytes() -> int:
    """Memory that can still be had: what Linux calls available, elsewhere all of the machine's."""
    available = lines_of("/proc/meminfo").get("MemAvailable")
    return int(available.split()[0]) * 1024 if available else total_bytes()


def resident_bytes() -> float:
    """Memory of this process now; unknown where the system has no /proc."""
    resident = lines_of("/proc/self/status").get("VmRSS")
    return int(resident.split()[0]) * 1024 if resident else np.nan


def needed_bytes(n: int) -> int:
    """Memory that a run needs at its peak; from 100 million on mostly 8 bytes of code and 8 of id a video."""
    return GIB + (700 if n <= IN_MEMORY else 18) * n


def refuse_if_short(n: int) -> None:
    """Stop before the system has to: raises MemoryError when a run would not fit."""
    if needed_bytes(n) > free_bytes():
        raise MemoryError(
            f"{n:,} videos need about {needed_bytes(n) / GIB:.1f} GiB, and {free_bytes() / GIB:.1f} GiB are "
            f"free: close other programs, or choose a smaller size with --sizes."
        )


def machine() -> dict[str, object]:
    """Date, processor, memory and versions of a row."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": lines_of("/proc/cpuinfo").get("model name") or platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(total_bytes() / GIB),
        "python": platform.python_version(),
        **{name: version(name) for name in VERSIONS},
    }


# ---------------------------------------------------------------- the system


@dataclass
class Store:
    """The vectors and item features of a catalog: in memory if they fit, else computed when asked for."""

    catalog: Catalog

    def __post_init__(self) -> None:
        """Fill the tables of a catalog that fits into memory."""
        self.in_memory = len(self.catalog) <= IN_MEMORY
        if self.in_memory:
            self.vectors = self._table(self.catalog.vectors, self.catalog.dims, "vectors")
            self.table = self._table(self.catalog.features, len(self.catalog.feature_names), "features")

    def _table(self, rows: Callable[[np.ndarray], np.ndarray], columns: int, what: str) -> np.ndarray:
        table = np.empty((len(self.catalog), columns), dtype="float32")
        for ids in chunks(len(self.catalog), what):
            table[ids] = rows(ids)
        return table

    def features(self, ids: np.ndarray) -> np.ndarray:
        """The item features of some videos."""
        return self.table[ids] if self.in_memory else self.catalog.features(ids)


def chunks(n: int, what: str) -> Iterator[np.ndarray]:
    """The ids 0 to n - 1 in chunks, with a progress bar."""
    for start in tqdm(range(0, n, CHUNK), what, unit="chunk", disable=n <= CHUNK):
        yield np.arange(start, min(start + CHUNK, n))


def joined(query: np.ndarray, items: np.ndarray, similarities: np.ndarray) -> np.ndarray:
    """The table that the ranker reads: item features, inner product, and 5 numbers of the user."""
    table = np.empty((len(items), items.shape[1] + 1 + USER_COLUMNS), dtype="float32")
    table[:, : items.shape[1]], table[:, items.shape[1]] = items, similarities
    table[:, -USER_COLUMNS:] = query[:USER_COLUMNS]
    return table


def index_for(job: Job) -> ExactIndex | FaissIndex | LargeIndex:
    """The index of each size, not yet fitted."""
    if job.videos <= 20_000:
        return ExactIndex()
    if job.videos > IN_MEMORY:
        return LargeIndex()
    lists = 2 ** round(np.log2(4 * np.sqrt(job.videos)))
    # A mixture has 16 directions, and `PCA16` finds them; without structure all 64 are needed.
    factory = f"PCA16,IVF{lists},PQ16x4fsr" if job.spread == "mixture" else f"IVF{lists},PQ32x4fsr"
    return FaissIndex(factory, train_rows=50 * lists)


def settings(job: Job) -> list[tuple[int, int]]:
    """The pairs of nprobe and shortlist to measure; the same index serves them all."""
    if job.videos > 2 * 10**8:
        return [(64, 2_000), (256, 5_000), (512, 10_000)]
    if job.videos > IN_MEMORY:
        return [(256, 2_000), (1_024, 5_000)]
    if job.spread == "uniform":
        return [(160, 1_000), (2_048, 5_000)]
    return [(160, 1_000)] if job.videos <= 10**6 else [(256, 2_000)]


def label(index: ExactIndex | FaissIndex | LargeIndex) -> str:
    """What the CSV calls an index."""
    if isinstance(index, ExactIndex):
        return "exact"
    if isinstance(index, FaissIndex):
        return f"{index.factory}+{index.refine}, nprobe {index.nprobe}, shortlist {index.shortlist}"
    return f"IVF,{index.directions}x4fs+exact, nprobe {index.nprobe}, shortlist {index.shortlist}"


def trained(
    store: Store, retrieve: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], plan: Plan
) -> LGBMClassifier:
    """A ranker of clicks on candidates, shown to users at random."""
    rng, tables, clicks = np.random.default_rng(0), [], []
    for query in store.catalog.queries(plan.users, seed=1):
        ids, similarities = retrieve(query)
        shown = rng.choice(np.flatnonzero(ids >= 0), 150)
        tables.append(joined(query, store.features(ids[shown]), similarities[shown]))
        clicks.append(rng.random(150) < store.catalog.true_click_probability(query, ids[shown]))
    model = LGBMClassifier(
        n_estimators=TREES, num_leaves=LEAVES, learning_rate=0.05, n_jobs=1, random_state=0, verbose=-1
    )
    return model.fit(np.concatenate(tables), np.concatenate(clicks))


def two_stages(
    store: Store, index: ExactIndex | FaissIndex | LargeIndex, plan: Plan
) -> tuple[TwoStage, LGBMClassifier]:
    """The system and its ranker."""

    def retrieve(query: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return index.search(query, CANDIDATES)

    model = trained(store, retrieve, plan)
    predict = model.booster_.predict
    system = TwoStage(
        retrieve=retrieve,
        features=lambda query, ids, similarities: joined(query, store.features(ids), similarities),
        score=lambda table: predict(table, num_threads=1),
        choose=lambda ids, scores: best(ids, scores, SHOWN, store.catalog.creators(ids), CREATOR_CAP),
    )
    return system, model


# ---------------------------------------------------------------- measuring


def measure(job: Job, plan: Plan, connection: multiprocessing.connection.Connection) -> None:
    """Measure one catalog; send the rows of the CSV and the rows of the variants."""
    store, index = Store(Catalog(job.videos, spread=job.spread)), index_for(job)
    build_s = seconds(index.fit, *([store.vectors] if store.in_memory else [store.catalog, 0, True]))
    built = {"build_s": build_s, "index_bytes_a_video": index.nbytes / job.videos}
    built |= {"resident_gib": resident_bytes() / GIB}
    faiss.omp_set_num_threads(1)  # from here on one request at a time is served
    queries = store.catalog.queries(plan.queries if store.in_memory else plan.queries // 2, seed=2)
    truth, row = brute_force(store, queries)
    rows, others = [], []
    with threadpool_limits(1):
        system, model = two_stages(store, index, plan)
    if job.videos <= RANK_ALL_MEASURED:
        row |= {"rank_all_s": seconds(rank_all, store, model, queries[0])}
    with threadpool_limits(1):
        for index.nprobe, index.shortlist in settings(job):
            found = quality_of_retrieval(index, queries, truth) | latencies(system, store.catalog, plan)
            found |= quality_of_lists(system, store, queries)
            rows.append(machine() | job._asdict() | {"index": label(index)} | built | row | found)
        if job == Job(VARIANTS_AT):
            others = [machine() | other for other in in_other_ways(system, model, store, plan)]
    connection.send((rows, others))


def brute_force(store: Store, queries: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The true best of each query; how long one takes with NumPy, or how many videos a core can assign."""
    with threadpool_limits(1):
        if store.in_memory:
            truth, milliseconds = searched(ExactIndex().fit(store.vectors), queries, "exact search")
            return truth, {"brute_p50_ms": np.median(milliseconds)}
        row = {"assignments_a_second": assignment_rate(store.catalog)}
    return exact_search(store.catalog, queries, CANDIDATES, progress=True)[0], row


def quality_of_retrieval(index: object, queries: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Recall at 10, 100 and 500 against exact search, with an interval at 100; ms of the index alone."""
    index.search(queries[0], CANDIDATES)  # warm
    found, milliseconds = searched(index, queries, "index search")
    at = {k: recall(found, truth, k) for k in (10, 100, 500)}
    row = {"index_p50_ms": np.median(milliseconds), "index_p99_ms": np.quantile(milliseconds, 0.99)}
    row |= {f"recall_{k}": interval.estimate for k, interval in at.items()}
    return row | {"recall_100_low": at[100].low, "recall_100_high": at[100].high}


def searched(index: object, queries: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """The ids found for each query, searched alone, and the milliseconds it took."""
    ids, milliseconds = [], []
    for query in tqdm(queries, what, unit="query"):
        start = time.perf_counter()
        ids.append(index.search(query, CANDIDATES)[0])
        milliseconds.append(1_000 * (time.perf_counter() - start))
    return np.array(ids), np.array(milliseconds)


def latencies(system: TwoStage, catalog: Catalog, plan: Plan) -> dict[str, float]:
    """Milliseconds of the steps and of the whole; requests a second with one thread a core.

    Also the load average: above the number of cores, others wanted them too, and the times say less.
    """
    warm, queries = catalog.queries(20, seed=3), catalog.queries(plan.requests, seed=4)
    system.measure(warm)
    table = system.measure(tqdm(queries, "requests"))
    row = {f"{name}_p50_ms": value for name, value in table.median().items()}
    row |= {f"{name}_p99_ms": table[name].quantile(0.99) for name in ("retrieve", "whole")}
    row |= {"load_average": os.getloadavg()[0] if hasattr(os, "getloadavg") else np.nan}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        start = time.perf_counter()
        list(pool.map(system.recommend, queries))
    return row | {
        "requests": plan.requests,
        "requests_a_second": plan.requests / (time.perf_counter() - start),
    }


def quality_of_lists(system: TwoStage, store: Store, queries: np.ndarray) -> dict[str, float]:
    """Mean true P(click) of the list: by inner product, by the ranker, and by the truth, same candidates."""
    catalog, sums = store.catalog, np.zeros(3)
    for query in queries:
        ids, similarities = system.retrieve(query)
        scores = system.score(system.features(query, ids, similarities))
        truth = catalog.true_click_probability(query, ids)
        lists = [system.choose(ids, values) for values in (similarities, scores, truth)]
        sums += [catalog.true_click_probability(query, shown).mean() for shown in lists]
    names = [f"clicks_by_{name}" for name in ("inner_product", "ranker", "truth")]
    return dict(zip(names, sums / len(queries), strict=True))


def seconds(function: Callable[..., object], *arguments: object) -> float:
    """Wall time of a call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def rank_all(store: Store, model: LGBMClassifier, query: np.ndarray) -> np.ndarray:
    """One model in one stage: features and scores of every video, the 10 best."""
    scores = np.empty(len(store.catalog))
    for ids in chunks(len(scores), "rank everything"):
        table = joined(query, store.table[ids], store.vectors[ids] @ query)
        scores[ids] = model.booster_.predict(table, num_threads=os.cpu_count())
    return np.argpartition(-scores, SHOWN)[:SHOWN]


# ---------------------------------------------------------------- the same request in other ways


def in_other_ways(
    system: TwoStage, model: LGBMClassifier, store: Store, plan: Plan
) -> list[dict[str, object]]:
    """The same index, the same trees, the same list; only the code between them differs."""
    exact = ExactIndex().fit(store.vectors)
    names = list(store.catalog.feature_names)
    frame = pd.DataFrame(store.table, columns=names).assign(video_id=np.arange(len(store.catalog)))
    users = [f"user_{i}" for i in range(USER_COLUMNS)]

    def merged(query: np.ndarray, ids: np.ndarray, similarities: np.ndarray) -> pd.DataFrame:
        rows = frame[frame["video_id"].isin(ids)]
        found = pd.DataFrame({"video_id": ids, "similarity": similarities})
        table = found.merge(rows, on="video_id")
        user = table.apply(lambda row: pd.Series(query[:USER_COLUMNS], users), axis="columns")
        return pd.concat([table[[*names, "similarity"]], user], axis="columns")

    def taken(query: np.ndarray, ids: np.ndarray, similarities: np.ndarray) -> pd.DataFrame:
        table = frame[names].take(ids).assign(similarity=similarities)
        return table.assign(**dict(zip(users, query[:USER_COLUMNS].tolist(), strict=True)))

    predict = model.booster_.predict
    ways = {
        "pandas: isin, merge, apply": replace(system, features=merged),
        "pandas: take, assign": replace(system, features=taken),
        "brute-force retrieval": replace(system, retrieve=lambda query: exact.search(query, CANDIDATES)),
        "one predict a row": replace(
            system, score=lambda table: np.array([predict(row[None], num_threads=1)[0] for row in table])
        ),
        "NumPy gather, one predict": system,
    }
    queries = store.catalog.queries(plan.slow, seed=7)
    return [{"way": name, **timed(way, queries)} for name, way in tqdm(ways.items(), "other ways")]


def timed(system: TwoStage, queries: np.ndarray) -> dict[str, float]:
    """Medians of the steps, and two percentiles of the whole, in ms."""
    system.measure(queries[:3])
    table = system.measure(queries)
    row = {f"{name}_p50_ms": value for name, value in table.median().items()}
    return row | {"whole_p99_ms": table["whole"].quantile(0.99), "requests": len(queries)}


# ---------------------------------------------------------------- results


def in_process(*arguments: object) -> tuple[list[dict], list[dict]]:
    """What `measure` sends from a process of its own: its memory is its own, and its threads do not spin."""
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(*arguments, sender))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise SystemExit("The measuring process died: its message is above.") from None
    finally:
        process.join()


def extrapolated(table: pd.DataFrame) -> pd.DataFrame:
    """Fill in, and mark, what was not measured on a machine: in proportion to the largest size that was."""
    for rival in ("brute_p50_ms", "rank_all_s"):
        table = table.reindex(columns=list(dict.fromkeys([*table.columns, rival, f"{rival}_is"])))
        table[rival] = table[rival].mask(table[f"{rival}_is"] == "extrapolated")
        table[f"{rival}_is"] = np.where(table[rival].isna(), "extrapolated", "measured")
        for _, rows in table[table["spread"] == "mixture"].groupby(MACHINE):
            known = rows.dropna(subset=rival).nlargest(1, "videos")
            a_video = (known[rival] / known["videos"]).mean()  # of one row; NaN if nothing was measured
            missing = rows.index[rows[rival].isna()]
            table.loc[missing, rival] = a_video * table.loc[missing, "videos"]
    return table.assign(times_faster=table["brute_p50_ms"] / table["index_p50_ms"])


def read(path: Path) -> pd.DataFrame:
    """What was measured before."""
    return (
        pd.read_csv(path, dtype=dict.fromkeys([*VERSIONS, "python"], str))
        if path.exists()
        else pd.DataFrame()
    )


def add(path: Path, rows: list[dict[str, object]], key: list[str]) -> None:
    """Put rows into a CSV, in the place of all those with the same key."""
    table = pd.DataFrame(rows)
    if path.exists():
        old, measured = read(path), pd.MultiIndex.from_frame(table[key])
        kept = old[~pd.MultiIndex.from_frame(old[key]).isin(measured)]
        table = pd.concat([kept, table], ignore_index=True)
    if "videos" in table:
        table = extrapolated(table.sort_values(["spread", "videos"], ignore_index=True))
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    table.to_csv(part, index=False, float_format="%.5g")
    part.replace(path)  # at once, so that Ctrl-C leaves the old or the new file, whole


def known(path: Path, job: Job) -> bool:
    """Whether the CSV has this job, by this machine and these versions."""
    table, row = read(path), machine()
    row |= job._asdict()
    return len(table) > 0 and bool(
        (table[KNOWN].astype(str) == [str(row[name]) for name in KNOWN]).all(axis=1).any()
    )


def report(path: Path) -> None:
    """Print the table of this machine."""
    columns = {
        "videos": "{:,.0f}",
        "spread": "{}",
        "build_s": "{:.0f}",
        "index_bytes_a_video": "{:.0f}",
        "resident_gib": "{:.1f}",
        "recall_100": "{:.3f}",
        "index_p50_ms": "{:.2f}",
        "whole_p50_ms": "{:.1f}",
        "whole_p99_ms": "{:.1f}",
        "requests_a_second": "{:.0f}",
        "brute_p50_ms": "{:,.1f}",
        "brute_p50_ms_is": "{}",
        "times_faster": "{:,.0f}",
        "rank_all_s": "{:,.1f}",
        "rank_all_s_is": "{}",
    }
    table = read(path)
    table = table[(table[MACHINE] == [machine()[name] for name in MACHINE]).all(axis=1)]
    text = {name: table[name].map(form.format) for name, form in columns.items()}
    print(pd.DataFrame(text).to_string(index=False))


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", type=lambda text: int(float(text)), nargs="+", metavar="N", help="videos")
    parser.add_argument("--billion", action="store_true", help="the same as --sizes 1e9")
    parser.add_argument("--quick", action="store_true", help="10k and 100k, few requests, nothing saved")
    parser.add_argument("--again", action="store_true", help="measure also what the CSV has")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for and is not known yet; print the tables."""
    options = arguments()
    plan = QUICK if options.quick else Plan()
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if options.quick else RESULTS
        for job in jobs(options):
            if options.again or not known(folder / "two_stage.csv", job):
                refuse_if_short(job.videos)
                print(f"{job.videos:,} videos, {job.spread}", flush=True)
                rows, others = in_process(job, plan)
                add(folder / "two_stage.csv", rows, KNOWN)
                if others:
                    add(folder / "two_stage_variants.csv", others, ["way", *MACHINE, *VERSIONS])
        report(folder / "two_stage.csv")


def jobs(options: argparse.Namespace) -> list[Job]:
    """The catalogs to measure."""
    if options.billion:
        return [Job(10**9)]
    if options.sizes:
        return [Job(n) for n in options.sizes]
    return [Job(n) for n in SIZES[:2]] if options.quick else [*map(Job, SIZES), UNIFORM]


if __name__ == "__main__":
    main()
