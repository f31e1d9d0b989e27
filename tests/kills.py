"""Kills what writes files, at seeded random moments, and looks at what is left.

A training with a checkpoint, `Generator.save`, `Reports.save` and a notebook's run are each ended
by SIGKILL and begun again. Nothing half-written may load, and what is begun again must end with
the same bits as what was never ended: ``python tests/kills.py``, in some four minutes.
tests/test_kills.py does a few of these.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import torch

import privgan as pg
from privgan.files import load_tensors
from privgan.plain import digest
from privgan.training import state, watchers

STEPS = 60
NOTEBOOK = """
from privgan.training import watchers
watchers.SAVE_EVERY = -1.0
import hashlib, privgan as pg, torch
from pathlib import Path
from privgan.artifact.claims import Claim, record
reports = pg.Gaussian(0.3).privatize(torch.randn(600, 2, generator=torch.manual_seed(0)), seed=1)
model = pg.MLP(2, 2, hidden=(16,), norm=True)
settings = {"steps": 60, "batch_size": 64, "checkpoint": f"{checkpoint_dir}/run.pt"}
history = pg.fit(model, reports, pg.EntropicLoss.matched(pg.Gaussian(0.3)), **settings)
weights = [value.double().sum().item() for value in model.state_dict().values()]
Path(out_dir, name + ".png").write_bytes(bytes(str(weights), "ascii"))
record(f"{out_dir}/{name}.json", [Claim("toy", "1", 1.0, high=2.0)], loss=history.loss, w=weights)
"""


def child(function: Callable[[], None]) -> int:
    """The number of another process that does this and ends."""
    sys.stdout.flush()
    number = os.fork()
    if number:
        return number
    code = 1
    try:
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    os._exit(code)


def finish(number: int) -> None:
    """Wait for a child that nobody ends."""
    _, status = os.waitpid(number, 0)
    if status:
        raise AssertionError(f"a process ended with status {status}; what it said is above")


def ended(number: int, seconds: float) -> bool:
    """Kill a child after so many seconds; whether it had not ended by itself."""
    time.sleep(seconds)
    os.kill(number, signal.SIGKILL)
    _, status = os.waitpid(number, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError(f"a process ended with status {status}; what it said is above")
    return os.WIFSIGNALED(status)


def wait_for(path: Path) -> float:
    """Until ``path`` is there; the time then."""
    while not path.exists():
        time.sleep(0.001)
    return time.monotonic()


def training(checkpoint: Path | None, result: Path) -> None:
    """A small one that uses all that a checkpoint holds; its history and weights, as a digest."""
    watchers.SAVE_EVERY = -1.0  # after every step
    records = torch.randn((600, 2), generator=torch.Generator().manual_seed(0))
    mechanism = pg.Gaussian(0.3)
    model = pg.MLP(2, 2, hidden=(16,), norm=True)
    history = pg.fit(
        model,
        mechanism.privatize(records, seed=1),
        pg.EntropicLoss.matched(mechanism),
        steps=STEPS,
        batch_size=64,
        average=0.9,
        keep_best=True,
        snapshots=(20, 50),
        checkpoint=checkpoint,
    )
    numbers = [history.loss, history.nll, [rows for _, rows in history.snapshots]]
    whole = json.dumps(numbers) + digest(list(model.state_dict().items()))
    result.write_text(whole)


def kills_of_fit(folder: Path, count: int, rng: random.Random) -> int:
    """Kill a training again and again until it is done, then the next; kills that hit."""
    straight, result, checkpoint = folder / "straight", folder / "result", folder / "run.pt"
    finish(child(lambda: training(None, straight)))  # the first may compile
    number = child(lambda: training(checkpoint, result))
    began = wait_for(checkpoint)
    finish(number)
    length = time.monotonic() - began
    assert result.read_text() == straight.read_text()
    checkpoint.unlink()
    hits = 0
    while hits < count:
        number = child(lambda: training(checkpoint, result))
        wait_for(checkpoint)
        hit = ended(number, rng.uniform(0.0, length))
        hits += hit
        if hit:
            about, _ = load_tensors(checkpoint, state.FORMAT, "checkpoint")
            assert 0 < about["step"] <= STEPS
        if not hit:
            assert result.read_text() == straight.read_text()
            checkpoint.unlink()
    finish(child(lambda: training(checkpoint, result)))
    assert result.read_text() == straight.read_text()
    return hits


def kills_of_saving(
    folder: Path,
    count: int,
    rng: random.Random,
    save: Callable[[Path, int], None],
    load: Callable[[Path], object],
) -> int:
    """Kill what saves one of two things after another; what is there is always one of the two."""
    path = folder / "file"
    for k in range(2):
        save(folder / str(k), k)
    known = [digest(load(folder / str(k))) for k in range(2)]
    assert known[0] != known[1]

    def forever() -> None:
        for k in range(10**9):
            save(path, k % 2)

    for _ in range(count):
        path.unlink(missing_ok=True)
        number = child(forever)
        wait_for(path)
        assert ended(number, rng.uniform(0.0, 0.1))
        assert digest(load(path)) in known
        visible = {p.name for p in folder.iterdir() if not p.name.startswith(".privgan-")}
        assert visible == {"file", "0", "1"}
    return count


def generator_saved(path: Path, k: int) -> None:
    pg.MLP(2, 2, hidden=(200, 200), seed=k).save(path)


def generator_loaded(path: Path) -> object:
    return list(pg.load(path).state_dict().items())


def reports_saved(path: Path, k: int) -> None:
    values = torch.full((50_000, 2), float(k))
    pg.Reports(values, pg.Gaussian(1.0), simulation=True).save(path)


def reports_loaded(path: Path) -> object:
    return pg.Reports.load(path).values


def notebook(project: Path) -> None:
    """``python -m privgan.artifact.run run toy --into ...``, in a project of its own."""
    from privgan.artifact import run

    run.ROOT, run.NOTEBOOKS, run.BUILD = project, project / "notebooks", project / "build"
    run.SCALES = project / "notebooks" / "scales.yaml"
    sys.argv = ["run", "run", "toy", "--into", str(project / "figures")]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        run.main()


def kills_of_a_notebook(folder: Path, count: int, rng: random.Random) -> int:
    """Kill a notebook's run again and again; what looks made is whole, and is the same."""
    sys.path.insert(0, str(Path(__file__).parent / "artifact"))
    from projects import plan, template

    from privgan.artifact.publish import check_whole

    def results(project: Path) -> tuple[bytes, object]:
        figures = project / "figures"
        check_whole(figures, "toy")
        numbers = json.loads((figures / "toy.json").read_text())["numbers"]
        return (figures / "toy.png").read_bytes(), numbers

    for name in ("straight", "killed"):
        (folder / name / "notebooks").mkdir(parents=True)
        plan(folder / name, {"paper": {}})
        template(folder / name, NOTEBOOK)
    straight, killed = folder / "straight", folder / "killed"
    started = time.monotonic()
    finish(child(lambda: notebook(straight)))
    length, expected = time.monotonic() - started, results(straight)
    stamp = killed / "build" / "paper-toy.stamp"
    hits = 0
    while hits < count:
        hit = ended(child(lambda: notebook(killed)), rng.uniform(0.0, 1.1 * length))
        hits += hit
        if stamp.exists():
            assert results(killed) == expected
        try:
            found = results(killed)
        except (ValueError, OSError):  # it is not whole, and says so
            assert hit
        else:
            assert found == expected
    finish(child(lambda: notebook(killed)))
    assert results(killed) == expected
    assert stamp.exists()
    return hits


def kills(kind: str, count: int, seed: int) -> int:
    """So many kills of one kind, in a temporary folder."""
    rng = random.Random(f"{seed}, {kind}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        match kind:
            case "fit":
                return kills_of_fit(folder, count, rng)
            case "Generator.save":
                return kills_of_saving(folder, count, rng, generator_saved, generator_loaded)
            case "Reports.save":
                return kills_of_saving(folder, count, rng, reports_saved, reports_loaded)
            case "notebook":
                return kills_of_a_notebook(folder, count, rng)
    raise ValueError(f"kind is {kind!r}; it is one of {', '.join(PLAN)}")


PLAN = {"fit": 14, "Generator.save": 9, "Reports.save": 9, "notebook": 8}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("kinds", nargs="*", default=list(PLAN))
    arguments = parser.parse_args()
    for kind in arguments.kinds:
        started = time.monotonic()
        count = kills(kind, PLAN[kind], arguments.seed)
        seconds = time.monotonic() - started
        print(f"{kind}: {count} kills, nothing half-written, the same bits; {seconds:.0f} s")


if __name__ == "__main__":
    main()
