"""The click model: rates counted, features looked up, no day sees itself, and what shifts do to detectors."""

import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.metrics import roc_auc_score

from helpers import click_model as c
from helpers.monitoring import (
    daily_statistics,
    drift_matrix,
    drift_report,
    moving_reference,
    standard_detectors,
    threshold_for,
)
from helpers.shifts import SHIFTS
from helpers.simulator import Platform, random_policy

DAYS, ONSET = 32, 24


@pytest.fixture(scope="module")
def platform():
    return Platform(n_users=2_000, n_videos=400, n_topics=6, n_candidates=25, n_slots=5, days=DAYS, seed=3)


@pytest.fixture(scope="module")
def log(platform):
    return platform.simulate(random_policy(), DAYS)


@pytest.fixture(scope="module")
def model(platform, log):
    return c.ClickModel(platform, log, range(3, 6), memory=3)


@pytest.fixture(scope="module")
def windows(model, log):
    return model.windows(log, rows=1_500)


# ---------------------------------------------------------------- the store


def test_the_last_days_are_those_before_the_day(log):
    rows = c.last_days(log, 10, memory=3)
    assert sorted(c.day_of(rows).unique()) == [7, 8, 9]
    assert len(c.last_days(log, 2)) == (c.day_of(log) < 2).sum()
    with pytest.raises(ValueError, match="no row in the 7 days before day 0"):
        c.last_days(log, 0)
    with pytest.raises(ValueError, match="memory must be"):
        c.last_days(log, 3, 0)


def test_rates_are_clicks_per_examined_impression_drawn_to_the_mean(platform, log):
    rows = log.head(3_000)
    rates = c.count_rates(platform, rows)
    examined = platform.examination_curve[rows["position"] - 1].astype(float)
    mean = rows.clicked.sum() / examined.sum()
    topic = platform.videos["topic"].to_numpy()[rows["video_id"]]

    def rate(mask):
        return (rows.clicked[mask].sum() / mean + c.STRENGTH) / (examined[mask].sum() + c.STRENGTH)

    video, user = rows["video_id"].iloc[0], rows["user_id"].iloc[0]
    assert rates.video_ctr[video] == pytest.approx(rate(rows["video_id"] == video))
    assert rates.user_ctr[user] == pytest.approx(rate(rows["user_id"] == user))
    both = (rows["user_id"] == user) & (topic == topic[0])
    assert rates.affinity[user, topic[0]] == pytest.approx(rate(both))
    of_video = rows[rows["video_id"] == video]
    watched = of_video.watch_seconds.sum() + c.STRENGTH * mean * rows.watch_seconds.sum() / rows.clicked.sum()
    per_click = watched / (of_video.clicked.sum() + c.STRENGTH * mean)
    assert rates.video_watch_seconds[video] == pytest.approx(per_click)


def test_of_whom_nothing_is_known_the_rate_is_the_mean(platform, log):
    rates = c.count_rates(platform, log[log["user_id"] == log["user_id"].iloc[0]])
    stranger = (log["user_id"].iloc[0] + 1) % platform.n_users
    assert rates.user_ctr[stranger] == 1 and (rates.affinity[stranger] == 1).all()
    assert rates.affinity.shape == (platform.n_users, platform.n_topics)


def test_position_does_not_move_a_rate(platform, log):
    rng = np.random.default_rng(0)
    rows = log.head(60_000)
    examined = platform.examination_curve[rows["position"] - 1]
    rows = rows.assign(clicked=rng.random(len(rows)) < 0.5 * examined)
    top = rows["position"] == 1
    video = np.where(top, 0, 1)  # one video is shown first only, the other below
    rates = c.count_rates(platform, rows.assign(video_id=video))
    assert rates.video_ctr[:2] == pytest.approx([1, 1], abs=0.05)
    assert rows.clicked[top].mean() > 1.5 * rows.clicked[~top].mean()


def test_a_log_without_a_click_has_no_rate(platform, log):
    with pytest.raises(ValueError, match="has no click"):
        c.count_rates(platform, log[~log.clicked])


# ---------------------------------------------------------------- features


def test_features_are_looked_up_for_each_impression(platform, log):
    rates = c.count_rates(platform, log.head(5_000))
    rows = log.iloc[5_000:5_200]
    table = c.impression_features(platform, rates, rows)
    assert tuple(table) == c.FEATURES and table.index.equals(rows.index)
    for (_, row), found in zip(rows.iloc[::40].iterrows(), table.iloc[::40].to_dict("records"), strict=True):
        user, video = platform.users.loc[row.user_id], platform.videos.loc[row.video_id]
        assert found == {
            "age_band": user.age_band,
            "country": user.country,
            "device": user.device,
            "topic": video.topic,
            "same_language": user.language == video.language,
            "duration_seconds": video.duration_seconds,
            "position": row.position,
            "hour": row.timestamp.hour,
            "video_age_days": pytest.approx((row.timestamp - video.uploaded_at) / pd.Timedelta("1D")),
            "video_ctr": rates.video_ctr[row.video_id],
            "video_watch_seconds": rates.video_watch_seconds[row.video_id],
            "user_ctr": rates.user_ctr[row.user_id],
            "affinity": rates.affinity[row.user_id, video.topic],
        }


