"""03_sample_complexity: rates and constants, fits, what breaks them, and real data."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike
from torch import Tensor

from privgan.artifact.plotting import PAGE, look, outside, shades

Setting = tuple[int, float]
MARKERS = "osD^v<>P"


def root_mean_square(errors: Mapping[int, Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """At every n, the root mean square of the repetitions and its standard error."""
    squares = [e.double().square().numpy() for e in errors.values()]
    rms = np.sqrt([s.mean() for s in squares])
    error = [s.std(ddof=1) / np.sqrt(len(s)) for s in squares]
    return rms, np.array(error) / (2 * rms)


def _logarithmic(axes: Sequence[Axes], label: str = "n") -> None:
    for ax in axes:
        ax.set(xscale="log", yscale="log", xlabel=label)
        ax.xaxis.set_minor_formatter("")
        ax.yaxis.set_minor_formatter("")


def rates(
    matched: Mapping[Setting, Mapping[int, Tensor]],
    predicted: Mapping[Setting, Mapping[int, float]],
    exact: Mapping[Setting, Mapping[int, Tensor]],
    nats: Mapping[Setting, float],
    scatter: Mapping[Setting, float],
) -> Figure:
    """Error of the value at the raw law: matched, unregularised, and matched over its asymptote.

    Settings are (d, sigma); those of ``exact`` have about one nat a report.
    """
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(PAGE, 3.0))
    free: dict[str, Any] = {"linestyle": "none", "capsize": 1.5}
    for mark, at in zip(MARKERS, exact, strict=False):
        n, unit = list(matched[at]), at[1] ** 2
        rms, error = root_mean_square(matched[at])
        label = f"d = {at[0]}, $\\sigma$ = {at[1]:g}"
        style = look("matched") | free | {"marker": mark}
        left.errorbar(n, rms / unit, error / unit, label=label, **style)
        left.plot(n, np.array([predicted[at][k] for k in n]) / unit, "k:", linewidth=0.8)
        values = [v.double().numpy() for v in exact[at].values()]
        mean = np.array([v.mean() for v in values])
        error = np.array([v.std(ddof=1) / np.sqrt(len(v)) for v in values])
        style = look("unregularised") | free | {"marker": mark}
        middle.errorbar(list(exact[at]), mean / mean[0], error / mean[0], **style)
        spacing = (np.array(list(exact[at])) / min(exact[at])) ** (-2 / at[0])
        middle.plot(list(exact[at]), spacing, "k:", linewidth=0.8)
    for mark, shade, at in zip(MARKERS, shades(len(matched)), matched, strict=False):
        rms, error = root_mean_square(matched[at])
        times = np.sqrt(list(matched[at])) / scatter[at]
        style = {"color": shade, "marker": mark, "linestyle": "-", "capsize": 1.5}
        label = f"d = {at[0]}, {nats[at]:.1f} nats"
        right.errorbar(list(matched[at]), rms * times, error * times, label=label, **style)
    left.set(title="matched loss at the raw law", ylabel=r"RMS error / $\sigma^2$")
    middle.set(title="unregularised, same reports", ylabel="$W_2^2$ / that at the least n")
    right.set(title="matched, over the asymptote", ylabel=r"RMS error / $\sigma^2 (2d / n)^{1/2}$")
    _logarithmic((left, middle, right))
    left.legend()
    outside(fig, right, 3)
    return fig


def fits(
    closed: Mapping[Setting, Mapping[int, Tensor]],
    constant: Mapping[Setting, float],
    trained: Mapping[str, Mapping[int, ArrayLike]],
    units: Mapping[str, float],
    by_noise: Mapping[Setting, float],
    n_of_noise: int,
) -> Figure:
    """Excess loss of fitted generators against n, and against the noise's variance."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(PAGE, 3.0))
    for mark, (at, found) in zip(MARKERS, closed.items(), strict=False):
        n, unit = np.array(list(found)), at[1] ** 2
        mean = np.array([v.mean().item() for v in found.values()]) / unit
        error = np.array([v.std().item() / len(v) ** 0.5 for v in found.values()]) / unit
        style: dict[str, Any] = look("closed form", marker=mark, linestyle="none", capsize=1.5)
        left.errorbar(n, mean, error, label=f"closed form, d = {at[0]}", **style)
        left.plot(n, constant[at] / n / unit, "k:", linewidth=0.8)
    for (kind, runs), mark in zip(trained.items(), "D^", strict=True):
        own = [np.asarray(v, float) / units[kind] ** 2 for v in runs.values()]
        error = np.array([v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for v in own])
        style = look("matched", marker=mark, capsize=1.5)
        left.errorbar(list(runs), [v.mean() for v in own], error, label=f"trained, {kind}", **style)
    n = np.array(list(next(iter(closed.values()))))
    top = max(v[n[0]].mean().item() / at[1] ** 2 for at, v in closed.items())
    grey = look("privatized")["color"]
    left.plot(n, top * (n / n[0]) ** -0.5, color=grey, label="$n^{-1/2}$")
    squares = np.array([s**2 for _, s in by_noise])
    right.plot(squares, list(by_noise.values()), **look("closed form", linestyle="none"))
    line = np.array([constant[at] / n_of_noise for at in by_noise])
    right.plot(squares, line, "k:", linewidth=0.8, label=f"predicted, d = 2, n = {n_of_noise}")
    right.plot(squares, line[-1] * squares / squares[-1], color=grey, label=r"$\propto \sigma^2$")
    left.set_ylabel(r"excess loss of the fit / $\sigma^2$")
    right.set_ylabel("excess loss of the fit")
    _logarithmic((left,))
    _logarithmic((right,), r"$\sigma^2$")
    right.legend()
    outside(fig, left, 3)
    return fig


