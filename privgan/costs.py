"""Transport costs: a pairwise matrix, and the gradient of a plan's total cost.

A cost is a small stateless object with two methods. Solvers need nothing else, so a
new cost (``-log k`` of some channel, say) only has to subclass `Cost` and write
`Cost.matrix` in differentiable torch operations.
"""

import torch
from torch import Tensor


class Cost:
    """A ground cost ``c(x, y)`` between records, the rows of ``x`` and of ``y``."""

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        """Pairwise costs: ``x`` (n, d) and ``y`` (m, d) to (n, m)."""
        raise NotImplementedError

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        """Gradient in ``x``, (n, d), of ``sum_ij plan_ij c(x_i, y_j)``; ``plan`` is (n, m)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (grad,) = torch.autograd.grad(self.matrix(x, y.detach()), x, plan)
        return grad

    @property
    def T(self) -> "Cost":
        """The cost with its arguments swapped: ``c.T(y, x) = c(x, y)``."""
        return Transposed(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class Transposed(Cost):
    """``c(y, x)`` for a cost that is not symmetric."""

    def __init__(self, cost: Cost):
        self.cost = cost

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        return self.cost.matrix(y, x).T

    @property
    def T(self) -> Cost:
        return self.cost

    def __repr__(self) -> str:
        return f"{self.cost!r}.T"


class SquaredL2(Cost):
    """``sum_k (x_k - y_k)^2``, the cost that Gaussian noise asks for (p = 2)."""

    # Up to this many columns the differences are formed one by one: exact, and cheaper
    # than a matrix product with so short an inner dimension.
    DIRECT = 4

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        if x.shape[1] <= self.DIRECT:
            return sum(
                (xk[:, None] - yk[None, :]).square()
                for xk, yk in zip(x.unbind(1), y.unbind(1), strict=True)
            )
        # |x|^2 + |y|^2 - 2 x.y cancels badly when the data lie far from the origin; the
        # cost is invariant under a common shift, so shift to the centre of y first.
        centre = y.mean(0)
        x, y = x - centre, y - centre
        norms = x.square().sum(1)[:, None] + y.square().sum(1)[None, :]
        return torch.addmm(norms, x, y.T, alpha=-2.0).clamp_min(0.0)

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        # sum_j P_ij 2 (x_i - y_j), centred for the same reason.
        centre = y.mean(0)
        return 2.0 * (plan.sum(1, keepdim=True) * (x - centre) - plan @ (y - centre))

    @property
    def T(self) -> Cost:
        return self


class L1(Cost):
    """``sum_k |x_k - y_k|``, the cost that Laplace noise asks for (p = 1).

    Where two coordinates coincide the gradient takes the subgradient 0.
    """

    def matrix(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.cdist(x, y, p=1.0)

    def gradient(self, x: Tensor, y: Tensor, plan: Tensor) -> Tensor:
        # cdist's own backward, called directly: for p = 1 it only needs the signs, so there
        # is no reason to compute the distances once more.
        return torch.ops.aten._cdist_backward(plan.contiguous(), x, y, 1.0, plan)

    @property
    def T(self) -> Cost:
        return self
