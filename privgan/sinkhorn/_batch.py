"""Several problems of one size, each solved by itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn.result import SinkhornResult


@dataclass(frozen=True)
class SinkhornResults(SinkhornResult):
    """Solved problems of one size, each what solving it alone gives; they are in ``results``.

    value: (B,); f: (B, n); g: (B, m). error and n_iter are the largest of them.
    """

    results: tuple[SinkhornResult, ...] = ()

    @staticmethod
    def of(results: list[SinkhornResult]) -> "SinkhornResults":
        value, f, g = (
            torch.stack([getattr(r, name) for r in results]) for name in ("value", "f", "g")
        )
        certificate = max(r.error for r in results), max(r.n_iter for r in results)
        return SinkhornResults(value, f, g, certificate, results[0]._tol, results=tuple(results))

    def plan(self) -> Tensor:
        """The couplings, (B, n, m). Dense problems only."""
        return torch.stack([r.plan() for r in self.results])

    def information(self) -> float:
        """KL(P || a b^T), nats, on average over the problems; NaN if they were streamed."""
        return sum(r.information() for r in self.results) / len(self.results)


def solve_each(
    solve: Callable[..., SinkhornResult],
    x: Any,
    y: Any,
    a: Any,
    b: Any,
    init: Any,
) -> SinkhornResults:
    """``solve(x, y, a, b, init)`` for every entry of x (B, n, d) and y (B, m, d).

    a, b: (B, n), (B, m), or for all alike (n,), (m,), or None. init: (B, m), (m,) or None, or
    earlier results.
    """
    x, y = checks.as_float_tensor("x", x), checks.as_float_tensor("y", y)
    if x.ndim != 3 or y.ndim != 3 or len(x) != len(y) or not len(x):
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; a batch of problems is "
            "(B, n, d) and (B, m, d), with B >= 1"
        )
    if isinstance(init, SinkhornResults):
        init = list(init.results)
    shared = [_entries(name, w, len(x)) for name, w in (("a", a), ("b", b), ("init", init))]
    found = []
    for k, problem in enumerate(zip(x, y, *shared, strict=True)):
        try:
            found.append(solve(*problem))
        except (TypeError, ValueError) as error:
            raise type(error)(f"problem {k} of the batch: {error}") from error
    return SinkhornResults.of(found)


def _entries(name: str, given: Any, count: int) -> Any:
    """One for each problem: those of a list or of a tensor (B, k), else the same for all."""
    if given is None or isinstance(given, SinkhornResult):
        return [given] * count
    if not isinstance(given, list):
        given = checks.as_float_tensor(name, given)
        if given.ndim != 2:
            return [given] * count
    if len(given) != count:
        raise ValueError(f"{name} is for {len(given)} problems, and x has {count}")
    return given
