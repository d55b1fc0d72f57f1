"""The interview keeps clock, questions and sheet over a restart, and reveals only what is asked."""

import json
from dataclasses import fields
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.answer_sheet import PARTS, Sheet
from helpers.case_systems import SURPRISE_FIELDS, SYSTEMS
from helpers.interview import SENIORITIES
from helpers.mock_interview import CHECKED_CAP, LENGTH, PHASES, SURPRISE_AT, MockInterview
from helpers.rubric import CALIBRATION, RUBRIC
from helpers.sections import concepts, section_link

MINUTE = 60


class Clock:
    """A wall clock that stands still until it is moved."""

    def __init__(self):
        self.now = 1.7e9

    def __call__(self):
        return self.now

    def wait(self, minutes):
        self.now += minutes * MINUTE


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "interview.json"


@pytest.fixture
def interview(path, clock):
    begun = MockInterview(path, seed=1, clock=clock)
    begun.start()
    return begun


def again(interview, path, clock):
    """The same interview after a restart of the kernel."""
    return MockInterview(path, **interview.settings, clock=clock)


SCORES = dict.fromkeys(RUBRIC, 3)

# ---------------------------------------------------------------- the clock


def test_phases_cover_the_45_minutes_without_a_gap():
    assert PHASES[0].begins == 0
    assert PHASES[-1].ends == LENGTH
    assert all(one.ends == two.begins for one, two in pairwise(PHASES))


@pytest.mark.parametrize(
    ("minute", "name"),
    [(0, 0), (2.9, 0), (3, 1), (10, 2), (11, 3), (27, 4), (35, 5), (36, 6), (44, 7), (90, 7)],
)
def test_a_minute_lies_in_its_phase(interview, clock, minute, name):
    clock.wait(minute)
    assert interview.phase() is PHASES[name]


def test_the_clock_starts_once_and_stands_before(path, clock):
    interview = MockInterview(path, clock=clock)
    clock.wait(10)
    assert interview.minute() == 0
    interview.start()
    clock.wait(4)
    interview.start()
    assert interview.minute() == pytest.approx(4)


def test_a_second_start_says_where_you_stand_and_what_you_know(interview, path, clock):
    brief = interview.start().text.split("\n\n", 1)[1]
    assert "You have asked nothing yet." in brief
    interview.ask("users")
    interview.ask("team")
    clock.wait(24.9)
    told = again(interview, path, clock).start().text
    assert told.startswith("Going on at minute 24, data and features; 4 questions left.")
    assert "- How many people open the home page on a day? **200,000,000**" in told
    assert "- How many people work on it? **It does not change what you build.**" in told
    assert "you have assumed: 200,000 users a day" in told
    clock.wait(1)
    interview.surprise()
    assert interview.system.surprises[interview._surprise].news in interview.start().text
    interview.pause()
    assert "call .resume()" in interview.start().text


def test_minutes_are_told_as_a_clock_shows_them(interview, clock):
    clock.wait(SURPRISE_AT - 0.1)
    assert "it is minute 24," in interview.surprise().text
    assert interview.fill({"baseline": "popular"}).text.startswith("Minute 24, ")


def test_the_clock_goes_on_while_the_kernel_is_down(interview, path, clock):
    clock.wait(7)
    assert again(interview, path, clock).minute() == pytest.approx(7)


def test_a_pause_stops_the_clock_also_over_a_restart(interview, path, clock):
    clock.wait(5)
    assert interview.pause() == pytest.approx(5)
    clock.wait(100)
    interview.pause()
    restarted = again(interview, path, clock)
    assert restarted.minute() == pytest.approx(5)
    clock.wait(10)
    assert restarted.resume() == pytest.approx(5)
    restarted.resume()
    clock.wait(1)
    assert again(interview, path, clock).minute() == pytest.approx(6)


