"""The blocks that timm builds. docs/architectures.md shows the tables and which of timm's networks they cover."""

from __future__ import annotations

from typing import Literal

from probebench.models.layouts.layout import Affine, Concat, Layout, Read, Site, Sum, linear

# Attention and feed-forward networks, with timm's names of their parts.
_ATTENTION = {
    "attn": ("Attention", "AttentionRope", "DiffAttention", "EvaAttention", "RelPosAttention"),
    "attn.proj": ("Linear",),
}
_PACKED = {"mlp": ("Mlp", "GluMlp"), "mlp.fc1": ("Linear",), "mlp.fc2": ("Linear",)}
_SPLIT = {"mlp": ("SwiGLU",), "mlp.fc1_g": ("Linear",), "mlp.fc1_x": ("Linear",), "mlp.fc2": ("Linear",)}
_GEGLU = {"mlp": ("GeGluMlp",), "mlp.w0": ("Linear",), "mlp.w1": ("Linear",), "mlp.w2": ("Linear",)}
_SCALE = ("LayerScale", "Identity")


def _packed(ln2: Read) -> dict[str, Site]:
    # A gated network with gate and value packed into one fc1 has both in that site.
    return {"fc1": Affine("mlp.fc1", ln2), "act": Read("mlp.fc2", "input"), "fc2": linear("mlp.fc2")}


def _split(ln2: Read) -> dict[str, Site]:
    fc1 = Concat((Affine("mlp.fc1_g", ln2), Affine("mlp.fc1_x", ln2)))
    return {"fc1": fc1, "act": Read("mlp.fc2", "input"), "fc2": linear("mlp.fc2")}


def _geglu() -> dict[str, Site]:
    # This network starts with a norm of its own, whose output the hidden layer reads.
    normed = Read("mlp.norm", "output")
    fc1 = Concat((Affine("mlp.w0", normed), Affine("mlp.w1", normed)))
    return {"fc1": fc1, "act": Read("mlp.w2", "input"), "fc2": linear("mlp.w2")}


_RC2: dict[str, Site] = {"rc2": Read("", "output")}

_LN2 = Read("norm2", "output")
_PRE: dict[str, Site] = {
    "ln1": Read("norm1", "output"),
    "mha": linear("attn.proj"),
    "rc1": Read("norm2", "input"),
    "ln2": _LN2,
}
_PRE_BLOCKS = (
    "timm.models.vision_transformer.Block",
    "timm.models.beit.Block",
    "timm.models.deepseek_vit.DeepseekVitBlock",
    "timm.models.eva.EvaBlock",
    "timm.models.vision_transformer_relpos.RelPosBlock",
)

# The norms are at the end of the attention and feed-forward branches, so both read the residual stream itself.
_STREAM = Read("mlp", "input")
_POST: dict[str, Site] = {
    "ln1": Read("attn", "input"),
    "mha": linear("attn.proj"),
    "rc1": _STREAM,
    "ln2": _STREAM,
}
_POST_BLOCKS = (
    "timm.models.eva.EvaBlockPostNorm",
    "timm.models.vision_transformer.ResPostBlock",
    "timm.models.vision_transformer_relpos.ResPostRelPosBlock",
)

PRE_NORM = Layout("pre-norm", _PRE_BLOCKS, _PRE | _packed(_LN2) | _RC2, _ATTENTION | _PACKED)
PRE_NORM_SPLIT = Layout("pre-norm split gate", _PRE_BLOCKS, _PRE | _split(_LN2) | _RC2, _ATTENTION | _SPLIT)
PRE_NORM_GEGLU = Layout("pre-norm GeGLU", _PRE_BLOCKS, _PRE | _geglu() | _RC2, _ATTENTION | _GEGLU)
POST_NORM = Layout("post-norm", _POST_BLOCKS, _POST | _packed(_STREAM) | _RC2, _ATTENTION | _PACKED)
POST_NORM_SPLIT = Layout("post-norm split gate", _POST_BLOCKS, _POST | _split(_STREAM) | _RC2, _ATTENTION | _SPLIT)


