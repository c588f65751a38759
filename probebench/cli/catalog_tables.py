"""Tables of models, datasets and protocols, with what is on this machine. No torch."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from probebench._format import human
from probebench.catalog import Catalog, DatasetSpec, ModelSpec
from probebench.catalog.protocols import PROTOCOLS, Protocol
from probebench.fetch.local import missing

_SPLITS = re.compile(r"(?:; )?([\d,]+) train(?: \([^)]*\))?, ([\d,]+) test(?: \([^)]*\))?")

# Minimum and maximum widths of columns that may wrap. Names and numbers never wrap.
_FOLDED = {"what": (20, 40), "pretraining": (20, 36), "licence": (14, 32), "here": (10, None), "suites": (11, 20)}
_RIGHT = ("depth", "width", "parameters", "input", "download", "train", "test", "size")
# Columns that a narrow terminal leaves out, in this order.
_OPTIONAL = ("suites", "metric", "input", "width", "what", "timm", "train", "test", "pretraining")


@dataclass(frozen=True)
class Row:
    """One model or dataset.

    Attributes:
        cells: text by column, including ``name``
        data: the content of the JSON output
    """

    cells: dict[str, str]
    data: dict[str, Any]

    def matches(self, words: Iterable[str]) -> bool:
        """Return whether the row contains every word, in upper or lower case."""
        text = " ".join([*self.cells.values(), *map(str, self.data.values())]).lower()
        return all(word.lower() in text for word in words)


def protocol_rows() -> list[Row]:
    """Return the named protocols, with all their fields as data."""
    return [_protocol_row(protocol) for protocol in PROTOCOLS.values()]


def _protocol_row(protocol: Protocol) -> Row:
    training = "all of train" if protocol.train_fraction == 1 else f"{100 * protocol.train_fraction:.0f}% of train"
    if protocol.shots is not None:
        training = f"{protocol.shots} images a class, {protocol.draws} draws"
    if protocol.train_on == "clean":
        training += " of the clean dataset"
    views = {"random_resized_crop_flip": "random crops, mirrored", "resize_center_crop": "centre crops"}
    path = None if protocol.reads_tokens else protocol.path
    strengths = f"{len(path)} from {path[0]:g} to {path[-1]:g}" if path else f"{protocol.C:g}" if protocol.C else ""
    cells = {
        "name": protocol.name,
        "fingerprint": protocol.fingerprint,
        "training images": training,
        "views": views[protocol.train_view],
        "pixel statistics": "the model's" if protocol.pixel_mean is None else "ImageNet",
        "rows": "unit length" if protocol.feature_norm == "l2" else "as they are",
        "probe": protocol.probe,
        "C": strengths,
        "chosen on": {"test": "test", "held_out": f"{100 * (protocol.held_out or 0):.0f}% held out"}[
            protocol.selection
        ],
    }
    return Row(cells, {"fingerprint": protocol.fingerprint, **asdict(protocol)})


def model_rows(catalog: Catalog) -> list[Row]:
    """Return the models of a catalog, with what `probebench.fetch.hub` finds on this machine."""
    return [_model_row(spec) for spec in catalog.models.values()]


def _model_row(spec: ModelSpec) -> Row:
    from probebench.fetch import hub

    needed = hub.needs_download(spec)
    path = hub.cached(spec) if needed else None
    here = path is not None or not needed
    cells = {
        "name": spec.name,
        "timm": spec.architecture if spec.architecture != "VisionTransformer" else "",
        "depth": _number(spec.depth),
        "width": _number(spec.width),
        "parameters": f"{spec.parameters / 1e6:.1f} M" if spec.parameters else "",
        "input": _number(spec.input_size),
        "download": human(spec.download_size) if spec.download_size else "",
        "pretraining": spec.pretraining,
        "licence": spec.licence,
        "here": (str(path) if path else "yes") if here else "no",
    }
    data = {
        "name": spec.name,
        "architecture": spec.architecture,
        "depth": spec.depth,
        "width": spec.width,
        "parameters": spec.parameters,
        "input_size": spec.input_size,
        "download_size": spec.download_size,
        "pretraining": spec.pretraining,
        "licence": spec.licence,
        "note": spec.note,
        "here": here,
        "path": str(path) if path else None,
    }
    return Row(cells, data)


def dataset_rows(catalog: Catalog, root: Path, grouped: bool) -> list[Row]:
    """Return the datasets of a catalog.

    Args:
        root: the data root
        grouped: whether datasets that differ only in their corruption share a row
    """
    if not grouped:
        return [_dataset_row(spec, catalog, root) for spec in catalog.datasets.values()]
    rows = []
    for stem, group in groupby(catalog.datasets.values(), _stem):
        specs = list(group)
        first, count = specs[0], len(specs)
        row = _dataset_row(first, catalog, root)
        if count > 1:
            what = row.cells["what"].replace(first.kwargs["corruption"], "{corruption}")
            cells = row.cells | {"name": f"{stem}{{{count} corruptions}}", "what": what}
            sizes = sorted({spec.download_size for spec in specs})
            if len(sizes) > 1:
                cells["size"] = f"{human(sizes[0])} to {human(sizes[-1])}"
            absent = sum(bool(missing(spec, root)) for spec in specs)
            if 0 < absent < count:
                cells["here"] = f"{count - absent} of {count}"
            row = replace(row, cells=cells)
        rows.append(row)
    return rows


def _stem(spec: DatasetSpec) -> str:
    """Return the common part of the names of datasets that differ only in their corruption."""
    corruption = spec.kwargs.get("corruption", "")
    return spec.name.removesuffix(corruption) if "severity" in spec.kwargs else spec.name


def _dataset_row(spec: DatasetSpec, catalog: Catalog, root: Path) -> Row:
    absent = missing(spec, root)
    suites = [suite for suite, names in catalog.suites.items() if spec.name in names]
    found = _SPLITS.search(spec.note)
    paths = [str(root / archive.result) for archive in spec.archives]
    place = os.path.commonpath(paths) if paths else None
    cells = {
        "name": spec.name,
        "what": spec.note.replace(found[0], "") if found else spec.note,
        "train": found[1] if found else "",
        "test": found[2] if found else "",
        "metric": spec.metric,
        "size": human(spec.download_size) if spec.download_size else "",
        "licence": spec.licence,
        "here": "no" if absent else place or "in the package",
        "suites": ", ".join(suites),
    }
    data = {
        "name": spec.name,
        "metric": spec.metric,
        "download_size": spec.download_size,
        "licence": spec.licence,
        "source": spec.source,
        "note": spec.note,
        "here": not absent,
        "path": None if absent else place,
        "missing": [archive.url for archive in absent],
        "suites": suites,
    }
    return Row(cells, data)


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def write_table(rows: Sequence[Row], out: TextIO) -> None:
    """Write rows as a table: on a terminal with the columns that fit, else as wide as needed."""
    encoding = out.encoding or "ascii"
    style = box.SIMPLE_HEAD if "utf" in encoding.lower() else box.ASCII
    width = Console(file=out).width if out.isatty() else None
    columns = [column for column in rows[0].cells if any(row.cells[column] for row in rows)]
    left_out = []
    for column in _OPTIONAL:
        if width is None or _least_width(rows, columns) <= width:
            break
        if column in columns:
            columns.remove(column)
            left_out.append(column)
    text = _render(_table(rows, columns, style), width)
    print(text.encode(encoding, "replace").decode(encoding), file=out)
    if left_out:
        print(f"columns that do not fit the terminal: {', '.join(left_out)}", file=out)


def _least_width(rows: Sequence[Row], columns: Sequence[str]) -> int:
    """Return the minimum width of a table, below which rich drops the content of columns."""
    widths = [
        _FOLDED[column][0] if column in _FOLDED else max(map(cell_len, [column, *(row.cells[column] for row in rows)]))
        for column in columns
    ]
    return sum(widths) + 2 * len(widths) + 2


def _render(table: Table, width: int | None) -> str:
    out = io.StringIO()
    terminal = width is not None
    console = Console(file=out, width=width or 10_000, force_terminal=terminal, markup=False, emoji=False)
    console.print(table)
    # rich pads lines to the full width and adds a blank line at both ends.
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def _table(rows: Sequence[Row], columns: Sequence[str], style: box.Box) -> Table:
    table = Table(box=style, pad_edge=False, collapse_padding=True)
    for column in columns:
        low, high = _FOLDED.get(column, (None, None))
        table.add_column(
            column,
            justify="right" if column in _RIGHT else "left",
            no_wrap=column not in _FOLDED,
            overflow="fold",
            min_width=low,
            max_width=high,
        )
    for row in rows:
        table.add_row(*(row.cells[column] for column in columns))
    return table
