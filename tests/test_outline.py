"""The outline of every system, scale, latency and level is whole, fits on its page, and follows the load."""

import math
import re
from dataclasses import replace
from io import BytesIO
from itertools import pairwise, product

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.patches import FancyBboxPatch

from helpers import figures
from helpers.capacity import units
from helpers.case_systems import SCALES, SYSTEMS
from helpers.interview import SENIORITIES, DataField
from helpers.outline import HEIGHT, MARGIN, WIDTH, outline

matplotlib.use("agg")

COMBINATIONS = [
    (name, scale, p99_ms, seniority)
    for name, system in SYSTEMS.items()
    for scale, p99_ms, seniority in product(SCALES, system.latencies, SENIORITIES)
]
DOTS = 150  # an inch, as in a notebook
systems = pytest.mark.parametrize("name", SYSTEMS)
GROWING = (
    "requests a day",
    "mean rate",
    "peak rate",
    "in flight at the peak",
    "cores",
    "log a day",
    "log storage",
    "positive labels a day",
    "training rows a day",
    "cost a month",
)
NO_VALUE = re.compile(r"\bnan\b|\bNone\b|\binf\b|\.\.\.|…|\{|\}|e[+-]\d\d")


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def own(name="feed ranking", **changes):
    """A ledger of one's own: a medium one, changed."""
    system = SYSTEMS[name]
    return replace(system.spec("medium", system.latencies[0], "Staff"), **changes)


def boxes(artists, renderer):
    """Left, bottom, right and top of each, in inches, shape (n, 4)."""
    return np.array([artist.get_window_extent(renderer).extents for artist in artists]) / DOTS


def overlapping(places, slack=0.02):
    """The pairs of places that share more than a slack, in inches, in both directions."""
    low = np.maximum(places[:, None, :2], places[None, :, :2])
    high = np.minimum(places[:, None, 2:], places[None, :, 2:])
    both = ((high - low) > slack).all(axis=2)
    return np.argwhere(np.triu(both, k=1))


# ---------------------------------------------------------------- all combinations, each drawn once


@pytest.mark.parametrize("combination", COMBINATIONS, ids=lambda c: "-".join(map(str, c)))
def test_an_outline_is_whole_and_legible_on_one_page(combination):
    made = outline(*combination)
    ax = made.draw()
    figure = ax.figure
    assert figure.get_size_inches() == pytest.approx((WIDTH, HEIGHT))

    texts = ax.texts
    said = [text.get_text() for text in texts]
    for told in (*said, *made.markdown().splitlines()):
        assert not NO_VALUE.search(told), told
        assert "$" not in told  # in Markdown it would begin mathematics

    places = boxes([text for text in texts if text.get_text()], figure.canvas.get_renderer())
    named = [text.get_text() for text in texts if text.get_text()]
    assert places[:, :2].min() >= MARGIN - 0.1
    assert places[:, 2].max() <= WIDTH - MARGIN + 0.1
    assert places[:, 3].max() <= HEIGHT - 0.1
    assert [(named[i], named[j]) for i, j in overlapping(places)] == []
    assert min(text.get_fontsize() for text in texts if text.get_text()) >= 5.8
    texts_stay_in_their_boxes(ax, places, named)


