"""The exercises of notebook 01: clarification and metrics."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helpers.exercises import (
    Exercise,
    Mistake,
    Number,
    confuses,
    equals,
    mistaken,
    near,
    same_as,
    tidy,
    wrong_value,
)
from helpers.interview import QUESTIONS, questions_score

# ------------------------------------------------------------------ 1 questions

BUDGET, GOOD_SHARE = 6, 0.75
IDLE = {key for key, question in QUESTIONS.items() if question.field is None}


def _known(keys: Sequence[str]) -> bool:
    return not isinstance(keys, str) and all(key in QUESTIONS for key in keys)


questions = Exercise(
    title="spend your six questions",
    right=lambda keys: (
        _known(keys) and len(set(keys)) == len(keys) <= BUDGET and questions_score(keys) >= GOOD_SHARE
    ),
    reason="These six bring most of the design change that all questions together could bring.",
    mistakes=(
        Mistake(
            "unknown key",
            lambda keys: not _known(keys),
            "Give a list of keys from the table, such as `['users', 'items']`.",
            example=["users", "budget"],
        ),
        Mistake(
            "over budget",
            lambda keys: len(keys) > BUDGET,
            f"You asked more than {BUDGET} questions. Time is the scarce thing: choose.",
            example=list(QUESTIONS)[:8],
        ),
        Mistake(
            "twice",
            lambda keys: len(set(keys)) < len(keys),
            "You asked one question twice. You had the answer.",
            example=["users", "users", "items"],
        ),
        Mistake(
            "accuracy",
            lambda keys: "accuracy" in keys,
            "You asked for more accuracy. Doing nothing already meets any accuracy here.",
            example=["accuracy", "items", "users"],
        ),
        Mistake(
            "average",
            lambda keys: "average" in keys,
            "The average rate follows from users and loads. Ask for those, or for this, not for both.",
            example=["average", "users", "loads", "items", "latency", "freshness"],
        ),
        Mistake(
            "tools",
            lambda keys: bool(IDLE & set(keys)),
            "You asked about tools or people. Their answers follow from the design; they do not change it.",
            example=["framework", "hardware", "items", "users", "latency", "freshness"],
        ),
    ),
    otherwise="All of these count, but others bring more. Ask yours one by one with "
    "`Interviewer()` and read its "
    "`transcript`: which brought least?",
    hints=(
        "A question is worth the change that its answer can make.",
        "Ask first where your assumption may be wrong by a factor of ten or more, or where a choice flips.",
        "Catalogue, traffic, and the time until you know whether you were right move most.",
    ),
    solution_code='answer = ["items", "users", "freshness", "delay", "success", "harm"]',
)


# ------------------------------------------------------------------ 2 precision at another prevalence


def _precision(recall: Number, fpr: Number, prevalence: Number) -> float:
    return prevalence * recall / (prevalence * recall + (1 - prevalence) * fpr)


RATES = [(0.8, 0.01, 0.001), (0.9, 0.1, 0.2), (0.5, 0.02, 0.5)]

prevalence = Exercise(
    title="precision at another prevalence",
    right=same_as(_precision, RATES),
    reason="Stopped thieves are prevalence x recall, stopped honest customers (1 - prevalence) x "
    "fpr; precision is the first over their sum.",
    mistakes=(
        mistaken(
            "equal classes",
            lambda r, f, p: r / (r + f),
            "You weigh thieves and honest customers alike: that is the precision at a prevalence of "
            "one half.",
            RATES,
        ),
        mistaken(
            "all rows honest",
            lambda r, f, p: p * r / (p * r + f),
            "The fpr applies to honest customers only: multiply it by 1 - prevalence.",
            RATES,
        ),
        mistaken(
            "divided again",
            lambda r, f, p: _precision(r, f, p / 10),
            "`prevalence` is already that of the new country: do not divide it by ten again.",
            RATES,
        ),
        mistaken(
            "odds",
            lambda r, f, p: p * r / ((1 - p) * f),
            "That is thieves per honest customer stopped, the odds. Precision divides by both together.",
            RATES,
        ),
        mistaken(
            "specificity",
            lambda r, f, p: p * r / (p * r + (1 - p) * (1 - f)),
            "You used 1 - fpr, the honest customers you let through. The ones you stopped are fpr.",
            RATES,
        ),
    ),
    otherwise="Imagine a million customers: how many thieves do you stop, how many honest ones?",
    hints=(
        "Imagine one million customers.",
        "prevalence x million are thieves; recall of them are stopped.",
        "fpr of the honest ones are stopped as well.",
    ),
    solution_code="""
