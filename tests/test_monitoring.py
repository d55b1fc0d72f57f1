"""Monitoring judged by what it promises: error rates by simulation, closed forms by a second route.

A rate is compared with its promise by a binomial test at one in a thousand, with fixed seeds. Where an
assumption breaks, a test shows that the number is then wrong.
"""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit, logit
from sklearn.metrics import accuracy_score, brier_score_loss, roc_auc_score
from statsmodels.stats.multitest import multipletests

from helpers import monitoring as m
from helpers.metrics import change_prior, population_stability_index
from helpers.rankers import calibration_by_slice

NAN = float("nan")


def fits(hits, rate):
    """Whether this many hits (flags) are usual for a rate."""
    hits = np.asarray(hits, dtype=bool)
    return stats.binomtest(int(hits.sum()), hits.size, rate).pvalue > 1e-3


def clearly(hits, than, rate):
    """Whether the hits are far too few ("less") or too many ("greater") for a rate."""
    hits = np.asarray(hits, dtype=bool)
    return stats.binomtest(int(hits.sum()), hits.size, rate, alternative=than).pvalue < 1e-3


def normal(rng, rows, mean=0.0):
    return pd.DataFrame({"x": rng.normal(mean, 1, rows), "y": rng.normal(size=rows)})


def bought(rng, rows):
    """Rows of users, of whom a few have many; `age` and `band` belong to the user, `noise` to the row."""
    weight = rng.lognormal(size=300)
    user = rng.choice(300, rows, p=weight / weight.sum())
    age = rng.normal(size=300)
    row = {"age": age[user], "near": age[user] + rng.normal(0, 0.5, rows), "noise": rng.normal(size=rows)}
    return pd.DataFrame({"user": user, "band": np.where(age > 0.5, "old", "young")[user], **row})


# ---------------------------------------------------------------- PSI and its null


@given(st.integers(1, 10**6), st.integers(1, 10**6), st.integers(2, 50), st.floats(0.001, 0.4))
def test_the_psi_that_chance_exceeds_lies_above_its_mean_and_falls_with_rows(n, rows, bins, alpha):
    mean, limit = m.psi_expectation(n, rows, bins), m.psi_limit(n, rows, bins, alpha)
    assert mean == pytest.approx((bins - 1) * (1 / n + 1 / rows))
    assert m.psi_limit(n, rows, bins, alpha / 2) > limit > m.psi_limit(n + 1, rows, bins, alpha)
    assert m.psi_limit(n, rows, bins, 0.01) > mean


@pytest.mark.parametrize(("n", "rows"), [(500, 500), (400, 2_000)])
def test_psi_without_drift_has_the_mean_and_the_quantile_that_are_promised(n, rows):
    rng = np.random.default_rng(0)
    psi = [m.largest_psi(pd.DataFrame({"x": rng.normal(size=n)}), pd.DataFrame({"x": rng.normal(size=rows)}))
           for _ in range(400)]  # fmt: skip
    assert np.mean(psi) == pytest.approx(m.psi_expectation(n, rows), rel=0.1)
    assert fits(np.array(psi) > m.psi_limit(n, rows, alpha=0.05), 0.05)


def test_a_fixed_rule_of_thumb_cries_wolf_on_small_windows_and_sleeps_on_large_ones():
    rng = np.random.default_rng(1)
    small = [m.largest_psi(normal(rng, 100), normal(rng, 100)) > 0.1 for _ in range(40)]
    assert np.mean(small) > 0.9
    large = m.drift_report(normal(rng, 20_000), normal(rng, 20_000, mean=0.1)).loc["x"]
    assert large.alarm and large.psi > large.psi_limit and large.psi < 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, 5), "n must be"), ((5, 0), "m must be"), ((5, 5, 1), "bins must be"), ((5, 5, 10, 0), "alpha")],
)
def test_a_null_of_nothing_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        m.psi_limit(*arguments)


# ---------------------------------------------------------------- the drift report


def test_the_report_says_what_scipy_says_of_independent_rows():
    rng = np.random.default_rng(2)
    a, b = (pd.DataFrame({"x": rng.normal(k, 1, 200 + k), "c": rng.choice(list("abc"), 200 + k)})
            for k in (0, 1))  # fmt: skip
    report = m.drift_report(a, b)
    x, c = report.loc["x"], report.loc["c"]
    ks = stats.ks_2samp(a.x, b.x, method="asymp")
    table = pd.crosstab(np.r_[np.zeros(200), np.ones(201)], pd.concat([a.c, b.c]))
    chi = stats.chi2_contingency(table, correction=False)
    assert (x.test, x.statistic, x.p_value) == ("KS", ks.statistic, pytest.approx(ks.pvalue))
    assert (c.test, c.statistic, c.p_value) == ("chi-square", *map(pytest.approx, chi[:2]))
    assert x.wasserstein == pytest.approx(stats.wasserstein_distance(a.x, b.x) / a.x.std(ddof=0))
    assert np.isnan(c.wasserstein) and list(report.index) == ["x", "c"]
    assert c.p_adjusted == pytest.approx(c.p_value) and x.p_adjusted == pytest.approx(2 * x.p_value)
    assert x.alarm and not c.alarm
    for row, bins in ((x, 10), (c, 3)):
        assert row.psi_expected == pytest.approx(m.psi_expectation(200, 201, bins))
        assert row.psi_limit == pytest.approx(m.psi_limit(200, 201, bins, 0.01)) and row.design_effect == 1


