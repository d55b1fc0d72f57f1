"""The log reproduces its own truth, and each shift and fault changes what it says and nothing else."""

import tracemalloc

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from helpers import simulator, world
from helpers.shifts import FAULTS, SHIFTS, Shift, inject
from helpers.simulator import (
    IMPRESSION_LOG,
    Platform,
    coins,
    popular_policy,
    random_policy,
    score_policy,
    uniform,
)

SMALL = {"n_users": 400, "n_videos": 300, "n_topics": 4, "n_creators": 20, "days": 9, "n_candidates": 20}
SHIFT_DAY = 1
CONTEXT = ["timestamp", "request_id", "user_id", "video_id", "position", "propensity"]


@pytest.fixture(scope="module")
def crowd():
    return Platform(n_users=60_000)


@pytest.fixture(scope="module")
def log(crowd):
    return crowd.simulate(random_policy(), 1)


@pytest.fixture(scope="module")
def small():
    return Platform(**SMALL)


def day_of(platform, day, policy=None):
    return platform.simulate(policy or random_policy(), range(day, day + 1))


def asked(platform, log, day):
    """The user, video, day and mood of each impression of a day on which nobody remembers regret."""
    mood = platform.requests(day).set_index("request_id")["mood"][log["request_id"]]
    return log["user_id"].to_numpy(), log["video_id"].to_numpy(), day, mood.to_numpy()


def examined(platform, log):
    return platform.examination_curve[log["position"] - 1].astype(float)


def deviation(observed, expected, variance):
    """How many standard errors the observed sum lies from the expected one."""
    return (np.sum(observed) - np.sum(expected)) / np.sqrt(np.sum(variance))


def worst_deviation(observed, probability, cells):
    """The largest `deviation` among the cells, of 0 and 1 with these probabilities."""
    frame = pd.DataFrame({"o": observed, "p": probability, "v": probability * (1 - probability)})
    sums = frame.groupby(cells, observed=True).sum()
    return ((sums["o"] - sums["p"]) / np.sqrt(sums["v"])).abs().max()


def same_distribution(first, second):
    """The p-value of a chi-square test that two columns of categories have one distribution."""
    values = pd.concat([pd.Series(first), pd.Series(second)], ignore_index=True)
    which = np.repeat([0, 1], [len(first), len(second)])
    return stats.chi2_contingency(pd.crosstab(values, which))[1]


def independent(first, second):
    """The p-value of a chi-square test that two columns of one table are independent."""
    return stats.chi2_contingency(pd.crosstab(np.asarray(first), np.asarray(second)))[1]


# ---------------------------------------------------------------- the log against its truth


def test_clicks_follow_the_true_probability_at_every_position(crowd, log):
    truth = crowd.true_click_probability(*asked(crowd, log, 0))
    expected, decile = truth * examined(crowd, log), pd.qcut(truth, 10, labels=False)
    assert worst_deviation(log["clicked"], expected, [log["position"].to_numpy(), decile]) < 4.5
    for cells in (log["position"], decile):
        assert worst_deviation(log["clicked"], expected, cells) < 4
        assert worst_deviation(log["clicked"], 0.95 * expected, cells) > 4  # it can tell


def test_the_examination_curve_is_recovered_from_the_clicks(crowd, log):
    rate = log.groupby("position")["clicked"].agg(["mean", "sem"])
    ratio = rate["mean"] / rate["mean"][1]
    error = ratio * np.hypot(rate["sem"] / rate["mean"], rate["sem"][1] / rate["mean"][1])
    assert (np.abs(ratio - crowd.examination_curve)[1:] < 4 * error[1:]).all()
    assert crowd.examination_curve[0] == 1


@pytest.mark.parametrize(("column", "objective"), [("watch_seconds", "watch"), ("long", "completion")])
def test_what_is_watched_follows_the_truth(crowd, log, column, objective):
    seconds = crowd.videos["duration_seconds"].to_numpy()[log["video_id"]]
    observed = log.assign(long=log["clicked"] & (log["watch_seconds"] >= seconds / 2))[column]
    expected = crowd.true_gain(objective, *asked(crowd, log, 0)) * examined(crowd, log)
    assert abs(deviation(observed, expected, np.full(len(log), np.var(observed - expected)))) < 4


@pytest.mark.parametrize(
    ("column", "objective", "share"),
    [("liked", "satisfaction", world.LIKE), ("dismissed", "regret", world.DISMISS)],
)
def test_likes_follow_satisfaction_and_dismissals_follow_regret(crowd, log, column, objective, share):
    expected = share * crowd.true_gain(objective, *asked(crowd, log, 0)) * examined(crowd, log)
    satisfaction = crowd.true_satisfaction(*asked(crowd, log, 0))
    for cells in (pd.qcut(satisfaction, 10, labels=False), np.zeros(len(log))):
        assert worst_deviation(log[column], expected, cells) < 4


