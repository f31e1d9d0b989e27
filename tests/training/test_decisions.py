"""Each decision of the trainer and of what watches it, held to what it says."""

import json
import warnings

import pytest
import torch
from trainings import LOSS, MECH, REPORTS, fit, model, weights

import privgan as pg
from privgan.streams import stream
from privgan.training import watchers
from privgan.training.trainer import Trainer, Training

CPU = torch.device("cpu")


def trainer(reports=REPORTS, generator=None, loss=LOSS, **settings):
    settings = {"steps": 12, "batch_size": 64} | settings
    return Trainer(Training(loss, **settings), generator or model(), reports, CPU)


def test_reports_held_out_are_never_trained_on():
    at = trainer(holdout=0.25)
    assert len(at.heldout) == 150
    known = at.batches.at(torch.arange(len(at.batches.picked)))
    rows = torch.cat([known + at.origin, at.heldout])
    assert torch.allclose(rows.sort(0).values, REPORTS.sort(0).values, atol=1e-6)
    assert len(trainer(holdout=0.0).heldout) == 0
    assert not torch.equal(at.heldout, trainer(holdout=0.25, seed=1).heldout)


def test_the_learning_rate_falls_linearly_to_zero():
    at, rates = trainer(steps=4, lr=0.4), []
    for _ in range(4):
        at.step()
        rates.append(at.state.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1])


def test_the_average_is_the_mean_that_its_docstring_says():
    at, path = trainer(average=0.9, lr=0.1), []
    path.append(weights(at.generator))
    for _ in range(12):
        at.step()
        path.append(weights(at.generator))
    expected = path[0]
    for n, now in enumerate(path[1:], 1):
        decay = min(0.9, n / (n + 10))
        expected = decay * expected + (1 - decay) * now
    assert torch.allclose(weights(at.state.average), expected, atol=1e-6)
    assert not torch.allclose(expected, path[-1], atol=1e-4)
    at.finish()
    assert torch.allclose(weights(at.generator), expected, atol=1e-6)


def test_annealing_falls_geometrically_over_the_first_half():
    at = trainer(steps=8, anneal=16.0)
    softer = []
    for _ in range(8):
        softer.append(at._loss().reg / LOSS.reg)
        at.step()
    assert softer == pytest.approx([16.0, 8.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0])


def test_what_is_looked_at_is_the_average(monkeypatch):
    seen = []
    monkeypatch.setattr("privgan.training.losses.report_nll", lambda x, *_: seen.append(x) or 0.0)
    generator = model()
    fit(generator, steps=1, average=0.9, lr=0.1, snapshots=(1,))
    assert torch.equal(seen[0], generator.draw_records(1024, stream(0, "evaluation")))


def test_the_average_has_the_batch_statistics_too():
    generator = pg.MLP(2, 2, hidden=(8,), norm=True)
    at = trainer(generator=generator, average=0.5)
    at.step()
    mean = at.state.average.state_dict()
    assert mean["net.1.num_batches_tracked"] == 1
    assert mean["net.1.running_mean"].any()


def test_the_gradient_is_in_the_units_of_the_loss():
    """Adam adds 1e-8 to the size of a gradient, so a tiny unit would lose it there."""
    moves = []
    for scale in (1.0, 1e-12):
        loss = pg.EntropicLoss.matched(pg.Laplace(0.3 * scale))
        generator = model().double()
        at = trainer(scale * REPORTS.double(), generator, loss, lr=1e-3)
        before = weights(generator)
        at.step()
        moves.append(weights(generator) - before)
    assert torch.allclose(moves[0], moves[1], rtol=1e-3, atol=1e-8)


def test_annealing_is_for_the_first_leg_alone(tmp_path, monkeypatch):
    seen, heated = [], pg.EntropicLoss.heated
    fit(model(), anneal=4.0, checkpoint=tmp_path / "run")
    monkeypatch.setattr(
        pg.EntropicLoss, "heated", lambda self, times: seen.append(times) or heated(self, times)
    )
    fit(model(), anneal=4.0, steps=20, checkpoint=tmp_path / "run")
    assert seen == [4.0]  # asked whether it can, and never used


