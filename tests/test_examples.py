"""The examples in docstrings run, with ``pg`` and ``torch`` at hand, and show what they say."""

import doctest
import importlib
from pathlib import Path

import pytest
import torch

import privgan as pg

PACKAGE = Path(pg.__file__).parent
# What a new user calls first: none of these is without an example.
SHOWN = [
    pg.MLP,
    pg.Atoms,
    pg.load,
    pg.Gaussian,
    pg.Laplace.calibrate,
    pg.RandomizedResponse.calibrate,
    pg.Product,
    pg.mechanisms.Mechanism.epsilon,
    pg.simulate,
    pg.release,
    pg.EntropicLoss.matched,
    pg.fit,
    pg.closed_form,
    pg.report_nll,
    pg.Table,
    pg.sinkhorn.solve,
    pg.audit.audit,
    pg.audit.identifiability,
]


def examples():
    for path in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in path.read_text():
            place = path.relative_to(PACKAGE.parent).with_suffix("")
            module = importlib.import_module(".".join(place.parts))
            for found in doctest.DocTestFinder().find(
                module, extraglobs={"pg": pg, "torch": torch}
            ):
                if found.examples:
                    yield found.name, found


EXAMPLES = dict(examples())


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_shows_what_it_says(name):
    said = []
    failed, tried = doctest.DocTestRunner(verbose=False).run(EXAMPLES[name], out=said.append)
    assert tried
    assert not failed, "".join(said)


def test_what_is_called_first_has_an_example():
    names = {f"{called.__module__}.{called.__qualname__}" for called in SHOWN}
    assert names <= EXAMPLES.keys(), names - EXAMPLES.keys()
