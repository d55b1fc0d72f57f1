"""A mock interview of 45 minutes: a clock, hidden requirements, a surprise, an answer sheet, a report.

The state lies in a JSON file, so that a restart of the kernel loses nothing: the clock goes on meanwhile.
Everything works from plain cells.
"""

import re
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd

from helpers.answer_sheet import (
    PARTS,
    ROW_BYTES,
    Case,
    Finding,
    Sheet,
    check,
    estimates,
    findings_table,
    users_per_arm,
    written,
)
from helpers.case_systems import SURPRISE_FIELDS, Ask, find_system, surprised
from helpers.figures import say, short
from helpers.interview import ASSUMED, SCORING_TIME, DesignSpec, consequences, design_change
from helpers.metrics import cost_threshold
from helpers.rubric import (
    BANDS,
    CALIBRATION,
    HIGHEST,
    RED_FLAG_CAP,
    RED_FLAGS,
    RUBRIC,
    band,
    check_scores,
    total,
)
from helpers.saved_state import StateFile
from helpers.sections import concepts, section_link
from helpers.shifts import choice, whole

LENGTH, SURPRISE_AT = 45, 25  # minutes
USEFUL = 4  # questions that change the design, at least
NOT_RUNNING = {
    "ready": "The interview has not begun: call .start().",
    "paused": "The interview is paused: call .resume().",
}
CHECKED_CAP = 2  # points of a row in which a check found something: 3 asks for sound numbers


class Phase(NamedTuple):
    """A phase of the interview: its minutes, what to do, what must be on the board, how it commonly fails."""

    begins: int
    ends: int
    name: str
    board: str
    failure: str


PHASES = (
    Phase(0, 3, "clarify", "goal, users, actions, scale, latency, labels", "15 questions, none used"),
    Phase(3, 8, "metrics", "business → online → offline → loss; costs of errors", "'we use AUC'"),
    Phase(8, 11, "envelope", "five numbers with units", "numbers that never influence the design"),
    Phase(11, 19, "architecture", "offline and online path, seams, log, fallback", "boxes without data flow"),
    Phase(19, 28, "data and features", "label and its time, split, static and dynamic", "a shopping list"),
    Phase(28, 36, "model", "baseline, v1, v2, and the rule to move on", "dropping names"),
    Phase(36, 42, "release and monitoring", "n of the A/B, three alarms with owners", "'we monitor drift'"),
    Phase(42, LENGTH, "wrap up", "top three risks, what to cut, next two quarters", "no summary"),
)


@dataclass(frozen=True)
class Told:
    """What the interviewer says, as Markdown, and the numbers that it changes: index, before, after."""

    text: str
    changed: pd.DataFrame = field(default_factory=lambda: _changes({}, {}))

    @property
    def words(self) -> list[str]:
        """The text line by line, without its table and without the marks of Markdown."""
        lines = [line.replace("*", "").replace("`", "") for line in self.text.splitlines()]
        return [line for line in lines if line and not line.startswith("|")]

    @property
    def rows(self) -> list[list[str]]:
        """The changed numbers as text: name, before, after."""
        return [[name, _short(before), _short(after)] for name, before, after in self.changed.itertuples()]

    def _repr_markdown_(self) -> str:
        return self.text


@dataclass(frozen=True, repr=False)
class Report:
    """The outcome of an interview.

    rows: one a row of the rubric (weight, own score, points after the checks, of). checks: the findings.
    total, band: None and "" until all rows are scored. practice: two links into the notebooks.
    """

    rows: pd.DataFrame
    checks: pd.DataFrame
    red_flags: tuple[str, ...]
    total: float | None
    band: str
    practice: tuple[str, ...]
    text: str

    def __repr__(self) -> str:
        """The text, where no Markdown is drawn."""
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


