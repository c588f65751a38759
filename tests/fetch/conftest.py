"""A server on this machine, and waits that take no time."""

from __future__ import annotations

import pytest

from probebench.fetch import http
from tests.server import Server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with Server() as running:
        yield running


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Makes waiting between tries take no time; how long each would have been."""
    waited: list[float] = []
    monkeypatch.setattr(http, "sleep", waited.append)
    return waited
