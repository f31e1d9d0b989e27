"""The comparison of 10_rivals: ways to make a generator of the same reports, for equal seconds.

A `Problem` is what is given: reports, their mechanism, a network, and what raw data say of a
generator afterwards. A way takes a problem and a number of steps, and returns a generator.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.artifact import data, metrics, plotting
from privgan.artifact.contrast import ExactLoss, SinkhornDivergence
from privgan.artifact.deconvolution import deconvolve
from privgan.artifact.image_study import Judge, Sent, network
from privgan.artifact.rivals import ambient_gan, naive_vae
from privgan.artifact.sweep import side_by_side
from privgan.generators import MLP, Generator
from privgan.mechanisms import Gaussian, Laplace, Mechanism
from privgan.training import AmortizedLoss, EntropicLoss, LikelihoodLoss, fit, report_nll

EXACT = 500  # reports, at most, in a batch of exact transport
COMPONENTS = 5  # normals of the mixture, in each class

Scores = dict[str, float]


@dataclass(frozen=True)
class Problem:
    """Reports (n, d), their mechanism, a network to train, and how near a generator comes.

    make: the network, by its seed. fitting, coding: settings of `privgan.fit`, for a batch's plan
    and for the network's. plan: of `AmortizedLoss`.
    """

    reports: Tensor
    mechanism: Mechanism
    make: Callable[[int], Generator]
    score: Callable[[Generator], Scores]
    fitting: Mapping[str, Any]
    coding: Mapping[str, Any]
    plan: Mapping[str, Any] = field(default_factory=dict)


def _plain(latents: int, columns: int, seed: int) -> Generator:
    return MLP(latents, columns, seed=seed)


def _coding(n: int) -> dict[str, Any]:
    return {"lr": 2e-3, "batch_size": min(250, n // 2)}


def shape(name: str, std: float, n: int, n_eval: int, seed: int) -> Problem:
    """A shape in the plane (`privgan.artifact.data`) under Gaussian noise."""
    draw, noise = getattr(data, name), Gaussian(std)
    later = draw(n_eval, seed=100 + seed)
    told = noise.privatize(later, seed=9)

    def score(generator: Generator) -> Scores:
        nll = report_nll(generator.sample(4 * n_eval, seed=6), told, noise)
        return {"w2": metrics.w2(generator.sample(n_eval, seed=5), later), "nll": nll}

    reports = noise.privatize(draw(n, seed=seed), seed=1 + seed)
    fitting = {"lr": 1e-3, "batch_size": min(1000, n // 2)}
    return Problem(reports, noise, partial(_plain, 2, 2), score, fitting, _coding(n))


def images(sent: Sent, judge: Judge, n_eval: int, latents: int, batch: int, seed: int) -> Problem:
    """Labelled images, by a decoder of ``latents`` normals and the class."""
    sent, side = replace(sent, seed=seed), sent.side
    fitting = {"lr": 4e-3, "batch_size": batch, "generated": batch, "average": 0.99, "anneal": 16.0}
    return Problem(
        sent.reports(),
        sent.mechanism,
        partial(network, side, latents=latents),
        partial(judge.scores, n=n_eval),
        fitting,
        _coding(sent.n) | {"lr": 3e-3, "average": 0.999},
        plan={"anneal": 0.5, "autocast": True},
    )


def measurements() -> Tensor:
    """Thirty columns of scikit-learn's breast cancer table, as normal scores of their ranks."""
    from sklearn.datasets import load_breast_cancer

    columns = torch.tensor(load_breast_cancer().data)
    ranks = (columns.argsort(0).argsort(0).double() + 0.5) / len(columns)
    return torch.special.ndtri(ranks).float()


