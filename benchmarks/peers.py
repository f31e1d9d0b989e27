"""The entrants: each from the same arrays to the entropic OT value and its gradient in x.

An entrant is built for a case (which moves the points into its framework), then `solve(knob)`
is what is timed and `answer(result)` is what is judged: both potentials in the convention of
privgan, ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``, the gradient and the value.

Its other libraries are imported by the entrant that needs them, so that the memory and the
threads of one are never charged to another.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from benchmarks.cases import Case
from benchmarks.judge import MAX_ITERATIONS
from benchmarks.search import (
    Search,
    doubling,
    own_rule,
    own_rule_or_tighter,
    plain_iterations,
)


@dataclass(frozen=True)
class Answer:
    """f (n,), g (m,), gradient (n, d), value; ``claimed`` is the entrant's own error.

    plan (n, m): where an entrant returns its plan as such, its sums are judged instead of those
    of a plan made anew from float32 potentials.
    """

    f: np.ndarray
    g: np.ndarray
    gradient: np.ndarray
    value: float
    iterations: int | None = None
    claimed: float | None = None
    plan: np.ndarray | None = None


class Entrant:
    """What every entrant provides. ``package`` names the distribution that it measures."""

    package: str
    search: Search
    iterative = True  # the knob counts iterations: time grows in proportion

    def __init__(self, case: Case, x: np.ndarray, y: np.ndarray):
        """x (n, d), y (m, d), float32."""
        raise NotImplementedError

    def prepare(self, knob: Any) -> None:
        """Whatever must be compiled for this setting; not timed."""

    def solve(self, knob: Any) -> Any:
        raise NotImplementedError

    def answer(self, result: Any) -> Answer:
        raise NotImplementedError

    @staticmethod
    def refuses(case: Case) -> str | None:
        """Why the package cannot be asked this case at all."""
        return None

    @classmethod
    def version(cls) -> str:
        return version(cls.package)


class Privgan(Entrant):
    """This package; stops by its own certificate, which it pays for."""

    package = "privgan"
    search = staticmethod(own_rule)
    iterative = False

    def __init__(self, case, x, y):
        import torch

        from privgan.costs import L1, SquaredL2

        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.cost = SquaredL2() if case.p == 2 else L1()
        self.reg = case.reg
        self.backend = {"backend": "streaming"} if case.streaming else {}

    def solve(self, tol):
        from privgan import sinkhorn_samples

        x = self.x.clone().requires_grad_()
        result = sinkhorn_samples(
            x, self.y, self.cost, self.reg, tol=tol, max_iter=MAX_ITERATIONS, **self.backend
        )
        result.value.backward()
        return result, x.grad

    def answer(self, result):
        result, gradient = result
        return Answer(
            result.f.numpy(),
            result.g.numpy(),
            gradient.numpy(),
            result.value.item(),
            iterations=result.n_iter,
            claimed=float(result.error),
            plan=None if self.backend else result.plan().numpy(),
        )

    @classmethod
    def version(cls):
        from privgan import __version__

        return __version__


class POT(Entrant):
    """POT on torch tensors; the plan it returns gives the gradient (envelope theorem)."""

    package = "POT"
    search = staticmethod(plain_iterations)

    def __init__(self, case, x, y):
        import ot
        import torch

        self.x, self.y, self.reg = torch.from_numpy(x), torch.from_numpy(y), case.reg
        self.a = torch.full((len(x),), 1.0 / len(x))
        self.b = torch.full((len(y),), 1.0 / len(y))
        # ot.dist forms the L1 cost one column at a time; torch's own is many times faster.
        self.cost = ot.dist if case.p == 2 else lambda x, y: torch.cdist(x, y, p=1.0)

    def solve(self, iterations):
        import torch

        x = self.x.clone().requires_grad_()
        cost = self.cost(x, self.y)
        plan, log = self.method(
            self.a,
            self.b,
            cost.detach(),
            self.reg,
            numItermax=iterations,
            stopThr=0.0,  # no stop: the judge has fixed the number of iterations
            log=True,
            warn=False,
        )
        (gradient,) = torch.autograd.grad(cost, x, plan)
        f, g = self.potentials(log)
        return f, g, gradient, (f @ self.a + g @ self.b).item()

    def answer(self, result):
        f, g, gradient, value = result
        return Answer(f.numpy(), g.numpy(), gradient.numpy(), value)

    def method(self, *args, **settings):
        raise NotImplementedError

    def potentials(self, log: dict) -> tuple:
        raise NotImplementedError

    @staticmethod
    def refuses(case):
        return "dense" if case.streaming else None


class POTKernel(POT):
    """`ot.sinkhorn`: the scaling iteration on exp(-cost / reg)."""

    def method(self, *args, **settings):
        import ot

        return ot.bregman.sinkhorn_knopp(*args, **settings)

    def potentials(self, log):
        return (
            self.reg * (log["u"] / self.a).log(),
            self.reg * (log["v"] / self.b).log(),
        )


class POTLog(POT):
    """`ot.sinkhorn(method="sinkhorn_log")`: log-sum-exp over the dense matrix."""

    def method(self, *args, **settings):
        import ot

        return ot.bregman.sinkhorn_log(*args, **settings)

    def potentials(self, log):
        return (
            self.reg * (log["log_u"] - self.a.log()),
            self.reg * (log["log_v"] - self.b.log()),
        )


class POTStabilized(POT):
    """`ot.sinkhorn(method="sinkhorn_stabilized")`: scalings, absorbed when they grow."""

    def method(self, *args, **settings):
        import ot

        # Its error is only looked at every print_period iterations: never, after the first.
        return ot.bregman.sinkhorn_stabilized(*args, print_period=10**9, **settings)

    def potentials(self, log):
        return (
            self.reg * (log["logu"] - self.a.log()),
            self.reg * (log["logv"] - self.b.log()),
        )


class GeomLoss(Entrant):
    """GeomLoss: one step at each of a falling list of regularisations, then one to extrapolate.

    The list starts at `diameter` and falls by the ratio `scaling`. Here the knob is its length,
    in proportion to which it takes time; the scaling follows.
    """

    package = "geomloss"
    search = staticmethod(doubling)
    backend = "tensorized"
    annealed = True  # from the spread of the points, as documented

    def __init__(self, case, x, y):
        import torch

        self.x, self.y, self.p = torch.from_numpy(x), torch.from_numpy(y), case.p
        # p = 2 halves the squared distance, so its blur^2 is half of reg; for p = 1 it would
        # take the Euclidean distance, hence a cost of our own with blur = reg.
        self.blur = case.std if case.p == 2 else case.reg
        self.cost = None if case.p == 2 else (lambda x, y: torch.cdist(x, y, p=1.0))
        both = torch.cat([self.x, self.y])
        self.diameter = (both.amax(0) - both.amin(0)).norm().item()

    def loss(self, steps: int, potentials: bool):
        from geomloss import SamplesLoss

        # Not annealed: every step at almost the final regularisation. In either case a ratio
        # below one, whatever the points: with strong noise blur may exceed the diameter.
        spread = max(self.diameter / self.blur, 1.01) if self.annealed else 1.0001
        return SamplesLoss(
            "sinkhorn",
            p=self.p,
            blur=self.blur,
            scaling=spread ** (-1.0 / steps),
            diameter=spread * self.blur,
            cost=self.cost,
            debias=False,
            potentials=potentials,
            backend=self.backend,
        )

    def solve(self, steps):
        import torch

        x = self.x.clone().requires_grad_()
        value = self.loss(steps, potentials=False)(x, self.y)
        (gradient,) = torch.autograd.grad(value, x)
        return steps, value.detach(), gradient

    def answer(self, result):
        steps, value, gradient = result
        f, g = self.loss(steps, potentials=True)(self.x, self.y)
        double = 2.0 if self.p == 2 else 1.0
        return Answer(
            double * f.detach().numpy().ravel(),
            double * g.detach().numpy().ravel(),
            double * gradient.numpy(),
            double * value.item(),
        )

    @staticmethod
    def refuses(case):
        return "dense" if case.streaming else None


class GeomLossFlat(GeomLoss):
    """GeomLoss with a diameter just above the blur, which turns its annealing off."""

    annealed = False


class GeomLossOnline(GeomLossFlat):
    """GeomLoss over KeOps: nothing stored; the L1 cost as a KeOps formula."""

    backend = "online"

    def __init__(self, case, x, y):
        super().__init__(case, x, y)
        self.cost = None if case.p == 2 else "Sum(Abs(X-Y))"

    @staticmethod
    def refuses(case):
        return None


class GeomLossMultiscale(GeomLoss):
    """GeomLoss over KeOps, coarse to fine with far pairs cut off; for two or three dimensions."""

    backend = "multiscale"

    @staticmethod
    def refuses(case):
        return None if case.streaming else "for the streaming cases"


class OTT(Entrant):
    """OTT-JAX, log-sum-exp, a fixed number of iterations in one compiled scan."""

    package = "ott-jax"
    search = staticmethod(plain_iterations)

    def __init__(self, case, x, y):
        import jax
        from ott.geometry import costs

        self.jax, self.reg = jax, case.reg
        self.x, self.y = jax.numpy.asarray(x), jax.numpy.asarray(y)
        self.cost = costs.SqEuclidean() if case.p == 2 else costs.PNormP(1.0)
        self.batch_size = 1024 if case.streaming else None
        self.compiled: dict[int, Callable] = {}
        if case.streaming:
            # This jax has made private a function that ott's batches still look for. An older
            # jax has it, and takes several times as long for everything else.
            from jax._src.interpreters.batching import is_vmappable
            from jax.interpreters import batching

            batching.is_vmappable = is_vmappable

    def compile(self, **settings) -> Callable:
        """x, y, tolerance to ((value, (f, g, errors)), gradient in x)."""
        import jax
        from ott.geometry.pointcloud import PointCloud
        from ott.problems.linear.linear_problem import LinearProblem
        from ott.solvers.linear.sinkhorn import Sinkhorn

        def value(x, y, threshold):
            cloud = PointCloud(
                x, y, cost_fn=self.cost, epsilon=self.reg, batch_size=self.batch_size
            )
            solved = Sinkhorn(threshold=threshold, **settings)(LinearProblem(cloud))
            return solved.reg_ot_cost, (solved.f, solved.g, solved.errors)

        compiled = jax.jit(jax.value_and_grad(value, has_aux=True))
        return compiled.lower(self.x, self.y, 0.0).compile()

    def prepare(self, iterations):
        if iterations not in self.compiled:
            # As many inner as outer iterations: the error is computed once, at the end.
            self.compiled[iterations] = self.compile(
                min_iterations=iterations,
                max_iterations=iterations,
                inner_iterations=iterations,
            )

    def solve(self, iterations):
        return self.jax.block_until_ready(self.compiled[iterations](self.x, self.y, 0.0))

    def answer(self, result):
        (value, (f, g, _)), gradient = result
        return Answer(*self.potentials(f, g), np.array(gradient), float(value))

    def potentials(self, f, g) -> tuple[np.ndarray, np.ndarray]:
        """OTT's plan is exp((f + g - C) / reg): the weights are inside its potentials."""
        f, g = np.array(f), np.array(g)
        return f + self.reg * np.log(len(f)), g + self.reg * np.log(len(g))


