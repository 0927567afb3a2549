"""pylibmc's client, beneath Django's PyLibMCCache and as a user's own."""

import pylibmc
import pytest

from django_jinja_bccache.exceptions import NotSupported, StoreError
from tests.clients import own_client
from tests.servers import Memcached
from tests.stores.contract import ListingContract
from tests.stores.opening import PYLIBMC, opened
from tests.stores.test_memcached import ITEM_SIZE_MAX, crowd_on


class PylibmcContract(ListingContract):
    takes_5_megabytes = False
    named_limit = ITEM_SIZE_MAX
    longest_key = 250 - len(":1:")


class TestSiblingOfDjangosClient(PylibmcContract):
    longest_key = 250 - len("größe:1:".encode())

    @pytest.fixture
    def store(self, memcached):
        with opened(PYLIBMC, LOCATION=memcached.address, KEY_PREFIX="größe") as store:
            yield store

    @pytest.fixture
    def crowd(self, memcached):
        return crowd_on(memcached)


class TestSiblingsOnThreeNodes(PylibmcContract):
    @pytest.fixture
    def store(self, three_servers):
        addresses = [server.address for server in three_servers]
        with opened(PYLIBMC, LOCATION=addresses) as store:
            yield store

    @pytest.fixture
    def crowd(self, three_servers):
        return crowd_on(*three_servers)


class TestSiblingOnAUnixSocket(PylibmcContract):
    @pytest.fixture
    def server(self, tmp_path):
        with Memcached(unix_socket=tmp_path / "memcached.sock") as server:
            yield server

    @pytest.fixture(params=["unix:", ""], ids=["unix:", "plain path"])
    def store(self, server, request):
        location = f"{request.param}{server.unix_socket}"
        with opened(PYLIBMC, LOCATION=location) as store:
            yield store

    @pytest.fixture
    def crowd(self, server):
        return crowd_on(server)


class TestSiblingWithBehaviors(PylibmcContract):
    longest_key = 250 - len("site::1:")  # with the namespace that Django does not know of

    @pytest.fixture(params=[False, True], ids=["text", "binary"])
    def store(self, memcached, request):
        options = {
            "binary": request.param,
            "behaviors": {
                "namespace": b"site:",
                "tcp_keepalive": True,
                "ketama": True,
                "num_replicas": 1,
                "_noreply": True,
                "remove_failed": 1,
            },
        }
        with opened(PYLIBMC, LOCATION=memcached.address, OPTIONS=options) as store:
            yield store

    @pytest.fixture
    def crowd(self, memcached):
        return crowd_on(memcached)

    def test_a_key_that_the_namespace_makes_too_long_is_refused_and_hides_no_other(self, store):
        store.set("neighbour", b"its own", 100)
        with pytest.raises(StoreError, match="does not take the key"):
            store.get_many(["k" * (self.longest_key + 1), "neighbour"])
        assert store.get_many(["k" * self.longest_key, "neighbour"]) == {"neighbour": b"its own"}


class TestUsersClient(PylibmcContract):
    longest_key = 250

    @pytest.fixture(params=[False, True], ids=["text", "binary"])
    def store(self, memcached, request):
        return own_client(pylibmc.Client([memcached.address], binary=request.param))

    @pytest.fixture
    def crowd(self, memcached):
        return crowd_on(memcached)


class TestUsersClientOfThreeNodes(PylibmcContract):
    longest_key = 250

    @pytest.fixture
    def store(self, three_servers):
        return own_client(pylibmc.Client([server.address for server in three_servers]))

    @pytest.fixture
    def crowd(self, three_servers):
        return crowd_on(*three_servers)


class TestUsersClientWithANamespace:
    @pytest.fixture
    def store(self, memcached):
        return own_client(pylibmc.Client([memcached.address], behaviors={"namespace": b"app:"}))

    def test_values_lie_in_the_namespace(self, store, memcached):
        store.set("key", b"1", 100)
        assert memcached.keys() == ["app:key"]
        assert store.get_many(["key", "other"]) == {"key": b"1"}

    def test_listing_says_that_it_is_not_supported_instead_of_finding_nothing(self, store):
        assert list(store.scan("key")) == []
        store.set("key", b"1", 100)
        with pytest.raises(NotSupported, match="namespace"):
            list(store.scan("key"))
