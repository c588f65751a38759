"""The commands `probebench models`, `datasets` and `protocols`: list what the catalog contains."""

from __future__ import annotations

import argparse
import json
import sys
from difflib import get_close_matches
from typing import Any

from probebench.catalog.precision import MEANING
from probebench.cli.catalog_tables import Row, dataset_rows, model_rows, protocol_rows, write_table
from probebench.cli.exit_codes import FAILED, OK
from probebench.fetch.local import data_root
from probebench.models import default_catalog


def add_commands(commands: Any) -> None:
    """Add the three commands to the subparsers of `probebench`."""
    models = commands.add_parser("models", help="list models", description="List the models of the catalog.")
    models.set_defaults(run=_models)
    datasets = commands.add_parser("datasets", help="list datasets", description="List the datasets of the catalog.")
    datasets.set_defaults(run=_datasets)
    protocols = commands.add_parser(
        "protocols",
        help="list protocols",
        description="List the named protocols, the values of --probe-protocol. docs/protocols.md explains them.",
    )
    protocols.set_defaults(run=_protocols)
    for command in (models, datasets, protocols):
        command.add_argument("words", nargs="*", metavar="WORD", help="show only rows containing all words")
        command.add_argument("--json", action="store_true", help="print JSON with all details, one object per row")
    datasets.add_argument(
        "--all", action="store_true", help="show one row per corruption (the default when a WORD is given)"
    )


def _models(args: argparse.Namespace) -> int:
    return _list("model", model_rows(default_catalog()), args)


def _datasets(args: argparse.Namespace) -> int:
    grouped = not (args.words or args.all or args.json)
    return _list("dataset", dataset_rows(default_catalog(), data_root(), grouped), args)


def _protocols(args: argparse.Namespace) -> int:
    code = _list("protocol", protocol_rows(), args)
    if not (args.words or args.json):
        print("\nAppend +NAME to measure in another precision, for example default@2+bf16:")
        for name, meaning in MEANING.items():
            if name != "fp32":
                print(f"  +{name}  {meaning}")
    return code


def _list(kind: str, rows: list[Row], args: argparse.Namespace) -> int:
    """Print the rows that contain all words, or an error with the nearest names if there are none."""
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
    print(f"probebench: no {kind} contains {' and '.join(map(repr, args.words))}.{hint}", file=sys.stderr)
    return FAILED
