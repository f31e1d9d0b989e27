"""The papermill runner behind ``make figures``.

    python -m privgan.artifact.run run NAME [--scale paper|smoke] [--into DIR] [--parameters YAML]
        [--cluster ADDRESS]
    python -m privgan.artifact.run refresh NAME
    python -m privgan.artifact.run retell NAME [--into DIR]
    python -m privgan.artifact.run summary NAME ... [--scale paper|smoke] [--into DIR]

A notebook runs in a hidden staging folder inside its destination, by one process at a time. Only
when every cell has succeeded do its files move out of it, as `publish` describes; a run that fails
or is killed before leaves the results there as they were, and a failed one puts
``NAME.failed.ipynb`` beside them. Trainings checkpoint into ``build/`` under a hash of the sources
and parameters, so a killed run takes up where it stopped. A stamp in ``build/`` tells Make that a
notebook is done, and under which name.

ADDRESS is a dask scheduler's: sweeps then run on its workers, and find the same numbers.
"""

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import papermill
from filelock import FileLock, Timeout
from jupyter_client.manager import AsyncKernelManager

from privgan._version import __version__
from privgan.artifact import data, sweep
from privgan.artifact.claims import claims_table, write_claims
from privgan.artifact.parameters import check_parameters, mapping, template_parameters
from privgan.artifact.publish import check_whole, publish, seal, sealed
from privgan.artifact.retold import INJECTED, retold, tagged
from privgan.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
SCALES = NOTEBOOKS / "scales.yaml"
CELL_TIMEOUT = 4 * 3600  # seconds; a hung cell must not hang a build for ever
LONGEST_FOLDER = 60  # bytes; a socket's whole path must stay below about 100 everywhere


@contextlib.contextmanager
def sockets(manager: type[Any]) -> Iterator[type[Any]]:
    """A kind of kernel ``manager`` that talks over sockets in a temporary folder of its own.

    Kernels started side by side race for TCP ports; here they cannot meet. A temporary folder
    whose name is too long for a socket's gives way to /tmp.
    """
    usual = tempfile.gettempdir()
    short = usual if len(os.fsencode(usual)) <= LONGEST_FOLDER else "/tmp"
    with tempfile.TemporaryDirectory(prefix="privgan-", dir=short) as folder:

        def __init__(self: Any, **kwargs: Any) -> None:
            manager.__init__(self, **kwargs)
            own = f"{folder}/{secrets.token_hex(4)}"
            self.transport, self.ip, self.connection_file = "ipc", own, f"{own}.json"

        yield type(manager.__name__, (manager,), {"__init__": __init__})


@contextlib.contextmanager
def alone(output: Path) -> Iterator[None]:
    """Let one process at a time make ``output``; end another with a sentence that says who does.

    The system frees the lock of a process that dies.
    """
    place = hashlib.sha256(os.fsencode(output)).hexdigest()[:12]
    holder = BUILD / "locks" / f"{output.name}-{place}"
    _make_folder(holder.parent)
    try:
        with FileLock(holder, timeout=0):
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            holder.write_text(f"process {os.getpid()}, since {now}")
            yield
    except Timeout:
        raise SystemExit(
            f"{output} is being made by {holder.read_text() or 'another process'}; wait until it "
            "is done, or end it"
        ) from None


