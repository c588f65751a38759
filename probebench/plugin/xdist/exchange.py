"""Exchange files between the worker processes of pytest-xdist and their controller, in a folder of the run.

xdist's workeroutput is lost when a worker crashes, so each result is written to disk as soon as its sweep finishes.
Files are written atomically.
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
    """The exchange folder of one run. The process that first writes a file makes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path / ".lock")

    def own(self) -> None:
        """Lock the folder for this run, and remove the folders of runs that were killed.

        Raises:
            StoreError: if it cannot be locked
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
        """Write what a worker has collected, or why the run cannot begin.

        Raises:
            StoreError: if it cannot be written
        """
        _files.write(self._path / "collected" / f"{worker}.json", json.dumps(table))

    def announced(self, worker: str) -> Table | None:
        """Read what a worker has announced; None if it has nothing to do with cases."""
        try:
            table: Table = json.loads((self._path / "collected" / f"{worker}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return table

    def begin(self, sweep: Sweep, worker: str) -> str | None:
        """Note that a worker is about to measure a sweep.

        Returns:
            None, or the worker that began it before, and has died

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
        """By sweep that was begun, the worker that began it."""
        tables = [json.loads(path.read_text(encoding="utf-8")) for path in (self._path / "begun").glob("*.json")]
        return {Sweep(**table["sweep"]): table["worker"] for table in tables}

    def end(self, ended: SweepOutcome) -> None:
        """Write the outcome of a sweep, finished or interrupted.

        Raises:
            StoreError: if it cannot be written
        """
        from probebench.measure import outcome

        outcome.save(ended, self._path / "over" / f"{ended.sweep.id}.json")

    def ended(self, sweep: Sweep) -> SweepOutcome | None:
        """Read the outcome of a sweep; None if there is none."""
        from probebench.measure import outcome

        path = self._path / "over" / f"{sweep.id}.json"
        return outcome.load(path) if path.exists() else None

    def add_skipped(self, skipped: SkippedSweep) -> None:
        """Note that a sweep is skipped though its cases were collected.

        Raises:
            StoreError: if it cannot be written
        """
        _files.write(self._path / "skipped" / f"{skipped.sweep.id}.json", json.dumps(asdict(skipped)))

    def skipped(self) -> list[SkippedSweep]:
        """Read the sweeps of `add_skipped`."""
        paths = sorted((self._path / "skipped").glob("*.json"))
        return [SkippedSweep.from_json(json.loads(path.read_text(encoding="utf-8"))) for path in paths]

    def add_ledger(self, worker: str, ledger: Ledger) -> None:
        """Write what the feature cache did for a worker that ends.

        Raises:
            StoreError: if it cannot be written
        """
        table = asdict(ledger) | {"damaged": [str(path) for path in ledger.damaged]}
        _files.write(self._path / "cache" / f"{worker}.json", json.dumps(table))

    def ledgers(self) -> list[Ledger]:
        """Read what the feature cache did for each worker that did not crash."""
        from probebench.features.cache.store import Ledger

        tables = [
            json.loads(path.read_text(encoding="utf-8")) for path in sorted((self._path / "cache").glob("*.json"))
        ]
        return [Ledger(**table | {"damaged": {Path(path) for path in table["damaged"]}}) for table in tables]
