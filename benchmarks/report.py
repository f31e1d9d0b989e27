"""Turns a results file into tables (Markdown) and plots (PNG, PDF) beside it.

    python -m benchmarks.report benchmarks/results/MACHINE.json

A package that enters several times (POT's three methods, say) is shown by whichever of them
was fastest in the case at hand.
"""

import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks import floor
from benchmarks.cases import EVERY, STD, Case
from benchmarks.entrants import ENTRANTS, TITLES
from benchmarks.search import SLACK
from privgan.artifact import plotting
from privgan.files import write_atomically

US = "privgan"
LARGE = 1024  # from this n on the floor, arithmetic alone, is worth comparing with
PLOTTED = 1e-3  # the tolerance of the short table and of the plot
# Okabe-Ito, as in the other figures; this package keeps the colour of what is matched.
LOOKS = {
    "privgan": (plotting.ROLES["matched"].colour, "D"),
    "POT": ("#D55E00", "^"),
    "geomloss": ("#009E73", "v"),
    "ott-jax": ("#CC79A7", "s"),
    "pykeops": ("#E69F00", "o"),
}
NAMES = {"privgan": "privgan", "POT": "POT", "geomloss": "GeomLoss"} | {
    "ott-jax": "OTT-JAX",
    "pykeops": "KeOps",
}


@dataclass(frozen=True)
class Entry:
    """One entrant on one case at one tolerance. seconds is None when it did not get there."""

    entrant: str
    case: Case
    tol: float
    seconds: float | None
    reason: str
    result: dict
    peak_bytes: int | None

    @property
    def package(self) -> str:
        return ENTRANTS[self.entrant].package


Results = dict[tuple[Case, float], list[Entry]]


def write(path: Path) -> None:
    """``path``: a results file; the report goes beside it, under the same name."""
    document = json.loads(path.read_text())
    results = _entries(document["records"])
    grid = {key: row for key, row in results.items() if not key[0].streaming}
    stream = {key: row for key, row in results.items() if key[0].streaming}
    parts = [_machine(document["machine"]), _summary(grid), _short(grid), _failures(grid)]
    parts += [_streaming(stream), _full(grid)]
    write_atomically(path.with_suffix(".md"), "\n\n".join(parts) + "\n")
    plotting.use_style()
    _plot_grid(grid, path.with_suffix(""))
    _plot_streaming(stream, path.with_name(path.stem + "-streaming"))
    print("\n\n".join(parts[:-1]))


def _entries(records: dict[str, dict]) -> Results:
    results: Results = {}
    for record in records.values():
        case = EVERY[record["case"]]
        if "refused" in record:
            continue
        for tol in case.tolerances:
            result = record.get("results", {}).get(f"{tol:g}", {})
            seconds = result.get("seconds")
            reason = record.get("failed") or result.get("reason", "")
            entry = Entry(
                record["entrant"], case, tol, seconds, reason, result, record.get("peak_bytes")
            )
            results.setdefault((case, tol), []).append(entry)
    return results


def _best(entries: list[Entry], package: str) -> Entry | None:
    """A package's fastest entry; if none got there the one that came closest; None if absent."""
    own = [entry for entry in entries if entry.package == package]
    there = [entry for entry in own if entry.seconds is not None]
    if there:
        return min(there, key=lambda entry: entry.seconds)
    return min(own, key=lambda entry: entry.result.get("error", float("inf")), default=None)


def _ours_and_fastest(entries: list[Entry]) -> tuple[Entry | None, Entry | None]:
    """Our entry and the fastest of the others that reached the tolerance, if any did."""
    others = [e for e in entries if e.package != US and e.seconds is not None]
    return _best(entries, US), min(others, key=lambda entry: entry.seconds, default=None)


def _floor(ours: Entry) -> float:
    iterations = ours.result.get("iterations") or 0
    return floor.seconds(ours.case.n, ours.case.d, ours.case.p, iterations)


# --- Tables ---------------------------------------------------------------------------------


def _machine(machine: dict) -> str:
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    return (
        f"{machine['cpu']}, {machine['threads']} threads, {machine['system']}, "
        f"Python {machine['python']}, {packages}; {machine['date']}."
    )


