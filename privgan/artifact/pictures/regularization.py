"""05_regularization: quality against regularisation, loss, batch and stated scale."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from privgan.artifact.plotting import PAGE, curve, look, outside, shades

LOSSES: dict[str, dict[str, Any]] = {
    "matched": look("matched"),
    "one iteration": look("other"),
    "likelihood": look("likelihood"),
}


def quality(
    stds: Sequence[float],
    multiples: Sequence[float],
    w2: ArrayLike,
    nll: ArrayLike,
    left: ArrayLike,
    fine: ArrayLike,
    expected: ArrayLike,
) -> Figure:
    """W2, likelihood and variance left, (levels, seeds, multiples), a shade a level of noise.

    expected: the variance of the closed form at ``fine`` multiples, (levels, fine).
    """
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 2.5))
    nll = np.asarray(nll)
    above = nll - nll.min(-1, keepdims=True)  # seed by seed: their reports differ
    for i, (std, shade) in enumerate(zip(stds, shades(len(stds)), strict=True)):
        style = {"color": shade, "marker": "o", "markersize": 3, "linestyle": "-"}
        for ax, values in zip(axes, (np.asarray(w2), above, np.asarray(left)), strict=True):
            curve(ax, multiples, values[i], style, label=f"noise {std:g}")
        axes[2].plot(fine, np.asarray(expected)[i], ":", color=shade)
    axes[0].set(ylabel="$W_2$ to the raw circle", ylim=(0, 1.1))
    axes[1].set_ylabel("held-out reports:\nnats above the least")
    axes[1].set_yscale("symlog", linthresh=0.01)
    axes[1].set_ylim(-0.002, None)
    axes[2].set_ylabel("variance of generated points")
    for ax in axes:
        ax.set_xscale("log", base=2)
        ax.set_xlabel("reg / matched")
        ax.axvline(1, color=look("privatized")["color"], linewidth=0.6)
    outside(fig, axes[0], len(stds))
    return fig


def batches(
    sizes: Sequence[int],
    w2: Mapping[tuple[float, str], ArrayLike],
    radius: Mapping[tuple[float, str], ArrayLike],
) -> Figure:
    """W2 and mean radius (seeds, sizes) against reports in a batch: a column a noise."""
    stds = sorted({std for std, _ in w2})
    fig, axes = plt.subplots(
        2, len(stds), figsize=(PAGE, 3.6), sharex=True, sharey="row", squeeze=False
    )
    for column, std in zip(axes.T, stds, strict=True):
        for kind, style in LOSSES.items():
            for ax, values in zip(column, (w2, radius), strict=True):
                curve(ax, sizes, values[std, kind], style, label=kind, markersize=3)
        column[0].set_title(f"noise {std:g}")
        column[1].axhline(1, color=look("raw")["color"], linestyle=":", linewidth=0.8)
        column[1].set_xlabel("reports in a batch")
        column[1].set_xscale("log", base=2)
    axes[0, 0].set(ylabel="$W_2$ to the raw circle", ylim=(0, None))
    axes[1, 0].set_ylabel("mean radius (raw: 1)")
    outside(fig, axes[0, 0], 3)
    return fig


def stated(
    factors: Sequence[float],
    w2: Mapping[float, ArrayLike],
    nll: Mapping[float, ArrayLike],
    chosen: Mapping[float, ArrayLike],
) -> Figure:
    """W2 and likelihood (seeds, factors) against the stated scale; how often each was estimated."""
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 2.4))
    for std, shade in zip(w2, shades(len(w2)), strict=True):
        style = {"color": shade, "marker": "o", "markersize": 3, "linestyle": "-"}
        true = np.asarray(nll[std])[:, [list(factors).index(1.0)]]
        for ax, values in zip(axes, (w2[std], np.asarray(nll[std]) - true), strict=False):
            curve(ax, factors, values, style, label=f"noise {std:g}")
        times = [int((np.asarray(chosen[std]) == f).sum()) for f in factors]
        axes[2].plot(factors, times, **style)
    axes[0].set(ylabel="$W_2$ to the raw circle", ylim=(0, None))
    axes[1].set_ylabel("held-out reports:\nnats above the true scale's")
    axes[2].set_ylabel("seeds that estimate it")
    for ax in axes:
        ax.set_xlabel("stated scale / true scale")
    outside(fig, axes[0], len(w2))
    return fig


def row(clouds: Mapping[str, Tensor], matched: str) -> Figure:
    """A cloud (n, 2) for every regularisation; the matched one in its colour, others dark."""
    fig, axes = plt.subplots(
        1, len(clouds), figsize=(PAGE, 0.3 + PAGE / len(clouds)), sharex=True, sharey=True
    )
    for ax, (title, points) in zip(axes, clouds.items(), strict=True):
        colour = look("matched")["color"] if title == matched else shades(2)[0]
        x, y = points.detach().cpu().numpy().T
        ax.scatter(x, y, s=1.5, color=colour, linewidths=0, alpha=0.6, rasterized=True)
        ax.set(xlim=(-1.9, 1.9), ylim=(-1.9, 1.9), aspect="equal", title=title)
        ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])
    return fig
