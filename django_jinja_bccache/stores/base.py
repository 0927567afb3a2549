"""What every store offers: bytes under string keys."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

#: Bytes that a value has at most in a store whose items anybody may have made as large as they
#: like, such as a directory.
LARGEST_VALUE = 16 << 20


class StoredItem(NamedTuple):
    """One item that a store lists.

    Attributes:
        key: The key, as it was given to ``set``.
        size: Bytes that it takes.
        accessed_at: Last read, in seconds since the epoch, None if the store does not know.
        expires_at: In seconds since the epoch, None if never.
    """

    key: str
    size: int
    accessed_at: float | None = None
    expires_at: float | None = None


class StoreUsage(NamedTuple):
    """How full a store is, in bytes; None where it does not tell."""

    size: int | None = None
    max_size: int | None = None


class Store(Protocol):
    """Bytes in, bytes out, over some client.

    A driver's exceptions leave a store only as ``StoreUnavailable`` (not reached, or too
    late), ``ValueTooLarge`` or another ``StoreError``. A value that is not ``bytes`` is a
    miss: this package never wrote it.
    """

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one."""

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``.

        Raises:
            NotSupported: The store cannot list its keys.
        """

    def usage(self) -> StoreUsage:
        """Tell how full the store is."""

    def close(self) -> None:
        """Let go of connections and files; the next call opens them anew."""


#: Puts a guard around a store that may fail by itself, such as one of several servers; the
#: second argument is its name for the log.
Guard = Callable[[Store, str], Store]


def unguarded(store: Store, _name: str) -> Store:
    """Put no guard around a store: for commands, which wait and are to see every failure."""
    return store
