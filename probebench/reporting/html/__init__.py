"""The HTML report: one page that needs nothing but a browser.

Python makes all of it as semantic HTML and SVG (templates of jinja2), so that it can be read without scripts; a little
JavaScript of our own adds sorting, filtering and hover values. A charting library would have been larger than the
numbers (docs/report.md has the sizes).
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from probebench import _files
from probebench.errors import ProbebenchError, UnknownName
from probebench.records.types import Record

SUFFIXES = (".html", ".htm")


def check(path: Path, option: str) -> None:
    """Check before any work that a report can be made and written there later.

    Args:
        option: the option that named the path

    Raises:
        UnknownName: if it has another suffix
        ProbebenchError: if jinja2 is not installed
        StoreError: if it cannot be written
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UnknownName(f"{option} must end in .html, got {path.name!r}")
    if find_spec("jinja2") is None:
        raise ProbebenchError(f"{option}: reports need jinja2: pip install 'probebench[report]'")
    _files.check_writable(path, option)


def write(record: Record, path: Path, name: str = "") -> int:
    """Write the report of a run record; see `render` for the arguments.

    Returns:
        its size in bytes

    Raises:
        StoreError: if it cannot be written
    """
    page = render(record, name).encode("utf-8", "replace")
    _files.write(path, page)
    return len(page)


def render(record: Record, name: str = "") -> str:
    """The report of a run record as the text of an HTML file.

    Args:
        record: of one run, or of several as `probebench.records.merge.merge` joins them
        name: a name for the record, such as the path of its file
    """
    from probebench.reporting.html.page import page  # imports jinja2, which is slow

    return page(record, name)
