"""Fitting a generator to reports: seeded, resumable, and honest about every step's solve."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.generators import Generator
from privgan.generators.base import structure
from privgan.mechanisms import Mechanism
from privgan.plain import digest
from privgan.reports import Reports
from privgan.training.losses import EntropicLoss, Loss
from privgan.training.state import History, diverged
from privgan.training.trainer import Trainer, Training
from privgan.training.watchers import (
    Bar,
    Checkpoint,
    Clock,
    Convergence,
    HeldOut,
    Snapshots,
    Watcher,
)


def fit(
    generator: Generator,
    reports: Tensor | np.ndarray | Reports,
    loss: Loss | None = None,
    *,
    steps: int = 3000,
    batch_size: int = 1000,
    generated: int | None = None,
    lr: float = 1e-3,
    seed: int = 0,
    holdout: float = 0.05,
    even: bool = True,
    anneal: float = 1.0,
    average: float = 0.0,
    keep_best: bool = False,
    snapshots: Sequence[int] = (),
    mechanism: Mechanism | None = None,
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train ``generator`` in place so that its reports would look like ``reports`` (n, d).

    Adam with a learning rate that falls linearly from ``lr`` to zero; each step solves
    ``loss`` between fresh generated points and ``batch_size`` reports, drawn by epochs without
    replacement. Units do not matter: the generator's output starts from where the reports lie and
    how far they spread. All randomness comes from ``seed``, a stream for each purpose and step.

    loss: may be left out when ``reports`` are `Reports`, which know their mechanism: it is then the
    entropic loss matched to that. generated: generated points a step, by default a quarter of
    ``batch_size``. even: spread each batch's latents evenly over their law (a randomised Sobol set)
    rather than draw them independently: the batch then stands for the generator far better, and
    few points suffice. holdout: fraction of the reports kept out of training to follow their NLL
    under ``mechanism`` (by default that of `Reports`, else the one the loss is matched to; without
    one nothing is kept out); 1024 of them are looked at. anneal: how many times the loss's reg to
    start from; it falls geometrically to reg over the first half of the steps, which frees a
    coupling that its first mistakes would freeze (categories are not softened). average: decay of a
    running mean of the weights, 0.99 say, which is what is checked and returned; 0 for none.
    keep_best: return the weights with the least held-out NLL among those checked, and not the
    last. snapshots: numbers of steps after which to keep some generated records, of the same
    latents each time, in ``History.snapshots``; a film of the training. device: "auto" takes a CUDA
    device when there is one. progress: a bar, on a terminal only.

    checkpoint: a file to save to and to resume from, bit-equal on one CPU; a finished training is
    returned at once. To go on for more steps once it is done, ask for more ``steps`` with the same
    checkpoint: the learning rate falls from ``lr`` again over those that are new.

    Raises ValueError or TypeError before the first step for anything wrong with the input,
    FloatingPointError naming the step if loss or weights stop being finite (the checkpoint
    then still holds the last finite state), and OSError naming the path if a checkpoint
    cannot be written. Warns once if a batch is not solved to the loss's tolerance;
    ``History.converged`` has them all.
    """
    checks.instance("generator", generator, Generator)
    if isinstance(reports, Reports):
        mechanism = reports.mechanism if mechanism is None else mechanism
        loss = EntropicLoss.matched(reports.mechanism) if loss is None else loss
        reports = reports.values
    elif loss is None:
        raise TypeError(
            "loss is missing: plain reports do not say how they were privatized; give the matched "
            "loss of their mechanism, or Reports, which know it"
        )
    training = Training(
        loss,
        mechanism,
        steps=steps,
        batch_size=batch_size,
        generated=generated,
        lr=lr,
        seed=seed,
        holdout=holdout,
        even=even,
        anneal=anneal,
        average=average,
        keep_best=keep_best,
        snapshots=tuple(snapshots),
    )
    reports = checks.as_records("reports", reports).detach()
    _check_output(generator, loss, reports)
    identity = training.identity() if checkpoint else {}
    if checkpoint:  # before the generator takes its place and units from device and reports
        weights = list(generator.state_dict().items())
        identity |= {"generator": digest([json.dumps(structure(generator)), weights])}
        identity |= {"reports": digest(reports)}

    trainer = Trainer(training, generator, reports, _device(device))
    if checkpoint:
        path = Path(checkpoint).expanduser()
        trainer.state.resume(path, identity, training.steps)
    watchers: list[Watcher] = [HeldOut(trainer), Snapshots(), Convergence(trainer), Clock(trainer)]
    if checkpoint:
        watchers.append(Checkpoint(path, identity))
    generator.train()
    if trainer.state.partner is not None:
        trainer.state.partner.train()
    first = trainer.state.step
    with Bar(trainer, progress) as bar:
        while not trainer.done:
            try:
                solved = trainer.step()
            except ValueError as error:
                if trainer.state.step == first:  # nothing has moved yet: it is the input's fault
                    raise
                raise diverged(trainer.state.step, error) from error
            for watcher in (*watchers, bar):
                watcher(trainer, solved)
    trainer.finish()
    return trainer.state.history


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _check_output(generator: Generator, loss: Loss, reports: Tensor) -> None:
    made = loss.forward(generator.sample(2, seed=0))
    if made.shape[1:] != reports.shape[1:]:
        raise ValueError(
            f"the generator's reports have {made.shape[1]} columns and reports has "
            f"{reports.shape[1]}; set the generator's out_dim to match"
        )
