"""Frozen descriptions of models, datasets and the files that they are published in. No torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from probebench.catalog.tasks import CLASSIFICATION, TASKS
from probebench.errors import ProbebenchError, unknown


@dataclass(frozen=True)
class ModelSpec:
    """A frozen network.

    A depth, input size or pixel statistics that are left out are filled in from its library when the model is first
    used.
    The models of the catalog have all of them, so that cases are collected without torch.

    Attributes:
        name: used in ids; letters, digits and underscores
        architecture: a timm architecture such as ``vit_tiny_patch16_224``, with the tag of its pretrained weights
            where those are used (``vit_base_patch16_224.orig_in21k``), or ``VisionTransformer`` for timm's class
            itself, built from `kwargs`; a model of another library, ``hf:ID`` or ``hf:FOLDER`` (transformers),
            ``open_clip:MODEL/TAG`` or ``open_clip:MODEL/FILE``, ``torchvision:NAME`` or ``torchvision:NAME.WEIGHTS``;
            or ``package.module:function`` for a function of your own that returns the network, called with `kwargs`
        depth: number of transformer blocks
        weights: ``timm`` (the pretrained weights of the tag, or those that the other library or function gives),
            ``random`` (initialised under `seed`), or ``embedded:FILE`` (shipped inside the package)
        input_size: side of the square input in pixels
        mean, std: per channel, of images in [0, 1]: the statistics that the weights were trained with
        interpolation: of the resizing that the weights were trained with: ``bilinear`` or ``bicubic``; if left out,
            the value that timm declares, if other fields are left out, too, and otherwise bilinear
        crop: share of the resized image that the centre crop kept when the weights were evaluated; reported next to the
            share that a protocol keeps
        checkpoint: the path of your own weights, used instead of `weights`: a file of safetensors, torch or
            TorchScript, or a folder of `save_pretrained`; relative to the directory pytest is started in. The entry
            that holds the network is used, averaged weights (EMA) before others. A prefix of training code before the
            names of the network, such as ``backbone.``, is dropped
        checkpoint_key: the entry of the checkpoint that holds the network, with dots between the keys of entries in
            entries; needed where it holds several networks
        checkpoint_prefix: the prefix of the network's names, where several networks have one
        source: where pretrained weights are published: a hub repository, a hub repository and a file name after a
            colon, or a URL; empty for the repository ``timm/`` and the architecture
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
            which the shift of other datasets is measured; empty if none is known
        licence: of the weights, an SPDX id or a name
        note: one line about the weights
        typed: what ``--probe-model`` takes for it; the name, unless the user named a model of a library
            (`library_spec`)
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
    checkpoint_key: str | None = None
    checkpoint_prefix: str | None = None
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
                "for a file of your own, give checkpoint"
            )
        if self.architecture == "VisionTransformer" and self.weights == "timm" and self.checkpoint is None:
            raise ProbebenchError(
                f"model {self.name!r}: timm has no weights for its class VisionTransformer; give a checkpoint, or "
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
                    f"model {self.name!r}: {name} must be for pixels from 0 to 1, got {given}; if yours is for pixels "
                    "from 0 to 255, divide it by 255"
                )
            object.__setattr__(self, name, value)
        if self.complete and not self.interpolation:
            object.__setattr__(self, "interpolation", "bilinear")

    @property
    def library(self) -> str:
        """The library that the network comes from, one of `LIBRARIES`, or ``function``."""
        before, colon, _ = self.architecture.partition(":")
        return (before if before in LIBRARIES else "function") if colon else "timm"

    @property
    def complete(self) -> bool:
        """True if it has all fields that cases and preprocessing need, so that its library need not be asked."""
        return bool(self.depth and self.input_size and self.mean and self.std)


