"""What is looked at before a sweep runs: are weights and images here, may they be downloaded, how are images prepared.

A bare run never downloads: a sweep that lacks its weights or its images is withheld, one item instead of a hundred, and
told about at the end. What is asked for by name (`probebench.plugin.expressions`) may be downloaded.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from probebench.catalog.cases import Sweep
from probebench.errors import unknown
from probebench.fetch import hub, local
from probebench.fetch.http import offline as forbidden
from probebench.plugin.expressions import RequestedNames

if TYPE_CHECKING:
    from pathlib import Path

COMMERCIAL = "commercial"
_COMMERCIAL_LICENCES = frozenset({"apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0"})
"""Those that allow commercial use without terms of the publisher's own."""


Here = tuple[dict[str, bool], dict[str, bool]]
"""Of models by name whether their weights are on this machine, and of datasets whether their images are."""


@dataclass(frozen=True)
class SkippedSweep:
    """A sweep that is not run.

    Attributes:
        cases: how many there would be
        model: whether its weights are not on this machine
        datasets: those that are not, of its own and the one its probe is trained on
        asked: whether it was asked for by name
        by_model: whether its model was
        why: another reason than what is missing; empty if there is none
    """

    sweep: Sweep
    cases: int
    model: bool
    datasets: tuple[str, ...]
    asked: bool
    by_model: bool
    why: str = ""


class Availability:
    """Decides for each sweep of a run whether it runs.

    Args:
        own: models whose weights come from a file named on the command line
        asked: what the command line names
        offline: whether downloads are forbidden
        licences: those that weights may have, or ``commercial``; empty for any
        clean: whether probes are trained on clean datasets, which have to be here, too
        here: what is known to be on this machine
    """

    def __init__(
        self,
        catalog: Catalog,
        own: Mapping[str, Path],
        asked: RequestedNames,
        offline: bool,
        licences: Collection[str],
        clean: bool = False,
        here: Here = ({}, {}),
    ) -> None:
        self._catalog, self._own, self._asked, self._licences, self._clean = catalog, own, asked, licences, clean
        self._offline = offline or forbidden()
        self._weights, self._images = map(dict, here)
        self._no_hub = False
        self._dead_hosts: set[str] = set()

    @property
    def here(self) -> Here:
        """What was looked for on this machine so far."""
        return self._weights, self._images

    def check_licences(self) -> None:
        """After collection, when all models of a run are known.

        Raises:
            UnknownName: for a licence that no model has
        """
        known = {COMMERCIAL, *_COMMERCIAL_LICENCES, *self._catalog.licences}
        for name in self._licences:
            if name not in known:
                raise unknown("licence", name, known)

    def _lacks_weights(self, spec: ModelSpec) -> bool:
        if spec.name in self._own or not hub.needs_download(spec):
            return False
        if spec.name not in self._weights:
            self._weights[spec.name] = hub.cached(spec) is not None
        return not self._weights[spec.name]

    def _lacking(self, spec: DatasetSpec) -> tuple[str, ...]:
        """Names of the datasets that a sweep reads and that are not on this machine."""
        for each in self._read(spec):
            if each.name not in self._images:
                self._images[each.name] = local.on_disk(each)
        return tuple(each.name for each in self._read(spec) if not self._images[each.name])

    def _read(self, spec: DatasetSpec) -> list[DatasetSpec]:
        """The datasets that a sweep reads."""
        return [spec, self._catalog.clean(spec)] if self._clean and spec.clean else [spec]

    def _missing(self, spec: DatasetSpec) -> list[Archive]:
        return [archive for each in self._read(spec) for archive in local.missing(each)]

    def unreachable(self, sweep: Sweep, cases: int) -> SkippedSweep:
        """A sweep that was let through to be downloaded, and nobody answered: those hosts are not tried again."""
        self._weights.clear()
        self._images.clear()
        model, dataset = self._catalog.model(sweep.model), self._catalog.dataset(sweep.dataset)
        lacks_model, lacking = self._lacks_weights(model), self._lacking(dataset)
        if lacks_model:  # weights come first
            self._no_hub = True
        else:
            self._dead_hosts |= {urlsplit(archive.url).netloc for archive in self._missing(dataset)}
        return SkippedSweep(sweep, cases, lacks_model, lacking, asked=True, by_model=True)

    def withhold(self, sweep: Sweep, cases: int) -> SkippedSweep | None:
        """Why a sweep is not to be run; None if it is."""
        model, dataset = self._catalog.model(sweep.model), self._catalog.dataset(sweep.dataset)
        named = self._asked.model(model.name)
        asked = named or self._asked.dataset(dataset.name)
        why = self._refused(model)
        if why:
            return SkippedSweep(sweep, cases, model=False, datasets=(), asked=asked, by_model=named, why=why)
        lacks_model, lacking = self._lacks_weights(model), self._lacking(dataset)
        if not named and self._is_control_of_absent(model):
            # It needs no weights, and would otherwise run wherever there are images, for a hundred models.
            lacks_model = True
        may_get_model = named and not self._offline and not self._no_hub
        may_get_dataset = asked and not self._offline and not any(map(self._out_of_reach, self._missing(dataset)))
        if (lacks_model and not may_get_model) or (lacking and not may_get_dataset):
            return SkippedSweep(sweep, cases, lacks_model, lacking, asked, named)
        return None

    def _out_of_reach(self, archive: Archive) -> bool:
        return bool(archive.manual) or urlsplit(archive.url).netloc in self._dead_hosts

    def _is_control_of_absent(self, spec: ModelSpec) -> bool:
        base = self._catalog.models.get(spec.control_of or "")
        return spec.name not in self._catalog.models and base is not None and self._lacks_weights(base)

    def _refused(self, spec: ModelSpec) -> str:
        """Why the licence of a model's weights is refused; empty if it is not."""
        if not self._licences or spec.name in self._own or not hub.needs_download(spec):
            return ""
        allowed = set(self._licences)
        if COMMERCIAL in allowed:
            allowed |= _COMMERCIAL_LICENCES
        if spec.licence.lower() in allowed:
            return ""
        return f"licence {spec.licence or 'unknown'}, refused by --probe-licence={','.join(sorted(self._licences))}"
