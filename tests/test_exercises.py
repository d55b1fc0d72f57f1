"""Every checker is tested untouched, wrong in each known way, wrong in an unknown way, and right."""

import numpy as np
import pandas as pd
import pytest

from helpers.capacity import units
from helpers.exercises import (
    Exercise,
    Mistake,
    Verdict,
    architecture,
    clarification_and_metrics,
    data_and_features,
    reveal,
)
from helpers.features import parity

MODULES = (clarification_and_metrics, architecture, data_and_features)
EXERCISES = [exercise for module in MODULES for exercise in module.ALL]
MISTAKES = [(exercise, mistake) for exercise in EXERCISES for mistake in exercise.mistakes]

each_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.title)


def placeholder(exercise):
    """The answer as it stands in an untouched notebook."""
    answer = exercise.solved()
    if callable(answer):
        return lambda *_: None
    return {key: ... for key in answer} if isinstance(answer, dict) else ...


@each_exercise
def test_an_untouched_placeholder_is_not_attempted(exercise):
    assert exercise.judge(placeholder(exercise))[0] is Verdict.NOT_ATTEMPTED
    assert exercise.judge(...)[0] is Verdict.NOT_ATTEMPTED


@each_exercise
def test_the_solution_is_right_and_says_why(exercise):
    assert exercise.judge(exercise.solved()) == (Verdict.RIGHT, exercise.reason)


@pytest.mark.parametrize(("exercise", "mistake"), MISTAKES, ids=lambda x: getattr(x, "name", None) or x.title)
def test_each_usual_mistake_is_named(exercise, mistake):
    assert exercise.judge(mistake.example) == (Verdict.NOT_YET, mistake.message)


@each_exercise
def test_a_wrong_answer_that_nobody_foresaw_gets_a_way_to_look(exercise):
    odd = {key: -17.5 for key in a} if isinstance(a := exercise.solved(), dict) else -17.5
    verdict, sentence = exercise.judge((lambda *_: -17.5) if callable(a) else odd)
    assert verdict is Verdict.NOT_YET
    assert sentence


@each_exercise
def test_an_answer_that_fails_is_reported_and_does_not_stop_the_notebook(exercise):
    def failing(*_):
        raise RuntimeError("boom")

    wrong_type = failing if callable(exercise.solved()) else object()
    verdict, sentence = exercise.judge(wrong_type)
    assert verdict is Verdict.NOT_YET
    assert "raised" in sentence or "lacks" in sentence


def test_an_answer_may_change_its_arguments():
    def sorts_in_place(grades):
        first = list(grades)
        grades.sort(reverse=True)
        gain = [sum(g / np.log2(rank + 2) for rank, g in enumerate(order)) for order in (first, grades)]
        return gain[0] / gain[1]

    for _ in range(2):
        assert clarification_and_metrics.ndcg.judge(sorts_in_place)[0] is Verdict.RIGHT
        assert clarification_and_metrics.ndcg.judge(lambda grades: 1.0)[0] is Verdict.NOT_YET


def test_an_answer_may_be_rounded_or_a_numpy_value():
    assert clarification_and_metrics.threshold.judge(np.array([0.05]))[0] is Verdict.RIGHT
    rounded = clarification_and_metrics.prevalence.solved()
    assert clarification_and_metrics.prevalence.judge(lambda *a: round(rounded(*a), 4))[0] is Verdict.RIGHT


def test_an_envelope_may_carry_its_units():
    answer = {
        "peak_requests_per_second": 70_000 * units.QPS,
        "log_gigabytes_per_day": 2 * units.TB / units.day,
    }
    assert clarification_and_metrics.envelope.judge(answer)[0] is Verdict.RIGHT


@pytest.mark.parametrize("level", ["Loss", " loss "])
def test_the_level_of_a_metric_may_be_written_in_any_case(level):
    answer = clarification_and_metrics.metric_levels.solved() | {"cross-entropy": level}
    assert clarification_and_metrics.metric_levels.judge(answer)[0] is Verdict.RIGHT


def test_an_as_of_join_may_be_a_loop_that_returns_none():
    def newest(event, values):
        past = values[(values["user_id"] == event.user_id) & (values["timestamp"] < event.timestamp)]
        return past.sort_values("timestamp")["value"].iloc[-1] if len(past) else None

    def loop(events, values):
        return [newest(event, values) for event in events.itertuples()]

    assert data_and_features.as_of_join.judge(loop)[0] is Verdict.RIGHT
    assert data_and_features.as_of_join.judge(lambda e, v: pd.Series(loop(e, v)))[0] is Verdict.RIGHT


