"""The embedded datasets and what the embedded model knows of them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from probebench import Tap, datasets, run_sweep
from probebench.catalog import Catalog
from probebench.datasets import embedded

CATALOG = Catalog.default()

# The digests that the committed baselines are tied to, as train and test.
DIGESTS = {
    "glyphs": ("ca34777fd937bbe6", "f9adad27da5574ee"),
    "glyphs_49": ("4ba558d9c0cdc267", "ef02c46383ac0724"),
    "digits": ("9ac922ac3e01316e", "50c615910728e5a2"),
    "digits_contrast": ("7d7729bc116bf7cf", "d5c3c939d3281fb0"),
    "digits_gaussian_noise": ("f6c9c2daad120a79", "b5ea757153b7ae7b"),
    "digits_speckle_noise": ("2d77b10808b56f0f", "765a504e6bf52d8f"),
    "digits_motion_blur": ("644105b463c97e22", "f06a62200316038b"),
    "digits_snow": ("06343a9bbf1a2be8", "5eaf6342a63010bb"),
    "digits_sketch": ("6843e2ac29d20400", "04b859f6fb4120ce"),
    "digits_inverted": ("ca7030051e91b875", "8b6b9b92cec23b89"),
}


PRETRAINING = ("b8242e6d11580376", "90843b9071aaf009")


def test_the_sample_of_pretraining_is_grey_letters_of_every_class_and_no_evaluation_image():
    data = datasets.load(CATALOG.dataset("glyphs_pretraining"))
    assert (data.train.digest, data.test.digest) == PRETRAINING
    assert data.train.images.shape[1:] == (32, 32)
    assert np.bincount(data.test.labels).tolist() == [8] * 97
    seen = {image.tobytes() for image in data.test.images}
    assert not any(image.tobytes() in seen for image in datasets.load(CATALOG.dataset("glyphs")).test.images)


# Labels that are no single class; with the number of training and test images.
TASKS = {
    "letters_grid": ("34f61898b5776cea", "84dfeba56e20f34a", 600, 400),
    "letters_angle": ("990757f0f1c3dde5", "369b9b17aa23b37a", 776, 388),
}


@pytest.mark.parametrize("name", TASKS)
def test_letters_with_labels_that_are_no_single_class(name):
    data = datasets.load(CATALOG.dataset(name))
    found = (data.train.digest, data.test.digest, len(data.train), len(data.test))
    assert found == TASKS[name]
    assert name not in CATALOG.dataset_names("embedded")
    if data.task == "multilabel":
        assert data.train.labels.sum(axis=1).max() > 2
        assert min(split.labels.sum(axis=0).min() for split in (data.train, data.test)) > 30
    else:
        assert np.ptp(data.test.labels) == pytest.approx(120, abs=3)
        assert np.array_equal(np.unique(data.train.groups), np.arange(388))


@pytest.fixture(scope="module", params=DIGESTS)
def dataset(request):
    return datasets.load(CATALOG.dataset(request.param))


def test_pixels_are_the_ones_that_baselines_are_tied_to(dataset):
    assert (dataset.train.digest, dataset.test.digest) == DIGESTS[dataset.name]


def test_splits_are_official_sizes_and_hold_every_class(dataset):
    sizes = {"glyphs": (1552, 1940), "glyphs_49": (784, 980)}.get(dataset.name, (1796, 899))
    assert (len(dataset.train), len(dataset.test)) == sizes
    for split in (dataset.train, dataset.test):
        assert split.images.shape[1:] == (32, 32)
        assert np.bincount(split.labels, minlength=len(dataset.classes)).min() > 0


def test_train_and_test_share_no_image(dataset):
    train = {image.tobytes() for image in dataset.train.images}
    assert not any(image.tobytes() in train for image in dataset.test.images)


def test_views_of_one_source_share_its_group_and_its_label(dataset):
    train = dataset.train
    sources = {"glyphs": 97 * 4, "glyphs_49": 49 * 4}.get(dataset.name, 898)
    assert np.array_equal(np.unique(train.groups), np.arange(sources))
    for group in range(0, sources, 50):
        assert len(np.unique(train.labels[train.groups == group])) == 1


def test_each_corruption_changes_the_digits_and_keeps_their_labels():
    clean = datasets.load(CATALOG.dataset("digits"))
    for name in embedded.CORRUPTIONS:
        corrupted = datasets.load(CATALOG.dataset(f"digits_{name}"))
        assert np.array_equal(corrupted.test.labels, clean.test.labels)
        difference = np.abs(corrupted.test.images.astype(int) - clean.test.images.astype(int)).mean()
        assert difference > 5, name


def test_the_sheet_of_held_out_glyphs_is_what_its_script_draws():
    sys.path.insert(0, str(Path(__file__).parent.parent / "tools"))
    try:
        glyphs = pytest.importorskip("glyphs", reason="needs the extra [tools]", exc_type=ImportError)
    finally:
        sys.path.pop(0)
    assert glyphs.CLASSES == embedded.GLYPH_CLASSES
    assert glyphs.SIZE == embedded.GLYPH_CELL
    assert not set(glyphs.HELD_OUT_FONTS) & set(glyphs.TRAIN_FONTS)
    assert not set(glyphs.CLASSES) & set("0123456789")


def test_pretraining_shows_far_above_the_random_control():
    taps = [Tap("final", "final"), Tap(12, "rc2")]
    pretrained = run_sweep("glyphvit", "digits", taps=taps, jobs=1)
    control = run_sweep("glyphvit_random", "digits", taps=taps, jobs=1)
    for tap in taps:
        assert pretrained.taps[tap].ci95[0] > control.taps[tap].ci95[1] + 0.2
