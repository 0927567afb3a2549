"""Stores over Redis and Valkey: over the clients beneath cache backends, and anybody's own.

A client's own time-outs count from each ``recv`` anew, may be none at all, and the library
retries by itself. So no client is used but siblings of it: they connect as it does, to the
same server with the same credentials, keep one deadline and return bytes.
"""

from __future__ import annotations

import random
import sys
import threading
import weakref
from collections.abc import Callable, Collection
from copy import copy
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import Any

from django_jinja_bccache.exceptions import ConfigurationError
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.deadline import Deadline, DeadlineSocket
from django_jinja_bccache.stores.pool import ClientPool
from django_jinja_bccache.stores.redis import RedisStore
from django_jinja_bccache.stores.replicated import ReplicatedStore


def django_store(backend: Any, *, deadline: float, guard: Guard) -> Store | None:
    """Make a store over the servers of Django's RedisCache."""
    client = backend._cache
    replicas = partial(client.get_client, write=False) if len(client._servers) > 1 else None
    return _store(partial(client.get_client, write=True), replicas, deadline, guard)


def django_redis_store(backend: Any, *, deadline: float, guard: Guard) -> Store | None:
    """Make a store over the servers of django-redis's RedisCache."""
    from django_redis import client

    known = {client.DefaultClient, client.HerdClient, client.SentinelClient}
    return _store_of_known(backend.client, known, deadline, guard)


def django_valkey_store(backend: Any, *, deadline: float, guard: Guard) -> Store | None:
    """Make a store over the servers of django-valkey's ValkeyCache."""
    from django_valkey import client

    known = {client.DefaultClient, client.HerdClient, client.SentinelClient}
    return _store_of_known(backend.client, known, deadline, guard)


def _store_of_known(
    client: Any, known: Collection[type], deadline: float, guard: Guard
) -> Store | None:
    if type(client) not in known:  # one that shards, for instance
        return None
    primary, *replicas = [client.connect(index) for index in range(len(client._server))]
    choose = partial(random.choice, replicas) if replicas else None
    return _store(lambda: primary, choose, deadline, guard)


def _store(
    primary: Callable[[], Any],
    replicas: Callable[[], Any] | None,
    deadline: float,
    guard: Guard,
) -> Store | None:
    if _errors_of(primary()) is None:
        return None
    if replicas is None:
        return guard(_redis_store(primary, deadline), "")
    return ReplicatedStore(
        guard(_redis_store(primary, deadline), "primary"),
        guard(_redis_store(replicas, deadline), "replicas"),
    )


def checked_client(client: Any) -> Any:
    """Return a client that ``client_store`` takes.

    Raises:
        ConfigurationError: It is another object.
    """
    if _errors_of(client) is None:
        kind = type(client)
        raise ConfigurationError(
            f"client: {kind.__module__}.{kind.__qualname__} is not accepted; it must be a "
            "redis.Redis or a valkey.Valkey, neither asynchronous nor of a cluster."
        )
    return client


def client_store(client: Any, *, deadline: float) -> Store:
    """Return a store over siblings of a client of redis-py or valkey-py."""
    return _redis_store(lambda: client, deadline)


def _redis_store(source: Callable[[], Any], deadline: float) -> RedisStore:
    errors: Any = _errors_of(source())

    def begin(client: Any, end: float) -> None:
        client.connection_pool.connection_class.deadline.end = end

    pool = ClientPool(
        lambda: _sibling(source(), Deadline(), deadline),
        _disconnect,
        deadline=deadline,
        begin=begin,
        connection_lost=(ConnectionError, errors.ConnectionError),
    )
    return RedisStore(pool, errors)


def _errors_of(client: Any) -> ModuleType | None:
    """Return the exceptions of a client's library; None if it is of neither, or has no pool."""
    connection_class = getattr(getattr(client, "connection_pool", None), "connection_class", None)
    if not isinstance(connection_class, type):
        return None
    for library in ("redis", "valkey"):
        module: Any = sys.modules.get(f"{library}.connection")
        if module and issubclass(connection_class, module.AbstractConnection):
            return import_module(f"{library}.exceptions")
    return None


