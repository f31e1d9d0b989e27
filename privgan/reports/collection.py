"""Reports that say what they are: values, the mechanism behind them, what they have cost.

A curator who gets such a file needs nothing else: the matched loss follows from the mechanism.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from privgan import checks
from privgan._version import __version__
from privgan.files import write_atomically
from privgan.mechanisms import Mechanism
from privgan.mechanisms.bounds import Bounds
from privgan.plain import from_plain, to_plain

FORMAT = "privgan reports 1"
KINDS = (Mechanism, Bounds)


@dataclass(frozen=True, eq=False)
class Reports:
    """Privatized records (n, d) with what produced them.

    mechanism: with its parameters and the public bounds of the records. epsilon, delta: the budget
    that each *whole record* has spent, epsilon in nats; None if nothing was promised. simulation:
    True for reproducible floating-point noise, which protects nobody, whatever its mechanism's
    budget on paper. version: of privgan.
    """

    values: Tensor
    mechanism: Mechanism
    simulation: bool
    epsilon: float | None = None
    delta: float = 0.0
    version: str = __version__

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", checks.as_records("values", self.values).detach())
        checks.instance("mechanism", self.mechanism, Mechanism)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def metadata(self) -> dict[str, Any]:
        """Everything but the values, in plain types."""
        return {
            "format": FORMAT,
            "version": self.version,
            "simulation": self.simulation,
            "mechanism": to_plain(self.mechanism),
            "epsilon": self.epsilon,
            "delta": self.delta,
        }

    def describe(self) -> str:
        """What these are, in words."""
        n, d = self.values.shape
        made = f"{n} reports of {d} columns through {self.mechanism!r}"
        if self.simulation:
            return (
                f"{made}: a simulation, which protects nobody. Its noise is floating-point and can "
                "be repeated."
            )
        if self.epsilon is None:
            return f"{made}. What they have cost is not stated."
        at = f" at delta {self.delta:g}" if self.delta else ""
        return f"{made}, released. Each whole record has spent epsilon {self.epsilon:.7g}{at}."

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` file, whole or not at all; without pickle.

        Raises OSError naming the path.
        """
        buffer = io.BytesIO()
        text = np.array(json.dumps(self.metadata))
        np.savez(buffer, values=self.values.detach().cpu().numpy(), metadata=text)
        write_atomically(checks.as_path("path", path), buffer.getvalue(), "reports")

    @classmethod
    def load(cls, path: str | Path) -> "Reports":
        """Reports as they were saved.

        Raises FileNotFoundError, or ValueError for a file that is damaged, is something else, or
        names a mechanism that is not known here.
        """
        path = checks.as_path("path", path)
        try:
            with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
                values, said = file["values"], json.loads(str(file["metadata"]))
        except FileNotFoundError:
            raise
        except Exception as error:  # numpy and zipfile have many words for a damaged file
            raise ValueError(
                f"{path} cannot be read as reports ({type(error).__name__}); it must be a whole "
                "file that Reports.save wrote"
            ) from error
        try:
            if said["format"] != FORMAT:
                raise ValueError(f"its format is {said['format']!r}, this version reads {FORMAT!r}")
            return cls(
                values,
                from_plain(said["mechanism"], KINDS),
                said["simulation"],
                said["epsilon"],
                said["delta"],
                said["version"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no reports that can be used: {error}") from error


def values_of(name: str, reports: Any) -> Tensor:
    """The values (n, d) of `Reports`, or what else `checks.as_records` takes, without a graph."""
    if isinstance(reports, Reports):
        return reports.values
    return checks.as_records(name, reports).detach()


def simulate(
    x: Tensor | np.ndarray, mechanism: Mechanism, *, seed: int | None = None, clip: bool = False
) -> Reports:
    """``mechanism.privatize(x, seed=seed, clip=clip)`` as `Reports` that say what they are."""
    checks.instance("mechanism", mechanism, Mechanism)
    values = mechanism.privatize(checks.as_float_tensor("x", x), seed=seed, clip=clip)
    return Reports(values, mechanism, simulation=True)
