"""The numbers behind the explorers, against replicated data, simulation, plain loops and the design."""

import re
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from numpy.testing import assert_allclose
from scipy.optimize import brentq
from scipy.special import logit
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, fbeta_score

from helpers import widgets
from helpers.architecture import Design, Latency, Stage
from helpers.metrics import at_budget, best_threshold, decision_at, decision_table
from helpers.widgets import LOAD, WORDS, CapacityExplorer, DecisionLab, operating_point, precision_interval

matplotlib.use("agg")

NAN = float("nan")
SETTINGS = {"cost_fp": 3.0, "cost_fn": 7.0, "beta": 2.0}


def scored(n: int = 4_000, positives: int = 40, seed: int = 0):
    """Labels, scores in (0, 1) with ties among the low ones, and amounts of money."""
    rng = np.random.default_rng(seed)
    y = np.zeros(n, int)
    y[rng.choice(n, positives, replace=False)] = 1
    score = 1 / (1 + np.exp(-rng.normal(-4, 1.5, n) - 4 * y * rng.random(n)))
    return y, np.where(score < 0.01, score.round(3), score), rng.lognormal(3, 1, n).round(2)


Y, SCORE, AMOUNT = scored()


def lab_of(**settings) -> DecisionLab:
    return DecisionLab(Y, SCORE, amount=AMOUNT, name="first", **settings)


# ------------------------------------------------------------ operating_point


@pytest.mark.parametrize("threshold", [0.0, 0.02, 0.3, 0.7])
def test_at_the_datas_prevalence_it_is_the_confusion_matrix_of_scikit_learn(threshold):
    point = operating_point(Y, SCORE, threshold, amount=AMOUNT, **SETTINGS)
    flagged = threshold <= SCORE
    tn, fp, fn, tp = confusion_matrix(Y, flagged).ravel()
    assert_allclose(point[["tp", "fp", "fn", "tn"]], [tp, fp, fn, tn])
    assert_allclose([point.precision, point.recall], [tp / (tp + fp), tp / 40])
    assert_allclose(point.f_beta, fbeta_score(Y, flagged, beta=2))
    assert_allclose(point.cost, 3 * fp + 7 * fn + AMOUNT[(Y == 1) & ~flagged].sum())
    assert point.prevalence == pytest.approx(0.01)


@pytest.mark.parametrize("threshold", [0.02, 0.3, 0.7])
def test_another_prevalence_equals_data_with_the_positives_repeated(threshold):
    copies = np.where(Y == 1, 25, 1)
    y, score, amount = (np.repeat(values, copies) for values in (Y, SCORE, AMOUNT))
    wanted = decision_at(y, score, threshold, amount=amount, **SETTINGS)
    point = operating_point(Y, SCORE, threshold, prevalence=y.mean(), amount=AMOUNT, **SETTINGS)
    rates = ["precision", "recall", "f_beta"]
    assert_allclose(point[rates], wanted[rates])
    # The counts are those of a world of the size of the data.
    sums = ["tp", "fp", "fn", "tn", "cost"]
    assert_allclose(point[sums], wanted[sums] * len(Y) / len(y))


def test_wilson_bounds_are_the_proportions_that_a_score_test_just_keeps():
    point = operating_point(Y, SCORE, 0.3)
    z = norm.isf(0.025)
    for name, n in (("recall", 40), ("precision", point.tp + point.fp)):
        share = point[name]
        bounds = [
            brentq(score_test, *ends, args=(share, n, z)) for ends in ((1e-9, share), (share, 1 - 1e-9))
        ]
        assert_allclose(point[[f"{name}_low", f"{name}_high"]], bounds)


def score_test(p: float, share: float, n: float, z: float) -> float:
    return abs(share - p) - z * np.sqrt(p * (1 - p) / n)


