"""Saved models: a loaded one predicts as the saved one did; what does not fit, or is unsafe, is refused."""

import io
import json
import pickle
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from zipfile import ZipFile

import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.base import BaseEstimator, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from helpers import files, saved_models
from helpers.position_bias import PositionFeature
from helpers.rankers import MultiObjective, ranker
from helpers.recommenders import MatrixFactorization
from helpers.saved_models import (
    SavedModelError,
    load_model,
    published_version,
    save_model,
    schema_of,
)
from helpers.towers import TwoTower

ROOT = Path(__file__).parents[1]
RNG = np.random.default_rng(0)
N = 300
X = pd.DataFrame(
    {
        "age": np.where(RNG.random(N) < 0.1, np.nan, RNG.normal(size=N)),
        "country": pd.Categorical(RNG.choice([*"xyz"], N)),
        "clicks": RNG.integers(9, size=N),
    }
)
Y = (X["clicks"] + 3 * RNG.normal(size=N) > 4).astype(int)
SCHEMA = schema_of(X)


def logistic():
    numbers = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler())
    columns = (OneHotEncoder(handle_unknown="ignore"), ["country"]), (numbers, ["age", "clicks"])
    return make_pipeline(make_column_transformer(*columns), LogisticRegression())


def calibrated(model, method):
    return CalibratedClassifierCV(FrozenEstimator(model.fit(X, Y)), method=method).fit(X, Y)


BOOSTING = {"categorical_features": "from_dtype", "max_iter": 5}
LIGHT = {"n_estimators": 5, "verbose": -1, "n_jobs": 1}
MODELS = {
    "logistic": logistic(),
    "boosting": HistGradientBoostingClassifier(**BOOSTING),
    "regression": HistGradientBoostingRegressor(loss="poisson", **BOOSTING),
    "platt": calibrated(HistGradientBoostingClassifier(**BOOSTING), "sigmoid"),
    "isotonic": calibrated(logistic(), "isotonic"),
    "lightgbm": lightgbm.LGBMClassifier(**LIGHT),
}
FITTED = {name: model.fit(X, Y) for name, model in MODELS.items()}
FITTED["lambdarank"] = lightgbm.LGBMRanker(**LIGHT).fit(X, Y, group=[50] * 6)
LOGISTIC = FITTED["logistic"]
FITTED["position"] = PositionFeature(clone(LOGISTIC), "clicks").fit(X.assign(clicks=np.arange(N) % 9 + 1), Y)
LIKED = Y * (X["clicks"] % 2)
OUTCOMES = pd.DataFrame({"clicked": Y, "watch_seconds": 9.0 * Y, "liked": LIKED, "dismissed": Y - LIKED})
OF_RANKERS = [  # saved in tests/test_rankers.py
    ranker("logistic").fit(X, Y),
    ranker("lambdarank").fit(X, Y, group=np.arange(N) // 50),
    MultiObjective().fit(X, OUTCOMES, np.arange(N) % 2 == 0),
]


def predictions(model):
    return getattr(model, "predict_proba", model.predict)(X)


@dataclass(eq=False)
class Means:
    """A model that consists of arrays."""

    strength: float = 2.0
    name: str = "means"

    def fit(self, X, y):
        self.means = np.bincount(X, weights=y) / self.strength
        return self

    def arrays(self):
        if not hasattr(self, "means"):
            raise NotFittedError("call fit first")
        return {"means": self.means}

    @classmethod
    def from_arrays(cls, arrays, **settings):
        model = cls(**settings)
        model.means = arrays["means"]
        return model


@pytest.fixture(autouse=True)
def with_means(monkeypatch):
    monkeypatch.setitem(saved_models.ARRAY_MODELS, "Means", Means)


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", FITTED)
def test_a_loaded_model_predicts_exactly_as_the_saved_one(name, tmp_path):
    save_model(FITTED[name], tmp_path / "new" / "model", SCHEMA, "v1")
    loaded = load_model(tmp_path / "new" / "model", SCHEMA, "v1")
    assert type(loaded) is type(FITTED[name])
    np.testing.assert_array_equal(predictions(loaded), predictions(FITTED[name]))


def test_a_model_of_arrays_comes_back_with_its_settings(tmp_path):
    model = Means(strength=0.5).fit([0, 1, 1], [1.0, 2.0, 4.0])
    save_model(model, tmp_path, {"video": "id"}, "v1")
    loaded = load_model(tmp_path, {"video": "id"}, "v1")
    assert (loaded.strength, loaded.name) == (0.5, "means")
    np.testing.assert_array_equal(loaded.means, [2.0, 12.0])


def test_vectors_of_users_and_items_come_back(tmp_path):
    history = csr_matrix((np.random.default_rng(0).random((40, 9)) < 0.4).astype(float))
    tower = TwoTower(dims=4, epochs=1, batch=8, log_q=False).fit(history, np.arange(40) % 9)
    factors = MatrixFactorization.from_arrays({"vectors": tower.item_vectors()}, dims=4, last=3)
    for model in (tower, factors):
        save_model(model, tmp_path, {"history": "items"}, "v1")
        loaded = load_model(tmp_path, {"history": "items"}, "v1")
        assert asdict(loaded) == asdict(model)
        np.testing.assert_array_equal(loaded.item_vectors(), model.item_vectors())
        np.testing.assert_array_equal(loaded.user_vectors(history), model.user_vectors(history))


def test_the_manifest_says_what_the_file_is(tmp_path):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["schema"] == [["age", "float64"], ["country", "category"], ["clicks", "int64"]]
    assert set(manifest["libraries"]) == {"scikit-learn", "lightgbm", "skops", "numpy"}
    assert manifest["libraries"]["numpy"] == np.__version__
    assert (tmp_path / f"model-{manifest['sha256']}").exists()


def test_without_a_version_any_is_loaded_and_the_published_one_can_be_asked(tmp_path):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v7")
    assert published_version(tmp_path) == "v7"
    np.testing.assert_array_equal(predictions(load_model(tmp_path, SCHEMA)), predictions(LOGISTIC))


def test_a_save_replaces_the_old_model_and_leaves_nothing_else(tmp_path):
    save_model(FITTED["boosting"], tmp_path, SCHEMA, "v1")
    (tmp_path / "model-part").write_bytes(b"of a killed writer")
    save_model(LOGISTIC, tmp_path, SCHEMA, "v2")
    assert len([*tmp_path.iterdir()]) == 2
    assert type(load_model(tmp_path, SCHEMA, "v2")) is type(LOGISTIC)


# ---------------------------------------------------------------- features, versions, libraries


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"age": "float64", "clicks": "int64"}, r"missing: country\)"),
        (SCHEMA | {"hour": "int64"}, r"added: hour\)"),
        ({"hour": "int64"}, "missing: age, country, clicks; added: hour"),
        (SCHEMA | {"age": "int64"}, r"of another kind: age \(int64, trained on float64\)"),
        (dict(reversed(SCHEMA.items())), "in another order: clicks stands where age belongs"),
    ],
)
def test_other_features_are_refused_and_named(schema, message, tmp_path):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    with pytest.raises(SavedModelError, match=f"trained on .*{message}.*train and save"):
        load_model(tmp_path, schema, "v1")


names = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["int64", "float64"]), min_size=1)


@given(saved=names, given=names)
def test_only_the_same_schema_in_the_same_order_is_accepted(saved, given):
    if [*saved.items()] == [*given.items()]:
        saved_models._check_schema(saved, given)
    else:
        with pytest.raises(SavedModelError, match=r"\(\w.*: \w.*\)"):
            saved_models._check_schema(saved, given)


def test_another_version_is_refused(tmp_path):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    with pytest.raises(SavedModelError, match="is version 'v1', not 'v2': ask for 'v1', or save 'v2'"):
        load_model(tmp_path, SCHEMA, "v2")


def test_another_format_is_refused(tmp_path, monkeypatch):
    newer = files.Shelf("model", format=2, error=SavedModelError)
    monkeypatch.setattr(saved_models, "SHELF", newer)
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    monkeypatch.undo()
    with pytest.raises(SavedModelError, match="format 2, and this program reads 1"):
        load_model(tmp_path, SCHEMA, "v1")


def with_library(monkeypatch, name, version):
    installed = saved_models.library_version
    monkeypatch.setattr(saved_models, "library_version", lambda n: version if n == name else installed(n))


@pytest.mark.parametrize("name", ["scikit-learn", "lightgbm"])
def test_a_model_of_another_library_is_refused(name, tmp_path, monkeypatch):
    with_library(monkeypatch, name, "1.2.3")
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    monkeypatch.undo()
    with pytest.raises(SavedModelError, match=f"with {name} 1.2.3.*install {name}==1.2.3, or train"):
        load_model(tmp_path, SCHEMA, "v1")


