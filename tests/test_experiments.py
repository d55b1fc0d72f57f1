"""Experiments judged by what they promise: simulated error rates and coverage, and a second route.

A rate is compared with its promise by a binomial test at one in a thousand, with fixed seeds.
"""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.tree import DecisionTreeRegressor

from helpers import experiments as x
from helpers.datasets import load_open_bandit
from helpers.metrics import Interval, proportion_interval, sample_size_per_arm
from helpers.simulator import IMPRESSION_LOG, Platform, random_policy, score_policy

NAN = float("nan")


def fits(hits, rate):
    """Whether this many hits (flags) are usual for a rate."""
    hits = np.asarray(hits, dtype=bool)
    return stats.binomtest(int(hits.sum()), hits.size, rate).pvalue > 1e-3


def clearly_below(hits, rate):
    """Whether this many hits (flags) are far too few for a rate."""
    hits = np.asarray(hits, dtype=bool)
    return stats.binomtest(int(hits.sum()), hits.size, rate, alternative="less").pvalue < 1e-6


@pytest.fixture(scope="module")
def platform():
    return Platform(n_users=1_500, n_videos=400, n_topics=6, n_candidates=30, n_slots=6, days=14)


@pytest.fixture(scope="module")
def past(platform):
    return platform.simulate(random_policy(), 4)


# ---------------------------------------------------------------- before: power and duration

POSITIVE = st.floats(0.01, 100)


@given(POSITIVE, POSITIVE, st.floats(0.001, 0.2), st.floats(0.5, 0.99))
def test_the_detectable_effect_is_the_sample_size_read_the_other_way(sd, ratio, alpha, power):
    n = sample_size_per_arm(sd, sd / ratio, alpha, power)
    exact = x.minimum_detectable_effect(sd, n, alpha=alpha, power=power)
    assert exact <= sd / ratio * (1 + 1e-9)
    if n > 1:
        assert x.minimum_detectable_effect(sd, n - 1, alpha=alpha, power=power) > sd / ratio


@given(POSITIVE, st.integers(10, 10**6), st.integers(10, 10**6))
def test_the_power_at_the_detectable_effect_is_the_power_asked_for(sd, n_control, n_treatment):
    effect = x.minimum_detectable_effect(sd, n_control, n_treatment, power=0.8)
    assert x.power_of_test(sd, effect, n_control, n_treatment) == pytest.approx(0.8, abs=1e-5)
    assert x.power_of_test(sd, -effect, n_control, n_treatment) == pytest.approx(0.8, abs=1e-5)
    assert x.power_of_test(sd, 0, n_control, n_treatment) == pytest.approx(0.05)


def test_power_is_the_share_of_simulated_tests_that_find_the_difference():
    rng = np.random.default_rng(0)
    z = rng.normal(0.3 / np.sqrt(4 / 200 + 4 / 50), 1, 4_000)
    assert fits(np.abs(z) > 1.96, x.power_of_test(2, 0.3, 200, 50))


def test_the_arguments_of_power_broadcast():
    users, shares = np.array([1_000.0, 50_000.0]), np.array([[0.01], [0.5]])
    together = x.power_of_test(2, 0.1, shares * users, (1 - shares) * users)
    alone = [[x.power_of_test(2, 0.1, s * n, (1 - s) * n) for n in users] for (s,) in shares]
    assert together == pytest.approx(np.array(alone))


def test_a_holdback_of_one_percent_finds_less_than_an_even_split():
    even, holdback = x.minimum_detectable_effect(1, [50_000, 1_000], [50_000, 99_000])
    assert holdback / even == pytest.approx(np.sqrt((1 / 1_000 + 1 / 99_000) / (2 / 50_000)))


def visits(*rows):
    """A log from (day, user, clicked)."""
    day, user, clicked = zip(*rows, strict=True)
    timestamp = pd.Timestamp("2025-01-06 23:00") + pd.to_timedelta(day, unit="D")
    return pd.DataFrame({"timestamp": timestamp, "user_id": user, "clicked": clicked})


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 8), st.booleans()), min_size=1, max_size=40))
def test_the_duration_table_equals_a_loop_over_days(rows):
    table = x.duration_table(visits(*rows))
    first = min(day for day, _, _ in rows)
    assert list(table.index) == list(range(1, max(day for day, _, _ in rows) - first + 2))
    for days, row in zip(table.index, table.to_dict("records"), strict=True):
        so_far = [r for r in rows if r[0] < first + days]
        known = {user for day, user, _ in so_far if day < first + days - 1}
        today = {user for day, user, _ in so_far if day == first + days - 1}
        sums = [sum(c for _, u, c in so_far if u == user) for user in known | today]
        assert (row["new"], row["returning"]) == (len(today - known), len(today & known))
        assert row["users"] == len(sums)
        assert row["mean"] == pytest.approx(np.mean(sums))
        if len(sums) > 1:
            assert row["sd"] == pytest.approx(np.std(sums, ddof=1))
        if len(sums) > 1 and np.std(sums) > 0:
            found = x.minimum_detectable_effect(row["sd"], len(sums) / 2) / row["mean"]
            assert row["detectable"] == pytest.approx(found)
        else:
            assert np.isnan(row["detectable"])


def test_days_are_rounded_up_to_weeks_and_never_extrapolated():
    table = x.duration_table(visits((0, 1, 1), (1, 2, 0), (8, 3, 1), (8, 1, 0)))
    assert [x.days_needed(table, n, whole_weeks=False) for n in (1, 2, 3)] == [1, 2, 9]
    assert [x.days_needed(table, n) for n in (1, 2, 3)] == [7, 7, 14]
    with pytest.raises(ValueError, match="9 days brought 3 users, not 4"):
        x.days_needed(table, 4)


def test_the_visitors_of_the_platform_return_so_the_curve_of_users_bends(past):
    table = x.duration_table(past)
    assert table["new"].is_monotonic_decreasing
    assert table["users"].iloc[-1] == past["user_id"].nunique()
    assert table["detectable"].is_monotonic_decreasing
    assert table["detectable"].iloc[-1] > table["detectable"].iloc[0] / np.sqrt(len(table))


# ---------------------------------------------------------------- after: one row a user