def test_a_script_over_many_thresholds_takes_one_line():
    table = pd.DataFrame([operating_point(Y, SCORE, t) for t in np.linspace(0, 1, 11)])
    assert table.recall.is_monotonic_decreasing
    assert table.precision.isna().tolist() == [t > SCORE.max() for t in table.threshold]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prevalence": 0}, "prevalence must lie between 0 and 1"),
        ({"prevalence": 12}, "write 1% as 0.01"),
        ({"level": 95}, "level must lie between 0 and 1"),
        ({"cost_fp": -1}, "cost_fp must lie in"),
        ({"beta": 0}, "beta must be greater than 0"),
        ({"amount": AMOUNT[:-1]}, "Unequal lengths"),
        ({"y_true": np.zeros(len(Y))}, "y_true holds no"),
        ({"y_score": np.where(Y == 1, NAN, SCORE)}, "y_score contains NaN"),
    ],
)
def test_wrong_input_is_a_value_error_that_names_the_mistake(change, message):
    arguments = {"y_true": Y, "y_score": SCORE, "threshold": 0.5} | change
    with pytest.raises(ValueError, match=re.escape(message)):
        operating_point(**arguments)


# --------------------------------------------------------- precision_interval


def test_the_spread_of_the_logit_is_that_of_simulated_samples():
    rng = np.random.default_rng(0)
    positives, negatives, tpr, fpr, prevalence = 200, 50_000, 0.6, 0.002, 0.01
    tp, fp = rng.binomial(positives, tpr, 20_000), rng.binomial(negatives, fpr, 20_000)
    odds = prevalence / (1 - prevalence) * (tp / positives) / (fp / negatives)
    low, high = precision_interval(120, 100, 80, 49_900, prevalence)
    assert np.log(odds).std() == pytest.approx((logit(high) - logit(low)) / (2 * norm.isf(0.025)), rel=0.03)
    truth = prevalence * tpr / (prevalence * tpr + (1 - prevalence) * fpr)
    assert (logit(low) + logit(high)) / 2 == pytest.approx(logit(truth))


COUNTS = st.integers(0, 30)


@given(tp=COUNTS, fp=COUNTS, fn=COUNTS, tn=COUNTS, prevalence=st.floats(0.0001, 0.9))
def test_an_interval_holds_the_precision_also_where_counts_are_zero(tp, fp, fn, tn, prevalence):
    positives, negatives = tp + fn, fp + tn
    if not (positives and negatives and tp + fp):
        return
    low, high = precision_interval(tp, fp, fn, tn, prevalence)
    caught, hurt = prevalence * tp / positives, (1 - prevalence) * fp / negatives
    assert 0 <= low <= high <= 1
    assert low - 1e-12 <= caught / (caught + hurt) <= high + 1e-12
    assert high > low


def test_nothing_flagged_has_no_precision_and_no_interval():
    assert np.isnan(precision_interval(0, 0, 5, 5, 0.1)).all()
    point = operating_point(Y, SCORE, 2.0, prevalence=0.1)
    assert point[["precision", "precision_low", "precision_high"]].isna().all()
    assert point.f_beta == 0


# ------------------------------------------------------ what the browser gets


def test_every_row_of_the_table_is_a_row_of_the_full_one():
    table = lab_of().tables["first"]
    wanted = decision_table(Y, SCORE, table["threshold"], amount=AMOUNT)[::-1]
    assert table["threshold"] == wanted.index.tolist()
    assert table["tp"] == wanted.tp.tolist()
    assert table["fp"] == wanted.fp.tolist()
    assert_allclose(table["missed"], wanted.cost)
    assert (table["n_pos"], table["n_neg"]) == (40, len(Y) - 40)


def test_the_table_runs_from_flag_everything_to_flag_nothing_and_is_small():
    table = lab_of().tables["first"]
    assert np.all(np.diff(table["threshold"]) > 0)
    assert (table["tp"][0], table["fp"][0]) == (40, len(Y) - 40)
    assert (table["tp"][-1], table["fp"][-1]) == (0, 0)
    assert len(table["threshold"]) <= 1_100


def test_the_table_keeps_the_top_every_positive_and_small_steps_below():
    y, score, _ = scored(n=50_000, positives=300, seed=1)
    table = DecisionLab(y, score).tables["your data"]
    kept = set(table["threshold"])
    assert set(np.unique(score)[-500:]) <= kept
    assert set(score[y == 1]) <= kept
    flagged = np.add(table["tp"], table["fp"])[:-1]
    few_ties = flagged[:-1] < 15_000  # below that, rounded scores make larger steps
    assert (flagged[:-1] / flagged[1:])[few_ties & (flagged[:-1] > 1_000)].max() < 1.03


