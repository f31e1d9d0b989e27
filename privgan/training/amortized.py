r"""The matched loss with its plan written as a network: no batch limits what the plan can carry.

Latents z ~ p, records x = G(z). Couple reports with latents by any conditional law q(z | y):

    E[c(G(z), y)] + reg E_y KL(q(. | y) || p)
        = -reg E_y log E_p exp(-c(G(z), y) / reg) + reg E_y KL(q(. | y) || posterior of z given y),

so it never lies below the likelihood loss, and equals it where q is the posterior. Where the mean
of q over the reports is p, the coupling is a plan between the generator's law and the reports', and
its value is at least the entropic transport value; at the raw law with the true posterior it is
that value's minimum. A plan between batches of n carries at most log n nats; this one has no limit.

It is amortised variational inference (Kingma and Welling, "Auto-encoding variational Bayes", 2014)
whose decoder noise is the mechanism and is not learned; with several draws for each report, the
importance-weighted bound (Burda, Grosse, Salakhutdinov, "Importance weighted autoencoders", 2016).
"""

import copy
import math
from typing import Any, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from privgan import checks
from privgan.generators import Generator
from privgan.generators.base import in_mode
from privgan.generators.latents import NormalMixture
from privgan.mechanisms import Mechanism
from privgan.reports import Reports
from privgan.reports.collection import values_of
from privgan.streams import sent, stream
from privgan.surroundings import usual
from privgan.training.encoders import Encoder, image_encoder, vector_encoder
from privgan.training.latent_law import (
    affordable,
    candidates,
    drawn_index,
    fit_mixtures,
    likeliest,
    log_law,
    log_normal,
    with_class,
)
from privgan.training.losses import Coded, Loss, Solved
from privgan.training.ranks import Ranks

DOUBT = 0.02  # where the other classes are less probable than this, a step seldom visits one
HELD_OUT_DRAWS = 8  # for each report, where a training is followed
FOLLOWED = 400  # held-out reports, at most, by which it is followed
PART = 4096  # (report, draw) pairs that are decoded at a time, where nothing is learned


