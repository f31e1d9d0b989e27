"""The statistician's own answer to noise: nonparametric maximum likelihood on a grid, by EM."""

from collections.abc import Sequence
from functools import reduce

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from privgan import checks
from privgan.generators import Atoms
from privgan.mechanisms import Mechanism
from privgan.reports import Reports
from privgan.reports.collection import values_of
from privgan.surroundings import usual


@usual(grad=False)
def nonparametric_mle(
    reports: ArrayLike | Reports,
    mechanism: Mechanism,
    axes: Sequence[Tensor],
    start: Atoms | None = None,
    *,
    iterations: int = 400,
) -> Atoms:
    """The law on a grid in the plane that makes ``reports`` (n, 2) likeliest, as weighted atoms.

    axes: the grid's coordinates, two float tensors (k,), (l,); public, never read off the reports.
    ``mechanism`` must noise each coordinate on its own: Gaussian or Laplace, say. EM from uniform
    weights, w_i <- w_i mean_j k(y_j | x_i) / (w k)_j, never lowers the likelihood; stopped after
    ``iterations`` it is smoother than the maximum, which is a few spikes. Kiefer and Wolfowitz
    1956; Laird 1978. ``start`` continues from an earlier result on the same grid, so that the
    likelihood of further reports can choose among several stops of one run. All is computed in
    float64; the atoms come in the finer precision of reports and axes.

    Raises ValueError where the density is not a product over coordinates, where ``start`` has
    other points than the grid, and at a report whose density is zero wherever the law may have
    weight: on all of the grid, or where ``start`` has some.
    """
    checks.instance("mechanism", mechanism, Mechanism)
    reports, axes = values_of("reports", reports), checks.sequence("axes", axes, "tensors")
    if reports.shape[1] != 2 or len(axes) != 2:
        raise ValueError(f"{reports.shape[1]} columns and {len(axes)} axes; this is for the plane")
    iterations = checks.positive_int("iterations", iterations)
    axes = [checks.as_float_tensor(f"axes[{k}]", axis) for k, axis in enumerate(axes)]
    for k, axis in enumerate(axes):
        if axis.ndim != 1 or not len(axis):
            raise ValueError(f"axes[{k}] has shape {tuple(axis.shape)}; coordinates are (k,)")
        checks.check_finite(f"axes[{k}]", axis)
    precision = reduce(torch.promote_types, [axis.dtype for axis in axes], reports.dtype)
    reports, *axes = (v.detach().to(reports.device).double() for v in (reports, *axes))
    points = torch.cartesian_prod(*axes)
    if start is not None:
        checks.instance("start", start, Atoms)
        if not torch.equal(start.points.to(points), points):
            raise ValueError(
                f"start has {len(start.points)} points that are not the {len(points)} of this "
                "grid; give an earlier result with the same axes"
            )
    across, down = (
        mechanism.log_density(_along(axis, axes, k), _along(y, axes, k))
        for k, (axis, y) in enumerate(zip(axes, reports.unbind(1), strict=True))
    )
    corner = torch.stack([axis[:1] for axis in axes], 1)
    across = across - mechanism.log_density(corner, corner)  # what both have beside their own
    few = (across[:, None, :9] + down[None, :, :9]).flatten(0, 1)
    if not torch.allclose(few, mechanism.log_density(points, reports[:9]), rtol=1e-3, atol=1e-3):
        raise ValueError(f"{mechanism!r} does not noise each coordinate on its own")

    # A density that is a product makes each step two small matrix products, exactly. A report's
    # largest density is scaled to one: EM does not see it, and nothing underflows.
    across, down = (part.sub(part.amax(0)).exp() for part in (across, down))  # (k, n), (l, n)
    weights = across.new_full((len(across), len(down)), 1.0 / len(points))
    if start is not None:
        weights = start.weights.to(weights).reshape(weights.shape)
    likelihood = (weights.T @ across).mul_(down).sum(0)
    if not (likelihood > 0).all():  # NaN where a report's largest density is zero
        where = "the grid" if start is None else "the grid where start has weight"
        raise ValueError(
            f"reports row {int((~(likelihood > 0)).nonzero()[0])} has density zero on all of "
            f"{where}; widen axes, or leave the report out"
        )
    work = torch.empty_like(down), torch.empty_like(across)  # (l, n), (k, n): no memory in the loop
    for _ in range(iterations):
        likelihood = torch.mm(weights.T, across, out=work[0]).mul_(down).sum(0)  # (n,)
        weights = weights * (torch.div(across, likelihood, out=work[1]) @ down.T) / len(reports)
    atoms = Atoms(points.to(precision))
    atoms.logits.copy_(weights.flatten().log())
    return atoms.eval()


def _along(values: Tensor, axes: Sequence[Tensor], k: int) -> Tensor:
    """Points in the plane with these coordinates along axis ``k``, and the other axis's first."""
    return torch.stack(
        [values if i == k else axis[0].expand(len(values)) for i, axis in enumerate(axes)], 1
    )
