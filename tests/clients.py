"""Clients as a user makes them, and a store over one."""

from collections.abc import Callable
from typing import Any

import cachelib
import memcache
import pylibmc
import pymemcache

from django_jinja_bccache.bridge.memcached import memcached_store, shared_client
from django_jinja_bccache.stores.memcached import MemcachedStore


def own_client(client: Any, *, deadline: float = 10.0) -> MemcachedStore:
    return memcached_store(shared_client(client, deadline=deadline), deadline=deadline)


class GetAndSet:
    """As little as Jinja2 asks of a client, over memory, without time-outs."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value, timeout=None):
        self.values[key] = value


class GetSetAndDelete(GetAndSet):
    def delete(self, key):
        return self.values.pop(key, None) is not None


#: What makes a client for one server, by the kind of client.
CLIENTS: dict[str, Callable[[str], Any]] = {
    "pymemcache": pymemcache.Client,
    "pymemcache pooled": pymemcache.PooledClient,
    "pymemcache hash": lambda address: pymemcache.HashClient([address]),
    "pymemcache hash pooled": lambda address: pymemcache.HashClient([address], use_pooling=True),
    "python-memcached": lambda address: memcache.Client([address]),
    "cachelib": lambda address: cachelib.MemcachedCache(memcache.Client([address])),
    "pylibmc": lambda address: pylibmc.Client([address]),
}
