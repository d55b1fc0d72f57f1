"""The online store: equal to offline, idempotent, patient with late events, whole after a crash."""

import signal
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.datasets import DatasetError
from helpers.feature_store import OnlineStore, StoreError, Update, replay
from helpers.features import FEATURES, Feature, offline_features, parity
from tests.small_platform import START, small_world

WORLD = small_world()
LOG, USERS, VIDEOS = WORLD
EVENT_ID = ["request_id", "video_id"]
LATER = LOG["timestamp"].max() + pd.Timedelta("1s")
CLICKS = (Feature("clicks", ("user_id",), "sum", "clicked", default=0.0),)
EVENTS = Feature("events", ("user_id",), "count")


def filled(path, features=FEATURES, **settings):
    store = OnlineStore(path, features, **settings)
    store.put(USERS, VIDEOS)
    return store


@pytest.fixture
def store(tmp_path):
    """An empty store that knows the users and videos."""
    with filled(tmp_path / "store.db") as store:
        yield store


def everything(store, at=LATER):
    """What the store says of every user."""
    return [store.read(user, VIDEOS["video_id"].tolist(), at) for user in USERS["user_id"].tolist()]


def differences(features, served, log=LOG):
    keys = log[EVENT_ID]
    found = parity(pd.concat([keys, features], axis=1), pd.concat([keys, served], axis=1), EVENT_ID)
    return found.loc[found["different"] > 0, "feature"].tolist()


# ---------------------------------------------------------------- parity


def test_what_was_served_is_what_is_computed_offline_row_by_row(store):
    assert differences(offline_features(*WORLD), replay(store, LOG)) == []


def test_delays_and_windows_of_every_key_agree_as_well(tmp_path):
    video = ("video_id",)
    features = [
        Feature("late_ctr", video, "mean", "clicked", delay="2min"),
        Feature("hot", video, "count", window="10min", delay="30s"),
        Feature("since_topic", ("user_id", "topic"), "seconds_since"),
        Feature("since_late", ("creator_id",), "seconds_since", delay="90s"),
        Feature("since_recent", video, "seconds_since", window="20min"),
        Feature("topics_of_country", ("country",), "distinct", "topic", window="3min"),
    ]
    with filled(tmp_path / "store.db", features, lateness="2min") as store:
        served = replay(store, LOG)
    assert differences(offline_features(*WORLD, features), served) == []


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2), st.booleans()), min_size=1, max_size=15),
    st.randoms(),
)
def test_any_order_of_arrival_within_the_lateness_and_any_repetition_gives_the_same(rows, random):
    events = pd.DataFrame(rows, columns=["second", "user_id", "clicked"])
    events["timestamp"] = START + pd.to_timedelta(events["second"], unit="s")
    events["video_id"], events["request_id"] = 100, range(len(events))
    features = [EVENTS, *CLICKS, Feature("recent", ("user_id",), "count", window="10s")]
    order = random.sample(range(len(rows)), len(rows))
    with OnlineStore(":memory:", features, lateness="30s") as store:
        for i in [*order, *order[: len(order) // 2]]:
            store.update(events.iloc[[i]])
        served = [store.read(e.user_id, [100], e.timestamp) for e in events.itertuples()]
    found = pd.DataFrame({f.name: [row[f.name][0] for row in served] for f in features})
    assert differences(offline_features(events, features=features), found, events) == []


def test_a_batch_longer_than_the_lateness_cannot_be_replayed(store):
    with pytest.raises(ValueError, match="longer than the store can look back"):
        replay(store, LOG, "1h")


# ---------------------------------------------------------------- update


def test_the_same_batch_twice_is_the_same_as_once(store):
    assert store.update(LOG) == Update(len(LOG), 0, 0)
    once = everything(store)
    assert sum(store.update(LOG)[1:]) == len(LOG)
    assert store.update(pd.concat([LOG.tail(4), LOG.tail(4)])) == Update(0, 8, 0)
    assert str(everything(store)) == str(once)


def test_a_duplicate_inside_a_batch_counts_once(store):
    assert store.update(pd.concat([LOG.head(8), LOG.head(8)])) == Update(8, 8, 0)


def test_an_event_is_late_until_the_lateness_and_the_window_have_passed(tmp_path):
    events = LOG.head(5).assign(user_id=1, request_id=range(5))
    events["timestamp"] = START + pd.to_timedelta([0, 100, 40, 39, 100], unit="s")
    features = [EVENTS, Feature("recent", ("user_id",), "count", window="20s")]
    with filled(tmp_path / "store.db", features, lateness="40s") as store:
        assert store.update(events.iloc[:2]) == Update(2, 0, 0)
        assert store.update(events.iloc[2:4]) == Update(1, 0, 1)
        assert store.read(1, [100], START + pd.Timedelta("101s")) == {"events": [3.0], "recent": [1.0]}
        assert store.read(1, [100], START + pd.Timedelta("60s")) == {"events": [2.0], "recent": [1.0]}


def test_a_read_longer_ago_than_the_lateness_is_refused(store):
    store.update(LOG)
    with pytest.raises(ValueError, match="can look back by its lateness of 600 s"):
        store.read(1, [100], START)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"timestamp": pd.NaT}, ValueError, "timestamp must hold a time"),
        ({"watch_seconds": np.nan}, DatasetError, "column watch_seconds / duration_seconds fails"),
        ({"video_id": 7}, ValueError, "does not know 1 video_id of these events, such as 7"),
        ({"request_id": None}, ValueError, r"id in request_id \+ video_id"),
    ],
)
def test_a_corrupt_batch_changes_nothing(store, change, error, message):
    store.update(LOG.head(200))
    before = str(everything(store))
    with pytest.raises(error, match=message):
        store.update(LOG.tail(200).assign(**change))
    assert str(everything(store)) == before


