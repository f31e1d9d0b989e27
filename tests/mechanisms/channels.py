"""One of every channel, with records of a finite law and a grid of reports that covers k(. | x)."""

import itertools
from dataclasses import dataclass

import torch

import privgan as pg
from privgan.mechanisms import Mechanism

F64 = torch.float64


def line(low: float, high: float, cells: int) -> torch.Tensor:
    """The middles of equal cells, (cells, 1)."""
    return low + (high - low) * (torch.arange(cells, dtype=F64)[:, None] + 0.5) / cells


def circle(cells: int, start: float = 0.5) -> torch.Tensor:
    """Directions at the middles of equal arcs, (cells, 2)."""
    angle = 2 * torch.pi * (torch.arange(cells, dtype=F64) + start) / cells
    return torch.stack([angle.cos(), angle.sin()], 1)


def pairs(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Every row of x beside every row of y."""
    return torch.cat([x.repeat_interleave(len(y), 0), y.repeat(len(x), 1)], 1)


@dataclass(frozen=True)
class Case:
    """records (n, d), the reports' cells (m, d') and the volume of each (1 where discrete)."""

    mech: Mechanism
    records: torch.Tensor
    reports: torch.Tensor
    volume: float
    flat: bool = False  # in x


UNIT = pg.Box(0.0, 1.0, dim=1)
SQUARE = pg.Box([0.0, -1.0], [1.0, 2.0])
X, X2 = line(0.0, 1.0, 6), pairs(line(0.0, 1.0, 3), line(-1.0, 2.0, 3))
BITS = torch.tensor(list(itertools.product((0.0, 1.0), repeat=4)), dtype=F64)
GRID2 = pairs(line(-6.0, 7.0, 130), line(-7.0, 8.0, 150))
RESPONSE = pg.RandomizedResponse.calibrate(epsilon=1.0, k=4)
SYMMETRIC = pg.UnaryEncoding.calibrate(epsilon=1.0, k=4, symmetric=True)
OPTIMISED = pg.UnaryEncoding.calibrate(epsilon=1.0, k=4)
CIRCLE = pg.Sphere(2)
SUBSET = pg.mechanisms.SubsetSelection.calibrate(epsilon=1.0, k=4, size=2)
WINDOW = pg.mechanisms.Window.calibrate(epsilon=1.0, k=4, size=3)
HASHING = pg.mechanisms.LocalHashing.calibrate(epsilon=1.0, k=4, buckets=3)
SAMPLED = pg.mechanisms.Sampled((slice(0, 4), RESPONSE), (slice(4, 8), SUBSET), choose=1)
FIRST, SECOND = torch.eye(4, dtype=F64), BITS[BITS.sum(1) == 2]
ONE_OF_TWO = torch.zeros(len(FIRST) + len(SECOND), 10, dtype=F64)  # either, and its mark
ONE_OF_TWO[: len(FIRST), :4], ONE_OF_TWO[: len(FIRST), 4] = FIRST, 1.0
ONE_OF_TWO[len(FIRST) :, 5:9], ONE_OF_TWO[len(FIRST) :, 9] = SECOND, 1.0
GAUSSIAN = pg.Gaussian(0.5, bounds=UNIT)
WAVE = pg.SquareWave(1.0, bounds=UNIT)
# In an interval of length 1 and at epsilon 1 the reports span [-b, 1 + b] and 2.0 C.
B, C = WAVE.half / 2, pg.Piecewise(1.0, bounds=UNIT).reach

CASES = {
    "gaussian": Case(GAUSSIAN, X, line(-4.0, 5.0, 900), 0.01),
    "laplace": Case(pg.Laplace(0.3, bounds=UNIT), X, line(-8.0, 9.0, 8500), 0.002),
    "euclidean": Case(pg.EuclideanLaplace(0.4, bounds=SQUARE), X2, GRID2, 0.01),
    "response": Case(RESPONSE, torch.eye(4, dtype=F64), torch.eye(4, dtype=F64), 1.0),
    "symmetric": Case(SYMMETRIC, torch.eye(4, dtype=F64), BITS, 1.0),
    "optimised": Case(OPTIMISED, torch.eye(4, dtype=F64), BITS, 1.0),
    "subset": Case(SUBSET, torch.eye(4, dtype=F64), BITS[BITS.sum(1) == 2], 1.0),
    "window": Case(WINDOW, torch.eye(4, dtype=F64), BITS[BITS.sum(1) == 3], 1.0),
    "hashing": Case(HASHING, torch.eye(4, dtype=F64), BITS, 1.0),
    "sampled": Case(SAMPLED, torch.cat([torch.eye(4, dtype=F64)] * 2, 1), ONE_OF_TWO, 1.0),
    "piecewise": Case(
        pg.Piecewise(1.0, bounds=UNIT), X, line(0.5 - C / 2, 0.5 + C / 2, 4000), C / 4000, True
    ),
    "wave": Case(WAVE, X, line(-B, 1 + B, 4000), (1 + 2 * B) / 4000, True),
    "wave2": Case(
        pg.SquareWave(1.0, bounds=SQUARE),
        X2,
        pairs(line(-B, 1 + B, 160), line(-1 - 3 * B, 2 + 3 * B, 160)),
        3 * ((1 + 2 * B) / 160) ** 2,
        True,
    ),
    "product": Case(
        pg.Product((slice(0, 1), GAUSSIAN), (slice(1, 5), OPTIMISED)),
        pairs(X[::2], torch.eye(4, dtype=F64)),
        pairs(line(-4.0, 5.0, 300), BITS),
        0.03,
    ),
    "unit": Case(
        pg.PrivUnit.calibrate(epsilon=1.0, bounds=CIRCLE),
        circle(5, start=0.1),
        circle(4000),
        2 * torch.pi / 4000,
        True,
    ),
    "linear": Case(
        pg.LinearMap.block_average(2, 2, pg.Laplace(0.3, bounds=UNIT)),
        pairs(pairs(X, X[:1]), pairs(X[1:2], X[2:3]))[:6],
        line(-8.0, 9.0, 8500),
        0.002,
    ),
}


def weights(n: int, seed: int = 0) -> torch.Tensor:
    w = torch.rand(n, dtype=F64, generator=torch.Generator().manual_seed(seed)) + 0.1
    return w / w.sum()
