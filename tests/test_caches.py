"""What tells the cache classes apart: how they are made, and whose rules their keys obey."""

import time
from copy import deepcopy

import jinja2
import pytest
from django.test import override_settings
from pymemcache.client.base import Client

from django_jinja_bccache import (
    DjangoBytecodeCache,
    FileSystemBytecodeCache,
    MemcachedBytecodeCache,
)
from django_jinja_bccache.exceptions import ConfigurationError
from tests.raw import raw_store
from tests.scripts import run_script

SECRET = "correct horse battery staple"


def load(cache) -> str:
    loader = jinja2.DictLoader({"a.html": "Hello"})
    environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
    return environment.get_template("a.html").render()


def shouting(key, key_prefix, version):
    return f"{key.upper()}!{key_prefix}!{version}"


class TestKeysOfAnAlias:
    @pytest.fixture
    def stored_key(self, backend, request):
        """The key in the store, for one template, of an alias with more options."""

        def key_with(**options) -> str:
            caches = deepcopy(backend.caches)
            caches["default"] |= options
            with override_settings(CACHES=caches):
                cache = DjangoBytecodeCache(key=SECRET, prefix="p/")
                load(cache)
                [key] = raw_store(backend, request).keys()
                load(again := DjangoBytecodeCache(key=SECRET, prefix="p/"))
                assert again.statistics.hits == 1
                own = f"p/{cache.storage.signing_keys[0].id}:"
                return key.replace(own, "<own>").replace(own.upper(), "<OWN>")

        return key_with

    def test_they_begin_with_its_prefix_and_its_version(self, stored_key):
        assert stored_key(KEY_PREFIX="shop", VERSION=7).startswith("shop:7:<own>")

    def test_they_are_made_by_its_key_function(self, stored_key):
        key = stored_key(KEY_FUNCTION="tests.test_caches.shouting", KEY_PREFIX="shop")
        assert key.startswith("<OWN>")
        assert key.endswith("!shop!1")

    def test_sites_with_unlike_prefixes_share_nothing(self, backend):
        for prefix in ("one", "two"):
            caches = deepcopy(backend.caches)
            caches["default"]["KEY_PREFIX"] = prefix
            with override_settings(CACHES=caches):
                cache = DjangoBytecodeCache(key=SECRET)
                load(cache)
                assert cache.statistics.misses == 1
                assert len(list(cache.entries())) == 1


class TestOptions:
    def test_an_entry_stays_for_thirty_days_unless_told_otherwise(self, backend):
        cache = DjangoBytecodeCache()
        load(cache)
        [item] = cache.storage.opener.store().scan("")
        assert item.expires_at == pytest.approx(time.time() + 30 * 24 * 60 * 60, abs=30)

    def test_a_missing_alias_is_named_beside_those_that_there_are(self, backend):
        cache = DjangoBytecodeCache("defualt")
        for use in (cache.validate, lambda: load(cache)):
            with pytest.raises(ConfigurationError, match="'defualt'"):
                use()
        with pytest.raises(ConfigurationError, match="there are: 'default'"):
            cache.validate()

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            *(("prefix", value) for value in (None, 1, b"p/")),
            *(("timeout", value) for value in (0, -1, True, "60", float("nan"), float("inf"))),
            *(("salt", value) for value in (None, 1, b"salt")),
            *(("ignore_errors", value) for value in (None, 1, "yes")),
            *(("read_only", value) for value in (None, 1, "yes")),
            *(("deadline", value) for value in (None, 0, -0.5, True, "1", float("inf"))),
            *(("cooldown", value) for value in (None, 0, -1, True, "1", float("inf"))),
        ],
    )
    @pytest.mark.parametrize(
        "make",
        [
            DjangoBytecodeCache,
            lambda **options: MemcachedBytecodeCache(Client("127.0.0.1:1"), **options),
            FileSystemBytecodeCache,
        ],
        ids=["django", "memcached", "files"],
    )
    def test_a_value_that_cannot_be_used_is_refused_by_name(self, make, option, value):
        with pytest.raises(ConfigurationError, match=rf"^{option}: .*is not accepted; it must"):
            make(**{option: value})

    @pytest.mark.parametrize("alias", [None, 1, ["default"]])
    def test_an_alias_is_text(self, alias):
        with pytest.raises(ConfigurationError, match=r"^alias: .*it must be of type str"):
            DjangoBytecodeCache(alias)

    @pytest.mark.parametrize("pattern", [None, "", "%s%s", "a/%s", "no placeholder", "%d", "100%"])
    def test_a_pattern_is_a_file_name_with_one_placeholder(self, pattern):
        with pytest.raises(ConfigurationError, match="pattern"):
            FileSystemBytecodeCache(pattern=pattern)

    @pytest.mark.parametrize("client", [None, object(), "127.0.0.1:11211"])
    def test_a_client_has_get_and_set(self, client):
        with pytest.raises(ConfigurationError, match=r"client: .*no method .*it must have get"):
            MemcachedBytecodeCache(client)

    def test_jinja2s_name_for_ignore_errors_is_accepted(self):
        client = Client("127.0.0.1:1")
        assert MemcachedBytecodeCache(client, ignore_memcache_errors=False).ignore_errors is False
        assert MemcachedBytecodeCache(client, "x", None, True).ignore_errors is True