def test_arrays_and_patch_versions_outlive_a_library(tmp_path, monkeypatch):
    with_library(monkeypatch, "lightgbm", lightgbm.__version__ + ".9")
    save_model(LOGISTIC, tmp_path / "a", SCHEMA, "v1")
    with_library(monkeypatch, "scikit-learn", "0.1.2")
    save_model(Means().fit([0], [2.0]), tmp_path / "b", SCHEMA, "v1")
    monkeypatch.undo()
    monkeypatch.setitem(saved_models.ARRAY_MODELS, "Means", Means)
    assert load_model(tmp_path / "a", SCHEMA) and load_model(tmp_path / "b", SCHEMA).means == [1.0]


# ---------------------------------------------------------------- damage and malice


def saved_file(directory):
    return next(directory.glob("model-*"))


def test_a_damaged_cut_or_missing_file_is_refused(tmp_path):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    path = saved_file(tmp_path)
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole[:99], b"", whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]):
        path.write_bytes(damaged)
        with pytest.raises(SavedModelError, match="damaged or cut short: save the model again"):
            load_model(tmp_path, SCHEMA)
    path.unlink()
    with pytest.raises(SavedModelError, match="missing: save the model again"):
        load_model(tmp_path, SCHEMA)


def edited(key, value):
    return lambda text: json.dumps(json.loads(text) | {key: value}).encode()


@pytest.mark.parametrize(
    "edit", [lambda text: text[:-5], lambda text: b"[]", edited("version", "v2"), edited("schema", [])]
)
def test_a_damaged_manifest_is_refused(edit, tmp_path):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(edit(manifest.read_bytes()))
    with pytest.raises(SavedModelError, match=r"manifest.json .* is damaged: save the model again"):
        load_model(tmp_path, SCHEMA)


@pytest.mark.parametrize("load", [lambda path: load_model(path, SCHEMA), published_version])
def test_a_directory_without_a_manifest_is_refused(load, tmp_path):
    with pytest.raises(SavedModelError, match="holds no saved model: save one, or check the path"):
        load(tmp_path)


