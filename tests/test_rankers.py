"""Rankers learn, the same each time; calibration undoes distortions; the finders find what was planted."""

from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from helpers.metrics import calibration_ratio, ndcg_at_k, query_auc, ranked, reliability_table
from helpers.rankers import (
    KINDS,
    CalibratedRegressor,
    LambdaRanker,
    MultiObjective,
    WeightedPipeline,
    ablation,
    as_categories,
    calibration_by_slice,
    isotonic,
    log_losses,
    platt,
    ranker,
    scores,
    slices,
    weighted_watch_time,
)
from helpers.saved_models import load_model, save_model, schema_of

N, SHOWN = 4_000, 10
TASTE = dict(zip("abc", (-1.0, 0.0, 1.0), strict=True))


def make_world(n, seed):
    """Features and outcomes of n impressions, ten a request; a quarter is clicked, by quality and topic."""
    rng = np.random.default_rng(seed)
    X = pd.DataFrame(
        {
            "quality": rng.normal(size=n),
            "duration": np.exp(rng.normal(4, 1, n)),
            "noise": rng.normal(size=n),
            "topic": pd.Categorical(rng.choice([*"abc"], n)),
        }
    )
    taste = X["topic"].map(TASTE).astype(float)
    clicked = rng.random(n) < expit(X["quality"] + taste - 1.4)
    X.loc[rng.random(n) < 0.1, "quality"] = np.nan
    good = rng.random(n) < expit(taste - 1)
    log = pd.DataFrame(
        {
            "request_id": np.arange(n) // SHOWN,
            "user_id": np.arange(n) // SHOWN // 3,
            "clicked": clicked,
            "watch_seconds": clicked * X["duration"] * rng.random(n),
            "liked": clicked & good,
            "dismissed": clicked & ~good & (rng.random(n) < 0.5),
        }
    )
    return X, log


X, LOG = make_world(N, seed=1)
X_NEW, LOG_NEW = make_world(N, seed=2)
CLICKED, REQUEST = LOG["clicked"].to_numpy(int), LOG["request_id"].to_numpy()
CLICKED_NEW = LOG_NEW["clicked"].to_numpy(int)
LATER = np.arange(N) >= N // 2


def fitted(kind, seed=0, **keywords):
    if kind == "lambdarank":
        keywords = {"group": REQUEST} | keywords
    return ranker(kind, seed).fit(X, CLICKED, **keywords)


kinds = pytest.mark.parametrize("kind", KINDS)
RANKERS = {kind: fitted(kind) for kind in KINDS}
BOOSTING = RANKERS["boosting"]


# ---------------------------------------------------------------- three rankers


@kinds
def test_a_ranker_orders_the_rows_of_a_new_request(kind):
    found = scores(RANKERS[kind], X_NEW)
    assert found.shape == (N,)
    assert query_auc(CLICKED_NEW, found, LOG_NEW["request_id"])["auc"].mean() > 0.68
    order = ranked(CLICKED_NEW.reshape(-1, SHOWN), found.reshape(-1, SHOWN))
    by_chance = ndcg_at_k(CLICKED_NEW.reshape(-1, SHOWN), SHOWN)
    assert np.nanmean(ndcg_at_k(order, SHOWN)) > np.nanmean(by_chance) + 0.1


@kinds
def test_the_same_data_give_the_same_ranker(kind):
    np.testing.assert_array_equal(scores(fitted(kind), X_NEW), scores(RANKERS[kind], X_NEW))


@kinds
def test_a_ranker_can_be_cloned_and_is_then_unfitted(kind):
    copy = clone(RANKERS[kind])
    assert copy.get_params().keys() == RANKERS[kind].get_params().keys()
    with pytest.raises(NotFittedError):
        scores(copy, X_NEW)


@kinds
def test_a_missing_number_and_an_unseen_category_get_a_finite_score(kind):
    strange = X_NEW[:4].assign(
        topic=pd.Categorical(["z", "a", None, "b"]), duration=np.nan, quality=[np.nan, 0.0, 1.0, 2.0]
    )
    assert np.isfinite(scores(RANKERS[kind], strange)).all()


@kinds
def test_the_categories_of_a_short_table_are_read_by_value_and_not_by_number(kind):
    part = X_NEW[X_NEW["topic"] == "c"][:20]
    short = part.assign(topic=part["topic"].cat.remove_unused_categories())
    assert short["topic"].cat.codes.max() == 0
    np.testing.assert_array_equal(scores(RANKERS[kind], short), scores(RANKERS[kind], part))


