"""01_quickstart: what the curator sees while two generators train."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from privgan.artifact.plotting import COLUMN, curve, look, outside
from privgan.training import History


def courses(histories: Mapping[str, Sequence[History]], truth: float) -> Figure:
    """Held-out negative log-likelihood of reports against steps; a line at that of the truth."""
    fig, ax = plt.subplots(figsize=(1.5 * COLUMN, 2.2))
    for role, own in histories.items():
        steps = [step for step, _ in own[0].nll]
        curve(ax, steps, [[nats for _, nats in h.nll] for h in own], look(role), label=role)
    ax.axhline(truth, color=look("raw")["color"], linewidth=0.8, label="the raw law's own")
    ax.set(xlabel="training step", ylabel="held-out reports,\nnats per report")
    ax.set_ylim(truth - 0.02, truth + 0.3)  # the first steps are far above
    outside(fig, ax, 3)
    return fig
