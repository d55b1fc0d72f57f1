"""Every metric against a second route: a closed form, a plain loop, or another library."""

import inspect
import itertools
import math
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve
from statsmodels.stats.power import NormalIndPower

from helpers import metrics as m

NAN, INF = float("nan"), float("inf")


def mean(values: np.ndarray, sample_weight: np.ndarray) -> float:
    return np.average(values, weights=sample_weight)


# ---------------------------------------------------------------- generated data

SCORES = st.integers(0, 6).map(lambda i: i / 7)  # few distinct values, so that ties are common


@st.composite
def scored(draw: st.DrawFn, max_size: int = 25) -> tuple[np.ndarray, np.ndarray]:
    """Labels with both classes, and scores with ties."""
    rest = draw(st.lists(st.tuples(st.booleans(), SCORES), max_size=max_size))
    rows = [(True, draw(SCORES)), (False, draw(SCORES)), *rest]
    labels, scores = zip(*draw(st.permutations(rows)), strict=True)
    return np.array(labels), np.array(scores)


GRADES = hnp.arrays(
    int, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=7), elements=st.integers(0, 3)
)
K = st.integers(1, 9)  # lists have 1 to 7 items, so k is often larger


# ------------------------------------------------------ decisions at a threshold


@settings(max_examples=30)
@given(
    scored(),
    st.lists(st.one_of(SCORES, st.sampled_from([-INF, INF, 0.5])), min_size=1, max_size=5),
    st.data(),
)
def test_decision_table_equals_a_loop_over_thresholds(data, thresholds, draw):
    y, score = data
    amount = np.array(draw.draw(st.lists(st.integers(0, 50), min_size=len(y), max_size=len(y))))
    table = m.decision_table(y, score, thresholds, cost_fp=3, cost_fn=2, amount=amount, beta=2)
    assert list(table.index) == sorted(thresholds, reverse=True)
    for threshold, row in zip(table.index, table.to_dict("records"), strict=True):
        flagged = score >= threshold
        assert row["tp"] == (flagged & y).sum()
        assert row["fp"] == (flagged & ~y).sum()
        assert row["fn"] == (~flagged & y).sum()
        assert row["tn"] == (~flagged & ~y).sum()
        assert row["recall"] == pytest.approx(sk.recall_score(y, flagged))
        assert row["fpr"] == pytest.approx(1 - row["specificity"]) == pytest.approx(flagged[~y].mean())
        assert row["accuracy"] == pytest.approx(sk.accuracy_score(y, flagged))
        assert row["f_beta"] == pytest.approx(sk.fbeta_score(y, flagged, beta=2, zero_division=0))
        precision = sk.precision_score(y, flagged, zero_division=np.nan)
        assert row["precision"] == pytest.approx(precision, nan_ok=True)
        missed = ~flagged & y
        cost = 3 * row["fp"] + 2 * missed.sum() + amount[missed].sum()
        assert row["cost"] == pytest.approx(cost)
        assert row["cost"] == pytest.approx(m.decision_cost(y, flagged, cost_fp=3, cost_fn=2, amount=amount))


@settings(max_examples=40)
@given(scored())
def test_default_thresholds_are_every_distinct_score_and_never(data):
    y, score = data
    table = m.decision_table(y, score)
    tns, fps, fns, tps, thresholds = sk.confusion_matrix_at_thresholds(y, score)
    assert table.index.name == "threshold"
    assert table.index[0] == INF
    np.testing.assert_array_equal(table.index[1:], thresholds)
    np.testing.assert_array_equal(table[["tn", "fp", "fn", "tp"]].to_numpy()[1:].T, [tns, fps, fns, tps])


@settings(max_examples=40)
@given(scored())
def test_recall_and_fpr_never_fall_as_the_threshold_falls(data):
    table = m.decision_table(*data, np.linspace(-0.1, 1.1, 30))
    assert (table[["recall", "fpr", "tp", "fp"]].diff().dropna() >= 0).all(axis=None)
    rates = table[["precision", "recall", "fpr", "specificity", "f_beta", "accuracy"]]
    assert ((rates >= 0) & (rates <= 1) | rates.isna()).all(axis=None)


def test_never_acting_flags_nothing_and_misses_everything():
    row = m.decision_at([1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2], INF, cost_fp=5, amount=[10, 20, 30, 40])
    assert row[["tp", "fp", "fn", "tn"]].tolist() == [0, 0, 2, 2]
    assert row["cost"] == 50
    assert np.isnan(row["precision"])
    assert (row["recall"], row["f_beta"], row["accuracy"]) == (0, 0, 0.5)


def test_decision_at_is_the_row_of_the_table():
    y, score = [1, 0, 0, 1], [0.9, 0.8, 0.1, 0.2]
    table = m.decision_table(y, score, [0.2, 0.8], cost_fp=1, cost_fn=7, beta=0.5)
    pd.testing.assert_series_equal(
        m.decision_at(y, score, 0.8, cost_fp=1, cost_fn=7, beta=0.5), table.loc[0.8]
    )


def test_counts_stay_integers_and_the_input_is_not_changed():
    y, score = np.array([1, 0, 1]), np.array([0.3, 0.1, 0.2])
    table = m.decision_table(y, score)
    assert all(table[column].dtype.kind == "i" for column in ("tp", "fp", "fn", "tn"))
    assert score.tolist() == [0.3, 0.1, 0.2]


@settings(max_examples=50)
@given(scored(), st.integers(0, 9), st.integers(0, 9))
def test_best_threshold_is_the_highest_of_the_cheapest(data, cost_fp, cost_fn):
    y, score = data
    costs = {
        t: m.decision_cost(y, score >= t, cost_fp=cost_fp, cost_fn=cost_fn) for t in [*np.unique(score), INF]
    }
    cheapest = max(t for t, cost in costs.items() if cost == min(costs.values()))
    assert m.best_threshold(y, score, cost_fp=cost_fp, cost_fn=cost_fn) == cheapest


@pytest.mark.parametrize(("cost_fp", "cost_fn"), [(1, 1), (1, 4), (3, 1), (7, 93)])
def test_on_calibrated_scores_the_best_threshold_is_the_cost_threshold(cost_fp, cost_fn):
    grid = np.arange(0.005, 1, 0.01)  # 200 rows at each probability, exactly that share of them positive
    score = np.repeat(grid, 200)
    y = np.concatenate([np.arange(200) < round(200 * p) for p in grid])
    best = m.best_threshold(y, score, cost_fp=cost_fp, cost_fn=cost_fn)
    assert best == grid[grid >= m.cost_threshold(cost_fp, cost_fn)][0]


