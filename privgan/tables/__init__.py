"""Tables: a schema, private reports of its rows, and a table made from them alone."""

from privgan.tables.columns import Category, Column, YesNo
from privgan.tables.files import read_frame, read_reports, write_frame, write_reports
from privgan.tables.judging import Quality, quality
from privgan.tables.ranges import Date, Integer, Number, Place
from privgan.tables.table import Table
from privgan.tables.training import marginals, train

__all__ = [
    "Category",
    "Column",
    "Date",
    "Integer",
    "Number",
    "Place",
    "Quality",
    "Table",
    "YesNo",
    "marginals",
    "quality",
    "read_frame",
    "read_reports",
    "train",
    "write_frame",
    "write_reports",
]
