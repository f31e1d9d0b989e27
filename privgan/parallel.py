"""One function on many arguments, side by side on the cores, one thread each."""

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import torch
from joblib import Parallel, delayed

from privgan import checks


def side_by_side(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], jobs: int | None = None
) -> list[Any]:
    """``[function(*arguments) for arguments in calls]``, ``jobs`` at a time in other processes.

    jobs: by default as many as torch has threads, and one on a CUDA device. Each call runs on one
    thread, so that results do not depend on ``jobs``.
    """
    if jobs is None:
        jobs = 1 if torch.cuda.is_available() else torch.get_num_threads()
    jobs = checks.positive_int("jobs", jobs)
    with warnings.catch_warnings():
        # The solver keeps memory between solves; joblib takes it for a leak, and replaces a
        # worker between two calls. None is lost.
        warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
        return Parallel(n_jobs=jobs)(delayed(_alone)(function, *call) for call in calls)


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(threads)
