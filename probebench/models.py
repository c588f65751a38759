"""Build a frozen network from its spec: timm's architecture, weights from a file or from a seed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from probebench.catalog import ModelSpec
from probebench.errors import LayoutError, ProbebenchError, WeightsError, unknown
from probebench.layouts import blocks_of


@dataclass(frozen=True)
class Model:
    """A network ready to read features from.

    Attributes:
        spec: what it was built from
        net: in evaluation mode, float32, without gradients
        weights_digest: the first 16 hexadecimal digits of the SHA-256 over all parameters and buffers
    """

    spec: ModelSpec
    net: nn.Module
    weights_digest: str


def build(spec: ModelSpec, *, weights: Path | None = None, device: str = "cpu") -> Model:
    """Build the network of a spec and load its weights.

    Args:
        weights: a safetensors file to load instead of what the spec names, for instance a new checkpoint that is
            to be checked against the baselines of the old one
        device: a torch device

    Raises:
        UnknownName: if timm has no such architecture
        WeightsError: if the weights file is missing, damaged or of another architecture
        LayoutError: if the network's blocks cannot be read, or are not as many as the spec says
    """
    # The initialisation draws from torch's global generator; give the caller's state back afterwards.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(spec.seed or 0)
        net = _architecture(spec)
    blocks = blocks_of(net)
    if len(blocks) != spec.depth:
        raise LayoutError(f"model {spec.name!r} has {len(blocks)} blocks where its spec says {spec.depth}")
    if weights is not None:
        _load(net, spec, weights, sha256=None)
    elif spec.checkpoint is not None:
        _load(net, spec, Path(spec.checkpoint), sha256=spec.sha256)
    elif spec.weights.startswith("embedded:"):
        with as_file(files("probebench.embedded") / spec.weights.removeprefix("embedded:")) as path:
            _load(net, spec, path, sha256=spec.sha256)
    net = net.float().eval().requires_grad_(False)
    return Model(spec, net.to(device), _digest(net))


def completed(spec: ModelSpec) -> ModelSpec:
    """The spec with what it leaves out filled in from timm, and with the tag of its weights in `architecture`.

    Raises:
        UnknownName: if timm has no such architecture or tag
        ProbebenchError: if timm says nothing of what is missing
    """
    raise NotImplementedError


def _architecture(spec: ModelSpec) -> nn.Module:
    import timm
    from timm.models.vision_transformer import VisionTransformer

    kwargs: dict[str, Any] = dict(spec.kwargs)
    if spec.architecture == "VisionTransformer":
        net = VisionTransformer(depth=spec.depth, **kwargs)
    elif timm.is_model(spec.architecture):
        net = timm.create_model(spec.architecture, pretrained=False, **kwargs)
    else:
        names = timm.list_models("*vit*") or timm.list_models()
        short = unknown("timm architecture", spec.architecture, names).args[0].split(" Known:")[0]
        raise ProbebenchError(f"model {spec.name!r}: {short} See timm.list_models() for all {len(timm.list_models())}.")
    assert isinstance(net, nn.Module)
    return net


def _load(net: nn.Module, spec: ModelSpec, path: Path, sha256: str | None) -> None:
    where = f"weights of model {spec.name!r} ({path})"
    if not path.is_file():
        raise WeightsError(f"{where}: no such file")
    if sha256 is not None and (found := hashlib.sha256(path.read_bytes()).hexdigest()) != sha256:
        raise WeightsError(
            f"{where}: SHA-256 is {found}, expected {sha256}. The file is damaged or was replaced; reinstall "
            f"probebench, or pass another checkpoint on purpose with --probe-weights {spec.name}=FILE"
        )
    try:
        state = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{where}: not a readable safetensors file, or cut short ({error})") from error
    want = net.state_dict()
    problems = [f"{name} is missing" for name in want if name not in state]
    problems += [f"{name} is not part of the network" for name in state if name not in want]
    problems += [
        f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in want.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise WeightsError(
            f"{where}: another architecture than {spec.architecture} as the catalog builds it: "
            f"{'; '.join(problems[:3])}{more}"
        )
    net.load_state_dict(state)


def _digest(net: nn.Module) -> str:
    h = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        h.update(name.encode())
        h.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return h.hexdigest()[:16]
