"""A release at one budget of scikit-learn's digits: what it spends, and what it teaches."""

import pytest
import torch

import privgan as pg
from privgan.artifact import data
from privgan.artifact.one_budget import LENGTH, RULES, OneBudget, read, two_errors

PLAN = OneBudget(side=8, epsilon=40.0, label=5.0, keep=4)


def test_image_and_label_together_spend_the_budget():
    assert PLAN.mechanism.epsilon() == pytest.approx(40.0)
    assert PLAN.mechanism.epsilon() <= 40.0 * (1 + 1e-12)


def test_an_image_is_shown_by_its_direction_alone():
    images = data.digits("test").pixels
    first, second = PLAN.shown(images), PLAN.shown(0.3 * images + 0.2)  # brighter, and greyer
    assert torch.allclose(first, second, atol=1e-4)
    assert torch.allclose(first.norm(dim=1), torch.full((len(images),), LENGTH), atol=1e-3)


def test_a_large_budget_teaches_every_reader():
    settings = {"n_reports": 1500, "n_generated": 6000, "student_noise": 0.6}
    model, found = read("digits", PLAN, 0, **settings)
    assert isinstance(model, pg.Labelled)
    assert found.keys() == {*RULES, "reports", "student"}
    assert min(found.values()) > 0.7
    again = read("digits", PLAN, 0, **settings)[1]
    assert again == found


def test_two_errors_by_hand():
    assert two_errors(torch.tensor([[1.0, 3.0]])).tolist() == pytest.approx([2.0])
    assert two_errors(torch.tensor([[1.0]])).isnan().all()
