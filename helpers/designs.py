"""The systems of the notebooks as designs: their stages, seams and numbers, for any load."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from helpers.architecture import Design, Latency, Seam, Stage
from helpers.capacity import cores_needed, hit_rate, leaf_quantile, units

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


# ------------------------------------------------------------------ the systems of the practice room
#
# Each system has several plans, the richest first. The first whose p99 keeps the budget at the given load is
# built. The milliseconds are assumptions of a plausible size: measure your own.

SHARD_BYTES = 12e9  # of an index, so that a shard fits the memory of any machine
KNOWN_USERS = 1.5  # users whose state is kept, for each user of a day
PROFILE_BYTES = 2_000
ROW_BYTES = 200  # of one shown item in the log
VECTOR_BYTES = 36  # of one item in a quantized index: 32 of codes and 4 of id
ITEM_BYTES = 96  # features of one item, beside the ranker
TREES_MS = 0.01  # one item through boosted trees
NETWORK_MS = 0.2  # one item through a network with many heads
CACHED_SHARE = 0.001  # of the distinct queries of a day: the head
QUERIES_A_DISTINCT_ONE = 250  # queries of a day for each distinct one
POSTINGS_BYTES = 600  # of a document: 300 terms of 2 bytes
DENSE_BYTES = 52  # of a document: 48 of codes and 4 of id
DOCUMENTS_A_LEAF = 2e7  # for which the time of a leaf is given
COUNTER_BYTES = 400  # velocity counters of one card
FRAUD_RATE = 0.001  # about 1 in 1,000 payments: Stripe, "How we built Radar"
SEQUENCE_FRAUDS = 100_000  # frauds in 90 days from which a sequence model is worth a trial
LARGEST_AUDIENCE = 0.05  # of the daily users, who follow the largest author
INBOX_WRITES = 1e6  # a second, for one author
BEYOND_SHARE = 0.1  # of the live posts, which may be shown to people without a connection
SEEN_BYTES = 1_000 * 10 / 8  # ids that a reader has seen, 10 bits each in a Bloom filter: 1% false "seen"
LARGEST_NETWORK, CONNECTIONS, LIVE_POSTS = 2e9, 300, 5  # users; of each, and live posts of each connection


@dataclass(frozen=True)
class Load:
    """What a system must carry: users and their requests, items, rows a request, and the days rows are kept.

    freshness_minutes: how soon a change must be seen. Raises ValueError unless all are finite and above 0.
    """

    daily_users: float
    requests_per_user: float
    peak_factor: float
    items: float
    page_size: float
    freshness_minutes: float
    log_days: float

    def __post_init__(self) -> None:
        """Check that nothing can be computed from nothing."""
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, not {value}.")

    @property
    def daily_requests(self) -> float:
        """The requests of a day."""
        return self.daily_users * self.requests_per_user

    @property
    def peak_qps(self) -> float:
        """The requests a second at the busiest time."""
        return self.daily_requests / SECONDS_A_DAY * self.peak_factor

    @property
    def profile_bytes(self) -> float:
        """The state of all known users."""
        return KNOWN_USERS * self.daily_users * PROFILE_BYTES

    @property
    def log_bytes(self) -> float:
        """One copy of the log of all days that are kept."""
        return self.daily_requests * self.page_size * ROW_BYTES * self.log_days

    @property
    def cache_hits(self) -> float:
        """The share of queries that a cache of the head answers, under Zipf's law."""
        distinct = max(1_000, round(self.daily_requests / QUERIES_A_DISTINCT_ONE))
        return hit_rate(distinct, max(1, round(CACHED_SHARE * distinct)))

    @property
    def connections(self) -> float:
        """The connections of a reader: 300 among two billion users, growing with the tenth root of them."""
        return CONNECTIONS * min(1.0, (self.daily_users / LARGEST_NETWORK) ** 0.1)

    @property
    def inventory(self) -> float:
        """The live posts that a refresh chooses from."""
        return min(self.items, round(self.connections * LIVE_POSTS))

    @property
    def must_pull(self) -> bool:
        """Whether a post of the largest author reaches all inboxes too late, so that readers pull it."""
        return LARGEST_AUDIENCE * self.daily_users / INBOX_WRITES > 60 * self.freshness_minutes


def _nothing(load: Load) -> str:
    """Most plans ask nothing of a load but time."""
    return ""


class Plan(NamedTuple):
    """A way to build a system: its name, the candidates it ranks, its stages, and what it asks of a load.

    stages: load -> online stages. lacks: load -> why the load does not carry this plan, or "".
    """

    name: str
    candidates: Callable[[Load], float]
    stages: Callable[[Load], Sequence[Stage]]
    lacks: Callable[[Load], str] = _nothing


