"""The problems of the race: raw points against privatized ones, on the device."""

import math
from dataclasses import dataclass

import torch

from benchmarks.gpu.training import records

STD = {
    2: {"medium": 0.3, "weak": 0.05},
    784: {"medium": 1.0, "weak": 0.2},
}  # as in benchmarks.cases


@dataclass(frozen=True)
class Case:
    """``n`` raw points against ``n`` privatized ones, both weighted uniformly.

    d = 2 is the unit circle, d = 784 is MNIST. p = 2: Gaussian noise and squared L2; p = 1:
    Laplace noise and L1; at the matched regularisation.
    """

    n: int
    d: int
    p: int
    noise: str

    @property
    def key(self):
        return f"n={self.n} d={self.d} p={self.p} {self.noise}"

    @property
    def std(self):
        return STD[self.d][self.noise]

    @property
    def reg(self):
        return 2.0 * self.std**2 if self.p == 2 else self.std / math.sqrt(2.0)

    def points(self, device):
        """x (n, d) raw and y (n, d) privatized, float32."""
        g = torch.Generator().manual_seed(self.n + self.d)
        if self.d == 2:
            t = 2 * math.pi * torch.rand(2 * self.n, generator=g)
            clean = torch.stack([t.cos(), t.sin()], 1)
        else:
            pixels, _, _ = records(2 * self.n)
            clean = pixels[torch.randperm(2 * self.n, generator=g)]
        x, y = clean[: self.n], clean[self.n :]
        if self.p == 2:
            noise = self.std * torch.randn(y.shape, generator=g)
        else:
            u = torch.rand(y.shape, generator=g) - 0.5
            noise = -self.reg * u.sign() * torch.log1p(-2 * u.abs().clamp_max(0.4999999))
        return x.to(device), (y + noise).to(device)


def cases(tiny):
    """Every size at medium noise first: a run that is cut short has something of everything."""
    if tiny:
        return [Case(64, 2, p, "medium") for p in (2, 1)]
    sizes = 1024, 4096, 16384
    return [Case(n, d, p, noise) for noise in STD[2] for n in sizes for d in STD for p in (2, 1)]
