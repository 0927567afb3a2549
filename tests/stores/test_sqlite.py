"""An SQLite file as a store."""

import os
import sqlite3
import threading
import time

import pytest

from django_jinja_bccache import SQLiteBytecodeCache
from django_jinja_bccache.exceptions import ConfigurationError, StoreError, ValueTooLarge
from django_jinja_bccache.stores import sqlite_connection
from django_jinja_bccache.stores.base import LARGEST_VALUE
from django_jinja_bccache.stores.sqlite import SQLiteStore
from tests.stores.contract import ListingContract, eventually
from tests.stores.readers import in_threads


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite3"


@pytest.fixture
def store(path):
    store = SQLiteStore(path, deadline=10)
    yield store
    store.close()


def sql(path, statement: str, *values: object) -> list:
    """What a statement returns on a connection that is not the store's."""
    with sqlite3.connect(path, isolation_level=None) as connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


class TestContract(ListingContract):
    crowd_size = 100_000
    longest_key = None
    knows_access = False

    @pytest.fixture
    def crowd(self, store):
        def plant(count: int) -> None:
            store.set_many({f"other:{number}": b"x" for number in range(count)}, None)

        return plant


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o177, 0o777], ids=oct)
def test_only_the_owner_may_look_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        store = SQLiteStore(tmp_path / "a" / "b" / "file", deadline=10)
        store.set("key", b"1", None)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "a").rglob("*")}
    assert modes == {"b": 0o700, "file": 0o600, "file-wal": 0o600, "file-shm": 0o600}
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    store.close()


def test_one_file_is_left_and_made_only_when_something_is_stored(store, path):
    assert store.get("key") is None
    assert store.get_many(["key"]) == {}
    assert store.delete_many(["key"]) == 0
    assert list(store.scan("")) == []
    assert store.usage().size == 0
    assert not path.parent.joinpath(path.name).exists()
    store.set("key", b"1", None)
    store.close()
    assert list(path.parent.iterdir()) == [path]


def test_an_empty_file_is_as_good_as_none(store, path):
    path.touch()
    assert store.get("key") is None
    assert list(store.scan("")) == []
    store.set("key", b"1", None)
    assert store.get("key") == b"1"


def test_a_file_that_another_journal_mode_was_left_in_gets_its_own_back(store, path):
    store.set("key", b"1", None)
    store.close()
    sql(path, "PRAGMA journal_mode = DELETE")
    assert store.get("key") == b"1"
    assert sql(path, "PRAGMA journal_mode") == [("wal",)]


def test_a_table_that_another_process_makes_just_now_is_waited_for(store, path):
    path.touch()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    done = []
    thread = threading.Thread(target=lambda: done.append(store.set("key", b"1", None)))
    thread.start()
    time.sleep(0.3)
    for statement in sqlite_connection._SCHEMA:
        other.execute(statement)
    other.execute("COMMIT")
    other.close()
    thread.join()
    assert done == [None]
    assert store.get("key") == b"1"


def test_the_path_stays_when_the_process_changes_its_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = SQLiteStore("cache.sqlite3", deadline=10)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    store.set("key", b"1", None)
    assert store.get("key") == b"1"
    assert os.listdir() == []
    store.close()


def test_a_path_may_hold_what_means_something_in_an_address(tmp_path):
    store = SQLiteStore(tmp_path / "a?mode=memory&x#y%20z ü'", deadline=10)
    store.set("key", b"1", None)
    store.close()
    assert os.listdir(tmp_path) == ["a?mode=memory&x#y%20z ü'"]


def test_a_link_is_followed_wherever_it_leads(tmp_path):
    link = tmp_path / "link.sqlite3"
    store = SQLiteStore(link, deadline=10)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name / "cache.sqlite3")
        (tmp_path / name / "cache.sqlite3").touch()
        assert store.get("key") is None
        store.set("key", name.encode(), None)
        assert store.get("key") == name.encode()
    store.close()
    assert sorted(os.listdir(tmp_path)) == ["link.sqlite3", "one", "two"]
    assert os.listdir(tmp_path / "two") == ["cache.sqlite3"]


