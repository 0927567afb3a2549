"""Redis and Valkey: beneath the cache backends and over clients that a user has made."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
import redis as redis_py
import redis.sentinel
import valkey

from django_jinja_bccache.bridge.redis import client_store
from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.base import Store
from tests.servers import Proxy, Redis
from tests.servers.cluster import Cluster
from tests.servers.redis import ValkeyServer
from tests.servers.sentinel import SERVICE, Sentinel
from tests.stores.contract import (
    ListingContract,
    NoListingContract,
    StoreContract,
    distinct_values,
    eventually,
)
from tests.stores.opening import (
    DJANGO_REDIS,
    DJANGO_VALKEY,
    DJANGO_VALKEY_CLUSTER,
    REDIS,
    opened,
)

# Django, not Redis, would rather have no odd or long keys.
pytestmark = pytest.mark.filterwarnings("ignore::django.core.cache.CacheKeyWarning")


@contextmanager
def own_client(client: object) -> Iterator[Store]:
    with closing(client), closing(client_store(client, deadline=10.0)) as store:
        yield store


def crowd_on(server: Redis, **options: object) -> Callable[[int], None]:
    """Plants keys of somebody else's, some of them like ours."""

    def plant(count: int) -> None:
        with server.client(**options) as client:
            client.mset({f"foreign:jinja2/bytecode/{number}": 1 for number in range(count)})

    return plant


class TestBeneathDjangosRedisCache(ListingContract):
    longest_key = None

    @pytest.fixture
    def store(self, redis):
        with opened(REDIS, LOCATION=redis.url, KEY_PREFIX="site") as store:
            yield store

    @pytest.fixture
    def crowd(self, redis):
        return crowd_on(redis)


class TestBeneathDjangoRedis(TestBeneathDjangosRedisCache):
    @pytest.fixture
    def store(self, redis):
        with opened(DJANGO_REDIS, LOCATION=redis.url, KEY_PREFIX="größe") as store:
            yield store


class TestBeneathDjangoValkey(TestBeneathDjangosRedisCache):
    @pytest.fixture
    def store(self, redis):
        with opened(DJANGO_VALKEY, LOCATION=redis.url, KEY_PREFIX="[*?]", VERSION=3) as store:
            yield store


class TestOverAValkeyClient(TestBeneathDjangosRedisCache):
    @pytest.fixture
    def store(self, redis):
        with own_client(valkey.Valkey(redis.host, redis.port)) as store:
            yield store


if shutil.which("valkey-server"):  # a package of Debian's since 13

    class TestOverAValkeyServer(TestBeneathDjangosRedisCache):
        @pytest.fixture(scope="class")
        @classmethod
        def server(cls):
            with ValkeyServer() as server:
                yield server

        @pytest.fixture
        def store(self, server):
            server.flush()
            with opened(DJANGO_VALKEY, LOCATION=server.url) as store:
                yield store

        @pytest.fixture
        def crowd(self, server):
            return crowd_on(server)


class TestOverAClientThatReturnsText(ListingContract):
    """With all that may be special about a connection, too."""

    longest_key = None

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory):
        path = tmp_path_factory.mktemp("redis") / "redis.sock"
        with Redis(password="the password", unix_socket=path) as server:
            yield server

    @pytest.fixture
    def store(self, server):
        server.flush()
        client = redis_py.Redis(
            unix_socket_path=str(server.unix_socket),
            password="the password",
            db=3,
            decode_responses=True,
            single_connection_client=True,
        )
        with own_client(client) as store:
            yield store

    @pytest.fixture
    def crowd(self, server):
        return crowd_on(server, db=3)


class TestOverSentinelsPrimary(TestBeneathDjangosRedisCache):
    @pytest.fixture
    def store(self, sentinel):
        with own_client(master_for(sentinel)) as store:
            yield store

    @pytest.fixture
    def crowd(self, sentinel):
        return crowd_on(sentinel.primary)


def master_for(sentinel: Sentinel | Proxy) -> redis_py.Redis:
    manager = redis_py.sentinel.Sentinel([(sentinel.host, sentinel.port)])
    return manager.master_for(SERVICE)


