"""The application over HTTP: bad input gets a clear 4xx, overload a 503, a bad release changes nothing."""

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from prometheus_client.parser import text_string_to_metric_families

from helpers import app as application
from helpers.app import HOST, LOG, MOST_BYTES, Clock, Server, create_app, listening, web_server
from helpers.releases import SWITCH, activate, popular_only, publish, rollback
from helpers.request_log import ServedLog, read_served
from helpers.request_path import POOL, popular_answer
from helpers.simulator import REQUESTS_A_DAY
from tests.small_service import DAYS, deploy, small
from tests.test_releases import version
from tests.test_request_log import served, wait_until


@contextmanager
def started(directory, chaos=False):
    """A client of an application that runs in a thread; `client.server` is what is behind it."""
    app = create_app(directory, chaos)
    with listening(0) as listener:
        server = web_server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        try:
            with httpx.Client(base_url=url, timeout=60, trust_env=False) as client:
                client.server = app.state.server
                yield client
        finally:
            server.should_exit = True
            thread.join()


def until_ready(client, release="1"):
    wait_until(lambda: client.get("/ready").json()["model_version"] == release)
    return client


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return deploy(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def client(directory):
    with started(directory) as client:
        yield until_ready(client)


def ask(client, **body):
    return client.post("/recommend", json=body)


# ---------------------------------------------------------------- answers


def test_an_answer_has_its_type_and_is_logged_before_it_leaves(client, directory):
    answer = ask(client, user_id=7, k=5).json()
    assert answer["user_id"] == 7 and len(answer["videos"]) == 5
    assert (answer["policy"], answer["profile"], answer["model_version"]) == ("two-stage", "live", "1")
    rows = read_served(directory / LOG).query(f"request_id == {answer['request_id']}")
    assert list(rows["video_id"]) == answer["videos"]
    assert rows["propensity"].between(0, 1, inclusive="right").all()


def test_ten_videos_come_unless_another_number_is_asked_for(client):
    assert len(ask(client, user_id=0).json()["videos"]) == 10
    assert len(ask(client, user_id=0, k=POOL).json()["videos"]) == POOL


def test_a_whole_number_may_be_written_with_a_point_as_json_allows(client):
    assert ask(client, user_id=7.0, k=3.0).json()["user_id"] == 7


def test_requests_are_numbered_like_those_of_the_day_of_the_platform(client):
    first, second = (ask(client, user_id=3).json()["request_id"] for _ in range(2))
    assert second == first + 1 and first // REQUESTS_A_DAY == DAYS


def test_the_time_of_the_log_is_that_of_the_platform(client, directory):
    ask(client, user_id=3)
    table = read_served(directory / LOG)
    age = table["timestamp"] - small().release.as_of
    assert (age.dt.total_seconds().between(0, 3600)).all() and table["timestamp"].is_monotonic_increasing


def test_the_clock_runs_from_its_start():
    clock = Clock(small().release.as_of)
    first, second = clock.now(), clock.now()
    assert small().release.as_of <= first <= second and first.unit == "us"


# ---------------------------------------------------------------- bad input

BAD = {
    "no number": b'{"user_id": "7"}',
    "not a whole number": b'{"user_id": 1.5}',
    "NaN": b'{"user_id": NaN}',
    "infinite": b'{"user_id": 1e400}',
    "negative": b'{"user_id": -1}',
    "beyond every id": b'{"user_id": 99999999999999999999}',
    "thousands of digits": b'{"user_id": ' + b"9" * 5000 + b"}",
    "true": b'{"user_id": true}',
    "null": b'{"user_id": null}',
    "a list": b"[7]",
    "nothing": b"",
    "only null": b"null",
    "no user": b'{"k": 3}',
    "an unknown field": b'{"user_id": 7, "admin": true}',
    "k of a million": b'{"user_id": 7, "k": 1000000}',
    "k of 0": b'{"user_id": 7, "k": 0}',
    "k is NaN": b'{"user_id": 7, "k": NaN}',
    "cut short": b'{"user_id": 7',
    "no JSON": b"user_id=7",
    "no UTF-8": b'{"user_id": "\xff"}',
    "half a surrogate": b'{"user_id": "\\ud800"}',
    "deep": b"[" * 4000,
}


@pytest.mark.parametrize("body", BAD.values(), ids=BAD.keys())
def test_bad_input_gets_a_4xx_that_says_what_is_wrong(client, body):
    answer = client.post("/recommend", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422)
    assert list(answer.json()) == ["error"] and len(answer.json()["error"]) > 20
    assert ask(client, user_id=7).status_code == 200, "nothing is stuck"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"user_id": "7"}, "user_id: Input should be a valid integer"),
        ({"user_id": 7, "k": 10**6}, f"k: Input should be less than or equal to {POOL}"),
        ({}, "user_id: Field required"),
    ],
    ids=str,
)
def test_the_message_names_the_field_and_shows_a_request(client, body, message):
    error = ask(client, **body).json()["error"]
    assert error.startswith(message) and error.endswith('Send JSON such as {"user_id": 7, "k": 10}.')


