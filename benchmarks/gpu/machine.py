"""The device, its software, and its two ceilings: memory bandwidth and float32 products."""

import importlib.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

import torch

from benchmarks.gpu import clock

PACKAGES = "torch", "triton", "numpy", "numba", "POT", "geomloss", "flash-sinkhorn", "hypothesis"


def measure(record, device, tiny, deadline):
    record["device"] = torch.cuda.get_device_name() if device != "cpu" else "CPU"
    record["python"] = sys.version.split()[0]
    record["versions"] = {name: _version(name) for name in PACKAGES}
    record["cuda"] = torch.version.cuda
    record["tf32"] = torch.backends.cuda.matmul.allow_tf32
    if device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        names = "multi_processor_count", "L2_cache_size", "total_memory", "major", "minor"
        record["properties"] = {name: getattr(properties, name, None) for name in names}
        record.guarded("driver", _driver)
    record["triton_found"] = importlib.util.find_spec("triton") is not None
    record.guarded("launch_seconds", launch, device)
    record.guarded("copy_bytes_per_second", bandwidth, device, 2**20 if tiny else 2**30)
    record.guarded("float32_flops_per_second", products, device, 256 if tiny else 8192)


def _version(name):
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _driver():
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


def launch(device):
    """Of an empty task's call: what every operation costs at least."""
    x = torch.zeros(1, device=device)
    return clock.median(device, lambda: [x.add_(1.0) for _ in range(100)]) / 100


def bandwidth(device, size):
    """Bytes read and written a second in a copy of ``size`` bytes."""
    source = torch.randn(size // 4, device=device)
    target = torch.empty_like(source)
    return 2 * size / clock.median(device, lambda: target.copy_(source))


def products(device, n):
    """Float32 operations a second in an n x n product, TensorFloat32 off."""
    x, y = torch.randn((2, n, n), device=device)
    return 2 * n**3 / clock.median(device, lambda: x @ y)
