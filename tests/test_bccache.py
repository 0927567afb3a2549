"""Every cache has the whole of Jinja2's interface, and the options that all caches share."""

import copy
import io
import pickle
import time
import traceback
from contextlib import ExitStack, closing
from types import CodeType, SimpleNamespace

import jinja2
import pytest
from django.test import override_settings
from jinja2.bccache import Bucket
from pymemcache.client.base import Client
from redis import Redis

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    MemcachedBytecodeCache,
    RedisBytecodeCache,
    SQLiteBytecodeCache,
)
from django_jinja_bccache.exceptions import NotSupported, StoreError
from testproject.caches import caches_from, file_cache, memcached_cache

SECRET = "correct horse battery staple"
SOURCES = {
    "base.html": "<p>{% block body %}{% endblock %}</p>",
    "page.html": "{% extends 'base.html' %}{% block body %}{{ name }}{% endblock %}",
}
MACRO = "{% macro broken() %}{{ 1 // 0 }}{% endmacro %}"


def environment(cache, sources=SOURCES, **options) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.DictLoader(sources), bytecode_cache=cache, autoescape=True, **options
    )


def page(cache, **options) -> str:
    """What a process renders that has no template yet."""
    return environment(cache, **options).get_template("page.html").render(name="<&>")


def hits_and_misses(cache) -> tuple[int, int]:
    return cache.statistics.hits, cache.statistics.misses


@pytest.fixture(
    params=["alias of memcached", "alias of files", "memcached", "redis", "directory", "database"]
)
def make(request, tmp_path):
    """Makes caches of one class over one store: `make(salt="…")`."""
    arguments: list = []
    with ExitStack() as stack:
        if request.param.startswith("alias"):
            setting = file_cache(tmp_path)
            if request.param.endswith("memcached"):
                setting = memcached_cache([request.getfixturevalue("memcached").address])
            stack.enter_context(override_settings(CACHES={"other": setting}))
            cls, arguments = DjangoBytecodeCache, ["other"]
        elif request.param == "memcached":
            client = Client(request.getfixturevalue("memcached").address)
            cls, arguments = MemcachedBytecodeCache, [stack.enter_context(closing(client))]
        elif request.param == "redis":
            client = Redis.from_url(request.getfixturevalue("redis").url)
            cls, arguments = RedisBytecodeCache, [stack.enter_context(closing(client))]
        elif request.param == "directory":
            cls, arguments = FileSystemBytecodeCache, [tmp_path]
        else:
            cls, arguments = SQLiteBytecodeCache, [tmp_path / "bytecode.sqlite3"]
        yield lambda **options: cls(*arguments, **{"key": SECRET, **options})


