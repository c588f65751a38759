"""Everything that can be named: models, datasets, suites, protocols, taps and cases, as frozen data.

Nothing here needs a third-party package. Names load on first use: the options of the plugin need two of these modules,
and every pytest run would pay for the others.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.catalog import Catalog, builtin_datasets, builtin_models, builtin_suites
    from probebench.catalog.protocols import Protocol, get_protocol
    from probebench.catalog.specs import Archive, DatasetSpec, ModelSpec
    from probebench.catalog.taps import SITES, Tap, all_taps

_MODULES = {
    "SITES": "taps",
    "Archive": "specs",
    "Case": "cases",
    "Catalog": "catalog",
    "DatasetSpec": "specs",
    "ModelSpec": "specs",
    "Protocol": "protocols",
    "Sweep": "cases",
    "Tap": "taps",
    "all_taps": "taps",
    "builtin_datasets": "catalog",
    "builtin_models": "catalog",
    "builtin_suites": "catalog",
    "get_protocol": "protocols",
}

__all__ = [
    "SITES",
    "Archive",
    "Case",
    "Catalog",
    "DatasetSpec",
    "ModelSpec",
    "Protocol",
    "Sweep",
    "Tap",
    "all_taps",
    "builtin_datasets",
    "builtin_models",
    "builtin_suites",
    "get_protocol",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
