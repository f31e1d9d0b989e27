"""Which half-steps solve a problem: on a stored matrix or on tiles, and in which precision."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from privgan.sinkhorn._dense import DenseHalfSteps, kept
from privgan.sinkhorn._exact import ExactHalfSteps
from privgan.sinkhorn._iteration import Solution
from privgan.sinkhorn._precision import FLAT, check_range, extent, holds, reach, rounding, sums_hold
from privgan.sinkhorn._problem import Problem, tile_rows
from privgan.sinkhorn._streaming import CompiledHalfSteps, StreamingHalfSteps
from privgan.sinkhorn._triton import TritonHalfSteps
from privgan.sinkhorn._triton_dense import TritonDenseHalfSteps

HalfSteps = DenseHalfSteps | StreamingHalfSteps | ExactHalfSteps


class Prepared(NamedTuple):
    """Half-steps; what their costs lack in y alone, (m,) or a number; what they should reach.

    sums, costs: bounds on the marginal error that rounding adds in the iteration, and in costs up
    to ``largest`` times reg. stored: whether there was room for a matrix.
    """

    steps: HalfSteps
    offset: Tensor | float
    tol: float
    sums: float = 0.0
    costs: float = 0.0
    largest: float = 0.0
    stored: bool = True

    def allowing(self, costs: float = 0.0, largest: float = 0.0) -> "Prepared":
        """With room for its rounding, this much in costs, if there is."""
        tol = max(self.tol - self.sums - costs, self.tol / 2)
        return self._replace(costs=costs, largest=largest, tol=tol)

    def error(self, solution: Solution, tol: float) -> float | Tensor:
        """The error of a solution, and as much as rounding may add to it."""
        error = solution.error + self.sums
        if not self.costs or error + self.costs <= tol or self.costs > 0.1:
            return error + self.costs
        # Of large costs only those count that mass meets: as C / reg is phi + psi - log density, a
        # sum over the plan is no larger than this one, as long as no entry is wrong by much.
        a, b, phi, psi = self.steps.a, self.steps.b, solution.phi, solution.psi
        met = (10.0 + a @ phi.abs() + b @ psi.abs()).item()
        return error + self.costs * min(1.0, met / self.largest)


def stored(cost: Tensor, problem: Problem, tol: float) -> Prepared:
    """For a matrix of costs (n, m) that are what they are."""
    low, high = extent(cost)
    check_range(low, high, problem.reg)
    return _stored(cost, 0.0, problem, (low, high), cost.dtype, tol).allowing()


def prepared(problem: Problem, tol: float, check: bool, fits: Callable[[int], bool]) -> Prepared:
    """On a stored matrix where one of numbers of so many bytes ``fits``, else on tiles."""
    found = _dense(problem, tol, check, fits) if fits(problem.x.element_size()) else None
    return found or _streaming(problem, tol, check)._replace(stored=False)


def _dense(
    problem: Problem, tol: float, check: bool, fits: Callable[[int], bool]
) -> Prepared | None:
    """For costs that are formed once and stored, in float64 if float32 cannot support ``tol``.

    None if they then do not fit.
    """
    x, y, reg = problem.x, problem.y, problem.reg
    n, m = len(x), len(y)
    matrix, offset = problem.cost.reduced_in(x, y, kept("cost", x, n, m))
    if not check:
        kernel = kept("kernel", x, n, m)
        steps = half_steps(matrix.contiguous(), reg, problem.a, problem.b, kernel)
        return Prepared(steps, offset, tol)
    ends = problem.among_all(extent(matrix))
    if matrix.dtype == torch.float32 and not holds(matrix.dtype, ends, reg, tol):
        if not fits(torch.float64.itemsize):
            return None
        x, y = x.double(), y.double()
        del matrix  # a large one's memory is free again
        matrix, offset = problem.cost.reduced_in(x, y, x.new_empty((n, m)))
        ends = problem.among_all(extent(matrix))
    largest = check_range(*ends, reg)
    found = _stored(matrix, offset, problem, ends, problem.x.dtype, tol)
    return found.allowing(rounding(matrix.dtype, largest / reg), largest / reg)


def _stored(
    matrix: Tensor,
    offset: Tensor | float,
    problem: Problem,
    ends: tuple[float, float],
    dtype: torch.dtype,
    tol: float,
) -> Prepared:
    """Half-steps on a matrix whose least and greatest entries are ``ends``; no room made yet."""
    reg = problem.reg
    if ends[1] - ends[0] <= FLAT * reg:
        return _flat(problem, (ends[1] - ends[0]) / reg, tol)
    dtype = dtype if sums_hold(dtype, tol) else torch.float64
    kernel = kept("kernel", matrix.new_empty(0, dtype=dtype), *matrix.shape)
    steps = half_steps(matrix.contiguous(), reg, problem.a, problem.b, kernel)
    return Prepared(steps, offset, tol, steps.noise)


def half_steps(matrix: Tensor, reg: float, a: Tensor, b: Tensor, kernel: Tensor) -> DenseHalfSteps:
    kind = TritonDenseHalfSteps if TritonDenseHalfSteps.fits(kernel) else DenseHalfSteps
    return kind(matrix, reg, a, b, kernel)


def _streaming(problem: Problem, tol: float, check: bool) -> Prepared:
    """For costs that are formed a tile at a time, in float64 if float32 cannot support ``tol``."""
    x, y, cost, reg = problem.x, problem.y, problem.cost, problem.reg
    if not check:
        return Prepared(_tiled(x, y, problem), 0.0, tol)
    rows = tile_rows(y)
    ends = problem.among_all(reach(x, y, cost, rows))
    if x.dtype == torch.float32 and not holds(x.dtype, ends, reg, tol):
        x, y = x.double(), y.double()
        ends = problem.among_all(reach(x, y, cost, rows))
    largest = check_range(*ends, reg)
    if ends[1] - ends[0] <= FLAT * reg:
        return _flat(problem, (ends[1] - ends[0]) / reg, tol)
    steps = _tiled(x, y, problem)
    found = Prepared(steps, 0.0, tol, steps.noise)
    return found.allowing(rounding(x.dtype, largest / reg), largest / reg)


def _tiled(x: Tensor, y: Tensor, problem: Problem) -> StreamingHalfSteps:
    kinds = CompiledHalfSteps, TritonHalfSteps, StreamingHalfSteps
    kind = next(kind for kind in kinds if kind.fits(x, problem.cost))
    return kind(x, y, problem.cost, problem.reg, problem.a, problem.b)


def _flat(problem: Problem, spread: float, tol: float) -> Prepared:
    """For costs that hardly differ: nor do potentials, which are wanted as precisely."""
    steps = ExactHalfSteps(problem)
    return Prepared(steps, 0.0, max(tol * spread, 1e-300), steps.noise)
