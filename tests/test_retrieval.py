"""Indexes: exact search equals a plain sort, the others come near, a saved index is whole or refused."""

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.stats import ortho_group
from sklearn.exceptions import NotFittedError

from helpers.retrieval import (
    SHELF,
    ExactIndex,
    FaissIndex,
    Index,
    IVFIndex,
    SavedIndexError,
    default_index,
    load_index,
    recall,
    save_index,
)

ROOT = Path(__file__).parents[1]
N, DIMS, K = 4_000, 32, 20


def mixture(n, seed):
    """Clustered vectors of few directions, whose norms differ as popularity does."""
    shape, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centers, directions = shape.normal(size=(200, 8)), shape.normal(size=(8, DIMS))
    latent = centers[rng.integers(200, size=n)] + 0.4 * rng.normal(size=(n, 8))
    return (latent @ directions * np.exp(0.3 * rng.normal(size=(n, 1)))).astype("float32")


VECTORS, QUERIES = mixture(N, seed=1), mixture(100, seed=2)
EXACT = ExactIndex().fit(VECTORS)
TRUTH, TRUE_SCORES = EXACT.search(QUERIES, K)


def small_indexes():
    """One index of each kind, of parameters that suit the small vectors."""
    return [
        ExactIndex(),
        IVFIndex(lists=40, nprobe=8),
        FaissIndex("IVF32,PQ16x4fsr", nprobe=8, shortlist=200),
        FaissIndex("PQ16x4fs", refine="Flat", shortlist=200),
        FaissIndex("IVF32,Flat", nprobe=8, refine=None),
    ]


kinds = pytest.mark.parametrize(
    "index", small_indexes(), ids=lambda index: getattr(index, "factory", type(index).__name__)
)


# ---------------------------------------------------------------- the contract


@kinds
def test_every_index_keeps_the_contract(index):
    assert index.fit(VECTORS) is index
    assert isinstance(index, Index)
    ids, scores = index.search(QUERIES, K)
    assert ids.shape == scores.shape == (len(QUERIES), K)
    assert ids.dtype == np.int64 and scores.dtype == np.float32
    assert (np.diff(scores) <= 0).all()
    assert all(len(set(row)) == K for row in ids.tolist())
    assert recall(ids, TRUTH).estimate > 0.8
    assert len(index) == N and index.bytes_per_vector == index.nbytes / N


@kinds
def test_one_query_gives_one_row_of_what_the_batch_gives(index):
    ids, scores = index.fit(VECTORS).search(QUERIES, K)
    one_ids, one_scores = index.search(QUERIES[3], K)
    assert one_ids.shape == (K,) and set(one_ids) == set(ids[3])
    np.testing.assert_allclose(one_scores, scores[3], rtol=1e-5)


@kinds
def test_scores_are_the_inner_products_of_the_ids(index):
    ids, scores = index.fit(VECTORS).search(QUERIES, K)
    products = np.einsum("qkd,qd->qk", VECTORS[ids], QUERIES)
    np.testing.assert_allclose(scores, products, rtol=0.02)


@kinds
def test_equal_scores_are_in_the_order_of_their_ids(index):
    ids, scores = index.fit(np.tile(VECTORS[:1_000], (2, 1))).search(QUERIES, K)
    tied = np.diff(scores) == 0
    assert tied.any() and (np.diff(ids)[tied] > 0).all()


@kinds
def test_the_same_seed_gives_the_same_ids(index):
    first = index.fit(VECTORS).search(QUERIES, K)
    second = index.fit(VECTORS).search(QUERIES, K)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "make", [lambda seed: IVFIndex(40, 2, seed), lambda seed: FaissIndex("IVF40,Flat", 2, seed=seed)]
)
def test_another_seed_gives_other_lists(make):
    first, second = (make(seed).fit(VECTORS).search(QUERIES, K)[0] for seed in (0, 1))
    assert (first != second).any()


@pytest.mark.parametrize(
    "index",
    [IVFIndex(40, 1), FaissIndex("IVF32,PQ16x4fsr", 1), FaissIndex("IVF32,Flat", 1, refine=None)],
)
def test_what_is_missing_is_marked_at_the_end(index):
    ids, scores = index.fit(VECTORS[:1_000]).search(QUERIES, 500)
    missing = ids == -1
    assert missing.any(axis=1).all() and not missing.all(axis=1).any()
    assert (np.diff(missing.astype(int)) >= 0).all()
    assert np.isneginf(scores[missing]).all() and np.isfinite(scores[~missing]).all()


def test_the_vectors_may_be_whole_numbers_or_of_double_precision():
    ids, _ = ExactIndex().fit([[1, 0], [0, 2]]).search([1.0, 1.0], 2)
    assert ids.tolist() == [1, 0]


