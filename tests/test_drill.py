"""The questions of the drill judge their own answers rightly, and what was missed comes back sooner."""

import json
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.capacity import units
from helpers.drill import INTERVALS, Card, Drill
from helpers.drill_questions import GENERATORS, KINDS, DrillQuestion, question
from helpers.exercises import Verdict
from helpers.sections import concepts, section_link

each_concept = pytest.mark.parametrize("concept_id", GENERATORS)
SEEDS = range(50)


@pytest.fixture(scope="module")
def asked():
    """Each generator's questions for 50 seeds."""
    return {name: [question(name, seed, 0) for seed in SEEDS] for name in GENERATORS}


# ---------------------------------------------------------------- questions


@each_concept
def test_the_right_answer_is_right_and_says_why(asked, concept_id):
    for q in asked[concept_id]:
        assert q.judge(q.right) == (Verdict.RIGHT, q.reason)


@each_concept
def test_each_usual_mistake_is_named_and_not_right(asked, concept_id):
    for q in asked[concept_id]:
        assert len(q.mistakes) >= 2
        for message, value in q.mistakes.items():
            assert q.judge(value) == (Verdict.NOT_YET, message)


@each_concept
def test_choices_are_distinct_and_each_wrong_one_is_explained(asked, concept_id):
    for q in asked[concept_id]:
        assert len(set(q.choices)) == len(q.choices)
        assert not q.choices or {q.right, *q.mistakes.values()} == set(q.choices)
        assert bool(q.choices) != bool(q.unit)


@each_concept
def test_a_question_is_about_its_concept_and_drawn_anew(asked, concept_id):
    assert {q.concept_id for q in asked[concept_id]} == {concept_id}
    assert {q.kind for q in asked[concept_id]} <= set(KINDS)
    assert len({q.text for q in asked[concept_id]}) >= 3
    assert question(concept_id, 7, 2) == question(concept_id, 7, 2)
    assert "$" not in "".join(q.text + q.reason for q in asked[concept_id])  # it would begin a formula
    assert section_link(concept_id)


def test_right_choices_are_not_always_the_same(asked):
    drawn = ("3.16", "4.23", "5.9", "5.20", "2.14", "1.9", "1.19", "4.11")
    for name in drawn:
        assert len({q.right.split(" ")[0] for q in asked[name]}) >= 2, name
    letters = {q.choices.index(q.right) for name in drawn for q in asked[name]}
    assert letters == {0, 1, 2, 3}


def test_all_five_steps_and_all_kinds_are_asked(asked):
    assert {concepts().loc[name].step for name in GENERATORS} == set("12345")
    assert {questions[0].kind for questions in asked.values()} == set(KINDS)
    assert len(GENERATORS) >= 14


def test_a_number_may_come_with_a_unit_or_as_text(asked):
    q = asked["1.32"][0]
    assert q.judge(q.right * units.QPS)[0] is Verdict.RIGHT
    assert q.judge(q.right * 60 * units.request / units.minute)[0] is Verdict.RIGHT
    assert q.judge(f"{q.right:,.0f}")[0] is Verdict.RIGHT
    assert q.judge(np.float64(q.right))[0] is Verdict.RIGHT


def in_unit(unit, right):
    return DrillQuestion("1.6", "estimation", "How much?", right, {}, "So.", unit)


@each_concept
def test_a_number_may_carry_the_unit_of_its_question(asked, concept_id):
    for q in asked[concept_id]:
        if q.unit:
            assert q.judge(f"{q.right!r} {q.unit}")[0] is Verdict.RIGHT


@pytest.mark.parametrize(
    ("answer", "unit", "right"),
    [
        ("7.69 rows", "rows", 7.69),
        (" 7.69rows ", "rows", 7.69),
        ("7,690 Rows", "rows", 7690),
        ("1,412,799.5", "users", 1412799.5),
        ("-1,000", "users", -1000),
        ("1_000", "users", 1000),
        ("1.2e3 users", "users", 1200),
        ("15%", "percent", 15),
        ("15 percent", "percent", 15),
        ("15 %", "percent", 15),
        ("12%", "probability from 0 to 1", 0.12),
        ("12 percent", "share from 0 to 1", 0.12),
        ("0.12", "probability from 0 to 1", 0.12),
        ("0.12 probability", "probability from 0 to 1", 0.12),
        ("4 times", "times as long", 4),
        ("0.38 PSI", "PSI", 0.38),
        ("0.128 s", "ms", 128),
        ("0.6 GB/s", "gigabyte / second", 0.6),
    ],
)
def test_a_text_is_read_with_its_unit(answer, unit, right):
    assert in_unit(unit, right).judge(answer)[0] is Verdict.RIGHT


