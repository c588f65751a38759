"""Pool the tokens of an image to one vector, in one or several ways at once; or keep them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from probebench.errors import LayoutError

PARTS = ("mean", "patch_mean", "cls", "tokens", "patch_tokens")
"""The poolings that others are made of: ``cls+patch_mean`` is ``cls`` and ``patch_mean`` side by side. The last two are
the tokens that ``mean`` and ``patch_mean`` are the means of."""


class TokenPooling:
    """Pools the tokens of a network.

    ``mean`` is the average over all tokens, ``patch_mean`` that over all but the prefix tokens (class, distillation and
    register tokens, however many), ``cls`` the class token.

    Args:
        net: a network in the form of timm's
    """

    def __init__(self, net: nn.Module) -> None:
        self._name = type(getattr(net, "inner", net)).__name__
        self._prefix = int(getattr(net, "num_prefix_tokens", 0))
        # NaFlexVit keeps its tokens in the module that embeds. Wherever there is a class token, timm puts it first.
        owners = (net, getattr(net, "embeds", None))
        self.has_class_token = any(getattr(owner, "cls_token", None) is not None for owner in owners)

    def check(self, pooling: str) -> None:
        """Raises LayoutError for a pooling that the network has no tokens for."""
        if "cls" in pooling.split("+") and not self.has_class_token:
            raise LayoutError(f"{self._name} has no class token to pool; choose mean or patch_mean")

    def pool(self, tokens: torch.Tensor, parts: Iterable[str]) -> dict[str, torch.Tensor]:
        """Pool tokens of shape (batch, tokens, width) to float32 of shape (batch, width), for each of some `PARTS`.

        Tokens that are kept are float32 of shape (batch, tokens, width).
        """
        if tokens.ndim != 3:
            raise LayoutError(
                f"tokens must have the shape (batch, tokens, width) to be pooled, got {tuple(tokens.shape)}"
            )
        wanted, found, first = set(parts), {}, self._prefix
        if "cls" in wanted:
            found["cls"] = tokens[:, 0].to(torch.float32, copy=True)  # a view would keep all tokens
        # Copied, because what comes behind a site may change them in place.
        for part, start in (("tokens", 0), ("patch_tokens", first)):
            if part in wanted:
                found[part] = tokens[:, start:].to(torch.float32, copy=True)
        if "patch_mean" in wanted:
            found["patch_mean"] = _mean(tokens[:, first:])
        if "mean" in wanted and "patch_mean" in wanted:
            # From the same sum, because going through all tokens is what takes time.
            count = tokens.shape[1]
            prefix = tokens[:, :first].sum(dim=1, dtype=torch.float32)
            found["mean"] = (prefix + found["patch_mean"] * (count - first)) / count if first else found["patch_mean"]
        elif "mean" in wanted:
            found["mean"] = _mean(tokens)
        return found


def _mean(tokens: torch.Tensor) -> torch.Tensor:
    if tokens.device.type == "cpu" and tokens.dtype != torch.float32:
        # The same number, image by image: over a whole batch of wide tokens torch takes up to nine times as long.
        return torch.stack([image.mean(dim=0, dtype=torch.float32) for image in tokens])
    return tokens.mean(dim=1, dtype=torch.float32)
