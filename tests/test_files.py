import errno
from pathlib import Path

import pytest

from privgan.files import write_atomically


def test_text_and_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "new folder" / "n.json"
    write_atomically(path, "old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["n.json"]


def test_a_full_disk_names_the_path_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "n.json"
    write_atomically(path, "old")

    def full(self, content):
        with open(self, "wb") as file:
            file.write(content[:1])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
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