def test_an_empty_batch_is_no_batch(store):
    assert store.update(LOG.head(0)) == Update(0, 0, 0)


# ---------------------------------------------------------------- reading


def test_who_is_unknown_has_the_defaults(store):
    found = store.read(-1, [-2], LATER)
    assert found["user_country"] == [None] and found["video_age_seconds"] == [None]
    assert found["user_impressions"] == [0] and found["user_ctr"] == [pytest.approx(0.1)]


def test_the_values_come_in_the_order_of_the_videos(store):
    store.update(LOG)
    videos = VIDEOS["video_id"].tolist()
    forth, back = store.read(1, videos, LATER), store.read(1, videos[::-1], LATER)
    assert len(set(forth["video_impressions"])) > 1
    assert all(str(forth[name]) == str(back[name][::-1]) for name in forth)


def test_a_reader_goes_on_while_another_connection_writes(store):
    store.update(LOG.head(200))
    with OnlineStore(store.path) as reader:
        before = str(everything(reader))
        store._connection.execute("BEGIN IMMEDIATE")
        store._connection.execute("DELETE FROM event")
        assert str(everything(reader)) == before
        store._connection.execute("ROLLBACK")
        store.update(LOG.tail(200))
        assert str(everything(reader)) != before


def test_ids_of_numpy_are_ids(store):
    store.update(LOG)
    user, videos = LOG["user_id"].iloc[0], VIDEOS["video_id"].head(3)
    assert str(store.read(user, videos.to_numpy(), LATER)) == str(
        store.read(int(user), videos.tolist(), LATER)
    )
    assert store.erase(user) > 0


def test_a_closed_store_and_one_of_another_thread_say_so(store):
    with ThreadPoolExecutor(1) as pool, pytest.raises(StoreError, match="open an OnlineStore in each thread"):
        pool.submit(store.read, 1, [100], LATER).result()
    store.close()
    with pytest.raises(StoreError, match="use it until you close it"):
        store.read(1, [100], LATER)


# ---------------------------------------------------------------- the file


def test_the_store_is_kept_in_its_file(store):
    store.update(LOG)
    before = str(everything(store))
    store.close()
    with OnlineStore(store.path) as again:
        assert str(everything(again)) == before


def test_other_features_are_refused(store):
    with pytest.raises(StoreError, match="was written for other features"):
        OnlineStore(store.path, CLICKS)
    renamed = [replace(f, owner="someone else") for f in FEATURES]
    OnlineStore(store.path, renamed).close()  # who owns a feature does not change what is stored


