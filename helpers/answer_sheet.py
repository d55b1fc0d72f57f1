"""The answer sheet of an interview, and what can be checked on it by computation.

The checks read words, so they find what is missing or false, not what is brilliant: that is for the rubric.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
import pint

from helpers.capacity import cores_needed, number_in, units, written_number
from helpers.case_systems import CaseSystem
from helpers.figures import short
from helpers.interview import SCORING_TIME, DesignSpec, peak_rate
from helpers.metrics import sample_size_per_arm

ROW_BYTES = 200  # one logged row: the order of magnitude
FACTOR = 3  # an estimate may be off by so much
RARE, VERY_RARE = 0.2, 0.01  # shares of positives: below them accuracy, and ROC-AUC, mislead
DRIFTS = ("covariate", "label", "concept")
SPLITS = ("random", "by user", "temporal")
IN_TIME = ("time", "by time", "in time", "time-based")  # other words for a temporal split


class DriftAlarm(NamedTuple):
    """An alarm of the sheet: which drift it is for, which signal it watches, and who is called."""

    drift: str
    signal: str
    owner: str


class Kept(NamedTuple):
    """A field of personal data: what it is for, and the days after which it is deleted."""

    name: str
    purpose: str
    retention_days: float


# ---------------------------------------------------------------- reading what a learner writes


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text, not {value!r}: write it in quotes.")
    return value.strip()


def _number(name: str, value: Any, unit: str = "") -> float | None:
    """A finite number of at least 0, or None.

    A quantity, or a text with a unit, is brought to `unit`; without one, what is counted does not matter.
    """
    if value is None:
        return None
    if isinstance(value, str):
        value = number_in(value, unit) if unit else written_number(value)[0]
    if isinstance(value, pint.Quantity):
        value = _in_unit(name, value, unit) if unit else value.magnitude
    if not isinstance(value, Real) or isinstance(value, bool) or not 0 <= value < np.inf:
        raise ValueError(f"{name} must be a number of at least 0, not {value!r}.")
    return float(value)


def _in_unit(name: str, quantity: pint.Quantity, unit: str) -> float:
    try:
        return float(quantity.to(unit).magnitude)
    except pint.DimensionalityError:
        raise ValueError(f"{name} is {quantity}: write it in {unit}.") from None


def _of(unit: str) -> Callable[[str, Any], float | None]:
    """A reader of numbers in a unit."""
    return partial(_number, unit=unit)


def _texts(name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise ValueError(f"{name} must be a list of texts, such as ['one', 'two'], not {value!r}.")
    return tuple(text for item in value if (text := _text(name, item)))


def _numbers(name: str, value: Any, unit_of: Callable[[str], str]) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be a dictionary of names and numbers, not {value!r}.")
    given = {
        _text(name, key): _number(f"{name}[{key!r}]", number, unit_of(key)) for key, number in value.items()
    }
    return {key: number for key, number in given.items() if number is not None}


def _rows(kind: type, *, columns: str) -> Callable[[str, Any], tuple]:
    """A reader of lists of rows, each with the columns of `kind`."""

    def read(name: str, value: Any) -> tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{name} must be a list of rows ({columns}), not {value!r}.")
        for row in value:
            if not isinstance(row, list | tuple) or len(row) != len(kind._fields):
                raise ValueError(f"Each row of {name} must be ({columns}), not {row!r}.")
        return tuple(kind(*row) for row in value)

    return read


def _alarms(name: str, value: Any) -> tuple[DriftAlarm, ...]:
    alarms = _rows(DriftAlarm, columns="drift, signal, owner")(name, value)
    read = [DriftAlarm(*(_text(name, text) for text in alarm)) for alarm in alarms]
    return tuple(alarm._replace(drift=_drift(alarm.drift)) for alarm in read)


def _drift(text: str) -> str:
    """The drift that is meant: "concept drift" is "concept"."""
    drift = text.lower().removesuffix("drift").strip()
    if drift not in DRIFTS:
        raise ValueError(f"{text!r} is no drift. Choose from: {', '.join(DRIFTS)}.")
    return drift


def _data(name: str, value: Any) -> tuple[Kept, ...]:
    rows = _rows(Kept, columns="name, purpose, retention in days")(name, value)
    return tuple(
        Kept(
            _text(name, row.name),
            _text(name, row.purpose),
            _number("retention", row.retention_days, "day") or 0,
        )
        for row in rows
    )


def _split(name: str, value: Any) -> str:
    known = value.strip().lower() if isinstance(value, str) else value
    if isinstance(known, str):
        known = known.removeprefix("split ").removesuffix(" split")
        known = "temporal" if known in IN_TIME else known
    if known not in ("", *SPLITS):
        raise ValueError(f"There is no {name} {value!r}. Choose from: {', '.join(SPLITS)}.")
    return known


def _estimates(name: str, value: Any) -> dict[str, float]:
    given = _numbers(name, value, lambda key: UNITS.get(key, ""))
    if unknown := [key for key in given if key not in ESTIMATES]:
        raise ValueError(f"There is no estimate {', '.join(unknown)}. Choose from: {', '.join(ESTIMATES)}.")
    return given


def written(value: Any) -> Any:
    """Return what a learner wrote without its placeholders ``...``, or ``...`` when nothing else is left.

    Of a dictionary the entries that are written stay, of a list the items; a row with a placeholder is none.
    """
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if item is not ...}
        return kept if kept or not value else ...
    if isinstance(value, list | tuple):
        kept = [
            item for item in value if item is not ... and not (isinstance(item, list | tuple) and ... in item)
        ]
        return kept if kept or not value else ...
    return value


def _latencies(name: str, value: Any) -> dict[str, float]:
    return _numbers(name, value, lambda _: "ms")


class Part(NamedTuple):
    """A part of the sheet: the minute at which its phase ends, how it is read, and what to write."""

    until: int
    read: Callable[[str, Any], Any]
    what: str


ESTIMATES = {
    "peak_qps": "requests a second at the peak",
    "log_gb_a_day": f"GB a day of logged rows, {ROW_BYTES} bytes each",
    "plain_model_cores": "cores of one plain model at the peak, 10 µs for each score, 60% busy",
    "labels_a_day": "positive labels a day",
}
UNITS = {"peak_qps": "QPS", "log_gb_a_day": "gigabyte", "plain_model_cores": "core"}
PARTS = {
    "primary_metric": Part(8, _text, "the one offline metric, such as 'NDCG at 20' or 'recall at FPR 0.1%'"),
    "cost_fp": Part(8, _number, "what a false alarm costs"),
    "cost_fn": Part(8, _number, "what a miss costs, in the same unit"),
    "guardrails": Part(8, _texts, "metrics that must not fall"),
    "baseline": Part(8, _text, "what must be beaten"),
    "estimates": Part(11, _estimates, "a dictionary of " + ", ".join(ESTIMATES)),
    "rejected": Part(11, _text, "the design that a number ruled out"),
    "latency_budget": Part(19, _latencies, "a dictionary: ms of each stage inside the request"),
    "fallback": Part(19, _text, "what the user gets when the model is down"),
    "logged": Part(19, _texts, "what each answer writes into the log"),
    "label": Part(28, _text, "what counts as a positive, and when it is known"),
    "split": Part(28, _split, "one of " + ", ".join(SPLITS)),
    "gap_days": Part(28, _of("day"), "days left out between training and test rows"),
    "static_features": Part(28, _texts, "features that change seldom"),
    "dynamic_features": Part(28, _texts, "features that change within the day"),
    "data": Part(28, _data, "rows (name, purpose, retention in days) of personal data"),
    "erasure": Part(28, _text, "how one person is erased"),
    "ladder": Part(36, _texts, "models from the baseline up"),
    "users_per_arm": Part(42, _number, "users in each arm of the A/B test"),
    "alarms": Part(42, _alarms, "rows (drift, signal, owner); drift is one of " + ", ".join(DRIFTS)),
    "rollback": Part(42, _text, "the number at which you roll back, and to what"),
    "risks": Part(45, _texts, "the three largest risks"),
}


def parts_table() -> pd.DataFrame:
    """Return what the sheet asks for: index part; columns until (minute), what."""
    rows = {name: (part.until, part.what) for name, part in PARTS.items()}
    return pd.DataFrame.from_dict(rows, orient="index", columns=["until", "what"]).rename_axis("part")


@dataclass(frozen=True)
class Sheet:
    """What a learner has answered; `PARTS` tells what each part is.

    Raises ValueError, with the repair, for a part of the wrong shape.
    """

    primary_metric: str = ""
    cost_fp: float | None = None
    cost_fn: float | None = None
    guardrails: tuple[str, ...] = ()
    baseline: str = ""
    estimates: Mapping[str, float] = None
    rejected: str = ""
    latency_budget: Mapping[str, float] = None
    fallback: str = ""
    logged: tuple[str, ...] = ()
    label: str = ""
    split: str = ""
    gap_days: float | None = None
    static_features: tuple[str, ...] = ()
    dynamic_features: tuple[str, ...] = ()
    data: tuple[Kept, ...] = ()
    erasure: str = ""
    ladder: tuple[str, ...] = ()
    users_per_arm: float | None = None
    alarms: tuple[DriftAlarm, ...] = ()
    rollback: str = ""
    risks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Read each part; None stands for an empty dictionary."""
        for field in fields(self):
            value = getattr(self, field.name)
            read = PARTS[field.name].read
            empty = {} if read in (_latencies, _estimates) else None
            object.__setattr__(self, field.name, empty if value is None else read(field.name, value))

    def filled(self, parts: Mapping[str, Any]) -> Self:
        """Return the sheet with these parts replaced; the placeholder ``...`` leaves a part as it is.

        Raises ValueError for an unknown part, or one of the wrong shape.
        """
        if unknown := [name for name in parts if name not in PARTS]:
            raise ValueError(f"There is no part {', '.join(unknown)}. Choose from: {', '.join(PARTS)}.")
        read = {name: written(value) for name, value in parts.items()}
        return replace(self, **{name: value for name, value in read.items() if value is not ...})

    @property
    def parts(self) -> dict[str, Any]:
        """The parts that are not empty, as JSON can hold them."""
        return {name: value for name, value in asdict(self).items() if value not in ("", None, (), {})}


