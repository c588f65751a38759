"""Which tap is recommended, and what is said about it."""

from __future__ import annotations

import builtins
import io
import re
from importlib.resources import files
from math import comb

import numpy as np
import pytest
from rich.console import Console
from safetensors.torch import load_file, save_file

from probebench import Tap, all_taps, recommend, run_sweep
from probebench.catalog import Catalog, DatasetSpec, ModelSpec
from probebench.datasets import load
from probebench.errors import DataError, ProbebenchError, UnknownName
from probebench.recommendation.images import find_images
from probebench.recommendation.screening import MEASURED
from tests.recommendation.conftest import CLASSES, write_digits
from tests.tiny import tiny_model


@pytest.fixture(scope="module")
def sweep(folder):
    spec = DatasetSpec("my_digits", "probebench.datasets.folder:image_folder", {"root": str(folder)})
    return run_sweep("glyphvit", spec, device="cpu", jobs=1)


def test_the_answer_is_that_of_the_full_sweep(found, sweep):
    best = min(sweep.taps.values(), key=lambda one: (-one.held_out_accuracy, one.tap))
    output = sweep.taps[Tap("output", "output")]
    assert found.tap == best.tap
    assert found.validation == best.held_out_accuracy
    assert found.test == best.metrics.accuracy
    assert found.gain == pytest.approx(best.accuracy - output.accuracy)
    assert [row.tap for row in found.table] == [tap.id for tap in all_taps(12)]
    assert [row.test for row in found.table] == [one.accuracy for one in sweep.taps.values()]
    assert (found.n_train, found.n_validation, found.n_test) == (90, 18, 90)
    assert found.classes == tuple(sorted(CLASSES))
    assert found.note == ""
    assert found.budget is None


def two_sided(lost: int, gained: int) -> float:
    n, more = lost + gained, max(lost, gained)
    return min(1.0, 2 * sum(comb(n, k) for k in range(more, n + 1)) / 2**n)


def test_ties_are_those_of_pairwise_tests_with_holms_procedure(found, sweep):
    chosen = sweep.taps[found.tap].correct
    p = {
        tap: two_sided(int((chosen & ~one.correct).sum()), int((~chosen & one.correct).sum()))
        for tap, one in sweep.taps.items()
        if tap != found.tap
    }
    different = set()
    for rank, tap in enumerate(sorted(p, key=p.__getitem__)):
        if p[tap] > found.level / (len(p) - rank):
            break
        different.add(tap)
    assert different, "the folder is too easy to test anything"
    assert set(found.tied) == set(p) - different
    assert found.gain_p == pytest.approx(p.get(Tap("output", "output"), 1.0))
    assert {row.tap for row in found.table if row.tied} == {found.tap.id} | {tap.id for tap in found.tied}
    # The least number of images that could tell one tap apart, before Holm's procedure relaxes.
    assert two_sided(found.smallest, 0) <= found.level / len(p) < two_sided(found.smallest - 1, 0)


def test_cheaper_taps_are_tied_and_in_earlier_layers(found):
    at = {row.tap: row for row in found.table}
    savings = [row.saved_compute for row in found.cheaper]
    assert savings == sorted(set(savings), reverse=True)
    for row in found.cheaper:
        assert row.tied
        assert row.saved_compute > found.saved_compute == at[found.tap.id].saved_compute
        as_cheap = [r for r in found.table if r.saved_compute >= row.saved_compute and r.tied]
        assert row.validation == max(r.validation for r in as_cheap)
    assert found.cheaper, "nothing was tested"


def test_a_folder_without_a_test_split_is_split_and_the_answer_says_so(tmp_path):
    for where, given in ((tmp_path / "bare", tmp_path / "bare"), (tmp_path / "half" / "train", tmp_path / "half")):
        write_digits(where, each=10)
        found = recommend("glyphvit", str(given), device="cpu", jobs=1, budget=1)
        assert (found.n_train, found.n_test) == (24, 6)
        assert f"{where} has no test split: 20% of the images of each class" in found.note
        assert any(found.note in line for line in found.lines())


def test_a_table_is_data_too_and_what_was_guessed_is_said(tmp_path):
    write_digits(tmp_path / "images", each=10)
    names = sorted(path.relative_to(tmp_path / "images") for path in (tmp_path / "images").rglob("*.png"))
    rows = [f"{path.with_suffix('')},{path.parent.name}" for path in names]
    (tmp_path / "labels.csv").write_text("\n".join(["id,species", *rows]))
    for data in (tmp_path, tmp_path / "labels.csv"):
        images = find_images(data, Catalog.default())
        assert images.spec.name == re.sub(r"\W", "_", data.name)
    found = recommend("glyphvit", tmp_path / "labels.csv", device="cpu", jobs=1, budget=1)
    assert (found.n_train, found.n_test, found.classes) == (24, 6, tuple(sorted(CLASSES)))
    assert "images are in column 'id' and labels are in column 'species', guessed from the header" in found.note
    assert "labels.csv has no test split: 20% of the images of each class" in found.note
    assert f"the images of labels.csv are in {tmp_path / 'images'}" in found.note


