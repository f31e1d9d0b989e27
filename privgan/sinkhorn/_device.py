r"""The iteration of `_iteration` as operations on tensors, none of which the host has to see.

On a GPU a decision that the host takes costs more than a half-step: it has to wait for all that
was queued, and the device then waits for it. Here every iteration is the same list of operations,
whatever it finds: the guard, the memory and the certificate are `torch.where` on numbers that stay
on the device, and an iteration that comes after the last one changes nothing. So iterations are
queued by the dozen, or recorded and replayed, and the host looks at the few numbers of
`State.report` once a batch.

It steps in for what the device must not decide: a kernel matrix that cannot hold a step (`REFUSED`)
is formed again, and the same iterate tried once more.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from privgan.sinkhorn._iteration import DEPTH, SLACK, STALL, Solution
from privgan.sinkhorn._precision import TOO_SMALL

GOING, DONE, REFUSED, OVERFLOW = range(4)
FIRST, LONGEST = 4, 32  # iterations queued before the host looks: few at first, then more
# Pairs of points in all that are queued: more of them take longer than a look, and those of
# iterations after the end would be wasted.
QUEUED = 2**26


class DeviceHalfSteps(Protocol):
    """Half-steps that can be tried without the host."""

    def __call__(self, psi: Tensor) -> tuple[Tensor, Tensor]:
        """phi (n,) and log q (m,), float64, whatever it takes."""
        ...

    def attempt(self, psi: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same and whether they can be trusted, a boolean on the device."""
        ...


class State(NamedTuple):
    """All that an iteration leaves to the next one; float64, single numbers being 0-dim.

    psi, plain: the next iterate (m,), and the plain Sinkhorn step that replaces it if it lowers
    the dual. steps, residuals (DEPTH, m) and their inner products (DEPTH, DEPTH): the memory, of
    which ``entries`` were made. best_phi (n,), best_psi (m,), error: the best iterate.
    """

    psi: Tensor
    plain: Tensor
    steps: Tensor
    residuals: Tensor
    gram: Tensor
    entries: Tensor
    best_phi: Tensor
    best_psi: Tensor
    error: Tensor
    bold: Tensor
    highest: Tensor
    record: Tensor
    stalled: Tensor
    n_iter: Tensor
    status: Tensor

    def report(self) -> Tensor:
        """Status, iterations taken and the best error, (3,)."""
        return torch.stack([self.status, self.n_iter, self.error])


def begin(psi: Tensor, n: int) -> State:
    """Before the first iteration, which tries ``psi``."""
    m = len(psi)
    zero, infinite = psi.new_zeros(()), psi.new_full((), torch.inf)
    return State(
        psi=psi,
        plain=psi,
        steps=psi.new_zeros((DEPTH, m)),
        residuals=psi.new_zeros((DEPTH, m)),
        gram=psi.new_zeros((DEPTH, DEPTH)),
        entries=zero,
        best_phi=psi.new_zeros(n),
        best_psi=psi,
        error=infinite,
        bold=zero,
        highest=-infinite,
        record=infinite,
        stalled=zero,
        n_iter=zero,
        status=zero,
    )