# ---------------------------------------------------------------- what a ledger makes of the estimates


def estimates(spec: DesignSpec, system: CaseSystem) -> dict[str, float]:
    """Return the numbers of `ESTIMATES` for a ledger, in their units."""
    peak = peak_rate(spec) * units.QPS
    rows = spec.daily_users * spec.requests_per_user * spec.page_size
    scores = spec.candidates if spec.page_size > 1 else 1  # a decision scores its one case
    core_time = scores * SCORING_TIME * units.core
    return {
        "peak_qps": peak.magnitude,
        "log_gb_a_day": (rows * ROW_BYTES * units.byte).to("gigabyte").magnitude,
        "plain_model_cores": cores_needed(peak, core_time / units.request).magnitude,
        "labels_a_day": rows * system.label_share,
    }


def users_per_arm(system: CaseSystem) -> int:
    """Return the users that each arm of the system's A/B test needs, at a level of 5% and a power of 80%."""
    return sample_size_per_arm(system.experiment.sd, system.experiment.lift)


# ---------------------------------------------------------------- checks


class Finding(NamedTuple):
    """What a check found: the row of the rubric, "sound", "wrong" or "missing", and the words for it.

    red_flag: a key of `rubric.RED_FLAGS` when what is wrong is one. concept_id: where to read on.
    """

    row: str
    check: str
    verdict: str
    finding: str
    concept_id: str
    red_flag: str = ""


