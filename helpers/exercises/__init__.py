"""Exercises that check themselves: the verdict comes in words and names the mistake.

An answer that is still the placeholder ``...`` is "not attempted" and never stops the notebook.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from enum import Enum
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from helpers.figures import say

Answer = Any
Number = float | int
Test = Callable[[Answer], bool]

ROUNDING = 0.005  # a learner may round to a few digits


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
                return Verdict.NOT_ATTEMPTED, self.how_to_answer()
            if missing := self.missing_keys(answer):
                return (
                    Verdict.NOT_YET,
                    f"Your dictionary lacks {', '.join(missing)}. Keep all keys of the cell.",
                )
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
            answer = answer(*deepcopy(self.probe))
        parts = answer.values() if isinstance(answer, dict) else [answer]
        return any(part is ... or part is None for part in parts)

    def how_to_answer(self) -> str:
        """Tell what to do with the placeholder."""
        repair = (
            "Replace the `...` and `return` your answer"
            if self.probe
            else "Replace the `...` with your answer"
        )
        return f"{repair}, then run this cell again."

    def missing_keys(self, answer: Answer) -> list[str]:
        """Return the keys that a dictionary answer should have and has not."""
        solved = self.solved()
        if not isinstance(solved, dict):
            return []
        return [str(key) for key in solved if not isinstance(answer, dict) or key not in answer]

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


# ---------------------------------------------------------------- tests of answers


def close(a: ArrayLike, b: ArrayLike) -> bool:
    """Tell whether two numbers, or two sequences of numbers in the same order, agree; NaN equals NaN."""
    a, b = np.ravel(np.asarray(a, float)), np.ravel(np.asarray(b, float))
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=ROUNDING, equal_nan=True))


def near(value: Number, rtol: float = ROUNDING) -> Test:
    """Return a test that is true of numbers close to `value`."""
    return lambda answer: bool(np.isclose(np.asarray(answer, float).item(), value, rtol=rtol, atol=1e-12))


def equals(right: Mapping[str, Number], rtol: float = ROUNDING) -> Test:
    """Return a test that is true of dicts whose numbers are close to those of `right`."""
    return lambda answer: all(near(value, rtol)(answer[key]) for key, value in right.items())


def tidy(labels: Mapping[str, Any]) -> dict[str, str]:
    """Return the labels in lower case, without spaces around them."""
    return {key: str(label).strip().lower() for key, label in labels.items()}


def confuses(truth: Mapping[str, str], right: str, given: str) -> Test:
    """Return a test that is true of dicts that give the label `given` where `right` would be right."""
    return lambda answer: any(truth[key] == right and label == given for key, label in tidy(answer).items())


def replies(arguments: tuple, reply: Any, agree: Callable[[Any, Any], bool] = close) -> Test:
    """Return a test that is true of functions that return `reply` for these arguments.

    The function gets a copy of the arguments, which it may change.
    """
    return lambda answer: agree(answer(*deepcopy(arguments)), reply)


def same_as(function: Callable, probes: Sequence[tuple], agree: Callable[[Any, Any], bool] = close) -> Test:
    """Return a test that is true of functions that agree with `function` on every probe."""
    return lambda answer: all(replies(p, function(*deepcopy(p)), agree)(answer) for p in probes)


def mistaken(name: str, function: Callable, message: str, probes: Sequence[tuple]) -> Mistake:
    """Return the mistake of writing `function` in place of the right one."""
    return Mistake(name, same_as(function, probes), message, example=function)


def wrong_value(name: str, value: Number, message: str) -> Mistake:
    """Return the mistake of answering `value`."""
    return Mistake(name, near(value), message, example=value)


# ---------------------------------------------------------------- guesses


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
