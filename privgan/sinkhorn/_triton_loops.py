"""GPU loops (Triton) over the costs between two point sets: log-sum-exps, plans, gradients.

Costs are sums over k of (x_k - y_k)^2 or |x_k - y_k|, from direct differences in float32 on
the ordinary cores: a common shift of all points that float32 can represent changes no bit, so
they need no centring, and TensorFloat32 has no part in it.

A loop has a side of its own, whose points lie along the lanes of a warp, and goes through the
other side's points in registers: a program of one warp then sums over them within each lane,
without a shuffle or a barrier. Points arrive by feature, (d, n), so that lanes read
neighbouring memory; the number of points is a multiple of `OWN` on both sides, and d of
``blocks * FEATURES``, padded with zeros, hence no mask.

A potential arrives as two float32 rows, (2, n): a large part and a small one that adds to it;
`NEVER` where the point is padding. At weak noise scale * cost and psi reach thousands, their
difference tens, and float32 keeps seven digits: psi rounded, or the product, would cost 1e-4
of every exponential. Here the product and the subtraction are one fused operation and the rest
of psi is added to what is left, so neither is rounded at full size. At most one side's large
part may be other than zero, for else their own sum would be. What remains is 6e-8 of phi, and
the rounding of the cost itself, a few 1e-7 of it: the same for both sides, so it moves the
problem by that much and leaves the certificate right.
"""

import triton
import triton.language as tl

# What a program of one warp holds, 32 numbers a lane: a tile of costs, or the gradients of some
# points in a group of features.
OWN, OTHER = 64, 16
ROWS, GROUP = 16, 64
BLOCKS = tl.constexpr(8)  # of features, summed by themselves
NEVER = -1e30  # a log weight of zero, finite so that no difference of two is NaN


@triton.jit
def _exponents(
    own, other, own_potential, other_potential, i, j, scale, n, m, blocks, FEATURES: tl.constexpr,
    SQUARED: tl.constexpr,
):  # fmt: skip
    """Both potentials less scale * cost, for other points j by own points i."""
    cost = tl.zeros((j.shape[0], i.shape[0]), tl.float32)
    for first in range(0, blocks, BLOCKS):
        part = tl.zeros_like(cost)  # sums of sums: hundreds of features round like dozens
        for _ in range(first, tl.minimum(first + BLOCKS, blocks)):
            for _ in tl.static_range(FEATURES):
                t = tl.load(own + i)[None, :] - tl.load(other + j)[:, None]
                part += t * t if SQUARED else tl.abs(t)
                own += n
                other += m
        cost += part
    large = tl.load(own_potential + i)[None, :] + tl.load(other_potential + j)[:, None]
    small = tl.load(own_potential + n + i)[None, :] + tl.load(other_potential + m + j)[:, None]
    return tl.fma(cost, -scale, large) + small


@triton.jit
def log_sums(
    own, other, own_potential, other_potential, largest, total, scale, n, m, blocks, share,
    FEATURES: tl.constexpr, SQUARED: tl.constexpr, OWN: tl.constexpr, OTHER: tl.constexpr,
):  # fmt: skip
    """The largest exponent of every own point, and its sum of exp(exponent - largest).

    largest, total (splits, n): a row for each share of ``share`` other points, a multiple of
    OTHER. Programs are (n / OWN, splits).
    """
    i = tl.program_id(0) * OWN + tl.arange(0, OWN)
    split = tl.program_id(1)
    top = tl.full((OWN,), -3e38, tl.float32)
    sums = tl.zeros((OWN,), tl.float32)
    for first in range(split * share, tl.minimum(split * share + share, m), OTHER):
        exponent = _exponents(
            own, other, own_potential, other_potential, i, first + tl.arange(0, OTHER), scale,
            n, m, blocks, FEATURES, SQUARED,
        )  # fmt: skip
        higher = tl.maximum(top, tl.max(exponent, 0))
        sums = sums * tl.exp(top - higher) + tl.sum(tl.exp(exponent - higher[None, :]), 0)
        top = higher
    tl.store(largest + split * n + i, top)
    tl.store(total + split * n + i, sums)