def answer(recall, fpr, prevalence):
    thieves = prevalence * recall
    honest = (1 - prevalence) * fpr
    return thieves / (thieves + honest)
""",
    probe=RATES[0],
)


# ------------------------------------------------------------------ 3 average precision


def _ordered(y_true: Sequence[int], y_score: Sequence[Number], sign: int = -1) -> np.ndarray:
    return np.asarray(y_true)[np.argsort(sign * np.asarray(y_score), kind="stable")]


def _precisions(hits: np.ndarray) -> np.ndarray:
    return np.cumsum(hits) / np.arange(1, len(hits) + 1)


def _average_precision(y_true: Sequence[int], y_score: Sequence[Number], sign: int = -1) -> float:
    hits = _ordered(y_true, y_score, sign)
    return float(_precisions(hits)[hits == 1].sum() / hits.sum())


def _trapezoid(y_true: Sequence[int], y_score: Sequence[Number]) -> float:
    hits = _ordered(y_true, y_score)
    return float(np.trapezoid(np.r_[1, _precisions(hits)], np.r_[0, np.cumsum(hits) / hits.sum()]))


LISTS = [
    ([1, 0, 1, 0, 0], [0.9, 0.8, 0.7, 0.2, 0.1]),
    ([0, 1, 0, 1, 1], [0.1, 0.7, 0.6, 0.5, 0.9]),
    ([0, 0, 1], [3, 2, 1]),
]

average_precision = Exercise(
    title="average precision by hand",
    right=same_as(_average_precision, LISTS),
    reason="Only ranks that hold a positive count, and the sum is divided by the number of positives.",
    mistakes=(
        mistaken(
            "ascending",
            lambda y, s: _average_precision(y, s, sign=1),
            "You ranked the lowest score first. Sort descending.",
            LISTS,
        ),
        mistaken(
            "every rank",
            lambda y, s: _precisions(_ordered(y, s)).mean(),
            "You averaged the precision over all ranks. Count only the ranks where a positive stands.",
            LISTS,
        ),
        mistaken(
            "divided by n",
            lambda y, s: _average_precision(y, s) * sum(y) / len(y),
            "You divided by the number of rows. Divide by the number of positives.",
            LISTS,
        ),
        mistaken(
            "trapezoids",
            _trapezoid,
            "You joined the points with straight lines. Average precision is a sum of steps.",
            LISTS,
        ),
    ),
    otherwise="Sort by descending score, then note the precision at each rank that holds a positive.",
    hints=(
        "Sort the labels by descending score.",
        "The precision at rank i is (positives so far) / i.",
        "Add it up where the label is 1; divide by the number of ones.",
    ),
    solution_code="""
def answer(y_true, y_score):
    order = sorted(range(len(y_true)), key=lambda i: -y_score[i])
    hits, total = 0, 0.0
    for rank, i in enumerate(order, 1):
        if y_true[i]:
            hits += 1
            total += hits / rank
    return total / hits
