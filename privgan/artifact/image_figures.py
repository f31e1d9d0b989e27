"""Figures of 06_mnist: what generators draw, and how near they come against the noise."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from privgan.artifact import plotting
from privgan.artifact.image_study import Scores, Sent, seeds
from privgan.generators import Labelled

COLOURS = {"network": "#0072B2", "batch": "#56B4E9"}  # the two plans of the matched loss
READERS = {"network on reports": "s", "linear": "x", "quadratic": "+"}
DASHES = {"Gaussian": ("-", "D"), "Laplace": ("--", "v")}
PANELS = {
    "frechet": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "student": "accuracy on raw test images",
}


def draw_records(
    axes: Sequence[Any], models: Mapping[str, Labelled], sent: Sent, level: str
) -> None:
    """Three records of every class: raw, as reported at ``level``, and by each model."""
    raw, reports = sent.raw(), sent.reports()
    classes = raw[:, -10:].argmax(1)
    rows = torch.stack([(classes == c).nonzero()[:3, 0] for c in range(10)], 1).flatten()
    plotting.mosaic(axes[0], raw[rows, :-10], sent.side, "raw records", rows=3)
    title = f"their reports, {level}"
    plotting.mosaic(axes[1], reports[rows, :-10], sent.side, title, rows=3, vmax=None)
    for ax, (name, model) in zip(axes[2:], models.items(), strict=False):
        plotting.mosaic(ax, _by_class(model, 3), sent.side, name, rows=3)
    for ax in axes[2 + len(models) :]:
        ax.set_axis_off()


def _by_class(model: Labelled, n: int) -> Tensor:
    """``n`` images of every class, class by class in a column of `plotting.mosaic`."""
    images = [model.sample_class(c, n, seed=0).clamp(0.0, 1.0) for c in range(10)]
    return torch.stack(images, 1).flatten(0, 1)


def draw_quality(
    axes: Sequence[Any],
    scores: Scores,
    readers: Mapping[str, Mapping[str, float]],
    marks: Mapping[str, Mapping[str, float]],
) -> None:
    """Four panels of scores against the noise; ``marks`` are horizontal lines."""
    levels = list(dict.fromkeys(run[0] for run in scores if not isinstance(run, str)))
    for ax, (score, words) in zip(axes, PANELS.items(), strict=True):
        for kind, (dash, marker) in DASHES.items():
            own = sorted((float(level.split()[1]), level) for level in levels if kind in level)
            for plan, colour in COLOURS.items() if own else ():
                found = [[v[score] for v in seeds(scores, level, plan)] for _, level in own]
                means = [sum(f) / len(f) for f in found]
                low = [m - min(f) for m, f in zip(means, found, strict=True)]
                high = [max(f) - m for m, f in zip(means, found, strict=True)]
                style = {"color": colour, "ls": dash, "marker": marker, "ms": 3.5, "capsize": 2}
                label = f"{kind}, plan of a {plan}"
                ax.errorbar([s for s, _ in own], means, [low, high], label=label, **style)
            for reader, mark in READERS.items() if score == "student" and own else ():
                told = [readers[level][reader] for _, level in own]
                style = {"color": "#999999", "ls": dash, "marker": mark, "ms": 4, "lw": 0.8}
                ax.plot([s for s, _ in own], told, label=f"{kind}, {reader}", **style)
        for (name, values), dash in zip(marks.items(), (":", "-."), strict=False):
            if score in values:
                ax.axhline(values[score], color="black", lw=0.8, ls=dash, label=name)
        ax.set(xlabel="noise std per pixel", ylabel=words, xscale="log")
        ax.set(yscale="log" if score == "frechet" else "linear")
        ticks = sorted({float(level.split()[1]) for level in levels})
        ax.set_xticks(ticks, [f"{t:g}" for t in ticks])
        ax.minorticks_off()
    handles, labels = axes[3].get_legend_handles_labels()
    axes[3].figure.legend(handles, labels, ncols=3, loc="outside lower center", fontsize=7)
