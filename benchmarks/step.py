"""Where a training step's time goes: the network, the solve, and what `fit` adds.

    python -m benchmarks.step [--steps N] [--device cuda]

The circle of 01_quickstart: an MLP, 1000 reports and 250 generated points a step. The parts are
timed in turns with whole steps of the trainer, so that a busy machine slows all of them alike.
"""

import argparse
import statistics
import time

import torch

import privgan as pg
from privgan.artifact import data
from privgan.streams import stream
from privgan.training.trainer import Trainer, Training

GOAL = 1.2  # whole step over network and solve


def trainer(device: torch.device, steps: int) -> Trainer:
    mechanism = pg.Gaussian(sigma=0.3)
    reports = mechanism.privatize(data.circle(20_000, seed=0), seed=1)
    training = Training(pg.EntropicLoss.matched(mechanism), steps=steps)
    return Trainer(training, pg.MLP(2, 2), reports, device)


def timed(run, device: torch.device) -> tuple[float, object]:
    started = time.perf_counter()
    result = run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1e3 * (time.perf_counter() - started), result


def measure(steps: int, device: torch.device) -> dict[str, float]:
    """Median milliseconds of the parts and of whole steps."""
    whole = trainer(device, 10 * steps)
    model = pg.MLP(2, 2).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    found: dict[str, list[float]] = {"network": [], "solve": [], "step": []}
    for k in range(steps + 10):
        z = model.latent(250, stream(0, "latents", k), even=True)
        y = whole.batches(k)

        def forward(z=z):
            return model(z)

        ahead, x = timed(forward, device)
        points = x.detach().requires_grad_()
        solve, solved = timed(lambda p=points, y=y: whole.training.loss.between(p, y), device)

        def back(x=x, solved=solved, points=points):
            optimizer.zero_grad(set_to_none=True)
            (pull,) = torch.autograd.grad(solved.value, points)
            x.backward(pull)
            optimizer.step()

        behind, _ = timed(back, device)
        step, _ = timed(whole.step, device)
        for name, taken in (("network", ahead + behind), ("solve", solve), ("step", step)):
            found[name].append(taken)
    return {name: statistics.median(taken[10:]) for name, taken in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    found = measure(arguments.steps, torch.device(arguments.device))
    ratio = found["step"] / (found["network"] + found["solve"])
    for name, said in (
        ("network", "the network's forward, backward and Adam"),
        ("solve", "the solve, its value and gradient"),
        ("step", "a whole step of fit"),
    ):
        print(f"{found[name]:8.3f} ms  {said}")
    print(f"{ratio:8.3f}     whole step / parts; the goal is {GOAL}")


if __name__ == "__main__":
    main()
