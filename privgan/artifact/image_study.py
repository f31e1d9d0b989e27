"""Labelled images behind reports: three ways to learn from the same ones, readers, and a judge.

`Sent` is what people report, `learn` makes a generator of it by the matched loss or the likelihood,
`readers` are classifiers that need no generator, and a `Judge` holds the raw images that nobody
above ever saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.artifact import metrics
from privgan.artifact.claims import found_in_words, mean_and_error
from privgan.artifact.data import IMAGES, Images
from privgan.artifact.readers import classify
from privgan.artifact.referee import Classifier, accuracy, fit_classifier
from privgan.generators import ConvDecoder, Generator, Labelled
from privgan.mechanisms import Mechanism, Product, RandomizedResponse, one_hot
from privgan.plain import digest
from privgan.training import (
    AmortizedLoss,
    EntropicLoss,
    History,
    LikelihoodLoss,
    fit,
    report_nll,
)
from privgan.training.debiasing import Debiased
from privgan.training.shuffling import held_out

# To learn: the matched loss with a batch's plan or a network's, and the likelihood.
WAYS: dict[str, Any] = {
    "batch": EntropicLoss,
    "network": AmortizedLoss,
    "likelihood": LikelihoodLoss,
}
HOLDOUT = 0.02
TOLD = 1000  # held-out reports that say which generator is likelier
DRAWS = 64  # latents a report, by the encoder
POINTS = 50_000  # generated records, where there is no encoder
LOOKED_AT = 3000  # records in precision and recall
PASSES = 3  # of a student over what it is taught by
STUDENT_NOISE = 0.6  # on the images that a student is taught by
WORDS = {  # what the scores are called where they stand alone
    "frechet": "Fréchet distance to raw test images",
    "precision": "share of generated images among raw ones (precision)",
    "recall": "share of raw images among generated ones (recall)",
    "student": "accuracy of a student of generated records",
}


@cache
def raw_images(dataset: str, part: str) -> Images:
    """A data set's "train" or "test" images, read once by a process."""
    return IMAGES[dataset](part)


@dataclass(frozen=True)
class Sent:
    """Reports of ``n`` records of a data set: noise on pixels, and the class answered at random.

    noise: of all pixels. epsilon: of the answer, nats. seed: of the noise.
    """

    dataset: str
    noise: Mechanism
    epsilon: float
    n: int
    seed: int = 0

    @property
    def side(self) -> int:
        return raw_images(self.dataset, "train").side

    @cached_property
    def mechanism(self) -> Product:
        pixels = self.side**2
        answer = RandomizedResponse.calibrate(epsilon=self.epsilon, k=10)
        return Product((slice(0, pixels), self.noise), (slice(pixels, pixels + 10), answer))

    def raw(self) -> Tensor:
        """Pixels, then the class as ten one-hot columns, (n, side * side + 10)."""
        train = raw_images(self.dataset, "train")
        return torch.cat([train.pixels, one_hot(train.labels, 10)], 1)[: self.n]

    def reports(self) -> Tensor:
        return self.mechanism.privatize(self.raw(), seed=1 + self.seed)


def network(side: int, seed: int, latents: int) -> Labelled:
    """A convolutional decoder of ``latents`` normals and the class, which comes out with images."""
    return Labelled(ConvDecoder(latents + 10, side, seed=seed), 10)


def learn(
    way: str, sent: Sent, settings: Mapping[str, Any], checkpoint: str = ""
) -> tuple[Generator, dict[str, float]]:
    """A generator by one of `WAYS`, and what it took.

    settings: of `privgan.fit`, and ``latents``; for the network's plan ``warm_up`` too, which is
    `AmortizedLoss`'s anneal, and ``first``, settings of the likelihood by which it starts.
    Held-out reports have, by the generator, a likelihood of at least minus ``nll`` nats each, and
    about ``loose`` more at twice the draws. ``seconds`` are the steps', ``information`` the plan's
    nats at the end, where there is a plan.
    """
    reports, mechanism = sent.reports(), sent.mechanism
    told = reports[held_out(len(reports), HOLDOUT, sent.seed)][:TOLD]
    generator = network(sent.side, sent.seed, settings["latents"])
    loss, past = train(generator, way, reports, mechanism, settings, sent.seed, checkpoint)
    took = {"seconds": sum(history.seconds for history in past)}
    if not isinstance(loss, LikelihoodLoss):
        took["information"] = past[-1].information[-1][1]
    few, many = _nll(loss, generator, told, mechanism)
    return generator, {"nll": many, "loose": few - many} | took


