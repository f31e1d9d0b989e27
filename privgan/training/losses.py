"""Training losses between generated points and reports.

Every loss is called as ``loss(x, y)`` for a differentiable 0-dim value, or through
``loss.solve(x, y)`` for the value together with how well it was solved.
"""

import copy
import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, Protocol, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from privgan import checks
from privgan.generators import Generator
from privgan.generators.latents import NormalMixture
from privgan.mechanisms import Mechanism
from privgan.reports import Reports
from privgan.reports.collection import values_of
from privgan.sinkhorn import Cost, SinkhornResult, solve_across, solve_batch, solve_samples
from privgan.sinkhorn.weights import weights
from privgan.training.likelihood import report_nll
from privgan.training.ranks import Ranks

RECORDS = 1024  # generated records that stand for a generator in the likelihood of reports


class Solved(Protocol):
    """What a training reads off a solved batch."""

    @property
    def value(self) -> Tensor: ...
    @property
    def error(self) -> float: ...
    @property
    def n_iter(self) -> int: ...
    @property
    def converged(self) -> bool: ...

    def information(self) -> float:
        """Nats that the coupling carries; NaN where that is not known."""
        ...


class Loss(ABC):
    """Base: ``forward`` takes generated records to the space the reports live in."""

    mechanism: Mechanism | None = None

    def forward(self, x: Tensor) -> Tensor:
        return x if self.mechanism is None else self.mechanism.forward(x)

    def solve(self, x: Any, y: ArrayLike | Reports, a: Tensor | None = None) -> Solved:
        """The value between a batch ``x`` (n, d) and reports ``y`` (m, d'), and how it was solved.

        a: weights of the batch, (n,), summing to 1; uniform when omitted. The value is
        differentiable in ``x`` and ``a``.
        """
        return self.between(self.forward(x), values_of("y", y), a)

    @abstractmethod
    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        """`solve` for points ``x`` (n, d') that `forward` has taken to the reports' space."""

    def meet(self, generator: Generator, reports: Tensor, origin: Tensor) -> nn.Module | None:
        """The network, if any, to train beside ``generator``; ``reports`` (m, d') less ``origin``.

        It is on the device of the reports.
        """
        return None

    def couple(
        self,
        generator: Generator,
        y: Tensor,
        rng: torch.Generator,
        *,
        points: int,
        even: bool,
        origin: Tensor,
        unchecked: bool,
    ) -> tuple[Solved, Tensor]:
        """The value of a training step: ``generator`` beside a batch ``y`` less ``origin``.

        rng: the CPU generator of the step's latents. points, even: as ``Generator.batch`` has them.
        What the generator made, less ``origin`` too, comes with it.
        """
        x, a = generator.batch(points, rng, even=even)
        made = (self.forward(x) - origin).to(y.dtype)
        return (self.follow if unchecked else self.between)(made, y, a), made

    def couple_across(
        self,
        ranks: Ranks,
        generator: Generator,
        y: Tensor,
        rng: torch.Generator,
        *,
        size: int,
        points: int,
        even: bool,
        origin: Tensor,
    ) -> tuple[Solved, Tensor]:
        """`couple` for several processes: ``y`` is this one's part of a batch of ``size`` reports.

        The value is that of all; its gradients are this process's part of them.
        """
        x, a = ranks.points(generator, points, rng, even=even)
        made = (self.forward(x) - origin).to(y.dtype)
        return self.across(ranks, made, ranks.joined(y, size), a), made

    def across(self, ranks: Ranks, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        """`between` for a part of the points, and their weights, beside all reports ``y``."""
        raise TypeError(
            f"{self!r} cannot be trained by several processes; start it without torchrun"
        )

    def report_nll(
        self, generator: Generator, y: Tensor, mechanism: Mechanism, rng: torch.Generator
    ) -> float:
        """Mean negative log-likelihood of held-out reports ``y`` (m, d'), nats a report.

        By as many generated records as `RECORDS`, which bias it upwards: see `report_nll`. NaN
        where these are not finite.
        """
        x = generator.draw_records(RECORDS, rng)
        return report_nll(x, y, mechanism) if x.isfinite().all() else math.nan

    def latent_law(
        self, generator: Generator, reports: Tensor, heldout: Tensor, visits: int, seed: int
    ) -> NormalMixture | None:
        """Where the trained ``generator`` is to draw latents, by ``reports`` and those held out.

        visits: reports in all steps' batches, over ``reports``: so much work this may be. None:
        where it did.
        """
        return None

    def capacity(self, points: int, reports: int) -> float | None:
        """The most nats that a plan between so many points and reports can carry."""
        return math.log(min(points, reports))

    def warmed(self, left: float) -> "Loss":
        """This loss when a training's first half has this part of it left, 1 at its first step."""
        return self

    def unchecked(self, y: Tensor) -> bool:
        """Whether a training on reports like ``y`` (m, d') may take `follow` for `between`."""
        return False

    def follow(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        """`between` without checks of what is passed, for which a host would wait for its GPU."""
        return self.between(x, y, a)

    def queued(self, most: int | None) -> "Loss":
        """This loss, whose `follow` may queue ``most`` iterations on a GPU and not look at them."""
        return self

    def shiftable(self, d: int) -> Tensor:
        """Columns of reports, (d,) bool, in which x and y may move together at no cost."""
        return torch.zeros(d, dtype=torch.bool)

    def flat(self, d: int) -> Tensor:
        """Columns of reports, (d,) bool, where points get no gradient, but their weights do."""
        return torch.zeros(d, dtype=torch.bool)

    def unit(self, y: Tensor) -> float:
        """A value of the size that this loss varies by, for reports like ``y`` (m, d').

        Training follows the loss in this unit, so that its gradients do not depend on the data's.
        """
        return 1.0

    def heated(self, times: float) -> "Loss":
        """This loss, ``times`` as strongly regularised, for the start of a training."""
        raise TypeError(f"{self!r} has no regularisation to start higher; leave anneal at 1")

    def __call__(self, x: Tensor, y: ArrayLike | Reports, a: Tensor | None = None) -> Tensor:
        return self.solve(x, y, a).value


@dataclass(frozen=True)
class EntropicLoss(Loss):
    """Entropic OT with no debiasing: matched to a mechanism, its bias undoes the noise.

    cost, reg: of the coupling; reg in cost units. tol: L1 marginal error to solve to. mechanism:
    the one it is matched to, if any. Reshetova, Chen, Ozgur, "Training generative models from
    privatized data", 2023.
    """

    cost: Cost
    reg: float
    _: KW_ONLY
    tol: float = 1e-2
    max_iter: int = 500
    mechanism: Mechanism | None = None
    _queued = None  # iterations, if the host is not to look at them; no field, for it says nothing

    def __post_init__(self) -> None:
        checks.instance("cost", self.cost, Cost)
        if self.mechanism is not None:
            checks.instance("mechanism", self.mechanism, Mechanism)
        object.__setattr__(self, "reg", checks.positive("reg", self.reg))
        object.__setattr__(self, "tol", checks.positive("tol", self.tol))
        object.__setattr__(self, "max_iter", checks.positive_int("max_iter", self.max_iter))

    @classmethod
    def matched(cls, mechanism: Mechanism, **settings: Any) -> Self:
        """The loss whose minimiser over laws is the raw law behind ``mechanism``'s reports.

        >>> loss = pg.EntropicLoss.matched(pg.Gaussian(0.5))
        >>> loss.cost, loss.reg
        (SquaredL2(), 0.5)
        """
        checks.instance("mechanism", mechanism, Mechanism)
        return cls(mechanism.cost, mechanism.reg, mechanism=mechanism, **settings)

    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        return self._coupled(x, y, a)

    def _coupled(
        self, x: Tensor, y: Tensor, a: Tensor | None, b: Tensor | None = None
    ) -> SinkhornResult:
        tol, max_iter = self.tol, self.max_iter
        return solve_samples(x, y, self.cost, self.reg, a, b, tol=tol, max_iter=max_iter)

    def across(self, ranks: Ranks, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        if type(self).between is not EntropicLoss.between:
            return super().across(ranks, x, y, a)
        settings: dict[str, Any] = {"tol": self.tol, "max_iter": self.max_iter}
        return solve_across(x, y, self.cost, self.reg, a, across=ranks, **settings)

    def unchecked(self, y: Tensor) -> bool:
        """On a GPU, where the precision of ``y`` holds costs as large as theirs to ``tol``."""
        if not y.is_cuda or type(self).between is not EntropicLoss.between:
            return False
        largest = max(self.cost.matrix(part, y).max().item() for part in y.split(100)) / self.reg
        return 4 * torch.finfo(y.dtype).eps * largest <= self.tol

    def follow(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> SinkhornResult:
        look, most = self._queued is None, self._queued or self.max_iter
        return solve_batch(
            x, y, self.cost, self.reg, a, tol=self.tol, max_iter=min(most, self.max_iter), look=look
        )

    def queued(self, most: int | None) -> Self:
        if most is None:
            return self
        found = copy.copy(self)
        object.__setattr__(found, "_queued", most)
        return found

    def shiftable(self, d: int) -> Tensor:
        return self.cost.shiftable(d)

    def flat(self, d: int) -> Tensor:
        return self.cost.flat(d)

    def unit(self, y: Tensor) -> float:
        return self.reg

    def heated(self, times: float) -> Self:
        cost, reg = self.cost, self.reg * times
        if self.mechanism is not None:
            cost, reg = self.mechanism.heated(times)
        return replace(self, cost=cost, reg=reg)


@dataclass(frozen=True)
class Value:
    """A value and how well it was solved: ``error`` is the worst marginal error of its plans."""

    value: Tensor
    converged: bool
    error: float = 0.0
    n_iter: int = 1

    def information(self) -> float:
        """Not known: there are several plans behind it, or one without entropy."""
        return math.nan


@dataclass(frozen=True)
class Coded:
    """A value, and the nats that its plan carries; an encoder's plan has no marginal error."""

    value: Tensor
    nats: Tensor
    error: float = math.nan
    n_iter: int = 1
    converged: bool = True

    def information(self) -> float:
        """Mean KL(q(z | y) || p), nats a report: what the plan says about the latents."""
        return self.nats.item()


@dataclass(frozen=True)
class LikelihoodLoss(EntropicLoss):
    """Entropic OT whose plan may leave the generated side's marginal: the likelihood of reports.

    Its value is -reg mean_j log sum_i a_i exp(-c(x_i, y_j) / reg), which never exceeds the
    `EntropicLoss` of the same points and equals it where the law of x is the best there is. A
    batch of x stands for its law: the fewer points, the higher the value. Rigollet and Weed,
    "Entropic optimal transport is maximum-likelihood deconvolution", 2018.
    """

    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        x, y = checks.as_pair("x", x, "y", y)
        scores = self.cost.matrix(x, y) / -self.reg
        if a is None:
            scores = scores - math.log(len(x))
        else:  # a weight of zero leaves its point out, and its logarithm's gradient with it
            a = weights("a", a, len(x), x)
            scores, a = scores[a > 0], a[a > 0]
            scores = scores + a.log()[:, None]
        return Value(-self.reg * scores.logsumexp(0).mean(), converged=True)

    def across(self, ranks: Ranks, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        """Each report's likelihood is a sum over points, of which this process has its own."""
        if type(self).between is not LikelihoodLoss.between:
            return Loss.across(self, ranks, x, y, a)
        if a is None:
            count = ranks.summed(torch.tensor(float(len(x)), dtype=torch.float64, device=x.device))
            a = torch.full((len(x),), 1.0 / count.item(), dtype=x.dtype, device=x.device)
        own = (self.cost.matrix(x, y) / -self.reg + a.log()[:, None]).logsumexp(0)
        whole = ranks.gathered(own.detach()).logsumexp(0)
        moved = (own.detach() - whole).exp() * (own - own.detach())  # zero, and its gradient is not
        return Value(-self.reg * (whole + moved).mean(), converged=True)
