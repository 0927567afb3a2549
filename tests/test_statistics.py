"""What a cache tells of itself: counters, events, and the entries in its store."""

import marshal
import pickle
import shutil
import threading
import time
from collections import Counter
from datetime import datetime, timedelta, timezone

import jinja2
import pytest

from django_jinja_bccache import (
    CacheEntry,
    CacheStatistics,
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    TieredBytecodeCache,
    statistics,
)
from tests.scripts import run_script
from tests.test_warming import Shouting

SOURCES = {
    "a.html": "{{ 1 }}a",
    "b.html": "{% include 'a.html' %}b",
    "broken.html": "{% if %}",
}


def load(cache, *names: str) -> None:
    """Load templates as a process does that has none of them yet."""
    environment = jinja2.Environment(loader=jinja2.DictLoader(SOURCES), bytecode_cache=cache)
    for name in names:
        environment.get_template(name)


class TestCounters:
    def test_a_cache_that_did_nothing_has_counted_nothing(self):
        statistics = CacheStatistics()
        assert (statistics.hits, statistics.misses, statistics.hit_ratio) == (0, 0, 0.0)
        assert pickle.loads(pickle.dumps(statistics)) == statistics

    def test_a_miss_that_will_be_one_in_each_process_has_a_reason_of_its_own(self, backend):
        loader = jinja2.DictLoader({"a.html": "{% shout %}"})
        for _ in range(2):
            cache = DjangoBytecodeCache()
            environment = jinja2.Environment(
                loader=loader, bytecode_cache=cache, extensions=[Shouting]
            )
            environment.filters["shout"] = str.upper
            environment.get_template("a.html")
        assert cache.statistics.miss_reasons == {"kept from storing": 1}

    def test_the_hit_ratio_is_that_of_all_loads(self):
        assert CacheStatistics(hits=3, misses=1).hit_ratio == 0.75
        assert CacheStatistics(hits=0, misses=5).hit_ratio == 0.0
        assert CacheStatistics(hits=5).hit_ratio == 1.0

    def test_it_counts_what_was_loaded_and_what_was_stored(self, backend):
        cache = DjangoBytecodeCache()
        load(cache, "a.html", "b.html")
        first = cache.statistics
        assert (first.hits, first.misses, first.stores) == (0, 2, 2)
        assert first.miss_reasons == {"absent": 2}
        load(cache, "a.html", "b.html")
        second = cache.statistics
        assert (second.hits, second.misses, second.stores) == (2, 2, 2)
        assert second.hit_ratio == 0.5
        assert (second.errors, second.rejected, second.oversize) == (0, 0, 0)

    def test_counts_taken_earlier_stay_as_they_were(self, backend):
        cache = DjangoBytecodeCache()
        before = cache.statistics
        load(cache, "a.html")
        assert before == cache.statistics._replace(
            misses=0, stores=0, size=before.size, miss_reasons={}
        )
        with pytest.raises(AttributeError):
            before.hits = 1

    def test_a_template_that_does_not_compile_is_a_miss_and_stores_nothing(self, backend):
        cache = DjangoBytecodeCache()
        for _ in range(2):
            with pytest.raises(jinja2.TemplateSyntaxError):
                load(cache, "broken.html")
        assert (cache.statistics.misses, cache.statistics.stores) == (2, 0)

    def test_it_tells_how_full_the_store_is(self, backend):
        cache = DjangoBytecodeCache()
        load(cache, "a.html", "b.html")
        held = sum(len(entry.bytecode) for entry in cache.entries())
        assert 500 < held < cache.statistics.size

    def test_the_size_of_a_memcached_is_limited_and_that_of_a_directory_is_not(
        self, backend, request
    ):
        limit = DjangoBytecodeCache().statistics.max_size
        if backend.name in {"memcached", "pylibmc"}:
            assert limit == int(request.getfixturevalue("memcached").stats()["limit_maxbytes"])
        else:
            assert limit is None

    def test_threads_lose_no_count(self, monkeypatch):
        class Interrupted(Counter):
            """Lets another thread go on between reading and writing a count."""

            def __getitem__(self, key):
                value = super().__getitem__(key)
                time.sleep(0)
                return value

        monkeypatch.setattr(statistics, "Counter", Interrupted)
        recorder = statistics.Recorder()
        heard = []
        recorder.listeners.append(heard.append)

        def record():
            for _ in range(100):
                recorder.record("hit", "a.html", "key")
                recorder.record("miss", "a.html", "key", reason="absent")

        threads = [threading.Thread(target=record) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counted = recorder.snapshot(None, None)
        assert counted.hits == counted.misses == counted.miss_reasons["absent"] == 1600
        assert len(heard) == 3200

    def test_a_child_counts_although_its_parent_forked_while_another_thread_was_counting(self):
        finished = run_script(
            """
            import os, signal, threading
            from django_jinja_bccache.statistics import Recorder

            recorder = Recorder()
            held = threading.Event()

            def hold():
                with recorder._lock:
                    held.set()
                    threading.Event().wait()

            threading.Thread(target=hold, daemon=True).start()
            held.wait()
            if os.fork() == 0:
                signal.alarm(30)  # rather than wait for ever
                recorder.forget_lock()
                recorder.record("hit", "a.html", "key")
                os._exit(recorder.snapshot(None, None).hits)
            print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
            os._exit(0)
            """
        )
        assert finished.stdout == "1\n", finished.stderr


class TestEvents:
    def test_a_listener_hears_of_every_outcome(self, backend):
        cache = DjangoBytecodeCache()
        heard = []
        cache.listeners.append(heard.append)
        load(cache, "a.html")
        load(cache, "a.html")
        assert [(event.kind, event.template, event.reason) for event in heard] == [
            ("miss", "a.html", "absent"),
            ("compiled", "a.html", ""),
            ("store", "a.html", ""),
            ("hit", "a.html", ""),
        ]
        miss, _, store, hit = heard
        assert miss.key == store.key == hit.key
        [entry] = cache.entries()
        assert entry.key == hit.key
        assert miss.size == 0
        assert store.size == hit.size > len(entry.bytecode)
        assert all(event.seconds > 0 for event in heard)
        # Packs, the note on what was warmed last, and the entry; packs once in a cool-down.
        assert (miss.round_trips, hit.round_trips) == (3, 1)
        assert all(0 < event.fetching < event.seconds for event in (miss, hit))

    def test_a_hit_in_one_of_two_tiers_says_which(self, tmp_path):
        def cache():
            return TieredBytecodeCache(
                FileSystemBytecodeCache(tmp_path / "local"),
                FileSystemBytecodeCache(tmp_path / "shared"),
                key="x",
            )

        origins = []
        for _ in range(3):
            made = cache()
            made.listeners.append(lambda event: origins.append(event.origin))
            load(made, "a.html")
            if len(origins) == 4:
                shutil.rmtree(tmp_path / "local")
        assert [origin for origin in origins if origin] == ["local", "shared"]

    def test_a_bucket_made_by_hand_has_no_template_name(self, backend):
        cache = DjangoBytecodeCache()
        heard = []
        cache.listeners.append(heard.append)
        cache.load_bytecode(jinja2.bccache.Bucket(jinja2.Environment(), "key", "checksum"))
        assert [(event.kind, event.template) for event in heard] == [("miss", None)]


class TestEntries:
    def test_an_entry_tells_what_it_holds(self, backend):
        cache = DjangoBytecodeCache()
        load(cache, "b.html")
        [entry] = cache.entries()
        assert entry.template == "b.html"
        assert entry.checksum == cache.get_source_checksum(SOURCES["b.html"])
        assert marshal.loads(entry.bytecode).co_filename == "b.html"
        now = datetime.now(timezone.utc)
        assert now - timedelta(minutes=1) < entry.created_at <= now
        assert now - timedelta(minutes=1) < entry.accessed_at <= now + timedelta(seconds=1)

    def test_its_repr_leaves_the_bytecode_out(self):
        moment = datetime.now(timezone.utc)
        entry = CacheEntry("key", "home.html", "0a", b"marshalled", moment, None)
        assert "home.html" in repr(entry)
        assert "marshalled" not in repr(entry)

    def test_entries_of_others_and_damaged_ones_are_not_listed(self, backend):
        cache = DjangoBytecodeCache(prefix="mine/")
        heard = []
        cache.listeners.append(heard.append)
        load(cache, "a.html")
        load(DjangoBytecodeCache(prefix="others/"), "b.html")
        load(DjangoBytecodeCache(prefix="mine/", key="another"), "b.html")
        signing_key, key = cache.storage.signing_keys[0], heard[-1].key
        store = cache.storage.opener.store()
        value = store.get(cache.storage.stored_key(key, signing_key))
        store.set(cache.storage.stored_key("0" * len(key), signing_key), value, None)
        assert [entry.template for entry in cache.entries()] == ["a.html"]


def test_a_listener_that_fails_costs_no_page_and_is_logged(backend, caplog):
    cache = DjangoBytecodeCache()
    cache.listeners.append(lambda event: 1 / 0)
    load(cache, "a.html")
    assert cache.statistics.misses == 1
    assert "A listener of a bytecode cache failed" in caplog.text