def test_all_pauses_count(interview, clock):
    for _ in range(3):
        interview.pause()
        clock.wait(10)
        interview.resume()
        clock.wait(1)
    assert interview.minute() == pytest.approx(3)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["wait", "pause", "resume", "restart"]), st.integers(0, 20)), max_size=10
    )
)
def test_only_minutes_without_a_pause_count(tmp_path_factory, steps):
    path, clock = tmp_path_factory.mktemp("clock") / "i.json", Clock()
    interview, running, expected = MockInterview(path, clock=clock), True, 0
    interview.start()
    for step, minutes in steps:
        if step == "wait":
            clock.wait(minutes)
            expected += minutes * running
        elif step == "restart":
            interview = MockInterview(path, clock=clock)
        else:
            getattr(interview, step)()
            running = step == "resume"
        assert interview.minute() == pytest.approx(expected)


def test_a_clock_that_is_set_back_gives_no_negative_minute(interview, clock):
    clock.wait(-30)
    assert interview.minute() == 0
    assert interview.phase() is PHASES[0]


@pytest.mark.parametrize("call", ["pause", "resume"])
def test_a_clock_that_does_not_run_cannot_be_paused(path, clock, call):
    with pytest.raises(ValueError, match=r"\.start\(\)"):
        getattr(MockInterview(path, clock=clock), call)()


@pytest.mark.parametrize("call", ["surprise", "follow_up"])
def test_nothing_is_told_while_the_clock_does_not_run(path, clock, call):
    interview = MockInterview(path, clock=clock)
    assert "call .start()" in getattr(interview, call)().text
    interview.start()
    clock.wait(SURPRISE_AT)
    interview.pause()
    before = interview.report().text
    assert "call .resume()" in getattr(interview, call)().text
    assert interview.report().text == before


def test_nobody_asks_before_the_start_or_in_a_pause(path, clock):
    interview = MockInterview(path, clock=clock)
    assert ".start()" in interview.ask("users").text
    interview.start()
    interview.pause()
    assert ".resume()" in interview.ask("users").text
    assert interview.questions_left == 6


# ---------------------------------------------------------------- questions


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("scale", ["small", "medium", "large"])
def test_all_questions_together_reveal_the_whole_ledger(tmp_path, clock, system, scale):
    interview = MockInterview(tmp_path / "i.json", system, scale, 100, "Staff", budget=99, clock=clock)
    interview.start()
    for key in interview.questions.index:
        interview.ask(key)
    assert interview.spec == SYSTEMS[system].spec(scale, 100, "Staff")


@pytest.mark.parametrize("system", SYSTEMS)
def test_only_what_is_asked_for_is_revealed(tmp_path, clock, system):
    hidden = SYSTEMS[system].spec("large", 100, "Senior")
    for key, ask in SYSTEMS[system].asks.items():
        interview = MockInterview(tmp_path / f"{key}.json", system, "large", 100, clock=clock)
        before = interview.spec
        interview.start()
        interview.ask(key)
        moved = [f.name for f in fields(before) if getattr(before, f.name) != getattr(interview.spec, f.name)]
        assert moved in ([], [ask.field])
        assert ask.field is None or getattr(interview.spec, ask.field) == getattr(hidden, ask.field)


def test_an_answer_shows_the_numbers_that_it_changes(interview):
    before = interview.numbers()["peak_qps"]
    told = interview.ask("users")
    assert told.changed.before["peak_qps"] == before
    assert told.changed.after["peak_qps"] == interview.numbers()["peak_qps"]
    assert before * 1_000 == pytest.approx(interview.numbers()["peak_qps"])
    assert "200,000,000" in told._repr_markdown_()
    assert "| peak_qps |" in told._repr_markdown_()
    assert "Questions left: 5." in told.text


def test_one_price_is_told_alone_and_two_give_a_threshold(interview):
    assert interview.ask("bad").changed.after.to_dict() == {"cost_fp": 6}
    assert interview.ask("missed").changed.after.to_dict() == {"cost_fn": 2, "threshold": 0.75}


def test_a_question_about_tools_costs_one_and_changes_nothing(interview):
    before = interview.spec
    told = interview.ask("framework")
    assert told.changed.empty
    assert interview.spec == before
    assert interview.questions_left == 5