@dataclass(frozen=True)
class Planned:
    """The plan that was chosen: its name, its design, the candidates it ranks, and what was refused and why.

    refused: name of a richer plan -> reason.
    """

    plan: str
    design: Design
    candidates: float
    refused: Mapping[str, str]


def shards(index_bytes: float) -> int:
    """Return on how many shards an index lies."""
    return max(1, math.ceil(index_bytes / SHARD_BYTES))


def plan_design(system: str, load: Load, p99_ms: float) -> Planned:
    """Return the richest design of a system that answers within a p99 in ms at a load.

    Raises ValueError for an unknown system, or when no plan is quick enough.
    """
    if system not in PLANS:
        raise ValueError(f"There are no plans for {system!r}. Choose from: {', '.join(PLANS)}.")
    refused: dict[str, str] = {}
    for plan in PLANS[system]:
        if why := plan.lacks(load):
            refused[plan.name] = why
            continue
        design = _whole(system, plan, load)
        if design.p99_ms <= p99_ms:
            within = design.change(budget_ms=float(p99_ms))
            return Planned(plan.name, within, plan.candidates(load), refused)
        refused[plan.name] = f"p99 {float(f'{design.p99_ms:.3g}'):,.10g} ms"
    quickest, told = list(refused.items())[-1]
    raise ValueError(
        f"No plan for {system} answers within {p99_ms:g} ms at this load: the quickest, {quickest!r}, has "
        f"{told}. Allow more time."
    )


def _whole(system: str, plan: Plan, load: Load) -> Design:
    """The design of a plan: its online stages, the offline path, and the seams between them."""
    online = plan.stages(load)
    names = [stage.name for stage in online]
    log, pipeline, training, publishing = OFFLINE_NAMES[system]
    publishing = "lists ahead" if "list" in names else publishing
    offline = [
        Stage(log, path="offline", state=f"{load.log_days:g} days", state_bytes=load.log_bytes),
        Stage(pipeline, path="offline", after=log),
        Stage(training, path="offline", after=pipeline),
        Stage(publishing, path="offline", after=training),
    ]
    seams = [Seam("label", names[-1], log, "rank, propensity, versions")]
    for kind, source, targets, contract in (
        ("feature", pipeline, FEATURES_TO, "one definition"),
        ("model", training, MODEL_TO, "schema and version"),
        ("model", publishing, PUBLISHED_TO, "version and time"),
    ):
        target = next((name for name in targets if name in names), None)
        if target:
            seams.append(Seam(kind, source, target, contract))
        else:  # a plan without an index publishes none
            offline = [stage for stage in offline if stage.name != source]
    return Design(
        f"{system}: {plan.name}",
        (*online, *offline),
        seams,
        peak_qps=load.peak_qps,
        peak_factor=load.peak_factor,
    )


def _step(
    load: Load,
    name: str,
    after: str | Sequence[str],
    ms: tuple[float, float],
    people: tuple[str, str, str],
    *,
    core_ms: float | None = None,
    share: float = 1.0,
    held: float = 0.0,
    leaves: int | None = None,
    **rest: Any,
) -> Stage:
    """An online stage. ms: p50 and p99, of a leaf where it fans out. people: owner, failure, fallback.

    core_ms: of all leaves together; default: the p50. share: of the requests that reach it. held: bytes of
    one copy of its state, on as many shards as it needs. leaves: that a request waits for; default: all.
    """
    parts = shards(held)
    leaves = parts if leaves is None else min(leaves, parts)
    work = ms[0] if core_ms is None else core_ms
    busy = cores_needed(share * load.peak_qps * units.QPS, work * units.core * units.ms / units.request)
    return Stage(
        name,
        after=after,
        latency=_slowest(Latency.assumed(*ms, "an assumption of a plausible size"), leaves),
        core_ms=work,
        qps=share * load.peak_qps,
        state_bytes=held,
        replicas=max(2, math.ceil(busy.magnitude / (CORES_A_MACHINE * parts))),
        **dict(zip(("owner", "failure", "fallback"), people, strict=True)),
        **rest,
    )


def _slowest(leaf: Latency, leaves: int) -> Latency:
    """The time until the slowest of some independent leaves has answered."""
    if leaves == 1:
        return leaf
    p50, p99 = (float(leaf.quantile(leaf_quantile(q, leaves))) for q in (0.5, 0.99))
    return Latency.assumed(p50, p99, f"slowest of {leaves} leaves")


