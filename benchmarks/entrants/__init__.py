"""The entrants: each from the same arrays to the entropic OT value and its gradient in x.

An entrant is built for a case (which moves the points into its framework), then `solve(knob)`
is what is timed and `answer(result)` is what is judged: both potentials in the convention of
privgan, ``P_ij = a_i b_j exp((f_i + g_j - C_ij) / reg)``, the gradient and the value.

Its other libraries are imported by the entrant that needs them, so that the memory and the
threads of one are never charged to another.
"""

from benchmarks.entrants.entrant import Answer, Entrant
from benchmarks.entrants.geom import GeomLoss, GeomLossFlat, GeomLossMultiscale, GeomLossOnline
from benchmarks.entrants.keops import KeOps
from benchmarks.entrants.ott_jax import OTT, OTTMomentum
from benchmarks.entrants.ours import Privgan
from benchmarks.entrants.pot import POTKernel, POTLog, POTStabilized

__all__ = ["ENTRANTS", "TITLES", "Answer", "Entrant"]

# Fastest first, by and large: what runs early is safe when a run is cut short.
ENTRANTS: dict[str, type[Entrant]] = {
    "privgan": Privgan,
    "ott": OTT,
    "ott-momentum": OTTMomentum,
    "pot-kernel": POTKernel,
    "pot-stabilized": POTStabilized,
    "pot-log": POTLog,
    "geomloss": GeomLoss,
    "geomloss-flat": GeomLossFlat,
    "geomloss-online": GeomLossOnline,
    "geomloss-multiscale": GeomLossMultiscale,
    "keops": KeOps,
}
TITLES = {
    "privgan": "privgan",
    "ott": "OTT-JAX",
    "ott-momentum": "OTT-JAX (momentum)",
    "pot-kernel": "POT (sinkhorn)",
    "pot-stabilized": "POT (stabilized)",
    "pot-log": "POT (log)",
    "geomloss": "GeomLoss",
    "geomloss-flat": "GeomLoss (not annealed)",
    "geomloss-online": "GeomLoss (online)",
    "geomloss-multiscale": "GeomLoss (multiscale)",
    "keops": "KeOps",
}
