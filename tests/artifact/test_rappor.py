import math

import numpy as np
import pytest
import torch

from privgan.artifact import rappor
from privgan.sinkhorn import solve

CHANNEL = rappor.PermanentResponse(k=5, bits=4, hashes=2, epsilon=1.5)


def probabilities():
    filters, y = CHANNEL.filters(seed=0).double(), rappor.every_report(4).double()
    return filters, y, CHANNEL.log_density(filters, y).exp()


def test_probabilities_sum_to_one_and_the_budget_is_reached():
    _, _, k = probabilities()
    assert torch.allclose(k.sum(1), torch.ones(5).double(), atol=1e-12)
    ratios = (k.log()[:, None] - k.log()[None]).amax((0, 1, 2))
    assert ratios == pytest.approx(1.5)


def test_the_plan_at_the_raw_law_is_the_channel():
    """Theorem 1 for bits: no reweighting of the categories lowers the loss."""
    filters, y, k = probabilities()
    law = torch.tensor([0.1, 0.3, 0.15, 0.25, 0.2]).double()
    loss = CHANNEL.loss
    solved = solve(loss.cost.matrix(filters, y), loss.reg, law, law @ k, tol=1e-13)
    assert (solved.plan() - law[:, None] * k).abs().max() < 1e-9
    assert np.ptp(solved.f.numpy()) < 1e-7
    assert np.linalg.matrix_rank(k.numpy()) == 5


def test_reports_follow_the_probabilities():
    filters, _, k = probabilities()
    reports = CHANNEL.privatize(filters[:1].float().expand(100_000, -1), seed=1)
    assert abs(rappor.counts(reports) / 1e5 - k[0]).max() < 0.006


def test_more_categories_than_ways_are_refused():
    with pytest.raises(ValueError, match="only 6 ways; raise bits"):
        rappor.PermanentResponse(k=7, bits=4, hashes=2, epsilon=1.0)
    assert math.comb(4, 2) == 6
