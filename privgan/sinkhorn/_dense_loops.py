"""Compiled CPU loops (numba) over a stored kernel matrix, and the iteration's own algebra."""

import numpy as np

from privgan.sinkhorn._compiled import by_rows, compiled, compiled_fast, views
from privgan.sinkhorn._threads import share_out


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


def half_steps(kernel, phi0, psi0, psi, limit, faint, a, b, v, partial, phi, log_q):
    """Both half-steps in one pass over the kernel formed at (phi0, psi0); see `_dense`.

    phi (n,), log_q (m,): the results, float64 like psi and the weights a, b. v (m,),
    partial (shares, m): scratch, in the kernel's precision: sums of positive numbers need no
    more. Returns False, the results being void, if psi - psi0 varies by more than ``limit`` or
    a row of the kernel sums to less than ``faint``.
    """
    arrays = views((kernel, phi0, psi0, psi, a, b, v, partial, phi, log_q))
    kernel, phi0, psi0, psi, a, b, v, partial, phi, log_q = arrays
    inside, shift = _scale(psi0, psi, limit, b, v)
    if not inside:
        return False
    n, count, faintest = len(kernel), len(partial), np.empty(len(partial))

    def run(t: int) -> None:
        first, last = t * n // count, (t + 1) * n // count
        faintest[t] = _rows(first, last, kernel, phi0, shift, a, v, partial[t], phi)

    share_out(run, count)
    _columns(psi0, psi, shift, partial, log_q)
    return bool(faintest.min() >= faint)


@compiled_fast
def _scale(psi0, psi, limit, b, v):
    """v_j = b_j exp(psi_j - psi0_j - shift), shift being the mean; whether that is in ``limit``."""
    m = len(psi)
    shift = 0.0
    for j in range(m):
        shift += psi[j] - psi0[j]
    shift /= m
    inside = True
    for j in range(m):
        drift = psi[j] - psi0[j] - shift
        inside = inside and abs(drift) <= limit
        v[j] = b[j] * np.exp(drift)
    return inside, shift


@compiled_fast
def _rows(first, last, kernel, phi0, shift, a, v, columns, phi):
    """phi of some rows, and their share of the column sums; returns the least sum of a row."""
    m = kernel.shape[1]
    faintest = 1e300
    for j in range(m):
        columns[j] = 0
    for i in range(first, last):
        s = kernel.dtype.type(0)
        for j in range(m):
            s += kernel[i, j] * v[j]
        faintest = min(faintest, s)
        phi[i] = phi0[i] - shift - np.log(np.float64(s))
        w = kernel.dtype.type(a[i]) / s
        for j in range(m):
            columns[j] += w * kernel[i, j]
    return faintest


@compiled_fast
def _columns(psi0, psi, shift, partial, log_q):
    for j in range(len(psi)):
        total = 0.0
        for t in range(len(partial)):
            total += partial[t, j]
        log_q[j] = np.log(total) + (psi[j] - psi0[j] - shift)


# The iteration's algebra on small vectors, done before a framework would have dispatched it.
@compiled
def measure(a, b, phi, psi, log_q):
    """The L1 marginal error and the dual."""
    return (b * np.abs(np.expm1(log_q))).sum(), a @ phi + b @ psi


@compiled
def combine(steps, residuals, gram, count, step, residual):
    slot, k = (count - 1) % len(steps), min(count, len(steps))
    steps[slot], residuals[slot] = step, residual
    for i in range(k):
        gram[slot, i] = gram[i, slot] = residuals[i] @ residual
    if k == 1:
        return step
    damped = gram[:k, :k].copy()
    for i in range(k):
        damped[i, i] += 1e-10 * np.trace(gram[:k, :k])
    weights = np.linalg.solve(damped, np.ones(k))
    return (weights / weights.sum()) @ steps[:k]
