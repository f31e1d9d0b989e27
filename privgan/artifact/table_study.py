"""The comparison of 11_tables: trainings and rivals on the same reports, over budgets and seeds."""

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import privgan as pg
from privgan.artifact.sweep import side_by_side
from privgan.artifact.table_rivals import RIVALS
from privgan.artifact.tables import Raw, classifier_error, pmse, total_variation
from privgan.tables import train

OURS = "matched likelihood"
RAW = "raw rows"  # the ceiling: other people of the same table
FIGURES = ("one_way", "two_way", "classifier", "pmse")
COLOURS = ("#0072B2", "#999999", "#D55E00", "#009E73", "#CC79A7", "#000000")

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


def best_rival(rows: Rows, epsilon: float, figure: str) -> tuple[str, float]:
    """The rival with the least mean of a figure, and that mean."""
    means = {name: mean(rows, name, epsilon, figure) for name in RIVALS}
    name = min(means, key=lambda rival: means[rival])
    return name, means[name]


def ratio(rows: Rows, epsilon: float, figure: str) -> float:
    """Ours over the best rival's mean."""
    return mean(rows, OURS, epsilon, figure) / best_rival(rows, epsilon, figure)[1]


def gap(rows: Rows, epsilon: float, figure: str) -> float:
    """The best rival's mean less ours."""
    return best_rival(rows, epsilon, figure)[1] - mean(rows, OURS, epsilon, figure)


def in_words(rows: Rows, epsilons: Sequence[float]) -> str:
    """A line for every budget and method, and one for raw rows."""
    lines = [f"{'epsilon':>7}  {'':20}" + "".join(f"{figure:>12}" for figure in FIGURES)]
    for epsilon, methods in [*((e, [OURS, *RIVALS]) for e in epsilons), (math.inf, [RAW])]:
        for method in methods:
            figures = "".join(f"{mean(rows, method, epsilon, f):12.3f}" for f in FIGURES)
            lines.append(f"{epsilon:7g}  {method:20}{figures}")
    return "\n".join(lines)


def draw(axes: Any, rows: Rows, epsilons: Sequence[float], title: str) -> None:
    """Two-way total variation and classifier error against the budget, on two axes."""
    labels = {"two_way": "2-way total variation", "classifier": "classifier error"}
    for ax, (figure, label) in zip(axes, labels.items(), strict=True):
        for method, colour in zip([OURS, *RIVALS], COLOURS, strict=False):
            found = np.array([by_seed(rows, method, epsilon, figure) for epsilon in epsilons])
            means = found.mean(1)
            bars = means - found.min(1), found.max(1) - means
            style = {"color": colour, "marker": "o" if method == OURS else ".", "lw": 1}
            ax.errorbar(epsilons, means, bars, label=method, capsize=2, **style)
        ax.axhline(mean(rows, RAW, math.inf, figure), color="k", ls=":", lw=1, label=RAW)
        ax.set(xscale="log", xticks=[*epsilons], title=title, xlabel="epsilon a record")
        ax.set(xticklabels=[f"{e:g}" for e in epsilons], ylabel=label)
        ax.minorticks_off()


def recovered_map(
    cities: np.ndarray, *, reach: float, degrees: float, steps: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Reports of places (n, 2) under planar Laplace noise, and the density that they tell.

    reach: the mean distance in degrees that a report lies from its place. degrees: the side of the
    grid's cells. Returns reports (n, 2), the grid's points (k, 2), and their weights (k,).
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
    return reports, atoms.points, atoms.weights.detach()


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


def draw_maps(axes: Any, cities: np.ndarray, found: tuple[Tensor, Tensor, Tensor]) -> None:
    """Raw places, their reports, and the recovered density, side by side."""
    reports, points, weights = found
    for ax, cloud, role in (
        (axes[0], torch.from_numpy(cities), "raw"),
        (axes[1], reports, "privatized"),
    ):
        colour = "#000000" if role == "raw" else "#999999"
        ax.scatter(*cloud.T, s=0.2, c=colour, linewidths=0, rasterized=True)
        ax.set(title="places" if role == "raw" else "reports")
    side = len(points[:, 0].unique())
    axes[2].imshow(
        weights.reshape(side, -1).T.sqrt(),
        origin="lower",
        extent=(-180, 180, -60, 84),
        cmap="cividis",
        aspect="auto",
    )
    axes[2].set(title="recovered from reports")
    for ax in axes:
        ax.set(xlim=(-180, 180), ylim=(-60, 84), xticks=[], yticks=[])
