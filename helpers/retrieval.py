"""Candidate generation: indexes over video vectors behind one contract, their recall, and safe files of them.

Scores are inner products: higher is better, and a long vector (a popular video) answers many queries. Exact
search reads every vector; the other indexes read a part, or short codes, and may miss some of the best. So
an index comes with its recall against exact search, measured by `recall` on your own vectors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, ClassVar, Protocol, Self, runtime_checkable

import faiss
import numpy as np
from numpy.typing import ArrayLike
from sklearn.cluster import MiniBatchKMeans
from sklearn.exceptions import NotFittedError
from tqdm import tqdm

from helpers.files import Shelf
from helpers.metrics import Interval, mean_interval
from helpers.shifts import whole

BLOCK_SCORES = 2**24  # scores that an exact search holds at once: 64 MiB
BLOCK_ROWS = 2**17  # vectors that faiss codes between two steps of the progress bar
LONG = 2_000_000  # vectors from which a build takes long enough for a progress bar
ITERATIONS = 6  # of k-means in faiss; more take longer and find the same


class SavedIndexError(RuntimeError):
    """The saved index is missing, damaged, or of another query tower; the message names the repair."""


@runtime_checkable
class Index(Protocol):
    """What every index can do. Ids are the row numbers of the fitted vectors."""

    def fit(self, vectors: ArrayLike) -> Self:
        """Index the vectors, shape (n, d); return self."""

    def search(self, queries: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids, int64, and the scores, float32, of the k best found for each query, best first.

        Queries of shape (q, d) give two arrays of shape (q, k); one query of shape (d,) gives shape (k,).
        Equal scores are in the order of their ids. Where fewer than k are found, ids end in -1 and scores in
        -inf, as in faiss.
        """

    @property
    def nbytes(self) -> int:
        """Bytes that the index holds."""


# ---------------------------------------------------------------- input checks


def _rows(name: str, values: ArrayLike) -> np.ndarray:
    """`values` as contiguous finite float32 of shape (rows, dims), with at least one of each."""
    try:
        array = np.asarray(values)
    except ValueError:
        raise ValueError(f"{name} must have rows of equal length: check their source.") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} must hold real numbers, not {array.dtype}: convert them to float32.")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (rows, dims), at least (1, 1), not {array.shape}.")
    with np.errstate(over="ignore"):  # becomes infinity, which is refused below
        array = np.ascontiguousarray(array, dtype="float32")
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise ValueError(
            f"{name} holds NaN, infinity, or numbers beyond float32 in {bad.sum():,} row(s), first "
            f"in row {bad.argmax()}: repair or drop them."
        )
    return array


