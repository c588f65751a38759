"""Provenance: the runs, machines and versions that the numbers come from."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass

from probebench.records.types import Record, SourceRecord
from probebench.records.view import RecordView
from probebench.reporting.html.numbers import duration, significant


@dataclass(frozen=True)
class Source:
    """One run of the record: names and texts, in the order to show them."""

    title: str
    facts: list[tuple[str, str]]


def summary(contents: RecordView) -> list[tuple[str, str]]:
    """Names and texts of the facts that all sources share."""
    record = contents.record
    fingerprints = {case["protocol"]: case["fingerprint"] for case in record["cases"]}
    rate = record["images_per_second"]
    facts = [
        ("record", contents.name),
        ("started", record["started"]),
        ("took", duration(record["duration_seconds"]) + (" (interrupted)" if record["interrupted"] else "")),
        ("protocol", ", ".join(f"{name} ({fingerprint})" for name, fingerprint in fingerprints.items())),
        (
            "verdicts",
            f"family-wise level {record['alpha']:g}, changes below {100 * record['min_drop']:g} points never count",
        ),
        ("seeds", ", ".join(map(str, record["seeds"]))),
        ("precision", ", ".join(record["precision"])),
        ("images", f"{record['images']:,}" + (f", {rate:,.0f} a second while extracting" if rate else "")),
    ]
    return [(name, text) for name, text in facts if text]


def sources(contents: RecordView) -> list[Source]:
    """The runs that were merged, oldest first, or the one run."""
    record = contents.record
    merged = record.get("merged")
    if not merged:
        return [_source("run", record)]
    if len(merged) == 1:
        return [_source("run", merged[0])]
    return [_source(source["name"], source, started=True) for source in merged]


def _source(title: str, source: Record | SourceRecord, started: bool = False) -> Source:
    hardware = source["hardware"]
    devices = [*hardware.get("devices", ()), *hardware.get("gpus", ())]
    facts = [
        ("started", source["started"] if started else ""),
        ("command", shlex.join(source["command"])),
        ("versions", ", ".join(f"{name} {number}" for name, number in source["versions"].items())),
        ("platform", str(hardware.get("platform", ""))),
        (
            "processor",
            f"{hardware.get('cpu', '')}, {hardware.get('cores', '?')} cores, {hardware.get('threads', '?')} threads",
        ),
        ("devices", ", ".join(devices)),
    ]
    return Source(title, [(name, text) for name, text in facts if text])


SWEEP_COLUMNS = (
    *("dataset", "model", "protocol", "weights", "test set", "trained on", "shift", "depth", "train images"),
    *("test images", "seed", "device", "precision", "images", "extraction s", "wall s"),
)


def sweep_rows(contents: RecordView) -> list[list[str]]:
    """A row of `SWEEP_COLUMNS` for each sweep."""
    rows = []
    for sweep in contents.sweeps:
        record, case = sweep.record, next(iter(sweep.rows.values())).case
        rows.append(
            [record["dataset"], record["model"], record["protocol"], record["weights"], record["test_set"]]
            + [record.get("trained_on") or record["dataset"], record["shift"] or "unknown", str(record["depth"])]
            + [f"{case['n_train']:,}", f"{case['n_test']:,}", str(record["seed"]), record["device"]]
            + [record["precision"], f"{record['images']:,}"]
            + [significant(record["extract_seconds"], 3), significant(record["wall_seconds"], 3)]
        )
    return rows


def extra(contents: RecordView) -> str:
    """The additions of plugins to the record, as JSON; empty if there are none."""
    found = contents.record["extra"]
    return json.dumps(found, indent=2, ensure_ascii=False) if found else ""
