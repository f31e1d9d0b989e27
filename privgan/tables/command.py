"""``python -m privgan release`` on the data holder's side, and ``train`` on the curator's."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from privgan import checks
from privgan.files import check_writable, write_atomically
from privgan.reports import Reports
from privgan.tables.files import read_frames, read_reports, write_frame, write_reports
from privgan.tables.judging import quality
from privgan.tables.table import Table
from privgan.tables.training import STEPS, train
from privgan.training.shuffling import held_out
from privgan.training.trainer import Training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; 0 if it was done, else 1 after a sentence on standard error."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError) as error:
        print(f"privgan: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("privgan", description="Private tables, in two commands.")
    commands = parser.add_subparsers(required=True)
    release = commands.add_parser("release", help="make private reports of a raw table")
    release.add_argument("schema", help="JSON or YAML: the table's public facts")
    release.add_argument("raw", help="CSV or Parquet: one record a row")
    release.add_argument("reports", help="Parquet: where the reports go")
    release.add_argument("--epsilon", type=float, required=True, help="spent by a whole record")
    release.add_argument("--choose", type=int, help="columns that each report is about")
    said = "how much columns matter; 1 where nothing is said"
    release.add_argument(
        "--weights", type=_weight, nargs="+", default=[], metavar="COLUMN=NUMBER", help=said
    )
    release.set_defaults(run=_release)
    trains = commands.add_parser("train", help="make a table from private reports")
    trains.add_argument("reports", help="Parquet, as release writes it")
    trains.add_argument("synthetic", help="CSV or Parquet: where the generated table goes")
    trains.add_argument("--rows", type=int, help="of it; as many as reports by default")
    trains.add_argument("--steps", type=int, default=STEPS)
    trains.add_argument("--seed", type=int, default=0)
    trains.set_defaults(run=_train)
    return parser


def _weight(text: str) -> tuple[str, float]:
    name, _, number = text.rpartition("=")
    try:
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no COLUMN=NUMBER") from None


def _release(options: argparse.Namespace) -> None:
    table = Table.read(options.schema)
    split = {"choose": options.choose, "weights": dict(options.weights)}
    check_writable(Path(options.reports), "reports")
    n = write_reports(options.reports, table, _released(table, options, split))
    print(table.describe(options.epsilon, n, **split))
    print(f"{n} reports are in {options.reports}.")


def _released(
    table: Table, options: argparse.Namespace, split: dict[str, Any]
) -> Iterator[Reports]:
    """Reports of the raw table's rows, some at a time."""
    for first, frame in read_frames(options.raw, table):
        try:
            reports = table.release(frame, epsilon=options.epsilon, **split)
        except ValueError as error:
            counted = f"; rows are counted from {first}" if first else ""
            raise ValueError(f"{error}{counted}") from None
        yield reports


def _train(options: argparse.Namespace) -> None:
    place = Path(options.synthetic)
    check_writable(place, "table")
    table, reports = read_reports(options.reports)
    rows = len(reports) if options.rows is None else checks.positive_int("--rows", options.rows)
    checkpoint = place.with_suffix(".ckpt")
    model, _ = train(
        table,
        reports,
        steps=options.steps,
        seed=options.seed,
        checkpoint=checkpoint,
    )
    records = model.sample(rows, seed=options.seed)
    write_frame(place, table.frame(records, seed=options.seed))
    heldout = held_out(len(reports), Training.holdout, options.seed)
    page = place.with_suffix(".html")
    found = quality(table, model, reports, heldout=heldout)
    write_atomically(page, found.html(), "report")
    checkpoint.unlink(missing_ok=True)  # all is written: other reports may be trained on now
    print(f"{len(records)} generated rows are in {place}, and how good they are in {page}.")
    print(f"Held-out reports: {-found.nll:.4f} nats each; {-found.independent:.4f} under columns")
    print(f"that are independent; standard error of the difference {found.error:.4f}.")
