"""The ASGI application of the service, and the process that runs it on this machine alone.

    python -m helpers.app [DIRECTORY] [--port 8000]

Without a directory it serves a small release of its own, which it builds the first time. One process serves
one directory: it watches the pointer to the current release and the kill switch, reads the online store, and
writes the log of what it served. Requests are answered one by one, in the order in which they came: in one
process of Python two at a time would only wait for each other. Who would wait too long is told to come back.
"""

import argparse
import asyncio
import gc
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException
from threadpoolctl import threadpool_limits

from helpers.releases import (
    Release,
    ReleaseError,
    build_release,
    current,
    fill_store,
    history,
    is_popular_only,
    load_release,
    publish,
)
from helpers.request_log import ServedLog
from helpers.request_path import POOL, Answer, Faults, RequestPath, popular_answer
from helpers.simulator import REQUESTS_A_DAY, Platform, random_policy
from helpers.world import START

DEMO = Path(__file__).parents[1] / ".cache" / "service"
EXAMPLE = """Try:
curl {url}/recommend -H "content-type: application/json" -d '{{"user_id": 7, "k": 10}}'"""
HOST = "127.0.0.1"  # nobody but this machine
LOG, RECOMMEND = "served.jsonl", "/recommend"
POLL_SECONDS = 0.2  # between two looks at the pointer, or at the switch
MOST_WAITING = 100  # requests; more would wait longer than anybody waits for them
KEEP_ALIVE_SECONDS = (
    60  # for which a connection may be idle; a client that reuses it meanwhile is not cut off
)
MOST_BYTES, BODY_SECONDS = 10_000, 5.0  # of a request's body
BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)
Message = MutableMapping[str, Any]
Receive, Send = Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]

# ---------------------------------------------------------------- what is asked and answered


class Strict(BaseModel):
    """A body in which a text is no number, and an unknown field is a mistake."""

    model_config = ConfigDict(strict=True, extra="forbid")


