"""The service as a notebook uses it: a process of its own, started and stopped by a `with`.

    with Service(directory) as service:
        service.recommend(user_id=7, k=10)

`releases` makes what it serves, `app` is what runs in the process, `load` puts it under load.
"""

import os
import re
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import httpx
import pandas as pd
from prometheus_client.parser import text_string_to_metric_families

from helpers.app import LOG
from helpers.releases import current, popular_only
from helpers.request_log import read_served

ROOT = Path(__file__).parents[1]
ERRORS = "service-errors.txt"
START_SECONDS, STOP_SECONDS, ASK_SECONDS, SWITCH_SECONDS = 120.0, 15.0, 10.0, 10.0
ONE_THREAD = {  # threads that spin while they wait, or more than cores, make a request many times slower
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}


class ServiceError(RuntimeError):
    """The service did not start, is not running, or refused a request; the message says why."""


class Service:
    """The service of a directory that holds a release and an online store, on a free port of this machine.

    With `chaos`, its stages can be broken on purpose; without, that is not even an address. It stops with its
    `with`, when a cell fails, when nobody refers to this object any more, as when a cell that made it is run
    again, and when the process that started it ends in whatever way: it sees its standard input end. Cells
    that share one service call `start` and `stop` themselves.
    """

    def __init__(self, directory: str | Path, *, chaos: bool = False) -> None:
        """Prepare; nothing runs yet."""
        self.directory, self._chaos = Path(directory).resolve(), chaos
        self._process: subprocess.Popen[str] | None = None
        self.url = ""

    def __enter__(self) -> Self:
        """Start the service."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stop the service."""
        self.stop()

    def start(self) -> Self:
        """Start it and wait until it is ready.

        Raises ReleaseError if nothing is published, and ServiceError, with the reason, if it does not start.
        """
        if self._process is not None:
            raise ServiceError("This service runs already: stop it first.")
        current(self.directory)
        command = [sys.executable, "-m", "helpers.app", str(self.directory), "--port", "0", "--while-stdin"]
        with (self.directory / ERRORS).open("w", encoding="utf-8") as errors:
            self._process = subprocess.Popen(
                command + ["--chaos"] * self._chaos,
                cwd=ROOT,
                env=os.environ | ONE_THREAD,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # an interrupt of the cell is none of the service
            )
        self._end = weakref.finalize(self, _end, self._process)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def _wait_until_ready(self) -> None:
        line = self._process.stdout.readline()
        if not line:
            raise ServiceError(f"The service did not start. {self._last_words()}")
        self.url = line.strip()
        self._until(lambda health: health["status"] == "ready", START_SECONDS, "become ready")

    def _last_words(self) -> str:
        """The error that the process wrote last."""
        written = (self.directory / ERRORS).read_text(encoding="utf-8")
        errors = re.findall(r"^[\w.]*(?:Error|Exception): .*$", written, re.MULTILINE)
        return f"It says: {errors[-1]}" if errors else "It does not say why."

    def _until(self, reached: Callable[[dict[str, Any]], bool], seconds: float, what: str) -> None:
        end = time.monotonic() + seconds
        while not reached(health := self.health()):
            if self._process.poll() is not None:
                raise ServiceError(f"The service ended. {self._last_words()}")
            if time.monotonic() > end:
                raise ServiceError(f"The service did not {what} in {seconds:g} s: {health['problem']}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Let it answer what it has begun, and end; kill it if it does not. Does nothing if none runs."""
        if self._process is None:
            return
        self._process = None
        self._end()

    def kill(self) -> None:
        """Kill it at once, as a power cut or the system might: for the lesson on what survives."""
        self._running().kill()
        self.stop()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._running().pid

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise ServiceError("The service does not run: use `with Service(directory) as service`.")
        return self._process

    # ------------------------------------------------------------ requests

    def _ask(self, method: str, path: str, **content: Any) -> httpx.Response:
        self._running()
        try:
            return httpx.request(method, self.url + path, timeout=ASK_SECONDS, trust_env=False, **content)
        except httpx.HTTPError as error:
            raise ServiceError(f"The service does not answer ({error}). {self._last_words()}") from error

    def _answer(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        response = self._ask(method, path, **content)
        if response.is_error:
            raise ServiceError(f"{response.status_code}: {response.json().get('error', response.text)}")
        return response.json()

    def recommend(self, user_id: int, k: int = 10) -> dict[str, Any]:
        """Return at most k videos for a user, and what they stand on. Raises ServiceError for a refusal."""
        return self._answer("POST", "/recommend", json={"user_id": user_id, "k": k})

    def health(self) -> dict[str, Any]:
        """Return whether it is ready, which version it serves, and what keeps it from a newer one."""
        return self._ask("GET", "/ready").json()

    def wait_for(self, version: str, seconds: float = 30.0) -> None:
        """Wait until this version is served. Raises ServiceError, with the reason, if it is not in time."""
        self._until(lambda health: health["model_version"] == version, seconds, f"serve {version!r}")

    def popular_only(self, on: bool) -> None:
        """Throw the kill switch, and wait until the service follows: see `releases.popular_only`.

        Raises ServiceError, with the reason, if it does not follow in time.
        """
        self._running()
        popular_only(on, self.directory)
        self._until(lambda health: health["popular_only"] == on, SWITCH_SECONDS, "follow the kill switch")

    def metrics(self) -> pd.DataFrame:
        """Return the metrics, a row a sample: its name, labels such as "outcome=late, stage=store", value."""
        families = text_string_to_metric_families(self._ask("GET", "/metrics").text)
        rows = [
            (
                sample.name,
                ", ".join(f"{name}={label}" for name, label in sorted(sample.labels.items())),
                sample.value,
            )
            for family in families
            for sample in family.samples
        ]
        return pd.DataFrame(rows, columns=["name", "labels", "value"])

    def served(self) -> pd.DataFrame:
        """Return what was served from this directory so far: see `read_served`."""
        return read_served(self.directory / LOG)

    def chaos(
        self, slow_ms: Mapping[str, float] | None = None, down: Iterable[str] = (), freeze_ms: float = 0
    ) -> None:
        """Break stages ("store", "index", "ranker") on purpose, or freeze all once; what is not named heals.

        Raises ServiceError unless the service was made with `chaos=True`.
        """
        if not self._chaos:
            raise ServiceError("This service cannot be broken on purpose: make it with chaos=True.")
        faults = {"slow_ms": dict(slow_ms or {}), "down": [*down], "freeze_ms": freeze_ms}
        self._answer("PUT", "/chaos", json=faults)


def _end(process: subprocess.Popen[str]) -> None:
    """End a service by the end of its standard input; kill it if it does not."""
    process.stdin.close()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
