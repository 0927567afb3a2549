"""diskcache's DjangoCache: one FanoutCache for the process, and no pickle on the way."""

import os
import sqlite3
import time
from pathlib import Path

import diskcache
import jinja2
import pytest
from django.core import signals
from django.core.cache import CacheKeyWarning, caches

from django_jinja_bccache import DjangoBytecodeCache, bridge
from django_jinja_bccache.bridge.diskcache import BytesDisk
from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
from django_jinja_bccache.stores import diskcache as diskcache_store
from django_jinja_bccache.stores.base import unguarded
from django_jinja_bccache.stores.django import DjangoCacheStore
from tests.stores.contract import ForeignValues, ListingContract, eventually
from tests.stores.opening import opened

DISKCACHE = "diskcache.DjangoCache"
SIZE_LIMIT = 200_000_000


class MakesDirectory:
    """Leaves a directory where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


# Django warns of keys that memcached would refuse.
@pytest.mark.filterwarnings(f"ignore::{CacheKeyWarning.__module__}.CacheKeyWarning")
class TestDjangoCache(ListingContract, ForeignValues):
    knows_access = False
    longest_key = None

    @pytest.fixture
    def store(self, tmp_path):
        options = {"size_limit": SIZE_LIMIT}
        with opened(DISKCACHE, LOCATION=tmp_path, OPTIONS=options, KEY_PREFIX="site") as store:
            yield store

    @pytest.fixture
    def plant(self, store):
        return lambda key, value: caches["default"].set(key, value, 100)

    @pytest.fixture
    def crowd(self, store):
        def plant(count: int) -> None:
            with caches["default"]._cache.transact():
                for number in range(count):
                    caches["default"].set(f"jinja2/bytecode/{number}", 1, version=2)

        return plant

    def test_the_site_reads_what_is_stored_under_its_own_key_rules(self, store):
        store.set("key", b"1", 100)
        assert caches["default"].get("key") == b"1"

    def test_no_pickled_value_or_key_is_loaded(self, store, tmp_path):
        marker = tmp_path / "marker"
        caches["default"].set("key", MakesDirectory(marker))
        caches["default"]._cache.set(MakesDirectory(marker), 1)
        assert store.get("key") is None
        assert store.get_many(["key"]) == {}
        assert list(store.scan("")) == []
        assert not marker.exists()

    def test_the_sites_limit_stays_as_it_was_set(self, store, tmp_path):
        assert store.usage().max_size == SIZE_LIMIT
        shards = caches["default"]._cache._shards
        assert sum(shard.reset("size_limit") for shard in shards) == SIZE_LIMIT

    @pytest.mark.usefixtures("store")
    def test_opening_it_leaves_no_file_open(self, tmp_path):
        assert open_files_in(tmp_path) == []  # a child of a fork would have them for ever

    def test_the_end_of_a_request_closes_none_of_its_files(self, store, tmp_path):
        store.get("key")
        signals.request_finished.send(self)  # which closes those of Django's own instance
        before = open_files_in(tmp_path)
        assert before
        for _ in range(5):
            signals.request_finished.send(self)
        assert open_files_in(tmp_path) == before


def open_files_in(directory: Path) -> list[str]:
    """Each open file's number and path."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            path = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if path.startswith(str(directory)):
            found.append(f"{name} {path}")
    return sorted(found)


class SlowDisk(BytesDisk):
    """Takes its time to read, less than a deadline."""

    def fetch(self, *arguments, **options):
        time.sleep(0.2)  # the deadline of the test has room for two
        return super().fetch(*arguments, **options)


class TestFaults:
    @pytest.fixture
    def store(self, tmp_path):
        with opened(DISKCACHE, LOCATION=tmp_path, SHARDS=1, deadline=0.3) as store:
            store.set("key", b"1", 100)
            yield store

    def test_a_lock_that_somebody_keeps_is_waited_for_until_the_deadline(self, store, tmp_path):
        """diskcache itself would try again for ever."""
        with sqlite3.connect(tmp_path / "000" / "cache.db", isolation_level=None) as other:
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            with pytest.raises(StoreError, match="locked"):
                store.set("key", b"2", 100)
            assert store.set_many({"key": b"2"}, 100) == ["key"]
            with pytest.raises(StoreError, match="locked"):
                store.delete_many(["key"])
            assert time.monotonic() - began < 10
            assert store.get("key") == b"1"
        other.close()

    def test_many_keys_have_one_deadline_together(self, tmp_path, monkeypatch):
        monkeypatch.setattr("django_jinja_bccache.bridge.diskcache.BytesDisk", SlowDisk)
        with opened(DISKCACHE, LOCATION=tmp_path, deadline=0.5) as store:
            keys = [str(number) for number in range(10)]
            assert store.set_many(dict.fromkeys(keys, b"1"), 100) == []
            assert store.get("1") == b"1"
            with pytest.raises(StoreUnavailable):
                store.get_many(keys)

    def test_while_the_process_forks_it_is_out_of_order_at_the_deadline(self, store):
        diskcache_store._before_fork()
        try:
            with pytest.raises(StoreUnavailable, match="this process takes long to fork"):
                store.get("key")
        finally:
            diskcache_store._after_fork()
        assert store.get("key") == b"1"

    def test_one_that_is_made_while_the_process_forks_keeps_no_other_closed(self, store, tmp_path):
        diskcache_store._before_fork()
        with opened(DISKCACHE, LOCATION=tmp_path / "other") as other:
            diskcache_store._after_fork()
            assert store.get("key") == b"1"
            assert other.get("key") is None

    @pytest.mark.timeout(30)
    def test_no_page_waits_for_it_to_open_past_the_deadline(self, store, tmp_path):
        """diskcache itself would wait for a minute."""
        cache = DjangoBytecodeCache(key="k", deadline=0.3, cooldown=0.1)
        loader = jinja2.DictLoader({"a": "1", "b": "2"})
        environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
        with sqlite3.connect(tmp_path / "000" / "cache.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match=r"CACHES\['default'\]: no answer before"):
                bridge.open_store("default", deadline=0.3, guard=unguarded)
            assert environment.get_template("a").render() == "1"
            assert environment.get_template("b").render() == "2"
            assert cache.statistics.errors > 0
        other.close()

        def stores_again() -> bool:
            environment.cache.clear()
            return environment.get_template("a").render() == "1" and cache.statistics.stores == 1

        assert eventually(stores_again)
        cache.storage.opener.close()

    def test_a_database_that_is_damaged_is_out_of_order(self, store, tmp_path):
        store.close()
        # SQLite maps a file into memory, and the process dies if that is cut short.
        assert eventually(lambda: open_files_in(tmp_path) == [])
        for path in (tmp_path / "000").glob("cache.db*"):
            path.write_bytes(b"no database" * 1000)
        for use in (
            lambda: store.get("key"),
            lambda: store.set("key", b"1", 100),
            lambda: list(store.scan("")),
        ):
            with pytest.raises(StoreUnavailable):
                use()


class DiskOfTheSitesOwn(diskcache.JSONDisk):
    """A disk of the site's own."""


class TestAnotherDisk:
    def test_is_used_through_djangos_cache_api(self, tmp_path):
        options = {"disk": DiskOfTheSitesOwn}
        with opened(DISKCACHE, LOCATION=tmp_path, OPTIONS=options) as store:
            assert isinstance(store, DjangoCacheStore)
