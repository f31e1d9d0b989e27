"""02_recovery: losses on lattices, trained variances, couplings, and what likelihood tells."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from privgan.artifact.plotting import NOISES, PAGE, curve, look, outside, shades


def reg_look(times: float) -> dict[str, Any]:
    """The matched regularisation has its role's colour; others are ordered from dark to light."""
    dark, light = shades(2)
    if times == 1:
        return look("matched", marker="none") | {"label": "matched"}
    style = {"color": dark, "linestyle": "--"} if times < 1 else {"color": light, "linestyle": "-."}
    return style | {"label": f"{times:g} x matched"}


def lattices(
    path: ArrayLike,
    along: Mapping[tuple[str, float], Any],
    ratios: ArrayLike,
    off: Mapping[str, Any],
) -> Figure:
    """The loss along a path through the raw law; the minimiser's distance to it against reg."""
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 2.2))
    for ax, noise in zip(axes, off, strict=False):
        for (kind, times), values in along.items():
            if kind == noise:
                ax.plot(path, values - values.min(), **reg_look(times))
        ax.set(title=noise, xlabel="$t$, raw law to uniform", ylim=(-0.005, 0.18))
    axes[0].set_ylabel(r"loss less its least, over $\lambda$")
    for noise, distances in off.items():
        axes[2].plot(ratios, distances, label=noise, **look("matched", noise, marker="none"))
    axes[2].set(xscale="log", xlabel="reg / matched", ylabel="minimiser to raw law, TV")
    axes[2].set_xticks([0.5, 1, 2], ["0.5", "1", "2"])
    axes[2].minorticks_off()
    axes[2].legend()
    outside(fig, axes[0], 3)
    return fig


def variances(
    grid: ArrayLike,
    closed: Mapping[str, ArrayLike],
    regs: Sequence[float],
    found: Mapping[str, ArrayLike],
    small: str,
) -> Figure:
    """Eigenvalues against reg: closed form (regs, d), and trained (seeds, regs, d).

    small: the case whose values are drawn hollow over the panel before it.
    """
    names = [case for case in closed if case != small]
    fig, axes = plt.subplots(1, len(names), figsize=(PAGE, 2.5))
    dots: dict[str, Any] = {"linestyle": "none", "markersize": 3}
    for ax, case in zip(axes, names, strict=True):
        ax.plot(grid, closed[case], **look("closed form", marker="none", linewidth=0.8))
        for values in np.moveaxis(np.asarray(found[case]), 2, 0):
            curve(ax, regs, values, look("matched", **dots), label="trained")
        ax.axvline(1, color=look("privatized")["color"], linestyle=":", label="matched reg")
        ax.set(xscale="log", xlabel="reg / matched", title=case)
        ax.set_xticks([0.1, 1], ["0.1", "1"])
    for values in np.moveaxis(np.asarray(found[small]), 2, 0):
        style = look("matched", fillstyle="none", **dots)
        curve(axes[-1], regs, values, style, label="trained, " + small)
    axes[0].set_ylabel("eigenvalue of the covariance")
    axes[-1].lines[0].set_label("closed form")
    outside(fig, axes[-1], 4)
    return fig


def distances(
    regs: Sequence[float],
    w2: Mapping[tuple[str, float], ArrayLike],
    grid: ArrayLike,
    closed: Mapping[float, ArrayLike],
) -> Figure:
    """W2 to the raw law against reg, a line a noise level; the closed form where there is one."""
    fig, axes = plt.subplots(1, len(NOISES), figsize=(PAGE, 2.5), sharey=True)
    for std, values in closed.items():
        style = look("closed form", marker="none", linewidth=0.8)
        axes[0].plot(grid, values, label="closed form" if std == max(closed) else None, **style)
    for ax, noise in zip(axes, NOISES, strict=True):
        stds = [std for kind, std in w2 if kind == noise]
        for std, shade in zip(stds, shades(len(stds)), strict=True):
            style = look("matched", noise) | {"color": shade, "linestyle": "none"}
            curve(ax, regs, w2[noise, std], style, label=f"noise {std:g}")
        ax.axvline(1, color=look("privatized")["color"], linestyle=":")
        ax.set(xscale="log", xlabel="reg / matched", title=noise)
        ax.set_xticks([0.5, 1, 2], ["0.5", "1", "2"])
        ax.minorticks_off()
    axes[0].set_ylabel("$W_2$ to the raw law")
    outside(fig, axes[0], len(closed) + 1)
    return fig


