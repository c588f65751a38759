from __future__ import annotations

from dataclasses import replace

import jsonschema
import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from probebench import run_sweep
from probebench.catalog.cases import Sweep
from probebench.catalog.protocols import DEFAULT
from probebench.catalog.taps import Tap
from probebench.errors import FeatureError
from probebench.measure.entries import case_record
from probebench.probes import get_probe, knn
from probebench.probes.knn import knn_votes
from probebench.records import run_record
from probebench.records.verdicts import Judgement
from tests.measure.test_shift import PARTS

RNG = np.random.default_rng(0)
KNN = replace(DEFAULT, name="knn@1", probe="knn")
CENTRES = RNG.normal(size=(5, 9))


def problem(n, m, classes=5):
    labels, unseen = RNG.integers(0, classes, n), RNG.integers(0, classes, m)
    train, test = (0.6 * CENTRES[y] + RNG.normal(size=(len(y), 9)) for y in (labels, unseen))
    return train, labels, test


def predict(train, labels, test, classes, *args, **kwargs):
    tensors = (torch.from_numpy(np.asarray(values)) for values in (train, labels, test))
    return knn_votes(*tensors, classes, *args, **kwargs).argmax(dim=1).numpy()


def by_hand(train, labels, test, classes, k, temperature):
    """One row at a time."""
    predicted = []
    for row in test:
        similarity = np.array([row @ other / np.linalg.norm(row) / np.linalg.norm(other) for other in train])
        votes = np.zeros(classes)
        for neighbour in np.argsort(-similarity)[:k]:
            votes[labels[neighbour]] += np.exp(similarity[neighbour] / temperature)
        predicted.append(np.argmax(votes))
    return np.array(predicted)


@pytest.mark.parametrize(("k", "temperature"), [(20, 0.07), (1, 0.07), (7, 0.5), (80, 10.0)])
def test_predictions_are_those_of_the_vote_done_by_hand(k, temperature):
    train, labels, test = problem(80, 60)
    found = predict(train, labels, test, 5, k, temperature)
    assert found.dtype == np.int64
    assert np.array_equal(found, by_hand(train, labels, test, 5, k, temperature))


def test_k_and_temperature_default_to_dinos():
    train, labels, test = problem(300, 200)
    found = predict(train, labels, test, 5)
    assert np.array_equal(found, by_hand(train, labels, test, 5, 20, 0.07))
    for k, temperature in ((19, 0.07), (20, 0.2)):
        assert not np.array_equal(found, by_hand(train, labels, test, 5, k, temperature))


def scikit_learns(k=20, temperature=0.07):
    return KNeighborsClassifier(k, weights=lambda distance: np.exp((1 - distance) / temperature), metric="cosine")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_are_those_of_scikit_learn(dtype):
    train, labels, test = (values.astype(dtype) if values.dtype.kind == "f" else values for values in problem(400, 150))
    reference = scikit_learns().fit(train, labels).predict(test)
    assert np.array_equal(predict(train, labels, test, 5), reference)


@pytest.mark.parametrize("rows", [1, 7, 59, 60])
def test_chunks_do_not_change_the_result(monkeypatch, rows):
    train, labels, test = problem(80, 60)
    whole = predict(train, labels, test, 5)
    monkeypatch.setattr(knn, "SIMILARITIES", rows * 80)
    assert np.array_equal(predict(train, labels, test, 5), whole)


def test_of_more_neighbours_than_rows_all_vote():
    train, labels, test = problem(12, 40)
    assert np.array_equal(predict(train, labels, test, 5, k=20), by_hand(train, labels, test, 5, 12, 0.07))


def test_of_equal_votes_the_first_class_wins():
    # Whichever order the two equal neighbours come in.
    for labels in ([2, 1], [1, 2]):
        assert predict(np.ones((2, 3)), np.array(labels), np.ones((1, 3)), 3).tolist() == [1]


def test_cold_votes_do_not_overflow():
    train, labels, test = problem(80, 60)
    nearest = predict(train, labels, test, 5, k=1)
    assert np.array_equal(predict(train, labels, test, 5, temperature=1e-5), nearest)


def test_rows_of_zeros_are_near_to_nothing():
    train = np.array([[1.0, 0], [0, 0], [0, 1], [-1, 0], [-1, 0]])
    labels = np.array([0, 1, 2, 2, 2])
    # The row of zeros has similarity 0: behind class 0, before class 2.
    assert predict(train, labels, np.array([[1.0, -1e-3]]), 3, k=1).tolist() == [0]
    assert predict(train[[1, 3, 4]], labels[[1, 3, 4]], np.array([[1.0, 0]]), 3, k=1).tolist() == [1]
    # A test row of zeros is as near to all: the most frequent class, not that of whichever row comes first or last.
    for shift in range(5):
        assert predict(train, np.roll(labels, shift), np.zeros((3, 2)), 3, k=1).tolist() == [2, 2, 2]
    assert predict(np.zeros((5, 2)), labels, np.array([[1.0, 0]]), 3, k=5).tolist() == [2]


