"""Memcached clients that somebody else made, under the names that MemcachedStore calls.

What a client can do is found out once, when the cache over it is made.
"""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from django_jinja_bccache.exceptions import NotSupported
from django_jinja_bccache.stores.memcached import memcached_expiry
from django_jinja_bccache.stores.metadump import Address

UNLISTED_OVER_TLS = (
    "memcached is asked for its keys on a connection of its own, which cannot be made with TLS."
)


class AnyClient:
    """A client of which nothing is known but ``get`` and ``set``.

    Args:
        client: The client.

    Attributes:
        addresses: Where its servers listen, for the listing of their keys.
        unlisted: Why they cannot be listed, if there are no addresses.
        key_prefix: What it puts before every key by itself.
        unavailable: Its errors that say that a server is out of reach.
    """

    addresses: Sequence[Address] = ()
    key_prefix = ""
    unavailable: tuple[type[Exception], ...] = (OSError,)

    def __init__(self, client: Any) -> None:
        self.client = client
        self.name = type(client).__name__
        self._has_memcacheds_names = _method(client, "get_multi") is not None
        self._get_multi = _method(client, "get_multi") or _method(client, "get_many")
        self._delete = _method(client, "delete")
        no_delete = "" if self._delete else f"{self.name} has no method delete(), and "
        self.unlisted = f"{no_delete}the keys of {self.name} cannot be listed."

    def get(self, key: str) -> object:
        """Return the value, None if there is none."""
        return self.client.get(key)

    def get_multi(self, keys: Sequence[str]) -> Mapping[str, object]:
        """Return the values of those keys that have one."""
        if self._get_multi is None:
            return {key: self.client.get(key) for key in keys}
        found: Mapping[str, object] = self._get_multi(keys)
        return found

    def set(self, key: str, value: bytes, *expiry: int) -> object:
        """Store a value; return something false, but not None, if it was refused."""
        return self.client.set(key, value, *expiry)

    def set_multi(self, items: Mapping[str, bytes], *expiry: int) -> Iterable[str]:
        """Store values; return the keys of those that were not stored."""
        # None is what a client returns that says nothing of success.
        return [key for key in items if self.set(key, items[key], *expiry) in (False, 0)]

    def delete(self, key: str) -> object:
        """Remove a key; return whether it was there.

        Raises:
            NotSupported: The client has no ``delete``.
        """
        if self._delete is None:
            raise NotSupported(f"{self.name} has no method delete().")
        return self._delete(key)

    def stats(self, *_arguments: str) -> Sequence[Mapping[Any, Any]]:
        """Return what each server answers to ``stats``.

        Raises:
            NotSupported: It is not known how the client is asked.
        """
        raise NotSupported(f"{self.name} tells no statistics.")

    def expiry(self, timeout: float | None) -> tuple[int, ...]:
        """Return what the client is told to keep a value for ``timeout`` seconds."""
        if self._has_memcacheds_names:
            return memcached_expiry(timeout)
        return () if timeout is None else (math.ceil(timeout),)

    def interrupt(self) -> None:
        """Leave the client to its own time-outs."""

    def leave_thread(self) -> None:
        """Leave the connections to whoever made the client."""

    def in_child(self) -> AnyClient:
        """Return the same client: nothing is known of its connections."""
        return self


class CachelibClient(AnyClient):
    """A cache of cachelib's."""

    def get_multi(self, keys: Sequence[str]) -> Mapping[str, object]:
        """Return the values of those keys that have one."""
        found: Mapping[str, object] = self.client.get_dict(*keys)
        return found

    def expiry(self, timeout: float | None) -> tuple[int, ...]:
        """Return seconds: 0 is never, and nothing would be five minutes."""
        return (0 if timeout is None else math.ceil(timeout),)

    def leave_thread(self) -> None:
        """Close the connections of this thread, if the client within has such."""
        within = getattr(self.client, "_client", None)
        if isinstance(within, threading.local):  # python-memcached's
            within.disconnect_all()