def make_panel(rng, users=300, days=5, effect=0.0, split=0.5):
    """Requests and clicks of each user and day; users differ, in activity and in taste."""
    activity, taste = rng.lognormal(0.5, 0.8, users), rng.beta(2, 6, users).clip(max=0.8)
    treated = rng.random(users) < split
    requests = rng.poisson(activity[:, None], (users, days))
    clicks = rng.binomial(requests, (taste * (1 + effect * treated))[:, None])
    before = rng.binomial(rng.poisson(activity * days), taste)
    return pd.DataFrame(
        {
            "user_id": np.repeat(np.arange(users), days),
            "day": np.tile(np.arange(days), users),
            "arm": pd.Categorical(np.repeat(np.where(treated, "new", "old"), days)),
            "requests": requests.ravel(),
            "clicks": clicks.ravel(),
            "before": np.repeat(before, days) / days,
        }
    )


@pytest.fixture(scope="module")
def same():
    """The users of 150 tests without an effect, and their panels."""
    rng = np.random.default_rng(1)
    panels = [make_panel(rng, days=10) for _ in range(150)]
    return [(x.user_totals(panel), panel) for panel in panels]


def test_user_totals_have_one_row_a_user_and_lose_nothing():
    panel = make_panel(np.random.default_rng(0))
    users = x.user_totals(panel.sample(frac=1, random_state=0))
    assert list(users) == ["arm", "requests", "clicks", "before"]
    assert list(users.index) == list(range(300))
    for user in (0, 17, 299):
        rows = panel[panel["user_id"] == user]
        assert users.loc[user, "clicks"] == rows["clicks"].sum()
        assert users.loc[user, "arm"] == rows["arm"].iloc[0]


def test_a_user_in_two_arms_is_found():
    panel = make_panel(np.random.default_rng(0))
    panel.loc[3, "arm"] = "old" if panel.loc[3, "arm"] == "new" else "new"
    with pytest.raises(ValueError, match="1 users are in two arms, such as 0"):
        x.user_totals(panel)


@pytest.mark.parametrize("keywords", [{}, {"per": "requests"}, {"covariate": "before"}], ids=str)
def test_without_an_effect_five_percent_of_the_intervals_miss_zero(same, keywords):
    found = [x.treatment_effect(users, "clicks", "old", "new", **keywords) for users, _ in same]
    assert fits([effect.difference.covers(0) for effect in found], 0.95)
    assert fits([effect.lift.covers(0) for effect in found], 0.95)
    assert all((effect.p_value < 0.05) == (not effect.difference.covers(0)) for effect in found)


def test_the_adjusted_ratio_covers_too(same):
    keywords = {"per": "requests", "covariate": "before"}
    found = [x.treatment_effect(users, "clicks", "old", "new", **keywords) for users, _ in same]
    assert fits([effect.difference.covers(0) for effect in found], 0.95)


def test_rows_of_one_user_taken_as_independent_make_intervals_too_short(same):
    def arms(rows, value):
        return [value[rows["arm"] == arm] for arm in ("old", "new")]

    days = [x.difference_of_means(*arms(rows, rows["clicks"])) for _, rows in same]
    assert clearly_below([found.difference.covers(0) for found in days], 0.95)
    ratios = [
        x.difference_of_means(*(x.linearized(part["clicks"], part["requests"]) for part in arms(rows, rows)))
        for _, rows in same
    ]
    assert clearly_below([found.difference.covers(0) for found in ratios], 0.95)


def test_a_true_effect_is_covered_in_every_reading():
    rng, hits, estimates = np.random.default_rng(2), [], []
    readings = [{}, {"per": "requests"}, {"covariate": "before"}, {"per": "requests", "covariate": "before"}]
    for _ in range(50):
        users = x.user_totals(make_panel(rng, effect=0.2))
        found = [x.treatment_effect(users, "clicks", "old", "new", **keywords) for keywords in readings]
        hits.append([effect.lift.covers(0.2) for effect in found])
        estimates.append([effect.difference.estimate for effect in found])
    assert all(fits(column, 0.95) for column in np.transpose(hits))
    plain, adjusted = np.transpose(estimates)[[0, 2]]
    difference = plain - adjusted  # CUPED takes the noise, not the effect
    assert abs(difference.mean()) < 4 * stats.sem(difference)
    assert adjusted.std() < 0.85 * plain.std()


def test_cuped_removes_the_squared_correlation():
    rng = np.random.default_rng(0)
    before = rng.normal(3, 2, 50_000)
    after = 1.5 * before + rng.normal(0, 4, 50_000)
    values, theta, reduction = x.cuped(after, before)
    assert theta == pytest.approx(1.5, abs=0.05)
    assert reduction == pytest.approx(np.corrcoef(before, after)[0, 1] ** 2)
    assert values.mean() == pytest.approx(after.mean())
    assert np.corrcoef(values, before)[0, 1] == pytest.approx(0, abs=1e-9)


def test_a_covariate_that_the_treatment_moves_hides_the_effect():
    rng = np.random.default_rng(0)
    users = pd.DataFrame({"arm": np.repeat(["old", "new"], 2_000)})
    users["before"] = rng.normal(size=4_000)
    users["during"] = users["before"] + (users["arm"] == "new")
    users["clicks"] = users["during"] + 0.1 * rng.normal(size=4_000)
    honest, moved = (
        x.treatment_effect(users, "clicks", "old", "new", covariate=covariate).difference
        for covariate in ("before", "during")
    )
    assert honest.covers(1)
    assert abs(moved.estimate) < 0.2


def test_linearized_is_the_delta_method():
    rng = np.random.default_rng(0)
    x_sum = rng.poisson(5, (4_000, 100)) + 1
    y_sum = rng.binomial(x_sum, rng.beta(2, 5, x_sum.shape))
    ratios = y_sum.sum(axis=1) / x_sum.sum(axis=1)
    values = x.linearized(y_sum[0], x_sum[0])
    assert values.mean() == pytest.approx(ratios[0])
    errors = [stats.sem(x.linearized(y, n)) for y, n in zip(y_sum[:50], x_sum[:50], strict=True)]
    assert np.mean(errors) == pytest.approx(ratios.std(), rel=0.05)


def test_welch_agrees_with_scipy():
    rng = np.random.default_rng(0)
    c, t = rng.normal(5, 1, 40), rng.normal(6, 3, 25)
    found, expected = x.difference_of_means(c, t, 0.9), stats.ttest_ind(t, c, equal_var=False)
    interval = expected.confidence_interval(0.9)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.difference.low, found.difference.high) == pytest.approx((interval.low, interval.high))
    assert found.lift.estimate == pytest.approx(t.mean() / c.mean() - 1)
    assert found.difference.level == found.lift.level == 0.9