def test_the_budget_ends_and_asking_again_or_unclearly_is_free(interview):
    for key in ("users", "loads", "peak", "catalog", "delay", "success"):
        assert "You asked this before." not in interview.ask(key).text
        assert "You asked this before." in interview.ask(key).text
    assert interview.questions_left == 0
    assert "200,000,000" in interview.ask("users").text
    assert "do not understand" in interview.ask("What is the weather?").text
    assert "All 6 questions are spent" in interview.ask("privacy").text
    assert interview.questions.asked.sum() == 6


@pytest.mark.parametrize(
    ("said", "key"),
    [
        ("USERS ", "users"),
        ("how many people open the home page on a day? ", "users"),
        ("How many people open the home page every day?", "users"),
        ("What is the peak in the busiest hour over the mean?", "peak"),
        ("How large is the catalog: the size of the corpus?", "catalog"),
        ("What does the GDPR let us keep?", "privacy"),
        ("Which learning framework?", "framework"),
    ],
)
def test_a_question_in_own_words_is_understood(interview, said, key):
    interview.ask(said)
    assert interview.questions.index[interview.questions.asked].tolist() == [key]


@pytest.mark.parametrize(
    ("said", "key"), [("What is the DAU?", "users"), ("Which framework?", "framework"), ("GDPR?", "privacy")]
)
def test_a_guess_is_asked_back_and_costs_nothing(interview, path, said, key):
    before = path.read_bytes()
    told = interview.ask(said)
    text = interview.system.asks[key].text
    assert told.text == f"Do you mean: {text} Then ask `interview.ask('{key}')`."
    assert path.read_bytes() == before


def test_a_tie_lists_the_questions_with_their_texts_and_costs_nothing(interview):
    told = interview.ask("What does it cost?").text
    for key in ("bad", "missed"):
        assert f"- {interview.system.asks[key].text} `interview.ask('{key}')`" in told
    assert interview.questions_left == 6


def test_two_words_in_common_with_two_questions_are_no_sure_sign(interview):
    assert "Do you mean" in interview.ask("What does a regretted view cost, and a missed good one?").text
    assert interview.questions_left == 6


@pytest.mark.parametrize("said", ["", "Tell me everything", "how many", 3, None])
def test_what_is_no_question_costs_nothing(interview, said):
    assert "do not understand" in interview.ask(said).text
    assert interview.questions_left == 6


def test_untouched_cells_stop_nothing_before_the_start(path, clock):
    interview = MockInterview(path, clock=clock)
    for told in (interview.ask(...), interview.fill({"split": ..., "estimates": {"peak_qps": ...}})):
        assert told.text
    interview.score({"model": ...})
    assert interview.minute() == 0


def test_an_untouched_placeholder_stops_nothing_and_costs_nothing(interview):
    assert "Replace the `...`" in interview.ask(...).text
    interview.fill({"baseline": ...})
    interview.score({"model": ...})
    assert interview.questions_left == 6
    assert interview.sheet == Sheet()
    assert interview.report().total is None


def test_times_are_told_with_their_unit(interview):
    assert "**15 minutes**" in interview.ask("fresh").text
    assert "**1 day**" in interview.ask("delay").text


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_question_in_its_own_words_is_understood_as_itself(tmp_path, clock, system):
    interview = MockInterview(tmp_path / "i.json", system, budget=99, clock=clock)
    interview.start()
    for ask in interview.system.asks.values():
        assert ask.text in interview.ask(ask.text).text or ask.field == "p99_ms"
    assert interview.questions.asked.all()


def test_the_brief_tells_what_the_estimates_assume(interview):
    brief = interview.start().text
    assert "a plain model takes 10 µs for each score on one core, and cores are 60% busy" in brief
    assert "a logged row is 200 bytes" in brief


def test_the_latency_is_in_the_brief_and_costs_nothing(interview):
    assert "200 ms" in interview.ask("latency").text
    assert interview.questions_left == 6
    assert "latency" not in interview.questions.index


