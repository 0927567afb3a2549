"""One SQLite file in several processes at once, forked or not."""

import threading
from contextlib import closing

import pytest

from django_jinja_bccache.exceptions import StoreUnavailable
from django_jinja_bccache.stores import sqlite_connection
from django_jinja_bccache.stores.sqlite import SQLiteStore
from tests.scripts import run_script

BEGIN = """
import json, os, random, sqlite3, sys, threading, time, warnings
from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.stores.sqlite import SQLiteStore
from tests.stores.readers import distinct_values, in_threads

warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads
path = sys.argv[1]
store = SQLiteStore(path, deadline=10)


def fork(run):
    '''Run something in a child; return a function that waits for what it returns.'''
    receiver, sender = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            result = run()
        except BaseException as error:
            result = repr(error)
        os.write(sender, json.dumps(result).encode()[:4000])
        os._exit(0)
    os.close(sender)

    def wait():
        with open(receiver) as pipe:
            result = json.loads(pipe.read() or '"ended without a word"')
        os.waitpid(pid, 0)
        return result

    return wait

"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache.sqlite3"


def test_children_forked_in_the_midst_read_their_own_keys_values_and_lose_nothing(path):
    script = """
values = distinct_values(64)
store.set_many(values, None)
done = threading.Event()
wrong = []


def read(_=0):
    for key in random.choices(list(values), k=200):
        if store.get(key) != values[key]:
            wrong.append(key)


def child(number):
    def run():
        errors = [repr(error) for error in in_threads(4, read)]
        for each in range(20):
            store.set(f"child-{number}-{each}", b"x", None)
        return [errors, wrong]

    return run


def busy():
    while not done.is_set():
        read()
        store.set("parent", b"x", None)


threads = [threading.Thread(target=busy) for _ in range(3)]
for thread in threads:
    thread.start()
children = [fork(child(number)) for number in range(4)]
results = [wait() for wait in children]
done.set()
for thread in threads:
    thread.join()
store.close()
check = sqlite3.connect(path).execute("PRAGMA integrity_check").fetchall()
print(json.dumps([results, wrong, len(list(store.scan("child-"))), check]))
"""
    results, wrong, kept, check = run_script(BEGIN + script, path).result
    assert results == [[[], []]] * 4
    assert wrong == []
    assert kept == 80
    assert check == [["ok"]]


def test_what_a_child_stores_stays_when_its_parent_closes_the_file(path):
    # SQLite gives the child of a process that has the file open no locks of its own.
    script = """
store.set("parent", b"x", None)
told, tell = os.pipe()


def run():
    store.set("before", b"x", None)
    os.write(begun, b"x")
    os.read(told, 1)
    store.set("afterwards", b"x", None)


begin, begun = os.pipe()
wait = fork(run)
os.read(begin, 1)
store.close()
os.write(tell, b"x")
assert wait() is None
print(json.dumps(sorted(item.key for item in store.scan(""))))
"""
    assert run_script(BEGIN + script, path).result == ["afterwards", "before", "parent"]


def test_a_child_leaves_a_file_alone_that_was_in_use_at_the_fork(path):
    # A fork waits a second for the operations under way; this one takes longer.
    script = """
store.set("key", b"x", None)
other = sqlite3.connect(path, isolation_level=None)
other.execute("BEGIN IMMEDIATE")
writer = threading.Thread(target=lambda: store.set("late", b"x", None))
writer.start()
time.sleep(0.2)


def run():
    try:
        return repr(store.get("key"))
    except StoreError as error:
        return str(error)


child = fork(run)()
other.execute("ROLLBACK")
writer.join()
print(json.dumps([child, sorted(item.key for item in store.scan(""))]))
"""
    child, kept = run_script(BEGIN + script, path).result
    assert "in use when this process was forked" in child
    assert kept == ["key", "late"]


def test_a_child_whose_fork_python_knows_nothing_of_leaves_an_open_file_alone(path):
    # So forks uWSGI, unless it is told otherwise.
    script = """
import ctypes
store.set("key", b"x", None)
receiver, sender = os.pipe()
if ctypes.PyDLL(None).fork() == 0:
    try:
        result = repr(store.get("key"))
    except StoreError as error:
        result = str(error)
    os.write(sender, result.encode())
    os._exit(0)
child = os.read(receiver, 1000).decode()
os.wait()
print(json.dumps([child, store.get("key").decode()]))
"""
    child, parent = run_script(BEGIN + script, path).result
    assert "in use when this process was forked" in child
    assert parent == "x"


def test_nor_does_it_close_its_parents_connection(path):
    script = """
import ctypes, gc