def _whole(value: Any) -> Any:
    """7 for 7.0: JSON has one kind of number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[int, BeforeValidator(_whole)]


class Ask(Strict):
    """A request for recommendations."""

    user_id: Whole = Field(ge=0, lt=2**31)
    k: Whole = Field(10, ge=1, le=POOL, description="how many videos, at most")


class Recommendations(BaseModel):
    """The videos, best first, and what they stand on."""

    request_id: int
    user_id: int
    videos: list[int]
    policy: str
    profile: str
    model_version: str
    milliseconds: dict[str, float]


class Problem(BaseModel):
    """Why there is no answer."""

    error: str


class Health(BaseModel):
    """Whether the process lives, or is ready to serve.

    popular_only: whether it follows the kill switch. problem: what keeps it from a newer release, or from
    the switch.
    """

    status: str
    model_version: str | None = None
    popular_only: bool | None = None
    problem: str | None = None


Stage = Literal["store", "index", "ranker"]


class Chaos(Strict):
    """What to break on purpose; what is not named is whole again."""

    slow_ms: dict[Stage, Annotated[float, Field(ge=0, le=10_000)]] = {}
    down: list[Stage] = []
    freeze_ms: float = Field(0, ge=0, le=10_000, description="stop the whole process for so long, once")


# ---------------------------------------------------------------- the server behind the application


class Clock:
    """The time of the platform: it begins at a moment of its calendar, and runs as fast as ours."""

    def __init__(self, start: pd.Timestamp) -> None:
        """Begin now."""
        self._start, self._began = start, time.monotonic()

    def now(self) -> pd.Timestamp:
        """Return the moment, to the microsecond."""
        elapsed = pd.Timedelta(microseconds=int(1e6 * (time.monotonic() - self._began)))
        return self._start + elapsed


class Server:
    """What the endpoints share: the current release, the path of a request, the log, the metrics."""

    def __init__(self, directory: Path) -> None:
        """Make the metrics; `start` does the rest."""
        self.directory, self.path = directory, RequestPath(directory)
        self.release: Release | None = None
        self.problem: str | None = "The service has just started."
        self.popular_only, self.switch_problem = False, None
        self.waiting, self.turn = 0, asyncio.Lock()
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "requests", "Requests for recommendations by status", ["status"], registry=self.registry
        )
        self.request_seconds = Histogram(
            "request_seconds", "Time of such a request in here", registry=self.registry, buckets=BUCKETS
        )
        self.answers = Counter(
            "answers", "Answers by what they stand on", ["policy", "profile"], registry=self.registry
        )
        self.seconds = Histogram(
            "stage_seconds", "Time of a stage", ["stage"], registry=self.registry, buckets=BUCKETS
        )
        waiting = Gauge("requests_waiting", "Requests that wait now", registry=self.registry)
        waiting.set_function(lambda: self.waiting)
        self.version = Gauge(
            "release", "1 for the release that is served", ["version"], registry=self.registry
        )
        switch = Gauge("popular_only", "1 while the kill switch is on", registry=self.registry)
        switch.set_function(lambda: self.popular_only)
        self.registry.register(Outcomes(self.path))

    def start(self) -> None:
        """Open the log; look for a release and at the switch now and again."""
        self.log = ServedLog(self.directory / LOG)
        self._stopped, self._tried = threading.Event(), None
        self._look_at_switch()  # before the first request can be answered
        # Each look has a thread of its own: a release that loads for long must not hold up the switch.
        looks = (self._look_for_release, self._look_at_switch)
        self._watchers = [threading.Thread(target=self._watch, args=[look]) for look in looks]
        for watcher in self._watchers:
            watcher.start()

    def stop(self) -> None:
        """Answer what waits, then close the log."""
        self._stopped.set()
        for watcher in self._watchers:
            watcher.join()
        self.path.close()
        self.log.close()

    def _watch(self, look: Callable[[], None]) -> None:
        """Look now and again."""
        while not self._stopped.wait(POLL_SECONDS):
            look()

    def _look_for_release(self) -> None:
        """Take over what is published; a release that cannot be loaded changes nothing, and is tried once."""
        try:
            version = current(self.directory)
        except (ReleaseError, OSError) as error:
            self._tried, self.problem = None, str(error)
            return
        if version != self._tried:
            self._tried = version
            try:
                self._take_over(load_release(self.directory, version))
                self.problem = None
            except Exception as error:  # whatever is wrong with it, the old release serves on
                self.problem = str(error)

    def _look_at_switch(self) -> None:
        """Follow the kill switch; one that cannot be read changes nothing."""
        try:
            self.popular_only, self.switch_problem = is_popular_only(self.directory), None
        except OSError as error:
            self.switch_problem = f"The kill switch cannot be read and stays as it was: {error}"

    def _take_over(self, release: Release) -> None:
        """Serve this release from the next request on."""
        if self.release is None:
            first = (release.as_of - START).days * REQUESTS_A_DAY
            last = self.log.last or {"request_id": first - 1, "timestamp": release.as_of.isoformat()}
            self.next_id = max(first, last["request_id"] + 1)
            self.clock = Clock(max(release.as_of, pd.Timestamp(last["timestamp"])))
            self.path.warm_up(release)
        else:
            release.warm_up()
        gc.collect()
        gc.freeze()  # what lives as long as the process need not be looked through while requests wait
        self.version.clear()
        self.version.labels(release.version).set(1)
        self.release = release

    async def recommend(self, ask: Ask) -> Recommendations:
        """Answer a request when its turn comes, with the release that was current when it came."""
        release = self.release
        if release is None:
            raise HTTPException(503, f"No release is served yet. {self.problem}")
        if ask.user_id >= len(release.profiles):
            known = len(release.profiles) - 1
            raise HTTPException(404, f"user_id {ask.user_id} is unknown: users 0 to {known} are known.")
        if self.waiting >= MOST_WAITING:
            raise HTTPException(503, "Too many requests are waiting: try again later.", {"Retry-After": "1"})
        self.waiting += 1
        try:
            async with self.turn:
                await asyncio.sleep(0)  # whoever has come meanwhile is counted before this one is answered
                return self._answer(ask, release)
        finally:
            self.waiting -= 1

    def _answer(self, ask: Ask, release: Release) -> Recommendations:
        """Answer, and log the answer before it leaves. The stages have deadlines, so it cannot take long."""
        request_id, at = self.next_id, self.clock.now()
        if self.popular_only:
            answer = popular_answer(release, ask.k)
        else:
            answer = self.path.recommend(release, request_id, ask.user_id, ask.k, at)
        try:
            self.log.append(record(answer, request_id, ask.user_id, at))
        except OSError as error:
            raise HTTPException(503, f"The answer cannot be logged, so it is not given: {error}") from error
        self.next_id += 1
        self.answers.labels(answer.policy, answer.profile).inc()
        for stage, milliseconds in answer.milliseconds.items():
            self.seconds.labels(stage).observe(milliseconds / 1000)
        return Recommendations(
            request_id=request_id,
            user_id=ask.user_id,
            videos=answer.ids.tolist(),
            policy=answer.policy,
            profile=answer.profile,
            model_version=answer.version,
            milliseconds=answer.milliseconds,
        )


def record(answer: Answer, request_id: int, user_id: int, at: pd.Timestamp) -> dict[str, Any]:
    """Return the line of the log of an answer: what the impression log will need, and the served features."""
    return {
        "timestamp": at.isoformat(timespec="microseconds"),
        "request_id": request_id,
        "user_id": user_id,
        "policy": answer.policy,
        "model_version": answer.version,
        "profile": answer.profile,
        "video_id": answer.ids.tolist(),
        "propensity": answer.propensities.tolist(),
        "features": answer.features(),
    }


class Outcomes(Collector):
    """How often each stage answered, was late, raised an error, or was not asked, as its guard counts."""

    def __init__(self, path: RequestPath) -> None:
        """Keep the path whose guards count."""
        self.path = path

    def collect(self) -> Iterable[CounterMetricFamily]:
        """Return the counts at this moment."""
        family = CounterMetricFamily("stage_outcomes", "What became of a stage", labels=["stage", "outcome"])
        for stage, guard in self.path.guards.items():
            for outcome, count in guard.outcomes.items():
                family.add_metric([stage, outcome], count)
        yield family


# ---------------------------------------------------------------- around the application


class Door:
    """Refuses a body that is too large or too slow before anybody parses it; counts and times the answers."""

    def __init__(self, app: Callable[..., Awaitable[None]], server: Server) -> None:
        """Stand before `app`, and keep the metrics of `server`."""
        self.app, self.server = app, server

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Read the body, then let the application answer."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        start = time.perf_counter()

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start" and scope["path"] == RECOMMEND:
                self.server.requests.labels(message["status"]).inc()
                self.server.request_seconds.observe(time.perf_counter() - start)
            await send(message)

        body = await _body(receive)
        if isinstance(body, Response):
            return await body(scope, receive, counted)
        whole = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def replay() -> Message:
            return next(whole, None) or await receive()

        return await self.app(scope, replay, counted)


async def _body(receive: Receive) -> bytes | Response:
    """The body of a request, or the answer that refuses it."""
    body, more = b"", True
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while more and len(body) <= MOST_BYTES:
                message = await receive()
                body += message.get("body", b"")
                more = message.get("more_body", False)
    except TimeoutError:
        return problem(408, f"The body did not come within {BODY_SECONDS:g} s: send it at once.")
    if len(body) > MOST_BYTES:
        return problem(413, f"The body is larger than {MOST_BYTES:,} bytes: send user_id and k alone.")
    return body


def problem(status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """Return the answer that there is no answer."""
    return JSONResponse({"error": error}, status, headers)


async def on_http_error(request: Request, error: HTTPException) -> JSONResponse:
    """Say what is wrong."""
    return problem(error.status_code, error.detail, error.headers)


async def on_invalid_request(request: Request, error: RequestValidationError) -> JSONResponse:
    """Say which field is wrong, and how; the input itself may be anything, and is not repeated."""
    found = [f"{'.'.join(map(str, e['loc'][1:])) or 'body'}: {e['msg']}" for e in error.errors()]
    return problem(422, "; ".join(found) + '. Send JSON such as {"user_id": 7, "k": 10}.')


# ---------------------------------------------------------------- the application

PROBLEMS = {
    400: "Not readable",
    404: "Unknown user",
    408: "The body came too slowly",
    413: "The body is too large",
    422: "A field is missing or wrong",
    503: "Not ready, or too many requests",
}
RESPONSES = {status: {"model": Problem, "description": text} for status, text in PROBLEMS.items()}


def create_app(directory: str | Path, chaos: bool = False) -> FastAPI:
    """Return the application that serves a directory; with `chaos`, its stages can be broken on purpose."""
    server = Server(Path(directory))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        server.start()
        yield
        await asyncio.to_thread(server.stop)

    app = FastAPI(title="Video recommendations", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.state.server = server
    app.add_middleware(Door, server=server)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)

    @app.post(RECOMMEND, responses=RESPONSES)
    async def recommend(ask: Ask) -> Recommendations:
        """Return videos for a user."""
        return await server.recommend(ask)

    @app.get("/health")
    async def health() -> Health:
        """Answer as long as the process lives."""
        return Health(status="alive")

    @app.get("/ready", responses={503: {"model": Health}})
    async def ready(response: Response) -> Health:
        """Answer 200 if requests can be served."""
        response.status_code = 503 if server.release is None else 200
        version = server.release and server.release.version
        return Health(
            status="ready" if version else "not ready",
            model_version=version,
            popular_only=server.popular_only,
            problem=server.problem or server.switch_problem,
        )

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Return the metrics as Prometheus reads them."""
        return Response(generate_latest(server.registry), media_type=CONTENT_TYPE_LATEST)

    if chaos:

        @app.put("/chaos", responses={422: {"model": Problem}})
        async def break_on_purpose(chaos: Chaos) -> Chaos:
            """Break stages, or heal those that are not named."""
            server.path.faults = Faults(chaos.slow_ms, tuple(chaos.down))
            time.sleep(chaos.freeze_ms / 1000)  # not asyncio.sleep: nothing else shall go on
            return chaos

    return app


