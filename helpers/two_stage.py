"""A request in two stages: retrieve candidates, look up their features, score them, choose the list.

Each step is a plain function, so that an index, a store or a model can be exchanged, timed or broken alone.
`Guard` wraps one step with a timeout, a fallback of the same signature, and a circuit breaker.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

RUNS = Path(__file__).parents[1] / "benchmarks" / "results" / "two_stage.csv"
STEPS = ("retrieve", "features", "score", "choose")


class Answer(NamedTuple):
    """What a request returned: the ids shown, shape (n,), best first, and the milliseconds of each step."""

    ids: np.ndarray
    milliseconds: dict[str, float]


@dataclass(frozen=True)
class TwoStage:
    """The steps of a request, each exchangeable.

    retrieve: query vector -> (ids, similarities), both of shape (k,).
    features: (query, ids, similarities) -> table of shape (k, features).
    score: table -> (k,), higher is better.
    choose: (ids, scores) -> the ids to show, best first.
    """

    retrieve: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    features: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    score: Callable[[np.ndarray], np.ndarray]
    choose: Callable[[np.ndarray, np.ndarray], np.ndarray]

    def recommend(self, query: np.ndarray) -> Answer:
        """Answer one request; a step that raises lets its error pass (see `Guard` for another way)."""
        clock = [time.perf_counter()]
        ids, similarities = self.retrieve(query)
        clock.append(time.perf_counter())
        table = self.features(query, ids, similarities)
        clock.append(time.perf_counter())
        scores = self.score(table)
        clock.append(time.perf_counter())
        shown = self.choose(ids, scores)
        clock.append(time.perf_counter())
        return Answer(shown, dict(zip(STEPS, 1000 * np.diff(clock), strict=True)))

    def measure(self, queries: Iterable[np.ndarray]) -> pd.DataFrame:
        """Answer one request after the other; return their milliseconds, a row a request, with the whole."""
        table = pd.DataFrame([self.recommend(query).milliseconds for query in queries])
        return table.assign(whole=table.sum(axis="columns"))


def best(
    ids: ArrayLike, scores: ArrayLike, n: int, group: ArrayLike | None = None, cap: int = 1
) -> np.ndarray:
    """Return the n ids with the highest scores, at most `cap` of each group (such as a creator).

    ids, scores, group: shape (k,); ties keep their order. Fewer than n come back when the caps leave fewer.

    Raises ValueError when the shapes differ, or n or cap is below 0.
    """
    ids, scores = np.asarray(ids), np.asarray(scores, float)  # small unsigned integers have no negative
    group = group if group is None else np.asarray(group)
    _check_list(n, cap, ids.shape, scores.shape, scores.shape if group is None else group.shape)
    order = np.argsort(-scores, kind="stable")
    if group is not None:
        order = order[occurrence(group[order]) < cap]
    return ids[order[:n]]


def _check_list(n: int, cap: int, *shapes: tuple[int, ...]) -> None:
    """Raise ValueError unless the shapes are one and flat, and n and cap are counts."""
    if n < 0 or cap < 0:
        raise ValueError(f"n and cap must be at least 0, not {n} and {cap}.")
    if len(shapes[0]) != 1 or len(set(shapes)) > 1:
        raise ValueError(f"ids, scores and group need one flat shape: one value a candidate, not {shapes}.")


def occurrence(values: ArrayLike) -> np.ndarray:
    """Return how often each value stood before, in the order given: [a, b, a] gives [0, 0, 1]."""
    values = np.asarray(values)
    order = np.argsort(values, kind="stable")
    new = np.r_[True, values[order][1:] != values[order][:-1]]
    start = np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))
    counted = np.empty(len(values), int)
    counted[order] = np.arange(len(values)) - start
    return counted


class Guard:
    """A step with a timeout and a fallback; called like the step itself.

    After `patience` failures in a row the circuit opens: for `rest_seconds` the fallback answers at once, and
    nobody waits for a step that is down. Then one call tries the step again. The circuit breaker is from
    M. Nygard, "Release It!" (2007). `outcomes` counts how often the step answered, was late, raised an error,
    or was not asked.
    """

    def __init__(
        self,
        step: Callable[..., Any],
        fallback: Callable[..., Any],
        timeout_ms: float,
        patience: int = 5,
        rest_seconds: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Guard a step; after `timeout_ms` it is late: it goes on in its thread, and its result is dropped.

        Raises ValueError when the timeout is not above 0 and finite, or patience or rest make no sense.
        """
        if not (0 < timeout_ms < np.inf and patience >= 1 and rest_seconds >= 0):
            raise ValueError(
                f"A guard needs a finite timeout above 0 ms, a patience of at least 1 and a rest of at least "
                f"0 s, not {timeout_ms}, {patience} and {rest_seconds}."
            )
        self.step, self.fallback, self.timeout_ms = step, fallback, timeout_ms
        self.patience, self.rest_seconds, self._clock = patience, rest_seconds, clock
        self.outcomes = {"answered": 0, "late": 0, "error": 0, "not asked": 0}
        self._failures, self._asleep_until = 0, -np.inf
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __call__(self, *arguments: Any) -> Any:
        """Return what the step returns, or the fallback's answer to the same arguments."""
        if self._clock() < self._asleep_until:
            self.outcomes["not asked"] += 1
            return self.fallback(*arguments)
        future = self._thread.submit(self.step, *arguments)
        try:
            answer = future.result(self.timeout_ms / 1000)
        except Late:
            future.cancel()  # if it still waits behind an earlier late call, it need not run at all
            return self._failed("late", arguments)
        except Exception:  # whatever broke the step, the request goes on; the count shows that it happened
            return self._failed("error", arguments)
        self._failures = 0
        self.outcomes["answered"] += 1
        return answer

    def _failed(self, outcome: str, arguments: tuple[Any, ...]) -> Any:
        """Count a failure, open the circuit when patience is at its end, and answer with the fallback."""
        self.outcomes[outcome] += 1
        self._failures += 1
        if self._failures >= self.patience:
            self._asleep_until = self._clock() + self.rest_seconds
        return self.fallback(*arguments)

    def close(self) -> None:
        """Let the guard's thread end after the call that it may still run."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def guarded(system: TwoStage, fallbacks: Mapping[str, Callable[..., Any]], timeout_ms: float) -> TwoStage:
    """Return the system with a new `Guard` around each step that has a fallback.

    Raises ValueError for a fallback of no step.
    """
    if unknown := set(fallbacks) - set(STEPS):
        raise ValueError(f"No step is called {', '.join(sorted(unknown))}: choose from {', '.join(STEPS)}.")
    guards = {name: Guard(getattr(system, name), step, timeout_ms) for name, step in fallbacks.items()}
    return replace(system, **guards)


def recorded_runs(recall: float = 0.9) -> pd.DataFrame:
    """Return what benchmarks/two_stage.py measured: a row for each number of clustered videos, its index.

    Of the settings whose recall at 100 is surely that high, with its whole interval, a row has the one with
    the lowest median. Columns: those of the file; `brute_p50_ms_is` and `rank_all_s_is` say "measured" or
    "extrapolated".

    Raises ValueError when no setting has that recall.
    """
    runs = pd.read_csv(RUNS)
    runs = runs[(runs["spread"] == "mixture") & (runs["recall_100_low"] >= recall)]
    if runs.empty:
        raise ValueError(f"No run has a recall of surely {recall}: ask for a lower share, at most 1.")
    return runs.sort_values("whole_p50_ms").drop_duplicates("videos").set_index("videos").sort_index()