# What a copied pool of connections must not have in common with its original.
_POOL_STATE = ("_available_connections", "_in_use_connections", "_connections")
_POOL_OPTIONS: dict[str, Callable[[], Any]] = {
    "_lock": threading.RLock,
    "_fork_lock": threading.Lock,
    # Client-side caching and the notifications that lengthen time-outs.
    "cache": lambda: None,
    "_maint_notifications_pool_handler": lambda: None,
    "_oss_cluster_maint_notifications_handler": lambda: None,
}


def _sibling(client: Any, deadline: Deadline, seconds: float, limit: float | None = None) -> Any:
    """Return a client for one user at a time that connects as another does.

    Args:
        client: The other client.
        deadline: What its connections obey.
        seconds: How long operations may take.
        limit: How many seconds may pass without a byte.
    """
    pool = copy(client.connection_pool)
    for name in _POOL_STATE:
        vars(pool).pop(name, None)
    for name, make in _POOL_OPTIONS.items():
        if name in vars(pool):
            setattr(pool, name, make())
    pool.connection_class = _punctual(pool.connection_class, deadline, limit)
    pool.connection_kwargs = dict(pool.connection_kwargs)
    if hasattr(pool, "sentinel_manager"):
        _ask_sibling_sentinels(pool, deadline, seconds)
    pool.reset()
    sibling = copy(client)
    sibling.connection_pool = pool
    sibling.connection = None
    sibling._single_connection_client = False
    return sibling


def _ask_sibling_sentinels(pool: Any, deadline: Deadline, seconds: float) -> None:
    manager, proxy = copy(pool.sentinel_manager), copy(pool.proxy)
    # A sentinel that does not answer leaves time for the others, and for the server itself.
    share = seconds / (len(manager.sentinels) + 1)
    manager.sentinels = [_sibling(item, deadline, seconds, share) for item in manager.sentinels]
    proxy.connection_pool_ref = weakref.ref(pool)
    proxy.sentinel_manager = pool.sentinel_manager = manager
    pool.proxy = pool.connection_kwargs["connection_pool"] = proxy


def _disconnect(client: Any) -> None:
    client.connection_pool.disconnect()
    manager = getattr(client.connection_pool, "sentinel_manager", None)
    for sentinel in () if manager is None else manager.sentinels:
        sentinel.connection_pool.disconnect()


# What costs round trips, lengthens time-outs or makes other than bytes of values.
_NOT_FOR_SIBLINGS = {
    *("retry", "retry_on_error", "retry_on_timeout", "health_check_interval"),
    *("decode_responses", "cache", "cache_config", "event_dispatcher"),
    *("maint_notifications_config", "maint_notifications_pool_handler"),
    *("oss_cluster_maint_notifications_handler", "orig_host_address"),
    *("orig_socket_timeout", "orig_socket_connect_timeout"),
}


def _punctual(base: Any, end: Deadline, limit: float | None) -> type:
    """Return a class of connections that obey a deadline in whatever they do."""

    class PunctualConnection(base):  # type: ignore[misc]
        deadline = end
        _is_connecting = False
        _limit: float | None = None
        _connect_limit: float | None = None

        def __init__(self, **kwargs: Any) -> None:
            own = {name: kwargs[name] for name in kwargs if name not in _NOT_FOR_SIBLINGS}
            super().__init__(**own)
            timeout = own.get("socket_timeout")
            self._limit = _shorter(limit, timeout)
            self._connect_limit = _shorter(limit, own.get("socket_connect_timeout", timeout))
            # The name of the library, for the server's list of clients: two round trips.
            self.driver_info = self.lib_name = self.lib_version = None

        # The time-outs are asked for anew with each address that a name stands for, and before
        # the TLS handshake.
        @property
        def socket_timeout(self) -> float | None:
            return end.remaining(self._limit) if self._is_connecting else self._limit

        @socket_timeout.setter
        def socket_timeout(self, value: float | None) -> None:
            pass

        @property
        def socket_connect_timeout(self) -> float | None:
            return end.remaining(self._connect_limit) if self._is_connecting else None

        @socket_connect_timeout.setter
        def socket_connect_timeout(self, value: float | None) -> None:
            pass

        def _connect(self) -> DeadlineSocket:
            self._is_connecting = True
            try:
                return DeadlineSocket(super()._connect(), end, self._limit)
            finally:
                self._is_connecting = False

    return PunctualConnection


def _shorter(*limits: float | None) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