class MockInterview:
    """An interview on one of the four systems, in the minute plan of `PHASES`.

    `start`, then `ask`, `fill`, `surprise` (from minute 25), `follow_up`; last `score` and `report`. `spec`
    is the ledger as far as you know it: what you did not ask for is assumed, and the numbers follow from it.
    """

    def __init__(
        self,
        path: Path | str,
        system: str = "video recommendation",
        scale: str = "large",
        p99_ms: float = 200,
        seniority: str = "Senior",
        seed: int = 0,
        budget: int = 6,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Go on with the interview in the file at `path`, or prepare one.

        path: a file whose name ends in .json. seed: draws the surprise and the follow-ups. budget: questions
        that may be asked. clock: seconds since some fixed moment, which a restart must not change.
        A file that cannot be read is kept aside, and `notice` says so. Nothing is saved before `start`, and
        an interview that never began gives way to one with other settings. Raises ValueError for an unknown
        system, scale or level, or when another interview in the file has begun; OSError when the file cannot
        be read.
        """
        self.system, self._clock = find_system(system), clock
        self._hidden = self.system.spec(scale, p99_ms, seniority)
        self.settings = {
            "system": system,
            "scale": scale,
            "p99_ms": float(p99_ms),
            "seniority": seniority,
            "seed": whole("seed", seed),
            "budget": whole("budget", budget),
        }
        self._file = StateFile(Path(path), "interview", 2)
        self._state, self.notice = self._file.load(self._restored)
        if self._state and self._state.settings != self.settings:
            self._let_go(self._state)
            self._state = None
        if self.notice:
            self.notice += " Call interview.start() when you are ready."
            say(self.notice)
        self._state = self._state or _State(self.settings)

    def _restored(self, saved: Mapping[str, Any]) -> "_State":
        if saved["settings"] != self.settings and set(saved["settings"]) == set(self.settings):
            other = _State(saved["settings"])  # sound, but of another interview: not to be put aside
            other.started_at = _moment(saved["started_at"])
            return other
        return _State.restored(saved, self.settings, set(self.system.asks), len(self._follow_ups))

    def _let_go(self, other: "_State") -> None:
        """Let another interview go that never began. Raises ValueError, with what differs, if it did."""
        if other.started_at is None:
            return
        differ = [
            f"{name} is {other.settings[name]!r} there and {mine!r} here"
            for name, mine in self.settings.items()
            if other.settings[name] != mine
        ]
        raise ValueError(
            f"{self._file.path.name} holds an interview that began with other settings: {', '.join(differ)}. "
            "Pass the same ones to go on, or another path to begin anew."
        )

    def _save(self) -> None:
        """Save, unless there is nothing to keep yet: an untouched cell must not claim the file."""
        state = self._state.saved()
        if state != _State(self.settings).saved() or self._file.path.exists():
            self._file.save(state)

    # ---------------------------------------------------------------- the clock

    def start(self) -> Told:
        """Start the clock and return the brief; once it has begun, where you stand and what you know."""
        if self._state.started_at is not None:
            return Told("\n\n".join([self._standing(), self._brief(), self._known()]))
        self._state.started_at = float(self._clock())
        self._save()
        return Told(self._brief())

    def _standing(self) -> str:
        """The minute, the phase and the questions that are left, in words."""
        paused = f" {NOT_RUNNING['paused']}" if self.state == "paused" else ""
        left = self.questions_left
        return (
            f"Going on at minute {self._whole_minute}, {self.phase().name}; "
            f"{left} question{'s' * (left != 1)} left.{paused}"
        )

    @property
    def _whole_minute(self) -> int:
        """The minute as a clock shows it: 24.9 is minute 24."""
        return int(self.minute())

    def minute(self) -> float:
        """Return the minutes since the start, without the pauses; 0 before it."""
        state = self._state
        if state.started_at is None:
            return 0.0
        now = self._clock() if state.paused_at is None else state.paused_at
        return max(0.0, now - state.started_at - state.paused_seconds) / 60

    def phase(self) -> Phase:
        """Return the phase of this minute; after minute 45 the last one."""
        minute = self.minute()
        return next((phase for phase in PHASES if minute < phase.ends), PHASES[-1])

    def pause(self) -> float:
        """Stop the clock; return the minute. Raises ValueError before the start."""
        self._must_have_started()
        if self._state.paused_at is None:
            self._state.paused_at = float(self._clock())
            self._save()
        return self.minute()

    def resume(self) -> float:
        """Let the clock run again; return the minute. Raises ValueError before the start."""
        self._must_have_started()
        if self._state.paused_at is not None:
            self._state.paused_seconds += max(0.0, self._clock() - self._state.paused_at)
            self._state.paused_at = None
            self._save()
        return self.minute()

    def skip(self, minutes: float) -> float:
        """Put the clock on by so many minutes, to practice what comes later; return the minute.

        Raises ValueError before the start, or for minutes below 0.
        """
        self._must_have_started()
        if not minutes >= 0:
            raise ValueError(f"minutes must be at least 0, not {minutes!r}: the clock does not go back.")
        self._state.started_at -= 60 * minutes
        self._save()
        return self.minute()

    @property
    def state(self) -> str:
        """Whether the clock is "ready", "running" or "paused"."""
        if self._state.started_at is None:
            return "ready"
        return "running" if self._state.paused_at is None else "paused"

    def _must_have_started(self) -> None:
        if self.state == "ready":
            raise ValueError(NOT_RUNNING["ready"])

    # ---------------------------------------------------------------- what is known

    @property
    def spec(self) -> DesignSpec:
        """The ledger as you know it: the brief, what you asked for, and the surprise; the rest is assumed."""
        return surprised(self._told, self._surprise) if self._state.surprised else self._told

    @property
    def _told(self) -> DesignSpec:
        """The ledger without the surprise."""
        names = [self.system.asks[key].field for key in self._state.asked]
        return replace(self._opening(), **{name: getattr(self._hidden, name) for name in names if name})

    def _opening(self) -> DesignSpec:
        """The brief, and modest assumptions for what has to be asked for."""
        hidden = self._hidden
        small = self.system.scales["small"]
        assumed = replace(ASSUMED, daily_users=small.daily_users, items=small.items, label="")
        to_ask = {ask.field for ask in self.system.asks.values()} - {"p99_ms"}
        known = [one.name for one in fields(hidden) if one.name not in to_ask]
        return replace(assumed, **{name: getattr(hidden, name) for name in known})

    def numbers(self) -> dict[str, float | str]:
        """Return what the ledger, as you know it, makes you build: numbers, and choices in words."""
        return self._numbers(self.spec)

    def _numbers(self, spec: DesignSpec) -> dict[str, float | str]:
        told = consequences(spec) | {"p99 in ms": spec.p99_ms}
        del told["peak requests a second"]  # one of the estimates
        told |= estimates(spec, self.system)
        told["days of traffic that fill both arms (run 14 at least)"] = (
            2 * users_per_arm(self.system) / spec.daily_users
        )
        told["privacy"] = ", ".join(spec.privacy)
        told |= {name: cost for name in ("cost_fp", "cost_fn") if (cost := getattr(spec, name)) is not None}
        if "cost_fp" in told and "cost_fn" in told:
            told["threshold"] = cost_threshold(spec.cost_fp, spec.cost_fn)
        return told

    @property
    def questions(self) -> pd.DataFrame:
        """The questions that can be asked: index key; columns question, asked."""
        keys = self._open_keys()
        texts = [self.system.asks[key].text for key in keys]
        asked = [key in self._state.asked for key in keys]
        return pd.DataFrame({"question": texts, "asked": asked}, index=pd.Index(keys, name="key"))

    def _open_keys(self) -> list[str]:
        """All questions but that for the latency, which is in the brief."""
        return [key for key, ask in self.system.asks.items() if ask.field != "p99_ms"]

    @property
    def questions_left(self) -> int:
        """How many questions may still be asked."""
        return self.settings["budget"] - len(self._state.asked)

    def _answer(self, key: str) -> str:
        """The answer to a question, as the ledger stands."""
        field = self.system.asks[key].field
        return _spoken(self.spec, field) if field else "It does not change what you build."

    def _known(self) -> str:
        """What was asked and answered so far, and the surprise if it has come."""
        told = [f"- {self.system.asks[key].text} **{self._answer(key)}**" for key in self._state.asked]
        if self._state.surprised:
            told.append(f"- {self.system.surprises[self._surprise].news}")
        return "\n".join(["You know:", "", *told]) if told else "You have asked nothing yet."

    def _brief(self) -> str:
        spec, test = self._opening(), self.system.experiment
        lists = spec.page_size > 1  # a decision on one case has no catalog and no candidates
        catalog = f"{short(spec.items)} items, {spec.page_size:g} on a page, " if lists else ""
        candidates = f"{spec.candidates:g} candidates for ranking, " if lists else ""
        return "\n".join(
            [
                f"**Design: {self.system.name}.** {spec.seniority} level, {LENGTH} minutes. Goal: "
                f"{spec.goal}. "
                f"For {spec.users}. The p99 of an answer is {self.settings['p99_ms']:g} ms.",
                "",
                f"You may ask {self.settings['budget']} questions; what you do not ask for you have assumed: "
                f"{short(spec.daily_users)} users a day, {spec.requests_per_user:g} requests of each, no "
                f"peak, {catalog}labels of the same day.",
                "",
                f"Take {candidates}{self.system.label_share:.2%} positive rows, and for the A/B test "
                f"{test.metric}: its deviation is {test.sd:g} times the mean, the lift to find "
                f"{test.lift:.1%}.",
                "",
                f"For the estimates: a plain model takes {SCORING_TIME.magnitude:g} µs for each score on one "
                "core, and cores are 60% busy (`plain_model_cores`; the page of a system plans richer "
                f"models, on fewer candidates); a logged row is {ROW_BYTES} bytes.",
                "",
                f"Costs of errors are in {self.system.cost_unit}. Around minute {SURPRISE_AT} call "
                "`.surprise()`.",
            ]
        )

    # ---------------------------------------------------------------- asking

    def ask(self, question: str) -> Told:
        """Ask one question, by its key or in your own words; return the answer and what it changes.

        A requirement is revealed only to the question that asks for it. A question that is not understood for
        sure (then you hear which ones it may mean), or that was asked before, costs nothing. Nothing is
        revealed when all questions are spent, or the clock does not run.
        """
        if question is ...:
            return Told("Replace the `...` by a question, or by the key of one.")
        if self.state != "running":
            return Told(NOT_RUNNING[self.state])
        key, candidates = self._understood(question)
        if key is None:
            return Told(self._asked_back(question, candidates))
        if self.system.asks[key].field == "p99_ms":
            return Told(f"The p99 was in the brief: {self.spec.p99_ms:g} ms.")
        if key in self._state.asked:
            return self._answered(key, _changes({}, {}), "You asked this before.")
        if self.questions_left <= 0:
            return Told(f"All {self.settings['budget']} questions are spent: decide with what you know.")
        before, assumed = self.numbers(), self.spec
        self._state.asked.append(key)
        self._save()
        changed = _changes(before, self.numbers())
        return self._answered(key, changed, self._effect(key, changed, assumed))

    def _effect(self, key: str, changed: pd.DataFrame, before: DesignSpec) -> str:
        """What an answer does to the design, in words: the numbers that change, or why none does."""
        ask = self.system.asks[key]
        if not changed.empty or ask.field is None:
            return _changes_told(changed)
        if getattr(before, ask.field) == getattr(self.spec, ask.field):
            return "It confirms what you had assumed: none of your numbers changes."
        return f"None of your numbers changes; it decides on: {ask.changes}."

    def _answered(self, key: str, changed: pd.DataFrame, effect: str) -> Told:
        """The answer to a question, what it does, and the questions that are left."""
        answer = f"*{self.system.asks[key].text}* — **{self._answer(key)}**"
        return Told(f"{answer}\n\n{effect}\n\nQuestions left: {self.questions_left}.", changed)

    def _understood(self, question: str) -> tuple[str | None, list[str]]:
        """The key that a question means for sure, or None; and the keys that it may mean.

        Sure is a key, the text of a question, or `SURE` words in common with one question alone.
        """
        asks = self.system.asks
        if not isinstance(question, str):
            return None, []
        plain = question.strip().lower()
        for key, ask in asks.items():
            if plain in (key, ask.text.lower()):
                return key, [key]
        said = _words(question)
        shared = {key: len(said & _words_of(key, ask)) for key, ask in asks.items()}
        best = max(shared.values())
        candidates = [key for key, count in shared.items() if count == best] if best else []
        sure = [key for key, count in shared.items() if count >= SURE]
        return (sure[0] if len(sure) == 1 else None), candidates

    def _asked_back(self, question: str, candidates: list[str]) -> str:
        """What is said to a question that may mean one of the candidates."""
        texts = {key: self.system.asks[key].text for key in candidates}
        if not texts:
            keys = ", ".join(self._open_keys())
            return f"I do not understand {question!r}. Ask for one thing, or use a key: {keys}."
        if len(texts) == 1:
            ((key, text),) = texts.items()
            if self.system.asks[key].field == "p99_ms":
                return f"The p99 was in the brief: {self.spec.p99_ms:g} ms."
            return f"Do you mean: {text} Then ask `interview.ask('{key}')`."
        listed = [f"- {text} `interview.ask('{key}')`" for key, text in texts.items()]
        return "\n".join(["Do you mean one of these? Then ask it by its key.", "", *listed])

    # ---------------------------------------------------------------- surprise and follow-ups

    @property
    def _surprise(self) -> str:
        return list(SURPRISE_FIELDS)[self._order(len(SURPRISE_FIELDS))[0]]

    def _order(self, count: int) -> list[int]:
        """An order of `count` things, drawn from seed and case; the next seed begins with the next."""
        settings = self.settings
        case = "|".join(str(settings[name]) for name in ("system", "scale", "p99_ms", "seniority"))
        order = np.random.default_rng(crc32(case.encode())).permutation(count)
        return np.roll(order, -settings["seed"]).tolist()

    def surprise(self) -> Told:
        """Return the news of minute 25, and what it changes; before then, or without a clock, what to do."""
        if self.state != "running":
            return Told(NOT_RUNNING[self.state])
        if not self._state.surprised:
            if self.minute() < SURPRISE_AT:
                due = f"Not yet: it is minute {self._whole_minute}, and the surprise is due at {SURPRISE_AT}."
                return Told(due)
            self._state.surprised = True
            self._save()
        changed = _changes(self._numbers(self._told), self.numbers())
        news = self.system.surprises[self._surprise].news
        repair = "Say what you change, and `.fill` the parts that change."
        return Told(f"**{news}** {repair}\n\n{_changes_told(changed)}", changed)

    @property
    def _follow_ups(self) -> list[int]:
        """The follow-ups of the level, in the order in which they are asked."""
        return self._order(len(self.system.followups[self.settings["seniority"]]))

    def follow_up(self) -> Told:
        """Return the next follow-up at the chosen level, or what to do while the clock does not run.

        The report gives the keys to the answers.
        """
        if self.state != "running":
            return Told(NOT_RUNNING[self.state])
        if self._state.followed >= len(self._follow_ups):
            return Told("There are no more follow-ups.")
        asked = self.system.followups[self.settings["seniority"]][self._follow_ups[self._state.followed]]
        self._state.followed += 1
        self._save()
        return Told(f"**{asked.question}**")

    # ---------------------------------------------------------------- the answer sheet

    @property
    def sheet(self) -> Sheet:
        """The answer sheet as it is saved."""
        return self._state.sheet

    def fill(self, sheet: Sheet | Mapping[str, Any]) -> Told:
        """Write parts of the sheet and save at once; return what is filled, and what this phase still needs.

        sheet: a dictionary of parts (see `answer_sheet.PARTS`), or a whole `Sheet`, whose empty parts leave
        what was written. Placeholders ``...`` leave a part as it is (see `answer_sheet.written`). The entries
        of a dictionary join those that were written before; an entry of None takes one out. A part that is
        unknown or of the wrong shape is named, and changes nothing; the others are saved. Nothing is before
        the start.
        """
        parts = sheet.parts if isinstance(sheet, Sheet) else sheet
        if not isinstance(parts, Mapping):
            return Told(f"Give a dictionary of parts or a Sheet, not {sheet!r}.")
        given = {name: kept for name, value in parts.items() if (kept := written(value)) is not ...}
        if given and self.state == "ready":
            return Told(NOT_RUNNING["ready"])
        refused = [refusal for name, value in given.items() if (refusal := self._fill_part(name, value))]
        self._save()
        due = ", ".join(self.due())
        told = f"Minute {self._whole_minute}, {self.phase().name}: {len(self.sheet.parts)} parts are filled."
        told = f"{told} Due by now: {due}." if due else told
        return Told("\n".join([*(f"- **Not saved:** {refusal}" for refusal in refused), "", told]).strip())

    def _fill_part(self, name: str, value: Any) -> str:
        """Write one part; return why it was refused, or ""."""
        try:
            self._state.sheet = self._state.sheet.filled({name: self._joined(name, value)})
        except ValueError as refusal:
            return str(refusal)
        self._state.filled[name] = round(self.minute(), 1)
        return ""

    def _joined(self, name: str, value: Any) -> Any:
        """A part as given, or a dictionary of it joined to what was written before."""
        before = self.sheet.parts.get(name)
        return before | value if isinstance(before, dict) and isinstance(value, Mapping) else value

    def due(self) -> list[str]:
        """Return the parts of the sheet that should be filled by the end of this phase and are not."""
        wanted = [name for name, part in PARTS.items() if part.until <= self.phase().ends]
        optional = set() if self._erasure_asked else {"erasure"}
        return [name for name in wanted if name not in self.sheet.parts and name not in optional]

    @property
    def _erasure_asked(self) -> bool:
        return self._state.surprised and self._surprise == "erasure"

    @property
    def _over(self) -> bool:
        """Whether the solution may be told: after the last minute, or when every row has points."""
        return self.minute() >= LENGTH or len(self._state.scores) == len(RUBRIC)

    def findings(self) -> list[Finding]:
        """Return what the checks find on the sheet, against the ledger as you know it.

        They tell the computed values after minute 45, or when every row has points.
        """
        truth = surprised(self._hidden, self._surprise) if self._state.surprised else self._hidden
        found = check(self.sheet, Case(self.system, self.spec, self._erasure_asked, self._over, truth))
        return [_questions_finding(self), *found]

    def score(self, points: Mapping[str, int], red_flags: Collection[str] = ()) -> Told:
        """Score yourself by the rubric, 0 to 4 a row, and name the red flags that no check can see.

        Return how many rows have points. Rows may come one by one; ``...`` leaves a row as it is. Raises
        ValueError for an unknown row or flag, or points outside 0 to 4.
        """
        for flag in red_flags:
            choice("red flag", flag, tuple(RED_FLAGS))
        self._state.scores |= check_scores({row: n for row, n in points.items() if n is not ...})
        self._state.red_flags = sorted(red_flags)
        self._save()
        return Told(f"{len(self._state.scores)} of {len(RUBRIC)} rows have points.")

    def report(self) -> Report:
        """Return the points by row, the checked findings, and the two things to practice next.

        What you did not ask, computed values and keys come after minute 45, or when every row has points.
        """
        return _report(self)


# ---------------------------------------------------------------- state


class _State:
    """What is saved of an interview."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = dict(settings)
        self.started_at: float | None = None
        self.paused_at: float | None = None
        self.paused_seconds = 0.0
        self.asked: list[str] = []
        self.surprised = False
        self.followed = 0
        self.sheet = Sheet()
        self.filled: dict[str, float] = {}
        self.scores: dict[str, int] = {}
        self.red_flags: list[str] = []

    def saved(self) -> dict[str, Any]:
        """The state as JSON can hold it."""
        return vars(self) | {"sheet": self.sheet.parts}

    @classmethod
    def restored(
        cls,
        saved: Mapping[str, Any],
        settings: Mapping[str, Any],
        questions: Collection[str],
        follow_ups: int,
    ) -> "_State":
        """Read a saved state. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
        if saved["settings"] != settings:
            raise ValueError("its settings are damaged")
        state = cls(settings)
        state.started_at, state.paused_at = (_moment(saved[name]) for name in ("started_at", "paused_at"))
        state.paused_seconds = float(_moment(saved["paused_seconds"]))
        state.asked = [choice("question", key, tuple(questions)) for key in saved["asked"]]
        if not isinstance(saved["surprised"], bool):
            raise TypeError
        state.surprised = saved["surprised"]
        state.followed = whole("followed", saved["followed"], high=follow_ups)
        state.sheet = Sheet().filled(saved["sheet"])
        state.filled = {choice("part", name, tuple(PARTS)): float(at) for name, at in saved["filled"].items()}
        state.scores = check_scores(saved["scores"])
        state.red_flags = [choice("red flag", flag, tuple(RED_FLAGS)) for flag in saved["red_flags"]]
        return state


def _moment(value: float | None) -> float | None:
    """A number of seconds, or None; anything else raises ValueError."""
    if value is not None and (
        not isinstance(value, Real) or isinstance(value, bool) or not np.isfinite(value)
    ):
        raise ValueError(f"a time is {value!r}")
    return value


# ---------------------------------------------------------------- words


FILLERS = {
    *("a", "an", "and", "any", "are", "at", "be", "by", "can", "could", "do", "does", "for", "from", "have"),
    *("how", "i", "in", "is", "it", "its", "long", "many", "may", "me", "ms", "much", "must", "of", "on"),
    *(
        "or",
        "our",
        "people",
        "per",
        "please",
        "tell",
        "that",
        "the",
        "there",
        "they",
        "this",
        "to",
        "us",
        "we",
        "what",
    ),
    *("when", "which", "who", "will", "with", "you", "your"),
}

SURE = 2  # words in common with one question alone: one word is a guess, and a guess costs nothing
HEARD = {  # other words by which a field of the ledger is asked for
    "daily_users": "DAU users daily active audience traffic scale",
    "requests_per_user": "often frequency requests",
    "peak_factor": "peak burst spike qps rps tps traffic",
    "items": "items catalog corpus inventory size scale",
    "p99_ms": "latency fast slow quick",
    "freshness_minutes": "fresh soon stale new real time",
    "page_size": "page show shown list",
    "label": "success positive label",
    "label_delay_days": "late delay lag wait label final arrive until known",
    "consent_needed": "consent opt profile",
    "anti_goals": "safety harm unsafe forbidden goals",
    "cost_fp": "cost false positive alarm",
    "cost_fn": "cost false negative miss",
    "privacy": "privacy GDPR legal personal data erase retention",
}


def _words(text: str) -> set[str]:
    """The words of a text that carry meaning, roughly without their endings."""
    found = re.findall(r"[a-z]+", text.lower())
    return {re.sub(r"(ing|ed|es|s)$", "", word) or word for word in found if word not in FILLERS}


def _words_of(key: str, ask: Ask) -> set[str]:
    """The words that belong to a question: its text, its key, and what else its field is called."""
    return _words(" ".join([key, ask.text, HEARD.get(ask.field, "")]).replace("_", " "))


UNITS = {"freshness_minutes": "minute", "label_delay_days": "day"}


def _spoken(spec: DesignSpec, name: str) -> str:
    """A requirement as text: a number with its thousands apart, a yes or no, a list with commas."""
    value = getattr(spec, name)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ", ".join(value)
    if name == "freshness_minutes" and value < 1:
        return f"{60 * value:.3g} second{'s' * (60 * value != 1)}"
    unit = f" {UNITS[name]}{'s' * (value != 1)}" if name in UNITS else ""
    return f"{value:,.4g}{unit}" if unit else _large(value)


def _large(value: object) -> str:
    return f"{value:,.10g}" if isinstance(value, Real) else str(value)


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> pd.DataFrame:
    """The numbers that differ: index, before, after."""
    rows = {
        name: (before.get(name, "unknown"), value)
        for name, value in after.items()
        if before.get(name, "unknown") != value
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["before", "after"])


def _changes_told(changed: pd.DataFrame) -> str:
    """The changes as a Markdown table, or that there are none."""
    if changed.empty:
        return "None of your numbers changes."
    rows = [f"| {name} | {_short(row.before)} | {_short(row.after)} |" for name, row in changed.iterrows()]
    return "\n".join(["| what changes | before | after |", "|---|---|---|", *rows])


def _short(value: object) -> str:
    return _large(float(f"{value:.3g}")) if isinstance(value, Real) else str(value) or "none"


# ---------------------------------------------------------------- the report


def _report(interview: MockInterview) -> Report:
    state, findings = interview._state, interview.findings()
    faults = [finding for finding in findings if finding.verdict != "sound"]
    flags = sorted({finding.red_flag for finding in faults if finding.red_flag} | set(state.red_flags))
    rows = _points(state.scores, faults)
    scored = rows["points"].notna().all()
    points = {name: int(value) for name, value in rows["points"].items()} if scored else {}
    reached = total(points, flags) if scored else None
    reached_band = band(points, flags) if scored else ""
    practice = _practice(rows, faults)
    parts = [
        _headline(interview, rows, flags, reached, reached_band),
        _table(rows.reset_index()),
        f"Points: your own score, at most {CHECKED_CAP} where a check found something wrong or missing.",
        "### What the checks found",
        _table(findings_table(faults)) if faults else "Everything that can be computed is sound.",
        f"{len(findings) - len(faults)} of {len(findings)} checks are sound.",
        _red_flags_told(flags),
        *(_solution(interview) if interview._over else [NOT_YET_TOLD]),
        "### Practice next",
        "\n".join(f"{number}. {text}" for number, text in enumerate(practice, 1)),
        f"*{BANDS} {CALIBRATION}*",
    ]
    text = "\n\n".join(part for part in parts if part)
    return Report(rows, findings_table(findings), tuple(flags), reached, reached_band, tuple(practice), text)


def _questions_finding(interview: MockInterview) -> Finding:
    """Whether enough of the questions changed the design."""
    asks, asked = interview.system.asks, interview._state.asked
    useful = sum(asks[key].field is not None for key in asked)
    enough = min(USEFUL, interview.settings["budget"])
    verdict = "sound" if useful >= enough else "wrong" if asked else "missing"
    told = f"{useful} of {len(asked)} questions ask for a requirement; {enough} or more should."
    return Finding("framing and metrics", "questions", verdict, told, "1.1")


def _points(scores: Mapping[str, int], faults: list[Finding]) -> pd.DataFrame:
    """One row a row of the rubric: weight, own (score), cap (by the checks), points, weighted."""
    faulty = {finding.row for finding in faults}
    cap = {name: CHECKED_CAP if name in faulty else HIGHEST for name in RUBRIC}
    own = {name: scores.get(name, np.nan) for name in RUBRIC}
    table = pd.DataFrame(
        {"weight": {name: row.weight for name, row in RUBRIC.items()}, "own": own, "cap": cap}
    )
    table["points"] = table[["own", "cap"]].min(axis=1, skipna=False)
    return table.assign(weighted=table["weight"] * table["points"] / HIGHEST).rename_axis("row")


def _practice(rows: pd.DataFrame, faults: list[Finding]) -> list[str]:
    """The two rows that lost most, red flags first, each with a link to where it is taught."""
    lost = rows["weight"] * (1 - rows["points"].fillna(rows["cap"]) / HIGHEST)
    flagged, faulty = {f.row for f in faults if f.red_flag}, {f.row for f in faults}
    order = sorted(rows.index, key=lambda n: (n in flagged, lost[n], n in faulty), reverse=True)[:2]
    told = []
    for name in order:
        mine = sorted((f for f in faults if f.row == name), key=lambda f: not f.red_flag)
        concept = mine[0].concept_id if mine else RUBRIC[name].concept_id
        why = f"{mine[0].check}: {mine[0].finding}" if mine else f"next level: {_next_level(name, rows)}."
        told.append(f"**{name}**, {section_link(concept)} ({concepts().loc[concept].concept}). {why}")
    return told


def _next_level(name: str, rows: pd.DataFrame) -> str:
    """What the next level of a row looks like: Senior at least, whatever is missing to it."""
    points = rows["points"].fillna(0)[name]
    return RUBRIC[name].levels[min(max(int(points), 2), HIGHEST - 1)]


def _headline(
    interview: MockInterview, rows: pd.DataFrame, flags: list[str], reached: float | None, reached_band: str
) -> str:
    settings, late = interview.settings, _late(interview)
    head = f"## {settings['system']}, {settings['scale']}, {settings['p99_ms']:g} ms, {settings['seniority']}"
    if reached is None:
        missing = ", ".join(rows.index[rows["own"].isna()])
        told = f"No total yet. Score yourself with `.score({{row: points}})`: {missing}."
    else:
        capped = f", capped at {RED_FLAG_CAP} by a red flag" if rows["weighted"].sum() > reached else ""
        told = f"**{reached:.0f} of 100{capped}: {reached_band}.**"
    return "\n\n".join([head, told, *late])


def _late(interview: MockInterview) -> list[str]:
    """A sentence on the parts that were filled after the end, if there are any."""
    late = [name for name, minute in interview._state.filled.items() if minute > LENGTH]
    return (
        [f"Filled after minute {LENGTH}, too late to count in a real interview: {', '.join(late)}."]
        if late
        else []
    )


def _table(table: pd.DataFrame) -> str:
    """A table as Markdown."""
    names = list(table.columns)
    rows = [[_cell(value) for value in row] for row in table.itertuples(index=False)]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def _cell(value: object) -> str:
    if isinstance(value, Real):
        return "–" if np.isnan(value) else f"{value:g}"
    return str(value).replace("|", "\\|")


def _red_flags_told(flags: list[str]) -> str:
    return "**Red flags:** " + "; ".join(RED_FLAGS[flag] for flag in flags) + "." if flags else ""


NOT_YET_TOLD = f"What you did not ask is told after minute {LENGTH}, or when every row has points."


def _solution(interview: MockInterview) -> list[str]:
    """What would spoil an interview that goes on: what was not asked, and the keys."""
    return ["### What you did not ask", _unasked(interview), _follow_ups_told(interview)]


def _unasked(interview: MockInterview) -> str:
    """The hidden requirements that would have changed the design most, and the questions that were wasted."""
    asks, state, known = interview.system.asks, interview._state, interview.spec
    worth = {}
    for key in interview._open_keys():
        name = asks[key].field
        if name and key not in state.asked:
            truth = replace(known, **{name: getattr(interview._hidden, name)})
            worth[key] = design_change(known, truth)
    wasted = [asks[key].text for key in state.asked if asks[key].field is None]
    told = [
        f"- {asks[key].text} **{_spoken(interview._hidden, asks[key].field)}**; changes: {asks[key].changes}."
        for key in sorted(worth, key=worth.__getitem__, reverse=True)
    ]
    if wasted:
        told.append(f"- Asked for nothing: {' '.join(wasted)}")
    return "\n".join(told) or "Nothing: you asked for every requirement."


def _follow_ups_told(interview: MockInterview) -> str:
    """The follow-ups that were asked, each with the key to its answer; and that of the surprise."""
    level = interview.settings["seniority"]
    asked = [interview.system.followups[level][i] for i in interview._follow_ups[: interview._state.followed]]
    told = [f"- {one.question} *Key: {one.answer}.*" for one in asked]
    if interview._state.surprised:
        news = interview.system.surprises[interview._surprise]
        told.insert(0, f"- {news.news} *Key: {news.answers[level]}.*")
    return "\n".join(["### Keys", *told]) if told else ""
