"""Features: declared once, point-in-time, the same by every engine; parity, splits and leaks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, ks_2samp
from sklearn.metrics import roc_auc_score

from helpers.datasets import DatasetError, load_movielens_ratings
from helpers.features import (
    FEATURES,
    Feature,
    Split,
    deduplicate,
    distributed_features,
    feature_sql,
    group_split,
    leakage_report,
    local_cluster,
    naive_features,
    offline_features,
    parity,
    random_split,
    temporal_split,
)
from tests.small_platform import START, small_world

WORLD = small_world()
LOG, USERS, VIDEOS = WORLD
USER = ("user_id",)
SIMPLE = (
    Feature("count", USER, "count"),
    Feature("clicks", USER, "sum", "clicked"),
    Feature("mean", USER, "mean", "2 * clicked + 1"),
    Feature("smooth", USER, "smoothed_mean", "clicked", prior=0.1, strength=2.0),
    Feature("topics", USER, "distinct", "topic", window="5s", default=0.0),
    Feature("share", USER, "share", "topic", window="5s", delay="1s", default=-1.0),
    Feature("since", USER, "seconds_since", delay="2s"),
    Feature("late_clicks", USER, "sum", "clicked", window="3s", delay="2s"),
    Feature("pair", ("user_id", "topic"), "count", window="4s"),
)


def features_of(log, *features):
    return offline_features(log, USERS, VIDEOS, features)


def with_keys(log, features):
    return pd.concat([log[["request_id", "video_id"]], features], axis=1)


def assert_equal(found, expected):
    for name in expected:
        if isinstance(found[name].dtype, pd.CategoricalDtype):
            assert (found[name].astype(object) == expected[name].astype(object)).all(), name
        else:
            values = [table[name].to_numpy(float) for table in (found, expected)]
            np.testing.assert_allclose(*values, rtol=1e-9, atol=1e-9, err_msg=name)


# ---------------------------------------------------------------- point in time


def test_every_declared_feature_is_what_its_definition_says_row_by_row():
    world = small_world(requests=50, seconds=900)
    found, expected = offline_features(*world), naive_features(*world)
    assert list(found) == list(expected) == [f.name for f in FEATURES]
    assert found.index.equals(world.log.index)
    assert_equal(found, expected)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.integers(0, 8), st.integers(1, 2), st.sampled_from("ab"), st.booleans()),
        min_size=1,
        max_size=12,
    )
)
def test_any_small_log_with_ties_gives_what_the_definition_says(rows):
    log = pd.DataFrame(rows, columns=["second", "user_id", "topic", "clicked"])
    log["timestamp"] = START + pd.to_timedelta(log.pop("second"), unit="s")
    assert_equal(offline_features(log, features=SIMPLE), naive_features(log, features=SIMPLE))


def test_the_order_of_the_rows_does_not_matter():
    shuffled = LOG.sample(frac=1, random_state=0)
    assert_equal(offline_features(shuffled, USERS, VIDEOS).loc[LOG.index], offline_features(*WORLD))


def test_changing_the_present_and_the_future_changes_no_feature_until_then():
    cut = LOG["timestamp"].iloc[len(LOG) // 2]
    changed = LOG.assign(clicked=LOG["clicked"] ^ (LOG["timestamp"] >= cut))
    until = LOG["timestamp"] <= cut
    before, after = offline_features(*WORLD), offline_features(changed, USERS, VIDEOS)
    pd.testing.assert_frame_equal(before[until], after[until])
    assert not before[~until].equals(after[~until])


def test_events_with_the_same_timestamp_do_not_see_each_other():
    together = LOG.head(4).assign(timestamp=START, user_id=1)
    assert features_of(together, SIMPLE[0])["count"].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("microseconds", "count"), [(0, 0), (1, 1), (5_000_000, 1), (5_000_001, 0)])
def test_a_window_holds_what_is_older_than_now_up_to_its_own_length(microseconds, count):
    log = LOG.head(2).assign(user_id=1)
    log["timestamp"] = [START, START + pd.Timedelta(microseconds, unit="us")]
    found = features_of(log, Feature("count", USER, "count", window="5s"))
    assert found["count"].tolist() == [0, count]


@pytest.mark.parametrize(("seconds", "count"), [(60, 0), (61, 1), (70, 1), (71, 0)])
def test_a_delay_moves_the_window_back(seconds, count):
    log = LOG.head(2).assign(user_id=1, timestamp=[START, START + pd.Timedelta(seconds, unit="s")])
    found = features_of(log, Feature("count", USER, "count", window="10s", delay="60s"))
    assert found["count"].tolist() == [0, count]


def test_film_means_as_of_each_rating_equal_the_pandas_expanding_mean():
    ratings = load_movielens_ratings().rename(columns={"rated_at": "timestamp"})
    ratings = (
        ratings[ratings["movie_id"] < 60].sort_values("timestamp").drop_duplicates(["movie_id", "timestamp"])
    )
    found = offline_features(ratings, features=[Feature("mean", ("movie_id",), "mean", "rating")])["mean"]
    expected = ratings.groupby("movie_id")["rating"].transform(lambda stars: stars.expanding().mean().shift())
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_an_empty_log_gives_an_empty_table():
    assert offline_features(LOG.head(0), USERS, VIDEOS).shape == (0, len(FEATURES))


def test_the_sql_can_be_read():
    sql = feature_sql([Feature("clicks", USER, "sum", "clicked", window="5min")])
    assert 'PARTITION BY "user_id" ORDER BY t RANGE BETWEEN 300000000 PRECEDING AND 1 PRECEDING' in sql


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aggregation": "median"}, "aggregation must be one of"),
        ({"aggregation": "count", "column": "clicked"}, "count takes no column"),
        ({"column": None}, "sum takes a column"),
        ({"keys": "user_id"}, "keys must be a tuple"),
        ({"keys": ("creator_id",), "aggregation": "attribute"}, "keys"),
        ({"aggregation": "distinct", "window": None}, "needs a window"),
        ({"window": "0s"}, "window must be above 0"),
        ({"delay": "-1s"}, "delay must not be negative"),
    ],
)
def test_a_declaration_that_cannot_be_computed_is_refused(change, message):
    clicks = Feature("clicks", USER, "sum", "clicked", window="5min")
    with pytest.raises(ValueError, match=message):
        replace(clicks, **change)


# ---------------------------------------------------------------- doors


def test_duplicates_are_dropped_once_and_for_all():
    twice = pd.concat([LOG, LOG.sample(30, random_state=0)])
    once = deduplicate(twice)
    pd.testing.assert_frame_equal(once, LOG)
    pd.testing.assert_frame_equal(deduplicate(once), once)


def test_one_event_with_two_stories_is_refused_and_the_column_named():
    lie = LOG.iloc[[5]].assign(liked=~LOG["liked"].iloc[5])
    with pytest.raises(ValueError, match="in column liked"):
        deduplicate(pd.concat([LOG, lie]))


def test_duplicates_at_the_door_are_an_error_that_names_the_repair():
    with pytest.raises(ValueError, match=r"3 rows repeat.*use deduplicate\(log\)"):
        offline_features(pd.concat([LOG, LOG.head(3)], ignore_index=True), USERS, VIDEOS)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"timestamp": LOG["timestamp"].astype(str)}, ValueError, "timestamp must hold a time"),
        ({"timestamp": LOG["timestamp"].where(LOG.index > 0)}, ValueError, "timestamp .* 1 missing"),
        ({"timestamp": LOG["timestamp"].dt.tz_localize("UTC")}, ValueError, "without a zone"),
        (
            {"user_id": LOG["user_id"] + 1000},
            ValueError,
            r"400 rows of the log have a user_id that users lacks",
        ),
        (
            {"watch_seconds": np.inf},
            DatasetError,
            "column watch_seconds / duration_seconds fails the check finite",
        ),
        (
            {"clicked": LOG["clicked"].astype(float).where(LOG.index > 0)},
            DatasetError,
            "column clicked fails",
        ),
    ],
)
def test_a_corrupt_log_is_stopped_with_its_column(change, error, message):
    with pytest.raises(error, match=message):
        offline_features(LOG.assign(**change), USERS, VIDEOS)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ((LOG.drop(columns="clicked"), USERS, VIDEOS), "Column clicked is missing in the log"),
        ((LOG, USERS.drop(columns="device"), VIDEOS), "Column device is missing in users"),
        ((LOG, None, VIDEOS), "need the table users"),
        ((LOG, USERS, pd.concat([VIDEOS, VIDEOS])), "video_id of videos has duplicates"),
    ],
)
def test_a_missing_table_or_column_is_named(tables, message):
    with pytest.raises(ValueError, match=message):
        offline_features(*tables)


def test_an_impression_before_its_video_was_uploaded_is_out_of_order():
    early = VIDEOS.assign(uploaded_at=VIDEOS["uploaded_at"] + pd.Timedelta("30D"))
    with pytest.raises(DatasetError, match="column video_age_seconds fails the check"):
        offline_features(LOG, USERS, early)


# ---------------------------------------------------------------- parity


def test_parity_of_a_table_with_itself_finds_nothing_in_any_order():
    table = with_keys(LOG, offline_features(*WORLD))
    found = parity(table, table.sample(frac=1, random_state=0), ["request_id", "video_id"])
    assert found["different"].sum() == 0 and set(found["rows"]) == {len(LOG)}


def test_parity_counts_the_rows_that_differ_and_shows_one():
    table = with_keys(LOG, offline_features(*WORLD))
    online = table.copy()
    online.loc[7, "user_impressions"] += 2
    online.loc[9, "user_device"] = np.nan
    found = parity(table, online, ["request_id", "video_id"]).set_index("feature")
    assert found["different"].to_dict() == dict.fromkeys(found.index, 0) | {
        "user_impressions": 1,
        "user_device": 1,
    }
    assert found.loc["user_impressions", "largest"] == 2
    assert found.loc["user_impressions", "example"] == LOG.loc[7, ["request_id", "video_id"]].to_dict()


def test_a_row_that_one_side_lacks_differs_in_each_feature():
    table = with_keys(LOG, offline_features(*WORLD))
    found = parity(table, table.iloc[1:], ["request_id", "video_id"])
    assert set(found["different"]) == {1}


def test_parity_refuses_keys_that_repeat_and_tables_that_differ():
    table = with_keys(LOG, offline_features(*WORLD))
    with pytest.raises(ValueError, match="request_id repeat in the offline table"):
        parity(table, table, ["request_id"])
    with pytest.raises(ValueError, match=r"Only one table has .*user_ctr"):
        parity(table, table.drop(columns="user_ctr"), ["request_id", "video_id"])


def test_an_off_by_one_key_is_found_by_parity_and_by_no_test_of_the_distribution():
    rng = np.random.default_rng(0)
    rate, device = rng.beta(2, 8, 5_000), rng.choice(["phone", "tv"], 5_000)
    offline = pd.DataFrame({"user_id": np.arange(5_000), "ctr": rate, "device": device})
    online = offline.assign(ctr=np.roll(rate, 1), device=np.roll(device, 1))  # user 7 gets the row of user 6
    assert ks_2samp(offline["ctr"], online["ctr"]).pvalue == 1
    counts = [table["device"].value_counts().sort_index() for table in (offline, online)]
    assert chi2_contingency(counts).pvalue == 1
    share = parity(offline, online, ["user_id"]).set_index("feature")["share"]
    assert share["ctr"] == 1 and share["device"] == pytest.approx(0.5, abs=0.05)
    clicked = rng.random(5_000) < rate
    assert roc_auc_score(clicked, offline["ctr"]) > 0.6 > 0.53 > roc_auc_score(clicked, online["ctr"])


# ---------------------------------------------------------------- splits


def test_a_random_split_covers_each_row_once_and_repeats_with_its_seed():
    split = random_split(100, 0.3, seed=1)
    assert sorted([*split.train, *split.test]) == list(range(100)) and len(split.test) == 30
    assert np.array_equal(split.test, random_split(100, 0.3, seed=1).test)


def test_a_group_split_keeps_each_user_on_one_side():
    users = LOG["user_id"].to_numpy()
    split = group_split(users, 0.3)
    assert not set(users[split.train]) & set(users[split.test])
    assert sorted([*split.train, *split.test]) == list(range(len(LOG)))


def test_a_temporal_split_trains_on_matured_labels_before_the_gap():
    days = pd.Series(pd.date_range("2025-01-01", periods=10, freq="D"))
    arrival = days + pd.Timedelta("2D")
    assert temporal_split(days, "2025-01-06").train.tolist() == [0, 1, 2, 3, 4]
    assert temporal_split(days, "2025-01-06", gap="1D").train.tolist() == [0, 1, 2, 3]
    matured = temporal_split(days, "2025-01-06", label_available_at=arrival, evaluated_at="2025-01-09")
    assert matured.train.tolist() == [0, 1, 2, 3] and matured.test.tolist() == [5, 6]
    never = arrival.where(days.index != 7)
    assert temporal_split(days, "2025-01-06", label_available_at=never).test.tolist() == [5, 6, 8, 9]


def test_a_temporal_split_with_an_empty_side_says_which_times_there_are():
    with pytest.raises(ValueError, match=r"0 rows to train on .* from 2025-01-06"):
        temporal_split(LOG["timestamp"], "2024-01-01")


# ---------------------------------------------------------------- leakage


@pytest.fixture(scope="module")
def honest():
    """2,000 rows with a modest signal, in order of time, each with its own user."""
    rng = np.random.default_rng(0)
    features = pd.DataFrame(rng.normal(size=(2_000, 3)), columns=["a", "b", "c"])
    label = (features["a"] + 2 * rng.normal(size=2_000) > 0).astype(int).to_numpy()
    time = pd.Series(pd.date_range("2025-01-01", periods=2_000, freq="h"))
    return features, label, time, Split(np.arange(1_500), np.arange(1_500, 2_000))


def found_leaks(features, label, split, **more):
    return [
        tuple(row) for row in leakage_report(features, label, split, **more)[["leak", "where"]].to_numpy()
    ]


def test_an_honest_table_has_no_leak(honest):
    features, label, time, split = honest
    known_at = pd.DataFrame(dict.fromkeys(features, time))
    assert (
        found_leaks(features, label, split, timestamp=time, groups=np.arange(2_000), known_at=known_at) == []
    )


def test_a_feature_that_knows_the_label_is_a_target_leak(honest):
    features, label, _, split = honest
    assert found_leaks(features.assign(refund=-label), label, split) == [("target", "refund")]


def test_a_category_that_knows_the_label_is_a_target_leak(honest):
    features, label, _, split = honest
    status = pd.Categorical(np.where(label, "refunded", "paid"))
    assert found_leaks(features.assign(status=status), label, split) == [("target", "status")]
    shop = pd.Categorical(np.random.default_rng(1).integers(0, 800, 2_000).astype(str))
    assert found_leaks(features.assign(shop=shop), label, split) == []


def test_a_side_without_both_labels_is_refused(honest):
    features, label, _, split = honest
    with pytest.raises(ValueError, match="must each hold the labels 0 and 1"):
        leakage_report(features, np.where(np.arange(2_000) < 1_500, label, 0), split)


def test_a_naive_target_encoding_leaks_and_falls_apart_on_the_test_rows(honest):
    features, label, _, split = honest
    shop = pd.Series(np.random.default_rng(1).integers(0, 800, 2_000))
    rate = pd.Series(label[split.train]).groupby(shop[split.train]).mean()
    encoded = features.assign(shop_rate=shop.map(rate).fillna(0.5))
    assert found_leaks(encoded, label, split) == [("target encoding", "shop_rate")]


def test_scaling_with_the_test_rows_is_a_preprocessing_leak(honest):
    features, label, _, split = honest
    assert found_leaks(
        features.assign(b=(features["b"] - features["b"].mean()) / features["b"].std()), label, split
    ) == [("preprocessing", "b")]


def test_a_value_from_the_future_is_named_with_its_share(honest):
    features, label, time, split = honest
    known_at = pd.DataFrame(
        {"a": time, "b": time + pd.to_timedelta((time.index % 4 == 0).astype(int), unit="D")}
    )
    report = leakage_report(features, label, split, timestamp=time, known_at=known_at)
    assert report[["leak", "where"]].to_numpy().tolist() == [["future feature", "b"]]
    assert report["evidence"].item().startswith("25.0% of values")


def test_a_random_split_of_rows_with_a_time_trains_on_the_future(honest):
    features, label, time, _ = honest
    assert found_leaks(features, label, random_split(2_000), timestamp=time) == [("future rows", "split")]


def test_users_and_rows_on_both_sides_are_found(honest):
    features, label, _, split = honest
    assert found_leaks(features, label, split, groups=np.arange(2_000) % 1_600) == [("group", "split")]
    copied, labels = features.copy(), label.copy()
    copied.loc[1_990:], labels[1_990:] = copied.loc[:9].to_numpy(), labels[:10]
    assert found_leaks(copied, labels, split) == [("duplicate", "rows")]


# ---------------------------------------------------------------- out of one machine


def test_a_cluster_gives_what_duckdb_gives_row_by_row():
    dd = pytest.importorskip("dask.dataframe", reason="the extra `distributed` is not installed")
    with local_cluster() as client:
        assert client.scheduler.address.startswith("tcp://127.0.0.1:")
        assert len(client.scheduler_info()["workers"]) == 2
        found = distributed_features(dd.from_pandas(LOG, npartitions=3), USERS, VIDEOS).compute()
    pd.testing.assert_frame_equal(found, offline_features(*WORLD), rtol=1e-12)


def test_a_distributed_log_needs_known_divisions():
    dd = pytest.importorskip("dask.dataframe", reason="the extra `distributed` is not installed")
    with pytest.raises(ValueError, match="unknown divisions"):
        distributed_features(dd.from_pandas(LOG, npartitions=3).clear_divisions(), USERS, VIDEOS)
