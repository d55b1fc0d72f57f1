"""The drill: short questions, and what was missed comes back sooner.

Each concept lies in a Leitner box (Leitner 1972). A right answer moves it one box up, a missed one back to
the first; a box says how many questions pass until the concept is asked again, with other numbers. Intervals
are counted in questions, not in days: a drill is done in one sitting or in ten.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from helpers.drill_questions import GENERATORS, DrillQuestion, question
from helpers.exercises import Verdict
from helpers.figures import say
from helpers.saved_state import StateFile
from helpers.sections import concepts, section_link
from helpers.shifts import whole

INTERVALS = (2, 5, 12, 30, 80)  # questions until a concept of box 1, 2, ... is asked again


@dataclass
class Card:
    """What is known of one concept: its box from 1 on, the question it is due at, and the answers so far."""

    box: int = 1
    due: int = 0
    asked: int = 0
    right: int = 0

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> "Card":
        """Return a saved card. Raises ValueError, KeyError or TypeError for anything else."""
        asked = whole("asked", saved["asked"])
        right, due = whole("right", saved["right"], high=asked), whole("due", saved["due"])
        return cls(whole("box", saved["box"], 1, len(INTERVALS)), due, asked, right)

    def answered(self, right: bool, now: int) -> None:
        """Move to the next box, or back to the first, and be due accordingly."""
        self.asked += 1
        self.right += right
        self.box = min(self.box + 1, len(INTERVALS)) if right else 1
        self.due = now + INTERVALS[self.box - 1]


@dataclass(frozen=True)
class Reply:
    """What the drill says of an answer: the verdict, and the words for it as Markdown."""

    verdict: Verdict
    text: str

    def _repr_markdown_(self) -> str:
        return self.text


class Drill:
    """A drill whose state lies in a JSON file, so that it goes on where it was after a restart.

    `next` asks, `answer` judges, `progress` sums up. Nothing else is needed: no clock, no network, no widget.
    """

    def __init__(self, path: Path | str, seed: int = 0) -> None:
        """Go on with the drill in the file at `path`, or begin one with this seed.

        path: a file whose name ends in .json. A file keeps the seed it began with. One that cannot be read
        is kept aside, and `notice` says so. Raises ValueError for another path or seed, and OSError when the
        folder cannot be written to.
        """
        self._file = StateFile(Path(path), "drill", 1)
        self.seed, self.asked, self._cards, self._pending = whole("seed", seed), 0, {}, None
        _, self.notice = self._file.load(self._restore)
        if self.notice:
            say(self.notice)
        self._save()

    def _restore(self, saved: Mapping[str, Any]) -> None:
        """Take over a saved state, or raise and change nothing; concepts without questions are left out."""
        seed, asked = whole("seed", saved["seed"]), whole("asked", saved["asked"])
        cards = {
            name: Card.restored(card) for name, card in dict(saved["cards"]).items() if name in GENERATORS
        }
        pending = saved["pending"] if saved["pending"] in GENERATORS else None
        self.seed, self.asked, self._cards, self._pending = seed, asked, cards, pending

    def _save(self) -> None:
        cards = {name: asdict(card) for name, card in self._cards.items()}
        self._file.save({"seed": self.seed, "asked": self.asked, "cards": cards, "pending": self._pending})

    # ---------------------------------------------------------------- asking and judging

    def next(self) -> DrillQuestion:
        """Return the question to answer now; until it is answered, it stays the same.

        First what is due, the lowest box first; then what was never asked; else what is due soonest.
        """
        if self._pending is None:
            self._pending = self._choose()
            self._save()
        return self._question(self._pending)

    def _question(self, concept_id: str) -> DrillQuestion:
        return question(concept_id, self.seed, self._cards.get(concept_id, Card()).asked)

    def _choose(self) -> str:
        """The concept to ask about."""
        order = np.random.default_rng(self.seed).permutation(list(GENERATORS)).tolist()
        known = sorted(self._cards, key=lambda name: (self._cards[name].box, self._cards[name].due))
        due = [name for name in known if self._cards[name].due <= self.asked]
        new = [name for name in order if name not in self._cards]
        return next(iter(due + new), None) or min(known, key=lambda name: self._cards[name].due)

    def answer(self, value: Any) -> Reply:
        """Judge the answer to the question of `next`, schedule the concept, and save.

        value: a number in the unit of the question, a quantity with a unit, a text of either such as
        '7.69 rows' or '15%', or the letter of a choice. None is "I do not know" and counts as missed; the
        placeholder ``...``, or what cannot be read, does not count; nor does an answer when no question is
        open.
        """
        if self._pending is None:
            return Reply(Verdict.NOT_ATTEMPTED, "No question is open: get one with `.next()`.")
        asked = self._question(self._pending)
        verdict, sentence = asked.judge(value)
        if verdict is Verdict.NOT_ATTEMPTED:
            return Reply(verdict, f"**{verdict.value}.** {sentence}")
        right = verdict is Verdict.RIGHT
        card = self._cards.setdefault(self._pending, Card())
        self.asked += 1
        card.answered(right, self.asked)
        self._pending = None
        self._save()
        return Reply(verdict, _spoken(asked, verdict, sentence, card.due - self.asked))

    # ---------------------------------------------------------------- looking back

    def progress(self) -> pd.DataFrame:
        """Return one row a concept that has questions, in the order of the list of concepts.

        Index concept_id; columns step, concept, asked, right, box (0: never asked), due_in (questions; 0:
        now, or never asked), notebook, section.
        """
        rows = concepts().loc[[name for name in concepts().index if name in GENERATORS]]
        cards = [self._cards.get(name, Card(box=0)) for name in rows.index]
        counts = {
            "asked": [card.asked for card in cards],
            "right": [card.right for card in cards],
            "box": [card.box for card in cards],
            "due_in": [max(0, card.due - self.asked) for card in cards],
        }
        return rows[["step", "concept"]].assign(**counts).join(rows[["notebook", "section"]])


def _spoken(asked: DrillQuestion, verdict: Verdict, sentence: str, due_in: int) -> str:
    """The words for a verdict: the mistake, the answer and its reason, where to read, and when it returns."""
    said = [f"**{verdict.value}.** {sentence}".strip()]
    if verdict is not Verdict.RIGHT:
        said.append(f"The answer is **{asked.solution}**. {asked.reason}")
    where = concepts().loc[asked.concept_id]
    said.append(f"Section: {section_link(asked.concept_id)} ({where.concept}).")
    said.append(f"It comes back, with other numbers, after {due_in} questions.")
    return "\n\n".join(said)
