"""Figures of 06_mnist: what generators draw, and how near they come against the noise."""

import math
from collections.abc import Mapping

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from torch import Tensor

from privgan.artifact.image_study import Scores, Sent, seeds
from privgan.artifact.plotting import NOISES, PAGE, curve, look, mosaic, outside
from privgan.generators import Labelled

WAYS = {  # how a filled marker is told from an empty one, and what it is called
    "network": ("matched", "plan of a network", {}),
    "batch": ("matched", "plan of a batch", {"markerfacecolor": "white"}),
    "likelihood": ("likelihood", "likelihood", {}),
}
READERS = {"network on reports": "s", "linear": "x", "quadratic": "+"}
PANELS = {
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "student": "accuracy on raw test images",
}


def records(models: Mapping[str, Labelled], sent: Sent, level: str) -> Figure:
    """Three records of every class: raw, as reported at ``level``, and by each model."""
    lines = -(-(len(models) + 2) // 2)
    fig, axes = plt.subplots(lines, 2, figsize=(PAGE, 1.25 * lines))
    raw, reports = sent.raw(), sent.reports()
    classes = raw[:, -10:].argmax(1)
    rows = torch.stack([(classes == c).nonzero()[:3, 0] for c in range(10)], 1).flatten()
    first, second, *others = axes.ravel()
    mosaic(first, raw[rows, :-10], sent.side, "raw records", rows=3)
    mosaic(second, reports[rows, :-10], sent.side, f"their reports, {level}", rows=3, vmax=None)
    for ax in others:
        ax.set_axis_off()
    for ax, (name, model) in zip(others, models.items(), strict=False):
        mosaic(ax, _by_class(model, 3), sent.side, name, rows=3)
    return fig


def _by_class(model: Labelled, n: int) -> Tensor:
    """``n`` images of every class, class by class in a column of `plotting.mosaic`."""
    images = [model.sample_class(c, n, seed=0).clamp(0.0, 1.0) for c in range(10)]
    return torch.stack(images, 1).flatten(0, 1)


def quality(
    scores: Scores,
    readers: Mapping[str, Mapping[str, float]],
    marks: Mapping[str, Mapping[str, float]],
) -> Figure:
    """Four panels of scores against the noise; ``marks`` are horizontal lines."""
    fig, axes = plt.subplots(2, 2, figsize=(PAGE, 5.0), sharex=True)
    levels = list(dict.fromkeys(run[0] for run in scores if not isinstance(run, str)))
    for ax, (score, words) in zip(axes.ravel(), PANELS.items(), strict=True):
        for noise in NOISES:
            own = sorted((float(level.split()[1]), level) for level in levels if noise in level)
            stds = [std for std, _ in own]
            for way, (role, said, filled) in WAYS.items() if own else ():
                style = look(role, noise, label=f"{noise}, {said}", **filled)
                found = [[v[score] for v in seeds(scores, level, way)] for _, level in own]
                for std, values in zip(stds, found, strict=True):  # levels differ in their seeds
                    curve(ax, [std], [[v] for v in values], style, linestyle="none")
                means = [sum(values) / len(values) for values in found]
                ax.plot(stds, means, color=style["color"], linestyle=style["linestyle"])
            for reader, marker in READERS.items() if score == "student" and own else ():
                told = [readers[level][reader] for _, level in own]
                style = look("privatized", noise, marker=marker, label=f"{noise}, {reader}")
                ax.plot(stds, told, **style)
        for (name, mark), dash in zip(marks.items(), (":", "-."), strict=False):
            height = mark.get(score, math.nan)  # where it has none, the legend still names it
            ax.axhline(height, color="black", lw=0.8, ls=dash, label=name)
        ax.set(ylabel=words, xscale="log", yscale="log" if score == "frechet" else "linear")
        ticks = sorted({float(level.split()[1]) for level in levels})
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    for ax in axes[1]:
        ax.set_xlabel("noise standard deviation per pixel")
    outside(fig, axes[1, 1], 3, "outside lower center")
    return fig
