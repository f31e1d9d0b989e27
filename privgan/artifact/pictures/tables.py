"""11_tables: what is lost between raw and generated tables, and a map told by private places."""

import math
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from privgan.artifact.plotting import PAGE, curve, look, outside
from privgan.artifact.table_study import OURS, RAW, Recovered, Rows, by_seed, mean

LOOKS = {  # of a method, in `plotting`
    OURS: "matched",
    "independent": "debiased",
    "LoPub-like": "wrong cost",
    "CALM-like": "other",
    "Gaussian copula": "closed form",
}
LABELS = {"two_way": "pairs of columns (TV)", "classifier": "classifier's error"}


def losses(tables: Mapping[str, Rows], epsilons: Sequence[float]) -> Figure:
    """A row a table: pairs' total variation and the classifier's error against the budget."""
    size = (PAGE, 0.5 + 1.8 * len(tables))
    fig, axes = plt.subplots(len(tables), 2, figsize=size, sharex=True, squeeze=False)
    for line, (name, rows) in zip(axes, tables.items(), strict=True):
        for ax, (figure, label) in zip(line, LABELS.items(), strict=True):
            for method, role in LOOKS.items():
                found = np.array([by_seed(rows, method, e, figure) for e in epsilons]).T
                curve(ax, epsilons, found, look(role, label=method))
            top = mean(rows, RAW, math.inf, figure)
            ax.axhline(top, label=RAW, **look("raw", marker="", linestyle=":"))
            ax.set(xscale="log", title=name, ylabel=label)
            ax.set_xticks(epsilons, [f"{e:g}" for e in epsilons])
            ax.minorticks_off()
    for ax in axes[-1]:
        ax.set_xlabel(r"budget of a row, $\varepsilon$")
    outside(fig, axes[0, 0], 6)
    return fig


def maps(cities: np.ndarray, recovered: Recovered) -> Figure:
    """Raw places (n, 2), their reports, and the density told by these, side by side."""
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 1.5), sharex=True, sharey=True)
    clouds = {"raw": torch.from_numpy(cities), "privatized": recovered.reports}
    for ax, (role, cloud) in zip(axes[:2], clouds.items(), strict=True):
        colour = look(role)["color"]
        ax.scatter(*cloud.T.numpy(), s=0.2, c=colour, linewidths=0, rasterized=True)
    side = len(recovered.points[:, 0].unique())
    shade = recovered.weights.reshape(side, -1).T.sqrt().numpy()
    whole = (-180, 180, -60, 84)
    axes[2].imshow(shade, origin="lower", extent=whole, cmap="cividis", aspect="auto")
    for ax, title in zip(axes, ("places", "reports", "recovered from reports"), strict=True):
        ax.set(xlim=whole[:2], ylim=whole[2:], xticks=[], yticks=[], title=title)
    return fig
