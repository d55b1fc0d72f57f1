"""The service as a process: it starts, answers, is killed, and leaves nothing running and nothing lost."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from helpers import serving
from helpers.load import open_loop
from helpers.releases import ReleaseError, is_popular_only, publish, rollback
from helpers.request_log import ServedLog
from helpers.serving import Service, ServiceError
from tests.small_service import deploy
from tests.test_releases import version
from tests.test_request_log import wait_until

ROOT = Path(__file__).parents[1]
USERS = range(150)
posix_only = pytest.mark.skipif(os.name == "nt", reason="uses signals that Windows does not have")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    return deploy(tmp_path_factory.mktemp("service"))


@pytest.fixture(scope="module")
def service(directory):
    with Service(directory, chaos=True) as service:
        yield service


def is_gone(url):
    try:
        httpx.get(url + "/health", timeout=5, trust_env=False)
    except httpx.HTTPError:
        return True
    return False


# ---------------------------------------------------------------- requests


def test_it_answers_and_knows_what_it_served(service):
    answer = service.recommend(user_id=7, k=5)
    assert len(answer["videos"]) == 5 and answer["model_version"] == service.health()["model_version"]
    served = service.served()
    assert list(served[served["request_id"] == answer["request_id"]]["video_id"]) == answer["videos"]


def test_a_refusal_becomes_an_error_with_its_reason(service):
    with pytest.raises(ServiceError, match="404: user_id 999 is unknown: users 0 to 149 are known"):
        service.recommend(user_id=999)
    with pytest.raises(ServiceError, match="422: k: Input should be less than or equal to 50"):
        service.recommend(user_id=1, k=10**6)


def test_the_metrics_come_as_a_table(service):
    service.recommend(user_id=7)
    metrics = service.metrics().set_index(["name", "labels"])["value"]
    assert metrics["stage_outcomes_total", "outcome=answered, stage=store"] >= 1
    assert metrics["requests_total", "status=200"] >= 1


def test_it_runs_beside_the_notebook_and_not_in_it(service):
    assert service.pid != os.getpid()
    assert service.url.startswith("http://127.0.0.1:")


def test_stages_break_and_heal(service):
    service.chaos(down=["store", "index"])
    answer = service.recommend(user_id=7)
    assert (answer["policy"], answer["profile"]) == ("ranked popular", "batch")
    service.chaos()
    wait_until(lambda: service.recommend(user_id=7)["policy"] == "two-stage")


def test_a_release_is_published_and_rolled_back_under_load_without_a_failure(service, directory):
    def there_and_back():
        publish(version("2"), directory)
        service.wait_for("2")
        time.sleep(0.3)
        rollback(directory)
        service.wait_for("1")

    table = open_loop(service.url, rate=30, seconds=3, users=USERS, during={0.2: there_and_back})
    assert (table["status"] == 200).all() and set(table["model_version"]) == {"1", "2"}
    assert service.recommend(user_id=7)["model_version"] == "1"


def test_a_version_that_does_not_come_is_an_error(service):
    with pytest.raises(ServiceError, match=r"did not serve 'never' in 0\.1 s"):
        service.wait_for("never", seconds=0.1)


def test_a_second_service_on_the_directory_is_refused(service, directory):
    with pytest.raises(ServiceError, match=r"LogError: Another service writes into .*: stop it"):
        Service(directory).start()
    assert service.health()["status"] == "ready"


# ---------------------------------------------------------------- the kill switch


def test_the_kill_switch_needs_no_restart(service):
    pid = service.pid
    service.popular_only(True)
    try:
        answers = [service.recommend(user, 4) for user in (3, 7)]
        assert {answer["policy"] for answer in answers} == {"popular"}
        assert answers[0]["videos"] == answers[1]["videos"]
        assert switch_of(service) == 1
    finally:
        service.popular_only(False)
    assert service.recommend(7)["policy"] == "two-stage"
    assert switch_of(service) == 0 and service.pid == pid


def test_the_switch_of_a_service_that_does_not_run_is_not_thrown(service, directory):
    with pytest.raises(ServiceError, match="does not run"):
        Service(directory).popular_only(True)
    assert not is_popular_only(directory)


def switch_of(service):
    return service.metrics().set_index("name").loc["popular_only", "value"]


def test_a_service_that_does_not_follow_the_switch_is_an_error(service, monkeypatch):
    monkeypatch.setattr(serving, "SWITCH_SECONDS", 0.1)
    monkeypatch.setattr(serving, "popular_only", lambda on, directory: None)
    with pytest.raises(ServiceError, match=r"did not follow the kill switch in 0\.1 s"):
        service.popular_only(True)


# ---------------------------------------------------------------- start and stop


def test_the_service_of_a_lost_object_ends(tmp_path):
    """As when the cell that started it is run again, with another directory."""
    service = Service(deploy(tmp_path)).start()
    url, process = service.url, service._process
    assert not is_gone(url)
    service = Service(tmp_path)
    gc.collect()
    wait_until(lambda: is_gone(url))
    assert process.poll() == 0, "it was not killed, and is no zombie"
    with ServedLog(tmp_path / "served.jsonl"):
        pass  # the log is free
    service.stop()


def test_without_a_release_it_does_not_start(tmp_path):
    with pytest.raises(ReleaseError, match="holds no release"):
        Service(tmp_path).start()


def test_before_its_start_it_says_so(tmp_path):
    service = Service(tmp_path)
    with pytest.raises(ServiceError, match="does not run"):
        service.recommend(7)
    with pytest.raises(ServiceError, match="make it with chaos=True"):
        service.chaos(down=["store"])
    service.stop()


def test_a_cell_that_fails_leaves_nothing_running_and_a_kill_loses_nothing(tmp_path):
    """Killed in the middle of its requests, and while a release is being published; then started again."""
    deploy(tmp_path)
    answered = []

    def ask_on(service):
        try:
            for user in range(10**6):
                answered.append(service.recommend(user % 150)["request_id"])
        except ServiceError:
            pass

    service = Service(tmp_path)
    with pytest.raises(ZeroDivisionError), service:
        asking = threading.Thread(target=ask_on, args=[service])
        asking.start()
        publishing = threading.Thread(target=publish, args=[version("2"), tmp_path])
        publishing.start()
        wait_until(lambda: len(answered) > 30)
        with pytest.raises(ServiceError, match="runs already"):
            service.start()
        service.kill()
        asking.join()
        publishing.join()
        raise ZeroDivisionError
    assert is_gone(service.url)
    with ServedLog(tmp_path / "served.jsonl") as log:
        logged = log.last["request_id"]
    assert set(answered) <= set(service.served()["request_id"])
    with service:
        service.wait_for("2")
        assert service.recommend(7)["request_id"] == logged + 1
        assert set(answered) <= set(service.served()["request_id"])


NOTEBOOK = """
import sys
from helpers.serving import Service
service = Service(sys.argv[1]).start()
print(service.url, flush=True)
service.recommend(7)
print("asked", flush=True)
sys.stdin.read()
"""


@posix_only
def test_when_the_kernel_dies_the_service_ends(tmp_path):
    command = [sys.executable, "-c", NOTEBOOK, deploy(tmp_path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as kernel:
        url = kernel.stdout.readline().strip()
        assert kernel.stdout.readline() == "asked\n" and not is_gone(url)
        kernel.send_signal(signal.SIGKILL)
    wait_until(lambda: is_gone(url))
    with ServedLog(tmp_path / "served.jsonl") as log:
        assert log.last["user_id"] == 7, "the log is free, and whole"