def _summary(grid: Results) -> str:
    ratios, floors, unmatched, short, dishonest = [], [], 0, 0, 0
    for (case, _), entries in grid.items():
        ours, fastest = _ours_and_fastest(entries)
        if ours is None or ours.seconds is None:
            short += 1
        elif fastest is None:
            unmatched += 1
        else:
            ratios.append(fastest.seconds / ours.seconds)
        if case.n >= LARGE and ours is not None and ours.seconds is not None:
            floors.append(ours.seconds / _floor(ours))
        dishonest += ours is not None and _dishonest(ours)
    if not ratios:
        return f"{len(grid)} cases; nobody to compare with."
    against = ""
    if floors:
        against = (
            f" From n = {LARGE} on it takes {min(floors):.1f} to {max(floors):.1f} times the floor."
        )
    return (
        f"{len(grid)} cases (problem and tolerance). The fastest other package takes "
        f"{statistics.median(ratios):.1f} times as long as privgan in the median, "
        f"{min(ratios):.2f} at least, {max(ratios):.1f} at most; privgan is slower in "
        f"{sum(ratio < 1 for ratio in ratios)}; no other package gets there in {unmatched}; "
        f"privgan misses the tolerance in {short} and misjudges its own error in {dishonest}."
        + against
    )


def _dishonest(entry: Entry) -> bool:
    claimed, error = entry.result.get("claimed"), entry.result.get("error")
    return claimed is not None and claimed <= entry.tol and not error <= SLACK * entry.tol


def _short(grid: Results) -> str:
    """One line a problem, one column a size, at one tolerance: for docs/speed.md."""
    sizes = sorted({case.n for case, _ in grid})
    lines = _header("d", "noise", "mechanism", *(f"n = {n}" for n in sizes))
    problems = {(c.d, c.noise, c.mechanism): None for c, _ in sorted(grid, key=_order)}
    for d, noise, mechanism in problems:
        cells = [_cell(grid.get((Case(d, n, mechanism, noise), PLOTTED), [])) for n in sizes]
        lines.append(_line(d, f"{noise} ({STD[d][noise]:g})", mechanism, *cells))
    title = (
        f"Milliseconds to an L1 marginal error of {PLOTTED:g}, value and gradient: privgan, "
        "then the fastest other package that gets there."
    )
    return "\n".join([title, "", *lines])


def _cell(entries: list[Entry]) -> str:
    ours, fastest = _ours_and_fastest(entries)
    if ours is None:
        return ""
    theirs = "none" if fastest is None else f"{_ms(fastest.seconds)} {TITLES[fastest.entrant]}"
    return f"**{_ms(ours.seconds)}**, {theirs}"


def _full(grid: Results) -> str:
    lines = _header(
        *("d", "n", "mechanism", "noise", "tol", "floor ms", "privgan ms", "gradient error"),
        *("MB", "fastest other", "ms", "gradient error", "MB", "ratio", "did not get there"),
    )
    for case, tol in sorted(grid, key=_order):
        entries = grid[case, tol]
        ours, fastest = _ours_and_fastest(entries)
        if ours is None:
            continue
        ratio = f"{fastest.seconds / ours.seconds:.1f}" if fastest and ours.seconds else ""
        lines.append(
            _line(
                *(case.d, case.n, case.mechanism, case.noise, f"{tol:g}", _ms(_floor(ours))),
                *(_ms(ours.seconds) if ours.seconds else ours.reason, *_rest(ours)),
                *((TITLES[fastest.entrant], _ms(fastest.seconds)) if fastest else ("none", "")),
                *(_rest(fastest) if fastest else ("", "")),
                *(ratio, "; ".join(_absentees(entries))),
            )
        )
    return "\n".join(["All cases.", "", *lines])


def _rest(entry: Entry) -> tuple[str, str]:
    wrong = entry.result.get("gradient_error")
    megabytes = "" if entry.peak_bytes is None else f"{entry.peak_bytes / 1e6:.1f}"
    return ("" if wrong is None else f"{wrong:.0e}"), megabytes


def _absentees(entries: list[Entry]) -> Iterator[str]:
    for package, name in NAMES.items():
        best = _best(entries, package)
        if best is not None and best.seconds is None:
            yield f"{name}: {best.reason}"


def _failures(grid: Results) -> str:
    lines = _header("entrant", "asked", "got there", "NaN", "over budget", "inaccurate", "failed")
    for entrant, title in TITLES.items():
        asked = [e for entries in grid.values() for e in entries if e.entrant == entrant]
        if asked:
            kinds = [_kind(entry) for entry in asked]
            counts = [kinds.count(kind) for kind in ("", "nan", "budget", "inaccurate", "failed")]
            lines.append(_line(title, len(asked), *counts))
    return "\n".join(["How often each got there.", "", *lines])


def _kind(entry: Entry) -> str:
    if entry.seconds is not None:
        return ""
    if entry.result.get("over_budget"):
        return "budget"
    if not entry.result:
        return "failed"
    return "nan" if entry.reason.startswith("NaN") else "inaccurate"


