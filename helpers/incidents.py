"""The incident room: something broke on the simulated platform; find out what, before the clock runs away.

A room hides one fault out of `FAULTS`. The learner reads the page, buys evidence by the minute, and names the
fault. All evidence is computed from the log of a platform on which that fault really happened.
"""

import copy
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score

from helpers.click_model import (
    CONTEXT,
    FEATURES,
    STORED,
    ClickModel,
    count_rates,
    day_of,
    impression_features,
    last_days,
)
from helpers.features import parity
from helpers.monitoring import calibration_by_segment, drift_report
from helpers.shifts import choice, inject, whole
from helpers.simulator import IMPRESSION_LOG, Platform, Policy, random_policy
from helpers.world import DAY_SECONDS, LONGEST_SECONDS, START

FAULTS = {
    "unit_change": "pipeline: watch_seconds arrives in milliseconds",
    "duplicate_events": "pipeline: some events are written twice",
    "late_events": "pipeline: some events arrive hours after they happened",
    "covariate_shift": "world: a new audience comes",
    "concept_shift": "world: the same people like other things",
    "stale_snapshot": "serving: the feature store serves an old snapshot",
    "version_mismatch": "serving: user vectors of one version meet an index of another",
    "traffic_drop": "serving: the clients of one country cannot reach the platform",
}
DAMAGE = {"unit_change": 1.0, "duplicate_events": 0.35, "late_events": 0.8}  # share of the rows
SHIFT_OF = {"covariate_shift": "covariate", "concept_shift": "concept"}
COSTS = {"quality": 3, "dashboard": 2, "slice_by": 4, "drift": 6, "parity": 10, "replay": 10, "labels": 20}
WRONG, HOUR = 30, 60  # minutes: lost by acting on a wrong diagnosis; more than a good strategy for 0 points
METRICS = ("impressions", "users", "clicks per impression", "mean score", "hours to arrive")
SEGMENTS = ("age_band", "country", "device", "topic", "hour")
KEYS, OWNERS = ["request_id", "video_id"], ["user_id", "video_id"]

MEMORY, EXPLORED = 5, 0.2
FIRST_DAY, RELEASE_DAY, LAST_DAY = 4, 11, 20  # of a first model, of the one that serves; today
QUIET_DAYS = range(12, 17)
PARITY_ROWS = 500


# ---------------------------------------------------------------- the platform on which it happens


class _Evidence(NamedTuple):
    """What the systems of the platform hold on the evening of the last day; it tells nothing by its text."""

    platform: Platform
    model: ClickModel
    events: pd.DataFrame  # as clients sent them, once
    stored: pd.DataFrame  # as the pipeline wrote them, with `arrived_at`
    served: pd.DataFrame  # features and `score` of each event when it was served, with the `KEYS`

    def __repr__(self) -> str:
        return "the evidence"


def _damaged(fault: str, events: pd.DataFrame, seed: int) -> pd.DataFrame:
    """What the pipeline writes of a day's events."""
    written = inject(events, fault, DAMAGE[fault], seed) if fault in DAMAGE else events
    return written if "arrived_at" in written else written.assign(arrived_at=written["timestamp"])


def _midnight(day: int) -> pd.Timestamp:
    """The end of a day."""
    return START + pd.Timedelta(seconds=(day + 1) * DAY_SECONDS)


