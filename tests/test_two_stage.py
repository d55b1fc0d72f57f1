"""The two-stage request: steps in order and timed; the list; a guard that is late, broken, asleep, awake."""

import threading
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.two_stage import STEPS, Guard, TwoStage, best, occurrence, recorded_runs
from helpers.two_stage import guarded as with_guards

SMALL = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 3)), max_size=30)


def pipeline(**changes):
    steps = {
        "retrieve": lambda query: (np.array([7, 8, 9]), query * np.array([3.0, 2.0, 1.0])),
        "features": lambda query, ids, similarities: np.column_stack([similarities, ids]),
        "score": lambda table: table[:, 1],
        "choose": lambda ids, scores: best(ids, scores, 2),
    }
    return TwoStage(**(steps | changes))


def test_the_second_stage_reorders_what_the_first_retrieved():
    assert list(pipeline().recommend(np.array(1.0)).ids) == [9, 8]
    assert list(pipeline(score=lambda table: table[:, 0]).recommend(np.array(1.0)).ids) == [7, 8]


def test_every_step_is_timed():
    answer = pipeline().recommend(np.array(1.0))
    assert tuple(answer.milliseconds) == STEPS
    assert min(answer.milliseconds.values()) >= 0


def test_measure_has_a_row_a_request_and_the_whole_is_the_sum():
    table = pipeline().measure(np.ones(4))
    assert list(table) == [*STEPS, "whole"] and len(table) == 4
    np.testing.assert_allclose(table.whole, table[list(STEPS)].sum(axis="columns"))


def test_an_error_of_a_step_passes_when_nothing_guards_it():
    with pytest.raises(ZeroDivisionError):
        pipeline(score=lambda table: 1 / 0).recommend(np.array(1.0))


# ---------------------------------------------------------------- the list


@given(SMALL, st.integers(0, 5), st.integers(1, 3))
def test_best_is_the_greedy_list_under_the_cap(rows, n, cap):
    scores, groups = ([row[i] for row in rows] for i in (0, 1))
    greedy, taken = [], {}
    for i in sorted(range(len(rows)), key=lambda i: -scores[i]):
        if taken.get(groups[i], 0) < cap:
            taken[groups[i]] = taken.get(groups[i], 0) + 1
            greedy.append(i)
    assert list(best(np.arange(len(rows)), scores, n, groups, cap)) == greedy[:n]


@given(SMALL, st.integers(0, 5))
def test_without_groups_best_has_no_cap(rows, n):
    scores = np.array([row[0] for row in rows])
    chosen = best(np.arange(len(rows)), scores, n)
    assert len(chosen) == min(n, len(rows))
    assert all(a >= b for a, b in pairwise(scores[chosen]))


def test_occurrence_counts_what_stood_before():
    assert list(occurrence(["a", "b", "a", "a"])) == [0, 0, 1, 2]
    assert list(occurrence([])) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2, 3, 4], [1, 2, 3], 2), "one flat shape"),
        (([1, 2], [[1, 2]], 2), "one flat shape"),
        (([1, 2], [1, 2], 2, [7, 7, 7]), "one flat shape"),
        (([1, 2], [1, 2], -1), "n and cap"),
        (([1, 2], [1, 2], 1, [7, 8], -1), "n and cap"),
    ],
    ids=str,
)
def test_a_list_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        best(*arguments)


@pytest.mark.parametrize("kind", [np.uint8, bool])
def test_scores_of_any_kind_of_number_are_ordered(kind):
    assert list(best([7, 8, 9], np.array([0, 1, 0], kind), 2)) == [8, 7]


# ---------------------------------------------------------------- the guard


class Clock:
    """A clock that stands still until it is told to go on."""

    now = 0.0

    def __call__(self):
        return self.now


def broken(*_):
    raise ConnectionError("down")


@pytest.fixture
def guarded():
    """Make guards, and close them at the end."""
    made = []

    def make(step, **keywords):
        made.append(Guard(step, lambda x: ("fallback", x), **({"timeout_ms": 10_000} | keywords)))
        return made[-1]

    yield make
    for guard in made:
        guard.close()


