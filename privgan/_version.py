"""The one place that says the version: the package, its metadata and its files read it here."""

__version__ = "0.2.0"
