"""What each step draws is its own, and what a training shows while it runs."""

import pytest
import torch
from trainings import MECH, fit, model

import privgan as pg
from privgan.generators import Generator
from privgan.training import watchers


def drawn_points(monkeypatch, **settings):
    """The points of every step of a training that moves no weight."""
    batch, points = Generator.batch, []

    def recorded(self, *args, **kwargs):
        x, a = batch(self, *args, **kwargs)
        if self.training:
            points.append(x.detach().clone())
        return x, a

    with monkeypatch.context() as patch:
        patch.setattr(Generator, "batch", recorded)
        fit(model(), lr=1e-30, **settings)
    return points


@pytest.mark.parametrize("even", [True, False])
def test_every_step_draws_latents_of_its_own(monkeypatch, even):
    points = drawn_points(monkeypatch, steps=4, even=even)
    assert len(points) == 4
    apart = [not torch.isclose(a, b).any() for k, a in enumerate(points) for b in points[:k]]
    assert all(apart)
    again = drawn_points(monkeypatch, steps=4, even=even)
    assert all(map(torch.equal, points, again))
    other = drawn_points(monkeypatch, steps=4, even=even, seed=1)
    assert not torch.isclose(points[0], other[0]).any()


def test_latents_are_even_unless_they_are_to_be_drawn_apart(monkeypatch):
    by_default, even, apart = (
        drawn_points(monkeypatch, steps=1, **kind)[0]
        for kind in ({}, {"even": True}, {"even": False})
    )
    assert torch.equal(by_default, even)
    assert not torch.equal(even, apart)


class Drawing(pg.Linear):
    """A network that draws as it goes, as dropout does, and remembers what."""

    def forward(self, z):
        if self.training:
            self.drawn.append(torch.rand(()).item())
        return super().forward(z)


def test_layers_draw_anew_at_every_step():
    def draws(seed):
        generator = Drawing(2, 2)
        generator.drawn = []
        fit(generator, seed=seed, steps=5)
        return generator.drawn

    first = draws(0)
    assert len(set(first)) == 5
    assert draws(0) == first
    assert not set(draws(1)) & set(first)


class FakeBar:
    def __init__(self, **settings):
        self.settings, self.updates, self.closed, self.said = settings, 0, False, []

    def set_description(self, text):
        self.said.append(text)

    def set_postfix(self, **values):
        self.said.append(values)

    def update(self):
        self.updates += 1

    def close(self):
        self.closed = True


def test_the_bar_counts_steps_and_shows_device_and_likelihood(monkeypatch, tmp_path):
    bars = []
    monkeypatch.setattr(watchers, "tqdm", lambda **kw: bars.append(FakeBar(**kw)) or bars[-1])
    monkeypatch.setattr("privgan.training.losses.report_nll", lambda *_: 1.23456)
    settings = {"mechanism": MECH, "device": "cpu", "checkpoint": tmp_path / "run"}
    fit(model(), steps=3, **settings)
    fit(model(), steps=5, progress=False, **settings)
    first, second = bars
    assert first.settings == {"total": 3, "initial": 0, "unit": "step", "disable": None}
    assert second.settings == {"total": 5, "initial": 3, "unit": "step", "disable": True}
    assert (first.updates, second.updates) == (3, 2)
    assert first.closed
    assert second.closed
    assert first.said == ["cpu", *[{"nll": "1.2346", "refresh": False}] * 3]


def test_a_bar_is_closed_after_an_error(monkeypatch):
    bars = []
    monkeypatch.setattr(watchers, "tqdm", lambda **kw: bars.append(FakeBar(**kw)) or bars[-1])
    with pytest.raises(FloatingPointError):
        fit(model(), lr=1e18, steps=20)
    assert bars[0].closed