# ---------------------------------------------------------------- the process


def main() -> None:
    """Serve a directory until Ctrl-C, or until whoever started this process is gone."""
    parser = argparse.ArgumentParser(description="Serve recommendations on this machine.")
    parser.add_argument("directory", type=Path, nargs="?", default=DEMO, help="holds a release and a store")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: %(default)s)")
    parser.add_argument("--chaos", action="store_true", help="let stages be broken on purpose")
    parser.add_argument("--while-stdin", action="store_true", help="stop when the standard input ends")
    asked = parser.parse_args()
    try:
        run(asked)
    except (ReleaseError, OSError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:  # uvicorn has closed all connections by then
        print("Stopped.")


def run(asked: argparse.Namespace) -> None:
    """Serve as asked. Raises ReleaseError if nothing is published, OSError if the port is taken."""
    if asked.directory == DEMO:
        build_demo(DEMO)
    current(asked.directory)
    with listening(asked.port) as listener, threadpool_limits(1):
        app = create_app(asked.directory, asked.chaos)
        server = web_server(app)
        url = f"http://{HOST}:{listener.getsockname()[1]}"
        if asked.while_stdin:
            print(url, flush=True)
            threading.Thread(target=_stop_with_stdin, args=[server], daemon=True).start()
        else:
            print(f"Serving {url}; Ctrl-C stops it. {EXAMPLE.format(url=url)}", flush=True)
        server.run(sockets=[listener])


def web_server(app: FastAPI) -> uvicorn.Server:
    """Return the server of an application, which is given its sockets when it runs."""
    quiet = {"log_level": "warning", "access_log": False, "ws": "none"}
    return uvicorn.Server(uvicorn.Config(app, timeout_keep_alive=KEEP_ALIVE_SECONDS, **quiet))


def build_demo(directory: Path) -> None:
    """Build a small release from the simulator, unless the directory holds one already."""
    if history(directory):
        return
    print("Building a small release: once, some seconds.", flush=True)
    shutil.rmtree(directory, ignore_errors=True)  # what a build that was stopped left behind
    platform = Platform(n_users=2_000, n_videos=2_000)
    log = platform.simulate(random_policy(), 5)
    fill_store(platform, log, directory)
    publish(build_release(platform, log), directory)


def listening(port: int) -> socket.socket:
    """Return a socket that listens on this machine; port 0 takes a free one. OSError: it is taken."""
    # asyncio switches Nagle's algorithm off for sockets that say TCP; with it, an answer takes 40 ms more.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, os.name == "posix")
        listener.bind((HOST, port))
        listener.listen(MOST_WAITING)
    except OSError as error:
        listener.close()
        raise OSError(f"Port {port} cannot be had ({error}): choose another one with --port.") from error
    return listener


def _stop_with_stdin(server: uvicorn.Server) -> None:
    """Wait for the end of the standard input: its other end closes when its process ends, even by a kill."""
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin.read: its lock would be held when Python ends
        pass
    server.should_exit = True


if __name__ == "__main__":
    main()
