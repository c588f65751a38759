"""Walk through folders of images: which files are images, and how many others there are, by reason.

Nothing is passed over silently: what is not read is counted, and said in one line.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from PIL import Image

from probebench._format import counted, list_some
from probebench.datasets.files import printable
from probebench.errors import DataError, Note

ENDINGS = frozenset(
    (
        *(".apng", ".bmp", ".dib", ".gif", ".j2k", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".jpx", ".mpo", ".pbm"),
        *(".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    )
)
"""Suffixes of image files, in upper or lower case. Other files are images if their content is."""

UNREAD = frozenset((".avif", ".dcm", ".dicom", ".heic", ".heif", ".jxl"))
"""Suffixes of images that not every Pillow reads. They are refused, because leaving them out would lose data."""

PICTURES = frozenset(
    (
        *(".ai", ".arw", ".cr2", ".cr3", ".czi", ".dng", ".eps", ".exr", ".hdr", ".nd2", ".ndpi", ".nef", ".nii"),
        *(".orf", ".pef", ".psd", ".raf", ".rw2", ".svg", ".svs", ".xcf"),
    )
)
"""Suffixes of other pictures, such as raw photographs, which often lie beside a JPEG file: left out with a warning.
Some are TIFF files inside."""

SYSTEM = ("$RECYCLE.BIN", "@eaDir", "System Volume Information", "__MACOSX", "lost+found")
"""Folders that systems and archives leave behind."""

_READ = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "WEBP")
_BEGINS = (
    *(b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF", b"\0\0\0\x0cjP  ", b"\xffO\xffQ"),
    *(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"),
)
_TIFF = (b"II*\0", b"MM\0*")
_UNREAD_BEGINS = (b"\xff\x0a", b"\0\0\0\x0cJXL ")
_UNREAD_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")


class Walk:
    """Finds class folders and images, and counts what it leaves out. One walk reads all folders of a dataset.

    Args:
        root: the folder that names are relative to
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        self._endings: Counter[str] = Counter()
        self._empty: list[str] = []
        self._unread: list[str] = []

    def folders(self, folder: Path) -> list[str]:
        """Return the sorted names of the folders in a folder, and count what lies beside them.

        Raises:
            DataError: if a link among them leads nowhere, so that a class may be missing
        """
        names, dead = [], []
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if is_hidden(entry.name):
                self._leave_out("hidden", entry.path)
            elif entry.is_dir():
                names.append(entry.name)
            elif entry.is_symlink() and not os.path.exists(entry.path) and not _ending(entry.name):
                dead.append(f"{printable(entry.path)} is a link to {printable(os.readlink(entry.path))}")
            else:
                self._leave_out_beside(entry.path)
        if dead:
            raise DataError(f"{list_some(dead)}, which does not exist; restore it, or remove the link")
        # Sorted by code point like torchvision, so that labels agree with networks trained on the same folder.
        return names

    def images(self, folder: Path) -> list[str]:
        """Return the names of the images of a class folder and its subfolders, sorted and relative to `root`.

        Linked folders are read, each folder once; a link to a folder above is not followed.

        Raises:
            DataError: if a folder cannot be read
        """
        known = {_identity(place) for place in (folder, *folder.absolute().parents, *folder.resolve().parents)}
        found, before = [], len(self._unread)
        others = Counter(self._endings)
        for place, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
            folders[:] = [name for name in sorted(folders) if self._enters(os.path.join(place, name), known)]
            found += [path for path in (os.path.join(place, name) for name in names) if self._takes(path)]
        if not found and len(self._unread) == before:
            self._empty.append(f"{printable(folder)}{_only(self._endings - others)}")
        start, above = len(str(folder)), folder.relative_to(self.root).as_posix()
        return sorted((above + path[start:].replace(os.sep, "/") for path in found), key=lambda name: name.split("/"))

    def notes(self) -> tuple[Note, ...]:
        """Return what was left out, as at most one note.

        Raises:
            DataError: if class folders have no images, or some images have a format that is not read
        """
        if self._unread:
            count, example = counted(len(self._unread), "image"), printable(min(self._unread))
            them = "it" if len(self._unread) == 1 else "them"
            raise DataError(
                f"{printable(self.root)} has {count} in an unsupported format, such as {example}; convert {them} to "
                f".png or .jpg, or remove {them}"
            )
        if len(self._empty) == 1:
            raise DataError(f"class folder {self._empty[0]} has no images; fill it or remove it")
        if self._empty:
            listed = list_some(self._empty)
            raise DataError(f"{len(self._empty)} class folders have no images: {listed}; fill them or remove them")
        texts = {
            "loose": "{} outside of class folders",
            "dead": "{} to nowhere",
            "picture": "{} in an unsupported format",
            "again": "{} to a folder that is read already or lies above",
            "other": "{}",
            "hidden": "{}",
        }
        nouns = {"loose": "image", "dead": "link", "again": "link", "other": "other file", "hidden": "hidden item"}
        parts = [
            texts[reason].format(counted(self._counts[reason], nouns.get(reason, reason)))
            + f" ({self._examples[reason]}{', ...' if self._counts[reason] > 1 else ''})"
            for reason in texts
            if self._counts[reason]
        ]
        if not parts:
            return ()
        lost = any(self._counts[reason] for reason in ("loose", "dead", "picture"))
        return (Note("warning" if lost else "info", f"left out {'; '.join(parts)}"),)

    def _enters(self, path: str, known: set[tuple[int, int]]) -> bool:
        """Return whether to read a folder, and remember it."""
        if is_hidden(os.path.basename(path)):
            self._leave_out("hidden", path)
            return False
        identity = _identity(path)
        if identity in known:
            self._leave_out("again", path)
            return False
        known.add(identity)
        return True

    def _takes(self, path: str) -> bool:
        """Return whether a file in a class folder is an image, and count it if it is none."""
        kind = "hidden" if is_hidden(os.path.basename(path)) else _kind(path)
        if kind == "unread":
            self._unread.append(os.path.relpath(path, self.root))
        elif kind != "image":
            self._leave_out(kind, path)
        # An image that links to nowhere is one, too: it has a label, and is an error when it is read.
        return kind == "image"

    def _leave_out_beside(self, path: str) -> None:
        """Count a file that lies beside class folders."""
        kind = _kind(path) if os.path.exists(path) else "dead"
        self._leave_out("loose" if kind in ("image", "unread") else kind, path)

    def _leave_out(self, reason: str, path: str) -> None:
        self._counts[reason] += 1
        if reason not in self._examples:
            self._examples[reason] = printable(os.path.relpath(path, self.root))
        if reason in ("other", "picture"):
            self._endings[_ending(os.path.basename(path)) or "no ending"] += 1


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is left out because of its name: hidden, or left behind by a system."""
    return name.startswith(".") or name in SYSTEM


def _kind(path: str) -> str:
    """Return what a file is, by its ending if that says it, else by its content."""
    ending = _ending(path)
    if ending in ENDINGS:
        return "image"
    return "unread" if ending in UNREAD else "picture" if ending in PICTURES else find_kind(path)


def find_kind(path: str) -> str:
    """Return what a file is by its content: ``image``, ``unread``, ``other``, or ``dead`` for a link to nowhere."""
    if not os.path.isfile(path):
        return "dead" if not os.path.exists(path) else "other"
    try:
        with open(path, "rb") as file:
            head = file.read(160)
            if head.startswith(_UNREAD_BEGINS) or (head[4:8] == b"ftyp" and head[8:12] in _UNREAD_BRANDS):
                return "unread"
            if head[128:132] == b"DICM":
                return "unread"
            # Raw photographs and slides are TIFF files, too, and have an ending that says so.
            tiff = head.startswith(_TIFF) and not _ending(path)
            if not tiff and not head.startswith(_BEGINS):
                return "other"
            file.seek(0)
            with Image.open(file, formats=("TIFF",) if tiff else _READ):
                return "image"
    except Image.DecompressionBombError:
        return "image"  # refused when it is decoded, with the reason
    except Exception:  # Pillow raises many kinds for a file that only begins like an image
        return "other"


def _ending(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _identity(path: str | Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _refuse(error: OSError) -> None:
    raise DataError(f"folder {printable(error.filename)} cannot be read ({error.strerror}); correct its permissions")


def _only(endings: Counter[str]) -> str:
    """Describe the files of a folder without images."""
    listed = list_some((f"{count:,} {ending}" for ending, count in endings.most_common()), most=4)
    return f" (only {listed})" if listed else ""
