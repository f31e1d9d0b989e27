"""The first two moments of records, from those of reports: what a closed form needs to know.

Numbers x are reported by rows u with E[u | x] = x and E[u u' | x] = a x x' + b I, with a and b of
the mechanism; blocks of a record that are reported apart have independent noise. A category's
unbiased bits are weights that average over the records of each class.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from privgan.mechanisms.base import Mechanism
from privgan.mechanisms.categorical import Categorical
from privgan.mechanisms.linear import LinearMap
from privgan.mechanisms.product import Product


@dataclass(frozen=True)
class Part:
    """A block of a record: ``columns`` of it are reported in these columns of ``reports``."""

    mechanism: Mechanism
    columns: slice
    reports: slice

    def back(self, features: Tensor) -> Tensor:
        """The records, (n, columns), that stand for rows of features."""
        if not isinstance(self.mechanism, LinearMap):
            return features
        return features @ torch.linalg.pinv(self.mechanism.matrix).T


@dataclass(frozen=True)
class Moments:
    """For each of k classes: share (k,), mean (k, r) and covariance (k, r, r) of r features."""

    shares: Tensor
    means: Tensor
    covariances: Tensor


@dataclass(frozen=True)
class Noise:
    """E[u u' | x] = ``scale`` * x x' + ``added``, entry by entry, of r features, (r, r) each."""

    scale: Tensor
    added: Tensor

    def moments(self, u: Tensor, w: Tensor) -> Moments:
        """Of records behind unbiased rows ``u`` (n, r), classes weighed by ``w`` (n, k)."""
        mass = w.sum(0)
        seen = mass > 1.0  # noise may leave a class that hardly occurs with less than nothing
        mass = torch.where(seen, mass, 1.0)
        means = (w.T @ u) / mass[:, None]
        second = torch.stack([(own[:, None] * u).T @ u for own in w.T]) / mass[:, None, None]
        found = (second - self.added) / self.scale - means[:, :, None] * means[:, None]
        shares = torch.where(seen, mass, 0.0)
        shares = shares / shares.sum()
        everywhere = torch.einsum("c,cij->ij", shares, found)
        return Moments(
            shares,
            torch.where(seen[:, None], means, shares @ means),
            torch.where(seen[:, None, None], found, everywhere),
        )


def parts(mechanism: Mechanism, d: int) -> tuple[list[Part], Part | None]:
    """The blocks of numbers, and that of the class, if the last block is a category."""
    if not isinstance(mechanism, Product):
        return [Part(mechanism, slice(0, d), slice(0, d))], None
    pairs = zip(mechanism.blocks, mechanism.reports, strict=True)
    blocks = [Part(part, columns, reports) for (columns, part), reports in pairs]
    label = blocks.pop() if isinstance(blocks[-1].mechanism, Categorical) else None
    for block in blocks:
        if isinstance(block.mechanism, Categorical):
            raise TypeError(
                f"columns {block.columns.start}:{block.columns.stop} are a category, and "
                "closed_form takes one only as the class, in the last columns; train with fit"
            )
    if not blocks:
        raise TypeError("closed_form needs columns of numbers; debias the frequencies instead")
    return blocks, label


def noise_of(numbers: list[Part], features: int) -> tuple[Noise, Tensor]:
    """The noise of all features; and which may be moved, as those of directions may not."""
    scale, added, movable = torch.ones(features, features).double(), [], []
    start = 0
    for n in numbers:
        size = n.reports.stop - n.reports.start
        a, b = n.mechanism.second_moment(size)
        scale[start : start + size, start : start + size] = a
        added += [b] * size
        movable += [float(a == 1.0)] * size
        start += size
    diagonal = torch.tensor(added, dtype=torch.float64).diag()
    return Noise(scale, diagonal), torch.tensor(movable, dtype=torch.float64)
