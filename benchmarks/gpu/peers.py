"""Who takes part in the race: each from points on the device to value, gradient and potentials.

``solve(knob)`` is what is timed, ``potentials(knob)`` what is judged, both without a look at an
error: the judge has fixed the number of iterations beforehand.
"""

import torch


class Peer:
    """One of the others; the knob counts iterations."""

    def __init__(self, case, x, y):
        self.case, self.x, self.y, self.reg = case, x, y, case.reg
        self.a = torch.full((case.n,), 1.0 / case.n, device=x.device)

    @staticmethod
    def refuses(case):
        """Why it cannot be asked this case."""
        return None


class Flash(Peer):
    """flash-sinkhorn, alternating updates at a fixed regularisation.

    TensorFloat32 is off: with it no tolerance below 1e-2 was reached where it was tried. Its tile
    sizes are its defaults: looking for better ones took it a minute for each case.
    """

    module = "flash_sinkhorn"

    def loss(self, iterations, potentials):
        from flash_sinkhorn import SamplesLoss

        return SamplesLoss(
            "sinkhorn",
            backend="alternating",
            use_epsilon_scaling=False,
            eps=self.reg,
            n_iters=iterations,
            allow_tf32=False,
            autotune=False,
            potentials=potentials,
            normalize=False,
        )

    def solve(self, iterations):
        x = self.x.clone().requires_grad_()
        value = self.loss(iterations, False)(self.a, x, self.a, self.y)
        (gradient,) = torch.autograd.grad(value, x)
        return value.detach(), gradient

    def potentials(self, iterations):
        f, g = self.loss(iterations, True)(self.a, self.x, self.a, self.y)
        return f.ravel(), g.ravel()

    @staticmethod
    def refuses(case):
        return None if case.p == 2 else "squared L2 only"


class POT(Peer):
    """POT in the log domain, on torch tensors; its plan gives the gradient."""

    module = "ot"

    def plan(self, iterations, x):
        import ot

        metric = ot.dist if self.case.p == 2 else lambda x, y: torch.cdist(x, y, p=1.0)
        with torch.no_grad():
            cost = metric(x, self.y)
            settings = {"numItermax": iterations, "stopThr": 0.0, "log": True, "warn": False}
            return ot.bregman.sinkhorn_log(self.a, self.a, cost, self.reg, **settings)

    def solve(self, iterations):
        plan, log = self.plan(iterations, self.x)
        f, g = self.from_log(log)
        # The gradient as its users would take it, but in rows: torch's own holds n x m x d for L1.
        if self.case.p == 2:
            gradient = 2.0 * (plan.sum(1, keepdim=True) * self.x - plan @ self.y)
        else:
            step = max(1, 2**27 // self.y.numel())
            tiles = zip(self.x.split(step), plan.split(step), strict=True)
            backward = torch.ops.aten._cdist_backward
            gradient = torch.cat(
                [backward(p.contiguous(), x, self.y, 1.0, p.contiguous()) for x, p in tiles]
            )
        return f.mean() + g.mean(), gradient

    def potentials(self, iterations):
        return self.from_log(self.plan(iterations, self.x)[1])

    def from_log(self, log):
        shift = self.a.log()
        return self.reg * (log["log_u"] - shift), self.reg * (log["log_v"] - shift)


class GeomLoss(Peer):
    """GeomLoss, dense, all its steps at the final regularisation."""

    module = "geomloss"

    def loss(self, iterations, potentials):
        from geomloss import SamplesLoss

        blur = self.case.std if self.case.p == 2 else self.reg
        return SamplesLoss(
            "sinkhorn",
            p=self.case.p,
            blur=blur,
            scaling=1.0001 ** (-1.0 / iterations),
            diameter=1.0001 * blur,
            cost=None if self.case.p == 2 else (lambda x, y: torch.cdist(x, y, p=1.0)),
            debias=False,
            potentials=potentials,
            backend="tensorized",
        )

    def solve(self, iterations):
        x = self.x.clone().requires_grad_()
        value = self.loss(iterations, False)(x, self.y)
        (gradient,) = torch.autograd.grad(value, x)
        half = 2.0 if self.case.p == 2 else 1.0
        return half * value.detach(), half * gradient

    def potentials(self, iterations):
        f, g = self.loss(iterations, True)(self.x, self.y)
        half = 2.0 if self.case.p == 2 else 1.0
        return half * f.detach().ravel(), half * g.detach().ravel()

    @staticmethod
    def refuses(case):
        if case.p == 1 and case.n * case.n * case.d > 2**33:
            return "its L1 gradient holds n x m x d"
        return None


PEERS = {
    "flash-sinkhorn": Flash,
    "POT": POT,
    "GeomLoss": GeomLoss,
}
