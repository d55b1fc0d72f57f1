"""The load generators: every request is counted, and only the open loop sees a service stand still."""

import asyncio
import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import pandas as pd
import pytest

from helpers import load
from helpers.load import FAILED, closed_loop, open_loop, percentiles

OK = 200, {"model_version": "1", "policy": "two-stage", "profile": "live"}
COLUMNS = ["due", "sent", "done", "status", "latency_ms", "service_ms", "lag_ms"]
USERS = [3, 5]


class Stub:
    """A service that answers what it is told to, and can be made to stand still."""

    def __init__(self, answer):
        self.answer, self.asked, self.thawed, self.hangs_up = answer, [], threading.Event(), False
        self.thawed.set()

    async def talk(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
                self.asked.append(json.loads(await reader.readexactly(length)))
                while not self.thawed.is_set():
                    await asyncio.sleep(0.001)
                status, body = self.answer(len(self.asked))
                if status is None:
                    writer.write(b"HTTP/1.1 2")
                    break
                body = body if isinstance(body, bytes) else json.dumps(body).encode()
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                if self.hangs_up:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    def pause(self):
        """Stand still for a while; `frozen` says when, as the clock of this process has it."""
        self.thawed.clear()
        start = time.perf_counter()
        time.sleep(0.4)
        self.frozen = start, time.perf_counter()
        self.thawed.set()


@contextmanager
def stub(answer=lambda number: OK):
    """A stub and its address."""
    service, loop = Stub(answer), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(service.talk, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield service, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
            loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


# ---------------------------------------------------------------- each request is counted


def test_the_open_loop_sends_what_was_planned_when_it_was_planned():
    with stub() as (service, url):
        table = open_loop(url, rate=200, seconds=0.5, users=USERS, k=4, seed=1)
    assert len(table) == 100 == len(service.asked)
    assert {asked["user_id"] for asked in service.asked} == {3, 5}
    assert {asked["k"] for asked in service.asked} == {4}
    assert list(table)[:7] == COLUMNS and set(table["policy"]) == {"two-stage"}
    gaps = np.diff(table["due"], prepend=0)
    assert (gaps > 0).all() and gaps.mean() == pytest.approx(1 / 200, rel=0.4)
    assert (table["sent"] >= table["due"]).all() and (table["done"] > table["sent"]).all()


def test_latency_counts_from_when_a_request_was_due():
    with stub() as (_, url):
        table = open_loop(url, rate=100, seconds=0.3, users=USERS)
    np.testing.assert_allclose(table["latency_ms"], 1000 * (table["done"] - table["due"]))
    np.testing.assert_allclose(table["latency_ms"], table["service_ms"] + table["lag_ms"])


def test_the_same_seed_plans_the_same_requests():
    with stub() as (service, url):
        first, again, other = (open_loop(url, 100, 0.2, USERS, seed=seed)["due"] for seed in (1, 1, 2))
    pd.testing.assert_series_equal(first, again)
    assert not first.equals(other)
    users = [asked["user_id"] for asked in service.asked]
    assert sorted(users[:20]) == sorted(users[20:40])


def test_in_a_closed_loop_a_client_waits_for_its_answer():
    with stub() as (service, url):
        table = closed_loop(url, clients=3, seconds=0.3, users=USERS)
    assert len(table) == len(service.asked) > 3 and (table["due"] == table["sent"]).all()
    events = sorted([(t, 1) for t in table["sent"]] + [(t, -1) for t in table["done"]])
    assert max(np.cumsum([change for _, change in events])) == 3
    assert list(table)[:7] == COLUMNS


def test_only_the_open_loop_sees_the_service_stand_still():
    with stub() as (service, url):
        clock = time.perf_counter()
        closed = closed_loop(url, clients=2, seconds=1, users=USERS, during={0.1: service.pause})
        start, end = (t - clock for t in service.frozen)
        stuck = closed[(closed["done"] - closed["sent"]) > (end - start) / 2]
        assert len(stuck) == 2, "one request a client; what users would have sent was never sent"
        opened = open_loop(url, rate=200, seconds=1, users=USERS, during={0.1: service.pause})
    slow = opened[opened["latency_ms"] > 1000 * (end - start) / 2]
    assert len(slow) > 10
    assert percentiles(opened)["p90_ms"] > percentiles(closed)["p90_ms"]


# ---------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ((503, {"error": "busy"}), 503),
        ((None, b""), FAILED),  # cut short
        ((200, b"no json"), FAILED),
        ((404, {"error": "unknown"}), 404),
    ],
    ids=str,
)
def test_whatever_goes_wrong_is_a_failed_request(answer, status):
    with stub(lambda number: OK if number % 2 else answer) as (_, url):
        table = open_loop(url, rate=200, seconds=0.2, users=USERS)
    assert len(table) == 40
    assert table["status"].value_counts().to_dict() == {200: 20, status: 20}
    assert percentiles(table)["failed"] == 20
    assert table[table["status"] != 200]["policy"].isna().all()


