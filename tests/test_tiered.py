"""A bytecode cache of one host's own in front of one that the fleet shares."""

import time
from pathlib import Path

import pytest
from jinja2 import DictLoader, Environment

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    SQLiteBytecodeCache,
    TieredBytecodeCache,
)
from django_jinja_bccache.clearing import clear, clear_stale
from django_jinja_bccache.exceptions import StoreError
from django_jinja_bccache.warming import check, warm
from tests.sites import cached_engine
from tests.test_warming import outcomes

SOURCES = {"a.html": "{{ a }}", "b.html": "{% include 'a.html' %}"}
PATH = "django_jinja_bccache.TieredBytecodeCache"
FILES = {"class": "django_jinja_bccache.FileSystemBytecodeCache", "directory": "/nonexistent"}


@pytest.fixture
def host(counted, tmp_path):
    """Makes the cache of a host: `host("one")`."""

    def make(name: str = "one", *, local=(), shared=(), **options) -> TieredBytecodeCache:
        return TieredBytecodeCache(
            FileSystemBytecodeCache(tmp_path / name, **dict(local)),
            DjangoBytecodeCache(deadline=10, **dict(shared)),
            **options,
        )

    return make


def files(cache: TieredBytecodeCache) -> dict[str, bytes]:
    """What lies in the local tier, by its name."""
    directory = Path(cache.local.directory)
    return {path.name: path.read_bytes() for path in directory.glob("*")}


def used(cache, **options) -> tuple[int, int]:
    """Hits and misses of a new process that loads each template."""
    before = cache.statistics
    environment = Environment(loader=DictLoader(SOURCES), bytecode_cache=cache, **options)
    for name in SOURCES:
        environment.get_template(name)
    return cache.statistics.hits - before.hits, cache.statistics.misses - before.misses


def engine(cache):
    return cached_engine(DictLoader(dict(SOURCES)), bytecode_cache=cache)


class TestLoading:
    def test_a_new_host_compiles_nothing_and_then_asks_nobody(self, host, counted):
        warm(engine(host("one")))
        for process in range(2):
            counted.reset_counts()
            made = engine(host("two"))
            assert made.environment.get_template("b.html").render(a="x") == "x"
            assert (counted.bytes_up == 0) == bool(process)
            assert made.cache.statistics.misses == 0

    def test_local_hits_ask_nobody_during_a_rotation_of_keys_either(self, host, counted):
        used(host(key="old", packs=False))
        rotating = host(key=["new", "old"], packs=False)
        counted.reset_counts()
        environment = Environment(loader=DictLoader(SOURCES), bytecode_cache=rotating)
        environment.get_template("b.html").render()
        assert counted.bytes_up == 0
        assert rotating.statistics.hits == 2

    def test_a_copy_is_the_very_value(self, host):
        one, two = host("one"), host("two")
        used(one)
        used(two)
        assert files(one) == files(two)
        assert len(files(one)) == 2

    def test_a_damaged_local_entry_is_compiled_and_mended(self, host):
        used(host())
        for name, content in files(host()).items():
            Path(host().local.directory, name).write_bytes(content[:-1])
        assert used(host()) == (0, 2)
        assert used(host()) == (2, 0)


