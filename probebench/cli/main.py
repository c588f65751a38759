"""Parse the command line, run one subcommand, and turn errors into messages and exit codes."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from probebench._version import __version__
from probebench.cli import cache, catalog, demo, fetch, init, recommend, records
from probebench.cli.exit_codes import FAILED, SUMMARY, USAGE
from probebench.errors import ProbebenchError, UnknownName

EPILOG = f"""examples:
  probebench demo                       measure the embedded model, and explain the result
  probebench init my_probes             start a project: cases, your own model and images, baselines, CI
  probebench models                     list all models
  probebench datasets flowers           list the datasets that contain a word
  probebench datasets --all cifar10_c   show one row per corruption
  probebench protocols                  list the measurement protocols
  probebench fetch cifar10 flowers102   download two datasets
  probebench fetch paper --dry-run      show what the suite `paper` would download
  probebench recommend --model glyphvit --data FOLDER -o DIR
  probebench show latest                show the newest run of this folder, or of the nearest parent that has one
  probebench leaderboard a.json b.json --format github
  probebench report a.json b.json -o report.html
  probebench figures a.json b.json -o figures
  probebench compare before.json after.json
  probebench cache ls                   list cached features and their sizes

{SUMMARY}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run `probebench` and return its exit code.

    Args:
        argv: the arguments; those of the process by default
    """
    args = _parser().parse_args(argv)
    failed: int = getattr(args, "failed", FAILED)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except UnknownName as error:
        print(f"probebench: {error}", file=sys.stderr)
        return USAGE
    except ProbebenchError as error:
        print(f"probebench: {error}", file=sys.stderr)
        return failed
    except OSError as error:
        if error.filename is not None:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes it once more
        if not isinstance(error, BrokenPipeError):  # as of `probebench datasets | head`
            print(f"probebench: cannot write to the standard output: {error.strerror or error}", file=sys.stderr)
        return failed


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="probebench",
        description="Try probebench, start a project, list models, datasets and protocols, download models and "
        "datasets, show and compare stored runs, manage cached features, and recommend which layer of a model to use "
        "for your own images.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"probebench {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (demo, init, catalog, fetch, records, recommend, cache):
        module.add_commands(commands)
    return parser