def test_a_healthy_step_answers_itself(guarded):
    guard = guarded(lambda x: x + 1)
    assert guard(1) == 2
    assert guard.outcomes == {"answered": 1, "late": 0, "error": 0, "not asked": 0}


def test_a_broken_step_falls_back_with_the_same_arguments(guarded):
    guard = guarded(broken)
    assert guard(5) == ("fallback", 5)
    assert guard.outcomes["error"] == 1


def test_a_late_step_falls_back_and_its_result_is_dropped(guarded):
    release = threading.Event()
    guard = guarded(lambda x: release.wait(60), timeout_ms=5)
    assert guard(1) == ("fallback", 1)
    release.set()
    assert guard.outcomes["late"] == 1


def test_a_call_that_waits_behind_a_late_one_is_never_run(guarded):
    release, seen = threading.Event(), []

    def slow(x):
        seen.append(x)
        release.wait(60)

    guard = guarded(slow, timeout_ms=5)
    assert [guard(x) for x in (1, 2)] == [("fallback", 1), ("fallback", 2)]
    release.set()
    guard._thread.shutdown(wait=True)
    assert seen == [1]


def test_the_circuit_opens_after_failures_in_a_row_and_closes_after_a_rest(guarded):
    clock, down = Clock(), True

    def step(x):
        if down:
            raise ConnectionError
        return x

    guard = guarded(step, patience=2, rest_seconds=30, clock=clock)
    assert [guard(x) for x in range(4)] == [("fallback", x) for x in range(4)]
    assert guard.outcomes == {"answered": 0, "late": 0, "error": 2, "not asked": 2}
    clock.now = 31
    assert guard(4) == ("fallback", 4), "one call tries, fails, and the circuit stays open"
    assert guard.outcomes["error"] == 3
    down, clock.now = False, 62
    assert [guard(x) for x in (5, 6)] == [5, 6]


def test_a_success_between_failures_keeps_the_circuit_closed(guarded):
    guard = guarded(lambda x: 1 / x, patience=2)
    for x in (0, 1, 0, 1, 0):
        guard(x)
    assert guard.outcomes == {"answered": 2, "late": 0, "error": 3, "not asked": 0}


@pytest.mark.parametrize(
    "keywords",
    [
        {"timeout_ms": 0},
        {"timeout_ms": np.nan},
        {"timeout_ms": np.inf},
        {"patience": 0},
        {"rest_seconds": -1},
    ],
    ids=str,
)
def test_a_guard_that_makes_no_sense_is_refused(guarded, keywords):
    with pytest.raises(ValueError, match="finite timeout above 0 ms"):
        guarded(abs, **keywords)


def test_a_guarded_system_answers_when_its_steps_are_down():
    fallbacks = {"score": lambda table: table[:, 0], "features": lambda *_: np.array([[1.0], [3.0], [2.0]])}
    system = with_guards(pipeline(features=broken, score=broken), fallbacks, timeout_ms=10_000)
    assert list(system.recommend(np.array(1.0)).ids) == [8, 9]
    assert [system.score.outcomes["error"], system.features.outcomes["error"]] == [1, 1]
    with pytest.raises(ConnectionError):
        with_guards(pipeline(retrieve=broken), fallbacks, timeout_ms=10_000).recommend(np.array(1.0))
    for step in (system.score, system.features):
        step.close()


def test_the_recorded_runs_are_the_fastest_of_their_size_with_enough_recall():
    runs, strict = recorded_runs(0.9), recorded_runs(0.95)
    assert {10**4, 10**6, 10**9} <= set(runs.index) and runs.index.is_unique
    assert runs.recall_100_low.min() >= 0.9 and strict.recall_100_low.min() >= 0.95
    both = runs.index.intersection(strict.index)
    assert (runs.whole_p50_ms[both] <= strict.whole_p50_ms[both]).all()
    assert set(runs.brute_p50_ms_is) == {"measured", "extrapolated"}
    with pytest.raises(ValueError, match="surely 90"):
        recorded_runs(90)


def test_a_fallback_of_no_step_is_refused():
    with pytest.raises(ValueError, match="No step is called rank: choose from retrieve"):
        with_guards(pipeline(), {"rank": abs}, timeout_ms=5)
