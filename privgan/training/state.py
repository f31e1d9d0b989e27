"""What a training has come to: its history, and the state that a checkpoint keeps whole.

Randomness is counted, so nothing of it is kept: the numbers drawn at a step follow from the seed
and the step. Weights, the optimiser and the step are all that it takes to go on.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from privgan.files import load_tensors, save_tensors
from privgan.generators import Generator

FORMAT = "privgan checkpoint 2"
COLUMNS = [  # of a history, with an entry a step
    ("loss", torch.float64),
    ("error", torch.float64),
    ("n_iter", torch.int32),
    ("converged", torch.bool),
]


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


def diverged(step: int, fault: object) -> FloatingPointError:
    """The error that says at which step a training blew up, and what to do about it."""
    return FloatingPointError(f"training diverged at step {step}: {fault}. Lower lr")


class State:
    """All that changes from step to step.

    started: the step at which this leg began. A training that goes on for more steps after it was
    done begins another leg, whose learning rate falls from its start again.
    """

    generator: Generator
    optimizer: torch.optim.Optimizer
    history: History
    average: Generator | None
    step: int
    started: int
    best: tuple[float, dict[str, Tensor]] | None

    def __init__(
        self,
        generator: Generator,
        optimizer: torch.optim.Optimizer,
        history: History,
        average: Generator | None = None,
    ):
        self.generator, self.optimizer, self.history = generator, optimizer, history
        self.average = average  # a copy of the generator that follows it slowly
        self.step, self.started = 0, 0
        self.best = None  # held-out NLL, weights

    @property
    def judged(self) -> Generator:
        """The generator that is checked, and kept in the end."""
        return self.generator if self.average is None else self.average

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the generator.

        At first its memory is shorter, so that the untrained weights do not stay in it: after n
        steps it decays by at most n / (n + 10).
        """
        if self.average is None:
            return
        decay = min(decay, self.step / (self.step + 10))
        own = self.generator.state_dict()
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(own[name], 1 - decay)
            else:
                mean.copy_(own[name])

    def note(self, nll: float) -> None:
        """Keep the weights if their held-out NLL is the least so far."""
        if self.best is None or nll < self.best[0]:
            self.best = nll, {k: v.clone() for k, v in self.judged.state_dict().items()}

    def save(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write all of it to ``path``; FloatingPointError if a weight is not finite."""
        if not all(p.isfinite().all() for p in self.generator.parameters()):
            raise diverged(self.step - 1, "the generator's weights are not finite")
        history = vars(self.history).copy()
        tensors = {f"history {k}": torch.tensor(history.pop(k), dtype=t) for k, t in COLUMNS}
        films = history.pop("snapshots")
        tensors |= {f"snapshot {step}": torch.tensor(rows) for step, rows in films}
        for name, module in self._modules():
            tensors |= {f"{name} {k}": v for k, v in module.state_dict().items()}
        if self.best is not None:
            tensors |= {f"best {k}": v for k, v in self.best[1].items()}
        packed = self.optimizer.state_dict()
        for index, slots in packed["state"].items():
            tensors |= {f"optimizer {index} {k}": torch.as_tensor(v) for k, v in slots.items()}
        about = {
            "identity": identity,
            "step": self.step,
            "started": self.started,
            "history": history,
            "best": self.best and self.best[0],
            "groups": packed["param_groups"],
        }
        save_tensors(path, FORMAT, about, tensors, "checkpoint")

    def resume(self, path: Path, identity: Mapping[str, Any], steps: int) -> None:
        """Take up the state in ``path``, if it is there and belongs to ``identity``.

        Raises ValueError for a file that is damaged or belongs to another training.
        """
        if not path.exists():
            return
        about, tensors = load_tensors(path, FORMAT, "checkpoint")
        _compare(path, about["identity"], dict(identity), about["step"])

        def part(name: str) -> dict[str, Tensor]:
            return {k[len(name) + 1 :]: v for k, v in tensors.items() if k.startswith(name + " ")}

        for name, module in self._modules():
            weights = part(name)
            if not all(v.isfinite().all() for v in weights.values()):
                raise ValueError(f"checkpoint {path} holds weights that are not finite; delete it")
            module.load_state_dict(weights)
        if about["best"] is not None:
            device = next(self.generator.parameters()).device
            self.best = about["best"], {k: v.to(device) for k, v in part("best").items()}
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in part("optimizer").items():
            index, _, name = key.partition(" ")
            slots.setdefault(int(index), {})[name] = value
        self.optimizer.load_state_dict({"state": slots, "param_groups": about["groups"]})
        for name, column in part("history").items():
            setattr(self.history, name, column.tolist())
        for name in ("nll", "information"):
            setattr(self.history, name, [tuple(pair) for pair in about["history"][name]])
        films = [(int(step), rows.tolist()) for step, rows in part("snapshot").items()]
        self.history.snapshots = sorted(films)
        self.history.seconds = about["history"]["seconds"]
        self.step, self.started = about["step"], about["started"]
        if steps > (before := about["identity"]["steps"]):
            self.started = before

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "generator", self.generator
        if self.average is not None:
            yield "average", self.average


def _compare(path: Path, theirs: dict[str, Any], ours: dict[str, Any], step: int) -> None:
    """Raise ValueError, naming what differs, unless ``ours`` may go on where ``theirs`` stopped."""
    more = ours.get("steps", 0) > theirs.get("steps", 0) == step
    for name, own in ours.items():
        if name == "steps" and more:  # done, and to be gone on with
            continue
        if theirs.get(name) != own:
            cure = "delete it or name another file"
            if name == "generator":
                cure = "build the generator anew with its seed, untrained, or " + cure
            if name == "steps" and own > theirs.get(name, 0):
                cure = f"finish its own steps first, or {cure}"
            said = [v["says"] if isinstance(v, dict) else v for v in (theirs.get(name), own)]
            raise ValueError(
                f"checkpoint {path} belongs to another training: its {name} is {said[0]!r}, here "
                f"it is {said[1]!r}; {cure}"
            )
