from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from probebench.catalog import builtin_models
from probebench.datasets import Split
from probebench.protocols import IMAGENET_MEAN, PAPER
from probebench.views import Views, pixel_statistics, train_indices

RNG = np.random.default_rng(0)
GREY = Split(RNG.integers(0, 256, (6, 32, 32)).astype(np.uint8), np.zeros(6, np.int64))
WIDE = Split(RNG.integers(0, 256, (6, 20, 40, 3)).astype(np.uint8), np.zeros(6, np.int64))


def views(split, indices, kind, size=32, seed=0):
    return Views(split, np.asarray(indices), kind, size, seed)


def test_an_image_of_the_right_size_is_left_as_it_is_in_three_channels():
    view = views(GREY, [2], "resize_center_crop")[0]
    assert view.dtype == torch.uint8
    assert view.shape == (3, 32, 32)
    assert all(np.array_equal(channel, GREY.images[2]) for channel in view.numpy())


def test_the_shorter_side_is_resized_and_the_middle_kept():
    assert views(WIDE, [0], "resize_center_crop", size=20)[0].equal(
        torch.from_numpy(WIDE.images[0][:, 10:30].copy()).permute(2, 0, 1)
    )
    assert views(WIDE, [0], "resize_center_crop", size=10)[0].shape == (3, 10, 10)


def test_a_random_view_depends_on_seed_and_index_only():
    forward = views(WIDE, range(6), "random_resized_crop_flip")
    backward = views(WIDE, range(5, -1, -1), "random_resized_crop_flip")
    state = torch.get_rng_state()
    assert all(forward[i].equal(backward[5 - i]) for i in range(6))
    assert torch.get_rng_state().equal(state)
    other = views(WIDE, range(6), "random_resized_crop_flip", seed=1)
    assert not any(forward[i].equal(other[i]) for i in range(6))


def test_train_indices_drop_an_incomplete_last_batch_of_the_share():
    chosen = train_indices(2000, PAPER)
    assert len(chosen) == 1536  # 80% is 1600, three times 512 fit
    assert len(set(chosen.tolist())) == 1536
    assert set(chosen.tolist()) <= set(range(2000))
    assert np.array_equal(chosen, train_indices(2000, PAPER))
    assert not np.array_equal(chosen, train_indices(2000, replace(PAPER, seed=1)))


def test_fewer_images_than_a_batch_are_all_kept():
    assert len(train_indices(100, PAPER)) == 80


def test_pixel_statistics_are_the_protocols_or_the_models_own():
    spec = replace(builtin_models()["glyphvit"], mean=(0.1, 0.2, 0.3))
    assert pixel_statistics(PAPER, spec)[0].flatten().tolist() == torch.tensor(IMAGENET_MEAN).tolist()
    own = pixel_statistics(replace(PAPER, pixel_mean=None), spec)[0]
    assert own.flatten().tolist() == torch.tensor([0.1, 0.2, 0.3]).tolist()
