"""Real records in a growing number of dimensions: a data set's leading principal components."""

from functools import cache

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from privgan import checks
from privgan.artifact import data
from privgan.streams import stream


@cache
def components(name: str) -> Tensor:
    """All records of a data set in the basis of its principal components, (n, d), float32.

    "adult" and "rand": their columns of numbers, each standardised; else a set of `data.IMAGES`, in
    units of its pixels' range. Columns come from the largest variance to the smallest.
    """
    if name in ("adult", "rand"):
        from privgan.artifact import tables

        raw = {"adult": tables.adult, "rand": tables.rand}[name]()
        columns = raw.train.select_dtypes("number").to_numpy(float)
        columns = columns[:, columns.std(0) > 0]
        records = (columns - columns.mean(0)) / columns.std(0)
    else:
        records = data.IMAGES[checks.one_of("name", name, data.IMAGES)]("train").pixels.numpy()
        records = records - records.mean(0)
    variances, axes = np.linalg.eigh(np.cov(records.T))
    order = np.argsort(-variances)
    return torch.from_numpy((records @ axes[:, order]).astype(np.float32))


def drawn(n: int, *, name: str, dim: int, seed: int) -> Tensor:
    """A sampler: the first ``dim`` components of rows drawn with replacement, (n, dim)."""
    rows = components(name)
    dim = checks.positive_int("dim", dim)
    if dim > rows.shape[1]:
        raise ValueError(f"dim is {dim}, but {name} has {rows.shape[1]} components")
    chosen = torch.randint(len(rows), (n,), generator=stream(seed, "data"))
    return rows[chosen, :dim]


def variances(name: str, dim: int) -> np.ndarray:
    """Variances of the first ``dim`` components, (dim,)."""
    found: np.ndarray = components(name)[:, :dim].double().var(0).numpy()
    return found


def noise_for(nats: float, eigenvalues: np.ndarray) -> float:
    """The Gaussian noise through which normal records of these variances tell ``nats``.

    No law of the same covariance tells more: among them the normal one makes I(X; Y) largest.
    """
    nats = checks.positive("nats", nats)

    def too_much(log_sigma: float) -> float:
        return float(np.log1p(eigenvalues / np.exp(2 * log_sigma)).sum() / 2) - nats

    return float(np.exp(brentq(too_much, -20.0, 20.0)))
