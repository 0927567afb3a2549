"""Entries under their keys in their store: what is written, what is read, what it costs."""

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import jinja2
import pytest
from django.core.cache import close_caches
from django.test import override_settings

from django_jinja_bccache import DjangoBytecodeCache, FileSystemBytecodeCache
from django_jinja_bccache.bytecode import Label, payload_of
from django_jinja_bccache.entry import SigningKey, seal, unseal
from django_jinja_bccache.exceptions import ConfigurationError, StoreError
from testproject.caches import caches_from, memcached_cache
from tests.scripts import run_script
from tests.stores.contract import eventually

KEY = "0123456789abcdef" * 4
LABEL = Label("a.html", "c0ffee")


@pytest.fixture(scope="module")
def payload() -> bytes:
    return payload_of(jinja2.Environment().compile("{{ 1 }}a", "a.html", "a.html"), "a.html")


def storage(**options):
    return DjangoBytecodeCache(**options).storage


class TestStoredKey:
    def test_it_is_the_prefix_the_id_of_the_signing_key_and_the_entry_key(self, backend, payload):
        mine = storage(prefix="some/prefix/", key="mine")
        mine.write(KEY, payload, LABEL)
        [stored] = mine.opener.store().scan("")
        assert stored.key == f"some/prefix/{SigningKey('mine').id}:{KEY}"

    def test_the_value_is_sealed_for_the_entry_key_alone(self, backend, payload):
        mine = storage(prefix="some/prefix/", key="mine")
        mine.write(KEY, payload, LABEL)
        value = mine.opener.store().get(mine.stored_key(KEY, SigningKey("mine")))
        unsealed = unseal(KEY, value, SigningKey("mine"))
        assert bytes(unsealed.payload) == payload
        assert Label.from_bytes(unsealed.label) == LABEL

    def test_a_value_copied_to_another_prefix_is_a_hit_there(self, backend, payload):
        mine, copy = storage(prefix="mine/", key="k"), storage(prefix="copy/", key="k")
        mine.write(KEY, payload, LABEL)
        store = mine.opener.store()
        signing_key = mine.signing_keys[0]
        value = store.get(mine.stored_key(KEY, signing_key))
        store.set(copy.stored_key(KEY, signing_key), value, None)
        assert copy.read(KEY, "a.html") is not None


class TestReading:
    def test_what_was_written_is_read_by_every_cache_with_the_same_key(self, backend, payload):
        storage(key="k").write(KEY, payload, LABEL)
        code = storage(key="k").read(KEY, "a.html")
        assert payload_of(code, "a.html") == payload

    def test_entries_under_every_accepted_key_are_asked_for_at_once(
        self, memcached, proxy, payload
    ):
        way = proxy(memcached.address)
        with override_settings(CACHES={"default": memcached_cache([way.address])}):
            storage(key="oldest").write(KEY, payload, LABEL)
            rotated = storage(key=["new", "old", "oldest"])
            way.reset_counts()
            assert rotated.read(KEY, "a.html") is not None
            assert way.round_trips == 1

    def test_an_entry_of_the_first_key_wins_and_damaged_ones_are_passed_over(
        self, backend, payload
    ):
        rotated = storage(key=["new", "old"])
        other = payload_of(jinja2.Environment().compile("other", "a.html", "a.html"), "a.html")
        for secret, content in (("new", payload), ("old", other)):
            storage(key=secret).write(KEY, content, LABEL)
        assert payload_of(rotated.read(KEY, "a.html"), "a.html") == payload
        stored = rotated.stored_key(KEY, SigningKey("new"))
        rotated.opener.store().set(stored, seal(KEY, payload, SigningKey("forged")), None)
        assert payload_of(rotated.read(KEY, "a.html"), "a.html") == other
        assert rotated.statistics().rejected == 1

    def test_each_refusal_is_counted_with_its_reason(self, backend, payload):
        mine = storage(key="k")
        signing_key = SigningKey("k")
        good = seal(KEY, payload, signing_key)
        values = {
            "corrupt": b"not an entry" * 9,
            "version": good[:4] + b"\x02" + good[5:],
            "signature": good[:-1] + bytes([good[-1] ^ 1]),
        }
        for value in values.values():
            mine.opener.store().set(mine.stored_key(KEY, signing_key), value, None)
            assert mine.read(KEY, "a.html") is None
        statistics = mine.statistics()
        assert statistics.miss_reasons == dict.fromkeys(values, 1)
        assert (statistics.misses, statistics.rejected, statistics.errors) == (3, 3, 0)


