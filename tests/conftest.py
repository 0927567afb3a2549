"""The servers that tests ask for by name.

Every worker of pytest-xdist has its own; a server that is not installed is an error, no skip.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from django.core.cache import caches
from django.test import override_settings

from testproject.caches import memcached_cache
from tests.backends import EVERY_URL, IN_EVERY_RUN, IN_EVERY_RUN_OF, backend  # noqa: F401
from tests.packages import import_package  # noqa: F401
from tests.servers import Memcached, PostgreSQL, Proxy, Redis
from tests.servers.server import Server
from tests.sites import file_site, site  # noqa: F401

FAULTS_IN_EVERY_RUN = {
    None,  # a test of something else
    ("memcached", "black hole"),
    ("pylibmc", "black hole at connect"),
    ("redis", "reset"),
    ("tiers", "refused"),
    ("files", "read-only"),
    ("sqlite", "locked"),
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--every-store",
        action="store_true",
        help="run the tests of a whole site on every store, and not on memcached and files alone",
    )
    parser.addoption(
        "--every-fault",
        action="store_true",
        help="let a server of the site go through every fault of its store, not one for each",
    )
    parser.addoption(
        "--long",
        action="store_true",
        help="let each thread, fork and task that reads a store read 10,000 values",
    )
    parser.addoption(
        "--every-mutation",
        action="store_true",
        help="try all of more than 100,000 mutations of stored values, and not a sample of them",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of a whole site on the other stores, and of a server of the site with the
    other faults of its store, to runs of their own: they are long."""
    if config.getoption("--long"):
        for item in items:
            item.add_marker(pytest.mark.timeout(900))
    left_out = []
    if not config.getoption("--every-store"):
        left_out += [item for item in items if store_of(item) in stores_left_out(item)]
    if not config.getoption("--every-fault"):
        left_out += [item for item in items if fault_of(item) not in FAULTS_IN_EVERY_RUN]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Tell how many mutations of stored values were tried, and what became of them."""
    total: Counter[str] = Counter()
    for report in [
        report for name in ("passed", "failed") for report in terminalreporter.getreports(name)
    ]:
        numbers = dict(report.user_properties).get("mutations", {})
        slowest = max(total["slowest"], numbers.get("slowest", 0.0))
        total.update(numbers)
        total["slowest"] = slowest
    if total["tried"]:
        kinds = ("crash", "hang", "code run", "wrong page", "not counted", "not healed")
        outcomes = ", ".join(f"{total[kind]} {kind}" for kind in kinds)
        terminalreporter.write_line(
            f"{total['tried']:,} mutations of stored values: {outcomes}; "
            f"the slowest took {total['slowest'] * 1000:.0f} ms"
        )


def stores_left_out(item: pytest.Item) -> set[str]:
    """The stores that a test of a whole site runs on with `--every-store` alone."""
    of_directory = IN_EVERY_RUN_OF.get(item.path.parent.name, IN_EVERY_RUN)
    return EVERY_URL.keys() - IN_EVERY_RUN_OF.get(item.path.stem, of_directory)


def store_of(item: pytest.Item) -> str | None:
    """The store that a test of a whole site runs on."""
    return getattr(getattr(item, "callspec", None), "params", {}).get("backend")


def fault_of(item: pytest.Item) -> tuple[str, str] | None:
    """The store and the fault that a test of the site's server is about."""
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    return (parameters["store"], parameters["fault"]) if "fault" in parameters else None


def pytest_xdist_auto_num_workers() -> int | None:
    """As many workers as this process may use processors, but at least two: many tests wait."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return max(2, len(os.sched_getaffinity(0)))


@pytest.fixture(scope="session")
def _memcached() -> Iterator[Memcached]:
    with Memcached() as server:
        yield server


@pytest.fixture
def memcached(_memcached: Memcached) -> Memcached:
    """This worker's memcached, empty."""
    _memcached.start()  # if a test has stopped it
    _memcached.flush()
    return _memcached


@pytest.fixture(scope="session")
def _redis() -> Iterator[Redis]:
    with Redis() as server:
        yield server


@pytest.fixture
def redis(_redis: Redis) -> Redis:
    """This worker's Redis, empty."""
    _redis.start()
    _redis.flush()
    return _redis


@pytest.fixture(scope="session")
def _postgresql() -> Iterator[PostgreSQL]:
    with PostgreSQL() as server:
        yield server


@pytest.fixture
def postgresql(_postgresql: PostgreSQL) -> PostgreSQL:
    """This worker's PostgreSQL, with whatever the worker's earlier tests have left in it."""
    _postgresql.start()
    return _postgresql


def _make(kind: type[Server]) -> Iterator[Callable[..., Server]]:
    with ExitStack() as servers:

        def make(*arguments, **options) -> Server:
            server = kind(*arguments, **options)
            servers.callback(server.close)
            return server

        yield make


@pytest.fixture
def memcached_server() -> Iterator[Callable[..., Memcached]]:
    """Makes memcacheds, not started yet, for tests that start and stop them."""
    yield from _make(Memcached)


@pytest.fixture
def redis_server() -> Iterator[Callable[..., Redis]]:
    """Makes Redis servers, not started yet, for tests that start and stop them."""
    yield from _make(Redis)


@pytest.fixture
def proxy() -> Iterator[Callable[..., Proxy]]:
    """Makes proxies: `proxy(memcached.address, delay=0.001)`."""
    with ExitStack() as proxies:
        yield lambda upstream, **options: proxies.enter_context(Proxy(upstream, **options))


@pytest.fixture
def counted(memcached: Memcached, proxy: Callable[..., Proxy]) -> Iterator[Proxy]:
    """memcached as the default cache, behind a proxy that counts what it is asked."""
    counted = proxy(memcached.address)
    with override_settings(CACHES={"default": memcached_cache([counted.address])}):
        yield counted
        caches.close_all()