class OTTMomentum(OTT):
    """OTT-JAX with adaptive over-relaxation, stopped by its own error every 10 iterations."""

    search = staticmethod(own_rule_or_tighter)
    iterative = False

    def __init__(self, case, x, y):
        super().__init__(case, x, y)
        self.adaptive = None

    def prepare(self, tol):
        from ott.solvers.linear.acceleration import Momentum

        if self.adaptive is None:
            momentum = Momentum(start=20)
            self.adaptive = self.compile(max_iterations=MAX_ITERATIONS, momentum=momentum)

    def solve(self, tol):
        return self.jax.block_until_ready(self.adaptive(self.x, self.y, tol))

    def answer(self, result):
        (value, (f, g, errors)), gradient = result
        seen = np.asarray(errors).ravel()
        seen = seen[seen > -1]  # what was never reached is marked -1
        return Answer(
            *self.potentials(f, g),
            np.array(gradient),
            float(value),
            iterations=10 * len(seen),
            claimed=float(seen[-1]),
        )

    @staticmethod
    def refuses(case):
        return "too few iterations to accelerate" if case.streaming else None


class KeOps(Entrant):
    """Sinkhorn written with KeOps' lazy tensors, as its documentation would; nothing stored."""

    package = "pykeops"
    search = staticmethod(plain_iterations)

    def __init__(self, case, x, y):
        import torch
        from pykeops.torch import LazyTensor

        self.torch, self.lazy, self.p, self.reg = torch, LazyTensor, case.p, case.reg
        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)

    def solve(self, iterations):
        n, m = len(self.x), len(self.y)
        x_i, y_j = self.lazy(self.x[:, None, :]), self.lazy(self.y[None, :, :])
        difference = x_i - y_j
        cost = (difference**2).sum(-1) if self.p == 2 else difference.abs().sum(-1)
        cost = cost / self.reg  # (n, m, 1), symbolic
        phi = self.torch.zeros(n, 1, 1)  # f / reg
        for _ in range(iterations):
            psi = np.log(n) - (self.lazy(phi) - cost).logsumexp(0).view(1, m, 1)
            phi = np.log(m) - (self.lazy(psi) - cost).logsumexp(1).view(n, 1, 1)
        plan = (self.lazy(phi) + self.lazy(psi) - cost).exp()  # times n m
        if self.p == 2:
            gradient = 2.0 / n * (self.x - (plan @ self.y) / m)  # rows sum to 1 after phi's step
        else:
            gradient = (plan * difference.sign()).sum(1) / (n * m)
        f, g = self.reg * phi.view(n), self.reg * psi.view(m)
        return f, g, gradient, (f.mean() + g.mean()).item()

    def answer(self, result):
        f, g, gradient, value = result
        return Answer(f.numpy(), g.numpy(), gradient.numpy(), value)


# Fastest first, by and large: what runs early is safe when a run is cut short.
ENTRANTS: dict[str, type[Entrant]] = {
    "privgan": Privgan,
    "ott": OTT,
    "ott-momentum": OTTMomentum,
    "pot-kernel": POTKernel,
    "pot-stabilized": POTStabilized,
    "pot-log": POTLog,
    "geomloss": GeomLoss,
    "geomloss-flat": GeomLossFlat,
    "geomloss-online": GeomLossOnline,
    "geomloss-multiscale": GeomLossMultiscale,
    "keops": KeOps,
}
TITLES = {
    "privgan": "privgan",
    "ott": "OTT-JAX",
    "ott-momentum": "OTT-JAX (momentum)",
    "pot-kernel": "POT (sinkhorn)",
    "pot-stabilized": "POT (stabilized)",
    "pot-log": "POT (log)",
    "geomloss": "GeomLoss",
    "geomloss-flat": "GeomLoss (not annealed)",
    "geomloss-online": "GeomLoss (online)",
    "geomloss-multiscale": "GeomLoss (multiscale)",
    "keops": "KeOps",
}