class TestWriting:
    def test_a_read_only_cache_never_writes(self, backend, payload):
        storage(key="k", read_only=True).write(KEY, payload, LABEL)
        assert list(storage(key="k").opener.store().scan("")) == []

    def test_a_template_that_names_thousands_of_others_is_stored(self, backend):
        names = [f"a/folder/with/a/long/name/and/number/{number}.html" for number in range(1500)]
        source = "".join(f"{{% include '{name}' ignore missing %}}" for name in names)
        for hits in (0, 1):
            cache = DjangoBytecodeCache(key="k")
            environment = jinja2.Environment(
                loader=jinja2.DictLoader({"a.html": source}), bytecode_cache=cache
            )
            assert environment.get_template("a.html").render() == ""
            assert cache.statistics.hits == hits

    def test_a_value_is_compressed_only_if_the_store_refuses_it_raw(self, memcached_server):
        code = jinja2.Environment().compile("a" * (1 << 20), "a.html", "a.html")
        payload = payload_of(code, "a.html")
        assert len(payload) > 1 << 20
        signing_key = SigningKey("k")
        for limit, flags in (("8m", 0), ("1m", 1)):
            with (
                memcached_server("-I", limit) as server,
                override_settings(CACHES={"default": memcached_cache([server.address])}),
            ):
                mine = storage(key="k")
                mine.write(KEY, payload, LABEL)
                value = mine.opener.store().get(mine.stored_key(KEY, signing_key))
                assert value[5] == flags
                assert bytes(unseal(KEY, value, signing_key).payload) == payload
                assert mine.statistics().oversize == 0


class TestFailures:
    @pytest.fixture
    def unavailable(self, memcached_server):
        """An alias whose server is not running."""
        address = memcached_server().address
        with override_settings(CACHES=caches_from(f"memcached://{address}", None)):
            yield

    def test_they_are_misses(self, unavailable, payload):
        mine = storage(key="k")
        assert mine.read(KEY, "a.html") is None
        mine.write(KEY, payload, LABEL)
        statistics = mine.statistics()
        assert statistics.miss_reasons == {"store down": 1}
        assert (statistics.errors, statistics.stores, statistics.size) == (1, 0, None)

    def test_they_are_raised_on_demand(self, unavailable, payload):
        mine = storage(key="k", ignore_errors=False)
        with pytest.raises(StoreError):
            mine.read(KEY, "a.html")
        with pytest.raises(StoreError):
            mine.write(KEY, payload, LABEL)

    def test_a_setting_that_cannot_be_used_is_none_and_is_raised(self, payload):
        mine = storage(alias="nowhere", key="k")
        for use in (
            lambda: mine.read(KEY, "a.html"),
            lambda: mine.write(KEY, payload, LABEL),
            lambda: mine.fetch_note("note"),
        ):
            with pytest.raises(ConfigurationError, match="no alias 'nowhere' in CACHES"):
                use()

    def test_a_store_that_cannot_be_opened_is_one_warning_per_outage(
        self, tmp_path, caplog, payload
    ):
        caplog.set_level(logging.INFO, "django_jinja_bccache")
        obstacle = tmp_path / "cache"
        for _ in range(2):
            obstacle.write_text("a file where a directory should be made")
            with override_settings(CACHES=caches_from(f"file://{obstacle}/inside", None)):
                mine = storage(key="k", cooldown=0.05)
                for _ in range(4):
                    assert mine.read(KEY, "a.html") is None
                    time.sleep(0.03)
                obstacle.unlink()
                time.sleep(0.06)
                mine.write(KEY, payload, LABEL)
                assert mine.read(KEY, "a.html") is not None
            warnings = [item for item in caplog.records if item.levelname == "WARNING"]
            assert len(warnings) == 1
            assert "'default'" in warnings[0].getMessage()
            caplog.clear()
            (obstacle / "inside").rename(tmp_path / f"gone{time.monotonic()}")
            obstacle.rmdir()


