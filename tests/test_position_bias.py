"""Position bias: each way finds the examination of the simulator, and says so when it cannot."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from helpers.position_bias import (
    PositionFeature,
    debiased_rows,
    effective_sample_size,
    from_click_rates,
    from_interventions,
    from_random_sliver,
    from_swaps,
    inverse_propensity_weights,
    mixed,
    positions_under,
    swapped,
)
from helpers.simulator import Platform, popular_policy, random_policy, score_policy

DAYS = range(1, 4)
HALVES = np.array([1.0, 0.5, 0.25])  # theta of the logs that are counted out by hand


def counted(*cells):
    """A log out of (context, position, rows, clicks, propensity), each row of its own user and request."""
    parts = [
        pd.DataFrame(
            {"context": x, "position": k, "propensity": p, "clicked": np.arange(rows) < clicks}, range(rows)
        )
        for x, k, rows, clicks, p in cells
    ]
    log = pd.concat(parts, ignore_index=True)
    return log.assign(user_id=log.index, request_id=log.index)


@pytest.fixture(scope="module")
def platform():
    return Platform(n_users=2000, n_videos=1000, n_creators=100, seed=3)


@pytest.fixture(scope="module")
def popular(platform):
    return popular_policy(platform.simulate(random_policy(), 1), platform.n_videos)


@pytest.fixture(scope="module")
def personal(platform):
    """Knows what each user likes, though not the mood."""
    return score_policy(
        lambda requests, videos: platform.true_click_probability(
            requests["user_id"].to_numpy()[:, None], videos
        )
    )


@pytest.fixture(scope="module")
def popular_log(platform, popular):
    return platform.simulate(popular, DAYS)


def bias(table, platform):
    """The mean of log(estimate / truth) over the positions below the first."""
    return np.log(table["theta"] / platform.examination_curve)[1:].mean()


def covered(table, platform):
    return (
        (table["low"] <= platform.examination_curve) & (platform.examination_curve <= table["high"])
    ).sum()


def is_right(table, platform):
    assert list(table.index) == list(range(1, platform.n_slots + 1))
    assert (table.loc[1] == 1).all() and (table["low"] <= table["theta"]).all()
    return abs(bias(table, platform)) < 0.08 and covered(table, platform) >= 8


# ---------------------------------------------------------------- against the truth of the simulator


def test_click_rates_of_a_ranker_are_too_steep(platform, popular_log):
    table = from_click_rates(popular_log)
    assert bias(table, platform) < -0.2 and covered(table, platform) <= 3


def test_a_random_sliver_finds_theta(platform):
    log = platform.simulate(random_policy(5), DAYS)
    assert is_right(from_random_sliver(log), platform)
    pd.testing.assert_frame_equal(from_random_sliver(log, 20), from_click_rates(log, 20))


def test_a_ranker_that_explores_is_a_random_sliver_once_weighed(platform, popular_log):
    exploring = popular_policy(popular_log, platform.n_videos, epsilon=0.3)
    log = platform.simulate(exploring, DAYS)
    assert is_right(from_random_sliver(log), platform)
    assert bias(from_click_rates(log), platform) < -0.2


def test_swaps_find_theta_under_a_personal_ranker(platform, personal):
    assert is_right(from_swaps(platform.simulate(swapped(personal, 0.4, 10), DAYS)), platform)


def test_rankers_that_disagree_find_theta(platform, popular, personal):
    log = platform.simulate(mixed([popular, personal]), DAYS)
    context = np.column_stack([positions_under(policy, platform, log) for policy in (popular, personal)])
    assert is_right(from_interventions(log, context), platform)
    assert bias(from_interventions(log, context[:, 0]), platform) < -0.2, "half of the context is not enough"


def test_the_video_is_context_enough_for_a_ranker_that_knows_no_user_alone(platform, popular_log, personal):
    assert is_right(from_interventions(popular_log, popular_log["video_id"]), platform)
    log = platform.simulate(personal, DAYS)
    naive, harvested = from_click_rates(log), from_interventions(log, log["video_id"])
    assert bias(harvested, platform) < -0.5
    assert bias(harvested, platform) == pytest.approx(bias(naive, platform), abs=0.1), "as wrong as the naive"


# ---------------------------------------------------------------- counted out by hand


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from([0, 4, 8]), *[st.integers(0, 2)] * 3), max_size=4))
def test_clicks_in_exact_proportion_give_theta_exactly(contexts):
    contexts.append((8, 1, 1, 1))  # one that is at every position
    cells = [
        (x, k + 1, 16 * times, int(times * relevance * HALVES[k]), 1.0)
        for x, (relevance, *seen) in enumerate(contexts)
        for k, times in enumerate(seen)
    ]
    log = counted(*cells)
    table = from_interventions(log, log["context"].astype(str), n_resamples=5)
    np.testing.assert_allclose(table["theta"], HALVES, rtol=1e-5)


def test_positions_may_be_connected_in_a_chain_of_contexts():
    log = counted(("a", 1, 80, 40, 1), ("a", 2, 20, 5, 1), ("b", 2, 40, 16, 1), ("b", 3, 40, 8, 1))
    np.testing.assert_allclose(from_interventions(log, log["context"])["theta"], HALVES, rtol=1e-5)


def test_every_row_stands_for_all_that_might_have_been_there():
    # Two videos of relevance 1/2 and 1/4, theta 1 and 1/2; the better one is first with probability 3/4.
    log = counted(
        (0, 1, 48, 24, 0.75), (0, 2, 48, 6, 0.75), (0, 1, 16, 4, 0.25), (0, 2, 16, 4, 0.25)
    )  # fmt: skip
    assert from_random_sliver(log)["theta"][2] == pytest.approx(0.5)
    assert from_click_rates(log)["theta"][2] == pytest.approx(10 / 28)


def swap_log():
    """16 + 80 + 4 requests: swapped 1-2, not swapped, swapped 1-3; relevances 1/2, 1/4, 1/4."""
    clicks = {"12": (4, 4, 1), "none": (40, 10, 5), "13": (1, 0.5, 0.5)}
    moved = {"12": (0.1, 0.1, 0.9), "none": (0.8, 0.9, 0.9), "13": (0.1, 0.9, 0.1)}
    parts = []
    for start, (name, n) in zip((0, 16, 96), (("12", 16), ("none", 80), ("13", 4)), strict=True):
        for k in range(3):
            clicked = np.arange(4 * n) < 4 * clicks[name][k]
            rows = {"position": k + 1, "propensity": moved[name][k], "clicked": clicked}
            parts.append(pd.DataFrame(rows, range(4 * n)).assign(request_id=4 * start + np.arange(4 * n)))
    log = pd.concat(parts, ignore_index=True)
    return log.assign(user_id=log["request_id"])


def test_a_swap_compares_a_video_with_itself():
    np.testing.assert_allclose(from_swaps(swap_log())["theta"], HALVES, rtol=1e-5)


def test_two_slots_that_swap_nearly_every_second_time_are_told_apart():
    # 110 lists as ranked, then 90 swapped.
    log = counted((1, 1, 110, 55, 0.55), (2, 2, 110, 11, 0.55), (2, 1, 90, 18, 0.45), (1, 2, 90, 22, 0.45))
    request = np.concatenate([np.arange(110), np.arange(110), *[np.arange(110, 200)] * 2])
    log = log.assign(request_id=request, user_id=request)
    pd.testing.assert_frame_equal(from_swaps(log), from_interventions(log, log["context"]))


@pytest.mark.parametrize(
    "damage",
    [
        lambda log: log[log["position"] != 1],
        lambda log: log.assign(propensity=1.0),
        lambda log: log.assign(propensity=0.02),
        lambda log: log.drop(index=log.index[log["propensity"] < 0.5][-1]),
        lambda log: log.assign(position=log["position"] + 1),
    ],
    ids=["no top", "no swaps", "random", "a lost row", "another pair"],
)
def test_what_is_no_log_of_swaps_is_refused(damage):
    with pytest.raises(ValueError, match="no log of swaps"):
        from_swaps(damage(swap_log()))


def test_the_rows_of_one_user_count_as_one_draw():
    log = counted(("a", 1, 100, 50, 0.5), ("a", 2, 100, 25, 0.5))
    same_users, new_users = (
        pd.concat([log, log.assign(user_id=log["user_id"] + more)]) for more in (0, len(log))
    )
    width = {
        name: np.subtract(*from_click_rates(rows, 100).loc[2, ["high", "low"]])
        for name, rows in (("once", log), ("same", same_users), ("new", new_users))
    }
    assert width["same"] == pytest.approx(width["once"])
    assert width["new"] < 0.85 * width["once"]


def test_the_interval_is_as_wide_as_the_theory_of_large_samples_says():
    log = counted(("a", 1, 1000, 500, 0.5), ("a", 2, 1000, 250, 0.5))
    low, high = np.log(from_click_rates(log, n_resamples=500).loc[2, ["low", "high"]])
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(1 / 500 - 1 / 1000 + 1 / 250 - 1 / 1000), rel=0.1)


def test_a_seed_gives_the_same_interval_and_another_one_not():
    log = counted(("a", 1, 100, 50, 0.5), ("a", 2, 100, 25, 0.5))
    one, again, other = (from_click_rates(log, 50, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(one, again)
    assert one["low"][2] != other["low"][2]


GOOD = counted(("a", 1, 20, 10, 0.5), ("a", 2, 20, 5, 0.5))


@pytest.mark.parametrize(
    ("log", "message"),
    [
        (GOOD.drop(columns=["clicked", "user_id"]), "lacks clicked, user_id"),
        (GOOD.head(0), "reach 2"),
        (GOOD.assign(position=1), "reach 2"),
        (GOOD.assign(position=GOOD["position"] - 1), "count 1, 2"),
        (GOOD.assign(position=GOOD["position"] + 0.5), "count 1, 2"),
        (GOOD.assign(clicked=2), "other than 0 and 1"),
        (GOOD.assign(user_id=np.nan), "missing values"),
        (GOOD.assign(user_id=7), "single user"),
        (GOOD.assign(clicked=GOOD["position"] == 1), "connects"),
        (GOOD.assign(position=GOOD["position"].replace(2, 3)), "connects"),
    ],
    ids=str,
)
def test_a_log_that_cannot_answer_is_refused(log, message):
    for way in (
        from_click_rates,
        from_random_sliver,
        lambda log: from_interventions(log, np.zeros(len(log))),
    ):
        with pytest.raises(ValueError, match=message):
            way(log)


def test_positions_without_a_common_context_are_refused():
    with pytest.raises(ValueError, match="wider contexts"):
        from_interventions(GOOD, GOOD["position"])


def test_too_few_clicks_for_an_interval_are_refused():
    with pytest.raises(ValueError, match="Most resamples"):
        from_click_rates(counted(("a", 1, 1, 1, 0.5), ("a", 2, 1, 1, 0.5), ("a", 2, 30, 0, 0.5)))


@pytest.mark.parametrize("context", [np.zeros(3), np.full(len(GOOD), np.nan), 0], ids=["short", "nan", "one"])
def test_a_context_that_does_not_fit_is_refused(context):
    with pytest.raises(ValueError, match="one context for each of the 40 rows"):
        from_interventions(GOOD, context)


def test_certainty_is_no_random_sliver():
    with pytest.raises(ValueError, match="at 1 nothing was left to chance"):
        from_random_sliver(GOOD.assign(propensity=1.0))


def test_no_resample_is_refused():
    with pytest.raises(ValueError, match="n_resamples"):
        from_click_rates(GOOD, n_resamples=0)


# ---------------------------------------------------------------- policies that intervene


def by_id(requests, candidates):
    return score_policy(np.arange(100.0))(requests, candidates)


def by_falling_id(requests, candidates):
    return score_policy(-np.arange(100.0))(requests, candidates)


def outcomes(policy, n=4, requests=40_000):
    """Each (position, video) that a policy showed, its only propensity, and how often it was shown."""
    frame = pd.DataFrame({"request_id": np.arange(requests), "user_id": 0})
    ranked, propensity = policy(frame, np.tile(np.arange(n), (requests, 1)))
    assert (np.sort(ranked, axis=1) == np.arange(n)).all(), "each candidate once"
    rows = {"position": np.tile(np.arange(1, n + 1), requests), "video": ranked.ravel()}
    groups = pd.DataFrame({**rows, "propensity": propensity.ravel()}).groupby(["position", "video"])[
        "propensity"
    ]
    table = groups.agg(["mean", "std", "size"])
    assert (table["std"] < 1e-9).all(), "one propensity for each video and position"
    return table.assign(share=table["size"] / requests)


@pytest.mark.parametrize(
    "policy",
    [swapped(by_id, 0.3, 3), swapped(by_id, 0.45, 2, seed=7), mixed([by_id, by_falling_id, by_id])],
    ids=["swapped", "two slots", "mixed"],
)
def test_propensities_are_how_often_it_happens(policy):
    table = outcomes(policy)
    np.testing.assert_allclose(table.groupby("position")["mean"].sum(), 1)
    np.testing.assert_allclose(table["mean"], table["share"], atol=0.01)


def test_another_seed_swaps_other_requests_with_other_positions():
    frame, videos = pd.DataFrame({"request_id": np.arange(1000)}), np.tile(np.arange(10), (1000, 1))
    tops = [swapped(by_id, 0.4, 10, seed)(frame, videos)[0][:, 0] for seed in (0, 1)]
    swaps = [top != 9 for top in tops]
    both = swaps[0] & swaps[1]
    assert 0.1 < both.mean() < 0.22 and (tops[0] == tops[1])[both].mean() < 0.25


def test_a_swap_changes_the_first_and_one_other():
    table = outcomes(swapped(by_id, 0.3, 3))
    assert set(table.loc[1].index) == {1, 2, 3} and set(table.loc[4].index) == {0}
    assert table["mean"][1, 2] == pytest.approx(0.15) and table["mean"][1, 3] == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: swapped(by_id, 0.5, 3), "less than 0.5"),
        (lambda: swapped(by_id, 0.0, 3), "greater than 0"),
        (lambda: swapped(by_id, np.nan, 3), "rate"),
        (lambda: swapped(by_id, 0.1, 1), "n_slots"),
        (lambda: outcomes(swapped(by_id, 0.1, 5)), "n_slots"),
        (lambda: outcomes(swapped(random_policy(), 0.1, 3)), "leaves something to chance"),
        (lambda: outcomes(mixed([by_id, swapped(by_id, 0.1, 3)])), "leaves something to chance"),
        (lambda: mixed([by_id]), "number of policies"),
    ],
)
def test_an_intervention_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_policy_would_put_its_own_log_where_it_is(platform, popular, popular_log):
    rows = popular_log.sample(2000, random_state=0)  # in any order, and not whole lists
    assert list(positions_under(popular, platform, rows)) == list(rows["position"])


def test_a_log_of_another_platform_is_refused(popular, popular_log):
    with pytest.raises(ValueError, match="no candidates"):
        positions_under(popular, Platform(n_users=2000, n_videos=1000, seed=4), popular_log)


# ---------------------------------------------------------------- training


def test_weights_are_the_inverse_of_theta_up_to_the_clip():
    assert inverse_propensity_weights([1, 3, 2], HALVES).tolist() == [1, 4, 2]
    assert inverse_propensity_weights([[1], [3]], pd.Series(HALVES), clip=3).tolist() == [[1], [3]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 4], HALVES), "from 1 to 3"),
        (([0], HALVES), "from 1 to 3"),
        (([1.5], HALVES), "from 1 to 3"),
        (([np.nan], HALVES), "from 1 to 3"),
        (([1], [1, 0]), "above 0"),
        (([1], [1, np.nan]), "above 0"),
        (([1], 1.0), "flat row"),
        (([1], HALVES, 0.5), "clip"),
        (([1], HALVES, np.nan), "clip"),
    ],
    ids=str,
)
def test_weights_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        inverse_propensity_weights(*arguments)


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=20), st.floats(0.1, 10))
def test_the_effective_sample_size_is_at_most_the_rows_and_knows_no_unit(weights, unit):
    size = effective_sample_size(weights)
    assert 1 - 1e-9 <= size <= len(weights) * (1 + 1e-9)
    assert effective_sample_size(unit * np.array(weights)) == pytest.approx(size)


def test_the_effective_sample_size_of_equal_and_of_lone_weights():
    assert effective_sample_size([2, 2, 2]) == 3 and effective_sample_size([0, 5, 0]) == 1


@pytest.mark.parametrize("weights", [[], [0, 0], [1, -1], [1, np.nan], [1, np.inf]], ids=str)
def test_weights_without_a_sample_size_are_refused(weights):
    with pytest.raises(ValueError, match="finite numbers from 0 on"):
        effective_sample_size(weights)


ROWS = st.lists(st.tuples(st.booleans(), st.floats(0.1, 50)), min_size=1, max_size=20)


@given(ROWS)
def test_debiased_rows_split_each_row_without_a_negative_weight(rows):
    clicked, weights = (np.array([row[i] for row in rows], float) for i in (0, 1))
    made = debiased_rows(clicked, weights)
    assert made.weight.min() > 0 and set(made.label) <= {0, 1}
    total = np.bincount(made.row, made.weight, minlength=len(rows))
    positive = np.bincount(made.row, made.weight * made.label, minlength=len(rows))
    np.testing.assert_allclose(total, 1)
    np.testing.assert_allclose(positive, made.scale * clicked * weights)


def test_debiased_rows_give_back_the_relevance_of_each_group_and_weighted_clicks_alone_do_not():
    # Relevance 1/2 in group 0, which stands high, and 3/4 in group 1, which stands low: click rates mislead.
    log = counted((0, 1, 32, 16, 1), (0, 3, 8, 1, 1), (1, 1, 8, 6, 1), (1, 3, 32, 6, 1))
    group, clicked = log[["context"]].to_numpy(), log["clicked"].to_numpy()
    weights = inverse_propensity_weights(log["position"], HALVES)
    made = debiased_rows(clicked, weights)

    def learned(*arguments):
        return LogisticRegression(C=np.inf, tol=1e-10).fit(*arguments).predict_proba([[0], [1]])[:, 1]

    assert made.scale == 0.25
    np.testing.assert_allclose(learned(group, clicked), [17 / 40, 12 / 40], rtol=1e-3)
    np.testing.assert_allclose(
        learned(group[made.row], made.label, made.weight) / made.scale, [0.5, 0.75], rtol=1e-3
    )
    np.testing.assert_allclose(
        learned(group, clicked, np.where(clicked, weights, 1)), [20 / 43, 30 / 58], rtol=1e-3
    )


@pytest.mark.parametrize(
    ("clicked", "weights", "message"),
    [
        ([0, 1], [1, 1, 1], "one flat shape"),
        ([[0, 1]], [[1, 1]], "one flat shape"),
        ([], [], "one flat shape"),
        ([0, 2], [1, 1], "0 and 1"),
        ([0, np.nan], [1, 1], "0 and 1"),
        ([0, 1], [1, 0], "above 0"),
        ([0, 1], [1, np.inf], "above 0"),
    ],
    ids=str,
)
def test_rows_that_cannot_be_debiased_are_refused(clicked, weights, message):
    with pytest.raises(ValueError, match=message):
        debiased_rows(clicked, weights)


def biased_clicks(hidden=0.0, lists=4000, seed=0):
    """Lists of 10 sorted by useful + 2 spurious + hidden unseen: (useful, spurious, position) and clicks.

    A click needs something useful or unseen; nothing spurious.
    """
    rng = np.random.default_rng(seed)
    useful, spurious, unseen = rng.normal(size=(3, lists, 10))
    position = 1.0 + np.argsort(np.argsort(-(useful + 2 * spurious + hidden * unseen), axis=1), axis=1)
    clicked = rng.random(position.shape) < position**-0.7 / (1 + np.exp(1 - useful - unseen))
    return np.stack([useful, spurious, position], axis=-1).reshape(-1, 3), clicked.ravel().astype(int)


def pull(model, columns=3):
    """By how much a model's log-odds rise with the useful and with the spurious feature."""
    at = np.array([[0, 0, 5], [1, 0, 9], [0, 1, np.nan]])[:, :columns]
    none, useful, spurious = np.log(1 / model.predict_proba(at)[:, 0] - 1)
    return useful - none, spurious - none