class _System:
    """The platform as it runs, day after day; nothing is wrong until a fault strikes."""

    def __init__(self, seed: int) -> None:
        self.seed, self.fault = seed, ""
        rng = np.random.default_rng([seed, 1])
        self.onset = int(rng.integers(QUIET_DAYS.stop, QUIET_DAYS.stop + 2))
        sizes = {"n_users": 1500, "n_videos": 500, "n_topics": 8, "n_candidates": 16, "n_slots": 5}
        self.platform = self.world = Platform(**sizes, days=LAST_DAY + 1, seed=seed)
        self.index = np.roll(np.arange(self.platform.n_topics), 1 + rng.integers(3))
        self.lost = rng.choice(["US", "BR", "IN"])
        self.events: list[pd.DataFrame] = []
        self.stored: list[pd.DataFrame] = []
        self.served: list[pd.DataFrame] = []

    def run_until_onset(self) -> Self:
        """Collect random slates, train, rank by that, train on it, and serve."""
        for day in range(FIRST_DAY):
            self._write(day, random_policy())
        self.model = self._trained([FIRST_DAY - 2, FIRST_DAY - 1])
        for day in range(FIRST_DAY, RELEASE_DAY):
            self._serve(day)
        self.model = self._trained([RELEASE_DAY - 2, RELEASE_DAY - 1])
        self.served.clear()
        for day in range(RELEASE_DAY, self.onset):
            self._serve(day)
        return self

    def struck(self, fault: str) -> _Evidence:
        """Go on until today with a fault; this system stays as it is."""
        system = copy.copy(self)
        system.fault = fault
        system.events, system.stored, system.served = [*self.events], [*self.stored], [*self.served]
        if fault in SHIFT_OF:
            system.world = self.platform.shifted(SHIFT_OF[fault], 0.9, self.onset)
        for day in range(self.onset, LAST_DAY + 1):
            system._serve(day)
        logs = (system.events, system.stored, system.served)
        return _Evidence(self.platform, self.model, *(pd.concat(log, ignore_index=True) for log in logs))

    def _trained(self, days: list[int]) -> ClickModel:
        return ClickModel(self.platform, pd.concat(self.events, ignore_index=True), days, memory=MEMORY)

    def _serve(self, day: int) -> None:
        """Rank that day's requests with the store and the index as they are."""
        log = pd.concat(self.stored, ignore_index=True)
        morning = FIRST_DAY if self.fault == "stale_snapshot" else day
        known = log[log["arrived_at"] < _midnight(morning - 1)]
        stored = count_rates(self.platform, last_days(known, morning, MEMORY))
        index = self.index if self.fault == "version_mismatch" else None
        events = self._write(day, self.model.policy(stored, EXPLORED, index=index))
        ranked = impression_features(self.platform, stored, events, index)
        logged = impression_features(self.platform, stored, events)
        score = self.model.score(ranked)
        self.served.append(logged.assign(score=score, **{key: events[key] for key in KEYS}))

    def _write(self, day: int, policy: Policy) -> pd.DataFrame:
        """Let that day's users react, and return and store what came of it."""
        events = self.world.simulate(policy, range(day, day + 1))
        if self.fault == "traffic_drop":
            country = self.platform.users["country"].to_numpy()[events["user_id"]]
            events = events[country != self.lost].reset_index(drop=True)
        self.events.append(events)
        self.stored.append(_damaged(self.fault, events, seed=self.seed + day))
        return events


@lru_cache(maxsize=2)
def _quiet_system(seed: int) -> _System:
    """What all rooms of a seed have in common."""
    return _System(seed).run_until_onset()


@lru_cache(maxsize=8)
def _evidence(fault: str, seed: int) -> _Evidence:
    """The evidence of a room; every query of the same room reads the same."""
    return _quiet_system(seed).struck(fault)


# ---------------------------------------------------------------- the room


class Grade(NamedTuple):
    """Minutes used up to the right diagnosis, those of a good strategy, and points from 0 to 1.

    proven: whether something was asked before the diagnosis that shows the fault, see `EVIDENCE`.
    """

    cost: int
    good_cost: int
    points: float
    proven: bool


def fault_name(text: str) -> str:
    """Return the name of a fault as `FAULTS` spells it: lower case, with one underscore between words."""
    return "_".join(text.lower().replace("-", " ").replace("_", " ").split())


