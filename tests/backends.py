"""The stores that every end-to-end test runs on."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import close_caches
from django.test import override_settings

from testproject.caches import caches_from, option_from


@dataclass(frozen=True)
class Backend:
    """One store, named as in testproject's BYTECODE_CACHE."""

    name: str
    url: str

    @property
    def caches(self) -> dict[str, dict[str, Any]]:
        return caches_from(self.url, Path())

    @property
    def option(self) -> str | dict[str, Any]:
        """What an engine's option ``bytecode_cache`` is for it."""
        return option_from(self.url)


URLS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "memcached": lambda request: f"memcached://{request.getfixturevalue('memcached').address}",
    "pylibmc": lambda request: f"pylibmc://{request.getfixturevalue('memcached').address}",
    "redis": lambda request: request.getfixturevalue("redis").url,
    "files": lambda request: f"file://{request.getfixturevalue('tmp_path') / 'cache'}",
}


# Those that are no cache of Django's: only an engine's option names them.
OPTION_URLS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "sqlite": lambda request: f"sqlite://{request.getfixturevalue('tmp_path') / 'cache.sqlite3'}",
    "tiered": lambda request: f"{URLS['files'](request)}|{URLS['memcached'](request)}",
}
EVERY_URL = URLS | OPTION_URLS
# The others are tried with --every-store.
IN_EVERY_RUN = {"memcached", "files"}


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
