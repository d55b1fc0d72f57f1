"""The design as an object: its diagram, latency budget, funnel, capacity and cost come from the same numbers.

A `Design` is made of stages, which stand one after the other or side by side, on an online and an offline
path, and of seams that join the two paths. It refuses to contradict itself. `change` returns a design with
other numbers, and everything that hangs on them follows.
"""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Any, NoReturn, Self

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pint
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch, Rectangle
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri

from helpers.capacity import cores_needed, rounded, units
from helpers.figures import BLUE, GRAY, GREEN, ORANGE, PURPLE

# ------------------------------------------------------------------ parts


@dataclass(frozen=True)
class Latency:
    """How many milliseconds a stage takes: measured, or assumed. Build it with one of the two methods."""

    p50: float
    p99: float
    source: str
    samples: np.ndarray | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Raise ValueError unless 0 < p50 <= p99, and a source says where they come from."""
        if not 0 < self.p50 <= self.p99 < np.inf:
            raise ValueError(f"A latency needs 0 < p50 <= p99, not {self.p50} and {self.p99} ms.")
        if not self.source.strip():
            raise ValueError("A latency needs a source: say where it was measured, or why it is assumed.")

    @classmethod
    def measured(cls, samples_ms: ArrayLike, source: str) -> Self:
        """Keep the milliseconds of many requests, shape (n,).

        Raises ValueError for fewer than 100 of them, which have no p99, and as the class does.
        """
        samples = np.sort(np.asarray(samples_ms, dtype=float))
        if samples.ndim != 1 or len(samples) < 100 or not np.isfinite(samples).all():
            raise ValueError(
                "A p99 needs one row of at least 100 finite milliseconds: measure more requests."
            )
        return cls(*(float(p) for p in np.quantile(samples, [0.5, 0.99])), source, samples)

    @classmethod
    def assumed(cls, p50_ms: float, p99_ms: float, source: str) -> Self:
        """Fit a lognormal to the two quantiles: sigma = ln(p99 / p50) / 2.33.

        Raises ValueError as the class does.
        """
        return cls(p50_ms, p99_ms, source)

    @property
    def kind(self) -> str:
        """Return "measured" or "assumed"."""
        return "assumed" if self.samples is None else "measured"

    def quantile(self, q: ArrayLike) -> np.ndarray:
        """Return the milliseconds that a share q of the requests does not exceed."""
        if self.samples is not None:
            return np.quantile(self.samples, q)
        return self.p50 * np.exp(np.log(self.p99 / self.p50) * ndtri(q) / ndtri(0.99))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return the milliseconds of n requests."""
        return self.quantile(rng.random(n))

    def times(self, factor: float, why: str) -> "Latency":
        """Return a latency `factor` times as long; unless the factor is 1, it is assumed from then on."""
        if factor == 1:
            return self
        return Latency(self.p50 * factor, self.p99 * factor, f"{self.source}; {why}")

    def __str__(self) -> str:
        """Return both quantiles and where they come from."""
        return f"{self.p50:.3g} / {self.p99:.3g} ms ({self.kind}: {self.source})"


NUMBERS = ("items_in", "items_out", "at_items", "qps", "core_ms", "state_bytes", "bytes_per_request")
PROMISES = {
    "owner": "say which team is called at night",
    "failure": "say how it breaks",
    "fallback": "say what the user gets when it is down",
}


