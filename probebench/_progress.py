"""What is told about the progress of transfers and sweeps."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told about a transfer or the stages of a sweep. A second `start` for the same file: it begins again."""

    def start(self, what: str, total: int) -> None:
        """A file is begun, of `total` bytes, 0 where that is not known; or a stage of a sweep: ``extract`` of `total`
        images, ``fit`` of `total` taps."""

    def advance(self, count: int) -> None:
        """`count` more bytes, images or taps are done."""


class NullProgress:
    """Progress that nobody is told of."""

    def start(self, stage: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass
