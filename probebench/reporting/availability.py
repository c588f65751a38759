"""Describe skipped sweeps and preprocessing of images, in the first and last lines of a run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from probebench._format import counted, human
from probebench.catalog import Catalog, ModelSpec
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import Protocol
from probebench.fetch import hub, local
from probebench.measure.availability import SkippedSweep
from probebench.models.preprocessing import describe_preprocessing
from probebench.records.types import WithheldRecord

SHOWN = 5
"""Number of models without images that the summary lists although the command line does not name them."""

_HEADING = "Skipped (to download weights or data that are not on this machine, select the model or dataset explicitly):"

_HOW_TO_GET = "name a model to download it (-k NAME), or run `probebench fetch NAME`; "


def skipped_entries(skipped: Iterable[SkippedSweep], catalog: Catalog) -> list[WithheldRecord]:
    """The skipped sweeps as entries of a run record, one a model: how many cases, what is missing, how to fetch it.

    Controls are counted with their models.
    """
    return [_skipped_entry(catalog.model(name), group, catalog) for name, group in _by_model(skipped, catalog).items()]


def _by_model(skipped: Iterable[SkippedSweep], catalog: Catalog) -> dict[str, list[SkippedSweep]]:
    groups: dict[str, list[SkippedSweep]] = {}
    for each in skipped:
        spec = catalog.model(each.sweep.model)
        base = catalog.models.get(spec.control_of or "", spec)
        groups.setdefault(base.name, []).append(each)
    return groups


def skipped_lines(
    skipped: Iterable[SkippedSweep], catalog: Catalog, groups: Mapping[Sweep, str], *, every: bool = False
) -> list[str]:
    """The `skipped_entries` as lines of text, after a heading; one line for models that the command line does not name.

    Args:
        groups: of sweeps that the command line does not name, the name of their test file
        every: give each model a line; by default, only those that the command line names, and the first `SHOWN` of
            those that lack nothing but images
    """
    by_model = _by_model(skipped, catalog)
    wanted = {name for name, group in by_model.items() if any(each.sweep not in groups for each in group)}
    unnamed = {} if every else {name: group for name, group in by_model.items() if name not in wanted}
    together = {name: group for name, group in unnamed.items() if any(_lacks_weights(each) for each in group)}
    names = sorted((name for name in by_model if name not in together), key=lambda name: name not in wanted)
    shown = names if every else names[: len(wanted) + SHOWN]
    left = len(names) - len(shown)
    if left == 1:
        shown, left = names, 0
    found = [_skipped_entry(catalog.model(name), by_model[name], catalog) for name in shown]
    rows = [(each["model"], counted(each["cases"], "case"), each["lacks"], each["command"]) for each in found]
    widths = [max((len(row[i]) for row in rows), default=0) for i in range(3)]
    return [
        *([_HEADING] if rows else []),
        *(
            f"  {name:<{widths[0]}}  {cases:>{widths[1]}}  {lacks:<{widths[2]}}  {command}".rstrip()
            for name, cases, lacks, command in rows
        ),
        *([f"  and {left} more models: -v shows them, probebench models lists all known models"] if left else []),
        *_together_lines(together, groups),
    ]


def _lacks_weights(skipped: SkippedSweep) -> bool:
    return skipped.missing_weights or bool(skipped.reason)


def _together_lines(by_model: Mapping[str, Sequence[SkippedSweep]], groups: Mapping[Sweep, str]) -> list[str]:
    """One line for all models that are not on this machine, and one for each licence that is refused."""
    counts: dict[str, dict[str, int]] = {}
    for group in by_model.values():
        first = next(each for each in group if _lacks_weights(each))
        families = counts.setdefault(first.reason, {})
        families[groups[first.sweep]] = families.get(groups[first.sweep], 0) + 1
    lines = []
    for reason, families in counts.items():
        text = ", ".join(f"{family} ({counted(count, 'model')})" for family, count in families.items())
        lines.append(f"{reason or 'Not on this machine'}: {text}; {'' if reason else _HOW_TO_GET}-v lists all")
    return lines


def _skipped_entry(spec: ModelSpec, group: list[SkippedSweep], catalog: Catalog) -> WithheldRecord:
    cases = sum(each.cases for each in group)
    reasons = list(dict.fromkeys(each.reason for each in group if each.reason))
    if reasons:
        return {"model": spec.name, "cases": cases, "lacks": "; ".join(reasons), "command": ""}
    lacks, names = [], []
    if any(each.missing_weights for each in group):
        lacks.append(human(spec.download_size) if spec.download_size else "weights")
        names.append(hub.handle(spec))
    datasets = list(dict.fromkeys(name for each in group for name in each.missing_datasets))
    if datasets:
        archives = {a.url: a for name in datasets for a in local.missing(catalog.dataset(name))}
        size = sum(archive.size for archive in archives.values())
        lacks.append(counted(len(datasets), "dataset") + (f" {human(size)}" if size else ""))
        names += _short(datasets, catalog)
    command = f"probebench fetch {' '.join(names)}" if names else ""
    return {"model": spec.name, "cases": cases, "lacks": " + ".join(lacks), "command": command}


def _short(datasets: list[str], catalog: Catalog) -> list[str]:
    """Shorten a list of datasets to the suite that has them all; a list of two or less stays as it is."""
    if len(datasets) <= 2:
        return datasets
    suites = [name for name, members in catalog.suites.items() if set(datasets) <= set(members)]
    return [min(suites, key=lambda name: len(catalog.suites[name]))] if suites else datasets


def download_lines(specs: Iterable[ModelSpec]) -> list[str]:
    """Describe weights that are going to be downloaded, one line a model."""
    return [
        f"{spec.name}: {spec.architecture}, licence {spec.licence or 'unknown'}; weights to be downloaded"
        + (f" ({human(spec.download_size)})" if spec.download_size else "")
        for spec in specs
    ]


def preprocessing_lines(specs: Iterable[ModelSpec], protocol: Protocol, own: Mapping[str, str]) -> list[str]:
    """Describe weights, licence and preprocessing, one line a model; models that agree share a line.

    Args:
        own: by model, the description of weights that the command line names
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
