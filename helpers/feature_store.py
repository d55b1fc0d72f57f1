"""The online store: the features of `features.py`, kept incrementally in one SQLite file.

Why SQLite: it is in the standard library, a crash leaves a whole file, and in WAL mode readers go on while
one process writes. All-time measures are running totals; the events of the last minutes are kept as rows. A
read at time t adds the window up from these rows and takes back what happened at t or later, so it is exactly
point-in-time, as offline: strictly before t, and events with the same timestamp never see each other.
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from helpers.features import (
    ENTITIES,
    EVENT_ID,
    FEATURES,
    Feature,
    Measure,
    Tables,
    by_keys,
    event_table,
    microseconds,
    needed_columns,
    quoted,
    to_microseconds,
)

APPLICATION_ID = 0x46454154  # "FEAT": marks the file as ours
SCHEMA_VERSION = 1
ID_COLUMNS = {"user_id": "users", "video_id": "videos"}


class StoreError(RuntimeError):
    """The file is damaged, from other features, or busy; the message tells you how to repair it."""


class Update(NamedTuple):
    """How many events of a batch were applied, known already, or refused as too late."""

    applied: int
    duplicate: int
    too_late: int


class OnlineStore:
    """Features of users and videos in the SQLite file `path`, which is created if it does not exist.

    One process writes, any number read; give each thread its own object. `lateness`: how far behind the
    newest event a read may look, and (at least) how late an event may come. `event_id`: the columns that name
    an event. Killing the writer leaves each batch of `update` whole or absent; a power cut may lose the
    last batches, and never damages the file (WAL with synchronous=NORMAL).

    Raises StoreError if the file is damaged, is no feature store, or was written for other features.
    """

    def __init__(
        self,
        path: str | Path,
        features: Sequence[Feature] = FEATURES,
        *,
        lateness: str = "10min",
        event_id: Sequence[str] = EVENT_ID,
    ) -> None:
        """Open or create the file, and check all of it."""
        self.path, self.features, self.event_id = Path(path), tuple(features), tuple(event_id)
        self.lateness = to_microseconds(lateness)
        self.groups = by_keys(self.features)
        self.retention = self.lateness + max((f.reach for f in self.features if not f.is_static), default=0)
        self._columns = sorted(
            {k for keys in self.groups for k in keys}
            | {m.column for measures in self.groups.values() for m in measures if m.column}
        )
        self._totals = {keys: _total_columns(measures) for keys, measures in self.groups.items()}
        self._selects = {keys: _select_sql(measures) for keys, measures in self.groups.items()}
        self._labels = {f.name: {role: m.label for role, m in f.measures.items()} for f in self.features}
        self._group_labels = {keys: [m.label for m in measures] for keys, measures in self.groups.items()}
        self._connection = self._open()

    def __enter__(self) -> Self:
        """Use the store in a `with`, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the file; the object cannot be used any more."""
        self._connection.close()

    # ------------------------------------------------------------ the file

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None)
        try:
            with self._errors():
                self._prepare(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Check the file, or create its tables in one transaction."""
        (damage,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        is_new = not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not is_new:
            self._check_version(connection)
        connection.executescript(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;"
            "PRAGMA secure_delete=ON; PRAGMA temp_store=MEMORY;"
        )
        if is_new:
            connection.execute("BEGIN IMMEDIATE")
            for statement in self._schema():
                connection.execute(statement)
            connection.execute("INSERT INTO meta VALUES (?, NULL, NULL)", [self._declaration])
            connection.execute("COMMIT")

    def _check_version(self, connection: sqlite3.Connection) -> None:
        """The file is ours, of this schema, and for these features."""
        found = [
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
        ]
        if found != [APPLICATION_ID, SCHEMA_VERSION]:
            raise StoreError(
                f"{self.path.name} is no feature store of schema version {SCHEMA_VERSION} "
                f"(its version is {found[1]}): choose another path, or move the file away and fill a new "
                "store from the log."
            )
        if connection.execute("SELECT declaration FROM meta").fetchone() != (self._declaration,):
            raise StoreError(
                f"{self.path.name} was written for other features, lateness or event ids: open it with "
                "those, or fill a new store from the log."
            )

    @property
    def _declaration(self) -> str:
        """What the contents of the file depend on."""
        labels = [m.label for measures in self.groups.values() for m in measures]
        return json.dumps([labels, sorted(needed_columns(self.features)), self.lateness, self.event_id])

    def _schema(self) -> Iterator[str]:
        """The statements that create the tables."""
        yield f"PRAGMA application_id={APPLICATION_ID}"
        yield f"PRAGMA user_version={SCHEMA_VERSION}"
        yield "CREATE TABLE meta (declaration, newest, horizon)"
        for key, table in ID_COLUMNS.items():
            yield f"CREATE TABLE {table} ({key} PRIMARY KEY, attributes) WITHOUT ROWID"
        names, event_id = _list(dict.fromkeys([*self.event_id, "t", *self._columns])), _list(self.event_id)
        yield f"CREATE TABLE event ({names}, PRIMARY KEY ({event_id})) WITHOUT ROWID"
        yield "CREATE INDEX event_by_time ON event (t)"
        for keys, columns in self._totals.items():
            yield f"CREATE INDEX {quoted('event by ' + '+'.join(keys))} ON event ({_list(keys)}, t)"
            if columns:
                names = _list([*keys, *columns])
                yield f"CREATE TABLE {_total(keys)} ({names}, PRIMARY KEY ({_list(keys)})) WITHOUT ROWID"

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say what to do about an error of the database."""
        try:
            yield
        except sqlite3.ProgrammingError as error:
            raise StoreError(
                f"{self.path.name} cannot be used here ({error}): open an OnlineStore in each thread, "
                "and use it until you close it."
            ) from error
        except sqlite3.OperationalError as error:
            raise StoreError(
                f"{self.path.name} cannot be used now ({error}): is another process writing to it, "
                "is the disk full, may this user write there?"
            ) from error
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.path.name} is damaged or no database ({error}): move it away and fill a new store "
                "from the log."
            ) from error

    @contextmanager
    def _transaction(self, kind: str = "IMMEDIATE") -> Iterator[sqlite3.Connection]:
        """All statements or none."""
        with self._errors():
            self._connection.execute(f"BEGIN {kind}")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    # ------------------------------------------------------------ writing

    def put(self, users: pd.DataFrame | None = None, videos: pd.DataFrame | None = None) -> None:
        """Add or replace the attributes of users and videos; only columns that a feature needs are kept."""
        with self._transaction() as connection:
            for key, entities in zip(ENTITIES, (users, videos), strict=True):
                if entities is not None:
                    rows = zip(_plain(entities[key]), self._attributes(key, entities), strict=True)
                    connection.executemany(f"INSERT OR REPLACE INTO {ID_COLUMNS[key]} VALUES (?, ?)", rows)

    def _attributes(self, key: str, entities: pd.DataFrame) -> list[str]:
        """The key and the needed attributes of each entity, as JSON; times in microseconds."""
        names = [name for name in entities if name == key or name in needed_columns(self.features)]
        is_time = {name: pd.api.types.is_datetime64_any_dtype(entities[name]) for name in names}
        columns = [microseconds(entities[n]).tolist() if is_time[n] else _plain(entities[n]) for n in names]
        return [json.dumps(dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]

    def update(self, events: pd.DataFrame) -> Update:
        """Apply rows of the log, in any order; return how many were applied, duplicate or too late.

        An event id that is known has no effect, so a batch may be sent again. An event that is older than the
        newest one by more than the lateness and the longest window is refused and counted: it may
        have been counted already. The videos and users of the events must be in the store.

        Raises ValueError or DatasetError, with the column, for a bad batch; the store is then unchanged.
        """
        if not len(events):
            return Update(0, 0, 0)
        rows = self._rows(events)
        with self._transaction() as connection:
            horizon = self._horizon(connection)
            on_time = rows[rows["t"] >= horizon]
            applied = self._apply(connection, on_time)
            self._settle(connection)
        return Update(applied, len(on_time) - applied, len(rows) - len(on_time))

    def _rows(self, events: pd.DataFrame) -> pd.DataFrame:
        """The events as the table `event` holds them."""
        missing = {*self.event_id} - {*events}
        if missing or events[[*self.event_id]].isna().any(axis=None):
            raise ValueError(f"Each event needs its id in {' + '.join(self.event_id)}: fill those columns.")
        with self._errors():
            tables = Tables(events, *(self._entities(key, events) for key in ENTITIES))
        return event_table(tables, self.features).assign(**{name: events[name] for name in self.event_id})

    def _entities(self, key: str, events: pd.DataFrame) -> pd.DataFrame | None:
        """The stored attributes of the users or videos of the events; None if the store holds none at all."""
        table, ids = ID_COLUMNS[key], _plain(events[key].drop_duplicates())
        if not self._connection.execute(f"SELECT EXISTS (SELECT 1 FROM {table})").fetchone()[0]:
            return None
        known = self._known(self._connection, key, ids)
        if unknown := [id_ for id_ in ids if id_ not in known]:
            raise ValueError(
                f"The store does not know {len(unknown):,} {key} of these events, such as {unknown[0]}: "
                f"put({table}=...) first."
            )
        return pd.DataFrame([*known.values()])

    def _apply(self, connection: sqlite3.Connection, rows: pd.DataFrame) -> int:
        """Insert the events that are new, add them to the totals, and count them."""
        names = list(dict.fromkeys([*self.event_id, "t", *self._columns]))
        connection.execute(
            f"CREATE TEMP TABLE incoming ({_list(names)}, PRIMARY KEY ({_list(self.event_id)}))"
        )
        values = zip(*(_plain(rows[name]) for name in names), strict=True)
        connection.executemany(
            f"INSERT OR IGNORE INTO incoming VALUES ({', '.join('?' * len(names))})", values
        )
        same = " AND ".join(f"event.{quoted(name)} = incoming.{quoted(name)}" for name in self.event_id)
        connection.execute(f"DELETE FROM incoming WHERE EXISTS (SELECT 1 FROM event WHERE {same})")
        for keys, columns in self._totals.items():
            if columns:
                connection.execute(_add_sql(keys, columns))
        applied = connection.execute("INSERT INTO event SELECT * FROM incoming").rowcount
        connection.execute("DROP TABLE incoming")
        return applied

    def _horizon(self, connection: sqlite3.Connection) -> float:
        """The oldest time, in microseconds, whose events are still kept as rows."""
        (horizon,) = connection.execute("SELECT horizon FROM meta").fetchone()
        return -np.inf if horizon is None else horizon

    def _settle(self, connection: sqlite3.Connection) -> None:
        """Forget the events before the horizon; the totals have counted them, and keep their newest time."""
        newest = "SELECT newest AS t FROM meta UNION ALL SELECT max(t) FROM event"
        connection.execute(f"UPDATE meta SET newest = (SELECT max(t) FROM ({newest}))")
        connection.execute("UPDATE meta SET horizon = newest - ?", [self.retention])
        old = "t < (SELECT horizon FROM meta)"
        for keys, columns in self._totals.items():
            if "last" in columns:
                connection.execute(_last_sql(keys, old))
        connection.execute(f"DELETE FROM event WHERE {old}")

    # ------------------------------------------------------------ reading

    def read(self, user_id: Any, video_ids: Sequence[Any], at: pd.Timestamp | str) -> dict[str, list]:
        """Return each feature's values for a user and some videos, in the order of the videos.

        The values are those before `at`. What is not known of a user or video is None; who has no events has
        the defaults. Raises ValueError if `at` is longer ago than the store can still tell.
        """
        time = int(pd.Timestamp(at).as_unit("us").asm8.astype("int64"))
        user_id, video_ids = _python(user_id), [_python(video_id) for video_id in video_ids]
        with self._transaction("DEFERRED") as connection:
            self._check_time(connection, time)
            pairs = self._pairs(connection, user_id, video_ids)
            measured = {}
            for keys in self.groups:
                measured |= self._measured(connection, keys, pairs, time)
        return {f.name: self._values(f, pairs, measured, time) for f in self.features}

    def _check_time(self, connection: sqlite3.Connection, time: int) -> None:
        (newest,) = connection.execute("SELECT newest FROM meta").fetchone()
        if newest is not None and time < newest - self.lateness:
            raise ValueError(
                f"The store has events up to {pd.Timestamp(newest, unit='us')} and can look back by its "
                f"lateness of {self.lateness / 1e6:g} s only: read at a later time, or use offline_features."
            )

    def _pairs(self, connection: sqlite3.Connection, user_id: Any, video_ids: Sequence[Any]) -> list[dict]:
        """The attributes of the user and each video, with their keys; those of the video win."""
        user = self._known(connection, "user_id", [user_id]).get(user_id, {})
        videos = self._known(connection, "video_id", video_ids)
        return [
            {"users": user, "videos": videos.get(video_id, {})}
            | {"key": {**user, **videos.get(video_id, {}), "user_id": user_id, "video_id": video_id}}
            for video_id in video_ids
        ]

    def _known(self, connection: sqlite3.Connection, key: str, ids: Sequence[Any]) -> dict[Any, dict]:
        query = (
            f"SELECT {key}, attributes FROM {ID_COLUMNS[key]} WHERE {key} IN (SELECT value FROM json_each(?))"
        )
        return {id_: json.loads(found) for id_, found in connection.execute(query, [json.dumps([*ids])])}

    def _measured(
        self, connection: sqlite3.Connection, keys: tuple[str, ...], pairs: list[dict], time: int
    ) -> dict[str, list[float]]:
        """The measures with these keys, each in the order of the pairs; equal keys are looked up once."""
        asked = [tuple(pair["key"].get(key) for key in keys) for pair in pairs]
        distinct = list(dict.fromkeys(asked))
        found = connection.execute(self._selects[keys], {"keys": json.dumps(distinct), "at": time})
        by_key = dict(zip(distinct, found, strict=True))
        columns = zip(*(by_key[key] for key in asked), strict=True)
        return dict(zip(self._group_labels[keys], columns, strict=False))

    def _values(self, feature: Feature, pairs: list[dict], measured: dict[str, list], time: int) -> list:
        if not feature.is_static:
            arguments = {role: measured[label] for role, label in self._labels[feature.name].items()}
            return feature.value(time, **arguments).tolist()
        values = [pair[ID_COLUMNS[feature.keys[0]]].get(feature.column) for pair in pairs]
        if feature.aggregation == "attribute":
            return values
        return [None if value is None else (time - value) / 1e6 for value in values]

    # ------------------------------------------------------------ erasure

    def erase(self, user_id: Any) -> int:
        """Remove every row of a user, also from free pages and the write-ahead log; return their number.

        Totals of videos and creators keep their sums: no row in them belongs to one user. Fill a new store
        from the erased log if even those must go. Raises StoreError while another connection reads the file.
        """
        totals = [_total(keys) for keys, columns in self._totals.items() if "user_id" in keys and columns]
        with self._transaction() as connection:
            deletions = [f"DELETE FROM {table} WHERE user_id = ?" for table in ("users", "event", *totals)]
            rows = sum(connection.execute(deletion, [_python(user_id)]).rowcount for deletion in deletions)
        with self._errors():
            self._connection.execute("VACUUM")
            (busy, *_) = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise StoreError(
                f"{self.path.name} is being read, so old pages remain: close the readers, erase again."
            )
        return rows


def replay(store: OnlineStore, log: pd.DataFrame, batch: str = "1min") -> pd.DataFrame:
    """Serve a log again: apply it in batches of time, and read each event's features as of its timestamp.

    A batch, no longer than the lateness of the store, is applied before it is read: a read at time t takes
    back what happened at t or later. Returns the features with the index and in the order of the log.
    """
    if to_microseconds(batch) > store.lateness:
        raise ValueError(f"A batch of {batch} is longer than the store can look back: make it shorter.")
    served = []
    for _, events in log.groupby(log["timestamp"].dt.floor(batch)):
        store.update(events)
        for (at, user_id), shown in events.groupby(["timestamp", "user_id"]):
            features = store.read(user_id, shown["video_id"].tolist(), at)
            served.append(pd.DataFrame(features, index=shown.index))
    return pd.concat(served).loc[log.index]


# ---------------------------------------------------------------- SQL


def _list(names: Sequence[str]) -> str:
    return ", ".join(map(quoted, names))


def _total(keys: Sequence[str]) -> str:
    """The table of the running totals of some keys."""
    return quoted("total by " + "+".join(keys))


def _plain(values: pd.Series) -> list:
    """The values as Python's own types, which SQLite and JSON take."""
    return values.astype(object).tolist()


def _python(value: Any) -> Any:
    """A scalar of NumPy as Python's own type."""
    return value.item() if isinstance(value, np.generic) else value


def _total_columns(measures: Sequence[Measure]) -> dict[str, str]:
    """The columns of running totals that the measures need, and the SQL of each over new events."""
    columns = {}
    for measure in measures:
        if measure.window is None:
            columns[_total_name(measure)] = _over_events(measure)
    return columns


def _total_name(measure: Measure) -> str:
    return f"sum {measure.column}" if measure.function == "sum" else measure.function


def _over_events(measure: Measure) -> str:
    """The measure of the rows of a query over events."""
    match measure.function:
        case "sum":
            return f"total({quoted(measure.column)})"
        case "distinct":
            return f"count(DISTINCT {quoted(measure.column)})"
        case "last":
            return "max(t)"
    return "count(*)"


def _add_sql(keys: tuple[str, ...], columns: dict[str, str]) -> str:
    """Add the incoming events to the totals; `last` waits until they settle."""
    news = ", ".join("NULL" if name == "last" else sql for name, sql in columns.items())
    sums = [quoted(name) for name in columns if name != "last"] or [quoted("last")]
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in sums)
    return (
        f"INSERT INTO {_total(keys)} SELECT {_list(keys)}, {news} FROM incoming GROUP BY {_list(keys)} "
        f"ON CONFLICT DO UPDATE SET {added}"
    )


