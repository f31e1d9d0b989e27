"""OTT-JAX: plain, and with its adaptive momentum."""

from collections.abc import Callable

import numpy as np

from benchmarks.entrants.entrant import Answer, Entrant
from benchmarks.judge import MAX_ITERATIONS
from benchmarks.search import own_rule_or_tighter, plain_iterations


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
