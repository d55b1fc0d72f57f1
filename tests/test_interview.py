"""The interviewer, the ledger's reviewer, the metric tree and the whiteboard."""

from dataclasses import replace
from itertools import combinations

import matplotlib
import matplotlib.pyplot as plt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.interview import (
    ASSUMED,
    COUNTS,
    DESIGN_RULES,
    QUESTIONS,
    REQUIRED,
    RULES,
    DataField,
    DesignSpec,
    Interviewer,
    Metric,
    complete_spec,
    consequences,
    design_change,
    metric_tree,
    peak_rate,
    questions_score,
    review,
    whiteboard,
)

matplotlib.use("agg")

SOUND = DesignSpec(
    system="fraud",
    goal="lose little",
    anti_goals=("no reason given",),
    daily_users=1e6,
    requests_per_user=1,
    p99_ms=100,
    label="chargeback",
    label_delay_days=60,
    cost_fp=5,
    cost_fn=100,
    data=(DataField("amount", "feature", 180),),
)
BROKEN = {
    "goal": {"goal": ""},
    "anti_goals": {"anti_goals": ()},
    "label": {"label": ""},
    "label_delay_days": {"label_delay_days": None},
    "cost_fp, cost_fn": {"cost_fn": None},
    "p99_ms": {"daily_users": None},
    "'Real time'": {"goal": "answer in real time", "p99_ms": None},
    "'Accuracy'": {"goal": "95% accuracy"},
    "before its label": {"data": (DataField("amount", "feature", 30),)},
    "no purpose": {"data": (DataField("name", "", 180),)},
    "no retention": {"data": (DataField("amount", "feature"),)},
    "same price": {"cost_fp": 100},
    "not a number above 0": {"items": 0},
    "below the mean": {"peak_factor": 0.5},
    "More candidates": {"items": 100, "candidates": 101},
    "nothing is left to choose": {"page_size": 20, "candidates": 19},
    "more than there is in the catalog": {"page_size": 20, "items": 19},
    "through the network": {"p99_ms": 0.4},
    "not that fresh": {"candidates": 20_000, "freshness_minutes": 15},
    "unknown level": {"seniority": "Principal"},
}
COMPLETE = replace(
    SOUND,
    users="people who pay by card",
    peak_factor=4,
    items=1_000,
    page_size=1,
    candidates=10,
    freshness_minutes=1,
    consent_needed=False,
    privacy=("reasons on request",),
    seniority="Staff",
)


def test_a_sound_ledger_has_no_finding():
    assert review(SOUND).empty


@pytest.mark.parametrize("word", BROKEN)
def test_the_reviewer_finds_each_defect_alone(word):
    found = review(replace(SOUND, **BROKEN[word]))
    assert len(found) == 1
    assert word in " ".join(found.iloc[0])


def test_every_rule_is_broken_by_one_of_the_defects():
    broken = [
        rule for rule in RULES if any(rule.broken_by(replace(SOUND, **change)) for change in BROKEN.values())
    ]
    assert broken == list(RULES)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_a_count_that_is_no_number_above_zero_is_found(name, value):
    assert f"{name}, " in f"{', '.join(review(replace(COMPLETE, **{name: value})).field)}, "


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_peak_that_is_no_number_is_found(value):
    assert "peak_factor" in review(replace(COMPLETE, peak_factor=value)).field.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"candidates": 1_000},
        {"candidates": 10_000, "items": 10_000},
        {"candidates": 20_000, "items": 20_000, "freshness_minutes": 60},
        {"page_size": 10},
        {"peak_factor": 1},
        {"p99_ms": 0.5},
    ],
)
def test_a_number_at_its_limit_is_no_contradiction(change):
    assert review(replace(COMPLETE, **change), DESIGN_RULES).empty


def test_a_design_needs_more_than_a_ledger_that_has_just_been_begun():
    assert review(COMPLETE, DESIGN_RULES).empty
    found = review(DesignSpec("nothing asked"), DESIGN_RULES)
    assert set(REQUIRED) <= set(found.field[found.kind == "missing"])


