"""Convert tensors to the form of a network, and find what does not fit and what was lost on the way."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import nn

from probebench.models.quiet import without_logs
from probebench.models.timm_spec import classifier_tensors
from probebench.models.values import values_of

PERIODS = "rope.periods"
"""timm's name of the periods of rotary positions."""

_PATCHES = "patch_embed.proj.weight"

NO_PART = re.compile(
    r"(?:\w*head\w*|decoder\w*|proj\w*|predict\w*|classif\w*|pooler|fc|mask_token|mask_embed|lm_\w+|logit_\w+|text\w*"
    r"|pre_logits|local_cls_norm|dino_\w+|ibot_\w+|loss\w*|criterion|queue\w*|center)\b"
)
"""What lies beside a network in a checkpoint: heads, decoders, other towers, losses. Matched at the start of a name."""

_UNUSED = re.compile(
    r"(?:relative_position_index|attn_mask|num_batches_tracked|bias_mask|pos_embed|position\w*|positional_\w+)$"
)
"""The ends of names of tensors that timm computes anew, or resamples."""

_TEXT = ("transformer", "token_embedding", "ln_final")
"""Parts of CLIP's text tower, beside a network under ``visual.``."""


class Problems(NamedTuple):
    """Differences from the tensors of the network, a phrase each; all empty if the tensors fit."""

    missing: list[str]
    unexpected: list[str]
    shapes: list[str]


def find_problems(net: nn.Module, state: Mapping[str, torch.Tensor]) -> Problems:
    want = net.state_dict()
    return Problems(
        missing=[f"{name} is missing" for name in want if name not in state],
        unexpected=[f"{name} is not part of the network" for name in state if name not in want],
        shapes=[
            f"{name} has shape {tuple(state[name].shape)}, not {tuple(tensor.shape)}"
            for name, tensor in want.items()
            if name in state and state[name].shape != tensor.shape
        ],
    )


def convert(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Convert tensors to the form of a network, if timm knows how, and replace a classifier that does not fit."""
    want, patches = net.state_dict(), state.get(_PATCHES)
    state = dict(_convert_by_timm(net, state) if any(find_problems(net, state)) else state)
    # timm also resamples patch embeddings of another patch size, but that is another network.
    if patches is not None and _PATCHES in want and patches.ndim == want[_PATCHES].ndim == 4:
        state[_PATCHES] = patches
    for name, tensor in state.items():  # (width,) and (1, 1, width) are the same
        if name in want and _squeezed(tensor) == _squeezed(want[name]):
            state[name] = tensor.reshape(want[name].shape)
    # A fine-tuned network has another classifier, which no tap reads.
    for name in classifier_tensors(net, state):
        if name not in want or name not in state or state[name].shape != want[name].shape:
            state.pop(name, None)
            if name in want:
                state[name] = want[name]
    if "mask_token" not in want:
        state.pop("mask_token", None)
    return state


def _squeezed(tensor: torch.Tensor) -> list[int]:
    return [size for size in tensor.shape if size != 1]


def _convert_by_timm(net: nn.Module, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Apply timm's conversion of checkpoints from other code: names, fused matrices, position tables."""
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        with _silence():
            return dict(convert(dict(state), net))
    except Exception:  # written for the checkpoints it knows; what does not fit is reported afterwards
        return state


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep what timm prints, logs and warns of while it converts out of our output."""
    with without_logs(), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def find_lost(net: nn.Module, state: Mapping[str, torch.Tensor], tensors: Mapping[str, torch.Tensor]) -> list[str]:
    """List the tensors of a file whose values the converted ones do not have: dropped by timm's conversion, or changed.

    Values are compared, not names: a tensor may have become a third of another, or been turned.
    """
    classifier = set(classifier_tensors(net, state))
    changed = [name for name, tensor in state.items() if tensors.get(name) is not tensor and name not in classifier]
    changed = [name for name in changed if _counts(net, state, name)]
    if not changed:
        return []
    held = {values_of(part) for tensor in tensors.values() for part in (tensor, *_thirds(tensor))}
    return [
        name
        for name in changed
        if values_of(state[name]) not in held
        # Query, key and value of a bias may have gone different ways, and the key's be left out as zeros.
        and not all(values_of(part) in held or not part.any() for part in _thirds(state[name]) or (state[name],))
    ]


def _counts(net: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> bool:
    """Return whether a tensor that timm's conversion changed or dropped would change the features."""
    if _UNUSED.search(name) or NO_PART.match(name.removeprefix("visual.")):
        return False
    if name.partition(".")[0] in _TEXT:
        return False
    if name == "cls_token" and "register_tokens" in state:
        return False  # timm adds its position to it
    if name == "rope_embed.periods" and PERIODS in dict(net.named_buffers()):
        return False  # see `_other_periods`
    return bool(state[name].any())


def _thirds(tensor: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return tensor.chunk(3) if tensor.ndim and len(tensor) % 3 == 0 else ()