def test_double_reports_are_trained_on_in_single_where_rounding_does_not_matter():
    assert trainer(REPORTS.double()).batches.reports.dtype == torch.float32
    far = 1e9 + REPORTS.double()  # whose shift goes first
    at = trainer(far)
    assert at.batches.reports.dtype == torch.float32
    assert torch.allclose(at.batches.reports.double() + at.origin, far, atol=1e-5)
    assert trainer(REPORTS, model().double()).batches.reports.dtype == torch.float64


def test_reports_are_moved_to_zero_only_where_no_cost_sees_it():
    assert trainer(5 + REPORTS).origin.tolist() == pytest.approx([5.0, 5.0], abs=0.1)
    channel = pg.RandomizedResponse.calibrate(epsilon=1.0, k=2)
    reports = channel.privatize(pg.mechanisms.one_hot([0, 1] * 300, 2), seed=0)
    assert not trainer(
        reports, pg.Atoms(torch.eye(2)), pg.EntropicLoss.matched(channel)
    ).origin.any()


def test_the_likelihood_is_followed_twenty_times_and_at_the_end(monkeypatch):
    shapes = []

    def nll(x, y, mechanism):
        shapes.append((len(x), len(y)))
        return float(len(shapes))

    monkeypatch.setattr("privgan.training.losses.report_nll", nll)
    many = MECH.privatize(torch.zeros(4000, 2), seed=0)
    history = fit(model(), many, steps=43, holdout=0.5)
    assert [step for step, _ in history.nll] == [*range(2, 43, 2), 43]
    assert set(shapes) == {(1024, 1024)}
    fit(model(), many, steps=1, holdout=0.1)
    assert shapes[-1] == (1024, 400)


def test_what_is_looked_at_are_the_same_latents_each_time(monkeypatch):
    drawn = []
    monkeypatch.setattr("privgan.training.losses.report_nll", lambda x, *_: drawn.append(x) or 0.0)
    fit(model(), lr=1e-30, steps=2)
    assert torch.allclose(*drawn)


def test_the_best_is_of_the_average_where_there_is_one(monkeypatch):
    values = iter([3.0, 1.0, 2.0])
    monkeypatch.setattr("privgan.training.losses.report_nll", lambda *_: next(values))
    kept = []
    monkeypatch.setattr(
        watchers.Snapshots,
        "__call__",
        lambda self, at, _: kept.append(weights(at.state.judged)),
    )
    generator = model()
    fit(generator, steps=3, average=0.5, keep_best=True)
    assert torch.equal(weights(generator), kept[1])


def test_a_checkpoint_is_saved_now_and_then_and_at_the_end(tmp_path, monkeypatch):
    now, saved = [0.0], []
    monkeypatch.setattr(watchers.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(
        "privgan.training.state.State.save", lambda self, *_: saved.append(self.step)
    )
    step = Trainer.step
    monkeypatch.setattr(
        Trainer, "step", lambda self: now.__setitem__(0, now[0] + 4.0) or step(self)
    )
    fit(model(), steps=9, checkpoint=tmp_path / "run")
    assert saved == [4, 8, 9]  # more than 15 seconds after the last


def test_seconds_add_up_over_resumed_runs(tmp_path):
    first = fit(model(), steps=6, checkpoint=tmp_path / "run").seconds
    assert fit(model(), steps=7, checkpoint=tmp_path / "run").seconds > first


def test_not_converging_is_warned_of_once_and_where_fit_was_called(tmp_path):
    loss = pg.EntropicLoss(LOSS.cost, 1e-3, tol=1e-6, max_iter=1)
    with pytest.warns(RuntimeWarning, match="step 0: Sinkhorn stopped") as caught:
        pg.fit(model(), REPORTS, loss, steps=2, batch_size=64, checkpoint=tmp_path / "run")
    assert [w.filename for w in caught] == [__file__]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pg.fit(model(), REPORTS, loss, steps=4, batch_size=64, checkpoint=tmp_path / "run")


def test_identity_is_plain_and_holds_every_setting():
    training = Training(LOSS, steps=5, snapshots=(1,))
    known = json.loads(json.dumps(training.identity()))
    assert known.keys() == set(vars(training))
    assert known["generated"] == 250
    assert known["snapshots"] == [1]
