"""The likelihood of held-out reports: it compares generators without ever looking at raw data."""

import math

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms import Mechanism

# Densities are formed for this many (record, report) pairs at a time.
PAIRS = 4_000_000


@torch.no_grad()
def report_log_likelihood(x: Tensor, y: Tensor, mechanism: Mechanism) -> Tensor:
    """``log mean_i k(y_j | x_i)`` in nats for every report, (m,).

    x: generated records (n, d), which stand for their law. y: held-out reports (m, d). Raw
    data are never looked at, so it may choose between models; differences between two
    models on the same reports have a standard error.
    """
    x = checks.as_records("x", x)
    y = checks.as_records("y", y).to(x.device)
    wide = torch.promote_types(x.dtype, y.dtype)  # rounding reports would change their likelihood
    x, y = x.to(wide), y.to(wide)
    parts = y.split(max(1, PAIRS // len(x)))
    log_sum = torch.cat([torch.logsumexp(mechanism.log_density(x, part), 0) for part in parts])
    return log_sum - math.log(len(x))


def report_nll(x: Tensor, y: Tensor, mechanism: Mechanism) -> float:
    """Mean negative log-likelihood of reports, nats per report; as `report_log_likelihood`.

    Averaging over a finite ``x`` biases it upwards: compare values at the same n only.
    """
    return -report_log_likelihood(x, y, mechanism).double().mean().item()
