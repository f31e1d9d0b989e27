"""The iteration, begun again further up when mass has a long way to go.

Between clusters that lie D reg apart, one iteration moves the difference of their potentials by the
logarithm of what is missing, and there are D to go: the error stands still meanwhile, however many
are taken. At D times reg the same way is one nat. So a search that stalls above rounding comes down
to reg from there, by a factor at a time, and takes each regularisation's potentials to the next.
(Kosowsky and Yuille, Neural Networks 7, 1994; Schmitzer, SIAM J. Sci. Comput. 41, 2019.)
"""

from typing import Protocol

from torch import Tensor

from privgan.sinkhorn import _device
from privgan.sinkhorn._iteration import Solution, iterate

FACTOR = 4.0  # between one regularisation and the next
NEAR = 4.0  # costs over the first regularisation, about
FEW = 40  # iterations that are enough on the way


class Search(Protocol):
    """Half-steps whose regularisation can be raised."""

    a: Tensor
    b: Tensor
    noise: float  # error that rounding may leave

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]: ...

    def attempt(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]: ...

    def start(self) -> Tensor:
        """Where to begin, psi (m,)."""
        ...

    def spread(self) -> float:
        """How far costs differ, over reg."""
        ...

    def at(self, times: float) -> "Search":
        """These half-steps for ``times`` reg; they may write where the others do."""
        ...


def search(steps: Search, psi: Tensor | None, tol: float, max_iter: int) -> Solution:
    """Iterate from ``psi`` (m,), or from the start, until the error is at most ``tol``.

    The best iterate seen is returned, with the error that belongs to it.
    """
    best = _run(steps, steps.start() if psi is None else psi, tol, max_iter)
    taken, begun = int(best.n_iter), False
    while best.error > max(tol, steps.noise) and taken < max_iter:
        if begun:
            psi = best.psi
        else:
            psi, spent = _descent(steps, tol, max_iter - taken - 1)
            taken, begun = taken + spent, True
        found = _run(steps, psi, tol, max_iter - taken)
        taken += int(found.n_iter)
        if found.error < best.error:
            best = found
    return Solution(best.phi, best.psi, best.error, taken)


def _run(steps: Search, psi: Tensor, tol: float, max_iter: int) -> Solution:
    run = _device.iterate if steps.a.is_cuda else iterate
    return run(steps, psi, steps.a, steps.b, tol, max_iter)


def _descent(steps: Search, tol: float, max_iter: int) -> tuple[Tensor, int]:
    """psi to begin with, come down from a regularisation near the costs; and iterations taken."""
    times, spread = 1.0, steps.spread()
    while spread > NEAR * times:
        times *= FACTOR
    psi, taken = None, 0
    while times > 1.0 and taken < max_iter:
        hot = steps.at(times)
        psi = hot.start() if psi is None else psi
        found = _run(hot, psi, tol, min(FEW, max_iter - taken))
        taken += int(found.n_iter)
        psi, times = found.psi * FACTOR, times / FACTOR
    return steps.start() if psi is None else psi * times, taken
