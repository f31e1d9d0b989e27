"""Where the Triton loops are tested.

Without a device they run in Triton's interpreter, in a process of its own: Triton decides on
import which of the two it is, for everything. On a device the same checks run compiled.
"""

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor

import pytest


@pytest.fixture(scope="module", params=["interpreter", pytest.param("cuda", marks=pytest.mark.gpu)])
def on(request):
    """Run a function, given the device as its first argument, where Triton can run."""
    pytest.importorskip("triton")
    if request.param == "cuda":
        yield lambda check, *arguments: check("cuda", *arguments)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn) as process:
        with pytest.MonkeyPatch.context() as environment:  # as it is when the process starts
            environment.setenv("TRITON_INTERPRET", "1")
            process.submit(os.getpid).result()
        yield lambda check, *arguments: process.submit(check, "cpu", *arguments).result()
