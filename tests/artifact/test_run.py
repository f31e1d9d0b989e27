import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_notebook

from privgan.artifact import data
from privgan.artifact import run as runner

PARAMETERS = """
rate = 1.0
steps = 10
rates = [0.5]
weights = {"fine": 0.1}
corners = [[0, 0], [0, 1.5]]
extra = []
dataset = "mnist"
name = "toy"
out_dir = "../out"
checkpoint_dir = ""
"""
RECORD = """
from pathlib import Path
from privgan.artifact.claims import Claim, record
Path(out_dir, name + ".png").write_bytes(dataset.encode())
record(f"{out_dir}/{name}.json", [Claim("toy", "1", rate, high=2.0)], steps=steps)
"""
# What RECORD does, without the seconds that importing torch takes.
WORK = """
import json
from pathlib import Path
Path(out_dir, name + ".png").write_bytes(dataset.encode())
claim = {"claim": "toy", "predicted": "1", "measured": rate, "tolerance": "<= 2", "verdict": "PASS"}
content = {"claims": [claim], "numbers": {"steps": steps}, "machine": {}}
Path(out_dir, name + ".json").write_text(json.dumps(content))
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A little project of one notebook, with the runner's folders pointing into it."""
    for name, folder in (("ROOT", ""), ("NOTEBOOKS", "notebooks"), ("BUILD", "build")):
        monkeypatch.setattr(runner, name, tmp_path / folder)
    (tmp_path / "notebooks").mkdir()
    monkeypatch.setattr(runner, "SCALES", tmp_path / "notebooks" / "scales.yaml")
    plan(tmp_path, {"paper": {"steps": 20}})
    template(tmp_path, WORK)
    return tmp_path


def plan(project, content):
    (project / "notebooks" / "scales.yaml").write_text(yaml.safe_dump({"toy": content}))


def template(project, *sources):
    notebook = new_notebook(cells=[new_code_cell(s) for s in (PARAMETERS, *sources)])
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "p", "language": "python"}
    nbformat.write(notebook, project / "notebooks" / "toy.ipynb")


def run(project, scale="paper", **overrides):
    runner.run("toy", scale, project / "figures", overrides)
    return project / "figures"


def test_run_leaves_results_a_stamp_and_nothing_else(project, capsys):
    template(project, RECORD)
    figures = run(project)
    assert {p.name for p in figures.iterdir()} == {"toy.ipynb", "toy.json", "toy.png"}
    content = json.loads((figures / "toy.json").read_text())
    assert content["scale"] == "paper"
    assert content["numbers"]["steps"] == 20
    assert content["seconds"] > 0
    assert "PASS" in capsys.readouterr().out
    assert (project / "build" / "paper-toy.stamp").read_text() == "toy\n"
    assert list((project / "build" / "checkpoints").iterdir()) == []


def test_two_runs_are_byte_identical(project):
    first = (run(project) / "toy.ipynb").read_bytes()
    assert (run(project) / "toy.ipynb").read_bytes() == first


def test_smoke_keeps_the_templates_own_scale(project):
    assert json.loads((run(project, "smoke") / "toy.json").read_text())["numbers"]["steps"] == 10


def test_a_failure_keeps_the_old_results_and_what_it_did(project):
    figures = run(project)
    before = {p.name: p.read_bytes() for p in figures.iterdir()}
    template(project, WORK, "assert steps < 20, 'too many'")
    (project / "build" / "paper-toy.stamp").unlink()
    with pytest.raises(SystemExit, match=r"toy failed; what it did is in .*toy\.failed\.ipynb"):
        run(project)
    failed = figures / "toy.failed.ipynb"
    assert "too many" in failed.read_text()
    failed.unlink()
    assert {p.name: p.read_bytes() for p in figures.glob("toy*")} == before
    assert not (project / "build" / "paper-toy.stamp").exists()


APART = """
import sys
from pathlib import Path
from privgan.artifact import run as runner
root = Path(sys.argv[1])
runner.ROOT, runner.NOTEBOOKS, runner.BUILD = root, root / "notebooks", root / "build"
runner.SCALES = root / "notebooks" / "scales.yaml"
runner.run("toy", "paper", root / "figures", {})
"""


def run_apart(project, marker):
    """Another process that makes the notebook, once it has made ``marker``."""
    process = subprocess.Popen([sys.executable, "-c", APART, str(project)])
    deadline = time.monotonic() + 60
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