@pytest.mark.parametrize("cost_fp", [0.5, 5.0, 50.0])
def test_the_cheapest_row_of_the_table_is_the_cheapest_of_all_thresholds(cost_fp):
    costs = {"cost_fp": cost_fp, "cost_fn": 7.0, "amount": AMOUNT}
    best = best_threshold(Y, SCORE, **costs)
    in_table = decision_table(Y, SCORE, lab_of().tables["first"]["threshold"], **costs)
    assert np.isclose(in_table.cost.min(), decision_at(Y, SCORE, best, **costs).cost)


def test_many_ties_and_few_rows_make_a_table_too():
    lab = DecisionLab([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5])
    assert lab.tables["your data"]["threshold"] == [0.5, np.nextafter(0.5, 1)]
    assert lab.budget == 4


# ------------------------------------------------------------------ the widget


def test_it_starts_at_the_budget():
    lab = lab_of(budget=50)
    budget = at_budget(Y, SCORE, 50)
    assert lab.choice.tp + lab.choice.fp == 50
    assert_allclose(lab.choice[["precision", "recall"]], budget[["precision", "recall"]])


def test_a_miss_costs_its_amount_or_1_unless_you_say_otherwise():
    assert lab_of().cost_fn == 0
    assert DecisionLab(Y, SCORE).cost_fn == 1
    assert lab_of(cost_fn=7).cost_fn == 7


def test_the_choice_is_the_operating_point_of_all_settings():
    lab = lab_of(threshold=0.3, prevalence=0.05, **SETTINGS)
    wanted = operating_point(Y, SCORE, lab.threshold, prevalence=0.05, amount=AMOUNT, **SETTINGS)
    pd.testing.assert_series_equal(lab.choice, wanted, check_names=False)
    assert lab.choice.name == "first"
    lab.use_amounts = False
    missed = AMOUNT[(Y == 1) & (lab.threshold > SCORE)].sum()
    positives_in_40 = 0.05 * len(Y) / 40
    assert lab.choice.cost == pytest.approx(wanted.cost - missed * positives_in_40)


def test_a_threshold_between_two_rows_moves_up_and_flags_the_same_of_the_top():
    lab = lab_of()
    for threshold in (0.31, 0.5, 0.77):
        lab.threshold = threshold
        assert lab.threshold >= threshold
        assert lab.choice.tp + lab.choice.fp == (threshold <= SCORE).sum()
    lab.threshold = 99
    assert lab.choice.tp + lab.choice.fp == 0
    lab.threshold = -99
    assert lab.choice.recall == 1


def test_another_data_set_can_be_added_chosen_and_replaced():
    y, score, _ = scored(seed=5)
    lab = lab_of(threshold=0.3).add("second", y, score)
    lab.dataset = "second"
    assert lab.threshold in lab.tables["second"]["threshold"]
    wanted = operating_point(y, score, lab.threshold, cost_fp=1)
    pd.testing.assert_series_equal(lab.choice, wanted, check_names=False)
    lab.add("second", Y, SCORE)
    assert lab.threshold in lab.tables["second"]["threshold"]
    assert lab.choice.recall == operating_point(Y, SCORE, lab.threshold).recall


def test_what_the_browser_sends_arrives_together():
    y, score, _ = scored(seed=5)
    lab = lab_of().add("second", y, score)
    threshold = lab.tables["second"]["threshold"][-20]
    assert threshold not in lab.tables["first"]["threshold"]
    lab.set_state({"threshold": threshold, "prevalence": 0.02, "dataset": "second"})
    assert (lab.dataset, lab.threshold, lab.prevalence) == ("second", threshold, 0.02)


