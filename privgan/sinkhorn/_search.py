"""The iteration, helped on where mass has a long way to go.

Between clusters that lie D reg apart, one iteration moves the difference of their potentials by the
logarithm of what is missing, and there are D to go: the error stands still meanwhile, however many
iterations are taken. A search that stalls above rounding has two remedies. It comes down to reg
from near the costs, by a factor at a time, and takes each regularisation's potentials to the next:
at D times reg the same way is one nat (Kosowsky and Yuille, Neural Networks 7, 1994; Schmitzer,
SIAM J. Sci. Comput. 41, 2019). Then, as often as it needs to, it goes far along a Sinkhorn step,
doubling its length while the dual rises.
"""

from typing import Protocol, cast

from torch import Tensor

from privgan.sinkhorn import _device
from privgan.sinkhorn._iteration import Solution, iterate

FACTOR = 4.0  # between one regularisation and the next
NEAR = 4.0  # costs over the first regularisation, about
FEW = 40  # iterations that are enough on the way
SHORT, LONG = 20, 400  # iterations between two long steps: more after one that was not so long
FRUITFUL = 5  # iterations of a long step that was worth it: eight plain ones and more


class Search(Protocol):
    """Half-steps whose regularisation can be raised."""

    a: Tensor
    b: Tensor
    noise: float  # error that rounding may leave

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]: ...

    def start(self, look: bool = True) -> Tensor:
        """Where to begin, psi (m,); without ``look`` the host waits for nothing."""
        ...

    def spread(self) -> float:
        """How far costs differ, over reg."""
        ...

    def at(self, times: float) -> "Search":
        """These half-steps for ``times`` reg; they may write where the others do."""
        ...


def search(
    steps: Search, psi: Tensor | None, tol: float, max_iter: int, look: bool = True
) -> Solution:
    """Iterate from ``psi`` (m,), or from the start, until the error is at most ``tol``.

    The best iterate seen is returned, with the error that belongs to it. Without ``look`` a GPU's
    stays there, and is helped by nobody.
    """
    best = _run(steps, steps.start(look) if psi is None else psi, tol, max_iter, look)
    if isinstance(best.error, Tensor):
        return best
    taken, length, goal = int(best.n_iter), SHORT, max(tol, steps.noise)
    if best.error <= goal or taken >= max_iter:
        return best
    psi, spent = _descent(steps, tol, max_iter - taken)
    taken += spent
    while best.error > goal and taken < max_iter:
        found = _run(steps, psi, tol, min(length, max_iter - taken))
        taken += int(found.n_iter)
        if found.error < best.error:
            best = found
        if best.error > goal and taken < max_iter:
            psi, spent = _long_step(steps, found.last, max_iter - taken)
            taken, length = taken + spent, SHORT if spent > FRUITFUL else min(2 * length, LONG)
    return Solution(best.phi, best.psi, best.error, taken, best.last)


def _run(steps: Search, psi: Tensor, tol: float, max_iter: int, look: bool = True) -> Solution:
    if steps.a.is_cuda:
        on_device = cast(_device.DeviceHalfSteps, steps)  # on a GPU all can be tried there
        return _device.iterate(on_device, psi, steps.a, steps.b, tol, max_iter, look)
    return iterate(steps, psi, steps.a, steps.b, tol, max_iter, steps.noise)


def _descent(steps: Search, tol: float, max_iter: int) -> tuple[Tensor, int]:
    """psi to begin with, come down from a regularisation near the costs; and iterations taken."""
    times, spread, taken = 1.0, steps.spread(), 0
    while spread > NEAR * times:
        times *= FACTOR
    psi = steps.at(times).start()
    while times > 1.0 and taken < max_iter:
        found = _run(steps.at(times), psi, tol, min(FEW, max_iter - taken))
        taken += int(found.n_iter)
        psi, times = found.psi * FACTOR, times / FACTOR
    return psi * times, taken


def _long_step(steps: Search, psi: Tensor, max_iter: int) -> tuple[Tensor, int]:
    """The highest dual along a Sinkhorn step from ``psi``, about; and iterations taken."""
    phi, log_q = steps(psi)
    highest, length, taken = 0.0, 1.0, 1
    while taken < max_iter:
        further = psi - 2 * length * log_q
        gain = float(steps.a @ (steps(further)[0] - phi) + steps.b @ (further - psi))
        taken += 1
        if not gain > highest:
            break
        highest, length = gain, 2 * length
    return psi - length * log_q, taken
