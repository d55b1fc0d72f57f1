"""One page for a design interview: the five steps of a system at its own scale, latency and level.

Every number on the page is computed from the ledger; nothing is written down in advance.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import pint
from matplotlib import ft2font
from matplotlib.axes import Axes
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.patches import FancyBboxPatch, Rectangle

from helpers.architecture import SEAM_STYLES, WHOLE, Design, Seam, Stage
from helpers.capacity import brute_force, in_flight, leaf_quantile, rounded, units
from helpers.case_systems import (
    SYSTEMS,
    CaseSystem,
    check_choice,
    find_system,
    load_of,
    plan_for,
    surprised,
)
from helpers.designs import (
    BEYOND_SHARE,
    CORES_A_MACHINE,
    KNOWN_USERS,
    ROW_BYTES,
    Load,
    Planned,
    shards,
)
from helpers.figures import BLUE, GRAY, GREEN, ORANGE, PURPLE, short
from helpers.interview import DESIGN_RULES, LEVELS, SCORING_TIME, DesignSpec, review
from helpers.metrics import cost_threshold, precision_at_prevalence, sample_size_per_arm

MACHINE_BYTES = 256e9  # memory of a machine
DIMENSIONS = 128  # of a vector of floats, for what brute force would read
TEST_DAYS = 14  # of an A/B test: two whole weeks
POST_DAYS = 30  # for which a post is live
FALSE_ALARMS = 0.001  # share of honest payments stopped: Stripe, "How we built Radar"
RECALL = 0.8  # of frauds, at that share


def outline(
    what: str | CaseSystem | DesignSpec,
    scale: str | None = None,
    p99_ms: float | None = None,
    seniority: str | None = None,
) -> "Outline":
    """Return the outline of a system at a scale, a p99 in ms and a level, or of a ledger of your own.

    what: a system or its name, with the other three; or a complete `DesignSpec`, without them: it holds them.
    Its number of candidates is not read: it follows from the richest design that answers in time.

    Raises ValueError for an unknown system, scale or level, for a ledger that `interview.review` finds faults
    in, and when no design answers in time.
    """
    if isinstance(what, DesignSpec):
        return _of_ledger(what, (scale, p99_ms, seniority))
    system = what if isinstance(what, CaseSystem) else find_system(what)
    spec = system.spec(scale, p99_ms, seniority)
    return Outline(system, spec, plan_for(spec))


def _of_ledger(spec: DesignSpec, others: Sequence[object]) -> "Outline":
    if any(other is not None for other in others):
        raise ValueError("A ledger holds its scale, p99 and seniority: change them in it, with replace().")
    check_choice("system", spec.system, SYSTEMS)
    before = [rule for rule in DESIGN_RULES if rule.field != "candidates"]
    _refuse_faults(review(replace(spec, candidates=None), before))
    planned = plan_for(spec)
    spec = replace(spec, candidates=planned.candidates)
    _refuse_faults(review(spec, DESIGN_RULES))
    return Outline(SYSTEMS[spec.system], spec, planned)


def _refuse_faults(found: pd.DataFrame) -> None:
    if not found.empty:
        told = " ".join(f"{row.field}: {row.finding}" for row in found.itertuples())
        raise ValueError(f"The ledger is not ready to be drawn. {told}")


# ------------------------------------------------------------------ the outline

MINUTES = {
    "Senior": (
        "0-8 step 1, 8-19 numbers and step 2, 19-28 step 3, 28-36 step 4, 36-42 step 5, 42-45 risks",
        "every step, each with a number that decides something",
    ),
    "Staff": ("0-22 all five steps; then two deep dives of your own choice; 42-45 risks and what to cut",),
}


class Block(NamedTuple):
    """A heading within a step, and its lines."""

    heading: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Outline:
    """The outline of a system: its ledger, and the plan that carries it. Build it with `outline`."""

    system: CaseSystem
    spec: DesignSpec
    planned: Planned

    @property
    def title(self) -> str:
        """System, load, latency and level in one line."""
        s = self.spec
        load = f"{short(s.daily_users)} {self.system.unit}s a day, {short(s.items)} {self.system.item}s"
        return f"{s.system.capitalize()}: {load}, p99 {s.p99_ms:g} ms, {s.seniority}"

    @property
    def design(self) -> Design:
        """The design that is drawn."""
        return self.planned.design

    @cached_property
    def needs(self) -> Mapping[str, Mapping[str, pint.Quantity]]:
        """What each stage needs, as `Design.needs`."""
        return self.design.needs()

    @cached_property
    def load(self) -> Load:
        """What the design must carry."""
        return load_of(self.spec)

    @cached_property
    def numbers(self) -> pd.DataFrame:
        """The capacity numbers: columns value, unit (of the value), told (as text, rounded), formula."""
        rows = {row.name: row for row in [*_common_numbers(self), *OWN_NUMBERS[self.spec.system](self)]}
        table = {
            name: (row.value, row.unit, _told(row.value, row.unit), row.formula) for name, row in rows.items()
        }
        columns = ["value", "unit", "told", "formula"]
        return pd.DataFrame.from_dict(table, orient="index", columns=columns)

    @cached_property
    def steps(self) -> Mapping[str, tuple[Block, ...]]:
        """The five steps: title -> blocks of lines."""
        return {
            "1 Clarify and measure": _clarify(self),
            "2 Architecture": _architecture(self),
            "3 Data and features": _data(self),
            "4 Model": _model(self),
            "5 Deploy and monitor": _deploy(self),
        }

    @cached_property
    def depth(self) -> tuple[Block, ...]:
        """What is expected at this level: at Senior the follow-ups, at Staff also risks, cost and order."""
        own = _staff(self) if self.spec.seniority == "Staff" else (_refused(self),)
        followups = self.system.followups[self.spec.seniority]
        lines = tuple(f"{followup.question} → {followup.answer}" for followup in followups)
        return (
            Block("Minutes", MINUTES[self.spec.seniority]),
            *own,
            Block(f"Follow-ups at {self.spec.seniority}", lines),
        )

    @property
    def alt(self) -> str:
        """What the picture says, for those who cannot see it."""
        way = ", then ".join(" beside ".join(names) for names in _levels(self.design))
        told = self.numbers["told"]
        return (
            f"{self.title}. The plan is {self.planned.plan}, with a p99 of "
            f"{self.design.p99_ms:.0f} ms: {way}. It needs {told['cores']} for a peak of {told['peak rate']}."
        )

    def markdown(self) -> str:
        """Return the outline as Markdown, to copy."""
        parts = [f"# {self.title}", self.alt, "## Numbers", _markdown_table(self.numbers)]
        parts += ["## Diagram", _text_diagram(self.design)]
        for title, blocks in self.steps.items():
            parts += [f"## {title}", *_markdown_blocks(blocks)]
        parts += [f"## Expected at {self.spec.seniority}", *_markdown_blocks(self.depth)]
        return "\n\n".join(parts) + "\n"

    def _repr_markdown_(self) -> str:
        return self.markdown()

    def draw(self) -> Axes:
        """Draw the outline on one page, A4 landscape; the coordinates of the axes are inches.

        Raises ValueError when the lines of a ledger of your own do not fit on the page.
        """
        return _page(self)


# ------------------------------------------------------------------ numbers


class Number(NamedTuple):
    """A number with its unit, and how it was computed."""

    name: str
    value: float
    unit: str
    formula: str


def _of(name: str, quantity: pint.Quantity, unit: str, formula: str) -> Number:
    """A quantity in a unit, which is written in the plural."""
    return Number(name, float(quantity.to(unit).magnitude), PLURALS.get(unit, unit), formula)


PLURALS = {name: f"{name}s" for name in ("request", "core", "dollar")} | {"dollar / month": "dollars a month"}


def _told(value: float, unit: str) -> str:
    """A value as text with two digits; bytes in the prefix that fits."""
    if unit == "byte":
        return rounded((value * units.byte).to_compact())
    if unit == "%":  # near 100 the distance to it counts
        return f"{float(f'{value:.{4 if value > 99 else 2}g}'):g}%"
    noun = unit[:-1] if value == 1 and unit in ("shards", "machines", "days") else unit
    return f"{short(float(f'{value:.2g}'))} {noun}"


def _common_numbers(o: Outline) -> Iterator[Number]:
    """What every system has."""
    s, load, system = o.spec, o.load, o.system
    need = o.needs[WHOLE]
    users, daily = f"{short(s.daily_users)} {system.unit}s", load.daily_requests
    yield Number("requests a day", daily, "requests", f"{users} × {s.requests_per_user:g}")
    mean = f"{users} × {s.requests_per_user:g} / 86,400 s"
    yield Number("mean rate", load.peak_qps / s.peak_factor, "QPS", mean)
    yield Number("peak rate", load.peak_qps, "QPS", f"{mean} × {s.peak_factor:g}")
    p50 = float(o.design.budget().loc["p99 of the sum", "p50"])
    flight = in_flight(load.peak_qps * units.QPS, p50 * units.ms)
    yield _of("in flight at the peak", flight, "request", f"peak rate × median {p50:.0f} ms (Little)")
    yield _of("cores", need["cores"], "core", "sum over stages: rate × core time / 0.6")
    yield _of("memory", need["memory"], "byte", "state of the online stages × copies")
    machines = max(
        2,
        math.ceil(need["cores"].magnitude / CORES_A_MACHINE),
        math.ceil(need["memory"].to("byte").magnitude / MACHINE_BYTES),
    )
    yield Number("machines", machines, "machines", "cores / 32 or memory / 256 GB, the larger; 2 at least")
    rows = daily * s.page_size
    yield Number("log a day", rows * ROW_BYTES, "byte", f"requests × {s.page_size:g} rows × {ROW_BYTES} B")
    kept = f"log a day × {load.log_days:g} days × 2 copies"
    yield _of("log storage", need["storage"], "byte", kept)
    labels = rows * system.label_share
    share = f"rows of the log × {system.label_share:.1%}"
    yield Number("positive labels a day", labels, "rows", share)
    training = labels + (rows - labels) * system.negatives_kept
    yield Number(
        "training rows a day", training, "rows", f"positives + {system.negatives_kept:.0%} of the others"
    )
    yield from _experiment_numbers(o)
    per_1000 = need["cost of 1,000 requests"]
    prices = "cores, memory and storage that are used, not whole machines, at list prices"
    yield _of("cost of 1,000 requests", per_1000, "dollar", prices)
    yield _of("cost a month", need["cost a month"], "dollar / month", prices)


def _experiment_numbers(o: Outline) -> Iterator[Number]:
    """The size of an A/B test, and what this system can see with the users that it has."""
    test = o.system.experiment
    n = sample_size_per_arm(test.sd, test.lift)
    formula = f"2 (1.96 + 0.84)² ({test.sd:g} / {test.lift:g})²: {test.metric}"
    yield Number(f"A/B: {test.unit}s an arm", n, f"{test.unit}s", formula)
    reached = KNOWN_USERS * o.spec.daily_users / 2
    known = f"{short(reached)} an arm: {KNOWN_USERS:g} known for each of a day, / 2"
    seen = f"{test.lift:.1%} × √(needed / {known})"
    yield Number("A/B: smallest lift seen", 100 * test.lift * math.sqrt(n / reached), "%", seen)
    days = TEST_DAYS + o.spec.label_delay_days
    yield Number("A/B: days to a result", days, "days", f"{TEST_DAYS} + label delay")


def _index_numbers(o: Outline, *stages: str) -> Iterator[Number]:
    """The bytes and shards of the indexes that the design has."""
    for stage in (o.design[name] for name in stages if name in o.design.resolved):
        each = stage.state_bytes / (o.spec.items * (BEYOND_SHARE if stage.name == "out-of-network" else 1))
        size = f"{short(stage.items_in)} {o.system.item}s × {each:g} B"
        yield Number(f"index of {stage.name}", stage.state_bytes, "byte", size)
        yield Number(f"shards of {stage.name}", shards(stage.state_bytes), "shards", "index / 12 GB")


def _score_all(o: Outline) -> Number:
    time = o.spec.items * SCORING_TIME
    return _of("score every item", time, "s", f"{short(o.spec.items)} × 10 µs on one core")


def _video_numbers(o: Outline) -> Iterator[Number]:
    yield _score_all(o)
    read = brute_force(o.spec.items, DIMENSIONS)["read"] * units.request
    yield _of("brute force reads", read, "byte", f"{short(o.spec.items)} × {DIMENSIONS} × 4 B a request")
    yield from _index_numbers(o, "vectors")


def _search_numbers(o: Outline) -> Iterator[Number]:
    yield _score_all(o)
    yield Number("cache hits", 100 * o.load.cache_hits, "%", "top 0.1% of distinct queries, Zipf")
    yield from _index_numbers(o, "BM25", "vectors")
    leaves = shards(o.design["BM25"].state_bytes)
    yield Number("quantile of a shard", 100 * leaf_quantile(0.99, leaves), "%", f"0.99 ^ (1 / {leaves})")


def _fraud_numbers(o: Outline) -> Iterator[Number]:
    s, rate = o.spec, o.system.label_share
    honest = o.load.daily_requests * (1 - rate)
    stopped = honest * FALSE_ALARMS
    yield Number(
        "honest stopped a day", stopped, "payments", f"honest payments × {FALSE_ALARMS:.1%} (Stripe)"
    )
    precision = precision_at_prevalence(RECALL, FALSE_ALARMS, rate)
    yield Number(
        "precision there", 100 * float(precision), "%", f"recall {RECALL}, prevalence {rate:.1%} (Bayes)"
    )
    threshold = cost_threshold(s.cost_fp, s.cost_fn)
    yield Number(
        "act from probability", 100 * threshold, "%", f"{s.cost_fp:g} / ({s.cost_fp:g} + {s.cost_fn:g})"
    )
    if "counters" in o.design.resolved:
        held = o.design["counters"].state_bytes
        yield Number("velocity counters", held, "byte", f"{KNOWN_USERS:g} × daily cards × 400 B")


def _feed_numbers(o: Outline) -> Iterator[Number]:
    yield _score_all(o)
    writes = o.spec.items / POST_DAYS * o.load.connections
    formula = f"posts / {POST_DAYS} days × {o.load.connections:.0f} connections"
    yield Number("inbox writes a day", writes, "writes", formula)
    yield Number("inventory of a refresh", o.load.inventory, "posts", "connections × 5 live posts")
    yield from _index_numbers(o, "out-of-network")


OWN_NUMBERS: Mapping[str, Callable[[Outline], Iterator[Number]]] = {
    "video recommendation": _video_numbers,
    "search engine": _search_numbers,
    "fraud detection": _fraud_numbers,
    "feed ranking": _feed_numbers,
}


# ------------------------------------------------------------------ the five steps


def _clarify(o: Outline) -> tuple[Block, ...]:
    s, system = o.spec, o.system
    fresh = f"{s.freshness_minutes:g} min" if s.freshness_minutes >= 1 else f"{60 * s.freshness_minutes:g} s"
    asked = [ask for ask in system.asks.values() if ask.field]
    chain = [
        f"{level}: {', '.join(m.name for m in system.metrics if m.level == level)}"
        for level in (*LEVELS, "guardrail")
    ]
    return (
        Block("Goal", (s.goal, f"never: {', '.join(s.anti_goals)}", s.users)),
        Block(
            "Constraints",
            (
                f"p99 {s.p99_ms:g} ms; a change is seen within {fresh}",
                f"a false alarm costs {s.cost_fp:g}, a miss {s.cost_fn:g} {system.cost_unit}",
            ),
        ),
        Block("Ask first", tuple(f"{ask.text} → {ask.changes}" for ask in asked[:6])),
        Block("Metrics", tuple(chain)),
    )


def _architecture(o: Outline) -> tuple[Block, ...]:
    design, budget = o.design, o.design.budget()
    added = budget.loc["sum of p99s", "p99"]
    slowest = budget["share"].drop(index=["p99 of the sum", "sum of p99s", "budget"]).idxmax()
    funnel = design.funnel()
    counts = [funnel["items_in"].max(), o.spec.candidates, *funnel["items_out"].tail(2)]
    narrowing = " → ".join(short(n) for n in sorted(set(counts), reverse=True))
    ladder = design.ladder()
    cores = {stage.name: o.needs[stage.name]["cores"].magnitude for stage in design.path("online")}
    busiest = sorted(cores, key=cores.get, reverse=True)[:3]
    ahead = ("ranked ahead: what is new comes in with the filter",) if "list" in cores else ()
    return (
        Block(
            f"Plan: {o.planned.plan}",
            (
                f"{o.system.item}s: {narrowing}; K\u00a0=\u00a0{short(o.spec.candidates)}",
                f"p99 {design.p99_ms:.0f} of {o.spec.p99_ms:g} ms; the sum of p99s is {added:.0f}",
                f"the slowest requests spend most on {slowest}: {budget.loc[slowest, 'share']:.0%}",
                *ahead,
            ),
        ),
        Block(
            "Where the cores go",
            tuple(f"{name}: {_share(cores[name] / sum(cores.values()))}" for name in busiest),
        ),
        Block(
            "When a stage fails",
            tuple(f"{row.Index} {row.failure}: {row.fallback}" for row in ladder.itertuples()),
        ),
        Block("Seams", tuple(f"{seam.kind}: {seam.source} → {seam.target}" for seam in design.seams)),
    )


def _share(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else "below 1%"


def _data(o: Outline) -> tuple[Block, ...]:
    s, system = o.spec, o.system
    days = f"{s.label_delay_days:g} {'day' if s.label_delay_days == 1 else 'days'}"
    kept = tuple(f"{f.name}: {f.retention_days:g} days" for f in s.data if f.retention_days is not None)
    consent = "must work without a profile" if s.consent_needed else "no consent needed, but reasons"
    return (
        Block("Label", (f"{s.label}; known after {days}", *system.labels)),
        Block("Static features", system.features["static"]),
        Block("Dynamic features", system.features["dynamic"]),
        Block("Privacy", (consent, *s.privacy, "kept: " + ", ".join(kept))),
    )


def _model(o: Outline) -> tuple[Block, ...]:
    verbs = ["climb"] * (len(o.system.ladder) - 1) + ["keep"]
    rungs = [
        Block(f"v{i} {rung.model}", (f"loss: {rung.loss}", f"{verb} when {rung.climb_when}"))
        for i, (rung, verb) in enumerate(zip(o.system.ladder, verbs, strict=True))
    ]
    offline = tuple(m.name for m in o.system.metrics if m.level == "offline")
    told = o.numbers["told"]
    rows = f"{told['training rows a day']}, {told['positive labels a day']} positive"
    gap = f"train, gap of {o.spec.label_delay_days:g} d, test; intervals by {o.system.unit}"
    return (
        *rungs,
        Block("Train", (f"a day: {rows}", "undo the sampling of negatives before a threshold or a sum")),
        Block("Judge offline", (*offline, gap, "by segment: the ones to guard, named in step 1")),
    )


def _deploy(o: Outline) -> tuple[Block, ...]:
    test, told, value = o.system.experiment, o.numbers["told"], o.numbers["value"]
    wanted = f"{test.metric}: {100 * test.lift:g}% needs {told[f'A/B: {test.unit}s an arm']} an arm"
    seen = value["A/B: smallest lift seen"]
    verdict = f"here {seen:.2g}% is the smallest lift seen: " + (
        "enough" if seen <= 100 * test.lift else "test bolder changes, or pool weeks"
    )
    alarms = tuple(f"{a.signal}, after {a.tells_after}: {a.action} ({a.owner})" for a in o.system.alarms)
    return (
        Block("Release", o.system.rollout),
        Block(
            "A/B test", (wanted, verdict, f"a result after {told['A/B: days to a result']}; check SRM first")
        ),
        Block("Alarms, quickest first, with owner", alarms),
        Block("Roll back when", (f"p99 passes {o.spec.p99_ms:g} ms, a guardrail falls, or parity breaks",)),
    )


def _refused(o: Outline) -> Block:
    """The richer plans, and why they were not taken."""
    lines = tuple(f"{plan}: {why}" for plan, why in o.planned.refused.items())
    return Block("Richer plans refused", lines or ("none: this is the richest plan that is known",))


def _staff(o: Outline) -> tuple[Block, ...]:
    """What only Staff is expected to bring: cost, sensitivity, risks, ownership and the order of work."""
    costs = {stage: need["cost a month"].magnitude for stage, need in o.needs.items() if stage != WHOLE}
    largest = max(costs, key=costs.get)
    told = o.numbers["told"]
    cost = (
        f"{told['cost of 1,000 requests']} for 1,000 requests, {told['cost a month']}",
        f"{largest} takes {costs[largest] / sum(costs.values()):.0%} of the cost: attack it first",
    )
    what_if = tuple(f"{news}: {_after(o, news)}" for news in ("ten times", "half the latency"))
    staff = o.system.staff
    return (
        Block("Cost", cost),
        Block("What if", what_if),
        _refused(o),
        Block("Risks", staff["risks"]),
        Block("Ownership", staff["ownership"]),
        Block("Order of work", staff["order of work"]),
    )


def _after(o: Outline, surprise: str) -> str:
    """What a surprise makes of the design."""
    try:
        changed = plan_for(surprised(o.spec, surprise))
    except ValueError:
        return "no plan is quick enough, so answer from a list made ahead"
    before, after = (needs[WHOLE]["cores"].magnitude for needs in (o.needs, changed.design.needs()))
    cores = "as many cores" if math.isclose(after, before) else f"{after / before:.2g} times the cores"
    if changed.plan == o.planned.plan:
        return f"the same plan with {cores}"
    return f"{changed.plan}, K\u00a0=\u00a0{short(changed.candidates)}, {cores}"


# ------------------------------------------------------------------ Markdown


def _markdown_table(numbers: pd.DataFrame) -> str:
    rows = [f"| {row.Index} | {row.told} | {row.formula} |" for row in numbers.itertuples()]
    return "\n".join(["| what | value | how |", "|---|---|---|", *rows])


def _markdown_blocks(blocks: Sequence[Block]) -> list[str]:
    return [f"**{b.heading}**\n\n" + "\n".join(f"- {line}" for line in b.lines) for b in blocks]


def _levels(design: Design) -> list[list[str]]:
    """The online stages, those that start together side by side."""
    levels: dict[int, list[str]] = {}
    for stage in design.path("online"):
        levels.setdefault(design.levels[stage.name], []).append(stage.name)
    return [levels[level] for level in sorted(levels)]


def _text_diagram(design: Design) -> str:
    """Both paths and the seams in plain text."""
    online = " → ".join(f"[{' | '.join(names)}]" for names in _levels(design))
    offline = " → ".join(f"[{stage.name}]" for stage in design.path("offline"))
    seams = [f"{seam.kind:8} {seam.source} → {seam.target}: {seam.contract}" for seam in design.seams]
    return "\n".join(["```text", f"online   {online}", f"offline  {offline}", *seams, "```"])


# ------------------------------------------------------------------ the page: everything in inches

WIDTH, HEIGHT = 11.69, 8.27  # A4 landscape
MARGIN, GUTTER = 0.3, 0.14
TOP = HEIGHT - 0.5  # below the title
DIAGRAM = 2.55  # height of the diagram
NUMBERS = 3.0  # width of the numbers beside it
NARROWEST = 0.75  # of the mean width of a column
SIZES = tuple(7.6 - 0.1 * i for i in range(19))  # points; the largest at which all lines fit is taken
HINTED = 1.03  # a small text on a screen is at most this much wider than its outlines
INDENT = 0.9  # of a line below its heading, in sizes
PITCH = 1.2  # from line to line, in sizes
STEP_COLORS = (GREEN, BLUE, ORANGE, PURPLE, GRAY)
INK = "#1A1A1A"


@cache
def _advance(character: str, bold: bool) -> float:
    """How wide a character is, for a size of 1."""
    font = get_font(findfont(FontProperties(weight="bold" if bold else "normal")))
    font.set_size(100, 72)
    return font.load_char(ord(character), flags=ft2font.LoadFlags.NO_HINTING).linearHoriAdvance / 65536 / 100


@cache
def _em(text: str, bold: bool) -> float:
    """How wide a text is, for a size of 1."""
    return HINTED * sum(_advance(character, bold) for character in text)


def _wrapped(text: str, width: float, size: float, bold: bool = False) -> list[str]:
    """A text in lines that are no wider than a width in inches, unless a single word is."""
    room, space = width * 72 / size, _em(" ", bold)
    lines, filled = [], 0.0
    for word in text.replace("→ ", "→\u00a0").split(" "):  # no line ends with an arrow
        wide = _em(word, bold)
        if lines and filled + space + wide <= room:
            lines[-1] += f" {word}"
            filled += space + wide
        else:
            lines.append(word)
            filled = wide
    return lines


class Printed(NamedTuple):
    """A line on the page: where it begins below the top of its column, and how it looks."""

    text: str
    indent: float
    down: float
    bold: bool


def _column(blocks: Sequence[Block], width: float, size: float) -> tuple[list[Printed], float]:
    """The lines of some blocks below each other, and the height that they take."""
    pitch, down, printed = PITCH * size / 72, 0.0, []
    indent = INDENT * size / 72
    for block in blocks:
        for line in _wrapped(block.heading, width, size, bold=True):
            printed.append(Printed(line, 0, down, True))
            down += pitch
        for text in block.lines:
            for i, line in enumerate(_wrapped(text, width - indent, size)):
                if i == 0:
                    printed.append(Printed("·", 0.3 * indent, down, False))
                printed.append(Printed(line, indent, down, False))
                down += pitch
        down += 0.35 * pitch
    return printed, down


def _balanced(blocks: Sequence[Block], columns: int, width: float, size: float) -> list[list[Block]]:
    """Blocks in columns as low as can be, in their order; a long block goes on in the next column."""
    heads = {block.heading: 0.35 + len(_wrapped(block.heading, width, size, bold=True)) for block in blocks}
    text_width = width - INDENT * size / 72
    lines = [
        (block.heading, line, len(_wrapped(line, text_width, size)))
        for block in blocks
        for line in block.lines
    ]
    lowest = (sum(heads.values()) + sum(tall for *_, tall in lines)) / columns
    while len(filled := _filled(lines, heads, lowest)) > columns:
        lowest += 0.5
    return filled + [[] for _ in range(columns - len(filled))]


def _filled(
    lines: Sequence[tuple[str, str, int]], heads: Mapping[str, float], height: float
) -> list[list[Block]]:
    """Lines, each with its heading, in as many columns as they need if none is higher than a height.

    lines: heading, text and height of each. heads: the height of each heading. Heights are in lines.
    """
    columns: list[list[Block]] = [[]]
    filled = 0.0
    for heading, text, tall in lines:
        goes_on = bool(columns[-1]) and columns[-1][-1].heading == heading
        more = tall + (0 if goes_on else heads[heading])
        if columns[-1] and filled + more > height:
            columns.append([Block(heading, (text,))])
            filled = tall + heads[heading]
            continue
        if goes_on:
            columns[-1][-1] = Block(heading, (*columns[-1][-1].lines, text))
        else:
            columns[-1].append(Block(heading, (text,)))
        filled += more
    return columns


def _page(o: Outline) -> Axes:
    figure = plt.figure(figsize=(WIDTH, HEIGHT), dpi=150)
    figure.set_layout_engine("none")  # every place on the page is given
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    ax.axis("off")
    ax.text(MARGIN, HEIGHT - 0.28, o.title, fontsize=13, weight="bold", va="center", color=INK)
    _diagram(ax, o.design, (MARGIN, TOP - DIAGRAM, WIDTH - 2 * MARGIN - NUMBERS - GUTTER, DIAGRAM))
    _numbers_table(ax, o, (WIDTH - MARGIN - NUMBERS, TOP - DIAGRAM, NUMBERS, DIAGRAM))
    _steps(ax, o)
    return ax


def _steps(ax: Axes, o: Outline) -> None:
    """The five steps side by side, and below them what the level expects."""
    widths = _fair_widths(list(o.steps.values()))
    level_widths = _shared([1] * len(widths))
    top, title = TOP - DIAGRAM - 0.12, 0.2
    room = top - MARGIN - 2 * title - 0.08
    for size in SIZES:
        steps = [_column(*part, size) for part in zip(o.steps.values(), widths, strict=True)]
        parts = _balanced(o.depth, len(widths), level_widths[0], size)
        depth = [_column(*part, size) for part in zip(parts, level_widths, strict=True)]
        step_height, depth_height = (max(height for _, height in part) for part in (steps, depth))
        if step_height + depth_height <= room:
            break
    else:
        raise ValueError(
            f"The lines take {step_height + depth_height:.1f} inches of height, but the page has {room:.1f}: "
            "shorten the texts of the ledger."
        )
    below = top - title - step_height - 0.08
    for name, color, x, width in zip(o.steps, STEP_COLORS, _lefts(widths), widths, strict=True):
        _heading(ax, name, (x, top), width, color)
    _heading(ax, f"Expected at {o.spec.seniority}", (MARGIN, below), WIDTH - 2 * MARGIN, INK)
    for columns, wide, y in ((steps, widths, top), (depth, level_widths, below)):
        for x, (lines, _) in zip(_lefts(wide), columns, strict=True):
            _print(ax, lines, (x, y - title), size)


def _shared(shares: Sequence[float]) -> list[float]:
    """The widths of columns between the margins, in proportion to their shares."""
    room = WIDTH - 2 * MARGIN - (len(shares) - 1) * GUTTER
    return [room * share / sum(shares) for share in shares]


def _fair_widths(steps: Sequence[Sequence[Block]]) -> list[float]:
    """Widths at which columns of different length are about as high as each other."""
    shares = [1.0] * len(steps)
    for _ in range(8):
        heights = [
            _column(*part, SIZES[len(SIZES) // 2])[1] for part in zip(steps, _shared(shares), strict=True)
        ]
        mean = sum(heights) / len(heights)
        shares = [share * math.sqrt(h / mean) for share, h in zip(shares, heights, strict=True)]
        shares = [max(NARROWEST, share * len(shares) / sum(shares)) for share in shares]
    return _shared(shares)


def _lefts(widths: Sequence[float]) -> list[float]:
    """Where columns of these widths begin."""
    return [MARGIN + sum(widths[:i]) + i * GUTTER for i in range(len(widths))]


def _heading(ax: Axes, text: str, place: tuple[float, float], width: float, color: str) -> None:
    x, y = place
    ax.plot([x, x + width], [y, y], color=color, linewidth=2, linestyle="-")
    ax.text(x, y - 0.04, text, fontsize=8.5, weight="bold", color=color, va="top")


def _print(ax: Axes, lines: Sequence[Printed], place: tuple[float, float], size: float) -> None:
    for line in lines:
        weight = "bold" if line.bold else "normal"
        y = place[1] - line.down - size / 72
        style = {"fontsize": size, "weight": weight, "color": INK, "parse_math": False}
        ax.text(place[0] + line.indent, y, line.text, **style)


Area = tuple[float, float, float, float]  # left, bottom, width, height


def _numbers_table(ax: Axes, o: Outline, area: Area) -> None:
    """The numbers, each with its value; the formulas stand in the Markdown and in `Outline.numbers`."""
    left, bottom, width, height = area
    _heading(ax, "Numbers", (left, bottom + height), width, INK)
    pitch = (height - 0.2) / len(o.numbers)
    size = min(7.6, 0.86 * 72 * pitch)
    for i, row in enumerate(o.numbers.itertuples()):
        y = bottom + height - 0.2 - (i + 0.75) * pitch
        ax.text(left, y, row.Index, fontsize=size, color=INK)
        ax.text(left + width, y, row.told, fontsize=size, weight="bold", ha="right", color=INK)


# ------------------------------------------------------------------ the diagram

BOX = 0.86  # of a column's width
OFFLINE_HEIGHT = 0.6
BAND = 0.34  # between the lanes: a track for each seam
SIDE = {"label": 0.15, "feature": 0.0, "model": -0.15}  # inches, so that seams at one box stand apart
NAME_OF_LANE = 0.62  # inches to the left of the offline boxes


def _diagram(ax: Axes, design: Design, area: Area) -> None:
    """The online path above, the offline path below it from right to left, dashed seams between them."""
    left, bottom, width, height = area
    online = OFFLINE_HEIGHT + 0.08 + BAND
    lanes = {"ONLINE": (bottom + online, height - online), "OFFLINE": (bottom, OFFLINE_HEIGHT + 0.08)}
    for name, (y, tall) in lanes.items():
        ax.add_patch(Rectangle((left, y), width, tall, color="#F3F3F3", zorder=0))
        ax.text(left + 0.05, y + tall - 0.04, name, fontsize=7, weight="bold", va="top", color=INK)
    told = "p50 / p99 in ms, all assumed: measure your own"
    ax.text(left + width - 0.05, bottom + height - 0.04, told, fontsize=6.5, va="top", ha="right", color=INK)
    y, tall = lanes["ONLINE"]
    places = _online_places(design, (left, y, width, tall - 0.16))
    offline = (left + NAME_OF_LANE, bottom + 0.04, width - NAME_OF_LANE, OFFLINE_HEIGHT)
    places |= _offline_places(design, offline)
    for stage in design.resolved.values():
        _box(ax, design, stage, places[stage.name])
        for before in stage.after:
            _arrow(ax, places[before], places[stage.name])
    for i, seam in enumerate(design.seams):
        track = bottom + OFFLINE_HEIGHT + 0.08 + (i + 0.5) / len(design.seams) * BAND
        _seam(ax, seam, places, track)


def _online_places(design: Design, area: Area) -> dict[str, Area]:
    """A box for each online stage: a column for those that start together."""
    left, bottom, width, height = area
    targets = {end for seam in design.seams for end in (seam.source, seam.target)}
    levels = [sorted(names, key=lambda name: name in targets) for names in _levels(design)]
    column, row = width / len(levels), height / max(map(len, levels))
    tall = min(0.42, 0.88 * row)
    places = {}
    for i, names in enumerate(levels):
        for j, name in enumerate(names):
            middle = bottom + height / 2 + ((len(names) - 1) / 2 - j) * row
            wide = min(BOX * column, 1.5)
            places[name] = (left + (i + 0.5) * column - wide / 2, middle - tall / 2, wide, tall)
    return places


def _offline_places(design: Design, area: Area) -> dict[str, Area]:
    left, bottom, width, tall = area
    stages = design.path("offline")
    column = width / len(stages)
    return {
        stage.name: (left + width - (i + 0.5) * column - 0.38 * column, bottom, 0.76 * column, tall)
        for i, stage in enumerate(stages)
    }


def _box(ax: Axes, design: Design, stage: Stage, place: Area) -> None:
    """The name of a stage, and below it its items and ms, or the seam that starts or ends there."""
    left, bottom, wide, tall = place
    color = BLUE if stage.path == "online" else GRAY
    style = {"boxstyle": "round,pad=0,rounding_size=0.04", "fc": "white", "ec": color, "lw": 1.2}
    ax.add_patch(FancyBboxPatch((left, bottom), wide, tall, zorder=2, **style))
    if stage.path == "online":
        items = [f"{_count(stage.items_in)} → {_count(stage.items_out)}"] if stage.items_in else []
        lines = [stage.name, *items, f"{_ms(stage.latency.p50)} / {_ms(stage.latency.p99)} ms"]
    else:
        told = [stage.state] if stage.state else []
        kinds = [s for s in design.seams if stage.name in (s.source, s.target)]
        lines = [stage.name, *told, *(f"{s.kind} seam: {s.contract}" for s in kinds)]
    size = 6.7
    name, *others = (_wrapped(text, wide - 0.06, size, bold=True) for text in lines)
    fitted = [*name, *(line for other in others for line in other)]
    size *= min(1.0, tall / (len(fitted) * PITCH * size / 72))
    for i, line in enumerate(fitted):
        y = bottom + tall / 2 + ((len(fitted) - 1) / 2 - i) * PITCH * size / 72
        weight = "bold" if i < len(name) else "normal"
        style = {"ha": "center", "va": "center", "color": INK, "zorder": 3}
        ax.text(left + wide / 2, y, line, fontsize=size, weight=weight, **style)


def _count(items: float) -> str:
    return short(float(f"{items:.3g}"))


def _ms(milliseconds: float) -> str:
    return f"{float(f'{milliseconds:.2g}'):g}"


def _arrow(ax: Axes, start: Area, end: Area) -> None:
    """From the side of one box to the facing side of the next."""
    ahead = end[0] > start[0]
    tail = start[0] + start[2] * ahead, start[1] + start[3] / 2
    head = end[0] + end[2] * (not ahead), end[1] + end[3] / 2
    style = {"arrowstyle": "-|>", "color": GRAY, "lw": 1, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    ax.annotate("", head, tail, arrowprops=style, zorder=1)


def _seam(ax: Axes, seam: Seam, places: Mapping[str, Area], track: float) -> None:
    """A dashed arrow that changes the lane along its own track."""
    color, dash = SEAM_STYLES[seam.kind]
    start, end = places[seam.source], places[seam.target]
    up = end[1] > start[1]
    first = start[0] + start[2] / 2 + SIDE[seam.kind], start[1] + start[3] * up
    route = [first, (first[0], track), *_landing(places, seam, track)]
    style = {"color": color, "linewidth": 1.4, "linestyle": dash, "zorder": 1}
    ax.plot(*zip(*route[:-1], strict=True), **style)
    head = {"arrowstyle": "-|>", "color": color, "lw": 1.4, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 8}
    ax.annotate("", route[-1], route[-2], arrowprops=head, zorder=1)


def _landing(places: Mapping[str, Area], seam: Seam, track: float) -> list[tuple[float, float]]:
    """From a track straight to a box, or to its side where other boxes stand between."""
    left, bottom, wide, tall = places[seam.target]
    x = left + wide / 2 + SIDE[seam.kind]
    if bottom < track:
        return [(x, track), (x, bottom + tall)]
    if any(place[0] == left and track < place[1] < bottom for place in places.values()):
        return [(left - 0.07, track), (left - 0.07, bottom + 0.2 * tall), (left, bottom + 0.2 * tall)]
    return [(x, track), (x, bottom)]
