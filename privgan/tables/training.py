r"""A generator for a table, from reports alone.

The generator gives each latent z a probability for every cell, p_c(z): within a latent columns are
independent, and whatever goes together in the table does so through z. The channels are linear in
probabilities, so that the likelihood of a report needs no category to be drawn.

Reports under a budget that people accept tell little of each pair of columns, and a likelihood with
as many weights as cells believes their noise. So a nat of information between latents and a column
has to earn ``held`` nats of likelihood, and a normal prior of precision ``anchored`` holds shares
near what the column's own reports say, m:

    held sum_c I(z; c) + anchored / 2 sum (log E_z p - log m)^2 - log likelihood of n reports.

A column that follows from others has at most its entropy to earn, however sharp it is.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path

import torch
from torch import Tensor

from privgan import checks
from privgan.generators import MLP
from privgan.mechanisms import Mechanism, Product, Sampled
from privgan.mechanisms.categorical import Categorical
from privgan.reports import Reports, together
from privgan.tables.table import Table
from privgan.training import History, LikelihoodLoss, fit
from privgan.training.losses import Value

STEPS, RATE, LATENTS = 600, 1e-2, 12
HELD, ANCHORED = 32.0, 20.0
ROUNDS = 100  # of expectation-maximisation; fewer than it takes, which smooths what noise made
LEAST = 1e-4  # a probability that a column starts from
FLOOR = 1e-3  # shares below it are not told apart by the prior
TINY = 1e-12  # a probability below it is 0 in x log x


@dataclass(frozen=True)
class HeldLikelihood(LikelihoodLoss):
    """The likelihood of reports, held near independent columns with the laws ``exp(origin)``.

    origin: log probabilities of the cells, (d,), in the reports' columns; 0 elsewhere. held,
    anchored: the prior's weights, over the number of reports.
    """

    _: KW_ONLY
    origin: Tensor
    held: float
    anchored: float

    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Value:
        found = super().between(x, y, a)
        mean = x.mean(0)
        told = (x * (x.clamp_min(TINY) / mean.clamp_min(TINY)).log()).sum(1).mean()  # nats
        moved = (mean.clamp_min(FLOOR).log() - self.origin.to(mean)).square().sum()
        return Value(found.value + self.held * told + self.anchored / 2 * moved, True)


def marginals(reports: Reports) -> list[Tensor]:
    """The likeliest law of every column's cells by the reports that hold it, (k,) each, float64.

    By expectation-maximisation from the uniform law. Raises TypeError for a mechanism that is not
    of a table.
    """
    checks.instance("reports", reports, Reports)
    return [_likeliest(channel, y) for channel, y in by_column(reports)]


def by_column(reports: Reports) -> list[tuple[Categorical, Tensor]]:
    """Each column's channel, and what the reports that hold it say, (m, k)."""
    mechanism, values = reports.mechanism, reports.rows.tensor()
    if not isinstance(mechanism, Product | Sampled):
        raise TypeError(f"reports of a table come through Product or Sampled, not {mechanism!r}")
    found = []
    for s, (_, channel) in zip(mechanism.reports, mechanism.blocks, strict=True):
        if not isinstance(channel, Categorical):
            raise TypeError(f"a column of a table comes through categories, not {channel!r}")
        if isinstance(mechanism, Sampled):
            rows = values[:, s.stop - 1] > 0.5
            found.append((channel, values[rows, s.start : s.stop - 1]))
        else:
            found.append((channel, values[:, s]))
    return found


def train(
    table: Table,
    reports: Reports | Sequence[Reports],
    *,
    steps: int = STEPS,
    lr: float = RATE,
    latent_dim: int = LATENTS,
    hidden: Sequence[int] = (),
    held: float = HELD,
    anchored: float = ANCHORED,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> tuple[MLP, History]:
    """A generator of one-hot records for ``table.frame``, and the history of its training.

    reports: of one release, or several with budgets of their own, which train together. Every step
    is of `fit`: seeded, resumable from ``checkpoint``, with held-out likelihoods in the history.
    lr: at first, falling to 0. hidden: widths of layers between latents and log probabilities; by
    default these are linear. held, anchored: the prior's weights, as above.
    Raises ValueError for reports of another table.
    """
    checks.instance("table", table, Table)
    joined = together(reports)
    checks.instance("reports", joined, Reports)
    parts = [reports] if isinstance(reports, Reports) else [*reports]
    for part in parts:
        check_fits(table, part.mechanism)
    told = zip(*(by_column(part) for part in parts), strict=True)  # of each column, by each part
    laws = [_likeliest(*max(column, key=lambda pair: len(pair[1]))) for column in told]
    model = MLP(
        checks.positive_int("latent_dim", latent_dim),
        table.slices[-1].stop,
        hidden=hidden,
        categories=table.slices,
        seed=seed,
    )
    start = torch.cat(laws).clamp_min(LEAST).log()
    last = model.net[len(hidden) * 2]
    assert isinstance(last, torch.nn.Linear)
    with torch.no_grad():
        last.weight.mul_(0.3)
        last.bias.copy_(start)
    mechanism, n = joined.mechanism, len(joined)
    loss = HeldLikelihood(
        mechanism.cost,
        mechanism.reg,
        mechanism=mechanism,
        origin=_in_reports(mechanism, torch.cat(laws).clamp_min(FLOOR))[0].log(),
        held=checks.number("held", held) / n,
        anchored=checks.number("anchored", anchored) / n,
    )
    history = fit(
        model,
        joined,
        loss,
        steps=steps,
        batch_size=min(1000, max(1, int(0.9 * n))),
        generated=128,
        lr=lr,
        seed=seed,
        checkpoint=checkpoint,
        progress=progress,
    )
    return model, history


def check_fits(table: Table, mechanism: Mechanism) -> None:
    """Raise ValueError unless ``mechanism`` is one for the records of ``table``."""
    if (
        not isinstance(mechanism, Product | Sampled)
        or tuple(s for s, _ in mechanism.blocks) != table.slices
    ):
        raise ValueError("reports are of another table: its mechanism has other columns")


def _likeliest(channel: Categorical, y: Tensor) -> Tensor:
    p = torch.full((channel.k,), 1 / channel.k, dtype=torch.float64)
    if not len(y):
        return p
    likelihood = (-channel.cost.matrix(torch.eye(channel.k, dtype=torch.float64), y.double())).exp()
    for _ in range(ROUNDS):
        p = p * (likelihood / (p @ likelihood)).mean(1)
    return p


def _in_reports(mechanism: Mechanism, p: Tensor) -> Tensor:
    """Probabilities of cells where `Mechanism.forward` puts them, 1 in its other columns."""
    found = mechanism.forward(p[None])
    return torch.where(found > 0, found, torch.ones_like(found))
