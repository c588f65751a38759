"""What the catalog is made of: frozen descriptions of models, datasets and the files that they come in. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from probebench.errors import ProbebenchError


@dataclass(frozen=True)
class ModelSpec:
    """A frozen network.

    What is left out of depth, input size and pixel statistics is filled in from timm when the model is first used;
    catalogued models have it all, so that cases are collected without torch.

    Attributes:
        name: used in ids; letters, digits and underscores
        architecture: a timm architecture such as ``vit_tiny_patch16_224``, with the tag of its pretrained weights
            where those are used (``vit_base_patch16_224.orig_in21k``), or ``VisionTransformer`` for timm's class
            itself, built from `kwargs`
        depth: number of transformer blocks
        weights: ``timm`` (the pretrained weights of the tag), ``random`` (initialised by timm under `seed`), or
            ``embedded:FILE`` (shipped inside the package)
        input_size: side of the square input in pixels
        mean, std: per channel, of images in [0, 1]: the statistics that the weights were trained with
        interpolation: of the resizing that the weights were trained with: ``bilinear`` or ``bicubic``; if left out,
            what timm says where it is asked for the rest, or bilinear
        crop: share of the resized image that the centre crop kept when the weights were evaluated; told beside what a
            protocol does
        checkpoint: the path of weights of one's own, used instead of `weights`: safetensors, or a torch file of plain
            tensors, of which the entry that holds the network is taken, averaged weights (EMA) before others; relative
            to the directory pytest is started in. A prefix of training code before the names of the network, such as
            ``backbone.``, is dropped, and what lies elsewhere in the file left out
        source: where pretrained weights lie: a hub repository, one and a file name after a colon, or a URL; empty for
            the repository ``timm/`` and the architecture
        sha256: of the weights file; checked when given
        seed: of the random initialisation
        control_of: for a random control, the pretrained model it is the control of
        tuned_from: for a fine-tuned network, the model whose weights it started from
        kwargs: passed to the architecture
        width: of the residual stream
        parameters: of the network as timm builds it without a classifier
        download_size: of the weights file in bytes, as float32; 0 where nothing is downloaded
        pretraining: method and data of the pretraining
        reference: name of a dataset whose test images are a sample of what the network was (last) pretrained on, from
            which the shift of others is measured; empty if none is known
        licence: of the weights, an SPDX id or a name
        note: one line about the weights
        typed: what ``--probe-model`` takes for it; the name, unless the user named a model of timm (`timm_spec`)
    """

    name: str
    architecture: str
    depth: int = 0
    weights: str = "timm"
    input_size: int = 0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    interpolation: str = ""
    crop: float = 1.0
    checkpoint: str | None = None
    source: str = ""
    sha256: str | None = None
    seed: int | None = None
    control_of: str | None = None
    tuned_from: str | None = None
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    width: int = 0
    parameters: int = 0
    download_size: int = 0
    pretraining: str = ""
    reference: str = ""
    licence: str = ""
    note: str = ""
    # No property of the network, so neither compared nor part of the digest of --probe-resume.
    typed: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        check_name("model", self.name)
        if id_name(self.typed) != self.name:  # empty, or of the spec that this one was copied from
            object.__setattr__(self, "typed", self.name)
        if self.weights == "random" and self.seed is None:
            raise ProbebenchError(f"model {self.name!r} has random weights and no seed; give it one")
        if self.weights not in ("timm", "random") and not self.weights.startswith("embedded:"):
            raise ProbebenchError(
                f"model {self.name!r}: weights must be timm, random or embedded:FILE, got {self.weights!r}; "
                "a file of your own is named by checkpoint"
            )
        if self.architecture == "VisionTransformer" and self.weights == "timm" and self.checkpoint is None:
            raise ProbebenchError(
                f"model {self.name!r}: timm has no weights for its class VisionTransformer; name a checkpoint, or say "
                "weights='random' and a seed"
            )
        if self.tuned_from is not None and (self.tuned_from == self.name or self.control_of is not None):
            what = "itself" if self.tuned_from == self.name else "anything: it is a random control"
            raise ProbebenchError(f"model {self.name!r}: it cannot be tuned from {what}")
        if self.interpolation not in ("", "bilinear", "bicubic"):
            raise ProbebenchError(
                f"model {self.name!r}: interpolation must be bilinear or bicubic, got {self.interpolation!r}"
            )
        for name, least in (("mean", 0.0), ("std", 1e-6)):
            given = getattr(self, name)
            value = tuple(given) if isinstance(given, Iterable) else (given,)
            if len(value) not in (0, 3):
                raise ProbebenchError(f"model {self.name!r}: {name} needs three numbers, got {given}")
            if not all(least <= each <= 1 for each in value):
                raise ProbebenchError(
                    f"model {self.name!r}: {name} is of pixels from 0 to 1, got {given}; divide those of 255 by 255"
                )
            object.__setattr__(self, name, value)
        if self.complete and not self.interpolation:
            object.__setattr__(self, "interpolation", "bilinear")

    @property
    def complete(self) -> bool:
        """Whether nothing has to be asked of timm to make cases of it and to preprocess images for it."""
        return bool(self.depth and self.input_size and self.mean and self.std)


@dataclass(frozen=True)
class Archive:
    """A file that a dataset is published in.

    Attributes:
        url: where its publisher keeps it; the last part is the file's name
        md5: as published; empty where none is
        size: in bytes, rounded where no exact figure is published; 0 where none is
        folder: where it is unpacked, or put if it is no archive, inside the data root
        makes: what is there afterwards that was not before, a path inside the data root; empty for a plain file, which
            makes itself
        manual: why it cannot be fetched by a program (an account, terms to agree to); empty where it can
    """

    url: str
    md5: str = ""
    size: int = 0
    folder: str = ""
    makes: str = ""
    manual: str = ""

    @property
    def filename(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def result(self) -> str:
        """`makes`, or where a plain file lies: a path inside the data root."""
        return self.makes or f"{self.folder}/{self.filename}".removeprefix("/")


@dataclass(frozen=True)
class DatasetSpec:
    """A labelled image dataset with its official train and test splits.

    Attributes:
        name: used in ids; letters, digits and underscores
        reader: ``module:function`` that returns class names, train and test, the two as `probebench.datasets.Split`
        kwargs: passed to the reader; where a ``severity`` is among them, a name that ends in ``_s1`` to ``_s5`` is
            the same dataset at that severity
        metric: what its publications report: ``top1`` accuracy, or ``mean_per_class`` accuracy
        archives: what it is published in; it is on this machine when all that they make is in the data root
        clean: name of the dataset that these images are a shifted version of, or another domain of, with the same
            class names; what a probe is trained on under ``transfer@1``. Empty where there is none
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
    metric: str = "top1"
    archives: tuple[Archive, ...] = ()
    clean: str = ""

    def __post_init__(self) -> None:
        check_name("dataset", self.name)
        if self.metric not in ("top1", "mean_per_class"):
            raise ProbebenchError(f"dataset {self.name!r}: metric must be top1 or mean_per_class, got {self.metric!r}")

    @property
    def download_size(self) -> int:
        """Bytes of all archives together; 0 where none is published or nothing is to be downloaded."""
        return sum(archive.size for archive in self.archives)


TIMM = "timm:"
"""Users write this before timm's name of a model that the catalog does not have."""


def names_timm(typed: str) -> bool:
    """Return whether a name that a user typed is `TIMM` and timm's name of a model."""
    return typed.startswith(TIMM)


def timm_spec(typed: str) -> ModelSpec:
    """Return the spec of a model that a user names by `TIMM` and timm's name. What timm knows of it is left out."""
    return ModelSpec(id_name(typed), typed.removeprefix(TIMM), typed=typed)


def id_name(typed: str) -> str:
    """Return what ids call a model that a user names so: the same with underscores for all but letters and digits."""
    return re.sub("[^A-Za-z0-9]", "_", typed)


def check_name(kind: str, name: str) -> None:
    """Raises ProbebenchError for a name that would make ids such as glyphvit-digits-L06-act ambiguous."""
    if not (name.isascii() and name.replace("_", "a").isalnum()):
        raise ProbebenchError(f"{kind} name {name!r} may hold only ASCII letters, digits and underscores")
