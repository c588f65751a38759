"""What a run consists of, put together from items and sent from a worker to its controller."""

from __future__ import annotations

import json
from pathlib import Path

from probebench.catalog.cases import Case, Sweep
from probebench.catalog.taps import Tap
from probebench.measure.availability import SkippedSweep
from probebench.plugin.collected import Collected, Withheld

HERE, GONE = Sweep("net", "digits", "default@2"), Sweep("net", "gone", "default@2")
AWAY = Sweep("far_net", "digits", "default@2")
FINAL, ACT = Tap("final", "final"), Tap(6, "act")
SKIPPED = SkippedSweep(GONE, 2, False, ("gone",), requested=True, model_requested=False)
WITHHELD = SkippedSweep(AWAY, 99, True, (), requested=False, model_requested=False)
COLLECTED = Collected(
    items={"t::a[2]": Case(HERE, FINAL), "t::a[gone]": SKIPPED, "t::a[1]": Case(HERE, ACT), "t::b": Case(HERE, ACT)},
    withheld=[Withheld("more", WITHHELD)],
    family=3,
    specs={"datasets": "0123"},
    unused_baselines=[Path("/somewhere/baselines")],
    shard_sweeps=4,
    left_out=["test_more.py"],
)


def test_cases_and_sweeps_come_once_and_in_the_order_of_their_tests():
    assert COLLECTED.cases == [Case(HERE, FINAL), Case(HERE, ACT)]
    assert COLLECTED.taps == {HERE: sorted([FINAL, ACT])}
    assert COLLECTED.skipped == {AWAY: WITHHELD, GONE: SKIPPED}
    assert COLLECTED.first_items == {HERE: "t::a[2]", GONE: "t::a[gone]"}


def test_another_process_reads_the_same():
    assert Collected.from_json(json.loads(json.dumps(COLLECTED.to_json()))) == COLLECTED


def test_without_items_nothing_is_there():
    assert not Collected().items
    assert Collected.from_json(Collected().to_json()) == Collected()
