"""Peak resident memory of this process, from the kernel's own high-water mark.

Not ``getrusage``: its maximum is inherited from the process that started this one, and cannot
be set back after imports and compilation. Elsewhere than on Linux the answer is None.
"""

import ctypes
import gc
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak() -> int | None:
    """Bytes at the highest since the start or the last `forget_peak`."""
    if not STATUS.exists():
        return None
    (line,) = (line for line in STATUS.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    """Set the mark back to what is in use now, after handing back what is free."""
    if CLEAR.exists():
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # or blocks kept from one solve would hide the next one's
        CLEAR.write_text("5")
