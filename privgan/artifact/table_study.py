"""The comparison of 11_tables: trainings and rivals on the same reports, over budgets and seeds."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import privgan as pg
from privgan.artifact import plotting
from privgan.artifact.claims import found_in_words, mean_and_error
from privgan.artifact.sweep import side_by_side
from privgan.artifact.table_rivals import RIVALS
from privgan.artifact.tables import Raw, classifier_error, pmse, total_variation
from privgan.tables import train

OURS = "matched likelihood"
RAW = "raw rows"  # the ceiling: other people of the same table
FIGURES = {  # how a table calls them
    "one_way": "columns (TV)",
    "two_way": "pairs (TV)",
    "classifier": "classifier's error",
    "pmse": "pMSE",
}

Rows = list[dict[str, Any]]


def compare(
    raw: Raw,
    epsilons: Sequence[float],
    seeds: Sequence[int],
    *,
    n: int | None = None,
    steps: int,
    checkpoint_dir: str = "",
) -> Rows:
    """Every method's figures at every budget and seed, on the same simulated reports.

    n: how many people report; all of the training rows by default.
    """
    people = raw.train if n is None else raw.train.iloc[:n]
    folder = str(Path(checkpoint_dir).absolute()) if checkpoint_dir else ""
    calls = [(raw, people, e, s, steps, folder) for e in epsilons for s in seeds]
    truth, test = (raw.table.codes(raw.table.records(frame)) for frame in (raw.train, raw.test))
    other = np.random.default_rng(0).permutation(len(test))[: len(test) // 2]
    rest = np.setdiff1d(np.arange(len(test)), other)
    one, two = total_variation(test, truth, raw.table)
    ceiling = (one, two, classifier_error(truth, test, _target(raw)), pmse(test[other], test[rest]))
    top = {"method": RAW, "epsilon": math.inf, "seed": 0, **_named(ceiling)}
    return [top, *itertools.chain.from_iterable(side_by_side(_one, calls))]


def _one(raw: Raw, people: Any, epsilon: float, seed: int, steps: int, checkpoint_dir: str) -> Rows:
    """Every method at one budget and seed."""
    table = raw.table
    truth, test = (table.codes(table.records(frame)) for frame in (raw.train, raw.test))
    reports = table.simulate(people, epsilon=epsilon, seed=seed)
    save = Path(checkpoint_dir) / f"{raw.name} {epsilon:g} {seed}.ckpt" if checkpoint_dir else None
    model, _ = train(table, reports, steps=steps, seed=seed, checkpoint=save, progress=False)
    made = {OURS: table.codes(model.sample(len(truth), seed=seed))}
    made |= {name: rival(table, reports, len(truth), seed) for name, rival in RIVALS.items()}
    rows = []
    for method, codes in made.items():
        one, two = total_variation(codes, truth, table)
        found = (one, two, classifier_error(codes, test, _target(raw)), pmse(codes, test))
        rows.append({"method": method, "epsilon": epsilon, "seed": seed, **_named(found)})
    return rows


def _named(figures: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(FIGURES, figures, strict=True))


def _target(raw: Raw) -> int:
    return [column.name for column in raw.table.columns].index(raw.target)


def by_seed(rows: Rows, method: str, epsilon: float, figure: str) -> list[float]:
    """A method's figure at one budget, for every seed."""
    return [r[figure] for r in rows if r["method"] == method and r["epsilon"] == epsilon]


def mean(rows: Rows, method: str, epsilon: float, figure: str) -> float:
    """Over seeds."""
    return float(np.mean(by_seed(rows, method, epsilon, figure)))


def best_rival(rows: Rows, epsilon: float, figure: str) -> str:
    """The rival with the least mean of a figure."""
    return min(RIVALS, key=lambda rival: mean(rows, rival, epsilon, figure))


def ratio(rows: Rows, epsilon: float, figure: str) -> np.ndarray:
    """Ours over the best rival's, which saw the same reports, for every seed."""
    own, other = _beside(rows, epsilon, figure)
    return own / other


def gap(rows: Rows, epsilon: float, figure: str) -> np.ndarray:
    """The best rival's less ours, from the same reports, for every seed."""
    own, other = _beside(rows, epsilon, figure)
    return other - own


def _beside(rows: Rows, epsilon: float, figure: str) -> tuple[np.ndarray, np.ndarray]:
    rival = best_rival(rows, epsilon, figure)
    own, other = (np.array(by_seed(rows, m, epsilon, figure)) for m in (OURS, rival))
    return own, other


def table(rows: Rows, epsilons: Sequence[float]) -> Any:
    """Every method's figures at every budget, and those of raw rows, as a notebook renders them."""
    lines = []
    for epsilon, methods in [*((e, [OURS, *RIVALS]) for e in epsilons), (math.inf, [RAW])]:
        for method in methods:
            found = [mean_and_error(by_seed(rows, method, epsilon, f)) for f in FIGURES]
            budget = "-" if method == RAW else f"{epsilon:g}"
            lines.append([budget, method, *(found_in_words(**figure) for figure in found)])
    return plotting.table(lines, ["epsilon", "method", *FIGURES.values()])


@dataclass(frozen=True)
class Recovered:
    """Reports (n, 2) of places, and the density that they tell: weights (k,) of points (k, 2)."""

    reports: Tensor
    points: Tensor
    weights: Tensor


def recovered_map(
    cities: np.ndarray, *, reach: float, degrees: float, steps: int, seed: int
) -> Recovered:
    """The density of places (n, 2), told by their reports under planar Laplace noise.

    reach: the mean distance in degrees that a report lies from its place. degrees: the side of the
    grid's cells.
    """
    mechanism = pg.EuclideanLaplace(reach / 2)  # the radius is Gamma(2, scale)
    x = torch.from_numpy(cities).float()
    reports = mechanism.privatize(x, seed=seed)
    lines = [
        torch.arange(low + degrees / 2, high, degrees)
        for low, high in ((-180.0, 180.0), (-60.0, 84.0))
    ]
    atoms = pg.Atoms(torch.cartesian_prod(*lines))
    batch = min(2000, len(x) // 2)
    loss = pg.LikelihoodLoss.matched(mechanism)
    pg.fit(
        atoms,
        reports,
        loss,
        steps=steps,
        batch_size=batch,
        lr=0.3,
        average=0.9,
        seed=seed,
        progress=False,
    )
    return Recovered(reports, atoms.points, atoms.weights.detach())


def map_errors(cities: np.ndarray, maps: Sequence[Recovered]) -> dict[str, list[float]]:
    """How far reports, and the densities told by them, are from the places: of every map."""
    return {
        "reports": [cell_variation(cities, m.reports) for m in maps],
        "recovered": [cell_variation(cities, m.points, m.weights) for m in maps],
    }


def cell_variation(cities: np.ndarray, made: Tensor, weights: Tensor | None = None) -> float:
    """Total variation between places and others (m, 2), weighted, by cells of 10 degrees."""
    every = [f.new_ones(len(f)) for f in (torch.from_numpy(cities), made.double())]
    laws = []
    for places, w in (
        (torch.from_numpy(cities), every[0]),
        (made.double(), every[1] if weights is None else weights.double()),
    ):
        limits = places.new_tensor([179.9, 89.9])
        cell = ((places.clamp(-limits, limits) + places.new_tensor([180.0, 90.0])) // 10).long()
        laws.append(torch.bincount(cell[:, 0] * 18 + cell[:, 1], w, minlength=648) / w.sum())
    return float((laws[0] - laws[1]).abs().sum() / 2)