@pytest.mark.parametrize(
    "answer", ["0,5", "0,500", "7,69 rows", "1,2345", "1234,567", "1.234,5", "1,23,456", ","]
)
def test_a_comma_that_parts_no_thousands_is_refused_with_a_hint(answer):
    verdict, sentence = in_unit("rows", 5).judge(answer)
    assert verdict is Verdict.NOT_ATTEMPTED
    assert "cannot be read" in sentence
    assert "write 0.5 with a point" in sentence


@pytest.mark.parametrize(
    "answer", ["5 users", "5%", "5 / ", "/", "%", "", "rows", "1.2.3", "5 rows rows", "5 a/", "5 1"]
)
def test_a_text_in_another_unit_or_without_a_number_is_refused(answer):
    verdict, sentence = in_unit("rows", 5).judge(answer)
    assert verdict is Verdict.NOT_ATTEMPTED
    assert "with a point" not in sentence


@given(
    text=st.text(alphabet="0159.,_+-e%/ rowspM", max_size=12), unit=st.sampled_from(["rows", "ms", "percent"])
)
def test_no_text_breaks_the_drill(text, unit):
    assert in_unit(unit, 5).judge(text)[0] in Verdict


@pytest.mark.parametrize(
    "answer", [..., "about ten", float("nan"), float("inf"), True, [1, 2], {}, 3 * units.byte]
)
def test_a_number_that_cannot_be_read_does_not_count(asked, answer):
    verdict, sentence = asked["1.32"][0].judge(answer)
    assert verdict is Verdict.NOT_ATTEMPTED
    assert "QPS" in sentence


def test_a_choice_is_a_letter_or_its_words(asked):
    q = asked["4.11"][0]
    letter = "abc"[q.choices.index(q.right)]
    assert q.judge(letter)[0] is q.judge(f" {letter.upper()} ")[0] is q.judge(q.right)[0] is Verdict.RIGHT
    assert q.judge("d")[0] is q.judge(2)[0] is Verdict.NOT_ATTEMPTED


def test_a_wrong_answer_that_is_no_usual_mistake_is_not_right(asked):
    verdict, sentence = asked["1.32"][0].judge(-1)
    assert verdict is Verdict.NOT_YET
    assert "none of the usual" in sentence


def test_markdown_shows_each_choice_with_its_letter(asked):
    shown = asked["4.11"][0]._repr_markdown_()
    assert all(
        f"**{letter}** {choice}" in shown
        for letter, choice in zip("abc", asked["4.11"][0].choices, strict=True)
    )


def test_an_unknown_concept_has_no_question():
    with pytest.raises(ValueError, match=r"no question on '9\.9'"):
        question("9.9", 0, 0)


# ---------------------------------------------------------------- spacing


@pytest.fixture
def path(tmp_path):
    return tmp_path / "drill.json"


def answer_right(drill):
    return drill.answer(drill.next().right)


def test_what_was_missed_comes_back_after_the_first_interval(path):
    drill = Drill(path)
    missed = drill.next().concept_id
    drill.answer(None)
    for _ in range(INTERVALS[0]):
        assert drill.next().concept_id != missed
        answer_right(drill)
    assert drill.next().concept_id == missed


def test_what_was_known_comes_back_later_than_what_was_missed(path):
    drill = Drill(path)
    known = drill.next().concept_id
    answer_right(drill)
    seen = [answer_right(drill) and drill.next().concept_id for _ in range(INTERVALS[1])]
    assert seen[-1] == known
    assert known not in seen[:-1]