@pytest.mark.parametrize(
    ("system", "said", "key"),
    [
        *((system, "How many users per day?", "users") for system in SYSTEMS),
        ("search engine", "What QPS at the peak?", "peak"),
        ("feed ranking", "What is the delay of the label?", "delay"),
    ],
)
def test_usual_questions_are_understood(path, clock, system, said, key):
    interview = MockInterview(path, system, clock=clock)
    interview.start()
    interview.ask(said)
    assert list(interview.questions.index[interview.questions.asked]) == [key]


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ("feed ranking", "How many posts per day are written?"),
        ("fraud detection", "When is the fraud label final"),
        ("search engine", "How many queries per second at peak?"),
        ("video recommendation", "What do people do when they are not happy with page?"),
    ],
)
def test_a_question_for_something_else_costs_nothing(path, clock, system, said):
    interview = MockInterview(path, system, clock=clock)
    interview.start()
    interview.ask(said)
    assert interview.questions_left == 6


@pytest.mark.parametrize("said", ["How fast must it be?", "What is the budget for latency?"])
def test_the_latency_is_told_to_whoever_asks_in_other_words(interview, said):
    assert "The p99 was in the brief" in interview.ask(said).text


def test_an_answer_that_was_assumed_says_so(path, clock):
    interview = MockInterview(path, "feed ranking", "small", clock=clock)
    interview.start()
    assert "confirms what you had assumed" in interview.ask("users").text


def test_skipping_minutes_moves_the_clock_on_and_survives_a_restart(interview, path, clock):
    assert interview.skip(25) == pytest.approx(25)
    assert again(interview, path, clock).minute() == pytest.approx(25)
    with pytest.raises(ValueError, match="does not go back"):
        interview.skip(-1)


# ---------------------------------------------------------------- surprise and follow-ups


def test_the_surprise_is_due_at_its_minute_and_comes_once(interview, path, clock):
    clock.wait(SURPRISE_AT - 1)
    before = interview.spec
    assert "Not yet" in interview.surprise().text
    assert interview.spec == before
    clock.wait(1)
    told = interview.surprise()
    changed = interview.spec
    assert changed != before
    assert told.text == interview.surprise().text == again(interview, path, clock).surprise().text
    assert interview.spec == changed == again(interview, path, clock).spec


def test_seeds_draw_every_surprise_and_each_changes_its_field(tmp_path, clock):
    seen = set()
    for seed in range(20):
        interview = MockInterview(tmp_path / f"{seed}.json", seed=seed, clock=clock)
        interview.start()
        before = interview.spec
        clock.wait(SURPRISE_AT)
        told = interview.surprise()
        moved = [f.name for f in fields(before) if getattr(before, f.name) != getattr(interview.spec, f.name)]
        assert len(set(moved) - {"candidates"}) == 1
        assert ("candidates" in moved) == ("p99_ms" in moved)
        assert not told.changed.empty
        seen |= set(moved) - {"candidates"}
    assert seen == set(SURPRISE_FIELDS.values())


@pytest.mark.parametrize("system", SYSTEMS)
def test_eight_seeds_bring_all_surprises_and_neighbors_differ(tmp_path, clock, system):
    made = [MockInterview(tmp_path / f"{seed}.json", system, seed=seed, clock=clock) for seed in range(8)]
    assert {one._surprise for one in made} == set(SURPRISE_FIELDS)
    assert all(one._surprise != next_one._surprise for one, next_one in pairwise(made))
    assert all(one._follow_ups != next_one._follow_ups for one, next_one in pairwise(made))


def test_the_surprise_depends_on_the_whole_case(tmp_path, clock):
    cases = {
        "system": list(SYSTEMS),
        "scale": ["small", "medium", "large"],
        "p99_ms": [50, 100, 150, 200, 250, 300],
        "seniority": list(SENIORITIES),
    }
    for name, values in cases.items():
        orders = {
            tuple(MockInterview(tmp_path / "i.json", **{name: value}, clock=clock)._order(20))
            for value in values
        }
        assert len(orders) == len(values)


