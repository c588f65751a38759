"""Everything that can be named: models, datasets, suites, protocols, taps and cases, as frozen data.

Nothing here needs a third-party package, so that pytest can collect cases before anything heavy is imported.
"""

from probebench.catalog.cases import Case, Sweep
from probebench.catalog.catalog import Catalog, builtin_datasets, builtin_models, builtin_suites
from probebench.catalog.protocols import Protocol, get_protocol
from probebench.catalog.specs import Archive, DatasetSpec, ModelSpec
from probebench.catalog.taps import SITES, Tap, all_taps

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
