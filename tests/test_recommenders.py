"""Rungs know what their training log holds; splits hide what they promise; blends and cold start."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.exceptions import NotFittedError

from helpers.datasets import load_movielens_films, load_movielens_ratings
from helpers.metrics import mean_interval
from helpers.ranking import NOT_FOUND, LikeLog, liked_together, taste_vectors, top_k
from helpers.recommenders import (
    Constant,
    ItemKNN,
    MatrixFactorization,
    NewItems,
    Popular,
    PopularRecent,
    Split,
    TwoTowerRecommender,
    WithFallback,
    global_time_split,
    ladder,
    leave_last_out,
    named_tags,
    of_named_tag,
    predicted_vectors,
    quotas,
    random_split,
)
from helpers.towers import TwoTower

SMALL_TOWER = TwoTower(dims=4, epochs=30, batch=16)
RUNGS = {
    "constant": Constant(),
    "popular": Popular(),
    "recent": PopularRecent("1h"),
    "neighbors": ItemKNN(shrink=1),
    "factors": MatrixFactorization(dims=2),
    "towers": TwoTowerRecommender(SMALL_TOWER),
    "new": NewItems(np.repeat(np.eye(2), 5, axis=0), MatrixFactorization(dims=2), min_likes=1),
    "fallback": WithFallback(MatrixFactorization(dims=2), Popular()),
}
LEARNING = [name for name in RUNGS if name != "recent"]
PERSONAL = ["neighbors", "factors", "towers"]


def at(minutes):
    return pd.Timestamp("2025-01-01") + pd.to_timedelta(minutes, unit="min")


@pytest.fixture(scope="module")
def camps():
    """Twenty users like items 0 to 3 or 5 to 8, in turns; then two of them the last item of their camp.

    Item 3 and 8 are liked by the first ten users alone; user 77 has never liked anything before row 77.
    """
    user = np.tile(np.arange(20), 4)
    item = np.repeat(np.arange(4), 20) + 5 * (user % 2)
    keep = (item % 5 < 3) | (user < 10)
    user, item = user[keep], item[keep]
    time = np.arange(len(user))
    users, items = np.append(user, [0, 1, 18, 77]), np.append(item, [4, 9, 3, 0])
    return LikeLog(users, items, np.ones(len(users), bool), at(np.append(time, 200 + np.arange(4))))


@pytest.fixture(scope="module")
def train(camps):
    return camps.only(np.arange(len(camps) - 4))


LAST = [70, 71, 72, 73]  # users 0, 1, 18 and 77


# ---------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", RUNGS)
def test_a_rung_scores_all_items_of_each_request(camps, train, name):
    rung = RUNGS[name]
    assert rung.fit(train) is rung
    scores = rung.score(camps, LAST)
    assert scores.shape == (4, 10) and np.isfinite(scores).all()
    assert rung.score(camps, []).shape == (0, 10)


@pytest.mark.parametrize("name", RUNGS)
def test_a_rung_gives_the_same_scores_again(camps, train, name):
    first, second = (RUNGS[name].fit(train).score(camps, LAST) for _ in range(2))
    assert (first == second).all()


@pytest.mark.parametrize("name", LEARNING)
def test_a_rung_that_was_not_fitted_says_so(camps, name):
    required = {"new": [np.eye(10)], "fallback": [ItemKNN(), Popular()]}
    with pytest.raises(NotFittedError, match=r"call fit\(log\) first"):
        type(RUNGS[name])(*required.get(name, [])).score(camps, LAST)


@pytest.mark.parametrize("name", LEARNING)
def test_a_log_with_other_items_is_refused(camps, train, name):
    other = LikeLog([1, 1], [5, 6], [1, 1], at([0, 1]))
    rung = RUNGS[name].fit(train)
    with pytest.raises(ValueError, match=r"log\.only"):
        rung.score(other, [1])


@pytest.mark.parametrize("name", [name for name in RUNGS if name != "recent"])
def test_scores_depend_on_the_training_log_and_the_past_of_the_request_alone(camps, train, name):
    """Rows that come after the request, of this user or of others, change nothing."""
    users, items = np.append(camps.users, [0, 5, 18]), np.append(camps.items, [8, 8, 9])
    minutes = (camps.time - camps.time[0]) / np.timedelta64(1, "m")
    longer = LikeLog(users, items, np.ones(len(users), bool), at(np.append(minutes, [300, 301, 302])))
    rung = RUNGS[name].fit(train)
    assert (rung.score(longer, LAST) == rung.score(camps, LAST)).all()
    assert longer.n_items == 10


# ---------------------------------------------------------------- rungs


def test_the_constant_order_is_a_permutation_that_everybody_gets(camps, train):
    scores = Constant(seed=1).fit(train).score(camps, LAST)
    assert (scores == scores[0]).all() and sorted(scores[0]) == list(range(1, 11))
    assert (scores != Constant(seed=2).fit(train).score(camps, LAST)).any()


def test_popular_counts_the_users_of_the_training_log(camps, train):
    assert Popular().fit(train).score(camps, [70]).tolist() == [[10, 10, 10, 5, 0, 10, 10, 10, 5, 0]]


def test_recently_popular_counts_the_window_and_stays_fresh(camps, train):
    scores = PopularRecent("2min").fit(train).score(camps, [72])
    assert scores.tolist() == [[0, 0, 0, 0, 1, 0, 0, 0, 0, 1]], "items that the training log does not know"


def test_neighbors_are_added_up_and_shrunk(camps, train):
    likes = train.likes(len(train))
    both, cosine = (likes.T @ likes).toarray(), liked_together(likes).toarray()
    similarity = cosine * both / (both + 7)
    history = camps.history(LAST, last=2).toarray()
    scores = ItemKNN(shrink=7, last=2).fit(train).score(camps, LAST)
    np.testing.assert_allclose(scores, history @ similarity, rtol=1e-5)
    unshrunk = ItemKNN(shrink=0, last=2).fit(train).score(camps, LAST)
    np.testing.assert_allclose(unshrunk, history @ cosine, rtol=1e-5)


@pytest.mark.parametrize("name", PERSONAL)
def test_a_personal_rung_finds_the_missing_item_of_the_camp(camps, train, name):
    """User 18 is of the even camp and has not seen item 3."""
    rung = RUNGS[name].fit(train)
    allowed = camps.seen([72]).toarray() == 0
    assert top_k(rung.score(camps, [72]), 1, allowed).tolist() == [[3]]


@pytest.mark.parametrize("name", PERSONAL)
def test_a_personal_rung_has_nothing_for_a_user_without_likes(camps, train, name):
    assert (RUNGS[name].fit(train).score(camps, [73]) == 0).all()


def test_factors_are_the_best_approximation_of_their_rank(camps, train):
    likes = train.likes(len(train)).toarray()
    vectors = MatrixFactorization(dims=2).fit(train).item_vectors()
    left, size, right = np.linalg.svd(likes, full_matrices=False)
    np.testing.assert_allclose(likes @ vectors @ vectors.T, left[:, :2] * size[:2] @ right[:2], atol=1e-5)


def test_factors_fold_in_the_last_likes(camps, train):
    model = MatrixFactorization(dims=2, last=1).fit(train)
    vectors = model.item_vectors()
    np.testing.assert_allclose(model.score(camps, [72])[0], vectors @ vectors[2], atol=1e-6)
    np.testing.assert_allclose(model.user_vectors(camps.history([72])), [vectors[:3].sum(axis=0)], atol=1e-6)


def test_factors_are_the_taste_vectors_of_their_seed(camps, train):
    vectors = [MatrixFactorization(2, seed=seed).fit(train).item_vectors() for seed in (0, 3)]
    assert (vectors[1] == taste_vectors(train.likes(len(train)), 2, seed=3)).all()
    assert (vectors[0] != vectors[1]).any()


def test_factors_made_of_their_arrays_give_the_same_scores(camps, train):
    model = MatrixFactorization(dims=2, seed=3).fit(train)
    again = MatrixFactorization.from_arrays(model.arrays(), dims=2, seed=3)
    assert (again.score(camps, LAST) == model.score(camps, LAST)).all()
    with pytest.raises(ValueError, match="at most 1"):
        MatrixFactorization.from_arrays(model.arrays(), dims=1)
    with pytest.raises(ValueError, match="Expected the arrays vectors"):
        MatrixFactorization.from_arrays({"items": model.item_vectors()}, dims=2)
    with pytest.raises(NotFittedError, match="call fit"):
        MatrixFactorization().arrays()


def test_a_log_of_few_items_has_as_many_dimensions(camps, train):
    model = MatrixFactorization(dims=32).fit(train)
    assert model.item_vectors().shape == (10, 10)
    assert MatrixFactorization.from_arrays(model.arrays()).item_vectors().shape == (10, 10)


def test_towers_give_probabilities_and_learn_from_likes_after_a_like(camps, train):
    rung = TwoTowerRecommender(SMALL_TOWER).fit(train)
    assert rung.score(camps, LAST[:3]).sum(axis=1) == pytest.approx(1, abs=1e-5)
    rows = np.flatnonzero(train.history(np.arange(len(train))).getnnz(axis=1))
    expected = TwoTower(dims=4, epochs=30, batch=16).fit(train.history(rows), train.items[rows])
    assert (rung.fitted.item_vectors() == expected.item_vectors()).all()
    assert not hasattr(SMALL_TOWER, "_items"), "the tower that was passed stays as it was"


def test_towers_need_a_like_after_a_like():
    with pytest.raises(ValueError, match="after another one"):
        TwoTowerRecommender().fit(LikeLog([1, 2, 3, 3], [5, 6, 5, 6], [1, 1, 0, 1], at([0, 1, 2, 3])))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ItemKNN(shrink=-1), "shrink"),
        (lambda: ItemKNN(shrink=np.nan), "shrink"),
        (lambda: ItemKNN(last=0), "last"),
        (lambda: MatrixFactorization(dims=0), "dims"),
        (lambda: MatrixFactorization(last=0), "last"),
        (lambda: WithFallback(ItemKNN(), Popular(), min_likes=0), "min_likes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---------------------------------------------------------------- cold start


def test_users_with_few_likes_get_the_fallback(camps, train):
    for min_likes, falls_back in [(1, [False, False, True]), (4, [False, True, True])]:
        rung = WithFallback(ItemKNN(), Popular(), min_likes).fit(train)
        scores = rung.score(camps, [70, 72, 73])  # of users with 4, 3 and no likes before
        for row, request in enumerate([70, 72, 73]):
            source = rung.fallback if falls_back[row] else rung.rung
            assert (scores[row] == source.score(camps, [request])[0]).all()


def test_warm_items_keep_their_vectors_and_cold_ones_follow_their_content():
    rng = np.random.default_rng(0)
    content = rng.normal(size=(300, 4))
    vectors = content @ rng.normal(size=(4, 3)) + 0.01 * rng.normal(size=(300, 3))
    warm = np.arange(300) < 250
    noisy = np.where(warm[:, None], vectors, 99)
    predicted = predicted_vectors(noisy, content, warm, alpha=0.1)
    assert (predicted[warm] == vectors[warm]).all()
    np.testing.assert_allclose(predicted[~warm], vectors[~warm], atol=0.1)


def test_a_strong_ridge_predicts_the_mean():
    vectors, content = np.array([[1.0], [3.0], [0.0]]), np.array([[0.0], [1.0], [5.0]])
    assert predicted_vectors(vectors, content, [True, True, False], alpha=1e9)[2, 0] == pytest.approx(2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"warm": [True, False, 2]}, "True and False"),
        ({"warm": [False, False, False]}, "fewer likes"),
        ({"warm": [True, False]}, "a flag"),
        ({"content": np.ones((2, 2))}, "row of content"),
        ({"content": np.ones(3)}, "row of content"),
        ({"content": [[1.0], [np.nan], [1.0]]}, "finite"),
    ],
    ids=str,
)
def test_content_that_does_not_fit_is_refused(change, message):
    parts = {"vectors": np.ones((3, 2)), "content": np.ones((3, 2)), "warm": [True, True, False]}
    with pytest.raises(ValueError, match=message):
        predicted_vectors(**(parts | change))


def test_new_items_follow_their_content_and_others_are_left_to_others(camps, train):
    content = np.repeat(np.eye(2), 5, axis=0)  # the camps
    scores = NewItems(content, MatrixFactorization(dims=2)).fit(train).score(camps, LAST)
    assert np.delete(scores, [4, 9], axis=1).tolist() == np.zeros((4, 8)).tolist()
    assert scores[0, 4] > scores[0, 9] + 0.1 and scores[1, 9] > scores[1, 4] + 0.1


def test_new_items_are_predicted_from_items_with_enough_likes(camps, train):
    """Items 3 and 8 have five likes each, and here the rare ones have a tag of their own."""
    content = np.column_stack([np.arange(10) % 5 < 3, np.arange(10) % 5 >= 3]).astype(float)
    few, many = (
        NewItems(content, MatrixFactorization(dims=2), min_likes).fit(train).score(camps, [70])[0, 4]
        for min_likes in (5, 6)
    )
    assert few < many, "with the rare ones left out the tag says nothing, and the mean is predicted"


def test_the_named_tag_is_most_above_its_usual_share_without_the_request():
    users, items = [1, 1, 1, 2, 2, 3], [0, 1, 2, 0, 0, 2]
    log = LikeLog(users, items, np.ones(6, bool), at(np.arange(6)))
    tags = np.array([[1, 0], [1, 1], [0, 1]])
    assert list(named_tags(log, [0, 2, 3, 5], tags)) == [1, 0, 0, -1]
    with pytest.raises(ValueError, match="of the 3 items"):
        named_tags(log, [0], tags[:2])


def test_a_tag_that_everything_has_is_not_named():
    log = LikeLog([1, 1, 2, 2], [0, 1, 2, 3], np.ones(4, bool), at(np.arange(4)))
    tags = np.array([[1, 0, 1], [1, 0, 1], [1, 1, 0], [1, 1, 0]])
    assert list(named_tags(log, [0, 2], tags)) == [2, 1]


def test_the_named_tag_ignores_dislikes():
    log = LikeLog([1, 1, 1, 1, 2, 2], [0, 1, 1, 1, 1, 0], [1, 0, 0, 0, 1, 1], at(np.arange(6)))
    assert list(named_tags(log, [4], np.eye(2))) == [0]
    assert list(named_tags(log, [0], np.eye(2))) == [-1]


def test_a_named_tag_keeps_its_items_alone():
    tags, scores = np.array([[1, 0], [0, 1], [1, 1]]), np.array([[5, 6, 7]] * 3)
    assert of_named_tag(scores, tags, [0, 1, -1]).tolist() == [[5, 0, 7], [0, 6, 7], [5, 6, 7]]


@pytest.mark.parametrize("named", [[0, 1], [0, 1, 2], [0, 1, -2]], ids=str)
def test_a_tag_that_does_not_exist_is_refused(named):
    with pytest.raises(ValueError, match=r"named must hold|a row a name"):
        of_named_tag(np.ones((3, 3)), np.ones((3, 2)), named)


# ---------------------------------------------------------------- quotas

LISTS = st.lists(st.lists(st.integers(0, 12), max_size=6, unique=True), min_size=1, max_size=3)


def padded(items, length=6):
    return np.array([items + [-1] * (length - len(items))])


@given(LISTS, st.data())
def test_quotas_are_kept_and_what_is_left_is_shared(lists, data):
    names = "abc"[: len(lists)]
    quota = {name: data.draw(st.integers(0, 4)) for name in names}
    k = data.draw(st.integers(max(1, sum(quota.values())), 14))
    shown = quotas({name: padded(items) for name, items in zip(names, lists, strict=True)}, quota, k)
    assert shown.shape == (1, k)
    items = [item for item in shown[0] if item >= 0]
    union = set().union(*lists)
    assert len(items) == len(set(items)) == min(k, len(union)) and set(items) <= union
    assert list(shown[0][len(items) :]) == [-1] * (k - len(items))
    owned = set()
    for name, own in zip(names, lists, strict=True):
        mine = [item for item in own if item not in owned][: quota[name]]
        owned |= set(mine)
    assert owned <= set(items) and set(items[: len(owned)]) == owned


def test_sources_take_turns_and_a_duplicate_is_not_counted_twice():
    lists = {"a": [[1, 2, 3, 4]], "b": [[1, 5, 6, 7]]}
    assert quotas(lists, {"a": 2, "b": 2}, 4).tolist() == [[1, 5, 2, 6]]
    assert quotas(lists, {"b": 1, "a": 3}, 4).tolist() == [[1, 2, 3, 4]]


def test_a_source_with_too_few_gives_its_places_to_the_others_in_turn():
    lists = {"a": [[1, -1]], "b": [[2, 3, 4]], "c": [[5, 6, 7]]}
    assert quotas(lists, {"a": 3, "b": 1, "c": 1}, 5).tolist() == [[1, 2, 5, 3, 6]]


def test_each_row_has_its_own_duplicates():
    lists = {"a": [[1, 2], [3, 4]], "b": [[1, 3], [1, 3]]}
    assert quotas(lists, {"a": 1, "b": 1}, 2).tolist() == [[1, 3], [3, 1]]


@pytest.mark.parametrize(
    ("quota", "k", "message"),
    [
        ({"a": 2}, 4, "Each source needs"),
        ({"a": 2, "c": 1}, 4, "Each source needs"),
        ({"a": 3, "b": 2}, 4, "sum to 5"),
        ({"a": -1, "b": 2}, 4, "quota of a"),
        ({"a": 0.5, "b": 2}, 4, "quota of a"),
        ({"a": 0, "b": 0}, 0, "k of at least 1"),
    ],
    ids=str,
)
def test_quotas_that_make_no_sense_are_refused(quota, k, message):
    with pytest.raises(ValueError, match=message):
        quotas({"a": [[1, 2]], "b": [[3, 4]]}, quota, k)


def test_no_source_and_unlike_rows_are_refused():
    with pytest.raises(ValueError, match="Each source needs"):
        quotas({}, {}, 3)
    with pytest.raises(ValueError, match="same rows"):
        quotas({"a": [[1]], "b": [[1], [2]]}, {"a": 1, "b": 1}, 3)


# ---------------------------------------------------------------- splits


@pytest.fixture(scope="module")
def log():
    ratings = load_movielens_ratings()
    return LikeLog(ratings.user_id, ratings.movie_id, ratings.rating >= 4, ratings.rated_at)


def cells(log, rows=slice(None)):
    return set(zip(log.users[rows], log.items[rows], strict=True))


def test_the_last_out_is_the_last_like_and_its_future_is_hidden(log):
    split = leave_last_out(log, 300)
    assert split.log is log and len(np.unique(log.users[split.rows])) == 300
    hidden = []
    for row in split.rows:
        later = np.flatnonzero(log.users[row + 1 :] == log.users[row]) + row + 1
        assert log.liked[row] and not log.liked[later].any() and log.likes_before[row] >= 5
        hidden += [row, *later]
    kept = np.setdiff1d(np.arange(len(log)), hidden)
    assert (split.train.items == log.items[kept]).all() and (split.train.users == log.users[kept]).all()
    assert split.train.time[-1] > log.time[split.rows[0]], "the models know the future of others"


def test_a_like_counts_as_the_last_only_with_enough_before():
    log = LikeLog([1, 1, 1, 2, 2], [5, 6, 7, 5, 6], np.ones(5, bool), at(np.arange(5)))
    assert list(leave_last_out(log, 1, min_likes=2).rows) == [2]
    for size in (0, 2):
        with pytest.raises(ValueError, match="1 users have a like with 2 likes before"):
            leave_last_out(log, size, min_likes=2)


def test_a_global_split_learns_before_the_date_and_asks_from_it_on(log):
    split = global_time_split(log, "2012-06-09", 500)
    date = np.datetime64("2012-06-09")
    assert split.train.time.max() < date <= log.time[split.rows].min()
    assert len(split.train) == np.sum(log.time < date)
    requests = split.requests()
    assert requests.new_user.mean() > 0.7 and (requests.likes_before == 0).any(), "cold users are included"
    assert (global_time_split(log, "2012-06-09", 500, min_likes=5).requests().likes_before > 0).all()


def test_a_row_at_the_very_moment_of_the_split_is_asked(camps):
    split = global_time_split(camps, camps.time[72], 2)
    assert list(split.rows) == [72, 73] and len(split.train) == 72


@pytest.mark.parametrize(("date", "message"), [("1990-01-01", "no like"), ("2030-01-01", "Only 0 rows")])
def test_a_date_outside_of_the_log_is_refused(log, date, message):
    with pytest.raises(ValueError, match=message):
        global_time_split(log, date, 5)


def test_a_random_split_pretends_that_its_requests_come_last(log):
    split = random_split(log, 500)
    assert len(split.rows) == 500 and len(split.train) == len(log) - 500
    asked = cells(split.log, split.rows)
    assert cells(split.train) == cells(log) - asked
    assert asked == cells(log, log.requests(0, len(log), 500))
    beginners = random_split(log, 500, min_likes=0)
    assert cells(beginners.log, beginners.rows) == cells(log, log.requests(0, len(log), 500, min_likes=0))
    row = split.rows[0]
    mine = split.train.users == split.log.users[row]
    assert split.log.seen([row]).sum() == mine.sum(), "all of the user's training rows, also later ones"


def test_splits_are_drawn_by_their_seed(log):
    for draw in (
        lambda seed: leave_last_out(log, 50, seed=seed).requests(),
        lambda seed: random_split(log, 50, seed=seed).requests(),
        lambda seed: global_time_split(log, "2012-06-09", 50, seed=seed).requests(),
    ):
        pd.testing.assert_frame_equal(draw(1), draw(1))
        assert draw(1)["item"].tolist() != draw(2)["item"].tolist()


def test_requests_say_what_is_new(camps, train):
    table = Split(train, camps, np.array(LAST)).requests()
    assert table["request"].tolist() == LAST and table["user"].tolist() == [0, 1, 18, 77]
    assert table["item"].tolist() == [4, 9, 3, 0]
    assert table["likes_before"].tolist() == [4, 4, 3, 0]
    long = LikeLog(np.ones(40), np.arange(40), np.ones(40), at(np.arange(40)))
    assert Split(long, long, np.array([39])).requests()["likes_before"].tolist() == [39]
    assert table["new_user"].tolist() == [False, False, False, True]
    assert table["new_item"].tolist() == [True, True, False, False]


def test_an_item_that_was_only_disliked_is_new():
    log = LikeLog([1, 1, 2], [5, 6, 5], [0, 1, 1], at([0, 1, 2]))
    assert Split(log.only([0, 1]), log, np.array([2])).requests().new_item.tolist() == [True]


# ---------------------------------------------------------------- the ladder


def test_the_ladder_has_a_row_for_each_request_and_rung(camps, train):
    split = Split(train, camps, np.array(LAST))
    table = ladder(split, {"popular": Popular(), "recent": PopularRecent("1min")}, 2)
    assert table["rung"].tolist() == ["popular"] * 4 + ["recent"] * 4
    assert table["request"].tolist() == LAST * 2
    # Without what they saw: 0 and 1 get 5, 6 and 0, 1; user 18 gets 5, 6; user 77 gets 0, 1.
    assert table["rank"].tolist() == [NOT_FOUND] * 3 + [0] + [NOT_FOUND] * 4
    assert table["hit"].tolist() == [0, 0, 0, 1, 0, 0, 0, 0]


def test_what_was_rated_before_is_not_shown(camps, train):
    class All(Constant):
        def score(self, log, rows):
            return np.tile(np.arange(10, 0, -1.0), (len(rows), 1))

    ranks = ladder(Split(train, camps, np.array(LAST)), {"all": All()}, 10)["rank"]
    assert ranks.tolist() == [0, 5, 0, 0], "0 to 3 of the first user are left out, 5 to 8 of the second"


def test_a_ladder_without_a_rung_is_refused(camps, train):
    with pytest.raises(ValueError, match="at least one recommender"):
        ladder(Split(train, camps, np.array(LAST)), {}, 5)


def test_scores_that_are_no_ranking_are_refused(camps, train):
    class Broken(Constant):
        def score(self, log, rows):
            return np.full((len(rows), 10), np.nan)

    with pytest.raises(ValueError, match="NaN"):
        ladder(Split(train, camps, np.array(LAST)), {"broken": Broken()}, 5)


def difference(table, better, worse):
    """The interval of the difference of two rungs, over people."""
    hits = {name: rows.set_index("request") for name, rows in table.groupby("rung")}
    gap = hits[better].hit - hits[worse].hit
    return mean_interval(gap, unit=hits[better].user)


def test_a_random_split_prefers_the_popular_and_time_the_fresh_on_real_ratings(log):
    rungs = {"popular": Popular(), "recent": PopularRecent(), "factors": MatrixFactorization()}
    random = ladder(random_split(log, 800), rungs, 100)
    assert difference(random, "popular", "recent").low > 0
    assert difference(random, "factors", "recent").low > 0.1
    time = ladder(global_time_split(log, log.time[int(0.8 * len(log))], 800, min_likes=5), rungs, 100)
    assert difference(time, "recent", "popular").low > 0
    assert difference(time, "factors", "recent").high < 0.1


def test_predicted_vectors_find_new_items_better_than_chance_on_real_ratings(log):
    films = load_movielens_films().set_index("movie_id").loc[log.item_ids]
    decade = pd.get_dummies(films.year.astype(float) // 10)
    content = np.hstack([films.genres.fillna("").str.get_dummies("|"), decade]).astype(float)
    split = global_time_split(log, log.time[int(0.8 * len(log))], 800, min_likes=5)
    table = ladder(split, {"predicted": NewItems(content), "factors": MatrixFactorization()}, 100)
    new = table[table.new_item]
    assert (new[new.rung == "factors"].hit == 0).all(), "without a like there is no vector"
    found = new[new.rung == "predicted"]
    unborn = log.n_items - len(np.unique(split.train.items[split.train.liked]))
    assert mean_interval(found.hit, unit=found.user).low > 2 * 100 / unborn
