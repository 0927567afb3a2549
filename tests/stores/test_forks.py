"""Children forked from a process that has used a store, and is using it, use it as well."""

import pytest

from tests.clients import CLIENTS
from tests.scripts import run_script
from tests.stores.opening import PYLIBMC, PYMEMCACHE
from tests.stores.test_diskcache import DISKCACHE

SCRIPT = """
import gc, json, os, random, sys, threading, warnings

import django
import pymemcache
from django.conf import settings

warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads
kind, address = sys.argv[1:3]
settings.configure(SECRET_KEY="x", CACHES={"default": {"BACKEND": kind, "LOCATION": address}})

from django_jinja_bccache.bridge import open_store
from tests.clients import CLIENTS, own_client
from tests.stores.contract import distinct_values, in_threads

if kind in CLIENTS:
    store = own_client(CLIENTS[kind](address))
else:
    store = open_store("default", deadline=10, guard=lambda store, name: store)
values = distinct_values(64)
store.set_many(values, 100)
observer = pymemcache.Client(sys.argv[-1])


def read(_=0):
    for key in random.choices(list(values), k=200):
        found = store.get(key)
        assert found == values[key], (key, found)


def result():
    return [repr(error) for error in in_threads(4, read)]


assert result() == []  # so that several connections lie idle
done = threading.Event()
busy = threading.Thread(target=lambda: [read() for _ in iter(done.is_set, True)])
busy.start()
pipes = []
for _ in range(4):
    receiver, sender = os.pipe()
    if os.fork() == 0:
        os.write(sender, json.dumps(result()).encode()[:4000])
        store = None
        gc.collect()  # what is freed here is not to close the parent's connection
        os._exit(0)
    os.close(sender)
    pipes.append(receiver)
wrong = {"parent meanwhile": result()}
for number, receiver in enumerate(pipes):
    with open(receiver) as pipe:
        wrong[f"child {number}"] = json.loads(pipe.read() or '["ended without a word"]')
    os.wait()
done.set()
busy.join()
before = observer.stats()[b"total_connections"]
wrong["parent afterwards"] = [repr(error) for error in in_threads(1, read)]
print(json.dumps([wrong, observer.stats()[b"total_connections"] - before]))
"""


@pytest.mark.parametrize("kind", [PYMEMCACHE, PYLIBMC, *CLIENTS])
def test_every_process_reads_its_own_keys_values(memcached, kind):
    wrong, _ = run_script(SCRIPT, kind, memcached.address).result
    assert {who: errors for who, errors in wrong.items() if errors} == {}


def test_so_does_every_process_that_shares_a_directory_of_diskcache(memcached, tmp_path):
    wrong, _ = run_script(SCRIPT, DISKCACHE, tmp_path, memcached.address).result
    assert {who: errors for who, errors in wrong.items() if errors} == {}


@pytest.mark.parametrize("kind", [PYMEMCACHE, PYLIBMC])
def test_the_parent_keeps_its_connection(memcached, kind):
    _, new_connections = run_script(SCRIPT, kind, memcached.address).result
    assert new_connections == 0
