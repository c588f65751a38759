"""Detect baseline directories next to the tests that are ignored because pytest's rootdir is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probebench.measure.options import Options


def find(options: Options, files: Iterable[Path]) -> list[Path]:
    """Find folders of baselines next to test files, or between these and the root, that are not in use.

    Finds none if --probe-baselines names another folder than the default.

    Args:
        files: the test files that have cases
    """
    root = options.root.resolve()
    used = options.baselines.resolve()
    if used != root / "baselines":
        return []
    folders: dict[Path, None] = {}
    for path in files:
        folder_of_tests = path.resolve().parent
        between = [folder for folder in folder_of_tests.parents if folder.is_relative_to(root)]
        folders |= dict.fromkeys([folder_of_tests, *between])
    return [found for folder in folders if (found := folder / "baselines") != used and _has_baselines(found)]


def _has_baselines(folder: Path) -> bool:
    return any(path.with_suffix(".safetensors").exists() for path in folder.glob("*/*-*.json"))


def explain(options: Options, folder: Path) -> str:
    """Explain why a folder is not in use, and how to use it."""
    from probebench._files import relative

    project = relative(folder.parent)
    return (
        f"the baselines in {relative(folder)} are not in use: this run's rootdir is {options.root}, so that its "
        f"baselines are those in {relative(options.baselines)}. Add --rootdir={project}, or name the folder, as in "
        f"`pytest {project}`, which pytest takes for the root if it has an ini file; where it has none, an empty "
        f"{project}/pytest.ini will do"
    )
