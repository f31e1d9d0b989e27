"""Trainings as in 01 and 06: seconds a step, and what the device does during one."""

import gzip
import json
import os
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import torch

import privgan as pg
from benchmarks.gpu import clock
from privgan.artifact import referee
from privgan.training.trainer import PENDING, Trainer
from privgan.training.trainer import Training as Plan

# Runtime calls that make the host wait for the device.
WAITS = ("Synchronize", "cudaMemcpy", "cuMemcpy")


def measure(record, device, tiny, deadline):
    warnings.simplefilter("ignore")  # a training of few steps may not solve all of them
    for name, task in {"circle": circle, "images": images}.items():
        training = record.guarded(name, task, device, tiny)
        if training is None:
            continue
        record[name] = {"about": training.about}
        few, many = (2, 6) if tiny else (20, 220)
        record.guarded(f"{name}_timed", training.timed, few, many)
        record.guarded(f"{name}_profile", training.profiled, 2 if tiny else 20)
    if training is not None and time.monotonic() < deadline - (0 if tiny else 30):
        # 06's long training at std 1, whole, and what it came to.
        record.guarded("images_long", training.whole, 4 if tiny else 850, 200 if tiny else 20_000)


class Training:
    def __init__(self, device, make, reports, mechanism, about, **settings):
        self.device, self.make, self.reports = device, make, reports
        self.mechanism, self.about, self.settings = mechanism, about, settings

    def __call__(self, steps, generator=None):
        loss = pg.EntropicLoss.matched(self.mechanism)
        return pg.fit(
            generator or self.make(), self.reports, loss, steps=steps, device=self.device,
            progress=False, **self.settings,
        )  # fmt: skip

    def timed(self, few, many):
        """Seconds a step, from two trainings: what they share falls out."""
        self(few)
        short = clock.seconds(self.device, lambda: self(few))
        found = []
        long = clock.seconds(self.device, lambda: found.append(self(many)))
        history = found[0]
        return {
            "seconds_per_step": (long - short) / (many - few),
            "seconds": long,
            "steps": many,
            "device": history.device,
            "iterations_per_step": sum(map(int, history.n_iter)) / len(history.n_iter),
            "solved": sum(map(bool, history.converged)) / len(history.converged),
            "nll": history.nll,
        }

    def whole(self, steps, n):
        """A training from noise to its end, and how well a student of ``n`` of its records reads
        raw test images; as 06_mnist has it, where MNIST is at hand."""
        self(1)
        generator, found = self.make(), []
        seconds = clock.seconds(self.device, lambda: found.append(self(steps, generator)))
        (history,) = found
        pixels, label, data = records(10_000, "t10k")
        made = generator.sample(n, seed=3, device=self.device)
        answers = made[:, 784:].argmax(1)
        student = referee.fit_classifier(made[:, :784], answers, noise=0.6, seed=0)
        return {
            "seconds": seconds,
            "steps": steps,
            "iterations_per_step": sum(history.n_iter) / steps,
            "solved": sum(history.converged) / steps,
            "nll": history.nll,
            "data": data,
            "student_accuracy": referee.accuracy(student, pixels, label),
        }

    def profiled(self, steps):
        """What the device does in a step, read off a trace of ``steps`` warm ones of them."""
        from torch.profiler import ProfilerActivity, profile

        loss = pg.EntropicLoss.matched(self.mechanism)
        training = Plan(loss, steps=1000, **self.settings)
        trainer = Trainer(training, self.make(), self.reports, torch.device(self.device))
        for _ in range(PENDING):  # what happened in them has just been read back
            trainer.step()
        clock.synchronize(self.device)
        kinds = [ProfilerActivity.CPU]
        kinds += [ProfilerActivity.CUDA] if self.device != "cpu" else []
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "trace.json")
            with profile(activities=kinds) as trace:
                for _ in range(steps):
                    trainer.step()
                clock.synchronize(self.device)
            trace.export_chrome_trace(str(file))
            events = json.loads(file.read_text())["traceEvents"]
        return read(events, steps)


