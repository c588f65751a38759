"""Figures and tables for a paper, of run records: `probebench figures`.

Everything is drawn before anything is written, and the same record gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from probebench import _files
from probebench.errors import ProbebenchError, StoreError, unknown
from probebench.records.types import Record
from probebench.reporting.figures.options import FORMATS, FigureOptions


def check(directory: Path, formats: Sequence[str], option: str) -> None:
    """Check before any work that figures can be drawn and written there later.

    Args:
        option: the option that named the directory

    Raises:
        UnknownName: for an unknown format
        ProbebenchError: if matplotlib is not installed
        StoreError: if the directory cannot be written to
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    if find_spec("matplotlib") is None:
        raise ProbebenchError("figures need matplotlib: pip install 'probebench[figures]'")
    if directory.exists() and not directory.is_dir():
        raise StoreError(f"{option}: {directory} is not a directory")
    _files.check_writable(directory / "table.md", option)


def write(record: Record, directory: Path, wanted: FigureOptions) -> tuple[list[Path], list[str]]:
    """Draw a run record's figures and tables into a directory.

    Args:
        record: of one run, or of several as `probebench.records.merge.merge` joins them

    Returns:
        the files in the order they were written, and a line for each figure that the record has no data for

    Raises:
        UnknownName: for a model, dataset or site that the record does not have
        ProbebenchError: if the record has no case
        StoreError: if a file cannot be written; those written before are complete
    """
    from probebench.reporting.figures.drawing import draw  # imports matplotlib, which is slow

    contents, notes = draw(record, wanted)
    paths = [directory / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        _files.write(path, content)
    return paths, notes
