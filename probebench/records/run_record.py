"""The run record: everything one pytest session measured, as one JSON document.

Its shape is described by ``probebench/records/schema/run-1.json``. Beside it lies a safetensors file with one bit per
case and test example, which were right, so that two runs can be compared in pairs; the record names its SHA-256. No
torch is imported to read either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from probebench import _files
from probebench.errors import StoreError
from probebench.records.environment import versions
from probebench.records.types import Correct, Record

SCHEMA = 1


def schema() -> dict[str, Any]:
    """The JSON schema of run records."""
    text = files("probebench.records.schema").joinpath(f"run-{SCHEMA}.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def throughput(sweeps: Sequence[Record]) -> Record:
    """How many images went through networks, and how many a second while some did."""
    images = sum(sweep["images"] for sweep in sweeps)
    # What was read from the feature cache took time too, and says nothing of a network.
    seconds = sum(sweep["extract_seconds"] for sweep in sweeps if sweep["images"])
    return {"images": images, "images_per_second": images / seconds if seconds else None}


def run_record(
    *,
    hardware: Record,
    started: datetime,
    duration: float,
    command: list[str],
    sweeps: list[Record],
    cases: list[Record],
    failures: list[Record],
    stale: list[str],
    interrupted: bool,
    alpha: float,
    min_drop: float,
) -> Record:
    """The whole record; see the schema for what the fields mean.

    Args:
        hardware: see `probebench.measure.environment.hardware`
    """
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
        **throughput(sweeps),
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
        TypeError, ValueError: if a plugin added something that JSON does not have
    """
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def save(record: Mapping[str, Any], path: Path, correct: Correct | None = None) -> None:
    """Write a record and, where it is known, which test examples were right.

    Raises:
        StoreError: if it cannot be written
    """
    text = {key: value for key, value in record.items() if key != "correct"}
    if correct:
        known = [case["id"] for case in record["cases"] if case["id"] in correct]
        side = save_tensors({name: np.packbits(correct[name]) for name in known})
        # Not run.safetensors: that may well be the checkpoint which was measured.
        file = path.with_name(f"{path.name.removesuffix('.json')}.correct.safetensors")
        text["correct"] = {"file": file.name, "sha256": hashlib.sha256(side).hexdigest()}
        # The side file first: a crash between the two leaves a record that refuses its neighbour, not a wrong one.
        _files.write(file, side)
    _files.write(path, to_json(text))


def load(path: Path) -> Record:
    """Read a record.

    Raises:
        StoreError: if it cannot be read, is no run record or has another schema version
    """
    try:
        record: Record = json.loads(path.read_text(encoding="utf-8"))
        found = record["schema"]
        if found != SCHEMA:
            raise StoreError(f"run record {path} has schema {found}, this probebench reads {SCHEMA}")
        required = _required()
        lacking = [key for key in required["run"] if key not in record]
        for kind in () if lacking else ("sweep", "case"):
            lacking += [f"{kind} {key}" for one in record[f"{kind}s"] for key in required[kind] if key not in one]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"run record {path} cannot be read ({type(error).__name__}: {error})") from error
    if lacking:
        which = "a baseline of one sweep, and no run record" if {"correct_sha256", "cases"} <= record.keys() else ""
        raise StoreError(
            f"{path} is {which or 'no run record'}: it lacks {', '.join(list(dict.fromkeys(lacking))[:5])}"
        )
    return record


@cache
def _required() -> dict[str, list[str]]:
    described = schema()
    return {"run": described["required"]} | {kind: described["$defs"][kind]["required"] for kind in ("sweep", "case")}


def load_correct(record: Record, path: Path) -> Correct:
    """Which test examples were right, by id of a case; nothing for a record that does not have it.

    Raises:
        StoreError: if the file beside the record is missing, damaged or another run's
    """
    if record.get("correct") is None:
        return {}
    known = {case["id"]: case for case in record["cases"]}
    correct = {}
    try:
        file = path.with_name(record["correct"]["file"])
        side = file.read_bytes()
        if (found := hashlib.sha256(side).hexdigest()) != record["correct"]["sha256"]:
            raise StoreError(
                f"{file} has SHA-256 {found[:16]}, {path.name} expects {record['correct']['sha256'][:16]}: "
                "the two are not of the same run"
            )
        for name, bits in load_tensors(side).items():
            n, draws, accuracy = known[name]["n_test"], known[name].get("draws", 1), known[name]["accuracy"]
            unpacked = np.unpackbits(bits, count=n * draws).astype(bool)
            correct[name] = unpacked if draws == 1 else unpacked.reshape(draws, n)
            if round(accuracy * n * draws) != np.count_nonzero(unpacked):
                raise StoreError(f"{file} contradicts the accuracy of {name} in {path.name}")
    except FileNotFoundError as error:
        raise StoreError(
            f"{file} is missing, which says what was right in {path.name}: copy it from where the run wrote both"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise StoreError(
            f"which examples were right in {path} cannot be read ({type(error).__name__}: {error})"
        ) from error
    return correct
