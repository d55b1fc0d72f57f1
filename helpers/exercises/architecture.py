"""The exercises of notebook 02: architecture."""

from collections.abc import Callable, Collection, Mapping, Sequence
from math import ceil, floor
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.exercises import (
    Exercise,
    Mistake,
    Number,
    close,
    confuses,
    equals,
    mistaken,
    near,
    same_as,
    tidy,
)
from helpers.simulator import IMPRESSION_LOG


def _any_of(
    name: str,
    functions: Sequence[Callable],
    message: str,
    probes: Sequence[tuple],
    agree: Callable[[Any, Any], bool] = close,
) -> Mistake:
    """The mistake of writing one of several functions that share their fault."""
    tests = [same_as(function, probes, agree) for function in functions]
    return Mistake(name, lambda a: any(test(a) for test in tests), message, example=functions[0])


def _choices(right: Mapping[str, str], wrong: Mapping[tuple[str, str], str]) -> tuple[Mistake, ...]:
    """The mistakes of a label given to a key, out of {(key, label): message}; no two keys share a label."""
    return tuple(
        Mistake(f"{key}: {label}", confuses(right, right[key], label), message, {**right, key: label})
        for (key, label), message in wrong.items()
    )


def _outside(right: Mapping[str, str], allowed: Collection[str], message: str) -> Mistake:
    """The mistake of a label that cannot be chosen."""
    example = dict.fromkeys(right, "other")
    return Mistake("unknown", lambda a: not set(tidy(a).values()) <= set(allowed), message, example)


# ------------------------------------------------------------------ 1 ceiling

RECALL, SHARE = 0.62, 0.45
LONGER_RECALL, LONGER_SHARE = 0.80, 0.37

CEILING_STORY = (
    f"Each request has one video that the user came for. The first stage retrieves it in {RECALL:.0%} of the "
    f"requests. Of those that were retrieved, the ranker puts {SHARE:.0%} into the top ten.\n\n"
    "- `now`: in what share of the requests is it in the top ten?\n"
    "- `perfect_ranker`: the same, if the ranker made no mistake.\n"
    f"- `longer_list`: the same, with more candidates: the first stage retrieves it in {LONGER_RECALL:.0%}, "
    f"but among more rivals the ranker of today puts only {LONGER_SHARE:.0%} of the retrieved into the top "
    "ten."
)


def _hit_rates(
    now: Number = RECALL * SHARE,
    perfect_ranker: Number = RECALL,
    longer_list: Number = LONGER_RECALL * LONGER_SHARE,
) -> dict[str, Number]:
    return {"now": now, "perfect_ranker": perfect_ranker, "longer_list": longer_list}


def _wrong_hits(name: str, message: str, **wrong: Number) -> Mistake:
    """The mistake of one of these numbers; the example has all of them."""
    tests = [(key, near(value)) for key, value in wrong.items()]
    return Mistake(name, lambda a: any(test(a[key]) for key, test in tests), message, _hit_rates(**wrong))


ceiling = Exercise(
    title="the ceiling",
    right=equals(_hit_rates()),
    reason="A hit needs both stages, so the shares multiply, and the recall of the first stage is the "
    f"ceiling of the second. The longer list raised the ceiling by {LONGER_RECALL / RECALL - 1:.0%}, the "
    f"hits by {LONGER_RECALL * LONGER_SHARE / (RECALL * SHARE) - 1:.0%}.",
    mistakes=(
        _wrong_hits(
            "percent",
            "Give shares between 0 and 1, not percentages.",
            now=100 * RECALL * SHARE,
            perfect_ranker=100 * RECALL,
            longer_list=100 * LONGER_RECALL * LONGER_SHARE,
        ),
        _wrong_hits(
            "added",
            "You added the stages. Both must succeed: the second share is a share *of the first*.",
            now=RECALL + SHARE,
            longer_list=LONGER_RECALL + LONGER_SHARE,
        ),
        _wrong_hits(
            "divided",
            "You divided. The share of the ranker is already one of the retrieved requests: multiply.",
            now=SHARE / RECALL,
            longer_list=LONGER_SHARE / LONGER_RECALL,
        ),
        _wrong_hits(
            "minimum",
            "You took the smaller of the two. A chain loses at every link, not only at the weakest.",
            now=min(RECALL, SHARE),
            longer_list=min(LONGER_RECALL, LONGER_SHARE),
        ),
        _wrong_hits(
            "no ceiling",
            "A perfect ranker cannot show what it never received. It hits whenever the first stage does.",
            perfect_ranker=1,
        ),
        _wrong_hits(
            "perfect retrieval",
            "That is the hit rate with a perfect *first* stage. Make the ranker perfect.",
            perfect_ranker=SHARE,
        ),
        _wrong_hits(
            "ranker unchanged",
            "You kept the ranker's old share. With more rivals in the list it falls: use the new one.",
            longer_list=LONGER_RECALL * SHARE,
        ),
        _wrong_hits(
            "recall unchanged",
            "You kept the old recall. The longer list has the new one.",
            longer_list=RECALL * LONGER_SHARE,
        ),
    ),
    otherwise="Imagine a hundred requests: in how many is the video retrieved, and in how many of *these* "
    "does the ranker put it into the top ten?",
    hints=(
        "A hit needs two successes, one after the other.",
        "hit rate = recall of the first stage x the ranker's share of what was retrieved.",
        "For a perfect ranker the second factor is 1. For the longer list both factors are new.",
    ),
    solution_code=f"""
answer = {{
    "now": {RECALL} * {SHARE},
    "perfect_ranker": {RECALL},
    "longer_list": {LONGER_RECALL} * {LONGER_SHARE},
}}
""",
)


