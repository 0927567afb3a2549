"""What only the tests of stores need."""

import logging
from collections.abc import Callable, Iterator

import pytest

from django_jinja_bccache.stores.guard import GuardedStore
from tests.servers import Memcached, Redis
from tests.servers.sentinel import Sentinel
from tests.stores.patient import COOLDOWN, DEADLINE, Clock, Patient


@pytest.fixture(scope="session")
def _three_servers() -> Iterator[list[Memcached]]:
    with Memcached() as one, Memcached() as two, Memcached() as three:
        yield [one, two, three]


@pytest.fixture
def three_servers(_three_servers: list[Memcached]) -> list[Memcached]:
    """Three memcacheds, empty."""
    for server in _three_servers:
        server.start()  # if a test has stopped it
        server.flush()
    return _three_servers


@pytest.fixture(scope="session")
def _sentinel() -> Iterator[Sentinel]:
    with (
        Redis() as primary,
        Redis(replica_of=primary) as replica,
        Sentinel(primary, replicas=[replica]) as sentinel,
    ):
        yield sentinel


@pytest.fixture
def sentinel(_sentinel: Sentinel) -> Sentinel:
    """A Sentinel that watches a primary and its replica, both empty."""
    _sentinel.primary.flush()
    return _sentinel


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def patient() -> Patient:
    return Patient()


@pytest.fixture
def guarded(patient, clock) -> GuardedStore:
    return GuardedStore(patient, name="'x'", deadline=DEADLINE, cooldown=COOLDOWN, clock=clock)


@pytest.fixture
def said(caplog) -> Callable[[], list[str]]:
    """What was logged since the last call: the level and the beginning of each message."""
    caplog.set_level(logging.DEBUG, "django_jinja_bccache")

    def say() -> list[str]:
        messages = [f"{item.levelname}: {item.getMessage()}" for item in caplog.records]
        caplog.clear()
        return messages

    return say
