"""Compiled CPU loops (numba) over costs: matrices, gradients, and half-steps that store neither.

Each is one pass over memory. What loops share has to be in their file: numba compiles a kept loop
anew when that file has changed, and no other.
"""

import numpy as np
from numba.core import types
from numba.extending import intrinsic

from privgan.sinkhorn._compiled import by_rows, compiled_fast, inlined, inlined_fast, views
from privgan.sinkhorn._pairs import NEAR
from privgan.sinkhorn._threads import share_out
from privgan.sinkhorn.costs import ABSOLUTE, EUCLIDEAN, SQUARED_L2

BLOCK = 4096  # columns visited at a time, so that what is known of them stays in a near cache
CHUNK = 256  # rows of a gradient that are taken at a time, or sums in single precision


@intrinsic
def _bits_to_float(typing_context, bits):
    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(types.float32))

    return types.float32(types.int32), codegen


@inlined  # not fastmath: reassociating would undo the two-part ln 2
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


@by_rows("y")
def l1_matrix(first, last, x, y, out):
    """out_ij = sum_k |x_ik - y_jk|: four rows of x share each load of y."""
    d = x.shape[1]
    zero = x.dtype.type(0)
    for i in range(first, last - 3, 4):
        for j in range(y.shape[0]):
            s0 = s1 = s2 = s3 = zero
            for k in range(d):
                t = y[j, k]
                s0 += abs(x[i, k] - t)
                s1 += abs(x[i + 1, k] - t)
                s2 += abs(x[i + 2, k] - t)
                s3 += abs(x[i + 3, k] - t)
            out[i, j], out[i + 1, j], out[i + 2, j], out[i + 3, j] = s0, s1, s2, s3
    for i in range(last - (last - first) % 4, last):
        for j in range(y.shape[0]):
            s0 = zero
            for k in range(d):
                s0 += abs(x[i, k] - y[j, k])
            out[i, j] = s0


@inlined_fast
def _least(weights):
    """Entries below add up to less than the rounding of the whole, and are passed over.

    At weak noise these are nearly all of a plan.
    """
    mass = weights.dtype.type(0)
    for j in range(len(weights)):
        mass += abs(weights[j])
    return mass * (np.finfo(weights.dtype).eps / len(weights))


@by_rows("y")
def wide_gradient(first, last, x, y, kind, plan, out):
    """out_ik = sum_j plan_ij dc(x_i, y_j)/dx_ik, in which |t| has the slope 0 at 0.

    For records with many columns, and costs that are sums over them.
    """
    for i in range(first, last):
        out[i] = 0
        least = _least(plan[i])
        for j in range(len(y)):
            p = plan[i, j]
            if not abs(p) > least:
                continue
            if kind == ABSOLUTE:
                for k in range(x.shape[1]):
                    difference = x[i, k] - y[j, k]
                    out[i, k] += p * (difference > 0) - p * (difference < 0)
            else:
                for k in range(x.shape[1]):
                    out[i, k] += 2 * p * (x[i, k] - y[j, k])


@by_rows("y_squares")
def settle(first, last, x, y, x_squares, y_squares, out):
    """out_ij = |x_i - y_j|^2, given |x_i|^2 - 2 x_i.y_j of centred points; anew where that cancels.

    x (n, d), y (m, d): the points, need not be centred. x_squares (n,), y_squares (m,): centred.
    """
    for i in range(first, last):
        near = False
        for j in range(len(y)):
            squares = out[i, j] + y_squares[j]
            near = near | (squares < NEAR * (x_squares[i] + y_squares[j]))
            out[i, j] = squares
        if near:
            for j in range(len(y)):
                if out[i, j] < NEAR * (x_squares[i] + y_squares[j]):
                    squares = x.dtype.type(0)
                    for k in range(x.shape[1]):
                        squares += (x[i, k] - y[j, k]) * (x[i, k] - y[j, k])
                    out[i, j] = squares