# ------------------------------------------------------------------ 2 IVF search


def _inner(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    return rows @ query


def _lowest(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    return -_inner(rows, query)


def _nearness(rows: np.ndarray, query: np.ndarray) -> np.ndarray:
    return -np.linalg.norm(rows - query, axis=1)


def _ivf(
    query: np.ndarray,
    centroids: np.ndarray,
    lists: Sequence[np.ndarray],
    vectors: np.ndarray,
    nprobe: int,
    k: int | None,
    choose: Callable = _inner,
    rank: Callable = _inner,
) -> np.ndarray:
    probed = np.argsort(-choose(centroids, query))[:nprobe]
    ids = np.concatenate([lists[i] for i in probed])
    return ids[np.argsort(-rank(vectors[ids], query))[:k]]


def _places(*search: Any) -> np.ndarray:
    """The right ids, as places among the rows of the probed lists."""
    probed = np.argsort(-_inner(search[1], search[0]))[: search[4]]
    ids = np.concatenate([search[2][i] for i in probed])
    return np.array([ids.tolist().index(i) for i in _ivf(*search)])


def _search(seed: int, nprobe: int, k: int) -> tuple:
    """The arguments of a search among 60 vectors of very different length, in 8 lists."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(60, 3)) * rng.uniform(0.2, 3, size=(60, 1))
    query, centroids = rng.normal(size=3), vectors[:8]
    nearest = np.array([_nearness(centroids, vector).argmax() for vector in vectors])
    return query, centroids, [np.flatnonzero(nearest == i) for i in range(8)], vectors, nprobe, k


def _same_ids(a: ArrayLike, b: ArrayLike) -> bool:
    return np.array_equal(np.ravel(a), np.ravel(b))


SEARCHES = [_search(0, nprobe=3, k=5), _search(1, nprobe=2, k=4), _search(2, nprobe=1, k=40)]


def _ivf_mistake(name: str, message: str, *functions: Callable) -> Mistake:
    return _any_of(name, functions, message, SEARCHES, agree=_same_ids)


ivf_search = Exercise(
    title="search an inverted file",
    right=same_as(_ivf, SEARCHES, _same_ids),
    reason="The centroids choose the lists, the vectors choose the ids, both by inner product. All other "
    "vectors stay unread: that is the speed, and what they hide is the recall you lose. The method is "
    "the inverted file of Jégou, Douze and Schmid (2011).",
    mistakes=(
        Mistake(
            "too many",
            lambda answer: any(np.size(answer(*search)) > search[5] for search in SEARCHES),
            "You return more than k ids. Cut the list after the sort.",
            example=lambda *s: _ivf(*s[:5], None),
        ),
        _ivf_mistake(
            "places",
            "These are places among the probed rows, not ids. Look each place up in the array of probed ids.",
            _places,
        ),
        _ivf_mistake(
            "best list only",
            "You read one list, whatever `nprobe` is. A good vector may lie in the second best list.",
            lambda *s: _ivf(*s[:4], 1, s[5]),
        ),
        _ivf_mistake(
            "first lists",
            "You probe the lists that stand first. Score the centroids, then probe the best of them.",
            lambda *s: _ivf(*s, choose=lambda rows, _: -np.arange(len(rows))),
        ),
        _ivf_mistake(
            "nearest lists",
            "You probe the centroids nearest to the query. The search goes by inner product, for lists too.",
            lambda *s: _ivf(*s, choose=_nearness),
        ),
        _ivf_mistake(
            "lowest lists",
            "You probe the lists with the lowest scores. `np.argsort` ascends: negate the scores.",
            lambda *s: _ivf(*s, choose=_lowest),
        ),
        _ivf_mistake(
            "worst first",
            "Your ids are not best first. `np.argsort` ascends: negate the scores wherever you sort.",
            lambda *s: _ivf(*s, rank=_lowest),
            lambda *s: _ivf(*s)[::-1],
            lambda *s: _ivf(*s, choose=_lowest, rank=_lowest),
        ),
        _ivf_mistake(
            "distance",
            "You rank by distance to the query. By inner product a longer vector scores higher.",
            lambda *s: _ivf(*s, rank=_nearness),
            lambda *s: _ivf(*s, choose=_nearness, rank=_nearness),
        ),
        _ivf_mistake(
            "exact",
            "These are the ids of an exact search, which reads every vector. Read the probed lists only.",
            lambda *s: _ivf(*s[:4], len(s[2]), s[5]),
        ),
    ),
    otherwise="Return ids only, best first, at most k, fewer if the probed lists hold fewer. With "
    "`nprobe=len(lists)` it must equal an exact search.",
    hints=(
        "Two sorts: one of the centroids, one of the vectors in the lists that won.",
        "`np.concatenate([lists[i] for i in probed])` gives the ids whose vectors you read.",
        "Sort `-(vectors[ids] @ query)`; the places that come out index `ids`.",
    ),
    solution_code="""
import numpy as np

def answer(query, centroids, lists, vectors, nprobe, k):
    probed = np.argsort(-(centroids @ query))[:nprobe]
    ids = np.concatenate([lists[i] for i in probed])
    order = np.argsort(-(vectors[ids] @ query))[:k]
    return ids[order]
""",
    probe=SEARCHES[0],
)


# ------------------------------------------------------------------ 3 pick K


def _measured(rows: Mapping[int, tuple[float, float]]) -> pd.DataFrame:
    """A table out of {K: (quality, p99)}."""
    return pd.DataFrame.from_dict(rows, orient="index", columns=["quality", "p99_ms"]).rename_axis("K")


SWEEP = _measured(
    {50: (0.30, 10), 100: (0.36, 14), 200: (0.395, 21), 400: (0.42, 35), 800: (0.418, 60), 1600: (0.446, 110)}
)
UNSORTED = _measured(
    {
        500: (0.375, 30),
        20: (0.20, 8),
        300: (0.385, 65),
        100: (0.35, 12),
        1000: (0.39, 55),
        2000: (0.44, 120),
        50: (0.32, 10),
    }
)
STEEP = _measured(
    {100: (0.50, 5), 200: (0.60, 9), 300: (0.66, 14), 400: (0.68, 20), 500: (0.70, 26), 600: (0.72, 90)}
)
CHOICES_OF_K = [(SWEEP, 70, 0.03), (UNSORTED, 60, 0.06), (STEEP, 50, 0.05)]


def _fits(table: pd.DataFrame, budget_ms: Number) -> pd.DataFrame:
    return table[table["p99_ms"] <= budget_ms]


def _good(table: pd.DataFrame, least: Number) -> pd.Index:
    return table.index[table["quality"] >= least]


def _pick_k(table: pd.DataFrame, budget_ms: Number, tolerance: Number) -> int:
    fits = _fits(table, budget_ms)
    return _good(fits, fits["quality"].max() - tolerance).min()


def _relative(table: pd.DataFrame, budget_ms: Number, tolerance: Number) -> int:
    fits = _fits(table, budget_ms)
    return _good(fits, fits["quality"].max() * (1 - tolerance)).min()


def _first_good(table: pd.DataFrame, budget_ms: Number, tolerance: Number) -> int:
    fits = _fits(table, budget_ms)
    return _good(fits, fits["quality"].max() - tolerance)[0]


def _k_mistake(name: str, message: str, *functions: Callable) -> Mistake:
    return _any_of(name, functions, message, CHOICES_OF_K)


pick_k = Exercise(
    title="pick K",
    right=same_as(_pick_k, CHOICES_OF_K),
    reason="First the budget, which is a promise; then the best quality that it allows; then the smallest K "
    "that comes near it. The time that you save is left for the next feature.",
    mistakes=(
        _k_mistake(
            "row number",
            "That is the number of a row. K is the index of the table.",
            lambda t, b, tol: t.index.get_loc(_pick_k(t, b, tol)),
            lambda t, b, tol: _fits(t, b).index.get_loc(_pick_k(t, b, tol)),
        ),
        _k_mistake(
            "largest",
            "You took the largest K in the budget. A smaller one is nearly as good and costs less.",
            lambda t, b, tol: _fits(t, b).index.max(),
        ),
        _k_mistake(
            "smallest",
            "You took the smallest K in the budget, whatever its quality. Use the tolerance.",
            lambda t, b, tol: _fits(t, b).index.min(),
        ),
        _k_mistake(
            "no tolerance",
            "You took the best quality in the budget. The tolerance allows a smaller K.",
            lambda t, b, tol: _fits(t, b)["quality"].idxmax(),
        ),
        _k_mistake(
            "no budget",
            "The budget has no say in your choice. Drop the rows that are too slow first.",
            lambda t, b, tol: t["quality"].idxmax(),
            lambda t, b, tol: _good(t, t["quality"].max() - tol).min(),
        ),
        _k_mistake(
            "best of all rows",
            "You compare with the best of all rows, also those over budget. Nobody can have that quality.",
            lambda t, b, tol: _good(_fits(t, b), t["quality"].max() - tol).min(),
        ),
        _k_mistake(
            "relative",
            "You made the tolerance a share of the best quality. It is absolute: subtract it.",
            _relative,
        ),
        _k_mistake(
            "first row",
            "You took the first row that qualifies, but a table need not be sorted by K. Take the minimum.",
            _first_good,
        ),
    ),
    otherwise="Three steps: keep the rows with a p99 within the budget; of these keep those whose quality is "
    "at least their best minus the tolerance; return the smallest K of the rest.",
    hints=(
        "Filter twice, and let the second filter see the rows of the first only.",
        "`fits = table[table['p99_ms'] <= budget_ms]`; what is the best quality of `fits`?",
        "Of the rows of `fits` with quality >= best - tolerance, return `.index.min()`.",
    ),
    solution_code="""
def answer(table, budget_ms, tolerance):
    fits = table[table["p99_ms"] <= budget_ms]
    good = fits[fits["quality"] >= fits["quality"].max() - tolerance]
    return good.index.min()
""",
    probe=CHOICES_OF_K[0],
)


# ------------------------------------------------------------------ 4 sum of stages

Stages = Sequence[Sequence[np.ndarray]]


def _p99(milliseconds: ArrayLike) -> float:
    return float(np.percentile(milliseconds, 99))


def _whole(stages: Stages) -> np.ndarray:
    """The milliseconds of each request: groups one after the other, each as slow as its slowest stage."""
    return np.sum([np.max(group, axis=0) for group in stages], axis=0)


def _each(stages: Stages) -> list[np.ndarray]:
    return [stage for group in stages for stage in group]


def _drawn(seed: int, *medians: Sequence[Number]) -> tuple[Stages]:
    """Stages of 20,000 requests, out of the median milliseconds of each group's stages."""
    rng = np.random.default_rng(seed)
    return ([[m * rng.lognormal(sigma=0.7, size=20_000) for m in group] for group in medians],)


REQUESTS = [_drawn(0, (5,), (8, 7, 6), (12,)), _drawn(1, (3, 4), (9, 10))]

sum_of_stages = Exercise(
    title="the p99 of a request",
    right=same_as(lambda stages: _p99(_whole(stages)), REQUESTS),
    reason="Combine the draws request by request: the slowest of parallel stages, the sum of successive "
    "ones. The percentile comes last. P99s would add if all stages were slow in the same requests.",
    mistakes=(
        _any_of(
            "adds p99s",
            (
                lambda stages: sum(_p99(np.max(group, axis=0)) for group in stages),
                lambda stages: sum(max(map(_p99, group)) for group in stages),
                lambda stages: sum(map(_p99, _each(stages))),
            ),
            "Percentiles do not add: the slowest requests of one stage are not those of another. Add the "
            "draws, then take the percentile.",
            REQUESTS,
        ),
        mistaken(
            "parallel summed",
            lambda stages: _p99(sum(_each(stages))),
            "You add stages that run at the same time. A group takes as long as its slowest stage.",
            REQUESTS,
        ),
        mistaken(
            "max over groups",
            lambda stages: _p99(np.max(_each(stages), axis=0)),
            "You take the slowest of all stages. The groups run one after the other: add them.",
            REQUESTS,
        ),
        mistaken(
            "swapped",
            lambda stages: _p99(np.max([np.sum(group, axis=0) for group in stages], axis=0)),
            "You swapped the two: inside a group the stages run in parallel, the groups follow each other.",
            REQUESTS,
        ),
        mistaken(
            "mean",
            lambda stages: _whole(stages).mean(),
            "That is the mean request. The budget is for the slowest one in a hundred.",
            REQUESTS,
        ),
        mistaken(
            "fraction",
            lambda stages: np.percentile(_whole(stages), 0.99),
            "`np.percentile` wants 99; 0.99 asks for the fastest one in a hundred.",
            REQUESTS,
        ),
        mistaken(
            "not reduced",
            _whole,
            "These are the milliseconds of each request, and right. Return their 99th percentile.",
            REQUESTS,
        ),
    ),
    otherwise="By hand, two requests: stages of [1, 9] and [4, 2] in parallel, then one of [10, 10], take "
    "[14, 19] ms.",
    hints=(
        "Work request by request: entry i of every array belongs to request i.",
        "`np.max(group, axis=0)` is the time of a group, for each request.",
        "Add these arrays over the groups, then `np.percentile(total, 99)`.",
    ),
    solution_code="""
import numpy as np

def answer(stages):
    total = sum(np.max(group, axis=0) for group in stages)
    return np.percentile(total, 99)
""",
    probe=REQUESTS[0],
)


# ------------------------------------------------------------------ 5 servers


def _busy(peak_qps: Number, service_ms: Number) -> float:
    """The servers busy on average, by Little's law."""
    return peak_qps * service_ms / 1000


def _servers(peak_qps: Number, service_ms: Number, utilization: Number) -> int:
    return ceil(_busy(peak_qps, service_ms) / utilization)


def _exactly(a: ArrayLike, b: Number) -> bool:
    """Tell whether two numbers agree to the last digit that arithmetic leaves."""
    return bool(np.isclose(np.asarray(a, float).item(), b, rtol=1e-9))


LOADS = [(1000, 14, 0.6), (330, 25, 0.8), (70, 44, 0.5)]  # each leaves less than half a server over


def _servers_mistake(name: str, message: str, *functions: Callable) -> Mistake:
    return _any_of(name, functions, message, LOADS, agree=_exactly)


servers_needed = Exercise(
    title="how many servers",
    right=same_as(_servers, LOADS, _exactly),
    reason="Little's law (1961): requests in service = arrivals a second x seconds in service. Each keeps "
    "one server busy. Dividing by the utilization leaves the free share that keeps queues short.",
    mistakes=(
        _servers_mistake(
            "milliseconds",
            "You have a thousand times too many servers: the time is in milliseconds, the rate per second.",
            lambda q, ms, u: ceil(q * ms / u),
            lambda q, ms, u: q * ms / u,
        ),
        _servers_mistake(
            "fully busy",
            "These servers have no time to spare, so requests would wait long. Use the utilization.",
            lambda q, ms, u: ceil(_busy(q, ms)),
            lambda q, ms, u: _busy(q, ms),
        ),
        _servers_mistake(
            "multiplied",
            "You multiplied by the utilization, which gives *fewer* servers than are busy. Divide.",
            lambda q, ms, u: ceil(_busy(q, ms) * u),
            lambda q, ms, u: _busy(q, ms) * u,
        ),
        _servers_mistake(
            "idle share",
            "You divided by the share that is to be free. Divide by the share that is to be busy.",
            lambda q, ms, u: ceil(_busy(q, ms) / (1 - u)),
        ),
        _servers_mistake(
            "rounded down",
            "You rounded down: the last fraction of a server has work too. Round up.",
            lambda q, ms, u: floor(_busy(q, ms) / u),
        ),
        _servers_mistake(
            "not rounded",
            "Nobody can buy a fraction of a server. Round up to a whole number.",
            lambda q, ms, u: _busy(q, ms) / u,
        ),
    ),
    otherwise="By hand: 100 requests a second of 20 ms keep 2 servers busy; at a utilization of one half you "
    "need 4.",
    hints=(
        "How many requests are in service at one moment, on average?",
        "Little's law: rate x time. Bring both to seconds.",
        "Divide by the utilization, then `math.ceil`.",
    ),
    solution_code="""
from math import ceil

def answer(peak_qps, service_ms, utilization):
    busy = peak_qps * service_ms / 1000
    return ceil(busy / utilization)
""",
    probe=LOADS[0],
)


# ------------------------------------------------------------------ 6 turning point

NS_PER_VIDEO, BUDGET_MS, RETRIEVAL_SHARE, CORES = 20, 100, 0.3, 2
INPUTS = {"videos": 400_000, "new_videos_a_day": 1_000, "peak_qps": 100, "shown": 10, "log_days": 30}

TURNING_STORY = (
    f"Today a request scans all vectors: {NS_PER_VIDEO} ns a video on one core, measured. A request may take "
    f"{BUDGET_MS} ms, {RETRIEVAL_SHARE:.0%} of them for this scan. One machine of {CORES} cores scans, one "
    "request a core. The inputs of the design:\n\n"
    + "\n".join(f"- `{name}`: {value:,}" for name, value in INPUTS.items())
    + "\n\nAnswer:\n\n"
    "- `largest_catalog`: how many videos can a scan read within its share of the budget?\n"
    "- `needs_index`: which input, if it alone grew ten times, would make one scan too slow, so that you "
    "need an index?\n"
    "- `needs_machines`: which one would leave each scan fast enough, but need more than one machine?"
)
LARGEST = BUDGET_MS * RETRIEVAL_SHARE * 1e6 / NS_PER_VIDEO


def _turning(
    largest: Number = LARGEST, index: str = "videos", machines: str = "peak_qps"
) -> dict[str, Number | str]:
    return {"largest_catalog": largest, "needs_index": index, "needs_machines": machines}


def _named_inputs(answer: Mapping[str, Any]) -> tuple[str, str]:
    """The two inputs that an answer names."""
    tidied = tidy(answer)
    return tidied["needs_index"], tidied["needs_machines"]


def _wrong_size(name: str, message: str, *sizes: float) -> Mistake:
    tests = [near(size) for size in sizes]
    return Mistake(
        name, lambda a: any(t(a["largest_catalog"]) for t in tests), message, _turning(largest=sizes[0])
    )


def _wrong_input(name: str, made_by: Callable[[str, str], bool], message: str, **example: str) -> Mistake:
    return Mistake(name, lambda a: made_by(*_named_inputs(a)), message, _turning(**example))


turning_point = Exercise(
    title="the number that changes the design",
    right=lambda a: near(LARGEST)(a["largest_catalog"]) and _named_inputs(a) == _named_inputs(_turning()),
    reason=f"{BUDGET_MS * RETRIEVAL_SHARE:.0f} ms / {NS_PER_VIDEO} ns = {LARGEST:,.0f} videos, "
    f"{LARGEST / INPUTS['videos']:.2g} times today's catalog. The catalog "
    "decides how long one scan takes, the rate how many run at once. Neither "
    "is touched by what you show or store.",
    mistakes=(
        _wrong_size(
            "units",
            "You are wrong by a factor of a thousand or more: a millisecond has a million nanoseconds.",
            LARGEST / 1e6,
            LARGEST / 1e3,
            LARGEST * 1e3,
        ),
        _wrong_size(
            "whole budget",
            "You gave the scan the whole budget. Ranking and the rest need their share too.",
            LARGEST / RETRIEVAL_SHARE,
        ),
        _wrong_size(
            "other share",
            "You gave the scan the share of all the others.",
            LARGEST * (1 - RETRIEVAL_SHARE) / RETRIEVAL_SHARE,
        ),
        _wrong_size(
            "upside down",
            "Upside down: divide the time that you have by the time of one video.",
            1 / LARGEST,
            1e6 / LARGEST,
        ),
        _wrong_size(
            "today",
            "That is how many ms today's scan takes. Ask how many videos fit into the time allowed.",
            INPUTS["videos"] * NS_PER_VIDEO / 1e6,
        ),
        _wrong_size(
            "both cores",
            "One request is scanned by one core. The other core serves another request.",
            LARGEST * CORES,
        ),
        _wrong_input(
            "unknown input",
            lambda *names: not set(names) <= set(INPUTS),
            "Name one of the inputs, as it stands in the list.",
            index="users",
        ),
        _wrong_input(
            "swapped",
            lambda index, machines: (index, machines) == ("peak_qps", "videos"),
            "You swapped them. More videos make one scan longer; more requests make more scans.",
            index="peak_qps",
            machines="videos",
        ),
        _wrong_input(
            "rate slows a scan",
            lambda index, _: index == "peak_qps",
            "More requests do not make one scan longer: they need more cores beside each other.",
            index="peak_qps",
        ),
        _wrong_input(
            "catalog again",
            lambda _, machines: machines == "videos",
            "Ten times the videos break the time of one scan first. Which input leaves that as it is?",
            machines="videos",
        ),
        _wrong_input(
            "cannot flip it",
            lambda *names: bool(set(names) - {"videos", "peak_qps"}),
            "One of your inputs does neither: ten times as much of it makes no scan longer or more frequent.",
            machines="log_days",
        ),
    ),
    otherwise="Scan time = videos x time of one video; busy cores = scans a second x seconds of a scan. "
    "Which of the two meets its limit?",
    hints=(
        "How many ms may the scan take? How many ns is that?",
        "Divide by the time of one video. Then compute time and busy cores again for each input times ten.",
        "One input stands in the scan time, another only in the busy cores.",
    ),
    solution_code=f"""
nanoseconds = {BUDGET_MS} * {RETRIEVAL_SHARE} * 1e6
answer = {{
    "largest_catalog": nanoseconds / {NS_PER_VIDEO},
    "needs_index": "videos",
    "needs_machines": "peak_qps",
}}
""",
)


# ------------------------------------------------------------------ 7 fallbacks

RUNGS = {
    "stale features": "rank with the values of some minutes ago, kept in the ranker's memory",
    "zero features": "rank with zeros in place of the missing values",
    "retrieval order": "show the candidates in the order of the first stage",
    "popular list": "show last night's most watched videos, after the policy service has filtered them",
    "approved list": "show only videos that reviewers approved in advance",
    "no filter": "show the ranked videos unfiltered",
    "default variant": "serve what users outside the experiment get, and mark the request so in the log",
    "coin toss": "toss a new coin for this request",
    "retry": "ask the same service again",
    "error page": "show no feed",
}
FALLBACKS = {
    "ranker late": "retrieval order",
    "feature store down": "stale features",
    "index down": "popular list",
    "policy service down": "approved list",
    "experiment assignment down": "default variant",
}
FALLBACK_STORY = (
    "A request has 20 ms left when something fails. Give each failure the best feed that is still possible, "
    "and never an unsafe one. Everything but the named service works. Your choices:\n\n"
    + "\n".join(f"- `{name}`: {what}" for name, what in RUNGS.items())
)

fallback_order = Exercise(
    title="order the fallbacks",
    right=lambda a: tidy(a) == FALLBACKS,
    reason="Go down the ladder one rung at a time: old values, then the first stage's order, then a list for "
    "everybody. Quality may fail open; safety fails closed. An experiment that cannot assign does not guess.",
    mistakes=(
        _outside(FALLBACKS, RUNGS, "One of your choices is not in the list. Copy the names as they stand."),
        *_choices(
            FALLBACKS,
            {
                ("policy service down", "no filter"): "Your safety filter fails open: users see what it "
                "exists to stop. It must fail closed.",
                ("policy service down", "popular list"): "The popular list passes the policy service, which "
                "is down. Popular is not safe: show what was approved in advance.",
                ("policy service down", "retrieval order"): "The order is not the trouble: nobody has "
                "checked these videos. Show what was approved in advance.",
                ("policy service down", "error page"): "Safe, but more than safety needs: videos approved "
                "in advance can be shown.",
                ("ranker late", "retry"): "Retrying a late ranker doubles its load while it is slow, and "
                "this request has no time to wait twice.",
                ("ranker late", "popular list"): "Two rungs too low: candidates for this very user are "
                "already retrieved. Show them in their order.",
                ("ranker late", "stale features"): "Fresh or stale, the values go to the ranker, and the "
                "ranker is what is late.",
                ("feature store down", "zero features"): "To the ranker a zero is a value, such as a user "
                "who never clicked. It ranks confidently and wrong, and no error is raised.",
                ("feature store down", "retrieval order"): "One rung too low: the ranker works, and values "
                "of some minutes ago are nearly as good as new.",
                ("index down", "retrieval order"): "Without the index nothing was retrieved, so there is no "
                "order. Which list needs no retrieval?",
                ("index down", "approved list"): "Safe, but needlessly narrow: the policy service works and "
                "can filter the popular list.",
                ("experiment assignment down", "coin toss"): "With a new coin for each request a user "
                "changes sides, and the two groups of the experiment become alike.",
            },
        ),
        Mistake(
            "retry",
            lambda a: "retry" in tidy(a).values(),
            "A retry adds load to what is failing, and waits twice. Fall back at once; a circuit breaker "
            "tries the service again later.",
            example=FALLBACKS | {"index down": "retry"},
        ),
        Mistake(
            "error page",
            lambda a: "error page" in tidy(a).values(),
            "The error page is the last rung. In each of these cases something better is left.",
            example=FALLBACKS | {"index down": "error page"},
        ),
    ),
    otherwise="Ask of each failure: what was already computed, what was kept from before, and who would be "
    "harmed if this step were simply left out?",
    hints=(
        "Five choices are right once each; nothing that adds load or guesses is among them.",
        "Keep as much as still works: old values keep the ranker, the first stage's order keeps the user.",
        "Only one failure can harm people: there, show less rather than more.",
    ),
    solution_code=f"answer = {FALLBACKS!r}",
)


# ------------------------------------------------------------------ 8 log columns

LOG_COLUMNS = tuple(IMPRESSION_LOG.columns)
KEPT = ("timestamp", "video_id", "clicked")
ANALYSES = {
    "value of a new policy": "estimate, from the log of the old one alone, what a new policy would earn; the "
    "code of the old one is gone",
    "position curve": "how much less a video is clicked when it stands lower in the list",
    "duplicates": "a client sent a request again, and the log holds its rows twice: remove the copies",
    "guilty release": "two releases serve side by side under one policy, and clicks fall: which one is it?",
    "honest interval": "an interval for the click rate, although people come back and stay the same",
}
NEEDED = {
    "value of a new policy": "propensity",
    "position curve": "position",
    "duplicates": "request_id",
    "guilty release": "model_version",
    "honest interval": "user_id",
}
LOG_STORY = (
    f"The log has the columns {', '.join(f'`{name}`' for name in LOG_COLUMNS)}. Somebody wants to save "
    f"space. Only {', '.join(f'`{name}`' for name in KEPT)} are sure to stay. Name, for each analysis, the "
    "one other column without which it becomes impossible:\n\n"
    + "\n".join(f"- `{name}`: {what}" for name, what in ANALYSES.items())
)

log_columns = Exercise(
    title="one column less",
    right=lambda a: tidy(a) == NEEDED,
    reason="Each of these is known at the moment of serving and at no other. A column that was not written "
    "cannot be computed later, so the log is designed for the questions that will come.",
    mistakes=(
        _outside(NEEDED, LOG_COLUMNS, "One of your names is not a column of the log. Copy it as it stands."),
        *_choices(
            NEEDED,
            {
                ("value of a new policy", "policy"): "`policy` is a name. You must divide by the "
                "*probability* with which that policy showed the video.",
                ("value of a new policy", "position"): "The position says what happened, not how probable "
                "it was. The estimate divides by that probability.",
                ("value of a new policy", "model_version"): "The version tells who chose. Its code is gone, "
                "so the probability of the choice must stand in the log.",
                ("position curve", "propensity"): "The propensity says how probable the place was, not "
                "which place it was. It can improve the curve; without the place there is none.",
                ("position curve", "request_id"): "The request groups the rows of one list, but the rows of "
                "a log have no reliable order.",
                ("duplicates", "timestamp"): "A copy that was sent later may carry a later time. Which "
                "column do copies share, and honest rows not?",
                ("duplicates", "user_id"): "One user rightly gets the same video in two requests. These "
                "rows are no copies.",
                ("guilty release", "timestamp"): "Both releases serve at the same time, so the clock cannot "
                "part them.",
                ("guilty release", "policy"): "Both releases serve under the same policy. Which column "
                "tells them apart?",
                ("honest interval", "request_id"): "Requests of one person are alike. Drawn one by one they "
                "pass for fresh evidence, and the interval is too narrow.",
            },
        ),
        Mistake(
            "kept anyway",
            lambda a: bool(set(KEPT) & set(tidy(a).values())),
            "One of yours stays in the log anyway. Which *other* column does the analysis need?",
            example=NEEDED | {"position curve": "clicked"},
        ),
    ),
    otherwise="Imagine the table without your column: could you still do the analysis with the others?",
    hints=(
        "Five columns are right once each. What does each analysis group by, join on or divide by?",
        "Off-policy evaluation divides by a probability; copies share an identity; people are the unit.",
        "Two ids, one place, one probability, one version.",
    ),
    solution_code=f"answer = {NEEDED!r}",
)

ALL = (
    ceiling,
    ivf_search,
    pick_k,
    sum_of_stages,
    servers_needed,
    turning_point,
    fallback_order,
    log_columns,
)
