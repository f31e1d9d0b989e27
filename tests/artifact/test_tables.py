"""Real tables fit their schemas, distances mean what they say, and rivals know what they should."""

import io
import zipfile

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import requests

from privgan.artifact import table_rivals, table_study, tables
from privgan.artifact.claims import found_in_words, mean_and_error
from privgan.artifact.data import DataUnavailable, data_dir
from privgan.artifact.pictures import tables as pictures
from privgan.tables import Category, Table, YesNo

PAIR = Table(YesNo("a"), Category("b", ["x", "y", "z"]), YesNo("c"))


def rows(n, seed=0):
    """b is x exactly where a is; c is by itself."""
    rng = np.random.default_rng(seed)
    a = rng.random(n) < 0.5
    b = np.where(a, "x", rng.choice(["y", "z"], n))
    return pd.DataFrame({"a": a, "b": pd.array(b, "str"), "c": rng.random(n) < 0.3})


@pytest.mark.parametrize("name", tables.TABLES)
def test_real_tables_fit_their_schemas(name):
    try:
        raw = tables.TABLES[name]()
    except DataUnavailable:
        pytest.skip("not on this machine")
    assert len(raw.train) > 3.9 * len(raw.test)
    codes = raw.table.codes(raw.table.records(raw.train))
    # Every cell of a column is public; what is not empty is spread over more than one.
    assert all(len(np.unique(column)) > 1 for column in codes.T)
    assert raw.target in raw.table.names


def test_a_table_that_is_not_there_says_so(monkeypatch, tmp_path):
    def offline(*_, **__):
        raise ValueError("no network")

    monkeypatch.setenv("PRIVGAN_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tables.pooch, "retrieve", offline)
    with pytest.raises(DataUnavailable, match="put it there"):
        tables.adult()
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "adult.data").write_text("other")
    with pytest.raises(ValueError, match="move it away"):
        tables.adult()
    assert data_dir() == tmp_path


@pytest.fixture
def geonames(tmp_path, monkeypatch):
    """A stand-in for GeoNames: what it answers with, and which addresses were asked for."""
    lines = [
        ["7", 'Foo "Bar', "Foo", "", "42.5", "-1.25", "P", "PPL", "NA"],
        ["8", "NA", "NA", "", "-33", "151", "P", "PPL", "AU"],
    ]
    dump = io.BytesIO()
    with zipfile.ZipFile(dump, "w") as files:
        files.writestr("cities5000.txt", "".join("\t".join(line) + "\n" for line in lines))
    answer, asked = {"content": dump.getvalue()}, []

    class Downloader:
        def __init__(self, **_):
            pass

        def __call__(self, url, output, _):
            asked.append(url)
            if answer["content"] is None:
                raise requests.ConnectionError("down")
            with open(output, "wb") as file:
                file.write(answer["content"])

    monkeypatch.setattr(tables.pooch, "HTTPDownloader", Downloader)
    monkeypatch.setenv("PRIVGAN_DATA_DIR", str(tmp_path))
    return answer, asked


def test_places_are_made_of_geonames_dump_once(geonames, tmp_path):
    _, asked = geonames
    with pytest.warns(UserWarning, match="2 cities are GeoNames' of today"):
        first = tables.places()
    assert first.tolist() == [[-1.25, 42.5], [151.0, -33.0]]
    assert asked == [tables.GEONAMES]
    assert [p.name for p in tmp_path.rglob("*.*")] == ["world_cities.csv.gz"]
    kept = pd.read_csv(tmp_path / tables.PLACES, keep_default_na=False)
    assert kept.name.tolist() == ['Foo "Bar', "NA"]
    assert np.array_equal(tables.places(), first)  # of the file, without a word
    assert len(asked) == 1


@pytest.mark.parametrize("content", [None, b"<html>log in</html>"])
def test_places_that_cannot_be_had_say_so(geonames, tmp_path, content):
    answer, _ = geonames
    answer["content"] = content
    with pytest.raises(DataUnavailable, match=r"world_cities.csv.gz is not in .*; put it there"):
        tables.places()
    assert not [*tmp_path.iterdir()]


def test_another_file_in_the_place_of_places_is_named(geonames, tmp_path):
    (tmp_path / "places").mkdir()
    (tmp_path / tables.PLACES).write_text("other")
    with pytest.raises(ValueError, match="cannot be read as cities; move it away"):
        tables.places()


