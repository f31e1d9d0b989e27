"""A public linear map, and clipping, before the noise: what a whole image's budget needs.

Noise that protects every pixel of an image drowns it; noise on a few public features of it, its
low frequencies say, need not. The report is ``clip(A x) + noise`` and the matched loss compares it
with ``clip(A G(z))`` of generated records, so a generator still makes whole records, whose
features follow the raw law. What A and the clip discard is not learned.
"""

import zlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.base import BoundsMissing, Mechanism
from privgan.mechanisms.budget import Budget
from privgan.sinkhorn import Cost


class LinearMap(Mechanism):
    """Applies ``mechanism`` to ``clip(A x)``, clipped to the mechanism's own bounds.

    matrix: A, (features, columns). It must be public: components fitted to the records would
    reveal them.
    """

    def __init__(self, matrix: Tensor | np.ndarray, mechanism: Mechanism):
        self.matrix = checks.as_records("matrix", matrix).detach().double().cpu()
        checks.instance("mechanism", mechanism, Mechanism)
        if mechanism.bounds is None:
            raise BoundsMissing(
                f"{mechanism!r} has no bounds to clip the features to; give it public bounds="
            )
        features, self.dim = self.matrix.shape
        mechanism.bounds.check_columns(features, "the features A x")
        self.mechanism, self.features = mechanism, mechanism.bounds
        self.cost, self.reg = mechanism.cost, mechanism.reg
        self.noise = f"on {features} public features of {self.dim} columns: {mechanism.noise}"
        self.recovery = (
            f"of clip(A X) in {self.features!r}, not of X, as well as its noise allows: "
            f"{mechanism.recovery}"
        )

    @classmethod
    def dct(cls, side: int, keep: int, mechanism: Mechanism) -> "LinearMap":
        """The keep x keep lowest frequencies (orthonormal DCT-II) of side x side images."""
        return cls(low_frequencies(side, keep), mechanism)

    @classmethod
    def block_average(cls, side: int, block: int, mechanism: Mechanism) -> "LinearMap":
        """The means of the block x block tiles of side x side images."""
        side, block = checks.positive_int("side", side), checks.positive_int("block", block)
        if side % block:
            raise ValueError(f"blocks of {block} do not tile {side} x {side} images")
        means = np.kron(np.eye(side // block), np.full((1, block), 1 / block))
        return cls(np.kron(means, means), mechanism)

    def forward(self, x: Tensor) -> Tensor:
        return self.mechanism.forward(self.features.clip(x @ self.matrix.T.to(x)))

    def heated(self, times: float) -> tuple[Cost, float]:
        return self.mechanism.heated(times)

    def report_dim(self, d: int) -> int:
        return self.mechanism.report_dim(len(self.matrix))

    def budget(self, sensitivity: float | None = None) -> Budget:
        return self.mechanism.budget(sensitivity)

    def _admit(self, x: Tensor, clip: bool) -> Tensor:
        """Any record: the features are always clipped."""
        if x.shape[1] != self.dim:
            raise ValueError(f"x has {x.shape[1]} columns and the matrix has {self.dim}")
        return x

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        self.mechanism._check_pair(x, y)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return self.mechanism._draw(x, generator)

    def _log_normaliser(self, y: Tensor) -> Tensor | float:
        return self.mechanism._log_normaliser(y)

    def _settings(self) -> dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        # Stands for the matrix wherever mechanisms are compared by their names.
        digest = zlib.crc32(self.matrix.contiguous().numpy().tobytes())
        return f"LinearMap(<{len(self.matrix)} x {self.dim}, {digest:08x}>, {self.mechanism!r})"


def low_frequencies(side: int, keep: int) -> Tensor:
    """The keep x keep lowest frequencies (orthonormal DCT-II) of side x side images.

    (keep^2, side^2), float64, with orthonormal rows: ``x @ A.T`` are an image's coefficients and
    ``coefficients @ A`` is the smooth image they stand for.
    """
    side, keep = checks.positive_int("side", side), checks.positive_int("keep", keep)
    if keep > side:
        raise ValueError(f"keep is {keep}, but {side} x {side} images have {side} frequencies")
    import scipy.fft  # rarely needed

    lowest = scipy.fft.dct(np.eye(side), axis=0, norm="ortho")[:keep]
    return torch.from_numpy(np.kron(lowest, lowest))