def numbers(std: float, n: int, seed: int) -> Problem:
    """`measurements` of ``n`` people, drawn with replacement, under Laplace noise."""
    people, noise = measurements(), Laplace(std / 2**0.5)
    rng = torch.Generator().manual_seed(seed)
    reports = noise.privatize(
        people[torch.randint(len(people), (n,), generator=rng)], seed=1 + seed
    )

    def score(generator: Generator) -> Scores:
        return {"w2": metrics.w2(generator.sample(len(people), seed=5), people)}

    fitting = {"lr": 1e-3, "batch_size": min(1000, n // 2)}
    make = partial(_plain, 10, people.shape[1])
    return Problem(reports, noise, make, score, fitting, _coding(n))


def outcome(
    make: Callable[..., Problem], given: Sequence[Any], way: str, steps: int, seed: int, shown: int
) -> tuple[Scores, Tensor]:
    """What ``way`` makes of a problem in ``steps``: scores with seconds, and ``shown`` records."""
    checks.one_of("way", way, WAYS)
    problem = make(*given)
    started = time.monotonic()
    generator = WAYS[way](problem, steps, seed)
    seconds = time.monotonic() - started
    scores = problem.score(generator) | {"seconds": seconds}
    return scores, generator.sample(shown, seed=5)


def _batch(problem: Problem, steps: int, seed: int, *, loss: Any, **own: Any) -> Generator:
    generator, settings = problem.make(seed), {**problem.fitting, **own}
    if "most" in settings:
        size = min(settings.pop("most"), settings["batch_size"])
        settings |= {"batch_size": size, "generated": size}
    settings |= {"steps": steps, "seed": seed, "progress": False, "holdout": 0.02}
    fit(
        generator, problem.reports, loss(problem.mechanism), mechanism=problem.mechanism, **settings
    )
    return generator


def _network(problem: Problem, steps: int, seed: int) -> Generator:
    generator = problem.make(seed)
    loss = AmortizedLoss.matched(problem.mechanism, seed=seed, **problem.plan)
    settings: dict[str, Any] = {"steps": steps, "seed": seed, "progress": False, "holdout": 0.02}
    fit(generator, problem.reports, loss, **problem.coding, **settings)
    return generator


def _rival(problem: Problem, steps: int, seed: int, *, train: Callable[..., Any]) -> Generator:
    generator = problem.make(seed)
    train(generator, problem.reports, problem.mechanism, steps=steps, seed=seed)
    return generator


def _mixture(problem: Problem, steps: int, seed: int) -> Generator:
    settings = {"components": COMPONENTS, "rounds": steps, "seed": seed}
    return deconvolve(problem.reports, problem.mechanism, **settings)


def _exact(mechanism: Mechanism) -> ExactLoss:
    return ExactLoss(mechanism.cost)


OURS: dict[str, Callable[[Problem, int, int], Generator]] = {
    "matched, batch's plan": partial(_batch, loss=EntropicLoss.matched),
    "matched, network's plan": _network,
    "likelihood": partial(_batch, loss=LikelihoodLoss.matched),
}
RIVALS: dict[str, Callable[[Problem, int, int], Generator]] = {
    "AmbientGAN": partial(_rival, train=ambient_gan),
    "VAE on reports": partial(_rival, train=naive_vae),
    "normal mixture": _mixture,
    "debiased": partial(_batch, loss=SinkhornDivergence.matched, anneal=1.0),
    "unregularised": partial(_batch, loss=_exact, anneal=1.0, most=EXACT),
}
WAYS = OURS | RIVALS


@dataclass(frozen=True)
class Run:
    """One case of the comparison, ``times`` as long as the shortest."""

    case: str
    way: str
    times: int
    seed: int
    scores: Scores
    records: Tensor


def compare(
    problems: Mapping[str, tuple[Callable[..., Problem], Sequence[Any]]],
    steps: Mapping[str, int],
    times: Iterable[int],
    seeds: Iterable[int],
    *,
    shown: int,
) -> list[Run]:
    """Every way on every problem, for each multiple of ``steps`` and each seed, two at a time.

    problems: for every case a function that makes one, and its arguments but the seed, which comes
    last. steps: of each way.
    """
    plan = [(c, w, t, s) for c in problems for w in WAYS for t in times for s in seeds]
    calls = [
        (problems[c][0], [*problems[c][1], s], w, t * steps[w], s, shown) for c, w, t, s in plan
    ]
    found = side_by_side(outcome, calls)
    return [Run(*key, *result) for key, result in zip(plan, found, strict=True)]


def by_seed(runs: Iterable[Run], case: str, way: str, times: int, score: str) -> np.ndarray:
    """One score of a way, for every seed."""
    key = (case, way, times)
    return np.array([r.scores[score] for r in runs if (r.case, r.way, r.times) == key])


def best(
    runs: Sequence[Run], case: str, times: int, score: str, ways: Iterable[str]
) -> tuple[str, float]:
    """Of ``ways`` the one with the least mean of a score, and that mean."""
    means = {way: by_seed(runs, case, way, times, score).mean() for way in ways}
    way = min(means, key=lambda w: means[w])
    return way, float(means[way])


def table(runs: Sequence[Run], scores: Sequence[str]) -> Any:
    """Means over the seeds, and half the range, as a data frame: a row for every case and way."""
    import pandas as pd

    rows = []
    for case, way, times in dict.fromkeys((r.case, r.way, r.times) for r in runs):
        row: dict[str, Any] = {"case": case, "way": way, "times": times}
        for score in scores:
            values = by_seed(runs, case, way, times, score)
            half = (values.max() - values.min()) / 2
            row[score] = f"{values.mean():.3g}" + (f" +- {half:.1g}" if half else "")
        rows.append(row)
    return pd.DataFrame(rows).set_index(["case", "way", "times"])


def as_numbers(runs: Iterable[Run]) -> dict[str, Scores]:
    """Every run's scores by its name."""
    return {f"{r.case}, {r.way}, {r.times} x, seed {r.seed}": r.scores for r in runs}


def draw(
    axes: np.ndarray, runs: Sequence[Run], cases: Sequence[str], times: int, *, side: int
) -> None:
    """Records of every way, a row for each case: points in the plane, or images of this side."""
    shown = {(r.case, r.way): r.records for r in reversed(runs) if r.times == times}
    for line, case in zip(axes, cases, strict=True):
        for ax, way in zip(line, WAYS, strict=True):
            records = shown[case, way]
            if records.shape[1] == 2:
                plotting.cloud(ax, records, "matched" if way in OURS else "other", "", limit=2.5)
                ax.set(xticks=[], yticks=[])
            else:
                plotting.mosaic(ax, records[:20, : side**2], side, "", rows=5)
        line[0].text(
            -0.08,
            0.5,
            case,
            transform=line[0].transAxes,
            rotation=90,
            va="center",
            ha="right",
            fontsize=7,
        )
    for ax, way in zip(axes[0], WAYS, strict=True):
        ax.set_title(way.replace(" ", "\n", 1), fontsize=7)
