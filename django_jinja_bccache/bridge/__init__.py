"""From an alias in CACHES to a store over the raw client underneath.

All that this package knows of private attributes, Django's and others', is in this package.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any, TypeVar

from django.core.cache import caches
from django.core.cache.backends.locmem import LocMemCache
from django.utils.module_loading import import_string

from django_jinja_bccache.exceptions import (
    BytecodeCacheError,
    ConfigurationError,
    StoreUnavailable,
)
from django_jinja_bccache.stores.alias import AliasStore
from django_jinja_bccache.stores.base import Guard, Store
from django_jinja_bccache.stores.django import DjangoCacheStore
from django_jinja_bccache.stores.threads import ClientThread, Overdue

#: Makes the store over one cache backend: ``factory(backend, deadline=…, guard=…)``; returns
#: None if that backend is better used through Django's cache API.
Factory = Callable[..., Store | None]

_factories: dict[str, str | Factory] = {}

Made = TypeVar("Made")


def register_store(backend: str, factory: str | Factory) -> None:
    """Register a factory of stores for a cache backend that this package does not know.

    Args:
        backend: The dotted path of the backend class, as in ``CACHES[…]["BACKEND"]``. It does not
            stand for subclasses.
        factory: A callable, or its dotted path. It is called as
            ``factory(backend, deadline=…, guard=…)`` with the backend's instance, the seconds
            that one operation may take, and a callable that takes a store and a name for the log,
            and returns the store to use. It returns a store, or None to use the backend through
            Django's cache API. The store gets its keys after the alias's KEY_PREFIX, VERSION
            and KEY_FUNCTION have been applied.

    Raises:
        ConfigurationError: The dotted path of the factory cannot be imported. It is raised at
            start-up or, if the factory is registered after that, when the store is opened.
    """
    _factories[backend] = factory


def check_library(alias: str) -> None:
    """Check that the library is there which an alias's backend imports when it is made or used.

    Raises:
        ConfigurationError: It is not installed; the message says how to install it.
    """
    for base in import_string(caches.settings[alias]["BACKEND"]).__mro__:
        library = _LIBRARIES.get(f"{base.__module__}.{base.__qualname__}")
        if library is not None and find_spec(library) is None:
            raise ConfigurationError(
                f"CACHES[{alias!r}]: {base.__name__} needs the package {library!r}, which is not "
                f"installed; python -m pip install 'django-jinja-bccache[{library}]' installs it."
            )


def check_alias(alias: str) -> None:
    """Check what can be checked of an alias in CACHES without making its backend.

    Raises:
        ConfigurationError: The backend, or the factory that was registered for it, cannot be
            imported; or the backend is no class, or asynchronous.
    """
    path = caches.settings[alias].get("BACKEND", "")
    try:
        backend_class = import_string(path)
    except ImportError as error:
        raise ConfigurationError(
            f"CACHES[{alias!r}]: {path!r} cannot be imported: {error}."
        ) from error
    if not inspect.isclass(backend_class):
        raise ConfigurationError(
            f"CACHES[{alias!r}]: {path} is no class; name the class of a cache backend."
        )
    if inspect.iscoroutinefunction(getattr(backend_class, "get", None)):
        raise ConfigurationError(
            f"CACHES[{alias!r}]: {path} is asynchronous, but Jinja2 loads templates in "
            "synchronous code; name an alias whose backend has a synchronous get()."
        )
    factory = _factories.get(path)
    if isinstance(factory, str) and not factory.startswith(_PACKAGE):
        _factory_for(alias, backend_class)  # a site's own may be misspelt


def import_factory(alias: str) -> None:
    """Import what makes the store of an alias that has passed the checks."""
    _factory_for(alias, import_string(caches.settings[alias]["BACKEND"]))


def reads_through_django(alias: str) -> bool:
    """Tell whether an alias is used through Django's cache API, by its backend's class alone."""
    backend_class = import_string(caches.settings[alias]["BACKEND"])
    return _factory_for(alias, backend_class) is None


def unpickles(alias: str) -> bool:
    """Tell whether a backend unpickles what others may have written, by its class alone."""
    is_own_memory = issubclass(import_string(caches.settings[alias]["BACKEND"]), LocMemCache)
    return not is_own_memory and reads_through_django(alias)


def open_store(alias: str, *, deadline: float, guard: Guard) -> Store:
    """Return the store for an alias in CACHES.

    Args:
        alias: The alias.
        deadline: Seconds that one operation may take, where the client can be told.
        guard: Puts a guard around each part that may fail by itself.

    Raises:
        ConfigurationError: There is no such alias, or its backend cannot be imported or is
            asynchronous.
        StoreUnavailable: The backend could not be made.
    """
    if alias not in caches.settings:
        known = ", ".join(repr(each) for each in caches.settings)
        raise ConfigurationError(f"there is no alias {alias!r} in CACHES; there are: {known}.")
    check_alias(alias)
    make = partial(_make, alias, deadline=deadline, guard=guard)
    backend_class = import_string(caches.settings[alias]["BACKEND"])
    if _is_diskcache(backend_class):
        # Making it waits for files that others have locked. What it needs is imported first: a
        # child, forked while another thread imports, would keep the lock on that for ever.
        _factory_for(alias, backend_class)
        backend, store = _in_time(make, deadline, alias)
    else:
        backend, store = make()
    if store is None:
        return guard(_public_store(alias, backend), repr(alias))
    return AliasStore(store, _key_rule(backend))


def _make(alias: str, *, deadline: float, guard: Guard) -> tuple[Any, Store | None]:
    """Return an alias's backend, and the raw store over it if there is one."""
    try:
        backend: Any = caches[alias]
    except Exception as error:  # some import their library or make their directory at once
        raise StoreUnavailable(f"CACHES[{alias!r}]: {type(error).__name__}: {error}") from error
    return backend, _raw_store(alias, backend, deadline=deadline, guard=guard)


