"""Features declared once, computed point-in-time over a log: in DuckDB, row by row, or on a Dask cluster.

A log has one row an event and a `timestamp` (UTC, without a zone); its other columns are keys and outcomes.
A feature of an event sees only the events **strictly before** its timestamp. Events with the same timestamp
never see each other, so the order of rows does not matter. The online store in `feature_store.py` keeps the
same declarations incrementally; `parity` compares the two row by row. Bad tables are stopped at the door.
"""

import argparse
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import duckdb
import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import ArrayLike
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupShuffleSplit, train_test_split

from helpers.datasets import conform

if TYPE_CHECKING:  # an optional extra: see `distributed_features`
    import dask.dataframe as dd
    from distributed import Client

ENTITIES = ("user_id", "video_id")  # the keys of the tables `users` and `videos`
EVENT_ID = ("request_id", "video_id")  # names one impression
STATIC = ("attribute", "age")
SOURCED = ("attribute", "age", "sum", "mean", "smoothed_mean", "distinct", "share")
RANGED = ("age", "count", "distinct", "share", "seconds_since")
AGGREGATIONS = (
    "attribute",
    "age",
    "count",
    "sum",
    "mean",
    "smoothed_mean",
    "distinct",
    "share",
    "seconds_since",
)

# ---------------------------------------------------------------- declarations


