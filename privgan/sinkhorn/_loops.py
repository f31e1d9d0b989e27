"""Compiled CPU loops (numba): costs, kernels, half-steps and gradients, one pass over memory each.

Numba needs no compiler on the machine; the first call of each loop in a fresh installation
compiles it for about a second and the result is cached on disk. Loops take numpy views of
torch tensors and run on as many threads as torch does.
"""

import functools
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numba import njit, prange
from numba.core import types
from numba.extending import intrinsic

from privgan.sinkhorn.costs import ABSOLUTE, EUCLIDEAN, SQUARED_L2

LOOP = {"parallel": True, "fastmath": True, "cache": True}

BLOCK = 4096  # columns visited at a time, so that what is known of them stays in a near cache
CHUNK = 256  # rows of a gradient that a thread takes at a time, or sums in single precision


def threaded(loop: Callable[..., Any]) -> Callable[..., Any]:
    """Call a compiled loop with torch's own number of threads, on tensors or arrays."""

    @functools.wraps(loop)
    def call(*arguments: Any) -> Any:
        wanted = torch.get_num_threads()
        threads = min(wanted, numba.config.NUMBA_NUM_THREADS)
        if threads != numba.get_num_threads():
            numba.set_num_threads(threads)
        if wanted != torch.get_num_threads():
            # Numba starts its threads at its first call, and sets OpenMP's number, which is
            # torch's too, to all cores. More threads than cores that are free wait in turns.
            torch.set_num_threads(wanted)
        return loop(*(_view(a) for a in arguments))

    return call


def _view(argument: Any) -> Any:
    return argument.detach().numpy() if isinstance(argument, torch.Tensor) else argument


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
def log_kernel(cost, scale, phi, psi, least, out):
    """out_ij = phi_i + psi_j - scale cost_ij, at least ``least``.

    Formed in float64, whatever the precision of ``out``: at weak noise the terms are hundreds
    of times larger than their sum.
    """
    n, m = cost.shape
    for i in prange(n):
        shift = phi[i]
        for j in range(m):
            t = shift + (psi[j] - cost[i, j] * scale)
            out[i, j] = t if t > least else least


@threaded
@njit(**LOOP)
def row_minima(cost, scale, psi, out):
    """out_i = min_j (scale cost_ij - psi_j), in float64."""
    for i in prange(cost.shape[0]):
        least = np.inf
        for j in range(cost.shape[1]):
            least = min(least, cost[i, j] * scale - psi[j])
        out[i] = least


