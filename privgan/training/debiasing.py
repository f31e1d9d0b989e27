r"""The generator that needs no training: debiased means and covariances, class by class.

Reports alone give every class a mean and a covariance, of whatever law the records are: the best
linear generator (`privgan.mechanisms.moments`). Covariances are noisy. Between a class's own and
the mean over the classes, and between eigenvalues as found and held above a floor, reports decide
that were left out, for the simplest choice within a standard error of the best. Without classes it
is their density, if they were normal, which is best on average at the true mean and covariance,
whatever the law (Dawid and Sebastiani, "Coherent dispersion criteria for optimal experimental
design", 1999); with classes, how well the rest of a report foretells its label, for a density
rewards what a normal law gets wrong about a class that is not normal.
"""

import math
from collections.abc import Callable
from itertools import product

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from privgan import checks
from privgan.generators import Generator, Labelled, Linear
from privgan.generators.latents import NormalMixture, log_components
from privgan.mechanisms import Mechanism
from privgan.mechanisms.moments import Moments, Noise, noise_of, parts
from privgan.reports import Reports
from privgan.reports.collection import values_of
from privgan.streams import stream
from privgan.surroundings import usual

WIDEST = 128  # columns of features up to which none is left out
# From the simplest on: what a class's own covariance has in the mix with the mean one, and, as a
# share of the mean eigenvalue, the floor below which none may be.
OWN = (0.0, 0.25, 0.5, 0.75, 1.0)
FLOORS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
LEAST = 1e-9  # a floor: covariances have factors
FOLDS = 5  # parts of the reports, each left out once


def closed_form(
    reports: ArrayLike | Reports,
    mechanism: Mechanism,
    *,
    own: float | None = None,
    floor: float | None = None,
    rank: int | None = None,
    seed: int = 0,
) -> Generator:
    """A generator of normal records with the means and covariances behind ``reports`` (m, d').

    Where the last block of a `Product` is a category, records are `Labelled` with it and every
    class has moments of its own. Numbers may be reported with added noise, as directions
    (`PrivUnit`) or through a `LinearMap`, whose records have no detail that the map does not see.

    own: what a class's covariance has in the mix with the mean one, 0 to 1. floor: as a share of
    the mean eigenvalue, what no eigenvalue is below, 0 to 1 (1: alike in all directions). Both are
    chosen by default. rank: how many directions records may vary in, beside those between the
    classes' means; by default all of up to 128 features, else those that stand out of the noise.
    seed: of the parts in which reports are left out. Raises TypeError for other mechanisms.

    >>> mech = pg.Gaussian(0.5)
    >>> reports = pg.simulate(torch.zeros(200, 2), mech, seed=0)
    >>> pg.closed_form(reports, mech).sample(10, seed=0).shape
    torch.Size([10, 2])
    """
    return Debiased(reports, mechanism, rank=rank, seed=seed).generator(own=own, floor=floor)