# ---------------------------------------------------------------- exact search

small = st.integers(-3, 3).map(float)


@given(st.data())
def test_exact_search_equals_a_plain_sort(data):
    n, q, dims = (data.draw(st.integers(1, top)) for top in (12, 4, 3))
    vectors, queries = (data.draw(arrays("float32", (rows, dims), elements=small)) for rows in (n, q))
    k = data.draw(st.integers(1, n))
    ids, scores = ExactIndex().fit(vectors).search(queries, k)
    for query, row, found in zip(queries, ids, scores, strict=True):
        plain = sorted(range(n), key=lambda i, query=query: (-float(vectors[i] @ query), i))[:k]
        assert row.tolist() == plain
        assert found.tolist() == [float(vectors[i] @ query) for i in plain]


def test_exact_search_in_blocks_equals_exact_search_at_once(monkeypatch):
    monkeypatch.setattr("helpers.retrieval.BLOCK_SCORES", 3 * N)
    ids, scores = EXACT.search(QUERIES, K)
    np.testing.assert_array_equal(ids, TRUTH)
    np.testing.assert_allclose(scores, TRUE_SCORES, rtol=1e-5)


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize(
    "make", [lambda: IVFIndex(40, 40), lambda: FaissIndex("IVF40,Flat", 40, refine=None)]
)
def test_probing_every_list_is_exact_search(make):
    ids, scores = make().fit(VECTORS).search(QUERIES, K)
    np.testing.assert_array_equal(ids, TRUTH)
    np.testing.assert_allclose(scores, TRUE_SCORES, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: IVFIndex(100, 1), lambda: FaissIndex("IVF100,PQ16x4fsr", 1, shortlist=400)]
)
def test_more_probes_find_more(make):
    index, found = make().fit(VECTORS), []
    for index.nprobe in (1, 4, 16):
        found.append(recall(index.search(QUERIES, K)[0], TRUTH))
    assert found[0].high < found[1].low < found[1].high < found[2].low
    assert found[2].estimate > 0.95


def test_a_search_reads_only_the_probed_lists():
    index = IVFIndex(40, 1).fit(VECTORS)
    ids, _ = index.search(QUERIES, N)
    sizes = np.diff(index._starts)
    assert set((ids >= 0).sum(axis=1)) <= set(sizes) and sizes.sum() == N


def test_faiss_clusters_by_distance_and_codes_the_residual():
    by_default = faiss.index_factory(DIMS, "IVF64,PQ8x4fs", faiss.METRIC_INNER_PRODUCT)
    by_default.cp.min_points_per_centroid = 1
    by_default.train(VECTORS)
    by_default.add(VECTORS)
    by_default.nprobe = 8
    ours = FaissIndex("IVF64,PQ8x4fsr", nprobe=8, refine=None).fit(VECTORS)
    default = recall(by_default.search(QUERIES, K)[1], TRUTH)
    assert recall(ours.search(QUERIES, K)[0], TRUTH).low > default.high


def test_the_lists_of_faiss_are_those_of_the_nearest_centers_and_probed_by_inner_product():
    index = FaissIndex("IVF64,Flat", nprobe=1, refine=None).fit(VECTORS)
    centers = index._lists.quantizer.reconstruct_n(0, 64)
    nearest = np.square(VECTORS[:, None] - centers).sum(axis=2).argmin(axis=1)
    ids, _ = index.search(QUERIES, 5)
    probed = (QUERIES @ centers.T).argmax(axis=1)
    assert all(set(nearest[row[row >= 0]]) == {best} for row, best in zip(ids, probed, strict=True))


def test_a_second_look_at_the_shortlist_finds_more():
    short, long = (
        recall(FaissIndex("PQ8x4fs", shortlist=400, refine=refine).fit(VECTORS).search(QUERIES, K)[0], TRUTH)
        for refine in (None, "SQ8")
    )
    assert short.high < long.low


def test_a_longer_shortlist_finds_more():
    index, found = FaissIndex("PQ8x4fs").fit(VECTORS), []
    for index.shortlist in (K, 5 * K, 50 * K):
        found.append(recall(index.search(QUERIES, K)[0], TRUTH).estimate)
    assert found == sorted(set(found))


def test_a_search_uses_its_threads_and_gives_them_back(monkeypatch):
    index, before = FaissIndex("Flat", refine=None, threads=3).fit(VECTORS), faiss.omp_get_max_threads()
    used, search = [], index._index.search

    class Spy:
        def search(self, *arguments, **keywords):
            used.append(faiss.omp_get_max_threads())
            return search(*arguments, **keywords)

    monkeypatch.setattr(index, "_index", Spy())
    index.search(QUERIES, K)
    assert used == [3] and faiss.omp_get_max_threads() == before