def texts_stay_in_their_boxes(ax, places, named):
    frames = [patch for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    assert len(frames) >= 6
    middles = (places[:, :2] + places[:, 2:]) / 2
    for frame in frames:
        left, bottom = frame.get_x(), frame.get_y()
        right, top = left + frame.get_width(), bottom + frame.get_height()
        inside = ((middles > (left, bottom)) & (middles < (right, top))).all(axis=1)
        assert inside.any()
        low, high = places[inside][:, :2].min(axis=0), places[inside][:, 2:].max(axis=0)
        where = [named[i] for i in np.flatnonzero(inside)]
        assert (low >= (left - 0.02, bottom - 0.02)).all(), where
        assert (high <= (right + 0.02, top + 0.02)).all(), where


@systems
def test_a_picture_is_a_page_with_ink_on_it(name):
    figure = outline(name, "medium", SYSTEMS[name].latencies[1], "Staff").draw().figure
    paper = BytesIO()
    figure.savefig(paper, dpi=40)
    dots = plt.imread(BytesIO(paper.getvalue()))
    assert dots.shape[:2] == (int(40 * HEIGHT), int(40 * WIDTH))
    ink = dots[..., :3].min(axis=2) < 0.5
    assert 0.02 < ink.mean() < 0.5
    assert all(part.any() for rows in np.array_split(ink, 4) for part in np.array_split(rows, 4, axis=1))


def test_the_print_is_one_page_of_a4():
    ax = outline("feed ranking", "small", 200, "Staff").draw()
    print_out = BytesIO()
    ax.figure.savefig(print_out, format="pdf")
    assert ax.get_position().bounds == (0, 0, 1, 1)  # nothing was laid out anew
    assert print_out.getvalue().count(b"/Type /Page ") == 1
    width, height = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) ([\d.]+) \]", print_out.getvalue()).groups()
    assert (float(width), float(height)) == pytest.approx((297 / 25.4 * 72, 210 / 25.4 * 72), abs=0.5)


def test_the_page_is_shown_with_its_alternative_text(monkeypatch):
    shown = []
    monkeypatch.setattr(figures, "display", lambda thing, **rest: shown.append(rest))
    made = outline("feed ranking", "small", 200, "Senior")
    figures.show(made.draw(), made.alt)
    assert shown[0]["metadata"]["image/png"]["alt"] == made.alt


# ---------------------------------------------------------------- what stands on it


@systems
def test_the_steps_the_level_and_the_diagram_are_in_both_forms(name):
    made = outline(name, "medium", SYSTEMS[name].latencies[0], "Staff")
    said = " ".join(text.get_text() for text in made.draw().texts)
    text = made.markdown()
    for title in made.steps:
        assert title in said
        assert f"## {title}" in text
    for stage in made.design.resolved:
        assert stage in said
        assert stage in text
    for row in made.numbers.itertuples():
        assert row.told in said
        assert f"| {row.Index} | {row.told} | {row.formula} |" in text
    for block in (*made.depth, *(block for blocks in made.steps.values() for block in blocks)):
        assert block.lines
        for line in block.lines:
            assert f"- {line}" in text
    words = set(re.split(r"[\s\u00a0]+", said))
    wanted = {word for block in made.depth for line in block.lines for word in line.split()}
    assert wanted <= words


@systems
def test_staff_has_lines_of_its_own(name):
    senior, staff = (
        {block.heading for block in outline(name, "large", SYSTEMS[name].latencies[0], level).depth}
        for level in SENIORITIES
    )
    assert {"Cost", "What if", "Risks", "Ownership", "Order of work"} == staff - senior - {
        "Follow-ups at Staff"
    }


def what_if(*combination):
    """The lines on ten times the users and on half the latency."""
    return next(block.lines for block in outline(*combination).depth if block.heading == "What if")


def test_staff_hears_what_each_surprise_would_make_of_the_design():
    users, latency = what_if("video recommendation", "large", 200, "Staff")
    assert users == "ten times: the same plan with 10 times the cores"
    assert re.search(
        r"two stages, trees on 500, K = 500, 0\.\d+ times the cores", latency.replace("\u00a0", " ")
    )
    assert what_if("feed ranking", "large", 25, "Staff")[1].endswith("the same plan with as many cores")


def test_the_cost_names_the_stage_that_costs_most():
    made = outline("search engine", "large", 300, "Staff")
    costs = {name: need["cost a month"].magnitude for name, need in made.design.needs().items()}
    share = costs["cross-encoder"] / costs["whole"]
    told = next(block.lines for block in made.depth if block.heading == "Cost")
    assert told[1] == f"cross-encoder takes {share:.0%} of the cost: attack it first"
    assert made.numbers.told["cost of 1,000 requests"] in told[0]