@kinds
def test_the_weights_of_the_rows_matter(kind):
    heavy = np.where(X["topic"] == "a", 100.0, 1.0)
    assert (
        np.abs(scores(fitted(kind, sample_weight=heavy), X_NEW) - scores(RANKERS[kind], X_NEW)).max() > 0.05
    )
    ones = scores(fitted(kind, sample_weight=np.ones(N)), X_NEW)
    np.testing.assert_allclose(ones, scores(RANKERS[kind], X_NEW), rtol=1e-5, atol=1e-5)


@kinds
def test_a_missing_column_is_refused_and_another_order_never_misread(kind):
    with pytest.raises(ValueError, match=r"(?i)noise|column"):
        scores(RANKERS[kind], X_NEW.drop(columns="noise"))
    try:
        found = scores(RANKERS[kind], X_NEW[[*X_NEW.columns[::-1]]])
    except ValueError:
        assert kind == "lambdarank"  # reads columns by their place
    else:
        np.testing.assert_array_equal(found, scores(RANKERS[kind], X_NEW))


@kinds
def test_a_saved_ranker_scores_as_before(kind, tmp_path):
    save_model(RANKERS[kind], tmp_path, schema_of(X), "v1")
    np.testing.assert_array_equal(
        scores(load_model(tmp_path, schema_of(X_NEW)), X_NEW), scores(RANKERS[kind], X_NEW)
    )


def test_an_unknown_kind_is_refused():
    with pytest.raises(ValueError, match="kind must be one of logistic, boosting, lambdarank, not 'forest'"):
        ranker("forest")


def test_text_and_named_columns_become_categories():
    table = pd.DataFrame(
        {"video_topic": [3, 1], "country": ["US", "BR"], "age": [1.0, 2.0], "new": [True, False]}
    )
    types = as_categories(table).dtypes.astype(str).to_dict()
    assert types == {"video_topic": "category", "country": "category", "age": "float64", "new": "bool"}
    assert str(table["video_topic"].dtype) == "int64"
    assert str(as_categories(table, names=())["video_topic"].dtype) == "int64"
    with pytest.raises(ValueError, match="no column hour"):
        as_categories(table, ["hour"])


def test_a_category_left_a_number_is_read_as_an_order():
    topic = np.random.default_rng(0).integers(10, size=N)
    clicked = (topic % 2 == 1).astype(int)
    auc = {}
    for as_category in (False, True):
        table = pd.DataFrame({"video_topic": topic})
        table = as_categories(table) if as_category else table
        model = ranker("logistic").fit(table, clicked)
        auc[as_category] = roc_auc_score(clicked, scores(model, table))
    assert auc[False] < 0.7 and auc[True] == 1


def test_one_long_tailed_number_does_not_rule_the_logistic_ranker():
    far = X_NEW[:50].assign(duration=1e7)
    assert np.abs(scores(RANKERS["logistic"], far) - scores(RANKERS["logistic"], X_NEW[:50])).max() < 0.3


def test_boosting_stops_by_its_number_of_trees_alone():
    assert BOOSTING.n_iter_ == 100 and not BOOSTING.do_early_stopping_


# ---------------------------------------------------------------- LambdaRank


def test_the_rows_of_a_request_need_not_lie_together():
    order = np.random.default_rng(0).permutation(N)
    order = order[np.argsort(order % SHOWN, kind="stable")]  # first all first rows, then all second rows
    order = np.concatenate([np.sort(order[order % SHOWN == i]) for i in range(SHOWN)])
    model = LambdaRanker().fit(X.iloc[order], CLICKED[order], group=REQUEST[order])
    np.testing.assert_array_equal(model.predict(X_NEW), RANKERS["lambdarank"].predict(X_NEW))


