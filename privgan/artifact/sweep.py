"""Independent trainings side by side, one thread each, resumable one by one.

They run in processes of this machine, or on whatever engine joblib is told to use.
"""

import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import torch
from joblib import Parallel, delayed, parallel_config
from joblib.parallel import LokyBackend, SequentialBackend, get_active_backend
from torch import Tensor

from privgan import checks
from privgan.generators import Generator
from privgan.training import fit
from privgan.training.state import History

CLUSTER = "PRIVGAN_CLUSTER"  # the environment's word for where sweeps run, if nobody says
PATIENCE = 10.0  # seconds that a scheduler has to answer


def fit_all(
    trainings: Mapping[str, Mapping[str, Any]],
    *,
    jobs: int | None = None,
    checkpoint_dir: str = "",
) -> dict[str, History]:
    """`fit` for every entry of ``trainings``: its name, and the arguments of `fit`.

    The generators are trained in place, so each needs weights of its own. jobs: trainings at a
    time, by default as many as torch has threads, and one on a CUDA device; each runs on one
    thread, so the results do not depend on ``jobs``. checkpoint_dir: a folder for a checkpoint a
    training; none if empty.

    What a training warns of is warned of here, after its name, once all are done. Raises
    ValueError where two trainings have one generator, TypeError for what `fit` does not take.
    """
    _check_settings(trainings)
    _check_apart(trainings)
    folder = checks.as_path("checkpoint_dir", checkpoint_dir) if checkpoint_dir else None
    folder = folder and folder.absolute()  # other processes may work in another one
    calls = []
    for name, settings in trainings.items():
        save = {} if folder is None else {"checkpoint": folder / f"{name}.pt"}
        calls.append(({"progress": False, **settings, **save},))
    results = side_by_side(_trained, calls, jobs)
    for settings, (weights, _, _) in zip(trainings.values(), results, strict=True):
        settings["generator"].load_state_dict(weights)
        settings["generator"].eval()
    for name, (_, _, messages) in zip(trainings, results, strict=True):
        for message in messages:
            warnings.warn(f"{name}: {message}", RuntimeWarning, stacklevel=2)
    return {name: history for name, (_, history, _) in zip(trainings, results, strict=True)}


def _check_settings(trainings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise unless every training has a file's name, a generator, and what `fit` takes."""
    checks.instance("trainings", trainings, Mapping)
    for name, settings in trainings.items():
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"trainings has {name!r}, which no file can be called; rename it")
        checks.instance(f"trainings[{name!r}]", settings, Mapping)
        if unknown := settings.keys() - inspect.signature(fit).parameters.keys():
            raise TypeError(f"trainings[{name!r}] has {min(unknown)!r}, which fit does not take")
        checks.instance(f"the generator of {name!r}", settings.get("generator"), Generator)


def _check_apart(trainings: Mapping[str, Mapping[str, Any]]) -> None:
    """Raise ValueError where two trainings would move the same weights or write the same file."""
    owners: dict[Any, str] = {}
    for name, settings in trainings.items():
        taken: dict[Any, str] = {
            id(p): "generator's weights" for p in settings["generator"].parameters()
        }
        if settings.get("checkpoint") is not None:
            path = checks.as_path("checkpoint", settings["checkpoint"])
            taken[path.resolve()] = "checkpoint"
        if both := owners.keys() & taken.keys():
            first = both.pop()
            raise ValueError(
                f"{owners[first]!r} and {name!r} share their {taken[first]}; give each its own"
            )
        owners |= dict.fromkeys(taken, name)


def _trained(settings: dict[str, Any]) -> tuple[dict[str, Tensor], History, list[str]]:
    # Another process's warnings would only reach its stderr.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", RuntimeWarning)
        history = fit(**settings)
    messages = [str(w.message) for w in caught if issubclass(w.category, RuntimeWarning)]
    return settings["generator"].state_dict(), history, messages


def side_by_side(
    function: Callable[..., Any], calls: Iterable[tuple[Any, ...]], jobs: int | None = None
) -> list[Any]:
    """``[function(*arguments) for arguments in calls]``, ``jobs`` at a time in other processes.

    jobs: by default as many as torch has threads, and one on a CUDA device; on an engine that
    ``joblib.parallel_config`` names, as many as its cluster has. Where nobody names one, the
    environment's ``PRIVGAN_CLUSTER`` is the address of a `cluster`. Each call runs on one thread,
    so that results do not depend on ``jobs``.
    """
    checks.function("function", function, "privgan.report_nll")
    each = [
        checks.sequence(f"calls[{k}]", call, "arguments")
        for k, call in enumerate(checks.sequence("calls", calls, "tuples of arguments"))
    ]
    with _named(), warnings.catch_warnings():
        jobs = checks.positive_int("jobs", _at_a_time() if jobs is None else jobs)
        # The solver keeps memory between solves; joblib takes it for a leak, and replaces a
        # worker between two calls. None is lost.
        warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
        return Parallel(n_jobs=jobs)(delayed(_alone)(function, *call) for call in each)


def _at_a_time() -> int:
    if (engine := _engine()) is not None:
        return engine.effective_n_jobs(-1)
    return 1 if torch.cuda.is_available() else torch.get_num_threads()


def _engine() -> Any:
    """What joblib was told to use, if anything but this machine's processes."""
    engine, _ = get_active_backend()
    return None if isinstance(engine, LokyBackend | SequentialBackend) else engine


def _named() -> AbstractContextManager[None]:
    """The cluster that the environment names, unless the caller has chosen an engine."""
    return cluster("" if _engine() is not None else os.environ.get(CLUSTER, ""))


@contextmanager
def cluster(address: str = "") -> Iterator[None]:
    """Within it sweeps run on the dask cluster whose scheduler has this address.

    If it is empty, on this machine. The cluster's workers need this package, in this version, and
    see files under the same paths. Raises OSError where no scheduler answers, or has no workers,
    ImportError without the package dask.
    """
    checks.instance("address", address, str)
    if not address:
        yield
        return
    with _client(address) as client, parallel_config("dask"):
        if not client.ncores():
            raise OSError(f"the cluster at {address} has no workers; start some first")
        yield


def _client(address: str) -> Any:
    try:
        from distributed import Client  # only where there is a cluster
    except ImportError as error:
        raise ImportError("a cluster needs dask: pip install 'dask[distributed]'") from error
    try:
        return Client(address, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no dask scheduler answers at {address}; start one there, or name no cluster"
        ) from error


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return function(*arguments)
    finally:
        torch.set_num_threads(threads)