@pytest.mark.parametrize("name", REQUIRED)
def test_each_gap_of_a_design_is_found(name):
    empty = replace(COMPLETE, **{name: getattr(DesignSpec(""), name)})
    found = review(empty, DESIGN_RULES)
    assert ("missing", name) in set(zip(found.kind, found.field, strict=True))
    assert name not in review(empty).field.tolist()


def test_a_field_that_is_not_personal_needs_no_purpose():
    assert review(replace(SOUND, data=(DataField("hour", "", None, personal=False),))).empty


def test_the_peak_rate_is_users_times_requests_over_a_day_times_the_peak():
    assert peak_rate(complete_spec()) == pytest.approx(200e6 * 10 * 2.5 / 86_400)


def test_questions_about_tools_change_nothing_and_the_others_do():
    for key, question in QUESTIONS.items():
        assert (questions_score([key]) > 0) == (question.field is not None)


def test_all_questions_together_bring_everything():
    assert questions_score(list(QUESTIONS)) == pytest.approx(1)


@given(st.lists(st.sampled_from(list(QUESTIONS)), max_size=12, unique=True))
def test_a_score_is_between_zero_and_one(keys):
    assert 0 <= questions_score(keys) <= 1 + 1e-9


def test_some_six_questions_reach_the_mark_of_the_exercise_and_most_do_not():
    useful = [key for key, question in QUESTIONS.items() if question.field]
    scores = [questions_score(six) for six in combinations(useful, 6)]
    assert max(scores) >= 0.75
    assert sum(score >= 0.75 for score in scores) < len(scores) / 4


def test_the_interviewer_stops_at_the_budget_and_knows_its_questions():
    interviewer = Interviewer(budget=1)
    assert interviewer.ask("items") == 1e9
    with pytest.raises(ValueError, match="spent"):
        interviewer.ask("users")
    with pytest.raises(ValueError, match="no question 'size'"):
        Interviewer().ask("size")


def test_the_transcript_holds_what_was_asked():
    interviewer = Interviewer()
    interviewer.ask("items")
    assert interviewer.transcript.question.tolist() == ["items"]
    assert interviewer.transcript.design_change[0] == pytest.approx(design_change(ASSUMED, interviewer.spec))


def test_the_design_flips_where_the_answers_say():
    before, after = consequences(ASSUMED), consequences(complete_spec())
    assert (before["stages"], after["stages"]) == ("one", "two")
    assert (before["index update"], after["index update"]) == ("nightly", "streaming")


def test_a_tree_draws_one_arrow_for_each_bet():
    tree = [
        Metric("money", "business"),
        Metric("clicks", "online", "money"),
        Metric("AP", "offline", "clicks"),
    ]
    ax = metric_tree([*tree, Metric("latency", "guardrail")])
    arrows = [text for text in ax.texts if getattr(text, "arrow_patch", None)]
    assert len(arrows) == 2
    assert {"money", "clicks", "AP", "latency"} <= {text.get_text() for text in ax.texts}
    plt.close("all")


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ([Metric("clicks", "upstream")], "has level"),
        ([Metric("clicks", "online")], "business level"),
        ([Metric("money", "business"), Metric("AP", "offline", "money")], "online level"),
        ([Metric("clicks", "online", "nothing")], "business level"),
        ([Metric("money", "business", "nothing")], "no metric 'nothing'"),
        ([], "no metrics"),
    ],
)
def test_a_tree_with_a_metric_in_the_wrong_place_is_refused(metrics, words):
    with pytest.raises(ValueError, match=words):
        metric_tree(metrics)


def test_the_whiteboard_writes_every_line():
    ax = whiteboard("Step 1", {"Goal": ["earn"], "Metrics": ["recall at 500", "latency"]})
    text = " ".join(t.get_text() for t in ax.texts)
    assert all(line in text for line in ("Goal", "earn", "recall at 500", "latency"))
    plt.close("all")


def test_a_whiteboard_with_too_many_columns_is_refused():
    with pytest.raises(ValueError, match="five columns"):
        whiteboard("Full", {str(i): [] for i in range(6)})