@given(st.integers(0, 399), st.integers(0, 299), st.integers(0, 8), st.integers(0, 3))
@settings(max_examples=60)
def test_the_truth_is_the_documented_formula(user, video, day, mood):
    who, what = FORMULA.users.iloc[user], FORMULA.videos.iloc[video]
    affinity = FORMULA.taste(user, what["topic"], day) + world.MOOD * (what["topic"] == mood)
    affinity -= world.FOREIGN * (who["language"] != what["language"])
    age_days = max(0, (world.START + pd.Timedelta(days=day) - what["uploaded_at"]) / pd.Timedelta(days=1))
    click = world.CLICK + affinity + world.CLICKBAIT * what["clickbait"] - world.FADE * np.log(1 + age_days)
    worth = world.QUALITY * (what["quality"] - 0.5) - world.DISAPPOINTMENT * what["clickbait"]
    asked = (user, video, day, mood)
    assert FORMULA.affinity(*asked) == pytest.approx(affinity, abs=1e-5)
    assert FORMULA.true_click_probability(*asked) == pytest.approx(1 / (1 + np.exp(-click)), rel=1e-4)
    satisfaction = world.SATISFIED + affinity + worth
    assert FORMULA.true_satisfaction(*asked) == pytest.approx(1 / (1 + np.exp(-satisfaction)), rel=1e-4)


FORMULA = Platform(**SMALL)


def test_satisfaction_and_regret_share_the_clicks(small):
    users, videos = np.arange(small.n_users)[:, None], np.arange(small.n_videos)
    gains = {name: small.true_gain(name, users, videos, 3, 1) for name in world.OBJECTIVES}
    np.testing.assert_allclose(gains["satisfaction"] + gains["regret"], gains["click"], rtol=1e-5)
    np.testing.assert_allclose(gains["click"], small.true_click_probability(users, videos, 3, 1), rtol=1e-6)
    assert (gains["completion"] <= gains["click"]).all()


def test_mean_watch_and_completion_are_those_of_the_drawn_fraction():
    rng, satisfaction, seconds = np.random.default_rng(0), 0.3, 400.0
    haste = seconds / world.PATIENCE_SECONDS + world.HURRY * (rng.random(400_000) >= satisfaction)
    watched = rng.random(400_000) ** haste
    expected = world.mean_watch_seconds(np.array(satisfaction), np.array(seconds))
    assert abs(seconds * watched.mean() - expected) < 4 * seconds * watched.std() / np.sqrt(len(watched))
    half = world.completion_probability(np.array(satisfaction), np.array(seconds))
    assert worst_deviation(watched >= 0.5, np.full(len(watched), half), np.zeros(len(watched))) < 4


@pytest.mark.parametrize(("objective", "column"), [("click", "clicked"), ("watch", "watch_seconds")])
def test_the_true_value_is_what_the_log_shows(crowd, log, objective, column):
    truth = crowd.true_value(random_policy(), objective, 1)
    seen = log.groupby("request_id")[column].sum()
    assert abs(seen.mean() - truth.value) < 4 * seen.sem()
    assert 0 < truth.standard_error < seen.sem()  # the truth has no noise of reactions


def test_the_standard_error_of_a_value_is_its_spread_over_seeds():
    values = [Platform(n_users=2_000, seed=seed).true_value(random_policy(), days=1) for seed in range(40)]
    spread = np.std([value.value for value in values], ddof=1)
    worlds_differ = 1.5  # another seed draws other videos as well
    assert 0.6 < spread / np.mean([value.standard_error for value in values]) < 1.5 * worlds_differ


def test_each_oracle_is_best_at_its_own_objective():
    platform = Platform(n_users=3_000)
    values = {
        (ranked_by, objective): platform.true_value(platform.oracle_policy(ranked_by), objective, 1).value
        for ranked_by in world.OBJECTIVES
        for objective in world.OBJECTIVES
    }
    for objective in world.OBJECTIVES:
        assert max(world.OBJECTIVES, key=lambda name: values[name, objective]) == objective


def test_chasing_clicks_brings_clickbait_and_chasing_completions_brings_short_videos():
    platform = Platform(n_users=3_000)
    shown = {
        name: platform.videos.iloc[day_of(platform, 0, platform.oracle_policy(name))["video_id"]].mean(
            numeric_only=True
        )
        for name in ("click", "completion", "watch", "satisfaction")
    }
    assert shown["click"]["clickbait"] > 2 * shown["satisfaction"]["clickbait"]
    assert shown["completion"]["duration_seconds"] < 0.7 * shown["watch"]["duration_seconds"]