@pytest.mark.parametrize("path", ["", ":memory:", "file:x?mode=memory", "a\0b", None, 42, b"x"])
def test_what_is_no_path_of_a_file_is_refused(path):
    with pytest.raises(ConfigurationError, match=r"database_path: .* the path of a file"):
        SQLiteBytecodeCache(path)


def test_expired_values_leave_the_file_with_later_writes(store, path):
    store.set_many({f"old-{number}": b"x" for number in range(250)}, 0.001)
    store.set("lasting", b"x", 100)
    for number in range(5):
        store.set("new", str(number).encode(), None)
    assert sorted(sql(path, "SELECT key FROM entry")) == [(b"lasting",), (b"new",)]


def test_expired_values_are_listed_until_they_leave(store):
    # Else nothing would remove them from a cache that nobody writes to any more.
    store.set("old", b"x", 0.001)
    assert eventually(lambda: store.get("old") is None)
    assert [item.key for item in store.scan("")] == ["old"]
    assert store.delete_many(["old"]) == 1


def test_a_value_beyond_the_limit_is_too_large(store):
    big = bytes(LARGEST_VALUE + 1)
    with pytest.raises(ValueTooLarge) as caught:
        store.set("big", big, None)
    assert caught.value.size == len(big)
    assert caught.value.limit == LARGEST_VALUE
    assert store.set_many({"a": b"1", "big": big, "b": b"2"}, None) == ["big"]
    assert store.get_many(["a", "big", "b"]) == {"a": b"1", "b": b"2"}


@pytest.mark.parametrize("value", ["text", 42, 4.5], ids=repr)
def test_a_value_that_is_not_bytes_is_a_miss(store, path, value):
    store.set("own", b"own", None)
    sql(path, "INSERT INTO entry VALUES (?, ?, NULL)", b"foreign", value)
    assert store.get("foreign") is None
    assert store.get_many(["foreign", "own"]) == {"own": b"own"}


@pytest.mark.parametrize("prefix", ["%", "_", "a_", "A", "ü", "\udcff", "a\0"])
def test_a_prefix_means_itself(store, prefix):
    keys = ["%x", "_x", "a_x", "abx", "Ax", "ax", "üx", "ux", "\udcffx", "a\0x", "a"]
    store.set_many(dict.fromkeys(keys, b"1"), None)
    expected = sorted(key for key in keys if key.startswith(prefix))
    assert sorted(item.key for item in store.scan(prefix)) == expected


def test_a_listing_of_many_pages_is_complete_while_it_is_being_emptied(store):
    values = {f"key-{number}": b"x" for number in range(2_500)}
    store.set_many(values, None)
    listed = []
    for item in store.scan("key-"):
        listed.append(item.key)
        store.delete_many([item.key])
    assert sorted(listed) == sorted(values)
    assert list(store.scan("")) == []


def test_usage_shrinks_when_entries_are_removed(store):
    store.set_many({str(number): bytes(10_000) for number in range(50)}, None)
    full = store.usage().size
    store.delete_many([str(number) for number in range(50)])
    assert full > 500_000
    assert store.usage().size < full / 10


def test_connections_are_as_many_as_users_at_the_same_time(store):
    store.set("key", b"1", None)
    before = len(os.listdir("/dev/fd"))
    for _ in range(100):
        thread = threading.Thread(target=store.get, args=["key"])
        thread.start()
        thread.join()
    assert len(os.listdir("/dev/fd")) == before


def test_threads_that_write_at_the_same_time_lose_nothing(store):
    def write(number: int) -> None:
        for each in range(20):
            store.set(f"{number}/{each}", f"{number}/{each}".encode(), None)

    assert in_threads(8, write) == []
    keys = [f"{number}/{each}" for number in range(8) for each in range(20)]
    assert store.get_many(keys) == {key: key.encode() for key in keys}


def test_an_operation_that_lasts_is_cut_at_the_deadline_and_leaves_nothing(path):
    store = SQLiteStore(path, deadline=10)
    store.set("key", b"1", None)
    store.close()
    hasty = SQLiteStore(path, deadline=0.05)
    began = time.monotonic()
    with pytest.raises(StoreError, match="interrupted"):
        hasty.set_many({f"{number}": b"x" for number in range(1_000_000)}, None)
    assert time.monotonic() - began < 5
    assert [item.key for item in store.scan("")] == ["key"]
    store.close()
    hasty.close()
