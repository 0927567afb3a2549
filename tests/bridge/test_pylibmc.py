"""The siblings of PyLibMCCache's client, where pylibmc itself would lie, wait or run a pickle."""

import os
import pickle
import threading
import time
import zlib

import pylibmc
import pytest
from django.core import signals

from django_jinja_bccache.bridge.pylibmc import PylibmcClient
from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
from tests.stores.contract import eventually
from tests.stores.opening import PYLIBMC, opened
from tests.stores.readers import distinct_values, in_threads

FLAGS = [*range(16), 16, 0xFFFF, 0xFFFF_FFFF]
USE = {
    "get": lambda store: store.get("k"),
    "get_many": lambda store: store.get_many(["k", "other"]),
    "set": lambda store: store.set("k", b"1", 100),
    "set_many": lambda store: store.set_many({"k": b"1", "other": b"2"}, 100),
    "delete_many": lambda store: store.delete_many(["k"]),
    "usage": lambda store: store.usage(),
}
any_use = pytest.mark.parametrize("use", USE.values(), ids=USE)


class MakesDirectory:
    """A pickle that makes a directory when it is loaded."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Client:
    """A client for which memcached holds nothing at first, and something the next time."""

    addresses = ("127.0.0.1:11211",)

    def __init__(self, problem: str) -> None:
        self.error = pylibmc.Error(problem)
        self.has_answered = False

    def get_multi(self, keys):
        if self.has_answered:
            raise self.error
        self.has_answered = True
        return {}

    def get(self, key):
        raise self.error


def test_a_lost_connection_that_is_told_of_late_is_no_lack_of_a_value():
    """libmemcached 1.1 tells of it with the next single read."""
    client = PylibmcClient(Client("error 35 from memcached_get(k): SERVER IS MARKED DEAD"), 1.0)
    with pytest.raises(ConnectionError, match="error 35"):
        client.get("k")


def test_a_value_that_comes_between_two_reads_and_cannot_be_decompressed_is_empty():
    assert PylibmcClient(Client("failed to decompress"), 1.0).get("k") == b""


class TestHostileValues:
    @pytest.fixture
    def store(self, memcached):
        with opened(PYLIBMC, LOCATION=memcached.address) as store:
            yield store

    @pytest.mark.parametrize("flags", FLAGS)
    def test_no_flag_takes_a_value_to_pickle(self, store, memcached, tmp_path, flags):
        bomb = pickle.dumps(MakesDirectory(str(tmp_path / "run")))
        memcached.set_raw(":1:k", zlib.compress(bomb) if flags & 8 else bomb, flags=flags)
        memcached.set_raw(":1:own", b"own")
        assert store.get("k") == bomb
        assert store.get_many(["k", "own"]) == {"k": bomb, "own": b"own"}
        assert not (tmp_path / "run").exists()

    def test_a_value_that_says_falsely_that_it_is_compressed_is_empty_and_hides_no_other(
        self, store, memcached
    ):
        values = distinct_values(50)
        store.set_many(values, 100)
        poisoned = list(values)[::7]
        for key in poisoned:
            memcached.set_raw(f":1:{key}", b"no zlib", flags=8)
        assert store.get_many(list(values)) == values | dict.fromkeys(poisoned, b"")
        assert store.get(poisoned[0]) == b""
        store.set(poisoned[0], b"again", 100)
        assert store.get(poisoned[0]) == b"again"


class TestLostConnections:
    """pylibmc takes them for misses, each version of libmemcached in a way of its own."""

    @pytest.fixture
    def through(self, memcached, proxy):
        return proxy(memcached.address)

    @pytest.fixture
    def store(self, through):
        with opened(PYLIBMC, LOCATION=through.address, deadline=5.0) as store:
            store.set("k", b"1" * 100, 100)
            yield store

    @any_use
    @pytest.mark.parametrize("mode", ["refuse", "reset", "cut"])
    @pytest.mark.parametrize("is_new", [True, False], ids=["new", "open"])
    def test_they_are_errors_of_the_store(self, store, through, use, mode, is_new):
        if is_new:
            store.close()
        through.mode = mode
        with pytest.raises(StoreUnavailable):
            use(store)

    @any_use
    @pytest.mark.parametrize("mode", ["refuse", "reset"])
    def test_one_that_was_lost_while_it_lay_idle_is_replaced(self, store, through, use, mode):
        before = use(store)
        store.set("k", b"1" * 100, 100)
        through.mode = mode
        through.mode = "pass"
        assert use(store) == before if use is not USE["usage"] else use(store)

    def test_a_restarted_server_answers_at_once(self, memcached_server):
        with memcached_server() as server, opened(PYLIBMC, LOCATION=server.address) as store:
            store.set("k", b"1", 100)
            server.stop()
            with pytest.raises(StoreUnavailable):
                store.get("k")
            server.start()
            assert store.get("k") is None
            store.set("k", b"2", 100)
            assert store.get("k") == b"2"


class TestDeadline:
    DEADLINE = 0.3

    @pytest.fixture
    def through(self, memcached, proxy):
        return proxy(memcached.address)

    @pytest.fixture
    def store(self, through):
        with opened(PYLIBMC, LOCATION=through.address, deadline=self.DEADLINE) as store:
            store.set("k", b"1" * 100, 100)
            yield store

    @any_use
    @pytest.mark.parametrize("mode", ["black_hole", "hang_connect", "trickle"])
    def test_it_ends_every_wait_as_a_whole(self, store, through, use, mode):
        """A hundred bytes, one each 0.3 s, would take half a minute."""
        store.close()
        through.mode = mode
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            use(store)
        assert time.monotonic() - began < 2.0

    def test_operations_that_nobody_waits_for_any_more_do_not_pile_up(self, store, through):
        before = threading.active_count()
        through.mode = "trickle"
        for _ in range(12):
            with pytest.raises(StoreUnavailable):
                store.get("k")
        assert threading.active_count() <= before + 4

    def test_it_is_over_when_the_server_answers_again(self, store, through):
        through.mode = "black_hole"
        for _ in range(6):
            with pytest.raises(StoreUnavailable):
                store.get("k")
        through.mode = "pass"
        assert store.get("k") == b"1" * 100

    def test_the_users_own_time_outs_stay_where_they_are_shorter(self, through):
        through.mode = "black_hole"
        options = {"behaviors": {"_poll_timeout": 200, "connect_timeout": 200}}
        began = time.monotonic()
        with (
            opened(PYLIBMC, LOCATION=through.address, OPTIONS=options, deadline=60) as store,
            pytest.raises(StoreUnavailable),
        ):
            store.get("k")
        assert time.monotonic() - began < 20


class TestConnections:
    def test_fifty_requests_use_one(self, memcached, proxy):
        through = proxy(memcached.address)
        with opened(PYLIBMC, LOCATION=through.address) as store:
            for _ in range(50):
                store.get("k")
                signals.request_finished.send(self)
            assert through.connections == 1

    def test_close_closes_them_and_so_does_the_end_of_the_store(self, memcached, proxy):
        through = proxy(memcached.address)
        with opened(PYLIBMC, LOCATION=through.address) as store:
            assert in_threads(4, lambda _, store=store: store.get("k")) == []
            store.close()
            assert eventually(lambda: through.open_connections == 0)
            store.get("k")
            assert through.open_connections == 1
        del store
        assert eventually(lambda: through.open_connections == 0)

    def test_hundreds_of_keys_take_one_round_trip(self, memcached, proxy):
        through = proxy(memcached.address)
        values = distinct_values(500)
        with opened(PYLIBMC, LOCATION=through.address) as store:
            store.set_many(values, 100)
            through.reset_counts()
            assert store.get_many(list(values)) == values
            assert through.round_trips == 1

    def test_a_full_server_refuses_and_is_still_read(self, memcached_server):
        with (
            memcached_server("-M", "-m", "2") as server,
            opened(PYLIBMC, LOCATION=server.address) as store,
        ):
            store.set("k", b"1", 100)
            filling = {str(number): bytes(100_000) for number in range(100)}
            refused = store.set_many(filling, 100)
            assert refused
            with pytest.raises(StoreError) as caught:
                store.set(refused[0], filling[refused[0]], 100)
            assert not isinstance(caught.value, StoreUnavailable)
            assert store.get("k") == b"1"
