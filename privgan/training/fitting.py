"""Fitting a generator to reports: seeded, resumable, and honest about every step's solve."""

import copy
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from privgan import checks
from privgan.generators import Generator
from privgan.mechanisms import Mechanism
from privgan.reports import Reports
from privgan.training.likelihood import report_nll
from privgan.training.losses import EntropicLoss, Loss
from privgan.training.state import History, Run, digest

SAVE_EVERY = 15.0  # seconds between checkpoints
SNAPSHOT = 1000  # generated records in each snapshot
NLL_CHECKS = 20  # held-out evaluations in one training
NLL_POINTS = 1024  # generated points, and at most as many reports, in each of them


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
    even: bool = False,
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
    ``loss`` between ``batch_size`` fresh generated points and as many reports, drawn by
    epochs without replacement. All randomness comes from ``seed``.

    generated: generated points a step, if not ``batch_size``. With ``even``, fewer generated points
    suffice, and more reports fit into the same time: 250 with 2000 beat 500 with 500 in
    04_manifolds. loss: may be left out when ``reports`` are `Reports`, which know their mechanism:
    it is then the entropic loss matched to that. holdout: fraction of the reports kept out of
    training to follow their NLL under ``mechanism`` (by default that of `Reports`, else the one the
    loss is matched to; without one nothing is kept out). device: "auto" takes a CUDA device when
    there is one. even: spread each batch's latents evenly over their law (a scrambled Sobol set)
    rather than draw them independently: the batch then stands for the generator far better. anneal:
    how many times the loss's reg to start from; it falls geometrically to reg over the first half
    of the steps, which frees a coupling that its first mistakes would freeze (categories are not
    softened). average: decay of a running mean of the weights, 0.99 say, which is what is checked
    and returned; 0 for none. keep_best: return the weights with the least held-out NLL among those
    checked, and not the last. snapshots: numbers of steps after which to keep some generated
    records, of the same latents each time, in ``History.snapshots``; a film of the training.
    checkpoint: a file to save to and to resume from, bit-equal on one CPU; a finished training is
    returned at once. progress: a bar, on a terminal only.

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
    checks.instance("loss", loss, Loss)
    steps = checks.positive_int("steps", steps)
    batch_size = checks.positive_int("batch_size", batch_size)
    if generated is not None:
        generated = checks.positive_int("generated", generated)
    lr = checks.positive("lr", lr)
    seed = checks.integer("seed", seed)
    holdout = checks.fraction("holdout", holdout)
    average = checks.fraction("average", average)
    anneal = checks.positive("anneal", anneal)
    if anneal != 1.0:
        loss.heated(anneal)  # refuses now, if it cannot
    mechanism = mechanism if mechanism is not None else loss.mechanism
    reports = checks.as_records("reports", reports)
    device = _device(device)
    generator.to(device)
    reports = reports.to(next(generator.parameters()))
    checks.check_finite("reports", reports, "row")  # once more: casting may have overflowed
    _check_output(generator, loss, reports)

    rng = torch.Generator().manual_seed(seed)
    kept_out = 0
    if mechanism is not None and holdout > 0.0 and len(reports) > 1:
        kept_out = max(1, round(holdout * len(reports)))
    split = torch.randperm(len(reports), generator=rng).to(device)
    heldout, training = reports[split[:kept_out]][:NLL_POINTS], reports[split[kept_out:]]
    if batch_size > len(training):
        raise ValueError(
            f"batch_size is {batch_size} but only {len(training)} reports are there to train on "
            f"({len(reports)} less {kept_out} held out); lower batch_size or holdout"
        )

    optimizer = torch.optim.Adam(generator.parameters(), lr=lr)
    mean = copy.deepcopy(generator) if average else None
    run = Run(generator, optimizer, rng, History(device=str(device)), mean)
    if keep_best and not kept_out:
        raise ValueError("keep_best needs held-out reports and their mechanism; raise holdout")
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "generated": generated,
        "lr": lr,
        "seed": seed,
        "holdout": kept_out,
        "even": even,
        "anneal": anneal,
        "average": average,
        "keep_best": keep_best,
        "snapshots": list(snapshots),
        "loss": repr(loss),
        "mechanism": repr(mechanism),
    }
    if checkpoint:
        checkpoint = Path(checkpoint)
        settings |= {"generator": digest(generator), "reports": digest(reports)}
        run.resume(checkpoint, settings)
    history = run.history

    generator.train()
    saved = started = time.perf_counter()
    earlier = history.seconds
    nll_every = max(1, steps // NLL_CHECKS)
    warned = not all(history.converged)
    bar = tqdm(total=steps, initial=len(history), unit="step", disable=None if progress else True)
    with bar:
        for step in range(len(history), steps):
            for group in optimizer.param_groups:
                group["lr"] = lr * (1.0 - step / steps)
            y = training[run.batch(len(training), batch_size).to(device)]
            with _naming_step(step):
                x, a = generator.batch(generated or batch_size, rng, even=even)
                times = anneal ** max(0.0, 1.0 - 2.0 * step / steps)
                current = loss if times == 1.0 else loss.heated(times)
                solved = current.solve(_finite(x), y, a)
                value = solved.value.item()
                if not math.isfinite(value):
                    raise FloatingPointError(f"the loss is {value}")
                optimizer.zero_grad(set_to_none=True)
                solved.value.backward()
                optimizer.step()

                if average:
                    run.follow(average)
                history.loss.append(value)
                history.error.append(solved.error)
                history.n_iter.append(solved.n_iter)
                history.converged.append(solved.converged)
                done = step + 1 == steps
                if kept_out and (done or (step + 1) % nll_every == 0):
                    x = _finite((mean or generator).sample(NLL_POINTS, seed=seed))
                    history.nll.append((step + 1, report_nll(x, heldout, mechanism)))
                    if not math.isnan(nats := solved.information()):
                        history.information.append((step + 1, nats))
                    if keep_best:
                        run.note_best(history.nll[-1][1], mean or generator)
                if step + 1 in snapshots:
                    x = (mean or generator).sample(SNAPSHOT, seed=seed)
                    history.snapshots.append((step + 1, x.tolist()))
                now = time.perf_counter()
                history.seconds = earlier + now - started
                if checkpoint and (done or now - saved > SAVE_EVERY):
                    run.save(checkpoint, settings)
                    saved = now
            if not (solved.converged or warned):
                warned = True
                warnings.warn(
                    f"step {step}: Sinkhorn stopped at marginal error {solved.error:.2g} after "
                    f"{solved.n_iter} iterations, short of the loss's tolerance; gradients are "
                    "biased. Raise the loss's max_iter or tol",
                    RuntimeWarning,
                    stacklevel=2,
                )
            bar.update()
    if average:
        generator.load_state_dict(mean.state_dict())
    if keep_best:
        generator.load_state_dict(run.best[1])
    generator.eval()
    return history


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


@contextmanager
def _naming_step(step: int) -> Iterator[None]:
    """Training that blows up says where; the input itself was checked before step 0."""
    try:
        yield
    except FloatingPointError as error:
        raise FloatingPointError(
            f"training diverged at step {step}: {error}. Lower lr, or raise reg"
        ) from error


def _finite(x: Tensor) -> Tensor:
    if not x.isfinite().all():
        raise FloatingPointError("the generator's output is not finite")
    return x
