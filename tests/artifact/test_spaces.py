import numpy as np
import pytest
import torch

import privgan as pg
from privgan.artifact import oracles, spaces
from privgan.artifact.data import normal
from privgan.sinkhorn import solve_samples


def test_a_normal_laws_numbers_are_the_closed_forms():
    """A large normal sample, taken for the law itself, against the normal law's own formulas."""
    found = spaces.channelled(normal(8000, std=(1.0, 1.0), seed=0), 1.0)
    assert found.nats == pytest.approx(oracles.gaussian_information(1.0, 1.0, 2), abs=0.06)
    assert found.scatter == pytest.approx(oracles.matched_fluctuation(1.0, 2), rel=0.1)
    truth = oracles.gaussian_entropic_value(np.eye(2), 2 * np.eye(2), 2.0)
    assert found.value == pytest.approx(truth, abs=0.15)
    exact = oracles.matched_value(oracles.gaussian_information(1.0, 1.0, 2), 1.0, 2)
    assert exact == pytest.approx(truth, rel=1e-12)


def test_value_and_scatter_of_a_finite_law_are_those_of_repeated_solves():
    """No bulk of rows, no normality: five places, and many batches."""
    rows = torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 1.0], [0.0, 2.0], [2.0, 2.0]])
    found, mech, n = spaces.channelled(rows, 1.5), pg.Gaussian(1.5), 100
    values = []
    for seed in range(60):
        x, own = (spaces.resample(rows, n, seed=2 * seed + k) for k in (0, 1))
        y = mech.privatize(own, seed=seed)
        values.append(solve_samples(x, y, mech.cost, mech.reg, tol=1e-3).value.item())
    assert np.mean(values) == pytest.approx(found.value, rel=0.04)
    assert np.std(values) * n**0.5 == pytest.approx(found.scatter, rel=0.35)


def test_the_noise_is_found_that_leaves_so_many_nats():
    rows = normal(2000, std=(2.0, 1.0, 0.5), seed=1)
    assert spaces.at_nats(rows, 0.8).nats == pytest.approx(0.8, abs=0.02)


def test_principal_components_keep_the_most_variance_in_their_order():
    rows = normal(4000, std=(0.1, 3.0, 1.0), seed=2)
    kept = spaces.principal(rows, 2)
    assert kept.std(0).sort(descending=True).values.tolist() == pytest.approx([3.0, 1.0], rel=0.05)
    assert abs(torch.corrcoef(kept.T)[0, 1]) < 1e-3


def test_bundled_images_are_a_space():
    rows = spaces.SPACES["digits"]()
    assert rows.shape == (1500, 64)
    assert torch.equal(rows, spaces.SPACES["digits"]())
