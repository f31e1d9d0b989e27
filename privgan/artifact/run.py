"""The papermill runner behind ``make figures``.

    python -m privgan.artifact.run run NAME [--scale paper|smoke] [--into DIR] [--parameters YAML]
    python -m privgan.artifact.run refresh NAME
    python -m privgan.artifact.run summary NAME ... [--scale paper|smoke] [--into DIR]

A notebook runs in a hidden staging folder inside its destination, by one process at a time. Only
when every cell has succeeded do its files move out of it; a run that fails or is killed before
leaves the results there as they were. The old numbers go before the first file moves and the new
ones come last, so that no picture ever lies beside another run's numbers. Trainings checkpoint
into ``build/`` under a hash of the sources and parameters, so a killed run takes up where it
stopped. A stamp in ``build/`` tells Make that a notebook is done, and under which name.
"""

import argparse
import contextlib
import hashlib
import json
import os
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
import yaml
from filelock import FileLock, Timeout
from jupyter_client.manager import AsyncKernelManager

from privgan._version import __version__
from privgan.artifact import data
from privgan.artifact.claims import claims_table
from privgan.files import write_atomically

ROOT = Path(__file__).resolve().parent.parent.parent
NOTEBOOKS = ROOT / "notebooks"
BUILD = ROOT / "build"
SCALES = NOTEBOOKS / "scales.yaml"
CELL_TIMEOUT = 3600  # seconds; a hung cell must not hang a build for ever
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
            self.transport, self.ip = "ipc", f"{folder}/k"

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


def template_parameters(template: Path) -> dict[str, Any]:
    """The defaults in a template's ``parameters`` cell."""
    cells = nbformat.read(template, as_version=4).cells
    found = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    if len(found) != 1:
        raise ValueError(f"{template.name} has {len(found)} cells tagged parameters; it needs one")
    namespace: dict[str, Any] = {}
    exec(found[0].source, namespace)  # our own template, about to be executed anyway
    namespace.pop("__builtins__")
    return namespace


def check_parameters(given: dict[str, Any], defaults: dict[str, Any], source: str) -> None:
    """Every given parameter must exist in the template and have its type.

    YAML 1.1 reads ``1e-3`` as a string; papermill would inject that string and only warn
    about a name that the template does not know.
    """
    for name, value in given.items():
        if name not in defaults:
            raise ValueError(
                f"{source}: unknown parameter {name!r}; the template has {', '.join(defaults)}"
            )
        _check_kind(name, value, [defaults[name]], source)


def _check_kind(name: str, value: Any, examples: list[Any], source: str) -> None:
    """``value`` is of a kind with one of ``examples``, entry by entry in lists and mappings."""
    kinds = {type(example) for example in examples}
    fits = type(value) in kinds or (type(value) is int and float in kinds)
    number = isinstance(value, str) and _reads_as_number(value)
    # An empty list in the template leaves open what its entries are, but not that.
    if number if not examples else not fits:
        found = [f"'{name}' is {value!r}, a {type(value).__name__}"]
        found += [f"the template's is {e!r}, a {type(e).__name__}" for e in examples[:1]]
        hint = " (in YAML write 1.0e-3, not 1e-3)" if number else ""
        raise TypeError(f"{source}: parameter {'; '.join(found)}{hint}")
    if isinstance(value, list):
        inside = [entry for example in examples if type(example) is list for entry in example]
        for place, entry in enumerate(value):
            _check_kind(f"{name}[{place}]", entry, inside, source)
    elif isinstance(value, dict):
        inside = [v for example in examples if type(example) is dict for v in example.values()]
        for key, entry in value.items():
            _check_kind(f"{name}[{key}]", entry, inside, source)


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def run(name: str, scale: str, into: Path, overrides: dict[str, Any]) -> None:
    """Execute one template; files appear in ``into`` only when all of it has succeeded."""
    template = NOTEBOOKS / f"{name}.ipynb"
    plan = _mapping(SCALES.read_text(), SCALES.name).get(name, {})
    unknown = set(plan) - {"data", "paper", "stand_in"}
    if unknown:
        raise ValueError(f"{SCALES.name} / {name}: unknown key {sorted(unknown)[0]!r}")
    taken = sorted(set(overrides) & {"name", "out_dir", "checkpoint_dir"})
    if taken:
        raise ValueError(f"parameter {taken[0]!r} is set by the runner; use --into")
    given = dict(plan.get("paper") or {}) if scale == "paper" else {}
    output, stand_in = name, None
    if plan.get("data") == "mnist":
        try:
            data.mnist("train"), data.mnist("test")
        except data.DataUnavailable as error:
            stand_in = "scikit-learn digits"
            output = f"{name}.digits"
            given |= plan["stand_in"]
            print(f"{name}: {error}\n{name}: running on the bundled digits instead -> {output}")
    given |= overrides
    check_parameters(given, template_parameters(template), f"{SCALES.name} / {name}")

    os.environ["PRIVGAN_STAND_IN"] = stand_in or ""  # claims are then reported, not enforced
    stage = into / f".{output}.stage"
    work = _fingerprint(template, given | {"into": os.path.relpath(into, ROOT)})
    checkpoints = BUILD / "checkpoints" / f"{output}-{work}"
    _make_folder(into)
    with alone(into / output):
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
        _add_timing(stage / f"{output}.json", time.perf_counter() - started, scale, stand_in)
        _publish(stage, into, output)
        shutil.rmtree(checkpoints)
        if not overrides and into == (BUILD / "smoke" if scale == "smoke" else ROOT / "figures"):
            write_atomically(_stamp(scale, name), output + "\n")
    print(claims_table(into, [output]))


