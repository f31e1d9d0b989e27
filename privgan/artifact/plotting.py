"""One look for every figure: a style file, fixed colours for fixed roles, saved twice."""

import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from privgan import checks
from privgan.files import write_atomically

STYLE = Path(__file__).with_name("paper.mplstyle")
COLUMN, PAGE = 3.25, 6.75  # figure widths, inches


@dataclass(frozen=True)
class Role:
    """A part that data play in every figure, told apart in colour and in black and white."""

    colour: str
    marker: str
    dash: str


# Okabe-Ito colours, safe for colour-blind readers.
ROLES = {
    "raw": Role("#000000", "o", "-"),
    "privatized": Role("#999999", "s", ":"),
    "matched": Role("#0072B2", "D", "-"),
    "unregularised": Role("#D55E00", "^", "--"),
    "other": Role("#009E73", "v", "-."),
}


def use_style() -> None:
    """Switch matplotlib to the package's style; call it once, at the top of a notebook.

    A notebook then shows a figure where a cell ends with it. Jupyter's own backend would show it
    after the cell that begins it, half drawn, and never again.
    """
    plt.style.use(STYLE)
    plt.switch_backend("agg")
    if "IPython" in sys.modules:
        from IPython import get_ipython
        from IPython.core.pylabtools import select_figure_formats

        if (shell := get_ipython()) is not None:
            select_figure_formats(shell, {"png"})


def cloud(ax: Axes, points: Tensor, role: str, title: str, limit: float = 1.9) -> None:
    """Scatter 2D points (n, 2) in a role's colour, over [-limit, limit]^2, equal scales."""
    points = checks.as_records("points", points)
    if points.shape[1] != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; a cloud in the plane is (n, 2)")
    colour = ROLES[checks.one_of("role", role, ROLES)].colour
    x, y = points.detach().cpu().numpy().T
    ax.scatter(x, y, s=1.5, c=colour, linewidths=0, alpha=0.6, rasterized=True)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])


def mosaic(
    ax: Axes, images: Tensor, side: int, title: str, *, rows: int = 4, vmax: float | None = 1.0
) -> None:
    """Tile flattened images (n, side * side) in ``rows`` rows, 0 black; None scales to the data."""
    side, rows = checks.positive_int("side", side), checks.positive_int("rows", rows)
    tiles = checks.as_records("images", images).detach().cpu().numpy()
    if tiles.shape[1] != side**2 or len(tiles) < rows:
        raise ValueError(
            f"images has shape {tiles.shape}; {rows} rows of side {side} need ({rows} or more, "
            f"{side**2})"
        )
    columns = len(tiles) // rows
    tiles = tiles[: rows * columns].reshape(rows, columns, side, side)
    picture = np.block([[np.pad(tile, 1) for tile in row] for row in tiles])
    low, high = (0.0, vmax) if vmax is not None else (picture.min(), picture.max())
    ax.imshow(picture, vmin=low, vmax=high, rasterized=True)
    ax.set_title(title)
    ax.set_axis_off()


def save(fig: Figure, path: str | Path) -> Figure:
    """Write ``path`` with .png and .pdf appended, without dates, so that reruns are identical.

    Returns ``fig``: a notebook's cell that ends with the call shows it.
    """
    path = checks.as_path("path", path)
    for suffix, undated in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        fig.savefig(buffer, format=suffix[1:], metadata=undated)
        write_atomically(path.with_name(path.name + suffix), buffer.getvalue(), "figure")
    return fig


def film(path: str | Path, frames: Sequence[tuple[str, Mapping[str, Tensor]]]) -> None:
    """Write ``path`` with .gif appended, five frames a second and a pause on the last.

    frames: a title, and a cloud (n, 2) for each role, side by side.
    """
    images = []
    frames = checks.sequence("frames", frames, "titles with clouds")
    if not frames:
        raise ValueError("frames is empty; a film needs one at least")
    for title, clouds in frames:
        fig = Figure(figsize=(PAGE / 3 * len(clouds), 2.5))
        canvas = FigureCanvasAgg(fig)
        fig.suptitle(title)
        (axes,) = fig.subplots(1, len(clouds), squeeze=False)
        for ax, (role, points) in zip(axes, clouds.items(), strict=True):
            cloud(ax, points, role, role)
        canvas.draw()
        image = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        images.append(image.quantize(32))
    times = [200] * (len(images) - 1) + [2000]  # milliseconds
    buffer = io.BytesIO()
    images[0].save(buffer, "GIF", save_all=True, append_images=images[1:], duration=times, loop=0)
    path = checks.as_path("path", path)
    write_atomically(path.with_name(path.name + ".gif"), buffer.getvalue(), "film")
