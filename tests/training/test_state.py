import signal
import subprocess
import sys
import time

import pytest
import torch
from trainings import MECH, REPORTS, fit, model, weights

import privgan as pg


def test_resume_is_bit_equal(tmp_path, monkeypatch):
    straight = model()
    expected = fit(straight)

    monkeypatch.setattr("privgan.training.fitting.SAVE_EVERY", 0.0)
    stopped, path = model(), tmp_path / "run.pt"
    solve = pg.EntropicLoss.solve
    calls = []

    def dies_at_the_eighth(self, x, y, a):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return solve(self, x, y, a)

    monkeypatch.setattr(pg.EntropicLoss, "solve", dies_at_the_eighth)
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, checkpoint=path)
    monkeypatch.setattr(pg.EntropicLoss, "solve", solve)

    resumed = model()
    history = fit(resumed, checkpoint=path)
    assert history.loss == expected.loss
    assert history.nll == [list(pair) for pair in expected.nll] or history.nll == expected.nll
    assert torch.equal(weights(resumed), weights(straight))


KILLED = """
import sys, privgan as pg, privgan.training.fitting as t
from privgan.artifact import data
t.SAVE_EVERY = 0.0
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
    reached = len(torch.load(path, weights_only=True)["history"]["loss"])
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
        ("steps", {"steps": 13}),
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
