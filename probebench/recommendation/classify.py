"""Classify images with a probe that `probebench recommend` trained.

    python classify.py IMAGE...

Prints one line per image: path, class and probability, separated by tabs. Of a probe of any number of labels an image
it prints a line for each label with a probability of at least a half, or ``-`` if there is none; of a probe of
real-valued targets the value of each. Needs torch, torchvision, safetensors and Pillow, for a network of timm also
timm; and probe.safetensors, whose metadata describe the network and where its features are read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from safetensors.torch import load_file
from torchvision import transforms

Recipe = dict[str, Any]


def load_probe(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors and the metadata of a probe."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["probebench"])  # noqa: SIM118


def build(about: dict[str, Any], checkpoint: Path | None, device: str = "cpu") -> Any:
    """Build the frozen network up to the block that the probe reads, in evaluation mode."""
    network = about["network"]
    if network["weights"] == "program":
        return load_program(about, device)
    import timm
    from timm.models.vision_transformer import VisionTransformer

    beside = Path(__file__).with_name("network.safetensors")
    if network["weights"] == "checkpoint" and checkpoint is None and beside.is_file():
        checkpoint = beside
    if network["weights"] == "checkpoint" and checkpoint is None:
        sys.exit(f"classify.py: the weights of {about['model']} are in a separate file: add --checkpoint FILE")
    torch.manual_seed(network["seed"])  # matters for random weights only
    if network["architecture"] == "VisionTransformer":
        net: Any = VisionTransformer(depth=network["depth"], **network["kwargs"])
    else:
        pretrained = network["weights"] == "timm" and checkpoint is None
        overlay = network["source"] if pretrained else None
        net = timm.create_model(
            network["architecture"], pretrained=pretrained, pretrained_cfg_overlay=overlay, **network["kwargs"]
        )
    if checkpoint is not None:
        load_checkpoint(net, checkpoint)
    net = net.float().eval().requires_grad_(False)
    net.blocks = net.blocks[: network["blocks"]]  # no later block is read
    if digest(net) != network["digest"]:
        sys.exit(f"classify.py: these are not the weights of {about['model']} that the probe was trained on")
    return net.to(device)


def load_program(about: dict[str, Any], device: str) -> Any:
    """Load the program that computes the features; it stands for a network that is not timm's."""
    path = Path(__file__).with_name("network.pt2")
    if not path.is_file():
        sys.exit(f"classify.py: {path} with the network of {about['model']} is missing; it was written with the probe")
    if hashlib.sha256(path.read_bytes()).hexdigest() != about["network"]["digest"]:
        sys.exit(f"classify.py: {path} is not the network of {about['model']} that the probe was trained on")
    program = torch.export.load(path)
    if device != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return program.module()


def load_checkpoint(net: Any, path: Path) -> None:
    """Load the tensors that fit. `build` then checks that they are those the probe was trained on."""
    own = net.state_dict() | dict(net.named_buffers())
    with torch.no_grad():
        for name, value in load_file(path).items():
            if name in own and value.shape == own[name].shape:
                own[name].copy_(value)