def test_what_all_rows_of_a_request_share_cannot_be_learned():
    rng = np.random.default_rng(0)
    busy = np.repeat(rng.random(N // SHOWN), SHOWN)
    clicked = (rng.random(N) < busy).astype(int)
    found = (
        LambdaRanker()
        .fit(pd.DataFrame({"busy": busy}), clicked, group=REQUEST)
        .predict(pd.DataFrame({"busy": busy}))
    )
    assert np.ptp(found) < 1e-5
    pointwise = scores(
        ranker("boosting").fit(pd.DataFrame({"busy": busy}), clicked), pd.DataFrame({"busy": busy})
    )
    assert roc_auc_score(clicked, pointwise) > 0.75


def test_grades_above_one_count_more():
    grades = CLICKED * np.where(X["topic"] == "a", 5, 1)
    found = LambdaRanker().fit(X, grades, group=REQUEST).predict(X_NEW)
    plain = RANKERS["lambdarank"].predict(X_NEW)
    is_a = X_NEW["topic"] == "a"
    assert found[is_a].mean() - found[~is_a].mean() > plain[is_a].mean() - plain[~is_a].mean()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": CLICKED + 0.5}, "whole grades from 0 to 30"),
        ({"y": CLICKED - 1}, "whole grades"),
        ({"y": CLICKED * 31}, "whole grades"),
        ({"y": np.where(CLICKED, np.nan, 0)}, "y must hold one finite number"),
        ({"y": CLICKED[:-1]}, "y must hold one finite number"),
        ({"y": np.ones(N)}, "no order to learn from"),
        ({"group": np.arange(N)}, "no order to learn from"),
        ({"group": np.where(CLICKED, np.nan, 0)}, "group has missing values"),
        ({"group": REQUEST[:-1]}, "inconsistent numbers"),
        ({"sample_weight": np.full(N, np.nan)}, "sample_weight must hold"),
        ({"X": X.to_numpy()}, "DataFrame with named columns, not ndarray"),
        ({"X": X[:0]}, "no rows"),
    ],
)
def test_lambdarank_refuses_what_it_cannot_learn_from(change, message):
    with pytest.raises(ValueError, match=message):
        LambdaRanker().fit(**{"X": X, "y": CLICKED, "group": REQUEST} | change)


def test_a_group_that_is_no_request_is_refused():
    many = pd.DataFrame({"a": np.zeros(10_001)})
    with pytest.raises(ValueError, match="over 10,000 rows: pass the request id"):
        LambdaRanker().fit(many, np.arange(10_001) % 2, group=np.zeros(10_001))


def test_lambdarank_refuses_settings_without_sense():
    with pytest.raises(ValueError, match="trees must be a whole number"):
        LambdaRanker(trees=0).fit(X, CLICKED, group=REQUEST)


# ---------------------------------------------------------------- calibration


class Shifted(ClassifierMixin, BaseEstimator):
    """A fitted model whose odds are multiplied by a factor and raised to a power: the order stays."""

    def __init__(self, model, factor=1.0, power=1.0):
        self.model, self.factor, self.power = model, factor, power
        self.classes_ = np.array([0, 1])

    def __sklearn_is_fitted__(self):
        return True

    def fit(self, X, y):
        return self

    def decision_function(self, X):
        return self.power * self.model.decision_function(X) + np.log(self.factor)

    def predict_proba(self, X):
        p = expit(self.decision_function(X))
        return np.c_[1 - p, p]

    def predict(self, X):
        return self.decision_function(X) > 0


@pytest.mark.parametrize(("factor", "power"), [(2.0, 1.0), (0.1, 1.0), (1.0, 3.0), (5.0, 0.5)])
@pytest.mark.parametrize("calibrate", [platt, isotonic])
def test_calibration_undoes_a_factor_and_a_power_of_the_odds(calibrate, factor, power):
    expected = scores(calibrate(BOOSTING, X_NEW, CLICKED_NEW), X)
    shifted = calibrate(Shifted(BOOSTING, factor, power), X_NEW, CLICKED_NEW)
    np.testing.assert_allclose(scores(shifted, X), expected, atol=1e-3)


def test_calibration_works_on_the_rows_that_it_was_given():
    model = Shifted(BOOSTING, factor=4)
    assert calibration_ratio(CLICKED_NEW, scores(model, X_NEW)) > 1.5
    for calibrate in (platt, isotonic):
        ratio = calibration_ratio(CLICKED_NEW, scores(calibrate(model, X_NEW, CLICKED_NEW), X_NEW))
        assert ratio == pytest.approx(1, abs=0.01)


def test_calibration_on_the_training_rows_trusts_the_overfit():
    model = ranker("boosting").set_params(max_leaf_nodes=63)
    model.fit(X[~LATER], CLICKED[~LATER])
    loss = {}
    for name, rows in {"training": ~LATER, "later": LATER}.items():
        loss[name] = log_losses(CLICKED_NEW, scores(platt(model, X[rows], CLICKED[rows]), X_NEW)).mean()
    raw = log_losses(CLICKED_NEW, scores(model, X_NEW)).mean()
    assert loss["later"] < raw < loss["training"]


def test_platt_keeps_the_order_and_isotonic_makes_ties():
    before = scores(BOOSTING, X)
    assert roc_auc_score(CLICKED, scores(platt(BOOSTING, X_NEW, CLICKED_NEW), X)) == roc_auc_score(
        CLICKED, before
    )
    stepped = scores(isotonic(BOOSTING, X_NEW, CLICKED_NEW), X)
    assert (np.diff(stepped[np.argsort(before)]) >= 0).all()
    assert len(set(stepped)) < len(set(before)) / 4


