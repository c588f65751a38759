"""The arithmetic of timings, and how much they send through a network; how close they come is in docs/scale.md."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from probebench.datasets import Split
from probebench.datasets.views import Views
from probebench.features.batching import PIECE, BatchSize
from probebench.measure import timing
from probebench.measure.timing import ENOUGH, ROUNDS, Pace, shortest, time_images, time_network
from tests.features.conftest import SPEC, TAPS, noise


def test_a_pace_goes_through_two_times():
    pace = Pace.through({8: 3.0, 32: 6.0}, batch=256)
    assert (pace.per_batch, pace.per_image) == (2.0, 0.125)
    assert pace.seconds(256) == 34.0
    assert pace.seconds(257) == 2 * 2.0 + 257 * 0.125  # two batches


def test_the_pace_of_a_single_time_is_its_share():
    assert Pace.through({4: 2.0}, batch=4) == Pace(4, 0.0, 0.5)


@pytest.mark.parametrize(
    ("timed", "pace"),
    [
        ({8: 0.5, 32: 8.0}, Pace(64, 0.0, 0.25)),  # the small batch was quicker than its share
        ({8: 9.0, 32: 8.0}, Pace(64, 6.0, 0.0625)),  # the small batch was disturbed
    ],
)
def test_a_disturbed_time_does_not_lead_to_absurd_paces(timed, pace):
    assert Pace.through(timed, batch=64) == pace


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until a test moves it."""
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_the_shortest_time_counts(clock):
    seconds = {4: [0.3, 0.1, 0.2], 8: [0.2, 0.3, 0.1]}
    done = []

    def work(size, turn):
        done.append(size)
        clock.now += seconds[size][turn]

    assert shortest(work, [4, 8]) == pytest.approx({4: 0.1, 8: 0.1})
    assert done == [4, 8] * ROUNDS


def test_long_work_is_done_once(clock):
    done = []

    def work(size, turn):
        done.append(size)
        clock.now += ENOUGH

    shortest(work, [4, 8])
    assert done == [4, 8]


@pytest.fixture
def sent(monkeypatch):
    """The number of images of each pass through the network."""
    sizes = []

    def forward(model, views, taps, put, settings):
        sizes.append((len(views), settings.batch_size.now))

    monkeypatch.setattr(timing, "forward", forward)
    return sizes


def asked(device="cpu", batch=256):
    return SimpleNamespace(batch_size=BatchSize(batch), device=device)


@pytest.mark.parametrize(
    ("device", "batch", "sizes"),
    [("cpu", 256, [8, 32]), ("cpu", 8, [1]), ("cpu", 1, [1]), ("cuda", 256, [256])],
)
def test_a_small_part_of_a_batch_is_timed_on_a_cpu(monkeypatch, sent, device, batch, sizes):
    monkeypatch.setattr(timing, "replace", lambda settings, batch_size: SimpleNamespace(batch_size=batch_size))
    model = SimpleNamespace(spec=SPEC)
    assert time_network(model, TAPS, asked(device, batch)).batch == batch
    assert sent[: len(sizes)] == [(size, size) for size in sizes]
    assert {size for size, _ in sent} == set(sizes)
    assert len(sent) <= ROUNDS * len(sizes)


class Recorded:
    """Images that remember which of them were read."""

    concurrent = True

    def __init__(self, images):
        self.images, self.read = images, []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.read.append(index)
        return self.images[index]


def test_few_images_are_read_and_others_each_time(clock):
    split = noise(1000)
    images = Recorded(split.images)
    views = Views(Split(images, split.labels), np.arange(1000), "resize_center_crop", 16, 0)
    assert time_images(views, "cpu") == 0.0  # the clock stands still
    each = PIECE * torch.get_num_threads()
    # The first of a round is read once more, for its shape.
    assert len(images.read) == ROUNDS * (each + 1)
    assert len(set(images.read)) == ROUNDS * each
    assert max(images.read) > 900  # from all parts of the dataset


def test_a_dataset_of_few_images():
    split = noise(2)
    assert time_images(Views(split, np.arange(2), "resize_center_crop", 16, 0), "cpu") > 0
