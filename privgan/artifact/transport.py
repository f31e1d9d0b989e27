"""Exact optimal transport between samples, by POT's network simplex, with the digits it drops."""

import math
from typing import NamedTuple

import numpy as np
import ot

REFINEMENTS = 6  # of a plan, at most: each brings out costs some 1e-10 times as large
ACCURATE = 1e-7  # of a plan's cost: what it may exceed the best one's by


class Plan(NamedTuple):
    """Masses (n, m) with sum 1, the rows' potential (n,) in cost units, and whether it is exact."""

    masses: np.ndarray
    potential: np.ndarray
    exact: bool


def best_plan(costs: np.ndarray, a: np.ndarray | None = None) -> Plan:
    """The best plan for finite costs (n, m), uniform on columns, with masses ``a`` (n,) on rows.

    a: uniform if None. The network simplex keeps the digits of the largest cost: where an outlier
    on both sides sets that, all other costs look alike to it. Costs less any potentials have the
    same best plan. If a plan exceeds the bound of its potentials by ``gap``, no pair of the best
    one costs more than that if all its masses are whole numbers, as between uniform weights they
    can be: larger costs may be cut to it, and what is left is shown to the simplex in its own unit.
    Of other weights a plan that is not exact is only told to be so.
    """
    n, m = costs.shape
    mass = 1.0 if a is not None else math.lcm(n, m)
    rows = np.full(n, mass / n) if a is None else a / a.sum()
    unit = float(abs(costs).max()) or 1.0  # POT's tolerances are for costs of order one
    costs = costs / unit
    left = shown = costs
    potential, scale = np.zeros(n), 1.0
    for _ in range(REFINEMENTS):
        plan, said = ot.emd(rows, np.full(m, mass / m), shown, numItermax=5_000_000, log=True)
        middle = np.median(said["u"])
        own = said["u"] - middle
        potential += unit * scale * own
        left = left - own[:, None] - (said["v"] + middle)
        least = mass * min(0.0, left.min())
        gap = (plan * left).sum() - least
        price = (plan * costs).sum()
        exact = min(scale * gap, price - mass * costs.min()) <= ACCURATE * price
        cut = 2.0 * (gap - least)
        if exact or a is not None or cut >= 0.5 * left.max():  # there is nothing to cut
            break
        left, scale = left / cut, scale * cut
        shown = np.minimum(left, 1.0)
    return Plan(plan / mass, potential, bool(exact) and said["warning"] is None)
