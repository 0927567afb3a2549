"""Jinja2's bytecode cache for Django sites."""

from django_jinja_bccache.bridge import register_store
from django_jinja_bccache.caches import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    MemcachedBytecodeCache,
)
from django_jinja_bccache.statistics import CacheEntry, CacheStatistics

__all__ = [
    "CacheEntry",
    "CacheStatistics",
    "DjangoBytecodeCache",
    "FileSystemBytecodeCache",
    "MemcachedBytecodeCache",
    "register_store",
]
