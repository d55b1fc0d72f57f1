"""Back-of-the-envelope arithmetic with units, so that bytes are never added to seconds.

After the envelope come the formulas that decide how many machines a service needs: queues, brute force,
caches and fan-out. A rate of requests is in QPS, a time in any unit of time.
"""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pint
from scipy.optimize import brentq
from scipy.special import boxcox
from scipy.stats import poisson

units = pint.UnitRegistry()
for name in ("user", "request", "video", "impression", "core", "dollar", "FLOP"):
    units.define(f"{name} = [{name}]")
units.define("query_per_second = request / second = QPS")
units.formatter.default_format = "~P"

Quantity = units.Quantity


def rounded(quantity: pint.Quantity, digits: int = 2) -> str:
    """Return a quantity as text with a few significant digits: an envelope promises no more."""
    return f"{float(f'{quantity.magnitude:.{digits}g}'):,g} {quantity.units:~P}".strip()


def envelope(lines: Mapping[str, pint.Quantity]) -> pd.DataFrame:
    """Return a table of named quantities, rounded to two significant digits.

    Raises ValueError when a line has no unit: write ``5 * units.request`` in place of ``5``.
    """
    bare = [name for name, quantity in lines.items() if not isinstance(quantity, pint.Quantity)]
    if bare:
        raise ValueError(
            f"These lines have no unit: {', '.join(bare)}. Multiply each by a unit, as in 5 * units.request."
        )
    return pd.DataFrame({"value": {name: rounded(quantity) for name, quantity in lines.items()}})


ABOUT = r"(?:about|around|roughly|~|≈)?\s*"
WRITTEN = re.compile(ABOUT + r"([+-]?[\d.,_]+(?:e[+-]?\d+)?)\s*(.*)", re.IGNORECASE)  # a number, its unit
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")
UNIT = re.compile(r"[a-z]+(\s*/\s*[a-z]+)?", re.IGNORECASE)  # "ms" or "GB/s"
LARGE = {"k": 1e3, "thousand": 1e3, "M": 1e6, "million": 1e6, "bn": 1e9, "billion": 1e9}
TIMES = re.compile(rf"({'|'.join(LARGE)})(?:\s+|$)")


def written_number(text: str) -> tuple[float, str]:
    """Return the number that a text begins with, and its unit as written: "18.2k rows" is 18200 and "rows".

    "about" and "~" are passed over. Commas may only part thousands: in '0,5' one would stand for the decimal
    point. Raises ValueError for anything else.
    """
    written = WRITTEN.fullmatch(text.strip())
    if not written or ("," in written[1] and not THOUSANDS.fullmatch(written[1])):
        raise ValueError(f"{text!r} is not a number with its unit.")
    number, unit = float(written[1].replace(",", "")), written[2].strip()
    if large := TIMES.match(unit):
        number, unit = number * LARGE[large[1]], unit[large.end() :]
    return number, unit


def number_in(text: str, unit: str) -> float:
    """Return the number of a text in this unit, which the text may leave out: "0.5 s" is 500 in "ms".

    Raises ValueError when the text is no number, or has another kind of unit.
    """
    number, written = written_number(text)
    if written.casefold() in ("", unit.casefold()):
        return number
    if not UNIT.fullmatch(written):  # pint fails in many ways on what is no unit
        raise ValueError(f"{text!r} is not a number with its unit: write for example '5 {unit}'.")
    try:
        return float(units.Quantity(number, written).to(unit).magnitude)
    except pint.PintError as error:
        raise ValueError(f"{text!r} is not in {unit or 'a number without a unit'}: {error}.") from None


# ------------------------------------------------------------------ cores and queues


def cores_needed(
    arrivals: pint.Quantity, core_time: pint.Quantity, utilization: float = 0.6
) -> pint.Quantity:
    """Return the cores that keep at most `utilization` busy; `core_time` is in core time a request.

    As in ``cores_needed(58_000 * units.QPS, 5 * units.core * units.ms / units.request)``. A share of a core
    counts as a share.

    Raises ValueError unless 0 < utilization < 1.
    """
    _check_between("utilization", utilization)
    return (arrivals * core_time / utilization).to("core")


def in_flight(arrivals: pint.Quantity, response_time: pint.Quantity) -> pint.Quantity:
    """Return the mean number of requests in a system: L = lambda W (Little 1961), for any distribution."""
    return (arrivals * response_time).to("request")


def utilization(arrivals: pint.Quantity, service_time: pint.Quantity, servers: int = 1) -> float:
    """Return the share of time in which a server is busy: rho = lambda / (c mu).

    Raises ValueError when a number is negative, or when there is no server.
    """
    busy = (arrivals * service_time).to("request").magnitude
    if servers < 1 or busy < 0:
        raise ValueError(f"{servers} servers for {arrivals} of {service_time} each: nothing can be negative.")
    return busy / servers


