"""What looks on while a trainer steps: held-out likelihood, snapshots, checkpoint, bar.

A watcher is called after every step. None of them changes what the trainer does next.
"""

import math
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor
from tqdm import tqdm

from privgan.streams import stream
from privgan.training.losses import Solved
from privgan.training.state import diverged
from privgan.training.trainer import Trainer

SAVE_EVERY = 15.0  # seconds between checkpoints
SNAPSHOT = 1000  # generated records in each snapshot
CHECKS = 20  # held-out evaluations in one training


class Watcher(Protocol):
    def __call__(self, trainer: Trainer, solved: Solved) -> None: ...


class HeldOut:
    """Follows the likelihood of held-out reports, and with ``keep_best`` keeps the likeliest."""

    every: int
    reports: Tensor

    def __init__(self, trainer: Trainer):
        self.every = max(1, trainer.training.steps // CHECKS)
        self.reports = trainer.heldout

    def __call__(self, trainer: Trainer, solved: Solved) -> None:
        training, state = trainer.training, trainer.state
        due = trainer.done or state.step % self.every == 0
        if training.mechanism is None or not len(self.reports) or not due:
            return
        rng = stream(training.seed, "evaluation")
        nll = training.loss.report_nll(state.judged, self.reports, training.mechanism, rng)
        if not math.isfinite(nll):
            raise diverged(state.step - 1, "generated records are not finite")
        state.history.nll.append((state.step, nll))
        if not math.isnan(nats := solved.information()):
            state.history.information.append((state.step, nats))
        if training.keep_best:
            state.note(nll)


class Snapshots:
    """Keeps some generated records after the steps asked for: a film of the training."""

    def __call__(self, trainer: Trainer, solved: Solved) -> None:
        step = trainer.state.step
        if step in trainer.training.snapshots:
            records = _records(trainer, SNAPSHOT, "snapshots").tolist()
            trainer.state.history.snapshots.append((step, records))


class Checkpoint:
    """Saves the state now and then, and at the end."""

    path: Path
    identity: Mapping[str, Any]
    saved: float

    def __init__(self, path: Path, identity: Mapping[str, Any]):
        self.path, self.identity = path, identity
        self.saved = time.monotonic()

    def __call__(self, trainer: Trainer, solved: Solved) -> None:
        if trainer.done or time.monotonic() - self.saved > SAVE_EVERY:
            trainer.read()
            trainer.state.save(self.path, self.identity)
            self.saved = time.monotonic()


class Clock:
    """Adds up the seconds of the steps, and of what watches them, over resumed runs."""

    earlier: float
    started: float

    def __init__(self, trainer: Trainer):
        self.earlier, self.started = trainer.state.history.seconds, time.perf_counter()

    def __call__(self, trainer: Trainer, solved: Solved) -> None:
        trainer.state.history.seconds = self.earlier + time.perf_counter() - self.started


class Convergence:
    """Warns once of a batch that was not solved to the loss's tolerance."""

    seen: int
    warned: bool

    def __init__(self, trainer: Trainer):
        self.seen = len(trainer.state.history)
        self.warned = not all(trainer.state.history.converged)

    def __call__(self, trainer: Trainer, solved: Solved) -> None:
        history = trainer.state.history
        for step in range(self.seen, len(history)):
            if not (self.warned or history.converged[step]):
                self.warned = True
                warnings.warn(
                    f"step {step}: Sinkhorn stopped at marginal error {history.error[step]:.2g} "
                    f"after {history.n_iter[step]} iterations, short of the loss's tolerance; "
                    "gradients are biased. Raise the loss's max_iter or tol",
                    RuntimeWarning,
                    stacklevel=4,  # of who called fit, through what restores torch's switches
                )
        self.seen = len(history)


class Bar:
    """A progress bar on a terminal, with the device and the last held-out likelihood."""

    bar: Any

    def __init__(self, trainer: Trainer, show: bool):
        state = trainer.state
        steps, disable = trainer.training.steps, None if show else True
        self.bar = tqdm(total=steps, initial=state.step, unit="step", disable=disable)
        self.bar.set_description(str(trainer.device))

    def __call__(self, trainer: Trainer, solved: Solved) -> None:
        if trainer.state.history.nll:
            self.bar.set_postfix(nll=f"{trainer.state.history.nll[-1][1]:.4f}", refresh=False)
        self.bar.update()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()


def _records(trainer: Trainer, n: int, purpose: str) -> Tensor:
    """``n`` records, always of the same latents, that are drawn for this purpose alone."""
    with torch.no_grad():
        generator = stream(trainer.training.seed, purpose)
        return trainer.state.judged.draw_records(n, generator)