def test_the_window_may_come_as_an_array_of_floats():
    solution = data_and_features.streaming_window.solved()
    verdict, _ = data_and_features.streaming_window.judge(lambda times: np.array(solution(times), float))
    assert verdict is Verdict.RIGHT


def test_the_features_that_differ_may_come_out_of_the_parity_table():
    def compare(offline, online):
        table = parity(offline, online, ["request_id"])
        return table["feature"][table["different"] > 0]

    assert data_and_features.parity_bug.judge(compare)[0] is Verdict.RIGHT


@pytest.mark.parametrize("kind", [list, tuple, set, np.array, pd.Series])
def test_names_may_come_in_any_collection(kind):
    keep = kind(["sex", "age_band"])
    assert data_and_features.k_anonymity.judge({"k": np.int64(1), "keep": keep})[0] is Verdict.RIGHT
    places = kind(sorted(data_and_features.ERASED))
    assert data_and_features.erasure.judge(places)[0] is Verdict.RIGHT


def newest_by_time(events, values):
    by_time = events.sort_values("timestamp"), values.sort_values("timestamp")
    return pd.merge_asof(*by_time, on="timestamp", by="user_id", allow_exact_matches=False)["value"]


def newest_in_order(events, values):
    by_time = events.reset_index().sort_values("timestamp"), values.sort_values("timestamp")
    joined = pd.merge_asof(*by_time, on="timestamp", by="user_id", allow_exact_matches=False)
    return joined.sort_values("index")


def merged_and_unlike(offline, online):
    both = offline.merge(online, on="request_id", suffixes=("", " online"))
    return [name for name in offline if name != "request_id" and (both[name] != both[f"{name} online"]).any()]


def ranked(search, lists, k):
    query, ids = search[0], [i for members in lists for i in search[2][members]]
    return sorted(ids, key=lambda i: -search[3][i] @ query)[:k]


def best_lists(search):
    return sorted(range(len(search[1])), key=lambda i: -search[1][i] @ search[0])


def slowest_of_all(stages):
    slowest = [max(draws) for draws in np.transpose([stage for group in stages for stage in group])]
    return np.quantile(slowest, 0.99)


WRITTEN_OTHERWISE = [
    (architecture.ivf_search, "too many", lambda *s: list(range(len(s[3])))),
    (architecture.ivf_search, "best list only", lambda *s: ranked(s, best_lists(s)[:1], s[5])),
    (architecture.ivf_search, "first lists", lambda *s: ranked(s, range(s[4]), s[5])),
    (architecture.ivf_search, "exact", lambda *s: np.argsort(s[3] @ s[0])[::-1][: s[5]]),
    (
        architecture.ivf_search,
        "worst first",
        lambda *s: ranked(s, best_lists(s)[: s[4]], None)[-1 : -s[5] - 1 : -1],
    ),
    (
        architecture.ivf_search,
        "worst first",
        lambda *s: ranked(s, best_lists(s)[: s[4]], s[5])[::-1],
    ),
    (architecture.pick_k, "largest", lambda t, b, tol: max(k for k in t.index if t["p99_ms"][k] <= b)),
    (architecture.pick_k, "no budget", lambda t, b, tol: t.sort_values("quality").index[-1]),
    (architecture.sum_of_stages, "max over groups", slowest_of_all),
    (architecture.sum_of_stages, "adds p99s", lambda s: sum(np.quantile(x, 0.99) for g in s for x in g)),
    (architecture.servers_needed, "rounded down", lambda q, ms, u: round(q * ms / u / 1000)),
    (architecture.servers_needed, "rounded down", lambda q, ms, u: int(q / (1000 / ms) / u)),
    (architecture.servers_needed, "not rounded", lambda q, ms, u: q / (1000 / ms * u)),
    (data_and_features.as_of_join, "sorted", newest_by_time),
    (
        data_and_features.as_of_join,
        "the future",
        lambda e, v: e.merge(v.groupby("user_id", as_index=False).last(), on="user_id", how="left")["value"],
    ),
    (data_and_features.as_of_join, "zero", lambda e, v: newest_in_order(e, v)["value"].fillna(0)),
    (data_and_features.as_of_join, "a table", newest_in_order),
    (data_and_features.streaming_window, "itself", lambda t: [sum(u - 300 < s <= u for s in t) for u in t]),
    (
        data_and_features.streaming_window,
        "ties",
        lambda t: [sum(u - 300 <= s <= u for s in t) - 1 for u in t],
    ),
    (data_and_features.maturity, "naive", lambda c, age, p: sum(c) / len(c)),
    (data_and_features.maturity, "mean arrival", lambda c, age, p: sum(c) / sum(p(age))),
    (data_and_features.maturity, "mean age", lambda c, age, p: sum(c) / p(np.mean(age)) / len(c)),
    (data_and_features.maturity, "total", lambda c, age, p: sum(c / p(age))),
    (
        data_and_features.maturity,
        "weighted old rows",
        lambda c, age, p: np.mean(c[age > 6] / p(age[age > 6])),
    ),
    (data_and_features.maturity, "only old rows", lambda c, age, p: c[age > 3].mean()),
    (data_and_features.maturity, "negatives too", lambda c, age, p: sum(c / p(age)) / sum(1 / p(age))),
    (data_and_features.maturity, "multiplied", lambda c, age, p: sum(c * p(age)) / len(c)),
    (
        data_and_features.parity_bug,
        "by position",
        lambda a, b: [c for c in a if (a[c] - b[c]).abs().max() > 1e-9],
    ),
    (data_and_features.parity_bug, "missing twice", merged_and_unlike),
    (data_and_features.parity_bug, "typed in", lambda a, b: {"clicks_5min"}),
    (data_and_features.parity_bug, "typed in", lambda a, b: set()),
    (data_and_features.parity_bug, "typed in", lambda a, b: set(a.columns[1:])),
]