@dataclass(frozen=True)
class Archive:
    """A file that a dataset is published in.

    Attributes:
        url: where its publisher keeps it; the last part is the file's name
        md5: as published; empty if none is published
        size: in bytes, rounded if no exact figure is published; 0 if none is published
        folder: where it is unpacked, or stored if it is no archive, inside the data root
        makes: the file or folder that unpacking creates, a path inside the data root; empty for a plain file, which is
            stored as it is
        manual: why a program cannot download it (an account, terms to agree to); empty if it can
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
        """`makes`, or the path of a plain file, inside the data root."""
        return self.makes or f"{self.folder}/{self.filename}".removeprefix("/")


@dataclass(frozen=True)
class DatasetSpec:
    """A labelled image dataset with its official train and test splits.

    Attributes:
        name: used in ids; letters, digits and underscores
        reader: ``module:function`` that returns class names, train and test, the two as `probebench.datasets.Split`
        kwargs: passed to the reader; if they have a ``severity``, a name that ends in ``_s1`` to ``_s5`` is the same
            dataset at that severity
        metric: the score that its publications report: ``top1`` or ``mean_per_class``; by default the first of the
            task's: ``map`` for labels, ``r2`` for real numbers
        archives: the files that it is published in; it is on this machine if each `Archive.result` is in the data root
        clean: name of the dataset that these images are a shifted version of, or another domain of, with the same
            class names; probes are trained on it under ``transfer@2``. Empty if there is none
        task: what its labels are: ``classification`` for one class an image, ``multilabel`` for any number of labels an
            image, ``regression`` for real numbers; see `probebench.catalog.tasks`
        shift: how far the images are from the pretraining data of the embedded model: ``none``, ``shift`` or
            ``strong``; empty if that has no meaning
        duplicates: what to do about training images that are also test images, repeated training images, and those
            under several labels: ``drop-train`` leaves them out of training, which decodes all images once more to
            compare them; ``keep`` accepts them. Empty to keep them and warn, which ``--probe-strict`` makes an error
        near_duplicates: a cosine, such as 0.95: test images whose features are at least so close to those of a training
            image are counted, with a warning; 0 to compare none
        source, licence: where the images come from and under which terms
        note: one line about its images and splits
    """

    name: str
    reader: str
    kwargs: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    shift: str = ""
    source: str = ""
    licence: str = ""
    note: str = ""
    metric: str = ""
    archives: tuple[Archive, ...] = ()
    clean: str = ""
    task: str = CLASSIFICATION.name
    duplicates: str = ""
    near_duplicates: float = 0.0

    def __post_init__(self) -> None:
        check_name("dataset", self.name)
        if not 0 <= self.near_duplicates <= 1:
            raise ProbebenchError(
                f"dataset {self.name!r}: near_duplicates must be a cosine from 0 to 1, got {self.near_duplicates}"
            )
        if self.duplicates not in ("", "drop-train", "keep"):
            raise ProbebenchError(
                f"dataset {self.name!r}: duplicates must be drop-train or keep, got {self.duplicates!r}"
            )
        if self.task not in TASKS:
            raise unknown(f"task of dataset {self.name!r}", self.task, TASKS)
        metrics = TASKS[self.task].metrics
        object.__setattr__(self, "metric", self.metric or metrics[0])
        if self.metric not in metrics:
            of = "" if self.task == CLASSIFICATION.name else f" of the task {self.task}"
            raise ProbebenchError(
                f"dataset {self.name!r}: metric{of} must be {' or '.join(metrics)}, got {self.metric!r}"
            )

    @property
    def download_size(self) -> int:
        """Bytes of all archives together; 0 if no size is published or nothing has to be downloaded."""
        return sum(archive.size for archive in self.archives)


LIBRARIES = ("timm", "hf", "open_clip", "torchvision")
"""Users write one of these and a colon before the name that a library gives a model which the catalog does not have;
``hf`` is transformers and the Hugging Face hub."""


def names_library(typed: str) -> bool:
    """Return whether a name that a user typed is that of a model of one of `LIBRARIES`."""
    return isinstance(typed, str) and typed.partition(":")[0] in LIBRARIES and ":" in typed


def library_spec(typed: str) -> ModelSpec:
    """Return the spec of a model that a user names by its library. What the library knows of it is left out."""
    return ModelSpec(id_name(typed), typed.removeprefix("timm:"), typed=typed)


def id_name(typed: str) -> str:
    """Return what ids call a model that a user names so: the same with underscores for all but letters and digits."""
    return re.sub("[^A-Za-z0-9]", "_", typed)


def check_name(kind: str, name: str) -> None:
    """Check that a name cannot make ids such as glyphvit-digits-L06-act ambiguous.

    Raises:
        ProbebenchError: if it has other characters than ASCII letters, digits and underscores
    """
    if not (name.isascii() and name.replace("_", "a").isalnum()):
        raise ProbebenchError(f"{kind} name {name!r} may contain only ASCII letters, digits and underscores")