def to_microseconds(duration: str) -> int:
    """A duration such as "5min" as whole microseconds."""
    return int(pd.Timedelta(duration) // pd.Timedelta("1us"))


class Measure(NamedTuple):
    """What must be counted for a feature: one function of the past events that share the values of `keys`."""

    keys: tuple[str, ...]
    function: str  # count, sum, distinct, or last (the newest time, in microseconds)
    column: str | None
    window: int | None  # microseconds; None is everything
    delay: int  # microseconds

    @property
    def label(self) -> str:
        """A name for it in SQL, such as `sum clicked by user_id 300s`."""
        what = self.function if self.column is None else f"{self.function} {self.column}"
        window = "" if self.window is None else f" {self.window / 1e6:g}s"
        return f"{what} by {'+'.join(self.keys)}{window}" + (f" -{self.delay / 1e6:g}s" if self.delay else "")


@dataclass(frozen=True)
class Feature:
    """One feature, declared once for every engine.

    `keys`: whose value it is, such as ("user_id",). `column`: a column of the log, of `videos` or of `users`
    (looked up in this order), or arithmetic over columns, such as "watch_seconds / duration_seconds".

    | aggregation | value |
    |---|---|
    | attribute | the column of the table of the entity; `keys` is ("user_id",) or ("video_id",) |
    | age | seconds from the time in that column to the event |
    | count, sum, mean | over the past events with the same keys |
    | smoothed_mean | (sum + prior * strength) / (count + strength) |
    | distinct | number of different values of the column; needs a window |
    | share | share of those events that have the present event's value in the column; needs a window |
    | seconds_since | seconds since the newest of those events |

    `window`: how far back, such as "5min"; None is everything. `delay`: how late the store learns of an
    event, such as "7D". The events of [t - delay - window, t - delay) count. `default`: the value without
    such an event; None is missing (NaN). `owner` and `purpose` are for people, and for the data inventory.

    Raises ValueError for a declaration that cannot be computed.
    """

    name: str
    keys: tuple[str, ...]
    aggregation: str
    column: str | None = None
    window: str | None = None
    delay: str = "0s"
    default: float | None = None
    prior: float = 0.0
    strength: float = 0.0
    owner: str = "recommendations"
    purpose: str = "rank videos"

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(f"{self.name}: aggregation must be one of {', '.join(AGGREGATIONS)}.")
        if (self.column is not None) != (self.aggregation in SOURCED):
            raise ValueError(
                f"{self.name}: {self.aggregation} takes {'a' if self.column is None else 'no'} column."
            )
        if isinstance(self.keys, str) or not self.keys:
            raise ValueError(f"{self.name}: keys must be a tuple of columns, such as ('user_id',).")
        if self.is_static and (len(self.keys) > 1 or self.keys[0] not in ENTITIES):
            raise ValueError(
                f"{self.name}: an {self.aggregation} has the keys ('user_id',) or ('video_id',)."
            )
        if self.aggregation in ("distinct", "share") and self.window is None:
            raise ValueError(f"{self.name}: {self.aggregation} needs a window, such as '5min'.")
        if to_microseconds(self.window or "1s") <= 0 or to_microseconds(self.delay) < 0:
            raise ValueError(f"{self.name}: the window must be above 0 and the delay must not be negative.")

    @property
    def is_static(self) -> bool:
        """It is read from the table of its entity, not from the log."""
        return self.aggregation in STATIC

    @property
    def reach(self) -> int:
        """How far back a windowed feature looks, in microseconds; without a window, the delay alone."""
        return to_microseconds(self.window or "0s") + to_microseconds(self.delay)

    def _measure(self, function: str, column: str | None = None, more: tuple[str, ...] = ()) -> Measure:
        window = None if self.window is None else to_microseconds(self.window)
        return Measure((*self.keys, *more), function, column, window, to_microseconds(self.delay))

    @cached_property
    def measures(self) -> dict[str, Measure]:
        """The measures that `value` needs, by the name of its argument."""
        count = self._measure("count")
        match self.aggregation:
            case "count":
                return {"n": count}
            case "sum" | "mean" | "smoothed_mean":
                return {"n": count, "total": self._measure("sum", self.column)}
            case "distinct":
                return {"n": count, "total": self._measure("distinct", self.column)}
            case "share":
                return {"n": count, "total": self._measure("count", more=(str(self.column),))}
            case "seconds_since":
                return {"n": count, "total": self._measure("last")}
        return {}

    def value(self, at: ArrayLike, n: ArrayLike, total: ArrayLike = 0) -> np.ndarray:
        """The value at time `at` (microseconds) of `n` past events whose measure is `total`, of any shape."""
        at, n, total = np.asarray(at), np.asarray(n, float), np.asarray(total, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            match self.aggregation:
                case "count":
                    return n
                case "smoothed_mean":
                    value, empty = (
                        (total + self.prior * self.strength) / (n + self.strength),
                        n + self.strength == 0,
                    )
                case "mean" | "share":
                    value, empty = total / n, n == 0
                case "seconds_since":
                    value, empty = (at - total) / 1e6, n == 0
                case _:
                    value, empty = total, n == 0
        return np.where(empty, np.nan if self.default is None else self.default, value)


USER, VIDEO, CREATOR = ("user_id",), ("video_id",), ("creator_id",)
WATCH_SHARE = "watch_seconds / duration_seconds"
CTR = {"aggregation": "smoothed_mean", "column": "clicked", "prior": 0.1, "strength": 20.0}
FEATURES = (
    Feature("user_age_band", USER, "attribute", "age_band", purpose="rank for an age band; never below it"),
    Feature("user_country", USER, "attribute", "country"),
    Feature("user_device", USER, "attribute", "device"),
    Feature("user_language", USER, "attribute", "language"),
    Feature("video_topic", VIDEO, "attribute", "topic"),
    Feature("video_duration_seconds", VIDEO, "attribute", "duration_seconds"),
    Feature("video_language", VIDEO, "attribute", "language"),
    Feature("video_age_seconds", VIDEO, "age", "uploaded_at"),
    Feature("user_impressions", USER, "count"),
    Feature("user_ctr", USER, **CTR),
    Feature("user_watch_share", USER, "mean", WATCH_SHARE),
    Feature("video_impressions", VIDEO, "count"),
    Feature("video_ctr", VIDEO, **CTR),
    Feature("video_watch_share", VIDEO, "mean", WATCH_SHARE),
    Feature("creator_ctr", CREATOR, **CTR),
    Feature("impressions_5min", USER, "count", window="5min"),
    Feature("clicks_5min", USER, "sum", "clicked", window="5min", default=0.0),
    Feature("watch_share_5min", USER, "mean", WATCH_SHARE, window="5min"),
    Feature("topics_5min", USER, "distinct", "topic", window="5min", default=0.0),
    Feature("topic_share_5min", USER, "share", "topic", window="5min"),
    Feature("seconds_since_impression", USER, "seconds_since"),
)

# ---------------------------------------------------------------- doors


def deduplicate(log: pd.DataFrame, event_id: Sequence[str] = EVENT_ID) -> pd.DataFrame:
    """Return the log with the first row of each event id, in the same order; twice is the same as once.

    Raises ValueError, with the column, if two rows of one id differ: no rule can tell which is true.
    """
    again = log.duplicated([*event_id])
    contradictory = log[~log.duplicated() & again]
    if len(contradictory):
        values = log[(log[[*event_id]] == contradictory[[*event_id]].iloc[0]).all(axis=1)]
        column = next(name for name in log if values[name].duplicated(keep=False).sum() < len(values))
        raise ValueError(
            f"The event {dict(values[[*event_id]].iloc[0])} comes with different values in column {column}: "
            "give each event its own id, or drop the wrong row."
        )
    return log[~again]


def expect_unique_events(log: pd.DataFrame, event_id: Sequence[str] = EVENT_ID) -> None:
    """Raise ValueError if an event occurs twice; a log without the columns of the id is not looked at."""
    if set(event_id) <= set(log) and (twice := log.duplicated([*event_id])).any():
        raise ValueError(
            f"{twice.sum():,} rows repeat an earlier {' + '.join(event_id)} and would be counted twice: "
            "use deduplicate(log) first."
        )


def microseconds(times: pd.Series) -> np.ndarray:
    """Times without a zone as whole microseconds since 1970; raises ValueError for anything else."""
    if not pd.api.types.is_datetime64_dtype(times) or times.isna().any():
        raise ValueError(
            f"Column {times.name} must hold a time in each row, without a zone, not {times.dtype} with "
            f"{times.isna().sum():,} missing: use pd.to_datetime(...) on UTC times; drop rows without one."
        )
    return times.to_numpy().astype("datetime64[us]").astype("int64")


def entity_positions(log: pd.DataFrame, entities: pd.DataFrame | None, key: str) -> np.ndarray:
    """The row of `entities` that each row of the log belongs to; raises ValueError where there is none."""
    table = key.replace("_id", "s")
    if entities is None:
        raise ValueError(f"These features need the table {table}: pass it.")
    if entities[key].duplicated().any():
        raise ValueError(f"Column {key} of {table} has duplicates: keep one row of each.")
    positions = pd.Index(entities[key]).get_indexer(pd.Index(log[key]))
    if (unknown := positions < 0).any():
        example = log[key].iloc[int(unknown.argmax())]
        raise ValueError(
            f"{unknown.sum():,} rows of the log have a {key} that {table} lacks, such as {example}: "
            f"add it to {table}, or drop those rows."
        )
    return positions


def _names(column: str) -> list[str]:
    """The columns in an arithmetic expression."""
    return re.findall(r"[A-Za-z_]\w*", column)


def needed_columns(features: Iterable[Feature]) -> set[str]:
    """The columns of the log, of `users` and of `videos` that the features use."""
    return {name for f in features for source in (*f.keys, f.column or "") for name in _names(source)}


class Tables:
    """The log with the attributes of its users and videos, each looked up once."""

    def __init__(self, log: pd.DataFrame, users: pd.DataFrame | None, videos: pd.DataFrame | None) -> None:
        """Keep the tables; nothing is copied."""
        self.log, self.tables = log, {"user_id": users, "video_id": videos}
        self.positions: dict[str, np.ndarray] = {}

    def attribute(self, key: str, column: str) -> pd.Series:
        """The column of the entity in each row of the log; text as categories."""
        if key not in self.positions:
            self.positions[key] = entity_positions(self.log, self.tables[key], key)
        values = self._column(self.tables[key], column, key.replace("_id", "s"))
        is_text = pd.api.types.is_string_dtype(values)
        return (
            (values.astype("category") if is_text else values)
            .take(self.positions[key])
            .set_axis(self.log.index)
        )

    def column(self, name: str) -> pd.Series:
        """The column of the log, else of `videos`, else of `users`, in each row of the log."""
        if name in self.log:
            return self.log[name]
        for key in reversed(ENTITIES):
            if self.tables[key] is not None and name in self.tables[key]:
                return self.attribute(key, name)
        return self._column(self.log, name, "the log (and in videos and users)")

    @staticmethod
    def _column(table: pd.DataFrame | None, name: str, where: str) -> pd.Series:
        if table is None or name not in table:
            raise ValueError(
                f"Column {name} is missing in {where}: add it, or leave out the features that use it."
            )
        return table[name]


def event_table(tables: Tables, features: Iterable[Feature]) -> pd.DataFrame:
    """The events as every engine reads them: `t` in microseconds, the keys and the sources of the measures.

    Raises DatasetError, with the column, if a value is missing or a number is infinite.
    """
    measures = {measure for f in features for measure in f.measures.values()}
    sources = {m.column for m in measures if m.function == "sum"}
    plain = {k for m in measures for k in m.keys} | {m.column for m in measures if m.function == "distinct"}
    raw = {name: tables.column(name) for name in sorted(plain | {n for s in sources for n in _names(s)})}
    events = {
        "t": pd.Series(microseconds(Tables._column(tables.log, "timestamp", "the log")), tables.log.index)
    }
    events |= {name: raw[name] for name in sorted(plain)}
    events |= {source: _evaluate(source, raw) for source in sorted(sources)}
    checks = {name: pa.Column(checks=_finite if name in sources else None) for name in events}
    return conform(
        pd.DataFrame(events, copy=False), pa.DataFrameSchema(checks), "The log", "Drop or mend those rows."
    )


_finite = pa.Check(lambda values: np.isfinite(values), name="finite")


def _evaluate(source: str, columns: dict[str, pd.Series]) -> pd.Series:
    """The arithmetic over the columns, as floats."""
    numbers = {name: columns[name].astype(float) for name in _names(source)}
    return pd.DataFrame(numbers).eval(source)


def feature_schema(features: Sequence[Feature] = FEATURES) -> pa.DataFrameSchema:
    """The schema of a feature table: these columns in this order; counts, ages and shares in their range."""
    return pa.DataFrameSchema({f.name: _feature_column(f) for f in features}, strict=True, ordered=True)


def _feature_column(feature: Feature) -> pa.Column:
    if feature.aggregation not in RANGED:
        return pa.Column(nullable=True)
    high = 1 if feature.aggregation == "share" else np.inf
    in_range = pa.Check(lambda x: x.between(0, high) | (x == feature.default), name=f"from 0 to {high:g}")
    return pa.Column(checks=in_range, nullable=True)


# ---------------------------------------------------------------- offline


def quoted(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', '""') + '"'


def measure_sql(measures: Sequence[Measure]) -> str:
    """The SQL that computes measures with the same keys: one row an event, strictly before its time."""
    keys = ", ".join(map(quoted, measures[0].keys))
    frames = list(dict.fromkeys((m.window, m.delay) for m in measures))
    columns = [
        f"{_function_sql(m)} OVER w{frames.index((m.window, m.delay))} AS {quoted(m.label)}" for m in measures
    ]
    windows = [f"w{i} AS (PARTITION BY {keys} ORDER BY t {_frame_sql(*f)})" for i, f in enumerate(frames)]
    return "SELECT row,\n  {}\nFROM events\nWINDOW\n  {}".format(",\n  ".join(columns), ",\n  ".join(windows))


def _function_sql(measure: Measure) -> str:
    match measure.function:
        case "sum":
            return f"sum({quoted(measure.column)})"
        case "distinct":
            return f"count(DISTINCT {quoted(measure.column)})"
        case "last":
            return "max(t)"
    return "count(*)"


def _frame_sql(window: int | None, delay: int) -> str:
    """Up to one microsecond before the delay: an event does not see its own time."""
    start = "UNBOUNDED" if window is None else f"{window + delay}"
    return f"RANGE BETWEEN {start} PRECEDING AND {delay + 1} PRECEDING"


def by_keys(features: Iterable[Feature]) -> dict[tuple[str, ...], list[Measure]]:
    """The measures of the features, each once, by their keys."""
    groups: dict[tuple[str, ...], list[Measure]] = {}
    for measure in dict.fromkeys(measure for f in features for measure in f.measures.values()):
        groups.setdefault(measure.keys, []).append(measure)
    return groups


def feature_sql(features: Sequence[Feature] = FEATURES) -> str:
    """The SQL of the features, one statement for each set of keys."""
    return ";\n\n".join(map(measure_sql, by_keys(features).values())) + ";"


def offline_features(
    log: pd.DataFrame,
    users: pd.DataFrame | None = None,
    videos: pd.DataFrame | None = None,
    features: Sequence[Feature] = FEATURES,
) -> pd.DataFrame:
    """Return the features of each event, one row an event, in the order and with the index of the log.

    A feature sees the events strictly before the event's own timestamp (and its delay); events with the same
    timestamp never see each other. What an event brought (a click, seconds watched) counts from its
    timestamp on; declare a `delay` if the store learns of it later. Text attributes come as categories.

    DuckDB computes the windows on all cores. Raises ValueError or DatasetError, with the column and the
    repair, for a table that does not fit: see `deduplicate`.
    """
    expect_unique_events(log)
    tables = Tables(log, users, videos)
    events = event_table(tables, features)
    return assemble(tables, events["t"].to_numpy(), _measured(events, by_keys(features)), features)


def _measured(events: pd.DataFrame, groups: dict[tuple[str, ...], list[Measure]]) -> dict[str, np.ndarray]:
    """Each measure, by its label, in the order of the events."""
    measured = {}
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")  # it would write into the notebook
        for keys, measures in groups.items():
            names = dict.fromkeys(["t", *keys, *(m.column for m in measures if m.column)])
            connection.register("events", events[[*names]].assign(row=np.arange(len(events))))
            found = connection.execute(measure_sql(measures)).fetchnumpy()
            measured |= {m.label: _in_order(found.pop(m.label), found["row"]) for m in measures}
    return measured


def _in_order(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The values where their rows say; a missing one, the sum of no event, is 0."""
    ordered = np.empty(len(rows))
    ordered[rows] = np.ma.filled(values, 0)
    return ordered


def assemble(
    tables: Tables, at: np.ndarray, measured: dict[str, np.ndarray], features: Sequence[Feature]
) -> pd.DataFrame:
    """The feature table out of the attributes and the measures, with its schema checked."""
    columns = {}
    for f in features:
        if f.is_static:
            value = tables.attribute(f.keys[0], f.column)
            columns[f.name] = value if f.aggregation == "attribute" else (at - microseconds(value)) / 1e6
        else:
            columns[f.name] = f.value(at, **{name: measured[m.label] for name, m in f.measures.items()})
    table = pd.DataFrame(columns, index=tables.log.index, copy=False)
    ranged = [f for f in features if f.aggregation in RANGED]  # a check copies what it checks
    conform(
        table[[f.name for f in ranged]],
        feature_schema(ranged),
        "The feature table",
        "Mend the log behind it.",
    )
    return table


# ---------------------------------------------------------------- the same, row by row


def naive_features(
    log: pd.DataFrame,
    users: pd.DataFrame | None = None,
    videos: pd.DataFrame | None = None,
    features: Sequence[Feature] = FEATURES,
) -> pd.DataFrame:
    """What `offline_features` returns, by its definition: for each event, look through the whole log."""
    tables = Tables(log, users, videos)
    table = {f.name: [_naive_value(f, event, past) for event, past in _pasts(f, tables)] for f in features}
    return pd.DataFrame(table, index=log.index)


def _pasts(feature: Feature, tables: Tables) -> Iterator[tuple[pd.Series, pd.DataFrame]]:
    """Each event, and the events that the feature sees then."""
    events = pd.DataFrame({"timestamp": tables.log["timestamp"], **_naive_columns(feature, tables)})
    for _, event in events.iterrows():
        yield event, naive_past(feature, event, events)


def _naive_columns(feature: Feature, tables: Tables) -> dict[str, pd.Series]:
    """The keys of the feature and its column, in each row of the log."""
    keys = {key: tables.column(key) for key in feature.keys}
    if feature.is_static:
        return keys | {feature.column: tables.attribute(feature.keys[0], feature.column)}
    if feature.aggregation in ("sum", "mean", "smoothed_mean"):
        names = {name: tables.column(name) for name in _names(feature.column)}
        return keys | {feature.column: _evaluate(feature.column, names)}
    return keys | ({feature.column: tables.column(feature.column)} if feature.column else {})


def naive_past(feature: Feature, event: pd.Series, events: pd.DataFrame) -> pd.DataFrame:
    """The events that the feature sees at an event: the same keys, before its time, within its window."""
    now = event["timestamp"] - pd.Timedelta(feature.delay)
    seen = events["timestamp"] < now
    if feature.window is not None:
        seen &= events["timestamp"] >= now - pd.Timedelta(feature.window)
    for key in feature.keys:
        seen &= events[key] == event[key]
    return events[seen]


def _naive_value(feature: Feature, event: pd.Series, past: pd.DataFrame) -> Any:
    """The value of the feature at an event with that past."""
    match feature.aggregation:
        case "attribute":
            return event[feature.column]
        case "age":
            return (event["timestamp"] - event[feature.column]).total_seconds()
        case "count":
            return len(past)
        case "smoothed_mean":
            clicks = past[feature.column].sum() + feature.prior * feature.strength
            return clicks / (len(past) + feature.strength)
    if len(past) == 0:
        return np.nan if feature.default is None else feature.default
    return _naive_aggregate(feature, event, past)


def _naive_aggregate(feature: Feature, event: pd.Series, past: pd.DataFrame) -> float:
    match feature.aggregation:
        case "seconds_since":
            return (event["timestamp"] - past["timestamp"].max()).total_seconds()
        case "distinct":
            return past[feature.column].nunique()
        case "share":
            return (past[feature.column] == event[feature.column]).mean()
    return past[feature.column].agg(feature.aggregation)


# ---------------------------------------------------------------- parity


def parity(
    offline: pd.DataFrame, online: pd.DataFrame, keys: Sequence[str], tolerance: float = 1e-9
) -> pd.DataFrame:
    """Compare two feature tables row by row; return one row a feature, the worst first.

    Both tables hold the columns `keys`, which name a row. Numbers differ by more than
    `tolerance * max(1, |offline|)`; missing equals missing. A row that only one table has differs in each
    feature. Columns of the result: `feature`, `rows`, `different`, `share`, `largest` (absolute difference of
    numbers), `example` (the keys of the first row that differs, else None).

    Raises ValueError if the keys do not name single rows, or if the tables have different features.
    """
    features = [name for name in offline if name not in keys]
    if set(features) != set(online) - set(keys):
        raise ValueError(
            f"Only one table has {sorted(set(features) ^ (set(online) - set(keys)))}: compare the same."
        )
    for name, table in {"offline": offline, "online": online}.items():
        if table.duplicated([*keys]).any():
            raise ValueError(
                f"{' + '.join(keys)} repeat in the {name} table: name more keys, or drop duplicates."
            )
    both = offline.merge(online, on=[*keys], how="outer", suffixes=("", " online"), indicator="in_tables")
    rows = [_feature_parity(both, name, keys, tolerance) for name in features]
    return pd.DataFrame(rows).sort_values("different", ascending=False, kind="stable", ignore_index=True)


def _feature_parity(
    both: pd.DataFrame, feature: str, keys: Sequence[str], tolerance: float
) -> dict[str, Any]:
    """The row of one feature in the parity table."""
    a, b = both[feature], both[f"{feature} online"]
    if pd.api.types.is_numeric_dtype(a) and pd.api.types.is_numeric_dtype(b):
        distance = (a.astype(float) - b.astype(float)).abs()
        near = distance <= tolerance * a.abs().clip(lower=1)
        largest = distance.max()
    else:
        near, largest = a.astype(object) == b.astype(object), np.nan
    different = ~(near | (a.isna() & b.isna())) | (both["in_tables"] != "both")
    example = both.loc[different.idxmax(), [*keys]].to_dict() if different.any() else None
    counts = {"rows": len(both), "different": int(different.sum()), "share": different.mean()}
    return {"feature": feature, **counts, "largest": largest, "example": example}


# ---------------------------------------------------------------- splits


class Split(NamedTuple):
    """Positions of the rows to train on and to test on."""

    train: np.ndarray
    test: np.ndarray


def random_split(rows: int, test_size: float = 0.2, seed: int = 0) -> Split:
    """Draw the test rows at random, as if rows had no time and no owner."""
    return Split(*train_test_split(np.arange(rows), test_size=test_size, random_state=seed))


def group_split(groups: ArrayLike, test_size: float = 0.2, seed: int = 0) -> Split:
    """Draw whole groups, such as users, for the test; no group is on both sides."""
    groups = np.asarray(groups)
    splitter = GroupShuffleSplit(n_splits=1, test_size=test_size, random_state=seed)
    return Split(*next(splitter.split(groups, groups=groups)))


def temporal_split(
    timestamp: pd.Series,
    cut: pd.Timestamp | str,
    *,
    gap: str = "0s",
    label_available_at: pd.Series | None = None,
    evaluated_at: pd.Timestamp | str | None = None,
) -> Split:
    """Train before `cut - gap`, test from `cut` on; keep only rows whose label had arrived in time.

    Training labels must be available at `cut`, when the model is trained; test labels at `evaluated_at`, or
    ever if it is None. A missing `label_available_at` (NaT) has not arrived. The gap keeps what is known
    late out of the training rows. Sorted or not, the positions come in the order of the rows.

    Raises ValueError if a side is empty.
    """
    cut = pd.Timestamp(cut)
    train, test = timestamp < cut - pd.Timedelta(gap), timestamp >= cut
    if label_available_at is not None:
        train &= label_available_at <= cut
        test &= (
            label_available_at.notna()
            if evaluated_at is None
            else label_available_at <= pd.Timestamp(evaluated_at)
        )
    split = Split(np.flatnonzero(train), np.flatnonzero(test))
    if not (len(split.train) and len(split.test)):
        raise ValueError(
            f"{len(split.train)} rows to train on and {len(split.test)} to test on: the times run from "
            f"{timestamp.min()} to {timestamp.max()}; move the cut, or wait for more labels."
        )
    return split


# ---------------------------------------------------------------- leakage


def leakage_report(
    features: pd.DataFrame,
    label: ArrayLike,
    split: Split,
    *,
    timestamp: pd.Series | None = None,
    groups: ArrayLike | None = None,
    known_at: pd.DataFrame | None = None,
    too_good: float = 0.95,
    gap: float = 0.1,
) -> pd.DataFrame:
    """Look for leaks between a label (0 or 1) and its features; return one row a leak that was found.

    | leak | sign |
    |---|---|
    | target | one feature alone has a test ROC-AUC of `too_good` or more, in either direction |
    | target encoding | the ROC-AUC of one feature alone falls by `gap` or more from train to test |
    | preprocessing | a column has mean 0 and standard deviation 1 over train **and** test rows together |
    | future feature | a value was known only after the row's timestamp (column of `known_at`) |
    | future rows | training rows are newer than the first test row |
    | group | the same group is in train and in test |
    | duplicate | test rows repeat a training row, features and label, in full |

    The columns are `leak`, `where`, `evidence` and `repair`. A category is scored by the mean label of its
    training rows, for the target leak only. A sign is a reason to look, not a proof: a diagnosis without
    `timestamp`, `groups` or `known_at` says nothing about their leaks.

    Raises ValueError unless train and test both hold labels 0 and 1.
    """
    y = np.asarray(label).astype(int)
    if any(set(np.unique(y[rows])) != {0, 1} for rows in split):
        raise ValueError(
            "Train and test must each hold the labels 0 and 1, and no other: choose another split."
        )
    found = [*_column_leaks(features, y, split, too_good, gap), *_duplicate_leak(features, y, split)]
    if timestamp is not None:
        found += _future_leaks(timestamp.reset_index(drop=True), split, known_at)
    if groups is not None:
        found += _group_leak(np.asarray(groups), split)
    return pd.DataFrame(found, columns=["leak", "where", "evidence", "repair"])


def _column_leaks(
    features: pd.DataFrame, y: np.ndarray, split: Split, too_good: float, gap: float
) -> Iterator[tuple[str, str, str, str]]:
    for name, column in features.items():
        values = _scores(column, y, split.train)
        train, test = (roc_auc_score(y[rows], values[rows]) for rows in split)
        fall = train - test if train >= 0.5 else test - train
        if max(test, 1 - test) >= too_good:
            yield (
                "target",
                name,
                f"test AUC {test:.3f} alone",
                "Find what writes it; drop it if the label does.",
            )
        if fall >= gap and pd.api.types.is_numeric_dtype(column):
            evidence = f"AUC alone: train {train:.3f}, test {test:.3f}"
            yield "target encoding", name, evidence, "Encode out of fold, with smoothing, on training rows."
        if _is_standardized(values) and not _is_standardized(values[split.train]):
            evidence = f"mean {values.mean():.1e} and deviation {values.std():.3f} over all rows"
            yield "preprocessing", name, evidence, "Fit the scaler on the training rows, in a Pipeline."


def _scores(column: pd.Series, y: np.ndarray, train: np.ndarray) -> np.ndarray:
    """The column as numbers: a missing one is the median, a category its mean label in training."""
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float).fillna(column.median()).to_numpy()
    codes = pd.Series(pd.factorize(column)[0])
    means = pd.Series(y[train]).groupby(codes.to_numpy()[train]).mean()
    return codes.map(means).fillna(y[train].mean()).to_numpy()


def _is_standardized(values: np.ndarray) -> bool:
    return abs(values.mean()) < 1e-6 and abs(values.std() - 1) < 1e-3


def _duplicate_leak(
    features: pd.DataFrame, y: np.ndarray, split: Split
) -> Iterator[tuple[str, str, str, str]]:
    rows = pd.util.hash_pandas_object(features.assign(label=y), index=False).to_numpy()
    share = np.isin(rows[split.test], rows[split.train]).mean()
    if share > 0:
        evidence = f"{share:.1%} of test rows are also training rows"
        yield "duplicate", "rows", evidence, "Drop duplicates before you split, or split by group."


def _future_leaks(
    timestamp: pd.Series, split: Split, known_at: pd.DataFrame | None
) -> Iterator[tuple[str, str, str, str]]:
    for name, times in () if known_at is None else known_at.reset_index(drop=True).items():
        if (late := times > timestamp).any():
            evidence = f"{late.mean():.1%} of values known after the row, up to {(times - timestamp).max()}"
            yield (
                "future feature",
                name,
                evidence,
                "Join the value as of the row's time: a point-in-time join.",
            )
    late = timestamp.iloc[split.train] > timestamp.iloc[split.test].min()
    if late.any():
        evidence = f"{late.mean():.1%} of training rows are newer than the first test row"
        yield "future rows", "split", evidence, "Use temporal_split."


def _group_leak(groups: np.ndarray, split: Split) -> Iterator[tuple[str, str, str, str]]:
    share = np.isin(groups[split.test], groups[split.train]).mean()
    if share > 0:
        evidence = f"{share:.1%} of test rows belong to a group that is also in train"
        yield "group", "split", evidence, "Use group_split if new groups come in production; else say so."


# ---------------------------------------------------------------- out of one machine


def distributed_features(
    log: "dd.DataFrame",
    users: pd.DataFrame | None = None,
    videos: pd.DataFrame | None = None,
    features: Sequence[Feature] = FEATURES,
) -> "dd.DataFrame":
    """Return what `offline_features` returns, lazily, for a log too large for one machine.

    Why Dask: its tables are pandas tables in parts, so the declarations, the checks and the SQL above run
    unchanged on each part; it is plain Python without a Java runtime, and long kept by the PyData
    community. Each entity gets one shuffle that brings all events of a user (video, creator) into one part,
    so every window is complete; DuckDB computes it there; the results go back to the parts of the log.

    `log` needs a unique index with known divisions: `dd.from_pandas(log.reset_index(drop=True),
    npartitions=...)`. Drop duplicate events first. `users` and `videos` are sent to every worker. It runs on
    the current Dask client: see `local_cluster`, or `python -m helpers.features --cluster`.

    Raises ValueError for unknown divisions, and on the workers what `offline_features` raises.
    """
    if not log.known_divisions:
        raise ValueError("The log has unknown divisions: give it a unique, sorted index with set_index.")
    arguments = (users, videos, [*features])
    events = log.map_partitions(_numbered_events, *arguments, meta=_numbered_events(log._meta, *arguments))
    parts = [_measured_by_entity(events, groups, log.divisions) for groups in _by_entity(features)]
    meta = offline_features(log._meta, *arguments)
    return log.map_partitions(_assemble_part, *parts, *arguments, meta=meta)


def _by_entity(features: Sequence[Feature]) -> list[dict[tuple[str, ...], list[Measure]]]:
    """The measures by keys, together where the first key is the same."""
    groups = by_keys(features)
    entities = dict.fromkeys(keys[0] for keys in groups)
    return [{keys: groups[keys] for keys in groups if keys[0] == entity} for entity in entities]


def _numbered_events(
    log: pd.DataFrame, users: pd.DataFrame | None, videos: pd.DataFrame | None, features: Sequence[Feature]
) -> pd.DataFrame:
    """The event table with the index of the log as a column."""
    return event_table(Tables(log, users, videos), features).rename_axis("index").reset_index()


def _measured_by_entity(
    events: "dd.DataFrame", groups: dict[tuple[str, ...], list[Measure]], divisions: tuple
) -> "dd.DataFrame":
    """The measures of one entity, in the parts of the log."""
    entity = next(iter(groups))[0]
    whole = events.shuffle(on=entity)
    measured = whole.map_partitions(_measure_part, groups, meta=_measure_part(events._meta, groups))
    return measured.set_index("index", divisions=list(divisions))


def _measure_part(events: pd.DataFrame, groups: dict[tuple[str, ...], list[Measure]]) -> pd.DataFrame:
    """The measures of a part that holds all events of its entities."""
    return pd.DataFrame({"index": events["index"].to_numpy(), **_measured(events, groups)})


def _assemble_part(log: pd.DataFrame, *parts_and_arguments: Any) -> pd.DataFrame:
    """The feature table of one part of the log."""
    *parts, users, videos, features = parts_and_arguments
    measured = {name: values.to_numpy() for part in parts for name, values in part.loc[log.index].items()}
    return assemble(Tables(log, users, videos), microseconds(log["timestamp"]), measured, features)


def local_cluster(workers: int = 2, port: int = 0) -> "AbstractContextManager[Client]":
    """Start a Dask cluster of single-threaded processes on 127.0.0.1, without dashboard; return its client.

    Use it in a `with`, which stops it. Port 0 takes a free one. Needs the extra:
    `pip install -e ".[distributed]"`. In a script, call it under `if __name__ == "__main__":`.
    """
    from distributed import LocalCluster

    settings = {"host": "127.0.0.1", "dashboard_address": None, "scheduler_port": port}
    return LocalCluster(n_workers=workers, threads_per_worker=1, **settings).get_client()


def main() -> None:
    """Start a local cluster and keep it until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Feature computation on a Dask cluster.")
    parser.add_argument("--cluster", action="store_true", required=True, help="start a cluster on 127.0.0.1")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--port", type=int, default=8786)
    asked = parser.parse_args()
    with suppress(KeyboardInterrupt), local_cluster(asked.workers, asked.port) as client:
        print(f'Use it with: from distributed import Client; Client("{client.scheduler.address}")')
        print("Stop it with Ctrl-C.")
        while True:
            time.sleep(1)


if __name__ == "__main__":
    main()
