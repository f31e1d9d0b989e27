"""Values and gradients on the device against float64 on the CPU, for every cost and path."""

import itertools

import torch

from privgan.sinkhorn import L1, Cost, Euclidean, SquaredL2, solve, solve_samples


class Channel(Cost):
    """Minus the log of a made-up channel, in torch operations only; not symmetric."""

    def matrix(self, x, y):
        terms = ((1.2 * a[:, None] - b).abs().pow(1.5) for a, b in zip(x.T, y.T, strict=True))
        return sum(terms)


COSTS = {"SquaredL2": SquaredL2(), "L1": L1(), "Euclidean": Euclidean(), "Channel": Channel()}
TOL = 1e-5
ENOUGH = 2e-3  # relative error of a gradient at that tolerance, from float32 costs


def measure(record, device, tiny, deadline):
    sizes = [(60, 40)] if tiny else [(300, 200), (1000, 1000)]
    for size, d in itertools.product(sizes, (2, 12) if tiny else (2, 784)):
        for name, backend in itertools.product(COSTS, ("dense", "streaming")):
            if size[0] * d > 5e5 and name in ("Euclidean", "Channel"):
                continue  # slow on the CPU
            key = f"{name} {size[0]}x{size[1]} d={d} {backend}"
            record.guarded(key, agreement, device, COSTS[name], size, d, backend)
    record.guarded("weak noise", agreement, device, SquaredL2(), (300, 200), 2, "dense", 0.03)
    record.guarded("float64", agreement, device, L1(), (300, 200), 2, "dense", 0.3, torch.float64)
    record.guarded("matrix", given_matrix, device)
    failed = [k for k, v in record.entries.items() if not (isinstance(v, dict) and v.get("right"))]
    record["wrong"] = failed


def problem(size, d, std, dtype=torch.float64):
    g = torch.Generator().manual_seed(d)
    x, y = (torch.rand((n, d), dtype=dtype, generator=g) for n in size)
    y += std * torch.randn(y.shape, dtype=dtype, generator=g)
    a, b = (torch.rand(n, dtype=dtype, generator=g) for n in size)
    a[::7] = 0.0
    return x.float().to(dtype), y.float().to(dtype), a / a.sum(), b / b.sum()


def agreement(device, cost, size, d, backend, std=0.3, dtype=torch.float32):
    """The largest relative differences of value and gradients from float64's."""
    tensors = problem(size, d, std)
    reg = std * d**0.5 if d > 2 else 2 * std**2
    exact = answer([t.clone() for t in tensors], cost, reg, "dense")
    found = answer([t.to(device, dtype) for t in tensors], cost, reg, backend)
    return comparison(exact, found)


def answer(tensors, cost, reg, backend):
    x, y, a, b = tensors
    x, y = x.requires_grad_(), y.requires_grad_()
    solved = solve_samples(x, y, cost, reg, a, b, tol=TOL, max_iter=5000, backend=backend)
    solved.value.backward()
    return solved, [solved.value.detach(), x.grad, y.grad]


def comparison(exact, found):
    solved, tensors = found
    differences = [
        ((t.cpu().double() - e).abs().max() / e.abs().max()).item()
        for e, t in zip(exact[1], tensors, strict=True)
    ]
    return {
        **dict(zip(("value", "x", "y"), differences, strict=True)),
        "error": float(solved.error),
        "n_iter": int(solved.n_iter),
        "exact_n_iter": int(exact[0].n_iter),
        "right": max(differences) < ENOUGH and bool(solved.converged),
    }


def given_matrix(device):
    """`solve` with a cost matrix that asks for its gradient."""
    x, y, a, b = problem((300, 200), 2, 0.3)
    answers = []
    for on, dtype in (("cpu", torch.float64), (device, torch.float32)):
        cost = L1().matrix(x, y).to(on, dtype).requires_grad_()
        solved = solve(cost, 0.2, a.to(on, dtype), b.to(on, dtype), tol=TOL)
        solved.value.backward()
        answers.append((solved, [solved.value.detach(), cost.grad, solved.plan()]))
    return comparison(*answers)
