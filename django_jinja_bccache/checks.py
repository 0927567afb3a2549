"""System checks: what the settings had better not say. They touch no network."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache.backends.db import BaseDatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.filebased import FileBasedCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import (
    CheckMessage,
    Info,
    Tags,
    Warning,  # noqa: A004 - Django's name
    register,
)
from django.template import engines
from django.utils.module_loading import import_string

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.bridge import reads_through_django, unpickles
from django_jinja_bccache.caches import DjangoBytecodeCache
from django_jinja_bccache.conf import all_caches_in_settings, caches_in_settings
from django_jinja_bccache.jinja2 import Jinja2

if TYPE_CHECKING:
    from django_jinja_bccache.discovery import CachedEngine

_CULLING = (BaseDatabaseCache, FileBasedCache)
_CULLED_AT = 300  # Django's default of MAX_ENTRIES
_SERVERS = ("memcached", "redis", "valkey")


@register(Tags.caches)
def check_pickles(**_options: Any) -> list[CheckMessage]:
    """Warn of an alias whose backend unpickles a value before its signature can be looked at."""
    return [
        warning_about(
            "001",
            engine,
            f"keeps its bytecode in CACHES[{alias!r}], whose backend unpickles what it reads "
            "before anybody can tell who wrote it.",
            "Whoever can write to that cache can run code here. Use a backend whose raw client "
            "is known, such as PyMemcacheCache, RedisCache or FileBasedCache, or a cache that "
            "nobody else writes to.",
        )
        for engine, alias in _aliases_in_use()
        if unpickles(alias)
    ]


@register(Tags.caches)
def check_stores(**_options: Any) -> list[CheckMessage]:
    """Warn of an alias that no other process shares, or that keeps nothing."""
    return [
        warning_about(
            "002",
            engine,
            f"keeps its bytecode in CACHES[{alias!r}], a "
            f"{_backend_class(alias).__name__}, which no other process can read.",
            "Each process compiles every template. Name an alias over memcached, Redis or files, "
            "or a FileSystemBytecodeCache.",
        )
        for engine, alias in _aliases_in_use()
        if issubclass(_backend_class(alias), (LocMemCache, DummyCache))
    ]


@register(Tags.caches)
def check_max_entries(**_options: Any) -> list[CheckMessage]:
    """Warn of an alias that drops entries before every template has one."""
    limited = [
        (engine, alias, most)
        for engine, alias in _aliases_in_use()
        if (most := _max_entries(alias)) is not None
    ]
    counts = {
        each.name: len(each.list_templates().names)
        for each in engines_named({engine for engine, _, _ in limited})
    }
    return [
        warning_about(
            "003",
            engine,
            f"has {counts[engine]:,} templates, but CACHES[{alias!r}] keeps {most:,} entries.",
            "Raise MAX_ENTRIES in its OPTIONS to several times the number of templates.",
        )
        for engine, alias, most in limited
        if counts.get(engine, 0) >= most
    ]


@register(Tags.caches)
def check_timeouts(**_options: Any) -> list[CheckMessage]:
    """Warn of a client of Django's that may wait for ever, where it is the one that is used."""
    return [
        warning_about(
            "004",
            engine,
            f"reads CACHES[{alias!r}] through Django's cache API, and its client has no time-out.",
            "A server that does not answer holds a page until the operating system gives up. Set "
            "timeout and connect_timeout (memcached), or socket_timeout and "
            "socket_connect_timeout (Redis), in its OPTIONS.",
        )
        for engine, alias in _aliases_in_use()
        if _may_wait_for_ever(alias)
    ]


@register(Tags.caches, deploy=True)
def check_shared_aliases(**_options: Any) -> list[CheckMessage]:
    """Advise against an alias that holds something which is cleared now and then."""
    users = {}
    if "django.middleware.cache.UpdateCacheMiddleware" in settings.MIDDLEWARE:
        users[settings.CACHE_MIDDLEWARE_ALIAS] = "the pages of Django's cache middleware"
    if settings.SESSION_ENGINE.startswith("django.contrib.sessions.backends.cache"):
        users[settings.SESSION_CACHE_ALIAS] = "sessions"
    return [
        warning_about(
            "005",
            engine,
            f"keeps its bytecode in CACHES[{alias!r}] together with {users[alias]}.",
            "Whoever clears the one clears the other, and each takes memory from the other. Give "
            "the bytecode an alias of its own.",
        )
        for engine, alias in _aliases_in_use()
        if alias in users
    ]


@register(Tags.caches, deploy=True)
def check_key_prefix(**_options: Any) -> list[CheckMessage]:
    """Advise against keys that another site on the same server may use as well."""
    return [
        warning_about(
            "006",
            engine,
            f"keeps its bytecode in CACHES[{alias!r}], which has no KEY_PREFIX.",
            "Another site on the same server with the same SECRET_KEY, such as a staging site, "
            "would share its keys: a publish of one replaces the other's.",
        )
        for engine, alias in _aliases_in_use()
        if _is_server(alias)
        and not (
            settings.CACHES[alias].get("KEY_PREFIX") or settings.CACHES[alias].get("KEY_FUNCTION")
        )
    ]