def test_a_sample_trains_as_well():
    index = FaissIndex("IVF32,PQ16x4fsr", nprobe=16, train_rows=1_500, shortlist=400).fit(VECTORS)
    assert len(index) == N and recall(index.search(QUERIES, K)[0], TRUTH).estimate > 0.9


def test_a_long_build_shows_its_progress_and_a_short_one_does_not(monkeypatch, capsys):
    FaissIndex("Flat", refine=None).fit(VECTORS)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("helpers.retrieval.LONG", N)
    monkeypatch.setattr("helpers.retrieval.BLOCK_ROWS", N // 4)
    index = FaissIndex("Flat", refine=None).fit(VECTORS)
    assert "4/4" in capsys.readouterr().err
    np.testing.assert_array_equal(index.search(QUERIES, K)[0], TRUTH)


def test_the_memory_is_what_the_codes_take():
    assert EXACT.bytes_per_vector == 4 * DIMS
    assert EXACT.bytes_per_vector < IVFIndex(40, 1).fit(VECTORS).bytes_per_vector < 4 * DIMS + 12
    index = FaissIndex("PQ16x4fs").fit(VECTORS)
    assert index.nbytes == len(faiss.serialize_index(index._index))
    assert DIMS + 8 < index.bytes_per_vector < DIMS + 12


@pytest.mark.parametrize(
    ("arguments", "index"),
    [
        ([1], ExactIndex()),
        ([20_000], ExactIndex()),
        ([20_001, 7, 3], FaissIndex("PQ7x4fs", seed=3)),
        ([200_000], FaissIndex("PQ64x4fs")),
        ([200_001, 32], FaissIndex("IVF1024,PQ32x4fsr", train_rows=51_200)),
        ([1_000_000], FaissIndex("IVF2048,PQ64x4fsr", train_rows=102_400)),
        ([10_000_000], FaissIndex("IVF8192,PQ64x4fsr", train_rows=409_600)),
    ],
)
def test_the_default_index_grows_with_the_catalog(arguments, index):
    chosen = default_index(*arguments)
    assert type(chosen) is type(index) and vars(chosen) == vars(index)


@pytest.mark.parametrize("dims", [5, 32])
def test_the_default_codes_suit_any_number_of_dimensions(dims):
    index = default_index(20_001, dims).fit(VECTORS[:, :dims])
    truth, _ = ExactIndex().fit(VECTORS[:, :dims]).search(QUERIES[:, :dims], K)
    assert recall(index.search(QUERIES[:, :dims], K)[0], truth).estimate > 0.97


# ---------------------------------------------------------------- versions


def test_vectors_of_another_tower_give_the_overlap_of_chance():
    # Of norm 1: long vectors answer the queries of any tower.
    videos = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    rotation = ortho_group.rvs(DIMS, random_state=0)
    first, second = ExactIndex().fit(videos), ExactIndex().fit(videos @ rotation)
    truth, _ = first.search(QUERIES, K)
    assert recall(second.search(QUERIES @ rotation, K)[0], truth).estimate > 0.999
    assert recall(first.search(QUERIES @ rotation, K)[0], truth).high < 3 * K / N


# ---------------------------------------------------------------- recall


def test_recall_is_the_mean_share_of_the_true_best():
    found = recall([[1, 2, 3], [7, -1, -1]], [[3, 2, 1], [7, 8, 9]])
    assert found.estimate == pytest.approx((1 + 1 / 3) / 2)
    assert found.low == pytest.approx(1 / 3) and found.high == 1


def test_recall_at_k_compares_the_first_k_of_both():
    found = [[1, 2, 3], [1, 2, 3]]
    assert recall(found, [[3, 1, 2]] * 2, k=1).estimate == 0
    assert recall(found, [[3, 1, 2]] * 2, k=2).estimate == 0.5
    assert recall(found, [[3, 1], [2, 1]]).estimate == 0.75


@pytest.mark.parametrize(
    ("found", "truth", "k", "message"),
    [
        ([[1]], [[1], [2]], None, "same queries"),
        ([1], [1], None, "same queries"),
        ([[1]], [[1, 2]], None, "k, for these columns"),
        ([[1]], [[1]], 0, "k, for these columns"),
        ([[1]], [[-1]], None, "ExactIndex"),
    ],
)
def test_recall_refuses_what_it_cannot_compare(found, truth, k, message):
    with pytest.raises(ValueError, match=message):
        recall(found, truth, k)


# ---------------------------------------------------------------- bad input


def with_value(value, row=7):
    vectors = VECTORS.astype("float64")
    vectors[row, 3] = value
    return vectors


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (with_value(np.nan), "row 7"),
        (with_value(np.inf), "row 7"),
        (with_value(1e300), "row 7"),
        (np.empty((0, 4)), r"not \(0, 4\)"),
        (np.empty((4, 0)), r"not \(4, 0\)"),
        (np.ones(4), r"not \(4,\)"),
        ([[1, 2], [3]], "equal length"),
        ([["a"]], "real numbers"),
        ([[1j]], "real numbers"),
        ([[None]], "real numbers"),
    ],
)
@pytest.mark.parametrize("index", [ExactIndex(), FaissIndex("Flat")], ids=["exact", "faiss"])
def test_bad_vectors_are_refused(index, vectors, message):
    with pytest.raises(ValueError, match=message):
        index.fit(vectors)


