"""The training loop's heart: what decides the result, and one step. No files, bars or clocks."""

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from privgan import checks
from privgan.generators import Generator
from privgan.generators.base import in_mode
from privgan.mechanisms import Mechanism
from privgan.mechanisms.location import some_rows, winsorised
from privgan.plain import digest
from privgan.reports.collection import rows_of
from privgan.reports.rows import Rows
from privgan.streams import ambient, stream
from privgan.training.batches import Batches, batches, representative
from privgan.training.losses import Loss, Solved
from privgan.training.ranks import Ranks, several
from privgan.training.shuffling import split
from privgan.training.starting import start_of
from privgan.training.state import History, State, diverged

FAR = 100.0  # times the reports' extent: records beyond it have been thrown there by their steps
LEFT = "the generator's records have left all reports far behind"
HELD_OUT = 1024  # reports, at most, that are held out and looked at
LATENTS = 20_000  # reports, at most, that the law of a trained generator's latents is fitted on
PENDING = 50  # steps after which what happened is read back from a device; on a CPU it is there
SPARE = 4  # iterations that may be queued beyond twice those that batches have needed lately
Number = Tensor | float  # a 0-dim tensor, if it is still on a device


@dataclass(frozen=True)
class Training:
    """All that decides a training's result, beside the generator and the reports; see `fit`."""

    loss: Loss
    mechanism: Mechanism | None = None
    steps: int = 3000
    batch_size: int = 1000
    generated: int | None = None
    lr: float = 1e-3
    seed: int = 0
    holdout: float = 0.05
    even: bool = True
    anneal: float = 1.0
    average: float = 0.0
    keep_best: bool = False
    snapshots: Sequence[int] = ()
    start: str = "spread"

    def __post_init__(self) -> None:
        checks.instance("loss", self.loss, Loss)
        if self.mechanism is None:
            self._set("mechanism", self.loss.mechanism)
        else:
            checks.instance("mechanism", self.mechanism, Mechanism)
        for name in ("steps", "batch_size"):
            self._set(name, checks.positive_int(name, getattr(self, name)))
        if self.generated is not None:
            self._set("generated", checks.positive_int("generated", self.generated))
        checks.one_of("start", self.start, ("spread", "moments"))
        self._set("seed", checks.integer("seed", self.seed))
        for name in ("lr", "anneal"):
            self._set(name, checks.positive(name, getattr(self, name)))
        for name in ("holdout", "average"):
            self._set(name, checks.fraction(name, getattr(self, name)))
        for name in ("even", "keep_best"):
            self._set(name, checks.flag(name, getattr(self, name)))
        self._set("snapshots", checks.positive_ints("snapshots", self.snapshots))
        late = [k for k, step in enumerate(self.snapshots) if step > self.steps]
        if late:
            raise ValueError(
                f"snapshots[{late[0]}] is {self.snapshots[late[0]]}, after the last of "
                f"{self.steps} steps; leave it out, or raise steps"
            )
        if self.anneal != 1.0:
            self.loss.heated(self.anneal)  # refuses now, if it cannot

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    @property
    def points(self) -> int:
        """Generated points a step: a quarter of the reports, unless said otherwise."""
        return max(1, self.batch_size // 4) if self.generated is None else self.generated

    def identity(self) -> dict[str, Any]:
        """Every field in plain types; losses and mechanisms by a digest of their own fields."""
        known = {field.name: getattr(self, field.name) for field in fields(self)}
        for name in ("loss", "mechanism"):
            known[name] = {"says": repr(known[name]), "digest": digest(known[name])}
        return known | {"generated": self.points, "snapshots": list(self.snapshots)}


class Trainer:
    """A generator on its way, with the reports it learns from and those held out.

    reports (n, d): `Rows`, or a tensor on the CPU or a device, in the precision they came in. The
    generator is moved to ``device`` and trained in place.
    """

    training: Training
    device: torch.device
    ranks: Ranks | None
    generator: Generator
    heldout: Tensor
    origin: Tensor
    batches: Batches
    unit: float
    unchecked: bool
    state: State
    pending: list[tuple[Number, ...]]
    block: int
    most: int | None

    def __init__(
        self, training: Training, generator: Generator, reports: Rows | Tensor, device: torch.device
    ):
        rows, ranks = rows_of("reports", reports), several()
        if ranks and min(training.points, training.batch_size) < ranks.count:
            raise ValueError(
                f"there are {ranks.count} processes for {training.points} generated points and "
                f"{training.batch_size} reports a step; start fewer, or raise batch_size"
            )
        self.ranks = ranks
        self.training, self.device = training, device
        self.generator = generator.to(device)
        like = next(generator.parameters())
        judged = training.mechanism is not None
        kept_out, picked = split(rows, training.holdout if judged else 0.0, training.seed)
        if training.keep_best and not len(kept_out):
            raise ValueError("keep_best needs held-out reports and their mechanism; raise holdout")
        self.heldout = kept_out.take(torch.arange(min(HELD_OUT, len(kept_out)))).to(device)
        if training.batch_size > len(picked):
            raise ValueError(
                f"batch_size is {training.batch_size} but only {len(picked)} reports are there "
                f"to train on ({len(rows)} less {len(kept_out)} held out); "
                "lower batch_size or holdout"
            )

        # Costs compare x with y, so what both have in common only costs digits.
        there = representative(rows)
        shiftable = training.loss.shiftable(rows.shape[1]).to(there.device)
        middle = winsorised(some_rows(there))[0].to(there)  # which one outlier does not move
        origin = torch.where(shiftable, middle, 0.0)
        self.batches = batches(
            picked,
            there,
            training.batch_size,
            training.seed,
            origin=origin,
            dtype=like.dtype,
            device=device,
            end=training.steps,
            mechanism=training.loss.mechanism,
            share=ranks.share if ranks else None,
        )
        self.origin, looked_at = origin.to(device), self.batches.looked_at()
        some = looked_at[:1000]
        self.unit, self.unchecked = training.loss.unit(some), training.loss.unchecked(some)
        if not self.unit >= torch.finfo(like.dtype).tiny:  # a loss in this unit would be infinite
            raise ValueError(
                f"reg is too small for {like.dtype}: {self.unit:.3g}; rescale the data"
            )
        # Last of all that may fail: a generator that was refused is as it was.
        centre, spread = (v.to(rows.dtype) for v in _location(training, there))
        if not (centre.isfinite().all() and spread.isfinite().all()):
            raise ValueError("reports are so large that their spread overflows; rescale them")
        moments = training.start == "moments"
        start = start_of(generator, picked, training.mechanism, training.seed) if moments else None
        generator.settle(centre, spread)
        if start:
            start.give(generator, training.seed)
        average = copy.deepcopy(generator) if training.average else None
        partner = training.loss.meet(generator, looked_at, self.origin)
        learned = [*generator.parameters(), *(partner.parameters() if partner else ())]
        learned = [p for p in learned if p.requires_grad]
        optimizer = torch.optim.Adam(learned, lr=training.lr, fused=True)
        with torch.no_grad(), in_mode(generator, training=False):
            _, weights = generator.batch(1, stream(0, "latents"))
        # Atoms are their law, however few they are: then only the reports are a sample.
        points = training.points if weights is None else training.batch_size
        history = History(device=str(device))
        history.capacity = training.loss.capacity(points, training.batch_size)
        self.state = State(generator, optimizer, history, average, partner)
        self.pending = []
        self.block, self.most = -1, None

    def step(self) -> Solved:
        """One batch of reports, one of generated points, one step of Adam."""
        training, at = self.training, self.state.step
        for group in self.state.optimizer.param_groups:
            group["lr"] = training.lr * self._left()
        loss, y = self._loss().queued(self._queued(at)), self.batches(at)
        purpose = "layers" if not (self.ranks and self.ranks.rank) else f"layers {self.ranks.rank}"
        with ambient(training.seed, purpose, at, self.device), self._synchronised():
            try:
                solved, made = self._coupled(loss, y, stream(training.seed, "latents", at))
            except ValueError as error:
                raise self._fault(y, error) from error
            self.state.optimizer.zero_grad(set_to_none=True)
            (solved.value / self.unit).backward()
        if self.ranks:
            self.ranks.sum_gradients(self.state.optimizer.param_groups[0]["params"])
        self.state.optimizer.step()
        self.state.step += 1
        self.state.follow(training.average)
        outcome = getattr(solved, "certificate", None)  # without a look, where there is one
        outcome = outcome or (solved.error, solved.n_iter, solved.converged)
        self.pending.append((solved.value.detach(), _far(made.detach(), y), *outcome))
        if self.device.type == "cpu" or self.done or self.state.step % PENDING == 0:
            self.read()
        return solved

    def _coupled(self, loss: Loss, y: Tensor, rng: torch.Generator) -> tuple[Solved, Tensor]:
        """The value of the step, and what the generator made of latents from ``rng``."""
        training = self.training
        about: dict[str, Any] = {"points": training.points, "even": training.even}
        about["origin"] = self.origin
        if self.ranks is None:
            return loss.couple(self.generator, y, rng, unchecked=self.unchecked, **about)
        size = training.batch_size
        return loss.couple_across(self.ranks, self.generator, y, rng, size=size, **about)

    def _synchronised(self) -> AbstractContextManager[None]:
        return self.ranks.synchronised(self.state.learners) if self.ranks else nullcontext()

    def read(self) -> None:
        """Enter what happened since into the history; FloatingPointError if it was divergence."""
        history = self.state.history
        for value, far, error, n_iter, converged in _read(self.pending):
            if not math.isfinite(value):
                raise diverged(len(history), f"the loss is {value}")
            if not converged and far:
                raise diverged(len(history), LEFT)
            history.loss.append(value)
            history.error.append(error)
            history.n_iter.append(int(n_iter))
            history.converged.append(bool(converged))
        self.pending.clear()

    def _queued(self, step: int) -> int | None:
        """Iterations to queue without a look, on a GPU: twice those that batches needed lately.

        None, for the host to look and help, until something is known, and from then on when a batch
        was not solved. Of whole blocks of steps alone: when else they were read does not matter.
        """
        block = step // PENDING
        if self.device.type != "cpu" and block != self.block:
            history, end = self.state.history, block * PENDING
            lately = history.n_iter[max(0, end - PENDING) : end]
            solved = bool(lately) and all(history.converged[:end])
            self.block, self.most = block, 2 * max(lately) + SPARE if solved else None
        return self.most

    @property
    def done(self) -> bool:
        return self.state.step >= self.training.steps

    def finish(self) -> None:
        """Leave in the generator what the training was for: the average, or the best weights."""
        if self.training.average:
            self.generator.load_state_dict(self.state.judged.state_dict())
        if self.state.best is not None:
            self.generator.load_state_dict(self.state.best[1])
        if not all(p.isfinite().all() for p in self.generator.parameters()):
            raise diverged(self.state.step - 1, "the generator's weights are not finite")
        self.state.learners.eval()
        known = torch.arange(min(LATENTS, len(self.batches.picked)))
        some, seed = self.batches.at(known) + self.origin, self.training.seed
        visits = self.state.step * self.training.batch_size // len(some)
        law = self.training.loss.latent_law(self.generator, some, self.heldout, visits, seed)
        self.generator.law = self.generator.law if law is None else law

    @torch.no_grad()
    def _fault(self, y: Tensor, error: ValueError) -> Exception:
        """What a step's refusal to be solved comes from: the step size, or what was handed over."""
        step, training = self.state.step, self.training
        latents = stream(training.seed, "latents", step)
        x, _ = self.generator.batch(training.points, latents, even=training.even)
        made = training.loss.forward(x) - self.origin
        if not made.isfinite().all():
            fault = "the generator's records are not finite"
            return diverged(step, fault) if step else ValueError(f"step 0: {fault}")
        if step and _far(made, y):
            return diverged(step, LEFT)
        return ValueError(f"step {step}: {error}")

    def _left(self) -> float:
        """The part of this leg that is still to be gone, 1 at its first step."""
        start = self.state.started
        return 1.0 - (self.state.step - start) / (self.training.steps - start)

    def _loss(self) -> Loss:
        """The loss at this step: hotter in the first half of the first leg, where asked for."""
        hotter = 2.0 * self._left() - 1.0
        if self.state.started or hotter <= 0.0:
            return self.training.loss
        loss = self.training.loss.warmed(hotter)
        return loss if self.training.anneal == 1.0 else loss.heated(self.training.anneal**hotter)


def check_weights(generator: Generator) -> None:
    """Raise ValueError or TypeError unless ``generator`` has weights, of one type, to train."""
    weights = list(generator.parameters())
    if not any(p.requires_grad for p in weights):
        cure = ": all are frozen; call generator.requires_grad_(True)" if weights else ""
        raise ValueError(f"the generator has no weights to train{cure}")
    for weight in weights:
        checks.as_float_tensor("the generator's weights", weight)
        if weight.dtype != weights[0].dtype:
            kinds = f"{weights[0].dtype} and {weight.dtype}"
            raise TypeError(
                f"the generator's weights are of {kinds}; call generator.float() or .double()"
            )
    if any(v.is_inference() for v in (*weights, *generator.buffers())):
        raise ValueError(
            "the generator was made under torch.inference_mode, which rules out training; make it "
            "outside"
        )


def _read(pending: list[tuple[Number, ...]]) -> list[list[float]]:
    """The numbers, those on a device in one transfer."""
    there = [n.double() for row in pending for n in row if isinstance(n, Tensor) and n.is_cuda]
    read = iter(torch.stack(there).tolist() if there else ())
    return [
        [next(read) if isinstance(n, Tensor) and n.is_cuda else float(n) for n in row]
        for row in pending
    ]


def _far(made: Tensor, y: Tensor) -> Tensor:
    """Whether some of the points lie where no report is, by far; not read back from a device."""
    return made.abs().amax() > FAR * y.abs().amax()


def _location(training: Training, reports: Tensor) -> tuple[Tensor, Tensor]:
    """Centre and spread of the records' columns, (d,), by their mechanism, else by the cost's."""
    if training.mechanism is not None:
        return training.mechanism.location(reports)
    centre, variance = winsorised(some_rows(reports))
    known = training.loss.shiftable(len(centre)) & (variance > 0)
    return torch.where(known, centre, 0.0), torch.where(known, variance.sqrt(), 1.0)
