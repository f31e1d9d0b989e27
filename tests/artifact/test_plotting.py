import base64

import matplotlib.pyplot as plt
import pytest
import torch
from PIL import Image

from privgan.artifact import plotting


@pytest.fixture
def figure():
    with plt.style.context(plotting.STYLE):
        fig, axes = plt.subplots(1, 2)
        plotting.cloud(axes[0], torch.randn(50, 2), "matched", "points")
        plotting.mosaic(axes[1], torch.rand(10, 16), 4, "images", rows=2)
        yield fig
    plt.close(fig)


def test_files_repeat_byte_for_byte(figure, tmp_path):
    for name in ("one", "two"):
        plotting.save(figure, tmp_path / name)
    for suffix in (".png", ".pdf"):
        first, second = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("one", "two"))
        assert first == second
        assert b"CreationDate" not in first


def test_mosaic_tiles_rows_by_columns(figure):
    (image,) = figure.axes[1].images
    assert image.get_array().shape == (2 * 6, 5 * 6)  # 2 x 5 tiles of 4 + 2 pixels of frame


def test_roles_are_told_apart_without_colour():
    roles = [*plotting.ROLES.values(), *plotting.RIVALS.values()]
    for attribute in ("colour", "marker"):
        assert len({getattr(r, attribute) for r in roles}) == len(roles)


def test_a_noise_changes_marker_and_dash_and_leaves_the_colour():
    looks = [plotting.look("matched", noise) for noise in plotting.NOISES]
    assert len({own["color"] for own in looks}) == 1
    assert len({own["marker"] for own in looks}) == len({own["linestyle"] for own in looks}) == 2


def test_a_picture_says_what_is_to_be_seen(figure, tmp_path):
    data, about = plotting.save(figure, tmp_path / "one", "two panels")._repr_mimebundle_()
    assert data["text/plain"] == about["image/png"]["alt"] == "two panels"
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")


def test_a_curve_has_the_mean_and_the_standard_error_of_its_rows():
    _, ax = plt.subplots()
    plotting.curve(ax, [1, 2], [[1.0, 2.0], [3.0, 2.0]], plotting.look("matched"))
    (bars,) = ax.containers
    assert bars[0].get_ydata().tolist() == [2.0, 2.0]
    (low, high), (same, _) = (segment[:, 1] for segment in bars[2][0].get_segments())
    assert (low, high, same) == pytest.approx((1.0, 3.0, 2.0))
    plt.close(ax.figure)


def test_a_table_is_rendered_and_rounds_numbers():
    made = plotting.table([["circle", 0.12345, 3]], ["shape", "W2", "seeds"])
    assert made.data.splitlines()[2] == "| circle | 0.123 | 3 |"


def test_a_label_that_two_lines_share_is_listed_once():
    fig, ax = plt.subplots()
    for _ in range(2):
        ax.plot([0, 1], label="matched")
    plotting.outside(fig, ax, 2)
    assert [t.get_text() for t in fig.legends[0].get_texts()] == ["matched"]
    plt.close(fig)


def test_points_take_their_roles_colour(figure):
    (points,) = figure.axes[0].collections
    assert tuple(points.get_facecolor()[0][:3]) == pytest.approx((0, 0x72 / 255, 0xB2 / 255))


def test_a_film_has_a_frame_an_entry_and_repeats_byte_for_byte(tmp_path):
    frames = [(f"step {k}", {"matched": torch.full((5, 2), k / 10)}) for k in range(3)]
    with plt.style.context(plotting.STYLE):
        for name in ("one", "two"):
            plotting.film(tmp_path / name, frames)
    first, second = ((tmp_path / f"{n}.gif").read_bytes() for n in ("one", "two"))
    assert first == second
    times, pictures = [], set()
    with Image.open(tmp_path / "one.gif") as film:
        for k in range(film.n_frames):
            film.seek(k)
            times.append(film.info["duration"])
            pictures.add(film.convert("RGB").tobytes())
    assert times == [200, 200, 2000]
    assert len(pictures) == 3


def test_a_grid_of_clouds_names_its_columns_once_and_its_rows_each():
    points = torch.randn((5, 2), generator=torch.Generator().manual_seed(0))
    row = {"raw": points, "half": points}
    fig = plotting.clouds({"one": row, "two": row}, names={"raw": "seen"}, roles={"half": "other"})
    assert [ax.get_title() for ax in fig.axes] == ["seen", "half", "", ""]
    assert [ax.get_ylabel() for ax in fig.axes] == ["one", "", "two", ""]
    plt.close(fig)
