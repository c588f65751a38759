"""From a model's spec to its frozen network: timm, checkpoints, block layouts, precision.

Importing this room imports neither torch nor timm: cases are collected with `default_catalog`.
"""

from __future__ import annotations

from probebench.catalog import Catalog, ModelSpec

__all__ = ["default_catalog"]


def default_catalog() -> Catalog:
    """The built-in catalog, which asks timm for what the spec of a model leaves out."""
    return Catalog.default(complete=_complete)


def _complete(spec: ModelSpec) -> ModelSpec:
    from probebench.models.timm_spec import complete_spec

    return complete_spec(spec)