def test_psi_of_a_number_is_the_sum_over_deciles_of_the_reference():
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=300), rng.normal(0.5, 1, 170)
    codes = [np.searchsorted(np.quantile(a, np.linspace(0.1, 0.9, 9)), x, side="right") for x in (a, b)]
    e, o = (np.bincount(x, minlength=10) + 0.5 for x in codes)
    e, o = e / e.sum(), o / o.sum()
    found = m.drift_report(pd.DataFrame({"x": a}), pd.DataFrame({"x": b})).psi["x"]
    assert found == pytest.approx(np.sum((o - e) * np.log(o / e)))
    assert found == m.largest_psi(pd.DataFrame({"x": a}), pd.DataFrame({"x": b}))


LEVELS = st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=40)


@given(LEVELS, LEVELS)
def test_psi_of_levels_is_nought_for_one_window_twice_and_symmetric(a, b):
    one, other = (pd.DataFrame({"c": pd.Series(x, dtype=object)}) for x in (a, b))
    assert m.largest_psi(one, one) == pytest.approx(0)
    assert m.largest_psi(one, other) >= 0
    if len(a) == len(b):
        assert m.largest_psi(one, other) == pytest.approx(m.largest_psi(other, one))


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_and_columns_changes_nothing(seed):
    rng = np.random.default_rng(seed)
    a, b = bought(rng, 120), bought(rng, 90)
    straight = m.drift_report(a, b, "user")
    a, b = a.sample(frac=1, random_state=1), b.sample(frac=1, random_state=2)[a.columns[::-1]]
    turned = m.drift_report(a, b, "user")
    pd.testing.assert_frame_equal(straight.sort_index(), turned.sort_index())


def test_quiet_windows_of_independent_rows_alarm_as_often_as_promised():
    rng, found = np.random.default_rng(4), []
    for _ in range(120):
        a, b = (normal(rng, rows).assign(c=rng.choice(list("abcd"), rows)) for rows in (400, 250))
        report = m.drift_report(a, b, alpha=0.05)
        found.append([*(report.p_value < 0.05).sort_index(), report.alarm.any()])
    c, x, y, either = np.array(found).T
    assert fits(c, 0.05) and fits(x, 0.05) and fits(y, 0.05)
    assert not clearly(either, "greater", 0.05)


def test_rows_of_users_alarm_far_too_often_unless_the_user_is_named():
    rng, named, unnamed = np.random.default_rng(5), [], []
    for _ in range(80):
        a, b = bought(rng, 1_000), bought(rng, 1_000)
        b["user"] += 300
        rows = ["age", "near", "band", "noise"]
        named.append(m.drift_report(a, b, "user").p_value[rows] < 0.05)
        unnamed.append(m.drift_report(a[rows], b[rows]).p_value[rows] < 0.05)
    named, unnamed = np.array(named), np.array(unnamed)
    assert all(clearly(hits, "greater", 0.2) for hits in unnamed.T[:3])
    assert not any(clearly(hits, "greater", 0.08) for hits in named.T)
    assert fits(named[:, 3], 0.05)


def test_users_who_come_in_both_windows_are_not_drift():
    rng = np.random.default_rng(6)
    age, user = rng.normal(size=200), rng.integers(200, size=(2, 4_000))
    a, b = (pd.DataFrame({"age": age[rows], "user": rows}) for rows in user)
    assert m.drift_report(a, b, "user").design_effect["age"] < 2, "most of the difference cancels"
    b["user"] += 200
    assert m.drift_report(a, b, "user").design_effect["age"] > 10, "now they look like other people"


def test_of_several_units_each_feature_follows_the_one_that_makes_its_rows_fewest():
    rng = np.random.default_rng(7)
    user, video = rng.integers(100, size=2_000), rng.integers(40, size=2_000)
    rows = pd.DataFrame({"user": user, "video": video, "of_user": rng.normal(size=100)[user]})
    a = rows.assign(of_video=rng.normal(size=40)[video], of_row=rng.normal(size=2_000))
    b = a.assign(user=user + 100, video=video + 40)
    both = m.drift_report(a, b, ["user", "video"]).design_effect
    for one, feature in (("user", "of_user"), ("video", "of_video")):
        alone = m.drift_report(a.drop(columns={"user": "video", "video": "user"}[one]),
                               b.drop(columns={"user": "video", "video": "user"}[one]), one)  # fmt: skip
        assert both[feature] == pytest.approx(alone.design_effect[feature]) and both[feature] > 5
    assert both["of_row"] < 2


@pytest.mark.parametrize("unit", [None, "user"])
def test_a_new_level_a_gap_and_a_wider_spread_are_found_and_nothing_else(unit):
    rng = np.random.default_rng(8)
    rows = {"user": np.arange(2_000), "wide": rng.normal(size=2_000), "gap": rng.normal(size=2_000)}
    a = pd.DataFrame(rows | {"level": "a", "same": rng.normal(size=2_000)})
    b = a.sample(frac=1, random_state=0).assign(wide=a.wide * 1.5, user=np.arange(2_000, 4_000))
    b["gap"] = b["gap"].mask(rng.random(2_000) < 0.1)
    b["level"] = np.where(rng.random(2_000) < 0.02, "b", "a")
    if unit is None:
        a, b = a.drop(columns="user"), b.drop(columns="user")
    report = m.drift_report(a, b, unit)
    assert report.alarm.to_dict() == {"wide": True, "gap": True, "level": True, "same": False}
    assert report.missing_current["gap"] == b.gap.isna().mean() and not report.missing_reference.any()


