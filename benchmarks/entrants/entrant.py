"""What every entrant provides: from the same arrays to the value and its gradient in x."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.search import Search


@dataclass(frozen=True)
class Answer:
    """f (n,), g (m,), gradient (n, d), value; ``claimed`` is the entrant's own error.

    plan (n, m): where an entrant returns its plan as such, its sums are judged instead of those
    of a plan made anew from float32 potentials.
    """

    f: np.ndarray
    g: np.ndarray
    gradient: np.ndarray
    value: float
    iterations: int | None = None
    claimed: float | None = None
    plan: np.ndarray | None = None


class Entrant(ABC):
    """What every entrant provides. ``package`` names the distribution that it measures."""

    package: str
    search: Search
    iterative = True  # the knob counts iterations: time grows in proportion

    @abstractmethod
    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray):
        """x (n, d), y (m, d), float32."""

    def prepare(self, knob: Any) -> None:  # noqa: B027
        """Compile for this setting, where there is something to compile; not timed."""

    @abstractmethod
    def solve(self, knob: Any) -> Any:
        """From the points to the value and its gradient: what is timed."""

    @abstractmethod
    def answer(self, result: Any) -> Answer:
        """What `solve` returned, for the judge; not timed."""

    @staticmethod
    def refuses(case: Case) -> str | None:
        """Why the package cannot be asked this case at all."""
        return None

    @classmethod
    def version(cls) -> str:
        return version(cls.package)
