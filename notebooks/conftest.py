"""How nbval runs the notebooks: one kernel each, over sockets, without those that lack data."""

import contextlib
import os
from pathlib import Path

import nbval.kernel
import yaml

from privgan.artifact import data, run

if os.environ.get("PRIVGAN_DATA_DIR"):  # kernels run in this folder, pytest perhaps elsewhere
    os.environ["PRIVGAN_DATA_DIR"] = str(data.data_dir().resolve())

PLANS = yaml.safe_load((Path(__file__).parent / "scales.yaml").read_text())
NEED_MNIST = [f"{name}.ipynb" for name, plan in PLANS.items() if plan.get("data") == "mnist"]

try:
    data.mnist("train"), data.mnist("test")
    collect_ignore = []
except data.DataUnavailable as error:
    collect_ignore = NEED_MNIST
    reason = str(error)


def pytest_report_header():
    if collect_ignore:
        return f"not run, for want of MNIST: {', '.join(collect_ignore)}\n{reason}"
    return None


# Kernels that start side by side would race for ports.
open_sockets = contextlib.ExitStack()
nbval.kernel.KernelManager = open_sockets.enter_context(run.sockets(nbval.kernel.KernelManager))


def pytest_unconfigure():
    open_sockets.close()
