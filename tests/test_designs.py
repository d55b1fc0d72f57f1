"""The worked designs follow from their load."""

import math

import pytest

from helpers.architecture import Latency
from helpers.designs import video_recommendation

MEASURED = {
    name: Latency.assumed(p50, p99, "a test")
    for name, (p50, p99) in {
        "retrieve": (6, 10),
        "features": (0.1, 0.2),
        "score": (3, 5),
        "choose": (0.2, 0.3),
    }.items()
}


def test_the_peak_is_users_times_requests_times_the_factor_in_a_day():
    design = video_recommendation(MEASURED, dau=86_400, requests_a_day=10, peak_factor=3)
    assert design.peak_qps == pytest.approx(30)


def test_k_reaches_every_table():
    few, many = (video_recommendation(MEASURED, k=k) for k in (500, 2000))
    assert many.funnel().items_out["retrieve"] == 4 * few.funnel().items_out["retrieve"]
    assert many.budget().p99["rank"] == pytest.approx(4 * few.budget().p99["rank"])
    cores = [design.needs()["rank"]["cores"].magnitude for design in (few, many)]
    assert cores[1] == pytest.approx(4 * cores[0])


def test_the_index_grows_with_the_videos():
    small, large = (video_recommendation(MEASURED, videos=videos) for videos in (1e6, 1e9))
    memory = [design.needs()["retrieve"]["memory"].to("byte").magnitude for design in (small, large)]
    assert memory[1] == pytest.approx(1000 * memory[0])


def test_a_budget_that_cannot_be_kept_names_the_stage():
    with pytest.raises(ValueError, match="'rank'"):
        video_recommendation(MEASURED, k=20_000, budget_ms=100)


def test_more_candidates_than_videos_are_refused():
    with pytest.raises(ValueError, match="'retrieve' returns 500 items, but receives 100"):
        video_recommendation(MEASURED, videos=100)


def test_each_machine_holds_a_copy_and_there_are_two_at_least():
    quiet, busy = (video_recommendation(MEASURED, dau=dau) for dau in (1e3, 2e8))
    assert quiet["retrieve"].replicas == quiet["features"].replicas == 2
    assert busy["retrieve"].replicas == math.ceil(busy.needs()["retrieve"]["cores"].magnitude / 32)
    assert busy["features"].replicas > 2


def test_a_missing_latency_is_named():
    with pytest.raises(ValueError, match="No latency for choose, score"):
        video_recommendation({name: MEASURED[name] for name in ("retrieve", "features")})
