"""Export the trained probe as a file, with a script that classifies images without probebench."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from probebench import _files
from probebench._version import __version__
from probebench.catalog import ModelSpec
from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import Tap
from probebench.catalog.tasks import CLASSIFICATION, Task
from probebench.datasets.views import pixel_statistics
from probebench.errors import StoreError, describe
from probebench.features.hooks import TapReader
from probebench.fetch.hub import needs_download
from probebench.models.adapter import Adapter
from probebench.models.build import Model, embedded_weights
from probebench.models.timm_spec import PLAIN_CLASS
from probebench.probes.attentive import Attentive
from probebench.probes.linear import Linear
from probebench.recommendation.classify import digest
from probebench.recommendation.flops import blocks_needed
from probebench.recommendation.hook_recipe import recipe
from probebench.recommendation.program import export_program

PROBE, SCRIPT, NETWORK, PROGRAM = "probe.safetensors", "classify.py", "network.safetensors", "network.pt2"


def check(folder: Path, option: str) -> None:
    """Check before the work that `Export.write` can write into a folder.

    Raises:
        StoreError: if it cannot; the message has the option to change
    """
    for name in (PROBE, SCRIPT, NETWORK, PROGRAM):
        _files.check_writable(folder / name, option)
    script = folder / SCRIPT
    if script.exists() and not script.read_bytes().startswith(_script().splitlines()[0].encode()):
        raise StoreError(
            f"{option}: {script} exists and is not from probebench; choose another folder, or move the file away"
        )


def _script() -> str:
    return files(__package__).joinpath(SCRIPT).read_text(encoding="utf-8")


@dataclass(frozen=True)
class Export:
    """The content of the exported files.

    Attributes:
        probe: the fitted probe
        about: the metadata, JSON-serialisable
        checkpoint: the file with the network's weights, if the script needs --checkpoint
        network: the network's weights, written beside the probe if they come from a file of the user, which may have
            other names and more in it
        program: the network up to the tap, written beside the probe if it is not timm's
        problem: why torch cannot write such a program; else empty
    """

    probe: Linear | Attentive
    about: Mapping[str, Any]
    checkpoint: Path | None
    network: Mapping[str, torch.Tensor]
    program: bytes = b""
    problem: str = ""

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write the files; see `Recommendation.save`."""
        check(folder, str(folder))
        if self.problem:
            raise StoreError(f"{folder}: torch.export cannot write the network ({self.problem}); nothing is written")
        content = save(_weights(self.probe), metadata={"probebench": json.dumps(self.about)})
        _files.write(folder / PROBE, content)
        _files.write(folder / SCRIPT, _script())
        if self.network:
            _files.write(folder / NETWORK, save(dict(self.network)))
        if self.program:
            _files.write(folder / PROGRAM, self.program)
        return folder / PROBE, folder / SCRIPT