def test_an_index_of_another_version_holds_another_topic(platform, log):
    rates = c.count_rates(platform, log.head(5_000))
    index = np.roll(np.arange(platform.n_topics), 1)
    straight, turned = (c.impression_features(platform, rates, log.head(300), i) for i in (None, index))
    assert straight.drop(columns="affinity").equals(turned.drop(columns="affinity"))
    topic = straight["topic"].to_numpy(int)
    wanted = rates.affinity[log["user_id"].head(300), index[topic]]
    np.testing.assert_array_equal(turned["affinity"], wanted)


# ---------------------------------------------------------------- the model and its windows


def test_no_day_sees_itself_or_what_comes_later(model, log):
    late = (c.day_of(log) >= 12).to_numpy()
    other = log.assign(clicked=log.clicked ^ late, watch_seconds=log.watch_seconds * (1 + late))
    pd.testing.assert_frame_equal(
        model.windows(log)(12).drop(columns="label"), model.windows(other)(12).drop(columns="label")
    )
    assert not model.windows(log)(13)["video_ctr"].equals(model.windows(other)(13)["video_ctr"])


def test_a_window_has_the_features_of_the_day_its_scores_and_its_labels(model, platform, log):
    window = model.windows(log)(10)
    rows = log[c.day_of(log) == 10]
    rates = c.count_rates(platform, c.last_days(log, 10, 3))
    pd.testing.assert_frame_equal(window[[*c.FEATURES]], c.impression_features(platform, rates, rows))
    assert (window.label == rows.clicked).all() and (window.user_id == rows.user_id).all()
    np.testing.assert_array_equal(window.score, model.score(window))


def test_a_frozen_store_counts_no_day_after_its_last_morning(model, log):
    frozen, fresh = model.windows(log, frozen_on=10), model.windows(log)
    assert all(frozen(day).equals(fresh(day)) for day in (8, 10))
    rates = c.count_rates(model.platform, c.last_days(log, 10, 3))
    shown = log[c.day_of(log) == 14]
    assert frozen(14)["user_ctr"].equals(c.impression_features(model.platform, rates, shown)["user_ctr"])
    assert not frozen(14)["user_ctr"].equals(fresh(14)["user_ctr"])


def test_a_sample_of_a_window_keeps_the_features_of_its_rows(model, log, windows):
    sample, whole = windows(10), model.windows(log)(10)
    assert len(sample) == 1_500 < len(whole) and sample.index.is_unique
    pd.testing.assert_frame_equal(sample, whole.loc[sample.index])
    assert windows(10) is sample, "computed once"
    assert model.windows(log, 10**9)(10).equals(whole)


def test_the_model_ranks_and_is_calibrated_on_days_it_has_not_seen(windows):
    rows = pd.concat([windows(day) for day in range(6, 20)])
    assert roc_auc_score(rows.label, rows.score) > 0.68
    assert rows.score.sum() / rows.label.sum() == pytest.approx(1, abs=0.08)


def test_any_estimator_will_do(platform, log):
    model = c.ClickModel(platform, log, [3], DummyClassifier(strategy="prior"))
    rows = log[c.day_of(log) == 3]
    assert model.windows(log, 10)(5).score.to_numpy() == pytest.approx(rows.clicked.mean())


def test_the_policy_shows_what_scores_highest_at_the_top(model, platform, log):
    requests = platform.requests(10).head(40)
    candidates = platform.candidates(requests)
    rates = c.count_rates(platform, c.last_days(log, 10, 3))
    ranked, propensities = model.policy(rates)(requests, candidates)
    for request, offered, shown in zip(requests.itertuples(), candidates, ranked, strict=True):
        rows = pd.DataFrame({"timestamp": request.timestamp, "user_id": request.user_id, "video_id": offered})
        score = model.score(c.impression_features(platform, rates, rows.assign(position=1)))
        assert list(shown) == list(offered[np.argsort(-score, kind="stable")])
    assert (propensities == 1).all()
    explored = model.policy(rates, epsilon=0.5)(requests, candidates)[1]
    assert set(np.unique(explored.round(9))) == {0.02, 0.52}