@dataclass(frozen=True)
class Stage:
    """One stage of a path. Stages without `after` start together; others wait for all stages that they name.

    items_in: the items it receives; default: all that the stages before it return.
    items_out: the items it returns; default: as many as it receives.
    latency: needed online. qps: requests a second; default: the design's peak, for an online stage.
    core_ms: CPU time of a request. bytes_per_request: what crosses the network for it.
    at_items: for how many items received latency, core_ms and bytes_per_request are given; they then grow in
    proportion. Default: they do not depend on the items.
    state, state_bytes, replicas: what it holds, how large one copy is, and how many copies are kept.
    owner, failure, fallback: who is called, how it breaks, what happens then; needed online.

    Raises ValueError, with the name of the stage, for what is missing, negative or unknown.
    """

    name: str
    after: str | Sequence[str] = ()
    path: str = "online"
    items_in: float | None = None
    items_out: float | None = None
    latency: Latency | None = None
    at_items: float | None = None
    qps: float | None = None
    core_ms: float = 0.0
    bytes_per_request: float = 0.0
    state: str = ""
    state_bytes: float = 0.0
    replicas: int = 2
    owner: str = ""
    failure: str = ""
    fallback: str = ""

    def __post_init__(self) -> None:
        """Make `after` a tuple, and check what one stage alone can contradict."""
        after = (self.after,) if isinstance(self.after, str) else tuple(self.after)
        object.__setattr__(self, "after", after)
        if self.path not in ("online", "offline"):
            self.refuse(f"is on the path {self.path!r}: choose online or offline")
        for name in NUMBERS:
            value = getattr(self, name)
            if value is not None and not 0 <= value < np.inf:
                self.refuse(f"has {name} {value}: give a number of at least 0")
        if self.replicas < 1:
            self.refuse(f"has {self.replicas} replicas: keep at least one copy")
        if self.path == "online":
            self._check_promises()

    def _check_promises(self) -> None:
        if self.latency is None:
            self.refuse("is online but has no latency: measure one, or assume one and say why")
        for name, repair in PROMISES.items():
            if not getattr(self, name).strip():
                self.refuse(f"is online but has no {name}: {repair}")

    def refuse(self, complaint: str) -> NoReturn:
        """Raise ValueError with the name of the stage before the complaint."""
        raise ValueError(f"Stage {self.name!r} {complaint}.")


SEAMS = {
    "feature": ("offline", "online"),  # definitions computed offline are read online
    "label": ("online", "offline"),  # what was shown and done becomes training labels
    "model": ("offline", "online"),  # a published model or index
}


@dataclass(frozen=True)
class Seam:
    """Joins the two paths: kind "feature", "label" or "model", from a source stage to a target stage.

    contract: what both sides have promised. Raises ValueError for an unknown kind, or without a contract.
    """

    kind: str
    source: str
    target: str
    contract: str

    def __post_init__(self) -> None:
        """Check the kind and the contract."""
        if self.kind not in SEAMS:
            raise ValueError(f"{self} has an unknown kind: choose from {', '.join(SEAMS)}.")
        if not self.contract.strip():
            raise ValueError(f"{self} has no contract: say what both sides have promised.")

    def __str__(self) -> str:
        """Return the kind and the two ends."""
        return f"The {self.kind} seam from {self.source!r} to {self.target!r}"


@dataclass(frozen=True)
class Prices:
    """Dollars for a core for an hour, and for a gigabyte of memory or of storage for a month.

    The defaults have the order of magnitude of list prices in public clouds: put in your own.
    """

    core_hour: float = 0.04
    memory_gb: float = 3.0
    storage_gb: float = 0.02


# ------------------------------------------------------------------ the design


WHOLE = "whole"
DRAWS, SEED = 20_000, 0