@pytest.mark.parametrize(
    ("before", "after", "psi_above"),
    [
        (["a"] * 50, ["b"] * 50, 5),
        ([NAN] * 50, [NAN] * 50, -1),
        ([NAN] * 50, [1.0] * 50, 5),
        ([1.0] * 50, [NAN] * 50, 5),
        ([1.0] * 50, [2.0] * 50, 5),
        ([True, False] * 25, [True] * 50, 1),
        (pd.array([1, 2, None] * 17, "Int64"), pd.array([1, 2, 2] * 17, "Int64"), 1),
        ([None] * 50, ["b"] * 50, 5),
    ],
    ids=str,
)
@pytest.mark.parametrize("unit", [None, "user"])
def test_windows_of_one_value_and_of_gaps_are_compared(before, after, psi_above, unit):
    a, b = (pd.DataFrame({"x": x, "user": np.arange(len(x))}) for x in (before, after))
    b["user"] += 100
    if unit is None:
        a, b = a[["x"]], b[["x"]]
    row = m.drift_report(a, b, unit).loc["x"]
    assert row.psi > psi_above and row.alarm == (psi_above > 0)
    assert row.p_value == pytest.approx(1) or psi_above > 0
    assert row.psi == m.largest_psi(a[["x"]], b[["x"]])


def test_a_number_that_is_nearly_always_nought_has_a_bin_for_nought():
    a, b = (pd.DataFrame({"x": np.arange(1_000.0) < k}).astype(float) for k in (50, 200))
    e, o = np.array([950.5, 50.5]) / 1_001, np.array([800.5, 200.5]) / 1_001
    assert m.largest_psi(a, b) == pytest.approx(np.sum((o - e) * np.log(o / e)))


@settings(max_examples=15)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_that_of_statsmodels(p):
    np.testing.assert_allclose(m._holm(np.array(p)), multipletests(p, method="holm")[1])


def test_rare_levels_count_as_one():
    rng = np.random.default_rng(9)
    a, b = (pd.DataFrame({"id": rng.integers(10**9, size=300).astype(str)}) for _ in range(2))
    assert m.drift_report(a, b).p_value["id"] == 1
    a.loc[:149, "id"], b.loc[:49, "id"] = "often", "often"
    assert m.drift_report(a, b).alarm["id"]


X = pd.DataFrame({"x": [1.0, 2.0, 3.0], "u": [1, 2, 3]})


@pytest.mark.parametrize(
    ("reference", "current", "unit", "message"),
    [
        (X, X.iloc[:0], None, "current must be a table with rows"),
        (X, X.to_numpy(), None, "current must be a table"),
        (X, pd.concat([X, X], axis=1), None, "each column once"),
        (X, X[["x"]], None, "Only one of the windows has u"),
        (X, X, "user", "no column user"),
        (X, X, ["u", "v"], "no column v"),
        (X[["u"]], X[["u"]], "u", "hold no feature"),
        (X, X.assign(u=[1, None, 3]), "u", "name two units or more, and one in each row"),
        (X.assign(u=1), X.assign(u=1), "u", "name two units or more"),
        (X, X.assign(x="a"), None, "make it a number"),
        (X.assign(x=pd.Timestamp("2025-01-06")), X.assign(x=pd.Timestamp("2025-01-06")), None, "its hour"),
        (X.assign(x=pd.Timedelta("1D")), X.assign(x=pd.Timedelta("1D")), None, "its hour"),
        (X, X.assign(x=[1, 2, np.inf]), None, "holds infinity"),
    ],
    ids=str,
)
def test_windows_that_cannot_be_compared_are_refused(reference, current, unit, message):
    with pytest.raises(ValueError, match=message):
        m.drift_report(reference, current, unit)


@pytest.mark.parametrize("alpha", [0, 1, "5%"])
def test_an_alpha_that_is_no_error_rate_is_refused(alpha):
    with pytest.raises(ValueError, match="alpha must be"):
        m.drift_report(X, X, alpha=alpha)


# ---------------------------------------------------------------- the classifier two-sample test


def test_c2st_alarms_on_quiet_windows_as_often_as_promised_and_not_with_the_deviation_of_one_test_set():
    rng = np.random.default_rng(10)
    found = [m.classifier_two_sample(normal(rng, 250), normal(rng, 250), seed=i) for i in range(100)]
    auc, sd, p = np.array(found).T
    assert fits(p < 0.05, 0.05)
    assert sd == pytest.approx(np.sqrt(2 * 501 / (12 * 250 * 250)))
    variance_ratio = np.sum((auc - 0.5) ** 2) / sd[0] ** 2
    assert 1e-3 < stats.chi2.sf(variance_ratio, 100) < 0.999
    assert stats.chi2.sf(2 * variance_ratio, 100) < 1e-4, "as one test set would have it: too narrow"


def test_c2st_sees_what_no_single_feature_shows():
    rng = np.random.default_rng(11)
    a, x = normal(rng, 2_000), rng.normal(size=2_000)
    b = pd.DataFrame({"x": x, "y": 0.8 * x + 0.6 * rng.normal(size=2_000)})
    assert not m.drift_report(a, b).alarm.any()
    found = m.classifier_two_sample(a, b)
    assert found.auc > 0.65 and found.p_value < 1e-6
    assert found == m.classifier_two_sample(a, b), "the same seed gives the same trees"


def test_c2st_does_not_take_the_order_of_rows_for_drift():
    rng = np.random.default_rng(12)
    a, b = (normal(rng, 600).sort_values("x", ignore_index=True) for _ in range(2))
    assert abs(m.classifier_two_sample(a, b).auc - 0.5) < 0.1


def test_c2st_knows_people_again_unless_their_rows_stay_together():
    rng = np.random.default_rng(13)
    own, user = rng.normal(size=(80, 3)), np.repeat(np.arange(40), 25)
    a, b = (pd.DataFrame(own[user + k], columns=list("abc")).assign(user=user + k) for k in (0, 40))
    apart = m.classifier_two_sample(a[[*"abc"]], b[[*"abc"]])
    together = m.classifier_two_sample(a, b, "user")
    assert apart.auc > 0.95 and apart.p_value < 1e-9
    assert together.p_value > 0.01 and together.null_sd > 3 * apart.null_sd


