from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from probebench.datasets import Split
from probebench.datasets.dataset import Subset
from probebench.datasets.views import RANDOM, Views
from probebench.errors import DataError
from probebench.features.batching import BatchSize, batches

SIDE = 80  # large enough for threads


class Images:
    """Images that note how many of them are read at once."""

    def __init__(self, n, concurrent=False, broken=None):
        self.n, self.concurrent, self.broken = n, concurrent, broken
        self.reading, self.most, self.lock = 0, 0, threading.Lock()

    def __len__(self):
        return self.n

    def __getitem__(self, index):
        if index == self.broken:
            raise DataError(f"image {index} is damaged")
        with self.lock:
            self.reading += 1
            self.most = max(self.most, self.reading)
        time.sleep(0.002)
        with self.lock:
            self.reading -= 1
        return np.random.default_rng(index).integers(0, 256, (SIDE + 5, SIDE + 9, 3)).astype(np.uint8)


def views(images, kind="resize_center_crop"):
    n = len(images)
    return Views(Split(images, np.zeros(n, np.int64)), np.arange(n), kind, SIDE, 0)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("kind", ["resize_center_crop", RANDOM])
def test_batches_are_the_views_in_their_order(threads, kind):
    chosen = views(Images(75, concurrent=True), kind)
    found = list(batches(chosen, 32, "cpu"))
    assert [len(batch) for batch in found] == [32, 32, 11]
    alone = views(Images(75), kind)
    assert torch.equal(torch.cat(found), torch.stack([alone[place] for place in range(75)]))


def test_small_views_are_the_same():
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16)).astype(np.uint8)
    chosen = Views(Split(images, np.zeros(20, np.int64)), np.arange(20), "resize_center_crop", 16, 0)
    assert torch.equal(torch.cat(list(batches(chosen, 7, "cpu"))), torch.stack([chosen[place] for place in range(20)]))


def test_only_images_that_say_so_are_read_by_several_threads(threads):
    one_by_one, at_once = Images(64), Images(64, concurrent=True)
    for images in (one_by_one, at_once):
        list(batches(views(images), 64, "cpu"))
    assert one_by_one.most == 1
    assert at_once.most > 1


def test_some_of_the_images_are_read_as_all_of_them_are(threads):
    for concurrent in (True, False):
        images = Images(80, concurrent=concurrent)
        list(batches(views(Subset(images, np.arange(64))), 64, "cpu"))
        assert (images.most > 1) == concurrent


def test_random_views_leave_the_callers_generator_alone(threads):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    list(batches(views(Images(40, concurrent=True), RANDOM), 40, "cpu"))
    assert torch.equal(torch.rand(3), expected)


def test_an_image_that_cannot_be_read_ends_it(threads):
    with pytest.raises(DataError, match="image 17 is damaged"):
        list(batches(views(Images(40, broken=17)), 8, "cpu"))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("views")]


def test_who_stops_in_between_leaves_no_thread(threads):
    found = batches(views(Images(400)), 8, "cpu")
    next(found)
    found.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("views")]


def test_no_views_are_no_batches():
    assert list(batches(views(Images(0)), 8, "cpu")) == []


@pytest.mark.parametrize(
    ("side", "patch", "device", "expected"),
    [(224, 16, "cpu", 64), (32, 4, "cpu", 256), (224, 16, "cuda", 512), (32, 4, "cuda", 1024), (518, 14, "cuda", 64)],
)
def test_a_batch_is_a_power_of_two_that_suits_the_patches(side, patch, device, expected):
    with torch.device("meta"):
        net = VisionTransformer(img_size=side, patch_size=patch, embed_dim=8, depth=1, num_heads=1, num_classes=0)
    assert BatchSize.for_network(net, device).now == expected


def test_a_network_that_does_not_say_its_patches_gets_a_batch_too():
    assert BatchSize.for_network(torch.nn.Identity(), "cpu").now == 64


def test_batches_are_halved_down_to_one_image():
    size = BatchSize(5)
    assert [(size.halve(), size.now) for _ in range(4)] == [(True, 2), (True, 1), (False, 1), (False, 1)]
    assert size.asked == 5
