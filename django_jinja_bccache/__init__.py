"""Jinja2's bytecode cache for Django sites."""

from typing import TYPE_CHECKING, Any

from django_jinja_bccache.bridge import register_store
from django_jinja_bccache.caches import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    MemcachedBytecodeCache,
    RedisBytecodeCache,
    SQLiteBytecodeCache,
)
from django_jinja_bccache.statistics import CacheEntry, CacheStatistics
from django_jinja_bccache.tiered import TieredBytecodeCache

if TYPE_CHECKING:
    from django_jinja_bccache.preloading import preload

__all__ = [
    "CacheEntry",
    "CacheStatistics",
    "DjangoBytecodeCache",
    "FileSystemBytecodeCache",
    "MemcachedBytecodeCache",
    "RedisBytecodeCache",
    "SQLiteBytecodeCache",
    "TieredBytecodeCache",
    "preload",
    "register_store",
]


def __getattr__(name: str) -> Any:
    # It looks at template engines, which a process that imports settings has no need of.
    if name == "preload":
        from django_jinja_bccache.preloading import preload

        return preload
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