def test_how_a_network_was_found_in_its_file_is_in_the_answer(tmp_path):
    state = load_file(str(files("probebench.embedded") / "glyphvit.safetensors"))
    save_file({f"net.{name}": tensor for name, tensor in state.items()}, tmp_path / "w.safetensors")
    write_digits(tmp_path / "own", each=10)
    found = recommend("glyphvit", tmp_path / "own", weights=tmp_path / "w.safetensors", device="cpu", jobs=1, budget=1)
    assert "into train/ and test/; weights of glyphvit: names in their file have the prefix 'net.'" in found.note


def test_photographs_are_turned_in_a_folder_that_is_split(tmp_path):
    from tests.datasets.test_folder import sideways

    for name in ("round", "square"):
        (tmp_path / name).mkdir()
        for i in range(3):
            sideways(tmp_path / name / f"{i}.jpg")
    data = load(find_images(tmp_path, Catalog.default()).spec)
    assert {image.shape for split in (data.train, data.test) for image in split.images} == {(20, 16, 3)}


def test_a_budget_probes_the_best_of_a_screening_and_final_and_output(folder, found, monkeypatch):
    asked = []
    original = recommend.__globals__["probe"]

    def watched(prepared, plan, features, taps, progress):
        asked.append(taps)
        return original(prepared, plan, features, taps, progress)

    monkeypatch.setitem(recommend.__globals__, "probe", watched)
    few = recommend("glyphvit", folder, budget=3, device="cpu", jobs=1)
    assert asked == [[Tap.parse(row.tap) for row in few.table]]
    assert 3 <= len(few.table) <= 5  # final and output may be among the three
    assert [row.tap for row in few.table[-2:]] == ["final", "output"]
    assert few.budget == 3
    assert few.taps == 99
    full = {row.tap: row for row in found.table}
    assert [row.test for row in few.table] == [full[row.tap].test for row in few.table]
    assert few.validation == max(row.validation for row in few.table)
    (line,) = [line for line in few.lines() if line.startswith("budget")]
    assert "a ridge probe screened 99 taps" in line
    assert f"in {MEASURED[3].same} of {MEASURED[3].runs} measured runs" in line


def test_a_budget_of_all_taps_screens_nothing():
    tiny = tiny_model(32, depth=1, patch_size=16, embed_dim=8)
    found = recommend(tiny, DatasetSpec("d", "tests.recommendation.test_recommend:noise"), budget=11, jobs=1)
    assert found.budget is None
    assert len(found.table) == 11
    assert found.export.about["network"]["weights"] == "random"


def noise():
    from probebench.datasets import Split

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 32, 32), dtype=np.uint8)
    labels = np.arange(40, dtype=np.int64) % 2
    return ["a", "b"], Split(images[:20], labels[:20]), Split(images[20:], labels[20:])