class IncidentRoom:
    """One incident. It is the evening of day 20; days 12 to 16 were quiet, and then something broke.

    `page` says what is wrong, `suspects` what that usually means. Evidence costs minutes, see `COSTS`:
    `quality()`, `dashboard(metric)`, `slice_by(segment)`, `drift()`, `parity()`, `replay()`, `labels()`; the
    same question twice is paid once, so a cell can run again. Then `diagnose(fault)`, one of `FAULTS`; a
    wrong one costs `WRONG` minutes, and a right one without evidence, see `EVIDENCE`, earns no points.
    `cost`, `asked` and `solved` are the state. The fault stays hidden until it is named, or `give_up()`.
    """

    def __init__(self, seed: int, fault: str | None = None) -> None:
        """Draw the fault from the seed, or take `fault`, which is for teachers and tests; takes a second.

        Raises ValueError for a negative seed or an unknown fault.
        """
        drawn = np.random.default_rng(whole("seed", seed)).integers(len(FAULTS))
        self._code = int(drawn) if fault is None else [*FAULTS].index(choice("fault", fault, tuple(FAULTS)))
        self.seed, self.solved, self.asked = seed, False, {}
        self.page = self._page()

    def __repr__(self) -> str:
        """Return the page and the state, and nothing hidden."""
        state = "solved" if self.solved else "open"
        return f"IncidentRoom(seed={self.seed}): {self.page} {self.cost} minutes, {state}."

    @property
    def _fault(self) -> str:
        return [*FAULTS][self._code]

    @property
    def _found(self) -> _Evidence:
        return _evidence(self._fault, self.seed)

    @property
    def suspects(self) -> tuple[str, ...]:
        """Return the faults that this page usually means, those with cheap evidence first."""
        return next(faults for page, faults in SUSPECTS.items() if self.page.startswith(page))

    @property
    def cost(self) -> int:
        """Return the minutes used so far."""
        return sum(self.asked.values())

    def _pay(self, question: str, cost: int) -> None:
        """Charge for a question that has not been asked before; after the diagnosis all are free."""
        if not self.solved:
            self.asked.setdefault(question, cost)

    # ------------------------------------------------------------ evidence

    def _known(self, day: int) -> pd.DataFrame:
        """What had been stored of a day by its midnight, which is what dashboards show."""
        stored = self._found.stored
        return stored[(day_of(stored) == day) & (stored["arrived_at"] < _midnight(day))]

    def _metric(self, metric: str, day: int) -> float:
        """One point of a dashboard."""
        rows = self._known(day)
        match metric:
            case "impressions":
                return len(rows)
            case "users":
                return rows["user_id"].nunique()
            case "clicks per impression":
                return rows["clicked"].mean()
            case "mean score":
                return self._served(range(day, day + 1))["score"].mean()
        return (rows["arrived_at"] - rows["timestamp"]).dt.total_seconds().mean() / 3600

    def _served(self, days: range) -> pd.DataFrame:
        """What was served on these days."""
        served = self._found.served
        return served[day_of(served).isin(days)]

    def _series(self, metric: str) -> pd.Series:
        days = pd.RangeIndex(QUIET_DAYS.start, LAST_DAY + 1, name="day")
        return pd.Series([self._metric(metric, day) for day in days], days, name=metric)

    def _page(self) -> str:
        """What woke the on-call: of three metrics the one that moved most, in its quiet deviations."""
        moved = {}
        for metric in ("impressions", "clicks per impression", "mean score"):
            series = self._series(metric)
            quiet, now = series[[*QUIET_DAYS]], series.tail(3).mean()
            change = now / quiet.mean() - 1
            moved[metric] = change / max(quiet.std() / quiet.mean(), 0.03), change
        metric = max(moved, key=lambda name: abs(moved[name][0]))
        return f"{metric} {moved[metric][1]:+.0%} in the last three days."

    def dashboard(self, metric: str) -> pd.Series:
        """Return one of the `METRICS` by day, as it stood at midnight; raises ValueError for another name."""
        choice("metric", metric, METRICS)
        self._pay(f"dashboard {metric}", COSTS["dashboard"])
        return self._series(metric)

    def quality(self) -> pd.DataFrame:
        """Return the checks of the stored log: shares of bad rows on the quiet days and today."""
        self._pay("quality", COSTS["quality"])
        days = {"quiet": [*QUIET_DAYS], "today": [LAST_DAY]}
        return pd.DataFrame(
            {name: _bad_rows(pd.concat(map(self._known, which))) for name, which in days.items()}
        )

    def slice_by(self, segment: str) -> pd.DataFrame:
        """Return impressions a day by a segment, quiet and today, and their ratio, in which 1 is unchanged.

        segment: one of `SEGMENTS`; raises ValueError for another name.
        """
        choice("segment", segment, SEGMENTS)
        self._pay(f"slice_by {segment}", COSTS["slice_by"])
        quiet = sum(self._counts(segment, day) for day in QUIET_DAYS) / len(QUIET_DAYS)
        today = self._counts(segment, LAST_DAY)
        return pd.DataFrame({"quiet": quiet, "today": today, "ratio": today / quiet})

    def _counts(self, segment: str, day: int) -> pd.Series:
        """Impressions of that day in each segment."""
        rows, platform = self._known(day), self._found.platform
        match segment:
            case "hour":
                values = pd.Categorical(rows["timestamp"].dt.hour, categories=range(24))
            case "topic":
                topics = platform.videos["topic"].to_numpy()[rows["video_id"]]
                values = pd.Categorical(topics, categories=range(platform.n_topics))
            case _:
                values = platform.users[segment].array.take(rows["user_id"].to_numpy())
        return pd.Series(values).value_counts(sort=False).rename_axis(segment)

    def drift(self) -> pd.DataFrame:
        """Return the `drift_report` of what was served, quiet days against today, by user and video."""
        self._pay("drift", COSTS["drift"])
        owners = self._found.events[[*KEYS, "user_id"]]
        columns = [*CONTEXT, *STORED, "score", *OWNERS]
        quiet, today = (
            self._served(days).merge(owners, on=KEYS)[columns]
            for days in (QUIET_DAYS, range(LAST_DAY, LAST_DAY + 1))
        )
        return drift_report(quiet, today, OWNERS)

    def parity(self) -> pd.DataFrame:
        """Return `features.parity` of served features and the same, recomputed out of what clients sent."""
        self._pay("parity", COSTS["parity"])
        found = self._found
        events = found.events[day_of(found.events) == LAST_DAY].head(PARITY_ROWS)
        stored = count_rates(found.platform, last_days(found.events, LAST_DAY, MEMORY))
        recomputed = impression_features(found.platform, stored, events)
        served = self._served(range(LAST_DAY, LAST_DAY + 1)).head(PARITY_ROWS)
        names = [*KEYS, *STORED]
        return parity(recomputed.assign(**events[KEYS])[names], served[names], KEYS, tolerance=0.01)

    def replay(self) -> pd.Series:
        """Return how far logged scores are from those of the registered model on the logged features.

        Index: rows, different (share that differs by more than a millionth), largest (difference).
        """
        self._pay("replay", COSTS["replay"])
        served = self._served(range(LAST_DAY, LAST_DAY + 1)).head(PARITY_ROWS)
        distance = (self._found.model.score(served[[*FEATURES]]) - served["score"]).abs()
        values = {"rows": len(served), "different": (distance > 1e-6).mean(), "largest": distance.max()}
        return pd.Series(values, name="replay")

    def labels(self) -> pd.DataFrame:
        """Return ROC-AUC and `calibration_by_segment`, by user, of the quiet days and of today.

        The outcomes come from the clients, complete and each once.
        """
        self._pay("labels", COSTS["labels"])
        periods = {"quiet": QUIET_DAYS, "today": range(LAST_DAY, LAST_DAY + 1)}
        outcomes = self._found.events[[*KEYS, "clicked", "user_id"]]
        rows = pd.concat([self._served(days).assign(period=name) for name, days in periods.items()])
        rows = rows.merge(outcomes, on=KEYS)
        table = calibration_by_segment(rows["clicked"], rows["score"], rows["period"], rows["user_id"])
        auc = rows.groupby("period")[["clicked", "score"]].apply(
            lambda x: roc_auc_score(x["clicked"], x["score"])
        )
        return table.assign(auc=auc)

    # ------------------------------------------------------------ diagnosis

    def _is(self, fault: str) -> bool:
        """Whether it is this fault; a wrong answer is charged, the right one ends the incident."""
        if fault == self._fault:
            self.solved = True
        else:
            self._pay(f"diagnose {fault}", WRONG)
        return fault == self._fault

    def diagnose(self, fault: str) -> str:
        """Say which of `FAULTS` it is; return whether that is right. Raises ValueError for another name."""
        fault = choice("fault", fault_name(str(fault)), tuple(FAULTS))
        if not self._is(fault):
            return f"{fault}: that was not it. {self.cost} minutes so far."
        grade = self.grade()
        guessed = (
            "" if grade.proven else " Nothing that you asked shows it: that was a guess, and earns nothing."
        )
        return (
            f"{fault}: right, after {self.cost} minutes. It was this: {FAULTS[fault]}. "
            f"A good strategy takes {grade.good_cost} minutes to prove it.{guessed}"
        )

    def give_up(self) -> str:
        """End the incident without a diagnosis; return what it was. It costs `WRONG` minutes a fault."""
        if not self.solved:
            self._pay("give up", WRONG * len(FAULTS))
            self.solved = True
        return f"It was {self._fault}: {FAULTS[self._fault]}."

    def grade(self) -> Grade:
        """Return the grade: 1 point at the minutes of `good_strategy` or fewer, 0 at an hour more.

        No points without evidence: none of the questions that `EVIDENCE` lists for the fault was asked.
        Raises ValueError before the incident is over: the minutes of the good strategy would tell the fault.
        """
        if not self.solved:
            raise ValueError("The incident is still open: diagnose it first, or give up.")
        other = IncidentRoom(self.seed, self._fault)
        good_strategy(other)
        lost = (self.cost - other.cost) / HOUR
        proven = not EVIDENCE[self._fault].keys().isdisjoint(self.asked)
        return Grade(self.cost, other.cost, float(np.clip(1 - lost, 0, 1)) * proven, proven)