def test_inverse_propensity_recovers_the_value_of_another_policy(crowd):
    logging = score_policy(crowd.videos["clickbait"], epsilon=0.5, seed=1)
    target = score_policy(-crowd.videos["duration_seconds"], seed=2)
    log = day_of(crowd, 0, logging)
    requests = log[["request_id", "user_id"]].drop_duplicates()
    ranked, _ = target(requests, crowd.candidates(requests))
    agrees = (ranked[:, : crowd.n_slots] == log["video_id"].to_numpy().reshape(-1, crowd.n_slots)).ravel()
    gain = pd.Series(agrees * log["clicked"] / log["propensity"]).groupby(log["request_id"]).sum()
    truth = crowd.true_value(target, "click", 1).value
    assert abs(gain.mean() - truth) < 4 * gain.sem() < 0.5 * truth
    assert abs(log["clicked"].sum() / len(requests) - truth) > 4 * gain.sem()  # without weights it is wrong


# ---------------------------------------------------------------- users and time


def test_tastes_drift_slowly_and_keep_their_spread(crowd):
    users, topics = np.arange(crowd.n_users)[:, None], np.arange(crowd.n_topics)
    days = [crowd.taste(users, topics, day).ravel() for day in (0, 1, 30, 60)]
    personal = [day - world.AGE_TASTE * (crowd._age[:, None] * crowd._topic_age).ravel() for day in days]
    correlation = np.corrcoef(personal)[0]
    np.testing.assert_allclose(correlation[[1, 2, 3]], [1, np.sqrt(0.5), 0], atol=0.01)
    np.testing.assert_allclose(np.std(personal, axis=1), 1, atol=0.01)


def test_a_few_users_make_most_of_the_requests(crowd):
    requests = np.sort(crowd.requests(0)["user_id"].value_counts())
    assert requests[-len(requests) // 10 :].sum() > 0.3 * requests.sum()
    assert requests.max() > 10 * np.median(requests)


def test_visits_follow_the_hours_of_the_day(crowd):
    starts = crowd.requests(0).drop_duplicates("user_id")["timestamp"].dt.hour
    hours = np.arange(21)  # a late visit may begin earlier, to end before midnight
    seen = starts.value_counts().reindex(hours)
    weights = np.array(simulator.HOUR_WEIGHTS)[hours]
    assert stats.chisquare(seen, seen.sum() * weights / weights.sum()).pvalue > 1e-3
    assert stats.chisquare(seen).pvalue < 1e-9


def test_requests_of_a_day_are_in_order_and_one_visit_has_one_mood(crowd):
    requests = crowd.requests(5)
    assert requests["timestamp"].is_monotonic_increasing
    assert (requests["timestamp"].dt.normalize() == world.START + pd.Timedelta(days=5)).all()
    assert (requests["request_id"] == 5 * simulator.REQUESTS_A_DAY + np.arange(len(requests))).all()
    assert not requests[["user_id", "mood"]].drop_duplicates()["user_id"].duplicated().any()


def test_visitors_come_with_their_return_probability(crowd):
    came = np.isin(np.arange(crowd.n_users), crowd.requests(2)["user_id"])
    probability = crowd.users["return_probability"].astype(float)
    assert worst_deviation(came, probability, pd.qcut(probability, 8, labels=False, duplicates="drop")) < 4


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 100))
@settings(max_examples=30)
def test_more_regret_never_makes_a_return_more_likely(regret, more, satisfied):
    low, high = (FORMULA.return_probability(0, r) for r in (regret, regret + more))
    assert (high <= low).all()
    assert FORMULA.remembered(regret, 0, satisfied) >= 0
    assert FORMULA.remembered(regret, 0, 0) <= regret


def test_half_of_the_videos_are_there_at_first_and_new_ones_come_every_day(crowd):
    available = crowd.n_available(np.arange(crowd.days))
    assert available[0] == crowd.n_videos // 2
    assert set(np.diff(available)) <= {44, 45}
    assert crowd.videos["uploaded_at"].is_monotonic_increasing
    last = crowd.videos["uploaded_at"].iloc[-1]
    assert last == world.START + pd.Timedelta(days=crowd.days)


# ---------------------------------------------------------------- seeds and bytes


def test_the_same_seed_gives_the_same_bytes_and_another_seed_gives_others():
    first, second, other = (Platform(**SMALL, seed=seed).simulate(random_policy(), 3) for seed in (7, 7, 8))
    assert first.to_parquet() == second.to_parquet()
    shared = min(len(first), len(other))
    for name in ("timestamp", "user_id", "video_id", "clicked"):
        assert (first[name][:shared] != other[name][:shared]).any()


