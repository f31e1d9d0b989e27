"""One look for every figure: a style file, fixed colours for fixed roles, saved twice."""

import base64
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
    dash: Any


# Okabe-Ito colours, safe for colour-blind readers.
ROLES = {
    "raw": Role("#000000", "o", "-"),
    "privatized": Role("#999999", "s", ":"),
    "matched": Role("#0072B2", "D", "-"),
    "unregularised": Role("#D55E00", "^", "--"),
    "other": Role("#009E73", "v", "-."),
}
# What others would do with the same reports: never in a role's colour.
RIVALS = {
    "debiased": Role("#CC79A7", "P", (0, (5, 1))),
    "likelihood": Role("#56B4E9", "X", (0, (3, 1, 1, 1))),
    "NPMLE": Role("#8C6D00", "*", (0, (1, 1))),
    "closed form": Role("#6A3D9A", "h", (0, (4, 2, 1, 2))),
    "wrong cost": Role("#E69F00", "<", (0, (2, 2))),
}
# One role keeps its colour under either noise; marker and dash say which noise it is.
NOISES = {"Gaussian": ("o", "-"), "Laplace": ("s", ":")}
SHADES = plt.get_cmap("cividis")


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


def look(role: str, noise: str = "", **changes: Any) -> dict[str, Any]:
    """Colour, marker and dash of a role or a rival, as `Axes.plot` and `errorbar` take them.

    noise: "Gaussian" or "Laplace", which then decides marker and dash.
    """
    part = (ROLES | RIVALS)[checks.one_of("role", role, ROLES | RIVALS)]
    marker, dash = NOISES[noise] if noise else (part.marker, part.dash)
    return {"color": part.colour, "marker": marker, "linestyle": dash} | changes


def shades(n: int) -> list[Any]:
    """``n`` colours from dark to light, for what is ordered and plays no role."""
    return [SHADES(0.85 * k / max(1, n - 1)) for k in range(n)]


def curve(ax: Axes, x: Any, values: Any, style: Mapping[str, Any], **changes: Any) -> None:
    """The mean over the rows of ``values`` (seeds, points), with its standard error as a bar."""
    values = np.atleast_2d(np.asarray(values, float))
    n = len(values)
    error = values.std(0, ddof=1) / np.sqrt(n) if n > 1 else None
    ax.errorbar(x, values.mean(0), error, capsize=1.5, elinewidth=0.7, **(dict(style) | changes))


def table(rows: Sequence[Sequence[Any]], columns: Sequence[str]) -> Any:
    """A table that the notebook renders; numbers to three digits."""
    from IPython.display import Markdown

    shown = [[f"{v:.3g}" if isinstance(v, float) else str(v) for v in row] for row in rows]
    lines = [list(columns), ["---"] * len(columns), *shown]
    return Markdown("\n".join("| " + " | ".join(line) + " |" for line in lines))


def outside(fig: Figure, ax: Axes, columns: int, where: Any = "outside upper center") -> None:
    """One legend for the whole figure, outside its panels, of what has a label in ``ax``."""
    named = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    fig.legend(named.values(), named.keys(), loc=where, ncols=columns)


def cloud(ax: Axes, points: Tensor, role: str, title: str, limit: float = 1.9) -> None:
    """Scatter 2D points (n, 2) in a role's or rival's colour, over [-limit, limit]^2."""
    points = checks.as_records("points", points)
    if points.shape[1] != 2:
        raise ValueError(f"points has shape {tuple(points.shape)}; a cloud in the plane is (n, 2)")
    colour = look(role)["color"]
    x, y = points.detach().cpu().numpy().T
    ax.scatter(x, y, s=1.5, c=colour, linewidths=0, alpha=0.6, rasterized=True)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    ax.set(xticks=[-1, 0, 1], yticks=[-1, 0, 1])


def clouds(
    rows: Mapping[str, Mapping[str, Tensor]],
    limit: float = 1.9,
    names: Mapping[str, str] = {},
    roles: Mapping[str, str] = {},
) -> Figure:
    """A grid of clouds: a row a case, a column a role, or what has one of the ``roles``.

    names: titles of the columns that are called otherwise.
    """
    rows = dict(rows)
    columns = max(len(own) for own in rows.values())
    size = (PAGE, 0.3 + PAGE / columns * len(rows))
    fig, axes = plt.subplots(
        len(rows), columns, figsize=size, sharex=True, sharey=True, squeeze=False
    )
    for k, (line, (case, own)) in enumerate(zip(axes, rows.items(), strict=True)):
        for ax, (role, points) in zip(line, own.items(), strict=False):
            title = "" if k else names.get(role, role)
            cloud(ax, points, roles.get(role, role), title, limit)
        for ax in line[len(own) :]:
            ax.set_axis_off()
        line[0].set_ylabel(case, fontsize=7)
    return fig


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


@dataclass(frozen=True)
class Picture:
    """A figure as a notebook shows it, with a text for those who cannot see it."""

    png: bytes
    alt: str

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        shown = {"image/png": base64.b64encode(self.png).decode(), "text/plain": self.alt}
        return shown, {"image/png": {"alt": self.alt}}


def save(fig: Figure, path: str | Path, alt: str = "A figure.") -> Picture:
    """Write ``path`` with .png and .pdf appended, without dates, so that reruns are identical.

    alt: what is to be seen, in a sentence. A notebook's cell that ends with the call shows it.
    """
    path = checks.as_path("path", path)
    for suffix, undated in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        buffer = io.BytesIO()
        fig.savefig(buffer, format=suffix[1:], metadata=undated)
        write_atomically(path.with_name(path.name + suffix), buffer.getvalue(), "figure")
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=fig.dpi, metadata={"Software": None})
    return Picture(buffer.getvalue(), alt)


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
