"""The stores that every end-to-end test runs on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.cache import close_caches
from django.test import override_settings

from testproject.caches import caches_from


@dataclass(frozen=True)
class Backend:
    """One store, named as in testproject's BYTECODE_CACHE."""

    name: str
    url: str

    @property
    def caches(self) -> dict[str, dict[str, Any]]:
        return caches_from(self.url, Path())


URLS: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "memcached": lambda request: f"memcached://{request.getfixturevalue('memcached').address}",
    "files": lambda request: f"file://{request.getfixturevalue('tmp_path') / 'cache'}",
}


@pytest.fixture(params=list(URLS))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """Each store in turn, empty, as the settings' default cache."""
    made = Backend(request.param, URLS[request.param](request))
    with override_settings(CACHES=made.caches):
        yield made
        close_caches()
