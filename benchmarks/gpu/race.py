"""Time to a true marginal error, value and gradient, beside what else solves on the device."""

import importlib.util
import math
import time
import warnings

import torch

from benchmarks.gpu import clock, floor
from benchmarks.gpu.cases import cases
from benchmarks.gpu.judge import MANY, Judge
from benchmarks.gpu.peers import PEERS
from privgan.sinkhorn import L1, SquaredL2, solve, solve_batch, solve_samples

TOLERANCES = 1e-2, 1e-3, 1e-4
LIMIT = 0.5  # seconds that one solve may take
MOST = 4000  # iterations of the others
LARGEST = 4096  # points for which there is a reference gradient


def measure(record, device, tiny, deadline):
    warnings.simplefilter("ignore")
    left, machine = cases(tiny), record.of("machine")
    for place, case in enumerate(left):
        now = time.monotonic()
        if now > deadline - 10:
            record[case.key] = "skipped: no time was left"
            continue
        share = 2 * (deadline - now) / (len(left) - place)  # what one leaves over, others may take
        record.guarded(case.key, Race(case, device, min(deadline, now + share + 5), machine).run)


class Race:
    """One case."""

    def __init__(self, case, device, deadline, machine):
        self.case, self.device, self.deadline = case, device, deadline
        self.machine = machine
        self.x, self.y = case.points(device)
        self.judge = Judge(case, self.x, self.y)

    def run(self):
        found = {"ours": {}, "others": {}}
        if self.case.n <= LARGEST:
            found["reference_error"] = self.judge.refer(self.reference)
        for tol in TOLERANCES:
            found["ours"][f"{tol:g}"] = self.ours(tol)
        plain = self.judge.plain_iterations(TOLERANCES, MOST if self.case.n <= LARGEST else 400)
        found["plain_iterations"] = {f"{tol:g}": k for tol, k in plain.items()}
        for name, kind in PEERS.items():
            found["others"][name] = self.guarded(kind, plain)
        return found

    def reference(self, cost):
        solved = solve(cost, self.case.reg, tol=1e-8, max_iter=MANY)
        return solved.f, solved.g

    def ours(self, tol):
        """With all its checks, and as a training loop calls it."""
        cost = SquaredL2() if self.case.p == 2 else L1()
        answers = {}

        def run(solver):
            x = self.x.clone().requires_grad_()
            solved = solver(x, self.y, cost, self.case.reg, tol=tol, max_iter=8000)
            (gradient,) = torch.autograd.grad(solved.value, x)
            answers[solver] = solved, gradient

        seconds = clock.median(self.device, lambda: run(solve_samples), limit=LIMIT)
        batch = clock.median(self.device, lambda: run(solve_batch), limit=LIMIT)
        solved, gradient = answers[solve_samples]
        gradient_error, value_error = self.judge.against(gradient, solved.value)
        return {
            "seconds": seconds,
            "batch_seconds": batch,
            "floor_seconds": self.floor(solved.n_iter),
            "iterations": solved.n_iter,
            "claimed": solved.error,
            "error": self.judge.error(solved.f, solved.g),
            "gradient_error": gradient_error,
            "value_error": value_error,
        }

    def floor(self, iterations):
        return floor.seconds(self.case, iterations, self.machine) if self.machine else None

    def guarded(self, kind, plain):
        if importlib.util.find_spec(kind.module) is None:
            return "not installed"
        if reason := kind.refuses(self.case):
            return reason
        try:
            return self.theirs(kind(self.case, self.x, self.y), plain)
        except Exception as error:  # whatever a package raises is its result
            return f"{type(error).__name__}: {error}"[:300]

    def theirs(self, peer, plain):
        peer.solve(2)  # compiled, and tuned where it tunes itself
        base = min(clock.seconds(self.device, lambda: peer.solve(2)) for _ in range(2))
        each = max(0.0, clock.seconds(self.device, lambda: peer.solve(12)) - base) / 10
        found = {"seconds_per_iteration": each}
        for tol in TOLERANCES:
            if time.monotonic() > self.deadline - 5:
                found[f"{tol:g}"] = "skipped: no time was left"
                continue
            found[f"{tol:g}"] = self.searched(peer, plain[tol], tol, base, each)
        return found

    def searched(self, peer, iterations, tol, base, each):
        """The time for the first number of iterations that reaches the tolerance."""
        if iterations is None:
            return "plain Sinkhorn needs too many iterations"
        error = math.inf
        for _ in range(4):
            if base + each * iterations > LIMIT:
                return f"{iterations} iterations would take {base + each * iterations:.1f} s"
            error = self.judge.error(*peer.potentials(iterations))
            if not error > 1.05 * tol:
                break
            iterations = math.ceil(1.6 * iterations)
        if not error <= 1.05 * tol:
            return f"error {error:.1e} after {iterations} iterations"
        value, gradient = peer.solve(iterations)
        gradient_error, value_error = self.judge.against(gradient, value)
        return {
            "seconds": clock.median(
                self.device, lambda: peer.solve(iterations), runs=3, limit=LIMIT / 2
            ),
            "iterations": iterations,
            "error": error,
            "gradient_error": gradient_error,
            "value_error": value_error,
        }