""",
    probe=LISTS[0],
)


# ------------------------------------------------------------------ 4 budget


def _day(precision: Number, max_precision: Number, recall: Number) -> dict[str, Number]:
    return {"precision": precision, "max_precision": max_precision, "recall": recall}


budget = Exercise(
    title="a precision against its ceiling",
    right=equals(_day(44 / 100, 55 / 100, 44 / 55)),
    reason="44 of 100 calls were frauds, 55 at most could have been: the model reached four fifths "
    "of its ceiling, which is its recall too.",
    mistakes=(
        Mistake(
            "ceiling of one",
            lambda a: near(1)(a["max_precision"]),
            "With 55 frauds, at most 55 of 100 calls can reach one. The ceiling is not 1.",
            example=_day(0.44, 1, 0.8),
        ),
        Mistake(
            "swapped",
            equals(_day(44 / 55, 55 / 100, 44 / 100)),
            "You swapped precision and recall. Precision divides by the calls, recall by the frauds.",
            example=_day(0.8, 0.55, 0.44),
        ),
        Mistake(
            "recall by calls",
            lambda a: near(0.44)(a["recall"]),
            "Recall divides by all frauds, 55, not by the calls.",
            example=_day(0.44, 0.55, 0.44),
        ),
        Mistake(
            "percent",
            lambda a: near(44)(a["precision"]),
            "Give fractions between 0 and 1, not percentages.",
            example=_day(44, 55, 80),
        ),
    ),
    otherwise="Draw two circles, the calls (100) and the frauds (55); they share 44.",
    hints=(
        "Precision = shared / calls.",
        "Recall = shared / frauds.",
        "For the ceiling, imagine that every fraud is among the calls.",
    ),
    solution_code="answer = {'precision': 44 / 100, 'max_precision': 55 / 100, 'recall': 44 / 55}",
)


# ------------------------------------------------------------------ 5 threshold

FALSE_ALARM, MISS = 8, 152

threshold = Exercise(
    title="price the threshold",
    right=near(FALSE_ALARM / (FALSE_ALARM + MISS)),
    reason="Stop when the expected loss, p x 152, exceeds the expected harm, (1 - p) x 8. They meet "
    "at 8 / (8 + 152).",
    mistakes=(
        wrong_value("one half", 0.5, "One half is right only when both errors cost the same."),
        wrong_value(
            "upside down",
            MISS / (FALSE_ALARM + MISS),
            "Upside down: the dearer the miss, the *lower* the threshold.",
        ),
        wrong_value(
            "odds",
            FALSE_ALARM / MISS,
            "8 / 152 is the odds at which both costs meet. Turn the odds into a probability.",
        ),
        wrong_value(
            "percent",
            100 * FALSE_ALARM / (FALSE_ALARM + MISS),
            "Give a probability between 0 and 1, not a percentage.",
        ),
    ),
    otherwise="Write down the expected cost of stopping and of letting go, as functions of p, and "
    "set them equal.",
    hints=(
        "Letting go costs p x 152 on average.",
        "Stopping costs (1 - p) x 8 on average.",
        "Solve p x 152 = (1 - p) x 8.",
    ),
    solution_code="answer = 8 / (8 + 152)",
)


# ------------------------------------------------------------------ 6 down-sampling


def _undo(y_prob: Number, keep_rate: Number) -> float:
    return y_prob / (y_prob + (1 - y_prob) / keep_rate)


SAMPLES = [(0.5, 0.05), (0.2, 0.1), (0.9, 0.5)]

downsampling = Exercise(
    title="undo the down-sampling",
    right=same_as(_undo, SAMPLES),
    reason="For every negative that you kept there were 1 / keep_rate, so the negative side is "
    "divided by the keep rate.",
    mistakes=(
        mistaken(
            "multiplied",
            lambda p, w: p * w,
            "Multiplying works for tiny probabilities only. Scale the odds, not the probability.",
            SAMPLES,
        ),
        mistaken(
            "wrong way",
            lambda p, w: p / (p + (1 - p) * w),
            "The wrong way: you *removed* negatives, so there are more of them than the model saw.",
            SAMPLES,
        ),
        mistaken(
            "odds",
            lambda p, w: w * p / (1 - p),
            "These are the right odds. Turn them back into a probability.",
            SAMPLES,
        ),
    ),
    otherwise="Check it: with a keep rate of 1, the probability must not change; with a smaller one, "
    "it must fall.",
    hints=(
        "Work with odds, p / (1 - p).",
        "Keeping a share w of the negatives multiplies the odds by 1 / w; take that back.",
        "q = p / (p + (1 - p) / w).",
    ),
    solution_code="""
