"""Checks that can refute a mechanism's promise, and what its reports can tell at all."""

from privgan.audit.findings import Audit, Finding, audit
from privgan.audit.resolution import Identifiability, identifiability

__all__ = ["Audit", "Finding", "Identifiability", "audit", "identifiability"]
