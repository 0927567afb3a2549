"""Stores over an alias in CACHES, for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.cache import close_caches
from django.test import override_settings

from django_jinja_bccache import bridge
from django_jinja_bccache.stores.base import Guard, Store, unguarded

PYMEMCACHE = "django.core.cache.backends.memcached.PyMemcacheCache"
PYLIBMC = "django.core.cache.backends.memcached.PyLibMCCache"
REDIS = "django.core.cache.backends.redis.RedisCache"
DJANGO_REDIS = "django_redis.cache.RedisCache"
DJANGO_VALKEY = "django_valkey.cache.ValkeyCache"
DJANGO_VALKEY_CLUSTER = "django_valkey.cluster_cache.cache.ClusterValkeyCache"


@contextmanager
def opened(
    backend: str, *, deadline: float = 10.0, guard: Guard = unguarded, **params: Any
) -> Iterator[Store]:
    """The store over an alias with this backend and these parameters in CACHES."""
    with override_settings(CACHES={"default": {"BACKEND": backend, **params}}):
        store = bridge.open_store("default", deadline=deadline, guard=guard)
        yield store
        store.close()
        close_caches()
