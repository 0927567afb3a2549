"""From an alias in CACHES to a store over the raw client underneath.

All that this package knows of private attributes, Django's and others', is in this module.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.cache import InvalidCacheBackendError, caches
from django.utils.module_loading import import_string

from django_jinja_bccache.exceptions import ConfigurationError, StoreUnavailable
from django_jinja_bccache.stores.alias import AliasStore
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.django import DjangoCacheStore, NullStore
from django_jinja_bccache.stores.filesystem import FileSystemStore
from django_jinja_bccache.stores.memcached import MemcachedStore
from django_jinja_bccache.stores.nodes import NodesStore
from django_jinja_bccache.stores.pool import ClientPool, SharedClient

#: Makes the store over one cache backend: ``factory(backend, deadline=…, guard=…)``.
Factory = Callable[..., Store]

#: The directory, below that of a FileBasedCache, which is this package's own.
SUBDIRECTORY = "jinja2_bytecode"

_factories: dict[str, str | Factory] = {}


def register_store(backend: str, factory: str | Factory) -> None:
    """Say how to make a store over a cache backend that this package does not know.

    Args:
        backend: The dotted path of the backend class, as in ``CACHES[…]["BACKEND"]``. Its
            subclasses are not meant.
        factory: A callable, or its dotted path, that is called with the backend instance and
            the keywords ``deadline`` (seconds that one operation may take) and ``guard`` (a
            callable that takes a store and a name for the log and returns the store to use),
            and returns a store. Keys go through the alias's own rules before they reach it.
    """
    _factories[backend] = factory


def open_store(alias: str, *, deadline: float, guard: Guard) -> Store:
    """Return the store for an alias in CACHES.

    Args:
        alias: The alias.
        deadline: Seconds that one operation may take, where the client can be told.
        guard: Puts a guard around each part that may fail by itself.

    Raises:
        ConfigurationError: There is no such alias, or its backend cannot be imported.
        StoreUnavailable: The backend could not be made.
    """
    try:
        backend: Any = caches[alias]
    except InvalidCacheBackendError as error:
        raise ConfigurationError(f"CACHES[{alias!r}]: {error}") from error
    except OSError as error:  # FileBasedCache makes its directory at once
        raise StoreUnavailable(f"CACHES[{alias!r}]: {error}") from error
    factory = _factory_for(alias, type(backend))
    if factory is None:
        return guard(DjangoCacheStore(alias), repr(alias))
    named = partial(_guard_named, guard, alias)
    return AliasStore(
        factory(backend, deadline=deadline, guard=named), backend.make_and_validate_key
    )


def _guard_named(guard: Guard, alias: str, store: Store, part: str) -> Store:
    return guard(store, f"{alias!r} ({part})" if part else repr(alias))


def _factory_for(alias: str, backend_class: type) -> Factory | None:
    named = caches.settings[alias]["BACKEND"]
    canonical = f"{backend_class.__module__}.{backend_class.__qualname__}"
    factory = _factories.get(named) or _factories.get(canonical)
    return import_string(factory) if isinstance(factory, str) else factory


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


def _pymemcache_store(backend: Any, *, deadline: float, guard: Guard) -> Store:
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
    import socket

    from pymemcache.client.base import Client
    from pymemcache.exceptions import MemcacheUnexpectedCloseError

    from django_jinja_bccache.stores.deadline import SocketModule, TLSContext

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


def _file_store(backend: Any, *, deadline: float, guard: Guard) -> Store:  # noqa: ARG001
    """Make a store beside the files of a FileBasedCache, which leaves other files alone."""
    return guard(FileSystemStore(os.path.join(backend._dir, SUBDIRECTORY)), "")


def _null_store(_backend: Any, *, deadline: float, guard: Guard) -> Store:  # noqa: ARG001
    return NullStore()


_BACKENDS = "django.core.cache.backends"
register_store(f"{_BACKENDS}.memcached.PyMemcacheCache", _pymemcache_store)
register_store(f"{_BACKENDS}.filebased.FileBasedCache", _file_store)
register_store(f"{_BACKENDS}.dummy.DummyCache", _null_store)
