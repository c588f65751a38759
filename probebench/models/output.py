"""Find the features in what a network itself returns for an image: those that its users get without probebench."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from probebench.errors import LayoutError
from probebench.models.adapter import Adapter
from probebench.models.layouts import class_path

_NAMES = ("pooler_output", "image_embeds", "x_norm_clstoken", "last_hidden_state")
"""Of results with several parts; the first that is there is meant."""


def output_of(net: nn.Module, result: Any) -> torch.Tensor:
    """Return the features of images, of shape (batch, width), from what a network's forward pass returned.

    Of a timm network they are those of ``timm.create_model(name, num_classes=0)``: the class token, the average or the
    attention pooling that its head reads. Other networks return them themselves; where they return tokens, the class
    token is taken, as their own classifiers do, or without one the average.

    Args:
        net: in the form of timm's
        result: of its ``forward_features``

    Raises:
        LayoutError: if there is nothing of such a shape
    """
    found = _run_head(net, result)
    if isinstance(found, torch.Tensor) and found.ndim == 4:  # in a grid: (batch, height, width of the grid, width)
        found = found.mean(dim=(1, 2))
    elif isinstance(found, torch.Tensor) and found.ndim == 3:
        found = found.mean(dim=1) if getattr(net, "cls_token", None) is None else found[:, 0]
    if not isinstance(found, torch.Tensor) or found.ndim != 2:
        shape = tuple(found.shape) if isinstance(found, torch.Tensor) else type(found).__name__
        raise LayoutError(
            f"{class_path(getattr(net, 'net', net))} returns {shape} for images, from which the tap 'output' cannot be "
            "read: let its forward return a tensor of the shape (images, width), or leave the tap out"
        )
    return found.float()


def describe_output(net: nn.Module) -> str:
    """Return a text that changes when what is read there does, as far as the network's modules do not show it."""
    return f"{class_path(getattr(net, 'net', net))} {getattr(net, 'global_pool', None)!r}"


def _run_head(net: nn.Module, result: Any) -> Any:
    head: Any = None if isinstance(net, Adapter) else getattr(net, "forward_head", None)
    if head is None:
        return _find_tensor(result)
    try:
        return head(result, pre_logits=True)
    except NotImplementedError:  # of an encoder that is no classifier
        return result


def _find_tensor(result: Any) -> Any:
    """Return the features among the parts of a result: under a known name, or else the first of a fitting shape."""
    if isinstance(result, Mapping) or hasattr(result, "last_hidden_state"):
        parts: Mapping[str, Any] = result if isinstance(result, Mapping) else vars(result)
        named = next((parts[name] for name in _NAMES if parts.get(name) is not None), None)
        return _find_tensor(list(parts.values())) if named is None else named
    if isinstance(result, tuple | list):
        tensors = [part for part in result if isinstance(part, torch.Tensor)]
        return next((part for part in tensors if part.ndim == 2), tensors[0] if tensors else None)
    return result
