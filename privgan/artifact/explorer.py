"""What the site's figure moves: circles learned at many regularisations and levels of noise.

`python -m privgan.artifact.explorer` trains them all and writes ``figures/explorer.json``.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from privgan.artifact import data, metrics
from privgan.artifact.sweep import side_by_side
from privgan.files import write_atomically
from privgan.generators import MLP
from privgan.mechanisms import Gaussian
from privgan.training import EntropicLoss, fit, report_nll

STDS = (0.1, 0.2, 0.4)
TIMES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # reg, over the matched one
REPORTS, JUDGED, SHOWN = 20_000, 1000, 400
STEPS, BATCH = 400, 500
UNIT = 2**13  # steps of a coordinate in 1


def packed(points: Tensor) -> str:
    """Points (n, 2) within 3.9 of the origin as 16-bit integers in base 64."""
    whole = np.clip(np.round(points.numpy() * UNIT), -32000, 32000).astype("<i2")
    return base64.b64encode(whole.tobytes()).decode()


def one(std: float, times: float, steps: int = STEPS) -> dict[str, Any]:
    """A training, its points, W2 to raw ones and how likely other reports are (nats, negative)."""
    noise = Gaussian(std)
    reports = noise.privatize(data.circle(REPORTS, seed=0), seed=1)
    loss = EntropicLoss(noise.cost, noise.reg * times)
    model = MLP(2, 2)
    settings: dict[str, Any] = {"generated": 250, "average": 0.99, "progress": False}
    fit(model, reports, loss, mechanism=noise, steps=steps, batch_size=BATCH, **settings)
    later = data.circle(JUDGED, seed=2)
    told = noise.privatize(later, seed=3)
    return {
        "w2": round(metrics.w2(model.sample(JUDGED, seed=4), later), 4),
        "nll": round(report_nll(model.sample(4 * JUDGED, seed=5), told, noise), 4),
        "points": packed(model.sample(SHOWN, seed=6)),
    }


def explored(steps: int = STEPS) -> dict[str, Any]:
    """All that the figure needs: a run for every std and multiple, and reports of each std."""
    raw = data.circle(SHOWN, seed=7)
    runs = side_by_side(one, [(s, t, steps) for s in STDS for t in TIMES])
    width = len(TIMES)
    return {
        "unit": UNIT,
        "stds": STDS,
        "times": TIMES,
        "raw": packed(raw),
        "reports": [packed(Gaussian(s).privatize(raw, seed=8)) for s in STDS],
        "runs": [runs[k * width : (k + 1) * width] for k in range(len(STDS))],
        "says": f"MLP, {REPORTS} reports, {STEPS} steps of {BATCH}, one seed",
    }


if __name__ == "__main__":
    path = Path(__file__).parents[2] / "figures" / "explorer.json"
    write_atomically(path, json.dumps(explored(), separators=(",", ":")) + "\n")
