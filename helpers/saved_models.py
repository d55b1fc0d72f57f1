"""Saved models without pickle: published whole, loaded only where features, version and libraries fit.

To unpickle a file is to run it. So scikit-learn and LightGBM models are saved by skops, which rebuilds only
types that are named in advance: its own list, and `TRUSTED` here. A model that consists of arrays hands them
over, and is saved as arrays. The checksum finds damage, not malice: a forged tree can still crash a process,
so load only what your own pipeline wrote. Source: https://skops.readthedocs.io/en/stable/persistence.html.
"""

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version as library_version
from pathlib import Path
from typing import IO, Any, Protocol, Self
from zipfile import ZIP_DEFLATED

import numpy as np
import pandas as pd
import skops.io
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted
from skops.io.exceptions import UnsupportedTypeException

from helpers.files import Shelf
from helpers.recommenders import MatrixFactorization
from helpers.towers import TwoTower

# Beyond scikit-learn's estimators and NumPy's arrays, what the rankers of this project consist of.
TRUSTED = (
    "collections.OrderedDict",  # inside LightGBM's estimators
    "functools.partial",  # HistGradientBoosting's check of its numbers is a partial of check_array
    "helpers.position_bias.PositionFeature",
    "helpers.rankers.CalibratedRegressor",
    "helpers.rankers.LambdaRanker",
    "helpers.rankers.MultiObjective",
    "helpers.rankers.WeightedPipeline",
    "lightgbm.basic.Booster",  # saved as LightGBM's own text
    "lightgbm.sklearn.LGBMClassifier",
    "lightgbm.sklearn.LGBMRanker",
    "numpy.dtype",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.compose._column_transformer.make_column_selector",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.utils.validation.check_array",
)
LIBRARIES = ("scikit-learn", "lightgbm", "skops", "numpy")
BINDING = ("scikit-learn", "lightgbm")  # what they keep inside a model may change with a minor version


class SavedModelError(RuntimeError):
    """The saved model is missing, damaged, unsafe, or does not fit; the message names the repair."""


