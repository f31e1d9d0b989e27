"""04_manifolds: distances of every method, a row a case."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike

from privgan.artifact.plotting import PAGE, look, outside


def distances(
    measures: Mapping[str, Mapping[tuple[str, str], ArrayLike]],
    cases: Sequence[str],
    roles: Mapping[str, str],
) -> Figure:
    """A panel a measure: mean over seeds for every case and way, with one standard error.

    measures: for each, values (seeds,) of every case and way. roles: which role a way plays.
    """
    fig, axes = plt.subplots(
        1, len(measures), figsize=(PAGE, 0.27 * len(cases) + 1.0), sharey=True, squeeze=False
    )
    rows = np.arange(len(cases))
    for ax, (measure, values) in zip(axes[0], measures.items(), strict=True):
        for way, role in roles.items():
            own = [np.atleast_1d(np.asarray(values[case, way], float)) for case in cases]
            errors = [v.std(ddof=1) / np.sqrt(len(v)) if len(v) > 1 else 0.0 for v in own]
            means = [float(v.mean()) for v in own]
            style: dict[str, Any] = look(role, linestyle="none", markersize=4, capsize=1.5)
            if way != role:  # two ways of one role: the second is hollow
                style |= {"fillstyle": "none"} if way.endswith("4") and "x" in way else {}
            ax.errorbar(means, rows, xerr=errors, label=way, **style)
        ax.set_xscale("log")
        low, high = ax.get_xlim()
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
        ax.set_xlabel(measure)
        ax.grid(axis="y", linewidth=0.3)
    axes[0, 0].set_yticks(rows, [case.replace("_", " ") for case in cases])
    axes[0, 0].invert_yaxis()
    outside(fig, axes[0, 0], 4)
    return fig