def test_an_unknown_user_is_not_found(client):
    answer = ask(client, user_id=150)
    assert answer.status_code == 404
    assert answer.json() == {"error": "user_id 150 is unknown: users 0 to 149 are known."}


def test_a_body_of_ten_megabytes_is_refused(client):
    answer = client.post("/recommend", content=b" " * 10**7)
    assert answer.status_code == 413 and f"larger than {MOST_BYTES:,} bytes" in answer.json()["error"]
    padded = b'{"user_id": 7}'.ljust(MOST_BYTES)
    headers = {"content-type": "application/json"}
    assert client.post("/recommend", content=padded, headers=headers).status_code == 200
    assert client.post("/recommend", content=padded + b" ", headers=headers).status_code == 413


def answer_to(app, receive):
    """The status and the body that an application sends, given how it receives."""
    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/recommend", "method": "POST", "headers": []}
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], sent[1]["body"]


def test_a_body_without_an_end_is_refused_as_soon_as_it_is_too_large(directory):
    received = []

    async def endless():
        received.append(1)
        assert len(received) < 100
        return {"type": "http.request", "body": b" " * 1_000, "more_body": True}

    status, body = answer_to(create_app(directory), endless)
    assert status == 413 and b"larger than" in body and len(received) == MOST_BYTES // 1_000 + 1


def test_a_body_that_does_not_come_is_refused(directory, monkeypatch):
    async def never():
        await asyncio.sleep(60)

    monkeypatch.setattr(application, "BODY_SECONDS", 0.01)
    status, body = answer_to(create_app(directory), never)
    assert status == 408 and b"did not come within" in body


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/recommend", 405), ("GET", "/docs", 404)])
def test_other_addresses_and_methods_are_refused(client, method, path, status):
    answer = client.request(method, path)
    assert answer.status_code == status and "error" in answer.json()


# ---------------------------------------------------------------- fuzzed


described = schemathesis.openapi.from_dict(create_app("nowhere", chaos=False).openapi())


@described.parametrize()
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
def test_the_service_keeps_what_its_own_description_promises(case, client):
    case.call_and_validate(base_url=str(client.base_url))


# ---------------------------------------------------------------- ready, overloaded, broken


def test_before_there_is_a_release_it_lives_and_is_not_ready(tmp_path):
    with started(tmp_path) as client:
        assert client.get("/health").status_code == 200
        wait_until(lambda: "holds no release" in client.get("/ready").json()["problem"])
        assert client.get("/ready").status_code == 503
        answer = ask(client, user_id=7)
        assert answer.status_code == 503 and "No release is served yet" in answer.json()["error"]
        deploy(tmp_path)
        assert ask(until_ready(client), user_id=7).status_code == 200


def test_a_new_release_is_taken_over_and_a_bad_one_is_not(tmp_path):
    with started(deploy(tmp_path)) as client:
        until_ready(client)
        publish(version(2), tmp_path)
        assert ask(until_ready(client, "2"), user_id=7).json()["model_version"] == "2"
        assert [line for line in client.get("/metrics").text.splitlines() if line.startswith("release{")] == [
            'release{version="2"} 1.0'
        ]
        publish(version(3), tmp_path / "elsewhere")
        (file,) = (tmp_path / "elsewhere" / "releases" / "3" / "index").glob("index-*")
        file.write_bytes(file.read_bytes()[:-9])
        (tmp_path / "elsewhere" / "releases" / "3").rename(tmp_path / "releases" / "3")
        activate("3", tmp_path)
        wait_until(lambda: "Release '3' cannot be served" in (client.get("/ready").json()["problem"] or ""))
        time.sleep(0.5)
        health = client.get("/ready")
        assert health.status_code == 200 and health.json()["model_version"] == "2"
        assert "cannot be served" in health.json()["problem"], "the reason stays"
        assert ask(client, user_id=7).json()["model_version"] == "2"
        assert rollback(tmp_path) == "2"
        wait_until(lambda: client.get("/ready").json()["problem"] is None)


def test_a_release_is_loaded_once(client):
    release = client.server.release
    time.sleep(4 * application.POLL_SECONDS)
    assert client.server.release is release


