"""Two generators that a user would otherwise pick, trained on the same reports.

Each trains ``generator`` in place, as `privgan.fit` does, and takes the same seeds for the same
result. The rest of the field is near: `privgan.artifact.contrast` (other transport losses),
`privgan.artifact.deconvolution` (mixtures) and `privgan.artifact.readers` (no generator at all).
"""

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import softplus

from privgan import checks
from privgan.generators import Generator, Labelled
from privgan.generators.base import in_mode, seeded
from privgan.mechanisms import Mechanism
from privgan.mechanisms.moments import parts
from privgan.reports import Reports
from privgan.reports.collection import values_of
from privgan.streams import stream
from privgan.surroundings import usual
from privgan.training import image_encoder, vector_encoder

WIDTH = 64  # of a critic's layers
START = 0.2  # of the reports' spread: a std from which latents are worth their nats


@usual()
def ambient_gan(
    generator: Generator,
    reports: ArrayLike | Reports,
    mechanism: Mechanism,
    *,
    steps: int = 2000,
    batch_size: int = 128,
    lr: float = 2e-4,
    penalty: float = 1.0,
    seed: int = 0,
) -> list[float]:
    """AmbientGAN: a critic tells real reports from reports of generated records.

    Bora, Price, Dimakis, "AmbientGAN: generative models from lossy measurements", 2018; with the
    non-saturating loss and a penalty on the critic's gradient at real reports (R1: Mescheder,
    Geiger, Nowozin, "Which training methods for GANs do actually converge?", 2018). The noise is
    additive on numbers; a class's answers are drawn anew. Returns the critic's losses.
    """
    y = values_of("reports", reports).float()
    rng = stream(seed, "rival")
    batches = _batches(len(y), steps, batch_size, rng)
    rate, weight = checks.positive("lr", lr), checks.positive("penalty", penalty)
    numbers, _ = parts(mechanism, y.shape[1])
    moving = torch.zeros(y.shape[1])
    for part in numbers:
        part.mechanism.second_moment(1)  # raises where noise is of another kind
        moving[part.reports] = 1.0
    with seeded(seed):
        critic = _critic(y.shape[1], generator.side)
    settings: dict[str, Any] = {"lr": rate, "betas": (0.5, 0.99)}
    ours, theirs = (torch.optim.Adam(m.parameters(), **settings) for m in (generator, critic))
    generator.settle(*(part.float() for part in mechanism.location(y)))
    losses = []
    for rows in batches:
        real = y[rows]
        fake = _reported(generator, mechanism, len(real), moving, rng)
        real = real.clone().requires_grad_()
        told = critic(real)
        (slope,) = torch.autograd.grad(told.sum(), real, create_graph=True)
        loss = softplus(-told).mean() + softplus(critic(fake.detach())).mean()
        _step(theirs, loss + weight / 2 * slope.square().sum(1).mean())
        losses.append(loss.item())
        _step(ours, softplus(-critic(fake)).mean())
    return losses


@usual()
def naive_vae(
    generator: Generator,
    reports: ArrayLike | Reports,
    mechanism: Mechanism,
    *,
    steps: int = 2000,
    batch_size: int = 250,
    lr: float = 2e-3,
    seed: int = 0,
) -> float:
    """A variational autoencoder that believes the reports are raw; returns its noise's std.

    Normal around what it decodes, of one std that is learned too (Rybkin, Daniilidis, Levine,
    "Simple and effective VAE training with calibrated decoders", 2021); the reported class is
    taken for the true one. Records of ``generator`` are its means; what it believes to be a record
    has noise of that std on it. With few latents that noise is the mechanism's; with many the
    latents draw the noise.
    """
    y = values_of("reports", reports).float()
    rng = stream(seed, "rival")
    batches = _batches(len(y), steps, batch_size, rng)
    rate, k = checks.positive("lr", lr), generator.classes
    decoder = generator.decoder if isinstance(generator, Labelled) else generator
    images, labels = y[:, : y.shape[1] - k], y[:, y.shape[1] - k :]
    sizes, side = (y.shape[1], decoder.latent_dim - k), decoder.side
    encoder = image_encoder(side, *sizes, seed=seed) if side else vector_encoder(*sizes, seed=seed)
    encoder.settle(y)
    decoder.settle(images.mean(0), images.std(0))
    log_noise = torch.log(START * images.std(0).mean()).requires_grad_()
    adam = torch.optim.Adam([*generator.parameters(), *encoder.parameters(), log_noise], rate)
    with in_mode(generator, training=True):
        for step, chosen in enumerate(batches):
            mean, log_std = encoder.normal(encoder.features(y[chosen]))
            u = mean + log_std.exp() * torch.randn(mean.shape, generator=rng)
            made = decoder(torch.cat([u, labels[chosen]], 1))
            away = (made - images[chosen]).square().sum(1) * (-2 * log_noise).exp() / 2
            nats = 0.5 * (mean.square() + (2 * log_std).exp() - 1 - 2 * log_std).sum(1)
            for group in adam.param_groups:
                group["lr"] = rate * (1 - step / steps)
            _step(adam, (away + nats).mean() + images.shape[1] * log_noise)
    return log_noise.exp().item()


def _reported(
    generator: Generator, mechanism: Mechanism, n: int, moving: Tensor, rng: torch.Generator
) -> Tensor:
    """Reports of generated records, through which gradients reach the numbers."""
    records = generator(generator.latent(n, rng))
    drawn = generator.draw(records.detach(), rng)
    seed = int(torch.randint(2**62, (1,), generator=rng))
    fake = mechanism.privatize(drawn, seed=seed)
    features = mechanism.forward(records)
    return fake + moving * (features - features.detach())


def _critic(dim: int, side: int | None) -> nn.Module:
    """Of reports of ``dim`` columns, an image of this side in the first of them if there is one."""
    if side is None:
        wide = 4 * WIDTH
        return nn.Sequential(
            *(nn.Linear(dim, wide), nn.LeakyReLU(0.2), nn.Linear(wide, wide), nn.LeakyReLU(0.2)),
            *(nn.Linear(wide, 1), nn.Flatten(0)),
        )
    return _ImageCritic(dim, side)


class _ImageCritic(nn.Module):
    def __init__(self, dim: int, side: int):
        super().__init__()
        self.pixels = side**2
        self.net = nn.Sequential(
            nn.Unflatten(1, (1, side, side)),
            *(nn.Conv2d(1, WIDTH // 2, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(WIDTH // 2, WIDTH, 4, stride=2, padding=1), nn.LeakyReLU(0.2)),
            nn.Flatten(),
        )
        coarse = WIDTH * (side // 4) ** 2
        self.last = nn.Sequential(
            *(nn.Linear(coarse + dim - self.pixels, 2 * WIDTH), nn.LeakyReLU(0.2)),
            *(nn.Linear(2 * WIDTH, 1), nn.Flatten(0)),
        )

    def forward(self, y: Tensor) -> Tensor:
        found: Tensor = self.last(
            torch.cat([self.net(y[:, : self.pixels]), y[:, self.pixels :]], 1)
        )
        return found


def _batches(n: int, steps: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Row numbers below ``n`` in ``steps`` shuffled batches, epoch after epoch."""
    steps = checks.positive_int("steps", steps)
    size = min(checks.positive_int("batch_size", size), n)
    epochs = (torch.randperm(n, generator=rng).split(size) for _ in itertools.count())
    return itertools.islice(itertools.chain.from_iterable(epochs), steps)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
