"""Where numbers lie, roughly: moments that neither an outlier nor a far origin disturbs."""

import math

import numpy as np
import torch
from torch import Tensor

ROWS, ENTRIES = 100_000, 2**23  # looked at; of wide reports fewer rows, but a thousand
TAIL = 0.005  # the fraction of a column clipped at either end


def some_rows(reports: Tensor) -> Tensor:
    """At most `ROWS` of the reports, evenly strided, float64 and on the CPU."""
    n, d = reports.shape
    most = min(ROWS, max(1000, ENTRIES // d))
    return reports.detach()[:: math.ceil(n / most)].to("cpu", torch.float64)


def winsorised(y: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of every column of ``y`` (n, d), the ends of each moved in to quantiles.

    An order statistic stands for a quantile, so that from four rows on the outermost value may lie
    anywhere. Both are formed about the median: a common offset costs no digits.
    """
    n = len(y)
    middle = y.median(0).values
    centred = (y - middle).numpy()
    low = min(math.ceil(TAIL * (n - 1)), (n - 1) // 3)
    high = n - 1 - low
    order = np.partition(centred, (low, high), axis=0)
    clipped = torch.from_numpy(centred.clip(order[low], order[high]))
    return middle + clipped.mean(0), clipped.var(0, correction=0)
