"""The log of what was served: nothing appended is lost, a torn line is set aside, one process writes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pandera.errors import SchemaError

from helpers import request_log
from helpers.request_log import (
    SERVED_TYPES,
    LogError,
    ServedLog,
    erase_served,
    impression_log,
    read_served,
)
from helpers.simulator import IMPRESSION_LOG

ROOT = Path(__file__).parents[1]
posix_only = pytest.mark.skipif(os.name == "nt", reason="uses signals that Windows does not have")


def served(request_id, shown=3, **changes):
    record = {
        "timestamp": f"2025-01-10T00:00:{request_id:02}.000000",
        "request_id": request_id,
        "user_id": 7,
        "policy": "two-stage",
        "model_version": "1",
        "profile": "live",
        "video_id": list(range(shown)),
        "propensity": [0.5] * shown,
        "features": {"user_ctr": [0.1] * shown, "watch_share_5min": [None] * shown},
    }
    return record | changes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "log" / "served.jsonl"


def append(path, *records):
    with ServedLog(path) as log:
        for record in records:
            log.append(record)


# ---------------------------------------------------------------- append


def test_what_was_appended_is_read_in_order(path):
    append(path, served(1), served(2, shown=1))
    append(path, served(3))
    table = read_served(path)
    assert list(table["request_id"]) == [1, 1, 1, 2, 3, 3, 3]
    assert list(table["position"]) == [1, 2, 3, 1, 1, 2, 3]
    assert list(table["video_id"]) == [0, 1, 2, 0, 0, 1, 2]
    assert {name: str(table[name].dtype) for name in SERVED_TYPES} == SERVED_TYPES
    np.testing.assert_allclose(table["user_ctr"], 0.1)
    assert table["watch_share_5min"].isna().all() and table["watch_share_5min"].dtype == "float32"


def test_the_newest_record_is_known_at_the_next_start(path):
    with ServedLog(path) as log:
        assert log.last is None
        log.append(served(1))
        assert log.last == served(1)
    with ServedLog(path) as log:
        assert log.last == served(1)


def test_an_answer_without_videos_and_an_empty_log_can_be_read(path):
    append(path)
    assert read_served(path).empty and [*read_served(path)] == [*SERVED_TYPES]
    append(path, served(1, shown=0))
    assert read_served(path).empty


def test_what_another_release_did_not_read_is_missing(path):
    append(path, served(1, shown=1), served(2, shown=1, features={"new": [4.0]}))
    table = read_served(path)
    np.testing.assert_array_equal(table["new"], [np.nan, 4])
    np.testing.assert_array_equal(table["user_ctr"].isna(), [False, True])


def test_what_json_cannot_hold_is_refused_and_leaves_nothing(path):
    with ServedLog(path) as log:
        for bad in (np.nan, np.inf):
            with pytest.raises(ValueError, match="JSON"):
                log.append(served(1, propensity=[bad] * 3))
        log.append(served(2))
    assert set(read_served(path)["request_id"]) == {2}


@pytest.mark.parametrize("taken", [0, 1, 40])
def test_a_full_disk_leaves_no_half_line(path, taken):
    class Full:
        """A file on a disk that takes some bytes more."""

        def __init__(self, file):
            self.file, self.is_full = file, True

        def write(self, line):
            return self.file.write(line[:taken] if self.is_full else line)

        def __getattr__(self, name):
            return getattr(self.file, name)

    append(path, served(1))
    with ServedLog(path) as log:
        log._file = full = Full(log._file)
        with pytest.raises(OSError, match="free some disk space"):
            log.append(served(2))
        full.is_full = False
        log.append(served(3))
    assert list(read_served(path)["request_id"].unique()) == [1, 3]


# ---------------------------------------------------------------- recover


LINES = [json.dumps(served(i, shown=2)).encode() + b"\n" for i in range(4)]


@given(st.integers(0, sum(map(len, LINES))))
def test_a_file_cut_anywhere_keeps_its_whole_lines_and_loses_no_byte(tmp_path_factory, cut):
    path = tmp_path_factory.mktemp("log") / "served.jsonl"
    content = b"".join(LINES)[:cut]
    path.write_bytes(content)
    whole = content.count(b"\n")
    append(path, served(9, shown=2))
    assert path.read_bytes() == b"".join(LINES[:whole]) + json.dumps(served(9, shown=2)).encode() + b"\n"
    aside = b"".join(file.read_bytes() for file in path.parent.glob("served-torn-*"))
    assert b"".join(LINES[:whole]) + aside == content
    assert list(read_served(path)["request_id"].unique()) == [*range(whole), 9]


@pytest.mark.parametrize("rest", [b"\0" * 5000, b"\0\0\n", b"not json\n", b"7\n", b'{"a": 1', b"\xff\xfe\n"])
def test_what_is_no_record_is_set_aside(path, rest):
    append(path, served(1))
    with path.open("ab") as file:
        file.write(rest)
    with ServedLog(path) as log:
        assert log.last == served(1)
    assert [file.read_bytes() for file in path.parent.glob("served-torn-*")] == [rest]
    assert len(read_served(path)) == 3


def test_a_line_that_is_still_being_written_is_not_read(path):
    append(path, served(1))
    with path.open("ab") as file:
        file.write(LINES[2][:-1])
    assert set(read_served(path)["request_id"]) == {1}


WRITER = """
import json, sys
from helpers.request_log import ServedLog
record = json.loads(sys.argv[2])
with ServedLog(sys.argv[1]) as log:
    for number in range(10**6):
        log.append(record | {"request_id": number})
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
"""


@posix_only
def test_a_kill_loses_nothing_that_was_appended(path):
    command = [sys.executable, "-c", WRITER, path, json.dumps(served(0))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as writer:
        for line in writer.stdout:
            if int(line) == 300:
                writer.send_signal(signal.SIGKILL)
                break
        said = [300, *map(int, writer.stdout.read().split("\n")[:-1])]
    with ServedLog(path) as log:
        assert log.last["request_id"] in (max(said), max(said) + 1)
    assert list(read_served(path)["request_id"].unique()) == [*range(log.last["request_id"] + 1)]


# ---------------------------------------------------------------- one writer, and the disk


def test_a_second_writer_is_refused_and_may_write_once_the_first_has_ended(path, monkeypatch):
    monkeypatch.setattr(request_log, "LOCK_SECONDS", 0.2)
    with ServedLog(path), pytest.raises(LogError, match="Another service writes into log: stop it"):
        ServedLog(path)
    append(path, served(1))


def test_closing_forces_the_rest_to_the_disk(path, monkeypatch):
    forced = []
    monkeypatch.setattr(request_log.os, "fsync", lambda number: forced.append(os.fstat(number).st_size))
    append(path, served(1), served(2))
    assert forced == [path.stat().st_size]


def wait_until(reached):
    end = time.monotonic() + 60
    while not reached():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.005)


def test_once_a_second_the_log_is_forced_to_the_disk(path, monkeypatch):
    forced = []
    monkeypatch.setattr(request_log, "SYNC_SECONDS", 0.01)
    monkeypatch.setattr(request_log.os, "fsync", lambda number: forced.append(os.fstat(number).st_size))
    with ServedLog(path) as log:
        for number in (1, 2):
            log.append(served(number))
            wait_until(lambda number=number: len(forced) == number)
    assert forced == [path.stat().st_size / 2, path.stat().st_size]


# ---------------------------------------------------------------- the impression log

OUTCOMES = {
    "clicked": np.array([True, False, True]),
    "watch_seconds": np.array([30, 0, 5], "float32"),
    "liked": np.array([True, False, False]),
    "dismissed": np.array([False, False, True]),
}


def test_what_was_served_and_what_came_of_it_is_an_impression_log(path):
    append(path, served(1))
    log = impression_log(read_served(path), OUTCOMES | {"satisfied": np.zeros(3, bool)})
    assert [*log] == [*IMPRESSION_LOG.columns]
    assert list(log["clicked"]) == [True, False, True] and log["timestamp"][0] == pd.Timestamp(
        "2025-01-10 00:00:01"
    )


def test_outcomes_that_are_missing_or_impossible_are_refused(path):
    append(path, served(1))
    table = read_served(path)
    with pytest.raises(ValueError, match="outcomes has no dismissed, liked"):
        impression_log(table, {name: OUTCOMES[name] for name in ("clicked", "watch_seconds")})
    with pytest.raises(SchemaError, match="watch_seconds"):
        impression_log(table, OUTCOMES | {"watch_seconds": np.array([-1, 0, 0], "float32")})


# ---------------------------------------------------------------- erase


def test_the_requests_of_a_user_are_erased_and_the_others_stay_as_they_were(tmp_path):
    path = tmp_path / "served.jsonl"
    with ServedLog(path) as log:
        for request_id, user_id in enumerate([7, 8, 7, 9]):
            log.append(served(request_id, user_id=user_id))
    before = path.read_bytes().splitlines()
    assert erase_served(path, 7) == 2
    assert path.read_bytes().splitlines() == [before[1], before[3]]
    assert erase_served(path, 7) == 0
    assert set(read_served(path).user_id) == {8, 9}


def test_nothing_is_erased_under_a_service_that_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(request_log, "LOCK_SECONDS", 0.1)
    path = tmp_path / "served.jsonl"
    with ServedLog(path) as log:
        log.append(served(1))
        with pytest.raises(LogError, match="stop it"):
            erase_served(path, 7)
    assert set(read_served(path).user_id) == {7}
