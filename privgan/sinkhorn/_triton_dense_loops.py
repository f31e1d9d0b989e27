"""GPU loops (Triton) of the iteration on a stored kernel matrix: decisions included.

An iteration is three launches. `half_steps`: every program takes some rows of the kernel, whole,
and reads them once: their sums give phi, and with those the rows add to the program's own column
sums. `columns`: adds up the programs' sums, hence log q, and the products that the memory needs.
`advance`: one program that measures, guards, remembers and combines as `_device.advanced` does,
and writes the next psi. A fourth, `form`, fills the kernel where `advance` has asked for it.

What they tell each other is in `numbers`, float64, and the host reads the first three of them.
An iteration after the last one, or one that waits for the kernel to be formed again, finds that
there and returns at once.
"""

import triton
import triton.language as tl

from privgan.sinkhorn import _dense, _device, _iteration

# Places in ``numbers``. FORM: the kernel is to be formed at psi0. SHIFT: the mean of psi - psi0,
# which the columns are scaled without. FAINT: the least sum of a row that is still trusted.
STATUS, N_ITER, ERROR, BOLD, HIGHEST, RECORD, STALLED, COUNT, FORM, SHIFT, FAINT = (
    tl.constexpr(k) for k in range(11)
)
TOL, MAX_ITER, SCALE = (tl.constexpr(k) for k in range(11, 14))
NUMBERS = 14
# Rows of ``sums``, a column for each program of `columns`; from PRODUCTS on those of the memory.
MARGINAL, DUAL, LOST, SQUARE = (tl.constexpr(k) for k in range(4))
PRODUCTS = tl.constexpr(4)

GOING, DONE, REFUSED, OVERFLOW = (
    tl.constexpr(k) for k in (_device.GOING, _device.DONE, _device.REFUSED, _device.OVERFLOW)
)
DEPTH = tl.constexpr(_iteration.DEPTH)
SLACK, STALL = tl.constexpr(_iteration.SLACK), tl.constexpr(_iteration.STALL)
DRIFT, FLUSH = tl.constexpr(_dense.DRIFT), tl.constexpr(_dense.FLUSH)
PLACES = tl.constexpr(8)  # DEPTH, rounded up to a power of two
# Whether these are 1, or divide by 16, is no reason to compile anew.
COUNTS = "share", "programs", "blocks", "fresh"


