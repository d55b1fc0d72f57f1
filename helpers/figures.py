"""One style for every figure, alt text that states the finding, and sentences whose numbers are computed.

A drawing helper returns a Matplotlib ``Axes`` and never shows it. `show` displays a figure once, with the
finding as its alt text and as its caption: JupyterLab drops the alt text of an image, the caption it keeps.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from IPython.display import Markdown, display
from matplotlib import ticker
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

# Okabe and Ito's blue, orange and green, told apart by people with any common kind of color blindness, and
# three more with the contrast of at least 3 to 1 on white that a projector needs.
BLUE, ORANGE, GREEN, PURPLE, GRAY, BLACK = "#0072B2", "#D55E00", "#009E73", "#AA4499", "#6E6E6E", "#000000"
COLORS = (BLUE, ORANGE, GREEN, PURPLE, GRAY, BLACK)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))

STYLE = {
    "figure.figsize": (8.5, 4.2),
    "figure.dpi": 110,
    "figure.constrained_layout.use": True,
    "font.size": 13,
    "axes.titlesize": 14,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E3E3E3",
    "lines.linewidth": 2.4,
    # Every color comes with a dash of its own, so a line is known without its color.
    "axes.prop_cycle": cycler(color=COLORS) + cycler(linestyle=DASHES),
    "legend.frameon": False,
}
plt.rcParams.update(STYLE)

MANY_DECADES = 300  # high over low of a log axis, from which ticks at 2 and 5 would run into each other
SHORTEST_FINDING = 30  # characters; less names a chart but states nothing


def say(sentence: str) -> None:
    """Show a sentence as prose; its numbers come from an f-string, never from the keyboard."""
    display(Markdown(sentence))


def show(ax: Axes, finding: str) -> None:
    """Show the figure of `ax` once, with the finding as alt text and caption.

    Raises ValueError when the finding is too short to state anything.
    """
    if len(finding.strip()) < SHORTEST_FINDING:
        raise ValueError(
            f"The finding {finding!r} is too short. Say what the figure shows, with its numbers."
        )
    figure = ax.get_figure(root=True)
    display(figure, metadata={"image/png": {"alt": finding}})
    plt.close(figure)
    display(Markdown(f"*{finding}*"))


def interval_dots(
    intervals: Mapping[str, Any], xlabel: str, reference: float | None = None, spec: str = ".3f"
) -> Axes:
    """Draw one named interval a line, top to bottom: a dot for the estimate, a bar from low to high.

    intervals: name -> `metrics.Interval` (anything with estimate, low and high).
    reference: where to draw a vertical line, such as 0 for differences.
    spec: the format of the numbers in the labels.
    """
    ax = plt.subplots(figsize=(8.5, 1.2 + 0.6 * len(intervals)))[1]
    for row, interval in enumerate(intervals.values()):
        ax.hlines(row, interval.low, interval.high, color=BLUE, linewidth=4, alpha=0.45)
        ax.plot(interval.estimate, row, "o", color=BLUE, markersize=9)
        place = {"xytext": (0, 8), "textcoords": "offset points", "ha": "center"}
        # On white, so that the line of the reference does not strike the numbers out.
        paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.annotate(format(interval, spec), (interval.estimate, row), bbox=paper, **place)
    if reference is not None:
        ax.axvline(reference, color="black", linewidth=1)
    ax.set_yticks(range(len(intervals)), list(intervals))
    ax.set(xlabel=xlabel, ylim=(len(intervals) - 0.5, -0.8))
    ax.grid(visible=False, axis="y")
    _keep_labels_inside(ax)
    return ax


def _keep_labels_inside(ax: Axes) -> None:
    """Widen x until a label centered on the outermost dot ends before the edge of the axes."""
    ax.figure.draw_without_rendering()
    widest = max(text.get_window_extent().width for text in ax.texts) / ax.bbox.width
    half = min(widest / 2 + 0.01, 0.4)
    ax.margins(x=half / (1 - 2 * half))


def lines(
    x: ArrayLike,
    curves: Mapping[str, ArrayLike] | pd.DataFrame,
    xlabel: str,
    ylabel: str,
    scale: str = "linear",
) -> Axes:
    """Draw named curves over the same x, each labeled at its right end in its own color.

    curves: name -> values, or a table whose columns are the curves.
    scale: "linear", "log x" or "log" for both axes; on a log axis the ticks are the values of x.
    """
    ax = plt.subplots()[1]
    named = dict(curves.items())
    for values, color, dash in zip(named.values(), COLORS, DASHES, strict=False):
        ax.plot(x, values, color=color, linestyle=dash, marker="o", markersize=5)
    if scale != "linear":
        ax.set_xscale("log")
        ax.set_xticks(x, [short(value) for value in x])
        ax.minorticks_off()
    elif np.issubdtype(np.asarray(x).dtype, np.integer):
        ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    ax.set(xlabel=xlabel, ylabel=ylabel, **({"yscale": "log"} if scale == "log" else {"ylim": (0, None)}))
    if scale == "log":
        _plain_log_ticks(ax)
    _label_right_ends(ax, list(named))
    return ax


def short(value: float) -> str:
    """Return a number as it is spoken: from a million on in millions or billions, as 2M or 1B."""
    for size, letter in ((1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:,.10g}{letter}"
    return f"{value:,.10g}"


def _plain_log_ticks(ax: Axes) -> None:
    """Write the ticks of a log y axis as plain numbers; within few decades, also at 2 and 5 of each."""
    low, high = ax.get_ylim()
    ax.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if high < MANY_DECADES * low else (1,)))
    ax.yaxis.set_major_formatter(lambda value, _: short(value))
    ax.yaxis.set_minor_locator(ticker.NullLocator())


def _label_right_ends(ax: Axes, names: Sequence[str], gap: float = 0.07) -> None:
    """Write each line's name at its right end, at least `gap` axes heights above the name below it."""
    to_axes = ax.transData + ax.transAxes.inverted()
    ends = [to_axes.transform(line.get_xydata()[-1])[1] for line in ax.lines]
    lowest = -np.inf
    for i in np.argsort(ends):
        lowest = max(ends[i], lowest + gap)
        ax.text(1.01, lowest, names[i], color=COLORS[i], transform=ax.transAxes, va="center", weight="bold")