def with_position():
    columns = ColumnTransformer([("position", OneHotEncoder(), [2])], remainder="passthrough")
    return PositionFeature(make_pipeline(columns, LogisticRegression()), column=2)


def debiased(X, y):
    made = debiased_rows(y, inverse_propensity_weights(X[:, 2], np.arange(1, 11) ** -0.7))
    return LogisticRegression().fit(X[made.row, :2], made.label, made.weight)


def test_naive_training_learns_what_the_old_ranker_liked_and_both_repairs_forget_it():
    X, y = biased_clicks()
    naive, weighted = pull(LogisticRegression().fit(X[:, :2], y), 2), pull(debiased(X, y), 2)
    feature = pull(with_position().fit(X, y))
    assert naive[1] > 0.5 * naive[0]
    assert abs(weighted[1]) < 0.06 * weighted[0]
    assert abs(feature[1]) < 0.06 * feature[0]


def test_the_position_takes_too_much_where_the_ranker_knew_more():
    X, y = biased_clicks(hidden=1)
    weighted, feature = pull(debiased(X, y), 2), pull(with_position().fit(X, y))
    assert abs(weighted[1]) < 0.06 * weighted[0]
    assert feature[1] < -0.5 * feature[0], "at equal positions, more that is spurious means less unseen"


