"""A kill at any moment of the moves: no picture beside another run's numbers, nothing lost."""

import json
import os

import pytest

from privgan.artifact.publish import check_whole, publish, seal, sealed

OLD = {"toy.png": "old", "toy_gone.pdf": "old", "toy.ipynb": "old"}
NEW = {"toy.png": "new", "toy_more.pdf": "new", "toy.ipynb": "new"}


def write(folder, files):
    """A run's files with its numbers in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
    (folder / "toy.json").write_text(json.dumps({"run": files["toy.png"]}))


def place(into, files):
    write(into / ".toy.stage", files)
    seal(into / ".toy.stage", into, "toy")
    publish(into, "toy")


def contents(folder):
    return {p.name: p.read_text() for p in folder.glob("toy*") if p.suffix != ".json"}


@pytest.fixture
def into(tmp_path):
    place(tmp_path, OLD)
    other = tmp_path / "toy_gone.digits.png"
    other.write_text("another notebook's")
    check_whole(tmp_path, "toy")
    assert contents(tmp_path) == OLD | {other.name: "another notebook's"}
    other.unlink()
    return tmp_path


class Killed(BaseException):
    pass


def kill_at(moment, monkeypatch):
    """Raise `Killed` in place of the system call of that number, counted from now."""
    left = moment

    def counted(call):
        def killing(*arguments, **settings):
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return call(*arguments, **settings)

        return killing

    for name in ("replace", "unlink", "rename", "rmdir"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))


@pytest.mark.parametrize("moment", range(12))
def test_a_kill_at_any_call_shows_no_picture_beside_another_runs_numbers(into, monkeypatch, moment):
    write(into / ".toy.stage", NEW)
    with monkeypatch.context() as patched:
        kill_at(moment, patched)
        try:
            seal(into / ".toy.stage", into, "toy")
            publish(into, "toy")
            killed = False
        except Killed:
            killed = True
    numbers = into / "toy.json"
    if numbers.exists():
        made_by = json.loads(numbers.read_text())["run"]
        assert set(contents(into).values()) == {made_by}
    if killed and contents(into) != OLD:
        with pytest.raises(ValueError, match="was killed while it moved toy into"):
            check_whole(into, "toy")
    if sealed(into, "toy").exists():
        publish(into, "toy")
        killed = False
    check_whole(into, "toy")
    assert contents(into) == (OLD if killed else NEW)
    assert killed == (moment < 3)  # the numbers written, what was aside removed, the folder sealed
    assert {p.name for p in into.iterdir() if p.name.startswith(".")} <= {".toy.stage"}


def test_the_last_moment_is_past_the_end(into, monkeypatch):
    write(into / ".toy.stage", NEW)
    kill_at(11, monkeypatch)
    seal(into / ".toy.stage", into, "toy")
    publish(into, "toy")


@pytest.mark.parametrize("change", ["other", None])
def test_a_picture_that_is_not_the_runs_own_is_named(into, change):
    if change:
        (into / "toy.png").write_text(change)
    else:
        (into / "toy.png").unlink()
    with pytest.raises(ValueError, match=r"toy\.png is not what toy\.json was made with"):
        check_whole(into, "toy")


def test_numbers_that_are_missing_or_no_json_are_named(into):
    (into / "toy.json").write_text("{")
    with pytest.raises(ValueError, match=r"toy\.json is not JSON"):
        check_whole(into, "toy")
    (into / "toy.json").unlink()
    with pytest.raises(ValueError, match=r"toy\.json is missing; make toy again"):
        check_whole(into, "toy")


def test_numbers_of_an_older_version_are_replaced_as_well(tmp_path):
    write(tmp_path, OLD)  # without digests
    check_whole(tmp_path, "toy")
    place(tmp_path, NEW)
    assert contents(tmp_path) == NEW | {"toy_gone.pdf": "old"}
