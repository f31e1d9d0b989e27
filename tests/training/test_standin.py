"""Trainings on a device that is none: they go as on the CPU, and hardly ever wait."""

import os
import warnings
from contextlib import nullcontext

import pytest
import torch
import trainings
from channels import CASES
from standin import StandIn, There
from trainings import fit

import privgan as pg
from privgan.artifact import data, referee
from privgan.streams import stream
from privgan.training import fitting
from privgan.training import trainer as trainers
from privgan.training.trainer import Trainer, Training

BLOCK, STEPS = 8, 24  # steps after which is read what happened, here
CIRCLE = data.circle(800, seed=0)
NOISE = pg.Gaussian(0.3)
ANSWER = pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)
WAVE = pg.SquareWave(1.0, bounds=pg.Box(-2.0, 2.0, dim=1))
LABELS = torch.nn.functional.one_hot(torch.arange(800) % 3, 3).float()
BOUNDED = pg.Gaussian(0.3, bounds=pg.Box(-2.0, 2.0, dim=2))
MIXED = pg.Product((slice(0, 2), NOISE), (slice(2, 5), ANSWER))
IMAGES = pg.Product((slice(0, 64), pg.Gaussian(1.0)), (slice(64, 67), ANSWER))
SEEN = torch.rand((800, 64), generator=torch.Generator().manual_seed(0))

TRAININGS = {
    "mlp": (lambda: pg.MLP(2, 2), NOISE, CIRCLE, {}),
    "linear": (lambda: pg.Linear(2, 2), pg.Laplace(0.3), CIRCLE, {"even": False}),
    "euclidean": (lambda: pg.MLP(2, 2), pg.EuclideanLaplace(0.3), CIRCLE, {}),
    "response": (lambda: pg.Atoms(torch.eye(3)), ANSWER, LABELS, {}),
    "wave": (lambda: pg.Atoms(WAVE.grid(20)), WAVE, CIRCLE[:, :1], {}),
    "linear map": (
        lambda: pg.MLP(2, 2),
        pg.LinearMap(torch.eye(2) + 0.1, BOUNDED),
        CIRCLE,
        {"average": 0.9, "anneal": 4.0, "keep_best": True, "snapshots": (3, 10)},
    ),
    "product": (
        lambda: pg.MLP(2, 5, categories=(slice(2, 5),)),
        MIXED,
        torch.cat([CIRCLE, LABELS], 1),
        {},
    ),
    "labelled": (
        lambda: pg.Labelled(pg.ConvDecoder(6, 8), 3),
        IMAGES,
        torch.cat([SEEN, LABELS], 1),
        {"average": 0.9, "anneal": 4.0},
    ),
}


