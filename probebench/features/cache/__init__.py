"""Features kept on disk, so that what a network made of an image is computed once. No torch.

An *entry* holds the features of one network on one list of views, tap by tap; what it is called says all that decides
them (`probebench.features.cache.key`). `store` has the entries of a folder: their size, who uses them, what is evicted;
`entry` the files of one; `writer` fills them while images go through the network; `probebench.features.extraction` is
what a sweep calls. docs/cache.md describes it from outside.
"""

from __future__ import annotations

from probebench.features.cache.store import DEFAULT_SIZE, FeatureCache, cache_root

__all__ = ["DEFAULT_SIZE", "FeatureCache", "cache_root"]
