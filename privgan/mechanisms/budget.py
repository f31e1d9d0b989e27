r"""Local differential privacy in numbers: budgets, and the Gaussian's exact trade-off.

A channel k is (epsilon, delta)-locally private if, for every pair of records x, x' of the
public domain and every set S of reports, ``k(S | x) <= e^epsilon k(S | x') + delta``.

Gaussian noise of std sigma on records that differ by at most Delta (L2) depends on
``mu = Delta / sigma`` alone, and exactly (Balle and Wang, "Improving the Gaussian mechanism for
differential privacy", ICML 2018)

    delta(epsilon) = Phi(mu/2 - epsilon/mu) - e^epsilon Phi(-mu/2 - epsilon/mu).

With s = mu/2 - epsilon/mu and t = mu/2 + epsilon/mu, phi(s) = e^epsilon phi(t), so that this is
phi(s) (R(-s) - R(t)) in Mills' ratio R = (1 - Phi) / phi: no term of it overflows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import scipy

from privgan import checks

# The bisections below err by less than 5e-12, relatively. Results are moved by more than that
# towards safety, and mu by more than epsilon, so that what was calibrated to an epsilon never
# reports a larger one.
MU_MARGIN, EPSILON_MARGIN = 1e-10, 2e-11


def gaussian_delta(epsilon: float, mu: float) -> float:
    """The least delta at ``epsilon >= 0`` for noise of std sensitivity / ``mu``."""
    if epsilon != 0.0:
        epsilon = checks.positive("epsilon", epsilon)
    return math.exp(_log_delta(epsilon, checks.positive("mu", mu)))


def gaussian_epsilon(delta: float, mu: float) -> float:
    """The least epsilon at ``delta`` in (0, 1), nats; never too small."""
    target = math.log(checks.probability("delta", delta))
    mu = checks.positive("mu", mu)
    if _log_delta(0.0, mu) <= target:
        return 0.0
    # delta <= exp(-(epsilon/mu - mu/2)^2 / 2), so this much is enough.
    high = mu * mu / 2 + mu * math.sqrt(-2 * target)
    if high == math.inf:
        raise ValueError(
            f"mu is {mu:.4g}, of which float64 does not hold the epsilon, over mu^2 / 2; add more "
            "noise"
        )
    _, enough = _bracket(lambda epsilon: _log_delta(epsilon, mu) <= target, 0.0, high)
    return enough * (1 + EPSILON_MARGIN)


def gaussian_mu(epsilon: float, delta: float) -> float:
    """The largest mu, sensitivity over sigma, that is (epsilon, delta)-private.

    Relative error below 1e-9, for epsilon in [1e-4, 800] and delta in [1e-15, 1e-3], and always
    towards more noise.
    """
    epsilon = checks.positive("epsilon", epsilon)
    target = math.log(checks.probability("delta", delta))
    low, high = 1.0, 1.0
    while _log_delta(epsilon, low) > target:
        low /= 2
    while _log_delta(epsilon, high) <= target:
        high *= 2
    private, _ = _bracket(lambda mu: _log_delta(epsilon, mu) > target, low, high)
    return private * (1 - MU_MARGIN)


@dataclass(frozen=True)
class Budget:
    """What reports reveal of a record, as two parts that compose each by a rule of its own.

    pure: epsilon of the parts that need no delta, nats; it adds. mu: sensitivity over sigma of
    the Gaussian parts; its squares add, and exactly so (Dong, Roth and Su, "Gaussian differential
    privacy", 2022). Raises TypeError or ValueError for a part that is no number from 0 upwards.

    Several reports of one record compose: ``first + second``, ``sum(budgets)``, and ``3 * budget``
    for three reports of one kind. Of Gaussian reports that is tight; beside pure ones it is sound.
    """

    pure: float = 0.0
    mu: float = 0.0

    __array_ufunc__: ClassVar[None] = None  # np.int64(3) * budget is left to the budget

    def __post_init__(self) -> None:
        for name in ("pure", "mu"):
            value = checks.number(name, getattr(self, name))
            if not 0.0 <= value < math.inf:
                cure = "; add more noise, or ask for fewer reports" if value == math.inf else ""
                raise ValueError(f"{name} must be at least 0 and finite, got {value!r}{cure}")
            object.__setattr__(self, name, value)

    def __add__(self, other: "Budget") -> "Budget":
        if not isinstance(other, Budget):
            return NotImplemented
        return Budget(self.pure + other.pure, math.hypot(self.mu, other.mu))

    def __radd__(self, other: object) -> "Budget":
        """``sum`` starts from 0, which is nothing spent."""
        if isinstance(other, int) and other == 0:
            return self
        return NotImplemented

    def __mul__(self, times: int) -> "Budget":
        """That of ``times`` independent reports of one record."""
        if isinstance(times, Budget):
            return NotImplemented
        count = checks.number("times", checks.integer("times", times))
        if count < 0:
            raise ValueError(f"times must be at least 0, got {times}")
        return Budget(count * self.pure, math.sqrt(count) * self.mu)

    __rmul__ = __mul__

    def epsilon(self, delta: float = 0.0) -> float:
        """Epsilon at ``delta``, nats; a delta of 0 serves where no noise is Gaussian.

        Exact for parts of one kind. The pure parts of a mixture are added to the Gaussian parts'
        own epsilon at ``delta``: sound, for any records, and at most by ``pure`` too large.
        """
        if delta != 0.0:
            checks.probability("delta", delta)
        if self.mu == 0.0:
            return self.pure
        if delta == 0.0:
            raise ValueError(
                "Gaussian noise keeps no epsilon at delta = 0; give delta in (0, 1), say 1e-5"
            )
        return self.pure + gaussian_epsilon(delta, self.mu)


def _log_delta(epsilon: float, mu: float) -> float:
    """log delta(epsilon), -inf where it underflows even so."""
    s, t = mu / 2 - epsilon / mu, mu / 2 + epsilon / mu
    if s > 1.0:  # delta is near 1: what it lacks keeps its digits, and R(-s) would overflow
        return math.log1p(-_phi(s) * (_mills(s) + _mills(t)))
    if mu > 1e-3:
        difference = _mills(-s) - _mills(t)
    else:  # the two would cancel: expand about their middle, where R' = z R - 1
        z = epsilon / mu
        first = z * _mills(z) - 1
        second = _mills(z) + z * first
        third = 2 * first + z * second
        difference = -mu * (first + mu * mu / 24 * third)
    # A product of the two could underflow.
    return math.log(_phi(0.0)) + math.log(difference) - s * s / 2 if difference > 0 else -math.inf


def _phi(z: float) -> float:
    return math.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _mills(z: float) -> float:
    return math.sqrt(math.pi / 2) * float(scipy.special.erfcx(z / math.sqrt(2)))


def _bracket(holds: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """Neighbouring floats where a condition that fails at ``low`` begins to hold by ``high``."""
    while low < (middle := low + (high - low) / 2) < high:
        low, high = (low, middle) if holds(middle) else (middle, high)
    return low, high
