"""08_mechanisms: frequencies of categories, and a table of numbers and a category."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from privgan.artifact.plotting import PAGE, look, outside, shades


def frequencies(truth: ArrayLike, found: Mapping[str, Mapping[str, ArrayLike]]) -> Figure:
    """A panel a channel; in it, for every role, the weights of all seeds (seeds, k)."""
    fig, axes = plt.subplots(1, len(found), figsize=(PAGE, 2.2), sharey=True)
    truth = np.asarray(truth)
    at = np.arange(1, len(truth) + 1)
    for ax, (channel, roles) in zip(axes, found.items(), strict=True):
        ax.stairs(truth, np.arange(len(truth) + 1) + 0.5, color="k", linewidth=0.8, label="raw")
        for k, (role, weights) in enumerate(roles.items()):
            own = np.asarray(weights)
            mean, error = own.mean(0), own.std(0, ddof=1) if len(own) > 1 else None
            style = look(role, linestyle="none", markersize=3, capsize=1.5, elinewidth=0.7)
            shift = 0.3 * (k - (len(roles) - 1) / 2)
            ax.errorbar(at + shift, mean, error, label=role, **style)
        ax.set(title=channel, xlabel="category", xticks=at[::2], ylim=(0, None))
    axes[0].set_ylabel("frequency")
    outside(fig, axes[0], 4)
    return fig


def growers(tables: Mapping[str, Tensor], most: int = 500) -> Figure:
    """A panel a role: two numbers, and the grower by shade and marker. Rows (n, 5)."""
    fig, axes = plt.subplots(1, len(tables), figsize=(PAGE, 2.1), sharey=True)
    for ax, (role, rows) in zip(axes, tables.items(), strict=True):
        shown = rows[:most].detach().cpu()
        for grower, (shade, marker) in enumerate(zip(shades(3), "o^s", strict=True)):
            own = shown[shown[:, 2:].argmax(1) == grower]
            style = {"s": 5, "color": shade, "marker": marker, "linewidths": 0}
            ax.scatter(own[:, 0], own[:, 1], label=f"grower {grower + 1}", rasterized=True, **style)
        ax.set(xlim=(-0.3, 1.3), ylim=(-0.3, 1.3), title=role, xlabel="alcohol, scaled")
    axes[0].set_ylabel("proline, scaled")
    outside(fig, axes[0], 3)
    return fig
