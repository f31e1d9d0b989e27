"""03_sample_complexity: errors against the number of reports, what breaks them, and real data."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from privgan.artifact.claims import mean_and_error
from privgan.artifact.plotting import PAGE, look, outside, shades

MARKS = "osD^v<>"
Of = Mapping[Any, Mapping[int, Any]]  # repetitions (r,) for each n, of each case
PREDICTED = {"color": "black", "linestyle": ":", "linewidth": 0.8}


def rms(errors: ArrayLike) -> tuple[float, float]:
    """Root mean square of repetitions (r,), and its standard error, to first order."""
    squares = np.square(np.asarray(errors, float))
    root = np.sqrt(squares.mean())
    return float(root), float(squares.std(ddof=1) / np.sqrt(len(squares)) / (2 * root))


def mean(values: ArrayLike) -> tuple[float, float]:
    """Mean of repetitions (r,), and its standard error."""
    found = mean_and_error(values)
    return found["measured"], found["error"]


def _points(ax: Axes, of: Mapping[Any, Any], summary: Any, scale: float, **style: Any) -> None:
    found = np.array([summary(values) for values in of.values()]) * scale
    ax.errorbar([*of], found[:, 0], found[:, 1], capsize=1.5, elinewidth=0.7, **style)


def _logarithmic(*axes: Axes) -> None:
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel="reports, n")
        ax.xaxis.set_minor_formatter("")


def rates(
    deviation: Of,
    predicted: Mapping[Any, Mapping[int, float]],
    exact: Of,
    asymptote: Mapping[Any, float],
    nats: Mapping[Any, float],
) -> Figure:
    """The scatter at the truth over sigma^2; W2^2 without regularisation; error over asymptote.

    The keys of cases are (d, sigma). exact: values, of the cases whose rate is compared.
    """
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(PAGE, 3.0))
    for at, mark in zip(exact, MARKS, strict=False):
        style = {"marker": mark, "label": f"d = {at[0]}"}
        blue = look("matched", linestyle="none") | style
        _points(left, deviation[at], rms, 1 / at[1] ** 2, **blue)
        curve = np.array([*predicted[at].values()]) / at[1] ** 2
        left.plot([*predicted[at]], curve, **PREDICTED)
        first, _ = mean(exact[at][min(exact[at])])
        orange = look("unregularised", linestyle="none") | style
        _points(middle, exact[at], mean, 1 / first, **orange)
        sizes = np.array([*exact[at]])
        middle.plot(sizes, (sizes / sizes[0]) ** (-2 / at[0]), **PREDICTED)
    left.lines[-1].set_label("predicted")
    middle.lines[-1].set_label("$n^{-2/d}$")
    for (at, own), shade, mark in zip(
        deviation.items(), shades(len(deviation)), MARKS, strict=False
    ):
        scaled = {n: np.asarray(v) * n**0.5 / asymptote[at] for n, v in own.items()}
        label = f"d = {at[0]}, {nats[at]:.1f} nats"
        _points(right, scaled, rms, 1, color=shade, marker=mark, markersize=3, label=label)
    left.set(title="matched loss, at the raw law", ylabel=r"RMS error of its value / $\sigma^2$")
    middle.set(title="no regularisation", ylabel="$W_2^2$ / its value at the least n")
    right.set(title="matched: over the asymptote", ylabel=r"RMS error / $\sigma^2 (2d / n)^{1/2}$")
    _logarithmic(left, middle, right)
    for ax in (left, middle, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))
    return fig


def fits(
    closed: Of,
    constants: Mapping[Any, float],
    trained: Mapping[str, Mapping[int, ArrayLike]],
    sigmas: Mapping[str, float],
    by_noise: Mapping[float, ArrayLike],
    noise_constants: Mapping[float, float],
) -> Figure:
    """Excess loss of fitted generators against n, and against the noise at one n."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 3.0))
    for at, mark in zip(closed, MARKS, strict=False):
        style = look("closed form", marker=mark, linestyle="none")
        label = f"closed form, d = {at[0]}"
        _points(left, closed[at], mean, 1 / at[1] ** 2, label=label, **style)
        sizes = np.array([*closed[at]])
        left.plot(sizes, constants[at] / sizes / at[1] ** 2, **PREDICTED)
    left.lines[-1].set_label("predicted")
    for (kind, own), mark in zip(trained.items(), "^v<", strict=False):
        style = look("matched", marker=mark)
        _points(left, own, mean, 1 / sigmas[kind] ** 2, label=f"trained, {kind}", **style)
    sizes = np.array([*next(iter(closed.values()))])
    top = max(mean(own[sizes[0]])[0] / at[1] ** 2 for at, own in closed.items())
    bound = top * (sizes / sizes[0]) ** -0.5
    left.plot(sizes, bound, color=look("privatized")["color"], label="the bound's $n^{-1/2}$")
    squares = {s**2: values for s, values in by_noise.items()}
    _points(right, squares, mean, 1, **look("closed form", linestyle="none"))
    right.plot([*squares], [*noise_constants.values()], **PREDICTED)
    left.set_ylabel(r"excess loss of the fit / $\sigma^2$")
    _logarithmic(left, right)
    right.set(xlabel=r"noise, $\sigma^2$", ylabel="excess loss of the fit, d = 2")
    outside(fig, left, 1, "outside right upper")
    return fig


