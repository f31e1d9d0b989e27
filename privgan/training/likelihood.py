"""The likelihood of held-out reports: it compares generators without ever looking at raw data."""

import math
from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from privgan import checks
from privgan.mechanisms import Mechanism
from privgan.reports import Reports, together
from privgan.reports.collection import values_of
from privgan.surroundings import usual

# Densities are formed for this many (record, report) pairs at a time.
PAIRS = 4_000_000


@usual(grad=False)
def report_log_likelihood(
    x: ArrayLike, y: ArrayLike | Reports | Sequence[Reports], mechanism: Mechanism | None = None
) -> Tensor:
    """``log mean_i k(y_j | x_i)`` in nats for every report, (m,).

    x: generated records (n, d), which stand for their law. y: held-out reports (m, d), or a list
    of `Reports`. mechanism: by default that of `Reports`. Raw data are never looked at, so it may
    choose between models; differences between two models on the same reports have a standard error.
    """
    y = together(y)
    if mechanism is None and isinstance(y, Reports):
        mechanism = y.mechanism
    if mechanism is None:
        raise TypeError(
            "mechanism is missing: plain reports do not say how they were privatized; name it, or "
            "give Reports, which know it"
        )
    checks.instance("mechanism", mechanism, Mechanism)
    x, y = checks.as_records("x", x).detach(), values_of("y", y)
    y = y.to(x.device)
    wide = torch.promote_types(x.dtype, y.dtype)  # rounding reports would change their likelihood
    x, y = x.to(wide), y.to(wide)
    parts = y.split(max(1, PAIRS // len(x)))
    log_sum = torch.cat([torch.logsumexp(mechanism.log_density(x, part), 0) for part in parts])
    return log_sum - math.log(len(x))


def report_nll(
    x: ArrayLike, y: ArrayLike | Reports | Sequence[Reports], mechanism: Mechanism | None = None
) -> float:
    """Mean negative log-likelihood of reports, nats per report; as `report_log_likelihood`.

    Averaging over a finite ``x`` biases it upwards: compare values at the same n only.
    """
    return -report_log_likelihood(x, y, mechanism).double().mean().item()
