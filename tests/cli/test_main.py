"""The command `probebench`."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import signal
import subprocess
import sys
import time
import tomllib
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from probebench import __version__
from probebench.catalog import Archive, Catalog, DatasetSpec, ModelSpec
from probebench.catalog.protocols import PAPER, PROTOCOLS
from probebench.cli.catalog_tables import dataset_rows, write_table
from probebench.cli.main import main
from probebench.errors import FetchError
from probebench.fetch import Unreachable, hub
from probebench.reporting.terminal.progress import transfers
from tests.fetch.helpers import KINDS, tar_of
from tests.server import Answer

VIT = ModelSpec(
    "vit_x16",
    "vit_tiny_patch16_224.augreg",
    depth=12,
    input_size=224,
    mean=(0.5,) * 3,
    std=(0.5,) * 3,
    width=192,
    parameters=5_500_000,
    download_size=22_000_000,
    pretraining="supervised on a set of photographs",
    licence="Apache-2.0",
)


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "data"
    monkeypatch.setenv("PROBEBENCH_DATA", str(folder))
    return folder


@pytest.fixture
def catalog(server, root, monkeypatch) -> Catalog:
    """The real one, a model to download, and three datasets on a server of this machine that share archives."""

    def archive(name, content, makes):
        md5 = hashlib.md5(content).hexdigest()
        return Archive(server.add(name, content), md5, len(content), "set", f"set/{makes}" if makes else "")

    shared = archive("shared.tar.gz", KINDS["a.tar.gz"], "top")
    own = archive("own.tar.gz", tar_of({"own/1": b"1"}, compress=gzip.compress), "own")
    labels = archive("labels.mat", b"labels", "")
    by_hand = Archive("http://127.0.0.1:1/secret.tar", manual="needs an account", makes="secret")
    datasets = [
        DatasetSpec("photos", "m:f", archives=(shared, labels), licence="CC0", note="pictures; 7 train, 5 test"),
        DatasetSpec("drawings", "m:f", archives=(shared, own)),
        DatasetSpec("secret", "m:f", archives=(by_hand,)),
    ]
    base = Catalog.default()
    made = Catalog(base.models, base.datasets, {**base.suites, "both": ("photos", "drawings")}).extend([VIT], datasets)
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls, **kwargs: made))
    return made


def lines(text: str) -> list[list[str]]:
    """The cells of a table."""
    return [line.split() for line in text.splitlines()]


# Lists


def test_models_are_listed(catalog, capsys, monkeypatch):
    assert main(["models"]) == 0
    out = capsys.readouterr().out
    assert lines(out)[0] == "name timm depth width parameters input download pretraining licence here".split()  # noqa: SIM905
    row = next(line for line in out.splitlines() if line.startswith(" vit_x16"))
    assert row.split()[:8] == ["vit_x16", "vit_tiny_patch16_224.augreg", "12", "192", "5.5", "M", "224", "22"]
    assert row.split()[-2:] == ["Apache-2.0", "no"]
    row = next(line for line in lines(out) if line[:1] == ["glyphvit"])
    assert row[-1] == "yes"
    monkeypatch.setattr(hub, "cached", lambda spec: Path("/hub/model.safetensors"))
    main(["models", "X16"])
    assert "/hub/model.safetensors" in capsys.readouterr().out


def test_datasets_are_listed_with_corruptions_in_one_row(catalog, root, capsys):
    (root / "set" / "top").mkdir(parents=True)
    (root / "set" / "labels.mat").touch()
    assert main(["datasets"]) == 0
    out = capsys.readouterr().out
    assert "cifar10_c_{19 corruptions}" in out
    assert "under {corruption}" in out
    assert "cifar10_c_fog" not in out
    row = next(line for line in out.splitlines() if line.startswith(" photos"))
    size = len(KINDS["a.tar.gz"]) + 6
    assert row.split() == ["photos", "pictures", "7", "5", "top1", str(size), "B", "CC0", str(root / "set"), "both"]
    assert next(line for line in lines(out) if line[:1] == ["drawings"])[-2:] == ["no", "both"]


def test_a_row_of_corruptions_says_where_they_differ(root, monkeypatch, capsys):
    def spec(corruption, size):
        archive = Archive(f"https://example.org/{size}.tar", size=size, makes=f"set/{corruption}")
        kwargs = {"corruption": corruption, "severity": 5}
        return DatasetSpec(f"set_c_{corruption}", "m:f", kwargs, note=f"under {corruption}", archives=(archive,))

    (root / "set" / "fog").mkdir(parents=True)
    made = Catalog.default().extend(datasets=[spec("fog", 10), spec("snow", 2000)])
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls, **kwargs: made))
    assert main(["datasets"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if "set_c_" in line)
    assert row.split("  ", 1)[0] == " set_c_{2 corruptions}"
    assert "under {corruption}" in row
    assert "10 B to 2.0 kB" in row
    assert "1 of 2" in row


@pytest.mark.parametrize("args", [["--all"], ["fog"], ["CIFAR10_C", "under"]])
def test_all_rows_are_shown_when_asked_for(capsys, args):
    assert main(["datasets", *args]) == 0
    assert "cifar10_c_fog " in capsys.readouterr().out


def test_protocols_are_listed(capsys):
    assert main(["protocols"]) == 0
    out = capsys.readouterr().out
    for name, protocol in PROTOCOLS.items():
        row = next(line for line in out.splitlines() if line.startswith(f" {name} "))
        assert protocol.fingerprint in row
    assert "16 images a class, 5 draws" in out
    assert "all of train of the clean dataset" in out
    assert "  +bf16  parameters and activations in bfloat16\n" in out
    assert main(["protocols", "paper", "--json"]) == 0
    (paper,) = json.loads(capsys.readouterr().out)
    assert paper == json.loads(json.dumps({"fingerprint": PAPER.fingerprint, **asdict(PAPER)}))
    assert main(["protocols", "papre@1"]) == 1
    assert "no protocol has 'papre@1' in its row. Did you mean paper@1?" in capsys.readouterr().err


def test_every_word_must_be_somewhere(capsys):
    assert main(["datasets", "oxford", "MEAN_PER_CLASS", "cats"]) == 0
    assert lines(capsys.readouterr().out)[2][0] == "oxford_pet"
    assert main(["datasets", "oxford_pets", "kodak"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "probebench: no dataset has 'oxford_pets' and 'kodak' in its row. Did you mean oxford_pet?\n"


def test_lists_for_programs(catalog, root, capsys):
    assert main(["datasets", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows.keys() == catalog.datasets.keys()
    assert rows["digits"]["here"]
    assert not rows["photos"]["here"]
    assert [url.rpartition("/")[2] for url in rows["photos"]["missing"]] == ["shared.tar.gz", "labels.mat"]
    assert rows["photos"]["suites"] == ["both"]
    assert main(["models", "x16", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["parameters"], row["here"], row["path"]) == (5_500_000, False, None)
    assert main(["models", "nothing", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == []


class Out(io.StringIO):
    def __init__(self, encoding, terminal):
        super().__init__()
        self._encoding, self._terminal = encoding, terminal

    @property
    def encoding(self):
        return self._encoding

    def isatty(self):
        return self._terminal


def test_tables_fit_the_terminal_and_its_encoding(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    rows = dataset_rows(Catalog.default(), Path("/data"), grouped=True)
    plain = Out("ascii", terminal=False)
    write_table(rows, plain)
    assert plain.getvalue().isascii()
    assert "\x1b" not in plain.getvalue()
    assert max(map(len, plain.getvalue().splitlines())) > 150
    for width in (80, 100, 150):
        monkeypatch.setenv("COLUMNS", str(width))
        terminal = Out("utf-8", terminal=True)
        write_table(rows, terminal)
        text = re.sub(r"\x1b\[[0-9;]*m", "", terminal.getvalue())
        assert "─" in text
        assert max(map(len, text.splitlines())) <= width
        assert text.split()[0] == "name"
        assert {"size", "licence", "here"} < set(text.splitlines()[0].split())
        assert ("not shown for want of width: suites" in text) == (width < 150)


def test_lists_import_no_torch():
    code = (
        "import sys; from probebench.cli.main import main; main(['datasets']); main(['models']);"
        "main(['fetch', 'paper', 'glyphvit', '--dry-run']);"
        "print([name for name in ('torch', 'timm', 'sklearn', 'scipy') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


# Fetching


def test_a_bar_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Out("utf-8", terminal=True)
    with transfers(out) as progress:
        progress.start("a.tar", 0)
        progress.advance(10)
        progress.start("b.tar", 4000)
        progress.advance(1000)
    assert "b.tar" in out.getvalue()
    assert "1.0/4.0 kB" in out.getvalue()


def test_a_suite_is_fetched_and_shared_archives_once(catalog, server, root, capsys):
    assert main(["fetch", "both", "photos", "digits"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "on this machine: digits",
        f"shared.tar.gz: {len(KINDS['a.tar.gz'])} B, for photos and drawings",
        "labels.mat: 6 B, for photos",
        f"own.tar.gz: {len(server.files['own.tar.gz'])} B, for drawings",
        f"3 to download: {sum(map(len, server.files.values()))} B; datasets to {root}",
        "on this machine: photos, drawings, digits",
    ]
    assert "shared.tar.gz, " in err
    assert "unpack shared.tar.gz" in err
    assert (root / "set" / "top" / "a.txt").exists()
    assert sorted(path for path, _ in server.requests) == ["/labels.mat", "/own.tar.gz", "/shared.tar.gz"]
    assert main(["fetch", "both"]) == 0
    assert capsys.readouterr().out == "on this machine: photos, drawings\n"
    assert len(server.requests) == 3


def test_a_dry_run_only_says_what_it_would_do(catalog, server, root, capsys):
    assert main(["fetch", "both", "vit_x16", "--dry-run"]) == 0
    assert "weights of vit_x16: 22 MB, for vit_x16" in capsys.readouterr().out
    assert server.requests == []
    assert not root.exists()


def test_the_others_are_fetched_when_one_fails(catalog, server, root, capsys):
    server.files["shared.tar.gz"] = b"x" * len(KINDS["a.tar.gz"])
    assert main(["fetch", "photos", "secret", "drawings"]) == 1
    out, err = capsys.readouterr()
    assert "probebench: shared.tar.gz, for photos and drawings, was not fetched: http://127.0.0.1:" in err
    assert "the file is deleted" in err
    assert "probebench: secret.tar, for secret, was not fetched: " in err
    assert "cannot be fetched by a program: needs an account. Get it by hand" in err
    assert (root / "set" / "own" / "1").exists()
    assert "on this machine" not in out
    server.files["shared.tar.gz"] = KINDS["a.tar.gz"]
    assert main(["fetch", "photos", "secret", "drawings"]) == 1
    assert capsys.readouterr().out.endswith("on this machine: photos, drawings\n")


def test_what_only_a_person_can_get_is_not_counted(catalog, root, capsys):
    assert main(["fetch", "drawings", "secret", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "secret.tar: size unknown, for secret; by hand: needs an account\n" in out
    assert "2 to download: " in out
    assert "unknown size;" not in out
    root.mkdir()
    (root / "secret.tar").write_bytes(tar_of({"secret/1": b"1"}))
    assert main(["fetch", "secret"]) == 0
    out = capsys.readouterr().out
    assert out == "secret.tar: size unknown, for secret; is here, to be unpacked\non this machine: secret\n"
    assert (root / "secret" / "1").exists()


def test_an_archive_that_several_datasets_use_parts_of_is_fetched_once(server, root, monkeypatch, capsys):
    url = server.add("a.tar.gz", KINDS["a.tar.gz"])
    specs = [
        DatasetSpec(f"d_{part}", "m:f", archives=(Archive(url, size=len(KINDS["a.tar.gz"]), makes=makes),))
        for part, makes in [("text", "top/a.txt"), ("deep", "top/deep"), ("readme", "readme")]
    ]
    made = Catalog.default().extend(datasets=specs)
    monkeypatch.setattr(Catalog, "default", classmethod(lambda cls, **kwargs: made))
    assert main(["fetch", "d_text", "d_deep", "d_readme"]) == 0
    assert "for d_text and 2 more" in capsys.readouterr().out
    assert len(server.requests) == 1


def test_another_root_and_archives_that_are_kept(catalog, root, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["fetch", "drawings", "--root", str(other), "--keep-archives"]) == 0
    assert (other / "set" / "own.tar.gz").exists()
    assert (other / "set" / "own" / "1").exists()
    assert f"readers look in {root}; PROBEBENCH_DATA={other} makes them look there" in capsys.readouterr().out


def test_a_host_that_cannot_be_reached_is_tried_once(catalog, monkeypatch, capsys):
    tried = []

    def unreachable(url, *args, **kwargs):
        tried.append(url)
        raise Unreachable(f"{url} cannot be reached")

    monkeypatch.setattr("probebench.fetch.datasets.transfer", unreachable)
    assert main(["fetch", "both"]) == 1
    assert len(tried) == 1
    assert (
        "labels.mat, for photos, was not fetched: not tried, for 127.0.0.1 cannot be reached" in capsys.readouterr().err
    )


def test_offline(catalog, server, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["fetch", "both"]) == 1
    assert capsys.readouterr().err.count("the network is not to be used") == 3
    assert server.requests == []


def test_weights_are_fetched(catalog, monkeypatch, capsys):
    fetched = []

    def download(spec, progress=None):
        progress.start(spec.name, 10)
        progress.advance(10)
        fetched.append(spec.name)

    monkeypatch.setattr(hub, "download", download)
    assert main(["fetch", "vit_x16", "glyphvit", "vit_x16_random"]) == 0
    assert fetched == ["vit_x16"]
    out, err = capsys.readouterr()
    assert out.startswith("on this machine: glyphvit, vit_x16_random\n")
    assert err == "vit_x16, 10 B\n  10 B of 10 B\n"
    monkeypatch.setattr(hub, "cached", lambda spec: Path("/hub/model.safetensors"))
    assert main(["fetch", "vit_x16"]) == 0
    assert fetched == ["vit_x16"]


def test_weights_that_cannot_be_fetched(catalog, monkeypatch, capsys):
    def download(spec, progress=None):
        raise FetchError("HTTP 401")

    monkeypatch.setattr(hub, "download", download)
    assert main(["fetch", "vit_x16", "photos"]) == 1
    out, err = capsys.readouterr()
    assert err.endswith("probebench: weights of vit_x16, for vit_x16, was not fetched: HTTP 401\n")
    assert out.endswith("on this machine: photos\n")


def test_severities_are_names(catalog, capsys):
    assert main(["fetch", "cifar10_c_fog_s3", "--dry-run"]) == 0
    assert "CIFAR-10-C.tar: 2.9 GB, for cifar10_c_fog_s3" in capsys.readouterr().out


def test_unknown_names_of_timm_get_the_nearest_of_timms(capsys):
    assert main(["fetch", "timm:vit_tiny_patch16_242"]) == 2
    assert "Did you mean 'vit_tiny_patch16_224'" in capsys.readouterr().err


def test_unknown_names_are_refused_before_any_work(catalog, server, capsys):
    assert main(["fetch", "photos", "drawing"]) == 2
    assert "unknown model, dataset or suite 'drawing'. Did you mean 'drawings'?" in capsys.readouterr().err
    assert server.requests == []


@pytest.mark.parametrize("args", [[], ["fetch"], ["fetch", "cifar10", "--roof=x"], ["nothing"]])
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code == 2
    assert "usage: probebench" in capsys.readouterr().err


SLOW = """
import sys
from probebench.catalog import Archive, Catalog, DatasetSpec
from probebench.cli.main import main
url, md5, size = sys.argv[1:]
spec = DatasetSpec("d", "m:f", archives=(Archive(url, md5, int(size), makes="top"),))
made = Catalog.default().extend(datasets=[spec])
Catalog.default = classmethod(lambda cls, **kwargs: made)
sys.exit(main(["fetch", "d"]))
"""


def test_ctrl_c_leaves_what_the_same_command_continues(server, root):
    content = tar_of({"top/1": bytes(range(256)) * 4000})
    md5 = hashlib.md5(content).hexdigest()
    command = [sys.executable, "-c", SLOW, server.add("a.tar", content), md5, str(len(content))]
    server.answers = [Answer(cut=500_000, stall=60)]
    # A shell's background jobs, and so what they start, ignore SIGINT unless they are told otherwise.
    heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heed)
    part, deadline = root / ".downloads" / "a.tar.part", time.monotonic() + 60
    while time.monotonic() < deadline and not (part.exists() and part.stat().st_size > 100_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.endswith("interrupted; what has arrived is kept, and the same command goes on from there\n")
    assert "Traceback" not in err
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert (root / "top" / "1").stat().st_size == 256 * 4000
    assert server.ranges[1].startswith("bytes=")


# The command itself


def test_version_and_help(capsys):
    for option, text in [("--version", f"probebench {__version__}\n"), ("--help", "probebench fetch paper --dry-run")]:
        with pytest.raises(SystemExit) as caught:
            main([option])
        assert caught.value.code == 0
        assert text in capsys.readouterr().out


def test_the_package_runs_as_a_command_and_survives_a_closed_pipe():
    pipe = subprocess.Popen(
        f"{sys.executable} -m probebench datasets --all | head -n 1", shell=True, stdout=subprocess.PIPE, stderr=-1
    )
    out, err = pipe.communicate()
    assert out.strip().startswith(b"name")
    assert err == b""


def test_the_script_is_declared():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"probebench": "probebench.cli:main"}
