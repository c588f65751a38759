"""Decide which sweeps of a run can be measured: are their weights and images here, and if not, may they be downloaded?

A run downloads only what its command line names. A sweep whose weights or images are not on this machine and cannot be
downloaded is skipped: its cases are skipped tests if the command line names it, and no tests otherwise.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from probebench.catalog.cases import Sweep
from probebench.errors import unknown
from probebench.fetch import hub, local
from probebench.fetch.http import offline as forbidden

if TYPE_CHECKING:
    from pathlib import Path

COMMERCIAL = "commercial"
_COMMERCIAL_LICENCES = frozenset({"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0"})
"""Licences that allow commercial use without terms of the publisher's own."""


Here = tuple[dict[str, bool], dict[str, bool]]
"""By name of a model, whether its weights are on this machine; by name of a dataset, whether its images are."""


@dataclass(frozen=True)
class RequestedNames:
    """The names on a command line, from ``--probe-model``, ``--probe-dataset``, ``-k``, ``-m`` and node ids.

    Attributes:
        models, datasets: exact names
        words: parts of names, in lower case, as ``-k`` matches them
    """

    models: frozenset[str]
    datasets: frozenset[str]
    words: frozenset[str]

    def has_model(self, name: str) -> bool:
        """Return True if the command line names this model."""
        return name in self.models or self._has_word_in(name)

    def has_dataset(self, name: str) -> bool:
        """Return True if the command line names this dataset."""
        return name in self.datasets or self._has_word_in(name)

    def _has_word_in(self, name: str) -> bool:
        return any(word in name.lower() for word in self.words)


@dataclass(frozen=True)
class SkippedSweep:
    """A sweep that is not measured.

    Attributes:
        cases: how many cases it would have
        missing_weights: True if the weights are not on this machine
        missing_datasets: names of the datasets that are not, among its own and the one that its probe is trained on
        requested: True if the command line names its model or its dataset
        model_requested: True if the command line names its model
        reason: why it is skipped, if not for missing files; empty otherwise
    """

    sweep: Sweep
    cases: int
    missing_weights: bool
    missing_datasets: tuple[str, ...]
    requested: bool
    model_requested: bool
    reason: str = ""

    @property
    def named(self) -> bool:
        """True if the command line names the model; or the dataset, where nothing but images is missing."""
        return self.model_requested or (self.requested and not self.missing_weights and not self.reason)

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> SkippedSweep:
        """Read a table that `dataclasses.asdict` made and that went through JSON."""
        sweep, datasets = Sweep(**table["sweep"]), tuple(table["missing_datasets"])
        return cls(**{**table, "sweep": sweep, "missing_datasets": datasets})


