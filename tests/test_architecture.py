"""A design is one object: every table and picture follows its numbers, and contradictions are refused."""

import re
from dataclasses import replace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from numpy.testing import assert_allclose

from helpers.architecture import Design, Latency, Prices, Seam, Stage
from helpers.capacity import units

matplotlib.use("agg")

PROMISED = {"owner": "serving", "failure": "times out", "fallback": "popular videos"}
SAMPLES = 20 * np.random.default_rng(0).lognormal(0, 0.3, 2_000)
FEW = settings(max_examples=20)


def online(name, p50=2.0, p99=8.0, **fields):
    return Stage(name, **({"latency": Latency.assumed(p50, p99, "a guess")} | PROMISED | fields))


def video(**fields) -> Design:
    """A video platform with parallel sources, two paths and three seams."""
    sources = {"after": "user state", "owner": "retrieval"}
    stages = [
        online("user state", state="last watches", state_bytes=4e11, bytes_per_request=2_000),
        online("two-tower", 9, 14, items_in=1e9, items_out=1_000, core_ms=9, state_bytes=4e10, **sources),
        online("co-watch", 4, 15, items_in=1e6, items_out=300, **sources),
        online("union", items_out=1_000, after=("two-tower", "co-watch")),
        online("pre-ranker", 6, 14, items_out=300, at_items=1_000, core_ms=5, after="union"),
        online("ranker", latency=Latency.measured(SAMPLES, "test"), at_items=300, core_ms=20,
               bytes_per_request=1e5, after="pre-ranker"),
        online("policy", 1, 3, items_out=20, after="ranker"),
        Stage("log", path="offline", qps=1e5, core_ms=0.01, state_bytes=2e14),
        Stage("training", path="offline", after="log"),
        Stage("publish", path="offline", after="training"),
    ]  # fmt: skip
    seams = [
        Seam("label", "policy", "log", "position, propensity, versions, served features"),
        Seam("feature", "log", "ranker", "one definition for both paths"),
        Seam("model", "publish", "two-tower", "paired versions of tower and index"),
    ]
    return Design("video", stages, seams, **({"budget_ms": 200, "peak_qps": 58_000} | fields))


VIDEO = video()


def chain(*quantiles, **fields) -> Design:
    """Stages one after the other, of given (p50, p99)."""
    names = [f"stage {i}" for i in range(len(quantiles))]
    before = [(), *names]
    stages = [online(n, *q, after=b) for n, q, b in zip(names, quantiles, before, strict=False)]
    return Design("chain", stages, peak_qps=1, **fields)


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


# ------------------------------------------------------------------ latency of a stage

QUANTILES = st.tuples(st.floats(0.1, 100), st.floats(1, 8)).map(lambda pair: (pair[0], pair[0] * pair[1]))


@given(QUANTILES)
def test_an_assumed_latency_is_a_lognormal_with_the_two_quantiles(quantiles):
    latency = Latency.assumed(*quantiles, "a guess")
    assert_allclose(latency.quantile([0.5, 0.99]), quantiles)
    logs = np.log(latency.quantile([0.1, 0.5, 0.9]))
    assert logs[1] - logs[0] == pytest.approx(logs[2] - logs[1], abs=1e-9), "symmetric on the log scale"
    assert latency.kind == "assumed"


def test_a_measured_latency_has_the_quantiles_of_its_samples():
    latency = Latency.measured(SAMPLES, "test")
    assert latency.kind == "measured"
    assert (latency.p50, latency.p99) == pytest.approx(tuple(np.quantile(SAMPLES, [0.5, 0.99])))
    assert_allclose(latency.quantile([0.2, 0.7]), np.quantile(SAMPLES, [0.2, 0.7]))


@pytest.mark.parametrize("latency", [Latency.measured(SAMPLES, "t"), Latency.assumed(20, 40, "g")])
def test_draws_have_the_quantiles_and_a_seed(latency):
    drawn = latency.draw(np.random.default_rng(1), 50_000)
    assert_allclose(np.quantile(drawn, [0.5, 0.99]), [latency.p50, latency.p99], rtol=0.03)
    assert_allclose(drawn, latency.draw(np.random.default_rng(1), 50_000))


