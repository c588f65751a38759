"""Baselines: the stored scores that cases are compared with.

There is one JSON file per protocol, model and dataset, sorted and with one line per case so that a diff can be read,
and beside it a safetensors file with one bit per case and test example, set if the example was right, or one score if
the labels are no classes. The JSON names the SHA-256 of the other file, so that files of two different updates are
never read as a pair.

Writing the JSON is what makes an update valid: by then the other file is already on disk under a name made of its
digest, and it is renamed afterwards. If a writer dies at any moment, readers get either the old pair or the new one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from probebench import _files
from probebench._files import relative
from probebench._format import list_some
from probebench.catalog import ModelSpec
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import DEFAULT_PROTOCOL, get_protocol
from probebench.catalog.taps import Tap, all_taps
from probebench.errors import ProbebenchError, StoreError
from probebench.records import correct_bits, damage
from probebench.stats import Scores

Table = dict[str, Any]

SCHEMA = 1
UPGRADERS: dict[int, Callable[[Table], Table]] = {}
"""By schema number, the function that turns the JSON of that schema into the next one's; the reader sets the number."""

_HEAD = ("schema", "model", "dataset", "protocol", "fingerprint", "test_set", "n_test", "weights", "correct_sha256")
_CASE = ("accuracy", "correct")
_SCORED_CASE = ("score",)
"""The keys of a case whose examples are not right or wrong, but have a score."""
_KINDS = {str: "text", int: "a whole number", dict: "an object"}
# Many repositories ignore *.safetensors because of model weights; baselines need theirs.
_GITIGNORE = "# made by probebench\n.lock\n!*.safetensors\n"
_PAUSES = (
    0.0,
    0.02,
    0.05,
    0.1,
    0.2,
)  # seconds before each look at a pair: another process may be between the two files
_PATIENCE = 60.0  # seconds to wait for a lock that is held for milliseconds


@dataclass(frozen=True)
class Baseline:
    """The stored expectation for the cases of one sweep.

    Attributes:
        sweep: model, dataset and protocol names
        fingerprint: of the protocol that they were measured under
        test_set: digest of the test images and labels
        n_test: number of test examples
        weights: digest of the network's parameters
        correct: per tap bool of shape (n_test,), which test examples were right; (draws, n_test) for several draws of
            the training set. If the labels are no classes, float32: the score of each test example
        schema: of the files that it was read from; any update writes the present one
    """

    sweep: Sweep
    fingerprint: str
    test_set: str
    n_test: int
    weights: str
    correct: Mapping[Tap, Scores] = field(repr=False)
    schema: int = SCHEMA

    def accuracy(self, tap: Tap) -> float:
        """The share of right examples, or the mean of their scores; the mean over draws, if there are several."""
        correct = self.correct[tap]
        if correct.dtype == np.bool_:
            return float(np.count_nonzero(correct) / correct.size)
        return float(correct.mean(dtype=np.float64))

    @property
    def draws(self) -> int:
        return next((len(np.atleast_2d(correct)) for correct in self.correct.values()), 1)


def paths(directory: Path, sweep: Sweep) -> tuple[Path, Path]:
    """The JSON file of a sweep's baseline and the file of its per-example correctness."""
    stem = directory / sweep.protocol / sweep.id
    return stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".safetensors")


