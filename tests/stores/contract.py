"""What every store does, whatever is beneath it.

A subclass has a fixture ``store`` and says with class attributes what its store can; the tests
of a store's own faults stand in its own file.
"""

import random
import time
from collections.abc import Callable

import pytest

from django_jinja_bccache.exceptions import NotSupported, StoreError, ValueTooLarge
from django_jinja_bccache.stores.base import Store
from tests.stores.readers import PREFIX, ManyReaders, distinct_values

DAY = 24 * 60 * 60
ODD_KEYS = {
    "space": "with a space",
    "leading space": " x",
    "NUL": "with\0nul",
    "tab": "with\ttab",
    "line break": "x\r\nget neighbour",
    "command": "x 0 0 1\r\n1\r\nflush_all\r\n",
    "DEL": "x\x7f",
    "umlaut": "süß/größe.html",
    "no Latin": "шаблон/页面.html",
    "umlauts over the limit": "ü" * 200,
    "lone surrogate": "x\udcff",
    "empty": "",
    "250": "k" * 250,
    "251": "k" * 251,
    "5000": "k" * 5_000,
    "per cent": "50%s%20%",
    "slashes": "../../../x",
}


def eventually(condition: Callable[[], object], seconds: float = 10.0) -> bool:
    """Whether something becomes true in time."""
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return bool(condition())


def outcome(operation: Callable[[], object]) -> object:
    """What an operation returns, or StoreError if it raises one."""
    try:
        return operation()
    except StoreError:
        return StoreError


