"""Does a mechanism keep its promise? Checks that can refute it, and never prove it.

A promise of (epsilon, delta) is a statement about every pair of records and every set of reports.
Each check below looks at some of them: what it finds broken is broken, what it passes may still
break elsewhere. Nothing here looks at timing, at the random generator's seed, or at the low bits
of floating-point noise, for which only `privgan.release` is made.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from privgan import checks
from privgan.attack import certified, draw, epsilon_figure, likelihood_ratios, mu_figure
from privgan.extremes import extreme_records
from privgan.goodness import count_p_value, line_p_value, survives_extreme_uniforms
from privgan.mechanisms import Mechanism
from privgan.privacy import gaussian_epsilon, gaussian_mu

SIGNIFICANCE = 1e-4  # p-values below it refute the sampler
CONFIDENCE = 0.99  # of each certified lower bound
FIT_REPORTS = 3000  # for each record whose reports are held against the density
PROBES = 64  # reports of each record at which densities are compared
ROUNDING = 1e-9  # relative, allowed to what is computed without sampling


@dataclass(frozen=True)
class Finding:
    """What one check found.

    claimed: what the promise implies, in the unit of ``found``. found: the statistic, or a lower
    bound that holds with confidence `CONFIDENCE`. words: both in a sentence.
    """

    check: str
    passed: bool
    claimed: float
    found: float
    words: str


@dataclass(frozen=True)
class Audit:
    """The findings on one mechanism under a claim of ``epsilon`` (nats) and ``delta``."""

    mechanism: Mechanism
    epsilon: float
    delta: float
    findings: tuple[Finding, ...]

    @property
    def passed(self) -> bool:
        """Whether no check refuted the claim; which does not prove it."""
        return all(finding.passed for finding in self.findings)

    def __getitem__(self, check: str) -> Finding:
        return next(finding for finding in self.findings if finding.check == check)

    def describe(self) -> str:
        """Every finding in words, and what they amount to."""
        at = f"epsilon {self.epsilon:g}" + (f" at delta {self.delta:g}" if self.delta else "")
        lines = [f"{self.mechanism!r}, claimed to have {at} for a whole record:"]
        lines += [f"  {'passed' if f.passed else 'FAILED'}  {f.words}" for f in self.findings]
        lines.append(
            "No check refuted the claim. An audit can falsify, never certify."
            if self.passed
            else "The claim does not hold."
        )
        return "\n".join(lines)


def audit(
    mechanism: Mechanism,
    epsilon: float,
    delta: float = 0.0,
    *,
    reports: int = 200_000,
    seed: int = 0,
) -> Audit:
    """Try to refute that reports of ``mechanism`` are (epsilon, delta)-private for whole records.

    The records compared are extreme ones of the mechanism's public domain. Runs every check that
    applies: densities compared exactly (for delta 0) or by quadrature (Gaussian noise); the
    sampler against its own density, and at extreme uniform draws; a likelihood-ratio attack on
    two records as far apart as any, by ``reports`` reports of each, certified; and the same attack
    read in Gaussian terms, which is sharper there. The same ``seed`` repeats it.

    Raises ValueError where the mechanism's domain is not known.
    """
    checks.instance("mechanism", mechanism, Mechanism)
    epsilon = checks.positive("epsilon", epsilon)
    delta = checks.fraction("delta", delta)
    reports = checks.positive_int("reports", reports)
    records = extreme_records(mechanism)
    probes = [
        torch.cat(draw(mechanism, x, PROBES, seed + i)) for i, x in enumerate(records[:PROBES])
    ]
    first, second = records[:2]
    findings = [_edges(mechanism, records)]
    if delta == 0.0:
        findings.append(_oscillation(mechanism, epsilon, records, probes))
    elif mechanism.budget().mu > 0.0:
        findings.append(_hockey_stick(mechanism, epsilon, delta, records))
    findings.append(_fit(mechanism, torch.stack([first, second, records.mean(0)]), seed))
    scores = likelihood_ratios(mechanism, first, second, reports, seed)
    findings.append(_attack(scores, epsilon, delta))
    if mechanism.budget().mu > 0.0 and mechanism.budget().pure == 0.0 and delta > 0.0:
        findings.append(_mu(scores, epsilon, delta))
    return Audit(mechanism, epsilon, delta, tuple(findings))


def _edges(mechanism: Mechanism, records: Tensor) -> Finding:
    passed = survives_extreme_uniforms(mechanism, records.mean(0))
    words = "stay finite and possible" if passed else "become infinite, or impossible"
    return Finding(
        "extreme draws",
        passed,
        claimed=1.0,
        found=float(passed),
        words=f"extreme draws: reports {words} where a uniform draw is 0 or next to 1",
    )


def _oscillation(
    mechanism: Mechanism, epsilon: float, records: Tensor, probes: list[Tensor]
) -> Finding:
    """Pure privacy is a statement on the density alone: max_x log k - min_x log k <= epsilon.

    Exact over these records and reports. With noise along coordinates the extreme records
    themselves, as reports, already attain the largest difference.
    """
    y = torch.cat(probes)
    reports = [y[y.isfinite().all(1)]]
    centres = mechanism.forward(records)
    if centres.shape[1] == y.shape[1]:
        reports.append(centres)
    found = max(_spread(mechanism.log_density(records, part)) for part in reports)
    return Finding(
        "oscillation",
        found <= epsilon * (1.0 + ROUNDING),
        claimed=epsilon,
        found=found,
        words=f"oscillation: log densities of one report differ by up to {found:.6g} nats between "
        f"records, {epsilon:g} are allowed",
    )


def _spread(log_density: Tensor) -> float:
    """The largest difference within a column; -inf everywhere means that it never comes."""
    comes = log_density.amax(0) > -torch.inf
    log_density = log_density[:, comes]
    return float((log_density.amax(0) - log_density.amin(0)).max())


def _hockey_stick(mechanism: Mechanism, epsilon: float, delta: float, records: Tensor) -> Finding:
    """delta(epsilon) between the two farthest records, by quadrature.

    Around Gaussian noise everything across the line through two records is common to both, so
    delta = E[(1 - e^(epsilon - L))_+] is an integral along it, L the log-likelihood ratio there.
    """
    first, second = records[:2]
    centres = mechanism.forward(records[:2])
    step = centres[1] - centres[0]
    drop = mechanism.log_density(first[None], centres)[0]
    # log k falls by 1/(2 s^2) at the other centre, s in units of their distance
    s = 1.0 / math.sqrt(2.0 * float(drop[0] - drop[1]))
    t = torch.linspace(-40.0 * s, 1.0 + 40.0 * s, 200_001).double()
    log = torch.cat(
        [
            mechanism.log_density(torch.stack([first, second]), centres[0] + part[:, None] * step)
            for part in t.split(20_000)
        ],
        dim=1,
    )
    density = (log[0] - log[0].max()).exp()
    excess = density * -torch.expm1(torch.clamp(epsilon - (log[0] - log[1]), max=0.0))
    found = float(torch.trapezoid(excess, t) / torch.trapezoid(density, t))
    return Finding(
        "hockey stick",
        found <= delta * (1.0 + 1e-6),
        claimed=delta,
        found=found,
        words=f"hockey stick: delta is {found:.6g} at epsilon {epsilon:g}, {delta:g} is allowed",
    )


def _fit(mechanism: Mechanism, records: Tensor, seed: int) -> Finding:
    """The least p-value over a few records, times their number (Bonferroni)."""
    smallest = 1.0
    for i, x in enumerate(records):
        y = torch.cat(draw(mechanism, x, FIT_REPORTS, seed + 1000 + i))
        few = len(y.unique(dim=0)) < len(y) / 2
        smallest = min(smallest, (count_p_value if few else line_p_value)(mechanism, x, y))
    p = min(1.0, smallest * len(records))
    return Finding(
        "goodness of fit",
        p >= SIGNIFICANCE,
        claimed=SIGNIFICANCE,
        found=p,
        words=f"goodness of fit: reports follow the density with p-value {p:.3g}, "
        f"below {SIGNIFICANCE:g} they do not",
    )


def _attack(scores: tuple[np.ndarray, np.ndarray], epsilon: float, delta: float) -> Finding:
    low = max(0.0, certified(scores, epsilon_figure(delta), 1.0 - CONFIDENCE))
    return Finding(
        "likelihood ratio",
        low <= epsilon,
        claimed=epsilon,
        found=low,
        words=f"likelihood ratio: an attack shows epsilon >= {low:.4g} with confidence "
        f"{CONFIDENCE:g}, {epsilon:g} is claimed",
    )


def _mu(scores: tuple[np.ndarray, np.ndarray], epsilon: float, delta: float) -> Finding:
    """As Gaussian trade-offs are ordered by mu alone, any one operating point bounds all."""
    mu = max(0.0, certified(scores, mu_figure, 1.0 - CONFIDENCE))
    low = gaussian_epsilon(delta, mu) if mu > 0.0 else 0.0
    return Finding(
        "mu",
        mu <= gaussian_mu(epsilon, delta),
        claimed=epsilon,
        found=low,
        words=f"mu: for Gaussian noise the attack shows mu >= {mu:.4g}, so epsilon >= {low:.4g} "
        f"with confidence {CONFIDENCE:g}, {epsilon:g} is claimed",
    )
