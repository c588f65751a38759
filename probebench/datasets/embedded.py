"""Datasets that need no download, in order of growing shift from glyphvit's pretraining data.

All arithmetic is float64 from fixed seeds and rounded to uint8 once, so that the pixels, and the digest that baselines
depend on, are the same on every machine. That takes a second or two, so what was drawn is kept for the next sweep.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib.resources import as_file, files
from math import cos, log, radians, sin

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy.ndimage import zoom
from skimage.filters import sobel
from skimage.transform import AffineTransform, warp

from probebench.datasets import Split
from probebench.datasets.corrupt import (
    contrast,
    cover_with_snow,
    gaussian_noise,
    motion_blur,
    smear,
    speckle_noise,
    to_uint8,
)

Grey = npt.NDArray[np.float64]

SIDE = 32  # pixels; the input size of glyphvit

GLYPH_CELL = 40
GLYPH_CLASSES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghmnqrtyΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπρστφχψωБДЖИЙЛЦЧШЩЪЫЬЭЮЯвджилнтфцшъюя"
"""The classes of the columns of heldout_glyphs.png, in order."""

# Views of each of the 4 x 97 held-out renders; train and test views are drawn independently.
GLYPH_TRAIN_VIEWS, GLYPH_TEST_VIEWS = 4, 5

GRID_LETTERS = GLYPH_CLASSES[:10]
"""The labels of `letters_grid`."""

# scikit-learn's digits come in the order of their writers; the first half trains, as in scikit-learn's own example.
# Each training digit is jittered twice, the second views behind the first; test digits are jittered once, so that
# test images stay independent of one another.
DIGITS_TRAIN, DIGITS_TRAIN_VIEWS = 898, 2


@cache
def glyphs(step: int = 1) -> tuple[list[str], Split, Split]:
    """Return printed letters in fonts that pretraining never saw: class names, train (1,552), test (1,940).

    Args:
        step: 2 for every second letter, and so on
    """
    renders = _renders()[:, ::step]
    labels = np.tile(np.arange(renders.shape[1]), len(renders))
    renders = renders.reshape(-1, GLYPH_CELL, GLYPH_CELL)
    splits = []
    for seed, views in ((1, GLYPH_TRAIN_VIEWS), (2, GLYPH_TEST_VIEWS)):
        rng = np.random.default_rng(seed)
        images = np.stack([to_uint8(_ink(_jitter(r, 1.0, rng), rng)) for _ in range(views) for r in renders])
        splits.append(Split(images, np.tile(labels, views).astype(np.int64), np.tile(np.arange(len(labels)), views)))
    return list(GLYPH_CLASSES[::step]), splits[0], splits[1]


@cache
def letters_grid() -> tuple[list[str], Split, Split]:
    """Return images of one to four of ten letters in four cells: the letters as labels, train (600), test (400).

    A cell is empty with probability 0.35, and has the later letters less often; no image is empty, because two of them
    could be equal. Labels are int8 of shape (n, 10).
    """
    renders, often = _renders()[:, : len(GRID_LETTERS)], 1 / np.arange(2, 2 + len(GRID_LETTERS))
    splits = []
    for seed, count in ((5, 600), (6, 400)):
        rng = np.random.default_rng(seed)
        labels = np.zeros((count, len(GRID_LETTERS)), dtype=np.int8)
        images = np.zeros((count, SIDE, SIDE))
        half = SIDE // 2
        for image, present in zip(images, labels, strict=True):
            for cell in range(4):
                if rng.random() < 0.35 and (cell < 3 or present.any()):
                    continue
                letter = rng.choice(len(GRID_LETTERS), p=often / often.sum())
                render = renders[rng.integers(len(renders)), letter]
                row, column = half * (cell // 2), half * (cell % 2)
                image[row : row + half, column : column + half] = _jitter(render, half / GLYPH_CELL, rng, side=half)
                present[letter] = 1
        splits.append(Split(np.stack([to_uint8(_ink(image, rng)) for image in images]), labels))
    return list(GRID_LETTERS), splits[0], splits[1]


@cache
def letters_angle() -> tuple[list[str], Split, Split]:
    """Return letters turned by up to 60 degrees, and the angle: target names, train (776), test (388).

    Targets are degrees, float64 of shape (n, 1), counterclockwise.
    """
    renders = _renders().reshape(-1, GLYPH_CELL, GLYPH_CELL)
    splits = []
    for seed, views in ((7, 2), (8, 1)):
        rng = np.random.default_rng(seed)
        degrees = rng.uniform(-60, 60, views * len(renders))
        turned = zip(degrees, list(renders) * views, strict=True)
        images = np.stack([to_uint8(_ink(_jitter(r, 0.9, rng, turn=-radians(d)), rng)) for d, r in turned])
        splits.append(Split(images, degrees[:, None], np.tile(np.arange(len(renders)), views)))
    return ["angle"], splits[0], splits[1]


def _renders() -> Grey:
    """Return the held-out renders, in [0, 1], shape (fonts, letters, GLYPH_CELL, GLYPH_CELL)."""
    with as_file(files("probebench.embedded") / "heldout_glyphs.png") as path, Image.open(path) as sheet:
        pixels = np.asarray(sheet, dtype=np.float64) / 255
    rows, columns = pixels.shape[0] // GLYPH_CELL, len(GLYPH_CLASSES)
    return pixels.reshape(rows, GLYPH_CELL, columns, GLYPH_CELL).swapaxes(1, 2)


def pretraining() -> tuple[list[str], Split, Split]:
    """Return printed letters as in the pretraining of glyphvit: class names, train (97), test (776)."""
    with as_file(files("probebench.embedded") / "pretraining_glyphs.png") as path, Image.open(path) as sheet:
        pixels = np.asarray(sheet)
    rows, columns = pixels.shape[0] // SIDE, len(GLYPH_CLASSES)
    images = pixels.reshape(rows, SIDE, columns, SIDE).swapaxes(1, 2).reshape(-1, SIDE, SIDE)
    labels = np.tile(np.arange(columns, dtype=np.int64), rows)
    return list(GLYPH_CLASSES), Split(images[:columns], labels[:columns]), Split(images[columns:], labels[columns:])


@cache
def digits(corruption: str | None = None) -> tuple[list[str], Split, Split]:
    """Return handwritten digits, jittered and optionally corrupted: class names, train (1,796), test (899).

    Args:
        corruption: a key of `CORRUPTIONS`, applied to both splits, or None
    """
    images, labels, cut = _jittered_digits()
    if corruption is not None:
        corrupt = CORRUPTIONS[corruption]
        rng = np.random.default_rng(4)
        images = np.stack([corrupt(image, rng) for image in images])
    pixels = to_uint8(images)
    sources = np.tile(np.arange(DIGITS_TRAIN), DIGITS_TRAIN_VIEWS)
    return [str(d) for d in range(10)], Split(pixels[:cut], labels[:cut], sources), Split(pixels[cut:], labels[cut:])


@cache
def _jittered_digits() -> tuple[Grey, npt.NDArray[np.int64], int]:
    """Return images in [0, 1], labels, and the number of training images, which come first."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    train, test = np.arange(DIGITS_TRAIN), np.arange(DIGITS_TRAIN, len(bunch.images))
    order = np.concatenate([train] * DIGITS_TRAIN_VIEWS + [test])
    rng = np.random.default_rng(3)
    # An 8 x 8 digit fills 24 of 32 pixels before the jitter.
    images = np.stack([_ink(_jitter(bunch.images[i] / 16.0, 24 / 8, rng), rng) for i in order])
    return images, bunch.target[order].astype(np.int64), len(order) - len(test)


