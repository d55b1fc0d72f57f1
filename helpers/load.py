"""Load on the service: an open loop, where users come when they come, beside a closed loop, where they wait.

In a closed loop a client sends its next request after the last answer. While the service stands still, so do
the clients: the requests that users would have sent are never sent, and never counted as slow (coordinated
omission; G. Tene, "How NOT to Measure Latency", 2013). In an open loop each request has its time beforehand,
and its latency counts from then on, whether or not it could be sent.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from helpers.shifts import whole

PATIENCE_SECONDS = 10.0  # after which a request counts as failed
FAILED = 0  # the status of a request without an answer
FACTS = ("model_version", "policy", "profile")  # of an answer
PERCENTILES = (50, 90, 99, 99.9)


class _Sent(NamedTuple):
    """A request: its times in seconds from the start, its status, and what the answer says."""

    due: float
    sent: float
    done: float
    status: int
    answer: dict[str, Any]


def open_loop(
    url: str,
    rate: float,
    seconds: float,
    users: ArrayLike,
    *,
    k: int = 10,
    seed: int = 0,
    during: Mapping[float, Callable[[], Any]] | None = None,
) -> pd.DataFrame:
    """Send requests at random times, `rate` a second on average, and return a row a request.

    users: ids, of which each request draws one. during: what else to do, and at which second, such as
    `{2.0: lambda: rollback(directory)}`.

    Columns: `due`, `sent`, `done` in seconds; `latency_ms`, from due to done; `service_ms`, from sent to
    done; `lag_ms`, from due to sent, which is the generator's own; `status`, 0 for no answer;
    `model_version`, `policy`, `profile`.

    Raises ValueError for a rate or seconds that are not above 0, and what an action of `during` raises.
    """
    _check(rate=rate, seconds=seconds)
    rng = np.random.default_rng(seed)
    due = np.cumsum(rng.exponential(1 / rate, whole("rate times seconds", round(rate * seconds), 1)))
    bodies = _bodies(rng.choice(_ids(users), len(due)), k)

    async def run(client: "_Client") -> list[_Sent]:
        tasks = []
        for moment, body in zip(due, bodies, strict=True):
            await client.until(moment)
            tasks.append(asyncio.create_task(client.ask(body, moment)))
        return await asyncio.gather(*tasks)

    return _measured(url, run, during or {})


def closed_loop(
    url: str,
    clients: int,
    seconds: float,
    users: ArrayLike,
    *,
    k: int = 10,
    seed: int = 0,
    during: Mapping[float, Callable[[], Any]] | None = None,
) -> pd.DataFrame:
    """Let some clients ask, each again as soon as it has its answer; arguments and columns of `open_loop`.

    A request is due when it is sent. Raises ValueError for no client, or seconds that are not above 0.
    """
    _check(seconds=seconds)
    ids, clients = _ids(users), whole("clients", clients, 1)

    async def one(client: "_Client", number: int) -> list[_Sent]:
        rng, sent = np.random.default_rng([seed, number]), []
        while client.now() < seconds:
            (body,) = _bodies(rng.choice(ids, 1), k)
            sent.append(await client.ask(body))
        return sent

    async def run(client: "_Client") -> list[_Sent]:
        found = await asyncio.gather(*(one(client, number) for number in range(clients)))
        return sorted(chain.from_iterable(found))

    return _measured(url, run, during or {})


def percentiles(table: pd.DataFrame, column: str = "latency_ms") -> pd.Series:
    """Return requests, failures (any status but 200), requests a second, and percentiles of a column, in ms.

    A request that failed counts as slow as it was. Raises ValueError for a table without rows.
    """
    if not len(table):
        raise ValueError("There are no requests: send some first.")
    values = {f"p{p:g}_ms": np.percentile(table[column], p) for p in PERCENTILES}
    span = table["done"].max() - table["sent"].min()
    counts = {"requests": len(table), "failed": int((table["status"] != 200).sum())}
    return pd.Series(counts | {"a_second": len(table) / span} | values | {"max_ms": table[column].max()})


# ---------------------------------------------------------------- inside


def _check(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < np.inf:
            raise ValueError(f"{name} must be a finite number above 0, not {value!r}: change it.")


def _ids(users: ArrayLike) -> np.ndarray:
    ids = np.asarray(users)
    if ids.ndim != 1 or not ids.size or ids.dtype.kind not in "iu":
        raise ValueError(f"users must hold at least one id, whole numbers in one flat array, not {users!r}.")
    return ids


def _bodies(users: Sequence[int], k: int) -> list[bytes]:
    return [json.dumps({"user_id": int(user), "k": k}).encode() for user in users]


def _measured(
    url: str,
    run: Callable[["_Client"], Awaitable[list[_Sent]]],
    during: Mapping[float, Callable[[], Any]],
) -> pd.DataFrame:
    """Run the load beside what else is to be done, and return its table."""

    async def both() -> list[_Sent]:
        client = _Client(url)
        others = [asyncio.create_task(client.later(moment, action)) for moment, action in during.items()]
        try:
            sent = await run(client)
            await asyncio.gather(*others)
        finally:
            await client.close()
        return sent

    table = pd.DataFrame(_in_a_thread(both()), columns=_Sent._fields)
    facts = {name: [answer.get(name) for answer in table["answer"]] for name in FACTS}
    return table.drop(columns="answer").assign(
        latency_ms=1000 * (table["done"] - table["due"]),
        service_ms=1000 * (table["done"] - table["sent"]),
        lag_ms=1000 * (table["sent"] - table["due"]),
        **facts,
    )


def _in_a_thread(work: Coroutine[Any, Any, list[_Sent]]) -> list[_Sent]:
    """Run it in a thread of its own: a notebook's own thread has a loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


