"""Compiled CPU loops (numba) over a stored kernel matrix, and the iteration's own algebra."""

import numpy as np

from privgan.sinkhorn._compiled import (
    by_rows,
    compiled,
    compiled_fast,
    inlined_fast,
    inlined_sum,
    views,
)
from privgan.sinkhorn._threads import share_out

BLOCK = 4096  # numbers of a row, and
CHUNK = 256  # of a column, that are summed in their own precision


@by_rows("psi")
def log_kernel(first, last, cost, scale, phi, psi, least, out):
    """out_ij = phi_i + psi_j - scale cost_ij, at least ``least``.

    Formed in float64, whatever the precision of ``out``: at weak noise the terms are hundreds
    of times larger than their sum.
    """
    m = cost.shape[1]
    for i in range(first, last):
        shift = phi[i]
        for j in range(m):
            t = shift + (psi[j] - cost[i, j] * scale)
            out[i, j] = t if t > least else least


@by_rows("psi")
def row_minima(first, last, cost, scale, psi, out):
    """out_i = min_j (scale cost_ij - psi_j), in float64."""
    for i in range(first, last):
        least = cost[i, 0] * scale - psi[0]
        for j in range(1, cost.shape[1]):
            least = min(least, cost[i, j] * scale - psi[j])
        out[i] = least


def half_steps(kernel, phi0, psi0, psi, limit, faint, a, log_b, v, partial, phi, log_q):
    """Both half-steps in one pass over the kernel formed at (phi0, psi0); see `_dense`.

    phi (n,), log_q (m,): the results, float64 like psi, the weights a and log b. v (m,),
    partial (shares, m): scratch, the first in the kernel's precision, the second in float64, for
    sums of up to a few thousand positive numbers need no more. Returns False, the results being
    void, if psi + log b - psi0 varies by more than ``limit`` or a row of the kernel sums to less
    than ``faint``.
    """
    arrays = views((kernel, phi0, psi0, psi, a, log_b, v, partial, phi, log_q))
    kernel, phi0, psi0, psi, a, log_b, v, partial, phi, log_q = arrays
    inside, shift = _scale(psi0, psi, limit, log_b, v)
    if not inside:
        return False
    n, count, faintest = len(kernel), len(partial), np.empty(len(partial))

    def run(t):
        first, last = t * n // count, (t + 1) * n // count
        faintest[t] = _rows(first, last, kernel, phi0, shift, a, v, partial[t], phi)

    share_out(run, count)
    _columns(psi0, psi, shift, partial, log_q)
    return bool(faintest.min() >= faint)


@compiled_fast
def _scale(psi0, psi, limit, log_b, v):
    """v_j = exp(psi_j + log b_j - psi0_j - shift), shift the mean; whether that is in ``limit``."""
    m = len(psi)
    shift = 0.0
    for j in range(m):
        shift += psi[j] + log_b[j] - psi0[j]
    shift /= m
    inside = True
    for j in range(m):
        drift = psi[j] + log_b[j] - psi0[j] - shift
        inside = inside and abs(drift) <= limit
        v[j] = np.exp(drift)
    return inside, shift


# Loops of their own, or the compiler would not vectorise them.
@inlined_fast
def _dot(row, v):
    total = row.dtype.type(0)
    for j in range(len(row)):
        total += row[j] * v[j]
    return total


@inlined_fast
def _add(columns, weight, row):
    for j in range(len(row)):
        columns[j] += weight * row[j]


@compiled_fast
def _rows(first, last, kernel, phi0, shift, a, v, sums, phi):
    """phi of some rows, and their share of the column sums; returns the least sum of a row."""
    m = kernel.shape[1]
    columns = np.empty(m, kernel.dtype)
    faintest = 1e300
    sums[:] = 0
    for chunk in range(first, last, CHUNK):
        columns[:] = 0
        for i in range(chunk, min(chunk + CHUNK, last)):
            s = 0.0
            for block in range(0, m, BLOCK):
                s += _dot(kernel[i, block : block + BLOCK], v[block : block + BLOCK])
            faintest = min(faintest, s)
            phi[i] = phi0[i] - shift - np.log(s)
            _add(columns, kernel.dtype.type(a[i] / s), kernel[i])
        for j in range(m):
            sums[j] += columns[j]
    return faintest


@compiled_fast
def _columns(psi0, psi, shift, partial, log_q):
    for j in range(len(psi)):
        total = 0.0
        for t in range(len(partial)):
            total += partial[t, j]
        log_q[j] = np.log(total) + (psi[j] - psi0[j] - shift)


@inlined_sum
def _product(u, v):
    total = 0.0
    for j in range(len(u)):
        total += u[j] * v[j]
    return total


# The iteration's algebra on small vectors, done before a framework would have dispatched it. Loops:
# from 10 000 entries on a BLAS would share a product out to threads, which busy cores make it wait
# for (two processes, a core each: 4 ms a product).
@compiled
def measure(a, b, phi, psi, log_q):
    """The L1 marginal error and the dual."""
    return (b * np.abs(np.expm1(log_q))).sum(), _product(a, phi) + _product(b, psi)


@compiled
def combine(steps, residuals, gram, count, step, residual):
    slot, k = (count - 1) % len(steps), min(count, len(steps))
    steps[slot], residuals[slot] = step, residual
    for i in range(k):
        gram[slot, i] = gram[i, slot] = _product(residuals[i], residual)
    size = np.trace(gram[:k, :k])
    if k == 1 or not 1e-280 < size < 1e280:
        return step
    damped = gram[:k, :k].copy()
    for i in range(k):
        damped[i, i] += 1e-10 * size
    weights = np.linalg.solve(damped, np.ones(k))
    weights /= weights.sum()
    combined = np.zeros(len(step))
    for i in range(k):
        combined += weights[i] * steps[i]
    return combined