def drawn(tmp_path, clock, field):
    """An interview, started, whose surprise changes this field of the ledger."""
    for seed in range(50):
        interview = MockInterview(tmp_path / f"{field}{seed}.json", seed=seed, clock=clock)
        interview.start()
        if SURPRISE_FIELDS[interview._surprise] == field:
            return interview
    raise AssertionError(f"no seed surprises by {field}")


def test_asking_before_or_after_the_surprise_gives_the_same_ledger(tmp_path, clock):
    interview = drawn(tmp_path, clock, "daily_users")
    clock.wait(SURPRISE_AT)
    interview.surprise()
    assert "2,000,000,000" in interview.ask("users").text
    assert interview.spec.daily_users == 2e9


def test_estimates_are_checked_against_the_ledger_after_the_surprise(tmp_path, clock):
    interview = drawn(tmp_path, clock, "daily_users")
    interview.fill({"estimates": {"peak_qps": interview.numbers()["peak_qps"]}})

    def verdict():
        return next(f.verdict for f in interview.findings() if f.check == "peak_qps")

    assert verdict() == "sound"
    clock.wait(SURPRISE_AT)
    interview.surprise()
    assert verdict() == "wrong"


def test_erasure_is_due_after_its_surprise_only(tmp_path, clock):
    interview = drawn(tmp_path, clock, "privacy")
    clock.wait(SURPRISE_AT + 3)
    assert "erasure" not in interview.due()
    interview.surprise()
    assert "erasure" in interview.due()
    assert "erasure" in [finding.check for finding in interview.findings()]


@pytest.mark.parametrize("seniority", SENIORITIES)
def test_follow_ups_are_those_of_the_level_each_once_then_none(path, clock, seniority):
    interview = MockInterview(path, seniority=seniority, clock=clock)
    interview.start()
    known = {one.question for one in interview.system.followups[seniority]}
    heard = [interview.follow_up().text.strip("*") for _ in known]
    assert set(heard) == known
    assert "no more" in interview.follow_up().text


def test_follow_ups_go_on_after_a_restart(interview, path, clock):
    first = interview.follow_up().text
    second = again(interview, path, clock).follow_up().text
    assert first != second


# ---------------------------------------------------------------- the sheet


def test_filling_saves_at_once_and_merges(interview, path, clock):
    interview.fill({"baseline": "popular", "split": ...})
    interview.fill(Sheet(label="half watched"))
    assert again(interview, path, clock).sheet == Sheet(baseline="popular", label="half watched")


def test_entries_of_a_dictionary_join_those_before(interview, path, clock):
    interview.fill({"estimates": {"peak_qps": 5, "labels_a_day": 7}, "latency_budget": {"rank": 50}})
    interview.fill(
        {"estimates": {"peak_qps": 6, "plain_model_cores": ...}, "latency_budget": {"retrieve": 20}}
    )
    restarted = again(interview, path, clock)
    assert restarted.sheet.estimates == {"peak_qps": 6, "labels_a_day": 7}
    assert restarted.sheet.latency_budget == {"rank": 50, "retrieve": 20}
    interview.fill({"latency_budget": {"rank": None}})
    assert interview.sheet.latency_budget == {"retrieve": 20}
    assert "must be a dictionary" in interview.fill({"latency_budget": [1]}).text
    assert interview.sheet.latency_budget == {"retrieve": 20}


def test_a_part_that_is_refused_is_named_and_the_others_are_saved(interview, path, clock):
    interview.fill({"baseline": "popular"})
    told = interview.fill({"baseline": "newest", "split": "odd", "nothing": 1, "gap_days": "2 days"}).text
    assert told.count("**Not saved:**") == 2
    assert "no split 'odd'" in told
    assert "no part nothing" in told
    assert "Give a dictionary" in interview.fill(3).text
    assert again(interview, path, clock).sheet == interview.sheet == Sheet(baseline="newest", gap_days=2)


