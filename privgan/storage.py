"""Memory for matrices, kept from one solve to the next."""

import threading

from torch import Tensor

# Storage of this many entries is kept: on a CPU, mapping fresh memory costs as much as filling it.
KEEP_ENTRIES = 2**24

_kept = threading.local()


def kept(name: str, like: Tensor, n: int, m: int) -> Tensor:
    """Uninitialised (n, m) memory; up to `KEEP_ENTRIES` the same piece at every call."""
    if n * m > KEEP_ENTRIES:
        return like.new_empty((n, m))
    key = f"{name} {like.dtype} {like.device}"
    flat = getattr(_kept, key, None)
    if flat is None or len(flat) < n * m:
        flat = like.detach().new_empty(n * m)
        setattr(_kept, key, flat)
    return flat[: n * m].view(n, m)
