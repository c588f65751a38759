"""Build frozen networks from model specs: timm, checkpoints, block layouts, precision.

Importing this package imports neither torch nor timm, because `default_catalog` is needed to collect cases.
"""

from __future__ import annotations

from probebench.catalog import Catalog, ModelSpec

__all__ = ["default_catalog"]


def default_catalog() -> Catalog:
    """Return the built-in catalog, which completes model specs from their libraries."""
    return Catalog.default(complete=_complete)


def _complete(spec: ModelSpec) -> ModelSpec:
    from probebench.models.libraries import find_library

    return find_library(spec).complete_spec(spec)
