"""One release of labelled images at one budget, the generator it gives, and rival readers of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from privgan.artifact.data import IMAGES
from privgan.artifact.image_study import network, train
from privgan.artifact.readers import classify
from privgan.artifact.referee import accuracy, fit_classifier
from privgan.generators import Generator
from privgan.mechanisms import LinearMap, PrivUnit, Product, RandomizedResponse, Sphere, one_hot
from privgan.mechanisms.linear import low_frequencies
from privgan.streams import stream
from privgan.training.debiasing import FLOORS, Debiased

LENGTH = 7.0  # of the images that directions are shown as: the usual one of raw features
READER_NOISE = 0.1  # std on every pixel of the images that a network reads reports as
# Class means alone, one covariance for all, and one for each; and the floors that are tried.
RULES: Mapping[str, tuple[float, Sequence[float]]] = {
    "class means": (0.0, [1.0]),
    "linear": (0.0, FLOORS),
    "quadratic": (1.0, FLOORS),
}


@dataclass(frozen=True)
class OneBudget:
    """The public plan of a release: of side x side images with a class of ten.

    epsilon: nats, of which the label gets ``label``. keep: reported frequencies each way, without
    the constant one.
    """

    side: int
    epsilon: float
    label: float
    keep: int

    @cached_property
    def lowest(self) -> Tensor:
        return low_frequencies(self.side, self.keep)[1:].float()

    @cached_property
    def unit(self) -> PrivUnit:
        """Of the direction of the reported frequencies."""
        sphere = Sphere(len(self.lowest))
        return PrivUnit.calibrate(epsilon=self.epsilon - self.label, bounds=sphere)

    @cached_property
    def mechanism(self) -> Product:
        return self._with_label(LinearMap(self.lowest, self.unit))

    @cached_property
    def gaussian(self) -> Product:
        """The same with Gaussian noise of `PrivUnit`'s total variance: what `unbiased` reports are
        taken for, so that a generator has a gradient (`PrivUnit.as_gaussian`)."""
        return self._with_label(LinearMap(self.lowest, self.unit.as_gaussian()))

    def _with_label(self, image: LinearMap) -> Product:
        pixels = self.side**2
        answer = RandomizedResponse.calibrate(epsilon=self.label, k=10)
        return Product((slice(0, pixels), image), (slice(pixels, pixels + 10), answer))

    def unbiased(self, reports: Tensor) -> Tensor:
        """``reports`` (n, frequencies + 10), scaled so that a direction is the mean of its own."""
        return torch.cat([self.unit.unbiased(reports[:, :-10]), reports[:, -10:]], 1)

    def shown(self, x: Tensor) -> Tensor:
        """Images ``x`` (n, at least pixels) as the public map and the length's loss leave them."""
        features = x[:, : self.side**2] @ self.lowest.T
        return LENGTH * Sphere(len(self.lowest)).clip(features) @ self.lowest


def lessons(
    model: Generator, plan: OneBudget, n: int, noise: float, seed: int
) -> tuple[Tensor, Tensor]:
    """``n`` generated images (n, pixels) as the public map shows them, with noise, and classes.

    noise: std, on every reported frequency of an image of length `LENGTH`.
    """
    made, rng = model.sample(n, seed=3 + seed), stream(seed, "student")
    moved = noise * torch.randn(n, len(plan.lowest), generator=rng) @ plan.lowest
    return plan.shown(made) + moved, made[:, -10:].argmax(1)


def read(
    dataset: str,
    plan: OneBudget,
    training: Mapping[str, Any],
    student_noise: float,
    seed: int,
    *,
    n_reports: int,
    n_generated: int,
    checkpoint_dir: str = "",
) -> tuple[Generator, dict[str, float]]:
    """The generator of one release, and accuracies on raw test images, by who was taught by what.

    training: settings of the network's plan as of `image_study.train`, or nothing for the closed
    form. student_noise: of `lessons`. checkpoint_dir: where trainings are saved and taken up;
    nowhere if empty.

    ``student``: the referee's network, by ``n_generated`` records, each seen once. ``reports``: the
    same layers, by three passes over the reports as the images they stand for. The others are
    Bayes' rule with `RULES`, each at the floor that suits the raw test images best: an advantage
    that the generator has not. No raw training image is used but to be privatized.
    """
    people, test = IMAGES[dataset]("train"), IMAGES[dataset]("test")
    raw = torch.cat([people.pixels, one_hot(people.labels, 10)], 1)[:n_reports]
    mechanism, judged = plan.mechanism, plan.shown(test.pixels)
    reports = mechanism.privatize(raw, seed=1 + seed)
    debiased = Debiased(reports, mechanism, seed=seed)
    found = {}
    for rule, (own, floors) in RULES.items():
        laws = [debiased.generator(own=own, floor=floor) for floor in floors]
        right = [classify(law, judged / LENGTH) == test.labels for law in laws]
        found[rule] = max(r.double().mean().item() for r in right)
    seen, answers = LENGTH * reports[:, :-10] @ plan.lowest, reports[:, -10:].argmax(1)
    pupil = fit_classifier(seen, answers, noise=READER_NOISE, seed=seed)
    found["reports"] = accuracy(pupil, judged, test.labels)
    if not training:
        model = debiased.generator()
    else:
        name = f"{dataset} {plan.epsilon:g} {seed}.ckpt"
        checkpoint = str(Path(checkpoint_dir).absolute() / name) if checkpoint_dir else ""
        model = network(plan.side, seed, training["latents"])
        sharp = plan.unbiased(reports)
        train(model, "network", sharp, plan.gaussian, training, seed, checkpoint)
    pupil = fit_classifier(
        *lessons(model, plan, n_generated, student_noise, seed), epochs=1, seed=seed
    )
    found["student"] = accuracy(pupil, judged, test.labels)
    return model, found


def two_errors(values: Tensor) -> Tensor:
    """Two standard errors of the mean over the last axis; NaN where that has one entry."""
    count = values.shape[-1]
    return 2 * values.std(-1) / count**0.5 if count > 1 else values.sum(-1) * torch.nan
