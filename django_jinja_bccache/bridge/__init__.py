"""From an alias in CACHES to a store over the raw client underneath.

All that this package knows of private attributes, Django's and others', is in this package.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from django.core.cache import InvalidCacheBackendError, caches
from django.utils.module_loading import import_string

from django_jinja_bccache.exceptions import ConfigurationError, StoreUnavailable
from django_jinja_bccache.stores.alias import AliasStore
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.django import DjangoCacheStore

#: Makes the store over one cache backend: ``factory(backend, deadline=…, guard=…)``.
Factory = Callable[..., Store]

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


_PACKAGE = "django_jinja_bccache.bridge"
_BACKENDS = "django.core.cache.backends"
register_store(f"{_BACKENDS}.memcached.PyMemcacheCache", f"{_PACKAGE}.memcached.pymemcache_store")
register_store(f"{_BACKENDS}.filebased.FileBasedCache", f"{_PACKAGE}.local.file_store")
register_store(f"{_BACKENDS}.dummy.DummyCache", f"{_PACKAGE}.local.null_store")
