"""From Redis backends, and clients of a user's own, to stores over siblings of the clients."""

import os
import threading
from contextlib import closing

import pytest
import redis as redis_py
import valkey
from django.core.cache import caches
from django.core.signals import request_finished
from django_redis.client import DefaultClient
from redis.asyncio import Redis as AsyncRedis
from redis.cluster import RedisCluster
from valkey.asyncio import Valkey as AsyncValkey

from django_jinja_bccache import RedisBytecodeCache
from django_jinja_bccache.bridge.redis import client_store
from django_jinja_bccache.exceptions import ConfigurationError, NotSupported, StoreUnavailable
from tests.scripts import run_script
from tests.stores.contract import eventually
from tests.stores.opening import DJANGO_REDIS, DJANGO_VALKEY, REDIS, opened
from tests.stores.readers import distinct_values, in_threads

ALIASES = [REDIS, DJANGO_REDIS, DJANGO_VALKEY]
each_alias = pytest.mark.parametrize("backend", ALIASES)
PASSWORD = "the password"


def key_for_a_tenant(key: str, key_prefix: str, version: int) -> str:
    return f"tenant-7/{key_prefix}/{version}/{key}"


class OwnPool(redis_py.ConnectionPool):
    """A pool of a site's own, which is made in its own way and knows the password by itself."""

    def __init__(self, place: tuple[str, int] = ("", 0), **options) -> None:
        super().__init__(**{"host": place[0], "port": place[1]} | options)

    def make_connection(self):
        self.connection_kwargs["password"] = PASSWORD
        return super().make_connection()


class PoolOfAnotherKind(redis_py.ConnectionPool):
    """A pool of a site's own, whose connections come from a function."""

    def __init__(self, **options) -> None:
        super().__init__(lambda **connection: redis_py.Connection(**connection), **options)


class OwnConnection(redis_py.Connection):
    """A class of connections of a site's own."""

    def __init__(self, *, greeting: str, **options) -> None:
        self.greeting = greeting
        super().__init__(**options, client_name=greeting)


class OwnClient(DefaultClient):
    """A client of django-redis of a site's own."""


class TestAlias:
    @each_alias
    @pytest.mark.parametrize(
        "rules",
        [
            {},
            {"KEY_PREFIX": "größe", "VERSION": 3},
            {"KEY_PREFIX": "site", "KEY_FUNCTION": f"{__name__}.key_for_a_tenant"},
        ],
        ids=["no rules", "prefix and version", "function"],
    )
    def test_a_key_is_stored_as_the_backend_itself_would(self, redis, backend, rules):
        with opened(backend, LOCATION=redis.url, **rules) as store:
            store.set("key", b"1", 100)
            assert redis.keys() == [caches["default"].make_key("key")]
            assert [item.key for item in store.scan("")] == ["key"]

    @each_alias
    def test_only_our_keys_go(self, redis, backend):
        redis.set_raw("somebody-elses", b"1")
        with opened(backend, LOCATION=redis.url, KEY_PREFIX="site") as store:
            caches["default"].set("page", "text")
            store.set_many(distinct_values(50), None)
            store.delete_many([item.key for item in store.scan("jinja2/")])
            assert caches["default"].get("page") == "text"
            assert sorted(redis.keys()) == ["site:1:page", "somebody-elses"]

    @each_alias
    @pytest.mark.parametrize("write", [",".join, list], ids=["text", "list"])
    def test_location_is_written_in_any_way_that_the_backend_takes(self, redis, backend, write):
        with opened(backend, LOCATION=write([redis.url, redis.url])) as store:
            store.set("key", b"1", 100)
            assert store.get("key") == b"1"

    @each_alias
    def test_database_and_password_are_those_of_the_alias(self, redis_server, backend):
        with redis_server(password=PASSWORD) as server:
            location = f"redis://:{PASSWORD.replace(' ', '%20')}@{server.address}/5"
            with opened(backend, LOCATION=location) as store:
                store.set("key", b"1", 100)
                with server.client(db=5) as client:
                    assert client.keys() == [b":1:key"]

    @pytest.mark.parametrize(
        "client", ["DefaultClient", "herd.HerdClient"], ids=["default", "herd"]
    )
    @pytest.mark.parametrize("family", ["django_redis", "django_valkey"])
    def test_bytes_are_stored_as_they_are_whatever_the_serializer(self, redis, family, client):
        backend = {"django_redis": DJANGO_REDIS, "django_valkey": DJANGO_VALKEY}[family]
        options = {
            "CLIENT_CLASS": f"{family}.client.{client}",
            "SERIALIZER": f"{family}.serializers.json.JSONSerializer",
            "COMPRESSOR": f"{family}.compressors.zlib.ZlibCompressor",
        }
        with opened(backend, LOCATION=redis.url, OPTIONS=options) as store:
            store.set("key", b"\x80\xff", 100)
            assert redis.get_raw(":1:key") == b"\x80\xff"

    def test_a_client_class_of_the_sites_own_is_used_through_the_public_api(self, redis):
        options = {"CLIENT_CLASS": f"{__name__}.OwnClient"}
        with opened(DJANGO_REDIS, LOCATION=redis.url, OPTIONS=options) as store:
            store.set("key", b"1", 100)
            assert store.get("key") == b"1"
            with pytest.raises(NotSupported):
                list(store.scan(""))

    def test_so_is_a_pool_whose_connections_are_of_no_known_class(self, redis):
        options = {"pool_class": f"{__name__}.PoolOfAnotherKind"}
        with opened(REDIS, LOCATION=redis.url, OPTIONS=options) as store:
            store.set("key", b"1", 100)
            assert store.get("key") == caches["default"].get("key") == b"1"
            with pytest.raises(NotSupported):
                list(store.scan(""))

    @each_alias
    @pytest.mark.parametrize("location", ["nonsense://127.0.0.1", "redis://127.0.0.1:port"])
    def test_a_location_that_cannot_be_read_is_a_store_out_of_reach(self, backend, location):
        with (
            pytest.raises(StoreUnavailable, match=r"CACHES\['default'\]: \w+Error"),
            opened(backend, LOCATION=location),
        ):
            raise AssertionError


