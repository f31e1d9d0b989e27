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
        assert plotting.save(figure, tmp_path / name) is figure  # for a notebook to show
    for suffix in (".png", ".pdf"):
        first, second = ((tmp_path / f"{n}{suffix}").read_bytes() for n in ("one", "two"))
        assert first == second
        assert b"CreationDate" not in first


def test_mosaic_tiles_rows_by_columns(figure):
    (image,) = figure.axes[1].images
    assert image.get_array().shape == (2 * 6, 5 * 6)  # 2 x 5 tiles of 4 + 2 pixels of frame


def test_roles_are_told_apart_without_colour():
    roles = plotting.ROLES.values()
    for attribute in ("colour", "marker"):
        assert len({getattr(r, attribute) for r in roles}) == len(roles)


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
