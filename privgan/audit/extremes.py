"""Records at the edge of a public domain: where two of them are told apart most easily."""

import itertools

import numpy as np
import torch
from torch import Tensor

from privgan.mechanisms import Laplace, LinearMap, Mechanism, Product, Sampled, Window
from privgan.mechanisms.bounds import Ball, Bounds, Box
from privgan.mechanisms.categorical import Categorical
from privgan.mechanisms.direction import Sphere

CORNERS = 64  # of a box, and as many records of a ball
LINE = 65  # records along a domain of one dimension


def extreme_records(mechanism: Mechanism) -> Tensor:
    """Records (n, d), float64, of the mechanism's domain; the first two as far apart as any.

    The third, if there is one, is at the centre. Raises ValueError if the domain is unknown.
    """
    if isinstance(mechanism, Product | Sampled):
        blocks = [extreme_records(part) for _, part in mechanism.blocks]
        rows = torch.arange(max(len(block) for block in blocks))
        return torch.cat([block[rows % len(block)] for block in blocks], 1)
    if isinstance(mechanism, LinearMap):  # some records with these features
        back = np.linalg.pinv(mechanism.matrix.numpy()).T
        return _of(mechanism.features, mechanism.mechanism) @ torch.as_tensor(back)
    if isinstance(mechanism, Window):  # halfway round the circle no window holds both
        cells = torch.eye(mechanism.k).double()
        half = mechanism.k // 2
        return torch.cat([cells[:1], cells[half : half + 1], cells[1:half], cells[half + 1 :]])
    if isinstance(mechanism, Categorical):
        return torch.eye(mechanism.k).double()
    if mechanism.bounds is None:
        raise ValueError(
            f"{mechanism!r} has no bounds, so any two records may be compared and no budget can "
            "hold; give it the public bounds of its records"
        )
    return _of(mechanism.bounds, mechanism)


def independent_parts(mechanism: Mechanism) -> list[tuple[Mechanism, slice, slice]]:
    """What works on columns of its own: each with its columns of a record and of a report."""
    if not isinstance(mechanism, Product):
        return [(mechanism, slice(None), slice(None))]
    pairs = zip(mechanism.blocks, mechanism.reports, strict=True)
    return [
        (leaf, _within(columns, inner), _within(reports, own))
        for (columns, part), reports in pairs
        for leaf, inner, own in independent_parts(part)
    ]


def reports_directions(mechanism: Mechanism) -> bool:
    """Whether reports are unit vectors."""
    domain = mechanism.features if isinstance(mechanism, LinearMap) else mechanism.bounds
    return isinstance(domain, Sphere)


def _within(outer: slice, inner: slice) -> slice:
    """The columns of a block that a slice of its own columns means."""
    if inner.start is None:
        return outer
    return slice(outer.start + inner.start, outer.start + inner.stop)


def _of(bounds: Bounds, mechanism: Mechanism) -> Tensor:
    if isinstance(bounds, Sphere):  # there is nothing at its centre
        return _sphere(Ball(1.0, bounds.dim), diagonal_first=False)
    if isinstance(bounds, Box):
        edge = _corners(bounds)
    elif isinstance(bounds, Ball):
        edge = _sphere(bounds, diagonal_first=isinstance(mechanism, Laplace))
    else:
        raise ValueError(
            f"the extreme records of {bounds!r} are not known; use a Box, a Ball or a Sphere"
        )
    centre = torch.tensor([bounds.center], dtype=torch.float64)
    return torch.cat([edge[:2], centre, edge[2:]])


def _corners(box: Box) -> Tensor:
    low, high = torch.tensor([box.low, box.high], dtype=torch.float64)
    if box.dim == 1:
        inner = torch.linspace(0.0, 1.0, LINE).double()[1:-1, None]
        return torch.cat([low[None], high[None], low + (high - low) * inner])
    if 2**box.dim <= CORNERS:
        signs = np.array(list(itertools.product([0, 1], repeat=box.dim)))
    else:
        signs = np.random.default_rng(box.dim).integers(0, 2, (CORNERS, box.dim))
    ends = np.stack([np.zeros(box.dim), np.ones(box.dim)])
    above = torch.as_tensor(np.unique(np.concatenate([ends, signs]), axis=0)).bool()
    inner = above.any(1) & ~above.all(1)
    corners = torch.where(above[inner], high, low)
    return torch.cat([low[None], high[None], corners])


def _sphere(ball: Ball, diagonal_first: bool) -> Tensor:
    """Records beside their antipodes. In L1 those of the diagonal are the furthest apart."""
    directions = np.random.default_rng(ball.dim).normal(size=(CORNERS // 4, ball.dim))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    axes = np.eye(ball.dim)[: CORNERS // 4]
    diagonal = np.full((1, ball.dim), ball.dim**-0.5)
    out = np.concatenate([diagonal, axes] if diagonal_first else [axes, diagonal])
    out = np.concatenate([out, directions])
    both = np.stack([out, -out], axis=1).reshape(-1, ball.dim)  # each beside its antipode
    radius = ball.radius * (1.0 - 4 * np.finfo(float).eps)  # a rounded norm must not exceed it
    return torch.as_tensor(np.array(ball.center) + radius * both)
