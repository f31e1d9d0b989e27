"""Encoders: networks that give every report a law of the latents behind it.

A report y is coded as q(c | y) q(u | y, c): probabilities of its record's class, where generators
have classes, and independent normals for the other latents, given the class.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privgan import checks
from privgan.generators.base import seeded

LOG_STD = (-8.0, 3.0)  # the range of a latent's log std given a report


class Encoder(nn.Module):
    """``body`` takes reports (m, d') to features (m, width); linear heads read the code off them.

    normals: latents that are normal. classes: how many classes there are, 0 for none. Reports are
    taken in standard units, which `settle` finds.
    """

    body: nn.Module
    centre: Tensor
    spread: Tensor

    def __init__(self, body: nn.Module, width: int, dim: int, normals: int, classes: int = 0):
        super().__init__()
        self.body = body
        self.width: int = checks.positive_int("width", width)
        self.dim: int = checks.positive_int("dim", dim)
        self.normals: int = checks.positive_int("normals", normals)
        self.classes: int = checks.integer("classes", classes)
        self.code = nn.Linear(width + classes, 2 * normals)
        if classes:
            self.odds = nn.Linear(width, classes)
        self.register_buffer("centre", torch.zeros(dim))
        self.register_buffer("spread", torch.ones(dim))

    def settle(self, reports: Tensor) -> None:
        """Take the mean and spread of ``reports`` (m, d') for the body's units, the first time."""
        if self.centre.any() or (self.spread != 1).any():
            return
        self.centre = reports.mean(0)
        spread = reports.std(0, correction=0)
        self.spread = torch.where(spread > 0, spread, 1.0)

    def features(self, y: Tensor) -> Tensor:
        """(m, width), of reports (m, d')."""
        found: Tensor = self.body((y - self.centre) / self.spread)
        return found

    def log_classes(self, features: Tensor, evidence: Tensor) -> Tensor:
        """log q(c | y), (m, classes); ``evidence``, log-odds known beforehand, is added."""
        odds: Tensor = self.odds(features) + evidence
        return odds.log_softmax(1)

    def normal(self, features: Tensor, label: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and log std of the latents given the class in ``label`` (m,): (m, normals) each."""
        if label is not None:
            one_hot = nn.functional.one_hot(label, self.classes).to(features)
            features = torch.cat([features, one_hot], 1)
        mean, log_std = self.code(features).chunk(2, 1)
        return mean, log_std.clamp(*LOG_STD)


def vector_encoder(
    dim: int,
    normals: int,
    classes: int = 0,
    *,
    hidden: Sequence[int] = (256, 256),
    seed: int = 0,
) -> Encoder:
    """Of reports with ``dim`` columns: fully connected; linear where ``hidden`` is empty."""
    with seeded(seed):
        layers: list[nn.Module] = []
        width = checks.positive_int("dim", dim)
        for h in checks.positive_ints("hidden", hidden):
            layers += [nn.Linear(width, h), nn.ReLU()]
            width = h
        return Encoder(nn.Sequential(*layers), width, dim, normals, classes)


class ImageBody(nn.Module):
    """Features of square images in the first columns: two strided convolutions and a layer."""

    def __init__(self, side: int, dim: int, channels: int, width: int):
        super().__init__()
        self.pixels, half = side**2, max(1, channels // 2)
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            *(nn.Conv2d(1, half, 4, stride=2, padding=1), nn.BatchNorm2d(half), nn.ReLU()),
            *(nn.Conv2d(half, channels, 4, stride=2, padding=1), nn.BatchNorm2d(channels)),
            *(nn.ReLU(), nn.Flatten()),
        )
        coarse = channels * (side // 4) ** 2
        self.last = nn.Sequential(
            nn.Linear(coarse + dim - self.pixels, width), nn.BatchNorm1d(width), nn.ReLU()
        )

    def forward(self, y: Tensor) -> Tensor:
        seen = torch.cat([self.net(y[:, : self.pixels]), y[:, self.pixels :]], 1)
        found: Tensor = self.last(seen)
        return found


def image_encoder(
    side: int,
    dim: int,
    normals: int,
    classes: int = 0,
    *,
    channels: int = 32,
    width: int = 256,
    seed: int = 0,
) -> Encoder:
    """Of reports whose first ``side * side`` columns are an image, of ``dim`` columns in all."""
    if checks.positive_int("side", side) ** 2 > checks.positive_int("dim", dim):
        raise ValueError(f"side is {side}, but reports of dim = {dim} columns hold no such image")
    with seeded(seed):
        return Encoder(ImageBody(side, dim, channels, width), width, dim, normals, classes)