def test_the_policy_asks_for_the_score_at_the_top(model, platform, log, monkeypatch):
    asked = []
    monkeypatch.setattr(model, "score", lambda table: asked.append(table) or np.zeros(len(table)))
    requests = platform.requests(10).head(3)
    model.policy(c.count_rates(platform, log.head(3_000)))(requests, platform.candidates(requests))
    assert (asked[0]["position"] == 1).all() and len(asked[0]) == 75


def test_the_policy_earns_more_clicks_than_chance(model, platform, log):
    rates = c.count_rates(platform, c.last_days(log, 10, 3))
    chosen, chance = (platform.true_value(policy, days=range(10, 12))
                      for policy in (model.policy(rates), random_policy()))  # fmt: skip
    assert chosen.value > 1.2 * chance.value


@pytest.mark.parametrize(
    ("days", "message"),
    [([], "days is empty"), ([99], "no row on day 99"), ([0], "no row in the 7 days before day 0")],
)
def test_a_model_of_no_days_is_refused(platform, log, days, message):
    with pytest.raises(ValueError, match=message):
        c.ClickModel(platform, log, days)


def test_a_window_of_no_rows_is_refused(model, log):
    with pytest.raises(ValueError, match="no row on day 99"):
        model.windows(log)(99)
    with pytest.raises(ValueError, match="rows must be"):
        model.windows(log, 0)


# ---------------------------------------------------------------- which alarm fires


@pytest.fixture(scope="module")
def shifted(platform, model, windows):
    logs = {kind: platform.shifted(kind, 0.9, ONSET).simulate(random_policy(), DAYS) for kind in SHIFTS}
    return {"none": windows} | {kind: model.windows(rows, rows=1_500) for kind, rows in logs.items()}


@pytest.fixture(scope="module")
def week(shifted):
    """The first five days of each world, and the week before, in one table each."""
    worlds = {name: pd.concat([of(day) for day in range(ONSET, ONSET + 5)]) for name, of in shifted.items()}
    return pd.concat([shifted["none"](day) for day in range(ONSET - 7, ONSET)]), worlds


def test_before_the_shift_all_worlds_are_one(shifted):
    for of in shifted.values():
        pd.testing.assert_frame_equal(of(ONSET - 1), shifted["none"](ONSET - 1))


def test_an_influx_of_users_shouts_and_does_not_harm_and_drift_of_tastes_is_silent_and_does(week):
    before, worlds = week
    named = [*c.CONTEXT, "user_id"]
    psi = {name: drift_report(before[named], rows[named], "user_id").psi for name, rows in worlds.items()}
    auc = {name: roc_auc_score(rows.label, rows.score) for name, rows in worlds.items()}
    assert psi["covariate"].idxmax() == "age_band" and psi["covariate"].max() > 0.25
    assert auc["covariate"] > auc["none"] - 0.015
    assert psi["concept"].max() < 0.1 and abs(psi["concept"].max() - psi["none"].max()) < 0.05
    assert auc["concept"] < auc["none"] - 0.03


def test_only_a_look_at_all_features_together_sees_a_joint_shift(week):
    before, worlds = week
    named = [*c.CONTEXT, "user_id"]
    report = drift_report(before[named], worlds["joint_only"][named], "user_id", alpha=0.001)
    assert not report.alarm.any()
    c2st = standard_detectors(c.CONTEXT, 0, "user_id")[1].statistic
    assert c2st(before, worlds["joint_only"]) > c2st(before, worlds["none"]) + 0.03


def test_a_label_shift_is_seen_in_calibration_and_not_in_the_order(week):
    _, worlds = week
    ratio = {name: rows.score.sum() / rows.label.sum() for name, rows in worlds.items()}
    auc = {name: roc_auc_score(rows.label, rows.score) for name, rows in worlds.items()}
    assert ratio["label"] < 0.6 and ratio["none"] == pytest.approx(1, abs=0.15)
    assert abs(auc["label"] - auc["none"]) < 0.06


def test_the_matrix_names_the_first_day_of_each_alarm_and_labels_come_late(shifted):
    detectors = [d for d in standard_detectors(c.CONTEXT, 3, "user_id") if d.name in ("PSI", "AUC")]
    quiet = daily_statistics(shifted["none"], range(8, ONSET), moving_reference, detectors).dropna()
    thresholds = 1.15 * threshold_for(quiet, pages_per_week=1.1)
    matrix = drift_matrix(shifted, range(ONSET, DAYS), moving_reference, detectors, thresholds)
    assert matrix.loc["covariate", "PSI"] == ONSET and matrix.loc["covariate", ["AUC"]].isna().all()
    assert (
        ONSET + 3 <= matrix.loc["concept", "AUC"] <= ONSET + 5 and matrix.loc["concept", ["PSI"]].isna().all()
    )
    assert matrix.loc["none"].isna().all()