def reliability(tables: Mapping[str, pd.DataFrame]) -> Axes:
    """Draw observed against predicted rate for each named `metrics.reliability_table`, on log axes.

    Bins without a positive cannot stand on a log axis; they are left out.
    """
    ax = plt.subplots()[1]
    drawn = {name: table[table.observed > 0] for name, table in tables.items()}
    for (name, table), color, marker in zip(drawn.items(), COLORS, "osD^vP", strict=False):
        ax.plot(table.mean_predicted, table.observed, marker, color=color, markersize=8, label=name)
        ax.vlines(table.mean_predicted, table.low, table.high, color=color, linewidth=1.5)
    lowest = min(table.mean_predicted.min() for table in drawn.values())
    ax.plot([lowest, 1], [lowest, 1], color=GRAY, linestyle=":", linewidth=1.5)
    ax.set(xscale="log", yscale="log", xlabel="mean predicted probability", ylabel="observed rate")
    ax.legend(loc="upper left")
    return ax


def operating_curves(table: pd.DataFrame, threshold: float, cost_unit: str) -> Axes:
    """Draw precision against recall, and cost against threshold, with one operating point marked in both.

    table: a `metrics.decision_table` over all thresholds, the given one and infinity (never act) among them.
    Returns the left of the two axes.
    """
    left, right = plt.subplots(1, 2, figsize=(11, 4.2))[1]
    point, acted = table.loc[threshold], table[np.isfinite(table.index) & (table.recall > 0)]
    left.step(acted.recall, acted.precision, color=BLUE, linestyle="-", where="post")
    left.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.05))
    right.step(acted.index, acted.cost, color=BLUE, linestyle="-")
    # Stopping everybody costs so much that it would flatten the rest of the curve.
    right.set(xscale="log", xlabel="threshold", ylabel=cost_unit, ylim=(0, 1.2 * table.cost.loc[np.inf]))
    for ax, x, y in ((left, point.recall, point.precision), (right, threshold, point.cost)):
        ax.plot(x, y, "D", color=ORANGE, markersize=11)
        label = f"threshold {threshold:.3g}"
        ax.annotate(
            label, (x, y), (-8, -20), textcoords="offset points", color=ORANGE, ha="right", weight="bold"
        )
    return left
