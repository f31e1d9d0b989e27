import math

import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import data


def test_report_nll_of_a_point_mass_is_gaussian():
    y = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)).double()
    nll = pg.report_nll(torch.zeros(4, 2).double(), y, pg.Gaussian(0.5))
    expected = math.log(2 * math.pi * 0.25) + y.square().sum(1).mean().item() / (2 * 0.25)
    assert nll == pytest.approx(expected)


def test_report_nll_prefers_the_raw_law_to_the_law_of_the_reports(monkeypatch):
    mech, raw = pg.Laplace(0.3), data.circle(4000, seed=0)
    y = mech.privatize(raw[2000:], seed=1)
    own, blurred = raw[:2000], mech.privatize(raw[:2000], seed=2)
    assert pg.report_nll(own, y, mech) < pg.report_nll(blurred, y, mech)
    whole = pg.report_nll(own, y, mech)
    # slices that do not divide the reports
    monkeypatch.setattr("privgan.training.likelihood.PAIRS", 7000)
    assert pg.report_nll(own, y, mech) == pytest.approx(whole)


def test_report_nll_accepts_arrays_of_another_dtype():
    mech = pg.Gaussian(1.0)
    assert np.isfinite(pg.report_nll(torch.zeros(3, 2), np.zeros((4, 2)), mech))
