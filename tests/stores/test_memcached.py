"""Memcached, beneath Django's alias and through clients that a user has made."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import cachelib
import memcache
import pymemcache
import pymemcache.serde
import pytest

from tests.clients import GetSetAndDelete, own_client
from tests.servers import Memcached
from tests.stores.contract import (
    ForeignValues,
    ListingContract,
    MinimalContract,
    NoListingContract,
)
from tests.stores.opening import PYMEMCACHE, opened

ITEM_SIZE_MAX = 1 << 20


def crowd_on(*servers: Memcached) -> Callable[[int], None]:
    """Plants keys of somebody else's, without a client library."""

    def plant(count: int) -> None:
        for server in servers:
            own, rest = divmod(count, len(servers))
            lines = [b"set foreign:jinja2/bytecode/%d 0 0 1 noreply\r\n1\r\n"] * (own + rest)
            with server.connect() as connection:
                connection.sendall(b"".join(line % at for at, line in enumerate(lines)))
                connection.sendall(b"version\r\n")  # answered when all of it is stored
                assert connection.recv(100).startswith(b"VERSION")

    return plant


class TestSiblingOfDjangosClient(ListingContract):
    crowd_size = 100_000
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX
    longest_key = 250 - len("site:1:")

    @pytest.fixture
    def store(self, memcached):
        with opened(PYMEMCACHE, LOCATION=memcached.address, KEY_PREFIX="site") as store:
            yield store

    @pytest.fixture
    def crowd(self, memcached):
        return crowd_on(memcached)


def test_many_keys_are_removed_from_a_distant_server_although_each_is_a_round_trip(
    memcached, proxy
):
    values = {str(number): b"1" for number in range(150)}
    distant = proxy(memcached.address, delay=0.005)
    with opened(PYMEMCACHE, LOCATION=distant.address, deadline=1.0) as store:
        assert store.set_many(values, 100) == []
        assert store.delete_many(values) == len(values)


class TestSiblingWithAKeyPrefixThatIsNotASCII(TestSiblingOfDjangosClient):
    crowd_size = 5_000
    longest_key = 250 - len("größe:1:".encode())

    @pytest.fixture
    def store(self, memcached):
        with opened(PYMEMCACHE, LOCATION=memcached.address, KEY_PREFIX="größe") as store:
            yield store


class TestSiblingsOnThreeNodes(ListingContract):
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX
    longest_key = 250 - len(":1:")

    @pytest.fixture
    def store(self, three_servers):
        addresses = [server.address for server in three_servers]
        with opened(PYMEMCACHE, LOCATION=addresses) as store:
            yield store

    @pytest.fixture
    def crowd(self, three_servers):
        return crowd_on(*three_servers)


class TestSiblingOnAUnixSocket(ListingContract):
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX
    longest_key = 250 - len(":1:")

    @pytest.fixture
    def server(self, tmp_path: Path):
        with Memcached(unix_socket=tmp_path / "memcached.sock") as server:
            yield server

    @pytest.fixture
    def store(self, server):
        with opened(PYMEMCACHE, LOCATION=server.address) as store:
            yield store

    @pytest.fixture
    def crowd(self, server):
        return crowd_on(server)


class TestSiblingOnAServerForLargeItems(ListingContract):
    longest_key = 250 - len(":1:")

    @pytest.fixture
    def server(self):
        with Memcached("-I", "8m", "-m", "128") as server:
            yield server

    @pytest.fixture
    def store(self, server):
        with opened(PYMEMCACHE, LOCATION=server.address) as store:
            yield store

    @pytest.fixture
    def crowd(self, server):
        return crowd_on(server)


class TestUsersClient(ListingContract):
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX

    @pytest.fixture(params=[{}, {"key_prefix": b"app:"}], ids=["plain", "key_prefix"])
    def store(self, memcached, request):
        self.longest_key = 250 - len(request.param.get("key_prefix", b""))
        with closing(pymemcache.Client(memcached.address, **request.param)) as client:
            yield own_client(client)

    @pytest.fixture
    def crowd(self, memcached):
        return crowd_on(memcached)


class TestUsersClientThatPickles(TestUsersClient, ForeignValues):
    @pytest.fixture
    def client(self, memcached):
        serde = pymemcache.serde.pickle_serde
        with closing(pymemcache.Client(memcached.address, serde=serde)) as client:
            yield client

    @pytest.fixture
    def store(self, client):
        return own_client(client)

    @pytest.fixture
    def plant(self, client):
        return lambda key, value: client.set(key, value, noreply=False)


class TestUsersPooledClient(TestUsersClient):
    @pytest.fixture
    def store(self, memcached):
        with closing(pymemcache.PooledClient(memcached.address, max_pool_size=4)) as client:
            yield own_client(client)


class TestUsersHashClient(TestUsersClient):
    @pytest.fixture(params=[False, True], ids=["unpooled", "pooled"])
    def store(self, three_servers, request):
        servers = [server.address for server in three_servers]
        with closing(pymemcache.HashClient(servers, use_pooling=request.param)) as client:
            yield own_client(client)

    @pytest.fixture
    def crowd(self, three_servers):
        return crowd_on(*three_servers)


class TestPythonMemcached(ListingContract, ForeignValues):
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX

    @pytest.fixture
    def client(self, three_servers):
        client = memcache.Client([server.address for server in three_servers])
        yield client
        client.disconnect_all()

    @pytest.fixture
    def store(self, client):
        return own_client(client)

    @pytest.fixture
    def plant(self, client):
        return client.set

    @pytest.fixture
    def crowd(self, three_servers):
        return crowd_on(*three_servers)


class TestCachelib(NoListingContract, ForeignValues):
    takes_5_megabytes = False

    @pytest.fixture
    def cache(self, memcached):
        client = memcache.Client([memcached.address])
        yield cachelib.MemcachedCache(client)
        client.disconnect_all()

    @pytest.fixture
    def store(self, cache):
        return own_client(cache)

    @pytest.fixture
    def plant(self, cache):
        return cache.set


class TestGetSetAndDelete(MinimalContract):
    longest_key = None

    @pytest.fixture
    def store(self):
        return own_client(GetSetAndDelete())