def test_c2st_keeps_its_promise_for_rows_of_users():
    rng, p = np.random.default_rng(14), []
    for i in range(40):
        a, b = bought(rng, 400), bought(rng, 400)
        b["user"] += 300
        p.append(m.classifier_two_sample(a, b, "user", seed=i).p_value)
    assert not clearly(np.array(p) < 0.05, "greater", 0.05)


def test_c2st_reads_levels_and_gaps():
    rng = np.random.default_rng(15)
    a = normal(rng, 400).assign(c=rng.choice(list("ab"), 400), odd=pd.Categorical(["z"] * 400))
    b = normal(rng, 400).assign(c=rng.choice(list("abd"), 400), odd=pd.Categorical(["z"] * 400))
    b["y"] = b["y"].mask(rng.random(400) < 0.2)
    assert m.classifier_two_sample(a, b).auc > 0.6
    assert m.classifier_two_sample(a[["odd"]], b[["odd"]]).auc == 0.5


@pytest.mark.parametrize(
    ("reference", "unit", "folds", "message"),
    [
        (X, None, 4, "folds must be"),
        (X, None, 1, "folds must be"),
        (X.assign(u=[1, 1, 2]), "u", 3, "folds must be"),
        (X, "v", 2, "no column v"),
    ],
)
def test_a_two_sample_test_without_enough_rows_or_units_is_refused(reference, unit, folds, message):
    with pytest.raises(ValueError, match=message):
        m.classifier_two_sample(reference, reference, unit, folds)


def test_a_fold_with_one_window_only_is_refused():
    a, b = (pd.DataFrame({"x": np.arange(40.0), "u": [name] * 40}) for name in "ab")
    with pytest.raises(ValueError, match="rows of one window only"):
        m.classifier_two_sample(a, b, "u", folds=2)


# ---------------------------------------------------------------- does it hurt? with labels


def calibrated(rng, rows, factor=1.0):
    p = rng.beta(1, 4, rows)
    return (rng.random(rows) < np.minimum(1, factor * p)).astype(int), p


def test_the_table_of_calibration_is_that_of_the_slices():
    rng = np.random.default_rng(16)
    y, p = calibrated(rng, 500)
    segment = rng.choice(["b", "a", "c"], 500)
    found, slices = m.calibration_by_segment(y, p, segment), calibration_by_slice(y, p, segment)
    same = ["n", "mean_predicted", "observed", "ratio"]
    pd.testing.assert_frame_equal(found[same], slices[same], check_names=False)
    assert (found.ratio_low < slices.ratio_low).all() and (found.ratio_high > slices.ratio_high).all()
    alone = m.calibration_by_segment(y, p, np.zeros(500))
    wanted = calibration_by_slice(y, p, np.zeros(500))[["ratio_low", "ratio_high"]]
    np.testing.assert_allclose(alone[["ratio_low", "ratio_high"]], wanted)


def test_five_calibrated_segments_alarm_together_as_seldom_as_promised():
    rng = np.random.default_rng(17)
    alarms = []
    for _ in range(60):
        y, p = calibrated(rng, 1_000)
        alarms.append(m.calibration_by_segment(y, p, np.arange(1_000) % 5).alarm.any())
    assert not clearly(alarms, "greater", 0.05)
    assert not clearly(alarms, "less", 0.01), "and the intervals are not absurdly wide"


def test_rows_of_users_need_the_interval_of_users():
    rng, rows, users = np.random.default_rng(18), [], []
    for _ in range(40):
        user = np.repeat(np.arange(100), 25)
        luck = expit(rng.normal(-1, 2.5, 100))
        p = np.full(2_500, expit(rng.normal(-1, 2.5, 10**5)).mean())
        y = (rng.random(2_500) < luck[user]).astype(int)
        rows.append(m.calibration_by_segment(y, p, np.zeros(2_500)).alarm.any())
        users.append(m.calibration_by_segment(y, p, np.zeros(2_500), user).alarm.any())
    assert clearly(rows, "greater", 0.2)
    assert not clearly(users, "greater", 0.07)


def test_the_segment_that_is_wrong_is_named_with_the_direction():
    rng = np.random.default_rng(19)
    y, p = calibrated(rng, 6_000)
    segment = np.repeat(["fine", "twice", "none"], 2_000)
    y[segment == "twice"] = rng.random(2_000) < p[segment == "twice"] / 2
    y[segment == "none"] = 0
    table = m.calibration_by_segment(y, p, segment)
    assert table.alarm.to_dict() == {"fine": False, "twice": True, "none": True}
    assert table.ratio_low["twice"] < 2 < table.ratio_high["twice"]
    assert np.isinf(table.ratio["none"]) and table.ratio_low["none"] > 10


def test_a_segment_of_one_user_has_no_interval_and_no_alarm():
    table = m.calibration_by_segment([1, 1, 0, 1], [0.1] * 4, list("aabb"), [1, 1, 2, 3])
    assert np.isnan(table.ratio_low["a"]) and not table.alarm["a"]
    assert np.isfinite(table.ratio_low["b"])


