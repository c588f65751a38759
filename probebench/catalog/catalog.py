"""Models and datasets as data: the TOML files beside this module, and what names mean.

No torch here: specs are what pytest collects cases from. What a spec leaves out is filled in by whoever composes the
catalog.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from probebench.catalog.specs import Archive, DatasetSpec, ModelSpec, names_timm, timm_spec
from probebench.errors import ProbebenchError, UnknownName, unknown

MODELS_LISTED = "`probebench models` lists those of the catalog"
DATASETS_LISTED = "`probebench datasets` lists those of the catalog"
"""Where to look for a name: the command does not know what conftest files and plugins add."""

_Spec = TypeVar("_Spec", ModelSpec, DatasetSpec)


def _load(kind: type[_Spec], filename: str) -> dict[str, _Spec]:
    return parse(kind, files(__package__).joinpath(filename).read_text(encoding="utf-8"), filename)


def parse(kind: type[_Spec], text: str, filename: str) -> dict[str, _Spec]:
    """The specs of a TOML text by name. Raises UnknownName for a key that is no attribute of them."""
    known = {f.name for f in fields(kind) if f.compare}
    specs = {}
    for name, table in _expanded(tomllib.loads(text)):
        for key in table:
            if key not in known:
                raise unknown(f"key in [{name}] of {filename}", key, known)
        if "archives" in table:
            table["archives"] = tuple(Archive(**archive) for archive in table["archives"])
        specs[name] = kind(name=name, **table)
    return specs


def _expanded(tables: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Tables by name. One with ``each.word = [values]`` stands for one a value, ``{word}`` replaced in all texts."""
    for name, table in tables.items():
        each = table.pop("each", None)
        if each is None:
            yield name, table
            continue
        ((word, values),) = each.items()
        for value in values:
            yield name.replace(f"{{{word}}}", value), _filled(table, f"{{{word}}}", value)


def _filled(table: Any, mark: str, value: str) -> Any:
    if isinstance(table, str):
        return table.replace(mark, value)
    if isinstance(table, dict):
        return {key: _filled(item, mark, value) for key, item in table.items()}
    if isinstance(table, list):
        return [_filled(item, mark, value) for item in table]
    return table


@cache
def builtin_models() -> Mapping[str, ModelSpec]:
    """The models of models.toml by name."""
    return MappingProxyType(_load(ModelSpec, "models.toml"))


@cache
def builtin_datasets() -> Mapping[str, DatasetSpec]:
    """The datasets of datasets.toml by name."""
    return MappingProxyType(_load(DatasetSpec, "datasets.toml"))


@cache
def builtin_suites() -> Mapping[str, tuple[str, ...]]:
    """The suites of suites.toml: dataset names by suite name."""
    text = files(__package__).joinpath("suites.toml").read_text(encoding="utf-8")
    return MappingProxyType({name: tuple(datasets) for name, datasets in tomllib.loads(text).items()})


def _refuse(spec: ModelSpec) -> ModelSpec:
    raise ProbebenchError(
        f"model {spec.name!r}: its spec needs depth, input_size, mean and std; probebench.models.default_catalog() "
        "makes a catalog that asks timm for them"
    )


