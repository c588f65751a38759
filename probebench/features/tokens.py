"""Tokens of chosen taps, kept as they are instead of pooled.

Tokens take as many times the space of a pooled vector as an image has tokens, so they are kept in bfloat16. In a row of
features all tokens of an image lie one behind the other. On the host, where numpy has no bfloat16, its bits are kept as
uint16; on a device they are torch's bfloat16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from probebench.catalog.protocols import Protocol
from probebench.catalog.taps import OUTPUT, TOKENS, Tap
from probebench.errors import ProbebenchError
from probebench.features.hooks import read_empty
from probebench.models.build import Model


def tokens_of(tap: Tap, pooling: str) -> Tap:
    """The tap that has the tokens of another, of those that a pooling is the mean of.

    Args:
        pooling: ``mean`` for all tokens, ``patch_mean`` for those of the patches
    """
    return replace(tap, pooling=TOKENS[pooling])


def flatten(features: torch.Tensor) -> torch.Tensor:
    """Make rows of what a `TapReader` reads at a tap.

    Args:
        features: pooled, float32 of shape (batch, width), which is returned as it is; or tokens, float32 of shape
            (batch, tokens, width)

    Returns:
        tokens as bfloat16 of shape (batch, tokens * width)
    """
    return features if features.ndim == 2 else features.flatten(1).to(torch.bfloat16)


def check_tokens(taps: Sequence[Tap], protocol: Protocol) -> None:
    """Check that a protocol can read the taps of a sweep, as far as tokens are concerned.

    Raises:
        ProbebenchError: naming the first tap without tokens, or with a pooling of its own, under a protocol that reads
            tokens; or one that is called tokens
    """
    for tap in taps:
        if tap.keeps_tokens:
            raise ProbebenchError(f"{tap.id} is no case: name {tap.plain.id}, and a protocol that reads its tokens")
        if protocol.reads_tokens and not tap.pools:
            what = "what the network returns" if tap.layer == OUTPUT else "made of pooled taps"
            raise ProbebenchError(
                f"protocol {protocol.name} reads tokens, and {tap.id} has none, as it is {what}: leave it out"
            )
        if protocol.reads_tokens and tap.pooling:
            raise ProbebenchError(
                f"protocol {protocol.name} pools tokens by attention, and cannot read {tap.id}: name {tap.plain.id}"
            )


def count_tokens(model: Model, taps: Sequence[Tap], *, pooling: str, device: str) -> int:
    """The most tokens that an image has at some taps, measured by sending an empty image through the network.

    Args:
        pooling: as in `tokens_of`

    Raises:
        LayoutError: if the network cannot be read
    """
    read = read_empty(model, [tokens_of(tap, pooling) for tap in taps], pooling=pooling, device=device)
    return max(values.shape[1] for values in read)
