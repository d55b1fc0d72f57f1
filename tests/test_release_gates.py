"""Release gates: the good candidate passes, each defect is caught by its gate; and what a shadow sees."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from helpers import release_gates
from helpers.app import record
from helpers.metrics import Interval
from helpers.release_gates import (
    AUC_MARGIN,
    CALIBRATION,
    SLOWER,
    calibration_gate,
    candidates,
    data_gate,
    gates,
    judged_rows,
    latency_gate,
    metric_gate,
    milliseconds,
    offline_scores,
    parity_gate,
    shadow,
    slice_gate,
)
from helpers.releases import COLUMNS, LIVE, NIGHTLY, Release, build_release
from helpers.request_log import ServedLog, read_served
from helpers.request_path import STAGES, RequestPath
from helpers.simulator import Platform, random_policy
from tests.small_service import deploy, small

NAMES = ["data", "parity", "metric", "slice", "calibration", "latency"]


class World:
    """A platform that is large enough to judge on, its releases, and the rows of the day after."""

    def __init__(self):
        platform = Platform(n_users=1_500, n_videos=2_000)
        log = platform.simulate(random_policy(), 7)
        end = log["timestamp"].max().floor("D")
        past = log[log["timestamp"] < end]
        before = past[past["timestamp"] < end - pd.Timedelta("1D")]
        self.older = build_release(platform, before, "older", days=1, trees=1)
        self.current = build_release(platform, past, "current", days=3, trees=60)
        self.candidates = candidates(platform, past, days=5, trees=60)
        self.rows = judged_rows(platform, log, end)


@pytest.fixture(scope="module")
def world():
    return World()


class Clock:
    """A clock that goes on by a microsecond for each row that a release scores."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture(scope="module")
def clock():
    clock, score = Clock(), Release.score

    def counted(release, table):
        clock.now += len(table) / 1e6
        return score(release, table)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Release, "score", counted)
        yield clock


@pytest.fixture(scope="module")
def verdicts(world, clock):
    """The verdicts on each candidate, by its name."""
    return {
        name: gates(release, world.current, world.rows, clock) for name, release in world.candidates.items()
    }


# ---------------------------------------------------------------- all together


def test_the_good_candidate_passes_every_gate(verdicts):
    table = verdicts["good"]
    assert list(table.index) == NAMES and list(table) == ["passed", "candidate", "current", "reason"]
    assert table["passed"].all(), table[~table["passed"]]


@pytest.mark.parametrize("defect", NAMES)
def test_each_defect_is_caught_by_its_gate(verdicts, defect):
    assert not verdicts[defect].loc[defect, "passed"], verdicts[defect].loc[defect, "reason"]


@pytest.mark.parametrize("defect", ["parity", "slice", "calibration", "latency"])
def test_no_other_gate_would_have_caught_it(verdicts, defect):
    assert verdicts[defect].drop(index=defect)["passed"].all(), verdicts[defect]


def test_the_good_candidate_is_not_the_current_release(world, verdicts):
    """Gates that compare a release with itself pass whatever they do."""
    new, old = (offline_scores(r, world.rows) for r in (world.candidates["good"], world.current))
    assert (new != old).mean() > 0.9
    for gate in ("metric", "slice", "calibration"):
        assert verdicts["good"].loc[gate, "candidate"] != verdicts["good"].loc[gate, "current"]


def test_by_default_too_it_learns_from_other_days_and_passes():
    """On the platform of the lesson, where the log is random and the release is built with the defaults."""
    platform = Platform(n_users=2_000, n_videos=5_000, days=28, n_candidates=50, seed=2)
    log, next_day = (platform.simulate(random_policy(), days) for days in (8, range(8, 9)))
    current = build_release(platform, log)
    rows = judged_rows(platform, pd.concat([log, next_day], ignore_index=True), current.as_of)
    good = candidates(platform, log)["good"]
    assert (offline_scores(good, rows) != offline_scores(current, rows)).mean() > 0.9
    table = gates(good, current, rows)
    assert table["passed"].all(), table[~table["passed"]]


