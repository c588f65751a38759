"""The progress of transfers and sweeps, as those that make it report it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Receives the progress of a transfer, or of the stages of a sweep."""

    def start(self, what: str, total: int) -> None:
        """Begin a file or a stage. A second call for the same file means that its transfer begins again.

        Args:
            what: a file's name; or a stage: ``read``, ``extract``, ``screen``, ``fit`` or ``train``
            total: bytes of the file; images of ``extract``; taps of ``screen`` and ``fit``; 0 if not known
        """

    def advance(self, count: int) -> None:
        """Report that `count` more bytes, images or taps are done."""


class NullProgress:
    """Discards the progress."""

    def start(self, what: str, total: int) -> None:
        pass

    def advance(self, count: int) -> None:
        pass
