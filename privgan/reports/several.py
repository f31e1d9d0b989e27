"""Reports of several mechanisms as one: people who reported at different levels of noise."""

from collections.abc import Sequence

import torch

from privgan.mechanisms import Blocks
from privgan.reports.collection import Reports


def together(reports: Sequence[Reports]) -> Reports:
    """All of ``reports``, of one kind of records, as reports through their `Blocks`.

    What each record has spent is as it was, and is not stated again. Raises ValueError for records
    of different numbers of columns.
    """
    if not reports or not all(isinstance(part, Reports) for part in reports):
        kinds = sorted({type(part).__name__ for part in reports})
        raise TypeError(f"a list of reports must hold Reports, got {kinds}")
    if len(reports) == 1:
        return reports[0]
    known = [part.mechanism.dim or part.values.shape[1] for part in reports]
    if len(set(known)) > 1:
        raise ValueError(f"reports are of records of different numbers of columns: {known}")
    mechanism = Blocks(*(part.mechanism for part in reports), dim=known[0])
    # In a block's columns every other report has the block's mean, which moves no origin.
    columns = torch.cat([part.values.mean(0, dtype=torch.float64) for part in reports])
    rows = []
    for b, (part, own) in enumerate(zip(reports, mechanism.columns, strict=True)):
        block = columns.to(part.values).repeat(len(part), 1)
        block[:, own] = part.values
        rows.append(torch.cat([block, block.new_full((len(part), 1), b)], 1))
    simulation = any(part.simulation for part in reports)
    return Reports(torch.cat(rows), mechanism, simulation)
