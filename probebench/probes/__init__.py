"""Fit probes on features and labels, and score taps. Nothing here knows networks or files."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from probebench.probes.base import Fit, FitSize, MatchedFit, Probe, ProbeInfo, find_probe, get_probe, register_probe

if TYPE_CHECKING:
    from probebench.probes.estimator import LogisticProbe

__all__ = [
    "Fit",
    "FitSize",
    "LogisticProbe",
    "MatchedFit",
    "Probe",
    "ProbeInfo",
    "find_probe",
    "get_probe",
    "register_probe",
]


def __getattr__(name: str) -> Any:
    # The estimator imports torch and scikit-learn, and an unused plugin must not.
    if name == "LogisticProbe":
        return import_module("probebench.probes.estimator").LogisticProbe
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
