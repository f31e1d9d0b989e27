"""How compiled loops are kept and shared out: in processes of their own, which may hang or die."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import privgan
from privgan.sinkhorn import L1, SquaredL2, _loops, _threads, solve_samples

LIMIT = 120  # seconds, compilation included


def run(code, tmp_path=None, **environment):
    """What a new process prints. tmp_path: a folder for compiled loops, else the usual one."""
    if tmp_path is not None:
        environment["NUMBA_CACHE_DIR"] = str(tmp_path)
    command = [sys.executable, "-W", "error", "-c", code]
    ran = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=LIMIT
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


SMALL_PARTS = """
import torch
from privgan.sinkhorn import L1, Euclidean, SquaredL2, _threads, solve_samples
_threads.PART = 100  # so that small problems are shared out too
torch.set_num_threads(2)
g = torch.Generator().manual_seed(0)
x, y = torch.randn(70, 3, generator=g), torch.randn(60, 3, generator=g)
def job(k):
    big = torch.randn(600, 600, generator=g)
    (big @ big).exp().sum()  # torch's own threads
    backend = "dense" if k % 2 else "streaming"
    return round(solve_samples(x, y, SquaredL2(), 0.5, tol=1e-4, backend=backend).value.item(), 4)
"""

FORKED = """
import multiprocessing, sys
{before}
with multiprocessing.get_context("fork").Pool(2) as pool:
    found = pool.map(job, range(4))
assert len(set(found)) == 1, found
assert job(0) == found[0], (job(0), found)
print("done")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("before", "layer"),
    [
        ("", "omp"),
        ("torch.randn(999, 999).exp().sum()", "omp"),
        ("job(0)", "omp"),
        ("job(0)", "workqueue"),
    ],
)
def test_a_forked_child_solves(before, layer):
    assert "done" in run(SMALL_PARTS + FORKED.format(before=before), NUMBA_THREADING_LAYER=layer)


THREADED = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    found = set(pool.map(job, range(40)))
assert len(found) == 1, found
print("done")
"""


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_threads_that_solve_at_once_disturb_nobody(layer):
    assert "done" in run(SMALL_PARTS + THREADED, NUMBA_THREADING_LAYER=layer)


THREADS = """
import torch
from privgan.sinkhorn import L1, SquaredL2, solve_samples
torch.set_num_threads({threads})
x = torch.randn(50, 3)
for cost, backend in ((SquaredL2(), "dense"), (L1(), "streaming")):
    solve_samples(x, x + 1, cost, 0.5, backend=backend)
    print(torch.get_num_threads())
"""


@pytest.mark.parametrize(
    ("threads", "environment"),
    [(1, {}), (1, {"OMP_NUM_THREADS": "1"}), (2, {"NUMBA_NUM_THREADS": "1"})],
)
def test_a_solve_leaves_torchs_threads_as_they_were(threads, environment):
    assert run(THREADS.format(threads=threads), **environment).split() == [str(threads)] * 2


BITS = """
import hashlib, torch
from privgan.sinkhorn import L1, Euclidean, SquaredL2, _dense_loops, _loops, solve_samples
g = torch.Generator().manual_seed(0)
x, y, plan = (torch.randn(k, generator=g) for k in ((67, 3), (131, 3), (67, 131)))
def told(*tensors):
    print([hashlib.sha256(t.detach().numpy().tobytes()).hexdigest()[:12] for t in tensors])
for dtype in (torch.float32, torch.float64):
    x_, y_, plan_ = x.to(dtype), y.to(dtype), plan.to(dtype)
    for cost in (SquaredL2(), L1(), Euclidean()):
        told(cost.matrix(x_, y_), cost.gradient(x_, y_, plan_))
        points = x_.clone().requires_grad_()
        backend = "streaming" if dtype == torch.float32 else "dense"
        r = solve_samples(points, y_, cost, 1.0, tol=1e-5, backend=backend)
        r.value.backward()
        told(r.value, r.f, points.grad)
loops = [_loops.pairwise, _loops.gradient, _dense_loops.log_kernel]
loops = [loop.loop for loop in loops] + [_dense_loops._rows, _loops._half_steps]
compiled = sum(sum(loop.stats.cache_misses.values()) for loop in loops)
print("compiled", compiled > 0)
"""


def test_a_process_that_compiles_gets_the_bits_of_those_that_find_it_on_disk(tmp_path):
    first, second = (run(BITS, tmp_path).splitlines() for _ in range(2))
    assert first.pop() == "compiled True"
    assert second.pop() == "compiled False"
    assert first == second


NOWHERE = """
import tempfile, warnings
real = tempfile.TemporaryFile
def refused(*_, dir=None, **__):  # a superuser may write everywhere, so numba is told otherwise
    raise PermissionError(13, "Permission denied", dir)
