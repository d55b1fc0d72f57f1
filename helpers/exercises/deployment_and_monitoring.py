"""The exercises of notebook 05: deployment and monitoring."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from helpers.exercises import Exercise, Mistake, Number, close, same_as, tidy
from helpers.experiments import SRM_ALARM, sample_ratio_p_value, spending_boundary
from helpers.incidents import fault_name


def _mistakes_on(
    probes: Sequence[tuple], agree: Callable[[Any, Any], bool] = close
) -> Callable[..., Mistake]:
    """Return a maker of mistakes: of writing one of several functions that share their fault."""

    def mistake(name: str, message: str, *functions: Callable) -> Mistake:
        tests = [same_as(function, probes, agree) for function in functions]
        return Mistake(name, lambda a: any(test(a) for test in tests), message, example=functions[0])

    return mistake


def _mislabels(right: Mapping[str, str]) -> Callable[..., Mistake]:
    """Return a maker of mistakes: of giving one of several labels to a key."""

    def mistake(key: str, labels: Sequence[str], message: str) -> Mistake:
        name, example = f"{key}: {labels[0]}", {**right, key: labels[0]}
        return Mistake(name, lambda a: tidy(a)[key] in labels, message, example)

    return mistake


def _unknown(right: Mapping[str, str], allowed: Collection[str]) -> Mistake:
    """The mistake of a label that cannot be chosen."""
    return Mistake(
        "unknown",
        lambda a: not set(tidy(a).values()) <= set(allowed),
        "One of your choices is not in the list. Copy the names as they stand.",
        example=dict.fromkeys(right, "other"),
    )


def _listed(choices: Mapping[str, str]) -> str:
    return "\n".join(f"- `{name}`: {what}" for name, what in choices.items())


# ------------------------------------------------------------------ 1 degradation ladder

RUNGS = {
    "batch profile": "rank with the user's profile of last night, a part of the release",
    "empty profile": "rank as though the user were new",
    "retrieval order": "show the candidates in the order in which the index found them",
    "popular list": "take the popular videos of the release as candidates, and rank them for this user",
    "static list": "show a fixed list, a file next to the web server",
    "last week's ranker": "give the candidates to the ranker of the release before",
    "retry": "call again what failed",
    "error page": "say sorry",
}
_LADDER = {
    "ranker late": "retrieval order",
    "store down": "batch profile",
    "index down": "popular list",
    "everything down": "static list",
}
FAILURES = tuple(_LADDER)
LADDER_STORY = (
    "A request is on its way through the service: the store tells the user's profile of this minute, the "
    "index finds candidates, the ranker orders them. Something fails:\n\n"
    "- `ranker late`: its time is over, and no score has come. The rest works.\n"
    "- `store down`: no profile of this minute. The rest works.\n"
    "- `index down`: no candidates. The rest works.\n"
    "- `everything down`: the service does not answer. The web server before it does.\n\n"
    f"Your choices:\n\n{_listed(RUNGS)}"
)
_rung = _mislabels(_LADDER)

fallback_order = Exercise(
    title="the degradation ladder",
    right=lambda a: tidy(a) == _LADDER,
    reason="Each stage has the fallback that loses least, and needs nothing of what failed. The last one "
    "needs nothing at all. The log says which rung answered, or an experiment would compare the failures.",
    mistakes=(
        _unknown(_LADDER, RUNGS),
        _rung(
            "ranker late",
            ("last week's ranker",),
            "That is a rollback, for a ranker that is wrong. This one is late, and another would need the "
            "time again that is over.",
        ),
        _rung(
            "ranker late",
            ("popular list", "batch profile", "empty profile"),
            "That has to be ranked, and the ranker is what is late. What was found before it?",
        ),
        _rung(
            "ranker late",
            ("static list",),
            "Too far down: candidates for this very user are there, in an order.",
        ),
        _rung(
            "store down",
            ("empty profile",),
            "Everybody would be new, although the release knows them as they were last night.",
        ),
        _rung(
            "store down",
            ("retrieval order",),
            "One rung too low: the ranker works. It lacks a few minutes of the profile, not all of it.",
        ),
        _rung(
            "store down",
            ("popular list", "static list"),
            "Too far down: index and ranker work, and so the feed can stay personal.",
        ),
        _rung(
            "store down",
            ("last week's ranker",),
            "Every ranker reads a profile. Where is another one of the same user?",
        ),
        _rung(
            "index down",
            ("retrieval order",),
            "Without the index nothing was retrieved, so there is no order. Which candidates need no index?",
        ),
        _rung(
            "index down",
            ("static list",),
            "One rung too low: store and ranker work, and can order other candidates for this user.",
        ),
        _rung(
            "index down",
            ("batch profile", "empty profile", "last week's ranker"),
            "Profile and ranker are there. What is missing is candidates.",
        ),
        _rung(
            "everything down",
            ("popular list", "batch profile", "empty profile", "retrieval order", "last week's ranker"),
            "That lives in the service, which does not answer. What needs nothing of it?",
        ),
        Mistake(
            "retry",
            lambda a: "retry" in tidy(a).values(),
            "A retry adds load to what fails, and waits twice. Fall back now; a circuit breaker tries again "
            "later.",
            example=_LADDER | {"index down": "retry"},
        ),
        Mistake(
            "error page",
            lambda a: "error page" in tidy(a).values(),
            "An error, where a worse list would do. In each of these cases there is one.",
            example=_LADDER | {"everything down": "error page"},
        ),
    ),
    otherwise="Ask of each failure: what is missing, what works still, and which choice needs only that?",
    hints=(
        "Four of the eight are right once each, and none of them calls again what failed.",
        "A missing profile, missing candidates, a missing order: replace what is missing, keep the rest.",
        "When the service is down, a file next to the web server is left.",
    ),
    solution_code=f"answer = {_LADDER!r}",
)

# ------------------------------------------------------------------ 2 open loop


def _sent(seed: int, gap_ms: float, mean_ms: float, stalls: Mapping[int, float]) -> tuple:
    """Times at which requests were to be sent, and how long the worker took for each; some are stalls."""
    rng = np.random.default_rng(seed)
    intended = 500 + np.cumsum(rng.exponential(gap_ms, 200).round(1))
    duration = rng.uniform(0.5, 1.5, 200) * mean_ms
    duration[list(stalls)] = list(stalls.values())
    return intended, duration


SENT = [_sent(0, 10, 4, {40: 600}), _sent(1, 10, 8, {}), _sent(2, 20, 3, {10: 90, 90: 250, 95: 120})]
LATE_MS = 100


def _latency(intended: np.ndarray, duration: np.ndarray) -> np.ndarray:
    """What users wait for one worker that serves one after the other (the recursion of Lindley 1952)."""
    work = np.cumsum(duration)
    return work + np.maximum.accumulate(intended - (work - duration)) - intended


def _behind_one(intended: np.ndarray, duration: np.ndarray) -> np.ndarray:
    """Latencies, if one had to wait only for the request just before, and that one for nobody."""
    free = np.r_[-np.inf, (intended + duration)[:-1]]
    return np.maximum(intended, free) + duration - intended


def _are_numbers(reply: Any) -> bool:
    """Whether that is a number, or numbers in an order."""
    return isinstance(reply, Sequence | np.ndarray | pd.Series | Number | np.number)


def _same_numbers(reply: Any, right: np.ndarray) -> bool:
    return _are_numbers(reply) and close(reply, right)


def _late(latency: np.ndarray) -> int:
    return int((latency > LATE_MS).sum())


_latency_mistake = _mistakes_on(SENT, _same_numbers)

open_loop = Exercise(
    title="latency as users see it",
    right=same_as(_latency, SENT, _same_numbers),
    reason="Users come when they want to, not when the server is free. In the first test one request of "
    f"{len(SENT[0][0])} took longer than {LATE_MS} ms to serve, and {_late(_latency(*SENT[0]))} users waited "
    "longer than that. A load generator that waits for each answer before it sends the next request would "
    f"report {_late(SENT[0][1])}.",
    mistakes=(
        Mistake(
            "type",
            lambda a: not _are_numbers(a(*SENT[0])),
            "Return a list or an array: the latency of each request, in their order. Yours is of another "
            "type.",
            example=lambda *sent: dict(enumerate(_latency(*sent))),
        ),
        _latency_mistake(
            "durations",
            "These are the durations, from the actual start. Who is stuck behind a slow request waits as "
            "well, and you left it out: that is coordinated omission. Measure from the intended time.",
            lambda intended, duration: duration,
        ),
        _latency_mistake(
            "waiting only",
            "That is the time until the worker begins. The user also waits until it is done.",
            lambda intended, duration: _latency(intended, duration) - duration,
        ),
        _latency_mistake(
            "ends",
            "These are the moments at which requests end. Subtract the intended times.",
            lambda intended, duration: _latency(intended, duration) + intended,
        ),
        _latency_mistake(
            "behind one",
            "You let a request wait for the one before it, and that one for nobody. A queue is longer: "
            "remember when the worker is *really* free.",
            _behind_one,
        ),
        _latency_mistake(
            "never idle",
            "Your worker is never idle: it begins a request when the last one is done, even if nobody has "
            "sent it yet. It begins at the later of the two moments.",
            lambda intended, duration: intended[0] + np.cumsum(duration) - intended,
            lambda intended, duration: np.cumsum(duration) - intended,
            lambda intended, duration: np.cumsum(duration),
        ),
        Mistake(
            "one number",
            lambda a: np.ndim(a(*SENT[0])) == 0,
            "That is one number. Return the latency of each request; a quantile comes later.",
            example=lambda *sent: _latency(*sent).mean(),
        ),
    ),
    otherwise="By hand: sent at 0, 10 and 20 ms, each 15 ms of work. They end at 15, 30 and 45, so the "
    "latencies are 15, 20 and 25.",
    hints=(
        "A request begins when it was sent or when the worker is free, whichever is later.",
        "The worker is free again at begin + duration. Carry that from request to request.",
        "latency = end - intended, and the loop needs one variable, `free`.",
    ),
    solution_code="""