def test_a_constant_arm_is_compared_and_a_lift_over_nothing_is_unknown():
    found = x.difference_of_means([0, 0, 0], [0, 0, 1, 2])
    assert found.difference.estimate == 0.75
    assert np.isnan(found.lift.estimate)
    assert x.difference_of_means([3.1] * 9, [3.1] * 8 + [4]).difference.covers(0)


def test_the_lift_of_a_large_effect_is_covered():
    rng = np.random.default_rng(0)
    tests = [x.difference_of_means(rng.normal(1, 0.7, 100), rng.normal(4, 0.7, 100)) for _ in range(300)]
    assert fits([found.lift.covers(3) for found in tests], 0.95)


def test_a_ratio_in_each_arm_is_that_of_its_own_sums():
    users = x.user_totals(make_panel(np.random.default_rng(0), effect=0.2))
    users.loc[users["arm"] == "new", "requests"] *= 3
    found = x.treatment_effect(users, "clicks", "old", "new", per="requests")
    sums = users.groupby("arm", observed=True)[["clicks", "requests"]].sum()
    ratio = sums["clicks"] / sums["requests"]
    assert (found.control, found.treatment) == pytest.approx((ratio["old"], ratio["new"]))


def test_the_lift_of_a_negative_metric_has_its_ends_in_order():
    rng = np.random.default_rng(0)
    lift = x.difference_of_means(rng.normal(-10, 1, 50), rng.normal(-11, 1, 50)).lift
    assert lift.low < lift.estimate < lift.high
    assert lift.covers(0.1)


# ---------------------------------------------------------------- sample ratio


def test_a_loss_of_one_percent_of_half_a_million_is_an_alarm_and_half_of_it_is_not():
    small = x.sample_ratio_p_value({"old": 500_000, "new": 497_000})
    large = x.sample_ratio_p_value({"old": 500_000, "new": 495_000})
    assert small == pytest.approx(0.0027, rel=0.02)
    assert large == pytest.approx(5.3e-7, rel=0.02)
    assert large < x.SRM_ALARM < small < 0.01


def test_honest_splits_alarm_as_often_as_the_level_says():
    counts = np.random.default_rng(0).multinomial(10_000, [0.1, 0.4, 0.5], 1_000)
    shares = {"a": 0.1, "b": 0.4, "c": 0.5}
    p_values = [x.sample_ratio_p_value(dict(zip("abc", row, strict=True)), shares) for row in counts]
    assert fits(np.less(p_values, 0.05), 0.05)
    assert fits(np.less(p_values, x.SRM_ALARM), x.SRM_ALARM)


def lossy_users():
    """Users of whom the new arm loses a fifth: those without a click."""
    users = x.user_totals(make_panel(np.random.default_rng(0), users=2_000))
    lost = users[(users["arm"] == "new") & (users["clicks"] == 0)].index
    return users.drop(lost)


def test_on_a_mismatch_the_effect_is_not_read_unless_told():
    users = lossy_users()
    with pytest.raises(x.SampleRatioMismatch, match="do not read the effect"):
        x.treatment_effect(users, "clicks", "old", "new")
    with pytest.raises(x.SampleRatioMismatch):
        x.effects_table(users, ["clicks"], "old", "new")
    told = x.treatment_effect(users, "clicks", "old", "new", despite_mismatch=True)
    assert told.split_p_value < x.SRM_ALARM
    assert told.difference.low > 0, "the loss alone looks like a win"


def test_the_shares_that_were_planned_are_the_ones_that_are_checked():
    users = x.user_totals(make_panel(np.random.default_rng(0), users=1_000, split=0.1))
    with pytest.raises(x.SampleRatioMismatch):
        x.treatment_effect(users, "clicks", "old", "new")
    found = x.treatment_effect(users, "clicks", "old", "new", shares={"old": 0.9, "new": 0.1})
    assert found.users_treatment == (users["arm"] == "new").sum()
    assert found.users_control + found.users_treatment == 1_000


def test_two_of_three_arms_are_compared_and_all_are_checked():
    rng = np.random.default_rng(0)
    users = pd.DataFrame({"arm": rng.choice(list("abc"), 3_000), "clicks": rng.poisson(2, 3_000)})
    found = x.treatment_effect(users, "clicks", "a", "c")
    assert found.control == users["clicks"][users["arm"] == "a"].mean()
    assert found.treatment == users["clicks"][users["arm"] == "c"].mean()
    with pytest.raises(x.SampleRatioMismatch):
        x.treatment_effect(users.drop(users.index[users["arm"] == "b"][:300]), "clicks", "a", "c")


# ---------------------------------------------------------------- many metrics


@pytest.fixture(scope="module")
def table():
    users = x.user_totals(make_panel(np.random.default_rng(3), users=4_000, effect=0.15))
    rng = np.random.default_rng(4)
    for name in ("noise", "more_noise"):
        users[name] = rng.normal(1, 1, len(users))
    metrics = ["clicks", ("clicks", "requests"), "requests", "noise", "more_noise"]
    return users, x.effects_table(users, metrics, "old", "new", level=0.9)


def test_the_table_of_effects_holds_each_effect(table):
    users, effects = table
    assert list(effects.index)[:3] == ["clicks per user", "clicks per requests", "requests per user"]
    one = x.treatment_effect(users, "clicks", "old", "new", per="requests", level=0.9)
    row = effects.loc["clicks per requests"]
    assert (row["low"], row["high"]) == (one.difference.low, one.difference.high)
    assert (row["lift"], row["p_value"]) == (one.lift.estimate, one.p_value)


def test_holm_and_benjamini_hochberg_equal_their_definitions(table):
    p = table[1]["p_value"].sort_values()
    rank = np.arange(len(p))
    holm = np.minimum(np.maximum.accumulate(p * (len(p) - rank)), 1)
    bh = np.minimum.accumulate((p * len(p) / (rank + 1))[::-1])[::-1]
    np.testing.assert_allclose(table[1]["holm"][p.index], holm)
    np.testing.assert_allclose(table[1]["bh"][p.index], bh)
    assert (table[1]["holm"] >= table[1]["bh"]).all()


