"""Children forked from a process that has used a store, and is using it, use it as well."""

import pytest

from tests.clients import CLIENTS
from tests.scripts import run_script
from tests.stores.opening import PYLIBMC, PYMEMCACHE
from tests.stores.test_diskcache import DISKCACHE

SCRIPT = """
import ctypes, gc, json, os, random, sys, threading, warnings

import django
import pymemcache
from django.conf import settings

warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads
kind, address, says_so = sys.argv[1:4]
# uWSGI forks without a word to Python, which can go well only while no other thread runs.
fork = os.fork if says_so == "yes" else ctypes.PyDLL(None).fork
settings.configure(SECRET_KEY="x", CACHES={"default": {"BACKEND": kind, "LOCATION": address}})

from django_jinja_bccache.bridge import open_store
from tests.clients import CLIENTS, own_client
from tests.stores.readers import distinct_values, in_threads

if kind in CLIENTS:
    store = own_client(CLIENTS[kind](address))
else:
    store = open_store("default", deadline=10, guard=lambda store, name: store)
values = distinct_values(64)
store.set_many(values, 100)
observer = pymemcache.Client(address if kind != "diskcache.DjangoCache" else sys.argv[-1])


def read(_=0):
    for key in random.choices(list(values), k=200):
        found = store.get(key)
        assert found == values[key], (key, found)


def result(threads=4):
    return [repr(error) for error in in_threads(threads, read)]


assert result() == []  # so that several connections lie idle
done = threading.Event()
busy = threading.Thread(target=lambda: [read() for _ in iter(done.is_set, True)])
if says_so == "yes":
    busy.start()
pipes = []
for _ in range(4):
    receiver, sender = os.pipe()
    if fork() == 0:
        os.write(sender, json.dumps(result(4 if says_so == "yes" else 1)).encode()[:4000])
        store = None
        gc.collect()  # what is freed here is not to close the parent's connection
        os._exit(0)
    os.close(sender)
    pipes.append(receiver)
    if says_so == "no":
        os.wait()
wrong = {"parent meanwhile": result()}
for number, receiver in enumerate(pipes):
    with open(receiver) as pipe:
        wrong[f"child {number}"] = json.loads(pipe.read() or '["ended without a word"]')
    if says_so == "yes":
        os.wait()
done.set()
if says_so == "yes":
    busy.join()
before = observer.stats()[b"total_connections"]
wrong["parent afterwards"] = [repr(error) for error in in_threads(1, read)]
print(json.dumps([wrong, observer.stats()[b"total_connections"] - before]))
"""


@pytest.mark.parametrize("says_so", ["yes", "no"])
@pytest.mark.parametrize("kind", [PYMEMCACHE, PYLIBMC, *CLIENTS])
def test_every_process_reads_its_own_keys_values(memcached, kind, says_so):
    wrong, _ = run_script(SCRIPT, kind, memcached.address, says_so).result
    assert {who: errors for who, errors in wrong.items() if errors} == {}


def test_so_does_every_process_that_shares_a_directory_of_diskcache(memcached, tmp_path):
    wrong, _ = run_script(SCRIPT, DISKCACHE, tmp_path, "yes", memcached.address).result
    assert {who: errors for who, errors in wrong.items() if errors} == {}


@pytest.mark.parametrize("kind", [PYMEMCACHE, PYLIBMC])
def test_the_parent_keeps_its_connection(memcached, kind):
    _, new_connections = run_script(SCRIPT, kind, memcached.address, "yes").result
    assert new_connections == 0
