"""The command `probebench recommend`: find the best tap of a model for the user's images, and train its probe."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from probebench.catalog.taps import COMBINATIONS, POOLINGS
from probebench.catalog.tasks import TASKS
from probebench.cli.argument_types import known_names, number, positive
from probebench.cli.exit_codes import INTERRUPTED, OK
from probebench.errors import UnknownName


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of `probebench`."""
    command = commands.add_parser(
        "recommend",
        help="recommend a tap of a model for your images, with a trained probe",
        description="Probe every tap of a model on your own images under the protocol default@2, and recommend the one "
        "that is best on held-out training images: its test score, its gain over what the network itself "
        "returns, the taps that are statistically tied with it, and which of those are cheaper to compute. -o also "
        "writes the probe and a script that classifies images with it. Weights that are not on this machine are "
        "downloaded.",
    )
    command.set_defaults(run=_recommend)
    command.add_argument("--model", required=True, metavar="NAME", help="of the catalog, or timm:NAME, hf:NAME, ...")
    command.add_argument(
        "--data",
        required=True,
        metavar="PATH",
        help="folder of images, either with train/ and test/ (or val/), each with one folder per class, or with one "
        "folder per class and no split, of which a fifth becomes the test split; or a table or list of images and "
        "labels, parquet, npz or tar files, or a folder with those; or the name of a dataset of the catalog",
    )
    command.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="write probe.safetensors and classify.py into this folder"
    )
    _add_search(command)
    _add_sources(command)
    _add_machine(command)


def _add_search(command: argparse.ArgumentParser) -> None:
    """Add what is tried."""
    command.add_argument(
        "--budget",
        type=positive,
        metavar="N",
        help="screen all taps with a ridge probe on held-out training images, then fit the full probe to the N best "
        "taps, final and output only (default: fit it to all taps)",
    )
    command.add_argument(
        "--pooling",
        type=known_names("pooling", POOLINGS),
        default=(),
        metavar="NAME,...",
        help=f"how the tokens of an image become one vector: {', '.join(POOLINGS)}; each tap is probed with each "
        "(default: mean)",
    )
    command.add_argument(
        "--combine",
        type=known_names("combination", COMBINATIONS),
        default=(),
        metavar="NAME,...",
        help="also try concatenations: last4 (the last four blocks), pair and triple (the two or three taps that are "
        "best together on held-out training images)",
    )
    command.add_argument(
        "--attentive",
        action="store_true",
        help="also train the probe of attentive@1, which attends to tokens, at the tap that is best of all that was "
        "tried, or if that has no tokens at the best tap that has some. Recommended if it is better on validation",
    )
    command.add_argument(
        "--size",
        type=positive,
        metavar="PIXELS",
        help="side of the images that the network reads, for networks of timm: a multiple of its patches; smaller is "
        "faster, and mostly less accurate (default: the size of its pretraining)",
    )


def _add_sources(command: argparse.ArgumentParser) -> None:
    """Add where the weights are and what the data is."""
    command.add_argument(
        "--weights", type=Path, metavar="FILE", help="checkpoint to load instead of the model's own weights"
    )
    command.add_argument(
        "--task",
        choices=tuple(TASKS),
        help="what the labels of a table or an npz file are (default: one class an image)",
    )
    command.add_argument(
        "--duplicates",
        choices=("drop-train", "keep"),
        help="drop-train leaves out training images that are also test images, repeated, or under several labels; keep "
        "accepts them (default: keep them, and warn)",
    )
    command.add_argument(
        "--near-duplicates",
        type=number(lambda cosine: 0 < cosine <= 1, "a cosine above 0, at most 1"),
        metavar="COSINE",
        help="count test images whose features have at least this cosine to those of a training image, such as 0.95",
    )


def _add_machine(command: argparse.ArgumentParser) -> None:
    """Add what does the work."""
    command.add_argument("--device", default="auto", help="a torch device (default: cuda if available, else cpu)")
    command.add_argument(
        "--batch-size", type=positive, metavar="N", help="images per forward pass (default: chosen for the network)"
    )
    command.add_argument(
        "--jobs", type=positive, metavar="N", help="number of CPU cores to fit probes on (default: all)"
    )


def _recommend(args: argparse.Namespace) -> int:
    from probebench.models import default_catalog

    try:
        default_catalog().model(args.model)  # refuse a mistyped name before torch is imported
    except UnknownName as error:
        raise UnknownName(
            f"{error} Models that a conftest.py defines are available in pytest only: pass --weights FILE together "
            "with the catalog model it was tuned from, or call probebench.recommend(ModelSpec(...), FOLDER) in Python"
        ) from error
    from probebench.recommendation import recommend
    from probebench.recommendation.export import check
    from probebench.reporting.terminal.progress import stages

    if args.output is not None:
        check(args.output, "-o")
    try:
        with stages(sys.stderr, f"{args.model} on {args.data}") as progress:
            found = recommend(
                args.model,
                args.data,
                budget=args.budget,
                poolings=args.pooling,
                combinations=args.combine,
                attentive=args.attentive,
                size=args.size,
                weights=args.weights,
                task=args.task,
                duplicates=args.duplicates,
                near_duplicates=args.near_duplicates,
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
        print(f"budget    covers all {found.taps} taps: each had the full probe, and none was screened")
    if args.output is not None:
        probe, script = found.save(args.output)
        checkpoint = found.export.checkpoint
        more = f" --checkpoint {shlex.quote(str(checkpoint))}" if checkpoint is not None else ""
        print(f"written   {probe} and {script}; python {shlex.quote(str(script))} IMAGE...{more}")
    return OK
