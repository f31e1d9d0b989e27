"""Transport costs: a pairwise matrix, and the gradient of a plan's total cost.

A cost is a small value with two methods: equal costs are the same cost. Solvers need nothing else,
so a new one (``-log k`` of some channel, say) only has to subclass `Cost` and write `Cost.matrix`
in differentiable torch operations; solvers call it on tiles when the whole would not fit.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.surroundings import full_precision
from privgan.values import Value

# Up to this many columns a cost is formed coordinate by coordinate: exact under translation,
# and cheaper than a matrix product with so short an inner dimension.
FEW = 8
# A squared distance below this share of the squares that it is expanded in is formed anew from
# differences: the expansion would magnify their rounding by more than the inverse.
NEAR = 0.125
HELD = 2**25  # numbers that a gradient may hold at a time on a GPU without Triton

# Which cost a compiled loop forms: a number, for numba's cache knows no loop that closed over one.
SQUARED_L2, ABSOLUTE, EUCLIDEAN = range(3)


class Cost(Value, ABC):
    """A ground cost ``c(x, y)`` between records, the rows of ``x`` and of ``y``."""

    # Which of the compiled loops forms this cost; None for the others.
    pointwise: int | None = None

    @abstractmethod
    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """Pairwise costs: ``x`` (n, d) and ``y`` (m, d) to (n, m)."""

    def matrix_in(self, x: Tensor, y: Tensor, storage: Tensor) -> Tensor:
        """`matrix`, in ``storage`` (n, m) if the cost knows how to use it. No gradients."""
        return self.matrix(x, y)

    def reduced_in(self, x: Tensor, y: Tensor, storage: Tensor) -> tuple[Tensor, Tensor | float]:
        """`matrix_in` less a term in y alone, and that term, (m,) or a number.

        A potential takes up such a term, so solvers need no more; and what is left may be much
        smaller than the cost, and so more precise.
        """
        return self.matrix_in(x, y, storage), 0.0

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        """Gradient in ``x``, (n, d), of ``sum_ij plan_ij c(x_i, y_j)``; ``plan`` is (n, m)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.matrix(x, y.detach()), x, plan)
        return grad

    def shiftable(self, d: int) -> Tensor:
        """Which of ``d`` columns may be moved in x and y alike and no cost changes: (d,) bool."""
        return torch.zeros(d, dtype=torch.bool, device="cpu")

    def flat(self, d: int) -> Tensor:
        """In which of ``d`` columns of x the cost is piecewise constant, with no gradient: (d,)."""
        return torch.zeros(d, dtype=torch.bool, device="cpu")

    @property
    def T(self) -> "Cost":
        """The cost with its arguments swapped: ``c.T(y, x) = c(x, y)``."""
        return Transposed(self)


@dataclass(frozen=True, eq=False, repr=False)
class Transposed(Cost):
    """``c(y, x)`` for a cost that is not symmetric."""

    cost: Cost

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        return self.cost.matrix(y, x).T

    def shiftable(self, d: int) -> Tensor:
        return self.cost.shiftable(d)

    @property
    def T(self) -> Cost:
        return self.cost

    def __repr__(self) -> str:
        return f"{self.cost!r}.T"


