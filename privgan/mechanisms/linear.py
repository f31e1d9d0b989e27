"""A public linear map, and clipping, before the noise: what a whole image's budget needs.

Noise that protects every pixel of an image drowns it; noise on a few public features of it, its
low frequencies say, need not. The report is ``clip(A x) + noise`` and the matched loss compares it
with ``clip(A G(z))`` of generated records, so a generator still makes whole records, whose
features follow the raw law. What A and the clip discard is not learned.
"""

import hashlib
from dataclasses import dataclass, field
from typing import Self

import numpy as np
import scipy
import torch
from torch import Tensor

from privgan import checks
from privgan.files import content
from privgan.mechanisms.base import BoundsMissing, Mechanism
from privgan.mechanisms.bounds import Bounds
from privgan.mechanisms.budget import Budget
from privgan.sinkhorn import Cost
from privgan.surroundings import full_precision


@dataclass(frozen=True, eq=False, repr=False)
class LinearMap(Mechanism):
    """Applies ``mechanism`` to ``clip(A x)``, clipped to the mechanism's own bounds.

    matrix: A, (features, columns). It must be public: components fitted to the records would
    reveal them. It is copied, as float64 on the CPU.
    """

    matrix: Tensor
    mechanism: Mechanism
    features: Bounds = field(init=False)  # what A x is clipped to

    def __init__(self, matrix: Tensor | np.ndarray, mechanism: Mechanism):
        matrix = checks.as_records("matrix", matrix).detach().double().cpu()
        matrix = matrix.contiguous() + 0.0  # a copy, in which no zero is negative
        checks.instance("mechanism", mechanism, Mechanism)
        if mechanism.bounds is None:
            raise BoundsMissing(
                f"{mechanism!r} has no bounds to clip the features to; give it public bounds="
            )
        features, dim = matrix.shape
        mechanism.bounds.check_columns(features, "the features A x")
        vars(self).update(
            matrix=matrix,
            mechanism=mechanism,
            features=mechanism.bounds,
            dim=dim,
            cost=mechanism.cost,
            reg=mechanism.reg,
            noise=f"on {features} public features of {dim} columns: {mechanism.noise}",
            recovery=f"of clip(A X) in {mechanism.bounds!r}, not of X, as well as its noise "
            f"allows: {mechanism.recovery}",
        )

    @classmethod
    def dct(cls, side: int, keep: int, mechanism: Mechanism) -> Self:
        """The keep x keep lowest frequencies (orthonormal DCT-II) of side x side images."""
        return cls(low_frequencies(side, keep), mechanism)

    @classmethod
    def block_average(cls, side: int, block: int, mechanism: Mechanism) -> Self:
        """The means of the block x block tiles of side x side images."""
        side, block = checks.positive_int("side", side), checks.positive_int("block", block)
        if side % block:
            raise ValueError(f"blocks of {block} do not tile {side} x {side} images")
        means = np.kron(np.eye(side // block), np.full((1, block), 1 / block))
        return cls(np.kron(means, means), mechanism)

    def forward(self, x: Tensor) -> Tensor:
        self._check_dim(x)
        with full_precision():
            features = x @ self.placed("matrix", x).T
        return self.mechanism.forward(self.features._clip(features))

    def unbiased(self, y: Tensor) -> Tensor:
        return self.mechanism.unbiased(y)

    def second_moment(self, d: int) -> tuple[float, float]:
        return self.mechanism.second_moment(d)

    def heated(self, times: float) -> tuple[Cost, float]:
        return self.mechanism.heated(times)

    def report_dim(self, d: int) -> int:
        return self.mechanism.report_dim(len(self.matrix))

    def budget(self, sensitivity: float | None = None) -> Budget:
        return self.mechanism.budget(sensitivity)

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        """The features', through the pseudo-inverse of A; unseen columns spread as others do."""
        centre, spread = self.mechanism._location(reports)
        back = torch.linalg.pinv(self.matrix)  # (columns, features)
        spreads = (back.square() @ spread.square()).sqrt()
        seen = (self.matrix != 0.0).any(0) & (spreads > 0.0)
        usual = spreads[seen].median() if seen.any() else spread.median()
        return back @ centre, torch.where(seen, spreads, usual)

    def _admit(self, x: Tensor, clip: bool) -> Tensor:
        """Any record: the features are always clipped."""
        self._check_dim(x)
        return x

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        self.mechanism._check_pair(x, y)

    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        lost = ~x.isfinite().all(1)  # finite records times a matrix may overflow, and cancel
        if lost.any():
            raise ValueError(
                f"x has {int(lost.sum())} rows whose features A x overflow, the first at row "
                f"{int(lost.nonzero()[0])}; pass float64 records, or other units"
            )
        return self.mechanism._draw(x, generator)

    def _log_normaliser(self, y: Tensor) -> Tensor | float:
        return self.mechanism._log_normaliser(y)

    def __repr__(self) -> str:
        digest = hashlib.sha256(content(self.matrix)).hexdigest()[:8]
        return f"LinearMap(<{len(self.matrix)} x {self.dim}, {digest}>, {self.mechanism!r})"


def low_frequencies(side: int, keep: int) -> Tensor:
    """The keep x keep lowest frequencies (orthonormal DCT-II) of side x side images.

    (keep^2, side^2), float64, with orthonormal rows: ``x @ A.T`` are an image's coefficients and
    ``coefficients @ A`` is the smooth image they stand for.
    """
    side, keep = checks.positive_int("side", side), checks.positive_int("keep", keep)
    if keep > side:
        raise ValueError(f"keep is {keep}, but {side} x {side} images have {side} frequencies")
    lowest = scipy.fft.dct(np.eye(side), axis=0, norm="ortho")[:keep]
    return torch.from_numpy(np.kron(lowest, lowest))
