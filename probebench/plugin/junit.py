"""Add properties of the run to a JUnit report; those of a case are pytest's user properties."""

from __future__ import annotations

from collections.abc import Iterable

from probebench.records.types import Record


def suite_properties(record: Record, path: str | None) -> list[tuple[str, str]]:
    """The protocol, its fingerprint, and the path of the run record, as names and values."""
    found = [("probe_run_record", path)] if path is not None else []
    for case in record["cases"][:1]:  # a run has one protocol
        found = [("probe_protocol", case["protocol"]), ("probe_fingerprint", case["fingerprint"]), *found]
    return found


def add(plugins: Iterable[object], properties: Iterable[tuple[str, str]]) -> None:
    """Add properties to the report of the plugin that writes one, if any.

    The plugin is found by the method that the fixture `record_testsuite_property` calls: fixtures are not available
    when a session ends, and the run record is not written earlier.
    """
    for plugin in plugins:
        if callable(record := getattr(plugin, "add_global_property", None)):
            for name, value in properties:
                record(name, value)
