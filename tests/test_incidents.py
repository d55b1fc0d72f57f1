"""The incident room: each fault leaves traces, evidence is paid once, nothing tells before it is over."""

import pandas as pd
import pytest

from helpers import incidents as i
from helpers.exercises import deployment_and_monitoring as exercises

SEED = 1


@pytest.fixture(scope="module")
def found():
    """What each fault leaves behind, bought in one room each."""
    return {fault: bought(i.IncidentRoom(SEED, fault)) for fault in i.FAULTS}


def bought(room):
    answers = {name: getattr(room, name)() for name in ("quality", "drift", "parity", "replay", "labels")}
    answers |= {f"dashboard {metric}": room.dashboard(metric) for metric in i.METRICS}
    answers |= {f"slice_by {segment}": room.slice_by(segment) for segment in i.SEGMENTS}
    assert set(answers) == set(room.asked)
    evidence = {"page": room.page, "answers": answers, "cost": room.cost, **answers}
    evidence |= {metric: answers[f"dashboard {metric}"] for metric in i.METRICS}
    evidence |= {segment: answers[f"slice_by {segment}"]["ratio"] for segment in i.SEGMENTS}
    return evidence | {"parity": answers["parity"].set_index("feature")["share"]}


@pytest.fixture
def room(found):
    """An open room with a fault that the fixture above has already computed."""
    return i.IncidentRoom(SEED, "traffic_drop")


def only(found, holds):
    """The faults whose evidence holds something."""
    return {fault for fault, evidence in found.items() if holds(evidence)}


# ---------------------------------------------------------------- the traces


def test_on_the_quiet_days_all_rooms_of_a_seed_are_alike(found):
    first, *others = found.values()
    for other in others:
        for metric in i.METRICS:
            pd.testing.assert_series_equal(first[metric].loc[:16], other[metric].loc[:16])
        pd.testing.assert_series_equal(first["quality"]["quiet"], other["quality"]["quiet"])
        pd.testing.assert_frame_equal(first["labels"].loc[["quiet"]], other["labels"].loc[["quiet"]])


def test_the_quality_checks_find_what_breaks_a_rule_of_the_log(found):
    def today(rule):
        return only(found, lambda evidence: evidence["quality"].loc[rule, "today"] > 0)

    assert today("repeats an event") == {"duplicate_events"}
    assert today("watch_seconds out of range") == {"unit_change"}
    assert today("value missing") == today("position out of range") == set()


def test_the_dashboards_move_where_they_should(found):
    def last(metric, fault):
        series = found[fault][metric]
        return series.loc[18:].mean() / series.loc[:16].mean()

    assert only(found, lambda e: e["hours to arrive"].iloc[-1] > 0) == {"late_events"}
    assert only(found, lambda e: e["users"].loc[20] > 1.2 * e["users"].loc[16]) == {"covariate_shift"}
    assert only(found, lambda e: e["users"].loc[20] < 0.9 * e["users"].loc[16]) == {"traffic_drop"}
    assert last("impressions", "duplicate_events") > 1.2 and last("users", "duplicate_events") < 1.1
    assert last("mean score", "unit_change") < 0.5
    assert last("clicks per impression", "concept_shift") < 0.85


def test_the_slices_name_the_audience(found):
    assert only(found, lambda e: e["age_band"].max() > 10) == {"covariate_shift"}
    assert only(found, lambda e: e["country"].min() == 0) == {"traffic_drop"}
    assert found["covariate_shift"]["age_band"].idxmax() == "13-17"


def test_only_parity_sees_that_served_features_are_not_those_of_the_events(found):
    disagreeing = {"unit_change", "duplicate_events", "late_events", "stale_snapshot"}
    assert only(found, lambda e: e["parity"].max() > 0.1) == disagreeing
    assert only(found, lambda e: (e["parity"] > 0.5).sum() > 2) >= {"stale_snapshot"}
    assert only(found, lambda e: e["parity"].max() == 0) == set(i.FAULTS) - disagreeing
    unit = found["unit_change"]["parity"]
    assert unit["video_watch_seconds"] > 0.9 and unit.drop("video_watch_seconds").max() == 0


def test_only_a_replay_sees_an_index_of_another_version(found):
    assert only(found, lambda e: e["replay"]["different"] > 0) == {"version_mismatch"}
    assert found["version_mismatch"]["replay"]["largest"] > 0.05
    assert found["stale_snapshot"]["replay"]["rows"] == i.PARITY_ROWS


def test_the_drift_report_finds_the_audience_and_the_store_and_not_the_tastes(found):
    def alarms(fault):
        return set(found[fault]["drift"].query("alarm").index)

    assert alarms("covariate_shift") - {"score"} == {"age_band"}
    assert alarms("traffic_drop") == {"country"}
    assert "video_watch_seconds" in alarms("unit_change") and "video_ctr" in alarms("stale_snapshot")
    assert not alarms("concept_shift") & {*i.CONTEXT}


