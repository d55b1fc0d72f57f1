"""An index over a `Catalog` too large for memory: filled list by list, searched by codes, refined exactly.

A vector of 64 numbers is kept as 8 bytes of code; a search finds a shortlist by the codes and scores it again
with the vectors themselves. Two things are easier here than with a real catalog. The lists are the catalog's
components, so a video's list is known without a search; `assignment_rate` measures what a search for it
costs. And the vectors of the shortlist are computed from the seed, which stands for reading them from disk.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Lock

import faiss
import numpy as np
from numpy.typing import ArrayLike
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from helpers.catalog import Catalog
from helpers.shifts import whole

BITS, BLOCK = 4, 32  # of a number in a code; codes that a fast scan compares at once, packed together
STEP = 0.335  # in standard deviations: the best of 16 equal steps for normal numbers (Max 1960)
DRAWS, BATCH, LONG = 64, 65_536, 1_024  # the sample: the LONG longest of each BATCH of vectors, up to DRAWS
PART = 65_536  # videos of a component scored at a time in an exact search


class LargeIndex:
    """An inverted file over a `Catalog`, with short codes of residuals and exact refinement.

    directions
        Numbers in a code. The residual of a vector from its list's center is reduced to so many main
        directions of the vectors; each number takes 4 bits, and the id takes 64 more. A mixture has 16
        directions, so with 16 nothing is lost; other vectors may need more.
    nprobe
        Lists searched for a query: those whose centers have the largest inner products with it.
    shortlist
        Videos that the codes propose and the vectors score again.

    `nprobe` and `shortlist` may be changed after the fit. Raises ValueError for a parameter that makes no
    sense. Source of the scan: André et al. 2017, "Accelerated nearest neighbor search with Quick ADC", as
    implemented in faiss.
    """

    def __init__(self, directions: int = 16, nprobe: int = 512, shortlist: int = 2_000) -> None:
        """Keep the parameters."""
        self.directions = whole("directions", directions, 2)
        self.nprobe, self.shortlist = whole("nprobe", nprobe, 1), whole("shortlist", shortlist, 1)

    def fit(self, catalog: Catalog, seed: int = 0, progress: bool = False) -> "LargeIndex":
        """Learn directions and steps from a sample, then code every list; one thread a core.

        seed: of the sample. progress: show a bar. Raises ValueError for an odd number of directions or more
        than the vectors have, or for a catalog without components.
        """
        if self.directions % 2 or self.directions > catalog.dims or catalog.n_components == 1:
            raise ValueError(
                f"directions must be even and at most {catalog.dims}, not {self.directions}, and the catalog "
                f'needs at least 2 components: choose another number, or a larger catalog with "mixture".'
            )
        self.catalog = catalog
        self._learn(long_ids(catalog, seed))
        self._ivf = self._empty()
        for_each_component(catalog, self._fill, "index", progress)
        self._ivf.ntotal = len(catalog)
        return self

    def _learn(self, sample: np.ndarray) -> None:
        """Find the main directions, the centers along them, and the length of a step along each."""
        vectors = self.catalog.vectors(sample)
        self._main = np.linalg.eigh(vectors.T @ vectors)[1][:, -self.directions :]
        self._centers = self.catalog.centers @ self._main
        residuals = vectors @ self._main - self._centers[self.catalog.component_of(sample)]
        self._steps = STEP * residuals.std(axis=0)

    def _empty(self) -> faiss.IndexIVFPQFastScan:
        """An index that knows the centers and what each code stands for, without videos."""
        self._coarse = faiss.IndexFlatIP(self.directions)
        self._coarse.add(self._centers)
        size = self.directions, len(self._centers), self.directions, BITS
        ivf = faiss.IndexIVFPQFastScan(self._coarse, *size, faiss.METRIC_INNER_PRODUCT, BLOCK)
        levels = self._steps[:, None] * (np.arange(2**BITS) - (2**BITS - 1) / 2)
        faiss.copy_array_to_vector(levels.astype("float32").ravel(), ivf.pq.centroids)
        ivf.by_residual, ivf.is_trained = True, True
        return ivf

    def _fill(self, component: int, ids: np.ndarray) -> None:
        """Code one component and store it as one list."""
        residuals = self.catalog.vectors(ids) @ self._main - self._centers[component]
        packed = pack(quantized(residuals, self._steps))
        self._ivf.invlists.add_entries(component, len(ids), faiss.swig_ptr(ids), faiss.swig_ptr(packed))

    def search(self, queries: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the ids, int64, and the inner products, float32, of the k best found, best first.

        queries: shape (queries, dims) gives two arrays of shape (queries, k); (dims,) gives (k,). One thread.
        Where fewer than k are found, the ids end in -1 and the scores in -inf. Raises ValueError if k is
        larger than the shortlist, or for queries of other dimensions.
        """
        whole(f"k, for a shortlist of {self.shortlist},", k, 1, self.shortlist)
        batch = np.atleast_2d(np.asarray(queries, dtype="float32"))
        if batch.shape[1] != self.catalog.dims:
            raise ValueError(f"queries have {batch.shape[1]} dimensions, the vectors {self.catalog.dims}.")
        proposed = self._propose(batch @ self._main)
        ids, scores = zip(
            *(self._refine(*pair, k) for pair in zip(batch, proposed, strict=True)), strict=True
        )
        return (ids[0], scores[0]) if np.ndim(queries) == 1 else (np.array(ids), np.array(scores))

    def _propose(self, queries: np.ndarray) -> np.ndarray:
        """The ids of the shortlist of each query, -1 where there are fewer."""
        before = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)
        parameters = faiss.IVFSearchParameters(nprobe=min(self.nprobe, len(self._centers)))
        _, ids = self._ivf.search(queries, self.shortlist, params=parameters)
        faiss.omp_set_num_threads(before)
        return ids

    def _refine(self, query: np.ndarray, ids: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """The k of the ids with the largest exact inner products, and these."""
        ids = np.sort(ids[ids >= 0])  # neighbors are faster to compute
        best, scores = top(ids, self.catalog.vectors(ids) @ query, k)
        missing = (0, k - len(best))
        return np.pad(best, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)

    @property
    def nbytes(self) -> int:
        """Bytes of codes, ids and centers."""
        lists = self._ivf.invlists
        sizes = np.array([lists.list_size(i) for i in range(lists.nlist)])
        codes = self.directions * BITS // 8 * BLOCK * (-(-sizes // BLOCK)).sum()
        return int(codes + 8 * sizes.sum() + self._centers.nbytes)


# ---------------------------------------------------------------- codes


def long_ids(catalog: Catalog, seed: int) -> np.ndarray:
    """Return ids of long vectors: the longest 64th of a random sample of at most 4 million.

    Long vectors win searches by inner product, so the steps of the codes must suit them.
    """
    rng = np.random.default_rng(seed)
    draws = min(DRAWS, -(-len(catalog) // BATCH))
    batches = (rng.integers(len(catalog), size=BATCH) for _ in range(draws))
    return np.concatenate([_longest(catalog, ids, LONG) for ids in batches])


def _longest(catalog: Catalog, ids: np.ndarray, n: int) -> np.ndarray:
    """The n ids with the longest vectors."""
    return ids[np.argsort(-np.square(catalog.vectors(ids)).sum(axis=1))[:n]]


def quantized(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return the values as whole numbers of 4 bits, uint8: 0 to 15 steps above -7.5 steps."""
    return np.clip(np.rint(values / steps + 7.5), 0, 15).astype("uint8")


def pack(codes: np.ndarray) -> np.ndarray:
    """Return codes of shape (n, directions) in the order in which faiss scans a list, bytes.

    Blocks of 32 videos; in a block, direction after direction; in a direction, 16 bytes. A byte holds one
    number of the video i and one of i + 16, with i in the order 0, 8, 1, 9, ... that one instruction wants.
    """
    blocks = np.zeros((-(-len(codes) // BLOCK), BLOCK, codes.shape[1]), dtype="uint8")
    blocks.reshape(-1, codes.shape[1])[: len(codes)] = codes
    pairs = blocks[:, :16] | blocks[:, 16:] << BITS
    order = np.arange(16).reshape(2, 8).T.ravel()
    return np.ascontiguousarray(pairs[:, order].transpose(0, 2, 1))


# ---------------------------------------------------------------- the whole catalog


def top(ids: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the k ids with the highest scores, best first, and these scores; all if there are fewer."""
    if k < len(ids):
        kept = np.argpartition(-scores, k)[:k]
        ids, scores = ids[kept], scores[kept]
    order = np.argsort(-scores, kind="stable")
    return ids[order], scores[order]


def for_each_component(
    catalog: Catalog, work: Callable[[int, np.ndarray], None], what: str, progress: bool
) -> None:
    """Call work(component, ids) for each component that has videos; one thread a core, each on one core."""

    def one(component: int) -> int:
        ids = np.array(catalog.component_ids(component), dtype="int64")
        if len(ids):
            work(component, ids)
        return len(ids)

    bar = tqdm(total=len(catalog), desc=what, unit=" videos", unit_scale=True, disable=not progress)
    with threadpool_limits(1), ThreadPoolExecutor(os.cpu_count()) as pool, bar:
        for done in pool.map(one, range(catalog.n_components)):
            bar.update(done)


def exact_search(
    catalog: Catalog, queries: ArrayLike, k: int, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids and scores of the k best of all videos, as `LargeIndex.search` does, without an index.

    Every vector is computed and scored, so the time grows with the catalog, but the memory does not.
    queries: shape (queries, dims); the k best of each. k: at most the number of videos.
    """
    queries = np.ascontiguousarray(queries, dtype="float32")
    best = [(np.empty(0, dtype="int64"), np.empty(0, dtype="float32"))] * len(queries)
    worst, lock = np.full(len(queries), -np.inf, dtype="float32"), Lock()  # worst: of the k best so far

    def score(component: int, ids: np.ndarray) -> None:
        for part in np.split(ids, range(PART, len(ids), PART)):
            scores = queries @ catalog.vectors(part).T
            with lock:
                for i in np.flatnonzero(scores.max(axis=1) > worst):
                    better = scores[i] > worst[i]
                    rivals = zip(best[i], (part[better], scores[i, better]), strict=True)
                    best[i] = top(*map(np.concatenate, rivals), k)
                    worst[i] = best[i][1][-1] if len(best[i][1]) == k else -np.inf

    for_each_component(catalog, score, "exact search", progress)
    return np.array([ids for ids, _ in best]), np.array([scores for _, scores in best])


def assignment_rate(catalog: Catalog, n: int = 4_096) -> float:
    """Return how many videos a second one core assigns to the nearest center: what a real build pays."""
    centers = faiss.IndexFlatL2(catalog.dims)
    centers.add(catalog.centers)
    vectors = catalog.vectors(np.random.default_rng(0).integers(len(catalog), size=n))
    with threadpool_limits(1):
        start = time.perf_counter()
        centers.search(vectors, 1)
        return n / (time.perf_counter() - start)
