"""One training by several processes: who does what of a step, and what they exchange.

Entropic transport is no sum over reports: the mean of the losses of parts of a batch is a loss of
smaller batches, with their larger bias. So everybody reads a part of a batch's reports and gathers
all of them, makes a part of its generated points, and solves for these beside all reports as
`privgan.sinkhorn.across` does; the gradients of the weights add up to those of one process. A
network's plan is another matter: its loss is a sum over reports, so that everybody's mean over a
part of them, weighted by that, is all there is to it.

Everything else, the optimiser too, is done by everybody alike, from the same numbers.
"""

import atexit
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from privgan.generators import Generator

PATIENCE = timedelta(minutes=30)  # for a process that is late


class Ranks:
    """The processes of a training, of which this one has the number ``rank`` of ``count``."""

    def __init__(self) -> None:
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    def share(self, n: int) -> slice:
        """Which of ``n`` things are this process's: as many as the others', or one more."""
        return slice(self.rank * n // self.count, (self.rank + 1) * n // self.count)

    def gathered(self, numbers: Tensor) -> Tensor:
        """Everybody's numbers (k,), (processes, k), in the order of the processes."""
        found = [torch.empty_like(numbers) for _ in range(self.count)]
        with _ending():
            dist.all_gather(found, numbers.contiguous())
        return torch.stack(found)

    def joined(self, rows: Tensor, n: int) -> Tensor:
        """All ``n`` rows (n, d), of which everybody has its `share`."""
        parts = [slice(r * n // self.count, (r + 1) * n // self.count) for r in range(self.count)]
        longest = max(part.stop - part.start for part in parts)
        padded = rows.new_zeros((longest, rows.shape[1]))
        padded[: len(rows)] = rows
        found = self.gathered(padded.flatten()).view(self.count, longest, -1)
        return torch.cat([f[: p.stop - p.start] for f, p in zip(found, parts, strict=True)])

    def summed(self, numbers: Tensor) -> Tensor:
        """The sum of everybody's numbers, of any shape, written over them."""
        with _ending():
            dist.all_reduce(numbers)
        return numbers

    def sum_gradients(self, parameters: list[nn.Parameter]) -> None:
        """What everybody's part of a step says of the weights, added up, in one message."""
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        total = self.summed(torch.cat([g.flatten() for g in gradients]))
        parts = total.split([p.numel() for p in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter)

    def agree(self, what: str, said: str) -> None:
        """Raise ValueError unless all processes say the same."""
        found: list[str | None] = [None] * self.count
        with _ending():
            dist.all_gather_object(found, said)
        if len(set(found)) > 1:
            other = next(r for r, theirs in enumerate(found) if theirs != found[0])
            raise ValueError(
                f"process {other} of this training has another {what} than process 0; give all of "
                "them the same, with the same seeds"
            )

    def points(
        self, generator: Generator, n: int, rng: torch.Generator, *, even: bool
    ) -> tuple[Tensor, Tensor | None]:
        """This process's part of ``Generator.batch``, of which all draw the same latents."""
        if type(generator).batch is Generator.batch:
            return generator(generator.latent(n, rng, even=even)[self.share(n)]), None
        x, a = generator.batch(n, rng, even=even)
        own = self.share(len(x))
        return x[own], None if a is None else a[own]

    @contextmanager
    def synchronised(self, module: nn.Module) -> Iterator[None]:
        """Batch norm, in training, by the mean and variance over all processes' batches.

        Torch's own ``SyncBatchNorm`` is for GPUs alone.
        """
        norms = [
            part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)
        ]
        for norm in norms:
            norm.forward = partial(_normed, norm, self)  # type: ignore[method-assign]
        try:
            yield
        finally:
            for norm in norms:
                del norm.forward


def several() -> Ranks | None:
    """The processes that torchrun has started, this one among them; None if there is but one.

    They are introduced to each other the first time, over NCCL where there are GPUs for all, else
    over gloo.
    """
    if not dist.is_available():
        return None
    if not dist.is_initialized():
        if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["WORLD_SIZE"]) < 2:
            return None
        dist.init_process_group("nccl" if _gpus() else "gloo", timeout=PATIENCE)
        atexit.register(_part)
    return Ranks() if dist.get_world_size() > 1 else None


def own_device() -> torch.device:
    """The device of this process, of those that torchrun has started on this machine."""
    if not _gpus():
        return torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    torch.cuda.set_device(device)
    return device


def _gpus() -> bool:
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return torch.cuda.is_available() and torch.cuda.device_count() >= here


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _ending() -> Iterator[None]:
    """Within it, what torch says when another process is gone is one sentence."""
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            "another process of this training has ended, or no longer answers, so this one ends "
            "too; start all again with the same checkpoint, and they go on from there"
        ) from error


class _Total(torch.autograd.Function):
    """The sum of everybody's numbers; everybody's gradient goes to everybody."""

    @staticmethod
    def forward(ctx: Any, numbers: Tensor, summed: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.summed = summed
        return summed(numbers.clone())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.summed(grad.clone()), None


def _normed(norm: Any, ranks: Ranks, x: Tensor) -> Tensor:
    """What ``norm`` makes of ``x``, (n, features, ...), with the statistics of all processes."""
    if not norm.training:
        return type(norm).forward(norm, x)
    axes = [0, *range(2, x.ndim)]
    wide = (1, -1, *(1 for _ in axes[1:]))
    count = ranks.summed(x.new_tensor([x.numel() / x.shape[1]], dtype=torch.float64)).item()
    mean = _Total.apply(x.sum(axes), ranks.summed) / count
    centred = x - mean.view(wide)
    var = _Total.apply(centred.square().sum(axes), ranks.summed) / count
    if norm.track_running_stats:
        with torch.no_grad():
            norm.num_batches_tracked += 1
            weight = norm.momentum or 1.0 / int(norm.num_batches_tracked)
            norm.running_mean.lerp_(mean.to(norm.running_mean), weight)
            norm.running_var.lerp_((var * count / (count - 1)).to(norm.running_var), weight)
    out = centred * (var + norm.eps).rsqrt().view(wide)
    return out * norm.weight.view(wide) + norm.bias.view(wide) if norm.affine else out
