"""How the CPU's loops are compiled (numba): once in an installation, for one range of rows.

Numba needs no compiler on the machine; the first call of each loop in a fresh installation
compiles it for about a second and the result is kept on disk, beside the package or in the user's
cache folder. Loops take numpy views of torch tensors.
"""

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any

from numba import njit
from torch import Tensor

from privgan.sinkhorn._threads import share_out, shares

# What loops call is inlined. As functions of their own they would exist twice where they are
# compiled, in other machine code than in the loop that was kept, and give other bits.
inlined = njit(forceinline=True, error_model="numpy")
inlined_fast = njit(forceinline=True, error_model="numpy", fastmath=True)
# Sums in any order that keep what is not finite: the iteration asks for it.
inlined_sum = njit(forceinline=True, error_model="numpy", fastmath={"reassoc", "contract"})

ALIGN = 4  # rows, of which some loops take four at a time: how many share them changes no bit


def compiled(function: Callable[..., Any]) -> Any:
    """``function`` compiled, and kept on disk if there is a folder to keep it in."""
    return _kept(function, nogil=True)


def compiled_fast(function: Callable[..., Any]) -> Any:
    """The same, for sums that may be taken in any order."""
    return _kept(function, nogil=True, fastmath=True)


def _kept(function: Callable[..., Any], **settings: Any) -> Any:
    settings["error_model"] = "numpy"  # which divides by zero
    try:
        return njit(cache=True, **settings)(function)
    except RuntimeError:  # numba found no folder that it could write to
        _say_that_nothing_is_kept()
        return njit(**settings)(function)


@functools.cache  # once
def _say_that_nothing_is_kept() -> None:
    warnings.warn(
        "compiled loops can be kept neither beside the package nor in a home, so that every "
        "process compiles them anew, for some ten seconds; set NUMBA_CACHE_DIR to a folder that "
        "you can write",
        RuntimeWarning,
        stacklevel=2,
    )


def by_rows(visited: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a loop over the rows ``first`` to ``last`` of its third argument; call it on all.

    visited: the argument, an array, that is visited for each of the rows. Arrays may be tensors.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        loop = compiled_fast(function)
        place = list(inspect.signature(function).parameters).index(visited) - 2

        @functools.wraps(function)
        def call(*arguments: Any) -> None:
            arrays = views(arguments)
            n = len(arrays[0])
            count, blocks = shares(n * arrays[place].size), -(-n // ALIGN)
            if count == 1:
                loop(0, n, *arrays)
                return

            def run(t: int) -> None:
                first, last = (ALIGN * (k * blocks // count) for k in (t, t + 1))
                loop(first, min(last, n), *arrays)

            share_out(run, count)

        call.loop = loop  # type: ignore[attr-defined]
        return call

    return decorate


def views(arguments: tuple[Any, ...]) -> list[Any]:
    """Numpy's views of the tensors among them."""
    return [a.detach().numpy() if isinstance(a, Tensor) else a for a in arguments]