def test_a_connection_that_the_service_closed_is_not_used_again():
    answered = []

    def answer(number):
        answered.append(number)
        return OK

    with stub(answer) as (service, url):
        service.hangs_up = True
        table = closed_loop(url, clients=1, seconds=0.2, users=USERS, during={})
    assert len(table) == len(answered) > 1 and (table["status"] == 200).all()


def test_a_service_that_is_not_there_fails_every_request():
    with stub() as (_, url):
        pass
    table = open_loop(url, rate=100, seconds=0.1, users=USERS)
    assert (table["status"] == FAILED).all() and len(table) == 10


def test_who_never_answers_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(load, "PATIENCE_SECONDS", 0.05)
    with stub() as (service, url):
        service.thawed.clear()
        table = open_loop(url, rate=50, seconds=0.1, users=USERS)
        service.thawed.set()
    assert (table["status"] == FAILED).all() and (table["latency_ms"] >= 50).all()


# ---------------------------------------------------------------- beside it, and what makes no sense


def test_something_else_can_be_done_at_a_moment():
    done = []
    with stub() as (_, url):
        start = time.perf_counter()
        open_loop(url, 100, 0.3, USERS, during={0.1: lambda: done.append(time.perf_counter() - start)})
        closed_loop(url, 1, 0.1, USERS, during={0.05: lambda: done.append("closed")})
    assert done[0] >= 0.1 and done[1:] == ["closed"]


def test_an_error_of_what_else_is_done_passes():
    with stub() as (_, url), pytest.raises(ZeroDivisionError):
        open_loop(url, 100, 0.1, USERS, during={0.0: lambda: 1 / 0})


def test_it_runs_where_a_loop_runs_already_as_in_a_notebook():
    async def cell(url):
        return open_loop(url, 100, 0.1, USERS)

    with stub() as (_, url):
        assert len(asyncio.run(cell(url))) == 10


def test_percentiles_are_those_of_the_requests():
    table = pd.DataFrame(
        {
            "sent": np.arange(100) / 100,
            "done": 1.0,
            "status": [200] * 99 + [0],
            "latency_ms": np.arange(100.0),
        }
    )
    found = percentiles(table)
    assert (found["requests"], found["failed"], found["a_second"]) == (100, 1, 100)
    assert (found["p50_ms"], found["max_ms"]) == (49.5, 99)
    assert found["p99_ms"] == pytest.approx(98.01)
    with pytest.raises(ValueError, match="no requests"):
        percentiles(table[:0])


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (open_loop, {"rate": 0, "seconds": 1}, "rate must be a finite number above 0"),
        (open_loop, {"rate": np.inf, "seconds": 1}, "rate must be a finite number above 0"),
        (open_loop, {"rate": 1, "seconds": np.nan}, "seconds must be a finite number above 0"),
        (open_loop, {"rate": 1, "seconds": 0.1}, "rate times seconds must be a whole number from 1"),
        (closed_loop, {"clients": 1, "seconds": -1}, "seconds must be a finite number above 0"),
        (closed_loop, {"clients": 0, "seconds": 1}, "clients must be a whole number from 1"),
    ],
    ids=["no rate", "endless rate", "no seconds", "less than one request", "negative seconds", "no clients"],
)
def test_a_load_that_makes_no_sense_is_refused(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function("http://127.0.0.1:1", users=USERS, **arguments)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "", "http://127.0.0.1"])
def test_an_address_without_a_port_is_refused(url):
    with pytest.raises(ValueError, match="url must be"):
        open_loop(url, rate=10, seconds=0.1, users=USERS)


@pytest.mark.parametrize("users", [[], [[1, 2]], ["a"], [1.5]])
def test_users_that_are_no_ids_are_refused(users):
    with pytest.raises(ValueError, match="users must hold"):
        open_loop("http://127.0.0.1:1", rate=10, seconds=0.1, users=users)
