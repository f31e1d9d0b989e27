"""What the artifact's functions are wrongly given: one sentence, with the argument's name."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

import privgan as pg
from privgan.artifact import claims, contrast, data, metrics, npmle, plotting, rates, sweep
from privgan.sinkhorn import SquaredL2

S = torch.linspace(0.0, 1.0, 60, dtype=torch.float64).reshape(30, 2)
G = pg.Gaussian(1.0)
LOSS = pg.EntropicLoss.matched(G)
AXIS = torch.linspace(-2.0, 2.0, 9, dtype=torch.float64)
CIRCLE = data.circle
TASK = {"generator": pg.MLP(2, 2, hidden=(8,)), "reports": S, "loss": LOSS}
AX = Figure().add_subplot()

REFUSED = {
    "shape must be": partial(data.curve, [["a", "b"], ["c", "d"]]),
    "n = 1000.* do not fit into memory": partial(data.circle, 10**14, seed=0),
    r"std\[0\] must be positive": partial(data.normal, 9, std=[-1.0], seed=0),
    "std is empty": partial(data.normal, 9, std=[], seed=0),
    r"std\[0\] must be a number": partial(data.normal, 9, std=["1"], seed=0),
    "dim must be at least 1": partial(data.student, 9, dof=1, dim=0, seed=0),
    "dim must be an integer": partial(data.student, 9, dof=1, dim=1.5, seed=0),
    "split must be one of train, test": partial(data.mnist, ["train"]),
    "split must be one of": partial(data.digits, "all"),
    "x and y lie too far apart": partial(metrics.w2, S * 1e160, S * 0),
    "draw must be a function": partial(metrics.w2_floor, S, 9),
    "seed must be an integer": partial(metrics.w2_floor, CIRCLE, 9, seed="0"),
    "mechanism must be a Mechanism": partial(npmle.nonparametric_mle, S, "gaussian", [AXIS] * 2),
    r"axes\[0\] has shape \(0,\)": partial(npmle.nonparametric_mle, S, G, [AXIS[:0], AXIS]),
    r"axes\[0\] has shape \(9, 1\)": partial(npmle.nonparametric_mle, S, G, [AXIS[:, None], AXIS]),
    "axes must be a sequence": partial(npmle.nonparametric_mle, S, G, 2.0),
    "measured must be a number": partial(claims.Claim, "c", "1", "1.0", high=2),
    "claims must be a sequence": partial(claims.verdict, claims.Claim("c", "1", 1.0, high=2)),
    r"claims\[0\] must be a Claim": partial(claims.record, "c.json", ["c"]),
    "sigma cannot be written as JSON": partial(claims.record, "c.json", [], sigma=G),
    r"points has shape \(30, 1\)": partial(plotting.cloud, AX, S[:, :1], "raw", ""),
    "role must be one of raw, privatized": partial(plotting.cloud, AX, S, "truth", ""),
    r"images has shape \(3, 64\)": partial(plotting.mosaic, AX, torch.zeros(3, 64), 8, ""),
    r"images has .* 4 rows of side 7": partial(plotting.mosaic, AX, torch.zeros(8, 64), 7, ""),
    "rows must be at least 1": partial(plotting.mosaic, AX, torch.zeros(8, 64), 8, "", rows=0),
    "frames is empty": partial(plotting.film, "f", []),
    "role must be one": partial(plotting.film, "f", [("t", {"truth": S})]),
    "repeats must be a Mapping": partial(rates.sampled_losses, LOSS, CIRCLE, CIRCLE, [9]),
    "loss must be a Loss": partial(rates.sampled_losses, G, CIRCLE, CIRCLE, {9: 1}),
    "draw_x must be a function": partial(rates.sampled_losses, LOSS, S, CIRCLE, {9: 1}),
    "draw must be": partial(rates.draw_reports, G, CIRCLE, 9, seed=0),
    "mechanism must be": partial(rates.draw_reports, CIRCLE, CIRCLE, 9, seed=0),
    "errors must be a Mapping": partial(rates.rate, [1.0]),
    r"calls\[0\] must be a sequence": partial(sweep.side_by_side, abs, [1, 2], jobs=1),
    "function must be a function": partial(sweep.side_by_side, 3, [(1,)], jobs=1),
    r"trainings\['a'\] has 'setps'": partial(sweep.fit_all, {"a": TASK | {"setps": 3}}, jobs=1),
    "trainings must be a Mapping": partial(sweep.fit_all, [TASK], jobs=1),
    r"trainings has '\.\./a'": partial(sweep.fit_all, {"../a": TASK}, jobs=1),
    "cost must be a Cost": partial(contrast.ExactLoss, SquaredL2),
    r"a has shape \(3,\)": partial(contrast.ExactLoss(SquaredL2()), S, S, torch.ones(3) / 3),
    "costs between x and y overflow": partial(contrast.ExactLoss(SquaredL2()), S * 1e160, -S),
}


@pytest.mark.parametrize("words", REFUSED)
def test_a_wrong_argument_is_named(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, TypeError), match="^" + words):
        REFUSED[words]()
    assert not [*tmp_path.iterdir()]


def test_numbers_of_numpy_and_torch_are_recorded(tmp_path):
    path = tmp_path / "c.json"
    claim = claims.Claim("c", "1", torch.tensor(0.5), high=np.float32(1.0))
    claims.record(path, [claim], sigma=np.float32(0.5), of=torch.ones(2), at={"n": np.int64(3)})
    said = json.loads(path.read_text())
    assert said["numbers"] == {"sigma": 0.5, "of": [1.0, 1.0], "at": {"n": 3}}
    assert said["claims"][0]["measured"] == 0.5


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        ("{", "not JSON"),
        ("[]", "it is a list"),
        ("{}", "says nothing of claims"),
    ],
)
def test_a_table_names_the_file_that_it_cannot_read(content, words, tmp_path):
    if content is not None:
        (tmp_path / "n.json").write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=rf"n\.json .*{words}"):
        claims.claims_table(tmp_path, ["n"])


def test_any_integer_is_a_seed_of_rates():
    errors = {10: torch.ones(3), 100: torch.ones(3) / 10}
    assert rates.rate(errors, seed=-1).slope == pytest.approx(-1.0)
    first, second = (rates.draw_reports(CIRCLE, G, 9, seed=seed) for seed in (-1, 1))
    assert not torch.equal(first, second)
