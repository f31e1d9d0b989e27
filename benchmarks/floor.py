"""The least time that two CPU cores could need for a value and its gradient.

Arithmetic, not measurement: two cores with AVX2 at 160 GFLOP/s in fused multiply-adds (half of
that for L1, which has none to fuse), 20 GB/s from memory and 1.5 G exponentials a second, with
nothing lost between the steps.
"""

FLOPS = 160e9
BANDWIDTH = 20e9  # bytes a second
EXPONENTIALS = 1.5e9  # a second


def seconds(n: int, d: int, p: int, iterations: int) -> float:
    """float32, n against n points in dimension d; squared L2 for p = 2, L1 for p = 1.

    An iteration reads the stored kernel once, both half-steps in one pass. ``iterations`` is
    what the entrant took, so that a cleverer method lowers the floor as well.
    """
    one_pass = 4 * n * n / BANDWIDTH
    # Squared L2 is a matrix product, 2 flops a term; L1 subtracts, drops the sign and adds.
    pairwise = 2 * n * n * d / FLOPS if p == 2 else 3 * n * n * d / (FLOPS / 2)
    cost = max(pairwise, one_pass)
    gradient = max(pairwise, one_pass)  # the plan against y, or against the signs
    return cost + n * n / EXPONENTIALS + iterations * one_pass + gradient
