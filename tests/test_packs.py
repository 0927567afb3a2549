"""Packs: many templates in one round trip, and what becomes of a page when one is not right."""

import json
import sys
import threading
import time

import pytest
from django.conf import settings
from django.core.cache import caches
from django.test import override_settings
from jinja2 import DictLoader

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    TieredBytecodeCache,
    pack_reader,
)
from django_jinja_bccache.discovery import read_source
from django_jinja_bccache.pack_reader import PackReader
from django_jinja_bccache.publishing import Publishable, in_order
from django_jinja_bccache.warming import warm
from testproject.benchmarks import synthetic
from testproject.caches import caches_from
from tests.raw import raw_store
from tests.scripts import run_script
from tests.sites import cached_engine
from tests.stores.contract import eventually

SOURCES = dict(synthetic.templates(60))
NAMES = list(SOURCES)
# About 600 KB of bytecode; Python 3.10 makes less of a template.
PACKS = 5 if sys.version_info >= (3, 11) else 3


def engine(sources=SOURCES, **options):
    cache = options.pop("cache", None) or DjangoBytecodeCache(**options)
    return cached_engine(DictLoader(dict(sources)), bytecode_cache=cache, autoescape=True)


def visit(names=NAMES, sources=SOURCES, **options):
    """Load templates as a new process would; return its engine."""
    made = engine(sources, **options)
    made.environment.cache.capacity = 1_000
    for name in names:
        made.environment.get_template(name)
    return made


@pytest.fixture
def raw(backend, request):
    return raw_store(backend, request)


def pack_keys(raw) -> list[str]:
    """The stored keys of all packs, by their numbers."""
    keys = [key for key in list(raw.keys()) if "pack." in key and "index" not in key]
    return sorted(keys, key=lambda key: int(key.rpartition(".")[2]))


def origins(names=NAMES, **options) -> dict[str, str]:
    """Where a new process finds each template; the reason of a miss where it does not."""
    found = {}
    made = engine(**options)
    made.cache.listeners.append(
        lambda event: (
            found.update({event.template: event.origin or event.reason})
            if event.kind in {"hit", "miss"}
            else None
        )
    )
    made.environment.cache.capacity = 1_000
    for name in names:
        made.environment.get_template(name)
    return found


