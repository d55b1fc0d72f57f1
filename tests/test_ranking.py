"""Requests out of a log see the past alone; lists and ranks agree with a naive count."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import random as sparse_random
from threadpoolctl import threadpool_limits

from helpers.datasets import load_movielens_ratings
from helpers.ranking import (
    NOT_FOUND,
    LikeLog,
    candidate_table,
    interleave,
    liked_together,
    rank_of,
    source_scores,
    taste_vectors,
    top_k,
)

MINUTES = [0, 10, 10, 20, 30, 40]
USERS = [1, 2, 1, 1, 1, 2]
ITEMS = [50, 50, 70, 60, 80, 70]
LIKED = [1, 1, 0, 1, 1, 1]


def at(minutes):
    return pd.Timestamp("2025-01-01") + pd.to_timedelta(minutes, unit="min")


@pytest.fixture
def log():
    order = [3, 0, 5, 1, 4, 2]  # a log may come in any order
    columns = (np.array(column)[order] for column in (USERS, ITEMS, LIKED))
    return LikeLog(*columns, at(MINUTES)[order])


def test_rows_are_sorted_by_time_and_items_are_numbered(log):
    assert list(log.item_ids) == [50, 60, 70, 80] and log.n_items == 4 and len(log) == 6
    assert list(log.time) == sorted(log.time)


def test_a_request_sees_only_what_its_user_did_strictly_earlier(log):
    assert log.history([4]).toarray().tolist() == [[1, 1, 0, 0]]
    assert log.seen([4]).toarray().tolist() == [[1, 1, 1, 0]]
    assert log.history([4], last=1).toarray().tolist() == [[0, 1, 0, 0]]


def test_a_delay_hides_the_newest_rows(log):
    assert log.history([4], delay="10min").toarray().tolist() == [[1, 0, 0, 0]], (
        "exactly 10 minutes old: hidden"
    )
    assert log.history([4], delay="9min").toarray().tolist() == [[1, 1, 0, 0]]


def test_rows_at_the_same_moment_do_not_see_each_other():
    log = LikeLog([1, 1, 1], [5, 6, 7], [1, 1, 1], at([0, 10, 10]))
    assert log.seen([1, 2]).toarray().tolist() == [[1, 0, 0], [1, 0, 0]]


def test_requests_are_likes_of_users_who_liked_enough_before(log):
    assert set(log.requests(0, 6, 3, min_likes=1)) == {3, 4, 5}
    assert set(log.requests(0, 6, 1, min_likes=2)) == {4}
    assert set(log.requests(0, 4, 1, min_likes=1)) == {3}
    with pytest.raises(ValueError, match="Only 1 rows hold a request"):
        log.requests(0, 6, 2, min_likes=2)


def test_likes_stop_before_the_given_row(log):
    assert log.likes(6).sum() == 5
    assert log.likes(4).sum(axis=0).tolist() == [[2, 1, 0, 0]]


def test_a_part_of_a_log_knows_nothing_of_the_rest_and_keeps_the_numbers_of_items(log):
    part = log.only([4, 0, 0, 5])
    assert len(part) == 3 and part.n_items == 4
    assert list(part.item_ids[part.items]) == [50, 80, 70] and list(part.users) == [1, 1, 2]
    assert part.history([1]).toarray().tolist() == [[1, 0, 0, 0]], "the like in between is unknown"
    assert list(part.likes_before) == [0, 1, 0]
    assert part.likes(3).sum() == 3 and log.likes(6).sum() == 5, "the whole log is as before"


def test_postponed_rows_come_last_and_do_not_see_each_other(log):
    late = log.postponed([0, 3])
    assert list(late.item_ids[late.items]) == [50, 70, 80, 70, 50, 60]
    assert list(late.time) == sorted(late.time) and late.time[4] == late.time[5] > late.time[3]
    assert late.history([4, 5]).toarray().tolist() == [[0, 0, 0, 1]] * 2, "what in truth came later is known"
    assert log.item_ids[log.items[0]] == 50 and log.time[0] < log.time[1], "the log is as before"


@given(st.sets(st.integers(0, 5)))
def test_a_postponed_log_holds_the_same_rows(rows):
    log = LikeLog(USERS, ITEMS, LIKED, at(MINUTES))
    late = log.postponed([*rows])
    cells = [sorted(zip(one.users, one.items, one.liked, strict=True)) for one in (log, late)]
    assert cells[0] == cells[1]
    assert sorted(late.items[6 - len(rows) :]) == sorted(log.items[[*rows]].tolist())


@pytest.mark.parametrize("rows", [[6], [-1], [True] * 6, [[0, 1]], [0.5], 3], ids=str)
def test_rows_that_a_log_does_not_have_are_refused(log, rows):
    for call in (log.only, log.postponed):
        with pytest.raises(ValueError, match="row numbers, from 0 to 5"):
            call(rows)


@pytest.mark.parametrize("rows", [[], [1]], ids=str)
def test_a_part_without_a_like_is_refused(rows):
    with pytest.raises(ValueError, match="no like"):
        LikeLog([1, 1], [5, 6], [1, 0], at([0, 1])).only(rows)


def test_the_zone_of_times_survives_a_postponement(log):
    zoned = LikeLog(USERS, ITEMS, LIKED, at(MINUTES).tz_localize("Europe/Berlin"))
    assert (zoned.postponed([0]).history([5]) != log.postponed([0]).history([5])).nnz == 0


def test_likes_within_counts_everybody_in_the_window_alone(log):
    assert log.likes_within([5], "20min").tolist() == [[0, 1, 0, 1]]
    assert log.likes_within([5], "1h").tolist() == [[2, 1, 0, 1]]


def test_a_log_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="of one length"):
        LikeLog([1, 2], [1], [1, 1], at([0, 1]))
    with pytest.raises(ValueError, match="at least one like"):
        LikeLog([1], [1], [0], at([0]))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ({"items": [7.0, np.nan]}, "missing"),
        ({"users": [None, "b"]}, "missing"),
        ({"time": [pd.Timestamp("2025-01-01"), pd.NaT]}, "missing"),
        ({"liked": [4, 5]}, "rating >= 4"),
        ({"liked": ["no", "yes"]}, "True and False"),
        ({"time": [1, 2]}, "pandas.to_datetime"),
        ({"time": ["2025-01-01", "2025-01-02"]}, "pandas.to_datetime"),
    ],
    ids=str,
)
def test_a_column_that_the_log_cannot_read_is_refused(column, message):
    columns = {"users": [1, 1], "items": [5, 6], "liked": [1, 1], "time": at([0, 1])}
    with pytest.raises(ValueError, match=message):
        LikeLog(**(columns | column))


def test_columns_are_joined_by_position_whatever_their_index():
    time, items = pd.Series(at([0, 1, 2])), pd.Series([5, 6, 7], index=[2, 1, 0])
    log = LikeLog([1, 1, 1], items, [1, 1, 1], time)
    assert list(log.item_ids[log.items]) == [5, 6, 7]


def test_times_with_a_zone_work_like_others(log):
    zoned = LikeLog(USERS, ITEMS, LIKED, at(MINUTES).tz_localize("Europe/Berlin"))
    assert (zoned.history([4], delay="10min") != log.history([4], delay="10min")).nnz == 0
    assert (zoned.likes_within([5], "20min") == log.likes_within([5], "20min")).all()


def test_an_item_that_is_liked_twice_is_still_a_one():
    log = LikeLog([1, 1, 1], [5, 5, 6], [1, 1, 1], at([0, 1, 2]))
    assert log.history([2]).toarray().tolist() == log.seen([2]).toarray().tolist() == [[1, 0]]
    assert log.likes(2).toarray().tolist() == [[1, 0]]


def test_no_request_is_a_matrix_without_rows(log):
    assert log.history([]).shape == log.seen([]).shape == (0, 4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: log.requests(-3, 6, 1), "do not fit a log of 6 rows"),
        (lambda log: log.requests(0, 7, 1), "do not fit a log of 6 rows"),
        (lambda log: log.requests(0, 6, -1), "do not fit a log of 6 rows"),
        (lambda log: log.past(4, "-1h"), "at least 0"),
        (lambda log: log.likes_within([4], "-1h"), "at least 0"),
        (lambda log: log.history([4], last=0), "raise `last`"),
        (lambda log: log.likes(0), "Nothing was liked before row 0"),
        (lambda log: log.likes(-1), "Nothing was liked before row -1"),
    ],
)
def test_a_question_that_the_log_cannot_answer_is_refused(log, call, message):
    with pytest.raises(ValueError, match=message):
        call(log)


def test_the_past_of_real_ratings_agrees_with_a_filter_of_the_table():
    ratings = load_movielens_ratings().rename(columns={"rated_at": "time"})
    log = LikeLog(ratings.user_id, ratings.movie_id, ratings.rating >= 4, ratings.time)
    for row in log.requests(0, len(log), 20):
        older = ratings[(ratings.user_id == log.users[row]) & (ratings.time < log.time[row])]
        seen = log.item_ids[log.seen([row]).indices]
        assert sorted(seen) == sorted(older.movie_id)
        likes = older[older.rating >= 4].sort_values("time", kind="stable").movie_id.tail(20)
        assert sorted(log.item_ids[log.history([row]).indices]) == sorted(likes)


# ---------------------------------------------------------------- lists

SCORES = st.lists(st.lists(st.integers(-2, 5), min_size=6, max_size=6), min_size=1, max_size=4)


@given(SCORES, st.integers(1, 6), st.integers(0, 63))
def test_top_k_is_the_sorted_list_of_allowed_items_above_zero(scores, k, mask):
    allowed = np.array([mask >> i & 1 for i in range(6)], bool)
    lists = top_k(scores, k, np.tile(allowed, (len(scores), 1)))
    for row, shown in zip(scores, lists, strict=True):
        naive = sorted((i for i in range(6) if allowed[i] and row[i] > 0), key=lambda i: (-row[i], i))[:k]
        assert list(shown) == naive + [-1] * (k - len(naive))


@given(
    st.lists(st.lists(st.integers(0, 8), max_size=5, unique=True), min_size=1, max_size=3), st.integers(1, 9)
)
def test_interleave_takes_turns_and_skips_what_it_has(lists, k):
    in_turn = [one[turn] for turn in range(5) for one in lists if turn < len(one)]
    naive = list(dict.fromkeys(in_turn))
    padded = [np.array([one + [-1] * (5 - len(one))]) for one in lists]
    assert interleave(padded, k).tolist() == [naive[:k] + [-1] * (k - len(naive[:k]))]


def test_lists_of_several_lengths_and_rows_are_blended_row_by_row():
    assert interleave([[[1, 2, 3], [4, 5, 6]], [[2], [-1]]], 3).tolist() == [[1, 2, 3], [4, 5, 6]]


def test_rank_of_finds_the_position_or_says_that_there_is_none():
    lists = [[4, 2, 9], [1, -1, -1], [7, 8, 9]]
    assert list(rank_of(lists, [9, 1, 5])) == [2, 0, NOT_FOUND]


def test_top_k_orders_tiny_and_breaks_large_ties():
    assert top_k([[1e-13, 3e-13, 2e-13]], 2).tolist() == [[1, 2]]
    ties = np.random.default_rng(0).integers(1, 4, (1, 2000)) * 1e6
    assert top_k(ties, 50).tolist() == [sorted(range(2000), key=lambda i: (-ties[0, i], i))[:50]]


def test_a_list_longer_than_the_items_is_padded():
    assert top_k([[1.0, 2.0]], 4).tolist() == [[1, 0, -1, -1]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: top_k([[1, 2]], 0), "k of at least 1"),
        (lambda: top_k([1, 2], 1), "one shape"),
        (lambda: top_k([[1, 2]], 1, [True]), "one shape"),
        (lambda: top_k([[1, np.nan]], 1), "NaN"),
        (lambda: interleave([[[1, 2]]], -1), "k of at least 1"),
        (lambda: interleave([], 2), "k of at least 1 and lists"),
        (lambda: interleave([[1, 2]], 2), "same rows"),
        (lambda: interleave([[[1]], [[1], [2]]], 2), "same rows"),
        (lambda: rank_of([[1, 2], [3, 4]], [1]), "one target for each row"),
        (lambda: rank_of([1, 2], [1, 2]), "one target for each row"),
    ],
)
def test_lists_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_padding_of_a_list_is_never_found():
    assert list(rank_of([[3, -1]], [-1])) == [NOT_FOUND]


# ---------------------------------------------------------------- sources and features


@pytest.fixture(scope="module")
def two_camps():
    """Twenty users like items 0 to 4 or 5 to 9, one a minute; two of them the last of their camp, later."""
    users = np.repeat(np.arange(20), 4)
    items = np.tile([0, 1, 2, 3], 20) + 5 * (users % 2)
    last = np.array([4, 9])
    return LikeLog(
        np.append(users, [0, 1]),
        np.append(items, last),
        np.ones(82, bool),
        at(np.append(np.arange(80), [90, 91])),
    )


@pytest.mark.parametrize("source", ["taste", "together"])
def test_a_personal_source_stays_in_the_users_camp(two_camps, source):
    first, second = source_scores(two_camps, [80, 81], 80)[source]
    assert first[:4].min() > first[5:].max() + 0.1
    assert second[5:9].min() > second[:5].max() + 0.1


def test_the_personal_sources_do_not_see_what_came_after_the_end(two_camps):
    scores = source_scores(two_camps, [80, 81], 80)
    assert scores["taste"][:, [4, 9]] == pytest.approx(0, abs=1e-6)
    assert scores["together"][:, [4, 9]].tolist() == [[0, 0], [0, 0]]
    assert source_scores(two_camps, [81], 80)["this year"][0, 4] == 1, "the fresh list saw it a minute before"


def test_liked_together_is_the_cosine_of_the_columns(two_camps):
    likes = two_camps.likes(82)
    columns = likes.toarray().T
    norms = np.linalg.norm(columns, axis=1)
    naive = columns @ columns.T / np.outer(norms, norms)
    np.testing.assert_allclose(liked_together(likes).toarray(), naive, atol=1e-6)


def test_taste_vectors_are_the_same_for_the_same_seed(two_camps):
    likes = two_camps.likes(80)
    assert taste_vectors(likes, 2).shape == (10, 2)
    assert (taste_vectors(likes, 2) == taste_vectors(likes, 2)).all()


def test_taste_vectors_do_not_depend_on_the_number_of_threads():
    likes = sparse_random(600, 2000, 0.02, "csr", np.float32, rng=np.random.default_rng(0))
    vectors = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            vectors.append(taste_vectors(likes))
    assert (vectors[0] == vectors[1]).all()


def test_the_candidate_table_has_a_row_for_each_candidate_and_knows_the_wanted_one(two_camps):
    rows = [80, 81]
    scores = source_scores(two_camps, rows, 80)
    lists = {name: top_k(values, 3) for name, values in scores.items()} | {
        "extra": np.array([[4, -1], [9, -1]])
    }
    tags, year = np.repeat(np.eye(2), 5, axis=0), np.arange(2000.0, 2010.0)
    table = candidate_table(two_camps, rows, 80, scores, lists, tags, year)
    for request in (0, 1):
        mine = table[table.request == request]
        pool = set(np.concatenate([values[request] for values in lists.values()])) - {-1}
        assert set(mine["item"]) == pool and len(mine) == len(pool)
        assert list(mine["item"][mine.wanted]) == [[4, 9][request]]
        assert mine.tags.tolist() == [float(i // 5 == request) for i in mine["item"]]
    assert table["years apart"].iloc[0] == pytest.approx(table.year.iloc[0] - 2001.5)
    best = table[(table.request == 0)].sort_values("taste").iloc[0]
    assert (
        scores["taste"][0][int(best["item"])] == scores["taste"][0][table["item"][table.request == 0]].max()
    )


def parts_of_a_table(log, rows):
    """The arguments of a candidate table, by name."""
    scores = source_scores(log, rows, 80)
    lists = {name: top_k(values, 3) for name, values in scores.items()}
    return {"scores": scores, "lists": lists, "tags": np.ones((10, 1)), "year": np.arange(2000.0, 2010.0)}


def test_a_request_without_likes_has_unknown_tags_and_years(two_camps):
    parts = parts_of_a_table(two_camps, [0]) | {"lists": {"any": np.array([[3, 4]])}}
    table = candidate_table(two_camps, [0], 80, **parts)
    assert len(table) == 2 and table[["tags", "years apart"]].isna().all(axis=None)


def test_the_years_of_items_are_taken_by_position(two_camps):
    parts = parts_of_a_table(two_camps, [80])
    shifted = parts | {"year": pd.Series(parts["year"], index=range(10)[::-1])}
    pd.testing.assert_frame_equal(*(candidate_table(two_camps, [80], 80, **p) for p in (parts, shifted)))


@pytest.mark.parametrize(
    ("rows", "change", "message"),
    [
        ([80], {}, "each of the rows"),
        ([80, 81], {"year": np.arange(11.0)}, "each of the 10 items"),
        ([80, 81], {"tags": np.ones((9, 1))}, "each of the 10 items"),
    ],
)
def test_parts_of_a_table_that_do_not_fit_are_refused(two_camps, rows, change, message):
    with pytest.raises(ValueError, match=message):
        candidate_table(two_camps, rows, 80, **(parts_of_a_table(two_camps, [80, 81]) | change))