def test_distances_are_zero_for_the_same_and_grow_with_what_is_lost():
    codes = PAIR.codes(PAIR.records(rows(4000)))
    assert tables.total_variation(codes, codes, PAIR) == (0.0, 0.0)
    alone = np.stack([np.random.default_rng(c).permutation(codes[:, c]) for c in range(3)], 1)
    one, two = tables.total_variation(alone, codes, PAIR)
    assert one == 0.0
    assert two == pytest.approx(0.5 / 3, abs=0.02)  # half of one pair of three is elsewhere
    assert tables.classifier_error(codes, codes, 0) == 0.0
    assert tables.classifier_error(alone, codes, 0) > 0.4
    assert tables.pmse(codes, codes) < 0.01 < tables.pmse(alone, codes)


@pytest.mark.parametrize("name", table_rivals.RIVALS)
@pytest.mark.parametrize("choose", [2, 3])
def test_rivals_find_what_goes_together_where_reports_say_much(name, choose):
    reports = PAIR.simulate(rows(6000), epsilon=12.0, choose=choose, seed=1)
    made = table_rivals.RIVALS[name](PAIR, reports, 5000, 0)
    codes = PAIR.codes(PAIR.records(rows(6000)))
    one, two = tables.total_variation(made, codes, PAIR)
    assert one < 0.03
    assert (two < 0.06) == (name != "independent")


@pytest.mark.parametrize("name", table_rivals.RIVALS)
def test_pairs_that_nobody_reported_are_taken_for_independent(name):
    reports = PAIR.simulate(rows(6000), epsilon=12.0, choose=1, seed=1)
    made = table_rivals.RIVALS[name](PAIR, reports, 5000, 0)
    alone = table_rivals.independent(PAIR, reports, 5000, 1)
    one, two = tables.total_variation(made, alone, PAIR)
    assert one < 0.03
    assert two < 0.05


def test_the_study_counts_every_method_once_for_each_budget_and_seed(tmp_path):
    raw = tables.Raw("small", PAIR, rows(700), rows(200, 1), "a")
    found = table_study.compare(raw, [8.0], [0, 1], steps=5, checkpoint_dir=str(tmp_path))
    methods = [table_study.OURS, *table_rivals.RIVALS]
    assert [r["method"] for r in found] == [table_study.RAW, *methods, *methods]
    best = table_study.best_rival(found, 8.0, "two_way")
    means = {m: table_study.mean(found, m, 8.0, "two_way") for m in methods[1:]}
    assert means[best] == min(means.values())
    text = table_study.table(found, [8.0]).data
    assert text.count("| 8 |") == len(methods)
    two_way = mean_and_error(table_study.by_seed(found, table_study.OURS, 8.0, "two_way"))
    assert f"| {found_in_words(**two_way)} |" in text  # two seeds have an error
    assert "±" not in text.splitlines()[-1]  # raw rows are one table
    fig = pictures.losses({"small": found}, [8.0])
    assert [*pictures.LOOKS] == methods
    assert [ax.get_title() for ax in fig.axes] == ["small", "small"]
    plt.close(fig)


def test_ratios_and_gaps_pair_what_saw_the_same_reports():
    ours, others = {0: 0.1, 1: 0.3}, {0: 0.2, 1: 0.4}
    rows = [
        {"method": method, "epsilon": 4.0, "seed": s, "two_way": error[s] + more}
        for method, error, more in [
            (table_study.OURS, ours, 0.0),
            *((rival, others, k) for k, rival in enumerate(table_rivals.RIVALS)),
        ]
        for s in (0, 1)
    ]
    assert table_study.ratio(rows, 4.0, "two_way") == pytest.approx([0.5, 0.75])
    assert table_study.gap(rows, 4.0, "two_way") == pytest.approx([0.1, 0.1])


def test_a_map_recovers_what_reports_blur():
    rng = np.random.default_rng(0)
    cities = np.concatenate([rng.normal(c, 2.0, (300, 2)) for c in ([-75.0, 5.0], [105.0, 35.0])])
    found = table_study.recovered_map(cities, reach=20.0, degrees=10.0, steps=40, seed=0)
    errors = table_study.map_errors(cities, [found])
    assert errors["recovered"][0] < 0.95 * errors["reports"][0]
    fig = pictures.maps(cities, found)
    assert len(fig.axes) == 3
    plt.close(fig)