def test_names_of_the_catalog_are_data_too(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert find_images("digits", Catalog.default()).spec == Catalog.default().dataset("digits")
    write_digits(tmp_path / "digits", each=3)
    assert find_images("digits", Catalog.default()).spec.kwargs == {"root": str(tmp_path / "digits")}


# What is shown


def test_the_lines_say_it(found):
    text = str(found)
    assert found.tap.id in text
    assert f"{100 * found.test.value:.1f}%, 95% interval {100 * found.test.ci95[0]:.1f}" in text
    assert f"{100 * found.gain:+.1f} points over output, what the network itself returns (p = " in text
    assert f"{len(found.tied)} of 98 other taps are tied with it on the test images" in text
    assert f"n = {found.n_test}" in text
    assert "note" not in text
    assert len(repr(found)) < 6000  # a notebook may print it
    assert len(text.splitlines()) <= 8


def test_rich_and_notebooks_show_it(found):
    out = io.StringIO()
    Console(file=out, width=160).print(found)
    assert "95% interval" in out.getvalue()
    assert all(name in out.getvalue() for name in ("final", "output", "vs output"))
    page = found._repr_html_()
    assert page.count("<table>") == page.count("</table>") == 2
    assert f"<td>{found.tap.id}</td>" in page
    assert "McNemar&#x27;s" in page


def test_a_dataframe_has_every_tap(found):
    frame = found.to_dataframe()
    assert list(frame.index) == [row.tap for row in found.table]
    assert frame.loc[found.tap.id, "test"] == found.test.value
    assert frame["tied"].sum() == 1 + len(found.tied)


def test_a_dataframe_without_pandas_is_a_clear_error(found, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ProbebenchError, match=r"needs pandas: pip install 'probebench\[notebook\]'"):
        found.to_dataframe()


# Bad input


@pytest.mark.parametrize(
    ("model", "data", "error", "match"),
    [
        ("glyphvitt", "digits", UnknownName, "unknown model 'glyphvitt'. Did you mean 'glyphvit'"),
        (
            "glyphvit",
            "digit",
            UnknownName,
            "unknown path or dataset 'digit'. Did you mean 'digits'.*`probebench datasets` lists",
        ),
        ("glyphvit", "a" * 300, UnknownName, "unknown path or dataset 'aaa"),
        ("glyphvit", "no/such", DataError, "no/such does not exist; pass a folder or a file"),
    ],
)
def test_names_that_there_are_not(model, data, error, match):
    with pytest.raises(error, match=match):
        recommend(model, data)


def test_the_network_reads_images_of_another_size(folder, found, tmp_path, run_here):
    smaller = recommend("glyphvit", folder, size=16, budget=1, device="cpu", jobs=1)
    assert (found.export.about["preprocessing"]["size"], smaller.export.about["preprocessing"]["size"]) == (32, 16)
    _, script = smaller.save(tmp_path)
    assert load_file(tmp_path / "network.safetensors")["pos_embed"].shape == (1, 1 + 4, 64)
    images = sorted((folder / "test").glob("*/*.png"))
    ran = run_here(script, *images)
    assert ran.returncode == 0, ran.stderr
    right = sum(path.parent.name in line.split() for path, line in zip(images, ran.stdout.splitlines(), strict=True))
    assert right / len(images) == pytest.approx(smaller.test.value)


@pytest.mark.parametrize(
    ("model", "size", "match"),
    [
        ("glyphvit", 30, "30 pixels are no multiple of its patches of 8; use 24 or 32"),
        ("glyphvit", 3, "3 pixels are no multiple of its patches of 8; use 8$"),
        ("hf:facebook/dinov2-small", 98, "only networks of timm can be read at another size, and this one is of hf"),
    ],
)
def test_sizes_that_a_network_cannot_read(model, size, match):
    spec = ModelSpec("net", model, depth=12, input_size=28, mean=(0,) * 3, std=(1,) * 3) if ":" in model else model
    with pytest.raises(ProbebenchError, match=match):
        recommend(spec, "digits", size=size)


def test_folders_that_cannot_be_probed(tmp_path):
    one = tmp_path / "one"
    write_digits(one, each=4)
    (one / "one").rename(tmp_path / "moved")
    (one / "two").rename(tmp_path / "moved too")
    with pytest.raises(DataError, match="has only one class, zero; a classifier needs"):
        recommend("glyphvit", one)
    few = write_digits(tmp_path / "few", each=2)
    with pytest.raises(DataError, match=r"class folder .*few/one has 2 images; at least 3 are needed"):
        recommend("glyphvit", few)
    split = tmp_path / "split"
    write_digits(split / "train", each=1)
    write_digits(split / "test", each=1, part="test")
    with pytest.raises(DataError, match="too few training images in class one, two, zero: at least 2"):
        recommend("glyphvit", split)
    (split / "test").rename(split / "valid")
    (split / "train").rename(split / "Train")  # names of splits, too
    with pytest.raises(DataError, match="too few training images in class one, two, zero: at least 2"):
        recommend("glyphvit", split)
    (split / "Train").rename(split / "test")
    with pytest.raises(DataError, match="have names of splits, not of classes: test, valid; name them train and"):
        recommend("glyphvit", split)
    (split / "labels.csv").write_text("colour\nred\n")
    with pytest.raises(DataError, match=r"labels\.csv has no column that is named like images are; it has col"):
        recommend("glyphvit", split)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="has no class folders"):
        recommend("glyphvit", tmp_path / "empty")
    with pytest.raises(DataError, match="is a file"):
        recommend("glyphvit", next(few.rglob("*.png")))
    with pytest.raises(ProbebenchError, match="a budget must be at least 1"):
        recommend("glyphvit", few, budget=0)


def test_an_image_that_cannot_be_read_is_named(tmp_path):
    root = write_digits(tmp_path / "own", each=5)
    bad = sorted((root / "two").iterdir())[3]
    bad.write_bytes(b"not an image")
    with pytest.raises(DataError, match=f"{bad} cannot be decoded"):
        recommend("glyphvit", root)


def test_test_images_that_are_training_images_are_in_the_first_lines(tmp_path):
    root = tmp_path / "own"
    write_digits(root / "train", each=6)
    write_digits(root / "test", each=2, part="test")
    copied = sorted((root / "train" / "two").iterdir())[0]
    (root / "test" / "two" / "copy.png").write_bytes(copied.read_bytes())
    (root / "train" / "two" / "notes.txt").write_text("two")
    lines = recommend("glyphvit", root, device="cpu", jobs=1, budget=1).lines()
    assert lines[1] == "note      images of own: left out 1 other file (train/two/notes.txt)"
    assert lines[2].startswith(
        "warning   images of own: 1 of 7 test images is also among the training images (train/two/"
    )
