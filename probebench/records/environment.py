"""The versions of the packages that numbers depend on."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from probebench._version import __version__


def versions() -> dict[str, str]:
    """The versions of Python, probebench and the packages that numbers depend on, as far as they are installed."""
    names = ("torch", "torchvision", "timm", "scikit-learn", "numpy", "scipy", "pytest", "pytest-benchmark")
    found = {"python": platform.python_version(), "probebench": __version__}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