@pytest.mark.parametrize("calibrate", [platt, isotonic])
def test_weights_count_in_the_calibration(calibrate):
    weights = np.where(CLICKED_NEW, 3.0, 1.0)
    plain, weighted = (scores(calibrate(BOOSTING, X_NEW, CLICKED_NEW, w), X_NEW) for w in (None, weights))
    truth = np.average(CLICKED_NEW, weights=weights)
    assert np.average(weighted, weights=weights) == pytest.approx(truth, abs=0.01)
    assert weighted.mean() > plain.mean() + 0.1


@pytest.mark.parametrize("calibrate", [platt, isotonic])
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(N) < 4, "fewer than 5 positives or negatives: take a longer slice"),
        (np.arange(N) >= 4, "fewer than 5"),
        (np.arange(N) % 3, "only 0 and 1"),
        (np.where(CLICKED, 1.0, np.nan), "finite"),
        (CLICKED[:-1], "finite"),
    ],
)
def test_a_slice_that_cannot_calibrate_is_refused(calibrate, y, message):
    with pytest.raises(ValueError, match=message):
        calibrate(BOOSTING, X, y)


def test_platt_refuses_probabilities_and_isotonic_takes_them():
    class OnlyProbabilities(ClassifierMixin, BaseEstimator):
        classes_ = np.array([0, 1])

        def __sklearn_is_fitted__(self):
            return True

        def fit(self, X, y):
            return self

        def predict(self, X):
            return BOOSTING.predict(X)

        def predict_proba(self, X):
            return BOOSTING.predict_proba(X)

    with pytest.raises(ValueError, match=r"OnlyProbabilities has no decision_function.*use isotonic"):
        platt(OnlyProbabilities(), X_NEW, CLICKED_NEW)
    found = scores(isotonic(OnlyProbabilities(), X_NEW, CLICKED_NEW), X)
    np.testing.assert_allclose(found, scores(isotonic(BOOSTING, X_NEW, CLICKED_NEW), X), atol=0.01)


class Times(BaseEstimator):
    """A regressor that knows the mean up to a factor and a power."""

    def __init__(self, factor, power=1.0):
        self.factor, self.power = factor, power

    def predict(self, X):
        return self.factor * X["duration"].to_numpy() ** self.power


SECONDS = X["duration"].to_numpy() * np.random.default_rng(5).random(N)


@settings(max_examples=20)
@given(factor=st.floats(0.01, 100), power=st.floats(0.3, 2))
def test_a_calibrated_regressor_undoes_a_factor_and_a_power_and_keeps_the_total(factor, power):
    found = CalibratedRegressor(Times(factor, power)).fit(X, SECONDS).predict(X)
    assert found.sum() == pytest.approx(SECONDS.sum(), rel=0.01)
    expected = CalibratedRegressor(Times(1.0)).fit(X, SECONDS).predict(X)
    np.testing.assert_allclose(found, expected, rtol=0.05)
    assert np.corrcoef(np.log(found), np.log(X["duration"]))[0, 1] == pytest.approx(1)


def test_a_calibrated_regressor_refuses_what_has_no_logarithm():
    with pytest.raises(ValueError, match="predicts 0 or less"):
        CalibratedRegressor(Times(0.0)).fit(X, SECONDS)
    with pytest.raises(ValueError, match="y must hold one finite number"):
        CalibratedRegressor(Times(1.0)).fit(X, SECONDS[:-1])
    with pytest.raises(NotFittedError):
        CalibratedRegressor(Times(1.0)).predict(X)


def test_the_calibration_of_slices_is_that_of_their_rows():
    y, p = [1, 0, 0, 0, 1, 1, 0], [0.5, 0.5, 0.25, 0.25, 0.2, 0.4, 0.1]
    table = calibration_by_slice(y, p, ["a", "a", "a", "a", "b", "b", None])
    assert table["n"].tolist() == [4, 2, 1]
    assert table.loc["a", ["mean_predicted", "observed", "ratio"]].tolist() == [0.375, 0.25, 1.5]
    assert table.loc["b", "ratio"] == pytest.approx(0.3)
    missing = table[table.index.isna()].iloc[0]
    assert missing["ratio"] == missing["ratio_high"] == np.inf and 0.1 < missing["ratio_low"] < 1
    whole = reliability_table(y[:4], p[:4], bins=1).iloc[0]
    assert table.loc["a", "ratio_low"] == 0.375 / whole["high"]