def test_labels_that_have_not_come_yet_look_like_a_model_that_predicts_too_many():
    rng = np.random.default_rng(20)
    y, p = calibrated(rng, 4_000)
    late = rng.random(4_000) < 0.4
    assert not m.calibration_by_segment(y, p, np.zeros(4_000)).alarm.any()
    table = m.calibration_by_segment(np.where(late, 0, y), p, np.zeros(4_000))
    assert table.alarm.all() and table.ratio_low.iloc[0] > 1.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0, 2], [0.5, 0.5], [1, 1]), "y_true must hold only 0 and 1"),
        (([0, 1], [0.5, 1.5], [1, 1]), "must lie in"),
        (([0, 1], [0.5, 0.5], [1]), "inconsistent numbers"),
        (([0, 1], [0.5, 0.5], [1, None]), "missing values"),
        (([0, 1], [0.5, 0.5], [1, 1], [1, None]), "missing values"),
        (([0, 1, 1], [0.5, 0.5, 0.0], [1, 1, 2]), "expects no positive"),
        (([0, 1], [0.5, 0.5], [1, 1], [1, 2], 1.0), "level must be"),
        (([0, 1], [0.5, 0.5], [1, 1], [1, 2, 3]), "inconsistent numbers"),
    ],
    ids=str,
)
def test_calibration_of_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        m.calibration_by_segment(*arguments)


# ---------------------------------------------------------------- does it hurt? without labels

PROBABILITIES = st.lists(st.floats(0, 1), min_size=1, max_size=7).filter(lambda p: 0 < sum(p) < len(p))


def accuracy(y, p, sample_weight):
    return accuracy_score(y, p >= 0.5, sample_weight=sample_weight)


@given(PROBABILITIES)
def test_the_expected_accuracy_is_its_mean_over_all_labels_that_can_come(p):
    p = np.array(p)
    outcomes = np.array(list(product([0, 1], repeat=len(p))))
    chance = np.where(outcomes, p, 1 - p).prod(axis=1)
    accuracies = (outcomes == (p >= 0.5)).mean(axis=1)
    assert m.expected_performance(p, accuracy) == pytest.approx(chance @ accuracies)


def test_expected_performance_is_right_under_covariate_shift_and_blind_to_concept_drift():
    rng = np.random.default_rng(21)
    x = rng.normal(0.8, 1.3, 20_000)  # the model saw mean 0 and deviation 1
    p = expit(2 * x - 1)
    expected = m.expected_performance(p)
    assert expected == pytest.approx(roc_auc_score(rng.random(20_000) < p, p), abs=0.01)
    assert m.expected_performance(p, brier_score_loss) == pytest.approx(np.mean(p * (1 - p)))
    drifted = rng.random(20_000) < expit(0.4 * x - 1)
    assert roc_auc_score(drifted, p) < expected - 0.15, "it keeps promising what is gone"


@pytest.mark.parametrize("p", [[0, 0], [1, 1], [0.5, 1.2], [NAN, 0.5], [], [[0.5]], ["a"]], ids=str)
def test_expected_performance_of_nonsense_is_refused(p):
    with pytest.raises(ValueError, match="y_prob"):
        m.expected_performance(p)


def labelled(rng, prior, rows, spread=1.0):
    """Labels with this base rate; x is N(-1, 1) or N(1, 1); the model is right at a base rate of 0.15."""
    y = rng.random(rows) < prior
    x = rng.normal(np.where(y, 1, -1), 1)
    return y, expit(spread * 2 * x + logit(0.15))


@pytest.mark.parametrize("prior", [0.02, 0.15, 0.35, 0.8])
def test_em_finds_the_base_rate_after_a_label_shift_where_the_mean_does_not(prior):
    _, p = labelled(np.random.default_rng(22), prior, 20_000)
    assert m.prior_by_em(p, 0.15) == pytest.approx(prior, abs=0.012)
    assert prior == 0.15 or abs(p.mean() - prior) > abs(m.prior_by_em(p, 0.15) - prior)


def test_em_finds_the_maximum_of_the_likelihood():
    _, p = labelled(np.random.default_rng(23), 0.4, 300)
    grid = np.linspace(0.01, 0.99, 981)
    likelihood = [np.log(q * p / 0.15 + (1 - q) * (1 - p) / 0.85).sum() for q in grid]
    assert m.prior_by_em(p, 0.15) == pytest.approx(grid[np.argmax(likelihood)], abs=1e-3)


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=30), st.floats(0.05, 0.95))
def test_the_answer_of_em_is_a_fixed_point(p, prior):
    found = m.prior_by_em(p, prior, most_steps=10**5)
    assert change_prior(p, prior, found).mean() == pytest.approx(found, abs=1e-5)


def test_em_answers_wrongly_and_as_confidently_when_the_concept_drifts():
    _, p = labelled(np.random.default_rng(24), 0.35, 20_000)
    swapped = np.random.default_rng(25).permutation(p)  # the scores now have nothing to do with the labels
    assert m.prior_by_em(swapped, 0.15) == m.prior_by_em(p, 0.15)
    x = np.random.default_rng(26).normal(-1, 1, 20_000)  # P(x) stays, P(y | x) does not
    truth = (np.random.default_rng(27).random(20_000) < 0.35).mean()
    assert abs(m.prior_by_em(expit(2 * x + logit(0.15)), 0.15) - truth) > 0.3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.5, 2], 0.5), "y_prob must hold"),
        (([0.5], 0), "prior must be"),
        (([0.4, 0.6, 0.9], 0.5, 1e-7, 2), "not settled after 2 steps"),
        (([], 0.5), "at least one row"),
    ],
)
def test_em_of_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        m.prior_by_em(*arguments)


# ---------------------------------------------------------------- which alarm fires, on which day


def world(level, day_of_change=10**9, after=0.0):
    """Windows of two rows, whose x is the level, and after the change something else."""
    return lambda day: pd.DataFrame({"x": [after if day >= day_of_change else level] * 2, "day": day})


LEVEL = m.Detector("level", lambda _, w: w["x"].mean())
LATE = m.Detector("late", lambda _, w: w["x"].mean(), delay=3)
CHANGE = m.Detector("change", lambda r, w: abs(w["x"].mean() - r["x"].mean()))