class TestOpening:
    def test_a_cache_opens_its_store_when_it_is_first_used(self, memcached, proxy, payload):
        way = proxy(memcached.address)
        with override_settings(CACHES={"default": memcached_cache([way.address])}):
            mine = storage(key="k")
            assert way.connections == 0
            mine.read(KEY, "a.html")
            mine.write(KEY, payload, LABEL)
            assert way.connections == 1

    def test_threads_that_need_it_at_the_same_moment_open_one(self, backend):
        opener, going_on, opened = storage(key="k").opener, Event(), []
        open_store = opener._open

        def slowly():
            opened.append(True)
            assert going_on.wait(30)
            return open_store()

        def waits() -> bool:
            frames = sys._current_frames().values()
            return sum(frame.f_code is type(opener).store.__code__ for frame in frames) == 1

        opener._open = slowly
        with ThreadPoolExecutor(2) as threads:
            stores = [threads.submit(opener.store) for _ in range(2)]
            assert eventually(lambda: opened and waits())
            going_on.set()
            assert stores[0].result() is stores[1].result()
        assert opened == [True]

    def test_a_child_forked_after_a_page_can_import_what_a_slow_backend_imports(self, tmp_path):
        (tmp_path / "slow_library.py").write_text("import time; time.sleep(1)")
        (tmp_path / "slow_backend.py").write_text(
            "from django.core.cache.backends.dummy import DummyCache\n"
            "class Slow(DummyCache):\n"
            "    def __init__(self, *arguments):\n"
            "        super().__init__(*arguments)\n"
            "        import slow_library\n"
        )
        finished = run_script(
            """
            import os, signal, sys
            import jinja2
            from django.conf import settings
            sys.path.insert(0, sys.argv[1])
            settings.configure(CACHES={"default": {"BACKEND": "slow_backend.Slow"}})
            from django_jinja_bccache import DjangoBytecodeCache

            cache = DjangoBytecodeCache(key="k", deadline=0.2)
            loader = jinja2.DictLoader({"a.html": "a"})
            environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
            assert environment.get_template("a.html").render() == "a"
            if os.fork() == 0:
                signal.alarm(30)  # rather than wait for ever
                import slow_library
                os._exit(0)
            assert os.wait()[1] == 0
            """,
            tmp_path,
        )
        assert finished.returncode == 0, finished.stderr

    def test_a_forked_child_opens_a_store_of_its_own(self, memcached, proxy, tmp_path):
        way = proxy(memcached.address)
        finished = run_script(
            """
            import os, signal, sys
            import jinja2
            from django.conf import settings
            from testproject.caches import caches_from
            settings.configure(CACHES=caches_from("memcached://" + sys.argv[1], None))
            from django_jinja_bccache import DjangoBytecodeCache

            cache = DjangoBytecodeCache(key="k")
            sources = {"a.html": "a", "b.html": "b"}

            def page(name):
                loader = jinja2.DictLoader(sources)
                environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
                return environment.get_template(name).render()

            assert page("a.html") == "a"
            inherited = cache.storage.opener.store()
            if os.fork() == 0:
                signal.alarm(30)  # rather than wait for ever
                own = page("a.html") == "a" and cache.storage.opener.store() is not inherited
                os._exit(0 if own and cache.statistics.hits == 1 else 1)
            assert os.wait()[1] == 0
            assert page("b.html") == "b" and cache.storage.opener.store() is inherited
            assert cache.statistics.stores == 2
            """,
            way.address,
        )
        assert finished.returncode == 0, finished.stderr
        assert way.connections == 2

    def test_what_lists_the_entries_does_not_wait_for_the_cool_down(self, tmp_path, payload):
        place = tmp_path / "cache"
        cache = FileSystemBytecodeCache(place, key="k")
        place.write_text("a file where the directory should be")
        assert cache.storage.read(KEY, None) is None
        place.unlink()
        FileSystemBytecodeCache(place, key="k").storage.write(KEY, payload, LABEL)
        assert cache.storage.read(KEY, None) is None
        assert [entry.template for entry in cache.entries()] == ["a.html"]


def key_of_a_tenant(key: str, prefix: str, version: int) -> str:
    raise LookupError("no tenant outside a request")


def test_a_key_function_that_fails_costs_no_page(backend):
    default = {**backend.caches["default"], "KEY_FUNCTION": f"{__name__}.key_of_a_tenant"}
    with override_settings(CACHES={"default": default}):
        cache = DjangoBytecodeCache()
        environment = jinja2.Environment(
            loader=jinja2.DictLoader({"a.html": "{{ 1 }}a"}), bytecode_cache=cache
        )
        assert environment.get_template("a.html").render() == "1a"
        assert cache.statistics.miss_reasons == {"store down": 1}
        close_caches()
