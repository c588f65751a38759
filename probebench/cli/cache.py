"""The command `probebench cache`: list, verify and clear cached features."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probebench._format import human
from probebench.cli.exit_codes import FAILED, OK
from probebench.errors import StoreError, unknown

if TYPE_CHECKING:
    from probebench.features.cache.store import About, FeatureCache

_SHORT = 8  # digits shown of an entry's name


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of `probebench`."""
    cache = commands.add_parser(
        "cache",
        help="list, verify or clear cached features",
        description="Manage the features that runs keep on disk (--probe-cache) so that later runs need not extract "
        "them.",
    )
    actions = cache.add_subparsers(title="actions", required=True, metavar="ACTION")
    ls = actions.add_parser("ls", help="list entries", description="List entries, the most recently used first.")
    ls.set_defaults(run=partial(_report_os_errors, _ls))
    ls.add_argument("--json", action="store_true", help="print JSON with all details, one object per entry")
    verify = actions.add_parser(
        "verify",
        help="check every checksum",
        description="Read every entry and check every checksum. Runs check the entries they use by themselves.",
        epilog="exit codes: 0 no file is damaged; 1 damaged files, which are listed",
    )
    verify.set_defaults(run=partial(_report_os_errors, _verify))
    verify.add_argument(
        "--remove", action="store_true", help="remove damaged files, and files left by killed processes"
    )
    clear = actions.add_parser(
        "clear",
        help="remove entries",
        description="Remove all entries, or those of one model or dataset.",
        epilog="exit codes: 0 success; 1 some entries were not removed because a running process uses them",
    )
    clear.set_defaults(run=partial(_report_os_errors, _clear))
    for action in (ls, verify, clear):
        action.add_argument("--root", type=Path, metavar="DIR", help="cache folder, instead of PROBEBENCH_CACHE")
        action.add_argument("--model", metavar="NAME", help="only entries of this model")
        action.add_argument("--dataset", metavar="NAME", help="only entries of this dataset")


def _report_os_errors(action: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Run an action; raise StoreError for what the file system refuses."""
    try:
        return action(args)
    except OSError as error:
        if error.filename is None:  # of the standard output
            raise
        raise StoreError(f"the feature cache cannot be used ({error.filename}: {error.strerror or error})") from error


def _entries(args: argparse.Namespace) -> tuple[FeatureCache, list[About]]:
    """The entries that match the options, the most recently used first."""
    from probebench.features.cache import FeatureCache, cache_root

    root = (args.root or cache_root()).expanduser().absolute()
    if root.exists() and not root.is_dir():
        raise StoreError(
            f"{root} is a file; the feature cache needs a folder: set another one with --root or PROBEBENCH_CACHE"
        )
    cache = FeatureCache(root)
    found = sorted((cache.about(entry) for entry in cache.entries()), key=lambda about: -about.used)
    for kind in ("model", "dataset"):
        if (name := getattr(args, kind)) is not None:
            known = {about.names[kind] for about in found if kind in about.names}
            if name not in known:
                raise unknown(f"{kind} in {root}", name, known or ["none"], "`probebench cache ls` lists them")
            found = [about for about in found if about.names.get(kind) == name]
    return cache, found


def _title(about: About) -> str:
    return " ".join([about.entry.name[:_SHORT], *about.names.values()])


def _ls(args: argparse.Namespace) -> int:
    cache, found = _entries(args)
    if args.json:
        print(json.dumps([_data(about, cache.in_use(about.entry)) for about in found], indent=2))
        return OK
    if found:
        from tabulate import tabulate

        header = ("entry", "model", "dataset", "part", "images", "taps", "size", "last used", "")
        aligned = ("left",) * 4 + ("right",) * 3 + ("left",) * 2
        cells = [_cells(about, cache.in_use(about.entry)) for about in found]
        print(tabulate(cells, header, tablefmt="simple", colalign=aligned))
    total = sum(about.bytes for about in found)
    print(f"{len(found)} {'entry' if len(found) == 1 else 'entries'}, {human(total)}, in {cache.root}")
    return OK


def _cells(about: About, in_use: bool) -> list[str]:
    taps = str(about.finished) + (f" + {about.unfinished} unfinished" if about.unfinished else "")
    names = [about.names.get(name, "?") for name in ("model", "dataset", "part")]
    images = f"{about.manifest.images:,}" if about.manifest is not None else "?"
    used = datetime.fromtimestamp(about.used).strftime("%Y-%m-%d %H:%M") if about.used else "never"
    state = about.problem or ("in use" if in_use else "")
    return [about.entry.name[:_SHORT], *names, images, taps, human(about.bytes), used, state]


def _data(about: About, in_use: bool) -> dict[str, Any]:
    manifest = about.manifest
    return {
        "entry": about.entry.name,
        "path": str(about.entry.folder),
        **about.names,
        "images": manifest.images if manifest is not None else None,
        "taps": sorted(address.partition(".")[0] for address in manifest.taps) if manifest is not None else [],
        "unfinished": about.unfinished,
        "bytes": about.bytes,
        "last_used": datetime.fromtimestamp(about.used).astimezone().isoformat() if about.used else None,
        "in_use": in_use,
        "problem": about.problem or None,
        "key": dict(manifest.key) if manifest is not None else None,
    }


def _verify(args: argparse.Namespace) -> int:
    cache, found = _entries(args)
    bad = stays = 0
    for about in found:
        problems = cache.verify(about.entry)
        bad += len(problems)
        for problem in problems:
            print(f"{_title(about)}: {problem}")
        if args.remove and (problems or about.entry.strays()) and not cache.repair(about.entry):
            stays += 1
            print(f"{_title(about)}: not removed, because a running process uses it", file=sys.stderr)
    total = sum(about.bytes for about in found)
    done = f", {'removed' if not stays else 'removed unless in use'}" if args.remove and bad else ""
    print(f"{len(found)} entries, {human(total)}: {f'{bad} damaged{done}' if bad else 'none damaged'}")
    return FAILED if bad else OK


def _clear(args: argparse.Namespace) -> int:
    cache, found = _entries(args)
    stays = [about for about in found if not cache.remove(about.entry)]
    removed = [about for about in found if about not in stays]
    print(f"{len(removed)} removed, {human(sum(about.bytes for about in removed))}, from {cache.root}")
    for about in stays:
        print(f"probebench: {_title(about)} was not removed, because a running process uses it", file=sys.stderr)
    return FAILED if stays else OK
