"""Sentinel puts another server in the primary's place, and the store follows."""

from collections.abc import Callable
from contextlib import closing

import pytest
import redis as redis_py
import valkey

from django_jinja_bccache.bridge.redis import client_store
from django_jinja_bccache.exceptions import StoreError
from tests.servers import Redis
from tests.servers.sentinel import SERVICE, Sentinel
from tests.stores.contract import eventually, outcome
from tests.stores.opening import DJANGO_REDIS, DJANGO_VALKEY, opened


@pytest.fixture
def watched():
    """A Sentinel that soon misses the primary, which is its own test's alone."""
    with (
        Redis() as primary,
        Redis(replica_of=primary) as replica,
        Sentinel(primary, replicas=[replica], down_after=0.3) as sentinel,
    ):
        yield sentinel


@pytest.fixture(params=["redis-py", "valkey-py", "django-redis", "django-valkey"])
def store(request, watched):
    """A store over what Sentinel knows as its service."""
    place = (watched.host, watched.port)
    family = request.param.replace("-", "_")
    if request.param.startswith("django"):
        options = {
            "CLIENT_CLASS": f"{family}.client.SentinelClient",
            "CONNECTION_FACTORY": f"{family}.pool.SentinelConnectionFactory",
            "SENTINELS": [place],
        }
        backend = {"django_redis": DJANGO_REDIS, "django_valkey": DJANGO_VALKEY}[family]
        # The port keeps the global pools of other tests' servers apart.
        location = f"redis://{SERVICE}:{watched.port}/0"
        with opened(backend, LOCATION=location, OPTIONS=options, deadline=1) as store:
            yield store
    else:
        library = {"redis_py": redis_py, "valkey_py": valkey}[family]
        client = library.sentinel.Sentinel([place]).master_for(SERVICE)
        with closing(client), closing(client_store(client, deadline=1)) as store:
            yield store


def stores(store) -> bool:
    return outcome(lambda: store.set("key", b"1", 100)) is None


def test_after_the_primary_has_died_its_successor_is_used(store, watched):
    [replica] = watched.replicas
    store.set("key", b"0", 100)
    watched.primary.kill()
    with pytest.raises(StoreError):
        store.set("key", b"1", 100)
    assert eventually(lambda: stores(store), 20)
    assert watched.primary_address == replica.address
    # For a moment Sentinel may know of nobody to read from.
    assert eventually(lambda: outcome(lambda: store.get("key")) == b"1", 20)
    assert replica.keys()


def test_after_a_planned_change_no_operation_fails_nor_reaches_the_old_one(store, watched):
    [replica] = watched.replicas
    store.set("key", b"0", 100)
    with closing(redis_py.Redis(watched.host, watched.port)) as client:
        # At first it knows too little of the replica to promote it.
        assert eventually(lambda: _is_done(lambda: client.sentinel_failover(SERVICE)), 20)
    assert eventually(lambda: watched.primary_address == replica.address, 20)
    with watched.primary.client() as old:
        old.replicaof(replica.host, replica.port)  # Sentinel would do it after ten seconds
    store.set("other", b"1", 100)
    assert [key for key in replica.keys() if key.endswith("other")]  # noqa: SIM118
    assert eventually(lambda: store.get("other") == b"1")


def _is_done(operation: Callable[[], object]) -> bool:
    try:
        operation()
    except redis_py.ResponseError as error:
        return "INPROG" in str(error)
    return True
