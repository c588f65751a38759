"""Networks that a function of the user builds: ``package.module:function``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from probebench.catalog import ModelSpec
from probebench.errors import ProbebenchError, describe
from probebench.models.libraries.describe import Declared, complete_with


def complete_spec(spec: ModelSpec) -> ModelSpec:
    """Return the spec with missing fields filled in from the network; input size and statistics cannot be.

    A network of timm inside declares these.

    Raises:
        LayoutError: if the network cannot be read
        ProbebenchError: if a field is missing that nothing declares
    """
    net = _build(spec, pretrained=False)
    about = getattr(net, "pretrained_cfg", None) or {}
    size = about.get("input_size")
    declared = Declared(
        int(size[-1]) if size else 0,
        tuple(about.get("mean") or ()),
        tuple(about.get("std") or ()),
        "bilinear" if about.get("interpolation") == "bilinear" else "bicubic" if about else "",
    )
    return complete_with(spec, declared, lambda _: net)


def create_network(spec: ModelSpec) -> nn.Module:
    """Build the network without the weights that it was trained to.

    The function is called with ``pretrained=False`` if it takes that. If not, and the network is to be a control, it
    must not load weights: that is checked by building it under two seeds.

    Raises:
        ProbebenchError: if it cannot be built, or if it is to be a control and always has the same weights
    """
    net = _build(spec, pretrained=False)
    if spec.weights == "random" and not _takes_pretrained(spec):
        torch.default_generator.manual_seed((spec.seed or 0) + 1)
        other = _build(spec, pretrained=False)
        if all(map(torch.equal, net.state_dict().values(), other.state_dict().values())):
            raise ProbebenchError(
                f"model {spec.name!r}: {spec.architecture} returns the same weights whatever the seed, so it is no "
                "control; give the function a parameter `pretrained`, and load no weights where it is False"
            )
    return net


def load_network(spec: ModelSpec, path: Path | None) -> nn.Module:
    """Build the network as the function returns it."""
    return _build(spec, pretrained=True)


def _takes_pretrained(spec: ModelSpec) -> bool:
    return "pretrained" in signature(_function(spec)).parameters


def _function(spec: ModelSpec) -> Callable[..., Any]:
    module, _, name = spec.architecture.partition(":")
    try:
        found = import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError, ValueError) as error:
        raise ProbebenchError(
            f"model {spec.name!r}: {spec.architecture} cannot be imported ({error}); architecture is "
            "package.module:function, and the module must be importable where pytest runs"
        ) from error
    return found  # type: ignore[return-value]


def _build(spec: ModelSpec, *, pretrained: bool) -> nn.Module:
    function, kwargs = _function(spec), dict(spec.kwargs)
    try:
        parameters = signature(function).parameters
    except (TypeError, ValueError) as error:
        raise ProbebenchError(f"model {spec.name!r}: {spec.architecture} is no function ({error})") from error
    if "pretrained" in parameters:
        kwargs["pretrained"] = pretrained and kwargs.get("pretrained", True)
    try:
        net = function(**kwargs)
    except Exception as error:  # other people's code raises many kinds
        raise ProbebenchError(
            f"model {spec.name!r}: {spec.architecture} failed with kwargs {kwargs} ({describe(error)})"
        ) from error
    if not isinstance(net, nn.Module):
        raise ProbebenchError(
            f"model {spec.name!r}: {spec.architecture} must return a torch.nn.Module, got {type(net).__name__}"
        )
    return net.eval()
