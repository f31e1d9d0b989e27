"""What people hand over comes through one gate: converted exactly, or refused by name and place."""

import decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import privgan as pg
from privgan import checks

BASE = np.arange(12.0).reshape(6, 2)
FRAME = pd.DataFrame({"a": BASE[:, 0], "b": BASE[:, 1]})
NULLABLE = pd.DataFrame({"a": [1.0, None, 3.0], "b": [1.0, 2.0, 3.0]}, dtype="Float64")


def read_only():
    array = BASE.copy()
    array.flags.writeable = False
    return array


def strided_field():
    table = np.zeros((6, 2), [("value", "<f8"), ("flag", "u1")])
    table["value"] = BASE
    return table["value"]  # 9 bytes from one number to the next


SAME = {
    "reversed": lambda: BASE[::-1, ::-1][::-1, ::-1],
    "columns reversed": lambda: np.ascontiguousarray(BASE[:, ::-1])[:, ::-1],
    "strided": lambda: np.repeat(BASE, 3, 0)[::3],
    "field": strided_field,
    "Fortran": lambda: np.asfortranarray(BASE),
    "big endian": lambda: BASE.astype(">f8"),
    "read-only": read_only,
    "objects": lambda: BASE.astype(object),
    "lists": BASE.tolist,
    "rows": lambda: [*BASE],
    "tensors": lambda: [*torch.from_numpy(BASE.copy())],
    "nothing masked": lambda: np.ma.array(BASE),
    "frame": lambda: FRAME,
    "filtered frame": lambda: pd.concat([FRAME * np.nan, FRAME]).dropna(),
    "nullable frame": lambda: FRAME.astype("Float64"),
    "graph": lambda: torch.from_numpy(BASE.copy()).requires_grad_(),
    "imaginary": lambda: torch.complex(torch.zeros(6, 2).double(), -torch.tensor(BASE)).conj().imag,
}


@pytest.mark.parametrize("name", SAME)
def test_the_same_records_in_any_wrapping_are_the_same(name):
    records = checks.as_records("x", SAME[name]())
    assert records.dtype == torch.float64
    assert torch.equal(records.detach(), torch.from_numpy(BASE.copy()))
    records.detach().numpy()  # no lazy negation, nothing sparse


def test_polars_frames_are_records():
    pl = pytest.importorskip("polars")
    assert checks.as_records("x", pl.DataFrame({"a": [1.0, 2.0]})).tolist() == [[1.0], [2.0]]
    with pytest.raises(ValueError, match="row 1"):
        checks.as_records("x", pl.DataFrame({"a": [1.0, None]}))
    with pytest.raises(TypeError, match=r"holds a str at row 0 \(column 0\)"):
        checks.as_records("x", pl.DataFrame({"a": ["u", "v"]}))


def test_a_read_only_map_of_a_file_is_not_written_to(tmp_path):
    path = tmp_path / "records"
    np.save(path.with_suffix(".npy"), BASE)
    mapped = np.load(path.with_suffix(".npy"), mmap_mode="r")
    checks.as_records("x", mapped).zero_()
    assert np.array_equal(mapped, BASE)


@given(
    st.lists(st.integers(1, 3), min_size=2, max_size=2),
    st.lists(st.booleans(), min_size=2, max_size=2),
    st.sampled_from(["<f4", ">f4", "<f8", ">f8"]),
)
def test_any_strides_and_byte_order(steps, backwards, dtype):
    whole = np.arange(63.0).reshape(9, 7).astype(dtype)
    view = whole[
        tuple(slice(None, None, -s if b else s) for s, b in zip(steps, backwards, strict=True))
    ]
    assert checks.as_records("x", view).tolist() == view.tolist()


REFUSED = [
    (np.ma.masked_less(BASE[::-1], 3.0), ValueError, r"masked, first at row 4 \(column 0\)"),
    (NULLABLE, TypeError, r"holds a NAType at row 1 \(column 0\)"),
    (FRAME.assign(c="secret"), TypeError, r"holds a str at row 0 \(column 2\)"),
    (FRAME.assign(c=True), TypeError, r"holds a bool at row 0 \(column 2\)"),
    (pd.DataFrame({"a": [1, 2]}), TypeError, "has dtype int64; convert it to float32 or float64"),
    (FRAME.a[FRAME.a > 3], ValueError, r"shape \(4,\).* use x.to_frame\(\)"),
    (np.array([[1.0], [None]], object), TypeError, "holds a NoneType at row 1"),
    (np.array([[decimal.Decimal(1)]]), TypeError, "holds a Decimal at row 0"),
    (np.array([["secret"]]), TypeError, "got dtype <U6; make numbers of it"),
    ([[1.0, 2.0], [3.0]], ValueError, "row 1 is of another length than row 0"),
    ([torch.ones(2), torch.ones(3)], ValueError, "row 1 is of another length than row 0"),
    ([torch.ones(2), torch.ones(2).double()], TypeError, "row 1 is of another type"),
    (BASE.astype(np.float16), TypeError, "has dtype float16"),
    (BASE > 3, TypeError, "has dtype bool"),
    (BASE.astype(complex), TypeError, "has dtype complex128"),
    (np.array(["2020-01-01"], "M8[ns]"), TypeError, "got dtype datetime64"),
    (torch.eye(2).to_sparse(), TypeError, "sparse"),
    (torch.ones(2, 2, device="meta"), TypeError, "meta device"),
    ("secret.csv", TypeError, "must be a numeric tensor or array, got a str"),
    ({"a": [1.0]}, TypeError, "got a dict"),
    (None, TypeError, "got a NoneType"),
    (pg.simulate(BASE, pg.Gaussian(1.0)), TypeError, "got a Reports"),
]


