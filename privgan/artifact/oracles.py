"""Closed forms and slow, safe references, one function an equation. float64 throughout."""

import numpy as np
from scipy.special import betaincinv, expit, ive, logsumexp, xlogy

TERMS = 2**18  # of a series, held at a time


def two_point_plan(gap: float, reg: float) -> np.ndarray:
    """Plan of the cost [[0, gap], [gap, 0]] with uniform marginals.

    By symmetry P = [[p, 1/2 - p], [1/2 - p, p]], and stationarity of
    2 (1/2 - p) gap + reg * sum P log(P / (1/4)) gives p = expit(gap / reg) / 2.
    """
    p, q = expit(gap / reg) / 2, expit(-gap / reg) / 2  # 1/2 - p would cancel
    return np.array([[p, q], [q, p]])


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
    variances = linear_gaussian_minimiser(s, reg, latent_dim)  # s - reg/2 where they are kept
    return float(0.5 * np.log1p(variances / (reg / 2)).sum())


def gaussian_w2(a: np.ndarray, b: np.ndarray) -> float:
    """W2 between N(0, a) and N(0, b): its square is tr a + tr b - 2 tr (a^1/2 b a^1/2)^1/2."""
    return float(np.sqrt(root_distance(square_root(a), square_root(b))))


def square_root(a: np.ndarray) -> np.ndarray:
    """The symmetric square root of a covariance (d, d), which may be singular."""
    values, vectors = np.linalg.eigh(a)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T


def root_distance(left: np.ndarray, right: np.ndarray) -> float:
    """Squared W2 between centred Gaussians of covariances L L^T and R R^T, both (d, d).

    It is min |L - R Q|^2 over rotations Q, at Q = U V^T where R^T L = U S V^T: a square, where
    tr (A + B) - 2 tr (A^1/2 B A^1/2)^1/2 would lose all its digits to A near B. Bhatia, Jain, Lim,
    "On the Bures-Wasserstein distance between positive definite matrices", 2019.
    """
    u, _, vt = np.linalg.svd(right.T @ left)
    return float(np.square(left - right @ (u @ vt)).sum())