def run(name: str, scale: str, into: Path, overrides: dict[str, Any], cluster: str = "") -> None:
    """Execute one template; results appear in ``into`` only when all of it has succeeded.

    cluster: where its sweeps run, as `sweep.cluster` has it.
    """
    template = _template(name)
    plan = _plan(name)
    taken = sorted(set(overrides) & {"name", "out_dir", "checkpoint_dir"})
    if taken:
        raise ValueError(f"parameter {taken[0]!r} is set by the runner; use --into")
    given = dict(plan["paper"]) if scale == "paper" else {}
    output, stand_in = name, None
    if plan["data"] == "mnist":
        try:
            data.mnist("train"), data.mnist("test")
        except data.DataUnavailable as error:
            stand_in = "scikit-learn digits"
            output = f"{name}.digits"
            given |= plan["stand_in"]
            print(f"{name}: {error}\n{name}: running on the bundled digits instead -> {output}")
    if plan["data"] == "tables":  # none stands in for them: said before anything runs
        from privgan.artifact import tables

        for source in tables.SOURCES:
            tables.fetched(source)
    given |= overrides
    check_parameters(given, template_parameters(template), f"{SCALES.name} / {name}")
    smoke_or_figures = BUILD / "smoke" if scale == "smoke" else ROOT / "figures"
    stamp = _stamp(scale, name) if into == smoke_or_figures else None

    with sweep.cluster(cluster):  # refuses now what a cell would fail on later
        os.environ[sweep.CLUSTER] = cluster
    os.environ["PRIVGAN_STAND_IN"] = stand_in or ""  # claims are then reported, not enforced
    stage = into / f".{output}.stage"
    work = _fingerprint(template, given | {"into": os.path.relpath(into, ROOT), "scale": scale})
    checkpoints = BUILD / "checkpoints" / f"{output}-{work}"
    _make_folder(into)
    with alone(into / output):
        if sealed(into, output).exists():  # an earlier run was killed among the moves
            _put_in_place(into, output, stamp)
        shutil.rmtree(stage, ignore_errors=True)  # what a killed run left
        for folder in (stage, checkpoints):
            _make_folder(folder)
        parameters = given | {
            "name": output,
            "out_dir": os.path.relpath(stage, NOTEBOOKS),
            "checkpoint_dir": os.path.relpath(checkpoints, NOTEBOOKS),
        }
        executed = stage / f"{output}.ipynb"
        failed = into / f"{output}.failed.ipynb"
        failed.unlink(missing_ok=True)
        started = time.perf_counter()
        try:
            execute(template, executed, parameters)
        except Exception as error:  # a cell's, a dead kernel's, a timeout, a full disk
            if executed.exists():
                os.replace(executed, failed)
            kept = f"; what it did is in {failed}" if failed.exists() else ""
            raise SystemExit(f"{type(error).__name__}: {error}\n{name} failed{kept}") from None
        seconds = round(time.perf_counter() - started, 1)
        about = {"scale": scale, "seconds": seconds, "stand_in": stand_in}
        seal(stage, into, output, **about, privgan=__version__, commit=_commit())
        _put_in_place(into, output, stamp)
        if stamp and not overrides:
            write_atomically(stamp, output + "\n")
        shutil.rmtree(checkpoints)
    print(claims_table(into, [output]))


def _put_in_place(into: Path, output: str, stamp: Path | None) -> None:
    if stamp:  # from here on the place holds something else than it says
        stamp.unlink(missing_ok=True)
    publish(into, output)


def _template(name: str) -> Path:
    path = NOTEBOOKS / f"{name}.ipynb"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in NOTEBOOKS.glob("[0-9]*.ipynb")))
        raise ValueError(f"there is no notebook {name!r} in {NOTEBOOKS}; there are {known}")
    return path


def _plan(name: str) -> dict[str, Any]:
    """What scales.yaml says of a notebook: ``data``, ``paper`` and ``stand_in``."""
    source = f"{SCALES.name} / {name}"
    plan = mapping(SCALES.read_text(), SCALES.name).get(name, {})
    parts: dict[str, Any] = {"data": None, "paper": {}, "stand_in": {}}
    if not isinstance(plan, dict):
        raise ValueError(f"{source} is {plan!r}; it must be a mapping of {', '.join(parts)}")
    for key, value in plan.items():
        if key not in parts:
            raise ValueError(f"{source}: unknown key {key!r}; it may have {', '.join(parts)}")
        fits = value in ("mnist", "tables") if key == "data" else isinstance(value, dict)
        if not fits:
            expected = "mnist, tables or left out" if key == "data" else "a mapping of parameters"
            raise ValueError(f"{source}: {key} is {value!r}; it must be {expected}")
        parts[key] = value
    return parts


def refresh(name: str) -> None:
    """Re-run a template in place with its own parameters: the reference that nbval holds."""
    template = _template(name)
    part = NOTEBOOKS / f"{name}.part.ipynb"
    with alone(template):
        try:
            execute(template, part, {})
            os.replace(part, template)
        finally:
            part.unlink(missing_ok=True)


def retell(name: str, into: Path) -> None:
    """Give the executed copy of a template its text, where nothing but text has changed since.

    Raises ValueError, and changes nothing, where the code or the pictures are not those that ran.
    """
    template, executed = _template(name), into / f"{name}.ipynb"
    if not executed.exists():
        raise ValueError(f"{executed} is missing; make {name} first")
    with alone(into / name):
        check_whole(into, name)
        notebook = retold(*(nbformat.read(path, as_version=4) for path in (template, executed)))
        write_atomically(executed, nbformat.writes(notebook) + "\n")