@dataclass(frozen=True)
class Design:
    """A system that answers requests, as stages and seams.

    budget_ms: what the p99 of a request may be; None looks at a design without judging it.
    peak_qps: requests a second at the busiest time; `peak_factor` times the mean.
    utilization: the share of time for which a core may be busy at the peak.
    correlation: between the latencies of any two stages, from 0 (each is slow by itself) to 1 (all are slow
    in the same requests); on the scale of a Gaussian copula.

    Raises ValueError, with the name of the stage and a repair, when the design contradicts itself.
    """

    name: str
    stages: Sequence[Stage]
    seams: Sequence[Seam] = ()
    budget_ms: float | None = None
    peak_qps: float | None = None
    peak_factor: float = 2.5
    utilization: float = 0.6
    correlation: float = 0.0
    prices: Prices = Prices()

    def __post_init__(self) -> None:
        """Check what the stages contradict together, in the order in which a reviewer would."""
        object.__setattr__(self, "stages", tuple(self.stages))
        object.__setattr__(self, "seams", tuple(self.seams))
        self._check_numbers()
        self._check_names()
        self._check_seams()
        _ = self.resolved
        self._check_budget()

    # -------------------------------------------------------------- checks

    def _check_numbers(self) -> None:
        ranges = {
            "budget_ms": (self.budget_ms is None or self.budget_ms > 0, "above 0, or None"),
            "peak_qps": (self.peak_qps is None or self.peak_qps > 0, "above 0"),
            "peak_factor": (self.peak_factor >= 1, "at least 1"),
            "utilization": (0 < self.utilization < 1, "between 0 and 1"),
            "correlation": (0 <= self.correlation <= 1, "from 0 to 1"),
        }
        for name, (right, rule) in ranges.items():
            if not right:
                raise ValueError(f"{name} must be {rule}, not {getattr(self, name)}.")

    def _check_names(self) -> None:
        """Each name stands once, and each stage waits for others of its own path, without a circle."""
        paths: dict[str, str] = {}
        for stage in self.stages:
            if stage.name in paths or stage.name == WHOLE:
                stage.refuse("has a name that is taken: rename it")
            paths[stage.name] = stage.path
        if "online" not in paths.values():
            raise ValueError(f"The design {self.name!r} has no online stage: nothing answers a request.")
        for stage in self.stages:
            for name in stage.after:
                if name not in paths:
                    stage.refuse(f"waits for {name!r}, which does not exist: choose from {', '.join(paths)}")
                if paths[name] != stage.path:
                    stage.refuse(f"waits for {name!r} on the other path: join the paths with a Seam")
        self._check_circles()

    def _check_circles(self) -> None:
        try:
            TopologicalSorter({stage.name: stage.after for stage in self.stages}).prepare()
        except CycleError as error:
            circle = " -> ".join(map(repr, error.args[1]))
            raise ValueError(f"Stages wait for each other in a circle, {circle}: cut it.") from None

    def _check_seams(self) -> None:
        paths = {stage.name: stage.path for stage in self.stages}
        for seam in self.seams:
            for name, path in zip((seam.source, seam.target), SEAMS[seam.kind], strict=True):
                if paths.get(name) != path:
                    raise ValueError(f"{seam} needs {name!r} to be an {path} stage: it is {paths.get(name)}.")

    def _check_budget(self) -> None:
        if self.budget_ms is None or self.p99_ms <= self.budget_ms:
            return
        share = self._tail_share
        raise ValueError(
            f"The design {self.name!r} is over budget: the p99 of a request is {self.p99_ms:.4g} ms, not "
            f"{self.budget_ms:g} ms. Stage {share.idxmax()!r} takes {share.max():.0%} of the slowest ones: "
            "make it faster, give it fewer items, or run it beside another. budget_ms=None shows the rest."
        )

    # -------------------------------------------------------------- numbers that hang on others

    @cached_property
    def resolved(self) -> dict[str, Stage]:
        """The stages in the order of their paths, with every default filled in and scaled to its items."""
        given = {stage.name: stage for stage in self.stages}
        levels = self.levels
        resolved: dict[str, Stage] = {}
        for name in sorted(given, key=lambda name: (given[name].path == "offline", levels[name])):
            received = sum(resolved[before].items_out for before in given[name].after)
            resolved[name] = self._resolve(given[name], received)
        return resolved

    @cached_property
    def levels(self) -> dict[str, int]:
        """How many stages stand before each stage, counted along the longest way."""
        after = {stage.name: stage.after for stage in self.stages}
        levels: dict[str, int] = {}
        for name in TopologicalSorter(after).static_order():
            levels[name] = 1 + max((levels[before] for before in after[name]), default=-1)
        return levels

    def _resolve(self, stage: Stage, received: float) -> Stage:
        items_in = received if stage.items_in is None else stage.items_in
        items_out = items_in if stage.items_out is None else stage.items_out
        if 0 < received < items_in:
            stage.refuse(
                f"receives {items_in:,g} items, but those before it return {received:,g}: lower items_in"
            )
        if items_out > items_in:
            stage.refuse(f"returns {items_out:,g} items, but receives {items_in:,g}: lower items_out")
        online = stage.path == "online"
        qps = self.peak_qps if stage.qps is None and online else stage.qps
        if online and qps is None:
            stage.refuse("has a p99 but no QPS: give the design its peak_qps, or the stage its qps")
        filled = replace(stage, items_in=items_in, items_out=items_out, qps=qps or 0.0)
        return filled if stage.at_items is None else _in_proportion(filled)

    def __getitem__(self, stage: str) -> Stage:
        """Return a stage with its defaults filled in. Raises KeyError when there is none of that name."""
        return self.resolved[stage]

    def path(self, name: str) -> list[Stage]:
        """Return the stages of the online or the offline path, in their order."""
        return [stage for stage in self.resolved.values() if stage.path == name]

    # -------------------------------------------------------------- latency

    def latency(self, n: int = DRAWS, seed: int = SEED) -> pd.DataFrame:
        """Draw the milliseconds of n requests: a column for each online stage, and the whole.

        A stage keeps its random numbers when another gets faster or slower: designs are compared fairly.
        """
        online, rng = self.path("online"), np.random.default_rng(seed)
        shared, own = rng.standard_normal((n, 1)), rng.standard_normal((n, len(online)))
        together = ndtr(np.sqrt(self.correlation) * shared + np.sqrt(1 - self.correlation) * own)
        drawn = {s.name: s.latency.quantile(u) for s, u in zip(online, together.T, strict=True)}
        return pd.DataFrame(drawn | {WHOLE: self._finish(drawn)[WHOLE]})

    def _finish(self, ms: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
        """When each stage is done, if each begins once the slowest of those before it is done."""
        done: dict[str, np.ndarray] = {}
        for stage in self.path("online"):
            done[stage.name] = ms[stage.name] + _latest(done, stage.after)
        return done | {WHOLE: _latest(done, list(done))}

    @cached_property
    def _drawn(self) -> pd.DataFrame:
        return self.latency()

    @property
    def p99_ms(self) -> float:
        """The p99 of a whole request, in milliseconds."""
        return float(self._drawn[WHOLE].quantile(0.99))

    @cached_property
    def _tail_share(self) -> pd.Series:
        """The share of each stage in the time of the slowest 1% of requests; 0 when nobody waits for it."""
        slow = self._drawn[self._drawn[WHOLE] >= self.p99_ms]
        done = self._finish(slow)
        waited = {name: np.full(len(slow), name == WHOLE) for name in done}
        before = {stage.name: stage.after for stage in self.path("online")} | {WHOLE: [*done][:-1]}
        for name in reversed(done):
            if before[name]:
                last = np.argmax([done[other] for other in before[name]], axis=0)
                for i, other in enumerate(before[name]):
                    waited[other] |= waited[name] & (last == i)
        times = {name: (slow[name] * waited[name]).sum() for name in before if name != WHOLE}
        return pd.Series(times) / slow[WHOLE].sum()

    def budget(self) -> pd.DataFrame:
        """Return the latency budget: a row for each online stage, then the whole request.

        Columns: p50 and p99 in ms; share, of the time of the slowest 1% of requests; kind, and source.
        "sum of p99s" adds the p99s along the slowest way through the stages, "p99 of the sum" is what a
        request takes; the last row is the budget, if there is one.
        """
        online = {stage.name: stage.latency for stage in self.path("online")}
        added = self._finish({name: ms.p99 for name, ms in online.items()})[WHOLE]
        rows = {
            name: (ms.p50, ms.p99, self._tail_share[name], ms.kind, ms.source) for name, ms in online.items()
        }
        rows["sum of p99s"] = np.nan, added, np.nan, "", "the p99s added along the slowest way"
        rows["p99 of the sum"] = (
            self._drawn[WHOLE].median(),
            self.p99_ms,
            1.0,
            "",
            f"{DRAWS:,} requests drawn",
        )
        if self.budget_ms is not None:
            rows["budget"] = np.nan, self.budget_ms, np.nan, "", "promised"
        columns = ["p50", "p99", "share", "kind", "source"]
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).astype({"p99": float})

    # -------------------------------------------------------------- capacity and cost

    def needs(self) -> dict[str, dict[str, pint.Quantity]]:
        """Return what each stage, and the whole, needs at the peak, as quantities with units.

        The keys are cores, memory and storage (all copies of the state, online and offline), bandwidth,
        "cost a month", and "cost of 1,000 requests", which all requests share, at the mean rate.
        """
        needs = {name: self._needs(stage) for name, stage in self.resolved.items()}
        lines = next(iter(needs.values()))
        return needs | {WHOLE: {line: sum(need[line] for need in needs.values()) for line in lines}}

    def _needs(self, stage: Stage) -> dict[str, pint.Quantity]:
        peak, prices = stage.qps * units.QPS, self.prices
        cores = cores_needed(peak, stage.core_ms * units.core * units.ms / units.request, self.utilization)
        kept = stage.replicas * stage.state_bytes * units.byte
        memory, storage = (kept, 0 * kept) if stage.path == "online" else (0 * kept, kept)
        cost = (
            cores * prices.core_hour * units.dollar / units.core / units.hour
            + memory * prices.memory_gb * units.dollar / units.GB / units.month
            + storage * prices.storage_gb * units.dollar / units.GB / units.month
        ).to("dollar / month")
        return {
            "cores": cores,
            "memory": memory,
            "storage": storage,
            "bandwidth": (peak * stage.bytes_per_request * units.byte / units.request).to("byte / second"),
            "cost a month": cost,
            "cost of 1,000 requests": (1000 * units.request * cost / self.mean_rate).to("dollar"),
        }

    @property
    def mean_rate(self) -> pint.Quantity:
        """Requests a second over the whole day; the busiest stage stands for a design without peak_qps."""
        peak = self.peak_qps or max(stage.qps for stage in self.path("online"))
        return peak / self.peak_factor * units.QPS

    def capacity(self) -> pd.DataFrame:
        """Return `needs` as a table of text: a row for each stage, and the whole; two digits and a unit."""
        rows = {name: {line: _told(q) for line, q in need.items()} for name, need in self.needs().items()}
        return pd.DataFrame.from_dict(rows, orient="index")

    # -------------------------------------------------------------- items and failures

    def funnel(self) -> pd.DataFrame:
        """Return what each online stage makes of its items: items_in, items_out, kept (a share), p50 in ms.

        Stages that handle no items are left out.
        """
        stages = [stage for stage in self.path("online") if stage.items_in > 0]
        rows = {s.name: (s.items_in, s.items_out, s.items_out / s.items_in, s.latency.p50) for s in stages}
        return pd.DataFrame.from_dict(rows, orient="index", columns=["items_in", "items_out", "kept", "p50"])

    def ladder(self) -> pd.DataFrame:
        """Return the degradation ladder: failure, fallback and owner of each online stage, in their order."""
        rows = {stage.name: [getattr(stage, name) for name in PROMISES] for stage in self.path("online")}
        table = pd.DataFrame.from_dict(rows, orient="index", columns=[*PROMISES])
        return table[["failure", "fallback", "owner"]]

    # -------------------------------------------------------------- other numbers

    def change(self, stage: str | None = None, /, **changes: Any) -> "Design":
        """Return a design with other numbers: of a stage, or of the whole when no stage is named.

        Raises ValueError when there is no such stage or number, and as the class does.
        """
        if stage is None:
            return _replaced(self, f"the design {self.name!r}", changes)
        if stage not in self.resolved:
            raise ValueError(f"There is no stage {stage!r}: choose from {', '.join(self.resolved)}.")
        stages = [_replaced(s, f"stage {stage!r}", changes) if s.name == stage else s for s in self.stages]
        return replace(self, stages=stages)

    def compare(self, other: "Design") -> pd.DataFrame:
        """Return what differs in another design, as text: columns stage, what, before (this one), after."""
        before, after = self._facts(), other._facts()
        names = list(dict.fromkeys([*before, *after]))
        rows = [(*name, before.get(name, ""), after.get(name, "")) for name in names]
        table = pd.DataFrame(rows, columns=["stage", "what", "before", "after"])
        return table[table["before"] != table["after"]].reset_index(drop=True)

    def _facts(self) -> dict[tuple[str, str], str]:
        """Everything that can differ between two designs, as text."""
        stages = {
            (s.name, f.name): _said(getattr(s, f.name)) for s in self.resolved.values() for f in fields(s)
        }
        needs = {
            (name, line): _told(q, digits=3)
            for name, need in self.needs().items()
            for line, q in need.items()
        }
        return stages | needs | {(WHOLE, "p99"): f"{self.p99_ms:.3g} ms"}

    # -------------------------------------------------------------- pictures

    def draw(self) -> Axes:
        """Draw the diagram: the online path above, the offline path below, dashed seams between them.

        A solid frame and a full dot mark a measured latency, a dashed frame and a ring an assumed one.
        """
        return _diagram(self)

    def draw_funnel(self) -> Axes:
        """Draw what each stage receives (light) and returns (dark), as widths on a log scale, with its ms.

        Raises ValueError when no stage handles items.
        """
        return _funnel(self)

    def draw_budget(self) -> Axes:
        """Draw p50 (dark) and p99 (light) of each stage and of the whole, against the budget."""
        return _budget(self)