def _publish(stage: Path, into: Path, output: str) -> None:
    """Move what a run made to where it belongs; see the top of this file for the order."""
    last = [f"{output}.json", f"{output}.ipynb"]
    for name in reversed(last):
        (into / name).unlink(missing_ok=True)
    pictures = sorted(made.name for made in stage.iterdir() if made.name not in last)
    for name in [*pictures, *last]:
        os.replace(stage / name, into / name)
    stage.rmdir()


def refresh(name: str) -> None:
    """Re-run a template in place with its own parameters: the reference that nbval holds."""
    template = NOTEBOOKS / f"{name}.ipynb"
    part = NOTEBOOKS / f"{name}.part.ipynb"
    with alone(template):
        try:
            execute(template, part, {})
            os.replace(part, template)
        finally:
            part.unlink(missing_ok=True)


def execute(template: Path, output: Path, parameters: dict[str, Any]) -> None:
    """papermill, with the kernel of this interpreter and an output that repeats byte for byte."""
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"  # this environment's kernel, not the user's
    if os.environ.get("PRIVGAN_DATA_DIR"):  # the kernel runs in another folder
        os.environ["PRIVGAN_DATA_DIR"] = str(data.data_dir().resolve())
    with sockets(AsyncKernelManager) as manager:
        papermill.execute_notebook(
            str(template),
            str(output),
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
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.id = "injected-parameters"
    write_atomically(output, nbformat.writes(notebook) + "\n")


def summary(names: list[str], scale: str, into: Path) -> str:
    """The claims of the notebooks just made, and which of them ran on stand-in data."""
    outputs = {name: _stamp(scale, name).read_text().strip() for name in names}
    lines = [claims_table(into, list(outputs.values()))]
    lines += [
        f"{name}: MNIST was not available, so this is {output}, on stand-in data; results for "
        f"MNIST itself were left untouched. Once it is, remove {_stamp(scale, name)} and repeat."
        for name, output in outputs.items()
        if output != name
    ]
    return "\n\n".join(lines)


def _mapping(text: str, source: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"{source} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{source} must be a mapping such as {{sigma: 0.5}}, got {text!r}")
    return content


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


def _add_timing(path: Path, seconds: float, scale: str, stand_in: str | None) -> None:
    content = json.loads(path.read_text())
    content |= {"scale": scale, "seconds": round(seconds, 1), "stand_in": stand_in}
    content |= {"privgan": __version__, "commit": _commit()}
    write_atomically(path, json.dumps(content, indent=1) + "\n")


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
    commands.add_parser("refresh", help="re-run a template in place").add_argument("name")
    table = commands.add_parser("summary", help="print the claims table")
    table.add_argument("names", nargs="+")
    for command in (one, table):
        command.add_argument("--scale", choices=("paper", "smoke"), default="paper")
        command.add_argument("--into", type=Path, default=ROOT / "figures")
    arguments = parser.parse_args()
    try:
        if arguments.command == "run":
            overrides = _mapping(arguments.parameters, "--parameters")
            run(arguments.name, arguments.scale, arguments.into.resolve(), overrides)
        elif arguments.command == "refresh":
            refresh(arguments.name)
        else:
            print(summary(arguments.names, arguments.scale, arguments.into))
    except (ValueError, TypeError, OSError) as error:
        raise SystemExit(f"{arguments.command}: {error}") from None


if __name__ == "__main__":
    main()
