"""Compiled CPU loops (numba): costs, kernels and half-steps, one pass over memory each.

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

LOOP = {"parallel": True, "fastmath": True, "cache": True}


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
def half_steps(kernel, phi0, psi0, psi, limit, faint, a, b, v, partial, phi, log_q):
    """Both half-steps in one pass over the kernel formed at (phi0, psi0); see `dense`.

    phi (n,), log_q (m,): the results, float64 like psi and the weights a, b. v (m,),
    partial (shares, m): scratch, in the kernel's precision: sums of positive numbers need no
    more. Returns False, the results being void, if psi - psi0 varies by more than ``limit`` or
    a row of the kernel sums to less than ``faint``.
    """
    n, m = kernel.shape
    shares = partial.shape[0]
    shift = 0.0
    for j in range(m):
        shift += psi[j] - psi0[j]
    shift /= m
    inside = True
    for j in range(m):
        drift = psi[j] - psi0[j] - shift
        inside = inside and abs(drift) <= limit
        v[j] = b[j] * np.exp(drift)
    if not inside:
        return False
    faintest = np.full(shares, np.inf)
    for t in prange(shares):
        columns = partial[t]
        for j in range(m):
            columns[j] = 0
        for i in range(t * n // shares, (t + 1) * n // shares):
            s = kernel.dtype.type(0)
            for j in range(m):
                s += kernel[i, j] * v[j]
            faintest[t] = min(faintest[t], s)
            phi[i] = phi0[i] - shift - np.log(np.float64(s))
            w = kernel.dtype.type(a[i]) / s
            for j in range(m):
                columns[j] += w * kernel[i, j]
    for j in range(m):
        total = 0.0
        for t in range(shares):
            total += partial[t, j]
        log_q[j] = np.log(total) + (psi[j] - psi0[j] - shift)
    return faintest.min() >= faint
