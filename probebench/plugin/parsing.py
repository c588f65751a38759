"""Parse the command-line options into one frozen `Options`."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from probebench.catalog.protocols import DEFAULT_PROTOCOL, get_protocol
from probebench.catalog.taps import COMBINATIONS, POOLINGS
from probebench.errors import ProbebenchError, unknown
from probebench.measure.options import RAY_ADDRESS, Options

if TYPE_CHECKING:
    import pytest

Get = Callable[[str], Any]
"""Returns the value of an option by its name without ``--probe-``, with ``_`` for ``-``."""


def parse_options(config: pytest.Config) -> Options:
    """The options of a pytest run.

    Raises:
        ProbebenchError: for invalid values
    """

    def get(name: str) -> Any:
        return config.getoption(f"probe_{name}")

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else config.invocation_params.dir / path  # which leaves absolute paths as they are

    update: Literal["new", "all"] | None = get("update")
    engine: Literal["local", "ray"] = get("engine")
    poolings = _known("--probe-pooling", _names(get("pooling")), POOLINGS)
    memory = None if get("memory") is None else _size("--probe-memory", get("memory"))
    cache, cache_root = _cache(get("cache"))
    json, report, baselines = map(absolute, (get("json"), get("report"), get("baselines")))
    files = tuple(path for path in map(absolute, get("leaderboard_file") or []) if path is not None)
    _check_numbers(get)
    _check_outputs(files, json, report)
    if baselines is not None and update is None and not baselines.is_dir():
        raise ProbebenchError(
            f"--probe-baselines: {baselines} is not a directory; without baselines no case could regress. "
            "To create it, add --probe-update=new"
        )
    _check_engine(engine, get("ray_address"), bool(get("plan")))
    return Options(
        models=_names(get("model")),
        datasets=_names(get("dataset")),
        layers=_names(get("layer")),
        sites=_names(get("site")),
        poolings=poolings[1:],
        combinations=_known("--probe-combine", _names(get("combine")), COMBINATIONS),
        protocol=_protocol(get("protocol") or DEFAULT_PROTOCOL, get("precision"), poolings),
        weights={model: config.invocation_params.dir / file for model, file in _weights(get("weights") or [])},
        offline=bool(get("offline")),
        licences=tuple(name.lower() for name in _names(get("licence"))),
        json=json,
        baselines=baselines or config.rootpath / "baselines",
        update=update,
        prune=bool(get("prune")),
        strict=bool(get("strict")),
        alpha=get("alpha"),
        min_drop=get("min_drop") / 100,
        leaderboard=get("leaderboard") or _level(config.get_verbosity()),
        leaderboard_files=files,
        report=report,
        benchmark_table=bool(get("benchmark_table")),
        cache=cache,
        cache_root=absolute(cache_root),
        cache_size=_size("--probe-cache-size", get("cache_size")),
        memory=memory,
        device_memory=memory,
        plan=bool(get("plan")),
        resume=bool(get("resume")),
        device=get("device"),
        batch_size=get("batch_size"),
        jobs=get("jobs"),
        shard=_shard(get("shard")),
        engine=engine,
        ray_address=get("ray_address"),
        root=config.rootpath,
        paths=tuple(dict.fromkeys(path.partition("::")[0] for path in config.getoption("file_or_dir"))),
    )


def _names(values: list[str] | None) -> tuple[str, ...]:
    """Return the names of an option that takes several, separated by commas, and may be repeated."""
    return tuple(part for value in values or [] for part in (p.strip() for p in value.split(",")) if part)


def _check_numbers(get: Get) -> None:
    for name in ("jobs", "batch_size"):
        if (number := get(name)) is not None and number < 1:
            raise ProbebenchError(f"--probe-{name.replace('_', '-')} must be at least 1, got {number}")
    if not 0 < (alpha := get("alpha")) < 1:
        raise ProbebenchError(f"--probe-alpha must be between 0 and 1, got {alpha}")
    if not 0 <= (min_drop := get("min_drop")) <= 100:
        raise ProbebenchError(f"--probe-min-drop is in percentage points from 0 to 100, got {min_drop}")


def _check_outputs(leaderboards: Sequence[Path], *others: Path | None) -> None:
    for path in leaderboards:
        if path.suffix not in (".md", ".tex", ".csv"):
            raise ProbebenchError(f"--probe-leaderboard-file must end in .md, .tex or .csv, got {path.name!r}")
    outputs = [path for path in (*leaderboards, *others) if path is not None]
    for path in outputs:
        if outputs.count(path) > 1 and not path.is_relative_to("/dev"):
            raise ProbebenchError(f"{path} is named for two outputs; one would overwrite the other")


def _check_engine(engine: str, address: str | None, plan: bool) -> None:
    if address is not None and engine != "ray":
        raise ProbebenchError("--probe-ray-address needs --probe-engine=ray: add it")
    if address is not None and address not in ("auto", "local") and not RAY_ADDRESS.fullmatch(address):
        raise ProbebenchError(f"--probe-ray-address takes HOST:PORT, ray://HOST:PORT or auto, got {address!r}")
    if engine != "local" and plan:
        raise ProbebenchError(f"--probe-plan estimates for this machine: leave out --probe-engine={engine}")


def _shard(text: str | None) -> tuple[int, int] | None:
    """Parse --probe-shard."""
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]+)/([0-9]+)", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise ProbebenchError(f"--probe-shard takes I/N with I from 1 to N, such as 1/4, got {text!r}")
    return int(found[1]), int(found[2])


def _weights(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Parse --probe-weights: models and their files."""
    found = []
    for text in texts:
        model, equals, file = text.partition("=")
        if not (model and equals and file):
            raise ProbebenchError(f"--probe-weights takes MODEL=FILE, got {text!r}")
        found.append((model, file))
    return found


def _level(verbosity: int) -> str:
    """Return how much of the leaderboard is printed."""
    return "normal" if verbosity >= 0 else "brief" if verbosity == -1 else "none"


def _protocol(name: str, precision: str | None, poolings: Sequence[str]) -> str:
    """Return the name of a protocol with another precision and the first of other poolings."""
    if precision is not None:
        if "+" in name:
            raise ProbebenchError(f"--probe-precision={precision}: protocol {name} already names a precision")
        name += "" if precision == "fp32" else f"+{precision}"
    return _with_pooling(name, poolings[0]) if poolings else name


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