@pytest.mark.parametrize(("exercise", "name", "answer"), WRITTEN_OTHERWISE)
def test_a_usual_mistake_is_named_however_it_is_written(exercise, name, answer):
    message = next(mistake.message for mistake in exercise.mistakes if mistake.name == name)
    assert exercise.judge(answer) == (Verdict.NOT_YET, message)


def test_the_weights_of_young_labels_are_unbiased_where_the_rate_moves():
    rng = np.random.default_rng(0)
    age = rng.integers(1, 30, size=200)
    rate, arrival = 0.03 + 0.004 * age, data_and_features._arrival(8)
    seen = rng.random((2000, len(age))) < rate * arrival(age)
    exercise = data_and_features.maturity
    lucky = ("only old rows", "mean age")  # two errors of theirs nearly cancel here
    wrong = {m.name: m.example for m in exercise.mistakes if m.name not in lucky}
    errors = {
        name: np.array([function(row, age, arrival) for row in seen]) - rate.mean()
        for name, function in (wrong | {"right": lambda c, a, p: np.mean(c / p(a))}).items()
    }
    z = {name: e.mean() / (e.std() / np.sqrt(len(e))) for name, e in errors.items()}
    assert abs(z.pop("right")) < 3
    assert all(abs(value) > 10 for value in z.values())


def test_the_parity_tables_hold_a_shifted_feature_that_no_distribution_shows():
    offline, online = data_and_features.OFFLINE, data_and_features.ONLINE
    assert data_and_features.parity_bug.solved()(offline, online) == {"clicks_5min"}
    assert sorted(offline["clicks_5min"]) == sorted(online["clicks_5min"])
    assert list(offline["request_id"]) != list(online["request_id"])


def test_an_as_of_join_may_be_a_table_with_one_column():
    answer = data_and_features.as_of_join.judge(lambda e, v: newest_in_order(e, v)[["value"]])
    assert answer[0] is Verdict.RIGHT


@pytest.mark.parametrize("names", [data_and_features.LEAKS, data_and_features.SPLITS])
def test_the_names_that_a_cell_shows_do_not_hold_the_answers(names):
    answers = {*data_and_features._KINDS.values(), *data_and_features._SPLIT_FOR.values()}
    assert all(isinstance(name, str) for name in names)
    assert not answers & set(names)


def test_the_story_of_the_leaks_tells_of_each_key():
    story = data_and_features.SIX_LEAKS_STORY
    assert all(story.count(f"- `{key}` ") == 1 for key in data_and_features.LEAKS)


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Series])
def test_the_ids_found_may_come_in_any_sequence(kind):
    exercise = architecture.ivf_search
    assert exercise.judge(lambda *s: kind(ranked(s, best_lists(s)[: s[4]], s[5])))[0] is Verdict.RIGHT


def test_an_ivf_search_of_all_lists_is_exact_and_a_short_one_is_shorter():
    search = architecture.ivf_search.solved()
    query, centroids, lists, vectors, *_ = architecture.SEARCHES[0]
    exact = np.argsort(-(vectors @ query))
    np.testing.assert_array_equal(search(query, centroids, lists, vectors, len(lists), 60), exact)
    assert len(search(*architecture.SEARCHES[2])) < architecture.SEARCHES[2][5]


@pytest.mark.parametrize("method", ["higher", "lower", "nearest"])
def test_a_percentile_may_be_taken_by_any_method(method):
    def p99(stages):
        return np.percentile(np.sum([np.max(g, axis=0) for g in stages], axis=0), 99, method=method)

    assert architecture.sum_of_stages.judge(p99)[0] is Verdict.RIGHT


