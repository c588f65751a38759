"""Translate the names that other code gives the tensors of a vision transformer to those that timm reads.

Each family is a table of substitutions, which are tried in their order on every name. Query, key and value in tensors
of their own become one. Sources: the modeling files of transformers 4 and 5, the vision transformers of mmpretrain and
torchvision, and the training code of DINOv2 and DeiT III.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Family:
    """The names that some code gives.

    Attributes:
        name: of the code
        mark: a pattern that one of its names has, and no name of timm
        rules: patterns, and what is put in their places
    """

    name: str
    mark: str
    rules: tuple[tuple[str, str], ...]


_ATTENTION = (
    (r"\.attention\.attention\.(query|key|value)\.", r".attn.\1."),
    (r"\.attention\.(?:self\.)?(query|key|value)\.", r".attn.\1."),
    (r"\.(?:attention|self_attn)\.([qkv])_proj\.", r".attn.\1."),
    (r"\.attn\.query\.", ".attn.q."),
    (r"\.attn\.key\.", ".attn.k."),
    (r"\.attn\.value\.", ".attn.v."),
    (r"\.attention\.output\.dense\.", ".attn.proj."),
    (r"\.(?:attention|self_attn)\.(?:o|out)_proj\.", ".attn.proj."),
)
_EMBEDDINGS = (
    (r"(^|\.)embeddings\.(cls_token|mask_token)$", r"\1\2"),
    (r"(^|\.)embeddings\.distillation_token$", r"\1dist_token"),
    (r"(^|\.)embeddings\.position_embeddings$", r"\1pos_embed"),
    (r"(^|\.)embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)$", r"\1patch_embed.proj.\2"),
)
_VIT = (
    *_EMBEDDINGS,
    (r"(^|\.)embeddings\.register_tokens$", r"\1register_tokens"),
    (r"(^|\.)encoder\.layer\.(\d+)\.", r"\1blocks.\2."),
    (r"(^|\.)layers?\.(\d+)\.", r"\1blocks.\2."),
    *_ATTENTION,
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"(^|\.)layernorm\.(weight|bias)$", r"\1norm.\2"),
)

FAMILIES = (
    Family(
        "chunks of blocks (DINOv2)", r"(^|\.)blocks\.\d+\.\d+\.", ((r"(^|\.)blocks\.\d+\.(\d+)\.", r"\1blocks.\2."),)
    ),
    Family("DeiT III", r"\.gamma_[12]$", ((r"\.gamma_([12])$", r".ls\1.gamma"),)),
    Family(
        "DINOv3 of transformers",
        r"(^|\.)embeddings\.patch_embeddings\.weight$",
        (
            *_EMBEDDINGS,
            (r"(^|\.)embeddings\.register_tokens$", r"\1storage_tokens"),
            (r"(^|\.)(?:model\.)?layer\.(\d+)\.", r"\1blocks.\2."),
            *_ATTENTION,
            (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
            (r"\.mlp\.up_proj\.", ".mlp.fc1."),
            (r"\.mlp\.down_proj\.", ".mlp.fc2."),
        ),
    ),
    Family(
        "BEiT of transformers",
        r"\.lambda_1$",
        (
            (r"\.attention\.(?:attention\.)?(?:query|q_proj)\.bias$", ".attn.q_bias"),
            (r"\.attention\.(?:attention\.)?(?:value|v_proj)\.bias$", ".attn.v_bias"),
            (r"\.(?:attention\.){0,2}relative_position_bias\.(relative_\w+)$", r".attn.\1"),
            (r"\.lambda_([12])$", r".gamma_\1"),
            (r"(^|\.)pooler\.layernorm\.(weight|bias)$", r"\1fc_norm.\2"),
            *_VIT,
        ),
    ),
    Family("transformers", r"(^|\.)embeddings\.patch_embeddings\.projection\.", _VIT),
    Family(
        "CLIP or SigLIP of transformers",
        r"(^|\.)embeddings\.patch_embedding\.weight$",
        (
            (r"(^|\.)embeddings\.class_embedding$", r"\1cls_token"),
            (r"(^|\.)embeddings\.position_embedding\.weight$", r"\1pos_embed"),
            (r"(^|\.)embeddings\.patch_embedding\.(weight|bias)$", r"\1patch_embed.proj.\2"),
            (r"(^|\.)pre_layrnorm\.", r"\1norm_pre."),
            (r"(^|\.)post_layernorm\.", r"\1norm."),
            (r"(^|\.)encoder\.layers\.(\d+)\.", r"\1blocks.\2."),
            (r"(^|\.)head\.probe$", r"\1attn_pool.latent"),
            (r"(^|\.)head\.attention\.in_proj_(weight|bias)$", r"\1attn_pool.in_proj.\2"),
            (r"(^|\.)head\.attention\.out_proj\.", r"\1attn_pool.proj."),
            (r"(^|\.)head\.layernorm\.", r"\1attn_pool.norm."),
            (r"(^|\.)head\.mlp\.", r"\1attn_pool.mlp."),
            *_ATTENTION,
            (r"\.layer_norm([12])\.", r".norm\1."),
        ),
    ),
    Family(
        "OpenMMLab",
        r"\.ffn\.layers\.",
        (
            (r"(^|\.)patch_embed\.projection\.", r"\1patch_embed.proj."),
            (r"\.ffn\.layers\.0\.0\.", ".mlp.fc1."),
            (r"\.ffn\.layers\.1\.", ".mlp.fc2."),
            (r"(^|\.)layers\.(\d+)\.", r"\1blocks.\2."),
            (r"\.attn\.gamma1\.weight$", ".ls1.gamma"),
            (r"\.ffn\.gamma2\.weight$", ".ls2.gamma"),
            (r"\.attn\.attn\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
            (r"\.attn\.attn\.out_proj\.", ".attn.proj."),
            (r"(\.\d+)\.ln([12])\.", r"\1.norm\2."),
            (r"(^|[a-z_]\.)(?:ln1|norm1)\.(weight|bias)$", r"\1norm.\2"),
        ),
    ),
    Family(
        "torchvision",
        r"(^|\.)encoder\.layers\.encoder_layer_\d+\.",
        (
            (r"(^|\.)class_token$", r"\1cls_token"),
            (r"(^|\.)conv_proj\.", r"\1patch_embed.proj."),
            (r"(^|\.)encoder\.pos_embedding$", r"\1pos_embed"),
            (r"(^|\.)encoder\.layers\.encoder_layer_(\d+)\.", r"\1blocks.\2."),
            (r"(^|\.)encoder\.ln\.", r"\1norm."),
            (r"\.ln_([12])\.", r".norm\1."),
            (r"\.self_attention\.in_proj_(weight|bias)$", r".attn.qkv.\1"),
            (r"\.self_attention\.out_proj\.", ".attn.proj."),
            (r"\.mlp\.(?:linear_1|0)\.", ".mlp.fc1."),
            (r"\.mlp\.(?:linear_2|3)\.", ".mlp.fc2."),
            (r"(^|\.)heads\.", r"\1head."),
        ),
    ),
)

_QUERY = re.compile(r"^(.*\.attn\.)q\.(weight|bias)$")
_POOL = re.compile(r"^(.*attn_pool\.)in_proj\.(weight|bias)$")


def families_of(names: Mapping[str, object]) -> list[Family]:
    """The families that some of the names are of."""
    return [family for family in FAMILIES if any(re.search(family.mark, name) for name in names)]


def rename(family: Family, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors under the names that the rules of a family give, with query, key and value as one."""
    found = {}
    for name, tensor in state.items():
        for pattern, put in family.rules:
            name = re.sub(pattern, put, name)
        found[name] = tensor
    return _fuse(found)


def _fuse(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    for name in list(state):
        if match := _POOL.match(name):
            start, end = match.groups()
            query, *others = state.pop(name).chunk(3)
            state |= {f"{start}q.{end}": query, f"{start}kv.{end}": torch.cat(others)}
            continue
        match = _QUERY.match(name)
        if match is None:
            continue
        start, end = match.groups()
        query, value = state[name], state.get(f"{start}v.{end}")
        if value is None:
            continue
        key = state.get(f"{start}k.{end}", torch.zeros_like(query))  # a bias of keys has no effect, and may be left out
        for part in "qkv":
            state.pop(f"{start}{part}.{end}", None)
        state[f"{start}qkv.{end}"] = torch.cat([query, key, value])
    return state
