"""Collect the specs that conftest files and plugins add to the catalog, as pytest loads them.

pytest loads the conftest.py of a folder when it collects that folder: some are loaded from the start, others after
cases have already been made.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from probebench.errors import ProbebenchError

if TYPE_CHECKING:
    from probebench.catalog.cases import Sweep

Spec = TypeVar("Spec", ModelSpec, DatasetSpec)

_MODELS, _DATASETS = "pytest_probebench_models", "pytest_probebench_datasets"


class ConftestSpecs:
    """Calls the hooks of each conftest file and plugin once.

    Attributes:
        models, datasets: the specs collected so far
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._called: dict[str, set[object]] = {_MODELS: set(), _DATASETS: set()}
        self._taken = 0, 0
        self.models: list[ModelSpec] = []
        self.datasets: list[DatasetSpec] = []

    def collect_new(self) -> tuple[list[ModelSpec], list[DatasetSpec]]:
        """The specs that are not in a catalog yet; calls the hooks of conftest files that pytest has loaded since.

        Raises:
            ProbebenchError: if a hook fails or returns anything but specs; it is called again the next time
        """
        models, called_for_models = self._call_new(_MODELS, ModelSpec)
        datasets, called_for_datasets = self._call_new(_DATASETS, DatasetSpec)
        self._called = {_MODELS: called_for_models, _DATASETS: called_for_datasets}
        self.models += models
        self.datasets += datasets
        return self.models[self._taken[0] :], self.datasets[self._taken[1] :]

    def mark_taken(self) -> None:
        """Note that all specs collected so far are in a catalog."""
        self._taken = len(self.models), len(self.datasets)

    def _call_new(self, hook: str, kind: type[Spec]) -> tuple[list[Spec], set[object]]:
        called = self._called[hook]
        there: set[object] = {each.plugin for each in getattr(self._config.hook, hook).get_hookimpls()}
        if there <= called:
            return [], called
        return _call_hook(self._config, hook, kind, called), there

    def to_json(self, catalog: Catalog, sweeps: Iterable[Sweep]) -> dict[str, Any]:
        """The specs that another process needs to report on sweeps, without `kwargs`; `specs_from_json` reads them."""
        models = {spec.name: spec for spec in self.models}
        datasets = {spec.name: spec for spec in self.datasets}
        for sweep in sweeps:
            spec = catalog.model(sweep.model)
            for name in (spec.name, spec.control_of):
                if name in models:
                    models[name] = catalog.model(name)  # with all that timm knows of it
            datasets[sweep.dataset] = catalog.dataset(sweep.dataset)
        return {
            "models": [_table(spec) for spec in models.values()],
            "datasets": [
                _table(spec) | {"archives": [vars(each) for each in spec.archives]} for spec in datasets.values()
            ],
        }


def _call_hook(config: pytest.Config, hook: str, kind: type[Spec], called: set[object]) -> list[Spec]:
    found: list[Spec] = []
    try:
        for given in config.pluginmanager.subset_hook_caller(hook, remove_plugins=called)(config=config):
            found += [given] if isinstance(given, kind) else given
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        where = next((f"{each.filename}:{each.lineno}: " for each in reversed(frames) if each.name == hook), "")
        raise ProbebenchError(f"{where}{hook} failed ({type(error).__name__}: {error})") from error
    for spec in found:
        if not isinstance(spec, kind):
            raise ProbebenchError(f"{hook} returned {spec!r}, which is not a {kind.__name__}: return a list of them")
    return found


def specs_from_json(table: dict[str, Any]) -> tuple[list[ModelSpec], list[DatasetSpec]]:
    """Read the table of `ConftestSpecs.to_json`."""
    archives = [tuple(Archive(**each) for each in spec.pop("archives")) for spec in table["datasets"]]
    datasets = [DatasetSpec(**spec, archives=its) for spec, its in zip(table["datasets"], archives, strict=True)]
    return [ModelSpec(**spec) for spec in table["models"]], datasets


def _table(spec: ModelSpec | DatasetSpec) -> dict[str, Any]:
    """A table for JSON, without `kwargs`, which JSON may not be able to hold."""
    table = {each.name: getattr(spec, each.name) for each in fields(spec) if each.name != "kwargs"}
    if isinstance(spec, ModelSpec):
        checkpoint = None if spec.checkpoint is None else str(spec.checkpoint)  # or a path
        table |= {"mean": [*map(float, spec.mean)], "std": [*map(float, spec.std)], "checkpoint": checkpoint}
    return table
