"""From reports to a table: what goes together comes back, and two commands are enough."""

import numpy as np
import pandas as pd
import pytest
import torch
from people import PEOPLE, people

import privgan as pg
from privgan.__main__ import main
from privgan.tables import (
    Table,
    YesNo,
    marginals,
    quality,
    read_reports,
    train,
    write_reports,
)


@pytest.fixture(scope="module")
def reports():
    return PEOPLE.simulate(people(6000), epsilon=6.0, choose=2, seed=1)


@pytest.fixture(scope="module")
def trained(reports):
    return train(PEOPLE, reports, steps=100, lr=0.03, progress=False)


def test_marginals_are_those_of_the_people(reports):
    raw = PEOPLE.records(people(6000)).double().mean(0)
    found = torch.cat(marginals(reports))
    assert (found - raw).abs().max() < 0.05


def test_what_goes_together_comes_back(trained):
    model, history = trained
    frame = PEOPLE.frame(model.sample(5000, seed=0), seed=0)
    assert frame.dtypes.equals(people(5).dtypes)
    old = frame.age >= 66
    assert frame.retired[old].mean() > 0.6
    assert frame.retired[~old].mean() < 0.3
    assert frame.work[frame.retired].isna().mean() > 0.65
    assert frame.work[~frame.retired].isna().mean() < 0.3
    assert abs(frame.colour[frame.retired].eq("red").mean() - 0.5) < 0.1
    assert history.nll[-1][1] < history.nll[0][1]


def test_reports_of_several_budgets_train_together(reports):
    coarse = PEOPLE.simulate(people(2000, seed=5), epsilon=1.0, seed=2)
    all_ = PEOPLE.simulate(people(2000, seed=6), epsilon=8.0, choose=4, seed=3)
    model, _ = train(PEOPLE, [coarse, reports, all_], steps=30, progress=False)
    assert PEOPLE.frame(model.sample(10, seed=0), seed=0).shape == (10, 4)


def test_its_quality_is_told_by_reports_alone(trained, reports):
    found = quality(PEOPLE, trained[0], reports)
    assert found.nll < found.independent - 3 * found.error
    assert np.mean([column.within for column in found.columns]) > 0.7
    assert np.mean([pair.within for pair in found.pairs]) > 0.65
    assert len(found.pairs) == 6
    page = found.html()
    assert all(column.name in page for column in PEOPLE.columns)
    # A generator that knows only the columns is found out by the pair that goes together.
    alone = pg.Atoms(torch.cat(marginals(reports))[None].float())
    alone.draw = lambda x, g: torch.cat(
        [
            torch.nn.functional.one_hot(x[:, s].multinomial(1, generator=g)[:, 0], s.stop - s.start)
            for s in PEOPLE.slices
        ],
        1,
    ).float()
    pairs = {pair.name: np.abs(pair.off).max() for pair in quality(PEOPLE, alone, reports).pairs}
    assert max(pairs, key=pairs.get) in ("age, retired", "retired, work", "age, work")
    assert max(pairs.values()) > 10


def test_reports_of_another_table_are_refused(reports):
    with pytest.raises(ValueError, match="another table"):
        train(Table(YesNo("a"), YesNo("b")), reports)


def test_reports_survive_a_file_and_a_damaged_one_is_refused(tmp_path, reports):
    path = tmp_path / "reports.parquet"
    write_reports(path, PEOPLE, reports)
    table, back = read_reports(path)
    assert table == PEOPLE
    assert back.mechanism == reports.mechanism
    assert torch.equal(back.values.double(), reports.values.double())
    assert back.simulation
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        read_reports(path)
    people(5).to_parquet(path)
    with pytest.raises(ValueError, match="does not say what it holds"):
        read_reports(path)


def test_two_commands_make_a_table(tmp_path, capsys):
    schema, raw = tmp_path / "schema.json", tmp_path / "raw.csv"
    PEOPLE.save(schema)
    people(1500).to_csv(raw, index=False)
    out, made = tmp_path / "reports.parquet", tmp_path / "made.csv"
    assert main(["release", str(schema), str(raw), str(out), "--epsilon", "4"]) == 0
    said = capsys.readouterr().out
    assert "spends epsilon 4" in said
    assert not read_reports(out)[1].simulation
    assert main(["train", str(out), str(made), "--steps", "20", "--rows", "70"]) == 0
    frame = pd.read_csv(made, dtype={"work": str}, keep_default_na=False, na_values=[""])
    assert PEOPLE.encode(frame).shape == (70, 4)
    page = (tmp_path / "made.html").read_text()
    assert "1500 reports of a table of 4 columns" in page
    assert "no raw data were read" in page
    assert not (tmp_path / "made.ckpt").exists()
    people(1400).to_csv(raw, index=False)
    assert main(["release", str(schema), str(raw), str(out), "--epsilon", "4"]) == 0
    assert main(["train", str(out), str(made), "--steps", "5"]) == 0
    assert len(pd.read_csv(made)) == 1400


@pytest.mark.parametrize("rows", ["0", "-5"])
def test_rows_that_cannot_be_are_refused_before_any_training(tmp_path, capsys, rows):
    out = tmp_path / "reports.parquet"
    write_reports(out, PEOPLE, PEOPLE.release(people(200), epsilon=4.0))
    assert main(["train", str(out), str(tmp_path / "made.csv"), "--rows", rows]) == 1
    assert "--rows" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [out.name]


def test_a_command_that_fails_says_so_in_a_sentence(tmp_path, capsys):
    schema, raw = tmp_path / "schema.json", tmp_path / "raw.csv"
    PEOPLE.save(schema)
    people(5).assign(age=101).to_csv(raw, index=False)
    out = tmp_path / "reports.parquet"
    assert main(["release", str(schema), str(raw), str(out), "--epsilon", "4"]) == 1
    said = capsys.readouterr().err
    assert "column 'age', row 0" in said
    assert "101" not in said
    assert not out.exists()
    assert main(["train", str(raw), str(out)]) == 1
    assert "cannot be read as reports" in capsys.readouterr().err
