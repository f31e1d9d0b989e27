"""The low frequencies of square images: a public, smooth basis."""

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from privgan import checks


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
