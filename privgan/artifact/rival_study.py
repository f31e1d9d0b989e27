"""The comparison of 10_rivals: ways to make a generator of the same reports, for equal seconds.

A `Problem` is what is given: reports, their mechanism, a network, and what raw data say of a
generator afterwards. A way takes a problem and a number of steps, and returns a generator.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from privgan import checks
from privgan.artifact import data, metrics, plotting
from privgan.artifact.claims import found_in_words, mean_and_error
from privgan.artifact.contrast import ExactLoss, SinkhornDivergence
from privgan.artifact.deconvolution import deconvolve
from privgan.artifact.image_study import Judge, Sent, network
from privgan.artifact.rivals import ambient_gan, naive_vae
from privgan.artifact.sweep import side_by_side
from privgan.generators import MLP, Generator
from privgan.mechanisms import Gaussian, Laplace, Mechanism, one_hot
from privgan.training import AmortizedLoss, EntropicLoss, LikelihoodLoss, fit, report_nll

EXACT = 500  # reports, at most, in a batch of exact transport
TOLD, POINTS = 500, 10_000  # other reports, and generated records, of a likelihood
COMPONENTS = 5  # normals of the mixture, in each class

# The best for `ambient_gan` of what 10_rivals says was tried.
SHAPE_CRITIC = {"batch_size": 512, "lr": 2e-4, "penalty": 1.0}
TABLE_CRITIC = {"batch_size": 128, "lr": 1e-3, "penalty": 10.0}
IMAGE_CRITIC = {"batch_size": 64, "lr": 2e-3, "penalty": 0.1}

Scores = dict[str, float]


@dataclass(frozen=True)
class Problem:
    """Reports (n, d), their mechanism, a network to train, and how near a generator comes.

    make: the network, by its seed. fitting, coding: settings of `privgan.fit`, for a batch's plan
    and for the network's. plan: of `AmortizedLoss`. critic: of `ambient_gan`.
    """

    reports: Tensor
    mechanism: Mechanism
    make: Callable[[int], Generator]
    score: Callable[[Generator], Scores]
    fitting: Mapping[str, Any]
    coding: Mapping[str, Any]
    critic: Mapping[str, Any]
    plan: Mapping[str, Any] = field(default_factory=dict)


def _unlikely(generator: Generator, others: Tensor, mechanism: Mechanism, seed: int) -> float:
    """Loss of the reports of ``others``, raw records: nats each, and an upper bound, for only
    `POINTS` generated records stand for the generator."""
    told = mechanism.privatize(others[:TOLD], seed=seed)
    return report_nll(generator.sample(POINTS, seed=6), told, mechanism)


def _plain(latents: int, columns: int, seed: int) -> Generator:
    return MLP(latents, columns, seed=seed)


def _coding(n: int) -> dict[str, Any]:
    return {"lr": 2e-3, "batch_size": min(250, n // 2)}


def shape(name: str, std: float, n: int, n_eval: int, seed: int) -> Problem:
    """A shape in the plane (`privgan.artifact.data`) under Gaussian noise."""
    draw, noise = getattr(data, name), Gaussian(std)
    later = draw(n_eval, seed=100 + seed)

    def score(generator: Generator) -> Scores:
        nll = _unlikely(generator, later, noise, 9)
        return {"w2": metrics.w2(generator.sample(n_eval, seed=5), later), "nll": nll}

    reports = noise.privatize(draw(n, seed=seed), seed=1 + seed)
    fitting = {"lr": 1e-3, "batch_size": min(1000, n // 2)}
    make = partial(_plain, 2, 2)
    return Problem(reports, noise, make, score, fitting, _coding(n), SHAPE_CRITIC)


def images(
    sent: Sent, heat: float, judge: Judge, n_eval: int, latents: int, batch: int, seed: int
) -> Problem:
    """Labelled images, by a decoder of ``latents`` normals and the class.

    heat: of the network's plan, and of a batch's where that is more than 16 (`privgan.fit`'s
    anneal).
    """
    sent, side = replace(sent, seed=seed), sent.side
    fitting = {"lr": 4e-3, "batch_size": batch, "generated": batch, "average": 0.99}
    coding = _coding(sent.n) | {"lr": 3e-3, "average": 0.999, "anneal": heat}
    others = torch.cat([judge.test.pixels, one_hot(judge.test.labels, 10)], 1)

    def score(generator: Generator) -> Scores:
        nll = _unlikely(generator, others, sent.mechanism, 9)
        return judge.scores(generator, n_eval) | {"nll": nll}

    return Problem(
        sent.reports(),
        sent.mechanism,
        partial(network, side, latents=latents),
        score,
        fitting | {"anneal": max(16.0, heat)},
        coding,
        IMAGE_CRITIC,
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
    senders = people[torch.randint(len(people), (n,), generator=rng)]
    reports = noise.privatize(senders, seed=1 + seed)

    def score(generator: Generator) -> Scores:
        nll = _unlikely(generator, people, noise, 9)
        return {"w2": metrics.w2(generator.sample(len(people), seed=5), people), "nll": nll}

    fitting = {"lr": 1e-3, "batch_size": min(1000, n // 2)}
    make = partial(_plain, 10, people.shape[1])
    return Problem(reports, noise, make, score, fitting, _coding(n), TABLE_CRITIC)


def outcome(
    make: Callable[..., Problem], given: Sequence[Any], way: str, steps: int, seed: int, shown: int
) -> tuple[Scores, Tensor]:
    """What ``way`` makes of a problem in ``steps``: its scores, and ``shown`` of its records.

    ``seconds`` are the processor's.
    """
    checks.one_of("way", way, WAYS)
    problem = make(*given)
    started = time.process_time()
    generator = WAYS[way](problem, steps, seed)
    seconds = time.process_time() - started
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


def _ambient_gan(problem: Problem, steps: int, seed: int) -> Generator:
    generator, settings = problem.make(seed), {"steps": steps, "seed": seed, **problem.critic}
    ambient_gan(generator, problem.reports, problem.mechanism, **settings)
    return generator


def _naive_vae(problem: Problem, steps: int, seed: int) -> Generator:
    generator = problem.make(seed)
    naive_vae(generator, problem.reports, problem.mechanism, steps=steps, seed=seed)
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
    "AmbientGAN": _ambient_gan,
    "VAE on reports": _naive_vae,
    "normal mixture": _mixture,
    "debiased": partial(_batch, loss=SinkhornDivergence.matched, anneal=1.0),
    "unregularised": partial(_batch, loss=_exact, anneal=1.0, most=EXACT),
}
WAYS = OURS | RIVALS
ROLES = {  # in `plotting`
    "matched, batch's plan": "matched",
    "matched, network's plan": "matched",
    "likelihood": "likelihood",
    "AmbientGAN": "other",
    "VAE on reports": "wrong cost",
    "normal mixture": "closed form",
    "debiased": "debiased",
    "unregularised": "unregularised",
}


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
    steps: Mapping[int, Mapping[str, int]],
    seeds: Iterable[int],
    *,
    shown: int,
) -> list[Run]:
    """Every way on every problem, for each length and each seed, two at a time.

    problems: for every case a function that makes one, and its arguments but the seed, which comes
    last. steps: of each way, for each multiple of the shortest time. Raises ValueError where a way
    has none.
    """
    for t, own in steps.items():
        if missing := [way for way in WAYS if way not in own]:
            raise ValueError(f"steps at times {t} lack {missing[0]!r}; every way needs a number")
    plan = [(c, w, t, s) for c in problems for t in steps for w in WAYS for s in seeds]
    calls = [
        (problems[c][0], [*problems[c][1], s], w, steps[t][w], s, shown) for c, w, t, s in plan
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
    """Means over the seeds with their errors: a row for every case, length and way."""
    rows = []
    for case, times, way in dict.fromkeys((r.case, r.times, r.way) for r in runs):
        found = (mean_and_error(by_seed(runs, case, way, times, score)) for score in scores)
        rows.append([case, times, way, *(found_in_words(**values) for values in found)])
    return plotting.table(rows, ["case", "times", "way", *scores])


def as_numbers(runs: Iterable[Run]) -> dict[str, Scores]:
    """Every run's scores by its name."""
    return {f"{r.case}, {r.way}, {r.times} x, seed {r.seed}": r.scores for r in runs}


def drawn(runs: Sequence[Run], cases: Sequence[str], times: int, *, side: int) -> Figure:
    """Records of every way, a row for each case: points in the plane, or images of this side."""
    size = (plotting.PAGE, 1.0 * len(cases) + 0.3)
    fig, axes = plt.subplots(len(cases), len(WAYS), figsize=size, squeeze=False)
    shown = {(r.case, r.way): r.records for r in reversed(runs) if r.times == times}
    if not shown:
        raise ValueError(f"no run has times {times}; give each of `times` a row of steps")
    for line, case in zip(axes, cases, strict=True):
        for ax, way in zip(line, WAYS, strict=True):
            records = shown[case, way]
            if records.shape[1] == 2:
                plotting.cloud(ax, records, ROLES[way], "", limit=2.5)
                ax.set(xticks=[], yticks=[])
            else:
                plotting.mosaic(ax, records[:20, : side**2], side, "", rows=5)
        place = {"transform": line[0].transAxes, "ha": "right", "va": "center", "rotation": 90}
        line[0].text(-0.08, 0.5, case, fontsize=7, **place)
    for ax, way in zip(axes[0], WAYS, strict=True):
        ax.set_title(way.replace(" ", "\n", 1), fontsize=7)
    return fig
