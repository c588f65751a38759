"""Find the layout that describes a block or a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from probebench.errors import LayoutError, ProbebenchError
from probebench.models.layouts.layout import Affine, Concat, Layout, NetworkLayout, Read, Site, Sum
from probebench.models.layouts.others import NETWORKS, OTHERS
from probebench.models.layouts.timm import REFUSED, TIMM

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "LAYOUTS",
    "Affine",
    "Concat",
    "Layout",
    "NetworkLayout",
    "Read",
    "Site",
    "Sum",
    "blocks_of",
    "class_path",
    "find_layout",
    "find_network",
    "first_argument",
    "is_listed",
    "register_layout",
    "submodule",
]

LAYOUTS = (*TIMM, *OTHERS)

_registered: list[Layout] = []
_networks: list[NetworkLayout] = []


def register_layout(layout: Layout | NetworkLayout) -> None:
    """Add the layout of a block or of a network of your own; it is tried before those of probebench.

    Call it in the module that builds the network, so that every process that measures has it.

    Raises:
        ProbebenchError: if another layout has its name
    """
    known: list[Layout] | list[NetworkLayout] = _registered if isinstance(layout, Layout) else _networks
    same = next((each for each in known if each.name == layout.name), None)
    if same is None:
        known.append(layout)  # type: ignore[arg-type]
    elif same != layout:
        raise ProbebenchError(f"layout {layout.name!r} is registered twice; choose another name")


def submodule(block: nn.Module, path: str) -> nn.Module | None:
    """Return the submodule at a dotted path, or None if it does not exist; "" is the block itself."""
    try:
        return block.get_submodule(path)
    except AttributeError:
        return None


def first_argument(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """Return what a module is called with first, by position or by name: its tokens."""
    return args[0] if args else next(iter(kwargs.values()))


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
        if (kind := class_path(block)) in REFUSED:
            raise LayoutError(f"{name} cannot be read at its blocks ({kind}): {REFUSED[kind]}")
    return blocks


def is_listed(block: nn.Module) -> bool:
    """Return whether a layout names the class of a block; other layouts may fit by the names of its parts."""
    return any(class_path(block) in layout.blocks for layout in (*_registered, *LAYOUTS))


def find_layout(block: nn.Module, layouts: Iterable[Layout] | None = None) -> Layout:
    """Return the layout that describes a block: one that names its class, or else, for a class that is not of timm and
    that none names, the first of `OTHERS` whose parts it has. `probebench.models.verify` checks the latter.

    Raises:
        LayoutError: if none does; the message has the block class and what did not fit
    """
    layouts = (*_registered, *LAYOUTS) if layouts is None else tuple(layouts)
    kind, reasons = class_path(block), []
    for layout in layouts:
        if kind not in layout.blocks:
            continue
        wrong = _misfits(block, layout)
        if not wrong:
            return layout
        reasons.append(f"layout {layout.name!r} does not fit: {'; '.join(wrong)}")
    if not reasons and not kind.startswith("timm."):
        for layout in OTHERS:
            if not _misfits(block, layout):
                return layout
    detail = f" ({'. '.join(reasons)})" if reasons else ""
    raise LayoutError(
        f"no layout describes the sites of {kind}{detail}: write a Layout for it and register it: "
        "docs/adding-a-model.md, 'A network of your own'"
    )


def find_network(net: nn.Module) -> NetworkLayout | None:
    """Return the layout that describes a network or a class that it is derived from; None if there is none.

    Raises:
        LayoutError: if it has a part that the layout rules out
    """
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(net).__mro__}
    for layout in (*_networks, *NETWORKS):
        if kinds.isdisjoint(layout.networks):
            continue
        if there := [path for path in layout.absent if submodule(net, path) is not None]:
            raise LayoutError(
                f"{type(net).__name__} cannot be read: it has {there[0]}, which the layout {layout.name!r} rules out"
            )
        return layout
    return None


def class_path(block: nn.Module) -> str:
    """Return module and name of the class of a block."""
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