def _parallel(name: str, blocks: tuple[str, ...], mha: Affine, fc2: Affine, projections: tuple[str, ...]) -> Layout:
    # Attention and feed-forward network read the same norm, and their outputs are added in one step. No tensor of such
    # a block is the stream after attention alone, but it can be computed as a sum of pooled vectors.
    norm = Read("in_norm", "output")
    sites: dict[str, Site] = {
        "ln1": norm,
        "mha": mha,
        "rc1": Sum((Read("", "input"), Affine("ls", mha))),
        "ln2": norm,
        "fc1": Read("mlp_act", "input"),
        "act": Read("mlp_drop", "output"),
        "fc2": fc2,
    }
    modules = dict.fromkeys(projections, ("Linear",)) | {"ls": _SCALE}
    return Layout(name, blocks, sites | _RC2, modules)


PARALLEL = _parallel(
    "parallel",
    ("timm.models.vision_transformer.ParallelScalingBlock",),
    mha=linear("attn_out_proj"),
    fc2=linear("mlp_out_proj"),
    projections=("attn_out_proj", "mlp_out_proj"),
)

_SIDE_BY_SIDE = Read("out_proj", "input")
PARALLEL_FUSED = _parallel(
    "parallel one projection",
    (
        "timm.models.vision_transformer.ParallelScalingBlock",
        "timm.models.vision_transformer.DiffParallelScalingBlock",
    ),
    mha=Affine("out_proj", _SIDE_BY_SIDE, "first"),
    fc2=Affine("out_proj", _SIDE_BY_SIDE, "rest"),
    projections=("out_proj",),
)


def _pair(path: str, what: Literal["input", "output"] = "output", *, after_linear: bool = False) -> Concat:
    """The same position in both branches of a block with two attentions, then two feed-forward networks."""
    inside, _, inner = path.partition(".")
    paths = [f"{inside}.{branch}.{inner}" for branch in (0, 1)]
    return Concat(tuple(linear(one) if after_linear else Read(one, what) for one in paths))


# Each half of the block is a sum of two branches, and each branch has a norm of its own. Their parts are concatenated,
# as if the two attentions were one of twice as many heads, and the two feed-forward networks one twice as wide.
PAIRED = Layout(
    "paired",
    ("timm.models.vision_transformer.ParallelThingsBlock",),
    sites={
        "ln1": _pair("attns.norm"),
        "mha": _pair("attns.attn.proj", after_linear=True),
        "rc1": Read("ffns.0.norm", "input"),
        "ln2": _pair("ffns.norm"),
        "fc1": _pair("ffns.mlp.fc1"),
        "act": _pair("ffns.mlp.fc2", "input"),
        "fc2": _pair("ffns.mlp.fc2", after_linear=True),
        "rc2": Read("", "output"),
    },
    modules={f"attns.{branch}.attn.proj": ("Linear",) for branch in (0, 1)}
    | {f"ffns.{branch}.mlp": ("Mlp", "GluMlp") for branch in (0, 1)}
    | {f"ffns.{branch}.mlp.{part}": ("Linear",) for branch in (0, 1) for part in ("fc1", "fc2")},
    absent=("attns.2", "ffns.2"),
)

TIMM = (
    PRE_NORM,
    PRE_NORM_SPLIT,
    PRE_NORM_GEGLU,
    POST_NORM,
    POST_NORM_SPLIT,
    PARALLEL,
    PARALLEL_FUSED,
    PAIRED,
)

REFUSED = {
    "timm.models.cait.LayerScaleBlock": "the class token joins behind these blocks, in a second stage",
    "timm.models.convit.Block": "the class token joins between these blocks, so that layers differ in their tokens",
    "timm.models.crossvit.MultiScaleBlock": "two streams of tokens of different width",
    "timm.models.tnt.Block": "two streams of tokens, of patches and of pixels",
    "timm.models.vision_transformer_sam.Block": "tokens lie in a grid that is padded and cut into windows",
    "timm.models.xcit.XCABlock": "the class token joins behind these blocks, in a second stage",
}
"""Block classes whose tokens cannot be pooled like those of a plain transformer, and the reason."""
