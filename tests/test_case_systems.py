"""The four systems of the practice room are complete, and their hidden answers follow from the ledger."""

import re
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import pairwise, product

import pytest

from helpers.case_systems import (
    SCALES,
    SYSTEMS,
    find_system,
    load_of,
    plan_for,
    surprised,
)
from helpers.interview import (
    DESIGN_RULES,
    SENIORITIES,
    DataField,
    DesignSpec,
    Question,
    check_tree,
    design_change,
    review,
)

systems = pytest.mark.parametrize("system", SYSTEMS.values(), ids=list(SYSTEMS))
SURPRISES = ("ten times", "half the latency", "late labels", "erasure")


def every_text(thing):
    """All texts within a nest of named tuples, mappings and dataclasses."""
    if isinstance(thing, str):
        yield thing
    elif hasattr(thing, "__dataclass_fields__"):
        for field in fields(thing):
            yield from every_text(getattr(thing, field.name))
    elif isinstance(thing, Mapping):
        for key, value in thing.items():
            yield key
            yield from every_text(value)
    elif isinstance(thing, tuple):
        for part in thing:
            yield from every_text(part)


@systems
@pytest.mark.parametrize("seniority", SENIORITIES)
@pytest.mark.parametrize("scale", SCALES)
def test_the_reviewer_finds_nothing_in_any_ledger(system, scale, seniority):
    for p99_ms in system.latencies:
        spec = system.spec(scale, p99_ms, seniority)
        assert review(spec, DESIGN_RULES).empty
        assert (spec.system, spec.p99_ms, spec.seniority) == (system.name, p99_ms, seniority)
        assert spec.candidates == plan_for(spec).candidates


@systems
def test_a_larger_scale_has_more_users_and_no_fewer_items(system):
    specs = [system.spec(scale, system.latencies[0], "Senior") for scale in SCALES]
    for smaller, larger in pairwise(specs):
        assert smaller.daily_users < larger.daily_users
        assert smaller.items <= larger.items


@systems
def test_the_latencies_are_relaxed_and_then_tight_and_change_the_large_design(system):
    relaxed, tight = system.latencies
    assert relaxed > tight
    plans = [plan_for(system.spec("large", p99_ms, "Senior")).plan for p99_ms in system.latencies]
    assert plans[0] != plans[1]


@systems
def test_the_hidden_answers_are_those_of_the_ledger(system):
    known = {field.name for field in fields(DesignSpec)}
    for scale, p99_ms in product(SCALES, system.latencies):
        spec = system.spec(scale, p99_ms, "Senior")
        for key, (text, field, answer) in system.questions_at(scale, p99_ms).items():
            assert text.endswith("?")
            assert field is None or field in known
            assert answer == (getattr(spec, field) if field else Question("").answer), key
    assert system.questions == system.questions_at("large", system.latencies[0])


@systems
def test_there_are_more_questions_than_a_budget_and_some_that_change_nothing(system):
    asked = [ask.field for ask in system.asks.values()]
    useful = [field for field in asked if field]
    assert len(useful) == len(set(useful)) >= 12
    assert asked.count(None) >= 3
    for ask in system.asks.values():
        assert (ask.changes == "nothing") == (ask.field is None)


@systems
def test_the_metrics_are_a_tree_with_guardrails(system):
    check_tree(system.metrics)
    levels = {metric.level for metric in system.metrics}
    assert levels == {"business", "online", "offline", "loss", "guardrail"}


@systems
def test_each_level_has_its_own_followups_and_every_surprise_an_answer_for_both(system):
    assert set(system.followups) == set(SENIORITIES)
    asked = [followup.question for level in SENIORITIES for followup in system.followups[level]]
    assert len(asked) == len(set(asked)) >= 10
    assert tuple(system.surprises) == SURPRISES
    for surprise in system.surprises.values():
        assert set(surprise.answers) == set(SENIORITIES)
        assert len(set(surprise.answers.values())) == 2


@systems
def test_every_alarm_has_an_owner_and_the_quickest_comes_first(system):
    speeds = ["seconds", "minutes", "an hour", "days", "a day", "weeks"]
    told = [speeds.index(alarm.tells_after) for alarm in system.alarms]
    assert told == sorted(told)
    assert len(told) >= 4
    assert all(alarm.owner and alarm.action for alarm in system.alarms)


