"""Files of reports as they should be, and others."""

import json

import numpy as np
import pytest

import privgan as pg
from privgan.artifact import data

MECH = pg.Laplace(0.3, bounds=pg.Box(-2.0, 2.0, dim=2))
RAW = data.circle(400, seed=0)


def simulated(**settings):
    return pg.simulate(RAW, MECH, seed=1, **settings)


def planted(path, values=None, **change):
    """A file as `Reports.save` writes it, with other metadata or values; ``...`` drops a key."""
    reports = simulated()
    said = {k: v for k, v in (reports.metadata | change).items() if v is not ...}
    write(path, json.dumps(said), reports.values.numpy() if values is None else values)


def write(path, text, values=None):
    values = np.zeros((4, 2)) if values is None else values
    np.savez(path, values=values, metadata=np.array(text))


def refused(path, message=""):
    """The one ValueError that loading must end in; it names the file."""
    with pytest.raises(ValueError, match=f"{path.name} (cannot be|holds no).*{message}") as caught:
        pg.Reports.load(path)
    assert len(str(caught.value)) < 600
