"""07_privacy: what noise a budget asks for, and what attacks certify of it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

import privgan as pg
from privgan.artifact.plotting import PAGE, look, outside, shades
from privgan.mechanisms import gaussian_delta

DASHES = (":", "--", "-")


def classical_sigma(epsilon: float, delta: float) -> float:
    """The textbook's noise for sensitivity 1, proved for epsilon at most 1."""
    return math.sqrt(2 * math.log(1.25 / delta)) / epsilon


def calibration(epsilons: Sequence[float], deltas: Sequence[float]) -> Figure:
    """Noise over sensitivity, and the delta that it spends over the one promised."""
    formulas = {
        "calibrate (exact)": (
            lambda e, d: pg.Gaussian.calibrate(epsilon=e, delta=d, sensitivity=1.0).sigma,
            look("matched")["color"],
        ),
        "textbook": (classical_sigma, look("wrong cost")["color"]),
    }
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 2.4))
    for formula, (sigma, colour) in formulas.items():
        for delta, dash in zip(deltas, DASHES, strict=True):
            noise = [sigma(e, delta) for e in epsilons]
            spent = [gaussian_delta(e, 1 / s) / delta for e, s in zip(epsilons, noise, strict=True)]
            label = rf"{formula}, $\delta$ = {delta:g}"
            left.plot(epsilons, noise, linestyle=dash, color=colour, label=label)
            right.plot(epsilons, spent, linestyle=dash, color=colour)
    left.set(xscale="log", yscale="log", ylabel=r"noise $\sigma$ / sensitivity")
    right.set(xscale="log", yscale="log", ylim=(1e-3, 1e11), xlim=(0.1, max(epsilons)))
    right.set_ylabel(r"$\delta$ spent / $\delta$ promised")
    for ax in (left, right):
        ax.set_xlabel(r"promised $\epsilon$ (nats)")
    outside(fig, left, 2)
    return fig


def whole_record(stds: Sequence[float], dims: Sequence[int], delta: float) -> Figure:
    """Epsilon of a record of d numbers in [0, 1] against the noise on each of them."""
    fig, ax = plt.subplots(figsize=(0.6 * PAGE, 2.3))
    for dim, shade in zip(dims, shades(len(dims)), strict=True):
        box = pg.Box(0.0, 1.0, dim=dim)
        gaussian = [pg.Gaussian(s, bounds=box).epsilon(delta) for s in stds]
        laplace = [pg.Laplace(s / math.sqrt(2), bounds=box).epsilon() for s in stds]
        for noise, line, dash in (("Gaussian", gaussian, "-"), ("Laplace", laplace, ":")):
            ax.plot(stds, line, linestyle=dash, color=shade, label=f"{noise}, d = {dim}")
    ax.set(xscale="log", yscale="log", xlabel="noise on each number, standard deviation")
    ax.set_ylabel(r"the record's $\epsilon$ (nats)")
    outside(fig, ax, 1, "outside right center")
    return fig


def certificates(
    shares: Mapping[str, Sequence[float]],
    predicted: Mapping[str, Sequence[float]],
    epsilons: Sequence[float],
) -> Figure:
    """Certified over claimed epsilon: a marker a mechanism, and lines where it was predicted."""
    fig, ax = plt.subplots(figsize=(PAGE, 2.4))
    ax.axhline(1, color=look("privatized")["color"], linestyle=":", label="claimed")
    marks: dict[str, Any] = dict(zip(shares, "o^vsDPX", strict=False))
    for i, ((kind, own), shade) in enumerate(zip(shares.items(), shades(len(shares)), strict=True)):
        at = np.array(epsilons) * 1.05 ** (i - 3)
        ax.plot(at, own, marks[kind], color=shade, markersize=4, label=kind)
        if kind in predicted:
            label = f"{kind}, predicted"
            ax.plot(epsilons, predicted[kind], color=shade, linewidth=0.8, label=label)
    ax.set(xscale="log", xlabel=r"claimed $\epsilon$ (nats)", ylabel="certified / claimed")
    ax.set_xticks(epsilons, labels=[f"{e:g}" for e in epsilons])
    ax.minorticks_off()
    outside(fig, ax, 1, "outside right center")
    return fig
