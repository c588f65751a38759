"""On-disk store of finished sweeps, from which `--probe-resume` continues an interrupted run.

A sweep is taken from here only by a run of the same cases under the same options that decide a number or a verdict,
with the same specs of models and datasets, baselines, weights files of one's own and versions of libraries. Images and
readers are not looked at.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probebench import _files
from probebench.catalog.protocols import get_protocol
from probebench.errors import StoreError
from probebench.measure import outcome
from probebench.measure.outcome import SweepOutcome
from probebench.records import baselines
from probebench.records.environment import versions

if TYPE_CHECKING:
    from probebench.catalog import Catalog
    from probebench.catalog.cases import Case, Sweep
    from probebench.measure.options import Options


_SETTINGS = "settings"  # the file that says which run it is
_FORGOTTEN = 30 * 24 * 3600.0  # seconds


class ResumeStore:
    """The finished sweeps of one run.

    Args:
        cases: all of the run, whichever process measures them
        specs: digests, as `digest_specs` returns them
        resume: whether sweeps are taken from it

    Attributes:
        left: how many sweeps an earlier run has left here
        recalled: those that were taken
    """

    def __init__(self, options: Options, cases: Collection[Case], specs: Mapping[str, str], *, resume: bool) -> None:
        self._home = options.root / ".probebench"
        self._settings = _settings(options, cases, specs)
        self._folder = self._home / "unfinished" / _key(self._settings)
        self._resume = resume
        self.left = len(list(self._folder.glob("*.json")))
        self.recalled: list[Sweep] = []

    def keep(self, ended: SweepOutcome) -> None:
        """Store a sweep if all its cases were measured; other sweeps are measured again."""
        if not ended.complete or ended.sweep in self.recalled:
            return
        with suppress(StoreError):  # the run goes on without, as it does without a place for its record
            _files.keep_out_of_git(self._home)
            if not (self._folder / _SETTINGS).exists():
                _files.write(self._folder / _SETTINGS, json.dumps(self._settings))
            outcome.save(ended, self._path(ended.sweep))

    @property
    def holds(self) -> bool:
        """True if there is a finished sweep to continue from."""
        return any(self._folder.glob("*.json"))

    def why_none(self) -> str:
        """Explain why there is nothing to continue from: name what differs from the latest unfinished run."""
        found = self._folder.parent.glob(f"*/{_SETTINGS}")
        # A run that was killed before its first sweep was kept leaves its settings alone.
        others = [path for path in found if path.parent != self._folder]
        if not others:
            return "there is no unfinished run"
        text = "there is no unfinished run of these cases and settings"
        try:
            last = json.loads(max(others, key=lambda path: path.stat().st_mtime).read_text(encoding="utf-8"))
            differs = [what for what, value in self._settings.items() if last[what] != value]
        except (OSError, ValueError, TypeError, KeyError):
            return text
        return f"{text}; the one that was left last differs in {', '.join(differs)}" if differs else text

    def recall(self, sweep: Sweep) -> SweepOutcome | None:
        """Read a sweep that an earlier run has finished; None without --probe-resume or if its file is damaged."""
        path = self._path(sweep)
        if not self._resume or not path.exists():
            return None
        try:
            found = outcome.load(path)
        except (StoreError, TypeError, KeyError):
            return None
        self.recalled.append(sweep)
        return found

    def remove(self) -> None:
        """Remove the finished sweeps of this run, and of others that have not been continued for a long time."""
        shutil.rmtree(self._folder, ignore_errors=True)
        with suppress(OSError):
            for other in self._folder.parent.iterdir():
                if time.time() - other.stat().st_mtime > _FORGOTTEN:
                    shutil.rmtree(other, ignore_errors=True)
            self._folder.parent.rmdir()

    def _path(self, sweep: Sweep) -> Path:
        return self._folder / f"{sweep.id}.json"


def digest_specs(catalog: Catalog, cases: Collection[Case]) -> dict[str, str]:
    """Compute digests of the models of a run, with their checkpoints as they are now, and of its datasets.

    Only the process that has collected the cases can: another one may not know all specs.
    """
    models = [catalog.model(name) for name in sorted({case.sweep.model for case in cases})]
    return {
        "models or their checkpoints": _digest(
            [(spec, spec.checkpoint and _stamp(_files.expand_path(spec.checkpoint))) for spec in models]
        ),
        "datasets": _digest([catalog.dataset(name) for name in sorted({case.sweep.dataset for case in cases})]),
    }


def _settings(options: Options, cases: Collection[Case], specs: Mapping[str, str]) -> dict[str, Any]:
    """Collect all that decides a number or a verdict, by the name that a user knows."""
    stored = hashlib.sha256()
    sweeps = {case.sweep.id: case.sweep for case in cases}
    for name in sorted(sweeps):
        for path in baselines.paths(options.baselines, sweeps[name]):
            with suppress(OSError):
                stored.update(path.name.encode() + hashlib.sha256(path.read_bytes()).digest())
    weights = {}
    if options.weights:
        from probebench.models.checkpoint import split_key  # which imports torch

        weights = {
            model: [str(path), _stamp(_files.expand_path(split_key(path)[0]))]
            for model, path in options.weights.items()
        }
    return {
        "cases": hashlib.sha256(" ".join(sorted(case.id for case in cases)).encode()).hexdigest(),
        "protocol": get_protocol(options.protocol).fingerprint,
        **specs,
        "--probe-weights": weights,
        "--probe-alpha": options.alpha,
        "--probe-min-drop": options.min_drop,
        "--probe-strict": options.strict,
        "--probe-update": options.update,
        "--probe-device": options.device,
        "--probe-shard": options.shard and list(options.shard),
        "baselines": stored.hexdigest(),
        "versions of libraries": versions(),
    }


def _key(settings: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def _digest(specs: object) -> str:
    """A digest of specs; where in memory an argument lies does not count."""
    return hashlib.sha256(re.sub(" at 0x[0-9a-f]+", "", repr(specs)).encode()).hexdigest()


def _stamp(path: Path) -> list[int]:
    """Sizes and times of a file, or of all files of a folder; empty if there is none."""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    with suppress(OSError):
        return [number for file in files for number in (file.stat().st_size, file.stat().st_mtime_ns)]
    return []
