"""Make a deliberately damaged copy of glyphvit's weights to try the regression check.

    python tools/damage_weights.py damaged.safetensors
    pytest benchmarks/ --probe-model=glyphvit --probe-weights=glyphvit=damaged.safetensors

Adds Gaussian noise to every matrix of one block; `--amount` is its standard deviation relative to that of the matrix.
"""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def damaged(block: int, amount: float) -> dict[str, torch.Tensor]:
    """Return glyphvit's weights with noise of `amount` standard deviations on the matrices of one block."""
    state = load_file(str(files("probebench.embedded") / "glyphvit.safetensors"))
    generator = torch.Generator().manual_seed(0)
    for name, tensor in state.items():
        if name.startswith(f"blocks.{block - 1}.") and tensor.ndim == 2:
            noise = torch.randn(tensor.shape, generator=generator)
            state[name] = (tensor.float() + amount * tensor.float().std() * noise).to(tensor.dtype)
    return state


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--block", type=int, default=6, help="layer to damage, from 1")
    parser.add_argument("--amount", type=float, default=3.0)
    args = parser.parse_args()
    save_file(damaged(args.block, args.amount), args.out)


if __name__ == "__main__":
    main()
