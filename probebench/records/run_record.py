"""The run record: everything one pytest session measured, as one JSON document.

Its shape is described by ``probebench/records/schema/run-1.json``. A safetensors file beside it has one bit per case
and test example, set if the example was right, or one score if the labels are no classes, so that two runs can be
compared in pairs; the record names its SHA-256. Neither needs torch to be read. A record whose name ends in ``.gz`` is
compressed, to a twentieth or less.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from probebench import _files
from probebench._format import list_some
from probebench.errors import StoreError
from probebench.records import correct_bits, damage
from probebench.records.environment import versions
from probebench.records.types import CaseRecord, Correct, FailureRecord, HardwareRecord, Record, SweepRecord
from probebench.stats import Scores

SCHEMA = 1

SIDE = ".correct.safetensors"
"""The end of the name of the file beside a record."""
_GZIP = b"\x1f\x8b"


def schema() -> dict[str, Any]:
    """The JSON schema of run records."""
    text = files("probebench.records.schema").joinpath(f"run-{SCHEMA}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def throughput(sweeps: Sequence[SweepRecord]) -> tuple[int, float | None]:
    """The number of images that went through networks, and the rate per second while extracting; None without any."""
    images = sum(sweep["images"] for sweep in sweeps)
    # Reading the feature cache takes time, too, but is no measure of a network.
    seconds = sum(sweep["extract_seconds"] for sweep in sweeps if sweep["images"])
    return images, images / seconds if seconds else None


def run_record(
    *,
    hardware: HardwareRecord,
    started: datetime,
    duration: float,
    command: list[str],
    sweeps: list[SweepRecord],
    cases: list[CaseRecord],
    failures: list[FailureRecord],
    stale: list[str],
    interrupted: bool,
    alpha: float,
    min_drop: float,
) -> Record:
    """The whole record; the schema describes the fields.

    Args:
        hardware: see `probebench.measure.environment.hardware`
    """
    images, rate = throughput(sweeps)
    return {
        "schema": SCHEMA,
        "started": started.isoformat(timespec="seconds"),
        "duration_seconds": duration,
        "interrupted": interrupted,
        "command": command,
        "versions": versions(),
        "hardware": hardware,
        "precision": sorted({sweep["precision"] for sweep in sweeps}),
        "seeds": sorted({sweep["seed"] for sweep in sweeps}),
        "images": images,
        "images_per_second": rate,
        "alpha": alpha,
        "min_drop": min_drop,
        "sweeps": sweeps,
        "cases": cases,
        "failures": failures,
        "stale": stale,
        "extra": {},
    }


def to_json(record: Mapping[str, Any]) -> str:
    """A record as the text of its file.

    Raises:
        TypeError, ValueError: if a plugin added something that JSON cannot represent
    """
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def save(record: Mapping[str, Any], path: Path, correct: Correct | None = None) -> None:
    """Write a record and, if `correct` has any, the correctness bits of its cases.

    A device or a pipe has no place for bits beside it. Beside a symbolic link they are where it leads.

    Raises:
        StoreError: if it cannot be written
    """
    text = {key: value for key, value in record.items() if key != "correct"}
    if correct and not _files.is_special(path):
        path = _files.follow(path)
        known = [case["id"] for case in record["cases"] if case["id"] in correct]
        side, digest = correct_bits.encode({name: correct[name].ravel() for name in known})
        # Not run.safetensors: that may be the checkpoint that was measured.
        stem = path.name.removesuffix(".gz").removesuffix(".json")
        file = path.with_name(f"{stem}{SIDE}")
        text["correct"] = {"file": file.name, "sha256": digest}
        # The bits first: after a crash between the two writes the digest of the old record does not match them.
        _files.write(file, side)
    content = to_json(text).encode("utf-8")
    # Without the time, so that the same record gives the same bytes.
    _files.write(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        StoreError: if it cannot be read, is not a run record or has another schema version
    """
    try:
        data = path.read_bytes()
        if data.startswith(_GZIP):
            data = gzip.decompress(data)
        record: Record = damage.parse(data)
        if not isinstance(record, dict) or "schema" not in record:
            raise StoreError(f"{path} is not a run record: it has no schema")
        found = record["schema"]
        if found != SCHEMA:
            raise StoreError(f"run record {path} has schema {found}, this probebench reads {SCHEMA}")
        required = _required()
        missing = [key for key in required["run"] if key not in record]
        if not missing:
            entries = [("sweep", sweep) for sweep in record["sweeps"]] + [("case", case) for case in record["cases"]]
            missing = [f"{kind} {key}" for kind, entry in entries for key in required[kind] if key not in entry]
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ValueError) and (known := damage.explain(data, (path,))):
            raise StoreError(f"run record {path} {known}") from error
        if path.name.endswith(SIDE):
            raise StoreError(
                f"{path} says which examples were right in a run; name the run record beside it, such as "
                f"{path.name.removesuffix(SIDE)}.json"
            ) from error
        raise StoreError(f"run record {path} cannot be read ({type(error).__name__}: {error})") from error
    if missing:
        kind = "a baseline of one sweep, not a run record" if {"correct_sha256", "cases"} <= record.keys() else ""
        raise StoreError(
            f"{path} is {kind or 'not a run record'}: it has no {list_some(dict.fromkeys(missing), most=5)}"
        )
    return record


@cache
def _required() -> dict[str, list[str]]:
    loaded = schema()
    return {"run": loaded["required"]} | {kind: loaded["$defs"][kind]["required"] for kind in ("sweep", "case")}


def load_correct(record: Mapping[str, Any], path: Path) -> Correct:
    """The correctness bits by id of a case; empty for a record without them.

    Raises:
        StoreError: if the file beside the record is missing, damaged or another run's
    """
    if record.get("correct") is None:
        return {}
    known = {case["id"]: case for case in record["cases"]}
    correct = {}
    try:
        file = path.with_name(record["correct"]["file"])
        if not file.exists() and (elsewhere := _files.follow(path).with_name(file.name)).exists():
            file = elsewhere
        side = file.read_bytes()
        if (found := correct_bits.sha256(side)) != record["correct"]["sha256"]:
            raise StoreError(
                f"{file} has SHA-256 {found[:16]}, {path.name} expects {record['correct']['sha256'][:16]}: "
                "the two files are not from the same run"
            )
        for name, bits in load_tensors(side).items():
            n, draws, accuracy = known[name]["n_test"], known[name].get("draws", 1), known[name]["accuracy"]
            correct[name] = correct_bits.unpack(bits, n, draws)
            if not _agrees(correct[name], accuracy, n * draws):
                raise StoreError(f"{file} contradicts the accuracy of {name} in {path.name}")
    except FileNotFoundError as error:
        raise StoreError(
            f"{file} is missing, which says which examples were right in {path.name}: copy it from where the run wrote "
            "both"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise StoreError(
            f"cannot read which examples were right in {path} ({type(error).__name__}: {error})"
        ) from error
    return correct


def _agrees(correct: Scores, accuracy: float, count: int) -> bool:
    """Return whether the bits or scores of `count` examples have the mean that the record says."""
    if correct.dtype == np.bool_:
        return round(accuracy * count) == np.count_nonzero(correct)
    far = 1e-5 * max(1.0, float(np.abs(correct).max(initial=0.0)))
    return correct.size == count and abs(float(correct.mean(dtype=np.float64)) - accuracy) <= far