class NewerBaseline(StoreError):
    """The files have a schema that only a newer probebench knows. They are not damaged, so they are never replaced."""


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Lock a directory of baselines against other processes. It is created if needed, with the lock ignored by git.

    Raises:
        StoreError: if another process holds the lock for too long, or the lock cannot be created
    """
    # The lock file stays: removing one splits those who wait for it from those who come later.
    lock = FileLock(directory / ".lock")
    try:
        if not directory.exists():
            _files.write(directory / ".gitignore", _GITIGNORE)
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise StoreError(
            f"another process has been writing baselines in {directory} for more than {_PATIENCE:.0f} seconds; "
            "run this update again when it has ended"
        ) from None
    except OSError as error:
        raise StoreError(f"cannot lock {lock.lock_file}: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def read(directory: Path, sweep: Sweep, *, damaged_is_none: bool = False) -> Baseline | None:
    """The baseline of a sweep, or None if there is none.

    Args:
        damaged_is_none: return None for a damaged one, too, for a caller that replaces all of it

    Raises:
        StoreError: if it is damaged or was edited by hand, or its two files do not belong together
        NewerBaseline: if only a newer probebench can read it
    """
    path, side_path = paths(directory, sweep)
    try:
        found = _pair(path, side_path)
        return None if found is None else _parsed(path, *found, sweep)
    except NewerBaseline:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError, ProbebenchError) as error:
        if damaged_is_none:
            return None
        if isinstance(error, StoreError):
            raise
        if isinstance(error, FileNotFoundError):
            raise StoreError(f"baseline {path} is missing, but {side_path.name} is there. {_restore(path)}") from error
        if isinstance(error, OSError):
            raise StoreError(f"baseline {error.filename} cannot be read: {error.strerror or error}") from error
        what = f"{type(error).__name__}: {error}"
        raise StoreError(f"baseline {path} cannot be read ({what}). {_restore(path)}") from error


def _pair(path: Path, side_path: Path) -> tuple[int, Table, bytes] | None:
    """The schema number in the JSON file, its table in the present schema, and the content of the other file; None if
    neither file is there."""
    found = "is missing: does a .gitignore have *.safetensors?"
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            if not side_path.exists():
                return None
            if pause == _PAUSES[-1]:
                raise
            continue  # another process may be removing both
        schema, table = _upgraded(path, _parse(data, path))
        wanted = table["correct_sha256"]
        for candidate in (side_path, _ready(side_path, wanted)):
            try:
                side = candidate.read_bytes()
            except FileNotFoundError:
                continue
            digest = correct_bits.sha256(side)
            if digest == wanted:
                return schema, table, side
            if known := damage.explain(side, (path, side_path), wanted):
                raise StoreError(f"baseline {side_path} {known}")
            found = (
                f"has SHA-256 {digest[:16]}, {path.name} expects {wanted[:16]}: the two do not belong together, as "
                "after a merge that took each from another side."
            )
    raise StoreError(f"baseline {side_path} {found} {_restore(path)}")


def _parse(data: bytes, path: Path) -> Any:
    """The table in a JSON file. Raises StoreError if there is none."""
    try:
        return damage.parse(data)
    except ValueError as error:
        if known := damage.explain(data, _files_of(path)):
            raise StoreError(f"baseline {path} {known}") from error
        raise StoreError(f"baseline {path} cannot be read as JSON ({error}). {_restore(path)}") from error


def _files_of(path: Path) -> tuple[Path, Path]:
    return path, path.with_suffix(".safetensors")


def _restore(path: Path) -> str:
    """The sentence that says how to restore the JSON file and its neighbour."""
    return damage.restore(_files_of(path))


def _ready(side_path: Path, digest: str) -> Path:
    """The temporary path of the correctness file, until the JSON file that names its digest is in place."""
    return side_path.with_name(f".{side_path.name}.{digest[:16]}")


def _upgraded(path: Path, table: Any) -> tuple[int, Table]:
    """A table's schema number, and the table in the present schema."""
    found = table.get("schema") if isinstance(table, dict) else None
    if type(found) is not int or found < 1:
        raise StoreError(f"baseline {path} cannot be read: it has no schema number. {_restore(path)}")
    if found > SCHEMA:
        raise NewerBaseline(
            f"baseline {path} was made by a newer probebench: it has schema {found}, this one reads up to {SCHEMA}. "
            "Upgrade probebench"
        )
    for version in range(found, SCHEMA):
        table = UPGRADERS[version](table) | {"schema": version + 1}
    return found, table