@given(st.integers(0, 6), st.integers(1, 12), st.integers(0, 20))
def test_what_comes_late_is_known_late(delay, length, start):
    detector = m.Detector("day", lambda _, w: w["day"].mean(), delay)
    table = m.daily_statistics(world(0.0), range(start, start + length), world(0.0)(0), [detector])
    assert list(table.index) == list(range(start, start + length))
    for day, value in table["day"].items():
        assert value == day - delay if day - delay >= start else np.isnan(value)


def test_the_first_alarm_of_each_detector_is_the_first_day_above_its_threshold():
    days = range(5, 15)
    table = m.daily_statistics(world(0.0, 8, 1.0), days, world(0.0)(0), [LEVEL, LATE])
    assert m.first_alarms(table, {"level": 0.5, "late": 0.5}).to_dict() == {"level": 8, "late": 11}
    never = m.first_alarms(table, {"level": 1.0, "late": 2.0})
    assert never.isna().all(), "equal to the threshold is not above it"


def test_a_reference_that_moves_forgives_within_a_week_and_a_fixed_one_never():
    days = range(10, 30)
    moved = m.daily_statistics(world(0.0, 15, 1.0), days, m.moving_reference, [CHANGE])["change"]
    fixed = m.daily_statistics(world(0.0, 15, 1.0), days, world(0.0)(0), [CHANGE])["change"]
    assert moved[15] == 1 and (moved.loc[22:] == 0).all() and moved.loc[15:22].is_monotonic_decreasing
    assert (fixed.loc[15:] == 1).all() and (fixed.loc[:14] == 0).all()


def test_a_reference_that_moves_holds_the_days_before_and_no_more_rows_than_asked():
    reference = m.moving_reference(world(0.0), days=3, rows=4)
    assert set(reference(10).day) <= {7, 8, 9} and len(reference(10)) == 4
    assert len(m.moving_reference(world(0.0), days=3)(10)) == 6
    assert reference(10).equals(reference(10))


def test_the_matrix_has_a_row_a_world_and_a_column_a_detector():
    worlds = {"none": world(0.0), "up": world(0.0, 12, 1.0)}
    thresholds = {"level": 0.5, "late": 0.5}
    matrix = m.drift_matrix(worlds, iter(range(10, 20)), world(0.0)(0), [LEVEL, LATE], thresholds)
    assert matrix.loc["none"].isna().all()
    assert matrix.loc["up"].to_dict() == {"level": 12, "late": 15}
    with pytest.raises(ValueError, match="worlds is empty"):
        m.drift_matrix({}, range(3), world(0.0)(0), [LEVEL], thresholds)


@pytest.mark.parametrize(
    ("days", "detectors", "message"),
    [
        ([], [LEVEL], "consecutive and at least one"),
        ([1, 3], [LEVEL], "consecutive"),
        ([2, 1], [LEVEL], "consecutive"),
        ([1.5], [LEVEL], "a day must be"),
        ([1], [], "at least one detector"),
        ([1], [LEVEL, LEVEL], "its own name"),
    ],
)
def test_statistics_of_nonsense_are_refused(days, detectors, message):
    with pytest.raises(ValueError, match=message):
        m.daily_statistics(world(0.0), days, world(0.0)(0), detectors)


@pytest.mark.parametrize(
    ("name", "statistic", "delay", "message"),
    [(" ", len, 0, "name"), (7, len, 0, "name"), ("a", 3, 0, "function"), ("a", len, -1, "delay must be")],
)
def test_a_detector_that_makes_no_sense_is_refused(name, statistic, delay, message):
    with pytest.raises(ValueError, match=message):
        m.Detector(name, statistic, delay)


def test_the_standard_detectors_say_what_their_table_says():
    rng = np.random.default_rng(28)
    y, p = calibrated(rng, 400)
    reference = normal(rng, 400).assign(score=p, label=y, user=np.arange(400))
    now = reference.assign(x=reference.x + 1, score=p / 2, user=np.arange(400, 800))
    found = {d.name: (d.statistic(reference, now), d.delay)
             for d in m.standard_detectors(["x", "y"], 7, "user", review_delay=1, reviewed=20)}  # fmt: skip
    top = now.sort_values("score").tail(20)
    features = [reference[["x", "y", "user"]], now[["x", "y", "user"]]]
    assert found == {
        "PSI": (m.largest_psi(reference[["x", "y"]], now[["x", "y"]]), 0),
        "C2ST": (m.classifier_two_sample(*features, "user").auc, 0),
        "score PSI": (population_stability_index(reference.score, now.score), 0),
        "mean score": (pytest.approx(np.log(2)), 0),
        "review": (pytest.approx(1 - top.label.mean()), 1),
        "AUC": (1 - roc_auc_score(y, p), 7),
        "calibration": (pytest.approx(abs(np.log(y.sum() / (p.sum() / 2)))), 7),
    }
    silent = now.assign(label=0)
    assert m.standard_detectors(["x"], 7)[-1].statistic(reference, silent) == np.inf
    with pytest.raises(ValueError, match="reviewed must be"):
        m.standard_detectors(["x"], 7, reviewed=0)


# ---------------------------------------------------------------- alarms

ALARM = {"name": "a", "owner": "data", "statistic": "s", "threshold": 1.0, "runbook": "look"}


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"owner": " "},
        {"runbook": None},
        {"statistic": 3},
        {"threshold": NAN},
        {"threshold": "x"},
    ],
    ids=str,
)
def test_an_alarm_that_calls_nobody_or_for_nothing_is_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        m.Alarm(**ALARM | change)


