"""Entropic optimal transport, solved to a certified error on a CPU or a GPU; and its costs."""

from privgan.sinkhorn.across import solve_across
from privgan.sinkhorn.costs import L1, Cost, Euclidean, SquaredL2
from privgan.sinkhorn.result import SinkhornResult
from privgan.sinkhorn.solver import solve, solve_batch, solve_samples

__all__ = [
    "L1",
    "Cost",
    "Euclidean",
    "SinkhornResult",
    "SquaredL2",
    "solve",
    "solve_across",
    "solve_batch",
    "solve_samples",
]
