"""Entries in one SQLite file."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from django_jinja_bccache.exceptions import (
    ConfigurationError,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import LARGEST_VALUE, StoredItem, StoreUsage
from django_jinja_bccache.stores.filesystem import make_directory
from django_jinja_bccache.stores.pool import ClientPool
from django_jinja_bccache.stores.sqlite_connection import Connection, ConnectionStale, watch

Result = TypeVar("Result")

_GET = "SELECT value FROM entry WHERE key = ? AND (expires IS NULL OR expires > ?)"
_SET = "REPLACE INTO entry (key, value, expires) VALUES (?, ?, ?)"
_DELETE = "DELETE FROM entry WHERE key = ?"
# A few at a time, so that no write pays for all that have expired.
_PRUNE = "DELETE FROM entry WHERE rowid IN (SELECT rowid FROM entry WHERE expires <= ? LIMIT 100)"
_LIST = (
    "SELECT key, length(value), expires FROM entry WHERE key >= ? AND key < ? ORDER BY key LIMIT ?"
)
_PAGE = 1_000
# UTF-8 has no such byte: it comes after everything that a key may go on with.
_AFTER_ALL = b"\xff"


class SQLiteStore:
    """A store in a file that it makes when it is first needed.

    The file is made with mode 0600, missing directories with 0700. While it is in use SQLite
    keeps two more files beside it, whose names end in ``-wal`` and ``-shm``.

    Args:
        path: The path of the file, which stays the same if the process changes directory.
        deadline: Seconds that one operation may take.
    """

    def __init__(self, path: str | os.PathLike[str], *, deadline: float = 0.5) -> None:
        self._path = os.path.abspath(os.fspath(path))
        self._deadline = deadline
        self._pool = ClientPool(
            lambda: Connection(self._path),
            Connection.close,
            deadline=deadline,
            begin=Connection.begin,
            connection_lost=(),
            share_fate=False,  # it was another one's lock, more often than not
        )
        watch(self._pool)

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""

        def read(connection: Connection) -> bytes | None:
            row = connection.raw.execute(_GET, (_encoded(key), time.time())).fetchone()
            return row[0] if row and isinstance(row[0], bytes) else None

        return self._read(read, None)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""

        def read(connection: Connection) -> dict[str, bytes]:
            execute, now = connection.raw.execute, time.time()
            execute("BEGIN")  # to take the lock once
            rows = [(key, execute(_GET, (_encoded(key), now)).fetchone()) for key in keys]
            execute("COMMIT")
            return {key: row[0] for key, row in rows if row and isinstance(row[0], bytes)}

        return self._read(read, {})

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        if self.set_many({key: value}, timeout):
            raise ValueTooLarge(len(value), LARGEST_VALUE)

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""

        def write(connection: Connection) -> list[str]:
            now = time.time()
            expires = None if timeout is None else now + timeout
            connection.raw.execute(_PRUNE, (now,))
            too_large = []
            for key, value in items.items():
                if len(value) > LARGEST_VALUE:
                    too_large.append(key)
                    continue
                connection.raw.execute(_SET, (_encoded(key), value, expires))
            return too_large

        return self._write(write)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        if not self._read(lambda _connection: True, False):
            return 0
        encoded = [(_encoded(key),) for key in keys]
        return self._write(
            lambda connection: connection.raw.executemany(_DELETE, encoded).rowcount
        )

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``, expired ones included."""
        first, end = _encoded(prefix), _encoded(prefix) + _AFTER_ALL
        while rows := self._list(first, end):
            for key, size, expires in rows:
                with suppress(UnicodeDecodeError):  # nobody here wrote that one
                    yield StoredItem(_decoded(key), size, expires_at=expires)
            first = rows[-1][0] + b"\0"

    def _list(self, first: bytes, end: bytes) -> list[tuple[bytes, int, float | None]]:
        return self._read(
            lambda connection: connection.raw.execute(_LIST, (first, end, _PAGE)).fetchall(), []
        )

    def usage(self) -> StoreUsage:
        """Tell how many bytes the file takes, without the space that is free in it."""

        def measure(connection: Connection) -> int:
            used = connection.number("page_count") - connection.number("freelist_count")
            return used * connection.number("page_size")

        return StoreUsage(self._read(measure, 0))

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._pool.close()

    def _read(self, operation: Callable[[Connection], Result], nothing: Result) -> Result:
        """Run an operation, or return ``nothing`` if there is no file or nothing in it."""

        def run(connection: Connection) -> Result:
            return operation(connection) if connection.is_ready() else nothing

        try:
            return self._call(run)
        except FileNotFoundError:
            return nothing
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _write(self, operation: Callable[[Connection], Result]) -> Result:
        """Run an operation; the pool drops a connection on which anything fails halfway."""

        def run(connection: Connection) -> Result:
            if not connection.is_ready():
                connection.prepare()
            connection.raw.execute("BEGIN IMMEDIATE")
            result = operation(connection)
            connection.raw.execute("COMMIT")
            return result

        try:
            try:
                return self._call(run)
            except FileNotFoundError:
                self._make_file()
                return self._call(run)
        except (sqlite3.OperationalError, OSError) as error:
            # It is locked, full or read-only, and may still be read.
            raise StoreError(f"{self._path}: {error}") from error
        except sqlite3.Error as error:
            raise StoreUnavailable(f"{self._path}: {error}") from error

    def _call(self, operation: Callable[[Connection], Result]) -> Result:
        end = time.monotonic() + self._deadline
        while True:  # for more forks than one may be near
            try:
                return self._pool.call(operation)
            except ConnectionStale:
                self._pool.close()
                if time.monotonic() > end:
                    raise
                time.sleep(0.001)  # leaves the processor to the thread that forks

    def _make_file(self) -> None:
        """Make an empty file, which nobody but the owner may open from its first moment on."""
        folder, name = os.path.split(self._path)
        make_directory(Path(folder))
        descriptor, temporary = tempfile.mkstemp(prefix=f"{name}.new-", dir=folder)
        try:
            os.fchmod(descriptor, 0o600)  # whatever the umask
            os.close(descriptor)
            with suppress(FileExistsError):  # another process was faster
                os.link(temporary, self._path)
        finally:
            os.unlink(temporary)


def checked_path(path: str | os.PathLike[str]) -> str:
    """Return the absolute path of a file to be.

    Raises:
        ConfigurationError: It is no path, or one that means something else to SQLite.
    """
    given = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    if not given or given.startswith((":memory:", "file:")) or "\0" in given:
        raise ConfigurationError(
            f"database_path: {path!r} is not accepted; it must be the path of a file."
        )
    return os.path.abspath(given)


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogatepass")


def _decoded(key: bytes) -> str:
    return key.decode("utf-8", "surrogatepass")
