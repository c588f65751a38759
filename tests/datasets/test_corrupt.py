"""Corruptions of CIFAR-10-C, against what their definitions say of means, variances and shapes."""

from __future__ import annotations

import numpy as np
import pytest

from probebench.datasets.corrupt import MADE, corrupt, cover_with_snow, smear
from probebench.errors import UnknownName

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(60, 200, (12, 32, 32, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
FLAT = np.full((40, 32, 32, 3), 128, dtype=np.uint8)


def as_unit(images):
    return images / 255.0


@pytest.mark.parametrize("name", MADE)
def test_shape_type_and_determinism(name):
    for images in (COLOUR, GREY):
        first = corrupt(images, name, 3)
        assert first.shape == images.shape
        assert first.dtype == np.uint8
        assert np.array_equal(first, corrupt(images, name, 3))
        # An image is corrupted in the same way whatever comes after it.
        assert np.array_equal(first[:2], corrupt(images[:2], name, 3))


@pytest.mark.parametrize("name", MADE)
def test_each_severity_changes_images_more_than_the_one_before(name):
    smooth = np.repeat(np.repeat(RNG.integers(0, 256, (24, 8, 8, 3), dtype=np.uint8), 4, 1), 4, 2)
    changes = [
        np.sqrt(np.mean((as_unit(corrupt(smooth, name, severity)) - as_unit(smooth)) ** 2)) for severity in range(1, 6)
    ]
    if name == "snow":  # its third severity covers less than its second, but each of the last two more
        assert changes[0] < changes[1] < changes[3] < changes[4]
    else:
        assert changes == sorted(changes)
        # Severities 3 and 4 of motion blur differ in the length of a streak only, beyond six of its deviations.
        assert len(set(changes)) == (4 if name == "motion_blur" else 5)


def test_another_seed_draws_other_noise_and_contrast_draws_none():
    assert not np.array_equal(corrupt(COLOUR, "gaussian_noise", seed=1), corrupt(COLOUR, "gaussian_noise", seed=2))
    assert np.array_equal(corrupt(COLOUR, "contrast", seed=1), corrupt(COLOUR, "contrast", seed=2))


@pytest.mark.parametrize(("severity", "factor"), [(1, 0.75), (2, 0.5), (3, 0.4), (4, 0.3), (5, 0.15)])
def test_contrast_keeps_the_mean_of_each_channel_and_shrinks_deviations(severity, factor):
    out = corrupt(COLOUR, "contrast", severity).astype(float)
    assert np.allclose(out.mean(axis=(1, 2)), COLOUR.mean(axis=(1, 2)), atol=0.35)  # halves are rounded to even numbers
    assert np.allclose(out.std(axis=(1, 2)), factor * COLOUR.std(axis=(1, 2)), rtol=0.03)


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.04), (2, 0.06), (3, 0.08), (4, 0.09), (5, 0.1)])
def test_gaussian_noise_has_its_deviation_and_is_drawn_for_each_channel(severity, deviation):
    noise = as_unit(corrupt(FLAT, "gaussian_noise", severity)) - as_unit(FLAT)
    assert noise.std() == pytest.approx(deviation, rel=0.02)
    assert abs(noise.mean()) < 0.002
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02


@pytest.mark.parametrize(("severity", "deviation"), [(1, 0.06), (2, 0.1), (3, 0.12), (4, 0.16), (5, 0.2)])
def test_speckle_noise_is_proportional_to_the_brightness(severity, deviation):
    for value in (40, 120):
        flat = np.full((40, 32, 32), value, dtype=np.uint8)
        noise = as_unit(corrupt(flat, "speckle_noise", severity)) - as_unit(flat)
        assert noise.std() == pytest.approx(deviation * value / 255, rel=0.03)


def test_the_same_noise_grows_with_the_severity():
    weak, strong = (as_unit(corrupt(FLAT, "gaussian_noise", severity)) - as_unit(FLAT) for severity in (1, 5))
    assert np.corrcoef(weak.ravel(), strong.ravel())[0, 1] > 0.99


def test_motion_blur_keeps_the_mean_and_smooths_along_a_direction():
    stripes = np.zeros((30, 32, 32), dtype=np.uint8)
    stripes[:, :, ::4] = 200  # upright lines, which a blur of at most 45 degrees from the horizontal crosses
    out = corrupt(stripes, "motion_blur", 5)
    assert out.std() < 0.5 * stripes.std()
    flat = corrupt(FLAT, "motion_blur", 5)
    assert np.array_equal(flat, FLAT)


def test_a_streak_is_one_sided_gaussian_of_unit_sum():
    point = np.zeros((41, 41))
    point[20, 20] = 1.0
    out = smear(point, 12, 4.0, 0.0)
    assert out.sum() == pytest.approx(1.0)
    row = out[20]
    assert out[[*range(20), *range(21, 41)]].sum() == 0
    reached = np.flatnonzero(row)
    assert len(reached) == 13
    assert 20 in (reached[0], reached[-1])
    ratio = np.sort(row[reached])[::-1]
    assert ratio[4] / ratio[0] == pytest.approx(np.exp(-0.5), rel=0.6)
    colour = smear(np.dstack([point, point * 0.5, point * 0]), 12, 4.0, 0.0)
    assert np.allclose(colour[..., 0], out)
    assert np.allclose(colour[..., 1], out / 2)
    assert not colour[..., 2].any()


def test_snow_whitens_and_falls_on_all_channels_alike():
    dark = np.full((20, 32, 32, 3), 40, dtype=np.uint8)
    out = corrupt(dark, "snow", 5).astype(int)
    assert out.min() >= 40
    assert out.mean() > 70
    assert np.ptp(out, axis=3).max() == 0


def test_snow_on_colour_whitens_by_the_brightness_that_eyes_see():
    green = np.zeros((2, 2, 3))
    green[..., 1] = 1.0
    out = cover_with_snow(green, np.zeros((2, 2)), 0.8, 1.5)
    assert np.allclose(out[..., 0], 0.2 * (1.5 * 0.587 + 0.5))
    assert np.allclose(out[..., 1], 1.0)


@pytest.mark.parametrize(
    ("name", "severity", "said"),
    [("contrst", 5, "contrast"), ("contrast", 6, "severity"), ("fog", 5, "contrast, gaussian_noise, motion_blur")],
)
def test_what_cannot_be_made_is_refused_by_name(name, severity, said):
    with pytest.raises(UnknownName, match=said):
        corrupt(COLOUR, name, severity)
