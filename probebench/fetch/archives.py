"""Unpack an archive: nothing leaves its folder, and nothing appears before all of it is there."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from probebench._progress import Progress
from probebench.errors import FetchError
from probebench.fetch.http import storing

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# What the standard library raises for archives that are cut off or garbled; OSError without a number, too.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,  # a password; NotImplementedError, an unknown compression
)


class Damaged(FetchError):
    """An archive that is cut off, garbled, unsafe, or without what it should hold."""


def unpack(archive: Path, folder: Path, makes: Path, progress: Progress | None = None) -> None:
    """Unpack a tar, also compressed by gzip, bzip2 or xz, a zip, or one file compressed by gzip.

    Members are first unpacked into a hidden folder inside `folder`, then moved into place, `makes` last. Folders that
    are there already are merged with, files replaced.

    Args:
        archive: its name says what it is
        folder: where it is unpacked; made if need be
        makes: what is there afterwards that was not before, inside `folder`

    Raises:
        Damaged: if the archive is cut off or garbled, does not hold `makes`, or has a member that would lie outside
            the folder, is a device, or is reached through a link; nothing is left behind
        FetchError: if the disk is full or cannot be written to, nothing is left behind then, too; or if the file is no
            archive, or `makes` not inside `folder`
    """
    if not makes.is_relative_to(folder):
        raise FetchError(f"{archive} is unpacked into {folder}, and cannot make {makes}: correct folder or makes")
    temporary = folder / f".{archive.name}.unpacking"
    last = PurePosixPath(makes.relative_to(folder).as_posix())
    extract = _extractor(archive)
    with storing(folder):
        if temporary.exists():  # of a process that was killed
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        try:
            _extract(extract, archive, temporary, last, progress)
            if not (temporary / last).exists():
                raise _lacks(archive, last, os.listdir(temporary))
            _merge(temporary, folder, last)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_archive(path: Path) -> bool:
    """Whether a name says that `unpack` can unpack the file."""
    return path.name.lower().endswith((*_TARS, ".zip", ".gz"))


def _extractor(archive: Path) -> Callable[[Path, IO[bytes], Path], None]:
    name = archive.name.lower()
    if not is_archive(archive):
        endings = ", ".join((*_TARS, ".zip", ".gz"))
        raise FetchError(f"{archive} is no archive that can be unpacked: its name ends in none of {endings}")
    if name.endswith(_TARS):
        return _untar
    return _unzip if name.endswith(".zip") else _gunzip


def _check_names(archive: Path, last: PurePosixPath) -> None:
    """Raises Damaged for an archive without what it should make, before any work, where names are quickly read."""
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            names = zipped.namelist()
    elif archive.name.lower().endswith(".tar"):
        with tarfile.open(archive, "r:") as tar:
            names = tar.getnames()
    else:
        return
    wanted = str(last)
    names = [name.replace("\\", "/").removeprefix("./").rstrip("/") for name in names]
    if not any(name == wanted or name.startswith(f"{wanted}/") for name in names):
        raise _lacks(archive, last, {name.partition("/")[0] for name in names})


def _lacks(archive: Path, last: PurePosixPath, found: Iterable[str]) -> Damaged:
    names = sorted(found)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Damaged(f"{archive} should make {last}, and holds {', '.join(names[:3]) or 'nothing'}{more}")


def _extract(
    extract: Callable[[Path, IO[bytes], Path], None],
    archive: Path,
    folder: Path,
    last: PurePosixPath,
    progress: Progress | None,
) -> None:
    try:
        _check_names(archive, last)
        with _Counted(archive, progress) as raw:
            extract(archive, raw, folder)
    except _BROKEN as error:
        raise Damaged(f"{archive} is cut off or damaged ({error})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damaged(f"{archive} is cut off or damaged ({error})") from error


class _Counted(io.FileIO):
    """A file whose reading is progress."""

    def __init__(self, path: Path, progress: Progress | None) -> None:
        super().__init__(path)
        self._progress, self._furthest = progress, 0
        if progress is not None:
            progress.start(f"unpack {path.name}", path.stat().st_size)

    def readinto(self, buffer: Any, /) -> int:
        count = super().readinto(buffer) or 0
        self._count()
        return count

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(-1 if size is None else size) or b""
        self._count()
        return data

    def _count(self) -> None:
        if self._progress is not None and (more := self.tell() - self._furthest) > 0:
            self._furthest += more
            self._progress.advance(more)


class _Names:
    """What members may be called, and what links may point to.

    The extraction filters of the standard library are used as well; they let absolute names pass without the slash, and
    those of older versions can be deceived by chains of links. Here nothing is written through a link, and ``..`` is
    only allowed at the start of a link, where it means real folders: so no chain of links leads out.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._links: set[PurePosixPath] = set()

    def member(self, name: str) -> PurePosixPath:
        parts = re.split(r"[/\\]", name)
        if not parts[0] or re.match("[A-Za-z]:", name) or ".." in parts or "\0" in name:
            self.refuse(name, "lies outside the folder that it is unpacked into")
        path = PurePosixPath(*parts)
        if not self._links.isdisjoint(path.parents):
            self.refuse(name, "lies behind a link")
        return path

    def link(self, path: PurePosixPath, target: str, start: PurePosixPath) -> None:
        """A link at `path` to `target`, which is read from `start`."""
        parts = target.split("/")
        ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
        if not parts[0] or ".." in parts[ups:] or "\\" in target or ups > len(start.parts):
            self.refuse(str(path), f"is a link to {target!r}, which leaves the folder that it is unpacked into")
        self._links.add(path)

    def refuse(self, name: str, why: str) -> None:
        raise Damaged(f"{self._archive} is not safe: its member {name!r} {why}; nothing of it is unpacked")