def test_the_labels_show_the_harm(found):
    def auc_lost(evidence):
        return evidence["labels"]["auc"]["quiet"] - evidence["labels"]["auc"]["today"]

    assert auc_lost(found["concept_shift"]) > 0.05
    assert max(auc_lost(found[fault]) for fault in ("covariate_shift", "traffic_drop")) < 0.03
    assert not any(evidence["labels"].alarm["quiet"] for evidence in found.values())
    assert found["unit_change"]["labels"].alarm["today"]


# ---------------------------------------------------------------- the room


GOOD_COST = {  # minutes: those that clear the other suspects, and those of the proof
    "unit_change": 3,
    "duplicate_events": 3,
    "late_events": 2,
    "covariate_shift": 3 + 4,
    "concept_shift": 3 + 10 + 10 + 20,
    "stale_snapshot": 3 + 10,
    "version_mismatch": 3 + 10,
    "traffic_drop": 2 + 4,
}


@pytest.mark.parametrize("fault", i.FAULTS)
def test_a_good_strategy_clears_the_other_suspects_and_proves_the_fault(found, fault):
    room = i.IncidentRoom(SEED, fault)
    assert i.good_strategy(room) == [fault]
    assert room.solved and room.cost == GOOD_COST[fault]
    assert room.grade() == (room.cost, room.cost, 1.0, True)
    assert i.shows(room, fault, list(room.asked)[-1])


QUESTIONS = [(fault, question) for fault, questions in i.EVIDENCE.items() for question in questions]


@pytest.mark.parametrize(("fault", "question"), QUESTIONS)
def test_evidence_shows_its_fault_and_only_what_is_read_after_others_shows_another(found, fault, question):
    shown = only(found, lambda evidence: i.EVIDENCE[fault][question](evidence["answers"][question]))
    after_others = {("stale_snapshot", "parity"), ("concept_shift", "labels")}
    assert fault in shown and (shown == {fault} or (fault, question) in after_others)


@pytest.mark.parametrize("fault", i.FAULTS)
def test_the_suspects_of_a_page_hold_the_fault_and_are_no_proof(found, fault):
    room = i.IncidentRoom(SEED, fault)
    assert fault in room.suspects and 2 <= len(room.suspects) <= 4
    assert set(room.suspects) < set(i.FAULTS)
    assert room.cost == 0


# ---------------------------------------------------------------- points need evidence


@pytest.mark.parametrize(("fault", "question"), QUESTIONS)
def test_a_right_diagnosis_earns_points_by_each_question_that_shows_the_fault(found, fault, question):
    room = i.IncidentRoom(SEED, fault)
    room._pay(question, i.COSTS[question.split(" ")[0]])
    assert "guess" not in room.diagnose(fault)
    assert room.grade().proven and room.grade().points > 0.85


@pytest.mark.parametrize("fault", i.FAULTS)
def test_a_right_guess_earns_nothing(found, fault):
    room = i.IncidentRoom(SEED, fault)
    room.slice_by("device")
    assert "that was a guess" in room.diagnose(fault)
    assert room.grade() == (4, GOOD_COST[fault], 0.0, False)


def test_evidence_that_comes_after_the_diagnosis_is_too_late(room):
    room.diagnose("traffic_drop")
    room.slice_by("country")
    assert not room.grade().proven


@pytest.mark.parametrize("text", ["traffic drop", "Traffic-Drop", " traffic_drop "])
def test_a_fault_may_be_spelled_with_spaces_or_hyphens(room, text):
    assert i.fault_name(text) == "traffic_drop"
    assert room.diagnose(text).startswith("traffic_drop: right")


def test_all_evidence_costs_what_the_price_list_says(found):
    per = {"dashboard": len(i.METRICS), "slice_by": len(i.SEGMENTS)}
    assert {evidence["cost"] for evidence in found.values()} == {
        sum(cost * per.get(query, 1) for query, cost in i.COSTS.items())
    }


def test_the_same_question_is_paid_once_and_answered_alike(room):
    assert room.cost == 0
    first = room.slice_by("country")
    pd.testing.assert_frame_equal(first, room.slice_by("country"))
    assert room.cost == 4
    room.slice_by("device")
    room.dashboard("users")
    assert room.cost == 10
    assert list(room.asked) == ["slice_by country", "slice_by device", "dashboard users"]


def test_nothing_tells_the_fault_before_it_is_named(found, room):
    room.quality()
    shown = f"{room!r} {room.page} {room.asked} {room._found!r}"
    assert not any(fault in shown or text in shown for fault, text in i.FAULTS.items())
    assert "3 minutes, open" in repr(room)
    with pytest.raises(ValueError, match="still open"):
        room.grade()


