"""What git, editors and crashes leave in a file that probebench wrote: the cause and the remedy, in words.

The remedy is never to measure again: that would accept whatever is measured now.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from probebench._files import relative

_MARKER = re.compile(rb"^(<{7}|>{7}|\|{7}) ", re.MULTILINE)
_POINTERS = {
    b"version https://git-lfs.github.com/spec/": ("Git LFS", "git lfs pull"),
    b"/annex/objects/": ("git-annex", "git annex get {files}"),
    b"\0GITCRYPT\0": ("git-crypt", "git-crypt unlock"),
}
"""By the first bytes of a file that stands for another one: what put it there, and the command that gets the other."""


def restore(files: Sequence[Path]) -> str:
    """The sentence that says how to restore files."""
    number = {1: "the file", 2: "both files"}.get(len(files), "all files")
    return f"Restore {number} from version control or a backup: git checkout -- {_quoted(files)}"


def explain(data: bytes, files: Sequence[Path], sha256: str | None = None) -> str:
    """Explain damage of a known kind: a clause without its subject, and a sentence with the remedy; empty for others.

    Args:
        data: content of the damaged file
        files: those that belong together
        sha256: digest of what was written, if it is known
    """
    if (marker := _MARKER.search(data)) is not None:
        line = data.count(b"\n", 0, marker.start()) + 1
        return (
            f"has the conflict markers of a git merge (line {line}). Take all of it from one side, and measure again: "
            f"git checkout --ours -- {_quoted(files)} (or --theirs)"
        )
    for start, (what, command) in _POINTERS.items():
        if data.startswith(start):
            command = command.format(files=_quoted(files))
            return f"has not been fetched: it is what {what} leaves in its place. Run {command}"
    if hashlib.sha256(data.replace(b"\r\n", b"\n")).hexdigest() == sha256:
        return (
            "has other line ends than it was written with, by the settings of git. Add the line "
            f"'*.safetensors binary' to .gitattributes, then: git checkout -- {_quoted(files)}"
        )
    if not data.strip(b"\0 \r\n"):
        return f"is {'empty' if not data else 'blank'}, as after a crash or on a full disk. {restore(files)}"
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return f"is in UTF-16, so that an editor or a shell has rewritten it. {restore(files)}"
    return ""


def parse(data: bytes) -> Any:
    """Parse JSON as probebench writes it; the byte order mark that some editors add is left out.

    Raises:
        ValueError: if it is not JSON in UTF-8, or has a key twice, as after a merge that kept both sides
    """
    return json.loads(data.decode("utf-8-sig"), object_pairs_hook=_unique)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"it has {twice!r} twice, as after a merge that kept both sides")
    return found


def _quoted(files: Sequence[Path]) -> str:
    return " ".join(shlex.quote(relative(path)) for path in files)