def answer(intended, duration):
    latencies, free = [], float("-inf")
    for sent, work in zip(intended, duration):
        free = max(sent, free) + work
        latencies.append(free - sent)
    return latencies
""",
    probe=SENT[0],
)

# ------------------------------------------------------------------ 3 release gates

MOST_UNEQUAL, LEAST_GAIN, MOST_MS, RATIOS = 0.001, -0.002, 50, (0.9, 1.1)
GATES = {
    "schema": "every column that the release reads is there, with its type.",
    "parity": f"at most {MOST_UNEQUAL:.1%} of the values differ between offline and online features.",
    "metric": f"the interval of the change in NDCG excludes every change below {LEAST_GAIN}.",
    "slice": "no slice is surely worse: the interval of the worst one does not lie wholly below zero.",
    "calibration": f"clicks expected over clicks observed are within {RATIOS[0]} and {RATIOS[1]}.",
    "latency": f"the p99 is at most {MOST_MS} ms.",
}
_STOPS: dict[str, Callable[[pd.Series], bool]] = {
    "schema": lambda c: not c["schema_ok"],
    "parity": lambda c: c["unequal_values"] > MOST_UNEQUAL,
    "metric": lambda c: c["metric_low"] < LEAST_GAIN,
    "slice": lambda c: c["slice_high"] < 0,
    "calibration": lambda c: not RATIOS[0] <= c["calibration_ratio"] <= RATIOS[1],
    "latency": lambda c: c["p99_ms"] > MOST_MS,
}
CANDIDATES = pd.DataFrame.from_dict(
    {
        "A": (True, 0.0003, 0.012, 0.020, -0.041, -0.009, 1.01, 44),
        "B": (True, 0.0310, 0.024, 0.033, 0.006, 0.040, 1.23, 43),
        "C": (True, 0.0006, -0.001, 0.004, -0.018, 0.006, 0.96, 49),
        "D": (True, 0.0002, 0.009, 0.016, -0.004, 0.021, 0.99, 63),
        "E": (True, 0.0004, -0.006, 0.014, -0.013, 0.030, 1.02, 41),
        "F": (True, 0.0005, 0.007, 0.013, -0.006, 0.019, 0.82, 45),
    },
    orient="index",
    columns=[
        "schema_ok",
        "unequal_values",
        "metric_low",
        "metric_high",
        "slice_low",
        "slice_high",
        "calibration_ratio",
        "p99_ms",
    ],
)
GATES_STORY = (
    "Six candidates are to replace the current release. `metric` and `slice` are 95% intervals of the change "
    f"against it: over all users, and in the worst slice. The gates, in this order:\n\n{_listed(GATES)}"
)


def _first_gate(candidate: pd.Series) -> str:
    """The first gate that stops a candidate, or "pass"."""
    return next((gate for gate, stops in _STOPS.items() if stops(candidate)), "pass")


_GATED = {name: _first_gate(candidate) for name, candidate in CANDIDATES.iterrows()}
_gate = _mislabels(_GATED)

release_gates = Exercise(
    title="the release gates",
    right=lambda a: tidy(a) == _GATED,
    reason="The gates stop all five whose metric is higher, and let the dullest candidate pass. That is "
    "their work: a gate asks whether harm is excluded. Parity comes before the metric, since a metric on "
    "other values than users get proves nothing.",
    mistakes=(
        _unknown(_GATED, ("pass", *GATES)),
        _gate(
            "A",
            ("pass",),
            "A is better on average, and surely worse in one slice: the whole interval is below zero. Its "
            "users do not feel the average.",
        ),
        _gate(
            "A",
            ("metric",),
            f"That gate lets A pass: compare its `metric_low` with {LEAST_GAIN}.",
        ),
        _gate(
            "B",
            ("pass",),
            "B has the best metric, on offline features. Users get other values in the service, so nobody "
            "has measured what they would see.",
        ),
        _gate(
            "B",
            ("calibration",),
            "That gate would stop B as well, but an earlier one does already. The unequal values may well be "
            "why the ratio is off: repair the cause.",
        ),
        _gate(
            "B",
            ("metric",),
            f"That gate lets B pass: compare its `metric_low` with {LEAST_GAIN}. But may one believe it?",
        ),
        _gate(
            "C",
            ("metric",),
            "You stopped C since its interval covers zero. The gate only wants a real loss excluded, and it "
            "is. Many a good release is a repair, and not a gain.",
        ),
        _gate(
            "C",
            ("slice",),
            "The worst slice of C is below zero in the middle only. The gate stops what is *surely* worse; "
            "the worst of many slices always looks bad.",
        ),
        _gate(
            "C",
            ("calibration", "latency", "parity", "schema"),
            "C is near that limit, and within it. A limit that moves after the fact is none.",
        ),
        _gate("D", ("pass",), "D is good, and too slow: over the limit, the fallback answers in its place."),
        _gate(
            "D",
            ("slice",),
            "That gate lets D pass: compare its `slice_high`, and not `slice_low`, with zero.",
        ),
        _gate(
            "E",
            ("pass",),
            "The middle of E's interval is above zero, but its low end admits a loss that the gate must "
            "exclude. Look at the end, not at the middle.",
        ),
        _gate(
            "E",
            ("slice",),
            "The worst slice of E may be worse and may be better. And an earlier gate stops E.",
        ),
        _gate(
            "E",
            ("latency",),
            f"That gate lets E pass: compare its `p99_ms` with {MOST_MS}.",
        ),
        _gate(
            "F",
            ("metric",),
            f"That gate lets F pass: compare its `metric_low` with {LEAST_GAIN}, and not with zero.",
        ),
        _gate(
            "F",
            ("pass",),
            "F orders well, but more clicks came than it expects. Its values go into sums with other heads, "
            "and there the scale counts.",
        ),
    ),
    otherwise="Take one candidate after the other through the gates, from the top, and write down the first "
    'that it fails. One of the six fails none: "pass".',
    hints=(
        "Of an interval, each gate asks for one end: which one, and against what?",
        "metric: the low end against its limit. slice: the high end against zero.",
        "One candidate fails two gates; write the first. One gate stops nobody today.",
    ),
    solution_code=f"answer = {_GATED!r}",
)

# ------------------------------------------------------------------ 4 sample ratio

LEVELS = (SRM_ALARM, 0.05, 0.01)
HALVES = {"control": 0.5, "treatment": 0.5}
RAMP = {"treatment": 0.1, "control": 0.9}  # in another order than the counts
THIRDS = {"control": 0.5, "small": 0.25, "large": 0.25}


def _arms(shares: Mapping[str, float], **arms: tuple[int, float]) -> tuple[pd.DataFrame, Mapping[str, float]]:
    """The users of each arm and those who converted, at a rate; and the shares that were planned."""
    table = pd.DataFrame.from_dict(arms, orient="index", columns=["users", "converted"])
    return table.assign(converted=(table["users"] * table["converted"]).round().astype(int)), shares


SPLITS = [
    _arms(HALVES, control=(500_300, 0.04), treatment=(499_700, 0.044)),  # p = .5
    _arms(HALVES, control=(500_000, 0.04), treatment=(497_000, 0.04)),  # .003
    _arms(HALVES, control=(500_000, 0.04), treatment=(496_600, 0.04)),  # .0007
    _arms(HALVES, control=(500_000, 0.04), treatment=(495_000, 0.0401)),  # 5e-7
    _arms(HALVES, control=(112, 0.1), treatment=(88, 0.1)),  # .09
    _arms(RAMP, control=(900_200, 0.04), treatment=(99_800, 0.045)),  # .5
    _arms(RAMP, control=(9_000, 0.04), treatment=(1_180, 0.04)),  # 9e-8
    _arms({"control": 0.6, "treatment": 0.4}, control=(5_000, 0.1), treatment=(5_000, 0.1)),  # 1e-92
    _arms(THIRDS, control=(50_000, 0.1), small=(25_600, 0.1), large=(24_400, 0.1)),  # 6e-7
    _arms(HALVES, control=(500_000, 0.04), treatment=(495_600, 0.04)),  # 1e-5; 2e-3 as two samples
    _arms(HALVES, control=(500_000, 0.04), treatment=(496_466, 0.04)),  # .0004; .012 as two samples
]


def _p_value(counts: pd.DataFrame, shares: Mapping[str, float], column: str = "users") -> float:
    return sample_ratio_p_value(counts[column].to_dict(), shares)


def _alarm(counts: pd.DataFrame, shares: Mapping[str, float]) -> bool:
    return _p_value(counts, shares) < SRM_ALARM


def _below(p_value: Callable[..., float], *levels: float) -> list[Callable[..., bool]]:
    """Alarms at several levels of one p-value."""
    return [lambda *split, level=level: bool(p_value(*split) < level) for level in levels]


def _of_equal_split(counts: pd.DataFrame, shares: Mapping[str, float]) -> float:
    return _p_value(counts, dict.fromkeys(counts.index, 1 / len(counts)))


def _by_place(counts: pd.DataFrame, shares: Mapping[str, float]) -> float:
    return _p_value(counts, dict(zip(counts.index, shares.values(), strict=True)))


def _of_conversion(counts: pd.DataFrame, shares: Mapping[str, float]) -> float:
    """The p-value of the arms converting alike."""
    rest = counts["users"] - counts["converted"]
    return stats.chi2_contingency(np.array([counts["converted"], rest])).pvalue


def _of_two_samples(counts: pd.DataFrame, shares: Mapping[str, float]) -> float:
    """The p-value of the users and the plan being two samples of the same."""
    expected = counts["users"].sum() * pd.Series(shares)[counts.index]
    return stats.chi2_contingency(np.array([counts["users"], expected])).pvalue


def _off_by(most: float) -> Callable[..., bool]:
    """The mistake of an alarm wherever the share of an arm is so far from the plan."""
    return lambda counts, shares: bool(
        ((counts["users"] / counts["users"].sum() - pd.Series(shares)).abs() > most).any()
    )


def _first_arm(counts: pd.DataFrame, shares: Mapping[str, float]) -> bool:
    arm = counts.index[0]
    return stats.binomtest(counts["users"][arm], counts["users"].sum(), shares[arm]).pvalue < SRM_ALARM


_split_mistake = _mistakes_on(SPLITS)

sample_ratio = Exercise(
    title="the sample ratio",
    right=same_as(_alarm, SPLITS),
    reason="Users that are lost on the way are seldom like those that stay, and no later analysis brings "
    "them back. So this test comes before the metric, at a level that was fixed before and is strict: it "
    "runs on every experiment. Fabijan et al. (2019) list the causes.",
    mistakes=(
        Mistake(
            "p-value",
            lambda a: not isinstance(a(*SPLITS[0]), bool | np.bool_),
            "Return True or False: is it an alarm?",
            example=_p_value,
        ),
        _split_mistake(
            "turned around",
            "Turned around: a small p-value is the alarm.",
            lambda *split: not _alarm(*split),
        ),
        _split_mistake(
            "level",
            f"You raise the alarm too easily. The level is {SRM_ALARM}, fixed before any test: whoever runs "
            "hundreds of experiments at a higher one stops many that are sound.",
            *_below(_p_value, 0.05, 0.01, 0.005, 0.001),
        ),
        _split_mistake(
            "equal split",
            "You compare with an equal split, though other shares were planned.",
            *_below(_of_equal_split, *LEVELS),
        ),
        _split_mistake(
            "by place",
            "You matched arms and shares by their place. They come in different orders: match by name.",
            *_below(_by_place, *LEVELS),
        ),
        _split_mistake(
            "conversion rates",
            "You test whether the arms convert alike. That is the effect, which nobody may read before the "
            "split is sound. Use `users` alone.",
            *_below(_of_conversion, *LEVELS),
        ),
        _split_mistake(
            "converted users",
            "You count the users who converted. A good treatment has more of them: count all `users`.",
            *_below(lambda counts, shares: _p_value(counts, shares, "converted"), *LEVELS),
        ),
        _split_mistake(
            "tolerance",
            "You allow the same distance from the plan to any number of users. Of two hundred it may be "
            "chance, of a million never: ask for the p-value.",
            *map(_off_by, (0.005, 0.01, 0.02, 0.05)),
        ),
        _split_mistake(
            "two samples",
            "You test two samples, but the plan is no sample: use chisquare(observed, expected).",
            *_below(_of_two_samples, *LEVELS),
        ),
        _split_mistake(
            "first arm",
            "You look at one arm. With three of them it may be right while the other two are wrong.",
            _first_arm,
        ),
        _split_mistake(
            "never",
            "You never raise the alarm. If you computed a chi-square, was it of shares? They forget how many "
            "users there were: take counts, observed and expected.",
            lambda counts, shares: False,
        ),
    ),
    otherwise="The expected users of an arm are its share of all users. Sum (observed - expected)^2 / "
    f"expected over the arms, and raise the alarm if the p-value of that is below {SRM_ALARM}.",
    hints=(
        "One of the two columns is not needed.",
        "expected = total users x share, arm by arm, by name.",
        "`scipy.stats.chisquare(observed, expected).pvalue`.",
    ),
    solution_code=f"""
