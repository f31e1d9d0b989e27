"""Time to a certified accuracy, against the other solvers: see README.md in this folder."""

import os
from pathlib import Path

# KeOps reads it once, when it is imported, and POT imports KeOps: so before anything else.
os.environ.setdefault("KEOPS_CACHE_FOLDER", str(Path("build/bench/keops").absolute()))