def test_what_is_due_grows_with_the_phases(interview, clock):
    assert interview.due() == []
    clock.wait(5)
    assert interview.due() == [name for name, part in PARTS.items() if part.until == 8]
    assert "Due by now: primary_metric" in interview.fill({"baseline": "popular"}).text
    clock.wait(LENGTH)
    assert set(interview.due()) == set(PARTS) - {"baseline", "erasure"}


def test_nothing_is_filled_before_the_start(path, clock):
    interview = MockInterview(path, clock=clock)
    assert ".start()" in interview.fill({"baseline": "x"}).text
    assert interview.sheet == Sheet()
    assert not path.exists()


# ---------------------------------------------------------------- scores and report


def test_a_report_without_scores_says_what_is_missing(interview):
    report = interview.report()
    assert report.total is None
    assert report.band == ""
    assert "No total yet" in report.text
    assert len(report.practice) == 2


def test_a_row_in_which_a_check_found_something_is_capped(interview):
    interview.score(SCORES)
    rows = interview.report().rows
    assert rows.points["communication"] == 3
    assert rows.points.drop("communication").tolist() == [CHECKED_CAP] * 6
    assert rows.weighted.sum() == pytest.approx((100 - 5) * CHECKED_CAP / 4 + 5 * 3 / 4)


def test_red_flags_of_checks_and_own_ones_cap_the_total(interview):
    interview.score(SCORES, red_flags=["propensity"])
    report = interview.report()
    assert {"propensity", "split", "fallback", "label", "privacy", "rollback"} == set(report.red_flags)
    assert report.total <= 55
    assert "inverse propensity" in report.text


def test_a_red_flag_is_said_to_cap_only_a_total_above_its_cap(interview):
    interview.score(dict.fromkeys(RUBRIC, 4) | {"communication": 0}, red_flags=["propensity"])
    report = interview.report()
    assert report.total < 55
    assert "capped at" not in report.text


def test_a_total_above_the_cap_is_said_to_be_capped(interview, monkeypatch):
    monkeypatch.setattr(type(interview), "findings", lambda self: [])
    interview.score(SCORES, red_flags=["propensity"])
    assert "**55 of 100, capped at 55 by a red flag: mid.**" in interview.report().text


def test_a_score_says_how_many_rows_have_points(interview):
    assert interview.score({"model": 3, "estimation": ...}).text == "1 of 7 rows have points."
    assert interview.score(SCORES).text == "7 of 7 rows have points."


def test_practice_links_two_rows_that_lost_most_red_flags_first(interview):
    interview.score(SCORES)
    links = {section_link(name) for name in concepts().index}
    told = interview.report().practice
    assert len(told) == 2
    assert all(any(link in line for link in links) for line in told)
    assert told[0].startswith("**data and features**")


def test_the_report_says_what_was_not_asked_and_what_was_wasted(interview, clock):
    interview.ask("users")
    interview.ask("team")
    clock.wait(LENGTH)
    text = interview.report()._repr_markdown_()
    assert "From how many videos can one request choose?" in text
    assert "Asked for nothing: How many people work on it?" in text
    assert "How many people open the home page on a day?" not in text
    assert CALIBRATION in text


def test_four_questions_that_change_the_design_are_enough(interview):
    def verdict():
        return next(finding.verdict for finding in interview.findings() if finding.check == "questions")

    assert verdict() == "missing"
    for key in ("team", "users", "loads", "peak"):
        interview.ask(key)
        assert verdict() == "wrong"
    interview.ask("catalog")
    assert verdict() == "sound"


def test_what_was_not_asked_is_told_by_the_change_it_makes_largest_first(path, clock):
    interview = MockInterview(path, "fraud detection", p99_ms=100, clock=clock)
    interview.score(SCORES)
    told = interview.report().text
    places = [told.index(interview.system.asks[key].text) for key in ("delay", "users", "fresh", "actions")]
    assert places == sorted(places)