def test_a_scaled_measurement_is_an_assumption():
    latency = Latency.measured(SAMPLES, "test")
    twice = latency.times(2, "twice the items")
    assert (twice.p50, twice.p99, twice.kind) == (2 * latency.p50, 2 * latency.p99, "assumed")
    assert str(twice).endswith("(assumed: test; twice the items)")
    assert latency.times(1, "as before") is latency


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Latency.assumed(9, 5, "g"), "0 < p50 <= p99, not 9 and 5"),
        (lambda: Latency.assumed(0, 5, "g"), "0 < p50"),
        (lambda: Latency.assumed(1, np.inf, "g"), "0 < p50"),
        (lambda: Latency.assumed(1, 5, " "), "needs a source"),
        (lambda: Latency.measured([5.0] * 99, "t"), "at least 100"),
        (lambda: Latency.measured([5.0] * 200 + [np.nan], "t"), "finite"),
    ],
)
def test_a_latency_that_says_nothing_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ------------------------------------------------------------------ the whole request


def test_the_whole_is_the_slowest_way_through_the_stages():
    ms = VIDEO.latency(n=500, seed=3)
    sources = ms[["two-tower", "co-watch"]].max(axis=1)
    after = ms[["union", "pre-ranker", "ranker", "policy"]].sum(axis=1)
    assert_allclose(ms["whole"], ms["user state"] + sources + after)
    assert len(ms) == 500
    pd.testing.assert_frame_equal(ms, VIDEO.latency(n=500, seed=3))
    assert not ms.equals(VIDEO.latency(n=500, seed=4))


@FEW
@given(st.lists(QUANTILES, min_size=2, max_size=5))
def test_the_p99_of_a_sum_is_at_most_the_sum_of_p99s(quantiles):
    budget = chain(*quantiles).budget()
    assert budget.p99["sum of p99s"] == pytest.approx(sum(p99 for _, p99 in quantiles))
    assert budget.p99["p99 of the sum"] <= budget.p99["sum of p99s"] * 1.05  # 5% for the draws
    assert budget.p99["p99 of the sum"] >= max(p99 for _, p99 in quantiles) * 0.95


def test_p99s_add_only_when_all_stages_are_slow_together():
    quantiles = [(5, 20), (3, 30), (8, 25)]
    p99 = [chain(*quantiles, correlation=rho).budget().p99 for rho in (0, 0.5, 1)]
    assert p99[0]["p99 of the sum"] < p99[1]["p99 of the sum"] < p99[2]["p99 of the sum"]
    assert p99[2]["p99 of the sum"] == pytest.approx(75, rel=0.03)


def test_many_leaves_side_by_side_are_slower_than_the_p99_of_each():
    leaves = [online(f"leaf {i}", 5, 20) for i in range(30)]
    whole = Design("fan-out", leaves, peak_qps=1).budget().p99
    assert whole["sum of p99s"] == pytest.approx(20), "side by side, p99s do not add"
    assert whole["p99 of the sum"] > 30
    slow = Design("fan-out", leaves, peak_qps=1).latency().whole > 20
    assert slow.mean() == pytest.approx(1 - 0.99**30, abs=0.01)


def test_shares_of_the_slowest_requests_add_to_1_and_a_stage_nobody_waits_for_has_none():
    stages = [*VIDEO.stages, online("beside", 0.1, 0.2)]
    share = replace(VIDEO, stages=stages).budget().share
    assert share.drop(["sum of p99s", "p99 of the sum", "budget"]).sum() == pytest.approx(1)
    assert share["beside"] == 0
    ms = VIDEO.latency()
    slow = ms[ms.whole >= ms.whole.quantile(0.99)]
    assert VIDEO.budget().share["ranker"] == pytest.approx(slow.ranker.sum() / slow.whole.sum())
    assert VIDEO.budget().share["ranker"] > 0.4