def breaks(
    spread: Mapping[str, Mapping[int, float]],
    low_reg: Mapping[float, Mapping[int, ArrayLike]],
    poor: Mapping[int, ArrayLike],
    floor: float,
) -> Figure:
    """Heavy tails; too little regularisation; a class whose best member is not the raw law."""
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(PAGE, 2.9))
    for (law, own), shade, mark in zip(spread.items(), shades(len(spread)), MARKS, strict=False):
        left.plot([*own], [*own.values()], color=shade, marker=mark, label=law)
    for (fraction, errors), shade in zip(low_reg.items(), shades(len(low_reg)), strict=True):
        style = look("matched") if fraction == 1 else {"color": shade, "marker": "o"}
        label = rf"$\lambda / 2\sigma^2$ = {fraction:g}"
        _points(middle, errors, rms, 1, label=label, **(style | {"markersize": 3}))
    _points(right, poor, mean, 1, label="one latent, trained", **look("matched"))
    right.axhline(floor, label="its class's best", **(PREDICTED | {"linestyle": "--"}))
    left.set(title="heavy tails", ylabel="interquartile range of the value")
    middle.set(title="too little regularisation", ylabel="RMS error of the value")
    right.set(title="a class too poor", ylabel="loss above the raw law's")
    _logarithmic(left, middle, right)
    for ax in (left, middle, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.22))
    return fig


def real(
    ratios: Mapping[str, Mapping[str, Mapping[int, tuple[float, float]]]],
    told: Mapping[str, Mapping[int, float]],
    slopes: Mapping[str, Mapping[int, float]],
) -> Figure:
    """Real data against their dimension: error over prediction at fixed nats, at fixed noise.

    ratios: for each of the two regimes and each data set, (ratio, standard error) by d. told: nats
    at the fixed noise, a number beside each marker. slopes: of W2^2 without regularisation.
    """
    fig, axes = plt.subplots(1, 3, figsize=(PAGE, 2.7))
    names: Sequence[str] = [*slopes]
    for name, shade, mark in zip(names, shades(len(names)), MARKS, strict=False):
        for ax, own in zip(axes, ratios.values(), strict=False):
            found = np.array([*own[name].values()])
            style = {"color": shade, "marker": mark, "markersize": 4, "capsize": 1.5}
            ax.errorbar([*own[name]], found[:, 0], found[:, 1], label=name, **style)
        for d, nats in told[name].items():
            at = d, ratios[[*ratios][1]][name][d][0]
            axes[1].annotate(f"{nats:.1f}", at, xytext=(3, 3), textcoords="offset points", size=7)
        axes[2].plot([*slopes[name]], [*slopes[name].values()], color=shade, marker=mark)
    dims = np.geomspace(2, max(max(own) for own in slopes.values()), 50)
    axes[2].plot(dims, -2 / dims, label="$-2/d$", **PREDICTED)
    axes[2].axhline(-0.5, label="matched, $-1/2$", **look("matched", marker="none"))
    for ax, title in zip(axes, [*ratios, "no regularisation, same noise"], strict=True):
        ax.set(xscale="log", xlabel="columns, d", title=title)
        ax.set_xticks([2, 8, 32], ["2", "8", "32"])
        ax.minorticks_off()
    for ax in axes[:2]:
        ax.axhline(1, **PREDICTED)
        ax.set(yscale="log", ylabel="RMS error / predicted scatter")
    axes[2].set_ylabel("slope of $W_2^2$ in n")
    axes[2].legend()
    outside(fig, axes[0], len(names))
    return fig
