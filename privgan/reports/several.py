"""Reports of several mechanisms as one: people who reported at different levels of noise."""

from typing import Any

import torch

from privgan import checks
from privgan.mechanisms import Blocks
from privgan.reports.collection import Reports


def together(reports: Any) -> Any:
    """A list of `Reports` as one, through their `Blocks`; whatever else as it is.

    The records must be of one kind. What each has spent is as it was, and is not stated again.
    Raises ValueError for records of different numbers of columns, TypeError for a list that holds
    other things too.
    """
    if not isinstance(reports, list | tuple) or not any(isinstance(r, Reports) for r in reports):
        return reports
    for part in reports:
        checks.instance("every one of the reports", part, Reports)
    if len(reports) == 1:
        return reports[0]
    known = [part.mechanism.dim or part.values.shape[1] for part in reports]
    if len(set(known)) > 1:
        raise ValueError(f"reports are of records of different numbers of columns: {known}")
    mechanism = Blocks(*(part.mechanism for part in reports), dim=known[0])
    # In a block's columns every other report has the block's mean, which moves no origin.
    values = [part.rows.tensor() for part in reports]
    columns = torch.cat([y.mean(0, dtype=torch.float64) for y in values])
    rows = []
    for b, (y, own) in enumerate(zip(values, mechanism.columns, strict=True)):
        block = columns.to(y).repeat(len(y), 1)
        block[:, own] = y
        rows.append(torch.cat([block, block.new_full((len(y), 1), b)], 1))
    simulation = any(part.simulation for part in reports)
    return Reports(torch.cat(rows), mechanism, simulation)
