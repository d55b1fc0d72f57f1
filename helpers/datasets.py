"""Real data, committed beside the code and checked at the door.

Every loader compares its file with `datasets/manifest.json` (size and sha256) and with a pandera schema, then
returns a fresh frame. The data card of each file is in `datasets/`. All times are UTC, stored without a zone.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa

FOLDER = Path(__file__).parents[1] / "datasets"
POLICIES = ["random", "bts"]
CAMPAIGNS = ["all", "men", "women"]
STARS = [half / 2 for half in range(1, 11)]


class DatasetError(RuntimeError):
    """A data file is missing, damaged or not what its schema says; the message tells you how to repair it."""


def table(**columns: pa.Column) -> pa.DataFrameSchema:
    """Return a schema that wants exactly these columns, in this order."""
    return pa.DataFrameSchema(dict(columns), strict=True, ordered=True)


CARD_FRAUD = table(
    seconds=pa.Column("int32", pa.Check.in_range(0, 2 * 24 * 60 * 60)),
    **{f"v{i}": pa.Column("float32", pa.Check.in_range(-150, 150)) for i in range(1, 29)},
    amount=pa.Column("float64", pa.Check.in_range(0, 30_000)),
    is_fraud=pa.Column(bool),
)
MOVIELENS_RATINGS = table(
    user_id=pa.Column("int32", pa.Check.ge(1)),
    movie_id=pa.Column("int32", pa.Check.ge(1)),
    rating=pa.Column("float32", pa.Check.isin(STARS)),
    rated_at=pa.Column("datetime64[s]", pa.Check.ge(pd.Timestamp("1995-01-01"))),
)
MOVIELENS_FILMS = table(
    movie_id=pa.Column("int32", pa.Check.ge(1), unique=True),
    title=pa.Column("str", nullable=True),
    year=pa.Column("Int16", pa.Check.in_range(1870, 2030), nullable=True),
    genres=pa.Column("str", nullable=True),
)
OPEN_BANDIT = table(
    timestamp=pa.Column("datetime64[us]", pa.Check.in_range(*pd.to_datetime(["2019-11-24", "2019-12-01"]))),
    policy=pa.Column(pd.CategoricalDtype(POLICIES)),
    campaign=pa.Column(pd.CategoricalDtype(CAMPAIGNS)),
    item_id=pa.Column("int16", pa.Check.in_range(0, 79)),
    position=pa.Column("int8", pa.Check.isin([1, 2, 3])),
    propensity=pa.Column("float64", pa.Check.in_range(0, 1, include_min=False)),
    clicked=pa.Column(bool),
    **{f"user_feature_{i}": pa.Column("category") for i in range(4)},
)


def load_card_fraud() -> pd.DataFrame:
    """Return the ULB card payments, one row a payment, in order of time (284,807 rows, 31 columns).

    `seconds`: seconds since the first payment. `v1` ... `v28`: principal components, without a unit, rounded
    to 2 decimals. `amount`: EUR, to the cent. `is_fraud`: the final label. Nothing is missing.

    Raises DatasetError if the file is missing, damaged or does not fit its schema.
    Source: Dal Pozzolo et al. 2015 and the ULB Machine Learning Group; see `datasets/card_fraud.md`.
    """
    return _load("card_fraud.parquet", CARD_FRAUD)


def load_movielens_ratings() -> pd.DataFrame:
    """Return the MovieLens ratings, one row a rating, in order of time, user and film (100,004 rows).

    `rating`: stars, 0.5 to 5 in half stars. `rated_at`: UTC, to the second. Nothing is missing.

    Raises DatasetError if the file is missing, damaged or does not fit its schema.
    Source: Harper & Konstan 2015, ml-latest-small of October 2016; see `datasets/movielens.md`.
    """
    ratings = _load("movielens_ratings.parquet", MOVIELENS_RATINGS)
    return ratings.astype({"rated_at": "datetime64[s]"})  # parquet has no seconds, it keeps milliseconds


def load_movielens_films() -> pd.DataFrame:
    """Return every rated film, one row a film, sorted by `movie_id` (9,066 rows).

    `title` and `year` (of release) are null for a few films. `genres` is a string such as "Action|Comedy",
    null if none is known; `films["genres"].str.get_dummies("|")` gives one column a genre.

    Raises DatasetError if the file is missing, damaged or does not fit its schema.
    Source: Harper & Konstan 2015, ml-latest-small of October 2016; see `datasets/movielens.md`.
    """
    return _load("movielens_films.parquet", MOVIELENS_FILMS)


def load_open_bandit(policy: str | None = None, campaign: str | None = None) -> pd.DataFrame:
    """Return the small Open Bandit log, one row an impression (60,000 rows; 10,000 a policy and campaign).

    Keep one `policy` ("random" or "bts", Bernoulli Thompson sampling) or one `campaign` ("all", "men" or
    "women"); None keeps all. `timestamp`: UTC, to the microsecond. `item_id` counts from 0 in its campaign.
    `position`: 1 left, 2 center, 3 right. `propensity`: probability, above 0, that the policy showed this
    item at this position. `user_feature_0` ... `user_feature_3`: hashed categories. Nothing is missing.

    Raises ValueError for an unknown policy or campaign, DatasetError if the file is missing, damaged or does
    not fit its schema. Source: Saito et al. 2020; see `datasets/open_bandit.md`.
    """
    _check_choice("policy", policy, POLICIES)
    _check_choice("campaign", campaign, CAMPAIGNS)
    log = _load("open_bandit.parquet", OPEN_BANDIT)
    for column, value in {"policy": policy, "campaign": campaign}.items():
        if value is not None:
            log = log[log[column] == value]
    return log.reset_index(drop=True)


def _check_choice(name: str, value: str | None, choices: list[str]) -> None:
    if value is not None and value not in choices:
        raise ValueError(f"{name} must be None or one of {', '.join(choices)}; you gave {value!r}.")


def _load(file: str, schema: pa.DataFrameSchema) -> pd.DataFrame:
    frame = pd.read_parquet(io.BytesIO(_read(file, _expected(file))))
    return conform(frame, schema, f"datasets/{file}", _repair(file))


def conform(frame: pd.DataFrame, schema: pa.DataFrameSchema, name: str, repair: str) -> pd.DataFrame:
    """Return the frame if it fits the schema; otherwise raise DatasetError with the first misfit."""
    try:
        return schema.validate(frame, lazy=True)
    except pa.errors.SchemaErrors as error:
        misfit = error.failure_cases.iloc[0]
        where = f"column {misfit['column']}" if misfit["schema_context"] == "Column" else "the set of columns"
        what = f"{where} fails the check {misfit['check']} with {misfit['failure_case']}"
        raise DatasetError(f"{name} does not fit its schema: {what}. {repair}") from error


def _expected(file: str) -> dict[str, Any]:
    """Return what the manifest says of the file."""
    try:
        return json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))["files"][file]
    except (OSError, ValueError, KeyError) as error:
        repair = _repair("manifest.json")
        raise DatasetError(f"datasets/manifest.json does not describe {file}: {error!r}. {repair}") from error


def _read(file: str, expected: dict[str, Any]) -> bytes:
    """Return the bytes of the file, read once, so that what is checked is what is used."""
    path = FOLDER / file
    content = path.read_bytes() if path.is_file() else None
    if content is None or hashlib.sha256(content).hexdigest() != expected["sha256"]:
        raise DatasetError(
            f"datasets/{file} is {_damage(content, expected['bytes'])}: "
            f"expected {expected['bytes']:,} bytes with sha256 {expected['sha256'][:12]}..., "
            f"found {_describe(content)}. {_repair(file)}"
        )
    return content


def _damage(content: bytes | None, expected_bytes: int) -> str:
    if content is None:
        return "missing"
    return "truncated" if len(content) < expected_bytes else "altered"


def _describe(content: bytes | None) -> str:
    if content is None:
        return "no file"
    return f"{len(content):,} bytes with sha256 {hashlib.sha256(content).hexdigest()[:12]}..."


def _repair(file: str) -> str:
    return f"Repair it with `git checkout -- datasets/{file}` or `python datasets/build.py`."