def product_eigenvalues(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Eigenvalues of a^1/2 b a^1/2, which are those of a b, for covariances (d, d)."""
    # Squares of the singular values of a^1/2 b^1/2: small ones keep twice as many digits.
    return np.linalg.svd(square_root(a) @ square_root(b), compute_uv=False) ** 2


def maximum_likelihood(channel: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The law whose reports through ``channel`` (k, m) are likeliest to be as they are, by EM.

    p_i <- p_i sum_j frequencies_j k(y_j | x_i) / (p k)_j, until p rests to 1e-13.
    """
    seen = frequencies > 0  # a report that never came says nothing, even an impossible one
    p = np.full(len(channel), 1 / len(channel))
    for _ in range(200_000):
        new = p * (channel[:, seen] @ (frequencies[seen] / (p @ channel[:, seen])))
        if abs(new - p).sum() < 1e-13:
            return new
        p = new
    raise AssertionError("the reference itself did not converge")


def likelihood_variation(channel: np.ndarray, law: np.ndarray, n: int) -> float:
    """Expected total variation to ``law`` (k,) of its maximum-likelihood estimate, as n grows.

    channel: k(y | x), (k, m). One report's information about the law is J = k diag(1 / P_Y) k^T.
    J law = 1, so on laws, whose weights sum to 1, the estimate's covariance is
    (J^-1 - law law^T) / n. Errors are normal: E|e| = sqrt(2 / pi) of a standard deviation.
    """
    information = (channel / (law @ channel)) @ channel.T
    variances = np.diag(np.linalg.inv(information)) - law**2
    return float(np.sqrt(2 / np.pi * variances / n).sum() / 2)


def maximum_likelihood_weights(density: np.ndarray, iterations: int = 400) -> np.ndarray:
    """Nonparametric maximum likelihood on fixed atoms, by EM.

    density: k(y_j | x_i), (atoms, reports). Each step is w_i <- w_i mean_j k_ij / (w k)_j.
    """
    weights = np.full(len(density), 1.0 / len(density))
    for _ in range(iterations):
        weights = weights * (density @ (1.0 / (weights @ density))) / density.shape[1]
    return weights


def vertex(x: np.ndarray, y: np.ndarray) -> float:
    """Where the parabola through the least of ``y`` (n,) and its two neighbours is least."""
    low = min(max(int(np.argmin(y)), 1), len(y) - 2)
    near = slice(low - 1, low + 2)
    square, slope, _ = np.polyfit(x[near], y[near], 2)
    return float(-slope / (2 * square))


def gaussian_entropic_value(a: np.ndarray, b: np.ndarray, reg: float) -> float:
    """Entropic OT of N(0, a) to N(0, b), (d, d) covariances, under the squared L2 cost.

    A Gaussian coupling with canonical covariances c_i has <P, C> = tr a + tr b - 2 sum c_i and
    KL = -sum log(1 - c_i^2 / s_i) / 2, with s_i the eigenvalues of a^(1/2) b a^(1/2). Stationary:
    c_i^2 + reg c_i / 2 = s_i, so c_i = sqrt(s_i + reg^2 / 16) - reg / 4 and
    KL = sum log(1 + 2 c_i / reg) / 2. Janati et al. 2020, "Entropic optimal transport between
    unbalanced Gaussian measures has a closed form"; their reg is half of this one.
    """
    s = product_eigenvalues(a, b)
    c = s / (np.sqrt(s + reg**2 / 16) + reg / 4)  # sqrt(...) - reg / 4, which would cancel
    return float(np.trace(a) + np.trace(b) - 2 * c.sum() + reg / 2 * np.log1p(2 * c / reg).sum())


def gaussian_information(variance: float, sigma: float, dim: int) -> float:
    """I(X; Y) in nats for X ~ N(0, variance I) and Y = X + N(0, sigma^2 I)."""
    return dim / 2 * float(np.log1p(variance / sigma**2))


def matched_fluctuation(sigma: float, dim: int) -> float:
    """sqrt(n) times the standard deviation of the matched value between n and n Gaussian points.

    To first order the value's error is the sampling error of E f(X) + E g(Y). At the matched pair
    f is constant and g(y) = -reg log p_Y(y) up to a constant, where -log p_Y(Y) is half a
    chi-squared of dim degrees of freedom, of variance dim / 2; reg is 2 sigma^2.
    """
    return 2 * sigma**2 * float(np.sqrt(dim / 2))


def matched_bias(variance: float, sigma: float, dim: int) -> float:
    """n times the mean excess of the matched value between n and n Gaussian points, as n grows.

    The plan's density is sum_k rho_k phi_k(x) psi_k(y). A sampling error (mu_k, nu_k) of the two
    laws in that basis moves the potentials by f_k = reg (rho_k^2 mu_k - rho_k nu_k) / (1 - rho_k^2)
    and g_k alike; half of E sum (f_k mu_k + g_k nu_k) is reg / n sum_k rho_k^2 / (1 - rho_k^2). For
    Gaussians rho_k^2 = r^m with r = variance / (variance + sigma^2), comb(m + dim - 1, m) times;
    with r^m / (1 - r^m) = sum_j r^(j m), and m summed first, it is sum_j ((1 - r^j)^-dim - 1).
    """
    log_r = -np.log1p(sigma**2 / variance)
    last, total = (40 + np.log(dim)) / -log_r, 0.0  # beyond, r^j dim is below 1e-17
    for first in np.arange(1.0, last + 1, TERMS):
        j = np.arange(first, min(first + TERMS, last + 1))
        power = np.exp(j * log_r)
        # log(1 - power), in the form that keeps its digits.
        left = np.where(power < 0.5, np.log1p(-power), np.log(-np.expm1(j * log_r)))
        total += np.expm1(-dim * left).sum()
    return 2 * sigma**2 * float(total)


def gaussian_excess(
    mean: np.ndarray, covariance: np.ndarray, truth: np.ndarray, sigma: float
) -> float:
    """Matched loss of N(mean, covariance), less that of the raw law N(0, truth): >= 0.

    A shift of the mean adds its square and leaves the best coupling as it is.
    """
    reports, reg = truth + sigma**2 * np.eye(len(truth)), 2 * sigma**2
    value, least = (gaussian_entropic_value(a, reports, reg) for a in (covariance, truth))
    return value + float(mean @ mean) - least


def fitted_gaussian(y: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance that fit reports (n, d) best: theirs, less sigma^2 an eigenvalue."""
    eigenvalues, axes = np.linalg.eigh(np.cov(y.T, bias=True))
    return y.mean(0), axes * linear_gaussian_minimiser(eigenvalues, 2 * sigma**2) @ axes.T


def gaussian_fit_excess(variance: float, sigma: float, dim: int) -> float:
    """n times the mean excess loss of the Gaussian with the mean of n reports and their covariance
    less sigma^2 I, as n grows; the raw law is N(0, variance I).

    The value is a sum over eigenvalues a, stationary at a = variance, of second derivative
    1 / (2 variance + sigma^2) there. With b = variance + sigma^2 the squared error of the
    covariance is b^2 dim (dim + 1) / n, and that of the mean, which adds itself, b dim / n.
    """
    b = variance + sigma**2
    return b**2 * dim * (dim + 1) / (2 * (2 * variance + sigma**2)) + b * dim


def sorted_transport(x: np.ndarray, y: np.ndarray) -> float:
    """Squared W2 between two samples (n,) on the line: sort both and pair them in order."""
    return float(((np.sort(x) - np.sort(y)) ** 2).mean())


def certified_epsilon(tpr: np.ndarray, fpr: np.ndarray, n: int, confidence: float = 0.99) -> float:
    """What an attack of these rates certifies of epsilon at best, from ``n`` reports of each kind.

    tpr, fpr: how often reports of x, and of x', fall into each of the sets that it chooses from.
    Counts at their expectations, and Clopper-Pearson's bounds on the rates, half of the error each.
    """
    alpha = (1 - confidence) / 2
    hits, false = n * np.asarray(tpr, float), n * np.asarray(fpr, float)
    low, high = betaincinv(hits, n - hits + 1, alpha), betaincinv(false + 1, n - false, 1 - alpha)
    return float(np.log(low / high).max())


def laplace_rates(epsilon: float, cells: int = 2001) -> tuple[np.ndarray, np.ndarray]:
    """How often 1 + N, and N, exceed each t in [0, 1], where N is Laplace noise of scale 1/epsilon.

    These are the sets that the likelihood ratio of records 1 and 0 orders reports by.
    """
    t = np.linspace(0, 1, cells)
    return 1 - np.exp(-epsilon * (1 - t)) / 2, np.exp(-epsilon * t) / 2


def ring_log_density(radius: np.ndarray, sigma: float) -> np.ndarray:
    """Log density of a uniform point of the unit circle plus N(0, sigma^2 I), at a radius.

    (2 pi sigma^2)^-1 exp(-(r^2 + 1) / (2 sigma^2)) I_0(r / sigma^2); ive(0, z) is I_0(z) e^-z.
    """
    r = np.asarray(radius, float)
    spread = sigma**2
    return -((r - 1) ** 2) / (2 * spread) + np.log(ive(0, r / spread) / (2 * np.pi * spread))


def ring_distance(sigma: float) -> float:
    """W2 between the circle and its blur: by symmetry every point moves along its radius."""
    r, mass = _ring_masses(sigma)
    return float(np.sqrt(mass @ (r - 1) ** 2))


def ring_blurred_twice(sigma: float) -> float:
    """Nats a report that the law of the reports, taken for that of the records, loses to it.

    The law of reports, privatized, is the circle blurred by sqrt(2) sigma: the loss is
    KL(circle + sigma N || circle + sqrt(2) sigma N).
    """
    r, mass = _ring_masses(sigma)
    return float(mass @ (ring_log_density(r, sigma) - ring_log_density(r, np.sqrt(2) * sigma)))


def _ring_masses(sigma: float) -> tuple[np.ndarray, np.ndarray]:
    r = np.linspace(0, 1 + 12 * sigma, 20_001)
    mass = r * np.exp(ring_log_density(r, sigma))
    return r, mass / mass.sum()


def matched_value(nats: float, sigma: float, dim: int) -> float:
    """The matched loss of any raw law under Gaussian noise: dim sigma^2 + 2 sigma^2 I(X; Y).

    At the raw law the plan is "draw a record, then privatize it": it pays the noise's energy.
    """
    return dim * sigma**2 + 2 * sigma**2 * nats
