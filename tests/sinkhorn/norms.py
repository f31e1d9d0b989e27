"""The norms that are costs, and points to measure them between."""

import torch

from privgan.sinkhorn import L1, Euclidean, SquaredL2

COSTS = {"sqeuclidean": SquaredL2(), "cityblock": L1(), "euclidean": Euclidean()}


def points(n, d, seed, dtype=torch.float64, shift=0.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn((n, d), dtype=dtype, generator=g) + shift