def test_thresholds_of_costs_are_the_point_of_indifference():
    assert m.cost_threshold(1, 99) == pytest.approx(0.01)
    assert m.cost_threshold(0, 5) == 0
    p = m.amount_threshold([0, 5, 45, 995], cost_fp=5)
    np.testing.assert_allclose(p, [1, 0.5, 0.1, 0.005])
    np.testing.assert_allclose(p * [0, 5, 45, 995], (1 - p) * 5)


@settings(max_examples=40)
@given(scored())
def test_precision_at_its_own_prevalence_is_the_observed_precision(data):
    y, score = data
    table = m.decision_table(y, score)
    precision = m.precision_at_prevalence(table["recall"], table["fpr"], y.mean())
    np.testing.assert_allclose(precision, table["precision"])


def test_precision_at_a_lower_prevalence_is_that_of_repeated_negatives():
    y, score = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.8, 0.3, 0.2])
    rows = np.repeat(np.arange(5), np.where(y, 1, 50))
    seen = m.decision_at(y, score, 0.4)
    diluted = m.decision_at(y[rows], score[rows], 0.4)
    assert m.precision_at_prevalence(seen["recall"], seen["fpr"], y[rows].mean()) == pytest.approx(
        diluted["precision"]
    )
    np.testing.assert_allclose(
        m.precision_at_prevalence(0.9, 0.01, [1, 0.1, 0]), [1, 0.9 / 0.99, 0], rtol=1e-3
    )


@settings(max_examples=50)
@given(scored(max_size=4), st.data())
def test_at_budget_is_the_mean_over_all_orders_of_tied_rows(data, draw):
    y, score = data
    budget = draw.draw(st.integers(1, len(y)))
    orders = [o for o in itertools.permutations(range(len(y))) if (np.diff(score[list(o)]) <= 0).all()]
    hits = np.mean([y[list(order)[:budget]].sum() for order in orders])
    found = m.at_budget(y, score, budget)
    assert found["precision"] == pytest.approx(hits / budget)
    assert found["recall"] == pytest.approx(hits / y.sum())
    perfect = m.at_budget(y, y.astype(float), budget)
    assert perfect["precision"] == pytest.approx(found["max_precision"])
    assert perfect["recall"] == pytest.approx(found["max_recall"])


def test_a_budget_above_the_positives_caps_precision():
    y = np.arange(1000) < 55
    found = m.at_budget(y, np.random.default_rng(0).random(1000), 100)
    assert (found["budget"], found["max_precision"], found["max_recall"]) == (100, 0.55, 1)
    assert m.at_budget([1, 1], [1, 0], 1)["precision"] == 1  # negatives are not needed


def test_constant_scores_give_the_base_rate():
    y = np.array([1, 0, 0, 0])
    assert m.at_budget(y, np.ones(4), 2)["precision"] == 0.25
    assert m.decision_at(y, np.ones(4), 1.0)["precision"] == 0.25
    assert m.query_auc(y, np.ones(4), np.zeros(4))["auc"].tolist() == [0.5]


@settings(max_examples=40)
@given(scored(), st.randoms())
def test_decision_metrics_do_not_depend_on_the_order_of_rows(data, random):
    y, score = data
    order = random.sample(range(len(y)), len(y))
    pd.testing.assert_frame_equal(m.decision_table(y[order], score[order]), m.decision_table(y, score))
    pd.testing.assert_series_equal(m.at_budget(y[order], score[order], 2), m.at_budget(y, score, 2))


# ------------------------------------------------------------- ranking per query


def loop_precision(grades: list[int], k: int) -> float:
    return sum(g > 0 for g in grades[:k]) / k


def loop_recall(grades: list[int], k: int) -> float:
    relevant = sum(g > 0 for g in grades)
    return sum(g > 0 for g in grades[:k]) / relevant if relevant else NAN


def loop_reciprocal_rank(grades: list[int], k: int) -> float:
    return next((1 / rank for rank, g in enumerate(grades[:k], start=1) if g > 0), 0.0)


def loop_average_precision(grades: list[int], k: int) -> float:
    relevant = sum(g > 0 for g in grades)
    total = sum(loop_precision(grades, i) for i in range(1, min(k, len(grades)) + 1) if grades[i - 1] > 0)
    return total / min(relevant, k) if relevant else NAN


def loop_ndcg(grades: list[int], k: int) -> float:
    def dcg(order: list[int]) -> float:
        return sum(g / math.log2(rank + 1) for rank, g in enumerate(order[:k], start=1))

    best = dcg(sorted(grades, reverse=True))
    return dcg(grades) / best if best else NAN


def loop_exponential_ndcg(grades: list[int], k: int) -> float:
    return loop_ndcg([2**g - 1 for g in grades], k)


RANKING = {
    "precision": (m.precision_at_k, loop_precision),
    "recall": (m.recall_at_k, loop_recall),
    "reciprocal rank": (m.reciprocal_rank, loop_reciprocal_rank),
    "average precision": (m.average_precision_at_k, loop_average_precision),
    "NDCG": (m.ndcg_at_k, loop_ndcg),
    "exponential NDCG": (lambda grades, k: m.ndcg_at_k(grades, k, gain="exponential"), loop_exponential_ndcg),
}


@pytest.mark.parametrize("name", RANKING)
@given(grades=GRADES, k=K)
def test_ranking_metric_equals_a_plain_loop(name, grades, k):
    metric, loop = RANKING[name]
    found = metric(grades, k)
    assert found.shape == (len(grades),)
    np.testing.assert_allclose(found, [loop(row.tolist(), k) for row in grades], atol=1e-12)


@pytest.mark.parametrize("name", RANKING)
@given(grades=GRADES, k=K)
def test_ranking_metric_stays_between_0_and_1_and_is_1_for_a_perfect_order(name, grades, k):
    metric, _ = RANKING[name]
    values = metric(grades, k)
    assert ((values >= 0) & (values <= 1 + 1e-12) | np.isnan(values)).all()
    best = metric(-np.sort(-grades, axis=1), k)
    assert (np.nan_to_num(best) >= np.nan_to_num(values) - 1e-12).all()
    if name not in ("precision", "recall"):
        np.testing.assert_allclose(best[(grades > 0).any(axis=1)], 1)


