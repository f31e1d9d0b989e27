"""Compiled CPU loops (numba) for costs that are sums over few columns.

With few columns no matrix product is needed: the loops run over the rows of y, given as
columns, and vectorise. Which cost it is arrives as a number and not as a function: numba's
cache on disk does not recognise a loop that has closed over another.
"""

import numpy as np
from numba import njit, prange

from privgan.kernels import LOOP, exp32, threaded

SQUARED_L2, L1, EUCLIDEAN = range(3)


@njit(fastmath=True)
def _costs(x, i, y_columns, kind, row):
    """row_j = c(x_i, y_j). Two columns a pass: the passes over the row are what takes time."""
    d, m = y_columns.shape
    odd = d % 2
    for j in range(m if odd else 0):
        t = abs(x[i, 0] - y_columns[0, j])
        row[j] = t if kind == L1 else t * t
    for k in range(odd, d, 2):
        x0, x1 = x[i, k], x[i, k + 1]
        y0, y1 = y_columns[k], y_columns[k + 1]
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
        _costs(x, i, y_columns, kind, out[i])


@njit(fastmath=True)
def _gradients(x, i, y_columns, kind, plan, out):
    """out_k = sum_j plan_j dc(x_i, y_j)/dx_ik, 0 where points or coordinates coincide."""
    d, m = y_columns.shape
    zero = x.dtype.type(0)
    for k in range(d):
        t, total = x[i, k], zero
        if kind == L1:
            for j in range(m):
                p, s = plan[j], y_columns[k, j]
                total += (p if t > s else zero) - (p if t < s else zero)
        elif kind == SQUARED_L2:
            for j in range(m):
                total += plan[j] * (t - y_columns[k, j])
            total *= 2
        else:
            for j in range(m):
                squares = zero
                for c in range(d):
                    squares += (x[i, c] - y_columns[c, j]) ** 2
                share = plan[j] / np.sqrt(squares) if squares > 0 else zero
                total += share * (t - y_columns[k, j])
        out[k] = total


@threaded
@njit(**LOOP)
def gradient(x, y_columns, kind, plan, out):
    """out_ik = sum_j plan_ij dc(x_i, y_j)/dx_ik, for x (n, d) and y_columns (d, m)."""
    for i in prange(x.shape[0]):
        _gradients(x, i, y_columns, kind, plan[i], out[i])


@threaded
@njit(**LOOP)
def streaming_gradient(x, y_columns, kind, scale, phi, psi, a, b, buffer, out):
    """`gradient` of the plan a_i b_j exp(phi_i + psi_j - scale c_ij), of which no more than
    rows are ever there. Potentials and weights float32, buffer (shares, m) as below.
    """
    n, m = x.shape[0], y_columns.shape[1]
    shares = buffer.shape[0]
    for t in prange(shares):
        row = buffer[t]
        for i in range(t * n // shares, (t + 1) * n // shares):
            _costs(x, i, y_columns, kind, row)
            for j in range(m):
                row[j] = a[i] * b[j] * _weight(phi[i] + (psi[j] - scale * row[j]))
            _gradients(x, i, y_columns, kind, row, out[i])


@threaded
@njit(**LOOP)
def streaming_half_steps(x, y_columns, kind, scale, psi, a, b, phi, buffer, partial):
    """Both half-steps from points with few columns, forming each cost once and storing none.

    x (n, d), y_columns (d, m), psi (m,), b (m,), a (n,): float32; scale = 1 / reg, float32.
    phi (n,), float64: read as a guess of the result, which keeps exp in range, and
    overwritten by -log sum_j b_j exp(psi_j - scale c(x_i, y_j)).
    buffer (shares, m): scratch, one row a thread. partial (shares, m): column sums
    sum_i a_i exp(phi_i + psi_j - scale c_ij) by share of the rows.
    """
    n, m = x.shape[0], y_columns.shape[1]
    shares = partial.shape[0]
    for t in prange(shares):
        row, columns = buffer[t], partial[t]
        for j in range(m):
            columns[j] = 0
        for i in range(t * n // shares, (t + 1) * n // shares):
            _costs(x, i, y_columns, kind, row)
            shift = np.float32(phi[i])
            total = np.float32(0)
            for j in range(m):
                row[j] = _weight(shift + (psi[j] - scale * row[j]))
                total += b[j] * row[j]
            if not (np.float32(1e-10) < total < np.float32(1e10)):  # the guess was too far off
                _costs(x, i, y_columns, kind, row)
                shift = np.float32(np.inf)
                for j in range(m):
                    row[j] = psi[j] - scale * row[j]
                    shift = min(shift, -row[j])
                total = np.float32(0)
                for j in range(m):
                    row[j] = _weight(shift + row[j])
                    total += b[j] * row[j]
            phi[i] = shift - np.log(np.float64(total))
            w = a[i] / total
            for j in range(m):
                columns[j] += w * row[j]
