from unittest.mock import patch

import pytest
import torch

CUDA = torch.cuda.is_available()


def pytest_runtest_setup(item):
    if item.get_closest_marker("gpu") and not CUDA:
        pytest.skip("needs a CUDA device")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Only tests marked gpu meet a device: for the others "auto" is the CPU on every machine."""
    if item.get_closest_marker("gpu"):
        return (yield)
    with patch.object(torch.cuda, "is_available", lambda: False):
        return (yield)