def test_a_killed_run_leaves_nothing_that_looks_finished(project):
    marker = project / "started"
    wait = f"import time; Path({str(marker)!r}).touch(); time.sleep(60)"
    template(project, WORK, wait)
    process = run_apart(project, marker)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert marker.exists()
    visible = [p for p in (project / "figures").iterdir() if not p.name.startswith(".")]
    assert visible == []
    assert not (project / "build" / "paper-toy.stamp").exists()

    template(project, WORK)
    assert (run(project) / "toy.ipynb").exists()
    assert not (project / "figures" / ".toy.stage").exists()


def test_a_second_run_is_told_who_makes_the_first_and_touches_nothing_of_it(project):
    marker, go_on = project / "started", project / "go on"
    wait = f"import time\nfrom pathlib import Path\nPath({str(marker)!r}).touch()\n"
    wait += f"while not Path({str(go_on)!r}).exists():\n    time.sleep(0.05)"
    template(project, wait, WORK)
    process = run_apart(project, marker)
    try:
        with pytest.raises(
            SystemExit, match=rf"figures/toy is being made by process {process.pid},"
        ):
            run(project)
    finally:
        go_on.touch()
        status = process.wait(60)
    assert status == 0
    assert {p.name for p in (project / "figures").iterdir()} == {"toy.ipynb", "toy.json", "toy.png"}


def test_runs_into_two_folders_share_no_checkpoints(project):
    template(project, WORK, "print(checkpoint_dir)")
    printed = set()
    for folder in ("one", "two"):
        runner.run("toy", "paper", project / folder, {})
        cells = nbformat.read(project / folder / "toy.ipynb", as_version=4).cells
        printed.add(cells[-1].outputs[0].text)
    assert len(printed) == 2


def test_a_kill_among_the_moves_leaves_no_picture_beside_another_runs_numbers(project, monkeypatch):
    into = project / "figures"
    new = {"toy.png": "new", "toy_more.pdf": "new", "toy.json": "new", "toy.ipynb": "new"}
    moves = 0

    def killed_at(k):
        def replace(source, target):
            nonlocal moves
            if moves == k:
                raise KeyboardInterrupt
            moves += 1
            os.rename(source, target)

        return replace

    for k in range(len(new) + 1):
        moves = 0
        for folder, word in ((into, "old"), (stage := into / ".toy.stage", "new")):
            folder.mkdir(parents=True, exist_ok=True)
            for name in new:
                (folder / name).write_text(word)
        monkeypatch.setattr(runner.os, "replace", killed_at(k))
        if k < len(new):
            with pytest.raises(KeyboardInterrupt):
                runner._publish(stage, into, "toy")
        else:
            runner._publish(stage, into, "toy")
        there = {p.name: p.read_text() for p in into.glob("toy*")}
        numbers = [there[name] for name in ("toy.json", "toy.ipynb") if name in there]
        assert all(word == "new" for word in numbers)
        assert not numbers or there.items() >= (new.items() - {("toy.ipynb", "new")})
    assert there == new


def test_a_long_temporary_folder_gives_way_to_a_short_one(project, monkeypatch):
    deep = project / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    assert (run(project) / "toy.json").exists()
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message", "overrides"),
    [
        (ValueError, "unknown parameter 'step'; the template has rate, steps", {"step": 1}),
        (
            TypeError,
            r"'rate' is '1e-3', a str; .* write 1\.0e-3",
            {"rate": "1e-3"},
        ),
        (TypeError, "'steps' is 2.0, a float; the template's is 10, a int", {"steps": 2.0}),
        (TypeError, "'steps' is True, a bool", {"steps": True}),
        (
            TypeError,
            r"'rates\[1\]' is '1e-3', a str; the template's is 0\.5, a float .*write 1\.0e-3",
            {"rates": [1.0, "1e-3"]},
        ),
        (
            TypeError,
            r"'weights\[fine\]' is '1e-3', a str; .*1\.0e-3",
            {"weights": {"fine": "1e-3"}},
        ),
        (TypeError, r"'corners\[1\]\[0\]' is '1e0', a str", {"corners": [[0, 1], ["1e0", 2.0]]}),
        (TypeError, r"'extra\[0\]' is '1e-3', a str \(in YAML", {"extra": ["1e-3"]}),
        (
            TypeError,
            r"'rates' is 0\.5, a float; the template's is \[0\.5\], a list",
            {"rates": 0.5},
        ),
    ],
)
def test_parameters_are_checked_before_anything_runs(project, error, message, overrides):
    with pytest.raises(error, match=message):
        run(project, **overrides)
    assert not (project / "figures").exists()


