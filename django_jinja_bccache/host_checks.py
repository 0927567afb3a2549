"""System checks of what is on this host's disk: whether this process can use it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.cache.backends.filebased import FileBasedCache
from django.core.checks import CheckMessage, Tags, register
from django.utils.module_loading import import_string

from django_jinja_bccache.bccache import StoreBytecodeCache
from django_jinja_bccache.caches import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    SQLiteBytecodeCache,
)
from django_jinja_bccache.checks import engines_named, warning_about
from django_jinja_bccache.conf import caches_in_settings
from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.tiered import TieredBytecodeCache

if TYPE_CHECKING:
    from django_jinja_bccache.discovery import CachedEngine


@register(Tags.caches)
def check_signing_key(**_options: Any) -> list[CheckMessage]:
    """Warn of bytecode on this host that was warmed with another key, as by an image's build."""
    return [
        warning_about(
            "007",
            engine.name,
            f"was warmed with another signing key (its id is {key_id}) than this process has, so "
            "that nothing of it is used.",
            "Build with the SECRET_KEY of production, add the other one to SECRET_KEY_FALLBACKS, "
            "or give both the same option key.",
        )
        for engine in engines_named(
            name for name, cache in caches_in_settings() if _is_local(cache)
        )
        if (key_id := _foreign_key_id(engine)) is not None
    ]


@register(Tags.caches)
def check_modes(**_options: Any) -> list[CheckMessage]:
    """Warn of files that another user has made for itself, as an image's build may."""
    return [
        warning_about(
            "011",
            engine,
            f"keeps its bytecode in {path!r}, of which this user may not read all.",
            "Each process compiles what it may not read. Warm as the user that serves; in an "
            f"image, this after the last warm-up does as well: chmod -R a+rX {path}",
        )
        for engine, cache in caches_in_settings()
        for path in _paths(cache)
        if _is_closed(path)
    ]


def _paths(cache: StoreBytecodeCache) -> Iterator[str]:
    """Yield the directories and files that a cache is in."""
    from django_jinja_bccache.bridge.local import SUBDIRECTORY

    if isinstance(cache, FileSystemBytecodeCache):
        yield cache.directory
    elif isinstance(cache, SQLiteBytecodeCache):
        yield cache.database_path
    elif isinstance(cache, DjangoBytecodeCache) and _is_local(cache):
        yield os.path.join(settings.CACHES[cache.alias].get("LOCATION", ""), SUBDIRECTORY)
    for name in cache.nested_caches:
        yield from _paths(getattr(cache, name))


def _is_closed(path: str) -> bool:
    """Tell whether something is there that this process may not read."""
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            return not os.access(path, os.R_OK)
        files = os.listdir(path)
    except OSError as error:
        return isinstance(error, PermissionError)
    paths = [os.path.join(path, each) for each in files]
    return not os.access(path, os.X_OK) or any(map(_is_forbidden, paths))


def _is_forbidden(path: str) -> bool:
    return not os.access(path, os.R_OK) and os.path.exists(path)


def _is_local(cache: StoreBytecodeCache) -> bool:
    """Tell whether a cache is on this host's disk."""
    if isinstance(cache, TieredBytecodeCache):
        return _is_local(cache.local) and _is_local(cache.shared)
    if isinstance(cache, DjangoBytecodeCache):
        return issubclass(import_string(settings.CACHES[cache.alias]["BACKEND"]), FileBasedCache)
    return isinstance(cache, FileSystemBytecodeCache | SQLiteBytecodeCache)


def _foreign_key_id(engine: CachedEngine) -> str | None:
    """Return the id of the key that an engine was warmed with, None if it is one of its own."""
    from django_jinja_bccache.archive import Archive  # a web server runs no checks
    from django_jinja_bccache.notes import newest_of

    scope = engine.cache.published.scope(engine.environment)
    try:
        with Archive(engine.cache.storage) as archive:
            newest = newest_of(archive, scope)
    except StoreError:
        return None
    return newest.key_id if newest is not None and not newest.fingerprint else None