class _Norm(Cost):
    """A symmetric cost with loops of its own, differentiable through `Cost.gradient`."""

    pointwise: int

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        _check_pair(x, y)
        if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
            matrix: Tensor = _Pairwise.apply(x, y, self)
            return matrix
        x, y = x.detach(), y.detach()
        return self.matrix_in(x, y, x.new_empty((len(x), len(y))))

    def matrix_in(self, x: Tensor, y: Tensor, storage: Tensor) -> Tensor:
        if not x.shape[1]:
            return storage.zero_()
        if _few_on_cpu(x):
            from privgan.sinkhorn import _loops  # numba takes a while to import

            _loops.pairwise(x.contiguous(), y.T.contiguous(), self.pointwise, storage)
        else:
            self._fill(x, y, storage)
        return storage

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        _check_pair(x, y, plan)
        x, y, plan = x.detach().contiguous(), y.detach().contiguous(), plan.detach().contiguous()
        out = torch.empty_like(x)
        if not plan.numel():
            return out.zero_()
        if not _few_on_cpu(x):
            return self._gradient(x, y, plan)
        from privgan.sinkhorn import _loops

        _loops.gradient(x, y.T.contiguous(), self.pointwise, plan, out)
        return out

    def shiftable(self, d: int) -> Tensor:
        return torch.ones(d, dtype=torch.bool, device="cpu")

    @abstractmethod
    def _fill(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        """Write the costs of records with many columns, or on a GPU, into ``out``."""

    @abstractmethod
    def _gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        """`gradient` for records with many columns, or on a GPU; all three contiguous."""

    @property
    def T(self) -> Cost:
        return self


class _Pairwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, cost: Cost) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.cost = cost
        return cost.matrix(x.detach(), y.detach())

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, plan: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y = ctx.saved_tensors
        need_x, need_y, _ = ctx.needs_input_grad
        return (
            ctx.cost.gradient(x, y, plan) if need_x else None,
            ctx.cost.gradient(y, x, plan.T) if need_y else None,
            None,
        )


