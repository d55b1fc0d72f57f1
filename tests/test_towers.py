"""The gradients are those of the loss; the towers learn a pattern; the correction makes up for popularity."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

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


def test_the_number_of_threads_changes_nothing():
    history, target, _ = zipf_examples(2000)
    vectors = []
    for threads in (1, 4):
        with threadpool_limits(threads):
            vectors.append(TwoTower(epochs=2, batch=1024).fit(history, target).item_vectors())
    assert (vectors[0] == vectors[1]).all()


def test_adam_finds_the_bottom_of_a_bowl():
    weights = np.array([5.0, -3.0])
    adam = Adam(0.1, weights)
    for _ in range(500):
        adam.step(2 * (weights - [1.0, 2.0]))
    assert weights == pytest.approx([1, 2], abs=0.01)


def test_examples_that_do_not_fit_are_refused():
    history, target, _ = zipf_examples(10, 20, 2)
    for wrong in (target[:5], target + 20, target - 20, target + 0.5, target[:, None]):
        with pytest.raises(ValueError, match="do not fit"):
            TwoTower().fit(history, wrong)
    with pytest.raises(ValueError, match="at least one history"):
        TwoTower().fit(history[:0], target[:0])


@pytest.mark.parametrize(
    "setting",
    [
        {"dims": 0},
        {"epochs": 0},
        {"batch": 1},
        {"batch": 256.0},
        {"learning_rate": 0},
        {"learning_rate": np.nan},
        {"learning_rate": np.inf},
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(setting):
    with pytest.raises(ValueError, match=next(iter(setting))):
        TwoTower(**setting)


def test_vectors_are_of_single_precision_whatever_the_histories_are():
    history, target, _ = zipf_examples(40, 20, 2)
    models = [TwoTower(epochs=1).fit(history.astype(kind), target) for kind in (np.float32, float)]
    assert all(model.item_vectors().dtype == np.float32 for model in models)
    assert (models[0].item_vectors() == models[1].item_vectors()).all()


# ---------------------------------------------------------------- arrays


@pytest.fixture(scope="module")
def small():
    history, target, _ = zipf_examples(40, 20, 2)
    return TwoTower(dims=3, epochs=1).fit(history, target), history


def test_a_tower_made_of_its_arrays_gives_the_same_vectors(small):
    model, history = small
    again = TwoTower.from_arrays(model.arrays(), dims=3, epochs=1)
    assert (again.item_vectors() == model.item_vectors()).all()
    assert (again.user_vectors(history) == model.user_vectors(history)).all()
    assert again.dims == 3 and again.epochs == 1


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda a: {"items": a["items"]}, {}, "Expected the arrays liked, items"),
        (lambda a: a | {"more": a["items"]}, {}, "Expected the arrays liked, items"),
        (lambda a: a | {"items": a["items"][1:]}, {}, "of one shape"),
        (lambda a: a | {"items": a["items"][:, :2]}, {}, "of one shape"),
        (lambda a: {name: array.ravel() for name, array in a.items()}, {}, "of one shape"),
        (lambda a: {name: array[:, :0] for name, array in a.items()}, {}, "of one shape"),
        (lambda a: a, {"dims": 2}, "at most 2"),
        (lambda a: a | {"items": a["items"] * np.nan}, {}, "finite floats"),
        (lambda a: a | {"items": a["items"].astype(str)}, {}, "finite floats"),
        (lambda a: a, {"dims": 0}, "dims"),
    ],
)
def test_arrays_that_are_not_those_of_a_tower_are_refused(small, change, settings, message):
    with pytest.raises(ValueError, match=message):
        TwoTower.from_arrays(change(small[0].arrays()), **({"dims": 3} | settings))


def test_a_tower_that_was_not_trained_has_no_arrays():
    with pytest.raises(NotFittedError, match="call fit"):
        TwoTower().arrays()


def test_a_tower_that_was_not_trained_says_so():
    with pytest.raises(NotFittedError, match="call fit"):
        TwoTower().item_vectors()