class Case(NamedTuple):
    """What a sheet is checked against: the system, the ledger as it stands, and whether erasure was asked.

    told: whether the findings tell the computed values, too. truth: the ledger with what was not asked for.
    """

    system: CaseSystem
    spec: DesignSpec
    erasure_asked: bool = False
    told: bool = True
    truth: DesignSpec | None = None


def check(sheet: Sheet, case: Case) -> list[Finding]:
    """Return a finding for each thing that can be computed, in the order of the interview."""
    return [finding for one in CHECKS for finding in one(sheet, case)]


def findings_table(findings: list[Finding]) -> pd.DataFrame:
    """Return the findings as a table: columns row, check, verdict, finding."""
    return pd.DataFrame(findings, columns=Finding._fields)[["row", "check", "verdict", "finding"]]


def _within(value: float, right: float) -> bool:
    return right / FACTOR <= value <= right * FACTOR


def _has(text: str, *words: str) -> bool:
    """Tell whether one of the words, as a regular expression, begins a word of the text."""
    return any(re.search(rf"(?<![a-z]){word}", text.lower()) for word in words)


def _spaced(text: str) -> str:
    """The text with a space for each underscore and hyphen."""
    return re.sub(r"[\s_-]+", " ", text)


FRAMING, ESTIMATION, ARCHITECTURE, DATA, MODEL, RELEASE = (
    "framing and metrics",
    "estimation",
    "architecture",
    "data and features",
    "model",
    "evaluation, release, monitoring",
)
A_LIST = "(each |every |a |one |the )?(user|query|list|request|session)"
AUC_IN_LISTS = (rf"(auc|roc).*\b(per|inside|within|in) {A_LIST}", rf"per {A_LIST} (roc )?auc")
AUC_IN_LISTS += (rf"{A_LIST} averaged (roc )?auc", "gauc")
PER_LIST = {
    "NDCG": ("ndcg", "normali[sz]ed discounted"),
    "MRR": ("mrr", "mean reciprocal", "reciprocal rank"),
    "MAP": (r"map\b", "mean average precision"),
    "ERR": (r"err\b", "expected reciprocal"),
    "precision or recall at k": ("precision", "recall", r"[pr]@"),
    "hit rate": (r"hits?\b", r"hr\b"),
    "AUC inside each list": AUC_IN_LISTS,
}
BY_COST = {
    "average precision": ("average precision", r"ap\b", "pr ?auc", "au ?prc?", "auc ?pr"),
    "recall at a FPR": ("recall", "tpr", "true positive rate", "sensitivity", "partial (roc )?auc"),
    "precision at a budget": ("precision",),
    "cost": ("cost", "savings", "money", "dollar", "euro", "value", "(?<!log )(?<!hinge )loss"),
}
REJECTED = re.compile(r"\b(not|no|never|instead of|rather than|since|because|as)\b[^,;.]*")


