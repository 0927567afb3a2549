"""What becomes of a file when its writer is killed, may not write, or the disk is full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.filesystem import FileSystemStore
from tests.scripts import ROOT, run_script
from tests.stores.contract import eventually

HELPERS = """
import json, os, sys
from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.filesystem import FileSystemStore

def outcome(operation):
    try:
        value = operation()
    except StoreError as error:
        return type(error).__name__
    return value.decode() if isinstance(value, bytes) else value
"""
WRITER = """
import itertools, sys
from django_jinja_bccache.stores.filesystem import FileSystemStore

store = FileSystemStore(sys.argv[1])
for number in itertools.count():
    store.set("key", bytes([number % 256]) * 3_000_000, None)
    if number == 0:
        print("ready", flush=True)
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def store(directory: Path) -> FileSystemStore:
    return FileSystemStore(directory)


def test_a_writer_killed_before_it_was_done_leaves_the_old_value(store, directory):
    store.set("key", b"old", None)
    killed = run_script(
        """
        import os, signal, sys
        from django_jinja_bccache.stores.filesystem import FileSystemStore

        os.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        FileSystemStore(sys.argv[1]).set("key", b"new" * 100_000, None)
        """,
        directory,
    )
    assert killed.returncode == -9
    assert store.get("key") == b"old"
    assert [item.key for item in store.scan("")] == ["key"]
    assert store.delete_many(["key"]) == 1
    [orphan] = directory.iterdir()
    os.utime(orphan, (0, 0))
    store.delete_many([])
    assert list(directory.iterdir()) == []


def test_a_reader_sees_whole_values_only_while_another_process_writes(store, directory):
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, directory], cwd=ROOT, stdout=subprocess.PIPE
    ) as writer:
        assert writer.stdout.readline() == b"ready\n"
        seen: set[bytes] = set()

        def read() -> bool:
            value = store.get("key")
            assert value == value[:1] * 3_000_000
            seen.add(value[:1])
            return len(seen) > 30

        assert eventually(read, seconds=60)
        writer.kill()
    assert read()


def test_a_full_disk_is_an_error_of_the_store_and_keeps_what_was_there(directory):
    done = run_script(
        HELPERS
        + """
import resource

store = FileSystemStore(sys.argv[1])
store.set("key", b"old", None)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
print(json.dumps({
    "set": outcome(lambda: store.set("key", b"x" * 200_000, None)),
    "get": outcome(lambda: store.get("key")),
    "set_many": store.set_many({"big": b"x" * 200_000, "small": b"x"}, None),
    "files": len(os.listdir(sys.argv[1])),
}))
""",
        directory,
    )
    assert done.result == {"set": "StoreError", "get": "old", "set_many": ["big"], "files": 2}


def test_a_directory_that_takes_no_file_is_named_and_no_temporary_file():
    with pytest.raises(StoreError, match=r": '/sys'$"):  # in which not even root makes one
        FileSystemStore("/sys").set("key", b"1", None)


def test_a_directory_that_may_not_be_written_is_still_read():
    done = run_script(
        HELPERS
        + """
from tempfile import TemporaryDirectory

if os.geteuid() == 0:  # whom no mode would stop
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
with TemporaryDirectory() as base:
    directory = os.path.join(base, "cache")
    store = FileSystemStore(directory)
    store.set("key", b"old", None)
    os.chmod(directory, 0o500)
    result = {
        "get": outcome(lambda: store.get("key")),
        "listed": [item.key for item in store.scan("")],
        "set": outcome(lambda: store.set("key", b"new", None)),
        "set_many": outcome(lambda: store.set_many({"other": b"1"}, None)),
        "delete_many": outcome(lambda: store.delete_many(["key"])),
        "get afterwards": outcome(lambda: store.get("key")),
    }
    os.chmod(base, 0o000)
    result["get from a locked place"] = outcome(lambda: store.get("key"))
    result["set in a locked place"] = outcome(lambda: store.set("key", b"new", None))
    os.chmod(base, 0o700)
    os.chmod(directory, 0o700)
print(json.dumps(result))
"""
    )
    assert done.result == {
        "get": "old",
        "listed": ["key"],
        "set": "StoreError",
        "set_many": ["other"],
        "delete_many": "StoreError",
        "get afterwards": "old",
        "get from a locked place": "StoreUnavailable",
        "set in a locked place": "StoreError",
    }
