"""A row of the catalog is a function of its id, and the truth rewards a ranker that sees features."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import HistGradientBoostingClassifier

from helpers.catalog import FEATURES, SPREADS, Catalog

N = 20_000


@pytest.fixture(scope="module", params=SPREADS)
def catalog(request):
    return Catalog(N, spread=request.param)


@pytest.fixture(scope="module")
def mixture():
    return Catalog(N)


@settings(max_examples=25, deadline=None)
@given(ids=st.lists(st.integers(0, N - 1), min_size=1, max_size=40), spread=st.sampled_from(SPREADS))
def test_a_row_has_the_same_bits_whatever_is_asked_beside_it(ids, spread):
    again = Catalog(N, spread=spread)
    for table in (again.vectors, again.features):
        together = table(ids)
        assert together.dtype == np.float32
        np.testing.assert_array_equal(together, np.array([table([i])[0] for i in ids]))
        np.testing.assert_array_equal(together, table(np.arange(N))[ids])


def test_none_means_all_and_the_shape_of_ids_is_kept(catalog):
    np.testing.assert_array_equal(catalog.vectors(), catalog.vectors(np.arange(N)))
    assert len(catalog) == N
    assert catalog.vectors([[1, 2, 3], [4, 5, 6]]).shape == (2, 3, 64)
    assert catalog.features([[1, 2, 3], [4, 5, 6]]).shape == (2, 3, len(catalog.feature_names))
    assert catalog.vectors(np.array([], dtype=int)).shape == (0, 64)


def test_another_seed_gives_other_rows_and_one_id_another_row_than_the_next(catalog):
    assert (Catalog(N, seed=1, spread=catalog.spread).vectors([5]) != catalog.vectors([5])).all()
    assert len(np.unique(catalog.vectors(), axis=0)) == N


def test_the_rows_of_a_billion_videos_can_be_had_in_little_memory():
    tracemalloc.start()
    catalog = Catalog(10**9)
    rows = catalog.vectors([0, 10**9 - 1])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert catalog.n_components == 65_536
    assert rows.shape == (2, 64) and np.isfinite(rows).all()
    assert peak < 50e6


# ---------------------------------------------------------------- components


def test_the_components_share_out_the_ids(catalog):
    ranges = [catalog.component_ids(c) for c in range(catalog.n_components)]
    np.testing.assert_array_equal(np.concatenate([np.asarray(r, dtype=int) for r in ranges]), np.arange(N))
    numbers = np.repeat(np.arange(catalog.n_components), [len(r) for r in ranges])
    np.testing.assert_array_equal(catalog.component_of(np.arange(N)), numbers)


def test_the_sizes_of_components_follow_the_power_law():
    catalog = Catalog(10**8)
    sizes = [len(catalog.component_ids(c)) for c in (0, 99, 9_999)]
    np.testing.assert_allclose(sizes, sizes[0] * np.array([1, 1 / 10, 1 / 100]), rtol=1e-3)


def test_a_center_is_the_mean_of_a_large_component():
    catalog = Catalog(10**9)
    rows = catalog.vectors(catalog.component_ids(0)[:50_000])
    assert np.abs(rows.mean(0) - catalog.centers[0]).max() < 5 * rows.std(0).max() / np.sqrt(50_000)


def test_mixture_vectors_lie_nearer_to_their_own_center(mixture):
    rows, own = mixture.vectors(), mixture.centers[mixture.component_of(np.arange(N))]
    other = np.roll(own, N // 2, axis=0)
    nearer = np.linalg.norm(rows - own, axis=1) < np.linalg.norm(rows - other, axis=1)
    assert nearer.mean() > 0.99
    assert np.linalg.matrix_rank(rows[:2_000], tol=1e-2) == 16


def test_uniform_vectors_are_independent_directions():
    rows = Catalog(N, spread="uniform").vectors()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    covariance = 64 * rows.T @ rows / N
    np.testing.assert_allclose(covariance, np.eye(64), atol=6 * np.sqrt(2 / N))


# ---------------------------------------------------------------- queries


def test_queries_are_unit_vectors_that_the_seed_decides(catalog):
    queries = catalog.queries(50, seed=3)
    assert queries.shape == (50, 64) and queries.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(queries, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(queries, catalog.queries(50, seed=3))
    assert (queries != catalog.queries(50, seed=4)).all()


def test_users_of_a_mixture_have_a_few_interests(mixture):
    cosines = mixture.queries(500) @ (mixture.centers / np.linalg.norm(mixture.centers, axis=1)[:, None]).T
    noise = np.random.default_rng(0).standard_normal((500, 64)).astype("float32")
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    assert np.median(cosines.max(1)) > 0.8


def test_popular_videos_are_found_by_many_users(mixture):
    rows = mixture.vectors()
    found = np.argsort(-mixture.queries(500) @ rows.T, axis=1)[:, :20]
    norms = np.linalg.norm(rows, axis=1)
    assert norms[found].mean() > 1.3 * norms.mean()
    views = mixture.features(np.arange(N))[:, mixture.feature_names.index("log_views_7d")]
    assert np.corrcoef(views, np.log(norms))[0, 1] > 0.4


# ---------------------------------------------------------------- features and truth


def test_each_feature_has_its_distribution(mixture):
    table = mixture.features(np.arange(N))
    assert np.isfinite(table).all()
    for column, (name, distribution) in zip(table.T, FEATURES.items(), strict=False):
        np.testing.assert_allclose(np.median(column), distribution.median(), rtol=0.05, err_msg=name)
    correlation = np.corrcoef(table[:, : len(FEATURES)].argsort(0).argsort(0), rowvar=False)
    assert np.abs(correlation - np.eye(len(FEATURES))).max() < 5 / np.sqrt(N)


def test_creators_own_twenty_videos(mixture):
    assert set(np.bincount(mixture.creators(np.arange(N)))) == {20}


def test_the_truth_is_the_same_for_one_user_and_for_many(mixture):
    queries, ids = mixture.queries(3), np.arange(30).reshape(3, 10)
    truth = mixture.true_click_probability(queries, ids)
    assert truth.shape == (3, 10) and truth.dtype == np.float64
    assert ((truth > 0) & (truth < 1)).all()
    np.testing.assert_allclose(truth[1], mixture.true_click_probability(queries[1], ids[1]), rtol=1e-5)


def test_a_ranker_with_features_beats_the_inner_product_and_does_not_reach_the_truth(mixture):
    queries, rows = mixture.queries(300), mixture.vectors()
    ids = np.argsort(-queries @ rows.T, axis=1)[:, :200]
    fit = np.take_along_axis(queries @ rows.T, ids, axis=1)
    truth = mixture.true_click_probability(queries, ids)
    clicked = np.random.default_rng(0).random(truth.shape) < truth
    seen = np.concatenate([fit[..., None], mixture.features(ids)], axis=-1)
    model = HistGradientBoostingClassifier(max_iter=60, random_state=0)
    model.fit(seen[:200].reshape(-1, seen.shape[-1]), clicked[:200].ravel())
    scores = model.predict_proba(seen[200:].reshape(-1, seen.shape[-1]))[:, 1].reshape(100, -1)

    def reached(scores):
        best = np.argsort(-scores, axis=1)[:, :10]
        return np.take_along_axis(truth[200:], best, axis=1).mean()

    assert 1.2 * reached(fit[200:]) < reached(scores) < 0.95 * reached(truth[200:])


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be a whole number"),
        ({"n": 10, "dims": 0}, "dims must be a whole number"),
        ({"n": 10, "seed": -1}, "seed must be a whole number"),
        ({"n": 10, "spread": "normal"}, "spread must be one of mixture, uniform"),
    ],
)
def test_a_catalog_without_sense_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Catalog(**arguments)


@pytest.mark.parametrize("ids", [[-1], [N], [0.5], ["a"]])
def test_ids_that_do_not_exist_are_refused(mixture, ids):
    for ask in (mixture.vectors, mixture.features, mixture.creators, mixture.component_of):
        with pytest.raises(ValueError, match="ids must be whole numbers from 0 to 19999"):
            ask(ids)


def test_other_mistakes_are_named(mixture):
    with pytest.raises(ValueError, match="component must be a whole number from 0 to 1,249"):
        mixture.component_ids(1_250)
    with pytest.raises(ValueError, match="n must be a whole number"):
        mixture.queries(0)
    with pytest.raises(ValueError, match="do not fit"):
        mixture.true_click_probability(mixture.queries(2), [1, 2, 3])
