"""The kernel distance against its definition, and how far datasets are from the pretraining data."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from probebench import Tap, run_sweep
from probebench.catalog import Catalog, DatasetSpec
from probebench.catalog.protocols import DEFAULT, PAPER
from probebench.datasets import Split, embedded
from probebench.measure.shift import MOST, References, ShiftDistance, Unavailable, draw, kernel_distance

CATALOG = Catalog.default()
FINAL, RC2 = Tap("final", "final"), Tap(2, "rc2")
NAMES = ("glyphs", "digits", "digits_inverted", "digits_snow")
PARTS = {name: replace(CATALOG.dataset(name), reader=f"{__name__}:part", kwargs={"name": name}) for name in NAMES}


def part(name):
    """Some images of an embedded dataset, few of them for training: distances are of test images."""
    spec = CATALOG.dataset(name)
    names, train, test = getattr(embedded, spec.reader.partition(":")[2])(**spec.kwargs)
    return names, Split(train.images[::8], train.labels[::8]), Split(test.images[::3], test.labels[::3])


def normal(n, width=6, move=0.0, rng=None):
    return ((rng or np.random.default_rng(0)).normal(size=(n, width)) + move).astype(np.float32)


def by_definition(x, y):
    """Pair by pair."""
    mean, scale = y.mean(axis=0, dtype=np.float64), y.std(axis=0, dtype=np.float64)
    x, y = ((values - mean) / scale for values in (x, y))

    def k(a, b):
        return (a @ b / len(a) + 1) ** 3

    within = [
        sum(k(z[i], z[j]) for i in range(len(z)) for j in range(len(z)) if i != j) / (len(z) * (len(z) - 1))
        for z in (x, y)
    ]
    return sum(within) - 2 * np.mean([[k(a, b) for b in y] for a in x])


def test_it_is_its_definition():
    rng = np.random.default_rng(0)
    x, y = normal(41, move=0.5, rng=rng), 3 * normal(33, rng=rng) + 7
    assert kernel_distance(x, y)[0] == pytest.approx(by_definition(x, y))


def test_its_error_is_that_of_the_jackknife_over_groups():
    rng = np.random.default_rng(0)
    x, y = normal(50, move=0.5, rng=rng), normal(50, rng=rng)
    y = (y - y.mean(axis=0)) / y.std(axis=0)  # so that leaving some out does not change what it is standardised by
    groups = [np.arange(50)[group::10] for group in range(10)]
    kept = [np.setdiff1d(np.arange(50), group) for group in groups]
    k = [(a @ b.T / 6 + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]
    left_out = []
    for i in kept:
        xx, yy, xy = (each[np.ix_(i, i)] for each in k)
        off = [(each.sum() - np.trace(each)) / (len(i) * (len(i) - 1)) for each in (xx, yy)]
        left_out.append(sum(off) - 2 * xy.mean())
    error = np.sqrt(0.9 * np.square(np.array(left_out) - np.mean(left_out)).sum())
    assert kernel_distance(x, y)[1] == pytest.approx(error, rel=1e-4)


def test_it_is_zero_on_average_for_equal_distributions_and_its_error_is_honest():
    rng = np.random.default_rng(0)
    found = np.array([kernel_distance(normal(60, rng=rng), normal(60, rng=rng)) for _ in range(100)])
    standard = found[:, 0].std()
    assert abs(found[:, 0].mean()) < 4 * standard / np.sqrt(100)
    shifted = np.array([kernel_distance(normal(200, move=0.5, rng=rng), normal(200, rng=rng)) for _ in range(100)])
    assert 0.7 < shifted[:, 1].mean() / shifted[:, 0].std() < 1.3


def test_it_rises_with_the_shift_and_does_not_hang_on_scale():
    reference = normal(300)
    values = [kernel_distance(normal(300, move=move, rng=np.random.default_rng(1)), reference)[0] for move in (0, 1, 2)]
    assert values[0] < 0.1 < values[1] < values[2]
    scaled = kernel_distance(1000 * normal(300, move=1, rng=np.random.default_rng(1)), 1000 * reference)[0]
    assert scaled == pytest.approx(values[1], rel=1e-4)


def test_constant_features_are_no_trouble():
    x, y = normal(40), normal(40, rng=np.random.default_rng(1))
    x[:, 2] = y[:, 2] = 5
    assert np.isfinite(kernel_distance(x, y)).all()


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="needs 20 images on either side, got 19 and 40"):
        kernel_distance(normal(19), normal(40))


def test_of_many_images_some_are_drawn_and_never_the_same_on_both_sides():
    assert sorted(draw(7)) == sorted(draw(7, reference=True)) == list(range(7))
    drawn = [set(draw(2 * MOST + 3, reference=side).tolist()) for side in (False, True)]
    assert [len(each) for each in drawn] == [MOST, MOST]
    assert not drawn[0] & drawn[1]
    assert np.array_equal(draw(5 * MOST), draw(5 * MOST))


def test_a_small_dataset_that_is_its_own_reference_is_compared_half_with_half():
    digits = PARTS["digits"]  # 300 test images: all of them would be on both sides
    found = run_sweep("glyphvit", digits, taps=[FINAL], reference=digits, jobs=1).shift_distance
    assert abs(found.value) < 3 * found.standard_error


def test_embedded_datasets_are_farther_the_more_they_are_shifted():
    references, found = References(), {}
    for name in ("glyphs", "digits", "digits_inverted"):
        result = run_sweep("glyphvit", PARTS[name], taps=[FINAL], references=references, jobs=1)
        found[name] = result.shift_distance
        assert list(result.taps) == [FINAL]
    assert {each.reference for each in found.values()} == {"glyphs_pretraining"}
    assert found["glyphs"].value < 0.1 < 1 < found["digits"].value < 2 < found["digits_inverted"].value
    assert all(each.standard_error < 0.15 for each in found.values())


@pytest.mark.parametrize("protocol", [PAPER, replace(DEFAULT, feature_norm="l2")], ids=["paper", "l2"])
def test_the_final_features_are_read_though_no_case_is_and_not_scaled(protocol):
    result = run_sweep("glyphvit", PARTS["digits"], taps=[RC2], protocol=protocol, jobs=1)
    assert list(result.taps) == [RC2]
    assert 1 < result.shift_distance.value < 2


def test_a_reference_is_read_once_for_a_model(monkeypatch):
    from probebench.measure import shift

    loaded, original = [], shift.datasets.load
    monkeypatch.setattr(shift.datasets, "load", lambda spec: loaded.append(spec.name) or original(spec))
    references = References()
    for name in ("digits", "digits_snow"):
        run_sweep("glyphvit", PARTS[name], taps=[FINAL], references=references, jobs=1)
    assert loaded.count("glyphs_pretraining") == 1


def unavailable(spec, dataset=PARTS["digits"], **kwargs):
    found = run_sweep(spec, dataset, taps=[FINAL], jobs=1, **kwargs).shift_distance
    assert isinstance(found, Unavailable)
    assert found.to_json() == {"unavailable": found.why}
    return found.why


def test_what_is_not_known_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PROBEBENCH_DATA", str(tmp_path))
    spec = CATALOG.model("glyphvit")
    assert unavailable("glyphvit_random") == "a network with random weights has no pretraining data"
    why = unavailable(replace(spec, reference=""))
    assert why.startswith(
        "no dataset stands for what glyphvit was pretrained on (supervised, printed glyphs); ModelSpec"
    )
    assert unavailable(replace(spec, reference="imagenet1k")) == (
        "imagenet1k, which stands for what glyphvit was pretrained on, is not on this machine"
    )
    broken = DatasetSpec("broken", "no.such:reader")
    assert unavailable(spec, reference=broken).startswith("reference broken: dataset 'broken': reader")


def few_test_images():
    names, train, test = part("digits")
    return names, train, Split(test.images[:19], test.labels[:19])


def test_no_reference_is_read_for_too_few_test_images(monkeypatch):
    monkeypatch.setattr(References, "read", None)
    few = replace(PARTS["digits"], reader=f"{__name__}:few_test_images", kwargs={})
    assert unavailable("glyphvit", few) == "digits has 19 test images; a distance needs 20"


def test_the_record_has_the_numbers():
    assert ShiftDistance("letters", 0.5, 0.1).to_json() == {
        "measure": "kid",
        "reference": "letters",
        "value": 0.5,
        "standard_error": 0.1,
    }


def test_references_of_the_catalog_exist_and_are_what_the_pretraining_says():
    for spec in CATALOG.models.values():
        reference = CATALOG.reference(spec)
        if spec.name != "glyphvit":
            assert (reference is not None) == spec.pretraining.endswith("ImageNet-1k")
        assert CATALOG.reference(CATALOG.model(f"{spec.name}_random")) is None if spec.weights != "random" else True
