"""A rolling deploy: servers of the old and of the new release run at once on one memcached."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.lifecycle.checkouts import (
    PAGES,
    SOURCES,
    THREADS,
    Checkout,
    CheckoutServer,
    alternate,
    assert_all_show,
    counted,
    pages_of,
)

REQUESTS = 216
"""More than 200, so that each of four visitors sees each page of each release equally often."""


@pytest.fixture
def serve() -> Callable[[Checkout], CheckoutServer]:
    """Starts servers of checkouts."""
    with ExitStack() as running:
        yield lambda checkout: running.enter_context(checkout.server())


@pytest.fixture
def checkouts(memcached, tmp_path: Path) -> tuple[Checkout, Checkout]:
    """The old and the new release, at different places; the old one is warm."""
    old = Checkout(tmp_path / "old", memcached.address, "old", "1")
    new = Checkout(tmp_path / "new", memcached.address, "new", "2")
    old.warm()
    return old, new


def compiled(answers) -> tuple[int, int, int]:
    return tuple(counted(answers, name) for name in ("compiled", "misses", "rejected"))


def test_two_releases_alternate_and_neither_compiles_or_shows_the_other(checkouts, serve):
    old, new = checkouts
    server_of_old = serve(old)
    before = [server_of_old.page(name) for name in PAGES]
    new.warm()  # while the old release is being served
    servers = [server_of_old, serve(new)]
    for answers, text in zip(alternate(servers, REQUESTS), ("old", "new"), strict=True):
        assert len(answers) >= 100
        assert_all_show(answers, text)
        assert compiled(answers) == (0, 0, 0)
    assert_all_show(before, "old")

    # Back to the old release, whose processes are new.
    for server in servers:
        server.stop()
    again = serve(old)
    answers = [again.page(name) for name in PAGES * 2]
    assert_all_show(answers, "old")
    assert compiled(answers) == (0, 0, 0)


def test_clearing_meanwhile_takes_no_page_and_from_the_old_release_nothing(
    checkouts, serve, memcached
):
    old, new = checkouts
    new.show("between")
    new.warm()
    new.show("new")
    new.warm("--force")  # so that the entries of "between" are nobody's
    servers = [serve(old), serve(new)]
    keys = set(memcached.keys())

    cleared = new.manage("clear_bytecode", "--stale", "--noinput")
    assert (cleared.returncode, cleared.stderr) == (0, "")
    assert f"removed {len(SOURCES)} entries" in cleared.stdout
    assert set(memcached.keys()) < keys
    assert len(memcached.keys()) == len(keys) - len(SOURCES)
    for answers, text in zip(alternate(servers, 48), ("old", "new"), strict=True):
        assert_all_show(answers, text)
        assert compiled(answers) == (0, 0, 0)

    cleared = new.manage("clear_bytecode", "--noinput")
    assert (cleared.returncode, cleared.stderr) == (0, "")
    assert memcached.keys() == []
    for answers, text in zip(alternate(servers, 48), ("old", "new"), strict=True):
        assert_all_show(answers, text)
        # Both threads may need the same template at once.
        assert counted(answers, "compiled") <= THREADS * len(SOURCES)
    old.warm()
    visit = old.visit(*PAGES)
    assert (visit.compiled, visit.pages) == ([], pages_of("old"))
