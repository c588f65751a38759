"""`probebench show`, `leaderboard` and `compare`."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import pytest

from probebench.cli.main import main
from probebench.errors import UnknownName
from probebench.records import run_record
from probebench.records.find import find_record
from probebench.records.tap_selection import with_selections
from tests.records.places import placed
from tests.records.samples import right, stored
from tests.records.valid import validate

NET, OTHER = ("net", "digits"), ("other", "digits")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(run, path):
    run_record.save(run.record, path, run.correct)


def output(capsys):
    return capsys.readouterr().out


# Which record is meant


def test_records_are_found_by_path_prefix_and_latest(folder):
    runs = folder / ".probebench" / "runs"
    names = ["20260101T000000Z-aaaaaa", "20260102T000000Z-ffffff", "20260102T000000Z-bbbbbb"]
    for i, name in enumerate(names):
        save(stored({NET: {"final": right(700)}}), runs / f"{name}.json")
        os.utime(runs / f"{name}.json", (i, i))
    (folder / "deeper").mkdir()
    assert find_record("20260101", folder / "deeper") == runs / f"{names[0]}.json"
    assert find_record("latest") == runs / f"{names[2]}.json"  # of one second, the one written last
    assert find_record("20260102T000000Z-f") == runs / f"{names[1]}.json"
    save(stored({NET: {"final": right(700)}}), folder / "latest")
    assert find_record("latest").name == "latest"
    with pytest.raises(UnknownName, match=r"2 run records in .* start with '20260102': .*Z-ffffff, .*Z-bbbbbb$"):
        find_record("20260102")
    with pytest.raises(UnknownName, match="Did you mean '20260101T000000Z-aaaaaa'"):
        find_record("20260101T000000Z-aaaaab")


def test_the_latest_record_is_the_one_written_last_even_if_the_clock_was_set_back(folder):
    runs = folder / ".probebench" / "runs"
    for name in ("20260102T000000Z-aaaaaa", "20260101T000000Z-bbbbbb"):
        save(stored({NET: {"final": right(700)}}), runs / f"{name}.json")
    assert find_record("latest").name.startswith("20260102")
    (runs / ".latest").write_text("20260101T000000Z-bbbbbb.json\n")
    assert find_record("latest").name.startswith("20260101")
    (runs / ".latest").write_text("removed.json\n")
    assert find_record("latest").name.startswith("20260102")


def test_a_record_of_a_folder_above_is_told(folder, capsys, monkeypatch):
    path = folder / ".probebench" / "runs" / "20260101T000000Z-aaaaaa.json"
    save(stored({NET: {"final": right(700)}}), path)
    assert main(["show", "latest"]) == 0
    assert capsys.readouterr().err == ""
    (folder / "deeper").mkdir()
    monkeypatch.chdir(folder / "deeper")
    for command in (["show", "latest"], ["leaderboard", "20260101"]):
        assert main(command) == 0
        assert f"run record {path.stem} is from {folder}; this folder has none\n" in capsys.readouterr().err
    assert main(["show", str(path)]) == 0
    assert capsys.readouterr().err == ""


def test_a_record_that_is_not_there_is_a_usage_error(folder, capsys):
    assert main(["show", "run.json"]) == 2
    assert "there is no file 'run.json', and no .probebench/runs in this folder" in capsys.readouterr().err
    (folder / ".probebench" / "runs").mkdir(parents=True)
    assert main(["show", "latest"]) == 2
    assert "unknown run record 'latest'" in capsys.readouterr().err


# show


def test_show_prints_the_leaderboards_and_where_they_come_from(folder, capsys):
    failures = [{"sweep": "net-birds", "error": "DataError: no such folder\ntraceback"}]
    run = stored({NET: {"final": right(700)}}, failures=failures, stale=["net-digits-L13-act"], interrupted=True)
    save(run, folder / "a.json")
    assert main(["show", "a.json"]) == 0
    out = output(capsys)
    for piece in (
        *("digits, no shift: 1000 test images, default@2", "1 case in 1 sweep: 1 new", "run       a.json"),
        *("started 2026-01-01T00:00:00+00:00, took 10 s (interrupted)", "command   pytest benchmarks/", "torch 2"),
        *("protocol  default@2 (ffff", "FAILED    net-birds: DataError: no such folder\n", "L13-act"),
    ):
        assert piece in out, piece
    assert main(["show", "a.json", "--level", "brief"]) == 0
    assert "Best tap of each model" in output(capsys)


def test_show_refuses_what_is_no_record(folder, capsys):
    (folder / "a.json").write_text("{}")
    assert main(["show", "a.json"]) == 1
    assert "a.json is not a run record" in capsys.readouterr().err


def test_a_record_is_not_written_over_one_that_is_read(folder, capsys):
    for name in ("a.json", "b.json"):
        save(stored({NET: {"final": right(700)}}), folder / name)
    before = (folder / "b.json").read_bytes()
    assert main(["leaderboard", "a.json", "b.json", "-o", "./b.json"]) == 1
    assert "-o b.json is one of the runs that are read: name another file" in capsys.readouterr().err
    assert (folder / "b.json").read_bytes() == before


def test_show_says_of_an_older_record_what_its_bits_tell(folder, capsys):
    run = stored({NET: {"L01-act": right(700), "final": right(699)}})
    save(run, folder / "a.json")
    assert main(["show", "a.json"]) == 0
    assert "L01-act chosen on test images: 70.0% (67.1-72.8); 1 of 1 other tap is tied with it" in output(capsys)
    (folder / "a.correct.safetensors").unlink()
    assert main(["show", "a.json"]) == 0
    out, err = capsys.readouterr()
    assert "L01-act chosen on test images: 70.0% (67.1-72.8)\n" in out
    assert "WARNING: a.correct.safetensors is missing, " in err
    # A record that says so itself needs no bits.
    run_record.save(with_selections(run.record, run.correct), folder / "b.json")
    assert main(["show", "b.json"]) == 0
    out, err = capsys.readouterr()
    assert "1 of 1 other tap is tied with it" in out
    assert err == ""


def test_places_are_compared_where_an_older_record_has_its_bits(folder, capsys):
    run = placed(["far"])
    bare = run.record | {"sweeps": [{k: v for k, v in s.items() if k != "contrasts"} for s in run.record["sweeps"]]}
    run_record.save(bare, folder / "old.json", run.correct)
    for command in (["show", "old.json"], ["leaderboard", "old.json"]):
        assert main(command) == 0
        assert "Places: net under strong shift" in output(capsys)
    # Nothing is asked for that a record has itself, and nobody is warned that an old one lacks this.
    (folder / "old.correct.safetensors").unlink()
    run_record.save(run.record, folder / "new.json.gz")
    for name, there in (("old.json", False), ("new.json.gz", True)):
        for command in ("show", "leaderboard"):
            assert main([command, name]) == 0
            out, err = capsys.readouterr()
            assert ("Places: net" in out) == there
            assert err == ""


# leaderboard


@pytest.fixture
def two(folder):
    save(stored({NET: {"final": right(700)}}), folder / "a.json")
    save(stored({OTHER: {"final": right(600)}}, hours=1), folder / "b.json")
    return ["leaderboard", "a.json", "b.json"]


def test_models_and_datasets_are_selected(two, folder, capsys):
    assert main([*two, "--model", "oth*"]) == 0
    assert "1 case in 1 sweep" in output(capsys)
    assert main([*two, "--format", "json", "-o", "one.json", "--model", "net", "--dataset", "digits"]) == 0
    assert [case["model"] for case in run_record.load(folder / "one.json")["cases"]] == ["net"]
    assert main(["report", "a.json", "b.json", "-o", "one.html", "--model", "net"]) == 0
    assert "1 case in 1 sweep" in output(capsys)
    assert main([*two, "--model", "nett"]) == 2
    assert "Did you mean 'net'" in capsys.readouterr().err


def test_runs_are_merged_into_every_format(two, folder, capsys):
    assert main(two) == 0
    assert "2 cases in 2 sweeps" in output(capsys)
    assert main([*two, "--format", "github"]) == 0
    assert "| digits    |      2 | other   |" in output(capsys)
    assert main([*two, "--format", "latex"]) == 0
    assert r"\begin{tabular}" in output(capsys)
    assert main([*two, "--format", "csv"]) == 0
    assert [row["model"] for row in csv.DictReader(output(capsys).splitlines())] == ["net", "other"]
    assert main([*two, "--format", "json"]) == 0
    record = json.loads(output(capsys))
    validate(record)
    assert len(record["cases"]) == 2
    for name in ("github", "terminal"):
        assert main([*two, "--format", name, "-o", f"out/{name}"]) == 0
        assert output(capsys) == ""
        assert "other" in (folder / "out" / name).read_text()


@pytest.mark.parametrize(
    ("name", "args", "start"),
    [
        ("board.md", [], "| dataset"),
        ("board.TEX", [], r"\begin{tabular}"),
        ("board.csv", [], "dataset,rank,"),
        ("all.json", [], "{"),
        ("board.txt", [], "digits"),
        ("board", [], "digits"),
        ("board.md", ["--format", "csv"], "dataset,rank,"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_the_format_is_that_of_the_files_ending(two, folder, name, args, start):
    assert main([*two, "-o", name, *args]) == 0
    assert (folder / name).read_text().startswith(start)


def test_a_merged_record_in_a_file_can_be_shown_and_compared(two, capsys):
    assert main([*two, "--format", "json", "-o", "all.json"]) == 0
    assert main(["show", "all.json"]) == 0
    assert "merged    b.json, started 2026-01-01T01:00:00+00:00" in output(capsys)
    assert main(["compare", "all.json", "all.json", "--models", "other", "net"]) == 0
    assert "unpaired" not in output(capsys)


def test_runs_of_one_sweep_are_compared_across_records(folder, capsys):
    save(stored({NET: {"L01-act": right(700)}}), folder / "a.json")
    save(stored({NET: {"final": right(600)}}, hours=1), folder / "b.json")
    assert main(["leaderboard", "a.json", "b.json", "--format", "json"]) == 0
    selection = json.loads(output(capsys))["sweeps"][0]["selection"]
    assert (selection["tap"], selection["worse"], selection["tied"]) == ("L01-act", 1, [])


def test_a_record_that_has_lost_its_bits_still_has_a_leaderboard_but_no_whole_copy(two, folder, capsys):
    (folder / "a.correct.safetensors").unlink()
    assert main(two) == 0
    out, err = capsys.readouterr()
    assert "2 cases in 2 sweeps" in out
    assert err.count("it may stay unknown which taps are tied") == 1
    assert main([*two, "--format", "json", "-o", "all.json"]) == 1
    assert not (folder / "all.json").exists()


def test_what_cannot_be_merged_is_an_error_and_writes_nothing(two, folder, capsys):
    save(stored({NET: {"final": right(700)}}, test_set="0" * 16), folder / "b.json")
    assert main([*two, "-o", "out.txt"]) == 1
    assert "the test set of digits differs" in capsys.readouterr().err
    assert not (folder / "out.txt").exists()
    assert main([*two, "--protocol", "paper@1"]) == 2


# compare


@pytest.mark.parametrize(("now", "code"), [(right(700), 0), (right(800), 0), (right(700, 60), 1)])
def test_compare_exits_with_1_if_something_regressed(folder, capsys, now, code):
    save(stored({NET: {"final": right(700)}}), folder / "a.json")
    save(stored({NET: {"final": now}}), folder / "b.json")
    assert main(["compare", "a.json", "b.json"]) == code
    assert output(capsys).splitlines()[-1].startswith("1 case compared: 1 ")
    assert main(["compare", "a.json", "b.json", "--min-drop", "50"]) == 0
    assert main(["compare", "a.json", "b.json", "--alpha", "1e-30"]) == 0


def test_compare_exits_with_2_if_it_cannot_compare(folder, capsys):
    save(stored({NET: {"final": right(700)}}), folder / "a.json")
    (folder / "b.json").write_text("{}")
    assert main(["compare", "a.json", "b.json"]) == 2
    assert main(["compare", "a.json", "c.json"]) == 2
    save(stored({OTHER: {"embed": right(700)}}), folder / "b.json")
    assert main(["compare", "a.json", "b.json"]) == 2
    assert main(["compare", "a.json", "a.json", "--models", "net", "nte"]) == 2
    assert "Did you mean 'net'" in capsys.readouterr().err
    for wrong in (["--alpha", "1"], ["--min-drop", "x"], ["--models", "net"]):
        with pytest.raises(SystemExit, match="2"):
            main(["compare", "a.json", "a.json", *wrong])


def test_damaged_bits_are_not_taken_for_absent_ones(folder, capsys):
    save(stored({NET: {"final": right(700)}}), folder / "a.json")
    (folder / "a.correct.safetensors").write_bytes(b"")
    assert main(["show", "a.json"]) == 0
    assert main(["compare", "a.json", "a.json"]) == 2
    assert "not from the same run" in capsys.readouterr().err


def test_reading_records_imports_no_torch(two, folder):
    code = f"import sys; from probebench.cli.main import main; main({two}); main(['compare', 'a.json', 'a.json']); "
    code += "sys.exit(any(name in sys.modules for name in ('torch', 'timm', 'sklearn')))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)


def test_what_is_known_about_images_is_shown_with_the_run_and_in_files(folder, capsys):
    run = stored({NET: {"L01-act": right(700)}})
    note = "images of digits: 2 of 1000 test images are also among the training images (a = b)"
    run.record["sweeps"][0]["data_notes"] = [note]
    save(run, folder / "run.json")
    main(["show", "run.json"])
    assert note in output(capsys).splitlines()
    for name in ("board.md", "board.tex"):
        main(["leaderboard", "run.json", "-o", name])
        assert note in (folder / name).read_text(encoding="utf-8")
