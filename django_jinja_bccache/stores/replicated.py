"""A server that is written to, and copies of it that are read from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from django_jinja_bccache.stores.base import Store, StoredItem, StoreUsage
from django_jinja_bccache.stores.guard import CircuitOpen


class ReplicatedStore:
    """Reads from replicas, and does all else at the primary.

    A replica lags behind: what was stored just now may be a miss. While the replicas are
    known to be out of order, the primary is read from.

    Args:
        primary: The store over the primary.
        replicas: The store over the replicas.

    Attributes:
        primary: The same.
    """

    def __init__(self, primary: Store, replicas: Store) -> None:
        self.primary = primary
        self._replicas = replicas

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        try:
            return self._replicas.get(key)
        except CircuitOpen:
            return self.primary.get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""
        try:
            return self._replicas.get_many(keys)
        except CircuitOpen:
            return self.primary.get_many(keys)

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        self.primary.set(key, value, timeout)

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        return self.primary.set_many(items, timeout)

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        return self.primary.delete_many(keys)

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``, without when a replica read them."""
        return (item._replace(accessed_at=None) for item in self.primary.scan(prefix))

    def usage(self) -> StoreUsage:
        """Tell how full the primary is."""
        return self.primary.usage()

    def close(self) -> None:
        """Close the connections to all of them."""
        self.primary.close()
        self._replicas.close()


def primary_of(store: Store) -> Store:
    """Return the store to ask for what was written just now: a store's primary, or itself."""
    primary: Store = getattr(store, "primary", store)
    return primary