@settings(max_examples=25)
@given(st.data())
def test_the_ratio_lies_in_its_interval_and_is_the_known_one(data):
    n = data.draw(st.integers(2, 40))
    y = data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))
    p = data.draw(st.lists(st.floats(0.01, 1), min_size=n, max_size=n))
    by = data.draw(st.lists(st.sampled_from("ab"), min_size=n, max_size=n))
    table = calibration_by_slice(y, p, by)
    assert table["n"].sum() == n
    assert (table["ratio_low"] <= table["ratio"]).all() and (table["ratio"] <= table["ratio_high"]).all()
    for name, row in table[table["observed"] > 0].iterrows():
        rows = np.array(by) == name
        assert row["ratio"] == pytest.approx(calibration_ratio(np.array(y)[rows], np.array(p)[rows]))


def test_a_model_may_be_right_on_the_whole_and_wrong_in_every_slice():
    p = np.full(200, 0.5)
    y = np.r_[np.ones(80), np.zeros(20), np.ones(20), np.zeros(80)]
    table = calibration_by_slice(y, p, np.repeat(["top", "bottom"], 100))
    assert calibration_ratio(y, p) == 1
    assert table.loc["top", "ratio_high"] < 1 < table.loc["bottom", "ratio_low"]


@pytest.mark.parametrize("by", [["a"], ["a"] * 3])
def test_slices_of_another_length_are_refused(by):
    with pytest.raises(ValueError, match="inconsistent"):
        calibration_by_slice([0, 1], [0.5, 0.5], by)


# ---------------------------------------------------------------- several outcomes

MULTI = MultiObjective().fit(X, LOG, LATER)
HEADS = {"click": "clicked", "watch": "watch_seconds", "like": "liked", "dismiss": "dismissed"}


def test_each_head_predicts_the_mean_of_new_impressions():
    found = MULTI.predict(X_NEW.set_axis(range(5, N + 5)))
    assert [*found.columns] == [*HEADS] and found.index[0] == 5
    for head, column in HEADS.items():
        assert found[head].mean() == pytest.approx(LOG_NEW[column].mean(), rel=0.15), head
    assert ((found >= 0) & (found[["click", "like", "dismiss"]] <= 1).all(axis=None)).all(axis=None)


def test_each_head_tells_good_impressions_from_bad_ones():
    found = MULTI.predict(X_NEW)
    for head in ("click", "like", "dismiss"):
        assert roc_auc_score(LOG_NEW[HEADS[head]], found[head]) > 0.65, head
    assert np.corrcoef(found["watch"], LOG_NEW["watch_seconds"])[0, 1] > 0.3


def test_an_outcome_after_the_click_is_the_click_times_what_follows():
    found, like = MULTI.predict(X_NEW), scores(MULTI.heads_["like"], X_NEW)
    np.testing.assert_allclose(found["like"], scores(MULTI.heads_["click"], X_NEW) * like)
    for head in ("click", "like", "dismiss"):
        assert MULTI.heads_[head].estimator.estimator is MULTI.models_[head]
    assert (found["like"] <= found["click"]).all()


def test_the_value_is_the_weighted_sum_of_the_heads():
    found = MULTI.predict(X_NEW)
    value = MULTI.value(X_NEW, {"like": 5, "dismiss": -74.0})
    np.testing.assert_allclose(value, 5 * found["like"] - 74 * found["dismiss"])
    assert value.shape == (N,)


@pytest.mark.parametrize("weights", [{}, {"share": 1}, {"like": np.nan}, {"like": np.inf}])
def test_weights_of_no_head_are_refused(weights):
    with pytest.raises(ValueError, match="weights must give some of click, watch, like, dismiss"):
        MULTI.value(X_NEW, weights)


def without_clicks(log, rows):
    return log.assign(**{column: np.where(rows, 0, log[column]) for column in HEADS.values()})


