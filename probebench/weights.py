"""Pretrained weights: which are on this machine, and getting those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probebench.catalog import ModelSpec
from probebench.errors import FetchError

if TYPE_CHECKING:
    from probebench.fetch import Progress


def cached(spec: ModelSpec) -> Path | None:
    """Where the weights of a model lie on this machine, None if they do not. No network is used."""
    return None


def download(spec: ModelSpec, progress: Progress | None = None) -> Path:
    """Fetch the weights of a model.

    Raises:
        FetchError: if they cannot be fetched
    """
    raise FetchError(f"weights of {spec.name} cannot be fetched by this version")
