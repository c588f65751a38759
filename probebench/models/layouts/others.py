"""The blocks and networks of other libraries than timm: transformers, open_clip, torchvision, DINOv2.

All of them are pre-norm blocks, whose parts have other names. transformers 5 has renamed many parts, and both names are
listed.
"""

from __future__ import annotations

from collections.abc import Mapping

from probebench.models.layouts.layout import Affine, Concat, Layout, NetworkLayout, Read, Site, linear

_NORM = ("LayerNorm", "LayerNormFp32", "RMSNorm")
_LINEAR = ("Linear",)


def _pre_norm(
    name: str,
    blocks: tuple[str, ...],
    norms: tuple[str, str],
    attention: str,
    hidden: tuple[str, ...],
    back: str,
    *,
    fused: str = "",
    absent: tuple[str, ...] = (),
    modules: Mapping[str, tuple[str, ...]] | None = None,
) -> Layout:
    """Describe a pre-norm block.

    Args:
        norms: before attention, and before the feed-forward network
        attention: the linear layer at the end of attention
        hidden: the linear layers that the feed-forward network begins with: one, or a gate and a value
        back: the linear layer that the feed-forward network ends with
        fused: the attention module, if it applies its last linear layer without calling it
        modules, absent: as in `Layout`, besides these
    """
    ln2 = Read(norms[1], "output")
    parts = tuple(Affine(each, ln2) for each in hidden)
    sites: dict[str, Site] = {
        "ln1": Read(norms[0], "output"),
        "mha": Read(fused, "output") if fused else linear(attention),
        "rc1": Read(norms[1], "input"),
        "ln2": ln2,
        "fc1": parts[0] if len(parts) == 1 else Concat(parts),
        "act": Read(back, "input"),
        "fc2": linear(back),
        "rc2": Read("", "output"),
    }
    needed = dict.fromkeys(norms, _NORM) | dict.fromkeys((*hidden, back), _LINEAR) | dict(modules or {})
    needed |= {fused: ("MultiheadAttention",)} if fused else {attention: _LINEAR}
    return Layout(name, blocks, sites, needed, absent)


def _classes(*names: str) -> tuple[str, ...]:
    """Class paths in transformers, from the names of a model and of a class in it."""
    parts = (name.partition(".") for name in names)
    return tuple(f"transformers.models.{model}.modeling_{model}.{each}" for model, _, each in parts)


_VIT = _classes(
    "beit.BeitLayer",
    "data2vec.Data2VecVisionLayer",
    "deit.DeiTLayer",
    "ijepa.IJepaLayer",
    "vit.ViTLayer",
    "vit_mae.ViTMAELayer",
    "vit_msn.ViTMSNLayer",
)
_DINO = _classes("dinov2.Dinov2Layer", "dinov2_with_registers.Dinov2WithRegistersLayer", "dinov3_vit.DINOv3ViTLayer")
_CLIP = _classes("clip.CLIPEncoderLayer", "siglip.SiglipEncoderLayer")
_VIT_NORMS = ("layernorm_before", "layernorm_after")
_NORMS = ("norm1", "norm2")
_CLIP_NORMS = ("layer_norm1", "layer_norm2")
_OUT, _OLD_OUT = "attention.o_proj", "attention.output.dense"
_GATED = ("mlp.gate_proj", "mlp.up_proj")