def export(
    built: Model,
    weights: Path | None,
    tap: Tap,
    probe: Linear | Attentive,
    classes: Sequence[str],
    protocol: Protocol,
    measured: Mapping[str, Any],
    task: Task = CLASSIFICATION,
    *,
    upright: bool = True,
    members: Sequence[Tap] = (),
) -> Export:
    """Collect the probe of a tap and everything needed to use it. Drops the blocks after the tap if possible.

    Args:
        built: the network; modified in place
        tap: that it was trained on; of an attentive probe the one that keeps its tokens
        weights: the file that replaced the weights of the spec, if any
        classes: class names by label, or names of labels or targets
        task: of the dataset
        measured: scores and sizes, for the metadata
        upright: whether the EXIF orientation was applied to the training images
        members: the taps whose features, side by side, are those of `tap`; none if it is read itself
    """
    spec = built.spec
    reads = tuple(members) or (tap,)
    blocks = _cut(built, reads, protocol)
    # The script reads the tensors of a file as they are, so those that were resampled go beside it, as own weights do.
    resampled = spec.weights.startswith("embedded:") and bool(built.made_for)
    own = weights is not None or spec.checkpoint is not None or resampled
    checkpoint = Path(str(embedded_weights(spec))) if not own and spec.weights.startswith("embedded:") else None
    mean, std = (values.flatten().tolist() for values in pixel_statistics(protocol, spec))
    kind = "checkpoint" if own or checkpoint is not None else "random" if spec.weights == "random" else "timm"
    program, problem = b"", ""
    if isinstance(built.net, Adapter):
        kind = "program"
        try:
            program = export_program(built.net, reads, protocol.pooling, spec.input_size)
        except Exception as error:  # torch raises many kinds
            problem = describe(error)
    about = {
        "probebench": __version__,
        "model": spec.name,
        "tap": tap.id,
        **({"members": [member.id for member in members]} if members else {}),
        "classes": [classes[label] for label in probe.classes],
        **({} if task is CLASSIFICATION else {"task": task.name}),
        "protocol": protocol.name,
        "fingerprint": protocol.fingerprint,
        **measured,
        "network": {
            "architecture": spec.architecture,
            "depth": spec.depth,
            "kwargs": dict(spec.kwargs),
            "weights": kind,
            "source": _overlay(spec),
            "seed": spec.seed or 0,
            "blocks": blocks,
            "digest": hashlib.sha256(program).hexdigest() if kind == "program" else digest(built.net),
        },
        "features": recipe(built.net, reads, protocol.pooling) if kind != "program" else {},
        "preprocessing": {
            "size": spec.input_size,
            "interpolation": protocol.resizing(spec),
            "mean": mean,
            "std": std,
            "upright": upright,
        },
    }
    tensors = _tensors_of(built.net) if own and kind != "program" else {}
    return Export(probe, about, checkpoint, tensors, program, problem)


def _weights(probe: Linear | Attentive) -> dict[str, torch.Tensor]:
    if isinstance(probe, Attentive):
        return probe.tensors()
    return {name: torch.from_numpy(getattr(probe, name)) for name in ("mean", "scale", "weight", "bias")}


def _cut(built: Model, taps: Sequence[Tap], protocol: Protocol) -> int:
    """Drop the blocks after taps if these keep their values without them. Returns the number of blocks left."""
    net: Any = built.net
    depth, needed = built.spec.depth, blocks_needed(taps, built.spec.depth)
    if needed == depth:
        return depth
    device = next(net.parameters()).device
    size = built.spec.input_size
    image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)

    def seen() -> torch.Tensor:
        reader = TapReader(net, taps, protocol.pooling)
        with torch.inference_mode(), reader.attached():
            return torch.cat(reader.read(image), dim=1)

    def keep(blocks: Any) -> None:
        if isinstance(net, Adapter):
            net.keep_blocks(blocks)
        else:
            net.blocks = blocks

    whole, before = net.blocks, seen()
    try:
        keep(whole[:needed])
        if torch.allclose(seen(), before, rtol=1e-4, atol=1e-6):
            return needed
    except (IndexError, AssertionError, RuntimeError, TypeError, ValueError):
        pass  # the forward pass needs all blocks
    keep(whole)
    return depth


def _tensors_of(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """All tensors of a network; also the periods of rotary positions, which are no part of its state."""
    tensors = net.state_dict() | {name: value for name, value in net.named_buffers() if name.endswith(".periods")}
    return {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}


def _overlay(spec: ModelSpec) -> dict[str, Any] | None:
    """Return timm's `pretrained_cfg_overlay` for weights that timm would download from elsewhere; else None."""
    if not needs_download(spec) or not spec.source or spec.architecture == PLAIN_CLASS:
        return None
    if spec.source.startswith("https://"):
        return {"url": spec.source, "hf_hub_id": None, "custom_load": False}
    repo, _, name = spec.source.partition(":")
    return {"hf_hub_id": repo, "hf_hub_filename": name or None, "custom_load": False}
