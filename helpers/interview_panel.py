"""A panel for the mock interview: its clock, its questions and its news, beside the answer sheet in cells.

The panel only calls the public methods of `MockInterview`, so a cell and the panel may take turns.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anywidget
from traitlets import Dict, observe

from helpers.mock_interview import LENGTH, PHASES, SURPRISE_AT, MockInterview, Told


class InterviewPanel(anywidget.AnyWidget):
    """The clock, the questions, the surprise and the follow-ups of an interview, to click.

    The clock ticks in the browser; what is clicked comes as `wish`, and `view` answers it. `refresh` shows
    what happened in cells meanwhile.
    """

    _esm = Path(__file__).with_name("interview_panel.js")
    _css = Path(__file__).with_name("panel.css")

    view = Dict().tag(sync=True)
    wish = Dict().tag(sync=True)  # {"do": one of `ACTIONS`, "key": a question, "number": new with each click}

    def __init__(self, interview: MockInterview) -> None:
        """Show an interview that may have begun or not."""
        self.interview = interview
        super().__init__()
        self.refresh()

    def refresh(self) -> None:
        """Show the interview as it is now."""
        self.view = self._view(Told(""))

    @observe("wish")
    def _grant(self, change: dict[str, Any]) -> None:
        """Do what was clicked; an interview that refuses says why."""
        wish = change["new"]
        act = ACTIONS.get(str(wish.get("do")))
        if act is None:
            return
        try:
            told = act(self.interview, wish.get("key", ""))
        except (ValueError, OSError) as refusal:
            told = Told(str(refusal))
        self.view = self._view(told if isinstance(told, Told) else Told(""))

    def _view(self, told: Told) -> dict[str, Any]:
        """What the browser draws."""
        interview, questions = self.interview, self.interview.questions
        return {
            "title": interview.system.name,
            "seconds": 60 * interview.minute(),
            "state": interview.state,
            "length": LENGTH,
            "surprise_at": SURPRISE_AT,
            "phases": [phase._asdict() for phase in PHASES],
            "questions": [[key, row.question, bool(row.asked)] for key, row in questions.iterrows()],
            "left": interview.questions_left,
            "said": told.words,
            "changed": told.rows,
        }

    def __repr__(self) -> str:
        """What stands in a page that shows no widgets."""
        interview = self.interview
        return (
            f"InterviewPanel: {interview.system.name}, minute {int(interview.minute())} of {LENGTH} "
            f"({interview.phase().name}), {interview.questions_left} questions left. "
            "In JupyterLab, run this cell to use it."
        )


ACTIONS: dict[str, Callable[[MockInterview, str], Any]] = {
    "start": lambda interview, _: interview.start(),
    "pause": lambda interview, _: interview.pause(),
    "resume": lambda interview, _: interview.resume(),
    "ask": lambda interview, key: interview.ask(key),
    "surprise": lambda interview, _: interview.surprise(),
    "follow up": lambda interview, _: interview.follow_up(),
}