def test_a_page_says_who_is_called_and_what_to_do_first():
    table = pd.DataFrame({"s": [1, 2, 3.0], "t": [5.0, NAN, 5]}, pd.Index([7, 8, 9], name="day"))
    alarms = [m.Alarm(**ALARM), m.Alarm("b", "model", "t", 4.0, "roll back")]
    sent = m.pages_sent(alarms, table)
    assert [*zip(sent.day, sent.alarm, strict=True)] == [(7, "b"), (8, "a"), (9, "a"), (9, "b")]
    assert sent.loc[0, ["owner", "runbook"]].to_list() == ["model", "roll back"]
    assert m.pages_sent(alarms, table - 9).empty
    assert len(sent) == m.pages(table, {"s": 1.0, "t": 4.0}).to_numpy().sum()
    with pytest.raises(ValueError, match="Nothing measures what b watches"):
        m.pages_sent(alarms, table[["s"]])


def quiet_days(rng, days, alarms=4):
    """Exchangeable days on which the alarms depend on each other."""
    common = rng.normal(size=(days, 1))
    return pd.DataFrame(np.exp(common + rng.normal(size=(days, alarms))), columns=list("abcd")[:alarms])


@pytest.mark.parametrize("budget", [1.0, 2.5])
def test_all_alarms_together_send_no_more_false_pages_than_promised(budget):
    rng, found = np.random.default_rng(29), []
    for _ in range(400):
        thresholds = m.threshold_for(quiet_days(rng, 60), budget)
        found.append(m.false_pages(quiet_days(rng, 70), thresholds).estimate)
    rank = int(budget / 28 * 61)
    promised = 28 * rank / 61
    assert promised <= budget
    assert abs(np.mean(found) - promised) < 3.3 * np.std(found) / 20


@given(st.integers(1, 200), st.integers(1, 5), st.floats(0.2, 20))
def test_the_days_that_the_refusal_asks_for_are_enough_and_one_less_is_not(days, alarms, budget):
    quiet = pd.DataFrame(np.arange(days * alarms, dtype=float).reshape(days, alarms))
    rank = budget / (7 * alarms) * (days + 1)
    if rank < 1 - 1e-9:
        with pytest.raises(ValueError, match="cannot promise") as error:
            m.threshold_for(quiet, budget)
        needed = int(str(error.value).split("collect ")[1].split()[0])
        assert needed > days and budget / (7 * alarms) * (needed + 1) >= 1 - 1e-6
        assert budget / (7 * alarms) * needed < 1 + 1e-6
    else:
        above = m.pages(quiet, m.threshold_for(quiet, budget)).sum()
        assert (above == min(int(rank + 1e-9), days) - 1).all()


@pytest.mark.parametrize("together", [False, True])
def test_the_interval_of_false_pages_covers_the_truth(together):
    rng, covered = np.random.default_rng(30), []
    for _ in range(400):
        quiet = pd.DataFrame(rng.random((70, 3)), columns=list("abc"))
        if together:
            quiet = quiet.assign(b=quiet["a"], c=quiet["a"])
        covered.append(m.false_pages(quiet, dict.fromkeys("abc", 0.95)).covers(0.05 * 3 * 7))
    assert not clearly(covered, "less", 0.95)
    none = m.false_pages(quiet, dict.fromkeys("abc", 1.0))
    assert (none.estimate, none.low) == (0, 0) and none.high == pytest.approx(-np.log(0.025) / 10)


def test_days_with_a_trend_send_more_pages_than_promised_and_the_held_out_days_say_so():
    rng = np.random.default_rng(31)
    trend = pd.DataFrame({"a": np.arange(150) * 0.05 + rng.normal(size=150)})
    found = m.false_pages(trend[75:], m.threshold_for(trend[:75]))
    assert found.low > 1


@pytest.mark.parametrize(
    ("quiet", "budget", "message"),
    [
        (pd.DataFrame({"a": [1.0, NAN]}), 7, "finite number for each day"),
        (pd.DataFrame({"a": []}), 7, "finite number"),
        (pd.DataFrame({"a": [1.0]}), 0, "pages_per_week must be"),
    ],
)
def test_a_threshold_out_of_nothing_is_refused(quiet, budget, message):
    with pytest.raises(ValueError, match=message):
        m.threshold_for(quiet, budget)


def test_a_statistic_without_threshold_is_refused():
    table = pd.DataFrame({"a": [1.0], "b": [1.0]})
    for call in (m.pages, m.first_alarms, m.false_pages):
        with pytest.raises(ValueError, match="No threshold for b"):
            call(table, {"a": 1.0, "c": 2.0})
    with pytest.raises(ValueError, match="no day"):
        m.false_pages(table[:0], {"a": 1.0, "b": 1.0})


# ---------------------------------------------------------------- burn rates

MINUTES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), min_size=1, max_size=30)


@given(MINUTES, st.integers(1, 10), st.sampled_from([0.9, 0.99]))
def test_the_burn_rate_is_the_share_of_bad_events_over_the_budget(counts, minutes, slo):
    bad, good = np.array(counts).T
    found = m.burn_rate(bad, bad + good, slo, minutes)
    for i in range(len(bad)):
        window = slice(max(0, i + 1 - minutes), i + 1)
        events = (bad + good)[window].sum()
        share = bad[window].sum() / events if events else 0
        assert found[i] == pytest.approx(share / (1 - slo))


