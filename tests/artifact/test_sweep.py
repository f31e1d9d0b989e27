import os

import pytest
import torch

import privgan as pg
from privgan.artifact import data, sweep
from privgan.sinkhorn import SquaredL2

MECH = pg.Gaussian(0.3)
REPORTS = MECH.privatize(data.circle(600, seed=0), seed=1)


def trainings():
    shared = {"loss": pg.EntropicLoss.matched(MECH), "steps": 6, "batch_size": 64}
    return {
        f"seed {seed}": {
            "generator": pg.MLP(2, 2, hidden=(8,), seed=seed),
            "reports": REPORTS,
            "seed": seed,
            **shared,
        }
        for seed in range(3)
    }


def outputs(several):
    return [settings["generator"].sample(5, seed=0) for settings in several.values()]


def test_side_by_side_is_one_after_the_other(tmp_path):
    one, two, alone = trainings(), trainings(), trainings()
    first = sweep.fit_all(one, jobs=1)
    second = sweep.fit_all(two, jobs=2, checkpoint_dir=str(tmp_path))
    assert not any(s["generator"].training for s in (*one.values(), *two.values()))
    pg.fit(**alone["seed 1"])
    assert list(first) == list(second) == ["seed 0", "seed 1", "seed 2"]
    assert all(first[name].loss == second[name].loss for name in first)
    assert all(torch.equal(a, b) for a, b in zip(outputs(one), outputs(two), strict=True))
    assert torch.allclose(outputs(one)[1], outputs(alone)[1], atol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {f"seed {s}.pt" for s in range(3)}
    again = trainings()
    assert sweep.fit_all(again, jobs=1, checkpoint_dir=str(tmp_path))["seed 2"].seconds == (
        second["seed 2"].seconds
    )
    assert torch.equal(outputs(again)[2], outputs(two)[2])


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_come_back_with_their_training(jobs):
    several = trainings()
    several["seed 1"]["loss"] = pg.EntropicLoss(SquaredL2(), 1e-3, tol=1e-6, max_iter=1)
    with pytest.warns(RuntimeWarning) as caught:
        sweep.fit_all(several, jobs=jobs)
    assert [str(w.message)[:22] for w in caught] == ["seed 1: step 0: Sinkho"]


def test_weights_and_checkpoints_that_two_trainings_share_are_refused(tmp_path):
    decoder, loss = pg.MLP(6, 2, hidden=(4,)), pg.EntropicLoss.matched(MECH)
    once = {"reports": REPORTS, "loss": loss, "steps": 1, "batch_size": 50}
    for second in (decoder, pg.Labelled(decoder, 3)):
        pair = {"a": once | {"generator": decoder}, "b": once | {"generator": second}}
        with pytest.raises(
            ValueError, match="'a' and 'b' share their generator's weights; give each its own"
        ):
            sweep.fit_all(pair, jobs=1)
    run = once | {"checkpoint": tmp_path / "run"}
    pair = {name: run | {"generator": pg.MLP(2, 2)} for name in "ab"}
    with pytest.raises(ValueError, match="'a' and 'b' share their checkpoint"):
        sweep.fit_all(pair, jobs=1)
    with pytest.raises(TypeError, match="generator of 'a' must be a Generator, got a NoneType"):
        sweep.fit_all({"a": once}, jobs=1)


def test_each_call_has_one_thread_and_by_default_as_many_run_as_torch_has_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert sweep.side_by_side(torch.get_num_threads, [(), ()], jobs=1) == [1, 1]
        assert torch.get_num_threads() == 2
        in_process = os.getpid() in sweep.side_by_side(os.getpid, [(), ()])
        assert in_process == torch.cuda.is_available()
    finally:
        torch.set_num_threads(before)
