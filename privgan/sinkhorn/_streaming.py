"""Half-steps from points: tiles of the cost are formed, used and forgotten.

Memory is O((n + m) d) for every cost. A tile holds some rows of x against all of y; one visit
gives both halves of a step, because a row's potential is known as soon as its row is, and the
row's share of the column sums follows from the same exponentials.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from privgan.sinkhorn._iteration import Solution
from privgan.sinkhorn._pairs import FEW
from privgan.sinkhorn._precision import SUMS, reach
from privgan.sinkhorn._problem import gradients, tile_rows
from privgan.sinkhorn._search import search
from privgan.sinkhorn._threads import shares
from privgan.sinkhorn.costs import Cost

ROWS = 2**12  # and rows of them: as many numbers are summed in their own precision
WORK = 8  # numbers that it would take as long to visit as to form a cost and its exponential
LEAST = 1e-20  # a column that holds less mass may have underflowed


class StreamingHalfSteps:
    """``psi -> (phi, log q)`` for points x (n, d), y (m, d) on any device; see `_iteration`."""

    @staticmethod
    def fits(x: Tensor, cost: Cost) -> bool:
        """Whether this kind of half-steps is made for these points and this cost."""
        return True

    def __init__(self, x: Tensor, y: Tensor, cost: Cost, reg: float, a: Tensor, b: Tensor):
        self.x, self.y, self.cost, self.reg, self.a, self.b = x, y, cost, reg, a, b
        self.log_b = b.log()
        self.rows = min(ROWS, tile_rows(y))
        self.noise = SUMS * torch.finfo(x.dtype).eps

    def tiles(self) -> Iterator[slice]:
        for first in range(0, len(self.x), self.rows):
            yield slice(first, first + self.rows)

    def solve(self, psi: Tensor | None, tol: float, max_iter: int, look: bool = True) -> Solution:
        """The iteration from ``psi`` (m,), or from the c-transform of phi = 0."""
        return search(self, psi, tol, max_iter, look)

    def spread(self) -> float:
        """How far costs differ, over reg, at most."""
        low, high = reach(self.x, self.y, self.cost, self.rows)
        return (high - low) / self.reg

    def at(self, times: float) -> "StreamingHalfSteps":
        """The same for ``times`` reg."""
        return type(self)(self.x, self.y, self.cost, self.reg * times, self.a, self.b)

    def start(self, look: bool = True) -> Tensor:
        """The c-transform of phi = 0: half a step with the two sides swapped."""
        swapped = type(self)(self.y, self.x, self.cost.T, self.reg, self.b, self.a)
        return swapped._sums(torch.zeros_like(self.a))[0]

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        phi, columns = self._sums(psi)
        return phi, self._log(columns, phi, psi)

    def attempt(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same, and whether it can be trusted, without a look from the host."""
        phi, columns = self._sums(psi)
        return phi, (columns / self.b).log(), (columns > LEAST).all()

    def _sums(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        """phi, and the column sums."""
        phi = torch.empty_like(self.a)
        columns, weighted = torch.zeros_like(psi), (psi + self.log_b).to(self.y)
        for tile in self.tiles():
            exponent = self.cost.matrix(self.x[tile], self.y).div_(-self.reg).add_(weighted)
            largest = exponent.amax(1, keepdim=True)
            total = exponent.sub_(largest).exp_().sum(1)  # in pairs, so to the last few places
            phi[tile] = -(largest[:, 0].double() + total.double().log())
            columns += ((self.a[tile] / total).to(exponent) @ exponent).double()
        return phi, columns

    def _log(self, columns: Tensor, phi: Tensor, psi: Tensor) -> Tensor:
        """log q, with columns that underflowed summed again in the log domain."""
        log_q = (columns / self.b).log()
        lost = ~(columns > LEAST)
        if lost.any():
            y, weight = self.y[lost], phi + self.a.log()
            exact = torch.full((len(y),), -torch.inf, dtype=psi.dtype, device=psi.device)
            rows = tile_rows(y)
            for first in range(0, len(self.x), rows):
                tile = slice(first, first + rows)
                exponent = (
                    weight[tile, None] - self.cost.matrix(self.x[tile], y).double() / self.reg
                )
                exact = torch.logaddexp(exact, torch.logsumexp(exponent, 0))
            log_q[lost] = exact + psi[lost]
        return log_q

    def gradients(self, solution: Solution, need_y: bool) -> tuple[Tensor, Tensor | None]:
        """Plan-weighted cost gradients in x (n, d) and, if asked for, in y (m, d)."""

        def plan(tile: slice) -> Tensor:
            rows = self.cost.matrix(self.x[tile], self.y).double().div_(-self.reg)
            rows.add_(solution.phi[tile, None]).add_(solution.psi).exp_()
            return rows.mul_(self.a[tile, None]).mul_(self.b)

        return gradients(self.cost, self.x, self.y, self.tiles(), plan, need_y)


class CompiledHalfSteps(StreamingHalfSteps):
    """The same in one compiled loop, for float32 points with few columns on a CPU."""

    @staticmethod
    def fits(x: Tensor, cost: Cost) -> bool:
        few = x.shape[1] <= FEW and cost.pointwise is not None
        return few and x.dtype == torch.float32 and x.device.type == "cpu"

    def __init__(self, x: Tensor, y: Tensor, cost: Cost, reg: float, a: Tensor, b: Tensor):
        from privgan.sinkhorn import _loops  # numba takes a while to import

        super().__init__(x, y, cost, reg, a, b)
        self.loops = _loops
        centre = y.mean(0)  # psi - scale c is a small difference; keep its terms small too
        self.centred = (x - centre).contiguous(), (y - centre).contiguous()
        self.y_columns = self.centred[1].T.contiguous()
        self.weights = a.float()
        self.settings = cost.pointwise, np.float32(1.0 / reg)
        self.phi = torch.zeros_like(a)
        sums = shares(WORK * len(x) * len(y)), len(y)
        self.buffer, self.partial = y.new_empty((2, *sums)), a.new_empty(sums)

    def _sums(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        points, scratch = (self.centred[0], self.y_columns), (self.buffer, self.partial)
        weighted = (psi + self.log_b).float()
        self.loops.streaming_half_steps(
            *points, *self.settings, weighted, self.weights, self.phi, *scratch
        )
        return self.phi.clone(), self.partial.sum(0)

    def gradients(self, solution: Solution, need_y: bool) -> tuple[Tensor, Tensor | None]:
        x, y = self.centred
        phi = (solution.phi + self.a.log()).float()
        psi = (solution.psi + self.log_b).float()
        return self._gradient(x, y, phi, psi), self._gradient(y, x, psi, phi) if need_y else None

    def _gradient(self, x: Tensor, y: Tensor, phi: Tensor, psi: Tensor) -> Tensor:
        out, points = torch.empty_like(x), (x, y.T.contiguous())
        self.loops.streaming_gradient(*points, *self.settings, phi, psi, out)
        return out