@triton.jit
def form(cost, kernel, phi0, psi0, numbers, n, m, BY_ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """kernel_ij = exp(phi0_i + psi0_j - cost_ij / reg), if asked for; one program a row.

    phi0_i = min_j (cost_ij / reg - psi0_j) if BY_ROWS, else 0, is written.
    """
    if tl.load(numbers + FORM) != 0:
        i = tl.program_id(0)
        scale = tl.load(numbers + SCALE)
        row = i.to(tl.int64) * m
        shift = scale * 0.0
        if BY_ROWS:
            top = tl.full((BLOCK,), float("-inf"), tl.float64)
            for first in range(0, m, BLOCK):
                j = first + tl.arange(0, BLOCK)
                c = tl.load(cost + row + j, mask=j < m, other=float("inf")).to(tl.float64)
                top = tl.maximum(top, tl.load(psi0 + j, mask=j < m, other=0.0) - scale * c)
            shift = -tl.max(top, 0)
        tl.store(phi0 + i, shift)
        for first in range(0, m, BLOCK):
            j = first + tl.arange(0, BLOCK)
            c = tl.load(cost + row + j, mask=j < m, other=0.0).to(tl.float64)
            t = shift + (tl.load(psi0 + j, mask=j < m, other=0.0) - scale * c)
            value = tl.exp(tl.maximum(t, FLUSH).to(kernel.dtype.element_ty))
            tl.store(kernel + row + j, tl.where(t > FLUSH, value, 0.0), mask=j < m)


@triton.jit
def _live(numbers, fresh):
    """Whether this iteration takes place; fresh: straight after `form`."""
    return (tl.load(numbers + STATUS) == GOING) & ((tl.load(numbers + FORM) == 0) | (fresh != 0))


@triton.jit(do_not_specialize=COUNTS)
def half_steps(
    kernel, v, a, phi0, phi, partial, parts, numbers, n, m, share, fresh,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """phi (n,), and this program's share of the column sums, (programs, m).

    v (m,): b exp(psi - psi0), in the kernel's precision. share: rows a program takes, a multiple
    of ROWS. COLUMNS: m, rounded up to a power of two. parts (2, programs): <a, phi>, and the
    least sum of a row.
    """
    if _live(numbers, fresh):
        program, programs = tl.program_id(0), tl.num_programs(0)
        j = tl.arange(0, COLUMNS)
        scaling = tl.load(v + j, mask=j < m, other=0.0)
        shift = tl.load(numbers + SHIFT)
        columns = tl.zeros_like(scaling)
        dual = shift * 0.0
        faintest = tl.full((ROWS,), float("inf"), tl.float64)
        for first in range(program * share, tl.minimum(program * share + share, n), ROWS):
            i = first + tl.arange(0, ROWS)
            inside = (i < n)[:, None] & (j < m)[None, :]
            k = tl.load(kernel + i.to(tl.int64)[:, None] * m + j[None, :], mask=inside, other=0.0)
            rows = tl.sum(k * scaling[None, :], 1).to(tl.float64)
            rows = tl.where(i < n, rows, 1.0)
            weight = tl.load(a + i, mask=i < n, other=0.0)
            columns += tl.sum((weight / rows).to(k.dtype)[:, None] * k, 0)
            potential = tl.load(phi0 + i, mask=i < n, other=0.0) - shift - tl.log(rows)
            tl.store(phi + i, potential, mask=i < n)
            dual += tl.sum(tl.where(i < n, weight * potential, 0.0), 0)
            faintest = tl.minimum(faintest, tl.where(i < n, rows, float("inf")))
        tl.store(partial + program.to(tl.int64) * m + j, columns, mask=j < m)
        tl.store(parts + program, dual)
        tl.store(parts + programs + program, tl.min(faintest, 0))


@triton.jit(do_not_specialize=COUNTS)
def columns(
    partial, psi, psi0, b, residuals, log_q, sums, numbers, m, programs, fresh,
    PARTS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """log q (m,), and this program's share of the sums over it."""
    if _live(numbers, fresh):
        block, blocks = tl.program_id(0), tl.num_programs(0)
        j = block * BLOCK + tl.arange(0, BLOCK)
        there = j < m
        total = tl.zeros((BLOCK,), tl.float64)
        for first in range(0, programs, PARTS):
            p = first + tl.arange(0, PARTS)
            mask = (p < programs)[:, None] & there[None, :]
            part = tl.load(partial + p.to(tl.int64)[:, None] * m + j[None, :], mask=mask, other=0.0)
            total += tl.sum(part.to(tl.float64), 0)
        total = tl.where(there, total, 1.0)
        potential = tl.load(psi + j, mask=there, other=0.0)
        drift = potential - tl.load(psi0 + j, mask=there, other=0.0) - tl.load(numbers + SHIFT)
        drift = tl.where(there, drift, 0.0)
        found = tl.log(total) + drift
        tl.store(log_q + j, found, mask=there)
        weight = tl.load(b + j, mask=there, other=0.0)
        sums += block
        marginal = weight * tl.abs(total * tl.exp(drift) - 1.0)
        tl.store(sums + MARGINAL * blocks, tl.sum(marginal, 0))
        tl.store(sums + DUAL * blocks, tl.sum(weight * potential, 0))
        tl.store(sums + LOST * blocks, tl.sum(tl.where(tl.abs(found) < 1e300, 0.0, 1.0), 0))
        tl.store(sums + SQUARE * blocks, tl.sum(found * found, 0))
        for place in tl.static_range(DEPTH):
            residual = tl.load(residuals + place * m + j, mask=there, other=0.0)
            tl.store(sums + (PRODUCTS + place) * blocks, tl.sum(residual * found, 0))


@triton.jit
def _totals(sums, blocks):
    """The rows of ``sums``, each added up, (2 PLACES,)."""
    r = tl.arange(0, 2 * PLACES)
    total = tl.zeros((2 * PLACES,), tl.float64)
    for first in range(0, blocks, 64):
        k = first + tl.arange(0, 64)
        mask = (r < PRODUCTS + DEPTH)[:, None] & (k < blocks)[None, :]
        total += tl.sum(tl.load(sums + r[:, None] * blocks + k[None, :], mask=mask, other=0.0), 1)
    return total


@triton.jit
def _at(vector, place, SIZE: tl.constexpr):
    return tl.sum(tl.where(tl.arange(0, SIZE) == place, vector, 0.0), 0)


@triton.jit
def _copy(source, target, count, BLOCK: tl.constexpr):
    for first in range(0, count, BLOCK):
        k = first + tl.arange(0, BLOCK)
        tl.store(target + k, tl.load(source + k, mask=k < count, other=0.0), mask=k < count)


@triton.jit
def _weights(gram, count, totals, slot):
    """Keep the inner products with the newest, in ``slot``; the weights that sum to 1."""
    r, c = tl.arange(0, PLACES)[:, None], tl.arange(0, PLACES)[None, :]
    # totals_{PRODUCTS + r}, as a column and as a row; the newest's own is the SQUARE.
    square, every = _at(totals, SQUARE, 2 * PLACES), tl.arange(0, 2 * PLACES)
    match = every[None, :] == r + PRODUCTS
    down = tl.sum(tl.where(match, totals[None, :], 0.0), 1)[:, None]
    match = every[:, None] == c + PRODUCTS
    across = tl.sum(tl.where(match, totals[:, None], 0.0), 0)[None, :]
    inner = tl.load(gram + r * PLACES + c)
    inner = tl.where(c == slot, tl.where(r == slot, square, down), inner)
    inner = tl.where(r == slot, tl.where(c == slot, square, across), inner)
    tl.debug_barrier()
    tl.store(gram + r * PLACES + c, inner)
    known = tl.where((r < count) & (c < count), inner, 0.0)
    trace = tl.sum(tl.sum(tl.where(r == c, known, 0.0), 1), 0)
    system = known + tl.where(r == c, tl.where(r < count, 1e-10 * trace, 1.0), 0.0)
    place = tl.arange(0, PLACES)
    right = tl.where(place < count, 1.0, 0.0).to(tl.float64)
    for k in tl.static_range(DEPTH):
        row = tl.sum(tl.where(r == k, system, 0.0), 0)
        column = tl.sum(tl.where(c == k, system, 0.0), 1)
        pivot = _at(row, k, PLACES)
        value = _at(right, k, PLACES) / pivot
        row = row / pivot
        system = tl.where(r == k, row[None, :], system - column[:, None] * row[None, :])
        right = tl.where(place == k, value, right - column * value)
    right = tl.where(place < count, right, 0.0)
    return right / tl.sum(right, 0)


@triton.jit
def _settle(psi, psi0, b, v, numbers, m, BLOCK: tl.constexpr):
    """Scale the columns for ``psi``, or ask for the kernel to be formed there."""
    total = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, m, BLOCK):
        j = first + tl.arange(0, BLOCK)
        drift = tl.load(psi + j, mask=j < m, other=0.0) - tl.load(psi0 + j, mask=j < m, other=0.0)
        total += drift
    shift = tl.sum(total, 0) / m
    outside = tl.zeros((BLOCK,), tl.float64)
    for first in range(0, m, BLOCK):
        j = first + tl.arange(0, BLOCK)
        drift = tl.load(psi + j, mask=j < m, other=0.0) - tl.load(psi0 + j, mask=j < m, other=0.0)
        drift = tl.where(j < m, drift - shift, 0.0)
        outside += tl.where(tl.abs(drift) <= DRIFT, 0.0, 1.0)  # NaN included
        scaled = tl.load(b + j, mask=j < m, other=0.0) * tl.exp(drift)
        tl.store(v + j, scaled.to(v.dtype.element_ty), mask=j < m)
    tl.store(numbers + SHIFT, shift)
    tl.store(numbers + FORM, 0.0)
    if tl.sum(outside, 0) > 0:
        _ask(psi, psi0, b, v, numbers, m, BLOCK)


@triton.jit
def _ask(psi, psi0, b, v, numbers, m, BLOCK: tl.constexpr):
    """Ask for the kernel to be formed at ``psi``."""
    tl.debug_barrier()
    for first in range(0, m, BLOCK):
        j = first + tl.arange(0, BLOCK)
        tl.store(psi0 + j, tl.load(psi + j, mask=j < m, other=0.0), mask=j < m)
        weight = tl.load(b + j, mask=j < m, other=0.0)
        tl.store(v + j, weight.to(v.dtype.element_ty), mask=j < m)
    tl.debug_barrier()
    tl.store(numbers + SHIFT, 0.0)
    tl.store(numbers + FAINT, 0.0)
    tl.store(numbers + FORM, 1.0)


@triton.jit
def settle(psi, psi0, b, v, numbers, m, BLOCK: tl.constexpr):
    """Before the first iteration, for a kernel that was formed at ``psi0``; one program."""
    _settle(psi, psi0, b, v, numbers, m, BLOCK)


@triton.jit(do_not_specialize=COUNTS)
def advance(
    phi, log_q, psi, plain, psi0, b, v, best_phi, best_psi, steps, residuals, gram, parts, sums,
    numbers, n, m, programs, blocks, fresh,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """The next psi, by what the half-steps from this one have found; one program."""
    if _live(numbers, fresh):
        totals = _totals(sums, blocks)
        dual = tl.zeros((64,), tl.float64)
        faintest = tl.full((64,), float("inf"), tl.float64)
        for first in range(0, programs, 64):
            k = first + tl.arange(0, 64)
            dual += tl.load(parts + k, mask=k < programs, other=0.0)
            part = tl.load(parts + programs + k, mask=k < programs, other=float("inf"))
            faintest = tl.minimum(faintest, part)
        dual = tl.sum(dual, 0) + _at(totals, DUAL, 2 * PLACES)
        error = _at(totals, MARGINAL, 2 * PLACES)
        lost = (_at(totals, LOST, 2 * PLACES) == 0) == 0  # NaN included
        bold = tl.load(numbers + BOLD) > 0
        if tl.min(faintest, 0) < tl.load(numbers + FAINT):
            _ask(psi, psi0, b, v, numbers, m, BLOCK)
        elif lost & (bold == 0):
            tl.store(numbers + STATUS, REFUSED)
            tl.store(numbers + FORM, 0.0)
        else:
            highest, best = tl.load(numbers + HIGHEST), tl.load(numbers + ERROR)
            record, stalled = tl.load(numbers + RECORD), tl.load(numbers + STALLED) + 1
            n_iter, count = tl.load(numbers + N_ITER) + 1, tl.load(numbers + COUNT) + 1
            last = n_iter >= tl.load(numbers + MAX_ITER)
            rises = (dual >= highest - SLACK * tl.abs(highest)) & (lost == 0)  # not if NaN
            tl.debug_barrier()  # all has been read before any of it is written
            tl.store(numbers + N_ITER, n_iter)
            if bold & (rises == 0):
                tl.store(numbers + COUNT, 0.0)
                tl.store(numbers + BOLD, 0.0)
                if last:
                    tl.store(numbers + STATUS, DONE)
                    _copy(best_psi, psi, m, BLOCK)
                else:
                    _copy(plain, psi, m, BLOCK)
            elif (tl.abs(dual) < float("inf")) == 0:
                tl.store(numbers + STATUS, OVERFLOW)
            else:
                if error < 0.95 * record:
                    stalled = stalled * 0.0
                    tl.store(numbers + RECORD, error)
                tl.store(numbers + STALLED, stalled)
                if error < best:
                    best = error
                    tl.store(numbers + ERROR, error)
                    _copy(phi, best_phi, n, BLOCK)
                    _copy(psi, best_psi, m, BLOCK)
                    tl.debug_barrier()
                if (best <= tl.load(numbers + TOL)) | (stalled >= STALL) | last:
                    tl.store(numbers + STATUS, DONE)
                    _copy(best_psi, psi, m, BLOCK)
                else:
                    tl.store(numbers + HIGHEST, tl.maximum(highest, dual))
                    tl.store(numbers + BOLD, 1.0)
                    tl.store(numbers + COUNT, count)
                    _combine(log_q, psi, plain, steps, residuals, gram, totals, count, m, BLOCK)
            tl.debug_barrier()
            _settle(psi, psi0, b, v, numbers, m, BLOCK)


@triton.jit
def _combine(log_q, psi, plain, steps, residuals, gram, totals, count, m, BLOCK: tl.constexpr):
    """psi from the last few steps; the one from here is the ``count``-th since all forgotten."""
    slot = (count.to(tl.int32) - 1) % DEPTH
    weights = _weights(gram, tl.minimum(count, DEPTH), totals, slot)
    for first in range(0, m, BLOCK):
        j = first + tl.arange(0, BLOCK)
        residual = tl.load(log_q + j, mask=j < m, other=0.0)
        step = tl.load(psi + j, mask=j < m, other=0.0) - residual
        combined = tl.zeros((BLOCK,), tl.float64)
        for s in tl.static_range(DEPTH):
            past = tl.load(steps + s * m + j, mask=j < m, other=0.0)
            combined += _at(weights, s, PLACES) * tl.where(slot == s, step, past)
        tl.store(plain + j, step, mask=j < m)
        tl.store(steps + slot * m + j, step, mask=j < m)
        tl.store(residuals + slot * m + j, residual, mask=j < m)
        tl.store(psi + j, tl.where(count > 1, combined, step), mask=j < m)
