"""Which reports a mechanism can have made: a file's values must be among them."""

import math

import torch
from torch import Tensor

from privgan.mechanisms import (
    Blocks,
    LinearMap,
    LocalHashing,
    Mechanism,
    Piecewise,
    Product,
    RandomizedResponse,
    Sampled,
    SquareWave,
    SubsetSelection,
    UnaryEncoding,
    Window,
)
from privgan.reports.rows import Rows


def check_possible(mechanism: Mechanism, rows: Rows) -> None:
    """Raise ValueError unless ``mechanism`` can have made every one of ``rows`` (m, d')."""
    d, name = rows.shape[1], rows.name
    expected = d if mechanism.dim is None else mechanism.report_dim(mechanism.dim)
    if d != expected:
        raise ValueError(f"{name} has {d} columns, but {mechanism!r} reports {expected}")
    count, row = 0, 0
    for first, part in rows.parts():
        impossible = _impossible(mechanism, part)
        if (more := int(impossible.sum())) and not count:
            row = first + int(impossible.nonzero()[0])
        count += more
    if count:
        raise _fault(mechanism, name, count, row)


def check_taken(mechanism: Mechanism, name: str, taken: Tensor, numbers: Tensor) -> None:
    """The same for rows ``taken`` (k, d') from others, by their numbers (k,) there."""
    impossible = _impossible(mechanism, taken)
    if impossible.any():
        row = int(numbers[impossible.nonzero()[0, 0]])
        raise _fault(mechanism, name, int(impossible.sum()), row)


def _fault(mechanism: Mechanism, name: str, count: int, row: int) -> ValueError:
    return ValueError(
        f"{name} has {count} row{'' if count == 1 else 's'} that {mechanism!r} cannot have "
        f"reported, the first at row {row}"
    )


def _impossible(mechanism: Mechanism, y: Tensor) -> Tensor:
    """Which rows of ``y`` no record gives, (m,). A subclass may report what its parent does not."""
    kind = type(mechanism)
    if kind in (RandomizedResponse, UnaryEncoding, LocalHashing):
        possible = ((y == 0) | (y == 1)).all(1)
        return ~(possible & (y.sum(1) == 1)) if kind is RandomizedResponse else ~possible
    if isinstance(mechanism, SubsetSelection | Window):
        possible = ((y == 0) | (y == 1)).all(1) & (y.sum(1) == mechanism.size)
        if isinstance(mechanism, Window):  # one run: a single place where it begins
            possible &= ((y == 1) & (y.roll(1, 1) == 0)).sum(1) == 1
        return ~possible
    if kind in (Piecewise, SquareWave):
        height = torch.as_tensor(mechanism._log_normaliser(y))
        return height == -math.inf
    if isinstance(mechanism, LinearMap):
        return _impossible(mechanism.mechanism, y)
    if isinstance(mechanism, Product):
        parts = zip(mechanism.reports, mechanism.blocks, strict=True)
        return torch.stack([_impossible(m, y[:, s]) for s, (_, m) in parts]).any(0)
    if isinstance(mechanism, Sampled):
        marks = y[:, [s.stop - 1 for s in mechanism.reports]]
        impossible = ~((marks == 0) | (marks == 1)).all(1) | (marks.sum(1) != mechanism.choose)
        for s, (_, m) in zip(mechanism.reports, mechanism.blocks, strict=True):
            own, there = y[:, s.start : s.stop - 1], y[:, s.stop - 1] == 1
            impossible |= torch.where(there, _impossible(m, own), (own != 0).any(1))
        return impossible
    if isinstance(mechanism, Blocks):
        impossible = torch.ones(len(y), dtype=torch.bool, device=y.device)  # of no block
        for rows, s, m in mechanism.split(y):
            impossible[rows] = _impossible(m, y[rows][:, s])
        return impossible
    return torch.zeros(len(y), dtype=torch.bool, device=y.device)
