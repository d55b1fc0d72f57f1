"""A synthetic catalog of videos of any size, of which any row can be had at any time; the truth can be asked.

A billion rows of 64 numbers do not fit into memory. Here a row is a function of its id, so nothing is held
but the centers of the clusters. `Catalog` says what is synthetic and what that means for recall.
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import expit, ndtri

from helpers.shifts import choice, whole
from helpers.simulator import coins

SPREADS = ("mixture", "uniform")
MOST_COMPONENTS, VIDEOS_A_COMPONENT = 65_536, 16
VIDEOS_A_CREATOR = 20
SIZE_EXPONENT = 0.5  # of the sizes of the components: the one of rank r holds a share ~ r^-SIZE_EXPONENT
RANK, DECAY = 16, 0.9  # directions in which mixture vectors differ; each matters DECAY times the one before
NEAR = 0.5  # spread inside a component, beside 1 between components
POPULARITY = 0.2  # standard deviation of the logarithm of the norm
MOST_INTERESTS = 3
LANES = 65_536  # values of 16 random bits
LEVELS = 4_096  # values of a feature
STREAMS = {"center": 0, "video": 1, "direction": 2, "features": 3, "directions": 4}

FEATURES = {  # name -> distribution over the videos
    "age_hours": stats.lognorm(1.6, scale=400),
    "duration_seconds": stats.lognorm(1, scale=240),
    "quality": stats.beta(3, 3),
    "clickbait": stats.beta(0.7, 2.1),
    "completion_rate": stats.beta(4, 6),
    "like_rate": stats.beta(2, 60),
    "share_rate": stats.beta(1, 120),
    "dismiss_rate": stats.beta(1.5, 100),
    "comments_7d": stats.lognorm(2, scale=3),
    "creator_followers": stats.lognorm(2, scale=2_000),
    "creator_videos": stats.lognorm(1.2, scale=60),
    "creator_age_days": stats.gamma(2, scale=400),
    "creator_click_rate": stats.beta(5, 45),
    "language_share": stats.beta(1, 3),
    "speech_share": stats.beta(1.5, 1),
    "music_share": stats.beta(0.6, 1.2),
    "title_length": stats.gamma(6, scale=8),
    "thumbnail_brightness": stats.beta(4, 4),
    "thumbnail_faces": stats.expon(scale=1.2),
    "megapixels": stats.lognorm(0.6, scale=1.5),
    "upload_hour": stats.uniform(0, 24),
    "safety_score": stats.beta(30, 1),
}
DERIVED = ("click_rate", "log_views_7d")  # they tell of the truth: `Catalog.features`

# The truth; `Catalog.true_click_probability` gives the formula.
CLICK, FIT, QUALITY, CLICKBAIT, FADE, LONG, APPEAL = -3.5, 1.5, 3.0, 2.0, 0.25, 0.7, 0.5


@cache
def _normal(scale: float) -> np.ndarray:
    """Normal quantiles times `scale`, one a value of 16 bits, rounded to whole numbers."""
    return np.rint(scale * ndtri((np.arange(LANES) + 0.5) / LANES)).astype("float32")


@cache
def _norms() -> np.ndarray:
    """Log-normal quantiles with median 1, one a value of 16 bits."""
    return (np.rint(1024 * np.exp(_normal(1_000) * POPULARITY / 1_000)) / 1024).astype("float32")


@cache
def _quantiles() -> np.ndarray:
    """The quantiles of each feature, shape (len(FEATURES), LEVELS)."""
    middle = (np.arange(LEVELS) + 0.5) / LEVELS
    return np.array([feature.ppf(middle) for feature in FEATURES.values()], dtype="float32")


class Catalog:
    """`n` videos, each with an embedding, features, a creator, and a true probability of a click.

    Parameters
    ----------
    n
        Number of videos; their ids are 0 to n - 1. `len(catalog)` is n.
    dims
        Length of a vector.
    seed
        Everything follows from it: the same id has the same vector and features, whatever else is asked.
    spread
        "mixture": the videos form `n_components` clusters, one for each 16 videos but at most 65,536.
        Component r, from 1 on, holds a share of the videos in proportion to r^-1/2. Its ids are contiguous::

            vector = norm W (center + NEAR noise)
                with center and noise standard normal in 16 dimensions, W a fixed random matrix of shape
                (dims, 16) in which each column weighs 0.9 times the one before, norm log-normal: popularity

        "uniform": independent random directions of norm 1, one component without a center.

    What is synthetic, and what it means
    ------------------------------------
    The vectors were not learned from anybody. A mixture has clusters, few directions, and popular videos with
    long vectors that answer many queries; learned embeddings tend to be like that, but they may be less
    clustered, and then an index needs more probes for the same recall. "uniform" is the other end: neighbors
    have nothing in common, so no index can leave out much. The truth for an embedding lies in between:
    measure recall on your own vectors.

    Raises ValueError for a size that makes no sense or an unknown spread.
    """

    def __init__(self, n: int, dims: int = 64, seed: int = 0, spread: str = "mixture") -> None:
        """Check the sizes, draw the centers."""
        self.n, self.dims = whole("n", n, 1), whole("dims", dims, 1, 1_024)
        self.seed, self.spread = whole("seed", seed), choice("spread", spread, SPREADS)
        mixed = spread == "mixture"
        self.n_components = min(MOST_COMPONENTS, -(-n // VIDEOS_A_COMPONENT)) if mixed else 1
        sizes = np.arange(1, self.n_components + 1) ** -SIZE_EXPONENT
        self._starts = np.append(0, np.cumsum(sizes) / sizes.sum() * n).astype("int64")
        self._starts[-1] = n
        # Whole numbers that are small enough for every product and sum to be exact in float32: so a vector
        # has the same bits whatever is computed beside it, with any BLAS.
        self._latent_centers = _normal(256)[self._lanes("center", np.arange(self.n_components), RANK)]
        weights = 12 * _normal(256)[self._lanes("direction", np.arange(RANK), dims)] / 256
        self._directions = np.rint(weights * DECAY ** np.arange(RANK)[:, None]).astype("float32")
        length = np.sqrt(np.square(self._directions).sum())
        self._unit = np.float32(1 / (256 * length))  # so that a center has a norm of about 1

    def __len__(self) -> int:
        """Return the number of videos."""
        return self.n

    def _lanes(self, stream: str, ids: np.ndarray, n: int) -> np.ndarray:
        """`n` random numbers of 16 bits for each id, shape (*ids.shape, n)."""
        words = coins(self.seed, STREAMS[stream], ids[..., None], np.arange(-(-n // 4)))
        return words.view("uint16")[..., :n]

    def _ids(self, ids: ArrayLike | None) -> np.ndarray:
        """The ids as an array, each from 0 to n - 1; None: all."""
        if ids is None:
            return np.arange(self.n)
        ids = np.asarray(ids)
        if ids.dtype.kind not in "iu" or (ids.size and not (ids.min() >= 0 and ids.max() < self.n)):
            raise ValueError(f"ids must be whole numbers from 0 to {self.n - 1}: check which ids you passed.")
        return ids

    # ------------------------------------------------------------ vectors

    def vectors(self, ids: ArrayLike | None = None) -> np.ndarray:
        """Return the vectors of the videos, float32, shape (*ids.shape, dims); None: of all, shape (n, dims).

        Memory: about 500 bytes a row while it works, 4 dims bytes after. Raises ValueError for an id that
        does not exist.
        """
        ids = self._ids(ids)
        if self.spread == "uniform":
            return _unit(_normal(256)[self._lanes("directions", ids, self.dims)])
        lanes = self._lanes("video", ids, RANK + 1)
        latent = _normal(256 * NEAR).take(lanes[..., :RANK], mode="clip")  # faster than plain indexing
        latent += self._latent_centers[self.component_of(ids)]
        vectors = latent @ self._directions
        vectors *= (self._unit * _norms()[lanes[..., RANK]])[..., None]
        return vectors

    def component_of(self, ids: ArrayLike) -> np.ndarray:
        """Return the component of each video, shaped as `ids`."""
        return np.searchsorted(self._starts, self._ids(ids), side="right") - 1

    def component_ids(self, component: int) -> range:
        """Return the ids of a component, which are contiguous; it may be empty in a small catalog."""
        whole("component", component, 0, self.n_components - 1)
        return range(int(self._starts[component]), int(self._starts[component + 1]))

    @property
    def centers(self) -> np.ndarray:
        """The mean vector of each component, float32, shape (n_components, dims); zero if "uniform"."""
        if self.spread == "uniform":
            return np.zeros((1, self.dims), dtype="float32")
        return self._latent_centers @ self._directions * (self._unit * _norms().mean())

    def queries(self, n: int, seed: int = 0) -> np.ndarray:
        """Return the vectors of `n` users, float32, shape (n, dims), norm 1.

        A user mixes one to three interests. An interest is the center of the component of a random video: so
        large components interest more users. In a "uniform" catalog it is a random direction.
        """
        rng = np.random.default_rng([whole("seed", seed), self.seed, *b"queries"])
        interests = rng.integers(self.n, size=(whole("n", n, 1), MOST_INTERESTS))
        weights = rng.dirichlet(np.ones(MOST_INTERESTS), n)
        weights *= np.arange(MOST_INTERESTS) < rng.integers(1, MOST_INTERESTS + 1, (n, 1))
        if self.spread == "uniform":
            return _unit(rng.standard_normal((n, self.dims)))
        latent = np.einsum("qi,qir->qr", weights, self._latent_centers[self.component_of(interests)])
        noise = 256 * NEAR * weights.sum(1, keepdims=True) * rng.standard_normal((n, RANK))
        return _unit((latent + noise) @ self._directions)

    # ------------------------------------------------------------ features and truth

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The names of the columns of `features`."""
        return (*FEATURES, *DERIVED)

    def features(self, ids: ArrayLike) -> np.ndarray:
        """Return the item features, float32, shape (*ids.shape, len(feature_names)).

        Each is drawn from its distribution in `FEATURES`, by the id. `click_rate`: over earlier users,
        smoothed, so a noisy sign of quality, click-bait and hidden appeal. `log_views_7d`: rises with the
        norm of the vector. Raises ValueError for an id that does not exist.
        """
        ids = self._ids(ids)
        lanes = self._lanes("features", ids, len(FEATURES) + 3)
        table = np.empty((*ids.shape, len(self.feature_names)), dtype="float32")
        table[..., :-2] = _quantiles()[np.arange(len(FEATURES)), lanes[..., :-3] >> 4]
        noise = _normal(256)[lanes[..., -3:]] / 256
        table[..., -2] = expit(-2 + 0.3 * self._worth(table, noise[..., 0]) + 0.2 * noise[..., 1])
        popularity = self._lanes("video", ids, RANK + 1)[..., RANK]
        table[..., -1] = 6 + 5 * np.log(_norms()[popularity]) + 0.5 * noise[..., 2]
        return table

    def creators(self, ids: ArrayLike) -> np.ndarray:
        """Return the creator of each video, shaped as `ids`; one creator makes 20 videos, mostly alike."""
        return self._ids(ids) // VIDEOS_A_CREATOR

    @staticmethod
    def _worth(table: np.ndarray, appeal: np.ndarray) -> np.ndarray:
        """What draws everybody to a video, in logits."""
        quality, clickbait = (table[..., list(FEATURES).index(name)] for name in ("quality", "clickbait"))
        return QUALITY * (quality - 0.5) + CLICKBAIT * clickbait * (1 - quality) + APPEAL * appeal

    def true_click_probability(self, queries: ArrayLike, ids: ArrayLike) -> np.ndarray:
        """Return P(click) of videos for users, float64, shaped as `ids`.

        queries: shape (dims,) with ids of shape (m,), or (q, dims) with ids of shape (q, m)::

            P(click) = sigmoid(CLICK + FIT inner product + QUALITY (quality - 1/2)
                               + CLICKBAIT clickbait (1 - quality) - FADE log(1 + age in days)
                               - LONG max(0, log(duration / 240 s)) max(0, 2 - inner product)
                               + APPEAL appeal)

        A long video puts off those whom it fits badly; click-bait works for bad videos. `appeal` is standard
        normal and hidden. So who sees the features ranks better than the inner product alone, and nobody
        ranks perfectly. Raises ValueError for an id that does not exist or shapes that do not fit.
        """
        queries, ids = np.asarray(queries, dtype="float32"), self._ids(ids)
        if queries.shape[:-1] != ids.shape[:-1] or queries.shape[-1] != self.dims or ids.ndim == 0:
            raise ValueError(
                f"queries of shape {queries.shape} do not fit ids of shape {ids.shape}: pass "
                f"({self.dims},) with (m,), or (q, {self.dims}) with (q, m)."
            )
        fit = (self.vectors(ids) @ queries[..., None])[..., 0].astype("float64")
        table = self.features(ids).astype("float64")
        age, duration = table[..., 0] / 24, table[..., 1]
        appeal = _normal(256)[self._lanes("features", ids, len(FEATURES) + 1)[..., -1]] / 256
        haste = np.maximum(0, np.log(duration / 240)) * np.maximum(0, 2 - fit)
        return expit(CLICK + FIT * fit + self._worth(table, appeal) - FADE * np.log1p(age) - LONG * haste)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors divided by their norms, float32."""
    norms = np.sqrt(np.square(vectors, dtype="float64").sum(axis=-1, keepdims=True))
    return (vectors / norms).astype("float32")
