from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from probebench._arrays import on_host, to_device
from probebench.catalog.protocols import ATTENTIVE
from probebench.catalog.taps import Tap
from probebench.errors import DataError, FeatureError, ProbebenchError
from probebench.probes import find_probe
from probebench.probes.attention_pool import AttentiveClassifier, count_parameters
from probebench.probes.attentive import fit, learning_rate, predict, smooth, train_probe
from probebench.probes.base import FitSize
from probebench.probes.token_rows import Scale, TokenRows

TAP = Tap(1, "act")
SMALL = replace(ATTENTIVE, queries=2, epochs=12, batch=16, rates=(0.01, 0.03))


def bits(tokens):
    """Tokens as a sweep has them on the host: the bits of bfloat16."""
    images = torch.as_tensor(np.asarray(tokens), dtype=torch.float32)
    return on_host(images.bfloat16().flatten(1)).reshape(tuple(images.shape))


def needles(n, seed, classes=3, tokens=8, width=6):
    """Images one token of which carries the class, marked by its first feature; the mean over tokens hides it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    images = rng.normal(size=(n, tokens, width)) * 3
    images[:, :, 0] = 0
    where = rng.integers(0, tokens, n)
    for image, token, label in zip(images, where, labels, strict=True):
        image[token] = 0
        image[token, 0] = 6
        image[token, 1 + label] = 2
    return bits(images), labels.astype(np.int64)


def held(n):
    return np.arange(n) % 5 == 0


def fit_one(train, labels, test, protocol=SMALL, held_out=None, jobs=1):
    return dict(fit({TAP: train}, labels, {TAP: test}, held_out, protocol, "cpu", jobs))[TAP]


def test_the_pooling_is_attention_written_out_by_hand():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(3, 5, 7)).astype(np.float32)
    net = AttentiveClassifier(7, 2, 4, torch.Generator().manual_seed(0))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(size=parameter.shape)))
        found, attention = net(torch.from_numpy(tokens)).numpy(), net.attend(torch.from_numpy(tokens)).numpy()
    queries, values, weight, bias = (each.detach().double().numpy() for each in net.parameters())
    for image, scores, shares in zip(tokens.astype(float), found, attention, strict=True):
        parts = []
        for query, projection in zip(queries, values, strict=True):
            strength = np.exp([query @ token / np.sqrt(7) for token in image])
            share = strength / strength.sum()
            np.testing.assert_allclose(shares[:, len(parts)], share, rtol=1e-5)
            # Values of all tokens first, which are then averaged: the order of the paper.
            parts.append(sum(a * (token @ projection) for a, token in zip(share, image, strict=True)))
        assert [len(part) for part in parts] == [4, 4]  # 7 features for two queries, rounded up
        np.testing.assert_allclose(scores, weight @ np.concatenate(parts) + bias, rtol=1e-4, atol=1e-4)


def test_weights_are_counted():
    for width, queries, classes in ((7, 2, 4), (64, 32, 10)):
        net = AttentiveClassifier(width, queries, classes, torch.Generator())
        assert count_parameters(width, queries, classes) == sum(each.numel() for each in net.parameters())


def test_the_scale_is_that_of_the_mean_token_but_large_features_of_positions_are_not_blown_up():
    rng = np.random.default_rng(0)
    tokens = rng.normal(size=(50, 4, 3)) + 5 * rng.normal(size=(50, 1, 3)) + 2
    tokens[:, :, 1] = np.array([100.0, 101, 102, 103])  # a position, the same in all images
    tokens[:, :, 2] = 7
    array = bits(tokens)
    values = torch.from_numpy(array.view(np.int16)).view(torch.bfloat16).double().numpy()
    scale = Scale.of(TokenRows(array, np.arange(50), "cpu"))
    np.testing.assert_allclose(scale.mean, values.mean(axis=(0, 1)), rtol=1e-6)
    expected = [values[:, :, 0].mean(axis=1).std(), values[:, :, 1].std() / 2, 1]
    np.testing.assert_allclose(scale.deviation, expected, rtol=1e-6)


def test_the_scale_does_not_depend_on_the_size_of_chunks(monkeypatch):
    array = bits(np.random.default_rng(0).normal(size=(30, 4, 3)))
    rows = TokenRows(array, np.arange(0, 30, 2), "cpu")
    whole = Scale.of(rows)
    monkeypatch.setattr("probebench.probes.token_rows.CHUNK_VALUES", 12)
    assert [len(rows[part]) for part in rows.chunks()] == [1] * 15
    pieces = Scale.of(rows)
    torch.testing.assert_close(pieces.mean, whole.mean)
    torch.testing.assert_close(pieces.deviation, whole.deviation)


def test_a_single_token_that_carries_the_class_is_found_where_the_mean_hides_it():
    (train, labels), (test, unseen) = needles(600, 0), needles(300, 1)
    found = fit_one(train, labels, test, SMALL, held(600))
    means = [
        torch.from_numpy(each.view(np.int16)).view(torch.bfloat16).float().mean(dim=1).numpy() for each in (train, test)
    ]
    linear = LogisticRegression(max_iter=1000).fit(means[0], labels).score(means[1], unseen)
    assert linear < 0.6
    assert (found.predictions == unseen).mean() > 0.95
    assert found.held_out_accuracy > 0.95


def test_with_one_token_an_image_the_training_reaches_the_optimum_of_logistic_regression():
    # Attention over one token is one, and what remains is linear: a convex problem in the product of its weights.
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    rows = rng.normal(size=(200, 4)) + 1.5 * np.eye(4)[labels]
    array = bits(rows[:, None])
    tokens = TokenRows(array, np.arange(200), "cpu")
    scale = Scale.of(tokens)
    protocol = replace(ATTENTIVE, queries=1, epochs=300, batch=200, weight_decay=0.0)
    net, _ = train_probe(tokens, torch.from_numpy(labels), 3, scale, protocol, 0.03)
    scores = predict(net, tokens, scale).double()
    loss = float(torch.nn.functional.cross_entropy(scores, torch.from_numpy(labels)))
    values = scale.apply(tokens[:]).numpy()[:, 0]
    best = LogisticRegression(C=1e6, max_iter=10000, tol=1e-8).fit(values, labels)
    optimum = -np.log(best.predict_proba(values)[np.arange(200), labels]).mean()
    assert optimum <= loss <= optimum + 1e-3


def test_results_are_the_same_bits_for_any_number_of_threads():
    (train, labels), (test, _) = needles(80, 0), needles(40, 1)
    short = replace(SMALL, epochs=3)
    first = fit_one(train, labels, test, short, held(80))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        again = fit_one(train, labels, test, short, held(80))
    finally:
        torch.set_num_threads(threads)
    assert np.array_equal(first.scores, again.scores)


def test_tokens_that_stay_on_a_device_are_trained_on_as_they_are():
    (train, labels), (test, _) = needles(80, 0), needles(40, 1)
    short = replace(SMALL, epochs=2)
    with torch.inference_mode():  # as they are made
        stay = [to_device(each, "cpu").clone() for each in (train, test)]
    found = fit_one(stay[0], labels, stay[1], short, held(80))
    assert np.array_equal(found.scores, fit_one(train, labels, test, short, held(80)).scores)


def test_test_images_do_not_influence_the_training():
    (train, labels), (test, _) = needles(80, 0), needles(40, 1)
    short = replace(SMALL, epochs=3)
    whole, part = (fit_one(train, labels, each, short, held(80)) for each in (test, test[30:]))
    np.testing.assert_allclose(part.scores, whole.scores[30:], rtol=1e-5, atol=1e-6)
    assert (part.held_out_accuracy, part.iterations) == (whole.held_out_accuracy, whole.iterations)


def test_the_rate_and_the_epochs_are_those_of_the_best_smoothed_held_out_accuracy():
    (train, labels), (test, _) = needles(100, 0), needles(20, 1)
    mask = held(100)
    found = fit_one(train, labels, test, SMALL, mask)
    array, scale = train, Scale.of(TokenRows(train, np.arange(100), "cpu"))
    inside, outside = (TokenRows(array, np.flatnonzero(part), "cpu") for part in (~mask, mask))
    tries = []
    for rate in SMALL.rates:
        _, seen = train_probe(
            inside,
            torch.from_numpy(labels[~mask]),
            3,
            scale,
            SMALL,
            rate,
            unseen=(outside, torch.from_numpy(labels[mask])),
        )
        smoothed, epochs = seen.best()
        tries.append((smoothed, -rate, epochs, seen))
    _, rate, epochs, seen = max(tries, key=lambda each: each[:2])
    everything = TokenRows(array, np.arange(100), "cpu")
    net, last = train_probe(everything, torch.from_numpy(labels), 3, scale, SMALL, -rate, epochs=epochs)
    scores = predict(net, TokenRows(test, np.arange(20), "cpu"), scale).numpy()
    assert np.array_equal(found.scores, scores)
    assert found.held_out_accuracy == seen.accuracy[epochs - 1]
    assert found.iterations == sum(each[3].steps for each in tries) + last.steps
    assert last.steps == epochs * 7


def test_training_ends_once_the_held_out_accuracy_has_not_risen_for_a_while():
    rng = np.random.default_rng(0)
    train, labels = bits(rng.normal(size=(60, 4, 5))), np.arange(60) % 3  # nothing to be learned
    rows = TokenRows(train, np.arange(60), "cpu")
    unseen = rows, torch.from_numpy((labels + 1) % 3)  # the better the fit, the worse on these
    protocol = replace(SMALL, epochs=50, epoch_patience=4)
    scale = Scale.of(rows)
    _, seen = train_probe(rows, torch.from_numpy(labels), 3, scale, protocol, 0.03, unseen=unseen)
    assert len(seen.accuracy) == int(np.argmax(seen.accuracy)) + 1 + 4 < 50


def test_without_held_out_images_all_epochs_are_trained_at_the_middle_rate():
    (train, labels), (test, _) = needles(40, 0), needles(20, 1)
    found = fit_one(train, labels, test, replace(SMALL, rates=(1e-6, 0.01, 1.0)))
    rows = TokenRows(train, np.arange(40), "cpu")
    scale = Scale.of(rows)
    net, _ = train_probe(rows, torch.from_numpy(labels), 3, scale, SMALL, 0.01)
    scores = predict(net, TokenRows(test, np.arange(20), "cpu"), scale).numpy()
    assert np.array_equal(found.scores, scores)
    assert found.held_out_accuracy is None
    assert found.iterations == 12 * 3


def test_the_learning_rate_rises_and_falls_along_a_cosine():
    shares = [learning_rate(step, 100) for step in range(100)]
    assert shares[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.5 * (1 + np.cos(np.pi * 0.04))])
    assert shares[50] == pytest.approx(0.5)
    assert 0 < shares[99] < 3e-4
    assert learning_rate(0, 1) == 1


def test_smoothing_weighs_neighbours():
    np.testing.assert_allclose(smooth([0.0, 1.0, 0.0, 1.0]), [1 / 3, 0.5, 0.5, 2 / 3])
    np.testing.assert_allclose(smooth([0.4]), [0.4])


def test_labels_may_be_any_integers():
    (train, labels), (test, _) = needles(60, 0), needles(10, 1)
    short = replace(SMALL, epochs=2)
    plain, other = (fit_one(train, each, test, short, held(60)) for each in (labels, labels * 7 + 3))
    assert other.classes.tolist() == [3, 10, 17]
    assert np.array_equal(other.predictions, plain.predictions * 7 + 3)


def test_tokens_that_cannot_be_fitted_are_refused():
    train, labels = needles(40, 0)
    with pytest.raises(DataError, match="at least two classes"):
        fit_one(train, labels * 0, train)
    train[7, 3, 2] = 0x7FC0  # not a number
    with pytest.raises(FeatureError, match="probe at L01-act: tokens contain NaN or infinity"):
        fit_one(train, labels, train)


def test_it_says_what_it_needs():
    probe = find_probe("attentive")
    assert probe.tokens
    probe.check(ATTENTIVE)
    for changes, said in (({"queries": None}, "give queries"), ({"probe": "knn"}, "the probe knn reads no tokens")):
        protocol = replace(ATTENTIVE, **changes)
        with pytest.raises(ProbebenchError, match=said):
            find_probe(protocol.probe).check(protocol)
    sizes = [FitSize(2000, 1000, 384, 10, 11, tokens=t, queries=32, batch=64, epochs=90) for t in (50, 200)]
    assert probe.memory(sizes[0]) < probe.memory(sizes[1])
    assert probe.operations(sizes[1]) > 2 * probe.operations(sizes[0])
