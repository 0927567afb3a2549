"""Entries in memcached, through any client that has ``get`` and ``set``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from django_jinja_bccache.exceptions import (
    NotSupported,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import StoredItem, StoreUsage
from django_jinja_bccache.stores.metadump import Address, metadump
from django_jinja_bccache.stores.pool import Clients

Result = TypeVar("Result")

# memcached takes longer time-outs for points in time (doc/protocol.txt).
_LONGEST_RELATIVE_TIMEOUT = 30 * 24 * 60 * 60


class MemcachedStore:
    """A store over memcached clients.

    Args:
        clients: Where clients come from.
        address: Where the server listens, for the listing of its keys; None if unknown.
        listed_prefix: What the clients put before every key by themselves.
        deadline: Seconds, for the listing.
        unavailable: The driver's errors that say that the server is out of reach.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        address: Address | None = None,
        listed_prefix: str = "",
        deadline: float = 0.5,
        unavailable: tuple[type[Exception], ...] = (OSError,),
    ) -> None:
        self._clients = clients
        self._address = address
        self._listed_prefix = listed_prefix
        self._deadline = deadline
        self._unavailable = unavailable

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        value = self._call(lambda client: client.get(key))
        return value if isinstance(value, bytes) else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one, in one round trip if possible."""
        if not keys:
            return {}
        found = self._call(lambda client: _get_many(client, keys))
        return {key: value for key, value in found.items() if isinstance(value, bytes)}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        expiry = _expiry(timeout)
        try:
            stored = self._call(lambda client: client.set(key, value, *expiry))
        except StoreUnavailable:
            raise
        except StoreError as error:
            if "too large" in str(error) or "TooBig" in type(error.__cause__).__name__:
                raise ValueTooLarge(len(value), self._limit()) from error
            raise
        # python-memcached and pylibmc return False or 0; some clients return nothing.
        if stored is not None and not stored:
            raise StoreError(f"memcached did not store {len(value)} bytes")

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        expiry = _expiry(timeout)
        try:
            return list(self._call(lambda client: _set_many(client, items, expiry)))
        except StoreUnavailable:
            raise
        except StoreError:
            # A client gives up a whole batch at the first refusal.
            return [key for key in items if not self._stored_alone(key, items[key], timeout)]

    def _stored_alone(self, key: str, value: bytes, timeout: float | None) -> bool:
        try:
            self.set(key, value, timeout)
        except StoreUnavailable:
            raise
        except StoreError:
            return False
        return True

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were.

        Raises:
            NotSupported: The client has no ``delete``.
        """

        def delete(client: Any) -> int:
            if not hasattr(client, "delete"):
                raise NotSupported(f"{type(client).__name__} has no method delete().")
            return sum(bool(client.delete(key)) for key in keys)

        return self._call(delete)

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``.

        Raises:
            NotSupported: The server's address is unknown, or it does not list its keys.
        """
        if self._address is None:
            raise NotSupported("The address of the memcached server is not known.")
        skip = len(self._listed_prefix)
        for item in metadump(self._address, self._deadline):
            if item.key.startswith(self._listed_prefix + prefix):
                yield replace(item, key=item.key[skip:])

    def usage(self) -> StoreUsage:
        """Tell the bytes that the server holds, for all its users, and its limit."""
        stats = self._stats()
        return StoreUsage(stats.get("bytes"), stats.get("limit_maxbytes"))

    def _limit(self) -> int | None:
        try:
            return self._stats("settings").get("item_size_max")
        except (NotSupported, StoreError):
            return None

    def _stats(self, *arguments: str) -> dict[str, int]:
        def ask(client: Any) -> Any:
            if not hasattr(client, "stats"):
                raise NotSupported(f"{type(client).__name__} has no method stats().")
            return client.stats(*arguments)

        answer = self._call(ask)
        if not isinstance(answer, dict):
            raise NotSupported("The client tells its statistics in a format of its own.")
        return {
            name.decode() if isinstance(name, bytes) else name: int(value)
            for name, value in answer.items()
            if str(value.decode() if isinstance(value, bytes) else value).isdigit()
        }

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._clients.close()

    def _call(self, operation: Callable[[Any], Result]) -> Result:
        try:
            return self._clients.call(operation)
        except NotSupported:
            raise
        except self._unavailable as error:
            raise StoreUnavailable(f"memcached: {error or type(error).__name__}") from error
        except Exception as error:
            raise StoreError(f"memcached: {type(error).__name__}: {error}") from error


def _expiry(timeout: float | None) -> tuple[int, ...]:
    if timeout is None:
        return ()
    seconds = math.ceil(timeout)
    return (seconds if seconds <= _LONGEST_RELATIVE_TIMEOUT else int(time.time()) + seconds,)


def _get_many(client: Any, keys: Sequence[str]) -> Mapping[str, object]:
    if hasattr(client, "get_multi"):
        found: Mapping[str, object] = client.get_multi(keys)
        return found
    return {key: client.get(key) for key in keys}


def _set_many(client: Any, items: Mapping[str, bytes], expiry: tuple[int, ...]) -> Iterable[str]:
    if hasattr(client, "set_multi"):
        failed: Iterable[str] = client.set_multi(items, *expiry)
        return failed
    # None is what a client returns that says nothing of success.
    return [key for key in items if client.set(key, items[key], *expiry) in (False, 0)]
