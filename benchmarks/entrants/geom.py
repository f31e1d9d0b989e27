"""GeomLoss: dense, and over KeOps."""

from benchmarks.entrants.entrant import Answer, Entrant
from benchmarks.entrants.keops import many_columns
from benchmarks.search import doubling


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
        if case.streaming:
            return "dense"
        return "up to 60 times slower than not annealed at n = 256" if case.n > 256 else None


class GeomLossFlat(GeomLoss):
    """GeomLoss with a diameter just above the blur, which turns its annealing off."""

    annealed = False

    @staticmethod
    def refuses(case):
        return "dense" if case.streaming else None


class GeomLossOnline(GeomLossFlat):
    """GeomLoss over KeOps: nothing stored; the L1 cost as a KeOps formula."""

    backend = "online"

    def __init__(self, case, x, y):
        super().__init__(case, x, y)
        self.cost = None if case.p == 2 else "Sum(Abs(X-Y))"

    @staticmethod
    def refuses(case):
        return many_columns(case)


class GeomLossMultiscale(GeomLoss):
    """GeomLoss over KeOps, coarse to fine with far pairs cut off; for two or three dimensions."""

    backend = "multiscale"

    @staticmethod
    def refuses(case):
        return None if case.streaming else "for the streaming cases"
