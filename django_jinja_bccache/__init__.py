"""Jinja2's bytecode cache for Django sites."""

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

__all__ = [
    "CacheEntry",
    "CacheStatistics",
    "DjangoBytecodeCache",
    "FileSystemBytecodeCache",
    "MemcachedBytecodeCache",
    "RedisBytecodeCache",
    "SQLiteBytecodeCache",
    "TieredBytecodeCache",
    "register_store",
]
