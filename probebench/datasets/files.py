"""Image files as lazy sequences of arrays."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk

REMEDY = "replace it with an intact copy, or remove it from the dataset"


class ImageFiles:
    """Image files as a lazy sequence: uint8 arrays of shape (height, width, 3), each decoded when it is indexed.

    Transparent pixels become white.

    Args:
        root: the folder that names are relative to
        names: relative paths with forward slashes, in the order of the labels
        upright: whether to apply the EXIF orientation
    """

    concurrent = True

    def __init__(self, root: Path, names: Sequence[str], *, upright: bool = False) -> None:
        self.root, self.names, self.upright = root, names, upright

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        """Decode an image. Raises DataError if the file is missing or damaged, or has more than 8 bits per channel."""
        path = self.root / self.names[index]
        return decode(path, f"image {path}", upright=self.upright)

    def content(self) -> Iterator[bytes]:
        """Yield bytes that identify each image without decoding it: its name, SHA-256, and whether it is rotated."""
        for name in self.names:
            path = self.root / name
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"image {path} cannot be read ({error.strerror}); {REMEDY}") from error
            rotated = b"\0" if self.upright and _has_orientation(data) else b""
            # Names contain no zero byte and digests have a fixed length, so different lists give different bytes.
            yield name.encode() + b"\0" + hashlib.sha256(data).digest() + rotated


def _has_orientation(data: bytes) -> bool:
    """Return whether `apply_orientation` changes an image file."""
    # The orientation of a PNG may follow its pixels, which Pillow decodes to get there.
    if data.startswith(b"\x89PNG") and not any(word in data for word in (b"eXIf", b"type exif", b"adobe.xmp")):
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation)
            return orientation in range(2, 9) and image.format != "TIFF"  # Pillow always rotates TIFF
    except Exception:  # reported when the image is decoded
        return False


def decode(file: Path | IO[bytes], where: str, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """Decode an image file: uint8, shape (height, width, 3). Transparent pixels become white.

    Args:
        file: a path, or an open file
        where: name of the image in error messages
        upright: whether to apply the EXIF orientation

    Raises:
        DataError: if it is missing or damaged, or grey with more than 8 bits per pixel
    """
    try:
        with Image.open(file) as image:
            deep = name_deep_grey(image)
            pixels = None if deep else np.array(to_rgb(apply_orientation(image) if upright else image))
    except FileNotFoundError:
        raise DataError(f"{where} is missing; {REMEDY}") from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{where} exceeds the size limit of Pillow ({str(error).partition(',')[0]}); scale it down, or split it"
        ) from error
    except Exception as error:  # Pillow's decoders raise many kinds
        raise DataError(f"{where} cannot be decoded ({error}); {REMEDY}") from error
    if pixels is None:
        raise DataError(
            f"{where} has pixels of mode {deep!r}; convert it to 8 bits per channel, all images with the same range"
        )
    return pixels


def name_deep_grey(image: Image.Image) -> str:
    """Return the mode of an image that is grey with more than 8 bits per pixel; empty for other images.

    Such values often use an unknown part of their range (12 bits, Hounsfield units). Pillow would clip them at 255.
    """
    if image.mode.startswith(("I", "F")):
        return image.mode
    # Pillow opens grey and alpha of 16 bits as RGBA; the mode in the file is among the arguments of its decoder.
    for _, _, _, args in getattr(image, "tile", ()):
        mode = args[0] if isinstance(args, tuple) and args else args
        if isinstance(mode, str) and mode.startswith("LA;16"):
            return mode
    return ""


def apply_orientation(image: Image.Image) -> Image.Image:
    """Rotate or mirror an image according to its EXIF orientation, if that is readable."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises many kinds
        return image


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to RGB, transparent pixels to white instead of the arbitrary colour stored there."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def find_listed(root: Path, names: Sequence[str]) -> ImageFiles:
    """Return the image files named in a list.

    Raises:
        NotOnDisk: if some are missing, probably because an archive was unpacked partially
    """
    # List each folder once instead of checking each file: lists are long and disks may be remote.
    present: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder not in present:
            present[folder] = set(os.listdir(root / folder)) if (root / folder).is_dir() else set()
        if file not in present[folder]:
            missing.append(name)
    if missing:
        raise NotOnDisk(
            f"{len(missing)} of {len(names)} listed images are missing, the first {root / missing[0]}. "
            "The archive may have been unpacked partially: unpack it again."
        )
    return ImageFiles(root, names)
