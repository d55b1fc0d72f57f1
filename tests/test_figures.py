"""Figures carry a finding, and drawing helpers draw the numbers that they were given."""

from itertools import pairwise

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from helpers import figures
from helpers.metrics import Interval, decision_table, reliability_table

matplotlib.use("agg")

FINDING = "Recall rises from 0.2 to 0.8 while precision falls from 0.9 to 0.4."
Y, SCORE = np.array([0, 0, 1, 0, 1, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture
def displayed(monkeypatch):
    calls = []
    monkeypatch.setattr(figures, "display", lambda thing, **keywords: calls.append((thing, keywords)))
    return calls


def test_show_displays_once_with_the_finding_as_alt_text_and_caption(displayed):
    ax = plt.subplots()[1]
    figures.show(ax, FINDING)
    (figure, keywords), (caption, _) = displayed
    assert figure is ax.figure
    assert keywords["metadata"]["image/png"]["alt"] == FINDING
    assert FINDING in caption.data
    assert plt.get_fignums() == []


@pytest.mark.parametrize("finding", ["", "  ", "A bar chart"])
def test_show_refuses_a_finding_that_states_nothing(finding, displayed):
    with pytest.raises(ValueError, match="too short"):
        figures.show(plt.subplots()[1], finding)
    assert displayed == []


def test_interval_dots_stand_at_the_estimates_in_the_order_given():
    intervals = {"a": Interval(0.5, 0.4, 0.6), "b": Interval(0.1, 0.0, 0.2)}
    ax = figures.interval_dots(intervals, "score", reference=0)
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() == "o"]
    assert dots == [0.5, 0.1]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["a", "b"]
    assert ax.yaxis_inverted()


@pytest.mark.parametrize("far", [1, 100])
def test_the_labels_of_intervals_stay_inside_the_axes(far):
    names = ("short", "trained on fresh rows, served 60 min late")
    ends = Interval(0.0, -0.001, 0.001), Interval(0.02 * far, 0.019 * far, 0.021 * far)
    ax = figures.interval_dots(dict(zip(names, ends, strict=True)), "difference", spec="+.4f")
    ax.figure.draw_without_rendering()
    assert ax.texts[0].get_text() == "+0.0000 [-0.0010, +0.0010]"
    for label in ax.texts:
        box = label.get_window_extent()
        assert ax.bbox.x0 < box.x0
        assert box.x1 < ax.bbox.x1


def test_the_curves_may_be_the_columns_of_a_table():
    table = pd.DataFrame({"up": [1, 2, 3], "down": [3, 2, 1]}, index=[1997, 1998, 1999])
    ax = figures.lines(table.index, table, "year", "y")
    assert {text.get_text() for text in ax.texts} == {"up", "down"}
    assert ax.lines[1].get_ydata().tolist() == [3, 2, 1]


def test_whole_numbers_have_whole_ticks():
    ax = figures.lines([1997, 1998, 1999], {"a": [1, 2, 3]}, "year", "y")
    assert all(tick == int(tick) for tick in ax.get_xticks())


@pytest.mark.parametrize("values", [[0.18, 0.185, 0.21], [3, 4000, 2_000_000]])
def test_the_ticks_of_a_log_axis_are_plain_decimals(values):
    ax = figures.lines([1, 10, 100], {"a": values}, "x", "y", "log")
    ax.figure.draw_without_rendering()
    low, high = ax.get_ylim()
    shown = [t.get_text() for t in ax.get_yticklabels(which="both") if low <= t.get_position()[1] <= high]
    assert len(shown) >= 3
    assert not any("e" in text or "$" in text for text in shown)


def test_lines_are_labeled_directly_and_labels_do_not_overlap():
    ax = figures.lines(
        [1, 10, 100], {"up": [1, 2, 3.0], "same": [1, 2, 3.01], "down": [3, 2, 1]}, "x", "y", "log x"
    )
    labels = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert set(labels) == {"up", "same", "down"}
    heights = sorted(labels.values())
    assert np.diff(heights).min() >= 0.07 - 1e-9
    assert labels["down"] < labels["up"] < labels["same"]
    assert ax.get_xscale() == "log"


def test_each_line_has_a_dash_of_its_own_so_that_color_is_not_alone():
    ax = figures.lines([1, 2], {name: [1, 2] for name in "abcd"}, "x", "y")
    assert len({str(line.get_linestyle()) + str(line._dash_pattern) for line in ax.lines}) == 4


def test_reliability_leaves_out_bins_that_a_log_axis_cannot_hold():
    table = reliability_table(Y, SCORE, bins=4)
    ax = figures.reliability({"model": table})
    assert isinstance(ax, Axes)
    assert len(ax.lines[0].get_xdata()) == (table.observed > 0).sum()


def test_operating_curves_mark_the_chosen_threshold_in_both():
    table = decision_table(Y, SCORE, cost_fp=1, cost_fn=5)
    left = figures.operating_curves(table, 0.5, "euros")
    right = left.figure.axes[1]
    point = table.loc[0.5]
    assert left.lines[-1].get_xydata().tolist() == [[point.recall, point.precision]]
    assert right.lines[-1].get_xydata().tolist() == [[0.5, point.cost]]


def luminance(color):
    """Relative luminance as in WCAG 2."""
    rgb = np.array(matplotlib.colors.to_rgb(color))
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]


@pytest.mark.parametrize("color", figures.COLORS)
def test_every_color_stands_out_from_white(color):
    assert 1.05 / (luminance(color) + 0.05) >= 3


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0005, "0.0005"), (10_000, "10,000"), (1e6, "1M"), (2.5e6, "2.5M"), (1e9, "1B"), (3e12, "3,000B")],
)
def test_large_numbers_are_written_as_they_are_spoken(value, text):
    assert figures.short(value) == text


def test_the_ticks_of_many_decades_do_not_overlap():
    ax = figures.lines([1e4, 1e9], {"a": [1e-4, 5e3]}, "x", "y", "log")
    ax.get_figure().canvas.draw()
    for axis in (ax.xaxis, ax.yaxis):
        boxes = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
        assert not any(a.overlaps(b) for a, b in pairwise(boxes))
