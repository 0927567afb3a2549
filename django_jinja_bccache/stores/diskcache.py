"""Entries in a FanoutCache of diskcache's."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
from django_jinja_bccache.stores.base import StoredItem, StoreUsage

Result = TypeVar("Result")

_LOCKED = "its database is locked or read-only"


class DiskCacheStore:
    """A store over a FanoutCache, which threads and forked processes may share.

    Args:
        cache: The FanoutCache. What keeps others from writing to it waits as long as its
            ``timeout`` says.
        max_size: The bytes that it is allowed.
    """

    def __init__(self, cache: Any, max_size: int | None = None) -> None:
        self._cache = cache
        self._max_size = max_size

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        value = self._call(lambda cache: cache.get(key))
        return value if isinstance(value, bytes) else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        found = {key: self.get(key) for key in keys}
        return {key: value for key, value in found.items() if value is not None}

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
        """Close this thread's connections; they open again by themselves."""
        self._cache.close()

    def _call(self, operation: Callable[[Any], Result]) -> Result:
        try:
            return operation(self._cache)
        except StoreError:
            raise
        except (OSError, sqlite3.Error) as error:
            raise StoreUnavailable(f"diskcache: {error}") from error
        except Exception as error:
            raise StoreError(f"diskcache: {type(error).__name__}: {error}") from error


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