class TestWithEnvironment:
    def test_the_next_process_compiles_nothing(self, make):
        first, second = make(), make()
        assert page(first) == page(second) == "<p>&lt;&amp;&gt;</p>"
        assert hits_and_misses(first) == (0, 2)
        assert hits_and_misses(second) == (2, 0)

    def test_another_source_is_another_entry_and_the_old_one_stays(self, make):
        changed = SOURCES | {"page.html": "new: {{ name }}"}
        for _ in range(2):
            cache = make()
            assert page(cache) == "<p>&lt;&amp;&gt;</p>"
            assert page(cache, sources=changed) == "new: &lt;&amp;&gt;"
        assert hits_and_misses(cache) == (3, 0)

    def test_an_overlay_works_and_has_entries_of_its_own(self, make):
        for _ in range(2):
            cache = make()
            overlay = environment(cache).overlay(variable_start_string="<<", autoescape=False)
            assert overlay.get_template("page.html").render(name="<&>") == "<p>{{ name }}</p>"
            assert page(cache) == "<p>&lt;&amp;&gt;</p>"
        assert hits_and_misses(cache) == (4, 0)

    def test_a_syntax_error_is_jinja2s_own(self, make):
        broken = {"page.html": "fine\n{% if %}\n"}
        told = []
        for cache in (None, make(), make()):
            with pytest.raises(jinja2.TemplateSyntaxError) as caught:
                page(cache, sources=broken)
            error = caught.value
            places = [frame.name for frame in traceback.extract_tb(caught.tb)]
            told.append((str(error), error.lineno, error.name, error.filename, places[-2:]))
        assert told[0] == told[1] == told[2]

    def test_a_traceback_names_the_file_of_this_checkout(self, make, tmp_path):
        told = []
        for checkout in ("one", "two"):
            file = tmp_path / checkout / "page.html"
            file.parent.mkdir()
            file.write_text(f"fine\n{MACRO}\n{{{{ broken() }}}}")
            cache = make()
            env = jinja2.Environment(
                loader=jinja2.FileSystemLoader(file.parent), bytecode_cache=cache
            )
            template = env.get_template("page.html")
            with pytest.raises(ZeroDivisionError) as caught:
                template.render()
            frames = traceback.extract_tb(caught.tb)
            told.append(
                [(item.lineno, item.line) for item in frames if item.filename == str(file)]
            )
        assert hits_and_misses(cache) == (1, 0)
        assert told[0] == told[1] == [(3, "{{ broken() }}"), (2, MACRO)]

    def test_clear_removes_this_caches_entries_and_no_others(self, make):
        mine, others = make(), make(prefix="others/")
        page(mine)
        page(others)
        assert len(list(mine.entries())) == 2
        make().clear()
        assert list(mine.entries()) == []
        page(mine)
        assert hits_and_misses(mine) == (0, 4)
        page(others)
        assert hits_and_misses(others) == (2, 2)

    def test_what_a_minimal_client_cannot_do_is_no_failure_of_the_store(self, memcached):
        with closing(Client(memcached.address)) as whole:
            client = SimpleNamespace(get=whole.get, set=whole.set)
            cache = MemcachedBytecodeCache(client, key=SECRET)
            page(cache)
            with pytest.raises(NotSupported):
                cache.clear()
            assert cache.statistics.size is None
            page(cache)
            assert hits_and_misses(cache) == (2, 2)


class TestBuckets:
    def test_get_bucket_returns_jinja2s_own_kind_with_the_code_in_it(self, make):
        env = environment(make())
        for _ in range(2):
            cache = make()
            bucket = cache.get_bucket(env, "base.html", None, SOURCES["base.html"])
            assert type(bucket) is Bucket
            assert bucket.environment is env
            assert bucket.checksum == cache.get_source_checksum(SOURCES["base.html"])
            assert env.template_class.from_code(env, bucket.code, {}).render() == "<p></p>"
        assert hits_and_misses(cache) == (1, 0)

    def test_a_bucket_made_by_hand_is_stored_and_loaded(self, make):
        cache, env = make(), environment(None)
        source = SOURCES["base.html"]
        key = cache.get_cache_key("base.html", "/srv/templates/base.html")
        checksum = cache.get_source_checksum(source)
        empty = Bucket(env, key, checksum)
        cache.load_bytecode(empty)
        assert empty.code is None
        full = Bucket(env, key, checksum)
        full.code = env.compile(source, "base.html", "base.html")
        cache.dump_bytecode(full)
        for bucket in (Bucket(env, key, checksum), Bucket(environment(None), key, checksum)):
            make().load_bytecode(bucket)
            assert env.template_class.from_code(env, bucket.code, {}).render() == "<p></p>"
        for unlike in (
            Bucket(env, key + "1", checksum),
            Bucket(env, key, cache.get_source_checksum(source + " ")),
            Bucket(environment(None, trim_blocks=True), key, checksum),
        ):
            make().load_bytecode(unlike)
            assert unlike.code is None

    def test_set_bucket_stores_what_is_in_the_bucket(self, make):
        cache, env = make(), environment(None)
        bucket = Bucket(env, "a key", "a checksum")
        bucket.code = env.compile("by hand", "page.html", None)
        cache.set_bucket(bucket)
        bucket.reset()
        make().load_bytecode(bucket)
        assert env.template_class.from_code(env, bucket.code, {}).render() == "by hand"

    def test_an_empty_bucket_cannot_be_stored(self, make):
        with pytest.raises(TypeError, match="empty bucket"):
            make().dump_bytecode(Bucket(environment(None), "a key", "a checksum"))

    def test_jinja2s_own_bucket_methods_work_on_its_code(self, make):
        cache, env = make(), environment(None)
        bucket = cache.get_bucket(env, "base.html", None, SOURCES["base.html"])
        as_string = Bucket(env, bucket.key, bucket.checksum)
        as_string.bytecode_from_string(bucket.bytecode_to_string())
        assert as_string.code == bucket.code
        file = io.BytesIO()
        bucket.write_bytecode(file)
        file.seek(0)
        from_file = Bucket(env, bucket.key, bucket.checksum)
        from_file.load_bytecode(file)
        assert from_file.code == bucket.code
        other_source = Bucket(env, bucket.key, cache.get_source_checksum("other"))
        other_source.bytecode_from_string(bucket.bytecode_to_string())
        assert other_source.code is None

    def test_a_key_depends_on_the_name_alone(self, make):
        cache = make()
        keys = {cache.get_cache_key(name) for name in ("a", "a|b", "a/b", "ä", "\ud800")}
        assert len(keys) == 5
        assert cache.get_cache_key("a", "b|c") == cache.get_cache_key("a") in keys
        assert cache.get_source_checksum("\ud800") != cache.get_source_checksum("ä")