def answer(y_prob, keep_rate):
    return y_prob / (y_prob + (1 - y_prob) / keep_rate)
""",
    probe=SAMPLES[0],
)


# ------------------------------------------------------------------ 7 NDCG


def _dcg(grades: Sequence[Number], first: int = 2) -> float:
    return float(np.sum(np.asarray(grades, float) / np.log2(np.arange(len(grades)) + first)))


def _ndcg(grades: Sequence[Number]) -> float:
    return _dcg(grades) / _dcg(sorted(grades, reverse=True))


GRADES = [([3, 0, 2, 0, 1],), ([0, 1, 3],), ([1, 2, 0, 3],)]

ndcg = Exercise(
    title="NDCG, with the gain stated",
    right=same_as(_ndcg, GRADES),
    reason="Each grade is divided by log2(rank + 1), and the sum by the sum of the best order.",
    mistakes=(
        mistaken(
            "exponential gain",
            lambda g: _ndcg([2**x - 1 for x in g]),
            "This is the exponential gain. The question asks for the linear one: the grade itself.",
            GRADES,
        ),
        mistaken("not normalized", _dcg, "This is DCG. Divide by the DCG of the best order.", GRADES),
        mistaken(
            "ideal of ones",
            lambda g: _dcg(g) / _dcg([max(g)] * len(g)),
            "The ideal list holds the same grades in descending order, not the top grade everywhere.",
            GRADES,
        ),
        mistaken(
            "rank off by one",
            lambda g: _dcg(g, 3) / _dcg(sorted(g, reverse=True), 3),
            "Off by one: the first rank is divided by log2(2), which is 1.",
            GRADES,
        ),
        mistaken(
            "no discount",
            lambda g: 1.0,
            "Without a discount every order scores 1. Divide by log2(rank + 1).",
            GRADES,
        ),
    ),
    otherwise="By hand: grades [0, 1] give (0/1 + 1/log2(3)) / (1/1).",
    hints=(
        "DCG = sum of grade / log2(rank + 1), the first rank being 1.",
        "The ideal order is `sorted(grades, reverse=True)`.",
        "NDCG = DCG / DCG of the ideal order.",
    ),
    solution_code="""
from math import log2

def dcg(grades):
    return sum(grade / log2(rank + 1) for rank, grade in enumerate(grades, 1))

def answer(grades):
    return dcg(grades) / dcg(sorted(grades, reverse=True))
