"""Where numbers lie, roughly: moments that neither an outlier nor a far origin disturbs."""

import math

import numpy as np
import torch
from torch import Tensor

ROWS, ENTRIES = 100_000, 2**22  # looked at; of wide reports fewer rows, but a thousand
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
    columns = y.T.contiguous()  # (d, n)
    middle = columns.median(1, keepdim=True).values
    centred = (columns - middle).numpy()
    low = min(math.ceil(TAIL * (n - 1)), (n - 1) // 3)
    high = n - 1 - low
    ends = np.partition(centred, (low, high), axis=1)[:, [low, high]]
    clipped = torch.from_numpy(centred.clip(ends[:, :1], ends[:, 1:]))
    return middle[:, 0] + clipped.mean(1), clipped.var(1, correction=0)
