"""The stores that every end-to-end test runs on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import close_caches
from django.test import override_settings

from testproject.caches import caches_from, databases_from, option_from


@dataclass(frozen=True)
class Backend:
    """One store, named as in testproject's BYTECODE_CACHE."""

    name: str
    url: str

    @property
    def caches(self) -> dict[str, dict[str, Any]]:
        return caches_from(self.url, Path())

    @property
    def lists_keys(self) -> bool:
        return self.name != "postgresql"

    @property
    def databases(self) -> dict[str, dict[str, Any]]:
        return databases_from(self.url)

    @property
    def option(self) -> str | dict[str, Any]:
        """What an engine's option ``bytecode_cache`` is for it."""
        return option_from(self.url)


def postgresql_url(request: pytest.FixtureRequest) -> str:
    """A database with an empty table for the cache."""
    server = request.getfixturevalue("postgresql")
    with server.connection() as connection:
        connection.execute("DROP TABLE IF EXISTS bytecode")
        connection.execute(
            "CREATE TABLE bytecode (cache_key varchar(255) PRIMARY KEY, value text NOT NULL,"
            " expires timestamptz NOT NULL)"
        )
    return f"postgresql://postgres:{server.password}@{server.host}:{server.port}/postgres"


URLS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "memcached": lambda request: f"memcached://{request.getfixturevalue('memcached').address}",
    "pylibmc": lambda request: f"pylibmc://{request.getfixturevalue('memcached').address}",
    "redis": lambda request: request.getfixturevalue("redis").url,
    "files": lambda request: f"file://{request.getfixturevalue('tmp_path') / 'cache'}",
}


# What is tried with whole sites alone: with a database, or no cache of Django's.
SITE_URLS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "diskcache": lambda request: f"diskcache://{request.getfixturevalue('tmp_path') / 'cache'}",
    "postgresql": postgresql_url,
    "sqlite": lambda request: f"sqlite://{request.getfixturevalue('tmp_path') / 'cache.sqlite3'}",
    "tiered": lambda request: f"{URLS['files'](request)}|{URLS['memcached'](request)}",
}
EVERY_URL = URLS | SITE_URLS
# The others are tried with --every-store.
IN_EVERY_RUN = {"memcached", "files"}
# Where nearly every test starts processes of its own, and files have tests of their own.
IN_EVERY_RUN_OF = {
    "attacks": {"memcached"},
    "commands": {"memcached"},
    "test_loader": {"memcached"},
}


@contextmanager
def running(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """The store that a test's parameter names, empty, as the settings' default cache."""
    made = Backend(request.param, EVERY_URL[request.param](request))
    with override_settings(CACHES=made.caches):
        yield made
        close_caches()


@pytest.fixture(params=list(URLS))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each store that an alias in CACHES can have."""
    with running(request) as made:
        yield made
