"""Run cases with other plugins and options of pytest, and write the table of docs/ci.md.

    python tools/compatibility.py            # all rows, half a minute each
    python tools/compatibility.py timeout    # those whose title has a word; the table is not written

Each plugin gets a virtual environment of its own, which sees the packages of this one. Its runs must give the numbers
and verdicts of a run without it, and measure each sweep once. The script fails if a row does not do as it says.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import distribution
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs" / "ci.md"
BEGIN, END = "<!-- begin: tools/compatibility.py -->", "<!-- end: tools/compatibility.py -->"
WORKS, DIFFERS, REFUSED = "works", "works, with a difference", "refused"

CONFTEST = """
import numpy as np
from probebench import DatasetSpec, ModelSpec
from probebench.datasets import Split

NETWORK = {"img_size": 16, "patch_size": 8, "embed_dim": 8, "num_heads": 2, "num_classes": 0}

def pytest_probebench_models():
    common = {"architecture": "VisionTransformer", "depth": 2, "weights": "random", "input_size": 16, "kwargs": NETWORK,
              "mean": (0.5,) * 3, "std": (0.5,) * 3}
    return [ModelSpec(name="first", seed=1, **common), ModelSpec(name="second", seed=2, **common)]

def pytest_probebench_datasets():
    return [DatasetSpec(name="stripes", reader="conftest:stripes")]

def stripes():
    def split(seed):
        noise = np.random.default_rng(seed)
        labels = np.arange(60) % 3
        images = noise.integers(0, 120, (60, 16, 16), dtype=np.uint8)
        for image, label in zip(images, labels):
            image[:, 5 * label : 5 * label + 5] += 90
        return Split(images, labels)

    return ["left", "middle", "right"], split(0), split(1)
"""

CASES = """
import pytest

@pytest.mark.probe(model=["first", "second"], dataset="stripes", layer=[1, 2], site=["act", "rc2"])
def test_probe(probe):
    probe.check()
"""


@dataclass(frozen=True)
class Finished:
    """A run of pytest that has ended.

    Attributes:
        record: the run record; None if the run has left none
    """

    status: int
    output: str
    record: dict | None

    @property
    def cases(self) -> dict[str, tuple[float, str]]:
        """By id, accuracy and verdict."""
        return {case["id"]: (case["accuracy"], case["verdict"]) for case in (self.record or {"cases": []})["cases"]}


Check = Callable[[Finished, Finished], bool]  # a run, and the run without plugins and options


def same(run: Finished, plain: Finished) -> bool:
    """All cases were measured, each sweep once, with the same results."""
    if run.record is None or plain.record is None:
        return False
    images = run.record["images"] == plain.record["images"] and not run.record["failures"]
    return run.status == 0 and run.cases == plain.cases and images


def refused(run: Finished, plain: Finished) -> bool:
    """Nothing was measured, and pytest ended as it does for wrong usage."""
    return run.status == 4 and run.record is None and "INTERNALERROR" not in run.output


def skipped(run: Finished, plain: Finished) -> bool:
    """No case was measured."""
    return run.status == 0 and not run.cases and f"{len(plain.cases)} skipped" in run.output


def part(run: Finished, plain: Finished) -> bool:
    """Some cases were measured, with the same results, and the run says what is missing."""
    return run.status == 0 and run.cases.items() < plain.cases.items() and "keeps sweeps whole" in run.output


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        plugin: what pip installs; empty for an option of pytest
        arguments: of the run
        result: as the table says it
        note: what to know, as the table says it
    """

    plugin: str
    arguments: tuple[str, ...]
    result: str = WORKS
    note: str = ""
    check: Check = same

    @property
    def title(self) -> str:
        """The first cell."""
        options = f"`{' '.join(self.arguments)}`" if self.arguments else ""
        return ", ".join(filter(None, (self.plugin, options)))