def test_candidates_of_a_short_log_are_refused():
    with pytest.raises(ValueError, match="days, of a log of 4, must be a whole number from 1 to 4"):
        candidates(small().platform, small().log)


def test_the_reason_names_what_is_wrong(verdicts):
    reason = {name: table["reason"][name] for name, table in verdicts.items() if name != "good"}
    assert "watch_share" in reason["data"]
    assert reason["parity"].startswith("creator_ctr differs in")
    assert reason["slice"].startswith(("user_country = JP", "user_language = ja"))


def test_every_candidate_is_the_good_one_with_one_change(world):
    assert list(world.candidates) == ["good", *NAMES]
    assert all(release.version == name for name, release in world.candidates.items())
    good = world.candidates["good"]
    for name in ("metric", "slice", "calibration"):
        np.testing.assert_array_equal(world.candidates[name].items, good.items)
    for name in ("data", "parity", "latency"):
        assert world.candidates[name].ranker is good.ranker
    wrong = ~np.isclose(world.candidates["parity"].items, good.items, equal_nan=True).all(axis=0)
    assert [f.name for f, is_wrong in zip(NIGHTLY, wrong, strict=True) if is_wrong] == ["creator_ctr"]


def test_rows_that_a_release_may_have_learned_from_are_refused(world):
    late = replace(world.candidates["good"], as_of=world.rows["timestamp"].max())
    with pytest.raises(ValueError, match="judge it on later ones"):
        gates(late, world.current, world.rows)


def test_offline_scores_are_those_of_the_service(world):
    release, rows = world.candidates["good"], world.rows.head(40)
    scores = offline_scores(release, rows)
    assert scores.shape == (40,) and ((scores > 0) & (scores < 1)).all()
    with pytest.raises(KeyError):
        offline_scores(release, rows.drop(columns="user_ctr"))


# ---------------------------------------------------------------- one by one


def judged(n_users=300, each=20, seed=0):
    """Rows whose true probabilities are known."""
    rng, n = np.random.default_rng(seed), n_users * each
    truth = rng.beta(2, 12, n)
    rows = pd.DataFrame({"user_id": np.repeat(np.arange(n_users), each), "clicked": rng.random(n) < truth})
    for name in release_gates.SLICE_COLUMNS:
        rows[name] = pd.Categorical(np.where(rows["user_id"] % 5 == 0, "few", "many"))
    return rows, truth


def test_the_metric_is_within_a_user():
    rows, truth = judged()
    by_user = np.random.default_rng(1).normal(size=300)[rows["user_id"]]
    shifted = 1 / (1 + np.exp(-np.log(truth / (1 - truth)) - by_user))
    verdict = metric_gate(shifted, truth, rows)
    assert verdict.passed and verdict.candidate == verdict.current
    noise = np.random.default_rng(2).random(len(truth))
    verdict = metric_gate(noise, truth, rows)
    assert not verdict.passed and verdict.candidate == pytest.approx(0.5, abs=0.05)
    assert metric_gate(truth, noise, rows).passed, "better is no harm"


@pytest.mark.parametrize(
    ("low", "high", "passes"),
    [
        (-0.9 * AUC_MARGIN, -0.1 * AUC_MARGIN, True),  # surely worse, and surely by less than the margin
        (-1.1 * AUC_MARGIN, 10 * AUC_MARGIN, False),  # better in the middle, and harm is not excluded
        (-AUC_MARGIN, AUC_MARGIN, True),
        (-3 * AUC_MARGIN, -2 * AUC_MARGIN, False),
    ],
)
def test_the_metric_gate_demands_that_harm_beyond_the_margin_is_excluded(low, high, passes, monkeypatch):
    rows, truth = judged(n_users=20)
    monkeypatch.setattr(release_gates, "mean_interval", lambda values: Interval((low + high) / 2, low, high))
    assert metric_gate(truth, truth, rows).passed == passes


