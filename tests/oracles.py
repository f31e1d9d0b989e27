"""Closed forms and slow, safe references, one function an equation. float64 throughout."""

import numpy as np
from scipy.special import expit, logsumexp, xlogy


def two_point_plan(gap: float, reg: float) -> np.ndarray:
    """Plan of the cost [[0, gap], [gap, 0]] with uniform marginals.

    By symmetry P = [[p, 1/2 - p], [1/2 - p, p]], and stationarity of
    2 (1/2 - p) gap + reg * sum P log(P / (1/4)) gives p = expit(gap / reg) / 2.
    """
    p = expit(gap / reg) / 2
    return np.array([[p, 0.5 - p], [0.5 - p, p]])


def regularised_value(plan: np.ndarray, cost: np.ndarray, reg: float) -> float:
    """<P, C> + reg * KL(P || a b^T), with a and b the marginals of P itself."""
    product = np.outer(plan.sum(1), plan.sum(0))
    divergence = (xlogy(plan, plan) - xlogy(plan, product)).sum()
    return float((plan * cost).sum() + reg * divergence)


def log_domain_sinkhorn(
    cost: np.ndarray, reg: float, a: np.ndarray, b: np.ndarray, tol: float = 1e-12
) -> tuple[np.ndarray, np.ndarray]:
    """Potentials by plain log-sum-exp iterations until the columns are exact to ``tol``."""
    f = np.zeros(len(a))
    with np.errstate(divide="ignore"):
        log_a, log_b = np.log(a), np.log(b)
    for _ in range(200_000):
        g = -reg * logsumexp((f[:, None] - cost) / reg + log_a[:, None], axis=0)
        f = -reg * logsumexp((g[None, :] - cost) / reg + log_b[None, :], axis=1)
        plan = np.outer(a, b) * np.exp((f[:, None] + g[None, :] - cost) / reg)
        if abs(plan.sum(0) - b).sum() < tol:
            return f, g
    raise AssertionError("the reference itself did not converge")


def gaussian_channel(x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """k(y_j | x_i) on a grid of reports, rows normalised to one."""
    log_density = -((x[:, None] - y[None, :]) ** 2) / (2 * sigma**2)
    return np.exp(log_density - logsumexp(log_density, axis=1, keepdims=True))


def linear_gaussian_minimiser(
    s: np.ndarray, reg: float, latent_dim: int | None = None
) -> np.ndarray:
    """Eigenvalues of the minimiser's covariance, for Gaussian reports and the squared L2 cost.

    s: eigenvalues of Cov(Y), (d,). Over all laws of X the least entropic loss is the least
    E|X - Y|^2 + reg I(X; Y) over channels from Y to X: Gaussian rate-distortion at slope reg.
    In Cov(Y)'s eigenbasis each direction minimises D + reg/2 log(s_i / D) over 0 < D <= s_i, at
    D = min(s_i, reg/2), and leaves X the variance s_i - D = max(s_i - reg/2, 0) (reverse
    water-filling; Cover and Thomas, theorem 10.3.3). What a direction gains over D = s_i grows
    with s_i, so a generator with fewer latents than that keeps the largest ``latent_dim``.
    """
    s = np.asarray(s, float)
    kept = np.argsort(-s, kind="stable")[: len(s) if latent_dim is None else latent_dim]
    variances = np.zeros_like(s)
    variances[kept] = np.maximum(s[kept] - reg / 2, 0.0)
    return variances


def linear_gaussian_information(s: np.ndarray, reg: float, latent_dim: int | None = None) -> float:
    """I(X; Y) in nats at that minimiser: the sum of 1/2 log(s_i / (reg/2)) over kept directions."""
    s = np.asarray(s, float)
    kept = s[linear_gaussian_minimiser(s, reg, latent_dim) > 0]
    return float(0.5 * np.log(2 * kept / reg).sum())


def gaussian_w2(a: np.ndarray, b: np.ndarray) -> float:
    """W2 between N(0, a) and N(0, b): its square is tr a + tr b - 2 tr (a^1/2 b a^1/2)^1/2."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return float(np.sqrt(max(np.trace(a) + np.trace(b) - 2 * cross, 0.0)))


def maximum_likelihood(channel: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The law whose reports through ``channel`` (k, m) are likeliest to be as they are, by EM.

    p_i <- p_i sum_j frequencies_j k(y_j | x_i) / (p k)_j, until p rests to 1e-13.
    """
    p = np.full(len(channel), 1 / len(channel))
    for _ in range(200_000):
        new = p * (channel @ (frequencies / (p @ channel)))
        if abs(new - p).sum() < 1e-13:
            return new
        p = new
    raise AssertionError("the reference itself did not converge")


def maximum_likelihood_weights(density: np.ndarray, iterations: int = 400) -> np.ndarray:
    """Nonparametric maximum likelihood on fixed atoms, by EM.

    density: k(y_j | x_i), (atoms, reports). Each step is w_i <- w_i mean_j k_ij / (w k)_j.
    """
    weights = np.full(len(density), 1.0 / len(density))
    for _ in range(iterations):
        weights = weights * (density @ (1.0 / (weights @ density))) / density.shape[1]
    return weights