class _Client:
    """Requests to one service over connections that are kept.

    Written by hand, on the streams of asyncio: a full HTTP client took as much of a core as the service did,
    and what is measured would be the client.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if not (parts.hostname and parts.port):
            raise ValueError(f"url must be an address with a port, as service.url is, not {url!r}.")
        self.host, self.port = parts.hostname, parts.port
        self.free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.start = time.perf_counter()

    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.start

    async def until(self, moment: float) -> None:
        """Wait for a moment; not at all if it has passed."""
        if (seconds := moment - self.now()) > 0:
            await asyncio.sleep(seconds)

    async def later(self, moment: float, action: Callable[[], Any]) -> None:
        """Do something else at a moment, in a thread."""
        await self.until(moment)
        await asyncio.to_thread(action)

    async def ask(self, body: bytes, due: float | None = None) -> _Sent:
        """Send a request; whatever goes wrong, it is one that failed."""
        sent = self.now()
        try:
            status, answer = await asyncio.wait_for(self._exchange(body), PATIENCE_SECONDS)
        except (OSError, EOFError, ValueError):
            status, answer = FAILED, {}
        return _Sent(sent if due is None else due, sent, self.now(), status, answer)

    async def _exchange(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Send the body over a free connection, or over a new one where those were closed meanwhile."""
        while self.free:
            try:
                return await self._talk(self.free.pop(), body)
            except ConnectionError:
                continue
            except asyncio.IncompleteReadError as error:
                if error.partial:
                    raise
        return await self._talk(await asyncio.open_connection(self.host, self.port), body)

    async def _talk(
        self, connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], body: bytes
    ) -> tuple[int, dict[str, Any]]:
        """Send a request and read its answer; the connection is free again afterwards, or closed."""
        reader, writer = connection
        try:
            writer.write(
                b"POST /recommend HTTP/1.1\r\nhost: %b\r\ncontent-type: application/json\r\n"
                b"content-length: %d\r\n\r\n%b" % (self.host.encode(), len(body), body)
            )
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
            answer = json.loads(await reader.readexactly(length))
        except BaseException:
            writer.close()
            raise
        self.free.append(connection)
        return int(head.split(maxsplit=2)[1]), answer

    async def close(self) -> None:
        """Close the connections."""
        for _, writer in self.free:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in self.free), return_exceptions=True)
