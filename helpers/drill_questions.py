"""Short generated questions: numbers are drawn, and the right answer is computed by the helpers.

A generator takes a random generator and returns a question about one concept of notebooks/concepts.csv.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from numbers import Real
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pint
from scipy.special import expit
from sklearn.metrics import roc_auc_score

from helpers.architecture import Latency
from helpers.capacity import (
    all_fast,
    brute_force,
    hit_rate,
    mean_response_time,
    number_in,
    units,
    written_number,
)
from helpers.exercises import Verdict
from helpers.experiments import SRM_ALARM, peeking_false_positives, sample_ratio_p_value
from helpers.features import temporal_split
from helpers.figures import short
from helpers.metrics import (
    at_budget,
    average_precision_at_k,
    calibration_ratio,
    cost_threshold,
    decision_at,
    paired_bootstrap_interval,
    population_stability_index,
    precision_at_k,
    precision_at_prevalence,
    query_auc,
    recall_at_k,
    reciprocal_rank,
    sample_size_for_rate,
    sample_size_per_arm,
    undo_downsampling,
)
from helpers.monitoring import best_period, burn_rate, psi_expectation, psi_limit
from helpers.position_bias import effective_sample_size, inverse_propensity_weights
from helpers.privacy import k_anonymity

T = TypeVar("T")
KINDS = ("estimation", "metric choice", "find the flaw")
LETTERS = "abcdef"
UNKNOWN = re.compile(r"(i (do not|don.?t) know|no idea|\?+)\.?", re.IGNORECASE)
FROM_0_TO_1 = " from 0 to 1"


@dataclass(frozen=True)
class DrillQuestion:
    """A question with its answer.

    kind: one of `KINDS`. right: a number in `unit`, or one of the `choices`. mistakes: what a usual wrong
    answer did, and that answer. reason: why the right one is right. tolerance: how far a number may be off,
    as a share of the right one.
    """

    concept_id: str
    kind: str
    text: str
    right: float | str
    mistakes: Mapping[str, float | str]
    reason: str
    unit: str = ""
    tolerance: float = 0.0
    choices: tuple[str, ...] = ()

    def judge(self, answer: Any) -> tuple[Verdict, str]:
        """Return the verdict and its sentence; an answer that cannot be read is "not attempted".

        A number is in the unit of the question, or a quantity of `capacity.units`; as text it may carry its
        unit, or a % for a share. A choice is its letter. None says "I do not know".
        """
        if answer is ...:
            return Verdict.NOT_ATTEMPTED, f"Replace the `...`: {self.how_to_answer}."
        if answer is None or (isinstance(answer, str) and UNKNOWN.fullmatch(answer.strip())):
            return Verdict.NOT_YET, ""
        read = self._read(answer)
        if read is None:
            comma = not self.choices and isinstance(answer, str) and "," in answer
            hint = "; write 0.5 with a point, not with a comma" if comma else ""
            return Verdict.NOT_ATTEMPTED, f"{answer!r} cannot be read: {self.how_to_answer}{hint}."
        if self._equal(read, self.right):
            return Verdict.RIGHT, self.reason
        return Verdict.NOT_YET, self._mistake(read)

    @property
    def how_to_answer(self) -> str:
        """Say what an answer looks like."""
        if self.choices:
            return f"answer with a letter from a to {LETTERS[len(self.choices) - 1]}"
        return f"answer with a number (unit: {self.unit})"

    @property
    def solution(self) -> str:
        """The right answer as text."""
        return str(self.right) if self.choices else f"{self.right:,.4g} ({self.unit})"

    def _read(self, answer: Any) -> float | str | None:
        """The choice or the finite number that is meant; None when it cannot be read."""
        if self.choices:
            letters = dict(zip(LETTERS, self.choices, strict=False))
            text = str(answer).strip()
            return letters.get(text.strip("().").lower(), text if text in self.choices else None)
        try:
            if isinstance(answer, pint.Quantity):
                answer = answer.to(self.unit).magnitude
            number = self._number_in(answer) if isinstance(answer, str) else float(answer)
        except (TypeError, ValueError, pint.PintError):
            return None
        return number if np.isfinite(number) and not isinstance(answer, bool) else None

    def _number_in(self, text: str) -> float:
        """The number of a text, in the unit of the question; ValueError when it is unclear."""
        number, unit = written_number(text)
        first_word = "" if "/" in self.unit else self.unit.split()[0]  # "4 times" for "times as long"
        percent = unit.casefold() in ("%", "percent")
        if percent and self.unit.endswith(FROM_0_TO_1):
            return number / 100
        if unit.casefold() in (self.unit.casefold(), first_word.casefold()) or (
            percent and self.unit == "percent"
        ):
            return number
        return number_in(text, self.unit)

    def _equal(self, read: float | str, value: float | str) -> bool:
        if self.choices:
            return read == value
        return bool(np.isclose(read, value, rtol=self.tolerance, atol=1e-9))

    def _mistake(self, read: float | str) -> str:
        """What the answer did wrong, as far as it is a usual mistake; of several the one nearest."""
        made = {message: value for message, value in self.mistakes.items() if self._equal(read, value)}
        if not made:
            return "This is none of the usual mistakes: write the calculation down, line by line."
        return min(made, key=lambda message: abs(made[message] - read) if isinstance(read, Real) else 0)

    def _repr_markdown_(self) -> str:
        """The question as Markdown, with its choices."""
        listed = zip(LETTERS, self.choices, strict=False)
        lines = [f"- **{letter}** {choice}" for letter, choice in listed]
        return "\n".join(
            [f"**{self.kind.capitalize()}.** {self.text}", "", *lines, "", f"*{_upper(self.how_to_answer)}.*"]
        )


def _upper(text: str) -> str:
    return text[0].upper() + text[1:]


# ---------------------------------------------------------------- making questions

Generator = Callable[[np.random.Generator], DrillQuestion]
GENERATORS: dict[str, Generator] = {}  # by concept


def asks(concept_id: str) -> Callable[[Generator], Generator]:
    """Add a generator under its concept."""

    def add(generator: Generator) -> Generator:
        GENERATORS[concept_id] = generator
        return generator

    return add


def _one(rng: np.random.Generator, *options: T) -> T:
    return options[rng.integers(len(options))]


def _number(
    concept_id: str,
    text: str,
    right: float,
    unit: str,
    mistakes: Mapping[str, float],
    reason: str,
    tolerance: float = 0.01,
    kind: str = "estimation",
) -> DrillQuestion:
    values = {message: float(value) for message, value in mistakes.items()}
    if unit == "percent":
        values["That is a share: in percent it is a hundred times as much."] = float(right) / 100
    return DrillQuestion(concept_id, kind, text, float(right), values, reason, unit, tolerance)


def _choice(
    rng: np.random.Generator,
    concept_id: str,
    kind: str,
    text: str,
    right: str,
    wrong: Mapping[str, str],
    reason: str,
) -> DrillQuestion:
    """A question with choices in random order; `wrong` tells of each wrong choice what is wrong with it."""
    choices = [right, *(choice for choice in wrong if choice != right)]
    rng.shuffle(choices)
    mistakes = {message: choice for choice, message in wrong.items() if choice != right}
    return DrillQuestion(concept_id, kind, text, right, mistakes, reason, choices=tuple(choices))


def question(concept_id: str, seed: int, repetition: int) -> DrillQuestion:
    """Return the question about a concept for its n-th repetition: equal arguments, equal question.

    Raises ValueError for a concept without a generator.
    """
    if concept_id not in GENERATORS:
        raise ValueError(f"There is no question on {concept_id!r}. Choose from: {', '.join(GENERATORS)}.")
    digits = [int(part) for part in concept_id.split(".")]
    return GENERATORS[concept_id](np.random.default_rng([seed, *digits, repetition]))


# ---------------------------------------------------------------- step 1: clarification and metrics


@asks("1.6")
def _do_nothing(rng: np.random.Generator) -> DrillQuestion:
    rows, positives = 1_000, _one(rng, 1, 2, 5, 10, 20, 50)
    labels = np.arange(rows) < positives
    never = decision_at(labels, np.zeros(rows), np.inf)
    prevalence = 100 * positives / rows
    return _number(
        "1.6",
        f"{prevalence:g}% of the payments are fraud. A vendor promises 'over 90% accuracy'. What accuracy "
        "has "
        "a model that never flags anything?",
        100 * never.accuracy,
        "percent",
        {
            "That is the share of fraud. Never flagging is right on all the others.": prevalence,
            "It is wrong on each fraud, so it does not reach 100%.": 100,
            "One half is what a coin reaches; never flagging is right on every honest payment.": 50,
        },
        f"It is right on {100 - prevalence:g}% of the payments and catches nothing: accuracy says little on "
        "rare positives.",
        tolerance=0.0003,
        kind="find the flaw",
    )


@asks("1.8")
def _precision(rng: np.random.Generator) -> DrillQuestion:
    recall, fpr = _one(rng, 0.7, 0.8, 0.9), _one(rng, 0.005, 0.01, 0.02)
    prevalence = _one(rng, 0.001, 0.002, 0.005, 0.01)
    right = 100 * precision_at_prevalence(recall, fpr, prevalence)
    return _number(
        "1.8",
        f"At its threshold a model has recall {recall:.0%} and a false positive rate of {fpr:.1%}. "
        f"{prevalence:.1%} of the cases are positive. What is its precision?",
        right,
        "percent",
        {
            "You weigh the classes alike: that is the precision at a prevalence of one half.": 100
            * precision_at_prevalence(recall, fpr, 0.5),
            "That is the recall. Precision looks at what was flagged.": 100 * recall,
            "Those are the odds, true over false alarms. Precision divides by both together.": 100
            * prevalence
            * recall
            / ((1 - prevalence) * fpr),
        },
        f"Of a million cases {1e6 * prevalence * recall:,.0f} positives and "
        f"{1e6 * (1 - prevalence) * fpr:,.0f} negatives are flagged: {right:.3g}% of the flags are right.",
    )


@asks("1.9")
def _which_at_a_budget(rng: np.random.Generator) -> DrillQuestion:
    budget, labels = 20, np.arange(400) < 16
    while True:
        steady = rng.normal(size=400) + 1.6 * labels
        peaked = rng.normal(size=400) + 4.0 * (labels & (rng.random(400) < 0.5))
        scores = dict(zip("AB", _one(rng, (steady, peaked), (peaked, steady)), strict=True))
        auc = {name: roc_auc_score(labels, score) for name, score in scores.items()}
        caught = {name: 16 * at_budget(labels, score, budget).recall for name, score in scores.items()}
        winner, other = sorted("AB", key=caught.__getitem__, reverse=True)
        if caught[winner] > caught[other] + 1 and auc[other] > auc[winner] + 0.01:
            break
    told = "; ".join(
        f"{name} has ROC-AUC {auc[name]:.3f} and catches {caught[name]:.0f} of 16 frauds among its first "
        f"{budget}"
        for name in "AB"
    )
    return _choice(
        rng,
        "1.9",
        "metric choice",
        f"Analysts can check {budget} cases a day. {told}. Which model do you ship, and by which metric?",
        f"{winner}, by precision within the {budget} cases",
        {
            f"{other}, by ROC-AUC": "ROC-AUC averages over all thresholds, also those that nobody can "
            "afford.",
            f"{other}, by accuracy": "Accuracy counts the honest cases, and nearly all cases are honest.",
            "neither: the two metrics disagree": "They answer different questions, and only one of them "
            "is yours.",
        },
        f"The budget fixes the operating point. There {winner} catches {caught[winner]:.0f}, {other} "
        f"{caught[other]:.0f}.",
    )


@asks("1.11")
def _threshold(rng: np.random.Generator) -> DrillQuestion:
    cost_fp, ratio = _one(rng, 2, 5, 10), _one(rng, 3, 4, 6, 9, 19)
    cost_fn = cost_fp * ratio
    right = cost_threshold(cost_fp, cost_fn)
    return _number(
        "1.11",
        f"A false alarm costs {cost_fp} euros, a miss {cost_fn}. The probabilities are calibrated. From "
        "which "
        "probability on do you act?",
        right,
        "probability from 0 to 1",
        {
            "One half is right only when both errors cost the same.": 0.5,
            "The costs are swapped: a dear miss must lower the threshold.": cost_fn / (cost_fp + cost_fn),
            "Those are the odds of the threshold. Divide by the sum of both costs.": cost_fp / cost_fn,
        },
        f"C_FP / (C_FP + C_FN) = {cost_fp} / {cost_fp + cost_fn} = {right:.3g}.",
        tolerance=0.02,
    )


@asks("1.14")
def _undo_sampling(rng: np.random.Generator) -> DrillQuestion:
    kept, p = _one(rng, 0.05, 0.1, 0.2), _one(rng, 0.3, 0.4, 0.5, 0.6)
    right = 100 * float(undo_downsampling(p, kept))
    return _number(
        "1.14",
        f"A click model was trained on all clicks and {kept:.0%} of the rows without one. For an "
        "impression it "
        f"says {p:.0%}. What is the probability of a click?",
        right,
        "percent",
        {
            "That is the probability in the sample, where clicks are too frequent.": 100 * p,
            "It is the odds that shrink by the keep rate, not the probability.": 100 * p * kept,
            "Those are the corrected odds: turn them back into a probability.": 100 * p * kept / (1 - p),
        },
        f"p / (p + (1 - p) / w) with w = {kept:g} gives {right:.3g}%.",
    )


@asks("1.16")
def _average_precision(rng: np.random.Generator) -> DrillQuestion:
    lists = (
        [1, 0, 1, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 1, 0, 0, 1],
        [1, 0, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [1, 0, 0, 1, 1],
    )
    hits = _one(rng, *lists, [0, 1, 0, 1, 1])
    right = average_precision_at_k([hits], 5)[0]
    ranks = [rank for rank, hit in enumerate(hits, 1) if hit]
    return _number(
        "1.16",
        f"A list of five shows relevant items at the ranks {', '.join(map(str, ranks))}; there are no "
        "others. "
        "What is its average precision at 5?",
        right,
        "share from 0 to 1",
        {
            "That is precision at 5, which does not see the order.": precision_at_k([hits], 5)[0],
            "You divided by the length of the list. Divide by the number of relevant items.": right
            * len(ranks)
            / 5,
            "That is the reciprocal rank: it looks at the first hit only.": reciprocal_rank([hits])[0],
        },
        "The precision at the rank of each hit, averaged over the hits: "
        + ", ".join(f"{i}/{rank}" for i, rank in enumerate(ranks, 1))
        + f", mean {right:.3g}.",
    )


@asks("1.19")
def _inside_a_list(rng: np.random.Generator) -> DrillQuestion:
    query = np.repeat(np.arange(40), 25)
    ease = rng.normal(scale=1.5, size=40)[query]
    taste = rng.normal(size=len(query))
    labels = rng.random(len(query)) < expit(ease + taste - 1)
    noise = rng.normal(scale=0.5, size=len(query))
    knows = {"the query": ease, "the item": taste + noise}
    first, second = _one(rng, tuple(knows), tuple(knows)[::-1])
    scores = {"A": knows[first], "B": knows[second]}
    overall = {name: roc_auc_score(labels, score) for name, score in scores.items()}
    inside = {name: query_auc(labels, score, query).auc.mean() for name, score in scores.items()}
    winner, other = sorted("AB", key=inside.__getitem__, reverse=True)
    told = "; ".join(
        f"{name}: {overall[name]:.2f} over all rows, {inside[name]:.2f} as mean over the lists"
        for name in "AB"
    )
    return _choice(
        rng,
        "1.19",
        "metric choice",
        f"Two scores shall order the items inside a list. Their ROC-AUC is, {told}. Which one do you take?",
        f"{winner}, by the AUC inside the lists",
        {
            f"{other}, by the AUC over all rows": "Over all rows a score earns AUC for knowing which list "
            "is easy; "
            "no user sees two lists at once.",
            "the mean of both scores, to be safe": "Look first at what each of them knows: a score that is "
            "constant inside a list changes no order.",
        },
        f"Inside a list {other} has AUC {inside[other]:.2f}, {winner} {inside[winner]:.2f}; only that "
        "order is "
        "shown to a user.",
    )


@asks("1.26")
def _sample_size(rng: np.random.Generator) -> DrillQuestion:
    rate, lift = _one(rng, 0.01, 0.02, 0.03, 0.05, 0.1), _one(rng, 0.01, 0.02, 0.05)
    right, sd = sample_size_for_rate(rate, lift), np.sqrt(rate * (1 - rate))
    return _number(
        "1.26",
        f"{rate:.0%} of the users convert. How many users does each arm of an A/B test need to find a "
        "relative "
        f"change of {lift:.0%}, at a level of 5% and a power of 80%?",
        right,
        "users",
        {
            "That is both arms together; the question is for one.": 2 * right,
            "The lift is relative: the difference to find is the rate times the lift.": sample_size_per_arm(
                sd, lift
            ),
            "The difference counts by its square.": 16 * (1 - rate) / (rate * lift),
        },
        f"16 (1 - p) / (p lift^2), about {short(float(f'{right:.2g}'))} users.",
        tolerance=0.1,
    )


@asks("1.32")
def _peak_rate(rng: np.random.Generator) -> DrillQuestion:
    users, loads, peak = _one(rng, 2e6, 2e7, 5e7, 2e8), _one(rng, 3, 5, 10), _one(rng, 2, 2.5, 4)
    daily = users * loads * units.request / units.day
    right = peak * daily.to("QPS").magnitude
    return _number(
        "1.32",
        f"{short(users)} people use the app on a day and load it {loads} times each. The busiest hour sees "
        f"{peak} times the mean. How many requests a second are that at the peak?",
        right,
        "QPS",
        {
            "That is the mean of the day; machines are bought for the peak.": right / peak,
            "You forgot how often each of them loads.": right / loads,
            "That is a day's requests over the seconds of an hour: a day has 86,400.": right * 24,
        },
        f"{short(users)} x {loads} / 86,400 x {peak} = {right:,.3g} QPS. With 100,000 seconds a day it is "
        "near "
        "enough.",
        tolerance=0.2,
    )


# ---------------------------------------------------------------- step 2: architecture

BANDWIDTH = 200 * units.gigabyte / units.second  # one server's memory: typical


@asks("2.2")
def _read_everything(rng: np.random.Generator) -> DrillQuestion:
    items, dims = _one(rng, 1e8, 5e8, 1e9), _one(rng, 64, 128, 256)
    cost = brute_force(items, dims)
    right = (cost["read"] * units.request / BANDWIDTH).to("ms").magnitude
    return _number(
        "2.2",
        f"One request meets each of {short(items)} vectors of {dims} numbers, 4 bytes each. Memory gives "
        f"{BANDWIDTH.magnitude} GB a second. How long does reading them take, per request?",
        right,
        "ms",
        {
            "You counted numbers, not bytes.": right / 4,
            "Those are the operations, two a number. What limits here are the bytes read.": right / 2,
            "That is in seconds.": right / 1_000,
        },
        f"{(cost['read'] * units.request).to('gigabyte').magnitude:,.4g} GB at {BANDWIDTH.magnitude} GB/s: "
        f"{right:,.3g} ms, so no request can look at all of them.",
        tolerance=0.15,
    )


@asks("2.4")
def _ceiling(rng: np.random.Generator) -> DrillQuestion:
    found, kept = _one(rng, 50, 60, 80), _one(rng, 70, 75, 90)
    hits = round(found * kept / 100)
    right = 100 * recall_at_k([[1] * hits], hits, n_relevant=[100])[0]
    return _number(
        "2.4",
        f"Retrieval finds {found}% of what a user would like. Of these, the ranker puts {kept}% on the page. "
        "What recall does the page have?",
        right,
        "percent",
        {
            "That is the ranker on its own. It never sees what retrieval missed.": kept,
            "That is the ceiling, which a perfect ranker would reach.": found,
            "The stages multiply; their mean says nothing.": (found + kept) / 2,
        },
        f"Of 100 liked items {found} are found and {hits} of these shown: retrieval caps the page at "
        f"{found}%.",
        tolerance=0.02,
    )


@asks("2.14")
def _percentiles(rng: np.random.Generator) -> DrillQuestion:
    waits_for_all = bool(rng.integers(2))
    p99 = [30] * 3 if waits_for_all else [_one(rng, 20, 30), _one(rng, 30, 40), _one(rng, 20, 50)]
    draws = np.array([Latency.assumed(high / 4, high, "drawn").draw(rng, 20_000) for high in p99])
    bound = max(p99) if waits_for_all else sum(p99)
    true = np.quantile(draws.max(axis=0) if waits_for_all else draws.sum(axis=0), 0.99)
    how = "in parallel, and it waits for all" if waits_for_all else "one after the other"
    less, exact, more = f"less than {bound} ms", f"{bound} ms", f"more than {bound} ms"
    right = less if true < bound else more
    return _choice(
        rng,
        "2.14",
        "find the flaw",
        f"A request calls three independent stages {how}. Their p99 are {', '.join(map(str, p99))} ms. The "
        "design says that its own p99 is the "
        f"{'largest' if waits_for_all else 'sum'} of these, {bound} ms. In truth it is",
        right,
        {
            less: "Waiting for three meets a slow one more often than waiting for one does.",
            exact: "Percentiles neither add up nor carry over: only means add.",
            more: "All three are hardly ever slow at once, so the sum of the p99 is rarer than one in a "
            "hundred.",
        },
        f"Drawn from such stages the p99 is {true:.3g} ms.",
    )


@asks("2.15")
def _fan_out(rng: np.random.Generator) -> DrillQuestion:
    leaves = _one(rng, 20, 30, 50, 100)
    fast = 100 * all_fast(0.99, leaves)
    return _number(
        "2.15",
        f"A query asks {leaves} shards and waits for all. Each is slower than its p99 in one of 100 calls, "
        "independently. How many percent of the queries meet a slow shard?",
        100 - fast,
        "percent",
        {
            "Probabilities of events that can happen together do not add.": leaves,
            "Those are the queries that meet none.": fast,
            "That is a single shard.": 1,
        },
        f"1 - 0.99^{leaves} = {100 - fast:.3g}%.",
        tolerance=0.03,
    )


@asks("2.16")
def _queue(rng: np.random.Generator) -> DrillQuestion:
    before, after = _one(rng, (50, 90), (60, 90), (50, 80), (70, 95), (60, 80))
    service = 10 * units.ms
    times = [mean_response_time(load * units.QPS, service) for load in (before, after)]
    right = float((times[1] / times[0]).to("").magnitude)
    return _number(
        "2.16",
        f"A server is busy {before}% of the time, then the load grows until it is busy {after}%. Arrivals "
        "and "
        "service are random (M/M/1). By what factor does the mean response time grow?",
        right,
        "times as long",
        {
            "Waiting does not grow in proportion to the load.": after / before,
            "That is the number in the system, L. Divide by the arrivals: W = L / lambda.": right
            * after
            / before,
        },
        f"W = 1 / (mu - lambda): (100 - {before}) / (100 - {after}) = {right:.3g}.",
        tolerance=0.03,
    )


@asks("2.19")
def _bandwidth(rng: np.random.Generator) -> DrillQuestion:
    rate, items, features = _one(rng, 5e3, 2e4, 5e4), _one(rng, 300, 500, 1000), _one(rng, 50, 100, 200)
    read = rate * units.QPS * items * features * 4 * units.byte / units.request
    right = read.to("gigabyte / second").magnitude
    return _number(
        "2.19",
        f"At {rate:,.0f} QPS each request fetches {features} features, 4 bytes each, of {items} "
        "candidates from "
        "a remote store. How much is that?",
        right,
        "gigabyte / second",
        {
            "Those are bits.": right * 8,
            "That is one candidate a request.": right / items,
            "You counted numbers, not bytes.": right / 4,
        },
        f"{rate:,.0f} x {items} x {features} x 4 bytes = {right:,.3g} GB/s: keep item features beside the "
        "ranker.",
        tolerance=0.2,
    )


@asks("2.20")
def _cache(rng: np.random.Generator) -> DrillQuestion:
    keys, part = _one(rng, 10**5, 10**6, 10**7), _one(rng, 0.001, 0.01)
    cached = round(keys * part)
    right = 100 * hit_rate(keys, cached)
    return _number(
        "2.20",
        f"Queries follow Zipf's law with exponent 1. A cache holds the top {cached:,} of {keys:,} distinct "
        "queries. What is its hit rate?",
        right,
        "percent",
        {
            "Popular queries come far more often than their share of the queries.": 100 * part,
            "Those are the misses.": 100 - right,
        },
        f"About (ln {cached:,} + 0.58) / (ln {keys:,} + 0.58) = {right:.3g}%: half of the head, none of "
        "the tail.",
        tolerance=0.05,
    )


# ---------------------------------------------------------------- step 3: data and features


@asks("3.5")
def _mature_rows(rng: np.random.Generator) -> DrillQuestion:
    a_day, delay, history = _one(rng, 100, 200, 500), _one(rng, 30, 45, 60), _one(rng, 90, 120)
    days = pd.Series(pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(history + 1), "D"))
    split = temporal_split(
        days, days.iloc[-1], label_available_at=days + pd.Timedelta(days=delay), evaluated_at="2030"
    )
    right = a_day * len(split.train)
    return _number(
        "3.5",
        f"A log holds {a_day} payments on each of {history} days. A payment's label is final {delay} days "
        "after "
        f"it, at the same hour. You train at the start of day {history + 1}. How many rows have a label?",
        right,
        "rows",
        {
            "That is the whole log: its latest rows count as honest only because nobody knows yet.": a_day
            * history,
            "Those are the rows without a final label.": a_day * (history - right // a_day),
            "Those are days; each of them brings many rows.": len(split.train),
        },
        f"{len(split.train)} days are old enough: {right:,} rows.",
        tolerance=0.02,
    )


@asks("3.12")
def _as_of(rng: np.random.Generator) -> DrillQuestion:
    minutes = np.array([0, 20, 40, 60])
    values = rng.choice(np.arange(2, 40), 4, replace=False).astype(float)
    delay, after = _one(rng, 10, 12, 15), int(rng.integers(1, 9))
    written = pd.DataFrame({"known": minutes + delay, "value": values})
    request = pd.DataFrame({"known": [40 + after]})
    right = pd.merge_asof(request, written, on="known", allow_exact_matches=False).value[0]
    told = ", ".join(
        f"10:{minute:02d} → {value:g}" for minute, value in zip(minutes[:3], values[:3], strict=True)
    )
    return _number(
        "3.12",
        f"A user's feature changed: {told}, 11:00 → {values[3]:g}. The store learns of a change {delay} "
        "minutes "
        f"later. Which value belongs in the training row of a request at 10:{40 + after}?",
        right,
        "units of the feature",
        {
            "That is the latest value, from after the request: a leak.": values[3],
            "That had happened but was not known: serving could not have read it.": values[2],
            "That is an older value: a newer one was already known.": values[0],
        },
        f"Only what was known before 10:{40 + after} may be used: {right:g}.",
        tolerance=0.001,
        kind="find the flaw",
    )


@asks("3.16")
def _parity_or_drift(rng: np.random.Generator) -> DrillQuestion:
    offline = rng.gamma(2, 10, 2_000)
    fault = _one(rng, "users get each other's values", "seconds arrive as milliseconds", "nothing")
    online = {"seconds arrive as milliseconds": offline * 1_000, "nothing": offline}.get(fault, offline[::-1])
    psi, limit = population_stability_index(offline, online), psi_limit(2_000, 2_000)
    differ = float(np.mean(offline != online))
    neither, only_psi, only_parity, both = "neither", "only the PSI", "only the row parity", "both"
    right = {(0, 0): neither, (1, 0): only_psi, (0, 1): only_parity, (1, 1): both}[psi > limit, differ > 0]
    story = "A release changed nothing in a feature" if fault == "nothing" else f"After a release {fault}"
    return _choice(
        rng,
        "3.16",
        "find the flaw",
        f"{story}. Two alarms compare what was served with what is recomputed: the PSI of its "
        "distribution, and "
        "the parity of each row. Which of them fires?",
        right,
        {
            neither: "Recomputed rows differ from served ones, and that is what row parity looks at.",
            only_psi: "Row parity sees every change that the PSI sees, and more.",
            only_parity: "Compare the two distributions again: do they differ?"
            if fault == "nothing"
            else "Here the distribution moves, too.",
            both: "The distribution is the same: the PSI sees no order, only how often each value occurs.",
        },
        f"The PSI is {psi:.3f} (limit {limit:.3f}), and {differ:.0%} of the rows differ.",
    )


@asks("3.35")
def _anonymity(rng: np.random.Generator) -> DrillQuestion:
    while True:
        sizes = rng.integers(2, 9, size=4)
        if len({*sizes.min(keepdims=True), 4, sizes.sum() / 4, sizes.max()}) == 4:
            break
    groups = pd.MultiIndex.from_product([["north", "south"], ["young", "old"]], names=["place", "age"])
    table = groups.to_frame(index=False).loc[np.repeat(np.arange(4), sizes)]
    right = k_anonymity(table, ["place", "age"])[0]
    told = ", ".join(f"{place} and {age}: {size}" for (place, age), size in zip(groups, sizes, strict=True))
    return _number(
        "3.35",
        f"A table without names holds place and age group. People in each group: {told}. For which k is it "
        "k-anonymous at most?",
        right,
        "people",
        {
            "That is the number of groups.": 4,
            "That is the mean; an attacker looks for the smallest group.": sizes.sum() / 4,
            "That is the largest group; an attacker looks for the smallest.": sizes.max(),
        },
        f"The smallest group has {right} people: anybody in it hides among {right}.",
    )


# ---------------------------------------------------------------- step 4: model


@asks("4.11")
def _fused(rng: np.random.Generator) -> DrillQuestion:
    weights = np.array([1, 5, -20])
    while True:
        p = np.column_stack(
            [rng.uniform(0.05, 0.4, 3), rng.uniform(0.01, 0.08, 3), rng.uniform(0.001, 0.03, 3)]
        )
        p = p.round(3)
        values = p @ weights
        best, clicked, kind = values.argmax(), p[:, 0].argmax(), (p[:, :2] @ weights[:2]).argmax()
        if len({best, clicked, kind}) == 3 and np.diff(np.sort(values))[-1] > 0.01:
            break
    told = "; ".join(
        f"{name}: click {a:.3f}, like {b:.3f}, hide {c:.3f}" for name, (a, b, c) in zip("XYZ", p, strict=True)
    )
    return _choice(
        rng,
        "4.11",
        "estimation",
        f"Calibrated heads say {told}. A click is worth 1, a like 5, a hide -20. Which post comes first?",
        "XYZ"[best],
        {
            "XYZ"[clicked]: "It has the most clicks, and clicks alone are not what the page is for.",
            "XYZ"[kind]: "Without the hides it would come first: the negative head was left out.",
        },
        "Values: "
        + ", ".join(f"{name} {value:.3f}" for name, value in zip("XYZ", values, strict=True))
        + ".",
    )


@asks("4.16")
def _ratio(rng: np.random.Generator) -> DrillQuestion:
    rows, predicted, observed = 1_000, _one(rng, 0.03, 0.04, 0.06), _one(rng, 10, 20, 25, 50)
    right = calibration_ratio(np.arange(rows) < observed, np.full(rows, predicted))
    return _number(
        "4.16",
        f"On {rows:,} later impressions a model predicts {predicted:.0%} clicks on average; {observed} "
        "clicks "
        "come. What is its calibration ratio, expected over observed?",
        right,
        "expected / observed",
        {
            "That is observed over expected: turned around.": 1 / right,
            "That is a difference of rates. The ratio tells by what factor a bid would be wrong.": abs(
                predicted - observed / rows
            ),
        },
        f"{rows * predicted:.0f} / {observed} = {right:.3g}: "
        f"{'above 1, it predicts too many' if right > 1 else 'below 1, it predicts too few'}.",
        tolerance=0.02,
    )


@asks("4.20")
def _click_weight(rng: np.random.Generator) -> DrillQuestion:
    theta = np.array(_one(rng, (1, 0.7, 0.45, 0.3, 0.22), (1, 0.6, 0.38, 0.27, 0.18)))
    position = int(rng.integers(2, 6))
    right = inverse_propensity_weights([position], theta)[0]
    return _number(
        "4.20",
        f"People look at the positions 1 to 5 with the probabilities {', '.join(f'{t:g}' for t in theta)}. "
        f"Which weight does a click at position {position} get in training by inverse propensity?",
        right,
        "times a click at position 1",
        {
            "That weighs down the clicks that were hard to get: divide, do not multiply.": theta[
                position - 1
            ],
            "Every click counts the same there: the bias stays.": 1,
            "The rank is no propensity.": position,
        },
        f"1 / {theta[position - 1]:g} = {right:.3g}.",
        tolerance=0.03,
    )


@asks("4.23")
def _luck(rng: np.random.Generator) -> DrillQuestion:
    better = _one(rng, 0.0, 1.5)
    labels = rng.random(400) < 0.2
    a, b = labels + rng.normal(size=400), labels * (1 + better) + rng.normal(size=400)
    gain = paired_bootstrap_interval(roc_auc_score, labels, b, a, n_resamples=200)
    names = {"apart": "B is better on rows like these", "worse": "A is better on rows like these"}
    names["luck"] = "these rows do not tell the two apart"
    right = names["luck" if gain.covers(0) else "apart" if gain.estimate > 0 else "worse"]
    return _choice(
        rng,
        "4.23",
        "find the flaw",
        f"On 400 test rows B's ROC-AUC minus A's is {gain.estimate:+.3f}, 95% interval {gain.low:+.3f} to "
        f"{gain.high:+.3f}, paired on the same rows. What do you say?",
        right,
        {
            names["apart"]: "The interval does not say so: look at where 0 lies.",
            names["worse"]: "The interval does not say so: look at the sign, and at where 0 lies.",
            names["luck"]: "0 lies outside of the interval.",
        },
        f"0 lies {'inside' if gain.covers(0) else 'outside'} of the interval.",
    )


# ---------------------------------------------------------------- step 5: deployment and monitoring


@asks("5.9")
def _sample_ratio(rng: np.random.Generator) -> DrillQuestion:
    users, gap = _one(rng, 20_000, 50_000, 100_000), _one(rng, 0.5, 6.0)
    more = round(gap * np.sqrt(2 * users))
    p_value = sample_ratio_p_value({"A": users, "B": users + more})
    alarm, fine = "find the cause first: no effect may be read", "read the effect: chance makes such a gap"
    return _choice(
        rng,
        "5.9",
        "find the flaw",
        f"A test that splits users in halves counted {users:,} in A and {users + more:,} in B. What do "
        "you do?",
        alarm if p_value < SRM_ALARM else fine,
        {
            alarm: "Arms are never equal. This gap is of the size that chance makes.",
            fine: "Chance hardly ever makes such a gap: some users were lost or counted twice, and not at "
            "random.",
            "drop users of the larger arm until both are equal": "Nobody knows which ones to drop: what "
            "made the "
            "arms unequal may also make them different.",
        },
        f"The chi-square p-value is {p_value:.2g}, the alarm level {SRM_ALARM:g}.",
    )


@cache
def _peeks(looks: int) -> float:
    return peeking_false_positives(looks, n_runs=4_000).estimate


@asks("5.10")
def _peeking(rng: np.random.Generator) -> DrillQuestion:
    looks = _one(rng, 5, 10, 20)
    right = 100 * _peeks(looks)
    return _number(
        "5.10",
        f"A test without any effect is looked at {looks} times, evenly spaced, and stopped at the first "
        "p < 5%. In how many percent of such tests is a winner announced? (Within a sixth.)",
        right,
        "percent",
        {
            "That is a single look, planned before.": 5,
            "The looks share their users, so their errors do not add.": 5 * looks,
            "That would be independent looks; they share most of their users.": 100 * (1 - 0.95**looks),
        },
        f"Simulated, it is {right:.0f}%. Spend alpha over the looks, or look once.",
        tolerance=1 / 6,
    )


@asks("5.16")
def _effective(rng: np.random.Generator) -> DrillQuestion:
    few, heavy = _one(rng, 2, 5, 10), _one(rng, 10, 20, 50)
    weights = np.r_[np.ones(100 - few), np.full(few, heavy)]
    right = effective_sample_size(weights)
    return _number(
        "5.16",
        f"An off-policy estimate weighs {100 - few} logged rows by 1 and {few} rows by {heavy}. What is its "
        "effective sample size?",
        right,
        "rows",
        {
            "All rows are there, but a few of them decide nearly everything.": 100,
            "That is the sum of the weights.": weights.sum(),
            "Those are the heavy rows only; the others count a little.": few,
        },
        f"(sum w)^2 / sum w^2 = {weights.sum():.0f}^2 / {(weights**2).sum():.0f} = {right:.3g}.",
        tolerance=0.05,
    )


@asks("5.20")
def _which_drift(rng: np.random.Generator) -> DrillQuestion:
    kind = _one(rng, "covariate shift", "concept drift", "no drift")
    n = 4_000
    before, now = rng.normal(size=n), rng.normal(loc=0.5 * (kind == "covariate shift"), size=n)
    p = expit(now - 2)
    happened = rng.random(n) < expit(now - 2 + 0.8 * (kind == "concept drift"))
    psi, limit = population_stability_index(before, now), psi_limit(n, n)
    ratio = calibration_ratio(happened, p)
    return _choice(
        rng,
        "5.20",
        "find the flaw",
        f"The model is calibrated. This week's features: PSI {psi:.3f}, limit {limit:.3f}. This week's "
        "labels: "
        f"expected over observed positives {ratio:.2f}, {happened.sum()} observed. What moved?",
        kind,
        {
            "covariate shift": "Then the features would have moved: look at the PSI.",
            "concept drift": "Then the same features would bring other labels: look at expected over "
            "observed.",
            "no drift": "One of the two statistics is far from what chance makes.",
        },
        {
            "covariate shift": "P(x) moved, and P(y | x) stayed: the predictions still hold.",
            "concept drift": "P(y | x) moved, and P(x) stayed: no alarm on features can see it.",
            "no drift": "Both statistics are as chance makes them.",
        }[kind],
    )


@asks("5.22")
def _null_psi(rng: np.random.Generator) -> DrillQuestion:
    rows, bins = _one(rng, 100, 200, 500), _one(rng, 10, 20)
    right = psi_expectation(rows, rows, bins)
    return _number(
        "5.22",
        f"Two windows of {rows} rows come from the same distribution. What is the mean of their PSI, in "
        f"{bins} "
        "bins?",
        right,
        "PSI",
        {
            "Nothing drifted, but samples differ: the PSI is never negative, so its mean is above 0.": 0,
            "Both windows are samples: each of them adds its noise.": right / 2,
            "One bin follows from the others: count bins - 1.": right * bins / (bins - 1),
        },
        f"({bins} - 1) (1/{rows} + 1/{rows}) = {right:.3g}. A fixed limit has no sample size.",
        tolerance=0.02,
    )


@asks("5.28")
def _burning(rng: np.random.Generator) -> DrillQuestion:
    total, bad, slo = _one(rng, 1_000, 5_000), _one(rng, 0.004, 0.006, 0.02), _one(rng, 0.999, 0.998, 0.995)
    right = burn_rate([bad * total], [total], slo, 60)[-1]
    return _number(
        "5.28",
        f"The service promises {slo:.1%} good answers. Within the last hour {bad * total:.0f} of "
        f"{total:,} were "
        "bad. At what rate does the error budget burn?",
        right,
        "times the budget",
        {
            "That is the error rate in percent. Divide by what the promise allows.": 100 * bad,
            "That is the error rate. Divide by what the promise allows.": bad,
            "You divided by the promise. What may be spent is 1 minus it.": bad / slo,
        },
        f"{bad:.1%} bad over {1 - slo:.1%} allowed: {right:.3g} times as fast as it may.",
        tolerance=0.001,
    )


@asks("5.30")
def _retrain(rng: np.random.Generator) -> DrillQuestion:
    cost, value, decay = _one(rng, 200, 500, 800), _one(rng, 50, 100, 200), _one(rng, 0.1, 0.2)
    right = best_period(cost, value, decay)
    return _number(
        "5.30",
        f"A training costs {cost} dollars. A point of AUC is worth {value} dollars a day, and a model loses "
        f"{decay} points each day. After how many days do you train again?",
        right,
        "days",
        {
            "The mean loss of a saw-tooth is half of its height: a 2 is missing.": right / np.sqrt(2),
            "The square root is missing.": right**2,
        },
        f"sqrt(2 C / (v d)) = {right:.3g} days; twice or half of it costs only a quarter more.",
        tolerance=0.1,
    )
