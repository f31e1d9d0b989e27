"""Tables and reports as files, read and written a piece at a time."""

import numpy as np
import pytest
import torch
from people import PEOPLE, people

from privgan.__main__ import main
from privgan.tables import files, read_frame, read_reports, write_reports
from privgan.tables.files import read_frames


@pytest.fixture(autouse=True)
def pieces(monkeypatch):
    monkeypatch.setattr(files, "PIECE", 100 * PEOPLE.slices[-1].stop)  # of 100 rows


@pytest.fixture(params=["csv", "parquet"])
def raw(tmp_path, request):
    path, frame = tmp_path / f"raw.{request.param}", people(450)
    frame.loc[250:, "work"] = None  # from there on pieces have no text in this column
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def released(tmp_path, raw):
    PEOPLE.save(tmp_path / "schema.json")
    arguments = [tmp_path / "schema.json", raw, tmp_path / "out.parquet"]
    return main(["release", *map(str, arguments), "--epsilon", "200", "--choose", "4"])


def test_pieces_of_a_frame_are_the_frame(raw):
    found = [*read_frames(raw, PEOPLE)]
    assert [first for first, _ in found] == [0, 100, 200, 300, 400]
    whole = PEOPLE.encode(read_frame(raw, PEOPLE))
    parts = np.concatenate([PEOPLE.encode(frame) for _, frame in found])
    assert np.array_equal(parts, whole, equal_nan=True)


def test_every_row_is_released_once_and_in_its_place(tmp_path, raw, capsys):
    assert released(tmp_path, raw) == 0
    assert "450 reports are in" in capsys.readouterr().out
    table, reports = read_reports(tmp_path / "out.parquet")
    records = table.records(read_frame(raw, table)).double()
    hits = [(records[:, s] * reports.values[:, s]).sum(1).mean() for s in table.slices]
    assert min(hits) > 0.99  # epsilon 50 a column: all but the truth


def test_a_row_that_does_not_fit_is_counted_from_its_piece_and_nothing_is_left(
    tmp_path, raw, capsys
):
    frame = people(450)
    frame.loc[317, "age"] = 101
    frame.to_csv(raw, index=False) if raw.suffix == ".csv" else frame.to_parquet(raw)
    assert released(tmp_path, raw) == 1
    said = capsys.readouterr().err
    assert "column 'age', row 17" in said
    assert said.endswith("; rows are counted from 300\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == [raw.name, "schema.json"]


def test_a_table_without_rows_is_refused(tmp_path, raw, capsys):
    empty = people(450)[:0]
    empty.to_csv(raw, index=False) if raw.suffix == ".csv" else empty.to_parquet(raw)
    assert released(tmp_path, raw) == 1
    assert "frame has no rows" in capsys.readouterr().err


def test_parts_of_reports_are_one_file(tmp_path):
    frames = [people(n, seed=n) for n in (30, 1, 40)]
    parts = [PEOPLE.simulate(frame, epsilon=4.0, seed=0) for frame in frames]
    assert write_reports(tmp_path / "r.parquet", PEOPLE, iter(parts)) == 71
    whole = read_reports(tmp_path / "r.parquet")[1]
    assert torch.equal(whole.values, torch.cat([part.values.double() for part in parts]))
    assert whole.metadata == parts[0].metadata
    other = PEOPLE.simulate(frames[0], epsilon=2.0, seed=0)
    with pytest.raises(ValueError, match="parts of several releases"):
        write_reports(tmp_path / "r.parquet", PEOPLE, iter([parts[0], other]))
    assert len(read_reports(tmp_path / "r.parquet")[1]) == 71


def test_columns_that_matter_more_are_drawn_more_often(tmp_path, raw, capsys):
    PEOPLE.save(tmp_path / "schema.json")
    arguments = ["release", *map(str, (tmp_path / "schema.json", raw, tmp_path / "out.parquet"))]
    arguments += ["--epsilon", "4", "--choose", "1", "--weights", "work=6", "colour=0.5"]
    assert main(arguments) == 0
    mechanism = read_reports(tmp_path / "out.parquet")[1].mechanism
    assert mechanism == PEOPLE.mechanism(4.0, choose=1, weights={"work": 6.0, "colour": 0.5})
    assert main([*arguments[:-1], "town=2"]) == 1
    assert "weights has 'town', which is no column's name" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments[:-1], "colour"])
    assert "'colour' is no COLUMN=NUMBER" in capsys.readouterr().err
