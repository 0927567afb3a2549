"""Entries in memcached, through clients that have memcached's own names for what they do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from django_jinja_bccache.exceptions import (
    NotSupported,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import StoredItem, StoreUsage
from django_jinja_bccache.stores.metadump import Address, metadump, server_at
from django_jinja_bccache.stores.pool import Clients

Result = TypeVar("Result")

# memcached takes longer time-outs for points in time (doc/protocol.txt).
_LONGEST_RELATIVE_TIMEOUT = 30 * 24 * 60 * 60
# Where a client refuses without a reason, it is the size from here on: memcached's default limit
# is 1 MiB with key and header.
_LARGE = 1_000_000
# pymemcache reads no answer before it has sent everything. On a unix socket, 280 answers that
# nobody reads are enough to make the server wait for its client, which waits for the server.
_UNREAD_ANSWERS = 100
# Each key to delete is a round trip; so many of them share a deadline.
_AT_ONCE = 10


class MemcachedClient(Protocol):
    """What a client is asked for; pymemcache's own is one.

    ``expiry`` is empty, for never, or one number: seconds, or a point in time.
    """

    def get(self, key: str) -> object:
        """Return the value, None if there is none."""

    def get_multi(self, keys: Sequence[str]) -> Mapping[str, object]:
        """Return the values of those keys that have one."""

    def set(self, key: str, value: bytes, *expiry: int) -> object:
        """Store a value; return something false, but not None, if it was refused."""

    def set_multi(self, items: Mapping[str, bytes], *expiry: int) -> Iterable[str]:
        """Store values; return the keys of those that were not stored."""

    def delete(self, key: str) -> object:
        """Remove a key; return whether it was there."""

    def stats(self, *arguments: str) -> Mapping[Any, Any] | Sequence[Mapping[Any, Any]]:
        """Return what the server, or each server, answers to ``stats``."""


def memcached_expiry(timeout: float | None) -> tuple[int, ...]:
    """Return what memcached is told to keep a value for ``timeout`` seconds."""
    if timeout is None:
        return ()
    seconds = math.ceil(timeout)
    return (seconds if seconds <= _LONGEST_RELATIVE_TIMEOUT else int(time.time()) + seconds,)


class MemcachedStore:
    """A store over memcached clients.

    Args:
        clients: Where clients come from: each is a ``MemcachedClient``.
        addresses: Where the servers listen, for the listing of their keys.
        unlisted: Why their keys cannot be listed, if there are no addresses.
        listed_prefix: What the clients put before every key by themselves; None if unknown.
        deadline: Seconds, for the listing.
        expiry: Turns a time-out in seconds into what the clients are told.
        unavailable: The driver's errors that say that the server is out of reach.
    """

    def __init__(
        self,
        clients: Clients,
        *,
        addresses: Sequence[Address] = (),
        unlisted: str = "The address of the memcached server is not known.",
        listed_prefix: str | None = "",
        deadline: float = 0.5,
        expiry: Callable[[float | None], tuple[int, ...]] = memcached_expiry,
        unavailable: tuple[type[Exception], ...] = (OSError,),
    ) -> None:
        self._clients = clients
        self._addresses = addresses
        self._unlisted = unlisted
        self._listed_prefix = listed_prefix
        self._deadline = deadline
        self._expiry = expiry
        self._unavailable = unavailable
        self._called = server_at(addresses[0]) if len(addresses) == 1 else "memcached"

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        value = self._call(lambda client: client.get(key))
        return value if isinstance(value, bytes) else None

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one, in one round trip if possible."""
        if not keys:
            return {}
        found = self._call(lambda client: client.get_multi(keys))
        return {key: value for key, value in found.items() if isinstance(value, bytes)}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        expiry = self._expiry(timeout)
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
            if len(value) >= _LARGE:
                raise ValueTooLarge(len(value), self._limit())
            raise StoreError(f"memcached did not store {len(value)} bytes")

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values; return the keys of those that were not stored."""
        expiry = self._expiry(timeout)
        try:
            return self._call(lambda client: _set_many(client, items, expiry))
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
        doomed = list(keys)
        batches = (doomed[start : start + _AT_ONCE] for start in range(0, len(doomed), _AT_ONCE))
        return sum(self._call(partial(_delete, batch)) for batch in batches)

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``.

        Raises:
            NotSupported: The server's address is unknown, or it does not list its keys.
        """
        if not self._addresses:
            raise NotSupported(self._unlisted)
        begin = (self._listed_prefix or "") + prefix
        skip = len(begin) - len(prefix)
        found = hidden = False
        for address in self._addresses:
            for item in metadump(address, self._deadline):
                if item.key.startswith(begin):
                    found = True
                    yield item._replace(key=item.key[skip:])
                hidden = hidden or (self._listed_prefix is None and prefix in item.key)
        if hidden and not found:
            raise NotSupported("The keys lie behind a namespace that the client does not tell.")

    def usage(self) -> StoreUsage:
        """Tell the bytes that the server holds, for all its users, and its limit.

        Raises:
            NotSupported: It refuses to tell, as proxies do.
        """
        try:
            stats = self._stats()
        except StoreUnavailable:
            raise
        except StoreError as error:
            raise NotSupported(str(error)) from error
        return StoreUsage(_total(stats, "bytes"), _total(stats, "limit_maxbytes"))

    def _limit(self) -> int | None:
        try:
            return min(each["item_size_max"] for each in self._stats("settings"))
        except (NotSupported, StoreError, LookupError, ValueError):
            return None  # the error to be told of is another one

    def _stats(self, *arguments: str) -> list[dict[str, int]]:
        answer = self._call(lambda client: client.stats(*arguments))
        return [_numbers(stats) for stats in (answer if isinstance(answer, list) else [answer])]

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._clients.close()

    def _call(self, operation: Callable[[Any], Result]) -> Result:
        try:
            return self._clients.call(operation)
        except NotSupported:
            raise
        except self._unavailable as error:
            raise StoreUnavailable(f"{self._called}: {error}") from error
        except Exception as error:
            raise StoreError(f"{self._called}: {type(error).__name__}: {error}") from error


def _set_many(client: Any, items: Mapping[str, bytes], expiry: tuple[int, ...]) -> list[str]:
    failed: list[str] = []
    keys = list(items)
    for start in range(0, len(keys), _UNREAD_ANSWERS):
        batch = {key: items[key] for key in keys[start : start + _UNREAD_ANSWERS]}
        failed += client.set_multi(batch, *expiry)
    return failed


def _delete(keys: Sequence[str], client: Any) -> int:
    return sum(bool(client.delete(key)) for key in keys)


def _total(stats: Sequence[Mapping[str, int]], name: str) -> int | None:
    known = [each[name] for each in stats if name in each]
    return sum(known) if known else None


def _numbers(stats: Mapping[Any, Any]) -> dict[str, int]:
    text = {_text(name): _text(value) for name, value in stats.items()}
    return {name: int(value) for name, value in text.items() if value.isdigit()}


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
