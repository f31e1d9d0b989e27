"""KeOps, which is no solver: Sinkhorn as its documentation would have it written."""

import numpy as np

from benchmarks.cases import Case
from benchmarks.entrants.entrant import Answer, Entrant
from benchmarks.search import plain_iterations


def many_columns(case: Case) -> str | None:
    """Why a case is not for formulas that form every cost anew in every iteration."""
    many = case.d > 4 and case.n > 256
    return "forms 784 columns in every iteration: see n = 256" if many else None


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

    @staticmethod
    def refuses(case):
        return many_columns(case)