from scipy.stats import chisquare

def answer(counts, shares):
    users = counts["users"]
    expected = [users.sum() * shares[arm] for arm in users.index]
    return chisquare(users, expected).pvalue < {SRM_ALARM}
""",
    probe=SPLITS[0],
)

# ------------------------------------------------------------------ 5 peeking


def _looks(planned_day: int, *p_values: float, every: int = 1) -> tuple[pd.Series, pd.Series, int]:
    """p-values by day, on and on, and the boundary of each look up to the planned day."""
    days = np.arange(every, planned_day + 1, every)
    boundary = 2 * stats.norm.sf(spending_boundary(days / planned_day))
    return (
        pd.Series(p_values, every * np.arange(1, len(p_values) + 1)),
        pd.Series(boundary, days),
        planned_day,
    )


_FADES = (0.21, 0.03, 0.002, 0.02, 0.09, 0.15, 0.3, 0.24, 0.4, 0.35, 0.28, 0.31, 0.22, 0.26, 0.12, 0.02, 0.06)
_GROWS = (0.4, 0.2, 0.09, 0.06, 0.04, 0.02, 0.012, 0.009, 0.006, 0.01, 0.014, 0.03, 0.02, 0.04, 0.06, 0.02)
_LATE = (0.6, 0.5, 0.7, 0.3, 0.2, 0.25, 0.11, 0.07, 0.049, 0.03, 0.016, 0.004, 0.02, 0.01, 0.008, 0.002)
_STRONG = (0.0001, 0.003, 0.2, 0.01)
LOOKS = [_looks(14, *_FADES), _looks(14, *_GROWS), _looks(14, *_LATE), _looks(21, *_STRONG, every=7)]


def _stop(p_values: pd.Series, boundary: pd.Series | float, planned_day: int) -> int:
    """The first day of the plan with a p-value at the boundary or below it, or else its last day."""
    reached = p_values.loc[:planned_day] <= boundary
    return int(reached.idxmax()) if reached.any() else planned_day


def _first(p_values: pd.Series, true: Callable[[pd.Series], pd.Series], planned_day: int) -> int:
    return next(iter(p_values.index[true(p_values)]), planned_day)


def _place(p_values: pd.Series, boundary: pd.Series, planned_day: int) -> int:
    return p_values.index.get_loc(_stop(p_values, boundary, planned_day))


def _last_reached(p_values: pd.Series, boundary: pd.Series, planned_day: int) -> int:
    reached = p_values.loc[:planned_day] <= boundary
    return next(iter(reached.index[reached][::-1]), planned_day)


def _runs_on(p_values: pd.Series, boundary: pd.Series, planned_day: int) -> int:
    """The mistake of going on after the planned day, until the p-value is low."""
    if (p_values.loc[:planned_day] <= boundary).any():
        return _stop(p_values, boundary, planned_day)
    return _first(p_values, lambda p: (p.index >= planned_day) & (p < 0.05), planned_day)


def _never_reached(otherwise: Callable[[pd.Series], Any]) -> Callable[..., Any]:
    """The mistake of an answer that is right if the boundary is reached, and another one if it is not."""

    def stop(p_values: pd.Series, boundary: pd.Series, planned_day: int) -> Any:
        reached = p_values.loc[:planned_day] <= boundary
        return reached.idxmax() if reached.any() else otherwise(reached)

    return stop


_look_mistake = _mistakes_on(LOOKS)

peeking = Exercise(
    title="when one may stop",
    right=same_as(_stop, LOOKS),
    reason="Each look is another chance for luck, and all of them together may spend five in a hundred once. "
    "The boundary spends hardly any of it early, when a few users decide, and most of it near the planned "
    "end. After that nothing is left (Lan and DeMets 1983).",
    mistakes=(
        _look_mistake(
            "nothing",
            "You return nothing if the boundary is never reached. Then the plan runs to its end: return "
            "`planned_day`.",
            _never_reached(lambda reached: None),
        ),
        _look_mistake(
            "idxmax without any",
            "If nothing is True, idxmax gives the first day: ask any() first.",
            _never_reached(lambda reached: reached.idxmax()),
        ),
        _look_mistake(
            "first below .05",
            "You stop at the first p-value below one level, as though you looked once. With a look a day "
            "luck has many chances: compare with the boundary of that day.",
            lambda p, b, day: _stop(p, 0.05, day),
            lambda p, b, day: _stop(p, b[day], day),
            lambda p, b, day: _first(p, lambda p: p < 0.05, day),
        ),
        _look_mistake(
            "first above",
            "You stop at the first day that is *not* significant. Early there are too few users for any "
            "effect, so that says nothing: go on.",
            lambda p, b, day: _first(p, lambda p: p > 0.05, day),
            lambda p, b, day: _first(p.loc[:day], lambda p: p > b, day),
        ),
        _look_mistake(
            "divided",
            "You divide .05 by the number of looks. That is safe, but it wastes: looks share their users, so "
            "they are alike. And it is not the plan: use its boundary.",
            lambda p, b, day: _stop(p, 0.05 / len(b), day),
            lambda p, b, day: _stop(p, 0.05 / len(p), day),
        ),
        _look_mistake(
            "planned end",
            "You always wait for the planned end. The boundary was bought to stop earlier when an effect is "
            "large.",
            lambda p, b, day: day,
        ),
        _look_mistake(
            "smallest",
            "You take the day of the smallest p-value. To know that it was the smallest, one must see the "
            "later ones.",
            lambda p, b, day: p.loc[:day].idxmin(),
            lambda p, b, day: p.idxmin(),
        ),
        _look_mistake(
            "last",
            "You take the last day at the boundary. One may stop on the first.",
            _last_reached,
        ),
        _look_mistake(
            "runs on",
            "You go on after the planned day until the p-value is low. With patience it always gets there: "
            "the plan ends on `planned_day`.",
            _runs_on,
        ),
        _look_mistake(
            "place",
            "You return the place in the list. The index of the Series holds the days.",
            _place,
            lambda *looks: _place(*looks) + 1,
        ),
    ),
    otherwise="Go through the days of the plan, `p_values.loc[:planned_day]`. On the first whose p-value is "
    "at the boundary of that day or below it, one may stop; if there is none, the answer is `planned_day`.",
    hints=(
        "`boundary` has a value for each look of the plan, `p_values` goes on after it.",
        "reached = p_values.loc[:planned_day] <= boundary. With `.loc` the slice is by day, not by place.",
        "`reached.idxmax()` is the first True, if there is one: ask `reached.any()` first.",
    ),
    solution_code="""