def advanced(
    state: State,
    phi: Tensor,
    log_q: Tensor,
    trusted: Tensor,
    a: Tensor,
    b: Tensor,
    tol: float | Tensor,
    max_iter: float | Tensor,
) -> State:
    """The state after half-steps from ``state.psi`` gave ``phi`` (n,) and ``log_q`` (m,).

    What `_iteration.iterate` does between two calls of its half-steps, every branch of it taken
    and all but one thrown away.
    """
    s, where = state, torch.where
    going = s.status == GOING
    usable = going & trusted
    error = b @ log_q.expm1().abs()
    dual = a @ phi + b @ s.psi
    bold = s.bold > 0
    overflow = usable & ~bold & ~dual.isfinite()
    fallen = usable & bold & ~(dual >= s.highest - SLACK * s.highest.abs())  # NaN included
    kept = usable & ~fallen & ~overflow
    n_iter = s.n_iter + usable

    improved = kept & (error < 0.95 * s.record)
    record = where(improved, error, s.record)
    stalled = where(improved, 0.0, s.stalled + kept)
    better = kept & (error < s.error)
    best = where(better, error, s.error)
    stop = kept & ((best <= tol) | (stalled >= STALL)) | usable & (n_iter >= max_iter)

    moving = kept & ~stop
    step = s.psi - log_q
    count = where(moving, s.entries + 1, where(fallen, 0.0, s.entries))
    steps, residuals, gram = _remembered(s, moving, count, step, log_q)
    combined = where(count > 1, _weights(gram, count) @ steps, step)
    plain = where(fallen, s.plain, s.psi)
    status = where(
        overflow, OVERFLOW, where(stop, DONE, where(going & ~trusted, REFUSED, s.status))
    )
    return State(
        psi=where(moving, combined, plain),
        plain=where(moving, step, s.plain),
        steps=steps,
        residuals=residuals,
        gram=gram,
        entries=count,
        best_phi=where(better, phi, s.best_phi),
        best_psi=where(better, s.psi, s.best_psi),
        error=best,
        bold=where(moving, 1.0, where(fallen, 0.0, s.bold)),
        highest=where(moving, torch.maximum(s.highest, dual), s.highest),
        record=record,
        stalled=stalled,
        n_iter=n_iter,
        status=status,
    )


def _remembered(
    s: State, moving: Tensor, count: Tensor, step: Tensor, residual: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The memory with a step and its residual in place of the oldest, if it is ``moving``."""
    places = torch.arange(DEPTH, device=step.device)
    here = moving & (places == (count - 1) % DEPTH)
    steps = torch.where(here[:, None], step, s.steps)
    residuals = torch.where(here[:, None], residual, s.residuals)
    products = residuals @ residual
    gram = torch.where(here, products[:, None], s.gram)
    return steps, residuals, torch.where(here[:, None], products, gram)


def _weights(gram: Tensor, count: Tensor) -> Tensor:
    """Weights summing to 1 of the least combined residual, 0 where nothing is remembered yet.

    Elimination without a choice of pivots: what is solved is positive definite.
    """
    there = torch.arange(DEPTH, device=gram.device) < count
    known = torch.where(there & there[:, None], gram, 0.0)
    damping = torch.where(there, 1e-10 * known.diagonal().sum(), 1.0)
    system = torch.cat([known + torch.diag(damping), there[:, None].double()], 1)
    places = torch.arange(DEPTH, device=gram.device)[:, None]
    for k in range(DEPTH):
        row = system[k] / system[k, k]
        system = torch.where(places == k, row, system - system[:, k, None] * row)
    weights = system[:, -1]
    return weights / weights.sum()


def iterate(
    half_steps: DeviceHalfSteps,
    psi: Tensor,
    a: Tensor,
    b: Tensor,
    tol: float,
    max_iter: int,
    look: bool = True,
) -> Solution:
    """As `_iteration.iterate`, the host looking once a batch of iterations.

    Without ``look`` all are queued, and error and n_iter stay on the device; unless that would be
    more than `QUEUED`.
    """
    most = max(1, min(LONGEST, QUEUED // (len(a) * len(b))))
    state, batch = begin(psi, len(a)), min(FIRST, most)
    if not look and max_iter * len(a) * len(b) <= QUEUED:
        for _ in range(max_iter):
            state = advanced(state, *half_steps.attempt(state.psi), a, b, tol, max_iter)
        return Solution(state.best_phi, state.best_psi, state.error, state.n_iter, state.psi)
    while True:
        for _ in range(batch):
            tried = half_steps.attempt(state.psi)
            state = advanced(state, *tried, a, b, tol, max_iter)
        status, n_iter, error = state.report().tolist()
        batch = min(2 * batch, most)
        if status == REFUSED:
            found = half_steps(state.psi)
            state = state._replace(status=torch.zeros_like(state.status))
            trusted = torch.ones_like(state.status, dtype=torch.bool)
            state = advanced(state, *found, trusted, a, b, tol, max_iter)
            batch = min(FIRST, most)
        if status == OVERFLOW:
            raise ValueError(TOO_SMALL)
        if status == DONE:
            return Solution(state.best_phi, state.best_psi, error, int(n_iter), state.psi)