class TestOwnClient:
    @pytest.mark.parametrize(
        "make",
        [
            lambda server: redis_py.Redis(
                connection_pool=OwnPool((server.host, server.port), max_connections=1)
            ),
            lambda server: redis_py.Redis(
                connection_pool=redis_py.ConnectionPool(
                    connection_class=OwnConnection,
                    host=server.host,
                    port=server.port,
                    password=PASSWORD,
                    greeting="hello",
                )
            ),
            lambda server: redis_py.Redis(
                server.host,
                server.port,
                credential_provider=redis_py.UsernamePasswordCredentialProvider(
                    "default", PASSWORD
                ),
            ),
            lambda server: redis_py.Redis.from_url(
                f"redis://default:the%20password@{server.address}?protocol=3&decode_responses=yes"
            ),
            lambda server: redis_py.Redis(
                server.host, server.port, password=PASSWORD, encoding="latin-1", protocol=2
            ),
            lambda server: valkey.Valkey(
                connection_pool=valkey.BlockingConnectionPool(
                    host=server.host, port=server.port, password=PASSWORD, max_connections=1
                )
            ),
        ],
        ids=[
            *("own pool", "own connection", "provider of credentials"),
            *("from a URL", "other encoding", "valkey"),
        ],
    )
    def test_siblings_connect_as_it_does(self, redis_server, make):
        with redis_server(password=PASSWORD) as server, closing(make(server)) as client:
            with closing(client_store(client, deadline=10)) as store:
                value = bytes(range(256))
                assert in_threads(8, lambda number: store.set(f"{number}", value, 100)) == []
                assert store.get_many(["0", "7"]) == {"0": value, "7": value}
            assert client.ping()

    def test_it_stays_as_it_was(self, redis, proxy):
        through = proxy(redis.address)
        with closing(redis_py.Redis(through.host, through.port, decode_responses=True)) as client:
            client.set("own", "text")
            options = dict(client.get_connection_kwargs())
            with closing(client_store(client, deadline=10)) as store:
                store.set("key", b"1", 100)
                assert through.open_connections == 2
            assert eventually(lambda: through.open_connections == 1)
            assert client.get("own") == "text"
            assert through.connections == 2
            assert client.get_connection_kwargs() == options

    @pytest.mark.parametrize(
        "make",
        [
            AsyncRedis,
            AsyncValkey,
            lambda: object.__new__(RedisCluster),
            redis_py.ConnectionPool,
            lambda: "redis://127.0.0.1",
            lambda: None,
            dict,
        ],
    )
    def test_any_other_object_is_refused_with_what_is_accepted(self, make):
        with pytest.raises(ConfigurationError, match=r"client: .* redis\.Redis or a valkey\.Val"):
            RedisBytecodeCache(make())


class TestConnections:
    @each_alias
    def test_fifty_requests_one_after_the_other_share_one(self, redis, proxy, backend):
        through = proxy(redis.address)
        with opened(backend, LOCATION=f"redis://{through.address}") as store:

            def request() -> None:
                store.set("key", b"1", 100)
                assert store.get("key") == b"1"
                request_finished.send(self.__class__)

            for _ in range(50):
                thread = threading.Thread(target=request)
                thread.start()
                thread.join()
            assert through.connections == 1
        assert eventually(lambda: through.open_connections == 0)

    @each_alias
    def test_threads_have_one_each_and_mix_nothing_up(self, redis, proxy, backend):
        through = proxy(redis.address)
        values = distinct_values(64)
        with opened(backend, LOCATION=f"redis://{through.address}") as store:
            store.set_many(values, 100)
            descriptors = len(os.listdir("/dev/fd"))

            def read(number: int) -> None:
                for key in [*values][number:] + [*values][:number]:
                    assert store.get(key) == values[key]

            assert in_threads(16, read) == []
            assert through.connections <= 17
            store.close()
            assert eventually(lambda: len(os.listdir("/dev/fd")) <= descriptors)


FORKS = """
import json, os, sys, warnings
import django
from django.conf import settings

warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads
backend, location = sys.argv[1:]
settings.configure(
    SECRET_KEY="x", CACHES={"default": {"BACKEND": backend, "LOCATION": location}}
)
from django_jinja_bccache.bridge import open_store
from tests.stores.readers import distinct_values, in_threads

store = open_store("default", deadline=10, guard=lambda store, name: store)
values = distinct_values(64)
store.set_many(values, 100)


def read(_=0):
    for key in [*values] * 5:
        assert store.get(key) == values[key]


def result():
    return [repr(error) for error in in_threads(4, read)]


pipes = []
for _ in range(4):
    receiver, sender = os.pipe()
    if os.fork() == 0:
        os.write(sender, json.dumps(result()).encode()[:4000])
        os._exit(0)
    os.close(sender)
    pipes.append(receiver)
wrong = [result()]
for receiver in pipes:
    with open(receiver) as pipe:
        wrong.append(json.loads(pipe.read() or '["ended without a word"]'))
    os.wait()
print(json.dumps(wrong))
"""


@each_alias
def test_forked_children_and_their_parent_read_their_own_keys_values(redis, backend):
    assert run_script(FORKS, backend, redis.url).result == [[]] * 5