def _per_item(items: float, each_ms: float, spread: float = 1.6) -> tuple[float, float]:
    """p50 and p99 of work that grows with the items; no step takes less than a tenth of a ms."""
    p50 = max(0.1, items * each_ms)
    return p50, spread * p50


def _state(load: Load, name: str = "state") -> Stage:
    return _step(
        load,
        name,
        (),
        (2, 10),
        ("data platform", "late", "last night's profile"),
        core_ms=0.1,
        held=load.profile_bytes,
        leaves=1,
    )


def _features(load: Load, after: str, items: float) -> Stage:
    """Item features beside the ranker, about 4 microseconds an item."""
    return _step(
        load,
        "features",
        after,
        _per_item(items, 0.004, spread=2.5),
        ("data platform", "down", "features that do not change"),
        held=ITEM_BYTES * load.items,
        leaves=1,
    )


def _rank(load: Load, after: str, each_ms: float, items: float, kept: float | None = None) -> Stage:
    people = ("ranking", "late", "order of the candidates")
    return _step(load, "rank", after, _per_item(items, each_ms), people, items_out=kept)


# ------------------------------------------------------------------ video recommendation


def _all_videos(load: Load) -> list[Stage]:
    """One stage: every video is scored for every request."""
    n = load.items
    people = ("data platform", "down", "features that do not change")
    features = _step(
        load, "features", "state", _per_item(n, 0.004, 2.5), people, items_in=n, held=ITEM_BYTES * n, leaves=1
    )
    return [_state(load), features, _rank(load, "features", TREES_MS, n), _page(load, "rank")]


def _staged_videos(
    load: Load, *, candidates: float, network_on: float | None = None, cowatch: bool = True
) -> list[Stage]:
    """Several sources side by side, then one ranker, or a light one before a network."""
    k = min(candidates, load.items)
    half, rest = math.ceil(k / 2), math.floor(k / 2)
    third = math.ceil(rest / 2) if cowatch else 0
    sources = [
        _step(
            load,
            "vectors",
            "state",
            (6, 12),
            ("retrieval", "down", "co-watch and popular"),
            core_ms=6 * shards(VECTOR_BYTES * load.items),
            held=VECTOR_BYTES * load.items,
            items_in=load.items,
            items_out=half,
        ),
        _lookup(load, "popular", rest - third),
    ]
    if cowatch:
        sources.append(_lookup(load, "co-watch", third))
    names = [source.name for source in sources]
    steps = [_state(load), *sources, _filter(load, names)]
    before, ranked, each = "filter", k, TREES_MS
    if network_on is not None:
        ranked, each = min(network_on, k), NETWORK_MS
        people = ("ranking", "late", "order of the sources")
        steps.append(_step(load, "pre-rank", before, _per_item(k, 0.002, 2), people, items_out=ranked))
        before = "pre-rank"
    return [
        *steps,
        _features(load, before, ranked),
        _rank(load, "features", each, ranked),
        _page(load, "rank"),
    ]


def _lookup(load: Load, name: str, items: float) -> Stage:
    people = ("retrieval", "down", "the other sources")
    return _step(load, name, "state", (2, 8), people, core_ms=0.2, items_in=items)


def _filter(load: Load, after: Sequence[str], **rest: Any) -> Stage:
    people = ("trust and safety", "wrong rule", "last good rules")
    return _step(load, "filter", after, (1, 3), people, **rest)


def _page(load: Load, after: str) -> Stage:
    """Diversity, caps and policy: the page itself."""
    people = ("product", "wrong rule", "last good rules")
    return _step(load, "choose", after, (1, 2), people, items_out=load.page_size)


def _listed(load: Load, *, candidates: float) -> list[Stage]:
    """A list that was ranked ahead for each user; a request filters it and moves what is new."""
    k = min(candidates, load.items)
    ahead = _step(
        load,
        "list",
        (),
        (2, 8),
        ("ranking", "stale", "popular in the region"),
        core_ms=0.1,
        items_in=k,
        held=KNOWN_USERS * load.daily_users * k * 8,
        leaves=1,
    )
    return [ahead, _filter(load, ["list"]), _page(load, "filter")]


# ------------------------------------------------------------------ search