def test_a_report_in_between_tells_nothing_that_spoils_the_interview(interview, clock):
    interview.fill({"estimates": {"peak_qps": 5}, "users_per_arm": 7})
    interview.follow_up()
    clock.wait(LENGTH - 0.1)
    interview.surprise()
    interview.score({row: n for row, n in SCORES.items() if row != "model"})
    report = interview.report()
    later = "What you did not ask is told after minute 45, or when every row has points."
    assert report.text.count("What you did not ask") == report.text.count(later) == 1
    told = report.text + report.checks.to_string() + str(interview.findings())
    assert not any(word in told.lower() for word in ("computed ", "a factor of", "key:", "how many videos"))
    clock.wait(0.1)
    text = interview.report().text
    assert later not in text
    assert all(word in text for word in ("### What you did not ask", "Computed ", "*Key:"))


def test_scores_of_all_rows_open_the_report_before_the_end(interview):
    interview.score(SCORES)
    assert "### What you did not ask" in interview.report().text
    assert "Computed " in interview.report().text


def test_keys_are_told_for_what_was_asked_only(interview, clock):
    interview.score(SCORES)
    assert "Key:" not in interview.report().text
    asked = interview.follow_up().text.strip("*")
    told = interview.report().text
    assert asked in told
    assert told.count("*Key:") == 1
    clock.wait(SURPRISE_AT)
    interview.surprise()
    assert interview.report().text.count("*Key:") == 2


def test_parts_that_were_filled_too_late_are_named(interview, clock):
    clock.wait(LENGTH - 1)
    interview.fill({"baseline": "popular"})
    assert "too late" not in interview.report().text
    clock.wait(2)
    interview.fill({"risks": ["a loop"]})
    assert "too late to count in a real interview: risks" in interview.report().text


def test_scores_come_row_by_row_and_are_saved(interview, path, clock):
    for row in RUBRIC:
        interview.score({row: 3})
    assert again(interview, path, clock).report().text == interview.report().text
    assert interview.report().total is not None


@pytest.mark.parametrize(
    ("points", "flags", "words"),
    [({"model": 9}, (), "points of model"), ({"style": 1}, (), "row must"), ({}, ("odd",), "red flag must")],
)
def test_a_wrong_score_is_refused_and_changes_nothing(interview, points, flags, words):
    before = interview.report().text
    with pytest.raises(ValueError, match=words):
        interview.score(points, flags)
    assert interview.report().text == before


def test_a_table_of_the_report_keeps_its_columns(interview):
    interview.fill({"fallback": "a | b", "baseline": "two\nlines"})
    for line in interview.report().text.splitlines():
        assert not line.startswith("|") or line.replace("\\|", "").count("|") in (5, 7)


# ---------------------------------------------------------------- state


@settings(max_examples=8, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "fill", "surprise", "follow_up", "score"]),
            st.integers(0, 9),
            st.booleans(),
        ),
        max_size=10,
    )
)
def test_a_restart_at_any_point_changes_nothing(tmp_path_factory, steps):
    folder, clock = tmp_path_factory.mktemp("restart"), Clock()
    one, two = (MockInterview(folder / f"{name}.json", seed=4, clock=clock) for name in ("one", "two"))
    one.start(), two.start()
    for step, n, restart in steps:
        clock.wait(n)
        if restart:
            two = again(two, folder / "two.json", clock)
        keys = list(one.questions.index)
        arguments = {
            "ask": (keys[n],),
            "fill": ({"baseline": f"model {n}", "estimates": {"peak_qps": n}},),
            "score": ({"model": n % 5},),
        }.get(step, ())
        if step != "ask" or one.questions_left:
            told = [getattr(interview, step)(*arguments) for interview in (one, two)]
            assert str(told[0]) == str(told[1])
    assert one.report().text == two.report().text
    assert (one.minute(), one.spec, one.sheet) == (two.minute(), two.spec, two.sheet)


def content(**changes):
    """A damage: the saved content with some keys replaced."""
    return lambda state: json.dumps(state | {"content": state["content"] | changes})


def without(name):
    return lambda state: json.dumps(
        state | {"content": {key: value for key, value in state["content"].items() if key != name}}
    )