def test_nothing_to_predict_gives_nothing():
    train, labels, test = problem(20, 5)
    assert predict(train, labels, test[:0], 5).shape == (0,)


@pytest.mark.parametrize(("n", "k", "temperature"), [(20, 0, 0.07), (20, 5, 0.0), (20, 5, -1.0), (0, 5, 0.07)])
def test_numbers_that_make_no_sense_are_refused(n, k, temperature):
    train, labels, test = problem(20, 5)
    with pytest.raises(ValueError, match="must be positive"):
        predict(train[:n], labels[:n], test, 5, k, temperature)


# The probe: labels with gaps, features far from the origin and of different scales.
CLASSES = np.array([1, 4, 6, 7, 9])
TAPS = [Tap(1, "act"), Tap(2, "rc2")]
HELD_OUT = np.arange(150) % 4 == 0


def features():
    train, labels, test = problem(150, 70)
    scale = np.logspace(-1, 1, 9)
    return ((train * scale + 1).astype(np.float32), CLASSES[labels], (test * scale + 1).astype(np.float32))


X, LABELS, X_TEST = features()
TRAIN = {TAPS[0]: X, TAPS[1]: X[:, :4].copy()}
TEST = {TAPS[0]: X_TEST, TAPS[1]: X_TEST[:, :4].copy()}


def reference(tap, rows, others, standardize):
    x = TRAIN[tap][rows].astype(np.float64)
    if standardize:
        scaler = StandardScaler().fit(x)
        x, others = scaler.transform(x), scaler.transform(others.astype(np.float64))
    return scikit_learns().fit(x, LABELS[rows]).predict(others)


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("standardize", [True, False])
def test_the_probe_predicts_test_from_train_and_the_held_out_part_from_the_rest(monkeypatch, standardize, jobs):
    monkeypatch.setattr(knn, "chunks", lambda values: [slice(i, i + 7) for i in range(0, len(values), 7)])
    protocol = replace(KNN, standardize=standardize)
    fits = dict(get_probe("knn")(TRAIN, LABELS, TEST, HELD_OUT, protocol, "cpu", jobs))
    assert fits.keys() == TRAIN.keys()
    for tap, fit in fits.items():
        assert np.array_equal(fit.predictions, reference(tap, slice(None), TEST[tap], standardize))
        assert fit.predictions.dtype == np.int64
        held_out = reference(tap, ~HELD_OUT, TRAIN[tap][HELD_OUT], standardize)
        assert fit.held_out_accuracy == pytest.approx(np.mean(held_out == LABELS[HELD_OUT]))
        assert (fit.C, fit.gap, fit.iterations) == (None, None, 0)
        assert fit.seconds > 0


@pytest.mark.parametrize("held_out", [None, np.zeros(150, dtype=bool)], ids=["none", "empty"])
def test_the_probe_has_no_held_out_accuracy_if_nothing_is_held_out(held_out):
    for tap, fit in get_probe("knn")(TRAIN, LABELS, TEST, held_out, KNN, "cpu", 1):
        assert fit.held_out_accuracy is None
        assert np.array_equal(fit.predictions, reference(tap, slice(None), TEST[tap], True))


def test_features_that_are_not_finite_are_refused_by_name():
    bad = TRAIN | {TAPS[1]: np.full((150, 4), np.nan, dtype=np.float32)}
    with pytest.raises(FeatureError, match=r"L02-rc2.*NaN or infinity"):
        list(get_probe("knn")(bad, LABELS, TEST, None, KNN, "cpu", 1))


def test_a_constant_tap_predicts_the_most_frequent_class():
    # Standardised, every row is zeros.
    train, test = {TAPS[0]: np.full((150, 4), 3, np.float32)}, {TAPS[0]: np.full((5, 4), 3, np.float32)}
    ((_, fit),) = get_probe("knn")(train, LABELS, test, HELD_OUT, KNN, "cpu", 1)
    assert fit.predictions.tolist() == [np.bincount(LABELS).argmax()] * 5


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_predictions_of_the_cpu():
    fits = {device: dict(get_probe("knn")(TRAIN, LABELS, TEST, HELD_OUT, KNN, device, 1)) for device in ("cpu", "cuda")}
    for tap, fit in fits["cpu"].items():
        assert fits["cuda"][tap].held_out_accuracy == fit.held_out_accuracy
        assert np.array_equal(fits["cuda"][tap].predictions, fit.predictions)


def test_a_sweep_with_it_is_far_above_chance_and_its_record_fits_the_schema():
    taps = [Tap(6, "act"), Tap("final", "final")]
    result = run_sweep("glyphvit", PARTS["digits"], protocol=KNN, taps=taps, jobs=1)
    schema = run_record.schema()
    schema |= schema["$defs"]["case"]
    for tap in taps:
        assert result.taps[tap].accuracy > 0.5
        assert result.taps[tap].held_out_accuracy > 0.5
        record = case_record(Sweep("glyphvit", "digits", "knn@1"), result, tap, Judgement("new"))
        assert record["C"] is None
        jsonschema.validate(record, schema)
