"""The command `probebench`: what there is to measure, and getting it; `probebench.cli.records` has what reads runs,
`probebench.cli.recommend` what probes one's own images."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from probebench._format import human
from probebench._version import __version__
from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from probebench.catalog.catalog import DATASETS_LISTED, MODELS_LISTED
from probebench.catalog.precision import MEANING
from probebench.catalog.specs import names_timm
from probebench.cli import cache, recommend, records
from probebench.cli.catalog_tables import Row, dataset_rows, model_rows, protocol_rows, write_table
from probebench.errors import FetchError, ProbebenchError, UnknownName, unknown
from probebench.fetch.local import data_root, missing
from probebench.models import default_catalog

if TYPE_CHECKING:
    from probebench._progress import Progress

EXAMPLES = """examples:
  probebench models                     all models
  probebench datasets flowers           datasets with a word anywhere in their description
  probebench datasets --all cifar10_c   one row for each corruption
  probebench protocols                  how things can be measured
  probebench fetch cifar10 flowers102   get two datasets
  probebench fetch paper --dry-run      what the suite `paper` would download
  probebench recommend --model glyphvit --data FOLDER -o DIR
  probebench show latest                the last run in this folder, or the nearest above that has one
  probebench leaderboard a.json b.json --format github
  probebench report a.json b.json -o report.html
  probebench figures a.json b.json -o figures
  probebench compare before.json after.json
  probebench cache ls                   features that are kept, with their sizes

