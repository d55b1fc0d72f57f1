"""The log of what was served: one JSON line a request, appended before the answer leaves; and how it is read.

What was appended before the process was killed is there: it is with the operating system. Once a second it is
also forced to the disk, so a power cut may lose the last second. A line that was cut short is set aside at
the next start. One process writes, any number read.
"""

import json
import mmap
import os
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.simulator import IMPRESSION_LOG

SYNC_SECONDS = 1.0
LOCK_SECONDS = 2.0  # to wait for a process that is just ending
OUTCOMES = ("clicked", "watch_seconds", "liked", "dismissed")
SERVED_TYPES = {
    "timestamp": "datetime64[us]",
    "request_id": "int64",
    "user_id": "int32",
    "video_id": "int32",
    "position": "int16",
    "propensity": "float32",
    "policy": "category",
    "model_version": "category",
    "profile": "category",
}
ONE_A_REQUEST = ("request_id", "user_id", "policy", "model_version", "profile")


class LogError(RuntimeError):
    """Another process writes this log; the message names the repair."""


class ServedLog:
    """The log in the file `path`, open for appending; use it in a `with`.

    last: the newest record that is whole, or None. Raises LogError while another process writes it.
    """

    def __init__(self, path: str | Path) -> None:
        """Lock the file, set aside what was cut short, and go on behind the last whole line."""
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = _locked(self.path.with_suffix(".lock"))
        self.last, self._size = _recover(self.path)
        self._file = self.path.open("ab", buffering=0)
        self._appending, self._closed = threading.Lock(), threading.Event()
        self._syncing = threading.Thread(target=self._sync, daemon=True)
        self._syncing.start()

    def append(self, record: Mapping[str, Any]) -> None:
        """Append a record that JSON can hold. Raises OSError if the disk is full, and leaves no half line."""
        line = json.dumps(record, allow_nan=False).encode() + b"\n"
        with self._appending:
            try:
                if self._file.write(line) < len(line):
                    raise OSError(f"{self.path.name} cannot grow: free some disk space.")
            except OSError:
                self._file.truncate(self._size)
                raise
            self._size += len(line)
            self.last = record

    def _sync(self) -> None:
        """Force to the disk what was appended, once a second and at the end."""
        synced, closing = self._size, False
        while not closing:
            closing = self._closed.wait(SYNC_SECONDS)
            if self._size > synced:
                synced = self._size
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Force the rest to the disk and let another process write."""
        self._closed.set()
        self._syncing.join()
        self._file.close()
        self._lock.close()

    def __enter__(self) -> Self:
        """Use the log in a `with`, which closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the log."""
        self.close()


def _recover(path: Path) -> tuple[dict[str, Any] | None, int]:
    """The last whole record and where it ends; what lies behind it goes to a file of its own."""
    path.touch()
    last, end = _last_record(path)
    if end < path.stat().st_size:
        with path.open("r+b") as file:
            file.seek(end)
            aside = path.with_name(f"{path.stem}-torn-{end}")
            aside.write_bytes(file.read())
            file.truncate(end)
            os.fsync(file.fileno())
    return last, end


def _last_record(path: Path) -> tuple[dict[str, Any] | None, int]:
    """The last line that is whole, read from the end of the file, and where it ends."""
    end = path.stat().st_size
    if not end:
        return None, 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while end:
            start = content.rfind(b"\n", 0, end - 1) + 1
            record = _parsed(content[start:end])
            if record is not None:
                return record, end
            end = start
    return None, 0


def _parsed(line: bytes) -> dict[str, Any] | None:
    """The record in a line, or None if it is no whole line of this log."""
    try:
        record = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _locked(path: Path) -> IO[bytes]:
    """The file, held by this process alone; the system frees it when the process ends, even by a kill."""
    file, end = path.open("ab"), time.monotonic() + LOCK_SECONDS
    while not _try_lock(file):
        if time.monotonic() > end:
            file.close()
            raise LogError(
                f"Another service writes into {path.parent.name}: stop it, or serve from another directory."
            )
        time.sleep(0.05)
    return file


def _try_lock(file: IO[bytes]) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def erase_served(path: str | Path, user_id: int) -> int:
    """Rewrite the log without the requests of a user, whole or not at all; return how many went.

    Raises LogError while a service writes the log: stop it first.
    """
    path = Path(path)
    with _locked(path.with_suffix(".lock")):
        lines = path.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if (_parsed(line) or {}).get("user_id") != user_id]
        shadow = path.with_suffix(".new")
        with shadow.open("wb") as file:
            file.writelines(kept)
            file.flush()
            os.fsync(file.fileno())
        os.replace(shadow, path)
    return len(lines) - len(kept)


# ---------------------------------------------------------------- read


def read_served(path: str | Path) -> pd.DataFrame:
    """Return what was served, one row a video shown, in the order served; the service may go on writing.

    First the columns of the impression log that are known when serving, then `profile`, which says whether
    the live features were "live", from the "batch" of the night or, with the kill switch on, "none"; then
    the features as the ranker read them.
    """
    with Path(path).open("rb") as file:
        records = [record for line in file if (record := _parsed(line)) is not None]
    lengths = [len(record["video_id"]) for record in records]
    columns = {
        "timestamp": pd.to_datetime(np.repeat([r["timestamp"] for r in records], lengths)).as_unit("us"),
        "position": [position for n in lengths for position in range(1, n + 1)],
    }
    columns |= {name: [x for r in records for x in r[name]] for name in ("video_id", "propensity")}
    columns |= {name: np.repeat([r[name] for r in records], lengths) for name in ONE_A_REQUEST}
    names = dict.fromkeys(name for record in records for name in record["features"])
    features = {name: np.array(_feature(records, name), dtype="float32") for name in names}
    table = pd.DataFrame({name: columns[name] for name in SERVED_TYPES} | features)
    return table.astype(SERVED_TYPES)


def _feature(records: Sequence[Mapping[str, Any]], name: str) -> list[float | None]:
    """A feature in each row; missing where the release that served the request did not read it."""
    return [x for r in records for x in r["features"].get(name, [None] * len(r["video_id"]))]


def impression_log(served: pd.DataFrame, outcomes: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Return what was served with what came of it, as an impression log.

    outcomes: clicked, watch_seconds, liked and dismissed of each row of `served`, as `Platform.react` returns
    them. Raises ValueError for a missing one, and SchemaError for values that the contract does not allow.
    """
    if lacking := sorted(set(OUTCOMES) - set(outcomes)):
        raise ValueError(f"outcomes has no {', '.join(lacking)}: pass all of {', '.join(OUTCOMES)}.")
    known = {name: outcomes[name] for name in OUTCOMES}
    return IMPRESSION_LOG.validate(served.assign(**known)[[*IMPRESSION_LOG.columns]])