tempfile.TemporaryFile = refused
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    import privgan
    from privgan.sinkhorn import _loops
tempfile.TemporaryFile = real
import torch
out = torch.empty(4, 3)
_loops.pairwise(torch.zeros(4, 2), torch.ones(2, 3), 1, out)
assert (out == 2).all()
print([str(w.message) for w in told])
"""


def test_nothing_that_can_be_written_is_no_reason_to_fail():
    told = run(NOWHERE, HOME="/nonexistent")
    assert told.count("NUMBA_CACHE_DIR") == 1


@pytest.mark.skipif(
    shutil.which("setpriv") is None or os.name != "posix" or os.getuid() != 0,
    reason="needs to become somebody else",
)
def test_somebody_who_can_write_nothing_imports_and_computes(tmp_path):
    """Where nobody can read the installation, there is nothing to test."""
    copy = tmp_path / "privgan"
    source = Path(privgan.__file__).parent
    shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (tmp_path, *tmp_path.parents):
        if path.is_relative_to("/tmp") and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    environment = os.environ | {"HOME": "/nonexistent", "PYTHONPATH": str(tmp_path)}
    for name in ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"):
        environment.pop(name, None)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c"]
    ready = "import torch, numba, scipy"
    if subprocess.run([*nobody, ready], env=environment, cwd="/", capture_output=True).returncode:
        pytest.skip("nobody cannot read this Python")
    code = (
        "import privgan, torch; x = torch.ones(4, 2); "
        "print(privgan.__file__, privgan.sinkhorn.L1().matrix(x, 2 * x).sum().item())"
    )
    ran = subprocess.run(
        [*nobody, code], env=environment, cwd="/", capture_output=True, text=True, timeout=LIMIT
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(copy / "__init__.py"), "32.0"]


@pytest.mark.parametrize("n", [1, 3, 4, 5, 9, 64])
def test_how_many_share_a_loop_changes_no_bit(monkeypatch, n):
    g = torch.Generator().manual_seed(n)
    x, y = torch.randn((n, 20), generator=g), torch.randn((7, 20), generator=g)
    found = []
    for count in (1, 2, 3):
        monkeypatch.setattr("privgan.sinkhorn._compiled.shares", lambda _, count=count: count)
        out = torch.full((n, 7), torch.nan)
        _loops.l1_matrix(x, y, out)
        found.append(out)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_small_work_is_not_shared_out(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert [_threads.shares(k * _threads.PART) for k in (0, 1, 2, 9)] == [1, 1, 2, 3]


def test_what_fails_in_a_share_is_raised():
    def run(t):
        if t:
            raise ValueError(f"share {t}")

    with pytest.raises(ValueError, match="share 1"):
        _threads.share_out(run, 2)


def test_torchs_own_threads_are_asked():
    if "OpenMP" not in torch.__config__.parallel_info() or not Path("/proc/self/maps").exists():
        pytest.skip("torch has other threads here")
    assert _threads._team() is not None


@pytest.mark.skipif(_threads._team() is None, reason="ordinary threads would wait for each other")
def test_every_share_runs_once_even_if_nobody_is_free_to_help():
    """Inside a share, torch's threads give one thread where seven were asked for."""
    ran = []

    def outer(t):
        _threads.share_out(lambda u: ran.append((t, u)), 7)

    _threads.share_out(outer, 2)
    assert sorted(ran) == [(t, u) for t in range(2) for u in range(7)]


def test_ordinary_threads_run_every_share_once(monkeypatch):
    monkeypatch.setattr(_threads, "_team", lambda: None)
    ran = []
    _threads.share_out(ran.append, 7)
    assert sorted(ran) == list(range(7))


@pytest.mark.parametrize("cost", [SquaredL2(), L1()], ids=repr)
@pytest.mark.parametrize("backend", ["dense", "streaming"])
def test_shares_agree_with_the_whole(monkeypatch, cost, backend):
    g = torch.Generator().manual_seed(0)
    x, y = torch.randn((50, 3), generator=g), torch.randn((40, 3), generator=g)
    found = []
    for part in (_threads.PART, 100):
        monkeypatch.setattr(_threads, "PART", part)
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        points = x.clone().requires_grad_()
        r = solve_samples(points, y, cost, 0.5, tol=1e-5, backend=backend)
        r.value.backward()
        found.append((r.value.detach(), points.grad))
    for whole, parts in zip(*found, strict=True):
        assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-7)