class AmortizedLoss(Loss, nn.Module):
    """The matched loss with an encoder's plan; see the file's head. `fit` trains the encoder too.

    encoder: a network q(z | y); by default `fit` builds one for the generator and the reports, for
    images where the generator makes them. draws: for each report; more make a tighter bound at so
    many times the cost. anneal: weight of the KL term at the first step, which rises to 1 over the
    first half of a training: an encoder that pays in full from the start uses few latents.
    components: the most of the mixture of normals that a trained generator's latents are drawn
    from, per class, chosen by held-out reports, fitted after the last step; 0 leaves them as they
    are. autocast: train with products and convolutions of both networks in bfloat16, which many
    processors do faster; costs and sums stay in the reports' precision. seed: of the encoder's
    initial weights.
    """

    mechanism: Mechanism
    encoder: Encoder | None
    origin: Tensor

    def __init__(
        self,
        mechanism: Mechanism,
        *,
        encoder: Encoder | None = None,
        draws: int = 1,
        anneal: float = 0.2,
        components: int = 10,
        autocast: bool = False,
        seed: int = 0,
    ):
        nn.Module.__init__(self)
        checks.instance("mechanism", mechanism, Mechanism)
        if encoder is not None:
            checks.instance("encoder", encoder, Encoder)
        self.mechanism, self.encoder = mechanism, encoder
        self.draws = checks.positive_int("draws", draws)
        self.anneal = checks.positive("anneal", anneal)
        if self.anneal > 1.0:
            raise ValueError(f"anneal is the KL term's weight at first, at most 1, got {anneal}")
        self.components = checks.integer("components", components)
        if self.components < 0:
            raise ValueError(f"components is 0 or the number of normals, got {components}")
        self.autocast, self.seed = checks.flag("autocast", autocast), checks.integer("seed", seed)
        self.weight = 1.0  # of the KL term
        self.cost, self.reg = mechanism.cost, mechanism.reg  # softer while a training anneals
        self.register_buffer("origin", torch.zeros(()))

    @classmethod
    def matched(cls, mechanism: Mechanism, **settings: Any) -> Self:
        """The loss whose minimiser over laws is the raw law behind ``mechanism``'s reports."""
        return cls(mechanism, **settings)

    def meet(self, generator: Generator, reports: Tensor, origin: Tensor) -> nn.Module:
        """This, with an encoder for reports (m, d') less their ``origin``, if it had none yet."""
        self.origin = origin
        if self.encoder is None:
            normals, dim = generator.latent_dim - generator.classes, reports.shape[1]
            sizes, side = (dim, normals, generator.classes), generator.side
            if side and self.mechanism.cost.shiftable(dim)[: side**2].sum() == side**2:
                self.encoder = image_encoder(side, *sizes, seed=self.seed)
            else:
                self.encoder = vector_encoder(*sizes, seed=self.seed)
        self.encoder.settle(reports)
        return self.to(reports.device, reports.dtype)

    def solve(
        self,
        x: Generator,
        y: ArrayLike | Reports,
        a: Tensor | None = None,
        *,
        seed: int | None = None,
    ) -> Coded:
        """The value between the generator ``x`` itself and reports ``y`` (m, d').

        It draws latents, from ``seed``, and is differentiable in the weights of the generator and
        the encoder. ``information`` is the KL term; there is no marginal error.
        """
        if not isinstance(x, Generator) or a is not None:
            raise TypeError(
                "AmortizedLoss couples reports with a generator's latents, not with points: call "
                "solve(generator, y), without weights"
            )
        generator, reports = x, values_of("y", y)
        if self.encoder is None:
            self.meet(generator, reports, torch.zeros_like(reports[0]))
        y = reports - self.origin.to(reports)
        return self.couple(generator, y, stream(seed, "latents"))[0]

    def couple(
        self, generator: Generator, y: Tensor, rng: torch.Generator, **_: Any
    ) -> tuple[Coded, Tensor]:
        """`solve` for reports less their origin, and the records that these were compared with."""
        encoder = self._encoder()
        with self._cast(y):
            features = encoder.features(y)
        features = features.to(y.dtype)
        if not generator.classes:
            value, nats, made = self._given(generator, features, None, y, rng)
            return Coded(value.mean() * self.mechanism.reg, nats.detach().mean()), made
        # The expectation over the class, without bias: the likeliest one in full, and of the others
        # one drawn, for a report whose class is all but sure only now and then. Its probability is
        # learned by the score (Liu et al., "Rao-Blackwellized stochastic gradients for discrete
        # distributions", 2019).
        log_q = encoder.log_classes(features, self._evidence(generator, y))
        q = log_q.exp()
        first = q.detach().argmax(1)
        rest = q.scatter(1, first[:, None], 0.0)
        others = rest.detach()
        chance = (others.sum(1) / DOUBT).clamp(max=1.0)
        visit = sent(torch.rand(len(y), dtype=torch.float64, generator=rng), y.device)
        doubtful = (visit < chance).nonzero().squeeze(1)
        second = drawn_index(others[doubtful], rng)
        rows = torch.cat([torch.arange(len(y), device=y.device), doubtful])
        labels = torch.cat([first, second])
        values, nats, made = self._given(generator, features[rows], labels, y[rows], rng)
        value, drawn = values[: len(y)], values[len(y) :]
        found = log_q[doubtful].gather(1, second[:, None]).squeeze(1)
        share = rest[doubtful].sum(1)  # not one less the likeliest, which rounds to 0
        gap = drawn - value[doubtful]
        score = found - share.log()
        gap = gap + gap.detach() * (score - score.detach())
        value = value.index_add(0, doubtful, gap * share / chance[doubtful])
        divergence = (q * (log_q - generator.log_prior())).sum(1)
        value = value + self.weight * divergence
        nats = divergence.detach() + nats[: len(y)].detach()
        return Coded(value.mean() * self.mechanism.reg, nats.mean()), made

    def couple_across(
        self,
        ranks: Ranks,
        generator: Generator,
        y: Tensor,
        rng: torch.Generator,
        *,
        size: int,
        **_: Any,
    ) -> tuple[Coded, Tensor]:
        """A mean over reports: everybody's own, weighted by how many they are of all."""
        seed = int(torch.randint(2**62, (1,), generator=rng))
        found, made = self.couple(generator, y, stream(seed, "latents of a process", ranks.rank))
        value = found.value * (len(y) / size)
        told = torch.stack([value.detach(), found.nats.to(value) * (len(y) / size)])
        whole, nats = ranks.summed(told).unbind()
        return Coded(value + (whole - value.detach()), nats), made

    def between(self, x: Tensor, y: Tensor, a: Tensor | None = None) -> Solved:
        raise TypeError("AmortizedLoss has no value between points; call solve(generator, y)")

    def capacity(self, points: int, reports: int) -> None:
        """None: no batch limits what an encoder's plan carries."""
        return None

    def warmed(self, left: float) -> Self:
        other = copy.copy(self)
        other.weight = 1.0 - (1.0 - self.anneal) * left
        return other

    def heated(self, times: float) -> Self:
        other = copy.copy(self)
        other.cost, other.reg = self.mechanism.heated(times)
        return other

    def shiftable(self, d: int) -> Tensor:
        return self.mechanism.cost.shiftable(d)

    def unit(self, y: Tensor) -> float:
        return self.mechanism.reg

    def report_nll(
        self, generator: Generator, y: Tensor, mechanism: Mechanism, rng: torch.Generator
    ) -> float:
        """An upper bound of the mean loss of the first `FOLLOWED` of ``y``, nats a report."""
        y = y[:FOLLOWED]
        with in_mode(self, training=False), in_mode(generator, training=False), torch.no_grad():
            return -self._bound(generator, y, HELD_OUT_DRAWS, rng).double().mean().item()

    @torch.no_grad()
    def latent_law(
        self, generator: Generator, reports: Tensor, heldout: Tensor, visits: int, seed: int
    ) -> NormalMixture | None:
        """A mixture fitted to latents that the encoder draws for each of ``reports``.

        Of several numbers of components, that which makes ``heldout`` likeliest. Draws are weighted
        by the channel, as many as ``visits`` affords.
        """
        if not self.components:
            return None
        sizes = candidates(self.components) if len(heldout) else [self.components]
        draws = affordable(visits, len(reports), self._encoder().normals, sizes)
        rng, of = stream(seed, "latents"), {"draws": HELD_OUT_DRAWS, "seed": seed}
        parts = [self._scored(generator, y, draws, rng) for y in reports.split(PART // draws)]
        u, label, score = (torch.cat(p).unflatten(0, (-1, draws)) for p in zip(*parts, strict=True))
        laws = fit_mixtures(u, label, score, max(1, generator.classes), sizes, seed)
        return likeliest(laws, generator, lambda: self.log_likelihood(generator, heldout, **of))

    @usual(grad=False)
    def log_likelihood(
        self, generator: Generator, y: ArrayLike | Reports, *, draws: int = 64, seed: int | None = 0
    ) -> Tensor:
        """A lower bound of ``log E_z k(y_j | G(z))`` in nats for every report, (m,).

        The importance-weighted bound: on average over its ``draws`` it never exceeds the
        log-likelihood, and rises to it as they become many. It compares generators however many
        nats a report tells, where `report_log_likelihood` would need as many records as e to them.
        """
        reports, rng = values_of("y", y), stream(seed, "evaluation")
        draws = checks.positive_int("draws", draws)
        with in_mode(self, training=False), in_mode(generator, training=False):
            parts = reports.split(max(1, PART // draws))
            return torch.cat([self._bound(generator, part, draws, rng) for part in parts])

    def _given(
        self,
        generator: Generator,
        features: Tensor,
        label: Tensor | None,
        y: Tensor,
        rng: torch.Generator,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Value and KL over the normal latents, in nats, (m,) each, of classes ``label`` (m,).

        And what the generator made of the latents drawn, less the origin.
        """
        mean, log_std = self._encoder().normal(features, label)
        noise = sent(torch.randn((self.draws, *mean.shape), generator=rng), mean.device).to(mean)
        u = mean + log_std.exp() * noise
        with self._cast(y):
            made = generator(with_class(generator, u.flatten(0, 1), label))
        x = self.forward(made.to(y.dtype)) - self.origin
        again = y.repeat(self.draws, 1)
        cost = self.cost.paired(x, again) / self.reg
        cost = cost.view(self.draws, -1)
        if generator.law is None and self.draws == 1:
            nats = 0.5 * (mean.square() + (2 * log_std).exp() - 1.0 - 2 * log_std).sum(1)
            return cost[0] + self.weight * nats, nats, x
        log_ratio = log_normal(noise).sum(2) - log_std.sum(1) - log_law(generator, u, label)
        scores = -cost - self.weight * log_ratio
        return math.log(self.draws) - scores.logsumexp(0), log_ratio.mean(0), x

    def _draws(
        self, generator: Generator, y: Tensor, draws: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """``draws`` of q(c, u | y) a report, those of a report side by side, with log q."""
        encoder = self._encoder()
        features = encoder.features(y).repeat_interleave(draws, 0)
        label = torch.zeros(len(features), dtype=torch.long, device=y.device)
        log_q = features.new_zeros(len(features))
        if generator.classes:
            evidence = self._evidence(generator, y).repeat_interleave(draws, 0)
            log_classes = encoder.log_classes(features, evidence)
            label = drawn_index(log_classes.exp(), rng)
            log_q = log_classes.gather(1, label[:, None]).squeeze(1)
        mean, log_std = encoder.normal(features, label if generator.classes else None)
        noise = sent(torch.randn(mean.shape, generator=rng), mean.device).to(mean)
        log_q = log_q + log_normal(noise).sum(1) - log_std.sum(1)
        return mean + log_std.exp() * noise, label, log_q

    def _scored(
        self, generator: Generator, y: Tensor, draws: int, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`_draws`, and for log q the log of channel times class's probability, over q."""
        u, label, log_q = self._draws(generator, y - self.origin.to(y), draws, rng)
        x = generator(with_class(generator, u, label))
        score = self.mechanism.log_likelihood(x, y.repeat_interleave(draws, 0)) - log_q
        if generator.classes:
            score = score + generator.log_prior()[label]
        return u, label, score

    def _bound(self, generator: Generator, y: Tensor, draws: int, rng: torch.Generator) -> Tensor:
        u, label, score = self._scored(generator, y, draws, rng)
        score = score + log_law(generator, u[None], label)[0]
        return score.view(-1, draws).logsumexp(1) - math.log(draws)

    def _evidence(self, generator: Generator, y: Tensor) -> Tensor:
        """What a report's own answer says of its class, log k, (m, classes)."""
        end = generator.out_dim
        return self.mechanism.evidence(y, slice(end - generator.classes, end))

    def _cast(self, y: Tensor) -> torch.autocast:
        """Where networks are trained: in bfloat16, if that was asked for."""
        return torch.autocast(y.device.type, torch.bfloat16, enabled=self.autocast)

    def _encoder(self) -> Encoder:
        if self.encoder is None:
            raise ValueError("the loss has no encoder yet; train with it first")
        return self.encoder
