"""Entries in a directory, one file each.

A file is, in this order (integers big-endian): magic ``b"jbcf"``; expiry in seconds since the
epoch, 8 bytes, 0 for never; length of the key in bytes, 2 bytes; the key; the value.
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from django_jinja_bccache.exceptions import (
    ConfigurationError,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import LARGEST_VALUE, StoredItem, StoreUsage

_HEADER = struct.Struct(">4sQH")
_MAGIC = b"jbcf"
_DIGITS = 40
_LONGEST_KEY = 4096
# A byte more than there can be is enough to see that there are too many.
_LARGEST_FILE = _HEADER.size + _LONGEST_KEY + LARGEST_VALUE + 1
# A writer that has not finished after a minute was killed.
_ORPHAN_AGE = 60
# A named pipe in a file's place must not hold us, nor a link lead us away.
_READ_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class _Header(NamedTuple):
    """What stands before the value in a file."""

    key: str
    expires: int
    size: int

    @classmethod
    def read_from(cls, content: bytes) -> _Header | None:
        """Return the header that content begins with, None if it is not one of ours."""
        if len(content) < _HEADER.size:
            return None
        magic, expires, key_size = _HEADER.unpack_from(content)
        size = _HEADER.size + key_size
        if magic != _MAGIC or len(content) < size:
            return None
        key = content[_HEADER.size : size].decode("utf-8", "surrogateescape")
        return cls(key, expires, size)


class FileSystemStore:
    """A store in a directory that it makes when it is first needed.

    Directories are made with mode 0700, files with 0600; a file appears whole or not at all.

    Args:
        directory: Where the files lie.
        pattern: A file's name, in which ``%s`` stands for the digest of the key.

    Raises:
        ConfigurationError: The pattern has not exactly one ``%s``, or holds a path separator.
    """

    def __init__(self, directory: str | os.PathLike[str], pattern: str = "%s.bytecode") -> None:
        head, placeholder, tail = pattern.partition("%s")
        if not placeholder or "%" in head + tail or os.sep in pattern or "\0" in pattern:
            raise ConfigurationError(
                f"pattern {pattern!r}: it must be a file name with exactly one %s in it, "
                "such as '__jinja2_%s.cache'."
            )
        self._directory = Path(directory)
        self._pattern = pattern
        self._head, self._tail = head, tail
        self._temporary_prefix = head + ".new-"

    @cached_property
    def _own_name(self) -> re.Pattern[str]:
        digest = rf"[0-9a-f]{{{_DIGITS}}}"
        return re.compile(re.escape(self._head) + digest + re.escape(self._tail))

    @cached_property
    def _temporary_name(self) -> re.Pattern[str]:
        unique = r"[a-z0-9_]{8}"  # what tempfile puts between them
        return re.compile(re.escape(self._temporary_prefix) + unique + re.escape(self._tail))

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        try:
            content, _ = _read(self._path(key), _LARGEST_FILE)
        except FileNotFoundError:
            return None
        except OSError as error:
            if os.access(self._directory, os.X_OK) and os.path.isdir(self._directory):
                return None  # this one file cannot be read; the next set() replaces it
            raise StoreUnavailable(str(error)) from error
        header = _Header.read_from(content)
        if header is None or header.key != key or 0 < header.expires <= time.time():
            return None
        return content[header.size :]

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        values = ((key, self.get(key)) for key in keys)
        return {key: value for key, value in values if value is not None}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        try:
            encoded = key.encode()
        except UnicodeEncodeError as error:
            raise StoreError(f"The key {key!r} cannot be written to a file.") from error
        if len(value) > LARGEST_VALUE:
            raise ValueTooLarge(len(value), LARGEST_VALUE)
        if len(encoded) > _LONGEST_KEY:
            raise StoreError(f"A key of {len(encoded)} bytes is too long for a file.")
        expires = 0 if timeout is None else math.ceil(time.time() + timeout)
        header = _HEADER.pack(_MAGIC, expires, len(encoded))
        try:
            try:
                self._replace(self._path(key), header, encoded, value)
            except FileNotFoundError:
                make_directory(self._directory)
                self._replace(self._path(key), header, encoded, value)
        except OSError as error:
            # The name of a temporary file would be another one each time.
            told = OSError(error.errno, error.strerror, os.fspath(self._directory))
            raise StoreError(str(told)) from error

    def _replace(self, path: str, *parts: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(
            self._tail, self._temporary_prefix, self._directory
        )
        try:
            with open(descriptor, "wb") as file:
                os.fchmod(descriptor, 0o600)  # whatever the umask
                file.writelines(parts)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        failed = []
        for key, value in items.items():
            try:
                self.set(key, value, timeout)
            except StoreError:
                failed.append(key)
        return failed

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        removed = 0
        try:
            for key in keys:
                with suppress(FileNotFoundError):
                    os.unlink(self._path(key))
                    removed += 1
            self._remove_orphans()
        except OSError as error:
            raise StoreError(str(error)) from error
        return removed

    def _remove_orphans(self) -> None:
        oldest = time.time() - _ORPHAN_AGE
        for file in self._files():
            if self._temporary_name.fullmatch(file.name):
                with suppress(FileNotFoundError):
                    if file.stat(follow_symlinks=False).st_mtime < oldest:
                        os.unlink(file.path)

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``, expired ones included."""
        for file in self._files():
            if not self._own_name.fullmatch(file.name):
                continue
            try:
                content, status = _read(file.path, _HEADER.size + _LONGEST_KEY)
            except OSError:
                continue
            header = _Header.read_from(content)
            if header is not None and header.key.startswith(prefix):
                yield StoredItem(
                    key=header.key,
                    size=status.st_size - header.size,
                    accessed_at=status.st_atime,
                    expires_at=header.expires or None,
                )

    def usage(self) -> StoreUsage:
        """Tell how many bytes the files take."""
        size = 0
        for file in self._files():
            if self._own_name.fullmatch(file.name):
                with suppress(OSError):
                    size += file.stat(follow_symlinks=False).st_size
        return StoreUsage(size)

    def close(self) -> None:
        """Do nothing: no file stays open."""

    def _files(self) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(self._directory) as entries:
                yield from entries
        except FileNotFoundError:
            return
        except OSError as error:
            raise StoreUnavailable(str(error)) from error

    def _path(self, key: str) -> str:
        digest = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]
        return os.path.join(self._directory, self._pattern % digest)


