"""The path of a request: each stage alone, each rung of the ladder, and propensities that hold."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from helpers.features import CTR
from helpers.releases import COLUMNS, SIMILARITY, fill_store, open_store
from helpers.request_path import (
    CREATOR_CAP,
    POLICIES,
    POOL,
    STAGES,
    Faults,
    RequestPath,
    choose,
    popular_answer,
)
from tests.small_service import deploy, small

PATIENT = dict.fromkeys(STAGES, 30_000.0)
HASTY = PATIENT | {"ranker": 1.0}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return deploy(tmp_path_factory.mktemp("service"))


@pytest.fixture
def path(directory):
    path = RequestPath(directory, PATIENT)
    yield path
    path.close()


@pytest.fixture(scope="module")
def release():
    return replace(small().release, epsilon=0.0)


def ask(path, release, user=7, k=10, request=0):
    return path.recommend(release, request, user, k, release.as_of)


# ---------------------------------------------------------------- the whole path


def test_the_best_candidates_by_score_are_shown_with_at_most_two_of_a_creator(path, release):
    answer = ask(path, release)
    assert (answer.policy, answer.profile, answer.version) == ("two-stage", "live", "1")
    ids = release.search(7)
    scores = dict(
        zip(ids, release.score(release.table(7, release.profiles[7], ids, release.as_of)), strict=True)
    )
    shown, taken = [], {}
    for video in sorted(ids, key=lambda video: -scores[video]):
        creator = release.creators[video]
        if taken.get(creator, 0) < CREATOR_CAP:
            taken[creator] = taken.get(creator, 0) + 1
            shown.append(video)
    assert list(answer.ids) == shown[:10]
    np.testing.assert_array_equal(answer.propensities, 1)


def test_what_is_logged_is_what_the_ranker_read(path, release):
    answer = ask(path, release)
    wanted = release.table(7, release.profiles[7], answer.ids, release.as_of)
    np.testing.assert_array_equal(answer.table, wanted)
    features = answer.features()
    assert (*features, "position") == COLUMNS, "the position in the log is where the video was shown"
    np.testing.assert_array_equal(np.array([*features.values()], "float32").T, wanted[:, :-1])


def test_a_missing_feature_is_none_in_the_log(path, release):
    assert np.isnan(release.profiles).any()
    user = int(np.argwhere(np.isnan(release.profiles))[0, 0])
    values = [x for column in ask(path, release, user).features().values() for x in column]
    assert None in values and not any(x != x for x in values)


def test_every_stage_is_timed(path, release):
    times = ask(path, release).milliseconds
    assert tuple(times) == (*STAGES, "policy") and min(times.values()) > 0


@pytest.mark.parametrize("k", [1, POOL])
def test_k_videos_come_back(path, release, k):
    ids = ask(path, release, k=k).ids
    assert len(ids) == len(set(ids)) == k


def test_a_click_changes_the_next_profile(tmp_path, release):
    fill_store(small().platform, small().log, tmp_path)
    path = RequestPath(tmp_path, PATIENT)
    at, column = release.as_of, COLUMNS.index("clicks_5min")
    assert (ask(path, release).table[:, column] == 0).all()
    event = small().log.tail(1).assign(user_id=7, request_id=10**12, timestamp=at, clicked=True)
    with open_store(tmp_path) as store:
        store.update(event)
    later = path.recommend(release, 1, 7, 10, at + 1 * at.resolution)
    assert (later.table[:, column] == 1).all()
    path.close()


# ---------------------------------------------------------------- the ladder


def test_without_a_store_the_profile_is_that_of_the_night(path, release):
    path.faults = Faults(down=("store",))
    answer = ask(path, release)
    assert (answer.policy, answer.profile) == ("two-stage", "batch")
    np.testing.assert_array_equal(
        answer.table, release.table(7, release.profiles[7], answer.ids, release.as_of)
    )
    path.faults = Faults()
    assert ask(path, release).profile == "live"


def test_without_a_store_file_the_service_still_answers(tmp_path, release):
    path = RequestPath(tmp_path, PATIENT)
    assert ask(path, release).profile == "batch"
    fill_store(small().platform, small().log, tmp_path)
    assert ask(path, release).profile == "live"
    path.close()


def test_a_late_ranker_leaves_the_order_of_the_retrieval(directory, release):
    path = RequestPath(directory, HASTY)
    path.faults = Faults(slow_ms={"ranker": 200})
    answer = ask(path, release)
    assert answer.policy == "retrieval order" and path.guards["ranker"].outcomes["late"] == 1
    similarity = answer.table[:, SIMILARITY]
    np.testing.assert_array_equal(similarity, np.sort(similarity)[::-1])
    assert answer.ids[0] == release.search(7)[0]
    path.close()


def test_without_an_index_the_popular_videos_are_ranked(path, release):
    path.faults = Faults(down=("index",))
    answer = ask(path, release)
    assert answer.policy == "ranked popular" and set(answer.ids) <= set(release.popular)
    path.faults = Faults(down=("index", "ranker"))
    assert ask(path, release).policy == "popular"


def test_with_everything_down_there_is_an_answer(path, release):
    path.faults = Faults(down=STAGES)
    answer = ask(path, release)
    assert (answer.policy, answer.profile, len(answer.ids)) == ("popular", "batch", 10)


def test_every_combination_of_rungs_has_its_own_name():
    assert len(set(POLICIES.values())) == len(POLICIES) == 4


def test_popular_is_the_smoothed_click_rate():
    log, release = small().log, small().release
    clicks, shown = (
        np.bincount(log["video_id"], w, minlength=300) for w in (log["clicked"], np.ones(len(log)))
    )
    rate = (clicks + CTR["strength"] * log["clicked"].mean()) / (shown + CTR["strength"])
    there = rate[: len(release.items)]
    assert there[release.popular[:20]].min() > np.sort(there)[-21] - 1e-3


def test_the_first_calls_may_be_slow_and_then_the_deadlines_hold(directory, release):
    path = RequestPath(directory, PATIENT | {"store": 0.001})
    path.warm_up(release)
    assert path.guards["store"].outcomes["answered"] == 1
    assert [guard.timeout_ms for guard in path.guards.values()] == [0.001, 30_000.0, 30_000.0]
    path.close()


def test_a_request_ends_with_the_release_that_it_began_with(path, release):
    other = replace(release, version="2")
    waiting, goes_on = threading.Event(), threading.Event()
    score = release.score

    class Slow:
        """A release whose ranker waits."""

        def __getattr__(self, name):
            return getattr(release, name)

        def score(self, table):
            waiting.set()
            goes_on.wait(60)
            return score(table)

    answers = []
    thread = threading.Thread(target=lambda: answers.append(ask(path, Slow())))
    thread.start()
    assert waiting.wait(60)
    goes_on.set()
    thread.join()
    assert [answers[0].version, ask(path, other).version] == ["1", "2"]


# ---------------------------------------------------------------- the policy


def test_the_propensities_are_how_often_a_video_has_its_place():
    release = replace(small().release, epsilon=0.5)
    ids, requests = release.popular[:6], 20_000
    scores = np.linspace(1, 0, 6)
    assert len(set(release.creators[ids])) == 6, "no cap in the way"
    times, said = np.zeros((6, 6)), {}
    for request in range(requests):
        rows, propensities = choose(release, request, ids, scores, 6)
        times[rows, np.arange(6)] += 1
        for place, (row, propensity) in enumerate(zip(rows, propensities, strict=True)):
            said.setdefault((row, place), set()).add(round(float(propensity), 9))
    for (row, place), values in said.items():
        (wanted,) = values
        error = np.sqrt(wanted * (1 - wanted) / requests)
        assert times[row, place] / requests == pytest.approx(wanted, abs=5 * error)
        assert wanted == pytest.approx(0.5 / 6 + 0.5 * (row == place))


def test_chance_keeps_the_cap_of_a_creator():
    release = replace(small().release, epsilon=1.0, creators=np.arange(len(small().release.items)) // 5)
    ids = np.arange(60)
    for request in range(50):
        rows, propensities = choose(release, request, ids, np.zeros(60), 10)
        assert np.bincount(release.creators[ids[rows]]).max() <= CREATOR_CAP
        np.testing.assert_allclose(propensities, 1 / (12 * CREATOR_CAP))


def test_the_same_request_is_answered_the_same_way_again(path):
    release = replace(small().release, epsilon=1.0)
    first, again, other = (ask(path, release, request=request) for request in (5, 5, 6))
    np.testing.assert_array_equal(first.ids, again.ids)
    assert list(first.ids) != list(other.ids)


# ---------------------------------------------------------------- the kill switch


def test_the_popular_answer_is_the_popular_list_in_its_order_with_at_most_two_of_a_creator():
    release = replace(small().release, epsilon=1.0, index=None, ranker=None, profiles=None)
    answer = popular_answer(release, POOL)
    shown = []
    for video in release.popular:
        if sum(release.creators[video] == release.creators[other] for other in shown) < CREATOR_CAP:
            shown.append(video)
    assert list(answer.ids) == shown[:POOL] and len(shown) < len(release.popular)
    assert list(popular_answer(release, 3).ids) == shown[:3]
    np.testing.assert_array_equal(answer.propensities, 1)
    assert (answer.policy, answer.profile, answer.version) == ("popular", "none", release.version)
    assert list(answer.milliseconds) == ["policy"]


def test_the_popular_answer_logs_that_nothing_was_read():
    features = popular_answer(small().release, 4).features()
    assert {*features} == {*COLUMNS} - {"position"}
    assert all(values == [None] * 4 for values in features.values())
