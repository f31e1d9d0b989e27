r"""A start at the best linear generator, which reports give without any training.

They tell mean m and covariance V of records, and with a class its share p_c, its mean m_c and V,
the mean over the classes (`Debiased`). A generator starts at the linear map of its latents z that
has them:

    numbers alone:         x = m + F z,    F F' = V;
    the class an input:    x = m_c + F z,  F F' = V;
    the class an output:   x = m + F z,    F F' = V + sum_c p_c (m_c - m)(m_c - m)', and
                           log p(c | x) = log p_c + (m_c - m)' V^-1 (x - m)
                                          - (m_c - m)' V^-1 (m_c - m) / 2 + constant.

The last is Bayes' rule for normal classes (the linear discriminant of Fisher, 1936), and as linear
in z as x is. With fewer latents than features, F has the directions of the largest variance.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from privgan.generators import Generator, Labelled
from privgan.generators.base import in_mode
from privgan.mechanisms import Mechanism
from privgan.mechanisms.location import some_rows, winsorised
from privgan.reports.rows import Rows
from privgan.streams import ambient, stream
from privgan.surroundings import usual
from privgan.training.batches import SMALL
from privgan.training.debiasing import Debiased

LEAST = 10_000  # reports that are looked at, where there are as many, however wide they are
STEPS, RATE, LATENTS = 200, 3e-3, 250  # of least squares: of Adam, its rate at first, and a step's


@dataclass(frozen=True)
class Start:
    """The map ``offset + matrix @ z``, (d,) and (d, latents), that a generator begins at.

    The last ``told`` columns are logarithms of a class's probabilities. shares: (k,), of the
    classes. spread: of the reports' columns, (d',).
    """

    mechanism: Mechanism
    offset: Tensor
    matrix: Tensor
    told: int
    shares: Tensor
    spread: Tensor

    @usual(grad=True)
    def give(self, generator: Generator, seed: int) -> None:
        """Overwrite what ``generator`` has learned, and the shares of its classes if uniform."""
        if isinstance(generator, Labelled) and (generator.prior == generator.prior[0]).all():
            generator.prior.copy_(self.shares)
        if not generator.hold(self.offset, self.matrix):
            self._approach(generator, seed)

    def _approach(self, generator: Generator, seed: int) -> None:
        """Least squares between reports of the map's records and of the generator's, by Adam."""
        device = next(generator.parameters()).device
        optimizer = torch.optim.Adam(generator.parameters(), lr=RATE)
        with in_mode(generator, training=True), ambient(seed, "start", 0, device):
            for step in range(STEPS):
                for group in optimizer.param_groups:
                    group["lr"] = RATE * (1.0 - step / STEPS)
                z = generator.latent(LATENTS, stream(seed, "start", step), even=True)
                made = generator(z)
                x = self.offset.to(made) + z.to(made) @ self.matrix.to(made).T
                numbers, logits = x.split([x.shape[1] - self.told, self.told], 1)
                wanted = torch.cat([numbers, logits.softmax(1)], 1)
                apart = self.mechanism.forward(made) - self.mechanism.forward(wanted)
                optimizer.zero_grad(set_to_none=True)
                (apart / self.spread.to(made)).square().mean().backward()
                optimizer.step()
        optimizer.zero_grad(set_to_none=True)


@usual(grad=False)
def start_of(generator: Generator, rows: Rows, mechanism: Mechanism | None, seed: int) -> Start:
    """Where ``generator`` is to begin, by ``rows`` (m, d') to train on; it is not touched yet.

    Raises TypeError for a mechanism or a generator that has no such start, and ValueError for one
    that is trained already, or in part frozen.
    """
    if mechanism is None:
        raise TypeError("start='moments' needs the mechanism of the reports; name it")
    _check(generator)
    reports = rows.take(torch.arange(min(len(rows), max(LEAST, SMALL // rows.shape[1]))))
    try:
        debiased = Debiased(reports, mechanism, seed=seed)
    except TypeError as error:
        raise TypeError(f"start='moments' has none of these reports: {error}") from None
    found = debiased.regularised(own=0.0)
    shares, means, covariance = found.shares, found.means, found.covariances[0]
    classes, k = generator.classes, 0 if debiased.label is None else len(shares)
    if classes not in (0, k):
        raise ValueError(
            f"generator has a class of {classes} as its input, and the mechanism reports one of "
            f"{k} in the last columns; leave start out"
        )
    middle = shares @ means
    away = means - middle
    spread = covariance if classes else covariance + (away.T * shares) @ away
    values, vectors = torch.linalg.eigh(spread)
    factor = (vectors * values.clamp_min(0.0).sqrt()).flip(1)[:, : generator.latent_dim - classes]
    made = debiased.records(torch.cat([middle[None], middle + factor.T]))
    offset, columns = made[0], (made[1:] - made[0]).T  # (d,), (d, latents)
    matrix = columns.new_zeros(len(offset) + k, generator.latent_dim)
    matrix[: len(offset), : columns.shape[1]] = columns
    logits = offset.new_zeros(k)
    if classes:
        matrix[:, -k:] = torch.cat([(debiased.records(means) - offset).T, torch.eye(k).double()])
    elif k:
        slopes = torch.linalg.solve(covariance, away.T).T
        matrix[-k:, : columns.shape[1]] = slopes @ factor
        logits = shares.clamp_min(1e-9).log() - (slopes * away).sum(1) / 2
    _, variance = winsorised(some_rows(reports))
    return Start(
        mechanism,
        torch.cat([offset, logits]),
        matrix,
        0 if classes else k,
        shares,
        torch.where(variance > 0.0, variance, 1.0).sqrt(),
    )


def _check(generator: Generator) -> None:
    """Raise unless ``generator`` may begin at a linear map of its latents."""
    with in_mode(generator, training=False):
        _, weights = generator.batch(1, stream(0, "start"))
    if weights is not None:
        raise TypeError(
            "start='moments' moves points, and the generator learns weights; leave it out"
        )
    if not all(p.requires_grad for p in generator.parameters()):
        raise ValueError(
            "start='moments' writes all weights, and some of the generator's are frozen; leave it "
            "out, or free them until then"
        )
    if generator.law is not None:
        raise ValueError(
            "the generator has a law of latents from a training, which start='moments' would undo; "
            "leave it out"
        )
