"""The sheet keeps what was written, and each check finds its own fault alone."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.answer_sheet import (
    DRIFTS,
    ESTIMATES,
    FACTOR,
    PARTS,
    Case,
    DriftAlarm,
    Kept,
    Sheet,
    check,
    estimates,
    findings_table,
    parts_table,
    users_per_arm,
)
from helpers.capacity import units
from helpers.case_systems import SYSTEMS, find_system
from helpers.rubric import RED_FLAGS, RUBRIC
from helpers.sections import concepts

VIDEO, FRAUD = find_system("video recommendation"), find_system("fraud detection")


def case(system=VIDEO, erasure=False):
    return Case(system, system.spec("large", system.latencies[0], "Senior"), erasure)


def sound(system=VIDEO):
    """A sheet in which nothing is wrong."""
    spec = case(system).spec
    return Sheet(
        primary_metric="NDCG at 20" if spec.page_size > 1 else "recall at FPR 0.1%",
        cost_fp=spec.cost_fp,
        cost_fn=spec.cost_fn,
        guardrails=["p99"],
        baseline="rules",
        estimates=estimates(spec, system),
        rejected="score everything: too slow",
        latency_budget={"retrieve": spec.p99_ms / 2, "rank": spec.p99_ms / 2},
        fallback="popular",
        logged=["features as served", "model version", "request id", "timestamp", "position", "propensity"],
        label="what the ledger says",
        split="temporal",
        gap_days=spec.label_delay_days,
        static_features=["language"],
        dynamic_features=["last five minutes"],
        data=[("log", "training", 400)],
        ladder=["rules", "boosted trees", "network"],
        users_per_arm=users_per_arm(system),
        alarms=[
            ("covariate", "PSI", "data"),
            ("label", "label rate", "us"),
            ("concept", "observed / expected", "us"),
        ],
        rollback="p99 above 250 ms for 5 minutes",
        risks=["feedback loop"],
    )


def faults(sheet, where=None):
    return [finding for finding in check(sheet, where or case()) if finding.verdict != "sound"]


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_sound_sheet_has_no_fault(name):
    assert faults(sound(find_system(name)), case(find_system(name))) == []


FAULTS = {  # what is changed in a sound sheet: the check that finds it, its verdict, and a red flag
    "accuracy": ({"primary_metric": "Accuracy"}, "primary metric", "wrong", "accuracy"),
    "global AUC": ({"primary_metric": "ROC-AUC"}, "primary metric", "wrong", ""),
    "F1": ({"primary_metric": "F1"}, "primary metric", "wrong", ""),
    "unknown metric": ({"primary_metric": "vibes"}, "primary metric", "wrong", ""),
    "no metric": ({"primary_metric": ""}, "primary metric", "missing", ""),
    "equal costs": ({"cost_fp": 2, "cost_fn": 2}, "cost of errors", "wrong", "errors"),
    "swapped costs": ({"cost_fp": 2, "cost_fn": 6}, "cost of errors", "wrong", ""),
    "no cost": ({"cost_fn": None}, "cost of errors", "missing", ""),
    "no guardrail": ({"guardrails": []}, "guardrails", "missing", ""),
    "no baseline": ({"baseline": " "}, "baseline", "missing", ""),
    "nothing rejected": ({"rejected": ""}, "a design that a number rejects", "missing", ""),
    "over budget": ({"latency_budget": {"a": 150, "b": 51}}, "latency budget", "wrong", ""),
    "one stage": ({"latency_budget": {"a": 50}}, "latency budget", "missing", ""),
    "no fallback": ({"fallback": ""}, "fallback", "missing", "fallback"),
    "no propensity": (
        {"logged": ["features", "model version", "request id", "time", "position"]},
        "what is logged",
        "wrong",
        "",
    ),
    "nothing logged": ({"logged": []}, "what is logged", "missing", ""),
    "no label": ({"label": ""}, "label", "missing", "label"),
    "random split": ({"split": "random"}, "split", "wrong", "split"),
    "split by user": ({"split": "by user"}, "split", "wrong", "split"),
    "no split": ({"split": ""}, "split", "missing", "split"),
    "no gap": ({"gap_days": None}, "split", "wrong", ""),
    "no static": ({"static_features": []}, "static features", "missing", ""),
    "no dynamic": ({"dynamic_features": []}, "dynamic features", "missing", ""),
    "no inventory": ({"data": []}, "personal data", "missing", "privacy"),
    "no purpose": ({"data": [("log", "", 90)]}, "personal data", "wrong", "privacy"),
    "no retention": ({"data": [("log", "training", None)]}, "personal data", "wrong", "privacy"),
    "deleted too early": ({"data": [("log", "training", 0.5)]}, "personal data", "wrong", ""),
    "two rungs": ({"ladder": ["rules", "trees"]}, "model ladder", "wrong", ""),
    "no rung": ({"ladder": []}, "model ladder", "missing", ""),
    "no baseline rung": ({"ladder": ["two towers", "b", "c"]}, "model ladder", "wrong", ""),
    "no test size": ({"users_per_arm": None}, "users an arm", "missing", ""),
    "small test": ({"users_per_arm": 1_000}, "users an arm", "wrong", ""),
    "no rollback": ({"rollback": ""}, "rollback", "missing", "rollback"),
    "vague rollback": ({"rollback": "if it looks bad"}, "rollback", "wrong", ""),
}


@pytest.mark.parametrize(("change", "name", "verdict", "flag"), FAULTS.values(), ids=FAULTS)
def test_each_fault_is_found_alone(change, name, verdict, flag):
    (found,) = faults(sound().filled(change))
    assert (found.check, found.verdict, found.red_flag) == (name, verdict, flag)


def test_an_empty_sheet_lacks_everything_and_says_where_to_read():
    found = faults(Sheet(), case(erasure=True))
    assert {finding.verdict for finding in found} == {"missing"}
    assert {finding.row for finding in found} == set(RUBRIC) - {"communication"}
    assert all(finding.concept_id in concepts().index for finding in found)
    assert {finding.red_flag for finding in found} - {""} <= set(RED_FLAGS)
    assert len(found) == len(check(Sheet(), case(erasure=True)))
    assert list(findings_table(found)) == ["row", "check", "verdict", "finding"]


@settings(max_examples=30)
@given(name=st.sampled_from(sorted(ESTIMATES)), factor=st.floats(0.01, 100))
def test_an_estimate_is_sound_within_its_factor(name, factor):
    right = estimates(case().spec, VIDEO)
    sheet = sound().filled({"estimates": right | {name: right[name] * factor}})
    inside = 1 / FACTOR * (1 + 1e-9) <= factor <= FACTOR * (1 - 1e-9)
    outside = factor < 1 / FACTOR * (1 - 1e-9) or factor > FACTOR * (1 + 1e-9)
    found = [finding.check for finding in faults(sheet)]
    assert not inside or found == []
    assert not outside or found == [name]


def test_an_estimate_of_zero_is_wrong_and_a_left_out_one_missing():
    right = estimates(case().spec, VIDEO)
    for value, verdict in ((0, "wrong"), (..., "missing")):
        (found,) = faults(sound().filled({"estimates": right | {"peak_qps": value}}))
        assert (found.check, found.verdict) == ("peak_qps", verdict)


def test_estimates_follow_the_ledger():
    small = estimates(case().spec, VIDEO)
    large = estimates(replace(case().spec, daily_users=10 * case().spec.daily_users), VIDEO)
    assert all(large[name] == pytest.approx(10 * small[name]) for name in ESTIMATES)
    spec = case().spec
    assert small["peak_qps"] == pytest.approx(
        spec.daily_users * spec.requests_per_user * spec.peak_factor / 86_400
    )
    assert small["log_gb_a_day"] == pytest.approx(
        spec.daily_users * spec.requests_per_user * spec.page_size * 2e-7
    )
    assert small["plain_model_cores"] == pytest.approx(small["peak_qps"] * spec.candidates * 1e-5 / 0.6)


def test_a_gap_must_cover_the_delay_as_it_stands_now():
    late = case()._replace(spec=replace(case().spec, label_delay_days=31))
    found = faults(sound().filled({"gap_days": 30}), late)
    assert [(finding.check, finding.concept_id) for finding in found] == [("split", "3.5")]
    assert faults(sound().filled({"gap_days": 31}), late) == []


def test_labels_of_the_same_day_need_no_gap():
    same_day = case()._replace(spec=replace(case().spec, label_delay_days=0.1))
    assert faults(sound().filled({"gap_days": 0}), same_day) == []


def test_data_may_be_deleted_once_the_label_is_known():
    kept = [("log", "training", case().spec.label_delay_days)]
    assert faults(sound().filled({"data": kept})) == []


def test_a_test_that_a_day_cannot_fill_is_told_by_its_factor():
    def told(users):
        spec = replace(case().spec, daily_users=users)
        return next(
            f.finding for f in check(sound(), case()._replace(spec=spec)) if f.check == "users an arm"
        )

    needed = 2 * users_per_arm(VIDEO)
    assert "too few by a factor of 2." in told(needed / 2)
    assert "too few" not in told(needed)


def test_half_the_latency_makes_a_budget_too_large():
    halved = case()._replace(spec=replace(case().spec, p99_ms=100))
    assert [finding.check for finding in faults(sound(), halved)] == ["latency budget"]


def test_erasure_is_asked_for_only_after_the_surprise():
    assert [finding.check for finding in faults(sound(), case(erasure=True))] == ["erasure"]
    assert faults(sound().filled({"erasure": "lineage"}), case(erasure=True)) == []


@pytest.mark.parametrize("drift", DRIFTS)
def test_each_drift_needs_an_alarm_of_its_own(drift):
    kept = [alarm for alarm in sound().alarms if alarm.drift != drift]
    (found,) = faults(sound().filled({"alarms": kept}))
    assert (found.check, found.verdict) == (f"alarm for {drift} drift", "missing")
    (unowned,) = faults(sound().filled({"alarms": [*kept, (drift, "observed / expected", " ")]}))
    assert (unowned.check, unowned.verdict) == (f"alarm for {drift} drift", "wrong")


@pytest.mark.parametrize("signal", ["PSI of the features", "KS test of inputs", "classifier two-sample test"])
def test_an_alarm_on_inputs_does_not_see_concept_drift(signal):
    alarms = [alarm for alarm in sound().alarms if alarm.drift != "concept"]
    (found,) = faults(sound().filled({"alarms": [*alarms, ("concept", signal, "us")]}))
    assert "inputs" in found.finding
    both = [*alarms, ("concept", signal, "us"), ("concept", "precision of reviews", "us")]
    assert faults(sound().filled({"alarms": both})) == []


def test_roc_auc_does_not_see_rare_frauds_and_costs_do():
    sheet = sound(FRAUD)
    (found,) = faults(sheet.filled({"primary_metric": "ROC-AUC"}), case(FRAUD))
    assert "0.1%" in found.finding
    by_cost = (
        "PR-AUC",
        "pr_auc",
        "PR  AUC",
        "AUPRC",
        "AUCPR",
        "average_precision",
        "precision",
        "expected cost",
    )
    for metric in by_cost:
        assert faults(sheet.filled({"primary_metric": metric}), case(FRAUD)) == []


LISTWISE = ["per-user AUC", "per_query auc", "MRR", "recall at 500", "MAP at 10", "ndcg@20", "P@10", "ERR@10"]


@pytest.mark.parametrize("metric", [*LISTWISE, "err", "Mean_Reciprocal-Rank"])
def test_metrics_inside_a_list_fit_a_list(metric):
    assert faults(sound().filled({"primary_metric": metric})) == []


@pytest.mark.parametrize("metric", ["error rate", "errand", "top@10"])
def test_what_only_looks_like_a_metric_of_lists_is_unknown_and_the_usual_ones_are_words(metric):
    (found,) = faults(sound().filled({"primary_metric": metric}))
    assert "none of the usual" in found.finding
    assert "\\" not in found.finding


def test_balanced_accuracy_is_not_taken_for_accuracy():
    for metric in ("Balanced accuracy", "balanced_accuracy"):
        (found,) = faults(sound(FRAUD).filled({"primary_metric": metric}), case(FRAUD))
        assert (found.red_flag, found.concept_id) == ("", "1.11")
        assert found.finding == f"{metric} sets a price on the errors that nobody chose."


def test_a_split_is_read_in_any_case():
    assert Sheet(split=" Temporal ").split == "temporal"
    with pytest.raises(ValueError, match="no split 3"):
        Sheet(split=3)


def test_a_log_may_name_ts_and_embeddings():
    logged = ["embedding as served", "model version", "request id", "event_ts", "position", "propensity"]
    assert faults(sound().filled({"logged": logged})) == []
    (found,) = faults(sound().filled({"logged": [*logged[:3], "tsunami", *logged[4:]]}))
    assert found.finding == "Missing: time."


def test_costs_that_nobody_asked_for_are_a_guess_but_no_fault():
    unasked = case()._replace(spec=replace(case().spec, cost_fp=None, cost_fn=None))
    assert faults(sound().filled({"cost_fp": 1, "cost_fn": 50}), unasked) == []


# ---------------------------------------------------------------- the sheet


def test_a_sheet_survives_json():
    assert Sheet().filled(json.loads(json.dumps(sound().parts))) == sound()
    assert Sheet().parts == {}
    assert set(sound().parts) == set(PARTS) - {"erasure"}


def test_placeholders_leave_what_was_written():
    sheet = Sheet().filled({"baseline": "rules", "split": ...}).filled({"baseline": ..., "label": "click"})
    assert (sheet.baseline, sheet.split, sheet.label) == ("rules", "", "click")


def test_rows_and_entries_with_a_placeholder_are_left_out():
    sheet = sound()
    untouched = {
        "estimates": {"peak_qps": ..., "plain_model_cores": ...},
        "ladder": [..., ...],
        "alarms": [("label", ..., ...)],
        "data": [(..., ..., ...)],
        "rollback": ...,
    }
    assert sheet.filled(untouched) == sheet
    half = sheet.filled({"estimates": {"peak_qps": 3, "plain_model_cores": ...}, "ladder": ["rules", ...]})
    assert (half.estimates, half.ladder) == ({"peak_qps": 3.0}, ("rules",))
    assert sheet.filled({"alarms": [("label", "rate", "us"), ("concept", ..., "us")]}).alarms == (
        DriftAlarm("label", "rate", "us"),
    )
    assert sheet.filled({"ladder": [], "estimates": {}}).ladder == ()


def test_quantities_and_texts_are_brought_to_the_unit_of_the_part():
    sheet = Sheet(
        estimates={
            "peak_qps": 86_400e6 * units.request / units.day,
            "log_gb_a_day": "8 TB",
            "labels_a_day": "2M",
        },
        latency_budget={"index": 0.3 * units.second, "rank": "about 40 ms", "rules": "5"},
        gap_days="2 weeks",
        cost_fp="20 points",
    )
    assert sheet.estimates == {
        "peak_qps": pytest.approx(1e6),
        "log_gb_a_day": pytest.approx(8_000),
        "labels_a_day": 2e6,
    }
    assert sheet.latency_budget == {"index": pytest.approx(300), "rank": 40, "rules": 5}
    assert (sheet.gap_days, sheet.cost_fp) == (pytest.approx(14), 20)


def test_other_words_for_a_split_and_a_drift_are_known():
    alarms = [("Concept drift", "calibration", "us")]
    for split in ("time", "Temporal split", "split by time"):
        sheet = Sheet(split=split, alarms=alarms)
        assert (sheet.split, sheet.alarms[0].drift) == ("temporal", "concept")


def test_quantities_are_read_and_rows_get_names():
    sheet = Sheet(users_per_arm=5 * units.user, data=[["log", "x", 3]], alarms=[["label", "rate", "us"]])
    assert sheet.users_per_arm == 5
    assert sheet.data == (Kept("log", "x", 3),)
    assert sheet.alarms == (DriftAlarm("label", "rate", "us"),)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"metric": "AUC"}, "no part metric.*primary_metric"),
        ({"split": "stratified"}, "no split 'stratified'"),
        ({"cost_fp": -1}, "cost_fp must be a number of at least 0"),
        ({"cost_fp": float("nan")}, "cost_fp must be a number"),
        ({"cost_fp": "five"}, "'five' is not a number"),
        ({"cost_fp": True}, "cost_fp must be a number"),
        ({"baseline": 3}, "baseline must be a text"),
        ({"ladder": "rules"}, "ladder must be a list of texts"),
        ({"ladder": [1]}, "ladder must be a text"),
        ({"estimates": [1]}, "estimates must be a dictionary"),
        ({"estimates": {"qps": 1}}, "no estimate qps.*peak_qps"),
        ({"estimates": {"peak_qps": float("inf")}}, "peak_qps"),
        ({"latency_budget": {"a": "10 GB"}}, "'10 GB' is not in ms"),
        ({"latency_budget": {"a": 10 * units.byte}}, "write it in ms"),
        ({"estimates": {"log_gb_a_day": 3 * units.second}}, "write it in gigabyte"),
        ({"latency_budget": {1: 10}}, "latency_budget must be a text"),
        ({"alarms": [("covariate", "PSI")]}, r"\(drift, signal, owner\)"),
        ({"alarms": ["PSI"]}, r"\(drift, signal, owner\)"),
        ({"alarms": [("data", "PSI", "us")]}, "'data' is no drift"),
        ({"alarms": [("label", None, "us")]}, "alarms must be a text"),
        ({"data": "log"}, "data must be a list of rows"),
        ({"data": [("log", "x", -1)]}, "retention must be"),
    ],
)
def test_a_part_of_the_wrong_shape_is_refused_with_the_repair(parts, words):
    with pytest.raises(ValueError, match=words):
        Sheet().filled(parts)


def test_the_table_of_parts_names_each_with_its_minute():
    assert list(parts_table().index) == list(PARTS)
    assert parts_table().until.is_monotonic_increasing


GOOD_FRAUD = ["AUC-PR", "PRAUC", "AUPR", "AP", "TPR at 0.1% FPR", "sensitivity at 99.9% specificity"]
GOOD_FRAUD += ["partial AUC up to FPR 0.1%", "savings in euros", "recall, since accuracy misleads"]
BAD_FRAUD = ["log-loss", "hinge loss", "MAPE", "mapping error", "not accuracy", "accuracy"]
GOOD_LISTS = ["AUC inside each list", "AUC within each user", "user-averaged AUC", "AUC per request"]
GOOD_LISTS += [
    "expected reciprocal rank",
    "Normalised discounted cumulative gain at 10",
    "NDCG, not accuracy",
]
BAD_LISTS = ["MAPE", "mapping error", "hitchhikers", "RMSE per user", "AUC", "accuracy, not NDCG"]
BAD_LISTS += ["AUC in the test set", "ROC-AUC on one holdout"]


@pytest.mark.parametrize(
    ("system", "metric", "good"),
    [
        *((FRAUD, metric, True) for metric in GOOD_FRAUD),
        *((FRAUD, metric, False) for metric in BAD_FRAUD),
        *((VIDEO, metric, True) for metric in GOOD_LISTS),
        *((VIDEO, metric, False) for metric in BAD_LISTS),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_a_metric_is_known_by_its_usual_names_and_not_by_part_of_a_word(system, metric, good):
    found = faults(sound(system).filled({"primary_metric": metric}), case(system))
    assert (found == []) == good


def test_a_metric_that_is_rejected_raises_no_flag():
    found = faults(sound().filled({"primary_metric": "not accuracy"}))
    assert [one.red_flag for one in found] == [""]


def test_a_guess_of_what_was_not_asked_is_sound_when_it_is_true():
    truth = case().spec
    known = replace(truth, peak_factor=truth.peak_factor / 10)
    right = estimates(truth, VIDEO)["peak_qps"]
    for guess, verdict in [(right, "sound"), (right / 10, "sound"), (right / 100, "wrong")]:
        sheet = sound().filled({"estimates": {"peak_qps": guess}})
        found = {one.check: one for one in check(sheet, Case(VIDEO, known, truth=truth))}
        assert found["peak_qps"].verdict == verdict
        assert "with what you did not ask: 57,900" in found["peak_qps"].finding


def test_a_decision_scores_its_one_case():
    spec = case(FRAUD).spec
    cores = estimates(spec, FRAUD)["plain_model_cores"]
    assert cores == pytest.approx(estimates(spec, FRAUD)["peak_qps"] * 1e-5 / 0.6)


@pytest.mark.parametrize(
    ("part", "good", "bad"),
    [
        ("rollback", "when the CTR drops by five percent: last model", "never, we roll forward v2"),
        ("rollback", "p99 above 200 ms for 5 minutes: last pair", "if something looks odd"),
        ("ladder", ["non-neural baseline: popularity", "trees", "towers"], ["DNN", "DLRM", "DIN"]),
        ("ladder", ["rules", "trees", "network"], ["GPT-4", "Claude", "Gemini"]),
        ("latency_budget", {"index": 10, "rank": 20}, {"index": 0, "rank": 0}),
    ],
)
def test_a_check_reads_what_is_said(part, good, bad):
    assert faults(sound().filled({part: good})) == []
    assert len(faults(sound().filled({part: bad}))) == 1


@pytest.mark.parametrize("drift", ["label", "concept"])
@pytest.mark.parametrize(
    ("signal", "able"),
    [
        ("share of positives", True),
        ("expected over observed", True),
        ("score_mean", True),
        ("queue length of kafka", False),
        ("disk full", False),
        ("share of missing features", False),
        ("nothing", False),
    ],
)
def test_an_alarm_for_what_is_not_in_the_inputs_watches_an_outcome(drift, signal, able):
    kept = [alarm for alarm in sound().alarms if alarm.drift != drift]
    found = faults(sound().filled({"alarms": [*kept, (drift, signal, "modeling")]}))
    assert (found == []) == able


def test_what_is_logged_is_read_in_usual_spellings():
    logged = ["features", "model_version", "request_id", "served_at", "slot", "p(shown)"]
    assert faults(sound().filled({"logged": logged})) == []