def waiting_probability(arrivals: pint.Quantity, service_time: pint.Quantity, servers: int = 1) -> float:
    """Return the probability that a request finds all servers busy: the Erlang C formula of M/M/c.

    C = B / (1 - rho (1 - B)) with Erlang's loss B, which is the share of the last term in a Poisson sum up
    to c (Kleinrock, "Queueing Systems" 1, 1975, section 3.5). Arrivals at random, exponential service times.

    Raises ValueError when the servers cannot keep up.
    """
    busy = utilization(arrivals, service_time, servers)
    if busy >= 1:
        raise ValueError(
            f"The servers would be busy {busy:.0%} of the time, so the queue grows without end: "
            f"more than {busy * servers:.3g} servers are needed."
        )
    load = busy * servers
    loss = poisson.pmf(servers, load) / poisson.cdf(servers, load)
    return float(loss / (1 - busy * (1 - loss)))


def mean_response_time(
    arrivals: pint.Quantity, service_time: pint.Quantity, servers: int = 1
) -> pint.Quantity:
    """Return the mean time from arrival to answer in M/M/c: 1 / mu + C / (c mu - lambda).

    With one server it is 1 / (mu - lambda). Raises ValueError as `waiting_probability`.
    """
    waits = waiting_probability(arrivals, service_time, servers)
    free = servers * (1 - utilization(arrivals, service_time, servers))
    return service_time * (1 + waits / free)


def response_time_quantile(
    q: float, arrivals: pint.Quantity, service_time: pint.Quantity, servers: int = 1
) -> pint.Quantity:
    """Return the time within which a share q of the requests is answered in M/M/c.

    With theta = c mu - lambda, P(T > t) = (1 - C) exp(-mu t) + C P(exp(theta) + exp(mu) > t): a request that
    waits does so for an exponential time, then is served. With one server the p99 is ln(100) / (mu - lambda).
    Raises ValueError as `waiting_probability`, and unless 0 < q < 1.
    """
    _check_between("q", q)
    waits = waiting_probability(arrivals, service_time, servers)
    free = servers * (1 - utilization(arrivals, service_time, servers))  # theta / mu: time is in 1 / mu

    def too_many(t: float) -> float:
        return (1 - waits) * np.exp(-t) + waits * _two_exponentials(free, t) - (1 - q)

    slowest = -np.log((1 - q) / 2) * (1 + 1 / free)  # half of the tail to each of the two times
    return service_time * brentq(too_many, 0, slowest)


def _two_exponentials(rate: float, t: float) -> float:
    """The probability that exponential times of rates `rate` and 1 together exceed t."""
    if np.isclose(rate, 1):
        return (1 + t) * np.exp(-t)
    return (rate * np.exp(-t) - np.exp(-rate * t)) / (rate - 1)


def _check_between(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, not {value}: write 99% as 0.99.")


# ------------------------------------------------------------------ brute force, caches, fan-out


def brute_force(items: float, dims: int, bytes_per_number: float = 4) -> dict[str, pint.Quantity]:
    """Return what one request costs when its vector meets every item: 2 N d FLOP and N d numbers to read."""
    return {
        "work": 2 * items * dims * units.FLOP / units.request,
        "read": items * dims * bytes_per_number * units.byte / units.request,
    }


def hit_rate(keys: int, cached: int, exponent: float = 1.0) -> float:
    """Return the share of requests that a cache of the most popular keys answers, under Zipf's law.

    The key of rank r is asked for in proportion to r ** -exponent. Raises ValueError unless
    0 <= cached <= keys, with at least one key.
    """
    if not 0 <= cached <= keys or keys < 1:
        raise ValueError(f"{cached} cached keys of {keys}: cache between none and all of at least one key.")
    return _zipf_sum(cached, exponent) / _zipf_sum(keys, exponent)


def _zipf_sum(n: int, exponent: float, exact: int = 10_000) -> float:
    """Sum r ** -exponent for r = 1 to n; far out, where it is smooth, as an integral from half to half."""
    head = float(np.sum(np.arange(1.0, min(n, exact) + 1) ** -exponent))
    if n <= exact:
        return head
    return head + float(boxcox(n + 0.5, 1 - exponent) - boxcox(exact + 0.5, 1 - exponent))


def all_fast(quantile: float, leaves: int) -> float:
    """Return the probability that each of n independent leaves answers within its own q-quantile: q ** n."""
    return quantile**leaves


def leaf_quantile(quantile: float, leaves: int) -> float:
    """Return the quantile that each of n independent leaves must keep, so that all do at once: q ** (1 / n).

    The tail of a fan-out: Dean and Barroso, "The Tail at Scale" (2013).
    """
    return quantile ** (1 / leaves)
