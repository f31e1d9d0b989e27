"""The likelihood of held-out reports: it compares generators without ever looking at raw data."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from privgan import checks
from privgan.mechanisms import Mechanism
from privgan.reports import Reports, together
from privgan.reports.collection import rows_of
from privgan.reports.rows import Rows
from privgan.surroundings import usual

# Densities are formed for this many (record, report) pairs at a time.
PAIRS = 4_000_000
Reported = ArrayLike | str | Path | Rows | Reports | Sequence[Reports]


@usual(grad=False)
def report_log_likelihood(x: ArrayLike, y: Reported, mechanism: Mechanism | None = None) -> Tensor:
    """``log mean_i k(y_j | x_i)`` in nats for every report, (m,).

    x: generated records (n, d), which stand for their law. y: held-out reports (m, d), a list of
    `Reports`, or what `fit` takes from files. mechanism: by default that of `Reports`. Raw data are
    never looked at, so it may choose between models; differences between two models on the same
    reports have a standard error.
    """
    return torch.cat([*_parts(x, y, mechanism)])


@usual(grad=False)
def report_nll(x: ArrayLike, y: Reported, mechanism: Mechanism | None = None) -> float:
    """Mean negative log-likelihood of reports, nats per report; as `report_log_likelihood`.

    Averaging over a finite ``x`` biases it upwards: compare values at the same n only.

    >>> reports = pg.simulate(torch.zeros(1000, 1), pg.Gaussian(0.5), seed=0)
    >>> raw, wrong = torch.zeros(1, 1), torch.ones(1, 1)
    >>> pg.report_nll(raw, reports) < pg.report_nll(wrong, reports)
    True
    """
    total, count = 0.0, 0
    for part in _parts(x, y, mechanism):
        total, count = total + part.double().sum().item(), count + len(part)
    return -total / count


def _parts(x: ArrayLike, y: Reported, mechanism: Mechanism | None) -> Iterator[Tensor]:
    """`report_log_likelihood`, of some reports at a time."""
    y = together(y)
    if mechanism is None and isinstance(y, Reports):
        mechanism = y.mechanism
    if mechanism is None:
        raise TypeError(
            "mechanism is missing: plain reports do not say how they were privatized; name it, or "
            "give Reports, which know it"
        )
    checks.instance("mechanism", mechanism, Mechanism)
    x, rows = checks.as_records("x", x).detach(), rows_of("y", y)
    wide = torch.promote_types(
        x.dtype, rows.dtype
    )  # rounding reports would change their likelihood
    x = x.to(wide)
    for _, taken in rows.parts():
        for part in taken.to(x.device, wide).split(max(1, PAIRS // len(x))):
            yield torch.logsumexp(mechanism.log_density(x, part), 0) - math.log(len(x))