def test_a_damaged_pointer_changes_nothing_and_is_forgotten_once_it_is_mended(tmp_path):
    with started(deploy(tmp_path)) as client:
        until_ready(client)
        pointer = tmp_path / "manifest.json"
        content = pointer.read_bytes()
        pointer.write_bytes(content[:-5])
        wait_until(lambda: "manifest.json in" in (client.get("/ready").json()["problem"] or ""))
        assert ask(client, user_id=7).json()["model_version"] == "1"
        pointer.write_bytes(content)
        wait_until(lambda: client.get("/ready").json()["problem"] is None)


def test_the_next_start_goes_on_behind_the_last_record(tmp_path):
    deploy(tmp_path)
    last = served(DAYS * REQUESTS_A_DAY + 41, timestamp="2025-01-10T08:00:00.000000")
    with ServedLog(tmp_path / LOG) as log:
        log.append(last)
    with started(tmp_path) as client:
        answer = ask(until_ready(client), user_id=7).json()
    assert answer["request_id"] == last["request_id"] + 1
    newest = read_served(tmp_path / LOG).iloc[-1]
    assert newest["request_id"] == answer["request_id"]
    assert str(newest["timestamp"]).startswith("2025-01-10 08:0")


def test_who_would_wait_too_long_is_told_to_come_back(client, monkeypatch):
    """One request is answered slowly; of the eleven that come meanwhile, about four may wait."""
    server, begun = client.server, threading.Event()
    real = server.path.recommend

    def slow(*arguments):
        if not begun.is_set():
            begun.set()
            time.sleep(0.5)
        return real(*arguments)

    monkeypatch.setattr(application, "MOST_WAITING", 4)
    monkeypatch.setattr(server.path, "recommend", slow)
    with ThreadPoolExecutor(12) as threads:
        first = threads.submit(ask, client, user_id=7)
        assert begun.wait(60)
        others = [threads.submit(ask, client, user_id=7) for _ in range(11)]
        answers = [future.result() for future in (first, *others)]
    refused = [answer for answer in answers if answer.status_code == 503]
    assert answers[0].status_code == 200 and 8 >= len(refused) >= 5
    assert {answer.headers["retry-after"] for answer in refused} == {"1"}
    assert server.waiting == 0


def test_what_cannot_be_logged_is_not_answered(client, monkeypatch):
    server = client.server
    before = server.next_id

    def full(record):
        raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(server.log, "append", full)
        answer = ask(client, user_id=7)
    assert answer.status_code == 503 and "cannot be logged" in answer.json()["error"]
    assert ask(client, user_id=7).json()["request_id"] == before


# ---------------------------------------------------------------- the kill switch


def until_popular_only(client, on):
    wait_until(lambda: client.get("/ready").json()["popular_only"] is on)


def test_the_switch_makes_every_answer_popular_without_any_stage_and_back(tmp_path, monkeypatch):
    with started(deploy(tmp_path)) as client:
        until_ready(client)
        assert "popular_only 0.0" in client.get("/metrics").text
        popular_only(True, tmp_path)
        until_popular_only(client, True)
        assert "popular_only 1.0" in client.get("/metrics").text
        with monkeypatch.context() as patch:
            patch.setattr(client.server.path, "recommend", None)
            answers = [ask(client, user_id=user, k=5).json() for user in range(30)]
        wanted = popular_answer(small().release, 5).ids.tolist()
        assert all(answer["videos"] == wanted for answer in answers)
        assert {(a["policy"], a["profile"], a["model_version"]) for a in answers} == {
            ("popular", "none", "1")
        }
        popular_only(False, tmp_path)
        until_popular_only(client, False)
        assert ask(client, user_id=7).json()["policy"] == "two-stage"
    table = read_served(tmp_path / LOG)
    popular = table[table["policy"] == "popular"]
    assert len(popular) == 150 and (popular["propensity"] == 1).all()
    assert popular["user_ctr"].isna().all() and table["user_ctr"].notna().any()


def test_a_service_that_starts_follows_the_switch_from_its_first_answer(tmp_path):
    popular_only(True, deploy(tmp_path))
    with started(tmp_path) as client:
        assert ask(until_ready(client), user_id=7).json()["policy"] == "popular"
        publish(version(2), tmp_path)
        answer = ask(until_ready(client, "2"), user_id=7).json()
        assert (answer["policy"], answer["model_version"]) == ("popular", "2")


def test_the_switch_is_read_before_any_release(tmp_path, monkeypatch):
    popular_only(True, deploy(tmp_path))
    monkeypatch.setattr(Server, "_watch", lambda server, look: None)
    server = Server(tmp_path)
    server.start()
    server.stop()
    assert server.popular_only and server.release is None


