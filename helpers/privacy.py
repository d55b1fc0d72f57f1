"""Privacy as steps that run: an inventory, minimization, pseudonyms, k-anonymity, erasure of one user.

A pseudonym is not anonymity: who has the key, or enough other columns, finds the person again. `k_anonymity`
measures the second danger.
"""

import hashlib
from collections.abc import Hashable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import ArrayLike

from helpers.datasets import conform

KEY_BYTES = 16  # at least, of the key of pseudonyms
KINDS = ["identifier", "quasi-identifier", "behavior", "technical"]
INVENTORY_SCHEMA = pa.DataFrameSchema(
    {
        "table": pa.Column("str"),
        "column": pa.Column("str"),
        "kind": pa.Column("str", pa.Check.isin(KINDS)),
        "purpose": pa.Column("str"),  # "" is no purpose: `minimize` drops the column
        "retention_days": pa.Column("int64", pa.Check.ge(0)),
    },
    strict=True,
    unique=["table", "column"],
)


def _inventory(rows: str) -> pd.DataFrame:
    """The table behind lines of `table | column | kind | purpose | days`."""
    cells = [[cell.strip() for cell in row.split("|")] for row in rows.strip().splitlines()]
    return pd.DataFrame(cells, columns=list(INVENTORY_SCHEMA.columns)).astype({"retention_days": int})


INVENTORY = _inventory("""
log    | timestamp        | behavior         | order events; windows of features        | 90
log    | request_id       | technical        | name an event; find duplicates           | 90
log    | user_id          | identifier       | features of the user; erasure            | 90
log    | video_id         | behavior         | features of the video                    | 90
log    | position         | technical        | correct for position bias                | 90
log    | propensity       | technical        | off-policy evaluation                    | 90
log    | clicked          | behavior         | label and features                       | 90
log    | watch_seconds    | behavior         | label and features                       | 90
log    | liked            | behavior         | label                                    | 90
log    | dismissed        | behavior         | label and guardrail                      | 90
log    | policy           | technical        | experiments                              | 90
log    | model_version    | technical        | experiments; rollback                    | 90
users  | user_id          | identifier       | join; erasure                            | 730
users  | age_band         | quasi-identifier | protect minors; feature                  | 730
users  | country          | quasi-identifier | rights by country; feature               | 730
users  | device           | quasi-identifier | feature                                  | 730
users  | language         | quasi-identifier | feature                                  | 730
videos | video_id         | technical        | join                                     | 730
videos | topic            | technical        | feature                                  | 730
videos | duration_seconds | technical        | feature                                  | 730
videos | creator_id       | identifier       | feature of the creator; payment          | 730
videos | language         | technical        | feature                                  | 730
videos | uploaded_at      | technical        | feature                                  | 730
""")


def minimize(
    log: pd.DataFrame,
    inventory: pd.DataFrame = INVENTORY,
    *,
    table: str = "log",
    now: pd.Timestamp | None = None,
) -> pd.DataFrame:
    """Return only the columns that have a purpose and, given `now`, only the rows within their retention.

    A row goes when its `timestamp` is older than the shortest retention among the columns that are kept.
    Raises ValueError for a column that the inventory does not declare: declare it before you collect it.
    """
    conform(inventory.reset_index(drop=True), INVENTORY_SCHEMA, "The inventory", "Give each column one row.")
    declared = inventory[inventory["table"] == table].set_index("column")
    if undeclared := [name for name in log if name not in declared.index]:
        raise ValueError(
            f"The inventory does not declare {', '.join(map(str, undeclared))} of {table}: give each a "
            'purpose and a retention (purpose "" to drop it), or stop collecting it.'
        )
    kept = log[[name for name in log if declared.loc[name, "purpose"]]]
    if now is None:
        return kept
    days = int(declared.loc[list(kept), "retention_days"].min())
    return kept[kept["timestamp"] >= pd.Timestamp(now) - pd.Timedelta(days=days)]


