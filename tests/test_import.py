"""What `import privgan` costs, and that the library wants none of the artifact's packages."""

import resource
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


def test_it_loads_few_modules_and_no_heavy_ones():
    loaded = python(MODULES).split()
    assert not {name.split(".")[0] for name in loaded} & HEAVY
    assert not [name for name in loaded if name.startswith(("scipy.stats", "scipy.optimize"))]
    assert len(loaded) < 300  # 200 when this was written; scipy.stats alone is 500


def cpu_seconds(script):
    """Processor time, which a busy machine stretches less than the clock's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    python(script)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_it_costs_little_more_than_torch():
    pairs = [(cpu_seconds("import torch"), cpu_seconds("import privgan")) for _ in range(3)]
    torch_alone, all_of_it = (statistics.median(times) for times in zip(*pairs, strict=True))
    # Half a second is what is promised; a machine on which torch takes longer gets as much longer.
    assert all_of_it - torch_alone < max(0.5, torch_alone / 3)