def digest(net: Any) -> str:
    """Return the SHA-256 of all weights except the classifier's, in hexadecimal digits."""
    h = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        if not name.startswith("head"):
            h.update(name.encode())
            h.update(tensor.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return h.hexdigest()


def reads(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Yield the modules that a recipe reads, each with ``input`` or ``output``."""
    if "read" in recipe:
        yield recipe["read"], recipe["what"]
    parts = [recipe["to"]] if "to" in recipe else recipe.get("sum") or recipe.get("concat") or []
    for part in parts:
        yield from reads(part)


def follow(recipe: Recipe, net: Any, pooled: dict[tuple[str, str], torch.Tensor]) -> torch.Tensor:
    """Compute the features of a recipe, shape (images, width), from the averaged tokens that it reads."""
    if "read" in recipe:
        return pooled[recipe["read"], recipe["what"]]
    if "sum" in recipe:
        return torch.stack([follow(one, net, pooled) for one in recipe["sum"]]).sum(dim=0)
    if "concat" in recipe:
        return torch.cat([follow(one, net, pooled) for one in recipe["concat"]], dim=1)
    module, vector, part = net.get_submodule(recipe["apply"]), follow(recipe["to"], net, pooled), recipe["part"]
    if part == "whole":
        return module(vector)  # type: ignore[no-any-return]
    first = module.out_features
    if part == "first":
        return torch.nn.functional.linear(vector[:, :first], module.weight[:, :first])
    return torch.nn.functional.linear(vector[:, first:], module.weight[:, first:], module.bias)


def features(net: Any, recipe: Recipe, images: torch.Tensor) -> torch.Tensor:
    """Compute the features, shape (images, width), of images of shape (images, 3, size, size).

    A program takes one image at a time.
    """
    if not recipe:
        with torch.inference_mode():
            return net(images)  # type: ignore[no-any-return]
    pooled: dict[tuple[str, str], torch.Tensor] = {}

    def keep(key: tuple[str, str], tokens: torch.Tensor) -> None:
        pooled[key] = tokens.mean(dim=1, dtype=torch.float32)

    handles = []
    for key in set(reads(recipe)):
        module = net.get_submodule(key[0])
        if key[1] == "input":
            handles.append(module.register_forward_pre_hook(lambda _, args, key=key: keep(key, args[0])))
        else:
            handles.append(module.register_forward_hook(lambda _, args, output, key=key: keep(key, output)))
    try:
        with torch.inference_mode():
            getattr(net, "forward_features", net)(images)
            return follow(recipe, net, pooled)
    finally:
        for handle in handles:
            handle.remove()


def name_deep_grey(image: Image.Image) -> str:
    """Return the mode of an image that is grey with more than 8 bits per pixel; empty for other images."""
    if image.mode.startswith(("I", "F")):
        return image.mode
    # Pillow opens grey and alpha of 16 bits as RGBA, and names the mode in the file here.
    for _, _, _, args in getattr(image, "tile", ()):
        mode = args[0] if isinstance(args, tuple) and args else args
        if isinstance(mode, str) and mode.startswith("LA;16"):
            return mode
    return ""


def apply_orientation(image: Image.Image) -> Image.Image:
    """Rotate or mirror an image according to its EXIF orientation, if that is readable."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises many kinds
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, transparent pixels on white as in training."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def read_image(path: Path, about: dict[str, Any]) -> torch.Tensor:
    """Read and normalise an image: float32, shape (3, size, size)."""
    pixels = about["preprocessing"]
    with Image.open(path) as image:
        if mode := name_deep_grey(image):
            raise ValueError(f"pixels of mode {mode!r}; convert it to 8 bits per channel")
        seen = to_rgb(apply_orientation(image) if pixels.get("upright", True) else image)
    size, mode = pixels["size"], transforms.InterpolationMode(pixels["interpolation"])
    view = transforms.Compose([transforms.Resize(size, interpolation=mode), transforms.CenterCrop(size)])(seen)
    values = transforms.functional.pil_to_tensor(view).float().div_(255)
    mean, std = (torch.tensor(pixels[name]).view(3, 1, 1) for name in ("mean", "std"))
    return values.sub_(mean).div_(std)  # type: ignore[no-any-return]


def answers(scores: torch.Tensor, about: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the lines of an image: names with probabilities or values.

    Args:
        scores: float32, shape (C,), of the probe
    """
    names = about["classes"]
    if about.get("task") == "regression":
        return [(name, f"{value:.6g}") for name, value in zip(names, scores.tolist(), strict=True)]
    if about.get("task") == "multilabel":
        each = zip(names, scores.sigmoid().tolist(), strict=True)
        found = [(name, f"{value:.3f}") for name, value in each if value >= 0.5]
        return found or [("-", "")]
    likely = scores.softmax(dim=0)
    best = int(likely.argmax())
    return [(names[best], f"{likely[best]:.3f}")]


def main() -> int:
    parser = argparse.ArgumentParser(description="Classify images with a probe.")
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    parser.add_argument("--probe", type=Path, default=Path(__file__).with_name("probe.safetensors"), metavar="FILE")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights of the network, if they are in a file of their own"
    )
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for file in (args.probe, args.checkpoint):
        if file is not None and not file.is_file():
            sys.exit(f"classify.py: file {file} does not exist")
    probe, about = load_probe(args.probe)
    net = build(about, args.checkpoint, args.device)
    failed = 0
    for path in args.images:
        try:
            image = read_image(path, about)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            print(f"classify.py: {path} cannot be read ({error})", file=sys.stderr)
            failed = 1
            continue
        seen = features(net, about["features"], image[None].to(args.device)).cpu()
        logits = ((seen - probe["mean"]) / probe["scale"]) @ probe["weight"].T + probe["bias"]
        for name, value in answers(logits[0], about):
            print(f"{path}\t{name}\t{value}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