def _jitter(
    image: Grey, scale: float, rng: np.random.Generator, *, side: int = SIDE, turn: float | None = None
) -> Grey:
    """Rotate, shear, scale and shift a square image at random: float64 in [0, 1], shape (side, side).

    Args:
        image: white on black in [0, 1]
        scale: output pixels per input pixel before the random scaling
        turn: radians to rotate by, clockwise; None for a random angle
    """
    angle, shear = rng.uniform(-0.3, 0.3, 2)
    angle = angle if turn is None else turn
    scale = scale * np.exp(rng.uniform(log(0.8), log(1.25)))
    move = rng.uniform(-0.075, 0.075, 2) * side
    matrix = scale * np.array([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]) @ [[1.0, shear], [0.0, 1.0]]
    # Centre to centre, in skimage's convention of pixel centres at integers.
    middle_in, middle_out = (image.shape[0] - 1) / 2, (side - 1) / 2
    offset = middle_out + move - matrix @ [middle_in, middle_in]
    full = np.vstack([np.column_stack([matrix, offset]), [0.0, 0.0, 1.0]])
    out: Grey = warp(image, AffineTransform(full).inverse, output_shape=(side, side), order=3, preserve_range=True)
    np.clip(out, 0.0, 1.0, out=out)
    return out


def _ink(image: Grey, rng: np.random.Generator) -> Grey:
    """Draw the brightness of ink and ground at random, within the range of pretraining."""
    ink, ground = rng.uniform(0.7, 1.0), rng.uniform(0.0, 0.15)
    out: Grey = ground + image * (ink - ground)
    return out


# Corruptions follow the definitions of ImageNet-C (Hendrycks and Dietterich, ICLR 2019, arXiv 1903.12261) with one
# fixed severity each; streaks and flakes are scaled to 32 pixels. Noise is scikit-image's.


def _snow(image: Grey, rng: np.random.Generator) -> Grey:
    flakes = zoom(rng.normal(0.1, 0.3, (SIDE // 2, SIDE // 2)), 2, order=1)
    flakes[flakes < 0.5] = 0.0
    return cover_with_snow(image, smear(np.clip(flakes, 0, 1), 5, 3.0, rng.uniform(45, 135)), 0.7, 0.5)


def _sketch(image: Grey, rng: np.random.Generator) -> Grey:
    edges: Grey = sobel(image)
    edges /= max(float(edges.max()), 1e-12)
    return edges


def _inverted(image: Grey, rng: np.random.Generator) -> Grey:
    return 1.0 - image


CORRUPTIONS: dict[str, Callable[[Grey, np.random.Generator], Grey]] = {
    "contrast": partial(contrast, factor=0.2),
    "gaussian_noise": partial(gaussian_noise, deviation=0.12),
    "speckle_noise": partial(speckle_noise, deviation=0.3),
    "motion_blur": partial(motion_blur, length=9, sigma=5.0),
    "snow": _snow,
    "sketch": _sketch,
    "inverted": _inverted,
}
"""The corruptions of `digits`: functions of a float64 image in [0, 1] of shape (SIDE, SIDE) that return the same."""
