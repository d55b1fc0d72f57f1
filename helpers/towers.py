"""A two-tower model: a tower of the user's history and a tower of items, whose inner product is the score.

It is trained with an in-batch softmax: for each example, the items of the other examples in its batch are the
wrong answers. Popular items stand in more batches, so they are wrong answers too often; the logQ correction
takes this back (Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item
recommendations"). NumPy is enough at this size, and gives the same numbers on every run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from helpers.shifts import whole

DECAY = 0.9, 0.999  # how long Adam remembers gradients, and their squares


@dataclass(eq=False)
class TwoTower:
    """Vectors of items, and of users out of the items that they liked.

    dims: length of a vector. epochs: passes over the examples. batch: examples that are each other's wrong
    answers. learning_rate: of Adam. log_q: correct for the popularity of the wrong answers.
    """

    dims: int = 32
    epochs: int = 5
    batch: int = 256
    learning_rate: float = 0.01
    log_q: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ValueError for settings that make no sense."""
        whole("dims", self.dims, low=1)
        whole("epochs", self.epochs, low=1)
        whole("batch", self.batch, low=2)  # the only example of a batch would have no wrong answer
        if not 0 < self.learning_rate < np.inf:
            raise ValueError(f"learning_rate must be above 0 and finite, not {self.learning_rate!r}.")

    def fit(self, history: csr_matrix, target: ArrayLike) -> Self:
        """Learn from what users had liked, ones of shape (examples, items), and the item each liked next.

        Raises ValueError when there are no examples, the two differ in length or an item does not exist.
        """
        target = np.asarray(target)
        n, n_items = history.shape
        numbers = target.dtype.kind in "iu" and np.isin(target, np.arange(n_items)).all()
        if n == 0 or target.shape != (n,) or not numbers:
            raise ValueError(
                f"{n} histories of {n_items} items do not fit targets of shape {target.shape}: give at least "
                f"one history, and for each the number, below {n_items}, of the item that was liked next."
            )
        rng = np.random.default_rng(self.seed)
        share = np.bincount(target, minlength=n_items) / n
        log_share = np.log(np.maximum(share, 1 / n))
        self._log_q = (log_share if self.log_q else np.zeros(n_items)).astype(np.float32)
        shape = n_items, self.dims
        self._liked, self._items = (rng.normal(scale=0.1, size=shape).astype(np.float32) for _ in range(2))
        moments = [Adam(self.learning_rate, matrix) for matrix in (self._liked, self._items)]
        rows = normalize(history.astype(np.float32), "l1")
        with threadpool_limits(1):  # more would add up in another order, and are no faster at this size
            for _ in range(self.epochs):
                for chosen in np.array_split(rng.permutation(n), max(1, n // self.batch)):
                    gradients = self._gradients(rows[chosen], target[chosen])
                    for moment, gradient in zip(moments, gradients, strict=True):
                        moment.step(gradient)
        return self

    def _gradients(self, rows: csr_matrix, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the mean cross-entropy of a batch, for the vectors of liked items and of items."""
        users, items = rows @ self._liked, self._items[target]
        logits = users @ items.T - self._log_q[target]
        same = target[:, None] == target
        np.fill_diagonal(same, False)
        logits[same] = -np.inf  # the right answer, once more in the batch, is no wrong answer
        right = np.eye(len(target), dtype=np.float32)
        error = (softmax(logits, axis=1) - right) / len(target)
        one_hot = csr_matrix((np.ones_like(right[0]), (np.arange(len(target)), target)), rows.shape)
        return rows.T @ (error @ items), one_hot.T @ (error.T @ users)

    def item_vectors(self) -> np.ndarray:
        """Return the vectors that an index holds, shape (items, dims). Raises NotFittedError before `fit`."""
        self._check_fitted()
        return self._items

    def user_vectors(self, history: csr_matrix) -> np.ndarray:
        """Return the vectors of users, shape (users, dims), from ones at what they liked: (users, items)."""
        self._check_fitted()
        liked = np.asarray(history.sum(axis=1)).reshape(-1, 1)
        return history @ self._liked / np.maximum(liked, 1)  # the mean; 0 for a user who liked nothing

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned, two arrays of shape (items, dims). Raises NotFittedError before `fit`."""
        self._check_fitted()
        return {"liked": self._liked, "items": self._items}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **settings: Any) -> Self:
        """Make the fitted model again, from `arrays` and the settings that it had.

        Raises ValueError when the arrays are not those, or do not fit the settings.
        """
        model = cls(**settings)
        model._liked, model._items = checked_vectors(arrays, ["liked", "items"], model.dims)
        return model

    def _check_fitted(self) -> None:
        if not hasattr(self, "_items"):
            raise NotFittedError("This TwoTower knows nothing yet: call fit(history, target) first.")


def checked_vectors(arrays: Mapping[str, np.ndarray], names: list[str], dims: int) -> list[np.ndarray]:
    """Return the arrays of these names, each a finite vector an item, of at most `dims` dimensions.

    Raises ValueError when they are anything else, or not of one shape.
    """
    found = {name: np.shape(array) for name, array in arrays.items()}
    flat = {shape for shape in found.values() if len(shape) != 2 or not 1 <= shape[1] <= dims}
    if set(found) != set(names) or flat or len(set(found.values())) > 1:
        raise ValueError(
            f"Expected the arrays {', '.join(names)}, of one shape (items, at most {dims}), not {found}: use "
            f"what arrays() returned, with the settings of that model."
        )
    vectors = [np.asarray(arrays[name]) for name in names]
    if not all(np.issubdtype(array.dtype, np.floating) and np.isfinite(array).all() for array in vectors):
        raise ValueError(f"The arrays {', '.join(names)} must hold finite floats: train the model again.")
    return vectors


class Adam:
    """Adam (Kingma and Ba 2015): the steps of stochastic gradient descent, on one array, in place."""

    def __init__(self, learning_rate: float, weights: np.ndarray) -> None:
        """Begin with no memory of gradients."""
        self.learning_rate, self.weights, self.steps = learning_rate, weights, 0
        self.mean, self.square = np.zeros_like(weights), np.zeros_like(weights)

    def step(self, gradient: np.ndarray) -> None:
        """Take one step against the gradient."""
        first, second = DECAY
        self.steps += 1
        self.mean += (1 - first) * (gradient - self.mean)
        self.square += (1 - second) * (gradient**2 - self.square)
        rate = self.learning_rate * np.sqrt(1 - second**self.steps) / (1 - first**self.steps)
        self.weights -= rate * self.mean / (np.sqrt(self.square) + 1e-8)