class TestOptions:
    def test_caches_with_unlike_salts_share_nothing(self, make):
        for salt in ("", "1", "2"):
            cache = make(salt=salt)
            page(cache)
            assert hits_and_misses(cache) == (0, 2)
        page(cache)
        assert hits_and_misses(cache) == (2, 2)

    def test_a_read_only_cache_reads_and_never_writes(self, make):
        for _ in range(2):
            cache = make(read_only=True)
            assert page(cache) == "<p>&lt;&amp;&gt;</p>"
            bucket = Bucket(environment(None), "a key", "a checksum")
            bucket.code = compile("", "x", "exec")
            cache.set_bucket(bucket)
            assert (cache.statistics.stores, list(cache.entries())) == (0, [])
        page(make())
        page(cache)
        assert hits_and_misses(cache) == (2, 2)

    def test_without_ignore_errors_a_page_fails_with_the_stores_error(self, memcached_server):
        address = memcached_server().address
        with override_settings(CACHES=caches_from(f"memcached://{address}", None)):
            for cache in (
                DjangoBytecodeCache(key=SECRET, ignore_errors=False),
                MemcachedBytecodeCache(Client(address), "x", None, False, key=SECRET),
            ):
                with pytest.raises(StoreError):
                    page(cache)

    def test_an_entry_is_gone_once_its_time_is_over(self, make):
        cache = make(timeout=1)
        page(cache)
        assert hits_and_misses(cache) == (0, 2)
        give_up = time.monotonic() + 20
        while cache.statistics.misses == 2 and time.monotonic() < give_up:
            time.sleep(0.1)
            page(cache)
        assert cache.statistics.miss_reasons["absent"] > 2

    @pytest.mark.parametrize("days", [1 / 24, 29, 31, 800])
    def test_a_time_out_may_be_any_number_of_days(self, make, days):
        cache = make(timeout=days * 24 * 60 * 60)
        page(cache)
        expected = time.time() + days * 24 * 60 * 60
        expiries = [item.expires_at for item in cache.storage.opener.store().scan("")]
        assert expiries == [pytest.approx(expected, abs=30)] * 2

    def test_without_a_time_out_an_entry_stays_for_ever(self, make):
        page(cache := make(timeout=None))
        items = list(cache.storage.opener.store().scan(""))
        assert [item.expires_at for item in items] == [None, None]


class TestObject:
    def test_a_copy_is_the_same_cache(self, make):
        cache = make()
        assert copy.copy(cache) is copy.deepcopy(cache) is cache
        assert copy.deepcopy({"OPTIONS": {"bytecode_cache": cache}})["OPTIONS"] == {
            "bytecode_cache": cache
        }

    def test_neither_its_text_nor_a_pickle_shows_the_key(self, make):
        cache = make()
        page(cache)
        texts = [repr(cache), str(cache), repr(vars(cache)), repr(vars(cache.storage))]
        assert not any(SECRET in text for text in texts)
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(cache)

    def test_what_is_loaded_is_a_code_object(self, make):
        page(make())
        bucket = make().get_bucket(environment(None), "base.html", None, SOURCES["base.html"])
        assert isinstance(bucket.code, CodeType)
