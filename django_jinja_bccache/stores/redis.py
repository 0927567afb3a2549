"""Entries in Redis or Valkey, through the clients of redis-py and valkey-py."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, TypeVar

from django_jinja_bccache.exceptions import (
    NotSupported,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.base import StoredItem, StoreUsage
from django_jinja_bccache.stores.pool import Clients

Result = TypeVar("Result")
Key = TypeVar("Key", str, bytes)

_SCAN_COUNT = 1_000
# The least that a server's proto-max-bulk-len can be; it is 512 MB unless somebody lowered it.
_SMALLEST_LIMIT = 1 << 20
_FROM_A_CLUSTER = re.compile(r"(MOVED|ASK|CROSSSLOT|CLUSTERDOWN) |(Moved|Ask|Cluster\w+)Error")
_GONE = -2  # what PTTL says of a key that there is not


class RedisStore:
    """A store over clients of redis-py or valkey-py.

    Args:
        clients: Where clients come from; their answers must be bytes.
        errors: Their library's module ``exceptions``.
    """

    def __init__(self, clients: Clients, errors: ModuleType) -> None:
        self._clients = clients
        self._errors = errors
        self._name = errors.__name__.partition(".")[0]

    def get(self, key: str) -> bytes | None:
        """Return the value, None if there is none."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the values of those keys that have one, in one round trip."""
        if not keys:
            return {}
        # GET fails on a list or a hash of somebody else's, which MGET passes over.
        values = self._call(lambda client: client.mget([_encoded(key) for key in keys]))
        found = zip(keys, values, strict=True)
        return {key: value for key, value in found if isinstance(value, bytes)}

    def set(self, key: str, value: bytes, timeout: float | None) -> None:
        """Store a value for ``timeout`` seconds, for ever if None."""
        lifetime = _milliseconds(timeout)
        try:
            stored = self._call(lambda client: client.set(_encoded(key), value, px=lifetime))
        except StoreError as error:
            is_slow = isinstance(error.__cause__, (TimeoutError, self._errors.TimeoutError))
            if len(value) < _SMALLEST_LIMIT or is_slow:
                raise
            # The server hangs up on what is too large, sometimes without a word.
            limit = self._limit()
            if limit is None or len(value) <= limit:
                raise
            raise ValueTooLarge(len(value), limit) from error
        if stored is not True:
            raise StoreError(f"redis did not store {len(value)} bytes")

    def set_many(self, items: Mapping[str, bytes], timeout: float | None) -> list[str]:
        """Store values in one round trip; return the keys of those that were not stored."""
        # What the server may hang up on does not go with the others.
        large = [key for key, value in items.items() if len(value) >= _SMALLEST_LIMIT]
        other = [key for key, value in items.items() if len(value) < _SMALLEST_LIMIT]
        lifetime = _milliseconds(timeout)
        answers = self._pipelined(
            lambda pipeline, key: pipeline.set(_encoded(key), items[key], px=lifetime), other
        )
        failed = [key for key, stored in zip(other, answers, strict=True) if stored is not True]
        return failed + [key for key in large if not self._stored_alone(key, items[key], timeout)]

    def _stored_alone(self, key: str, value: bytes, timeout: float | None) -> bool:
        try:
            self.set(key, value, timeout)
        except StoreUnavailable:
            raise
        except StoreError:
            return False
        return True

    def delete_many(self, keys: Iterable[str]) -> int:
        """Remove keys; return how many there were."""
        encoded = [_encoded(key) for key in keys]
        return self._call(lambda client: client.unlink(*encoded)) if encoded else 0

    def scan(self, prefix: str) -> Iterator[StoredItem]:
        """List the items whose key begins with ``prefix``.

        One may come twice while the server makes its table of keys larger or smaller.
        """
        pattern = _glob_escaped(_encoded(prefix)) + b"*"
        cursor = None
        while cursor != 0:
            cursor, keys = self._scanned(cursor or 0, pattern)
            yield from self._described(keys)

    def _scanned(self, cursor: int, pattern: bytes) -> tuple[int, list[bytes]]:
        cursor, keys = self._call(
            lambda client: client.scan(cursor, match=pattern, count=_SCAN_COUNT)
        )
        return cursor, keys

    def _described(self, keys: Sequence[bytes]) -> Iterator[StoredItem]:
        idle_times = self._pipelined(lambda pipeline, key: pipeline.object("IDLETIME", key), keys)
        lifetimes = self._pipelined(lambda pipeline, key: pipeline.pttl(key), keys)
        now = time.time()
        sizes = self._sizes(keys)
        for key, *answers in zip(keys, idle_times, lifetimes, sizes, strict=True):
            # Under some values of maxmemory-policy the server does not count idle time.
            idle, lifetime, size = (item if isinstance(item, int) else None for item in answers)
            if lifetime != _GONE:
                yield StoredItem(
                    key=key.decode("utf-8", "surrogateescape"),
                    size=size or 0,
                    accessed_at=None if idle is None else now - idle,
                    expires_at=None if lifetime is None or lifetime < 0 else now + lifetime / 1000,
                )

    def _sizes(self, keys: Sequence[bytes]) -> list[Any]:
        sizes = self._pipelined(lambda pipeline, key: pipeline.memory_usage(key), keys)
        if any(isinstance(size, Exception) for size in sizes):  # not every server tells
            # This one counts as an access, so it comes after the question for the last one.
            sizes = self._pipelined(lambda pipeline, key: pipeline.strlen(key), keys)
        return sizes

    def usage(self) -> StoreUsage:
        """Tell the bytes that the server holds, for all its users, and its limit.

        Raises:
            NotSupported: The server does not tell.
        """
        try:
            memory = self._call(lambda client: client.info("memory"))
        except StoreUnavailable:
            raise
        except StoreError as error:
            raise NotSupported(f"The server does not tell how full it is: {error}") from error
        return StoreUsage(memory.get("used_memory"), memory.get("maxmemory") or None)

    def _limit(self) -> int | None:
        option = "proto-max-bulk-len"
        try:
            return int(self._call(lambda client: client.config_get(option))[option])
        except (StoreError, LookupError):
            return None

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._clients.close()

    def _pipelined(self, ask: Callable[[Any, Key], object], keys: Sequence[Key]) -> list[Any]:
        """Return the answers to one question about each key, errors among them."""

        def run(client: Any) -> list[Any]:
            pipeline = client.pipeline(transaction=False)
            for key in keys:
                ask(pipeline, key)
            answers: list[Any] = pipeline.execute(raise_on_error=False)
            return answers

        return self._call(run) if keys else []

    def _call(self, operation: Callable[[Any], Result]) -> Result:
        try:
            return self._clients.call(operation)
        except (self._errors.ConnectionError, self._errors.TimeoutError, OSError) as error:
            raise StoreUnavailable(f"{self._name}: {error}") from error
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            if _FROM_A_CLUSTER.match(str(error)) or _FROM_A_CLUSTER.match(problem):
                problem += " (the server is one of a cluster, for which this client is not made)"
            raise StoreError(f"{self._name}: {problem}") from error


def _encoded(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _milliseconds(timeout: float | None) -> int | None:
    return None if timeout is None else math.ceil(timeout * 1000)


def _glob_escaped(prefix: bytes) -> bytes:
    return re.sub(rb"[*?\[\]\\]", rb"\\\g<0>", prefix)
