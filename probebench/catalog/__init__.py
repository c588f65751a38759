"""Models and datasets as data: the TOML files beside this module, and the frozen specs that they become.

No torch here: specs are what pytest collects cases from.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, TypeVar

from probebench.errors import ProbebenchError, unknown


@dataclass(frozen=True)
class ModelSpec:
    """A frozen network.

    Attributes:
        name: used in ids; letters, digits and underscores
        architecture: a timm architecture such as ``vit_tiny_patch16_224``, or ``VisionTransformer`` for
            timm's class itself, built from `kwargs`
        depth: number of transformer blocks
        weights: ``random`` (initialised by timm under `seed`), ``embedded:FILE`` (shipped inside the package), or
            the path of a safetensors file, relative to the directory pytest is started in
        sha256: of the weights file; checked when given
        seed: of the random initialisation
        input_size: side of the square input in pixels
        mean, std: per channel, of images in [0, 1]: the statistics that the weights were trained with
        interpolation: of the resizing that the weights were trained with: ``bilinear`` or ``bicubic``
        control_of: for a random control, the pretrained model it is the control of
        kwargs: passed to the architecture
        note: one line about the weights and their licence
    """

    name: str
    architecture: str
    depth: int
    weights: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bilinear"
    sha256: str | None = None
    seed: int | None = None
    control_of: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    note: str = ""

    def __post_init__(self) -> None:
        _check_name("model", self.name)
        if self.weights == "random" and self.seed is None:
            raise ProbebenchError(f"model {self.name!r} has random weights and no seed; give it one")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ProbebenchError(
                f"model {self.name!r}: interpolation must be bilinear or bicubic, got {self.interpolation!r}"
            )
        for name in ("mean", "std"):
            value = tuple(getattr(self, name))
            if len(value) != 3:
                raise ProbebenchError(f"model {self.name!r}: {name} needs three numbers, got {len(value)}")
            object.__setattr__(self, name, value)


@dataclass(frozen=True)
class DatasetSpec:
    """A labelled image dataset with its official train and test splits.

    Attributes:
        name: used in ids; letters, digits and underscores
        reader: ``module:function`` that returns a `probebench.datasets.Dataset`
        kwargs: passed to the reader
        shift: how far the images are from what the embedded model was pretrained on: ``none``, ``shift`` or
            ``strong``; empty where that has no meaning
        source, licence: where the images come from and under which terms
        note: one line about what is in it
    """

    name: str
    reader: str
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    shift: str = ""
    source: str = ""
    licence: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        _check_name("dataset", self.name)


def _check_name(kind: str, name: str) -> None:
    # A dash would make ids such as glyphvit-digits-L06-act ambiguous.
    if not (name.isascii() and name.replace("_", "a").isalnum()):
        raise ProbebenchError(f"{kind} name {name!r} may hold only ASCII letters, digits and underscores")


_Spec = TypeVar("_Spec", ModelSpec, DatasetSpec)


def _load(kind: type[_Spec], filename: str) -> dict[str, _Spec]:
    text = files(__package__).joinpath(filename).read_text(encoding="utf-8")
    known = {f.name for f in fields(kind)}
    specs = {}
    for name, table in tomllib.loads(text).items():
        for key in table:
            if key not in known:
                raise unknown(f"key in [{name}] of {filename}", key, known)
        specs[name] = kind(name=name, **table)
    return specs


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


@dataclass(frozen=True)
class Catalog:
    """What names mean in one run: the built-in specs and those that plugins and conftest files add."""

    models: Mapping[str, ModelSpec]
    datasets: Mapping[str, DatasetSpec]
    suites: Mapping[str, tuple[str, ...]]

    @classmethod
    def default(cls) -> Catalog:
        return cls(builtin_models(), builtin_datasets(), builtin_suites())

    def extended(self, models: Iterable[ModelSpec] = (), datasets: Iterable[DatasetSpec] = ()) -> Catalog:
        """A catalog with more specs.

        Raises:
            ProbebenchError: if a name is taken
        """
        return Catalog(_merge("model", self.models, models), _merge("dataset", self.datasets, datasets), self.suites)

    def model(self, name: str) -> ModelSpec:
        """Raises UnknownName with the nearest names."""
        try:
            return self.models[name]
        except KeyError:
            raise unknown("model", name, self.models) from None

    def dataset(self, name: str) -> DatasetSpec:
        """Raises UnknownName with the nearest names."""
        try:
            return self.datasets[name]
        except KeyError:
            raise unknown("dataset", name, [*self.datasets, *self.suites]) from None

    def dataset_names(self, name: str) -> tuple[str, ...]:
        """The datasets of a suite, or the one dataset of that name. Raises UnknownName with the nearest names."""
        return self.suites.get(name) or (self.dataset(name).name,)


def _merge(kind: str, old: Mapping[str, _Spec], new: Iterable[_Spec]) -> Mapping[str, _Spec]:
    merged = dict(old)
    for spec in new:
        if spec.name in merged:
            raise ProbebenchError(f"{kind} {spec.name!r} is registered twice; choose another name")
        merged[spec.name] = spec
    return MappingProxyType(merged)
