"""Records with a class that is read off their latents."""

import torch
from torch import Tensor

from privgan import checks
from privgan.generators.base import SLICE, Generator, seeded
from privgan.generators.networks import MLP
from privgan.streams import stream
from privgan.surroundings import usual

PATIENCE = 1000  # times as many records as asked for, at most, are looked at for those of a class


class Classified(Generator):
    """Records with their class: ``decoder``'s columns, then the class as k one-hot columns.

    The class is an output: a small network reads its probabilities off the decoder's latents, and
    `sample` draws it. Where latents are coded from reports (`AmortizedLoss`) they need not then be
    coded for each class, and what tells classes apart is learned from images and labels alike. For
    a batch's plan, `Labelled`, whose class is an input, is the better one. hidden: of that network.
    """

    latent_dim: int
    out_dim: int
    decoder: Generator
    k: int
    hidden: tuple[int, ...]
    seed: int
    reader: MLP

    def __init__(
        self, decoder: Generator, k: int, *, hidden: tuple[int, ...] = (64,), seed: int = 0
    ):
        super().__init__()
        checks.instance("decoder", decoder, Generator)
        self.decoder, self.k = decoder, checks.positive_int("k", k)
        if self.k < 2:
            raise ValueError(f"k is the number of classes, at least 2, got {k}")
        self.hidden, self.seed = (
            checks.positive_ints("hidden", hidden),
            checks.integer("seed", seed),
        )
        self.latent_dim, self.out_dim = decoder.latent_dim, decoder.out_dim + self.k
        self.side = decoder.side
        classes = [slice(0, self.k)]
        with seeded(self.seed):
            self.reader = MLP(
                self.latent_dim, self.k, hidden=self.hidden, categories=classes, seed=self.seed
            )

    def forward(self, z: Tensor) -> Tensor:
        x = self.decoder(z)
        return torch.cat([x, self.reader(z).to(x)], 1)

    def settle(self, centre: Tensor, spread: Tensor) -> None:
        self.decoder.settle(centre[: -self.k], spread[: -self.k])

    def draw(self, x: Tensor, generator: torch.Generator) -> Tensor:
        records = self.decoder.draw(x[:, : -self.k], generator)
        return torch.cat([records, self.reader.draw(x[:, -self.k :], generator)], 1)

    @usual(grad=False)
    def sample_class(
        self, label: int, n: int, *, seed: int | None = None, device: str | torch.device = "cpu"
    ) -> Tensor:
        """``n`` records (n, decoder.out_dim) of one class, without its columns; as `sample`.

        Records are drawn until ``n`` are of the class: ValueError for one that hardly ever is.
        """
        generator, wanted = stream(seed, "sample"), checks.positive_int("n", n)
        if not 0 <= checks.integer("label", label) < self.k:
            raise ValueError(f"label must be 0 to {self.k - 1}, got {label}")
        found: list[Tensor] = []
        size = min(SLICE, 2 * self.k * wanted)
        for _ in range(0, PATIENCE * max(wanted, size), size):
            x = self.draw_records(size, generator)
            found.append(x[x[:, label - self.k] == 1, : -self.k])
            if sum(map(len, found)) >= wanted:
                return torch.cat(found)[:wanted].to(device)
        raise ValueError(
            f"label {label}: hardly any records are of this class, so none can be drawn"
        )