def _search(
    load: Load, *, candidates: float, dense: bool = True, cross: tuple[float, float, float] | None = None
) -> list[Stage]:
    """A cache of the head, retrieval on shards, trees, and a cross-encoder on top where there is time.

    cross: documents, ms a document, core-ms a document.
    """
    k, missed = min(candidates, load.items), 1 - load.cache_hits
    step = partial(_step, load, share=missed)
    postings, vectors = POSTINGS_BYTES * load.items, DENSE_BYTES * load.items
    full = min(1.0, load.items / shards(postings) / DOCUMENTS_A_LEAF)
    leaf = 1 + 7 * full, 3 + 22 * full
    both = k / 2 if dense else k
    steps = [
        _step(load, "cache", (), (0.5, 2), ("serving", "cold", "ask the index"), core_ms=0.05),
        step("understand", "cache", (2, 6), ("query team", "wrong rewrite", "the query as typed")),
        step(
            "BM25",
            "understand",
            leaf,
            ("indexing", "a shard is down", "answer without it"),
            core_ms=0.5 * load.items / 1e6,
            held=postings,
            items_in=load.items,
            items_out=math.ceil(both),
        ),
    ]
    if dense:
        steps.append(
            step(
                "vectors",
                "understand",
                (4, 9),
                ("indexing", "down", "BM25 alone"),
                core_ms=4 * shards(vectors),
                held=vectors,
                items_in=load.items,
                items_out=math.floor(both),
            )
        )
    found = [stage.name for stage in steps if stage.items_in]
    steps.append(step("fuse", found, (1, 3), ("ranking", "late", "BM25 alone")))
    kept = min(cross[0], k) if cross else load.page_size
    people = ("ranking", "late", "order of the fusion")
    steps.append(step("trees", "fuse", _per_item(k, TREES_MS), people, items_out=max(kept, load.page_size)))
    last = "trees"
    if cross:
        people, last = ("ranking", "late", "order of the trees"), "cross-encoder"
        time = _per_item(kept, cross[1], 1.5)
        steps.append(step(last, "trees", time, people, core_ms=kept * cross[2]))
    people = ("serving", "late", "titles without snippets")
    return [*steps, step("page", last, (4, 10), people, items_out=load.page_size)]


# ------------------------------------------------------------------ fraud


def _fraud(load: Load, *, sequence: bool = False, graph: bool = False, cached: bool = False) -> list[Stage]:
    """Rules, state read side by side, models, and a policy that chooses an action by its expected cost."""
    step = partial(_step, load)
    rules = step("rules", (), (1, 3), ("risk operations", "wrong rule", "switch the rule off"))
    policy = partial(
        step,
        "policy",
        ms=(0.5, 1),
        people=("risk owner", "wrong threshold", "last good thresholds"),
        items_in=load.items,
        items_out=1,
    )
    cards = KNOWN_USERS * load.daily_users
    if cached:
        people = ("modeling", "stale", "rules alone")
        score = step("cached score", "rules", (1, 4), people, core_ms=0.1, held=8 * cards, leaves=1)
        return [rules, score, policy(after="cached score")]
    reads = [
        step(
            "counters",
            "rules",
            (2, 8),
            ("data platform", "late", "batch counts"),
            core_ms=0.5,
            held=COUNTER_BYTES * cards,
            leaves=4,  # by card, device, address and merchant
        ),
        step(
            "profile",
            "rules",
            (2, 8),
            ("data platform", "late", "last night's profile"),
            core_ms=0.1,
            held=PROFILE_BYTES * cards,
            leaves=1,
        ),
    ]
    if graph:
        people = ("modeling", "late", "graph score of last night")
        held = 100 * 2 * cards  # two edges a card of 100 bytes
        reads.append(step("graph", "rules", (18, 48), people, core_ms=3, held=held, leaves=4))
    steps, before = [rules, *reads], [stage.name for stage in reads]
    if sequence:
        people = ("modeling", "late", "trees alone")
        steps.append(step("sequence model", before, (15, 35), people, core_ms=15))
        before = ["sequence model"]
    trees = step("trees", before, (2, 5), ("modeling", "down", "rules and the cached score"))
    return [*steps, trees, policy(after="trees")]


def _frauds_lacking(load: Load) -> str:
    frauds = 90 * load.daily_requests * FRAUD_RATE
    if frauds >= SEQUENCE_FRAUDS:
        return ""
    return f"{frauds:,.0f} frauds in 90 days, below {SEQUENCE_FRAUDS:,}"


# ------------------------------------------------------------------ feed


