"""Reports held against the density along lines, however many columns they have."""

import numpy as np
import pytest
import torch
from scipy import stats

import privgan as pg
from privgan.audit import goodness


def drawn(epsilon, d, n):
    """A square wave, a record in its box's middle, and so many reports of it."""
    mechanism = pg.SquareWave(epsilon, bounds=pg.Box(0.0, 1.0, dim=d))
    x = torch.full((d,), 0.5, dtype=torch.float64)
    return mechanism, x, mechanism.privatize(x.expand(n, d).clone(), seed=0)


@pytest.mark.parametrize("epsilon", [0.01, 2.0])
def test_a_line_across_hundreds_of_columns(epsilon):
    # It leaves the box after a thousandth of a spread, where a grid over all of it has no place.
    mechanism, x, y = drawn(epsilon, 784, 80)
    blocks = y.reshape(-1, 2, 784)
    rng = np.random.default_rng(0)
    lines = torch.as_tensor(np.stack([goodness._across(rng, 784) for _ in blocks]))
    ranks = goodness._ranks(mechanism, x, blocks, lines.reshape(blocks.shape), spread=0.5)
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


def test_a_wide_sampler_of_another_law_is_refuted():
    mechanism, x, _ = drawn(0.5, 60, 1)
    _, _, y = drawn(3.0, 60, 400)
    assert goodness.line_p_value(mechanism, x, y) < 1e-4