@pytest.mark.parametrize("name", RANKING)
@given(grades=GRADES, k=K, data=st.data())
def test_moving_a_more_relevant_item_up_never_hurts(name, grades, k, data):
    metric, _ = RANKING[name]
    i = data.draw(st.integers(0, grades.shape[1] - 1))
    j = data.draw(st.integers(i, grades.shape[1] - 1))
    swapped = grades.copy()
    swap = grades[:, j] > grades[:, i]
    swapped[swap, i], swapped[swap, j] = grades[swap, j], grades[swap, i]
    assert (np.nan_to_num(metric(swapped, k)) >= np.nan_to_num(metric(grades, k)) - 1e-12).all()


@pytest.mark.parametrize("name", RANKING)
@given(grades=GRADES, k=K)
def test_padding_a_list_with_irrelevant_items_changes_nothing(name, grades, k):
    metric, _ = RANKING[name]
    np.testing.assert_allclose(metric(np.pad(grades, ((0, 0), (0, 5))), k), metric(grades, k), atol=1e-12)


@given(GRADES)
def test_recall_rises_with_k_and_hits_agree_with_precision(grades):
    relevant = (grades > 0).sum(axis=1)
    some = grades[relevant > 0]
    if not len(some):
        return
    recall = np.array([m.recall_at_k(some, k) for k in range(1, 10)])
    precision = np.array([m.precision_at_k(some, k) for k in range(1, 10)])
    assert (np.diff(recall, axis=0) >= 0).all()
    np.testing.assert_allclose(precision * np.arange(1, 10)[:, None], recall * relevant[relevant > 0])
    assert (recall[-1] == 1).all()


def test_a_query_without_relevant_items_is_nan_or_scores_0():
    nothing = np.zeros((2, 3))
    assert np.isnan(m.recall_at_k(nothing, 2)).all()
    assert np.isnan(m.average_precision_at_k(nothing, 2)).all()
    assert np.isnan(m.ndcg_at_k(nothing, 2)).all()
    assert (m.precision_at_k(nothing, 2) == 0).all()
    assert (m.reciprocal_rank(nothing) == 0).all()


def test_relevant_items_outside_the_list_count_in_the_denominators():
    grades = [[1, 0, 1], [0, 0, 0]]
    np.testing.assert_allclose(m.recall_at_k(grades, 3, n_relevant=[8, 2]), [2 / 8, 0])
    np.testing.assert_allclose(m.average_precision_at_k(grades, 3, n_relevant=[8, 2]), [(1 + 2 / 3) / 3, 0])
    np.testing.assert_allclose(m.average_precision_at_k(grades, 10, n_relevant=[8, 2]), [(1 + 2 / 3) / 8, 0])
    ideal = m.ndcg_at_k(grades, 3, ideal=[[1, 1, 1, 1], [0, 2, 0, 0]])
    np.testing.assert_allclose(ideal, [1.5 / (1 + 1 / np.log2(3) + 0.5), 0])


def test_reciprocal_rank_looks_at_the_first_k_only():
    np.testing.assert_allclose(m.reciprocal_rank([[0, 0, 2, 1]]), [1 / 3])
    np.testing.assert_allclose(m.reciprocal_rank([[0, 0, 2, 1]], k=2), [0])


def test_the_two_gains_differ_on_the_textbook_list():
    grades = [[3, 2, 3, 0, 1, 2]]
    np.testing.assert_allclose(m.ndcg_at_k(grades, 6), [0.9608], atol=5e-5)
    np.testing.assert_allclose(m.ndcg_at_k(grades, 6, gain="exponential"), [0.9488], atol=5e-5)


@given(GRADES.filter(lambda grades: grades.shape[1] > 1), K)
def test_ranking_metrics_agree_with_scikit_learn(grades, k):
    grades = grades[(grades > 0).any(axis=1)]
    for row in grades:
        falling = -np.arange(len(row))
        ndcg = sk.ndcg_score([row], [falling], k=k)
        assert m.ndcg_at_k([row], k)[0] == pytest.approx(ndcg)
        ap = sk.average_precision_score(row > 0, falling)
        assert m.average_precision_at_k([row], len(row))[0] == pytest.approx(ap)


@given(GRADES, st.data())
def test_ranked_sorts_by_score_and_ties_bracket_every_order(grades, data):
    scores = data.draw(hnp.arrays(int, grades.shape, elements=st.integers(0, 2)))
    orders = {ties: m.ranked(grades, scores, ties=ties) for ties in ("worst", "random", "best")}
    for order in orders.values():
        np.testing.assert_array_equal(np.sort(order), np.sort(grades))
    worst, some, best = (np.nan_to_num(m.ndcg_at_k(order, 3)) for order in orders.values())
    assert (worst <= some + 1e-12).all()
    assert (some <= best + 1e-12).all()
    for row, score, order in zip(grades, scores, orders["worst"], strict=True):
        pairs = sorted(zip(-score, row, strict=True))
        assert [grade for _, grade in pairs] == order.tolist()
    shuffled = np.random.default_rng(1).permutation(grades.shape[1])
    np.testing.assert_array_equal(m.ranked(grades[:, shuffled], scores[:, shuffled]), orders["worst"])


