"""Orders that are computed are orders, and trainings are the same wherever their reports lie."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from trainings import REPORTS, fit, model, weights

import privgan as pg
from privgan.reports.rows import as_rows
from privgan.streams import stream
from privgan.training import batches, shuffling
from privgan.training.shuffling import Shuffle, split


@pytest.fixture
def computed(monkeypatch):
    monkeypatch.setattr(shuffling, "STORED", 0)


@pytest.mark.parametrize("n", [1, 2, 3, 17, 1000, 4096, 4097, 50_000])
def test_every_number_comes_once(computed, n):
    found = Shuffle(n, 3, "shuffle", 1)(torch.arange(n))
    assert torch.equal(found.sort().values, torch.arange(n))
    again = Shuffle(n, 3, "shuffle", 1)(torch.arange(n).flip(0))
    assert torch.equal(again.flip(0), found)


def test_other_seeds_purposes_and_steps_give_other_orders(computed):
    said = [(0, "shuffle", 0), (1, "shuffle", 0), (0, "holdout", 0), (0, "shuffle", 1)]
    orders = torch.stack([Shuffle(5000, *which)(torch.arange(5000)) for which in said])
    same = (orders[:, None] == orders).double().mean(2)
    assert same[~torch.eye(4, dtype=torch.bool)].max() < 0.005


def test_a_computed_order_looks_drawn(computed):
    """By where numbers land, how neighbours land, and how many numbers stay where they are."""
    n = 30_011
    orders = torch.stack([Shuffle(n, s, "shuffle")(torch.arange(n)) for s in range(20)]).double()
    assert kstest(orders[:, :50].flatten() / n, "uniform").pvalue > 1e-3
    gaps = (orders[:, 1:] - orders[:, :-1]) % n
    assert kstest(gaps[0] / n, "uniform").pvalue > 1e-3
    fixed = (orders == torch.arange(n)).sum(1).double()
    assert 0.3 < fixed.mean() < 2.0
    assert abs(np.corrcoef(np.arange(n), orders[0])[0, 1]) < 0.03


def test_a_billion_numbers_take_no_room():
    order = Shuffle(10**9, 0, "shuffle")
    found = order(torch.arange(10**9 - 100_000, 10**9))
    assert len(found.unique()) == 100_000
    assert 0 <= int(found.min()) < 10**5 < 999 * 10**6 < int(found.max()) < 10**9


@pytest.mark.parametrize("stored", [2**20, 0])
def test_what_is_held_out_is_not_trained_on(monkeypatch, stored):
    monkeypatch.setattr(shuffling, "STORED", stored)
    kept_out, rest = split(as_rows("reports", REPORTS), 0.25, 0)
    assert (len(kept_out), len(rest)) == (150, 450)
    numbers = [part.numbers(torch.arange(len(part))) for part in (kept_out, rest)]
    assert torch.equal(torch.cat(numbers).sort().values, torch.arange(600))


def test_small_orders_are_drawn_as_they_always_were():
    drawn = torch.randperm(600, generator=stream(0, "shuffle", 2))
    assert torch.equal(Shuffle(600, 0, "shuffle", 2)(torch.arange(600)), drawn)


@pytest.mark.parametrize("where", ["tensor", "memmap", "folder"])
def test_reports_that_are_fetched_train_as_those_that_are_there(tmp_path, monkeypatch, where):
    expected, fetched = model(), model()
    history = fit(expected, steps=40)
    np.save(tmp_path / "0.npy", REPORTS[:350].numpy())
    np.save(tmp_path / "1.npy", REPORTS[350:].numpy())
    whole = tmp_path / "whole.npy"
    np.save(tmp_path.parent / whole.name, REPORTS.numpy())
    mapped = np.load(tmp_path.parent / whole.name, mmap_mode="r")
    monkeypatch.setattr(batches, "SMALL", 0)
    monkeypatch.setattr(batches, "FIRST", 3)
    monkeypatch.setattr(batches, "AHEAD", 64 * 2 * 4 * 7)  # seven steps
    reports = {"tensor": REPORTS, "memmap": mapped, "folder": tmp_path}[where]
    found = fit(fetched, reports, steps=40)
    assert found.loss == history.loss
    assert found.nll == history.nll
    assert torch.equal(weights(fetched), weights(expected))


def test_a_training_from_files_is_taken_up_where_it_stopped(tmp_path, monkeypatch):
    np.save(tmp_path / "y.npy", REPORTS.numpy())
    path = tmp_path / "run.ckpt"
    straight, resumed = model(), model()
    expected = fit(straight, tmp_path, steps=20)
    monkeypatch.setattr("privgan.training.watchers.SAVE_EVERY", -1.0)
    with monkeypatch.context() as patch:
        between, calls = pg.EntropicLoss.between, []

        def dies(self, x, y, a):
            calls.append(1)
            if len(calls) == 9:
                raise KeyboardInterrupt
            return between(self, x, y, a)

        patch.setattr(pg.EntropicLoss, "between", dies)
        with pytest.raises(KeyboardInterrupt):
            fit(model(), tmp_path, steps=20, checkpoint=path)
    assert fit(resumed, tmp_path, steps=20, checkpoint=path).loss == expected.loss
    assert torch.equal(weights(resumed), weights(straight))
    np.save(tmp_path / "y.npy", REPORTS.numpy() + 1)
    with pytest.raises(ValueError, match="belongs to another training: its reports"):
        fit(model(), tmp_path, steps=20, checkpoint=path)


def test_a_bad_row_of_a_file_ends_the_training_by_its_number(tmp_path):
    reports = REPORTS.numpy().copy()
    np.save(tmp_path / "y.npy", reports)
    _, rest = split(as_rows("reports", tmp_path), 0.05, 0)
    row = int(rest.numbers(torch.tensor([0])))
    reports[row, 1] = np.inf
    np.save(tmp_path / "y.npy", reports)
    with pytest.raises(ValueError, match=rf"reports has .* at row {row} \(column 1\)"):
        fit(model(), tmp_path)


def test_a_file_of_reports_that_no_record_gives_is_named(tmp_path):
    channel = pg.RandomizedResponse(2, 0.8)
    bits = channel.privatize(torch.eye(2).repeat(300, 1), seed=0).numpy()
    np.save(tmp_path / "y.npy", bits)
    loss = pg.EntropicLoss.matched(channel)
    settings = {"steps": 9, "batch_size": 60, "progress": False}
    pg.fit(pg.Atoms(torch.eye(2)), tmp_path, loss, **settings)
    bits[417] = 1.0
    np.save(tmp_path / "y.npy", bits)
    with pytest.raises(ValueError, match="first at row 417"):
        pg.fit(pg.Atoms(torch.eye(2)), tmp_path, loss, holdout=0.0, **settings)


def test_a_scale_is_estimated_from_a_file_as_from_a_tensor(tmp_path):
    np.save(tmp_path / "y.npy", REPORTS.numpy())
    settings = {"steps": 3, "batch_size": 64, "progress": False}
    there, here = (
        pg.training.estimate_scale(y, pg.Gaussian, (0.2, 0.4), model, **settings)
        for y in (tmp_path, REPORTS)
    )
    assert there == here
