"""Unpack archives safely: no member leaves the folder, and results appear only when they are complete."""

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
from probebench.fetch.http import translate_os_errors

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")

# Raised by the standard library for truncated or corrupt archives; so is OSError without an errno.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ValueError,
    RuntimeError,  # encrypted; its subclass NotImplementedError: unknown compression
)


class Damaged(FetchError):
    """An archive that is truncated, corrupt or unsafe, or does not contain what it should."""


def unpack(archive: Path, folder: Path, makes: Path, progress: Progress | None = None) -> None:
    """Unpack a tar (plain or compressed by gzip, bzip2 or xz), a zip, or a single file compressed by gzip.

    Members are first unpacked into a hidden folder inside `folder`, then moved into place, `makes` last. Existing
    folders are merged with, existing files are replaced.

    Args:
        archive: its suffix decides the format
        folder: the folder to unpack into; created if needed
        makes: path inside `folder` that the archive creates

    Raises:
        Damaged: if the archive is truncated or corrupt, does not contain `makes`, or has a member that is outside
            the folder, a device, or behind a link. Nothing is left behind
        FetchError: if the disk is full or cannot be written to (nothing is left behind then either), if the file is
            not an archive, or if `makes` is not inside `folder`
    """
    if not makes.is_relative_to(folder):
        raise FetchError(f"{archive} is unpacked into {folder} and cannot create {makes}: correct `folder` or `makes`")
    temporary = folder / f".{archive.name}.unpacking"
    last = PurePosixPath(makes.relative_to(folder).as_posix())
    extract = _extractor(archive)
    with translate_os_errors(folder):
        if temporary.exists():  # left by a killed process
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        try:
            _extract(extract, archive, temporary, last, progress)
            if not (temporary / last).exists():
                raise _missing_result(archive, last, os.listdir(temporary))
            _merge(temporary, folder, last)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def is_archive(path: Path) -> bool:
    """Return whether `unpack` supports the suffix of a file."""
    return path.name.lower().endswith((*_TARS, ".zip", ".gz"))


def _extractor(archive: Path) -> Callable[[Path, IO[bytes], Path], None]:
    name = archive.name.lower()
    if not is_archive(archive):
        endings = ", ".join((*_TARS, ".zip", ".gz"))
        raise FetchError(f"{archive} cannot be unpacked: its name must end in one of {endings}")
    if name.endswith(_TARS):
        return _untar
    return _unzip if name.endswith(".zip") else _gunzip


def _check_names(archive: Path, last: PurePosixPath) -> None:
    """Raise Damaged if `last` is not in the archive. Only for formats whose member names are quick to read."""
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
        raise _missing_result(archive, last, {name.partition("/")[0] for name in names})


def _missing_result(archive: Path, last: PurePosixPath, found: Iterable[str]) -> Damaged:
    names = sorted(found)
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Damaged(f"{archive} should contain {last}, but contains {', '.join(names[:3]) or 'nothing'}{more}")


def _extract(
    extract: Callable[[Path, IO[bytes], Path], None],
    archive: Path,
    folder: Path,
    last: PurePosixPath,
    progress: Progress | None,
) -> None:
    try:
        _check_names(archive, last)
        with _ProgressFile(archive, progress) as raw:
            extract(archive, raw, folder)
    except _BROKEN as error:
        raise Damaged(f"{archive} is truncated or damaged ({error})") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise Damaged(f"{archive} is truncated or damaged ({error})") from error


class _ProgressFile(io.FileIO):
    """A file that reports how far it has been read."""

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


