"""Half-steps from points on a GPU, in Triton loops that form every cost and store none.

Two launches make a step where the CPU's loop makes one visit. A CPU thread keeps a row of
exponentials in its cache until the row's potential is known, then adds them to the column
sums. On a GPU each row is split over several programs, or a few thousand rows would leave most
of the device idle; none of them knows the row's potential before all are done, and a tile is
formed again faster than it is fetched back. So the second launch is the first with the sides
exchanged. It needs no atomic additions either: the same input gives the same bits.

All is log-sum-exp, so nothing underflows. Potentials are float64 outside the loops.
"""

import functools
import importlib.util
import math
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from privgan.sinkhorn._iteration import Solution
from privgan.sinkhorn._streaming import StreamingHalfSteps
from privgan.sinkhorn.costs import ABSOLUTE, SQUARED_L2, Cost

FEATURES = 4  # formed without a loop; more features are padded to a multiple
PROGRAMS = 32  # one-warp programs wanted for each multiprocessor: about twice what it holds
PLAN = 2**25  # entries of the plan stored at a time for the gradients


class _Side(NamedTuple):
    """One side's points (n, d), and the same by feature with the padding that the loops expect."""

    points: Tensor
    columns: Tensor


class TritonHalfSteps(StreamingHalfSteps):
    """``psi -> (phi, log q)`` for float32 points on a CUDA device, squared L2 or L1."""

    @staticmethod
    def fits(x: Tensor, cost: Cost) -> bool:
        return cost.pointwise in (SQUARED_L2, ABSOLUTE) and fits(x)

    def __init__(self, x: Tensor, y: Tensor, cost: Cost, reg: float, a: Tensor, b: Tensor):
        from privgan.sinkhorn import (
            _triton_loops,  # here, for it takes a second that a CPU can spare
        )

        super().__init__(x, y, cost, reg, a, b)
        self.kernels = _triton_loops
        self.sides = self._side(x), self._side(y)
        self._squared = cost.pointwise == SQUARED_L2
        self.log_a, self.log_b = (w.log().clamp_min(_triton_loops.NEVER) for w in (a, b))

    def _side(self, points: Tensor) -> _Side:
        n, d = points.shape
        columns = pad(points.T, (0, -n % self.kernels.OWN, 0, -d % min(d, FEATURES)))
        return _Side(points.contiguous(), columns.contiguous())

    def start(self, look: bool = True) -> Tensor:
        x, y = self.sides
        return -self._log_sums(y, x, _small(torch.zeros_like(self.b)), _small(self.log_a))

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.sides
        phi = -self._log_sums(x, y, _small(torch.zeros_like(self.a)), _large(psi + self.log_b))
        return phi, self._log_sums(y, x, _large(psi), _small(phi + self.log_a))

    def attempt(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        phi, log_q = self(psi)
        return phi, log_q, log_q.sum().isfinite()

    def gradients(self, solution: Solution, need_y: bool) -> tuple[Tensor, Tensor | None]:
        """Plan-weighted cost gradients in x (n, d) and, if asked for, in y (m, d)."""
        x, y = self.sides
        u, v = _small(solution.phi + self.log_a), _large(solution.psi + self.log_b)
        return self._gradients(x, y, u, v), self._gradients(y, x, v, u) if need_y else None

    def _log_sums(self, own: _Side, other: _Side, u: Tensor, v: Tensor) -> Tensor:
        """log sum_j exp(u_i + v_j - c_ij / reg), float64, for each own point i."""
        n, m = own.columns.shape[1], other.columns.shape[1]
        programs = n // self.kernels.OWN
        splits, share = shares(programs, m, self.kernels.OTHER, multiprocessors(u.device))
        largest, total = u.new_empty((2, splits, n))
        loop = self.kernels.log_sums[programs, splits]
        self._launch(loop, own, other, u, v, largest, total, share=share)
        return torch.logsumexp(largest.double() + total.double().log(), 0)[: len(own.points)]

    def _gradients(self, own: _Side, other: _Side, u: Tensor, v: Tensor) -> Tensor:
        """sum_j exp(u_i + v_j - c_ij / reg) dc(own_i, other_j) / d own_i, (n, d)."""
        grad = torch.empty_like(own.points)
        n, m = own.columns.shape[1], other.columns.shape[1]
        rows = max(1, PLAN // m // self.kernels.OWN) * self.kernels.OWN
        for start in range(0, n, rows):
            plan = grad.new_empty((m, min(rows, n - start)))
            stride = plan.shape[1]
            loop = self.kernels.plan[m // self.kernels.OTHER, stride // self.kernels.OWN]
            self._launch(loop, own, other, u, v, plan, start=start, stride=stride)
            tile = slice(start, start + rows)
            grad[tile] = plan_gradient(own.points[tile], other.points, plan, squared=self._squared)
        return grad

    def _launch(
        self, loop: Callable[..., Any], own: _Side, other: _Side, *args: Tensor, **sizes: int
    ) -> None:
        """Run a loop that forms costs; ``args``: both potentials, then the results."""
        d, n = own.columns.shape
        m = other.columns.shape[1]
        u, v, *results = args
        never, features = self.kernels.NEVER, min(own.points.shape[1], FEATURES)
        u, v = pad(u, (0, n - u.shape[1]), value=never), pad(v, (0, m - v.shape[1]), value=never)
        with torch.cuda.device_of(u):  # Triton launches on the current device
            loop(
                own.columns,
                other.columns,
                u,
                v,
                *results,
                scale=1.0 / self.reg,
                n=n,
                m=m,
                blocks=d // features,
                **sizes,
                FEATURES=features,
                SQUARED=self._squared,
                OWN=self.kernels.OWN,
                OTHER=self.kernels.OTHER,
                num_warps=1,
            )


def fits(x: Tensor) -> bool:
    """Whether the loops take these points: float32, on a device where Triton starts."""
    return x.is_cuda and x.dtype == torch.float32 and starts()


def pairwise(x: Tensor, y: Tensor, out: Tensor, *, squared: bool) -> None:
    """out_ij = c(x_i, y_j), for x (n, d) and y (m, d)."""
    from privgan.sinkhorn import _triton_loops as loops

    (n, d), m = x.shape, len(y)
    if d > FEATURES:  # lanes then read neighbouring memory
        x, y = x.T.contiguous().T, y.T.contiguous().T
    sizes = n, m, d, *x.stride(), *y.stride()
    tile = {"OWN": loops.OWN, "OTHER": loops.OTHER, "FEATURES": min(d, FEATURES)}
    programs = math.ceil(m / loops.OWN), math.ceil(n / loops.OTHER)
    with torch.cuda.device_of(x):
        loops.pairwise[programs](x, y, out, *sizes, SQUARED=squared, **tile, num_warps=1)


def plan_gradient(x: Tensor, y: Tensor, plan: Tensor, *, squared: bool) -> Tensor:
    """sum_j plan_ji dc(x_i, y_j) / dx_i, (n, d), for x (n, d), y (m, d) and plan (m, n or more)."""
    from privgan.sinkhorn import _triton_loops as loops

    (n, d), m = x.shape, len(y)
    x, y = x.contiguous(), y.contiguous()
    group = min(loops.GROUP, 2 ** math.ceil(math.log2(d)))
    tiles, groups = math.ceil(n / loops.ROWS), math.ceil(d / group)
    splits, share = shares(tiles * groups, m, 1, multiprocessors(x.device))
    out = x.new_empty((splits, n, d))
    sizes = n, m, d, plan.shape[1], share
    with torch.cuda.device_of(x):
        loops.gradients[tiles, splits, groups](
            x, y, plan, out, *sizes, SQUARED=squared, ROWS=loops.ROWS, GROUP=group, num_warps=1
        )
    return out.sum(0)


@functools.cache
def starts() -> bool:
    """Whether Triton is installed and can start, for which it compiles a few lines of C."""
    if importlib.util.find_spec("triton") is None:
        return False
    import triton

    try:
        triton.runtime.driver.active.get_current_target()
    except Exception as fault:  # whichever it is, torch can do the work
        warnings.warn(
            f"Triton cannot start, so torch streams instead, slower: {fault}", stacklevel=2
        )
        return False
    return True


def shares(programs: int, count: int, unit: int, multiprocessors: int) -> tuple[int, int]:
    """Split ``count`` items, in units, between programs: how many splits, items in each.

    Each of ``programs`` is split so that every multiprocessor gets `PROGRAMS` in all, as long
    as there are units to hand out.
    """
    units = math.ceil(count / unit)
    splits = min(units, math.ceil(PROGRAMS * multiprocessors / programs))
    share = math.ceil(units / splits) * unit
    return math.ceil(count / share), share


def multiprocessors(device: torch.device) -> int:
    if device.type == "cpu":
        return 1  # Triton's interpreter, which runs one program after the other
    return torch.cuda.get_device_properties(device).multi_processor_count


def _large(potential: Tensor) -> Tensor:
    """A potential of the size of cost / reg: in float32, and what rounding left of it, (2, n)."""
    large = potential.float()
    return torch.stack([large, (potential - large).float()])


def _small(potential: Tensor) -> Tensor:
    """One that is small beside the costs, as phi is for a psi that began as a c-transform."""
    small = potential.float()
    return torch.stack([torch.zeros_like(small), small])