def _untar(archive: Path, raw: IO[bytes], folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise FetchError("unpacking tar files safely needs Python 3.11.4 or newer")
    names = _Names(archive)
    with _plain(archive, raw) as plain:
        last = _Last(plain)
        with tarfile.open(fileobj=cast(IO[bytes], last), mode="r:") as tar:
            for member in tar:
                path = names.member(member.name)
                if member.issym():
                    names.link(path, member.linkname, path.parent)
                elif member.islnk():
                    names.link(path, member.linkname, PurePosixPath())
                elif not (member.isreg() or member.isdir()):
                    names.refuse(member.name, "is a device or a pipe")
                tar.extract(member, folder, filter="data")
        # tarfile takes whatever is no header for the end. The true end is a block of zeros.
        if last.block != bytes(tarfile.BLOCKSIZE):
            raise EOFError("its end is missing")
        while plain.read(1 << 20):  # to the checksum behind compressed data
            pass


def _plain(archive: Path, raw: IO[bytes]) -> IO[bytes]:
    name = archive.name.lower()
    if name.endswith("gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if name.endswith(".bz2"):
        return cast(IO[bytes], bz2.BZ2File(raw))
    return cast(IO[bytes], lzma.LZMAFile(raw)) if name.endswith(".xz") else raw


class _Last:
    """A file that remembers what was read last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.block = file, b""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self.block = self._file.read(size)
        return self.block


def _unzip(archive: Path, raw: IO[bytes], folder: Path) -> None:
    names = _Names(archive)
    with zipfile.ZipFile(raw) as zipped:
        for member in zipped.infolist():
            path = names.member(member.orig_filename)
            place = folder / path
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == stat.S_IFLNK:
                target = os.fsdecode(zipped.read(member))
                names.link(path, target, path.parent)
                place.symlink_to(target)
            elif os.path.lexists(place):
                names.refuse(member.filename, "is in it twice")
            elif kind in (0, stat.S_IFREG):
                with zipped.open(member) as source, place.open("xb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
            else:
                names.refuse(member.filename, "is a device or a pipe")


def _gunzip(archive: Path, raw: IO[bytes], folder: Path) -> None:
    with gzip.open(raw) as source, (folder / archive.name[: -len(".gz")]).open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def _merge(source: Path, folder: Path, last: PurePosixPath) -> None:
    """Move what is in `source` into `folder`, `last` at the end.

    Args:
        last: a path inside `source`; empty where the order does not matter
    """
    final = last.parts[0] if last.parts else ""
    for entry in sorted(source.iterdir(), key=lambda entry: (entry.name == final, entry.name)):
        place = folder / entry.name
        real = entry.is_dir() and not entry.is_symlink()
        if place.is_dir() and not (real and not place.is_symlink()):
            kind = "a link to a folder" if place.is_symlink() else "a folder"
            raise FetchError(f"{place} is {kind}, and should be replaced by what is unpacked; move it away")
        inner = PurePosixPath(*last.parts[1:]) if entry.name == final else PurePosixPath()
        if place.is_dir():
            _merge(entry, place, inner)
            continue
        if real and os.path.lexists(place):
            place.unlink()  # a file where a folder belongs
        try:
            os.replace(entry, place)
        except OSError:
            if not real or place.is_symlink() or not place.is_dir():
                raise
            _merge(entry, place, inner)  # another process has made it since, of another archive
