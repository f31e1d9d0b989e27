"""Runs every entrant on every case and writes results/<machine>.json.

    python -m benchmarks.run             everything that is not measured yet, then the report
    python -m benchmarks.run --quick     a few small cases, into build/bench/ only
    python -m benchmarks.run --only ott  that entrant again, the others as they were measured

Each measurement is a process of its own and is kept in build/bench/ as soon as it is there:
a run that was interrupted goes on where it stopped. Remove build/bench/ to start afresh.
"""

import argparse
import json
import multiprocessing
import os
import platform
import re
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import measure, report
from benchmarks.cases import BUILD, GRID, QUICK, STREAMING, Case
from benchmarks.entrants import ENTRANTS
from benchmarks.judge import reference
from privgan.files import write_atomically

RESULTS = Path(__file__).with_name("results")
LIMIT = 120.0  # seconds for one entrant on one case, searching included
PACKAGES = ("numpy", "torch", "POT", "geomloss", "ott-jax", "jax", "jaxlib", "pykeops")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run")
    parser.add_argument("--quick", action="store_true", help="a few small cases, as a smoke test")
    parser.add_argument("--only", metavar="ENTRANT", choices=ENTRANTS, help="measure one anew")
    parser.add_argument("--threads", type=int, default=2, help="for everybody (default 2)")
    options = parser.parse_args()

    _use_threads(options.threads)
    cases = QUICK if options.quick else (*GRID, *STREAMING)
    names = [options.only] if options.only else list(ENTRANTS)
    store = BUILD / f"{_machine_name(options.threads)}.json"
    records = json.loads(store.read_text())["records"] if store.exists() else {}
    if options.only:
        records = {key: r for key, r in records.items() if r["entrant"] != options.only}

    for number, case in enumerate(cases, 1):
        # The points and the converged plan first: nobody is charged for making them.
        case.points()
        reference(case)
        for name in names:
            key = f"{case.key} {name}"
            if key not in records:
                records[key] = _hopeless(name, case, records) or _measured(name, case)
                print(f"[{number}/{len(cases)}] {key}: {_told(records[key])}", flush=True)
                write_atomically(store, _document(options.threads, records))

    wanted = {case.key for case in cases}
    records = {key: record for key, record in records.items() if record["case"] in wanted}
    target = BUILD / "quick.json" if options.quick else RESULTS / store.name
    write_atomically(target, _document(options.threads, records))
    report.write(target)


def _use_threads(threads: int) -> None:
    """The same number for everybody, however each library asks: processes inherit this."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in ("OMP", "MKL", "OPENBLAS", "NUMBA"):
        os.environ[f"{name}_NUM_THREADS"] = str(threads)
    os.environ["XLA_FLAGS"] = (
        f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} "
        f"intra_op_parallelism_threads={threads}"
    )
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _hopeless(name: str, case: Case, records: dict) -> dict | None:
    """A record without measuring, if an easier case was over the budget already.

    Easier is fewer points and stronger noise, at the loosest tolerance.
    """
    for easier in (*GRID, *STREAMING):
        kinds = [(c.d, c.mechanism, c.streaming) for c in (easier, case)]
        if kinds[0] != kinds[1] or easier.n > case.n or easier.std < case.std or easier == case:
            continue
        results = records.get(f"{easier.key} {name}", {}).get("results", {})
        loosest = results.get(f"{easier.tolerances[0]:g}", {})
        if loosest.get("over_budget"):
            reason = f"{loosest['reason']} (n = {easier.n}, {easier.noise} noise)"
            over = {"reached": False, "over_budget": True, "reason": reason}
            results = {f"{tol:g}": over for tol in case.tolerances}
            return {"entrant": name, "case": case.key, "results": results, "inferred": easier.key}
    return None


def _measured(name: str, case: Case) -> dict:
    record = {"entrant": name, "case": case.key}
    refusal = ENTRANTS[name].refuses(case)
    if refusal is not None:
        return record | {"refused": refusal}
    # Forked from a server that has imported these and computed nothing: as good as a fresh
    # process, and seconds faster to have.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.measure", "benchmarks.report"])
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure.send, args=(sender, name, case))
    start = time.perf_counter()
    process.start()
    sender.close()
    try:
        if receiver.poll(LIMIT):
            record = receiver.recv()
        else:
            record["failed"] = f"killed after {LIMIT:.0f} s"
    except EOFError:
        process.join()
        record["failed"] = f"its process died (status {process.exitcode})"
    finally:
        process.join(10.0)
        process.kill()
        process.join()
    return record | {"wall": time.perf_counter() - start}


def _told(record: dict) -> str:
    if "refused" in record or "failed" in record:
        return record.get("refused") or record["failed"]
    return ", ".join(
        f"{result['seconds']:.4f} s to {tol}" if result["reached"] else f"{tol}: {result['reason']}"
        for tol, result in record["results"].items()
    )


def _document(threads: int, records: dict) -> str:
    machine = {
        "cpu": _cpu(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": _versions(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    return json.dumps({"machine": machine, "records": records}, indent=1) + "\n"


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    return named[1].strip() if named else platform.processor() or platform.machine()


def _machine_name(threads: int) -> str:
    return re.sub(r"[^a-z0-9]+", "-", f"{_cpu()} {threads} threads".lower()).strip("-")


if __name__ == "__main__":
    main()
