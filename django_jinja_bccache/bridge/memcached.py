"""Stores over memcached clients: those beneath Django's backends, and anybody's own."""

from __future__ import annotations

import socket
from typing import Any

from django_jinja_bccache.bridge.clients import (
    UNLISTED_OVER_TLS,
    AnyClient,
    CachelibClient,
    PymemcacheClient,
    PythonMemcachedClient,
    as_text,
)
from django_jinja_bccache.bridge.nodes import store_on_nodes
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.deadline import SocketModule, TLSContext
from django_jinja_bccache.stores.memcached import MemcachedStore
from django_jinja_bccache.stores.pool import ClientPool
from django_jinja_bccache.stores.shared import SharedClient


def shared_client(client: object, *, deadline: float) -> SharedClient[Any]:
    """Return a memcached client that somebody else made, for one user at a time.

    Args:
        client: An object with ``get(key)`` and ``set(key, value[, timeout])``.
        deadline: Seconds, for what its servers are asked past it.
    """
    return SharedClient(_adapted(client, deadline))


_FAMILIES: dict[type[AnyClient], set[str]] = {
    PymemcacheClient: {
        "pymemcache.client.base.Client",
        "pymemcache.client.base.PooledClient",
        "pymemcache.client.hash.HashClient",
    },
    PythonMemcachedClient: {"memcache.Client"},
    CachelibClient: {"cachelib.base.BaseCache"},
}


def _adapted(client: Any, deadline: float) -> Any:
    ancestors = {f"{base.__module__}.{base.__qualname__}" for base in type(client).__mro__}
    if "pylibmc.client.Client" in ancestors:
        from django_jinja_bccache.bridge.pylibmc import OwnPylibmcClient

        return OwnPylibmcClient(client, deadline)
    for adapter, names in _FAMILIES.items():
        if ancestors & names:
            return adapter(client)
    return AnyClient(client)


def memcached_store(clients: SharedClient[Any], *, deadline: float) -> MemcachedStore:
    """Return a store over a memcached client that somebody else made.

    Args:
        clients: What ``shared_client`` returned.
        deadline: Seconds that one operation may take, with the wait for its turn.
    """
    client = clients.of_this_process()[0]
    return MemcachedStore(
        clients.within(deadline),
        addresses=client.addresses,
        unlisted=client.unlisted,
        listed_prefix=client.key_prefix,
        deadline=deadline,
        expiry=client.expiry,
        unavailable=client.unavailable,
    )


def pymemcache_store(backend: Any, *, deadline: float, guard: Guard) -> Store:
    """Make a store over siblings of the client that Django's PyMemcacheCache uses.

    Django's own is closed at the end of each request, may wait for ever and unpickles what it
    reads. Its siblings have its servers and options and none of the three.
    """
    from pymemcache.client.base import normalize_server_spec

    options = dict(backend._options)
    hasher = options.pop("hasher", None)
    servers = {normalize_server_spec(spec): None for spec in backend.client_servers}
    nodes = {server: _pymemcache_node(server, options, deadline) for server in servers}
    return store_on_nodes(nodes, guard, hasher)


# What only HashClient or a pooled client takes, or what a sibling must have its own way.
_NOT_FOR_SIBLINGS = {
    *("dead_timeout", "retry_attempts", "retry_timeout", "ignore_exc"),
    *("use_pooling", "max_pool_size", "pool_idle_timeout", "lock_generator"),
    *("serde", "serializer", "deserializer", "default_noreply"),
}


def _pymemcache_node(
    server: tuple[str, int] | str, options: dict[str, Any], deadline: float
) -> MemcachedStore:
    from pymemcache.client.base import Client
    from pymemcache.exceptions import MemcacheUnexpectedCloseError

    inherited = {name: options[name] for name in options if name not in _NOT_FOR_SIBLINGS}
    inherited.setdefault("no_delay", True)
    base_module = inherited.pop("socket_module", socket)
    tls_context = inherited.pop("tls_context", None)

    def connect() -> Client:
        module = SocketModule(base_module)
        return Client(
            server,
            **inherited,
            serde=_BytesSerde(),
            default_noreply=False,
            socket_module=module,
            tls_context=tls_context and TLSContext(tls_context, module.deadline),
        )

    def begin(client: Client, end: float) -> None:
        client.socket_module.deadline.end = end

    pool = ClientPool(
        connect,
        Client.close,
        deadline=deadline,
        begin=begin,
        connection_lost=(ConnectionError, MemcacheUnexpectedCloseError),
    )
    return MemcachedStore(
        pool,
        addresses=[] if tls_context else [server],
        unlisted=UNLISTED_OVER_TLS,
        listed_prefix=as_text(inherited.get("key_prefix", b"")),
        deadline=deadline,
        unavailable=(OSError, MemcacheUnexpectedCloseError),
    )


class _BytesSerde:
    """Takes and returns bytes whatever the flags say: no value reaches ``pickle``."""

    def serialize(self, _key: object, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, _key: object, value: bytes, _flags: int) -> bytes:
        return value