@dataclass(frozen=True)
class Catalog:
    """What names mean in one run: the built-in specs and those that plugins and conftest files add.

    Attributes:
        complete: fills in what the spec of a model leaves out, see `probebench.models.default_catalog`
    """

    models: Mapping[str, ModelSpec]
    datasets: Mapping[str, DatasetSpec]
    suites: Mapping[str, tuple[str, ...]]
    complete: Callable[[ModelSpec], ModelSpec] = field(default=_refuse, compare=False, repr=False)
    _used: dict[str, ModelSpec] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def default(cls, complete: Callable[[ModelSpec], ModelSpec] = _refuse) -> Catalog:
        """The built-in specs alone."""
        return cls(builtin_models(), builtin_datasets(), builtin_suites(), complete)

    def extended(self, models: Iterable[ModelSpec] = (), datasets: Iterable[DatasetSpec] = ()) -> Catalog:
        """A catalog with more specs.

        Raises:
            ProbebenchError: if a name is taken
        """
        merged = _merge("model", self.models, models), _merge("dataset", self.datasets, datasets)
        used = {name: spec for name, spec in self._used.items() if (name in self.models) == (name in merged[0])}
        return Catalog(*merged, self.suites, self.complete, used)

    def model(self, name: str) -> ModelSpec:
        """The complete spec of a model.

        Args:
            name: one of `models`; one of them with ``_random`` behind it for its untrained control; or ``timm:`` and
                a timm model with the tag of its weights, which gets a name made of it

        Raises:
            UnknownName: with the nearest names
        """
        if not isinstance(name, str):
            raise unknown("model", name, self.models, MODELS_LISTED)
        if name not in self._used:
            spec = self.models.get(name) or self._control(name)
            if spec is None and names_timm(name):
                spec = timm_spec(name)
            if spec is None:
                raise unknown("model", name, self.models, MODELS_LISTED)
            if not spec.complete:
                spec = self.complete(spec)
            self._used[name] = self._used[spec.name] = spec
        return self._used[name]

    @property
    def licences(self) -> set[str]:
        """In lower case, those of `models`, and of the models of timm that `model` was asked for so far."""
        return {spec.licence.lower() for spec in (*self.models.values(), *self._used.values()) if spec.licence}

    def _control(self, name: str) -> ModelSpec | None:
        """``vit_b16_random`` is the architecture of ``vit_b16``, never trained; not listed, for every model has one."""
        base = self.models.get(name.removesuffix("_random"))
        if base is None or base.name == name or base.weights == "random":
            return None
        return replace(
            base,
            name=name,
            weights="random",
            seed=0,
            control_of=base.name,
            tuned_from=None,
            checkpoint=None,
            sha256=None,
            download_size=0,
            pretraining="none",
            reference="",
            licence="",
            note=f"The control: the architecture of {base.name}, never trained.",
        )

    def dataset(self, name: str | Path) -> DatasetSpec:
        """Raises UnknownName with the nearest names, or for a folder with the spec that reads it."""
        names = [*self.datasets, *self.suites]
        if not isinstance(name, str):
            raise a_folder(str(name)) if isinstance(name, Path) else unknown("dataset", name, names, DATASETS_LISTED)
        found = self.datasets.get(name) or self._at_severity(name)
        # Path.is_dir raises OSError for a name that is too long for a file's.
        if found is None and ("/" in name or "\\" in name or os.path.isdir(name)):
            raise a_folder(name)
        if found is None:
            raise unknown("dataset", name, names, DATASETS_LISTED)
        return found

    def reference(self, spec: ModelSpec) -> DatasetSpec | None:
        """The dataset that stands for what a model was pretrained on; None if none is known.

        Raises:
            UnknownName: if the catalog lacks it
        """
        return self.dataset(spec.reference) if spec.reference else None

    def clean(self, spec: DatasetSpec) -> DatasetSpec:
        """What a probe for a dataset is trained on under ``transfer@1``: its clean dataset, or itself if it has none.

        Raises:
            UnknownName: if the catalog lacks it
        """
        return self.dataset(spec.clean) if spec.clean else spec

    def _at_severity(self, name: str) -> DatasetSpec | None:
        """``cifar10_c_fog_s3`` is ``cifar10_c_fog`` at severity 3; not listed, for lists would be five times longer."""
        match = re.fullmatch("(.+)_s([1-5])", name)
        base = self.datasets.get(match[1]) if match else None
        if match is None or base is None or "severity" not in base.kwargs:
            return None
        severity = int(match[2])
        return replace(base, name=name, kwargs={**base.kwargs, "severity": severity})

    def dataset_names(self, name: str) -> tuple[str, ...]:
        """The datasets of a suite, or the one dataset of that name. Raises UnknownName with the nearest names."""
        suite = self.suites.get(name) if isinstance(name, str) else None
        return suite or (self.dataset(name).name,)


def a_folder(name: str) -> UnknownName:
    """The error for a path in the place of a dataset's name, with the spec that reads the folder."""
    path = Path(name).expanduser()
    spec, split = re.sub("[^A-Za-z0-9]", "_", path.resolve().name) or "mine", ("train", "test", "val")
    if os.path.isdir(path) and not any(os.path.isdir(path / each) for each in split):
        reader, kwargs = "unsplit:unsplit_folder", {"folder": str(path.absolute()), "test_every": 5}
    else:
        reader, kwargs = "folder:image_folder", {"root": name}
    what = "is a folder" if os.path.isdir(path) else f"looks like a folder (there is none: {path.absolute()})"
    return UnknownName(
        f"dataset {name!r} {what} and not a dataset's name. A folder of images is read by "
        f"DatasetSpec({spec!r}, 'probebench.datasets.{reader}', {kwargs}): give that in Python, or for pytest "
        f"return it from pytest_probebench_datasets in a conftest.py and name {spec!r}"
    )


def _merge(kind: str, old: Mapping[str, _Spec], new: Iterable[_Spec]) -> Mapping[str, _Spec]:
    merged = dict(old)
    for spec in new:
        if spec.name in merged:
            raise ProbebenchError(f"{kind} {spec.name!r} is registered twice; choose another name")
        merged[spec.name] = spec
    return MappingProxyType(merged)


def dataset_of(dataset: str | DatasetSpec, catalog: Catalog) -> DatasetSpec:
    """The spec of a dataset.

    Raises:
        UnknownName: for a name that there is not, or a folder
        ProbebenchError: for something else than a name or a spec
    """
    if isinstance(dataset, str | Path):
        return catalog.dataset(dataset)
    if not isinstance(dataset, DatasetSpec):
        raise ProbebenchError(f"dataset must be a name or a DatasetSpec, got {type(dataset).__name__}")
    return dataset