@pytest.mark.parametrize("z", [0.3, 1.27, 2.8])
def test_the_winners_curse_is_that_of_simulated_winners(z):
    estimates = np.random.default_rng(0).normal(z, 1, 400_000)
    winners = estimates[np.abs(estimates) > stats.norm.isf(0.025)]
    curse = x.winners_curse(-2 * z, 2)
    assert curse.power == pytest.approx(len(winners) / 400_000, rel=0.02)
    assert curse.exaggeration == pytest.approx(np.abs(winners).mean() / z, rel=0.02)
    assert curse.wrong_sign == pytest.approx((winners < 0).mean(), abs=0.01)


def test_at_a_quarter_of_power_a_winner_is_twice_the_truth():
    curse = x.winners_curse(1.25, 1)
    assert (curse.power, curse.exaggeration) == pytest.approx((0.24, 2.0), abs=0.05)


# ---------------------------------------------------------------- during: looking before the end


def test_the_more_looks_the_more_false_positives():
    looks = [1, 2, 5, 10, 20, 50]
    rates = [x.peeking_false_positives(n, n_runs=20_000) for n in looks]
    # Armitage, McPherson and Rowe 1969, table 2
    for rate, known in zip(rates, [0.05, 0.083, 0.142, 0.193, 0.248, 0.320], strict=True):
        assert rate.estimate == pytest.approx(known, abs=0.01)
    assert x.peeking_false_positives(3, alpha=0.2, n_runs=2_000).low > 0.2


def test_the_boundary_is_the_published_one():
    # Lan and DeMets 1983, O'Brien-Fleming type, five equal looks, two sides, alpha 0.05
    boundary = x.spending_boundary([0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_allclose(boundary, [4.877, 3.357, 2.680, 2.290, 2.031], atol=5e-4)
    np.testing.assert_allclose(x.spending_boundary([1]), [stats.norm.isf(0.025)])


def test_the_recursion_agrees_with_the_integral_of_a_multivariate_normal():
    t = np.array([0.3, 0.45, 1])
    correlation = np.sqrt(np.minimum.outer(t, t) / np.maximum.outer(t, t))
    boundary = x.spending_boundary(t, alpha=0.1)
    for looks in (1, 2, 3):
        z = boundary[:looks]
        inside = stats.multivariate_normal(cov=correlation[:looks, :looks]).cdf(z, lower_limit=-z)
        spent = 4 * stats.norm.sf(stats.norm.isf(0.025) / np.sqrt(t[looks - 1]))
        assert 1 - inside == pytest.approx(spent, abs=1e-4)


@settings(max_examples=8)
@given(st.sets(st.integers(1, 99), min_size=1, max_size=12), st.sampled_from([0.01, 0.05, 0.2]))
def test_whenever_one_looks_alpha_is_spent_and_no_more(looks, alpha):
    information = np.array([*sorted(looks), 100]) / 100
    rate = x.stopping_rate(x.spending_boundary(information, alpha), information, n_runs=20_000)
    assert stats.binomtest(round(rate.estimate * 20_000), 20_000, alpha).pvalue > 1e-4


def test_early_looks_have_nothing_to_spend():
    assert list(np.isinf(x.spending_boundary([0.01, 0.02, 1]))) == [True, True, False]


def test_spending_costs_little_power_and_an_always_valid_test_more():
    information = np.arange(1, 21) / 20
    errors = 1 / np.sqrt(information)
    spend = x.stopping_rate(x.spending_boundary(information), drift=2.8)
    always = x.stopping_rate(x.always_valid_boundary(errors, tau=2.8), drift=2.8)
    assert 0.76 < spend.estimate < 0.80
    assert 0.40 < always.estimate < 0.60


@pytest.mark.parametrize("tau", [0.3, 1, 10])
def test_an_always_valid_test_may_be_looked_at_after_every_user(tau):
    errors = 1 / np.sqrt(np.arange(1, 2_001) / 20)  # up to a hundred times the first information
    rate = x.stopping_rate(x.always_valid_boundary(errors, tau), np.arange(1, 2_001) / 20, n_runs=2_000)
    assert rate.low < 0.05


def test_a_confidence_sequence_on_skewed_data_covers_at_every_look():
    rng, seconds = np.random.default_rng(0), np.exp(0.5)  # the mean of a log-normal
    misses, naive = [], []
    for _ in range(300):
        users = rng.lognormal(0, 1, 3_000)
        n = np.arange(100, 3_001, 10)
        mean = np.cumsum(users)[n - 1] / n
        error = np.sqrt(np.cumsum(users**2)[n - 1] / n - mean**2) / np.sqrt(n)
        sequence = x.confidence_sequence(mean - seconds, error, tau=0.1)
        outside = (sequence["low"] > 0) | (sequence["high"] < 0)
        misses.append(outside.any())
        naive.append((np.abs(mean - seconds) > 1.96 * error).any())
        assert (sequence["p_value"].iloc[-1] <= 0.05) == outside.any()
    assert stats.binomtest(sum(misses), 300, 0.05, alternative="greater").pvalue > 1e-3
    assert np.mean(naive) > 0.25


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 5)), min_size=1, max_size=20),
    st.floats(0.01, 10),
    st.sampled_from([0.8, 0.95]),
)
def test_the_p_value_is_low_once_an_interval_leaves_out_zero(looks, tau, level):
    estimates, errors = np.transpose(looks)
    sequence = x.confidence_sequence(estimates, errors, tau, level)
    outside = (sequence["low"] > 1e-9) | (sequence["high"] < -1e-9)
    assert (sequence["p_value"][outside.cummax()] <= 1 - level + 1e-9).all()
    touched = (sequence["low"] > -1e-9) | (sequence["high"] < 1e-9)
    assert (sequence["p_value"][~touched.cummax()] > 1 - level - 1e-9).all()
    assert sequence["p_value"].is_monotonic_decreasing
    assert sequence["p_value"].between(0, 1).all()


def test_daily_effects_are_the_effects_so_far_per_day():
    panel = make_panel(np.random.default_rng(5), effect=0.1)
    daily = x.daily_effects(panel, "clicks", "old", "new", level=0.9)
    users = x.user_totals(panel[panel["day"] <= 2])
    third = x.treatment_effect(users, "clicks", "old", "new", level=0.9)
    row = daily.loc[2]
    assert row["estimate"] == pytest.approx(third.difference.estimate / 3)
    assert row["low"] == pytest.approx(third.difference.low / 3)
    assert row["information"] == pytest.approx(9 / third.standard_error**2)
    assert list(daily.index) == [0, 1, 2, 3, 4]


