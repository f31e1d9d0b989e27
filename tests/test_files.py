import errno
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from privgan.files import load_tensors, save_tensors, write_atomically


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