def _read(path: str, size: int) -> tuple[bytes, os.stat_result]:
    """Return what a regular file begins with, and its status; nothing of any other file."""
    descriptor = os.open(path, _READ_FLAGS)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return b"", status
        with open(descriptor, "rb", buffering=0, closefd=False) as file:
            return file.read(min(size, status.st_size)) or b"", status
    finally:
        os.close(descriptor)


def make_directory(directory: Path) -> None:
    """Make a directory, and those above it that are missing, for the owner alone."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        with suppress(FileExistsError):  # another process makes it, too
            path.mkdir(mode=0o700)
            path.chmod(0o700)  # whatever the umask


def make_own_directory(path: str) -> None:
    """Make the default directory, whose place anybody may have taken before.

    Raises:
        StoreUnavailable: It is a link, another user's, or open to others.
    """
    try:
        with suppress(FileExistsError):
            os.mkdir(path, mode=0o700)
        status = os.lstat(path)
    except OSError as error:
        raise StoreUnavailable(str(error)) from error
    is_own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid()
    if not is_own or stat.S_IMODE(status.st_mode) & 0o077:
        raise StoreUnavailable(
            f"{path} is a link, another user's or open to others; remove it, or name a directory"
        )


def default_directory() -> str:
    """Return the path of this user's own directory among the system's temporary files."""
    return os.path.join(tempfile.gettempdir(), f"django-jinja-bccache-{os.getuid()}")
