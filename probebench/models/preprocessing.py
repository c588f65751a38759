"""Describe the preprocessing of images, and its differences from what the weights declare."""

from __future__ import annotations

from collections.abc import Iterable

from probebench.catalog import ModelSpec
from probebench.catalog.protocols import Protocol
from probebench.fetch import hub


def describe_preprocessing(spec: ModelSpec, protocol: Protocol) -> tuple[str, list[str]]:
    """Return the preprocessing for a model as one line, and its differences from the declaration, one phrase each.

    The declaration is that of the library for weights that it publishes, and the spec's own for others. Imports torch.
    """
    declared = spec
    if hub.needs_download(spec):
        declared = _declared(spec)
    mean, std = protocol.pixel_mean or spec.mean, protocol.pixel_std or spec.std
    resizing = protocol.resizing(spec)
    used = {"input": f"{spec.input_size} px", "resizing": resizing, "mean": _numbers(mean), "std": _numbers(std)}
    wanted = {
        "input": f"{declared.input_size} px",
        "resizing": declared.interpolation,
        "mean": _numbers(declared.mean),
        "std": _numbers(declared.std),
    }
    text = f"{used['input']}, {resizing}, mean {used['mean']}, std {used['std']}"
    if declared.crop != 1:
        text += f", crop 100% (the weights were evaluated at {100 * declared.crop:.0f}%)"
    differs = [
        f"{key} {used[key]}, where the weights declare {wanted[key]}" for key in used if used[key] != wanted[key]
    ]
    return text, differs


def _declared(spec: ModelSpec) -> ModelSpec:
    """Return the spec with the preprocessing that its library declares for the pretrained weights."""
    if spec.library == "timm":
        from probebench.models.timm_spec import pretrained_spec

        return pretrained_spec(spec)
    from probebench.models.libraries import find_library

    return find_library(spec).complete_spec(ModelSpec(spec.name, spec.architecture))


def _numbers(values: Iterable[float]) -> str:
    """Format three numbers, or one if all are equal."""
    texts = [f"{value:.4g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else "/".join(texts)
