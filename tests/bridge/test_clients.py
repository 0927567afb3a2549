"""Clients that a user has made: what they can do, how long they may take, what a fork does."""

import time
from contextlib import ExitStack, closing

import cachelib
import diskcache
import pymemcache
import pytest

from django_jinja_bccache import MemcachedBytecodeCache
from django_jinja_bccache.exceptions import NotSupported, StoreError, StoreUnavailable
from tests.clients import CLIENTS, GetAndSet, GetSetAndDelete, own_client
from tests.stores.contract import eventually, outcome
from tests.test_caches import load

DAY = 24 * 60 * 60
KEY = {"key": "a secret of the site"}


class Recording(GetAndSet):
    """Keeps a list of how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple] = []

    def get(self, key):
        self.calls.append(("get", key))
        return super().get(key)

    def set(self, key, value, *timeout):
        self.calls.append(("set", key, value, *timeout))
        super().set(key, value)


class WithGetMulti(Recording):
    def get_multi(self, keys):
        self.calls.append(("get_multi", list(keys)))
        return {key: self.values[key] for key in keys if key in self.values}


class WithGetMany(Recording):
    def get_many(self, keys):
        self.calls.append(("get_many", list(keys)))
        return {key: self.values[key] for key in keys if key in self.values}


class WithGetDict(Recording, cachelib.BaseCache):
    def get_dict(self, *keys):
        self.calls.append(("get_dict", list(keys)))
        return {key: self.values.get(key) for key in keys}


class TestWhatAClientCanDo:
    @pytest.mark.parametrize(
        ("kind", "calls"),
        [
            (Recording, [("get", "a"), ("get", "b"), ("get", "c")]),
            (WithGetMulti, [("get_multi", ["a", "b", "c"])]),
            (WithGetMany, [("get_many", ["a", "b", "c"])]),
            (WithGetDict, [("get_dict", ["a", "b", "c"])]),
        ],
    )
    def test_many_are_read_at_once_by_the_method_that_it_has_for_that(self, kind, calls):
        client = kind()
        client.values = {"a": b"1", "c": b"3"}
        assert own_client(client).get_many(["a", "b", "c"]) == {"a": b"1", "c": b"3"}
        assert client.calls == calls

    @pytest.mark.parametrize(
        ("kind", "timeout", "told"),
        [
            (Recording, None, ()),
            (Recording, 59.5, (60,)),
            (Recording, 40 * DAY, (40 * DAY,)),
            (WithGetMany, 40 * DAY, (40 * DAY,)),
            (WithGetMulti, None, ()),
            (WithGetMulti, 59.5, (60,)),
            (WithGetDict, None, (0,)),
            (WithGetDict, 40 * DAY, (40 * DAY,)),
        ],
    )
    def test_the_third_argument_of_set_is_the_timeout_in_seconds(self, kind, timeout, told):
        client = kind()
        own_client(client).set("key", b"1", timeout)
        assert client.calls == [("set", "key", b"1", *told)]

    def test_one_with_memcacheds_names_is_told_the_day_where_memcached_wants_it(self):
        client = WithGetMulti()
        own_client(client).set("key", b"1", 40 * DAY)
        [(*_, told)] = client.calls
        assert told == pytest.approx(time.time() + 40 * DAY, abs=60)

    def test_a_client_whose_attributes_raise_is_asked_for_no_more_than_get_and_set(self, tmp_path):
        with diskcache.FanoutCache(tmp_path) as client:
            cache = MemcachedBytecodeCache(client, **KEY)
            load(cache)
            load(again := MemcachedBytecodeCache(client, **KEY))
            assert again.statistics.hits == 1

    def test_clear_names_the_method_that_is_missing(self):
        cache = MemcachedBytecodeCache(GetAndSet(), **KEY)
        load(cache)
        with pytest.raises(NotSupported, match=r"GetAndSet has no method delete\(\)"):
            cache.clear()

    def test_clear_says_that_it_cannot_list_where_it_could_delete(self):
        cache = MemcachedBytecodeCache(GetSetAndDelete(), **KEY)
        with pytest.raises(NotSupported, match="keys of GetSetAndDelete cannot be listed"):
            cache.clear()

    def test_what_is_refused_is_told_where_the_client_passes_over_errors(self, memcached):
        values = {"small": b"1", "large": bytes(2_000_000), "other": b"2"}
        with closing(pymemcache.Client(memcached.address, ignore_exc=True)) as client:
            store = own_client(client)
            assert store.set_many(values, 100) == ["large"]
            assert store.get_many(list(values)) == {"small": b"1", "other": b"2"}

    def test_a_server_that_goes_away_after_a_refusal_is_no_refusal(self, memcached, proxy):
        """The values of a batch that was refused are stored one by one."""
        through = proxy(memcached.address)

        class LastWords(pymemcache.Client):
            def set_multi(self, *arguments, **options):
                try:
                    return super().set_multi(*arguments, **options)
                finally:
                    through.mode = "refuse"

        with closing(LastWords(through.address)) as client:
            store = own_client(client)
            with pytest.raises(StoreUnavailable):
                store.set_many({"large": bytes(2_000_000), "small": b"1"}, 100)

    def test_it_tells_no_statistics_that_it_does_not_have(self):
        assert MemcachedBytecodeCache(GetAndSet(), **KEY).statistics.size is None


@pytest.fixture
def make():
    """Makes clients, which are closed afterwards: `make("pymemcache", address)`."""
    with ExitStack() as made:

        def make_one(kind: str, address: str):
            client = CLIENTS[kind](address)
            if kind != "pylibmc":  # another thread may be within it, and it closes by itself
                made.callback(getattr(client, "disconnect_all", lambda: None))
            return client

        yield make_one


class TestDeadline:
    @pytest.fixture
    def through(self, memcached, proxy):
        return proxy(memcached.address)

    @pytest.mark.parametrize("kind", CLIENTS)
    @pytest.mark.parametrize("mode", ["black_hole", "trickle"])
    def test_nobody_waits_longer_than_that_whatever_the_clients_time_outs(
        self, through, make, kind, mode
    ):
        store = own_client(make(kind, through.address), deadline=0.3)
        store.set("key", b"1" * 100, 100)
        through.mode = mode
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            store.get("key")
        assert outcome(lambda: store.get("key")) in (None, StoreError)
        assert time.monotonic() - began < 3.0
        through.mode = "reset"  # to end what still waits

    @pytest.mark.parametrize("mode", ["black_hole", "trickle"])
    def test_a_client_that_would_wait_for_ever_is_used_again_when_the_server_answers(
        self, through, make, mode
    ):
        store = own_client(make("pymemcache", through.address), deadline=0.3)
        store.set("key", b"1" * 100, 100)
        through.mode = mode
        with pytest.raises(StoreUnavailable):
            store.get("key")
        through.mode = "pass"
        assert eventually(lambda: outcome(lambda: store.get("key")) == b"1" * 100)

    @pytest.mark.parametrize("kind", [kind for kind in CLIENTS if kind != "cachelib"])
    def test_a_server_that_is_gone_is_no_miss(self, memcached_server, make, kind):
        with memcached_server() as server:
            store = own_client(make(kind, server.address))
            store.set("key", b"1", 100)
            server.stop()
            with pytest.raises(StoreError):
                store.get("key")