def test_equally_slow_parallel_stages_are_counted_once():
    twins = [online("one", 5, 5), online("two", 5, 5)]
    assert Design("twins", twins, peak_qps=1).budget().share[["one", "two"]].tolist() == [1, 0]


def test_the_budget_table_says_what_is_measured_and_what_was_promised():
    budget = VIDEO.budget()
    assert budget.kind["ranker"] == "measured"
    assert budget.kind["union"] == "assumed"
    assert budget.p99["budget"] == 200
    assert "budget" not in VIDEO.change(budget_ms=None).budget().index
    assert budget.p99["p99 of the sum"] == pytest.approx(VIDEO.latency().whole.quantile(0.99))


# ------------------------------------------------------------------ capacity, funnel, ladder


def test_capacity_is_rate_times_work_with_units():
    needs = VIDEO.needs()["ranker"]
    assert needs["cores"].to("core").magnitude == pytest.approx(58_000 * 0.020 / 0.6)
    assert needs["bandwidth"].to("GB / s").magnitude == pytest.approx(5.8)
    assert VIDEO.needs()["user state"]["memory"].to("GB").magnitude == pytest.approx(800)
    assert VIDEO.needs()["log"]["storage"].to("TB").magnitude == pytest.approx(400)
    assert VIDEO.needs()["log"]["cores"].to("core").magnitude == pytest.approx(1e5 * 1e-5 / 0.6)


def test_cost_is_cores_and_copies_at_their_prices():
    prices = Prices(core_hour=0.1, memory_gb=2, storage_gb=0.5)
    needs = video(prices=prices).needs()
    hours = (1 * units.month).to("hour").magnitude
    ranker = 58_000 * 0.020 / 0.6 * 0.1 * hours
    assert needs["ranker"]["cost a month"].to("dollar / month").magnitude == pytest.approx(ranker)
    assert needs["user state"]["cost a month"].magnitude == pytest.approx(800 * 2)
    cores_of_log = 1e5 * 1e-5 / 0.6 * 0.1 * hours
    assert needs["log"]["cost a month"].magnitude == pytest.approx(400_000 * 0.5 + cores_of_log)
    requests = 58_000 / 2.5 * hours * 3600
    each = needs["ranker"]["cost of 1,000 requests"].to("dollar").magnitude
    assert each == pytest.approx(1000 * ranker / requests)


def test_the_whole_adds_up_and_the_table_reads_as_text():
    needs = VIDEO.needs()
    for line, whole in needs["whole"].items():
        parts = [need[line].to(whole.units).magnitude for name, need in needs.items() if name != "whole"]
        assert whole.magnitude == pytest.approx(sum(parts))
    table = VIDEO.capacity()
    assert table.loc["ranker", "cores"] == "1,900 core"
    assert table.loc["ranker", "bandwidth"] == "5.8 GB/s"
    assert table.index.tolist() == [*(stage.name for stage in VIDEO.stages), "whole"], "online, then offline"


def test_the_funnel_counts_items_and_leaves_out_stages_without():
    funnel = VIDEO.funnel()
    assert funnel.index.tolist() == ["two-tower", "co-watch", "union", "pre-ranker", "ranker", "policy"]
    assert funnel.items_in.tolist() == [1e9, 1e6, 1_300, 1_000, 300, 300]
    assert funnel.items_out.tolist() == [1_000, 300, 1_000, 300, 300, 20]
    assert funnel.kept["pre-ranker"] == pytest.approx(0.3)


def test_the_ladder_follows_the_path():
    ladder = VIDEO.ladder()
    assert ladder.columns.tolist() == ["failure", "fallback", "owner"]
    assert ladder.index[0] == "user state"
    assert ladder.index[-1] == "policy"
    assert ladder.owner["co-watch"] == "retrieval"
    assert "log" not in ladder.index


# ------------------------------------------------------------------ one number changes everything

