"""Frames go in and come out whole, and what does not fit is said before anything is spent."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import privgan as pg
from privgan.tables import Category, Date, Integer, Number, Place, Table, YesNo, read_frame
from privgan.tables.training import by_column

MISSING = [False, True, ("?!", "none at all")]  # the last are no TEXTS
TEXTS = st.text("abcdef ?-éß", min_size=1, max_size=6)


@st.composite
def columns(draw, name):
    missing = draw(st.sampled_from(MISSING))
    kind = draw(st.sampled_from(["number", "integer", "category", "scale", "yes/no", "date"]))
    if kind == "number":
        low = draw(st.floats(-1e9, 1e9))
        high = low + draw(st.floats(1e-3, 1e9))
        dtype = draw(st.sampled_from([None, "float32"] if abs(low) + abs(high) < 1e3 else [None]))
        column = Number(
            name, low, high, missing=missing, cells=draw(st.integers(2, 9)), dtype=dtype
        )
        values = st.floats(low, high, width=64)
        if dtype:
            inner = np.float32(low).item(), np.float32(high).item()
            values = st.floats(*inner, width=32).filter(lambda v: low <= v <= high)
    elif kind == "integer":
        low = draw(st.integers(-(2**52), 2**52))
        high = low + draw(st.integers(1, 10**6))
        column = Integer(name, low, high, missing=missing, cells=draw(st.integers(2, 9)))
        values = st.integers(low, high)
    elif kind in ("category", "scale"):
        labels = draw(
            st.one_of(
                st.lists(TEXTS, min_size=2, max_size=7, unique=True),
                st.lists(st.integers(-5, 99), min_size=2, max_size=7, unique=True),
            )
        )
        column = Category(name, labels, missing=missing, ordered=kind == "scale")
        values = st.sampled_from(labels)
    elif kind == "yes/no":
        column, values = YesNo(name, missing=missing), st.booleans()
    else:
        low, high = sorted(
            [draw(st.dates(datetime.date(1800, 1, 1), datetime.date(2200, 1, 1))) for _ in range(2)]
        )
        high += datetime.timedelta(days=3)
        column = Date(name, str(low), str(high), missing=missing, cells=draw(st.integers(2, 9)))
        values = st.datetimes(
            datetime.datetime(low.year, low.month, low.day),
            datetime.datetime(high.year, high.month, high.day, 23, 59),
        )
    return column, st.one_of(values, st.none()) if missing else values


def typed(column, values):
    """The pandas column that the schema's values are."""
    if isinstance(column, Number):
        return pd.array([np.nan if v is None else v for v in values], column.dtype or "float64")
    if isinstance(column, Integer) or (
        isinstance(column, Category) and isinstance(column.alphabet[0], int)
    ):
        return pd.array(values, dtype="Int64" if column.missing else "int64")
    if isinstance(column, Category):
        return pd.array(values, dtype="str")
    if isinstance(column, YesNo):
        return pd.array(values, dtype="boolean") if column.missing else np.array(values, bool)
    return pd.array(values, dtype="datetime64[us]")


@st.composite
def tables(draw):
    made = [draw(columns(f"column {c}")) for c in range(draw(st.integers(1, 5)))]
    n = draw(st.integers(1, 6))
    frame = pd.DataFrame(
        {
            column.name: typed(column, draw(st.lists(values, min_size=n, max_size=n)))
            for column, values in made
        }
    )
    chosen = [column for column, _ in made]
    if draw(st.booleans()):
        south, west = draw(st.floats(-90.0, 89.0)), draw(st.floats(-180.0, 179.0))
        north, east = draw(st.floats(south + 0.5, 90.0)), draw(st.floats(west + 0.5, 180.0))
        cells = {"rows": draw(st.integers(1, 7)), "columns": draw(st.integers(2, 7))}
        missing = draw(st.sampled_from(MISSING))
        bounds = {"south": south, "north": north, "west": west, "east": east}
        chosen.append(Place("home", "lat", "lng", missing=missing, **bounds, **cells))
        there = st.tuples(st.floats(south, north), st.floats(west, east))
        points = draw(
            st.lists(
                st.one_of(there, st.just((np.nan, np.nan))) if missing else there,
                min_size=n,
                max_size=n,
            )
        )
        frame[["lat", "lng"]] = np.array(points)
    return Table(*chosen), frame