@pytest.mark.parametrize(
    ("queries", "k", "message"),
    [
        (with_value(np.nan)[:9], 5, "queries holds NaN.* row 7"),
        (np.ones(DIMS - 1), 5, f"{DIMS - 1} dimensions, the indexed vectors {DIMS}"),
        (np.ones((2, DIMS + 1)), 5, "query tower"),
        (np.ones((0, DIMS)), 5, "queries must have shape"),
        (["a"] * DIMS, 5, "real numbers"),
        (QUERIES, 0, "k, in an index of 4,000 vectors,"),
        (QUERIES, N + 1, "k, in an index of 4,000 vectors,"),
        (QUERIES, 2.5, "k, in an index of 4,000 vectors,"),
    ],
)
def test_bad_queries_are_refused(queries, k, message):
    with pytest.raises(ValueError, match=message):
        EXACT.search(queries, k)


@kinds
def test_an_index_without_vectors_says_so(index, tmp_path):
    new = type(index)(
        **{name: value for name, value in vars(index).items() if name in index.__dataclass_fields__}
    )
    for use in (
        lambda: new.search(QUERIES, 1),
        lambda: new.nbytes,
        lambda: len(new),
        lambda: save_index(new, tmp_path, "v1"),
    ):
        with pytest.raises(NotFittedError, match="call fit"):
            use()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (IVFIndex(lists=N + 1, nprobe=1), "lists, for 4,000 vectors"),
        (IVFIndex(lists=0, nprobe=1), "lists, for 4,000 vectors"),
        (IVFIndex(lists=10, nprobe=11), "nprobe, for 10 lists"),
        (FaissIndex("IVF10,Flat", nprobe=11), "nprobe, for 10 lists"),
        (FaissIndex("IVF10,Flat", nprobe=0), "nprobe, for 10 lists"),
        (FaissIndex("IVF64,Flat", train_rows=63), "64 lists cannot be learned from 63 vectors"),
        (FaissIndex("Flat", train_rows=0), "train_rows"),
        (FaissIndex("Flat", shortlist=0), "shortlist"),
        (FaissIndex("Flat", threads=0), "threads"),
        (FaissIndex("PQ7x4fs"), "for 32 dimensions: change factory"),
        (FaissIndex("Nonsense"), "cannot build 'Nonsense,Refine"),
        (FaissIndex("IVF10_HNSW8,Flat"), "such as IVF1024"),
    ],
)
def test_bad_parameters_are_refused(index, message):
    with pytest.raises(ValueError, match=message):
        index.fit(VECTORS).search(QUERIES, K)


# ---------------------------------------------------------------- files


@kinds
def test_a_loaded_index_answers_as_the_saved_one(index, tmp_path):
    save_index(index.fit(VECTORS), tmp_path / "new" / "index", "v1")
    loaded = load_index(tmp_path / "new" / "index", "v1")
    assert type(loaded) is type(index) and loaded.shape == (N, DIMS) and loaded.nbytes == index.nbytes
    np.testing.assert_array_equal(loaded.search(QUERIES, K), index.search(QUERIES, K))


def test_an_index_of_another_tower_is_refused(tmp_path):
    save_index(EXACT, tmp_path, "v1")
    with pytest.raises(SavedIndexError, match=r"'v1', not 'v2'.*embed the videos with 'v2'"):
        load_index(tmp_path, "v2")


def test_a_save_replaces_the_old_index_and_leaves_nothing_else(tmp_path):
    save_index(EXACT, tmp_path, "v1")
    (tmp_path / "index-part").write_bytes(b"of a killed writer")
    save_index(ExactIndex().fit(VECTORS[:50]), tmp_path, "v2")
    assert len(load_index(tmp_path, "v2")) == 50
    assert len(list(tmp_path.iterdir())) == 2


