"""Files: written whole or not at all, made, checked, named."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from probebench.errors import StoreError


def expand_path(given: str | Path) -> Path:
    """A path as a user writes it, with ``~`` and environment variables expanded; as it is if there is no home."""
    return Path(os.path.expanduser(os.path.expandvars(given)))


def own_folder(variable: str, name: str) -> Path:
    """The folder that an environment variable names, or else that of a name in ``~/.cache/probebench``.

    Raises:
        StoreError: if there is neither
    """
    path = Path(os.environ.get(variable) or f"~/.cache/probebench/{name}")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise StoreError(f"this user has no home directory, where {path} would be: set HOME or {variable}") from error


def is_special(path: Path) -> bool:
    """Return True for what is no regular file, such as a device or a pipe, and cannot be replaced by one."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    # Through /dev/stdout, also a regular file is written to by others.
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)) or path.is_relative_to("/dev") or path.is_relative_to("/proc")


def follow(path: Path) -> Path:
    """The file that a path leads to through symbolic links, whether it is there or not."""
    return Path(os.path.realpath(path))


def write(path: Path, content: bytes | str) -> None:
    """Replace a file's content, creating its directories. Links are followed, and a device or a pipe is written to.

    Raises:
        StoreError: if it cannot be written; the old content is then untouched
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        if is_special(path):
            with path.open("ab") as file:
                file.write(data)
        else:
            _replace(follow(path), data)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    make_folder(path.parent)
    try:
        # Not by mkstemp, which makes files private: what they may be otherwise is known from the umask only, and who
        # asks for that sets it, for all threads.
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(OSError):
            shutil.copymode(path, temporary)  # of the file that is replaced, if there is one
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those that it is in, unless it is there.

    Raises:
        OSError: if it cannot be made
    """
    for last in (False, False, True):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            return
        except FileNotFoundError:  # a run that ended has removed an empty one between the making of two
            if last:
                raise


def keep_out_of_git(folder: Path) -> None:
    """Make a folder that git does not see.

    Raises:
        StoreError: if it cannot be made
    """
    if not (folder / ".gitignore").exists():
        write(folder / ".gitignore", "# made by probebench\n*\n")


def check_writable(path: Path, option: str) -> None:
    """Find out before any work whether a file can be written later.

    Raises:
        StoreError: naming the option to change
    """
    if path.is_dir():
        raise StoreError(f"{option}: {path} is a directory")
    if is_special(path):
        if not os.access(path, os.W_OK):
            raise StoreError(f"{option}: {path} cannot be written to")
        return
    parent = (follow(path) if path.is_symlink() else path).parent
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise StoreError(f"{option}: {parent} is not a directory")
    try:
        # Asking by access() is wrong on network and read-only mounts; a real file is the only sure way.
        with tempfile.TemporaryFile(dir=parent) as file:
            file.write(bytes(1 << 16))  # there is no room for it on a full disk
    except OSError as error:
        raise StoreError(f"{option}: {parent} cannot be written to ({error.strerror or error})") from error


def md5_of(path: Path) -> str:
    """The MD5 of a file in hexadecimal digits. Raises OSError if it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def relative(path: Path) -> str:
    """A path as a user would type it from here."""
    try:
        return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)
    except OSError:
        return str(path)
