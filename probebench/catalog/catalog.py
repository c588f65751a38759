"""Models and datasets as data: the TOML files next to this module, and the lookup of names.

No torch here, because pytest collects cases from specs. The fields that a spec leaves out are filled in by
`Catalog.complete`.
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

from probebench.catalog.specs import Archive, DatasetSpec, ModelSpec, library_spec, names_library
from probebench.errors import ProbebenchError, UnknownName, unknown

MODELS_LISTED = "`probebench models` lists those of the catalog"
DATASETS_LISTED = "`probebench datasets` lists those of the catalog"
"""Hints in errors. The commands do not know the specs that conftest files and plugins add."""

_Spec = TypeVar("_Spec", ModelSpec, DatasetSpec)


def _load(kind: type[_Spec], filename: str) -> dict[str, _Spec]:
    return parse(kind, files(__package__).joinpath(filename).read_text(encoding="utf-8"), filename)


def parse(kind: type[_Spec], text: str, filename: str) -> dict[str, _Spec]:
    """Return the specs of a TOML text by name.

    Raises:
        UnknownName: for a key that is no attribute of them
    """
    known = {f.name for f in fields(kind) if f.compare}
    specs = {}
    for name, table in _expand_tables(tomllib.loads(text)):
        for key in table:
            if key not in known:
                raise unknown(f"key in [{name}] of {filename}", key, known)
        if "archives" in table:
            table["archives"] = tuple(Archive(**archive) for archive in table["archives"])
        specs[name] = kind(name=name, **table)
    return specs


def _expand_tables(tables: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield tables with their names.

    A table with ``each.word = [values]`` stands for one table per value, with ``{word}`` replaced in all texts.
    """
    for name, table in tables.items():
        each = table.pop("each", None)
        if each is None:
            yield name, table
            continue
        ((word, values),) = each.items()
        for value in values:
            yield name.replace(f"{{{word}}}", value), _fill(table, f"{{{word}}}", value)


def _fill(table: Any, mark: str, value: str) -> Any:
    if isinstance(table, str):
        return table.replace(mark, value)
    if isinstance(table, dict):
        return {key: _fill(item, mark, value) for key, item in table.items()}
    if isinstance(table, list):
        return [_fill(item, mark, value) for item in table]
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
        f"model {spec.name!r}: its spec leaves out depth, input_size, mean or std; give them, or use the catalog of "
        "probebench.models.default_catalog(), which gets them from timm"
    )


