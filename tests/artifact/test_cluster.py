"""Sweeps on a real cluster of dask: two workers, in processes of their own."""

import os
import sys
import time

import pytest
import torch
from distributed import LocalCluster
from joblib import parallel_config
from projects import WORK, template
from test_sweep import outputs, trainings

from privgan.artifact import run as runner
from privgan.artifact import sweep

quiet = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def cluster():
    settings = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(processes=True, silence_logs=50, **settings) as started:
        yield started


@pytest.fixture
def address(cluster):
    return cluster.scheduler_address


@quiet
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


SWEEPS = """
import os
from pathlib import Path
from privgan.artifact import sweep
pids = sweep.side_by_side(os.getpid, [()] * 40)
Path(out_dir, "pids").write_text(" ".join(map(str, {os.getpid(), *pids})))
"""


@quiet
def test_a_notebooks_sweeps_run_where_its_runner_says(address, project, monkeypatch):
    template(project, WORK, SWEEPS)
    monkeypatch.setenv(sweep.CLUSTER, "")  # put back afterwards
    arguments = ["run", "run", "toy", "--into", str(project / "figures"), "--cluster", address]
    monkeypatch.setattr(sys, "argv", arguments)
    runner.main()
    with sweep.cluster(address):
        workers = set(sweep.side_by_side(os.getpid, [()] * 40))
    seen = {int(pid) for pid in (project / "figures" / "pids").read_text().split()}
    assert seen > workers
    assert len(seen) == 3  # the kernel, and two workers


@quiet
def test_checkpoints_are_where_the_caller_is(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(sweep.CLUSTER, address)
    sweep.fit_all(trainings(), checkpoint_dir="kept")
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == [
        f"seed {seed}.pt" for seed in range(3)
    ]


@pytest.mark.parametrize("wrong", ["tcp://127.0.0.1:9", "nowhere://here", "127.0.0.1:x"])
def test_where_nobody_answers_no_notebook_is_started(project, monkeypatch, wrong):
    monkeypatch.setattr(sweep, "PATIENCE", 0.5)
    monkeypatch.setattr(runner, "execute", None)
    arguments = ["run", "run", "toy", "--into", str(project / "figures"), "--cluster", wrong]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        runner.main()
    assert str(caught.value) == (
        f"run: no dask scheduler answers at {wrong}; start one there, or name no cluster"
    )


def test_dask_is_asked_for_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    named = sweep.cluster("tcp://127.0.0.1:9")
    with pytest.raises(ImportError, match="pip install 'dask"), named:
        pass


@quiet
def test_a_cluster_without_workers_is_refused(cluster):  # the last: its workers do not come back
    cluster.scale(0)
    while cluster.scheduler_info["workers"]:
        time.sleep(0.05)
    named = sweep.cluster(cluster.scheduler_address)
    with pytest.raises(OSError, match="has no workers; start some first"), named:
        pass