class PythonMemcachedClient(AnyClient):
    """A client of python-memcached, which has connections of its own in each thread."""

    def __init__(self, client: Any) -> None:
        super().__init__(client)
        self.addresses = [server.address for server in client.servers]

    def get(self, key: str) -> object:
        """Return the value, None if there is none."""
        value = self.client.get(key)
        if value is None:
            self._require_a_server()
        return value

    def get_multi(self, keys: Sequence[str]) -> Mapping[str, object]:
        """Return the values of those keys that have one."""
        found: Mapping[str, object] = self.client.get_multi(keys)
        if len(found) < len(keys):
            self._require_a_server()
        return found

    def set(self, key: str, value: bytes, *expiry: int) -> object:
        """Store a value; return something false if it was refused."""
        stored = self.client.set(key, value, *expiry)
        if not stored:
            self._require_a_server()
        return stored

    def _require_a_server(self) -> None:
        # The client itself answers like an empty cache.
        if all(server.deaduntil for server in self.client.servers):
            raise ConnectionError("no server answers")

    def stats(self, *arguments: str) -> Sequence[Mapping[Any, Any]]:
        """Return what each server answers to ``stats``."""
        return [stats for _server, stats in self.client.get_stats(*arguments)]

    def leave_thread(self) -> None:
        """Close the connections of this thread."""
        self.client.disconnect_all()


class PymemcacheClient(AnyClient):
    """A Client, PooledClient or HashClient of pymemcache."""

    def __init__(self, client: Any) -> None:
        from pymemcache.exceptions import MemcacheUnexpectedCloseError

        super().__init__(client)
        self.unavailable = (OSError, MemcacheUnexpectedCloseError)
        self._nodes = list(getattr(client, "clients", {"": client}).values())
        if client.tls_context:
            self.unlisted = UNLISTED_OVER_TLS
        else:
            self.addresses = [node.server for node in self._nodes]
        self.key_prefix = as_text(client.key_prefix)

    def set(self, key: str, value: bytes, *expiry: int) -> object:
        """Store a value; return whether it was: by default pymemcache does not ask."""
        return self.client.set(key, value, *expiry, noreply=False)

    def set_multi(self, items: Mapping[str, bytes], *expiry: int) -> Iterable[str]:
        """Store values; return the keys of those that were not stored."""
        if self.client.ignore_exc:  # then it counts what an error kept out as stored
            return super().set_multi(items, *expiry)
        failed: Iterable[str] = self.client.set_multi(items, *expiry, noreply=False)
        return failed

    def delete(self, key: str) -> object:
        """Remove a key; return whether it was there."""
        return self.client.delete(key, noreply=False)

    def stats(self, *arguments: str) -> Sequence[Mapping[Any, Any]]:
        """Return what each server answers to ``stats``."""
        return [node.stats(*arguments) for node in self._nodes]

    def interrupt(self) -> None:
        """Shut the connection, on which the client may wait for ever, unless others use it."""
        for node in self._nodes:
            if not hasattr(node, "client_pool") and node.sock is not None:
                with suppress(Exception):
                    node.sock.shutdown(socket.SHUT_RDWR)

    def in_child(self) -> PymemcacheClient:
        """Return the client without the connections, which are the parent's."""
        from pymemcache.pool import ObjectPool

        for node in self._nodes:
            if hasattr(node, "client_pool"):
                # Another thread may have held the lock of the one that there is.
                node.client_pool = ObjectPool(
                    node._create_client,
                    after_remove=lambda client: client.close(),
                    max_size=node.client_pool.max_size,
                    idle_timeout=node.client_pool.idle_timeout,
                )
            else:
                node.close()
        return self


def as_text(key_prefix: str | bytes) -> str:
    """Return pymemcache's key prefix as the listing of keys shows it."""
    if isinstance(key_prefix, str):
        return key_prefix
    return key_prefix.decode("utf-8", "surrogateescape")


def _method(client: Any, name: str) -> Callable[..., Any] | None:
    try:
        method = getattr(client, name, None)
    except Exception:  # noqa: BLE001 - diskcache raises AssertionError
        return None
    return method if callable(method) else None
