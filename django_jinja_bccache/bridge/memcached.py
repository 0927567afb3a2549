"""Stores over memcached clients: those beneath Django's backends, and anybody's own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.deadline import SocketModule, TLSContext
from django_jinja_bccache.stores.memcached import MemcachedStore
from django_jinja_bccache.stores.nodes import NodesStore
from django_jinja_bccache.stores.pool import ClientPool, SharedClient


def shared_client(client: object) -> SharedClient[Any]:
    """Return a memcached client that somebody else made, for one user at a time."""
    return SharedClient(client)


def memcached_store(clients: SharedClient[Any], *, deadline: float) -> MemcachedStore:
    """Return a store over a memcached client that somebody else made.

    Args:
        clients: What ``shared_client`` returned.
        deadline: Seconds, for the listing of keys.
    """
    return MemcachedStore(
        clients,
        address=getattr(clients.client, "server", None),
        deadline=deadline,
        unavailable=(OSError, *_errors_of_lost_connections()),
    )


def _errors_of_lost_connections() -> tuple[type[Exception], ...]:
    from pymemcache.exceptions import MemcacheUnexpectedCloseError

    return (MemcacheUnexpectedCloseError,)


def pymemcache_store(backend: Any, *, deadline: float, guard: Guard) -> Store:
    """Make a store over siblings of the client that Django's PyMemcacheCache uses.

    Django's own is closed at the end of each request, may wait for ever and unpickles what it
    reads. Its siblings have its servers and options and none of the three.
    """
    from pymemcache.client.base import normalize_server_spec

    options = dict(backend._options)
    hasher = options.pop("hasher", None)
    nodes: dict[str, Store] = {}
    servers = {
        _node_name(spec): spec for spec in map(normalize_server_spec, backend.client_servers)
    }
    for name, server in servers.items():
        part = name if len(servers) > 1 else ""
        nodes[name] = guard(_pymemcache_node(server, options, deadline), part)
    if len(nodes) == 1:
        return nodes.popitem()[1]
    return NodesStore(nodes, _hash_ring(hasher, nodes))


def _node_name(server: tuple[str, int] | str) -> str:
    return server if isinstance(server, str) else f"{server[0]}:{server[1]}"


def _hash_ring(hasher: Any, nodes: dict[str, Store]) -> Callable[[str], str]:
    from pymemcache.client.rendezvous import RendezvousHash

    ring = (hasher or RendezvousHash)()
    for name in nodes:
        ring.add_node(name)
    node_of: Callable[[str], str] = ring.get_node
    return node_of


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
        address=None if tls_context else server,
        listed_prefix=_text(inherited.get("key_prefix", b"")),
        deadline=deadline,
        unavailable=(OSError, MemcacheUnexpectedCloseError),
    )


def _text(prefix: str | bytes) -> str:
    return prefix if isinstance(prefix, str) else prefix.decode()


class _BytesSerde:
    """Takes and returns bytes whatever the flags say: no value reaches ``pickle``."""

    def serialize(self, _key: object, value: bytes) -> tuple[bytes, int]:
        return value, 0

    def deserialize(self, _key: object, value: bytes, _flags: int) -> bytes:
        return value
