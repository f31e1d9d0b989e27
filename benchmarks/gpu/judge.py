"""The referee on the device: true errors in float64, by code that no entrant shares."""

import torch

MANY = 20_000  # iterations of the reference
ACCURACY = 1e-6  # marginal error at which a reference is one


class Judge:
    """Judges potentials, gradients and values of one case."""

    def __init__(self, case, x, y):
        self.case, self.x, self.y = case, x.double(), y.double()
        self.cost = _cost(self.x, self.y, case.p)  # (n, n)
        self.gradient = self.value = None

    def error(self, f, g):
        """L1 distance of both marginals of the plan of f and g from uniform, in mass."""
        n, rows, columns = self.case.n, [], 0.0
        for tile in self._tiles(1):
            density = self._density(f, g, tile)
            rows.append(density.mean(1))
            columns = columns + density.sum(0) / n
        rows = torch.cat(rows)
        return ((rows - 1).abs().mean() + (columns - 1).abs().mean()).item()

    def plain_iterations(self, tolerances, limit):
        """What plain Sinkhorn from zero potentials takes to each tolerance; None past the limit."""
        n = self.case.n
        log_kernel = self.cost / -self.case.reg
        psi = -torch.logsumexp(log_kernel, 0)
        phi = -torch.logsumexp(log_kernel + psi, 1)
        kernel = log_kernel.add_(phi[:, None]).add_(psi).exp_()
        u, v = torch.ones_like(phi), torch.ones_like(psi)
        needed, errors = {}, []
        for k in range(1, limit + 1):
            columns = kernel.T @ u
            errors.append(n * (v * columns / n - 1 / n).abs().mean())
            v = 1.0 / columns
            u = 1.0 / (kernel @ v)
            if k % 50 == 0 and torch.stack(errors[-50:]).min() <= min(tolerances):
                break
        found = torch.stack(errors).cpu()
        for tol in tolerances:
            reached = (found <= tol).nonzero()
            needed[tol] = int(reached[0]) + 1 if len(reached) else None
        return needed

    def refer(self, solve):
        """Take a float64 solution's plan for the truth, if its own marginals bear it out."""
        f, g = solve(self.cost)
        error = self.error(f, g)
        if error <= ACCURACY:
            self.gradient = self._gradient(f, g)
            self.value = (f.mean() + g.mean()).item()
        return error

    def against(self, gradient, value):
        """Relative errors of a gradient in x (L1 norm) and of a value; None without a reference."""
        if self.gradient is None:
            return None, None
        difference = (gradient.double() - self.gradient).abs().sum() / self.gradient.abs().sum()
        return difference.item(), abs(float(value) - self.value) / abs(self.value)

    def _gradient(self, f, g):
        rows, n = [], self.case.n
        for tile in self._tiles(self.case.d if self.case.p == 1 else 1):
            plan = self._density(f, g, tile) / n**2
            if self.case.p == 2:
                rows.append(2.0 * (plan.sum(1, keepdim=True) * self.x[tile] - plan @ self.y))
            else:
                rows.append(torch.ops.aten._cdist_backward(plan, self.x[tile], self.y, 1.0, plan))
        return torch.cat(rows)

    def _density(self, f, g, tile):
        exponent = (f.double()[tile, None] + g.double()).sub_(self.cost[tile])
        return exponent.div_(self.case.reg).exp_()

    def _tiles(self, each):
        """Rows with at most 2^26 numbers, ``each`` for every pair."""
        step = max(1, 2**26 // (self.case.n * each))
        return [slice(k, k + step) for k in range(0, self.case.n, step)]


def _cost(x, y, p):
    if p == 1:
        return torch.cdist(x, y, p=1.0)
    if x.shape[1] <= 4:
        pairs = zip(x.unbind(1), y.unbind(1), strict=True)
        return sum((xk[:, None] - yk).square() for xk, yk in pairs)
    centre = y.mean(0)
    x, y = x - centre, y - centre
    return x.square().sum(1)[:, None] + y.square().sum(1) - 2.0 * x @ y.T