def test_at_serving_the_column_of_the_position_is_not_read():
    X, y = biased_clicks(lists=200)
    model = with_position().fit(X, y)
    anywhere = X * [1, 1, np.nan]
    top = X * [1, 1, 0] + [0, 0, 1]
    np.testing.assert_array_equal(model.predict_proba(anywhere), model.estimator_.predict_proba(top))
    np.testing.assert_array_equal(model.predict(anywhere), model.estimator_.predict(top))
    assert np.isnan(anywhere[:, 2]).all(), "the caller's features stay as they are"


def test_a_table_names_its_column_and_keywords_reach_the_estimator():
    X, y = biased_clicks(lists=200)
    table = pd.DataFrame(X, columns=["useful", "spurious", "position"])
    weights = 1.0 + y
    by_name, by_number = (
        PositionFeature(LogisticRegression(), column).fit(features, y, sample_weight=weights)
        for column, features in (("position", table), (-1, X))
    )
    at = table.assign(position=9)
    np.testing.assert_allclose(by_name.predict_proba(at), by_number.predict_proba(X))
    assert (at["position"] == 9).all() and list(by_name.classes_) == [0, 1]
    unweighted = PositionFeature(LogisticRegression(), -1).fit(X, y)
    assert (by_number.predict_proba(X)[:, 1] > unweighted.predict_proba(X)[:, 1]).all()


def test_the_wrapper_is_an_estimator_that_can_be_copied_and_leaves_its_own_alone():
    inner = LogisticRegression()
    model = clone(PositionFeature(inner, column=2)).fit(*biased_clicks(lists=200))
    assert model.get_params(deep=False)["column"] == 2 and is_classifier(model)
    assert not hasattr(inner, "coef_")


@pytest.mark.parametrize("position", [[0, 1], [1.5, 1], [2, 3], [np.nan, 1]], ids=str)
def test_a_column_without_positions_is_refused(position):
    with pytest.raises(ValueError, match="Column 0 must hold positions"):
        PositionFeature(LogisticRegression(), 0).fit(np.array(position)[:, None], [0, 1])
