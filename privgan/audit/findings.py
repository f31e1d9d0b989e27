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
from privgan.audit.attack import certified, draw, epsilon_figure, likelihood_ratios, mu_figure
from privgan.audit.experiments import Experiment, experiments, together
from privgan.audit.extremes import extreme_records, independent_parts, reports_directions
from privgan.audit.goodness import (
    bonferroni,
    count_p_value,
    direction_p_value,
    line_p_value,
    sampled_p_values,
    survives_extreme_uniforms,
)
from privgan.mechanisms import Mechanism, Sampled
from privgan.mechanisms.budget import gaussian_epsilon, gaussian_mu
from privgan.mechanisms.categorical import Categorical
from privgan.surroundings import usual

SIGNIFICANCE = 1e-4  # p-values below it refute the sampler
CONFIDENCE = 1 - SIGNIFICANCE  # of each certified lower bound
# For each record, reports held against the density: along lines, which takes a while, and counted.
FIT_REPORTS, COUNTED = 2000, 20_000
FIT_NUMBERS, FEWEST = 2**17, 160  # numbers in reports along lines, of which wide ones are fewer
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
        named = {finding.check: finding for finding in self.findings}
        if check not in named:
            raise KeyError(f"no check {check!r} was made; those made are {', '.join(named)}")
        return named[check]

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


