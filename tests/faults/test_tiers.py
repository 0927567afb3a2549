"""While a tier is ill the other one serves, and one line of the log says so."""

import shutil
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command

from testproject.pages import PAGES
from tests.faults.watching import COOLDOWN, DEADLINE
from tests.sites import Project

PATIENCE = {"cooldown": COOLDOWN, "deadline": DEADLINE}


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "local"


@pytest.fixture
def shared(memcached, proxy):
    """What stands between the site and its shared cache."""
    return proxy(memcached.address)


@pytest.fixture
def start(site, directory, shared):
    """Starts the site with files, or what it is told, in front of memcached."""

    def start(**local):
        files = {
            "class": "django_jinja_bccache.FileSystemBytecodeCache",
            "directory": directory,
        }
        return site(
            f"memcached://{shared.address}",
            **{
                "class": "django_jinja_bccache.TieredBytecodeCache",
                "local": {**(local or files), **PATIENCE},
                "shared": {"alias": "default", **PATIENCE},
            },
        )

    return start


MODES = ["refuse", "reset", "black_hole", "trickle", "cut"]


class TestShared:
    @pytest.mark.parametrize("mode", MODES)
    def test_ill_from_the_start_it_costs_one_deadline_and_local_serves(
        self, start, shared, expected, mode
    ):
        shared.mode = mode
        watch = start()
        began = time.monotonic()
        assert watch.pages() == expected
        assert time.monotonic() - began < 30
        hits, misses, stores, errors = watch.counts()
        assert (hits, stores, errors) == (0, misses, 1)
        assert watch.news() == ["WARNING"]
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)

        shared.mode = "pass"
        shutil.rmtree(watch.cache.local.directory)
        watch.wait_for_the_next_try()
        assert watch.pages() == expected
        hits, compiled, stores, errors = watch.counts()
        # What the server was sent it may have stored, although its answer came too late.
        assert (hits + compiled, stores, errors) == (misses, compiled, 0)
        assert watch.news() == ["INFO"]

    @pytest.mark.parametrize("mode", MODES)
    def test_nobody_notices_an_illness_while_local_has_everything(
        self, start, shared, expected, mode
    ):
        watch = start()
        assert watch.pages() == expected
        _, misses, _, _ = watch.counts()
        call_command("warm_bytecode", verbosity=0)  # which publishes packs, there as well
        shared.mode = mode
        for _ in range(2):
            assert watch.pages() == expected
            assert watch.counts() == (misses, 0, 0, 0)
            watch.wait_for_the_next_try()
        assert watch.news() == []


class TestLocal:
    def test_removed_in_between_it_is_filled_from_shared(self, start, shared, directory, expected):
        watch = start()
        assert watch.pages() == expected
        _, misses, _, _ = watch.counts()
        shutil.rmtree(directory)
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        shared.mode = "refuse"
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert watch.news() == []

    def test_out_of_reach_it_leaves_the_work_to_shared(self, start, directory, expected):
        directory.write_text("a file where the directory should be")
        watch = start()
        assert watch.pages() == expected
        hits, misses, stores, errors = watch.counts()
        assert (hits, stores, errors) == (0, misses, 1)
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert watch.news() == ["WARNING"]

        directory.unlink()
        watch.wait_for_the_next_try()
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert len(list(directory.iterdir())) == misses
        assert watch.news() == ["INFO"]

    def test_refusing_to_store_it_leaves_the_work_to_shared(self, start, tmp_path, expected):
        path = tmp_path / "local.sqlite3"
        watch = start(
            **{"class": "django_jinja_bccache.SQLiteBytecodeCache", "database_path": path}
        )
        watch.cache.local.storage.opener.store().set("its own", b"1", None)
        writer = sqlite3.connect(path, isolation_level=None)
        writer.execute("BEGIN IMMEDIATE")
        assert watch.pages() == expected
        hits, misses, stores, errors = watch.counts()
        assert (hits, stores, errors) == (0, misses, 1)
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert watch.news() == ["WARNING"]

        writer.execute("ROLLBACK")
        writer.close()
        watch.wait_for_the_next_try()
        assert watch.pages() == expected
        assert watch.counts() == (misses, 0, 0, 0)
        assert watch.news() == ["INFO"]


def test_with_both_ill_pages_are_compiled_and_each_is_reported_once(
    start, shared, directory, expected
):
    directory.write_text("a file where the directory should be")
    shared.mode = "refuse"
    watch = start()
    for _ in range(2):
        assert watch.pages() == expected
        hits, misses, stores, _ = watch.counts()
        assert (hits, stores) == (0, 0)
        assert misses > 20
    assert watch.news() == ["WARNING"] * 2

    directory.unlink()
    shared.mode = "pass"
    watch.wait_for_the_next_try()
    assert watch.pages() == expected
    assert watch.counts() == (0, misses, misses, 0)
    assert watch.news() == ["INFO"] * 2


def test_processes_that_fill_local_at_the_same_time_compile_nothing_and_serve_the_same(
    memcached, directory
):
    def project(place) -> Project:
        url = f"file://{place}|memcached://{memcached.address}"
        return Project("testproject.settings", {"BYTECODE_CACHE": url})

    assert project(directory.parent / "elsewhere").manage("warm_bytecode").returncode == 0
    with ThreadPoolExecutor() as pool:
        first, second = pool.map(lambda _: project(directory).visit(*PAGES), range(2))
    assert (first.compiled, second.compiled, first.log, second.log) == ([], [], "", "")
    assert first.pages == second.pages

    memcached.flush()
    third = project(directory).visit(*PAGES)
    assert third.compiled == []
    assert third.pages == first.pages
