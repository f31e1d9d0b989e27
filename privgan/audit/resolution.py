r"""What can be told about a law from reports, before anyone trains.

On points x_1, ..., x_k, let a law differ from the uniform one by relative changes v with mean 0
and mean square 1: weights (1 + t v_i) / k. In the normalisation

    M_iy = k(y | x_i) / sqrt(k m(y)),      m(y) = mean_i k(y | x_i),

M's largest singular value is 1, for the constant v, and along its r-th left singular vector the
Fisher information about t in one report is s_r^2: n reports know t to 1 / (s_r sqrt(n)). A
direction in which that exceeds 1 is not to be had: the law could as well lack what it adds.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from privgan import checks
from privgan.audit.attack import own_seeds
from privgan.mechanisms import Mechanism
from privgan.surroundings import usual
from privgan.values import Value

REPORTS = 2**14  # drawn in equal numbers from every point, to integrate over y


@dataclass(frozen=True, eq=False)
class Identifiability(Value):
    """The channel's singular values, from 1 downwards, on the rows of ``points`` (k, d)."""

    mechanism: Mechanism
    points: Tensor
    singular_values: tuple[float, ...]

    def resolved(self, n: int) -> int:
        """In how many of the k - 1 directions ``n`` reports tell a law from the uniform one."""
        least = 1 / math.sqrt(checks.positive_int("n", n))
        return sum(s > least for s in self.singular_values[1:])

    def verdict(self, n: int = 100_000) -> str:
        """In words, for ``n`` reports."""
        directions, resolved = len(self.singular_values) - 1, self.resolved(n)
        if resolved == directions:
            return f"{n} reports resolve all {directions} directions of a law on these points"
        if resolved == 0:
            return f"{n} reports resolve nothing: they cannot tell any law here from the uniform"
        following = self.singular_values[resolved + 1]
        many = f"takes {(1 / following) ** 2:.2g}" if following else "no number resolves"
        return (
            f"{n} reports resolve {resolved} of {directions} directions of a law on these points; "
            f"the next one {many}"
        )

    def __str__(self) -> str:
        first = ", ".join(f"{s:.2g}" for s in self.singular_values[:8])
        more = ", ..." if len(self.singular_values) > 8 else ""
        return f"{self.mechanism!r} on {len(self.points)} points\n  {first}{more}\n  " + (
            "\n  ".join(self.verdict(n) for n in (10_000, 1_000_000))
        )


@usual()
def identifiability(
    mechanism: Mechanism, points: Tensor | None = None, *, bins: int = 64, seed: int = 0
) -> Identifiability:
    """The singular values of ``mechanism`` on ``points`` (k, d), records of its domain.

    By default the points are the alphabet, or the middles of ``bins`` equal cells across the
    bounds, along their widest coordinate and through their center. The reports that integrate
    over y are simulated from ``seed``; values are right to a few hundredths of themselves.

    >>> bit = pg.RandomizedResponse.calibrate(epsilon=1.0, k=2)
    >>> asked = pg.mechanisms.Sampled((slice(0, 2), bit), (slice(2, 4), bit), choose=1)
    >>> two_bits = torch.tensor([[1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1.0]])
    >>> pg.audit.identifiability(asked, two_bits).resolved(10**6)  # of 3: a correlation is hidden
    2
    """
    checks.instance("mechanism", mechanism, Mechanism)
    if points is None:
        points = mechanism.grid(checks.positive_int("bins", bins))
    points = checks.as_records("points", points).double()
    k = len(points)
    if k < 2:
        raise ValueError("points has one row; give two records to tell apart, or raise bins")
    try:
        mechanism._admit(points, clip=False)
    except ValueError as error:
        raise ValueError(f"points, as x, do not fit {mechanism!r}: {error}") from None
    each = max(1, REPORTS // k)
    (own,) = own_seeds(seed, "identifiability", 1)
    reports = mechanism.privatize(points.repeat_interleave(each, 0), seed=own)
    log_k = mechanism.log_density(points, reports)
    log_m = torch.logsumexp(log_k, 0) - math.log(k)
    # With y drawn from m itself, each report stands for 1 / (each k) of m's mass.
    m = (log_k - log_m).exp_() / (k * math.sqrt(each))
    # Only up to the error of the draws is the constant direction apart from the others: take it
    # out by hand.
    others = torch.linalg.svdvals(m - m.mean(0))[: k - 1]
    others[others < torch.finfo(m.dtype).eps * max(m.shape)] = 0.0  # rounding, of at most 1
    return Identifiability(mechanism, points, (1.0, *others.tolist()))
