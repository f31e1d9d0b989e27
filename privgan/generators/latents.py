"""A law of latents other than the standard normal, learned where reports put their latents."""

import math

import torch
from torch import Tensor, nn

ROWS = 512  # latents whose distances are formed at a time, to stay in cache


def invert(p: Tensor, u: Tensor) -> Tensor:
    """The first index at which the running sum of probabilities exceeds ``u``."""
    total = p.cumsum(-1)
    index = torch.searchsorted(total, u * total[..., -1:], right=True)
    return index.clamp_max(p.shape[-1] - 1)


class NormalMixture(nn.Module):
    """A mixture of c normals over l latents for each of k classes; k = 1 where there are none.

    weights: (k, c), summing to 1 in every row. means: (k, c, l). factors: (k, c, l, l), lower
    triangular with a positive diagonal: a component's covariance is ``factor @ factor.T``.
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, weights: Tensor, means: Tensor, factors: Tensor):
        super().__init__()
        shape = (*means.shape, means.shape[-1])
        if means.ndim != 3 or weights.shape != shape[:2] or factors.shape != shape:
            raise ValueError(
                f"weights, means and factors have shapes {tuple(weights.shape)}, "
                f"{tuple(means.shape)} and {tuple(factors.shape)}; expected (k, c), (k, c, l) and "
                "(k, c, l, l)"
            )
        self.register_buffer("weights", weights)
        self.register_buffer("means", means)
        self.register_buffer("factors", factors)

    @property
    def classes(self) -> int:
        return len(self.weights)

    def draw(self, normals: Tensor, generator: torch.Generator, label: Tensor) -> Tensor:
        """Latents (n, l) made of standard ``normals`` (n, l), each of its class in ``label``."""
        u = torch.rand((len(normals), 1), dtype=torch.float64, generator=generator)
        label = label.to(self.weights.device)
        chosen = invert(self.weights.double()[label], u.to(label.device)).squeeze(1)
        given = normals.to(self.means)
        found = torch.empty_like(given)
        which = label * self.weights.shape[1] + chosen
        # A component at a time: a factor for each latent would take l times the latents' memory.
        for part in which.unique().tolist():
            k, c = divmod(part, self.weights.shape[1])
            rows = (which == part).nonzero().squeeze(1)
            found[rows] = self.means[k, c] + given[rows] @ self.factors[k, c].T
        return found.to(normals)

    def log_density(self, z: Tensor, label: Tensor | None = None) -> Tensor:
        """Log-density of latents (n, l), each under its class in ``label`` (n,): (n,)."""
        label = torch.zeros(len(z), dtype=torch.long) if label is None else label
        found = z.new_empty(len(z))
        for k in range(self.classes):
            rows = (label.to(z.device) == k).nonzero().squeeze(1)
            own = self.weights[k], self.means[k], self.factors[k]
            found[rows] = log_components(z[rows], *own).logsumexp(1)
        return found


def log_components(z: Tensor, weights: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """log weight_c N(z; mean_c, factor_c factor_c'), (n, c), of latents (n, l)."""
    c, dim = means.shape
    inverses = torch.linalg.solve_triangular(factors, torch.eye(dim).to(factors), upper=False)
    centre = means.mean(0)  # about which nothing cancels that lies apart in units of a factor
    shift = (inverses @ (means - centre)[:, :, None]).flatten()
    columns = inverses.reshape(c * dim, dim).T
    squares = [
        ((part - centre) @ columns - shift).square_().view(-1, c, dim).sum(2)
        for part in z.split(ROWS)
    ]
    logdet = factors.diagonal(dim1=1, dim2=2).log().sum(1)
    constant = 0.5 * dim * math.log(2 * math.pi)
    return weights.log() - logdet - constant - 0.5 * torch.cat(squares)
