"""What every measured process does beside what is measured: imports, and bookkeeping."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any

import jinja2

NEEDED = (
    "django.core.cache.backends.filebased",
    "django.core.cache.backends.memcached",
    "django.core.cache.backends.redis",
    "django_jinja.cache",
    "django_jinja_bccache.bridge.local",
    "django_jinja_bccache.bridge.memcached",
    "django_jinja_bccache.bridge.redis",
    "django_jinja_bccache.stores.filesystem",
    "django_jinja_bccache.stores.memcached",
    "django_jinja_bccache.stores.redis",
    "django_jinja_bccache.stores.sqlite",
    "encodings.idna",
    "encodings.unicode_escape",
    "pymemcache.client.hash",
    "redis",
    "sqlite3",
)

compiled: list[str] = []
"""The names of the templates that this process has compiled."""


def peak_memory() -> int:
    """Return the most bytes of memory that this process has had."""
    # ru_maxrss would be that of the process which started this one, if that had more.
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def import_all() -> None:
    """Import what any contender may come to need, so that no clock sees it."""
    for name in NEEDED:
        import_module(name)
    with suppress(ImportError):
        import_module("backports.zstd")
    with suppress(ImportError):
        import_module("compression.zstd")


def count_compilations() -> None:
    """Note every template that is compiled from here on."""
    original = jinja2.environment.generate

    def generate(node: Any, environment: Any, name: Any, *arguments: Any, **options: Any) -> Any:
        compiled.append(name)
        return original(node, environment, name, *arguments, **options)

    jinja2.environment.generate = generate