class Debiased:
    """Moments of records, from reports: of which several closed forms may be made.

    Arguments as of `closed_form`. A choice of ``own`` and ``floor`` is scored once, however many
    generators ask for it.
    """

    @usual(grad=False)
    def __init__(
        self,
        reports: ArrayLike | Reports,
        mechanism: Mechanism,
        *,
        rank: int | None = None,
        seed: int = 0,
    ):
        checks.instance("mechanism", mechanism, Mechanism)
        rank = None if rank is None else checks.positive_int("rank", rank)
        given = values_of("reports", reports)
        if len(given) < 2 * FOLDS:
            raise ValueError(
                f"reports has {len(given)} rows; closed_form needs at least {2 * FOLDS}"
            )
        self.numbers, self.label = parts(mechanism, given.shape[1])
        self.dtype, y = given.dtype, given.to("cpu", torch.float64)
        u = torch.cat([n.mechanism.unbiased(y[:, n.reports]) for n in self.numbers], 1)
        w, self.log_k = y.new_ones(len(y), 1), y.new_zeros(len(y), 1)
        if self.label is not None:
            answers, channel = y[:, self.label.reports], self.label.mechanism
            w = channel.unbiased(answers)
            self.log_k = channel.log_density(torch.eye(w.shape[1]).to(y), answers).T
        noise, movable = noise_of(self.numbers, u.shape[1])
        self.centre = u.mean(0) * movable
        self.basis, self.noise = _subspace(u - self.centre, w, noise, rank)
        self.u = (u - self.centre) @ self.basis
        self.moments = self.noise.moments(self.u, w)
        order = torch.randperm(len(y), generator=stream(seed, "closed form"))
        self.folds = []
        for out in order.chunk(FOLDS):
            rest = torch.ones(len(y), dtype=torch.bool).index_fill(0, out, False)
            self.folds.append((out, self.noise.moments(self.u[rest], w[rest])))
        self.scores: dict[tuple[float, float], Tensor] = {}

    @usual(grad=False)
    def generator(self, *, own: float | None = None, floor: float | None = None) -> Generator:
        """The closed form; what is not given is chosen by the reports left out of each fold."""
        found = self.regularised(own=own, floor=floor)
        classes = 0 if self.label is None else len(found.shares)
        return _generator(found, self.records, classes, self.dtype)

    @usual(grad=False)
    def regularised(self, *, own: float | None = None, floor: float | None = None) -> Moments:
        """Moments in the coordinates of `records`; ``own`` and ``floor`` as of `generator`."""
        mixes = OWN if self.label is not None else OWN[-1:]
        if own is not None:
            mixes = (_share("own", own),)
        floors = FLOORS if floor is None else (max(LEAST, _share("floor", floor)),)
        choices = list(product(mixes, floors))
        best = choices[0]
        if len(choices) > 1:
            best = choices[_simplest(torch.stack([self._scored(choice) for choice in choices]))]
        return regular(self.moments, *best)

    def records(self, rows: Tensor) -> Tensor:
        """Records without their class, (n, columns), of ``rows`` (n, r) as moments have them."""
        features = self.centre + rows @ self.basis.T
        blocks = features.split([n.reports.stop - n.reports.start for n in self.numbers], 1)
        return torch.cat([n.back(b) for n, b in zip(self.numbers, blocks, strict=True)], 1)

    def _scored(self, choice: tuple[float, float]) -> Tensor:
        """How likely each report is by the folds that it was left out of, (m,)."""
        if choice not in self.scores:
            found = torch.empty(len(self.u), dtype=torch.float64)
            for out, moments in self.folds:
                law = regular(moments, *choice)
                found[out] = _score(law, self.noise, self.u[out], self.log_k[out])
            self.scores[choice] = found
        return self.scores[choice]


def _share(name: str, value: float) -> float:
    found = checks.number(name, value)
    if not 0.0 <= found <= 1.0:
        raise ValueError(f"{name} is a share, from 0 to 1, got {found!r}")
    return found


def regular(moments: Moments, own: float, floor: float) -> Moments:
    """Covariances mixed with their mean; their eigenvalues at least ``floor`` of the mean one."""
    mean = torch.einsum("c,cij->ij", moments.shares, moments.covariances)
    mixed = own * moments.covariances + (1.0 - own) * mean
    raised = torch.stack([_raised(matrix, floor) for matrix in mixed])
    return Moments(moments.shares, moments.means, raised)


def _simplest(scores: Tensor) -> int:
    """The first of the rows of scores (choices, n) that is within a standard error of the best.

    Of their difference, report by report: the rule of Breiman, Friedman, Olshen and Stone, 1984,
    with the error of the pair in place of the best one's own.
    """
    behind = scores[scores.mean(1).argmax()] - scores
    error = behind.std(1) / math.sqrt(scores.shape[1])
    return int((behind.mean(1) <= error).byte().argmax())