@pytest.mark.parametrize(
    ("trait", "value", "message"),
    [
        ("threshold", NAN, "threshold is NaN"),
        ("dataset", "third", "There is no data set 'third': choose one of ['first']"),
        ("prevalence", 0.0, "prevalence must lie between 0 and 1"),
        ("prevalence", 1.0, "prevalence must lie between 0 and 1"),
        ("cost_fp", -1.0, "cost_fp must be 0 or more"),
        ("cost_fn", NAN, "cost_fn must be 0 or more"),
        ("budget", 0, "budget must be greater than 0"),
        ("beta", 0.0, "beta must be greater than 0"),
    ],
)
def test_a_wrong_setting_is_a_value_error_and_changes_nothing(trait, value, message):
    lab = lab_of()
    before = getattr(lab, trait)
    with pytest.raises(ValueError, match=re.escape(message)):
        setattr(lab, trait, value)
    assert getattr(lab, trait) == before
    if trait != "dataset":
        with pytest.raises(ValueError, match=re.escape(message)):
            lab_of(**{trait: value})


def test_wrong_data_are_a_value_error():
    with pytest.raises(ValueError, match="Unequal lengths"):
        DecisionLab(Y, SCORE[:-1])
    with pytest.raises(ValueError, match="y_true holds no"):
        DecisionLab(np.zeros(9), np.arange(9))
    with pytest.raises(ValueError, match="y_score contains NaN"):
        lab_of().add("second", [0, 1], [0.5, NAN])


def test_words_are_replaced_one_by_one_and_unknown_ones_refused():
    assert lab_of(words={"tp": "frauds stopped"}).words == WORDS | {"tp": "frauds stopped"}
    with pytest.raises(ValueError, match=r"unknown keys \['true_positive'\]"):
        lab_of(words={"true_positive": "frauds stopped"})


def test_a_page_without_widgets_shows_a_sentence_that_never_changes():
    bundle, _ = lab_of(threshold=0.3)._repr_mimebundle_()
    again, _ = lab_of(threshold=0.3)._repr_mimebundle_()
    assert bundle["text/plain"] == again["text/plain"]
    assert bundle["text/plain"].startswith("DecisionLab of 'first': at threshold 0.3")