def test_daily_effects_of_an_adjusted_ratio_are_no_sum_to_divide():
    panel = make_panel(np.random.default_rng(5), effect=0.1)
    keywords = {"per": "requests", "covariate": "before"}
    daily = x.daily_effects(panel, "clicks", "old", "new", **keywords)
    last = x.treatment_effect(x.user_totals(panel), "clicks", "old", "new", **keywords)
    assert daily["estimate"].iloc[-1] == pytest.approx(last.difference.estimate)
    assert daily["standard_error"].iloc[-1] == pytest.approx(last.standard_error)


def test_a_mean_per_day_keeps_its_past_and_a_sum_does_not():
    rng = np.random.default_rng(6)
    runs = [
        x.daily_effects(make_panel(rng, 200, days=3), "clicks", "old", "new")["estimate"] for _ in range(40)
    ]
    mean = np.array(runs)
    first, last = mean[:, 0], mean[:, -1]
    slope = stats.linregress(last, first)  # cov(early, late) = var(late): a slope of 1
    assert slope.slope == pytest.approx(1, abs=4 * slope.stderr)
    assert abs(stats.linregress(3 * last, first).slope - 1) > 4 * slope.stderr


# ---------------------------------------------------------------- interleaving


def naive_draft(a, b, picks):
    """The team draft in words: whose turn it is takes its best that is left."""
    shown = []
    for by_b in picks:
        shown.append(next(item for item in (b if by_b else a) if item not in shown))
    return shown