def test_a_wrong_diagnosis_costs_half_an_hour_once_and_the_right_one_ends_it(room):
    assert "not it. 30 minutes" in room.diagnose("late_events")
    room.diagnose("late_events")
    assert room.cost == 30 and not room.solved
    assert "right, after 30 minutes" in room.diagnose("traffic_drop")
    assert room.solved and i.FAULTS["traffic_drop"] in room.diagnose("traffic_drop")
    room.labels()
    assert room.cost == 30, "after the end all evidence is free"


def test_minutes_beyond_those_of_a_good_strategy_cost_points(room):
    room.slice_by("country")
    room.diagnose("late_events")
    room.diagnose("traffic_drop")
    assert room.grade() == (34, 6, pytest.approx(1 - 28 / 60), True)


def test_who_gives_up_is_told_and_gets_no_point(room):
    assert room.give_up() == f"It was traffic_drop: {i.FAULTS['traffic_drop']}."
    assert room.solved and room.cost == 240 and room.grade().points == 0
    room.give_up()
    assert room.cost == 240


def test_a_strategy_whose_suspects_are_cleared_looks_for_all_other_faults(found, monkeypatch):
    monkeypatch.setattr(i, "SUSPECTS", {"": ("unit_change", "late_events")})
    room = i.IncidentRoom(SEED, "concept_shift")
    assert i.good_strategy(room) == ["concept_shift"]
    assert list(room.asked) == [
        "quality",
        "dashboard hours to arrive",
        "slice_by age_band",
        "slice_by country",
        "replay",
        "parity",
        "labels",
    ]


def test_a_strategy_that_was_wrong_goes_on(found, monkeypatch):
    monkeypatch.setattr(i, "SUSPECTS", {"": ("concept_shift",)})
    room = i.IncidentRoom(SEED, "unit_change")
    assert i.good_strategy(room) == ["concept_shift", "unit_change"]
    assert list(room.asked) == ["labels", "diagnose concept_shift", "quality"]


def test_a_strategy_that_sees_nothing_names_one_fault_after_the_other(found, monkeypatch):
    monkeypatch.setattr(i, "shows", lambda *_: False)
    named = i.good_strategy(i.IncidentRoom(SEED, "late_events"))
    assert named[-1] == "late_events" and len(set(named)) == len(named) > 1


def test_each_fault_is_drawn_by_some_seed(monkeypatch):
    monkeypatch.setattr(i.IncidentRoom, "_page", lambda room: "")
    drawn = [i.IncidentRoom(seed)._fault for seed in range(60)]
    assert set(drawn) == set(i.FAULTS)
    assert drawn == [i.IncidentRoom(seed)._fault for seed in range(60)]


def test_the_price_list_and_the_checks_name_all_there_is():
    queries = {name for name in i.COSTS if callable(getattr(i.IncidentRoom, name))}
    assert queries == set(i.COSTS)
    assert set(i.EVIDENCE) == set(i.FAULTS)
    asked = {question.split(" ")[0] for questions in i.EVIDENCE.values() for question in questions}
    assert asked <= set(i.COSTS)
    assert {fault for suspects in i.SUSPECTS.values() for fault in suspects} == set(i.FAULTS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda room: room.dashboard("revenue"), "metric must be one of"),
        (lambda room: room.slice_by("user_id"), "segment must be one of"),
        (lambda room: room.diagnose("gremlins"), "fault must be one of"),
        (lambda room: room.diagnose(...), "fault must be one of"),
        (lambda room: i.IncidentRoom(-1), "seed must be"),
        (lambda room: i.IncidentRoom(0, "gremlins"), "fault must be one of"),
    ],
)
def test_what_does_not_exist_cannot_be_asked(room, call, message):
    with pytest.raises(ValueError, match=message):
        call(room)
    assert room.cost == 0


# ---------------------------------------------------------------- other seeds


def test_who_asks_about_features_and_model_in_the_room_of_the_exercise_beats_who_guesses():
    careful, blind, cheap = (i.IncidentRoom(exercises.ROOM_SEED) for _ in range(3))
    careful.parity()
    careful.replay()
    cheap.quality()
    for room in (careful, blind, cheap):
        room.diagnose("stale_snapshot")
    assert careful.grade() == (20, 13, pytest.approx(1 - 7 / 60), True)
    assert blind.grade().points == cheap.grade().points == 0


@pytest.mark.parametrize("fault", ["duplicate_events", "version_mismatch", "concept_shift"])
def test_a_good_strategy_is_right_at_once_in_other_rooms(fault):
    assert i.good_strategy(i.IncidentRoom(exercises.ROOM_SEED, fault)) == [fault]


def test_the_exercise_tells_the_truth_about_its_room():
    room = i.IncidentRoom(exercises.ROOM_SEED)
    assert exercises.incident_room.solved() == room._fault
    assert {mistake.name for mistake in exercises.incident_room.mistakes} == set(i.FAULTS) - {room._fault}
    shown = [fault for fault, question in QUESTIONS if i.shows(room, fault, question)]
    assert set(shown) == {room._fault, "concept_shift"}, "labels show the harm of either"
    assert room._fault in room.suspects and "concept_shift" not in room.suspects