IN_SETTINGS = """
    import sys

    touched = []
    marks = ("the-cache-directory", "socket.connect", "socket.getaddrinfo")

    def hook(event, arguments):
        if event == "import":
            return
        text = f"{event} {arguments}"
        if any(mark in text for mark in marks):
            touched.append(text)

    sys.addaudithook(hook)

    import copy, types
    import django
    from django.conf import settings
    from django_jinja_bccache import DjangoBytecodeCache

    module = types.ModuleType("the_settings")
    place = dict(zip(("BACKEND", "LOCATION"), sys.argv[1:3]))
    cache = DjangoBytecodeCache("default")
    text = repr(cache)
    assert not settings.configured
    module.__dict__.update(
        SECRET_KEY="x",
        CACHES={"default": place},
        INSTALLED_APPS=["django_jinja_bccache"],
        TEMPLATES=[{
            "BACKEND": "django.template.backends.jinja2.Jinja2",
            "OPTIONS": {"bytecode_cache": cache},
        }],
    )
    sys.modules["the_settings"] = module
    django.setup()
    assert copy.deepcopy(settings.TEMPLATES) == settings.TEMPLATES
    from django.template import engines
    environment = engines["jinja2"].env
    assert environment.bytecode_cache is cache
    assert touched == [], touched
    import jinja2
    environment.loader = jinja2.DictLoader({"a.html": "Hello"})
    assert environment.get_template("a.html").render() == "Hello"
    assert touched or "PyLibMC" in place["BACKEND"]  # which connects without Python
"""


class TestInSettings:
    def test_making_one_reads_no_settings_and_opens_nothing(self, backend, tmp_path):
        place = backend.caches["default"]
        location = place["LOCATION"]
        if backend.name == "files":
            location = tmp_path / "the-cache-directory"
        elif isinstance(location, list):
            [location] = location
        finished = run_script(
            IN_SETTINGS, place["BACKEND"], location, DJANGO_SETTINGS_MODULE="the_settings"
        )
        assert finished.returncode == 0, finished.stderr

    def test_importing_the_package_needs_no_settings_and_no_client_library(self):
        finished = run_script(
            """
            import sys
            import django_jinja_bccache
            from django.conf import settings
            assert not settings.configured
            libraries = {"pymemcache", "pylibmc", "memcache", "redis", "valkey", "diskcache"}
            assert not libraries & set(sys.modules)
            """
        )
        assert finished.returncode == 0, finished.stderr


class TestSwitch:
    @pytest.mark.parametrize("switch", ["off", "on"])
    def test_the_process_environment_switches_every_cache_off(
        self, backend, request, tmp_path, memcached, switch
    ):
        finished = run_script(
            """
            import json, sys
            import jinja2
            from django.conf import settings
            from pymemcache.client.base import Client
            from testproject.caches import caches_from
            from django_jinja_bccache import *

            url, address, directory = sys.argv[1:]
            settings.configure(CACHES=caches_from(url, None))
            caches = [
                DjangoBytecodeCache(key="k"),
                MemcachedBytecodeCache(Client(address), "other/", key="k"),
                FileSystemBytecodeCache(directory, key="k"),
            ]
            for cache in caches:
                loader = jinja2.DictLoader({"a.html": "Hello"})
                environment = jinja2.Environment(loader=loader, bytecode_cache=cache)
                assert environment.get_template("a.html").render() == "Hello"
                bucket = jinja2.bccache.Bucket(environment, "key", "checksum")
                bucket.code = environment.compile("by hand")
                cache.set_bucket(bucket)
                cache.load_bytecode(bucket)
                assert bucket.code
            print(json.dumps([
                [cache.statistics.stores, cache.statistics.misses] for cache in caches
            ]))
            """,
            backend.url,
            memcached.address,
            tmp_path / "directory",
            DJANGO_JINJA_BCCACHE=switch,
        )
        assert finished.result == [[0, 0] if switch == "off" else [2, 1]] * 3
        assert bool(raw_store(backend, request).keys()) == (switch == "on")
        assert (tmp_path / "directory").exists() == (switch == "on")


def test_the_switch_read_only_has_pages_store_nothing_while_a_warm_does(file_site):
    switch = {"DJANGO_JINJA_BCCACHE": "read-only"}
    assert file_site.visit("home.html", **switch).stores == 0
    assert file_site.visit("home.html").hits == 0
    assert file_site.manage("warm_bytecode", **switch).returncode == 0
    visit = file_site.visit("home.html", **switch)
    assert (visit.compiled, visit.hits) == ([], 2)


def test_a_switch_that_is_mistyped_is_refused_at_start_up(file_site):
    done = file_site.manage("check", DJANGO_JINJA_BCCACHE="of")
    assert done.returncode == 1
    assert "DJANGO_JINJA_BCCACHE in the process environment: 'of' is not accepted" in done.stderr
    assert "'off', 'read-only'" in done.stderr


def test_where_all_is_switched_off_a_warm_stores_nothing_and_a_preload_says_what_it_compiled(
    file_site,
):
    switch = {"DJANGO_JINJA_BCCACHE": "off"}
    done = file_site.manage("warm_bytecode", **switch)
    assert done.stdout == "jinja2: switched off in the process environment\n"
    assert "stored      0" in file_site.manage("inspect_bytecode").stdout
    done = file_site.python(
        "-c",
        "import django, json; django.setup(); from django_jinja_bccache import preload; "
        "print(json.dumps([report.compiled for report in preload()]))",
        **switch,
    )
    assert done.result == [4]


def test_a_site_starts_with_its_store_and_without_what_commands_and_other_stores_need(file_site):
    done = file_site.python(
        "-c",
        "import django, json, sys; django.setup(); "
        "print(json.dumps([name for name in sys.modules if name.startswith('django_jinja_b')]))",
    )
    package = "django_jinja_bccache"
    unneeded = {"archive", "bridge.memcached", "bridge.redis", "discovery", "stores.sqlite"}
    assert f"{package}.stores.filesystem" in done.result
    assert not {f"{package}.{name}" for name in unneeded} & set(done.result)
