"""Read the ``.npz`` files of Google's JAX code for vision transformers (vision_transformer, big_vision)."""

from __future__ import annotations

import re
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch

from probebench._format import list_some
from probebench.errors import WeightsError, describe
from probebench.models.values import values_of

_HEADS = re.compile(r"(?:^|/)(?:head|pre_logits)/|^params/(?:txt|t|b)(?:/|$)|^opt/state/|^step$")
"""Arrays that are no part of the network: classifiers, a text tower, temperatures, the optimiser."""


def read_npz(net: Any, path: Path, where: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a file under timm's names, which timm itself gives them.

    Args:
        net: a network of timm that the weights are for; it is not changed
        where: name of the file in error messages

    Raises:
        WeightsError: if timm cannot read the file for the network, or leaves an array of it out
    """
    if not hasattr(net, "load_pretrained"):
        raise WeightsError(
            f"{where}: arrays of numpy (.npz), which timm reads for its VisionTransformer only, not for "
            f"{type(net).__name__}"
        )
    copy = deepcopy(net)
    for tensor in copy.state_dict().values():
        tensor.fill_(float("nan"))  # so that it shows what was loaded
    try:
        copy.load_pretrained(str(path))
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in arrays.files if not _HEADS.search(name)}
    except KeyError as error:
        raise WeightsError(f"{where}: the file has no {error}; it is of another network") from error
    except Exception as error:  # timm, numpy and torch raise many kinds
        raise WeightsError(f"{where}: timm cannot load it into {type(net).__name__} ({describe(error)})") from error
    state = {name: tensor for name, tensor in copy.state_dict().items() if not tensor.isnan().any()}
    positions = next((values for name, values in found.items() if name.endswith("pos_embedding")), None)
    if positions is not None:  # timm has resampled them without a word, if their number is another one
        state["pos_embed"] = torch.from_numpy(np.array(positions)).reshape(1, -1, positions.shape[-1])
    if lost := _find_lost(found, state, depth=len(copy.blocks)):
        raise WeightsError(f"{where}: {list_some(lost, 3)} have no place in the network; it is of another network")
    return state


def _find_lost(found: dict[str, Any], state: dict[str, torch.Tensor], depth: int) -> list[str]:
    """List the arrays whose values no tensor has, whole or as a third or a half; blocks may lie in one array."""
    held = set()
    for tensor in state.values():
        for count in (1, 2, 3):
            if tensor.ndim and len(tensor) % count == 0:
                held |= {values_of(part) for part in tensor.chunk(count)}
    lost = []
    for name, array in found.items():
        stacked = "/encoderblock/" in name
        parts = array if stacked else [array]
        if (stacked and len(array) != depth) or any(
            values_of(torch.from_numpy(np.array(part, dtype=np.float32))) not in held for part in parts
        ):
            lost.append(name)
    return lost
