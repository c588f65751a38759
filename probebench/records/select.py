"""Select sweeps of a run record by the names of models and datasets."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from probebench.errors import ProbebenchError, unknown
from probebench.records.cases import key_of
from probebench.records.run_record import throughput
from probebench.records.types import Record


def matching(kind: str, patterns: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names that match any of the patterns, in the order they are known; all without a pattern.

    Raises:
        UnknownName: for a pattern that no name matches
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in known):
            raise unknown(kind, pattern, known)
    return [name for name in known if not patterns or any(fnmatchcase(name, pattern) for pattern in patterns)]


def select(record: Record, models: Sequence[str], datasets: Sequence[str]) -> Record:
    """The record with the selected sweeps only.

    Args:
        models, datasets: names and patterns such as ``vit_*``; empty for all

    Raises:
        UnknownName: for a pattern that matches nothing
        ProbebenchError: if no selected model was measured on a selected dataset
    """
    if not (models or datasets):
        return record
    wanted_models = matching("model", models, list(dict.fromkeys(s["model"] for s in record["sweeps"])))
    wanted_datasets = matching("dataset", datasets, list(dict.fromkeys(s["dataset"] for s in record["sweeps"])))
    sweeps = [s for s in record["sweeps"] if s["model"] in wanted_models and s["dataset"] in wanted_datasets]
    if not sweeps:
        raise ProbebenchError(f"{' or '.join(wanted_models)} was not measured on {' or '.join(wanted_datasets)}")
    kept = {key_of(sweep) for sweep in sweeps}
    images, rate = throughput(sweeps)
    return record | {
        "sweeps": sweeps,
        "cases": [case for case in record["cases"] if key_of(case) in kept],
        "images": images,
        "images_per_second": rate,
    }
