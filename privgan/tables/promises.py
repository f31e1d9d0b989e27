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
    j, chances = d, torch.ones(d, d, dtype=torch.float64)
    if isinstance(mechanism, Sampled):
        j, chances = mechanism.choose, mechanism.chances()
    spent = [channel.epsilon() for _, channel in mechanism.blocks]
    lines = [
        f"A record of {d} columns spends epsilon {mechanism.epsilon():.4g} as a whole.",
        _report(d, j, chances.diagonal().tolist(), spent),
    ]
    if j == 1 and d > 1:
        lines.append("With one column a report, nothing is learned of how columns go together.")
    lines += [
        f"What {n} reports tell of each column: how many directions of its law (cells less one),",
        "and the standard error of a cell's share:",
    ]
    found = []
    reported = (n * chances).clamp_min(1.0).numpy()  # how often each column, and each pair
    for c, (name, (_, channel)) in enumerate(zip(names, mechanism.blocks, strict=True)):
        assert isinstance(channel, Categorical)
        values = np.array(identifiability(channel).singular_values[1:])
        found.append(values)
        told = int((values > 1 / math.sqrt(reported[c, c])).sum())
        error = _error(channel) / math.sqrt(reported[c, c])
        lines.append(f"  {name:<20} {told:>3} of {len(values):<3} {100 * error:5.1f} %")
    pairs = range(d if j > 1 else 0)
    if pairs:
        lines.append("and of two columns together (products of their directions):")
    for a in pairs:
        others = [b for b in pairs if b != a]
        products = [np.outer(found[a], found[b]) * math.sqrt(reported[a, b]) for b in others]
        counts = [int((product > 1.0).sum()) for product in products]
        other = names[others[counts.index(max(counts))]]
        lines.append(f"  {names[a]:<20} {min(counts)} to {max(counts)}, the most with {other}")
    return "\n".join(lines)


def _report(d: int, j: int, chances: list[float], spent: list[float]) -> str:
    about = f"about {j} of them, drawn at random" if j < d else "about all of them"
    if max(chances) - min(chances) > 1e-9:
        about += f" (each in {100 * min(chances):.2g} to {100 * max(chances):.2g}% of reports)"
    each = f"{min(spent):.4g}"
    if max(spent) - min(spent) > 1e-3 * max(spent):
        each += f" to {max(spent):.4g}"
    return f"A report is {about}, each at epsilon {each}."


def _error(channel: Categorical) -> float:
    """The standard error of a cell's share by one report, where people are spread evenly."""
    cells = torch.arange(TRIED) % channel.k
    records = torch.nn.functional.one_hot(cells, channel.k).float()
    return channel.unbiased(channel.privatize(records, seed=0)).std(0).mean().item()