class TestWhatIsWhose:
    def test_each_tier_alone_finds_what_was_stored_through_both(self, host):
        both = host(local={"prefix": "here:"}, shared={"prefix": "there:"})
        used(both)
        assert used(both.local) == (2, 0)
        assert used(both.shared) == (2, 0)

    @pytest.mark.parametrize("tier", ["local", "shared"])
    def test_both_find_what_was_stored_in_one_tier_alone(self, host, tier):
        both = host(local={"prefix": "here:"}, shared={"prefix": "there:"})
        used(getattr(both, tier))
        assert used(both) == (2, 0)

    @pytest.mark.parametrize("option", [{"prefix": "x"}, {"key": "x"}, {"salt": "x"}], ids=str)
    def test_an_option_of_the_tiered_cache_holds_in_both(self, host, option):
        used(host())
        other = host(**option)
        assert used(other) == (0, 2)
        assert used(host(**option)) == (2, 0)
        assert len(files(other)) == 4

    def test_each_tier_keeps_its_own_timeout_unless_that_of_both_is_less(self, host):
        def lives(**options) -> list[float]:
            cache = host(**options)
            used(cache)
            stores = [each.storage.opener.store() for each in (cache.local, cache.shared)]
            listed = [next(store.scan("")) for store in stores]
            cache.clear()
            return [item.expires_at and item.expires_at - time.time() for item in listed]

        month = 30 * 24 * 60 * 60
        assert lives() == [None, pytest.approx(month, abs=20)]
        assert lives(local={"timeout": 100}) == pytest.approx([100, month], abs=20)
        assert lives(timeout=100) == pytest.approx([100, 100], abs=20)
        assert lives(timeout=1000, shared={"timeout": 100}) == pytest.approx([1000, 100], abs=20)

    def test_a_copy_is_kept_no_longer_than_the_tiered_cache_says(self, host):
        used(host("one"))
        copying = host("two", timeout=100)
        used(copying)
        for item in copying.local.storage.opener.store().scan(""):
            assert item.expires_at == pytest.approx(time.time() + 100, abs=20)

    def test_the_shortest_timeout_of_all_decides_when_a_warm_up_stores_again(
        self, host, monkeypatch
    ):
        def soon() -> float:
            return now() + 60

        now = time.time
        warm(engine(host()))
        monkeypatch.setattr("django_jinja_bccache.warming.time.time", soon)
        assert outcomes(warm(engine(host(timeout=200)))).keys() == {"present"}
        for options in (
            {"timeout": 100},
            {"local": {"timeout": 100}},
            {"shared": {"timeout": 100}},
        ):
            report = warm(engine(host(**options)), dry_run=True)
            assert outcomes(report).keys() == {"refreshed"}

    def test_a_tier_for_reading_gets_nothing_from_pages(self, host):
        reader = host("one", shared={"read_only": True})
        used(reader)
        assert len(files(reader)) == 2
        assert used(host("two")) == (0, 2)

    def test_a_cache_for_reading_writes_to_neither(self, host):
        reader = host("one", read_only=True)
        used(reader)
        assert files(reader) == {}
        assert used(host("two")) == (0, 2)

    def test_where_pages_store_nothing_they_copy_nothing_either(self, host, monkeypatch):
        used(host("one"))
        reader = host("two", read_only=True)
        assert used(reader) == (2, 0)
        assert files(reader) == {}
        monkeypatch.setenv("DJANGO_JINJA_BCCACHE", "read-only")
        reader = host("three")
        assert used(reader) == (2, 0)
        assert files(reader) == {}


