"""Fitting a generator to reports: seeded, resumable, and honest about every step's solve."""

import hashlib
import io
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from privgan import checks
from privgan.files import write_atomically
from privgan.generators import Generator
from privgan.losses import Loss
from privgan.mechanisms import Mechanism
from privgan.metrics import report_nll

SAVE_EVERY = 15.0  # seconds between checkpoints
NLL_CHECKS = 20  # held-out evaluations in one training
NLL_POINTS = 1024  # generated points, and at most as many reports, in each of them


@dataclass
class History:
    """What happened in a training, one entry a step unless it says otherwise.

    loss: batch loss, cost units. error: Sinkhorn's L1 marginal error, mass. n_iter: its
    iterations. converged: whether error reached the loss's tolerance. nll: pairs of
    (step, held-out report NLL in nats per report), a few for each training; empty when no
    mechanism is known. seconds: time spent in steps, summed over resumed runs.
    """

    loss: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    n_iter: list[int] = field(default_factory=list)
    converged: list[bool] = field(default_factory=list)
    nll: list[tuple[int, float]] = field(default_factory=list)
    seconds: float = 0.0
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self.loss)


def fit(
    generator: Generator,
    reports: Tensor | np.ndarray,
    loss: Loss,
    *,
    steps: int = 3000,
    batch_size: int = 1000,
    lr: float = 1e-3,
    seed: int = 0,
    holdout: float = 0.05,
    mechanism: Mechanism | None = None,
    device: str | torch.device = "auto",
    checkpoint: str | Path | None = None,
    progress: bool = True,
) -> History:
    """Train ``generator`` in place so that its reports would look like ``reports`` (n, d).

    Adam with a learning rate that falls linearly from ``lr`` to zero; each step solves
    ``loss`` between ``batch_size`` fresh generated points and as many reports, drawn by
    epochs without replacement. All randomness comes from ``seed``.

    holdout: fraction of the reports kept out of training to follow their NLL under
    ``mechanism`` (by default the one the loss is matched to; without one nothing is kept
    out). device: "auto" takes a CUDA device when there is one. checkpoint: a file to save
    to and to resume from, bit-equal on one CPU; a finished training is returned at once.
    progress: a bar, on a terminal only.

    Raises ValueError or TypeError before the first step for anything wrong with the input,
    FloatingPointError naming the step if loss or weights stop being finite (the checkpoint
    then still holds the last finite state), and OSError naming the path if a checkpoint
    cannot be written. Warns once if a batch is not solved to the loss's tolerance;
    ``History.converged`` has them all.
    """
    checks.instance("generator", generator, Generator)
    checks.instance("loss", loss, Loss)
    steps = checks.positive_int("steps", steps)
    batch_size = checks.positive_int("batch_size", batch_size)
    lr = checks.positive("lr", lr)
    seed = checks.integer("seed", seed)
    holdout = checks.fraction("holdout", holdout)
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
    run = _Run(generator, optimizer, rng, History(device=str(device)))
    settings = {
        "steps": steps,
        "batch_size": batch_size,
        "lr": lr,
        "seed": seed,
        "holdout": kept_out,
        "loss": repr(loss),
        "mechanism": repr(mechanism),
    }
    if checkpoint:
        checkpoint = Path(checkpoint)
        settings |= {"generator": _digest(generator), "reports": _digest(reports)}
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
                x, a = generator.batch(batch_size, rng)
                solved = loss.solve(_finite(x), y, a)
                value = solved.value.item()
                if not math.isfinite(value):
                    raise FloatingPointError(f"the loss is {value}")
                optimizer.zero_grad(set_to_none=True)
                solved.value.backward()
                optimizer.step()

                history.loss.append(value)
                history.error.append(solved.error)
                history.n_iter.append(solved.n_iter)
                history.converged.append(solved.converged)
                done = step + 1 == steps
                if kept_out and (done or (step + 1) % nll_every == 0):
                    x = _finite(generator.sample(NLL_POINTS, seed=seed))
                    history.nll.append((step + 1, report_nll(x, heldout, mechanism)))
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
    generator.eval()
    return history


class _Run:
    """Everything that changes from step to step, so that all of it is saved and restored."""

    def __init__(
        self,
        generator: Generator,
        optimizer: torch.optim.Optimizer,
        rng: torch.Generator,
        history: History,
    ):
        self.generator, self.optimizer, self.rng, self.history = generator, optimizer, rng, history
        self.order = torch.empty(0, dtype=torch.int64)  # what is left of this epoch's shuffle

    def batch(self, n: int, size: int) -> Tensor:
        """The next ``size`` row numbers; a new shuffle of all ``n`` when too few are left."""
        if len(self.order) < size:
            self.order = torch.randperm(n, generator=self.rng)
        rows, self.order = self.order[:size], self.order[size:]
        return rows

    def save(self, path: Path, settings: dict[str, Any]) -> None:
        if not all(p.isfinite().all() for p in self.generator.parameters()):
            raise FloatingPointError("the generator's weights are not finite")
        buffer = io.BytesIO()
        content = {
            "settings": settings,
            "generator": self.generator.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "rng": self.rng.get_state(),
            "order": self.order.clone(),
            "history": asdict(self.history),
        }
        torch.save(content, buffer)
        write_atomically(path, buffer.getvalue(), "checkpoint")

    def resume(self, path: Path, settings: dict[str, Any]) -> None:
        """Take up the state in ``path``, if it is there and belongs to ``settings``."""
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            theirs = state["settings"]
        except Exception as error:
            raise ValueError(
                f"checkpoint {path} cannot be read ({type(error).__name__}); "
                "delete it to start over"
            ) from error
        for name, ours in settings.items():
            if theirs.get(name) != ours:
                cure = "delete it or name another file"
                if name == "generator":
                    cure = "build the generator anew with its seed, untrained, or " + cure
                raise ValueError(
                    f"checkpoint {path} belongs to another training: its {name} is "
                    f"{theirs.get(name)!r}, here it is {ours!r}; {cure}"
                )
        self.generator.load_state_dict(state["generator"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.rng.set_state(state["rng"])
        self.order = state["order"]
        device = self.history.device
        self.history = History(**state["history"])
        self.history.device = device


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


def _digest(content: Generator | Tensor) -> str:
    """SHA-256 of a tensor, or of a module's structure and weights."""
    digest = hashlib.sha256()
    if isinstance(content, Tensor):
        tensors = {"": content}
    else:
        digest.update(repr(content).encode())
        tensors = content.state_dict()
    for name, tensor in tensors.items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
