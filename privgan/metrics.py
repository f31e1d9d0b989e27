"""How close is a generator to the raw law? Measured with raw data, or with reports alone."""

import math
from collections.abc import Callable

import numpy as np
import ot
import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms import Mechanism

# Densities are formed for this many (record, report) pairs at a time.
PAIRS = 4_000_000


def w2(x: Tensor, y: Tensor) -> float:
    """Exact Wasserstein-2 distance between two samples (n, d), (m, d), in data units (POT)."""
    x, y = (checks.as_records(name, v).detach().double().cpu() for name, v in (("x", x), ("y", y)))
    x, y = (v.numpy() for v in checks.as_pair("x", x, "y", y))
    weights = np.full(len(x), 1.0 / len(x)), np.full(len(y), 1.0 / len(y))
    return math.sqrt(max(ot.emd2(*weights, ot.dist(x, y), numItermax=5_000_000), 0.0))


def w2_floor(draw: Callable[..., Tensor], n: int, *, repeats: int = 3, seed: int = 0) -> float:
    """Mean W2 between two independent samples of one law: what a perfect generator scores.

    draw: a sampler ``draw(n, seed=...)``, as in `privgan.data`.
    """
    pairs = range(seed, seed + 2 * repeats, 2)
    return sum(w2(draw(n, seed=s), draw(n, seed=s + 1)) for s in pairs) / repeats


@torch.no_grad()
def report_log_likelihood(x: Tensor, y: Tensor, mechanism: Mechanism) -> Tensor:
    """``log mean_i k(y_j | x_i)`` in nats for every report, (m,).

    x: generated records (n, d), which stand for their law. y: held-out reports (m, d). Raw
    data are never looked at, so it may choose between models; differences between two
    models on the same reports have a standard error.
    """
    x = checks.as_records("x", x)
    y = checks.as_records("y", y).to(x)
    parts = y.split(max(1, PAIRS // len(x)))
    log_sum = torch.cat([torch.logsumexp(mechanism.log_density(x, part), 0) for part in parts])
    return log_sum - math.log(len(x))


def report_nll(x: Tensor, y: Tensor, mechanism: Mechanism) -> float:
    """Mean negative log-likelihood of reports, nats per report; as `report_log_likelihood`.

    Averaging over a finite ``x`` biases it upwards: compare values at the same n only.
    """
    return -report_log_likelihood(x, y, mechanism).double().mean().item()
