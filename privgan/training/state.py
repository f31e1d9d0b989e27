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

from privgan import checks
from privgan.files import load_tensors, reading, save_tensors
from privgan.generators import Generator
from privgan.generators.saved import check_weights

NEARLY = 3.0  # nats from its capacity, a plan is taken to be limited by it
LONGEST = 200  # letters of a setting that an error repeats
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
    often; near ``capacity`` the batch is too small for what a report tells, and the loss is
    biased. snapshots: pairs of (step, generated records as a list of rows), always of the same
    latents, where asked for. seconds: time spent in steps, summed over resumed runs. capacity: the
    most nats that the plan of a batch can carry; None where there is no such limit.
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
    capacity: float | None = None

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def saturated(self) -> bool:
        """Whether the last plan looked at carried nearly all the nats that it could."""
        if self.capacity is None or not self.information:
            return False
        return self.information[-1][1] > self.capacity - NEARLY

    def describe(self) -> str:
        """How the training went, in words: likelihood, nats, and the cure where these ran out."""
        said = [f"{len(self)} steps in {self.seconds:.0f} s on {self.device}"]
        if self.nll:
            said.append(f"held-out reports cost {self.nll[-1][1]:.4f} nats each")
        if self.information:
            said.append(f"the plan carries {self.information[-1][1]:.1f} nats")
        if unsolved := len(self) - sum(self.converged):
            said.append(f"{unsolved} steps were not solved to the loss's tolerance")
        if self.saturated:
            said.append(
                f"a plan between batches of this size carries at most {self.capacity:.1f}: the "
                "reports may tell more, and the generator is then drawn to averages; train with "
                "AmortizedLoss.matched(mechanism), whose plan has no such limit"
            )
        return ". ".join(text[0].upper() + text[1:] for text in said) + "."


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
        partner: nn.Module | None = None,
    ):
        self.generator, self.optimizer, self.history = generator, optimizer, history
        self.partner = partner  # the loss, where it has weights that are trained too
        self.average = average  # a copy of the generator that follows it slowly
        self.step, self.started = 0, 0
        self.best = None  # held-out NLL, weights

    @property
    def judged(self) -> Generator:
        """The generator that is checked, and kept in the end."""
        return self.generator if self.average is None else self.average

    @property
    def learners(self) -> nn.ModuleList:
        """The generator, and the loss's own network where it has one."""
        return nn.ModuleList(m for m in (self.generator, self.partner) if m is not None)

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
        means: list[Tensor] = []
        ends: list[Tensor] = []
        for name, mean in self.average.state_dict().items():
            if mean.is_floating_point():
                means.append(mean)
                ends.append(own[name])
            else:
                mean.copy_(own[name])
        torch._foreach_lerp_(means, ends, 1 - decay)

    def note(self, nll: float) -> None:
        """Keep the weights if their held-out NLL is the least so far."""
        if self.best is None or nll < self.best[0]:
            self.best = nll, {k: v.clone() for k, v in self.judged.state_dict().items()}

    def save(self, path: Path, identity: Mapping[str, Any]) -> None:
        """Write all of it to ``path``; FloatingPointError if a weight is not finite."""
        if not _finite(self.generator.state_dict()):
            raise diverged(self.step - 1, "the generator's weights are not finite")
        history = vars(self.history).copy()
        tensors = {f"history {k}": torch.tensor(history.pop(k), dtype=t) for k, t in COLUMNS}
        films = history.pop("snapshots")
        del history["capacity"]  # which follows from the settings
        tensors |= {f"snapshot {step}": torch.tensor(rows) for step, rows in films}
        for name, module in self._modules():
            tensors |= {f"{name} {k}": v for k, v in module.state_dict().items()}
        if self.best is not None:
            tensors |= {f"best {k}": v for k, v in self.best[1].items()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer {index} {k}": torch.as_tensor(v) for k, v in slots.items()}
        about = {
            "identity": identity,
            "step": self.step,
            "started": self.started,
            "history": history,
            "best": self.best and self.best[0],
        }
        save_tensors(path, FORMAT, about, tensors, "checkpoint")

    def resume(self, path: Path, identity: Mapping[str, Any], steps: int) -> None:
        """Take up the state in ``path``, if it is there and belongs to ``identity``.

        Raises ValueError for a file that is damaged or belongs to another training; the state is
        then as it was.
        """
        if not path.exists():
            return
        about, tensors = load_tensors(path, FORMAT, "checkpoint")
        with reading(path, f"checkpoint {path} cannot be read"):
            fault = _difference(about["identity"], dict(identity), about["step"])
        if fault:
            raise ValueError(f"checkpoint {path} belongs to another training: {fault}")
        with reading(path, f"checkpoint {path} cannot be read"):
            kept = _Kept(about, tensors)
            self._check(kept)
        if not all(map(_finite, (*kept.modules.values(), kept.best))):
            raise ValueError(f"checkpoint {path} holds weights that are not finite; delete it")
        self._take_up(kept)
        if steps > (before := about["identity"]["steps"]):
            self.started = before

    def _check(self, kept: "_Kept") -> None:
        """Raise ValueError unless all that was kept can take its place here."""
        if kept.modules.keys() != dict(self._modules()).keys():
            raise ValueError("it has no average of the weights where there should be one")
        for name, module in self._modules():
            check_weights(module.state_dict(), kept.modules[name])
        if kept.nll is not None:
            check_weights(self.generator.state_dict(), kept.best)
        (group,) = self.optimizer.param_groups
        parameters = dict(enumerate(group["params"]))
        like: dict[str, Tensor] = {}
        for index in {int(key.partition(" ")[0]) for key in kept.optimizer}:
            like |= {f"{index} {slot}": parameters[index] for slot in ("exp_avg", "exp_avg_sq")}
            like |= {f"{index} step": torch.zeros(())}
        check_weights(like, kept.optimizer)

    def _take_up(self, kept: "_Kept") -> None:
        for name, module in self._modules():
            module.load_state_dict(kept.modules[name])
        if kept.nll is not None:
            device = next(self.generator.parameters()).device
            self.best = kept.nll, {k: v.to(device) for k, v in kept.best.items()}
        slots: dict[int, dict[str, Tensor]] = {}
        for key, value in kept.optimizer.items():
            index, _, slot = key.partition(" ")
            slots.setdefault(int(index), {})[slot] = value
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": slots, "param_groups": groups})
        vars(self.history).update(kept.history)
        self.step, self.started = kept.step, kept.started

    def _modules(self) -> Iterator[tuple[str, nn.Module]]:
        yield "generator", self.generator
        if self.average is not None:
            yield "average", self.average
        if self.partner is not None:
            yield "partner", self.partner


class _Kept:
    """What a checkpoint holds, in the types that it should have: ValueError if it has not."""

    def __init__(self, about: Mapping[str, Any], tensors: Mapping[str, Tensor]):
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            part, _, name = key.partition(" ")
            parts.setdefault(part, {})[name] = value
        columns, films = parts.pop("history", {}), parts.pop("snapshot", {})
        self.optimizer, self.best = parts.pop("optimizer", {}), parts.pop("best", {})
        self.modules = parts
        self.step, self.started = (checks.integer(k, about[k]) for k in ("step", "started"))
        self.nll = None if about["best"] is None else float(about["best"])
        if not 0 <= self.started <= self.step <= about["identity"]["steps"]:
            raise ValueError(f"its step is {self.step}, of a leg that began at {self.started}")
        check_weights({k: torch.zeros(self.step, dtype=t) for k, t in COLUMNS}, columns)
        said = about["history"]
        self.history = {name: columns[name].tolist() for name, _ in COLUMNS} | {
            "snapshots": sorted((int(step), rows.tolist()) for step, rows in films.items()),
            "seconds": float(said["seconds"]),
        }
        for name in ("nll", "information"):
            pairs = ((checks.integer(name, step), float(value)) for step, value in said[name])
            self.history[name] = list(pairs)


def _finite(weights: Mapping[str, Tensor]) -> bool:
    return all(bool(value.isfinite().all()) for value in weights.values())


def _difference(theirs: dict[str, Any], ours: dict[str, Any], step: int) -> str:
    """What differs, and what to do; empty if ``ours`` may go on where ``theirs`` stopped."""
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
            if max(len(repr(v)) for v in said) > LONGEST:
                return f"its {name} is another; {cure}"
            return f"its {name} is {said[0]!r}, here it is {said[1]!r}; {cure}"
    return ""