class ArrayModel(Protocol):
    """A model that consists of arrays: a dataclass whose fields are its settings."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return what was learned; raises NotFittedError before `fit`."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], **settings: Any) -> Self:
        """Make the fitted model again."""


ARRAY_MODELS: dict[str, type[ArrayModel]] = {kind.__name__: kind for kind in (TwoTower, MatrixFactorization)}
SHELF = Shelf("model", format=1, error=SavedModelError)

# ---------------------------------------------------------------- save


def schema_of(X: pd.DataFrame) -> dict[str, str]:
    """Return the dtype of each column of a feature table, in order: the schema for `save_model`."""
    return {str(name): str(dtype) for name, dtype in X.dtypes.items()}


def save_model(
    model: BaseEstimator | ArrayModel, directory: str | Path, schema: Mapping[str, str], version: str
) -> None:
    """Publish a fitted model with its schema (feature name -> dtype or kind, in order) and its version.

    Replaces what `directory` held, in one step: see `Shelf.publish`. The manifest also holds the versions of
    the libraries and the checksum of the file.

    Raises NotFittedError before `fit`, and ValueError for an empty schema or version, a model of another
    kind, or one with a part of a type that `load_model` would refuse.
    """
    schema, version, kind = _schema(schema), _version(version), type(model).__name__
    facts = {
        "kind": kind,
        "version": version,
        "schema": [*map(list, schema.items())],  # pairs, for the order counts
        "libraries": {name: library_version(name) for name in LIBRARIES},
    }
    if ARRAY_MODELS.get(kind) is type(model):
        arrays, facts["settings"] = model.arrays(), _settings(model)
        SHELF.publish(Path(directory), lambda file: np.savez(file, allow_pickle=False, **arrays), facts)
    elif isinstance(model, BaseEstimator):
        check_is_fitted(model)
        data = _skops_file(model)
        SHELF.publish(Path(directory), lambda file: file.write(data), facts)
    else:
        raise ValueError(
            f"model must be a scikit-learn estimator or one of {', '.join(ARRAY_MODELS)}, not {kind}: give "
            f"it arrays() and from_arrays(), and add it to ARRAY_MODELS."
        )


def _schema(schema: Mapping[str, str]) -> dict[str, str]:
    good = isinstance(schema, Mapping) and schema
    if not good or not all(isinstance(text, str) and text for pair in schema.items() for text in pair):
        raise ValueError(
            f"schema must map each feature to its dtype or kind, as texts, not {schema!r}: "
            f"use schema_of(X) of the training table."
        )
    return dict(schema)


def _version(version: str) -> str:
    if not isinstance(version, str) or not version:
        raise ValueError(f"version must be a text such as '2024-05-01', not {version!r}.")
    return version


def _settings(model: ArrayModel) -> dict[str, Any]:
    """The fields of a dataclass, of types that come back from JSON as they were."""
    settings = dataclasses.asdict(model)
    for name, value in settings.items():
        if not isinstance(value, bool | int | float | str | None):
            raise ValueError(
                f"{name} of {type(model).__name__} is {value!r}, of type {type(value).__name__}: use a plain "
                f"number, text or flag."
            )
    return settings


def _skops_file(model: BaseEstimator) -> bytes:
    try:
        data = skops.io.dumps(model, compression=ZIP_DEFLATED)
    except UnsupportedTypeException as error:
        raise ValueError(f"The model has a part that skops cannot save: replace it. {error}") from None
    if others := set(skops.io.get_untrusted_types(data=data)) - set(TRUSTED):
        raise ValueError(
            f"The model has parts of types that no load trusts ({', '.join(sorted(others))}): use parts of "
            f"scikit-learn, or review those types and add them to TRUSTED."
        )
    return data


# ---------------------------------------------------------------- load


def published_version(directory: str | Path) -> str:
    """Return the version of the model in the directory; raises SavedModelError if there is none."""
    return SHELF.manifest(Path(directory))["version"]


def load_model(directory: str | Path, schema: Mapping[str, str], version: str | None = None) -> Any:
    """Load the model that `save_model` published, for exactly these features; None takes any version.

    Raises SavedModelError when the features differ in name, kind or order; for another version; when it was
    saved with other (minor) versions of scikit-learn or LightGBM; when it is missing or damaged; and for a
    file with anything but arrays and trusted types in it, such as a pickle.
    """
    schema, directory = _schema(schema), Path(directory)
    if version is not None:
        _version(version)

    def check(manifest: dict[str, Any]) -> None:
        _check_version(manifest, version)
        _check_schema(dict(manifest["schema"]), schema)
        if manifest["kind"] not in ARRAY_MODELS:
            _check_libraries(manifest["libraries"])

    with SHELF.open(directory, check) as (file, manifest):
        try:
            return _read(file, manifest)
        except Exception as error:  # whatever lies there instead of a model, the answer is the same
            raise SavedModelError(
                f"The model file in {directory.name} holds no model that is safe to load: train and save the "
                f"model again. Found: {error!r}"
            ) from error


def _read(file: IO[bytes], manifest: dict[str, Any]) -> Any:
    if manifest["kind"] not in ARRAY_MODELS:
        return skops.io.load(file, trusted=[*TRUSTED])
    with np.load(file, allow_pickle=False) as arrays:
        return ARRAY_MODELS[manifest["kind"]].from_arrays(dict(arrays), **manifest["settings"])


def _check_version(manifest: dict[str, Any], version: str | None) -> None:
    if version not in (None, manifest["version"]):
        raise SavedModelError(
            f"The saved model is version {manifest['version']!r}, not {version!r}: ask for "
            f"{manifest['version']!r}, or save {version!r} first."
        )


def _check_schema(saved: dict[str, str], given: dict[str, str]) -> None:
    """Refuse features other than those that the model was trained on, and say how they differ."""
    kinds = [name for name in saved if name in given and given[name] != saved[name]]
    found = {
        "missing": [name for name in saved if name not in given],
        "added": [name for name in given if name not in saved],
        "of another kind": [f"{name} ({given[name]}, trained on {saved[name]})" for name in kinds],
    }
    if not any(found.values()) and [*saved] != [*given]:
        moved = next(pair for pair in zip(saved, given, strict=True) if pair[0] != pair[1])
        found["in another order"] = [f"{moved[1]} stands where {moved[0]} belongs"]
    if any(found.values()):
        listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in found.items() if names)
        raise SavedModelError(
            f"The features are not those that the model was trained on ({listed}): compute the features of "
            f"the model's version, or train and save the model on these."
        )


def _check_libraries(saved: dict[str, str]) -> None:
    for name in BINDING:
        installed = library_version(name)
        if saved[name].split(".")[:2] != installed.split(".")[:2]:
            raise SavedModelError(
                f"The model was saved with {name} {saved[name]}, which {installed} may misread: install "
                f"{name}=={saved[name]}, or train and save the model again."
            )