def test_another_schema_version_or_another_database_is_refused_and_left_as_it_is(tmp_path):
    with filled(tmp_path / "old.db") as old:
        old._connection.execute("PRAGMA user_version=99")
    foreign = sqlite3.connect(tmp_path / "foreign.db")
    foreign.execute("CREATE TABLE precious (a)")
    foreign.close()
    for name in ("old.db", "foreign.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(StoreError, match="no feature store of schema version 1"):
            OnlineStore(tmp_path / name)
        assert (tmp_path / name).read_bytes() == before


@pytest.mark.parametrize("damage", ["text", "cut", "overwritten"])
def test_a_damaged_file_is_a_clear_error(store, damage):
    store.update(LOG)
    store.close()
    content = bytearray(store.path.read_bytes())
    if damage == "text":
        content[:100] = b"not a database".ljust(100)
    elif damage == "cut":
        del content[len(content) // 2 :]
    else:
        content[8192:20480] = bytes(12288)
    store.path.write_bytes(content)
    with pytest.raises(StoreError, match=r"(?s)damaged or no database .* fill a new store from the log"):
        OnlineStore(store.path)


WRITER = """
import os, signal, sys
from helpers.feature_store import OnlineStore
from tests.small_platform import small_world

log, users, videos = small_world()
store = OnlineStore(sys.argv[1])
store.put(users, videos)
store.update(log.head(200))
kill = lambda statement: statement.startswith(sys.argv[2]) and os.kill(os.getpid(), signal.SIGKILL)
store._connection.set_trace_callback(kill)
store.update(log.tail(200))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
@pytest.mark.parametrize(
    "statement", ['INSERT INTO "total by video_id"', "INSERT INTO event", "DELETE FROM event", "COMMIT"]
)
def test_a_writer_that_is_killed_leaves_the_batch_whole_or_absent(tmp_path, statement):
    command = [sys.executable, "-c", WRITER, str(tmp_path / "killed.db"), statement]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with filled(tmp_path / "expected.db") as expected, OnlineStore(tmp_path / "killed.db") as killed:
        expected.update(LOG.head(200))
        assert str(everything(killed)) == str(everything(expected))
        assert killed.update(LOG.tail(200)) == expected.update(LOG.tail(200)) == Update(200, 0, 0)
        assert str(everything(killed)) == str(everything(expected))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_a_writer_that_is_killed_after_the_commit_has_written_its_batch(tmp_path):
    command = [
        sys.executable,
        "-c",
        WRITER + "\nos.kill(os.getpid(), signal.SIGKILL)",
        str(tmp_path / "a.db"),
        "never",
    ]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with OnlineStore(tmp_path / "a.db") as killed:
        assert killed.update(LOG.tail(200)).applied == 0


# ---------------------------------------------------------------- erasure


def test_an_erased_user_is_unknown_and_others_are_as_before(store):
    store.update(LOG)
    before = everything(store)
    assert store.erase(1) > 0
    after = everything(store)
    assert str(after[1:]) == str(before[1:])
    assert after[0]["user_country"][0] is None and after[0]["user_impressions"][0] == 0
    assert store.erase(1) == 0


def test_a_store_whose_only_user_was_erased_still_knows_what_is_too_late(store):
    store.update(LOG.tail(4).assign(user_id=1))
    store.erase(1)
    for _ in range(2):
        assert store.update(LOG.head(4).assign(user_id=2)) == Update(0, 0, 4)
    assert store.update(LOG.tail(4).assign(user_id=2)) == Update(4, 0, 0)


def test_erasure_waits_for_no_reader_but_says_that_one_is_there(store):
    store.update(LOG)
    with OnlineStore(store.path) as reader:
        reader._connection.execute("BEGIN")
        reader._connection.execute("SELECT count(*) FROM event").fetchone()
        store._connection.execute("PRAGMA busy_timeout=50")
        with pytest.raises(StoreError, match="close the readers, erase again"):
            store.erase(1)
        reader._connection.execute("ROLLBACK")
        store.erase(1)
