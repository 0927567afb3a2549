"""The CACHES setting and the engine's option, out of one word or address."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured

ACCEPTED = (
    '"file", "file:///absolute/directory", '
    '"memcached://host:port[,host:port…]" (or "pylibmc://…"), '
    '"redis://host:port[/database]" (or "django-redis+redis://…", "django-valkey+redis://…"), '
    '"diskcache:///absolute/directory", "postgresql://user@host:port/database", '
    '"sqlite:///absolute/file", or two of them: "file:///absolute/directory|memcached://…"'
)
MEMCACHED_BACKENDS = {
    "memcached": "django.core.cache.backends.memcached.PyMemcacheCache",
    "pylibmc": "django.core.cache.backends.memcached.PyLibMCCache",
}
REDIS_BACKENDS = {
    "redis": "django.core.cache.backends.redis.RedisCache",
    "django-redis+redis": "django_redis.cache.RedisCache",
    "django-valkey+redis": "django_valkey.cache.ValkeyCache",
}


def caches_from(value: str, default_directory: Path) -> dict[str, dict[str, Any]]:
    """Return CACHES for ``value``, the BYTECODE_CACHE of the process environment."""
    value = value.rpartition("|")[2]
    scheme, _, location = value.partition("://")
    if value == "file":
        return {"default": file_cache(default_directory)}
    if scheme == "file" and Path(location).is_absolute():
        return {"default": file_cache(Path(location))}
    servers = location.split(",")
    if scheme == "diskcache" and Path(location).is_absolute():
        return {"default": {"BACKEND": "diskcache.DjangoCache", "LOCATION": location}}
    if scheme == "postgresql" and location:
        return {"default": database_cache("bytecode")}
    if scheme in MEMCACHED_BACKENDS and all(is_host_and_port(server) for server in servers):
        return {"default": memcached_cache(servers, MEMCACHED_BACKENDS[scheme])}
    if scheme in REDIS_BACKENDS and is_host_and_port(location.partition("/")[0]):
        return {"default": redis_cache(REDIS_BACKENDS[scheme], f"redis://{location}")}
    if scheme == "sqlite" and Path(location).is_absolute():
        return {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    raise ImproperlyConfigured(f"BYTECODE_CACHE must be {ACCEPTED}, not {value!r}.")


def databases_from(value: str) -> dict[str, dict[str, Any]]:
    """Return DATABASES for the same value: the cache's database, if it is in one."""
    url = urlsplit(value)
    if url.scheme != "postgresql":
        return {}
    return {
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.removeprefix("/"),
            "USER": url.username or "",
            "PASSWORD": url.password or "",
            "HOST": url.hostname or "",
            "PORT": url.port or "",
        }
    }


def option_from(value: str) -> str | dict[str, Any]:
    """Return OPTIONS["bytecode_cache"] for the same value."""
    local, _, shared = value.rpartition("|")
    if local:
        return {
            "class": "django_jinja_bccache.TieredBytecodeCache",
            "local": local_option_from(local),
            "shared": option_from(shared),
        }
    if value.startswith("postgresql://"):
        # A database on a busy machine of few processors may take its time.
        return {"alias": "default", "deadline": 5}
    return local_option_from(value) if value.startswith("sqlite://") else "default"


def local_option_from(value: str) -> dict[str, Any]:
    scheme, _, location = value.partition("://")
    if scheme == "sqlite":
        return {
            "class": "django_jinja_bccache.SQLiteBytecodeCache",
            "database_path": location,
        }
    return {"class": "django_jinja_bccache.FileSystemBytecodeCache", "directory": location}


def database_cache(table: str) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": table,
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }


def file_cache(directory: Path) -> dict[str, Any]:
    return {
        "BACKEND": "django.core.cache.backends.filebased.FileBasedCache",
        "LOCATION": str(directory),
    }


def memcached_cache(
    servers: list[str], backend: str = MEMCACHED_BACKENDS["memcached"]
) -> dict[str, Any]:
    return {"BACKEND": backend, "LOCATION": servers, "KEY_PREFIX": "testproject"}


def redis_cache(backend: str, url: str) -> dict[str, Any]:
    return {"BACKEND": backend, "LOCATION": url, "KEY_PREFIX": "testproject"}


def is_host_and_port(server: str) -> bool:
    host, _, port = server.rpartition(":")
    return bool(host) and port.isascii() and port.isdigit()