class MinimalContract(ManyReaders):
    """What every store does, even over a client that has only get, set and delete."""

    takes_5_megabytes = True
    # The store's limit, as its errors name it; None where it does not tell.
    named_limit: int | None = None
    # The longest key that the store takes, in characters of ASCII; None if there is no limit.
    # How many values are stored at once: fewer where each takes long.
    most_at_once = 5_000
    longest_key: int | None = 250

    def test_all_bytes_come_back(self, store: Store):
        value = bytes(range(256)) * 40 + b"\r\nEND\r\n"
        store.set("key", value, 100)
        assert store.get("key") == value
        assert store.get_many(["key"]) == {"key": value}

    def test_an_empty_value_is_a_value(self, store: Store):
        store.set("key", b"", 100)
        assert store.get("key") == b""
        assert store.get_many(["key"]) == {"key": b""}

    def test_what_was_never_stored_is_a_miss(self, store: Store):
        assert store.get("key") is None
        assert store.get_many(["key", "other"]) == {}

    def test_the_last_value_stored_is_the_one_that_is_read(self, store: Store):
        store.set("key", b"first", None)
        store.set("key", b"second", 100)
        assert store.get("key") == b"second"

    def test_deleting_removes_the_keys_that_are_named_and_counts_those_that_were_there(
        self, store: Store
    ):
        for key in ("a", "b", "c"):
            store.set(key, key.encode(), 100)
        assert store.delete_many(key for key in ("a", "missing", "c")) == 2
        assert store.get_many(["a", "b", "c"]) == {"b": b"b"}
        assert store.delete_many(["a", "c"]) == 0
        assert store.delete_many([]) == 0

    def test_five_megabytes_are_stored_or_refused_as_too_large(self, store: Store):
        value = random.Random(5).randbytes(5_000_000)
        store.set("neighbour", b"its own", 100)
        if self.takes_5_megabytes:
            store.set("big", value, 100)
            assert store.get("big") == value
        else:
            with pytest.raises(ValueTooLarge) as caught:
                store.set("big", value, 100)
            assert caught.value.size == 5_000_000
            assert caught.value.limit == self.named_limit
            assert store.get("big") is None
        assert store.get("neighbour") == b"its own"

    @pytest.mark.parametrize("key", ODD_KEYS.values(), ids=ODD_KEYS)
    def test_an_odd_key_works_or_is_refused_and_mixes_nothing_up(self, store: Store, key: str):
        store.set("neighbour", b"its own", 100)
        stored = outcome(lambda: store.set(key, b"odd", 100)) is None
        read, read_many, removed = (
            outcome(lambda: store.get(key)),
            outcome(lambda: store.get_many([key, "neighbour"])),
            outcome(lambda: store.delete_many([key])),
        )
        if stored:
            both = {key: b"odd", "neighbour": b"its own"}
            assert (read, read_many, removed) == (b"odd", both, 1)
        else:
            assert read in (None, StoreError)
            assert read_many in ({"neighbour": b"its own"}, StoreError)
            assert removed in (0, StoreError)
        for _ in range(3):
            assert store.get("neighbour") == b"its own"

    def test_a_key_may_be_as_long_as_the_store_allows(self, store: Store):
        longest = "k" * (self.longest_key or 10_000)
        store.set(longest, b"1", 100)
        assert store.get(longest) == b"1"
        if self.longest_key:
            with pytest.raises(StoreError):
                store.set(longest + "k", b"1", 100)

    @pytest.mark.parametrize("count", [0, 1, 500, 5_000])
    def test_many_keys_are_stored_read_and_removed_at_once(self, store: Store, count: int):
        count = min(count, self.most_at_once)
        values = distinct_values(count)
        assert store.set_many(values, 100) == []
        absent = [f"absent-{number}" for number in range(count // 10)]
        assert store.get_many([*absent, *values]) == values
        assert store.delete_many(values) == count
        assert store.get_many(list(values)) == {}

    def test_a_closed_store_opens_again(self, store: Store):
        store.set("key", b"1", 100)
        store.close()
        assert store.get("key") == b"1"


class StoreContract(MinimalContract):
    """What a store does whose client keeps time-outs and tells what it did."""

    def test_a_value_is_there_until_its_timeout_and_not_afterwards(self, store: Store):
        # All that must stay comes first: a time-out of a second would end it before the last.
        store.set("never", b"1", None)
        store.set("31-days", b"2", 31 * DAY)
        store.set("a-minute", b"3", 60)
        store.set_many({"many-never": b"4"}, None)
        store.set_many({"many-31-days": b"5"}, 31 * DAY)
        store.set("a-second", b"6", 1)
        store.set_many({"many-a-second": b"7"}, 0.5)
        assert eventually(lambda: store.get_many(["a-second", "many-a-second"]) == {})
        assert store.get("a-second") is None
        lasting = {"never": b"1", "31-days": b"2", "a-minute": b"3"}
        lasting |= {"many-never": b"4", "many-31-days": b"5"}
        assert store.get_many(list(lasting)) == lasting

    def test_an_oversize_value_keeps_none_of_the_others_from_being_stored(self, store: Store):
        good = {f"good-{number}": b"x" * number for number in range(20)}
        big = {} if self.takes_5_megabytes else {"big": bytes(5_000_000)}
        items = dict(list(good.items())[:10]) | big | good
        assert store.set_many(items, 100) == list(big)
        assert store.get_many(list(items)) == good


class ListingContract(StoreContract):
    """What a store does that can list its keys.

    A subclass has a fixture ``crowd`` as well: it plants keys or files of somebody else's.
    """

    knows_access = True
    # One class for each way of listing has 100,000: to plant them takes long.
    crowd_size = 5_000

    def test_exactly_the_keys_with_the_prefix_are_listed_among_a_crowd_of_others(
        self, store: Store, crowd: Callable[[int], None]
    ):
        values = distinct_values(300)
        store.set_many(values, 100)
        beside = ("jinja2/bytecode", "jinja2/bytecod/x", "other", "x" + PREFIX, "%s", "JINJA2")
        store.set_many(dict.fromkeys(beside, b"1"), 100)
        crowd(self.crowd_size)
        listed = list(store.scan(PREFIX))
        assert sorted(item.key for item in listed) == sorted(values)

    def test_a_listed_key_can_be_read_and_removed(self, store: Store):
        store.set_many(distinct_values(30), 100)
        keys = [item.key for item in store.scan(PREFIX)]
        assert len(store.get_many(keys)) == 30
        assert store.delete_many(keys) == 30
        assert list(store.scan(PREFIX)) == []

    def test_the_listing_tells_size_expiry_and_last_access(self, store: Store):
        began = time.time()
        store.set("a", b"x" * 10_000, 100)
        store.set("b", b"x", 31 * DAY)
        store.set("c", b"", None)
        items = {item.key: item for item in store.scan("")}
        assert 10_000 <= items["a"].size < 10_500
        assert items["c"].size < 500
        assert items["a"].expires_at == pytest.approx(began + 100, abs=5)
        assert items["b"].expires_at == pytest.approx(began + 31 * DAY, abs=5)
        assert items["c"].expires_at is None
        accessed = pytest.approx(began, abs=5) if self.knows_access else None
        assert items["a"].accessed_at == accessed

    def test_usage_is_at_least_what_is_stored(self, store: Store):
        store.set("a", b"x" * 100_000, 100)
        assert (store.usage().size or 0) >= 100_000


class NoListingContract(StoreContract):
    """What a store does that cannot list its keys."""

    def test_listing_says_that_it_is_not_supported(self, store: Store):
        store.set(PREFIX + "a", b"1", 100)
        with pytest.raises(NotSupported):
            list(store.scan(PREFIX))


class ForeignValues:
    """For a store whose client makes objects of what it reads.

    A subclass has a fixture ``plant`` that stores a value as somebody else would.
    """

    @pytest.mark.parametrize("value", ["text", 42, 4.5, None, ["list"], bytearray(b"x")], ids=repr)
    def test_a_value_that_is_not_bytes_is_a_miss(
        self, store: Store, plant: Callable[[str, object], None], value: object
    ):
        store.set("own", b"own", 100)
        plant("foreign", value)
        assert store.get("foreign") is None
        assert store.get_many(["foreign", "own"]) == {"own": b"own"}
