"""The same measurement on fresh samples, many times over, and the rate at which errors fall.

What a theorem says of n reports is about their law, so it is checked on many draws at each n.
Draws are independent across repetitions and sizes, run side by side on the cores, and are kept
one by one in a folder, so that a run that was killed takes up where it stopped.
"""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.artifact.sweep import side_by_side
from privgan.files import load_tensors, save_tensors
from privgan.mechanisms import Mechanism
from privgan.training.losses import Loss

RESAMPLES = 2000  # of the repetitions at each n, for an interval
FORMAT = "privgan loss 2"


def draw_reports(draw: Callable[..., Tensor], mechanism: Mechanism, n: int, *, seed: int) -> Tensor:
    """Reports (n, d) of fresh records ``draw(n, seed=...)``: itself a sampler once the first two
    arguments are bound, ``partial(draw_reports, draw, mechanism)``.
    """
    checks.function("draw", draw, "privgan.artifact.data.circle")
    checks.instance("mechanism", mechanism, Mechanism)
    records, noise = _seeds(seed)
    return mechanism.privatize(draw(n, seed=records), seed=noise)


def sampled_losses(
    loss: Loss,
    draw_x: Callable[..., Tensor],
    draw_y: Callable[..., Tensor],
    repeats: Mapping[int, int],
    *,
    seed: int = 0,
    jobs: int | None = None,
    checkpoint_dir: str = "",
) -> dict[int, Tensor]:
    """The loss between n points of either law, ``repeats[n]`` times for every n.

    draw_x, draw_y: samplers ``draw(n, seed=...)``; those of `privgan.artifact.data`, bound with
    `functools.partial`, can be sent to other processes. The draws of ``draw_y`` at one ``seed``
    are the same whatever the loss and ``draw_x``. jobs: solves at a time, as in
    `sweep.side_by_side`. checkpoint_dir: a folder where values are stored and looked up, each
    under its loss, samplers, n and seeds; none if empty.

    Returns float64 values (repeats[n],) for every n, cost units. Warns if any was not solved to
    the loss's tolerance. Raises ValueError for a stored value that is damaged.
    """
    checks.instance("loss", loss, Loss)
    for name, draw in (("draw_x", draw_x), ("draw_y", draw_y)):
        checks.function(name, draw, "privgan.artifact.data.circle")
    checks.instance("repeats", repeats, Mapping)
    repeats = {checks.positive_int("a size in repeats", n): r for n, r in repeats.items()}
    for n, r in repeats.items():
        checks.positive_int(f"repeats[{n}]", r)
    cells = [(n, r) for n in sorted(repeats, reverse=True) for r in range(repeats[n])]
    calls = [(loss, draw_x, draw_y, n, _seeds(seed, n, r)) for n, r in cells]
    folder = str(Path(checkpoint_dir).expanduser().absolute()) if checkpoint_dir else ""
    found = side_by_side(partial(_stored, folder), calls, jobs)
    unsolved = sum(not converged for _, converged in found)
    if unsolved:
        warnings.warn(
            f"{unsolved} of {len(found)} solves stopped short of the loss's tolerance; raise its "
            "max_iter or tol",
            RuntimeWarning,
            stacklevel=2,
        )
    values: dict[int, list[float]] = {n: [] for n in repeats}
    for (n, _), (value, _) in zip(cells, found, strict=True):
        values[n].append(value)
    return {n: torch.tensor(of, dtype=torch.float64) for n, of in values.items()}


def _stored(checkpoint_dir: str, *call: Any) -> tuple[float, bool]:
    """`_solved`, or what it found before; nothing in the folder is ever executed.

    A file says itself which call it is of: its name could be another's.
    """
    if not checkpoint_dir:
        return _solved(*call)
    own = joblib.hash(call)
    path = Path(checkpoint_dir) / f"{own}.safetensors"
    try:
        about, tensors = load_tensors(path, FORMAT, "value")
    except FileNotFoundError:
        value, converged = _solved(*call)
        stored = {"value": torch.tensor(value, dtype=torch.float64)}
        save_tensors(path, FORMAT, {"call": own, "converged": converged}, stored, "value")
        return value, converged
    if about.get("call") != own:
        raise ValueError(
            f"value {path} is of another loss, sampler, size or seed than its name says; delete it"
        )
    return tensors["value"].item(), about["converged"]


def _solved(
    loss: Loss,
    draw_x: Callable[..., Tensor],
    draw_y: Callable[..., Tensor],
    n: int,
    seeds: tuple[int, int],
) -> tuple[float, bool]:
    solved = loss.solve(draw_x(n, seed=seeds[0]), draw_y(n, seed=seeds[1]))
    return solved.value.item(), solved.converged


def _seeds(*entropy: int) -> tuple[int, int]:
    """Two seeds of independent streams: equal or neighbouring seeds would share their numbers."""
    first, second = np.random.SeedSequence(_entropy(*entropy)).generate_state(2)
    return int(first), int(second)


def _entropy(*seeds: int) -> list[int]:
    """Integers as NumPy takes them, which knows no negative ones."""
    return [checks.integer("seed", seed) % 2**128 for seed in seeds]


@dataclass(frozen=True)
class Rate:
    """``error ~ constant * n ** slope``; ``low`` and ``high`` bound the slope (95%)."""

    slope: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.slope:.2f} ({self.low:.2f} to {self.high:.2f})"


def rate(errors: Mapping[int, Tensor], *, seed: int = 0) -> Rate:
    """Slope of log root-mean-square error in log n, by least squares.

    errors: for each of two or more n, the repetitions (r,), in any unit. The interval is the
    percentile bootstrap's, resampling the repetitions at each n: it holds what repetitions vary
    by, not the curvature of the true curve.
    """
    checks.instance("errors", errors, Mapping)
    if len(errors) < 2:
        raise ValueError(f"errors has {len(errors)} sizes; a slope needs two")
    rng = np.random.default_rng(_entropy(seed))
    sizes = [checks.positive_int("a size in errors", n) for n in errors]
    squares = [_squares(f"errors[{n}]", of) for n, of in errors.items()]
    draws = [s[rng.integers(len(s), size=(RESAMPLES, len(s)))].mean(1) for s in squares]
    means = np.column_stack([[s.mean() for s in squares], np.array(draws)])  # (sizes, 1 + draws)
    slopes = np.polyfit(np.log(sizes), np.log(means) / 2, 1)[0]
    low, high = np.quantile(slopes[1:], (0.025, 0.975))
    return Rate(float(slopes[0]), float(low), float(high))


def _squares(name: str, errors: Tensor) -> np.ndarray:
    errors = checks.as_float_tensor(name, errors).detach().double().cpu()
    checks.check_finite(name, errors)
    if errors.ndim != 1 or not len(errors):
        raise ValueError(f"{name} has shape {tuple(errors.shape)}; give its repetitions, (r,)")
    if (errors == 0).any():
        first = int((errors == 0).nonzero()[0])
        raise ValueError(f"{name} is 0 at index {first}, and has no logarithm; leave it out")
    return np.square(errors.numpy())