def execute(template: Path, output: Path, parameters: dict[str, Any]) -> None:
    """papermill, with the kernel of this interpreter and an output that repeats byte for byte."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not the user's
    if os.environ.get("PRIVGAN_DATA_DIR"):  # the kernel runs in another folder
        os.environ["PRIVGAN_DATA_DIR"] = str(data.data_dir().resolve())
    with sockets(AsyncKernelManager) as manager:
        papermill.execute_notebook(
            _literally(template),
            _literally(output),
            parameters,
            kernel_name="python3",
            cwd=str(template.parent),
            progress_bar=sys.stderr.isatty(),
            execution_timeout=CELL_TIMEOUT,
            record_timing=False,
            kernel_manager_class=manager,
        )
    notebook = nbformat.read(output, as_version=4)
    notebook.metadata.pop("papermill", None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)
        if tagged(cell, INJECTED):
            cell.id = "injected-parameters"
    write_atomically(output, nbformat.writes(notebook) + "\n")


def _literally(path: Path) -> str:
    """For papermill, which fills in what stands in braces."""
    return str(path).replace("{", "{{").replace("}", "}}")


def summary(names: list[str], scale: str, into: Path) -> str:
    """The claims of the notebooks just made, and which of them ran on stand-in data.

    All that lie in ``into`` are written to its CLAIMS.md.

    Raises ValueError where a notebook has not been made, or its pictures and numbers disagree.
    """
    missing = [name for name in names if not _stamp(scale, name).exists()]
    if missing:
        raise ValueError(f"{', '.join(missing)} not made at {scale} scale yet; make figures first")
    outputs = {name: _stamp(scale, name).read_text().strip() for name in names}
    for output in outputs.values():
        check_whole(into, output)
    write_claims(into)
    lines = [claims_table(into, list(outputs.values()))]
    lines += [
        f"{name}: MNIST was not available, so this is {output}, on stand-in data; results for "
        f"MNIST itself were left untouched. Once it is, remove {_stamp(scale, name)} and repeat."
        for name, output in outputs.items()
        if output != name
    ]
    return "\n\n".join(lines)


def _stamp(scale: str, name: str) -> Path:
    return BUILD / f"{scale}-{name}.stamp"


def _fingerprint(template: Path, parameters: dict[str, Any]) -> str:
    """Names a run by everything its result depends on: code, template cells, parameters."""
    digest = hashlib.sha256(json.dumps(parameters, sort_keys=True).encode())
    package = Path(__file__).parent.parent
    for source in sorted([*package.rglob("*.py"), *package.rglob("*.mplstyle")]):
        digest.update(source.read_bytes())
    for cell in nbformat.read(template, as_version=4).cells:
        digest.update(cell.source.encode())
    return digest.hexdigest()[:12]


def _commit() -> str:
    """The commit that the sources are at, "+" if they have been changed since; "" if unknown."""
    try:
        says = ["git", "describe", "--always", "--exclude=*", "--dirty=+"]
        return subprocess.run(says, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    except OSError:  # no git here
        return ""


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SystemExit(f"cannot create {folder}: {error.strerror}") from None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m privgan.artifact.run")
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("run", help="execute one template")
    one.add_argument("name")
    one.add_argument("--parameters", default="{}", help="YAML mapping, for example '{sigma: 0.5}'")
    one.add_argument("--cluster", default="", help="a dask scheduler, for example tcp://host:8786")
    commands.add_parser("refresh", help="re-run a template in place").add_argument("name")
    text = commands.add_parser("retell", help="put a template's text into its executed copy")
    text.add_argument("name")
    table = commands.add_parser("summary", help="print the claims table")
    table.add_argument("names", nargs="+")
    for command in (one, table):
        command.add_argument("--scale", choices=("paper", "smoke"), default="paper")
    for command in (one, text, table):
        command.add_argument("--into", type=Path, default=ROOT / "figures")
    arguments = parser.parse_args()
    try:
        into = arguments.into.expanduser().resolve() if "into" in arguments else ROOT
        if arguments.command == "run":
            overrides = mapping(arguments.parameters, "--parameters")
            run(arguments.name, arguments.scale, into, overrides, arguments.cluster)
        elif arguments.command == "refresh":
            refresh(arguments.name)
        elif arguments.command == "retell":
            retell(arguments.name, into)
        else:
            print(summary(arguments.names, arguments.scale, into))
    except (ValueError, TypeError, OSError, ImportError) as error:
        raise SystemExit(f"{arguments.command}: {error}") from None


if __name__ == "__main__":
    main()
