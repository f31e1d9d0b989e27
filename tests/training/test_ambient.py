"""Whatever torch's switches are set to, the numbers are the same, and the switches stay."""

import contextlib

import numpy as np
import pytest
import torch
from trainings import LOSS, MECH, REPORTS, fit, model

import privgan as pg
from privgan.surroundings import usual


@contextlib.contextmanager
def switched(switch, value, back):
    switch(value)
    try:
        yield
    finally:
        switch(back)


@contextlib.contextmanager
def precision(switch, value):
    before, switch.fp32_precision = switch.fp32_precision, value
    try:
        yield
    finally:
        switch.fp32_precision = before


SURROUNDINGS = {
    "no_grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "float64": lambda: switched(torch.set_default_dtype, torch.float64, torch.float32),
    "float16": lambda: switched(torch.set_default_dtype, torch.float16, torch.float32),
    "meta": lambda: switched(torch.set_default_device, "meta", None),
    "deterministic": lambda: switched(torch.use_deterministic_algorithms, True, False),
    "medium": lambda: switched(torch.set_float32_matmul_precision, "medium", "highest"),
    "tf32": lambda: precision(torch.backends.cuda.matmul, "tf32"),
    "bfloat16 products": lambda: precision(torch.backends.mkldnn.matmul, "bf16"),
    "bfloat16 convolutions": lambda: precision(torch.backends.mkldnn.conv, "bf16"),
    "numpy": lambda: np.errstate(all="raise"),
}
BOX = pg.Box(0.0, 1.0, dim=1)
SMALL = {"steps": 2, "batch_size": 64, "progress": False}


def trained():
    generator = model()
    history = fit(generator, steps=4, average=0.9, keep_best=True, snapshots=(2,))
    return history.loss, history.nll, history.snapshots[0][1][0], generator.sample(3, seed=0)


def labelled():
    generator = pg.Labelled(pg.ConvDecoder(5, 8, channels=4, hidden=8), 3)
    return generator.sample(4, seed=0), generator.sample_class(1, 2, seed=0)


def saved(path):
    model().save(path)
    return pg.load(path).sample(3, seed=0)


def weighed():
    channel = pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)
    reports = pg.simulate(pg.mechanisms.one_hot([0, 1, 2] * 40, 3), channel, seed=0)
    atoms = pg.Atoms(np.eye(3))
    return pg.fit(atoms, reports, **SMALL).loss, atoms.weights


def scaled():
    found = pg.training.estimate_scale(
        REPORTS, pg.Gaussian, (0.2, 0.3), lambda: pg.Linear(2, 2), **SMALL
    )
    return found.nll


JOBS = {
    "fit": lambda _: trained(),
    "images": lambda _: labelled(),
    "save": lambda folder: saved(folder / "model"),
    "checkpoint": lambda folder: [
        fit(model(), steps=2, checkpoint=folder / "run").loss for _ in range(2)
    ],
    "atoms": lambda _: weighed(),
    "likelihood": lambda _: pg.report_nll(REPORTS[:50], REPORTS[50:90], MECH),
    "scale": lambda _: scaled(),
    "privatize": lambda _: [
        channel.privatize(REPORTS[:5], seed=0)
        for channel in (MECH, pg.Laplace(0.3), pg.EuclideanLaplace(0.3))
    ],
    "audit": lambda _: [
        (f.claimed, f.found)
        for f in pg.audit.audit(pg.Gaussian(1.0, bounds=BOX), 5.0, 1e-5, reports=500).findings
    ],
    "identifiability": lambda _: (
        pg.audit.identifiability(pg.Laplace(1.0, bounds=BOX), bins=9).singular_values
    ),
}


def bare(found):
    """Tensors as their type and entries, which compare by ``==``."""
    if isinstance(found, torch.Tensor):
        return found.dtype, found.tolist()
    return [bare(part) for part in found] if isinstance(found, list | tuple) else found


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return {name: bare(job(tmp_path_factory.mktemp("plain"))) for name, job in JOBS.items()}


@pytest.mark.parametrize("name", JOBS)
@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_numbers_are_the_same_under_any_switch(surrounding, name, expected, tmp_path):
    with SURROUNDINGS[surrounding]():
        found = JOBS[name](tmp_path)
    assert bare(found) == expected[name]


def switches():
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cuda.matmul.fp32_precision,
        torch.backends.mkldnn.matmul.fp32_precision,
        torch.backends.mkldnn.conv.fp32_precision,
        torch.backends.cudnn.conv.fp32_precision,
    )


@pytest.mark.parametrize("surrounding", SURROUNDINGS)
def test_switches_are_as_before_after_an_error_too(surrounding):
    class Broken(pg.EntropicLoss):
        def between(self, x, y, a=None):
            assert torch.is_grad_enabled()
            raise RuntimeError("mine")

    with SURROUNDINGS[surrounding]():
        before = switches()
        with pytest.raises(RuntimeError, match="mine"):
            fit(model(), loss=Broken.matched(MECH))
        assert switches() == before
        model().sample(1)
        assert switches() == before


def test_a_users_forward_runs_without_autocast_and_with_torchs_defaults():
    class Own(pg.generators.Generator):
        def __init__(self):
            super().__init__()
            self.latent_dim = self.out_dim = 2
            self.net = torch.nn.Linear(2, 2)

        def forward(self, z):
            assert torch.zeros(1).dtype == torch.float32
            assert not torch.is_autocast_enabled("cpu")
            return self.net(z) + torch.zeros(2)

    generator = Own()
    with torch.autocast("cpu"), SURROUNDINGS["float64"](), torch.no_grad():
        fit(generator, steps=2)
        generator.sample(2)


def test_reports_that_carry_a_graph_are_data():
    x = REPORTS.clone().requires_grad_()
    assert fit(model(), 1.0 * x).loss == fit(model()).loss
    assert not pg.Reports(1.0 * x, MECH, simulation=True).values.requires_grad
    assert x.grad is None


def test_privatize_keeps_a_graph_and_the_callers_gradient_mode():
    x = REPORTS[:5].clone().requires_grad_()
    assert MECH.privatize(x, seed=0).requires_grad
    with torch.no_grad(), usual():
        assert not torch.is_grad_enabled()
    with torch.inference_mode(), usual(grad=True):
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad


def test_an_error_leaves_the_modes_of_all_layers_and_no_gradients():
    generator = pg.MLP(2, 2, hidden=(8,), norm=True)
    generator.net[1].eval()  # one layer, of a generator in training
    before = [part.training for part in generator.modules()]

    class Breaks(pg.EntropicLoss):
        def between(self, x, y, a=None):
            if len(seen) == 2:
                raise KeyboardInterrupt
            seen.append(generator.net[1].training)
            return super().between(x, y, a)

    seen = []
    with pytest.raises(KeyboardInterrupt):
        fit(generator, loss=Breaks.matched(MECH))
    assert seen == [True, True]
    assert [part.training for part in generator.modules()] == before
    assert all(p.grad is None for p in generator.parameters())
    generator.sample(3)
    assert [part.training for part in generator.modules()] == before
    fit(generator, loss=LOSS)
    assert not any(part.training for part in generator.modules())
    assert all(p.grad is None for p in generator.parameters())
