"""The gradients are those of the loss; the towers learn a pattern; the correction makes up for popularity."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize

from helpers.towers import Adam, TwoTower


def zipf_examples(n=6000, items=200, groups=10):
    """Users of a group like items of their group; within it, the item of rank r is chosen as 1 / (r + 1)."""
    rng = np.random.default_rng(1)
    weight = 1 / (1 + np.arange(items // groups))
    group = rng.integers(groups, size=n)
    chosen = rng.choice(len(weight), (n, 4), p=weight / weight.sum()) * groups + group[:, None]
    history = csr_matrix(
        (np.ones(3 * n, np.float32), (np.repeat(np.arange(n), 3), chosen[:, 1:].ravel())), (n, items)
    )
    history.data[:] = 1
    return history, chosen[:, 0], group


def loss(model, rows, target):
    """The mean cross-entropy of a batch, written down plainly."""
    total = 0.0
    for i in range(len(target)):
        user = np.asarray(rows[i] @ model._liked).ravel()
        wrong = [j for j in range(len(target)) if j == i or target[j] != target[i]]
        logits = np.array([user @ model._items[target[j]] - model._log_q[target[j]] for j in wrong])
        total += np.log(np.exp(logits - logits[wrong.index(i)]).sum())
    return total / len(target)


@pytest.mark.parametrize("log_q", [True, False])
def test_the_gradients_are_those_of_the_loss(log_q):
    history, target, _ = zipf_examples(12, 20, 2)
    model = TwoTower(dims=3, epochs=1, batch=12, log_q=log_q).fit(history, target)
    model._liked, model._items = model._liked.astype(float), model._items.astype(float)
    rows = normalize(history.astype(float), "l1")
    gradients = model._gradients(rows, target)
    for matrix, gradient in zip((model._liked, model._items), gradients, strict=True):
        for item in (0, target[0], target[5]):
            before, step = matrix[item, 1], 1e-5
            matrix[item, 1] = before + step
            above = loss(model, rows, target)
            matrix[item, 1] = before - step
            below = loss(model, rows, target)
            matrix[item, 1] = before
            assert gradient[item, 1] == pytest.approx((above - below) / (2 * step), abs=1e-5)


def test_the_towers_learn_which_items_go_together():
    history, target, group = zipf_examples()
    model = TwoTower(dims=16, epochs=4).fit(history, target)
    best = (model.user_vectors(history) @ model.item_vectors().T).argmax(axis=1)
    assert np.mean(best % 10 == group) > 0.95


def test_with_the_correction_scores_follow_the_logarithm_of_popularity():
    """The softmax then estimates P(item | user), without it P(item | user) / P(item): flat within a group."""
    history, target, group = zipf_examples()
    slope = {}
    for log_q in (True, False):
        model = TwoTower(dims=16, epochs=8, log_q=log_q).fit(history, target)
        scores = model.user_vectors(history[group == 3]) @ model.item_vectors()[3:100:10].T
        slope[log_q] = np.polyfit(np.log(1 / (1 + np.arange(10))), scores.mean(axis=0), 1)[0]
    assert slope[True] == pytest.approx(1, abs=0.3)
    assert slope[False] == pytest.approx(0, abs=0.3)


def test_the_same_seed_gives_the_same_vectors():
    history, target, _ = zipf_examples(500)
    first, second = (TwoTower(dims=4, epochs=1).fit(history, target).item_vectors() for _ in range(2))
    assert (first == second).all()


def test_adam_finds_the_bottom_of_a_bowl():
    weights = np.array([5.0, -3.0])
    adam = Adam(0.1, weights)
    for _ in range(500):
        adam.step(2 * (weights - [1.0, 2.0]))
    assert weights == pytest.approx([1, 2], abs=0.01)


def test_examples_that_do_not_fit_are_refused():
    history, target, _ = zipf_examples(10, 20, 2)
    for wrong in (target[:5], target + 20, target - 20):
        with pytest.raises(ValueError, match="do not fit"):
            TwoTower().fit(history, wrong)


def test_a_tower_that_was_not_trained_says_so():
    with pytest.raises(NotFittedError, match="call fit"):
        TwoTower().item_vectors()