class Bomb:
    """Unpickling it leaves a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def publish_forged(directory, data, kind, settings=None):
    """Publish other bytes as a model, with a correct checksum and seal."""
    facts = {
        "kind": kind,
        "version": "v1",
        "schema": [*map(list, SCHEMA.items())],
        "settings": settings or {},
    }
    libraries = {name: saved_models.library_version(name) for name in saved_models.LIBRARIES}
    saved_models.SHELF.publish(directory, lambda f: f.write(data), facts | {"libraries": libraries})


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def skops_file_of(**changes):
    """A skops file whose root has other fields."""
    file = io.BytesIO(skops.io.dumps(LogisticRegression()))
    with ZipFile(file) as archive:
        text = json.loads(archive.read("schema.json"))
    with ZipFile(out := io.BytesIO(), "w") as archive:
        archive.writestr("schema.json", json.dumps(text | changes))
    return out.getvalue()


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("Pipeline", lambda bomb: pickle.dumps(bomb)),
        ("Means", lambda bomb: pickle.dumps(bomb)),
        ("Means", lambda bomb: npz(means=np.array([bomb], dtype=object))),
        ("Pipeline", lambda bomb: npz(means=np.array([bomb], dtype=object))),
        ("Pipeline", lambda bomb: skops.io.dumps(bomb.path)[:-9]),
        ("Pipeline", lambda bomb: skops_file_of(__class__="system", __module__="os")),
        ("Pipeline", lambda bomb: b""),
    ],
)
def test_a_pickle_or_another_foreign_file_is_refused_and_never_run(kind, data, tmp_path):
    bomb = Bomb(tmp_path / "exploded")
    publish_forged(tmp_path / "model", data(bomb), kind)
    with pytest.raises(SavedModelError, match="no model that is safe to load: train and save"):
        load_model(tmp_path / "model", SCHEMA)
    assert not (tmp_path / "exploded").exists()
    pickle.loads(pickle.dumps(bomb))  # the bomb is real
    assert (tmp_path / "exploded").exists()


class Stranger(LogisticRegression):
    """An estimator that no list names."""


def test_a_skops_file_with_another_type_is_refused_by_its_name(tmp_path):
    publish_forged(tmp_path, skops.io.dumps(Stranger().fit(X[["clicks"]], Y)), "Stranger")
    with pytest.raises(SavedModelError, match=r"Untrusted types.*Stranger"):
        load_model(tmp_path, SCHEMA)


def test_the_list_of_trusted_types_is_short_and_no_function_on_it_acts():
    assert len(saved_models.TRUSTED) < 20
    functions = [name for name in saved_models.TRUSTED if name.rpartition(".")[2][0].islower()]
    assert {name.rpartition(".")[2] for name in functions} == {
        "partial",
        "dtype",
        "make_column_selector",
        "check_array",
    }


def test_each_trusted_type_is_needed():
    models = [*FITTED.values(), *OF_RANKERS]
    used = {t for model in models for t in skops.io.get_untrusted_types(data=skops.io.dumps(model))}
    assert set(saved_models.TRUSTED) == used


# ---------------------------------------------------------------- what cannot be saved


class Adder(BaseEstimator):
    def fit(self, X, y=None):
        self.fitted_ = True
        return self


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Stranger().fit(X[["clicks"]], Y), "types that no load trusts .*Stranger"),
        (make_pipeline(FunctionTransformer(subprocess.run), LOGISTIC[-1]), "subprocess.run"),
        (Adder().fit(X), "no load trusts .*Adder"),
        ("a text", "estimator or one of .*Means, not str"),
        (object(), "not object"),
        (Means(strength=[1]).fit, "not method"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved_and_the_old_model_stays(model, message, tmp_path):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path, SCHEMA, "v2")
    assert published_version(tmp_path) == "v1" and load_model(tmp_path, SCHEMA)


@pytest.mark.parametrize(
    ("settings", "values", "message"),
    [
        ({"name": ["a"]}, [1.0], "name of Means is .* of type list: use a plain number"),
        ({"name": np.int64(3)}, [1.0], "of type int64"),
        ({}, np.array([None, 1]), "Object arrays cannot be saved"),
    ],
)
def test_settings_and_arrays_that_would_not_come_back_are_refused(settings, values, message, tmp_path):
    model = Means(**settings)
    model.means = values
    with pytest.raises(ValueError, match=message):
        save_model(model, tmp_path, SCHEMA, "v1")
    with pytest.raises(SavedModelError):
        published_version(tmp_path)


@pytest.mark.parametrize("model", [logistic(), lightgbm.LGBMRanker(), Means()])
def test_an_unfitted_model_is_not_saved(model, tmp_path):
    with pytest.raises(NotFittedError):
        save_model(model, tmp_path, SCHEMA, "v1")


@pytest.mark.parametrize("schema", [{}, None, "age", ["age"], {"age": 3}, {3: "age"}, {"": "x"}, {"age": ""}])
def test_a_schema_that_says_nothing_is_refused(schema, tmp_path):
    for use in (lambda: save_model(LOGISTIC, tmp_path, schema, "v1"), lambda: load_model(tmp_path, schema)):
        with pytest.raises(ValueError, match=r"use schema_of\(X\)"):
            use()


@pytest.mark.parametrize("version", ["", 3])
def test_a_version_that_says_nothing_is_refused(version, tmp_path):
    for use in (
        lambda: save_model(LOGISTIC, tmp_path, SCHEMA, version),
        lambda: load_model(tmp_path, SCHEMA, version),
    ):
        with pytest.raises(ValueError, match="version must be a text"):
            use()


# ---------------------------------------------------------------- kills and races


def test_a_model_that_is_replaced_during_a_load_is_loaded_anew(tmp_path, monkeypatch):
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    old, opened = saved_file(tmp_path), Path.open

    def replace_then_open(path, *arguments, **keywords):
        if path == old and old.exists():
            monkeypatch.setattr(Path, "open", opened)
            save_model(FITTED["boosting"], tmp_path, SCHEMA, "v1")
        return opened(path, *arguments, **keywords)

    monkeypatch.setattr(Path, "open", replace_then_open)
    assert type(load_model(tmp_path, SCHEMA, "v1")) is HistGradientBoostingClassifier


WRITER = """
import os, sys, time
import numpy as np
from sklearn.linear_model import LogisticRegression
from helpers.saved_models import save_model

def stop_before_the_manifest(source, target):
    if target.name == "manifest.json":
        print("stopped", flush=True)
        time.sleep(600)
    replace(source, target)

replace, os.replace = os.replace, stop_before_the_manifest
save_model(LogisticRegression().fit(np.eye(2), [0, 1]), sys.argv[1], {"a": "float64", "b": "float64"}, "v2")
"""


def test_killing_the_writer_leaves_the_old_model_whole(tmp_path):  # tests/test_files.py kills at every step
    save_model(LOGISTIC, tmp_path, SCHEMA, "v1")
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline().strip() == b"stopped"
        writer.kill()
    assert len([*tmp_path.iterdir()]) > 2
    np.testing.assert_array_equal(predictions(load_model(tmp_path, SCHEMA, "v1")), predictions(LOGISTIC))
    save_model(LOGISTIC, tmp_path, SCHEMA, "v3")
    assert len([*tmp_path.iterdir()]) == 2
