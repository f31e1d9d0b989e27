"""Matrix products are in full precision, whatever torch has been told, which it still is after."""

import pytest
import torch
from norms import points
from torch.utils._python_dispatch import TorchDispatchMode

import privgan as pg
from privgan.mechanisms.categorical import CategoryCost
from privgan.sinkhorn import Euclidean, SquaredL2
from privgan.surroundings import full_precision


def precisions():
    return (torch.backends.cuda.matmul.fp32_precision, torch.backends.mkldnn.matmul.fp32_precision)


class Products(TorchDispatchMode):
    """Notes the precision at which every matrix product is made."""

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.found.append(precisions())
        return func(*args, **(kwargs or {}))


def set_new():
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


def set_old():
    torch.backends.cuda.matmul.allow_tf32 = True


def set_all():
    torch.backends.fp32_precision = "tf32"


def set_one_of_them():
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"


SWITCHES = [set_new, set_old, set_all, set_one_of_them]
SWITCHES.append(lambda: torch.set_float32_matmul_precision("medium"))


def reset():
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for switch in (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul):
        switch.fp32_precision = "none"


@pytest.fixture(params=SWITCHES)
def lowered(request):
    """Matrix products allowed in low precision, by each of torch's switches."""
    reset()
    request.param()
    yield
    reset()


MAP = pg.LinearMap(torch.ones(2, 30), pg.Laplace(1.0, bounds=pg.Box(0.0, 1.0, dim=2)))
PLAN = torch.ones(4, 3, dtype=torch.float64)
MATMULS = {
    "matrix": lambda x, y: SquaredL2().matrix(x, y),
    "gradient": lambda x, y: SquaredL2().gradient(x, y, PLAN),
    "reduced": lambda x, y: SquaredL2().reduced_in(x, y, PLAN.clone()),
    "euclidean": lambda x, y: Euclidean().matrix(x, y),
    "category": lambda x, y: CategoryCost(0.5, 0.1).matrix(x.abs(), y.abs()),
    "category gradient": lambda x, y: CategoryCost(0.5, 0.1).gradient(x.abs(), y.abs(), PLAN),
    "map": lambda x, y: MAP.forward(x),
}


@pytest.mark.parametrize("use", MATMULS.values(), ids=MATMULS)
def test_matrix_products_are_in_full_precision_and_the_switches_as_before(use, lowered):
    x, y, before = points(4, 30, 0), points(3, 30, 1), precisions()
    assert set(before) != {"ieee"}
    with Products() as products:
        use(x, y)
    assert products.found
    assert set(products.found) == {("ieee", "ieee")}
    assert precisions() == before


def test_a_wider_switch_still_rules_afterwards():
    reset()
    try:
        for precision in ("tf32", "ieee"):
            torch.backends.fp32_precision = precision
            with full_precision():
                pass
            assert torch.backends.cuda.matmul.fp32_precision == precision
    finally:
        reset()


def test_threads_share_the_switches_of_precision():
    """The one that leaves last, not first, restores what both have found."""
    reset()
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    first, second = full_precision(), full_precision()
    try:
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert precisions()[0] == "ieee"
        second.__exit__(None, None, None)
        assert precisions()[0] == "tf32"
    finally:
        reset()
