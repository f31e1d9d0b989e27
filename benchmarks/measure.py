"""One entrant on one case: the record of its times, its memory and its true errors.

    python -m benchmarks.measure ENTRANT CASE

prints one; `run` gives each a process of its own.
"""

import dataclasses
import json
import math
import os
import statistics
import sys
import time
import warnings
from multiprocessing.connection import Connection
from typing import Any

import torch

from benchmarks import memory
from benchmarks.cases import BUILD, EVERY, Case
from benchmarks.entrants import ENTRANTS, Entrant
from benchmarks.judge import Judge
from benchmarks.search import Attempt, OverBudget

LOG = BUILD / "last.log"
BUDGET = 10.0  # seconds that one solve may take
FIRST = 60.0  # seconds that the first call may take, compiling included
RUNS, RUNS_IF_SLOW, SLOW = 5, 3, 2.0  # timed runs; fewer when one takes longer than SLOW
SMALL = 4  # iterations of the solve from which the time of longer ones is foretold


class Stopwatch:
    """Times an entrant's solves and remembers enough to foretell long ones."""

    def __init__(self, entrant: Entrant):
        self.entrant = entrant
        self.base = self.per_iteration = 0.0

    def __call__(self, knob: Any) -> tuple[float, Any]:
        """Seconds that one solve took, and what it returned."""
        self.entrant.prepare(knob)
        start = time.perf_counter()
        result = self.entrant.solve(knob)
        return time.perf_counter() - start, result

    def calibrate(self, base: float) -> None:
        """Fits time = base + (iterations - 1) * per_iteration; ``base``: a solve of one."""
        self.base = base
        if base > BUDGET / SMALL:
            self.per_iteration = base / 3  # a cautious guess: cost and gradient take a share
            return
        self(SMALL)
        self.per_iteration = max(self(SMALL)[0] - self.base, 0.0) / (SMALL - 1)

    def foretold(self, iterations: int) -> float:
        return self.base + (iterations - 1) * self.per_iteration


def measure(name: str, case: Case) -> dict:
    """The record: versions, first call, peak memory, and a result for each tolerance."""
    kind = ENTRANTS[name]
    record: dict[str, Any] = {"entrant": name, "case": case.key, "version": kind.version()}
    x, y = case.points()
    # Warnings are kept for the record: some entrants give up with nothing more than one.
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            entrant = kind(case, x, y)
            watch = Stopwatch(entrant)
            record |= _first_calls(watch, case)
            record["results"] = _all_tolerances(watch, Judge(case))
        except OverBudget as reason:
            record["results"] = {f"{tol:g}": _over(reason) for tol in case.tolerances}
        except Exception as error:  # whatever a package raises is its result
            record["failed"] = f"{type(error).__name__}: {error}"[:300]
    return record | {"warnings": sorted({str(w.message).splitlines()[0] for w in caught})[:5]}


def _first_calls(watch: Stopwatch, case: Case) -> dict:
    knob = 1 if watch.entrant.iterative else case.tolerances[0]
    start = time.perf_counter()
    watch(knob)
    first = time.perf_counter() - start  # compiling included
    if first > FIRST and watch.entrant.iterative:
        raise OverBudget(f"compiling and a single iteration took {first:.0f} s")
    memory.forget_peak()
    before = memory.peak()
    second, _ = watch(knob)
    after = memory.peak()
    if watch.entrant.iterative and second > BUDGET:
        raise OverBudget(f"a single iteration took {second:.0f} s")
    if watch.entrant.iterative:
        watch.calibrate(second)
    return {"first_call": first, "peak_bytes": None if after is None else after - before}


class JudgedAttempts:
    """`search.Attempts`: each setting is solved and judged once, and within the budget."""

    def __init__(self, watch: Stopwatch, judge: Judge):
        self.watch, self.judge = watch, judge
        self.tried: dict[Any, Attempt] = {}

    def __call__(self, knob: Any) -> Attempt:
        entrant = self.watch.entrant
        if knob not in self.tried:
            if entrant.iterative:
                self.check(knob)
            seconds, result = self.watch(knob)
            answer = entrant.answer(result)
            verdict = self.judge(answer.f, answer.g, answer.gradient, answer.value, answer.plan)
            iterations = knob if entrant.iterative else answer.iterations
            self.tried[knob] = Attempt(knob, seconds, iterations, answer.claimed, verdict)
            if seconds > 2 * BUDGET:  # foretold wrongly, or no way to foretell
                raise OverBudget(f"took {seconds:.0f} s")
        return self.tried[knob]

    def check(self, iterations: int) -> None:
        seconds = self.watch.foretold(iterations)
        if seconds > BUDGET:
            raise OverBudget(f"{iterations} iterations would take {seconds:.0f} s")


def _all_tolerances(watch: Stopwatch, judge: Judge) -> dict:
    attempt = JudgedAttempts(watch, judge)
    results = {}
    for tol in judge.case.tolerances:
        try:
            settled = watch.entrant.search(attempt, tol, judge.reference.iterations(tol))
        except OverBudget as reason:
            results[f"{tol:g}"] = _over(reason)
            continue
        result = _described(settled) | {"reached": settled.reached(tol)}
        if result["reached"]:
            result |= _timed(watch, settled)
        elif not math.isfinite(settled.verdict.error):
            result["reason"] = "NaN or infinity"
        else:
            result["reason"] = f"error {settled.verdict.error:.1e}, {settled.iterations} iterations"
        results[f"{tol:g}"] = result
    return results


def _over(reason: OverBudget) -> dict:
    return {"reached": False, "over_budget": True, "reason": f"over budget: {reason}"}


def _described(attempt: Attempt) -> dict:
    fields = dataclasses.asdict(attempt)
    return {key: fields[key] for key in ("knob", "iterations", "claimed")} | fields["verdict"]


def _timed(watch: Stopwatch, settled: Attempt) -> dict:
    if settled.seconds > SLOW:  # the judged solve was warm, so it counts
        runs = [settled.seconds] + [watch(settled.knob)[0] for _ in range(RUNS_IF_SLOW - 1)]
    else:
        watch(settled.knob)
        runs = [watch(settled.knob)[0] for _ in range(RUNS)]
    return {"seconds": statistics.median(runs), "runs": runs}


def send(connection: Connection, name: str, case: Case) -> None:
    """`measure`, for a process of its own; what the packages print goes to a log."""
    log = os.open(LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    connection.send(measure(name, case))


def main() -> None:
    name, key = sys.argv[1:]
    print(json.dumps(measure(name, EVERY[key]), indent=1))


if __name__ == "__main__":
    main()
