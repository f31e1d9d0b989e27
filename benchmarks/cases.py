"""The problems: which points, which noise, which size; and where a run keeps its files."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BUILD = Path("build/bench")
TOLERANCES = (1e-2, 1e-3, 1e-4)  # L1 marginal error, in mass
STD = {  # of the noise on one coordinate
    2: {"weak": 0.05, "medium": 0.3, "strong": 1.0},
    784: {"weak": 0.2, "medium": 1.0, "strong": 5.0},
}


@dataclass(frozen=True)
class Case:
    """``n`` raw points against ``n`` privatized ones in dimension ``d``, both weighted uniformly.

    d = 2 is the unit circle, d = 784 is MNIST. A streaming case is there for its size: the
    entrants may not store the n by n matrix, and one tolerance is enough.
    """

    d: int
    n: int
    mechanism: str  # "gaussian" or "laplace"
    noise: str  # a key of STD[d]
    streaming: bool = False

    @property
    def key(self) -> str:
        kind = "streaming-" if self.streaming else ""
        return f"{kind}d{self.d}-n{self.n}-{self.mechanism}-{self.noise}"

    @property
    def std(self) -> float:
        return STD[self.d][self.noise]

    @property
    def p(self) -> int:
        """2: squared L2, matched to Gaussian noise. 1: L1, matched to Laplace noise."""
        return 2 if self.mechanism == "gaussian" else 1

    @property
    def reg(self) -> float:
        """The matched regularisation, in the units of the cost."""
        return 2.0 * self.std**2 if self.p == 2 else self.std / math.sqrt(2.0)

    @property
    def tolerances(self) -> tuple[float, ...]:
        return (1e-3,) if self.streaming else TOLERANCES

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """x (n, d) raw and y (n, d) privatized, float32; drawn once, then read from a file."""
        path = BUILD / "points" / f"{self.key}.f32"
        if not path.exists():
            from privgan.files import write_atomically

            write_atomically(path, np.stack(self._draw()).tobytes())
        return tuple(np.fromfile(path, np.float32).reshape(2, self.n, self.d))

    def _draw(self) -> tuple[np.ndarray, np.ndarray]:
        # Imported here, as above: the timed processes read the file and need none of this.
        import torch

        from privgan import Gaussian, Laplace
        from privgan.artifact import data

        if self.d == 2:
            x, clean = data.circle(self.n, seed=0), data.circle(self.n, seed=1)
        else:
            pixels = data.mnist("train").pixels
            order = torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))
            x, clean = pixels[order[: self.n]], pixels[order[self.n : 2 * self.n]]
        mechanism = Gaussian(self.std) if self.p == 2 else Laplace(self.std / math.sqrt(2.0))
        return x.numpy(), mechanism.privatize(clean, seed=2).numpy()


GRID = tuple(  # easy ones first: who cannot do those is spared the rest
    Case(d, n, mechanism, noise)
    for noise in ("strong", "medium", "weak")
    for n in (256, 1024, 4096)
    for d in (2, 784)
    for mechanism in ("gaussian", "laplace")
)
# Strong noise takes the fewest iterations, so that size is all that this curve shows.
STREAMING = tuple(
    Case(2, n, "gaussian", "strong", streaming=True) for n in (1000, 3162, 10_000, 31_623, 100_000)
)
QUICK = (
    *(Case(2, 256, mechanism, "medium") for mechanism in ("gaussian", "laplace")),
    *(Case(784, 256, mechanism, "strong") for mechanism in ("gaussian", "laplace")),
    STREAMING[0],
)
EVERY = {case.key: case for case in (*GRID, *STREAMING, *QUICK)}
