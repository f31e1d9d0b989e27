"""nbval leaves out the notebooks whose data cannot be had, and says so."""

import os
from pathlib import Path

import yaml

from privgan import data

if os.environ.get("PRIVGAN_DATA_DIR"):  # kernels run in this folder, pytest perhaps elsewhere
    os.environ["PRIVGAN_DATA_DIR"] = str(Path(os.environ["PRIVGAN_DATA_DIR"]).resolve())

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