def _in_proportion(stage: Stage) -> Stage:
    """A stage whose time, work and traffic are scaled from `at_items` to the items that it receives."""
    if not (stage.at_items and stage.items_in):
        stage.refuse(
            f"costs as for {stage.at_items:g} items, but receives {stage.items_in:g}: neither may be 0"
        )
    factor = stage.items_in / stage.at_items
    return replace(
        stage,
        latency=stage.latency and stage.latency.times(factor, f"scaled from {stage.at_items:,g} items"),
        core_ms=stage.core_ms * factor,
        bytes_per_request=stage.bytes_per_request * factor,
        at_items=None,
    )


def _latest(done: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray | float:
    """When the last of the named stages is done; 0 when there is none."""
    return np.max([done[name] for name in names], axis=0) if len(names) else 0.0


def _replaced(thing: Any, called: str, changes: Mapping[str, Any]) -> Any:
    names = [f.name for f in fields(thing)]
    unknown = sorted(set(changes) - set(names))
    if unknown:
        raise ValueError(f"There is no {', '.join(unknown)} in {called}: choose from {', '.join(names)}.")
    return replace(thing, **changes)


def _told(quantity: pint.Quantity, digits: int = 2) -> str:
    """A quantity as text, bytes in the prefix that fits."""
    is_bytes = quantity.check("[]") or quantity.check("1 / [time]")
    return rounded(quantity.to_compact() if is_bytes else quantity, digits)


def _said(value: Any) -> str:
    return f"{value:,.10g}" if isinstance(value, float | int) else str(value)


# ------------------------------------------------------------------ the diagram

BOX_WIDTH, BOX_HEIGHT = 0.83, 0.88  # of a column and of a row
COLUMN, ROW = 1.95, 1.1  # inches
HALF_LINE = 0.08  # of a row
BAND = 2.6  # rows from the lowest online box to the highest offline one; the seams are named in it
LABEL_GAP = 1.3  # columns between the labels of two seams
SEAM_STYLES = {
    "feature": (GREEN, (0, (5, 2))),
    "label": (PURPLE, (0, (1.5, 1.5))),
    "model": (ORANGE, (0, (6, 2, 1.5, 2))),
}
MARKS = {"measured": "●", "assumed": "○"}
KEY = "p50 / p99 ms;  ● solid: measured,  ○ dashed: assumed"

Place = tuple[float, float]


def _diagram(design: Design) -> Axes:
    places = _places(design)
    right, top = np.max([(2, 0), *places.values()], axis=0)  # the key needs three columns
    bottom = min(y for _, y in places.values())
    ax = plt.subplots(figsize=(COLUMN * (right + 1.1), ROW * (top - bottom + 2.2)))[1]
    ax.set(xlim=(-0.55, right + 0.55), ylim=(bottom - 0.85, top + 1.1), title=design.name)
    ax.axis("off")
    _lanes(ax, design, top, bottom)
    lanes = {path: [places[stage.name] for stage in design.path(path)] for path in ("online", "offline")}
    for stage in design.resolved.values():
        _stage_box(ax, stage, places[stage.name])
        for before in stage.after:
            _flow(ax, places[before], places[stage.name], lanes[stage.path])
    for i, (seam, x) in enumerate(_labeled(design, places, right)):
        _seam_line(ax, seam, places, x, shift=0.1 * (i - (len(design.seams) - 1) / 2))
    return ax


def _places(design: Design) -> dict[str, Place]:
    """The middle of each box: online from left to right, offline back from right to left below it."""
    last = max(design.levels.values())
    places: dict[str, Place] = {}
    for path, middle in _lane_middles(design).items():
        for level, names in _columns(design, path).items():
            x = level if path == "online" else last - level
            places |= {name: (x, middle + (len(names) - 1) / 2 - i) for i, name in enumerate(names)}
    return places


def _columns(design: Design, path: str) -> dict[int, list[str]]:
    columns: dict[int, list[str]] = {}
    for stage in design.path(path):
        columns.setdefault(design.levels[stage.name], []).append(stage.name)
    return columns


def _lane_middles(design: Design) -> dict[str, float]:
    """The height of the middle of both lanes; the lowest online box stands at 0."""
    online, offline = (
        max(map(len, _columns(design, path).values()), default=1) for path in ("online", "offline")
    )
    return {"online": (online - 1) / 2, "offline": -BAND - (offline - 1) / 2}


def _lanes(ax: Axes, design: Design, top: float, bottom: float) -> None:
    """Shade the lanes and name them."""
    (left, right), style = ax.get_xlim(), {"color": "#F3F3F3", "zorder": 0}
    budget = f", budget {design.budget_ms:g} ms" if design.budget_ms else ""
    ax.add_patch(Rectangle((left, -0.5), right - left, top + 1.5, **style))
    ax.text(
        left + 0.08, top + 0.75, f"ONLINE: p99 {design.p99_ms:.0f} ms{budget}", va="center", weight="bold"
    )
    ax.text(left + 0.08, bottom - 0.7, KEY, va="center", fontsize=11)
    if design.path("offline"):
        ax.add_patch(Rectangle((left, bottom - 0.5), right - left, -BAND + 1.4 - bottom, **style))
        ax.text(left + 0.08, -BAND + 0.66, "OFFLINE", va="center", weight="bold")


def _stage_box(ax: Axes, stage: Stage, place: Place) -> None:
    """A box with the name of a stage, its items, and its ms; dashed when these are assumed."""
    kind = stage.latency.kind if stage.latency else "measured"
    corner = (place[0] - BOX_WIDTH / 2, place[1] - BOX_HEIGHT / 2)
    color, dash = (BLUE if stage.path == "online" else GRAY), ("--" if kind == "assumed" else "-")
    style = {"boxstyle": "round,pad=0,rounding_size=0.06", "fc": "white", "ec": color, "lw": 2, "ls": dash}
    ax.add_patch(FancyBboxPatch(corner, BOX_WIDTH, BOX_HEIGHT, mutation_aspect=COLUMN / ROW, **style))
    name, details = textwrap.fill(stage.name, 16), _details(stage)
    lines = name.count("\n") + 1
    split = place[1] + HALF_LINE * (len(details) - lines)  # the name above it, the details below it
    text = {"ha": "center", "fontsize": 11, "linespacing": 1.05}
    ax.text(place[0], split + 0.01, name, va="bottom", weight="bold", **text)
    ax.text(place[0], split - 0.01, "\n".join(details), va="top", **text)


def _details(stage: Stage) -> list[str]:
    """What stands under the name of a stage: its items and its ms, each where it has them."""
    items, ms = (stage.items_in, stage.items_out), stage.latency
    counted = [" → ".join(map(_count, items))] if stage.items_in else []
    return counted + ([f"{MARKS[ms.kind]} {ms.p50:.2g} / {ms.p99:.2g} ms"] if ms else [])


def _count(items: float) -> str:
    """A number of items, short: 1B, 2.5M, 1,000."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if items >= size:
            return f"{items / size:.3g}{letter}"
    return f"{items:,.0f}"


def _flow(ax: Axes, start: Place, end: Place, places: Sequence[Place]) -> None:
    """An arrow between two boxes of one lane, round the boxes between them."""
    ahead = np.sign(end[0] - start[0])
    route = [(start[0] + ahead * BOX_WIDTH / 2, start[1]), (end[0] - ahead * BOX_WIDTH / 2, end[1])]
    if abs(end[0] - start[0]) > 1:
        between = [y for x, y in places if 0 < (x - start[0]) * ahead < (end[0] - start[0]) * ahead]
        y = _free_height(start[1], between)
        route[1:1] = [(start[0] + ahead * 0.5, y), (end[0] - ahead * 0.5, y)]
    _arrow(ax, route, color=GRAY, linewidth=1.6)


def _free_height(y: float, taken: Sequence[float]) -> float:
    """The height nearest to y, in quarters of a row and rather below, at which there is no box."""
    heights = [y + sign * step / 4 for step in range(40) for sign in (-1, 1)]
    return next(h for h in heights if all(abs(h - other) > BOX_HEIGHT / 2 for other in taken))


def _arrow(ax: Axes, route: Sequence[Place], **style: Any) -> None:
    """A line through all points of a route, with a head at its end."""
    ax.plot(*zip(*route[:-1], strict=True), **({"linestyle": "-"} | style), zorder=1)
    head = {"arrowstyle": "-|>", "mutation_scale": 16, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", route[-1], route[-2], arrowprops=head | style)


def _labeled(design: Design, places: Mapping[str, Place], right: float) -> list[tuple[Seam, float]]:
    """The seams with the x of their labels: between their ends, and apart from each other."""

    def middle(seam: Seam) -> float:
        return (places[seam.source][0] + places[seam.target][0]) / 2

    seams = sorted(design.seams, key=middle)
    xs: list[float] = []
    for i, seam in enumerate(seams):
        first, last = LABEL_GAP * i, right - LABEL_GAP * (len(seams) - 1 - i)
        xs.append(max(min(middle(seam), last), xs[-1] + LABEL_GAP if xs else 0.0, min(first, last)))
    return list(zip(seams, xs, strict=True))


def _seam_line(ax: Axes, seam: Seam, places: Mapping[str, Place], x: float, shift: float) -> None:
    """A dashed arrow between the lanes, through a label that states the contract.

    `shift` keeps its ends apart from those of other seams.
    """
    color, dash = SEAM_STYLES[seam.kind]
    label = (x, -BAND / 2 + 0.1)
    route = [*reversed(_way(places, seam.source, shift)), label, *_way(places, seam.target, shift)]
    _arrow(ax, route, color=color, linewidth=2, linestyle=dash)
    text = f"{seam.kind} seam\n{textwrap.fill(seam.contract, 26, break_on_hyphens=False)}"
    frame = {"fc": "white", "ec": color, "boxstyle": "round,pad=0.3"}
    ax.text(*label, text, ha="center", va="center", fontsize=11, color=color, bbox=frame, zorder=5)


def _way(places: Mapping[str, Place], name: str, shift: float) -> list[Place]:
    """The corners from the band of labels to a box: straight to it, or beside the boxes before it."""
    x, y = places[name]
    edge, toward = (-0.48, -1) if y >= 0 else (0.48 - BAND, 1)
    if any(other[0] == x and 0 < (other[1] - y) * toward < BAND - 1 for other in places.values()):
        gutter, side = x - 0.5 + shift / 4, y + 0.25 - shift / 2  # above the arrows of the flow
        return [(gutter, edge), (gutter, side), (x - BOX_WIDTH / 2, side)]
    return [(x + shift, edge), (x + shift, y + toward * BOX_HEIGHT / 2)]


# ------------------------------------------------------------------ funnel and budget


def _funnel(design: Design) -> Axes:
    table = design.funnel()
    if table.empty:
        raise ValueError(f"No stage of {design.name!r} handles items: give the first ones their items_in.")
    ax = plt.subplots(figsize=(10.5, 1 + 0.48 * len(table)))[1]
    widths = np.log10(1 + table[["items_in", "items_out"]])
    edge = widths.to_numpy().max() / 2
    for y, (name, row) in enumerate(widths.iterrows()):
        ax.barh(y, row.items_in, left=-row.items_in / 2, height=0.7, color="#CCE3F0", ec=BLUE)
        ax.barh(y, row.items_out, left=-row.items_out / 2, height=0.7, color=BLUE)
        stage = design[name]
        ax.text(1.06 * edge, y, "   ".join(_details(stage)), va="center")
    ax.set_yticks(range(len(table)), table.index)
    ax.set(xlim=(-1.03 * edge, 2.6 * edge), ylim=(len(table) - 0.4, -0.6), xticks=[])
    ax.set(
        title=design.name,
        xlabel="items in (light), out (dark), log scale; p50 / p99 ms, ● measured, ○ assumed",
    )
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    ax.tick_params(left=False)
    return ax


def _budget(design: Design) -> Axes:
    table = design.budget().drop(index="budget", errors="ignore")
    ax = plt.subplots(figsize=(10.5, 1.3 + 0.42 * len(table)))[1]
    colors = [BLUE] * (len(table) - 2) + [GRAY, GREEN]
    hatches = ["///" if kind == "assumed" else "" for kind in table["kind"]]
    ax.barh(range(len(table)), table["p99"], color="white", ec=colors, hatch=hatches, height=0.66)
    ax.barh(range(len(table)), table["p50"].fillna(0), color=colors, height=0.66)
    for y, row in enumerate(table.itertuples()):
        share = f", {row.share:.0%}" if row.kind else ""
        ax.text(1.01, y, f"{row.p99:.3g} ms{share}", va="center", transform=ax.get_yaxis_transform())
    ax.text(1.01, -0.7, "p99, share of slowest 1%", va="bottom", transform=ax.get_yaxis_transform())
    ax.set_yticks(range(len(table)), [f"{i} {MARKS.get(k, '')}" for i, k in table["kind"].items()])
    ax.set(xlabel="ms: p50 filled, p99 framed (hatched ○: assumed)", ylim=(len(table) - 0.4, -0.6))
    ax.set_title(design.name, pad=26)
    ax.grid(visible=False, axis="y")
    if design.budget_ms is not None:
        ax.axvline(design.budget_ms, color=ORANGE, linestyle="--")
        label = f"budget {design.budget_ms:g} ms"
        ax.text(design.budget_ms, -0.7, label, color=ORANGE, ha="right", va="bottom", weight="bold")
    return ax