def test_of_what_is_due_the_lowest_box_is_asked_first(path):
    answer_right(Drill(path))
    state = json.loads(path.read_text())
    card = {"asked": 1, "right": 1}
    state["content"] |= {
        "asked": 9,
        "cards": {"1.6": card | {"box": 2, "due": 1}, "5.9": card | {"box": 1, "due": 8}},
    }
    path.write_text(json.dumps(state))
    assert Drill(path).next().concept_id == "5.9"


def test_every_concept_is_asked_before_long(path):
    drill, seen = Drill(path), set()
    for _ in range(4 * len(GENERATORS)):
        seen.add(drill.next().concept_id)
        answer_right(drill)
    assert seen == set(GENERATORS)


@given(st.lists(st.booleans(), max_size=30))
def test_a_box_rises_by_one_falls_to_the_first_and_stays_in_range(answers):
    card = Card()
    for now, right in enumerate(answers, 1):
        before = card.box
        card.answered(right, now)
        assert card.box == (min(before + 1, len(INTERVALS)) if right else 1)
        assert card.due - now == INTERVALS[card.box - 1]
    assert (card.asked, card.right) == (len(answers), sum(answers))


def test_intervals_grow():
    assert list(INTERVALS) == sorted(set(INTERVALS))


def test_an_open_question_stays_until_it_is_answered(path):
    drill = Drill(path)
    assert drill.next() == drill.next() == Drill(path).next()
    assert drill.answer(...).verdict is Verdict.NOT_ATTEMPTED
    assert drill.asked == 0
    first = drill.next()
    answer_right(drill)
    assert drill.next() != first


def test_a_decimal_comma_is_no_miss_and_the_question_stays_open(path):
    drill = Drill(path)
    while drill.next().choices:
        answer_right(drill)
    before, q = drill.asked, drill.next()
    reply = drill.answer("0,5")
    assert reply.verdict is Verdict.NOT_ATTEMPTED
    assert "write 0.5 with a point" in reply.text
    assert (drill.asked, drill.next()) == (before, q)
    assert drill.progress().loc[q.concept_id, "asked"] == 0


def test_an_answer_without_a_question_does_not_count(path):
    drill = Drill(path)
    reply = drill.answer(1)
    assert (reply.verdict, drill.asked) == (Verdict.NOT_ATTEMPTED, 0)
    assert ".next()" in reply.text


@pytest.mark.parametrize("text", ["b", "b)", "(b)", "B.", " b "])
def test_a_letter_is_read_as_people_write_it(text):
    asked = DrillQuestion("1.1", "metric choice", "?", "two", {}, "", choices=("one", "two"))
    assert asked.judge(text)[0] is Verdict.RIGHT


def test_a_choice_may_be_written_out_with_its_brackets():
    choices = ("recall (at k)", "precision.")
    for choice in choices:
        asked = DrillQuestion("1.1", "metric choice", "?", choice, {}, "", choices=choices)
        assert asked.judge(choice)[0] is Verdict.RIGHT


@pytest.mark.parametrize("text", ["I don't know", "no idea", "?"])
def test_not_to_know_is_an_answer(text):
    assert DrillQuestion("1.1", "estimation", "?", 3.0, {}, "", "s").judge(text) == (Verdict.NOT_YET, "")


@pytest.mark.parametrize("text", ["20,000", "about 20k", "~0.02 million rows", "20 thousand", "≈ 20 k rows"])
def test_a_number_is_read_as_people_write_it(text):
    asked = DrillQuestion("1.1", "estimation", "?", 20_000.0, {}, "", "rows")
    assert asked.judge(text)[0] is Verdict.RIGHT


def test_a_reply_names_the_mistake_the_answer_and_the_section(path):
    drill = Drill(path)
    q = drill.next()
    message, value = next(iter(q.mistakes.items()))
    reply = drill.answer(value)
    assert reply.verdict is Verdict.NOT_YET
    for words in (
        message,
        q.solution,
        q.reason,
        section_link(q.concept_id),
        f"after {INTERVALS[0]} questions",
    ):
        assert words in reply._repr_markdown_()


def test_the_same_concept_returns_with_other_numbers(path):
    drill = Drill(path)
    texts = []
    for _ in range(4):
        while drill.next().concept_id != "1.32":
            answer_right(drill)
        texts.append(drill.next().text)
        drill.answer(None)
    assert len(set(texts)) > 1