def quarters(away: np.ndarray, plan: np.ndarray, bins: np.ndarray) -> np.ndarray:
    """Mass of ``away`` (n, m) under ``plan`` (n, m) by cells, for each quarter of the n points.

    The first and the last of the (4, cells + 2) columns are what lies beyond the bins.
    """
    edges = np.r_[-np.inf, bins, np.inf]
    parts = np.array_split(np.arange(len(plan)), 4)
    mass = [np.histogram(away[part], edges, weights=plan[part])[0] for part in parts]
    return np.array([own / own.sum() for own in mass])


def couplings(
    bins: np.ndarray,
    histogram: Mapping[str, ArrayLike],
    expected: Mapping[str, np.ndarray],
    spread: Mapping[str, float],
) -> Figure:
    """Report less generated point, by quarters of the points (quarters, cells), and the noise's."""
    fig, axes = plt.subplots(2, 2, figsize=(PAGE, 3.6), sharex=True, sharey=True)
    middle, width = (bins[1:] + bins[:-1]) / 2, np.diff(bins)
    for ax, (kind, parts) in zip(axes.flat, histogram.items(), strict=True):
        noise, _, source, _ = kind.split()
        style = look("matched" if noise == source else "wrong cost", marker="none")
        for k, part in enumerate(np.asarray(parts)):
            label = "quarters of the generated points" if k == 3 else None
            ax.plot(middle, part / width, alpha=0.4 + 0.2 * k, label=label, **style)
        raw = {"color": look("raw")["color"], "linestyle": ":", "label": "the noise itself"}
        ax.plot(middle, expected[noise] / width, **raw)
        ax.set_title(f"{kind}: largest distance {spread[kind]:.3f}")
    for ax in axes[1]:
        ax.set_xlabel("report less generated point")
    for ax in axes[:, 0]:
        ax.set_ylabel("density, by cells")
    outside(fig, axes[0, 0], 2)
    return fig


def judges(
    path: ArrayLike,
    gap: Mapping[tuple[str, float], ArrayLike],
    choices: Mapping[str, Sequence[tuple[ArrayLike, ArrayLike, ArrayLike]]],
) -> Figure:
    """Transport less likelihood along a path; W2 and likelihood (seeds, n) against reg and step."""
    fig, axes = plt.subplots(2, 3, figsize=(PAGE, 3.8), sharex="col")
    for (noise, times), nats in gap.items():
        axes[list(choices).index(noise), 0].plot(path, nats, **reg_look(times))
    for row, (noise, panels) in zip(axes, choices.items(), strict=True):
        row[0].set_ylabel(f"{noise}: gap (nats)")
        row[1].set_ylabel("from least to greatest")
        for ax, (at, *measured) in zip(row[1:], panels, strict=True):
            for role, label, values in zip(
                ("raw", "likelihood"), ("$W_2$ to raw", "loss of held-out reports"), measured,
                strict=True,
            ):  # fmt: skip
                own = np.atleast_2d(np.asarray(values, float))
                mean = own.mean(0)
                part = (own - mean.min()) / np.ptp(mean)
                curve(ax, at, part, look(role, markersize=2.5), label=label)
    labels = ("$t$", "reg / matched", "step, at a quarter of it")
    for ax, label in zip(axes[1], labels, strict=True):
        ax.set_xlabel(label)
    for ax in axes[:, 1]:
        ax.set_xscale("log")
        ax.set_xticks([0.5, 1, 2], ["0.5", "1", "2"])
        ax.minorticks_off()
    axes[0, 0].legend()
    outside(fig, axes[0, 1], 2)
    return fig
