import json
import math
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from trainings import LOSS, MECH, REPORTS, fit, model, weights

import privgan as pg
from privgan.artifact import contrast, data, metrics
from privgan.mechanisms.location import winsorised
from privgan.sinkhorn import SquaredL2
from privgan.streams import stream
from privgan.training.trainer import Trainer, Training


def test_training_moves_the_circle_out_of_the_blur():
    generator = pg.MLP(2, 2, hidden=(64, 64))
    reports = MECH.privatize(data.circle(4000, seed=0), seed=1)
    history = pg.fit(generator, reports, LOSS, steps=400, batch_size=256, lr=3e-3)
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
    w = generator.matrix.detach()
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


def watch(monkeypatch, see):
    """Call ``see(x, y)`` before every solve."""
    between = pg.EntropicLoss.between
    monkeypatch.setattr(
        pg.EntropicLoss, "between", lambda self, x, y, a: see(x, y) or between(self, x, y, a)
    )


def test_each_epoch_visits_every_report_once_and_the_next_in_another_order(monkeypatch):
    rows = []
    watch(monkeypatch, lambda x, y: rows.append(y))
    fit(model(), REPORTS[:100], pg.EntropicLoss(SquaredL2(), 1.0), steps=8, batch_size=25)
    first, second = torch.cat(rows[:4]), torch.cat(rows[4:])
    assert torch.equal(first.sort(0).values, second.sort(0).values)
    assert not torch.equal(first, second)
    origin = winsorised(REPORTS[:100].double())[0].float()  # moved there, which no loss here sees
    assert torch.equal(first.sort(0).values, (REPORTS[:100] - origin).sort(0).values)


def test_a_few_reports_still_leave_one_to_follow():
    assert len(fit(model(), REPORTS[:6], batch_size=5).nll) > 0


def test_generated_points_are_a_quarter_of_the_reports_or_as_many_as_asked(monkeypatch, tmp_path):
    sizes = []
    watch(monkeypatch, lambda x, y: sizes.append((len(x), len(y))))
    fit(model(), steps=1)
    fit(model(), generated=96, steps=2, checkpoint=tmp_path / "run.pt")
    assert sizes == [(16, 64)] + [(96, 64)] * 2
    with pytest.raises(ValueError, match="belongs to another training: its generated"):
        fit(model(), generated=97, steps=2, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="generated must be at least 1"):
        fit(model(), generated=0)


def test_not_converging_warns_once_and_is_recorded():
    loss = pg.EntropicLoss(SquaredL2(), 1e-3, tol=1e-6, max_iter=1)
    with pytest.warns(RuntimeWarning, match="step 0: Sinkhorn stopped at marginal error") as caught:
        history = fit(model(), loss=loss)
    assert len(caught) == 1
    assert not any(history.converged)


@pytest.mark.parametrize("lr", [1e30, 1e18])
def test_divergence_names_the_step(lr):
    generator = model()
    with pytest.raises(FloatingPointError, match=r"training diverged at step [0-9]+: .*Lower lr"):
        fit(generator, lr=lr)


def test_progress_is_silent_off_a_terminal(capfd):
    fit(model(), progress=True)
    assert capfd.readouterr().err == ""


@pytest.mark.gpu
def test_auto_takes_the_cuda_device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    generator = model()
    assert fit(generator).device.startswith("cuda")
    assert not generator.sample(3).is_cuda
    assert generator.sample(3, device="cuda").is_cuda


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
    assert torch.equal(last, filmed.draw_records(len(last), stream(0, "snapshots")))
    assert not torch.equal(first, last)
    again = fit(model(), snapshots=(1, 12), checkpoint=tmp_path / "a.pt")
    assert [points for _, points in again.snapshots] == [points for _, points in history.snapshots]


def test_layers_that_draw_are_part_of_the_seed():
    class Dropped(pg.MLP):
        def forward(self, z):
            return torch.nn.functional.dropout(super().forward(z), 0.2, self.training)

    before = torch.random.get_rng_state()
    first, second = Dropped(2, 2, hidden=(8,)), Dropped(2, 2, hidden=(8,))
    assert fit(first).loss == fit(second).loss
    assert torch.equal(weights(first), weights(second))
    assert torch.equal(before, torch.random.get_rng_state())


def test_purposes_of_one_seed_share_no_stream():
    """No stream is drawn by two purposes, whatever seeds are given."""
    drawn = {}
    for seed in (0, 1):
        reports = MECH.privatize(data.circle(600, seed=seed), seed=seed)
        drawn["noise", seed] = (reports - data.circle(600, seed=seed))[:, 0]
        drawn["data", seed] = data.normal(600, std=[1.0], seed=seed)[:, 0]
        drawn["weights", seed] = pg.MLP(2, 2, seed=seed).net[2].weight.detach().flatten()[:600]
        drawn["sample", seed] = pg.Linear(1, 1).latent(600, stream(seed, "sample"))[:, 0]
        drawn["latents", seed] = pg.Linear(1, 1).latent(600, stream(seed, "latents"))[:, 0]
    names = list(drawn)
    table = np.corrcoef(np.stack([drawn[name].numpy() for name in names]))
    off = abs(table[~np.eye(len(names), dtype=bool)])
    assert off.max() < 0.2, names


@pytest.mark.gpu
def test_a_device_learns_what_the_cpu_learns():
    nll = {}
    for device in ("cpu", "cuda"):
        generator = model()
        history = fit(generator, steps=120, lr=5e-3, device=device)
        assert len(history) == 120
        assert all(history.converged)
        nll[device] = history.nll[-1][1]
    assert nll["cuda"] == pytest.approx(nll["cpu"], abs=0.02)


@pytest.mark.gpu
def test_a_step_on_a_device_makes_the_host_wait_for_nothing():
    """What happened is read back after 50 steps, and after 100: torch names every wait between."""
    training = Training(LOSS, steps=200, batch_size=256)
    trainer = Trainer(training, model(), REPORTS, torch.device("cuda"))
    for _ in range(50):
        trainer.step()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for _ in range(40):
                trainer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "synchronizing" in str(w.message)]
    places = sorted({f"{Path(w.filename).name}:{w.lineno}" for w in waits})
    assert not waits, places
