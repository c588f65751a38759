"""What a JUnit report says of the whole run; each case's own properties travel as pytest's user properties."""

from __future__ import annotations

from collections.abc import Iterable

from probebench.records.types import Record


def suite_properties(record: Record, path: str | None) -> list[tuple[str, str]]:
    """Names and values: the protocol, its fingerprint, and where the run record lies."""
    found = [("probe_run_record", path)] if path is not None else []
    for case in record["cases"][:1]:  # a run has one protocol
        found = [("probe_protocol", case["protocol"]), ("probe_fingerprint", case["fingerprint"]), *found]
    return found


def add(plugins: Iterable[object], properties: Iterable[tuple[str, str]]) -> None:
    """Give them to the plugin that writes the report, if one does.

    It is found by the method that the `record_testsuite_property` fixture calls, too: a fixture cannot be asked for
    when a session ends, and the run record is not written before.
    """
    for plugin in plugins:
        if callable(record := getattr(plugin, "add_global_property", None)):
            for name, value in properties:
                record(name, value)
