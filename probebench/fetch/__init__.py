"""Download published datasets and weights, and find them on this machine."""

from probebench.errors import Unreachable
from probebench.fetch.archives import Damaged, unpack
from probebench.fetch.datasets import fetch_archive, fetch_dataset
from probebench.fetch.http import Refused, download, offline

__all__ = [
    "Damaged",
    "Refused",
    "Unreachable",
    "download",
    "fetch_archive",
    "fetch_dataset",
    "offline",
    "unpack",
]
