"""Reports that say what they are: values, the mechanism behind them, what they have cost.

A curator who gets such a file needs nothing else: the matched loss follows from the mechanism.
"""

import io
import json
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from privgan import checks
from privgan.files import write_atomically
from privgan.mechanisms import Mechanism
from privgan.plain import from_plain, to_plain

FORMAT = "privgan reports 1"
KINDS = (Mechanism,)


@dataclass(frozen=True, eq=False)
class Reports:
    """Privatized records (n, d) with what produced them.

    epsilon, delta: the budget of each *whole record*, in nats; epsilon is None where nothing is
    promised. bounds: the public domain of the records, None if nobody declared one. simulation:
    True for reproducible floating-point noise, whatever the mechanism would promise on paper.
    """

    values: Tensor
    mechanism: Mechanism
    simulation: bool
    epsilon: float | None = None
    delta: float = 0.0
    bounds: Any = None
    version: str = metadata.version("privgan")

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", checks.as_records("values", self.values))
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
            "bounds": to_plain(self.bounds),
        }

    def describe(self) -> str:
        """What these are, in words."""
        n, d = self.values.shape
        made = f"{n} reports of {d} columns through {self.mechanism!r}"
        within = "" if self.bounds is None else f" for records in {self.bounds!r}"
        if self.epsilon is None:
            budget = "No budget is stated."
        else:
            budget = f"Each whole record spends epsilon {self.epsilon:.6g}"
            budget += f" at delta {self.delta:g}." if self.delta else "."
        if not self.simulation:
            return f"{made}{within}, released. {budget}"
        return (
            f"{made}{within}: a simulation, which protects nobody. Its noise is floating-point and "
            f"can be repeated. On paper: {budget[0].lower()}{budget[1:]}"
        )

    def save(self, path: str | Path) -> None:
        """Write one ``.npz`` file, whole or not at all; without pickle.

        Raises OSError naming the path.
        """
        buffer = io.BytesIO()
        text = np.array(json.dumps(self.metadata))
        np.savez(buffer, values=self.values.detach().cpu().numpy(), metadata=text)
        write_atomically(Path(path), buffer.getvalue(), "reports")

    @classmethod
    def load(cls, path: str | Path) -> "Reports":
        """Reports as they were saved.

        Raises FileNotFoundError, or ValueError for a file that is damaged, is something else, or
        names a mechanism that is not known here.
        """
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
                from_plain(said["bounds"], KINDS),
                said["version"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path} holds no reports that can be used: {error}") from error


def simulate(
    x: Tensor | np.ndarray,
    mechanism: Mechanism,
    *,
    seed: int | None = None,
) -> Reports:
    """``mechanism.privatize(x, seed=seed)`` as `Reports` that say they are a simulation."""
    checks.instance("mechanism", mechanism, Mechanism)
    return Reports(checks.as_float_tensor("x", mechanism.privatize(x, seed=seed)), mechanism, True)
