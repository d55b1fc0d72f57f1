"""Exercises that check themselves: the verdict comes in words and names the mistake.

An answer that is still the placeholder ``...`` is "not attempted" and never stops the notebook.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import Any

from helpers.figures import say

Answer = Any
Test = Callable[[Answer], bool]


class Verdict(Enum):
    """What a check can say of an answer."""

    NOT_ATTEMPTED = "Not attempted yet"
    RIGHT = "Right"
    NOT_YET = "Not yet"


@dataclass(frozen=True)
class Mistake:
    """A usual wrong answer: how to recognize it, what to tell the learner, and one example of it."""

    name: str
    made_by: Test
    message: str
    example: Answer


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    right: true of a right answer. mistakes: the usual wrong ones, the most specific first.
    reason: why the right answer is right. otherwise: what to look at after a wrong answer that no mistake
    explains. solution_code: source that defines `answer`.
    """

    title: str
    right: Test
    reason: str
    mistakes: tuple[Mistake, ...]
    otherwise: str
    hints: tuple[str, ...]
    solution_code: str
    probe: tuple = ()  # arguments to call a function answer with; empty when the answer is a value

    def judge(self, answer: Answer) -> tuple[Verdict, str]:
        """Return the verdict on an answer and the sentence that explains it."""
        try:
            if self.is_untouched(answer):
                return Verdict.NOT_ATTEMPTED, "Replace the `...` with your answer, then run this cell again."
            if self.right(answer):
                return Verdict.RIGHT, self.reason
            found = next((m.message for m in self.mistakes if m.made_by(answer)), self.otherwise)
            return Verdict.NOT_YET, found
        # A learner's code may fail in any way; the failure is part of the verdict.
        except Exception as error:
            return Verdict.NOT_YET, f"Your answer raised `{type(error).__name__}: {error}`. {self.otherwise}"

    def is_untouched(self, answer: Answer) -> bool:
        """Tell whether the answer is the placeholder, or a function or a dict that still holds it."""
        if callable(answer) and self.probe:
            answer = answer(*self.probe)
        parts = answer.values() if isinstance(answer, dict) else [answer]
        return any(part is ... or part is None for part in parts)

    def check(self, answer: Answer) -> None:
        """Show the verdict on an answer, in words."""
        verdict, sentence = self.judge(answer)
        say(f"**{verdict.value}: {self.title}.** {sentence}")

    def hint(self) -> None:
        """Show the hints, the weakest first."""
        say("\n".join(f"{number}. {text}" for number, text in enumerate(self.hints, 1)))

    def solution(self) -> None:
        """Show one solution and the reason behind it."""
        say(f"```python\n{self.solution_code.strip()}\n```\n{self.reason}")

    def solved(self) -> Answer:
        """Return the answer that the solution's own code defines."""
        namespace: dict[str, Answer] = {}
        exec(self.solution_code, namespace)  # our own source, kept as text so that it can be shown
        return namespace["answer"]


def reveal(guess: Answer, truth: float, what: str, spec: str = ".3g") -> None:
    """Compare a guess, made before the run, with the measured truth."""
    if guess is ...:
        say(f"You made no guess. Measured: {what} is **{truth:{spec}}**.")
        return
    if not isinstance(guess, Real):
        say(f"Your guess {guess!r} is not a number. Put a number in its place and run the cell again.")
        return
    ratio = guess / truth if truth else float("inf")
    verdict = "close" if 0.8 <= ratio <= 1.25 else "too high" if ratio > 1 else "too low"
    say(f"You guessed {guess:{spec}}; measured: {what} is **{truth:{spec}}**. Your guess was **{verdict}**.")
