r"""What every mechanism is: a channel, its matched cost, and its budget.

A mechanism turns a raw record x into a report y with density ``k(y | x)`` and owns the
transport cost and regularisation that are matched to it. Matched means

    k(y | x) = h(y) exp(-cost(x, y) / reg)      for some h that never sees x,

for then every coupling of a law P with the reports Q has, whatever P is,

    E[cost] + reg I(X; Y) = reg E KL(coupling(y | x) || k(y | x)) + terms in Q alone,

and the smallest possible value is reached exactly when the coupling is "draw x, then
apply the mechanism": when P is the raw law.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from privgan import checks
from privgan.mechanisms.bounds import Bounds, Records
from privgan.mechanisms.budget import Budget
from privgan.mechanisms.location import some_rows, winsorised
from privgan.sinkhorn import Cost
from privgan.streams import stream
from privgan.surroundings import usual
from privgan.values import Value


class Mechanism(Value, ABC):
    """A channel from records (n, d) to reports (m, d'), with its matched ``cost`` and ``reg``.

    A value: two are equal if they are of one class and made alike.

    noise: what is done to a record, in words. recovery: whether and how well the raw law can be
    had back from reports, in words. bounds: the public domain of the records; None where it is
    unknown, or given by the alphabet. dim: how many columns records must have; None: any.
    """

    cost: Cost
    reg: float
    noise: str
    recovery: str
    bounds: Bounds | None = None
    dim: int | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The public, deterministic part before the noise; the identity here."""
        return x

    def heated(self, times: float) -> tuple[Cost, float]:
        """Cost and reg of a coupling softer than the matched one: reg is ``times`` as large.

        Training starts there when the matched one would freeze its first mistakes.
        """
        return self.cost, self.reg * times

    def report_dim(self, d: int) -> int:
        """How many columns reports of records with ``d`` columns have."""
        return d

    @usual()
    def privatize(self, x: Records, *, seed: int | None = None, clip: bool = False) -> Records:
        """One report per row of ``x``, (n, d) to (n, d'), same type, dtype and device.

        Where there are bounds, a record outside them is an error, unless ``clip`` asks for the
        nearest record inside; the law behind the reports is then that of the clipped records.

        This is a simulation for research: floating-point noise from a seeded generator
        leaks in its low bits and a known seed subtracts away. ``seed=None`` takes fresh
        entropy. The noise is drawn on the CPU so that a seed means the same everywhere, from a
        stream of its own: whatever else was drawn with that seed, it is not this.
        """
        records = self._admit(checks.as_records("x", x), checks.flag("clip", clip))
        reports = self._draw(self.forward(records), stream(seed, "noise"))
        return reports if isinstance(x, Tensor) else reports.numpy()

    @usual()
    def location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        """Roughly where the records lie, by ``reports`` (m, d') alone: centre and spread, (d,).

        In the units of the records, float64, on the CPU; every spread is above 0. A generator
        starts from there, so that a training does not depend on units.
        """
        reports = checks.as_records("reports", reports)
        expected = None if self.dim is None else self.report_dim(self.dim)
        if expected not in (None, reports.shape[1]):
            raise ValueError(
                f"reports has {reports.shape[1]} columns, but {self!r} reports {expected}"
            )
        return self._location(some_rows(reports))

    @usual()
    def log_density(self, x: Tensor, y: Tensor) -> Tensor:
        """``log k(y_j | x_i)`` in nats, (n, m), for records ``x`` (n, d), reports ``y`` (m, d')."""
        x, y = checks.as_records("x", x), checks.as_records("y", y)
        self._check_dim(x)
        x = self.forward(x)
        self._check_pair(x, y)
        return self.cost.matrix(x, y) / -self.reg + self._log_normaliser(y)

    def log_likelihood(self, x: Tensor, y: Tensor) -> Tensor:
        """``log k(y_i | x_i)`` in nats, (n,), of report i for record i alone; as `log_density`."""
        x, y = checks.as_records("x", x), checks.as_records("y", y)
        if len(x) != len(y):
            raise ValueError(f"x has {len(x)} rows and y has {len(y)}; a record needs its report")
        x = self.forward(x)
        self._check_pair(x, y)
        return self.cost.paired(x, y) / -self.reg + self._log_normaliser(y)

    def evidence(self, y: Tensor, columns: slice) -> Tensor:
        """What reports ``y`` (m, d') say by themselves of a category in these ``columns``, (m, k).

        Log-likelihoods of every category, up to a term in y; 0 where they are not reported apart.
        """
        return y.new_zeros((len(y), columns.stop - columns.start))

    def unbiased(self, y: Tensor) -> Tensor:
        """Rows (m, k) whose mean, given a record, is the row that `forward` makes of it.

        Their means and `second_moment` are all that `closed_form` needs of a mechanism.
        """
        raise TypeError(f"{self!r} has no unbiased reports in closed form")

    def second_moment(self, d: int) -> tuple[float, float]:
        """a and b of E[u u' | x] = a x x' + b I, for `unbiased` rows u of records in d columns."""
        raise TypeError(f"the noise of {self!r} is not alike in all directions")

    def epsilon(self, delta: float = 0.0, sensitivity: float | None = None) -> float:
        """The budget, in nats, that one report spends on a whole record, at ``delta``.

        sensitivity: the largest distance between two records that could have been sent, in the
        norm that the noise is for; by default the diameter of ``bounds``.

        >>> pg.Laplace(0.5, bounds=pg.Box(0, 1, dim=3)).epsilon()  # 2 for each column
        6.0
        """
        return self.budget(sensitivity).epsilon(delta)

    @abstractmethod
    def budget(self, sensitivity: float | None = None) -> Budget:
        """What one report reveals of a whole record; ``sensitivity`` as in `epsilon`."""

    def coordinate_budget(self) -> Budget | None:
        """What it reveals of a single coordinate; None where that is the record or is unknown."""
        return None

    def grid(self, bins: int) -> Tensor:
        """``bins`` records across the bounds' widest coordinate, cells' middles, float64."""
        if self.bounds is None:
            raise BoundsMissing(f"{self!r} has no bounds to lay a grid over; pass points=")
        bins, widths = checks.positive_int("bins", bins), self.bounds.widths
        widest = widths.index(max(widths))
        grid = torch.tensor([self.bounds.center] * bins, dtype=torch.float64)
        steps = (torch.arange(bins, dtype=torch.float64) + 0.5) / bins - 0.5
        grid[:, widest] += widths[widest] * steps
        return grid

    def describe(self, delta: float = 1e-5) -> str:
        """Noise, budgets, recovery and clipping in plain words; ``delta`` where one is needed."""
        delta = checks.fraction("delta", delta)
        parts = {"noise": self.noise, **self._budgets_in_words(delta), "recovery": self.recovery}
        if self.bounds is not None:
            parts["clipping"] = (
                f"records outside {self.bounds!r} are refused; privatize(clip=True) moves them "
                "to the nearest record inside, and reports then recover the law of clip(X)"
            )
        return "\n".join([repr(self), *(f"  {name:<15} {text}" for name, text in parts.items())])

    @abstractmethod
    def _draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Reports of records that `forward` has seen, with noise from a CPU generator."""

    @abstractmethod
    def _log_normaliser(self, y: Tensor) -> Tensor | float:
        """log h(y), a number or (m,)."""

    def _location(self, reports: Tensor) -> tuple[Tensor, Tensor]:
        """`location` by reports in float64 on the CPU: the bounds', or else the reports' own."""
        if self.bounds is not None:
            widths = self.bounds.placed("widths", reports)
            return self.bounds.placed("center", reports).clone(), widths / 2
        if self.dim not in (None, reports.shape[1]):  # they do not lie where the records do
            return reports.new_zeros(self.dim), reports.new_ones(self.dim)
        centre, variance = winsorised(reports)
        return centre, torch.where(variance > 0.0, variance, 1.0).sqrt()

    def _admit(self, x: Tensor, clip: bool) -> Tensor:
        """The records that may be reported, or an error."""
        if self.bounds is None:
            if clip:
                raise ValueError(f"{self!r} has no bounds to clip to; give it bounds=...")
            return x
        if not clip:
            self.bounds.check(x)
        # Clipped in either case: a limit rounded to the precision of x may lie just outside.
        x = self.bounds.clip(x)
        self.bounds.check(x)  # the budget rests on it
        return x

    def _check_dim(self, x: Tensor) -> None:
        """Raise ValueError unless records ``x`` have the mechanism's own number of columns."""
        if self.dim not in (None, x.shape[1]):
            raise ValueError(f"x has {x.shape[1]} columns and {self!r} has {self.dim}")

    def _check_pair(self, x: Tensor, y: Tensor) -> None:
        """Raise unless `forward` could have made ``x``, and the noise ``y``."""
        checks.as_pair("x", x, "y", y)

    def _budgets_in_words(self, delta: float) -> dict[str, str]:
        single = self.coordinate_budget()
        words = {} if single is None else {"one coordinate": budget_in_words(single, delta)}
        return words | {"whole record": in_words(self, delta)}


class BoundsMissing(ValueError):
    """A budget was asked of a mechanism whose records are not known to be bounded."""


def check_bounds(bounds: Bounds | None) -> None:
    """Raise TypeError for what are neither bounds nor None."""
    if bounds is not None:
        checks.instance("bounds", bounds, Bounds)


def sensitivity_of(mechanism: Mechanism, norm: str, sensitivity: float | None) -> float:
    """The sensitivity given, or the ``norm`` ("l1", "l2") diameter of the mechanism's bounds."""
    if sensitivity is not None:
        return checks.positive("sensitivity", checks.public("sensitivity", sensitivity))
    if mechanism.bounds is None:
        raise BoundsMissing(
            "unbounded records have no epsilon; give the mechanism public bounds=, or pass "
            f"sensitivity=, the largest {norm.upper()} distance between two records"
        )
    return diameter(mechanism.bounds, norm)


def calibration(
    norm: str, sensitivity: float | None, bounds: Bounds | None
) -> tuple[float, Bounds | None]:
    """The sensitivity to calibrate to, from exactly one of a number and bounds."""
    if sensitivity is not None and bounds is None:
        return checks.positive("sensitivity", checks.public("sensitivity", sensitivity)), None
    if sensitivity is not None or bounds is None:
        raise TypeError(
            f"pass exactly one of sensitivity= (a public {norm.upper()} diameter) and bounds="
        )
    check_bounds(bounds)
    return diameter(bounds, norm), bounds


def diameter(bounds: Bounds, norm: str) -> float:
    return bounds.l1_diameter() if norm == "l1" else bounds.l2_diameter()


def refuse_sensitivity(mechanism: Mechanism, sensitivity: float | None) -> None:
    """Raise ValueError if a sensitivity was given to a channel that has none."""
    if sensitivity is not None:
        raise ValueError(f"the budget of {mechanism!r} is its own; leave sensitivity out")


def in_words(mechanism: Mechanism, delta: float) -> str:
    """The whole-record budget, or why there is none."""
    try:
        return budget_in_words(mechanism.budget(), delta)
    except BoundsMissing as error:
        return f"budget unknown: {error}"


def budget_in_words(budget: Budget, delta: float) -> str:
    at = f" at delta {delta:g}" if budget.mu else ""
    return f"epsilon {budget.epsilon(delta if budget.mu else 0.0):.4g}{at}"
