"""Django's public cache API as a store, over backends that have no raw client."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.core.cache import CacheKeyWarning, caches
from django.core.cache.backends.filebased import FileBasedCache
from django.core.management import call_command
from django.db import connections

from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.base import StoreUsage
from tests.stores.contract import ForeignValues, NoListingContract
from tests.stores.opening import opened

BACKENDS = "django.core.cache.backends"
# A second is the default time-out, so that a value to be kept for ever shows that it is.
ROOMY = {"TIMEOUT": 1, "OPTIONS": {"MAX_ENTRIES": 100_000}}


@contextmanager
def as_default_database(params: dict[str, Any]) -> Iterator[None]:
    before = connections.settings["default"]
    connections.settings |= connections.configure_settings({"default": params})
    with suppress(AttributeError):  # this thread has no connection yet
        del connections["default"]
    yield
    connections.settings["default"] = before
    del connections["default"]


class FileCacheOfTheSitesOwn(FileBasedCache):
    """A subclass, which the bridge leaves to the public API."""

    def _cull(self):
        """Remove nothing; Django would list all files at each set."""


# Django warns of keys that memcached would refuse.
@pytest.mark.filterwarnings(f"ignore::{CacheKeyWarning.__module__}.CacheKeyWarning")
class DjangoContract(NoListingContract, ForeignValues):
    longest_key = None

    @pytest.fixture
    def plant(self, store):
        return lambda key, value: caches["default"].set(key, value, 100)

    def test_it_tells_nothing_of_its_usage(self, store):
        assert store.usage() == StoreUsage(None, None)


class TestLocMemCache(DjangoContract):
    @pytest.fixture
    def store(self, request):
        location = request.node.name
        with opened(f"{BACKENDS}.locmem.LocMemCache", LOCATION=location, **ROOMY) as store:
            yield store
            caches["default"].clear()


class TestSubclassOfFileBasedCache(DjangoContract):
    @pytest.fixture
    def store(self, tmp_path):
        backend = f"{__name__}.FileCacheOfTheSitesOwn"
        with opened(backend, LOCATION=tmp_path / "cache", **ROOMY) as store:
            yield store

    def test_the_values_are_where_the_sites_own_cache_keeps_them(self, store, tmp_path):
        store.set("key", b"1", 100)
        assert caches["default"].get("key") == b"1"
        assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".djcache"]


class TestDatabaseCache(DjangoContract):
    reads_in_all = 1_000
    most_at_once = 1_000

    keeps_connections = False  # nor does Django, but for CONN_MAX_AGE

    @pytest.fixture
    def database(self, tmp_path, django_db_blocker):
        """An SQLite file as the site's database."""
        own = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": tmp_path / "site.sqlite3",
            "OPTIONS": {"timeout": 60, "init_command": "PRAGMA synchronous = OFF"},
        }
        with as_default_database(own), django_db_blocker.unblock():
            yield
            connections["default"].close()

    @pytest.fixture
    def store(self, database):
        with opened(f"{BACKENDS}.db.DatabaseCache", LOCATION="cache_table", **ROOMY) as store:
            call_command("createcachetable")
            yield store

    def test_a_table_that_is_missing_is_an_error_of_the_store(self, database):
        with (
            opened(f"{BACKENDS}.db.DatabaseCache", LOCATION="no_table") as store,
            pytest.raises(StoreError, match="no_table"),
        ):
            store.get("key")


class TestServer:
    def test_one_that_is_gone_is_out_of_reach_for_many_values_as_well(self, memcached_server):
        backend = "tests.test_bridge.MemcachedOfTheSitesOwn"
        with memcached_server() as server, opened(backend, LOCATION=server.address) as store:
            assert store.set_many({"key": b"1"}, 100) == []
            server.stop()
            with pytest.raises(StoreError):
                store.set_many({"key": b"2"}, 100)