class TestCommands:
    @pytest.mark.parametrize("tier", ["local", "shared"])
    def test_a_warm_up_fills_a_tier_for_reading_as_well(self, host, tier):
        reader = host(**{tier: {"read_only": True}})
        assert warm(engine(reader)).packs == 1
        again = warm(engine(reader))
        assert (outcomes(again), again.packs) == ({"present": ["a.html", "b.html"]}, 0)

    def test_a_warm_up_fills_both(self, host, memcached):
        report = warm(engine(host()))
        assert outcomes(report) == {"compiled": ["a.html", "b.html"]}
        # With a pack, its index and a note.
        assert (len(files(host())), len(memcached.keys())) == (5, 5)
        assert outcomes(check(engine(host()))) == {"present": ["a.html", "b.html"]}

    @pytest.mark.parametrize("lacking", ["local", "shared"])
    def test_what_one_of_them_lacks_is_copied_and_not_compiled(self, host, lacking):
        warm(engine(host()))
        getattr(host(), lacking).clear()
        assert outcomes(warm(engine(host()), dry_run=True)) == {"copied": ["a.html", "b.html"]}
        report = warm(engine(host()))
        assert outcomes(report) == {"copied": ["a.html", "b.html"]}
        assert report.ok
        assert outcomes(check(engine(host()))) == {"present": ["a.html", "b.html"]}

    @pytest.mark.parametrize("lacking", ["local", "shared"])
    def test_a_check_misses_what_one_of_them_lacks_and_changes_nothing(self, host, lacking):
        warm(engine(host()))
        getattr(host(), lacking).clear()
        for _ in range(2):
            report = check(engine(host()))
            assert outcomes(report) == {"missing": ["a.html", "b.html"]}
            assert not report.ok

    def test_a_damaged_entry_in_one_of_them_is_mended_from_the_other(self, host, memcached):
        warm(engine(host()))
        for key in list(memcached.keys()):
            memcached.set_raw(key, b"rubbish")
        assert not check(engine(host())).ok
        assert outcomes(warm(engine(host()))) == {"copied": ["a.html", "b.html"]}
        assert check(engine(host())).ok

    def test_what_was_refreshed_is_refreshed_in_both(self, host):
        warm(engine(host(key="old")))
        report = warm(engine(host(key=["new", "old"])))
        assert outcomes(report) == {"refreshed": ["a.html", "b.html"]}
        renewed = host(key="new")
        assert used(renewed) == (2, 0)
        renewed.local.clear()
        assert used(host("two", key="new")) == (2, 0)

    def test_what_one_of_them_holds_under_an_old_key_only_is_refreshed(self, host):
        warm(engine(host(key="old")))
        used(FileSystemBytecodeCache(host().local.directory, key="new"))
        report = warm(engine(host(key=["new", "old"])))
        assert outcomes(report) == {"refreshed": ["a.html", "b.html"]}

    def test_clearing_empties_both_and_nothing_else(self, host, memcached):
        memcached.set_raw("foreign", b"1")
        warm(engine(host()))
        Path(host().local.directory, "foreign").touch()
        used(host().local, trim_blocks=True)
        report = clear(engine(host()))
        assert (report.entries, report.listed) == (4, True)
        assert files(host()) == {"foreign": b""}
        assert memcached.keys() == ["foreign"]

    def test_clear_and_clear_stale_of_the_cache_itself(self, host, memcached):
        used(host(), trim_blocks=True)
        warm(engine(host()))
        assert clear_stale(engine(host())).entries == 2
        # With a pack, its index and a note.
        assert (len(files(host())), len(memcached.keys())) == (5, 5)
        host().clear()
        assert (files(host()), memcached.keys()) == ({}, [])

    def test_entries_are_listed_once_wherever_they_are(self, host):
        cache = host()
        used(cache)
        cache.local.clear()
        cache.get_bucket(Environment(), "local.html", None, "only here")
        cache.shared.clear()
        used(host("two"))
        listed = [entry.template for entry in cache.entries()]
        assert sorted(listed) == ["a.html", "b.html", "local.html"]

    def test_a_command_says_when_one_of_them_is_out_of_order(self, host, counted):
        counted.mode = "refuse"
        with pytest.raises(StoreError, match="refused"):
            warm(engine(host()))
        with pytest.raises(StoreError, match="refused"):
            check(engine(host()))

    def test_a_warm_up_says_why_one_of_them_does_not_store_a_template(self, host):
        warm(engine(host()))
        for name in files(host()):
            path = Path(host().local.directory, name)
            path.unlink()
            path.mkdir()
        report = warm(engine(host()))
        assert [problem.template for problem in report.failed] == ["a.html", "b.html"]
        assert "directory" in report.failed[0].message
        assert not report.ok

    def test_statistics_tell_how_full_the_shared_one_is(self, host, memcached):
        used(host())
        assert host().statistics.max_size == int(memcached.stats()["limit_maxbytes"])
        assert host().local.statistics.size > 0


def test_two_files_may_be_the_tiers_outside_django_too(tmp_path):
    def make(name: str) -> TieredBytecodeCache:
        return TieredBytecodeCache(
            SQLiteBytecodeCache(tmp_path / name),
            SQLiteBytecodeCache(tmp_path / "shared"),
            key="secret",
        )

    assert used(make("one")) == (0, 2)
    assert used(make("two")) == (2, 0)