@pytest.mark.parametrize("suffix", ["js", "css"])
@pytest.mark.parametrize("name", ["decision_lab", "capacity_explorer"])
def test_the_page_asks_no_other_machine_for_anything(name, suffix):
    source = Path(widgets.__file__).with_name(f"{name}.{suffix}").read_text(encoding="utf-8")
    assert set(re.findall(r"\w+://[\w./]+", source)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|\burl\((?!#)|\bfetch\(|\bimport\b", source)


# -------------------------------------------------------- the capacity explorer


def two_stages(dau, requests_a_day, videos, k, peak_factor, budget_ms=100) -> Design:
    """A design whose ranking takes 4 ms for 500 candidates; a third stage is on the offline path."""
    promised = {"owner": "us", "failure": "late", "fallback": "popular videos"}
    stages = [
        Stage("retrieve", items_in=videos, items_out=k, latency=Latency.assumed(9, 14, "g"), core_ms=9,
              state_bytes=20 * videos, **promised),
        Stage("rank", after="retrieve", at_items=500, core_ms=4,
              latency=Latency.measured(np.linspace(3.8, 4.2, 200), "test"), **promised),
        Stage("log", path="offline", state_bytes=1e12),
    ]  # fmt: skip
    peak = dau * requests_a_day / 86_400 * peak_factor
    return Design("two", stages, peak_qps=peak, peak_factor=peak_factor, budget_ms=budget_ms)


def test_the_explorer_shows_the_tables_of_the_design():
    explorer = CapacityExplorer(two_stages)
    design = two_stages(dau=2e8, requests_a_day=10, videos=1e9, k=500, peak_factor=2.5)
    assert explorer.design == design
    rows = {row["name"]: row for row in explorer.view["rows"]}
    table, budget = design.capacity(), design.budget()
    assert explorer.view["columns"] == table.columns.tolist()
    assert {name: row["cells"] for name, row in rows.items()} == {n: [*table.loc[n]] for n in table.index}
    assert rows["rank"]["ms"] == budget.loc["rank", ["p50", "p99"]].tolist()
    assert rows["whole"]["ms"] == budget.loc["p99 of the sum", ["p50", "p99"]].tolist()
    assert rows["log"]["ms"] == []
    kinds = {name: row["kind"] for name, row in rows.items()}
    assert kinds == {"retrieve": "assumed", "rank": "measured", "log": "", "whole": ""}
    assert rows["rank"]["cost"] == design.needs()["rank"]["cost a month"].magnitude
    assert "57,870 requests a second at the peak" in explorer.view["sentence"]


@pytest.mark.parametrize("name", LOAD)
def test_each_slider_changes_what_is_shown(name):
    explorer = CapacityExplorer(two_stages)
    before = explorer.view
    setattr(explorer, name, 2 * getattr(explorer, name))
    assert explorer.view != before
    assert explorer.design == two_stages(**explorer.load)
    setattr(explorer, name, getattr(explorer, name) / 2)
    assert explorer.view == before


def test_each_move_has_an_answer_also_when_nothing_follows_from_it():
    design = two_stages(**CapacityExplorer(two_stages).load)
    explorer, answers = CapacityExplorer(lambda **_: design), []
    explorer.observe(answers.append, "view")
    explorer.videos = 5e8
    assert len(answers) == 1


def test_what_the_sliders_of_the_browser_send_arrives():
    explorer = CapacityExplorer(two_stages)
    explorer.set_state({"dau": 1e6, "k": 1_000})
    assert (explorer.dau, explorer.k) == (1e6, 1_000)
    assert explorer.design.funnel().items_out["retrieve"] == 1_000


def test_a_load_that_contradicts_the_design_is_shown_as_its_error_until_it_holds_again():
    explorer = CapacityExplorer(two_stages)
    before = explorer.view
    for change, message in [({"k": 20_000}, "over budget"), ({"videos": 100}, "returns 500 items")]:
        kept = {name: getattr(explorer, name) for name in change}
        explorer.set_state(change)
        assert message in explorer.view["error"]
        assert explorer.view["rows"] == []
        assert message in repr(explorer)
        with pytest.raises(ValueError, match=message):
            _ = explorer.design
        explorer.set_state(kept)
        assert explorer.view == before


def test_an_error_that_is_no_contradiction_is_not_hidden():
    with pytest.raises(TypeError, match="unexpected keyword"):
        CapacityExplorer(lambda videos: None)


@pytest.mark.parametrize("value", [0.0, -1.0, NAN, np.inf])
def test_a_load_is_above_0(value):
    explorer = CapacityExplorer(two_stages)
    with pytest.raises(ValueError, match="dau must be above 0"):
        explorer.dau = value
    with pytest.raises(ValueError, match="dau must be above 0"):
        CapacityExplorer(two_stages, dau=value)


def test_the_start_lies_on_the_sliders_and_their_values_are_round_and_rise():
    explorer = CapacityExplorer(two_stages)
    for name, slider in explorer.sliders.items():
        assert getattr(explorer, name) in slider["values"]
        assert np.all(np.diff(slider["values"]) > 0)
        assert all(float(f"{value:.3g}") == value for value in slider["values"])


def texts(figure) -> str:
    """All text of a figure."""
    return " ".join(text.get_text() for text in figure.findobj(Text)).replace("\n", " ")


def test_the_figure_says_what_the_screen_says():
    explorer = CapacityExplorer(two_stages)
    left = explorer.figure()
    said = texts(left.figure)
    for row in explorer.view["rows"]:
        assert row["name"] in said
        assert row["cells"][0] in said, "its cores"
        assert row["kind"] in said
    assert "Users a day: 200,000,000" in said
    widths = [patch.get_width() for patch in left.patches]
    assert_allclose(widths, [ms for row in explorer.view["rows"] for ms in row["ms"][::-1]])
    costs = [patch.get_width() for patch in left.figure.axes[1].patches]
    assert_allclose(costs, [row["cost"] for row in explorer.view["rows"]])
    assert left.lines[0].get_xdata()[0] == 100
    plt.close("all")


def test_the_figure_of_a_refused_load_says_why():
    explorer = CapacityExplorer(two_stages, k=20_000)
    said = texts(explorer.figure().figure)
    assert explorer.view["error"] in said
    assert "Candidates K: 20,000" in said
    plt.close("all")


def test_a_design_without_a_budget_has_none_on_the_screen():
    explorer = CapacityExplorer(lambda **load: two_stages(**load, budget_ms=None), k=20_000)
    assert explorer.view["budget_ms"] is None
    assert explorer.figure().lines[:] == []
    plt.close("all")
