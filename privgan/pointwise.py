"""Compiled CPU loops (numba) made for a cost from its two scalar functions.

A cost of the form finish(sum_k term(x_k - y_k)) with few columns needs no matrix product: its
loops run over the rows of y, given as columns, and vectorise.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit, prange

from privgan.kernels import LOOP, exp32, threaded


class Pointwise(NamedTuple):
    """A cost finish(sum_k term(x_k - y_k)) as two compiled scalar functions."""

    term: Callable[[float], float]
    finish: Callable[[float], float]


@njit(fastmath=True)
def _square(t):
    return t * t


@njit(fastmath=True)
def _magnitude(t):
    return abs(t)


@njit(fastmath=True)
def _root(t):
    return np.sqrt(t)


@njit(fastmath=True)
def _same(t):
    return t


SQUARED_L2 = Pointwise(_square, _same)
L1 = Pointwise(_magnitude, _same)
EUCLIDEAN = Pointwise(_square, _root)


@functools.cache
def pairwise(cost: Pointwise) -> Callable[..., None]:
    """out_ij = cost(x_i, y_j), for few columns: vectorised along the rows of y, given as y.T."""
    term, finish = cost

    @threaded
    @njit(**LOOP)
    def loop(x, y_columns, out):
        d, m = y_columns.shape
        for i in prange(x.shape[0]):
            row = out[i]
            for j in range(m):
                row[j] = term(x[i, 0] - y_columns[0, j])
            for k in range(1, d):
                for j in range(m):
                    row[j] += term(x[i, k] - y_columns[k, j])
            for j in range(m):
                row[j] = finish(row[j])

    return loop


@functools.cache
def streaming_half_steps(cost: Pointwise) -> Callable[..., None]:
    """Both half-steps from points with few columns, forming each cost once and storing none.

    x (n, d), y_columns (d, m), psi (m,), b (m,), a (n,): float32; scale = 1 / reg.
    phi (n,), float64: read as a guess of the result, which keeps exp in range, and
    overwritten by -log sum_j b_j exp(psi_j - scale c(x_i, y_j)).
    buffer (shares, m): scratch, one row a thread. partial (shares, m): column sums
    sum_i a_i exp(phi_i + psi_j - scale c_ij) by share of the rows.
    """
    term, finish = cost

    @threaded
    @njit(**LOOP)
    def loop(x, y_columns, scale, psi, a, b, phi, buffer, partial):
        n, m = x.shape[0], y_columns.shape[1]
        d, shares = x.shape[1], partial.shape[0]
        for t in prange(shares):
            row, columns = buffer[t], partial[t]
            for j in range(m):
                columns[j] = 0
            for i in range(t * n // shares, (t + 1) * n // shares):
                for j in range(m):
                    row[j] = term(x[i, 0] - y_columns[0, j])
                for k in range(1, d):
                    for j in range(m):
                        row[j] += term(x[i, k] - y_columns[k, j])
                shift = np.float32(phi[i])
                total = np.float32(0)
                for j in range(m):
                    row[j] = exp32(shift + (psi[j] - scale * finish(row[j])))
                    total += b[j] * row[j]
                if not (np.float32(1e-20) < total < np.float32(1e20)):  # the guess was too far off
                    shift = np.float32(np.inf)
                    for j in range(m):
                        row[j] = term(x[i, 0] - y_columns[0, j])
                    for k in range(1, d):
                        for j in range(m):
                            row[j] += term(x[i, k] - y_columns[k, j])
                    for j in range(m):
                        row[j] = psi[j] - scale * finish(row[j])
                        shift = min(shift, -row[j])
                    total = np.float32(0)
                    for j in range(m):
                        row[j] = exp32(shift + row[j])
                        total += b[j] * row[j]
                phi[i] = shift - np.log(np.float64(total))
                w = a[i] / total
                for j in range(m):
                    columns[j] += w * row[j]

    return loop