exit codes: 0 done, 1 not all could be done or, of compare, something regressed, 2 wrong usage or an unknown name, 130
interrupted
"""

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with its arguments, those of the process by default; the exit code."""
    args = _parser().parse_args(argv)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except UnknownName as error:
        print(f"probebench: {error}", file=sys.stderr)
        return USAGE
    except ProbebenchError as error:
        print(f"probebench: {error}", file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # such as `probebench datasets | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="probebench",
        description="List the models, datasets and protocols that probebench knows, fetch what is missing, read what "
        "runs have measured, look after the features that they kept, and recommend where to read a model for your own "
        "images.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"probebench {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    models = commands.add_parser("models", help="list models", description="List the models of the catalog.")
    models.set_defaults(run=_models)
    datasets = commands.add_parser("datasets", help="list datasets", description="List the datasets of the catalog.")
    datasets.set_defaults(run=_datasets)
    protocols = commands.add_parser(
        "protocols",
        help="list protocols",
        description="List the named protocols, for --probe-protocol; docs/protocols.md has the reasons.",
    )
    protocols.set_defaults(run=_protocols)
    for command in (models, datasets, protocols):
        command.add_argument("words", nargs="*", metavar="WORD", help="only rows that have every word somewhere")
        command.add_argument("--json", action="store_true", help="for programs: all that is known, one object a row")
    datasets.add_argument("--all", action="store_true", help="a row for every corruption, as when words are given")

    fetch = commands.add_parser(
        "fetch",
        help="download models and datasets",
        description="Download what is not on this machine: pretrained weights, and the archives of datasets, which "
        "are checked and unpacked. An interrupted download is continued by the same command.",
    )
    fetch.set_defaults(run=_fetch)
    fetch.add_argument("names", nargs="+", metavar="NAME", help="a model, a dataset or a suite of datasets")
    fetch.add_argument("--root", type=Path, metavar="DIR", help="where datasets go, instead of PROBEBENCH_DATA")
    fetch.add_argument("--keep-archives", action="store_true", help="leave archives beside what was unpacked")
    fetch.add_argument("--dry-run", action="store_true", help="only say what would be downloaded")
    records.add_commands(commands)
    recommend.add_command(commands)
    cache.add_commands(commands)
    return parser


def _models(args: argparse.Namespace) -> int:
    return _list("model", model_rows(default_catalog()), args)


def _datasets(args: argparse.Namespace) -> int:
    grouped = not (args.words or args.all or args.json)
    return _list("dataset", dataset_rows(default_catalog(), data_root(), grouped), args)


def _protocols(args: argparse.Namespace) -> int:
    found = _list("protocol", protocol_rows(), args)
    if not (args.words or args.json):
        print("\nWith +NAME behind it, such as default@1+bf16, each is one of another precision:")
        for name, meaning in MEANING.items():
            if name != "fp32":
                print(f"  +{name}  {meaning}")
    return found


def _list(kind: str, rows: list[Row], args: argparse.Namespace) -> int:
    found = [row for row in rows if row.matches(args.words)]
    if args.json:
        print(json.dumps([row.data for row in found], indent=2))
    elif found:
        write_table(found, sys.stdout)
    if found:
        return OK
    names = [row.data["name"] for row in rows]
    near = list(dict.fromkeys(name for word in args.words for name in get_close_matches(word, names, n=3)))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    print(f"probebench: no {kind} has {' and '.join(map(repr, args.words))} in its row.{hint}", file=sys.stderr)
    return FAILED


@dataclass
class _Job:
    """One file to fetch.

    Attributes:
        runs: what fetches it, once for each thing that is made of it: all but the first find that it is there
        instead: why it is not downloaded, where it is not: only a person can get it, or one already has
        names: the models or datasets that it is for
        host: where it comes from: once that cannot be reached, its other files are not tried
        error: why it was not fetched; empty before, and if it was
    """

    title: str
    size: int
    host: str
    runs: list[Callable[[Progress], object]]
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
        raise FetchError(f"{root} is a file; datasets need a folder: name one by --root or PROBEBENCH_DATA")
    names, jobs = _plan(args.names, root, args.keep_archives)
    waiting = {name for job in jobs for name in job.names}
    if here := [name for name in names if name not in waiting]:
        print(f"on this machine: {', '.join(here)}")
    for job in jobs:
        size = human(job.size) if job.size else "size unknown"
        print(f"{job.title}: {size}, for {job.wanted_by}" + (f"; {job.instead}" if job.instead else ""))
    if downloads := [job for job in jobs if not job.instead]:
        unknown_sizes = sum(not job.size for job in downloads)
        more = f" and {unknown_sizes} of unknown size" if unknown_sizes else ""
        print(f"{len(downloads)} to download: {human(sum(job.size for job in downloads))}{more}; datasets to {root}")
    sys.stdout.flush()
    if args.dry_run or not jobs:
        return OK
    try:
        _run(jobs)
    except KeyboardInterrupt:
        print(
            "probebench: interrupted; what has arrived is kept, and the same command goes on from there",
            file=sys.stderr,
        )
        return INTERRUPTED
    return _summary(names, jobs, root)


def _plan(asked: Sequence[str], root: Path, keep: bool) -> tuple[list[str], list[_Job]]:
    """What names stand for, and the files that are missing, each once. Raises UnknownName."""
    catalog = default_catalog()
    names: list[str] = []
    jobs: dict[str, _Job] = {}
    for spec in (spec for name in asked for spec in _specs(catalog, name)):
        if spec.name in names:
            continue
        names.append(spec.name)
        wanted = _weights(spec) if isinstance(spec, ModelSpec) else _archives(spec, root, keep)
        for key, job in wanted.items():
            if key in jobs:
                jobs[key].runs += job.runs
            jobs.setdefault(key, job).names.append(spec.name)
    return names, list(jobs.values())


def _specs(catalog: Catalog, name: str) -> list[ModelSpec | DatasetSpec]:
    if names_timm(name):
        return [catalog.model(name)]  # whose error names the nearest of timm's
    try:
        return [catalog.dataset(each) for each in catalog.dataset_names(name)]
    except UnknownName:
        pass
    try:
        return [catalog.model(name)]
    except UnknownName:
        every = [*catalog.models, *catalog.datasets, *catalog.suites]
        raise unknown("model, dataset or suite", name, every, f"{MODELS_LISTED}, {DATASETS_LISTED}") from None


def _weights(spec: ModelSpec) -> dict[str, _Job]:
    from probebench.fetch import hub

    if not hub.needs_download(spec) or hub.cached(spec) is not None:
        return {}
    run = lambda progress: hub.download(spec, progress=progress)  # noqa: E731
    return {f"weights of {spec.name}": _Job(f"weights of {spec.name}", spec.download_size, "the hub", [run])}


def _archives(spec: DatasetSpec, root: Path, keep: bool) -> dict[str, _Job]:
    from probebench.fetch import fetch_archive

    def job(archive: Archive) -> _Job:
        host = urlsplit(archive.url).hostname or ""
        by_hand = (root / archive.folder / archive.filename).exists()
        instead = "is here, to be unpacked" if by_hand else archive.manual and f"by hand: {archive.manual}"
        run = lambda progress: fetch_archive(archive, root, progress, keep)  # noqa: E731
        return _Job(archive.filename, archive.size, host, [run], instead)

    return {f"{archive.folder} {archive.url}": job(archive) for archive in missing(spec, root)}


def _run(jobs: Sequence[_Job]) -> None:
    from probebench.fetch import Unreachable
    from probebench.reporting.terminal.progress import transfers

    unreachable: set[str] = set()
    with transfers(sys.stderr) as progress:
        for job in jobs:
            if job.host in unreachable:
                job.error = f"not tried, for {job.host} cannot be reached"
                continue
            try:
                for run in job.runs:
                    run(progress)
            except Unreachable as error:
                job.error = str(error)
                unreachable.add(job.host)
            except ProbebenchError as error:
                job.error = str(error)


def _summary(names: Sequence[str], jobs: Sequence[_Job], root: Path) -> int:
    failed = [job for job in jobs if job.error]
    lacking = {name for job in failed for name in job.names}
    fetched = [name for name in names if name not in lacking]
    if fetched:
        print(f"on this machine: {', '.join(fetched)}")
    if root != data_root():
        print(f"readers look in {data_root()}; PROBEBENCH_DATA={root} makes them look there")
    for job in failed:
        print(f"probebench: {job.title}, for {job.wanted_by}, was not fetched: {job.error}", file=sys.stderr)
    return FAILED if failed else OK
