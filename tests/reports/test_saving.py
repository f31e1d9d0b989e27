import re

import pytest
import torch

import privgan as pg


def test_reports_that_cannot_be_written_name_their_path(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "reports.npz"
    reports = pg.simulate(torch.zeros(2, 1), pg.Gaussian(1.0), seed=0)
    with pytest.raises(OSError, match=rf"cannot write reports {re.escape(str(path))}: "):
        reports.save(path)