def test_random_ties_follow_the_seed_and_are_fair():
    grades, scores = np.tile([1, 0], (4000, 1)), np.zeros((4000, 2))
    first = [m.ranked(grades, scores, ties="random", seed=seed)[:, 0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(first[0], first[1])
    assert (first[0] != first[2]).any()
    assert first[0].mean() == pytest.approx(0.5, abs=0.03)


@settings(max_examples=50)
@given(scored(max_size=60), st.data())
def test_query_auc_equals_scikit_learn_per_query(data, draw):
    y, score = data
    query = np.array(draw.draw(st.lists(st.sampled_from("abc"), min_size=len(y), max_size=len(y))))
    query[[y.argmax(), y.argmin()]] = "a"  # at least one query holds both classes
    table = m.query_auc(y, score, query)
    mixed = [q for q in "abc" if 0 < y[query == q].sum() < (query == q).sum()]
    assert table.index.tolist() == mixed
    assert table.index.name == "query"
    for q, row in zip(table.index, table.to_dict("records"), strict=True):
        rows = query == q
        assert row["auc"] == pytest.approx(sk.roc_auc_score(y[rows], score[rows]))
        assert (row["n"], row["positives"]) == (rows.sum(), y[rows].sum())


def test_a_score_that_only_knows_the_query_ranks_nothing():
    rng = np.random.default_rng(0)
    query = np.repeat(np.arange(200), 20)
    rate = rng.beta(0.5, 2, 200)[query]
    y = rng.random(4000) < rate
    table = m.query_auc(y, rate, query)
    assert sk.roc_auc_score(y, rate) > 0.75
    assert np.average(table["auc"], weights=table["n"]) == 0.5


# ------------------------------------------------------------------- calibration

PROBABILITIES = st.integers(0, 20).map(lambda i: i / 20)


@pytest.mark.parametrize("strategy", ["quantile", "uniform"])
@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(st.booleans(), PROBABILITIES), min_size=1, max_size=40), bins=st.integers(1, 12)
)
def test_reliability_table_equals_scikit_learn_and_scipy(strategy, rows, bins):
    y, p = map(np.array, zip(*rows, strict=True))
    table = m.reliability_table(y, p, bins, strategy)
    observed, predicted = calibration_curve(y, p, n_bins=bins, strategy=strategy)
    np.testing.assert_allclose(table["observed"], observed)
    np.testing.assert_allclose(table["mean_predicted"], predicted)
    assert table["n"].sum() == len(y)
    for row in table.to_dict("records"):
        wilson = stats.binomtest(round(row["observed"] * row["n"]), row["n"]).proportion_ci(method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((wilson.low, wilson.high))
        assert row["low"] <= row["observed"] <= row["high"]
    gap = sum(abs(o - q) * n for o, q, n in zip(observed, predicted, table["n"], strict=True)) / len(y)
    assert m.expected_calibration_error(y, p, bins, strategy) == pytest.approx(gap)


def test_quantile_bins_hold_equal_counts_and_ties_stay_together():
    p = np.random.default_rng(0).random(1000)
    assert m.reliability_table(p > 0.5, p, 10)["n"].tolist() == [100] * 10
    assert m.reliability_table([0, 1, 1], [0.4, 0.4, 0.4])["n"].tolist() == [3]


def test_expected_calibration_error_is_0_for_matching_rates_and_counts_the_gap():
    y = [1, 0, 0, 0, 1, 1, 1, 0]
    p = np.repeat([0.25, 0.75], 4)
    assert m.expected_calibration_error(y, p, bins=2) == 0
    assert m.expected_calibration_error(y, p - 0.1, bins=2) == pytest.approx(0.1)


def test_null_expectation_is_what_calibrated_models_score():
    rng = np.random.default_rng(0)
    p = rng.random((100, 1000))
    measured = [m.expected_calibration_error(rng.random(1000) < row, row, bins=15) for row in p]
    expected = np.mean([m.ece_null_expectation(row, bins=15) for row in p])
    assert expected == pytest.approx(0.0384, abs=2e-4)
    assert np.mean(measured) == pytest.approx(expected, rel=0.07)


def test_calibration_ratio_is_expected_over_observed():
    assert m.calibration_ratio([1, 0, 0, 1], [0.9, 0.6, 0.6, 0.9]) == pytest.approx(1.5)


def test_normalized_entropy_divides_by_the_entropy_of_the_base_rate():
    y, p = np.array([1, 0, 0, 0]), np.array([0.7, 0.2, 0.1, 0.4])
    entropy = stats.entropy([0.25, 0.75])
    assert m.normalized_entropy(y, p) == pytest.approx(sk.log_loss(y, p) / entropy)
    assert m.normalized_entropy(y, np.full(4, 0.25)) == pytest.approx(1)


@given(positives=st.integers(0, 100), kept=st.integers(1, 100), factor=st.integers(1, 20))
def test_undoing_downsampling_restores_the_counts(positives, kept, factor):
    sampled = positives / (positives + kept)
    assert m.undo_downsampling(sampled, 1 / factor) == pytest.approx(positives / (positives + factor * kept))


@given(hnp.arrays(float, 5, elements=st.floats(0, 1)), st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_changing_the_prior_moves_the_odds_and_back(p, old, new):
    moved = m.change_prior(p, old, new)
    assert ((moved >= 0) & (moved <= 1)).all()
    np.testing.assert_allclose(m.change_prior(moved, new, old), p, atol=1e-9)
    inside = (p > 1e-6) & (p < 1 - 1e-6)
    odds = moved[inside] / (1 - moved[inside]) / (p[inside] / (1 - p[inside]))
    np.testing.assert_allclose(odds, (new / (1 - new)) / (old / (1 - old)), rtol=1e-6)


@given(hnp.arrays(float, 5, elements=st.floats(0, 1)), st.floats(0.01, 1), st.floats(0.01, 0.9))
def test_downsampling_is_a_change_of_prior(p, keep_rate, prior):
    sampled_prior = prior / (prior + (1 - prior) * keep_rate)
    if sampled_prior < 1:
        undone = m.undo_downsampling(p, keep_rate)
        np.testing.assert_allclose(undone, m.change_prior(p, sampled_prior, prior), atol=1e-9)


# ------------------------------------------------------------------- uncertainty


def test_an_interval_prints_formats_and_covers():
    interval = m.Interval(0.785, 0.712, 0.858)
    assert str(interval) == f"{interval}" == "0.785 [0.712, 0.858]"
    assert f"{interval:+.1f}" == "+0.8 [+0.7, +0.9]"
    assert f"{interval:.1%}" == "78.5% [71.2%, 85.8%]"
    assert interval.covers(0.712)
    assert interval.covers(0.858)
    assert not interval.covers(0.711)
    assert not interval.covers(0.859)
    assert interval.level == 0.95
    with pytest.raises(AttributeError):
        interval.low = 0


@pytest.mark.parametrize("metric", [sk.average_precision_score, sk.roc_auc_score])
@settings(max_examples=50)
@given(data=scored(), other=st.data())
def test_collapsed_cells_give_the_metric_of_the_rows_for_any_weights(metric, data, other):
    y, a = data
    b = np.array(other.draw(st.lists(SCORES, min_size=len(y), max_size=len(y))))
    weights = np.array(other.draw(st.lists(st.integers(0, 3), min_size=len(y), max_size=len(y))))
    weights[[y.argmax(), y.argmin()]] += 1  # both classes are drawn
    fast, (labels, *ranks) = m._cheapest(metric, [y, a, b])
    rows = pd.DataFrame({"y": labels, "a": ranks[0], "b": ranks[1], "n": weights})
    cells = rows.groupby(["y", "a", "b"], as_index=False)["n"].sum()
    for score, name in ((a, "a"), (b, "b")):
        on_rows = metric(y, score, sample_weight=weights)
        assert metric(cells["y"], -cells[name], sample_weight=cells["n"]) == pytest.approx(on_rows, abs=1e-12)
        on_cells = fast(cells["y"].to_numpy(), cells[name].to_numpy(), sample_weight=cells["n"].to_numpy())
        assert on_cells == pytest.approx(on_rows, abs=1e-12)


@pytest.mark.parametrize("metric", [sk.average_precision_score, sk.roc_auc_score])
def test_the_collapsed_bootstrap_is_the_plain_one_draw_by_draw(metric):
    """Against a loop that draws rows and asks scikit-learn, with ties and draws without a positive."""
    y, a, b = fraud(n=200, positives=4)
    a = a.round(1)
    rng, differences = np.random.default_rng(3), []
    for _ in range(300):
        rows = rng.integers(len(y), size=len(y))
        if y[rows].any():
            differences.append(metric(y[rows], a[rows]) - metric(y[rows], b[rows]))
    interval = m.paired_bootstrap_interval(metric, y, a, b, n_resamples=300, seed=3)
    assert len(differences) < 300
    assert interval.estimate == metric(y, a) - metric(y, b)
    assert (interval.low, interval.high) == pytest.approx(
        tuple(np.quantile(differences, [0.025, 0.975])), abs=1e-12
    )


@pytest.mark.parametrize("metric", [sk.average_precision_score, sk.roc_auc_score, sk.brier_score_loss])
def test_whole_units_are_drawn_as_a_loop_over_users_draws_them(metric):
    """A naive cluster bootstrap: draw users, put their rows one below the other, ask scikit-learn."""
    y, a, b = fraud(n=400, positives=90)
    a, b = 1 / (1 + np.exp(-a.round(1))), 1 / (1 + np.exp(-b))
    user = np.random.default_rng(1).permutation(
        np.repeat(["ann", "bob", "cy", "di", "eve"], [5, 15, 80, 100, 200])
    )
    of_user = [np.flatnonzero(user == name) for name in np.unique(user)]
    rng, values, differences = np.random.default_rng(3), [], []
    for _ in range(200):
        rows = np.concatenate([of_user[i] for i in rng.integers(5, size=5)])
        values.append(metric(y[rows], a[rows]))
        differences.append(values[-1] - metric(y[rows], b[rows]))
    keywords = {"unit": user, "n_resamples": 200, "seed": 3}
    single, paired = (
        m.bootstrap_interval(metric, y, a, **keywords),
        m.paired_bootstrap_interval(metric, y, a, b, **keywords),
    )
    assert single.estimate == metric(y, a)
    for interval, draws in ((single, values), (paired, differences)):
        expected = tuple(np.quantile(draws, [0.025, 0.975]))
        assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12)


def test_rows_of_their_own_units_are_drawn_as_rows():
    y, a, b = (column[:2000] for column in fraud())
    alone = m.paired_bootstrap_interval(sk.roc_auc_score, y, a, b, unit=np.arange(2000), n_resamples=50)
    assert alone == m.paired_bootstrap_interval(sk.roc_auc_score, y, a, b, n_resamples=50)


def test_the_interval_of_a_mean_draws_the_same_units():
    rng = np.random.default_rng(0)
    unit, values = rng.integers(40, size=500), rng.exponential(size=500)
    direct = m.bootstrap_interval(mean, values, unit=unit, n_resamples=100)
    grouped = m.mean_interval(values, unit, n_resamples=100)
    assert (direct.low, direct.high) == pytest.approx((grouped.low, grouped.high))


def fraud(n: int = 20_000, positives: int = 100) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, a score, and a second score that errs on the same rows."""
    rng = np.random.default_rng(7)
    y = np.arange(n) < positives
    a = rng.normal(size=n) + 2 * y
    return y, a, a + 0.5 * rng.normal(size=n)


def test_a_hundred_positives_collapse_to_two_hundred_cells():
    y, a, _ = fraud()
    _, columns = m._cheapest(sk.roc_auc_score, [y, a])
    cells, cell_of_row = m._cells(columns)
    assert len(cells[0]) <= 2 * 100 + 1
    for cell, column in zip(cells, columns, strict=True):
        np.testing.assert_array_equal(cell[cell_of_row], column)


@pytest.mark.parametrize("sizes", [[3, 5, 92], [1, 1, 2, 1]])
def test_resampled_counts_are_multinomial(sizes):
    cell_of_row, rng = np.repeat(np.arange(len(sizes)), sizes), np.random.default_rng(0)
    counts = np.array([m._resample(rng, cell_of_row) for _ in range(20_000)])
    law = stats.multinomial(sum(sizes), np.array(sizes) / sum(sizes))
    np.testing.assert_allclose(counts.mean(axis=0), sizes, atol=0.1)
    np.testing.assert_allclose(np.cov(counts.T), law.cov(), atol=0.25)
    assert (counts.sum(axis=1) == sum(sizes)).all()


def delong(y: np.ndarray, scores: list[np.ndarray]) -> np.ndarray:
    """Covariance of the ROC-AUCs of several scores on the same rows (DeLong et al. 1988)."""
    wins = np.array([(np.sign(s[y][:, None] - s[~y]) + 1) / 2 for s in scores])
    of_positives, of_negatives = wins.mean(axis=2), wins.mean(axis=1)
    return np.cov(of_positives) / y.sum() + np.cov(of_negatives) / (~y).sum()


def test_intervals_of_roc_auc_agree_with_the_closed_form_of_delong():
    y, a, b = fraud()
    covariance = delong(y, [a, b])
    single = m.bootstrap_interval(sk.roc_auc_score, y, a, n_resamples=2000)
    assert single.estimate == sk.roc_auc_score(y, a)
    assert single.high - single.low == pytest.approx(2 * 1.96 * np.sqrt(covariance[0, 0]), rel=0.08)
    paired = m.paired_bootstrap_interval(sk.roc_auc_score, y, a, b, n_resamples=2000)
    sd = np.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    assert paired.estimate == pytest.approx(sk.roc_auc_score(y, a) - sk.roc_auc_score(y, b))
    assert paired.high - paired.low == pytest.approx(2 * 1.96 * sd, rel=0.08)
    assert paired.high - paired.low < 0.8 * (single.high - single.low)


@pytest.mark.parametrize(("hits", "n"), [(30, 100), (3, 2000)])
def test_the_interval_of_a_share_is_that_of_the_binomial(hits, n):
    interval = m.bootstrap_interval(mean, np.arange(n) < hits, n_resamples=20_000, level=0.9)
    exact = stats.binom(n, hits / n).ppf([0.05, 0.95]) / n
    assert interval.estimate == pytest.approx(hits / n)
    assert (interval.low, interval.high) == pytest.approx(tuple(exact), abs=1.01 / n)


def test_intervals_cover_a_known_mean_as_often_as_they_say():
    rng = np.random.default_rng(0)
    intervals = [
        m.bootstrap_interval(mean, rng.exponential(2, 150), n_resamples=150, level=0.8, seed=seed)
        for seed in range(250)
    ]
    assert np.mean([interval.covers(2) for interval in intervals]) == pytest.approx(0.8, abs=0.05)


def test_per_query_values_have_an_interval_too():
    values = m.ndcg_at_k(np.random.default_rng(0).integers(0, 3, (3000, 5)), 5)
    values = values[~np.isnan(values)]
    interval = m.bootstrap_interval(mean, values)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert (interval.low, interval.high) == pytest.approx(
        (values.mean() - half, values.mean() + half), rel=0.001
    )


def test_the_same_seed_gives_the_same_interval_and_only_the_order_of_the_scores_matters():
    y, a, b = (column[:3000] for column in fraud())
    metric = sk.average_precision_score
    first = m.paired_bootstrap_interval(metric, y, a, b, n_resamples=50)
    assert first == m.paired_bootstrap_interval(metric, y, np.exp(a), b, n_resamples=50)
    other = m.paired_bootstrap_interval(metric, y, a, b, n_resamples=50, seed=1)
    assert (other.low, other.high) != (first.low, first.high)


def test_a_model_does_not_differ_from_itself():
    y, a, _ = (column[:3000] for column in fraud())
    assert m.paired_bootstrap_interval(sk.roc_auc_score, y, a, a, n_resamples=20) == m.Interval(0, 0, 0)


def test_resamples_without_a_positive_are_skipped():
    y = np.arange(50) == 10
    interval = m.bootstrap_interval(sk.roc_auc_score, y, np.arange(50))
    assert 0 < interval.low < interval.estimate < interval.high < 1
    assert interval.estimate == pytest.approx(10 / 49)


def test_a_metric_that_is_mostly_undefined_is_refused():
    def undefined(values, sample_weight):
        return 1.0 if (sample_weight == 1).all() else NAN

    with pytest.raises(ValueError, match="undefined"):
        m.bootstrap_interval(undefined, np.arange(9))


@given(st.integers(1, 300), st.data())
def test_proportion_interval_is_wilson_and_holds_its_estimate(n, data):
    successes = data.draw(st.integers(0, n))
    interval = m.proportion_interval(successes, n, level=0.9)
    wilson = stats.binomtest(successes, n).proportion_ci(0.9, method="wilson")
    assert (interval.low, interval.high) == pytest.approx((wilson.low, wilson.high))
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert (interval.estimate, interval.level) == (successes / n, 0.9)


@given(st.floats(0.1, 10), st.floats(0.005, 0.3), st.floats(0.001, 0.1), st.floats(0.7, 0.99))
def test_sample_size_agrees_with_the_two_sided_power_of_statsmodels(sd, effect, alpha, power):
    n = m.sample_size_per_arm(sd, effect * sd, alpha, power)
    reached = [NormalIndPower().power(effect, size, alpha) for size in (n - 1, n)]
    assert reached[0] < power + 1e-3
    assert reached[1] >= power - 1e-9


def test_sample_sizes_of_the_usual_rates():
    z = stats.norm.ppf(0.975) + stats.norm.ppf(0.8)
    assert m.sample_size_for_rate(0.05, 0.01) == math.ceil(2 * z**2 * 0.05 * 0.95 / 0.0005**2) == 2_982_575
    assert m.sample_size_for_rate(0.03, 0.02) == pytest.approx(1.28e6, rel=0.02)
    assert m.sample_size_per_arm(1, 100) == 1
    assert m.sample_size_per_arm(10, 1) == pytest.approx(16 * 100, rel=0.02)


# -------------------------------------------------------------------- bad input

Y, S, P = [0, 1, 1, 0], [0.1, 0.7, 0.4, 0.2], [0.1, 0.7, 0.4, 0.2]
AP, G = sk.average_precision_score, [[1, 0, 2], [0, 1, 0]]


def unscored(function: Callable, *more: object, values: str = "y_score", **options: object) -> list[tuple]:
    """The bad inputs that every function of labels and scores must refuse."""
    calls = [
        (Y[:3], S, "lengths"),
        ([], [], "y_true is empty"),
        ([0, 1, 2, 1], S, "y_true must hold only 0 and 1"),
        ([-1, 1, 1, -1], S, "y_true must hold only 0 and 1"),
        ([0, 1, NAN, 1], S, "y_true contains NaN"),
        (["no", "yes", "yes", "no"], S, "y_true must hold numbers"),
        ([[0, 1], [1, 0]], S, "y_true must have 1 dimension"),
        (Y, [0.1, NAN, 0.2, 0.3], f"{values} contains NaN"),
        (Y, [0.1, INF, 0.2, 0.3], f"{values} contains NaN or infinity"),
        (Y, [[0.1, 0.9]] * 4, f"{values} must have 1 dimension"),
    ]
    if values == "y_prob":
        calls += [
            (Y, [0.1, 1.2, 0.2, 0.3], "y_prob must lie in"),
            (Y, [0.1, -0.2, 0.2, 0.3], "y_prob must lie"),
        ]
    return [(function, (y, score, *more), options, match) for y, score, match in calls]


def unranked(function: Callable, *more: object) -> list[tuple]:
    """The bad inputs that every function of graded lists must refuse."""
    calls = [
        ([1, 0, 1], "relevance must have 2 dimension"),
        ([[1, 0], [1]], "rows of equal length"),
        ([[]], "relevance is empty"),
        ([[1, -1]], "relevance must lie in"),
        ([[1, NAN]], "relevance contains NaN"),
    ]
    return [(function, (grades, *more), {}, match) for grades, match in calls]


def bad_k(function: Callable, *before: object, name: str = "k", values: tuple = (0, -1, 1.5, True)) -> list:
    """The bad counts that every function of a count must refuse."""
    return [(function, (*before, value), {}, f"{name} must be an integer") for value in values]


def one_class(function: Callable, *more: object, classes: tuple = (0, 1), **options: object) -> list[tuple]:
    """Labels of one class only, where both are needed."""
    names = {0: "positive", 1: "negative"}
    return [(function, ([c] * 4, S, *more), options, f"y_true holds no {names[c]}") for c in classes]


# ------------------------------------------------------- distributions: drift and exposure


def test_psi_without_drift_is_what_its_null_expectation_says():
    rng = np.random.default_rng(0)
    values = [m.population_stability_index(rng.normal(size=500), rng.normal(size=300)) for _ in range(300)]
    assert np.mean(values) == pytest.approx(9 * (1 / 500 + 1 / 300), rel=0.15)


def test_psi_is_the_sum_by_hand_symmetric_and_sees_gaps():
    a, b = [1.0, 1.0, 2.0, NAN], [1.0, 2.0, 2.0, 2.0]
    e, c = np.array([2.5, 1.5, 1.5]) / 5.5, np.array([1.5, 3.5, 0.5]) / 5.5
    by_hand = ((c - e) * np.log(c / e)).sum()
    edges = [0.5, 1.5, 2.5]
    assert m.population_stability_index(a, b, edges) == pytest.approx(by_hand)
    assert m.population_stability_index(b, a, edges) == pytest.approx(by_hand)
    assert m.population_stability_index(a, a, edges) == 0
    assert m.population_stability_index(a, [NAN] * 9) > 1, "a column that went missing is drift"


@given(st.lists(st.integers(0, 50), min_size=1, max_size=30).filter(any))
def test_gini_is_the_mean_difference_over_twice_the_mean(counts):
    x = np.array(counts, float)
    by_pairs = np.abs(x[:, None] - x).mean() / (2 * x.mean())
    assert m.gini(counts) == pytest.approx(by_pairs)
    assert -1e-12 <= m.gini(counts) < 1


BAD_CALLS = [
    (m.population_stability_index, ([NAN, NAN], [1.0]), {}, "expected holds no number"),
    (m.population_stability_index, ([1.0], [np.inf]), {}, "actual is empty, or holds infinity"),
    (m.population_stability_index, ([1.0], [1.0]), {"edges": [0]}, "at least two"),
    (m.gini, ([-1, 2],), {}, "counts"),
    (m.gini, ([0, 0],), {}, "all zero"),
    *unscored(m.decision_table),
    *one_class(m.decision_table),
    (m.decision_table, (Y, S, [0.1, NAN]), {}, "thresholds contains NaN"),
    (m.decision_table, (Y, S, []), {}, "thresholds is empty"),
    (m.decision_table, (Y, S), {"cost_fp": -1}, "cost_fp must lie in"),
    (m.decision_table, (Y, S), {"cost_fn": -1}, "cost_fn must lie in"),
    (m.decision_table, (Y, S), {"amount": [1, 2, 3]}, "lengths"),
    (m.decision_table, (Y, S), {"amount": [1, 2, 3, -4]}, "amount must lie in"),
    (m.decision_table, (Y, S), {"beta": 0}, "beta must be greater than 0"),
    *unscored(m.decision_at, 0.5),
    *one_class(m.decision_at, 0.5),
    (m.decision_at, (Y, S, NAN), {}, "thresholds contains NaN"),
    (m.precision_at_prevalence, (1.1, 0.1, 0.1), {}, "recall must lie in"),
    (m.precision_at_prevalence, (0.1, -0.1, 0.1), {}, "fpr must lie in"),
    (m.precision_at_prevalence, (0.1, 0.1, 17), {}, "prevalence must lie in"),
    *unscored(m.at_budget, 2),
    *one_class(m.at_budget, 2, classes=(0,)),
    *bad_k(m.at_budget, Y, S, name="budget", values=(0, 5, 1.5)),
    (m.cost_threshold, (-1, 2), {}, "cost_fp must lie in"),
    (m.cost_threshold, (1, -2), {}, "cost_fn must lie in"),
    (m.cost_threshold, (0, 0), {}, "cost_fp . cost_fn must be greater than 0"),
    (m.amount_threshold, ([1, -2], 2), {}, "amount must lie in"),
    (m.amount_threshold, ([1, 2], 0), {}, "cost_fp must be greater than 0"),
    (m.decision_cost, (Y, [1, 0, 1]), {"cost_fp": 1}, "lengths"),
    (m.decision_cost, (Y, S), {"cost_fp": 1}, "flagged must hold only 0 and 1"),
    (m.decision_cost, (S, Y), {"cost_fp": 1}, "y_true must hold only 0 and 1"),
    (m.decision_cost, (Y, Y), {"cost_fp": -1}, "cost_fp must lie in"),
    (m.decision_cost, (Y, Y), {"cost_fp": 1, "cost_fn": -1}, "cost_fn must lie in"),
    (m.decision_cost, (Y, Y), {"cost_fp": 1, "amount": [1]}, "lengths"),
    *unscored(m.best_threshold, cost_fp=1),
    *one_class(m.best_threshold, cost_fp=1),
    (m.best_threshold, (Y, S), {"cost_fp": -1}, "cost_fp must lie in"),
    *unranked(m.ranked, [[1, 2]]),
    (m.ranked, (G, [[1, 2, 3]]), {}, "scores \\(1, 3\\): they must be equal"),
    (m.ranked, ([[1, 2]], [[1, NAN]]), {}, "scores contains NaN"),
    (m.ranked, (G, G), {"ties": "first"}, "ties must be one of worst, best, random"),
    *unranked(m.precision_at_k, 2),
    *bad_k(m.precision_at_k, G),
    *unranked(m.recall_at_k, 2),
    *bad_k(m.recall_at_k, G),
    (m.recall_at_k, (G, 2, [1, 1]), {}, "n_relevant is below"),
    (m.recall_at_k, (G, 2, [2]), {}, "lengths"),
    *unranked(m.reciprocal_rank),
    *bad_k(m.reciprocal_rank, G),
    *unranked(m.average_precision_at_k, 2),
    *bad_k(m.average_precision_at_k, G),
    (m.average_precision_at_k, (G, 2, [1, 1]), {}, "n_relevant is below"),
    *unranked(m.ndcg_at_k, 2),
    *bad_k(m.ndcg_at_k, G),
    (m.ndcg_at_k, (G, 2), {"gain": "cubic"}, "gain must be one of linear, exponential"),
    (m.ndcg_at_k, ([[3000, 0]], 2), {"gain": "exponential"}, "relevance must lie in \\[0, 50\\]"),
    (m.ndcg_at_k, (G, 2), {"ideal": [[2, 1, 0], [0, 0, 0]]}, "ideal is worse than the list"),
    (m.ndcg_at_k, (G, 2), {"ideal": [[1, 2, 0]]}, "lengths"),
    (m.ndcg_at_k, (G, 2), {"ideal": [[1, -2], [1, 0]]}, "ideal must lie in"),
    *unscored(m.query_auc, [1, 1, 1, 1]),
    *((m.query_auc, ([c] * 4, S, [1, 1, 2, 2]), {}, "No query has both") for c in (0, 1)),
    (m.query_auc, (Y, S, [1, 1, 2]), {}, "lengths"),
    (m.query_auc, (Y, S, ["a", "a", None, "b"]), {}, "query contains missing values"),
    *unscored(m.reliability_table, values="y_prob"),
    *bad_k(m.reliability_table, Y, P, name="bins"),
    (m.reliability_table, (Y, P, 3, "equal"), {}, "strategy must be one of quantile, uniform"),
    *unscored(m.expected_calibration_error, values="y_prob"),
    *bad_k(m.expected_calibration_error, Y, P, name="bins"),
    (m.ece_null_expectation, ([0.1, 1.1],), {}, "y_prob must lie in"),
    (m.ece_null_expectation, ([],), {}, "y_prob is empty"),
    *bad_k(m.ece_null_expectation, P, name="bins"),
    *unscored(m.calibration_ratio, values="y_prob"),
    *one_class(m.calibration_ratio, classes=(0,)),
    *unscored(m.normalized_entropy, values="y_prob"),
    *one_class(m.normalized_entropy),
    (m.undo_downsampling, ([0.1, 1.1], 0.5), {}, "y_prob must lie in"),
    (m.undo_downsampling, (P, 0), {}, "keep_rate must be greater than 0"),
    (m.undo_downsampling, (P, 5), {}, "keep_rate must lie in"),
    (m.change_prior, ([0.1, NAN], 0.5, 0.5), {}, "y_prob contains NaN"),
    (m.change_prior, (P, 0, 0.5), {}, "prior_from must be greater than 0"),
    (m.change_prior, (P, 0.5, 1), {}, "prior_to must be greater than 0 and less than 1"),
    *(
        (m.bootstrap_interval, (AP, y, S), {}, match)
        for y, match in [([0] * 4, "no positive"), ([1] * 4, "no neg")]
    ),
    (m.bootstrap_interval, (AP, Y, S[:3]), {}, "lengths"),
    (m.bootstrap_interval, (AP, [0, 1, 2, 1], S), {}, "y_true must hold only 0 and 1"),
    (m.bootstrap_interval, (mean, S), {"unit": [1, 2]}, "one unit a row: 4 rows, but its shape is"),
    (m.bootstrap_interval, (mean, S), {"unit": [7] * 4}, "unit names a single unit"),
    (m.paired_bootstrap_interval, (AP, Y, S, S), {"unit": [[1, 2, 3, 4]]}, "one unit a row"),
    (m.bootstrap_interval, (mean, [1, NAN]), {}, "columns\\[0\\] contains NaN"),
    (m.bootstrap_interval, (mean, S), {"n_resamples": 0}, "n_resamples must be an integer"),
    (m.bootstrap_interval, (mean, S), {"level": 95}, "level must be greater than 0 and less than 1"),
    (m.mean_interval, ([1, NAN],), {}, "values contains NaN"),
    (m.mean_interval, (S, [1, 2]), {}, "one unit a row"),
    (m.mean_interval, ([1],), {}, "values holds a single number"),
    (m.mean_interval, (S, ["a", None, "b", "b"]), {}, "unit has missing values"),
    (m.mean_interval, (S, [1, NAN, NAN, 2]), {}, "unit has missing values"),
    (m.paired_bootstrap_interval, (AP, Y, S, S[:3]), {}, "lengths"),
    (m.paired_bootstrap_interval, (AP, [0] * 4, S, S), {}, "y_true holds no positive"),
    (m.paired_bootstrap_interval, (AP, Y, S, [0.1, NAN, 0.2, 0.3]), {}, "score_b contains NaN"),
    (m.paired_bootstrap_interval, (AP, Y, [], S), {}, "score_a is empty"),
    (m.proportion_interval, (5, 4), {}, "successes is 5, more than n = 4"),
    (m.proportion_interval, (-1, 4), {}, "successes must lie in"),
    *bad_k(m.proportion_interval, 0, name="n"),
    (m.proportion_interval, (1, 4, 95), {}, "level must be greater than 0"),
    (m.sample_size_per_arm, (0, 1), {}, "sd must be greater than 0"),
    (m.sample_size_per_arm, (1, 0), {}, "difference must be greater than 0"),
    (m.sample_size_per_arm, (1, 1, 5), {}, "alpha must be greater than 0 and less than 1"),
    (m.sample_size_per_arm, (1, 1, 0.05, 80), {}, "power must be greater than 0 and less than 1"),
    (m.sample_size_for_rate, (5, 0.01), {}, "rate must be greater than 0 and less than 1"),
    (m.sample_size_for_rate, (0.5, 1.5), {}, "relative_lift must be greater than 0 and less than 1"),
    (m.sample_size_for_rate, (0.5, -0.1), {}, "relative_lift must be greater than 0"),
]


@pytest.mark.parametrize(("function", "arguments", "options", "match"), BAD_CALLS)
def test_bad_input_gets_an_error_that_names_the_argument(function, arguments, options, match):
    with pytest.raises(ValueError, match=match):
        function(*arguments, **options)


def test_every_public_function_is_in_the_table_of_bad_inputs():
    public = {
        function
        for name, function in inspect.getmembers(m, inspect.isfunction)
        if function.__module__ == m.__name__ and not name.startswith("_")
    }
    assert public == {function for function, *_ in BAD_CALLS}


def test_the_interval_of_a_mean_is_that_of_the_normal_theory():
    values = np.random.default_rng(0).exponential(size=2000)
    interval, error = m.mean_interval(values), values.std() / np.sqrt(2000)
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_the_interval_of_a_mean_passes_its_settings_on():
    values = np.arange(50)
    assert m.mean_interval(values, level=0.5).low > m.mean_interval(values, level=0.99).low


def test_rows_that_belong_together_are_drawn_together():
    unit = np.repeat(np.arange(100), 20)
    values = np.random.default_rng(0).normal(size=100)[unit]  # 20 copies: 100 observations, not 2,000
    together = m.mean_interval(values, unit)
    error = values[::20].std() / 10
    assert together.estimate == pytest.approx(values.mean())
    assert together.high - together.low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert m.mean_interval(values).high < together.high