def _is_diskcache(backend_class: type) -> bool:
    bases = backend_class.__mro__
    return any(f"{each.__module__}.{each.__qualname__}" == _DISKCACHE for each in bases)


def _in_time(make: Callable[[], Made], deadline: float, alias: str) -> Made:
    """Return what is made in another thread, which may go on past the deadline."""
    thread = ClientThread(make, lambda _made: None)
    try:
        return thread.run(lambda made: made, time.monotonic() + deadline)
    except (Overdue, RuntimeError) as error:  # a process may get no more threads
        raise StoreUnavailable(f"CACHES[{alias!r}]: {error}") from error


def _raw_store(alias: str, backend: Any, *, deadline: float, guard: Guard) -> Store | None:
    factory = _factory_for(alias, type(backend))
    if factory is None:
        return None
    try:
        return factory(backend, deadline=deadline, guard=partial(_guard_named, guard, alias))
    except BytecodeCacheError:
        raise
    except Exception as error:  # backends import their library, and read their LOCATION, now
        raise StoreUnavailable(f"CACHES[{alias!r}]: {type(error).__name__}: {error}") from error


def _public_store(alias: str, backend: Any) -> Store:
    from django.core.cache.backends.db import BaseDatabaseCache

    if not isinstance(backend, BaseDatabaseCache):
        return DjangoCacheStore(alias)
    store: Store = import_string(f"{_PACKAGE}.database.DatabaseCacheStore")(alias)
    return store


def _key_rule(backend: Any) -> Callable[[str], str]:
    if hasattr(backend, "make_and_validate_key"):
        rule: Callable[[str], str] = backend.make_and_validate_key
        return rule
    # django-valkey's backends are no BaseCache.
    return lambda key: backend.key_func(key, backend.key_prefix, backend.version)


def _guard_named(guard: Guard, alias: str, store: Store, part: str) -> Store:
    return guard(store, f"{alias!r} ({part})" if part else repr(alias))


def _factory_for(alias: str, backend_class: type) -> Factory | None:
    named = caches.settings[alias]["BACKEND"]
    canonical = f"{backend_class.__module__}.{backend_class.__qualname__}"
    factory = _factories.get(named) or _factories.get(canonical)
    if not isinstance(factory, str):
        return factory
    try:
        imported: Factory = import_string(factory)
    except ImportError as error:
        raise ConfigurationError(f"register_store({named!r}, {factory!r}): {error}.") from error
    return imported


_PACKAGE = "django_jinja_bccache.bridge"
_BACKENDS = "django.core.cache.backends"
_DISKCACHE = "diskcache.djangocache.DjangoCache"
# Libraries of backends that are imported without them, and the names of our extras.
_LIBRARIES = {
    f"{_BACKENDS}.memcached.PyLibMCCache": "pylibmc",
    f"{_BACKENDS}.redis.RedisCache": "redis",
}
register_store(f"{_BACKENDS}.memcached.PyMemcacheCache", f"{_PACKAGE}.memcached.pymemcache_store")
register_store(f"{_BACKENDS}.memcached.PyLibMCCache", f"{_PACKAGE}.pylibmc.pylibmc_store")
register_store(f"{_BACKENDS}.filebased.FileBasedCache", f"{_PACKAGE}.local.file_store")
register_store(_DISKCACHE, f"{_PACKAGE}.diskcache.diskcache_store")
register_store(f"{_BACKENDS}.dummy.DummyCache", f"{_PACKAGE}.local.null_store")
register_store(f"{_BACKENDS}.redis.RedisCache", f"{_PACKAGE}.redis.django_store")
register_store("django_redis.cache.RedisCache", f"{_PACKAGE}.redis.django_redis_store")
register_store("django_valkey.cache.ValkeyCache", f"{_PACKAGE}.redis.django_valkey_store")
