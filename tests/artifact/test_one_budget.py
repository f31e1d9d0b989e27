"""A release at one budget of scikit-learn's digits: what it spends, and what it teaches."""

import pytest
import torch

import privgan as pg
from privgan.artifact import data
from privgan.artifact.one_budget import LENGTH, RULES, OneBudget, lessons, read, two_errors

PLAN = OneBudget(side=8, epsilon=40.0, label=5.0, keep=4)


def test_image_and_label_together_spend_the_budget():
    assert PLAN.mechanism.epsilon() == pytest.approx(40.0)
    assert PLAN.mechanism.epsilon() <= 40.0 * (1 + 1e-12)


def test_an_image_is_shown_by_its_direction_alone():
    images = data.digits("test").pixels
    first, second = PLAN.shown(images), PLAN.shown(0.3 * images + 0.2)  # brighter, and greyer
    assert torch.allclose(first, second, atol=1e-4)
    assert torch.allclose(first.norm(dim=1), torch.full((len(images),), LENGTH), atol=1e-3)


def test_gaussian_reports_stand_for_those_that_are_sent():
    raw = torch.cat([data.digits("train").pixels, torch.eye(10)[data.digits("train").labels]], 1)
    taken = PLAN.unbiased(PLAN.mechanism.privatize(raw, seed=0))
    image, answers = PLAN.gaussian.blocks[0][1], taken[:, 15:]
    away = taken[:, :15] - image.forward(raw[:, :64])
    assert away.square().mean().sqrt().item() == pytest.approx(image.mechanism.sigma, rel=0.05)
    assert torch.equal(answers.sum(1), torch.ones(len(raw)))


def test_lessons_are_directions_with_noise_on_the_reported_frequencies_alone():
    raw = torch.cat([data.digits("train").pixels, torch.eye(10)[data.digits("train").labels]], 1)
    model = pg.closed_form(PLAN.mechanism.privatize(raw, seed=0), PLAN.mechanism)
    clean, labels = lessons(model, PLAN, 400, 0.0, 0)
    noisy, same = lessons(model, PLAN, 400, 0.5, 0)
    assert torch.equal(labels, same)
    assert torch.allclose(clean.norm(dim=1), torch.full((400,), LENGTH), atol=1e-3)
    moved = (noisy - clean) @ PLAN.lowest.T
    assert moved.std().item() == pytest.approx(0.5, rel=0.03)
    assert torch.allclose(moved @ PLAN.lowest, noisy - clean, atol=1e-4)


SETTINGS = {"n_reports": 1500, "n_generated": 6000}


def test_a_large_budget_teaches_every_reader():
    model, found = read("digits", PLAN, {}, 0.3, 0, **SETTINGS)
    assert isinstance(model, pg.Labelled)
    assert found.keys() == {*RULES, "reports", "student"}
    assert min(found.values()) > 0.7
    again = read("digits", PLAN, {}, 0.3, 0, **SETTINGS)[1]
    assert again == found


def test_a_network_learns_what_its_student_knows(tmp_path):
    training = {"latents": 8, "warm_up": 0.5, "anneal": 4.0, "steps": 300, "batch_size": 250}
    settings = {**SETTINGS, "checkpoint_dir": str(tmp_path)}
    training |= {"lr": 2e-3, "average": 0.99}
    _, found = read("digits", PLAN, training, 0.3, 0, **settings)
    assert found["student"] > 0.7
    assert [path.name for path in tmp_path.iterdir()] == ["digits 40 0.ckpt"]
    again = read("digits", PLAN, training, 0.3, 0, **SETTINGS)[1]
    assert again == found


def test_two_errors_by_hand():
    assert two_errors(torch.tensor([[1.0, 3.0]])).tolist() == pytest.approx([2.0])
    assert two_errors(torch.tensor([[1.0]])).isnan().all()