@by_rows("y_squares")
def settle_gradient(first, last, x, y, x_squares, y_squares, squares, weight, out):
    """out_ik = sum_j weight_ij (x_ik - y_jk) over the near pairs, whose weight is set to 0.

    Near as in `settle`, which has formed ``squares`` (n, m). What is left, a matrix product can
    add up.
    """
    for i in range(first, last):
        out[i] = 0
        for j in range(len(y)):
            w = weight[i, j]
            if squares[i, j] < NEAR * (x_squares[i] + y_squares[j]):
                weight[i, j] = 0
                for k in range(x.shape[1]):
                    out[i, k] += w * (x[i, k] - y[j, k])


# With few columns the loops run over the rows of y, given as columns, and vectorise.
@inlined_fast
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


@inlined
def _weight(t):
    """exp(t), and 0 below e^-60: times another weight it might be a denormal number, and slow."""
    return exp32(t) if t > np.float32(-60) else np.float32(0)


@by_rows("y_columns")
def pairwise(first, last, x, y_columns, kind, out):
    """out_ij = c(x_i, y_j), for x (n, d) and y_columns (d, m)."""
    for i in range(first, last):
        _costs(x, i, y_columns, 0, kind, out[i])


@inlined_fast
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


@by_rows("y_columns")
def gradient(first, last, x, y_columns, kind, plan, out):
    """out_ik = sum_j plan_ij dc(x_i, y_j)/dx_ik, for x (n, d) and y_columns (d, m)."""
    for i in range(first, last):
        out[i] = 0
        _add_gradients(x, i, y_columns, 0, kind, plan[i], out[i])


@by_rows("y_columns")
def streaming_gradient(first, last, x, y_columns, kind, scale, phi, psi, out):
    """`gradient` of the plan exp(phi_i + psi_j - scale c_ij), of which no more than ``BLOCK``
    entries a thread are ever there. phi (n,), psi (m,): float32, log weights included.
    """
    m = y_columns.shape[1]
    scratch = np.empty(BLOCK, np.float32)
    for chunk in range(first, last, CHUNK):
        rows = range(chunk, min(chunk + CHUNK, last))
        for i in rows:
            out[i] = 0
        for j in range(0, m, BLOCK):
            psi_ = psi[j : j + BLOCK]
            plan = scratch[: len(psi_)]
            for i in rows:
                _costs(x, i, y_columns, j, kind, plan)
                for k in range(len(psi_)):
                    plan[k] = _weight(phi[i] + (psi_[k] - scale * plan[k]))
                _add_gradients(x, i, y_columns, j, kind, plan, out[i])


@inlined_fast
def _weigh(row, shift, scale, psi):
    """row_j, from a cost to exp(shift + psi_j - scale row_j); returns their sum."""
    total = np.float32(0)
    for j in range(len(row)):
        row[j] = _weight(shift + (psi[j] - scale * row[j]))
        total += row[j]
    return total


def streaming_half_steps(x, y_columns, kind, scale, psi, a, phi, buffer, partial):
    """Both half-steps from points with few columns, forming each cost once and storing few.

    x (n, d), y_columns (d, m), psi (m,), a (n,): float32; scale = 1 / reg, float32. psi
    includes the log weights of y: an array less is a sixth less to fetch.
    phi (n,), float64: read as a guess of the result, which keeps exp in range, and
    overwritten by -log sum_j exp(psi_j - scale c(x_i, y_j)).
    buffer (2, shares, m): scratch, two rows a thread. partial (shares, m), float64: column sums
    sum_i a_i exp(phi_i + psi_j - scale c_ij) by share of the rows.
    """
    x, y_columns, psi, a, phi, buffer, partial = views((x, y_columns, psi, a, phi, buffer, partial))
    n, count = len(x), len(partial)

    def run(t):
        rows, scratch = (t * n // count, (t + 1) * n // count), (*buffer[:, t], partial[t])
        _half_steps(*rows, x, y_columns, kind, scale, psi, a, phi, *scratch)

    share_out(run, count)


@compiled_fast
def _half_steps(first, last, x, y_columns, kind, scale, psi, a, phi, row, columns, sums):
    m = y_columns.shape[1]
    sums[:] = 0
    for chunk in range(first, last, CHUNK):
        columns[:] = 0
        for i in range(chunk, min(chunk + CHUNK, last)):
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
        for j in range(m):
            sums[j] += columns[j]
