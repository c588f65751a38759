"""The command `probebench demo`: one sweep of the embedded model, shown and explained."""

from __future__ import annotations

import argparse
import atexit
import gc
import sys
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

from probebench.catalog.taps import EMBED, FINAL, OUTPUT, SITES
from probebench.cli.exit_codes import INTERRUPTED, OK

MODEL = "glyphvit"
DATASET = "digits_inverted"
LAYERS = (2, 4, 6, 8, 10, 12)
"""Every second layer: with all of them, the solver would take twice as long."""


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of `probebench`."""
    command = commands.add_parser(
        "demo",
        help="measure the embedded model on one dataset, and explain the result; about 20 seconds",
        description="Probe every second layer of the small network that is shipped with the package on one strongly "
        "shifted dataset, and show the accuracy of every layer and site, what it means, and what to do next. It needs "
        "no network, no GPU and no clone of the repository, and it writes no file.",
    )
    command.set_defaults(run=_demo)


def _demo(args: argparse.Namespace) -> int:
    try:
        return _measure_and_show()
    except KeyboardInterrupt:
        print("probebench: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED


def _measure_and_show() -> int:
    from probebench.reporting.terminal.console import output_style
    from probebench.reporting.terminal.progress import bar

    atexit.register(gc.freeze)  # the end of Python would search all of torch for garbage, for more than a second

    # The bar is there before torch, whose import takes seconds.
    with bar(sys.stderr, MODEL) if sys.stderr.isatty() else nullcontext() as progress:
        from probebench.measure.sweep import run_sweep
        from probebench.models import default_catalog

        # Without a reference, because the distance from the pretraining data is not shown and would take a second.
        model = replace(default_catalog().model(MODEL), reference="")
        result = run_sweep(
            model,
            DATASET,
            taps=[EMBED, *(f"L{layer:02d}-{site}" for layer in LAYERS for site in SITES), FINAL, OUTPUT],
            download=False,
            device="cpu",
            jobs=1,  # other processes would take as long to start as they would save
            progress=progress,
        )
    from probebench.cli.demo_text import render

    print(render(result, **output_style(sys.stdout)))
    return OK
