"""What the tests of plans share: a hand that drives a program step by step, in the controller's place."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeAlias

import pytest

from edge.errors import TipguardError
from edge.experiments.steps import Outcome, Step

Answer: TypeAlias = Outcome | TipguardError | None
ByHand: TypeAlias = Callable[[Generator[Step, Outcome, Any], Callable[[Step], Answer]], tuple[list[Step], Any]]


@pytest.fixture
def by_hand() -> ByHand:
    """Return what drives a program: each step gets the answer of a function, None standing for an empty outcome.

    An answer that is an error is raised at the step. Returns all steps, and what the program returned or raised.
    """

    def drive(program: Generator[Step, Outcome, Any], answer: Callable[[Step], Answer]) -> tuple[list[Step], Any]:
        steps: list[Step] = []
        try:
            step = next(program)
            while True:
                steps.append(step)
                said = answer(step)
                step = program.throw(said) if isinstance(said, TipguardError) else program.send(said or Outcome())
        except StopIteration as end:
            return steps, end.value
        except TipguardError as error:
            return steps, error

    return drive
