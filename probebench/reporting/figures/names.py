"""Names of files."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 120  # bytes of a name without its suffix; file systems take 255


def safe(text: str) -> str:
    """`text` as the name of a file anywhere: letters, digits and ``_ . + -``, not hidden, not too long."""
    name = re.sub(r"[^\w.+-]+", "_", text).lstrip(".")
    return name.encode("utf-8")[:LONGEST].decode("utf-8", "ignore") or "_"


def distinct(texts: Iterable[str]) -> list[str]:
    """A safe name for each text; those that would be one file on some file system get a number."""
    taken: set[str] = set()
    names = []
    for text in texts:
        stem = name = safe(text)
        number = 1
        while name.casefold() in taken:
            number += 1
            name = f"{stem}-{number}"
        taken.add(name.casefold())
        names.append(name)
    return names
