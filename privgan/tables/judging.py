"""How good a generated table is, by the reports alone: never against raw data.

Each frequency that reports say has a standard error; a generated table that is as right as can be
told lies within two of them nineteen times in twenty.
"""

import html
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.generators import Generator
from privgan.mechanisms import Sampled
from privgan.reports import Reports
from privgan.tables.table import Table
from privgan.tables.training import by_column, marginals
from privgan.training import report_log_likelihood

RECORDS = 20_000  # generated, to compare with what reports say
HELD_OUT = 2000  # reports whose likelihood is stated


@dataclass(frozen=True)
class Compared:
    """Frequencies of one column's cells, (k,): generated, by reports, and these' standard errors.

    Or of two columns' cells together, (k * l,).
    """

    name: str
    labels: list[str]
    generated: np.ndarray
    reported: np.ndarray
    error: np.ndarray

    @property
    def off(self) -> np.ndarray:
        """Differences in standard errors."""
        return (self.generated - self.reported) / np.maximum(self.error, 1e-12)

    @property
    def within(self) -> float:
        """The share of cells within two standard errors."""
        return float((np.abs(self.off) <= 2).mean())


@dataclass(frozen=True)
class Quality:
    """nll, independent: of held-out reports, nats, under the generator and under independent
    columns; error: the standard error of the difference. columns, pairs: frequencies compared."""

    nll: float
    independent: float
    error: float
    columns: list[Compared]
    pairs: list[Compared]
    about: str

    def html(self) -> str:
        """A page that needs nothing else."""
        ahead = self.independent - self.nll
        beside = "ahead" if ahead >= 0 else "behind"
        if abs(ahead) <= 2 * self.error:
            beside += ", which is no more than chance"
        parts = [
            "<!doctype html><meta charset=utf-8><title>Quality of a generated table</title>",
            "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
            "td,th{padding:2px 8px;text-align:right}td:first-child,th:first-child{text-align:left}"
            "svg{vertical-align:middle}</style><h1>Quality of a generated table</h1>",
            f"<p>{html.escape(self.about)}</p><p>All figures compare the generator with private "
            "reports; no raw data were read.</p><h2>Likelihood of held-out reports</h2>",
            f"<p>{-self.nll:.4f} nats a report; under independent columns {-self.independent:.4f}. "
            f"The generator is {abs(ahead):.4f} {beside} (standard error {self.error:.4f}). "
            "Both began with the columns' shares by all reports, the held-out ones too.</p>",
            "<h2>Columns</h2><p>Shares of the cells. A bar is what was generated, a line what "
            "reports say, two standard errors either way.</p>",
        ]
        for column in self.columns:
            parts.append(
                f"<h3>{html.escape(column.name)}</h3><p>{column.within:.0%} of the cells within "
                "two standard errors</p><table><tr><th>cell<th>generated<th>reports say<th>"
            )
            rows = zip(column.labels, column.generated, column.reported, column.error, strict=True)
            parts += [
                f"<tr><td>{html.escape(label)}<td>{g:.3f}<td>{r:.3f} &plusmn; {e:.3f}<td>"
                f"{_bar(g, r, e)}"
                for label, g, r, e in rows
            ]
            parts.append("</table>")
        parts.append("<h2>Pairs of columns</h2>")
        if not self.pairs:
            parts.append("<p>No report holds two columns: nothing is known of them together.</p>")
        else:
            parts.append(
                "<table><tr><th>pair<th>within two standard errors"
                "<th>largest difference, in standard errors"
            )
            for pair in sorted(self.pairs, key=lambda p: p.within):
                parts.append(
                    f"<tr><td>{html.escape(pair.name)}<td>{pair.within:.0%}"
                    f"<td>{np.abs(pair.off).max():.1f}"
                )
            parts.append("</table>")
        return "\n".join(parts)


def quality(
    table: Table,
    model: Generator,
    reports: Reports,
    *,
    heldout: Tensor | None = None,
    seed: int = 0,
) -> Quality:
    """Compare ``model`` with ``reports``. heldout: row numbers that it was not trained on; by
    default all, of which the first 2000 are used."""
    checks.instance("reports", reports, Reports)
    records = model.sample(RECORDS, seed=seed).double()
    rows = torch.arange(len(reports)) if heldout is None else heldout
    some = reports.rows.tensor()[rows[:HELD_OUT]]
    laws = torch.cat(marginals(reports))
    own = report_log_likelihood(records[:4000], some, reports.mechanism)
    alone = report_log_likelihood(laws[None].to(some), some, reports.mechanism)
    gap = (own - alone).double()
    parts = by_column(reports)
    found = [c.unbiased(y.double()) for c, y in parts]
    labels = [column.labels() + ["missing"] * bool(column.missing) for column in table.columns]
    columns = [
        _compared(column.name, names, records[:, s], u)
        for column, names, s, u in zip(table.columns, labels, table.slices, found, strict=True)
    ]
    pairs = []
    for a in range(len(parts)):
        for b in range(a + 1, len(parts)):
            first, second = _both(reports, found, a, b)
            if len(first) < 2:
                continue
            made = _outer(records[:, table.slices[a]], records[:, table.slices[b]])
            name = f"{table.columns[a].name}, {table.columns[b].name}"
            names = [f"{x}, {y}" for x in labels[a] for y in labels[b]]
            pairs.append(_compared(name, names, made, _outer(first, second)))
    return Quality(
        -own.double().mean().item(),
        -alone.double().mean().item(),
        gap.std().item() / max(1, len(gap)) ** 0.5,
        columns,
        pairs,
        f"{len(reports)} {'simulated ' * reports.simulation}reports of a table of "
        f"{len(table.columns)} columns, each of which spent "
        + (f"epsilon {reports.epsilon:.4g}." if reports.epsilon else "a simulated budget."),
    )


def _both(reports: Reports, found: list[Tensor], a: int, b: int) -> tuple[Tensor, Tensor]:
    """Unbiased rows of two columns, of the reports that hold both."""
    mechanism = reports.mechanism
    if not isinstance(mechanism, Sampled):
        return found[a], found[b]
    drawn = mechanism.drawn(reports.rows.tensor())
    both = drawn[:, a] & drawn[:, b]
    return found[a][both[drawn[:, a]]], found[b][both[drawn[:, b]]]


def _outer(a: Tensor, b: Tensor) -> Tensor:
    return (a[:, :, None] * b[:, None, :]).flatten(1)


def _compared(name: str, labels: list[str], made: Tensor, said: Tensor) -> Compared:
    error = said.std(0) / len(said) ** 0.5
    return Compared(
        name, labels, made.double().mean(0).numpy(), said.mean(0).numpy(), error.numpy()
    )


def _bar(generated: float, reported: float, error: float) -> str:
    """The generated frequency as a bar, and what reports say as a whisker of two errors."""
    low, high = (200 * min(1.0, max(0.0, reported + t * error)) for t in (-2, 2))
    return (
        f'<svg width=200 height=12><rect width="{200 * generated:.1f}" height=12 fill="#0072B2" '
        f'opacity=".5"/><path d="M{low:.1f} 6H{high:.1f}" stroke="#000" stroke-width=2 /></svg>'
    )