def test_a_client_from_sentinel_stays_as_it_was(sentinel):
    with closing(master_for(sentinel)) as client:
        options = dict(client.get_connection_kwargs())
        with closing(client_store(client, deadline=10)) as store:
            store.set("key", b"1", 100)
        assert client.get_connection_kwargs() == options
        assert client.get("key") == b"1"


def test_an_operation_that_failed_leaves_no_connection_open(sentinel, proxy):
    through = proxy(sentinel.address)
    with (
        closing(master_for(through)) as client,
        closing(client_store(client, deadline=10)) as store,
        sentinel.primary.client() as raw,
    ):
        before = len(raw.client_list())
        with pytest.raises(StoreError, match="out of range") as caught:
            store.set("key", b"1", 1e30)
        # What holds the error holds the client as well.
        assert isinstance(caught.value, StoreError)
        assert eventually(lambda: len(raw.client_list()) == before)
        assert eventually(lambda: through.open_connections == 0)


class InStep:
    """A store over replicas whose writes return when the replicas have what was written."""

    def __init__(self, store: Store, primary: Redis) -> None:
        self.store = store
        self.primary = primary

    def __getattr__(self, name: str) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            result = getattr(self.store, name)(*arguments)
            if name in {"set", "set_many", "delete_many"}:
                self.primary.wait_for_replicas()
            return result

        return call


class TestWithReplicas(StoreContract):
    longest_key = None

    @pytest.fixture
    def store(self, sentinel):
        [replica] = sentinel.replicas
        with opened(REDIS, LOCATION=[sentinel.primary.url, replica.url]) as store:
            yield InStep(store, sentinel.primary)


class TestWithSentinelsReplicas(TestWithReplicas):
    @pytest.fixture
    def store(self, sentinel):
        options = {
            "CLIENT_CLASS": "django_redis.client.SentinelClient",
            "CONNECTION_FACTORY": "django_redis.pool.SentinelConnectionFactory",
            "SENTINELS": [(sentinel.host, sentinel.port)],
        }
        with opened(DJANGO_REDIS, LOCATION=f"redis://{SERVICE}/0", OPTIONS=options) as store:
            yield InStep(store, sentinel.primary)


class TestThroughDjangoValkeysCluster(NoListingContract):
    longest_key = None

    @pytest.fixture(scope="class")
    @classmethod
    def cluster(cls):
        with Cluster() as cluster:
            yield cluster

    @pytest.fixture
    def store(self, cluster):
        cluster.flush()
        with opened(DJANGO_VALKEY_CLUSTER, LOCATION=cluster.nodes[0].url) as store:
            yield store

    def test_every_node_holds_some_of_the_keys(self, store, cluster):
        store.set_many(distinct_values(100), 100)
        assert all(node.keys() for node in cluster.nodes)

    @pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS, DJANGO_VALKEY])
    def test_a_backend_that_knows_nothing_of_clusters_says_so(self, cluster, backend):
        with opened(backend, LOCATION=cluster.nodes[0].url) as store:
            for operation in (
                lambda: [store.set(key, b"1", 100) for key in distinct_values(20)],
                lambda: [store.get(key) for key in distinct_values(20)],
                lambda: store.get_many(list(distinct_values(20))),
            ):
                with pytest.raises(StoreError, match="one of a cluster"):
                    operation()


@pytest.mark.filterwarnings("ignore:.et on sharded client should not specify client:UserWarning")
class TestThroughDjangoRedisShards(NoListingContract):
    longest_key = None

    @pytest.fixture(scope="class")
    @classmethod
    def servers(cls):
        with Redis() as one, Redis() as two:
            yield [one, two]

    @pytest.fixture
    def store(self, servers):
        for server in servers:
            server.flush()
        options = {"CLIENT_CLASS": "django_redis.client.ShardClient"}
        location = [server.url for server in servers]
        with opened(DJANGO_REDIS, LOCATION=location, OPTIONS=options) as store:
            yield store

    def test_every_server_holds_some_of_the_keys(self, store, servers):
        store.set_many(distinct_values(100), 100)
        assert all(server.keys() for server in servers)
