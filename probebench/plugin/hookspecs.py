"""Hooks that conftest files and plugins can implement to extend probebench.

Implement them by name, as any pytest hook::

    # conftest.py
    from probebench import ModelSpec

    def pytest_probebench_models():
        return [ModelSpec(name="my_vit", architecture="vit_tiny_patch16_224", depth=12, checkpoint="my_vit.safetensors",
                          input_size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))]
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from probebench.catalog import DatasetSpec, ModelSpec


def pytest_probebench_models(config: pytest.Config) -> ModelSpec | Iterable[ModelSpec]:  # type: ignore[empty-body]
    """Models to add to the catalog of this run.

    Called once for each conftest file and plugin, before the first case that is collected after pytest has loaded it;
    tests in the folder of a conftest file, and those collected later, can name what it returns. A name that is already
    taken is an error, and so is an exception. With pytest-xdist it is called in every process that collects.
    """


def pytest_probebench_datasets(config: pytest.Config) -> DatasetSpec | Iterable[DatasetSpec]:  # type: ignore[empty-body]
    """Datasets to add to the catalog of this run; called like `pytest_probebench_models`."""


def pytest_probebench_record(config: pytest.Config, record: dict[str, object]) -> None:
    """Called when the run record is complete and about to be written. With pytest-xdist, only in the controller.

    Args:
        record: as the schema file probebench/records/schema/run-1.json describes; keys may be added under ``"extra"``
    """
