"""Replicas are read from; everything else, and what must not lag behind, is the primary's."""

import pytest
from django.template import engines
from django.test import override_settings

from django_jinja_bccache.discovery import cached_engines
from django_jinja_bccache.exceptions import StoreUnavailable
from django_jinja_bccache.stores.guard import GuardedStore
from django_jinja_bccache.warming import check, warm
from tests.sites import BACKEND
from tests.stores.opening import DJANGO_REDIS, DJANGO_VALKEY, REDIS, opened
from tests.stores.readers import distinct_values


@pytest.fixture
def pair(redis_server):
    """Two servers that know nothing of each other: a replica that lags behind for ever."""
    with redis_server() as primary, redis_server() as replica:
        yield primary, replica


@pytest.fixture(params=[REDIS, DJANGO_REDIS, DJANGO_VALKEY])
def alias(request, pair):
    """What stands in CACHES."""
    return {"BACKEND": request.param, "LOCATION": [server.url for server in pair]}


def guarded(store, name):
    return GuardedStore(store, name=name, deadline=2.0, cooldown=600)


@pytest.fixture
def store(alias):
    with opened(alias["BACKEND"], guard=guarded, LOCATION=alias["LOCATION"]) as store:
        yield store


def test_reads_ask_the_replica_and_writes_the_primary(store, pair):
    primary, replica = pair
    replica.set_raw(":1:key", b"the replica's")
    store.set("key", b"new", 100)
    assert store.set_many({"other": b"new"}, 100) == []
    assert store.get("key") == b"the replica's"
    assert store.get_many(["key", "other"]) == {"key": b"the replica's"}
    assert sorted(primary.keys()) == [":1:key", ":1:other"]
    assert store.delete_many(["key", "other"]) == 2
    assert replica.keys() == [":1:key"]


def test_a_listing_is_the_primarys_and_knows_of_no_reads(store, pair):
    store.set("key", b"1", 100)
    assert [(item.key, item.accessed_at) for item in store.scan("")] == [("key", None)]
    assert store.usage().size > 0


def test_while_the_primary_is_down_the_replica_is_read_from(store, pair):
    primary, replica = pair
    replica.set_raw(":1:key", b"1")
    primary.stop()
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            store.set("key", b"2", 100)
        assert store.get("key") == b"1"


def test_while_the_replica_is_known_to_be_down_the_primary_is_read_from(store, pair):
    _, replica = pair
    store.set("key", b"1", 100)
    replica.stop()
    with pytest.raises(StoreUnavailable):
        store.get("key")
    assert store.get("key") == b"1"
    assert store.get_many(["key", "other"]) == {"key": b"1"}


def test_both_down_is_an_outage(store, pair):
    for server in pair:
        server.stop()
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            store.get("key")


@pytest.mark.parametrize("backend", [REDIS, DJANGO_REDIS])
def test_reads_are_spread_over_all_replicas(redis, redis_server, backend):
    with redis_server() as one, redis_server() as two:
        one.set_raw(":1:key", b"one")
        two.set_raw(":1:key", b"two")
        answers = set()
        for _ in range(64):
            with opened(backend, LOCATION=[server.url for server in (redis, one, two)]) as store:
                answers.add(store.get("key"))
        assert answers == {b"one", b"two"}


def test_commands_read_what_was_written_although_the_replica_lags(alias, pair, tmp_path):
    for name in distinct_values(10):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("Hello")
    engine = {"BACKEND": BACKEND, "NAME": "shop", "DIRS": [tmp_path], "OPTIONS": {}}
    with override_settings(CACHES={"default": alias}, TEMPLATES=[engine]):
        [cached] = cached_engines()
        report = warm(cached)
        assert (len(report.compiled), report.missing) == (10, [])
        assert len(check(cached).present) == 10
        cache = engines["shop"].env.bytecode_cache
        assert len(list(cache.entries())) == 10
        cache.clear()
        assert [server.keys() for server in pair] == [[], []]