def test_the_alarm_needs_a_long_and_a_short_window_and_stops_with_the_trouble():
    total, bad = np.full(600, 100.0), np.zeros(600)
    bad[200:230] = 5  # 50 times the budget of 99.9 %
    fires = m.burn_rate_alarm(bad, total, 0.999)
    hour, five = (m.burn_rate(bad, total, 0.999, minutes) for minutes in (60, 5))
    assert not fires[:200].any() and fires[229] and not fires[260:].any()
    first = np.flatnonzero(fires)[0]
    assert hour[first] > 14.4 >= hour[first - 1] and five[first - 1] > 14.4
    bad[:] = 0
    bad[200] = 50  # one bad minute is no page
    assert not m.burn_rate_alarm(bad, total, 0.999).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([2], [1], 0.9, 5), "bad exceeds total"),
        (([1], [1, 2], 0.9, 5), "One flat shape"),
        (([-1], [1], 0.9, 5), "bad must hold"),
        (([1], [1], 1, 5), "slo must be"),
        (([1], [1], 0.9, 0), "minutes must be"),
    ],
)
def test_a_burn_rate_of_nonsense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        m.burn_rate(*arguments)


# ---------------------------------------------------------------- when to train again

MONEY = st.floats(0.01, 1e4)


@given(MONEY, MONEY, MONEY, st.floats(0.1, 10))
def test_no_period_is_cheaper_than_the_best_and_twice_or_half_costs_a_quarter_more(c, v, d, factor):
    best = m.best_period(c, v, d)
    lowest = m.retraining_cost(best, c, v, d)
    assert lowest == pytest.approx(np.sqrt(2 * c * v * d))
    assert m.retraining_cost(best * factor, c, v, d) >= lowest * (1 - 1e-12)
    np.testing.assert_allclose(m.retraining_cost([best / 2, best * 2], c, v, d), 1.25 * lowest)


@given(st.integers(1, 30), st.integers(1, 20))
def test_a_schedule_trains_once_a_period(period, times):
    run = m.run_retraining(np.full(period * times, 0.01), m.every(period), 5, 100)
    assert run.trainings == times
    assert run.mean_loss == pytest.approx(0.01 * (period + 1) / 2)
    assert run.cost_per_day == pytest.approx(5 / period + 100 * run.mean_loss)


@pytest.mark.parametrize(
    ("retrain_cost", "value", "decay"), [(200, 1_000, 0.001), (50, 400, 0.01), (900, 300, 0.02)]
)
def test_the_cheapest_schedule_in_a_simulation_is_the_formula(retrain_cost, value, decay):
    best = m.best_period(retrain_cost, value, decay)
    periods = range(1, 60)
    costs = [m.run_retraining(np.full(5_000, decay), m.every(t), retrain_cost, value).cost_per_day
             for t in periods]  # fmt: skip
    assert abs(periods[int(np.argmin(costs))] - best) <= 1


def test_noise_in_the_decay_leaves_the_best_schedule_where_it_is():
    decay = np.random.default_rng(32).exponential(0.001, 20_000)
    costs = {t: m.run_retraining(decay, m.every(t), 200, 1_000).cost_per_day for t in (5, 10, 20, 40, 80)}
    assert min(costs, key=costs.get) == 20 and costs[10] == pytest.approx(1.25 * costs[20], rel=0.05)


@given(st.integers(0, 5))
def test_labels_that_come_late_cost_their_decay_on_every_day(delay):
    decay = np.full(400, 0.01)
    prompt, late = (m.run_retraining(decay, m.every(20), 1, 1, label_delay=k) for k in (0, delay))
    assert late.mean_loss == pytest.approx(prompt.mean_loss + 0.01 * delay * 380 / 400)


def test_a_trigger_beats_a_schedule_when_the_world_jumps():
    decay = np.zeros(1_000)
    decay[::200] = 0.1
    schedule = min(m.run_retraining(decay, m.every(t), 100, 1_000).cost_per_day for t in range(5, 300, 5))
    trigger = m.run_retraining(decay, m.when_loss_exceeds(0.05), 100, 1_000)
    assert trigger.trainings == 5 and trigger.cost_per_day < schedule / 2
    assert trigger.cost_per_day == pytest.approx((5 * 100 + 1_000 * 5 * 0.1) / 1_000)


def test_a_trigger_on_noise_trains_for_nothing():
    quiet = m.run_retraining(np.zeros(1_000), m.when_loss_exceeds(0.05), 1, 1, noise_sd=0.0)
    noisy = m.run_retraining(np.zeros(1_000), m.when_loss_exceeds(0.05), 1, 1, noise_sd=0.05)
    assert quiet.trainings == 0 and fits(np.arange(1_000) < noisy.trainings, stats.norm.sf(1))
    assert noisy == m.run_retraining(np.zeros(1_000), m.when_loss_exceeds(0.05), 1, 1, noise_sd=0.05)


def test_a_trigger_waits_for_the_labels_of_the_present_model():
    run = m.run_retraining(np.full(100, 0.01), m.when_loss_exceeds(0.055), 1, 1, label_delay=10)
    prompt = m.run_retraining(np.full(100, 0.01), m.when_loss_exceeds(0.055), 1, 1)
    assert prompt.trainings == 100 // 6 and 0 < run.trainings < 10


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: m.retraining_cost([1, 0], 1, 1, 1), "period must be"),
        (lambda: m.best_period(0, 1, 1), "retrain_cost must be"),
        (lambda: m.best_period(1, -1, 1), "value must be"),
        (lambda: m.best_period(1, 1, NAN), "decay must be"),
        (lambda: m.every(0), "period must be"),
        (lambda: m.when_loss_exceeds(0), "limit must be"),
        (lambda: m.run_retraining([-0.1], m.every(1), 1, 1), "decay must hold"),
        (lambda: m.run_retraining([0.1], m.every(1), 1, 1, label_delay=-1), "label_delay must be"),
        (lambda: m.run_retraining([0.1], m.every(1), 1, 1, noise_sd=-1), "noise_sd must hold"),
        (lambda: m.run_retraining([], m.every(1), 1, 1), "at least one row"),
    ],
)
def test_a_policy_of_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
