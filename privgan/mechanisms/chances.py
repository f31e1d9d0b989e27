"""Chances as they are written down: draws that no grid of uniform numbers rounds.

A float64 uniform is a multiple of 2^-53. Compared with 1e-18 it is below it only where it is 0, a
hundred times too often; compared with a float32 probability next to 1 it always is, and an epsilon
on paper is none in fact.
"""

import torch
from torch import Tensor

GRID = 2.0**53  # of the uniforms in [0, 1)
MANY = 2**62


def happens(p: Tensor, generator: torch.Generator) -> Tensor:
    """True with probability ``p`` (float64, on the CPU), of its shape: exactly, for every float.

    A uniform draw stands for the first 53 binary digits of a real one. Where they are those of p,
    the next 53 decide.
    """
    scaled = p * GRID
    whole = scaled.floor()
    digits = torch.rand(p.shape, dtype=torch.float64, generator=generator) * GRID
    found = digits < whole
    open_ = (digits == whole) & (scaled > whole)
    if open_.any():
        found[open_] = happens((scaled - whole)[open_], generator)
    return found


def one_of(k: int, n: int, generator: torch.Generator) -> Tensor:
    """``n`` of the integers 0 to k - 1, each as likely as another to within k / 2^62."""
    return torch.randint(MANY, (n,), generator=generator) % k
