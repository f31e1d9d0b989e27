"""Claims: what was predicted, what was measured, and whether it is within tolerance.

A notebook ends by turning its claims into a table, a JSON file of numbers and an assertion.
"""

import math
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from privgan import checks
from privgan._version import __version__
from privgan.artifact.publish import executed, read_numbers
from privgan.files import to_json, write_atomically

LONGEST = 7  # decimals that are read without counting


@dataclass(frozen=True)
class Claim:
    """One checked statement: ``low <= measured <= high``, with what theory predicted.

    error: the standard error of ``measured``; 0 where nothing was sampled. goal: it was asked for,
    or is what theory says of a minimiser that a training only comes near. Where it is missed the
    table says FAIL, and goes on. revised: why the tolerance, a parameter or the data were changed
    after a look; empty if none was.
    """

    claim: str
    predicted: str
    measured: float
    low: float = -math.inf
    high: float = math.inf
    goal: bool = False
    error: float = 0.0
    revised: str = ""

    def __post_init__(self) -> None:
        for name in ("measured", "low", "high", "error"):
            object.__setattr__(self, name, checks.number(name, getattr(self, name)))

    @property
    def found(self) -> str:
        """What was measured, with its standard error."""
        return found_in_words(self.measured, self.error)

    @property
    def passed(self) -> bool:
        return self.low <= self.measured <= self.high  # False for NaN, as it should be

    @property
    def tolerance(self) -> str:
        if math.isinf(self.low) and math.isinf(self.high):
            raise ValueError(f"claim {self.claim!r} has no tolerance: give low or high")
        if math.isinf(self.low):
            return f"<= {self.high:.3g}"
        if math.isinf(self.high):
            return f">= {self.low:.3g}"
        return f"{self.low:.3g} to {self.high:.3g}"

    @property
    def verdict(self) -> str:
        return "PASS" if self.passed else "FAIL"


def found_in_words(measured: float, error: float) -> str:
    """``0.2980 ± 0.0021``: both to the error's second digit; four digits where it is 0."""
    if not error:
        return f"{measured:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(error))) if math.isfinite(error) else 0
    if decimals > LONGEST:
        return f"{measured:.4g} ± {error:.2g}"
    return f"{measured:.{decimals}f} ± {error:.{decimals}f}"


def near(claim: str, expected: float, measured: Any, within: float, **about: Any) -> Claim:
    """The claim that ``measured`` is ``expected``, to ``within``.

    measured: a number, or what every seed measured, whose mean and standard error are then meant.
    """
    about = mean_and_error(measured) | about
    return Claim(claim, f"{expected:.3g}", low=expected - within, high=expected + within, **about)


def mean_and_error(values: Any) -> dict[str, float]:
    """``measured`` and ``error`` of a claim: the mean over seeds (n,), and its standard error."""
    values = np.atleast_1d(np.asarray(values, float))
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return {"measured": float(values.mean()), "error": float(error)}


def record(path: Path | str, claims: Iterable[Claim], **numbers: Any) -> None:
    """Write claims and numbers as JSON, whole or not at all.

    numbers: plain types, and numbers of NumPy and torch. Raises TypeError naming what JSON cannot
    hold.
    """
    rows = [
        {
            "claim": c.claim,
            "predicted": c.predicted,
            "measured": c.measured,
            "tolerance": c.tolerance,
            "verdict": c.verdict,
            "goal": c.goal,
            "error": c.error,
            "revised": c.revised,
        }
        for c in _claims(claims)
    ]
    for name, number in numbers.items():
        to_json(name, number)
    content = {"claims": rows, "numbers": numbers, "machine": machine()}
    write_atomically(checks.as_path("path", path), to_json("numbers", content, indent=1) + "\n")


def _claims(claims: Iterable[Claim]) -> list[Claim]:
    found = checks.sequence("claims", claims, "claims")
    for k, claim in enumerate(found):
        checks.instance(f"claims[{k}]", claim, Claim)
    return found


def verdict(claims: Iterable[Claim]) -> str:
    """The table of claims as text; AssertionError, with the table, if any claim but a goal fails.

    Claims are about the data they name. When the runner has put stand-in data in their place
    (``PRIVGAN_STAND_IN`` is set) a failure is reported in the table and raises nothing.
    """
    claims = _claims(claims)
    table = "\n".join(
        f"{c.verdict}  {c.claim}: predicted {c.predicted}, measured {c.found}, "
        f"tolerance {c.tolerance}" + (f" (revised: {c.revised})" if c.revised else "")
        for c in claims
    )
    if not all(c.passed or c.goal for c in claims) and not os.environ.get("PRIVGAN_STAND_IN"):
        raise AssertionError("a claim is outside its tolerance\n" + table)
    return table


def claims_table(folder: Path, names: list[str], markdown: bool = False) -> str:
    """Claims, verdicts and seconds from the JSON files of ``names`` in ``folder``.

    The last column says which version of the package made them, and whether it is an older one.
    """
    rows = []
    for name in names:
        content = read_numbers(folder / f"{name}.json")
        if missing := {"claims", "stand_in", "seconds", "privgan"} - content.keys():
            raise ValueError(f"{folder / name}.json says nothing of {min(missing)}; make it again")
        label = name + (f" ({content['stand_in']})" if content["stand_in"] else "")
        seconds = f"{content['seconds']:.0f}"
        version = content["privgan"]
        made_by = version if version == __version__ else f"{version}, older"
        rows += [
            (
                label,
                claim["claim"],
                claim["predicted"],
                found_in_words(claim["measured"], claim.get("error", 0.0)),
                claim["tolerance"] + (", revised" if claim.get("revised") else ""),
                claim["verdict"],
                seconds,
                made_by,
            )
            for claim in content["claims"]
        ]
    columns = "notebook claim predicted measured tolerance verdict seconds privgan"
    header = tuple(columns.split())
    if markdown:
        lines = [header, ("---",) * len(header), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[i]) for line in (header, *rows)) for i in range(len(header))]
    lines = [header, tuple("-" * w for w in widths), *rows]
    return "\n".join(
        "  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


CLAIMS = """# Every claim, as measured

What was predicted, what came out (with its standard error where it was sampled), and the tolerance
said before the run; *revised* where that was changed after a look. In 01 and 05 all tolerances were
set after an earlier or smaller run, as their text says. A goal that is missed says FAIL. Where what
was predicted is a bound, as in 06, 09, 10 and 11, nothing predicts a number: it was asked for.
"older" marks what an earlier version of the package measured. Written by `make figures`.

"""


def write_claims(folder: Path) -> None:
    """``CLAIMS.md`` in ``folder``: the claims of every notebook whose numbers are there."""
    table = claims_table(folder, [*executed(folder)], markdown=True)
    write_atomically(folder / "CLAIMS.md", CLAIMS + table + "\n")


def machine() -> dict[str, Any]:
    """What the numbers were measured on."""
    cuda = torch.cuda.is_available()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": sys.platform,
    }