@systems
def test_no_text_is_empty_or_left_open(system):
    texts = list(every_text(replace(system, ledger=replace(system.ledger, seniority="Senior"))))
    assert len(texts) > 100
    for text in texts:
        assert text.strip() == text != ""
        assert not re.search(r"\.\.\.|…|TODO|\bNone\b|\bnan\b|  ", text)


@systems
@pytest.mark.parametrize(
    ("arguments", "choices"),
    [
        (("huge", 100, "Senior"), "small, medium, large"),
        ((None, 100, "Senior"), "small, medium, large"),
        (("large", 100, "Junior"), "Senior, Staff"),
        (("large", 100, ["Staff"]), "Senior, Staff"),
        (("large", 0, "Senior"), "such as"),
        (("large", float("nan"), "Senior"), "such as"),
        (("large", float("inf"), "Senior"), "such as"),
        (("large", "100", "Senior"), "such as"),
        (("large", True, "Senior"), "such as"),
        (("large", None, "Senior"), "such as"),
        (("large", 0.6, "Senior"), "Allow more time"),
    ],
)
def test_what_is_not_there_is_refused_with_the_choices(system, arguments, choices):
    with pytest.raises(ValueError, match=choices):
        system.spec(*arguments)


def test_an_unknown_system_is_refused_with_the_names():
    assert find_system("feed ranking") is SYSTEMS["feed ranking"]
    with pytest.raises(
        ValueError, match="video recommendation, search engine, fraud detection, feed ranking"
    ):
        find_system("feed")


# ---------------------------------------------------------------- surprises


@pytest.mark.parametrize(
    ("surprise", "field", "value"),
    [
        ("ten times", "daily_users", 50e6),
        ("late labels", "label_delay_days", 31),
    ],
)
def test_a_surprise_changes_its_number_and_the_design(surprise, field, value):
    spec = find_system("video recommendation").spec("medium", 100, "Staff")
    changed = surprised(spec, surprise)
    assert changed == replace(spec, **{field: value})
    assert design_change(spec, changed) > 0


def test_in_half_the_latency_half_as_many_candidates_can_be_scored():
    spec = find_system("video recommendation").spec("medium", 100, "Staff")
    assert surprised(spec, "half the latency") == replace(spec, p99_ms=50, candidates=spec.candidates / 2)
    fraud = find_system("fraud detection").spec("medium", 100, "Staff")
    assert surprised(fraud, "half the latency") == replace(fraud, p99_ms=50)


def test_a_demand_for_erasure_is_a_new_privacy_constraint():
    spec = find_system("feed ranking").spec("small", 200, "Senior")
    assert surprised(spec, "erasure").privacy[:-1] == spec.privacy
    assert "erase" in surprised(spec, "erasure").privacy[-1]


@systems
@pytest.mark.parametrize("surprise", SURPRISES)
def test_every_surprise_still_has_a_design_at_both_latencies(system, surprise):
    for p99_ms in system.latencies:
        changed = surprised(system.spec("large", p99_ms, "Staff"), surprise)
        assert plan_for(changed).design.p99_ms <= changed.p99_ms


def test_an_unknown_surprise_and_a_number_that_nobody_asked_for_are_refused():
    with pytest.raises(ValueError, match="ten times, half the latency, late labels, erasure"):
        surprised(DesignSpec("feed ranking"), "strike")
    with pytest.raises(ValueError, match="no daily_users yet"):
        surprised(DesignSpec("feed ranking"), "ten times")


# ---------------------------------------------------------------- loads


def test_the_log_is_kept_as_long_as_the_field_called_a_log_else_as_the_longest():
    spec = find_system("search engine").spec("small", 300, "Senior")
    assert load_of(spec).log_days == 90
    fields_of = (DataField("clicks", "labels", 40), DataField("sessions", "features", 20))
    assert load_of(replace(spec, data=fields_of)).log_days == 40


def test_a_log_that_is_kept_for_nobody_knows_how_long_is_refused():
    spec = find_system("search engine").spec("small", 300, "Senior")
    with pytest.raises(ValueError, match="retention_days"):
        load_of(replace(spec, data=(DataField("judgments", personal=False),)))
