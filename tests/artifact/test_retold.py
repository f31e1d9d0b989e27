"""New words around code that ran: only words change, and only where all code is what ran."""

import pytest
from nbformat import validate
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from privgan.artifact.retold import retold

PARAMETERS = {"tags": ["parameters"]}
INJECTED = new_code_cell("a = 2", metadata={"tags": ["injected-parameters"]})


def notebook(*texts_and_code):
    """Words are text, ``code`` is code; the first code holds the parameters."""
    cells = [
        new_code_cell(text.strip("`")) if text[0] == "`" else new_markdown_cell(text)
        for text in texts_and_code
    ]
    next(c for c in cells if c.cell_type == "code").metadata = PARAMETERS
    return new_notebook(cells=cells)


def ran(*texts_and_code):
    """As papermill leaves it: every cell of code numbered and with an output."""
    made = notebook(*texts_and_code)
    at = next(k for k, cell in enumerate(made.cells) if cell.cell_type == "code")
    made.cells.insert(at + 1, INJECTED.copy())
    for k, cell in enumerate(c for c in made.cells if c.cell_type == "code"):
        cell.execution_count = k + 1
        cell.outputs = [new_output("stream", text=f"shown {k}")]
    return made


def test_only_words_change():
    executed = ran("old", "`a = 1`", "`print(a)`", "gone")
    executed.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    made = retold(notebook("`a = 1`", "between", "`print(a)`", "new", "newer"), executed)
    validate(made)
    assert [c.source for c in made.cells] == [
        "a = 1",
        "a = 2",
        "between",
        "print(a)",
        "new",
        "newer",
    ]
    code = [c for c in made.cells if c.cell_type == "code"]
    assert code == [c for c in executed.cells if c.cell_type == "code"]
    assert made.metadata == executed.metadata
    assert retold(notebook("`a = 1`", "`print(a)`"), made).cells == code


@pytest.mark.parametrize(
    ("code", "cell"),
    [
        (["`a = 3`", "`print(a)`"], 0),
        (["`a = 1`", "`print(a) `"], 1),
        (["`a = 1`"], 1),
        (["`a = 1`", "`print(a)`", "`more`"], 2),
        (["`a = 1`", "`a = 2`", "`print(a)`"], 1),
    ],
)
def test_other_code_is_refused(code, cell):
    with pytest.raises(ValueError, match=f"code cell {cell} is not the one that ran; make"):
        retold(notebook("text", *code), ran("text", "`a = 1`", "`print(a)`"))