def test_a_surprise_that_no_plan_survives_is_said():
    made = outline("search engine", "large", 60, "Staff")
    assert any("no plan is quick enough" in line for block in made.depth for line in block.lines)


def test_the_alternative_text_states_the_finding():
    made = outline("video recommendation", "large", 200, "Senior")
    assert "200M users a day" in made.alt
    assert f"p99 of {made.design.p99_ms:.0f} ms" in made.alt
    assert made.numbers.told["cores"] in made.alt
    assert "popular" in made.alt


# ---------------------------------------------------------------- the numbers


def test_the_numbers_of_a_known_system_are_those_of_the_envelope():
    value = outline("video recommendation", "large", 200, "Senior").numbers["value"]
    assert value["requests a day"] == pytest.approx(2e9)
    assert value["mean rate"] == pytest.approx(2e9 / 86_400)
    assert value["peak rate"] == pytest.approx(2.5 * 2e9 / 86_400)
    assert value["log a day"] == pytest.approx(2e9 * 20 * 200)
    assert value["log storage"] == pytest.approx(2e9 * 20 * 200 * 90 * 2)
    assert value["positive labels a day"] == pytest.approx(2e9)
    assert value["training rows a day"] == pytest.approx(2e9 + 3.8e10 * 0.1)
    assert value["A/B: users an arm"] == pytest.approx(1.41e6, rel=0.01)
    assert value["score every item"] == pytest.approx(1e9 * 1e-5)
    assert value["brute force reads"] == pytest.approx(1e9 * 128 * 4)
    assert value["index of vectors"] == pytest.approx(36e9)
    assert value["shards of vectors"] == 3


def test_the_numbers_of_fraud_follow_from_prevalence_and_costs():
    value = outline("fraud detection", "large", 100, "Staff").numbers["value"]
    assert value["honest stopped a day"] == pytest.approx(300e6 * 0.999 * 0.001)
    assert value["precision there"] == pytest.approx(100 * 0.0008 / (0.0008 + 0.999 * 0.001))
    assert value["act from probability"] == pytest.approx(100 * 5 / 105)


@systems
def test_each_number_has_a_finite_value_a_unit_and_a_formula(name):
    for p99_ms in (*SYSTEMS[name].latencies, SYSTEMS[name].latencies[1] / 2):
        numbers = outline(name, "large", p99_ms, "Senior").numbers
        assert numbers.index.is_unique
        assert (np.isfinite(numbers["value"]) & (numbers["value"] > 0)).all()
        assert numbers[["unit", "told", "formula"]].map(lambda text: bool(text.strip())).all(axis=None)


@systems
def test_a_larger_scale_has_larger_numbers_and_sees_a_smaller_lift(name):
    for p99_ms in SYSTEMS[name].latencies:
        sizes = [outline(name, scale, p99_ms, "Senior").numbers["value"] for scale in SCALES]
        for smaller, larger in pairwise(sizes):
            assert (smaller[list(GROWING)] < larger[list(GROWING)]).all()
            assert smaller["machines"] <= larger["machines"]
            assert smaller["A/B: smallest lift seen"] > larger["A/B: smallest lift seen"]


@systems
@settings(max_examples=5)
@given(factor=st.floats(1.05, 20))
def test_the_rates_of_a_ledger_of_your_own_are_in_proportion_to_its_users(name, factor):
    spec = own(name)
    before, after = (
        outline(replace(spec, daily_users=users)).numbers["value"]
        for users in (spec.daily_users, factor * spec.daily_users)
    )
    for line in ("requests a day", "peak rate", "log a day", "log storage", "training rows a day"):
        assert after[line] == pytest.approx(factor * before[line])
    line = "A/B: smallest lift seen"
    assert after[line] == pytest.approx(before[line] / math.sqrt(factor))
    assert after["cost a month"] > before["cost a month"]


