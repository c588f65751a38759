"""Put together what pytest has collected in this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from probebench.plugin.collected import Collected
from probebench.plugin.items import case_of, param_of

if TYPE_CHECKING:
    import pytest

    from probebench.plugin.session import ProbeSession


def collect_items(session: ProbeSession, items: Sequence[pytest.Item], *, incomplete: bool) -> Collected:
    """Put together what pytest has collected in this process."""
    params = {item.nodeid: param for item in items if (param := param_of(item)) is not None}
    cases = {case: None for item in items if (case := case_of(item)) is not None}
    specs, folders = {}, []
    if cases and not session.config.option.collectonly:
        from probebench.measure.resume import digest_specs
        from probebench.plugin import unused_baselines

        specs = digest_specs(session.catalog, cases)
        files = dict.fromkeys(item.path for item in items if case_of(item) is not None)
        folders = unused_baselines.find(session.options, files)
    sharding = session.sharding
    return Collected(
        items=params,
        withheld=[each for each in session.withheld.values() if sharding is None or sharding.holds(each.skipped.sweep)],
        family=len(cases) if sharding is None else sharding.cases,
        specs=specs,
        unused_baselines=folders,
        shard_sweeps=0 if sharding is None else sharding.sweeps,
        left_out=[] if session.pruning is None else session.pruning.left_out,
        incomplete=incomplete,
    )
