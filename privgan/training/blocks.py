r"""The loss for reports of several mechanisms: a matched loss for each, summed by their shares.

Block b has a share s_b of a batch's reports, Q_b their law, W_b the transport cost matched to its
mechanism. Each W_b(P, Q_b) is smallest at the raw law, hence so is

    sum_b s_b W_b(P, Q_b) / reg_b,

whatever the shares. W_b / reg_b is in nats a report and bounds the reports' negative log-likelihood
from above, so that every report counts for what it says. The one problem that is matched to all
blocks together, ``EntropicLoss.matched(Blocks(...))``, has the same minimiser, but lets the noisy
reports take up what the sharp ones contradict: it learns more slowly.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

from torch import Tensor

from privgan import checks
from privgan.mechanisms import Blocks, Mechanism
from privgan.training.losses import EntropicLoss, Loss, Solved, Value
from privgan.training.ranks import Ranks


@dataclass(frozen=True)
class BlocksLoss(Loss):
    """Entropic losses matched to the ``mechanism`` of every block, added up in nats a report.

    tol, max_iter: of each, as in `EntropicLoss`. times: how many times each one's reg is as large
    as the matched one.
    """

    mechanism: Blocks
    tol: float = 1e-2
    max_iter: int = 500
    times: float = 1.0

    def __post_init__(self) -> None:
        checks.instance("mechanism", self.mechanism, Blocks)

    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        return self._added(lambda loss, x, y: loss.between(x, y, a), x, y)

    def across(self, ranks: Ranks, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        return self._added(lambda loss, x, y: loss.across(ranks, x, y, a), x, y)

    def _added(
        self, solve: Callable[[Loss, Tensor, Tensor], Solved], x: Tensor, y: Tensor
    ) -> Value:
        total, parts = x.new_zeros(()), []
        for rows, s, mechanism in self.mechanism.split(y):
            loss = EntropicLoss.matched(mechanism, tol=self.tol, max_iter=self.max_iter)
            part = solve(loss.heated(self.times), x[:, s], y[rows][:, s])
            total = total + len(rows) / len(y) * part.value / mechanism.reg
            parts.append(part)
        return Value(
            total,
            converged=all(part.converged for part in parts),
            error=max(part.error for part in parts),
            n_iter=sum(part.n_iter for part in parts),
        )

    def shiftable(self, d: int) -> Tensor:
        return self.mechanism.cost.shiftable(d)

    def flat(self, d: int) -> Tensor:
        return self.mechanism.cost.flat(d)

    def heated(self, times: float) -> Self:
        return replace(self, times=self.times * times)


def matched(mechanism: Mechanism) -> Loss:
    """The loss whose minimiser is the raw law behind ``mechanism``'s reports."""
    if isinstance(mechanism, Blocks):
        return BlocksLoss(mechanism)
    return EntropicLoss.matched(mechanism)
