"""What becomes of an SQLite file: foreign, corrupt, locked, removed, replaced, full, read-only."""

import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
from django_jinja_bccache.stores.sqlite import SQLiteStore
from tests.scripts import ROOT
from tests.stores.test_sqlite import sql

READS = {
    "get": lambda store: store.get("key"),
    "get_many": lambda store: store.get_many(["key"]),
    "scan": lambda store: list(store.scan("")),
    "usage": lambda store: store.usage(),
}
WRITES = {
    "set": lambda store: store.set("key", b"new", None),
    "set_many": lambda store: store.set_many({"key": b"new"}, None),
    "delete_many": lambda store: store.delete_many(["key"]),
}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite3"


@pytest.fixture
def store(path):
    store = SQLiteStore(path, deadline=10)
    yield store
    store.close()


def assert_out_of_order(store: SQLiteStore) -> None:
    for read in READS.values():
        with pytest.raises(StoreUnavailable):
            read(store)
    for write in WRITES.values():
        with pytest.raises(StoreError):
            write(store)


def other_program(path) -> None:
    sql(path, "CREATE TABLE entry (key, value, expires)")
    sql(path, "INSERT INTO entry VALUES ('precious', 1, 2)")


def other_program_without_tables(path) -> None:
    sql(path, "PRAGMA user_version = 1")


def other_version(path) -> None:
    store = SQLiteStore(path, deadline=10)
    store.set("key", b"1", None)
    store.close()
    sql(path, "PRAGMA user_version = 2")


FOREIGN = {
    "text": lambda path: path.write_text("my notes\n" * 1000),
    "a few bytes": lambda path: path.write_bytes(b"SQLi"),
    "another program's": other_program,
    "another program's, without tables": other_program_without_tables,
    "another version's": other_version,
}


class TestForeignFiles:
    @pytest.mark.parametrize("make", FOREIGN.values(), ids=FOREIGN)
    def test_a_foreign_file_is_out_of_order_and_stays_as_it_is(self, store, path, make):
        make(path)
        before = path.read_bytes()
        assert_out_of_order(store)
        store.close()
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == [path.name]

    def test_the_error_says_whose_file_it_is(self, store, path):
        other_program(path)
        with pytest.raises(StoreUnavailable, match=f"{path} is another program's database"):
            store.get("key")
        path.unlink()
        other_version(path)
        with pytest.raises(StoreUnavailable, match=r"format 2 of another version.* remove it"):
            store.get("key")

    @pytest.mark.timeout(20)
    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
    def test_what_is_no_file_holds_nobody(self, store, path, make):
        make(path)
        assert_out_of_order(store)

    def test_a_file_below_a_file_is_out_of_order(self, tmp_path):
        (tmp_path / "file").write_text("")
        store = SQLiteStore(tmp_path / "file" / "cache.sqlite3", deadline=10)
        for read in READS.values():
            with pytest.raises(StoreUnavailable):
                read(store)
        with pytest.raises(StoreError):
            store.set("key", b"1", None)

    def test_a_table_that_somebody_dropped_is_out_of_order(self, store, path):
        store.set("key", b"1", None)
        sql(path, "DROP TABLE entry")
        with pytest.raises(StoreUnavailable):
            store.get("key")
        with pytest.raises(StoreError):
            store.set("key", b"1", None)


class TestDamage:
    @pytest.fixture
    def damaged(self, store, path):
        """The path of a file of ours that nobody has open, with 300 entries."""
        store.set_many({f"key-{number}": os.urandom(1_000) for number in range(300)}, None)
        store.close()
        return path

    def test_a_file_cut_short_is_out_of_order(self, store, damaged):
        os.truncate(damaged, 5_000)
        with pytest.raises(StoreUnavailable):
            store.get_many([f"key-{number}" for number in range(300)])
        with pytest.raises(StoreError):
            store.set_many({f"key-{number}": b"x" for number in range(300)}, None)

    @pytest.mark.parametrize("start", [0, 16, 100, 4096, 50_000])
    def test_garbage_in_the_file_is_an_error_of_the_store_or_a_miss(self, store, damaged, start):
        content = bytearray(damaged.read_bytes())
        content[start : start + 8192] = os.urandom(8192)
        damaged.write_bytes(content)
        keys = [f"key-{number}" for number in range(300)]
        for operate in (
            *READS.values(),
            *WRITES.values(),
            lambda store: store.get_many(keys),
            lambda store: store.set_many(dict.fromkeys(keys, b"x"), None),
        ):
            with suppress(StoreError):
                operate(store)

    def test_it_works_again_once_the_damaged_file_is_removed(self, store, damaged):
        damaged.write_bytes(b"x" * 10_000)
        assert_out_of_order(store)
        damaged.unlink()
        store.set("key", b"1", None)
        assert store.get("key") == b"1"


