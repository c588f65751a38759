"""Encoded images that are not files of their own, such as rows of a table and members of an archive."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from probebench.datasets.files import _has_orientation, decode


class EncodedImages(ABC):
    """A lazy sequence of encoded images: uint8 arrays of shape (height, width, 3), each decoded when it is indexed.

    Args:
        upright: whether to apply the EXIF orientation
    """

    concurrent = True

    def __init__(self, *, upright: bool) -> None:
        self.upright = upright
        self._known: dict[int, bytes] = {}

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def encoded(self, index: int) -> bytes:
        """Return the bytes of one image. Raises DataError if they cannot be read."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Name an image in error messages."""

    def __getitem__(self, index: int, /) -> npt.NDArray[np.uint8]:
        """Decode an image. Raises DataError as `probebench.datasets.files.decode` does."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        return decode(io.BytesIO(self.encoded(index)), self.name(index), upright=self.upright)

    def content(self) -> Iterator[bytes]:
        """Yield bytes that identify each image without decoding it: its SHA-256, and a mark if it is rotated."""
        for index in range(len(self)):
            yield self._identify(index)

    def digests(self, rows: npt.NDArray[np.int64], /) -> list[bytes]:
        """Return the SHA-256 of the bytes of some images."""
        return [self._identify(index)[:32] for index in rows.tolist()]

    def _identify(self, index: int) -> bytes:
        """Read an image, once in the life of this object."""
        if index not in self._known:
            data = self.encoded(index)
            rotated = b"\0" if self.upright and _has_orientation(data) else b""
            self._known[index] = hashlib.sha256(data).digest() + rotated
        return self._known[index]