def _metric(sheet: Sheet, case: Case) -> list[Finding]:
    metric, share = sheet.primary_metric, case.system.label_share
    name = "primary metric"
    if not metric:
        return [Finding(FRAMING, name, "missing", "No primary metric: nothing decides.", "1.24")]
    said = REJECTED.sub("", _spaced(metric.lower()))
    balanced = _has(said, "balanced accuracy")
    if _has(said, "accuracy") and not balanced and share < RARE:
        return [
            Finding(
                FRAMING,
                name,
                "wrong",
                f"Accuracy: {share:.1%} of the rows are positive, so doing nothing reaches {1 - share:.1%}.",
                "1.6",
                "accuracy",
            )
        ]
    lists = case.spec.page_size > 1
    fits = PER_LIST if lists else BY_COST
    if any(_has(said, *words) for words in fits.values()):
        return [Finding(FRAMING, name, "sound", f"{metric!r} fits {share:.1%} positives.", "1.24")]
    if _has(said, "auc", "roc"):
        why = (
            "A global AUC also rewards knowing which list is easy. Take one inside each list."
            if lists
            else f"ROC-AUC does not see that {share:.1%} are positive. Take one at your operating point."
        )
        sound = not lists and share >= VERY_RARE
        return [Finding(FRAMING, name, "sound" if sound else "wrong", why, "1.19" if lists else "1.8")]
    if balanced or _has(said, "f1"):
        why = f"{metric} sets a price on the errors that nobody chose."
        return [Finding(FRAMING, name, "wrong", why, "1.11")]
    usual = ", ".join(fits)
    why = f"{metric!r} is none of the usual ones here ({usual}): name one, or defend it."
    return [Finding(FRAMING, name, "wrong", why, "1.24")]