def _parsed(path: Path, schema: int, table: Table, side: bytes, sweep: Sweep) -> Baseline:
    """A baseline from the contents of its files, after checking that they agree."""

    def refuse(what: str) -> StoreError:
        return StoreError(f"baseline {path}: {what}; was it edited by hand? {_restore(path)}")

    def check_keys(what: str, keys: Mapping[str, Any], known: tuple[str, ...]) -> None:
        for key in known:
            if key not in keys:
                raise refuse(f"{what} has no {key!r}")
        for key in keys:
            if key not in known:
                raise refuse(f"{what} has an entry {key!r}, which probebench does not write")

    draws = table.get("draws", 1)
    check_keys("the file", {key: value for key, value in table.items() if key != "draws"}, (*_HEAD, "cases"))
    for name, wanted in (("model", sweep.model), ("dataset", sweep.dataset), ("protocol", sweep.protocol)):
        if table[name] != wanted:
            raise refuse(f"it is of {name} {table[name]!r}, its path says {wanted!r}")
    for name, kind in (("fingerprint", str), ("test_set", str), ("weights", str), ("n_test", int), ("cases", dict)):
        if type(table[name]) is not kind:
            raise refuse(f"{name} is {str(table[name])[:40]!r}, which is not {_KINDS[kind]}")
    n_test, cases = table["n_test"], table["cases"]
    packed = load_tensors(side)["correct"]
    scored = packed.dtype == np.float32
    if type(draws) is not int or draws < 1:
        raise refuse(f"draws is {draws!r}")
    if packed.shape != (len(cases), n_test * draws if scored else -(-n_test * draws // 8)):
        times = f" in {draws} draws" if draws > 1 else ""
        raise refuse(
            f"it lists {len(cases)} cases of {n_test} test images{times}, the other file has {len(packed)} cases and "
            f"{'scores' if scored else 'bits'} in the shape {packed.shape}"
        )
    taps = [Tap.parse(name) for name in cases]
    if taps != sorted(taps):
        raise refuse("its cases are not in order")
    correct = dict(zip(taps, correct_bits.unpack(packed, n_test, draws), strict=True))
    baseline = Baseline(sweep, table["fingerprint"], table["test_set"], n_test, table["weights"], correct, schema)
    for tap, (name, case) in zip(taps, cases.items(), strict=True):
        if not isinstance(case, dict):
            raise refuse(f"case {name} is {str(case)[:40]!r}, which is not {_KINDS[dict]}")
        check_keys(f"case {name}", case, _SCORED_CASE if scored else _CASE)
        for key, value in _case(baseline, tap).items():
            if case[key] != value:
                raise refuse(f"case {name} says {key} {case[key]}, the other file {value}")
    return baseline


def _case(baseline: Baseline, tap: Tap) -> Table:
    if baseline.correct[tap].dtype != np.bool_:
        return {"score": round(baseline.accuracy(tap), 4)}
    return {"accuracy": round(baseline.accuracy(tap), 4), "correct": int(baseline.correct[tap].sum())}


def write(directory: Path, baseline: Baseline) -> None:
    """Store a baseline, replacing the one of the same sweep. The caller holds the lock of the directory.

    Raises:
        StoreError: if it cannot be written
    """
    taps = sorted(baseline.correct)
    each: list[npt.NDArray[Any]] = [baseline.correct[tap].ravel() for tap in taps]
    correct = np.stack(each)
    side, digest = correct_bits.encode({"correct": correct})
    sweep = baseline.sweep
    values = (SCHEMA, sweep.model, sweep.dataset, sweep.protocol, baseline.fingerprint, baseline.test_set)
    head = list(zip(_HEAD, (*values, baseline.n_test, baseline.weights, digest), strict=True))
    if baseline.draws > 1:
        head.insert(_HEAD.index("n_test") + 1, ("draws", baseline.draws))
    lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head]
    cases = [f"    {json.dumps(tap.id)}: {json.dumps(_case(baseline, tap))}" for tap in taps]
    text = "\n".join(["{", *lines, '  "cases": {', ",\n".join(cases), "  }", "}"]) + "\n"
    path, side_path = paths(directory, sweep)
    ready = _ready(side_path, digest)
    _files.write(ready, side)
    _files.write(path, text)  # from here on the new pair is what is read
    try:
        if side_path.is_symlink():  # it may lead to another file system
            _files.write(side_path, side)
            ready.unlink()
        else:
            ready.replace(side_path)
        for name in (path.name, side_path.name):
            for pattern in (f".{name}.*", f"..{name}.*"):  # complete and partial files of writers that died
                for left in path.parent.glob(pattern):
                    left.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write {side_path}: {error.strerror or error}") from error


def remove(directory: Path, sweep: Sweep) -> None:
    """Delete the files of a sweep's baseline. The caller holds the lock of the directory.

    Raises:
        StoreError: if they cannot be deleted
    """
    try:
        for path in paths(directory, sweep):
            path.unlink(missing_ok=True)
    except OSError as error:
        raise StoreError(f"cannot delete {path}: {error.strerror or error}") from error


def update(directory: Path, new: Baseline, model: ModelSpec, how: Literal["new", "all"], tests: str = "") -> bool:
    """Merge the measured cases of a sweep into its stored baseline.

    The baseline is read again: other processes may have changed it since the sweep was compared with it.

    Args:
        tests: see `update_command`

    Returns:
        whether anything changed

    Raises:
        StoreError: see `merge`, `read` and `write`; the files are then unchanged
    """
    whole = set(new.correct) >= set(all_taps(model.depth))
    with locked(directory):
        old = read(directory, new.sweep, damaged_is_none=how == "all" and whole)
        joined = merge(old, new, model, how, tests)
        if joined is not None:
            write(directory, joined)
    return joined is not None


def update_command(sweep: Sweep, model: ModelSpec, how: str, tests: str, taps: Iterable[Tap] = ()) -> str:
    """The command that stores the baselines of all cases of a sweep.

    Args:
        tests: see `probebench.measure.options.Options.tests`
        taps: some that are to be measured; those with a pooling of their own and combinations need options
    """
    taps = sorted(taps)
    poolings = list(dict.fromkeys(tap.pooling for tap in taps if tap.pooling))
    combinations = list(dict.fromkeys(str(tap.layer) for tap in taps if tap.is_combination))
    if poolings:
        tests += f" --probe-pooling={','.join([get_protocol(sweep.protocol).pooling, *poolings])}"
    if combinations:
        tests += f" --probe-combine={','.join(combinations)}"
    protocol = "" if sweep.protocol == DEFAULT_PROTOCOL else f"--probe-protocol={sweep.protocol}"
    names = f"--probe-model={model.typed} --probe-dataset={sweep.dataset}"
    return " ".join(filter(None, ["pytest", tests.strip(), names, protocol, f"--probe-update={how}"]))


def merge(
    old: Baseline | None, new: Baseline, model: ModelSpec, how: Literal["new", "all"], tests: str = ""
) -> Baseline | None:
    """The baseline after an update with the measured cases of a sweep, or None if nothing changes.

    Cases that were not measured keep their entry. With ``new``, so do all cases that have one.

    Raises:
        StoreError: if entries of another fingerprint, another test set or other weights would stay among new ones
    """
    if old is None:
        return new
    measured = new.correct
    # Entries of taps that the network does not have are stale, and dropped.
    kept = {tap: correct for tap, correct in old.correct.items() if tap.exists(model.depth)}
    if how == "new" and measured.keys() <= kept.keys():
        return None if old.schema == SCHEMA else replace(old, schema=SCHEMA)
    reason = incomparable(old, new)
    if not reason and old.weights != new.weights:
        reason = f"other weights ({old.weights}, not {new.weights})"
    if reason:
        left = kept.keys() - measured.keys() if how == "all" else kept.keys()
        if left:
            raise StoreError(
                f"baseline of {new.sweep.id} is not updated: it was measured with {reason}, and {len(left)} of its "
                f"cases would stay. Measure all of them at once: {update_command(new.sweep, model, 'all', tests, left)}"
            )
        return new
    correct = {**measured, **kept} if how == "new" else {**kept, **measured}
    same = correct.keys() == old.correct.keys() and all(
        np.array_equal(correct[tap], old.correct[tap]) for tap in correct
    )
    return None if same and old.schema == SCHEMA else replace(new, correct=correct)


def prune(
    directory: Path,
    protocol: str,
    cases: Mapping[Sweep, Collection[Tap]],
    withheld: Collection[Sweep],
    keeps: Callable[[str], bool],
) -> tuple[list[str], list[str]]:
    """Remove the stale baselines of a protocol, those without a case: whole files, and entries of other files.

    Args:
        cases: the taps of every sweep that has cases
        withheld: sweeps whose cases are not run on this machine: their baselines stay as they are
        keeps: whether the baselines of a model of that name stay as they are

    Returns:
        a line for each thing that was removed, and a line for each that could not be
    """
    removed: list[str] = []
    problems: list[str] = []
    if not (directory / protocol).is_dir():
        return removed, problems
    try:
        with locked(directory):
            for sweep in stored_sweeps(directory, protocol):
                if sweep in withheld or keeps(sweep.model):
                    continue
                try:
                    what = _remove_stale(directory, sweep, cases.get(sweep, ()))
                except StoreError as error:
                    problems.append(str(error))
                else:
                    removed += [what] if what else []
    except StoreError as error:
        problems.append(str(error))
    return removed, problems


def stored_sweeps(directory: Path, protocol: str) -> list[Sweep]:
    """Every sweep that has a baseline file."""
    found = set()
    for path in (directory / protocol).iterdir():
        model, dash, dataset = path.stem.partition("-")
        if dash and path.suffix in (".json", ".safetensors") and not path.name.startswith("."):
            found.add(Sweep(model, dataset, protocol))
    return sorted(found, key=lambda sweep: sweep.id)


def _remove_stale(directory: Path, sweep: Sweep, taps: Collection[Tap]) -> str:
    """Remove the entries of a stored sweep other than `taps`; returns what was removed, empty for nothing."""
    path, _ = paths(directory, sweep)
    if not taps:
        remove(directory, sweep)
        return f"{relative(path)} and its .safetensors file, which had no test case"
    old = read(directory, sweep)
    if old is None:
        return ""
    # Only runs that ask for other poolings and combinations have cases of them.
    gone = sorted(tap for tap in old.correct if tap.plain not in taps and not tap.is_combination)
    if not gone:
        return ""
    kept = {tap: correct for tap, correct in old.correct.items() if tap not in gone}
    if kept:
        write(directory, replace(old, correct=kept))
    else:
        remove(directory, sweep)
    names = list_some(tap.id for tap in gone)
    return f"{len(gone)} of {len(old.correct)} entries of {relative(path)}, which had no test case: {names}"


def incomparable(baseline: Baseline, now: Baseline) -> str:
    """The reason why the two cannot be compared; empty if they can. Labels are a part of the test set's digest, so two
    tasks never have the same."""
    if baseline.fingerprint != now.fingerprint:
        return f"protocol fingerprint {baseline.fingerprint}, not {now.fingerprint}"
    if baseline.test_set != now.test_set or baseline.n_test != now.n_test:
        return f"test set {baseline.test_set} ({baseline.n_test} images), not {now.test_set} ({now.n_test})"
    return ""