@register(Tags.caches, deploy=True)
def check_releases(**_options: Any) -> list[CheckMessage]:
    """Tell of engines that serve a release of the same name."""
    names: dict[str, list[str]] = {}
    for engine, cache in caches_in_settings():
        if cache.release is not None:
            names.setdefault(cache.release, []).append(engine)
    return [
        Info(
            f"Engines {', '.join(map(repr, sharing))} serve a release {release!r} each.",
            hint="Each has packs of its own: warm_bytecode has to publish all of them, and "
            "warm_bytecode --engine publishes one.",
            obj=f"TEMPLATES engine {sharing[0]!r}",
            id="django_jinja_bccache.I008",
        )
        for release, sharing in names.items()
        if len(sharing) > 1
    ]


@register(Tags.caches)
def check_caches_of_jinja2(**_options: Any) -> list[CheckMessage]:
    """Warn of a cache of Jinja2's own where one of this package was probably meant."""
    return [
        warning_about(
            "010",
            engine,
            f"has Jinja2's own {type(cache).__name__} and none of this package.",
            "It runs whatever it finds, and the commands pass it over. Import the class from "
            "django_jinja_bccache instead: it takes the same arguments.",
        )
        for engine, cache in all_caches_in_settings()
        if type(cache).__module__ == "jinja2.bccache"
    ]


@register(Tags.caches)
def check_release_backends(**_options: Any) -> list[CheckMessage]:
    """Warn of a release that the engine's backend does not serve."""
    backends = {name: params["BACKEND"] for name, params in engines.templates.items()}
    return [
        warning_about(
            "009",
            engine,
            f"has the release {cache.release!r}, but its BACKEND reads the sources all the same.",
            "Use django_jinja_bccache.jinja2.Jinja2 as its BACKEND, or leave release out.",
        )
        for engine, cache in caches_in_settings()
        if cache.release is not None and not issubclass(import_string(backends[engine]), Jinja2)
    ]


def warning_about(number: str, engine: str, message: str, hint: str) -> Warning:
    """Return a warning about an engine, by its NAME."""
    return Warning(
        f"Engine {engine!r} {message}",
        hint=hint,
        obj=f"TEMPLATES engine {engine!r}",
        id=f"django_jinja_bccache.W{number}",
    )


def aliases_in_memory(cache: StoreBytecodeCache) -> list[str]:
    """Return those of a cache's aliases that keep what is stored for their own process alone."""
    return [alias for alias in _aliases(cache) if issubclass(_backend_class(alias), LocMemCache)]


def _aliases_in_use() -> Iterator[tuple[str, str]]:
    """Yield the engines that keep bytecode in CACHES, each with its alias."""
    for engine, cache in caches_in_settings():
        for alias in _aliases(cache):
            yield engine, alias


def _aliases(cache: StoreBytecodeCache) -> Iterator[str]:
    if isinstance(cache, DjangoBytecodeCache):
        yield cache.alias
    for name in cache.nested_caches:
        yield from _aliases(getattr(cache, name))


def _backend_class(alias: str) -> type:
    found: type = import_string(settings.CACHES[alias]["BACKEND"])
    return found


def _max_entries(alias: str) -> int | None:
    """Return how many entries a backend of Django's keeps, None if it drops none."""
    if not (reads_through_django(alias) and issubclass(_backend_class(alias), _CULLING)):
        return None
    params = settings.CACHES[alias]
    limit = params.get("OPTIONS", {}).get("MAX_ENTRIES", params.get("MAX_ENTRIES", _CULLED_AT))
    return int(limit)


def _is_server(alias: str) -> bool:
    classes = _backend_class(alias).__mro__
    names = [f"{each.__module__}.{each.__qualname__}".lower() for each in classes]
    return any(server in name for server in _SERVERS for name in names)


def _may_wait_for_ever(alias: str) -> bool:
    options = settings.CACHES[alias].get("OPTIONS", {})
    return (
        _is_server(alias)
        and reads_through_django(alias)
        and not any("timeout" in str(name).lower() for name in options)
    )


def engines_named(names: Iterable[str]) -> list[CachedEngine]:
    """Return engines by their NAMEs, none if they cannot be made: Django says so elsewhere.

    Checks run with most commands: no engine is made that no check needs.
    """
    from django_jinja_bccache.discovery import cached_engines  # a web server runs no checks

    wanted = list(names)
    try:
        return cached_engines(wanted) if wanted else []
    except Exception:  # noqa: BLE001 - an environment of a user's may raise anything
        return []
