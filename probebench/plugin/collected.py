"""The result of collection: what a run consists of, from pytest's items or from the file of an xdist worker."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probebench.plugin.items import is_case

if TYPE_CHECKING:
    import pytest

    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap
    from probebench.measure.availability import SkippedSweep


@dataclass(frozen=True)
class Withheld:
    """A sweep without tests, because it lacks something that the command line does not name.

    Attributes:
        group: name of the test file, without ``test_``
    """

    group: str
    skipped: SkippedSweep


@dataclass(frozen=True)
class Collected:
    """The tests and sweeps that a run consists of, known when collection is over.

    Attributes:
        items: by node id, the case of a test, or the sweep that is skipped; in the order of the tests
        withheld: sweeps without tests, in the order of their test functions
        family: number of cases that share the error level of the verdicts
        specs: digests of the models and datasets that have cases, by the process that collected them
        unused_baselines: folders of baselines next to the tests that are not in use
        shard_sweeps: with --probe-shard, the number of sweeps of all shards
        left_out: with --probe-prune, node ids of cases and files that are not in the run
        incomplete: True if pytest ends the session after collection, because it could not collect something
    """

    items: dict[str, Case | SkippedSweep] = field(default_factory=dict)
    withheld: list[Withheld] = field(default_factory=list)
    family: int = 0
    specs: dict[str, str] = field(default_factory=dict)
    unused_baselines: list[Path] = field(default_factory=list)
    shard_sweeps: int = 0
    left_out: list[str] = field(default_factory=list)
    incomplete: bool = False

    @cached_property
    def cases(self) -> list[Case]:
        """Each once, in the order of its first test."""
        return list(dict.fromkeys(item for item in self.items.values() if is_case(item)))

    @cached_property
    def skipped(self) -> dict[Sweep, SkippedSweep]:
        """The sweeps that are skipped, those without tests included."""
        found = {each.skipped.sweep: each.skipped for each in self.withheld}
        return found | {item.sweep: item for item in self.items.values() if not is_case(item)}

    @cached_property
    def taps(self) -> dict[Sweep, list[Tap]]:
        """The taps of each sweep that has cases, sorted; sweeps in the order of their tests."""
        found: dict[Sweep, list[Tap]] = {}
        for case in self.cases:
            found.setdefault(case.sweep, []).append(case.tap)
        return {sweep: sorted(taps) for sweep, taps in found.items()}

    @cached_property
    def first_items(self) -> dict[Sweep, str]:
        """The node id of the first test of each sweep."""
        found: dict[Sweep, str] = {}
        for nodeid, item in self.items.items():
            found.setdefault(item.sweep, nodeid)
        return found

    def to_json(self) -> dict[str, Any]:
        """A table for JSON, which `from_json` reads in another process."""
        sweeps = {sweep: place for place, sweep in enumerate(self.first_items)}
        return {
            "sweeps": [asdict(sweep) for sweep in sweeps],
            "items": [
                (nodeid, sweeps[item.sweep], item.tap.id if is_case(item) else None)
                for nodeid, item in self.items.items()
            ],
            "skipped": [asdict(self.skipped[sweep]) for sweep in sweeps if sweep in self.skipped],
            "withheld": [(each.group, asdict(each.skipped)) for each in self.withheld],
            "family": self.family,
            "specs": self.specs,
            "unused_baselines": [str(folder) for folder in self.unused_baselines],
            "shard_sweeps": self.shard_sweeps,
            "left_out": self.left_out,
        }

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> Collected:
        """Read the table of `to_json`."""
        from probebench.catalog.cases import Case, Sweep
        from probebench.catalog.taps import Tap
        from probebench.measure.availability import SkippedSweep

        sweeps = [Sweep(**each) for each in table["sweeps"]]
        skipped = {each.sweep: each for each in map(SkippedSweep.from_json, table["skipped"])}
        return cls(
            items={
                nodeid: Case(sweeps[place], Tap.parse(tap)) if tap else skipped[sweeps[place]]
                for nodeid, place, tap in table["items"]
            },
            withheld=[Withheld(group, SkippedSweep.from_json(each)) for group, each in table["withheld"]],
            family=table["family"],
            specs=table["specs"],
            unused_baselines=[Path(folder) for folder in table["unused_baselines"]],
            shard_sweeps=table["shard_sweeps"],
            left_out=table["left_out"],
        )


def ends_after_collection(session: pytest.Session) -> bool:
    """Return True if pytest is about to end the session, because something could not be collected."""
    return bool(session.testsfailed) and not session.config.option.continue_on_collection_errors