@systems
def test_every_number_of_the_ledger_reaches_the_page(name):
    spec = own(name)
    changes = {
        "requests_per_user": "peak rate",
        "peak_factor": "peak rate",
        "page_size": "log a day",
        "label_delay_days": "A/B: days to a result",
    }
    for field, line in changes.items():
        more = replace(spec, **{field: 1.4 * getattr(spec, field)})
        assert outline(more).numbers.value[line] > outline(spec).numbers.value[line]


def test_a_value_is_told_with_its_unit():
    numbers = outline("search engine", "small", 300, "Senior").numbers
    assert numbers.told["shards of BM25"] == "1 shard"
    assert numbers.told["quantile of a shard"] == "99%"
    large = outline("search engine", "large", 300, "Senior").numbers
    assert large.told["quantile of a shard"] == "99.98%"
    assert units(large.told["log a day"]).to("byte").magnitude == pytest.approx(large.value["log a day"])


@systems
def test_the_budget_is_kept_and_less_time_changes_the_design(name):
    drawn = [outline(name, "large", p99_ms, "Senior") for p99_ms in SYSTEMS[name].latencies]
    for made in drawn:
        assert made.design.p99_ms <= made.spec.p99_ms == made.design.budget_ms
    assert drawn[0].planned.plan != drawn[1].planned.plan
    assert drawn[0].markdown() != drawn[1].markdown()


# ---------------------------------------------------------------- ledgers of your own, and mistakes


def test_a_system_its_name_and_its_ledger_give_the_same_outline():
    system = SYSTEMS["feed ranking"]
    spec = system.spec("small", 200, "Staff")
    texts = {
        outline(what, *rest).markdown()
        for what, rest in (
            ("feed ranking", ("small", 200, "Staff")),
            (system, ("small", 200, "Staff")),
            (spec, ()),
            (replace(spec, candidates=None), ()),
        )
    }
    assert len(texts) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("feed", "large", 200, "Staff"), "video recommendation, search engine, fraud detection, feed"),
        ((None, "large", 200, "Staff"), "video recommendation, search engine"),
        (("feed ranking",), "small, medium, large"),
        (("feed ranking", "giant", 200, "Staff"), "small, medium, large"),
        (("feed ranking", "large", 200, "Intern"), "Senior, Staff"),
        (("feed ranking", "large", -1, "Staff"), "such as 200 or 100"),
        (("feed ranking", "large", 1, "Staff"), "the quickest, 'feeds ranked ahead'"),
    ],
)
def test_what_is_not_there_is_refused_with_the_choices(arguments, words):
    with pytest.raises(ValueError, match=words):
        outline(*arguments)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"system": "advertising"}, "Choose from: video recommendation"),
        ({"goal": ""}, "goal: No business goal"),
        ({"daily_users": None}, "daily_users: No daily users"),
        ({"items": float("nan")}, "not a number above 0"),
        ({"peak_factor": 0.5}, "peak_factor"),
        ({"seniority": ""}, "seniority: No level"),
        ({"seniority": "Principal"}, "Senior, Staff"),
        ({"page_size": 501}, "'choose' returns 501 items"),
        ({"data": (DataField("impression log", "training", 1),)}, "deleted before its label"),
        ({"p99_ms": 1}, "Allow more time"),
    ],
)
def test_a_ledger_that_is_not_ready_is_refused_with_the_finding(changes, words):
    with pytest.raises(ValueError, match=words):
        outline(own(**changes))


def test_a_ledger_with_a_scale_beside_it_is_refused():
    with pytest.raises(ValueError, match="holds its scale"):
        outline(own(), "large")


def test_a_ledger_with_too_long_a_text_is_refused_when_it_is_drawn():
    made = outline(own(goal="people come back " * 400))
    with pytest.raises(ValueError, match="shorten the texts"):
        made.draw()


def test_signs_that_others_read_as_mathematics_are_drawn_as_they_are():
    ax = outline(own(goal="earn $5 where others earn $3")).draw()
    assert any("$5" in text.get_text() for text in ax.texts)
    ax.figure.savefig(BytesIO(), dpi=30)
