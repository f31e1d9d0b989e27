"""Every Triton loop as a launch on a device would compile it, for a device that is not there.

    python tests/sinkhorn/launches.py > tests/sinkhorn/registers.json

The package's own calls are made on the CPU, at sizes of every class, and each launch is turned into
a compilation: types, alignments and constants are thus those that the launcher would pass. What the
assembler says of registers, stack and shared memory is printed, by loop and by what it was compiled
for; numbers that are computed meanwhile mean nothing.
"""

import json
import re
import subprocess
import sys
import tempfile
from types import SimpleNamespace
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from privgan.sinkhorn import _triton, _triton_dense
from privgan.sinkhorn._triton import TritonHalfSteps
from privgan.sinkhorn._triton_dense import Iteration
from privgan.sinkhorn.costs import L1, SquaredL2

ARCHITECTURES = 80, 90
MULTIPROCESSORS = 132  # of an H100; loads are shared out by it
# One for each way to share out a kernel matrix, and with sizes that divide by 16 and do not.
DENSE = [(250, 1000), (1000, 1024), (33, 70), (9, 400), (3, 1500), (2, 3000), (2, 6000), (1, 16384)]
POINTS = [(1024, 1024, 2), (1001, 999, 3), (1000, 1000, 784), (33, 40, 1)]


class Driver:
    """As much of a driver as a compilation asks for."""

    def __init__(self, architecture):
        self.target = GPUTarget("cuda", architecture, 32)

    def get_current_target(self):
        return self.target

    def get_current_device(self):
        return self.target.arch

    def get_current_stream(self, device):
        return 0


def launched():
    """Call everything that launches a loop."""
    for n, m in DENSE:
        for dtype in (torch.float32, torch.float64) if m == 70 else (torch.float32,):
            iteration = Iteration(
                torch.zeros((n, m), dtype=dtype), torch.zeros((n, m), dtype=dtype)
            )
            iteration.open()
            iteration.group()
            iteration.finish()
    for n, m, d in POINTS:
        x, y = torch.zeros((n, d)), torch.zeros((m, d))
        a, b = (torch.full((k,), 1.0 / k, dtype=torch.float64) for k in (n, m))
        for cost in (SquaredL2(), L1()):
            squared = isinstance(cost, SquaredL2)
            steps = TritonHalfSteps(x, y, cost, 0.1, a, b)
            phi, _ = steps(steps.start())
            steps.gradients(SimpleNamespace(phi=phi, psi=b), need_y=True)
            _triton.pairwise(x, y, torch.zeros((n, m)), squared=squared)
            _triton.plan_gradient(x, y, torch.zeros((m, n)), squared=squared)


def compiled(architecture):
    """Resources by loop and by what it was compiled for."""
    found = {}

    def launch(loop, grid):
        def compile(*arguments, **settings):
            kernel = loop.run(*arguments, grid=grid, warmup=True, **settings)
            key = described(loop, kernel)
            if key not in found:
                found[key] = resources(kernel)

        return compile

    triton.runtime.driver.set_active(Driver(architecture))
    with (
        patch.object(JITFunction, "__getitem__", launch),
        patch.object(_triton, "multiprocessors", lambda _: MULTIPROCESSORS),
        patch.object(_triton_dense, "multiprocessors", lambda _: MULTIPROCESSORS),
        torch.no_grad(),
    ):
        launched()
    return dict(sorted(found.items()))


def described(loop, kernel):
    names, source = loop.arg_names, kernel.src
    constants = {names[place[0]]: value for place, value in source.constants.items()}
    told = [f"{name}={getattr(value, 'value', value)}" for name, value in constants.items()]
    aligned = [names[p[0]] for p, attribute in source.attrs.items() if attribute]
    whole = [name for name in aligned if not source.signature[name].startswith("*")]
    loose = [n for n, t in source.signature.items() if t.startswith("*") and n not in aligned]
    wide = ["float64"] if source.signature.get("kernel") == "*fp64" else []
    parts = [*told, *wide, *(f"{n} % 16 = 0" for n in whole), *(f"{n} unaligned" for n in loose)]
    return f"{loop.__name__}: {', '.join(parts)}"


def resources(kernel):
    assert "tf32" not in kernel.asm["ptx"], kernel.name
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        dump = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        told = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    uses = {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL|SHARED):(\d+)", told)}
    return uses | {"threads": 32 * kernel.metadata.num_warps}


if __name__ == "__main__":
    wanted = [int(architecture) for architecture in sys.argv[1:]] or ARCHITECTURES
    found = {f"sm_{architecture}": compiled(architecture) for architecture in wanted}
    print(json.dumps({"triton": triton.__version__} | found, indent=1))