DAMAGE = {
    "cut short": lambda state: json.dumps(state)[:40],
    "another version": lambda state: json.dumps(state | {"version": 0}),
    "a drill": lambda state: json.dumps(state | {"kind": "drill"}),
    "an empty content": lambda state: json.dumps(state | {"content": {}}),
    "a start in words": content(started_at="yesterday"),
    "a start at true": content(started_at=True),
    "no seconds of pause": content(paused_seconds=None),
    "an unknown question": content(asked=["weather"]),
    "asked is a number": content(asked=3),
    "a surprise in words": content(surprised="yes"),
    "too many follow-ups": content(followed=99),
    "an unknown part": content(sheet={"mood": "good"}),
    "a sheet in a list": content(sheet=[]),
    "filled by a word": content(filled={"baseline": "late"}),
    "a score of nine": content(scores={"model": 9}),
    "an unknown flag": content(red_flags=["odd"]),
    "damaged settings": content(settings={"system": "video recommendation"}),
    "settings in a list": content(settings=[1]),
} | {
    f"without {name}": without(name)
    for name in ("settings", "started_at", "asked", "sheet", "scores", "filled")
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_is_reported_and_kept_aside(interview, path, clock, damage):
    interview.ask("users")
    damaged = damage(json.loads(path.read_text()))
    path.write_text(damaged)
    restarted = again(interview, path, clock)
    assert "interview.json could not be used" in restarted.notice
    assert restarted.notice.endswith("Call interview.start() when you are ready.")
    assert (path.parent / "interview.aside-1.json").read_text() == damaged
    assert restarted.minute() == 0
    assert restarted.questions_left == 6


@pytest.mark.parametrize(
    "change",
    [
        {"system": "feed ranking"},
        {"scale": "small"},
        {"p99_ms": 50},
        {"seed": 9},
        {"seniority": "Staff"},
        {"budget": 3},
    ],
)
def test_another_interview_is_neither_continued_nor_overwritten(interview, path, clock, change):
    interview.ask("users")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"other settings: {next(iter(change))} is [^,]*\. .*another path"):
        MockInterview(path, **interview.settings | change, clock=clock)
    assert path.read_bytes() == before
    assert [child.name for child in path.parent.iterdir()] == ["interview.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"system": "chess"},
        {"scale": "huge"},
        {"p99_ms": 0},
        {"p99_ms": "fast"},
        {"seniority": "Junior"},
        {"seed": -1},
        {"budget": 1.5},
    ],
)
def test_unknown_settings_are_refused_before_anything_is_written(path, clock, change):
    with pytest.raises(ValueError, match=r"Choose from|must be"):
        MockInterview(path, clock=clock, **change)
    assert not path.exists()


def test_a_folder_that_cannot_be_written_to_is_found_by_the_start_at_the_latest(tmp_path, clock):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="may write to"):
        MockInterview(tmp_path / "taken" / "i.json", clock=clock).start()


def test_nothing_is_saved_before_the_start(path, clock):
    interview = MockInterview(path, clock=clock)
    interview.fill({"baseline": ...})
    interview.score({"model": ...})
    interview.report()
    assert not path.exists()
    interview.start()
    assert path.exists()


def test_an_interview_that_never_began_gives_way_to_other_settings(path, clock):
    MockInterview(path, scale="small", clock=clock).score({"model": 3})
    assert path.exists()
    other = MockInterview(path, scale="large", clock=clock)
    assert other.report().rows["own"].isna().all()
    other.start()
    assert again(other, path, clock).settings["scale"] == "large"


def test_the_real_clock_runs(path):
    interview = MockInterview(path)
    interview.start()
    assert 0 <= interview.minute() < LENGTH


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("scale", ["small", "medium", "large"])
def test_briefs_and_reports_of_all_systems_have_no_gap(tmp_path, clock, system, scale):
    interview = MockInterview(tmp_path / "i.json", system, scale, 100, "Staff", clock=clock)
    brief = interview.start().text
    clock.wait(LENGTH)
    for text in (brief, interview.report().text):
        assert "None of them" not in text
        assert "nan" not in text.split()
        assert " None" not in text.replace("None of your numbers", "")
