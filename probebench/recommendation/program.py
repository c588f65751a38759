"""Write a network up to some taps as a program of `torch.export`, which runs without the library that it came from."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence

import torch
from torch import nn

from probebench.catalog.taps import Tap
from probebench.features.hooks import TapReader
from probebench.models.adapter import Adapter


class _Features(nn.Module):
    """From images, float32 of shape (images, 3, size, size), to the features of some taps side by side."""

    def __init__(self, net: Adapter, taps: Sequence[Tap], pooling: str) -> None:
        super().__init__()
        self.net = net
        self.reader = TapReader(net, taps, pooling)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.cat(self.reader.read(images), dim=1)


def export_program(net: Adapter, taps: Sequence[Tap], pooling: str, size: int) -> bytes:
    """Return the content of a file for `torch.export.load`: the features of one image at some taps.

    Raises:
        Exception: of torch, of many kinds, for a network that it cannot export
    """
    features = _Features(net, taps, pooling).eval()
    device = next(net.parameters()).device
    with warnings.catch_warnings(), torch.no_grad(), features.reader.attached():
        warnings.simplefilter("ignore")
        program = torch.export.export(features, (torch.zeros(1, 3, size, size, device=device),), strict=False)
        buffer = io.BytesIO()
        torch.export.save(program, buffer)
    return buffer.getvalue()
