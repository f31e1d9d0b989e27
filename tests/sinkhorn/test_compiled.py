"""The Triton loops compiled ahead of time, as a launch would, by the assembler Triton ships."""

import json
import os
import subprocess
import sys

import pytest

# A pointer that torch allocated divides by 16, sizes may; integers that are 1 become constants.
COMPILED = """
import json, re, subprocess, sys, tempfile
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from privgan.sinkhorn import _triton_dense_loops as dense
from privgan.sinkhorn import _triton_loops as streaming

architecture = int(sys.argv[1])
SINGLE = "own other own_potential other_potential largest total x y plan out cost kernel v partial"
DOUBLE = "numbers phi0 phi psi psi0 a b plain log_q best_phi best_psi steps residuals gram parts"
TYPES = dict.fromkeys(SINGLE.split(), "*fp32") | dict.fromkeys(DOUBLE.split(), "*fp64")
TYPES |= {"sums": "*fp64", "scale": "fp32"}
SIZES = "n", "m", "d", "stride", "start", "x_row", "y_row"


def resources(loop, warps, aligned, constants):
    types = TYPES | dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, "i32") for name in loop.arg_names}
    attributes = {
        (place,): [["tt.divisibility", 16]]
        for place, name in enumerate(loop.arg_names)
        if signature[name].startswith("*") or (aligned and name in SIZES and name not in constants)
    }
    source = ASTSource(loop, signature=signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", architecture, 32)
    built = triton.compile(source, target=target, options={"num_warps": warps})
    assert "tf32" not in built.asm["ptx"] and ".local" not in built.asm["ptx"], loop
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(built.asm["cubin"])
        file.flush()
        dump = [triton.knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        told = subprocess.run(dump, capture_output=True, text=True, check=True).stdout
    found = {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL|SHARED):(\\d+)", told)}
    return found | {"threads": 32 * warps}


TILES = {"OWN": streaming.OWN, "OTHER": streaming.OTHER}
PULL = {"ROWS": streaming.ROWS, "GROUP": streaming.GROUP}
cases = [
    (streaming.log_sums, 1, True, {"FEATURES": 2, "blocks": 1, "SQUARED": True} | TILES),
    (streaming.log_sums, 1, True, {"FEATURES": 4, "SQUARED": False} | TILES),
    (streaming.plan, 1, True, {"FEATURES": 4, "SQUARED": True} | TILES),
    (streaming.pairwise, 1, True, {"FEATURES": 4, "SQUARED": False, "x_feature": 1} | TILES),
    (streaming.pairwise, 1, False, {"FEATURES": 2, "SQUARED": True} | TILES),
    (streaming.gradients, 1, True, PULL | {"SQUARED": False}),
    (streaming.gradients, 1, False, PULL | {"SQUARED": True}),
    (streaming.gradients, 1, False, PULL | {"GROUP": 1, "d": 1, "share": 1, "SQUARED": True}),
    (dense.form, 4, True, {"BY_ROWS": True, "BLOCK": 1024}),
    (dense.form, 4, False, {"BY_ROWS": False, "BLOCK": 1024}),
    (dense.columns, 4, True, {"PARTS": 64, "BLOCK": 32}),
    (dense.settle, 8, True, {"BLOCK": 1024}),
    (dense.advance, 8, True, {"BLOCK": 1024}),
]
for rows, columns, warps in ((16, 16, 1), (16, 512, 8), (8, 1024, 8), (2, 4096, 8), (1, 16384, 16)):
    for aligned in (True, False) if columns == 1024 else (True,):
        cases.append((dense.half_steps, warps, aligned, {"ROWS": rows, "COLUMNS": columns}))
for case in cases:
    print(json.dumps([f"{case[0].__name__} {case[3]}", resources(*case)]), flush=True)
"""


@pytest.mark.parametrize("architecture", [80, 90])
def test_the_loops_compile_without_a_device(tmp_path, architecture, record_property):
    """Machine code that fits the registers: no spills, no TensorFloat32."""
    pytest.importorskip("triton")
    run = subprocess.run(
        [sys.executable, "-c", COMPILED, str(architecture)],
        env=os.environ | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = dict(json.loads(line) for line in run.stdout.splitlines())
    record_property(f"sm_{architecture}", json.dumps(found))
    for loop, uses in found.items():
        # A single register: what the assembler may put aside for another warp to fit.
        assert uses["STACK"] <= 8, f"{loop} spills"
        assert uses["LOCAL"] == 0, f"{loop} has an array in local memory"
        assert uses["REG"] * uses["threads"] <= 65536, f"{loop} does not fit a multiprocessor"