@dataclass(frozen=True)
class Catalog:
    """The specs that names stand for in one run: the built-in ones and those that plugins and conftest files add.

    Attributes:
        complete: fills in the fields that the spec of a model leaves out, see `probebench.models.default_catalog`
    """

    models: Mapping[str, ModelSpec]
    datasets: Mapping[str, DatasetSpec]
    suites: Mapping[str, tuple[str, ...]]
    complete: Callable[[ModelSpec], ModelSpec] = field(default=_refuse, compare=False, repr=False)
    _used: dict[str, ModelSpec] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def default(cls, complete: Callable[[ModelSpec], ModelSpec] = _refuse) -> Catalog:
        """Return a catalog of the built-in specs."""
        return cls(builtin_models(), builtin_datasets(), builtin_suites(), complete)

    def extend(self, models: Iterable[ModelSpec] = (), datasets: Iterable[DatasetSpec] = ()) -> Catalog:
        """Return a catalog with these specs added.

        Raises:
            ProbebenchError: if a name is already in use
        """
        merged = _merge("model", self.models, models), _merge("dataset", self.datasets, datasets)
        used = {name: spec for name, spec in self._used.items() if (name in self.models) == (name in merged[0])}
        return Catalog(*merged, self.suites, self.complete, used)

    def model(self, name: str) -> ModelSpec:
        """Return the complete spec of a model.

        Args:
            name: one of `models`; one of them followed by ``_random``, for its untrained control; or a library, a
                colon and its name of a model (``timm:``, ``hf:``, ``open_clip:``, ``torchvision:``), of which the name
                in ids is made

        Raises:
            UnknownName: with the nearest names
        """
        if not isinstance(name, str):
            raise unknown("model", name, self.models, MODELS_LISTED)
        if name not in self._used:
            spec = self.models.get(name) or self._control(name)
            if spec is None and names_library(name):
                spec = library_spec(name)
            if spec is None:
                raise unknown("model", name, self.models, MODELS_LISTED)
            if not spec.complete:
                spec = self.complete(spec)
            self._used[name] = self._used[spec.name] = spec
        return self._used[name]

    @property
    def licences(self) -> set[str]:
        """The licences, in lower case, of `models` and of the models of libraries that were looked up so far."""
        return {spec.licence.lower() for spec in (*self.models.values(), *self._used.values()) if spec.licence}

    def _control(self, name: str) -> ModelSpec | None:
        """Return the spec of ``vit_b16_random``: ``vit_b16``, never trained. None if there is no such base model.

        Controls are not listed, because every model has one.
        """
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
            checkpoint_key=None,
            checkpoint_prefix=None,
            sha256=None,
            download_size=0,
            pretraining="none",
            reference="",
            licence="",
            note=f"Random control: the architecture of {base.name}, never trained.",
        )

    def dataset(self, name: str | Path) -> DatasetSpec:
        """Return the spec of a dataset.

        Raises:
            UnknownName: with the nearest names; for a path, with the spec that reads the folder
        """
        names = [*self.datasets, *self.suites]
        if not isinstance(name, str):
            if isinstance(name, Path):
                raise _folder_error(str(name))
            raise unknown("dataset", name, names, DATASETS_LISTED)
        found = self.datasets.get(name) or self._at_severity(name)
        # Path.is_dir raises OSError for a name that is too long for a file's.
        if found is None and ("/" in name or "\\" in name or os.path.isdir(name)):
            raise _folder_error(name)
        if found is None:
            raise unknown("dataset", name, names, DATASETS_LISTED)
        return found

    def reference(self, spec: ModelSpec) -> DatasetSpec | None:
        """Return the dataset that represents the images a model was pretrained on; None if none is known.

        Raises:
            UnknownName: if the catalog does not have it
        """
        return self.dataset(spec.reference) if spec.reference else None

    def clean(self, spec: DatasetSpec) -> DatasetSpec:
        """Return the dataset that probes are trained on under ``transfer@2``: the clean one, or itself if it has none.

        Raises:
            UnknownName: if the catalog does not have it
        """
        return self.dataset(spec.clean) if spec.clean else spec

    def _at_severity(self, name: str) -> DatasetSpec | None:
        """Return the spec of ``cifar10_c_fog_s3``: ``cifar10_c_fog`` at severity 3. None if there is no such dataset.

        Severities are not listed, because lists would be five times as long.
        """
        match = re.fullmatch("(.+)_s([1-5])", name)
        base = self.datasets.get(match[1]) if match else None
        if match is None or base is None or "severity" not in base.kwargs:
            return None
        severity = int(match[2])
        return replace(base, name=name, kwargs={**base.kwargs, "severity": severity})

    def dataset_names(self, name: str) -> tuple[str, ...]:
        """Return the names of a suite's datasets, or the one dataset of that name.

        Raises:
            UnknownName: with the nearest names
        """
        suite = self.suites.get(name) if isinstance(name, str) else None
        return suite or (self.dataset(name).name,)


def _folder_error(name: str) -> UnknownName:
    """Return the error for a path given as a dataset's name, with the spec that reads the folder."""
    path = Path(name).expanduser()
    spec, split = re.sub("[^A-Za-z0-9]", "_", path.resolve().name) or "mine", ("train", "test", "val")
    if os.path.isdir(path) and not any(os.path.isdir(path / each) for each in split):
        reader, kwargs = "unsplit:unsplit_folder", {"folder": str(path.absolute()), "test_every": 5}
    else:
        reader, kwargs = "folder:image_folder", {"root": name}
    what = "is a folder" if os.path.isdir(path) else f"looks like a folder (there is none: {path.absolute()})"
    return UnknownName(
        f"dataset {name!r} {what} and not a dataset's name. To read a folder of images, use "
        f"DatasetSpec({spec!r}, 'probebench.datasets.{reader}', {kwargs}): pass it in Python, or for pytest return it "
        f"from pytest_probebench_datasets in a conftest.py and name {spec!r}"
    )


def _merge(kind: str, old: Mapping[str, _Spec], new: Iterable[_Spec]) -> Mapping[str, _Spec]:
    merged = dict(old)
    folded = {name.casefold(): name for name in old}
    for spec in new:
        if spec.name in merged:
            raise ProbebenchError(f"{kind} {spec.name!r} is registered twice; choose another name")
        if (near := folded.setdefault(spec.name.casefold(), spec.name)) != spec.name:
            raise ProbebenchError(
                f"the names of {kind}s {near!r} and {spec.name!r} differ in case only, so that their files would be "
                "one on macOS and Windows; choose another name"
            )
        merged[spec.name] = spec
    return MappingProxyType(merged)


def dataset_of(dataset: str | DatasetSpec, catalog: Catalog) -> DatasetSpec:
    """Return the spec of a dataset that is given as a name or as a spec.

    Raises:
        UnknownName: if no dataset has that name, or it is the path of a folder
        ProbebenchError: if it is neither a name nor a spec
    """
    if isinstance(dataset, str | Path):
        return catalog.dataset(dataset)
    if not isinstance(dataset, DatasetSpec):
        raise ProbebenchError(f"dataset must be a name or a DatasetSpec, got {type(dataset).__name__}")
    return dataset