@given(st.integers(1, 6), st.integers(0, 3), st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_team_draft_equals_a_loop(slots, more, requests, random):
    items = range(slots + more)
    a, b = ([random.sample(items, len(items)) for _ in range(requests)] for _ in range(2))
    picks = [[random.random() < 0.5 for _ in range(slots)] for _ in range(requests)]
    expected = [naive_draft(*row) for row in zip(a, b, picks, strict=True)]
    assert x.team_draft(a, b, picks).tolist() == expected


def test_each_round_gives_each_team_one_slot_and_the_coins_are_fair():
    ids, position = np.arange(10**9, 10**9 + 4_000), np.arange(1, 8)
    picks = x.b_picks(ids[:, None], position, seed=3)
    assert (picks[:, 0:6:2] != picks[:, 1:6:2]).all()
    assert all(fits(column, 0.5) for column in picks.T)
    assert stats.chi2_contingency(pd.crosstab(picks[:, 0], picks[:, 2])).pvalue > 1e-3
    assert stats.chi2_contingency(pd.crosstab(picks[:, 0], x.b_picks(ids, 1, seed=4))).pvalue > 1e-3


def two_policies(platform, noise):
    """A ranking by click-bait, which people click, and the same with noise; the noisy one first."""
    score = platform.videos["clickbait"].to_numpy()
    worse = score + noise * np.random.default_rng(0).normal(size=len(score))
    return score_policy(worse), score_policy(score)


def test_the_log_of_a_draft_is_enough_to_credit_the_clicks(platform):
    a, b = two_policies(platform, 0.3)
    log = platform.simulate(x.interleaving_policy(a, b, 6, seed=5), 2)
    IMPRESSION_LOG.validate(log)
    lost = log.sample(frac=0.5, random_state=0)
    requests = log[log["position"] == 1]
    offered = platform.candidates(requests)
    rankings = [policy(requests, offered)[0] for policy in (a, b)]
    by_b = x.b_picks(log["request_id"], log["position"], seed=5).reshape(len(requests), 6)
    assert (x.team_draft(*rankings, by_b).ravel() == log["video_id"]).all()
    found = x.interleaving_preference(lost, seed=5)
    assert found.clicks_b == (lost["clicked"] & x.b_picks(lost["request_id"], lost["position"], seed=5)).sum()
    assert found.clicks_a + found.clicks_b == lost["clicked"].sum()
    assert found.users == lost["user_id"][lost["clicked"]].nunique()


@pytest.mark.parametrize("n_slots", [1, 5, 6])
def test_the_propensities_of_a_draft_are_the_shares_over_all_seeds(platform, n_slots):
    a, b = two_policies(platform, 0.3)
    requests = platform.requests(0).iloc[:15]
    offered = platform.candidates(requests)
    shown, propensity = x.interleaving_policy(a, b, n_slots)(requests, offered)
    again = [x.interleaving_policy(a, b, n_slots, seed)(requests, offered)[0] for seed in range(1, 401)]
    share = np.mean([other == shown for other in again], axis=0)
    assert np.abs(share - propensity).max() < 4.5 * np.sqrt(0.25 / 400)
    assert ((propensity == 1) == (share == 1)).all()


def test_two_equal_rankings_give_that_ranking_for_sure(platform):
    policy = two_policies(platform, 0)[0]
    requests = platform.requests(0).iloc[:50]
    offered = platform.candidates(requests)
    shown, propensity = x.interleaving_policy(policy, policy, 6)(requests, offered)
    assert (shown == policy(requests, offered)[0][:, :6]).all()
    assert (propensity == 1).all()


def test_position_bias_and_busy_users_make_no_preference():
    rng, position = np.random.default_rng(7), np.arange(1, 7)
    p_values, covered = [], []
    for seed in range(150):
        user = np.repeat(np.arange(80), rng.geometric(0.2, 80))
        chance = rng.beta(1, 3, 80)[user][:, None] / position**2
        log = pd.DataFrame(
            {
                "request_id": np.repeat(np.arange(len(user)), 6),
                "user_id": np.repeat(user, 6),
                "position": np.tile(position, len(user)),
                "clicked": (rng.random((len(user), 6)) < chance).ravel(),
            }
        )
        found = x.interleaving_preference(log, seed)
        p_values.append(found.p_value)
        covered.append(found.share_b.covers(0.5))
    assert fits(np.less(p_values, 0.05), 0.05)
    assert fits(covered, 0.95)


def test_interleaving_sees_with_the_same_users_what_an_ab_test_does_not(platform):
    a, b = two_policies(platform, 0.2)
    found = x.interleaving_preference(platform.simulate(x.interleaving_policy(a, b, 6), 3))
    panel = platform.run_experiment({"a": a, "b": b}, 3)
    clicks = x.treatment_effect(x.user_totals(panel), "clicks", "a", "b")
    truth = [platform.true_value(policy, "click", 3).value for policy in (a, b)]
    assert truth[1] > truth[0] and found.share_b.low > 0.5
    assert found.p_value < 1e-4 < 0.05 < clicks.p_value


# ---------------------------------------------------------------- off-policy evaluation

REWARDS = np.array([0.1, 0.2, 0.4, 0.7])
LOGGING = np.array([0.4, 0.3, 0.2, 0.1])
TARGET = np.array([0.1, 0.2, 0.3, 0.4])
TRUTH = float(TARGET @ REWARDS)


def logged(rng, rows=400):
    """The action and the reward of each row."""
    action = rng.choice(4, rows, p=LOGGING)
    return action, (rng.random(rows) < REWARDS[action]).astype(float)


def estimates(rng, model=REWARDS, propensities=LOGGING, **keywords):
    action, reward = logged(rng)
    return x.off_policy_table(
        reward,
        propensities[action],
        TARGET[action],
        predicted=model[action],
        expected=np.full(len(action), TARGET @ model),
        **keywords,
    )


def test_the_weights_come_before_the_estimate():
    found = estimates(np.random.default_rng(0))
    assert list(found) == ["ess", "max_weight", "mean_weight", "estimate", "low", "high"]
    assert list(found.index) == ["IPS", "SNIPS", "DM", "DR"]
    assert found.index.name == "estimator"


def test_each_estimator_equals_its_formula():
    r, mu, pi = np.array([1, 0, 1.0]), np.array([0.5, 0.25, 0.1]), np.array([0.25, 0.5, 0.4])
    q, v = np.array([0.5, 0.2, 0.6]), np.array([0.3, 0.4, 0.5])
    w = np.array([0.5, 2, 3])
    found = x.off_policy_table(r, mu, pi, predicted=q, expected=v, clip=3)
    expected = [(w * r).mean(), (w * r).sum() / w.sum(), v.mean(), (v + w * (r - q)).mean()]
    np.testing.assert_allclose(found["estimate"], expected)
    assert (found["max_weight"] == 3).all()
    np.testing.assert_allclose(found["ess"], w.sum() ** 2 / (w**2).sum())
    np.testing.assert_allclose(found["mean_weight"], w.mean())


def test_the_same_policy_has_every_row_and_the_mean():
    reward = np.array([1, 0, 0, 1, 1.0])
    found = x.off_policy_table(reward, [0.2] * 5, [0.2] * 5)
    assert (found["ess"] == 5).all()
    np.testing.assert_allclose(found["estimate"], 0.6)


@pytest.fixture(scope="module")
def replicated():
    """The tables of many logs: by a wrong model, by wrong propensities with a right model, clipped."""
    rng, wrong = np.random.default_rng(8), np.array([0.5, 0.1, 0.1, 0.3])
    return {
        "wrong model": [estimates(rng, model=wrong) for _ in range(200)],
        "wrong propensities": [estimates(rng, propensities=LOGGING[::-1]) for _ in range(100)],
        "clipped": [estimates(rng, clip=1.0) for _ in range(100)],
    }


def bias(tables, name):
    """The z-value of the mean error of an estimator."""
    errors = np.array([table.loc[name, "estimate"] - TRUTH for table in tables])
    return errors.mean() / max(stats.sem(errors), 1e-12)


def test_with_full_support_ips_is_unbiased_and_covers(replicated):
    tables = replicated["wrong model"]
    for name in ("IPS", "SNIPS", "DR"):
        assert abs(bias(tables, name)) < 4
        assert fits([t.loc[name, "low"] <= TRUTH <= t.loc[name, "high"] for t in tables], 0.95)


def test_dr_needs_the_model_or_the_propensities_and_dm_needs_the_model(replicated):
    assert abs(bias(replicated["wrong model"], "DM")) > 10
    assert abs(bias(replicated["wrong propensities"], "DR")) < 4
    assert abs(bias(replicated["wrong propensities"], "IPS")) > 10


def test_a_right_model_makes_dr_sharper_than_ips_and_clipping_makes_it_low(replicated):
    right = replicated["clipped"]
    assert bias(right, "IPS") < -10
    assert abs(bias(right, "DR")) < 4
    rng = np.random.default_rng(9)
    width = pd.concat([estimates(rng).eval("high - low") for _ in range(20)]).groupby(level=0).mean()
    assert width["DR"] < width["SNIPS"] < width["IPS"]


def test_the_bootstrap_agrees_where_the_support_is_good():
    normal = estimates(np.random.default_rng(10))
    bootstrap = estimates(np.random.default_rng(10), interval="bootstrap")
    np.testing.assert_allclose(bootstrap["estimate"], normal["estimate"])
    ends = ["low", "high"]
    np.testing.assert_allclose(
        bootstrap.loc[["IPS", "SNIPS", "DR"], ends], normal.loc[["IPS", "SNIPS", "DR"], ends], atol=0.02
    )


def test_where_the_support_is_poor_both_intervals_lie_below_the_truth():
    rng = np.random.default_rng(11)
    logging = np.array([0.2496] * 4 + [0.0016])
    rewards, target, low = np.array([0.1] * 4 + [0.9]), np.full(5, 0.2), []
    for _ in range(25):
        action = rng.choice(5, 400, p=logging)
        reward = rng.random(400) < rewards[action]
        tables = [
            x.off_policy_table(reward, logging[action], target[action], interval=interval)
            for interval in ("normal", "bootstrap")
        ]
        low.append([table["high"]["IPS"] < target @ rewards for table in tables])
    assert (np.mean(low, axis=0) > 0.3).all()


@pytest.mark.parametrize("interval", ["normal", "bootstrap"])
def test_a_row_repeated_within_its_unit_is_no_new_information(interval):
    action, reward = logged(np.random.default_rng(12), 200)
    once = x.off_policy_table(reward, LOGGING[action], TARGET[action], interval=interval)
    three = np.repeat(np.arange(200), 3)
    columns = (reward[three], LOGGING[action][three], TARGET[action][three])
    clustered = x.off_policy_table(*columns, unit=three, interval=interval)
    pd.testing.assert_frame_equal(clustered.drop(columns="ess"), once.drop(columns="ess"))
    naive = x.off_policy_table(*columns, interval=interval)
    assert (naive.eval("high - low") < 0.7 * once.eval("high - low")).all()


def test_out_of_fold_predictions_do_not_know_the_row():
    rows, reward = pd.DataFrame({"unit": np.repeat(np.arange(20), 3)}), np.repeat(np.arange(20.0), 3)
    (alone,) = x.out_of_fold(DecisionTreeRegressor(), rows, reward, [rows])
    (together,) = x.out_of_fold(DecisionTreeRegressor(), rows, reward, [rows], unit=rows["unit"])
    assert (alone == reward).mean() > 0.5, "the rows of a user in other folds tell"
    assert (together != reward).all()
    (mean,) = x.out_of_fold(DummyRegressor(), rows, reward, [rows], folds=60)
    np.testing.assert_allclose(mean, (reward.sum() - reward) / 59)


def test_out_of_fold_predicts_every_table():
    rng = np.random.default_rng(13)
    action, reward = logged(rng, 4_000)
    rows = pd.get_dummies(pd.Series(action)).astype(float)
    tables = [pd.DataFrame(np.tile(np.eye(4)[i], (4_000, 1)), columns=rows.columns) for i in range(4)]
    predicted = x.out_of_fold(LogisticRegression(C=100), rows, reward, tables)
    np.testing.assert_allclose(predicted.mean(axis=1), REWARDS, atol=0.04)


def test_shown_shares_are_counted_by_position():
    shares = x.shown_shares([0, 0, 2, 2, 2, 0], [1, 1, 1, 2, 2, 1], n_items=4)
    np.testing.assert_allclose(shares, [[0.75, 0, 0.25, 0], [0, 0, 1, 0]])


def test_replay_says_what_the_target_would_have_shown(platform, past):
    policy = two_policies(platform, 0)[1]
    found = x.replay(policy, past, platform.candidates)
    own = platform.simulate(policy, 1)
    again = x.replay(policy, own, platform.candidates)
    assert (again.probability == 1).all() and (again.video_id == own["video_id"]).all()
    assert found.probability.mean() == pytest.approx(1 / 30, rel=0.1)
    assert ((found.probability == 1) == (found.video_id == past["video_id"])).all()
    mixed = x.replay(policy, past, platform.candidates, epsilon=0.3).probability
    np.testing.assert_allclose(mixed, 0.3 / 30 + 0.7 * found.probability)
    explored = platform.simulate(score_policy(platform.videos["clickbait"], 0.3), 1)
    np.testing.assert_allclose(
        x.replay(policy, explored, platform.candidates, 0.3).probability, explored["propensity"], rtol=1e-6
    )


def test_on_the_platform_a_random_log_tells_the_value_of_another_policy(platform, past):
    target = two_policies(platform, 0)[1]
    truth = platform.true_value(target, "click", 4).value / platform.n_slots
    weights = x.replay(target, past, platform.candidates).probability
    found = x.off_policy_table(past["clicked"], past["propensity"], weights, unit=past["user_id"])
    assert (found["low"] < truth).all() and (found["high"] > truth).all()
    assert found["ess"]["IPS"] == pytest.approx(weights.sum())
    assert past["clicked"].mean() != pytest.approx(truth, rel=0.1), "another value than the log's own"


@pytest.mark.parametrize(
    ("campaign", "ess", "max_weight"), [("all", 340, 278), ("men", 656, 178), ("women", 2, 21_739)]
)
def test_on_open_bandit_the_weights_of_thompson_sampling_cannot_carry_a_random_policy(
    campaign, ess, max_weight
):
    log = load_open_bandit("bts", campaign)
    uniform = np.full(len(log), 1 / (log["item_id"].max() + 1))
    found = x.off_policy_table(log["clicked"], log["propensity"], uniform)
    assert found["ess"]["IPS"] == pytest.approx(ess, abs=0.6)
    assert found["max_weight"]["IPS"] == pytest.approx(max_weight, abs=0.6)


@pytest.mark.parametrize("campaign", ["all", "men", "women"])
def test_on_open_bandit_a_random_log_finds_what_thompson_sampling_earned(campaign):
    random, bts = load_open_bandit("random", campaign), load_open_bandit("bts", campaign)
    shares = x.shown_shares(bts["item_id"], bts["position"], int(random["item_id"].max()) + 1)
    target = shares[random["position"] - 1, random["item_id"]]
    found = x.off_policy_table(random["clicked"], random["propensity"], target)
    earned = proportion_interval(int(bts["clicked"].sum()), len(bts))
    assert (found["ess"] > 2_500).all() and (found["max_weight"] < 10).all()
    assert (found["low"] < earned.estimate).all() and (found["high"] > earned.estimate).all()


# ---------------------------------------------------------------- what makes no sense

USERS = pd.DataFrame({"arm": list("ab") * 50, "clicks": np.arange(100) % 7, "flat": 1, "zero": 0})
LOG = pd.DataFrame({"request_id": [0], "user_id": [0], "position": [1], "clicked": [True]})
ROWS = pd.DataFrame({"f": np.arange(6.0)})


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: x.power_of_test(0, 1, 10), "sd must be finite and greater than 0"),
        (lambda: x.power_of_test(1, 1, 10, -5), "n_treatment must be"),
        (lambda: x.power_of_test(1, 1, 10, alpha=1), "alpha must be"),
        (lambda: x.minimum_detectable_effect(NAN, 10), "sd must be"),
        (lambda: x.minimum_detectable_effect(1, [10, 0]), "n_control must be"),
        (lambda: x.minimum_detectable_effect(1, 10, power=80), "power must be"),
        (lambda: x.duration_table(visits((0, 1, 1)), "watch"), "no column watch"),
        (lambda: x.duration_table(visits((0, 1, 1)).iloc[:0]), "empty"),
        (lambda: x.days_needed(x.duration_table(visits((0, 1, 1))), 0.5), "users must be a whole number"),
        (lambda: x.user_totals(USERS), "no column user_id"),
        (lambda: x.user_totals(USERS.assign(user_id=[None, *range(99)])), "gaps"),
        (lambda: x.user_totals(USERS.assign(user_id=1, arm="a", clicks=NAN)), "clicks.* have gaps"),
        (lambda: x.sample_ratio_p_value({"a": 5}), "Two or more arms"),
        (lambda: x.sample_ratio_p_value({}), "Two or more arms"),
        (lambda: x.sample_ratio_p_value({"a": 5, "b": 5}, {"a": 1.0}), "each with a share"),
        (lambda: x.sample_ratio_p_value({"a": 5, "b": 5}, {"a": 1.0, "b": 0.0}), "share above 0"),
        (lambda: x.sample_ratio_p_value({"a": 5, "b": 5}, {"a": 50, "b": 50}), "sum to 1, not to 100"),
        (lambda: x.sample_ratio_p_value({"a": -1, "b": 5}), "users of a"),
        (lambda: x.sample_ratio_p_value({"a": 0, "b": 0}), "No arm holds a user"),
        (lambda: x.difference_of_means([1], [1, 2]), "two or more values"),
        (lambda: x.difference_of_means([1, 1], [2, 2]), "must vary"),
        (lambda: x.difference_of_means([1, NAN], [2, 3]), "control must hold finite"),
        (lambda: x.difference_of_means([], [2, 3]), "at least one row"),
        (lambda: x.difference_of_means(["a", "b"], [2, 3]), "numbers only"),
        (lambda: x.difference_of_means([1, 2], [2, 3], level=95), "level must be"),
        (lambda: x.linearized([1, 2], [0, 0]), "no ratio"),
        (lambda: x.linearized([1, 2], [1, 2, 3]), "One flat shape"),
        (lambda: x.cuped([1, 2], [3, 3]), "explains nothing"),
        (lambda: x.treatment_effect(USERS, "clicks", "a", "c"), "An arm must be one of a, b"),
        (lambda: x.treatment_effect(USERS, "clicks", "a", "a"), "name two arms"),
        (lambda: x.treatment_effect(USERS, "likes", "a", "b"), "no column likes"),
        (lambda: x.treatment_effect(USERS, "flat", "a", "b"), "must vary"),
        (lambda: x.treatment_effect(USERS, "clicks", "a", "b", per="zero"), "no ratio"),
        (lambda: x.treatment_effect(USERS, "clicks", "a", "b", covariate="flat"), "explains nothing"),
        (lambda: x.treatment_effect(USERS.set_axis([0] * 100), "clicks", "a", "b"), "several rows"),
        (lambda: x.effects_table(USERS, [], "a", "b"), "metrics is empty"),
        (lambda: x.winners_curse(0, 1), "size must be"),
        (lambda: x.winners_curse(1, 0), "standard_error must be"),
        (lambda: x.spending_boundary([0.5, 0.4]), "must rise"),
        (lambda: x.spending_boundary([0.5, 0.5]), "must rise"),
        (lambda: x.spending_boundary([0.5, 1.5]), "from 0.001 to 1"),
        (lambda: x.spending_boundary([]), "at least one row"),
        (lambda: x.always_valid_boundary([1, 0], 1), "standard_errors must be"),
        (lambda: x.always_valid_boundary([1, 1], 0), "tau must be"),
        (lambda: x.confidence_sequence([1, 2], [1], 1), "One flat shape"),
        (lambda: x.confidence_sequence([1], [1], 1, level=1), "level must be"),
        (lambda: x.stopping_rate([]), "at least one row"),
        (lambda: x.stopping_rate([2, -1]), "boundary of at least 0"),
        (lambda: x.stopping_rate([2, NAN]), "boundary of at least 0"),
        (lambda: x.stopping_rate([2, 2], [0.5, 0.5]), "more information"),
        (lambda: x.stopping_rate([2], [0.5, 1]), "Each look"),
        (lambda: x.stopping_rate([2], n_runs=0), "n_runs must be"),
        (lambda: x.peeking_false_positives(0), "looks must be"),
        (lambda: x.daily_effects(USERS, "clicks", "a", "b"), "no column day"),
        (lambda: x.team_draft([[1, 2]], [[1]], [[True, False]]), "rank more items"),
        (lambda: x.team_draft([[1, 2]], [[1, 2]], [True]), "rank more items"),
        (lambda: x.team_draft([[1, 1]], [[1, 2]], [[True, False]]), "twice in a ranking"),
        (lambda: x.interleaving_policy(random_policy(), random_policy(), 17), "n_slots must be"),
        (lambda: x.interleaving_preference(LOG), "1 users clicked"),
        (lambda: x.interleaving_preference(LOG.assign(clicked=False)), "0 users clicked"),
        (lambda: x.interleaving_preference(LOG.drop(columns="position")), "no column position"),
        (lambda: x.shown_shares([0, 5], [1, 1], 5), "item must hold"),
        (lambda: x.shown_shares([0, 1], [1, 3], 2), "without a gap"),
        (lambda: x.out_of_fold(DummyRegressor(), ROWS, [1, 0], [ROWS]), "2 rows each"),
        (lambda: x.out_of_fold(DummyRegressor(), ROWS, ROWS["f"], []), "one table or more"),
        (lambda: x.out_of_fold(LogisticRegression(), ROWS, [0] * 6, [ROWS], folds=2), "learns nothing"),
        (lambda: x.out_of_fold(DummyRegressor(), ROWS, ROWS["f"], [ROWS], unit=[1] * 6), "two or more"),
        (lambda: x.out_of_fold(DummyRegressor(), ROWS, ROWS["f"], [ROWS], folds=1), "folds must be"),
        (lambda: x.off_policy_table([1], [0], [0.5]), "Propensities must be above 0"),
        (lambda: x.off_policy_table([1], [0.5], [1.5]), "targets from 0 to 1"),
        (lambda: x.off_policy_table([1, 0], [0.5, 0.5], [0, 0.5]), "No rewarded row"),
        (lambda: x.off_policy_table([1, 0], [0.5, 0.5], [0.5, 0.5], clip=0), "clip above 0"),
        (lambda: x.off_policy_table([1, 0], [0.5], [0.5, 0.5]), "One flat shape"),
        (lambda: x.off_policy_table([1, 0], [0.5] * 2, [0.5] * 2, expected=[1, 1]), "needs both"),
        (lambda: x.off_policy_table([1, 0], [0.5] * 2, [0.5] * 2, unit=[1, None]), "without gaps"),
        (lambda: x.off_policy_table([1, 0], [0.5] * 2, [0.5] * 2, interval="exact"), "interval must be"),
        (lambda: x.off_policy_table([1, 0], [0.5] * 2, [0.5] * 2, level=0), "level must be"),
    ],
)
def test_what_makes_no_sense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_policy_that_explores_is_neither_drafted_nor_replayed(platform, past):
    requests = platform.requests(0)
    with pytest.raises(ValueError, match="explores"):
        x.interleaving_policy(random_policy(), random_policy(), 6)(requests, platform.candidates(requests))
    with pytest.raises(ValueError, match="explores"):
        x.replay(random_policy(), past, platform.candidates)
    with pytest.raises(ValueError, match="Positions must be from 1 to the 30"):
        x.replay(two_policies(platform, 0)[0], past.assign(position=31), platform.candidates)


def test_intervals_are_those_of_the_metrics():
    found = x.difference_of_means([1, 2, 3], [2, 3, 5])
    assert isinstance(found.difference, Interval) and isinstance(found.lift, Interval)