@given(tables())
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_frame_comes_back_whole(drawn):
    table, frame = drawn
    back = table.decode(table.encode(frame))
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert Table.from_plain(json.loads(json.dumps(table.plain()))) == table
    # What is drawn within cells stays in them.
    records = table.records(frame)
    assert torch.equal(table.records(table.frame(records, seed=0)), records)


ADULTS = Table(
    Integer("age", 17, 90, missing=("?",)),
    Number("income", 0.0, 1e5),
    Category("work", ["office", "farm", "none"], missing=True),
    YesNo("smokes"),
    Date("born", "1920-01-01", "2010-12-31"),
)
GOOD = {"age": 30, "income": 5e4, "work": "farm", "smokes": True, "born": "1990-02-03"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"work": "sea"}, "column 'work', row 1 is none of the 3 categories"),
        ({"age": 16}, "column 'age', row 1 is outside"),
        ({"age": 30.5}, "column 'age', row 1 is no integer"),
        ({"income": 2e5}, "column 'income', row 1 is outside"),
        ({"income": float("inf")}, "column 'income', row 1 is outside"),
        ({"income": None}, "column 'income', row 1 is missing"),
        ({"income": "many"}, "column 'income', row 1 is no number"),
        ({"smokes": "perhaps"}, "column 'smokes', row 1 is neither"),
        ({"born": "1919-12-31"}, "column 'born', row 1 is outside"),
        ({"born": "soon"}, "column 'born', row 1 is no date"),
    ],
)
def test_a_value_that_does_not_fit_is_named_by_its_place_and_never_shown(change, words):
    frame = pd.DataFrame([GOOD, GOOD | change])
    with pytest.raises(ValueError, match=words) as error:
        ADULTS.release(frame, epsilon=1.0)
    shown = str(error.value)
    assert all(str(value) not in shown for value in change.values() if value is not None)


def test_columns_that_are_wrong_are_named_before_anything_is_drawn(monkeypatch):
    monkeypatch.setattr(pg.reports, "release", lambda *_: pytest.fail("budget spent"))
    frame = pd.DataFrame([GOOD])
    for wrong, words in (
        (frame.drop(columns="age"), "lacks column 'age'"),
        (frame.assign(extra=1), "has column 'extra'"),
        (frame[frame.columns[::-1]], "another order"),
        (pd.concat([frame, frame[["age"]]], axis=1), "'age' twice"),
        (frame.iloc[:0], "no rows"),
    ):
        with pytest.raises(ValueError, match=words):
            ADULTS.release(wrong, epsilon=1.0)
    with pytest.raises(TypeError, match="data frame"):
        ADULTS.release([1, 2], epsilon=1.0)


def test_polars_frames_go_in_and_come_out():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"n": [1, None, 3], "c": ["x", "y", "x"], "b": [True, False, True]})
    table = Table(Integer("n", 0, 9, missing=True), Category("c", ["x", "y"]), YesNo("b"))
    assert table.decode(table.encode(frame), polars=True).equals(frame)


def test_one_record_and_many_are_released_alike():
    row = ADULTS.release(GOOD | {"age": "?"}, epsilon=4.0)
    many = ADULTS.release(pd.DataFrame([GOOD] * 50), epsilon=4.0)
    assert row.mechanism == many.mechanism == ADULTS.mechanism(4.0)
    assert not row.simulation
    assert 4.0 * (1 - 1e-9) < many.epsilon < 4.0 * (1 + 1e-9)
    assert many.mechanism.choose == 2


