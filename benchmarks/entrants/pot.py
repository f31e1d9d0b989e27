"""POT: its three Sinkhorn methods."""

from abc import abstractmethod

from benchmarks.entrants.entrant import Answer, Entrant
from benchmarks.search import plain_iterations


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

    @abstractmethod
    def method(self, *args, **settings):
        """The solver: weights, cost and reg to the plan and a log."""

    @abstractmethod
    def potentials(self, log: dict) -> tuple:
        """f and g from that log."""

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
