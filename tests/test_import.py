"""What `import privgan` costs, and that the library wants none of the artifact's packages."""

import statistics
import subprocess
import sys

NOTEBOOKS = ["IPython", "ipykernel", "ipywidgets", "jupyter_client", "jupyterlab", "traitlets"]
ARTIFACT = ["joblib", "matplotlib", "nbformat", "ot", "papermill", "PIL", "pooch", "requests"]
ARTIFACT += ["sklearn", "yaml", *NOTEBOOKS]

BLOCKED = """
import importlib.abc, importlib.machinery, sys

class Absent(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in sys.argv[1:]:  # torch asks where some are, and imports none
            return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        raise ImportError(f"{spec.name} belongs to the artifact")

sys.meta_path.insert(0, Absent())
try:
    import matplotlib
except ImportError:
    print("blocked")

import torch
import privgan as pg
mechanism = pg.Laplace(scale=0.2)
reports = mechanism.privatize(torch.rand(300, 2), seed=1)
model = pg.MLP(2, 2, hidden=(8,))
loss = pg.EntropicLoss.matched(mechanism)
pg.fit(model, reports, loss, steps=3, batch_size=50, progress=False)
print(tuple(model.sample(5, seed=0).shape))
"""


def python(script, *arguments):
    run = [sys.executable, "-c", script, *arguments]
    ran = subprocess.run(run, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_library_works_without_the_artifacts_packages():
    assert python(BLOCKED, *ARTIFACT).split("\n") == ["blocked", "(5, 2)", ""]


MODULES = """
import sys, torch
before = set(sys.modules)
import privgan
print(*sorted(set(sys.modules) - before))
"""
HEAVY = {*ARTIFACT, "numba", "opendp", "pandas", "triton"}
# SciPy loads these when they are first used, if only `import scipy` is written.
HEAVY_PARTS = ("scipy.cluster", "scipy.fft", "scipy.optimize", "scipy.special", "scipy.stats")


def test_it_loads_few_modules_and_no_heavy_ones():
    loaded = python(MODULES).split()
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert not [name for name in loaded if name.startswith(HEAVY_PARTS)]
    assert len(loaded) < 300  # 200 when this was written; scipy.stats alone is 500


# Processor time, which a busy machine stretches less than the clock's, within one process.
SECONDS = """
import time
start = time.process_time()
import torch
between = time.process_time()
import privgan
print(between - start, time.process_time() - between)
"""


def test_it_costs_little_more_than_torch():
    times = [[float(part) for part in python(SECONDS).split()] for _ in range(3)]
    torch_alone, ours = (statistics.median(part) for part in zip(*times, strict=True))
    # Half a second is what is promised; a machine on which torch takes longer gets as much longer.
    assert ours < max(0.5, torch_alone / 3)
