"""Define the command-line options, and parse them into one frozen `Options`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from probebench.catalog.precision import PRECISIONS
from probebench.catalog.protocols import DEFAULT_PROTOCOL, get_protocol
from probebench.catalog.taps import COMBINATIONS, POOLINGS
from probebench.errors import ProbebenchError, unknown
from probebench.measure.options import ENGINES, LEADERBOARD_LEVELS, RAY_ADDRESS, Options

if TYPE_CHECKING:
    import pytest


def add_options(parser: pytest.Parser) -> None:
    """Register the ``--probe-*`` options."""
    group = parser.getgroup("probebench", "probing of frozen vision transformers")
    many = "comma-separated, may be repeated"
    group.addoption("--probe-model", action="append", metavar="NAMES", help=f"only these models ({many})")
    group.addoption("--probe-dataset", action="append", metavar="NAMES", help=f"only these datasets or suites ({many})")
    group.addoption(
        "--probe-layer",
        action="append",
        metavar="LAYERS",
        help=f"only these layers: 6, 4-8, embed, final, output ({many})",
    )
    group.addoption("--probe-site", action="append", metavar="SITES", help=f"only these sites: act, rc2, ... ({many})")
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
        help=f"skip pretrained weights of other licences than these: apache-2.0, mit, ..., or commercial ({many})",
    )
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
        f"such as default@2+cls, and further ones add taps of their own, such as L06-act.cls ({many})",
    )
    group.addoption(
        "--probe-combine",
        action="append",
        metavar="NAMES",
        help="also measure concatenations: last4 (the last four layers), pair and triple (the two or three taps that "
        f"are best together on held-out images) ({many})",
    )
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


def parse_options(config: pytest.Config) -> Options:
    """The options of a pytest run.

    Raises:
        ProbebenchError: for invalid values
    """

    def get(name: str) -> object:
        return config.getoption(f"probe_{name}")

    def names(name: str) -> tuple[str, ...]:
        values = cast("list[str] | None", get(name)) or []
        return tuple(part for value in values for part in (p.strip() for p in value.split(",")) if part)

    def absolute(path: Path) -> Path:
        return path if path.is_absolute() else config.invocation_params.dir / path

    jobs, batch_size = cast("int | None", get("jobs")), cast("int | None", get("batch_size"))
    alpha, min_drop = cast(float, get("alpha")), cast(float, get("min_drop"))
    if jobs is not None and jobs < 1:
        raise ProbebenchError(f"--probe-jobs must be at least 1, got {jobs}")
    if batch_size is not None and batch_size < 1:
        raise ProbebenchError(f"--probe-batch-size must be at least 1, got {batch_size}")
    if not 0 < alpha < 1:
        raise ProbebenchError(f"--probe-alpha must be between 0 and 1, got {alpha}")
    if not 0 <= min_drop <= 100:
        raise ProbebenchError(f"--probe-min-drop is in percentage points from 0 to 100, got {min_drop}")
    shard = None
    if (text := cast("str | None", get("shard"))) is not None:
        found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
        shard = (int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard[0] <= shard[1]:
            raise ProbebenchError(f"--probe-shard takes I/N with I from 1 to N, such as 1/4, got {text!r}")
    weights = {}
    for text in cast("list[str] | None", get("weights")) or []:
        model, equals, file = text.partition("=")
        if not (model and equals and file):
            raise ProbebenchError(f"--probe-weights takes MODEL=FILE, got {text!r}")
        weights[model] = absolute(Path(file))
    files = tuple(absolute(path) for path in cast("list[Path] | None", get("leaderboard_file")) or [])
    for path in files:
        if path.suffix not in (".md", ".tex", ".csv"):
            raise ProbebenchError(f"--probe-leaderboard-file must end in .md, .tex or .csv, got {path.name!r}")
    json, report, baselines = (
        None if path is None else absolute(path)
        for path in (cast("Path | None", get(name)) for name in ("json", "report", "baselines"))
    )
    outputs = [path for path in (*files, json, report) if path is not None]
    for path in outputs:
        if outputs.count(path) > 1 and not path.is_relative_to("/dev"):
            raise ProbebenchError(f"{path} is named for two outputs; one would overwrite the other")
    update = cast("Literal['new', 'all'] | None", get("update"))
    if baselines is not None and update is None and not baselines.is_dir():
        raise ProbebenchError(
            f"--probe-baselines: {baselines} is not a directory; without baselines no case could regress. "
            "To create it, add --probe-update=new"
        )
    engine = cast("Literal['local', 'ray']", get("engine"))
    address = cast("str | None", get("ray_address"))
    if address is not None and engine != "ray":
        raise ProbebenchError("--probe-ray-address needs --probe-engine=ray: add it")
    if address is not None and address not in ("auto", "local") and not RAY_ADDRESS.fullmatch(address):
        raise ProbebenchError(f"--probe-ray-address takes HOST:PORT, ray://HOST:PORT or auto, got {address!r}")
    if engine != "local" and get("plan"):
        raise ProbebenchError(f"--probe-plan estimates for this machine: leave out --probe-engine={engine}")
    protocol = cast("str | None", get("protocol")) or DEFAULT_PROTOCOL
    if (precision := cast("str | None", get("precision"))) is not None:
        if "+" in protocol:
            raise ProbebenchError(f"--probe-precision={precision}: protocol {protocol} already names a precision")
        protocol += "" if precision == "fp32" else f"+{precision}"
    poolings = _known("--probe-pooling", names("pooling"), POOLINGS)
    if poolings:
        protocol = _with_pooling(protocol, poolings[0])
    memory = cast("str | None", get("memory"))
    bound = None if memory is None else _size("--probe-memory", memory)
    cache, cache_root = _cache(cast(str, get("cache")))
    verbosity = config.get_verbosity()
    level = cast("str | None", get("leaderboard"))
    return Options(
        models=names("model"),
        datasets=names("dataset"),
        layers=names("layer"),
        sites=names("site"),
        poolings=poolings[1:],
        combinations=_known("--probe-combine", names("combine"), COMBINATIONS),
        protocol=protocol,
        weights=weights,
        offline=bool(get("offline")),
        licences=tuple(name.lower() for name in names("licence")),
        json=json,
        baselines=baselines or config.rootpath / "baselines",
        update=update,
        prune=bool(get("prune")),
        strict=bool(get("strict")),
        alpha=alpha,
        min_drop=min_drop / 100,
        leaderboard=level or ("normal" if verbosity >= 0 else "brief" if verbosity == -1 else "none"),
        leaderboard_files=files,
        report=report,
        benchmark_table=bool(get("benchmark_table")),
        cache=cache,
        cache_root=None if cache_root is None else absolute(cache_root),
        cache_size=_size("--probe-cache-size", cast(str, get("cache_size"))),
        memory=bound,
        device_memory=bound,
        plan=bool(get("plan")),
        resume=bool(get("resume")),
        device=cast(str, get("device")),
        batch_size=batch_size,
        jobs=jobs,
        shard=shard,
        engine=engine,
        ray_address=address,
        root=config.rootpath,
        paths=tuple(dict.fromkeys(path.partition("::")[0] for path in config.getoption("file_or_dir"))),
    )


def _known(option: str, names: tuple[str, ...], known: Sequence[str]) -> tuple[str, ...]:
    """Return the names, each once.

    Raises:
        UnknownName: if one is not known
    """
    if wrong := [name for name in names if name not in known]:
        raise unknown(option, wrong[0], known)
    return tuple(dict.fromkeys(names))


def _with_pooling(protocol: str, pooling: str) -> str:
    """Return the name of a protocol with another pooling."""
    own = get_protocol(protocol).pooling
    if own == pooling:
        return protocol
    if own != get_protocol(protocol.partition("+")[0]).pooling:
        raise ProbebenchError(f"--probe-pooling={pooling}: protocol {protocol} already names a pooling")
    return f"{protocol}+{pooling}"


def _cache(text: str) -> tuple[Literal["auto", "on", "off"], Path | None]:
    """Parse --probe-cache: when to keep features, and where, if it names a folder."""
    if text in ("auto", "on", "off"):
        return cast("Literal['auto', 'on', 'off']", text), None
    path = Path(text).expanduser()
    # A single word that is not a folder yet is more likely a misspelt `off`.
    if not text or (path.name == text and not path.is_dir()):
        raise ProbebenchError(
            f"--probe-cache takes auto, on, off or a folder, got {text!r}; "
            f"a new folder of that name is ./{text or 'NAME'}"
        )
    return "on", path


def _size(option: str, text: str) -> int:
    """A number of bytes, written as 500 MB, 1.5TB or 20 GiB."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b", text.strip().lower())
    if match is None:
        raise ProbebenchError(f"{option} takes a size such as 500MB or 50GB, got {text!r}")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " kmgt".index(unit or " "))
