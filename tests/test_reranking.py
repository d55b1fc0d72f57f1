"""Re-ranking: the greedy list, its diversity, what both cost, and a slot for what is new."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.reranking import boost_new, coverage, frontier, intra_list_diversity, mmr
from helpers.simulator import IMPRESSION_LOG, Platform, random_policy, score_policy

SEEDS = st.integers(0, 1000)


def candidates(seed=0, k=8, requests=5):
    """Relevance with ties, and similarities from -1 to 1 of a few requests."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(requests, k, 3))
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return rng.integers(0, 5, (requests, k)) / 4, vectors @ vectors.swapaxes(1, 2)


# ---------------------------------------------------------------- the list


@given(SEEDS, st.integers(1, 8), st.sampled_from([0.0, 0.3, 0.5, 1.0]))
def test_mmr_is_the_greedy_list_of_its_formula(seed, n, trade_off):
    relevance, similarity = (values[0] for values in candidates(seed))
    greedy = [int(np.argmax(relevance))]
    while len(greedy) < n:
        value = {
            i: trade_off * relevance[i] - (1 - trade_off) * max(similarity[i, j] for j in greedy)
            for i in range(8)
            if i not in greedy
        }
        greedy.append(max(value, key=value.get))
    assert list(mmr(relevance, similarity, n, trade_off)) == greedy


def test_many_requests_at_once_are_the_same_as_one_after_the_other():
    relevance, similarity = candidates()
    at_once = mmr(relevance, similarity, 4, 0.5)
    assert at_once.shape == (5, 4)
    one_by_one = [mmr(*request, 4, 0.5) for request in zip(relevance, similarity, strict=True)]
    np.testing.assert_array_equal(at_once, one_by_one)
    np.testing.assert_array_equal(mmr(relevance[None], similarity[None], 4, 0.5)[0], at_once)


def test_without_a_trade_off_it_is_the_order_of_relevance_and_ties_keep_theirs():
    relevance, similarity = candidates()
    np.testing.assert_array_equal(
        mmr(relevance, similarity, 8, 1), np.argsort(-relevance, axis=1, kind="stable")
    )


def test_a_copy_of_the_first_waits_for_the_others():
    similarity = [[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    assert list(mmr([0.9, 0.8, 0.3], similarity, 3, 0.5)) == [0, 2, 1]
    assert list(mmr([0.9, 0.8, 0.3], similarity, 3, 0.9)) == [0, 1, 2]


EYE = np.eye(3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1, 2, 3], np.eye(2), 1, 0.5), "each candidate with each"),
        (([[1, 2, 3]], EYE, 1, 0.5), "each candidate with each"),
        (([], np.eye(0), 1, 0.5), "each candidate with each"),
        ((1.0, 1.0, 1, 0.5), "each candidate with each"),
        (([1, np.nan, 3], EYE, 1, 0.5), "NaN"),
        (([1, 2, 3], EYE - np.inf, 1, 0.5), "NaN"),
        (([1, 2, 3], EYE, 0, 0.5), "n must be"),
        (([1, 2, 3], EYE, 4, 0.5), "n must be"),
        (([1, 2, 3], EYE, 1.5, 0.5), "n must be"),
        (([1, 2, 3], EYE, 1, 1.1), "trade_off"),
        (([1, 2, 3], EYE, 1, np.nan), "trade_off"),
    ],
    ids=str,
)
def test_a_list_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mmr(*arguments)


# ---------------------------------------------------------------- what a list is like


@given(SEEDS, st.integers(2, 8))
def test_diversity_is_the_mean_over_the_pairs(seed, n):
    relevance, similarity = candidates(seed)
    shown = mmr(relevance, similarity, n, 0.5)
    pairs = [
        np.mean([1 - similarity[r, one, other] for one in shown[r] for other in shown[r] if one < other])
        for r in range(len(shown))
    ]
    np.testing.assert_allclose(intra_list_diversity(similarity, shown), pairs)
    assert intra_list_diversity(similarity[0], shown[0]) == pytest.approx(pairs[0])


