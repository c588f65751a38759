"""Waits that take no time, and the data root of the tests of datasets."""

from __future__ import annotations

import pytest

from probebench.fetch import http
from tests.datasets.conftest import cifar10, root

__all__ = ["cifar10", "root", "waits"]


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Makes waiting between tries take no time; how long each would have been."""
    waited: list[float] = []
    monkeypatch.setattr(http, "sleep", waited.append)
    return waited
