"""Compiled CPU loops (numba) for costs that are sums over few columns.

With few columns no matrix product is needed: the loops run over the rows of y, given as
columns, and vectorise. Which cost it is arrives as a number and not as a function: numba's
cache on disk does not recognise a loop that has closed over another.
"""

import numpy as np
from numba import njit, prange

from privgan.kernels import LOOP, exp32, threaded

SQUARED_L2, L1, EUCLIDEAN = range(3)
BLOCK = 4096  # columns visited at a time, so that what is known of them stays in a near cache
CHUNK = 256  # rows of a gradient that a thread takes at a time


@njit(fastmath=True)
def _costs(x, i, y_columns, first, kind, row):
    """row_j = c(x_i, y_{first + j}). Two columns a pass: the passes over the row take the time."""
    d, m = len(y_columns), len(row)
    odd = d % 2
    if odd:
        x0, y0 = x[i, 0], y_columns[0][first : first + m]
        for j in range(m):
            t = abs(x0 - y0[j])
            row[j] = t if kind == L1 else t * t
    for k in range(odd, d, 2):
        x0, x1 = x[i, k], x[i, k + 1]
        y0, y1 = y_columns[k][first : first + m], y_columns[k + 1][first : first + m]
        if kind == L1:
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
        if kind == L1:
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
    buffer (shares, m): scratch, one row a thread. partial (shares, m): column sums
    sum_i a_i exp(phi_i + psi_j - scale c_ij) by share of the rows.
    """
    n, m = x.shape[0], y_columns.shape[1]
    shares = partial.shape[0]
    for t in prange(shares):
        row, columns = buffer[t], partial[t]
        columns[:] = 0
        for i in range(t * n // shares, (t + 1) * n // shares):
            shift, total = np.float32(phi[i]), np.float32(0)
            for j in range(0, m, BLOCK):
                part = row[j : j + BLOCK]
                _costs(x, i, y_columns, j, kind, part)
                total += _weigh(part, shift, scale, psi[j : j + BLOCK])
            if not (np.float32(1e-10) < total < np.float32(1e10)):  # the guess was too far off
                _costs(x, i, y_columns, 0, kind, row)
                shift = np.float32(np.inf)
                for j in range(m):
                    shift = min(shift, scale * row[j] - psi[j])
                total = _weigh(row, shift, scale, psi)
            phi[i] = shift - np.log(np.float64(total))
            w = a[i] / total
            for j in range(m):
                columns[j] += w * row[j]