@pytest.mark.parametrize("shown", [[0], [0, 3], [0, -1], [0.5, 1], 0, [[0, 1]], []], ids=str)
def test_lists_without_pairs_or_of_other_candidates_have_no_diversity(shown):
    with pytest.raises(ValueError, match="two places or more"):
        intra_list_diversity(EYE, shown)
    with pytest.raises(ValueError, match="two places or more"):
        intra_list_diversity(EYE[:2], [0, 1])


def test_coverage_is_the_share_of_the_catalog_that_somebody_sees():
    assert coverage([[0, 1], [1, 3]], 6) == 0.5 and coverage([], 6) == 0
    for shown in ([6], [-1], [0.5]):
        with pytest.raises(ValueError, match="ids from 0 to 5"):
            coverage(shown, 6)
    with pytest.raises(ValueError, match="n_items"):
        coverage([], 0)


# ---------------------------------------------------------------- the frontier


@pytest.fixture(scope="module")
def requests():
    """Videos of 4 topics: relevance with noise, its truth, and similarity 1 within a topic."""
    rng = np.random.default_rng(0)
    topic = rng.integers(4, size=(300, 30))
    truth = rng.random((300, 4))[np.arange(300)[:, None], topic] + rng.random((300, 30))
    return truth + rng.normal(0, 0.2, truth.shape), (topic[:, :, None] == topic[:, None]) * 1.0, truth


def test_the_frontier_trades_relevance_for_diversity(requests):
    table = frontier(*requests[:2], n=5, trade_offs=[1, 0.7, 0.4, 0], gain=requests[2])
    assert list(table.index) == [1, 0.7, 0.4, 0] and table.index.name == "trade_off"
    assert (table.loc[1, ["kept", "kept_low", "kept_high"]] == 1).all(), "paired: it is itself, without doubt"
    assert table["kept"].is_monotonic_decreasing and table["diversity"].is_monotonic_increasing
    assert (table["kept_low"] <= table["kept"]).all() and (table["kept"] <= table["kept_high"]).all()
    assert table.loc[1, "diversity_low"] < table.loc[1, "diversity"] < table.loc[1, "diversity_high"]


def test_the_frontier_is_measured_by_the_gain_and_not_by_what_the_list_believes(requests):
    believed = frontier(*requests[:2], n=5, trade_offs=[0.5])
    true = frontier(*requests[:2], n=5, trade_offs=[0.5], gain=requests[2])
    assert true["kept"].item() != pytest.approx(believed["kept"].item(), abs=1e-3)
    assert true["diversity"].item() == believed["diversity"].item()


def test_intervals_of_the_frontier_are_over_units(requests):
    width = [
        frontier(*requests[:2], n=5, trade_offs=[0.5], unit=unit)[["kept_low", "kept_high"]].diff(axis=1)
        for unit in (None, np.arange(300) % 4)
    ]
    assert width[0]["kept_high"].item() != width[1]["kept_high"].item()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0, 3.0], EYE, 2, [0.5]), "one shape"),
        (([[1.0, 2.0, 3.0]] * 2, [EYE] * 2, 2, [0.5], [[1, 2]] * 2), "one shape"),
        (([[1.0, 2.0, 3.0]] * 2, [EYE] * 2, 2, [0.5], np.zeros((2, 3))), "gain nothing"),
        (([[1.0, 2.0, 3.0]] * 2, [EYE] * 2, 2, [0.5], np.full((2, 3), np.nan)), "gain nothing"),
        (([[1.0, 2.0, 3.0]] * 2, [EYE] * 2, 2, [2]), "trade_off"),
        (([[1.0, 2.0, 3.0]] * 2, [EYE] * 2, 1, [0.5]), "two places"),
    ],
    ids=str,
)
def test_a_frontier_that_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        frontier(*arguments)


