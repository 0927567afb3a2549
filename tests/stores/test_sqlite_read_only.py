"""An SQLite file where nothing can be written any more, or never could."""

import pytest

from tests.scripts import run_script


def test_on_a_full_disk_what_is_stored_stays_readable(tmp_path):
    done = run_script(
        """
        import json, resource, sys
        from django_jinja_bccache.exceptions import StoreError, StoreUnavailable
        from django_jinja_bccache.stores.sqlite import SQLiteStore

        store = SQLiteStore(sys.argv[1], deadline=10)
        store.set("key", b"value", None)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        refused = []
        for number in range(20):
            try:
                store.set(f"big-{number}", bytes(100_000), None)
            except StoreError as error:
                refused.append(isinstance(error, StoreUnavailable))
        found = store.get("key")
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        store.set("late", b"2", None)
        print(json.dumps([refused, found.decode(), store.get("late").decode()]))
        """,
        tmp_path / "cache.sqlite3",
    )
    refused, found, late = done.result
    assert len(refused) > 10
    assert not any(refused)
    assert (found, late) == ("value", "2")


# Fills a file, takes rights away, and becomes somebody whom they bind.
READER = """
import json, os, shutil, sys, tempfile
import django_jinja_bccache
from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.sqlite import SQLiteStore

def outcome(operation):
    try:
        return operation()
    except StoreError as error:
        return type(error).__name__

file_mode, directory_mode, change = sys.argv[1:]
directory = tempfile.mkdtemp()
path = os.path.join(directory, "cache.sqlite3")

def fill(value):
    store = SQLiteStore(path, deadline=10)
    store.set("key", value, None)
    store.close()

fill(b"old")
user = 65534 if os.getuid() == 0 else os.getuid()
for each, mode in ((path, file_mode), (directory, directory_mode)):
    os.chown(each, user, -1)
    os.chmod(each, int(mode, 8))
receiver, sender = os.pipe()
go_on, change_done = os.pipe()
if os.fork() == 0:
    if os.getuid() == 0:
        os.setuid(user)
    store = SQLiteStore(path, deadline=10)
    results = [
        outcome(lambda: store.get("key").decode()),
        outcome(lambda: [item.key for item in store.scan("")]),
        outcome(lambda: store.set("other", b"1", None)),
        outcome(lambda: store.delete_many(["key"])),
        outcome(lambda: store.get("key").decode()),
    ]
    os.write(sender, b"x")
    os.read(go_on, 1)
    results.append(outcome(lambda: store.get("key").decode()))
    print(json.dumps(results), flush=True)
    os._exit(0)
os.read(receiver, 1)
if change == "change":
    os.chmod(directory, 0o700)
    os.chmod(path, 0o600)
    fill(b"new")
os.write(change_done, b"x")
os.wait()
shutil.rmtree(directory)
"""


@pytest.mark.parametrize(
    ("file_mode", "directory_mode"), [("400", "700"), ("600", "500"), ("400", "500")]
)
@pytest.mark.parametrize("change", ["no change", "change"])
def test_what_may_only_be_read_is_read(file_mode, directory_mode, change):
    *results, later = run_script(READER, file_mode, directory_mode, change).result
    assert results == ["old", ["key"], "StoreError", "StoreError", "old"]
    assert later == ("new" if change == "change" else "old")


def test_what_may_not_be_read_is_out_of_order():
    results = run_script(READER, "000", "700", "no change").result
    reads, write, others = results[:2], results[2], results[3:]
    assert (reads, write, others) == (
        ["StoreUnavailable"] * 2,
        "StoreError",
        ["StoreUnavailable"] * 3,
    )


@pytest.mark.timeout(30)
def test_a_pipe_that_may_only_be_read_holds_nobody():
    # SQLite opens what it may not write to for reading, and there waits for a writer.
    done = run_script(
        """
        import json, os, shutil, tempfile
        import django_jinja_bccache
        from django_jinja_bccache.exceptions import StoreUnavailable
        from django_jinja_bccache.stores.sqlite import SQLiteStore

        directory = tempfile.mkdtemp()
        path = os.path.join(directory, "cache.sqlite3")
        os.mkfifo(path)
        os.chmod(path, 0o400)
        if os.getuid() == 0:
            os.chown(path, 65534, -1)
            os.chown(directory, 65534, -1)
            os.seteuid(65534)
        try:
            print(json.dumps(SQLiteStore(path).get("key")))
        except StoreUnavailable:
            print(json.dumps("out of order"))
        shutil.rmtree(directory)
        """
    )
    assert done.result == "out of order"
