"""The CACHES setting, out of one word or address."""

from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured

ACCEPTED = '"file", "file:///absolute/directory" or "memcached://host:port[,host:port…]"'


def caches_from(value: str, default_directory: Path) -> dict[str, dict[str, Any]]:
    """Return CACHES for ``value``, the BYTECODE_CACHE of the process environment."""
    scheme, _, location = value.partition("://")
    if value == "file":
        return {"default": file_cache(default_directory)}
    if scheme == "file" and Path(location).is_absolute():
        return {"default": file_cache(Path(location))}
    if scheme == "memcached" and all(is_host_and_port(each) for each in location.split(",")):
        return {"default": memcached_cache(location.split(","))}
    raise ImproperlyConfigured(f"BYTECODE_CACHE must be {ACCEPTED}, not {value!r}.")


def file_cache(directory: Path) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(directory),
    }


def memcached_cache(servers: list[str]) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.memcached.PyMemcacheCache",
        "LOCATION": servers,
        "KEY_PREFIX": "testproject",
    }


def is_host_and_port(server: str) -> bool:
    host, _, port = server.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit()
