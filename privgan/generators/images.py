"""Generators of images, and of records with a class."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from privgan import checks
from privgan.generators.base import (
    Bounded,
    Generator,
    Units,
    as_device,
    in_mode,
    limits,
    output,
    seeded,
)
from privgan.generators.latents import invert
from privgan.streams import sent, stream
from privgan.surroundings import usual


class ConvDecoder(Generator):
    """Square grey images by two doublings of a coarse map: transposed convolutions.

    side: a multiple of 4; ``out_dim`` is its square. channels: of the coarse map, halved at the
    first doubling. hidden: width of the layer before it. bounds: as in `MLP`.
    """

    latent_dim: int
    out_dim: int
    side: int
    channels: int
    seed: int
    hidden: int
    bounds: tuple[float, float] | None
    net: nn.Sequential
    output: Units | Bounded

    def __init__(
        self,
        latent_dim: int,
        side: int = 28,
        *,
        channels: int = 32,
        hidden: int = 256,
        bounds: tuple[float, float] | None = (0.0, 1.0),
        seed: int = 0,
    ):
        super().__init__()
        self.latent_dim = checks.positive_int("latent_dim", latent_dim)
        self.side, self.channels = side, channels = (
            checks.positive_int("side", side),
            checks.positive_int("channels", channels),
        )
        if side % 4:
            raise ValueError(f"side must be a multiple of 4, got {side}")
        self.hidden = hidden = checks.positive_int("hidden", hidden)
        self.seed, self.bounds = checks.integer("seed", seed), limits(bounds)
        self.out_dim = side**2
        coarse, half = channels * (side // 4) ** 2, max(1, channels // 2)
        with seeded(self.seed):
            self.net = nn.Sequential(
                *(nn.Linear(self.latent_dim, hidden), nn.BatchNorm1d(hidden), nn.ReLU()),
                *(nn.Linear(hidden, coarse), nn.BatchNorm1d(coarse), nn.ReLU()),
                nn.Unflatten(1, (channels, side // 4, side // 4)),
                nn.ConvTranspose2d(channels, half, 4, stride=2, padding=1),
                *(nn.BatchNorm2d(half), nn.ReLU()),
                nn.ConvTranspose2d(half, 1, 4, stride=2, padding=1),
                nn.Flatten(),
            )
            self.output = output(side**2, self.bounds)

    def forward(self, z: Tensor) -> Tensor:
        return self.output(self.net(z))

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        self.output.settle(centre, spread)


class Labelled(Generator):
    """Records with their class: ``decoder``'s columns, then the class as k one-hot columns.

    The class is an input: the last k of the decoder's latents are its one-hot row. prior: (k,),
    the probability of every class; uniform when omitted. It is public, or estimated from
    reports. Classes occur in a batch as often as they should, up to rounding.
    """

    latent_dim: int
    out_dim: int
    decoder: Generator
    k: int
    prior: Tensor

    def __init__(self, decoder: Generator, k: int, *, prior: Sequence[float] | None = None):
        super().__init__()
        checks.instance("decoder", decoder, Generator)
        self.decoder, self.k = decoder, checks.positive_int("k", k)
        k = self.k
        self.latent_dim, self.out_dim = decoder.latent_dim, decoder.out_dim + k
        self.classes, self.side = k, decoder.side
        if decoder.latent_dim <= k:
            raise ValueError(
                f"the decoder has {decoder.latent_dim} latents, {k} of which are the class; "
                "give it more"
            )
        uniform = [1 / k] * k
        p = checks.as_tensor("prior", uniform if prior is None else prior).detach().float()
        if p.shape != (k,) or not (p >= 0).all() or abs(p.sum().item() - 1) > 1e-4:
            raise ValueError(
                f"prior must be {k} probabilities that sum to 1, (k,), got shape {tuple(p.shape)}"
                + (f" and sum {p.sum().item():.6g}" if p.shape == (k,) else "")
            )
        self.register_buffer("prior", p.clone())

    def latent(self, n: int, generator: torch.Generator, *, even: bool = False) -> Tensor:
        normals = self.decoder.latent(n, generator, even=even)[:, : -self.k]
        u = torch.rand((1,), dtype=torch.float64, generator=generator)
        u = sent((torch.arange(n) + u).div_(n), normals.device)  # evenly spaced: exact frequencies
        order = sent(torch.randperm(n, generator=generator), normals.device)
        label = invert(self.prior.double(), u)[order]
        return self._of(label, normals, generator)

    def _of(self, label: Tensor, normals: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of the classes ``label`` (n,), from standard normals."""
        u = normals if self.law is None else self.law.draw(normals, generator, label)
        return torch.cat([u, nn.functional.one_hot(label, self.k).to(u)], 1)

    def log_prior(self) -> Tensor:
        return self.prior.log()

    def forward(self, z: Tensor) -> Tensor:
        x, label = self.decoder(z), z[:, -self.k :]
        return torch.cat([x, label.to(x)], 1)

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        self.decoder.settle(centre[: -self.k], spread[: -self.k])

    def hold(self, offset: Tensor, matrix: Tensor) -> bool:
        """The decoder's columns alone: the class is what the latents say."""
        return self.decoder.hold(offset[: -self.k], matrix[: -self.k])

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        return torch.cat([self.decoder.draw(x[:, : -self.k], generator), x[:, -self.k :]], 1)

    @usual(grad=False)
    def sample_class(
        self,
        label: int,
        n: int,
        *,
        seed: int | None = None,
        device: str | torch.device = "cpu",
    ) -> Tensor:
        """``n`` records (n, decoder.out_dim) of one class, without its columns; as `sample`."""
        generator, where = stream(seed, "sample"), as_device("device", device)
        normals = self.decoder.latent(
            checks.rows("n", n, self.latent_dim + self.out_dim), generator
        )[:, : -self.k]
        if not 0 <= checks.integer("label", label) < self.k:
            raise ValueError(f"label must be 0 to {self.k - 1}, got {label}")
        z = self._of(torch.full((n,), int(label), device=normals.device), normals, generator)
        return self.decoder.draw(self.decode(z), generator).to(where)

    @usual(grad=False)
    def decode(self, z: Tensor) -> Tensor:
        """Latents (n, latent_dim), classes included, to records without the class's columns."""
        z = checks.as_records("z", z)
        if z.shape[1] != self.latent_dim:
            raise ValueError(f"z has {z.shape[1]} columns; latents have {self.latent_dim}")
        with in_mode(self, training=False):
            return self.decoder(z.to(next(self.parameters(), z)))