@usual()
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
    applies: densities compared exactly (for delta 0), or the least delta of all the noise together
    by its published law, exact for Gaussian noise and to a few thousandths otherwise; the
    sampler against its own density (by 2000 reports of each record; where they have more than 65
    columns by fewer, down to 160), and at extreme uniform draws; a likelihood-ratio attack on
    two records as far apart as any, by ``reports`` reports of each, certified; and the same attack
    read in Gaussian terms, which is sharper there. The same ``seed`` repeats it.

    Raises ValueError where the mechanism's domain is not known, and for Gaussian noise without a
    delta, for it has no epsilon then.

    >>> mech = pg.RandomizedResponse.calibrate(epsilon=1.0, k=3)
    >>> pg.audit.audit(mech, epsilon=0.5, reports=1000).passed  # it spends more
    False
    """
    checks.instance("mechanism", mechanism, Mechanism)
    epsilon = checks.positive("epsilon", epsilon)
    delta = checks.fraction("delta", delta)
    reports = checks.positive_int("reports", reports)
    records = extreme_records(mechanism)
    parts = independent_parts(mechanism)
    normal = [part for part, _, _ in parts if part.budget().mu > 0.0]
    others = [(k, part) for k, (part, _, _) in enumerate(parts) if part not in normal]
    if normal and delta == 0.0:
        raise ValueError(
            f"{normal[0]!r} has no pure epsilon: its reports may tell as much as you like; give "
            "delta in (0, 1), say 1e-5"
        )
    known: list[tuple[Experiment, int]] = []
    for _, part in others:
        first, second = extreme_records(part)[:2]
        known += experiments(part, first, second, epsilon)

    findings = [_edges(mechanism, records[min(2, len(records) - 1)])]
    if delta > 0.0 and (normal or known):
        findings.append(_hockey_stick(normal, together(known), epsilon, delta))
    elif delta == 0.0:
        ranges = [_log_range(part, seed, f"range, part {k}") for k, part in others]
        told = sum(experiment.largest * times for experiment, times in known)
        findings.append(_oscillation(max(sum(ranges), told), epsilon))
    findings.append(_fit(mechanism, records[:3], seed))
    scores = likelihood_ratios(mechanism, records[0], records[1], reports, seed)
    findings.append(_attack(scores, epsilon, delta))
    if delta > 0.0 and len(normal) == len(parts):
        findings.append(_mu(scores, epsilon, delta))
    return Audit(mechanism, epsilon, delta, tuple(findings))


def _edges(mechanism: Mechanism, x: Tensor) -> Finding:
    passed = survives_extreme_uniforms(mechanism, x)
    words = "stay finite and possible" if passed else "become infinite, or impossible"
    return Finding(
        "extreme draws",
        passed,
        claimed=1.0,
        found=float(passed),
        words=f"extreme draws: reports {words} where a uniform draw is 0 or next to 1",
    )


def _log_range(mechanism: Mechanism, seed: int, purpose: str) -> float:
    """max over reports of max_x log k - min_x log k, over extreme records and some reports.

    With noise along coordinates the extreme records themselves, taken as reports, attain the
    largest difference; piecewise constant densities attain it on a set that is drawn often.
    """
    records = extreme_records(mechanism)
    drawn = torch.cat(
        [
            torch.cat(draw(mechanism, x, PROBES, seed, f"{purpose}, record {i}"))
            for i, x in enumerate(records[:PROBES])
        ]
    )
    reports = [drawn[drawn.isfinite().all(1)]]
    centres = mechanism.forward(records)
    if centres.shape[1] == drawn.shape[1] and not isinstance(mechanism, Sampled):
        reports.append(centres)
    log = torch.cat([mechanism.log_density(records, y) for y in reports], 1)
    log = log[:, log.amax(0) != -torch.inf]  # the others never come; NaN is to be seen
    return float((log.amax(0) - log.amin(0)).max())


def _oscillation(found: float, epsilon: float) -> Finding:
    """Pure privacy is a statement on the density alone: max_x log k - min_x log k <= epsilon.

    Independent parts reach their extremes together, so theirs add.
    """
    return Finding(
        "oscillation",
        found <= epsilon * (1.0 + ROUNDING),
        claimed=epsilon,
        found=found,
        words=f"oscillation: log densities of one report differ by up to {found:.6g} nats between "
        f"records, {epsilon:g} are allowed",
    )


def _hockey_stick(
    normal: list[Mechanism], told: Experiment, epsilon: float, delta: float
) -> Finding:
    """delta(epsilon) between the farthest records, from below.

    Between two centres the log density of Gaussian noise drops by mu^2 / 2, and drops of parts add.
    """
    half = 0.0
    for part in normal:
        ends = extreme_records(part)[:2]
        log = part.log_density(ends[:1], part.forward(ends))[0]
        half += float(log[0] - log[1])
    found = told.delta(epsilon, math.sqrt(2 * half))
    return Finding(
        "hockey stick",
        found <= delta * (1.0 + 1e-6),
        claimed=delta,
        found=found,
        words=f"hockey stick: delta is at least {found:.6g} at epsilon {epsilon:g}, {delta:g} is "
        "allowed",
    )


def _fit(mechanism: Mechanism, records: Tensor, seed: int) -> Finding:
    """The least p-value over a few records and parts, times their number (Bonferroni)."""
    numbers = torch.ones(mechanism.report_dim(records.shape[1]), dtype=torch.bool)
    parts = independent_parts(mechanism)
    categories = [p for p in parts if isinstance(p[0], Categorical)]
    directions = [p for p in parts if reports_directions(p[0])]
    for _, _, reports in categories + directions:
        numbers[reports] = False
    p = []
    lines = max(FEWEST, min(FIT_REPORTS, FIT_NUMBERS // len(numbers)))
    n = COUNTED if categories else lines
    for i, x in enumerate(records):
        if isinstance(mechanism, Sampled):
            y = torch.cat(draw(mechanism, x, COUNTED, seed, f"fit, record {i}"))
            p += sampled_p_values(mechanism, x, y)
            continue
        y = torch.cat(draw(mechanism, x, n, seed, f"fit, record {i}"))
        if numbers.any():
            p.append(line_p_value(mechanism, x, y[:lines], numbers))
        p += [direction_p_value(part, x[c], y[:, r]) for part, c, r in directions]
        p += [count_p_value(part, x[columns], y[:, r]) for part, columns, r in categories]
    found = bonferroni(p)
    return Finding(
        "goodness of fit",
        found >= SIGNIFICANCE,
        claimed=SIGNIFICANCE,
        found=found,
        words=f"goodness of fit: reports follow the density with p-value {found:.3g}, "
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