OTHERS = (
    _pre_norm("transformers ViT", _VIT, _VIT_NORMS, _OUT, ("mlp.fc1",), "mlp.fc2"),
    _pre_norm("transformers 4 ViT", _VIT, _VIT_NORMS, _OLD_OUT, ("intermediate.dense",), "output.dense"),
    _pre_norm("transformers DINOv2", _DINO, _NORMS, _OUT, ("mlp.fc1",), "mlp.fc2"),
    _pre_norm("transformers 4 DINOv2", _DINO, _NORMS, _OLD_OUT, ("mlp.fc1",), "mlp.fc2"),
    _pre_norm("transformers 4 DINOv2 gated", _DINO, _NORMS, _OLD_OUT, ("mlp.weights_in",), "mlp.weights_out"),
    _pre_norm("transformers gated", _DINO, _NORMS, _OUT, _GATED, "mlp.down_proj"),
    _pre_norm("transformers DINOv3", _DINO, _NORMS, _OUT, ("mlp.up_proj",), "mlp.down_proj", absent=("mlp.gate_proj",)),
    _pre_norm("transformers CLIP", _CLIP, _CLIP_NORMS, "self_attn.out_proj", ("mlp.fc1",), "mlp.fc2"),
    _pre_norm(
        "open_clip",
        ("open_clip.transformer.ResidualAttentionBlock",),
        ("ln_1", "ln_2"),
        "attn.out_proj",
        ("mlp.c_fc",),
        "mlp.c_proj",
        fused="attn",
        absent=("ln_1_kv",),
    ),
    _pre_norm(
        "open_clip custom",
        ("open_clip.transformer.CustomResidualAttentionBlock",),
        ("ln_1", "ln_2"),
        "attn.out_proj",
        ("mlp.c_fc",),
        "mlp.c_proj",
        modules={"ln_attn": ("Identity",), "mlp.ln": ("Identity",)},
    ),
    _pre_norm(
        "torchvision",
        ("torchvision.models.vision_transformer.EncoderBlock",),
        ("ln_1", "ln_2"),
        "self_attention.out_proj",
        ("mlp.0",),
        "mlp.3",
        fused="self_attention",
    ),
    _pre_norm(
        "timm's names",
        ("dinov2.layers.block.Block", "dinov2.layers.block.NestedTensorBlock"),
        _NORMS,
        "attn.proj",
        ("mlp.fc1",),
        "mlp.fc2",
    ),
    _pre_norm(
        "timm's names, gated",
        ("dinov2.layers.block.Block", "dinov2.layers.block.NestedTensorBlock"),
        _NORMS,
        "attn.proj",
        ("mlp.w12",),
        "mlp.w3",
    ),
)

_CLASS = "embeddings.cls_token"
_BLOCKS = ("layers", "encoder.layer")

NETWORKS = (
    NetworkLayout(
        "transformers ViT",
        _classes("vit.ViTModel", "vit_mae.ViTMAEModel", "vit_msn.ViTMSNModel"),
        _BLOCKS,
        "layernorm",
        class_token=_CLASS,
    ),
    NetworkLayout(
        "transformers DeiT",
        _classes("deit.DeiTModel"),
        _BLOCKS,
        "layernorm",
        class_token=_CLASS,
        other_tokens=("embeddings.distillation_token",),
    ),
    NetworkLayout("transformers I-JEPA", _classes("ijepa.IJepaModel"), _BLOCKS, "layernorm"),
    NetworkLayout(
        "transformers BEiT",
        _classes("beit.BeitModel", "data2vec.Data2VecVisionModel"),
        _BLOCKS,
        "layernorm",
        pooled_norm="pooler.layernorm",
        class_token=_CLASS,
    ),
    NetworkLayout(
        "transformers DINOv2",
        _classes("dinov2.Dinov2Model", "dinov2_with_registers.Dinov2WithRegistersModel"),
        ("encoder.layer", "layers"),
        "layernorm",
        class_token=_CLASS,
        other_tokens=("embeddings.register_tokens",),
    ),
    NetworkLayout(
        "transformers DINOv3",
        _classes("dinov3_vit.DINOv3ViTModel"),
        ("model.layer", "layer"),
        "norm",
        class_token=_CLASS,
        other_tokens=("embeddings.register_tokens",),
    ),
    NetworkLayout(
        "transformers CLIP",
        _classes("clip.CLIPVisionModel", "clip.CLIPVisionTransformer"),
        ("encoder.layers", "vision_model.encoder.layers"),
        ("post_layernorm", "vision_model.post_layernorm"),
        class_token="embeddings.class_embedding",
    ),
    NetworkLayout(
        "transformers SigLIP",
        _classes("siglip.SiglipVisionModel", "siglip.SiglipVisionTransformer"),
        ("encoder.layers", "vision_model.encoder.layers"),
        ("post_layernorm", "vision_model.post_layernorm"),
    ),
    NetworkLayout(
        "open_clip",
        ("open_clip.transformer.VisionTransformer",),
        "transformer.resblocks",
        "ln_post",
        class_token="class_embedding",
        absent=("attn_pool",),  # of CoCa, in front of the last norm
    ),
    NetworkLayout(
        "torchvision",
        ("torchvision.models.vision_transformer.VisionTransformer",),
        "encoder.layers",
        "encoder.ln",
        class_token="class_token",
    ),
    NetworkLayout(
        "DINOv2",
        ("dinov2.models.vision_transformer.DinoVisionTransformer",),
        "blocks",
        "norm",
        class_token="cls_token",
        other_tokens=("register_tokens",),
    ),
)