def answer(p_values, boundary, planned_day):
    reached = p_values.loc[:planned_day] <= boundary
    return reached.idxmax() if reached.any() else planned_day
""",
    probe=LOOKS[1],  # in which the boundary is reached: an answer that returns only then is an attempt
)

# ------------------------------------------------------------------ 6 which detector

DETECTORS = {
    "each input": "PSI and KS of every input by itself, against the reference. The same day.",
    "two-sample classifier": "can a classifier tell today's rows from the reference? The same day.",
    "score histogram": "PSI of the scores. The same day.",
    "reviewed alerts": "people check the hundred highest scores of a day; an alarm if the share of frauds "
    "among them falls. Two days later.",
    "calibration ratio": "frauds expected over frauds observed, all labels. Thirty days later.",
    "AUC": "how frauds rank against the rest, all labels. Thirty days later.",
    "nothing": "none of these sees it.",
}
_SEEN_BY = {
    "one input moves": "each input",
    "new correlation": "two-sample classifier",
    "new meaning": "reviewed alerts",
    "more frauds": "calibration ratio",
}
SHIFTS = tuple(_SEEN_BY)
DETECTOR_STORY = (
    "A model scores ten thousand payments a day; one in two hundred is a fraud. Four things happen:\n\n"
    "- `one input moves`: the amounts grow. What an amount means for fraud stays. (covariate shift)\n"
    "- `new correlation`: two inputs begin to move together, each one distributed as before. What they mean "
    "stays. (covariate shift, of the joint distribution)\n"
    "- `new meaning`: the inputs are distributed as before, and frauds as many, but what pointed to "
    "fraud does so no more. (concept drift)\n"
    "- `more frauds`: one in a hundred now. Frauds look as frauds did, honest payments as they did. (label "
    "shift)\n\n"
    "Which detector sees it first? If several do on the same day, take the one higher up:\n\n"
    + _listed(DETECTORS)
)
_UNLABELED = ("each input", "two-sample classifier", "score histogram")
_detector = _mislabels(_SEEN_BY)

which_detector = Exercise(
    title="which detector",
    right=lambda a: tidy(a) == _SEEN_BY,
    reason="Inputs show at once that the world moved, and not whether it hurts. Whether it hurts stands in "
    "the labels, which come late: the fast ones, of a few reviewed cases, are worth their price.",
    mistakes=(
        _unknown(_SEEN_BY, [name.lower() for name in DETECTORS]),
        _detector(
            "one input moves",
            ("two-sample classifier", "score histogram"),
            "It may see it too, on the same day, but does not say which input. One higher up does.",
        ),
        _detector(
            "one input moves",
            ("reviewed alerts", "calibration ratio", "auc", "nothing"),
            "No label is needed: amounts are known the same day. And if the model is right about large "
            "amounts, labels will show little harm.",
        ),
        _detector(
            "new correlation",
            ("each input",),
            "By itself each input is distributed as before, and that is all that it compares. Which one sees "
            "them together?",
        ),
        _detector(
            "new correlation",
            ("score histogram",),
            "The scores see a pair only as far as the model adds it up; their histogram may hardly move. "
            "Which one looks at all inputs?",
        ),
        _detector(
            "new correlation",
            ("reviewed alerts", "calibration ratio", "auc", "nothing"),
            "No label is needed: the inputs are known the same day, and together they look new.",
        ),
        _detector(
            "new meaning",
            _UNLABELED,
            "Inputs, and so scores, are distributed as before. Nothing without labels can see that they mean "
            "something else.",
        ),
        _detector(
            "new meaning",
            ("auc",),
            "It sees it, after thirty days of harm. Which labels come sooner?",
        ),
        _detector(
            "new meaning",
            ("calibration ratio",),
            "It comes after thirty days, and there are as many frauds as expected, only elsewhere: too many "
            "here and too few there cancel.",
        ),
        _detector(
            "new meaning",
            ("nothing",),
            "Nothing without labels sees it. But some labels come fast.",
        ),
        _detector(
            "more frauds",
            _UNLABELED,
            "One payment in two hundred changed its kind, and no distribution moves by more than that. In a "
            "day of ten thousand it cannot be seen.",
        ),
        _detector(
            "more frauds",
            ("auc",),
            "Frauds rank against honest payments as before, and how many there are does not enter the AUC.",
        ),
        _detector(
            "more frauds",
            ("reviewed alerts",),
            "With twice the frauds that share rises, and this alarm waits for a fall.",
        ),
        _detector(
            "more frauds",
            ("nothing",),
            "Twice as many frauds came as the model expects. Who counts them?",
        ),
    ),
    otherwise="Ask of each: does the distribution of one input change, of all together, of the label given "
    "the inputs, or only how many labels there are?",
    hints=(
        "Four of the seven are right once each: two without labels, two with.",
        "What leaves the inputs as they were cannot be seen without labels.",
        "A ranking is blind to the number of frauds, a count is not.",
    ),
    solution_code=f"answer = {_SEEN_BY!r}",
)

# ------------------------------------------------------------------ 7 alert threshold


def _history(seed: int, quiet_days: int, pages_per_week: float, alarms: int) -> tuple:
    """A statistic by day, skewed as drift statistics are; on some days something was wrong."""
    rng = np.random.default_rng(seed)
    incident = rng.permutation(np.arange(quiet_days + 15) < 15)
    value = rng.lognormal(-4, 0.9, len(incident)) * np.where(incident, 12, 1)
    return pd.DataFrame({"value": value, "incident": incident}), pages_per_week, alarms


# So many quiet days that the quantile, the count of days and the rank of split conformal prediction agree.
HISTORIES = [_history(0, 139, 1, 1), _history(1, 167, 1, 4), _history(2, 125, 0.5, 3), _history(3, 104, 2, 5)]


def _quiet(history: pd.DataFrame) -> pd.Series:
    return history["value"][~history["incident"]]


def _of_incidents(history: pd.DataFrame) -> pd.Series:
    return history["value"][history["incident"]]


def _threshold(
    history: pd.DataFrame,
    pages_per_week: Number,
    alarms: int,
    values: Callable[[pd.DataFrame], pd.Series] = _quiet,
    above: Callable[[Number, int], float] = lambda pages, alarms: pages / (7 * alarms),
    method: str = "higher",
) -> float:
    return float(np.quantile(values(history), 1 - above(pages_per_week, alarms), method=method))


def _with(**changes: Any) -> Callable[..., float]:
    return lambda *history: _threshold(*history, **changes)


def _always(quantile: float, method: str) -> Callable[..., float]:
    return _with(above=lambda pages, alarms: 1 - quantile, method=method)


def _deviations(many: float, ddof: int, values: Callable[[pd.DataFrame], pd.Series] = _quiet) -> Callable:
    return lambda history, *_: values(history).mean() + many * values(history).std(ddof=ddof)


def _one_too_high(history: pd.DataFrame, pages_per_week: Number, alarms: int) -> float:
    """The quiet day next above the right one."""
    return _quiet(history)[lambda quiet: quiet > _threshold(history, pages_per_week, alarms)].min()


_alert_mistake = _mistakes_on(HISTORIES)
_share_mistake = _mistakes_on(HISTORIES[:3])  # in the last one, times `alarms` is more than all days

alert_threshold = Exercise(
    title="the threshold of an alarm",
    right=same_as(_threshold, HISTORIES),
    reason="What quiet days do by themselves is the only thing that promises how often nobody is called in "
    "vain. Incidents teach what an alarm misses, not how often it lies. And people have one week, which all "
    "alarms share.",
    mistakes=(
        _alert_mistake(
            "fixed quantile",
            "You take the same quantile, whatever was promised. `pages_per_week` and `alarms` say which one.",
            *(
                _with(above=lambda p, k, q=q: 1 - q, method=m)
                for q in (0.95, 0.99)
                for m in ("linear", "higher")
            ),
        ),
        _alert_mistake(
            "deviations",
            "Mean and standard deviations promise a number of pages only for a normal distribution. This "
            "statistic is skewed: take a quantile of the quiet days.",
            *(_deviations(many, ddof) for many in (2, 3) for ddof in (1, 0)),
            *(_deviations(many, ddof, lambda h: h["value"]) for many in (2, 3) for ddof in (1, 0)),
        ),
        _alert_mistake(
            "incident days",
            "You set it by the days on which something was wrong. They do not say how often a quiet day "
            "lies above it.",
            lambda history, *_: _of_incidents(history).max(),
            lambda history, *_: _of_incidents(history).min(),
            lambda history, *_: history["value"].max(),
            _with(values=_of_incidents),
            _with(values=_of_incidents, method="linear"),
        ),
        _alert_mistake(
            "all days",
            "You took the days of incidents among the others. Their pages are not false: use the quiet days.",
            _with(values=lambda history: history["value"]),
            _with(values=lambda history: history["value"], method="linear"),
        ),
        _alert_mistake(
            "highest quiet day",
            "Above the highest quiet day there is hardly a false page, and hardly a true one. Some pages are "
            "allowed: use them.",
            lambda history, *_: _quiet(history).max(),
        ),
        _alert_mistake(
            "own budget",
            "Each of your alarms uses up the pages of the whole week. They share them: divide by `alarms`.",
            _with(above=lambda pages, alarms: pages / 7),
            _with(above=lambda pages, alarms: pages / 7, method="linear"),
        ),
        _share_mistake(
            "times alarms",
            "You multiply by `alarms`, as though each alarm added pages to the week. They share them, so "
            "divide.",
            _with(above=lambda pages, alarms: pages * alarms / 7),
            _with(above=lambda pages, alarms: pages * alarms / 7, method="linear"),
        ),
        _alert_mistake(
            "per day",
            "There is one value a day, so pages a week must become pages a day: divide by 7.",
            _with(above=lambda pages, alarms: pages / alarms),
            _with(above=lambda pages, alarms: pages / alarms, method="linear"),
        ),
        _alert_mistake(
            "wrong end",
            "That is the low end: nearly every quiet day lies above it. Take 1 minus that share.",
            _with(above=lambda pages, alarms: 1 - pages / (7 * alarms)),
            _with(above=lambda pages, alarms: 1 - pages / (7 * alarms), method="linear"),
        ),
        _alert_mistake(
            "off by one",
            "Off by one: one more quiet day may lie above it. Sorted from the highest, `q[0]` has none above "
            "it and `q[k]` has k: with `q[k - 1]` you give one page away.",
            _one_too_high,
        ),
        _alert_mistake(
            "interpolated",
            "The right quantile, but between two days: then more quiet days lie above it than were promised. "
            'Take the higher of the two, with `method="higher"`.',
            _with(method="linear"),
            _with(method="lower"),
        ),
    ),
    otherwise="A share pages_per_week / (7 x alarms) of the quiet days may lie above the threshold. By hand: "
    "1 page a week and 1 alarm are one day in seven.",
    hints=(
        "Which rows tell how often an alarm would be false?",
        "Pages a week, divided by seven days and by the number of alarms, is a share of days.",
        '`np.quantile(quiet, 1 - share, method="higher")`.',
    ),
    solution_code="""
