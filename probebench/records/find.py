"""Find run records by name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from probebench._format import list_some
from probebench.errors import UnknownName, unknown

LATEST = ".latest"
"""The file in a folder of records that names the one that was written last: a clock may have been set back."""


def find_record(name: str, start: Path | None = None) -> Path:
    """The file of a run record.

    Args:
        name: a path, ``latest``, or the first characters of a record's name. Names are looked up in the nearest
            ``.probebench/runs`` of `start` and the folders above it, and must fit just one record
        start: a folder, the current one by default

    Raises:
        UnknownName: if no record fits, or several do
    """
    path = Path(name)
    if path.is_file():
        return path
    start = start or Path.cwd()
    for folder in (start, *start.parents):
        if (runs := folder / ".probebench" / "runs").is_dir():
            break
    else:
        raise UnknownName(f"there is no file {name!r}, and no .probebench/runs in this folder or one above it")
    # Names begin with the second of the start; within one, the file that was written last is the latest.
    found = sorted(runs.glob("*.json"), key=lambda file: (file.name[:16], file.stat().st_mtime_ns))
    matching = [file for file in found if file.name.startswith(name)] if name != "latest" else _find_latest(runs, found)
    if len(matching) == 1:
        return matching[0]
    if matching:
        names = list_some((file.stem for file in matching), most=5)
        raise UnknownName(f"{len(matching)} run records in {runs} start with {name!r}: {names}")
    known = [*(file.stem for file in found), "latest"]
    raise unknown("run record", name, known if found else ["a path to one"], f"`ls {runs}` lists them")


def _find_latest(runs: Path, found: list[Path]) -> list[Path]:
    with suppress(OSError, ValueError):
        latest = runs / (runs / LATEST).read_text(encoding="utf-8").strip()
        if latest in found:
            return [latest]
    return found[-1:]