class _MemberCheck:
    """Refuse members and links that would leave the folder.

    The extraction filters of the standard library are used as well, but they accept absolute names without their slash,
    and those of older versions can be deceived by chains of links. Here nothing is written through a link, and ``..``
    is only allowed at the start of a link target, where it refers to real folders, so no chain of links leads out.
    """

    def __init__(self, archive: Path) -> None:
        self._archive = archive
        self._links: set[PurePosixPath] = set()

    def resolve(self, name: str) -> PurePosixPath:
        parts = re.split(r"[/\\]", name)
        if not parts[0] or re.match("[A-Za-z]:", name) or ".." in parts or "\0" in name:
            self.refuse(name, "is outside the folder it is unpacked into")
        path = PurePosixPath(*parts)
        if not self._links.isdisjoint(path.parents):
            self.refuse(name, "is behind a link")
        return path

    def add_link(self, path: PurePosixPath, target: str, start: PurePosixPath) -> None:
        """Check and record a link at `path` to `target`, a path relative to `start`."""
        parts = target.split("/")
        ups = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
        if not parts[0] or ".." in parts[ups:] or "\\" in target or ups > len(start.parts):
            self.refuse(str(path), f"is a link to {target!r}, which leaves the folder it is unpacked into")
        self._links.add(path)

    def refuse(self, name: str, why: str) -> None:
        raise Damaged(f"{self._archive} is not safe: its member {name!r} {why}; nothing was unpacked")


def _untar(archive: Path, raw: IO[bytes], folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise FetchError("unpacking tar files safely needs Python 3.11.4 or newer")
    check = _MemberCheck(archive)
    with _decompress(archive, raw) as plain:
        last = _LastBlockReader(plain)
        with tarfile.open(fileobj=cast(IO[bytes], last), mode="r:") as tar:
            for member in tar:
                path = check.resolve(member.name)
                if member.issym():
                    check.add_link(path, member.linkname, path.parent)
                elif member.islnk():
                    check.add_link(path, member.linkname, PurePosixPath())
                elif not (member.isreg() or member.isdir()):
                    check.refuse(member.name, "is a device or a pipe")
                tar.extract(member, folder, filter="data")
        # tarfile treats anything that is not a header as the end. The real end is a block of zeros.
        if last.block != bytes(tarfile.BLOCKSIZE):
            raise EOFError("the end is missing")
        while plain.read(1 << 20):  # read up to the checksum at the end of compressed data
            pass


def _decompress(archive: Path, raw: IO[bytes]) -> IO[bytes]:
    name = archive.name.lower()
    if name.endswith("gz"):
        return cast(IO[bytes], gzip.GzipFile(fileobj=raw))
    if name.endswith(".bz2"):
        return cast(IO[bytes], bz2.BZ2File(raw))
    return cast(IO[bytes], lzma.LZMAFile(raw)) if name.endswith(".xz") else raw


class _LastBlockReader:
    """A file that remembers the last block read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.block = file, b""
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self.block = self._file.read(size)
        return self.block


def _unzip(archive: Path, raw: IO[bytes], folder: Path) -> None:
    check = _MemberCheck(archive)
    with zipfile.ZipFile(raw) as zipped:
        for member in zipped.infolist():
            path = check.resolve(member.orig_filename)
            place = folder / path
            kind = stat.S_IFMT(member.external_attr >> 16)
            if member.is_dir():
                place.mkdir(parents=True, exist_ok=True)
                continue
            place.parent.mkdir(parents=True, exist_ok=True)
            if kind == stat.S_IFLNK:
                target = os.fsdecode(zipped.read(member))
                check.add_link(path, target, path.parent)
                place.symlink_to(target)
            elif os.path.lexists(place):
                check.refuse(member.filename, "occurs twice")
            elif kind in (0, stat.S_IFREG):
                with zipped.open(member) as source, place.open("xb") as out:
                    shutil.copyfileobj(source, out, 1 << 20)
            else:
                check.refuse(member.filename, "is a device or a pipe")


def _gunzip(archive: Path, raw: IO[bytes], folder: Path) -> None:
    with gzip.open(raw) as source, (folder / archive.name[: -len(".gz")]).open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def _merge(source: Path, folder: Path, last: PurePosixPath) -> None:
    """Move the contents of `source` into `folder`.

    Args:
        last: path inside `source` that is moved last; empty if the order does not matter
    """
    final = last.parts[0] if last.parts else ""
    for entry in sorted(source.iterdir(), key=lambda entry: (entry.name == final, entry.name)):
        place = folder / entry.name
        real = entry.is_dir() and not entry.is_symlink()
        if place.is_dir() and not (real and not place.is_symlink()):
            kind = "a link to a folder" if place.is_symlink() else "a folder"
            raise FetchError(f"{place} is {kind}, but the archive has a file of this name; move it away")
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
            _merge(entry, place, inner)  # created meanwhile by another process, from another archive
