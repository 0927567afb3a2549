"""What a Redis that answers may say, and what its store makes of it."""

import socket
import time
from contextlib import closing, contextmanager

import pytest
import redis as redis_py
import valkey

from django_jinja_bccache.bridge.redis import client_store
from django_jinja_bccache.exceptions import (
    NotSupported,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.guard import GuardedStore
from django_jinja_bccache.stores.redis import RedisStore
from tests.stores.contract import eventually
from tests.stores.opening import REDIS, opened
from tests.stores.readers import PREFIX, distinct_values

MEGABYTE = 1 << 20


@contextmanager
def store_over(server, kind=redis_py.Redis, **options):
    client = kind(server.host, server.port, **options)
    with closing(client), closing(client_store(client, deadline=10)) as store:
        yield store


@pytest.fixture(params=[redis_py.Redis, valkey.Valkey])
def kind(request):
    """Each library's class of clients."""
    return request.param


class TestRefusals:
    """A server that does not store goes on being read from."""

    @pytest.fixture
    def refuses(self, kind):
        """Expects a server to refuse to store, and to be read from all the same."""

        def refuses(server, match: str) -> None:
            with store_over(server, kind) as raw:
                store = GuardedStore(raw, name="'x'", deadline=10, cooldown=600)
                with pytest.raises(StoreError, match=match) as caught:
                    store.set("key", b"2", 100)
                assert not isinstance(caught.value, StoreUnavailable | ValueTooLarge)
                assert raw.set_many({"key": b"2", "other": b"3"}, 100) == ["key", "other"]
                assert store.get("key") == b"1"
                assert store.get_many(["key", "other"]) == {"key": b"1"}

        return refuses

    @pytest.mark.parametrize("answer", [b":0\r\n", b"*2\r\n:1\r\n:2\r\n"])
    def test_an_answer_that_is_not_ok_is_none(self, kind, redis, proxy, answer):
        way = proxy(redis.address)
        way.wrong_answer = answer
        with store_over(way, kind) as store:
            store.set("key", b"1", 100)
            way.mode = "swap"
            with pytest.raises(StoreError):
                store.set("key", b"2", 100)

    def test_one_without_memory_to_spare(self, redis_server, refuses):
        with redis_server() as server:
            server.set_raw("key", b"1")
            with server.client() as client:
                client.config_set("maxmemory", 1)
            refuses(server, "used memory > 'maxmemory'")

    def test_a_replica(self, sentinel, refuses):
        sentinel.primary.set_raw("key", b"1")
        sentinel.primary.wait_for_replicas()
        refuses(sentinel.replicas[0], "read only replica")

    def test_one_that_cannot_write_its_snapshots(self, redis_server, refuses):
        with redis_server("--save", "3600 1") as server:
            server.set_raw("key", b"1")
            (server.directory / "dump.rdb").mkdir()  # no file can take its place
            with server.client() as client:
                client.bgsave()
                assert eventually(
                    lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err"
                )
            refuses(server, "MISCONF")
            server.kill()  # it would rather not end than lose what it could not write

    def test_one_whose_user_may_only_read(self, redis_server, kind):
        with redis_server() as server:
            server.set_raw("key", b"1")
            with server.client() as client:
                client.acl_setuser(
                    "reader", enabled=True, nopass=True, keys="*", commands=["+mget", "+scan"]
                )
            with store_over(server, kind, username="reader", password="x") as raw:
                store = GuardedStore(raw, name="'x'", deadline=10, cooldown=600)
                with pytest.raises(StoreError, match="no permissions"):
                    store.set("key", b"2", 100)
                with pytest.raises(NotSupported, match=r"how full it is: .+ no permissions"):
                    store.usage()
                assert store.get("key") == b"1"
                [item] = store.scan("")
                assert (item.key, item.accessed_at, item.expires_at) == ("key", None, None)


class TestUnavailable:
    @pytest.mark.parametrize("password", [None, "a wrong one"])
    def test_one_that_wants_another_password(self, redis_server, kind, password):
        with (
            redis_server(password="the password") as server,
            store_over(server, kind, password=password) as store,
            pytest.raises(StoreUnavailable, match=r"(?i)authenticat|invalid username"),
        ):
            store.get("key")

    def test_one_that_is_loading_its_snapshot(self, redis_server, kind):
        slowly = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
        with redis_server(*slowly) as server:
            with server.client() as client:
                client.mset({f"key-{number}": bytes(1_000) for number in range(1_000)})
                client.save()
            server.answers = lambda: is_open(server)  # it would be waited for
            server.kill()
            server.start()
            with store_over(server, kind) as store:
                for _ in range(3):
                    with pytest.raises(StoreUnavailable, match="loading the dataset"):
                        store.get("key-1")
            server.kill()


def is_open(server) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((server.host, server.port)) == 0


class TestTooLarge:
    @pytest.fixture
    def server(self, redis_server):
        with redis_server("--proto-max-bulk-len", "1mb") as server:
            yield server

    def test_the_servers_limit_is_named(self, server, kind):
        with store_over(server, kind) as store:
            store.set("key", bytes(MEGABYTE), 100)
            with pytest.raises(ValueTooLarge) as caught:
                store.set("key", bytes(3 * MEGABYTE), 100)
            assert (caught.value.size, caught.value.limit) == (3 * MEGABYTE, MEGABYTE)
            assert store.get("key") == bytes(MEGABYTE)

    def test_it_keeps_no_other_value_from_being_stored(self, server, kind):
        with store_over(server, kind) as store:
            fits = bytes(MEGABYTE)
            items = {"a": b"1", "big": bytes(3 * MEGABYTE), "fits": fits, "b": b"2"}
            assert store.set_many(items, 100) == ["big"]
            assert store.get_many(list(items)) == {"a": b"1", "fits": fits, "b": b"2"}

    def test_where_it_may_not_be_asked_for_its_limit_nobody_knows_and_others_are_stored(
        self, server, kind
    ):
        with server.client() as client:
            client.acl_setuser(
                "writer", enabled=True, nopass=True, keys="*", commands=["+set", "+mget", "+ping"]
            )
        with store_over(server, kind, username="writer", password="x") as store:
            with pytest.raises(StoreError) as caught:
                store.set("key", bytes(3 * MEGABYTE), 100)
            assert not isinstance(caught.value, ValueTooLarge)

    def test_when_the_server_is_gone_that_is_what_is_said(self, server, kind):
        with store_over(server, kind) as store:
            server.stop()
            with pytest.raises(StoreUnavailable):
                store.set_many({"big": bytes(3 * MEGABYTE)}, 100)


class TestForeignKeys:
    def test_what_is_no_string_is_a_miss_and_can_be_stored_over(self, redis, kind):
        with redis.client() as client, store_over(redis, kind) as store:
            client.rpush("key", "a list")
            assert store.get("key") is None
            assert store.get_many(["key"]) == {}
            assert [item.key for item in store.scan("")] == ["key"]
            store.set("key", b"1", 100)
            assert store.get("key") == b"1"

    @pytest.mark.parametrize("prefix", ["*", "?", "[ab]", "[^a]", "\\*", "a]b", "{a,b}", "^", "-"])
    def test_signs_of_patterns_in_a_prefix_stand_for_themselves(self, redis, kind, prefix):
        for key in ("a", "ab", "abc", "axb", "a*b", "[", "\\", "_own", "/own"):
            redis.set_raw(key, b"1")
        with store_over(redis, kind) as store:
            store.set(f"{prefix}own", b"1", 100)
            assert [item.key for item in store.scan(prefix)] == [f"{prefix}own"]


class TestListing:
    def test_what_expires_meanwhile_is_left_out(self, redis, kind):
        class Slow(RedisStore):
            """Something else happens between its two questions."""

            def _scanned(self, *arguments):
                answer = super()._scanned(*arguments)
                with redis.client() as client:
                    client.delete("key-1")
                return answer

        with store_over(redis, kind) as store:
            store.set_many({f"key-{number}": b"1" for number in range(3)}, 100)
            store.__class__ = Slow
            assert sorted(item.key for item in store.scan("key-")) == ["key-0", "key-2"]

    def test_it_is_no_access(self, redis, kind):
        redis.set_raw("key", b"x" * 1000)
        with store_over(redis, kind) as store:
            began = time.time()
            assert eventually(lambda: self.idle_since(store) < time.time() - 1.5)
            assert self.idle_since(store) == pytest.approx(began, abs=3)
            store.get("key")
            assert self.idle_since(store) > began + 0.5

    def idle_since(self, store) -> float:
        [item] = store.scan("")
        return item.accessed_at

    def test_where_the_server_counts_how_often_it_does_not_know_when(self, redis_server, kind):
        with redis_server("--maxmemory-policy", "allkeys-lfu") as server:
            server.set_raw("key", b"1", expire=100)
            with store_over(server, kind) as store:
                [item] = store.scan("")
                assert item.accessed_at is None
                assert item.expires_at == pytest.approx(time.time() + 100, abs=5)

    def test_where_the_server_tells_no_sizes_it_is_the_values(self, redis_server, kind):
        with redis_server() as server:
            with server.client() as client:
                client.acl_setuser(
                    "site", enabled=True, nopass=True, keys="*", commands=["+@all", "-memory"]
                )
                client.set("key", bytes(1234))
            with store_over(server, kind, username="site", password="x") as store:
                began = time.time()
                assert [item.size for item in store.scan("")] == [1234]
                assert [item.accessed_at >= began - 5 for item in store.scan("")] == [True]

    def test_exactly_ours_are_listed_and_removed_among_100_000_others(self, redis, kind):
        with redis.client() as client:
            client.mset({f"other-{number}": number for number in range(100_000)})
            with store_over(redis, kind) as store:
                values = distinct_values(2_500)
                store.set_many(values, 100)
                keys = [item.key for item in store.scan(PREFIX)]
                assert sorted(keys) == sorted(values)
                assert store.delete_many(keys) == 2_500
                assert list(store.scan(PREFIX)) == []
            assert client.dbsize() == 100_000


class TestRoundTrips:
    @pytest.mark.parametrize("count", [1, 500, 5_000])
    def test_many_keys_take_one_and_no_keys_none(self, redis, proxy, kind, count):
        through = proxy(redis.address)
        with store_over(through, kind) as store:
            store.get("key")
            through.reset_counts()
            values = {f"key-{number}": b"x" * 100 for number in range(count)}
            assert (store.set_many({}, 100), store.get_many([]), store.delete_many([])) == (
                [],
                {},
                0,
            )
            assert through.bytes_up == 0
            store.set_many(values, 100)
            # The first answers come while the last commands are on their way.
            assert through.round_trips <= 1 + count // 20
            for operation in (store.get_many, store.delete_many):
                through.reset_counts()
                operation(list(values))
                assert through.round_trips == 1

    def test_all_that_comes_before_the_first_are_the_greeting_and_the_database(self, redis, proxy):
        through = proxy(redis.address)
        with opened(REDIS, LOCATION=f"redis://{through.address}/1") as store:
            store.get("key")
            assert through.connections == 1
            assert through.round_trips <= 3  # redis-py greets since release 8
            through.reset_counts()
            store.get("key")
            assert (through.connections, through.round_trips) == (0, 1)
