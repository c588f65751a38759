"""`probebench models`, `datasets` and `protocols`."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from probebench.catalog import Archive, Catalog, DatasetSpec
from probebench.catalog.protocols import PAPER, PROTOCOLS
from probebench.cli.main import main
from probebench.fetch import hub
from tests.fetch.helpers import KINDS


def lines(text: str) -> list[list[str]]:
    """The cells of a table."""
    return [line.split() for line in text.splitlines()]


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
    assert "no protocol contains 'papre@1'. Did you mean paper@1?" in capsys.readouterr().err


def test_every_word_must_be_somewhere(capsys):
    assert main(["datasets", "oxford", "MEAN_PER_CLASS", "cats"]) == 0
    assert lines(capsys.readouterr().out)[2][0] == "oxford_pet"
    assert main(["datasets", "oxford_pets", "kodak"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "probebench: no dataset contains 'oxford_pets' and 'kodak'. Did you mean oxford_pet?\n"


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


def test_lists_import_no_torch():
    code = (
        "import sys; from probebench.cli.main import main; main(['datasets']); main(['models']);"
        "main(['fetch', 'paper', 'glyphvit', '--dry-run']);"
        "print([name for name in ('torch', 'timm', 'sklearn', 'scipy') if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"
