r"""Local privacy mechanisms: the only part of the package that knows the noise.

A mechanism turns a raw record x into a report y with density ``k(y | x)`` and owns the
transport cost and regularisation that are matched to it. Matched means

    k(y | x) = h(y) exp(-cost(x, y) / reg)      for some h that never sees x,

for then every coupling of a law P with the reports Q has, whatever P is,

    E[cost] + reg I(X; Y) = reg E KL(coupling(y | x) || k(y | x)) + terms in Q alone,

and the smallest possible value is reached exactly when the coupling is "draw x, then
apply the mechanism": when P is the raw law.
"""

import math
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.costs import L1, Cost, SquaredL2

Records = TypeVar("Records", Tensor, np.ndarray)


class Mechanism:
    """A channel from records (n, d) to reports (n, d), with its matched ``cost`` and ``reg``."""

    cost: Cost
    reg: float

    def forward(self, x: Tensor) -> Tensor:
        """The public, deterministic part before the noise; the identity here."""
        return x

    def privatize(self, x: Records, *, seed: int | None = None) -> Records:
        """One report per row of ``x``, (n, d) to (n, d), same type, dtype and device.

        This is a simulation for research: floating-point noise from a seeded generator
        leaks in its low bits and a known seed subtracts away. ``seed=None`` takes fresh
        entropy. The noise is drawn on the CPU so that a seed means the same everywhere.
        """
        records = checks.as_records("x", x)
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(checks.integer("seed", seed))
        noise = self._noise(records.shape, records.dtype, generator).to(records.device)
        reports = self.forward(records) + noise
        return reports if isinstance(x, Tensor) else reports.numpy()

    def log_density(self, x: Tensor, y: Tensor) -> Tensor:
        """``log k(y_j | x_i)`` in nats, (n, m), for records ``x`` (n, d), reports ``y`` (m, d)."""
        x, y = checks.as_pair("x", x, "y", y)
        return self.cost.matrix(self.forward(x), y) / -self.reg + self._log_normaliser(y.shape[1])

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({settings})"

    def _noise(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        raise NotImplementedError

    def _log_normaliser(self, dim: int) -> float:
        raise NotImplementedError


class Gaussian(Mechanism):
    """Adds N(0, sigma^2) to every coordinate; ``sigma`` is in the units of the data.

    k(y|x) = (2 pi sigma^2)^(-d/2) exp(-|x - y|^2 / (2 sigma^2)): squared L2, reg 2 sigma^2.
    """

    def __init__(self, sigma: float):
        self.sigma = checks.positive("sigma", sigma)
        self.cost = SquaredL2()
        self.reg = checks.positive("2 sigma^2", 2.0 * self.sigma**2)  # may underflow

    def _noise(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        return self.sigma * torch.randn(shape, dtype=dtype, generator=generator)

    def _log_normaliser(self, dim: int) -> float:
        return -0.5 * dim * math.log(2.0 * math.pi * self.sigma**2)

    def __repr__(self) -> str:
        return f"Gaussian(sigma={self.sigma!r})"


class Laplace(Mechanism):
    """Adds Laplace noise of scale b to every coordinate (std sqrt(2) b), data units.

    k(y|x) = (2 b)^(-d) exp(-|x - y|_1 / b): the L1 cost, reg b.
    """

    def __init__(self, scale: float):
        self.scale = checks.positive("scale", scale)
        self.cost = L1()
        self.reg = self.scale

    def _noise(self, shape: torch.Size, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
        # An exponential magnitude with a fair sign. Inverting the distribution function at a
        # float32 uniform would return infinity whenever the uniform is exactly zero.
        magnitude = torch.empty(shape, dtype=dtype).exponential_(generator=generator)
        sign = torch.randint(0, 2, shape, dtype=torch.int8, generator=generator)
        return self.scale * magnitude * sign.mul_(2).sub_(1)

    def _log_normaliser(self, dim: int) -> float:
        return -dim * math.log(2.0 * self.scale)

    def __repr__(self) -> str:
        return f"Laplace(scale={self.scale!r})"
