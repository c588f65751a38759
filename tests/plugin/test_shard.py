"""--probe-shard I/N: parts of a run on several machines, and their records joined."""

from __future__ import annotations

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.taps import Tap
from probebench.cli import main
from probebench.records import baselines, run_record
from probebench.reporting.export import to_text
from tests.conftest import FEW, ONE, ONE_COUNT, TINY_COUNT
from tests.plugin.test_withheld import CASES
from tests.plugin.xdist.test_workers import timeless
from tests.records.valid import validate

SWEEPS = {f"{model}-{dataset}" for model in ("tiny", "tiny_other") for dataset in ("blobs", "blobs_dark")}


def collected(result):
    return [line.partition("[")[2].rstrip("]") for line in result.stdout.lines if line.startswith("test_tiny.py::")]


def loaded(project, *names):
    return [run_record.load(project.path / name) for name in names]


def verdicts(records):
    return {case["id"]: (case["verdict"], case["p_value"]) for record in records for case in record["cases"]}


def lose(directory, model, dataset, tap, count):
    """Change a baseline as if `count` images that are wrong had been right."""
    stored = baselines.read(directory, Sweep(model, dataset, "default@2"))
    bits = stored.correct[tap]
    bits[np.flatnonzero(~bits)[:count]] = True
    baselines.write(directory, stored)


@pytest.mark.parametrize("count", [2, 3])
def test_parts_are_whole_sweeps_of_which_each_is_in_one(run, count):
    parts = [collected(run("--collect-only", "-q", f"--probe-shard={i}/{count}")) for i in range(1, count + 1)]
    assert sorted(case for part in parts for case in part) == sorted(collected(run("--collect-only", "-q")))
    names = [{case.rpartition("-L")[0] for case in part if "-L" in case} for part in parts]
    assert sorted(name for part in names for name in part) == sorted(SWEEPS)
    assert max(map(len, parts)) - min(map(len, parts)) <= ONE_COUNT


def test_verdicts_and_leaderboard_are_those_of_the_whole_run(project, run, stored, baselines_dir, capsys):
    # 11 images lost and none gained are significant among 19 cases, and not among 76; 14 are.
    lose(baselines_dir.parent, "tiny", "blobs", Tap(1, "ln1"), 11)
    lose(baselines_dir.parent, "tiny", "blobs_dark", Tap(1, "ln1"), 14)
    run("--probe-json=whole.json").assert_outcomes(passed=TINY_COUNT - 1, failed=1)
    for i in range(1, 5):
        result = run(f"--probe-shard={i}/4", f"--probe-json={i}.json")
        result.stdout.fnmatch_lines(
            [f"probebench: {ONE_COUNT} cases in 1 sweep (shard {i}/4 of {TINY_COUNT} cases in 4 sweeps), *"]
        )
        assert result.parseoutcomes()["deselected"] == TINY_COUNT - ONE_COUNT
    (whole,), parts = loaded(project, "whole.json"), loaded(project, *(f"{i}.json" for i in range(1, 5)))
    assert "shard" not in whole
    assert [part["shard"] for part in parts] == [[i, 4] for i in range(1, 5)]
    for part in parts:
        validate(part)
    assert verdicts(parts) == verdicts([whole])
    assert verdicts(parts)["tiny-blobs-L01-ln1"][0] == "same"
    assert verdicts(parts)["tiny-blobs_dark-L01-ln1"][0] == "regressed"

    paths = [str(project.path / f"{i}.json") for i in range(1, 5)]
    assert main(["leaderboard", *paths, "--format", "json", "-o", str(project.path / "all.json")]) == 0
    assert capsys.readouterr().err == ""
    (joined,) = loaded(project, "all.json")
    validate(joined)
    assert "shard" not in joined

    def ordered(record):
        found = timeless(record)
        return found | {
            "sweeps": sorted(found["sweeps"], key=lambda sweep: (sweep["model"], sweep["dataset"])),
            "cases": sorted(found["cases"], key=lambda case: case["id"]),
        }

    added = {"merged": None, "withheld": []}
    assert ordered(joined) | added == ordered(whole) | added
    assert to_text(joined, "csv") == to_text(whole, "csv")
    bits, whole_bits = (
        run_record.load_correct(record, project.path / name)
        for record, name in ((joined, "all.json"), (whole, "whole.json"))
    )
    assert bits.keys() == whole_bits.keys()
    assert all(np.array_equal(bits[name], whole_bits[name]) for name in bits)

    assert main(["leaderboard", paths[0], paths[2], paths[3]]) == 0
    assert "WARNING: shard 2/4 is missing" in capsys.readouterr().err


def test_an_update_touches_the_sweeps_of_its_part_only(project, run, baselines_dir):
    for i, files in ((1, 2), (2, 4)):
        result = run(f"--probe-shard={i}/2", "--probe-update=new", *FEW)
        result.stdout.fnmatch_lines(["baselines: 2 files updated*"])
        assert len(list(baselines_dir.glob("*.json"))) == files
    run("--probe-strict", *FEW).assert_outcomes(passed=4)


