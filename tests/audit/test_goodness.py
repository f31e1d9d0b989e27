"""Reports held against the density along lines, however many columns they have."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import privgan as pg
from privgan.audit import audit, goodness


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


class Undefined(pg.Laplace):
    """Its density is no number for one report in a dozen."""

    def log_density(self, x, y):
        return torch.where(y[:, 0] > 2.5, math.nan, super().log_density(x, y))


class Uncounted(pg.RandomizedResponse):
    def log_density(self, x, y):
        return torch.where(y[:, 0] == 1.0, math.nan, super().log_density(x, y))


@pytest.mark.parametrize(
    "mechanism", [Undefined(1.0, bounds=pg.Box(0.0, 1.0, dim=1)), Uncounted(3, 0.5)], ids=repr
)
def test_a_density_that_is_no_number_refutes(mechanism):
    found = audit(mechanism, 5.0, reports=1000)
    failed = {finding.check for finding in found.findings if not finding.passed}
    assert {"oscillation", "goodness of fit"} <= failed


def test_several_p_values_are_the_least_times_their_number():
    assert goodness.bonferroni([0.5, 0.25, 0.01]) == pytest.approx(0.03)
    assert goodness.bonferroni([0.5, 0.6]) == 1.0
    for p in ([math.nan, 0.5], [0.5, math.nan]):
        assert goodness.bonferroni(p) == 0.0


def test_gaussian_noise_without_a_delta_has_no_claim_to_audit():
    normal, line = pg.Gaussian(1.0, bounds=pg.Ball(1.0, dim=2)), pg.Box(0.0, 1.0, dim=1)
    both = pg.Product((slice(0, 2), normal), (slice(2, 3), pg.Laplace(1.0, bounds=line)))
    for mechanism in (normal, both):
        message = r"^Gaussian\(sigma=1.0, .* has no pure epsilon: .* give delta in \(0, 1\)"
        with pytest.raises(ValueError, match=message):
            audit(mechanism, 1.0)
        assert audit(mechanism, 20.0, 1e-3, reports=100).passed