def test_percentiles_add_if_all_stages_are_slow_in_the_same_requests():
    (stages,) = architecture.REQUESTS[0]
    together = [[np.sort(stage) for stage in group] for group in stages]
    p99 = architecture.sum_of_stages.solved()
    added = sum(max(np.percentile(stage, 99) for stage in group) for group in together)
    assert p99(together) == pytest.approx(added)
    assert p99(stages) < 0.9 * added


@pytest.mark.parametrize(("qps", "ms", "utilization"), [*architecture.LOADS, (5, 1, 0.9), (58_000, 30, 0.65)])
def test_one_server_fewer_than_needed_would_be_too_busy(qps, ms, utilization):
    servers = architecture.servers_needed.solved()(qps, ms, utilization)
    busy = qps * ms / 1000
    assert busy / servers <= utilization
    assert servers == 1 or busy / (servers - 1) > utilization


def test_each_load_leaves_a_fraction_that_rounding_loses():
    solve = architecture.servers_needed.solved()
    assert all(round(q * ms / 1000 / u) == solve(q, ms, u) - 1 for q, ms, u in architecture.LOADS)


def test_only_the_named_inputs_change_the_design():
    too_slow, too_many = set(), set()
    for name in [None, *architecture.INPUTS]:
        inputs = {key: value * (10 if key == name else 1) for key, value in architecture.INPUTS.items()}
        scan_ms = inputs["videos"] * architecture.NS_PER_VIDEO / 1e6
        if scan_ms > architecture.BUDGET_MS * architecture.RETRIEVAL_SHARE:
            too_slow.add(name)
        elif inputs["peak_qps"] * scan_ms / 1000 > architecture.CORES:
            too_many.add(name)
    answer = architecture.turning_point.solved()
    assert (too_slow, too_many) == ({answer["needs_index"]}, {answer["needs_machines"]})


@pytest.mark.parametrize(
    ("story", "names"),
    [
        (architecture.CEILING_STORY, architecture.ceiling.solved()),
        (architecture.FALLBACK_STORY, architecture.RUNGS),
        (architecture.TURNING_STORY, [*architecture.INPUTS, *architecture.turning_point.solved()]),
        (architecture.LOG_STORY, architecture.log_columns.solved()),
    ],
    ids=["ceiling", "fallbacks", "turning point", "log"],
)
def test_a_story_tells_of_each_name_that_an_answer_needs(story, names):
    assert all(story.count(f"- `{name}`: ") == 1 for name in names)


def test_every_fallback_and_every_column_is_one_of_those_to_choose_from():
    assert set(architecture.FALLBACKS.values()) < set(architecture.RUNGS)
    assert set(architecture.NEEDED.values()) < set(architecture.LOG_COLUMNS) - set(architecture.KEPT)


def test_a_retry_or_an_error_page_is_named_at_any_failure():
    retried = architecture.FALLBACKS | {"feature store down": "retry"}
    closed = architecture.FALLBACKS | {"experiment assignment down": "error page"}
    assert "adds load" in architecture.fallback_order.judge(retried)[1]
    assert "last rung" in architecture.fallback_order.judge(closed)[1]


def test_a_function_that_only_prints_is_told_to_return():
    verdict, sentence = clarification_and_metrics.ndcg.judge(lambda grades: None)
    assert verdict is Verdict.NOT_ATTEMPTED
    assert "`return`" in sentence


@each_exercise
def test_an_exercise_knows_three_mistakes_and_two_hints(exercise):
    assert len({mistake.message for mistake in exercise.mistakes}) == len(exercise.mistakes) >= 3
    assert len(exercise.hints) >= 2


@each_exercise
def test_check_hint_and_solution_speak_in_words(exercise, capsys):
    exercise.check(...)
    exercise.hint()
    exercise.solution()
    shown = capsys.readouterr().out
    assert shown.count("Markdown") == 3


def test_a_checker_that_recognizes_nothing_would_be_seen():
    blind = Exercise(
        title="blind",
        right=lambda a: a == 1,
        reason="",
        otherwise="look again",
        hints=(),
        solution_code="answer = 1",
        mistakes=(Mistake("two", lambda a: False, "two is wrong", example=2),),
    )
    assert blind.judge(2) == (Verdict.NOT_YET, "look again")


@pytest.mark.parametrize(
    ("guess", "word"),
    [(..., "no guess"), (0.5, "too low"), (1.0, "close"), (2, "too high"), ("half", "number")],
)
def test_reveal_compares_a_guess_with_the_truth(guess, word, monkeypatch):
    said = []
    monkeypatch.setattr("helpers.exercises.say", said.append)
    reveal(guess, 1.0, "the thing")
    assert word in said[0]