TABLES = {
    "latency": lambda design: design.budget().drop(columns="source"),
    "capacity": Design.capacity,
    "funnel": Design.funnel,
    "picture": lambda design: pd.Series([text.get_text() for text in design.draw().texts]),
}


@pytest.mark.parametrize("table", TABLES)
def test_one_number_changes_all_four(table):
    more = VIDEO.change("pre-ranker", items_out=500)
    assert not TABLES[table](VIDEO).equals(TABLES[table](more))
    assert TABLES[table](VIDEO).equals(TABLES[table](video())), "and nothing changes by itself"


def test_more_items_cost_in_proportion():
    more = VIDEO.change("pre-ranker", items_out=600)
    assert more["ranker"].items_in == 600
    assert more["ranker"].latency.p50 == pytest.approx(2 * VIDEO["ranker"].latency.p50)
    assert (VIDEO["ranker"].latency.kind, more["ranker"].latency.kind) == ("measured", "assumed")
    assert more["ranker"].core_ms == 40
    assert more.needs()["ranker"]["bandwidth"] == 2 * VIDEO.needs()["ranker"]["bandwidth"]
    assert more["policy"].latency == VIDEO["policy"].latency, "no at_items: as before"
    assert VIDEO["ranker"].items_in == 300, "the old design stays as it was"


def test_another_stage_keeps_its_draws_when_one_changes():
    faster = VIDEO.change("union", latency=Latency.assumed(1, 2, "a guess"))
    unchanged = [name for name in VIDEO.latency() if name not in ("union", "whole")]
    pd.testing.assert_frame_equal(VIDEO.latency()[unchanged], faster.latency()[unchanged])


def test_compare_lists_what_differs_and_only_that():
    table = VIDEO.compare(VIDEO.change("policy", items_out=10)).set_index(["stage", "what"])
    assert table.loc[("policy", "items_out")].tolist() == ["20", "10"]
    assert len(table) == 1
    changed = VIDEO.compare(VIDEO.change(peak_qps=116_000)).set_index(["stage", "what"])
    assert changed.loc[("ranker", "cores")].tolist() == ["1,930 core", "3,870 core"]
    assert len(VIDEO.compare(video())) == 0


def test_a_stage_behind_a_cache_sees_fewer_requests():
    cached = VIDEO.change("ranker", qps=5_800)
    assert cached.change("policy", qps=1e6).mean_rate == VIDEO.mean_rate, "retries are not requests"
    assert 10 * cached.needs()["ranker"]["cores"] == VIDEO.needs()["ranker"]["cores"]


# ------------------------------------------------------------------ contradictions


