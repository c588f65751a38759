"""``--probe-prune``: remove baselines that have no case, in a run that has all of them.

A baseline whose case was filtered away looks like one whose case is gone. So a filter of any kind is refused before any
work, and so is whatever else leaves cases out of collection.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from probebench.items import param_of

if TYPE_CHECKING:
    from probebench.catalog.cases import Case, Sweep
    from probebench.catalog.taps import Tap
    from probebench.options import Options
    from probebench.preflight import Withheld

_WHY = "--probe-prune removes every baseline that has no case in the run, so it needs a run of all cases"
_FILTERS = {
    "keyword": "-k",
    "markexpr": "-m",
    "deselect": "--deselect",
    "ignore": "--ignore",
    "ignore_glob": "--ignore-glob",
    "lf": "--last-failed",
    "stepwise": "--stepwise",
    "pyargs": "--pyargs",
    "collectonly": "--collect-only",
    "probe_model": "--probe-model",
    "probe_dataset": "--probe-dataset",
    "probe_layer": "--probe-layer",
    "probe_site": "--probe-site",
    "probe_shard": "--probe-shard",
}
"""By the name under which pytest keeps them: options that leave cases out."""


def check_unfiltered(config: pytest.Config) -> None:
    """Raises pytest.UsageError if the command line may leave cases out."""
    found = [option for name, option in _FILTERS.items() if getattr(config.option, name, None)]
    found += [part for argument in config.args if (part := _part(config, argument))]
    if found:
        raise pytest.UsageError(f"{_WHY}: leave out {', '.join(found)}")


def _part(config: pytest.Config, argument: str) -> str:
    """An argument that names a part of a project, and what to name instead; empty for one that does not."""
    path, root = (config.invocation_params.dir / argument.partition("::")[0]).resolve(), config.rootpath.resolve()
    if "::" in argument or path.is_file():
        return argument
    if path == root or not path.is_relative_to(root):
        return ""
    patterns = config.getini("python_files")
    if any(fnmatch(each.name, pattern) for each in root.iterdir() for pattern in patterns):
        return f"{argument} (there are tests beside it)"
    # Tests further up are not looked for in every folder: it is the whole folder in the root that counts.
    return "" if path.parent == root else f"{argument} (or name all of {path.relative_to(root).parts[0]})"


class Pruning:
    """A pytest plugin, registered when ``--probe-prune`` is given.

    Args:
        notes: lines for the end of the run are added here

    Attributes:
        left_out: node ids of cases that are there and not in the run, and of files that were not collected
    """

    def __init__(self, options: Options, notes: list[str]) -> None:
        self._options, self._notes = options, notes
        self.left_out: list[str] = []
        self._cases: dict[Sweep, set[Tap]] = {}
        self._withheld: set[Sweep] = set()

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        """Other plugins deselect, too."""
        self.left_out += [item.nodeid for item in items if param_of(item) is not None]

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that skips itself as a whole, as importorskip does, or that cannot be collected."""
        if not report.passed:
            self.left_out.append(report.nodeid)

    def begin(self, cases: Iterable[Case], withheld: Iterable[Withheld]) -> None:
        """Collection has finished. Raises pytest.UsageError if it left cases out."""
        if self.left_out:
            raise pytest.UsageError(f"{_WHY}: {len(self.left_out)} were left out, such as {self.left_out[0]}")
        for case in cases:
            self._cases.setdefault(case.sweep, set()).add(case.tap)
        self._withheld = {each.sweep for each in withheld}
        if not self._cases and not self._withheld:
            raise pytest.UsageError(f"{_WHY}: this one has none; name the folder that they are in")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """After the update of baselines, before the terminal summary."""
        if not self._cases and not self._withheld:
            return
        ended = session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        if not ended or session.shouldstop or session.shouldfail:
            self._notes.append("baselines: not pruned, because the run did not get to its end")
            return
        options = self._options
        removed, problems = prune(options.baselines, options.protocol, self._cases, self._withheld)
        self._notes += [f"pruned: {what}" for what in removed] or ["baselines: nothing to prune"]
        self._notes += [f"ERROR: {problem}" for problem in problems]
        if problems and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def prune(
    directory: Path, protocol: str, cases: Mapping[Sweep, Collection[Tap]], withheld: Collection[Sweep]
) -> tuple[list[str], list[str]]:
    """Remove the baselines of a protocol that have no case: whole files, and entries of files that stay.

    Baselines of ``timm:`` models stay: their cases exist only where the command line names them.

    Args:
        cases: the taps of every sweep that has cases
        withheld: sweeps whose cases are not run on this machine: theirs stay as they are

    Returns:
        what was removed, and what could not be, a line each
    """
    from probebench import baselines
    from probebench.errors import StoreError

    removed: list[str] = []
    problems: list[str] = []
    if not (directory / protocol).is_dir():
        return removed, problems
    try:
        with baselines.locked(directory):
            for sweep in _stored(directory, protocol):
                if sweep in withheld or sweep.model.startswith("timm_"):
                    continue
                try:
                    what = _prune(directory, sweep, cases.get(sweep, ()))
                except StoreError as error:
                    problems.append(str(error))
                else:
                    removed += [what] if what else []
    except StoreError as error:
        problems.append(str(error))
    return removed, problems


def _stored(directory: Path, protocol: str) -> list[Sweep]:
    """Every sweep with a file of a baseline."""
    from probebench.catalog.cases import Sweep

    found = set()
    for path in (directory / protocol).iterdir():
        model, dash, dataset = path.stem.partition("-")
        if dash and path.suffix in (".json", ".safetensors") and not path.name.startswith("."):
            found.add(Sweep(model, dataset, protocol))
    return sorted(found, key=lambda sweep: sweep.id)


def _prune(directory: Path, sweep: Sweep, taps: Collection[Tap]) -> str:
    """Remove what a stored sweep has besides `taps`; what that was, or nothing."""
    from probebench import baselines
    from probebench._files import relative

    path, _ = baselines.paths(directory, sweep)
    if not taps:
        baselines.remove(directory, sweep)
        return f"{relative(path)} and the file beside it, which had no case"
    old = baselines.read(directory, sweep)
    if old is None or not (gone := sorted(old.correct.keys() - set(taps))):
        return ""
    kept = {tap: correct for tap, correct in old.correct.items() if tap not in gone}
    if kept:
        baselines.write(directory, replace(old, correct=kept))
    else:
        baselines.remove(directory, sweep)
    names = ", ".join(tap.id for tap in gone[:3]) + (", ..." if len(gone) > 3 else "")
    return f"{len(gone)} of {len(old.correct)} entries of {relative(path)}, which had no case: {names}"