def top_tenth(value):
    return set(np.argsort(-value, kind="stable")[: N // 10])


def test_a_head_that_predicts_twice_too_much_changes_the_policy_until_it_is_calibrated():
    weights = {"click": 1.0, "dismiss": -3.0}
    model = deepcopy(MULTI)
    before = top_tenth(model.value(X_NEW, weights))
    doubled = Shifted(model.models_["dismiss"], factor=2.0)
    model.heads_["dismiss"] = Shifted(model.heads_["dismiss"].estimator.estimator, factor=2.0)
    changed = top_tenth(model.value(X_NEW, weights))
    assert len(changed & before) < 0.95 * len(before)
    model.models_["dismiss"] = doubled
    model.calibrate(X[LATER], LOG[LATER])
    assert len(top_tenth(model.value(X_NEW, weights)) & before) > 0.99 * len(before)


def test_a_doubled_regressor_is_taken_back_as_well():
    class Doubled(BaseEstimator):
        def __init__(self, model):
            self.model = model

        def predict(self, X):
            return 2 * self.model.predict(X)

    model = deepcopy(MULTI)
    model.models_["watch"] = Doubled(model.models_["watch"])
    model.calibrate(X[LATER], LOG[LATER])
    np.testing.assert_allclose(model.predict(X_NEW)["watch"], MULTI.predict(X_NEW)["watch"], rtol=1e-3)


def test_the_later_rows_only_calibrate():
    nobody = without_clicks(LOG, LATER & (np.arange(N) % 2 == 1))
    other = MultiObjective().fit(X, nobody, LATER)
    for head in HEADS:
        np.testing.assert_array_equal(
            scores(other.models_[head], X_NEW), scores(MULTI.models_[head], X_NEW), err_msg=head
        )
    assert other.predict(X_NEW)["click"].mean() < 0.7 * MULTI.predict(X_NEW)["click"].mean()


def test_a_new_calibration_follows_a_new_world_without_training():
    model = deepcopy(MULTI)
    fewer = without_clicks(LOG_NEW, np.arange(N) % 2 == 1)
    model.calibrate(X_NEW, fewer)
    assert model.predict(X_NEW)["click"].mean() == pytest.approx(fewer["clicked"].mean(), rel=0.02)


def test_the_weights_are_for_the_click_head():
    weights = np.where(X["topic"] == "a", 50.0, 1.0)
    weighted = MultiObjective().fit(X, LOG, LATER, sample_weight=weights)
    for head in HEADS:
        same = np.array_equal(scores(weighted.heads_[head], X_NEW), scores(MULTI.heads_[head], X_NEW))
        assert same == (head != "click")


def test_a_saved_model_of_several_outcomes_predicts_as_before(tmp_path):
    save_model(MULTI, tmp_path, schema_of(X), "v1")
    pd.testing.assert_frame_equal(load_model(tmp_path, schema_of(X)).predict(X_NEW), MULTI.predict(X_NEW))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"outcomes": LOG.drop(columns="liked")}, "no column liked: pass the impression log"),
        ({"outcomes": LOG[:-1]}, "finite number for each"),
        ({"outcomes": LOG.assign(watch_seconds=np.nan)}, "watch_seconds must hold"),
        ({"outcomes": LOG.assign(watch_seconds=-LOG["watch_seconds"])}, "seconds below 0"),
        ({"outcomes": LOG.assign(liked=True)}, "a like or a dismissal without a click: repair the log"),
        ({"outcomes": LOG.assign(clicked=CLICKED * 2)}, "clicked must hold only 0 and 1"),
        ({"later": np.ones(N, bool)}, "later must hold True for the newer rows"),
        ({"later": np.zeros(N, bool)}, "later must hold"),
        ({"later": np.arange(N)}, "later must hold"),
        ({"later": LATER[:-1]}, "later must hold"),
        ({"later": np.arange(N) >= N - 20}, "take a longer slice"),
        ({"sample_weight": np.ones(3)}, "sample_weight must hold"),
        ({"X": X.to_numpy()}, "not ndarray"),
    ],
)
def test_several_outcomes_refuse_what_they_cannot_learn_from(change, message):
    with pytest.raises(ValueError, match=message):
        MultiObjective().fit(**{"X": X, "outcomes": LOG, "later": LATER} | change)


def test_several_outcomes_before_the_fit_say_so():
    for use in (lambda m: m.predict(X), lambda m: m.calibrate(X, LOG), lambda m: m.value(X, {"like": 1})):
        with pytest.raises(NotFittedError):
            use(MultiObjective())


# ---------------------------------------------------------------- watch time by weighted logistic regression


def plain_logistic():
    steps = [("table", OneHotEncoder()), ("model", LogisticRegression(C=1e6, tol=1e-8, max_iter=1000))]
    return WeightedPipeline(steps)


def test_the_odds_are_the_seconds_over_the_impressions_without_click():
    table = X[["topic"]]
    found = weighted_watch_time(plain_logistic(), table, CLICKED, LOG["watch_seconds"], table)
    for topic, rows in LOG.groupby(X["topic"], observed=True):
        expected = rows["watch_seconds"].sum() / (~rows["clicked"]).sum()
        assert found[X["topic"] == topic] == pytest.approx(expected, rel=1e-3)
        bias = expected / rows["watch_seconds"].mean()
        assert bias == pytest.approx(1 / (1 - rows["clicked"].mean()))
        assert bias > 1.1


