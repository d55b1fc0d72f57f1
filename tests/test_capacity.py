"""Envelopes keep their units, and the formulas of queues agree with simulated queues."""

import heapq
import math
from functools import partial

import numpy as np
import pint
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.capacity import (
    all_fast,
    brute_force,
    cores_needed,
    envelope,
    hit_rate,
    in_flight,
    leaf_quantile,
    mean_response_time,
    number_in,
    response_time_quantile,
    rounded,
    units,
    utilization,
    waiting_probability,
)


def test_a_rate_keeps_its_dimension():
    daily = 200e6 * units.user * 10 * units.request / units.user / units.day
    assert daily.to("QPS").magnitude == pytest.approx(2e9 / 86_400)


def test_bytes_cannot_be_added_to_seconds():
    with pytest.raises(pint.DimensionalityError):
        1 * units.byte + 1 * units.second


def test_an_envelope_shows_two_digits_with_the_unit():
    table = envelope({"traffic": 23_148.1 * units.QPS, "log": 0.0123 * units.byte})
    assert table.value.tolist() == ["23,000 QPS", "0.012 B"]


def test_a_line_without_a_unit_is_named():
    with pytest.raises(ValueError, match="no unit: log"):
        envelope({"traffic": 5 * units.QPS, "log": 5})


@given(st.floats(1e-6, 1e12))
def test_rounding_stays_within_half_a_unit_of_the_second_digit(value):
    number = float(rounded(value * units.byte).split()[0].replace(",", ""))
    assert number == pytest.approx(value, rel=0.05 + 1e-9)


# ------------------------------------------------------------------ queues, against simulated ones

SERVICE = 10 * units.millisecond
SERVERS_AND_BUSY = [(1, 0.5), (1, 0.9), (2, 0.8), (4, 0.75), (4, 0.9)]


def rate(busy: float, servers: int) -> pint.Quantity:
    """The arrivals that keep so many servers busy for that share of the time."""
    return 100 * busy * servers * units.QPS


def one_server(gaps: np.ndarray, services: np.ndarray) -> np.ndarray:
    """Response times of a queue: Lindley's recursion W' = max(0, W + S - A), as a running minimum."""
    steps = np.concatenate([[0.0], services[:-1] - gaps[1:]]).cumsum()
    return steps - np.minimum.accumulate(steps) + services


def many_servers(gaps: np.ndarray, services: np.ndarray, servers: int) -> np.ndarray:
    """Response times when each request takes the server that is free first."""
    free, responses = [0.0] * servers, []
    for arrival, service in zip(gaps.cumsum(), services, strict=True):
        end = max(arrival, heapq.heappop(free)) + service
        heapq.heappush(free, end)
        responses.append(end - arrival)
    return np.array(responses)


def simulated(servers: int, busy: float, runs: int = 24, n: int = 12_000, warm_up: int = 2_000) -> np.ndarray:
    """Response times of independent runs in ms, shape (runs, n - warm_up)."""
    rng = np.random.default_rng(0)
    gaps = rng.exponential(10 / (busy * servers), (runs, n))
    services = rng.exponential(10, (runs, n))
    run = one_server if servers == 1 else partial(many_servers, servers=servers)
    return np.array([run(*times) for times in zip(gaps, services, strict=True)])[:, warm_up:]


def within_standard_errors(runs: np.ndarray, expected: float, errors: float = 3) -> bool:
    """Whether the mean of independent runs is near what was expected, in standard errors."""
    return abs(runs.mean() - expected) <= errors * runs.std(ddof=1) / np.sqrt(len(runs))


def test_the_two_simulations_agree():
    rng = np.random.default_rng(1)
    times = rng.exponential(1.2, 500), rng.exponential(1, 500)
    np.testing.assert_allclose(one_server(*times), many_servers(*times, servers=1))


@pytest.mark.parametrize(("servers", "busy"), SERVERS_AND_BUSY)
def test_formulas_of_the_queue_agree_with_a_simulated_queue(servers, busy):
    times, queue = simulated(servers, busy), (rate(busy, servers), SERVICE, servers)
    mean = mean_response_time(*queue).to("ms").magnitude
    assert within_standard_errors(times.mean(axis=1), mean)
    for q in (0.5, 0.9, 0.99):
        limit = response_time_quantile(q, *queue).to("ms").magnitude
        assert within_standard_errors((times <= limit).mean(axis=1), q)


def test_the_closed_forms_of_one_server():
    for busy in (0.1, 0.5, 0.8, 0.95):
        arrivals, free = rate(busy, 1), 100 * (1 - busy)
        assert waiting_probability(arrivals, SERVICE) == pytest.approx(busy)
        assert mean_response_time(arrivals, SERVICE).to("s").magnitude == pytest.approx(1 / free)
        p99 = response_time_quantile(0.99, arrivals, SERVICE).to("s").magnitude
        assert p99 == pytest.approx(math.log(100) / free)


def test_the_quantile_is_continuous_where_its_formula_divides_by_zero():
    around = [rate((2 - rest) / 2, 2) for rest in (0.99, 1, 1.01)]  # theta = mu in the middle
    p99 = [response_time_quantile(0.99, arrivals, SERVICE, 2).magnitude for arrivals in around]
    assert p99[1] == pytest.approx((p99[0] + p99[2]) / 2, rel=1e-4)