class Availability:
    """Decides for each sweep of a run whether it is measured, and keeps the decision.

    Args:
        own_weights: files named on the command line, by model; these models need no download
        requested: the names on the command line, which may be downloaded
        offline: True forbids downloads
        licences: those that weights may have, or ``commercial``; empty for any
        clean: True if probes are trained on clean datasets, which must then be available as well
        here: what is known to be on this machine
    """

    def __init__(
        self,
        catalog: Catalog,
        own_weights: Mapping[str, Path],
        requested: RequestedNames,
        offline: bool,
        licences: Collection[str],
        clean: bool = False,
        here: Here = ({}, {}),
    ) -> None:
        self._catalog, self._own_weights, self._requested = catalog, own_weights, requested
        self._licences, self._clean = licences, clean
        self._offline = offline or forbidden()
        self._weights, self._images = map(dict, here)
        self._decisions: dict[Sweep, SkippedSweep | None] = {}
        self._hub_is_unreachable = False
        self._unreachable_hosts: set[str] = set()

    @property
    def here(self) -> Here:
        """The weights and images that were looked for on this machine so far."""
        return self._weights, self._images

    def extend(self, catalog: Catalog, own_weights: Mapping[str, Path], requested: RequestedNames) -> None:
        """Use a larger catalog, and the names of the command line that it resolves, for decisions yet to be made."""
        self._catalog, self._own_weights, self._requested = catalog, own_weights, requested

    def check_licences(self) -> None:
        """Check the licences that the run allows. Call it after collection, when all models of the run are known.

        Raises:
            UnknownName: for a licence that no model has
        """
        known = {COMMERCIAL, *_COMMERCIAL_LICENCES, *self._catalog.licences}
        for name in self._licences:
            if name not in known:
                raise unknown("licence", name, known)

    def decide(self, sweep: Sweep, cases: int) -> SkippedSweep | None:
        """Decide whether a sweep is measured. The decision changes only in `skip_unreachable`.

        Args:
            cases: how many cases of the sweep are skipped together

        Returns:
            None if it is measured
        """
        if sweep not in self._decisions:
            self._decisions[sweep] = self._decide(sweep, cases)
        decision = self._decisions[sweep]
        return decision if decision is None or decision.cases == cases else replace(decision, cases=cases)

    def skip(self, sweep: Sweep, cases: int, reason: str) -> SkippedSweep:
        """Skip a sweep for a reason that was found when it was measured."""
        requested = self._requested.has_model(sweep.model) or self._requested.has_dataset(sweep.dataset)
        skipped = SkippedSweep(sweep, cases, False, (), requested, self._requested.has_model(sweep.model), reason)
        self._decisions[sweep] = skipped
        return skipped

    def skip_unreachable(self, sweep: Sweep, cases: int) -> SkippedSweep:
        """Skip a sweep whose download failed because a host does not answer, and all sweeps that need the same host."""
        self._weights.clear()
        self._images.clear()
        model, dataset = self._catalog.model(sweep.model), self._catalog.dataset(sweep.dataset)
        missing_weights, missing_datasets = self.misses_weights(model), self._find_missing(dataset)
        if missing_weights:  # weights are downloaded first
            self._hub_is_unreachable = True
        else:
            self._unreachable_hosts |= {urlsplit(archive.url).netloc for archive in self._missing_archives(dataset)}
        for other, decision in self._decisions.items():
            if decision is None:
                self._decisions[other] = self._decide(other, cases)
        skipped = SkippedSweep(sweep, cases, missing_weights, missing_datasets, requested=True, model_requested=True)
        self._decisions[sweep] = skipped
        return skipped

    def _decide(self, sweep: Sweep, cases: int) -> SkippedSweep | None:
        model, dataset = self._catalog.model(sweep.model), self._catalog.dataset(sweep.dataset)
        model_requested = self._requested.has_model(model.name)
        requested = model_requested or self._requested.has_dataset(dataset.name)
        if reason := self._refuse_licence(model):
            return SkippedSweep(sweep, cases, False, (), requested, model_requested, reason)
        missing_weights, missing_datasets = self.misses_weights(model), self._find_missing(dataset)
        if not model_requested and self._is_control_of_missing(model):
            # A control needs no weights, and would otherwise run wherever there are images, for a hundred models.
            missing_weights = True
        may_get_model = model_requested and not self._offline and not self._hub_is_unreachable
        archives = self._missing_archives(dataset)
        may_get_dataset = requested and not self._offline and not any(map(self._cannot_download, archives))
        if (missing_weights and not may_get_model) or (missing_datasets and not may_get_dataset):
            return SkippedSweep(sweep, cases, missing_weights, missing_datasets, requested, model_requested)
        return None

    def misses_weights(self, spec: ModelSpec) -> bool:
        """Return True if the weights of a model need a download and were not on this machine when first looked for."""
        if spec.name in self._own_weights or not hub.needs_download(spec):
            return False
        if spec.name not in self._weights:
            self._weights[spec.name] = hub.cached(spec) is not None
        return not self._weights[spec.name]

    def _find_missing(self, spec: DatasetSpec) -> tuple[str, ...]:
        """Names of the datasets that a sweep reads and that are not on this machine."""
        for each in self._datasets_of(spec):
            if each.name not in self._images:
                self._images[each.name] = local.on_disk(each)
        return tuple(each.name for each in self._datasets_of(spec) if not self._images[each.name])

    def _datasets_of(self, spec: DatasetSpec) -> list[DatasetSpec]:
        """The datasets that a sweep reads."""
        return [spec, self._catalog.clean(spec)] if self._clean and spec.clean else [spec]

    def _missing_archives(self, spec: DatasetSpec) -> list[Archive]:
        return [archive for each in self._datasets_of(spec) for archive in local.missing(each)]

    def _cannot_download(self, archive: Archive) -> bool:
        return bool(archive.manual) or urlsplit(archive.url).netloc in self._unreachable_hosts

    def _is_control_of_missing(self, spec: ModelSpec) -> bool:
        base = self._catalog.models.get(spec.control_of or "")
        return spec.name not in self._catalog.models and base is not None and self.misses_weights(base)

    def _refuse_licence(self, spec: ModelSpec) -> str:
        """Why the licence of a model's weights is refused; empty if it is not."""
        if not self._licences or spec.name in self._own_weights or not hub.needs_download(spec):
            return ""
        allowed = set(self._licences)
        if COMMERCIAL in allowed:
            allowed |= _COMMERCIAL_LICENCES
        if spec.licence.lower() in allowed:
            return ""
        return f"licence {spec.licence or 'unknown'}, refused by --probe-licence={','.join(sorted(self._licences))}"