def test_other_selections_leave_sweeps_in_their_parts(run):
    for args, count in ((["-k", "L01"], 32), (["-m", 'probe(site="act")'], 8), (["--probe-model=tiny"], 2 * ONE_COUNT)):
        parts = [collected(run("--collect-only", "-q", f"--probe-shard={i}/2", *args)) for i in (1, 2)]
        assert len(parts[0]) + len(parts[1]) == len({*parts[0], *parts[1]}) == count
        assert abs(len(parts[0]) - len(parts[1])) == 0
    # -k is no selection of probebench's: it does not move a sweep to another part.
    whole = set(collected(run("--collect-only", "-q", "--probe-shard=1/2")))
    assert set(collected(run("--collect-only", "-q", "--probe-shard=1/2", "-k", "blobs_dark"))) <= whole


def test_ordinary_tests_run_in_every_part(project, run):
    project.makepyfile(test_plain="def test_one(): pass")
    for i in (1, 2):
        run(f"--probe-shard={i}/2", "--probe-site=final").assert_outcomes(passed=3, deselected=2)


def test_machines_that_have_other_data_divide_alike(project, run, monkeypatch, tmp_path):
    """One has images of CIFAR-10 (and no weights), the other has none: what are no tests there are 24 here."""
    project.makepyfile(test_tiny=CASES.replace('"vit_b16", ', ""))
    named = ("--probe-model=vit_b16_random,mae_b16,tiny", "--probe-site=act,final")

    def sweeps_of(part):
        lines = collected(run("--collect-only", "-q", "--probe-offline", f"--probe-shard={part}/3", *named))
        return {
            case.split("-L")[0].removesuffix("-embed").removesuffix("-final").removesuffix("-output") for case in lines
        }

    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path / "none"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    without = [sweeps_of(part) for part in (1, 2, 3)]
    from probebench.fetch import local

    monkeypatch.setattr(local, "on_disk", lambda spec, root=None: True)
    with_data = [sweeps_of(part) for part in (1, 2, 3)]
    assert without == with_data
    assert sum(map(len, without)) == 23


def test_what_was_asked_for_elsewhere_counts_among_the_cases(project, run, monkeypatch, tmp_path):
    """Verdicts of a part do not depend on whether its machine has what other parts need."""
    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path / "data"))
    project.makepyfile(test_tiny=CASES)
    args = ("--collect-only", "-q", "--probe-offline", "--probe-model=mae_b16,tiny", "--probe-site=final")
    text = "\n".join(run(*args, f"--probe-shard={part}/2").stdout.str() for part in (1, 2))
    (line,) = [line for line in text.splitlines() if line.startswith("probebench: ")]
    # Own: tiny-blobs. Of the 11 of mae_b16 half are another machine's.
    assert line.startswith("probebench: 1 case in 1 sweep (shard ")
    assert "/2 of 7 cases in 7 sweeps)" in line
    # What nobody asked for by name is nowhere measured, and does not count.
    bare = "\n".join(
        run("--collect-only", "-q", "--probe-offline", f"--probe-shard={part}/2").stdout.str() for part in (1, 2)
    )
    assert f"/2 of {ONE_COUNT} cases in 1 sweep)" in bare


@pytest.mark.parametrize("text", ["0/3", "4/3", "3", "a/b", "1/0", "1/2/3", "-1/2", "1.5/2", ""])
def test_values_that_cannot_be_meant_are_refused(project, run, text):
    result = run(f"--probe-shard={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: --probe-shard takes I/N with I from 1 to N, such as 1/4, got '{text}'"])


def test_a_part_is_never_pruned_by(project, run):
    result = run("--probe-shard=1/2", "--probe-prune")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: --probe-prune*needs a run of all cases: leave out --probe-shard"])


def test_an_empty_part_collects_nothing(run):
    assert run("--probe-shard=5/5", "--probe-site=final").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_part_may_be_measured_by_several_workers(project, run):
    pytest.importorskip("xdist")
    run("--probe-shard=2/2", "--probe-json=alone.json", "--probe-site=final")
    result = run("-n", "2", "--probe-shard=2/2", "--probe-json=n.json", "--probe-site=final")
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(["probebench: 2 cases in 2 sweeps (shard 2/2 of 4 cases in 4 sweeps) on 2 workers, *"])
    alone, parts = loaded(project, "alone.json", "n.json")
    assert timeless(parts) == timeless(alone)


def test_a_plugin_that_divides_tests_is_told_from_one_that_divides_sweeps(project, run):
    option = "\ndef pytest_addoption(parser):\n    parser.addoption('--splits', type=int)\n"
    project.makeconftest((project.path / "conftest.py").read_text() + option)
    args = ("-p", "no:pytest-split", *ONE, "--probe-site=final")
    result = run(*args, "--splits=2")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["WARNING: --splits divides tests, not sweeps: *--probe-shard=I/N keeps sweeps whole*"])
    run(*args).stdout.no_fnmatch_line("*--splits*")
