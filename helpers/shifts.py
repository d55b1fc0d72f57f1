"""Shifts of the world and faults of the pipeline, by name and strength: something for alarms to find.

A `Shift` belongs to the world: `Platform.shifted` returns a platform on which it happens. A fault belongs to
the pipeline: `inject` returns a damaged copy of a log. At strength 0 nothing happens; 1 is the most.
"""

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd

SHIFTS = ("covariate", "label", "concept", "joint_only")
LATENESS_SECONDS = 6 * 60 * 60  # mean


def whole(name: str, value: Any, low: int = 0, high: float = np.inf) -> int:
    """Return `value` as an int if it is a whole number from `low` to `high`; otherwise raise ValueError."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= value <= high:
        raise ValueError(f"{name} must be a whole number from {low} to {high:,}, not {value!r}: change it.")
    return int(value)


def share(name: str, value: Any) -> float:
    """Return `value` as a float if it is a number from 0 to 1; otherwise raise ValueError."""
    if not isinstance(value, Real) or not 0 <= value <= 1:
        raise ValueError(f"{name} must be a number from 0 to 1, not {value!r}: change it.")
    return float(value)


def choice(name: str, value: Any, options: tuple[str, ...]) -> str:
    """Return `value` if it is one of the options; otherwise raise ValueError."""
    if value not in options:
        raise ValueError(f"{name} must be one of {', '.join(options)}, not {value!r}: check the spelling.")
    return value


@dataclass(frozen=True)
class Shift:
    """A change of the world from the start of `day` on. x: what tables and log show; y: the reaction.

    covariate
        P(x) changes, P(y | x) stays. Users of 13 to 17 years, who hardly ever came, come: their return
        probability moves by the share `strength` of the way to `world.AWAKE`.
    label
        P(y) changes, P(x | y) stays. A random share `strength` of the impressions without a click never
        reaches the log: the odds of a click are multiplied by 1 / (1 - strength).
    concept
        P(y | x) changes, P(x) stays. Tastes move to the next topic, and click-bait loses its lure: at
        strength 1/2 it attracts nobody, at 1 it puts people off as much as it attracted them. The same users
        come and are offered the same videos, until regret keeps some away.
    joint_only
        P(user) and P(video offered) stay, P(user, video offered) changes, P(y | x) stays. In the share
        `strength` of the requests the older half of the audience is offered more of the topics that the young
        like, and the younger half more of those that the old like.

    Raises ValueError for an unknown kind, a strength outside [0, 1] or a day that is no whole number.
    """

    kind: str
    strength: float
    day: int

    def __post_init__(self) -> None:
        """Check the three fields."""
        choice("kind", self.kind, SHIFTS)
        share("strength", self.strength)
        whole("day", self.day)


# ---------------------------------------------------------------- faults


def inject(log: pd.DataFrame, fault: str, strength: float, seed: int = 0) -> pd.DataFrame:
    """Return a damaged copy of an impression log; each row is hit with probability `strength`.

    unit_change
        `watch_seconds` arrives in milliseconds.
    null_feature
        `watch_seconds` is NaN.
    swapped_columns
        `liked` and `dismissed` change places. No type and no range is wrong.
    duplicate_events
        The row arrives twice, one right after the other.
    late_events
        The row arrives late. One column is added, `arrived_at`: the `timestamp` for a punctual row, later by
        an exponential time with a mean of 6 hours for a late one. Rows come in order of arrival. Without this
        column the log fits its schema again.

    Raises ValueError for an unknown fault or a strength outside [0, 1].
    """
    damage = FAULTS[choice("fault", fault, tuple(FAULTS))]
    rng = np.random.default_rng(whole("seed", seed))
    hit = rng.random(len(log)) < share("strength", strength)
    return damage(log, hit, rng)


def _unit_change(log: pd.DataFrame, hit: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    seconds = log["watch_seconds"]
    return log.assign(watch_seconds=seconds.where(~hit, seconds * 1_000))


def _null_feature(log: pd.DataFrame, hit: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    return log.assign(watch_seconds=log["watch_seconds"].mask(hit))


def _swapped_columns(log: pd.DataFrame, hit: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    liked, dismissed = log["liked"], log["dismissed"]
    return log.assign(liked=liked.where(~hit, dismissed), dismissed=dismissed.where(~hit, liked))


def _duplicate_events(log: pd.DataFrame, hit: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    return log.iloc[np.repeat(np.arange(len(log)), 1 + hit)].reset_index(drop=True)


def _late_events(log: pd.DataFrame, hit: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    microseconds = (1e6 * LATENESS_SECONDS * rng.exponential(size=len(log)) * hit).astype("timedelta64[us]")
    arriving = log.assign(arrived_at=log["timestamp"] + microseconds)
    return arriving.sort_values("arrived_at", kind="stable", ignore_index=True)


FAULTS: dict[str, Callable[[pd.DataFrame, np.ndarray, np.random.Generator], pd.DataFrame]] = {
    "unit_change": _unit_change,
    "null_feature": _null_feature,
    "swapped_columns": _swapped_columns,
    "duplicate_events": _duplicate_events,
    "late_events": _late_events,
}
