"""On Redis, too, every operation is over at its deadline, whatever the client would do."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec

import pytest
import redis as redis_py
import valkey
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from django_jinja_bccache.bridge.redis import client_store
from tests.servers import Proxy
from tests.servers.sentinel import SERVICE
from tests.servers.tls import TLSRedis
from tests.stores.opening import DJANGO_REDIS, DJANGO_VALKEY, REDIS, opened
from tests.stores.patient import OPERATIONS
from tests.stores.test_deadline import DEADLINE, LISTING, SOON, WRITE_BIG, each, fails_soon

MODES = ["black_hole", "trickle", "refuse", "reset", "cut", "hang_connect"]


def without_timeouts(proxy: Proxy) -> redis_py.Redis:
    return redis_py.Redis(proxy.host, proxy.port, socket_timeout=None, socket_connect_timeout=None)


def with_retries(proxy: Proxy) -> redis_py.Redis:
    return redis_py.Redis(
        proxy.host,
        proxy.port,
        retry=Retry(ConstantBackoff(1), 20),
        retry_on_error=[Exception],
        health_check_interval=1,
    )


def with_a_blocking_pool(proxy: Proxy) -> redis_py.Redis:
    pool = redis_py.BlockingConnectionPool(
        host=proxy.host, port=proxy.port, max_connections=1, timeout=60
    )
    return redis_py.Redis(connection_pool=pool)


def with_client_side_caching(proxy: Proxy) -> redis_py.Redis:
    from redis.cache import CacheConfig

    return redis_py.Redis(proxy.host, proxy.port, protocol=3, cache_config=CacheConfig())


def of_valkey_py(proxy: Proxy) -> valkey.Valkey:
    return valkey.Valkey(proxy.host, proxy.port, socket_timeout=None, protocol=3)


CLIENTS = [
    without_timeouts,
    with_retries,
    with_a_blocking_pool,
    of_valkey_py,
    # redis-py has it since 5.1
    *([with_client_side_caching] if find_spec("redis.cache") else []),
]


@pytest.fixture
def through(redis, proxy):
    through = proxy(redis.address)
    through.trickle_interval = 0.2  # so that no single wait is longer than the deadline
    return through


@contextmanager
def store_over(client) -> Iterator:
    with closing(client), closing(client_store(client, deadline=DEADLINE)) as store:
        yield store


class TestAnIllServer:
    @pytest.fixture
    def store(self, through):
        with store_over(without_timeouts(through)) as store:
            yield store

    @each(OPERATIONS | WRITE_BIG | LISTING)
    @pytest.mark.parametrize("mode", MODES)
    def test_a_first_operation_fails_before_long(self, store, through, mode, operate):
        through.mode = mode
        fails_soon(lambda: operate(store))

    @each(OPERATIONS | WRITE_BIG | LISTING)
    @pytest.mark.parametrize("mode", MODES[:-1])
    def test_one_on_an_open_connection_fails_before_long(self, store, through, mode, operate):
        store.set("key", b"1" * 1000, 100)
        through.mode = mode
        fails_soon(lambda: operate(store))

    @pytest.mark.parametrize("mode", MODES)
    def test_once_it_is_well_again_the_next_operation_succeeds(self, store, through, mode):
        store.set("key", b"old" * 1000, 100)
        store.close()
        through.mode = mode
        fails_soon(lambda: store.get("key"))
        through.mode = "pass"
        for number in range(5):
            assert store.get("key") == b"old" * 1000
            store.set(f"other-{number}", b"%d" % number, 100)
            assert store.get(f"other-{number}") == b"%d" % number

    @each(OPERATIONS)
    def test_a_connection_that_died_while_idle_costs_no_operation(self, store, redis, operate):
        store.get("key")
        redis.restart()
        operate(store)


@pytest.mark.parametrize("make", CLIENTS)
@pytest.mark.parametrize("mode", ["black_hole", "trickle", "refuse"])
def test_a_clients_own_timeouts_and_retries_do_not_outlast_the_deadline(through, make, mode):
    with store_over(make(through)) as store:
        store.set("key", b"1" * 1000, 100)
        through.mode = mode
        fails_soon(lambda: store.get("key"))
        fails_soon(lambda: store.set_many({"key": b"1"}, 100))


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS, DJANGO_VALKEY])
@pytest.mark.parametrize("mode", ["black_hole", "trickle"])
def test_an_alias_without_timeouts_obeys_the_deadline(through, backend, mode):
    with opened(backend, LOCATION=f"redis://{through.address}/1", deadline=DEADLINE) as store:
        store.set("key", b"1" * 1000, 100)
        through.mode = mode
        fails_soon(lambda: store.get("key"))
        fails_soon(lambda: store.set_many({"key": b"1"}, 100))


@pytest.mark.parametrize("option", ["socket_timeout", "socket_connect_timeout"])
def test_a_timeout_shorter_than_the_deadline_holds_beside_it(through, option):
    with opened(
        REDIS, LOCATION=f"redis://{through.address}", OPTIONS={option: 0.2}, deadline=60
    ) as store:
        through.mode = "hang_connect" if option == "socket_connect_timeout" else "black_hole"
        fails_soon(lambda: store.get("key"))


class TestTLS:
    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, tmp_path_factory):
        with TLSRedis(tmp_path_factory.mktemp("tls")) as server:
            yield server

    @pytest.fixture
    def through(self, server, proxy):
        through = proxy(server.address)
        through.trickle_interval = 0.2
        return through

    @pytest.fixture
    def opened_through(self, server, through) -> Callable:
        """Opens a store whose client speaks TLS without time-outs of its own."""
        options = {"ssl_ca_certs": str(server.certificate), "socket_timeout": None}
        location = f"rediss://{through.address}"
        return lambda deadline: opened(
            REDIS, LOCATION=location, OPTIONS=options, deadline=deadline
        )

    def test_values_go_through_it(self, opened_through, server):
        value = bytes(range(256)) * 3_000
        with opened_through(deadline=10) as store:
            store.set("key", value, 100)
            assert store.get("key") == value
        assert server.get_raw(":1:key") == value

    @pytest.mark.parametrize("mode", ["black_hole", "trickle", "cut", "hang_connect", "refuse"])
    def test_a_handshake_obeys_the_deadline(self, opened_through, through, mode):
        with opened_through(deadline=DEADLINE) as store:
            through.mode = mode
            fails_soon(lambda: store.get("key"))

    @pytest.mark.parametrize("mode", ["black_hole", "trickle"])
    def test_an_open_connection_obeys_the_deadline(self, opened_through, through, mode):
        with opened_through(deadline=2) as store:
            store.set("key", b"1" * 1000, 100)
            through.mode = mode
            fails_soon(lambda: store.get("key"))


class TestSentinel:
    @pytest.fixture
    def frozen(self) -> Iterator[Callable]:
        """Keeps a server from doing anything, until the end of the test."""
        pids = []

        def freeze(server) -> None:
            pids.append(server.pid)
            os.kill(server.pid, signal.SIGSTOP)

        yield freeze
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def test_a_primary_that_says_nothing_is_not_waited_for(self, sentinel, proxy, frozen):
        """No time-out is set, neither for Sentinel nor for the server."""
        manager = redis_py.sentinel.Sentinel(
            [(sentinel.host, sentinel.port)], socket_timeout=None, socket_connect_timeout=None
        )
        with store_over(manager.master_for(SERVICE)) as store:
            store.set("key", b"1", 100)
            frozen(sentinel.primary)
            fails_soon(lambda: store.get("key"))
            store.close()
            fails_soon(lambda: store.get("key"))

    @pytest.mark.parametrize("mode", ["black_hole", "hang_connect", "refuse"])
    def test_a_sentinel_that_says_nothing_leaves_time_for_the_next(self, sentinel, proxy, mode):
        dead = proxy(sentinel.address, mode=mode)
        manager = redis_py.sentinel.Sentinel(
            [(dead.host, dead.port), (sentinel.host, sentinel.port)], socket_timeout=None
        )
        client = manager.master_for(SERVICE)
        with closing(client), closing(client_store(client, deadline=3)) as store:
            began = time.monotonic()
            store.set("key", b"1", 100)
            assert store.get("key") == b"1"
            assert time.monotonic() - began < SOON

    @pytest.mark.parametrize("mode", ["black_hole", "trickle", "hang_connect", "refuse"])
    def test_no_sentinel_that_answers_is_an_outage(self, sentinel, proxy, mode):
        dead = [proxy(sentinel.address, mode=mode) for _ in range(2)]
        manager = redis_py.sentinel.Sentinel(
            [(each.host, each.port) for each in dead], socket_timeout=None
        )
        with store_over(manager.master_for(SERVICE)) as store:
            fails_soon(lambda: store.get("key"))
