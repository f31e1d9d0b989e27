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
from projects import RECORD, WORK, plan, run, template

from privgan.artifact import data
from privgan.artifact import run as runner


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


def test_what_a_killed_run_had_made_comes_to_its_place_before_the_next_begins(project):
    """Killed among the moves: the next run ends them, and fails on its own account."""
    figures = run(project)
    made = {path.name: path.read_bytes() for path in figures.iterdir()}
    stamp = project / "build" / "paper-toy.stamp"
    sealed = figures / ".toy.made"
    sealed.mkdir()
    for name in ("toy.json", "toy.ipynb"):  # the picture has moved
        os.replace(figures / name, sealed / name)
    with pytest.raises(ValueError, match=r"a run was killed while it moved toy into .* repeat it"):
        runner.summary(["toy"], "paper", figures)
    template(project, "assert False")
    with pytest.raises(SystemExit, match="toy failed"):
        run(project)
    assert {path.name: path.read_bytes() for path in figures.glob("toy.[jp]*")} == {
        name: content for name, content in made.items() if name != "toy.ipynb"
    }
    assert (figures / "toy.ipynb").read_bytes() == made["toy.ipynb"]
    assert not sealed.exists()
    assert not stamp.exists()


def test_a_notebook_without_numbers_is_told_so(project):
    template(project, "pass")
    with pytest.raises(ValueError, match=r"toy recorded no numbers; .* toy\.json"):
        run(project)


def test_an_unknown_notebook_is_named(project):
    with pytest.raises(ValueError, match=r"there is no notebook 'toys' in .*; there are "):
        runner.run("toys", "paper", project / "figures", {})


def test_any_folder_will_do(project, monkeypatch):
    odd = project / "a space {braces} #1 ~"
    odd.mkdir()
    os.rename(project / "notebooks", odd / "notebooks")
    monkeypatch.setattr(runner, "NOTEBOOKS", odd / "notebooks")
    monkeypatch.setattr(runner, "SCALES", odd / "notebooks" / "scales.yaml")
    runner.run("toy", "paper", odd / "figures", {})
    assert (odd / "figures" / "toy.ipynb").exists()


def test_a_tilde_is_the_home_folder(project, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(project / "home"))
    monkeypatch.setattr(sys, "argv", ["run", "run", "toy", "--into", "~/figures"])
    runner.main()
    assert (project / "home" / "figures" / "toy.ipynb").exists()


def test_a_long_temporary_folder_gives_way_and_jupyters_own_need_not_be_there(project, monkeypatch):
    deep = project / ("a" * 60) / ("b" * 60)
    deep.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(project / "notebooks" / "toy.ipynb" / "none"))
    assert (run(project) / "toy.json").exists()
    assert list(deep.iterdir()) == []


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


def test_an_executed_copy_gets_the_templates_new_words(project, monkeypatch):
    figures = project / "figures"
    monkeypatch.setattr(sys, "argv", ["run", "retell", "toy", "--into", str(figures)])
    with pytest.raises(SystemExit, match=r"retell: .*toy\.ipynb is missing; make toy first"):
        runner.main()
    run(project)
    before = {p.name: p.read_bytes() for p in figures.iterdir()}
    path = project / "notebooks" / "toy.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_markdown_cell("What else to try."))
    nbformat.write(notebook, path)
    runner.main()
    after = {p.name: p.read_bytes() for p in figures.iterdir()}
    assert "What else to try." in after["toy.ipynb"].decode()
    assert after | {"toy.ipynb": before["toy.ipynb"]} == before

    template(project, WORK, "1 + 1")
    with pytest.raises(SystemExit, match="retell: code cell 2 is not the one that ran"):
        runner.main()
    assert {p.name: p.read_bytes() for p in figures.iterdir()} == after


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
    for command in (
        "figures",
        "test",
        "lab",
        "env",
        "templates",
        "clean",
        "SCALE=smoke",
        "-j2",
        "CLUSTER=",
    ):
        assert command in text


def test_make_shares_the_cores_among_jobs():
    cores = os.cpu_count()
    for flags, jobs in (((), 1), (("-j2",), 2)):
        plan = make("-n", "-B", "SCALE=smoke", *flags, "figures/01_quickstart.ipynb").stdout
        assert f"OMP_NUM_THREADS={max(1, cores // jobs)} " in plan


def test_make_hands_a_cluster_on_where_there_is_one():
    asked = ("-n", "-B", "SCALE=smoke", "figures/01_quickstart.ipynb")
    plan = make(*asked, "CLUSTER=tcp://host:8786").stdout
    assert '--cluster "tcp://host:8786"' in plan
    assert "--cluster" not in make(*asked).stdout


def test_kernels_get_an_absolute_data_folder(project, monkeypatch):
    monkeypatch.chdir(project)
    monkeypatch.setenv("PRIVGAN_DATA_DIR", "some data")
    show = "import os; Path(out_dir, 'where').write_text(os.environ['PRIVGAN_DATA_DIR'])"
    template(project, WORK, show)
    assert (run(project) / "where").read_text() == str(project / "some data")


def test_a_run_with_ones_own_parameters_is_not_stamped_as_the_real_one(project):
    stamp = project / "build" / "paper-toy.stamp"
    runner.run("toy", "paper", project / "elsewhere", {})
    assert not stamp.exists()
    figures = run(project)
    assert "toy" in runner.summary(["toy"], "paper", figures)
    run(project, rate=1.5)
    assert not stamp.exists()  # what it stood for is no longer there
    with pytest.raises(ValueError, match="toy not made at paper scale yet"):
        runner.summary(["toy"], "paper", figures)
