"""The command `probebench init`: write the files of a project into a folder, all of them or none."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

from probebench.cli.exit_codes import INTERRUPTED, OK, USAGE
from probebench.errors import StoreError

INI = "pytest.ini"

TEMPLATES = {
    "test_probes.py": "test_probes.py.txt",
    "conftest.py": "conftest.py.txt",
    INI: INI,
    "baselines/README.md": "baselines.md",
    ".github/workflows/probebench.yml": "probebench.yml",
}
"""The files of a project, and those of `project/` in this package that they are copies of. Python files end in `.txt`
there, because they are no modules of this package."""

# Files in which pytest looks for its configuration, and the start of a line that shows that they have it.
_CONFIGURATIONS = {
    INI: "",
    ".pytest.ini": "",
    "pytest.toml": "",
    ".pytest.toml": "",
    "pyproject.toml": "[tool.pytest",
    "tox.ini": "[pytest]",
    "setup.cfg": "[tool:pytest]",
}


def add_commands(commands: Any) -> None:
    """Add the command to the subparsers of `probebench`."""
    command = commands.add_parser(
        "init",
        help="start a project: cases, a place for your own model and images, baselines, CI",
        description="Write the files of a project into a folder: test_probes.py with cases that run as they are, "
        "conftest.py to describe your own model and images in, pytest.ini unless the folder configures pytest "
        "elsewhere, baselines/, and a workflow for GitHub. If the folder has one of these files, nothing is written.",
    )
    command.set_defaults(run=_init)
    command.add_argument(
        "folder", nargs="?", type=Path, default=Path("."), metavar="DIR", help="folder, made if missing (default: .)"
    )


def _init(args: argparse.Namespace) -> int:
    folder: Path = args.folder
    if os.path.lexists(folder) and not folder.is_dir():
        print(f"probebench: {folder} is not a folder; give the name of one, or of a new one", file=sys.stderr)
        return USAGE
    names = [name for name in TEMPLATES if name != INI or not configures_pytest(folder)]
    if there := [name for name in names if os.path.lexists(folder / name)]:
        print(
            f"probebench: {_named(folder)} already has {', '.join(there)}; nothing was written. Move "
            f"{'it' if len(there) == 1 else 'them'} away, or give another folder, as in `probebench init my_probes`",
            file=sys.stderr,
        )
        return USAGE
    try:
        write_files(folder, names)
    except KeyboardInterrupt:
        print("probebench: interrupted; nothing was written", file=sys.stderr)
        return INTERRUPTED
    _show(folder, names)
    return OK


def configures_pytest(folder: Path) -> bool:
    """Return whether pytest takes a folder for the root of a project: `pytest.ini` would replace its configuration."""
    for name, start in _CONFIGURATIONS.items():
        try:
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        if not start or any(line.startswith(start) for line in text.splitlines()):
            return True
    return False


def write_files(folder: Path, names: list[str]) -> None:
    """Write files of `TEMPLATES` that do not exist. If one cannot be written, those before it are removed again.

    Raises:
        StoreError: if one cannot be written; the folder is then as it was
    """
    made: list[Path] = []
    try:
        for name in names:
            path = folder / name
            content = files(__package__).joinpath("project", TEMPLATES[name]).read_bytes()
            for parent in reversed([path.parent, *path.parent.parents]):
                if not parent.exists():
                    parent.mkdir()
                    made.append(parent)
            with path.open("xb") as file:  # also refuses a file that has appeared since the check
                made.append(path)
                file.write(content)
    except BaseException as error:
        for path in reversed(made):
            with suppress(OSError):
                path.rmdir() if path.is_dir() else path.unlink()
        if isinstance(error, OSError):
            raise StoreError(
                f"cannot write {error.filename or folder}: {error.strerror or error}; nothing was written"
            ) from error
        raise


def _show(folder: Path, names: list[str]) -> None:
    from rich.text import Text

    from probebench.cli.next_steps import next_steps
    from probebench.reporting.terminal.console import output_style, render_text

    facts = [f"written to {_named(folder)}: {', '.join(names)}"]
    if INI not in names:
        facts.append(f"{INI} was left out: {_named(folder)} configures pytest already")
    if (root := _repository_above(folder)) is not None:
        path = folder.resolve().relative_to(root) / "test_probes.py"
        facts.append(
            f"GitHub reads workflows in the root of the repository only: move .github to {root}, and name {path} in "
            "its pytest command"
        )
    steps = [] if folder == Path(".") else [(f"cd {shlex.quote(str(folder))}", "go to the project")]
    steps += [
        ("pytest --probe-layer=6,12 --probe-site=act,rc2", "measure four cases of the embedded model"),
        ("pytest --probe-update=new", "measure all cases, and store their baselines; commit the folder baselines/"),
        ("grep -rn 'FILL IN' .", "the places for your own model and images"),
    ]
    parts = [*map(Text, facts), Text(), *next_steps(steps)]
    print(render_text(parts, **output_style(sys.stdout)).rstrip("\n"))


def _repository_above(folder: Path) -> Path | None:
    """The root of the git repository that a folder is in; None if it is the root itself, or in none."""
    here = folder.resolve()
    found = next((each for each in (here, *here.parents) if (each / ".git").exists()), None)
    return None if found == here else found


def _named(folder: Path) -> str:
    return "this folder" if folder == Path(".") else str(folder)
