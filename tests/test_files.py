import errno
import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import safetensors.torch
import torch

from privgan.files import UNSIGNED, load_tensors, save_tensors, write_atomically


def test_text_and_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "new folder" / "n.json"
    write_atomically(path, "old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["n.json"]


def test_a_full_disk_names_the_path_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "n.json"
    write_atomically(path, "old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot write results .*n\.json: No space left") as caught:
        write_atomically(path, "new", "results")
    assert caught.value.errno == errno.ENOSPC
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["n.json"]


def test_a_file_in_the_folders_place_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"cannot write .*file/n\.json"):
        write_atomically(tmp_path / "file" / "n.json", "new")


def tensors():
    return {
        "weights": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
        "steps": torch.tensor(7),
        "none": torch.empty(0, 2, dtype=torch.float64),
        "bits": torch.tensor([True, False]),
        "view": torch.arange(12.0).reshape(3, 4).T,
    }


def test_tensors_come_back_with_what_they_are(tmp_path):
    path, about = tmp_path / "t", {"who": "me", "n": [1, 2.5, None, float("inf")]}
    save_tensors(path, "kind 1", about, tensors(), "state")
    said, found = load_tensors(path, "kind 1", "state")
    assert said == about
    assert found.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


def test_every_damaged_file_is_refused_by_name(tmp_path):
    path = tmp_path / "t"
    save_tensors(path, "kind 1", {"who": "me"}, tensors(), "state")
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[: rng.integers(len(whole))] for _ in range(40)]
    for place, bit in rng.integers((len(whole), 8), size=(300, 2)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << bit
        damaged.append(bytes(flipped))
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"state .*/t cannot be read"):
            load_tensors(path, "kind 1", "state")


def test_another_format_is_refused_and_a_missing_file_is_missing(tmp_path):
    save_tensors(tmp_path / "t", "kind 1", {}, {}, "state")
    with pytest.raises(ValueError, match="its format is 'kind 1', not 'kind 2'"):
        load_tensors(tmp_path / "t", "kind 2", "state")
    with pytest.raises(FileNotFoundError):
        load_tensors(tmp_path / "no", "kind 1", "state")


def test_writers_of_one_path_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "n.json"
    with ThreadPoolExecutor(8) as pool:
        done = [pool.submit(write_atomically, path, str(k) * 10_000) for k in range(10)]
        for one in done * 20:
            one.result()
    assert len(set(path.read_text())) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["n.json"]


def test_what_a_killed_writer_left_is_cleared_away_and_a_living_one_is_not_disturbed(tmp_path):
    old, new = (tmp_path / f".privgan-{name}.part" for name in ("old", "new"))
    for left in (old, new):
        left.write_text("half")
    os.utime(old, (0, 0))
    write_atomically(tmp_path / "n.json", "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == [new.name, "n.json"]


def test_a_link_stays_a_link_and_a_private_file_private(tmp_path):
    path, link = tmp_path / "n.json", tmp_path / "link"
    write_atomically(path, "old")
    path.chmod(0o600)
    link.symlink_to(path)
    write_atomically(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_names_as_long_as_the_system_takes_can_be_written(tmp_path):
    write_atomically(tmp_path / ("x" * 255), "whole")
    assert [p.name for p in tmp_path.iterdir()] == ["x" * 255]


def test_an_interrupted_write_leaves_nothing(tmp_path, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "n.json", "new")
    assert not list(tmp_path.iterdir())


def signed(path, text):
    """A file whose SHA-256 is right, and whose text about itself is anybody's."""
    file = safetensors.torch.save({}, {"format": "kind 1", "about": text, "sha256": UNSIGNED})
    path.write_bytes(file.replace(UNSIGNED.encode(), hashlib.sha256(file).hexdigest().encode()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"a": 1, "a": 2}', "a key twice"),
        ('{"a": 1e999}', "not finite"),
        ("[1]", "says nothing about itself"),
        ("", ""),
    ],
)
def test_a_right_signature_is_not_believed_to_make_a_right_file(tmp_path, text, message):
    signed(tmp_path / "t", text)
    with pytest.raises(ValueError, match=f"state .*/t cannot be read: .*{message}"):
        load_tensors(tmp_path / "t", "kind 1", "state")


def test_folders_and_pipes_are_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match="cannot be read: it is no file"):
            load_tensors(path, "kind 1", "state")


KILLED = """
import sys, torch
from pathlib import Path
from privgan.files import save_tensors
for n in range(10_000):
    numbers = torch.full((300_000,), float(n))
    save_tensors(Path(sys.argv[1]), "kind 1", {"n": n}, {"numbers": numbers}, "state")
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    path = tmp_path / "t"
    for delay in (0.0, 0.013, 0.029):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)])
        path.unlink(missing_ok=True)
        while not path.exists():
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.wait()
        about, found = load_tensors(path, "kind 1", "state")
        assert (found["numbers"] == about["n"]).all()
    save_tensors(path, "kind 1", {}, {}, "state")
