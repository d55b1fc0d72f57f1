"""The large index packs codes as faiss does, refines exactly, and nears exact search with more probes."""

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.catalog import Catalog
from helpers.large_index import (
    LargeIndex,
    assignment_rate,
    exact_search,
    for_each_component,
    long_ids,
    pack,
    quantized,
    top,
)

N, K = 30_000, 50


@pytest.fixture(scope="module")
def catalog():
    return Catalog(N)


@pytest.fixture(scope="module")
def queries(catalog):
    return catalog.queries(40, seed=1)


@pytest.fixture(scope="module")
def truth(catalog, queries):
    return np.argsort(-queries @ catalog.vectors().T, axis=1, kind="stable")[:, :K]


@pytest.fixture(scope="module")
def index(catalog):
    return LargeIndex().fit(catalog)


def recall(found, truth):
    return np.mean([np.isin(best, ids).mean() for best, ids in zip(truth, found, strict=True)])


def searched(index, queries, nprobe, shortlist):
    index.nprobe, index.shortlist = nprobe, shortlist
    return index.search(queries, K)


# ---------------------------------------------------------------- codes


@settings(max_examples=20, deadline=None)
@given(n=st.integers(1, 100), half=st.integers(1, 16), seed=st.integers(0, 9))
def test_codes_are_packed_as_faiss_packs_them(n, half, seed):
    codes = np.random.default_rng(seed).integers(16, size=(n, 2 * half), dtype="uint8")
    coder = faiss.IndexPQFastScan(2 * half, 2 * half, 4)
    faiss.copy_array_to_vector(np.tile(np.arange(16, dtype="float32"), 2 * half), coder.pq.centroids)
    coder.is_trained = True
    coder.add(codes.astype("float32"))
    packed = pack(codes)
    np.testing.assert_array_equal(packed.ravel(), faiss.rev_swig_ptr(coder.codes.get(), packed.size))


def test_numbers_are_rounded_to_the_nearest_of_sixteen_levels():
    values = np.array([[-100.0], [-1.1], [-0.9], [0.1], [2.6], [100]])
    np.testing.assert_array_equal(quantized(values, np.array([2.0]))[:, 0], [0, 7, 7, 8, 9, 15])


def test_the_sample_holds_longer_vectors_than_the_catalog(catalog):
    norms = np.linalg.norm(catalog.vectors(), axis=1)
    assert norms[long_ids(catalog, 0)].min() > np.quantile(norms, 0.95)


# ---------------------------------------------------------------- search


def test_all_probes_and_a_long_shortlist_find_nearly_all(index, queries, truth):
    ids, scores = searched(index, queries, index.catalog.n_components, 2_000)
    assert ids.shape == scores.shape == (40, K) and ids.dtype == np.int64 and scores.dtype == np.float32
    assert recall(ids, truth) > 0.999


def test_more_probes_and_a_longer_shortlist_find_more(index, queries, truth):
    by_probes = [recall(searched(index, queries, nprobe, 2_000)[0], truth) for nprobe in (4, 16, 64)]
    assert by_probes[0] + 0.1 < by_probes[1] < by_probes[2] - 0.1
    by_shortlist = [recall(searched(index, queries, 1_024, shortlist)[0], truth) for shortlist in (K, 200)]
    assert by_shortlist[0] + 0.02 < by_shortlist[1]


def test_the_scores_are_the_exact_inner_products_best_first(index, queries):
    ids, scores = searched(index, queries, 64, 500)
    exact = np.einsum("qd,qkd->qk", queries, index.catalog.vectors(ids))
    np.testing.assert_allclose(scores, exact, rtol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == K for row in ids)


def test_one_query_is_answered_as_among_many(index, queries):
    ids, scores = searched(index, queries, 64, 500)
    one, score = index.search(queries[7], K)
    np.testing.assert_array_equal(one, ids[7])
    np.testing.assert_allclose(score, scores[7], rtol=1e-5)


def test_what_is_missing_is_marked(index, queries):
    index.nprobe, index.shortlist = 1, 3_000
    ids, scores = index.search(queries, 3_000)
    assert ((ids == -1) == np.isneginf(scores)).all()
    assert (ids[:, 0] >= 0).any() and (ids[:, -1] == -1).all()


def test_a_search_leaves_the_threads_of_faiss_as_they_were(index, queries):
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(2)
    try:
        searched(index, queries, 4, K)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_the_bytes_are_counted(index):
    lists = [len(index.catalog.component_ids(c)) for c in range(index.catalog.n_components)]
    assert sum(lists) == N
    assert index.nbytes == sum(256 * -(-n // 32) + 8 * n for n in lists) + 16 * 4 * len(lists)


def test_the_same_seed_gives_the_same_index(catalog, index, queries):
    again = LargeIndex().fit(catalog)
    for found, expected in zip(
        searched(again, queries, 64, 500), searched(index, queries, 64, 500), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- the whole catalog


def test_exact_search_finds_what_brute_force_finds(catalog, queries, truth):
    ids, scores = exact_search(catalog, queries, K)
    np.testing.assert_array_equal(ids, truth)
    np.testing.assert_allclose(scores[0], catalog.vectors(truth[0]) @ queries[0], rtol=1e-5)


def test_exact_search_cuts_large_components_in_parts(monkeypatch, catalog, queries, truth):
    monkeypatch.setattr("helpers.large_index.PART", 64)
    np.testing.assert_array_equal(exact_search(catalog, queries, K)[0], truth)


def test_each_component_is_visited_once(catalog):
    seen = []
    for_each_component(catalog, lambda component, ids: seen.append((component, *ids)), "visit", False)
    assert sorted(c for c, *_ in seen) == list(range(catalog.n_components))
    assert sorted(i for _, *ids in seen for i in ids) == list(range(N))


@given(st.lists(st.integers(-5, 5), min_size=1, max_size=20), st.integers(1, 25))
def test_top_gives_the_highest_scores(scores, k):
    ids, best = top(np.arange(len(scores)), np.array(scores, dtype="float32"), k)
    assert best.tolist() == sorted(scores, reverse=True)[:k]
    assert [scores[i] for i in ids] == best.tolist() and len(set(ids)) == len(ids)


def test_the_assignment_rate_is_a_speed(catalog):
    assert 0 < assignment_rate(catalog, 256) < np.inf


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("name", ["directions", "nprobe", "shortlist"])
def test_a_parameter_without_sense_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be a whole number"):
        LargeIndex(**{name: 0})


@pytest.mark.parametrize("directions", [3, 66])
def test_directions_must_be_even_and_not_too_many(catalog, directions):
    with pytest.raises(ValueError, match="directions must be even and at most 64"):
        LargeIndex(directions).fit(catalog)


def test_a_catalog_without_components_is_refused():
    with pytest.raises(ValueError, match="at least 2 components"):
        LargeIndex().fit(Catalog(1_000, spread="uniform"))


def test_a_search_that_does_not_fit_is_refused(index, queries):
    index.shortlist = 100
    with pytest.raises(ValueError, match="k, for a shortlist of 100, must be"):
        index.search(queries, 101)
    with pytest.raises(ValueError, match="queries have 63 dimensions, the vectors 64"):
        index.search(queries[:, 1:], 10)
