"""Waits that take no time."""

from __future__ import annotations

import pytest

from probebench.fetch import http


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Makes waiting between tries take no time; how long each would have been."""
    waited: list[float] = []
    monkeypatch.setattr(http, "sleep", waited.append)
    return waited