@threaded
@njit(**LOOP)
def half_steps(kernel, phi0, psi0, psi, limit, faint, a, log_b, v, partial, phi, log_q):
    """Both half-steps in one pass over the kernel formed at (phi0, psi0); see `_dense`.

    phi (n,), log_q (m,): the results, float64 like psi, the weights a and log b. v (m,),
    partial (shares, m): scratch, the first in the kernel's precision, the second in float64, for
    sums of up to a few thousand positive numbers need no more. Returns False, the results being
    void, if psi + log b - psi0 varies by more than ``limit`` or a row of the kernel sums to less
    than ``faint``.
    """
    n, m = kernel.shape
    shares = partial.shape[0]
    shift = 0.0
    for j in range(m):
        shift += psi[j] + log_b[j] - psi0[j]
    shift /= m
    inside = True
    for j in range(m):
        drift = psi[j] + log_b[j] - psi0[j] - shift
        inside = inside and abs(drift) <= limit
        v[j] = np.exp(drift)
    if not inside:
        return False
    faintest = np.full(shares, np.inf)
    for t in prange(shares):
        columns = np.zeros(m, kernel.dtype)
        partial[t] = 0
        last = (t + 1) * n // shares
        for i in range(t * n // shares, last):
            s = 0.0
            for first in range(0, m, BLOCK):
                part = kernel.dtype.type(0)
                for j in range(first, min(first + BLOCK, m)):
                    part += kernel[i, j] * v[j]
                s += part
            faintest[t] = min(faintest[t], s)
            phi[i] = phi0[i] - shift - np.log(s)
            w = kernel.dtype.type(a[i] / s)
            for j in range(m):
                columns[j] += w * kernel[i, j]
            if i % CHUNK == 0 or i == last - 1:
                for j in range(m):
                    partial[t, j] += columns[j]
                    columns[j] = 0
    for j in range(m):
        total = 0.0
        for t in range(shares):
            total += partial[t, j]
        log_q[j] = np.log(total) + (psi[j] - psi0[j] - shift)
    return faintest.min() >= faint


# With few columns the loops run over the rows of y, given as columns, and vectorise.
@njit(fastmath=True)
def _costs(x, i, y_columns, first, kind, row):
    """row_j = c(x_i, y_{first + j}). Two columns a pass: the passes over the row take the time."""
    d, m = len(y_columns), len(row)
    odd = d % 2
    if odd:
        x0, y0 = x[i, 0], y_columns[0][first : first + m]
        for j in range(m):
            t = abs(x0 - y0[j])
            row[j] = t if kind == ABSOLUTE else t * t
    for k in range(odd, d, 2):
        x0, x1 = x[i, k], x[i, k + 1]
        y0, y1 = y_columns[k][first : first + m], y_columns[k + 1][first : first + m]
        if kind == ABSOLUTE:
            for j in range(m):
                t = abs(x0 - y0[j]) + abs(x1 - y1[j])
                row[j] = t if k == 0 else row[j] + t
        else:
            for j in range(m):
                t = (x0 - y0[j]) * (x0 - y0[j]) + (x1 - y1[j]) * (x1 - y1[j])
                row[j] = t if k == 0 else row[j] + t
    if kind == EUCLIDEAN:
        for j in range(m):
            row[j] = np.sqrt(row[j])


@njit
def _weight(t):
    """exp(t), and 0 below e^-60: times another weight it might be a denormal number, and slow."""
    return exp32(t) if t > np.float32(-60) else np.float32(0)


@threaded
@njit(**LOOP)
def pairwise(x, y_columns, kind, out):
    """out_ij = c(x_i, y_j), for x (n, d) and y_columns (d, m)."""
    for i in prange(x.shape[0]):
        _costs(x, i, y_columns, 0, kind, out[i])


@njit(fastmath=True)
def _add_gradients(x, i, y_columns, first, kind, plan, out):
    """out_k += sum_j plan_j dc(x_i, y_{first + j})/dx_ik, 0 where points or coordinates meet."""
    d, m = len(y_columns), len(plan)
    zero = x.dtype.type(0)
    for k in range(d):
        t, total, y = x[i, k], zero, y_columns[k][first : first + m]
        if kind == ABSOLUTE:
            for j in range(m):
                p, s = plan[j], y[j]
                total += (p if t > s else zero) - (p if t < s else zero)
        elif kind == SQUARED_L2:
            for j in range(m):
                total += plan[j] * (t - y[j])
            total *= 2
        else:
            for j in range(m):
                squares = zero
                for c in range(d):
                    squares += (x[i, c] - y_columns[c, first + j]) ** 2
                share = plan[j] / np.sqrt(squares) if squares > 0 else zero
                total += share * (t - y[j])
        out[k] += total


@threaded
@njit(**LOOP)
def gradient(x, y_columns, kind, plan, out):
    """out_ik = sum_j plan_ij dc(x_i, y_j)/dx_ik, for x (n, d) and y_columns (d, m)."""
    for i in prange(x.shape[0]):
        out[i] = 0
        _add_gradients(x, i, y_columns, 0, kind, plan[i], out[i])


@threaded
@njit(**LOOP)
def streaming_gradient(x, y_columns, kind, scale, phi, psi, out):
    """`gradient` of the plan exp(phi_i + psi_j - scale c_ij), of which no more than ``BLOCK``
    entries a thread are ever there. phi (n,), psi (m,): float32, log weights included.
    """
    n, m = x.shape[0], y_columns.shape[1]
    for t in prange((n + CHUNK - 1) // CHUNK):
        rows = range(t * CHUNK, min((t + 1) * CHUNK, n))
        scratch = np.empty(BLOCK, np.float32)
        for i in rows:
            out[i] = 0
        for first in range(0, m, BLOCK):
            last = min(first + BLOCK, m)
            psi_, plan = psi[first:last], scratch[: last - first]
            for i in rows:
                _costs(x, i, y_columns, first, kind, plan)
                for j in range(last - first):
                    plan[j] = _weight(phi[i] + (psi_[j] - scale * plan[j]))
                _add_gradients(x, i, y_columns, first, kind, plan, out[i])


@njit(fastmath=True)
def _weigh(row, shift, scale, psi):
    """row_j, from a cost to exp(shift + psi_j - scale row_j); returns their sum."""
    total = np.float32(0)
    for j in range(len(row)):
        row[j] = _weight(shift + (psi[j] - scale * row[j]))
        total += row[j]
    return total


@threaded
@njit(**LOOP)
def streaming_half_steps(x, y_columns, kind, scale, psi, a, phi, buffer, partial):
    """Both half-steps from points with few columns, forming each cost once and storing few.

    x (n, d), y_columns (d, m), psi (m,), a (n,): float32; scale = 1 / reg, float32. psi
    includes the log weights of y: an array less is a sixth less to fetch.
    phi (n,), float64: read as a guess of the result, which keeps exp in range, and
    overwritten by -log sum_j exp(psi_j - scale c(x_i, y_j)).
    buffer (2, shares, m): scratch, two rows a thread. partial (shares, m), float64: column sums
    sum_i a_i exp(phi_i + psi_j - scale c_ij) by share of the rows.
    """
    n, m = x.shape[0], y_columns.shape[1]
    shares = partial.shape[0]
    for t in prange(shares):
        row, columns = buffer[0, t], buffer[1, t]
        columns[:] = 0
        partial[t] = 0
        last = (t + 1) * n // shares
        for i in range(t * n // shares, last):
            shift, total = np.float32(phi[i]), 0.0
            for j in range(0, m, BLOCK):
                part = row[j : j + BLOCK]
                _costs(x, i, y_columns, j, kind, part)
                total += _weigh(part, shift, scale, psi[j : j + BLOCK])
            if not (1e-10 < total < 1e10):  # the guess was too far off
                _costs(x, i, y_columns, 0, kind, row)
                shift = np.float32(np.inf)
                for j in range(m):
                    shift = min(shift, scale * row[j] - psi[j])
                total = 0.0
                for j in range(0, m, BLOCK):
                    total += _weigh(row[j : j + BLOCK], shift, scale, psi[j : j + BLOCK])
            phi[i] = shift - np.log(total)
            w = np.float32(a[i] / total)
            for j in range(m):
                columns[j] += w * row[j]
            if i % CHUNK == 0 or i == last - 1:
                for j in range(m):
                    partial[t, j] += columns[j]
                    columns[j] = 0


# The iteration's algebra on small vectors, done before a framework would have dispatched it.
@njit(cache=True)
def measure(a, b, phi, psi, log_q):
    """The L1 marginal error and the dual."""
    return (b * np.abs(np.expm1(log_q))).sum(), a @ phi + b @ psi


@njit(cache=True)
def combine(steps, residuals, gram, count, step, residual):
    slot, k = (count - 1) % len(steps), min(count, len(steps))
    steps[slot], residuals[slot] = step, residual
    for i in range(k):
        gram[slot, i] = gram[i, slot] = residuals[i] @ residual
    size = np.trace(gram[:k, :k])
    if k == 1 or not 1e-280 < size < 1e280:
        return step
    damped = gram[:k, :k].copy()
    for i in range(k):
        damped[i, i] += 1e-10 * size
    weights = np.linalg.solve(damped, np.ones(k))
    return (weights / weights.sum()) @ steps[:k]
