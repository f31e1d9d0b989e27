"""Problems of any size, dimension, scale and regularisation, against an independent reference.

    python tests/sinkhorn/test_random_problems.py FIRST LAST

judges more of them. The reference shares no code with the solver: costs by coordinates in NumPy,
and half-steps in the log domain with scipy, float64 throughout.
"""

import sys

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from privgan.sinkhorn import L1, Euclidean, SquaredL2, solve_samples, solver

COSTS = {"l1": L1(), "squared": SquaredL2(), "euclidean": Euclidean()}


def draw(seed):
    """Points, weights and settings: clusters, duplicates, offsets, outliers, scales and zeros."""
    r = np.random.default_rng(seed)
    n, m = (int(r.integers(1, 401 if r.random() < 0.8 else 6)) for _ in range(2))
    d = int(r.choice([1, 2, 3, 8, 9, 17, 64, 200, 800]))
    kind, dtype = str(r.choice(list(COSTS))), r.choice([np.float32, np.float64])
    x, y = r.normal(size=(n, d)), r.normal(size=(m, d)) * r.choice([0.3, 1.0, 2.0])
    if r.random() < 0.25:
        far = 10 ** r.uniform(0, 3)
        x += far * r.integers(0, 3, size=(n, 1))
        y += far * r.integers(0, 2, size=(m, 1))
    if r.random() < 0.2:
        x[: n // 2], y[: m // 2] = x[0], x[0]
    if r.random() < 0.15:
        offset = 10 ** r.uniform(1, 4)
        x, y = x + offset, y + offset
    if r.random() < 0.15:
        x[-1] += 10 ** r.uniform(2, 5)
    if r.random() < 0.15:
        y[0] -= 10 ** r.uniform(2, 5)
    if r.random() < 0.15:
        scale = 10 ** r.uniform(-9, 9)
        x, y = x * scale, y * scale
    x, y = x.astype(dtype), y.astype(dtype)
    reg = (np.median(costs(kind, x, y)) or 1.0) * 10 ** r.uniform(-4, 5)
    a, b = weights(r, n, dtype), weights(r, m, dtype)
    backend = str(r.choice(["dense", "streaming"]))
    return kind, x, y, a, b, float(reg), 10 ** r.uniform(-6, -2), backend


def weights(r, n, dtype):
    w = r.dirichlet(np.full(n, r.choice([0.1, 1.0, 100.0]))) if n > 1 else np.ones(1)
    if n > 2 and r.random() < 0.4:
        w[r.random(n) < 0.3] = 0.0
    w = w if w.sum() > 0 else np.ones(n)
    return (w / w.sum()).astype(dtype)


def costs(kind, x, y):
    x, y = x.astype(np.float64), y.astype(np.float64)
    out = np.zeros((len(x), len(y)))
    for i in range(len(x)):
        t = np.abs(x[i] - y)
        out[i] = t.sum(1) if kind == "l1" else (t**2).sum(1)
    return np.sqrt(out) if kind == "euclidean" else out


def c_transform(cost, reg, b, psi):
    """-log sum_j b_j exp(psi_j - C_ij / reg), also where that is a sum of nearly 1."""
    t = psi - cost / reg
    top = t.max(1)
    rest = np.expm1(t - top[:, None]) @ b
    near, far = top + np.log1p(np.maximum(rest, -0.9)), logsumexp(t + np.log(b), axis=1)
    return -np.where(rest > -0.5, near, far)


def pull(kind, x, y, plan):
    """sum_j P_ij dc/dx_i, and the same of sizes."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    total, size = np.zeros_like(x), np.zeros_like(x)
    for i in range(len(x)):
        t = x[i] - y
        length = np.sqrt((t**2).sum(1, keepdims=True))
        unit = np.divide(t, length, out=np.zeros_like(t), where=length > 0)
        slope = {"l1": np.sign(t), "squared": 2 * t, "euclidean": unit}[kind]
        total[i], size[i] = plan[i] @ slope, plan[i] @ np.abs(slope)
    return total, size.sum()


def judge(seed, max_iter=3000):
    """What is wrong, by name, and whether the solve converged."""
    kind, x, y, a, b, reg, tol, backend = draw(seed)
    inputs = [torch.from_numpy(t.copy()).requires_grad_() for t in (x, y, a, b)]
    found, run = [], solver._run
    with pytest.MonkeyPatch.context() as patch:

        def spy(prepared, problem, *rest):  # potentials before they are rounded to float32
            found.append((run(prepared, problem, *rest), prepared.offset / reg))
            return found[-1][0]

        patch.setattr(solver, "_run", spy)
        px, py, pa, pb = inputs
        settings = {"tol": tol, "max_iter": max_iter, "backend": backend}
        result = solve_samples(px, py, COSTS[kind], reg, pa, pb, **settings)
    result.value.backward()
    gx, gy, ga, gb = (t.grad.double().numpy() for t in inputs)

    psi = (found[0][0].psi + found[0][1]).numpy()
    cost, used, seen = costs(kind, x, y), a > 0, b > 0
    a, b = (w.astype(np.float64) / w.astype(np.float64).sum() for w in (a, b))
    pa, pb, part = a[used], b[seen], cost[used][:, seen]
    phi = c_transform(part, reg, pb, psi)
    log_plan = phi[:, None] + psi - part / reg + np.log(pb) + np.log(pa)[:, None]
    plan = np.exp(log_plan)
    error = np.abs(plan.sum(0) - pb).sum()
    value = reg * (pa @ phi + pb @ psi)
    scale, single = max(abs(value), (plan * part).sum()), x.dtype == np.float32
    # What float64 costs lose on their way to the plan, where they are that much larger than reg.
    lost = 1e-15 * cost.max() / reg
    close = max(1e-4, 2 * tol, lost) if single else max(1e-8, lost)

    wrong = []
    if not error <= 1.03 * result.error + 1e-14:
        wrong.append(f"error {error:.3g} and not {result.error:.3g}")
    if not abs(result.value.item() - value) <= (
        3e-6 * scale + 1e-7 * reg * (np.ptp(cost) > reg / 2) if single else 1e-9 * scale
    ):
        wrong.append("value")
    for name, own, pair in (("x", gx, (x, y)), ("y", gy, (y, x))):
        keep, other = (used, seen) if name == "x" else (seen, used)
        right, size = pull(kind, pair[0][keep], pair[1][other], plan if name == "x" else plan.T)
        if not np.abs(own[keep] - right).sum() <= close * size or own[~keep].any():
            wrong.append(f"gradient in {name}")
    slack = 1e-5 * np.ptp(cost) + 3e-7 * cost.max() if single else 1e-8 * np.ptp(cost)
    full_psi = np.zeros(len(b))
    full_psi[seen], full_psi[~seen] = psi, c_transform(cost[used][:, ~seen].T, reg, pa, phi)
    full_phi = c_transform(cost[:, seen], reg, pb, psi)
    for name, own, right in (("a", ga, reg * full_phi), ("b", gb, reg * full_psi)):
        off = own - right
        if not np.ptp(off) <= slack:  # potentials are known up to a constant
            wrong.append(f"gradient in {name}")
    if backend == "dense":
        formed = result.plan().double().numpy()
        off = np.abs(formed.sum(0) - b).sum() + np.abs(formed.sum(1) - a).sum()
        if not off <= 1.03 * result.error + (3e-6 if single else 1e-12):
            wrong.append(f"plan, whose marginals are off by {off:.3g} and not {result.error:.3g}")
    return wrong, result.converged


@pytest.mark.parametrize("seed", range(40))
def test_value_gradients_and_certificate_are_right(seed):
    wrong, _ = judge(seed, max_iter=500)
    assert not wrong, draw(seed)[0]


if __name__ == "__main__":
    slow = bad = 0
    for seed in range(*map(int, sys.argv[1:3])):
        wrong, converged = judge(seed)
        slow, bad = slow + (not converged), bad + bool(wrong)
        if wrong or not converged:
            kind, x, y, _, _, reg, tol, backend = draw(seed)
            print(
                seed, kind, x.shape, y.shape, x.dtype, f"{reg:.2g}", f"{tol:.1g}", backend, end=""
            )
            print(*(wrong or ["not converged"]), sep="; ", flush=True)
    print(bad, "wrong and", slow, "not converged")