class TestLocks:
    @pytest.fixture
    def writer(self, store, path):
        """Another program's connection, which has begun to write."""
        store.set("key", b"1", None)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.close()

    def test_while_somebody_writes_readers_read(self, writer, path):
        hasty = SQLiteStore(path, deadline=0.2)
        assert hasty.get("key") == b"1"
        assert [item.key for item in hasty.scan("")] == ["key"]
        hasty.close()

    def test_a_writer_gives_up_at_the_deadline_and_others_go_on_reading(self, writer, path):
        hasty = SQLiteStore(path, deadline=0.2)
        for write in WRITES.values():
            began = time.monotonic()
            with pytest.raises(StoreError, match="locked") as caught:
                write(hasty)
            assert not isinstance(caught.value, StoreUnavailable)
            assert time.monotonic() - began < 5
        assert hasty.get("key") == b"1"
        writer.rollback()
        hasty.set("key", b"2", None)
        assert hasty.get("key") == b"2"
        hasty.close()

    def test_a_file_that_somebody_holds_for_himself_is_out_of_order(self, store, path):
        store.set("key", b"1", None)
        store.close()
        holder = sqlite3.connect(path, isolation_level=None)
        holder.execute("PRAGMA locking_mode = EXCLUSIVE")
        holder.execute("BEGIN EXCLUSIVE")
        hasty = SQLiteStore(path, deadline=0.2)
        began = time.monotonic()
        assert_out_of_order(hasty)
        assert time.monotonic() - began < 10
        holder.close()
        assert hasty.get("key") == b"1"
        hasty.close()


# Has the file open, and does what it is told: a key to read, or a key and a value to store.
HOLDER = """
import sys
from django_jinja_bccache.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1], deadline=10)
store.set_many({str(number): b"x" * 5000 for number in range(50)}, None)
print("ready", flush=True)
for line in sys.stdin:
    key, *value = line.split()
    result = store.set(key, value[0].encode(), None) if value else store.get(key)
    print(result, flush=True)
"""


class Holder:
    def __init__(self, path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, path],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "ready\n"

    def __call__(self, *words: str) -> str:
        self.process.stdin.write(" ".join(words) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        self.process.communicate(timeout=20)


@pytest.fixture
def holder(path):
    """Another process that has the file open, with 50 entries."""
    holder = Holder(path)
    yield holder
    holder.close()


def remove_all(path) -> None:
    for suffix in ("", "-wal", "-shm"):
        os.unlink(f"{path}{suffix}")


def remove_the_file_alone(path) -> None:
    os.unlink(path)


class TestRemoved:
    @pytest.mark.parametrize("remove", [remove_all, remove_the_file_alone])
    def test_a_file_removed_while_it_is_open_is_made_anew_for_all(
        self, store, path, holder, remove
    ):
        assert store.get("1") == b"x" * 5000
        remove(path)
        assert store.get("1") is None
        store.set("new", b"mine", None)
        assert holder("1") == "None"
        assert holder("new") == "b'mine'"
        holder("other", "yours")
        assert store.get_many(["new", "other"]) == {"new": b"mine", "other": b"yours"}
        holder.close()
        store.close()
        assert sql(path, "PRAGMA integrity_check") == [("ok",)]
        assert sorted(item.key for item in store.scan("")) == ["new", "other"]

    def test_the_directory_may_be_removed_as_well(self, tmp_path):
        store = SQLiteStore(tmp_path / "a" / "cache.sqlite3", deadline=10)
        store.set("key", b"1", None)
        shutil.rmtree(tmp_path / "a")
        assert store.get("key") is None
        store.set("key", b"2", None)
        assert store.get("key") == b"2"
        store.close()

    def test_a_file_moved_into_its_place_is_read(self, store, path, tmp_path):
        store.set("key", b"old", None)
        other = SQLiteStore(tmp_path / "new.sqlite3", deadline=10)
        other.set("key", b"new", None)
        other.close()
        os.replace(tmp_path / "new.sqlite3", path)
        for suffix in ("-wal", "-shm"):
            os.unlink(f"{path}{suffix}")
        assert store.get("key") == b"new"
