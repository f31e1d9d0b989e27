"""What a budget buys, said before any report is made: by the mechanism alone."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from privgan.audit import identifiability
from privgan.mechanisms import Product, Sampled
from privgan.mechanisms.categorical import Categorical

TRIED = 2000  # reports that a standard error is read off


def in_words(names: Sequence[str], mechanism: Product | Sampled, n: int) -> str:
    """What a person spends, and what ``n`` reports will tell of the columns called ``names``."""
    d = len(names)
    j = mechanism.choose if isinstance(mechanism, Sampled) else d
    lines = [
        f"A record of {d} columns spends epsilon {mechanism.epsilon():.4g} as a whole.",
        _report(d, j, mechanism.epsilon() / j),
    ]
    if j == 1 and d > 1:
        lines.append("With one column a report, nothing is learned of how columns go together.")
    lines += [
        f"What {n} reports tell of each column: how many directions of its law (cells less one),",
        "and the standard error of a cell's share:",
    ]
    share, pairs = j / d, j * (j - 1) / max(1, d * (d - 1))
    found = []
    for name, (_, channel) in zip(names, mechanism.blocks, strict=True):
        assert isinstance(channel, Categorical)
        values = np.array(identifiability(channel).singular_values[1:])
        found.append(values)
        told = int((values > 1 / math.sqrt(max(1.0, share * n))).sum())
        error = _error(channel) / math.sqrt(max(1.0, share * n))
        lines.append(f"  {name:<20} {told:>3} of {len(values):<3} {100 * error:5.1f} %")
    if pairs:
        lines.append("and of two columns together (products of their directions):")
    for a in range(d if pairs else 0):
        best = [(np.outer(found[a], found[b]), b) for b in range(d) if b != a]
        limit = 1 / math.sqrt(max(1.0, pairs * n))
        counts = [int((product > limit).sum()) for product, _ in best]
        other = names[best[counts.index(max(counts))][1]]
        lines.append(f"  {names[a]:<20} {min(counts)} to {max(counts)}, the most with {other}")
    return "\n".join(lines)


def _report(d: int, j: int, each: float) -> str:
    about = f"about {j} of them, drawn at random" if j < d else "about all of them"
    return f"A report is {about}, each at epsilon {each:.4g}."


def _error(channel: Categorical) -> float:
    """The standard error of a cell's share by one report, where people are spread evenly."""
    cells = torch.arange(TRIED) % channel.k
    records = torch.nn.functional.one_hot(cells, channel.k).float()
    return channel.unbiased(channel.privatize(records, seed=0)).std(0).mean().item()
