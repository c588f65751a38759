"""Define the command-line options; `probebench.plugin.parsing` makes one frozen `Options` of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from probebench.catalog.precision import PRECISIONS
from probebench.catalog.protocols import DEFAULT_PROTOCOL
from probebench.catalog.taps import POOLINGS
from probebench.measure.options import ENGINES, LEADERBOARD_LEVELS

if TYPE_CHECKING:
    import pytest

MANY = "comma-separated, may be repeated"


def add_options(parser: pytest.Parser) -> None:
    """Register the ``--probe-*`` options."""
    group = parser.getgroup("probebench", "probing of frozen vision transformers")
    for add in (_add_cases, _add_baselines, _add_leaderboards, _add_features, _add_storage, _add_machines):
        add(group)


def _add_cases(group: pytest.OptionGroup) -> None:
    """Add what is measured."""
    group.addoption("--probe-model", action="append", metavar="NAMES", help=f"only these models ({MANY})")
    group.addoption("--probe-dataset", action="append", metavar="NAMES", help=f"only these datasets or suites ({MANY})")
    group.addoption(
        "--probe-layer",
        action="append",
        metavar="LAYERS",
        help=f"only these layers: 6, 4-8, embed, final, output ({MANY})",
    )
    group.addoption("--probe-site", action="append", metavar="SITES", help=f"only these sites: act, rc2, ... ({MANY})")
    group.addoption("--probe-protocol", metavar="NAME", help=f"how to measure (default: {DEFAULT_PROTOCOL})")
    group.addoption(
        "--probe-weights",
        action="append",
        metavar="MODEL=FILE",
        help="load this file (safetensors or torch) instead of a model's own weights; its cases are checked "
        "against the model's baselines (may be repeated)",
    )
    group.addoption(
        "--probe-offline",
        action="store_true",
        help="download nothing, not even models and datasets selected by name (HF_HUB_OFFLINE=1 does the same)",
    )
    group.addoption(
        "--probe-licence",
        action="append",
        metavar="LICENCES",
        help=f"skip pretrained weights of other licences than these: apache-2.0, mit, ..., or commercial ({MANY})",
    )


def _add_baselines(group: pytest.OptionGroup) -> None:
    """Add what is stored, and how it is compared."""
    group.addoption("--probe-json", type=Path, metavar="FILE", help="also write the run record to this file")
    group.addoption(
        "--probe-baselines", type=Path, metavar="DIR", help="baseline directory (default: baselines/ under rootdir)"
    )
    group.addoption(
        "--probe-update",
        choices=["new", "all"],
        help="store results of this run as baselines: new, for cases that have none; all, for every case measured",
    )
    group.addoption(
        "--probe-prune",
        action="store_true",
        help="remove stale baselines, which no test case uses; needs a run of all cases, without any filter",
    )
    group.addoption(
        "--probe-strict",
        action="store_true",
        help="also fail on cases without a comparable baseline and on baselines without a case",
    )
    group.addoption(
        "--probe-alpha",
        type=float,
        default=0.01,
        metavar="LEVEL",
        help="family-wise error level of the verdicts of a run (default: %(default)s)",
    )
    group.addoption(
        "--probe-min-drop",
        type=float,
        default=0.5,
        metavar="POINTS",
        help="smallest change of accuracy that counts as regressed or improved, in percentage points "
        "(default: %(default)s)",
    )


def _add_leaderboards(group: pytest.OptionGroup) -> None:
    """Add what is shown."""
    group.addoption(
        "--probe-leaderboard",
        choices=LEADERBOARD_LEVELS,
        help="how much to print at the end of the run (default: normal; brief with -q, none with -qq)",
    )
    group.addoption(
        "--probe-leaderboard-file",
        action="append",
        type=Path,
        metavar="FILE",
        help="write the complete ranking to a .md, .tex or .csv file (may be repeated)",
    )
    group.addoption("--probe-report", type=Path, metavar="FILE", help="write a self-contained HTML report of the run")
    group.addoption(
        "--probe-benchmark-table",
        action="store_true",
        help="print pytest-benchmark's table of the time attributed to each case",
    )


def _add_features(group: pytest.OptionGroup) -> None:
    """Add how features are extracted."""
    group.addoption(
        "--probe-device", default="auto", metavar="DEVICE", help="cpu, cuda, cuda:1 or auto (default: %(default)s)"
    )
    group.addoption(
        "--probe-batch-size",
        type=int,
        metavar="N",
        help="images per forward pass; reduced when memory runs out (default: chosen for network and device)",
    )
    group.addoption(
        "--probe-precision",
        choices=list(PRECISIONS),
        help="precision in which networks compute; any but fp32 makes a separate protocol, such as default@2+bf16",
    )
    group.addoption(
        "--probe-pooling",
        action="append",
        metavar="NAMES",
        help=f"how tokens are pooled: {', '.join(POOLINGS)}; another than the protocol's makes a separate protocol, "
        f"such as default@2+cls, and further ones add taps of their own, such as L06-act.cls ({MANY})",
    )
    group.addoption(
        "--probe-combine",
        action="append",
        metavar="NAMES",
        help="also measure concatenations: last4 (the last four layers), pair and triple (the two or three taps that "
        f"are best together on held-out images) ({MANY})",
    )


def _add_storage(group: pytest.OptionGroup) -> None:
    """Add where features are kept, and what is measured again."""
    group.addoption(
        "--probe-cache",
        default="auto",
        metavar="WHEN|DIR",
        help="keep features on disk for later runs: auto (if they take long to extract for their size), on, off, or a "
        "folder for all of them (default: %(default)s, in PROBEBENCH_CACHE or ~/.cache/probebench/features)",
    )
    group.addoption(
        "--probe-cache-size",
        default="50 GB",
        metavar="SIZE",
        help="maximum size of the feature cache; the least recently used features are removed (default: %(default)s)",
    )
    group.addoption(
        "--probe-memory",
        metavar="SIZE",
        help="maximum memory for features and probes of a sweep, on a GPU and on the host, shared by all workers; "
        "features that do not fit are read from the feature cache, or extracted in several passes over the images "
        "(default: most of the free memory)",
    )
    group.addoption(
        "--probe-plan",
        action="store_true",
        help="print the memory, passes and estimated time of every sweep, and measure nothing",
    )
    group.addoption(
        "--probe-resume",
        action="store_true",
        help="continue an interrupted run of the same cases: sweeps that it finished are not measured again",
    )


def _add_machines(group: pytest.OptionGroup) -> None:
    """Add what does the work."""
    group.addoption(
        "--probe-jobs",
        type=int,
        metavar="N",
        help="processor cores for the probes: in total for all workers, or for each task on Ray (default: all)",
    )
    group.addoption(
        "--probe-shard",
        metavar="I/N",
        help="measure the I-th of N shards of the run, in whole sweeps; `probebench leaderboard` joins their records",
    )
    group.addoption(
        "--probe-engine",
        choices=ENGINES,
        default="local",
        help="where sweeps run: in this process (or the workers of -n), or as tasks of a Ray cluster "
        "(default: %(default)s)",
    )
    group.addoption(
        "--probe-ray-address",
        metavar="ADDR",
        help="the cluster of --probe-engine=ray: HOST:PORT, ray://HOST:PORT or auto (default: $RAY_ADDRESS, or start "
        "Ray on this machine)",
    )
