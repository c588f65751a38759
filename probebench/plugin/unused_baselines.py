"""Detect baseline directories next to the tests that are ignored because pytest's rootdir is elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from probebench.measure.options import Options


def find(options: Options, files: Iterable[Path]) -> list[Path]:
    """Find folders of baselines next to test files, or between these and the root, that are not in use.

    Above test files that are not below the root, the nearest folder counts.

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
        outside = not folder_of_tests.is_relative_to(root)
        between = [folder for folder in folder_of_tests.parents if outside or folder.is_relative_to(root)]
        own = [folder for folder in (folder_of_tests, *between) if _has_baselines(folder / "baselines")]
        folders |= dict.fromkeys(own[:1] if outside else own)
    return [found for folder in folders if (found := folder / "baselines") != used]


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