# ---------------------------------------------------------------- progress and state


def test_progress_counts_by_concept(path):
    drill = Drill(path)
    first = drill.next().concept_id
    answer_right(drill)
    second = drill.next().concept_id
    drill.answer(None)
    table = drill.progress()
    assert list(table.index) == [name for name in concepts().index if name in GENERATORS]
    assert table.loc[first, ["asked", "right", "box", "due_in"]].tolist() == [1, 1, 2, INTERVALS[1] - 1]
    assert table.loc[second, ["asked", "right", "box", "due_in"]].tolist() == [1, 0, 1, INTERVALS[0]]
    assert table.asked.sum() == 2


@settings(max_examples=15, deadline=None)
@given(answers=st.lists(st.booleans(), max_size=12), stop=st.integers(0, 12))
def test_a_restart_changes_nothing(tmp_path_factory, answers, stop):
    folder = tmp_path_factory.mktemp("drill")
    one, two = Drill(folder / "one.json", 5), Drill(folder / "two.json", 5)
    for n, right in enumerate(answers):
        if n == stop:
            two = Drill(folder / "two.json", 99)
        assert one.next() == two.next()
        value = one.next().right if right else None
        assert one.answer(value) == two.answer(value)
    assert one.progress().equals(two.progress())


def test_seeds_ask_in_other_orders(path, tmp_path):
    orders = set()
    for seed in range(3):
        drill = Drill(tmp_path / f"{seed}.json", seed)
        orders.add(tuple(answer_right(drill) and drill.next().concept_id for _ in range(4)))
    assert len(orders) == 3


DAMAGE = {
    "not JSON": lambda state: "{",
    "another version": lambda state: json.dumps(state | {"version": 7}),
    "another kind": lambda state: json.dumps(state | {"kind": "interview"}),
    "a key is missing": lambda state: json.dumps(state | {"content": {"seed": 1}}),
    "a negative count": lambda state: json.dumps(state | {"content": state["content"] | {"asked": -1}}),
    "a text as seed": lambda state: json.dumps(state | {"content": state["content"] | {"seed": "1"}}),
    "cards are numbers": lambda state: json.dumps(
        state | {"content": state["content"] | {"cards": {"1.6": 3}}}
    ),
    "an impossible box": lambda state: json.dumps(
        state
        | {"content": state["content"] | {"cards": {"1.6": {"box": 9, "due": 1, "asked": 1, "right": 1}}}}
    ),
    "more right than asked": lambda state: json.dumps(
        state
        | {"content": state["content"] | {"cards": {"1.6": {"box": 1, "due": 1, "asked": 1, "right": 2}}}}
    ),
    "an unhashable pending": lambda state: json.dumps(
        state | {"content": state["content"] | {"pending": []}}
    ),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_state_is_reported_kept_aside_and_the_drill_begins_anew(path, damage):
    drill = Drill(path)
    answer_right(drill)
    damaged = damage(json.loads(path.read_text()))
    path.write_text(damaged)
    again = Drill(path)
    assert "drill.json could not be used" in again.notice
    assert (path.parent / "drill.aside-1.json").read_text() == damaged
    assert again.asked == 0
    assert again.next()


def test_a_concept_that_has_no_question_any_more_is_left_out(path):
    drill = Drill(path)
    answer_right(drill)
    state = json.loads(path.read_text())
    state["content"]["cards"]["0.0"] = state["content"]["cards"].popitem()[1]
    state["content"]["pending"] = "0.0"
    path.write_text(json.dumps(state))
    again = Drill(path)
    assert again.notice == ""
    assert again.next().concept_id in GENERATORS


def test_what_a_failed_save_leaves_can_be_used_again(path, tmp_path):
    drill = Drill(path)
    answer_right(drill)
    copy = tmp_path / "copy.json"
    shutil.copy(path, copy)
    assert Drill(copy).progress().equals(drill.progress())


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_a_seed_is_a_whole_number(path, seed):
    with pytest.raises(ValueError, match="seed must be"):
        Drill(path, seed)


def test_a_folder_that_cannot_be_written_to_is_found_at_once(tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OSError, match="may write to"):
        Drill(tmp_path / "taken" / "drill.json")