def _last_sql(keys: tuple[str, ...], old: str) -> str:
    """Keep the newest time of the old events, which are about to be forgotten."""
    table, same = (
        _total(keys),
        " AND ".join(f"{_total(keys)}.{quoted(key)} = gone.{quoted(key)}" for key in keys),
    )
    gone = f"SELECT {_list(keys)}, max(t) AS t FROM event WHERE {old} GROUP BY {_list(keys)}"
    return f"UPDATE {table} SET last = max(coalesce(last, gone.t), gone.t) FROM ({gone}) AS gone WHERE {same}"


def _select_sql(measures: Sequence[Measure]) -> str:
    """The measures of each of the keys in the JSON array `:keys`, at the time `:at`."""
    keys = measures[0].keys
    asked = ", ".join(f"json_extract(value, '$[{i}]') AS {quoted(key)}" for i, key in enumerate(keys))
    columns = ",\n  ".join(_measure_sql(measure) for measure in measures)
    return (
        f"WITH asked AS MATERIALIZED (SELECT {asked} FROM json_each(:keys))\nSELECT\n  {columns}\nFROM asked"
    )


def _measure_sql(measure: Measure) -> str:
    """A window is added up from the events; a total is corrected for the events that are not before `:at`."""
    same = " AND ".join(f"{{}}.{quoted(key)} = asked.{quoted(key)}" for key in measure.keys)
    events = f"SELECT {_over_events(measure)} FROM event AS e WHERE {same.replace('{}', 'e')}"
    before = f"e.t < :at - {measure.delay}"
    if measure.window is not None:
        return f"coalesce(({events} AND {before} AND e.t >= :at - {measure.window + measure.delay}), 0)"
    total = f"SELECT {quoted(_total_name(measure))} FROM {_total(measure.keys)} AS s WHERE "
    total += same.replace("{}", "s")
    if measure.function == "last":
        return f"coalesce(({events} AND {before}), ({total}), 0)"
    return f"coalesce(({total}), 0) - ({events} AND e.t >= :at - {measure.delay})"