def _costs(sheet: Sheet, case: Case) -> list[Finding]:
    name, fp, fn = "cost of errors", sheet.cost_fp, sheet.cost_fn
    if not fp or not fn:
        return [Finding(FRAMING, name, "missing", "An error without a price: no threshold follows.", "1.11")]
    if fp == fn:
        why = "Both errors cost the same: they hardly ever do. Ask what each of them costs."
        return [Finding(FRAMING, name, "wrong", why, "1.11", "errors")]
    known = case.spec.cost_fp is not None and case.spec.cost_fn is not None
    if known and not _within(fp / fn, case.spec.cost_fp / case.spec.cost_fn):
        told = f"{case.spec.cost_fp:g} to {case.spec.cost_fn:g}"
        why = f"You price them {fp:g} to {fn:g}; you were told {told}."
        return [Finding(FRAMING, name, "wrong", why, "1.11")]
    asked = "as you were told" if known else "your own guess: you did not ask for both"
    return [Finding(FRAMING, name, "sound", f"{fp:g} to {fn:g}, {asked}.", "1.11")]


def _guards(sheet: Sheet, case: Case) -> list[Finding]:
    given = {"guardrails": (sheet.guardrails, "1.24"), "baseline": (sheet.baseline, "1.29")}
    return [
        Finding(FRAMING, name, "sound" if value else "missing", f"{_said(value)}", concept)
        for name, (value, concept) in given.items()
    ]


def _said(value: str | tuple[str, ...]) -> str:
    return (value if isinstance(value, str) else ", ".join(value)) or "Nothing written."


def _experiment(sheet: Sheet, case: Case) -> list[Finding]:
    right, given = users_per_arm(case.system), sheet.users_per_arm
    test = case.system.experiment
    days = 2 * right / case.spec.daily_users
    short = f" Even all users of a day are too few by a factor of {days:,.0f}." if days > 1 else ""
    lift = f"for a lift of {test.lift:.1%} in {test.metric} (deviation {test.sd:g} means)"
    computed = f" Computed {right:,} {lift}.{short}" if case.told else ""
    if given is None:
        why = f"No size of the A/B test.{computed}"
        return [Finding(RELEASE, "users an arm", "missing", why, "1.26")]
    verdict = "sound" if _within(given, right) else "wrong"
    return [Finding(RELEASE, "users an arm", verdict, f"You {given:,.0f}.{computed}", "1.26")]


def _envelope(sheet: Sheet, case: Case) -> list[Finding]:
    """Estimates count against the ledger as it is known, and as it is: a sound guess needs no question."""
    known, true = (estimates(spec, case.system) for spec in (case.spec, case.truth or case.spec))
    return [_estimate(name, sheet.estimates.get(name), known[name], true[name], case) for name in known]


def _estimate(name: str, given: float | None, known: float, true: float, case: Case) -> Finding:
    computed = f" Computed from what you know: {_digits(known)}"
    if given is None:
        why = f"Nothing estimated.{computed}." if case.told else "Nothing estimated."
        return Finding(ESTIMATION, name, "missing", why, "1.32")
    sound = _within(given, known) or _within(given, true)
    factor = f", a factor of {max(given / known, known / given):,.3g}" if given else ""
    truth = f"; with what you did not ask: {_digits(true)}" if _digits(true) != _digits(known) else ""
    told = f"{computed}{factor}{truth}." if case.told else ""
    return Finding(ESTIMATION, name, "sound" if sound else "wrong", f"You {_digits(given)}.{told}", "1.32")


def _digits(value: float) -> str:
    """A number with three digits: an estimate has no more."""
    return short(float(f"{value:.3g}"))


def _rejected(sheet: Sheet, case: Case) -> list[Finding]:
    verdict = "sound" if sheet.rejected else "missing"
    return [Finding(ESTIMATION, "a design that a number rejects", verdict, _said(sheet.rejected), "2.2")]


def _budget(sheet: Sheet, case: Case) -> list[Finding]:
    name, stages = "latency budget", sheet.latency_budget
    if len([ms for ms in stages.values() if ms > 0]) < 2:
        why = "Split the p99 over the stages of the request: two at least that take time."
        return [Finding(ARCHITECTURE, name, "missing", why, "2.14")]
    spent, p99 = sum(stages.values()), case.spec.p99_ms
    why = f"{len(stages)} stages take {spent:g} of {p99:g} ms."
    if spent > p99:
        return [Finding(ARCHITECTURE, name, "wrong", why + " Cut a stage, or run two in parallel.", "2.14")]
    return [Finding(ARCHITECTURE, name, "sound", why + " (A sum of p99 is on the safe side.)", "2.14")]


