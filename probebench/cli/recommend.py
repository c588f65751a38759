"""The command `probebench recommend`."""

from __future__ import annotations

import argparse
import shlex
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

OK, INTERRUPTED = 0, 130


def add_command(commands: Any) -> None:
    """Add it to the command's subparsers."""
    command = commands.add_parser(
        "recommend",
        help="which tap of a model to use for your images, with a trained probe",
        description="Probe every tap of a model on your own images under the protocol default@1, and answer in a few "
        "lines: the tap that is best on held-out training images, its test score, what it gains over the final "
        "features, which taps are as good and cheaper. With -o also write the probe and a script that classifies "
        "images with it. Weights that are not on this machine are downloaded.",
    )
    command.set_defaults(run=_recommend)
    command.add_argument("--model", required=True, metavar="NAME", help="a model of the catalog, or timm:NAME")
    command.add_argument(
        "--data",
        required=True,
        metavar="FOLDER",
        help="images: train/ and test/ or val/, in each one folder a class, or one folder a class alone, of which a "
        "test split is made; or the name of a dataset of the catalog",
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write probe.safetensors and classify.py into this folder"
    )
    command.add_argument(
        "--budget",
        type=_positive,
        metavar="N",
        help="screen all taps with a ridge probe on held-out training images, and give only the N best and final the "
        "full probe (default: all taps have it)",
    )
    command.add_argument("--weights", type=Path, metavar="FILE", help="a checkpoint to load instead of the model's own")
    command.add_argument("--device", default="auto", help="a torch device (default: cuda where there is one, else cpu)")
    command.add_argument(
        "--batch-size", type=_positive, metavar="N", help="images per forward pass (default: what suits the network)"
    )
    command.add_argument("--jobs", type=_positive, metavar="N", help="processor cores for the probes (default: all)")


def _positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return value


def _recommend(args: argparse.Namespace) -> int:
    from probebench.errors import UnknownName
    from probebench.models import default_catalog

    try:
        default_catalog().model(args.model)  # a mistyped name is refused before anything heavy is loaded
    except UnknownName as error:
        raise UnknownName(
            f"{error} Models of a conftest.py are known to pytest only: give --weights FILE with the model that it was "
            "tuned from, or in Python probebench.recommend(ModelSpec(...), FOLDER)"
        ) from error
    from probebench.recommendation import recommend
    from probebench.recommendation.export import check
    from probebench.reporting.terminal.progress import bar

    if args.output is not None:
        check(args.output, "-o")
    shown = bar(sys.stderr, f"{args.model} on {args.data}") if sys.stderr.isatty() else nullcontext()
    try:
        with shown as progress:
            found = recommend(
                args.model,
                args.data,
                budget=args.budget,
                weights=args.weights,
                device=args.device,
                batch_size=args.batch_size,
                jobs=args.jobs,
                progress=progress,
            )
    except KeyboardInterrupt:
        print("probebench: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    print(found)
    if args.budget is not None and found.budget is None:
        print(f"budget    of {found.taps} taps that is all: each had the full probe, and none was screened")
    if args.output is not None:
        probe, script = found.save(args.output)
        checkpoint = found.export.checkpoint
        more = f" --checkpoint {shlex.quote(str(checkpoint))}" if checkpoint is not None else ""
        print(f"written   {probe} and {script}; python {shlex.quote(str(script))} IMAGE...{more}")
    return OK