@pytest.mark.parametrize(("value", "error", "message"), REFUSED)
def test_what_holds_no_records_is_refused_by_place_and_not_shown(value, error, message):
    with pytest.raises(error, match=message) as caught:
        checks.as_records("x", value)
    if message != "got a str":
        assert "secret" not in str(caught.value)


def test_a_tensor_of_inference_mode_can_be_trained_on():
    with torch.inference_mode():
        made = torch.ones(3, 2)
    assert not checks.as_records("x", made).is_inference()


def test_labels_in_any_wrapping_are_one_hot():
    expected = torch.eye(3)[[2, 0]]
    for labels in ([2, 0], np.array([2, 0], ">i2"), np.array([2, 0], np.uint64), pd.Series([2, 0])):
        assert torch.equal(pg.mechanisms.one_hot(labels, 3), expected)
    for labels in (np.array(["a", "b"]), [2.0, 0.0], [True, False]):
        with pytest.raises(TypeError, match="labels"):
            pg.mechanisms.one_hot(labels, 3)


INTEGERS = [5, np.int64(5), np.uint32(5), np.array(5), torch.tensor(5), torch.tensor(5).short()]


@pytest.mark.parametrize("value", INTEGERS, ids=repr)
def test_an_integer_of_any_library_is_that_python_int(value):
    assert checks.positive_int("n", value) == 5
    assert type(checks.positive_int("n", value)) is int
    assert type(checks.positive("n", value)) is float


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), 5.0, np.float32(5), "5", None, [5], np.array([5])]
)
def test_what_is_no_integer_is_refused(value):
    with pytest.raises(TypeError, match="n must be an integer"):
        checks.integer("n", value)


@pytest.mark.parametrize(
    "value", [True, np.True_, torch.tensor(True), "5", b"5", None, [5.0], torch.ones(1), 1j]
)
def test_what_is_no_number_is_refused(value):
    for check in (checks.positive, checks.fraction, checks.probability):
        with pytest.raises(TypeError, match="v must be a number"):
            check("v", value)


def test_numbers_out_of_range_are_refused():
    for value in (0, -1, float("nan"), float("inf"), np.float32(0)):
        with pytest.raises(ValueError, match="v must be positive and finite"):
            checks.positive("v", value)
    with pytest.raises(ValueError, match="v must be finite"):
        checks.number("v", 10**400)
    for value in (1.0, -1e-9, float("nan")):
        with pytest.raises(ValueError, match="v is a fraction"):
            checks.fraction("v", value)


def test_sequences_name_the_entry():
    assert checks.positive_ints("s", np.array([2, 4])) == (2, 4)
    assert checks.positive_ints("s", torch.tensor([2, 4])) == (2, 4)
    with pytest.raises(TypeError, match=r"s\[1\] must be an integer, got 'x'"):
        checks.positive_ints("s", [3, "x"])
    with pytest.raises(ValueError, match=r"s\[1\] must be at least 1, got -1"):
        checks.positive_ints("s", (64, -1))
    with pytest.raises(TypeError, match="s must be a sequence of integers, got 5"):
        checks.positive_ints("s", 5)


def test_flags_are_bools():
    assert checks.flag("f", np.True_) is True
    for value in (1, "yes", None):
        with pytest.raises(TypeError, match="f must be True or False"):
            checks.flag("f", value)


def test_arguments_that_hold_records_are_not_shown():
    held = torch.tensor([123.456])
    for check in (checks.integer, checks.positive, checks.flag, checks.public, checks.as_path):
        with pytest.raises(TypeError) as caught:
            check("v", held)
        assert "123" not in str(caught.value)
    with pytest.raises(TypeError, match=r"v must be a Path, got a Tensor$"):
        checks.instance("v", held, Path)


def test_a_class_in_an_instances_place_is_told_how_to_be_one():
    cases = {
        lambda: checks.instance("v", pg.Gaussian, pg.mechanisms.Mechanism): "Gaussian",
        lambda: pg.EntropicLoss(pg.sinkhorn.SquaredL2, 1.0): "SquaredL2",
        lambda: pg.sinkhorn.solve_samples(BASE, BASE, pg.sinkhorn.L1, 1.0): "L1",
        lambda: pg.Laplace(1.0, bounds=pg.Box): "Box",
        lambda: pg.fit(pg.MLP, BASE, pg.EntropicLoss.matched(pg.Laplace(1.0))): "MLP",
        lambda: checks.integer("v", int): "int",
        lambda: checks.number("v", float): "float",
    }
    for call, name in cases.items():
        with pytest.raises(TypeError, match=rf"got the class {name}; make one: {name}\(\.\.\.\)$"):
            call()


def test_a_path_starts_at_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checks.as_path("path", "~/a.pt") == checks.as_path("path", Path("~/a.pt"))
    assert checks.as_path("path", "~/a.pt") == tmp_path / "a.pt"
    reports = pg.simulate(BASE, pg.Gaussian(1.0), seed=0)
    reports.save("~/reports.npz")
    pg.MLP(2, 2).save("~/model")
    pg.load("~/model")
    assert torch.equal(pg.Reports.load("~/reports.npz").values, reports.values)
    pg.fit(pg.MLP(2, 2), reports, steps=1, batch_size=4, checkpoint="~/run.pt", progress=False)
    assert {p.name for p in tmp_path.iterdir()} == {"reports.npz", "model", "run.pt"}
    for bad, error in ((5, TypeError), (b"a", TypeError), ("", ValueError)):
        with pytest.raises(error, match="path"):
            checks.as_path("path", bad)
