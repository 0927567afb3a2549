"""System checks: what the settings had better not say. They touch no cache and no network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage, Tags, Warning, register  # noqa: A004 - Django's name

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.bridge import unpickles
from django_jinja_bccache.caches import DjangoBytecodeCache
from django_jinja_bccache.conf import caches_in_settings


@register(Tags.caches)
def check_pickles(**_options: Any) -> list[CheckMessage]:
    """Warn of an alias whose backend unpickles a value before its signature can be looked at."""
    return [
        Warning(
            f"Engine {engine!r} keeps its bytecode in CACHES[{alias!r}], whose backend unpickles "
            "what it reads before anybody can tell who wrote it.",
            hint="Whoever can write to that cache can run code here. Use a backend whose raw "
            "client is known (see docs/backends.md), or a cache that nobody else writes to.",
            obj=f"TEMPLATES engine {engine!r}",
            id="django_jinja_bccache.W001",
        )
        for engine, cache in caches_in_settings()
        for alias in _aliases(cache)
        if unpickles(alias)
    ]


def _aliases(cache: StoreBytecodeCache) -> Iterator[str]:
    if isinstance(cache, DjangoBytecodeCache):
        yield cache.alias
    for name in cache.nested_caches:
        yield from _aliases(getattr(cache, name))
