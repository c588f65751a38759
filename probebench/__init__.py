"""probebench measures, layer by layer and module by module, what a frozen vision transformer knows.

Importing the package imports neither torch nor timm, scikit-learn, numpy or rich: public names load on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from probebench._version import __version__

_PUBLIC = {
    "Case": "probebench.catalog.cases",
    "DatasetSpec": "probebench.catalog",
    "ModelSpec": "probebench.catalog",
    "ProbebenchError": "probebench.errors",
    "Protocol": "probebench.catalog.protocols",
    "Recommendation": "probebench.recommendation",
    "SweepResult": "probebench.measure.sweep",
    "Tap": "probebench.catalog.taps",
    "TapResult": "probebench.probes.evaluate",
    "all_taps": "probebench.catalog.taps",
    "recommend": "probebench.recommendation",
    "run_sweep": "probebench.measure.sweep",
}

__all__ = [
    "Case",
    "DatasetSpec",
    "ModelSpec",
    "ProbebenchError",
    "Protocol",
    "Recommendation",
    "SweepResult",
    "Tap",
    "TapResult",
    "__version__",
    "all_taps",
    "recommend",
    "run_sweep",
]

if TYPE_CHECKING:
    from probebench.catalog import DatasetSpec, ModelSpec
    from probebench.catalog.cases import Case
    from probebench.catalog.protocols import Protocol
    from probebench.catalog.taps import Tap, all_taps
    from probebench.errors import ProbebenchError
    from probebench.measure.result import SweepResult
    from probebench.measure.sweep import run_sweep
    from probebench.probes.evaluate import TapResult
    from probebench.recommendation import Recommendation, recommend


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
