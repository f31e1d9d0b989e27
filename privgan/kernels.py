"""Compiled CPU loops (numba): costs, kernels and half-steps, one pass over memory each.

Numba needs no compiler on the machine; the first call of each loop in a fresh installation
compiles it for about a second and the result is cached on disk. Loops take numpy views of
torch tensors and run on as many threads as torch does.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numba import njit, prange
from numba.core import types
from numba.extending import intrinsic

LOOP = {"parallel": True, "fastmath": True, "cache": True}


def threaded(loop: Callable[..., None]) -> Callable[..., None]:
    """Call a compiled loop with torch's own number of threads, on tensors or arrays."""

    @functools.wraps(loop)
    def call(*arguments: Any) -> None:
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS))
        loop(*(a.numpy() if isinstance(a, torch.Tensor) else a for a in arguments))

    return call


@intrinsic
def _bits_to_float(typing_context, bits):
    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@njit  # not fastmath: reassociating would undo the two-part ln 2
def exp32(t):
    """exp in float32, relative error below 3e-7, clamped to [-87, 88]. A polynomial that
    vectorises: exp(t) = 2^k exp(r), r = t - k ln 2 in [-0.35, 0.35], 2^k made from its bits.
    """
    t = min(max(t, np.float32(-87.0)), np.float32(88.0))
    k = np.floor(t * np.float32(1.44269504) + np.float32(0.5))
    r = t - k * np.float32(0.693359375) - k * np.float32(-2.12194440e-4)
    p = np.float32(1.9875691500e-4)
    p = p * r + np.float32(1.3981999507e-3)
    p = p * r + np.float32(8.3334519073e-3)
    p = p * r + np.float32(4.1665795894e-2)
    p = p * r + np.float32(1.6666665459e-1)
    p = p * r + np.float32(5.0000001201e-1)
    p = p * r * r + r + np.float32(1.0)
    return p * _bits_to_float((np.int32(k) + np.int32(127)) << np.int32(23))


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


@threaded
@njit(**LOOP)
def l1_matrix(x, y, out):
    """out_ij = sum_k |x_ik - y_jk|: four rows of x share each load of y."""
    n, d = x.shape
    for block in prange((n + 3) // 4):
        i = 4 * block
        if i + 4 <= n:
            for j in range(y.shape[0]):
                s0 = s1 = s2 = s3 = x.dtype.type(0)
                for k in range(d):
                    t = y[j, k]
                    s0 += abs(x[i, k] - t)
                    s1 += abs(x[i + 1, k] - t)
                    s2 += abs(x[i + 2, k] - t)
                    s3 += abs(x[i + 3, k] - t)
                out[i, j], out[i + 1, j], out[i + 2, j], out[i + 3, j] = s0, s1, s2, s3
        else:
            for r in range(i, n):
                for j in range(y.shape[0]):
                    s0 = x.dtype.type(0)
                    for k in range(d):
                        s0 += abs(x[r, k] - y[j, k])
                    out[r, j] = s0


@threaded
@njit(**LOOP)
def l1_gradient(x, y, plan, out):
    """out_ik = sum_j plan_ij sign(x_ik - y_jk), sign(0) = 0.

    Entries below float32's resolution of their row's mass are passed over: at weak noise
    that is nearly all of the plan.
    """
    n, d = x.shape
    m = y.shape[0]
    for i in prange(n):
        mass = x.dtype.type(0)
        for j in range(m):
            mass += abs(plan[i, j])
        least = mass * x.dtype.type(1e-9)
        for k in range(d):
            out[i, k] = 0
        for j in range(m):
            p = plan[i, j]
            if abs(p) > least:
                for k in range(d):
                    difference = x[i, k] - y[j, k]
                    out[i, k] += p * (difference > 0) - p * (difference < 0)


@threaded
@njit(**LOOP)
def column_minima(cost, scale, partial):
    """partial[t, j] = scale * min of cost over the t-th share of the rows."""
    n, m = cost.shape
    shares = partial.shape[0]
    for t in prange(shares):
        least = partial[t]
        for j in range(m):
            least[j] = np.inf
        for i in range(t * n // shares, (t + 1) * n // shares):
            for j in range(m):
                least[j] = min(least[j], cost[i, j] * scale)


@threaded
@njit(**LOOP)
def column_sums(cost, scale, shift, a, partial):
    """partial[t, j] = sum of a_i exp(shift_j - scale cost_ij) over the t-th share of the rows."""
    n, m = cost.shape
    shares = partial.shape[0]
    for t in prange(shares):
        total = partial[t]
        for j in range(m):
            total[j] = 0
        for i in range(t * n // shares, (t + 1) * n // shares):
            w = np.float32(a[i])
            for j in range(m):
                total[j] += w * exp32(np.float32(shift[j] - cost[i, j] * scale))


@threaded
@njit(**LOOP)
def absorb(cost, scale, psi, phi, kernel):
    """phi_i = min_j (scale cost_ij - psi_j); kernel_ij = exp(phi_i + psi_j - scale cost_ij).

    The exponent is formed in float64: at weak noise its terms are hundreds of times larger
    than their sum.
    """
    n, m = cost.shape
    for i in prange(n):
        least = np.inf
        for j in range(m):
            least = min(least, cost[i, j] * scale - psi[j])
        phi[i] = least
        for j in range(m):
            kernel[i, j] = exp32(np.float32(least + (psi[j] - cost[i, j] * scale)))


@threaded
@njit(**LOOP)
def absorb64(cost, scale, psi, phi, kernel):
    """As `absorb`, with a float64 kernel."""
    n, m = cost.shape
    for i in prange(n):
        least = np.inf
        for j in range(m):
            least = min(least, cost[i, j] * scale - psi[j])
        phi[i] = least
        for j in range(m):
            kernel[i, j] = np.exp(least + (psi[j] - cost[i, j] * scale))


@threaded
@njit(**LOOP)
def half_steps(kernel, v, a, rows, partial):
    """Both half-steps in one pass: rows = kernel v, then partial sums of kernel^T (a / rows)."""
    n, m = kernel.shape
    shares = partial.shape[0]
    for t in prange(shares):
        columns = partial[t]
        for j in range(m):
            columns[j] = 0
        for i in range(t * n // shares, (t + 1) * n // shares):
            s = kernel.dtype.type(0)
            for j in range(m):
                s += kernel[i, j] * v[j]
            rows[i] = s
            w = a[i] / s
            for j in range(m):
                columns[j] += w * kernel[i, j]


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