@pytest.mark.parametrize("content", [b"", b"\x00\xff", b"off"])
def test_what_is_in_the_switch_does_not_matter(tmp_path, content):
    (deploy(tmp_path) / SWITCH).write_bytes(content)
    with started(tmp_path) as client:
        assert ask(until_ready(client), user_id=7).json()["policy"] == "popular"


def test_a_switch_that_cannot_be_read_stays_as_it_was(tmp_path, monkeypatch):
    popular_only(True, deploy(tmp_path))
    with started(tmp_path) as client:
        until_ready(client)

        def unreadable(directory):
            raise PermissionError("not yours")

        with monkeypatch.context() as patch:
            patch.setattr(application, "is_popular_only", unreadable)
            popular_only(False, tmp_path)
            wait_until(lambda: "not yours" in (client.get("/ready").json()["problem"] or ""))
            assert ask(client, user_id=7).json()["policy"] == "popular"
        until_popular_only(client, False)
        assert client.get("/ready").json()["problem"] is None
        assert ask(client, user_id=7).json()["policy"] == "two-stage"


def test_a_release_that_loads_for_long_does_not_hold_up_the_switch(tmp_path, monkeypatch):
    with started(deploy(tmp_path)) as client:
        until_ready(client)
        loading, loaded = threading.Event(), threading.Event()

        def slow(directory, version):
            loading.set()
            loaded.wait(60)
            raise OSError("too slow")

        monkeypatch.setattr(application, "load_release", slow)
        publish(version(2), tmp_path)
        try:
            assert loading.wait(60)
            popular_only(True, tmp_path)
            until_popular_only(client, True)
            assert not loaded.is_set()
        finally:
            loaded.set()


def test_a_pointer_that_cannot_be_read_is_tried_again(tmp_path):
    with started(deploy(tmp_path)) as client:
        until_ready(client)
        pointer, aside = tmp_path / "manifest.json", tmp_path / "aside"
        pointer.rename(aside)
        pointer.mkdir()
        wait_until(lambda: "manifest.json" in (client.get("/ready").json()["problem"] or ""))
        pointer.rmdir()
        aside.rename(pointer)
        wait_until(lambda: client.get("/ready").json()["problem"] is None)


# ---------------------------------------------------------------- metrics


def test_the_metrics_count_what_happened(client):
    def sample(name, **labels):
        families = text_string_to_metric_families(client.get("/metrics").text)
        values = [s.value for f in families for s in f.samples if s.name == name and s.labels == labels]
        return values[0] if values else 0

    what = [
        ("requests_total", {"status": "200"}),
        ("requests_total", {"status": "422"}),
        ("answers_total", {"policy": "two-stage", "profile": "live"}),
        ("stage_outcomes_total", {"stage": "ranker", "outcome": "answered"}),
        ("stage_seconds_count", {"stage": "store"}),
        ("request_seconds_count", {}),
    ]
    before = [sample(name, **labels) for name, labels in what]
    ask(client, user_id=7)
    ask(client, user_id="x")
    client.get("/health")
    after = [sample(name, **labels) for name, labels in what]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 1, 1, 1, 2]
    assert sample("release", version="1") == 1 and sample("requests_waiting") == 0


# ---------------------------------------------------------------- chaos


def test_without_chaos_there_is_no_such_address(client):
    assert client.put("/chaos", json={}).status_code == 404
    assert "/chaos" not in client.get("/openapi.json").text


def test_with_chaos_a_stage_breaks_and_heals(tmp_path):
    with started(deploy(tmp_path), chaos=True) as client:
        until_ready(client)
        assert client.put("/chaos", json={"down": ["store", "index"]}).status_code == 200
        answer = ask(client, user_id=7).json()
        assert (answer["policy"], answer["profile"]) == ("ranked popular", "batch")
        client.put("/chaos", json={"slow_ms": {"ranker": 300}})
        assert ask(client, user_id=7).json()["policy"] == "retrieval order"
        client.put("/chaos", json={})
        wait_until(lambda: ask(client, user_id=7).json()["policy"] == "two-stage")
        start = time.monotonic()
        client.put("/chaos", json={"freeze_ms": 50})
        assert time.monotonic() - start >= 0.05
        for bad in ({"down": ["moon"]}, {"slow_ms": {"ranker": -1}}, {"freeze_ms": 1e9}):
            assert client.put("/chaos", json=bad).status_code == 422


# ---------------------------------------------------------------- the socket


def test_only_this_machine_can_connect_and_answers_are_not_held_back():
    with listening(0) as listener:
        assert listener.getsockname()[0] == HOST == "127.0.0.1"
        assert listener.proto == application.socket.IPPROTO_TCP, "asyncio then switches Nagle's algorithm off"
        with pytest.raises(OSError, match=r"cannot be had .*: choose another one with --port"):
            listening(listener.getsockname()[1])
