"""This package."""

from benchmarks.entrants.entrant import Answer, Entrant
from benchmarks.judge import MAX_ITERATIONS
from benchmarks.search import own_rule


class Privgan(Entrant):
    """This package; stops by its own certificate, which it pays for."""

    package = "privgan"
    search = staticmethod(own_rule)
    iterative = False

    def __init__(self, case, x, y):
        import torch

        from privgan.sinkhorn import L1, SquaredL2

        self.x, self.y = torch.from_numpy(x), torch.from_numpy(y)
        self.cost = SquaredL2() if case.p == 2 else L1()
        self.reg = case.reg
        self.backend = {"backend": "streaming"} if case.streaming else {}

    def solve(self, tol):
        from privgan.sinkhorn import solve_samples

        x = self.x.clone().requires_grad_()
        result = solve_samples(
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
