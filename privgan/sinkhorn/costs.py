"""Transport costs: a pairwise matrix, and the gradient of a plan's total cost.

A cost is a small value with two methods: equal costs are the same cost. Solvers need nothing else,
so a new one (``-log k`` of some channel, say) only has to subclass `Cost` and write `Cost.matrix`
in differentiable torch operations; solvers call it on tiles when the whole would not fit.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from privgan import checks
from privgan.sinkhorn._pairs import (
    FEW,
    HELD,
    NEAR,
    centred,
    expand,
    fill_by_coordinate,
    filled_by_triton,
    in_rows,
    on_triton,
    portions,
    settle,
)
from privgan.sinkhorn._pairwise import Pairwise
from privgan.surroundings import full_precision
from privgan.values import Value

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
        if len(x) * y.numel() <= HELD:
            return self.matrix(x, y)
        for part in portions(x, y):
            storage[part] = self.matrix(x[part], y)
        return storage

    def reduced_in(self, x: Tensor, y: Tensor, storage: Tensor) -> tuple[Tensor, Tensor | float]:
        """`matrix_in` less a term in y alone, and that term, (m,) or a number.

        A potential takes up such a term, so solvers need no more; and what is left may be much
        smaller than the cost, and so more precise.
        """
        return self.matrix_in(x, y, storage), 0.0

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        """Gradient in ``x``, (n, d), of ``sum_ij plan_ij c(x_i, y_j)``; ``plan`` is (n, m)."""
        x, y, grad = x.detach(), y.detach(), torch.empty_like(x)
        for part in portions(x, y):
            with torch.enable_grad():
                points = x[part].requires_grad_()
                (grad[part],) = torch.autograd.grad(self.matrix(points, y), points, plan[part])
        return grad

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        """Costs of ``x[i]`` and ``y[i]`` alone, (n,): the diagonal of `matrix`, differentiable."""

        def single(x: Tensor, y: Tensor) -> Tensor:
            return self.matrix(x[None], y[None])[0, 0]

        costs: Tensor = torch.vmap(single)(x, y)
        return costs

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
        check_points(x, y)  # who asked knows them by these names
        return self.cost.matrix(y, x).T

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        return self.cost.paired(y, x)

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
        check_points(x, y)
        if torch.is_grad_enabled() and (x.requires_grad or y.requires_grad):
            matrix: Tensor = Pairwise.apply(x, y, self)
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
        check_points(x, y, plan)
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


@dataclass(frozen=True, eq=False, repr=False)
class SquaredL2(_Norm):
    """``sum_k (x_k - y_k)^2``, the cost that Gaussian noise asks for (p = 2)."""

    pointwise = SQUARED_L2

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).square().sum(1)

    def _fill(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if x.device.type == "cpu":
            settle(x, y, out)
        elif filled_by_triton(x, y, out, squared=True):
            pass
        elif x.shape[1] <= FEW:
            fill_by_coordinate(x, y, out, lambda difference: difference.square_())
        else:
            out.add_(expand(*centred(x, y), out)[1]).clamp_min_(0.0)

    def reduced_in(self, x: Tensor, y: Tensor, storage: Tensor) -> tuple[Tensor, Tensor | float]:
        if x.shape[1] <= FEW:
            return super().reduced_in(x, y, storage)
        return storage, expand(*centred(x, y), storage)[1]

    def _gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        # sum_j P_ij 2 (x_i - y_j), centred so that the two terms cancel less.
        x_, y_ = centred(x, y)
        masses = x_ * plan.sum(1, keepdim=True)
        with full_precision():
            out = torch.addmm(masses, plan, y_, beta=2.0, alpha=-2.0)
        if x.device.type == "cpu":
            near = out.abs().amax(1) < NEAR * masses.abs().amax(1)
            if near.any():  # rows in which they still do
                from privgan.sinkhorn import _loops

                part = torch.empty_like(rows := x[near])
                _loops.wide_gradient(rows, y, self.pointwise, plan[near], part)
                out[near] = part
        return out


@dataclass(frozen=True, eq=False, repr=False)
class L1(_Norm):
    """``sum_k |x_k - y_k|``, the cost that Laplace noise asks for (p = 1).

    Where two coordinates coincide the gradient takes the subgradient 0.
    """

    pointwise = ABSOLUTE

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        return (x - y).abs().sum(1)

    def _fill(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if x.device.type == "cpu":
            from privgan.sinkhorn import _loops

            _loops.l1_matrix(x.contiguous(), y.contiguous(), out)
        elif filled_by_triton(x, y, out, squared=False):
            pass
        elif x.shape[1] <= FEW:
            fill_by_coordinate(x, y, out, lambda difference: difference.abs_())
        else:
            out.copy_(torch.cdist(x, y, p=1.0))

    def _gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        if x.device.type == "cpu":
            from privgan.sinkhorn import _loops

            out = torch.empty_like(x)
            _loops.wide_gradient(x, y, self.pointwise, plan, out)
            return out
        from privgan.sinkhorn import _triton  # it imports costs

        if _triton.fits(x):
            return _triton.plan_gradient(x, y, plan.T.contiguous(), squared=False)
        return in_rows(x, y, plan, 1.0, plan)


@dataclass(frozen=True, eq=False, repr=False)
class Euclidean(_Norm):
    """``sqrt(sum_k (x_k - y_k)^2)``; where two points coincide the gradient takes 0."""

    pointwise = EUCLIDEAN

    def paired(self, x: Tensor, y: Tensor) -> Tensor:
        distance: Tensor = torch.linalg.vector_norm(x - y, dim=1)
        return distance

    def _fill(self, x: Tensor, y: Tensor, out: Tensor) -> None:
        if x.device.type == "cpu" or x.shape[1] <= FEW or on_triton(x, out):
            SquaredL2()._fill(x, y, out)
            out.sqrt_()
        else:
            out.copy_(torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist"))

    def _gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        if x.device.type != "cpu":
            return self._gradient_on_device(x, y, plan)
        from privgan.sinkhorn import _loops

        squares, out = x.new_empty(plan.shape), torch.empty_like(x)
        x_, y_, *own_squares = settle(x, y, squares)
        weight = squares.sqrt()
        torch.div(plan, weight, out=weight).masked_fill_(squares == 0, 0.0)
        _loops.settle_gradient(x, y, *own_squares, squares, weight, out)
        out.addcmul_(x_, weight.sum(1, keepdim=True))
        with full_precision():
            return out.addmm_(weight, y_, alpha=-1.0)

    def _gradient_on_device(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        distance = self.matrix(x, y)
        if not on_triton(x, distance):
            return in_rows(x, y, plan, 2.0, distance)
        from privgan.sinkhorn import _triton  # it imports costs

        weight = torch.where(distance > 0, plan / distance, 0.0)
        return 0.5 * _triton.plan_gradient(x, y, weight.T.contiguous(), squared=True)


def check_points(x: Tensor, y: Tensor, plan: Tensor | None = None) -> None:
    """Raise unless ``x`` (n, d) and ``y`` (m, d) are points of one space, and ``plan`` theirs.

    Compiled loops trust the shapes they are given, and broadcasting would hide a wrong one.
    """
    for name, points in (("x", x), ("y", y)):
        if not isinstance(points, Tensor):
            kind = type(points).__name__
            raise TypeError(f"{name} must be a tensor, got a {kind}; pass torch.as_tensor({name})")
        if points.dtype not in checks.FLOATS:
            raise TypeError(f"{name} has dtype {points.dtype}; convert it to float32 or float64")
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


def _few_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.shape[1] <= FEW
