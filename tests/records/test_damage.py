from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import numpy as np
import pytest

from probebench.catalog.cases import Sweep
from probebench.catalog.taps import Tap
from probebench.errors import StoreError
from probebench.records import baselines, run_record
from probebench.records.baselines import Baseline

SWEEP = Sweep("net", "digits", "default@2")
TAP = Tap("final", "final")


def write(folder, count):
    correct = np.arange(100) < count
    baselines.write(folder, Baseline(SWEEP, "f" * 16, "t" * 16, 100, "w" * 16, {TAP: correct}))
    return baselines.paths(folder, SWEEP)


def refusal(folder):
    with pytest.raises(StoreError) as caught:
        baselines.read(folder, SWEEP)
    assert "--probe-update" not in str(caught.value)  # it would accept whatever is measured
    assert "Error" not in str(caught.value)
    return str(caught.value)


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
@pytest.mark.parametrize("style", ["merge", "diff3"])
def test_a_conflict_of_a_real_merge_is_named_and_resolved_as_advised(tmp_path, monkeypatch, style):
    monkeypatch.chdir(tmp_path)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "someone")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "someone@example.org")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def git(*args, fails=False):
        done = subprocess.run(["git", "-c", f"merge.conflictStyle={style}", *args], capture_output=True, text=True)
        assert (done.returncode != 0) is fails, done.stderr

    def commit(count):
        path, _ = write(tmp_path / "baselines", count)
        git("add", ".")
        git("commit", "-m", str(count))
        return path

    git("init", "-b", "main")
    commit(70)
    git("switch", "-c", "theirs")
    commit(71)
    git("switch", "main")
    path = commit(72)
    git("merge", "theirs", fails=True)
    text = refusal(tmp_path / "baselines")
    line = next(i for i, line in enumerate(path.read_text().splitlines(), 1) if line.startswith("<<<<<<<"))
    assert f"has the conflict markers of a git merge (line {line})" in text
    command = text[text.index("git checkout --ours") :].removesuffix(" (or --theirs)")
    subprocess.run(command.replace("--ours", "--theirs"), shell=True, check=True)
    assert baselines.read(tmp_path / "baselines", SWEEP).accuracy(TAP) == 0.71


@pytest.mark.parametrize("side", [False, True], ids=["json", "safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "what Git LFS leaves *Run git lfs pull"),
        (b"/annex/objects/SHA256E-s9--00.json\n", "what git-annex leaves *Run git annex get *net-digits.json *"),
        (b"\0GITCRYPT\0rest", "Run git-crypt unlock"),
        (b"", "is empty, *Restore both files *git checkout -- *net-digits.json *net-digits.safetensors"),
        (b"\0" * 512, "is blank, as after a crash*"),
    ],
)
def test_what_stands_for_a_file_is_named_with_what_gets_the_file(tmp_path, side, content, message):
    path = write(tmp_path, 70)[side]
    path.write_bytes(content)
    text = refusal(tmp_path)
    assert text.startswith(f"baseline {path} ")
    for part in message.split("*"):
        assert part in text


def test_line_ends_that_git_has_changed_are_named(tmp_path):
    path, side = write(tmp_path, 70)
    written = side.read_bytes() + b"\n"  # of the bits, some look like line ends
    before, after = (hashlib.sha256(each).hexdigest() for each in (side.read_bytes(), written))
    path.write_text(path.read_text().replace(before, after))
    side.write_bytes(written.replace(b"\n", b"\r\n"))
    assert "has other line ends than it was written with" in refusal(tmp_path)


def test_a_record_with_conflict_markers_is_named_too(tmp_path):
    (tmp_path / "run.json").write_text("{\n<<<<<<< HEAD\n=======\n>>>>>>> theirs\n}\n")
    with pytest.raises(StoreError, match=r"run.json has the conflict markers of a git merge \(line 2\)"):
        run_record.load(tmp_path / "run.json")


def test_a_mark_and_line_ends_that_an_editor_adds_are_read_over(tmp_path):
    path, _ = write(tmp_path, 70)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert baselines.read(tmp_path, SWEEP).accuracy(TAP) == 0.7


def test_text_in_another_encoding_is_named(tmp_path):
    path, _ = write(tmp_path, 70)
    path.write_bytes(path.read_text().encode("utf-16"))
    assert "is in UTF-16" in refusal(tmp_path)


def test_a_merge_that_kept_both_sides_is_named(tmp_path):
    path, _ = write(tmp_path, 70)
    line = next(each for each in path.read_text().splitlines(True) if "n_test" in each)
    path.write_text(path.read_text().replace(line, line + line))
    assert "it has 'n_test' twice, as after a merge that kept both sides" in refusal(tmp_path)


def test_a_file_that_was_cut_is_restored(tmp_path):
    path, _ = write(tmp_path, 70)
    path.write_bytes(path.read_bytes()[:100])
    assert "cannot be read as JSON (" in refusal(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_no_reason_to_restore(tmp_path):
    path, _ = write(tmp_path, 70)
    path.unlink()
    path.mkdir()
    assert refusal(tmp_path) == f"baseline {path} cannot be read: Is a directory"