def open_files():
    return sum(os.readlink(f"/dev/fd/{fd}").startswith(path) for fd in os.listdir("/dev/fd")[:-1])


store.set("key", b"x", None)
before = open_files()
if ctypes.PyDLL(None).fork() == 0:
    store = None
    gc.collect()
    os._exit(open_files())
_, status = os.wait()
print(json.dumps([before, os.waitstatus_to_exitcode(status), store.get("key").decode()]))
"""
    before, in_child, value = run_script(BEGIN + script, path).result
    assert in_child == before > 0
    assert value == "x"


def test_a_fork_waits_for_a_connection_in_the_making_but_not_for_ever(path):
    # Such as one to a file on a file system that hangs.
    script = """
from django_jinja_bccache.stores import sqlite_connection
store.set("key", b"x", None)
with sqlite_connection._forks._lock:
    child = fork(lambda: 1)()
print(json.dumps([child, store.get("key").decode()]))
"""
    assert run_script(BEGIN + script, path).result == [1, "x"]


def test_two_threads_that_fork_at_once_leave_the_store_in_order(path):
    before = """
import os, threading, time

under_way = threading.Event()


def take_long():
    if threading.current_thread() is not threading.main_thread():
        under_way.set()
        time.sleep(2)  # twice as long as a fork waits for another one


os.register_at_fork(before=take_long)  # what is registered first is called last
"""
    script = """
store.set("key", b"x", None)
results = []
other = threading.Thread(target=lambda: results.append(fork(lambda: store.get("key").decode())()))
other.start()
under_way.wait()
results.append(fork(lambda: store.get("key").decode())())
other.join()
print(json.dumps([*results, store.get("key").decode()]))
"""
    assert run_script(before + BEGIN + script, path).result == ["x"] * 3


def test_more_forks_than_one_are_waited_for(path, monkeypatch):
    with closing(SQLiteStore(path, deadline=10)) as store:
        store.set("key", b"x", None)
        forking = sqlite_connection._forks._forking
        monkeypatch.setitem(forking, 0, False)
        over = threading.Timer(0.2, forking.clear)
        over.start()
        assert store.get("key") == b"x"
        over.join()


def test_while_the_process_forks_it_is_out_of_order_at_the_deadline(path, monkeypatch):
    with closing(SQLiteStore(path, deadline=0.2)) as store:
        store.set("key", b"x", None)
        with monkeypatch.context() as patch:
            patch.setitem(sqlite_connection._forks._forking, 0, False)
            with pytest.raises(StoreUnavailable):
                store.get("key")
        assert store.get("key") == b"x"


def test_a_fork_is_not_held_up_by_a_store_at_rest(path):
    script = """
store.set("key", b"x", None)
began = time.monotonic()
children = [fork(lambda: store.get("key").decode()) for _ in range(10)]
took = time.monotonic() - began
print(json.dumps([[wait() for wait in children], took]))
"""
    results, took = run_script(BEGIN + script, path).result
    assert results == ["x"] * 10
    assert took < 5


def test_processes_that_make_the_file_at_the_same_time_lose_nothing(path):
    script = """
start = time.monotonic() + 0.5


def child(number):
    def run():
        found = []
        for attempt in range(10):
            store = SQLiteStore(f"{path}-{attempt}", deadline=10)
            while time.monotonic() < start + attempt / 5:
                pass
            store.set(str(number), str(number).encode(), None)
            found.append(store.get(str(number)).decode())
            store.close()
        return found

    return run


children = [fork(child(number)) for number in range(8)]
print(json.dumps([wait() for wait in children]))
"""
    assert run_script(BEGIN + script, path).result == [[str(number)] * 10 for number in range(8)]
    names = [f"{path.name}-{attempt}" for attempt in range(10)]
    for name in names:
        with closing(SQLiteStore(path.with_name(name), deadline=10)) as store:
            assert sorted(item.key for item in store.scan("")) == [*"01234567"]
    # Of two that closed it at the same moment, neither may have been the last, which removes
    # SQLite's own files. This process was.
    assert sorted(item.name for item in path.parent.iterdir()) == names


def test_a_process_that_is_killed_while_it_writes_spoils_nothing(path):
    script = """
store.set("key", b"x", None)
pid = os.fork()
if pid == 0:
    while True:
        store.set_many({str(number): os.urandom(5000) for number in range(100)}, None)
time.sleep(0.5)
os.kill(pid, 9)
os.wait()
print(json.dumps(store.get("key").decode()))
"""
    assert run_script(BEGIN + script, path).result == "x"
    with closing(SQLiteStore(path, deadline=10)) as store:
        store.set("other", b"y", None)
        assert store.get_many(["key", "other"]) == {"key": b"x", "other": b"y"}
