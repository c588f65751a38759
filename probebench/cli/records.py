"""The commands that read run records: `probebench show`, `leaderboard`, `report`, `figures`, `compare`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from probebench.cli.argument_types import names, number
from probebench.cli.exit_codes import OK, REGRESSED, USAGE
from probebench.errors import ProbebenchError, StoreError
from probebench.records.find import find_record

if TYPE_CHECKING:
    from probebench.records.merge import Stored
    from probebench.records.types import Record, SourceRecord

FORMATS = {"terminal": "", "github": "md", "latex": "tex", "csv": "csv", "json": ""}
FORMAT_OF_SUFFIX = {f".{kind or name}": name for name, kind in FORMATS.items()}
LEVELS = ("brief", "normal", "full")
RUN_HELP = "a run record: a file, the start of a name in .probebench/runs, or `latest`"


def add_commands(commands: Any) -> None:
    """Add the five commands to the subparsers of `probebench`."""
    for add in (_add_show, _add_leaderboard, _add_report, _add_figures, _add_compare):
        add(commands)


def _add_show(commands: Any) -> None:
    command = commands.add_parser(
        "show",
        help="show a stored run",
        description="Show the leaderboards of a stored run and how they were measured.",
    )
    command.set_defaults(run=_show)
    command.add_argument("record", metavar="RUN", help=RUN_HELP)
    _add_level(command)


def _add_leaderboard(commands: Any) -> None:
    command = commands.add_parser(
        "leaderboard",
        help="show one leaderboard of one or more stored runs",
        description="Merge one or more runs, of one machine or of several, and show their leaderboard. If several runs "
        "measured a case, the newest result is used. Runs of different protocols, test sets or weights are refused.",
    )
    command.set_defaults(run=_leaderboard)
    _add_runs(command)
    command.add_argument(
        "--format", choices=list(FORMATS), help="output format (default: by the suffix of FILE, else terminal)"
    )
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write to FILE instead of the terminal")
    _add_selection(command)
    _add_level(command)


def _add_report(commands: Any) -> None:
    command = commands.add_parser(
        "report",
        help="write an HTML report of one or more stored runs",
        description="Merge one or more runs as `probebench leaderboard` does, and write an HTML report: one "
        "self-contained file for a browser on a desk or a phone.",
    )
    command.set_defaults(run=_report)
    _add_runs(command)
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="file to write, such as report.html"
    )
    _add_selection(command)


def _add_figures(commands: Any) -> None:
    command = commands.add_parser(
        "figures",
        help="draw figures and tables of one or more stored runs, for a paper",
        description="Merge one or more runs as `probebench leaderboard` does, and draw: accuracy by depth of each "
        "model and its random control, accuracy by site and depth, over datasets the best layer of each site and the "
        "gains of one place over another, and the table of datasets by sites as LaTeX and markdown. Prints the names "
        "of the files it writes.",
    )
    command.set_defaults(run=_figures)
    _add_runs(command)
    command.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="directory to write to")
    command.add_argument(
        "--format", type=names, default=[], metavar="LIST", help="formats of the figures (default: pdf,svg,png)"
    )
    command.add_argument(
        "--site", metavar="SITE", help="plot this site by depth instead of the best site of each layer"
    )
    command.add_argument(
        "--tuned",
        type=_tuned,
        action="append",
        default=[],
        metavar="MODEL=BASE",
        help="draw MODEL, fine-tuned from BASE, in the panel of BASE; repeatable",
    )
    _add_selection(command)


def _add_compare(commands: Any) -> None:
    command = commands.add_parser(
        "compare",
        help="compare two stored runs, or two models",
        description="Judge run B with run A as its baseline. A model in both runs is compared with itself, tap by "
        "tap. Two different models are compared at the taps that both have, and at the taps chosen for each on "
        "held-out training images.",
        epilog="exit codes: 0 nothing regressed; 1 a regression; 2 usage error, or nothing could be compared",
    )
    command.set_defaults(run=_compare, failed=USAGE)  # 1 means a regression
    command.add_argument("a", metavar="RUN_A", help=RUN_HELP)
    command.add_argument("b", metavar="RUN_B", help="another run record, or RUN_A again to compare two of its models")
    command.add_argument("--models", nargs=2, metavar=("A", "B"), help="compare model A of RUN_A with model B of RUN_B")
    command.add_argument(
        "--alpha",
        type=number(lambda alpha: 0 < alpha < 1, "a level between 0 and 1"),
        default=0.01,
        metavar="LEVEL",
        help="family-wise error level of the verdicts (default: %(default)s)",
    )
    command.add_argument(
        "--min-drop",
        type=number(lambda points: 0 <= points <= 100, "percentage points from 0 to 100"),
        default=0.5,
        metavar="POINTS",
        help="smallest accuracy change in percentage points that can be a verdict (default: %(default)s)",
    )
    command.add_argument("--all", action="store_true", help="show every case, not only the largest changes")


def _add_runs(command: argparse.ArgumentParser) -> None:
    command.add_argument("records", nargs="+", metavar="RUN", help=RUN_HELP)


def _add_selection(command: argparse.ArgumentParser) -> None:
    """Add the options of the commands that merge runs."""
    command.add_argument("--protocol", metavar="NAME", help="protocol to show, if the runs have several")
    for kind, example in (("model", ", such as 'vit_*'"), ("dataset", "")):
        command.add_argument(
            f"--{kind}",
            type=names,
            action="extend",
            default=[],
            metavar="GLOB",
            help=f"only these {kind}s{example}; repeatable",
        )


def _add_level(command: argparse.ArgumentParser) -> None:
    command.add_argument("--level", choices=LEVELS, default="normal", help="level of detail (default: %(default)s)")


def _tuned(text: str) -> tuple[str, str]:
    model, equals, base = text.partition("=")
    if not (equals and model and base):
        raise argparse.ArgumentTypeError(f"{text!r} is not MODEL=BASE")
    return model, base


def _read(name: str, bits: str = "") -> Stored:
    """A record, and which test examples were right.

    Args:
        bits: ``needed``; ``useful``, which means a warning if they are missing; ``derived``: those of an older record
            that lacks something that is derived from them; or empty: they are not read
    """
    from probebench.records.merge import Stored
    from probebench.records.run_record import load, load_correct

    path = find_record(name)
    if not Path(name).is_file() and path.parent != Path.cwd() / ".probebench" / "runs":
        print(f"run record {path.stem} is from {path.parent.parent.parent}; this folder has none", file=sys.stderr)
    record, correct = load(path), {}
    chosen, compared = (all(key in sweep for sweep in record["sweeps"]) for key in ("selection", "contrasts"))
    if bits in ("needed", "useful") or (bits == "derived" and not (chosen and compared)):
        try:
            correct = dict(load_correct(record, path))
        except StoreError as error:
            if bits == "needed":
                raise
            if bits == "useful" or not chosen:
                print(f"WARNING: {error}; it may stay unknown which taps are tied", file=sys.stderr)
    # Runs in different folders often have the same file name, so messages name the path.
    return Stored(str(path) if Path(name).is_file() else path.stem, record, correct)


def _show(args: argparse.Namespace) -> int:
    from probebench.records.contrasts import with_contrasts
    from probebench.records.tap_selection import with_selections
    from probebench.records.view import RecordView
    from probebench.reporting.terminal.console import output_style
    from probebench.reporting.terminal.leaderboard import render

    run = _read(args.record, "derived")
    record = with_contrasts(with_selections(run.record, run.correct), run.correct)
    lines = [*RecordView(record).data_notes, *_provenance(run)]
    _print(render(record, level=args.level, **output_style(sys.stdout)) + "\n" + "\n".join(lines))
    return OK


def _provenance(run: Stored) -> list[str]:
    from probebench._format import counted

    record = run.record
    took = f"started {record['started']}, took {record['duration_seconds']:.0f} s"
    lines = [f"run       {run.name}", f"when      {took}" + (" (interrupted)" if record["interrupted"] else "")]
    for source in record.get("merged", []):
        lines += [f"\nmerged    {source['name']}, started {source['started']}", *_origin(source)]
    if not record.get("merged"):
        lines += _origin(record)
    fingerprints = {case["protocol"]: case["fingerprint"] for case in record["cases"]}
    lines += [f"protocol  {name} ({fingerprint})" for name, fingerprint in fingerprints.items()]
    for failure in record["failures"]:
        lines.append(f"FAILED    {failure['sweep']}: {failure['error'].splitlines()[0]}")
    if record["stale"]:
        lines.append(
            f"stale     {counted(len(record['stale']), 'baseline')} without a case, such as {record['stale'][0]}"
        )
    return lines


def _origin(source: Record | SourceRecord) -> list[str]:
    from probebench._format import counted

    hardware = source["hardware"]
    cores = counted(hardware["cores"], "core")
    cores += f" and {counted(hardware['workers'], 'worker')}" if "workers" in hardware else ""
    cores += f" of {counted(hardware['nodes'], 'Ray node')}" if hardware.get("nodes") else ""
    return [
        f"command   {' '.join(source['command'])}",
        f"versions  {', '.join(f'{name} {number}' for name, number in source['versions'].items())}",
        f"hardware  {hardware['cpu']}, {cores}, {hardware['platform']}; "
        f"{', '.join([*hardware['devices'], *hardware['gpus']])}",
    ]


def _leaderboard(args: argparse.Namespace) -> int:
    from probebench import _files
    from probebench.records import run_record
    from probebench.records.contrasts import with_contrasts
    from probebench.records.merge import merge, missing_shards
    from probebench.records.select import select

    if args.format is None:
        args.format = FORMAT_OF_SUFFIX.get(args.output.suffix.lower(), "terminal") if args.output else "terminal"
    # A whole record is written with its bits or not at all.
    whole = args.format == "json" and args.output is not None
    bits = "needed" if whole else "derived" if len(args.records) == 1 else "useful"
    if args.output is not None and any(_is_same(args.output, find_record(name)) for name in args.records):
        raise ProbebenchError(f"-o {args.output} is one of the runs that are read: name another file")
    runs = [_read(name, bits) for name in args.records]
    record, correct = merge(runs, args.protocol)
    record = select(with_contrasts(record, correct), args.model, args.dataset)
    if missing := missing_shards(run.record for run in runs):
        print(f"WARNING: shard {', '.join(missing)} is missing", file=sys.stderr)
    if not record["cases"]:
        raise ProbebenchError(f"no case in {', '.join(args.records)}")
    if whole:
        run_record.save(record, args.output, correct)
        return OK
    text = run_record.to_json(record) if args.format == "json" else _board(record, args)
    if args.output is not None:
        _files.write(args.output, text)
    else:
        _print(text.rstrip("\n"))
    return OK


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and one.samefile(other)


def _report(args: argparse.Namespace) -> int:
    from probebench.records.contrasts import with_contrasts
    from probebench.records.merge import merge
    from probebench.records.select import select
    from probebench.reporting import html
    from probebench.reporting.sentences import tally

    html.check(args.output, "-o")
    runs = [_read(name, "derived") for name in args.records]
    record = select(with_contrasts(*merge(runs, args.protocol)), args.model, args.dataset)
    size = html.write(record, args.output, runs[0].name if len(runs) == 1 else f"{len(runs)} runs")
    print(f"{args.output}: {tally(record)}, {size / 1e6:.1f} MB")
    return OK


def _figures(args: argparse.Namespace) -> int:
    from probebench.records.contrasts import with_contrasts
    from probebench.records.merge import merge
    from probebench.reporting import figures
    from probebench.reporting.figures.options import FORMATS as KINDS
    from probebench.reporting.figures.options import FigureOptions

    formats = list(dict.fromkeys(args.format)) or list(KINDS)
    figures.check(args.output, formats, "-o")
    record = with_contrasts(*merge([_read(name, "derived") for name in args.records], args.protocol))
    wanted = FigureOptions(args.model, args.dataset, formats, args.site, dict(args.tuned))
    paths, notes = figures.write(record, args.output, wanted)
    for path in paths:
        _print(str(path))
    for note in notes:
        print(note, file=sys.stderr)
    return OK


def _board(record: Record, args: argparse.Namespace) -> str:
    from probebench.reporting.export import to_text
    from probebench.reporting.terminal.console import OutputStyle, output_style
    from probebench.reporting.terminal.leaderboard import render

    if kind := FORMATS[args.format]:
        return to_text(record, kind)
    in_file = OutputStyle(width=None, color=False, ascii_only=False)
    return render(record, level=args.level, **(in_file if args.output is not None else output_style(sys.stdout)))


def _compare(args: argparse.Namespace) -> int:
    from probebench.records.compare import compare
    from probebench.reporting.terminal.comparison import render
    from probebench.reporting.terminal.console import output_style

    a, b = _read(args.a, bits="needed"), _read(args.b, bits="needed")
    models = tuple(args.models) if args.models else None
    found = compare(a, b, models=models, alpha=args.alpha, min_drop=args.min_drop / 100)
    _print(render(found, (a.name, b.name), every=args.all, **output_style(sys.stdout)))
    return REGRESSED if found.regressed else OK


def _print(text: str) -> None:
    encoding = sys.stdout.encoding or "ascii"
    print(text.rstrip("\n").encode(encoding, "replace").decode(encoding))