""",
    probe=GRADES[0],
)


# ------------------------------------------------------------------ 8 metric levels

LEVELS = {
    "cross-entropy": "loss",
    "average precision": "offline",
    "chargeback losses per month": "business",
    "p99 response time": "guardrail",
    "frauds stopped per review hour": "online",
    "squared error": "loss",
    "revenue": "business",
    "recall at 500": "offline",
    "watch minutes per session": "online",
    "error rate of the service": "guardrail",
}


def _levels(**changes: str) -> dict[str, str]:
    return LEVELS | {name.replace("_", " "): level for name, level in changes.items()}


metric_levels = Exercise(
    title="hang up the metrics",
    right=lambda answer: tidy(answer) == LEVELS,
    reason="A loss has a gradient, an offline metric a test set, an online metric an experiment, the "
    "business a ledger; a guardrail must not get worse.",
    mistakes=(
        Mistake(
            "unknown level",
            lambda answer: bool(set(tidy(answer).values()) - set(LEVELS.values())),
            "A level is misspelled. Use business, online, offline, loss or guardrail.",
            example=_levels(revenue="money"),
        ),
        Mistake(
            "metric as loss",
            confuses(LEVELS, "offline", "loss"),
            "Average precision and recall have no useful gradient. You choose models by them; you "
            "do not train "
            "on them.",
            example=_levels(average_precision="loss"),
        ),
        Mistake(
            "loss as metric",
            confuses(LEVELS, "loss", "offline"),
            "You called a loss an offline metric. The optimizer lowers it in each step: that is "
            "what makes it a loss.",
            example=_levels(squared_error="offline"),
        ),
        Mistake(
            "online as business",
            confuses(LEVELS, "online", "business"),
            "You called an online metric business. It moves within an experiment; the business "
            "books money or "
            "people who stay.",
            example=_levels(watch_minutes_per_session="business"),
        ),
        Mistake(
            "guardrail as goal",
            lambda answer: any(LEVELS[k] == "guardrail" != v for k, v in tidy(answer).items()),
            "One of your goals is a guardrail: nobody builds the system to move it, it must only "
            "not get worse.",
            example=_levels(p99_response_time="online"),
        ),
    ),
    otherwise="Ask of each metric: who can move it, how soon, and would we launch for it alone?",
    hints=(
        "Two are losses: they have gradients.",
        "Two are guardrails: nobody launches for them.",
        "Online metrics move during an experiment; business metrics are in the books.",
    ),
    solution_code=f"answer = {LEVELS!r}",
)


# ------------------------------------------------------------------ 9 sample size

Z_TWO_SIDED, Z_ONE_SIDED, Z_POWER = 1.959963985, 1.644853627, 0.841621234


def _size(
    rate: Number, lift: Number, z: float = Z_TWO_SIDED, power: float = Z_POWER, factor: int = 2
) -> float:
    return factor * (z + power) ** 2 * rate * (1 - rate) / (rate * lift) ** 2


TESTS = [(0.05, 0.01), (0.03, 0.02), (0.2, 0.1)]


def _about(function: Callable, rel_tol: float = 0.06) -> Callable[[Callable], bool]:
    """Return a test that allows for the rule of thumb and for other ways to estimate the variance."""
    return lambda answer: all(math.isclose(answer(*t), function(*t), rel_tol=rel_tol) for t in TESTS)


def _about_mistake(name: str, function: Callable, message: str) -> Mistake:
    return Mistake(name, _about(function, rel_tol=0.005), message, example=function)


sample_size = Exercise(
    title="people per group",
    right=_about(_size),
    reason="n = 2 (1.96 + 0.84)^2 p (1 - p) / d^2 for each group, with d = rate x relative lift.",
    mistakes=(
        _about_mistake(
            "absolute lift",
            lambda p, r: 2 * (Z_TWO_SIDED + Z_POWER) ** 2 * p * (1 - p) / r**2,
            "You used the relative gain as if it were absolute. The difference is rate x relative gain.",
        ),
        _about_mistake(
            "both groups",
            lambda p, r: _size(p, r, factor=4),
            "That is the number for both groups together. Give it per group.",
        ),
        _about_mistake(
            "one variance",
            lambda p, r: _size(p, r, factor=1),
            "Both groups are noisy, so the variance of the difference is twice that of one group.",
        ),
        _about_mistake(
            "one-sided",
            lambda p, r: _size(p, r, z=Z_ONE_SIDED),
            "That is the quantile of a one-sided test. Two-sided is norm.ppf(0.975).",
        ),
        _about_mistake(
            "no power",
            lambda p, r: _size(p, r, power=0),
            "You left out the power. Without norm.ppf(0.8) you would miss half of the true gains.",
        ),
    ),
    otherwise="Start from the standard error of a difference, sqrt(2 p (1 - p) / n), and ask for 2.8 "
    "of them.",
    hints=(
        "The absolute difference is d = rate x relative_lift.",
        "The variance of one visit is rate x (1 - rate).",
        "n = 2 (z_0.975 + z_0.8)^2 x variance / d^2.",
    ),
    solution_code="""
