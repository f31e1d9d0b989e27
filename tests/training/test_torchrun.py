"""The README's ten lines under torchrun: they just work, and go on after a process was killed."""

import ast
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from trainings import REPORTS

import privgan as pg

TEN_LINES = """
import numpy as np
import privgan as pg

reports = np.load("reports.npy")
loss = pg.EntropicLoss.matched(pg.Gaussian(sigma=0.3))
model = pg.MLP(latent_dim=2, out_dim=reports.shape[1], hidden=(16,), norm=True)
history = pg.fit(model, reports, loss, checkpoint="fit.ckpt", steps=30, batch_size=64)
print(history.nll[-1])
np.save("generated.npy", model.sample(100))
model.save("model.pt")
"""
# The second process dies in the middle, some steps after a checkpoint.
KILLED = """
import os, signal
import privgan.training.watchers as watchers
from privgan.training.trainer import Trainer
watchers.SAVE_EVERY = -1.0
step = Trainer.step
def dying(self):
    if self.state.step == 20 and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self)
Trainer.step = dying
"""


def torchrun(folder, script):
    (folder / "train.py").write_text(script)
    # torchrun ends the others as soon as it sees one gone: two seconds leave them time to say why.
    options = ["--standalone", "--nproc-per-node=2", "--monitor-interval=2"]
    program = [sys.executable, "-m", "torch.distributed.run", *options]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*program, "train.py"], cwd=folder, env=environment, capture_output=True, text=True
    )


def test_a_killed_process_ends_all_and_the_rest_is_trained_by_another_number(tmp_path):
    np.save(tmp_path / "reports.npy", REPORTS.numpy())
    killed = torchrun(tmp_path, KILLED + TEN_LINES)
    assert killed.returncode != 0
    assert not (tmp_path / "model.pt").exists()
    said = "another process of this training has ended, or no longer answers, so this one ends too"
    assert said in killed.stderr
    ran = torchrun(tmp_path, TEN_LINES)
    assert ran.returncode == 0, ran.stderr
    model = pg.load(tmp_path / "model.pt")
    assert np.load(tmp_path / "generated.npy").shape == (100, 2)
    straight = pg.MLP(2, 2, hidden=(16,), norm=True)
    loss = pg.EntropicLoss.matched(pg.Gaussian(0.3))
    history = pg.fit(straight, REPORTS, loss, steps=30, batch_size=64, progress=False)
    # By both processes, whose lines may run into each other.
    said = [ast.literal_eval(pair) for pair in re.findall(r"\([^)]*\)", ran.stdout)]
    assert len(said) == 2
    assert said[0] == said[1] == pytest.approx(history.nll[-1], abs=5e-3)
    assert torch.allclose(model.sample(50, seed=0), straight.sample(50, seed=0), atol=1e-2)
