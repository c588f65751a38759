"""What fails a run, as pytest counts it: a test that is expected to fail, or catches what `probe.check` raises, does
not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from probebench.plugin.items import is_case

if TYPE_CHECKING:
    from probebench.plugin.session import ProbeSession


def list_failures(state: ProbeSession) -> list[str]:
    """One line for each reason why tests of cases failed, and for each baseline that --probe-strict misses a case of.

    Of a sweep that could not be measured, or was skipped, there is one line for all of its tests.
    """
    assert state.run is not None
    outcomes = {outcome.sweep: outcome for outcome in state.run.outcomes()}
    found: dict[str, None] = {}
    for nodeid, item in state.collected.items.items():
        if nodeid not in state.failed:
            continue
        sweep, outcome = item.sweep, outcomes.get(item.sweep)
        if (skipped := state.skipped.get(sweep)) is not None:
            line = f"was requested but could not be measured: {sweep.id}: {skipped.reason or 'not on this machine'}"
        elif outcome is not None and outcome.error is not None:
            line = f"could not be measured: {sweep.id}: {outcome.error.splitlines()[0]}"
        else:
            complaint = outcome.complaints.get(item.id) if outcome is not None and is_case(item) else None
            line = complaint or f"failed: {nodeid}"
        found[line] = None
    if state.options.strict and not state.options.prune:
        found |= dict.fromkeys(
            f"stale: baseline {name} has no case" for each in outcomes.values() for name in each.stale
        )
    return list(found)
