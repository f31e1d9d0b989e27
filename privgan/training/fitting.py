"""Fitting a generator to reports: seeded, resumable, and honest about every step's solve."""

import functools
import json
import os
import shutil
import subprocess
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike

from privgan import checks
from privgan.files import check_writable
from privgan.generators import Generator
from privgan.generators.base import as_device, in_mode, structure
from privgan.mechanisms import Mechanism
from privgan.plain import digest
from privgan.reports import Reports, together
from privgan.reports.collection import rows_of
from privgan.reports.possible import check_possible
from privgan.reports.rows import Rows
from privgan.streams import stream
from privgan.surroundings import usual
from privgan.training.blocks import matched
from privgan.training.losses import Loss
from privgan.training.ranks import own_device, several
from privgan.training.state import History
from privgan.training.trainer import Trainer, Training, check_weights
from privgan.training.watchers import (
    Bar,
    Checkpoint,
    Clock,
    Convergence,
    HeldOut,
    Snapshots,
    Watcher,
)

LOOKED_AT = 1024  # reports that are held against the generator's before the first step


@usual(grad=True)
def fit(
    generator: Generator,
    reports: ArrayLike | str | Path | Rows | Reports | Sequence[Reports],
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
    start: str = "spread",
    mechanism: Mechanism | None = None,
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train ``generator`` in place so that its reports would look like ``reports`` (n, d).

    Adam with a learning rate that falls linearly from ``lr`` to zero; each step solves
    ``loss`` between fresh generated points and ``batch_size`` reports, drawn by epochs without
    replacement. Units do not matter: the generator's output starts from where the reports lie and
    how far they spread. All randomness comes from ``seed``, a stream for each purpose and step, and
    none of torch's ambient switches changes a number. The generator comes back in evaluation mode;
    after an error, in the mode it came in. Weights that are frozen stay as they are.

    reports: `Reports`, a list of them, say of people who reported at different levels of noise, or
    float32 or float64 numbers: a tensor, array or data frame; or more than memory holds, a memmap,
    a ``.npy`` or Parquet file or a folder of such, whose rows are read, and looked at, as the steps
    come to them. loss: may be left out with `Reports`, which know their mechanism: it is then the
    entropic loss matched to that.
    generated: generated points a step, by default a quarter of ``batch_size``. even: spread each
    batch's latents evenly over their law (a randomised Sobol set) rather than draw them
    independently: the batch then stands for the generator far better, and few points suffice.
    holdout: fraction of the reports kept out of training; the NLL of 1024 of them, or of all if
    fewer, is followed under ``mechanism`` (by default that of `Reports`, else the one the loss is
    matched to; without one nothing is kept out). anneal: how many times the loss's reg to
    start from; it falls geometrically to reg over the first half of the steps, which frees a
    coupling that its first mistakes would freeze (categories are not softened). average: decay of a
    running mean of the weights, 0.99 say, which is what is checked and returned; 0 for none. The
    mean's memory is shorter at first: after n steps its decay is at most n / (n + 10).
    keep_best: return the weights with the least held-out NLL among those checked, and not the
    last. snapshots: numbers of steps after which to keep some generated records, of the same
    latents each time, in ``History.snapshots``; a film of the training.
    start: where the generator begins: "spread" with its own weights, in the units of the reports;
    "moments" at the best linear generator, of normal records with the mean and the covariance
    behind the reports that are trained on, and with a class (the last columns, as in `closed_form`)
    the mean of each and one covariance for all. All weights are overwritten, and the shares of a
    `Labelled` generator's classes if they are uniform. Layers that hold no linear map of latents
    (images, bounds, fewer than two units a latent) are brought near it by least squares. It is
    derived in `privgan.training.starting`.
    device: "auto" takes a CUDA device when there is one, and warns of a GPU that PyTorch cannot
    use. progress: a bar, on a terminal only.

    Under torchrun all processes train the one generator together, as one of them would alone, and
    all come back with it; the first one writes the checkpoint, which any number of processes may
    take up.

    checkpoint: a file to save to and to resume from, bit-equal on one CPU with as many threads; a
    finished training is returned at once, but for a law of latents, which is fitted again. To go
    on for more steps once it is done, ask for more ``steps`` with the same checkpoint and a
    generator built as before, untrained: the learning rate falls from ``lr`` again over those that
    are new.

    Raises ValueError or TypeError before the first step for anything wrong with the input, and
    OSError naming the path if no checkpoint can be written there. Raises FloatingPointError naming
    the step if loss, records or weights stop being finite, or the records leave all reports far
    behind; the checkpoint then still holds the last finite state. Warns once if a batch is not
    solved to the loss's tolerance; ``History.converged`` has them all.

    >>> reports = pg.simulate(torch.zeros(200, 1), pg.Gaussian(0.5), seed=0)
    >>> model = pg.MLP(latent_dim=1, out_dim=1)
    >>> history = pg.fit(model, reports, steps=2, batch_size=40, progress=False)
    >>> len(history.loss), model.sample(10).shape
    (2, torch.Size([10, 1]))
    """
    checks.instance("generator", generator, Generator)
    reports = together(reports)
    if isinstance(reports, Reports):
        mechanism = reports.mechanism if mechanism is None else mechanism
        loss = matched(reports.mechanism) if loss is None else loss
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
        snapshots=snapshots,
        start=start,
    )
    ranks, show = several(), checks.flag("progress", progress)
    where = own_device() if ranks and device == "auto" else _device(device)
    first = not (ranks and ranks.rank)
    path = None if checkpoint is None else checks.as_path("checkpoint", checkpoint)
    rows = rows_of("reports", reports)
    check_weights(generator)
    _check_output(generator, loss, rows)
    identity: dict[str, Any] = {}
    if path is not None and path.is_dir():
        raise ValueError(f"checkpoint {path} is a folder; name a file in it")
    if path is not None and not path.exists() and first:
        check_writable(path, "checkpoint")
    if path is not None or ranks:  # before the generator takes its place and units
        trained = [name for name, p in generator.named_parameters() if p.requires_grad]
        weights = list(generator.state_dict().items())
        made = digest([json.dumps(structure(generator)), trained, weights])
        identity = training.identity() | {"generator": made, "reports": rows.identity()}
    if ranks:
        for name, said in identity.items():
            ranks.agree(name, str(said))

    trainer = Trainer(training, generator, rows, where)
    if ranks and training.start == "moments":  # whose arithmetic may differ between machines
        ranks.agree("start", digest([v.cpu() for v in generator.state_dict().values()]))
    if path is not None:
        trainer.state.resume(path, identity, training.steps)
        if ranks:
            ranks.agree("checkpoint", str(trainer.state.step))
    watchers: list[Watcher] = [HeldOut(trainer), Snapshots(), Clock(trainer)]
    if first:
        watchers.append(Convergence(trainer))
    if first and path is not None:
        watchers.append(Checkpoint(path, identity))
    try:
        with in_mode(trainer.state.learners, training=True), Bar(trainer, show and first) as bar:
            while not trainer.done:
                solved = trainer.step()
                for watcher in (*watchers, bar):
                    watcher(trainer, solved)
    finally:
        trainer.state.learners.zero_grad(set_to_none=True)
    trainer.finish()
    return trainer.state.history


def _device(device: str | torch.device) -> torch.device:
    if device != "auto":
        return as_device("device", device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if _idle_gpu():
        warnings.warn(
            "nvidia-smi lists a GPU that this PyTorch cannot use, so the CPU trains: its build is "
            f"for CUDA {torch.version.cuda}, and the driver may be too old for that; install "
            "PyTorch for this driver, or say device='cpu'",
            RuntimeWarning,
            stacklevel=4,  # of who called fit
        )
    return torch.device("cpu")


@functools.cache
def _idle_gpu() -> bool:
    """Whether this machine has a GPU, by its driver's own program, that nobody has hidden."""
    program = shutil.which("nvidia-smi")
    if program is None or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    try:
        told = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0 and "GPU" in told.stdout


def _check_output(generator: Generator, loss: Loss, reports: Rows) -> None:
    records = generator.sample(2, seed=0)
    if records.ndim != 2 or len(records) != 2:
        raise ValueError(
            f"the generator makes {tuple(records.shape)} of 2 latents; its forward must give one "
            "row of numbers for each"
        )
    if not records.isfinite().all():
        raise ValueError(
            "the generator makes records that are not finite before it has learned anything; "
            "repair its weights or its forward"
        )
    dim = None if loss.mechanism is None else loss.mechanism.dim
    if dim not in (None, records.shape[1]):
        raise ValueError(
            f"the generator makes {records.shape[1]} columns and the mechanism's records have "
            f"{dim}; set the generator's out_dim to match"
        )
    made = loss.forward(records)
    if made.shape[1:] != reports.shape[1:]:
        raise ValueError(
            f"the generator's reports have {made.shape[1]} columns and reports has "
            f"{reports.shape[1]}; set the generator's out_dim to match"
        )
    _check_learnable(generator, loss, reports)


def _check_learnable(generator: Generator, loss: Loss, reports: Rows) -> None:
    """Raise ValueError for a generator that the loss gives no gradient, or that it cannot judge."""
    with torch.no_grad(), in_mode(generator, training=False):
        x, weights = generator.batch(2, stream(0, "first batch"))
        made = loss.forward(x)
    flat = loss.flat(made.shape[1])
    if weights is None and flat.any():
        raise ValueError(
            f"generator makes points, and the cost is flat in column {int(flat.nonzero()[0])} of "
            "the reports, so they would get no gradient; learn weights on a grid: "
            "pg.Atoms(mechanism.grid(bins))"
        )
    if loss.mechanism is not None:
        try:
            some = reports.strided(LOOKED_AT)
            loss.mechanism._check_pair(made.to(some), some)
        except ValueError as error:
            raise ValueError(
                f"the generator's records, x, or the reports, y, do not fit {loss.mechanism!r}: "
                f"{error}; one-hot columns need a generator with categories=, or Atoms"
            ) from None
        if reports.held is not None:  # else as they are read
            check_possible(loss.mechanism, reports)
