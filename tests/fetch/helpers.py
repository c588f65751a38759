"""Small archives, good and bad, and what to look at afterwards."""

from __future__ import annotations

import bz2
import errno
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from pathlib import Path


class Recorder:
    def __init__(self):
        self.started: list[tuple[str, int]] = []
        self.done = 0

    def start(self, what, total):
        self.started.append((what, total))
        self.done = 0

    def advance(self, count):
        self.done += count


def left(folder: Path) -> list[str]:
    """What lies in a folder, less the locks."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FILES = {"top/a.txt": b"a" * 5000, "top/deep/b.txt": b"b" * 70_000, "readme": b"r"}


def tar_of(files: dict[str, bytes], *members: tarfile.TarInfo, compress=bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for member in members:
            tar.addfile(member)
    return compress(out.getvalue())


def zip_of(files: dict[str, bytes], links: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            zipped.writestr(info, target)
    return out.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


KINDS = {
    "a.tar": tar_of(FILES),
    "a.tar.gz": tar_of(FILES, compress=gzip.compress),
    "a.tgz": tar_of(FILES, compress=gzip.compress),
    "a.tar.bz2": tar_of(FILES, compress=bz2.compress),
    "a.tar.xz": tar_of(FILES, compress=lzma.compress),
    "a.zip": zip_of(FILES),
}


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def packed(tmp_path: Path, name: str, content: bytes) -> Path:
    archive = tmp_path / name
    archive.write_bytes(content)
    return archive
