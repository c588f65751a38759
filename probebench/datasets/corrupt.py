"""Corrupt images as CIFAR-10-C was made: five of its corruptions, at its five severities.

The definitions and the parameters are those of Hendrycks and Dietterich, ICLR 2019 (arXiv 1903.12261), and of their
code for 32 x 32 pixels. Their package is no longer maintained. Images differ from theirs in the random draws, in
rounding (theirs cut decimals off), and in the drawing of streaks, which theirs leave to ImageMagick.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import ceil, cos, radians, sin

import numpy as np
import numpy.typing as npt
from scipy.ndimage import convolve, zoom
from skimage.util import random_noise

from probebench.datasets.corruptions import SEVERITIES, check_corruption
from probebench.errors import unknown

Pixels = npt.NDArray[np.float64]
"""An image in [0, 1]: float64, shape (height, width) or (height, width, 3)."""

Corruption = Callable[[Pixels, np.random.Generator], Pixels]

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601)


def corrupt(
    images: npt.NDArray[np.uint8], corruption: str, severity: int = SEVERITIES, seed: int = 0
) -> npt.NDArray[np.uint8]:
    """Return the images corrupted: uint8, of the same shape.

    What is random about an image depends on the seed and on its index, not on the severity: at a higher severity it has
    more of the same noise.

    Args:
        images: uint8, shape (n, height, width) or (n, height, width, 3). The parameters are those for 32 x 32 pixels
        corruption: one of `MADE`
        severity: 1 to 5

    Raises:
        UnknownName: for a corruption or a severity that does not exist, or is not made here
    """
    check_corruption(corruption, severity)
    if corruption not in MADE:
        raise unknown("corruption to make", corruption, MADE)
    apply = MADE[corruption][severity - 1]
    out = np.empty_like(images)
    for index, image in enumerate(images):
        out[index] = to_uint8(apply(image / 255.0, np.random.default_rng([seed, index])))
    return out


def to_uint8(image: Pixels) -> npt.NDArray[np.uint8]:
    """Return an image, or several, in whole numbers from 0 to 255."""
    return np.rint(np.clip(image, 0.0, 1.0) * 255).astype(np.uint8)


def contrast(image: Pixels, rng: np.random.Generator, *, factor: float) -> Pixels:
    """Shrink the differences from the mean of each channel to `factor`."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    out: Pixels = (image - mean) * factor + mean
    return out


def gaussian_noise(image: Pixels, rng: np.random.Generator, *, deviation: float) -> Pixels:
    """Add noise of this standard deviation to each value."""
    out: Pixels = random_noise(image, mode="gaussian", var=deviation**2, rng=rng)
    return out


def speckle_noise(image: Pixels, rng: np.random.Generator, *, deviation: float) -> Pixels:
    """Add noise to each value that is proportional to the value."""
    out: Pixels = random_noise(image, mode="speckle", var=deviation**2, rng=rng)
    return out


def motion_blur(image: Pixels, rng: np.random.Generator, *, length: int, sigma: float) -> Pixels:
    """Blur along a direction of at most 45 degrees from the horizontal."""
    return smear(image, length, sigma, rng.uniform(-45, 45))


def snow(
    image: Pixels,
    rng: np.random.Generator,
    *,
    mean: float,
    deviation: float,
    scale: float,
    least: float,
    length: int,
    sigma: float,
    keep: float,
) -> Pixels:
    """Let it snow.

    Args:
        mean, deviation: of the noise that flakes are made of
        scale: how much it is magnified
        least: of a value that becomes a flake
        length, sigma: of the streaks that flakes draw
        keep: see `cover_with_snow`
    """
    noise = rng.normal(mean, deviation, image.shape[:2])
    side = ceil(image.shape[0] / scale)
    top = (image.shape[0] - side) // 2
    noise = zoom(noise[top : top + side, top : top + side], scale, order=1)
    top = (noise.shape[0] - image.shape[0]) // 2
    noise = noise[top : top + image.shape[0], top : top + image.shape[1]]
    noise[noise < least] = 0.0
    streaks = smear(np.clip(noise, 0, 1), length, sigma, rng.uniform(45, 135))
    return cover_with_snow(image, streaks, keep, 1.5)


def cover_with_snow(image: Pixels, streaks: Pixels, keep: float, lift: float) -> Pixels:
    """Add streaks of snow, and the same turned by half a circle, to an image that is whitened.

    Args:
        streaks: shape (height, width)
        keep: share of the image that is not whitened
        lift: brightness of what is whitened, before a half is added
    """
    grey = image if image.ndim == 2 else (image @ np.array(LUMA))[..., None]
    white = keep * image + (1 - keep) * np.maximum(image, lift * grey + 0.5)
    fallen = streaks + np.rot90(streaks, 2)
    out: Pixels = np.clip(white + (fallen if image.ndim == 2 else fallen[..., None]), 0.0, 1.0)
    return out


def smear(image: Pixels, length: int, sigma: float, angle: float) -> Pixels:
    """Blur along `angle` degrees with a one-sided Gaussian streak of `length` pixels."""
    kernel = np.zeros((2 * length + 1, 2 * length + 1))
    for step in np.linspace(0.0, length, 4 * length + 1):
        row, column = length + step * sin(radians(angle)), length + step * cos(radians(angle))
        kernel[int(np.floor(row + 0.5)), int(np.floor(column + 0.5))] += np.exp(-0.5 * (step / sigma) ** 2)
    kernel /= kernel.sum()
    out: Pixels = convolve(image, kernel if image.ndim == 2 else kernel[..., None], mode="nearest")
    return out


# The streaks of ImageMagick have twice the pixels of the radius that it is given.
MADE: dict[str, list[Corruption]] = {
    "contrast": [partial(contrast, factor=factor) for factor in (0.75, 0.5, 0.4, 0.3, 0.15)],
    "gaussian_noise": [partial(gaussian_noise, deviation=deviation) for deviation in (0.04, 0.06, 0.08, 0.09, 0.1)],
    "motion_blur": [
        partial(motion_blur, length=2 * radius, sigma=sigma)
        for radius, sigma in ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5))
    ],
    "snow": [
        partial(snow, mean=mean, deviation=sd, scale=scale, least=least, length=2 * radius, sigma=sigma, keep=keep)
        for mean, sd, scale, least, radius, sigma, keep in (
            (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
            (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
            (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
            (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
            (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
        )
    ],
    "speckle_noise": [partial(speckle_noise, deviation=deviation) for deviation in (0.06, 0.1, 0.12, 0.16, 0.2)],
}
"""The corruptions of `corrupt`, those of arXiv 2603.05280, by name; each from severity 1 to 5."""
