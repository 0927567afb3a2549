"""Entries in a FanoutCache of diskcache's."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
from django_jinja_bccache.stores.base import StoredItem, StoreUsage
from django_jinja_bccache.stores.threads import ClientThread, Task

Result = TypeVar("Result")

_LOCKED = "its database is locked or read-only"
# Seconds that a fork waits for the operation under way.
_PATIENCE = 1.0


class DiskCacheStore:
    """A store over a FanoutCache.

    It is used in one thread only, with one connection to each of its SQLite files, so that
    none is open, and no lock within SQLite held, while this process forks: a child would keep
    both for ever.

    Args:
        cache: The FanoutCache.
        deadline: Seconds that one operation may take.
        max_size: The bytes that it is allowed.
    """

    def __init__(self, cache: Any, *, deadline: float, max_size: int | None = None) -> None:
        self._cache = cache
        self._deadline = deadline
        self._max_size = max_size
        self._gate = threading.Lock()
        self._thread = self._new_thread()
        _stores.add(self)

    def _new_thread(self) -> ClientThread[Any]:
        cache = self._cache
        return ClientThread(lambda: cache, lambda _cache: _cache.close())

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        value = self._call(lambda cache: cache.get(key))
        return value if isinstance(value, bytes) else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        found = self._call(lambda cache: {key: cache.get(key) for key in keys})
        return {key: value for key, value in found.items() if isinstance(value, bytes)}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        if not self._call(lambda cache: cache.set(key, value, timeout)):
            raise StoreError(f"diskcache did not store {len(value)} bytes: {_LOCKED}")

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""

        def store(cache: Any) -> list[str]:
            return [key for key, value in items.items() if not cache.set(key, value, timeout)]

        return self._call(store)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        doomed = list(keys)
        return self._call(lambda cache: sum(_delete(cache, key) for key in doomed))

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``."""
        for key in self._call(lambda cache: _keys(cache, prefix)):
            if (item := self._call(partial(_item, key))) is not None:
                yield item

    def usage(self) -> StoreUsage:
        """Tell the bytes that the cache takes on the disk, for all its users, and its limit."""
        return StoreUsage(self._call(lambda cache: cache.volume()), self._max_size)

    def close(self) -> None:
        """Close the connections; they open again by themselves."""
        with self._gate:
            self._thread.stop()
            self._thread = self._new_thread()

    def before_fork(self) -> None:
        """Close the connections, and let nobody open any until the process has forked."""
        self._gate.acquire()
        self._thread.stop(wait=_PATIENCE)

    def after_fork(self) -> None:
        """Let connections be opened again, in a thread that is in this process."""
        self._thread = self._new_thread()
        self._gate.release()

    def _call(self, operation: Callable[[Any], Result]) -> Result:
        end = time.monotonic() + self._deadline
        try:
            result: Result = self._submit(operation).result(end)
        except StoreError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"diskcache: {error}") from error
        except Exception as error:
            raise StoreError(f"diskcache: {type(error).__name__}: {error}") from error
        return result

    def _submit(self, operation: Callable[[Any], Any]) -> Task:
        if not self._gate.acquire(timeout=self._deadline):
            raise StoreUnavailable("diskcache: this process takes long to fork")
        try:
            return self._thread.submit(operation)
        finally:
            self._gate.release()


def _delete(cache: Any, key: str) -> bool:
    deleted: bool = cache.delete(key)
    if not deleted and key in cache:
        raise StoreError(f"diskcache did not delete {key!r}: {_LOCKED}")
    return deleted


def _keys(cache: Any, prefix: str) -> list[str]:
    return [key for key in cache if isinstance(key, str) and key.startswith(prefix)]


def _item(key: str, cache: Any) -> StoredItem | None:
    value, expires = cache.get(key, expire_time=True) or (None, None)
    return StoredItem(key, len(value), expires_at=expires) if isinstance(value, bytes) else None


class _Forking(threading.local):
    """The stores that wait until this thread has forked the process."""

    def __init__(self) -> None:
        self.stores: list[DiskCacheStore] = []


_stores: WeakSet[DiskCacheStore] = WeakSet()
_forking = _Forking()


def _before_fork() -> None:
    _forking.stores = []
    for store in sorted(_stores, key=id):  # the same order for each thread
        store.before_fork()
        _forking.stores.append(store)


def _after_fork() -> None:
    for store in _forking.stores:
        store.after_fork()
    _forking.stores = []


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
