import signal
import subprocess
import sys
import time

import pytest
import torch
from trainings import MECH, REPORTS, fit, model, weights

import privgan as pg
from privgan.files import load_tensors, save_tensors
from privgan.training.state import FORMAT


def interrupt(monkeypatch, at):
    """Stop a training in its solve number ``at``, with a checkpoint saved after every step."""
    monkeypatch.setattr("privgan.training.watchers.SAVE_EVERY", -1.0)
    between, calls = pg.EntropicLoss.between, []

    def dies(self, x, y, a):
        calls.append(1)
        if len(calls) == at:
            raise KeyboardInterrupt
        return between(self, x, y, a)

    monkeypatch.setattr(pg.EntropicLoss, "between", dies)


def dropping(seed=0):
    """Everything that could come back other than it was: batch norm, layers that draw."""
    generator = pg.MLP(2, 2, hidden=(16,), norm=True, seed=seed)
    generator.net.insert(2, torch.nn.Dropout(0.1))
    return generator


SETTINGS = [{}, {"average": 0.9, "keep_best": True}, {"anneal": 8.0, "snapshots": (3, 12)}]


@pytest.mark.parametrize("settings", SETTINGS, ids=["plain", "average", "anneal"])
def test_resume_is_bit_equal(tmp_path, monkeypatch, settings):
    straight = dropping()
    expected = fit(straight, **settings)
    path = tmp_path / "run.pt"
    with monkeypatch.context() as patch:
        interrupt(patch, at=8)
        with pytest.raises(KeyboardInterrupt):
            fit(dropping(), checkpoint=path, **settings)
    resumed = dropping()
    history = fit(resumed, checkpoint=path, **settings)
    seconds = {"seconds": 0.0}
    assert vars(history) | seconds == vars(expected) | seconds
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, straight.state_dict()[name])


def test_going_on_for_more_steps(tmp_path, monkeypatch):
    path, whole = tmp_path / "run.pt", tmp_path / "whole.pt"
    first, gone_on = model(), model()
    fit(first, checkpoint=path)
    whole.write_bytes(path.read_bytes())
    history = fit(gone_on, steps=20, checkpoint=path)
    assert len(history) == 20
    assert history.loss[:12] == fit(model(), checkpoint=whole).loss
    assert not torch.equal(weights(gone_on), weights(first))
    # The second leg, interrupted, is taken up bit for bit too.
    with monkeypatch.context() as patch:
        interrupt(patch, at=4)
        with pytest.raises(KeyboardInterrupt):
            fit(model(), steps=20, checkpoint=whole)
    resumed = model()
    assert fit(resumed, steps=20, checkpoint=whole).loss == history.loss
    assert torch.equal(weights(resumed), weights(gone_on))


def test_the_learning_rate_falls_to_zero_in_every_leg(tmp_path, monkeypatch):
    rates = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(
        torch.optim.Adam,
        "step",
        lambda self, *a: rates.append(self.param_groups[0]["lr"]) or step(self, *a),
    )
    fit(model(), steps=4, lr=0.4, checkpoint=tmp_path / "run.pt")
    fit(model(), steps=6, lr=0.4, checkpoint=tmp_path / "run.pt")
    assert rates == pytest.approx([0.4, 0.3, 0.2, 0.1, 0.4, 0.2])


def test_an_unfinished_training_is_not_lengthened(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt(patch, at=5)
        with pytest.raises(KeyboardInterrupt):
            fit(model(), checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="its steps is 12, here it is 13; finish its own steps"):
        fit(model(), steps=13, checkpoint=tmp_path / "run.pt")


def test_a_checkpoint_is_small_however_many_reports_there_are(tmp_path):
    path = tmp_path / "run.pt"
    reports = torch.randn(2_000_000, 10, generator=torch.Generator().manual_seed(0))
    fit(pg.Linear(2, 10), reports, checkpoint=path, steps=3)
    once = path.stat().st_size
    fit(pg.Linear(2, 2), checkpoint=tmp_path / "long", steps=300)
    fit(pg.Linear(2, 2), checkpoint=tmp_path / "longer", steps=600)
    a_step = ((tmp_path / "longer").stat().st_size - (tmp_path / "long").stat().st_size) / 300
    assert once + 3000 * a_step < 100_000


def test_weights_that_are_not_finite_are_not_taken_up(tmp_path):
    path = tmp_path / "run.pt"
    fit(model(), checkpoint=path)
    about, tensors = load_tensors(path, FORMAT, "checkpoint")
    tensors["generator net.0.bias"][3] = float("nan")
    save_tensors(path, FORMAT, about, tensors, "checkpoint")
    with pytest.raises(ValueError, match=r"run\.pt holds weights that are not finite"):
        fit(model(), checkpoint=path)


def test_losses_that_print_alike_do_not_share_a_checkpoint(tmp_path):
    class Masked(pg.sinkhorn.SquaredL2):
        def __init__(self, mask):
            object.__setattr__(self, "mask", mask)

        def __repr__(self):
            return "Masked(...)"

    masks = torch.zeros(2000), torch.zeros(2000)
    masks[1][1000] = 1.0
    first, second = (pg.EntropicLoss(Masked(mask), 0.2, mechanism=MECH) for mask in masks)
    assert repr(first) == repr(second)
    fit(model(), loss=first, checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="belongs to another training: its loss"):
        fit(model(), loss=second, checkpoint=tmp_path / "run.pt")


KILLED = """
import sys, privgan as pg, privgan.training.watchers as w
from privgan.artifact import data
w.SAVE_EVERY = -1.0
mech = pg.Gaussian(0.3)
reports = mech.privatize(data.circle(600, seed=0), seed=1)
model = pg.MLP(2, 2, hidden=(16,), norm=True)
pg.fit(model, reports, pg.EntropicLoss.matched(mech), steps=int(sys.argv[2]), batch_size=64,
       checkpoint=sys.argv[1])
"""


def test_resume_after_a_kill_is_bit_equal(tmp_path):
    steps, path = 400, tmp_path / "run.pt"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), str(steps)])
    deadline = time.monotonic() + 120
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert path.exists()
    reached = load_tensors(path, FORMAT, "checkpoint")[0]["step"]
    assert 0 < reached < steps

    def make():
        return pg.MLP(2, 2, hidden=(16,), norm=True)

    straight, resumed = make(), make()
    expected = fit(straight, steps=steps)
    history = fit(resumed, steps=steps, checkpoint=path)
    assert history.loss == expected.loss
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, straight.state_dict()[name])


