"""Training losses between generated points and reports.

Every loss is called as ``loss(x, y)`` for a differentiable 0-dim value, or through
``loss.solve(x, y)`` for the value together with how well it was solved.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from privgan import checks
from privgan.mechanisms import Mechanism
from privgan.sinkhorn import Cost, SinkhornResult, solve_samples


class Solved(Protocol):
    """What `training.fit` reads off a solved batch."""

    value: Tensor
    error: float
    n_iter: int
    converged: bool

    def information(self) -> float:
        """Nats that the coupling carries; NaN where that is not known."""
        ...


class Loss(ABC):
    """Base: ``forward`` takes generated records to the space the reports live in."""

    mechanism: Mechanism | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mechanism is None else self.mechanism.forward(x)

    @abstractmethod
    def solve(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        """The value between a batch ``x`` (n, d) and reports ``y`` (m, d), and how it was had.

        a: weights of the batch, (n,), summing to 1; uniform when omitted. The value is
        differentiable in ``x`` and ``a``.
        """

    def heated(self, times: float) -> "Loss":
        """This loss, ``times`` as strongly regularised, for the start of a training."""
        raise TypeError(f"{self!r} has no regularisation to start higher; leave anneal at 1")

    def __call__(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Tensor:
        return self.solve(x, y, a).value


class EntropicLoss(Loss):
    """Entropic OT with no debiasing: matched to a mechanism, its bias undoes the noise.

    Reshetova, Chen, Ozgur, "Training generative models from privatized data", 2023.
    """

    def __init__(self, cost: Cost, reg: float, *, tol: float = 1e-2, max_iter: int = 500):
        self.cost = cost
        self.reg = checks.positive("reg", reg)
        self.tol = checks.positive("tol", tol)
        self.max_iter = checks.positive_int("max_iter", max_iter)

    @classmethod
    def matched(cls, mechanism: Mechanism, **settings: Any) -> "EntropicLoss":
        """The loss whose minimiser over laws is the raw law behind ``mechanism``'s reports."""
        loss = cls(mechanism.cost, mechanism.reg, **settings)
        loss.mechanism = mechanism
        return loss

    def solve(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> SinkhornResult:
        settings = {"tol": self.tol, "max_iter": self.max_iter}
        return solve_samples(self.forward(x), y, self.cost, self.reg, a, **settings)

    def heated(self, times: float) -> "EntropicLoss":
        cost, reg = self.cost, self.reg * times
        if self.mechanism is not None:
            cost, reg = self.mechanism.heated(times)
        loss = type(self)(cost, reg, tol=self.tol, max_iter=self.max_iter)
        loss.mechanism = self.mechanism
        return loss

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.cost!r}, reg={self.reg!r}, tol={self.tol!r}, "
            f"max_iter={self.max_iter})"
        )


@dataclass(frozen=True)
class Value:
    """A value and how it was had: ``error`` is the worst marginal error of any plan behind it."""

    value: Tensor
    converged: bool
    error: float = 0.0
    n_iter: int = 1

    def information(self) -> float:
        """Not known: there are several plans behind it, or one without entropy."""
        return math.nan


class LikelihoodLoss(EntropicLoss):
    """Entropic OT whose plan may leave the generated side's marginal: the likelihood of reports.

    Its value is -reg mean_j log sum_i a_i exp(-c(x_i, y_j) / reg), which never exceeds the
    `EntropicLoss` of the same points and equals it where the law of x is the best there is. A
    batch of x stands for its law: the fewer points, the higher the value. Rigollet and Weed,
    "Entropic optimal transport is maximum-likelihood deconvolution", 2018.
    """

    def solve(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        x, y = checks.as_pair("x", self.forward(x), "y", y)
        log_a = -math.log(len(x)) if a is None else a.log()[:, None]
        scores = self.cost.matrix(x, y) / -self.reg + log_a
        return Value(-self.reg * scores.logsumexp(0).mean(), converged=True)
