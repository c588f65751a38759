"""Image files as lazy sequences of arrays."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps

from probebench._format import first_lines
from probebench._hardware import available_cores
from probebench.errors import DataError
from probebench.fetch.local import NotOnDisk

T = TypeVar("T")

REMEDY = "replace it with an intact copy, or remove it from the dataset"

_PIECE = 64  # files that one thread reads at a time
_LISTED = 50  # broken images in a message


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
        # Of each file its SHA-256 and a number: 0 if it was not read yet, 1 if it was, 2 if it is rotated, too.
        self._known = np.zeros((len(names), 33), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        """Decode an image. Raises DataError if the file is missing or damaged, or has more than 8 bits per channel."""
        path = self.root / self.names[index]
        return decode(path, f"image {printable(path)}", upright=self.upright)

    def content(self) -> Iterator[bytes]:
        """Yield bytes that identify each image without decoding it: its name, SHA-256, and whether it is rotated."""
        self._identify(range(len(self)))
        for name, known in zip(self.names, self._known, strict=True):
            # Names contain no zero byte and digests have a fixed length, so different lists give different bytes.
            yield os.fsencode(name) + b"\0" + known[:32].tobytes() + (b"\0" if known[32] == 2 else b"")

    def digests(self, rows: npt.NDArray[np.int64], /) -> list[bytes]:
        """Return the SHA-256 of the bytes of some image files."""
        self._identify(rows.tolist())
        return [self._known[row, :32].tobytes() for row in rows]

    def _identify(self, rows: Sequence[int]) -> None:
        """Read those files that were not read yet.

        Raises:
            DataError: if some cannot be read; the message has all of them
        """
        if broken := in_threads(self._identify_piece, rows):
            raise broken_images(broken, len(rows))

    def _identify_piece(self, rows: Sequence[int]) -> list[str]:
        broken = []
        for row in rows:
            if self._known[row, 32]:
                continue
            path = self.root / self.names[row]
            try:
                data = path.read_bytes()
            except OSError as error:
                dead = path.is_symlink() and not path.exists()
                reason = f"link to {printable(os.readlink(path))}, which does not exist" if dead else error.strerror
                broken.append(f"image {printable(path)} cannot be read ({reason}); {REMEDY}")
                continue
            rotated = self.upright and _has_orientation(data)
            self._known[row] = np.frombuffer(hashlib.sha256(data).digest() + (b"\2" if rotated else b"\1"), np.uint8)
        return broken


def in_threads(read: Callable[[Sequence[int]], list[T]], rows: Sequence[int], threads: int | None = None) -> list[T]:
    """Call a function with pieces of some rows, and join what it returns, in order. An interruption ends it at once.

    Args:
        threads: by default as many as there are processor cores
    """
    pool = ThreadPoolExecutor(threads or available_cores())
    try:
        pieces = (rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE))
        return [each for found in pool.map(read, pieces) for each in found]
    finally:
        pool.shutdown(cancel_futures=True)


def broken_images(found: Sequence[str], of: int) -> DataError:
    """Return one error for all images that cannot be read.

    Args:
        found: the message of each, as `decode` raises it
        of: number of images that were tried
    """
    if len(found) == 1:
        return DataError(found[0])
    # The remedy of most of them is said once; those of another kind have another, too.
    lines = "\n  ".join(first_lines([text.removesuffix(f"; {REMEDY}") for text in found], _LISTED))
    remedy = "replace them with intact copies, or remove them from the dataset"
    return DataError(f"{len(found):,} of {of:,} images cannot be read; {remedy}:\n  {lines}")


def as_text(name: str) -> str:
    r"""Return the name of a file as text; bytes that are not UTF-8 are written as ``\xe4``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def printable(path: str | Path) -> str:
    r"""Return a path as one line of text: bytes that are not UTF-8 as ``\xe4``, control characters as ``\n``."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in as_text(str(path)))


def _has_orientation(data: bytes) -> bool:
    """Return whether `apply_orientation` changes an image file."""
    # Opening takes longer than the search. The orientation of a PNG may even follow its pixels, which are decoded then.
    if data.startswith(b"\x89PNG") and not any(word in data for word in (b"eXIf", b"type exif", b"adobe.xmp")):
        return False
    if data.startswith(b"\xff\xd8") and not _jpeg_has_metadata(data):
        return False
    try:
        with Image.open(io.BytesIO(data)) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation)
            return orientation in range(2, 9) and image.format != "TIFF"  # Pillow always rotates TIFF
    except Exception:  # reported when the image is decoded
        return False


def _jpeg_has_metadata(data: bytes) -> bool:
    """Return False if no segment before the pixels of a JPEG file can have an orientation, True if that is not sure."""
    start = 2
    while start + 4 <= len(data) and data[start] == 0xFF:
        marker, length = data[start + 1], int.from_bytes(data[start + 2 : start + 4], "big")
        if marker == 0xDA:  # the pixels follow
            return False
        if marker == 0xE1 and length > 2:  # EXIF or XMP
            return True
        start += 2 + length
    return True


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
        raise DataError(f"{where} has pixels of mode {deep!r}; convert it to 8 bits per channel")
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
