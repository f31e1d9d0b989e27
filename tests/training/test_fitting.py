import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from trainings import LOSS, MECH, REPORTS, fit, model, weights

import privgan as pg
from privgan.artifact import contrast, data, metrics
from privgan.sinkhorn import SquaredL2


def test_training_moves_the_circle_out_of_the_blur():
    generator = pg.MLP(2, 2, hidden=(64, 64))
    reports = MECH.privatize(data.circle(4000, seed=0), seed=1)
    history = pg.fit(generator, reports, LOSS, steps=300, batch_size=256, lr=3e-3)
    fresh = data.circle(500, seed=2)
    assert metrics.w2(generator.sample(500, seed=0), fresh) < 0.75 * metrics.w2(
        reports[:500], fresh
    )
    assert history.nll[-1][1] < history.nll[0][1]


def test_linear_generator_reaches_the_closed_form():
    """Gaussian data: the minimiser's covariance is Cov(Y) - reg/2, here Cov(X)."""
    g = torch.Generator().manual_seed(0)
    raw = torch.randn((20_000, 2), generator=g) * torch.tensor([1.0, 0.5])
    mech = pg.Gaussian(0.6)
    generator = pg.Linear(2, 2)
    loss = pg.EntropicLoss.matched(mech, tol=1e-3)
    pg.fit(generator, mech.privatize(raw, seed=1), loss, steps=400, batch_size=500, lr=2e-2)
    w = generator.net.weight.detach()
    found = torch.linalg.eigvalsh(w @ w.T)
    assert torch.allclose(found, torch.tensor([0.25, 1.0]), atol=0.06)


def test_history_has_an_entry_a_step_and_goes_to_json():
    history = fit(model())
    assert len(history) == len(history.error) == len(history.n_iter) == len(history.converged) == 12
    assert all(history.converged)
    assert max(history.error) <= LOSS.tol
    assert history.nll[-1][0] == 12
    assert [step for step, _ in history.information] == [step for step, _ in history.nll]
    assert all(0 < nats < math.log(64) for _, nats in history.information)
    assert not fit(model(), loss=contrast.SinkhornDivergence.matched(MECH)).information
    assert history.seconds > 0
    assert json.loads(json.dumps(asdict(history)))["device"] == history.device


def test_the_seed_decides_everything():
    same, again, other = model(), model(), model()
    first, second = fit(same), fit(again)
    fit(other, seed=1)
    assert first.loss == second.loss
    assert torch.equal(weights(same), weights(again))
    assert not torch.equal(weights(same), weights(other))


def test_global_random_state_is_untouched():
    before = torch.random.get_rng_state()
    fit(model())
    assert torch.equal(before, torch.random.get_rng_state())


def test_numpy_reports_and_double_weights():
    generator = model().double()
    history = fit(generator, REPORTS.double().numpy())
    assert generator.sample(3, seed=0).dtype == torch.float64
    assert all(np.isfinite(history.loss))


def test_each_epoch_visits_every_report_once():
    rows = []
    loss = pg.EntropicLoss(SquaredL2(), 1.0)
    original = loss.solve
    loss.solve = lambda x, y, a: rows.append(y) or original(x, y, a)
    fit(model(), REPORTS[:100], loss, steps=4, batch_size=25)
    seen = torch.cat(rows)
    assert torch.equal(seen.sort(0).values, REPORTS[:100].sort(0).values)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_report_is_named_before_the_first_step(bad):
    reports, generator = REPORTS.clone(), model()
    reports[17, 1] = bad
    before = weights(generator)
    with pytest.raises(ValueError, match=r"reports has 1 non-finite row, .* at row 17 \(col"):
        fit(generator, reports)
    assert torch.equal(before, weights(generator))


@pytest.mark.parametrize(
    ("error", "message", "change"),
    [
        (ValueError, r"batch_size is 600 but only 570 reports", {"batch_size": 600}),
        (ValueError, "reports is empty", {"reports": REPORTS[:0]}),
        (ValueError, r"reports has shape \(600,\)", {"reports": REPORTS[:, 0]}),
        (TypeError, "reports has dtype int64", {"reports": REPORTS.long()}),
        (TypeError, "reports must be a numeric", {"reports": "circle.csv"}),
        (ValueError, "3 columns and reports has 2", {"generator": pg.MLP(2, 3)}),
        (ValueError, "steps must be at least 1", {"steps": 0}),
        (TypeError, "batch_size must be an integer", {"batch_size": 64.0}),
        (ValueError, "lr must be positive", {"lr": -1e-3}),
        (ValueError, "holdout is a fraction", {"holdout": 1.0}),
        (TypeError, "holdout must be a number", {"holdout": "0.1"}),
        (TypeError, "seed must be an integer", {"seed": "0"}),
        (TypeError, "loss must be a Loss, got a Gaussian", {"loss": MECH}),
        (TypeError, "generator must be a Generator", {"generator": torch.nn.Linear(2, 2)}),
        (TypeError, "lr must be a number", {"lr": "1e-3"}),
    ],
)
def test_bad_input_is_named(error, message, change):
    with pytest.raises(error, match=message):
        fit(**({"generator": model()} | change))


def test_reports_that_overflow_the_generators_precision_are_named():
    reports = REPORTS.double()
    reports[7, 1] = 1e39
    with pytest.raises(ValueError, match=r"reports has 1 non-finite row, .* at row 7 \(column 1\)"):
        fit(model(), reports)