def test_a_budget_is_split_equally_by_weight_or_over_a_few_columns():
    whole = ADULTS.mechanism(2.0, choose=5)
    assert [m.epsilon() for _, m in whole.blocks] == pytest.approx([0.4] * 5)
    uneven = ADULTS.mechanism(2.0, choose=5, weights={"age": 6.0})
    assert [m.epsilon() for _, m in uneven.blocks] == pytest.approx([1.2] + [0.2] * 4)
    few = ADULTS.mechanism(2.0, choose=1, weights={"age": 6.0})
    assert few.epsilon() == pytest.approx(2.0)
    assert few.weights == (6.0, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match="no column's name"):
        ADULTS.mechanism(2.0, weights={"height": 1.0})


def test_it_is_described_in_plain_words():
    words = ADULTS.describe(4.0, 20_000)
    assert "spends epsilon 4" in words
    assert "about 2 of them" in words
    assert words.count("\n  age") == 2
    assert "nothing is learned of how" in ADULTS.describe(1.0)


@pytest.mark.parametrize("split", [{"choose": 1}, {"choose": 2, "weights": {"smokes": 3.0}}])
def test_what_is_promised_of_a_share_is_kept(split):
    table = Table(Integer("age", 0, 99, cells=10), YesNo("smokes"), YesNo("drives"))
    said = [line.split() for line in table.describe(2.0, 4000, **split).splitlines()]
    promised = {words[0]: float(words[-2]) / 100 for words in said if words[-1] == "%"}
    rng, shares = np.random.default_rng(0), []
    for seed in range(30):
        people = {"age": rng.integers(0, 100, 4000), "smokes": rng.random(4000) < 0.5}
        people["drives"] = rng.random(4000) < 0.5
        reports = table.simulate(pd.DataFrame(people), epsilon=2.0, seed=seed, **split)
        shares.append(torch.cat([c.unbiased(y.double()).mean(0) for c, y in by_column(reports)]))
    off = torch.stack(shares).std(0)
    for column, cells in zip(table.columns, table.slices, strict=True):
        assert off[cells].mean().item() == pytest.approx(promised[column.name], rel=0.25)


def test_one_and_two_may_stand_for_no_and_yes():
    column = YesNo("b", yes=2, no=1, missing=True)
    for said in ([2, 1, None], [True, False, None]):
        frame = pd.DataFrame({"b": pd.Series(said, dtype=object)})
        assert Table(column).decode(Table(column).encode(frame)).b.tolist() == [True, False, pd.NA]


def test_integer_labels_survive_a_csv_with_gaps(tmp_path):
    table = Table(Category("c", [3, 1, 2], missing=True), Integer("i", 0, 9, missing=("?",)))
    path = tmp_path / "raw.csv"
    path.write_text("c,i\n3,?\n,4\n2,9\n")
    frame = table.decode(table.encode(read_frame(path, table)))
    assert frame.c.tolist() == [3, pd.NA, 2]
    assert frame.i.tolist() == [pd.NA, 4, 9]


@pytest.mark.parametrize(
    ("column", "written", "meant"),
    [
        (YesNo("c", yes=1, no=0, missing="?"), "1,0,?", [True, False, None]),
        (YesNo("c", yes="1", no="0"), "1,0,1", [True, False, True]),
        (YesNo("c", yes="1", no="0", missing="-1"), "1,0,-1", [True, False, None]),
        (YesNo("c", yes=1, no="none"), "1,none,1", [True, False, True]),
        (YesNo("c", missing="?"), "True,False,?", [True, False, None]),
        (YesNo("c"), "true,FALSE,True", [True, False, True]),
        (Category("c", [1, 2, 3], missing="?"), "3,?,1", [3, None, 1]),
        (Category("c", ["1", "2"], missing=("?", "9")), "2,9,1", ["2", None, "1"]),
        (Integer("c", 0, 9, missing="-9"), "3,-9,0", [3, None, 0]),
        (Number("c", 0.0, 9.0, missing=("-9", "n/a")), "3.5,-9,n/a", [3.5, None, None]),
        (
            Date("c", "2020-01-01", "2020-12-31", missing="never"),
            "2020-02-03,never",
            [pd.Timestamp("2020-02-03"), None],
        ),
    ],
)
def test_codes_and_marks_of_missing_values_survive_a_csv(tmp_path, column, written, meant):
    table, path = Table(column), tmp_path / "raw.csv"
    path.write_text("c\n" + written.replace(",", "\n") + "\n")
    frame = table.decode(table.encode(read_frame(path, table)))
    assert [None if pd.isna(v) else v for v in frame.c] == meant


