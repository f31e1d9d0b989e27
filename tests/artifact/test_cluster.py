"""Sweeps on a real cluster of dask: two workers, in processes of their own."""

import os

import pytest
import torch
from distributed import LocalCluster
from joblib import parallel_config
from test_sweep import outputs, trainings

from privgan.artifact import sweep


@pytest.fixture(scope="module")
def address():
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(processes=True, silence_logs=50, **settings) as started:
        yield started.scheduler_address


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
def test_a_sweep_runs_on_all_workers_and_finds_the_same(address):
    here, there = trainings(), trainings()
    expected = sweep.fit_all(here, jobs=1)
    with sweep.cluster(address):
        assert sweep._at_a_time() == 2
        pids = set(sweep.side_by_side(os.getpid, [()] * 40))
        assert set(sweep.side_by_side(torch.get_num_threads, [()] * 4)) == {1}
        found = sweep.fit_all(there)
    assert os.getpid() not in pids
    assert len(pids) == 2
    assert list(found) == list(expected)
    assert all(found[name].loss == expected[name].loss for name in expected)
    assert all(torch.equal(a, b) for a, b in zip(outputs(here), outputs(there), strict=True))


def test_without_a_cluster_sweeps_stay_here():
    with sweep.cluster():
        assert sweep._at_a_time() == torch.get_num_threads()
    with parallel_config("loky"):
        assert sweep._at_a_time() == torch.get_num_threads()
