"""Several memcacheds that share the keys: one that is gone costs its own keys only."""

import pytest
from django.core.cache import caches

from django_jinja_bccache.exceptions import StoreUnavailable
from django_jinja_bccache.stores.guard import CircuitOpen, GuardedStore
from tests.stores.opening import PYMEMCACHE, opened
from tests.stores.readers import PREFIX, distinct_values

VALUES = distinct_values(300)
COOLDOWN = 30.0


@pytest.fixture
def through(three_servers, proxy):
    """A proxy before each of the three."""
    return [proxy(server.address) for server in three_servers]


@pytest.fixture
def store(through, clock):
    def guard(store, name):
        return GuardedStore(store, name=name, deadline=5, cooldown=COOLDOWN, clock=clock)

    addresses = [each.address for each in through]
    with opened(PYMEMCACHE, LOCATION=addresses, guard=guard) as store:
        assert store.set_many(VALUES, 100) == []
        yield store


def keys_on(server) -> set[str]:
    keys = server.keys()
    return {key.removeprefix(":1:") for key in keys}


def test_each_key_lies_on_the_node_on_which_djangos_own_client_looks_for_it(store, three_servers):
    shares = [keys_on(server) for server in three_servers]
    assert sum(len(share) for share in shares) == len(VALUES)
    assert min(len(share) for share in shares) > 50
    assert {key: caches["default"].get(key) for key in VALUES} == VALUES


@pytest.mark.parametrize("count", [1, 300])
def test_reading_many_keys_is_one_round_trip_to_each_node(store, through, count):
    for each in through:
        each.reset_counts()
    wanted = list(VALUES)[:count]
    assert len(store.get_many(wanted)) == count
    assert sum(each.round_trips for each in through) == min(count, 3)


class TestOneIsDown:
    @pytest.fixture
    def down(self, store, three_servers, through):
        """The keys of the second server, which is gone."""
        keys = keys_on(three_servers[1])
        through[1].mode = "refuse"
        return keys

    def test_the_others_keys_are_read_one_by_one_and_together(self, store, down):
        for key, value in VALUES.items():
            if key in down:
                with pytest.raises(StoreUnavailable):
                    store.get(key)
            else:
                assert store.get(key) == value
        rest = {key: value for key, value in VALUES.items() if key not in down}
        assert store.get_many(list(VALUES)) == rest

    def test_only_its_own_keys_are_not_stored(self, store, down):
        assert set(store.set_many(VALUES, 100)) == down
        for key in list(VALUES)[:50]:
            if key not in down:
                store.set(key, b"new", 100)

    def test_its_keys_move_nowhere_else(self, store, down, three_servers, through):
        store.set_many(VALUES, 100)
        assert keys_on(three_servers[0]).isdisjoint(down)
        assert keys_on(three_servers[2]).isdisjoint(down)

    def test_the_log_names_it_and_no_other(self, store, down, through, clock, said):
        for _ in range(3):
            store.get_many(list(VALUES))
        [warning] = said()
        assert f"'default' ({through[1].address}) is unavailable" in warning
        through[1].mode = "pass"
        clock.now += COOLDOWN
        assert store.get_many(list(VALUES)) == VALUES
        [info] = said()
        assert f"'default' ({through[1].address}) answers again" in info

    def test_all_of_what_needs_it_fails(self, store, down):
        with pytest.raises(StoreUnavailable):
            store.get_many(list(down))
        with pytest.raises(CircuitOpen):
            store.get_many(list(down))
        with pytest.raises(StoreUnavailable):
            store.delete_many(VALUES)
        with pytest.raises(StoreUnavailable):
            list(store.scan(PREFIX))


def test_all_down_is_an_error_and_no_lack_of_values(store, through):
    for each in through:
        each.mode = "refuse"
    with pytest.raises(StoreUnavailable):
        store.get_many(list(VALUES))
    assert set(store.set_many(VALUES, 100)) == set(VALUES)


def test_usage_is_that_of_all_nodes(store, three_servers):
    stats = [server.stats() for server in three_servers]
    assert store.usage().max_size == sum(int(each["limit_maxbytes"]) for each in stats)
    assert (store.usage().size or 0) >= sum(len(value) for value in VALUES.values())


def test_the_listing_is_that_of_all_nodes(store):
    assert {item.key for item in store.scan(PREFIX)} == set(VALUES)
    assert store.delete_many(VALUES) == len(VALUES)
    assert list(store.scan(PREFIX)) == []
