"""Real records of growing dimension, as laws whose every number can be computed.

A data set is taken for the population itself: records are drawn from its rows with replacement, so
that the law of their reports is a mixture of as many noises, and the matched loss has a known
population value and a known scatter.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

import privgan as pg
from privgan import checks
from privgan.artifact import data, tables
from privgan.artifact.oracles import matched_value
from privgan.streams import stream

ROWS = 5000  # of a data set, drawn once
REPORTS = 1000  # that integrate over y


def resample(rows: Tensor, n: int, *, seed: int) -> Tensor:
    """``n`` of the ``rows`` (N, d), with replacement: a sampler, once the first is bound."""
    return rows[torch.randint(len(rows), (n,), generator=stream(seed, "rows"))]


@dataclass(frozen=True)
class Channelled:
    """What reports of a finite law through Gaussian noise hold; estimates from `REPORTS` of them.

    nats: I(X; Y). value: the matched loss of the law itself. scatter: sqrt(n) times the standard
    deviation of its value between n records and n reports, to first order.
    """

    sigma: float
    nats: float
    value: float
    scatter: float


def channelled(rows: Tensor, sigma: float, *, seed: int = 0) -> Channelled:
    """`Channelled` for records uniform on ``rows`` (N, d) and noise of ``sigma`` a coordinate.

    At the matched pair the potential of the records is constant and that of the reports is
    -reg log p_Y up to a constant: the value scatters by reg std(log p_Y(Y)) / sqrt(n).
    """
    mech = pg.Gaussian(checks.positive("sigma", sigma))
    rows = checks.as_records("rows", rows).double()
    own = resample(rows, REPORTS, seed=seed)
    y = mech.privatize(own, seed=seed)
    log_p = pg.training.report_log_likelihood(rows, y, mech)
    nats = (mech.log_likelihood(own, y) - log_p).mean().item()
    value = matched_value(nats, sigma, rows.shape[1])
    return Channelled(sigma, nats, value, mech.reg * log_p.std().item())


def at_nats(rows: Tensor, nats: float, *, seed: int = 0) -> Channelled:
    """`channelled` at the noise that leaves ``nats`` in a report, by bisection to 1%."""
    nats = checks.positive("nats", nats)
    size = rows.double().var(0).sum().sqrt().item()
    low, high = 1e-3 * size, 1e2 * size
    while high / low > 1.005:
        middle = math.sqrt(low * high)
        found = channelled(rows, middle, seed=seed)
        low, high = (middle, high) if found.nats > nats else (low, middle)
    return found


def principal(rows: Tensor, dim: int) -> Tensor:
    """The leading ``dim`` principal components of ``rows`` (N, d), in their units."""
    centred = rows.double() - rows.double().mean(0)
    return (centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -dim:]).float()


def _few(rows: np.ndarray | Tensor) -> Tensor:
    """At most `ROWS` of the rows, in a fixed random order."""
    rows = torch.as_tensor(np.asarray(rows, np.float32))
    return rows[torch.randperm(len(rows), generator=stream(0, "few rows"))[:ROWS]]


def _standard(rows: np.ndarray) -> Tensor:
    """Columns that vary, centred, in units of their standard deviations."""
    kept = rows[:, rows.std(0) > 0]
    return _few((kept - kept.mean(0)) / kept.std(0))


def _adult() -> Tensor:
    """Adult's six numbers: age, weight, education, gain, loss and hours."""
    return _standard(tables.adult_people().select_dtypes("number").to_numpy(np.float64))


def _rand() -> Tensor:
    """The columns of the RAND experiment that hold a number for everybody, without the keys."""
    frame = pd.read_csv(tables.fetched("randhie/randhie.csv.gz")).dropna(axis=1)
    numbers = frame.select_dtypes("number").drop(columns=["zper", "year"], errors="ignore")
    return _standard(numbers.to_numpy(np.float64))


def _images(name: str) -> Callable[[], Tensor]:
    return lambda: _few(data.IMAGES[name]("train").pixels)


SPACES: dict[str, Callable[[], Tensor]] = {
    "digits": _images("digits"),
    "fashion_mnist": _images("fashion_mnist"),
    "adult": _adult,
    "rand": _rand,
}