@triton.jit
def pairwise(
    x, y, out, n, m, d, x_row, x_feature, y_row, y_feature,
    FEATURES: tl.constexpr, SQUARED: tl.constexpr, OWN: tl.constexpr, OTHER: tl.constexpr,
):  # fmt: skip
    """out (n, m): the costs themselves. Points of y along the lanes; masked, not padded.

    x_row, x_feature: from one point, and from one feature, to the next in memory. Programs are
    (m / OWN, n / OTHER), rounded up.
    """
    j = tl.program_id(0) * OWN + tl.arange(0, OWN)
    i = tl.program_id(1) * OTHER + tl.arange(0, OTHER)
    cost = tl.zeros((OTHER, OWN), tl.float32)
    x += i * x_row
    y += j * y_row
    for group in range(0, d, BLOCKS * FEATURES):
        part = tl.zeros_like(cost)
        for first in range(group, tl.minimum(group + BLOCKS * FEATURES, d), FEATURES):
            for k in tl.static_range(FEATURES):
                there = first + k < d
                s = tl.load(x + k * x_feature, mask=(i < n) & there, other=0.0)
                r = tl.load(y + k * y_feature, mask=(j < m) & there, other=0.0)
                t = s[:, None] - r[None, :]
                part += t * t if SQUARED else tl.abs(t)
            x += FEATURES * x_feature
            y += FEATURES * y_feature
        cost += part
    inside = (i < n)[:, None] & (j < m)[None, :]
    tl.store(out + i.to(tl.int64)[:, None] * m + j[None, :], cost, mask=inside)


@triton.jit
def plan(
    own, other, own_potential, other_potential, out, start, stride, scale, n, m, blocks,
    FEATURES: tl.constexpr, SQUARED: tl.constexpr, OWN: tl.constexpr, OTHER: tl.constexpr,
):  # fmt: skip
    """out (m, stride): exp(exponent) for ``stride`` own points from ``start`` on.

    Programs are (m / OTHER, stride / OWN).
    """
    i = tl.program_id(1) * OWN + tl.arange(0, OWN)
    j = tl.program_id(0) * OTHER + tl.arange(0, OTHER)
    exponent = _exponents(
        own, other, own_potential, other_potential, start + i, j, scale, n, m, blocks, FEATURES,
        SQUARED,
    )  # fmt: skip
    tl.store(out + j.to(tl.int64)[:, None] * stride + i[None, :], tl.exp(exponent))


@triton.jit
def gradients(
    x, y, plan, out, n, m, d, stride, share,
    SQUARED: tl.constexpr, ROWS: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """out_ik = sum_j plan_ji dc(x_i, y_j) / dx_ik, in which |t| has the slope 0 at 0.

    x (n, d), y (m, d): features along the lanes. plan (m, stride), stride >= n.
    out (splits, n, d): a part for each share of ``share`` points of y. Programs are
    (n / ROWS, splits, d / GROUP), rounded up.
    """
    i = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    split = tl.program_id(1)
    k = tl.program_id(2) * GROUP + tl.arange(0, GROUP)
    offsets = i.to(tl.int64)[:, None] * d + k[None, :]
    inside = (i < n)[:, None] & (k < d)[None, :]
    point = tl.load(x + offsets, mask=inside, other=0.0)
    found = tl.zeros((ROWS, GROUP), tl.float32)
    y += (split * share).to(tl.int64) * d
    plan += (split * share).to(tl.int64) * stride
    for _ in range(split * share, tl.minimum(split * share + share, m)):
        t = point - tl.load(y + k, mask=k < d, other=0.0)[None, :]
        mass = tl.load(plan + i, mask=i < n, other=0.0)[:, None]
        if SQUARED:
            found += mass * (2.0 * t)
        else:
            found += tl.where(t > 0, mass, 0.0) - tl.where(t < 0, mass, 0.0)
        y += d
        plan += stride
    tl.store(out + split.to(tl.int64) * n * d + offsets, found, mask=inside)