class TestRoundTrips:
    def test_a_small_site_arrives_whole_in_one(self, counted):
        warm(engine())
        counted.reset_counts()
        statistics = visit().cache.statistics
        # One more is the question for the size of the store.
        assert (counted.round_trips, statistics.hits, statistics.misses) == (2, 60, 0)

    def test_a_large_one_takes_at_most_three_for_the_first_page_and_one_for_each_later_one(
        self, counted, monkeypatch
    ):
        monkeypatch.setattr("django_jinja_bccache.publishing.PACK_SIZE", 10_000)
        monkeypatch.setattr(pack_reader, "_FIRST", 4)
        assert warm(engine()).packs > 40
        made = engine()
        pages = [name for name in NAMES if "extends" in SOURCES[name]][::7]
        assert len(pages) > 4
        for number, page in enumerate(pages):
            counted.reset_counts()
            made.environment.get_template(page).render()
            assert counted.round_trips <= (1 if number else 3)
        assert made.cache.statistics.hits > 15
        assert made.cache.statistics.misses == 0

    def test_threads_that_begin_together_fetch_once(self, counted):
        warm(engine())
        counted.reset_counts()
        made, barrier = engine(deadline=20), threading.Barrier(8)

        def load(number: int) -> None:
            barrier.wait(10)
            for name in NAMES[number::8]:
                made.environment.get_template(name)

        threads = [threading.Thread(target=load, args=[number]) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counted.round_trips == 1
        assert made.cache.statistics.hits == 60

    def test_without_packs_every_template_is_one_and_nothing_else_is_asked_for(self, counted):
        warm(engine(packs=False))
        counted.reset_counts()
        visit(packs=False)
        assert counted.round_trips == 60

    def test_where_none_are_published_they_are_asked_for_once_in_a_cooldown(self, counted):
        warm(engine(packs=False))
        counted.reset_counts()
        visit()
        # One more asks what the site was warmed with last.
        assert counted.round_trips == 62


class TestWhatIsNotRight:
    def test_a_lost_pack_costs_its_own_names_a_question_each_and_no_compile(self, backend, raw):
        warm(engine())
        before = origins()
        assert set(before.values()) == {"pack"}
        raw.plant(pack_keys(raw)[1], b"")
        found = origins()
        assert 3 < list(found.values()).count("store") < 2 * len(NAMES) / PACKS
        assert set(found.values()) == {"pack", "store"}

    def test_where_the_entries_are_gone_the_packs_are_enough(self, backend, raw, monkeypatch):
        monkeypatch.setattr("django_jinja_bccache.publishing.PACK_SIZE", 10_000)
        warm(engine())
        for key in list(raw.keys()):
            if "pack." not in key:
                raw.plant(key, b"")
        made = visit()
        assert (made.cache.statistics.hits, made.cache.statistics.misses) == (60, 0)

    @pytest.mark.parametrize("where", [0, 40, 200, -1])
    def test_a_corrupt_pack_is_counted_and_costs_no_more(self, backend, raw, where):
        warm(engine())
        damaged = bytearray(raw.get(pack_keys(raw)[1]))
        damaged[where] ^= 1
        raw.plant(pack_keys(raw)[1], bytes(damaged))
        statistics = visit().cache.statistics
        assert (statistics.hits, statistics.misses, statistics.rejected) == (60, 0, 1)

    def test_a_corrupt_first_pack_leaves_the_entries(self, backend, raw):
        warm(engine())
        raw.plant(pack_keys(raw)[0], b"jbcc" + bytes(500))
        statistics = visit().cache.statistics
        assert (statistics.hits, statistics.misses, statistics.rejected) == (60, 0, 1)

    def test_two_packs_that_were_swapped_are_refused(self, backend, raw):
        warm(engine())
        [_, one, two, *_] = pack_keys(raw)
        values = raw.get(one), raw.get(two)
        raw.plant(two, values[0])
        raw.plant(one, values[1])
        statistics = visit().cache.statistics
        assert (statistics.hits, statistics.misses, statistics.rejected) == (60, 0, 2)

    def test_packs_of_two_publishes_are_not_mixed(self, backend, raw):
        warm(engine())
        old = {key: raw.get(key) for key in pack_keys(raw)}
        changed = SOURCES | {NAMES[-1]: "changed"}
        warm(engine(changed))
        raw.plant(pack_keys(raw)[1], old[pack_keys(raw)[1]])
        made = visit(sources=changed)
        assert made.environment.get_template(NAMES[-1]).render() == "changed"
        assert (made.cache.statistics.hits, made.cache.statistics.misses) == (60, 0)
        assert set(origins(sources=changed).values()) == {"pack", "store"}

    def test_a_changed_template_is_never_served_from_its_old_pack(self, backend):
        warm(engine())
        changed = SOURCES | {NAMES[3]: "changed"}
        made = visit(sources=changed)
        assert made.environment.get_template(NAMES[3]).render() == "changed"
        assert (made.cache.statistics.hits, made.cache.statistics.misses) == (59, 1)

    def test_another_environments_packs_are_not_read(self, backend):
        warm(engine())
        made = engine()
        made.environment.trim_blocks = True
        made.environment.get_template(NAMES[0])
        assert (made.cache.statistics.hits, made.cache.statistics.misses) == (0, 1)

    def test_a_store_that_takes_no_packs_keeps_the_entries_and_the_report_says_so(
        self, memcached_server, monkeypatch
    ):
        monkeypatch.setattr("django_jinja_bccache.publishing.PACK_SIZE", 256 * 1024)
        server = memcached_server("-I", "16k", "-o", "slab_chunk_max=8192")
        server.start()
        with override_settings(CACHES=caches_from(f"memcached://{server.address}", None)):
            report = warm(engine())
            assert report.unpublished.startswith("packs cannot be stored: value of ")
            assert not report.ok
            assert (report.failed, report.packs) == ([], 0)
            assert set(origins().values()) == {"store"}
            caches.close_all()

    def test_packs_of_a_compression_that_is_not_to_be_had_are_one_warning(self, backend):
        warm(engine())
        finished = run_script(
            """
            import json, sys
            sys.modules["backports.zstd"] = sys.modules["compression.zstd"] = None
            from django.conf import settings
            settings.configure(CACHES=json.loads(sys.argv[1]), SECRET_KEY=sys.argv[2])
            from tests.test_packs import visit
            counts = visit().cache.statistics
            print(json.dumps([counts.hits, counts.misses]))
            """,
            json.dumps(backend.caches, default=str),
            settings.SECRET_KEY,
        )
        assert finished.result == [60, 0]
        assert finished.stderr.count("install django-jinja-bccache[zstd]") == 1


class TestPublishing:
    def test_templates_that_many_name_come_first_and_then_folder_by_folder(self):
        names = ["b/z.html", "a.html", "base.html", "b/a/y.html", "b/x.html", "mixins.html"]
        references = {name: ["base.html"] for name in names} | {
            name: ["base.html", "mixins.html"] for name in names[:3]
        }
        ordered = in_order([Publishable(name, "", 0) for name in names], references)
        assert [item.template for item in ordered] == [
            "base.html", "mixins.html", "a.html", "b/x.html", "b/z.html", "b/a/y.html",
        ]  # fmt: skip

    def test_nothing_is_written_again_that_is_there(self, backend, raw):
        assert warm(engine()).packs == PACKS
        before = {key: raw.get(key) for key in pack_keys(raw)}
        assert warm(engine()).packs == 0
        assert {key: raw.get(key) for key in pack_keys(raw)} == before

    def test_a_lost_pack_is_written_again(self, backend, raw):
        warm(engine())
        raw.plant(pack_keys(raw)[2], b"")
        assert warm(engine()).packs == PACKS
        assert set(origins().values()) == {"pack"}

    def test_packs_past_half_their_time_are_written_again(self, backend, monkeypatch):
        warm(engine(timeout=1_000))
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 400)
        assert warm(engine(timeout=1_000)).packs == 0
        monkeypatch.setattr(time, "time", lambda: now + 600)
        assert warm(engine(timeout=1_000)).packs == PACKS

    def test_packs_under_a_key_on_its_way_out_serve_until_they_are_sealed_anew(self, backend):
        warm(engine(key="old"))
        assert set(origins(key=["new", "old"]).values()) == {"pack"}
        assert warm(engine(key=["new", "old"])).packs == PACKS
        assert set(origins(key="new").values()) == {"pack"}

    def test_a_warm_up_of_some_templates_leaves_the_packs_of_all(self, backend):
        warm(engine())
        assert warm(engine(), include=[NAMES[0]]).packs == 0
        assert set(origins().values()) == {"pack"}

    def test_two_thousand_names_fit(self, backend):
        sources = {f"folder-{number % 100}/page-{number}.html": "x" for number in range(2_000)}
        report = warm(engine(sources))
        assert (report.ok, len(report.compiled)) == (True, 2_000)
        assert set(origins(list(sources), sources=sources).values()) == {"pack"}


