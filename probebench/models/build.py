"""Build a frozen network from its spec: of timm or another library, with weights from the hub, a file or a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path

import torch
from torch import nn

from probebench.catalog import ModelSpec
from probebench.catalog.precision import Precision
from probebench.errors import LayoutError, WeightsError, describe
from probebench.fetch import hub as pretrained
from probebench.models.adapter import adapt, check_images
from probebench.models.checkpoint import own_file, split_key
from probebench.models.layouts import blocks_of
from probebench.models.libraries import find_library
from probebench.models.matching import check_sha256, load_weights
from probebench.models.precision import check_precision, dtype_of
from probebench.models.timm_spec import create_network


@dataclass(frozen=True)
class Model:
    """A network that is ready for feature extraction.

    Attributes:
        spec: the spec it was built from
        net: the network, in evaluation mode, without gradients
        weights_digest: the first 16 hexadecimal digits of the SHA-256 over all parameters and buffers, in float32
        precision: precision of its computations
        entry: entry of the weights file that was loaded; empty if the file has no entries
        prefix: prefix of the network's names in the weights file, which was removed; other tensors were ignored
        made_for: input size in pixels of the position embeddings in the weights file, if they were resampled to that
            of the network; else 0
        family: the code whose names the weights file has, which were translated; empty if they are timm's
        left_out: names of tensors in the weights file that are no part of the network, such as a decoder
        copies: which other copies of the network the weights file has, and why they were not taken; else empty
    """

    spec: ModelSpec
    net: nn.Module
    weights_digest: str
    precision: Precision = "float32"
    entry: str = ""
    prefix: str = ""
    made_for: int = 0
    family: str = ""
    left_out: tuple[str, ...] = ()
    copies: str = ""


def embedded_weights(spec: ModelSpec) -> Traversable:
    """Return the weights file of a model whose weights are part of the package."""
    return files("probebench.embedded") / spec.weights.removeprefix("embedded:")


def build_model(
    spec: ModelSpec, *, weights: Path | None = None, device: str = "cpu", precision: Precision = "float32"
) -> Model:
    """Build the network of a spec and load its weights.

    Args:
        weights: a file to load instead of the weights of the spec, such as a new checkpoint to be checked against
            the baselines of the old one; formats as in `ModelSpec.checkpoint`, or ``FILE#ENTRY``, with the entry as in
            `ModelSpec.checkpoint_key`
        device: a torch device
        precision: precision of the parameters and computations

    Raises:
        ProbebenchError: if the device does not support the precision
        UnknownName: if timm has no such architecture
        WeightsError: if the weights are not on this machine, are damaged, or do not fit the architecture
        LayoutError: if the blocks of the network cannot be read, or their number is not that of the spec
    """
    check_precision(precision, device)
    sha256 = None if weights is not None else spec.sha256
    named = spec if weights is None else replace(spec, checkpoint_key=split_key(weights)[1] or spec.checkpoint_key)
    weights = own_file(spec, weights)
    hub = pretrained.require(spec) if weights is None and pretrained.needs_download(spec) else None
    # The initialisation draws from torch's global generator; restore the caller's state afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed or 0)
        net = _create(spec, hub, loads=weights is None and spec.weights == "timm")
    own = net if spec.library == "timm" else adapt(net)
    blocks = blocks_of(own)
    if len(blocks) != spec.depth:
        raise LayoutError(f"model {spec.name!r} has {len(blocks)} blocks, but its spec says depth={spec.depth}")
    found, made_for = None, 0
    if weights is not None:
        found = load_weights(net, named, weights, sha256)
    elif spec.weights.startswith("embedded:"):
        with as_file(embedded_weights(spec)) as path:
            made_for = load_weights(net, spec, path, sha256).made_for
    _check_input_size(net, spec)
    net = own.float().eval().requires_grad_(False)
    check_images(net, spec.name, spec.input_size)
    digest = _digest(net, found.periods if found is not None else None)
    model = Model(spec, net.to(device=device, dtype=dtype_of(precision)), digest, precision)
    if found is None:
        return replace(model, made_for=made_for)
    names = ("entry", "prefix", "made_for", "family", "left_out", "copies")
    return replace(model, **{name: getattr(found, name) for name in names})


def _create(spec: ModelSpec, hub: Path | None, loads: bool) -> nn.Module:
    """Build the network with the weights that its library has, or without."""
    if spec.library == "timm":
        return _load_pretrained(spec, hub) if hub is not None else create_network(spec)
    library = find_library(spec)
    return library.load_network(spec, hub) if loads else library.create_network(spec)


def _load_pretrained(spec: ModelSpec, path: Path) -> nn.Module:
    """Build a network with pretrained weights from a file of the hub, which timm converts to its own form."""
    import timm

    where = f"weights of model {spec.name!r} ({path})"
    check_sha256(path, spec, where, spec.sha256)
    # custom_load is for original npz files; the files on the hub are already in timm's form.
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
    """Check channels and input size before any image is read, not in the middle of the first forward pass."""
    embed = getattr(net, "patch_embed", None)
    weight = getattr(getattr(embed, "proj", None), "weight", None)
    if weight is not None and weight.ndim == 4 and weight.shape[1] != 3:
        raise WeightsError(
            f"model {spec.name!r}: {spec.architecture} is built for images of {weight.shape[1]} channels; only "
            "networks for three, red, green and blue, can be measured"
        )
    size = getattr(embed, "img_size", None)
    if size is None or not getattr(embed, "strict_img_size", True) or tuple(size) == (spec.input_size,) * 2:
        return
    raise WeightsError(
        f"model {spec.name!r}: input_size is {spec.input_size}, but {spec.architecture} is built for "
        f"{size[0]} x {size[1]} pixels; set both, as in input_size={spec.input_size}, "
        f"kwargs={{'img_size': {spec.input_size}}}"
    )


def _digest(net: nn.Module, periods: torch.Tensor | None) -> str:
    h = hashlib.sha256()
    if periods is not None:  # which are no part of the state
        h.update(periods.double().numpy().tobytes())
    for name, tensor in sorted(net.state_dict().items()):
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return h.hexdigest()[:16]
