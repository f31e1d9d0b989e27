"""Finding the cheapest setting of an entrant that reaches a tolerance.

`Attempts` solve once and return the judged `Attempt`, or raise OverBudget when that would take
too long. Every search returns the attempt it settles for, which may have failed.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.judge import MAX_ITERATIONS, Verdict

SLACK = 1.05  # for float32 rounding between an entrant's error and the judge's; for everybody


class OverBudget(Exception):
    """A solve that would take, or took, more than the time that anybody is given."""


@dataclass(frozen=True)
class Attempt:
    """One judged solve. knob: the setting; claimed: the entrant's own error, if it has one."""

    knob: float
    seconds: float
    iterations: int | None
    claimed: float | None
    verdict: Verdict

    def reached(self, tol: float) -> bool:
        return self.verdict.error <= SLACK * tol  # False for NaN


class Attempts(Protocol):
    """Solves on request, within the budget."""

    def __call__(self, knob: Any) -> Attempt:
        """One judged solve."""

    def check(self, iterations: int) -> None:
        """Raises OverBudget if that many iterations would be."""


Search = Callable[[Attempts, float, int | None], Attempt]


def own_rule(attempt: Attempts, tol: float, plain: int | None) -> Attempt:
    """The entrant is handed the tolerance, once, and is trusted to stop."""
    return attempt(tol)


def own_rule_or_tighter(attempt: Attempts, tol: float, plain: int | None) -> Attempt:
    """As `own_rule`; asked for more should its own error have been too optimistic."""
    return _first_that_reaches(attempt, tol, (tol, tol / 2, tol / 5))


def plain_iterations(attempt: Attempts, tol: float, plain: int | None) -> Attempt:
    """For plain Sinkhorn in any guise: ``plain`` is what it needs in float64.

    The iterates are the same for all of them but for rounding, so there is nothing to search,
    only a few steps to add where rounding asks for them.
    """
    if plain is None:
        raise OverBudget(f"more than {MAX_ITERATIONS} iterations needed")
    return _first_that_reaches(
        attempt, tol, [plain, plain + 1, *(round(plain * more) for more in (1.05, 1.2, 2.0))]
    )


def doubling(attempt: Attempts, tol: float, plain: int | None) -> Attempt:
    """Doubles the knob until it is enough, then closes in to ten percent from above."""
    enough = before = None
    short, knob = 0, 4
    while enough is None:
        tried = attempt(knob)
        if tried.reached(tol):
            enough = tried
        elif 2 * knob > MAX_ITERATIONS:
            return tried
        else:
            if before is not None:
                attempt.check(_at_least(before, tried, tol))
            before, short, knob = tried, knob, 2 * knob
    while enough.knob - short > max(1, 0.1 * enough.knob):
        tried = attempt((enough.knob + short) // 2)
        if tried.reached(tol):
            enough = tried
        else:
            short = tried.knob
    return enough


def _at_least(before: Attempt, tried: Attempt, tol: float) -> int:
    """Iterations needed if the error falls as fast as a geometric sequence through both."""
    fall = before.verdict.error / tried.verdict.error
    if not fall > 1.0:  # no trend to go by, or NaN
        return tried.knob
    steps = math.log(tried.verdict.error / tol) / math.log(fall)
    return round(tried.knob + steps * (tried.knob - before.knob))


def _first_that_reaches(attempt: Attempts, tol: float, knobs) -> Attempt:
    best = None
    for knob in dict.fromkeys(knobs):
        tried = attempt(knob)
        if tried.reached(tol):
            return tried
        if best is None or tried.verdict.error < best.verdict.error:
            best = tried
    return best
