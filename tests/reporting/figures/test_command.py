"""`probebench figures`."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from xml.etree import ElementTree

import pytest
from PIL import Image

from probebench.cli.main import main
from probebench.records import run_record
from probebench.reporting.figures.style import DOTS_PER_INCH, WIDTH
from tests.records.samples import right, stored
from tests.records.valid import validate

NET = ("net", "digits")
TAPS = {"L01-act": right(700), "L02-act": right(720), "L02-rc2": right(650), "final": right(600)}


@pytest.fixture
def save(tmp_path, monkeypatch):
    """Save a record under a name, in the current folder."""
    monkeypatch.chdir(tmp_path)

    def saved(name, *args, **kwargs):
        run_record.save(stored(*args, **kwargs).record, tmp_path / name)
        return name

    return saved


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """What the command writes and prints about a run of one sweep, for tests that only look at it; drawn once."""
    folder, out, err = tmp_path_factory.mktemp("drawn"), io.StringIO(), io.StringIO()
    run_record.save(stored({NET: TAPS}).record, folder / "run.json")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(folder)
        assert main(["figures", "run.json", "-o", "out/here"]) == 0
    return folder, out.getvalue(), err.getvalue()


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_files_are_written_and_listed(drawn):
    folder, out, err = drawn
    stems = ("depth-digits", "sites-net-digits", "best-net")
    names = [*(f"{stem}.{kind}" for stem in stems for kind in ("pdf", "svg", "png")), "table.tex", "table.md"]
    assert out.split() == [os.path.join("out", "here", name) for name in names]
    assert sorted(path.name for path in (folder / "out" / "here").iterdir()) == sorted(names)
    assert err == "depth-digits has no random control: the record has none of net on digits\n"


def test_files_are_what_their_names_say(drawn):
    out = drawn[0] / "out" / "here"
    for stem in ("depth-digits", "sites-net-digits", "best-net"):
        pdf = (out / f"{stem}.pdf").read_bytes()
        assert pdf.startswith(b"%PDF-1.")
        assert b"/FontFile2" in pdf  # a TrueType font is embedded
        assert b"/Type3" not in pdf
        assert b"Date" not in pdf
        svg = ElementTree.parse(out / f"{stem}.svg").getroot()
        assert svg.tag == "{http://www.w3.org/2000/svg}svg"
        assert svg.get("width") == f"{72 * WIDTH:g}pt"
        assert "date" not in (out / f"{stem}.svg").read_text()
        with Image.open(out / f"{stem}.png") as image:
            assert image.width == round(WIDTH * DOTS_PER_INCH)
            assert image.info["dpi"] == pytest.approx((DOTS_PER_INCH, DOTS_PER_INCH), abs=0.1)


def test_the_same_record_gives_the_same_bytes_whatever_the_settings_of_the_user(tmp_path, save, drawn):
    arguments = ["figures", save("run.json", {NET: TAPS}), "-o"]
    (tmp_path / "matplotlibrc").write_text("font.size: 20\npdf.fonttype: 3\nsvg.hashsalt: other\nlines.linewidth: 9\n")
    code = f"from probebench.cli.main import main; assert main({[*arguments, 'two']}) == 0; "
    code += "import sys; assert not {'torch', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)"
    environment = os.environ | {"MATPLOTLIBRC": str(tmp_path), "SOURCE_DATE_EPOCH": "1", "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert digests(drawn[0] / "out" / "here") == digests(tmp_path / "two")


def test_runs_are_merged_and_models_datasets_and_formats_chosen(tmp_path, save):
    a = save("a.json", {NET: TAPS, ("other", "digits"): TAPS})
    b = save("b.json", {("net", "birds"): TAPS}, hours=1)
    options = ["--model", "n*", "--dataset", "birds,digits", "--format", "svg", "--site", "act"]
    assert main(["figures", a, b, "-o", "out", *options]) == 0
    stems = ("depth-birds", "depth-digits", "sites-net-birds", "sites-net-digits", "best-net")
    assert set(digests(tmp_path / "out")) == {*(f"{stem}.svg" for stem in stems), "table.tex", "table.md"}


def test_a_tuned_model_is_drawn_with_its_base(tmp_path, save, capsys):
    run = save("run.json", {NET: TAPS, ("tuned", "digits"): TAPS})
    assert main(["figures", run, "-o", "out", "--format", "svg", "--tuned", "tuned=net"]) == 0
    assert "depth-digits.svg" in digests(tmp_path / "out")
    with pytest.raises(SystemExit, match="2"):
        main(["figures", run, "-o", "out", "--tuned", "tuned"])
    assert "'tuned' is not MODEL=BASE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--model", "nte"], 2, "unknown model 'nte'. Did you mean 'net'?"),
        (["--dataset", "digist"], 2, "unknown dataset 'digist'. Did you mean 'digits'?"),
        (["--format", "pdff"], 2, "unknown format 'pdff'. Did you mean 'pdf'?"),
        (["--site", "atc"], 2, "unknown site 'atc'. Did you mean 'act'?"),
        (["--tuned", "net=tuned"], 2, "unknown model 'tuned'"),
        (["--protocol", "paper@1"], 2, "unknown protocol 'paper@1'"),
    ],
)
def test_wrong_names_are_told_and_nothing_is_written(tmp_path, save, capsys, options, code, message):
    assert main(["figures", save("run.json", {NET: TAPS}), "-o", "out", *options]) == code
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_where_it_cannot_be_written_is_told(save, capsys):
    run = save("run.json", {NET: TAPS})
    for output in ("run.json", "run.json/out"):
        assert main(["figures", run, "-o", output]) == 1
        assert "-o: run.json" in capsys.readouterr().err


def test_without_matplotlib_the_command_that_gets_it_is_told(save, capsys, monkeypatch):
    run = save("run.json", {NET: TAPS})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["figures", run, "-o", "out"]) == 1
    assert "figures need matplotlib: pip install 'probebench[figures]'" in capsys.readouterr().err


def test_a_run_says_what_its_models_were_tuned_from(project, monkeypatch):
    conftest = (project.path / "conftest.py").read_text()
    project.makeconftest(conftest.replace('control_of="tiny"', 'tuned_from="tiny"'))
    options = ("--probe-jobs=1", "--probe-site=act,final", "--probe-dataset=blobs", "--probe-json=run.json")
    assert project.runpytest_inprocess(*options).ret == 0
    record = run_record.load(project.path / "run.json")
    validate(record)
    assert {sweep["model"]: sweep.get("tuned_from") for sweep in record["sweeps"]} == {
        "tiny": None,
        "tiny_other": "tiny",
    }
    monkeypatch.chdir(project.path)
    assert main(["figures", "run.json", "-o", "out", "--format", "svg"]) == 0
    assert "depth-blobs.svg" in digests(project.path / "out")
