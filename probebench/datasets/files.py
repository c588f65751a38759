"""Images that stay in their files until they are looked at."""

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

WHAT_TO_DO = "replace it by a whole copy, or remove it from the dataset"


class ImageFiles:
    """Image files as a lazy sequence: uint8 arrays of shape (height, width, 3), each decoded when it is indexed.

    Transparent images are laid on white.

    Args:
        root: the folder that names are relative to
        names: relative paths with forward slashes, in the order of the labels
        upright: whether images are turned as their EXIF orientation says
    """

    concurrent = True

    def __init__(self, root: Path, names: Sequence[str], *, upright: bool = False) -> None:
        self.root, self.names, self.upright = root, names, upright

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        """Raises DataError for a file that is missing, damaged, or that eight bits a channel cannot hold."""
        path = self.root / self.names[index]
        return decode(path, f"image {path}", upright=self.upright)

    def content(self) -> Iterator[bytes]:
        """What identifies the images without decoding them: each name, the SHA-256 of its file, and if it is turned."""
        for name in self.names:
            path = self.root / name
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"image {path} cannot be read ({error.strerror}); {WHAT_TO_DO}") from error
            turned = b"\0" if self.upright and _has_orientation(data) else b""
            # A name holds no zero byte and a digest has one length: no two lists give the same bytes.
            yield name.encode() + b"\0" + hashlib.sha256(data).digest() + turned


def _has_orientation(data: bytes) -> bool:
    """Whether an image file says that it is to be turned."""
    # A PNG may say so behind its pixels, and Pillow decodes those to get there.
    if data.startswith(b"\x89PNG") and not any(word in data for word in (b"eXIf", b"type exif", b"adobe.xmp")):
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation)
            return orientation in range(2, 9) and image.format != "TIFF"  # which Pillow turns whoever asks
    except Exception:  # what cannot be read is named when it is decoded
        return False


def decode(file: Path | IO[bytes], where: str, *, upright: bool = False) -> npt.NDArray[np.uint8]:
    """An image file as an array: uint8, shape (height, width, 3). Transparent images are laid on white.

    Args:
        file: a path, or an open file
        where: what to call it in errors
        upright: whether it is turned as its EXIF orientation says

    Raises:
        DataError: if it is missing, damaged, or eight bits a channel cannot hold it
    """
    try:
        with Image.open(file) as image:
            mode = image.mode
            # Pillow would clip 16 bits at 255 and hand back a white image.
            pixels = None if mode.startswith(("I", "F")) else np.array(on_white(turned(image) if upright else image))
    except FileNotFoundError:
        raise DataError(f"{where} is missing; {WHAT_TO_DO}") from None
    except Image.DecompressionBombError as error:
        raise DataError(
            f"{where} is larger than Pillow reads ({str(error).partition(',')[0]}); scale it down, or cut it into parts"
        ) from error
    except Exception as error:  # Pillow's decoders raise whatever they trip over
        raise DataError(f"{where} cannot be decoded ({error}); {WHAT_TO_DO}") from error
    if pixels is None:
        raise DataError(f"{where} has pixels of mode {mode!r}; convert it to 8 bits a channel")
    return pixels


def turned(image: Image.Image) -> Image.Image:
    """An image as its EXIF orientation says it is seen; as it is where it says nothing that can be read."""
    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF trips many kinds
        return image


def on_white(image: Image.Image) -> Image.Image:
    """An image as RGB. Where it is transparent white shows, not the colour that happens to lie under it."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def listed(root: Path, names: Sequence[str]) -> ImageFiles:
    """Image files that a list names.

    Raises:
        NotOnDisk: if some are missing, which is how a download or an archive that was stopped half-way looks
    """
    # One look at each folder, not one at each file: lists are long and disks may be far away.
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
            "The archive may have been unpacked in part: unpack it again."
        )
    return ImageFiles(root, names)