# ---------------------------------------------------------------- a slot for what is new


def by_id(requests, candidates):
    return score_policy(-np.arange(100.0))(requests, candidates)


def newest(*ids):
    return lambda requests, candidates: np.isin(candidates, ids)


def shown(policy, n=6, requests=20_000):
    """Which of n candidates the policy ranks at which position, and the propensities."""
    frame = pd.DataFrame({"request_id": np.arange(requests), "user_id": 0})
    return policy(frame, np.tile(np.arange(n)[::-1], (requests, 1)))


@settings(max_examples=40)
@given(st.sets(st.integers(0, 5)), st.integers(1, 6), st.sampled_from([0.0, 0.2, 0.9]))
def test_propensities_are_how_often_it_happens(new, slot, rate):
    ranked, propensity = shown(boost_new(by_id, newest(*new), slot, rate))
    assert (np.sort(ranked, axis=1) == np.arange(6)).all(), "each candidate once"
    assert (ranked[:, : slot - 1] == np.arange(slot - 1)).all(), "nothing changes above the slot"
    for position in range(6):
        rows = pd.DataFrame({"video": ranked[:, position], "p": propensity[:, position]}).groupby("video")[
            "p"
        ]
        assert rows.agg(np.ptp).max() < 1e-12, "one propensity for each video and position"
        assert rows.first().sum() == pytest.approx(1)
        np.testing.assert_allclose(rows.first(), rows.size() / len(ranked), atol=0.015)


def test_the_new_one_moves_up_and_those_between_move_down():
    ranked, propensity = shown(boost_new(by_id, newest(0, 3, 5), slot=2, rate=0.5))
    lists = {tuple(map(int, row)) for row in ranked}
    assert lists == {(0, 1, 2, 3, 4, 5), (0, 3, 1, 2, 4, 5), (0, 5, 1, 2, 3, 4)}
    moved = ranked[:, 1] == 5
    np.testing.assert_allclose(propensity[moved], [[1, 0.25, 0.5, 0.5, 0.25, 0.25]] * moved.sum())


def test_without_anything_new_nothing_changes():
    ranked, propensity = shown(boost_new(by_id, newest(0), slot=2, rate=0.9))
    assert (ranked == np.arange(6)).all() and (propensity == 1).all()


def test_it_writes_a_log_and_shows_what_no_click_count_would():
    platform = Platform(n_users=500, n_videos=400, n_creators=50, days=10)
    uploaded = (platform.videos["uploaded_at"] - platform.videos["uploaded_at"].min()).dt.days.to_numpy()
    oldest_first = score_policy(-uploaded)

    def is_new(requests, candidates):
        return candidates >= platform.n_available(4)

    logs = [
        platform.simulate(policy, range(5, 7))
        for policy in (oldest_first, boost_new(oldest_first, is_new, slot=3, rate=0.5))
    ]
    IMPRESSION_LOG.validate(logs[1])
    seen = [log[log["video_id"] >= platform.n_available(4)] for log in logs]
    assert len(seen[0]) == 0 < len(seen[1]) and set(seen[1]["position"]) == {3}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: boost_new(by_id, newest(1), 0, 0.1), "slot"),
        (lambda: shown(boost_new(by_id, newest(1), 7, 0.1)), "slot"),
        (lambda: boost_new(by_id, newest(1), 1, 1.0), "less than 1"),
        (lambda: boost_new(by_id, newest(1), 1, -0.1), "rate"),
        (lambda: shown(boost_new(random_policy(), newest(1), 1, 0.1)), "leaves something to chance"),
        (lambda: shown(boost_new(by_id, lambda requests, videos: videos[0] > 2, 1, 0.1)), "is_new"),
        (lambda: shown(boost_new(by_id, lambda requests, videos: videos, 1, 0.1)), "is_new"),
    ],
)
def test_a_boost_that_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