def test_an_integer_may_stand_for_a_float(project):
    given = {"rate": 2, "rates": [1, 0.1], "weights": {"coarse": 1}, "extra": ["a", 3]}
    assert (run(project, **given) / "toy.json").exists()


def test_stand_in_data_has_its_own_name_and_spares_the_real_results(project, monkeypatch, capsys):
    plan(project, {"data": "mnist", "paper": {"steps": 20}, "stand_in": {"dataset": "digits"}})
    monkeypatch.setattr(data, "mnist", lambda split: None)
    monkeypatch.setenv("PRIVGAN_STAND_IN", "")  # put back afterwards
    figures = run(project)
    before = {p.name: p.read_bytes() for p in figures.iterdir()}
    assert before["toy.png"] == b"mnist"

    def unavailable(split):
        raise data.DataUnavailable("no network")

    monkeypatch.setattr(data, "mnist", unavailable)
    run(project)
    assert (figures / "toy.digits.png").read_bytes() == b"digits"
    assert {n: (figures / n).read_bytes() for n in before} == before
    capsys.readouterr()
    summary = runner.summary(["toy"], "paper", figures)
    assert "toy.digits (scikit-learn digits)" in summary
    assert "MNIST was not available" in summary


def test_a_folder_that_cannot_be_made_is_named(project):
    (project / "figures").write_text("a file where a folder should be")
    with pytest.raises(SystemExit, match=r"cannot create .*figures"):
        run(project)


def test_checkpoints_are_named_by_every_source_that_results_depend_on(project, monkeypatch):
    source = project / "package" / "mechanisms" / "additive.py"
    source.parent.mkdir(parents=True)
    monkeypatch.setattr(runner, "__file__", str(project / "package" / "artifact" / "run.py"))
    names = set()
    for text in ("one", "two"):
        source.write_text(text)
        names.add(runner._fingerprint(project / "notebooks" / "toy.ipynb", {}))
    assert len(names) == 2


def test_refresh_repeats_a_template_in_place(project):
    path = project / "notebooks" / "toy.ipynb"
    (project / "out").mkdir()
    runner.refresh("toy")
    cells = nbformat.read(path, as_version=4).cells
    assert [c.execution_count for c in cells] == [1, 2]
    assert not list(path.parent.glob("*.part.ipynb"))


def make(*arguments, **environment):
    root = Path(__file__).parents[2]
    clean = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    return subprocess.run(
        ["make", *arguments],
        cwd=root,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_make_help_names_every_command():
    text = make("help").stdout
    for command in ("figures", "test", "lab", "env", "templates", "clean", "SCALE=smoke", "-j2"):
        assert command in text


def test_make_shares_the_cores_among_jobs():
    cores = os.cpu_count()
    for flags, jobs in (((), 1), (("-j2",), 2)):
        plan = make("-n", "-B", "SCALE=smoke", *flags, "figures/01_quickstart.ipynb").stdout
        assert f"OMP_NUM_THREADS={max(1, cores // jobs)} " in plan


def test_kernels_get_an_absolute_data_folder(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("PRIVGAN_DATA_DIR", "some data")
    show = "import os; Path(out_dir, 'where').write_text(os.environ['PRIVGAN_DATA_DIR'])"
    template(project, WORK, show)
    assert (run(project) / "where").read_text() == str(project / "some data")


def test_a_run_with_ones_own_parameters_is_not_stamped_as_the_real_one(project):
    run(project, rate=1.5)
    runner.run("toy", "paper", project / "elsewhere", {})
    assert not (project / "build" / "paper-toy.stamp").exists()


@pytest.mark.parametrize(
    ("message", "change"),
    [
        ("unknown key 'papr'", {"papr": {"steps": 20}}),
        ("'out_dir' is set by the runner", {"out_dir": "/tmp"}),
    ],
)
def test_plans_and_overrides_are_checked(project, message, change):
    overrides = change if "out_dir" in change else {}
    if not overrides:
        plan(project, change)
    with pytest.raises(ValueError, match=message):
        run(project, **overrides)


@pytest.mark.parametrize("text", ["{a: ", "", "sigma"])
def test_parameters_that_are_no_mapping_are_named(project, monkeypatch, text):
    monkeypatch.setattr(sys, "argv", ["execute", "run", "toy", "--parameters", text])
    with pytest.raises(SystemExit, match=r"--parameters (is not YAML|must be a mapping)"):
        runner.main()