def read(events, steps):
    """Idle share of the device between its first and last kernel, waits and the longest kernels."""
    work = [e for e in events if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    calls = Counter(e["name"] for e in events if e.get("cat") == "cuda_runtime")
    waits = {k: v / steps for k, v in calls.items() if any(w in k for w in WAITS)}
    launches = {k: v / steps for k, v in calls.items() if "Launch" in k}
    to_host = sum("DtoH" in e["name"] for e in work) / steps
    found = {"waits_per_step": waits, "launches_per_step": launches, "copies_to_host": to_host}
    if not work:
        return found | {"idle_share": None}
    spans = sorted((e["ts"], e["ts"] + e["dur"]) for e in work)
    busy, end = 0.0, spans[0][0]
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    longest = Counter()
    for e in work:
        longest[e["name"][:80]] += e["dur"]
    return found | {
        "idle_share": 1.0 - busy / (end - spans[0][0]),
        "microseconds_per_step": (end - spans[0][0]) / steps,
        "busy_microseconds_per_step": busy / steps,
        "kernels_per_step": len(work) / steps,
        "longest": {k: v / steps for k, v in longest.most_common(12)},
    }


def circle(device, tiny):
    """As 01: the unit circle at Gaussian noise 0.3, an MLP, batches of 1000."""
    n = 400 if tiny else 20_000
    t = 2 * torch.pi * torch.rand(n, generator=torch.Generator().manual_seed(0))
    mechanism = pg.Gaussian(sigma=0.3)
    reports = mechanism.privatize(torch.stack([t.cos(), t.sin()], 1), seed=1)
    batch = 50 if tiny else 1000
    about = f"circle, {n} reports, batch {batch}"
    make = lambda: pg.MLP(latent_dim=2, out_dim=2, seed=0)  # noqa: E731
    return Training(device, make, reports, mechanism, about, batch_size=batch, lr=3e-3)


def images(device, tiny, **settings):
    """As 06 at std 1: labelled images, a convolutional decoder, batches of 1000."""
    n, batch = (300, 50) if tiny else (60_000, 1000)
    pixels, label, data = records(n)
    parts = slice(0, 784), slice(784, 794)
    box = pg.Box(0.0, 1.0, dim=784)
    answer = pg.RandomizedResponse.calibrate(epsilon=2.0, k=10)
    mechanism = pg.Product((parts[0], pg.Gaussian(1.0, bounds=box)), (parts[1], answer))
    raw = torch.cat([pixels, torch.nn.functional.one_hot(label, 10).float()], 1)
    reports = mechanism.privatize(raw, seed=1)
    make = lambda: pg.Labelled(pg.ConvDecoder(26, 28, seed=0), 10)  # noqa: E731
    about = f"{data}, {n} reports, batch {batch}"
    settings = {"batch_size": batch, "generated": batch, "lr": 4e-3} | settings
    settings = {"average": 0.99, "anneal": 16.0} | settings
    return Training(device, make, reports, mechanism, about, **settings)


def records(n, part="train"):
    """MNIST where its files are at hand, else random images of its shape: pixels and labels."""
    folder = Path(os.environ.get("PRIVGAN_DATA_DIR", "nowhere"), "mnist")
    if folder.is_dir():
        images = gzip.decompress((folder / f"{part}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{part}-labels-idx1-ubyte.gz").read_bytes())
        pixels = torch.frombuffer(bytearray(images), dtype=torch.uint8, offset=16)
        label = torch.frombuffer(bytearray(labels), dtype=torch.uint8, offset=8)
        return pixels.view(-1, 784)[:n] / 255.0, label[:n].long(), "MNIST"
    g = torch.Generator().manual_seed(0)
    label = torch.randint(10, (n,), generator=g)
    shapes = torch.rand((10, 784), generator=g) > 0.8
    pixels = shapes[label] * torch.rand((n, 784), generator=g)
    return pixels, label, "random images"
