r"""Unknown noise scale: what reports alone can say about it, which is an upper bound.

Gaussian and Laplace noise of scale s hides in itself: noise of scale s is noise of any smaller
scale r plus something independent of it (N(0, s^2 - r^2); for Laplace the mixture of zero, with
weight (r/s)^2, and Laplace(s)). Reports of a law P at scale s are therefore reports of a blurred
P at scale r, exactly, and no amount of them tells the two apart. The other direction is closed
unless P itself has such a component: a law on a curve, a lattice or a bounded set has none, a
Gaussian law is nothing else.

So the likelihood of held-out reports is flat in the scale up to

    s* = the largest s at which some law at all, pushed through the channel, gives the reports,

and falls beyond. s* is what can be estimated. The true scale is at most s*, and equals it when
the raw law has no component of the noise's own kind.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from privgan import checks
from privgan.generators import Generator
from privgan.mechanisms import Mechanism
from privgan.reports import Reports
from privgan.reports.collection import rows_of
from privgan.reports.rows import Rows
from privgan.surroundings import usual
from privgan.training.fitting import fit
from privgan.training.likelihood import report_log_likelihood
from privgan.training.losses import EntropicLoss
from privgan.training.shuffling import Picked, Shuffle

POINTS = 20_000  # generated records that stand for a fitted law in its likelihood


@dataclass(frozen=True)
class ScaleEstimate:
    """Which scales the held-out reports allow.

    scales: those tried, ascending. nll: mean held-out negative log-likelihood at each, nats a
    report. score: by how many standard errors of the paired difference the best *smaller* scale
    explains the reports better, beyond ``threshold`` a scale is rejected. upper: the largest
    scale that is not rejected.
    """

    scales: tuple[float, ...]
    nll: tuple[float, ...]
    score: tuple[float, ...]
    threshold: float
    upper: float

    @property
    def bounded(self) -> bool:
        """Whether any scale above ``upper`` was tried, and rejected."""
        return self.upper < self.scales[-1]

    def describe(self) -> str:
        """The estimate in words, with what it does not say."""
        if not self.bounded:
            return (
                f"No scale up to {self.upper:g} is rejected: the reports set no upper bound among "
                "those tried. Try larger ones; if none is rejected either, the raw law has a "
                "component like the noise (a Gaussian law under Gaussian noise, say) and the scale "
                "is not identifiable from reports."
            )
        return (
            f"The scale is at most {self.upper:g}: larger ones explain held-out reports worse. It "
            "equals that bound if the raw law has no component like the noise, as on a curve, a "
            "lattice or finitely many values. Smaller scales, with a blurred raw law, explain "
            "reports equally well in principle: reports alone cannot exclude them."
        )


def largest_allowed_scale(
    scales: Sequence[float], log_likelihood: ArrayLike, *, level: float = 0.05
) -> ScaleEstimate:
    """The decision alone, from fitted laws of any kind.

    log_likelihood: (k, m), nats: report j of m held-out ones under the law fitted at scale i of
    k ascending ones. A scale is rejected when a smaller one, which can explain anything that it
    can, is better by a one-sided test of paired differences at ``level``, shared among the pairs.
    """
    scales = _ascending(scales)
    level = checks.probability("level", level)
    ll = checks.as_tensor("log_likelihood", log_likelihood).detach().double().cpu().numpy()
    if ll.ndim != 2 or len(ll) != len(scales) or ll.shape[1] < 2:
        raise ValueError(
            f"log_likelihood has shape {ll.shape}; it is ({len(scales)} scales, held-out reports)"
        )
    if not np.isfinite(ll).all():
        row = int(np.argwhere(~np.isfinite(ll))[0, 0])
        raise ValueError(
            f"log_likelihood is not finite at scale {scales[row]:g}: the law fitted there cannot "
            "make some held-out report at all"
        )
    threshold = -float(scipy.special.ndtri(level / (len(scales) - 1)))
    score = [-math.inf] + [
        max(_standard_errors(ll[smaller] - ll[i]) for smaller in range(i))
        for i in range(1, len(scales))
    ]
    upper = max(s for s, z in zip(scales, score, strict=True) if z <= threshold)
    return ScaleEstimate(scales, tuple((-ll.mean(1)).tolist()), tuple(score), threshold, upper)


@usual()
def estimate_scale(
    reports: ArrayLike | str | Path | Rows | Reports,
    channel: Callable[[float], Mechanism],
    scales: Sequence[float],
    make_generator: Callable[[], Generator],
    *,
    holdout: float = 0.2,
    level: float = 0.05,
    seed: int = 0,
    **training: Any,
) -> ScaleEstimate:
    """The largest noise scale that held-out ``reports`` (n, d) allow, one training a scale.

    channel: makes the mechanism from a scale, such as ``pg.Gaussian``. scales: ascending, data
    units. make_generator: a fresh, untrained generator, as flexible as the raw law may be: with
    a rigid one the bound speaks of that model only. holdout: fraction of the reports that judge
    and never train. level: one-sided, for the whole decision. training: settings of `fit`; a
    checkpoint is a file for each scale, named after it.

    The matched loss at the estimate is ``EntropicLoss.matched(channel(estimate.upper))``.
    """
    rows = rows_of("reports", reports)
    share = checks.fraction("holdout", holdout)
    kept = round(share * len(rows))
    if not 2 <= kept < len(rows):
        raise ValueError(f"holdout {share} of {len(rows)} reports leaves {kept} to judge by")
    level, seed = checks.probability("level", level), checks.integer("seed", seed)
    scales = _ascending(scales)
    checks.function("channel", channel, "pg.Gaussian")
    checks.function("make_generator", make_generator, "lambda: pg.MLP(2, 2)")
    channels = [channel(scale) for scale in scales]  # all of them, before any training
    for scale, made in zip(scales, channels, strict=True):
        checks.instance(f"channel({scale:g})", made, Mechanism)
    order = Shuffle(len(rows), seed, "scale")
    heldout, rest = Picked(rows, order, 0, kept), Picked(rows, order, kept, len(rows) - kept)

    def judge(scale: float, mechanism: Mechanism) -> Tensor:
        settings = {"holdout": 0.0, "seed": seed} | training
        if settings.get("checkpoint") is not None:  # a file for each
            path = checks.as_path("checkpoint", settings["checkpoint"])
            settings["checkpoint"] = path.with_name(f"{path.stem}-{scale!r}{path.suffix}")
        generator = make_generator()
        fit(generator, rest, EntropicLoss.matched(mechanism), **settings)
        x = generator.sample(POINTS, seed=seed).double()
        return report_log_likelihood(x, heldout, mechanism).cpu()

    judged = [judge(*pair) for pair in zip(scales, channels, strict=True)]
    return largest_allowed_scale(scales, torch.stack(judged), level=level)


def _ascending(scales: Any) -> tuple[float, ...]:
    entries = enumerate(checks.sequence("scales", scales, "numbers"))
    found = tuple(checks.positive(f"scales[{k}]", scale) for k, scale in entries)
    if len(found) < 2 or any(a >= b for a, b in pairwise(found)):
        raise ValueError(f"scales must be at least two, ascending, got {list(found)}")
    return found


def _standard_errors(difference: np.ndarray) -> float:
    """The mean in units of its standard error; zero where nothing differs."""
    error = difference.std(ddof=1) / math.sqrt(len(difference))
    return float(difference.mean() / error) if error > 0.0 else 0.0
