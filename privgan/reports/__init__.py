"""Reports that know the mechanism they came through; simulated for research, or released."""

from privgan.reports.collection import Reports, simulate
from privgan.reports.exact import release
from privgan.reports.several import together

__all__ = ["Reports", "release", "simulate", "together"]
