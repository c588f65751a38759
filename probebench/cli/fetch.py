"""The command `probebench fetch`: download models and datasets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from probebench._format import human
from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from probebench.catalog.catalog import DATASETS_LISTED, MODELS_LISTED
from probebench.catalog.specs import names_library
from probebench.cli.exit_codes import FAILED, INTERRUPTED, OK
from probebench.errors import FetchError, ProbebenchError, UnknownName, unknown
from probebench.fetch.local import data_root, missing
from probebench.models import default_catalog

if TYPE_CHECKING:
    from probebench._progress import Progress


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of `probebench`."""
    fetch = commands.add_parser(
        "fetch",
        help="download models and datasets",
        description="Download pretrained weights and datasets that are not on this machine, check them, and unpack "
        "archives. Run the same command again to resume an interrupted download.",
    )
    fetch.set_defaults(run=_fetch)
    fetch.add_argument("names", nargs="+", metavar="NAME", help="a model, a dataset or a suite of datasets")
    fetch.add_argument("--root", type=Path, metavar="DIR", help="folder for datasets, instead of PROBEBENCH_DATA")
    fetch.add_argument("--keep-archives", action="store_true", help="keep archives after unpacking them")
    fetch.add_argument("--dry-run", action="store_true", help="only show what would be downloaded")


@dataclass
class _Download:
    """One file to download.

    Attributes:
        actions: functions that download and unpack it, one per dataset that uses a part of it; all but the first find
            the file in place
        instead: why nothing is downloaded: the file needs a person, or is here already; empty for a download
        names: models and datasets that need it
        host: server; after one failure to reach it, its other files are not tried
        error: why the download failed; empty before it and after a success
    """

    title: str
    size: int
    host: str
    actions: list[Callable[[Progress], object]]
    instead: str = ""
    names: list[str] = field(default_factory=list)
    error: str = ""

    @property
    def wanted_by(self) -> str:
        first, *others = self.names
        return f"{first} and {len(others)} more" if len(others) > 1 else " and ".join(self.names)


def _fetch(args: argparse.Namespace) -> int:
    root = (args.root or data_root()).expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise FetchError(f"{root} is a file; datasets need a folder: set another one with --root or PROBEBENCH_DATA")
    names, downloads = _find_downloads(args.names, root, args.keep_archives)
    incomplete = {name for download in downloads for name in download.names}
    if here := [name for name in names if name not in incomplete]:
        print(f"on this machine: {', '.join(here)}")
    for each in downloads:
        size = human(each.size) if each.size else "size unknown"
        print(f"{each.title}: {size}, for {each.wanted_by}" + (f"; {each.instead}" if each.instead else ""))
    if remote := [download for download in downloads if not download.instead]:
        unknown_sizes = sum(not download.size for download in remote)
        more = f" and {unknown_sizes} of unknown size" if unknown_sizes else ""
        print(f"{len(remote)} to download: {human(sum(each.size for each in remote))}{more}; datasets to {root}")
    sys.stdout.flush()
    if args.dry_run or not downloads:
        return OK
    try:
        _download_all(downloads)
    except KeyboardInterrupt:
        print("probebench: interrupted; run the same command again to resume the download", file=sys.stderr)
        return INTERRUPTED
    return _print_summary(names, downloads, root)


def _find_downloads(requested: Sequence[str], root: Path, keep: bool) -> tuple[list[str], list[_Download]]:
    """Resolve names and list the files that are missing, each once. Raises UnknownName."""
    catalog = default_catalog()
    names: list[str] = []
    downloads: dict[str, _Download] = {}
    for spec in (spec for name in requested for spec in _specs(catalog, name)):
        if spec.name in names:
            continue
        names.append(spec.name)
        wanted = _weights(spec) if isinstance(spec, ModelSpec) else _archives(spec, root, keep)
        for key, download in wanted.items():
            if key in downloads:
                downloads[key].actions += download.actions
            downloads.setdefault(key, download).names.append(spec.name)
    return names, list(downloads.values())


def _specs(catalog: Catalog, name: str) -> list[ModelSpec | DatasetSpec]:
    if names_library(name):
        return [catalog.model(name)]  # its error lists the nearest names of the library
    try:
        return [catalog.dataset(each) for each in catalog.dataset_names(name)]
    except UnknownName:
        pass
    try:
        return [catalog.model(name)]
    except UnknownName:
        every = [*catalog.models, *catalog.datasets, *catalog.suites]
        raise unknown("model, dataset or suite", name, every, f"{MODELS_LISTED}, {DATASETS_LISTED}") from None


def _weights(spec: ModelSpec) -> dict[str, _Download]:
    from probebench.fetch import hub

    if not hub.needs_download(spec) or hub.cached(spec) is not None:
        return {}
    action = lambda progress: hub.download(spec, progress=progress)  # noqa: E731
    title = f"weights of {spec.name}"
    return {title: _Download(title, spec.download_size, "the hub", [action])}


def _archives(spec: DatasetSpec, root: Path, keep: bool) -> dict[str, _Download]:
    from probebench.fetch import fetch_archive

    def plan(archive: Archive) -> _Download:
        host = urlsplit(archive.url).hostname or ""
        by_hand = (root / archive.folder / archive.filename).exists()
        instead = "already here, to be unpacked" if by_hand else archive.manual and f"by hand: {archive.manual}"
        action = lambda progress: fetch_archive(archive, root, progress, keep)  # noqa: E731
        return _Download(archive.filename, archive.size, host, [action], instead)

    return {f"{archive.folder} {archive.url}": plan(archive) for archive in missing(spec, root)}


def _download_all(downloads: Sequence[_Download]) -> None:
    from probebench.fetch import Unreachable
    from probebench.reporting.terminal.progress import transfers

    unreachable: set[str] = set()
    with transfers(sys.stderr) as progress:
        for download in downloads:
            if download.host in unreachable:
                download.error = f"not tried, because {download.host} cannot be reached"
                continue
            try:
                for action in download.actions:
                    action(progress)
            except Unreachable as error:
                download.error = str(error)
                unreachable.add(download.host)
            except ProbebenchError as error:
                download.error = str(error)


def _print_summary(names: Sequence[str], downloads: Sequence[_Download], root: Path) -> int:
    failed = [download for download in downloads if download.error]
    incomplete = {name for download in failed for name in download.names}
    if complete := [name for name in names if name not in incomplete]:
        print(f"on this machine: {', '.join(complete)}")
    if root != data_root():
        print(f"datasets are read from {data_root()}; set PROBEBENCH_DATA={root} to read these")
    for each in failed:
        print(f"probebench: could not fetch {each.title} (for {each.wanted_by}): {each.error}", file=sys.stderr)
    return FAILED if failed else OK