def test_a_finished_training_is_returned_at_once(tmp_path):
    path = tmp_path / "run.pt"
    first, second = model(), model()
    expected = fit(first, checkpoint=path)
    history = fit(second, checkpoint=path)
    assert history.seconds == expected.seconds
    assert torch.equal(weights(first), weights(second))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("steps", {"steps": 11}),
        ("seed", {"seed": 5}),
        ("loss", {"loss": pg.EntropicLoss.matched(MECH, tol=0.5)}),
        ("mechanism", {"mechanism": pg.Gaussian(0.31)}),
        ("reports", {"reports": REPORTS + 1}),
        ("generator", {"generator": model(seed=1)}),
        ("generator", {"generator": pg.MLP(2, 2, hidden=(16,), bounds=(-9, 9))}),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused(tmp_path, name, change):
    path = tmp_path / "run.pt"
    fit(model(), checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"belongs to another training: its {name}"):
        fit(**({"generator": model(), "checkpoint": path} | change))
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_named_and_kept(tmp_path):
    path = tmp_path / "run.pt"
    path.write_bytes(b"half a file")
    with pytest.raises(ValueError, match=r"run\.pt cannot be read"):
        fit(model(), checkpoint=path)
    assert path.read_bytes() == b"half a file"


def test_a_checkpoint_that_cannot_be_written_names_its_path(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError, match=r"cannot write checkpoint .*run\.pt"):
        fit(model(), checkpoint=blocked / "run.pt")


def changed(path, tensors=None, **change):
    """The checkpoint with other content, and a SHA-256 that fits."""
    about, held = load_tensors(path, FORMAT, "checkpoint")
    held = {k: v for k, v in (held | (tensors or {})).items() if v is not None}
    save_tensors(path, FORMAT, about | change, held, "checkpoint")


@pytest.mark.parametrize(
    ("tensors", "change"),
    [
        ({"generator net.0.bias": torch.zeros(3)}, {}),
        ({"generator net.0.bias": None}, {}),
        ({"generator net.0.bias": torch.zeros(16, dtype=torch.int64)}, {}),
        ({"generator more": torch.zeros(3)}, {}),
        ({"anything else": torch.zeros(3)}, {}),
        ({"optimizer 0 exp_avg": torch.zeros(3)}, {}),
        ({"optimizer 0 exp_avg": None}, {}),
        ({"optimizer 99 exp_avg": torch.zeros(3)}, {}),
        ({"optimizer x exp_avg": torch.zeros(3)}, {}),
        ({"history loss": torch.zeros(3)}, {}),
        ({"history loss": None}, {}),
        ({"history __class__": torch.zeros(12)}, {}),
        ({}, {"step": 13}),
        ({}, {"step": 1.5}),
        ({}, {"started": -1}),
        ({}, {"best": 1.0}),
        ({}, {"best": "x"}),
        ({}, {"history": None}),
        ({}, {"history": {"nll": [[1]], "information": [], "seconds": 0.0}}),
        ({}, {"identity": None}),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused_and_nothing_is_taken_up(
    tmp_path, tensors, change
):
    path, untouched = tmp_path / "run.pt", model()
    fit(model(), checkpoint=path)
    changed(path, tensors, **change)
    with pytest.raises(ValueError, match=r"checkpoint .*run\.pt cannot be read"):
        fit(untouched, checkpoint=path)
    assert torch.equal(weights(untouched), weights(model()))


def test_settings_that_are_no_parameters_are_part_of_the_identity(tmp_path):
    class Bent(pg.MLP):
        def __init__(self, bend):
            super().__init__(2, 2, hidden=(4,))
            self.bend = bend

        def forward(self, z):
            return self.bend(super().forward(z))

    fit(Bent(torch.tanh), checkpoint=tmp_path / "run.pt")
    with pytest.raises(ValueError, match="belongs to another training: its generator"):
        fit(Bent(torch.sin), checkpoint=tmp_path / "run.pt")


def test_a_long_setting_that_differs_is_named_and_not_repeated(tmp_path):
    path, wide = (
        tmp_path / "run.pt",
        pg.Product(*((slice(i, i + 1), pg.Gaussian(0.5)) for i in range(9))),
    )
    reports = torch.randn(200, 9, generator=torch.Generator().manual_seed(0))
    fit(pg.Linear(2, 9), reports, pg.EntropicLoss.matched(wide), checkpoint=path)
    other = pg.Product(*((slice(i, i + 1), pg.Gaussian(0.6)) for i in range(9)))
    with pytest.raises(
        ValueError, match="its loss is another; delete it or name another file"
    ) as told:
        fit(pg.Linear(2, 9), reports, pg.EntropicLoss.matched(other), checkpoint=path)
    assert len(str(told.value)) < 300