@pytest.mark.parametrize(
    ("clicked", "seconds", "message"),
    [
        (np.ones(N), LOG["watch_seconds"], "impressions without one"),
        (np.zeros(N), LOG["watch_seconds"], "There must be clicks"),
        (CLICKED, -1 - LOG["watch_seconds"], "no negative seconds"),
        (CLICKED * 2, LOG["watch_seconds"], "clicked must hold only 0 and 1"),
        (CLICKED, LOG["watch_seconds"].replace(0, np.nan), "watch_seconds must hold"),
        (CLICKED[:-1], LOG["watch_seconds"], "clicked must hold one"),
    ],
)
def test_watch_time_refuses_what_it_cannot_learn_from(clicked, seconds, message):
    with pytest.raises(ValueError, match=message):
        weighted_watch_time(plain_logistic(), X[["topic"]], clicked, seconds, X[["topic"]])


# ---------------------------------------------------------------- error analysis

USERS = np.repeat(np.arange(400), 10)
RNG = np.random.default_rng(3)
TRAITS = pd.DataFrame(
    {
        "device": np.repeat(RNG.choice(["phone", "tv", "desktop"], 400), 10),
        "age": np.repeat(RNG.normal(40, 10, 400), 10),
        "slot": np.tile(np.arange(1.0, 11.0), 400),
        "new": np.repeat(RNG.random(400) < 0.3, 10),
    }
)
TRAITS.loc[USERS < 80, "device"] = None
OLD = RNG.exponential(size=N)


def test_a_planted_harm_is_found_first_and_a_planted_gain_last():
    rng = np.random.default_rng(0)
    harm = 0.5 * (TRAITS["device"] == "tv") - 0.5 * (TRAITS["age"] > TRAITS["age"].quantile(0.75))
    found = slices(TRAITS, OLD, OLD + harm + rng.normal(size=N), [*TRAITS], USERS)
    assert found.loc[0, ["column", "value"]].tolist() == ["device", "tv"]
    assert found["column"].iloc[-1] == "age" and found["difference"].iloc[-1] < -0.3
    assert found.loc[0, "low"] < found.loc[0, "difference"] < found.loc[0, "high"]
    assert found.loc[0, "p_adjusted"] < 0.001 and (found["p_adjusted"] >= found["p_value"]).all()
    assert (np.diff(found["low"]) <= 0).all()


