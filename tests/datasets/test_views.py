from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torchvision import transforms

from probebench.catalog import builtin_models
from probebench.catalog.protocols import DEFAULT, FEW_SHOT_4, FEW_SHOT_16, IMAGENET_MEAN, PAPER
from probebench.datasets import Split
from probebench.datasets.splits import held_out_part, training_sets
from probebench.datasets.views import Views, pixel_statistics, random_box

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


def indices(n, protocol):
    (chosen,) = training_sets(labelled(np.zeros(n)), protocol)
    return chosen


def test_random_boxes_are_torchvisions_number_by_number():
    crop = transforms.RandomResizedCrop
    rng = np.random.default_rng(0)
    sizes = [(1, 1), (1, 7), (2, 3), (32, 32), (500, 375), (1, 400), (400, 1), (3000, 20)]
    sizes += [tuple(map(int, rng.integers(1, 600, 2))) for _ in range(400)]
    middles = 0
    for seed, (width, height) in enumerate(sizes):
        generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            box = crop.get_params(Image.new("L", (width, height)), scale=[0.08, 1.0], ratio=[3 / 4, 4 / 3])
            following = torch.rand(1)
        assert random_box(width, height, generator) == tuple(box), (width, height)
        assert torch.rand(1, generator=generator) == following
        middles += width * 3 < height or height * 3 < width
    assert middles > 20  # which mostly have no box of such sides


def test_an_incomplete_last_batch_of_the_share_is_dropped():
    chosen = indices(2000, PAPER)
    assert len(chosen) == 1536  # 80% is 1600, three times 512 fit
    assert len(set(chosen.tolist())) == 1536
    assert set(chosen.tolist()) <= set(range(2000))
    assert np.array_equal(chosen, indices(2000, PAPER))
    assert not np.array_equal(chosen, indices(2000, replace(PAPER, seed=1)))


def test_fewer_images_than_a_batch_are_all_kept():
    assert len(indices(100, PAPER)) == 80


def test_few_shots_are_so_many_of_each_class_anew_in_each_draw():
    split = labelled(RNG.integers(0, 3, 300))
    sets = training_sets(split, FEW_SHOT_4)
    assert len(sets) == 5
    for chosen in sets:
        assert len(set(chosen.tolist())) == 12
        assert np.bincount(split.labels[chosen]).tolist() == [4, 4, 4]
        assert np.bincount(split.labels[chosen][held_out_part(split, chosen, FEW_SHOT_4)]).tolist() == [1, 1, 1]
    assert len({tuple(sorted(chosen)) for chosen in sets}) == 5
    assert all(map(np.array_equal, sets, training_sets(split, FEW_SHOT_4)))
    assert not any(map(np.array_equal, sets, training_sets(split, replace(FEW_SHOT_4, seed=1))))


def test_few_shots_are_of_different_source_images():
    groups = np.tile(np.arange(40), 5)  # five views of each of 40 images, 20 a class
    split = labelled(groups % 2, groups)
    for chosen in training_sets(split, FEW_SHOT_16):
        assert len(set(groups[chosen].tolist())) == 32


def test_a_class_of_fewer_images_than_shots_gives_all_it_has():
    split = labelled([0] * 30 + [1] * 3)
    for chosen in training_sets(split, FEW_SHOT_4):
        assert np.bincount(split.labels[chosen]).tolist() == [4, 3]


def test_pixel_statistics_are_the_protocols_or_the_models_own():
    spec = replace(builtin_models()["glyphvit"], mean=(0.1, 0.2, 0.3))
    assert pixel_statistics(PAPER, spec)[0].flatten().tolist() == torch.tensor(IMAGENET_MEAN).tolist()
    own = pixel_statistics(replace(PAPER, pixel_mean=None), spec)[0]
    assert own.flatten().tolist() == torch.tensor([0.1, 0.2, 0.3]).tolist()


def test_interpolation_is_what_it_is_asked_to_be():
    image = Image.fromarray(WIDE.images[0])
    for name, resampling in (("bilinear", Image.Resampling.BILINEAR), ("bicubic", Image.Resampling.BICUBIC)):
        small = np.array(image.resize((20, 10), resampling))[:, 5:15]
        view = Views(WIDE, np.array([0]), "resize_center_crop", 10, 0, name)[0]
        assert np.array_equal(view.permute(1, 2, 0).numpy(), small), name


def labelled(labels, groups=None):
    labels = np.asarray(labels, np.int64)
    groups = None if groups is None else np.asarray(groups, np.int64)
    return Split(np.zeros((len(labels), 4, 4), np.uint8), labels, groups)


def test_the_paper_holds_nothing_out():
    assert held_out_part(labelled([0, 1]), np.arange(2), PAPER) is None


def test_a_fifth_of_every_class_is_held_out():
    split = labelled([0] * 50 + [1] * 10 + [2] * 2)
    mask = held_out_part(split, np.arange(62), DEFAULT)
    assert [mask[split.labels == label].sum() for label in range(3)] == [10, 2, 1]
    assert np.array_equal(mask, held_out_part(split, np.arange(62), DEFAULT))
    assert not np.array_equal(mask, held_out_part(split, np.arange(62), replace(DEFAULT, seed=1)))


def test_a_class_with_one_image_keeps_it_for_the_fit():
    assert held_out_part(labelled([0, 1, 1]), np.arange(3), DEFAULT)[0] == np.False_


def test_the_held_out_images_do_not_depend_on_the_order_they_are_read_in():
    split = labelled(RNG.integers(0, 3, 60))
    order = RNG.permutation(60)
    assert np.array_equal(held_out_part(split, order, DEFAULT), held_out_part(split, np.arange(60), DEFAULT)[order])


def test_views_of_one_source_are_never_on_both_sides():
    groups = np.tile(np.arange(30), 4)
    mask = held_out_part(labelled(np.tile(np.arange(30) % 3, 4), groups), np.arange(120), DEFAULT)
    assert mask.sum() == 24  # two sources of each of three classes, four views each
    assert not set(groups[mask]) & set(groups[~mask])


def test_a_source_of_several_classes_is_held_out_whole():
    groups = np.repeat(np.arange(40), 10)  # patients, say, with healthy and with ill tissue
    split = labelled(np.random.default_rng(0).integers(0, 2, 400), groups)
    mask = held_out_part(split, np.arange(400), DEFAULT)
    assert not set(groups[mask]) & set(groups[~mask])
    assert len(set(groups[mask])) == 8


def test_sources_of_several_classes_leave_each_class_one_to_fit_on():
    for seed in range(20):
        # Each class has two sources and shares both with others.
        split = labelled([0, 1, 1, 2, 2, 0], [0, 0, 1, 1, 2, 2])
        mask = held_out_part(split, np.arange(6), replace(DEFAULT, seed=seed))
        assert set(split.labels[~mask]) == {0, 1, 2}
        assert mask.any()


def test_sources_of_one_class_are_drawn_class_by_class_and_no_class_moves_another():
    groups = np.tile(np.arange(30), 4)
    labels = groups % 3
    mask, rng = held_out_part(labelled(labels, groups), np.arange(120), DEFAULT), np.random.default_rng(DEFAULT.seed)
    drawn = [rng.permutation(np.arange(label, 30, 3))[:2] for label in range(3)]
    assert np.array_equal(mask, np.isin(groups, drawn))
