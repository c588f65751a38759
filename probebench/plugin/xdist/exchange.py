"""What worker processes and their controller leave for each other: files in a folder of the run.

What a worker sends at its end dies with it, so a sweep is handed over when it is over. Files appear whole or not at
all.
"""

from __future__ import annotations

import json
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from probebench import _files
from probebench.catalog.cases import Sweep
from probebench.errors import StoreError
from probebench.measure.availability import SkippedSweep

if TYPE_CHECKING:
    from probebench.features.cache.store import Ledger
    from probebench.measure.outcome import SweepOutcome

Table = dict[str, Any]

_JUST_MADE = 3600.0  # seconds in which a folder may be another run's that has not locked it yet


class ExchangeDirectory:
    """The folder of one run. It is made by whoever first puts something into it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path / ".lock")

    def own(self) -> None:
        """Mark the folder as that of a run that goes on, and remove those of runs that were killed.

        Raises:
            StoreError: if it cannot be marked
        """
        try:
            _files.make_folder(self._path)
            self._lock.acquire()
        except OSError as error:
            raise StoreError(f"cannot lock {self._lock.lock_file}: {error.strerror or error}") from error
        for other in self._path.parent.iterdir():
            lock = FileLock(other / ".lock")
            try:
                if other == self._path or time.time() - other.stat().st_mtime < _JUST_MADE:
                    continue
                lock.acquire(timeout=0)
            except (OSError, Timeout):
                continue
            lock.release()
            shutil.rmtree(other, ignore_errors=True)

    def remove(self) -> None:
        """Delete the folder, and the one that it is in if that has no other."""
        self._lock.release(force=True)
        shutil.rmtree(self._path, ignore_errors=True)
        with suppress(OSError):
            self._path.parent.rmdir()

    def announce(self, worker: str, table: Table) -> None:
        """A worker has collected: what, or why it could not.

        Raises:
            StoreError: if it cannot be written
        """
        _files.write(self._path / "collected" / f"{worker}.json", json.dumps(table))

    def announced(self, worker: str) -> Table | None:
        """What a worker has announced; None if it has nothing to do with cases."""
        try:
            table: Table = json.loads((self._path / "collected" / f"{worker}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return table

    def begin(self, sweep: Sweep, worker: str) -> str | None:
        """A worker is about to measure a sweep, which no living one is measuring.

        Returns:
            None, or the worker that began with it before

        Raises:
            StoreError: if it cannot be noted
        """
        path = self._path / "begun" / f"{sweep.id}.json"
        if path.exists():
            before: str = json.loads(path.read_text(encoding="utf-8"))["worker"]
            return before
        _files.write(path, json.dumps({"sweep": asdict(sweep), "worker": worker}))
        return None

    def begun(self) -> dict[Sweep, str]:
        """The workers of all sweeps that were begun."""
        tables = [json.loads(path.read_text(encoding="utf-8")) for path in (self._path / "begun").glob("*.json")]
        return {Sweep(**table["sweep"]): table["worker"] for table in tables}

    def end(self, ended: SweepOutcome) -> None:
        """A sweep is over, or as far as it got.

        Raises:
            StoreError: if it cannot be written
        """
        from probebench.measure import outcome

        outcome.save(ended, self._path / "over" / f"{ended.sweep.id}.json")

    def ended(self, sweep: Sweep) -> SweepOutcome | None:
        """A sweep as a worker has left it, or None."""
        from probebench.measure import outcome

        path = self._path / "over" / f"{sweep.id}.json"
        return outcome.load(path) if path.exists() else None

    def withhold(self, withheld: SkippedSweep) -> None:
        """A sweep was found not to be possible, since it was collected.

        Raises:
            StoreError: if it cannot be written
        """
        _files.write(self._path / "withheld" / f"{withheld.sweep.id}.json", json.dumps(asdict(withheld)))

    def withheld(self) -> list[SkippedSweep]:
        """All that were found not to be possible."""
        paths = sorted((self._path / "withheld").glob("*.json"))
        return [recalled(json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    def account(self, worker: str, ledger: Ledger) -> None:
        """What the feature cache did for a worker, which ends.

        Raises:
            StoreError: if it cannot be written
        """
        table = asdict(ledger) | {"damaged": [str(path) for path in ledger.damaged]}
        _files.write(self._path / "cache" / f"{worker}.json", json.dumps(table))

    def accounts(self) -> list[Ledger]:
        """Of all workers that came to their end."""
        from probebench.features.cache.store import Ledger

        tables = [
            json.loads(path.read_text(encoding="utf-8")) for path in sorted((self._path / "cache").glob("*.json"))
        ]
        return [Ledger(**table | {"damaged": {Path(path) for path in table["damaged"]}}) for table in tables]


def recalled(table: Table) -> SkippedSweep:
    """A `SkippedSweep` of which the fields are known."""
    return SkippedSweep(
        **table | {"sweep": Sweep(**table["sweep"]), "missing_datasets": tuple(table["missing_datasets"])}
    )
