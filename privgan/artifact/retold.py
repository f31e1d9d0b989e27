"""An executed notebook whose template has other words since: new text, old outputs."""

from itertools import zip_longest
from typing import Any

from nbformat import NotebookNode

INJECTED = "injected-parameters"  # papermill's tag for the cell that it adds


def tagged(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def retold(template: NotebookNode, executed: NotebookNode) -> NotebookNode:
    """``executed`` with the text of ``template``; cells of code keep what they have shown.

    Raises ValueError where a cell of code is not the one that ran, papermill's own aside.
    """
    injected = [cell for cell in executed.cells if tagged(cell, INJECTED)]
    ran = [cell for cell in _code(executed) if not tagged(cell, INJECTED)]
    for k, (new, old) in enumerate(zip_longest(_code(template), ran)):
        if not (new and old and new.source == old.source):
            raise ValueError(f"code cell {k} is not the one that ran; make the notebook again")
    shown = iter(ran)
    cells: list[Any] = []
    for cell in template.cells:
        cells.append(next(shown) if cell.cell_type == "code" else cell)
        if tagged(cell, "parameters"):
            cells += injected
    return NotebookNode(executed | {"cells": cells})


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]