def _top(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k of the ids with the highest scores, best first, equal scores by id; padded with -1 and -inf."""
    if k < len(ids):
        # Partition, then sort k: sorting all would be slower. Keep all that tie at the cut until the sort.
        kept = scores >= np.partition(scores, -k)[-k]
        ids, scores = ids[kept], scores[kept]
    order = np.lexsort((ids, -scores))[:k]
    missing = (0, k - len(order))
    return (
        np.pad(ids[order], missing, constant_values=-1),
        np.pad(scores[order], missing, constant_values=-np.inf),
    )


class _CheckedIndex:
    """What the indexes share: checks of the input, and one query or many."""

    shape: tuple[int, int] | None = None  # (n, d) of the fitted vectors

    def fit(self, vectors: ArrayLike) -> Self:
        """Index the vectors, shape (n, d).

        Raises ValueError, with the first row, for NaN or infinity; for an empty array, another shape or type;
        and for fewer vectors than the index needs.
        """
        vectors = _rows("vectors", vectors)
        self._fit(vectors)
        self.shape = vectors.shape
        return self

    def search(self, queries: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids and scores of the k best found: see `Index.search`.

        Raises NotFittedError before `fit`, and ValueError for queries that are not finite or have other
        dimensions than the vectors, or for a k below 1 or above their number.
        """
        n, dims = self._fitted_shape()
        whole(f"k, in an index of {n:,} vectors,", k, 1, n)
        single = np.ndim(queries) == 1
        batch = _rows("queries", [queries] if single else queries)
        if batch.shape[1] != dims:
            raise ValueError(
                f"queries have {batch.shape[1]} dimensions, the indexed vectors {dims}: use the query tower "
                f"that was trained with the indexed vectors."
            )
        ids, scores = self._search(batch, k)
        return (ids[0], scores[0]) if single else (ids, scores)

    def _fitted_shape(self) -> tuple[int, int]:
        if self.shape is None:
            raise NotFittedError(f"This {type(self).__name__} holds no vectors yet: call fit(vectors) first.")
        return self.shape

    def __len__(self) -> int:
        """Return the number of vectors."""
        return self._fitted_shape()[0]

    @property
    def bytes_per_vector(self) -> float:
        """Bytes of the index, divided by its number of vectors."""
        return self.nbytes / len(self)


class _ArrayIndex(_CheckedIndex):
    """An index that consists of NumPy arrays."""

    ARRAYS: ClassVar[tuple[str, ...]]  # the names of the attributes that hold them

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        self._fitted_shape()
        return sum(getattr(self, name).nbytes for name in self.ARRAYS)

    def _write(self, file: IO[bytes]) -> None:
        np.savez(file, **{name: getattr(self, name) for name in self.ARRAYS})

    def _read(self, file: IO[bytes]) -> None:
        with np.load(file, allow_pickle=False) as arrays:
            for name in self.ARRAYS:
                setattr(self, name, arrays[name])
        self.shape = self._vectors.shape


# ---------------------------------------------------------------- indexes


@dataclass(eq=False)
class ExactIndex(_ArrayIndex):
    """Brute force: the inner product with every vector. Finds all of the best; the time grows with n."""

    ARRAYS = ("_vectors",)

    def _fit(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        ids, block = np.arange(len(self)), max(1, BLOCK_SCORES // len(self))
        found = [
            _top(ids, scores, k)
            for start in range(0, len(queries), block)
            for scores in queries[start : start + block] @ self._vectors.T
        ]
        return tuple(map(np.array, zip(*found, strict=True)))


@dataclass(eq=False)
class IVFIndex(_ArrayIndex):
    """An inverted file, for reading: k-means puts each vector into one of `lists`; a search scans `nprobe`.

    A search scores the centers of the lists first, and then the vectors in the `nprobe` best lists only. It
    misses a vector whose list is not among them. `nprobe` may be changed after the fit: more probes
    find more and take longer, and nprobe = lists is exact search.

    The clusters are by distance: by inner product, the longest centers would collect everything. The probes
    are by inner product, for that is what the scores are.
    """

    lists: int
    nprobe: int
    seed: int = 0

    ARRAYS = ("_centers", "_starts", "_ids", "_vectors")

    def _fit(self, vectors: np.ndarray) -> None:
        whole(f"lists, for {len(vectors):,} vectors,", self.lists, 1, len(vectors))
        clusters = MiniBatchKMeans(self.lists, random_state=self.seed, n_init=1).fit(vectors)
        self._centers = clusters.cluster_centers_
        # The vectors of a list lie side by side, so that to scan a list is to read one piece of memory.
        self._ids = np.argsort(clusters.labels_, kind="stable")
        self._vectors = vectors[self._ids]
        self._starts = np.searchsorted(clusters.labels_[self._ids], np.arange(self.lists + 1))

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        whole(f"nprobe, for {self.lists} lists,", self.nprobe, 1, self.lists)
        found = [self._scan(query, k) for query in queries]
        return tuple(map(np.array, zip(*found, strict=True)))

    def _scan(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k best vectors in the lists whose centers have the largest inner product with the query."""
        probed = np.argsort(self._centers @ query)[-self.nprobe :]
        pieces = [slice(*self._starts[i : i + 2]) for i in probed]
        scores = np.concatenate([self._vectors[piece] @ query for piece in pieces])
        ids = np.concatenate([self._ids[piece] for piece in pieces])
        return _top(ids, scores, k)


@dataclass(eq=False)
class FaissIndex(_CheckedIndex):
    """An index for production, by faiss: short codes propose a shortlist, longer codes score it again.

    Parameters
    ----------
    factory
        What to build, in the words of faiss's `index_factory`. The default: 2,048 lists; in them, the
        residual of each vector from the center of its list, as 64 numbers of 4 bits, which the processor
        compares many at a time. 64 must divide the dimensions: for others, change it (`default_index`).
    nprobe
        Lists searched for a query; without meaning when there are no lists. May be changed after the fit.
    refine
        The codes that score the shortlist again: "SQ8" (one byte a dimension), "Flat" (the vectors
        themselves), or None for no second look.
    shortlist
        Vectors that the short codes propose, if k is not larger. May be changed after the fit.
    train_rows
        Vectors, drawn at random, from which lists and codes are learned: some 50 for each list.
    seed
        Of this sample and of k-means. The same seed and vectors give the same index.
    threads
        Used by a search: 1 for a single query, the number of cores for a batch. `fit` uses all cores.

    The r in "4fsr" is for residual. Without it the codes are those of the whole vector: as long, but coarser,
    so the shortlist misses more of the best.

    Its scores are those of the codes, near the inner products, and equal to them with refine = "Flat".
    Sources: Johnson et al. 2019, "Billion-scale similarity search with GPUs"; of the codes compared many at
    a time, André et al. 2017, "Accelerated nearest neighbor search with Quick ADC".
    """

    factory: str = "IVF2048,PQ64x4fsr"
    nprobe: int = 112
    refine: str | None = "SQ8"
    shortlist: int = 1_000
    train_rows: int = 100_000
    seed: int = 0
    threads: int = 1

    def _fit(self, vectors: np.ndarray) -> None:
        rng, rows = np.random.default_rng(self.seed), whole("train_rows", self.train_rows, 1)
        sample = vectors
        if rows < len(vectors):
            sample = vectors[np.sort(rng.choice(len(vectors), rows, replace=False))]
        index = self._empty(vectors.shape[1])
        lists = faiss.try_extract_index_ivf(index)
        if lists and lists.nlist > len(sample):
            raise ValueError(
                f"{lists.nlist:,} lists cannot be learned from {len(sample):,} vectors: use fewer lists in "
                f"factory, or a larger train_rows."
            )
        with _clustered_by_distance(lists):
            index.train(sample)
            starts = range(0, len(vectors), BLOCK_ROWS)
            for start in tqdm(starts, "index", unit="block", disable=len(vectors) < LONG):
                index.add(vectors[start : start + BLOCK_ROWS])
        self._hold(index)

    def _empty(self, dims: int) -> faiss.Index:
        """The index that `factory` and `refine` describe, with the seed and without faiss's warnings."""
        description = self.factory if self.refine is None else f"{self.factory},Refine({self.refine})"
        try:
            index = faiss.index_factory(dims, description, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ValueError(
                f"faiss cannot build {description!r} for {dims} dimensions: change factory or refine. "
                f"It says: {reason}"
            ) from None
        base = faiss.downcast_index(index.base_index) if self.refine else index
        for part in (base, getattr(base, "pq", None)):
            if hasattr(part, "cp"):
                part.cp.seed, part.cp.niter, part.cp.min_points_per_centroid = self.seed, ITERATIONS, 1
        return index

    def _hold(self, index: faiss.Index) -> None:
        """Keep a filled index."""
        self._index, self._lists = index, faiss.try_extract_index_ivf(index)
        self.shape = index.ntotal, index.d

    def _search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if self._lists:
            lists = self._lists.nlist
            self._lists.nprobe = whole(f"nprobe, for {lists} lists,", self.nprobe, 1, lists)
        shortlist = None
        if self.refine:
            factor = max(1.0, whole("shortlist", self.shortlist, 1) / k)
            shortlist = faiss.IndexRefineSearchParameters(k_factor=factor)
        with _faiss_threads(self.threads):
            scores, ids = self._index.search(queries, k, params=shortlist)
        scores[ids < 0] = -np.inf
        order = np.lexsort((ids, -scores))
        rows = np.arange(len(ids))[:, None]
        return ids[rows, order], scores[rows, order]

    @property
    def nbytes(self) -> int:
        """Bytes of the index as faiss writes it: codes, ids, centers and code books."""
        self._fitted_shape()
        sizes = []
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(lambda part: sizes.append(len(part))))
        return sum(sizes)

    def _write(self, file: IO[bytes]) -> None:
        faiss.write_index(self._index, faiss.PyCallbackIOWriter(file.write))

    def _read(self, file: IO[bytes]) -> None:
        self._hold(faiss.read_index(faiss.PyCallbackIOReader(file.read)))


@contextmanager
def _clustered_by_distance(lists: faiss.IndexIVF | None) -> Iterator[None]:
    """Learn and fill the lists by distance; afterwards they are probed by inner product.

    faiss by itself does both by inner product, with centers scaled to norm 1. When norms differ, as they do
    when they carry popularity, recall then falls by several points at equal time.
    """
    if lists is None:
        yield
        return
    coarse = faiss.downcast_index(lists.quantizer)
    if not isinstance(coarse, faiss.IndexFlat):
        raise ValueError(
            f"The lists are found by a {type(coarse).__name__}, which cannot change its metric: in factory, "
            f"write IVF and only a number behind it, such as IVF1024."
        )
    lists.cp.spherical = False
    coarse.metric_type = faiss.METRIC_L2
    yield
    coarse.metric_type = faiss.METRIC_INNER_PRODUCT


@contextmanager
def _faiss_threads(threads: int) -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(whole("threads", threads, 1))
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)


def default_index(n: int, dims: int = 64, seed: int = 0) -> ExactIndex | FaissIndex:
    """Return an unfitted index that suits `n` vectors of `dims` dimensions.

    Up to 20,000: exact search. It takes a fraction of a millisecond, and nothing is missed.
    Up to 200,000: short codes of all vectors, 4 bits a dimension, and a shortlist scored again. To compare
    all codes takes a fraction of a millisecond, and there are no lists to learn, or to miss.
    Above: the same codes in lists, about twice the square root of `n` of them. More lists take longer to
    build and to choose from, fewer take longer to scan.
    """
    codes = f"PQ{whole('dims', dims, 1)}x4fs"
    if whole("n", n, 1) <= 20_000:
        return ExactIndex()
    if n <= 200_000:
        return FaissIndex(codes, seed=seed)
    lists = 2 ** round(np.log2(2 * np.sqrt(n)))
    return FaissIndex(f"IVF{lists},{codes}r", train_rows=50 * lists, seed=seed)


# ---------------------------------------------------------------- recall


def recall(found: ArrayLike, truth: ArrayLike, k: int | None = None) -> Interval:
    """Mean share of the true k best that are among the k found, with its bootstrap interval over queries.

    found, truth: ids of shape (queries, at least k), best first; `truth` from exact search. k: by default the
    columns of `truth`. An id of -1 in `found` is a miss. What the first stage misses, no later stage shows.

    Raises ValueError for shapes that do not fit, a `truth` that holds -1, or a single query.
    """
    found, truth = np.asarray(found), np.asarray(truth)
    if found.ndim != 2 or truth.ndim != 2 or len(found) != len(truth):
        raise ValueError(
            f"found {found.shape} and truth {truth.shape} must both have shape (queries, k): search the same "
            f"queries in both indexes."
        )
    columns = min(found.shape[1], truth.shape[1])
    k = whole("k, for these columns of found and truth,", truth.shape[1] if k is None else k, 1, columns)
    found, truth = found[:, :k], truth[:, :k]
    if (truth < 0).any():
        raise ValueError("truth holds -1, a result that is missing: take it from ExactIndex.")
    return mean_interval([np.isin(best, ids).mean() for best, ids in zip(truth, found, strict=True)])


# ---------------------------------------------------------------- files

INDEXES: dict[str, type[_CheckedIndex]] = {kind.__name__: kind for kind in (ExactIndex, IVFIndex, FaissIndex)}
SHELF = Shelf("index", format=1, error=SavedIndexError)


def save_index(index: ExactIndex | IVFIndex | FaissIndex, directory: str | Path, tower_version: str) -> None:
    """Publish an index and the version of the query tower that it belongs to, both or neither.

    Replaces what `directory` held: see `Shelf.publish`. Nothing is pickled.

    Raises NotFittedError for an empty index, ValueError for another kind or an empty version.
    """
    kind = type(index).__name__
    if kind not in INDEXES:
        raise ValueError(f"index must be one of {', '.join(INDEXES)}, not {kind}: save it by its own means.")
    count, dims = index._fitted_shape()
    facts = {
        "kind": kind,
        "parameters": asdict(index),
        "count": count,
        "dims": dims,
        "metric": "inner product",
        "tower_version": _version(tower_version),
    }
    SHELF.publish(Path(directory), index._write, facts)


def _version(tower_version: str) -> str:
    if not isinstance(tower_version, str) or not tower_version:
        raise ValueError(f"tower_version must be a text such as '2024-05-01', not {tower_version!r}.")
    return tower_version


def load_index(directory: str | Path, tower_version: str) -> ExactIndex | IVFIndex | FaissIndex:
    """Load the index that `save_index` published, for the query tower of this version only.

    Vectors of two trainings share no space: with another tower the index would answer, and at random. The
    checksum finds damage, not malice: load only what your own pipeline wrote.

    Raises SavedIndexError if there is none, it is damaged, or it belongs to another version.
    """
    directory, version = Path(directory), _version(tower_version)

    def check(manifest: dict[str, Any]) -> None:
        if manifest["tower_version"] != version:
            raise SavedIndexError(
                f"The index in {directory.name} belongs to query tower {manifest['tower_version']!r}, not "
                f"{version!r}: their vectors share no space. Serve with {manifest['tower_version']!r}, or "
                f"embed the videos with {version!r} and save a new index."
            )

    with SHELF.open(directory, check) as (file, manifest):
        index = INDEXES[manifest["kind"]](**manifest["parameters"])
        index._read(file)
    return index