@pytest.mark.parametrize(
    ("stage", "fields", "message"),
    [
        ("ranker", {"qps": -1}, "has qps -1"),
        ("ranker", {"core_ms": np.nan}, "has core_ms nan"),
        ("ranker", {"replicas": 0}, "keep at least one copy"),
        ("ranker", {"path": "nearline"}, "choose online or offline"),
        ("ranker", {"latency": None}, "online but has no latency"),
        ("ranker", {"owner": ""}, "no owner: say which team"),
        ("ranker", {"failure": " "}, "no failure: say how it breaks"),
        ("ranker", {"fallback": ""}, "no fallback: say what the user gets"),
        ("ranker", {"items_in": 301}, "receives 301 items, but those before it return 300"),
        ("ranker", {"items_out": 301}, "returns 301 items, but receives 300"),
        ("pre-ranker", {"items_out": 1_001}, "returns 1,001 items, but receives 1,000"),
        ("union", {"items_in": 1_301}, "receives 1,301 items, but those before it return 1,300"),
        ("ranker", {"after": "cache"}, "waits for 'cache', which does not exist: choose from user state"),
        ("ranker", {"after": "training"}, "on the other path: join the paths with a Seam"),
        ("union", {"after": ("two-tower", "ranker")}, "in a circle"),
        ("user state", {"at_items": 5}, "costs as for 5 items, but receives 0"),
    ],
)  # fmt: skip
def test_a_contradiction_is_refused_with_the_name_of_the_stage(stage, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        VIDEO.change(stage, **fields)
    assert repr(stage) in str(refused.value)


def test_a_p99_without_a_qps_is_refused():
    with pytest.raises(ValueError, match="'user state' has a p99 but no QPS"):
        video(peak_qps=None)
    alone = Design("alone", [online("ranker", qps=10)])
    assert alone.mean_rate.to("QPS").magnitude == pytest.approx(4)


def test_a_design_over_budget_is_refused_but_can_be_looked_at():
    with pytest.raises(ValueError, match=r"over budget: the p99 .* not 50 ms. Stage 'ranker' takes 60%"):
        video(budget_ms=50)
    looked_at = video(budget_ms=None)
    assert looked_at.p99_ms > 50
    assert looked_at.change(budget_ms=looked_at.p99_ms) == video(budget_ms=looked_at.p99_ms)


@pytest.mark.parametrize("name", ["ranker", "whole"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' has a name that is taken"):
        replace(VIDEO, stages=[*VIDEO.stages, online(name)])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget_ms": 0}, "budget_ms must be above 0"),
        ({"peak_qps": -5}, "peak_qps must be above 0"),
        ({"peak_factor": 0.5}, "peak_factor must be at least 1"),
        ({"utilization": 1}, "utilization must be between 0 and 1"),
        ({"correlation": 1.1}, "correlation must be from 0 to 1"),
        ({"stages": [Stage("log", path="offline")]}, "no online stage"),
    ],
)
def test_a_wrong_number_of_the_whole_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        VIDEO.change(**({"seams": ()} | fields))


def test_an_unknown_stage_or_number_is_refused():
    with pytest.raises(ValueError, match="no stage 'rankre': choose from user state"):
        VIDEO.change("rankre", qps=1)
    with pytest.raises(ValueError, match="no p99 in stage 'ranker': choose from name"):
        VIDEO.change("ranker", p99=1)
    with pytest.raises(ValueError, match="no qps in the design 'video'"):
        VIDEO.change(qps=1)


@pytest.mark.parametrize(
    ("seam", "message"),
    [
        (("data", "log", "ranker", "c"), "unknown kind: choose from feature, label, model"),
        (("label", "policy", "log", ""), "no contract"),
        (("label", "log", "policy", "c"), "label seam from 'log' to 'policy' needs 'log' to be an online"),
        (("feature", "policy", "ranker", "c"), "needs 'policy' to be an offline stage: it is online"),
        (("model", "registry", "ranker", "c"), "needs 'registry' to be an offline stage: it is None"),
    ],
)
def test_a_seam_that_joins_nothing_is_refused(seam, message):
    with pytest.raises(ValueError, match=message):
        VIDEO.change(seams=[Seam(*seam)])


# ------------------------------------------------------------------ pictures


def seen_texts(ax) -> list[Text]:
    """The texts of an axes that a reader sees: its title and labels too, its ticks where they are shown."""
    shown = [*ax.get_yticklabels(), ax.xaxis.label] if ax.axison else []
    texts = [child for child in ax.get_children() if isinstance(child, Text)]
    return [text for text in [*texts, *shown] if text.get_text().strip()]


def overlapping(ax) -> list[tuple[str, str]]:
    """The pairs of texts that lie on each other."""
    ax.figure.canvas.draw()
    boxes = [(text.get_text(), text.get_window_extent().padded(-1)) for text in seen_texts(ax)]
    return [(a, b) for i, (a, one) in enumerate(boxes) for b, other in boxes[:i] if one.overlaps(other)]


def outside(ax) -> list[str]:
    """The texts that the edge of the figure cuts."""
    ax.figure.canvas.draw()
    frame = ax.figure.bbox.padded(1)
    boxes = [(text.get_text(), text.get_window_extent()) for text in seen_texts(ax)]
    return [name for name, box in boxes if not (frame.containsx(box.x0) and frame.containsx(box.x1))]


def small() -> Design:
    return chain((5, 40), (4, 60), budget_ms=100)


def large() -> Design:
    """The video platform with four more stages and two more seams."""
    more = {name: online(name, 2, 9, items_in=1e6, items_out=9) for name in ("fresh videos", "explore")}
    ads = [online("ad auction", 10, 40, after="user state"), online("page", after=("policy", "ad auction"))]
    seams = [Seam("feature", "log", "user state", "counts, at most a minute old"),
             Seam("model", "publish", "ranker", "the model with its list of features")]  # fmt: skip
    stages = [*VIDEO.stages, *more.values(), *ads]
    return VIDEO.change(stages=stages, seams=[*VIDEO.seams, *seams])


@pytest.mark.parametrize("design", [small, video, large])
@pytest.mark.parametrize("draw", [Design.draw, Design.draw_funnel, Design.draw_budget])
def test_no_label_covers_another_is_cut_or_is_small(design, draw):
    if draw is Design.draw_funnel and design is small:
        return
    ax = draw(design())
    assert overlapping(ax) == []
    assert outside(ax) == []
    assert min(text.get_fontsize() for text in ax.texts) >= 11


def test_the_diagram_shows_stages_items_latencies_and_contracts():
    texts = " ".join(text.get_text() for text in VIDEO.draw().texts).replace("\n", " ")
    for stage in VIDEO.stages:
        assert stage.name in texts
    assert "1B → 1,000" in texts
    assert f"● {np.median(SAMPLES):.2g} / {np.quantile(SAMPLES, 0.99):.2g} ms" in texts
    assert "○ 6 / 14 ms" in texts
    assert "label seam position, propensity, versions, served features" in texts
    assert "budget 200 ms" in texts


def test_measured_and_assumed_differ_in_frame_and_mark():
    frames = [
        patch.get_linestyle() for patch in VIDEO.draw().patches if patch.get_facecolor()[:3] == (1, 1, 1)
    ]
    assert frames.count("--") == 6
    assert frames.count("-") == 4, "one measured, three offline"


def test_no_box_covers_another():
    boxes = [p.get_bbox() for p in large().draw().patches if p.get_facecolor()[:3] == (1, 1, 1)]
    assert len(boxes) == 14
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_the_budget_picture_draws_p50_p99_and_the_budget():
    ax = VIDEO.draw_budget()
    table = VIDEO.budget().drop("budget")
    widths = [patch.get_width() for patch in ax.patches]
    assert_allclose(widths, [*table.p99, *table.p50.fillna(0)])
    assert [line.get_xdata()[0] for line in ax.lines] == [200]
    assert VIDEO.change(budget_ms=None).draw_budget().lines[:] == []


def test_a_funnel_without_items_is_refused():
    with pytest.raises(ValueError, match="No stage of 'chain' handles items"):
        small().draw_funnel()


def test_the_funnel_picture_is_wider_for_more_items():
    ax = VIDEO.draw_funnel()
    widths = np.array([patch.get_width() for patch in ax.patches]).reshape(-1, 2)
    assert_allclose(widths, np.log10(1 + VIDEO.funnel()[["items_in", "items_out"]]))


def inside(boxes, line) -> bool:
    """Whether a line runs through the inside of any box."""
    (x, y), t = line.get_data(), np.linspace(0, len(line.get_xdata()) - 1, 500)
    corners = np.arange(len(x))
    points = np.column_stack([np.interp(t, corners, x), np.interp(t, corners, y)])
    insides = [box.padded(-0.02) for box in boxes]
    return any(box.contains(*point) for box in insides for point in points)


def test_no_arrow_runs_through_a_box():
    direct = large().change("ranker", after=("pre-ranker", "user state"))
    ax = direct.draw()
    boxes = [p.get_bbox() for p in ax.patches if p.get_facecolor()[:3] == (1, 1, 1)]
    assert len(ax.lines) > 15
    assert not any(inside(boxes, line) for line in ax.lines)
