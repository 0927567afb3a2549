"""Connections to SQLite files, none of which is open while this process forks.

SQLite notes its locks per process and file. A child that is forked while its parent has the file
open takes the parent's locks for its own: once the parent closes the file, what the child writes
is lost, and may damage the file (https://www.sqlite.org/howtocorrupt.html, 2.6). To leave the
inherited connection alone is not enough, since a new one in the child finds the same notes.
"""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

from django_jinja_bccache.exceptions import StoreUnavailable
from django_jinja_bccache.stores.deadline import Deadline
from django_jinja_bccache.stores.pool import ClientPool

#: Marks a file as this package's own, in its ``application_id``.
APPLICATION_ID = int.from_bytes(b"jbcc", "big")
#: Stands in its ``user_version``.
SCHEMA_VERSION = 1

_SCHEMA = (
    "CREATE TABLE entry (key BLOB PRIMARY KEY NOT NULL, value BLOB NOT NULL, expires REAL)",
    "CREATE INDEX entry_expires ON entry (expires) WHERE expires IS NOT NULL",
    f"PRAGMA application_id = {APPLICATION_ID}",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
# Instructions of SQLite's virtual machine between two looks at the clock: less than 1 ms.
_INSTRUCTIONS = 10_000
# Seconds that a fork waits for the operations under way.
_PATIENCE = 1.0


class ConnectionStale(StoreUnavailable):
    """A new connection is to be used: the file was replaced, or this process is to fork."""


class Connection:
    """A connection to an existing file, for one user at a time.

    Args:
        path: The absolute path of the file.

    Attributes:
        raw: The connection itself. It begins no transaction of its own accord.

    Raises:
        FileNotFoundError: There is no file.
        StoreUnavailable: It is no regular file, or was open when this process was forked.
        sqlite3.Error: It cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._real_path = real_path = os.path.realpath(path)
        # Where nobody may write, SQLite cannot make the files that it needs beside this one,
        # and is to be told that nothing changes. Should it change after all, _look() sees it.
        may_write = os.access(os.path.dirname(real_path), os.W_OK)
        self._is_immutable = not may_write and not os.path.exists(f"{real_path}-wal")
        self._identity = self._look()
        self._is_ready = False
        self._milliseconds = 0
        self._deadline = deadline = Deadline()
        access = "immutable=1" if self._is_immutable else "mode=rw"
        self.raw, self._close = _forks.connect(self, real_path, access)
        self.raw.set_progress_handler(lambda: time.monotonic() > deadline.end, _INSTRUCTIONS)

    def _look(self) -> tuple[int, ...]:
        status = os.stat(self._path)
        if not stat.S_ISREG(status.st_mode):
            raise StoreUnavailable(f"{self._path} is no regular file.")
        identity = (status.st_dev, status.st_ino)
        return (*identity, status.st_mtime_ns, status.st_size) if self._is_immutable else identity

    def begin(self, end: float) -> None:
        """Let the next operation take until ``end``, on the clock of ``time.monotonic()``."""
        self._deadline.end = end
        milliseconds = max(1, int((end - time.monotonic()) * 1000))
        if milliseconds != self._milliseconds:
            self.raw.execute(f"PRAGMA busy_timeout = {milliseconds}")
            self._milliseconds = milliseconds

    def is_ready(self) -> bool:
        """Tell whether the file holds our table; False if it is empty.

        Raises:
            ConnectionStale: The path names another file by now, or this process is to fork.
            FileNotFoundError: It names none.
            StoreUnavailable: The file is somebody else's.
            sqlite3.Error: It cannot be read.
        """
        if _forks.is_near or self._look() != self._identity:
            raise ConnectionStale(f"{self._path} was replaced, or this process forks.")
        if not self._is_ready:
            self._is_ready = self._holds_our_table()
        return self._is_ready

    def _holds_our_table(self) -> bool:
        self.raw.execute("BEGIN")  # another process may be making the table
        application, version = self.number("application_id"), self.number("user_version")
        is_empty = self._is_empty()
        self.raw.execute("COMMIT")
        if is_empty:
            return False
        if application != APPLICATION_ID:
            raise StoreUnavailable(f"{self._path} is another program's database.")
        if version != SCHEMA_VERSION:
            raise StoreUnavailable(
                f"{self._path} has the format {version} of another version of this package, "
                f"not {SCHEMA_VERSION}; remove it."
            )
        with suppress(sqlite3.OperationalError):  # not every file system lets it
            self.raw.execute("PRAGMA journal_mode = WAL")
        self.raw.execute("PRAGMA synchronous = NORMAL")
        return True

    def prepare(self) -> None:
        """Make our table in an empty file, unless another process has just done so.

        Raises:
            sqlite3.Error: It cannot be made.
        """
        self.raw.execute("BEGIN EXCLUSIVE")
        if self._is_empty():
            # These belong to a file that was removed. Processes which still have that one
            # open would share their index of its log with the new file.
            for suffix in ("-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(self._real_path + suffix)
            for statement in _SCHEMA:
                self.raw.execute(statement)
        self.raw.execute("COMMIT")
        self.is_ready()

    def _is_empty(self) -> bool:
        # In a transaction that may write, page_count is 1 for an empty file.
        return os.stat(self._path).st_size == 0

    def close(self) -> None:
        """Close the connection; what was not committed did not happen."""
        self._close()

    def number(self, pragma: str) -> int:
        """Return what a PRAGMA tells."""
        (number,) = self.raw.execute(f"PRAGMA {pragma}").fetchone()
        return int(number)


class _Forks:
    """Opens connections, and closes them before this process forks."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # The threads that are about to fork, and whether each has the lock.
        self._forking: dict[int, bool] = {}
        self._pools: WeakSet[ClientPool[Connection]] = WeakSet()
        self._open: dict[object, str] = {}
        self._inherited_paths: set[str] = set()
        self._inherited: list[sqlite3.Connection] = []

    @property
    def is_near(self) -> bool:
        """Whether this process is about to fork."""
        return bool(self._forking)

    def watch(self, pool: ClientPool[Connection]) -> None:
        """Close the idle connections of a pool before each fork."""
        with self._lock:
            self._pools.add(pool)

    def connect(
        self, owner: Connection, path: str, access: str
    ) -> tuple[sqlite3.Connection, Callable[[], object]]:
        """Open a connection, which is closed with its owner; return what closes it earlier."""
        if self._pid != os.getpid():  # uWSGI, for one, forks without a word to Python
            self.begin_anew()
        token = object()
        with self._lock:
            if path in self._inherited_paths:
                raise StoreUnavailable(
                    f"{path} was in use when this process was forked, and can be used in its "
                    "parent only."
                )
            raw = sqlite3.connect(
                f"{Path(path).as_uri()}?{access}",
                uri=True,
                timeout=0,
                isolation_level=None,
                check_same_thread=False,
            )
            self._open[token] = path
            return raw, weakref.finalize(owner, self._close, raw, token, os.getpid())

    def _close(self, raw: sqlite3.Connection, token: object, pid: int) -> None:
        if pid != os.getpid():
            self._inherited.append(raw)  # to close it might roll back what the parent writes
            return
        raw.close()
        self._open.pop(token, None)

    def close_all(self) -> None:
        """Close every connection; wait for those in use, but not for ever."""
        thread = threading.get_ident()
        self._forking[thread] = False
        self._forking[thread] = self._lock.acquire(timeout=_PATIENCE)
        end = time.monotonic() + _PATIENCE
        while self._open and time.monotonic() < end:
            for pool in list(self._pools):
                pool.close()
            if self._open:
                time.sleep(0.001)

    def go_on(self) -> None:
        """Let connections be opened again."""
        if self._forking.pop(threading.get_ident(), False):
            self._lock.release()

    def begin_anew(self) -> None:
        """Do so in the child, but never for a file that is open in the parent."""
        self._inherited_paths.update(self._open.values())
        self._open.clear()
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._forking.clear()


_forks = _Forks()
watch = _forks.watch
os.register_at_fork(
    before=_forks.close_all,
    after_in_parent=_forks.go_on,
    after_in_child=_forks.begin_anew,
)