import numpy as np

def answer(history, pages_per_week, alarms):
    quiet = history["value"][~history["incident"]]
    share = pages_per_week / (7 * alarms)
    return np.quantile(quiet, 1 - share, method="higher")
""",
    probe=HISTORIES[0],
)

# ------------------------------------------------------------------ 8 retraining period

COSTS = [(90.0, 4000.0, 0.002), (600.0, 250.0, 0.01), (20.0, 9000.0, 0.0007)]  # cost, value, decay


def _best(cost: Number, value: Number, decay: Number) -> float:
    return np.sqrt(2 * cost / (value * decay))


def _period(
    cost: Number,
    value: Number,
    decay: Number,
    period: Callable[..., float] = _best,
    per_day: Callable[..., float] = lambda t, c, v, d: c / t + v * d * t / 2,
) -> dict[str, float]:
    best = float(period(cost, value, decay))
    return {"period_days": best, "cost_per_day": float(per_day(best, cost, value, decay))}


def _has_names(reply: Any) -> bool:
    """Whether that gives each number by its name."""
    return isinstance(reply, Mapping | pd.Series) and {"period_days", "cost_per_day"} <= set(reply.keys())


def _same_entry(key: str) -> Callable[[Any, Mapping], bool]:
    return lambda reply, right: _has_names(reply) and close(reply[key], right[key])


def _same_entries(reply: Any, right: Mapping) -> bool:
    return all(_same_entry(key)(reply, right) for key in right)


def _periods(*periods: Callable[..., float]) -> list[Callable[..., dict]]:
    return [lambda *costs, t=t: _period(*costs, period=t) for t in periods]


def _per_days(*costs: Callable[..., float]) -> list[Callable[..., dict]]:
    return [lambda *costs, each=each: _period(*costs, per_day=each) for each in costs]


_wrong_period = _mistakes_on(COSTS, _same_entry("period_days"))
_wrong_cost = _mistakes_on(COSTS, _same_entry("cost_per_day"))

retraining_period = Exercise(
    title="when to train again",
    right=same_as(_period, COSTS, _same_entries),
    reason="At the best period a day of training costs as much as a day of staleness, and around it the cost "
    "is flat: twice the period costs a quarter more. So a rough decay is good enough, and its square root "
    "forgives: a model that ages four times as fast is trained twice as often.",
    mistakes=(
        Mistake(
            "type",
            lambda a: not _has_names(a(*COSTS[0])),
            "Return a dictionary with two numbers, by the names `period_days` and `cost_per_day`.",
            example=lambda *costs: [*_period(*costs).values()],
        ),
        _wrong_period(
            "rounded",
            "That is the right period, rounded. Return it not rounded, and the cost of just this period.",
            *(
                lambda *costs, to_days=to_days: _period(*costs, period=lambda *c: to_days(_best(*c)))
                for to_days in (np.round, np.floor, np.ceil, lambda days: np.round(days, 1))
            ),
        ),
        _wrong_period(
            "no 2",
            "A factor is missing: the loss grows from 0 to decay x T, so on average it is half of that.",
            *_periods(lambda c, v, d: np.sqrt(c / (v * d)), lambda c, v, d: np.sqrt(c / (2 * v * d))),
        ),
        _wrong_period(
            "linear",
            "No square root. That is the day on which the loss has reached the price of a training, not the "
            "period with the least cost a day. Minimize cost / T + value x decay x T / 2.",
            *_periods(lambda c, v, d: 2 * c / (v * d), lambda c, v, d: c / (v * d)),
        ),
        _wrong_period(
            "decay only",
            "Only the decay has a say. How much is a lost point worth, and what does a training cost?",
            *_periods(lambda c, v, d: 1 / d, lambda c, v, d: np.sqrt(2 / d), lambda c, v, d: np.sqrt(1 / d)),
        ),
        _wrong_period(
            "no value",
            "The value has no say. A metric that is worth twice as much is to be kept fresher.",
            *_periods(lambda c, v, d: np.sqrt(2 * c / d), lambda c, v, d: np.sqrt(c / d)),
        ),
        _wrong_period(
            "no cost",
            "The cost of a training has no say. If it were free you would train all the time.",
            *_periods(lambda c, v, d: np.sqrt(2 / (v * d)), lambda c, v, d: 1 / (v * d)),
        ),
        _wrong_period(
            "upside down",
            "Upside down: the dearer a training, the longer the period.",
            *_periods(lambda c, v, d: np.sqrt(v * d / (2 * c)), lambda c, v, d: np.sqrt(2 * v * d / c)),
        ),
        _wrong_cost(
            "training only",
            "The right period, but only what training costs a day. A stale model costs as well.",
            *_per_days(lambda t, c, v, d: c / t),
        ),
        _wrong_cost(
            "worst day",
            "The right period, but you charge every day what the last one loses. On average it is half.",
            *_per_days(lambda t, c, v, d: c / t + v * d * t),
        ),
        _wrong_cost(
            "a period",
            "The right period, but that is the cost of a whole period. Divide by its days.",
            *_per_days(lambda t, c, v, d: c + v * d * t**2 / 2, lambda t, c, v, d: c + v * d * t / 2),
        ),
    ),
    otherwise="A day costs cost / T for the training and value x decay x T / 2 for the loss, on average over "
    "the period. Return the T with the least sum, and that sum, by the names of the docstring.",
    hints=(
        "Draw the loss: a saw-tooth from 0 to decay x T. What is its mean?",
        "Cost a day: cost / T + value x decay x T / 2. Where is the slope zero?",
        "-cost / T^2 + value x decay / 2 = 0.",
    ),
    solution_code="""
