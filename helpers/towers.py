"""A two-tower model: a tower of the user's history and a tower of items, whose inner product is the score.

It is trained with an in-batch softmax: for each example, the items of the other examples in its batch are the
wrong answers. Popular items stand in more batches, so they are wrong answers too often; the logQ correction
takes this back (Yi et al. 2019, "Sampling-bias-corrected neural modeling for large corpus item
recommendations"). NumPy is enough at this size, and gives the same numbers on every run.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_matrix
from scipy.special import softmax
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize

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

    def fit(self, history: csr_matrix, target: ArrayLike) -> Self:
        """Learn from what users had liked, ones of shape (examples, items), and the item each liked next.

        Raises ValueError when the two differ in length or an item does not exist.
        """
        target = np.asarray(target)
        n, n_items = history.shape
        if n != len(target) or target.min() < 0 or target.max() >= n_items:
            raise ValueError(
                f"{n} histories of {n_items} items do not fit {len(target)} targets from {target.min()} to "
                f"{target.max()}: give each history the number of the item that was liked next."
            )
        rng = np.random.default_rng(self.seed)
        share = np.bincount(target, minlength=history.shape[1]) / len(target)
        self._log_q = np.log(np.maximum(share, 1 / len(target))) if self.log_q else np.zeros(len(share))
        shape = history.shape[1], self.dims
        self._liked, self._items = (rng.normal(scale=0.1, size=shape).astype(np.float32) for _ in range(2))
        moments = [Adam(self.learning_rate, matrix) for matrix in (self._liked, self._items)]
        rows = normalize(history, "l1")
        for _ in range(self.epochs):
            for chosen in np.array_split(rng.permutation(len(target)), max(1, len(target) // self.batch)):
                gradients = self._gradients(rows[chosen], target[chosen])
                for moment, gradient in zip(moments, gradients, strict=True):
                    moment.step(gradient)
        return self

    def _gradients(self, rows: csr_matrix, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of the mean cross-entropy of a batch, for the vectors of liked items and of items."""
        users, items = rows @ self._liked, self._items[target]
        logits = users @ items.T - self._log_q[target]
        same = (target[:, None] == target) & ~np.eye(len(target), dtype=bool)
        logits[same] = -np.inf  # the right answer, once more in the batch, is no wrong answer
        error = (softmax(logits, axis=1) - np.eye(len(target))).astype(np.float32) / len(target)
        of_items = np.zeros_like(self._items)
        np.add.at(of_items, target, error.T @ users)
        return rows.T @ (error @ items), of_items

    def item_vectors(self) -> np.ndarray:
        """Return the vectors that an index holds, shape (items, dims). Raises NotFittedError before `fit`."""
        self._check_fitted()
        return self._items

    def user_vectors(self, history: csr_matrix) -> np.ndarray:
        """Return the vectors of users, shape (users, dims), from ones at what they liked: (users, items)."""
        self._check_fitted()
        return normalize(history, "l1") @ self._liked

    def _check_fitted(self) -> None:
        if not hasattr(self, "_items"):
            raise NotFittedError("This TwoTower knows nothing yet: call fit(history, target) first.")


class Adam:
    """Adam (Kingma and Ba 2015): the steps of stochastic gradient descent, on one array, in place."""

    def __init__(
        self, learning_rate: float, weights: np.ndarray, decay: tuple[float, float] = (0.9, 0.999)
    ) -> None:
        """Begin with no memory of gradients."""
        self.learning_rate, self.weights, self.decay, self.steps = learning_rate, weights, decay, 0
        self.mean, self.square = np.zeros_like(weights), np.zeros_like(weights)

    def step(self, gradient: np.ndarray) -> None:
        """Take one step against the gradient."""
        first, second = DECAY
        self.steps += 1
        self.mean += (1 - first) * (gradient - self.mean)
        self.square += (1 - second) * (gradient**2 - self.square)
        rate = self.learning_rate * np.sqrt(1 - second**self.steps) / (1 - first**self.steps)
        self.weights -= rate * self.mean / (np.sqrt(self.square) + 1e-8)
