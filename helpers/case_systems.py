"""Four systems to design in an interview: what is asked of each, what is hidden, and a sound plan.

Loads and prices without a source are assumptions of a plausible size, for the arithmetic.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Real
from types import MappingProxyType
from typing import NamedTuple

from helpers.designs import FRAUD_RATE, Load, Planned, plan_design
from helpers.interview import SENIORITIES, DataField, DesignSpec, Metric, Question

SCALES = ("small", "medium", "large")
INDIFFERENT = Question("").answer
LATE_DAYS = 30  # how much later labels come in the surprise about them


class Scale(NamedTuple):
    """How large a system is: the users of a day, and the items that a request can choose from."""

    daily_users: float
    items: float


class Ask(NamedTuple):
    """A question, the field of the ledger that its answer fills, and what the answer changes in the design.

    A question without a field is a decoy: its answer changes nothing.
    """

    text: str
    field: str | None = None
    changes: str = "nothing"


class Rung(NamedTuple):
    """A step of the model ladder: the model, what it is trained on or for, and when to climb on."""

    model: str
    loss: str
    climb_when: str


class Alarm(NamedTuple):
    """What is watched, how soon it tells, what is done then, and by whom."""

    signal: str
    tells_after: str
    action: str
    owner: str


class FollowUp(NamedTuple):
    """A question after the design, and the key to a good answer."""

    question: str
    answer: str


class Surprise(NamedTuple):
    """News in the middle of the interview, and what a good answer says at each level."""

    news: str
    answers: Mapping[str, str]


class Experiment(NamedTuple):
    """An A/B test: its metric and unit; deviation between units and lift to find, relative to the mean."""

    metric: str
    unit: str
    sd: float
    lift: float


def check_choice(what: str, value: str, choices: Mapping[str, object] | tuple[str, ...]) -> None:
    """Raise ValueError, with the choices, unless the value is one of them."""
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"There is no {what} {value!r}. Choose from: {', '.join(choices)}.")


@dataclass(frozen=True)
class CaseSystem:
    """A system to design.

    ledger: every requirement that does not depend on scale, latency and level. scales: small, medium, large.
    latencies: two usual p99s in ms, the relaxed one first. asks: the questions that may be asked.
    item, unit: what is chosen, and who counts as a daily user. cost_unit: of the ledger's two errors.
    label_share: of the shown rows that get a positive label. negatives_kept: of the others, for training.
    features, by kind: "static" and "dynamic". labels: how the training rows are made and split.
    staff: what only Staff is expected to bring: "risks", "ownership" and "order of work".
    """

    name: str
    ledger: DesignSpec
    scales: Mapping[str, Scale]
    latencies: tuple[float, float]
    item: str
    unit: str
    cost_unit: str
    label_share: float
    negatives_kept: float
    experiment: Experiment
    asks: Mapping[str, Ask]
    metrics: tuple[Metric, ...]
    features: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...]
    ladder: tuple[Rung, ...]
    rollout: tuple[str, ...]
    alarms: tuple[Alarm, ...]
    followups: Mapping[str, tuple[FollowUp, ...]]
    surprises: Mapping[str, Surprise]
    staff: Mapping[str, tuple[str, ...]]

    def spec(self, scale: str, p99_ms: float, seniority: str) -> DesignSpec:
        """Return the complete ledger at a scale, a latency in ms and a level.

        The number of candidates is that of the richest design which answers in time.
        Raises ValueError for an unknown scale or level, or when no design answers in time.
        """
        check_choice("scale", scale, self.scales)
        check_choice("seniority", seniority, SENIORITIES)
        _check_p99(p99_ms, self.latencies)
        spec = replace(self.ledger, **self.scales[scale]._asdict(), p99_ms=float(p99_ms), seniority=seniority)
        return replace(spec, candidates=plan_for(spec).candidates)

    def questions_at(self, scale: str, p99_ms: float, seniority: str = SENIORITIES[0]) -> dict[str, Question]:
        """Return the questions with the hidden answers at a scale and a latency; raises as `spec`."""
        spec = self.spec(scale, p99_ms, seniority)
        return {
            key: Question(ask.text, ask.field, getattr(spec, ask.field) if ask.field else INDIFFERENT)
            for key, ask in self.asks.items()
        }

    @property
    def questions(self) -> dict[str, Question]:
        """The questions with the hidden answers of the large system: key -> (text, field or None, answer)."""
        return self.questions_at("large", self.latencies[0])


def load_of(spec: DesignSpec) -> Load:
    """Return the load that a ledger describes; its log is kept as long as the field of data called a log.

    Without such a field it is kept as long as the field that is kept longest. Raises ValueError when no field
    says how long it is kept.
    """
    logs = [f for f in spec.data if "log" in f.name] or spec.data
    days = [f.retention_days for f in logs if f.retention_days is not None]
    if not days:
        raise ValueError(f"Nobody knows how long {spec.system} keeps its log: give its field retention_days.")
    return Load(
        spec.daily_users,
        spec.requests_per_user,
        spec.peak_factor,
        spec.items,
        spec.page_size,
        spec.freshness_minutes,
        log_days=max(days),
    )


def plan_for(spec: DesignSpec) -> Planned:
    """Return the richest design that answers within the p99 of a complete ledger, at its load.

    Raises ValueError for an unknown system, or when no design answers in time.
    """
    return plan_design(spec.system, load_of(spec), spec.p99_ms)


def _check_p99(p99_ms: float, usual: tuple[float, float]) -> None:
    number = isinstance(p99_ms, Real) and not isinstance(p99_ms, bool)
    if not number or not 0 < p99_ms < math.inf:
        told = " or ".join(f"{ms:g}" for ms in usual)
        raise ValueError(f"The p99 must be a number of ms above 0, such as {told}, not {p99_ms!r}.")


# ------------------------------------------------------------------ surprises


def surprised(spec: DesignSpec, surprise: str) -> DesignSpec:
    """Return the ledger after a surprise: "ten times", "half the latency", "late labels" or "erasure".

    In half the latency half as many candidates can be scored.
    Raises ValueError for another surprise, or when the ledger lacks the number that it changes.
    """
    check_choice("surprise", surprise, SURPRISE_FIELDS)
    name = SURPRISE_FIELDS[surprise]
    value = getattr(spec, name)
    if value is None:
        raise ValueError(f"The ledger has no {name} yet: ask for it before the surprise {surprise!r}.")
    changed = {
        "ten times": lambda: 10 * value,
        "half the latency": lambda: value / 2,
        "late labels": lambda: value + LATE_DAYS,
        "erasure": lambda: (*value, "erase one person from data, features and models within a month"),
    }
    after = replace(spec, **{name: changed[surprise]()})
    if surprise == "half the latency" and spec.candidates and spec.page_size > 1:
        return replace(after, candidates=spec.candidates / 2)
    return after


SURPRISE_FIELDS = {
    "ten times": "daily_users",
    "half the latency": "p99_ms",
    "late labels": "label_delay_days",
    "erasure": "privacy",
}
NEWS = {
    "ten times": "The load is ten times what you planned for.",
    "half the latency": "You get half the latency.",
    "late labels": f"The labels come {LATE_DAYS} days later than you were told.",
    "erasure": "A person demands erasure, and the law gives you a month (GDPR, articles 12 and 17).",
}


def _surprises(**answers: tuple[str, str]) -> Mapping[str, Surprise]:
    """The four pieces of news with the answers of one system, at Senior and at Staff."""
    named = {key.replace("_", " "): answer for key, answer in answers.items()}
    return MappingProxyType(
        {key: Surprise(NEWS[key], dict(zip(SENIORITIES, named[key], strict=True))) for key in NEWS}
    )


# ------------------------------------------------------------------ questions that all systems share


def _asks(**own: Ask) -> Mapping[str, Ask]:
    """The questions of one system: its own, and three that change nothing anywhere."""
    decoys = {
        "framework": Ask("Which deep-learning framework does the team use?"),
        "cloud": Ask("Which cloud does it run on?"),
        "team": Ask("How many people work on it?"),
    }
    return MappingProxyType(own | decoys)


# ------------------------------------------------------------------ video recommendation

VIDEO = CaseSystem(
    name="video recommendation",
    ledger=DesignSpec(
        system="video recommendation",
        goal="people come back because the minutes that they watched were worth it",
        anti_goals=("click-bait", "unsafe for minors", "a page from one creator"),
        users="viewers of the home page; new ones and new creators are the segments to guard",
        requests_per_user=10,
        peak_factor=2.5,
        page_size=20,
        freshness_minutes=15,
        label="watched half or 30 seconds",
        label_delay_days=1,
        consent_needed=True,
        cost_fp=6,
        cost_fn=2,
        data=(
            DataField("watch history", "features and labels", 90),
            DataField("impression log", "training and experiments", 90),
            DataField("survey answers", "check of the label", 365),
        ),
        privacy=("a page without a profile for those who refuse", "erase watch history on request"),
    ),
    scales=MappingProxyType({"small": Scale(2e5, 5e3), "medium": Scale(5e6, 2e6), "large": Scale(2e8, 1e9)}),
    latencies=(200, 100),
    item="video",
    unit="user",
    cost_unit="satisfied minutes",
    label_share=0.05,
    negatives_kept=0.1,
    experiment=Experiment("watch time a user", "user", sd=1.5, lift=0.005),
    asks=_asks(
        users=Ask("How many people open the home page on a day?", "daily_users", "machines, A/B power"),
        catalog=Ask("From how many videos can one request choose?", "items", "one stage or more; the index"),
        latency=Ask("How many ms may the slowest 1% of requests take?", "p99_ms", "K and the model"),
        fresh=Ask("How many minutes until an upload can be found?", "freshness_minutes", "index updates"),
        success=Ask("What says that a view satisfied, beyond the click?", "label", "label, loss, ranking"),
        delay=Ask("How many days until we know that?", "label_delay_days", "split, retraining, A/B length"),
        consent=Ask("Must it work for those who refuse a profile?", "consent_needed", "a page by region"),
        harm=Ask("What must never be recommended?", "anti_goals", "filters before ranking, guardrails"),
        loads=Ask("How often does each of them load it on a day?", "requests_per_user", "QPS, log volume"),
        peak=Ask("How far above the mean is the busiest hour?", "peak_factor", "cores that are bought"),
        page=Ask("How many videos does a page show?", "page_size", "rows of the log"),
        bad=Ask("What does a regretted view cost, in satisfied minutes?", "cost_fp", "value of the heads"),
        missed=Ask("What does a missed good video cost, in the same?", "cost_fn", "value of the heads"),
        privacy=Ask("What may we not keep or use?", "privacy", "retention, erasure, features"),
    ),
    metrics=(
        Metric("28-day return", "business"),
        Metric("watch time a user", "online", "28-day return"),
        Metric("survey satisfaction", "online", "28-day return"),
        Metric("recall of future watches", "offline", "watch time a user"),
        Metric("NDCG at 20, debiased", "offline", "survey satisfaction"),
        Metric("sampled softmax with logQ", "loss", "recall of future watches"),
        Metric("log-loss of each head", "loss", "NDCG at 20, debiased"),
        Metric("dismissals and reports", "guardrail"),
        Metric("share of new creators", "guardrail"),
    ),
    features=MappingProxyType(
        {
            "static": (
                "video: topic and content embedding, duration, language, creator",
                "user: language, country, device",
            ),
            "dynamic": (
                "user: topics of the last 5 minutes, mean of the last 50 watches",
                "video: completion and CTR of the last day, smoothed, with counts",
                "pair: times already shown, time since this channel; position in training only",
            ),
        }
    ),
    labels=(
        "negatives: shown and not watched for ranking; in-batch with logQ for retrieval",
        "split by time, predict future watches: a random split leaks (Covington et al. 2016)",
        "equal rows a user, so that heavy users do not own the loss (Covington et al. 2016)",
        "log features as served; check parity row by row",
    ),
    ladder=(
        Rung("popular by country and age", "no training", "personal order wins recall on future watches"),
        Rung("item-to-item and boosted trees", "log-loss", "recall of the sources caps NDCG"),
        Rung(
            "two towers and multi-task network", "softmax with logQ; a loss a head", "A/B lift pays its cores"
        ),
    ),
    rollout=(
        "shadow for parity, 1% canary, A/B over two full weeks, 1% held back for months",
        "publish user tower and index as a pair; keep the last pair for rollback",
        "retrain daily; gate on recall, calibration and coverage",
    ),
    alarms=(
        Alarm("feature parity", "seconds", "serve without the feature", "data platform"),
        Alarm("index age and source mix", "minutes", "last good index", "retrieval"),
        Alarm("observed over expected, by head", "an hour", "last good model", "ranking"),
        Alarm("dismissals by segment", "a day", "stop the rollout", "product"),
    ),
    followups=MappingProxyType(
        {
            "Senior": (
                FollowUp("Why not one model for everything?", "score all videos: compute it against the p99"),
                FollowUp(
                    "How do you train the two towers?", "in-batch softmax with logQ; recall is a ceiling"
                ),
                FollowUp(
                    "How do long videos not win?", "expected minutes by duration bucket, satisfaction head"
                ),
                FollowUp(
                    "Position bias: find, correct, verify.", "randomize a sliver, estimate examination, IPS"
                ),
                FollowUp("How does a new video start?", "content tower, impressions needed for an interval"),
                FollowUp("Which split, and why not random?", "future watches; a random one leaks popularity"),
            ),
            "Staff": (
                FollowUp("How do you validate the proxy?", "sign and slope over 20 or more past experiments"),
                FollowUp("A source wins alone, loses in the mix?", "leave one out on incremental watch time"),
                FollowUp(
                    "Halve the cost of serving.", "price a stage, attack the largest: distill, cache, K"
                ),
                FollowUp("Does the loop harm creators?", "Gini of exposure, return of creators, holdback"),
                FollowUp("Migrate embeddings under traffic.", "two indexes, paired versions, shadow recall"),
                FollowUp("One platform for three surfaces?", "share logs and experiments first, models last"),
            ),
        }
    ),
    surprises=_surprises(
        ten_times=(
            "QPS, logs and ranking cores grow tenfold, the index does not; check the shards, cut K if needed",
            "price the tenfold first; say which stage dominates and what is given up at which cost",
        ),
        half_the_latency=(
            "smaller K, trees in place of the network, sources side by side; report the recall that is lost",
            "show NDCG a millisecond; offer two points with their loss in watch time and choose one",
        ),
        late_labels=(
            "gap of the delay between training and test; a fast proxy label for monitoring",
            "decide by the proxy, audit by the label; say which alarms no longer fire in time",
        ),
        erasure=(
            "delete raw rows and features by user id, retrain on schedule from what is left",
            "lineage from row to model, proof of deletion, embeddings too; owner and date for each store",
        ),
    ),
    staff=MappingProxyType(
        {
            "risks": (
                "the proxy drifts from return: audit it against the 1% held back",
                "the loop starves new creators: reserve 1-5% exploration with logged propensities",
                "user tower and index from different versions: refuse to serve an unpaired one",
            ),
            "ownership": ("retrieval, ranking, data platform and product each own an alarm and a fallback",),
            "order of work": (
                "quarter 1: log, popular baseline, experiments; then one source and trees",
                "quarter 2: two towers, exploration; the network only once trees stop winning",
            ),
        }
    ),
)

# ------------------------------------------------------------------ search engine

SEARCH = CaseSystem(
    name="search engine",
    ledger=DesignSpec(
        system="search engine",
        goal="a person who asks leaves satisfied, and soon",
        anti_goals=("spam", "unsafe results", "stale prices"),
        users="people who type a query in one of three languages; rare queries are the segment to guard",
        requests_per_user=5,
        peak_factor=3,
        page_size=10,
        freshness_minutes=5,
        label="click with a dwell of 30 seconds",
        label_delay_days=1,
        consent_needed=True,
        cost_fp=10,
        cost_fn=60,
        data=(
            DataField("query log", "labels through a click model", 90),
            DataField("graded judgments", "offline evaluation", 730, personal=False),
            DataField("session chain", "reformulation feature", 30),
        ),
        privacy=("results without a profile for those who refuse", "drop queries that identify a person"),
    ),
    scales=MappingProxyType({"small": Scale(2e4, 5e5), "medium": Scale(2e6, 5e7), "large": Scale(5e7, 1e9)}),
    latencies=(300, 150),
    item="document",
    unit="user",
    cost_unit="seconds lost",
    label_share=0.03,
    negatives_kept=0.2,
    experiment=Experiment("successful sessions", "user", sd=0.8, lift=0.005),
    asks=_asks(
        users=Ask("How many people search on a day?", "daily_users", "replicas, A/B power"),
        corpus=Ask("How many documents are searched?", "items", "shards, fan-out, index size"),
        latency=Ask("How many ms may the slowest 1% of queries take?", "p99_ms", "cross-encoder or none"),
        fresh=Ask("How soon must a changed document be found?", "freshness_minutes", "a live segment"),
        success=Ask("What says that a query was answered?", "label", "click model, metrics"),
        delay=Ask("How many days until we know that?", "label_delay_days", "split, retraining"),
        consent=Ask("Must it work for those who refuse a profile?", "consent_needed", "personal features"),
        harm=Ask("What must never be shown?", "anti_goals", "spam filter apart from ranking"),
        queries=Ask("How many queries does a person send on a day?", "requests_per_user", "QPS, log volume"),
        peak=Ask("How far above the mean is the busiest hour?", "peak_factor", "replicas that are bought"),
        page=Ask("How many results does a page show?", "page_size", "the k of NDCG, rows of the log"),
        bad=Ask("How many seconds does a bad result cost?", "cost_fp", "precision against recall"),
        missed=Ask("How many seconds does a missed document cost?", "cost_fn", "depth of retrieval"),
        privacy=Ask("What may we not keep or use?", "privacy", "retention, queries that are dropped"),
    ),
    metrics=(
        Metric("people who search again next week", "business"),
        Metric("successful sessions", "online", "people who search again next week"),
        Metric("reformulation rate", "online", "people who search again next week"),
        Metric("NDCG at 10 by query class", "offline", "successful sessions"),
        Metric("recall at 1,000", "offline", "reformulation rate"),
        Metric("LambdaRank", "loss", "NDCG at 10 by query class"),
        Metric("contrastive loss", "loss", "recall at 1,000"),
        Metric("zero-result rate", "guardrail"),
        Metric("spam rate, parity of languages", "guardrail"),
    ),
    features=MappingProxyType(
        {
            "static": (
                "document: quality, authority, length, language, embedding",
                "query: length, intent, language, embedding",
            ),
            "dynamic": (
                "pair: BM25 by field, phrase, title match, dense similarity",
                "pair: smoothed CTR with back-off; freshness match",
                "session: reformulation chain, location",
            ),
        }
    ),
    labels=(
        "graded judgments 0-4, sampled by traffic and uniformly: two metrics",
        "clicks through a click model: examined, attracted, satisfied",
        "unjudged is not irrelevant: pool the results of all rankers",
        "split by time and by query, so that no query stands on both sides",
    ),
    ladder=(
        Rung("BM25 (k1 1.2, b 0.75)", "no training", "judged NDCG differs by query class"),
        Rung("boosted trees on hand-made features", "LambdaRank", "misses are synonyms: recall is the cap"),
        Rung(
            "BM25 and dense, fused; cross-encoder on top",
            "contrastive, distilled",
            "NDCG a ms pays its cores",
        ),
    ),
    rollout=(
        "mirror queries in the dark, compare the top 10, let people judge the largest changes",
        "interleave rankers, then A/B over two weeks; canary by shard replica",
        "index by segments; switch model and embedding version as a pair",
    ),
    alarms=(
        Alarm("index lag and completeness", "minutes", "serve the last good segment", "indexing"),
        Alarm("zero-result rate by query class", "minutes", "switch the spelling off", "query team"),
        Alarm("cache hit rate and staleness", "minutes", "shorter life of entries", "serving"),
        Alarm("success by language and class", "a day", "roll the ranker back", "ranking"),
    ),
    followups=MappingProxyType(
        {
            "Senior": (
                FollowUp(
                    "Walk a misspelled query through it.", "edits times language model; keep the original"
                ),
                FollowUp("How is the index sharded?", "by document: local top k; by term: network and skew"),
                FollowUp("BM25 or dense?", "synonyms break the one, rare tokens and numbers the other: fuse"),
                FollowUp("From clicks to unbiased labels?", "examination model, randomized swaps, dwell"),
                FollowUp("What does NDCG hide?", "the gain, ties, documents that nobody judged"),
                FollowUp("What do you cache?", "the head only; key with language and version, life by class"),
            ),
            "Staff": (
                FollowUp(
                    "A fan-out of 50: the tail?", "hedge at the p95, good-enough answers, more replicas"
                ),
                FollowUp("NDCG rose, success fell: why?", "stale or head-heavy judgments, snippets, latency"),
                FollowUp(
                    "Plan 20 languages.", "shared encoder, judgments by uncertainty, a floor a language"
                ),
                FollowUp(
                    "Freshness against merge cost?", "small live tier, large base; recall lost a minute"
                ),
                FollowUp("People attack the ranking.", "spam filter with clean labels, apart from quality"),
                FollowUp("A cross-encoder in 60 ms?", "30 documents distilled or none: NDCG a millisecond"),
            ),
        }
    ),
    surprises=_surprises(
        ten_times=(
            "replicas grow tenfold, shards do not: they follow the documents; cache the head first",
            "price replicas against cache and tiers; the tail of queries sets the bill",
        ),
        half_the_latency=(
            "drop or distill the cross-encoder, ask fewer documents, answer without the slowest shards",
            "show NDCG a millisecond by query class; spend the time only where it pays",
        ),
        late_labels=(
            "judge by people meanwhile; a gap of the delay in the split",
            "judgment budget by class until clicks arrive; freeze launches that only clicks can judge",
        ),
        erasure=(
            "delete query log and session rows by person; remove results about the person from the index",
            "two rights: the searcher's and the subject's; owner, deadline and proof for each store",
        ),
    ),
    staff=MappingProxyType(
        {
            "risks": (
                "the slowest of many shards sets the tail: hedge, and answer without it",
                "judgments grow stale: sample anew each month, by traffic and uniformly",
                "a regression in a rare class is invisible in the mean: gate by class",
            ),
            "ownership": ("indexing, query understanding, ranking and trust each own an alarm and a gate",),
            "order of work": (
                "quarter 1: BM25, judgments, click log, dashboards by class; then trees",
                "quarter 2: dense retrieval and fusion; the cross-encoder only if its NDCG pays",
            ),
        }
    ),
)

# ------------------------------------------------------------------ fraud detection

FRAUD = CaseSystem(
    name="fraud detection",
    ledger=DesignSpec(
        system="fraud detection",
        goal="lose as little as possible to fraud and to wrongly stopped customers",
        anti_goals=("declines without a reason", "one country declined more at equal risk", "failing open"),
        users="cards that pay without being present; new cards and small countries are the segments to guard",
        requests_per_user=1.5,
        peak_factor=4,
        page_size=1,
        freshness_minutes=1 / 60,
        label="chargeback",
        label_delay_days=120,
        consent_needed=False,
        cost_fp=5,
        cost_fn=100,
        data=(
            DataField("payments", "features and labels", 400),
            DataField("device and address", "velocity counters", 180),
            DataField("decision log", "audit and off-policy estimates", 730),
        ),
        privacy=("reasons to customer and analyst", "a person reviews on appeal (GDPR, article 22)"),
    ),
    scales=MappingProxyType({"small": Scale(2e5, 4), "medium": Scale(5e6, 4), "large": Scale(2e8, 4)}),
    latencies=(100, 50),
    item="action",
    unit="card",
    cost_unit="dollars",
    label_share=FRAUD_RATE,
    negatives_kept=0.1,
    experiment=Experiment("fraud loss a card", "card", sd=10, lift=0.05),
    asks=_asks(
        users=Ask("How many cards pay on a day?", "daily_users", "state in memory, A/B power"),
        actions=Ask("How many actions can we choose from?", "items", "policy: block, step up, review"),
        latency=Ask("How many ms of the authorization are ours, at the p99?", "p99_ms", "models, graph"),
        fresh=Ask("How soon must a counter see a payment, in minutes?", "freshness_minutes", "streaming"),
        success=Ask("What tells us that it was fraud?", "label", "four streams of labels"),
        delay=Ask("How many days until we know that?", "label_delay_days", "gap, alarms, retraining"),
        consent=Ask("Do we need consent to score?", "consent_needed", "a path without a profile"),
        harm=Ask("What must never happen?", "anti_goals", "reasons, fallback, guardrails"),
        payments=Ask("How many payments does a card make on a day?", "requests_per_user", "TPS, log volume"),
        peak=Ask("How far above the mean is the busiest hour?", "peak_factor", "cores that are bought"),
        false_stop=Ask("What does a wrongly stopped customer cost?", "cost_fp", "threshold"),
        miss=Ask("What does a missed fraud cost?", "cost_fn", "threshold"),
        privacy=Ask("What do law and regulator ask for?", "privacy", "reason codes, appeals, retention"),
    ),
    metrics=(
        Metric("fraud loss and lost sales", "business"),
        Metric("fraud loss, bps of volume", "online", "fraud loss and lost sales"),
        Metric("false-decline rate", "online", "fraud loss and lost sales"),
        Metric("recall at FPR 0.1%", "offline", "fraud loss, bps of volume"),
        Metric("calibration by amount band", "offline", "false-decline rate"),
        Metric("log-loss", "loss", "recall at FPR 0.1%"),
        Metric("log-loss after recalibration", "loss", "calibration by amount band"),
        Metric("decline gap at equal risk", "guardrail"),
        Metric("appeals overturned", "guardrail"),
    ),
    features=MappingProxyType(
        {
            "static": (
                "card: country, age of the account; merchant: category",
                "network of cards, devices and addresses: degree, component",
            ),
            "dynamic": (
                "counts and sums by card, device, IP and merchant, 1 minute to 30 days",
                "amount against the card's own history; distance over time",
                "merchant risk, shifted by the delay of its labels",
            ),
        }
    ),
    labels=(
        "four streams: analyst, customer report, chargeback (30-120 days), aged clean",
        "bitemporal: keep when it happened and when we knew",
        "train, gap of the delay, test; known stolen cards leave the test",
        "declines have no label: let a random sliver through, log its probability",
    ),
    ladder=(
        Rung("rules with owner and expiry", "precision in shadow", "recall at the review budget is flat"),
        Rung("logistic, then boosted trees", "log-loss, base rate kept", "misses are sequences and rings"),
        Rung("trees with sequence and graph scores", "log-loss", "dollars saved pay the milliseconds"),
    ),
    rollout=(
        "shadow on live traffic; wait for labels; champion and challenger by random policy",
        "release thresholds apart from models; a kill switch for each rule",
        "retrain weekly; rules are the emergency path",
    ),
    alarms=(
        Alarm("feature parity, late counters", "seconds", "rules and the cached score", "data platform"),
        Alarm("score mix by country", "minutes", "last good model", "modeling"),
        Alarm("precision of analysts' reviews", "days", "retrain, new rules", "risk operations"),
        Alarm("chargebacks by cohort", "weeks", "review the policy", "risk owner"),
    ),
    followups=MappingProxyType(
        {
            "Senior": (
                FollowUp(
                    "Why neither accuracy nor ROC-AUC?", "99.9% by doing nothing; costs set the threshold"
                ),
                FollowUp("Counters within 20 ms?", "keyed state, event time, watermark, each event once"),
                FollowUp("Which split?", "train, gap, test; features shifted by the same delay"),
                FollowUp(
                    "What do class weights break?", "probabilities: recalibrate, test at the true base rate"
                ),
                FollowUp("What reason do you give?", "attributions mapped to codes, stable to small changes"),
                FollowUp("Rules or model?", "both; a rule has an owner, an expiry and a shadow precision"),
            ),
            "Staff": (
                FollowUp("What would declines have done?", "log the chance of release, IPS or doubly robust"),
                FollowUp(
                    "The fraudsters adapt.", "tell them little, randomize thresholds, half-life of recall"
                ),
                FollowUp("Who fills the review queue?", "exploit, explore, and a random audit for precision"),
                FollowUp("Many merchants, some new?", "one model, calibrated a merchant; contracts on data"),
                FollowUp("Loss against friction?", "a frontier in dollars and approvals; choose, set a date"),
                FollowUp("A region fails.", "regional counters, bounded staleness, lower limits meanwhile"),
            ),
        }
    ),
    surprises=_surprises(
        ten_times=(
            "ten times the counters: shard by card; the review queue does not grow, so raise its threshold",
            "analysts, not cores, are the limit: price a review against step-up, and automate the easy part",
        ),
        half_the_latency=(
            "no sequence model inline, graph score computed ahead; rules first, small amounts pass",
            "show dollars a millisecond by amount band; spend the time on large amounts",
        ),
        late_labels=(
            "longer gap, analysts' verdicts as the fast label, wider intervals on this month's loss",
            "name the fastest trustworthy label; price a random audit that keeps the estimate honest",
        ),
        erasure=(
            "delete what is not needed by law; keep what fraud prevention may keep, with its date",
            "agree a retention table with legal; erase from counters and graph, prove it by lineage",
        ),
    ),
    staff=MappingProxyType(
        {
            "risks": (
                "declines hide their labels: a random sliver passes, its price is stated",
                "the adversary answers within days: rules bridge until the retraining",
                "input drift stays silent when fraud changes: only labels tell",
            ),
            "ownership": (
                "risk owns the threshold, modeling the score, operations the queue, legal the reasons",
            ),
            "order of work": (
                "quarter 1: decision log, rules, labels with two times, trees in shadow",
                "quarter 2: policy by expected cost, audit sample; sequence model if the dollars pay",
            ),
        }
    ),
)

# ------------------------------------------------------------------ feed ranking

FEED = CaseSystem(
    name="feed ranking",
    ledger=DesignSpec(
        system="feed ranking",
        goal="people return for meaningful interactions with others",
        anti_goals=("bait", "harm", "a feed from one author", "nothing for passive readers"),
        users="readers and authors; passive readers and new authors are the segments to guard",
        requests_per_user=2,
        peak_factor=2.5,
        page_size=25,
        freshness_minutes=1,
        label="comment, share, like or dwell",
        label_delay_days=2,
        consent_needed=True,
        cost_fp=20,
        cost_fn=5,
        data=(
            DataField("impression and dwell log", "training and experiments", 60),
            DataField("graph of connections", "inventory and affinity", 365),
            DataField("survey answers", "weights of the value model", 365),
        ),
        privacy=("a feed by time for those who refuse a profile", "erase posts with all their copies"),
    ),
    scales=MappingProxyType(
        {"small": Scale(2e5, 1.5e6), "medium": Scale(2e7, 1.5e8), "large": Scale(2e9, 1.5e10)}
    ),
    latencies=(200, 100),
    item="post",
    unit="user",
    cost_unit="points of value (a hide -20, a like 5: Xu and Aminian 2023)",
    label_share=0.05,
    negatives_kept=0.1,
    experiment=Experiment("meaningful interactions a user", "user", sd=3, lift=0.005),
    asks=_asks(
        users=Ask("How many people open the feed on a day?", "daily_users", "machines, A/B power"),
        posts=Ask("How many posts are live?", "items", "inbox, retrieval beyond the connections"),
        latency=Ask("How many ms may the slowest 1% of refreshes take?", "p99_ms", "K and the model"),
        fresh=Ask("How many minutes until a new post is seen?", "freshness_minutes", "push, pull or both"),
        success=Ask("Which actions are meaningful?", "label", "heads and their weights"),
        delay=Ask("How many days until we know them?", "label_delay_days", "split, retraining, A/B length"),
        consent=Ask("Must it work for those who refuse a profile?", "consent_needed", "a feed by time"),
        harm=Ask("What must the feed never do?", "anti_goals", "filters before ranking, guardrails"),
        refreshes=Ask("How often does a person refresh on a day?", "requests_per_user", "QPS, log volume"),
        peak=Ask("How far above the mean is the busiest hour?", "peak_factor", "cores that are bought"),
        page=Ask("How many posts does a refresh show?", "page_size", "rows of the log"),
        hide=Ask("How many points of value does a hidden post cost?", "cost_fp", "weights of the heads"),
        missed=Ask("How many points does a missed like cost?", "cost_fn", "weights of the heads"),
        privacy=Ask("What may we not keep or use?", "privacy", "retention, erasure of copies"),
    ),
    metrics=(
        Metric("28-day return", "business"),
        Metric("meaningful interactions a user", "online", "28-day return"),
        Metric("time well spent, by survey", "online", "28-day return"),
        Metric("per-user AUC of each head", "offline", "meaningful interactions a user"),
        Metric("NDCG on survey value", "offline", "time well spent, by survey"),
        Metric("log-loss of each head", "loss", "per-user AUC of each head"),
        Metric("weighted sum of calibrated heads", "loss", "NDCG on survey value"),
        Metric("hides and reports", "guardrail"),
        Metric("posts of new authors", "guardrail"),
    ),
    features=MappingProxyType(
        {
            "static": (
                "post: type, content embedding, language; author: age of the account",
                "graph: common connections and groups",
            ),
            "dynamic": (
                "pair: rates of like, comment, reply; recency, reciprocity",
                "post: early reactions, in a window that ends before the impression",
                "reader: depth of the session, last 5 minutes; integrity scores",
            ),
        }
    ),
    labels=(
        "heads: click, like, comment, share, hide, report, dwell, skip",
        "passive readers: dwell and skip heads, normalized by user",
        "split by time; the window of early reactions must not overlap the label",
        "negatives: shown and passed; position in training only",
    ),
    ladder=(
        Rung("newest first", "no training", "readers miss what they say they value"),
        Rung("boosted trees, one a head", "log-loss a head, calibrated", "heads share what few rows teach"),
        Rung("multi-task network and value model", "a loss a head", "return or survey pays its cores"),
    ),
    rollout=(
        "replay weights on the log, interleave, A/B by clusters of authors and readers",
        "weights are versioned, reviewed and tested like code",
        "keep two holdbacks: long-term, and newest first",
    ),
    alarms=(
        Alarm("freshness and size of the inventory", "minutes", "pull in place of push", "delivery"),
        Alarm("observed over expected, head by segment", "an hour", "last good scale", "ranking"),
        Alarm("share of value from each head", "an hour", "clamp the weight", "value owner"),
        Alarm("prevalence of harm, by sample", "a day", "demote the type", "integrity"),
    ),
    followups=MappingProxyType(
        {
            "Senior": (
                FollowUp("Push or pull?", "push for most, pull for celebrities, merge when read"),
                FollowUp(
                    "Why many heads, how combined?", "calibrated heads times value weights, in one pass"
                ),
                FollowUp("What of passive readers?", "dwell and skip heads, normalized by user"),
                FollowUp("Freshness against relevance?", "decay learned by type, live rate of reactions"),
                FollowUp("Do early reactions leak?", "yes, unless the window ends before the impression"),
                FollowUp(
                    "How is the feed made diverse?", "greedy choice with caps a author, judged by return"
                ),
            ),
            "Staff": (
                FollowUp(
                    "Who chooses the weights?", "fitted to survey and return; product owns, tests guard"
                ),
                FollowUp("Engagement against integrity?", "prevalence by stratified samples; demote, remove"),
                FollowUp("Authors react too: which test?", "clusters around a person, or random by author"),
                FollowUp(
                    "A head drifts: contain in a minute.", "observed over expected hourly, last good scale"
                ),
                FollowUp("A feed in a crisis?", "modes approved ahead, two people switch, audit log"),
                FollowUp("6,000 features: which 600 stay?", "gain a microsecond, by ablation of groups"),
            ),
        }
    ),
    surprises=_surprises(
        ten_times=(
            "inbox writes and hydration grow tenfold: pull for the large authors, cache author features",
            "features, not models, set the bill: gain a microsecond, and drop what does not pay",
        ),
        half_the_latency=(
            "fewer posts to the heavy ranker, light ranker first, reactions read in one batch",
            "show value a millisecond; rank ahead for the idle, live for the rest",
        ),
        late_labels=(
            "rank by the fast heads, calibrate the late ones on mature days only",
            "surrogate for the late head, validated on past experiments; say what is unseen meanwhile",
        ),
        erasure=(
            "delete posts from every inbox, cache and log; retrain from what is left",
            "push copies by reference, so that one deletion is enough; lineage, owner, proof",
        ),
    ),
    staff=MappingProxyType(
        {
            "risks": (
                "one uncalibrated head takes over the sum: clamp it to its last good scale",
                "bait grows with early reactions: cap the rate, sample prevalence",
                "readers and authors react: a plain A/B misjudges both sides",
            ),
            "ownership": (
                "product owns the weights, ranking the heads, integrity the filters, ads the blend",
            ),
            "order of work": (
                "quarter 1: inventory, log with dwell, newest first, integrity filter",
                "quarter 2: trees a head and the value model; the network once heads share rows",
            ),
        }
    ),
)

SYSTEMS: Mapping[str, CaseSystem] = MappingProxyType(
    {system.name: system for system in (VIDEO, SEARCH, FRAUD, FEED)}
)


def find_system(name: str) -> CaseSystem:
    """Return one of the four systems. Raises ValueError, with their names, for another."""
    check_choice("system", name, SYSTEMS)
    return SYSTEMS[name]
