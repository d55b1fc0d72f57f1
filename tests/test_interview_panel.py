"""The panel does what is clicked through the public methods, and shows what happened."""

import json

import pytest

from helpers.interview_panel import ACTIONS, InterviewPanel
from helpers.mock_interview import PHASES, SURPRISE_AT, MockInterview


class Clock:
    def __init__(self):
        self.now = 1e9

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def panel(tmp_path, clock):
    return InterviewPanel(MockInterview(tmp_path / "i.json", clock=clock))


def click(panel, action, key=""):
    panel.wish = {"do": action, "key": key, "number": panel.wish.get("number", 0) + 1}
    return panel.view


def test_the_first_view_shows_the_clock_at_rest_and_every_question(panel):
    assert (panel.view["state"], panel.view["seconds"], panel.view["left"]) == ("ready", 0, 6)
    assert [row[0] for row in panel.view["questions"]] == list(panel.interview.questions.index)
    assert [phase["name"] for phase in panel.view["phases"]] == [phase.name for phase in PHASES]


def test_start_pause_and_resume_move_the_state(panel, clock):
    assert click(panel, "start")["state"] == "running"
    clock.now += 90
    view = click(panel, "pause")
    assert (view["state"], view["seconds"]) == ("paused", pytest.approx(90))
    assert click(panel, "resume")["state"] == "running"


def test_a_question_is_answered_with_the_numbers_that_it_changes(panel):
    click(panel, "start")
    view = click(panel, "ask", "users")
    assert "200,000,000" in view["said"][0]
    assert ["peak_qps", "6.94", "6,940"] in view["changed"]
    assert view["left"] == panel.interview.questions_left == 5
    assert not any("|" in line or "*" in line for line in view["said"])


def test_what_the_interview_refuses_is_said_and_changes_nothing(panel):
    view = click(panel, "ask", "users")
    assert "has not begun" in view["said"][0]
    assert view["left"] == 6


def test_surprise_and_follow_up_are_told(panel, clock):
    click(panel, "start")
    assert "Not yet" in click(panel, "surprise")["said"][0]
    clock.now += 60 * SURPRISE_AT
    assert click(panel, "surprise")["said"] == panel.interview.surprise().words
    assert click(panel, "follow up")["said"]


def test_the_same_click_again_is_another_wish(panel):
    click(panel, "start")
    first = click(panel, "follow up")["said"]
    assert click(panel, "follow up")["said"] != first


def test_refresh_shows_what_happened_in_cells(panel):
    panel.interview.start()
    panel.interview.ask("users")
    panel.refresh()
    assert (panel.view["state"], panel.view["left"]) == ("running", 5)


@pytest.mark.parametrize("wish", [{}, {"do": "delete"}, {"do": ["start"]}, {"do": "ask"}])
def test_a_wish_that_is_none_does_nothing(panel, wish):
    panel.wish = wish
    assert panel.view["state"] == "ready"


def test_a_view_is_what_json_can_hold(panel):
    click(panel, "start")
    for action in ACTIONS:
        assert json.loads(json.dumps(click(panel, action, "users"))) == panel.view


def test_a_page_without_widgets_says_where_the_interview_stands(panel):
    assert "minute 0 of 45 (clarify), 6 questions left" in repr(panel)