LIMIT = (
    "The first test of a sweep waits for all of it, so the limit is one of whole sweeps. A sweep that exceeds it fails"
)
MATRIX = (
    Row("", ("-x",), DIFFERS, "Sweeps after the first failure are not measured; `--probe-resume` continues the run"),
    Row("", ("--junitxml=j.xml",)),
    Row("", ("-W", "error")),
    Row("", ("--import-mode=importlib",)),
    Row("", ("-p", "no:terminal"), DIFFERS, "Nothing is printed; the record is written"),
    Row("pytest-xdist", ("-n", "2"), WORKS, "A sweep is measured by one worker ([scale.md](scale.md))"),
    Row("pytest-xdist", ("-n", "2", "--dist=each"), REFUSED, "Every sweep would be measured by every worker", refused),
    Row("pytest-benchmark", ("--benchmark-only",), WORKS, "Each case counts as a benchmark"),
    Row("pytest-benchmark", ("--benchmark-skip",), DIFFERS, "Cases are skipped, as benchmarks", skipped),
    Row("pytest-benchmark", ("--benchmark-json=b.json",), WORKS, "Each case has the time attributed to it"),
    Row(
        "pytest-benchmark",
        ("--benchmark-group-by=param:site", "--benchmark-columns=mean"),
        WORKS,
        "Cases have the parameters model, dataset, layer and site; `--probe-benchmark-table` prints them",
    ),
    Row(
        "pytest-timeout",
        ("--timeout=600", "--timeout-method=signal"),
        DIFFERS,
        f"{LIMIT} and costs no other; `--probe-resume` measures it again",
    ),
    Row(
        "pytest-timeout",
        ("--timeout=600", "--timeout-method=thread"),
        DIFFERS,
        "As above, but the limit ends the process: with `-n` it costs the sweep, without it the run",
    ),
    Row("pytest-rerunfailures", ("--reruns=2",), WORKS, "No sweep is measured again, so that a rerun fails as before"),
    Row("flaky", ("--force-flaky", "--max-runs=2"), WORKS, "As reruns"),
    Row("pytest-retry", ("--retries=1",), WORKS, "As reruns"),
    Row(
        "pytest-forked",
        ("--forked",),
        REFUSED,
        "Each case would measure its whole sweep in a process of its own. With `-n`, a crash costs one sweep",
        refused,
    ),
    Row(
        "pytest-split",
        ("--splits=3", "--group=1"),
        DIFFERS,
        "It divides tests, not sweeps: images go through the network once for each group, and verdicts take only the "
        "cases of the group into account. Use `--probe-shard=I/N`",
        part,
    ),
    Row("pytest-randomly", ("-p", "randomly")),
    Row("pytest-random-order", ("--random-order",)),
    Row("pytest-order", ("--order-scope=module",)),
    Row("pytest-repeat", ("--count=2",), WORKS, "A sweep is measured once, and each of its cases tested twice"),
    Row("pytest-cov", ("--cov=.",)),
    Row("pytest-html", ("--html=tests.html",)),
    Row("pytest-json-report", ("--json-report",)),
    Row("pytest-sugar", ()),
    Row(
        "pytest-rich", ("--rich",), WORKS, "Where it replaces the terminal reporter, the lines of probebench are plain"
    ),
    Row("pytest-instafail", ("--instafail",)),
    Row("pytest-asyncio", ()),
    Row("pytest-check", ()),
    Row("pytest-mock", ()),
)


def make_environment(folder: Path, plugin: str) -> Path:
    """Make a virtual environment with a plugin, which sees the packages of this one; returns its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    own = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    Path(own, "outer.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    if plugin:
        subprocess.run([python, "-m", "pip", "install", "--quiet", plugin], check=True)
    return python


def run(python: Path, arguments: Sequence[str], project: Path) -> Finished:
    """Run the cases of a project, as a CI job would."""
    record = project / "r.json"
    for left in (record, project / ".probebench"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    command = [python, "-m", "pytest", "-p", "no:cacheprovider", "--probe-json=r.json", "--probe-cache=off", *arguments]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    found = json.loads(record.read_text(encoding="utf-8")) if record.exists() else None
    return Finished(done.returncode, done.stdout + done.stderr, found)


def find_version(python: Path, plugin: str) -> str:
    """The version of a plugin in an environment."""
    code = f"from importlib.metadata import version; print(version({plugin!r}))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def render(versions: dict[str, str], day: str) -> str:
    """The part of the page that this script writes."""
    pytest = distribution("pytest").version
    lines = [
        f"Tried on {day} with pytest {pytest} by `python tools/compatibility.py`, with `--probe-strict` against the "
        "baselines of a plain run:",
        "",
        "| with | version | result | note |",
        "|---|---|---|---|",
    ]
    for row in MATRIX:
        lines.append(f"| {row.title} | {versions.get(row.plugin, '')} | {row.result} | {row.note} |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    """Run the matrix; returns the exit status."""
    chosen = [row for row in MATRIX if not words or any(word in row.title for word in words)]
    versions: dict[str, str] = {}
    wrong = []
    with tempfile.TemporaryDirectory(prefix="compatibility-") as folder:
        project = Path(folder, "project")
        project.mkdir()
        (project / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
        (project / "conftest.py").write_text(CONFTEST, encoding="utf-8")
        (project / "test_cases.py").write_text(CASES, encoding="utf-8")
        environments = {"": Path(sys.executable)}
        run(environments[""], ["--probe-update=all"], project)
        plain = run(environments[""], ["--probe-strict"], project)
        if not same(plain, plain):
            print(plain.output)
            return 1
        for row in chosen:
            if row.plugin not in environments:
                environments[row.plugin] = make_environment(Path(folder, row.plugin), row.plugin)
            python = environments[row.plugin]
            if row.plugin:
                versions[row.plugin] = find_version(python, row.plugin)
            found = run(python, ["--probe-strict", *row.arguments], project)
            right = row.check(found, plain)
            print(f"{'ok   ' if right else 'WRONG'} {row.title}: {row.result}", flush=True)
            if not right:
                wrong.append(row)
                print(found.output)
    if wrong:
        print(f"{len(wrong)} of {len(chosen)} rows do not do as they say")
        return 1
    if not words:
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
        _, _, after = rest.partition(END)
        table = render(versions, datetime.now(UTC).date().isoformat())
        PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
