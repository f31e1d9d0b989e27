"""Learned weights on fixed points: the generator for channels whose cost is flat in the points."""

import numpy as np
import torch
from torch import Tensor, nn

from privgan import checks
from privgan.generators.base import Generator
from privgan.generators.latents import invert
from privgan.streams import sent
from privgan.surroundings import usual


class Atoms(Generator):
    """Fixed points with learned weights: the laws on a known finite set.

    points: (k, d), say an alphabet's one-hot rows ``torch.eye(k)`` or a grid; they are public.
    Training solves between all the atoms and a batch of reports, and follows the transport
    value's gradient in the weights: it works where a channel's cost has none in the points.

    >>> pg.Atoms(torch.eye(4)).weights.tolist()
    [0.25, 0.25, 0.25, 0.25]
    """

    latent_dim: int = 1
    out_dim: int
    points: Tensor
    logits: nn.Parameter

    def __init__(self, points: Tensor | np.ndarray):
        super().__init__()
        with usual(grad=True):
            self.register_buffer("points", checks.as_records("points", points).detach().clone())
            self.logits = nn.Parameter(self.points.new_zeros(len(self.points)))
        self.out_dim = self.points.shape[1]

    @property
    def weights(self) -> Tensor:
        """The probability of every atom, (k,)."""
        return self.logits.softmax(0)

    def batch(
        self, n: int, generator: torch.Generator, *, even: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """All the atoms with their weights, whatever ``n``."""
        return self.points, self.weights

    def latent(self, n: int, generator: torch.Generator, *, even: bool = False) -> Tensor:
        """Uniform on [0, 1), (n, 1)."""
        z = torch.rand((n, 1), dtype=torch.float64, generator=generator)
        return sent(z, self.points.device)

    def forward(self, z: Tensor) -> Tensor:
        """The atom whose share of [0, 1) a latent falls in."""
        return self.points[invert(self.weights.double(), z[:, 0])]
