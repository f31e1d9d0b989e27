"""One release of labelled images at one budget, the generator it gives, and rival readers of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from privgan.artifact.data import IMAGES
from privgan.artifact.readers import classify
from privgan.artifact.referee import accuracy, fit_classifier
from privgan.generators import Generator
from privgan.mechanisms import LinearMap, PrivUnit, Product, RandomizedResponse, Sphere, one_hot
from privgan.mechanisms.linear import low_frequencies
from privgan.training.debiasing import FLOORS, Debiased

LENGTH = 7.0  # of the images that directions are shown as: the usual one of raw features
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
    def mechanism(self) -> Product:
        pixels = self.side**2
        sphere = Sphere(len(self.lowest))
        unit = PrivUnit.calibrate(epsilon=self.epsilon - self.label, bounds=sphere)
        answer = RandomizedResponse.calibrate(epsilon=self.label, k=10)
        image = LinearMap(self.lowest, unit)
        return Product((slice(0, pixels), image), (slice(pixels, pixels + 10), answer))

    def shown(self, x: Tensor) -> Tensor:
        """Images ``x`` (n, at least pixels) as the public map and the length's loss leave them."""
        features = x[:, : self.side**2] @ self.lowest.T
        return LENGTH * Sphere(len(self.lowest)).clip(features) @ self.lowest


def read(
    dataset: str,
    plan: OneBudget,
    seed: int,
    *,
    n_reports: int,
    n_generated: int,
    student_noise: float,
) -> tuple[Generator, dict[str, float]]:
    """The closed form of one release, and accuracies on raw test images, by who was taught by what.

    ``student``: the referee's network, by ``n_generated`` records, each seen once. ``reports``: the
    same network, by the reports as the images they stand for. The others are Bayes' rule with
    `RULES`, each at the floor that suits the raw test images best: an advantage that the generator
    has not. No raw training image is used but to be privatized.
    """
    train, test = IMAGES[dataset]("train"), IMAGES[dataset]("test")
    raw = torch.cat([train.pixels, one_hot(train.labels, 10)], 1)[:n_reports]
    mechanism, judged = plan.mechanism, plan.shown(test.pixels)
    reports = mechanism.privatize(raw, seed=1 + seed)
    debiased = Debiased(reports, mechanism, seed=seed)
    model, found = debiased.generator(), {}
    for rule, (own, floors) in RULES.items():
        laws = [debiased.generator(own=own, floor=floor) for floor in floors]
        right = [classify(law, judged / LENGTH) == test.labels for law in laws]
        found[rule] = max(r.double().mean().item() for r in right)
    teach = partial(fit_classifier, noise=student_noise, seed=seed)
    answers = reports[:, -10:].argmax(1)
    pupil = teach(LENGTH * reports[:, :-10] @ plan.lowest, answers)
    found["reports"] = accuracy(pupil, judged, test.labels)
    made = model.sample(n_generated, seed=3 + seed)
    pupil = teach(plan.shown(made), made[:, -10:].argmax(1), epochs=1)
    found["student"] = accuracy(pupil, judged, test.labels)
    return model, found


def two_errors(values: Tensor) -> Tensor:
    """Two standard errors of the mean over the last axis; NaN where that has one entry."""
    count = values.shape[-1]
    return 2 * values.std(-1) / count**0.5 if count > 1 else values.sum(-1) * torch.nan