def _feed(load: Load, *, candidates: float, each_ms: float) -> list[Stage]:
    """Inbox, pulled posts and posts beyond the connections; a light ranker where more come than K."""
    found, k = load.inventory, min(candidates, load.inventory)
    beyond, pulled = round(0.2 * found), round(0.1 * found) if load.must_pull else 0
    index = VECTOR_BYTES * BEYOND_SHARE * load.items
    sources = [
        _step(
            load,
            "inbox",
            "state",
            (2, 10),
            ("delivery", "late", "pull from the connections"),
            core_ms=0.3,
            items_in=found - beyond - pulled,
            held=8 * found * KNOWN_USERS * load.daily_users,
            leaves=1,
        ),
        _step(
            load,
            "out-of-network",
            "state",
            (5, 11),
            ("retrieval", "down", "connections alone"),
            core_ms=5 * shards(index),
            items_in=BEYOND_SHARE * load.items,
            items_out=beyond,
            held=index,
        ),
    ]
    if pulled:
        people = ("delivery", "late", "inbox alone")
        sources.append(_step(load, "pull", "state", (3, 14), people, core_ms=0.3, items_in=pulled))
    names = [source.name for source in sources]
    seen = SEEN_BYTES * KNOWN_USERS * load.daily_users
    steps, before = [_state(load), *sources, _filter(load, names, held=seen, leaves=1)], "filter"
    if k < found:
        people = ("ranking", "late", "newest first")
        steps.append(_step(load, "light rank", before, _per_item(found, 0.003, 2), people, items_out=k))
        before = "light rank"
    features = _step(
        load,
        "features",
        before,
        (4 + 0.008 * k, 10 + 0.02 * k),
        ("data platform", "late", "author features alone"),
        core_ms=0.004 * k,
        bytes_per_request=400 * k,
        held=ITEM_BYTES * load.items,
        leaves=1,
    )
    return [*steps, features, _rank(load, "features", each_ms, k), _page(load, "rank")]


# ------------------------------------------------------------------ the plans, richest first


def _up_to(candidates: float) -> Callable[[Load], float]:
    return lambda load: min(candidates, load.items)


def _posts(candidates: float) -> Callable[[Load], float]:
    return lambda load: min(candidates, load.inventory)


def _videos(name: str, candidates: float, **rest: Any) -> Plan:
    return Plan(name, _up_to(candidates), partial(_staged_videos, candidates=candidates, **rest))


def _documents(name: str, candidates: float, **rest: Any) -> Plan:
    return Plan(name, _up_to(candidates), partial(_search, candidates=candidates, **rest))


def _payments(name: str, *, sequence: bool = False, **rest: Any) -> Plan:
    lacks = _frauds_lacking if sequence else _nothing
    return Plan(name, lambda load: load.items, partial(_fraud, sequence=sequence, **rest), lacks)


PLANS: Mapping[str, tuple[Plan, ...]] = {
    "video recommendation": (
        Plan("one stage, trees on all", lambda load: load.items, _all_videos),
        _videos("three stages, network on 300", 1_000, network_on=300),
        _videos("two stages, trees on 500", 500),
        _videos("two stages, trees on 200", 200, cowatch=False),
        Plan("lists ranked ahead", _up_to(100), partial(_listed, candidates=100)),
    ),
    "search engine": (
        _documents("hybrid, cross-encoder on 50", 1_000, cross=(50, 2.5, 85.0)),
        _documents("hybrid, distilled on 20", 1_000, cross=(20, 0.5, 8.5)),
        _documents("hybrid, trees on 500", 500),
        _documents("BM25 and trees on 200", 200, dense=False),
    ),
    "fraud detection": (
        _payments("sequence model and live graph", sequence=True, graph=True),
        _payments("trees and live graph", graph=True),
        _payments("sequence model, graph ahead", sequence=True),
        _payments("trees, graph ahead"),
        _payments("rules and cached score", cached=True),
    ),
    "feed ranking": (
        Plan("network on 500", _posts(500), partial(_feed, candidates=500, each_ms=0.15)),
        Plan("network on 200", _posts(200), partial(_feed, candidates=200, each_ms=0.15)),
        Plan("trees on 200", _posts(200), partial(_feed, candidates=200, each_ms=TREES_MS)),
        Plan("feeds ranked ahead", _posts(100), partial(_listed, candidates=100)),
    ),
}
# Where the seams of the offline path end: at the first of these stages that a plan has.
FEATURES_TO = ("features", "counters", "understand", "rules", "filter")
MODEL_TO = ("rank", "trees", "choose", "policy")
PUBLISHED_TO = ("list", "vectors", "graph", "out-of-network", "BM25", "cached score", "profile")
OFFLINE_NAMES = {  # the log, what is computed from it, what is trained, what is published
    "video recommendation": ("impression log", "feature pipeline", "training", "index build"),
    "search engine": ("query and click log", "feature pipeline", "training", "index merge"),
    "fraud detection": ("decision log", "labels, two times", "training", "graph refresh"),
    "feed ranking": ("impression and dwell log", "feature pipeline", "training", "index build"),
}