def _fallback(sheet: Sheet, case: Case) -> list[Finding]:
    if sheet.fallback:
        return [Finding(ARCHITECTURE, "fallback", "sound", sheet.fallback, "2.26")]
    why = "Nothing written: a system inside the request needs an answer when the model is down."
    return [Finding(ARCHITECTURE, "fallback", "missing", why, "2.26", "fallback")]


LOGGED = {
    "features as served": ("feature", "embedding"),
    "version of the model": ("version", "model"),
    "identity of the request": ("request", "id", "transaction", "query"),
    "time": ("time", "when", r"ts(?![a-z])", r"[a-z]+ed at\b", "event order"),
}
LOGGED_OF_LISTS = {
    "position": ("position", "rank", "slot"),
    "propensity": ("propensit", "probabilit", r"p ?\("),
}


def _logging(sheet: Sheet, case: Case) -> list[Finding]:
    wanted = LOGGED | (LOGGED_OF_LISTS if case.spec.page_size > 1 else {})
    logged = [_spaced(text) for text in sheet.logged]
    lacking = [name for name, words in wanted.items() if not any(_has(text, *words) for text in logged)]
    if not lacking:
        return [Finding(ARCHITECTURE, "what is logged", "sound", f"All of {', '.join(wanted)}.", "2.27")]
    verdict = "wrong" if sheet.logged else "missing"
    return [Finding(ARCHITECTURE, "what is logged", verdict, f"Missing: {', '.join(lacking)}.", "2.27")]


def _label(sheet: Sheet, case: Case) -> list[Finding]:
    if sheet.label:
        return [Finding(DATA, "label", "sound", sheet.label, "3.3")]
    return [Finding(DATA, "label", "missing", "No label: nothing to train on or to measure.", "3.3", "label")]


def _check_split(sheet: Sheet, case: Case) -> list[Finding]:
    delay, gap = case.spec.label_delay_days, sheet.gap_days or 0
    if not sheet.split:
        return [Finding(DATA, "split", "missing", "No split: say which rows judge.", "3.9", "split")]
    if sheet.split != "temporal":
        why = f"A split {sheet.split} lets the model train on what comes after its test rows."
        return [Finding(DATA, "split", "wrong", why, "3.9", "split")]
    if gap < round(delay):  # labels of the same day need no gap
        why = f"The gap is {gap:g} days, and labels take {delay:g}: the last training rows are not final."
        return [Finding(DATA, "split", "wrong", why, "3.5")]
    why = f"Temporal, with a gap of {gap:g} days for labels that take {delay:g}."
    return [Finding(DATA, "split", "sound", why, "3.9")]


def _features(sheet: Sheet, case: Case) -> list[Finding]:
    given = {"static features": sheet.static_features, "dynamic features": sheet.dynamic_features}
    return [
        Finding(DATA, name, "sound" if value else "missing", _said(value), "3.14")
        for name, value in given.items()
    ]


def _privacy(sheet: Sheet, case: Case) -> list[Finding]:
    name = "personal data"
    if not sheet.data:
        why = "No inventory: nobody knows what is kept, what for, and until when."
        return [Finding(DATA, name, "missing", why, "1.34", "privacy")]
    if bad := [row.name for row in sheet.data if not row.purpose or not row.retention_days]:
        why = f"Without purpose or retention: {', '.join(bad)}."
        return [Finding(DATA, name, "wrong", why, "1.34", "privacy")]
    if brief := [row.name for row in sheet.data if row.retention_days < case.spec.label_delay_days]:
        why = f"Deleted before the label is known: {', '.join(brief)}. No training row can be joined."
        return [Finding(DATA, name, "wrong", why, "1.34")]
    kept = ", ".join(row.name for row in sheet.data)
    return [Finding(DATA, name, "sound", f"{kept}: with purpose and retention.", "1.34")]


def _erasure(sheet: Sheet, case: Case) -> list[Finding]:
    if not case.erasure_asked:
        return []
    verdict = "sound" if sheet.erasure else "missing"
    return [Finding(DATA, "erasure", verdict, _said(sheet.erasure), "3.35")]