def test_an_error_of_the_network_is_not_called_divergence():
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        fit(pg.MLP(2, 2, hidden=(4,), norm=True), batch_size=1)


def test_a_few_reports_still_leave_one_to_follow():
    assert len(fit(model(), REPORTS[:6], batch_size=5).nll) > 0


def test_generated_points_may_outnumber_reports(tmp_path):
    sizes = []
    loss = pg.EntropicLoss.matched(MECH)
    original = loss.solve
    loss.solve = lambda x, y, a: sizes.append((len(x), len(y))) or original(x, y, a)
    fit(model(), loss=loss, generated=96, steps=2, checkpoint=tmp_path / "run.pt")
    assert sizes == [(96, 64)] * 2
    with pytest.raises(ValueError, match="belongs to another training: its generated"):
        fit(model(), loss=loss, generated=97, steps=2, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="generated must be at least 1"):
        fit(model(), generated=0)


def test_half_precision_is_refused_by_name():
    with pytest.raises(TypeError, match="float16; convert it to float32 or float64"):
        fit(model().half())


def test_a_vanishing_reg_is_refused_by_name():
    with pytest.raises(ValueError, match="reg is too small"):
        fit(model(), loss=pg.EntropicLoss(SquaredL2(), 1e-40))


def test_not_converging_warns_once_and_is_recorded():
    loss = pg.EntropicLoss(SquaredL2(), 1e-3, tol=1e-6, max_iter=1)
    with pytest.warns(RuntimeWarning, match="step 0: Sinkhorn stopped at marginal error") as caught:
        history = fit(model(), loss=loss)
    assert len(caught) == 1
    assert not any(history.converged)


def test_divergence_names_the_step_and_keeps_finite_weights():
    generator = model()
    with pytest.raises(FloatingPointError, match="training diverged at step"):
        fit(generator, lr=1e30)


def test_progress_is_silent_off_a_terminal(capfd):
    fit(model(), progress=True)
    assert capfd.readouterr().err == ""


@pytest.mark.gpu
def test_auto_takes_the_cuda_device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = model()
    assert fit(generator).device.startswith("cuda")
    assert generator.sample(3).is_cuda


def test_reports_that_know_their_mechanism_need_no_loss(tmp_path):
    pg.simulate(data.circle(600, seed=0), MECH, seed=1).save(tmp_path / "reports.npz")
    told, found = model(), model()
    expected = fit(told)
    history = fit(found, pg.Reports.load(tmp_path / "reports.npz"), loss=None)
    assert history.loss == expected.loss
    assert history.nll == expected.nll
    assert torch.equal(weights(told), weights(found))


def test_plain_reports_need_a_loss():
    with pytest.raises(TypeError, match="loss is missing: plain reports do not say"):
        pg.fit(model(), REPORTS)


def test_another_loss_on_known_reports_is_judged_by_their_mechanism():
    reports = pg.simulate(data.circle(600, seed=0), MECH, seed=1)
    history = fit(model(), reports, contrast.ExactLoss(SquaredL2()), steps=2)
    assert len(history.nll) > 0


def test_the_average_follows_and_is_what_is_kept(tmp_path):
    plain, averaged, resumed = model(), model(), model()
    fit(plain)
    history = fit(averaged, average=0.9, checkpoint=tmp_path / "run.pt")
    assert history.loss == fit(model()).loss  # it follows; it does not steer
    assert not torch.equal(weights(plain), weights(averaged))
    fit(resumed, average=0.9, checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(resumed), weights(averaged))


def test_annealing_starts_soft_and_ends_matched(monkeypatch):
    seen = []
    heated = pg.EntropicLoss.heated
    monkeypatch.setattr(
        pg.EntropicLoss, "heated", lambda self, times: seen.append(times) or heated(self, times)
    )
    fit(model(), anneal=16.0)
    assert seen[:2] == [16.0, 16.0]  # asked whether it can, then the first step
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == 1 + 6  # the second half of twelve steps is matched
    with pytest.raises(TypeError, match="leave anneal at 1"):
        fit(model(), loss=contrast.ExactLoss(SquaredL2()), anneal=2.0)


def test_the_best_checked_weights_can_be_kept(tmp_path):
    best, last, resumed = model(), model(), model()
    history = fit(best, lr=1.0, keep_best=True, checkpoint=tmp_path / "run.pt")
    fit(last, lr=1.0)
    step, _ = min(history.nll, key=lambda check: check[1])
    assert step < 12  # otherwise this test says nothing
    assert not torch.equal(weights(best), weights(last))
    fit(resumed, lr=1.0, keep_best=True, checkpoint=tmp_path / "run.pt")
    assert torch.equal(weights(resumed), weights(best))
    with pytest.raises(ValueError, match="keep_best needs held-out reports"):
        fit(model(), keep_best=True, holdout=0.0)


def test_snapshots_are_the_same_latents_as_training_moves_them(tmp_path):
    filmed, plain = model(), model()
    history = fit(filmed, snapshots=(1, 12), checkpoint=tmp_path / "a.pt")
    fit(plain)
    assert torch.equal(weights(filmed), weights(plain))
    assert [step for step, _ in history.snapshots] == [1, 12]
    first, last = (torch.tensor(points) for _, points in history.snapshots)
    assert torch.equal(last, filmed.sample(len(last), seed=0))
    assert not torch.equal(first, last)
    again = fit(model(), snapshots=(1, 12), checkpoint=tmp_path / "a.pt")
    assert [points for _, points in again.snapshots] == [points for _, points in history.snapshots]