def _score(moments: Moments, noise: Noise, u: Tensor, log_k: Tensor) -> Tensor:
    """Log-densities of ``u`` (n, r), if it were normal; of labels given u, with classes: (n,).

    log_k: the labels' log-likelihoods, (n, k).
    """
    outer = moments.means[:, :, None] * moments.means[:, None]
    spread = noise.scale * (moments.covariances + outer) + noise.added - outer
    factors = torch.linalg.cholesky(spread)
    normal = log_components(u, moments.shares, moments.means, factors)
    if len(moments.shares) == 1:
        return normal.squeeze(1)
    return (normal + log_k).logsumexp(1) - normal.logsumexp(1)


def _generator(
    moments: Moments, records: Callable[[Tensor], Tensor], classes: int, dtype: torch.dtype
) -> Generator:
    """Normal latents of each class's law, and the linear map to records."""
    total = torch.einsum("c,cij->ij", moments.shares, moments.covariances)
    away = moments.means - moments.shares @ moments.means
    spread = (total.diagonal() + moments.shares @ away.square()).sqrt()  # latents are of order one
    rows = records(torch.cat([torch.zeros_like(spread)[None], spread.diag()]))
    offset, columns = rows[0], rows[1:] - rows[0]
    model = Linear(len(columns) + classes, len(offset)).to(dtype)
    model.net.weight.copy_(torch.cat([columns.T, columns.new_zeros(len(offset), classes)], 1))
    model.net.bias.zero_()
    model.settle(offset.to(dtype), torch.ones_like(offset, dtype=dtype))
    factors = torch.linalg.cholesky(moments.covariances / spread[:, None] / spread)[:, None]
    law = NormalMixture(torch.ones(len(factors), 1), (moments.means / spread)[:, None], factors)
    made = Labelled(model, classes, prior=moments.shares.tolist()) if classes else model
    made.law = law.to(dtype)
    return made


def _subspace(u: Tensor, w: Tensor, noise: Noise, rank: int | None) -> tuple[Tensor, Noise]:
    """Orthonormal columns (features, r) that records vary in, and the noise there."""
    n, features = u.shape
    if rank is None and features <= WIDEST:
        return torch.eye(features, dtype=torch.float64), noise
    if (noise.scale != noise.scale[0, 0]).any():
        raise ValueError(
            f"records have {features} features, some of them directions, of which closed_form "
            "leaves out none: leave rank out, and report fewer features"
        )
    whole = noise.moments(u, torch.ones(n, 1, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(whole.covariances[0])
    if rank is None:  # the edge of what white noise alone would show (Marchenko and Pastur, 1967)
        level = noise.added.diagonal().max() / noise.scale[0, 0]
        edge = level * ((1 + math.sqrt(features / n)) ** 2 - 1)
        rank = max(1, int((values > edge).sum()))
    leading = vectors.flip(1)[:, : min(rank, features)]
    between = (w.T @ u) / w.sum(0).clamp_min(1.0)[:, None]
    between = (between - between.mean(0)).T
    between = between - leading @ (leading.T @ between)
    left, size, _ = torch.linalg.svd(between, full_matrices=False)
    more = left[:, : min(w.shape[1] - 1, features - leading.shape[1], int((size > 0).sum()))]
    basis, _ = torch.linalg.qr(torch.cat([leading, more], 1))
    return basis, Noise(noise.scale[:1, :1], basis.T @ noise.added @ basis)


def _raised(covariance: Tensor, floor: float) -> Tensor:
    """The nearest matrix with this trace and no eigenvalue below ``floor`` times their mean."""
    values, vectors = torch.linalg.eigh(covariance)
    r = len(values)
    mean = values.mean().clamp_min(1e-12 * values.abs().max()).clamp_min(1e-300)
    least = floor * mean
    # max(values - t, least) sums to r * mean for one t: of the k largest, which stay above least,
    # it is (their sum + (r - k) least - r mean) / k.
    k = torch.arange(1, r + 1, dtype=values.dtype)
    falling = values.flip(0)
    t = (falling.cumsum(0) + (r - k) * least - r * mean) / k
    fits = (falling - t > least).nonzero()
    raised = (values - t[fits[-1, 0]]).clamp_min(least) if len(fits) else least.expand(r)
    return (vectors * raised) @ vectors.T