def test_few_users_stop_a_candidate_whose_harm_is_not_excluded():
    noisy = {}
    for n_users in (8, 2_000):
        rows, truth = judged(n_users)
        shaken = truth * np.random.default_rng(1).uniform(0.85, 1.15, len(truth))
        noisy[n_users] = metric_gate(shaken, truth, rows).passed
    assert noisy == {8: False, 2_000: True}


def test_a_slice_that_is_harmed_fails_even_if_the_rest_gains():
    rows, truth = judged()
    few = (rows["user_id"] % 5 == 0).to_numpy()
    harmed = np.where(few, truth / 4, truth)
    verdict = slice_gate(harmed, truth, rows)
    assert (
        not verdict.passed and "= few: log-loss +" in verdict.reason and verdict.candidate > verdict.current
    )
    assert slice_gate(truth, harmed, rows).passed
    same = slice_gate(truth, truth, rows)
    assert same.passed and same.candidate == same.current


def test_a_wrong_total_is_left_to_the_gate_of_the_total():
    rows, truth = judged()
    odds = 3 * truth / (1 - truth)
    everywhere = odds / (1 + odds)
    assert slice_gate(everywhere, truth, rows).passed
    assert not calibration_gate(everywhere, truth, rows).passed
    verdict = calibration_gate(truth, everywhere, rows)
    assert verdict.passed and CALIBRATION[0] < verdict.candidate < CALIBRATION[1] < verdict.current
    assert not calibration_gate(truth / 2, truth, rows).passed


def test_a_total_that_chance_may_explain_passes():
    rows, truth = judged(n_users=5)
    rows["clicked"] = np.arange(len(rows)) % 10 == 0
    assert calibration_gate(np.full(len(rows), 0.13), truth, rows).passed


def test_a_slower_release_fails():
    assert latency_gate(np.full(9, SLOWER), np.ones(9)).passed
    assert not latency_gate(np.full(9, SLOWER + 0.01), np.ones(9)).passed
    assert latency_gate(np.array([1.0, 1, 1, 1, 90]), np.ones(5)).passed, "one slow request is the machine"


def test_the_ratio_is_that_of_each_request():
    old = np.array([1.0, 1, 1, 9, 9])
    assert latency_gate(1.4 * old, old).passed and not latency_gate(1.6 * old, old).passed
    new = np.array([1.0, 1, 9, 9, 9])  # its median is 9 times as high; of three in five it is the same
    verdict = latency_gate(new, old)
    assert verdict[:3] == (True, 9, 1) and verdict.reason.startswith("1.00 times as long")


def test_the_milliseconds_are_those_of_searching_and_scoring(world, clock):
    release, slow = world.candidates["good"], world.candidates["latency"]
    times = milliseconds(slow, release, world.rows, clock, requests=7)
    np.testing.assert_allclose(times, np.outer([slow.candidates, release.candidates], np.ones(7)) / 1e3)
    with pytest.raises(ValueError, match="requests must be a whole number from 1"):
        milliseconds(release, release, world.rows, clock, requests=0)


@pytest.mark.parametrize("quiet_first", [True, False])
def test_a_machine_that_becomes_busy_stops_no_sound_release_and_passes_no_slow_one(
    world, clock, quiet_first, monkeypatch
):
    """From the middle of the measurement on, everything takes five times as long, or no longer does."""
    calls, score = iter(range(10**6)), Release.score

    def loaded(release, table):
        busy = (next(calls) >= 22) == quiet_first  # two warm-ups, then 20 requests to each of two
        clock.now += 4 * busy * len(table) / 1e6
        return score(release, table)

    monkeypatch.setattr(Release, "score", loaded)
    release, slow = world.candidates["good"], world.candidates["latency"]
    assert latency_gate(*milliseconds(release, world.current, world.rows, clock, requests=20)).passed
    calls = iter(range(10**6))
    assert not latency_gate(*milliseconds(slow, world.current, world.rows, clock, requests=20)).passed