def test_asking_the_truth_changes_no_later_answer(small):
    before = small.simulate(random_policy(), 2)
    small.true_value(random_policy(), "watch", 3)
    small.run_experiment({"a": random_policy(), "b": random_policy()}, 2)
    pd.testing.assert_frame_equal(before, small.simulate(random_policy(), 2))


def test_the_candidates_and_the_ranking_of_a_request_do_not_depend_on_its_neighbors(small):
    requests = small.requests(4)
    candidates = small.candidates(requests)
    policy = small.oracle_policy("watch", epsilon=0.5)
    ranked, propensities = policy(requests, candidates)
    for i in range(0, len(requests), 50):
        alone = requests.iloc[[i]]
        np.testing.assert_array_equal(small.candidates(alone), candidates[[i]])
        one, its = policy(alone, candidates[[i]])
        np.testing.assert_array_equal(one, ranked[[i]])
        np.testing.assert_array_equal(its, propensities[[i]])


def test_coins_are_uniform_and_no_key_repeats_another():
    tosses = uniform(0, np.arange(300)[:, None], np.arange(300))
    assert stats.kstest(tosses.ravel(), "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(tosses[:-1].ravel(), tosses[1:].ravel())[0, 1]) < 4 / 300
    assert len(np.unique(coins(0, np.arange(300)[:, None], np.arange(300)))) == 300**2
    assert (coins(1, 5) != coins(0, 5)).all()


# ---------------------------------------------------------------- candidates and policies


@given(st.integers(2, 60), st.data())
@settings(max_examples=30)
def test_candidates_are_distinct_and_available(n_videos, data):
    n = data.draw(st.integers(1, n_videos - n_videos // 2))
    platform = Platform(50, n_videos, 2, 3, days=4, n_candidates=n, n_slots=1)
    for day in (0, 3):
        candidates = platform.candidates(platform.requests(day))
        assert (np.diff(np.sort(candidates, axis=1), axis=1) > 0).all()
        assert candidates.min(initial=0) >= 0 and candidates.max(initial=0) < platform.n_available(day)


def test_all_available_videos_are_candidates_equally_often(crowd):
    candidates = crowd.candidates(crowd.requests(20))
    for column in candidates[:, ::7].T:
        seen = np.bincount(column, minlength=crowd.n_available(20))
        assert stats.chisquare(seen).pvalue > 1e-4
    assert crowd.videos["uploaded_at"].iloc[candidates.max()] <= world.START + pd.Timedelta(days=20)


def test_a_candidate_says_nothing_about_the_next_one(crowd):
    candidates = crowd.candidates(crowd.requests(0))
    topic = crowd.videos["topic"].to_numpy()[candidates]
    assert independent(topic[:, 0], topic[:, 1]) > 1e-3
    assert independent(topic[:, 0], crowd.requests(0)["mood"]) > 1e-3


@pytest.mark.parametrize("epsilon", [0, 0.3, 1])
def test_propensities_are_the_frequencies_over_many_requests_and_sum_to_one(epsilon):
    n, many, scores = 5, 40_000, np.array([0.1, 0.9, 0.5, 0.5, 0.2])
    requests = pd.DataFrame({"request_id": np.arange(many)})
    ranked, propensities = score_policy(scores, epsilon)(requests, np.tile(np.arange(n), (many, 1)))
    for position in range(n):
        shown = pd.DataFrame({"video": ranked[:, position], "p": propensities[:, position]})
        said = shown.drop_duplicates().set_index("video")["p"].sort_index()
        assert said.index.is_unique
        assert said.sum() == pytest.approx(1)
        frequency = shown["video"].value_counts(normalize=True).sort_index()
        assert (np.abs(frequency - said) <= 4 * np.sqrt(said * (1 - said) / many)).all()


def test_the_slate_of_a_greedy_policy_is_sorted_and_ties_keep_the_order_of_the_candidates():
    requests, scores = pd.DataFrame({"request_id": [0, 1]}), np.array([1.0, 3.0, 1.0, 2.0])
    ranked, propensities = score_policy(scores)(requests, np.array([[0, 1, 2, 3], [3, 2, 1, 0]]))
    np.testing.assert_array_equal(ranked, [[1, 3, 0, 2], [1, 3, 2, 0]])
    assert (propensities == 1).all()


def test_a_popular_policy_ranks_by_clicks(small):
    log = small.simulate(random_policy(), 5)
    clicks = np.bincount(log["video_id"][log["clicked"]], minlength=small.n_videos)
    shown = day_of(small, 6, popular_policy(log, small.n_videos))
    assert (shown.groupby("request_id")["video_id"].agg(lambda ids: np.diff(clicks[ids]).max()) <= 0).all()
    assert clicks[shown["video_id"]].mean() > 1.2 * clicks[log["video_id"]].mean()


# ---------------------------------------------------------------- the contract of the log


def test_a_log_keeps_its_contract(small):
    log = small.simulate(small.oracle_policy("click", epsilon=0.2), range(2, 6), "oracle", "2025-01")
    IMPRESSION_LOG.validate(log, lazy=True)
    assert list(log) == list(IMPRESSION_LOG.columns)
    assert not log.duplicated(["request_id", "position"]).any()
    assert not log.duplicated(["request_id", "video_id"]).any()
    assert log["timestamp"].is_monotonic_increasing
    assert (log.groupby("request_id")["position"].max() == small.n_slots).all()
    assert set(log["request_id"] // simulator.REQUESTS_A_DAY) == {2, 3, 4, 5}
    assert (log["policy"] == "oracle").all() and (log["model_version"] == "2025-01").all()
    assert ((log["watch_seconds"] > 0) <= log["clicked"]).all()
    assert ((log["liked"] | log["dismissed"]) <= log["clicked"]).all()
    assert not (log["liked"] & log["dismissed"]).any()
    assert log["user_id"].isin(small.users.index).all() and log["video_id"].isin(small.videos.index).all()


@pytest.mark.parametrize(
    "damage",
    [
        {"watch_seconds": np.float32(8_000)},
        {"position": np.int16(0)},
        {"propensity": np.float32(0)},
        {"clicked": 1},
        {"user_id": np.int32(-1)},
    ],
)
def test_the_schema_finds_damage(small, damage):
    log = day_of(small, 0)
    with pytest.raises(pa.errors.SchemaErrors):
        IMPRESSION_LOG.validate(log.assign(**damage), lazy=True)


def test_a_platform_without_a_visitor_gives_an_empty_log():
    nobody = next(
        p for p in (Platform(1, 8, 2, 1, 3, 4, 2, seed=s) for s in range(99)) if not len(p.requests(0))
    )
    log = nobody.simulate(random_policy(), 1)
    assert len(log) == 0
    IMPRESSION_LOG.validate(log)


def test_memory_grows_with_what_is_returned_and_no_faster():
    platform = Platform(n_users=3_000)

    def peak_per_byte(days):
        tracemalloc.start()
        log = platform.simulate(random_policy(), days)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / log.memory_usage(deep=True).sum()

    few, many = peak_per_byte(8), peak_per_byte(32)
    assert many <= 1.1 * few
    assert many < 4


# ---------------------------------------------------------------- shifts


def clicks_fit_truth(platform, log, day):
    probability = platform.true_click_probability(*asked(platform, log, day)) * examined(platform, log)
    cells = pd.qcut(probability, 10, labels=False)
    return worst_deviation(log["clicked"], probability, cells) < 4.5


@pytest.fixture(scope="module")
def usual(crowd):
    return day_of(crowd, SHIFT_DAY)


@pytest.mark.parametrize("kind", SHIFTS)
def test_nothing_changes_before_the_day_of_a_shift_or_at_strength_0(small, kind):
    usual = small.simulate(random_policy(), 4)
    pd.testing.assert_frame_equal(small.shifted(kind, 1, 4).simulate(random_policy(), 4), usual)
    pd.testing.assert_frame_equal(small.shifted(kind, 0, 0).simulate(random_policy(), 4), usual)
    assert not small.shifted(kind, 0.9, 3).simulate(random_policy(), 4).equals(usual)
    assert small.shift is None


def test_a_covariate_shift_changes_who_comes_and_not_how_they_react(crowd, usual):
    shifted = crowd.shifted("covariate", 0.8, SHIFT_DAY)
    log = day_of(shifted, SHIFT_DAY)
    ages = crowd.users["age_band"].to_numpy()
    assert (ages[usual["user_id"]] == "13-17").mean() < 0.03 < 0.2 < (ages[log["user_id"]] == "13-17").mean()
    visitors, before = (frame["user_id"].drop_duplicates() for frame in (log, usual))
    grown = [v[ages[v] != "13-17"] for v in (visitors, before)]
    assert same_distribution(*(ages[v] for v in grown)) > 1e-3
    for attribute in ("country", "device", "language"):
        values = crowd.users[attribute].to_numpy()
        assert same_distribution(values[visitors], values[before]) > 1e-3
    assert same_distribution(*(crowd.videos["topic"].to_numpy()[f["video_id"]] for f in (log, usual))) > 1e-3
    assert clicks_fit_truth(shifted, log, SHIFT_DAY)
    users, videos = np.arange(500)[:, None], np.arange(500)
    np.testing.assert_array_equal(
        shifted.true_click_probability(users, videos, 9), crowd.true_click_probability(users, videos, 9)
    )


def test_a_label_shift_changes_the_odds_of_a_click_and_not_what_clicks_look_like(crowd, usual):
    log = day_of(crowd.shifted("label", 0.5, SHIFT_DAY), SHIFT_DAY)
    odds = [frame["clicked"].sum() / (~frame["clicked"]).sum() for frame in (usual, log)]
    assert odds[1] / odds[0] == pytest.approx(2, rel=0.01)
    clicked = [frame[frame["clicked"]].reset_index(drop=True) for frame in (usual, log)]
    pd.testing.assert_frame_equal(*clicked)
    passed = [frame[~frame["clicked"]] for frame in (usual, log)]
    assert same_distribution(*(frame["position"] for frame in passed)) > 1e-3
    assert (
        same_distribution(*(crowd.videos["topic"].to_numpy()[frame["video_id"]] for frame in passed)) > 1e-3
    )
    assert stats.ks_2samp(*(frame["user_id"] for frame in passed)).pvalue > 1e-3


def test_a_concept_shift_changes_reactions_and_neither_users_nor_videos(crowd, usual):
    shifted = crowd.shifted("concept", 1, SHIFT_DAY)
    log = day_of(shifted, SHIFT_DAY)
    pd.testing.assert_frame_equal(log[CONTEXT], usual[CONTEXT])
    assert clicks_fit_truth(shifted, log, SHIFT_DAY)
    assert not clicks_fit_truth(crowd, log, SHIFT_DAY)
    bait = crowd.videos["clickbait"].to_numpy()[log["video_id"]]
    before, after = (np.corrcoef(bait, frame["clicked"])[0, 1] for frame in (usual, log))
    assert before > 0.05 and after < -0.05
    assert log["clicked"].mean() == pytest.approx(usual["clicked"].mean(), rel=0.1)  # P(y) hardly moves


def test_a_concept_shift_moves_tastes_to_the_next_topic_and_keeps_their_spread(crowd):
    users, topics = np.arange(crowd.n_users)[:, None], np.arange(crowd.n_topics)
    usual = crowd.taste(users, topics, 3)
    full, half = (crowd.shifted("concept", s, 3).taste(users, topics, 3) for s in (1, 0.5))
    np.testing.assert_allclose(full, np.roll(usual, -1, axis=1), rtol=1e-5)
    np.testing.assert_allclose(half, (usual + full) / np.sqrt(2), rtol=1e-4, atol=1e-5)


def test_a_joint_only_shift_changes_no_marginal(crowd, usual):
    shifted = crowd.shifted("joint_only", 1, SHIFT_DAY)
    log = day_of(shifted, SHIFT_DAY)
    asking = ["timestamp", "request_id", "user_id", "position", "propensity"]
    pd.testing.assert_frame_equal(log[asking], usual[asking])
    for column in ("topic", "language", "creator_id"):
        values = crowd.videos[column].to_numpy()
        assert same_distribution(values[log["video_id"]], values[usual["video_id"]]) > 1e-3
    for column in ("duration_seconds", "quality", "clickbait"):
        values = crowd.videos[column].to_numpy()
        assert stats.ks_2samp(values[log["video_id"]], values[usual["video_id"]]).pvalue > 1e-3
    age, topic = crowd.users["age_band"].to_numpy(), crowd.videos["topic"].to_numpy()
    assert independent(age[usual["user_id"]], topic[usual["video_id"]]) > 1e-3
    assert independent(age[log["user_id"]], topic[log["video_id"]]) < 1e-100
    assert clicks_fit_truth(shifted, log, SHIFT_DAY)
    assert log["clicked"].mean() < 0.97 * usual["clicked"].mean()  # the topics do not fit the ages


def test_the_candidates_of_a_joint_only_shift_stay_distinct(small):
    candidates = small.shifted("joint_only", 0.7, 0).candidates(small.requests(0))
    assert (np.diff(np.sort(candidates, axis=1), axis=1) > 0).all()


# ---------------------------------------------------------------- faults

TOUCHED = {
    "unit_change": {"watch_seconds"},
    "null_feature": {"watch_seconds"},
    "swapped_columns": {"liked", "dismissed"},
    "duplicate_events": set(),
    "late_events": {"arrived_at"},
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("strength", [0, 0.2, 1])
def test_a_fault_touches_its_columns_only_and_never_the_log_that_it_was_given(fault, strength):
    log = FAULT_LOG.copy()
    damaged = inject(log, fault, strength, seed=3)
    pd.testing.assert_frame_equal(log, FAULT_LOG)
    pd.testing.assert_frame_equal(damaged, inject(log, fault, strength, seed=3))
    untouched = [name for name in log if name not in TOUCHED[fault]]
    left = damaged.drop_duplicates().sort_values(["request_id", "position"], ignore_index=True)
    pd.testing.assert_frame_equal(left[untouched], log[untouched])
    if strength == 0:
        pd.testing.assert_frame_equal(damaged[list(log)], log)


FAULT_LOG = Platform(**SMALL).simulate(random_policy(), 1)
RATE, ROWS = 0.3, len(FAULT_LOG)


def hit_rate(hit, rows):
    return abs(hit.sum() - RATE * rows) < 4 * np.sqrt(rows * RATE * (1 - RATE))


def test_a_unit_change_turns_seconds_into_milliseconds():
    watched = FAULT_LOG["watch_seconds"] > 0
    ratio = (inject(FAULT_LOG, "unit_change", RATE)["watch_seconds"] / FAULT_LOG["watch_seconds"])[watched]
    assert np.isclose(ratio, 1).sum() + np.isclose(ratio, 1_000).sum() == len(ratio)
    assert hit_rate(ratio > 2, len(ratio))


def test_a_null_feature_is_missing():
    assert hit_rate(inject(FAULT_LOG, "null_feature", RATE)["watch_seconds"].isna(), ROWS)


def test_swapped_columns_change_places():
    damaged = inject(FAULT_LOG, "swapped_columns", 1)
    assert (damaged["liked"] == FAULT_LOG["dismissed"]).all()
    assert (damaged["dismissed"] == FAULT_LOG["liked"]).all()
    IMPRESSION_LOG.validate(damaged)  # no schema can see it


def test_duplicates_follow_their_original():
    damaged = inject(FAULT_LOG, "duplicate_events", RATE)
    again = damaged.duplicated()
    assert hit_rate(again, ROWS)
    assert (damaged.shift(1)[again] == damaged[again]).all(axis=None)


def test_late_events_arrive_after_they_happened_and_in_order_of_arrival():
    damaged = inject(FAULT_LOG, "late_events", RATE)
    delay = damaged["arrived_at"] - damaged["timestamp"]
    assert damaged["arrived_at"].is_monotonic_increasing
    assert (delay >= pd.Timedelta(0)).all() and hit_rate(delay > pd.Timedelta(0), ROWS)
    hours = delay[delay > pd.Timedelta(0)] / pd.Timedelta(hours=1)
    assert stats.kstest(hours, "expon", args=(0, 6)).pvalue > 1e-3
    IMPRESSION_LOG.validate(damaged.drop(columns="arrived_at"))


# ---------------------------------------------------------------- experiments


def test_an_experiment_has_every_user_once_a_day_in_one_arm(small):
    panel = small.run_experiment({"a": random_policy(), "b": small.oracle_policy("click")}, range(1, 4))
    assert len(panel) == 3 * small.n_users
    assert not panel.duplicated(["user_id", "day"]).any()
    assert set(panel["day"]) == {1, 2, 3}
    assert len(panel[["user_id", "arm"]].drop_duplicates()) == small.n_users
    assert (panel["clicks"] == panel["satisfied"] + panel["regrets"]).all()
    assert (panel.loc[panel["requests"] == 0, "clicks":] == 0).all(axis=None)
    assert list(panel["arm"].cat.categories) == ["a", "b"]


def test_the_assignment_is_balanced_and_follows_its_seed(small):
    arms = {"a": random_policy(), "b": random_policy(), "c": random_policy()}
    first, second = (Platform(n_users=9_000).run_experiment(arms, 1, seed=seed)["arm"] for seed in (0, 1))
    assert stats.chisquare(first.value_counts()).pvalue > 1e-3
    assert independent(first, second) > 1e-3


def test_equal_arms_are_one_simulation_and_differ_by_chance_only():
    platform = Platform(n_users=4_000)
    panel = platform.run_experiment({"a": random_policy(), "b": random_policy()}, 5)
    log = platform.simulate(random_policy(), 5)
    assert panel["clicks"].sum() == log["clicked"].sum()
    assert panel["requests"].sum() == log["request_id"].nunique()
    assert panel["watch_seconds"].sum() == pytest.approx(log["watch_seconds"].sum(), rel=1e-5)
    totals = panel.groupby(["user_id", "arm"], observed=True)["clicks"].sum().reset_index("arm")
    arms = [totals["clicks"][totals["arm"] == arm] for arm in "ab"]
    assert stats.ttest_ind(*arms, equal_var=False).pvalue > 1e-3


def test_clickbait_wins_the_first_week_and_loses_the_users_by_the_eighth():
    platform = Platform(n_users=12_000)
    arms = {name: platform.oracle_policy(name) for name in ("click", "satisfaction")}
    panel = platform.run_experiment(arms, 56)
    panel["active"] = panel["requests"] > 0
    weeks = panel.groupby(["user_id", "arm", panel["day"] // 7], observed=True)[["clicks", "active"]].sum()

    def lead_of_click(week, column):
        values = weeks.xs(week, level="day")[column]
        return stats.ttest_ind(*(values.xs(arm, level="arm") for arm in arms), equal_var=False).statistic

    assert lead_of_click(0, "clicks") > 3
    assert lead_of_click(7, "clicks") < -3
    assert lead_of_click(7, "active") < -8


# ---------------------------------------------------------------- what makes no sense


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"n_users": 0}, "n_users"),
        ({"n_users": -5}, "n_users"),
        ({"n_users": 2.5}, "n_users"),
        ({"n_users": True}, "n_users"),
        ({"n_videos": 1}, "n_videos"),
        ({"n_topics": 1}, "n_topics"),
        ({"n_creators": 0}, "n_creators"),
        ({"days": -1}, "days"),
        ({"n_candidates": 151}, "n_candidates, of 150 videos"),
        ({"n_slots": 21}, "n_slots, of 20 candidates"),
        ({"n_slots": 0}, "n_slots"),
        ({"seed": -1}, "seed"),
        ({"seed": float("nan")}, "seed"),
    ],
)
def test_a_platform_of_a_size_without_sense_is_refused(sizes, named):
    with pytest.raises(ValueError, match=named):
        Platform(**SMALL | sizes)


@pytest.mark.parametrize("days", [0, -1, 10, 2.5, range(0), range(5, 12), range(-1, 2), range(0, 6, 2)])
@pytest.mark.parametrize("method", ["simulate", "run_experiment", "true_value"])
def test_days_outside_the_calendar_are_refused(small, method, days):
    policies = {"a": random_policy(), "b": random_policy()} if method == "run_experiment" else random_policy()
    with pytest.raises(ValueError, match="days must be"):
        getattr(small, method)(policies, days=days)


@pytest.mark.parametrize("day", [-1, 9, 0.5])
def test_requests_of_a_day_outside_the_calendar_are_refused(small, day):
    with pytest.raises(ValueError, match="day"):
        small.requests(day)


@pytest.mark.parametrize(
    ("kind", "strength", "day", "named"),
    [
        ("covriate", 0.5, 1, "kind must be one of covariate, label"),
        ("label", float("nan"), 1, "strength"),
        ("label", 1.1, 1, "strength"),
        ("label", -0.1, 1, "strength"),
        ("label", "0.5", 1, "strength"),
        ("label", 0.5, -1, "day"),
    ],
)
def test_a_shift_without_sense_is_refused(small, kind, strength, day, named):
    with pytest.raises(ValueError, match=named):
        small.shifted(kind, strength, day)
    with pytest.raises(ValueError, match=named):
        Shift(kind, strength, day)


def test_joint_only_needs_two_videos_for_each_candidate():
    with pytest.raises(ValueError, match="2 n_candidates, of 150 videos"):
        Platform(**SMALL | {"n_candidates": 76}).shifted("joint_only", 1, 1)


def test_faults_without_sense_are_refused():
    with pytest.raises(ValueError, match="fault must be one of unit_change, null_feature"):
        inject(FAULT_LOG, "units", 0.5)
    with pytest.raises(ValueError, match="strength"):
        inject(FAULT_LOG, "unit_change", float("nan"))


def test_unknown_objectives_and_ids_are_refused(small):
    for call in (small.oracle_policy, lambda name: small.true_value(random_policy(), name, 1)):
        with pytest.raises(ValueError, match="objective must be one of click, completion"):
            call("clicks")
    with pytest.raises(ValueError, match="user_ids must lie from 0 to 399, not from -1 to -1"):
        small.true_satisfaction(-1, 0)
    with pytest.raises(ValueError, match="video_ids must lie from 0 to 299"):
        small.true_click_probability([1, 2], [0, 300])


def test_policies_that_break_their_contract_are_refused(small):
    def once(requests, candidates):
        return candidates, np.ones(candidates.shape)

    broken = {
        "rank 10 or more": lambda r, c: (c[:, :9], np.ones((len(r), 9))),
        "have the shapes": lambda r, c: (c, np.ones(len(r) - 1)[:, None]),
        "propensities": lambda r, c: (c, np.zeros(c.shape)),
        "must be greater than 0": lambda r, c: (c, np.full(c.shape, np.nan)),
        "twice": lambda r, c: (np.repeat(c[:, :1], 10, axis=1), np.ones((len(r), 10))),
        "video_ids must lie": lambda r, c: (c + small.n_videos, np.ones(c.shape)),
    }
    assert len(small.simulate(once, 1))
    for message, policy in broken.items():
        with pytest.raises(ValueError, match=message):
            small.simulate(policy, 1)
    with pytest.raises(ValueError, match="epsilon"):
        score_policy(np.zeros(3), epsilon=1.5)
    with pytest.raises(ValueError, match="number of policies"):
        small.run_experiment({"alone": once}, 1)