def _streaming(stream: Results) -> str:
    sizes = sorted({case.n for case, _ in stream})
    lines = _header("", *(f"n = {n}" for n in sizes))
    rows = {key[0].n: entries for key, entries in stream.items()}
    for entrant, title in TITLES.items():
        found = [next((e for e in rows[n] if e.entrant == entrant), None) for n in sizes]
        if any(found):
            lines.append(_line(title, *(_streaming_cell(entry) for entry in found)))
    title = f"Nothing of size n by n stored: seconds, and peak MB, to {PLOTTED:g} at d = 2."
    return "\n".join([title, "", *lines])


def _streaming_cell(entry: Entry | None) -> str:
    if entry is None:
        return ""
    return entry.reason if entry.seconds is None else f"{entry.seconds:.3g} s, {_rest(entry)[1]}"


def _order(key: tuple[Case, float]) -> tuple:
    case, tol = key
    return case.d, -case.std, case.mechanism, case.n, -tol


def _ms(seconds: float | None) -> str:
    return "not reached" if seconds is None else f"{1e3 * seconds:.3g}"


def _header(*names: str) -> list[str]:
    return [_line(*names), _line(*("---" for _ in names))]


def _line(*cells: object) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


# --- Plots ----------------------------------------------------------------------------------


def _plot_grid(grid: Results, path: Path) -> None:
    """Seconds against n: a row for each dimension and mechanism, a column for each noise."""
    rows = [(d, mechanism) for d in STD for mechanism in ("gaussian", "laplace")]
    fig, axes = plt.subplots(
        len(rows), 3, figsize=(plotting.PAGE, 7.5), sharex=True, sharey=True, squeeze=False
    )
    for (d, mechanism), row in zip(rows, axes, strict=True):
        for noise, ax in zip(("strong", "medium", "weak"), row, strict=True):
            cells = {
                case.n: entries
                for (case, tol), entries in grid.items()
                if (case.d, case.mechanism, case.noise, tol) == (d, mechanism, noise, PLOTTED)
            }
            _curves(ax, dict(sorted(cells.items())))
            ax.set_title(f"d = {d}, {mechanism}, {noise} noise")
        row[0].set_ylabel("seconds")
    sizes = sorted({case.n for case, _ in grid})
    for ax in axes[-1]:
        ax.set_xticks(sizes, labels=[str(n) for n in sizes])
        ax.minorticks_off()
        ax.set_xlabel("n = m")
    handles, labels = _legend(axes)
    fig.legend(handles, labels, loc="outside upper center", ncols=6)
    plotting.save(fig, path)
    plt.close(fig)


def _curves(ax: Axes, cells: dict[int, list[Entry]]) -> None:
    for package, (colour, marker) in LOOKS.items():
        best = {n: _best(entries, package) for n, entries in cells.items()}
        times = {n: entry.seconds for n, entry in best.items() if entry and entry.seconds}
        if times:
            ax.plot(
                *zip(*times.items(), strict=True), c=colour, marker=marker, label=NAMES[package]
            )
    ours = {n: _best(entries, US) for n, entries in cells.items()}
    floors = {n: _floor(entry) for n, entry in ours.items() if entry and entry.seconds}
    if floors:
        ax.plot(*zip(*floors.items(), strict=True), c="#000000", ls=":", label="floor")
    ax.set(xscale="log", yscale="log")


def _plot_streaming(stream: Results, path: Path) -> None:
    fig, (left, right) = plt.subplots(1, 2, figsize=(plotting.PAGE, 2.4))
    cells = dict(sorted((case.n, entries) for (case, _), entries in stream.items()))
    for package, (colour, marker) in LOOKS.items():
        best = {n: _best(entries, package) for n, entries in cells.items()}
        reached = {n: entry for n, entry in best.items() if entry and entry.seconds}
        if reached:
            style = {"c": colour, "marker": marker, "label": NAMES[package]}
            left.plot(list(reached), [entry.seconds for entry in reached.values()], **style)
            memory = [(entry.peak_bytes or 0) / 1e6 for entry in reached.values()]
            right.plot(list(reached), memory, **style)
    left.set(xscale="log", yscale="log", xlabel="n = m", ylabel="seconds")
    right.set(xscale="log", yscale="log", xlabel="n = m", ylabel="peak memory, MB")
    fig.legend(*_legend([[left]]), loc="outside upper center", ncols=5)
    plotting.save(fig, path)
    plt.close(fig)


def _legend(axes) -> tuple[list, list]:
    """Handles and labels of everything that appears on any of the axes, once each."""
    seen = {}
    for row in axes:
        for ax in row:
            for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
                seen.setdefault(label, handle)
    return list(seen.values()), list(seen)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
