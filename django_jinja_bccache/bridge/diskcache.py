"""The store beneath diskcache's DjangoCache."""

from __future__ import annotations

from typing import Any

import diskcache
from diskcache.core import MODE_PICKLE

from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.diskcache import DiskCacheStore


class BytesDisk(diskcache.Disk):  # type: ignore[misc]
    """What is on the disk, but for everything that is pickled, which reads as None."""

    def get(self, key: Any, raw: bool) -> Any:
        """Return a key."""
        return super().get(key, raw) if raw else None

    def fetch(self, mode: int, filename: str | None, value: Any, read: bool) -> Any:
        """Return a value."""
        return None if mode == MODE_PICKLE else super().fetch(mode, filename, value, read)


def diskcache_store(backend: Any, *, deadline: float, guard: Guard) -> Store | None:
    """Make a store over a FanoutCache like that of a DjangoCache, one for the whole process.

    Django makes a DjangoCache for each thread, closes it after each request and unpickles.
    """
    cache = backend._cache
    cache.close()  # what this thread has open: sqlite3 would keep it until garbage is collected
    if type(cache.disk) is not diskcache.Disk:
        return None  # the site's own keeps keys and values its own way
    max_size = cache.size_limit * cache._count  # each shard has its part
    own = diskcache.FanoutCache(
        cache.directory,
        shards=cache._count,
        timeout=deadline * 0.8,  # to be told of a lock in time
        disk=BytesDisk,
        size_limit=max_size,
    )
    own.close()
    return guard(DiskCacheStore(own, deadline=deadline, max_size=int(max_size)), "")