class TestMemory:
    @pytest.fixture
    def load(self, counted, monkeypatch):
        """Loads templates one after the other, in a process that holds little; gives the most
        templates' code, and the most packs, that it held at once."""
        monkeypatch.setattr("django_jinja_bccache.publishing.PACK_SIZE", 30_000)
        monkeypatch.setattr(pack_reader, "_MOST_HELD", 4)
        monkeypatch.setattr(pack_reader, "_MOST", 6)
        assert warm(engine()).packs > 15

        def load(names: list[str]) -> tuple[int, int]:
            made = engine()
            made.environment.cache.capacity = 1_000
            origins = []
            made.cache.listeners.append(lambda event: origins.append(event.origin))
            codes = packs = 0
            for name in names:
                made.environment.get_template(name)
                [reader] = made.cache.published._readers.values()
                codes = max(codes, len(reader._codes))
                packs = max(packs, len(reader._sealed))
            assert origins == ["pack"] * 60
            return codes, packs

        return load

    def test_code_that_nobody_asks_for_is_dropped_and_can_be_had_again(self, load):
        codes, _ = load([name for start in range(4) for name in NAMES[start::4]])
        assert codes < 30

    def test_packs_that_nobody_opens_are_dropped_and_can_be_had_again(self, load):
        _, packs = load(NAMES[::-1])
        assert packs <= 6


class TestTiers:
    def test_another_hosts_newer_packs_are_found_in_the_shared_tier(self, counted, tmp_path):
        def host(name: str):
            local = FileSystemBytecodeCache(tmp_path / name)
            return TieredBytecodeCache(local, DjangoBytecodeCache(deadline=10))

        warm(engine(cache=host("one")))
        visit(cache=host("two"))  # which copies them
        changed = SOURCES | dict.fromkeys(NAMES[:30], "changed")
        warm(engine(changed, cache=host("one")))
        found = origins(sources=changed, cache=host("two"))
        assert set(found.values()) == {"pack"}
        counted.reset_counts()
        assert set(origins(sources=changed, cache=host("two")).values()) == {"pack"}
        assert counted.round_trips == 0


def reader_for(made, now=(0.0,), patience=1.0) -> PackReader:
    """What reads an engine's packs, with a clock that a test sets."""
    return PackReader(
        made.cache.storage,
        made.cache.published.scope(made.environment),
        cooldown=10,
        patience=patience,
        clock=lambda: now[0],
    )


def test_a_reader_that_found_packs_of_others_only_says_so_once(backend, caplog):
    warm(engine())
    now = [0.0]
    made = engine()
    made.environment.trim_blocks = True
    reader = reader_for(made, now)
    for now[0] in (0.0, 10.0, 20.0):
        assert reader.code(bytes(20)) is None
    [warning] = [item for item in caplog.records if item.levelname == "WARNING"]
    assert "were warmed last for another environment" in warning.getMessage()


def test_who_has_waited_long_enough_for_another_threads_fetching_does_without(counted):
    warm(engine())
    reader = reader_for(engine(deadline=60), patience=0.05)
    counted.mode = "black_hole"
    other = threading.Thread(target=reader.place, args=[NAMES[0]])
    other.start()
    assert eventually(lambda: any(lock.locked() for lock in reader._locks.values()))
    assert reader.place(NAMES[0]) is None
    assert other.is_alive()
    counted.mode = "reset"
    other.join()


def test_a_reader_that_found_no_packs_asks_again_after_the_cooldown(backend):
    warm(engine(packs=False))
    now = [0.0]
    made = engine()
    environment = made.environment
    reader = reader_for(made, now)
    source = read_source(environment, NAMES[0])
    digest = bytes.fromhex(made.entry_key(source)[32:])
    assert reader.code(digest) is None
    warm(engine())
    now[0] = 9.9
    assert reader.code(digest) is None
    now[0] = 10.0
    assert reader.code(digest) is not None
