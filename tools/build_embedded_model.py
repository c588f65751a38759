"""Pretrain glyphvit, the vision transformer that probebench ships, from scratch.

    pip install -e '.[tools]'
    python tools/build_embedded_model.py            # about 15 minutes on one core of a 2024 server CPU

Writes probebench/embedded/glyphvit.safetensors (fp16) and next to it glyphvit.json with the SHA-256 of the
weights, the recipe and the accuracy reached. A rebuild on the same CPU and library versions gives the same
bytes; elsewhere rounding differs, so compare the accuracy band that the JSON file records instead.

The task is to name printed glyphs (97 letters of four alphabets in 16 fonts; see glyphs.py). It has no
digits, noise, inverted or low-contrast images, because these are the shifts of the embedded datasets.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TIMM_FUSED_ATTN", "0")  # the unfused path is the faster one for 17 tokens on a CPU

import torch
import torch.nn.functional as F
from glyphs import CLASSES, HELD_OUT_FONTS, TRAIN_FONTS, render_all
from safetensors.torch import save_file
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer

ARCHITECTURE: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "in_chans": 3,
    "embed_dim": 64,
    "depth": 12,
    "num_heads": 2,
    "mlp_ratio": 4.0,
    "global_pool": "avg",
    "fc_norm": False,
    "num_classes": len(CLASSES),
}
OUT = Path(__file__).parent.parent / "probebench" / "embedded"


def augment(base: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Randomise geometry, stroke weight, blur and brightness; bright ink on dark ground only.

    Args:
        base: float32 in [0, 1], shape (n, 1, 40, 40), white on black

    Returns:
        float32 in [0, 1], shape (n, 1, 32, 32)
    """
    n = base.shape[0]

    def uniform(low: float, high: float, *shape: int) -> torch.Tensor:
        return torch.rand(*(shape or (n,)), generator=generator) * (high - low) + low

    # Stroke weight: grey dilation or erosion of a third of the images each.
    choice = uniform(0, 3)[:, None, None, None]
    wide = F.max_pool2d(base, 3, 1, 1)
    thin = -F.max_pool2d(-base, 3, 1, 1)
    amount = uniform(0, 1)[:, None, None, None]
    base = base + amount * torch.where(choice < 1, wide - base, torch.where(choice < 2, 0.5 * (thin - base), base * 0))

    # One sampling grid: affine map plus a smooth random displacement.
    angle, shear = uniform(-0.3, 0.3), uniform(-0.3, 0.3)
    zoom = torch.exp(uniform(math.log(0.8), math.log(1.25)))
    cos, sin = torch.cos(angle), torch.sin(angle)
    # 40 px renders seen through a 32 px window at the same scale.
    window = 32 / 40 / zoom
    row0 = torch.stack([cos * window, (shear * cos - sin) * window, uniform(-0.15, 0.15)], 1)
    row1 = torch.stack([sin * window, (shear * sin + cos) * window, uniform(-0.15, 0.15)], 1)
    grid = F.affine_grid(torch.stack([row0, row1], 1), [n, 1, 32, 32], align_corners=False)
    bumps = torch.randn(n, 2, 5, 5, generator=generator) * uniform(0, 0.06)[:, None, None, None]
    bumps = F.interpolate(bumps, size=(32, 32), mode="bicubic", align_corners=True)
    image = F.grid_sample(base, grid + bumps.permute(0, 2, 3, 1), align_corners=False)

    # Blur half of them with a 3 x 3 binomial kernel of random strength.
    tap = torch.tensor([1.0, 2.0, 1.0])
    kernel = (tap[:, None] * tap[None] / 16)[None, None]
    blurred = F.conv2d(F.pad(image, (1, 1, 1, 1), mode="replicate"), kernel)
    strength = (uniform(-1, 1)).clamp(min=0)[:, None, None, None]
    image = image + strength * (blurred - image)

    ink, ground = uniform(0.7, 1)[:, None, None, None], uniform(0, 0.15)[:, None, None, None]
    return ground + image * (ink - ground)


def normalise(image: torch.Tensor) -> torch.Tensor:
    """Normalise grey images (n, 1, h, w) in [0, 1] with ImageNet statistics: (n, 3, h, w)."""
    mean = torch.tensor(IMAGENET_DEFAULT_MEAN)[:, None, None]
    std = torch.tensor(IMAGENET_DEFAULT_STD)[:, None, None]
    return (image - mean) / std


def load(fonts: tuple[str, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = render_all(fonts)
    return torch.from_numpy(images).float()[:, None] / 255, torch.from_numpy(labels)


@torch.no_grad()
def accuracy(model: VisionTransformer, fonts: tuple[str, ...], views: int = 4) -> float:
    """Return the top-1 accuracy of the classification head on augmented renders of some fonts."""
    model.eval()
    base, labels = load(fonts)
    generator = torch.Generator().manual_seed(1)
    right = [
        (model(normalise(augment(base, generator))).argmax(1) == labels).float().mean().item() for _ in range(views)
    ]
    model.train()
    return sum(right) / views


def train(
    architecture: dict[str, Any], seed: int, steps: int, batch: int, lr: float, autocast: bool
) -> VisionTransformer:
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = VisionTransformer(**architecture).train()
    decay = [p for p in model.parameters() if p.ndim >= 2]
    rest = [p for p in model.parameters() if p.ndim < 2]
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=lr, betas=(0.9, 0.98)
    )
    warm = steps // 20

    def rate(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    images, labels = load(TRAIN_FONTS)
    print(f"{len(images)} renders, {len(CLASSES)} classes, {len(TRAIN_FONTS)} fonts", flush=True)
    start = time.perf_counter()
    for step in range(steps):
        index = torch.randint(len(images), (batch,), generator=generator)
        x, y = normalise(augment(images[index], generator)), labels[index]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = F.cross_entropy(model(x).float(), y)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 499:
            held = accuracy(model, HELD_OUT_FONTS, views=1)
            took = time.perf_counter() - start
            print(f"step {step + 1}: loss {loss.item():.3f}, held-out fonts {held:.3f}, {took:.0f} s", flush=True)
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=ARCHITECTURE["embed_dim"], help="default: that of glyphvit")
    parser.add_argument("--heads", type=int, default=ARCHITECTURE["num_heads"])
    parser.add_argument(
        "--float32", action="store_true", help="disable bfloat16; faster on CPUs without support for it"
    )
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    torch.set_num_threads(1)  # one thread: bit-identical from run to run, and no slower at this size

    architecture = ARCHITECTURE | {"embed_dim": args.width, "num_heads": args.heads}
    start = time.perf_counter()
    model = train(architecture, args.seed, args.steps, args.batch, args.lr, autocast=not args.float32)
    state = {name: tensor.half().contiguous() for name, tensor in model.state_dict().items()}
    model.load_state_dict({name: tensor.float() for name, tensor in state.items()})  # score what is shipped
    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.out / "glyphvit.safetensors"
    save_file(state, weights)
    record = {
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "parameters": sum(tensor.numel() for tensor in state.values()),
        "architecture": architecture,
        "recipe": {"seed": args.seed, "steps": args.steps, "batch": args.batch, "lr": args.lr},
        "accuracy": {
            "train_fonts": round(accuracy(model, TRAIN_FONTS), 4),
            "held_out_fonts": round(accuracy(model, HELD_OUT_FONTS), 4),
        },
        "seconds": round(time.perf_counter() - start),
        "torch": torch.__version__,
    }
    (args.out / "glyphvit.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