@given(st.integers(1, 60), st.floats(0.05, 0.95), st.floats(0.01, 0.995))
def test_pooled_servers_are_never_slower_and_quantiles_rise(servers, busy, q):
    one, pooled = (rate(busy, 1), SERVICE, 1), (rate(busy, servers), SERVICE, servers)
    assert response_time_quantile(q, *pooled) <= response_time_quantile(q, *one) * (1 + 1e-9)
    assert response_time_quantile(q, *pooled) < response_time_quantile((1 + q) / 2, *pooled)
    assert SERVICE <= mean_response_time(*pooled) <= mean_response_time(*one) * (1 + 1e-9)


@pytest.mark.parametrize("busy", [1.0, 1.2])
def test_a_queue_that_grows_without_end_is_refused(busy):
    for formula in (waiting_probability, mean_response_time, partial(response_time_quantile, 0.99)):
        with pytest.raises(ValueError, match=f"more than {4 * busy:.3g} servers are needed"):
            formula(rate(busy, 4), SERVICE, 4)


def test_utilization_and_littles_law_keep_their_units():
    assert utilization(3_600 * units.request / units.minute, SERVICE) == pytest.approx(0.6)
    assert utilization(rate(0.8, 4), SERVICE, 4) == pytest.approx(0.8)
    assert in_flight(58_000 * units.QPS, 200 * units.ms).to("request").magnitude == pytest.approx(11_600)
    with pytest.raises(pint.DimensionalityError):
        in_flight(58_000 * units.QPS, 200 * units.byte)
    with pytest.raises(ValueError, match="0 servers"):
        utilization(rate(0.5, 1), SERVICE, 0)


def test_cores_leave_the_headroom_that_was_asked_for():
    work = 5 * units.core * units.ms / units.request
    cores = cores_needed(58_000 * units.QPS, work, utilization=0.5)
    assert cores.to("core").magnitude == pytest.approx(580)
    with pytest.raises(ValueError, match="utilization must lie between 0 and 1, not 60"):
        cores_needed(1 * units.QPS, work, utilization=60)


# ------------------------------------------------------------------ brute force, caches, fan-out


def test_brute_force_reads_every_vector_and_multiplies_every_number():
    cost = brute_force(items=1e9, dims=128)
    assert cost["work"].to("GFLOP / request").magnitude == pytest.approx(256)
    assert (cost["read"] * 1 * units.request).to("GB").magnitude == pytest.approx(512)
    assert brute_force(1e9, 128, bytes_per_number=1)["read"] * 4 == cost["read"]


@pytest.mark.parametrize("exponent", [0.0, 0.7, 1.0, 1.3])
@pytest.mark.parametrize(("keys", "cached"), [(100, 10), (50_000, 400), (300_000, 40_000)])
def test_a_cache_hits_as_often_as_the_ranks_are_asked_for(keys, cached, exponent):
    weights = np.arange(1.0, keys + 1) ** -exponent
    assert hit_rate(keys, cached, exponent) == pytest.approx(weights[:cached].sum() / weights.sum(), rel=1e-8)


@given(st.integers(1, 10**12), st.floats(0, 1), st.floats(0, 2))
def test_a_hit_rate_is_a_share_and_beats_a_cache_of_random_keys(keys, share, exponent):
    cached = int(share * keys)
    assert cached / keys - 1e-9 <= hit_rate(keys, cached, exponent) <= 1


@pytest.mark.parametrize(("keys", "cached"), [(0, 0), (10, 11), (10, -1)])
def test_a_cache_holds_between_none_and_all(keys, cached):
    with pytest.raises(ValueError, match="between none and all"):
        hit_rate(keys, cached)


def test_one_slow_leaf_makes_the_whole_slow():
    leaves = np.random.default_rng(0).random((20_000, 100))
    assert all_fast(0.99, 100) == pytest.approx((leaves < 0.99).all(axis=1).mean(), abs=0.01)


@given(st.floats(0.01, 0.999), st.integers(1, 1_000))
def test_the_leaf_quantile_is_what_keeps_all_fast(quantile, leaves):
    assert all_fast(leaf_quantile(quantile, leaves), leaves) == pytest.approx(quantile)
    assert leaf_quantile(quantile, leaves) >= quantile


@pytest.mark.parametrize(
    ("text", "unit", "number"),
    [
        ("350", "QPS", 350),
        ("350 qps", "QPS", 350),
        ("5ms", "ms", 5),
        ("0.5 s", "ms", 500),
        ("8 TB", "gigabyte", 8_000),
        ("~1.2 million", "rows", 1.2e6),
        ("about 3 k rows", "rows", 3_000),
        ("1,234.5", "ms", 1_234.5),
    ],
)
def test_a_number_is_read_in_its_unit(text, unit, number):
    assert number_in(text, unit) == pytest.approx(number)


@pytest.mark.parametrize("text", ["", "five", "0,5 ms", "5 GB", "5 nonsense", "5 ms or so", "1,23", "5 %"])
def test_what_is_no_number_in_the_unit_is_refused(text):
    with pytest.raises(ValueError, match="is not"):
        number_in(text, "ms")
