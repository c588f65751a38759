"""The named protocols: all settings besides model, dataset and tap that decide a number.

A protocol is frozen: its fields never change under the same name and version. Its fingerprint is a hash of all
fields, and results of different fingerprints are never compared.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Literal, get_args, get_origin, get_type_hints

from probebench.catalog.precision import PRECISIONS, Precision
from probebench.catalog.taps import POOLINGS, TOKENS, Pooling
from probebench.errors import ProbebenchError, unknown

if TYPE_CHECKING:
    from probebench.catalog.specs import ModelSpec

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


_LATER = frozenset(
    (
        *("path", "held_out", "interpolation", "shots", "draws", "train_on", "choice", "patience", "path_least"),
        *("path_gap", "queries", "epochs", "epoch_patience", "batch", "rates", "weight_decay"),
    )
)
"""The fields that protocols did not have from the beginning; a fingerprint leaves them out where they are None."""


@dataclass(frozen=True)
class Protocol:
    """A recipe for one number.

    Attributes:
        name: with its version, as in ``paper@1``
        train_view: how a training image becomes the model's input: ``random_resized_crop_flip`` (one random view of
            each, area 0.08 to 1, aspect 3/4 to 4/3, mirrored half the time) or ``resize_center_crop``
        test_view: the same for test images
        pixel_mean, pixel_std: per channel, of images in [0, 1]; None for those that the weights declare
        train_fraction: share of the official train split that the probe is fitted on, drawn at random by `seed`
        train_multiple: the number of training images is rounded down to a multiple of this (an incomplete last
            batch dropped), unless nothing would remain
        pooling: ``mean`` over all tokens, ``patch_mean`` over patch tokens, ``cls`` for the class token, or
            ``cls+patch_mean`` for both, side by side
        feature_norm: ``l2`` scales every pooled vector to unit length; ``none``
        standardize: zero mean and unit variance per feature, statistics of the training features
        probe: name of the probe in `probebench.probes`
        C: inverse regularisation strength of the probe, in scikit-learn's convention; None if it is chosen from `path`
        max_iter: most iterations of the probe's solver
        precision: of the forward pass, see `probebench.catalog.precision`
        selection: the images that the best tap is chosen on: ``test``, or the ``held_out`` part of train
        seed: of the random views and of the splits
        path: the values of C to choose from on the held-out part of train, rising; the probe is then fitted again on
            all of train (the ridge probe has alpha = 1 / C)
        choice: the rule that chooses C by held-out accuracies: ``smoothed`` for the best after averaging with the
            neighbours on the path; None for the best
        patience: values of C without a better one after which the rest of the path is left out; None for the whole path
        path_least: values of C that are always tried, the smallest ones; None for no such number
        path_gap: relative distance to the optimum of the fits that C is chosen by; None for that of the last fit
        queries: by which tokens are pooled, of a probe that is trained on tokens; None for probes on pooled features,
            which have none of the five fields below either
        epochs: of the training, in which the learning rate falls to zero; fewer if the held-out accuracy was better
            before
        epoch_patience: epochs without a better held-out accuracy after which the training ends
        batch: images per step
        rates: learning rates to choose from on the held-out part of train, rising
        weight_decay: of AdamW, times the learning rate
        held_out: the share of train that is held out; per class, and all views of one source image on one side
        interpolation: of the resizing: ``model`` for the one that the weights were trained with; None for bilinear
        shots: training images per class, drawn at random from train by `seed`, one view of each source image; None
            for all
        draws: how many training sets of `shots` are drawn, each with a probe of its own; accuracies are the mean
        train_on: ``clean`` for the train split of the dataset that a shifted one was made from or goes with
            (`DatasetSpec.clean`); None for its own
    """

    name: str
    train_view: Literal["random_resized_crop_flip", "resize_center_crop"]
    test_view: Literal["random_resized_crop_flip", "resize_center_crop"]
    pixel_mean: tuple[float, float, float] | None
    pixel_std: tuple[float, float, float] | None
    train_fraction: float
    train_multiple: int
    pooling: Pooling
    feature_norm: Literal["l2", "none"]
    standardize: bool
    probe: str
    C: float | None
    max_iter: int
    precision: Precision
    selection: Literal["test", "held_out"]
    seed: int
    # Fields that came later are None where they do not apply, and then no part of the fingerprint.
    path: tuple[float, ...] | None = None
    held_out: float | None = None
    interpolation: Literal["model"] | None = None
    shots: int | None = None
    draws: int | None = None
    train_on: Literal["clean"] | None = None
    choice: Literal["smoothed"] | None = None
    patience: int | None = None
    path_least: int | None = None
    path_gap: float | None = None
    queries: int | None = None
    epochs: int | None = None
    epoch_patience: int | None = None
    batch: int | None = None
    rates: tuple[float, ...] | None = None
    weight_decay: float | None = None

    def __post_init__(self) -> None:
        self._check_choices()
        if (self.shots is None) != (self.draws is None):
            raise ProbebenchError(f"protocol {self.name!r}: shots and draws go together; give both or neither")
        for name in ("shots", "draws", "patience", "path_least", "queries", "epochs", "epoch_patience", "batch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ProbebenchError(f"protocol {self.name!r}: {name} must be at least 1, got {value}")
        if self.shots == 1 and self.held_out is not None:
            raise ProbebenchError(
                f"protocol {self.name!r}: with one training image per class, none can be held out; use more shots, or "
                "a probe that needs no held-out part"
            )

    def _check_choices(self) -> None:
        """Reject invalid field values instead of silently treating them as the default."""
        for name, known in _choices().items():
            value = getattr(self, name)
            if value not in known:
                raise unknown(f"{name} of protocol {self.name!r}", value, filter(None, known))
        if not 0 < self.train_fraction <= 1:
            raise ProbebenchError(
                f"protocol {self.name!r}: train_fraction must be above 0 and at most 1, got {self.train_fraction}"
            )
        if self.held_out is not None and not 0 < self.held_out < 1:
            raise ProbebenchError(f"protocol {self.name!r}: held_out must be between 0 and 1, got {self.held_out}")
        if self.path_gap is not None and not 0 < self.path_gap < 1:
            raise ProbebenchError(f"protocol {self.name!r}: path_gap must be between 0 and 1, got {self.path_gap}")
        for name, values in (("path", self.path), ("rates", self.rates)):
            if values is not None and not (values and values[0] > 0 and list(values) == sorted(values)):
                raise ProbebenchError(f"protocol {self.name!r}: {name} must be rising values above 0, got {values}")
        if self.weight_decay is not None and self.weight_decay < 0:
            raise ProbebenchError(f"protocol {self.name!r}: weight_decay must not be below 0, got {self.weight_decay}")
        if self.reads_tokens and self.feature_norm != "none":
            raise ProbebenchError(f"protocol {self.name!r}: tokens are not scaled; feature_norm must be none")
        if self.reads_tokens and self.pooling not in TOKENS:
            raise ProbebenchError(
                f"protocol {self.name!r}: attention pools all tokens or those of the patches; pooling must be "
                f"{' or '.join(TOKENS)}, got {self.pooling}"
            )

    @property
    def reads_tokens(self) -> bool:
        """True if the probe is trained on the tokens that `pooling` is the mean of."""
        return self.queries is not None

    def resizing(self, model: ModelSpec) -> str:
        """Return the interpolation that a model's images are resized with."""
        return model.interpolation if self.interpolation == "model" else "bilinear"

    @property
    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of all fields that apply, as canonical JSON."""
        values = {name: value for name, value in asdict(self).items() if name not in _LATER or value is not None}
        text = json.dumps(values, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _choices() -> dict[str, tuple[str | None, ...]]:
    """Return by attribute of a protocol the values that its type allows, with None if it may be left out."""
    found = {}
    for name, hint in get_type_hints(Protocol).items():
        kinds = (hint,) if get_origin(hint) is Literal else get_args(hint)
        if any(get_origin(kind) is Literal for kind in kinds):
            found[name] = tuple(value for kind in kinds for value in get_args(kind) or (None,))
    return found


PAPER = Protocol(
    # What the authors of arXiv 2603.05280 ran; docs/protocols.md lists where each field comes from.
    name="paper@1",
    train_view="random_resized_crop_flip",
    test_view="resize_center_crop",
    pixel_mean=IMAGENET_MEAN,
    pixel_std=IMAGENET_STD,
    train_fraction=0.8,
    train_multiple=512,
    pooling="mean",
    feature_norm="l2",
    standardize=True,
    probe="sklearn_logistic",
    C=1.0,
    max_iter=5000,
    precision="float32",
    selection="test",
    seed=42,
)

DEFAULT_1 = Protocol(
    # The default until `default@2`; docs/protocols.md gives the reason for each field.
    name="default@1",
    train_view="resize_center_crop",
    test_view="resize_center_crop",
    pixel_mean=None,
    pixel_std=None,
    train_fraction=1.0,
    train_multiple=1,
    pooling="mean",
    feature_norm="none",
    standardize=True,
    probe="logistic_path",
    C=None,
    max_iter=1000,
    precision="float32",
    selection="held_out",
    seed=0,
    path=tuple(10.0 ** (exponent / 3) for exponent in range(-12, 7, 2)),
    held_out=0.2,
    interpolation="model",
)

# What probebench recommends: like `default@1`, with C chosen by smoothed held-out accuracy on a path that goes on while
# that rises; docs/protocols.md has the measurement behind each constant.
DEFAULT = replace(
    DEFAULT_1,
    name="default@2",
    probe="logistic",
    path=tuple(10.0 ** (exponent / 3) for exponent in range(-12, 9, 2)),
    choice="smoothed",
    patience=1,
    path_least=8,
    path_gap=1e-4,
)

# With few labels. A quarter is held out, which is one of 4 shots.
FEW_SHOT_4_1 = replace(DEFAULT_1, name="few_shot_4@1", shots=4, draws=5, held_out=0.25)
FEW_SHOT_16_1 = replace(DEFAULT_1, name="few_shot_16@1", shots=16, draws=5, held_out=0.25)
FEW_SHOT_4 = replace(DEFAULT, name="few_shot_4@2", shots=4, draws=5, held_out=0.25)
FEW_SHOT_16 = replace(DEFAULT, name="few_shot_16@2", shots=16, draws=5, held_out=0.25)

# With probe, C and tap from undistorted training images: how well do all three transfer?
TRANSFER_1 = replace(DEFAULT_1, name="transfer@1", train_on="clean")
TRANSFER = replace(DEFAULT, name="transfer@2", train_on="clean")

# Attention pooling on the tokens of a few taps, with the linear probe of `default@2` beside it. docs/protocols.md has
# the reason for each constant.
ATTENTIVE = replace(
    DEFAULT,
    name="attentive@1",
    probe="attentive",
    queries=32,
    epochs=30,
    epoch_patience=8,
    batch=64,
    rates=(0.001, 0.003, 0.01),
    weight_decay=0.01,
)

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        DEFAULT,
        PAPER,
        FEW_SHOT_4,
        FEW_SHOT_16,
        TRANSFER,
        ATTENTIVE,
        DEFAULT_1,
        FEW_SHOT_4_1,
        FEW_SHOT_16_1,
        TRANSFER_1,
    )
}


def get_protocol(name: str) -> Protocol:
    """Return the protocol of that name; a name followed by ``+tf32``, ``+bf16`` or ``+fp16`` has that precision, one
    followed by ``+cls``, ``+patch_mean`` or ``+cls+patch_mean`` that pooling, and one by both has both, in this order.

    Raises:
        UnknownName: with the nearest names
    """
    plain, plus, rest = name.partition("+")
    if plain not in PROTOCOLS:
        raise unknown("protocol", plain, PROTOCOLS)
    found = PROTOCOLS[plain]
    precisions = {short: long for short, long in PRECISIONS.items() if long != found.precision}
    poolings: dict[str, Pooling] = {each: each for each in POOLINGS if each != found.pooling}
    parts = rest.split("+") if plus else []
    precision = parts.pop(0) if parts and parts[0] in precisions else ""
    pooling = poolings.get("+".join(parts))
    if parts and pooling is None:
        raise unknown(f"precision or pooling of protocol {plain}", "+".join(parts), [*precisions, *poolings])
    if precision:
        found = replace(found, name=name, precision=precisions[precision])
    if pooling is not None:
        found = replace(found, name=name, pooling=pooling)
    return found


DEFAULT_PROTOCOL = DEFAULT.name
