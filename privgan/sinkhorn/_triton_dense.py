"""The iteration on a stored cost matrix in Triton loops, recorded as a CUDA graph where it pays.

A few iterations at a time are queued, with the kernel formed again first if the last ones have
asked for it: three launches an iteration, of which the host makes one, for a graph repeats all of
them on the addresses that it was recorded with. So a problem of some size has buffers that stay in
place; what goes in is copied there, and what the host reads is one vector a batch.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from privgan.sinkhorn import _replay
from privgan.sinkhorn._dense import FAINT, DenseHalfSteps
from privgan.sinkhorn._device import DONE, OVERFLOW, REFUSED
from privgan.sinkhorn._iteration import DEPTH, Solution
from privgan.sinkhorn._precision import TOO_SMALL
from privgan.sinkhorn._triton import multiprocessors, starts

GROUP = 4  # iterations a replay
MOST = 8  # replays before the host looks, at most
TILE = 8192  # entries of the kernel that a program holds at a time
WIDEST = 2 * TILE  # columns
BLOCK, WIDE = 32, 1024  # columns of a program of `columns`; vector entries that `advance` visits
PER_MULTIPROCESSOR = 2  # programs of `half_steps`
WARPS = 8  # of `advance`

# A tensor and its version, which a write to it raises; None where there is none yet.
Version = tuple[Tensor | None, int | None]


class TritonDenseHalfSteps(DenseHalfSteps):
    """`DenseHalfSteps` whose whole iteration stays on the device."""

    @staticmethod
    def fits(kernel: Tensor) -> bool:
        """Whether this kernel matrix is on a device where Triton starts, and not too wide."""
        return kernel.is_cuda and kernel.shape[1] * kernel.element_size() <= 4 * WIDEST and starts()

    def solve(self, psi: Tensor | None, tol: float, max_iter: int, look: bool = True) -> Solution:
        """As `DenseHalfSteps.solve`; if not to ``look``, error and n_iter stay on the device."""
        kernel = self.passes.kernel
        iteration = _replay.found(self.cost, kernel, Iteration)
        if iteration.cost.data_ptr() != self.cost.data_ptr():
            iteration.cost.copy_(self.cost)
        iteration.load(self.a, self.b, self.scale, tol, max_iter)
        if psi is None:
            iteration.open()
        else:
            iteration.resume(psi)
        if look:
            status, n_iter, error = iteration.watched()
            if status == REFUSED or (status == DONE and error > tol and n_iter < max_iter):
                return self._helped(iteration, tol, max_iter, int(n_iter))
            if status == OVERFLOW:
                raise ValueError(TOO_SMALL)
        else:
            for _ in range(math.ceil(max_iter / GROUP) + 1):
                iteration.group()
        iteration.finish()
        phi, psi, report = iteration.found.clone().split([*kernel.shape, 3])
        self.scale_kernel = iteration.scale
        error, n_iter = (error, int(n_iter)) if look else (report[2], report[1])
        return Solution(phi, psi, error, n_iter, psi)

    def _helped(self, iteration: "Iteration", tol: float, max_iter: int, taken: int) -> Solution:
        """The host goes on: it forms columns that underflow in the log domain, or helps a stall."""
        psi = iteration.psi.clone() if taken else None
        found = super().solve(psi, tol, max(1, max_iter - taken))
        return replace(found, n_iter=int(found.n_iter) + taken)

    scale_kernel = None

    def plan(self, solution: Solution) -> Tensor:
        """The plan of the solution that was found last, written over the kernel."""
        if self.scale_kernel is None:
            return super().plan(solution)
        self.scale_kernel()
        return self.passes.kernel


def _unchanged(new: Version, old: Version) -> bool:
    """Whether a tensor and its version are the ones before, as those of uniform weights are."""
    return new[0] is old[0] and new[1] is not None and new[1] == old[1]


class Iteration:
    """The buffers and launches for cost and kernel matrices (n, m) that stay in place."""

    def __init__(self, cost: Tensor, kernel: Tensor):
        from privgan.sinkhorn import _triton_dense_loops as loops  # Triton takes a while to import

        self.loops, self.cost, self.kernel = loops, cost, kernel
        n, m = self.size = kernel.shape
        like = kernel.new_empty(0, dtype=torch.float64)
        # Each a tensor of its own: the loops are compiled anew for another alignment.
        self.a, self.phi0, self.phi, self.best_phi = (like.new_zeros(n) for _ in range(4))
        self.b, self.psi0, self.psi = (like.new_zeros(m) for _ in range(3))
        self.best_psi, self.plain, self.log_q = (like.new_zeros(m) for _ in range(3))
        self.steps, self.residuals = (like.new_zeros((DEPTH, m)) for _ in range(2))
        self.gram = like.new_zeros((loops.PLACES.value,) * 2)
        self.numbers = like.new_zeros(loops.NUMBERS)
        self.numbers[0] = DONE  # until there is something to do
        self.v = kernel.new_zeros(m)
        self.found = like.new_zeros(n + m + 3)
        self.loaded: list[Version] = [(None, None)] * 2  # weights, and their versions

        self.columns = max(16, 2 ** math.ceil(math.log2(m)))
        self.rows = max(1, min(16, TILE // self.columns))
        wanted = PER_MULTIPROCESSOR * multiprocessors(kernel.device)
        self.share = math.ceil(n / wanted / self.rows) * self.rows
        self.programs, self.blocks = math.ceil(n / self.share), math.ceil(m / BLOCK)
        self.partial = kernel.new_zeros((self.programs, m))
        self.parts = like.new_zeros((2, self.programs))
        self.sums = like.new_zeros((loops.PRODUCTS.value + DEPTH, self.blocks))

    def recorded(self) -> "Iteration":
        """With its launches recorded, where there are CUDA graphs."""
        runs = self.open, self.group, self.finish, self.scale
        replays = _replay.recorded(runs, self.kernel)
        for run, replay in zip(runs, replays, strict=True):
            setattr(self, run.__name__, replay)
        return self

    def load(self, a: Tensor, b: Tensor, scale: float, tol: float, max_iter: int) -> None:
        """A new problem's weights, float64, and settings."""
        loops = self.loops
        values = [0.0] * loops.NUMBERS
        for place, value in (
            (loops.ERROR, math.inf),
            (loops.HIGHEST, -math.inf),
            (loops.RECORD, math.inf),
            (loops.FORM, 1.0),
            (loops.TOL, tol),
            (loops.MAX_ITER, max_iter),
            (loops.SCALE, scale),
        ):
            values[place.value] = value
        # Not waiting is safe: the driver takes so short a vector along with the call.
        self.numbers.copy_(torch.tensor(values, dtype=torch.float64), non_blocking=True)
        weights: list[Version] = [(t, None if t.is_inference() else t._version) for t in (a, b)]
        if not all(_unchanged(*pair) for pair in zip(weights, self.loaded, strict=True)):
            self.a.copy_(a)
            self.b.copy_(b)
            self.loaded = weights

    def open(self) -> None:
        """The kernel formed by columns, and the c-transform of phi = 0; see `_dense`."""
        loops = self.loops
        self.psi0.copy_(self.cost.amin(0)).mul_(self.numbers[loops.SCALE.value])
        self._form(by_rows=False)
        sums = self.a.to(self.kernel) @ self.kernel
        torch.sub(self.psi0, sums.double().log(), out=self.psi)
        self.numbers[loops.FAINT.value].fill_(FAINT)
        settled = self.psi, self.psi0, self.b, self.v, self.numbers, self.size[1]
        self._launch(loops.settle[(1,)], *settled, BLOCK=WIDE, num_warps=WARPS)

    def resume(self, psi: Tensor) -> None:
        """Start from potentials, at which the kernel is yet to be formed."""
        self.psi.copy_(psi)
        self.psi0.copy_(psi)
        self.v.copy_(self.b)

    def finish(self) -> None:
        """The best potentials and the report in one vector; and the kernel as it is wanted."""
        self._form(by_rows=True)
        torch.cat([self.best_phi, self.best_psi, self.numbers[:3]], out=self.found)

    def scale(self) -> None:
        """The kernel, formed near the best potentials, turned into their plan."""
        drift = self.best_psi - self.psi0
        shift = drift.mean()
        rows = self.a * (self.best_phi - self.phi0 + shift).exp()
        columns = self.b * (drift - shift).exp()
        self.kernel.mul_(rows.to(self.kernel)[:, None]).mul_(columns.to(self.kernel))

    def _form(self, by_rows: bool) -> None:
        matrices = self.cost, self.kernel, self.phi0, self.psi0, self.numbers
        loop = self.loops.form[(self.size[0],)]
        self._launch(loop, *matrices, *self.size, BY_ROWS=by_rows, BLOCK=WIDE, num_warps=4)

    def group(self) -> None:
        """A few iterations, with the kernel formed first where the last ones asked for it."""
        self._form(by_rows=True)
        for k in range(GROUP):
            self._iterate(fresh=int(k == 0))

    def _iterate(self, fresh: int) -> None:
        loops, (n, m) = self.loops, self.size
        self._launch(
            loops.half_steps[(self.programs,)],
            *(self.kernel, self.v, self.a, self.phi0, self.phi, self.partial, self.parts),
            *(self.numbers, n, m, self.share, fresh),
            ROWS=self.rows,
            COLUMNS=self.columns,
            num_warps=max(1, min(16, self.rows * self.columns // 1024)),
        )
        self._launch(
            loops.columns[(self.blocks,)],
            *(self.partial, self.psi, self.psi0, self.b, self.residuals, self.log_q, self.sums),
            *(self.numbers, m, self.programs, fresh),
            PARTS=64,
            BLOCK=BLOCK,
            num_warps=4,
        )
        self._launch(
            loops.advance[(1,)],
            *(self.phi, self.log_q, self.psi, self.plain, self.psi0, self.b, self.v),
            *(self.best_phi, self.best_psi, self.steps, self.residuals, self.gram),
            *(self.parts, self.sums, self.numbers, n, m, self.programs, self.blocks, fresh),
            BLOCK=WIDE,
            num_warps=WARPS,
            maxnreg=128,  # it is alone: no other program's registers are spared by its own
        )

    def _launch(self, loop: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        with torch.cuda.device_of(self.kernel):  # Triton launches on the current device
            loop(*arguments, **settings)

    def watched(self) -> list[float]:
        """Iterate to the end, looking after every batch: status, iterations taken, best error."""
        replays = 1
        while True:
            for _ in range(replays):
                self.group()
            report = self.numbers[:3].tolist()
            if report[0]:
                return report
            replays = min(2 * replays, MOST)