def pseudonymize(ids: ArrayLike, key: bytes) -> np.ndarray:
    """Return a pseudonym of 32 hexadecimal digits for each id (any one-dimensional array, read as text).

    The keyed hash BLAKE2b (RFC 7693): the same id and key give the same pseudonym, so tables still join;
    without the key, trying all ids finds nobody. Keep the key apart from the data; delete it to cut the link.

    Raises ValueError for a key shorter than 16 or longer than 64 bytes, and for a missing id.
    """
    if not KEY_BYTES <= len(key) <= hashlib.blake2b.MAX_KEY_SIZE:
        raise ValueError(
            f"The key has {len(key)} bytes: take 16 to 64 random ones, such as secrets.token_bytes(32)."
        )
    codes, unique = pd.factorize(pd.Series(ids))
    if (codes < 0).any():
        raise ValueError(f"{(codes < 0).sum():,} ids are missing: drop those rows.")
    digests = [hashlib.blake2b(str(id_).encode(), key=key, digest_size=16).hexdigest() for id_ in unique]
    return np.array(digests, dtype=object)[codes]


def k_anonymity(
    table: pd.DataFrame, quasi_identifiers: Sequence[str], k: int = 5
) -> tuple[int, pd.DataFrame]:
    """Return the size of the smallest group with equal quasi-identifiers, and the groups smaller than `k`.

    `table` has one row a person. The groups come as one row each, with their `people`, smallest first;
    missing values form groups of their own. The table is k-anonymous if no group is returned (Sweeney 2002).

    Raises ValueError for an empty table or no column.
    """
    if table.empty or not quasi_identifiers:
        raise ValueError("Pass at least one row and one quasi-identifier: without them there is no group.")
    people = (
        table.groupby([*quasi_identifiers], dropna=False, observed=True).size().rename("people").reset_index()
    )
    offending = people[people["people"] < k].sort_values("people", kind="stable", ignore_index=True)
    return int(people["people"].min()), offending


class Store(Protocol):
    """An online store that can forget a user."""

    def erase(self, user_id: Hashable) -> int:
        """Remove every row of a user and return their number."""


class Erased(NamedTuple):
    """The tables without the user, and a report: `place`, `rows_removed`, `rows_left`."""

    log: pd.DataFrame
    features: pd.DataFrame
    training: pd.DataFrame
    report: pd.DataFrame


def erase_user(
    user_id: Hashable, *, log: pd.DataFrame, features: pd.DataFrame, store: Store, training: pd.DataFrame
) -> Erased:
    """Remove a user from the raw log, the feature table, the online store and the training set.

    Lineage finds the rows: `features` and `training` carry the index of the log rows that they were made
    from, also after sampling or a split; rows with a `user_id` column are found by it as well. The store is
    changed in place, first; the tables are returned without the user: write them over the old files. Models
    that were trained on the rows are not changed: note them, and train them again.

    Raises ValueError if the index of the log is not unique, and what the store raises.
    """
    if not log.index.is_unique:
        raise ValueError(
            "The index of the log repeats, so lineage is lost: keep one unique index in all tables."
        )
    rows = log.index[log["user_id"] == user_id]
    erased_in_store = store.erase(user_id)
    tables = {"log": log, "features": features, "training": training}
    kept = {name: table[~_belongs(table, user_id, rows)] for name, table in tables.items()}
    removed = {name: len(tables[name]) - len(kept[name]) for name in tables} | {
        "online store": erased_in_store
    }
    left = {name: int(_belongs(table, user_id, rows).sum()) for name, table in kept.items()}
    left["online store"] = store.erase(user_id)
    report = pd.DataFrame({"rows_removed": removed, "rows_left": left}).rename_axis("place").reset_index()
    return Erased(**kept, report=report)


def _belongs(table: pd.DataFrame, user_id: Hashable, rows: pd.Index) -> np.ndarray:
    """Which rows come from the user, by lineage or by their own column."""
    own = table["user_id"] == user_id if "user_id" in table else np.zeros(len(table), bool)
    return np.asarray(own) | table.index.isin(rows)