def _bad_rows(rows: pd.DataFrame) -> pd.Series:
    """Shares of rows that break a rule of the log."""
    return pd.Series(
        {
            "repeats an event": rows.duplicated(["request_id", "position"]).mean(),
            "value missing": rows[[*IMPRESSION_LOG.columns]].isna().any(axis=1).mean(),
            "watch_seconds out of range": (~rows["watch_seconds"].between(0, LONGEST_SECONDS)).mean(),
            "position out of range": (rows["position"] < 1).mean(),
        }
    )


# ---------------------------------------------------------------- evidence of each fault

Shows = Callable[[Any], bool]  # whether the answer to a question shows the fault


def _breaks(rule: str) -> Shows:
    """Whether rows of today break that rule of the log."""
    return lambda quality: quality.loc[rule, "today"] > 0


def _ratios(table: pd.DataFrame) -> pd.Series:
    """Ratios of those segments that were or are more than a twentieth of all impressions."""
    return table["ratio"][table.max(axis=1) > table.sum().max() / 20]


def _alarms(*features: str) -> Shows:
    """Whether each of these features drifted."""
    return lambda report: bool(report.loc[[*features], "alarm"].all())


def _users(changed: Callable[[float], bool]) -> Shows:
    """Whether the users of today over those of the last quiet day are what `changed` asks for."""
    return lambda series: changed(series.iloc[-1] / series[QUIET_DAYS[-1]])


