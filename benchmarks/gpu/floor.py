"""The least time that a device's own ceilings allow a solve."""

ITERATION = 4e-6  # seconds: of launches that wait for each other, however small they are


def seconds(case, iterations, machine):
    """Of ``case`` in so many iterations, by what `machine` has measured of bandwidth and products.

    The cost and its gradient: 2 n m d float32 operations each for squared L2, 3 for L1, which no
    product forms. The kernel: written and read once, and read once in every iteration.
    """
    pairs = case.n * case.n
    operations = 2 * (2 if case.p == 2 else 3) * pairs * case.d
    one_pass = 4 * pairs / machine["copy_bytes_per_second"]
    formed = operations / machine["float32_flops_per_second"] + 2 * one_pass
    return formed + iterations * max(one_pass, ITERATION)
