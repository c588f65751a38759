"""The table of --probe-plan: for every sweep the place of its features, its passes, memory and time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tabulate import tabulate

from probebench._format import counted, duration, human
from probebench.catalog.cases import Case, Sweep
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import Tap
from probebench.errors import ProbebenchError
from probebench.measure.estimate import Estimate, Estimator
from probebench.measure.run import feature_cache

if TYPE_CHECKING:
    from probebench.catalog import Catalog
    from probebench.measure.options import Options


def lines(cases: Sequence[Case], catalog: Catalog, options: Options) -> tuple[list[str], int]:
    """The table, and the total of all sweeps. Networks and the reading of images are timed on a few images.

    Returns:
        the lines, and how many sweeps cannot be planned
    """
    estimator = Estimator(catalog, options, feature_cache(options))
    taps: dict[Sweep, list[Tap]] = {}
    for case in cases:
        taps.setdefault(case.sweep, []).append(case.tap)
    found: dict[Sweep, Estimate | str] = {}
    for sweep, wanted in taps.items():
        try:
            found[sweep] = estimator.estimate(sweep, wanted)
        except ProbebenchError as error:
            found[sweep] = str(error)
    header = ("sweep", "taps", "images", "features", "in", "passes", "memory", "disk", "extract", "fit")
    known = {sweep: each for sweep, each in found.items() if isinstance(each, Estimate)}
    rows = [_cells(sweep, each) for sweep, each in known.items()]
    aligned = ("left", "right", "right", "right", "left", *["right"] * 5)
    text: list[str] = []
    if rows:
        text += tabulate(rows, header, tablefmt="simple", colalign=aligned, disable_numparse=True).splitlines()
    text += [f"{sweep.id}: cannot be planned: {each}" for sweep, each in found.items() if isinstance(each, str)]
    if known:
        total = sum(each.extract_seconds + each.fit_seconds for each in known.values())
        most, on_gpu = (max(getattr(each.plan, name) for each in known.values()) for name in ("memory", "device"))
        disk = sum(each.plan.disk for each in known.values())
        text.append(
            f"{counted(len(known), 'sweep')}: about {duration(total)}, at most {human(most)} of memory"
            f"{f' and {human(on_gpu)} of a GPU' if on_gpu else ''} at a time besides network and libraries"
            f"{f', {human(disk)} of disk' if disk else ''}"
        )
    if any(get_protocol(sweep.protocol).reads_tokens for sweep in found):
        text.append(
            "Probes on tokens are for a few taps on a GPU; on a CPU they are for small networks and few images. "
            "--probe-layer and --probe-site choose taps."
        )
    return text, len(found) - len(known)


def _cells(sweep: Sweep, each: Estimate) -> tuple[str, ...]:
    return (
        sweep.id,
        str(each.taps),
        f"{each.images:,}",
        human(each.feature_bytes),
        {"disk": "disk", "device": "GPU"}.get(each.plan.mode, "memory"),
        str(each.plan.passes),
        human(each.plan.device or each.plan.memory),
        human(each.plan.disk) if each.plan.disk else "",
        duration(each.extract_seconds),
        duration(each.fit_seconds),
    )