def test_the_slices_are_the_values_and_the_quarters_of_the_numbers():
    found = slices(TRAITS, OLD, OLD + RNG.normal(size=N), [*TRAITS], USERS)
    values = {name: sorted(part["value"]) for name, part in found.groupby("column")}
    assert values["device"] == ["desktop", "missing", "phone", "tv"]
    assert values["slot"] == sorted(f"{i}" for i in range(1, 11)) and values["new"] == ["False", "True"]
    assert len(values["age"]) == 4 and all(" to " in value for value in values["age"])
    sizes = found.set_index(["column", "value"])
    assert (sizes.loc["age", "rows"] == N // 4).all()
    assert sizes.loc[("device", "missing"), ["rows", "units"]].tolist() == [800, 80]
    assert (found.groupby("column")["rows"].sum() == N).all()


def test_a_difference_is_the_mean_of_its_rows():
    new = OLD + RNG.normal(size=N)
    found = slices(TRAITS, OLD, new, ["device"], USERS).set_index("value")
    rows = TRAITS["device"] == "phone"
    assert found.loc["phone", "difference"] == pytest.approx((new - OLD)[rows].mean())


def test_without_any_difference_chance_finds_nothing_after_the_correction():
    alone, together = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        traits = pd.DataFrame(rng.random((600, 20)) < 0.5, index=np.arange(600)).rename(columns="t{}".format)
        found = slices(traits, OLD[:600], OLD[:600] + rng.normal(size=600), [*traits], np.arange(600))
        alone.append((found["p_value"] < 0.05).sum())
        together.append(found["p_adjusted"].min() < 0.05)
    assert sum(alone) > 3 and sum(together) < 2


def test_rows_that_are_repeated_within_a_person_add_no_certainty():
    new = OLD + RNG.normal(size=N)
    once = slices(TRAITS, OLD, new, ["device"], USERS)
    rows = np.repeat(np.arange(N), 5)
    often = slices(TRAITS.iloc[rows], OLD[rows], new[rows], ["device"], USERS[rows])
    np.testing.assert_allclose(often[["low", "high"]], once[["low", "high"]], rtol=0.01)
    alone = slices(TRAITS.iloc[rows], OLD[rows], new[rows], ["device"], np.arange(len(rows)))
    assert ((alone["high"] - alone["low"]) < 0.6 * (once["high"] - once["low"])).all()


def test_holm_is_stricter_than_the_false_discovery_rate():
    new = OLD + 0.2 * (TRAITS["device"] == "tv") + RNG.normal(size=N)
    holm, fdr = (
        slices(TRAITS, OLD, new, [*TRAITS], USERS, method=method)["p_adjusted"]
        for method in ("holm", "fdr_bh")
    )
    assert (holm >= fdr).all() and (holm > fdr).any()


def test_models_that_agree_or_differ_by_a_constant_have_no_spread():
    same = slices(TRAITS, OLD, OLD, ["device"], USERS)
    assert (same["difference"] == 0).all() and (same["p_adjusted"] == 1).all()
    other = slices(TRAITS, np.zeros(N), np.ones(N), ["device"], USERS)
    assert (other["low"] == 1).all() and (other["high"] == 1).all() and (other["p_value"] == 0).all()


def test_small_slices_are_left_out():
    found = slices(TRAITS, OLD, OLD + RNG.normal(size=N), ["device"], USERS, min_units=100)
    assert sorted(found["value"]) == ["desktop", "phone", "tv"]


def test_close_numbers_keep_slices_of_their_own():
    table = pd.DataFrame({"x": 1e6 + np.arange(N) / N})
    found = slices(table, OLD, OLD + RNG.normal(size=N), ["x"], USERS, bins=10, min_units=20)
    assert len(set(found["value"])) == 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"columns": ["hour"]}, "no column hour"),
        ({"loss_old": OLD[:-1]}, "loss_old must hold"),
        ({"loss_new": np.full(N, np.nan)}, "loss_new must hold"),
        ({"unit": USERS[:-1]}, "inconsistent"),
        ({"unit": np.where(USERS == 3, np.nan, USERS)}, "unit has missing values"),
        ({"min_units": 401}, "No slice has 401 units"),
        ({"min_units": 1}, "min_units must be"),
        ({"bins": 1}, "bins must be"),
        ({"method": "none"}, "method must be one of holm, fdr_bh"),
    ],
)
def test_slices_refuse_what_they_cannot_compare(change, message):
    arguments = {"table": TRAITS, "loss_old": OLD, "loss_new": OLD + 1, "columns": ["age"], "unit": USERS}
    with pytest.raises(ValueError, match=message):
        slices(**arguments | change)


def test_the_log_loss_of_a_row_is_that_of_its_outcome():
    np.testing.assert_allclose(
        log_losses([1, 0, 1], [0.5, 0.25, 1.0]), [np.log(2), -np.log(0.75), 0], atol=1e-12
    )
    assert np.isfinite(log_losses([1], [0.0])).all()
    for y, p, message in (
        ([1], [1.5], "from 0 to 1"),
        ([2], [0.5], "only 0 and 1"),
        ([1, 0], [0.5], "y_prob"),
    ):
        with pytest.raises(ValueError, match=message):
            log_losses(y, p)


GROUPS = {"topic": ["topic"], "video": ["quality", "duration"], "noise": ["noise"]}


@kinds
def test_what_matters_is_missed_when_it_is_left_out(kind):
    fit = {"group": REQUEST} if kind == "lambdarank" else {}
    arguments = (
        lambda: ranker(kind),
        X,
        CLICKED,
        X_NEW,
        CLICKED_NEW,
        GROUPS,
        roc_auc_score,
        LOG_NEW["user_id"],
    )
    table = ablation(*arguments, n_resamples=100, **fit)
    assert table.index[-1] == "noise" and table.index.name == "group"
    assert table.loc["noise", "low"] < 0.005 and abs(table.loc["noise", "difference"]) < 0.02
    assert (table.loc[["topic", "video"], "low"] > 0.03).all()
    full = roc_auc_score(CLICKED_NEW, scores(RANKERS[kind], X_NEW))
    np.testing.assert_allclose(table["without"] + table["difference"], full)


@pytest.mark.parametrize("columns", [[], ["hour"], [*X.columns]])
def test_an_ablation_of_nothing_or_everything_is_refused(columns):
    with pytest.raises(ValueError, match="Group 'g' must name some columns"):
        ablation(
            lambda: ranker("logistic"),
            X,
            CLICKED,
            X_NEW,
            CLICKED_NEW,
            {"g": columns},
            roc_auc_score,
            LOG["user_id"],
        )
