"""Cases and sweeps, their ids, and the filter that selects some of them for a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from probebench.catalog.catalog import Catalog
from probebench.catalog.protocols import get_protocol
from probebench.catalog.taps import REFERENCES, SITES, Tap, all_taps
from probebench.errors import UnknownName, unknown

Value = TypeVar("Value")

DEEPEST = 10_000
"""Upper bound of the layers of a model that is not known yet."""


@dataclass(frozen=True)
class Sweep:
    """All cases that share one extraction and one joint fit.

    Attributes:
        model, dataset, protocol: their names
    """

    model: str
    dataset: str
    protocol: str

    @property
    def id(self) -> str:
        return f"{self.model}-{self.dataset}"


@dataclass(frozen=True)
class Case:
    """One number to measure: a tap of a model on a dataset under a protocol. One pytest item."""

    sweep: Sweep
    tap: Tap

    @property
    def id(self) -> str:
        """The id in node ids, as in ``glyphvit-digits-L06-act``."""
        return f"{self.sweep.id}-{self.tap.id}"

    @property
    def marks(self) -> dict[str, str | int]:
        """The arguments of its mark, which ``-m 'probe(...)'`` can select by."""
        marks: dict[str, str | int] = {
            "model": self.sweep.model,
            "dataset": self.sweep.dataset,
            "layer": self.tap.layer,
            "site": self.tap.site,
        }
        return marks | ({"pooling": self.tap.pooling} if self.tap.pooling else {})


@dataclass(frozen=True)
class CaseFilter:
    """The models, datasets, layers and sites to keep; None keeps all of a kind.

    Layers are block numbers or reference taps. The reference taps are kept unless layers or sites are chosen and
    neither names them; combinations are always kept, as a run has only those that it was asked for.
    """

    models: frozenset[str] | None = None
    datasets: frozenset[str] | None = None
    layers: frozenset[int | str] | None = None
    sites: frozenset[str] | None = None

    def keeps(self, tap: Tap) -> bool:
        """Return whether a tap is among the chosen layers and sites."""
        if tap.is_combination:
            return True
        if tap.layer in REFERENCES:
            return self.names(tap) or (self.layers is None and self.sites is None)
        return (self.layers is None or tap.layer in self.layers) and (self.sites is None or tap.site in self.sites)

    def names(self, tap: Tap) -> bool:
        """Return whether a tap is a reference tap or a combination that was asked for by its name."""
        return tap.is_combination or tap.layer in (self.layers or frozenset()) | (self.sites or frozenset())

    @classmethod
    def parse(
        cls,
        catalog: Catalog,
        models: Sequence[str] = (),
        datasets: Sequence[str] = (),
        layers: Sequence[str | int] = (),
        sites: Sequence[str] = (),
        *,
        partial: bool = False,
    ) -> CaseFilter:
        """Make a filter from names as a user writes them; an empty sequence keeps all.

        Args:
            datasets: dataset or suite names
            layers: ``6``, ``L06``, ``4-8``, ``embed``, ``final``, ``output``
            partial: skip models and datasets that the catalog does not have, instead of refusing them, because more
                may be registered later

        Raises:
            UnknownName: with the nearest names
        """
        chosen = _look_up(catalog.model, models, partial)
        found = _look_up(catalog.dataset_names, datasets, partial)
        deepest = max(spec.depth for spec in chosen or catalog.models.values())
        if len(chosen) < len(models):
            deepest = DEEPEST
        return cls(
            models=frozenset(spec.name for spec in chosen) if models else None,
            datasets=frozenset(name for names in found for name in names) if datasets else None,
            layers=frozenset(layer for text in layers for layer in parse_layers(str(text), deepest)) or None,
            sites=frozenset(_site(name) for name in sites) or None,
        )


def _look_up(look: Callable[[str], Value], names: Iterable[str], partial: bool) -> list[Value]:
    found = []
    for name in names:
        with suppress(*([UnknownName] if partial else [])):
            found.append(look(name))
    return found


def _site(name: str) -> str:
    if name not in SITES and name not in REFERENCES:
        raise unknown("site", name, [*SITES, *REFERENCES])
    return name


def parse_layers(text: str, deepest: int) -> list[int | str]:
    """Return the layers that ``6``, ``L06``, ``4-8`` or the name of a reference tap stands for.

    Args:
        deepest: number of layers of the deepest model

    Raises:
        UnknownName: for anything else, and for layers below 1 or above `deepest`
    """
    if text in REFERENCES:
        return [text]
    ends = [part.strip().removeprefix("L") for part in text.split("-", 1)]
    if all(end.isdecimal() for end in ends):
        first, last = int(ends[0]), int(ends[-1])
        if 1 <= first <= last <= deepest:
            return list(range(first, last + 1))
    raise unknown("layer", text, [f"1 to {deepest}", "ranges such as 4-8", *REFERENCES])


def expand(
    catalog: Catalog,
    models: Iterable[str],
    datasets: Iterable[str],
    protocol: str,
    filters: Iterable[CaseFilter] = (),
    *,
    poolings: Sequence[str] = (),
    combinations: Sequence[str] = (),
) -> dict[Sweep, list[Tap]]:
    """The sweeps of the given models and datasets (or suites) and their taps, as far as all filters keep them.

    Cases are not made here: a project may describe hundreds of thousands, most of them of models that are not there.

    Args:
        poolings, combinations: of taps besides the plain ones, see `probebench.catalog.taps.all_taps`

    Raises:
        UnknownName: for a model, dataset or suite that the catalog does not have
    """
    filters, reads_tokens = list(filters), get_protocol(protocol).reads_tokens
    names = list(dict.fromkeys(d for name in datasets for d in catalog.dataset_names(name)))
    found: dict[Sweep, list[Tap]] = {}
    for model in dict.fromkeys(models):
        spec = catalog.model(model)
        if any(each.models is not None and model not in each.models for each in filters):
            continue
        every = all_taps(spec.depth, poolings, combinations)
        if reads_tokens:  # a tap without any is left out, unless a name asks for it
            every = [tap for tap in every if tap.pools or any(each.names(tap) for each in filters)]
        taps = [tap for tap in every if all(each.keeps(tap) for each in filters)]
        for dataset in names if taps else ():
            if any(each.datasets is not None and dataset not in each.datasets for each in filters):
                continue
            found[Sweep(model, dataset, protocol)] = taps
    return found


ARGUMENTS = ("model", "dataset", "layer", "site")
"""The arguments of the ``probe`` mark."""

SELECTORS = (*ARGUMENTS, "pooling")
"""The arguments by which ``-m 'probe(...)'`` can select; ``pooling`` is that of a tap with one of its own."""