from scipy.stats import norm

def answer(rate, relative_lift):
    difference = rate * relative_lift
    variance = rate * (1 - rate)
    return 2 * (norm.ppf(0.975) + norm.ppf(0.8)) ** 2 * variance / difference**2
""",
    probe=TESTS[0],
)


# ------------------------------------------------------------------ 10 envelope

DAILY = 50e6 * 40


def _two(peak: Number, log: Number) -> dict[str, Number]:
    return {"peak_requests_per_second": peak, "log_gigabytes_per_day": log}


def _plain(answer: Any, unit: str) -> float:
    """Return a number, or a quantity with a unit as a number in `unit`."""
    return float(answer.m_as(unit) if hasattr(answer, "m_as") else answer)


def _peak_is(right: float, factor: float = 1.2) -> Callable[[dict], bool]:
    return lambda a: (
        right / factor <= _plain(a["peak_requests_per_second"], "request / second") <= right * factor
    )


def _log_is(right: float, factor: float = 1.2) -> Callable[[dict], bool]:
    return lambda a: right / factor <= _plain(a["log_gigabytes_per_day"], "gigabyte / day") <= right * factor


PEAK, LOG = 3 * DAILY / 86_400, DAILY * 10 * 100 / 1e9

envelope = Exercise(
    title="your own envelope",
    right=lambda a: _peak_is(PEAK, 2)(a) and _log_is(LOG, 2)(a),
    reason="Two billion requests a day are 23,000 a second, 69,000 at the peak; times 10 impressions "
    "of 100 bytes they are two terabytes a day.",
    mistakes=(
        Mistake(
            "no peak",
            _peak_is(PEAK / 3),
            "That is the average. Machines are bought for the peak.",
            example=_two(PEAK / 3, LOG),
        ),
        Mistake(
            "per hour",
            _peak_is(PEAK * 24),
            "You divided by the seconds of an hour. A day has 86,400, about 100,000.",
            example=_two(PEAK * 24, LOG),
        ),
        Mistake(
            "impressions forgotten",
            _log_is(LOG / 10),
            "Each request shows 10 impressions, and each is logged.",
            example=_two(PEAK, LOG / 10),
        ),
        Mistake(
            "log at the peak",
            _log_is(LOG * 3),
            "The log of a day follows from the average rate; the peak lasts an hour.",
            example=_two(PEAK, LOG * 3),
        ),
        Mistake(
            "bits",
            _log_is(LOG * 8),
            "That is gigabits. Storage is counted in bytes.",
            example=_two(PEAK, LOG * 8),
        ),
        Mistake(
            "megabytes",
            _log_is(LOG * 1000),
            "That is megabytes. A gigabyte has 10^9 bytes.",
            example=_two(PEAK, LOG * 1000),
        ),
        Mistake(
            "terabytes",
            _log_is(LOG / 1000),
            "That is terabytes. The question asks for gigabytes.",
            example=_two(PEAK, LOG / 1000),
        ),
    ),
    otherwise="People x requests / 86,400 x peak factor; people x requests x impressions x bytes / 10^9.",
    hints=(
        "Begin with requests a day.",
        "A day has about 10^5 seconds.",
        "Keep the units beside the numbers until the end.",
    ),
    solution_code="""
requests_per_day = 50e6 * 40
answer = {
    "peak_requests_per_second": 3 * requests_per_day / 86_400,
    "log_gigabytes_per_day": requests_per_day * 10 * 100 / 1e9,
}
""",
)

ALL = (
    questions,
    prevalence,
    average_precision,
    budget,
    threshold,
    downsampling,
    ndcg,
    metric_levels,
    sample_size,
    envelope,
)