@pytest.fixture(params=["stand-in", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """None, or one."""
    with StandIn() if request.param == "stand-in" else nullcontext():
        yield "cuda"


@pytest.mark.parametrize("name", TRAININGS)
def test_a_training_goes_as_on_the_cpu(device, name, tmp_path):
    make, mechanism, records, settings = TRAININGS[name]
    reports = pg.simulate(records, mechanism, seed=1)
    settings = {"steps": 10, "batch_size": 32, "lr": 1e-3, "progress": False} | settings
    here, there = make(), make()
    cpu = pg.fit(here, reports, device="cpu", **settings)
    cuda = pg.fit(there, reports, device=device, **settings)
    assert all(p.is_cuda for p in there.parameters())
    own, other = there.sample(9, seed=0), there.sample(9, seed=0, device=device)
    assert not own.is_cuda
    assert torch.equal(own, other.cpu())
    there.save(tmp_path / "model")
    again = pg.load(tmp_path / "model", device=device)
    assert all(p.is_cuda for p in again.parameters())
    assert torch.allclose(pg.load(tmp_path / "model").sample(9, seed=0), own, atol=1e-5)
    assert cuda.device == "cuda"
    assert all(cuda.converged)
    assert cuda.loss[0] == pytest.approx(cpu.loss[0], rel=1e-4, abs=1e-6)
    assert cuda.nll[-1][1] == pytest.approx(cpu.nll[-1][1], abs=0.05)


@pytest.fixture
def blocks(monkeypatch):
    assert trainers.PENDING == 50
    monkeypatch.setattr(trainers, "PENDING", BLOCK)


def trainer(device, **settings):
    noise = pg.Gaussian(1.0)
    reports = noise.privatize(data.circle(300, seed=0), seed=1)
    loss = pg.EntropicLoss.matched(noise, **settings.pop("loss", {}))
    training = Training(loss, steps=STEPS, batch_size=32, **settings)
    return Trainer(training, pg.MLP(2, 2, seed=0), reports, torch.device(device))


@pytest.mark.parametrize("settings", [{}, {"average": 0.9, "anneal": 4.0, "even": False}])
def test_the_host_waits_once_in_fifty_steps(blocks, settings):
    with StandIn() as device:
        steps = trainer("cuda", **settings)
        for _ in range(BLOCK):
            steps.step()
        assert steps.most is None
        device.reset()
        for k in range(1, STEPS - BLOCK + 1):
            steps.step()
            assert sum(device.waits.values()) == k // BLOCK, device.waits
    history = steps.state.history
    assert len(history) == STEPS
    assert all(history.converged)
    assert steps.most >= max(history.n_iter[-BLOCK:])


def test_an_encoders_training_waits_as_seldom(blocks):
    loss = pg.AmortizedLoss.matched(NOISE)
    reports = NOISE.privatize(data.circle(300, seed=0), seed=1)
    training = Training(loss, steps=STEPS, batch_size=32)
    with StandIn() as device:
        steps = Trainer(training, pg.MLP(2, 2, seed=0), reports, torch.device("cuda"))
        steps.step()
        device.reset()
        for k in range(2, STEPS + 1):
            steps.step()
            assert sum(device.waits.values()) == k // BLOCK, device.waits


def test_what_is_pending_holds_numbers_alone(blocks):
    with StandIn() as device:
        steps = trainer("cuda", average=0.9)
        for _ in range(BLOCK + 2):
            steps.step()
        held = device.held()
        for _ in range(BLOCK - 3):
            steps.step()
        assert device.held() - held < 100 * BLOCK


def test_from_a_batch_that_was_not_solved_the_host_looks_on(blocks):
    with StandIn():
        steps = trainer("cuda", loss={"max_iter": 1, "tol": 1e-3})
        for _ in range(2 * BLOCK + 1):
            steps.step()
        assert not all(steps.state.history.converged)
        assert steps.most is None


def test_iterations_queued_follow_from_whole_blocks_alone(blocks):
    """So that when a checkpoint was written, and what it made the host read, changes nothing."""
    with StandIn():
        plain, read = trainer("cuda"), trainer("cuda")
        for k in range(STEPS):
            plain.step()
            read.step()
            if k % 7 == 0:
                read.read()
    assert plain.state.history.loss == read.state.history.loss
    assert plain.state.history.n_iter == read.state.history.n_iter


@pytest.mark.parametrize("name", CASES)
def test_a_channel_works_where_its_records_are(device, name):
    """Constants are where the inputs are: nothing of it is elsewhere, and all is as on the CPU."""
    case = CASES[name]
    x, y = case.records[:6].float(), case.reports[:: max(1, len(case.reports) // 9)].float()
    mech = case.mech
    there = x.to(device), y.to(device)
    made = mech.forward(there[0]), mech.forward(x)
    for found, exact in (
        (mech.privatize(there[0], seed=0), mech.privatize(x, seed=0)),
        made,
        (mech.cost.matrix(made[0], there[1]), mech.cost.matrix(made[1], y)),
        (mech.log_density(*there), mech.log_density(x, y)),
    ):
        assert found.is_cuda
        assert torch.allclose(found.cpu(), exact, rtol=1e-4, atol=1e-4)
    nll = pg.report_nll(*there, mech)
    assert nll == pytest.approx(pg.report_nll(x, y, mech), rel=1e-4)


def test_the_referee_judges_records_from_anywhere():
    judge = referee.Classifier(8, 3)
    x = torch.rand((5, 64), generator=stream(0, "images"))
    with StandIn():
        assert torch.equal(judge.predict(x.to("cuda")), judge.predict(x))
        assert not isinstance(judge.features(x.to("cuda")), There)


@pytest.mark.parametrize(
    ("said", "hidden", "warned"),
    [("GPU 0: one", None, True), ("No devices", None, False), ("GPU 0: one", "", False)],
)
def test_a_gpu_that_torch_cannot_use_is_no_secret(tmp_path, monkeypatch, said, hidden, warned):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    fitting._idle_gpu.cache_clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fit(pg.MLP(2, 2), steps=1)
    finally:
        fitting._idle_gpu.cache_clear()
    assert [w.filename for w in caught] == [trainings.__file__] * warned
    assert all("so the CPU trains" in str(w.message) for w in caught)