from math import sqrt

def answer(cost, value, decay):
    period = sqrt(2 * cost / (value * decay))
    return {
        "period_days": period,
        "cost_per_day": cost / period + value * decay * period / 2,
    }
""",
    probe=COSTS[0],
)

# ------------------------------------------------------------------ 9 an incident

ROOM_SEED = 5  # of the room that the learner is given
_CULPRIT = "stale_snapshot"


def _cleared(fault: str, message: str) -> Mistake:
    """The mistake of naming a fault that one question would have cleared."""
    return Mistake(fault, lambda a: fault_name(a) == fault, message, example=fault)


incident_room = Exercise(
    title="the incident",
    right=lambda a: fault_name(a) == _CULPRIT,
    reason="The log is sound (`quality`), and no group of users grew or vanished (`slice_by`). The served "
    "features differ from the same features computed anew (`parity`), while the scores are those of the "
    "model on what was served (`replay`): the store hands out an old snapshot. The repair is its job of the "
    "night, not a new model.",
    mistakes=(
        _cleared(
            "unit_change",
            "`quality()` finds no `watch_seconds` out of range. Three minutes: ask it first.",
        ),
        _cleared(
            "duplicate_events",
            "`quality()` finds no event that is there twice. Three minutes: ask it first.",
        ),
        _cleared(
            "late_events",
            "`dashboard('hours to arrive')` is as flat as ever: the events come in time.",
        ),
        _cleared(
            "covariate_shift",
            "`slice_by('age_band')`: no group is more of the traffic than it was. A new audience would be.",
        ),
        _cleared(
            "traffic_drop",
            "`slice_by('country')`: no country has vanished, and impressions are as many as before.",
        ),
        _cleared(
            "version_mismatch",
            "`replay()`: the model gives the logged scores on the logged features. No version is mixed.",
        ),
        _cleared(
            "concept_shift",
            "Tastes may move what people click, not what a feature *is*: ask `parity()` whether the served "
            "features are those that the log gives.",
        ),
    ),
    otherwise="The answer is one of the names in the list above, copied as it stands.",
    hints=(
        "The page speaks of scores. What can change a score: the users, the features, or the model?",
        "`quality()` first. Then ask what was served: `parity()` for the features, `replay()` for the model.",
    ),
    solution_code=f"answer = {_CULPRIT!r}",
)

# ------------------------------------------------------------------ 10 read an experiment

WORTH, MOST_HARM = 1.0, 1.0  # percent
DECISIONS = {
    "ship": "to everybody.",
    "do not ship": "and end the experiment.",
    "run longer": "to the end of the plan, and read it then.",
    "fix the experiment": "find the fault, and begin again.",
}
EXPERIMENTS = pd.DataFrame.from_dict(
    {
        "A": ("21 of 21", 0.03, 0.7, 1.9, -0.8, 0.4),
        "B": ("21 of 21", 0.000002, 1.6, 2.8, -0.9, 0.3),
        "C": ("21 of 21", 0.41, 0.9, 2.1, 1.4, 2.7),
        "D": ("9 of 21", 0.62, -0.3, 2.1, -0.9, 0.9),
        "E": ("21 of 21", 0.18, -0.5, 0.6, -0.6, 0.5),
    },
    orient="index",
    columns=["days", "sample_ratio_p", "gain_low", "gain_high", "harm_low", "harm_high"],
)
_READ = {
    "A": "ship",
    "B": "fix the experiment",
    "C": "do not ship",
    "D": "run longer",
    "E": "do not ship",
}
EXPERIMENT_STORY = (
    "Five experiments, in percent against control: `gain` is the interval of the primary metric, `harm` that "
    "of the guardrail, dismissals. `sample_ratio_p` tests the split of the users.\n\n"
    f"The plan was written before. A gain of {WORTH:g} is worth finding, so each runs 21 days. The split is "
    f"wrong below p = {SRM_ALARM}. Ship if the gain is surely above zero and the harm surely below "
    f"{MOST_HARM:g}.\n\nYour choices:\n\n{_listed(DECISIONS)}"
)
_read = _mislabels(_READ)

read_experiment = Exercise(
    title="read the experiment",
    right=lambda a: tidy(a) == _READ,
    reason="In this order: is the split sound, is harm excluded, is the gain sure? And an interval around "
    "zero says two things: too wide, so wait for the planned end; or narrow and below what is worth finding, "
    "which is an answer.",
    mistakes=(
        _unknown(_READ, DECISIONS),
        _read(
            "A",
            ("fix the experiment",),
            f"The level of the alarm was fixed before: {SRM_ALARM}. At .05 one sound experiment in twenty is "
            "thrown away.",
        ),
        _read(
            "A",
            ("run longer", "do not ship"),
            "A is at its planned end, gain surely above zero, harm surely below its limit. The gain worth "
            "finding set the number of days; it is no bar for the low end.",
        ),
        _read(
            "B",
            ("ship",),
            "The best gain of all, of groups that are not alike. Whoever is missing from one of them may be "
            "the whole gain.",
        ),
        _read(
            "B",
            ("run longer",),
            "More users do not mend a split that is wrong; they only make the wrong answer surer.",
        ),
        _read(
            "B",
            ("do not ship",),
            "The treatment may be good, you cannot know. What is at fault is the experiment.",
        ),
        _read(
            "C",
            ("ship",),
            "The gain is sure, and so is the harm: its whole interval lies above the limit. A guardrail that "
            "yields to a gain is none.",
        ),
        _read(
            "C",
            ("run longer",),
            "The whole interval of the harm is above the limit. More days make that only surer.",
        ),
        _read(
            "C",
            ("fix the experiment",),
            "The experiment is sound. It did its work: it found harm.",
        ),
        _read(
            "D",
            ("ship",),
            "The middle of the interval is above zero, but zero is inside, and fewer than half the planned "
            "days are over.",
        ),
        _read(
            "D",
            ("do not ship",),
            f"You read an interval around zero as no effect. This one holds {WORTH:g} as well, and the plan "
            "is not at its end.",
        ),
        _read(
            "D",
            ("fix the experiment",),
            "The split is sound. The interval is wide since the experiment is young.",
        ),
        _read(
            "E",
            ("run longer",),
            f"E is at its planned end, and its interval excludes a gain of {WORTH:g}. Whoever runs on until "
            "something is significant will find something.",
        ),
        _read("E", ("ship",), "No harm is no reason: the gain is not surely above zero."),
        _read(
            "E",
            ("fix the experiment",),
            "The experiment is sound, and gave an answer: no gain that is worth having.",
        ),
    ),
    otherwise="Read from left to right: days, split, then the harm against its limit, then the gain against "
    "zero and against what is worth finding.",
    hints=(
        "One split is wrong. Of that experiment, read nothing else.",
        "Two intervals hold zero. Which of them holds a gain worth finding too?",
        "A guardrail can veto a gain that is sure.",
    ),
    solution_code=f"answer = {_READ!r}",
)

ALL = (
    fallback_order,
    open_loop,
    release_gates,
    sample_ratio,
    peeking,
    which_detector,
    alert_threshold,
    retraining_period,
    incident_room,
    read_experiment,
)
