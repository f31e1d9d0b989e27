"""Weights of points, checked."""

import functools
from typing import Any

import torch
from torch import Tensor

from privgan import checks


def weights(name: str, given: Any, size: int, like: Tensor) -> Tensor:
    """``given`` as weights (size,) in the precision of the points; uniform if None."""
    if given is None:
        return uniform(size, like)
    given = checks.as_float_tensor(name, given)
    if given.shape != (size,):
        raise ValueError(f"{name} has shape {tuple(given.shape)}; expected ({size},)")
    checks.check_same(name, given, "the points", like)
    checks.check_finite(name, given)
    if (given < 0).any():
        first = int((given < 0).nonzero()[0])
        raise ValueError(f"{name}[{first}] is negative; weights must be >= 0")
    total = given.detach().double().sum().item()
    if abs(total - 1.0) > 1e-4:
        raise ValueError(f"{name} sums to {total:.6g}, not 1; pass {name} / {name}.sum()")
    return given


def uniform(size: int, like: Tensor) -> Tensor:
    """Weights that are all the same, (size,); each time the same tensor."""
    return _uniform(size, like.dtype, like.device)


def is_uniform(given: Tensor) -> bool:
    """Whether these are what `uniform` returns, without a look at them."""
    return given is _uniform(len(given), given.dtype, given.device)


def double(given: Tensor) -> Tensor:
    """In float64, with sum 1; of uniform weights the same tensor each time."""
    if is_uniform(given):
        return _uniform(len(given), torch.float64, given.device)
    precise = given.detach().double()
    return precise / precise.sum()


@functools.lru_cache(64)
def _uniform(size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # a tensor made within it is no use to autograd
        return torch.full((size,), 1.0 / size, dtype=dtype, device=device)