@dataclass(frozen=True, eq=False, repr=False)
class SquaredL2(_Norm):
    """``sum_k (x_k - y_k)^2``, the cost that Gaussian noise asks for (p = 2)."""

    pointwise = SQUARED_L2

    def _fill(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if x.device.type == "cpu":
            _settle(x, y, out)
        elif _filled_by_triton(x, y, out, squared=True):
            pass
        elif x.shape[1] <= FEW:
            _fill_by_coordinate(x, y, out, lambda difference: difference.square_())
        else:
            out.add_(_expand(*_centred(x, y), out)[1]).clamp_min_(0.0)

    def reduced_in(self, x: Tensor, y: Tensor, storage: Tensor) -> tuple[Tensor, Tensor | float]:
        if x.shape[1] <= FEW:
            return super().reduced_in(x, y, storage)
        return storage, _expand(*_centred(x, y), storage)[1]

    def _gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        # sum_j P_ij 2 (x_i - y_j), centred so that the two terms cancel less.
        x_, y_ = _centred(x, y)
        masses = x_ * plan.sum(1, keepdim=True)
        with full_precision():
            out = torch.addmm(masses, plan, y_, beta=2.0, alpha=-2.0)
        if x.device.type == "cpu":
            near = out.abs().amax(1) < NEAR * masses.abs().amax(1)
            if near.any():  # rows in which they still do
                from privgan.sinkhorn import _loops

                part = torch.empty_like(rows := x[near])
                _loops.squared_gradient(rows, y, plan[near], part)
                out[near] = part
        return out


@dataclass(frozen=True, eq=False, repr=False)
class L1(_Norm):
    """``sum_k |x_k - y_k|``, the cost that Laplace noise asks for (p = 1).

    Where two coordinates coincide the gradient takes the subgradient 0.
    """

    pointwise = ABSOLUTE

    def _fill(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if x.device.type == "cpu":
            from privgan.sinkhorn import _loops

            _loops.l1_matrix(x.contiguous(), y.contiguous(), out)
        elif _filled_by_triton(x, y, out, squared=False):
            pass
        elif x.shape[1] <= FEW:
            _fill_by_coordinate(x, y, out, lambda difference: difference.abs_())
        else:
            out.copy_(torch.cdist(x, y, p=1.0))

    def _gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        if x.device.type == "cpu":
            from privgan.sinkhorn import _loops

            out = torch.empty_like(x)
            _loops.l1_gradient(x, y, plan, out)
            return out
        from privgan.sinkhorn import _triton  # it imports costs

        if _triton.fits(x):
            return _triton.plan_gradient(x, y, plan.T.contiguous(), squared=False)
        return _in_rows(x, y, plan, 1.0, plan)


@dataclass(frozen=True, eq=False, repr=False)
class Euclidean(_Norm):
    """``sqrt(sum_k (x_k - y_k)^2)``; where two points coincide the gradient takes 0."""

    pointwise = EUCLIDEAN

    def _fill(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if x.device.type == "cpu" or x.shape[1] <= FEW or _on_triton(x, out):
            SquaredL2()._fill(x, y, out)
            out.sqrt_()
        else:
            out.copy_(torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist"))

    def _gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        distance = self.matrix(x, y)
        if x.device.type != "cpu" and not _on_triton(x, distance):
            return _in_rows(x, y, plan, 2.0, distance)
        weight = torch.where(distance > 0, plan / distance, 0.0)
        if x.device.type != "cpu":
            from privgan.sinkhorn import _triton  # it imports costs

            return 0.5 * _triton.plan_gradient(x, y, weight.T.contiguous(), squared=True)
        from privgan.sinkhorn import _loops

        out = torch.empty_like(x)
        x_, y_ = _centred(x, y)
        squares = (t.square().sum(1) for t in (x_, y_))
        _loops.settle_gradient(x, y, *squares, distance, weight, out)
        out.addcmul_(x_, weight.sum(1, keepdim=True))
        with full_precision():
            return out.addmm_(weight, y_, alpha=-1.0)


def _check_pair(x: Tensor, y: Tensor, plan: Tensor | None = None) -> None:
    """Compiled loops trust the shapes they are given."""
    if x.dtype not in checks.FLOATS:
        raise TypeError(f"x has dtype {x.dtype}; convert it to float32 or float64")
    checks.check_same("x", x, "y", y)
    if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y {tuple(y.shape)}; expected (n, d) and (m, d)"
        )
    if plan is not None:
        checks.check_same("plan", plan, "x", x)
        if plan.shape != (len(x), len(y)):
            raise ValueError(
                f"plan has shape {tuple(plan.shape)}; expected (n, m) = {(len(x), len(y))}"
            )


def _centred(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both less the mean of y: what is expanded in their squares would else cancel badly."""
    centre = y.mean(0)
    return x - centre, y - centre


def _expand(x: Tensor, y: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """|x_i|^2 - 2 x_i.y_j, (n, m), into ``out``; returns |x_i|^2 (n,) and |y_j|^2 (m,)."""
    squares = x.square().sum(1)
    with full_precision():
        torch.addmm(squares[:, None], x, y.T, alpha=-2.0, out=out)
    return squares, y.square().sum(1)


def _settle(x: Tensor, y: Tensor, out: Tensor) -> None:
    """Squared distances on a CPU, expanded where that is precise."""
    from privgan.sinkhorn import _loops

    squares = _expand(*_centred(x, y), out)
    _loops.settle(x.contiguous(), y.contiguous(), *squares, out)


def _in_rows(x: Tensor, y: Tensor, plan: Tensor, p: float, distance: Tensor) -> Tensor:
    """sum_j plan_ij d|x_i - y_j|_p / dx_i, (n, d), from few rows at a time.

    cdist's own backward, which holds one number for each of x, y and columns. For p = 1 it needs
    only the signs, not the distances.
    """
    out = torch.empty_like(x)
    rows = max(1, HELD // y.numel())
    for start in range(0, len(x), rows):
        part = slice(start, start + rows)
        out[part] = torch.ops.aten._cdist_backward(plan[part], x[part], y, p, distance[part])
    return out


def _on_triton(x: Tensor, out: Tensor) -> bool:
    from privgan.sinkhorn import _triton  # it imports costs

    return _triton.fits(x) and out.is_contiguous()


def _filled_by_triton(x: Tensor, y: Tensor, out: Tensor, *, squared: bool) -> bool:
    from privgan.sinkhorn import _triton

    fits = _on_triton(x, out)
    if fits:
        _triton.pairwise(x, y, out, squared=squared)
    return fits


def _few_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.shape[1] <= FEW


def _fill_by_coordinate(
    x: Tensor, y: Tensor, out: Tensor, term_: Callable[[Tensor], Tensor]
) -> None:
    out.zero_()
    for xk, yk in zip(x.unbind(1), y.unbind(1), strict=True):
        out += term_(xk[:, None] - yk[None, :])
