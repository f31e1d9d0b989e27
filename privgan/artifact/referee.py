"""A small convolutional classifier: a referee for generated images, and a source of features."""

import torch
from torch import Tensor, nn

from privgan import checks
from privgan.streams import ambient, stream

BATCH = 128
SLICE = 2048  # images evaluated at a time


class Classifier(nn.Module):
    """Square grey images (n, side * side) to ``k`` logits, by way of 64 ``features``."""

    def __init__(self, side: int = 28, k: int = 10):
        super().__init__()
        self.side: int = checks.positive_int("side", side)
        self.k: int = checks.positive_int("k", k)
        width = 32 * ((side + 3) // 4) ** 2
        self.net: nn.Module = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            *(nn.Conv2d(1, 16, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Conv2d(16, 32, 5, stride=2, padding=2), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(width, 64), nn.ReLU()),
        )
        self.head: nn.Linear = nn.Linear(64, k)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.net(x))

    @torch.no_grad()
    def features(self, x: Tensor) -> Tensor:
        """What the last layer sees, (n, 64): the space of `metrics.frechet`."""
        return torch.cat([self.net(part) for part in self._slices(x)])

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """The likeliest class of every image, (n,)."""
        return torch.cat([self(part).argmax(1) for part in self._slices(x)])

    def _slices(self, x: Tensor) -> tuple[Tensor, ...]:
        x = checks.as_records("x", x).to(self.head.weight)
        if x.shape[1] != self.side**2:
            raise ValueError(f"x has {x.shape[1]} columns; images of side {self.side} are expected")
        return x.split(SLICE)


def fit_classifier(
    x: Tensor, labels: Tensor, *, k: int = 10, epochs: int = 3, noise: float = 0.0, seed: int = 0
) -> Classifier:
    """Train on images ``x`` (n, side * side) with ``labels`` (n,), reproducibly.

    Adam with a one-cycle learning rate; ``noise`` is the std of fresh Gaussian noise added to
    every image seen, which keeps a classifier from leaning on what only these images have.
    """
    x = checks.as_records("x", x).float()
    side = round(x.shape[1] ** 0.5)
    if side**2 != x.shape[1]:
        raise ValueError(f"x has shape {tuple(x.shape)}; expected (n, side * side)")
    labels = _labels(labels, len(x), k).to(x.device)
    epochs = checks.positive_int("epochs", epochs)
    noise = checks.positive("noise", noise) if noise else 0.0
    rng = stream(seed, "referee")
    with ambient(seed, "initialisation"):
        classifier = Classifier(side, k).to(x.device)
    size = min(BATCH, len(x))
    batches = len(x) // size
    optimizer = torch.optim.Adam(classifier.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=epochs * batches)
    for _ in range(epochs):
        order = torch.randperm(len(x), generator=rng)[: batches * size]
        for rows in order.split(size):
            images = x[rows]
            if noise:
                images = images + noise * torch.randn(images.shape, generator=rng).to(images)
            loss = nn.functional.cross_entropy(classifier(images), labels[rows])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
    return classifier.eval()


def accuracy(classifier: Classifier, x: Tensor, labels: Tensor) -> float:
    """The share of images ``x`` (n, side * side) whose label (n,) is found."""
    predicted = classifier.predict(x)
    labels = _labels(labels, len(predicted), classifier.k).to(predicted.device)
    return (predicted == labels).double().mean().item()


def _labels(labels: Tensor, n: int, k: int) -> Tensor:
    """Class numbers of ``n`` images, (n,) int64."""
    labels = checks.as_tensor("labels", labels)
    if labels.is_floating_point() or labels.shape != (n,):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)} and dtype {labels.dtype}; expected one "
            f"integer for each of {n} images, ({n},)"
        )
    outside = (labels < 0) | (labels >= k)
    if outside.any():
        raise ValueError(
            f"labels row {int(outside.nonzero()[0])} is no class number from 0 to {k - 1}"
        )
    return labels.long()
