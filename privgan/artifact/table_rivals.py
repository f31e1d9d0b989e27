"""What the local-privacy literature makes of a table's reports, each small, on the same reports.

Every rival takes a table, reports and a number of rows, and gives cells (n, columns).
"""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree
from scipy.stats import norm
from torch import Tensor

from privgan.mechanisms import Sampled
from privgan.reports import Reports
from privgan.tables import Table
from privgan.tables.training import by_column

ROUNDS = 30  # of expectation-maximisation on a pair of columns
UPDATES = 8  # passes over all pairs

Law = np.ndarray  # of cells, (k,), or of two columns' cells, (k, l)


def independent(table: Table, reports: Reports, n: int, seed: int) -> np.ndarray:
    """Debiased marginals, independent (Wang et al., "Locally differentially private protocols for
    frequency estimation", 2017)."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.choice(len(p), n, p=p) for p in _marginals(reports)], 1)


def lopub(table: Table, reports: Reports, n: int, seed: int) -> np.ndarray:
    """Pairs by expectation-maximisation, a tree of the most dependent ones, rows along it
    (Ren et al., "LoPub: high-dimensional crowdsourced data publication with local differential
    privacy", 2018; a tree instead of its junction tree)."""
    rng = np.random.default_rng(seed)
    pairs = {pair: _likeliest(reports, *pair) for pair in _pairs(table)}
    d = len(table.columns)
    told = np.zeros((d, d))
    for (a, b), law in pairs.items():
        told[a, b] = -1.0 - _information(law)  # an edge of nearly 0 would count for none
    tree = minimum_spanning_tree(told)
    order, before = breadth_first_order(tree + tree.T, 0, directed=False)
    codes = np.zeros((n, d), np.int64)
    first = _marginals(reports)[0]
    codes[:, 0] = rng.choice(len(first), n, p=first)
    for c in order[1:]:
        other = before[c]
        law = pairs[other, c] if other < c else pairs[c, other].T
        codes[:, c] = _given(law, codes[:, other], rng)
    return codes


def calm(table: Table, reports: Reports, n: int, seed: int) -> np.ndarray:
    """Debiased pairs made consistent, and rows moved until they have them (Zhang et al., "CALM:
    consistent adaptive local marginal for marginal release under local differential privacy", 2018;
    rows as in Zhang et al., "PrivSyn", 2021)."""
    rng = np.random.default_rng(seed)
    singles = _marginals(reports)
    pairs = {}
    for a, b in _pairs(table):
        law = _simplex(_debiased(reports, a, b))
        for _ in range(20):  # to the columns' own marginals, which more reports tell
            law = law * (singles[a] / np.maximum(law.sum(1), 1e-12))[:, None]
            law = law * (singles[b] / np.maximum(law.sum(0), 1e-12))
        pairs[a, b] = law / law.sum() if law.sum() > 0 else np.outer(singles[a], singles[b])
    codes = independent(table, reports, n, seed)
    for update in range(UPDATES):
        for (a, b), law in pairs.items():
            _move(codes, a, b, law, 0.5 * 0.8**update, rng)
    return codes


def copula(table: Table, reports: Reports, n: int, seed: int) -> np.ndarray:
    """A Gaussian copula on debiased moments of normal scores (Yang et al., "Copula-based
    multi-dimensional crowdsourced data synthesis and release with local privacy", 2017)."""
    rng = np.random.default_rng(seed)
    singles = _marginals(reports)
    scores = []
    for p in singles:
        score = norm.ppf(np.clip(p.cumsum() - p / 2, 1e-4, 1 - 1e-4))
        score = score - p @ score
        scores.append(score / max(np.sqrt(p @ score**2), 1e-9))
    matrix = np.eye(len(singles))
    for a, b in _pairs(table):
        moment = scores[a] @ _debiased(reports, a, b) @ scores[b]
        matrix[a, b] = matrix[b, a] = np.clip(moment, -0.99, 0.99)
    values, vectors = np.linalg.eigh(matrix)
    root = vectors * np.sqrt(np.maximum(values, 1e-6))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    u = norm.cdf(rng.standard_normal((n, len(root))) @ root.T)
    cells = [np.searchsorted(p.cumsum(), u[:, c]) for c, p in enumerate(singles)]
    return np.stack([np.minimum(c, len(p) - 1) for c, p in zip(cells, singles, strict=True)], 1)


RIVALS: dict[str, Callable[[Table, Reports, int, int], np.ndarray]] = {
    "independent": independent,
    "LoPub-like": lopub,
    "CALM-like": calm,
    "Gaussian copula": copula,
}


def _pairs(table: Table) -> list[tuple[int, int]]:
    return [*itertools.combinations(range(len(table.columns)), 2)]


def _marginals(reports: Reports) -> list[Law]:
    return [_simplex(c.unbiased(y.double()).mean(0).numpy()) for c, y in by_column(reports)]


def _both(reports: Reports, a: int, b: int) -> tuple[Tensor, Tensor]:
    """What the reports that hold both columns say of each, (m, k) and (m, l), float64."""
    (_, first), (_, second) = by_column(reports)[a], by_column(reports)[b]
    if isinstance(reports.mechanism, Sampled):
        drawn = reports.mechanism.drawn(reports.rows.tensor())
        both = drawn[:, a] & drawn[:, b]
        first, second = first[both[drawn[:, a]]], second[both[drawn[:, b]]]
    return first.double(), second.double()


def _apart(reports: Reports, a: int, b: int) -> Law:
    singles = _marginals(reports)
    found: np.ndarray = np.outer(singles[a], singles[b])
    return found


def _debiased(reports: Reports, a: int, b: int) -> Law:
    first, second = _both(reports, a, b)
    if not len(first):  # nobody reported both: there is no telling, as if they were independent
        return _apart(reports, a, b)
    channels = [channel for channel, _ in by_column(reports)]
    law = channels[a].unbiased(first).T @ channels[b].unbiased(second) / len(first)
    found: np.ndarray = law.numpy()
    return found


def _likeliest(reports: Reports, a: int, b: int) -> Law:
    first, second = _both(reports, a, b)
    if not len(first):
        return _apart(reports, a, b)
    sides = []
    for c, y in ((a, first), (b, second)):
        channel = by_column(reports)[c][0]
        sides.append((-channel.cost.matrix(torch.eye(channel.k).double(), y)).exp())
    p = torch.full((len(sides[0]), len(sides[1])), 1.0 / len(sides[0]) / len(sides[1])).double()
    for _ in range(ROUNDS):
        whole = ((p.T @ sides[0]) * sides[1]).sum(0)  # (m,)
        p = p * ((sides[0] / whole) @ sides[1].T) / len(first)
    found: np.ndarray = (p / p.sum()).numpy()
    return found


def _simplex(law: Law) -> Law:
    """The nearest probabilities: Norm-Sub of Wang et al., "Locally differentially private frequency
    estimation with consistency", 2020."""
    flat = np.sort(law.ravel())[::-1]
    excess = (flat.cumsum() - 1) / np.arange(1, len(flat) + 1)
    shift = excess[np.flatnonzero(flat > excess)[-1]]
    found: np.ndarray = np.maximum(law - shift, 0.0)
    return found / found.sum()


def _information(law: Law) -> float:
    product = law.sum(1, keepdims=True) * law.sum(0)
    there = law > 0
    return float((law[there] * np.log(law[there] / product[there])).sum())


def _given(law: Law, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A cell of the second column for each of the first's."""
    rows = law + 1e-12
    total = (rows / rows.sum(1, keepdims=True)).cumsum(1)
    found = (rng.random(len(codes))[:, None] > total[codes]).sum(1)
    return np.minimum(found, law.shape[1] - 1)


def _move(
    codes: np.ndarray, a: int, b: int, law: Law, part: float, rng: np.random.Generator
) -> None:
    """Give a ``part`` of the rows in cells that hold too many values of cells with too few."""
    place = codes[:, a] * law.shape[1] + codes[:, b]
    want = law.ravel() * len(codes)
    have = np.bincount(place, minlength=law.size)
    surplus = np.maximum(have - want, 0)
    leave = rng.random(len(codes)) < part * (surplus / np.maximum(have, 1))[place]
    lacking = np.maximum(want - have, 0)
    if not leave.any() or not lacking.sum():
        return
    new = rng.choice(law.size, int(leave.sum()), p=lacking / lacking.sum())
    codes[leave, a], codes[leave, b] = np.divmod(new, law.shape[1])
