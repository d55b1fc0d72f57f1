"""Every checker is tested untouched, wrong in each known way, wrong in an unknown way, and right."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from scipy.stats import chi2_contingency, chisquare, norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss, roc_auc_score

from helpers.capacity import units
from helpers.exercises import (
    Exercise,
    Mistake,
    Verdict,
    architecture,
    clarification_and_metrics,
    data_and_features,
    deployment_and_monitoring,
    model,
    reveal,
)
from helpers.features import parity
from helpers.metrics import calibration_ratio, mean_interval
from helpers.monitoring import best_period, classifier_two_sample, largest_psi, retraining_cost, threshold_for

MODULES = (clarification_and_metrics, architecture, data_and_features, model, deployment_and_monitoring)
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


def matched_users(table):
    change = (table["loss_new"] - table["loss_old"]).groupby([table["slice"], table["user"]]).mean()
    return {name: change[name] for name in table["slice"].unique()}


def first_worse(table, level, n_resamples=1000):
    options = {"level": level, "n_resamples": n_resamples}
    intervals = {name: mean_interval(change, **options) for name, change in matched_users(table).items()}
    return next((name for name, interval in intervals.items() if interval.low > 0), None)


def row_interval(table):
    change = table["loss_new"] - table["loss_old"]
    low = {name: mean_interval(rows, level=0.99).low for name, rows in change.groupby(table["slice"])}
    return max(low, key=low.get) if max(low.values()) > 0 else "none"


def platt_on(rows, **settings):
    def answer(score, label, day, train_end, test_start, delay):
        fitted = rows(day, train_end, test_start, delay)
        x = np.log(score / (1 - score))[:, None]
        model = LogisticRegression(**settings).fit(x[fitted], label[fitted])
        return model.predict_proba(x[day >= test_start])[:, 1].tolist()

    return answer


def mature(day, train_end, test_start, delay):
    return (train_end <= day) & (day < test_start - delay)


def value_of(heads, factor, weights):
    return [
        sum(weights[name] * row[name] * factor[name] for name in weights.index) for _, row in heads.iterrows()
    ]


def own_worker(intended, duration):
    return [(sent + work) - sent for sent, work in zip(intended, duration, strict=True)]


def always_at_work(intended, duration):
    ends, free = [], intended[0]
    for work in duration:
        free += work
        ends.append(free)
    return np.array(ends) - intended


def split_alarm(level, planned=lambda arms, shares: [shares[arm] for arm in arms], column="users"):
    def answer(counts, shares):
        expected = counts[column].sum() * np.array(planned(counts.index, shares))
        return chisquare(counts[column], expected).pvalue <= level

    return answer


def two_samples(level, **options):
    def answer(counts, shares):
        expected = [counts["users"].sum() * shares[arm] for arm in counts.index]
        return chi2_contingency([counts["users"].tolist(), expected], **options).pvalue < level

    return answer


def first_or_nothing(p_values, boundary, planned_day):
    for day in boundary.index:
        if p_values[day] <= boundary[day]:
            return day


def sorted_quiet(place):
    def answer(history, pages_per_week, alarms):
        quiet = sorted(history["value"][~history["incident"]], reverse=True)
        return quiet[place(int(len(quiet) * pages_per_week / (7 * alarms)))]

    return answer


def first_day(reached, p_values, planned_day):
    return next((day for day in p_values.index if day <= planned_day and reached(day)), planned_day)


def period_and_cost(period, cost):
    return lambda *costs: {"cost_per_day": cost(period(*costs), *costs), "period_days": period(*costs)}


WRITTEN_OTHERWISE = [
    (deployment_and_monitoring.open_loop, "durations", own_worker),
    (deployment_and_monitoring.open_loop, "never idle", always_at_work),
    (
        deployment_and_monitoring.open_loop,
        "type",
        lambda *sent: pd.DataFrame({"latency": work_ahead(*sent)}),
    ),
    (deployment_and_monitoring.open_loop, "type", lambda *sent: (latency for latency in work_ahead(*sent))),
    (deployment_and_monitoring.open_loop, "one number", lambda *sent: float(work_ahead(*sent).median())),
    (deployment_and_monitoring.sample_ratio, "level", split_alarm(0.05)),
    (
        deployment_and_monitoring.sample_ratio,
        "equal split",
        split_alarm(0.0005, lambda arms, shares: [1 / len(arms)] * len(arms)),
    ),
    (
        deployment_and_monitoring.sample_ratio,
        "by place",
        split_alarm(0.0005, lambda arms, shares: list(shares.values())),
    ),
    (deployment_and_monitoring.sample_ratio, "converted users", split_alarm(0.0005, column="converted")),
    (
        deployment_and_monitoring.sample_ratio,
        "never",
        lambda c, s: chisquare(c["users"] / c["users"].sum(), [s[arm] for arm in c.index]).pvalue < 0.0005,
    ),
    (deployment_and_monitoring.sample_ratio, "two samples", two_samples(0.0005, correction=False)),
    (deployment_and_monitoring.sample_ratio, "two samples", two_samples(0.01)),
    (deployment_and_monitoring.peeking, "nothing", first_or_nothing),
    (
        deployment_and_monitoring.peeking,
        "idxmax without any",
        lambda p, b, last: (p.loc[:last] <= b).idxmax(),
    ),
    (
        deployment_and_monitoring.peeking,
        "idxmax without any",
        lambda p, b, last: b.index[np.argmax(p[b.index].to_numpy() <= b.to_numpy())],
    ),
    (
        deployment_and_monitoring.peeking,
        "first below .05",
        lambda p, b, last: first_day(lambda day: p[day] < 0.05, p, last),
    ),
    (
        deployment_and_monitoring.peeking,
        "first above",
        lambda p, b, last: first_day(lambda day: p[day] > b[day], p, last),
    ),
    (
        deployment_and_monitoring.alert_threshold,
        "fixed quantile",
        lambda h, pages, alarms: h.loc[~h["incident"], "value"].quantile(0.95),
    ),
    (
        deployment_and_monitoring.alert_threshold,
        "all days",
        lambda h, pages, alarms: h["value"].quantile(1 - pages / 7 / alarms),
    ),
    (
        deployment_and_monitoring.alert_threshold,
        "interpolated",
        lambda h, pages, alarms: h[~h["incident"]]["value"].quantile(1 - pages / 7 / alarms),
    ),
    (
        deployment_and_monitoring.alert_threshold,
        "times alarms",
        lambda h, pages, alarms: np.quantile(h[~h["incident"]]["value"], 1 - alarms * (pages / 7)),
    ),
    (
        deployment_and_monitoring.alert_threshold,
        "incident days",
        lambda h, pages, alarms: h.loc[h["incident"], "value"].quantile(1 - pages / 7 / alarms),
    ),
    (deployment_and_monitoring.alert_threshold, "off by one", sorted_quiet(lambda k: k - 1)),
    (deployment_and_monitoring.alert_threshold, "interpolated", sorted_quiet(lambda k: k + 1)),
    (deployment_and_monitoring.retraining_period, "type", lambda *costs: best_period(*costs)),
    (deployment_and_monitoring.retraining_period, "type", lambda *costs: {"period": best_period(*costs)}),
    (
        deployment_and_monitoring.retraining_period,
        "rounded",
        period_and_cost(lambda *costs: round(best_period(*costs)), retraining_cost),
    ),
    (
        deployment_and_monitoring.retraining_period,
        "rounded",
        lambda *costs: {k: round(v) for k, v in by_search(*costs).items()},
    ),
    (
        deployment_and_monitoring.retraining_period,
        "no 2",
        period_and_cost(lambda c, v, d: (c / v / d) ** 0.5, lambda t, c, v, d: c / t + v * d * t),
    ),
    (
        deployment_and_monitoring.retraining_period,
        "worst day",
        period_and_cost(best_period, lambda t, c, v, d: c / t + v * d * t),
    ),
    (model.log_q, "not corrected", lambda s, c: -np.log(np.diag(softmax(s, axis=1))).mean()),
    (
        model.log_q,
        "not corrected",
        lambda s, c: -np.log(np.diag(softmax(s - np.log(c)[:, None], axis=1))).mean(),
    ),
    (model.log_q, "columns", lambda s, c: -np.log(np.diag(softmax(s - np.log(c), axis=0))).mean()),
    (model.log_q, "added", lambda s, c: -np.log(np.diag(softmax(s + np.log(c), axis=1))).mean()),
    (
        model.log_q,
        "after the softmax",
        lambda s, c: -np.log(np.diag(softmax(s, axis=1) / (c / c.sum()))).mean(),
    ),
    (model.debias_clicks, "click rate", lambda v, k, c, t, clip: np.bincount(v, c) / np.bincount(v)),
    (
        model.debias_clicks,
        "off by one",
        lambda v, k, c, t, clip: np.bincount(v, c * np.minimum(1 / t[k], clip)) / np.bincount(v),
    ),
    (
        model.debias_clicks,
        "over the weights",
        lambda v, k, c, t, clip: np.bincount(v, c / t[k - 1]) / np.bincount(v, 1 / t[k - 1]),
    ),
    (model.calibration_slice, "young labels", platt_on(lambda d, end, start, w: (d > end) & (d < start))),
    (model.calibration_slice, "training rows", platt_on(lambda d, end, start, w: d <= end)),
    (model.calibration_slice, "test rows", platt_on(lambda d, end, start, w: d > start, C=1e6)),
    (
        model.zero_interval,
        "zero",
        lambda lo, hi, *_: "More data" if lo <= 0 <= hi else "old" if hi < 0 else "new",
    ),
    (model.zero_interval, "mean", lambda lo, hi, old, new, g: ["old", "new"][lo + hi > 0]),
    (
        model.zero_interval,
        "equal",
        lambda lo, hi, old, new, g: "new" if lo > 0 or (hi > 0 > lo and new < old) else "old",
    ),
    (model.worse_slice, "many looks", lambda table: first_worse(table, 0.95, n_resamples=300)),
    (model.worse_slice, "rows", row_interval),
    (
        model.worse_slice,
        "largest change",
        lambda t: (t["loss_new"] - t["loss_old"]).groupby(t["slice"]).mean().idxmax(),
    ),
    (model.fused_value, "as they are", lambda heads, observed, weights: heads[weights.index] @ weights),
    (model.fused_value, "mean of 1", lambda h, o, w: value_of(h, 1 / h.mean(), w)),
    (model.fused_value, "upside down", lambda h, o, w: value_of(h, h.mean() / o, w)),
    (
        model.pick_model,
        "highest mean",
        lambda s, c, b: s[c[c["ms"] < b].index].mean().sort_values().index[-1],
    ),
    (model.pick_model, "no budget", lambda s, c, b: s.mean().idxmax()),
    (model.pick_model, "cheapest", lambda s, c, b: c.sort_values("ms").index[0]),
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


def batch_loss_in_loops(scores, counts):
    losses = []
    for i, row in enumerate(scores):
        odds = [np.exp(score) / count for score, count in zip(row, counts, strict=True)]
        losses.append(-np.log(odds[i] / sum(odds)))
    return sum(losses) / len(losses)


def relevance_by_video(video, position, clicked, theta, clip):
    total = {}
    for v, k, c in zip(video[::-1], position[::-1], clicked[::-1], strict=True):
        total.setdefault(int(v), []).append(c * min(1 / theta[k - 1], clip))
    return {v: sum(values) / len(values) for v, values in total.items()}


def platt_by_newton(score, label, day, *days):
    x, rows, beta = np.c_[np.ones(len(day)), logit(score)], mature(day, *days), np.zeros(2)
    for _ in range(20):
        p = expit(x[rows] @ beta)
        beta += np.linalg.solve((x[rows].T * (p * (1 - p))) @ x[rows], x[rows].T @ (label[rows] - p))
    return expit(x[day >= days[1]] @ beta)


def check_by_resampling(raw, keep_rate, label):
    odds = keep_rate * raw / (1 - raw)
    p = odds / (1 + odds)
    chance = np.random.default_rng(0).binomial(1, p, (300, len(p))).sum(axis=1)
    low, high = np.quantile(chance, (0.025, 0.975))
    return {
        "recalibrate": not low <= label.sum() <= high,
        "observed_over_expected": label.mean() / p.mean(),
        "probabilities": p.tolist(),
    }


def check_by_poisson(raw, keep_rate, label):
    right = model.undo_sampling.solved()(raw, keep_rate, label)
    expected, observed = np.sum(right["probabilities"]), label.sum()
    width = 1.96 * np.sqrt(observed) / expected
    return right | {"recalibrate": not observed / expected - width < 1 < observed / expected + width}


def worst_by_resampling(table):
    return first_worse(table, level=1 - 0.05 / table["slice"].nunique())


def cheapest_by_resampling(scores, costs, budget_ms):
    names = [name for name in scores if costs.loc[name, "ms"] <= budget_ms]
    best = max(names, key=lambda name: scores[name].mean())
    near = [n for n in names if n == best or mean_interval(scores[n] - scores[best]).high >= 0]
    return min(near, key=costs["ms"].get)


def work_ahead(intended, duration):
    latencies, backlog, before = [], 0.0, intended[0]
    for sent, work in zip(intended, duration, strict=True):
        backlog = max(backlog - (sent - before), 0) + work
        latencies.append(backlog)
        before = sent
    return pd.Series(latencies)


def by_rank(history, pages_per_week, alarms):
    quiet = history.loc[~history["incident"], "value"]
    return threshold_for(pd.DataFrame(dict.fromkeys(range(alarms), quiet)), pages_per_week)[0]


def by_search(*costs):
    periods = np.geomspace(0.01, 1000, 20_000)
    cost = retraining_cost(periods, *costs)
    return {"period_days": periods[cost.argmin()], "cost_per_day": cost.min()}


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        (model.log_q, batch_loss_in_loops),
        (model.debias_clicks, relevance_by_video),
        (model.debias_clicks, lambda *log: pd.Series(relevance_by_video(*log))),
        (model.calibration_slice, platt_by_newton),
        (model.calibration_slice, platt_on(mature)),
        (model.undo_sampling, check_by_resampling),
        (model.undo_sampling, check_by_poisson),
        (model.worse_slice, worst_by_resampling),
        (
            model.fused_value,
            lambda heads, observed, weights: value_of(heads, observed / heads.mean(), weights),
        ),
        (model.pick_model, cheapest_by_resampling),
        (deployment_and_monitoring.open_loop, work_ahead),
        (deployment_and_monitoring.sample_ratio, split_alarm(0.0005)),
        (
            deployment_and_monitoring.peeking,
            lambda p, b, last: first_day(lambda day: p[day] <= b[day], p, last),
        ),
        (deployment_and_monitoring.open_loop, lambda *sent: tuple(work_ahead(*sent))),
        (deployment_and_monitoring.alert_threshold, by_rank),
        (deployment_and_monitoring.alert_threshold, sorted_quiet(lambda k: k)),
        (deployment_and_monitoring.retraining_period, by_search),
        (deployment_and_monitoring.retraining_period, lambda *costs: pd.Series(by_search(*costs))),
    ],
)
def test_another_way_to_the_right_answer_is_right(exercise, answer):
    assert exercise.judge(answer)[0] is Verdict.RIGHT


def test_the_situations_do_not_hold_their_answers():
    assert not set(model.SITUATIONS) & set(model.LADDER_CHOICES)
    assert set(model.ladder_choice.solved().values()) < set(model.LADDER_CHOICES)


def test_only_the_corrected_loss_learns_how_much_more_one_is_liked():
    liked = np.array([0.9, 0.1])
    margins = np.linspace(-4, 4, 801)

    def best_margin(loss):
        """The margin of lowest mean loss over all batches of two users who like alike."""
        batches = [(a, b) for a in (0, 1) for b in (0, 1)]
        total = [
            sum(
                liked[a] * liked[b] * loss(np.array([[m, 0]] * 2)[:, [a, b]], liked[[a, b]])
                for a, b in batches
            )
            for m in margins
        ]
        return margins[np.argmin(total)]

    naive = next(m.example for m in model.log_q.mistakes if m.name == "not corrected")
    assert best_margin(naive) == pytest.approx(0, abs=0.02)
    assert best_margin(model.log_q.solved()) == pytest.approx(np.log(9), abs=0.02)


def test_weighted_clicks_are_unbiased_until_they_are_clipped():
    rng, relevance = np.random.default_rng(0), np.array([0.8, 0.3])
    video, theta = np.arange(200) % 2, model.THETA
    position = 1 + (video * 2 + rng.integers(3, size=200))  # the second video stands lower
    seen = rng.random((600, 200)) < (theta[position - 1] * relevance[video])
    estimates = {m.name: m.example for m in model.debias_clicks.mistakes} | {
        "right": model.debias_clicks.solved()
    }

    def draws(name, clip):
        return np.array([estimates[name](video, position, row, theta, clip) for row in seen])

    def z(name, clip=4):
        error = draws(name, clip) - relevance
        return np.abs(error.mean(axis=0) / error.std(axis=0) * np.sqrt(len(seen))).max()

    assert z("right", clip=np.inf) < 3
    assert z("expected clicks") < 3
    assert all(
        z(name) > 10 for name in ("right", "click rate", "over the weights", "over the clicks", "multiplied")
    )
    assert draws("right", 4)[:, 1].std() < draws("right", np.inf)[:, 1].std()


@pytest.mark.parametrize("traffic", model.TRAFFIC)
def test_no_honest_slice_calibrates_better_than_the_right_one(traffic):
    _, label, day, _, test_start, _ = traffic
    test = day >= test_start
    loss = {
        m.name: log_loss(label[test], np.clip(reply, 0, 1))
        for m in model.calibration_slice.mistakes
        if len(reply := m.example(*traffic)) == test.sum()
    }
    assert loss.pop("test rows") < (
        right := log_loss(label[test], model.calibration_slice.solved()(*traffic))
    )
    assert len(loss) > 5
    assert all(value > right for value in loss.values())


def test_an_interval_that_covers_zero_may_call_for_each_decision():
    decide = model.zero_interval.solved()
    assert {decide(*gain) for gain in model.GAINS if gain[0] < 0 < gain[1]} == set(model.DECISIONS)


@given(
    st.floats(-5, 5),
    st.floats(0, 5),
    st.floats(0, 1),
    st.floats(0, 1),
    st.sampled_from([(1, 2), (2, 1), (1, 1)]),
)
def test_more_data_changes_no_decision_that_was_made(low, width, left, right, costs):
    decide = model.zero_interval.solved()
    first = decide(low, low + width, *costs, 1)
    inner = sorted((low + left * width, low + right * width))
    assert first in ("more data", decide(*inner, *costs, 1))


def test_the_average_improves_in_each_table_with_a_slice_that_got_worse():
    assert all((t["loss_new"] - t["loss_old"]).mean() < 0 for (t,) in model.LOSS_TABLES)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=3))
def test_a_release_that_scales_a_head_changes_no_value(factors):
    heads, observed, weights = model.RELEASES[0]
    value = model.fused_value.solved()
    np.testing.assert_allclose(value(heads * factors, observed, weights), value(heads, observed, weights))


def test_each_choice_of_notebook_05_is_one_of_those_that_its_cell_shows():
    module = deployment_and_monitoring
    assert set(module.fallback_order.solved().values()) < set(module.RUNGS)
    assert set(module.which_detector.solved().values()) < set(module.DETECTORS)
    assert set(module.read_experiment.solved().values()) == set(module.DECISIONS)
    assert set(module.release_gates.solved().values()) < {"pass", *module.GATES}


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0.1, 50)), min_size=1, max_size=20))
def test_a_user_waits_for_all_who_came_before_and_are_not_served(requests):
    gaps, durations = map(np.array, zip(*requests, strict=True))
    intended = np.cumsum(gaps)
    latency = np.array(deployment_and_monitoring.open_loop.solved()(intended, durations))
    for i, sent in enumerate(intended):
        busy_since = [durations[j : i + 1].sum() + intended[j] - sent for j in range(i + 1)]
        assert latency[i] == pytest.approx(max(busy_since))


def test_each_gate_but_one_is_the_first_to_stop_one_candidate():
    module = deployment_and_monitoring
    first = list(module.release_gates.solved().values())
    assert sorted(first) == sorted(["pass", *set(module.GATES) - {"schema"}])
    failed = {
        name: [g for g, stops in module._STOPS.items() if stops(c)]
        for name, c in module.CANDIDATES.iterrows()
    }
    assert failed.pop("B") == ["parity", "calibration"]
    assert all(len(gates) <= 1 for gates in failed.values())


@pytest.mark.parametrize(
    ("candidate", "gate", "compare"),
    [
        ("A", "metric", "metric_low"),
        ("B", "metric", "metric_low"),
        ("D", "slice", "slice_high"),
        ("E", "latency", "p99_ms"),
        ("F", "metric", "metric_low"),
    ],
)
def test_who_names_a_gate_that_lets_a_candidate_pass_is_told_what_to_compare(candidate, gate, compare):
    module = deployment_and_monitoring
    assert not module._STOPS[gate](module.CANDIDATES.loc[candidate])
    verdict, sentence = module.release_gates.judge(module.release_gates.solved() | {candidate: gate})
    assert verdict is Verdict.NOT_YET
    assert f"lets {candidate} pass: compare its `{compare}`" in sentence
    assert compare in module.CANDIDATES


@pytest.mark.parametrize("answer", ["stale snapshot", "Stale-Snapshot ", "STALE_SNAPSHOT"])
def test_the_fault_of_the_incident_may_be_spelled_with_spaces_or_hyphens(answer):
    exercise = deployment_and_monitoring.incident_room
    assert exercise.judge(answer)[0] is Verdict.RIGHT
    assert exercise.judge("late events") == exercise.judge("late_events")
    assert "flat" in exercise.judge("late events")[1]


def test_a_function_that_prints_and_returns_nothing_at_all_is_no_attempt_at_stopping():
    assert deployment_and_monitoring.peeking.judge(lambda *_: None)[0] is Verdict.NOT_ATTEMPTED


def test_the_release_that_passes_has_the_lowest_metric():
    module = deployment_and_monitoring
    middle = module.CANDIDATES[["metric_low", "metric_high"]].mean(axis=1)
    assert module.release_gates.solved()[middle.idxmin()] == "pass"


def test_a_missing_column_stops_a_release_first():
    candidate = deployment_and_monitoring.CANDIDATES.loc["B"].copy()
    candidate["schema_ok"] = False
    assert deployment_and_monitoring._first_gate(candidate) == "schema"


def test_only_the_boundary_keeps_the_false_alarms_of_many_looks_at_five_in_a_hundred():
    exercise, (_, boundary, last) = deployment_and_monitoring.peeking, deployment_and_monitoring.LOOKS[0]
    naive = next(m.example for m in exercise.mistakes if m.name == "first below .05")
    walks = np.random.default_rng(0).normal(size=(1000, last)).cumsum(axis=1)
    p_values = 2 * norm.sf(np.abs(walks) / np.sqrt(np.arange(1, last + 1)))
    found = {"right": 0, "naive": 0}
    for row in p_values:
        p = pd.Series(row, boundary.index)
        day = exercise.solved()(p, boundary, last)
        found["right"] += p[day] <= boundary[day]
        found["naive"] += p[naive(p, boundary, last)] < 0.05
    assert found["right"] < 70  # 50 and three standard deviations
    assert found["naive"] > 150


def four_worlds(rows=40_000):
    """Inputs, scores and labels: as before, and after each shift of the exercise."""
    rng, weights, bias = np.random.default_rng(0), np.array([1.2, 0.8, 1.2, 0.8]), -7.3

    def world(moved=0.0, correlation=0.0, meaning=weights, twice=False):
        covariance = np.eye(4)
        covariance[0, 1] = covariance[1, 0] = correlation
        x = rng.multivariate_normal([moved, 0, 0, 0], covariance, 2 * rows)
        fraud = rng.random(2 * rows) < expit(x @ meaning + bias)
        frauds_first = np.argsort(~fraud, kind="stable")
        kept = rng.permutation(frauds_first[:rows]) if twice else np.arange(rows)
        return pd.DataFrame(x[kept], columns=list("abcd")), expit(x[kept] @ weights + bias), fraud[kept]

    return world(), {
        "one input moves": world(moved=0.8),
        "new correlation": world(correlation=0.8),
        "new meaning": world(meaning=weights * [1, 1, -1, -1]),
        "more frauds": world(twice=True),
    }


def test_each_shift_is_seen_first_by_the_detector_that_the_exercise_names():
    before, after = four_worlds()

    def reviewed(score, label):
        return label[np.argsort(-score)[: len(score) // 100]].mean()

    def alarms(now):
        scores = [pd.DataFrame({"score": world[1]}) for world in (before, now)]
        return {
            "each input": largest_psi(before[0], now[0]) > 0.1,
            "two-sample classifier": classifier_two_sample(before[0], now[0]).auc > 0.6,
            "score histogram": largest_psi(*scores) > 0.1,
            "reviewed alerts": reviewed(*now[1:]) < 0.7 * reviewed(*before[1:]),
            "calibration ratio": not 0.6 < calibration_ratio(now[2], now[1]) < 1 / 0.6,
            "AUC": roc_auc_score(now[2], now[1]) < roc_auc_score(before[2], before[1]) - 0.05,
        }

    fired = {shift: alarms(now) for shift, now in after.items()}
    first = {shift: next(name for name, rings in found.items() if rings) for shift, found in fired.items()}
    assert first == deployment_and_monitoring.which_detector.solved()
    assert not fired["more frauds"]["AUC"]
    assert fired["new meaning"]["AUC"] and not fired["new meaning"]["calibration ratio"]


@pytest.mark.parametrize("history", deployment_and_monitoring.HISTORIES)
def test_as_many_quiet_days_lie_above_the_threshold_as_were_promised_and_not_one_more(history):
    table, pages_per_week, alarms = history
    quiet = table["value"][~table["incident"]]
    allowed = len(quiet) * pages_per_week / (7 * alarms)
    above = (quiet > deployment_and_monitoring.alert_threshold.solved()(*history)).sum()
    assert above <= allowed < above + 1


@given(st.floats(0.1, 1e4), st.floats(0.1, 1e4), st.floats(1e-4, 1), st.floats(0.1, 10))
def test_no_other_period_costs_less(cost, value, decay, factor):
    best = deployment_and_monitoring.retraining_period.solved()(cost, value, decay)
    assert best["period_days"] == pytest.approx(best_period(cost, value, decay))
    assert best["cost_per_day"] == pytest.approx(retraining_cost(best["period_days"], cost, value, decay))
    other = retraining_cost(factor * best["period_days"], cost, value, decay)
    assert other >= best["cost_per_day"] * (1 - 1e-12)


def test_the_decisions_follow_from_the_plan_that_the_cell_shows():
    module = deployment_and_monitoring

    def decision(row):
        if row["sample_ratio_p"] < 0.0005:
            return "fix the experiment"
        if row["harm_low"] > module.MOST_HARM:
            return "do not ship"
        if row["gain_low"] > 0 and row["harm_high"] < module.MOST_HARM:
            return "ship"
        return "do not ship" if row["gain_high"] < module.WORTH else "run longer"

    decided = module.EXPERIMENTS.apply(decision, axis=1)
    assert decided.to_dict() == module.read_experiment.solved()
    young = module.EXPERIMENTS["days"] != "21 of 21"
    assert list(module.EXPERIMENTS.index[young]) == list(decided.index[decided == "run longer"])


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
        (model.LADDER_STORY, [*model.SITUATIONS, *model.LADDER_CHOICES]),
        (
            deployment_and_monitoring.LADDER_STORY,
            [*deployment_and_monitoring.FAILURES, *deployment_and_monitoring.RUNGS],
        ),
        (deployment_and_monitoring.GATES_STORY, deployment_and_monitoring.GATES),
        (
            deployment_and_monitoring.DETECTOR_STORY,
            [*deployment_and_monitoring.SHIFTS, *deployment_and_monitoring.DETECTORS],
        ),
        (deployment_and_monitoring.EXPERIMENT_STORY, deployment_and_monitoring.DECISIONS),
    ],
    ids=[
        "ceiling",
        "fallbacks",
        "turning point",
        "log",
        "ladder",
        "degradation",
        "gates",
        "detectors",
        "experiments",
    ],
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
