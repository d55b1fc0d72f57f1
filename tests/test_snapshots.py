import numpy as np
import pandas as pd
import pytest

from helpers.features import FEATURES, Feature, offline_features
from helpers.simulator import Platform, random_policy
from helpers.snapshots import NIGHTLY, TOPIC_CTR, Snapshot
from helpers.world import HIDDEN

AT = pd.Timestamp("2025-01-09")


@pytest.fixture(scope="module")
def tables():
    platform = Platform(n_users=60, n_videos=80, n_topics=4, n_creators=9, days=5, n_candidates=20)
    log = platform.simulate(random_policy(), 5)
    return log, *(t.drop(columns=[*HIDDEN], errors="ignore") for t in (platform.users, platform.videos))


def test_a_pair_has_the_features_of_an_event_at_that_moment(tables):
    log, users, videos = tables
    pairs = log.drop_duplicates(["user_id", "video_id"]).tail(50)
    events = pairs.assign(timestamp=AT.as_unit("us"), request_id=-1 - np.arange(len(pairs)))
    both = pd.concat([log[log.timestamp < AT], events], ignore_index=True)
    features = *(f for f in FEATURES if f.aggregation != "age"), TOPIC_CTR
    wanted = offline_features(both, users, videos, features).tail(len(pairs)).reset_index(drop=True)
    found = Snapshot(log, users, videos, AT, features).rows(pairs.user_id, pairs.video_id)
    pd.testing.assert_frame_equal(found, wanted, check_categorical=False)


def test_the_future_changes_nothing(tables):
    log, users, videos = tables
    pair = users.user_id[:10], videos.video_id[:10]
    early = Snapshot(log[log.timestamp < AT], users, videos, AT).rows(*pair)
    pd.testing.assert_frame_equal(early, Snapshot(log, users, videos, AT).rows(*pair))
    later = Snapshot(log, users, videos, AT + pd.Timedelta("1D")).rows(*pair)
    assert not early.user_impressions.equals(later.user_impressions)


def test_without_any_event_the_defaults_stand(tables):
    log, users, videos = tables
    rows = Snapshot(log.iloc[:0], users, videos, AT).rows(users.user_id, videos.video_id[: len(users)])
    assert (rows.user_topic_ctr == 0.1).all() and (rows.user_impressions == 0).all()
    assert rows.user_watch_share.isna().all() and list(rows) == [f.name for f in NIGHTLY]


def test_ids_may_have_any_order(tables):
    log, users, videos = tables
    straight = Snapshot(log, users, videos, AT).rows([5, 7], [3, 2])
    turned = Snapshot(log, users[::-1], videos[::-1], AT).rows([5, 7], [3, 2])
    pd.testing.assert_frame_equal(straight, turned)


@pytest.mark.parametrize(
    ("users_asked", "videos_asked", "message"),
    [([1, 2], [1], "flat arrays"), ([[1]], [[1]], "flat arrays"), ([9999], [1], "no user_id 9999")],
)
def test_what_it_cannot_look_up_is_refused(tables, users_asked, videos_asked, message):
    with pytest.raises(ValueError, match=message):
        Snapshot(*tables, AT).rows(users_asked, videos_asked)


def test_what_it_cannot_hold_is_refused(tables, monkeypatch):
    with pytest.raises(ValueError, match="neither users nor videos"):
        Snapshot(*tables, AT, [Feature("at_position", ("position",), "count")])
    monkeypatch.setattr("helpers.snapshots.LARGEST", 100)
    with pytest.raises(ValueError, match="coarser keys"):
        Snapshot(*tables, AT, [TOPIC_CTR])