def _only_watch_time(table: pd.DataFrame) -> bool:
    """Whether `video_watch_seconds` alone is served otherwise than recomputed."""
    return set(table["feature"][table["share"] > 0]) == {"video_watch_seconds"}


# The questions that show a fault, as `IncidentRoom.asked` spells them; `good_strategy` asks the first one.
# Two are read after others: parity also differs if the log is damaged, and the AUC also falls if serving is.
EVIDENCE: dict[str, dict[str, Shows]] = {
    "duplicate_events": {"quality": _breaks("repeats an event")},
    "unit_change": {"quality": _breaks("watch_seconds out of range"), "parity": _only_watch_time},
    "late_events": {"dashboard hours to arrive": lambda series: series.iloc[-1] > 0.05},
    "covariate_shift": {
        "slice_by age_band": lambda table: _ratios(table).max() > 2,
        "drift": _alarms("age_band"),
        "dashboard users": _users(lambda ratio: ratio > 1.2),
    },
    "traffic_drop": {
        "slice_by country": lambda table: _ratios(table).min() < 1 / 3,
        "drift": _alarms("country"),
        "dashboard users": _users(lambda ratio: ratio < 0.9),
    },
    "version_mismatch": {"replay": lambda series: series["different"] > 0},
    "stale_snapshot": {
        "parity": lambda table: (table["share"] > 0.5).sum() > 2,
        "drift": _alarms("video_ctr", "video_watch_seconds"),
    },
    "concept_shift": {"labels": lambda table: table["auc"].diff().iloc[-1] < 0},
}
# What moves the metric of a page that way, those with cheap evidence first. Milliseconds lower the clicks
# too, though the page then mostly speaks of the score: three minutes clear them.
SUSPECTS = {
    "impressions +": ("duplicate_events", "covariate_shift"),
    "impressions -": ("late_events", "traffic_drop"),
    "mean score": ("unit_change", "stale_snapshot"),
    "clicks per impression": ("unit_change", "version_mismatch", "stale_snapshot", "concept_shift"),
}


def shows(room: IncidentRoom, fault: str, question: str) -> bool:
    """Ask a question of the room, one of `EVIDENCE[fault]`; return whether the answer shows that fault."""
    query, _, name = question.partition(" ")
    answer = getattr(room, query)(*filter(None, [name]))
    return bool(EVIDENCE[fault][question](answer))


# ---------------------------------------------------------------- a good strategy


def good_strategy(room: IncidentRoom) -> list[str]:
    """Play a room; return the diagnoses in order, of which the last is right.

    The page leaves few suspects. Ask for the evidence of one after the other, the cheapest first, and name
    the one that it shows, also if only one is left. If it shows none of them, look for all other faults.
    """
    order, named = list(dict.fromkeys([*room.suspects, *EVIDENCE])), []
    while not room.solved:
        found = next((fault for fault in order if shows(room, fault, next(iter(EVIDENCE[fault])))), order[-1])
        order.remove(found)
        room._is(found)
        named.append(found)
    return named