def breaks(
    spread: Mapping[str, Mapping[int, tuple[float, float, float]]],
    low_reg: Mapping[float, Mapping[int, Tensor]],
    poor: Mapping[str, Mapping[int, ArrayLike]],
    floor: float,
) -> Figure:
    """Heavy tails (value, low, high at each n), too little regularisation, a class too poor."""
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(PAGE, 3.0))
    for (law, found), mark, shade in zip(spread.items(), MARKERS, shades(3), strict=False):
        value, low, high = np.array(list(found.values())).T
        bars = np.stack([value - low, high - value])
        left.errorbar(list(found), value, bars, marker=mark, color=shade, label=law, capsize=1.5)
    for (part, errors), mark in zip(low_reg.items(), MARKERS, strict=False):
        rms, error = root_mean_square(errors)
        colour = look("matched")["color"] if part == 1 else str(0.75 - part)
        label = rf"$\lambda / 2\sigma^2$ = {part:g}"
        middle.errorbar(
            list(errors), rms, error, marker=mark, color=colour, label=label, capsize=1.5
        )
    for (kind, found_of), mark in zip(poor.items(), "^D", strict=True):
        own = [np.asarray(v, float) for v in found_of.values()]
        error = np.array([v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for v in own])
        style = look("matched", marker=mark, capsize=1.5)
        right.errorbar(list(found_of), [v.mean() for v in own], error, label=kind, **style)
    right.axhline(floor, color="k", linewidth=0.8, linestyle=":", label="floor, closed form")
    left.set(title="heavy tails", ylabel="interquartile range of the loss")
    middle.set(title="too little regularisation", ylabel="RMS error of the value")
    right.set(title="a class without the raw law", ylabel="excess over the raw law's loss")
    _logarithmic((left, middle, right))
    for ax in (left, middle, right):
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.25))
    return fig


def real(
    dims: Mapping[str, Sequence[int]],
    measured: Mapping[tuple[str, str], Sequence[tuple[float, float, float]]],
    expected: Mapping[tuple[str, str], Sequence[float]],
) -> Figure:
    """Error of the matched loss (nats) and unregularised W2 (share), by data set and rule.

    measured: for every rule and data set, at each dimension: the error, its standard error, and
    the share. expected: the error for normal records of the same covariance.
    """
    rules = list(dict.fromkeys(rule for rule, _ in measured))
    fig, axes = plt.subplots(2, len(rules), figsize=(PAGE, 4.0), sharex=True, sharey="row")
    for column, rule in zip(axes.T, rules, strict=True):
        for (name, d), mark, shade in zip(dims.items(), MARKERS, shades(len(dims)), strict=False):
            error, bar, share = np.array(measured[rule, name]).T
            style = {"color": shade, "marker": mark, "linestyle": "none", "capsize": 1.5}
            column[0].errorbar(d, error, bar, label=name, **style)
            column[0].plot(d, expected[rule, name], ":", color=shade)
            column[1].plot(d, share, marker=mark, color=shade)
        column[0].set(title=rule, yscale="log")
        column[1].set(xscale="log", xlabel="dimensions", ylim=(0, None))
        ticks = sorted({d for own in dims.values() for d in own})
        column[1].set_xticks(ticks, [str(d) for d in ticks])
        column[1].minorticks_off()
    axes[0, 0].set_ylabel("matched loss:\nRMS error, nats")
    axes[1, 0].set_ylabel("unregularised:\n$W_2^2$ / its value at n = 1")
    outside(fig, axes[0, 0], len(dims))
    return fig


def quartile_ranges(
    values: Mapping[int, Tensor], resamples: int = 500
) -> tuple[dict[int, tuple[float, float, float]], tuple[float, float]]:
    """Interquartile range at every n, with the middle 68% of its bootstrap; slope and its error."""
    rng = np.random.default_rng(0)
    drawn = []
    for own in values.values():
        v = own.double().numpy()
        again = v[rng.integers(len(v), size=(resamples, len(v)))]
        drawn.append(np.r_[np.ptp(np.quantile(v, [0.25, 0.75])), _ranges(again)])
    every = np.array(drawn)  # (sizes, 1 + resamples)
    low, high = np.quantile(every[:, 1:], (0.16, 0.84), axis=1)
    slopes = np.polyfit(np.log(list(values)), np.log(every), 1)[0]
    found = {
        n: (float(e[0]), float(min(a, e[0])), float(max(b, e[0])))
        for n, e, a, b in zip(values, every, low, high, strict=True)
    }
    return found, (float(slopes[0]), float(slopes[1:].std()))


def _ranges(samples: np.ndarray) -> np.ndarray:
    low, high = np.quantile(samples, (0.25, 0.75), axis=1)
    spread: np.ndarray = high - low
    return spread
