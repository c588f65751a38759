"""Download what a sweep lacks: the weights of its model, and the images of its datasets. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from probebench.fetch import fetch_dataset, hub, local

if TYPE_CHECKING:
    from probebench._progress import Progress
    from probebench.catalog import DatasetSpec, ModelSpec


def download_missing(
    model: ModelSpec, datasets: Iterable[DatasetSpec], *, own_weights: bool, progress: Progress | None = None
) -> None:
    """Download the weights and the datasets that are not on this machine.

    Args:
        own_weights: True if the weights of the model are replaced by a file

    Raises:
        Unreachable: if there is no network
        FetchError: if something cannot be downloaded for another reason
    """
    if not own_weights and hub.needs_download(model):
        hub.download(model, progress)
    for spec in {spec.name: spec for spec in datasets}.values():
        if not local.on_disk(spec):
            fetch_dataset(spec, local.data_root(), progress)
