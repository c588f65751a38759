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
from typing import Any, NamedTuple

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


class Read(NamedTuple):
    """A place where tokens are read, and how they become one vector an image, if they do; see `read_of`."""

    module: str
    what: str  # input or output
    pool: str  # mean, patch_mean or cls; or tokens or patch_tokens, which are kept as they are
    prefix: int  # number of tokens in front of the patches, which patch_mean and patch_tokens leave out
    norm: str  # module that is applied to the tokens before, if any


def read_of(recipe: Recipe) -> Read:
    """Return the place that a recipe reads itself."""
    pool = recipe.get("pool", "mean"), recipe.get("prefix", 0)
    return Read(recipe["read"], recipe["what"], *pool, recipe.get("norm", ""))


def reads(recipe: Recipe) -> Iterator[Read]:
    """Yield the places that a recipe and its parts read."""
    if "read" in recipe:
        yield read_of(recipe)
    parts = [recipe["to"]] if "to" in recipe else recipe.get("sum") or recipe.get("concat") or []
    for part in parts:
        yield from reads(part)


def pool_tokens(net: Any, read: Read, tokens: torch.Tensor) -> torch.Tensor:
    """Make one vector an image, float32 of shape (images, width), of tokens of shape (images, tokens, width); or keep
    the tokens, in float32."""
    if read.norm:
        tokens = net.get_submodule(read.norm).forward(tokens)  # not by a call, which would run its hooks
    if read.pool == "cls":
        return tokens[:, 0].to(torch.float32, copy=True)
    if read.pool in ("tokens", "patch_tokens"):  # copied, because later modules may change them in place
        return tokens[:, read.prefix :].to(torch.float32, copy=True)
    return tokens[:, read.prefix :].mean(dim=1, dtype=torch.float32)


def output_of(net: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Return what the network gives for images without its classifier, float32 of shape (images, width)."""
    try:
        found = net.forward_head(tokens, pre_logits=True)
    except NotImplementedError:  # of an encoder that is no classifier
        found = tokens
    if found.ndim == 4:  # tokens in a grid
        found = found.mean(dim=(1, 2))
    elif found.ndim == 3:
        found = found.mean(dim=1) if getattr(net, "cls_token", None) is None else found[:, 0]
    return found.float()  # type: ignore[no-any-return]


def follow(recipe: Recipe, net: Any, pooled: dict[Read, torch.Tensor], last: torch.Tensor) -> torch.Tensor:
    """Compute the features of a recipe, shape (images, width), or (images, tokens, width) of one that keeps tokens.

    Args:
        pooled: vectors of the tokens that it reads, or these
        last: the tokens that the network's head is given
    """
    if "head" in recipe:
        return output_of(net, last)
    if "read" in recipe:
        return pooled[read_of(recipe)]
    if "sum" in recipe:
        return torch.stack([follow(one, net, pooled, last) for one in recipe["sum"]]).sum(dim=0)
    if "concat" in recipe:
        return torch.cat([follow(one, net, pooled, last) for one in recipe["concat"]], dim=-1)
    module, vector, part = net.get_submodule(recipe["apply"]), follow(recipe["to"], net, pooled, last), recipe["part"]
    if part == "whole":
        return module(vector)  # type: ignore[no-any-return]
    first = module.out_features
    if part == "first":
        return torch.nn.functional.linear(vector[..., :first], module.weight[:, :first])
    return torch.nn.functional.linear(vector[..., first:], module.weight[:, first:], module.bias)


def features(net: Any, recipe: Recipe, images: torch.Tensor) -> torch.Tensor:
    """Compute the features, shape (images, width), or tokens, shape (images, tokens, width), of images of shape
    (images, 3, size, size).

    A program takes one image at a time.
    """
    if not recipe:
        with torch.inference_mode():
            return net(images)  # type: ignore[no-any-return]
    pooled: dict[Read, torch.Tensor] = {}

    def keep(read: Read, tokens: torch.Tensor) -> None:
        pooled[read] = pool_tokens(net, read, tokens)

    handles = []
    for read in set(reads(recipe)):
        module = net.get_submodule(read.module)
        if read.what == "input":
            handles.append(module.register_forward_pre_hook(lambda _, args, read=read: keep(read, args[0])))
        else:
            handles.append(module.register_forward_hook(lambda _, args, output, read=read: keep(read, output)))
    with torch.inference_mode():
        try:
            last = getattr(net, "forward_features", net)(images)
        finally:
            for handle in handles:  # before modules are applied to vectors
                handle.remove()
        return follow(recipe, net, pooled, last)


def score(probe: dict[str, torch.Tensor], seen: torch.Tensor) -> torch.Tensor:
    """Compute the scores of a probe, shape (images, C), of features; or of tokens, if it attends to them."""
    if "queries" not in probe:
        return ((seen - probe["mean"]) / probe["scale"]) @ probe["weight"].T + probe["bias"]
    tokens = (seen.bfloat16().float() - probe["mean"]) / probe["scale"]  # rounded as in training
    attention = (tokens @ probe["queries"].T * tokens.shape[2] ** -0.5).softmax(dim=1)
    gathered = attention.transpose(1, 2) @ tokens  # by each query, then projected to its own part
    parts: torch.Tensor = (gathered.transpose(0, 1) @ probe["values"]).transpose(0, 1).flatten(1)
    return parts @ probe["weight"].T + probe["bias"]


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


def find_images(paths: list[Path]) -> list[Path]:
    """Return the files, and in the place of a folder the images in it and in its folders, by name."""
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        kinds = Image.registered_extensions()
        inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in kinds and file.is_file())
        if not inside:
            sys.exit(f"classify.py: folder {path} has no images")
        found += inside
    return found


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
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="files, or folders of them")
    parser.add_argument("--probe", type=Path, default=Path(__file__).with_name("probe.safetensors"), metavar="FILE")
    parser.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="weights of the network, if they are in a file of their own"
    )
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    for file in (args.probe, args.checkpoint):
        if file is not None and not file.is_file():
            sys.exit(f"classify.py: file {file} does not exist")
    images = find_images(args.images)
    probe, about = load_probe(args.probe)
    net = build(about, args.checkpoint, args.device)
    failed = 0
    for path in images:
        try:
            image = read_image(path, about)
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            print(f"classify.py: {path} cannot be read ({error})", file=sys.stderr)
            failed = 1
            continue
        seen = features(net, about["features"], image[None].to(args.device)).cpu()
        for name, value in answers(score(probe, seen)[0], about):
            print(f"{path}\t{name}\t{value}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
