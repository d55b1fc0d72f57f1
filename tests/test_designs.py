"""The worked designs follow from their load."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.architecture import Latency
from helpers.designs import PLANS, SEQUENCE_FRAUDS, Load, plan_design, shards, video_recommendation

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


# ---------------------------------------------------------------- the systems of the practice room

LOADS = {
    "video recommendation": Load(5e6, 10, 2.5, 2e6, 20, 15, 90),
    "search engine": Load(2e6, 5, 3, 5e7, 10, 5, 90),
    "fraud detection": Load(5e6, 1.5, 4, 4, 1, 1 / 60, 730),
    "feed ranking": Load(2e7, 2, 2.5, 1.5e8, 25, 1, 60),
}
systems = pytest.mark.parametrize("system", PLANS)
few = settings(max_examples=10)


def names(planned):
    return [stage.name for stage in planned.design.path("online")]


@pytest.mark.parametrize("name", list(vars(LOADS["search engine"])))
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_load_of_nothing_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        replace(LOADS["search engine"], **{name: value})


def test_the_rate_and_the_log_follow_from_the_users():
    load = Load(86_400, 10, 3, 1, 20, 1, 5)
    assert load.peak_qps == pytest.approx(30)
    assert load.log_bytes == pytest.approx(86_400 * 10 * 20 * 200 * 5)


@systems
def test_every_plan_is_the_richest_within_its_own_p99(system):
    load = LOADS[system]
    quickest = plan_design(system, load, 1e9)
    plans = [plan for plan in PLANS[system] if not plan.lacks(load)]
    assert quickest.plan == plans[0].name
    seen, p99 = [], 1e9
    while len(seen) < len(plans) and p99 > 0:
        try:
            planned = plan_design(system, load, p99)
        except ValueError:
            break
        seen.append(planned.plan)
        assert planned.design.p99_ms <= p99 == planned.design.budget_ms
        assert set(planned.refused) == {plan.name for plan in PLANS[system]} - {planned.plan} - set(
            later(system, planned.plan)
        )
        p99 = planned.design.p99_ms * 0.999
    assert seen[-1] == plans[-1].name


def later(system, plan):
    plans = [plan.name for plan in PLANS[system]]
    return plans[plans.index(plan) + 1 :]


@systems
@few
@given(p99=st.floats(80, 2_000), factor=st.floats(1, 10))
def test_less_time_never_makes_a_richer_plan(system, p99, factor):
    order = [plan.name for plan in PLANS[system]]
    more, less = (plan_design(system, LOADS[system], ms).plan for ms in (p99 * factor, p99))
    assert order.index(more) <= order.index(less)


@systems
@few
@given(factor=st.floats(1.1, 20))
def test_more_users_need_more_of_everything_with_the_same_plan(system, factor):
    load = LOADS[system]
    less, more = (
        plan_design(system, replace(load, daily_users=users), 100)
        for users in (load.daily_users, factor * load.daily_users)
    )
    if less.plan == more.plan:
        old, new = (planned.design.needs()["whole"] for planned in (less, more))
        assert all(new[line] > old[line] for line in ("cores", "storage", "cost a month"))
        assert new["memory"] >= old["memory"]


@systems
def test_a_p99_that_no_plan_keeps_names_the_quickest(system):
    with pytest.raises(ValueError, match=f"within 0.1 ms .* {PLANS[system][-1].name!r}, has p99"):
        plan_design(system, LOADS[system], 0.1)


def test_an_unknown_system_is_refused_with_the_known_ones():
    with pytest.raises(
        ValueError, match="video recommendation, search engine, fraud detection, feed ranking"
    ):
        plan_design("advertising", LOADS["feed ranking"], 100)


@systems
@pytest.mark.parametrize("p99_ms", [1e9, 100, 40])
def test_the_seams_join_every_offline_stage_to_the_online_path(system, p99_ms):
    design = plan_design(system, replace(LOADS[system], items=min(LOADS[system].items, 5_000)), p99_ms).design
    assert {seam.kind for seam in design.seams} == {"label", "feature", "model"}
    ends = {end for seam in design.seams for end in (seam.source, seam.target)}
    assert {stage.name for stage in design.path("offline")} <= ends


def test_a_plan_without_an_index_builds_none():
    load = replace(LOADS["video recommendation"], items=5_000)
    built = {p99: plan_design("video recommendation", load, p99).design.resolved for p99 in (200, 100)}
    assert "index build" not in built[200]
    assert "index build" in built[100]


def test_few_videos_are_all_ranked_and_many_are_retrieved_first():
    few_videos = plan_design("video recommendation", replace(LOADS["video recommendation"], items=5_000), 200)
    many_videos = plan_design("video recommendation", LOADS["video recommendation"], 200)
    assert names(few_videos) == ["state", "features", "rank", "choose"]
    assert {"vectors", "pre-rank"} <= set(names(many_videos))
    assert few_videos.candidates == 5_000
    assert many_videos.candidates == many_videos.design["filter"].items_out == 1_000


def test_a_larger_corpus_lies_on_more_shards_and_its_slowest_shard_is_slower():
    small, large = (
        plan_design("search engine", replace(LOADS["search engine"], items=items), 300).design
        for items in (1e8, 1e9)
    )
    assert shards(small["BM25"].state_bytes) == 5
    assert shards(large["BM25"].state_bytes) == 50
    assert large["BM25"].latency.p99 > 1.2 * small["BM25"].latency.p99
    assert large["BM25"].core_ms == pytest.approx(10 * small["BM25"].core_ms)


def test_the_cache_spares_the_shards_its_hits():
    load = LOADS["search engine"]
    design = plan_design("search engine", load, 300).design
    assert design["cache"].qps == pytest.approx(load.peak_qps)
    assert design["BM25"].qps == pytest.approx((1 - load.cache_hits) * load.peak_qps)
    assert 0 < replace(load, daily_users=2e4).cache_hits < load.cache_hits < 1


def test_a_sequence_model_waits_for_enough_frauds():
    load = LOADS["fraud detection"]
    enough = SEQUENCE_FRAUDS / (90 * load.requests_per_user * 0.001)
    below, above = (
        plan_design("fraud detection", replace(load, daily_users=users), 100)
        for users in (0.99 * enough, 1.01 * enough)
    )
    assert "sequence model" not in names(below)
    assert "frauds in 90 days" in below.refused["sequence model and live graph"]
    assert "sequence model" in names(above)


def test_posts_of_large_authors_are_pulled_where_pushing_them_takes_longer_than_the_freshness():
    load = replace(LOADS["feed ranking"], daily_users=2e9)
    push, pull = (
        plan_design("feed ranking", replace(load, freshness_minutes=minutes), 200) for minutes in (2, 1)
    )
    assert "pull" not in names(push)
    assert "pull" in names(pull)
    assert pull.design["filter"].items_in == pytest.approx(load.inventory)


def test_a_page_that_needs_more_than_is_ranked_is_refused():
    with pytest.raises(ValueError, match="'choose' returns 600 items"):
        plan_design("video recommendation", replace(LOADS["video recommendation"], page_size=600), 100)
