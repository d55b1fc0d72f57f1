"""Releases: what is served is what was trained on; published whole or not at all, rolled back in one step."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import files
from helpers.features import microseconds
from helpers.releases import (
    COLUMNS,
    SETTINGS,
    SIMILARITY,
    STORE,
    SWITCH,
    ReleaseError,
    activate,
    build_release,
    current,
    encode,
    fill_store,
    history,
    is_popular_only,
    load_release,
    open_store,
    popular_only,
    publish,
    rollback,
    training_table,
    vectors,
    visible,
)
from helpers.world import HIDDEN
from tests.small_service import deploy, small

ROOT = Path(__file__).parents[1]
posix_only = pytest.mark.skipif(os.name == "nt", reason="uses signals that Windows does not have")


@pytest.fixture(scope="module")
def world():
    return small()


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return deploy(tmp_path_factory.mktemp("service"))


def version(number):
    return replace(small().release, version=str(number))


# ---------------------------------------------------------------- what is served, and what was trained on


def test_what_the_service_reads_is_what_the_ranker_was_trained_on(world, tmp_path):
    fill_store(world.platform, world.log, tmp_path)
    both = pd.concat([world.log, world.next_day], ignore_index=True)
    trained = training_table(world.platform, both, world.release.as_of)
    rows = both.loc[trained.index]
    wanted = encode(trained, world.release.categories)
    compared = 0
    with open_store(tmp_path) as store:
        for at, shown in list(rows.groupby("timestamp"))[:60]:
            user, videos = shown["user_id"].iloc[0], shown["video_id"].to_numpy()
            known = videos < len(world.release.items)
            profile = world.release.read(store, user, at)
            found = world.release.table(user, profile, videos[known], at)
            there = wanted[trained.index.get_indexer(shown.index)][known]
            np.testing.assert_allclose(found[:, :-1], there[:, :-1], rtol=2e-5, atol=1e-6)
            store.update(shown)
            compared += known.sum()
    assert compared > 200


def test_the_batch_profile_is_what_the_store_said_that_night(world, directory):
    with open_store(directory) as store:
        for user in range(0, 150, 10):
            np.testing.assert_allclose(
                world.release.read(store, user, world.release.as_of), world.release.profiles[user], rtol=1e-6
            )


def test_no_feature_comes_from_what_no_model_may_read(world):
    assert not {*HIDDEN} & {name for table in visible(world.platform) for name in table}
    assert {*COLUMNS} == {
        *training_table(world.platform, world.log, world.release.as_of - pd.Timedelta("1D"))
    }


def test_the_future_changes_no_row_of_the_training_table(world):
    since = world.release.as_of - pd.Timedelta("1D")
    both = pd.concat([world.log, world.next_day], ignore_index=True)
    early = training_table(world.platform, world.log, since)
    pd.testing.assert_frame_equal(training_table(world.platform, both, since).loc[early.index], early)


def test_a_release_holds_only_the_videos_of_its_night(world):
    there = world.platform.n_available(4)
    assert there < world.platform.n_videos
    for found in (world.release.items, world.release.creators, world.release.uploaded, world.release.index):
        assert len(found) == there
    assert (world.release.uploaded <= microseconds(pd.Series([world.release.as_of]))).all()


def test_the_ranker_is_asked_about_one_position_for_all(world):
    table = world.release.table(3, world.release.profiles[3], np.arange(50), world.release.as_of)
    assert set(table[:, COLUMNS.index("position")]) == {1}


def test_the_score_is_a_probability_that_begins_at_the_retrieval(world):
    ids = world.release.search(3)
    table = world.release.table(3, world.release.profiles[3], ids, world.release.as_of)
    scores = world.release.score(table)
    assert ((scores > 0) & (scores < 1)).all()
    moved = table.copy()
    moved[:, SIMILARITY] += 100
    assert (world.release.score(moved) > 0.99).all()


def test_the_clicks_it_learned_from_are_expected_in_total(world):
    table = training_table(world.platform, world.log, world.release.as_of - pd.Timedelta("2D"))
    expected = world.release.score(encode(table, world.release.categories)).sum()
    assert expected == pytest.approx(world.log.loc[table.index, "clicked"].sum(), rel=0.1)


def test_the_retrieval_is_sorted_by_the_inner_product(world):
    ids = world.release.search(7)
    similarity = world.release.video_vectors @ world.release.user_vectors[7]
    assert len(ids) == len(set(ids)) == world.release.candidates
    np.testing.assert_allclose(similarity[ids], np.sort(similarity)[::-1][: len(ids)])


def test_the_inner_product_is_the_rate_times_three_lifts(world):
    users, videos = vectors(world.platform, world.log, 100)
    log = world.log.assign(
        topic=world.platform.videos["topic"].to_numpy()[world.log["video_id"]],
        spoken=world.platform.videos["language"].to_numpy()[world.log["video_id"]],
        speaks=world.platform.users["language"].to_numpy()[world.log["user_id"]],
    )
    rate = (log["clicked"].sum() + 1) / (len(log) + 1)

    def lift(rows):
        return (log["clicked"][rows].sum() / rate + 20) / (rows.sum() + 20)

    for user, video in [(0, 0), (17, 42), (99, 99)]:
        own, other = world.platform.videos.loc[video], world.platform.users.loc[user]
        wanted = (
            rate
            * lift((log["user_id"] == user) & (log["topic"] == own["topic"]))
            * lift((log["speaks"] == other["language"]) & (log["spoken"] == own["language"]))
            * lift(log["video_id"] == video)
        )
        assert users[user] @ videos[video] == pytest.approx(np.log(wanted), rel=1e-4)


def test_without_any_event_all_lifts_are_one(world):
    users, videos = vectors(world.platform, world.log[:0], 10)
    np.testing.assert_allclose(users @ videos.T, 0, atol=1e-6)


@given(st.lists(st.sampled_from([*"abz"]), min_size=1, max_size=20))
def test_a_text_is_the_number_of_its_level_and_an_unknown_one_is_missing(texts):
    table = pd.DataFrame({"letter": texts, "n": np.arange(len(texts))})
    found = encode(table, {"letter": [*"ab"], "elsewhere": ["x"]})
    assert found.dtype == np.float32 and found.shape == (len(texts), 2)
    wanted = [{"a": 0.0, "b": 1.0}.get(text, np.nan) for text in texts]
    np.testing.assert_array_equal(found[:, 0], np.array(wanted, "float32"))
    np.testing.assert_array_equal(found[:, 1], np.arange(len(texts)))


def test_the_same_log_gives_the_same_release(world):
    again = build_release(world.platform, world.log, days=2, trees=20, candidates=100)
    ids = world.release.search(5)
    table = world.release.table(5, world.release.profiles[5], ids, world.release.as_of)
    np.testing.assert_array_equal(again.search(5), ids)
    np.testing.assert_array_equal(again.score(table), world.release.score(table))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"days": 5}, "days, of a log of 4, must be a whole number from 1 to 4"),
        ({"days": 0}, "days, of a log of 4,"),
        ({"trees": 0}, "trees must be a whole number from 1"),
        ({"candidates": 10_000}, "candidates must be a whole number from 1 to"),
        ({"epsilon": 1.5}, "epsilon must be a number from 0 to 1"),
        ({"version": "../up"}, "version must be a short text"),
        ({"version": ""}, "version must be a short text"),
        ({"version": 7}, "version must be a short text"),
    ],
    ids=str,
)
def test_a_release_that_makes_no_sense_is_refused(world, changes, message):
    with pytest.raises(ValueError, match=message):
        build_release(world.platform, world.log, **{"days": 1, "trees": 1, "candidates": 50} | changes)


def test_a_release_of_an_empty_log_is_refused(world):
    with pytest.raises(ValueError, match="The log has no rows"):
        build_release(world.platform, world.log[:0])


# ---------------------------------------------------------------- the store


def test_a_store_is_filled_once(world, directory):
    with pytest.raises(ValueError, match=r"store\.sqlite exists"):
        fill_store(world.platform, world.log, directory)


def test_a_store_that_is_missing_is_not_made_by_opening_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="fill_store"):
        open_store(tmp_path)
    assert not (tmp_path / STORE).exists()


# ---------------------------------------------------------------- publish and roll back


def test_what_is_loaded_answers_as_what_was_published(world, directory):
    loaded = load_release(directory)
    assert [getattr(loaded, name) for name in SETTINGS] == [getattr(world.release, name) for name in SETTINGS]
    assert loaded.as_of == world.release.as_of
    for user in (0, 77, 149):
        ids = world.release.search(user)
        np.testing.assert_array_equal(loaded.search(user), ids)
        tables = [r.table(user, r.profiles[user], ids, r.as_of) for r in (loaded, world.release)]
        np.testing.assert_array_equal(*tables)
        np.testing.assert_array_equal(loaded.score(tables[0]), world.release.score(tables[0]))


def test_publish_and_roll_back_move_one_pointer(tmp_path):
    assert history(tmp_path) == []
    for number in (1, 2, 3):
        publish(version(number), tmp_path)
        assert current(tmp_path) == load_release(tmp_path).version == str(number)
    assert rollback(tmp_path) == current(tmp_path) == "2"
    assert rollback(tmp_path) == "1"
    with pytest.raises(ReleaseError, match="nothing to go back to"):
        rollback(tmp_path)
    activate("3", tmp_path)
    activate("3", tmp_path)
    assert history(tmp_path) == ["1", "3"]
    assert rollback(tmp_path) == "1"
    assert load_release(tmp_path, "2").version == "2", "what was rolled back stays in its folder"


def test_a_version_does_not_change_once_it_exists(tmp_path):
    publish(version(1), tmp_path)
    with pytest.raises(ValueError, match="Release '1' exists, and a release does not change"):
        publish(version(1), tmp_path)


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(ReleaseError, match="holds no release"):
        current(tmp_path)
    with pytest.raises(ReleaseError, match="holds no release"):
        load_release(tmp_path)
    with pytest.raises(ReleaseError, match="holds no saved release"):
        activate("9", tmp_path)
    publish(version(1), tmp_path)
    with pytest.raises(ReleaseError, match="holds no saved release"):
        load_release(tmp_path, "9")


@pytest.mark.parametrize("part", ["release-*", "index/index-*", "ranker/model-*", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_part_is_refused(tmp_path, part, damage):
    publish(version(1), tmp_path)
    (file,) = (tmp_path / "releases" / "1").glob(part)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ReleaseError):
        load_release(tmp_path)


@pytest.mark.parametrize("part", ["index", "ranker"])
def test_parts_of_another_version_are_refused(tmp_path, part):
    for number in (1, 2):
        publish(version(number), tmp_path)
    releases = tmp_path / "releases"
    (releases / "1" / part).rename(tmp_path / "aside")
    (releases / "2" / part).rename(releases / "1" / part)
    with pytest.raises(ReleaseError, match=r"Release .1. cannot be served: .*.2."):
        load_release(tmp_path, "1")


def test_whoever_dies_while_publishing_leaves_the_old_release(tmp_path, monkeypatch):
    """The writer dies at every step, one after the other; each time the old release serves on."""
    publish(version(0), tmp_path)
    move, died = os.replace, 1

    def publish_up_to(step):
        moves = iter(range(step - 1))

        def mortal(source, target):
            next(moves)  # StopIteration: dead
            move(source, target)

        monkeypatch.setattr(files.os, "replace", mortal)
        try:
            publish(version(step), tmp_path)
        except StopIteration:
            return False
        finally:
            monkeypatch.undo()
        return True

    while not publish_up_to(died):
        assert current(tmp_path) in ("0", str(died))
        assert load_release(tmp_path).version == current(tmp_path)
        died += 1
    assert died >= 9, "index, ranker, tables and pointer, each with its manifest"
    assert current(tmp_path) == str(died)
    publish(version(3), tmp_path)
    assert load_release(tmp_path).version == "3", "the leftovers of a dead writer are replaced"


# ---------------------------------------------------------------- the kill switch


def test_the_switch_is_off_until_it_is_on(tmp_path):
    publish(version(1), tmp_path)
    found = [is_popular_only(tmp_path)]
    for on in (True, True, False, False, True):
        popular_only(on, tmp_path)
        found.append(is_popular_only(tmp_path))
    assert found == [False, True, True, False, False, True]


def test_no_release_and_no_damage_moves_the_switch(tmp_path):
    publish(version(1), tmp_path)
    popular_only(True, tmp_path)
    publish(version(2), tmp_path)
    rollback(tmp_path)
    (tmp_path / SWITCH).write_bytes(b"\x00 whatever \xff")
    assert is_popular_only(tmp_path)
    (tmp_path / "manifest.json").write_bytes(b"{")
    popular_only(False, tmp_path)
    assert not is_popular_only(tmp_path), "it works while the pointer is damaged"


def test_a_switch_that_would_do_nothing_is_refused(tmp_path):
    with pytest.raises(ReleaseError, match="holds no release: check the path"):
        popular_only(True, tmp_path)
    with pytest.raises(ReleaseError, match="holds no release: check the path"):
        popular_only(True, tmp_path / "nowhere")
    publish(version(1), tmp_path)
    for wrong in ("off", 1, None):
        with pytest.raises(ValueError, match="on must be True or False"):
            popular_only(wrong, tmp_path)
    assert not is_popular_only(tmp_path)


def test_a_switch_that_cannot_be_read_is_neither_on_nor_off(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError):
        is_popular_only(tmp_path / "file")


PUBLISHER = """
import sys
from dataclasses import replace
from helpers.releases import load_release, publish
release = load_release(sys.argv[1])
print("ready", flush=True)
for number in range(1, 1000):
    publish(replace(release, version=f"v{number}"), sys.argv[1])
"""


@posix_only
def test_a_killed_publisher_leaves_a_release_that_loads(tmp_path):
    publish(version(1), tmp_path)
    command = [sys.executable, "-c", PUBLISHER, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as publisher:
        assert publisher.stdout.readline() == b"ready\n"
        while len(history(tmp_path)) < 3:
            load_release(tmp_path)  # whenever it is looked at, the current release is whole
        os.kill(publisher.pid, signal.SIGKILL)
    assert load_release(tmp_path).version == current(tmp_path)
    publish(version("next"), tmp_path)
    assert load_release(tmp_path).version == "next"