def test_a_number_in_a_frame_may_stand_for_a_missing_value():
    table = Table(Integer("i", 0, 9, missing="-9"), Number("x", 0.0, 1.0, missing=("-9", "n/a")))
    frame = table.decode(table.encode(pd.DataFrame({"i": [-9, 3], "x": [0.5, -9.0]})))
    assert frame.i.tolist() == [pd.NA, 3]
    assert frame.x.isna().tolist() == [False, True]


def test_a_tables_mechanism_passes_its_audit_and_half_of_its_budget_does_not():
    mechanism = ADULTS.mechanism(3.0)
    assert pg.audit.audit(mechanism, 3.0, reports=5000).passed
    assert not pg.audit.audit(mechanism, 1.5, reports=5000)["oscillation"].passed


def test_places_are_cells_of_a_grid():
    table = Table(Place("home", "lat", "lng", south=-60.0, rows=5, columns=8, missing=True))
    frame = pd.DataFrame({"lat": [10.5, np.nan, 90.0], "lng": [-180.0, np.nan, 180.0]})
    pd.testing.assert_frame_equal(table.decode(table.encode(frame)), frame)
    assert table.codes(table.records(frame)).ravel().tolist() == [16, 40, 39]
    with pytest.raises(ValueError, match="one of latitude"):
        table.records(pd.DataFrame({"lat": [1.0], "lng": [np.nan]}))


def test_schemas_are_read_from_json_and_yaml(tmp_path):
    path = tmp_path / "schema.json"
    ADULTS.save(path)
    assert Table.read(path) == ADULTS
    other = tmp_path / "schema.yaml"
    other.write_text(
        "columns:\n  - {name: age, kind: integer, low: 17, high: 90}\n"
        "  - {name: smokes, kind: yes/no, yes: 'Y', no: 'N', missing: '?'}\n"
    )
    table = Table.read(other)
    frame = pd.DataFrame({"age": [20, 30], "smokes": ["Y", "?"]})
    assert table.decode(table.encode(frame))["smokes"].tolist() == [True, pd.NA]
    # What YAML takes for True and False are words here.
    other.write_text("[{name: smokes, kind: yes/no, yes: yes, no: no}]")
    assert Table.read(other) == Table(YesNo("smokes", yes="yes", no="no"))
    other.write_text("columns: [{name: age, kind: integer, low: 90, high: 17}]")
    with pytest.raises(ValueError, match=r"columns\[0\], 'age': age: low must be below high"):
        Table.read(other)


@pytest.mark.parametrize(
    "column",
    [
        lambda: Category("a", ["x"]),
        lambda: Category("a", ["x", 1]),
        lambda: Number("a", 1.0, 1.0),
        lambda: Number("a", 0.0, 9.0, cells=(1.0, 2.0)),
        lambda: Integer("a", 0, 9, cells=1),
        lambda: Number("a", 0.0, 9.0, cells=10**12),
        lambda: Place("a", "b", "c", rows=10**9),
        lambda: YesNo("a", yes="y", no="y"),
        lambda: Category("a", ["x", "?"], missing="?"),
        lambda: Date("a", "2024-02-30", "2025-01-01"),
    ],
)
def test_a_schema_that_makes_no_sense_is_refused(column):
    with pytest.raises(ValueError, match=r"."):
        column()
