"""Build a frozen network from its spec: timm's architecture, weights from the hub, from a file or from a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import nn

from probebench.catalog import ModelSpec
from probebench.catalog.precision import Precision
from probebench.errors import LayoutError, WeightsError, describe
from probebench.fetch import hub as pretrained
from probebench.models.checkpoint import own_file
from probebench.models.layouts import blocks_of
from probebench.models.matching import check_sha256, load_weights
from probebench.models.precision import check_precision, dtype_of
from probebench.models.timm_spec import create_network


@dataclass(frozen=True)
class Model:
    """A network ready to read features from.

    Attributes:
        spec: what it was built from
        net: in evaluation mode, without gradients
        weights_digest: the first 16 hexadecimal digits of the SHA-256 over all parameters and buffers, in float32
        precision: that the network computes in
        entry: of its weights file that its weights are, where they are one of several
        prefix: what stood before the names of the network in its weights file; whatever lay elsewhere was left out
        made_for: side in pixels of the images that position embeddings in its weights file are made for, where they
            were resampled to the network's; else 0
    """

    spec: ModelSpec
    net: nn.Module
    weights_digest: str
    precision: Precision = "float32"
    entry: str = ""
    prefix: str = ""
    made_for: int = 0


def shipped(spec: ModelSpec) -> Traversable:
    """The weights of a model whose weights are inside the package."""
    return files("probebench.embedded") / spec.weights.removeprefix("embedded:")


def build_model(
    spec: ModelSpec, *, weights: Path | None = None, device: str = "cpu", precision: Precision = "float32"
) -> Model:
    """Build the network of a spec and load its weights.

    Args:
        weights: a file to load instead of what the spec names, for instance a new checkpoint that is to be checked
            against the baselines of the old one; of the formats of `ModelSpec.checkpoint`
        device: a torch device
        precision: that its parameters are brought to

    Raises:
        ProbebenchError: if the device does not have the precision
        UnknownName: if timm has no such architecture
        WeightsError: if the weights are not on this machine, damaged, or of another architecture
        LayoutError: if the network's blocks cannot be read, or are not as many as the spec says
    """
    check_precision(precision, device)
    sha256 = None if weights is not None else spec.sha256
    weights = own_file(spec, weights)
    hub = pretrained.require(spec) if weights is None and pretrained.needs_download(spec) else None
    # The initialisation draws from torch's global generator; give the caller's state back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed or 0)
        net = _from_timm(spec, hub) if hub is not None else create_network(spec)
    blocks = blocks_of(net)
    if len(blocks) != spec.depth:
        raise LayoutError(f"model {spec.name!r} has {len(blocks)} blocks where its spec says {spec.depth}")
    entry, prefix, made_for = "", "", 0
    if weights is not None:
        found = load_weights(net, spec, weights, sha256)
        entry, prefix, made_for = found.entry, found.prefix, found.made_for
    elif spec.weights.startswith("embedded:"):
        with as_file(shipped(spec)) as path:
            load_weights(net, spec, path, sha256)
    _check_input_size(net, spec)
    net = net.float().eval().requires_grad_(False)
    digest = _digest(net)
    return Model(spec, net.to(device=device, dtype=dtype_of(precision)), digest, precision, entry, prefix, made_for)


def _from_timm(spec: ModelSpec, path: Path) -> nn.Module:
    """The network with pretrained weights from a file of the hub, which timm brings into its own form."""
    import timm

    where = f"weights of model {spec.name!r} ({path})"
    check_sha256(path, spec, where, spec.sha256)
    # custom_load is for original npz files; on the hub they are stored as timm's own tensors.
    overlay = {"file": str(path), "custom_load": False, "state_dict": None}
    try:
        net = timm.create_model(spec.architecture, pretrained=True, pretrained_cfg_overlay=overlay, **spec.kwargs)
    except Exception as error:  # safetensors, pickle, torch and timm's own checks raise many kinds
        raise WeightsError(
            f"{where} cannot be loaded ({describe(error)}). If the file is damaged, delete it and fetch it again"
        ) from error
    assert isinstance(net, nn.Module)
    return net


def _check_input_size(net: nn.Module, spec: ModelSpec) -> None:
    """Before any image is read: a network of one size refuses others in the middle of its forward pass."""
    embed = getattr(net, "patch_embed", None)
    size = getattr(embed, "img_size", None)
    if size is None or not getattr(embed, "strict_img_size", True) or tuple(size) == (spec.input_size,) * 2:
        return
    raise WeightsError(
        f"model {spec.name!r}: input_size is {spec.input_size}, and {spec.architecture} is built for "
        f"{size[0]} x {size[1]} pixels; give both, as in input_size={spec.input_size}, "
        f"kwargs={{'img_size': {spec.input_size}}}"
    )


def _digest(net: nn.Module) -> str:
    h = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return h.hexdigest()[:16]
