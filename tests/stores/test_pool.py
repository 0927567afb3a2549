"""Clients lent to one user at a time: connections stay few, and nobody gets another's answer."""

import threading

import pytest
from django.core.cache import caches
from django.core.signals import request_finished

from django_jinja_bccache.exceptions import StoreUnavailable
from django_jinja_bccache.stores.pool import ClientPool
from tests.stores.contract import eventually
from tests.stores.opening import PYMEMCACHE, opened
from tests.stores.patient import OPERATIONS
from tests.stores.readers import distinct_values, in_forks, in_threads


class TestConnectionsToAServer:
    @pytest.fixture
    def through(self, memcached, proxy):
        return proxy(memcached.address)

    @pytest.fixture
    def store(self, through):
        with opened(PYMEMCACHE, LOCATION=through.address) as store:
            yield store

    def test_threads_that_come_and_go_share_one(self, store, through):
        for number in range(50):
            assert in_threads(1, lambda _: store.set("key", b"%d" % number, 100)) == []
        assert store.get("key") == b"49"
        assert through.connections == 1

    def test_there_are_as_many_as_users_at_the_same_moment(self, store, through):
        values = distinct_values(16)
        store.set_many(values, 100)
        through.reset_counts()

        def read(_: int) -> None:
            for key, value in list(values.items()) * 30:
                assert store.get(key) == value

        for _ in range(3):
            assert in_threads(16, read) == []
        assert through.round_trips == 3 * 16 * 16 * 30
        assert through.connections <= 15  # and the one from before
        assert through.open_connections <= 16

    def test_the_end_of_a_request_closes_none(self, store, through):
        for _ in range(50):
            store.get("key")
            request_finished.send(self.__class__)
        assert through.connections == 1
        for _ in range(3):  # which is what becomes of Django's own
            caches["default"].get("key")
            request_finished.send(self.__class__)
        assert through.connections == 4

    def test_when_one_is_dead_those_that_lie_idle_are_not_waited_for(self, through):
        with opened(PYMEMCACHE, deadline=1.0, LOCATION=through.address) as store:
            self._die_together(store, through)

    def _die_together(self, store, through):
        store.set("key", b"1", 100)
        through.delay = 0.05  # so that threads meet
        assert in_threads(4, lambda _: store.get("key")) == []
        through.delay = 0.0
        assert through.open_connections == 4
        through.mode = "black_hole"
        with pytest.raises(StoreUnavailable):
            store.get("key")
        through.mode = "pass"
        assert store.get("key") == b"1"

    def test_close_closes_them(self, store, through):
        in_threads(4, lambda _: store.get("key"))
        store.close()
        assert eventually(lambda: through.open_connections == 0)

    @pytest.mark.parametrize("operate", OPERATIONS.values(), ids=OPERATIONS)
    def test_those_that_died_while_idle_cost_no_operation(self, memcached, store, operate):
        assert in_threads(8, lambda _: [store.get("key") for _ in range(50)]) == []
        memcached.restart()
        for _ in range(20):
            operate(store)

    def test_one_that_dies_again_and_again_is_tried_twice_only(self, store, through):
        store.get("key")
        through.reset_counts()
        through.mode = "cut"
        with pytest.raises(StoreUnavailable):
            store.get("key")
        assert through.round_trips == 2
        through.mode = "pass"
        store.set("key", b"1", 100)
        assert store.get("key") == b"1"


class Interrupt(BaseException):
    """Such as gevent's Timeout."""


class Client:
    """Notes what a pool does with it."""

    def __init__(self) -> None:
        self.is_open = True
        self.ends: list[float] = []


class TestPool:
    @pytest.fixture
    def made(self):
        return []

    @pytest.fixture
    def pool(self, made):
        def connect():
            made.append(Client())
            return made[-1]

        def disconnect(client):
            client.is_open = False

        return ClientPool(
            connect, disconnect, deadline=1, begin=lambda client, end: client.ends.append(end)
        )

    @pytest.mark.parametrize("error", [TimeoutError, KeyError, Interrupt])
    def test_a_client_that_failed_is_closed_and_never_lent_again(self, pool, made, error):
        def fail(client):
            raise error

        for number in range(1, 4):
            with pytest.raises(error):
                pool.call(fail)
            assert len(made) == number
            assert not made[-1].is_open
        assert pool.call(lambda client: client.is_open)

    def test_a_lost_connection_is_retried_on_a_new_one_before_the_same_deadline(self, pool, made):
        # Three users at once make three clients, whose connections then die.
        barrier = threading.Barrier(3)
        assert in_threads(3, lambda _: pool.call(lambda client: barrier.wait(10))) == []

        def use(client):
            if client is not made[-1]:
                raise ConnectionResetError
            return client

        first_three = made[:]
        made.append(None)
        assert pool.call(use) is made[-1]
        assert [client.is_open for client in first_three] == [False] * 3
        [tried] = [client for client in first_three if len(client.ends) == 2]
        assert made[-1].ends == tried.ends[-1:]

    def test_a_new_connection_that_is_lost_is_not_retried(self, pool, made):
        def fail(client):
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            pool.call(fail)
        assert len(made) == 1

    def test_a_forked_child_that_uses_none_closes_none_of_its_parents(self, pool, made):
        assert pool.call(lambda client: client.is_open)

        def close(_: int) -> None:
            pool.close()
            assert made[0].is_open

        assert in_forks(1, close) == []

    def test_close_leaves_a_client_in_use_alone(self, pool, made):
        def use(client):
            pool.close()
            return client.is_open

        assert pool.call(use)
        pool.close()
        assert not made[0].is_open
