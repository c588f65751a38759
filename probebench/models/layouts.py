"""Describe where the sites of a layer are in the blocks that timm builds.

A `Layout` is a table: for each of the eight sites, the submodule whose input or output is read, or how the value is
computed from what is read. Pooling is a weighted sum of tokens whose weights add up to one, so it commutes with affine
maps, sums and concatenation: ``pool(W x + b) = W pool(x) + b``. A table may therefore define a site that no module
outputs, and avoid reading a big tensor that is an affine image of a smaller one; both are exact up to rounding.

docs/architectures.md shows the tables and which of timm's networks they cover.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from probebench.errors import LayoutError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Read:
    """Pool the tokens at the input or output of a submodule of a block."""

    module: str  # dotted path in the block; "" is the block itself
    what: Literal["input", "output"]


@dataclass(frozen=True)
class Affine:
    """Apply an affine submodule (a linear layer, a layer scale, an identity) to the pooled vector of another site.

    Attributes:
        part: for a linear layer that maps two concatenated branches to their sum. ``first`` is the contribution of the
            first ``out_features`` inputs, ``rest`` that of the others with the bias; the two add up to the output
    """

    module: str
    of: Site
    part: Literal["whole", "first", "rest"] = "whole"


@dataclass(frozen=True)
class Sum:
    """The sum of pooled vectors of equal width."""

    of: tuple[Site, ...]


@dataclass(frozen=True)
class Concat:
    """The concatenation of pooled vectors."""

    of: tuple[Site, ...]


Site: TypeAlias = Read | Affine | Sum | Concat


@dataclass(frozen=True)
class Layout:
    """The sites of one kind of block.

    Attributes:
        name: name in messages and the documentation
        blocks: module and name of the block classes it describes
        sites: how to read each site of `probebench.catalog.taps.SITES`
        modules: submodules that must exist, and their allowed class names
        absent: submodules that must not exist
    """

    name: str
    blocks: tuple[str, ...]
    sites: Mapping[str, Site]
    modules: Mapping[str, tuple[str, ...]]
    absent: tuple[str, ...] = ()


# Attention and feed-forward networks, with timm's names of their parts.
_ATTENTION = {
    "attn": ("Attention", "AttentionRope", "DiffAttention", "EvaAttention", "RelPosAttention"),
    "attn.proj": ("Linear",),
}
_PACKED = {"mlp": ("Mlp", "GluMlp"), "mlp.fc1": ("Linear",), "mlp.fc2": ("Linear",)}
_SPLIT = {"mlp": ("SwiGLU",), "mlp.fc1_g": ("Linear",), "mlp.fc1_x": ("Linear",), "mlp.fc2": ("Linear",)}
_GEGLU = {"mlp": ("GeGluMlp",), "mlp.w0": ("Linear",), "mlp.w1": ("Linear",), "mlp.w2": ("Linear",)}
_SCALE = ("LayerScale", "Identity")


def _linear(module: str) -> Affine:
    """The output of a linear layer, computed from its input."""
    return Affine(module, Read(module, "input"))


def _packed(ln2: Read) -> dict[str, Site]:
    # A gated network with gate and value packed into one fc1 has both in that site.
    return {"fc1": Affine("mlp.fc1", ln2), "act": Read("mlp.fc2", "input"), "fc2": _linear("mlp.fc2")}


def _split(ln2: Read) -> dict[str, Site]:
    fc1 = Concat((Affine("mlp.fc1_g", ln2), Affine("mlp.fc1_x", ln2)))
    return {"fc1": fc1, "act": Read("mlp.fc2", "input"), "fc2": _linear("mlp.fc2")}


def _geglu() -> dict[str, Site]:
    # This network starts with a norm of its own, whose output the hidden layer reads.
    normed = Read("mlp.norm", "output")
    fc1 = Concat((Affine("mlp.w0", normed), Affine("mlp.w1", normed)))
    return {"fc1": fc1, "act": Read("mlp.w2", "input"), "fc2": _linear("mlp.w2")}


_RC2: dict[str, Site] = {"rc2": Read("", "output")}

_LN2 = Read("norm2", "output")
_PRE: dict[str, Site] = {
    "ln1": Read("norm1", "output"),
    "mha": _linear("attn.proj"),
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
    "mha": _linear("attn.proj"),
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
    mha=_linear("attn_out_proj"),
    fc2=_linear("mlp_out_proj"),
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


def _pair(path: str, what: Literal["input", "output"] = "output", *, linear: bool = False) -> Concat:
    """The same position in both branches of a block with two attentions, then two feed-forward networks."""
    inside, _, inner = path.partition(".")
    paths = [f"{inside}.{branch}.{inner}" for branch in (0, 1)]
    return Concat(tuple(_linear(one) if linear else Read(one, what) for one in paths))


# Each half of the block is a sum of two branches, and each branch has a norm of its own. Their parts are concatenated,
# as if the two attentions were one of twice as many heads, and the two feed-forward networks one twice as wide.
PAIRED = Layout(
    "paired",
    ("timm.models.vision_transformer.ParallelThingsBlock",),
    sites={
        "ln1": _pair("attns.norm"),
        "mha": _pair("attns.attn.proj", linear=True),
        "rc1": Read("ffns.0.norm", "input"),
        "ln2": _pair("ffns.norm"),
        "fc1": _pair("ffns.mlp.fc1"),
        "act": _pair("ffns.mlp.fc2", "input"),
        "fc2": _pair("ffns.mlp.fc2", linear=True),
        "rc2": Read("", "output"),
    },
    modules={f"attns.{branch}.attn.proj": ("Linear",) for branch in (0, 1)}
    | {f"ffns.{branch}.mlp": ("Mlp", "GluMlp") for branch in (0, 1)}
    | {f"ffns.{branch}.mlp.{part}": ("Linear",) for branch in (0, 1) for part in ("fc1", "fc2")},
    absent=("attns.2", "ffns.2"),
)

LAYOUTS = (
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


def submodule(block: nn.Module, path: str) -> nn.Module | None:
    """Return the submodule at a dotted path, or None if it does not exist; "" is the block itself."""
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None


def blocks_of(net: nn.Module) -> list[nn.Module]:
    """Return the transformer blocks of a network, in order.

    Raises:
        LayoutError: if it has no ``blocks``, if they are grouped in stages, or if their tokens cannot be pooled
    """
    name = type(net).__name__
    found = submodule(net, "blocks")
    if type(found).__name__ not in ("ModuleList", "Sequential"):
        inner = next((path for path, _ in net.named_modules() if path.endswith(".blocks")), None)
        where = f"; there are some at {inner!r}, but only a flat list at the top is read" if inner else ""
        raise LayoutError(f"{name} has no list of transformer blocks named 'blocks'{where}")
    assert found is not None
    blocks = list(found.children())
    for block in blocks:
        if type(block).__name__ in ("ModuleList", "Sequential"):
            raise LayoutError(f"the blocks of {name} are grouped in stages; only a flat list of blocks is read")
        if (kind := _class_path(block)) in REFUSED:
            raise LayoutError(f"{name} cannot be read at its blocks ({kind}): {REFUSED[kind]}")
    return blocks


def find_layout(block: nn.Module, layouts: Iterable[Layout] = LAYOUTS) -> Layout:
    """Return the layout that describes a block.

    Raises:
        LayoutError: if none does; the message has the block class and what did not fit
    """
    reasons = []
    for layout in layouts:
        if _class_path(block) not in layout.blocks:
            continue
        wrong = _misfits(block, layout)
        if not wrong:
            return layout
        reasons.append(f"layout {layout.name!r} does not fit: {'; '.join(wrong)}")
    detail = ". ".join(reasons) or f"layouts known: {', '.join(layout.name for layout in layouts)}"
    raise LayoutError(
        f"no layout describes the sites of {_class_path(block)} ({detail}). "
        "To add one, write a Layout for it in probebench/models/layouts.py and append it to LAYOUTS; "
        "CONTRIBUTING.md shows how it is checked."
    )


def _class_path(block: nn.Module) -> str:
    return f"{type(block).__module__}.{type(block).__name__}"


def _misfits(block: nn.Module, layout: Layout) -> list[str]:
    wrong = []
    for path, names in layout.modules.items():
        module = submodule(block, path)
        if module is None:
            wrong.append(f"{path} is missing")
        elif type(module).__name__ not in names:
            wrong.append(f"{path} is {type(module).__name__}, not {' or '.join(names)}")
    return wrong + [f"{path} exists" for path in layout.absent if submodule(block, path) is not None]