def test_the_two_releases_take_turns_in_who_begins(world, monkeypatch):
    order = []
    monkeypatch.setattr(
        Release, "search", lambda release, user: order.append(release.version) or np.arange(3)
    )
    milliseconds(world.candidates["good"], world.current, world.rows, requests=3)
    assert order[2:] == ["good", "current", "current", "good", "good", "current"]


def altered(release, name, change):
    items = release.items.copy()
    column = [f.name for f in NIGHTLY].index(name)
    items[:, column] = change(items[:, column])
    return replace(release, items=items)


@pytest.mark.parametrize(
    "change",
    [lambda x: x * 1000, lambda x: x / 1000, lambda x: x * 0, lambda x: x * np.nan],
    ids=["milliseconds", "kiloseconds", "zeros", "missing"],
)
def test_a_column_that_lost_its_values_or_its_scale_fails(change):
    release = small().release
    bad = altered(release, "video_watch_share", change)
    verdict = data_gate(bad, release)
    assert not verdict.passed and verdict.reason.startswith("video_watch_share") and verdict.candidate > 1
    assert not data_gate(altered(release, "video_duration_seconds", change), release).passed


def test_some_growth_and_what_is_as_empty_as_before_pass():
    release = small().release
    assert data_gate(release, release)[:3] == (True, 0.0, 0.0)
    assert data_gate(altered(release, "video_impressions", lambda x: 2 * x), release).passed
    empty = altered(release, "video_watch_share", lambda x: x * np.nan)
    assert data_gate(empty, empty).passed
    assert data_gate(release, empty).passed is False, "a column that comes back from nothing has a new scale"


def test_parity_holds_for_a_release_of_the_night_before(world):
    verdict = parity_gate(world.candidates["good"], world.older, world.rows)
    assert verdict.passed and verdict.candidate == 0
    older = parity_gate(world.older, world.candidates["good"], world.rows)
    assert not older.passed and older.candidate > 0.1, "features of another night are others"


# ---------------------------------------------------------------- shadow


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A directory and what was served from it."""
    directory = deploy(tmp_path_factory.mktemp("service"))
    release, path = small().release, RequestPath(directory, dict.fromkeys(STAGES, 30_000.0))
    with ServedLog(directory / "served.jsonl") as log:
        for number in range(30):
            at = release.as_of + pd.Timedelta(seconds=number)
            log.append(record(path.recommend(release, number, 5 * number, 8, at), number, 5 * number, at))
    path.close()
    return directory, read_served(directory / "served.jsonl")


def test_a_shadow_of_itself_answers_the_same(served):
    directory, log = served
    found = shadow(directory, small().release, replace(small().release, version="2"), log)
    assert len(found.requests) == 30 and (found.requests["overlap"] == 1).all()
    assert found.requests["same_first"].all()
    np.testing.assert_array_equal(found.requests["score"], found.requests["shadow_score"])
    assert (found.features["different"] == 0).all() and set(found.features.index) == set(COLUMNS)


def test_a_shadow_finds_the_feature_that_is_wrong(served):
    directory, log = served
    skewed = altered(small().release, "video_duration_seconds", lambda x: x / 60)
    found = shadow(directory, small().release, skewed, log)
    assert list(found.features.index[found.features["different"] > 0]) == ["video_duration_seconds"]
    worst = found.features.iloc[0]
    assert worst["different"] == 1 and worst["mean"] == pytest.approx(60 * worst["shadow_mean"], rel=1e-3)


def test_a_shadow_shows_how_its_lists_differ(served):
    directory, log = served
    release = small().release
    other = replace(release, user_vectors=-release.user_vectors)
    found = shadow(directory, release, other, log)
    assert found.requests["overlap"].mean() < 0.5 and not found.requests["same_first"].all()
    assert (found.features.loc[["similarity"], "different"] > 0.9).all()
    assert (found.features.loc[[f.name for f in LIVE], "different"] == 0).all()


def test_a_shadow_needs_requests(served):
    directory, log = served
    with pytest.raises(ValueError, match="Nothing was served yet"):
        shadow(directory, small().release, small().release, log[:0])