FASHION = ("network", "transformer", "tower", "deep", "llm", "bert", "neural", "gnn")
FASHION += ("dnn", "dlrm", "mmoe", "gpt", "claude", "gemini")


def _ladder(sheet: Sheet, case: Case) -> list[Finding]:
    if len(sheet.ladder) < 3:
        why = f"{len(sheet.ladder)} of at least three rungs: a baseline, a first model, a better one."
        return [Finding(MODEL, "model ladder", "wrong" if sheet.ladder else "missing", why, "4.1")]
    if _has(re.sub(r"(?i)\bnon[- ]\w+", "", sheet.ladder[0]), *FASHION):
        why = f"It starts with {sheet.ladder[0]!r}: without a baseline nobody knows what that buys."
        return [Finding(MODEL, "model ladder", "wrong", why, "4.1")]
    return [Finding(MODEL, "model ladder", "sound", " → ".join(sheet.ladder), "4.1")]


INPUTS = ("psi", "ks", "feature", "input", "two sample", "c2st", "embedding")
OUTCOMES = ("label", "observed", "outcome", "calibrat", "expected", "precision", "recall", "ndcg", "error")
OUTCOMES += ("loss", "auc", "residual", "chargeback", "fraud", "verdict", "review", "disagree", "prevalence")
OUTCOMES += ("click", "ctr", "like", "watch", "dwell", "satisf", "regret", "conver", "complain", "report")
OUTCOMES += ("hide", "success", "reformulat", "abandon", "return", "positive")
WEAK = ("rate", "share", "score", "prediction")  # of an outcome, unless they are of an input
NOTHING = ("nothing", "none", "nobody", "no alarm")


def _alarm_cover(sheet: Sheet, case: Case) -> list[Finding]:
    return [_alarm_for(drift, sheet) for drift in DRIFTS]


def _watches_an_outcome(signal: str) -> bool:
    return _has(signal, *OUTCOMES) or (_has(signal, *WEAK) and not _has(signal, *INPUTS))


def _alarm_for(drift: str, sheet: Sheet) -> Finding:
    """What is found on the alarms for one drift: the best of them counts."""
    name, mine = f"alarm for {drift} drift", [alarm for alarm in sheet.alarms if alarm.drift == drift]
    if not mine:
        return Finding(RELEASE, name, "missing", "No alarm: nobody would know.", "5.20")
    able = [a for a in mine if not _has(a.signal, *NOTHING)]
    able = [a for a in able if drift == "covariate" or _watches_an_outcome(_spaced(a.signal))]
    if not able:
        why = f"{mine[0].signal!r} names no outcome: {drift} drift can leave inputs and machines as they are."
        if drift == "covariate":
            why = f"{mine[0].signal!r} is no signal."
        return Finding(RELEASE, name, "wrong", why, "5.20")
    if owned := [alarm for alarm in able if alarm.signal and alarm.owner]:
        return Finding(RELEASE, name, "sound", f"{owned[0].signal}, calls {owned[0].owner}.", "5.20")
    return Finding(RELEASE, name, "wrong", "It lacks a signal or an owner: an alarm calls a person.", "5.28")


SMALL = "one|two|three|four|five|ten|twenty|fifty"
A_NUMBER = (r"\d", "half|twice|double", rf"({SMALL}) (per ?cent|point|time|sigma|second|minute|hour|day)")


def _rollback(sheet: Sheet, case: Case) -> list[Finding]:
    if not sheet.rollback:
        why = "Nothing would make you roll back?"
        return [Finding(RELEASE, "rollback", "missing", why, "5.4", "rollback")]
    if not _has(sheet.rollback, *A_NUMBER):
        why = f"{sheet.rollback!r} has no number: at night nobody can decide by it."
        return [Finding(RELEASE, "rollback", "wrong", why, "5.5")]
    return [Finding(RELEASE, "rollback", "sound", sheet.rollback, "5.4")]


CHECKS = (
    _metric,
    _costs,
    _guards,
    _envelope,
    _rejected,
    _budget,
    _fallback,
    _logging,
    _label,
    _check_split,
    _features,
    _privacy,
    _erasure,
    _ladder,
    _experiment,
    _alarm_cover,
    _rollback,
)
