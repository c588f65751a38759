"""What a run says of weights, images and preprocessing before and after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from probebench._format import counted, human
from probebench.catalog import Catalog, ModelSpec
from probebench.catalog.protocols import Protocol
from probebench.fetch import hub, local
from probebench.measure.availability import SkippedSweep
from probebench.models.preprocessing import describe_preprocessing
from probebench.records.types import WithheldRecord

SHOWN = 5
"""Models that the summary of a run lists, though nobody named them."""


def skipped_entries(withheld: Iterable[SkippedSweep], catalog: Catalog) -> list[WithheldRecord]:
    """By model, what was withheld as run records have it: how many cases, what they lack, the command that gets it.

    Controls are counted with their models.
    """
    return [_skipped_entry(catalog.model(name), group, catalog) for name, group in _by_model(withheld, catalog).items()]


def _by_model(withheld: Iterable[SkippedSweep], catalog: Catalog) -> dict[str, list[SkippedSweep]]:
    groups: dict[str, list[SkippedSweep]] = {}
    for each in withheld:
        spec = catalog.model(each.sweep.model)
        base = catalog.models.get(spec.control_of or "", spec)
        groups.setdefault(base.name, []).append(each)
    return groups


def skipped_lines(withheld: Iterable[SkippedSweep], catalog: Catalog, *, every: bool = False) -> list[str]:
    """The `skipped_entries` as lines of text, after one that says what they are.

    Args:
        every: list all models; by default only the first `SHOWN` of those whose name nobody gave
    """
    groups = _by_model(withheld, catalog)
    wanted = {name for name, group in groups.items() if any(each.by_model for each in group)}
    names = sorted(groups, key=lambda name: name not in wanted)
    shown = names if every else names[: len(wanted) + SHOWN]
    left = len(names) - len(shown)
    if left == 1:
        shown, left = names, 0
    found = [_skipped_entry(catalog.model(name), groups[name], catalog) for name in shown]
    rows = [(each["model"], counted(each["cases"], "case"), each["lacks"], each["command"]) for each in found]
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    return [
        "skipped (what is asked for by name is downloaded, where there is a network and nothing forbids it):",
        *(
            f"  {name:<{widths[0]}}  {cases:>{widths[1]}}  {lacks:<{widths[2]}}  {command}".rstrip()
            for name, cases, lacks, command in rows
        ),
        *([f"  and {left} models more: -v shows them, probebench models lists all that are known"] if left else []),
    ]


def _skipped_entry(spec: ModelSpec, group: list[SkippedSweep], catalog: Catalog) -> WithheldRecord:
    cases = sum(each.cases for each in group)
    reasons = list(dict.fromkeys(each.why for each in group if each.why))
    if reasons:
        return {"model": spec.name, "cases": cases, "lacks": "; ".join(reasons), "command": ""}
    lacks, names = [], []
    if any(each.model for each in group):
        lacks.append(human(spec.download_size) if spec.download_size else "weights")
        names.append(hub.handle(spec))
    datasets = list(dict.fromkeys(name for each in group for name in each.datasets))
    if datasets:
        archives = {a.url: a for name in datasets for a in local.missing(catalog.dataset(name))}
        size = sum(archive.size for archive in archives.values())
        lacks.append(counted(len(datasets), "dataset") + (f" {human(size)}" if size else ""))
        names += _short(datasets, catalog)
    command = f"probebench fetch {' '.join(names)}" if names else ""
    return {"model": spec.name, "cases": cases, "lacks": " + ".join(lacks), "command": command}


def _short(datasets: list[str], catalog: Catalog) -> list[str]:
    """Datasets by the name of the suite that they are all from, or by their own if they are few."""
    if len(datasets) <= 2:
        return datasets
    suites = [name for name, members in catalog.suites.items() if set(datasets) <= set(members)]
    return [min(suites, key=lambda name: len(catalog.suites[name]))] if suites else datasets


def preprocessing_lines(specs: Iterable[ModelSpec], protocol: Protocol, own: Mapping[str, str]) -> list[str]:
    """A line per model: weights, licence and preparation of images; models that agree in all of it share one.

    Args:
        own: by model, weights that the command line names instead
    """
    names: dict[str, list[str]] = {}
    for spec in specs:
        text, differs = describe_preprocessing(spec, protocol)
        if spec.name in own:
            origin = [own[spec.name]]
        elif hub.needs_download(spec):
            origin = [spec.architecture, f"licence {spec.licence or 'unknown'}"]
        else:
            origin = []
        agreed = "otherwise as the weights declare" if "evaluated at" in text else "as the weights declare"
        agreed = "; ".join(f"WARNING: {each}" for each in differs) or agreed
        line = "; ".join([*([", ".join(origin)] if origin else []), text, agreed])
        names.setdefault(line, []).append(spec.name)
    return [f"{', '.join(models)}: {line}" for line, models in names.items()]