def test_the_same_index_may_be_saved_for_a_new_version(tmp_path):
    save_index(EXACT, tmp_path, "v1")
    save_index(EXACT, tmp_path, "v2")
    assert len(load_index(tmp_path, "v2")) == N


def saved_file(directory):
    return next(directory.glob("index-*"))


def test_a_damaged_or_missing_file_is_refused(tmp_path):
    save_index(FaissIndex("IVF32,PQ16x4fsr", nprobe=4).fit(VECTORS), tmp_path, "v1")
    path = saved_file(tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:100], b"", whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]):
        path.write_bytes(damaged)
        with pytest.raises(SavedIndexError, match="damaged"):
            load_index(tmp_path, "v1")
    path.unlink()
    with pytest.raises(SavedIndexError, match="missing"):
        load_index(tmp_path, "v1")


def edited(key, value):
    def edit(text):
        return json.dumps(json.loads(text) | {key: value}).encode()

    return edit


@pytest.mark.parametrize(
    "edit",
    [
        lambda text: text[:-5],
        lambda text: b"",
        lambda text: b"[]",
        lambda text: b"{}",
        lambda text: b"\xff" + text,
        edited("tower_version", "v2"),
        edited("parameters", {"seed": 1}),
        edited("seal", None),
    ],
)
def test_a_damaged_manifest_is_refused(edit, tmp_path):
    save_index(EXACT, tmp_path, "v1")
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(edit(manifest.read_bytes()))
    with pytest.raises(SavedIndexError, match=r"manifest.json .* is damaged"):
        load_index(tmp_path, "v1")


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("helpers.retrieval.SHELF", replace(SHELF, format=2))
    save_index(EXACT, tmp_path, "v1")
    monkeypatch.undo()
    with pytest.raises(SavedIndexError, match="format 2, and this program reads 1"):
        load_index(tmp_path, "v1")


def test_an_empty_directory_is_refused(tmp_path):
    with pytest.raises(SavedIndexError, match="holds no saved index"):
        load_index(tmp_path, "v1")


@dataclass
class OtherIndex:
    shape: tuple[int, int] = (1, 1)


@pytest.mark.parametrize(
    ("index", "version", "message"),
    [(EXACT, "", "tower_version"), (EXACT, 2, "tower_version"), (OtherIndex(), "v1", "not OtherIndex")],
)
def test_what_cannot_be_saved_is_refused_and_the_old_index_stays(index, version, message, tmp_path):
    save_index(EXACT, tmp_path, "v1")
    with pytest.raises(ValueError, match=message):
        save_index(index, tmp_path, version)
    assert len(load_index(tmp_path, "v1")) == N


def test_an_index_that_is_replaced_during_a_load_is_loaded_anew(tmp_path, monkeypatch):
    save_index(EXACT, tmp_path, "v1")
    old, opened = saved_file(tmp_path), Path.open

    def replace_then_open(path, *arguments, **keywords):
        if path == old and old.exists():
            monkeypatch.setattr(Path, "open", opened)
            save_index(ExactIndex().fit(VECTORS[:50]), tmp_path, "v1")
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", replace_then_open)
    assert len(load_index(tmp_path, "v1")) == 50


WRITER = """
import os, sys, time
import numpy as np
from helpers.retrieval import ExactIndex, save_index

steps, replace = iter(range(1, 5)), os.replace

def step():
    if next(steps) == int(sys.argv[2]):
        print("stopped", flush=True)
        time.sleep(600)

def replace_in_steps(*arguments):
    step()
    replace(*arguments)
    step()

os.replace = replace_in_steps
save_index(ExactIndex().fit(np.ones((50, 2))), sys.argv[1], "v2")
"""
WRITTEN, NAMED, PUBLISHED = 1, 3, 4  # the index file; the index file under its name; the manifest too


@pytest.mark.parametrize("step", [WRITTEN, NAMED, PUBLISHED])
def test_killing_the_writer_leaves_the_old_index_or_the_new_one_whole(step, tmp_path):
    save_index(EXACT, tmp_path, "v1")
    command = [sys.executable, "-c", WRITER, str(tmp_path), str(step)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline().strip() == b"stopped"
        writer.kill()
    assert len(list(tmp_path.iterdir())) > 2
    version, size = ("v2", 50) if step == PUBLISHED else ("v1", N)
    assert len(load_index(tmp_path, version)) == size
    save_index(EXACT, tmp_path, "v3")
    assert len(load_index(tmp_path, "v3")) == N
    assert len(list(tmp_path.iterdir())) == 2
