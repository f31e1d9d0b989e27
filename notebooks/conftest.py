"""How nbval runs the notebooks: one kernel each, over sockets, without those that lack data."""

import contextlib
import os
from pathlib import Path

import nbval.kernel
import yaml

from privgan.artifact import data, run, tables

if os.environ.get("PRIVGAN_DATA_DIR"):  # kernels run in this folder, pytest perhaps elsewhere
    os.environ["PRIVGAN_DATA_DIR"] = str(data.data_dir().resolve())

PLANS = yaml.safe_load((Path(__file__).parent / "scales.yaml").read_text())
NEEDED = {
    "mnist": lambda: (data.mnist("train"), data.mnist("test")),
    "tables": lambda: [tables.fetched(name) for name in tables.SOURCES],
}
collect_ignore, reasons = [], []
for kind, fetch in NEEDED.items():
    try:
        fetch()
    except data.DataUnavailable as error:
        missing = [f"{name}.ipynb" for name, plan in PLANS.items() if plan.get("data") == kind]
        collect_ignore += missing
        reasons.append(f"not run, for want of data: {', '.join(missing)}\n{error}")


def pytest_report_header():
    return reasons


# Kernels that start side by side would race for ports.
open_sockets = contextlib.ExitStack()
nbval.kernel.KernelManager = open_sockets.enter_context(run.sockets(nbval.kernel.KernelManager))


def pytest_unconfigure():
    open_sockets.close()
