"""`probebench fetch`."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from probebench.catalog import Archive, Catalog, DatasetSpec
from probebench.cli.main import main
from probebench.errors import FetchError
from probebench.fetch import Unreachable, hub
from probebench.reporting.terminal.progress import transfers
from tests.cli.helpers import Out
from tests.fetch.helpers import KINDS, tar_of
from tests.server import Answer


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
    assert "probebench: could not fetch shared.tar.gz (for photos and drawings): http://127.0.0.1:" in err
    assert "the file was deleted" in err
    assert "probebench: could not fetch secret.tar (for secret): " in err
    assert "cannot be downloaded automatically: needs an account. Download it by hand" in err
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
    assert out == "secret.tar: size unknown, for secret; already here, to be unpacked\non this machine: secret\n"
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
    assert f"datasets are read from {root}; set PROBEBENCH_DATA={other} to read these" in capsys.readouterr().out


def test_a_host_that_cannot_be_reached_is_tried_once(catalog, monkeypatch, capsys):
    tried = []

    def unreachable(url, *args, **kwargs):
        tried.append(url)
        raise Unreachable(f"{url} cannot be reached")

    monkeypatch.setattr("probebench.fetch.datasets.transfer", unreachable)
    assert main(["fetch", "both"]) == 1
    assert len(tried) == 1
    assert (
        "could not fetch labels.mat (for photos): not tried, because 127.0.0.1 cannot be reached"
        in capsys.readouterr().err
    )


def test_offline(catalog, server, monkeypatch, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["fetch", "both"]) == 1
    assert capsys.readouterr().err.count("downloads are disabled") == 3
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
    assert err.endswith("probebench: could not fetch weights of vit_x16 (for vit_x16): HTTP 401\n")
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
    assert err.endswith("interrupted; run the same command again to resume the download\n")
    assert "Traceback" not in err
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert (root / "top" / "1").stat().st_size == 256 * 4000
    assert server.ranges[1].startswith("bytes=")