def train(
    generator: Generator,
    way: str,
    reports: Tensor,
    mechanism: Mechanism,
    settings: Mapping[str, Any],
    seed: int,
    checkpoint: str = "",
) -> tuple[Any, list[History]]:
    """Train ``generator`` in place by one of `WAYS` on ``reports`` (n, d); the loss, and how it
    went, a history for each fit. Settings as of `learn`."""
    own, kind = dict(settings), WAYS[checks.one_of("way", way, WAYS)]
    past: list[History] = []
    if first := own.pop("first", None):
        kept = checkpoint and f"{checkpoint}.first"
        past += train(generator, "likelihood", reports, mechanism, first, seed, kept)[1]
    own.pop("latents", None)
    coding: dict[str, Any] = {}
    if kind is AmortizedLoss:
        coding = {"anneal": own.pop("warm_up"), "autocast": True, "seed": seed}
    loss = kind.matched(mechanism, **coding)
    own |= {"holdout": HOLDOUT, "seed": seed, "progress": False, "checkpoint": checkpoint or None}
    return loss, [*past, fit(generator, reports, loss, **own)]


def _nll(
    loss: Any, generator: Generator, told: Tensor, mechanism: Mechanism
) -> tuple[float, float]:
    """Two upper bounds of the mean NLL, the second by twice the draws: proposals are an encoder's,
    or else the generator's own law."""
    if isinstance(loss, AmortizedLoss):
        found = [loss.log_likelihood(generator, told, draws=k, seed=0) for k in (DRAWS // 2, DRAWS)]
        return -found[0].mean().item(), -found[1].mean().item()
    points = generator.sample(POINTS, seed=7)
    few, many = (report_nll(points[:k], told, mechanism) for k in (POINTS // 2, POINTS))
    return few, many


@dataclass(frozen=True)
class Judge:
    """Raw test images, and a classifier of raw images whose features tell laws of images apart."""

    referee: Classifier
    test: Images

    @classmethod
    def of(cls, dataset: str, *, epochs: int) -> "Judge":
        train, test = raw_images(dataset, "train"), raw_images(dataset, "test")
        return cls(fit_classifier(train.pixels, train.labels, epochs=epochs, seed=0), test)

    @cached_property
    def truth(self) -> Tensor:
        return self.referee.features(self.test.pixels)

    def likeness(self, images: Tensor) -> dict[str, float]:
        """Fréchet distance, precision and recall of ``images`` (n, pixels), in the features."""
        found = self.referee.features(images)
        precision, recall = metrics.precision_recall(self.truth[:LOOKED_AT], found[:LOOKED_AT])
        distance = metrics.frechet(found, self.truth)
        return {"frechet": distance, "precision": precision, "recall": recall}

    def student(self, images: Tensor, labels: Tensor, epochs: int = PASSES) -> float:
        """Accuracy on raw test images of a classifier taught by ``images`` with ``labels``."""
        pupil = fit_classifier(images, labels, epochs=epochs, noise=STUDENT_NOISE, seed=0)
        return accuracy(pupil, self.test.pixels, self.test.labels)

    def scores(self, generator: Generator, n: int) -> dict[str, float]:
        """`likeness` and ``student`` of ``n`` generated records."""
        images, labels = apart(generator.sample(n, seed=3))
        return self.likeness(images) | {"student": self.student(images, labels)}


def apart(records: Tensor) -> tuple[Tensor, Tensor]:
    """Images (n, pixels) and labels (n,) of generated records."""
    return records[:, :-10].clamp(0.0, 1.0), records[:, -10:].argmax(1)


def learn_and_judge(
    way: str, sent: Sent, settings: Mapping[str, Any], judge: Judge, n: int, checkpoint: str
) -> tuple[Generator, dict[str, float]]:
    """`learn`, and the scores of what was learned: one call of a sweep.

    The student sees as many generated records, each once, as a reader of the reports sees reports.
    """
    generator, took = learn(way, sent, settings, checkpoint)
    images, _ = apart(generator.sample(n, seed=3))
    student = judge.student(*apart(generator.sample(PASSES * sent.n, seed=4)), epochs=1)
    return generator, judge.likeness(images) | {"student": student} | took


def readers(sent: Sent, judge: Judge) -> dict[str, float]:
    """Accuracies on raw test images of classifiers made of the same reports without a generator.

    The judge's network taught by the reports themselves, and Bayes' rule with one normal law a
    class whose moments had the noise taken off: one covariance for all, or one each.
    """
    reports = sent.reports()
    found = {"network on reports": judge.student(reports[:, :-10], reports[:, -10:].argmax(1))}
    debiased = Debiased(reports, sent.mechanism, seed=sent.seed)
    for rule, own in (("linear", 0.0), ("quadratic", 1.0)):
        guess = classify(debiased.generator(own=own), judge.test.pixels)
        found[rule] = (guess == judge.test.labels).double().mean().item()
    return found


def nearer_to_training(images: Tensor, train: Tensor, test: Tensor) -> float:
    """The share of ``images`` whose nearest raw image is one of ``train``, not one of ``test``.

    Of as many of each, one half says that nothing was repeated; 1 that everything was.
    """
    n = min(len(train), len(test))
    near = [torch.cdist(images, part[:n]).amin(1) for part in (train, test)]
    return (near[0] < near[1]).double().mean().item()


Run = tuple[str, str, int] | str  # level, way and seed; or another name
Scores = Mapping[Run, Mapping[str, float]]


def calls(
    runs: Sequence[tuple[str, str, int]],
    sent: Mapping[str, Sent],
    settings: Mapping[str, Mapping[str, Any]],
    judge: Judge,
    n: int,
    checkpoint_dir: str = "",
) -> list[tuple[Any, ...]]:
    """Arguments of `learn_and_judge` for runs of (level, way, seed)."""
    return [
        call(way, replace(sent[level], seed=s), settings[level][way], judge, n, checkpoint_dir)
        for level, way, s in runs
    ]


def call(
    way: str, sent: Sent, settings: Mapping[str, Any], judge: Judge, n: int, checkpoint_dir: str
) -> tuple[Any, ...]:
    """Arguments of `learn_and_judge`, with a checkpoint of its own where there is a folder."""
    name = f"{sent.dataset} {way} {digest([repr(sent)])[:8]}.ckpt"
    checkpoint = str(Path(checkpoint_dir).absolute() / name) if checkpoint_dir else ""
    return way, sent, settings, judge, n, checkpoint


def seeds(scores: Scores, level: str, way: str) -> list[Mapping[str, float]]:
    """The scores of a level's trainings in one way, a seed each."""
    return [v for run, v in scores.items() if run[:2] == (level, way)]


def mean(scores: Scores, level: str, way: str) -> dict[str, float]:
    """Over the seeds."""
    found = seeds(scores, level, way)
    return {key: sum(v[key] for v in found) / len(found) for key in found[0]}


def likelier(scores: Scores, level: str) -> str:
    """The recipe: the way to the generator by which held-out reports are likelier, by its bound.

    Of the first seed, in which all ways have learned from the same reports.
    """
    found = {run[1]: v["nll"] for run, v in scores.items() if run[0] == level and run[2] == 0}
    return min(found, key=lambda way: found[way])


def table(scores: Scores) -> Any:
    """A data frame of means over the seeds with their errors: a row for each level and way."""
    import pandas as pd

    rows = {}
    for run in scores:
        level, way = (run, "network") if isinstance(run, str) else run[:2]
        found = [scores[run]] if isinstance(run, str) else seeds(scores, level, way)
        rows[level, way] = {
            key: found_in_words(**mean_and_error([values[key] for values in found]))
            for key in scores[run]
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def as_numbers(scores: Scores) -> dict[str, Mapping[str, float]]:
    """Every run's scores by its name."""
    return {
        r if isinstance(r, str) else f"{r[0]}, {r[1]}, seed {r[2]}": v for r, v in scores.items()
    }
