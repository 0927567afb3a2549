"""A pickle that somebody has planted on a server or in a directory never runs."""

import os
import pickle
import zlib

import pymemcache
import pytest
from django.core.cache import caches

from django_jinja_bccache.bridge.memcached import memcached_store, shared_client
from django_jinja_bccache.stores.filesystem import FileSystemStore
from tests.stores.opening import DJANGO_REDIS, DJANGO_VALKEY, PYMEMCACHE, REDIS, opened

FLAGS = [0, 1, 2, 3, 8, 9, 16, 17, 0xFFFF]


class Hostile:
    """Makes a directory where it is unpickled."""

    def __init__(self, marker) -> None:
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "marker"


@pytest.fixture
def value(marker) -> bytes:
    return pickle.dumps(Hostile(marker))


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("compressed", [False, True])
def test_from_memcached_it_comes_as_bytes_whatever_its_flags(
    memcached, value, marker, flags, compressed
):
    planted = zlib.compress(value) if compressed else value
    memcached.set_raw(":1:key", planted, flags=flags)
    with opened(PYMEMCACHE, LOCATION=memcached.address) as store:
        assert store.get("key") == planted
        assert store.get_many(["key"]) == {"key": planted}
    assert not marker.exists()


def test_in_djangos_own_client_the_same_value_runs(memcached, value, marker):
    memcached.set_raw(":1:key", value, flags=1)
    with opened(PYMEMCACHE, LOCATION=memcached.address):
        caches["default"].get("key")
    assert marker.exists()


@pytest.mark.parametrize("flags", FLAGS)
def test_in_a_client_of_the_users_own_that_does_not_pickle_it_comes_as_bytes(
    memcached, value, marker, flags
):
    memcached.set_raw("key", value, flags=flags)
    client = pymemcache.Client(memcached.address)
    store = memcached_store(shared_client(client, deadline=5), deadline=5)
    assert store.get("key") == value
    client.close()
    assert not marker.exists()


@pytest.mark.parametrize("ours", [False, True])
def test_from_a_file_it_comes_as_bytes_or_not_at_all(tmp_path, value, marker, ours):
    store = FileSystemStore(tmp_path / "cache")
    store.set("key", value, None)
    [path] = (tmp_path / "cache").iterdir()
    if not ours:
        path.write_bytes(value)
    assert store.get("key") == (value if ours else None)
    assert [item.key for item in store.scan("")] == (["key"] if ours else [])
    assert not marker.exists()


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS, DJANGO_VALKEY])
@pytest.mark.parametrize("compressed", [False, True])
def test_from_redis_it_comes_as_bytes(redis, value, marker, backend, compressed):
    planted = zlib.compress(value) if compressed else value
    redis.set_raw(":1:key", planted)
    with opened(backend, LOCATION=redis.url) as store:
        assert store.get("key") == planted
        assert store.get_many(["key"]) == {"key": planted}
    assert not marker.exists()


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS, DJANGO_VALKEY])
def test_in_the_backend_over_redis_the_same_value_runs(redis, value, marker, backend):
    redis.set_raw(":1:key", value)
    with opened(backend, LOCATION=redis.url):
        caches["default"].get("key")
    assert marker.exists()
