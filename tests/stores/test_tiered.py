"""A local store in front of a shared one."""

from contextlib import closing

import pytest

from django_jinja_bccache.exceptions import (
    NotSupported,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)
from django_jinja_bccache.stores.filesystem import FileSystemStore
from django_jinja_bccache.stores.guard import CircuitOpen, GuardedStore
from django_jinja_bccache.stores.sqlite import SQLiteStore
from django_jinja_bccache.stores.tiered import Tier, TieredStore, tiers_of
from tests.stores.contract import PREFIX, ListingContract
from tests.stores.opening import REDIS, opened

LOCMEM = "django.core.cache.backends.locmem.LocMemCache"


def tier(store, **options) -> Tier:
    return Tier(lambda: store, **options)


class TestFilesBeforeSQLite(ListingContract):
    # A copy begins a life of its own; that of the copies here is short enough to be waited for.
    local_timeout = 1
    longest_key = None
    knows_access = False

    @pytest.fixture
    def store(self, tmp_path):
        with closing(SQLiteStore(tmp_path / "cache.sqlite3", deadline=10)) as shared:
            yield self.before(shared, tmp_path)

    def before(self, shared, tmp_path) -> TieredStore:
        local = FileSystemStore(tmp_path / "cache")
        return TieredStore(tier(local, timeout=self.local_timeout), tier(shared))

    @pytest.fixture
    def crowd(self, store):
        def plant(count: int) -> None:
            for each in tiers_of(store):
                each.set_many({f"other:{number}": b"x" for number in range(count // 2)}, None)

        return plant


@pytest.mark.filterwarnings("ignore::django.core.cache.CacheKeyWarning")
class TestFilesBeforeRedis(TestFilesBeforeSQLite):
    knows_access = True

    @pytest.fixture
    def store(self, tmp_path, redis):
        with opened(REDIS, LOCATION=redis.url) as shared:
            yield self.before(shared, tmp_path)


@pytest.fixture
def local(tmp_path):
    return FileSystemStore(tmp_path / "local")


@pytest.fixture
def counted(memcached, proxy):
    """A proxy that counts what the shared store is asked."""
    return proxy(memcached.address)


@pytest.fixture
def shared(counted):
    with opened(
        "django.core.cache.backends.memcached.PyMemcacheCache", LOCATION=counted.address
    ) as store:
        yield store


@pytest.fixture
def broken(tmp_path):
    """A store that fails at whatever it is asked."""
    (tmp_path / "file").write_text("")
    return SQLiteStore(tmp_path / "file" / "cache", deadline=10)


@pytest.fixture
def noted():
    return []


@pytest.fixture
def store(local, shared, noted):
    return TieredStore(tier(local), tier(shared), on_error=noted.append)


class TestReading:
    def test_a_local_hit_asks_nothing_of_the_shared_store(self, store, counted):
        store.set_many({"a": b"1", "b": b"2"}, None)
        counted.reset_counts()
        assert store.get("a") == b"1"
        assert store.get_many(["a", "b"]) == {"a": b"1", "b": b"2"}
        assert store.get_any(["b", "absent"]) == {"b": b"2"}
        assert counted.bytes_up == 0

    def test_what_only_the_shared_store_has_is_copied_unchanged(
        self, store, local, shared, counted
    ):
        value = bytes(range(256))
        shared.set_many({"a": value, "b": b"2", "c": b"3"}, None)
        assert store.get("a") == value
        assert store.get_many(["a", "b", "absent"]) == {"a": value, "b": b"2"}
        assert store.get_any(["absent", "c"]) == {"c": b"3"}
        assert local.get_many(["a", "b", "c"]) == {"a": value, "b": b"2", "c": b"3"}
        counted.reset_counts()
        assert store.get_many(["a", "b"]) == {"a": value, "b": b"2"}
        assert counted.bytes_up == 0

    def test_the_shared_store_is_asked_once_for_what_is_missing_and_for_nothing_else(
        self, store, shared, counted, memcached
    ):
        keys = [str(number) for number in range(50)]
        shared.set_many({key: key.encode() for key in keys}, None)
        store.get("7")
        counted.reset_counts()
        before = int(memcached.stats()["cmd_get"])
        assert store.get_many(keys) == {key: key.encode() for key in keys}
        assert counted.round_trips == 1
        assert int(memcached.stats()["cmd_get"]) - before == 49

    def test_one_of_several_values_is_enough_when_any_will_do(self, store, local, counted):
        local.set("old", b"1", None)
        assert store.get_any(["new", "old"]) == {"old": b"1"}
        assert counted.bytes_up == 0

    def test_a_copy_lives_as_long_as_the_local_tier_says(self, local, shared):
        shared.set("a", b"1", None)
        store = TieredStore(tier(local, timeout=100), tier(shared))
        store.get("a")
        [item] = local.scan("a")
        [original] = shared.scan("a")
        assert item.expires_at is not None
        assert original.expires_at is None

    def test_nothing_is_copied_to_a_tier_that_is_for_reading(self, local, shared):
        shared.set("a", b"1", None)
        store = TieredStore(tier(local, read_only=True), tier(shared))
        assert store.get("a") == b"1"
        assert store.get_many(["a"]) == {"a": b"1"}
        assert local.get("a") is None


class TestWriting:
    def test_both_get_the_value_for_the_lesser_time(self, local, shared):
        store = TieredStore(tier(local, timeout=1_000), tier(shared))
        store.set("a", b"1", 100_000)
        store.set_many({"b": b"2"}, 100_000)
        store.set("c", b"3", None)
        store.set("d", b"4", 10)
        lives = [{item.key: item.expires_at for item in each.scan("")} for each in tiers_of(store)]
        here, there = lives
        assert there["a"] - here["a"] == pytest.approx(99_000, abs=10)
        assert there["b"] - here["b"] == pytest.approx(99_000, abs=10)
        assert (here["c"] is None, there["c"]) == (False, None)
        assert here["d"] - there["d"] == pytest.approx(0, abs=5)

    def test_a_page_writes_nothing_to_a_tier_that_is_for_reading_and_a_command_does(
        self, local, shared
    ):
        store = TieredStore(tier(local), tier(shared, read_only=True))
        store.set("page", b"1", None)
        assert (local.get("page"), shared.get("page")) == (b"1", None)
        assert store.set_many({"command": b"2"}, None) == []
        assert shared.get("command") == b"2"

    def test_two_tiers_for_reading_take_nothing_without_a_word(self, local, shared):
        store = TieredStore(tier(local, read_only=True), tier(shared, read_only=True))
        store.set("a", b"1", None)
        assert store.get("a") is None

    def test_what_is_too_large_for_one_is_said_although_the_other_has_it(self, store, local):
        big = bytes(2_000_000)
        with pytest.raises(ValueTooLarge):
            store.set("big", big, None)
        assert local.get("big") == big
        assert store.get("big") == big
        assert store.set_many({"big": big, "small": b"1"}, None) == ["big"]
        assert store.get("small") == b"1"


class TestRemoving:
    def test_what_is_in_both_counts_once(self, store, local, shared):
        store.set_many({"a": b"1", "b": b"2"}, None)
        shared.set("there", b"3", None)
        assert store.delete_many(["a", "b", "there"]) == 3
        assert (local.get("a"), shared.get("there")) == (None, None)
        assert store.delete_many(iter(["a"])) == 0

    def test_the_listing_is_that_of_both_with_each_key_once(self, store, local, shared):
        store.set(f"{PREFIX}both", b"1", None)
        local.set(f"{PREFIX}here", b"2", None)
        shared.set(f"{PREFIX}there", b"3", None)
        shared.set("foreign", b"4", None)
        listed = [item.key for item in store.scan(PREFIX)]
        assert sorted(listed) == [f"{PREFIX}{name}" for name in ("both", "here", "there")]

    @pytest.mark.parametrize("order", [1, -1])
    def test_a_tier_that_cannot_list_is_named(self, local, order):
        with opened(LOCMEM) as unlisted:
            store = TieredStore(*[tier(local), tier(unlisted)][::order])
            with pytest.raises(NotSupported):
                list(store.scan(""))


class TestFailures:
    @pytest.fixture(params=["local", "shared"])
    def half(self, request, broken, local, noted):
        """A store of which only one tier works, and that tier."""
        tiers = [tier(broken), tier(local)]
        if request.param == "shared":
            tiers.reverse()
        return TieredStore(*tiers, on_error=noted.append), local

    def test_one_that_fails_keeps_the_other_from_nothing(self, half, noted):
        store, working = half
        store.set("a", b"1", None)
        assert working.get("a") == b"1"
        assert store.get("a") == b"1"
        assert store.get_many(["a", "b"]) == {"a": b"1"}
        assert store.get("b") is None
        assert noted
        assert all(isinstance(error, StoreError) for error in noted)

    def test_without_the_shared_store_the_latest_is_what_the_local_one_has(
        self, broken, local, noted
    ):
        store = TieredStore(tier(local), tier(broken), on_error=noted.append)
        local.set("a", b"1", None)
        assert store.get_latest(["a", "b"]) == {"a": b"1"}
        assert [type(error) for error in noted] == [StoreUnavailable]

    def test_a_command_does_what_it_can_and_says_what_it_could_not(self, half):
        store, working = half
        working.set("a", b"1", None)
        for operation in (
            lambda: store.set_many({"b": b"2"}, None),
            lambda: store.delete_many(["a"]),
            lambda: list(store.scan("")),
        ):
            with pytest.raises(StoreError):
                operation()
        assert working.get_many(["a", "b"]) == {"b": b"2"}

    def test_when_both_fail_it_is_said(self, broken, noted):
        store = TieredStore(tier(broken), tier(broken), on_error=noted.append)
        for operation in (
            lambda: store.get("a"),
            lambda: store.get_many(["a"]),
            lambda: store.get_any(["a"]),
            lambda: store.set("a", b"1", None),
        ):
            with pytest.raises(StoreError):
                operation()
        assert noted == []

    def test_a_tier_that_cannot_be_opened_is_one_that_fails(self, local, noted):
        def fail():
            raise StoreUnavailable("no such place")

        store = TieredStore(Tier(fail), tier(local), on_error=noted.append)
        store.set("a", b"1", None)
        assert store.get("a") == b"1"
        assert {str(error) for error in noted} == {"no such place"}

    def test_an_outage_that_is_known_already_is_neither_noted_again_nor_told_for_a_new_one(
        self, broken, local, noted
    ):
        def guarded() -> GuardedStore:
            return GuardedStore(broken, name="x", deadline=1, cooldown=100)

        ill = guarded()
        store = TieredStore(tier(ill), tier(local), on_error=noted.append)
        for _ in range(3):
            assert store.get("a") is None
        assert len(noted) == 1
        other = TieredStore(tier(ill), tier(guarded()))
        with pytest.raises(StoreUnavailable) as first:
            other.get("a")
        assert not isinstance(first.value, CircuitOpen)
        with pytest.raises(CircuitOpen):
            other.get("a")

    def test_both_are_closed_even_if_one_cannot_be_opened(self, tmp_path):
        def fail():
            raise StoreUnavailable("no such place")

        local = SQLiteStore(tmp_path / "cache.sqlite3", deadline=10)
        local.set("a", b"1", None)
        with pytest.raises(StoreUnavailable):
            TieredStore(Tier(fail), tier(local)).close()
        assert [item.name for item in tmp_path.iterdir()] == ["cache.sqlite3"]
