"""Everything a training must keep to go on where it stopped, saved whole and restored exactly."""

import hashlib
import io
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from privgan.files import write_atomically
from privgan.generators import Generator


@dataclass
class History:
    """What happened in a training, one entry a step unless it says otherwise.

    loss: batch loss, cost units. error: Sinkhorn's L1 marginal error, mass. n_iter: its
    iterations. converged: whether error reached the loss's tolerance. nll: pairs of
    (step, held-out report NLL in nats per report), a few for each training; empty when no
    mechanism is known. information: pairs of (step, nats that the batch's plan carries), as
    often; near log batch_size the batch is too small for what a report tells, and the loss is
    biased. snapshots: pairs of (step, generated records as a list of rows), always of the same
    latents, where asked for. seconds: time spent in steps, summed over resumed runs.
    """

    loss: list[float] = field(default_factory=list)
    error: list[float] = field(default_factory=list)
    n_iter: list[int] = field(default_factory=list)
    converged: list[bool] = field(default_factory=list)
    nll: list[tuple[int, float]] = field(default_factory=list)
    information: list[tuple[int, float]] = field(default_factory=list)
    snapshots: list[tuple[int, list[list[float]]]] = field(default_factory=list)
    seconds: float = 0.0
    device: str = "cpu"

    def __len__(self) -> int:
        return len(self.loss)


class Run:
    """Everything that changes from step to step, so that all of it is saved and restored."""

    def __init__(
        self,
        generator: Generator,
        optimizer: torch.optim.Optimizer,
        rng: torch.Generator,
        history: History,
        average: Generator | None = None,
    ):
        self.generator, self.optimizer, self.rng, self.history = generator, optimizer, rng, history
        self.order = torch.empty(0, dtype=torch.int64)  # what is left of this epoch's shuffle
        self.average = average  # a copy of the generator that follows it slowly
        self.best: tuple[float, dict[str, Tensor]] | None = None  # held-out NLL, weights

    def batch(self, n: int, size: int) -> Tensor:
        """The next ``size`` row numbers; a new shuffle of all ``n`` when too few are left."""
        if len(self.order) < size:
            self.order = torch.randperm(n, generator=self.rng)
        rows, self.order = self.order[:size], self.order[size:]
        return rows

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the generator; at first as a plain mean of all steps."""
        decay = min(decay, len(self.history) / (len(self.history) + 10))
        own = self.generator.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(own[name], 1 - decay)
            else:
                mean.copy_(own[name])

    def note_best(self, nll: float, generator: Generator) -> None:
        if self.best is None or nll < self.best[0]:
            self.best = nll, {k: v.clone() for k, v in generator.state_dict().items()}

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
            "average": self.average and self.average.state_dict(),
            "best": self.best,
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
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        self.best = state["best"]
        device = self.history.device
        self.history = History(**state["history"])
        self.history.device = device


def digest(content: Generator | Tensor) -> str:
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
